//! The blocks of a source that are in memory, or on their way.
//!
//! ```text
//! read ─► missing blocks in runs ─► a task each ─► deliver ─► block by block into the table ─► readers wake up
//!    └─► the reader goes on where it was? then the runs behind it, before they are asked for
//! ```
//!
//! One lock, over the table alone; nobody holds it while bytes are copied or awaited. A block is either on its way or whole.
//! Blocks that are on their way do not count as memory that can be freed, and there are never more of them than half the cache,
//! so that readers who wait for their own blocks cannot wait for each other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use transload_block::{Error, ErrorKind, Result};

use crate::fetch::deliver;
use crate::runtime::{PATIENCE, runtime};
use crate::{Fetcher, Limits, Stop};

/// Bytes in a block: what one look at a table costs.
pub(crate) const BLOCK: u64 = 256 << 10;

/// Buffers that are kept for the next blocks.
const SPARE: usize = 8;

/// Readers whose places are remembered: an image's tables and its data, for some threads.
const READERS: usize = 8;

pub(crate) struct Cache {
    fetch: Fetcher,
    size: u64,
    limits: Limits,
    stop: Stop,
    /// Blocks that may be in memory.
    most: u64,
    table: Mutex<Table>,
    arrived: Condvar,
}

#[derive(Default)]
struct Table {
    blocks: HashMap<u64, Block>,
    /// Blocks on their way.
    under_way: u64,
    /// Requests under way.
    requests: usize,
    clock: u64,
    readers: Vec<Reader>,
    /// Buffers of blocks that went.
    spare: Vec<Vec<u8>>,
}

enum Block {
    UnderWay,
    Whole { bytes: Arc<Vec<u8>>, used: u64, read: bool },
    Failed { kind: ErrorKind, text: String, remedy: Option<String> },
}

/// How many blocks threads that share a walk come out of order.
const DISORDER: u64 = 16;

/// Somebody who reads from front to back.
#[derive(Clone, Copy)]
struct Reader {
    /// The block behind the last one that was read.
    next: u64,
    /// Blocks to have ahead of it.
    window: u64,
    used: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("size", &self.size).field("most", &self.most).finish_non_exhaustive()
    }
}

