//! `transload archive info`: how much is in an archive, and what disks a snapshot has.

use clap::Args;
use serde::Serialize;
use transload::archive::{Sidecar, Totals};
use transload::block::Result;

use super::address::{self, Address};
use super::open::ArchiveArgs;
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::volumes::listing::printable;

/// Tell how much is in an archive, and what disks a snapshot has
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive info /srv/archive\n  transload archive info --json /srv/archive latest"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// A snapshot, whose disks are shown as well
    #[arg(value_name = "SNAPSHOT", value_parser = address::parser())]
    snapshot: Option<Address>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    archive: String,
    id: String,
    version: u32,
    snapshots: u64,
    chunks: u64,
    folders: u64,
    packs: u64,
    stored: u64,
    unpacked: u64,
    disks: Vec<Sidecar>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let repository = arguments.archive.open()?;
    let Totals { chunks, trees, packs, stored, unpacked } = repository.totals();
    let mut disks = Vec::new();
    if let Some(address) = &arguments.snapshot {
        let files = repository.files(&repository.find_snapshot(&address.snapshot)?)?;
        for name in Sidecar::disks(&*files)? {
            disks.push(Sidecar::read(&*files, &name)?);
        }
    }
    let document = Document {
        archive: arguments.archive.archive.display().to_string(),
        id: repository.id().to_string(),
        version: repository.version(),
        snapshots: repository.snapshots()?.len() as u64,
        chunks,
        folders: trees,
        packs,
        stored,
        unpacked,
        disks,
    };
    if arguments.json {
        text::json(&document)?;
        return Ok(Verdict::Done);
    }
    let mut text = Text::new();
    text.field("archive", &document.archive)?;
    text.field("format", format_args!("restic, version {}", document.version))?;
    text.field("id", &document.id)?;
    text.field("snapshots", document.snapshots)?;
    text.field("chunks", format_args!("{chunks} of files, {trees} of folders, in {packs} packs"))?;
    text.field("stored", format_args!("{} for {}", text::exact_size(stored), text::exact_size(unpacked)))?;
    for disk in &document.disks {
        print(&mut text, disk)?;
    }
    text.finish()?;
    Ok(Verdict::Done)
}

fn print(text: &mut Text, disk: &Sidecar) -> Result<()> {
    text.line("")?;
    text.field("disk", printable(&disk.name))?;
    text.field("  image", format_args!("{} ({})", printable(&disk.origin), printable(&disk.format)))?;
    text.field("  size", text::exact_size(disk.size))?;
    if let Some(table) = &disk.table {
        text.field(
            "  table",
            format_args!("{}, {}", table.to_uppercase(), disk.disk_id.as_deref().unwrap_or("no id")),
        )?;
    }
    for system in &disk.systems {
        text.field("  system", printable(system))?;
    }
    for volume in &disk.volumes {
        let label = volume.label.as_deref().map(|label| format!(" \"{}\"", printable(label))).unwrap_or_default();
        let uuid = volume.uuid.as_deref().map(|uuid| format!(" {}", printable(uuid))).unwrap_or_default();
        let kind = volume.filesystem.as_deref().unwrap_or("nothing known");
        let (name, size) = (printable(&volume.name), text::size(volume.length));
        text.line(format_args!("  volume {name}: {size}, {kind}{label}{uuid}"))?;
    }
    Ok(())
}
