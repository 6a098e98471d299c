//! The journal of ext3 and ext4 (jbd2), played back in memory: what a crash left half done reads as if it had been finished.
//!
//! Three passes, as the kernel makes them: find the end of the log, find what was revoked, and note for every block which
//! copy in the journal is the last one. The device is not written to; [`Replayed`] shows the copies in place of the blocks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, Capabilities, Error, ErrorKind, Extent, Result, check_range,
};

use super::checksum;
use super::superblock::Superblock;
use crate::fields::{Fields, corrupt, unsupported};
use crate::mapped::MappedFile;

const MAGIC: u32 = 0xC03B_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// The largest journal that is followed: 16 GiB with blocks of 4096 bytes. mke2fs makes none above one.
const MOST_BLOCKS: u32 = 4 << 20;

mod feature {
    pub(crate) const REVOKE: u32 = 0x1;
    pub(crate) const WIDE: u32 = 0x2;
    pub(crate) const ASYNC_COMMIT: u32 = 0x4;
    pub(crate) const CSUM_V2: u32 = 0x8;
    pub(crate) const CSUM_V3: u32 = 0x10;
    pub(crate) const FAST_COMMIT: u32 = 0x20;
    pub(crate) const HANDLED: u32 = REVOKE | WIDE | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT;
}

/// The journal's own superblock, checked.
#[derive(Debug)]
struct Journal {
    file: MappedFile,
    block_size: u32,
    /// The log goes round from `first` up to `end`.
    first: u32,
    end: u32,
    start: u32,
    sequence: u32,
    features: u32,
    seed: u32,
    /// Blocks behind the ring that hold fast commits.
    fast_blocks: u32,
}

/// A copy of a block, in the journal.
#[derive(Clone, Copy, Debug)]
struct Copy {
    block: u32,
    /// The first four bytes were cleared, since they looked like the journal's own magic.
    escaped: bool,
}

/// A block that is announced in the log.
struct Tag {
    target: u64,
    copy: Copy,
    checksum: Option<u32>,
}

/// A transaction's block in the log.
enum Record {
    Tags(Vec<Tag>),
    Revoked(Vec<u64>),
    Commit,
}

/// The device as it would be after the journal was played back, and how many blocks differ; `None` where the log is empty.
pub(super) fn replay(
    device: &Arc<dyn BlockRead>,
    superblock: &Superblock,
    file: MappedFile,
) -> Result<Option<Replayed>> {
    let journal = Journal::read(file, superblock)?;
    if journal.start == 0 {
        return Ok(None);
    }
    let end = journal.find_end()?;
    let mut revoked: HashMap<u64, u32> = HashMap::new();
    journal.records(end, &mut |sequence, record| {
        if let Record::Revoked(blocks) = record {
            for block in blocks {
                let last = revoked.entry(block).or_insert(sequence);
                if is_after(sequence, *last) {
                    *last = sequence;
                }
            }
        }
        Ok(())
    })?;
    let mut copies = BTreeMap::new();
    journal.records(end, &mut |sequence, record| {
        let Record::Tags(tags) = record else { return Ok(()) };
        for tag in tags {
            if revoked.get(&tag.target).is_some_and(|last| !is_after(sequence, *last)) {
                continue;
            }
            if tag.target >= superblock.blocks {
                let blocks = superblock.blocks;
                return Err(corrupt(format!("ext journal: block {} of a filesystem of {blocks} blocks", tag.target)));
            }
            journal.verify(&tag, sequence)?;
            copies.insert(tag.target, tag.copy);
        }
        Ok(())
    })?;
    journal.refuse_fast_commits(end)?;
    let block_size = journal.block_size.into();
    Ok(Some(Replayed { device: Arc::clone(device), journal: journal.file, copies, block_size }))
}

/// Whether sequence number `one` comes after `other`; they go round.
const fn is_after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

