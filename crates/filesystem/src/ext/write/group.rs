//! Block groups: descriptors, bitmaps, and their checksums.

use transload_block::Result;

use super::superblock::halves;
use crate::ext::{Ext, checksum};
use crate::fields::corrupt;

const INODES_UNSET: u16 = 1;
const BLOCKS_UNSET: u16 = 2;

/// A descriptor as it stands on the disk, with the changes.
#[derive(Debug)]
pub(super) struct Group {
    raw: Vec<u8>,
    dirty: bool,
}

impl Group {
    /// The descriptor is to be written.
    pub(super) fn note_change(&mut self) {
        self.dirty = true;
    }

    fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.raw[at], self.raw[at + 1]])
    }

    fn le32(&self, at: usize) -> u32 {
        u32::from(self.le16(at)) | u32::from(self.le16(at + 2)) << 16
    }

    fn is_wide(&self) -> bool {
        self.raw.len() >= 64
    }

    /// A count in two halves of 16 bits.
    fn count(&self, low: usize, high: usize) -> u32 {
        let high = if self.is_wide() { u32::from(self.le16(high)) << 16 } else { 0 };
        high | u32::from(self.le16(low))
    }

    fn set_count(&mut self, low: usize, high: usize, value: u32) {
        let bytes = value.to_le_bytes();
        self.raw[low..low + 2].copy_from_slice(&bytes[..2]);
        if self.is_wide() {
            self.raw[high..high + 2].copy_from_slice(&bytes[2..]);
        }
        self.dirty = true;
    }

    fn block(&self, low: usize, high: usize) -> u64 {
        let high = if self.is_wide() { u64::from(self.le32(high)) << 32 } else { 0 };
        high | u64::from(self.le32(low))
    }

    pub(super) fn block_bitmap(&self) -> u64 {
        self.block(0, 0x20)
    }

    pub(super) fn inode_bitmap(&self) -> u64 {
        self.block(4, 0x24)
    }

    fn inode_table(&self) -> u64 {
        self.block(8, 0x28)
    }

    pub(super) fn free_blocks(&self) -> u32 {
        self.count(0x0C, 0x2C)
    }

    pub(super) fn set_free_blocks(&mut self, count: u32) {
        self.set_count(0x0C, 0x2C, count);
    }

    pub(super) fn free_inodes(&self) -> u32 {
        self.count(0x0E, 0x2E)
    }

    pub(super) fn set_free_inodes(&mut self, count: u32) {
        self.set_count(0x0E, 0x2E, count);
    }

    pub(super) fn folders(&self) -> u32 {
        self.count(0x10, 0x30)
    }

    pub(super) fn set_folders(&mut self, count: u32) {
        self.set_count(0x10, 0x30, count);
    }

    /// Inodes at the end of the table that were never used; the kernel relies on it only where groups have checksums.
    pub(super) fn note_used_inode(&mut self, index: u32, per_group: u32) {
        let unused = self.count(0x1C, 0x32);
        let now = per_group - index - 1;
        if unused > now {
            self.set_count(0x1C, 0x32, now);
        }
    }
}

impl Ext {
    pub(super) fn group_count(&self) -> Result<u32> {
        let superblock = &self.superblock;
        let (first, per_group) = superblock.group_geometry();
        let count = (superblock.blocks - u64::from(first)).div_ceil(u64::from(per_group));
        let inodes = u64::from(superblock.inodes).div_ceil(superblock.inodes_per_group.into());
        let count = count.min(inodes);
        // Groups are held in memory: 4 million are 512 TiB.
        u32::try_from(count)
            .ok()
            .filter(|count| (1..=4 << 20).contains(count))
            .ok_or_else(|| corrupt(format!("ext: {count} groups")))
    }

    /// The first block of a group and how many it has.
    pub(super) fn group_blocks(&self, group: u32) -> (u64, u32) {
        let (first, per_group) = self.superblock.group_geometry();
        let start = u64::from(first) + u64::from(group) * u64::from(per_group);
        let count = u64::from(per_group).min(self.superblock.blocks.saturating_sub(start));
        (start, u32::try_from(count).unwrap_or(per_group))
    }

    pub(super) fn read_group(&self, number: u32) -> Result<Group> {
        let length = if self.superblock.has_wide_descriptors() { 64 } else { 32 };
        let raw = self.cache.read_vec(self.superblock.descriptor_offset(number), length)?;
        let group = Group { raw, dirty: false };
        for block in [group.block_bitmap(), group.inode_bitmap(), group.inode_table()] {
            self.block_offset(block).map_err(|error| error.context(format_args!("ext group {number}")))?;
        }
        Ok(group)
    }

