//! Putting a file's bytes into blocks, and saying which ones they are: as extents, or as a block map.

use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result};

use super::{State, uses_extents};
use crate::ext::inode::{Inode, flag};
use crate::ext::{Ext, checksum};
use crate::fields::corrupt;

/// The longest extent, in blocks.
const LONGEST: u32 = 32_768;
/// Bytes that are moved at once.
const PIECE: u64 = 1 << 20;

/// Blocks of a file that stand together: the first in the file, how many, the first on the device.
pub(in crate::ext) type Piece = (u32, u32, u64);

/// The blocks of a file in its order: the number in the file, and that on the device.
type Blocks<'a> = std::iter::Peekable<Box<dyn Iterator<Item = (u64, u64)> + 'a>>;

impl Ext {
    /// Takes blocks for the bytes of `contents` that are no holes, and writes them.
    pub(super) fn write_contents(&self, state: &mut State, inode: &mut Inode, contents: &dyn BlockRead) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size);
        let size = contents.size();
        self.check_size(size)?;
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut at, mut buffer) = (0, Vec::new());
        for extent in contents.extents() {
            let extent = extent?;
            if extent.status.reads_zero() || extent.end() <= at {
                continue;
            }
            // A block that holds any data is written whole.
            let start = extent.offset - extent.offset % block_size;
            at = at.max(start);
            while at < extent.end() {
                let wanted = (extent.end() - at).div_ceil(block_size);
                let wanted = u32::try_from(wanted).unwrap_or(LONGEST).min(LONGEST);
                let (block, count) = match self.allocate_blocks(state, inode.number, wanted) {
                    Ok(found) => found,
                    Err(error) => {
                        self.give_back(state, &pieces);
                        return Err(error);
                    }
                };
                pieces.push((u32::try_from(at / block_size).unwrap_or(u32::MAX), count, block));
                let bytes = u64::from(count) * block_size;
                if let Err(error) = self.copy(contents, at, bytes, block, &mut buffer) {
                    self.give_back(state, &pieces);
                    return Err(error);
                }
                at += bytes;
            }
        }
        if size > i32::MAX.unsigned_abs().into() {
            self.note_large_file(state);
        }
        inode.set_size(size);
        self.set_map(state, inode, &pieces).inspect_err(|_| {
            // The inode names none of them.
            inode.block_area_mut().fill(0);
            self.give_back(state, &pieces);
        })
    }

    fn check_size(&self, size: u64) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size);
        let most = if uses_extents(&self.superblock) {
            u64::from(u32::MAX) * block_size
        } else {
            let per_block = block_size / 4;
            (12 + per_block + per_block.pow(2) + per_block.pow(3)).min(u64::from(u32::MAX)) * block_size
        };
        if size > most {
            return Err(Error::new(ErrorKind::TooLarge, format!("a file of {size} bytes; ext can hold {most} here")));
        }
        Ok(())
    }

    /// Blocks that were taken for nothing. A failure here leaves blocks that are marked and unused, and hides no error.
    fn give_back(&self, state: &mut State, pieces: &[Piece]) {
        for (_, count, block) in pieces {
            drop(self.free_blocks(state, *block, u64::from(*count)));
        }
    }

    fn copy(&self, from: &dyn BlockRead, at: u64, length: u64, block: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let place = self.block_offset(block)?;
        let mut done = 0;
        while done < length {
            let count = PIECE.min(length - done);
            buffer.clear();
            buffer.resize(usize::try_from(count).unwrap_or(0), 0);
            let held = usize::try_from(from.size().saturating_sub(at + done).min(count)).unwrap_or(0);
            from.read_at(&mut buffer[..held], at + done)?;
            self.cache.write_through(buffer, place + done)?;
            done += count;
        }
        Ok(())
    }

    /// Has the inode name these blocks, in the order of the file, and counts them. What it named before is not given back.
    pub(in crate::ext) fn set_map(&self, state: &mut State, inode: &mut Inode, pieces: &[Piece]) -> Result<()> {
        let blocks: u64 = pieces.iter().map(|(_, count, _)| u64::from(*count)).sum();
        let mut tables = 0;
        inode.block_area_mut().fill(0);
        if uses_extents(&self.superblock) {
            inode.set_flag(flag::EXTENTS);
            let joined = join(pieces);
            self.set_extents(state, inode, &joined, &mut tables)?;
        } else {
            self.set_block_map(state, inode, pieces, &mut tables)?;
        }
        let own = u64::from(inode.attribute_block != 0);
        inode.set_blocks(blocks + tables + own, self.superblock.block_size);
        Ok(())
    }

    fn set_extents(&self, state: &mut State, inode: &mut Inode, pieces: &[Piece], tables: &mut u64) -> Result<()> {
        const IN_INODE: usize = 4;
        let per_block = (self.superblock.block_size as usize - 12) / 12;
        let seed = self.superblock.checksum_seed.map(|seed| inode.checksum_seed(seed));
        // Every entry of a level: where in the file it begins, and its twelve bytes.
        let mut entries: Vec<(u32, [u8; 12])> = pieces.iter().map(|piece| (piece.0, leaf_entry(*piece))).collect();
        let mut depth = 0_u16;
        while entries.len() > IN_INODE {
            let mut above = Vec::new();
            for chunk in entries.chunks(per_block) {
                let block = self.allocate_block(state, inode.number)?;
                *tables += 1;
                let mut node = node(chunk, per_block, depth);
                node.resize(self.superblock.block_size as usize, 0);
                if let Some(seed) = seed {
                    let end = 12 + per_block * 12;
                    let sum = checksum::crc(seed, &node[..end]);
                    node[end..end + 4].copy_from_slice(&sum.to_le_bytes());
                }
                self.write_block(block, &node)?;
                above.push((chunk[0].0, index_entry(chunk[0].0, block)));
            }
            entries = above;
            depth += 1;
        }
        let root = node(&entries, IN_INODE, depth);
        inode.block_area_mut()[..root.len()].copy_from_slice(&root);
        Ok(())
    }

    fn set_block_map(&self, state: &mut State, inode: &mut Inode, pieces: &[Piece], tables: &mut u64) -> Result<()> {
        let per_block = u64::from(self.superblock.block_size) / 4;
        let of_piece = |(logical, count, block): &Piece| {
            let (logical, block) = (u64::from(*logical), *block);
            (0..u64::from(*count)).map(move |at| (logical + at, block + at))
        };
        let blocks: Box<dyn Iterator<Item = (u64, u64)> + '_> = Box::new(pieces.iter().flat_map(of_piece));
        let mut blocks = blocks.peekable();
        let mut logical = 0;
        for slot in 0..15_usize {
            let level = slot.max(11) - 11;
            let span = per_block.pow(u32::try_from(level).unwrap_or(0));
            let block = self.block_map_table(state, inode.number, level, logical, &mut blocks, tables)?;
            inode.block_area_mut()[slot * 4..slot * 4 + 4].copy_from_slice(&block.to_le_bytes());
            logical += span;
        }
        match blocks.next() {
            None => Ok(()),
            Some((logical, _)) => Err(corrupt(format!("block {logical} of a file is behind what block maps reach"))),
        }
    }

    /// The block in which the map below `logical` stands, made where it has an entry; 0 for a hole.
    fn block_map_table(
        &self,
        state: &mut State,
        inode: u32,
        level: usize,
        logical: u64,
        blocks: &mut Blocks<'_>,
        tables: &mut u64,
    ) -> Result<u32> {
        let per_block = u64::from(self.superblock.block_size) / 4;
        let span = per_block.pow(u32::try_from(level).unwrap_or(0));
        if blocks.peek().is_none_or(|(next, _)| *next >= logical + span) {
            return Ok(0);
        }
        if level == 0 {
            let (_, block) = blocks.next().unwrap_or_default();
            return u32::try_from(block).map_err(|_| corrupt(format!("block {block} in a block map")));
        }
        let mut table = Vec::with_capacity(self.superblock.block_size as usize);
        for index in 0..per_block {
            let at = logical + index * (span / per_block);
            let block = self.block_map_table(state, inode, level - 1, at, blocks, tables)?;
            table.extend_from_slice(&block.to_le_bytes());
        }
        let block = self.allocate_block(state, inode)?;
        *tables += 1;
        self.write_block(block, &table)?;
        u32::try_from(block).map_err(|_| corrupt(format!("block {block} in a block map")))
    }

    /// The blocks of an inode that hold its bytes, in the order of the file, and those that hold its map.
    pub(super) fn pieces_of(&self, inode: &Inode) -> Result<(Vec<Piece>, Vec<u64>)> {
        let block_size = u64::from(self.superblock.block_size);
        let mut runs = crate::mapped::Runs::default();
        let mut tables = Vec::new();
        self.map_into(inode, &mut runs, &mut tables)?;
        let mut pieces = Vec::new();
        for (start, length, place) in runs.all() {
            let (mut logical, mut left) = (start / block_size, length / block_size);
            let Some(mut block) = place.map(|place| place / block_size) else {
                return Err(crate::fields::unsupported(format!(
                    "inode {}: changing a file with blocks that were never written",
                    inode.number
                )));
            };
            while left > 0 {
                let count = u32::try_from(left).unwrap_or(LONGEST).min(LONGEST);
                pieces.push((u32::try_from(logical).unwrap_or(u32::MAX), count, block));
                logical += u64::from(count);
                block += u64::from(count);
                left -= u64::from(count);
            }
        }
        Ok((pieces, tables))
    }

    /// Writes a block of metadata.
    pub(in crate::ext) fn write_block(&self, block: u64, bytes: &[u8]) -> Result<()> {
        self.cache.write(bytes, self.block_offset(block)?)
    }
}

