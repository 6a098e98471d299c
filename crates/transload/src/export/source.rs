//! The machine that is to be exported: its description, read from whatever holds it, and its disks, opened.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use transload_appliance::{Disk, Machine, Notes, libvirt, ovf, vmx};
use transload_block::{BlockRead, Error, ErrorKind, Result};
use transload_image::{Access, Format, OpenSettings, Opened, ReferenceGate, Source};
use transload_remote::Options;

use crate::location::{self, Location};

/// How a machine and its disks are opened.
#[derive(Clone, Debug, Default)]
pub struct SourceSettings {
    /// Which files the description and the disks may pull in.
    pub gate: ReferenceGate,
    /// Read a machine that seems to be running.
    pub force: bool,
    /// Which of several machines in an OVF, by its id or its name; the only one when `None`.
    pub system: Option<String>,
    /// Bytes of memory that the disks' tables may be kept in, all together.
    pub cache_bytes: usize,
}

/// A machine with its disks.
#[derive(Debug)]
pub struct MachineSource {
    /// The machine.
    pub machine: Machine,
    /// The disks of [`Machine::disks`], in that order; `None` for one that is to be created empty.
    pub disks: Vec<Option<Opened>>,
    /// What holds the firmware's variables, where the machine names a file that is there.
    pub nvram: Option<PathBuf>,
    /// What of the description is not in the machine.
    pub notes: Notes,
    /// What its owner should know before anything is done.
    pub warnings: Vec<String>,
    /// Where the description is, for messages; `None` for a machine that has none.
    pub path: Option<PathBuf>,
}

impl MachineSource {
    /// Opens the machine that the file at `path` describes: a VMX, an OVF or a libvirt domain, told by its content.
    ///
    /// # Errors
    /// `NotThisFormat` for anything else; `Denied` for a machine that seems to be running, and for files that the gate
    /// does not allow; what the readers and the disks' drivers answer, with the file's name.
    pub fn open(path: &Path, settings: &SourceSettings) -> Result<Self> {
        let context = |error: Error| error.context(path.display());
        let text = read_bounded(path)?;
        let (machine, notes) = describe(&text, settings).map_err(context)?;
        if !settings.force {
            refuse_lock(path)?;
        }
        let mut source = Self { path: Some(path.to_owned()), notes, ..Self::of_machine(machine) };
        if let Some(name) = source.machine.nvram.clone() {
            let file = beside(path, &spelled_for_here(&name));
            source.nvram = file.filter(|file| file.is_file());
        }
        let referrer = Source::from_path(path, Access::ReadOnly)?;
        for disk in source.machine.disks.clone() {
            let opened = match &disk.file {
                Some(file) => Some(open_disk(&referrer, &disk, file, settings).map_err(context)?),
                None => None,
            };
            source.add(&disk, opened, settings)?;
        }
        Ok(source)
    }