impl Journal {
    fn read(file: MappedFile, superblock: &Superblock) -> Result<Self> {
        let bytes = file.read_vec(0, file.size().min(1024))?;
        let fields = Fields::new(&bytes, "ext journal superblock");
        let (magic, kind, block_size) = (fields.be32(0)?, fields.be32(4)?, fields.be32(12)?);
        if magic != MAGIC || !matches!(kind, 3 | 4) || block_size != superblock.block_size {
            let text = format!("its magic is {magic:#010x}, its type {kind}, its block size {block_size}");
            return Err(fields.corrupt(text));
        }
        let features = if kind == 4 { fields.be32(40)? } else { 0 };
        if features & !feature::HANDLED != 0 {
            return Err(unsupported(format!("ext journal: features {:#x}", features & !feature::HANDLED)));
        }
        let fast_blocks = match (features & feature::FAST_COMMIT, fields.be32(0x54)?) {
            (0, _) => 0,
            (_, 0) => 256,
            (_, count) => count,
        };
        let (length, first, start) = (fields.be32(16)?, fields.be32(20)?, fields.be32(28)?);
        let end = length.saturating_sub(fast_blocks);
        let held = file.size() / u64::from(block_size);
        if first == 0 || first >= end || u64::from(length) > held || (start != 0 && !(first..end).contains(&start)) {
            return Err(fields.corrupt(format!("blocks {first} to {end} from {start}, in a file of {held} blocks")));
        }
        if end > MOST_BLOCKS {
            return Err(Error::new(ErrorKind::TooLarge, format!("a journal of {end} blocks, at most {MOST_BLOCKS}")));
        }
        let seed = checksum::crc(!0, fields.bytes(48, 16)?);
        let sequence = fields.be32(24)?;
        Ok(Self { file, block_size, first, end, start, sequence, features, seed, fast_blocks })
    }

    const fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    const fn has_checksums(&self) -> bool {
        self.features & (feature::CSUM_V2 | feature::CSUM_V3) != 0
    }

    fn block(&self, block: u32) -> Result<Vec<u8>> {
        self.file.read_vec(u64::from(block) * u64::from(self.block_size), self.block_size.into())
    }

    /// The block after `count` others, in the ring.
    const fn after(&self, block: u32, count: u32) -> u32 {
        let ring = self.end - self.first;
        self.first + (block - self.first + count % ring) % ring
    }

    /// The sequence number of the first transaction that was not committed.
    fn find_end(&self) -> Result<u32> {
        let mut end = self.sequence;
        self.records_until(None, &mut |sequence, record| {
            if matches!(record, Record::Commit) {
                end = sequence.wrapping_add(1);
            }
            Ok(())
        })?;
        Ok(end)
    }

    fn records(&self, end: u32, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        self.records_until(Some(end), each)
    }

    /// Goes through the log from its start. What does not follow in sequence is the end.
    fn records_until(&self, end: Option<u32>, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        let (mut at, mut sequence, mut passed) = (self.start, self.sequence, 0_u32);
        while passed < self.end - self.first && Some(sequence) != end {
            let block = self.block(at)?;
            let fields = Fields::new(&block, "ext journal");
            if fields.be32(0)? != MAGIC || fields.be32(8)? != sequence {
                break;
            }
            let mut length = 1;
            match fields.be32(4)? {
                DESCRIPTOR => {
                    let tags = self.tags(&block, at)?;
                    length += u32::try_from(tags.len()).unwrap_or(u32::MAX);
                    each(sequence, Record::Tags(tags))?;
                }
                COMMIT => {
                    if !self.is_commit_whole(&block)? {
                        break;
                    }
                    each(sequence, Record::Commit)?;
                    sequence = sequence.wrapping_add(1);
                }
                REVOKE => each(sequence, Record::Revoked(self.revoked(&fields)?))?,
                _ => break,
            }
            at = self.after(at, length);
            passed = passed.saturating_add(length);
        }
        Ok(())
    }

