//! `transload mkfs`: a new filesystem in a partition of an image.

use clap::{Args, ValueEnum};
use serde::Serialize;
use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{ExtVersion, FatBits, MakeKind, MakeSettings, make, probe};
use transload::image::IdSource;

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::FileArgs;
use crate::files::session::Session;
use crate::text;

/// Make a filesystem in a partition of an image
///
/// The image is changed in place. Without --seed the identifiers follow from the image's name, the volume and its size.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload mkfs disk.qcow2#1 --type fat32 --label ESP\n  transload mkfs disk.qcow2#2 --type ext4 --label root"
)]
pub(crate) struct Arguments {
    /// The volume: IMG[#VOLUME]
    #[arg(value_name = "IMG[#VOLUME]", value_parser = address::parser())]
    pub(crate) address: Address,
    /// Which filesystem
    #[arg(short = 't', long = "type", value_name = "TYPE", value_enum)]
    kind: Type,
    /// The volume's label
    #[arg(short = 'L', long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Derive the identifiers from TEXT
    #[arg(long, value_name = "TEXT")]
    pub(crate) seed: Option<String>,
    /// Make it though the volume holds a filesystem
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    files: FileArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The filesystems that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    /// ext2
    Ext2,
    /// ext3
    Ext3,
    /// ext4
    Ext4,
    /// FAT, as wide as the volume's size asks for
    #[value(alias = "vfat")]
    Fat,
    /// FAT12
    Fat12,
    /// FAT16
    Fat16,
    /// FAT32
    Fat32,
}

impl From<Type> for MakeKind {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Ext2 => Self::Ext(ExtVersion::Ext2),
            Type::Ext3 => Self::Ext(ExtVersion::Ext3),
            Type::Ext4 => Self::Ext(ExtVersion::Ext4),
            Type::Fat => Self::Fat(None),
            Type::Fat12 => Self::Fat(Some(FatBits::Twelve)),
            Type::Fat16 => Self::Fat(Some(FatBits::Sixteen)),
            Type::Fat32 => Self::Fat(Some(FatBits::ThirtyTwo)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    volume: String,
    #[serde(rename = "type")]
    kind: String,
    label: String,
    uuid: Option<String>,
    size: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    Session::run(|session| run_in(arguments, session))?;
    Ok(Verdict::Done)
}

pub(crate) fn run_in(arguments: &Arguments, session: &mut Session) -> Result<()> {
    if arguments.address.path.is_some() {
        let text = format!("{}: a filesystem is made in a volume, not at a path", arguments.address);
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let (name, device, start) = session.empty_volume(&arguments.address, &arguments.files)?;
    let within = |error: Error| error.context(&name);
    if !arguments.force
        && let Some(kind) = probe(&*device).map_err(within)?
    {
        let text = format!("{name}: holds a filesystem ({})", kind.name());
        return Err(Error::new(ErrorKind::Denied, text).with_remedy("replace it with --force"));
    }
    let volume = arguments.address.volume.as_ref().map_or_else(|| "whole".to_owned(), ToString::to_string);
    let material = arguments.seed.clone().unwrap_or_else(|| {
        let image = arguments.address.image.file_name().unwrap_or_default().display();
        format!("mkfs {image} {}", device.size())
    });
    let ids = IdSource::from_material(format!("{material} {volume}").as_bytes());
    let now = transload::filesystem::Timestamp { nanos: 0, ..session.now };
    // FAT writes down where on the disk it begins; firmware of old machines boots from there.
    let hidden_sectors = u32::try_from(start / 512).unwrap_or(0);
    let settings = MakeSettings { label: arguments.label.clone(), uuid: ids.uuid("filesystem"), now, hidden_sectors };
    make(&device, arguments.kind.into(), &settings).map_err(within)?;
    if arguments.json {
        let made = transload::filesystem::open(device).map_err(within)?;
        let info = made.info();
        text::json(&Document {
            volume: name.clone(),
            kind: info.version.clone(),
            label: info.label.clone(),
            uuid: info.uuid.clone(),
            size: info.size,
        })?;
    }
    Ok(())
}
