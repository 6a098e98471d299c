//! What an export will do, decided and checked before the slow part begins.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use transload_appliance::ova::ManifestAlgorithm;
use transload_appliance::ovf::{self, FileEntry, FileUse, WriteSettings};
use transload_appliance::{Bus, Machine, Notes};
use transload_block::{Error, ErrorKind, Result};
use transload_convert::Cancel;
use transload_image::Opened;
use transload_image::codec::Level;

use super::estimate::{Estimate, estimate};
use super::names::portable_stem;
use super::pack::ExportTarget;
use super::source::{MachineSource, size_of};
use super::{ExportSettings, Nvram};

/// What a file of a package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExportedKind {
    /// The OVF descriptor.
    Descriptor,
    /// The manifest.
    Manifest,
    /// The manifest's signature and the signer's certificate.
    Certificate,
    /// A disk.
    Disk,
    /// The firmware's variables.
    Nvram,
}

/// A file of the package to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ExportedKind,
    /// Where its bytes come from, for disks and copied files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The disk's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// What it is expected to come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// What an export will do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportPlan {
    /// The machine's name.
    pub machine: String,
    /// The files of the package, in its order.
    pub files: Vec<PlannedFile>,
    /// How hard the disks are compressed.
    pub level: Level,
    /// The manifest's function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<&'static str>,
    /// Bytes that the package will have, about.
    pub estimated_size: u64,
    /// Bytes that are free where it goes, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_space: Option<u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What of the machine is not in the package, or is in it as something else.
    pub notes: Notes,
    #[serde(skip)]
    pub(super) content: Content,
}

/// What is packed.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) model: Machine,
    pub(super) stem: String,
    pub(super) disks: Vec<PackedDisk>,
    pub(super) nvram: Option<(String, Vec<u8>)>,
}

/// A disk that goes into the package.
#[derive(Debug)]
pub(super) struct PackedDisk {
    /// Its [`transload_appliance::Disk::id`].
    pub(super) id: String,
    pub(super) name: String,
    pub(super) bus: Bus,
    pub(super) opened: Opened,
}

/// What a disk's size is rounded up to: some importers count in nothing smaller.
pub(super) const CAPACITY_UNIT: u64 = 1 << 20;
/// The most bytes of a file with a firmware's variables; they are some hundred thousand.
const NVRAM_MAX: u64 = 16 << 20;

impl ExportPlan {
    /// Decides how to export `source` to `target`, and looks whether it can be done: that there are no two files of one
    /// name, that the target may be written and that the room will do, by a sample of the disks.
    ///
    /// # Errors
    /// `Denied` when the target exists and may not be replaced; `NoSpace` when it would not fit, by the sample;
    /// `InvalidInput` when the machine has no disk with data and nothing else to pack, or the settings contradict each
    /// other; what the disks answer.
    pub fn new(source: MachineSource, target: &ExportTarget, settings: &ExportSettings) -> Result<Self> {
        if settings.signer.is_some() && settings.manifest.is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "what is signed is the manifest, and there is to be none")
                .with_remedy("leave out --manifest none, or --sign"));
        }
        check_target(target, settings.force)?;
        let stem = target.stem()?.unwrap_or_else(|| portable_stem(&source.machine.name));
        let nvram = read_nvram(&source, settings.nvram, &stem)?;
        let (mut warnings, mut notes) = (source.warnings, source.notes);
        let (mut model, mut disks) = (source.machine, Vec::new());
        for (index, (disk, opened)) in model.disks.iter_mut().zip(source.disks).enumerate() {
            let Some(opened) = opened else { continue };
            let name = format!("{stem}-disk{}.vmdk", index + 1);
            disk.capacity = Some(size_of(&opened).next_multiple_of(CAPACITY_UNIT));
            disks.push(PackedDisk { id: disk.id.clone(), name, bus: disk.address.bus, opened });
        }
        if model.disks.is_empty() {
            warnings.push("the machine has no disk".to_owned());
        }
        // The package names the file, or none: never where it was on this host.
        model.nvram = nvram.as_ref().map(|(name, _)| name.clone());
        let content = Content { model, stem, disks, nvram };
        notes.append(content.write(&content.entries(&[]), settings)?.notes);
        let mut plan = Self {
            machine: content.model.name.clone(),
            files: planned(&content, settings, &settings.cancel)?,
            level: settings.level,
            manifest: settings.manifest.map(ManifestAlgorithm::name),
            estimated_size: 0,
            free_space: target.folder().and_then(free_space),
            warnings,
            notes,
            content,
        };
        plan.estimated_size = plan.estimate(settings)?;
        plan.check_room(target, settings.force)?;
        Ok(plan)
    }

    fn estimate(&self, settings: &ExportSettings) -> Result<u64> {
        let disks: u64 = self.files.iter().filter_map(|file| file.estimate).map(|estimate| estimate.packed).sum();
        let nvram = self.content.nvram.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let text = self.content.descriptor_length(settings)? as u64;
        // Headers, tables and padding.
        Ok(disks + nvram + text + 20 * 1024 * (1 + self.files.len() as u64))
    }

    fn check_room(&self, target: &ExportTarget, force: bool) -> Result<()> {
        let (Some(free), Some(folder)) = (self.free_space, target.folder()) else { return Ok(()) };
        // The sample may be off by some hundredths.
        if force || free >= self.estimated_size - self.estimated_size / 10 {
            return Ok(());
        }
        let text = format!(
            "{}: about {} bytes are needed for the package, and {free} are free",
            folder.display(),
            self.estimated_size
        );
        Err(Error::new(ErrorKind::NoSpace, text).with_remedy("make room, or try nevertheless with --force"))
    }
}

