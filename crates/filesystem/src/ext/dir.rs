//! Folders: a list of entries in blocks. The hash tree of a large folder looks like empty entries to whoever reads in order.

use std::ops::ControlFlow;

use transload_block::{BlockRead, BlockReadExt, Result};

use super::inode::{Inode, flag};
use super::{Ext, inline};
use crate::contract::{Entry, FileId, FileKind};
use crate::fields::{Fields, invalid, unsupported};

/// Folders are no longer than this: with 2^32 inodes and names of 255 bytes more would be empty.
const LONGEST: u64 = 1 << 40;

impl Ext {
    pub(super) fn read_entries(&self, inode: &Inode, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        if inode.kind != FileKind::Directory {
            return Err(invalid(format!("inode {} is no folder", inode.number)));
        }
        if inode.has(flag::ENCRYPT) {
            return Err(unsupported(format!("inode {}: a folder under ext4 encryption (fscrypt)", inode.number)));
        }
        if inode.has(flag::INLINE_DATA) {
            for part in inline::folder_parts(&self.inline_bytes(inode)?)? {
                if self.block_entries(part, inode.number, each)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let file = self.mapped(inode)?;
        if inode.size > LONGEST {
            return Err(crate::fields::corrupt(format!("inode {}: a folder of {} bytes", inode.number, inode.size)));
        }
        let block_size = u64::from(self.superblock.block_size);
        let mut offset = 0;
        while offset < inode.size {
            // A folder has no holes but those that a lie puts there; they must not take time.
            let extent = file.block_status(offset..inode.size)?;
            if extent.status.reads_zero() {
                offset = extent.end().next_multiple_of(block_size);
                continue;
            }
            let block = self.folder_block(&file, offset, block_size.min(inode.size - offset))?;
            if self.block_entries(&block, inode.number, each)?.is_break() {
                return Ok(());
            }
            offset += block_size;
        }
        Ok(())
    }

    fn folder_block(&self, file: &crate::mapped::MappedFile, offset: u64, length: u64) -> Result<Vec<u8>> {
        match file.place(offset, length) {
            Some(place) => self.cache.read_vec(place, usize::try_from(length).unwrap_or(0)),
            None => file.read_vec(offset, length),
        }
    }

    /// Hands out the entries of one block.
    fn block_entries(
        &self,
        block: &[u8],
        folder: u32,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let fields = Fields::new(block, "ext folder");
        let has_kind = self.superblock.has(super::superblock::incompat::FILETYPE);
        let mut at = 0;
        while at + 8 <= block.len() {
            let (number, length) = (fields.le32(at)?, entry_length(fields.le16(at + 4)?, block.len()));
            let (name_length, kind) = (fields.u8(at + 6)?, fields.u8(at + 7)?);
            let name_length = usize::from(name_length);
            if length < 8 || !length.is_multiple_of(4) || length > block.len() - at {
                return Err(fields.corrupt(format!("inode {folder}: an entry of {length} bytes at {at} of a block")));
            }
            if number != 0 {
                if name_length + 8 > length {
                    let text = format!("inode {folder}: a name of {name_length} bytes in an entry of {length}");
                    return Err(fields.corrupt(text));
                }
                let name = fields.bytes(at + 8, name_length)?;
                if !matches!(name, b"." | b"..") {
                    if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                        let name = name.escape_ascii();
                        return Err(fields.corrupt(format!("inode {folder}: the name \"{name}\"")));
                    }
                    let kind = if has_kind { kind_of(kind) } else { None };
                    let entry = Entry { name: name.to_vec(), id: FileId(number.into()), kind };
                    if each(entry).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            at += length;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The length of an entry. Sixteen bits cannot say 65536; lengths are multiples of four, which leaves two bits for more.
fn entry_length(stored: u16, block: usize) -> usize {
    match stored {
        0 | 0xFFFF if block == 1 << 16 => block,
        _ if block > 1 << 16 => usize::from(stored & 0xFFFC) | usize::from(stored & 3) << 16,
        _ => usize::from(stored),
    }
}

fn kind_of(code: u8) -> Option<FileKind> {
    Some(match code {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::CharDevice,
        4 => FileKind::BlockDevice,
        5 => FileKind::Fifo,
        6 => FileKind::Socket,
        7 => FileKind::Symlink,
        _ => return None,
    })
}
