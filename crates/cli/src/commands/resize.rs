//! `transload resize`: changes a disk's virtual size.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::{BlockRead, Error, ErrorKind, Result};
use transload::image::{Access, OpenSettings, ResizeRequest, open};
use transload::volume::{Contents, ReadSettings, Table};

use crate::args::{self, ReadArgs};
use crate::failure::Verdict;
use crate::input;
use crate::text;

/// Change the virtual size of an image
///
/// New bytes read as zeroes. Partitions and filesystems inside stay as they are: enlarge them from the guest. The second copy
/// of a GPT belongs to the end of the disk: --fix-gpt moves it there.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload resize disk.qcow2 40G\n  transload resize --fix-gpt disk.qcow2 +10G\n  transload resize --shrink disk.raw 5G"
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
    /// Move the second copy of the disk's GPT to its new end
    #[arg(long)]
    fix_gpt: bool,
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
    /// Whether the second copy of a GPT was moved.
    fixed_gpt: bool,
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
    let chain = OpenSettings { chain: true, ..alone.clone() };
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
    if arguments.fix_gpt {
        // Before anything is cut off: a table that would not fit is no reason to have done half of the work.
        let device = open(prepared.source.clone(), &chain)?.device;
        gpt(device.as_ref(), new_size).map_err(|error| error.context(&name))?;
    }
    resize(ResizeRequest { source: prepared.source, gate, size: new_size, shrink: arguments.shrink })?;
    let fixed_gpt = arguments.fix_gpt;
    if fixed_gpt {
        fix_gpt(arguments).map_err(|error| error.context(&name))?;
    }
    if arguments.json {
        text::json(&Document { image: name, format: format.name, old_size, new_size, fixed_gpt })?;
    } else {
        let moved = if fixed_gpt { "; the second copy of the GPT stands at the new end" } else { "" };
        let (old, new) = (text::exact_size(old_size), text::exact_size(new_size));
        eprintln!("transload: {name}: from {old} to {new}{moved}");
    }
    Ok(Verdict::Done)
}

/// The GPT of the disk, made to fit one of `size` bytes.
fn gpt(device: &dyn BlockRead, size: u64) -> Result<Table> {
    match Contents::read(device, ReadSettings::default())? {
        Contents::Table(mut table @ Table::Gpt(_)) => {
            table.fit(size)?;
            Ok(table)
        }
        _ => Err(Error::new(ErrorKind::InvalidInput, "--fix-gpt: the disk has no GPT")),
    }
}

/// Moves the second copy of the GPT to the end of the disk, which has its new size.
fn fix_gpt(arguments: &Arguments) -> Result<()> {
    let opened = input::prepare(&arguments.image, &arguments.read, Access::ReadWrite)?.open()?;
    let (Some(disk), Some(top)) = (opened.writer(), opened.layers.first().and_then(|layer| layer.writer.clone()))
    else {
        return Err(Error::new(ErrorKind::Unsupported, "this kind of image cannot be written in place"));
    };
    let reader: &dyn BlockRead = disk.as_ref();
    gpt(reader, disk.size())?.write(disk.as_ref())?;
    top.finish()
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
