//! `transload partitions`: lists the volumes of an image, and edits its partition table.

mod edit;
mod spec;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::block::Result;
use transload::volume::Scheme;

use crate::args::{self, ReadArgs};
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::volumes::document::DiskDocument;
use crate::volumes::{self, VolumeArgs, listing};

use spec::Spec;

/// List partitions and logical volumes, or edit the table
///
/// Deletes come first, then --set, then --add, each in the order in which they are given. The image is written in place.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    /// Make a new, empty table, of sectors of 512 bytes unless --sector-size says otherwise
    #[arg(long, value_name = "TABLE", value_enum, help_heading = "Editing")]
    init: Option<TableKind>,
    /// Add a partition: size=SIZE or rest, and type=TYPE, name=NAME, guid=GUID, start=OFFSET, number=N, attributes=NUMBER,
    /// active, logical; may be given several times
    #[arg(long, value_name = "K=V,…", value_parser = spec::parse, help_heading = "Editing")]
    add: Vec<Spec>,
    /// Delete partition N; may be given several times
    #[arg(long, value_name = "N", help_heading = "Editing")]
    delete: Vec<u32>,
    /// Change partition N: type=TYPE, name=NAME, guid=GUID, attributes=NUMBER, active[=no]; may be given several times
    #[arg(long, value_name = "N,K=V,…", value_parser = spec::parse, help_heading = "Editing")]
    set: Vec<Spec>,
    /// Begin partitions at multiples of SIZE
    #[arg(long, value_name = "SIZE", value_parser = args::size, default_value = "1M", help_heading = "Editing")]
    align: u64,
    /// Derive identifiers from TEXT instead of the image's name and size, or the table's own identifier
    #[arg(long, value_name = "TEXT", help_heading = "Editing")]
    pub(crate) seed: Option<String>,
    /// Make a new table though the disk holds something
    #[arg(long, requires = "init", help_heading = "Editing")]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  transload partitions disk.qcow2
  transload partitions disk.raw --init gpt --add size=512M,type=esp,name=EFI --add rest,type=linux
  transload partitions disk.raw --delete 3 --set 1,name=boot,active
  transload partitions --with-disk second.raw first.raw

Types: linux, swap, lvm, raid, esp, bios, xbootldr, windows, msr, recovery, home, var, root-x86-64, root-arm64; of an MBR
also extended, fat16, fat32; or the type's own code: two hexadecimal digits in an MBR, a GUID in a GPT.";

/// The tables that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TableKind {
    /// GUID partition table
    Gpt,
    /// Master boot record
    Mbr,
}

impl From<TableKind> for Scheme {
    fn from(kind: TableKind) -> Self {
        match kind {
            TableKind::Gpt => Self::Gpt,
            TableKind::Mbr => Self::Mbr,
        }
    }
}

#[derive(Serialize)]
struct Document {
    image: String,
    #[serde(flatten)]
    disk: DiskDocument,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if arguments.is_edit() {
        edit::run(arguments)?;
    }
    let (device, found) = volumes::scan(&arguments.image, &arguments.read, &arguments.volumes)?;
    let image = arguments.image.display().to_string();
    let disk = DiskDocument::new(device.size(), &found)?;
    let verdict = if disk.is_damaged() { Verdict::Corrupt } else { Verdict::Done };
    if arguments.json {
        text::json(&Document { image, disk })?;
    } else {
        let mut text = Text::new();
        listing::print(&mut text, &image, &disk)?;
        text.finish()?;
    }
    Ok(verdict)
}

/// Makes the changes that the arguments ask for, and says nothing.
pub(crate) fn change(arguments: &Arguments) -> Result<()> {
    edit::run(arguments)
}

impl Arguments {
    fn is_edit(&self) -> bool {
        self.init.is_some() || !self.add.is_empty() || !self.delete.is_empty() || !self.set.is_empty()
    }
}
