//! What is on a disk, as far as its files tell: operating systems with their versions and kernels, boot loaders, encrypted
//! volumes, and which volumes a system mounts where.
//!
//! ```text
//! Volumes ──► inspect() ──► Inspection { filesystems, systems, boot_loaders, encrypted, notes }
//! ```
//!
//! Nothing is run and nothing is decrypted: files are read, a few kilobytes each, at the places where systems have them. What
//! cannot be read is a note and no failure, for an image with one broken filesystem still tells of the others.

mod boot;
mod fields;
mod files;
mod fstab;
mod linux;
mod pe;
#[doc(hidden)]
pub mod properties;
mod resolve;
mod windows;

use std::sync::Arc;

use serde::Serialize;
use transload_block::{BlockRead, Result};
use transload_filesystem::{self as filesystem, FileSystem};
use transload_volume::{Usage, Volumes};

use files::Files;
pub use resolve::{Mount, MountState};

/// What was found on a disk.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// The operating systems, in the order of their volumes.
    pub systems: Vec<System>,
    /// What starts them.
    pub boot_loaders: Vec<BootLoader>,
    /// The volumes that only a key opens.
    pub encrypted: Vec<Encrypted>,
    /// The filesystems whose files cannot be read, and why.
    pub unreadable: Vec<Unreadable>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// The kinds of system that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A distribution of Linux.
    Linux,
    /// Microsoft Windows.
    Windows,
}

/// An operating system.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// The volume that its root is on.
    pub volume: String,
    /// The folder on it that is its root; `/` unless it is a subvolume or a deployment.
    pub root: String,
    /// Which kind.
    pub family: Family,
    /// The name for people: `Debian GNU/Linux 12 (bookworm)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The short name of a distribution: `debian`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The version: `12`, `10.0.19045.3803`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The processor that its programs are for: `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The versions of its kernels, from their modules and from the files that are started.
    pub kernels: Vec<String>,
    /// The files of its registry.
    pub registry: Vec<String>,
    /// What it mounts, in the order of its `fstab`.
    pub mounts: Vec<Mount>,
}

/// Something that starts a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootLoader {
    /// Which one: `GRUB`, `systemd-boot`, `Windows Boot Manager`.
    pub name: String,
    /// `bios` or `uefi`; nothing where the file does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<&'static str>,
    /// The volume that it was found on, `whole` for the disk's first sector.
    pub volume: String,
    /// The file that it was told by, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A volume that only a key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Encrypted {
    /// The volume.
    pub volume: String,
    /// By what: `crypto_LUKS`, `BitLocker`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of which version, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// Its label, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its UUID, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// A filesystem whose files cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unreadable {
    /// The volume.
    pub volume: String,
    /// What it holds, as `blkid` calls it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Why.
    pub reason: String,
}

/// A filesystem that was opened, with the name of its volume.
pub(crate) struct Opened {
    pub(crate) volume: String,
    pub(crate) is_btrfs: bool,
    pub(crate) filesystem: Arc<dyn FileSystem>,
}

/// Looks at all volumes of a disk. `disk` is the disk itself, whose first sector may start a system.
///
/// # Errors
/// What the device answers to reading its first sector. What is wrong with a volume is part of the answer.
pub fn inspect(disk: &dyn BlockRead, volumes: &Volumes) -> Result<Inspection> {
    let mut found = Inspection::default();
    found.boot_loaders.extend(boot::first_sector(disk)?);
    let opened = open_all(volumes, &mut found);
    let index = resolve::Index::new(volumes);
    for place in &opened {
        let files = Files::new(place.filesystem.as_ref(), &place.volume);
        found.boot_loaders.extend(boot::loaders(&files));
        let mut systems = linux::systems(&files, place.is_btrfs, &index);
        systems.extend(windows::system(&files));
        found.systems.append(&mut systems);
        found.notes.extend(files.into_notes());
    }
    for system in &mut found.systems {
        linux::add_kernels_of_boot(system, &opened, &mut found.notes);
    }
    Ok(found)
}

/// Opens every filesystem there is, and notes what is encrypted or cannot be opened.
fn open_all(volumes: &Volumes, found: &mut Inspection) -> Vec<Opened> {
    let mut opened = Vec::new();
    for volume in volumes.iter() {
        let name = volume.name.to_string();
        let signature = match volume.signature() {
            Ok(Some(signature)) => signature,
            Ok(None) => continue,
            Err(error) => {
                found.notes.push(format!("volume {name}: {error}"));
                continue;
            }
        };
        let kind = signature.format.name();
        match signature.format.usage() {
            Usage::Encrypted => {
                let version = signature.format.variant();
                let (label, uuid) = (signature.label, signature.uuid);
                found.encrypted.push(Encrypted { volume: name, kind, version, label, uuid });
            }
            Usage::Filesystem => match volume.device().and_then(filesystem::open) {
                Ok(filesystem) => {
                    let notes = &filesystem.info().notes;
                    found.notes.extend(notes.iter().map(|note| format!("volume {name}: {note}")));
                    let is_btrfs = kind == "btrfs";
                    opened.push(Opened { volume: name, is_btrfs, filesystem });
                }
                Err(error) => found.unreadable.push(Unreadable { volume: name, kind, reason: error.to_string() }),
            },
            Usage::Member | Usage::Swap => {}
        }
    }
    opened
}