    /// Writes a descriptor that changed, with the checksums of the bitmaps and its own.
    pub(super) fn write_group(&self, group: &mut Group, number: u32) -> Result<()> {
        if !std::mem::take(&mut group.dirty) {
            return Ok(());
        }
        if let Some(seed) = self.superblock.checksum_seed {
            let (_, per_group) = self.superblock.group_geometry();
            for (bitmap, bits, low, high) in [
                (group.block_bitmap(), per_group, 0x18, 0x38),
                (group.inode_bitmap(), self.superblock.inodes_per_group, 0x1A, 0x3A),
            ] {
                let bytes = self.block(bitmap)?;
                let sum = checksum::crc(seed, &bytes[..bits as usize / 8]);
                group.set_count(low, high, sum);
            }
            group.raw[0x1E..0x20].fill(0);
            let sum = checksum::crc(checksum::crc(seed, &number.to_le_bytes()), &group.raw);
            group.raw[0x1E..0x20].copy_from_slice(&sum.to_le_bytes()[..2]);
        } else if self.superblock.has_old_group_checksums() {
            let sum = self.old_checksum(group, number)?;
            group.raw[0x1E..0x20].copy_from_slice(&sum.to_le_bytes());
        }
        group.dirty = false;
        self.cache.write(&group.raw, self.superblock.descriptor_offset(number))
    }

    /// The checksum of the feature `uninit_bg`: CRC-16 over the UUID, the number and the descriptor without it.
    fn old_checksum(&self, group: &Group, number: u32) -> Result<u16> {
        let uuid = self.cache.read_vec(1024 + 0x68, 16)?;
        let parts: [&[u8]; 4] = [&uuid, &number.to_le_bytes(), &group.raw[..0x1E], &group.raw[0x20..]];
        Ok(parts.iter().fold(!0, |sum, part| crc16(sum, part)))
    }

    /// The bitmap of a group's blocks, made first where the group was never used.
    pub(super) fn block_bits(&self, group: &mut Group, number: u32) -> Result<Vec<u8>> {
        let flags = group.le16(0x12);
        if !self.has_unset_groups() || flags & BLOCKS_UNSET == 0 {
            return self.block(group.block_bitmap());
        }
        let mut bits = vec![0; self.superblock.block_size as usize];
        let (start, count) = self.group_blocks(number);
        let table = u64::from(self.superblock.inodes_per_group) * u64::from(self.superblock.inode_size);
        let table = table.div_ceil(self.superblock.block_size.into());
        let own = [(group.block_bitmap(), 1), (group.inode_bitmap(), 1), (group.inode_table(), table)];
        let base = (start, self.superblock.blocks_before_tables(number));
        for (first, length) in own.into_iter().chain([base]) {
            for block in first..first.saturating_add(length) {
                if let Some(bit) = block.checked_sub(start).filter(|bit| *bit < u64::from(count)) {
                    set(&mut bits, usize::try_from(bit).unwrap_or(0));
                }
            }
        }
        for bit in count as usize..bits.len() * 8 {
            set(&mut bits, bit);
        }
        self.cache.write(&bits, self.block_offset(group.block_bitmap())?)?;
        group.raw[0x12..0x14].copy_from_slice(&(flags & !BLOCKS_UNSET).to_le_bytes());
        group.dirty = true;
        Ok(bits)
    }

    /// The bitmap of a group's inodes, made first where the group was never used.
    pub(super) fn inode_bits(&self, group: &mut Group) -> Result<Vec<u8>> {
        let flags = group.le16(0x12);
        if !self.has_unset_groups() || flags & INODES_UNSET == 0 {
            return self.block(group.inode_bitmap());
        }
        let mut bits = vec![0; self.superblock.block_size as usize];
        for bit in self.superblock.inodes_per_group as usize..bits.len() * 8 {
            set(&mut bits, bit);
        }
        self.cache.write(&bits, self.block_offset(group.inode_bitmap())?)?;
        group.raw[0x12..0x14].copy_from_slice(&(flags & !INODES_UNSET).to_le_bytes());
        group.dirty = true;
        Ok(bits)
    }

    /// The flags of unused groups mean something only where descriptors have checksums.
    fn has_unset_groups(&self) -> bool {
        self.superblock.checksum_seed.is_some() || self.superblock.has_old_group_checksums()
    }

    /// Writes a bitmap back and notes that its group changed.
    pub(super) fn write_bits(&self, group: &mut Group, bitmap: u64, bits: &[u8]) -> Result<()> {
        group.dirty = true;
        self.cache.write(bits, self.block_offset(bitmap)?)
    }
}

pub(crate) fn set(bits: &mut [u8], bit: usize) {
    bits[bit / 8] |= 1 << (bit % 8);
}

pub(super) fn clear(bits: &mut [u8], bit: usize) {
    bits[bit / 8] &= !(1 << (bit % 8));
}

pub(super) fn is_set(bits: &[u8], bit: usize) -> bool {
    bits[bit / 8] & (1 << (bit % 8)) != 0
}

/// CRC-16 with the polynomial 0x8005, reflected.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xA001 })
    })
}

/// A block number in the two halves that structures have for it.
pub(super) fn split(block: u64) -> (u32, u16) {
    let [low, high] = halves(block);
    (low, u16::try_from(high).unwrap_or(u16::MAX))
}