    fn tags(&self, block: &[u8], at: u32) -> Result<Vec<Tag>> {
        const ESCAPED: u32 = 1;
        const SAME_UUID: u32 = 2;
        const LAST: u32 = 8;
        let fields = Fields::new(block, "ext journal descriptor");
        let size = match (self.has(feature::CSUM_V3), self.has(feature::CSUM_V2), self.has(feature::WIDE)) {
            (true, ..) => 16,
            (_, v2, wide) => 8 + if v2 { 2 } else { 0 } + if wide { 4 } else { 0 },
        };
        let end = block.len() - if self.has_checksums() { 4 } else { 0 };
        let (mut tags, mut offset) = (Vec::new(), 12);
        while offset + size <= end {
            let low = u64::from(fields.be32(offset)?);
            let (flags, high, checksum) = if self.has(feature::CSUM_V3) {
                (fields.be32(offset + 4)?, fields.be32(offset + 8)?, Some(fields.be32(offset + 12)?))
            } else {
                let high = if self.has(feature::WIDE) { fields.be32(offset + 8)? } else { 0 };
                let checksum = self.has(feature::CSUM_V2).then(|| fields.be16(offset + 4)).transpose()?;
                (u32::from(fields.be16(offset + 6)?), high, checksum.map(u32::from))
            };
            let high = if self.has(feature::WIDE) { high } else { 0 };
            let count = u32::try_from(tags.len()).unwrap_or(u32::MAX).saturating_add(1);
            let copy = Copy { block: self.after(at, count), escaped: flags & ESCAPED != 0 };
            tags.push(Tag { target: u64::from(high) << 32 | low, copy, checksum });
            offset += size + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(tags)
    }

    fn revoked(&self, fields: &Fields<'_>) -> Result<Vec<u64>> {
        let used = usize::try_from(fields.be32(12)?).unwrap_or(usize::MAX);
        let size = if self.has(feature::WIDE) { 8 } else { 4 };
        let used = used.min(self.block_size as usize);
        (16..used.saturating_sub(size - 1))
            .step_by(size)
            .map(|at| if size == 8 { fields.be64(at) } else { fields.be32(at).map(u64::from) })
            .collect()
    }

    /// Whether a commit block has the checksum that it says; without checksums it is taken as it is.
    fn is_commit_whole(&self, block: &[u8]) -> Result<bool> {
        if !self.has_checksums() {
            return Ok(true);
        }
        let stored = Fields::new(block, "ext journal commit").be32(16)?;
        let computed = checksum::crc(checksum::crc(self.seed, &block[..16]), &[0; 4]);
        Ok(stored == checksum::crc(computed, &block[20..]))
    }

    fn verify(&self, tag: &Tag, sequence: u32) -> Result<()> {
        let Some(stored) = tag.checksum else { return Ok(()) };
        let block = self.block(tag.copy.block)?;
        let computed = checksum::crc(checksum::crc(self.seed, &sequence.to_be_bytes()), &block);
        let expected = if self.has(feature::CSUM_V3) { computed } else { computed & 0xFFFF };
        if stored == expected {
            return Ok(());
        }
        let (number, target) = (tag.copy.block, tag.target);
        Err(corrupt(format!(
            "ext journal: block {number} for block {target} has checksum {expected:#010x}, its tag says {stored:#010x}"
        )))
    }

    /// Fast commits tell of changes to files, not to blocks. Where one is waiting, the state on the disk is not the last.
    fn refuse_fast_commits(&self, sequence: u32) -> Result<()> {
        const HEAD: u16 = 0x0A;
        if self.fast_blocks == 0 {
            return Ok(());
        }
        let block = self.block(self.end)?;
        let fields = Fields::new(&block, "ext4 fast commit");
        if fields.le16(0)? == HEAD && fields.le16(2)? == 8 && fields.le32(8)? == sequence {
            return Err(unsupported("ext4: the journal holds a fast commit that was not played back")
                .with_remedy("mount the filesystem once, or run e2fsck on it"));
        }
        Ok(())
    }
}

/// A device on which some blocks are shown as the journal has them.
#[derive(Debug)]
pub(super) struct Replayed {
    device: Arc<dyn BlockRead>,
    journal: MappedFile,
    copies: BTreeMap<u64, Copy>,
    block_size: u64,
}

impl Replayed {
    /// How many blocks are shown in place of those on the device.
    pub(super) fn count(&self) -> usize {
        self.copies.len()
    }
}

impl BlockRead for Replayed {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn limits(&self) -> BlockLimits {
        self.device.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        self.device.read_at(buf, offset)?;
        let blocks = offset / self.block_size..end.div_ceil(self.block_size);
        for (block, copy) in self.copies.range(blocks) {
            let mut bytes = self.journal.read_vec(u64::from(copy.block) * self.block_size, self.block_size)?;
            if copy.escaped {
                bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
            }
            let start = block * self.block_size;
            let (from, to) = (start.max(offset), (start + self.block_size).min(end));
            let within = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            buf[within(from, offset)..within(to, offset)]
                .copy_from_slice(&bytes[within(from, start)..within(to, start)]);
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let extent = self.device.block_status(range)?;
        let blocks = extent.offset / self.block_size..extent.end().div_ceil(self.block_size);
        let changed = self.copies.range(blocks).next().is_some();
        let status = if changed { transload_block::BlockStatus::Data } else { extent.status };
        Ok(Extent { status, ..extent })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }
}
