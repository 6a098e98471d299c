//! Sectors of the block allocation table and of sector bitmaps, kept in memory within a bound.
//!
//! Clean sectors live in two generations: what is asked for stands in the young one; when that is full it becomes the old
//! one, and what was old and not asked for since is dropped. Changed sectors stay until [`Sectors::settle`], when they are
//! in the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use transload_block::{BlockRead, Result};

use super::layout::LOG_SECTOR;

/// The bytes of a sector.
pub(crate) type Sector = [u8; 4096];

/// The memory.
#[derive(Debug)]
pub(crate) struct Sectors {
    generation: usize,
    young: HashMap<u64, Arc<Sector>>,
    old: HashMap<u64, Arc<Sector>>,
    changed: BTreeMap<u64, Box<Sector>>,
}

impl Sectors {
    /// A memory of about `bytes` of clean sectors, and of at least a few.
    pub(crate) fn new(bytes: usize) -> Self {
        let generation = (bytes / 2 / size_of::<Sector>()).max(8);
        Self { generation, young: HashMap::new(), old: HashMap::new(), changed: BTreeMap::new() }
    }

    /// The little-endian number at byte `at` of the file, a multiple of 8.
    pub(crate) fn number(&mut self, file: &dyn BlockRead, at: u64) -> Result<u64> {
        let inside = usize::try_from(at % LOG_SECTOR).expect("inside a sector");
        let sector = self.get(file, at - at % LOG_SECTOR)?;
        Ok(sector[inside..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The sector that begins at `at`.
    pub(crate) fn get(&mut self, file: &dyn BlockRead, at: u64) -> Result<&Sector> {
        if self.changed.contains_key(&at) {
            return Ok(&self.changed[&at]);
        }
        if !self.young.contains_key(&at) {
            let sector = match self.old.remove(&at) {
                Some(sector) => sector,
                None => Arc::new(load(file, at)?),
            };
            if self.young.len() >= self.generation {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(at, sector);
        }
        Ok(&self.young[&at])
    }

    /// The sector that begins at `at`, to be changed.
    pub(crate) fn change(&mut self, file: &dyn BlockRead, at: u64) -> Result<&mut Sector> {
        if !self.changed.contains_key(&at) {
            let sector = Box::new(*self.get(file, at)?);
            self.young.remove(&at);
            self.old.remove(&at);
            self.changed.insert(at, sector);
        }
        Ok(self.changed.get_mut(&at).expect("it was put there"))
    }

    /// How many sectors are changed.
    pub(crate) fn changes(&self) -> usize {
        self.changed.len()
    }

    /// The changed sectors, ascending.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (u64, &Sector)> {
        self.changed.iter().map(|(at, sector)| (*at, &**sector))
    }

    /// Forgets that sectors were changed: they are in the file now.
    pub(crate) fn settle(&mut self) {
        self.changed.clear();
    }
}

/// Reads a sector, as far as the file goes; a region is in the file as a whole.
fn load(file: &dyn BlockRead, at: u64) -> Result<Sector> {
    let mut sector = [0; 4096];
    file.read_at(&mut sector, at)?;
    Ok(sector)
}
