//! Making ext2, ext3 and ext4: the layout of `mke2fs` without groups that share their tables, and without room for growing.

use std::sync::{Arc, Mutex};

use transload_block::{BlockWrite, Error, ErrorKind, Result, ZeroMode};

use super::inode::Inode;
use super::superblock::Superblock;
use super::{Ext, ROOT};
use crate::cache::Cache;
use crate::contract::{FileKind, FileSystem, Timestamp};
use crate::fields::invalid;
use crate::make::{ExtVersion, MakeSettings};
use crate::write::{Attributes, FileSystemWrite};

const INODE_SIZE: u16 = 256;
/// Bytes of the disk for which there is one inode.
const BYTES_PER_INODE: u64 = 16_384;
const BYTES_PER_INODE_SMALL: u64 = 4096;
/// Disks below this get small blocks and more inodes.
const SMALL: u64 = 512 << 20;
/// A last group with less room than this is left out.
const LEAST_ROOM: u64 = 50;
const JOURNAL_INODE: u32 = 8;
const FIRST_INODE: u32 = 11;

/// What the layout follows from.
#[derive(Debug)]
struct Plan {
    version: ExtVersion,
    block_size: u32,
    blocks: u64,
    first: u32,
    per_group: u32,
    groups: u32,
    inodes_per_group: u32,
    descriptor_size: u16,
    journal: u32,
}

impl Plan {
    fn new(size: u64, version: ExtVersion) -> Result<Self> {
        let is_small = size < SMALL;
        let block_size: u32 = if is_small { 1024 } else { 4096 };
        let first = u32::from(block_size == 1024);
        let per_group = (block_size * 8).min(65_528);
        let descriptor_size = if version == ExtVersion::Ext4 { 64 } else { 32 };
        let ratio = if is_small { BYTES_PER_INODE_SMALL } else { BYTES_PER_INODE };
        let mut blocks = size / u64::from(block_size);
        if descriptor_size == 32 {
            blocks = blocks.min(u32::MAX.into());
        }
        let too_small = || Error::new(ErrorKind::TooLarge, format!("ext does not fit into {size} bytes"));
        loop {
            let groups = blocks.checked_sub(first.into()).ok_or_else(too_small)?.div_ceil(per_group.into());
            let groups = u32::try_from(groups).ok().filter(|groups| *groups <= 4 << 20).ok_or_else(|| {
                Error::new(ErrorKind::TooLarge, format!("ext on {size} bytes would have {groups} groups"))
            })?;
            if groups == 0 {
                return Err(too_small());
            }
            let unit = block_size / u32::from(INODE_SIZE);
            let wanted = (blocks * u64::from(block_size) / ratio).clamp(16, u32::MAX.into()).div_ceil(groups.into());
            let inodes = u32::try_from(wanted).unwrap_or(u32::MAX).next_multiple_of(unit.max(8)).min(per_group / 8 * 8);
            let journal = if version == ExtVersion::Ext2 { 0 } else { journal_blocks(blocks) };
            let this = Self {
                version,
                block_size,
                blocks,
                first,
                per_group,
                groups,
                inodes_per_group: inodes,
                descriptor_size,
                journal,
            };
            let start = u64::from(first) + u64::from(groups - 1) * u64::from(per_group);
            if blocks - start >= this.most_overhead() + LEAST_ROOM {
                return Ok(this);
            }
            if groups == 1 {
                return Err(too_small());
            }
            blocks = start;
        }
    }

    const fn table_blocks(&self) -> u64 {
        self.inodes_per_group as u64 * INODE_SIZE as u64 / self.block_size as u64
    }

    fn descriptor_blocks(&self) -> u64 {
        (u64::from(self.groups) * u64::from(self.descriptor_size)).div_ceil(self.block_size.into())
    }

    fn most_overhead(&self) -> u64 {
        1 + self.descriptor_blocks() + 2 + self.table_blocks()
    }

