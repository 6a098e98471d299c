//! `transload inspect`: what is on a disk.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use transload::block::Result;
use transload::inspect::{self, Family, Inspection, MountState, System};

use crate::args::ReadArgs;
use crate::failure::Verdict;
use crate::text::{self, Text};
use crate::volumes::document::DiskDocument;
use crate::volumes::listing::printable;
use crate::volumes::{self, VolumeArgs, listing};

/// Tell what is on a disk: partitions, filesystems, operating systems
///
/// Boot loaders, kernels, encrypted volumes and mounts as well. Nothing is run, mounted or written. A filesystem that cannot be read is told of, and the others are looked at.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload inspect disk.vmdk\n  transload inspect --json disk.qcow2\n  transload inspect --with-disk data.qcow2 root.qcow2"
)]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    image: String,
    #[serde(flatten)]
    disk: DiskDocument,
    #[serde(flatten)]
    found: Inspection,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let (device, volumes) = volumes::scan(&arguments.image, &arguments.read, &arguments.volumes)?;
    let image = arguments.image.display().to_string();
    let disk = DiskDocument::new(device.size(), &volumes)?;
    let found = inspect::inspect(device.as_ref(), &volumes).map_err(|error| error.context(&image))?;
    let verdict = if disk.is_damaged() { Verdict::Corrupt } else { Verdict::Done };
    if arguments.json {
        text::json(&Document { image, disk, found })?;
    } else {
        let mut text = Text::new();
        print(&mut text, &image, &disk, &found)?;
        text.finish()?;
    }
    Ok(verdict)
}

fn print(text: &mut Text, image: &str, disk: &DiskDocument, found: &Inspection) -> Result<()> {
    listing::print(text, image, disk)?;
    for system in &found.systems {
        text.line("")?;
        print_system(text, system)?;
    }
    if !found.boot_loaders.is_empty() {
        text.line("")?;
    }
    for loader in &found.boot_loaders {
        let firmware = loader.firmware.map_or(String::new(), |firmware| format!(" ({})", firmware.to_uppercase()));
        let place = match &loader.path {
            Some(path) => format!("#{}:{}", loader.volume, printable(path)),
            None => String::from("first sector"),
        };
        text.line(format_args!("boot loader: {}{firmware}, {place}", loader.name))?;
    }
    for volume in &found.encrypted {
        let version = volume.version.map_or(String::new(), |version| format!(" version {version}"));
        text.line(format_args!("encrypted: volume {}, {}{version}", volume.volume, volume.kind))?;
    }
    for volume in &found.unreadable {
        let reason = printable(&volume.reason);
        text.line(format_args!("not readable: volume {}, {}: {reason}", volume.volume, volume.kind))?;
    }
    for note in &found.notes {
        text.field("note", printable(note))?;
    }
    Ok(())
}

fn print_system(text: &mut Text, system: &System) -> Result<()> {
    let family = match system.family {
        Family::Linux => "Linux",
        Family::Windows => "Windows",
    };
    let name = system.name.as_deref().map_or_else(|| format!("{family} of an unknown version"), printable);
    text.field("system", name)?;
    let root = if system.root == "/" { String::new() } else { format!(", folder {}", printable(&system.root)) };
    text.field("  volume", format_args!("{}{root}", system.volume))?;
    let fields =
        [("  version", &system.version), ("  architecture", &system.architecture), ("  host name", &system.hostname)];
    for (name, value) in fields {
        if let Some(value) = value {
            text.field(name, printable(value))?;
        }
    }
    for (name, list) in [("  kernels", &system.kernels), ("  registry", &system.registry)] {
        if !list.is_empty() {
            text.field(name, printable(&list.join(", ")))?;
        }
    }
    for mount in &system.mounts {
        let (source, point) = (printable(&mount.source), printable(&mount.mount_point));
        let volume = mount.volume.as_deref().unwrap_or_default();
        let place = match mount.state {
            MountState::Resolved => format!("volume {volume}"),
            MountState::Locked => format!("volume {volume}, encrypted"),
            MountState::Virtual => continue,
            MountState::Unresolved => String::from("not on this disk"),
        };
        text.line(format_args!("  mounts {point}: {source} ({place})"))?;
    }
    Ok(())
}
