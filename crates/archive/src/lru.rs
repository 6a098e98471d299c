//! What was unpacked last, up to a number of bytes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Values by key, of which those that were not asked for the longest go first.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    most: usize,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    values: HashMap<K, (Arc<V>, usize, u64)>,
    /// Keys by when they were asked for.
    order: BTreeMap<u64, K>,
    bytes: usize,
    clock: u64,
}

impl<K: Hash + Eq + Copy, V> Lru<K, V> {
    /// Room for values of `most` bytes together.
    pub(crate) fn new(most: usize) -> Self {
        let kept = Kept { values: HashMap::new(), order: BTreeMap::new(), bytes: 0, clock: 0 };
        Self { most, kept: Mutex::new(kept) }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        kept.clock += 1;
        let (value, _, asked) = kept.values.get_mut(key)?;
        kept.order.remove(asked);
        kept.order.insert(kept.clock, *key);
        *asked = kept.clock;
        Some(Arc::clone(value))
    }

    /// Keeps a value that takes `bytes`. One that is larger than all the room is not kept.
    pub(crate) fn insert(&self, key: K, value: Arc<V>, bytes: usize) {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        if bytes > self.most || kept.values.contains_key(&key) {
            return;
        }
        while kept.bytes + bytes > self.most {
            let Some((_, oldest)) = kept.order.pop_first() else { break };
            if let Some((_, freed, _)) = kept.values.remove(&oldest) {
                kept.bytes -= freed;
            }
        }
        kept.clock += 1;
        kept.bytes += bytes;
        kept.order.insert(kept.clock, key);
        kept.values.insert(key, (value, bytes, kept.clock));
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Lru};

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let kept = Lru::new(30);
        for key in 0..3 {
            kept.insert(key, Arc::new(key), 10);
        }
        assert!(kept.get(&0).is_some());
        kept.insert(3, Arc::new(3), 15);
        assert_eq!([0, 1, 2, 3].map(|key| kept.get(&key).is_some()), [true, false, false, true]);
        kept.insert(4, Arc::new(4), 31);
        assert!(kept.get(&4).is_none() && kept.get(&0).is_some());
    }
}