    fn superblock(&self, settings: &MakeSettings, number: u32, free: u64) -> Vec<u8> {
        let is_4 = self.version == ExtVersion::Ext4;
        let mut raw = vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        let halves = super::write::halves;
        let inodes = self.inodes_per_group * self.groups;
        let log = self.block_size.ilog2() - 10;
        let now = u32::try_from(settings.now.seconds).unwrap_or(0);
        let [blocks, blocks_high] = halves(self.blocks);
        let [reserved, reserved_high] = halves(self.blocks / 20);
        let [free, free_high] = halves(free);
        let words: [(usize, u32); 18] = [
            (0x00, inodes),
            (0x04, blocks),
            (0x08, reserved),
            (0x0C, free),
            (0x10, inodes - (FIRST_INODE - 1)),
            (0x14, self.first),
            (0x18, log),
            (0x1C, log),
            (0x20, self.per_group),
            (0x24, self.per_group),
            (0x28, self.inodes_per_group),
            (0x30, now),
            (0x40, now),
            (0x4C, 1),
            (0x54, FIRST_INODE),
            (0x100, 0x0C),
            (0x108, now),
            (0x160, 2),
        ];
        for (at, value) in words {
            put(at, &value.to_le_bytes());
        }
        // xattrs and hash trees; a journal
        put(0x5C, &(0x28_u32 | if self.journal > 0 { 0x4 } else { 0 }).to_le_bytes());
        // kinds in folders; extents, 64 bits
        put(0x60, &(0x2_u32 | if is_4 { 0xC0 } else { 0 }).to_le_bytes());
        // few backups, large files; huge files, many folders, wide inodes, checksums
        put(0x64, &(0x3_u32 | if is_4 { 0x468 } else { 0 }).to_le_bytes());
        for (at, value) in
            [(0x36, 0xFFFF), (0x38, 0xEF53), (0x3A, 1), (0x3C, 1), (0x58, INODE_SIZE), (0x15C, 32), (0x15E, 32)]
        {
            put(at, &u16::to_le_bytes(value));
        }
        put(0x5A, &u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
        put(0x68, &settings.uuid);
        put(0x78, settings.label.as_bytes());
        put(0xE0, &(if self.journal > 0 { JOURNAL_INODE } else { 0 }).to_le_bytes());
        // The seed of the hashes of names only has to differ from disk to disk.
        let seed: Vec<u8> = settings.uuid.iter().rev().map(|byte| byte ^ 0x5A).collect();
        put(0xEC, &seed);
        put(0xFC, &[1]);
        if is_4 {
            put(0xFE, &self.descriptor_size.to_le_bytes());
            put(0x150, &blocks_high.to_le_bytes());
            put(0x154, &reserved_high.to_le_bytes());
            put(0x158, &free_high.to_le_bytes());
            put(0x175, &[1]);
            seal(&mut raw);
        }
        raw
    }
}

/// Writes the checksum of a superblock.
fn seal(raw: &mut [u8]) {
    let sum = super::checksum::crc(!0, &raw[..0x3FC]);
    raw[0x3FC..].copy_from_slice(&sum.to_le_bytes());
}

/// The length of the journal that `mke2fs` chooses for so many blocks.
const fn journal_blocks(blocks: u64) -> u32 {
    match blocks {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..1_048_576 => 16_384,
        1_048_576..2_097_152 => 32_768,
        _ => 65_536,
    }
}

/// Makes an empty filesystem that fills `device`.
pub(crate) fn make(device: &Arc<dyn BlockWrite>, version: ExtVersion, settings: &MakeSettings) -> Result<()> {
    if settings.label.len() > 16 {
        return Err(invalid(format!("the label \"{}\" has more than 16 bytes", settings.label)));
    }
    let plan = Plan::new(device.size(), version)?;
    let block_size = u64::from(plan.block_size);
    // What stood before could be taken for something: the first block and the places of other filesystems' marks.
    device.write_zeroes_at(0..device.size().min(128 << 10), ZeroMode::Unmap)?;
    let cache = Cache::writable(Arc::clone(device));
    cache.write(&plan.superblock(settings, 0, 0), 1024)?;
    let superblock = Superblock::parse(&cache.read_vec(1024, 1024)?)?;
    let mut free = 0;
    for group in 0..plan.groups {
        free += write_group(&cache, device, &plan, &superblock, group)?;
    }
    let raw = plan.superblock(settings, 0, free);
    cache.write(&raw, 1024)?;
    let mut ext = Ext::with_cache(cache, superblock, Vec::new());
    // The checksums of the groups are written with the state.
    let state = ext.load_fresh_state(raw, settings.now)?;
    ext.state = Some(Mutex::new(state));
    fill(&ext, &plan, settings)?;
    ext.flush()?;
    // Copies of the superblock and the descriptors, as they are in the end.
    let primary = ext.cache.read_vec(1024, 1024)?;
    let table = usize::try_from(plan.descriptor_blocks() * block_size).unwrap_or(0);
    let descriptors = ext.cache.read_vec(ext.superblock.descriptor_offset(0), table)?;
    for group in (1..plan.groups).filter(|group| ext.superblock.blocks_before_tables(*group) > 0) {
        let start = (u64::from(plan.first) + u64::from(group) * u64::from(plan.per_group)) * block_size;
        let mut copy = primary.clone();
        copy[0x5A..0x5C].copy_from_slice(&u16::try_from(group).unwrap_or(u16::MAX).to_le_bytes());
        if version == ExtVersion::Ext4 {
            seal(&mut copy);
        }
        ext.cache.write(&copy, start)?;
        ext.cache.write(&descriptors, start + block_size)?;
    }
    ext.cache.flush()
}

/// Writes the bitmaps, the empty table and the descriptor of a group. Answers its free blocks.
fn write_group(
    cache: &Cache,
    device: &Arc<dyn BlockWrite>,
    plan: &Plan,
    superblock: &Superblock,
    group: u32,
) -> Result<u64> {
    let block_size = u64::from(plan.block_size);
    let start = u64::from(plan.first) + u64::from(group) * u64::from(plan.per_group);
    let count = u64::from(plan.per_group).min(plan.blocks - start);
    let tables = start + superblock.blocks_before_tables(group);
    let used = tables + 2 + plan.table_blocks() - start;
    let bits = usize::try_from(block_size * 8).unwrap_or(0);
    let mark = |used: usize, end: usize| {
        let mut bytes = vec![0; bits / 8];
        for bit in (0..used).chain(end..bits) {
            super::write::set_bit(&mut bytes, bit);
        }
        bytes
    };
    let index = |count: u64| usize::try_from(count).unwrap_or(0);
    cache.write(&mark(index(used), index(count)), tables * block_size)?;
    let own = if group == 0 { FIRST_INODE - 1 } else { 0 };
    cache.write(&mark(own as usize, plan.inodes_per_group as usize), (tables + 1) * block_size)?;
    let table = (tables + 2) * block_size;
    device.write_zeroes_at(table..table + plan.table_blocks() * block_size, ZeroMode::Unmap)?;
    let mut raw = vec![0; plan.descriptor_size.into()];
    for (at, block) in [(0, tables), (4, tables + 1), (8, tables + 2)] {
        let [low, high] = super::write::halves(block);
        raw[at..at + 4].copy_from_slice(&low.to_le_bytes());
        if raw.len() >= 64 {
            raw[at + 0x20..at + 0x24].copy_from_slice(&high.to_le_bytes());
        }
    }
    let free = count - used;
    let mut put =
        |at: usize, value: u64| raw[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap_or(0).to_le_bytes());
    put(0x0C, free);
    put(0x0E, (plan.inodes_per_group - own).into());
    put(0x10, u64::from(group == 0));
    if plan.version == ExtVersion::Ext4 {
        // The table is zeroed; of its inodes only those that are the filesystem's own were used.
        put(0x12, 0x4);
        put(0x1C, (plan.inodes_per_group - own).into());
    }
    cache.write(&raw, superblock.descriptor_offset(group))?;
    Ok(free)
}

/// Makes the root folder, `lost+found` and the journal.
fn fill(ext: &Ext, plan: &Plan, settings: &MakeSettings) -> Result<()> {
    let times = Attributes {
        modified: Some(settings.now),
        accessed: Some(settings.now),
        created: Some(settings.now),
        ..Attributes::default()
    };
    {
        let mut state = ext.state()?;
        let mut raw = vec![0; INODE_SIZE.into()];
        raw[0x80] = 32;
        let mut root = Inode::from_raw(raw, 2, FileKind::Directory);
        root.apply(&Attributes { permissions: Some(0o755), ..times.clone() }, settings.now);
        let block = ext.allocate_block(&mut state, 2)?;
        ext.write_block(block, &ext.first_folder_block(&root, 2))?;
        ext.set_map(&mut state, &mut root, &[(0, 1, block)])?;
        root.set_size(plan.block_size.into());
        root.set_links(2);
        ext.write_inode(&mut root)?;
    }
    ext.create_dir(ROOT, b"lost+found", &Attributes { permissions: Some(0o700), ..times.clone() })?;
    if plan.journal > 0 {
        make_journal(ext, plan, &times, settings.now)?;
    }
    Ok(())
}

fn make_journal(ext: &Ext, plan: &Plan, times: &Attributes, now: Timestamp) -> Result<()> {
    let mut state = ext.state()?;
    let mut raw = vec![0; INODE_SIZE.into()];
    raw[0x80] = 32;
    let mut inode = Inode::from_raw(raw, JOURNAL_INODE, FileKind::Regular);
    inode.apply(&Attributes { permissions: Some(0o600), ..times.clone() }, now);
    let (mut pieces, mut logical) = (Vec::new(), 0);
    while logical < plan.journal {
        let (block, count) = ext.allocate_blocks(&mut state, JOURNAL_INODE, plan.journal - logical)?;
        pieces.push((logical, count, block));
        logical += count;
    }
    ext.set_map(&mut state, &mut inode, &pieces)?;
    inode.set_size(u64::from(plan.journal) * u64::from(plan.block_size));
    inode.set_links(1);
    ext.write_inode(&mut inode)?;
    let mut head = vec![0; plan.block_size as usize];
    for (at, value) in [(0, 0xC03B_3998), (4, 4), (12, plan.block_size), (16, plan.journal), (20, 1), (24, 1), (64, 1)]
    {
        head[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    }
    for (index, (_, count, block)) in pieces.iter().enumerate() {
        let start = block * u64::from(plan.block_size);
        let end = start + u64::from(*count) * u64::from(plan.block_size);
        ext.zero(start..end)?;
        if index == 0 {
            ext.write_block(*block, &head)?;
        }
    }
    debug_assert_eq!(ext.root(), ROOT);
    Ok(())
}
