//! A bounded memory of table blocks, shared by the extents of a disk.
//!
//! Two generations instead of an exact order of use: what is asked for stands in the young one; when that is half of the
//! bound, it becomes the old one, and what was old and not asked for since is dropped. Every operation is O(1), and a
//! block that is asked for again within half the bound's worth of others is never dropped.
//!
//! One lock, held for a look-up; blocks are loaded outside of it, so that two threads may load the same one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which block: the extent it belongs to, and what and where it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub extent: usize,
    pub kind: BlockKind,
    /// Its first byte in the extent's file, or the number of a grain.
    pub place: u64,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BlockKind {
    /// A part of a grain directory.
    Directory,
    /// A grain table.
    Table,
    /// A grain that was inflated and asked for in part.
    Grain,
}

/// The memory.
#[derive(Debug)]
pub(crate) struct BlockCache {
    generation_bytes: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<BlockKey, Arc<[u8]>>,
    young_bytes: usize,
    old: HashMap<BlockKey, Arc<[u8]>>,
}

impl BlockCache {
    /// A memory of at most `bytes`, and of at least one block.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { generation_bytes: bytes / 2, generations: Mutex::default() }
    }

    /// The block, or what `load` gives for it.
    pub(crate) fn get<E>(&self, key: BlockKey, load: impl FnOnce() -> Result<Arc<[u8]>, E>) -> Result<Arc<[u8]>, E> {
        if let Some(block) = self.find(key) {
            return Ok(block);
        }
        let block = load()?;
        self.put(key, Arc::clone(&block));
        Ok(block)
    }

    /// The block, if it is here.
    pub(crate) fn find(&self, key: BlockKey) -> Option<Arc<[u8]>> {
        let mut generations = self.lock();
        if let Some(block) = generations.young.get(&key) {
            return Some(Arc::clone(block));
        }
        let block = generations.old.remove(&key)?;
        generations.add(key, Arc::clone(&block), self.generation_bytes);
        Some(block)
    }

    /// Remembers a block.
    pub(crate) fn put(&self, key: BlockKey, block: Arc<[u8]>) {
        self.lock().add(key, block, self.generation_bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn add(&mut self, key: BlockKey, block: Arc<[u8]>, bound: usize) {
        if self.young_bytes + block.len() > bound {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += block.len();
        if let Some(replaced) = self.young.insert(key, block) {
            self.young_bytes -= replaced.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(place: u64) -> BlockKey {
        BlockKey { extent: 0, kind: BlockKind::Table, place }
    }

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let cache = BlockCache::new(1000);
        for place in 0..1000 {
            cache.put(key(place), vec![0; 100].into());
            assert!(cache.find(key(0)).is_some(), "at {place}");
            let generations = cache.lock();
            assert!((generations.young.len() + generations.old.len()) * 100 <= 1000);
        }
        assert!(cache.find(key(1)).is_none());
    }
}
