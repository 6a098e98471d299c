//! A bounded number of pieces of tables in memory, changed there and put back by their owner.

use std::collections::HashMap;

/// What a piece costs beside its own bytes.
const OVERHEAD: usize = 96;

/// Pieces by their number. The bound is kept by calling [`trim`](Self::trim) whenever nothing is dirty.
#[derive(Debug)]
pub(super) struct Cache<V> {
    pieces: HashMap<u64, Piece<V>>,
    bytes: usize,
    bound: usize,
    clock: u64,
}

#[derive(Debug)]
struct Piece<V> {
    value: V,
    bytes: usize,
    dirty: bool,
    used: u64,
}

impl<V> Cache<V> {
    /// An empty one that should hold at most `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { pieces: HashMap::new(), bytes: 0, bound, clock: 0 }
    }

    /// The piece, if it is here.
    pub(super) fn get(&mut self, key: u64) -> Option<&V> {
        self.clock += 1;
        let piece = self.pieces.get_mut(&key)?;
        piece.used = self.clock;
        Some(&piece.value)
    }

    /// The piece to be changed, if it is here.
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.clock += 1;
        let piece = self.pieces.get_mut(&key)?;
        (piece.used, piece.dirty) = (self.clock, true);
        Some(&mut piece.value)
    }

    /// Remembers a piece of `bytes` bytes, as it stands in the file.
    pub(super) fn put(&mut self, key: u64, value: V, bytes: usize) {
        self.clock += 1;
        let bytes = bytes + OVERHEAD;
        self.bytes += bytes;
        let piece = Piece { value, bytes, dirty: false, used: self.clock };
        if let Some(replaced) = self.pieces.insert(key, piece) {
            self.bytes -= replaced.bytes;
        }
    }

    /// Whether there is more than there should be.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bound
    }

    /// The numbers of the pieces that were changed, ascending.
    pub(super) fn dirty(&self) -> Vec<u64> {
        let mut dirty: Vec<_> = self.pieces.iter().filter(|(_, piece)| piece.dirty).map(|(key, _)| *key).collect();
        dirty.sort_unstable();
        dirty
    }

    /// Notes that the piece stands in the file as it is here.
    pub(super) fn clean(&mut self, key: u64) {
        if let Some(piece) = self.pieces.get_mut(&key) {
            piece.dirty = false;
        }
    }

    /// Drops the half that was not used for longest when there is too much, but nothing that was changed.
    pub(super) fn trim(&mut self) {
        if !self.is_over() {
            return;
        }
        let mut ages: Vec<u64> = self.pieces.values().map(|piece| piece.used).collect();
        let middle = ages.len() / 2;
        let (_, limit, _) = ages.select_nth_unstable(middle);
        let limit = *limit;
        self.pieces.retain(|_, piece| piece.dirty || piece.used > limit);
        self.bytes = self.pieces.values().map(|piece| piece.bytes).sum();
    }
}
