//! Folders: in the inode, or in blocks of entries before the hash index, which is not needed to list them.

use std::ops::ControlFlow;

use transload_block::{BlockRead, BlockReadExt, Result};

use super::Xfs;
use super::inode::{Form, Inode};
use crate::contract::{Entry, FileId, FileKind};
use crate::fields::{Fields, corrupt, invalid};

/// From here on a folder has its index, and not names.
const INDEX: u64 = 32 << 30;

impl Xfs {
    pub(super) fn read_entries(&self, inode: &Inode, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        if inode.kind != FileKind::Directory {
            return Err(invalid(format!("XFS: inode {} is no folder", inode.number)));
        }
        if inode.form == Form::Local {
            return self.short(inode, each);
        }
        let file = self.mapped(inode, INDEX)?;
        let block_size = u64::from(self.superblock.block_size) << self.superblock.folder_log;
        let mut offset = 0;
        while offset < INDEX {
            let extent = file.block_status(offset..INDEX)?;
            if extent.status.reads_zero() {
                offset = extent.end().next_multiple_of(block_size);
                continue;
            }
            let block = match file.place(offset, block_size) {
                Some(place) => self.cache.read_vec(place, usize::try_from(block_size).unwrap_or(0))?,
                None => file.read_vec(offset, block_size)?,
            };
            if self.block_entries(&block, inode.number, each)?.is_break() {
                return Ok(());
            }
            offset += block_size;
        }
        Ok(())
    }

    /// The entries of a folder that stands in its inode.
    fn short(&self, inode: &Inode, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        let fields = Fields::new(inode.data_fork(), "XFS short folder");
        let (count, wide) = (fields.u8(0)?, fields.u8(1)? > 0);
        let (number_size, count) = if wide { (8, count.max(fields.u8(1)?)) } else { (4, count) };
        let mut at = 2 + number_size;
        for _ in 0..count {
            let length = usize::from(fields.u8(at)?);
            let name = fields.bytes(at + 3, length)?;
            at += 3 + length;
            let kind = if self.superblock.has_kinds { Some(fields.u8(at)?) } else { None };
            at += usize::from(self.superblock.has_kinds);
            let number = if wide { fields.be64(at)? } else { fields.be32(at)?.into() };
            at += number_size;
            if each(entry(name, number, kind, inode.number)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn block_entries(
        &self,
        block: &[u8],
        folder: u64,
        each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        const FREE: u16 = 0xFFFF;
        let fields = Fields::new(block, "XFS folder");
        let (mut at, end) = match fields.bytes(0, 4)? {
            b"XD2D" => (16, block.len()),
            b"XDD3" => (64, block.len()),
            // A single block has its index at its end.
            magic @ (b"XD2B" | b"XDB3") => {
                let count = usize::try_from(fields.be32(block.len() - 8)?).unwrap_or(usize::MAX);
                let index = count.saturating_mul(8).saturating_add(8);
                (if magic == b"XD2B" { 16 } else { 64 }, block.len().saturating_sub(index))
            }
            other => return Err(fields.corrupt(format!("inode {folder}: a block \"{}\"", other.escape_ascii()))),
        };
        while at + 8 <= end {
            if fields.be16(at)? == FREE {
                let length = usize::from(fields.be16(at + 2)?);
                if length < 8 || !length.is_multiple_of(8) {
                    return Err(fields.corrupt(format!("inode {folder}: {length} free bytes at {at} of a block")));
                }
                at += length;
                continue;
            }
            let number = fields.be64(at)?;
            let length = usize::from(fields.u8(at + 8)?);
            let name = fields.bytes(at + 9, length)?;
            let kind = if self.superblock.has_kinds { Some(fields.u8(at + 9 + length)?) } else { None };
            if !matches!(name, b"." | b"..") && each(entry(name, number, kind, folder)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at += (8 + 1 + length + usize::from(self.superblock.has_kinds) + 2).next_multiple_of(8);
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn entry(name: &[u8], number: u64, kind: Option<u8>, folder: u64) -> Result<Entry> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(corrupt(format!("XFS: inode {folder} has the name \"{}\"", name.escape_ascii())));
    }
    let kind = kind.and_then(|code| {
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
    });
    Ok(Entry { name: name.to_vec(), id: FileId(number), kind })
}
