//! Metadata: blocks of 8 KiB that are compressed one by one, and what is in them.

use std::collections::HashMap;

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::Xattr;

use super::inode::NO_XATTRS;

const METADATA: usize = 8192;
/// In the length of a block of metadata: it is stored as it is.
const PLAIN: u16 = 0x8000;
const LEVEL: i32 = 15;
/// The most entries behind one head of a listing.
const ENTRIES: usize = 256;

/// A place in metadata: of the block in the file, of the byte in the unpacked block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference(pub(super) u64);

impl Reference {
    pub(super) fn block(self) -> u32 {
        u32::try_from(self.0 >> 16).unwrap_or(u32::MAX)
    }

    pub(super) fn offset(self) -> u16 {
        u16::try_from(self.0 & 0xffff).unwrap_or(0)
    }
}

/// Metadata that is being written.
#[derive(Debug, Default)]
pub(super) struct Metablocks {
    packed: Vec<u8>,
    open: Vec<u8>,
    /// Where each block begins.
    starts: Vec<u64>,
}

impl Metablocks {
    /// Where the next byte goes.
    pub(super) fn place(&self) -> Reference {
        Reference((self.packed.len() as u64) << 16 | self.open.len() as u64)
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(METADATA - self.open.len());
            self.open.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.open.len() == METADATA {
                self.close()?;
            }
        }
        if u32::try_from(self.packed.len()).is_err() {
            return Err(Error::new(ErrorKind::TooLarge, "squashfs: more than 4 GiB of metadata"));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.starts.push(self.packed.len() as u64);
        let packed = zstd::bulk::compress(&self.open, LEVEL).map_err(|error| Error::io("zstd", error))?;
        let (bytes, mark) = if packed.len() < self.open.len() { (&packed, 0) } else { (&self.open, PLAIN) };
        let length = u16::try_from(bytes.len()).unwrap_or(0) | mark;
        self.packed.extend(length.to_le_bytes());
        self.packed.extend_from_slice(bytes);
        self.open.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.close()?;
        Ok(self.packed)
    }
}

/// A table that begins at `at`: its blocks, and behind them the list of these, whose place is answered too.
pub(super) fn table(entries: &[u8], at: u64) -> Result<(Vec<u8>, u64)> {
    let mut blocks = Metablocks::default();
    blocks.write(entries)?;
    blocks.close()?;
    let list = at + blocks.packed.len() as u64;
    let mut bytes = blocks.packed;
    bytes.extend(blocks.starts.iter().flat_map(|start| (at + start).to_le_bytes()));
    Ok((bytes, list))
}

/// Users and groups, each once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    numbers: HashMap<u32, u16>,
    all: Vec<u32>,
}

impl Owners {
    pub(super) fn number(&mut self, id: u32) -> Result<u16> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        // The superblock counts them in 16 bits.
        let number = u16::try_from(self.all.len()).ok().filter(|number| *number < u16::MAX);
        let number =
            number.ok_or_else(|| Error::new(ErrorKind::TooLarge, "squashfs: more than 65535 users and groups"))?;
        self.all.push(id);
        self.numbers.insert(id, number);
        Ok(number)
    }

    pub(super) fn all(&self) -> &[u32] {
        &self.all
    }
}

/// The entries of a folder, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: Vec<(Vec<u8>, u16, Reference, u32)>,
}

