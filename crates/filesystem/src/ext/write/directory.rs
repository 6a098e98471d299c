//! Folders as they are written: names are put in, taken out, and hash trees taken off.

use std::collections::HashMap;
use std::ops::ControlFlow;

use transload_block::Result;

use super::{State, refuse_inline};
use crate::contract::FileKind;
use crate::ext::inode::Inode;
use crate::ext::superblock::incompat;
use crate::ext::{Ext, checksum};
use crate::fields::{Fields, corrupt};

const INDEXED: u32 = 0x1000;
/// The entry at the end of a block that holds the block's checksum.
const TAIL: usize = 12;

impl Ext {
    /// The names in a folder, which stay in memory for the next call.
    pub(super) fn names<'a>(&self, state: &'a mut State, folder: &Inode) -> Result<&'a mut HashMap<Vec<u8>, u32>> {
        if state.names.as_ref().is_none_or(|(number, _)| *number != folder.number) {
            let mut names = HashMap::new();
            self.read_entries(folder, &mut |entry| {
                names.insert(entry.name, u32::try_from(entry.id.0).unwrap_or(0));
                ControlFlow::Continue(())
            })?;
            state.names = Some((folder.number, names));
        }
        let names = state.names.as_mut();
        names.map(|(_, names)| names).ok_or_else(|| corrupt("ext: a folder without names"))
    }

    /// The bytes of a block in which entries may stand.
    fn usable(&self) -> usize {
        let block_size = self.superblock.block_size as usize;
        block_size - if self.superblock.checksum_seed.is_some() { TAIL } else { 0 }
    }

    /// The first block of a new folder.
    pub(in crate::ext) fn first_folder_block(&self, inode: &Inode, parent: u32) -> Vec<u8> {
        let mut block = vec![0; self.superblock.block_size as usize];
        self.put_entry(&mut block, 0, inode.number, 12, b".", FileKind::Directory);
        self.put_entry(&mut block, 12, parent, self.usable() - 12, b"..", FileKind::Directory);
        self.seal(&mut block, inode);
        block
    }

    /// Puts a name into a folder, behind the others in the first block that has room, or into a new block.
    pub(super) fn insert(
        &self,
        state: &mut State,
        folder: Inode,
        name: &[u8],
        number: u32,
        kind: FileKind,
    ) -> Result<()> {
        refuse_inline(&folder)?;
        let mut folder = folder;
        self.take_off_index(&mut folder)?;
        let needed = entry_size(name.len());
        let (mut pieces, tables) = self.pieces_of(&folder)?;
        // The newest block is the one that has room, if one has: older ones were full before it was made.
        let blocks = pieces.iter().flat_map(|(_, count, block)| *block..*block + u64::from(*count)).rev();
        for block in blocks.take(2) {
            let mut bytes = self.block(block)?;
            if self.insert_into(&mut bytes, needed, name, number, kind)? {
                self.seal(&mut bytes, &folder);
                self.write_block(block, &bytes)?;
                return self.inserted(state, folder, name, number);
            }
        }
        let block = self.allocate_block(state, folder.number)?;
        let mut bytes = vec![0; self.superblock.block_size as usize];
        self.put_entry(&mut bytes, 0, number, self.usable(), name, kind);
        self.seal(&mut bytes, &folder);
        self.write_block(block, &bytes)?;
        let block_size = u64::from(self.superblock.block_size);
        let at = u32::try_from(folder.size.div_ceil(block_size)).map_err(|_| corrupt("ext: a folder is too long"))?;
        pieces.push((at, 1, block));
        for table in tables {
            self.free_blocks(state, table, 1)?;
        }
        self.set_map(state, &mut folder, &pieces)?;
        folder.set_size((u64::from(at) + 1) * block_size);
        self.inserted(state, folder, name, number)
    }

    fn inserted(&self, state: &mut State, mut folder: Inode, name: &[u8], number: u32) -> Result<()> {
        folder.touch(state.now);
        self.write_inode(&mut folder)?;
        self.names(state, &folder)?.insert(name.to_vec(), number);
        Ok(())
    }

    /// Puts an entry into a block that has room for it.
    fn insert_into(&self, block: &mut [u8], needed: usize, name: &[u8], number: u32, kind: FileKind) -> Result<bool> {
        let end = self.usable();
        let mut at = 0;
        while at + 8 <= end {
            let (used, length, owner) = self.entry_at(block, at)?;
            if length - used >= needed {
                let place = at + used;
                if owner != 0 {
                    let shorter = u16::try_from(used).unwrap_or(0);
                    block[at + 4..at + 6].copy_from_slice(&shorter.to_le_bytes());
                }
                self.put_entry(block, place, number, length - used, name, kind);
                return Ok(true);
            }
            at += length;
        }
        Ok(false)
    }

    /// Of the entry at a place: the bytes in use, its length, and the inode it names.
    fn entry_at(&self, block: &[u8], at: usize) -> Result<(usize, usize, u32)> {
        let fields = Fields::new(block, "ext folder");
        let (number, stored) = (fields.le32(at)?, fields.le16(at + 4)?);
        let length = match stored {
            0 | 0xFFFF if block.len() == 1 << 16 => block.len(),
            stored => usize::from(stored),
        };
        let used = if number == 0 { 0 } else { entry_size(fields.u8(at + 6)?.into()) };
        if length < 8 || length < used || length > block.len() - at {
            return Err(fields.corrupt(format!("an entry of {length} bytes at {at} of a block")));
        }
        Ok((used, length, number))
    }

    /// Takes a name out of a folder: the entry before it takes its room.
    pub(super) fn take_out(&self, state: &mut State, folder: &Inode, name: &[u8]) -> Result<()> {
        refuse_inline(folder)?;
        let (pieces, _) = self.pieces_of(folder)?;
        for block in pieces.iter().flat_map(|(_, count, block)| *block..*block + u64::from(*count)) {
            let mut bytes = self.block(block)?;
            if self.take_out_of(&mut bytes, name)? {
                self.seal(&mut bytes, folder);
                self.write_block(block, &bytes)?;
                self.names(state, folder)?.remove(name);
                let mut folder = folder.clone();
                folder.touch(state.now);
                return self.write_inode(&mut folder);
            }
        }
        Err(crate::path::missing(name))
    }

    fn take_out_of(&self, block: &mut [u8], name: &[u8]) -> Result<bool> {
        let (mut at, mut before) = (0, None);
        while at + 8 <= self.usable() {
            let (_, length, number) = self.entry_at(block, at)?;
            let found = Fields::new(block, "ext folder").bytes(at + 8, block[at + 6].into())? == name;
            if number != 0 && found {
                match before {
                    Some((place, size)) => {
                        let joined = u16::try_from(size + length).unwrap_or(u16::MAX);
                        block[place + 4..place + 6].copy_from_slice(&u16::to_le_bytes(joined));
                    }
                    None => block[at..at + 4].fill(0),
                }
                return Ok(true);
            }
            before = Some((at, length));
            at += length;
        }
        Ok(false)
    }

    /// Turns a folder with a hash tree into a list: the tree's nodes become empty blocks of the list.
    fn take_off_index(&self, folder: &mut Inode) -> Result<()> {
        if !folder.has(INDEXED) {
            return Ok(());
        }
        let (pieces, _) = self.pieces_of(folder)?;
        for (index, block) in pieces.iter().flat_map(|(_, count, block)| *block..*block + u64::from(*count)).enumerate()
        {
            let mut bytes = self.block(block)?;
            let end = self.usable();
            let (_, length, number) = self.entry_at(&bytes, 0)?;
            if index == 0 {
                // "." and "..", and behind them the root of the tree, which they have to cover.
                bytes[24..].fill(0);
                let rest = u16::try_from(end - 12).unwrap_or(u16::MAX);
                bytes[16..18].copy_from_slice(&rest.to_le_bytes());
            } else if number == 0 && length == bytes.len() {
                bytes.fill(0);
                self.put_entry(&mut bytes, 0, 0, end, b"", FileKind::Regular);
            } else {
                continue;
            }
            self.seal(&mut bytes, folder);
            self.write_block(block, &bytes)?;
        }
        folder.clear_flag(INDEXED);
        self.write_inode(folder)
    }

    fn put_entry(&self, block: &mut [u8], at: usize, number: u32, length: usize, name: &[u8], kind: FileKind) {
        // A length of 65536 is written as 0.
        let stored = u16::try_from(length).unwrap_or(0);
        let code = if self.superblock.has(incompat::FILETYPE) && number != 0 { code_of(kind) } else { 0 };
        block[at..at + 4].copy_from_slice(&number.to_le_bytes());
        block[at + 4..at + 6].copy_from_slice(&stored.to_le_bytes());
        block[at + 6] = u8::try_from(name.len()).unwrap_or(u8::MAX);
        block[at + 7] = code;
        block[at + 8..at + 8 + name.len()].copy_from_slice(name);
    }

    /// Writes the checksum at the end of a block of entries, where the filesystem has them.
    fn seal(&self, block: &mut [u8], folder: &Inode) {
        let Some(seed) = self.superblock.checksum_seed else { return };
        let end = self.usable();
        let sum = checksum::crc(folder.checksum_seed(seed), &block[..end]);
        block[end..end + 8].copy_from_slice(&[0, 0, 0, 0, 12, 0, 0, 0xDE]);
        block[end + 8..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bytes of an entry with a name of this length.
const fn entry_size(name: usize) -> usize {
    (8 + name).next_multiple_of(4)
}

const fn code_of(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::CharDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Socket => 6,
        FileKind::Symlink => 7,
    }
}
