//! The grain tables of a sparse extent that is written: a bounded number of them in memory, changed there and put back
//! into both copies behind the data they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage};

use crate::vmdk::layout::SECTOR;

/// Tables kept at least, however little memory there is: two for a request across their border, and one to spare.
const TABLES_MIN: usize = 4;

/// Where the tables are and how many entries they have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directories {
    /// First sector of the grain directory.
    pub(crate) gd: u64,
    /// First sector of the redundant one, where there is one.
    pub(crate) rgd: Option<u64>,
    /// Entries of a grain table.
    pub(crate) entries: u64,
}

/// One table in memory. Both copies in the file get the same bytes.
#[derive(Debug)]
struct Table {
    /// Byte offsets of the copies.
    places: [Option<u64>; 2],
    entries: Vec<u32>,
    dirty: bool,
    used: u64,
}

/// The tables of one extent.
#[derive(Debug)]
pub(super) struct GrainTables {
    storage: Arc<dyn Storage>,
    directories: Directories,
    tables: HashMap<u64, Table>,
    most: usize,
    clock: u64,
}

impl GrainTables {
    pub(super) fn new(storage: Arc<dyn Storage>, directories: Directories, cache_bytes: usize) -> Self {
        let table_bytes = usize::try_from(directories.entries * 4).unwrap_or(usize::MAX).saturating_add(128);
        let most = (cache_bytes / table_bytes).max(TABLES_MIN);
        Self { storage, directories, tables: HashMap::new(), most, clock: 0 }
    }

    /// The entries of table `index`; `None` when the extent has no such table yet.
    ///
    /// # Errors
    /// `Corrupt` when the directory points outside the file; what the storage answers.
    pub(super) fn entries(&mut self, index: u64) -> Result<Option<&[u32]>> {
        if !self.load(index)? {
            return Ok(None);
        }
        Ok(self.touch(index).map(|table| table.entries.as_slice()))
    }

    /// The entries of table `index` to be changed; they go into the file with [`write_back`](Self::write_back).
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub(super) fn entries_mut(&mut self, index: u64) -> Result<Option<&mut Vec<u32>>> {
        if !self.load(index)? {
            return Ok(None);
        }
        Ok(self.touch(index).map(|table| {
            table.dirty = true;
            &mut table.entries
        }))
    }

    /// Enters a new, empty table whose copies stand at byte `place` and, where there is a second directory, right behind.
    /// The bytes there are durable zeroes.
    pub(super) fn insert(&mut self, index: u64, place: u64) -> Result<()> {
        self.make_room()?;
        let bytes = self.directories.entries * 4;
        let copy = self.directories.rgd.map(|_| place + bytes.next_multiple_of(SECTOR));
        if let (Some(rgd), Some(copy)) = (self.directories.rgd, copy) {
            self.set_directory_entry(rgd, index, copy)?;
        }
        self.set_directory_entry(self.directories.gd, index, place)?;
        let entries = vec![0; usize::try_from(self.directories.entries).unwrap_or(0)];
        self.tables.insert(index, Table { places: [Some(place), copy], entries, dirty: false, used: self.clock });
        Ok(())
    }

    /// Bytes that a new table and its copy take.
    pub(super) fn table_pair_bytes(&self) -> u64 {
        let copies = 1 + u64::from(self.directories.rgd.is_some());
        (self.directories.entries * 4).next_multiple_of(SECTOR) * copies
    }

    /// Puts every changed table back, once the data that the entries refer to is durable.
    ///
    /// A crash in the middle leaves sectors with old entries and sectors with new ones, all of which refer to sound
    /// grains; the copies need no order among themselves.
    pub(super) fn write_back(&mut self) -> Result<()> {
        let mut changed: Vec<u64> =
            self.tables.iter().filter(|(_, table)| table.dirty).map(|(index, _)| *index).collect();
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort_unstable();
        self.storage.flush()?;
        for index in changed {
            let Some(table) = self.tables.get_mut(&index) else { continue };
            let bytes: Vec<u8> = table.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            for place in table.places.iter().rev().flatten() {
                self.storage.write_at(&bytes, *place)?;
            }
            table.dirty = false;
        }
        Ok(())
    }

    fn touch(&mut self, index: u64) -> Option<&mut Table> {
        self.clock += 1;
        let clock = self.clock;
        let table = self.tables.get_mut(&index)?;
        table.used = clock;
        Some(table)
    }

    /// Gets table `index` into memory and answers whether there is one.
    fn load(&mut self, index: u64) -> Result<bool> {
        if self.tables.contains_key(&index) {
            return Ok(true);
        }
        let Some(place) = self.directory_entry(self.directories.gd, index)? else { return Ok(false) };
        let copy = match self.directories.rgd {
            Some(rgd) => self.directory_entry(rgd, index)?.filter(|copy| *copy != place),
            None => None,
        };
        self.make_room()?;
        let mut bytes = vec![0; usize::try_from(self.directories.entries * 4).unwrap_or(0)];
        self.storage.read_at(&mut bytes, place)?;
        let (words, _) = bytes.as_chunks::<4>();
        let entries = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        self.tables.insert(index, Table { places: [Some(place), copy], entries, dirty: false, used: self.clock });
        Ok(true)
    }

    /// Lets go of the half that was not used for longest when there is no room for one more.
    fn make_room(&mut self) -> Result<()> {
        if self.tables.len() < self.most {
            return Ok(());
        }
        self.write_back()?;
        let mut ages: Vec<u64> = self.tables.values().map(|table| table.used).collect();
        ages.sort_unstable();
        let limit = ages[ages.len() / 2];
        self.tables.retain(|_, table| table.used > limit);
        Ok(())
    }

    /// The byte offset that entry `index` of the directory at sector `directory` names.
    fn directory_entry(&self, directory: u64, index: u64) -> Result<Option<u64>> {
        let mut bytes = [0; 4];
        self.storage.read_at(&mut bytes, directory * SECTOR + index * 4)?;
        let sector = u64::from(u32::from_le_bytes(bytes));
        if sector == 0 {
            return Ok(None);
        }
        let (place, length) = (sector * SECTOR, self.directories.entries * 4);
        if place + length > self.storage.size() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "VMDK grain directory: entry {index} is sector {sector}; a table of {length} bytes there reaches \
                     behind the file's {} bytes",
                    self.storage.size()
                ),
            ));
        }
        Ok(Some(place))
    }

    fn set_directory_entry(&self, directory: u64, index: u64, place: u64) -> Result<()> {
        let sector = u32::try_from(place / SECTOR)
            .map_err(|_| Error::new(ErrorKind::TooLarge, "VMDK: a grain table behind 2 TiB of the file"))?;
        self.storage.write_at(&sector.to_le_bytes(), directory * SECTOR + index * 4)
    }
}
