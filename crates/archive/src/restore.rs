//! A disk from its archive: table, boot loaders and identifiers as they were, filesystems made anew with the files in them.

use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockWrite, Error, ErrorKind, Result, Slice};
use transload_filesystem::{
    self as filesystem, Attributes, Copier, CopySettings, Existing, ExtVersion, FatBits, FileSystem, FileSystemExt,
    Follow, MakeKind, MakeSettings, Timestamp,
};

use crate::sidecar::{Contents, Sidecar, VolumeEntry};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

/// What became of a disk.
#[derive(Clone, Debug, Default)]
pub struct Restoration {
    /// The volumes that are there again.
    pub volumes: Vec<String>,
    /// Those that are not, each with the reason.
    pub left_out: Vec<String>,
    /// What to know: files that a filesystem has no place for, boot loaders that look for theirs at fixed places.
    pub warnings: Vec<String>,
}

/// How a volume comes back.
enum Way {
    /// Byte by byte.
    Raw,
    /// A new filesystem with the files.
    Make(MakeKind),
    /// Its first bytes.
    Head,
    /// There was nothing in it.
    Nothing,
}

/// The volumes of a disk that cannot be rebuilt, each with the reason. Their files can be extracted.
#[must_use]
pub fn obstacles(sidecar: &Sidecar) -> Vec<String> {
    sidecar.volumes.iter().filter_map(|volume| way(volume).err()).collect()
}

fn way(volume: &VolumeEntry) -> std::result::Result<Way, String> {
    let name = &volume.name;
    if volume.offset.is_none() {
        return Err(format!("volume {name}: logical volumes are only read"));
    }
    match volume.contents {
        Contents::Raw | Contents::FilesAndRaw => return Ok(Way::Raw),
        Contents::Nothing => return Ok(Way::Nothing),
        Contents::Head if volume.filesystem.as_deref() == Some("LVM2_member") => {
            return Err(format!("volume {name}: a physical volume, of which the description alone is stored"));
        }
        Contents::Head => return Ok(Way::Head),
        Contents::Files => {}
    }
    Ok(Way::Make(match (volume.filesystem.as_deref(), volume.variant.as_deref()) {
        (Some("ext2"), _) => MakeKind::Ext(ExtVersion::Ext2),
        (Some("ext3"), _) => MakeKind::Ext(ExtVersion::Ext3),
        (Some("ext4"), _) => MakeKind::Ext(ExtVersion::Ext4),
        (Some("vfat"), Some("FAT12")) => MakeKind::Fat(Some(FatBits::Twelve)),
        (Some("vfat"), Some("FAT16")) => MakeKind::Fat(Some(FatBits::Sixteen)),
        (Some("vfat"), Some("FAT32")) => MakeKind::Fat(Some(FatBits::ThirtyTwo)),
        (other, _) => {
            let kind = other.unwrap_or("unknown");
            return Err(format!(
                "volume {name}: {kind} filesystems are not written, and it was not stored byte by byte"
            ));
        }
    }))
}

