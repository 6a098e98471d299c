//! The superblock of ext2, ext3 and ext4, checked.

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use super::checksum;
use crate::fields::{Fields, corrupt, unsupported};
use crate::text;

/// Where it stands, whatever the block size.
const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;

/// Features without which a reader cannot make sense of the filesystem.
pub(super) mod incompat {
    pub(crate) const COMPRESSION: u32 = 0x1;
    pub(crate) const FILETYPE: u32 = 0x2;
    pub(crate) const RECOVER: u32 = 0x4;
    pub(crate) const JOURNAL_DEVICE: u32 = 0x8;
    pub(crate) const META_BG: u32 = 0x10;
    pub(crate) const EXTENTS: u32 = 0x40;
    pub(crate) const WIDE: u32 = 0x80;
    pub(crate) const MMP: u32 = 0x100;
    pub(crate) const FLEX_BG: u32 = 0x200;
    pub(crate) const EA_INODE: u32 = 0x400;
    pub(crate) const CSUM_SEED: u32 = 0x2000;
    pub(crate) const LARGE_DIR: u32 = 0x4000;
    pub(crate) const INLINE_DATA: u32 = 0x8000;
    pub(crate) const ENCRYPT: u32 = 0x1_0000;
    pub(crate) const CASEFOLD: u32 = 0x2_0000;
    /// All that are read here. Encrypted files are told apart one by one.
    pub(crate) const HANDLED: u32 = FILETYPE
        | RECOVER
        | META_BG
        | EXTENTS
        | WIDE
        | MMP
        | FLEX_BG
        | EA_INODE
        | CSUM_SEED
        | LARGE_DIR
        | INLINE_DATA
        | ENCRYPT
        | CASEFOLD;
}

const RO_HUGE_FILE: u32 = 0x8;
const RO_METADATA_CSUM: u32 = 0x400;
const COMPAT_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

#[derive(Clone, Debug)]
pub(super) struct Superblock {
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) journal_inode: u32,
    pub(super) label: String,
    pub(super) uuid: Option<String>,
    pub(super) clean: bool,
    /// The start value of all metadata checksums; `None` where there are none.
    pub(super) checksum_seed: Option<u32>,
    first_data_block: u32,
    blocks_per_group: u32,
    descriptor_size: u16,
    first_meta_group: u32,
    /// Blocks behind the descriptors that are kept for more of them.
    reserved_descriptors: u16,
    compat: u32,
}

impl Superblock {
    pub(super) fn read(device: &dyn BlockRead) -> Result<Self> {
        if device.size() < OFFSET + LENGTH as u64 {
            return Err(Error::new(ErrorKind::NotThisFormat, "ext: the device is too short for a superblock"));
        }
        let bytes = device.read_vec(OFFSET, LENGTH as u64)?;
        Self::parse(&bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let fields = Fields::new(bytes, "ext superblock");
        if fields.le16(0x38)? != 0xEF53 {
            return Err(Error::new(ErrorKind::NotThisFormat, "ext: no superblock"));
        }
        let revision = fields.le32(0x4C)?;
        let dynamic = revision >= 1;
        let feature = |at| if dynamic { fields.le32(at) } else { Ok(0) };
        let (compat, incompat, ro_compat) = (feature(0x5C)?, feature(0x60)?, feature(0x64)?);
        check_features(revision, incompat)?;
        let checksum_seed = checksum_seed(&fields, bytes, incompat, ro_compat)?;
        let log = fields.le32(0x18)?;
        if log > 6 {
            return Err(fields.corrupt(format!("block size 2^{} bytes, must be 1024 to 65536", u64::from(log) + 10)));
        }
        let block_size = 1024_u32 << log;
        let wide = incompat & incompat::WIDE != 0;
        let high = if wide { u64::from(fields.le32(0x150)?) << 32 } else { 0 };
        let this = Self {
            block_size,
            blocks: high | u64::from(fields.le32(0x04)?),
            inodes: fields.le32(0)?,
            inodes_per_group: fields.le32(0x28)?,
            inode_size: if dynamic { fields.le16(0x58)? } else { 128 },
            compat,
            incompat,
            ro_compat,
            journal_inode: fields.le32(0xE0)?,
            label: text::label(fields.bytes(0x78, 16)?),
            uuid: text::uuid(fields.bytes(0x68, 16)?),
            clean: fields.le16(0x3A)? & 1 != 0,
            checksum_seed,
            first_data_block: fields.le32(0x14)?,
            blocks_per_group: fields.le32(0x20)?,
            descriptor_size: if wide { fields.le16(0xFE)? } else { 32 },
            first_meta_group: fields.le32(0x104)?,
            reserved_descriptors: fields.le16(0xCE)?,
        };
        this.check(&fields)?;
        Ok(this)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let bits = self.block_size * 8;
        let wrong =
            |what: &str, value: u64, rule: String| Err(fields.corrupt(format!("{what} is {value}, must be {rule}")));
        if !self.inode_size.is_power_of_two() || self.inode_size < 128 || u32::from(self.inode_size) > self.block_size {
            let rule = format!("a power of two from 128 to {}", self.block_size);
            return wrong("the inode size", self.inode_size.into(), rule);
        }
        if self.inodes_per_group == 0 || self.inodes_per_group > bits {
            return wrong("inodes per group", self.inodes_per_group.into(), format!("1 to {bits}"));
        }
        if self.blocks_per_group == 0 || self.blocks_per_group > bits {
            return wrong("blocks per group", self.blocks_per_group.into(), format!("1 to {bits}"));
        }
        let size = self.descriptor_size;
        if !size.is_power_of_two() || size < 32 || u32::from(size) > self.block_size {
            return wrong(
                "the group descriptor size",
                size.into(),
                format!("a power of two up to {}", self.block_size),
            );
        }
        if u64::from(self.first_data_block) >= self.blocks {
            return wrong("the first data block", self.first_data_block.into(), format!("below {}", self.blocks));
        }
        Ok(())
    }

    pub(super) fn has(&self, feature: u32) -> bool {
        self.incompat & feature != 0
    }

    pub(super) const fn has_huge_files(&self) -> bool {
        self.ro_compat & RO_HUGE_FILE != 0
    }

    /// The name by which people know this set of features.
    pub(super) fn version(&self) -> &'static str {
        let ext4 = incompat::EXTENTS | incompat::WIDE | incompat::FLEX_BG | incompat::META_BG | incompat::INLINE_DATA;
        if self.incompat & ext4 != 0 || self.ro_compat & !0x7 != 0 || self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            "ext4"
        } else if self.compat & COMPAT_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// Where the descriptor of a block group stands, in bytes.
    pub(super) fn descriptor_offset(&self, group: u32) -> u64 {
        let per_block = self.block_size / u32::from(self.descriptor_size);
        let (index, within) = (group / per_block, group % per_block);
        let block_size = u64::from(self.block_size);
        let block = if self.has(incompat::META_BG) && index >= self.first_meta_group {
            // Every meta group keeps its own descriptors, behind a superblock where its first group has one.
            let first_group = index * per_block;
            let start = u64::from(first_group) * u64::from(self.blocks_per_group) + u64::from(self.first_data_block);
            start + u64::from(self.has_backup(first_group))
        } else {
            u64::from(self.first_data_block) + 1 + u64::from(index)
        };
        block.saturating_mul(block_size) + u64::from(within) * u64::from(self.descriptor_size)
    }

