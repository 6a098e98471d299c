//! Inodes: where they stand, what they say, and their checksums.

use transload_block::Result;

use super::superblock::Superblock;
use super::{Ext, checksum};
use crate::contract::{FileId, FileKind, Metadata, Owner, Timestamp};
use crate::fields::{Fields, corrupt};

pub(super) mod flag {
    pub(crate) const ENCRYPT: u32 = 0x800;
    pub(crate) const HUGE_FILE: u32 = 0x4_0000;
    pub(crate) const EXTENTS: u32 = 0x8_0000;
    pub(crate) const INLINE_DATA: u32 = 0x1000_0000;
}

/// The part of an inode that every revision has.
pub(super) const OLD_SIZE: usize = 128;

/// An inode as it stands on the disk, with its kind checked.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) flags: u32,
    /// The block that holds more extended attributes; 0 for none.
    pub(super) attribute_block: u64,
    pub(super) raw: Vec<u8>,
    pub(super) sectors: u64,
}

impl Inode {
    /// An inode that is about to be written for the first time.
    pub(super) fn from_raw(raw: Vec<u8>, number: u32, kind: FileKind) -> Self {
        Self { number, kind, size: 0, flags: 0, attribute_block: 0, sectors: 0, raw }
    }

    /// Names the block of extended attributes; 0 for none.
    pub(super) fn set_attribute_block(&mut self, block: u64) {
        self.attribute_block = block;
        let bytes = block.to_le_bytes();
        self.raw[0x68..0x6C].copy_from_slice(&bytes[..4]);
        self.raw[0x76..0x78].copy_from_slice(&bytes[4..6]);
    }

    /// The sixty bytes that map the file's blocks, or hold its bytes.
    pub(super) fn block_area(&self) -> &[u8] {
        &self.raw[0x28..0x28 + 60]
    }

    pub(super) const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What stands behind the fixed fields: extended attributes in the inode itself. Empty where there is no room.
    pub(super) fn attribute_area(&self) -> &[u8] {
        let Some(extra) = self.raw.get(OLD_SIZE..OLD_SIZE + 2) else { return &[] };
        let used = usize::from(u16::from_le_bytes([extra[0], extra[1]]));
        self.raw.get(OLD_SIZE + used..).unwrap_or(&[])
    }

    /// The start value of the checksums of what belongs to this inode.
    pub(super) fn checksum_seed(&self, seed: u32) -> u32 {
        let seed = checksum::crc(seed, &self.number.to_le_bytes());
        checksum::crc(seed, &self.raw[0x64..0x68])
    }

    /// Whether the target of a symbolic link stands in the inode.
    pub(super) fn is_fast_link(&self, block_size: u32) -> bool {
        let attributes = if self.attribute_block == 0 { 0 } else { u64::from(block_size / 512) };
        self.size < 60 && !self.has(flag::EXTENTS) && self.sectors <= attributes
    }

    pub(super) fn metadata(&self, block_size: u32) -> Result<Metadata> {
        let fields = Fields::new(&self.raw, "ext inode");
        let half =
            |low, high| -> Result<u32> { Ok(u32::from(fields.le16(low)?) | u32::from(fields.le16(high)?) << 16) };
        let is_device = matches!(self.kind, FileKind::BlockDevice | FileKind::CharDevice);
        let unit = if self.has(flag::HUGE_FILE) { u64::from(block_size) } else { 512 };
        Ok(Metadata {
            kind: self.kind,
            permissions: u32::from(fields.le16(0)?) & 0o7777,
            owner: Owner { uid: half(2, 0x78)?, gid: half(0x18, 0x7A)? },
            size: self.size,
            allocated: self.sectors.saturating_mul(unit),
            links: fields.le16(0x1A)?.into(),
            accessed: Some(self.time(0x08, 0x8C)?),
            changed: Some(self.time(0x0C, 0x84)?),
            modified: Some(self.time(0x10, 0x88)?),
            created: self.has_room(0x94 + 4).then(|| self.time(0x90, 0x94)).transpose()?,
            device: if is_device { Some(self.device()?) } else { None },
        })
    }

    /// Whether the inode says that it uses its bytes up to `end`.
    pub(super) fn has_room(&self, end: usize) -> bool {
        let extra = self.raw.get(OLD_SIZE..OLD_SIZE + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        self.raw.len() >= end && usize::from(extra) >= end - OLD_SIZE
    }

    /// Seconds at `at`; two more bits of them and the nanoseconds at `extra`.
    fn time(&self, at: usize, extra: usize) -> Result<Timestamp> {
        let fields = Fields::new(&self.raw, "ext inode");
        let seconds = i64::from(fields.le32(at)?.cast_signed());
        if !self.has_room(extra + 4) {
            return Ok(Timestamp { seconds, nanos: 0 });
        }
        let more = fields.le32(extra)?;
        Ok(Timestamp { seconds: seconds + (i64::from(more & 3) << 32), nanos: (more >> 2).min(999_999_999) })
    }

    fn device(&self) -> Result<(u32, u32)> {
        let fields = Fields::new(self.block_area(), "ext inode of a device");
        let (old, new) = (fields.le32(0)?, fields.le32(4)?);
        Ok(match old {
            0 => ((new >> 8) & 0xFFF, (new & 0xFF) | ((new >> 12) & 0xF_FF00)),
            _ => ((old >> 8) & 0xFF, old & 0xFF),
        })
    }
}

impl Ext {
    /// Reads the inode of this number.
    pub(super) fn inode(&self, id: FileId) -> Result<Inode> {
        let number = u32::try_from(id.0).unwrap_or(0);
        let raw = self.cache.read_vec(self.inode_offset(number)?, self.superblock.inode_size.into())?;
        parse(raw, number, &self.superblock).map_err(|error| error.context(format_args!("inode {number}")))
    }

