//! Formats that are recognised and named, and not read: whoever has such a file is told what it is, instead of being
//! given its container's bytes as a raw disk.
//!
//! A row here has a name and a probe and no ability. What its users can do instead is said by [`advice`].

pub(crate) mod compressed;
pub(crate) mod dmg;
pub(crate) mod iso;
pub(crate) mod luks;
pub(crate) mod ova;

#[cfg(test)]
mod tests;

use crate::{Format, Match, ProbeWindow};

/// A row without abilities.
const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    extensions: &'static [&'static str],
    probe: fn(&ProbeWindow<'_>) -> Match,
) -> Format {
    Format {
        name,
        aliases,
        title,
        extensions,
        variants: &[],
        open_options: &[],
        create_options: &[],
        probe,
        describe: None,
        open: None,
        stream: None,
        create: None,
        sink: None,
        measure: None,
        check: None,
        resize: None,
    }
}

/// What a person with a file of `format` can do, where there is something to do.
pub(crate) fn advice(format: &Format) -> Option<&'static str> {
    match format.name {
        "gzip" | "bzip2" | "xz" | "zstd" => Some("decompress it first"),
        "ova" => Some("unpack it with tar and give one of the disks in it"),
        "iso" | "luks" => Some("to take its bytes as they are, name the format with -f raw"),
        _ => None,
    }
}

/// `Yes` when it holds, `No` when not.
fn when(condition: bool) -> Match {
    if condition { Match::Yes } else { Match::No }
}
