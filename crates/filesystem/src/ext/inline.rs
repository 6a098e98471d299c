//! Inline data: small files and folders whose bytes stand in the inode, sixty in place of the block map and the rest as
//! the extended attribute `system.data`.

use transload_block::Result;

use super::Ext;
use super::inode::Inode;
use super::xattr::{self, Scope};
use crate::fields::{corrupt, in_memory};

/// What replaces the block map.
const IN_MAP: usize = 60;

impl Ext {
    /// The bytes of an inode with inline data, cut to its size.
    pub(super) fn inline_bytes(&self, inode: &Inode) -> Result<Vec<u8>> {
        let size = in_memory(inode.size, 64 << 10, "a file with inline data")?;
        let mut bytes = inode.block_area().to_vec();
        if size > IN_MAP {
            let found =
                xattr::parse(inode.attribute_area(), Scope::Inode)?.into_iter().find(xattr::Raw::is_inline_data);
            bytes.extend(found.map(|raw| raw.value).unwrap_or_default());
        }
        if bytes.len() < size {
            let held = bytes.len();
            return Err(corrupt(format!("inode {}: {held} bytes of inline data of {size}", inode.number)));
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}

/// The two lists of entries of a folder with inline data: behind the parent's number in the map, and in the attribute.
pub(super) fn folder_parts(bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let first = bytes.get(4..bytes.len().min(IN_MAP)).ok_or_else(|| corrupt("an inline folder without its parent"))?;
    let mut parts = vec![first];
    if let Some(second) = bytes.get(IN_MAP..).filter(|part| !part.is_empty()) {
        parts.push(second);
    }
    Ok(parts)
}
