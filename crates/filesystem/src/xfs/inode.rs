//! Inodes, and the extents of their two forks.

use transload_block::Result;

use super::Xfs;
use super::superblock::checksum;
use crate::contract::{FileId, FileKind, Metadata, Owner, Timestamp};
use crate::fields::{Fields, corrupt};
use crate::mapped::{MappedFile, Runs};

/// Levels of an extent tree: five hold more extents than a file can have.
const DEEPEST: u16 = 9;

/// How a fork is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Device,
    Local,
    Extents,
    Tree,
}

/// An inode as it stands on the disk, with its kind checked.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) form: Form,
    pub(super) attribute_form: Form,
    raw: Vec<u8>,
    core: usize,
    extents: u64,
    attribute_extents: u64,
    has_wide_times: bool,
}

fn form(code: u8) -> Result<Form> {
    Ok(match code {
        0 => Form::Device,
        1 => Form::Local,
        2 => Form::Extents,
        3 => Form::Tree,
        other => return Err(corrupt(format!("XFS inode: a fork of form {other}"))),
    })
}

impl Inode {
    fn parse(raw: Vec<u8>, number: u64, is_5: bool) -> Result<Self> {
        let fields = Fields::new(&raw, "XFS inode");
        if fields.bytes(0, 2)? != b"IN" {
            return Err(
                fields.corrupt(format!("inode {number} begins with \"{}\"", fields.bytes(0, 2)?.escape_ascii()))
            );
        }
        let (mode, version) = (fields.be16(2)?, fields.u8(4)?);
        let kind = FileKind::from_mode(mode.into())
            .ok_or_else(|| fields.corrupt(format!("the mode of inode {number} is {mode:o}")))?;
        let flags = if version >= 3 { fields.be64(120)? } else { 0 };
        if is_5 {
            let (stored, computed) = (fields.le32(100)?, checksum(&raw, 100));
            if stored != computed {
                let text = format!("the checksum of inode {number} is {stored:#010x}, its bytes have {computed:#010x}");
                return Err(fields.corrupt(text));
            }
        }
        let many = flags & 0x10 != 0;
        let (extents, attribute_extents) = if many {
            (fields.be64(24)?, fields.be32(76)?.into())
        } else {
            (fields.be32(76)?.into(), fields.be16(80)?.into())
        };
        Ok(Self {
            number,
            kind,
            size: fields.be64(56)?,
            form: form(fields.u8(5)?)?,
            // Inodes without attributes may say anything here.
            attribute_form: if fields.u8(82)? == 0 { Form::Local } else { form(fields.u8(83)?)? },
            core: if version >= 3 { 176 } else { 100 },
            extents,
            attribute_extents,
            has_wide_times: flags & 0x8 != 0,
            raw,
        })
    }

    /// The bytes of the fork that has the contents.
    pub(super) fn data_fork(&self) -> &[u8] {
        let end = match self.raw.get(82) {
            Some(offset @ 1..) => self.core + usize::from(*offset) * 8,
            _ => self.raw.len(),
        };
        self.raw.get(self.core..end.min(self.raw.len())).unwrap_or_default()
    }

