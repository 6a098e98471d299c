//! One file of a Parallels disk that grows: its header and its map of blocks.
//!
//! The QEMU project's `docs/interop/parallels.rst`.

use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::FORMAT;
use crate::mapped::{Place, Tables, UnitMap, corrupt, field, head, info};
use crate::{ImageInfo, Source};

const HEADER: usize = 64;
pub(super) const SECTOR: u64 = 512;
/// The one version that either kind of header has.
pub(super) const VERSION: u32 = 2;
/// Somebody had the image open and did not close it: `Ynot`.
const IN_USE: u32 = 0x746f_6e59;

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
pub(super) struct Header {
    variant: &'static str,
    /// Bytes of a block.
    pub(super) block: u64,
    entries: u64,
    /// Bytes that an entry of the map counts.
    scale: u64,
    pub(super) size: u64,
    pub(super) in_use: bool,
}

impl Header {
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        let head = head(file, HEADER, "Parallels header")?;
        let le32 = |offset| u32::from_le_bytes(field(&head, offset));
        let (variant, extended) = match &head[..16] {
            b"WithoutFreeSpace" => ("WithoutFreeSpace", false),
            b"WithouFreSpacExt" => ("WithouFreSpacExt", true),
            _ => return Err(Error::new(ErrorKind::NotThisFormat, "Parallels header: the magic number is missing")),
        };
        if le32(16) != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("Parallels header: version {} is not known", le32(16)),
            ));
        }
        let (tracks, entries) = (u64::from(le32(28)), u64::from(le32(32)));
        // The first kind has 32 bits for it; what stands behind them is of no meaning.
        let sectors = if extended { u64::from_le_bytes(field(&head, 36)) } else { u64::from(le32(36)) };
        if tracks == 0 {
            return Err(corrupt("Parallels header: a block of 0 sectors".to_owned()));
        }
        if sectors.div_ceil(tracks) > entries || sectors > u64::MAX / SECTOR / 2 {
            return Err(corrupt(format!(
                "Parallels header: {entries} blocks of {tracks} sectors do not cover the disk of {sectors} sectors"
            )));
        }
        let end = HEADER as u64 + entries * 4;
        if end > file.size() {
            return Err(corrupt(format!("Parallels map: it ends at byte {end}, and the file at byte {}", file.size())));
        }
        let block = tracks * SECTOR;
        let scale = if extended { block } else { SECTOR };
        Ok(Self { variant, block, entries, scale, size: sectors * SECTOR, in_use: le32(44) == IN_USE })
    }

    pub(super) fn info(&self, source: &Source) -> ImageInfo {
        ImageInfo {
            variant: Some(self.variant.to_owned()),
            dirty: self.in_use,
            ..info(&FORMAT, source, self.size, self.block)
        }
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        let first = HEADER as u64 + self.entries * 4;
        match u64::from(u32::from_le_bytes(tables.bytes(HEADER as u64 + index * 4, "Parallels map")?)) {
            0 => Ok(Place::Hole),
            // Below 2^32 blocks of below 2^41 bytes do not always fit.
            entry => match entry.checked_mul(self.scale).filter(|start| *start >= first) {
                Some(start) => Ok(Place::File(start)),
                None => Err(corrupt(format!("Parallels map: block {index} is at {entry}, not behind the map"))),
            },
        }
    }
}