    /// The first block of the first group, and how many blocks a group has.
    pub(super) const fn group_geometry(&self) -> (u32, u32) {
        (self.first_data_block, self.blocks_per_group)
    }

    /// Whether group descriptors have the older, shorter checksums.
    pub(super) const fn has_old_group_checksums(&self) -> bool {
        const RO_GDT_CSUM: u32 = 0x10;
        self.ro_compat & RO_GDT_CSUM != 0 && self.checksum_seed.is_none()
    }

    /// Blocks at the start of a group that hold copies of the superblock and the descriptors.
    pub(super) fn blocks_before_tables(&self, group: u32) -> u64 {
        let per_block = u64::from(self.block_size / u32::from(self.descriptor_size));
        let groups = (self.blocks - u64::from(self.first_data_block)).div_ceil(self.blocks_per_group.into());
        if self.has(incompat::META_BG) {
            let meta = u64::from(group) / per_block;
            let within = u64::from(group) % per_block;
            if meta >= u64::from(self.first_meta_group) {
                let holds = matches!(within, 0 | 1) || within == per_block - 1;
                return u64::from(self.has_backup(group)) + u64::from(holds);
            }
            let blocks = if self.has_backup(group) { u64::from(self.first_meta_group) } else { 0 };
            return u64::from(self.has_backup(group)) + blocks;
        }
        if self.has_backup(group) { 1 + groups.div_ceil(per_block) + u64::from(self.reserved_descriptors) } else { 0 }
    }

    pub(super) fn has_wide_descriptors(&self) -> bool {
        self.has(incompat::WIDE) && self.descriptor_size >= 64
    }

    fn has_backup(&self, group: u32) -> bool {
        const RO_SPARSE_SUPER: u32 = 0x1;
        let power_of = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group <= 1 || self.ro_compat & RO_SPARSE_SUPER == 0 || power_of(3) || power_of(5) || power_of(7)
    }
}

fn check_features(revision: u32, incompat: u32) -> Result<()> {
    if revision > 1 {
        return Err(unsupported(format!("ext superblock: revision {revision}")));
    }
    if incompat & incompat::JOURNAL_DEVICE != 0 {
        return Err(unsupported("ext: this is the external journal of another filesystem"));
    }
    if incompat & incompat::COMPRESSION != 0 {
        return Err(unsupported("ext superblock: the feature 'compression'"));
    }
    match incompat & !incompat::HANDLED {
        0 => Ok(()),
        unknown => Err(unsupported(format!("ext superblock: incompatible features {unknown:#x}"))),
    }
}

fn checksum_seed(fields: &Fields<'_>, bytes: &[u8], incompat: u32, ro_compat: u32) -> Result<Option<u32>> {
    if ro_compat & RO_METADATA_CSUM == 0 {
        return Ok(None);
    }
    let (stored, computed) = (fields.le32(0x3FC)?, checksum::crc(!0, fields.bytes(0, 0x3FC)?));
    if stored != computed {
        return Err(corrupt(format!(
            "ext superblock: its checksum is {stored:#010x}, its bytes have {computed:#010x}"
        )));
    }
    debug_assert_eq!(bytes.len(), LENGTH);
    if incompat & incompat::CSUM_SEED != 0 {
        return fields.le32(0x270).map(Some);
    }
    Ok(Some(checksum::crc(!0, fields.bytes(0x68, 16)?)))
}
