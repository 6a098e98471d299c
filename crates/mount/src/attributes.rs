//! What is known of files, in the kernel's words.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use transload_filesystem::{FileKind, Metadata, Timestamp};

/// Who mounts, and when: what nodes show that are made here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) time: SystemTime,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, time: SystemTime::now() }
    }

    /// The attributes of a folder.
    pub(crate) fn folder(&self, number: u64) -> FileAttr {
        FileAttr { kind: FileType::Directory, perm: 0o555, nlink: 2, ..self.file(number, 0, false) }
    }

    /// The attributes of a file of `size` bytes. A disk holds what its files hide: it is the maker's alone.
    pub(crate) fn file(&self, number: u64, size: u64, writable: bool) -> FileAttr {
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: self.time,
            mtime: self.time,
            ctime: self.time,
            crtime: self.time,
            kind: FileType::RegularFile,
            perm: if writable { 0o600 } else { 0o400 },
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// The attributes of a file of a filesystem.
pub(crate) fn of_file(number: u64, metadata: &Metadata, block: u32) -> FileAttr {
    let modified = metadata.modified.or(metadata.changed).or(metadata.created).unwrap_or_default();
    FileAttr {
        ino: INodeNo(number),
        size: metadata.size,
        blocks: metadata.allocated.div_ceil(512),
        atime: moment(metadata.accessed.unwrap_or(modified)),
        mtime: moment(modified),
        ctime: moment(metadata.changed.unwrap_or(modified)),
        crtime: moment(metadata.created.unwrap_or(modified)),
        kind: kind(metadata.kind),
        perm: u16::try_from(metadata.permissions & 0o7777).unwrap_or_default(),
        nlink: metadata.links.max(1),
        uid: metadata.owner.uid,
        gid: metadata.owner.gid,
        rdev: metadata.device.map_or(0, device_number),
        blksize: block.clamp(512, 1 << 20),
        flags: 0,
    }
}

pub(crate) const fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

/// The number of a device as the kernel packs it: 12 bits of the major number amid 20 of the minor one.
const fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12
}

/// A moment that the host's clock has a word for; the nearest where it has none.
fn moment(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let nanos = Duration::from_nanos(time.nanos.min(999_999_999).into());
    base.and_then(|base| base.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_1970_and_beyond_the_clock() {
        let half = moment(Timestamp { seconds: -1, nanos: 500_000_000 });
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(half).unwrap(), Duration::from_millis(500));
        let later = moment(Timestamp { seconds: 5, nanos: 7 });
        assert_eq!(later.duration_since(SystemTime::UNIX_EPOCH).unwrap(), Duration::new(5, 7));
        for seconds in [i64::MIN, i64::MAX] {
            let _ = moment(Timestamp { seconds, nanos: u32::MAX });
        }
    }

    #[test]
    fn devices_are_packed_as_the_kernel_does() {
        assert_eq!(device_number((8, 1)), 0x801);
        assert_eq!(device_number((0xabc, 0x12345)), 0x123a_bc45);
    }
}