impl Cache {
    pub(crate) fn new(fetch: Fetcher, size: u64, limits: &Limits, stop: Stop) -> Self {
        /// Fewer would leave a large read no room beside what is ahead.
        const LEAST: u64 = 16;
        let most = (limits.cache_bytes as u64 / BLOCK).max(LEAST);
        Self { fetch, size, limits: *limits, stop, most, table: Mutex::default(), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks that one request asks for at most: several requests are under way for what is ahead, each long enough for the
    /// way there and back to matter little.
    fn longest_run(&self) -> u64 {
        (self.most / 16).clamp(4, 32)
    }

    fn block_length(&self, block: u64) -> usize {
        usize::try_from(BLOCK.min(self.size - block * BLOCK)).unwrap_or(usize::MAX)
    }

    /// Keeps what is known of the beginning, as far as it is whole blocks.
    pub(crate) fn put_head(&self, head: &[u8]) {
        let mut table = self.lock();
        let mut rest = head;
        for block in 0..self.size.div_ceil(BLOCK) {
            let length = self.block_length(block);
            let Some((bytes, tail)) = rest.split_at_checked(length) else { break };
            table.blocks.insert(block, Block::Whole { bytes: Arc::new(bytes.to_vec()), used: 0, read: true });
            rest = tail;
        }
    }

    /// Fills `buf` with what is at `offset`, inside the size.
    pub(crate) fn read(self: &Arc<Self>, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut offset = offset;
        // Larger reads in steps, so that what they wait for is not pushed out by what they ask for.
        let step = usize::try_from(self.most / 4 * BLOCK).unwrap_or(usize::MAX);
        for piece in buf.chunks_mut(step) {
            let blocks = offset / BLOCK..(offset + piece.len() as u64).div_ceil(BLOCK);
            self.ask(blocks.clone())?;
            let mut place = &mut *piece;
            for block in blocks {
                let bytes = self.wait(block)?;
                let skip = usize::try_from(offset.saturating_sub(block * BLOCK)).unwrap_or(usize::MAX);
                let length = place.len().min(bytes.len() - skip);
                let (front, back) = place.split_at_mut(length);
                front.copy_from_slice(&bytes[skip..skip + length]);
                place = back;
                offset += length as u64;
            }
        }
        Ok(())
    }

    /// Sees to it that `blocks` come, and those that the reader will want next.
    fn ask(self: &Arc<Self>, blocks: Range<u64>) -> Result<()> {
        let mut table = self.lock();
        let ahead = table.follow(&blocks, self.most / 2, self.size.div_ceil(BLOCK));
        // What was pushed out meanwhile is fetched again by `wait`.
        self.fetch_missing(&mut table, blocks, true)?;
        self.fetch_missing(&mut table, ahead, false)
    }

    /// Begins requests for those of `blocks` that are neither there nor on their way. Those that nobody waits for yet are left
    /// out where there is no room for them.
    fn fetch_missing(self: &Arc<Self>, table: &mut Table, blocks: Range<u64>, wanted: bool) -> Result<()> {
        let mut next = blocks.start;
        while next < blocks.end {
            if table.is_coming(next) {
                next += 1;
                continue;
            }
            let last = blocks.end.min(next + self.longest_run());
            let end = (next..last).find(|block| table.is_coming(*block)).unwrap_or(last);
            if !wanted && (table.under_way + (end - next) > self.most / 2 || table.requests >= self.limits.parallel) {
                return Ok(());
            }
            self.begin(table, next..end)?;
            next = end;
        }
        Ok(())
    }

    /// Begins one request.
    fn begin(self: &Arc<Self>, table: &mut Table, run: Range<u64>) -> Result<()> {
        let runtime = runtime()?;
        for block in run.clone() {
            table.blocks.insert(block, Block::UnderWay);
        }
        table.under_way += run.end - run.start;
        table.requests += 1;
        let cache = Arc::clone(self);
        runtime.spawn(async move {
            let arriving = Arriving { cache: &cache, next: run.start, end: run.end, buffer: Vec::new() };
            arriving.run().await;
        });
        Ok(())
    }

    /// The bytes of `block`, when they are there.
    fn wait(self: &Arc<Self>, block: u64) -> Result<Arc<Vec<u8>>> {
        let mut table = self.lock();
        loop {
            table.clock += 1;
            let clock = table.clock;
            match table.blocks.get_mut(&block) {
                Some(Block::Whole { bytes, used, read }) => {
                    (*used, *read) = (clock, true);
                    return Ok(Arc::clone(bytes));
                }
                Some(Block::Failed { kind, text, remedy }) => {
                    let error = Error::new(*kind, text.clone());
                    let error = remedy.iter().fold(error, |error, remedy| error.with_remedy(remedy.clone()));
                    // Whoever asks next may have more luck.
                    table.blocks.remove(&block);
                    return Err(error);
                }
                Some(Block::UnderWay) => {}
                None => self.fetch_missing(&mut table, block..block + 1, true)?,
            }
            let waited = self.arrived.wait_timeout(table, PATIENCE);
            table = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(table, _)| table);
            self.stop.check()?;
        }
    }
}

impl Table {
    /// Notes that `blocks` are read, and says which ones to have ahead.
    fn follow(&mut self, blocks: &Range<u64>, most: u64, end: u64) -> Range<u64> {
        self.clock += 1;
        let clock = self.clock;
        let is_near =
            |reader: &&mut Reader| blocks.start <= reader.next + DISORDER && blocks.end + DISORDER >= reader.next;
        let Some(reader) = self.readers.iter_mut().find(is_near) else {
            let reader = Reader { next: blocks.end, window: 0, used: clock };
            if self.readers.len() >= READERS
                && let Some(oldest) = self.readers.iter_mut().min_by_key(|reader| reader.used)
            {
                *oldest = reader;
            } else {
                self.readers.push(reader);
            }
            return 0..0;
        };
        reader.used = clock;
        if blocks.end <= reader.next {
            return 0..0;
        }
        // Who looks here and there, a little further each time, is not one who reads everything.
        reader.window = match blocks.start.saturating_sub(reader.next) {
            0 => (reader.window * 2).clamp(4, most),
            gap => reader.window.saturating_sub(gap),
        };
        reader.next = blocks.end;
        let (next, goal) = (reader.next, (reader.next + reader.window).min(end));
        let half = next + reader.window / 2;
        // In few large requests rather than many small ones: only when half of what is ahead has been used up.
        let missing = (next..goal).find(|block| !self.is_coming(*block));
        missing.filter(|block| *block <= half).map_or(0..0, |first| first..goal)
    }

