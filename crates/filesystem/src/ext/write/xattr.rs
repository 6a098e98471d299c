//! Extended attributes as they are written: in the inode where they fit, else in a block of their own.

use transload_block::{Error, ErrorKind, Result};

use super::State;
use crate::contract::Xattr;
use crate::ext::inode::Inode;
use crate::ext::{Ext, checksum};
use crate::fields::{Fields, invalid, unsupported};
use crate::write::Attributes;

const MAGIC: u32 = 0xEA02_0000;

/// An attribute as it will be stored.
#[derive(Debug)]
struct Stored {
    index: u8,
    suffix: Vec<u8>,
    value: Vec<u8>,
}

impl Stored {
    fn new(xattr: &Xattr) -> Result<Self> {
        const PREFIXES: &[(&[u8], u8)] = &[(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
        let lists: [(&[u8], u8); 2] = [(b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3)];
        if let Some((_, index)) = lists.iter().find(|(name, _)| *name == xattr.name) {
            return Ok(Self { index: *index, suffix: Vec::new(), value: access_list(&xattr.value)? });
        }
        let found = PREFIXES.iter().find_map(|(prefix, index)| Some((xattr.name.strip_prefix(*prefix)?, *index)));
        let (suffix, index) = match found {
            Some((suffix, index)) => (suffix.to_vec(), index),
            None => return Err(unsupported(format!("the attribute \"{}\" in ext", xattr.name.escape_ascii()))),
        };
        if suffix.is_empty() || suffix.len() > 255 {
            return Err(invalid(format!("the attribute name \"{}\"", xattr.name.escape_ascii())));
        }
        Ok(Self { index, suffix, value: xattr.value.clone() })
    }

    /// The bytes of its entry and of its value, in units of four.
    fn size(&self) -> usize {
        (16 + self.suffix.len()).next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    fn hash(&self) -> u32 {
        let name = self.suffix.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        let mut value = self.value.clone();
        value.resize(value.len().next_multiple_of(4), 0);
        let (words, _) = value.as_chunks::<4>();
        words.iter().fold(name, |hash, word| hash.rotate_left(16) ^ u32::from_le_bytes(*word))
    }
}

impl Ext {
    /// Gives the inode exactly these attributes; nothing changes where `attributes` has none to say.
    pub(super) fn set_xattrs(&self, state: &mut State, inode: &mut Inode, attributes: &Attributes) -> Result<()> {
        let Some(xattrs) = &attributes.xattrs else { return Ok(()) };
        let had_block = inode.attribute_block != 0;
        if xattrs.is_empty() && !had_block && inode.attribute_area().iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        super::refuse_inline(inode)?;
        let mut stored = xattrs.iter().map(Stored::new).collect::<Result<Vec<_>>>()?;
        // The kernel looks attributes of a block up in this order, and gives up where it is passed.
        stored.sort_by(|one, other| {
            (one.index, one.suffix.len(), &one.suffix).cmp(&(other.index, other.suffix.len(), &other.suffix))
        });
        let blocks = inode.sectors / u64::from(self.superblock.block_size / 512);
        self.drop_attribute_block(state, inode)?;
        let blocks = blocks - u64::from(had_block);
        let area = inode.attribute_area().len();
        // Small ones first into the inode, as many as there is room for; the rest into a block.
        let (mut inside, mut outside, mut used) = (Vec::new(), Vec::new(), 8);
        for attribute in stored {
            if used + attribute.size() <= area {
                used += attribute.size();
                inside.push(attribute);
            } else {
                outside.push(attribute);
            }
        }
        if area >= 8 {
            let bytes = if inside.is_empty() { vec![0; area] } else { pack(&inside, area, 4, 4) };
            let start = inode.raw.len() - area;
            inode.raw[start..].copy_from_slice(&bytes);
        }
        if !xattrs.is_empty() {
            self.note_attributes(state);
        }
        let mut more = 0;
        if !outside.is_empty() {
            self.write_attribute_block(state, inode, &outside)?;
            more = 1;
        }
        inode.set_blocks(blocks + more, self.superblock.block_size);
        Ok(())
    }

    fn write_attribute_block(&self, state: &mut State, inode: &mut Inode, attributes: &[Stored]) -> Result<()> {
        let size = self.superblock.block_size as usize;
        let needed: usize = 36 + attributes.iter().map(Stored::size).sum::<usize>();
        if needed > size {
            let text = format!("extended attributes of {needed} bytes, ext has a block of {size}");
            return Err(Error::new(ErrorKind::NoSpace, text));
        }
        let block = self.allocate_block(state, inode.number)?;
        let mut bytes = pack(attributes, size, 32, 0);
        // One user, one block.
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        self.seal_attribute_block(&mut bytes, block);
        self.write_block(block, &bytes)?;
        inode.set_attribute_block(block);
        Ok(())
    }

    fn seal_attribute_block(&self, bytes: &mut [u8], block: u64) {
        if let Some(seed) = self.superblock.checksum_seed {
            bytes[16..20].fill(0);
            let sum = checksum::crc(checksum::crc(seed, &block.to_le_bytes()), bytes);
            bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// Gives the block of attributes back, or one user of it where there are several.
    pub(super) fn drop_attribute_block(&self, state: &mut State, inode: &mut Inode) -> Result<()> {
        let block = inode.attribute_block;
        if block == 0 {
            return Ok(());
        }
        let mut bytes = self.block(block)?;
        let users = Fields::new(&bytes, "ext attributes").le32(4)?;
        if users > 1 {
            bytes[4..8].copy_from_slice(&(users - 1).to_le_bytes());
            self.seal_attribute_block(&mut bytes, block);
            self.write_block(block, &bytes)?;
        } else {
            self.free_blocks(state, block, 1)?;
        }
        inode.set_attribute_block(0);
        Ok(())
    }
}

/// A list of attributes: entries from `first` on, values from the end backwards, found from `base`.
fn pack(attributes: &[Stored], size: usize, first: usize, base: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    let (mut at, mut end) = (first, size);
    for attribute in attributes {
        let length = attribute.value.len();
        end -= length.next_multiple_of(4);
        bytes[end..end + length].copy_from_slice(&attribute.value);
        let offset = if length == 0 { 0 } else { u16::try_from(end - base).unwrap_or(u16::MAX) };
        bytes[at] = u8::try_from(attribute.suffix.len()).unwrap_or(u8::MAX);
        bytes[at + 1] = attribute.index;
        bytes[at + 2..at + 4].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&attribute.hash().to_le_bytes());
        bytes[at + 16..at + 16 + attribute.suffix.len()].copy_from_slice(&attribute.suffix);
        at += (16 + attribute.suffix.len()).next_multiple_of(4);
    }
    bytes
}

/// An access control list in the form of the disk, from the one that Linux hands out.
fn access_list(value: &[u8]) -> Result<Vec<u8>> {
    let fields = Fields::new(value, "access control list");
    if fields.le32(0)? != 2 || !(value.len() - 4).is_multiple_of(8) {
        return Err(invalid("an access control list that is not in the form of Linux"));
    }
    let mut list = 1_u32.to_le_bytes().to_vec();
    for entry in value[4..].chunks_exact(8) {
        let is_named = matches!(entry[0], 0x02 | 0x08);
        list.extend_from_slice(&entry[..if is_named { 8 } else { 4 }]);
    }
    Ok(list)
}
