//! Inodes as they are made, changed, written and given back.

use transload_block::{Error, ErrorKind, Result};

use super::State;
use super::superblock::halves;
use crate::contract::{FileKind, Timestamp};
use crate::ext::Ext;
use crate::ext::inode::{self, Inode, OLD_SIZE, flag};
use crate::write::Attributes;

/// The bytes behind the old part of an inode that are in use: up to the creation time and the project.
const EXTRA: u16 = 32;

impl Ext {
    /// An inode that is in no folder yet.
    pub(super) fn new_inode(
        &self,
        state: &mut State,
        kind: FileKind,
        parent: &Inode,
        attributes: &Attributes,
    ) -> Result<Inode> {
        let number = self.allocate_inode(state, parent.number, kind)?;
        let mut raw = vec![0; self.superblock.inode_size.into()];
        if raw.len() >= OLD_SIZE + usize::from(EXTRA) {
            raw[0x80..0x82].copy_from_slice(&EXTRA.to_le_bytes());
        }
        let default = if kind == FileKind::Directory { 0o755 } else { 0o644 };
        let mode = kind.mode_bits() | attributes.permissions.unwrap_or(default) & 0o7777;
        raw[..2].copy_from_slice(&u16::try_from(mode).unwrap_or(0).to_le_bytes());
        let mut inode = Inode::from_raw(raw, number, kind);
        inode.set_links(1);
        let now = state.now;
        let times = Attributes { permissions: None, xattrs: None, ..attributes.clone() };
        let times = Attributes {
            modified: times.modified.or(Some(now)),
            accessed: times.accessed.or(times.modified).or(Some(now)),
            created: times.created.or(times.modified).or(Some(now)),
            ..times
        };
        inode.apply(&times, now);
        // A number that differs from the last user's: network filesystems tell stale handles by it.
        inode.raw[0x64..0x68].copy_from_slice(&number.wrapping_mul(0x9E37_79B9).to_le_bytes());
        Ok(inode)
    }

    /// Writes an inode, with its checksum.
    pub(in crate::ext) fn write_inode(&self, inode: &mut Inode) -> Result<()> {
        if let Some(seed) = self.superblock.checksum_seed {
            let sum = inode::checksum_of(inode, seed)?.to_le_bytes();
            inode.raw[0x7C..0x7E].copy_from_slice(&sum[..2]);
            if inode::has_high_checksum(inode)? {
                inode.raw[0x82..0x84].copy_from_slice(&sum[2..]);
            }
        }
        self.cache.write(&inode.raw, self.inode_offset(inode.number)?)
    }

    /// Gives an inode and everything that it names back.
    pub(super) fn free_inode(&self, state: &mut State, inode: &mut Inode) -> Result<()> {
        let has_blocks = matches!(inode.kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink)
            && !inode.has(flag::INLINE_DATA)
            && !(inode.kind == FileKind::Symlink && inode.is_fast_link(self.superblock.block_size));
        if has_blocks {
            let mut runs = crate::mapped::Runs::default();
            let mut tables = Vec::new();
            self.map_whole(inode, &mut runs, &mut tables)?;
            let block_size = u64::from(self.superblock.block_size);
            for (_, length, place) in runs.all() {
                if let Some(place) = place {
                    self.free_blocks(state, place / block_size, length / block_size)?;
                }
            }
            for table in tables {
                self.free_blocks(state, table, 1)?;
            }
        }
        self.drop_attribute_block(state, inode)?;
        inode.block_area_mut().fill(0);
        inode.set_links(0);
        inode.set_size(0);
        inode.set_blocks(0, self.superblock.block_size);
        // The time of deletion is what tells a freed inode from a lost one.
        let deleted = u32::try_from(state.now.seconds.max(1)).unwrap_or(u32::MAX);
        inode.raw[0x14..0x18].copy_from_slice(&deleted.to_le_bytes());
        self.write_inode(inode)?;
        if state.names.as_ref().is_some_and(|(number, _)| *number == inode.number) {
            state.names = None;
        }
        self.release_inode(state, inode.number, inode.kind)
    }
}