impl Content {
    /// The files that the descriptor lists, with what is known of them.
    pub(super) fn entries(&self, known: &[(u64, u64)]) -> Vec<FileEntry> {
        let mut entries = Vec::new();
        for (index, disk) in self.disks.iter().enumerate() {
            let known = known.get(index);
            entries.push(FileEntry {
                href: disk.name.clone(),
                size: known.map(|(size, _)| *size),
                purpose: FileUse::Disk {
                    id: disk.id.clone(),
                    capacity: size_of(&disk.opened).next_multiple_of(CAPACITY_UNIT),
                    populated: known.map(|(_, populated)| *populated),
                },
            });
        }
        if let Some((name, bytes)) = &self.nvram {
            let size = Some(bytes.len() as u64);
            entries.push(FileEntry { href: name.clone(), size, purpose: FileUse::Nvram });
        }
        entries
    }

    pub(super) fn write(
        &self,
        entries: &[FileEntry],
        settings: &ExportSettings,
    ) -> Result<transload_appliance::Written> {
        ovf::write(&self.model, entries, &write_settings(settings))
    }

    /// Bytes that are reserved for the descriptor.
    pub(super) fn descriptor_length(&self, settings: &ExportSettings) -> Result<usize> {
        ovf::widest(&self.model, &self.entries(&[]), &write_settings(settings))
    }

    /// Bytes of all disks together.
    pub(super) fn total(&self) -> u64 {
        self.disks.iter().map(|disk| size_of(&disk.opened)).sum()
    }
}

fn write_settings(settings: &ExportSettings) -> WriteSettings {
    let mut write = WriteSettings::default();
    write.hardware_version = settings.hardware_version;
    write
}

/// The package's files in its order: descriptor, manifest, certificate, and what the descriptor lists.
fn planned(content: &Content, settings: &ExportSettings, cancel: &Cancel) -> Result<Vec<PlannedFile>> {
    let stem = &content.stem;
    let plain = |ending: &str, kind| PlannedFile {
        name: format!("{stem}.{ending}"),
        kind,
        source: None,
        virtual_size: None,
        estimate: None,
    };
    let mut files = vec![plain("ovf", ExportedKind::Descriptor)];
    files.extend(settings.manifest.map(|_| plain("mf", ExportedKind::Manifest)));
    files.extend(settings.signer.as_ref().map(|_| plain("cert", ExportedKind::Certificate)));
    for disk in &content.disks {
        files.push(PlannedFile {
            name: disk.name.clone(),
            kind: ExportedKind::Disk,
            source: disk.opened.layers.first().map(|layer| layer.source.display_name()),
            virtual_size: Some(size_of(&disk.opened)),
            estimate: Some(estimate(&*disk.opened.device, settings.level, cancel)?),
        });
    }
    files.extend(content.nvram.as_ref().map(|_| plain("nvram", ExportedKind::Nvram)));
    Ok(files)
}

/// The file with the firmware's variables, if it goes along.
fn read_nvram(source: &MachineSource, wanted: Nvram, stem: &str) -> Result<Option<(String, Vec<u8>)>> {
    let path = match (wanted, &source.nvram) {
        (Nvram::Skip, _) => return Ok(None),
        (Nvram::Auto, Some(path)) if source.machine.firmware.is_efi() => path,
        (Nvram::Auto, _) => return Ok(None),
        (Nvram::Include, Some(path)) => path,
        (Nvram::Include, None) => {
            let name = source.machine.nvram.as_deref().unwrap_or("none");
            let text = format!("the file with the firmware's variables is not there ('{name}' is named)");
            return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("leave out --nvram include"));
        }
    };
    let length = fs::metadata(path).map_err(|error| Error::io(path.display().to_string(), error))?.len();
    if length > NVRAM_MAX {
        let text = format!("{}: {length} bytes, which is no firmware's variables", path.display());
        return Err(Error::new(ErrorKind::TooLarge, text).with_remedy("leave it out with --nvram skip"));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path.display().to_string(), error))?;
    Ok(Some((format!("{stem}.nvram"), bytes)))
}

fn check_target(target: &ExportTarget, force: bool) -> Result<()> {
    let Some(path) = target.path() else { return Ok(()) };
    if !force && fs::symlink_metadata(path).is_ok() {
        let text = format!("{}: exists", path.display());
        return Err(Error::new(ErrorKind::Denied, text).with_remedy("replace it with --force"));
    }
    let Some(folder) = target.folder() else { return Ok(()) };
    // A folder of its own is made; where it stands has to be there.
    let needed =
        if matches!(target, ExportTarget::Folder(_)) && !folder.exists() { folder_of(&folder) } else { folder };
    if needed.is_dir() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("{}: the folder does not exist", needed.display())))
}

/// Bytes that may be written to the file system of `folder`, where it says so.
pub(crate) fn free_space(folder: PathBuf) -> Option<u64> {
    let there = if folder.exists() { folder } else { folder_of(&folder) };
    let stat = rustix::fs::statvfs(&there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The folder of a path that may have none.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")).to_owned()
}

impl fmt::Display for ExportPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine   {}", self.machine)?;
        for file in &self.files {
            write!(f, "\nfile      {}", file.name)?;
            if let (Some(source), Some(size), Some(estimate)) = (&file.source, file.virtual_size, file.estimate) {
                write!(
                    f,
                    " from {source}, {size} bytes, {} of data, about {} compressed",
                    estimate.data, estimate.packed
                )?;
            }
        }
        write!(f, "\nlevel     {}", self.level)?;
        write!(f, "\nmanifest  {}", self.manifest.unwrap_or("none"))?;
        write!(f, "\nsize      about {} bytes", self.estimated_size)?;
        match self.free_space {
            Some(free) => write!(f, ", {free} are free"),
            None => Ok(()),
        }
    }
}
