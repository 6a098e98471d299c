//! A property that must hold for any bytes: what a fuzz target and a test both call.

/// A property of any bytes. Crates that read what others wrote list theirs, so that one list of fuzz targets, their seeds and
/// a test that runs every property over every seed come from it.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Panics when it does not hold.
    pub holds: fn(&[u8]),
    /// Small inputs that reach far, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}
