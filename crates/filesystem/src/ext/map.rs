//! Which blocks of the device a file's bytes stand in: the extent tree of ext4, and the block map of ext2 and ext3.

use std::ops::Range;

use transload_block::Result;

use super::inode::{Inode, flag};
use super::{Ext, checksum};
use crate::fields::{Fields, corrupt, in_memory};
use crate::mapped::{MappedFile, Runs};

const EXTENT_MAGIC: u16 = 0xF30A;
/// Levels below the root. Five suffice for the largest file with blocks of 1024 bytes.
const DEEPEST: u16 = 5;
/// Extents longer than this are allocated, but were never written.
const LONGEST_WRITTEN: u16 = 32768;
/// Block numbers that stand in the inode itself, before the three tables of tables.
const DIRECT: u64 = 12;

impl Ext {
    /// The bytes of an inode that has blocks: a file, a folder, a long link.
    pub(super) fn mapped(&self, inode: &Inode) -> Result<MappedFile> {
        let mut runs = Runs::default();
        self.map_into(inode, &mut runs, &mut Vec::new())?;
        let file = MappedFile::new(self.cache.device().clone(), runs, inode.size, u64::MAX);
        file.map_err(|error| error.context(format_args!("inode {}", inode.number)))
    }

    /// Adds the runs of an inode, up to its size, and the blocks in which they are written down.
    pub(super) fn map_into(&self, inode: &Inode, runs: &mut Runs, tables: &mut Vec<u64>) -> Result<()> {
        if inode.has(flag::ENCRYPT) {
            let text = format!("inode {}: ext4 encryption (fscrypt)", inode.number);
            return Err(crate::fields::unsupported(text));
        }
        self.map_whole(inode, runs, tables)
    }

    /// As [`map_into`](Self::map_into), whatever the bytes are.
    pub(super) fn map_whole(&self, inode: &Inode, runs: &mut Runs, tables: &mut Vec<u64>) -> Result<()> {
        let done = if inode.has(flag::EXTENTS) {
            self.extents(inode, runs, tables)
        } else {
            self.block_map(inode, runs, tables)
        };
        done.map_err(|error| error.context(format_args!("inode {}", inode.number)))
    }

    fn extents(&self, inode: &Inode, runs: &mut Runs, tables: &mut Vec<u64>) -> Result<()> {
        let root = Fields::new(inode.block_area(), "ext4 extent tree");
        let depth = root.le16(6)?;
        if depth > DEEPEST {
            return Err(root.corrupt(format!("its depth is {depth}, at most {DEEPEST} is possible")));
        }
        let seed = self.superblock.checksum_seed.map(|seed| inode.checksum_seed(seed));
        self.extent_node(inode.block_area(), depth, seed, runs, tables)
    }

    /// Adds what one node of the tree says. Every node below the root has an entry, and entries are in the order of the
    /// file: a tree that lies ends where it goes back.
    fn extent_node(
        &self,
        node: &[u8],
        depth: u16,
        seed: Option<u32>,
        runs: &mut Runs,
        tables: &mut Vec<u64>,
    ) -> Result<()> {
        let fields = Fields::new(node, "ext4 extent node");
        let (magic, count, found) = (fields.le16(0)?, fields.le16(2)?, fields.le16(6)?);
        if magic != EXTENT_MAGIC || found != depth {
            return Err(fields.corrupt(format!("its magic is {magic:#06x} and its depth {found}, not {depth}")));
        }
        let block_size = u64::from(self.superblock.block_size);
        let mut next = None;
        for index in 0..usize::from(count) {
            let at = 12 + index * 12;
            let logical = fields.le32(at)?;
            if next.is_some_and(|next| u64::from(logical) < next) {
                return Err(fields.corrupt(format!("entry {index} at block {logical} of the file goes back")));
            }
            if depth > 0 {
                next = Some(u64::from(logical) + 1);
                let child = u64::from(fields.le16(at + 8)?) << 32 | u64::from(fields.le32(at + 4)?);
                self.extent_child(child, depth - 1, seed, runs, tables)?;
                continue;
            }
            let length = fields.le16(at + 4)?;
            let block = u64::from(fields.le16(at + 6)?) << 32 | u64::from(fields.le32(at + 8)?);
            let written = length <= LONGEST_WRITTEN;
            let length = if written { length } else { length - LONGEST_WRITTEN };
            next = Some(u64::from(logical) + u64::from(length));
            let (start, bytes) = (u64::from(logical) * block_size, u64::from(length) * block_size);
            if written {
                runs.push(start, bytes, self.block_offset(block)?)?;
            } else {
                runs.push_zeroes(start, bytes)?;
            }
        }
        Ok(())
    }