/// Puts pieces together that follow each other in the file and on the device.
fn join(pieces: &[Piece]) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for &(logical, count, block) in pieces {
        match joined.last_mut() {
            Some(last)
                if last.0 + last.1 == logical && last.2 + u64::from(last.1) == block && last.1 + count <= LONGEST =>
            {
                last.1 += count;
            }
            _ => joined.push((logical, count, block)),
        }
    }
    joined
}

fn node(entries: &[(u32, [u8; 12])], most: usize, depth: u16) -> Vec<u8> {
    let mut bytes = 0xF30A_u16.to_le_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(most).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&depth.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for (_, entry) in entries {
        bytes.extend_from_slice(entry);
    }
    bytes
}

fn leaf_entry((logical, count, block): Piece) -> [u8; 12] {
    let (low, high) = super::group::split(block);
    let mut entry = [0; 12];
    entry[..4].copy_from_slice(&logical.to_le_bytes());
    entry[4..6].copy_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    entry[6..8].copy_from_slice(&high.to_le_bytes());
    entry[8..].copy_from_slice(&low.to_le_bytes());
    entry
}

fn index_entry(logical: u32, block: u64) -> [u8; 12] {
    let (low, high) = super::group::split(block);
    let mut entry = [0; 12];
    entry[..4].copy_from_slice(&logical.to_le_bytes());
    entry[4..8].copy_from_slice(&low.to_le_bytes());
    entry[8..10].copy_from_slice(&high.to_le_bytes());
    entry
}