    /// The bytes of the fork that has the attributes; empty where there is none.
    pub(super) fn attribute_fork(&self) -> &[u8] {
        match self.raw.get(82) {
            Some(offset @ 1..) => self.raw.get(self.core + usize::from(*offset) * 8..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Whether the contents stand on another device.
    pub(super) fn is_real_time(&self) -> bool {
        self.raw.get(91).is_some_and(|flags| flags & 1 != 0)
    }

    pub(super) fn metadata(&self, block_size: u32) -> Result<Metadata> {
        let fields = Fields::new(&self.raw, "XFS inode");
        let is_device = matches!(self.kind, FileKind::BlockDevice | FileKind::CharDevice);
        let device = if is_device {
            let number = Fields::new(self.data_fork(), "XFS device").be32(0)?;
            Some((number >> 18 & 0x3FFF, number & 0x3_FFFF))
        } else {
            None
        };
        let links = if fields.u8(4)? == 1 { fields.be16(6)?.into() } else { fields.be32(16)? };
        Ok(Metadata {
            kind: self.kind,
            permissions: u32::from(fields.be16(2)?) & 0o7777,
            owner: Owner { uid: fields.be32(8)?, gid: fields.be32(12)? },
            size: self.size,
            allocated: fields.be64(64)?.saturating_mul(block_size.into()),
            links,
            accessed: Some(self.time(32)?),
            modified: Some(self.time(40)?),
            changed: Some(self.time(48)?),
            created: if self.core == 176 { Some(self.time(144)?) } else { None },
            device,
        })
    }

    fn time(&self, at: usize) -> Result<Timestamp> {
        let fields = Fields::new(&self.raw, "XFS inode");
        if self.has_wide_times {
            // Nanoseconds since 1901-12-13 20:45:52, where 32 bits begin.
            let value = fields.be64(at)?;
            let seconds = i64::try_from(value / 1_000_000_000).unwrap_or(i64::MAX);
            let nanos = u32::try_from(value % 1_000_000_000).unwrap_or(0);
            return Ok(Timestamp { seconds: seconds + i64::from(i32::MIN), nanos });
        }
        let seconds = i64::from(fields.be32(at)?.cast_signed());
        Ok(Timestamp { seconds, nanos: fields.be32(at + 4)?.min(999_999_999) })
    }
}

impl Xfs {
    pub(super) fn inode(&self, id: FileId) -> Result<Inode> {
        let offset = self.superblock.inode_offset(id.0)?;
        let raw = self.cache.read_vec(offset, self.superblock.inode_size.into())?;
        Inode::parse(raw, id.0, self.superblock.is_5)
    }

    /// The bytes of a fork that stands in extents.
    pub(super) fn mapped(&self, inode: &Inode, size: u64) -> Result<MappedFile> {
        let runs = self.runs(inode.form, inode.data_fork(), inode.extents);
        let runs = runs.map_err(|error| error.context(format_args!("inode {}", inode.number)))?;
        MappedFile::new(self.cache.device().clone(), runs, size, u64::MAX)
    }

    pub(super) fn attribute_runs(&self, inode: &Inode) -> Result<Runs> {
        self.runs(inode.attribute_form, inode.attribute_fork(), inode.attribute_extents)
    }

    fn runs(&self, form: Form, fork: &[u8], count: u64) -> Result<Runs> {
        let mut runs = Runs::default();
        let fields = Fields::new(fork, "XFS fork");
        match form {
            Form::Extents => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let records = fields.bytes(0, count.checked_mul(16).ok_or_else(|| fields.corrupt("its extents"))?)?;
                self.records(records, &mut runs)?;
            }
            Form::Tree => {
                let (level, count) = (fields.be16(0)?, usize::from(fields.be16(2)?));
                if level == 0 || level > DEEPEST {
                    return Err(fields.corrupt(format!("its tree has {level} levels")));
                }
                let most = (fork.len() - 4) / 16;
                for index in 0..count {
                    let child = fields.be64(4 + most * 8 + index * 8)?;
                    self.node(child, level - 1, &mut runs)?;
                }
            }
            Form::Device | Form::Local => return Err(fields.corrupt("it has no extents")),
        }
        Ok(runs)
    }

    /// Adds the extents below a block of the tree. Extents are in the order of the file: a tree that lies ends where it goes
    /// back, and no block below the root is empty.
    fn node(&self, block: u64, level: u16, runs: &mut Runs) -> Result<()> {
        let bytes = self.block(block)?;
        let fields = Fields::new(&bytes, "XFS extent tree");
        let (magic, header): (&[u8], usize) = if self.superblock.is_5 { (b"BMA3", 72) } else { (b"BMAP", 24) };
        let (found, count) = (fields.be16(4)?, usize::from(fields.be16(6)?));
        if fields.bytes(0, 4)? != magic || found != level || count == 0 {
            let magic = fields.bytes(0, 4)?.escape_ascii();
            return Err(fields.corrupt(format!("block {block} is \"{magic}\" of level {found} with {count} entries")));
        }
        if level == 0 {
            return self.records(fields.bytes(header, count * 16)?, runs);
        }
        let most = (bytes.len() - header) / 16;
        for index in 0..count {
            let before = runs.end();
            self.node(fields.be64(header + most * 8 + index * 8)?, level - 1, runs)?;
            if runs.end() == before {
                return Err(fields.corrupt(format!("block {block} leads to nothing")));
            }
        }
        Ok(())
    }

    fn records(&self, records: &[u8], runs: &mut Runs) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size);
        let (records, _) = records.as_chunks::<16>();
        for record in records {
            let fields = Fields::new(record, "XFS extent");
            let (high, low) = (fields.be64(0)?, fields.be64(8)?);
            let (unwritten, logical) = (high >> 63 != 0, (high & (u64::MAX >> 1)) >> 9);
            let (block, count) = ((high & 0x1FF) << 43 | low >> 21, low & 0x1F_FFFF);
            let start = logical.checked_mul(block_size).ok_or_else(|| fields.corrupt(format!("block {logical}")))?;
            if unwritten {
                runs.push_zeroes(start, count * block_size)?;
            } else {
                runs.push(start, count * block_size, self.superblock.block_offset(block)?)?;
            }
        }
        Ok(())
    }

    /// Reads a block of metadata.
    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>> {
        self.cache.read_vec(self.superblock.block_offset(number)?, self.superblock.block_size as usize)
    }
}
