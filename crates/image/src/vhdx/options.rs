//! The options of a new image, spelled as qemu-img spells them.

use transload_block::{Error, ErrorKind, Result};

use super::geometry::Geometry;
use super::layout::{BLOCK_SIZES, DISK_MAX, MIB};
use super::log::REPLAY_MAX;
use crate::{OptionKind, OptionSpec, OptionValues};

/// What `-o` understands when an image is made.
pub(crate) const CREATE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&["dynamic", "fixed"]),
        default: "dynamic",
        help: "blocks as they are written (dynamic), or all of them from the start (fixed)",
    },
    OptionSpec {
        name: "block_size",
        kind: OptionKind::Size,
        default: "",
        help: "unit of allocation, a power of two from 1M to 256M; 8M to 64M by the disk's size",
    },
    OptionSpec {
        name: "log_size",
        kind: OptionKind::Size,
        default: "1M",
        help: "length of the log, a multiple of 1M up to 64M",
    },
    OptionSpec {
        name: "block_state_zero",
        kind: OptionKind::Flag,
        default: "on",
        help: "record blocks that are not written as zeroes, not as absent",
    },
    OptionSpec {
        name: "logical_sector_size",
        kind: OptionKind::Size,
        default: "512",
        help: "bytes of a sector as the guest sees it, 512 or 4096; a disk keeps working only with those it had",
    },
];

/// Bytes of a logical sector of a new image, unless an option says otherwise.
const SECTOR: u64 = 512;

/// A new image's checked properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewImage {
    pub geometry: Geometry,
    pub fixed: bool,
    pub log_size: u64,
    pub state_zero: bool,
}

impl NewImage {
    /// Checks `options` for an image of `size` bytes, rounded up to whole sectors.
    ///
    /// # Errors
    /// `InvalidInput` for values that the format does not allow; `TooLarge` for more than 64 TiB.
    pub(crate) fn new(size: u64, options: &OptionValues) -> Result<Self> {
        if size > DISK_MAX {
            let what = format!("VHDX: a disk of {size} bytes; the format ends at 64 TiB ({DISK_MAX} bytes)");
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        let sector = options.size("logical_sector_size").unwrap_or(SECTOR);
        if !matches!(sector, 512 | 4096) {
            return Err(invalid(format!("option logical_sector_size={sector}: must be 512 or 4096")));
        }
        let size = size.next_multiple_of(sector);
        // As with qemu-img, 0 means the default.
        let block_size = options.size("block_size").filter(|size| *size > 0).unwrap_or(default_block_size(size));
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(invalid(format!("option block_size={block_size}: must be a power of two from 1M to 256M")));
        }
        let log_size = options.size("log_size").filter(|size| *size > 0).unwrap_or(MIB);
        if !log_size.is_multiple_of(MIB) || log_size > REPLAY_MAX {
            return Err(invalid(format!("option log_size={log_size}: must be a multiple of 1M, at most 64M")));
        }
        Ok(Self {
            geometry: Geometry { size, block_size, sector, has_parent: false },
            fixed: options.text("subformat") == Some("fixed"),
            log_size,
            state_zero: options.flag("block_state_zero").unwrap_or(true),
        })
    }

    pub(crate) const fn log_at() -> u64 {
        MIB
    }

    pub(crate) const fn metadata_at(&self) -> u64 {
        MIB + self.log_size
    }

    pub(crate) const fn bat_at(&self) -> u64 {
        self.metadata_at() + MIB
    }

    /// Bytes of the region of the block allocation table.
    pub(crate) fn bat_bytes(&self) -> u64 {
        bat_bytes(&self.geometry)
    }

    /// Where the first block goes.
    pub(crate) fn blocks_at(&self) -> u64 {
        self.bat_at() + self.bat_bytes()
    }

    /// The file's length when `blocks` blocks are in it.
    pub(crate) fn file_length(&self, blocks: u64) -> u64 {
        self.blocks_at() + blocks * self.geometry.block_size
    }
}

/// Bytes of the region that the table needs: whole MiB, and at least one.
pub(crate) fn bat_bytes(geometry: &Geometry) -> u64 {
    (geometry.bat_entries() * 8).next_multiple_of(MIB).max(MIB)
}

/// Larger disks get larger blocks, so that their tables stay small; the steps are QEMU's.
fn default_block_size(size: u64) -> u64 {
    match size {
        size if size > 32 << 40 => 64 * MIB,
        size if size > 100 << 30 => 32 * MIB,
        size if size > 1 << 30 => 16 * MIB,
        _ => 8 * MIB,
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
