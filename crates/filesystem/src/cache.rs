//! Metadata of a filesystem in pages that stay in memory: inode tables, folders, allocation tables.
//!
//! Filesystems keep what belongs together close together; reading a page around a small structure serves the next hundred
//! for nothing. The bytes of files do not pass through here. Memory is bounded by the number of pages, not by the disk.
//!
//! Where the filesystem is written, changes stay in the pages until they are evicted or [`flush`](Cache::flush)ed; what is
//! written past the pages ([`write_through`](Cache::write_through)) changes the pages too, so that none holds old bytes.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transload_block::{BlockRead, BlockReadExt, BlockWrite, Error, ErrorKind, Result, ZeroMode, check_range};

/// Bytes of a page: a few blocks of any filesystem, and little to read in vain.
const PAGE: u64 = 32 << 10;
/// Pages in a set; a set has one lock.
const WAYS: usize = 8;
/// Sets. With the above: 32 MiB at most.
const SETS: u64 = 128;

/// A device whose small reads come from memory where they can.
#[derive(Debug)]
pub(crate) struct Cache {
    device: Arc<dyn BlockRead>,
    writer: Option<Arc<dyn BlockWrite>>,
    /// Each with its pages, the one used last at the end.
    sets: Vec<Mutex<Vec<Page>>>,
}

#[derive(Debug)]
struct Page {
    number: u64,
    bytes: Vec<u8>,
    dirty: bool,
}

impl Cache {
    pub(crate) fn new(device: Arc<dyn BlockRead>) -> Self {
        Self { device, writer: None, sets: (0..SETS).map(|_| Mutex::default()).collect() }
    }

    /// A cache that also takes changes.
    pub(crate) fn writable(device: Arc<dyn BlockWrite>) -> Self {
        Self { writer: Some(Arc::clone(&device)), ..Self::new(device) }
    }

    pub(crate) const fn device(&self) -> &Arc<dyn BlockRead> {
        &self.device
    }

    /// Fills `buf`, as `BlockRead::read_at`. A read behind the device is the filesystem's fault.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.pieces(buf.len(), offset, |done, within, page| {
            let available = page.bytes.get(within..).unwrap_or_default();
            let count = available.len().min(buf.len() - done);
            buf[done..done + count].copy_from_slice(&available[..count]);
            count
        })
    }

    /// As [`read`](Self::read), into a new buffer. The caller has checked that `length` is a sane one.
    pub(crate) fn read_vec(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.check(offset, length as u64)?;
        let mut bytes = vec![0; length];
        self.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Changes bytes in the pages; the device sees it later.
    pub(crate) fn write(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.writer()?;
        self.check(offset, buf.len() as u64)?;
        self.pieces(buf.len(), offset, |done, within, page| {
            let count = page.bytes.len().saturating_sub(within).min(buf.len() - done);
            page.bytes[within..within + count].copy_from_slice(&buf[done..done + count]);
            page.dirty = true;
            count
        })
    }

    /// Changes bytes on the device at once: the contents of files, which no page need hold.
    pub(crate) fn write_through(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.writer()?.write_at(buf, offset)?;
        let end = offset + buf.len() as u64;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let mut set = self.set(number);
            let Some(page) = set.iter_mut().find(|page| page.number == number) else { continue };
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + page.bytes.len() as u64).min(end));
            let index = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            page.bytes[index(from, start)..index(to, start)]
                .copy_from_slice(&buf[index(from, offset)..index(to, offset)]);
        }
        Ok(())
    }

    /// Makes a range read as zeroes, on the device at once and in the pages.
    pub(crate) fn zero(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end.saturating_sub(range.start))?;
        self.writer()?.write_zeroes_at(range.clone(), ZeroMode::Unmap)?;
        for set in &self.sets {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            for page in set.iter_mut() {
                let start = page.number * PAGE;
                let end = start + page.bytes.len() as u64;
                let (from, to) = (range.start.max(start), range.end.min(end));
                if from < to {
                    let index = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                    page.bytes[index(from)..index(to)].fill(0);
                }
            }
        }
        Ok(())
    }

    /// Writes what was changed, in the order of the device, and has the device keep it.
    pub(crate) fn flush(&self) -> Result<()> {
        let writer = self.writer()?;
        let mut dirty = Vec::new();
        for set in &self.sets {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.extend(set.iter().filter(|page| page.dirty).map(|page| page.number));
        }
        dirty.sort_unstable();
        for number in dirty {
            let mut set = self.set(number);
            if let Some(page) = set.iter_mut().find(|page| page.number == number && page.dirty) {
                writer.write_at(&page.bytes, number * PAGE)?;
                page.dirty = false;
            }
        }
        writer.flush()
    }

    fn writer(&self) -> Result<&dyn BlockWrite> {
        self.writer.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the filesystem is open for reading"))
    }

    /// A place that a structure on the disk names has to be on the disk.
    fn check(&self, offset: u64, length: u64) -> Result<()> {
        let size = self.device.size();
        check_range(offset, length, size).map(drop).map_err(|_| {
            let text =
                format!("a structure at offset {offset} of {length} bytes stands behind the device's {size} bytes");
            Error::new(ErrorKind::Corrupt, text)
        })
    }

    fn set(&self, number: u64) -> MutexGuard<'_, Vec<Page>> {
        let index = usize::try_from(number % SETS).unwrap_or_default();
        self.sets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `step` with the pages of `length` bytes at `offset`: how many bytes are done, and where in the page they go on.
    fn pieces(&self, length: usize, offset: u64, mut step: impl FnMut(usize, usize, &mut Page) -> usize) -> Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let number = at / PAGE;
            let mut set = self.set(number);
            self.load(&mut set, number)?;
            let page = set.last_mut().expect("the page was loaded to the end of its set");
            let count = step(done, usize::try_from(at % PAGE).unwrap_or_default(), page);
            if count == 0 {
                return Err(Error::new(ErrorKind::OutOfRange, format!("nothing at offset {at} of the device")));
            }
            done += count;
        }
        Ok(())
    }

    /// Makes the page the last one of its set.
    fn load(&self, set: &mut Vec<Page>, number: u64) -> Result<()> {
        if let Some(at) = set.iter().rposition(|page| page.number == number) {
            set[at..].rotate_left(1);
            return Ok(());
        }
        if set.len() >= WAYS {
            if set[0].dirty {
                self.writer()?.write_at(&set[0].bytes, set[0].number * PAGE)?;
            }
            set.remove(0);
        }
        let start = number * PAGE;
        let length = PAGE.min(self.device.size().saturating_sub(start));
        set.push(Page { number, bytes: self.device.read_vec(start, length)?, dirty: false });
        Ok(())
    }
}
