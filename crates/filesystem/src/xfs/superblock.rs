//! The superblock of XFS, checked.

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use crate::fields::{Fields, corrupt, unsupported};
use crate::text;

/// Features of version 5 without which a reader cannot make sense of the filesystem.
mod incompat {
    pub(crate) const FTYPE: u32 = 0x1;
    pub(crate) const NEEDS_REPAIR: u32 = 0x10;
    /// Kinds in folders, sparse inodes, another metadata UUID, times beyond 2038, large extent counts, exchanged ranges,
    /// parent pointers.
    pub(crate) const HANDLED: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80;
}

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    pub(super) log_start: u64,
    pub(super) log_blocks: u32,
    pub(super) root: u64,
    pub(super) group_blocks: u32,
    pub(super) groups: u32,
    pub(super) inode_size: u16,
    pub(super) has_kinds: bool,
    /// Version 5: checksums, and headers that say whose a block is.
    pub(super) is_5: bool,
    /// Logarithm of blocks in a block of a folder.
    pub(super) folder_log: u8,
    pub(super) label: String,
    pub(super) uuid: Option<String>,
    inodes_per_block_log: u8,
    group_blocks_log: u8,
}

impl Superblock {
    pub(super) fn read(device: &dyn BlockRead) -> Result<Self> {
        let bytes = device.read_vec(0, device.size().min(512))?;
        let fields = Fields::new(&bytes, "XFS superblock");
        if fields.bytes(0, 4)? != b"XFSB" {
            return Err(Error::new(ErrorKind::NotThisFormat, "XFS: no superblock"));
        }
        let version = fields.be16(100)?;
        let is_5 = match version & 0xF {
            4 => false,
            5 => true,
            other => return Err(unsupported(format!("XFS of version {other}"))),
        };
        if is_5 {
            let features = fields.be32(216)?;
            if features & incompat::NEEDS_REPAIR != 0 {
                return Err(
                    unsupported("XFS: the filesystem is marked as needing repair").with_remedy("run xfs_repair")
                );
            }
            if features & !incompat::HANDLED != 0 {
                let unknown = features & !incompat::HANDLED;
                return Err(unsupported(format!("XFS superblock: incompatible features {unknown:#x}")));
            }
            check_sum(&bytes[..], device, fields.be16(102)?)?;
        }
        let has_kinds = if is_5 { fields.be32(216)? & incompat::FTYPE != 0 } else { fields.be32(200)? & 0x200 != 0 };
        let this = Self {
            block_size: fields.be32(4)?,
            blocks: fields.be64(8)?,
            log_start: fields.be64(48)?,
            log_blocks: fields.be32(96)?,
            root: fields.be64(56)?,
            group_blocks: fields.be32(84)?,
            groups: fields.be32(88)?,
            inode_size: fields.be16(104)?,
            has_kinds,
            is_5,
            folder_log: fields.u8(192)?,
            label: text::label(fields.bytes(108, 12)?),
            uuid: text::uuid(fields.bytes(32, 16)?),
            inodes_per_block_log: fields.u8(123)?,
            group_blocks_log: fields.u8(124)?,
        };
        this.check(&fields)?;
        Ok(this)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let size = self.block_size;
        let inodes = u32::from(self.inode_size);
        let wrong = |text: String| Err(fields.corrupt(text));
        if !size.is_power_of_two() || !(512..=65_536).contains(&size) {
            return wrong(format!("blocks of {size} bytes"));
        }
        if !inodes.is_power_of_two() || !(256..=2048).contains(&inodes) || inodes > size {
            return wrong(format!("inodes of {inodes} bytes in blocks of {size}"));
        }
        if self.inodes_per_block_log > 8 || size / inodes != 1 << self.inodes_per_block_log {
            return wrong(format!("2^{} inodes of {inodes} bytes in a block of {size}", self.inodes_per_block_log));
        }
        if self.groups == 0 || self.group_blocks == 0 || self.group_blocks_log > 31 {
            return wrong(format!("{} groups of {} blocks", self.groups, self.group_blocks));
        }
        if u64::from(self.group_blocks) > 1 << self.group_blocks_log {
            return wrong(format!("{} blocks of a group in {} bits", self.group_blocks, self.group_blocks_log));
        }
        if self.folder_log > 7 || (size << self.folder_log) > 65_536 {
            return wrong(format!("blocks of folders of 2^{} blocks", self.folder_log));
        }
        Ok(())
    }

    /// Where a block stands, from its number in group and block of the group.
    pub(super) fn block_offset(&self, number: u64) -> Result<u64> {
        let (group, block) = (number >> self.group_blocks_log, number & ((1 << self.group_blocks_log) - 1));
        if group >= u64::from(self.groups) || block >= u64::from(self.group_blocks) {
            return Err(corrupt(format!("XFS: block {block} of group {group}")));
        }
        Ok((group * u64::from(self.group_blocks) + block) * u64::from(self.block_size))
    }

    /// Where an inode stands.
    pub(super) fn inode_offset(&self, number: u64) -> Result<u64> {
        let block = self.block_offset(number >> self.inodes_per_block_log);
        let block = block.map_err(|_| corrupt(format!("XFS: inode {number} is in no group")))?;
        Ok(block + (number & ((1 << self.inodes_per_block_log) - 1)) * u64::from(self.inode_size))
    }
}

/// Compares the checksum of the superblock's sector, in which it counts as zero itself.
fn check_sum(head: &[u8], device: &dyn BlockRead, sector: u16) -> Result<()> {
    if !sector.is_power_of_two() || !(512..=32_768).contains(&sector) {
        return Err(corrupt(format!("XFS superblock: sectors of {sector} bytes")));
    }
    let bytes = device.read_vec(0, sector.into())?;
    let stored = Fields::new(head, "XFS superblock").le32(224)?;
    let computed = checksum(&bytes, 224);
    if stored == computed {
        return Ok(());
    }
    Err(corrupt(format!("XFS superblock: its checksum is {stored:#010x}, its bytes have {computed:#010x}")))
}

/// CRC-32C of a structure whose own checksum at `at` counts as zero.
pub(super) fn checksum(bytes: &[u8], at: usize) -> u32 {
    let head = crc32c::crc32c(&bytes[..at]);
    let middle = crc32c::crc32c_append(head, &[0; 4]);
    crc32c::crc32c_append(middle, &bytes[at + 4..])
}
