//! Folders: an index of names, in the record and in blocks of their own.

use std::ops::ControlFlow;

use transload_block::{BlockReadExt, Result};

use super::record::{Body, kind, reference, repair};
use super::{FIRST_OF_USERS, File, Ntfs, ROOT_RECORD};
use crate::contract::{Entry, FileId};
use crate::fields::{Fields, corrupt, in_memory, invalid};
use crate::text::{le_units, utf8_of};

/// Names in the form that DOS can read, each beside a longer one.
const DOS_NAME: u8 = 2;
/// The longest bitmap of an index: one for 2^32 blocks would be 512 MiB, one in use has kilobytes.
const LONGEST_BITMAP: u64 = 64 << 20;

impl Ntfs {
    /// Hands out the names in a folder. All blocks that are in use are read in their order, which visits each once.
    pub(super) fn read_index(&self, file: &File, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<()> {
        if !file.is_folder {
            return Err(invalid(format!("NTFS: record {} is no folder", file.number)));
        }
        let roots = file.parts(kind::INDEX_ROOT, INDEX_NAME);
        let Some(Body::Resident(root)) = roots.first().map(|part| &part.body) else {
            return Err(corrupt(format!("NTFS: the folder {} has no index", file.number)));
        };
        let fields = Fields::new(root, "NTFS index root");
        let block_size = u64::from(fields.le32(8)?);
        if names(root, 16, each)?.is_break() {
            return Ok(());
        }
        let allocation = file.parts(kind::INDEX_ALLOCATION, INDEX_NAME);
        if allocation.is_empty() {
            return Ok(());
        }
        if !block_size.is_power_of_two() || !(512..=64 << 10).contains(&block_size) {
            return Err(fields.corrupt(format!("blocks of {block_size} bytes")));
        }
        let blocks = self.value(&allocation)?;
        let bitmap = self.value(&file.parts(kind::BITMAP, INDEX_NAME))?;
        let length = bitmap.size().min((blocks.size() / block_size).div_ceil(8));
        in_memory(length, LONGEST_BITMAP, "the bitmap of a folder")?;
        let used = bitmap.read_vec(0, length)?;
        for (index, byte) in (0_u64..).zip(&used) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 != 0) {
                let offset = (index * 8 + bit) * block_size;
                if offset + block_size > blocks.size() {
                    continue;
                }
                let mut block = blocks.read_vec(offset, block_size)?;
                repair(&mut block, b"INDX", "an index block")?;
                if names(&block, 24, each)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The name of the index of file names.
pub(super) const INDEX_NAME: &str = "$I30";

/// Hands out the names in a node whose header stands at `header`.
fn names(bytes: &[u8], header: usize, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<ControlFlow<()>> {
    const LAST: u16 = 2;
    let fields = Fields::new(bytes, "NTFS index");
    let place = |at| fields.le32(at).map(|value| usize::try_from(value).unwrap_or(usize::MAX));
    let (first, length) = (place(header)?, place(header + 4)?);
    let end = header.saturating_add(length).min(bytes.len());
    let mut at = header.saturating_add(first);
    // An entry has at least 16 bytes: the list ends within the node.
    while at < end {
        let (size, key, flags) = (fields.le16(at + 8)?, fields.le16(at + 10)?, fields.le16(at + 12)?);
        if flags & LAST != 0 {
            break;
        }
        if size < 16 || usize::from(size) > end - at {
            return Err(fields.corrupt(format!("an entry of {size} bytes at {at}")));
        }
        let name = Fields::new(fields.bytes(at + 16, key.into())?, "NTFS file name");
        if let Some(entry) = entry(fields.le64(at)?, &name)?
            && each(entry).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        at += usize::from(size);
    }
    Ok(ControlFlow::Continue(()))
}

fn entry(file: u64, name: &Fields<'_>) -> Result<Option<Entry>> {
    let record = reference(file);
    let (units, space) = (usize::from(name.u8(64)?), name.u8(65)?);
    // The filesystem's own files are not for users; the root folder names itself.
    if space == DOS_NAME || record < FIRST_OF_USERS || record == ROOT_RECORD {
        return Ok(None);
    }
    let text = utf8_of(le_units(name.bytes(66, units * 2)?));
    if text.is_empty() || matches!(text.as_slice(), b"." | b"..") || text.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(corrupt(format!("NTFS: record {record} has the name \"{}\"", text.escape_ascii())));
    }
    Ok(Some(Entry { name: text, id: FileId(record), kind: None }))
}