impl Directory {
    pub(super) fn add(&mut self, name: Vec<u8>, kind: u16, inode: Reference, number: u32) -> Result<()> {
        if name.is_empty() || name.len() > 256 {
            let text = format!("squashfs: a name of {} bytes", name.len());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        self.entries.push((name, kind, inode, number));
        Ok(())
    }

    /// The listing: heads with the entries whose inodes are in the same block and of near numbers.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = self.entries.as_slice();
        while let Some((_, _, first, base)) = rest.first() {
            let near = |(_, _, inode, number): &&(Vec<u8>, u16, Reference, u32)| {
                inode.block() == first.block() && i16::try_from(i64::from(*number) - i64::from(*base)).is_ok()
            };
            let count = rest.iter().take(ENTRIES).take_while(near).count();
            let (run, behind) = rest.split_at(count.max(1));
            let last = u32::try_from(run.len() - 1).unwrap_or(0);
            bytes.extend([last, first.block(), *base].into_iter().flat_map(u32::to_le_bytes));
            for (name, kind, inode, number) in run {
                let difference = i16::try_from(i64::from(*number) - i64::from(*base)).unwrap_or(0);
                bytes.extend(inode.offset().to_le_bytes());
                bytes.extend(difference.to_le_bytes());
                bytes.extend(kind.to_le_bytes());
                bytes.extend(u16::try_from(name.len() - 1).unwrap_or(0).to_le_bytes());
                bytes.extend_from_slice(name);
            }
            rest = behind;
        }
        bytes
    }
}

/// Sets of extended attributes, each once.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    values: Metablocks,
    /// Where each set is, of how many attributes and bytes.
    sets: Vec<(Reference, u32, u32)>,
    known: HashMap<Vec<u8>, u32>,
}

/// The prefixes that there are numbers for.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

impl Xattrs {
    /// The number of a set, and the names of those that have no place.
    pub(super) fn add(&mut self, xattrs: &[Xattr]) -> Result<(u32, Vec<Vec<u8>>)> {
        let (mut bytes, mut lost, mut count) = (Vec::new(), Vec::new(), 0_u32);
        let mut size = 0;
        for Xattr { name, value } in xattrs {
            let prefix =
                (0_u16..).zip(PREFIXES).find_map(|(number, prefix)| Some((number, name.strip_prefix(prefix)?)));
            let Some((number, rest)) = prefix else {
                lost.push(name.clone());
                continue;
            };
            let lengths = u16::try_from(rest.len()).ok().zip(u32::try_from(value.len()).ok());
            let Some((name_length, value_length)) = lengths else {
                lost.push(name.clone());
                continue;
            };
            bytes.extend([number, name_length].into_iter().flat_map(u16::to_le_bytes));
            bytes.extend_from_slice(rest);
            bytes.extend(value_length.to_le_bytes());
            bytes.extend_from_slice(value);
            // What `listxattr` answers: names with their prefixes, each with a zero behind it.
            size += name.len() + 1;
            count += 1;
        }
        if count == 0 {
            return Ok((NO_XATTRS, lost));
        }
        if let Some(number) = self.known.get(&bytes) {
            return Ok((*number, lost));
        }
        let number = u32::try_from(self.sets.len()).ok().filter(|number| *number < NO_XATTRS);
        let number = number.ok_or_else(|| Error::new(ErrorKind::TooLarge, "squashfs: 4 billion sets of attributes"))?;
        self.sets.push((self.values.place(), count, u32::try_from(size).unwrap_or(u32::MAX)));
        self.values.write(&bytes)?;
        self.known.insert(bytes, number);
        Ok((number, lost))
    }

    /// The tables, where they begin at `at`, and the place that the superblock names.
    pub(super) fn finish(&mut self, at: u64) -> Result<Option<(Vec<u8>, u64)>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.values).finish()?;
        let entries: Vec<u8> = self
            .sets
            .iter()
            .flat_map(|(place, count, size)| {
                [place.0.to_le_bytes().as_slice(), &count.to_le_bytes(), &size.to_le_bytes()].concat()
            })
            .collect();
        let mut blocks = Metablocks::default();
        blocks.write(&entries)?;
        blocks.close()?;
        let begin = at + bytes.len() as u64;
        bytes.extend_from_slice(&blocks.packed);
        let head = at + bytes.len() as u64;
        bytes.extend(at.to_le_bytes());
        bytes.extend(u32::try_from(self.sets.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(blocks.starts.iter().flat_map(|start| (begin + start).to_le_bytes()));
        Ok(Some((bytes, head)))
    }
}
