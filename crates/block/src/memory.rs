//! A disk in memory, of pages that exist once something was written to them.
//!
//! A disk of 3 TiB with a few pages costs those pages. Reads and writes hold the table of pages for reading, so that
//! they run side by side, and each page they touch for as long as they copy; only making and dropping pages, and moving the
//! end, hold the table alone. Order of the locks: table, then one page at a time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::ext::is_all_zero;
use crate::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Extent, Result, Storage, ZeroMode, check_extent,
    check_range, check_span,
};

/// Small enough that scattered writes cost little, large enough that a table entry per page is nothing.
const PAGE: usize = 64 << 10;

type Page = RwLock<Box<[u8]>>;

/// A growable, sparse disk in memory, for tests and small images.
#[derive(Default)]
pub struct Memory(RwLock<Table>);

#[derive(Default)]
struct Table {
    size: u64,
    /// By page number. What is not here is zero; what reaches behind the end is zero too.
    pages: BTreeMap<u64, Page>,
}

impl Memory {
    /// A disk of `size` zeroes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(RwLock::new(Table { size: size as u64, pages: BTreeMap::new() }))
    }

    /// A copy of all bytes.
    ///
    /// # Panics
    /// When they do not fit into memory.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let table = self.table();
        let mut bytes = vec![0; usize::try_from(table.size).expect("a disk that is copied fits into memory")];
        table.read(&mut bytes, 0);
        bytes
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        let page = |(number, piece): (u64, &[u8])| (number, full_page(piece));
        let pieces = (0..).zip(bytes.chunks(PAGE)).filter(|(_, piece)| !is_all_zero(piece));
        Self(RwLock::new(Table { size: bytes.len() as u64, pages: pieces.map(page).collect() }))
    }
}

impl Clone for Memory {
    /// A copy of the bytes at some moment between the writes that go on.
    fn clone(&self) -> Self {
        let table = self.table_mut();
        let copy = |page: &Page| RwLock::new(page.read().unwrap_or_else(PoisonError::into_inner).clone());
        let pages = table.pages.iter().map(|(number, page)| (*number, copy(page))).collect();
        Self(RwLock::new(Table { size: table.size, pages }))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = self.table();
        f.debug_struct("Memory").field("size", &table.size).field("pages", &table.pages.len()).finish()
    }
}

/// A page that begins with `piece`.
fn full_page(piece: &[u8]) -> Page {
    let mut page = vec![0; PAGE].into_boxed_slice();
    page[..piece.len()].copy_from_slice(piece);
    RwLock::new(page)
}

/// A stretch of bytes within one page.
struct Piece {
    page: u64,
    within: Range<usize>,
    /// Where it is in the caller's range.
    done: u64,
}

impl Piece {
    fn covers_page(&self) -> bool {
        self.within.len() == PAGE
    }

    fn of<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[index(self.done)..][..self.within.len()]
    }
}

/// Cuts a range at the borders of pages.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Piece> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let within = index(at % PAGE as u64);
        let length = usize::try_from(range.end - at).unwrap_or(PAGE).min(PAGE - within);
        let piece = Piece { page: at / PAGE as u64, within: within..within + length, done: at - range.start };
        at += length as u64;
        Some(piece)
    })
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("a place in a buffer or page")
}

fn locked(page: &Page) -> RwLockWriteGuard<'_, Box<[u8]>> {
    page.write().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn read(&self, buf: &mut [u8], offset: u64) {
        for piece in pieces(offset..offset + buf.len() as u64) {
            let part = &mut buf[index(piece.done)..][..piece.within.len()];
            match self.pages.get(&piece.page) {
                Some(page) => {
                    let page = page.read().unwrap_or_else(PoisonError::into_inner);
                    part.copy_from_slice(&page[piece.within]);
                }
                None => part.fill(0),
            }
        }
    }

    /// Copies `buf` into pages that exist, and returns which do not.
    fn write(&self, buf: &[u8], offset: u64) -> Vec<Piece> {
        let mut missing = Vec::new();
        for piece in pieces(offset..offset + buf.len() as u64) {
            match self.pages.get(&piece.page) {
                Some(page) => locked(page)[piece.within.clone()].copy_from_slice(piece.of(buf)),
                None => missing.push(piece),
            }
        }
        missing
    }

    /// The zeroing that needs no change of the table: the bytes of `range` in the pages that are there.
    fn fill_zero(&self, range: Range<u64>) {
        for (number, page) in self.pages.range(range.start / PAGE as u64..range.end.div_ceil(PAGE as u64)) {
            let first = number * PAGE as u64;
            let from = index(range.start.saturating_sub(first));
            let to = index((range.end - first).min(PAGE as u64));
            locked(page)[from..to].fill(0);
        }
    }

    /// Drops the pages that lie wholly inside `range`.
    fn drop_pages(&mut self, range: &Range<u64>) {
        let first = range.start.div_ceil(PAGE as u64);
        // The last page ends behind the end of the disk, and is dropped with its last byte that counts.
        let end = if range.end == self.size { range.end.div_ceil(PAGE as u64) } else { range.end / PAGE as u64 };
        if first < end {
            self.pages.extract_if(first..end, |_, _| true).for_each(drop);
        }
    }
}