impl Inode {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.raw[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn block_area_mut(&mut self) -> &mut [u8] {
        &mut self.raw[0x28..0x28 + 60]
    }

    pub(super) fn links(&self) -> u16 {
        u16::from_le_bytes([self.raw[0x1A], self.raw[0x1B]])
    }

    pub(in crate::ext) fn set_links(&mut self, links: u16) {
        self.put(0x1A, &links.to_le_bytes());
    }

    /// One more name. A folder with too many folders in it says 1, which stands for "many".
    pub(super) fn add_link(&mut self) {
        let links = match (self.kind, self.links()) {
            (FileKind::Directory, 1 | 64_999..) => 1,
            (_, links) => links.saturating_add(1),
        };
        self.set_links(links);
    }

    pub(super) fn drop_link(&mut self) {
        let links = match (self.kind, self.links()) {
            (FileKind::Directory, 1) => 1,
            (_, links) => links.saturating_sub(1),
        };
        self.set_links(links);
    }

    pub(in crate::ext) fn set_size(&mut self, size: u64) {
        let [low, high] = halves(size);
        self.size = size;
        self.put(0x04, &low.to_le_bytes());
        if matches!(self.kind, FileKind::Regular | FileKind::Directory) {
            self.put(0x6C, &high.to_le_bytes());
        }
    }

    /// Sets the count of sectors of 512 bytes.
    pub(super) fn set_blocks(&mut self, blocks: u64, block_size: u32) {
        let sectors = blocks * u64::from(block_size / 512);
        self.sectors = sectors;
        let [low, high] = halves(sectors);
        self.put(0x1C, &low.to_le_bytes());
        self.put(0x74, &high.to_le_bytes()[..2]);
    }

    pub(super) fn set_flag(&mut self, flag: u32) {
        self.flags |= flag;
        let flags = self.flags;
        self.put(0x20, &flags.to_le_bytes());
    }

    pub(super) fn clear_flag(&mut self, flag: u32) {
        self.flags &= !flag;
        let flags = self.flags;
        self.put(0x20, &flags.to_le_bytes());
    }

    pub(super) fn set_fast_link(&mut self, target: &[u8]) {
        self.block_area_mut().fill(0);
        self.block_area_mut()[..target.len()].copy_from_slice(target);
    }

    pub(super) fn set_device(&mut self, kind: FileKind, (major, minor): (u32, u32)) -> Result<()> {
        if !matches!(kind, FileKind::BlockDevice | FileKind::CharDevice) {
            return Ok(());
        }
        if major > 0xFFF || minor > 0xF_FFFF {
            return Err(Error::new(ErrorKind::TooLarge, format!("the device {major}:{minor}")));
        }
        if major < 256 && minor < 256 {
            self.block_area_mut()[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
        } else {
            let number = minor & 0xFF | major << 8 | (minor & !0xFF) << 12;
            self.block_area_mut()[4..8].copy_from_slice(&number.to_le_bytes());
        }
        Ok(())
    }

    /// Sets what is given, and notes that the inode changed.
    pub(in crate::ext) fn apply(&mut self, attributes: &Attributes, now: Timestamp) {
        if let Some(permissions) = attributes.permissions {
            let mode = self.kind.mode_bits() | permissions & 0o7777;
            self.put(0, &u16::try_from(mode).unwrap_or(0).to_le_bytes());
        }
        if let Some(owner) = attributes.owner {
            for (id, low, high) in [(owner.uid, 0x02, 0x78), (owner.gid, 0x18, 0x7A)] {
                let bytes = id.to_le_bytes();
                self.put(low, &bytes[..2]);
                self.put(high, &bytes[2..]);
            }
        }
        for (time, at, extra) in [
            (attributes.accessed, 0x08, 0x8C),
            (attributes.modified, 0x10, 0x88),
            (attributes.created, 0x90, 0x94),
            (Some(now), 0x0C, 0x84),
        ] {
            if let Some(time) = time {
                self.set_time(time, at, extra);
            }
        }
    }

    /// The folder's contents changed.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.set_time(now, 0x10, 0x88);
        self.set_time(now, 0x0C, 0x84);
    }

    /// Sets a time. Where there is no room for the wider fields it is kept as near as 32 bits come.
    fn set_time(&mut self, time: Timestamp, at: usize, extra: usize) {
        let wide = self.has_room(extra + 4);
        let most = if wide { (3 << 32) + i64::from(i32::MAX) } else { i64::from(i32::MAX) };
        let seconds = time.seconds.clamp(i64::from(i32::MIN), most);
        let low = i32::try_from((seconds + (1 << 31)).rem_euclid(1 << 32) - (1 << 31)).unwrap_or(0);
        if at < OLD_SIZE || wide {
            self.put(at, &low.to_le_bytes());
        }
        if wide {
            let epoch = u32::try_from((seconds - i64::from(low)) >> 32).unwrap_or(0) & 3;
            self.put(extra, &(time.nanos << 2 | epoch).to_le_bytes());
        }
    }
}
