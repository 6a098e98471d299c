//! The two levels of tables of a sparse extent: where each grain is.
//!
//! ```text
//! grain ──► directory entry ──► grain table ──► entry ──► Place
//! ```
//!
//! The three dialects (hosted sparse, COWD, seSparse) differ in the width and meaning of entries and agree in everything
//! else. Both levels are read on demand through the [`BlockCache`]; a directory is never held as a whole, so that a disk of
//! any size is opened in the same memory. Nothing here trusts an entry: what it points to is checked where it is read.

use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::cache::{BlockCache, BlockKey, BlockKind};
use super::error::Fault;
use super::layout::SECTOR;

/// Bytes of a directory that are read and kept together.
const DIRECTORY_BLOCK: u64 = 4096;

/// How the entries of an extent are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 32 bits: 0 for nothing, 1 for zeroes where the header says so, or a sector.
    Hosted { zeroed_grains: bool, compressed: bool },
    /// 32 bits: 0 for nothing, or a sector.
    Cowd,
    /// 64 bits with a type in the uppermost four; see [`SeSparsePlaces`].
    SeSparse(SeSparsePlaces),
}

/// From where the entries of a seSparse extent count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeSparsePlaces {
    /// First byte of the grain tables.
    pub tables: u64,
    /// First byte of the grains.
    pub grains: u64,
}

/// The tables of one extent.
#[derive(Debug)]
pub(crate) struct Tables {
    pub file: Arc<dyn BlockRead>,
    pub dialect: Dialect,
    /// The directory's first byte. All of it is inside the file.
    pub directory: u64,
    /// Entries of the directory.
    pub entries: u64,
    pub gtes_per_gt: u64,
    pub grain_bytes: u64,
    pub cache: Arc<BlockCache>,
    /// The extent's number among those that share the cache.
    pub extent: usize,
}

/// Where a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: a parent shows through.
    Hole,
    /// Nowhere, and it reads as zeroes.
    Zero,
    /// At this byte of the file.
    Stored(u64),
    /// At this byte of the file, compressed; the next grain in the file stands at the second one, if known.
    Compressed(u64, Option<u64>),
}

/// Grains that follow each other on the disk and have the same kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The place of the first grain.
    pub place: Place,
    /// How many grains, at least one.
    pub grains: u64,
}

/// Which grains make a [`Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alike {
    /// Those of the same kind of place.
    InKind,
    /// Those that also follow each other in the file; a compressed grain is alone.
    InFile,
}

impl Place {
    fn continues(self, next: Self, grains: u64, grain_bytes: u64, alike: Alike) -> bool {
        match (self, next) {
            (Self::Hole, Self::Hole) | (Self::Zero, Self::Zero) => true,
            (Self::Stored(first), Self::Stored(next)) => {
                alike == Alike::InKind || first.checked_add(grains * grain_bytes) == Some(next)
            }
            (Self::Compressed(..), Self::Compressed(..)) => alike == Alike::InKind,
            _ => false,
        }
    }
}

impl Dialect {
    /// Bytes of an entry.
    pub(crate) const fn entry_bytes(self) -> u64 {
        match self {
            Self::Hosted { .. } | Self::Cowd => 4,
            Self::SeSparse(_) => 8,
        }
    }

    /// What a directory entry means.
    pub(crate) fn directory_entry(self, index: u64, value: u64, gt_bytes: u64) -> Result<TablePlace, Fault> {
        let bad = Fault::DirectoryValue { index, value };
        match (self, value) {
            (_, 0) => Ok(TablePlace::None),
            (Self::Hosted { zeroed_grains: true, .. }, 1) => Ok(TablePlace::Zero),
            (Self::Hosted { .. } | Self::Cowd, sector) => Ok(TablePlace::At(sector * SECTOR)),
            // "Strict check", as QEMU says: the type is 1, and there are fewer than 2^32 tables.
            (Self::SeSparse(places), value) if value >> 32 == 0x1000_0000 => {
                let table = (value & 0xffff_ffff).checked_mul(gt_bytes).and_then(|at| at.checked_add(places.tables));
                table.map(TablePlace::At).ok_or(bad)
            }
            (Self::SeSparse(_), _) => Err(bad),
        }
    }

