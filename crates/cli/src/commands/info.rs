//! `transload info`: what an image says of itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::image::{Access, ImageInfo, OpenSettings, ReferenceGate, Source, open};

use super::machine_info;
use crate::args::ReadArgs;
use crate::failure::Verdict;
use crate::input::{self, Prepared};
use crate::text::{self, Text};

/// Tell what an image or a machine is: format, sizes, backing files, snapshots, state; processors, memory, disks, networks
///
/// Opens no other file than the one that is named, unless --chain asks for the layers below. Of a machine (a .vmx, an .ovf,
/// an .ova, or a libvirt domain) it also says what its description leaves open or cannot be taken elsewhere.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload info disk.vmdk\n  transload info --json --chain overlay.qcow2\n  transload info vm.ova"
)]
pub(crate) struct Arguments {
    /// The image, or the description of a machine
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Tell of the layers below as well
    #[arg(long)]
    chain: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    image: String,
    layers: Vec<LayerDocument>,
}

#[derive(Serialize)]
struct LayerDocument {
    file: String,
    #[serde(flatten)]
    info: ImageInfo,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if arguments.read.format.is_none() && !arguments.chain {
        let source = input::bytes(&arguments.image, Access::ReadOnly)?;
        if let Some(description) = transload::describe::describe(&source)? {
            let print = if arguments.json { machine_info::json } else { machine_info::print };
            print(&arguments.image, &description)?;
            return Ok(Verdict::Done);
        }
    }
    let prepared = input::prepare(&arguments.image, &arguments.read, Access::ReadOnly)?;
    let layers = if arguments.chain { chain(prepared)? } else { vec![describe(prepared)?] };
    if arguments.json {
        text::json(&Document { image: arguments.image.display().to_string(), layers })?;
    } else {
        let mut text = Text::new();
        for (depth, layer) in layers.iter().enumerate() {
            if depth > 0 {
                text.line("")?;
            }
            print(&mut text, layer)?;
        }
        text.finish()?;
    }
    Ok(Verdict::Done)
}

/// Every layer, the top one first.
fn chain(prepared: Prepared) -> Result<Vec<LayerDocument>> {
    let layers = prepared.open()?.layers;
    Ok(layers.into_iter().map(|layer| document(&layer.source, layer.info)).collect())
}

/// The top layer, from its own file alone.
fn describe(prepared: Prepared) -> Result<LayerDocument> {
    let (source, format) = (prepared.source, prepared.format);
    let info = match (format.describe, format.open) {
        (Some(describe), _) => describe(&source)?,
        (None, Some(_)) => {
            let alone = OpenSettings { chain: false, gate: ReferenceGate::Deny, ..prepared.settings };
            open(source.clone(), &alone)?.layers.swap_remove(0).info
        }
        (None, None) => {
            let text = format!("{}: {} is recognised, but cannot be read", source.display_name(), format.title);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    };
    Ok(document(&source, info))
}

/// Joins what the image says with what the operating system says of its file.
fn document(source: &Source, mut info: ImageInfo) -> LayerDocument {
    if let Some(metadata) = source.path().and_then(|path| fs::metadata(path).ok()).filter(fs::Metadata::is_file) {
        info.file_size.get_or_insert(metadata.len());
        // The unit of this count is 512 bytes whatever the filesystem's own is.
        info.allocated_size.get_or_insert(metadata.blocks() * 512);
    }
    LayerDocument { file: source.display_name(), info }
}

fn print(text: &mut Text, layer: &LayerDocument) -> Result<()> {
    let info = &layer.info;
    text.field("image", &layer.file)?;
    match &info.variant {
        Some(variant) => text.field("format", format_args!("{} ({variant})", info.format))?,
        None => text.field("format", &info.format)?,
    }
    text.field("virtual size", text::exact_size(info.virtual_size))?;
    let sizes =
        [("file size", info.file_size), ("allocated size", info.allocated_size), ("cluster size", info.cluster_size)];
    for (name, size) in sizes {
        if let Some(size) = size {
            text.field(name, text::exact_size(size))?;
        }
    }
    let texts = [
        ("compression", &info.compression),
        ("encryption", &info.encryption),
        ("backing file", &info.backing_file),
        ("backing format", &info.backing_format),
        ("data file", &info.data_file),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            text.field(name, value)?;
        }
    }
    if info.dirty {
        text.field("state", "dirty: it was not closed properly")?;
    }
    if info.corrupt {
        text.field("state", "marked as corrupt")?;
    }
    for (name, value) in &info.details {
        text.field(name, value)?;
    }
    print_lists(text, info)
}

fn print_lists(text: &mut Text, info: &ImageInfo) -> Result<()> {
    if !info.extents.is_empty() {
        text.line("extents:")?;
        for extent in &info.extents {
            let file = extent.file.as_deref().unwrap_or("-");
            text.line(format_args!("  {} {} {file}", extent.kind, text::size(extent.size)))?;
        }
    }
    if !info.snapshots.is_empty() {
        text.line("snapshots:")?;
        for snapshot in &info.snapshots {
            let (id, name, taken) = (&snapshot.id, &snapshot.name, timestamp(snapshot.date_seconds));
            let (disk, memory) = (text::size(snapshot.virtual_size), text::size(snapshot.vm_state_size));
            text.line(format_args!("  {id} '{name}' of {taken}, disk {disk}, machine state {memory}"))?;
        }
    }
    if !info.bitmaps.is_empty() {
        text.line("bitmaps:")?;
        for bitmap in &info.bitmaps {
            let (name, granularity, flags) = (&bitmap.name, text::size(bitmap.granularity), bitmap.flags.join(", "));
            text.line(format_args!("  '{name}', one bit for {granularity} [{flags}]"))?;
        }
    }
    for warning in &info.warnings {
        text.field("warning", warning)?;
    }
    Ok(())
}

/// Seconds since 1970 as a date and time in UTC, by the proleptic Gregorian calendar.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is a year's last; 719 468 days lie between then and 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamps_follow_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_210_096, "2024-02-29 12:34:56 UTC"),
            (4_102_444_800, "2100-01-01 00:00:00 UTC"),
        ];
        for (seconds, text) in cases {
            assert_eq!(timestamp(seconds), text, "{seconds}");
        }
    }
}
