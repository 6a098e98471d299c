//! Extended attributes: in the inode, in a block of their own, and in inodes of their own where they are large.

use transload_block::{BlockReadExt, Result};

use super::Ext;
use super::inode::Inode;
use crate::contract::{FileId, Xattr};
use crate::fields::{Fields, corrupt};

const MAGIC: u32 = 0xEA02_0000;
/// The largest value that Linux hands out.
const LONGEST: u32 = 64 << 10;
const INDEX_DATA: u8 = 7;

/// Where a list of attributes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Behind the fields of the inode; values are found from the first entry.
    Inode,
    /// In a block; values are found from its start.
    Block,
}

/// An attribute as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    index: u8,
    suffix: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// The inode that holds the value, and its length; 0 for none.
    inode: u32,
    length: u32,
}

impl Raw {
    pub(super) fn is_inline_data(&self) -> bool {
        self.index == INDEX_DATA && self.suffix == b"data"
    }

    /// The full name; `None` for what is no attribute to anyone outside.
    fn name(&self) -> Option<Vec<u8>> {
        let prefix: &[u8] = match self.index {
            0 => b"",
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            INDEX_DATA if self.suffix != b"data" => b"system.",
            8 => b"system.richacl",
            _ => return None,
        };
        Some([prefix, &self.suffix].concat())
    }
}

/// The attributes of a list; nothing where there is no list.
pub(super) fn parse(area: &[u8], scope: Scope) -> Result<Vec<Raw>> {
    let fields = Fields::new(area, "ext attributes");
    let (first, base) = match scope {
        Scope::Inode => (4, 4),
        Scope::Block => (32, 0),
    };
    if area.len() < first + 4 || fields.le32(0)? != MAGIC {
        if scope == Scope::Block {
            return Err(fields.corrupt("a block of attributes without its magic"));
        }
        return Ok(Vec::new());
    }
    let mut list = Vec::new();
    let mut at = first;
    // A name is at most 255 bytes and at least an entry's 16 long: the list ends within the area.
    while fields.le32(at)? != 0 {
        let (name_length, index) = (usize::from(fields.u8(at)?), fields.u8(at + 1)?);
        let (offset, inode, length) = (fields.le16(at + 2)?, fields.le32(at + 4)?, fields.le32(at + 8)?);
        let suffix = fields.bytes(at + 16, name_length)?.to_vec();
        let value = if inode == 0 && length > 0 {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            fields.bytes(base + usize::from(offset), length)?.to_vec()
        } else {
            Vec::new()
        };
        list.push(Raw { index, suffix, value, inode, length });
        at += 16 + name_length.next_multiple_of(4);
        if at + 4 > area.len() {
            break;
        }
    }
    Ok(list)
}

impl Ext {
    pub(super) fn attributes(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let within = |error: transload_block::Error| error.context(format_args!("inode {}", inode.number));
        let mut raw = parse(inode.attribute_area(), Scope::Inode).map_err(within)?;
        if inode.attribute_block != 0 {
            let block = self.block(inode.attribute_block).map_err(within)?;
            raw.extend(parse(&block, Scope::Block).map_err(within)?);
        }
        let mut list = Vec::new();
        for attribute in raw {
            let Some(name) = attribute.name() else { continue };
            let value = self.value(&attribute).map_err(within)?;
            let value = if matches!(attribute.index, 2 | 3) { access_list(&value).map_err(within)? } else { value };
            list.push(Xattr { name, value });
        }
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    fn value(&self, attribute: &Raw) -> Result<Vec<u8>> {
        if attribute.inode == 0 {
            return Ok(attribute.value.clone());
        }
        if attribute.length > LONGEST {
            return Err(corrupt(format!("an attribute of {} bytes, at most {LONGEST} are possible", attribute.length)));
        }
        let inode = self.inode(FileId(attribute.inode.into()))?;
        self.mapped(&inode)?.read_vec(0, attribute.length.into())
    }
}

/// An access control list in the form that Linux hands out, from the shorter one on the disk.
fn access_list(stored: &[u8]) -> Result<Vec<u8>> {
    const NOBODY: u32 = u32::MAX;
    let fields = Fields::new(stored, "ext access control list");
    let version = fields.le32(0)?;
    if version != 1 {
        return Err(fields.corrupt(format!("its version is {version}, must be 1")));
    }
    let mut list = 2_u32.to_le_bytes().to_vec();
    let mut at = 4;
    while at < stored.len() {
        let tag = fields.le16(at)?;
        let is_named = matches!(tag, 0x02 | 0x08);
        list.extend_from_slice(fields.bytes(at, 4)?);
        let who = if is_named { fields.le32(at + 4)? } else { NOBODY };
        list.extend_from_slice(&who.to_le_bytes());
        at += if is_named { 8 } else { 4 };
    }
    Ok(list)
}
