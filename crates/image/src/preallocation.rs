//! Room that is set aside for the guest's bytes before they come: the option of every layout in which each byte of the
//! disk has its place from the start.

use transload_block::{ErrorKind, Result, Storage};

use crate::{OptionKind, OptionSpec, OptionValues};

/// The option's name, as qemu-img has it.
const NAME: &str = "preallocation";

/// The option of a layout that is all flat.
pub(crate) const OPTION: OptionSpec = OptionSpec {
    name: NAME,
    kind: OptionKind::Choice(&["off", "falloc", "full"]),
    default: "off",
    help: "sparse (off), with its room set aside (falloc), or written with zeroes (full)",
};

/// How much of a new file is made before the first byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preallocation {
    /// Its length alone.
    Off,
    /// Its room too.
    Falloc,
    /// Zeroes in all of it.
    Full,
}

impl Preallocation {
    /// What the option says.
    pub(crate) fn of(options: &OptionValues) -> Self {
        match options.text(NAME) {
            Some("falloc") => Self::Falloc,
            Some("full") => Self::Full,
            _ => Self::Off,
        }
    }

    /// Sets the first `size` bytes of a new file aside, which is that long. With `Full` they are written with zeroes.
    ///
    /// # Errors
    /// `NoSpace` when the file system is too small; `Unsupported` when it cannot set room aside and need not be written.
    pub(crate) fn set_aside(self, storage: &dyn Storage, size: u64) -> Result<()> {
        if self == Self::Off || size == 0 {
            return Ok(());
        }
        match storage.allocate(0..size) {
            // Writing everything sets the room aside as well, though the file may lie less well.
            Err(error) if self == Self::Full && error.kind() == ErrorKind::Unsupported => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Err(error.with_remedy("use preallocation=full, which writes zeroes"));
            }
            allocated => allocated?,
        }
        if self == Self::Full { write_zeroes(storage, size) } else { Ok(()) }
    }
}

/// Writes zeroes as bytes: a request for zeroes could be met with a hole, and room that was promised would not be there.
pub(crate) fn write_zeroes(storage: &dyn Storage, size: u64) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let zeroes = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        storage.write_at(&zeroes[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