    fn extent_child(
        &self,
        block: u64,
        depth: u16,
        seed: Option<u32>,
        runs: &mut Runs,
        tables: &mut Vec<u64>,
    ) -> Result<()> {
        tables.push(block);
        let node = self.block(block)?;
        let fields = Fields::new(&node, "ext4 extent node");
        let (count, most) = (fields.le16(2)?, fields.le16(4)?);
        if count == 0 || count > most {
            return Err(fields.corrupt(format!("block {block} has {count} entries of at most {most}")));
        }
        if let Some(seed) = seed {
            let end = 12 + usize::from(most) * 12;
            let (stored, computed) = (fields.le32(end)?, checksum::crc(seed, fields.bytes(0, end)?));
            if stored != computed {
                let text = format!("the checksum of block {block} is {stored:#010x}, its bytes have {computed:#010x}");
                return Err(fields.corrupt(text));
            }
        }
        let before = runs.end();
        self.extent_node(&node, depth, seed, runs, tables)?;
        if runs.end() == before && depth > 0 {
            return Err(fields.corrupt(format!("block {block} leads to nothing")));
        }
        Ok(())
    }

    fn block_map(&self, inode: &Inode, runs: &mut Runs, tables: &mut Vec<u64>) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size);
        let per_block = block_size / 4;
        let blocks = inode.size.div_ceil(block_size);
        let area = Fields::new(inode.block_area(), "ext block map");
        let mut logical = 0;
        for index in 0..15 {
            let level = index.max(11) - 11;
            let span = per_block.pow(u32::try_from(level).unwrap_or(0));
            if logical >= blocks {
                return Ok(());
            }
            let block = area.le32(index * 4)?;
            self.block_map_node(block, level, logical..blocks, runs, tables)?;
            logical += if index < 12 { 1 } else { span };
            debug_assert!(index >= 12 || logical <= DIRECT);
        }
        if logical < blocks {
            return Err(area.corrupt(format!("a file of {} bytes is longer than block maps reach", inode.size)));
        }
        Ok(())
    }

    /// Adds the blocks below a table of `level`; level 0 is a block of the file itself.
    fn block_map_node(
        &self,
        block: u32,
        level: usize,
        Range { start: logical, end: blocks }: Range<u64>,
        runs: &mut Runs,
        tables: &mut Vec<u64>,
    ) -> Result<()> {
        if block == 0 {
            return Ok(());
        }
        let block_size = u64::from(self.superblock.block_size);
        if level == 0 {
            return runs.push(logical * block_size, block_size, self.block_offset(block.into())?);
        }
        let per_block = block_size / 4;
        let span = per_block.pow(u32::try_from(level - 1).unwrap_or(0));
        let table = self.block(block.into())?;
        tables.push(block.into());
        let (entries, _) = table.as_chunks::<4>();
        for (index, entry) in (0_u64..).zip(entries) {
            let at = logical + index * span;
            if at >= blocks {
                break;
            }
            self.block_map_node(u32::from_le_bytes(*entry), level - 1, at..blocks, runs, tables)?;
        }
        Ok(())
    }

    /// Reads a block of metadata.
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>> {
        self.cache
            .read_vec(self.block_offset(block)?, in_memory(self.superblock.block_size.into(), 64 << 10, "a block")?)
    }

    /// Where a block stands, in bytes.
    pub(super) fn block_offset(&self, block: u64) -> Result<u64> {
        if block == 0 || block >= self.superblock.blocks {
            return Err(corrupt(format!("block {block} of a filesystem of {} blocks", self.superblock.blocks)));
        }
        Ok(block * u64::from(self.superblock.block_size))
    }
}
