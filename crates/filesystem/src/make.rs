//! Making new filesystems.

use std::sync::Arc;

use transload_block::{BlockWrite, Result};

use crate::contract::Timestamp;
use crate::{ext, fat};

/// Which filesystem is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MakeKind {
    /// ext2, ext3 or ext4.
    Ext(ExtVersion),
    /// FAT, with entries of so many bits; by the size of the disk where it is not said.
    Fat(Option<FatBits>),
}

/// A generation of ext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtVersion {
    /// No journal, block maps.
    Ext2,
    /// A journal, block maps.
    Ext3,
    /// A journal, extents, checksums.
    Ext4,
}

/// Bits of an entry of the allocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatBits {
    /// FAT12.
    Twelve,
    /// FAT16.
    Sixteen,
    /// FAT32.
    ThirtyTwo,
}

/// What a new filesystem is given.
#[derive(Clone, Debug)]
pub struct MakeSettings {
    /// The volume's label.
    pub label: String,
    /// The UUID; FAT takes its serial number from the first four bytes.
    pub uuid: [u8; 16],
    /// The time of everything in it.
    pub now: Timestamp,
    /// How many sectors of the disk stand before the volume, which FAT writes down.
    pub hidden_sectors: u32,
}

/// Makes an empty filesystem that fills `device`. What was there is gone. The same settings give the same bytes.
///
/// # Errors
/// `InvalidInput` for a label that it cannot have; `TooLarge` when it does not fit the device.
pub fn make(device: &Arc<dyn BlockWrite>, kind: MakeKind, settings: &MakeSettings) -> Result<()> {
    match kind {
        MakeKind::Ext(version) => ext::make(device, version, settings),
        MakeKind::Fat(bits) => fat::make(&**device, bits, settings),
    }
}
