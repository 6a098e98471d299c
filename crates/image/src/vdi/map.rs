//! The block map in memory: a bounded number of its pages, read when they are asked for.

use std::collections::HashMap;

use transload_block::{BlockRead, Result, Storage};

/// Entries of a page: 16 KiB of the file, which map 4 GiB of blocks of 1 MiB.
pub(super) const PAGE: u64 = 4096;
/// Pages kept at least, however little memory there is.
const PAGES_MIN: usize = 4;
/// What a page costs in memory: its entries, and about what it is kept in.
const PAGE_BYTES: usize = 4096 * 4 + 128;

#[derive(Debug)]
struct Page {
    entries: Vec<u32>,
    dirty: bool,
    used: u64,
}

/// The map of one image.
#[derive(Debug)]
pub(super) struct BlockMap {
    /// Where it stands in the file.
    offset: u64,
    blocks: u64,
    pages: HashMap<u64, Page>,
    most: usize,
    clock: u64,
}

impl BlockMap {
    pub(super) fn new(offset: u64, blocks: u64, cache_bytes: usize) -> Self {
        let most = (cache_bytes / PAGE_BYTES).max(PAGES_MIN);
        Self { offset, blocks, pages: HashMap::new(), most, clock: 0 }
    }

    /// Whether page `page` is in memory or there is room for it without putting changed ones back.
    pub(super) fn has_room(&self, page: u64) -> bool {
        self.pages.contains_key(&page) || self.pages.len() < self.most
    }

    /// Lets go of the half of the pages that was not used for longest. None of them is dirty.
    pub(super) fn make_room(&mut self) {
        let mut ages: Vec<u64> = self.pages.values().map(|page| page.used).collect();
        ages.sort_unstable();
        let limit = ages.get(ages.len() / 2).copied().unwrap_or(0);
        self.pages.retain(|_, page| page.used > limit || page.dirty);
    }

    /// The entries of page `page`, in memory from now on.
    ///
    /// # Errors
    /// What the file answers.
    pub(super) fn page(&mut self, file: &dyn BlockRead, page: u64) -> Result<&[u32]> {
        self.clock += 1;
        let clock = self.clock;
        if !self.pages.contains_key(&page) {
            let entries = read_entries(file, self.offset, page * PAGE, PAGE.min(self.blocks - page * PAGE))?;
            self.pages.insert(page, Page { entries, dirty: false, used: clock });
        }
        let found = self.pages.get_mut(&page).expect("it was just put there");
        found.used = clock;
        Ok(&found.entries)
    }

    /// Changes the entry of `block`, whose page is in memory.
    pub(super) fn set(&mut self, block: u64, entry: u32) {
        let page = self.pages.get_mut(&(block / PAGE)).expect("the caller has looked at the page");
        page.entries[slot(block)] = entry;
        page.dirty = true;
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.pages.values().any(|page| page.dirty)
    }

    /// Puts every changed page into the file, in the order of the file.
    ///
    /// # Errors
    /// What the file answers; the pages that are not in it stay changed.
    pub(super) fn write_back(&mut self, storage: &dyn Storage) -> Result<()> {
        let mut dirty: Vec<u64> = self.pages.iter().filter(|(_, page)| page.dirty).map(|(index, _)| *index).collect();
        dirty.sort_unstable();
        for index in dirty {
            let Some(page) = self.pages.get_mut(&index) else { continue };
            let bytes: Vec<u8> = page.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            storage.write_at(&bytes, self.offset + index * PAGE * 4)?;
            page.dirty = false;
        }
        Ok(())
    }
}

/// The place of `block` in its page.
pub(super) fn slot(block: u64) -> usize {
    usize::try_from(block % PAGE).expect("below the page's length")
}

/// Reads `count` entries from `first` of the map at `offset`.
pub(super) fn read_entries(file: &dyn BlockRead, offset: u64, first: u64, count: u64) -> Result<Vec<u32>> {
    let mut bytes = vec![0; usize::try_from(count * 4).expect("the caller asks for a page at a time")];
    file.read_at(&mut bytes, offset + first * 4)?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}