/// Rebuilds a disk on `target`, which has its size and reads as zeroes. `files` are those of the snapshot. What cannot be
/// rebuilt is left out and said; ask [`obstacles`] before.
///
/// # Errors
/// `InvalidInput` when the target is smaller; `Corrupt` when what is stored contradicts itself; what reading and writing
/// answer.
pub fn restore(
    files: &Arc<dyn FileSystem>,
    sidecar: &Sidecar,
    target: &Arc<dyn BlockWrite>,
    now: Timestamp,
) -> Result<Restoration> {
    if target.size() < sidecar.size {
        let text = format!("the disk has {} bytes, and the target {}", sidecar.size, target.size());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let mut done = Restoration::default();
    let disk = Disk { files, sidecar, target, now };
    for gap in &sidecar.gaps {
        let file = disk.open(&gap.file)?;
        if gap.offset.checked_add(file.size()).is_none_or(|end| end > sidecar.size) {
            let text = format!("{}: {} bytes at {} of a disk of {}", gap.file, file.size(), gap.offset, sidecar.size);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        copy(&*file, &**target, gap.offset)?;
    }
    for volume in &sidecar.volumes {
        let within = |error: Error| error.context(format_args!("{}#{}", sidecar.name, volume.name));
        match way(volume) {
            Err(reason) => done.left_out.push(reason),
            Ok(way) => {
                disk.volume(volume, &way, &mut done).map_err(within)?;
                if !matches!(way, Way::Nothing) {
                    done.volumes.push(volume.name.clone());
                }
            }
        }
    }
    target.flush()?;
    Ok(done)
}

struct Disk<'a> {
    files: &'a Arc<dyn FileSystem>,
    sidecar: &'a Sidecar,
    target: &'a Arc<dyn BlockWrite>,
    now: Timestamp,
}

impl Disk<'_> {
    fn open(&self, path: &str) -> Result<Arc<dyn BlockRead>> {
        let path = format!("/{}/{path}", self.sidecar.name);
        let found = self.files.resolve(path.as_bytes(), Follow::AllButLast).map_err(|error| error.context(&path))?;
        self.files.open(found.id).map_err(|error| error.context(&path))
    }

    fn volume(&self, volume: &VolumeEntry, way: &Way, done: &mut Restoration) -> Result<()> {
        let start = volume.offset.unwrap_or(0);
        let end = start.checked_add(volume.length).filter(|end| *end <= self.sidecar.size).ok_or_else(|| {
            let text = format!("{} bytes at {start} of a disk of {}", volume.length, self.sidecar.size);
            Error::new(ErrorKind::Corrupt, text)
        })?;
        match way {
            Way::Nothing => Ok(()),
            Way::Raw => self.bytes(&volume.raw(), start, end),
            Way::Head => match self.open(&volume.boot()) {
                Ok(_) => self.bytes(&volume.boot(), start, end),
                // All of it was zero.
                Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
                Err(error) => Err(error),
            },
            Way::Make(kind) => {
                let device: Arc<dyn BlockWrite> = Arc::new(Slice::writable(Arc::clone(self.target), start..end)?);
                self.make(volume, *kind, &device, done)?;
                self.boot_code(volume, *kind, &*device, done)
            }
        }
    }

    fn bytes(&self, path: &str, start: u64, end: u64) -> Result<()> {
        let file = self.open(path)?;
        if file.size() > end - start {
            let text = format!("{path}: {} bytes for a volume of {}", file.size(), end - start);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        copy(&*file, &**self.target, start)
    }

    /// Makes the filesystem and fills it.
    fn make(
        &self,
        volume: &VolumeEntry,
        kind: MakeKind,
        device: &Arc<dyn BlockWrite>,
        done: &mut Restoration,
    ) -> Result<()> {
        let settings = MakeSettings {
            label: volume.label.clone().unwrap_or_default(),
            uuid: uuid(volume, kind)?,
            now: self.now,
            hidden_sectors: u32::try_from(volume.offset.unwrap_or(0) / 512).unwrap_or(0),
        };
        filesystem::make(device, kind, &settings)?;
        let target = filesystem::open_writable(Arc::clone(device), self.now)?;
        let path = format!("/{}/{}", self.sidecar.name, volume.files());
        let from = self.files.resolve(path.as_bytes(), Follow::AllButLast).map_err(|error| error.context(&path))?;
        let copying = CopySettings { recursive: true, existing: Existing::Replace, steady: false };
        let mut copier = Copier::new(&**self.files, &*target, copying);
        copier.copy_contents(from.id, target.root())?;
        done.warnings.extend(copier.skipped().iter().map(|text| format!("volume {}: {text}", volume.name)));
        let attributes = Attributes::of(&self.files.stat(from.id)?, self.files.xattrs(from.id)?);
        if target.keeps().owners {
            target.set_attributes(target.root(), &attributes)?;
        }
        target.flush()
    }

    /// Puts back what a BIOS starts in the volume's first sectors; the filesystem's own fields are those of the new one.
    fn boot_code(
        &self,
        volume: &VolumeEntry,
        kind: MakeKind,
        device: &dyn BlockWrite,
        done: &mut Restoration,
    ) -> Result<()> {
        let file = match self.open(&volume.boot()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(()),
            Err(error) => return Err(error),
        };
        let head = file.read_vec(0, file.size().min(1024))?;
        // ext leaves its first two sectors alone; between jump and code of FAT are its own fields.
        let pieces = match kind {
            MakeKind::Fat(Some(FatBits::ThirtyTwo)) => [0..3, 90..510],
            MakeKind::Fat(_) => [0..3, 62..510],
            _ => [0..512, 512..1024],
        };
        let has_code =
            pieces.iter().any(|range| head.get(range.clone()).is_some_and(|code| code.iter().any(|byte| *byte != 0)));
        for range in pieces {
            if let Some(code) = head.get(range.clone()).filter(|_| has_code) {
                device.write_at(code, range.start as u64)?;
            }
        }
        if head.windows(8).any(|window| window == b"SYSLINUX" || window == b"EXTLINUX") {
            let text =
                "its boot loader (SYSLINUX) looks for its file at fixed sectors: install it again to start from a BIOS";
            done.warnings.push(format!("volume {}: {text}", volume.name));
        }
        Ok(())
    }
}

/// The sixteen bytes that a new filesystem's identifier is made of.
fn uuid(volume: &VolumeEntry, kind: MakeKind) -> Result<[u8; 16]> {
    let text = volume.uuid.as_deref().unwrap_or_default();
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let wrong = || Error::new(ErrorKind::Corrupt, format!("\"{}\" is no UUID", text.escape_debug()));
    let mut uuid = [0; 16];
    let wanted = if matches!(kind, MakeKind::Fat(_)) { 4 } else { 16 };
    if digits.is_empty() {
        return Ok(uuid);
    }
    if digits.len() != 2 * wanted {
        return Err(wrong());
    }
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    if wanted == 4 {
        // Printed as a number, stored with its lowest byte first.
        uuid[..4].reverse();
    }
    Ok(uuid)
}

/// Copies a file to a place of the disk, past its holes.
fn copy(file: &dyn BlockRead, target: &dyn BlockWrite, offset: u64) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    for extent in file.extents() {
        let extent = extent?;
        if extent.status.reads_zero() {
            continue;
        }
        let mut at = extent.offset;
        while at < extent.end() {
            let count = usize::try_from(extent.end() - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_at(&mut buffer[..count], at)?;
            target.write_at(&buffer[..count], offset + at)?;
            at += count as u64;
        }
    }
    Ok(())
}
