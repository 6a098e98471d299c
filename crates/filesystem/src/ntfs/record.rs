//! Records of the master file table, and the attributes in them.

use transload_block::Result;

use crate::fields::{Fields, corrupt};

/// Kinds of attributes.
pub(super) mod kind {
    pub(crate) const STANDARD_INFORMATION: u32 = 0x10;
    pub(crate) const ATTRIBUTE_LIST: u32 = 0x20;
    pub(crate) const VOLUME_NAME: u32 = 0x60;
    pub(crate) const VOLUME_INFORMATION: u32 = 0x70;
    pub(crate) const DATA: u32 = 0x80;
    pub(crate) const INDEX_ROOT: u32 = 0x90;
    pub(crate) const INDEX_ALLOCATION: u32 = 0xA0;
    pub(crate) const BITMAP: u32 = 0xB0;
    pub(crate) const REPARSE_POINT: u32 = 0xC0;
}

pub(super) const COMPRESSED: u16 = 0x0001;
pub(super) const ENCRYPTED: u16 = 0x4000;

/// The bytes that a sector of a record lends to its check value.
const SECTOR: usize = 512;

/// An attribute as one record has it.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) kind: u32,
    pub(super) name: Vec<u16>,
    pub(super) flags: u16,
    pub(super) body: Body,
}

/// Where an attribute's value is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Resident(Vec<u8>),
    Clusters(Clusters),
}

/// A value in clusters, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    /// The first cluster of the value that this part tells of.
    pub(super) first: u64,
    /// The mapping pairs.
    pub(super) runs: Vec<u8>,
    /// Logarithm of the clusters that are compressed together; 0 for none.
    pub(super) unit: u8,
    /// The following are said by the first part alone.
    pub(super) allocated: u64,
    pub(super) size: u64,
    pub(super) valid: u64,
}

/// A record of the master file table, whole.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) links: u16,
    pub(super) is_folder: bool,
    /// The record that this one extends; 0 for none.
    pub(super) base: u64,
    pub(super) attributes: Vec<Attribute>,
}

/// Puts the bytes back that the end of every sector of a record or index block lent to a check value.
pub(super) fn repair(bytes: &mut [u8], magic: &[u8; 4], what: &str) -> Result<()> {
    let fields = Fields::new(bytes, "NTFS record");
    if fields.bytes(0, 4)? != magic {
        return Err(corrupt(format!("NTFS: {what} begins with \"{}\"", fields.bytes(0, 4)?.escape_ascii())));
    }
    let (at, count) = (usize::from(fields.le16(4)?), usize::from(fields.le16(6)?));
    if count != bytes.len() / SECTOR + 1 {
        return Err(corrupt(format!("NTFS: {what} of {} bytes has {count} check values", bytes.len())));
    }
    let values = fields.bytes(at, count * 2)?.to_vec();
    let (pairs, _) = values.as_chunks::<2>();
    let Some((check, originals)) = pairs.split_first() else { return Err(corrupt(format!("NTFS: {what}"))) };
    for (index, (sector, original)) in bytes.chunks_exact_mut(SECTOR).zip(originals).enumerate() {
        let end = &mut sector[SECTOR - 2..];
        if end != check {
            return Err(corrupt(format!("NTFS: {what}: sector {index} was not written with the others")));
        }
        end.copy_from_slice(original);
    }
    Ok(())
}

impl Record {
    pub(super) fn parse(mut bytes: Vec<u8>, number: u64) -> Result<Self> {
        repair(&mut bytes, b"FILE", &format!("record {number}"))?;
        let fields = Fields::new(&bytes, "NTFS record");
        let flags = fields.le16(0x16)?;
        if flags & 1 == 0 {
            return Err(corrupt(format!("NTFS: record {number} is not in use")));
        }
        let used = usize::try_from(fields.le32(0x18)?).unwrap_or(usize::MAX).min(bytes.len());
        let fields = Fields::new(&bytes[..used], "NTFS record");
        let mut attributes = Vec::new();
        let mut at = usize::from(fields.le16(0x14)?);
        // Every attribute has at least 24 bytes: the list ends within the record.
        while fields.le32(at)? != u32::MAX {
            let length = usize::try_from(fields.le32(at + 4)?).unwrap_or(usize::MAX);
            if length < 24 || !length.is_multiple_of(8) {
                return Err(corrupt(format!("NTFS: record {number}: an attribute of {length} bytes at {at}")));
            }
            attributes.push(parse_attribute(fields.bytes(at, length)?)?);
            at += length;
        }
        Ok(Self {
            links: fields.le16(0x12)?,
            is_folder: flags & 2 != 0,
            base: reference(fields.le64(0x20)?),
            attributes,
        })
    }
}

/// The number of the record in a file reference; the rest counts how often it was used.
pub(super) const fn reference(value: u64) -> u64 {
    value & 0xFFFF_FFFF_FFFF
}

fn parse_attribute(bytes: &[u8]) -> Result<Attribute> {
    let fields = Fields::new(bytes, "NTFS attribute");
    let (name_length, name_at) = (usize::from(fields.u8(9)?), usize::from(fields.le16(10)?));
    let name = if name_length == 0 { &[] } else { fields.bytes(name_at, name_length * 2)? };
    let body = if fields.u8(8)? == 0 {
        let length = usize::try_from(fields.le32(16)?).unwrap_or(usize::MAX);
        Body::Resident(fields.bytes(fields.le16(20)?.into(), length)?.to_vec())
    } else {
        let runs_at = usize::from(fields.le16(32)?);
        let (size, allocated, valid) = (fields.le64(48)?, fields.le64(40)?, fields.le64(56)?);
        let runs = bytes.get(runs_at..).ok_or_else(|| fields.corrupt(format!("its runs are at {runs_at}")))?.to_vec();
        Body::Clusters(Clusters { first: fields.le64(16)?, runs, unit: fields.u8(34)?, allocated, size, valid })
    };
    Ok(Attribute { kind: fields.le32(0)?, name: crate::text::le_units(name).collect(), flags: fields.le16(12)?, body })
}