impl BlockRead for Memory {
    fn size(&self) -> u64 {
        self.table().size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { granularity: 64 << 10, ..BlockLimits::NONE }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let table = self.table();
        check_range(offset, buf.len() as u64, table.size)?;
        table.read(buf, offset);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let table = self.table();
        check_extent(&range, table.size)?;
        let first = range.start / PAGE as u64;
        let mut pages = table.pages.range(first..).map(|(number, _)| *number).peekable();
        let (end, status) = if pages.peek() == Some(&first) {
            let mut next = first;
            while next * (PAGE as u64) < range.end && pages.next_if_eq(&next).is_some() {
                next += 1;
            }
            (Some(next), BlockStatus::Data)
        } else {
            (pages.next(), BlockStatus::Zero)
        };
        let end = end.map_or(range.end, |page| page.saturating_mul(PAGE as u64).min(range.end));
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Memory {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let missing = {
            let table = self.table();
            check_range(offset, buf.len() as u64, table.size)?;
            table.write(buf, offset)
        };
        if missing.is_empty() {
            return Ok(());
        }
        let new_page = |piece: &Piece| if piece.covers_page() { full_page(piece.of(buf)) } else { full_page(&[]) };
        let new_pages: Vec<_> = missing.iter().map(new_page).collect();
        let mut table = self.table_mut();
        check_range(offset, buf.len() as u64, table.size)?;
        for (piece, page) in missing.into_iter().zip(new_pages) {
            // Somebody else may have made the page in the meantime, with bytes that are not ours.
            let page = table.pages.entry(piece.page).or_insert(page);
            let page = page.get_mut().unwrap_or_else(PoisonError::into_inner);
            page[piece.within.clone()].copy_from_slice(piece.of(buf));
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        if mode == ZeroMode::Unmap {
            let mut table = self.table_mut();
            check_span(&range, table.size)?;
            table.drop_pages(&range);
        }
        let table = self.table();
        check_span(&range, table.size)?;
        table.fill_zero(range);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl Storage for Memory {
    fn set_size(&self, size: u64) -> Result<()> {
        let mut table = self.table_mut();
        if size < table.size {
            let cut = size..table.size;
            table.fill_zero(cut.clone());
            table.drop_pages(&cut);
        }
        table.size = size;
        Ok(())
    }

    /// Needs nothing: writes into memory never answer that there is no space.
    fn allocate(&self, range: Range<u64>) -> Result<()> {
        check_span(&range, self.size()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tebibytes_cost_what_is_written() {
        let disk = Memory::new(0);
        disk.set_size((3 << 40) + 5).unwrap();
        disk.write_at(b"end", (3 << 40) + 2).unwrap();
        disk.write_at(b"middle", (1 << 40) - 3).unwrap();
        assert_eq!(disk.table().pages.len(), 3);
        let mut bytes = [1; 8];
        disk.read_at(&mut bytes, (1 << 40) - 4).unwrap();
        assert_eq!(&bytes, b"\0middle\0");
        disk.write_zeroes_at(0..(3 << 40) + 5, ZeroMode::Unmap).unwrap();
        assert_eq!(disk.table().pages.len(), 0);
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let disk = Memory::from(vec![1; 200_000]);
        disk.set_size(100_000).unwrap();
        disk.set_size(200_000).unwrap();
        let bytes = disk.to_vec();
        assert!(bytes[..100_000].iter().all(|byte| *byte == 1));
        assert!(is_all_zero(&bytes[100_000..]));
    }
}
