//! A remote source as a disk: a bounded cache of blocks, filled by requests in parallel and ahead of the reader.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockLimits, BlockRead, BlockStatus, Capabilities, Extent, Result, check_extent, check_range};

use crate::cache::Cache;
use crate::{Fetcher, Limits, Origin, RemoteStream, Stop};

/// A remote source that can be read at any place, by any number of threads.
///
/// A request takes as long as the way there and back, whatever it asks for. Blocks that were read are therefore kept, up to
/// [`Limits::cache_bytes`], the least recently used going first; and a reader that goes on where it was gets more with every
/// step, up to half of that, in [`Limits::parallel`] requests at once. A table that is looked at twice costs one request, and a
/// disk that is read from front to back as little time as the network needs.
#[derive(Debug)]
pub struct RemoteDisk {
    fetch: Fetcher,
    cache: Arc<Cache>,
    limits: Limits,
    stop: Stop,
    size: u64,
}

impl RemoteDisk {
    /// `head` is what is already known of the beginning.
    pub(crate) fn new(fetch: Fetcher, size: u64, head: &[u8], limits: &Limits, stop: &Stop) -> Self {
        let cache = Arc::new(Cache::new(Arc::clone(&fetch), size, limits, stop.clone()));
        cache.put_head(head);
        Self { fetch, cache, limits: *limits, stop: stop.clone(), size }
    }

    /// What it says of itself.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.fetch.origin()
    }

    /// The same bytes, once and from front to back.
    #[must_use]
    pub fn stream(&self) -> RemoteStream {
        RemoteStream::of_ranges(Arc::clone(&self.fetch), self.size, &self.limits, &self.stop)
    }
}

impl BlockRead for RemoteDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { alignment: 1, preferred: 1 << 20, granularity: 4096 }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.cache.read(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, self.size)?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