    /// What a grain table entry means.
    fn table_entry(self, grain: u64, value: u64, grain_bytes: u64) -> Result<Place, Fault> {
        let bad = Fault::GrainValue { grain, value };
        match (self, value) {
            (_, 0) => Ok(Place::Hole),
            (Self::Hosted { zeroed_grains: true, .. }, 1) => Ok(Place::Zero),
            // The first sectors hold the header and the descriptor or the directory.
            (Self::Hosted { .. }, 1) | (Self::Cowd, 1..4) => Err(bad),
            (Self::Hosted { compressed: true, .. }, sector) => Ok(Place::Compressed(sector * SECTOR, None)),
            (Self::Hosted { .. } | Self::Cowd, sector) => Ok(Place::Stored(sector * SECTOR)),
            (Self::SeSparse(places), value) => match value >> 60 {
                // Unmapped by the guest, or zeroed: neither shows the parent.
                1 | 2 => Ok(Place::Zero),
                3 => {
                    // The number of the grain has its lower 12 bits above its upper 48.
                    let number = (value >> 48 & 0xfff) | (value & 0xffff_ffff_ffff) << 12;
                    let at = number.checked_mul(grain_bytes).and_then(|at| at.checked_add(places.grains));
                    at.map(Place::Stored).ok_or(bad)
                }
                _ => Err(bad),
            },
        }
    }
}

/// Where a grain table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TablePlace {
    /// Nowhere: none of its grains is.
    None,
    /// Nowhere: all of its grains are zeroes.
    Zero,
    /// At this byte of the file.
    At(u64),
}

impl Tables {
    /// Bytes of a grain table.
    pub(crate) fn gt_bytes(&self) -> u64 {
        self.gtes_per_gt * self.dialect.entry_bytes()
    }

    /// Finds the place of `grain`, and how many of the following `most` (at least one) are alike. The answer may end early.
    pub(crate) fn run(&self, grain: u64, most: u64, alike: Alike) -> Result<Run> {
        let index = grain / self.gtes_per_gt;
        let within = grain % self.gtes_per_gt;
        match self.table_place(index)? {
            TablePlace::At(at) => self.run_in_table(grain, at, within, most.min(self.gtes_per_gt - within), alike),
            empty => {
                let mut grains = self.gtes_per_gt - within;
                let mut next = index + 1;
                while grains < most && next < self.entries && self.table_place(next)? == empty {
                    grains += self.gtes_per_gt;
                    next += 1;
                }
                let place = if empty == TablePlace::Zero { Place::Zero } else { Place::Hole };
                Ok(Run { place, grains: grains.min(most) })
            }
        }
    }

    fn run_in_table(&self, grain: u64, at: u64, within: u64, most: u64, alike: Alike) -> Result<Run> {
        let table = self.table(grain / self.gtes_per_gt, at)?;
        let place = |index: u64| {
            let value = entry(&table, index, self.dialect.entry_bytes());
            self.dialect.table_entry(grain - within + index, value, self.grain_bytes)
        };
        let mut first = place(within)?;
        let mut grains = 1;
        while grains < most {
            // A bad entry behind is for whoever asks for it.
            let Ok(next) = place(within + grains) else { break };
            if !first.continues(next, grains, self.grain_bytes, alike) {
                break;
            }
            grains += 1;
        }
        if let Place::Compressed(offset, next) = &mut first {
            // The next grain's place bounds the length of this one, in files written in order.
            let behind = (within + 1..self.gtes_per_gt.min(within + 9)).filter_map(|index| match place(index) {
                Ok(Place::Compressed(behind, _)) if behind > *offset => Some(behind),
                _ => None,
            });
            *next = behind.min();
        }
        Ok(Run { place: first, grains })
    }

    fn table(&self, index: u64, at: u64) -> Result<Arc<[u8]>> {
        let bytes = self.gt_bytes();
        let key = BlockKey { extent: self.extent, kind: BlockKind::Table, place: at };
        self.cache.get(key, || {
            let file = self.file.size();
            if at.checked_add(bytes).is_none_or(|end| end > file) {
                return Err(Fault::DirectoryEntry { index, sector: at / SECTOR, bytes, file }.into());
            }
            self.load(at, bytes)
        })
    }

    fn table_place(&self, index: u64) -> Result<TablePlace> {
        let width = self.dialect.entry_bytes();
        let place = index * width / DIRECTORY_BLOCK * DIRECTORY_BLOCK;
        let key = BlockKey { extent: self.extent, kind: BlockKind::Directory, place: self.directory + place };
        let length = DIRECTORY_BLOCK.min(self.entries * width - place);
        let block = self.cache.get(key, || self.load(self.directory + place, length))?;
        let value = entry(&block, index - place / width, width);
        Ok(self.dialect.directory_entry(index, value, self.gt_bytes())?)
    }

    fn load(&self, at: u64, length: u64) -> Result<Arc<[u8]>> {
        // Both callers ask for at most 64 KiB.
        let mut block = vec![0; usize::try_from(length).expect("a table fits memory")];
        self.file.read_at(&mut block, at)?;
        Ok(block.into())
    }
}

/// Entry `index` of a table whose entries have `width` bytes.
fn entry(table: &[u8], index: u64, width: u64) -> u64 {
    let at = usize::try_from(index * width).expect("a table fits memory");
    if width == 4 {
        u32::from_le_bytes(table[at..at + 4].try_into().expect("four bytes")).into()
    } else {
        u64::from_le_bytes(table[at..at + 8].try_into().expect("eight bytes"))
    }
}
