//! Taking and giving back blocks and inodes.

use transload_block::{Error, ErrorKind, Result};

use super::State;
use super::group::{clear, is_set, set};
use crate::contract::FileKind;
use crate::ext::Ext;
use crate::fields::corrupt;

impl Ext {
    /// Takes one block.
    pub(in crate::ext) fn allocate_block(&self, state: &mut State, inode: u32) -> Result<u64> {
        self.allocate_blocks(state, inode, 1).map(|(block, _)| block)
    }

    /// Takes at least one block and at most `most` that stand together, as soon behind those taken before as there are any.
    /// The first search of an inode begins in its group.
    pub(in crate::ext) fn allocate_blocks(&self, state: &mut State, inode: u32, most: u32) -> Result<(u64, u32)> {
        let (first, per_group) = self.superblock.group_geometry();
        let count = u32::try_from(state.groups.len()).unwrap_or(u32::MAX);
        let home = (inode.saturating_sub(1)) / self.superblock.inodes_per_group;
        let hint = state.next_block.max(self.group_blocks(home).0);
        let start = u32::try_from((hint - u64::from(first)) / u64::from(per_group)).unwrap_or(0).min(count - 1);
        // The group of the hint comes twice: behind the hint first, and all of it in the end.
        for step in 0..=count {
            let number = (start + step) % count;
            let group = &mut state.groups[number as usize];
            if group.free_blocks() == 0 {
                continue;
            }
            let (base, length) = self.group_blocks(number);
            let mut bits = self.block_bits(group, number)?;
            let from = if step == 0 { hint.saturating_sub(base) } else { 0 };
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let Some(bit) = first_clear(&bits, from, length as usize) else { continue };
            let mut taken = 0;
            while taken < most && bit + (taken as usize) < length as usize && !is_set(&bits, bit + taken as usize) {
                set(&mut bits, bit + taken as usize);
                taken += 1;
            }
            let bitmap = group.block_bitmap();
            self.write_bits(group, bitmap, &bits)?;
            let free = group.free_blocks().checked_sub(taken);
            group
                .set_free_blocks(free.ok_or_else(|| corrupt(format!("ext group {number}: its count of free blocks")))?);
            state.free_blocks = state.free_blocks.saturating_sub(taken.into());
            let block = base + bit as u64;
            state.next_block = block + u64::from(taken);
            return Ok((block, taken));
        }
        let blocks = self.superblock.blocks;
        Err(Error::new(ErrorKind::NoSpace, format!("ext: all {blocks} blocks are in use")))
    }

    /// Gives blocks back.
    pub(super) fn free_blocks(&self, state: &mut State, block: u64, count: u64) -> Result<()> {
        let (first, per_group) = self.superblock.group_geometry();
        let mut block = block;
        let end = block.saturating_add(count);
        while block < end {
            let number = (block - u64::from(first)) / u64::from(per_group);
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let group = state.groups.get_mut(index).ok_or_else(|| corrupt(format!("block {block} is in no group")))?;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let (base, length) = self.group_blocks(number);
            let mut bits = self.block_bits(group, number)?;
            let upto = end.min(base + u64::from(length));
            let mut freed = 0;
            for at in block..upto {
                let bit = usize::try_from(at - base).unwrap_or(usize::MAX);
                if !is_set(&bits, bit) {
                    return Err(corrupt(format!("block {at} of a file is marked as free")));
                }
                clear(&mut bits, bit);
                freed += 1;
            }
            let bitmap = group.block_bitmap();
            self.write_bits(group, bitmap, &bits)?;
            group.set_free_blocks(group.free_blocks() + freed);
            state.free_blocks += u64::from(freed);
            block = upto;
        }
        Ok(())
    }

    /// Takes an inode, in the group of its folder where that has one.
    pub(super) fn allocate_inode(&self, state: &mut State, parent: u32, kind: FileKind) -> Result<u32> {
        let per_group = self.superblock.inodes_per_group;
        let count = u32::try_from(state.groups.len()).unwrap_or(u32::MAX);
        let start = ((parent - 1) / per_group).min(count - 1);
        for step in 0..count {
            let number = (start + step) % count;
            let group = &mut state.groups[number as usize];
            if group.free_inodes() == 0 {
                continue;
            }
            let mut bits = self.inode_bits(group)?;
            let reserved = if number == 0 { self.first_inode(&state.superblock) - 1 } else { 0 };
            let Some(bit) = first_clear(&bits, reserved as usize, per_group as usize) else { continue };
            set(&mut bits, bit);
            let bitmap = group.inode_bitmap();
            self.write_bits(group, bitmap, &bits)?;
            let index = u32::try_from(bit).unwrap_or(u32::MAX);
            group.set_free_inodes(group.free_inodes() - 1);
            group.note_used_inode(index, per_group);
            if kind == FileKind::Directory {
                group.set_folders(group.folders() + 1);
            }
            state.free_inodes = state.free_inodes.saturating_sub(1);
            return Ok(number * per_group + index + 1);
        }
        let inodes = self.superblock.inodes;
        Err(Error::new(ErrorKind::NoSpace, format!("ext: all {inodes} inodes are in use")))
    }

    /// Gives an inode back.
    pub(super) fn release_inode(&self, state: &mut State, number: u32, kind: FileKind) -> Result<()> {
        let per_group = self.superblock.inodes_per_group;
        let (index, bit) = ((number - 1) / per_group, (number - 1) % per_group);
        let group =
            state.groups.get_mut(index as usize).ok_or_else(|| corrupt(format!("inode {number} is in no group")))?;
        let mut bits = self.inode_bits(group)?;
        if !is_set(&bits, bit as usize) {
            return Err(corrupt(format!("inode {number} is in use and marked as free")));
        }
        clear(&mut bits, bit as usize);
        let bitmap = group.inode_bitmap();
        self.write_bits(group, bitmap, &bits)?;
        group.set_free_inodes(group.free_inodes() + 1);
        if kind == FileKind::Directory {
            group.set_folders(group.folders().saturating_sub(1));
        }
        state.free_inodes += 1;
        Ok(())
    }

    /// The first inode that is not the filesystem's own.
    fn first_inode(&self, superblock: &[u8]) -> u32 {
        let dynamic = superblock[0x4C] >= 1;
        let stored = u32::from_le_bytes([superblock[0x54], superblock[0x55], superblock[0x56], superblock[0x57]]);
        if dynamic { stored.clamp(11, self.superblock.inodes_per_group.max(11)) } else { 11 }
    }
}

/// The first bit from `from` on and before `end` that is not set.
fn first_clear(bits: &[u8], from: usize, end: usize) -> Option<usize> {
    let mut bit = from;
    while bit < end {
        if bit.is_multiple_of(8) && bits[bit / 8] == 0xFF {
            bit += 8;
        } else if is_set(bits, bit) {
            bit += 1;
        } else {
            return Some(bit);
        }
    }
    None
}
