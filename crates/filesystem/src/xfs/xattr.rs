//! Extended attributes: in the inode, in leaves, and in blocks of their own where they are large.

use transload_block::{BlockReadExt, Result};

use super::Xfs;
use super::inode::{Form, Inode};
use crate::contract::Xattr;
use crate::fields::{Fields, corrupt};
use crate::mapped::MappedFile;

const ROOT: u8 = 0x02;
const SECURE: u8 = 0x04;
const PARENT: u8 = 0x08;
const INCOMPLETE: u8 = 0x80;
/// The largest value.
const LONGEST: u32 = 64 << 10;
/// Blocks of an attribute fork that are looked at: 64 KiB of names and their values many times over.
const MOST_BLOCKS: u64 = 1 << 16;

impl Xfs {
    pub(super) fn attributes(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        if inode.attribute_fork().is_empty() {
            return Ok(Vec::new());
        }
        let mut list = match inode.attribute_form {
            Form::Local => short(inode.attribute_fork())?,
            _ => self.leaves(inode).map_err(|error| error.context(format_args!("inode {}", inode.number)))?,
        };
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    /// Goes down to the first leaf, and from leaf to leaf.
    fn leaves(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let block_size = u64::from(self.superblock.block_size);
        let runs = self.attribute_runs(inode)?;
        let size = runs.end();
        // A fork that lost its last attribute may stay without a block.
        if size == 0 {
            return Ok(Vec::new());
        }
        let fork = MappedFile::new(self.cache.device().clone(), runs, size, u64::MAX)?;
        let (mut block, mut list) = (0, Vec::new());
        for _ in 0..MOST_BLOCKS {
            if (u64::from(block) + 1) * block_size > size {
                return Err(corrupt(format!("XFS attributes: block {block} of {}", size / block_size)));
            }
            let bytes = fork.read_vec(u64::from(block) * block_size, block_size)?;
            let fields = Fields::new(&bytes, "XFS attributes");
            match fields.be16(8)? {
                0xFEBE => block = fields.be32(16 + 4)?,
                0x3EBE => block = fields.be32(64 + 4)?,
                magic @ (0xFBEE | 0x3BEE) => {
                    self.leaf(&fields, magic == 0x3BEE, &fork, &mut list)?;
                    block = fields.be32(0)?;
                    if block == 0 {
                        return Ok(list);
                    }
                }
                magic => return Err(fields.corrupt(format!("block {block} has the magic {magic:#06x}"))),
            }
        }
        Err(corrupt("XFS attributes: the leaves go round"))
    }

    fn leaf(&self, fields: &Fields<'_>, is_5: bool, fork: &MappedFile, list: &mut Vec<Xattr>) -> Result<()> {
        let (count, first) = if is_5 { (fields.be16(56)?, 80) } else { (fields.be16(12)?, 32) };
        for index in 0..usize::from(count) {
            let at = first + index * 8;
            let (place, flags) = (usize::from(fields.be16(at + 4)?), fields.u8(at + 6)?);
            let is_local = flags & 1 != 0;
            let head = if is_local { 3 } else { 9 };
            let name_length = usize::from(fields.u8(place + head - 1)?);
            let Some(name) = name(fields.bytes(place + head, name_length)?, flags) else { continue };
            let value = if is_local {
                fields.bytes(place + 3 + name_length, fields.be16(place)?.into())?.to_vec()
            } else {
                self.remote(fork, fields.be32(place)?, fields.be32(place + 4)?)?
            };
            push(list, name, value)?;
        }
        Ok(())
    }

    /// A value in blocks of its own, each with a header in version 5.
    fn remote(&self, fork: &MappedFile, block: u32, length: u32) -> Result<Vec<u8>> {
        if length > LONGEST {
            return Err(corrupt(format!("XFS attributes: a value of {length} bytes")));
        }
        let block_size = u64::from(self.superblock.block_size);
        let header = if self.superblock.is_5 { 56 } else { 0 };
        let (mut value, mut at) = (Vec::new(), u64::from(block) * block_size);
        while value.len() < length as usize {
            let bytes = fork.read_vec(at, block_size)?;
            if header > 0 && &bytes[..4] != b"XARM" {
                return Err(corrupt("XFS attributes: a block of a value without its mark"));
            }
            let held = (bytes.len() - header).min(length as usize - value.len());
            value.extend_from_slice(&bytes[header..header + held]);
            at += block_size;
        }
        Ok(value)
    }
}

fn short(fork: &[u8]) -> Result<Vec<Xattr>> {
    let fields = Fields::new(fork, "XFS short attributes");
    let (mut list, mut at) = (Vec::new(), 4);
    for _ in 0..fields.u8(2)? {
        let (name_length, value_length) = (usize::from(fields.u8(at)?), usize::from(fields.u8(at + 1)?));
        let stored = fields.bytes(at + 3, name_length)?;
        let value = fields.bytes(at + 3 + name_length, value_length)?;
        if let Some(name) = name(stored, fields.u8(at + 2)?) {
            push(&mut list, name, value.to_vec())?;
        }
        at += 3 + name_length + value_length;
    }
    Ok(list)
}

/// The full name; nothing for what is no attribute to anyone outside.
fn name(stored: &[u8], flags: u8) -> Option<Vec<u8>> {
    if flags & (INCOMPLETE | PARENT) != 0 {
        return None;
    }
    let prefix: &[u8] = match flags & (ROOT | SECURE) {
        ROOT => b"trusted.",
        SECURE => b"security.",
        _ => b"user.",
    };
    Some([prefix, stored].concat())
}

/// Adds an attribute. Access control lists have a name and a form of their own on the disk.
fn push(list: &mut Vec<Xattr>, name: Vec<u8>, value: Vec<u8>) -> Result<()> {
    let name = match name.as_slice() {
        b"trusted.SGI_ACL_FILE" => b"system.posix_acl_access".to_vec(),
        b"trusted.SGI_ACL_DEFAULT" => b"system.posix_acl_default".to_vec(),
        _ => {
            list.push(Xattr { name, value });
            return Ok(());
        }
    };
    let fields = Fields::new(&value, "XFS access control list");
    let mut converted = 2_u32.to_le_bytes().to_vec();
    for index in 0..usize::try_from(fields.be32(0)?).unwrap_or(usize::MAX).min(value.len()) {
        let at = 4 + index * 12;
        let (tag, id, permissions) = (fields.be32(at)?, fields.be32(at + 4)?, fields.be16(at + 8)?);
        converted.extend_from_slice(&u16::try_from(tag).unwrap_or(0).to_le_bytes());
        converted.extend_from_slice(&permissions.to_le_bytes());
        let named = matches!(tag, 0x02 | 0x08);
        converted.extend_from_slice(&(if named { id } else { u32::MAX }).to_le_bytes());
    }
    list.push(Xattr { name, value: converted });
    Ok(())
}
