//! What of the superblock concerns a writer: which filesystems are refused, and the counts that are written in the end.

use transload_block::{BlockRead, BlockReadExt, Result};

use super::State;
use super::group::Group;
use crate::contract::{FileSystem, Timestamp};
use crate::ext::superblock::{Superblock, incompat};
use crate::ext::{Ext, checksum};
use crate::fields::{Fields, unsupported};

const PLACE: u64 = 1024;
const LENGTH: u64 = 1024;

/// Features that a writer keeps up with; the others would be left with wrong contents.
const RO_WRITTEN: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x400 | 0x2000 | 0x8000;
const RO_LARGE_FILE: u32 = 0x2;
const COMPAT_EXT_ATTR: u32 = 0x8;

/// Refuses a filesystem that has to be checked or mounted first, or that has features a writer here does not keep up with.
/// Answers the superblock's bytes.
pub(crate) fn refuse_unwritable(device: &dyn BlockRead, superblock: &Superblock) -> Result<Vec<u8>> {
    let raw = device.read_vec(PLACE, LENGTH)?;
    let fields = Fields::new(&raw, "ext superblock");
    let remedy = "mount the filesystem once, or run e2fsck on it";
    if superblock.has(incompat::RECOVER) {
        return Err(
            unsupported("ext: writing while the journal holds changes that were not played back").with_remedy(remedy)
        );
    }
    if !superblock.clean || fields.le16(0x3A)? & 2 != 0 {
        return Err(
            unsupported("ext: writing to a filesystem that was not unmounted, or has errors").with_remedy(remedy)
        );
    }
    if fields.le32(0xE8)? != 0 {
        return Err(unsupported("ext: writing while deleted files wait to be freed").with_remedy(remedy));
    }
    let kept_up = incompat::HANDLED & !(incompat::MMP | incompat::EA_INODE | incompat::CASEFOLD | incompat::ENCRYPT);
    let (incompatible, read_only) = (superblock.incompat & !kept_up, superblock.ro_compat & !RO_WRITTEN);
    if incompatible != 0 || read_only != 0 {
        let text =
            format!("ext: writing with the features {incompatible:#x} (incompatible), {read_only:#x} (read-only)");
        return Err(unsupported(text));
    }
    Ok(raw)
}

impl Ext {
    /// Reads the counts and the groups.
    pub(super) fn load_state(&self, superblock: Vec<u8>, now: Timestamp) -> Result<State> {
        let count = self.group_count()?;
        let groups = (0..count).map(|number| self.read_group(number)).collect::<Result<Vec<Group>>>()?;
        let free_blocks = groups.iter().map(|group| u64::from(group.free_blocks())).sum();
        let free_inodes = groups.iter().map(Group::free_inodes).sum();
        Ok(State { groups, superblock, free_blocks, free_inodes, next_block: 0, names: None, now })
    }

    /// As [`load_state`](Self::load_state), for groups whose checksums were never written.
    pub(in crate::ext) fn load_fresh_state(&self, superblock: Vec<u8>, now: Timestamp) -> Result<State> {
        let mut state = self.load_state(superblock, now)?;
        state.groups.iter_mut().for_each(Group::note_change);
        Ok(state)
    }

    /// Makes a range of the device read as zeroes, which no page in memory holds otherwise.
    pub(in crate::ext) fn zero(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.cache.zero(range)
    }

    /// Writes the groups that changed, and the superblock.
    pub(super) fn write_state(&self, state: &mut State) -> Result<()> {
        for number in 0..state.groups.len() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            self.write_group(&mut state.groups[number as usize], number)?;
        }
        let raw = &mut state.superblock;
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        let [low, high] = halves(state.free_blocks);
        put(0x0C, &low.to_le_bytes());
        if self.superblock.has(incompat::WIDE) {
            put(0x158, &high.to_le_bytes());
        }
        put(0x10, &state.free_inodes.to_le_bytes());
        if self.superblock.checksum_seed.is_some() {
            let sum = checksum::crc(!0, &raw[..0x3FC]);
            raw[0x3FC..].copy_from_slice(&sum.to_le_bytes());
        }
        self.cache.write(raw, PLACE)
    }

    /// The superblock says when there are files of more than 2 GiB.
    pub(super) fn note_large_file(&self, state: &mut State) {
        set_bit(&mut state.superblock, 0x64, RO_LARGE_FILE);
    }

    /// The superblock says when there are extended attributes.
    pub(super) fn note_attributes(&self, state: &mut State) {
        set_bit(&mut state.superblock, 0x5C, COMPAT_EXT_ATTR);
        debug_assert_eq!(self.root().0, 2);
    }
}

fn set_bit(raw: &mut [u8], at: usize, bit: u32) {
    let old = u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    raw[at..at + 4].copy_from_slice(&(old | bit).to_le_bytes());
}

/// The lower and the upper half of a number.
pub(crate) fn halves(number: u64) -> [u32; 2] {
    let bytes = number.to_le_bytes();
    [
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    ]
}