    /// A machine that is described by the caller, with its disks in the files at `paths`, one for each of
    /// [`Machine::disks`], which the user named.
    ///
    /// # Errors
    /// `InvalidInput` when there are more or fewer paths than disks; `Denied` as [`open`](Self::open); what the disks'
    /// drivers answer.
    pub fn from_parts(
        machine: Machine,
        paths: &[(PathBuf, Option<&'static Format>)],
        settings: &SourceSettings,
    ) -> Result<Self> {
        if machine.disks.len() != paths.len() {
            let text = format!("{} disks are described and {} files given", machine.disks.len(), paths.len());
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let mut source = Self::of_machine(machine);
        for (disk, (path, format)) in source.machine.disks.clone().iter().zip(paths) {
            let open = OpenSettings { format: *format, ..disk_settings(settings, paths.len()) };
            let opened = location::open_image(&Location::of(path), &open, &Options::default())?;
            source.add(disk, Some(opened), settings)?;
        }
        Ok(source)
    }

    fn of_machine(machine: Machine) -> Self {
        Self { machine, disks: Vec::new(), nvram: None, notes: Notes::new(), warnings: Vec::new(), path: None }
    }

    /// Takes a disk in: what its layers say, and whether anybody has it open.
    fn add(&mut self, disk: &Disk, opened: Option<Opened>, settings: &SourceSettings) -> Result<()> {
        if let Some(opened) = &opened {
            let layers = opened.layers.len();
            if layers > 1 {
                self.warnings.push(format!(
                    "{}: {layers} layers are flattened: the export holds the current state and no snapshot",
                    disk.address
                ));
            }
            for layer in &opened.layers {
                let Some(path) = layer.source.path() else { continue };
                if !settings.force {
                    refuse_lock(path)?;
                }
                if layer.info.corrupt || layer.info.dirty {
                    self.warnings.push(format!("{}: was not closed properly", path.display()));
                }
                self.warnings.extend(layer.info.warnings.iter().map(|text| format!("{}: {text}", path.display())));
            }
        }
        self.disks.push(opened);
        Ok(())
    }
}

/// Reads a description, which is no longer than the longest of its readers takes.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let fail = |error| Error::io(path.display().to_string(), error);
    let file = fs::File::open(path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{}: is not a file", path.display())));
    }
    let mut text = Vec::new();
    let most = ovf::MAX_LENGTH as u64;
    file.take(most + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > most {
        let text = format!("{}: too long for the description of a machine", path.display());
        return Err(Error::new(ErrorKind::NotThisFormat, text)
            .with_remedy("name a .vmx, an .ovf or a libvirt .xml, or give disks with --disk"));
    }
    Ok(text)
}

/// Tells VMX, OVF and libvirt apart, and reads.
fn describe(text: &[u8], settings: &SourceSettings) -> Result<(Machine, Notes)> {
    let unknown = || {
        Error::new(ErrorKind::NotThisFormat, "is no VMX, no OVF and no libvirt domain")
            .with_remedy("name a .vmx, an .ovf or a libvirt .xml, or give disks with --disk")
    };
    let or_unknown = |error: Error| match error.kind() {
        ErrorKind::NotThisFormat | ErrorKind::TooLarge => unknown(),
        _ => error,
    };
    if !looks_like_xml(text) {
        let reading = vmx::read(text).map_err(or_unknown)?;
        return Ok((reading.value, reading.notes));
    }
    match ovf::read(text) {
        Err(error) if error.kind() == ErrorKind::NotThisFormat => {
            let reading = libvirt::read(text).map_err(or_unknown)?;
            Ok((reading.value, reading.notes))
        }
        package => choose_system(package?, settings.system.as_deref()),
    }
}

/// Whether a text begins as XML does, in UTF-8 or UTF-16.
fn looks_like_xml(text: &[u8]) -> bool {
    let utf8 = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let marks: [&[u8]; 2] = [&[0xff, 0xfe, b'<'], &[0xfe, 0xff, 0, b'<']];
    utf8.trim_ascii_start().starts_with(b"<") || marks.iter().any(|mark| text.starts_with(mark))
}

/// The one machine of a package, or the one that is asked for.
///
/// # Errors
/// `InvalidInput` when there is none of this name, or several and none is asked for.
pub(crate) fn choose_system(package: ovf::Package, wanted: Option<&str>) -> Result<(Machine, Notes)> {
    let named = |system: &ovf::System, name: &str| system.id == name || system.machine.name == name;
    let names: Vec<_> = package.systems.iter().map(|system| system.id.clone()).collect();
    let mut notes = package.notes;
    let mut found: Vec<_> =
        package.systems.into_iter().filter(|system| wanted.is_none_or(|name| named(system, name))).collect();
    if found.len() == 1 {
        let system = found.swap_remove(0);
        notes.append(system.notes);
        return Ok((system.machine, notes));
    }
    let text = match wanted {
        Some(name) if found.is_empty() => format!("there is no machine '{name}' in it"),
        _ if names.is_empty() => "there is no machine in it".to_owned(),
        _ => format!("there are {} machines in it", names.len()),
    };
    Err(Error::new(ErrorKind::InvalidInput, text)
        .with_remedy(format!("choose one with --system: {}", names.join(", "))))
}

/// Opens a disk that a description names.
fn open_disk(referrer: &Source, disk: &Disk, file: &str, settings: &SourceSettings) -> Result<Opened> {
    let part = |error: Error| error.context(disk.address);
    if disk.raw_device {
        let text = format!("{}: '{file}' is a disk of the host, which holds no data of its own", disk.address);
        return Err(Error::new(ErrorKind::Unsupported, text)
            .with_remedy("convert the device to an image, and export with --disk"));
    }
    let source = settings.gate.open(referrer, &spelled_for_here(file), Access::ReadOnly).map_err(part)?;
    let open = OpenSettings { ..disk_settings(settings, 1) };
    transload_image::open(source, &open).map_err(part)
}

fn disk_settings(settings: &SourceSettings, disks: usize) -> OpenSettings {
    let cache_bytes = match settings.cache_bytes {
        0 => OpenSettings::default().cache_bytes,
        bytes => bytes / disks.max(1),
    };
    OpenSettings { gate: settings.gate.clone(), cache_bytes, ..OpenSettings::default() }
}

/// A name as this system spells it: a VMX of Windows has backslashes, one of ESXi a datastore before the path, of which
/// the file itself is beside the VMX.
fn spelled_for_here(name: &str) -> String {
    if name.starts_with('[') && name.contains("] ") {
        return name.rsplit('/').next().unwrap_or(name).to_owned();
    }
    let windows = name.contains('\\') && !name.contains('/');
    match name.rsplit('\\').next() {
        // A drive's letter leads nowhere here: the file may have come along.
        Some(last) if windows && name.as_bytes().get(1) == Some(&b':') => last.to_owned(),
        _ if windows => name.replace('\\', "/"),
        _ => name.to_owned(),
    }
}

fn beside(path: &Path, name: &str) -> Option<PathBuf> {
    let folder = path.parent()?;
    let name = Path::new(name);
    // Only what stands beside the description: the file goes into a package for others.
    let plain = name.components().count() == 1 && name.file_name().is_some();
    plain.then(|| folder.join(name))
}

/// Refuses a file beside which a product of VMware has left its lock: a folder or file of the same name with `.lck`.
fn refuse_lock(path: &Path) -> Result<()> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lck");
    let lock = PathBuf::from(lock);
    // A folder without an entry is what a crash leaves after its lock was released.
    let held = match fs::read_dir(&lock) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => lock.exists(),
    };
    if held {
        let text = format!("{}: the machine seems to be running, as its lock is there", lock.display());
        return Err(Error::new(ErrorKind::Denied, text)
            .with_remedy("shut it down; if the lock is left over from a crash, use --force"));
    }
    Ok(())
}

/// The whole size of an opened disk.
pub(crate) fn size_of(opened: &Opened) -> u64 {
    BlockRead::size(&*opened.device)
}
