//! `transload resize`: changes a disk's virtual size.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::image::{Access, OpenSettings, ResizeRequest, open};

use crate::args::{self, ReadArgs};
use crate::failure::Verdict;
use crate::input;
use crate::text;

/// Change the virtual size of an image
///
/// New bytes read as zeroes. Partitions and filesystems inside stay as they are: enlarge them from the guest.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload resize disk.qcow2 40G\n  transload resize disk.qcow2 +10G\n  transload resize --shrink disk.raw 5G"
)]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    /// The new size, or with + or - in front the difference to the old one
    #[arg(value_name = "SIZE", value_parser = change, allow_hyphen_values = true)]
    size: Change,
    #[command(flatten)]
    read: ReadArgs,
    /// Allow a smaller size: what the disk holds behind it is lost
    #[arg(long)]
    shrink: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A new size as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    To(u64),
    Up(u64),
    Down(u64),
}

impl Change {
    fn apply(self, old: u64) -> Option<u64> {
        match self {
            Self::To(size) => Some(size),
            Self::Up(more) => old.checked_add(more),
            Self::Down(less) => old.checked_sub(less),
        }
    }
}

fn change(text: &str) -> Result<Change, String> {
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => args::size(more).map(Change::Up),
        (_, Some(less)) => args::size(less).map(Change::Down),
        _ => args::size(text).map(Change::To),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    image: String,
    format: &'static str,
    old_size: u64,
    new_size: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let name = arguments.image.display().to_string();
    let prepared = input::prepare(&arguments.image, &arguments.read, Access::ReadWrite)?;
    let format = prepared.format;
    let resize = format.resize.ok_or_else(|| {
        let title = format.title;
        Error::new(ErrorKind::Unsupported, format!("{name}: the size of a {title} image cannot be changed"))
            .with_remedy("convert it to raw or qcow2 and resize that")
    })?;
    let alone = OpenSettings { access: Access::ReadOnly, chain: false, ..prepared.settings.clone() };
    let old_size = open(prepared.source.clone(), &alone)?.device.size();
    let new_size = arguments.size.apply(old_size).ok_or_else(|| {
        let size = text::exact_size(old_size);
        Error::new(ErrorKind::InvalidInput, format!("{name}: the disk has {size}, and the new size would be none"))
    })?;
    if new_size < old_size && !arguments.shrink {
        let (old, new) = (text::exact_size(old_size), text::exact_size(new_size));
        return Err(Error::new(
            ErrorKind::Denied,
            format!("{name}: from {old} to {new} would cut off what stands behind"),
        )
        .with_remedy("give --shrink if that may be lost"));
    }
    let gate = &prepared.settings.gate;
    resize(ResizeRequest { source: prepared.source, gate, size: new_size, shrink: arguments.shrink })?;
    if arguments.json {
        text::json(&Document { image: name, format: format.name, old_size, new_size })?;
    } else {
        eprintln!("transload: {name}: from {} to {}", text::exact_size(old_size), text::exact_size(new_size));
    }
    Ok(Verdict::Done)
}

#[cfg(test)]
mod tests {
    use super::{Change, change};

    #[test]
    fn sizes_are_absolute_or_relative() {
        assert_eq!(change("4k"), Ok(Change::To(4096)));
        assert_eq!(change("+1M"), Ok(Change::Up(1 << 20)));
        assert_eq!(change("-512"), Ok(Change::Down(512)));
        assert!(change("+-5").is_err());
        assert!(change("").is_err());
    }

    #[test]
    fn differences_stay_inside_64_bits() {
        assert_eq!(Change::Up(1).apply(u64::MAX), None);
        assert_eq!(Change::Down(2).apply(1), None);
        assert_eq!(Change::Down(1).apply(1), Some(0));
    }
}