    /// Where an inode stands on the device.
    pub(super) fn inode_offset(&self, number: u32) -> Result<u64> {
        let superblock = &self.superblock;
        if number == 0 || number > superblock.inodes {
            return Err(corrupt(format!("ext: inode {number}, there are 1 to {}", superblock.inodes)));
        }
        let (group, index) = ((number - 1) / superblock.inodes_per_group, (number - 1) % superblock.inodes_per_group);
        let table = self.inode_table(group)?.saturating_mul(superblock.block_size.into());
        Ok(table.saturating_add(u64::from(index) * u64::from(superblock.inode_size)))
    }

    /// The block in which the inode table of a group begins.
    fn inode_table(&self, group: u32) -> Result<u64> {
        let offset = self.superblock.descriptor_offset(group);
        let wide = self.superblock.has_wide_descriptors();
        let bytes = self.cache.read_vec(offset, if wide { 64 } else { 32 })?;
        let fields = Fields::new(&bytes, "ext group descriptor");
        let high = if wide { u64::from(fields.le32(0x28)?) << 32 } else { 0 };
        let block = high | u64::from(fields.le32(8)?);
        if block == 0 || block >= self.superblock.blocks {
            return Err(fields.corrupt(format!(
                "the inode table of group {group} is at block {block} of {}",
                self.superblock.blocks
            )));
        }
        Ok(block)
    }
}

fn parse(raw: Vec<u8>, number: u32, superblock: &Superblock) -> Result<Inode> {
    let fields = Fields::new(&raw, "ext inode");
    let mode = fields.le16(0)?;
    let kind = FileKind::from_mode(mode.into()).ok_or_else(|| fields.corrupt(format!("its mode is {mode:o}")))?;
    let flags = fields.le32(0x20)?;
    let has_high_size = matches!(kind, FileKind::Regular | FileKind::Directory);
    let high = if has_high_size { u64::from(fields.le32(0x6C)?) << 32 } else { 0 };
    let sectors = if superblock.has_huge_files() { u64::from(fields.le16(0x74)?) << 32 } else { 0 };
    let wide = superblock.has(super::superblock::incompat::WIDE);
    let attribute_high = if wide { u64::from(fields.le16(0x76)?) << 32 } else { 0 };
    let inode = Inode {
        number,
        kind,
        size: high | u64::from(fields.le32(0x04)?),
        flags,
        attribute_block: attribute_high | u64::from(fields.le32(0x68)?),
        sectors: sectors | u64::from(fields.le32(0x1C)?),
        raw: Vec::new(),
    };
    let inode = Inode { raw, ..inode };
    if let Some(seed) = superblock.checksum_seed {
        verify(&inode, seed)?;
    }
    Ok(inode)
}

/// Whether there is room for the upper half of the checksum.
pub(super) fn has_high_checksum(inode: &Inode) -> Result<bool> {
    let fields = Fields::new(&inode.raw, "ext inode");
    Ok(inode.raw.len() > OLD_SIZE && fields.le16(0x80)? >= 4)
}

/// The checksum of the bytes, in which the checksum itself counts as zero; its lower half where that is all there is room for.
pub(super) fn checksum_of(inode: &Inode, seed: u32) -> Result<u32> {
    let has_high = has_high_checksum(inode)?;
    let mut computed = checksum::crc(inode.checksum_seed(seed), &inode.raw[..0x7C]);
    computed = checksum::crc(computed, &[0, 0]);
    computed = checksum::crc(computed, &inode.raw[0x7E..OLD_SIZE]);
    if inode.raw.len() > OLD_SIZE {
        computed = checksum::crc(computed, &inode.raw[OLD_SIZE..0x82]);
        let rest = if has_high {
            computed = checksum::crc(computed, &[0, 0]);
            0x84
        } else {
            0x82
        };
        computed = checksum::crc(computed, &inode.raw[rest..]);
    }
    Ok(if has_high { computed } else { computed & 0xFFFF })
}

fn verify(inode: &Inode, seed: u32) -> Result<()> {
    let fields = Fields::new(&inode.raw, "ext inode");
    let high = if has_high_checksum(inode)? { u32::from(fields.le16(0x82)?) << 16 } else { 0 };
    let (stored, expected) = (high | u32::from(fields.le16(0x7C)?), checksum_of(inode, seed)?);
    if stored == expected {
        return Ok(());
    }
    Err(fields.corrupt(format!("its checksum is {stored:#010x}, its bytes have {expected:#010x}")))
}