    /// Whether a block is there or on its way.
    fn is_coming(&self, block: u64) -> bool {
        matches!(self.blocks.get(&block), Some(Block::UnderWay | Block::Whole { .. }))
    }

    /// Makes room for one more block: first goes what was read, the least recently used before others. What nobody has read yet was
    /// fetched because somebody will; only when it has waited for long is it taken for a mistake.
    fn evict(&mut self, most: u64) {
        let long_ago = self.clock.saturating_sub(4 * most);
        while (self.blocks.len() as u64).saturating_sub(self.under_way) >= most.saturating_sub(self.under_way).max(1) {
            let whole = self.blocks.iter().filter_map(|(block, state)| match state {
                Block::Whole { used, read, .. } => Some((!read && *used > long_ago, *used, *block)),
                Block::Failed { .. } => Some((false, 0, *block)),
                Block::UnderWay => None,
            });
            let Some((_, _, oldest)) = whole.min() else { return };
            if let Some(Block::Whole { bytes, .. }) = self.blocks.remove(&oldest)
                && let Ok(buffer) = Arc::try_unwrap(bytes)
                && self.spare.len() < SPARE
            {
                self.spare.push(buffer);
            }
        }
    }
}

/// A run of blocks while it comes in.
struct Arriving<'a> {
    cache: &'a Arc<Cache>,
    /// The block that is filled.
    next: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl Arriving<'_> {
    async fn run(mut self) {
        let range = self.next * BLOCK..(self.end * BLOCK).min(self.cache.size);
        let fetch = Arc::clone(&self.cache.fetch);
        let limits = self.cache.limits;
        let outcome = deliver(&*fetch, range, &limits, |bytes| self.take(&bytes)).await;
        self.close(outcome.err());
    }

    fn take(&mut self, bytes: &Bytes) {
        let mut rest = &bytes[..];
        while !rest.is_empty() && self.next < self.end {
            let length = self.cache.block_length(self.next);
            if self.buffer.capacity() < length {
                self.buffer = self.cache.lock().spare.pop().unwrap_or_default();
                self.buffer.clear();
                self.buffer.reserve_exact(length);
            }
            let (front, back) = rest.split_at(rest.len().min(length - self.buffer.len()));
            self.buffer.extend_from_slice(front);
            rest = back;
            if self.buffer.len() == length {
                let bytes = Arc::new(std::mem::take(&mut self.buffer));
                self.put(Block::Whole { bytes, used: 0, read: false });
            }
        }
    }

    /// Puts the state of the next block into the table.
    fn put(&mut self, mut state: Block) {
        let mut table = self.cache.lock();
        table.clock += 1;
        if let Block::Whole { used, .. } = &mut state {
            *used = table.clock;
        }
        table.blocks.remove(&self.next);
        table.under_way -= 1;
        table.evict(self.cache.most);
        table.blocks.insert(self.next, state);
        self.next += 1;
        drop(table);
        self.cache.arrived.notify_all();
    }

    /// Ends the request; what did not come has failed.
    fn close(&mut self, error: Option<Error>) {
        if let Some(error) = error {
            let kind = error.kind();
            // The error's own words, without its kind, which the new one has again.
            let text = error.to_string();
            let text = text.strip_prefix(&format!("{kind}: ")).unwrap_or(&text).to_owned();
            let remedy = error.remedy().map(str::to_owned);
            while self.next < self.end {
                self.put(Block::Failed { kind, text: text.clone(), remedy: remedy.clone() });
            }
        }
        self.cache.lock().requests -= 1;
        self.cache.arrived.notify_all();
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        // Only a panic below leaves blocks behind; those who wait for them must not do so for ever.
        while self.next < self.end {
            let text = "a network request ended without an answer".to_owned();
            self.put(Block::Failed { kind: ErrorKind::Io, text, remedy: None });
        }
    }
}
