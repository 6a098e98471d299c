//! Random numbers that are the same in every run.

use std::ops::Range;

/// A SplitMix64 generator: small, fast, and the same sequence for the same seed on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, of 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; 0 when that is 0. The bias of the division is of no concern to a test.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let number = self.next();
        if bound == 0 { 0 } else { number % bound }
    }

    /// A range inside `0..size`, at most `longest` bytes long, sometimes empty. Half of them begin or end at the border of
    /// a sector, cluster or grain, or one byte beside it, which is where mistakes are made.
    pub fn range(&mut self, size: u64, longest: u64) -> Range<u64> {
        let mut start = self.below(size + 1);
        if self.below(2) == 0 {
            let border = 1 << self.below(18);
            start = (start - start % border).saturating_add(self.below(3)).saturating_sub(1).min(size);
        }
        let mut length = self.below(longest.min(size - start) + 1);
        if self.below(2) == 0 {
            let border = 1 << self.below(18);
            let end = (start + length).next_multiple_of(border).min(size);
            if end - start <= longest {
                length = end - start;
            }
        }
        start..start + length
    }

    /// As many bytes as `length` says.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Spreads a number over all 64 bits.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
