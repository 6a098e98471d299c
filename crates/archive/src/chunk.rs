//! Where files are cut: by the digest of a window that slides over their bytes, so that the same bytes are cut alike wherever
//! they stand.
//!
//! The digest is Rabin's (M. O. Rabin, "Fingerprinting by random polynomials", 1981) by the polynomial of the repository, with
//! the parameters of restic: what restic stored of the same bytes in the same repository is stored once.

use std::fmt;

use crate::format::polynomial::{degree, modulo};

/// The shortest chunk that does not end with its file.
pub(crate) const LEAST: usize = 512 << 10;
/// The longest chunk.
pub(crate) const MOST: usize = 8 << 20;
const WINDOW: usize = 64;
/// A chunk ends where these bits of the digest are zero: after a mebibyte on average.
const MASK: u64 = (1 << 20) - 1;

/// The tables of a polynomial.
pub(crate) struct Chunker {
    /// What a byte adds to the digest that is about to leave the window.
    out: [u64; 256],
    /// What takes the upper byte of a digest away and puts its rest in.
    rest: [u64; 256],
    shift: u32,
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chunker")
    }
}

impl Chunker {
    /// The tables of `polynomial`, which has a degree from 9 to 53.
    pub(crate) fn new(polynomial: u64) -> Self {
        let degree = degree(polynomial);
        assert!((9..=53).contains(&degree), "a polynomial of degree {degree}");
        let append = |digest: u64, byte: u64| modulo(digest << 8 | byte, polynomial);
        let (mut out, mut rest) = ([0; 256], [0; 256]);
        for byte in 0..256_u64 {
            let at = usize::try_from(byte).unwrap_or(0);
            out[at] = (1..WINDOW).fold(append(0, byte), |digest, _| append(digest, 0));
            rest[at] = modulo(byte << degree, polynomial) | byte << degree;
        }
        Self { out, rest, shift: degree - 8 }
    }

    /// The length of the first chunk of `bytes`. `None` when it does not end in them: it ends with the file, or more bytes
    /// are needed. It always ends in [`MOST`] bytes.
    pub(crate) fn cut(&self, bytes: &[u8]) -> Option<usize> {
        // No chunk is shorter than the least: the window begins just before it can end.
        let start = LEAST - WINDOW;
        let end = bytes.len().min(MOST);
        if end < LEAST {
            return None;
        }
        // As if the window had been slid over zeroes and a one.
        let mut digest = self.push(0, 1);
        let mut window = [0; WINDOW];
        window[0] = 1;
        for (at, byte) in bytes[start..LEAST].iter().enumerate() {
            let slot = (at + 1) % WINDOW;
            digest = self.push(digest ^ self.out[usize::from(window[slot])], *byte);
            window[slot] = *byte;
            // The one is pushed out by the last byte.
        }
        if digest & MASK == 0 {
            return Some(LEAST);
        }
        for (behind, (old, new)) in bytes[start..].iter().zip(&bytes[LEAST..end]).enumerate() {
            digest = self.push(digest ^ self.out[usize::from(*old)], *new);
            if digest & MASK == 0 {
                return Some(LEAST + behind + 1);
            }
        }
        (end == MOST).then_some(MOST)
    }

    fn push(&self, digest: u64, byte: u8) -> u64 {
        let top = usize::try_from(digest >> self.shift & 0xff).unwrap_or(0);
        (digest << 8 | u64::from(byte)) ^ self.rest[top]
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunker, LEAST, MOST};

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn the_same_bytes_are_cut_alike_wherever_they_stand() {
        let chunker = Chunker::new(0x003D_A335_8B4D_C173);
        let bytes = noise(16 << 20);
        let cuts = |mut rest: &[u8]| {
            let (mut ends, whole) = (Vec::new(), rest.len());
            while let Some(length) = chunker.cut(rest) {
                assert!((LEAST..=MOST).contains(&length));
                rest = &rest[length..];
                ends.push(whole - (whole - rest.len()));
            }
            ends
        };
        let first = cuts(&bytes);
        let shifted = cuts(&[&[7; 12_345], bytes.as_slice()].concat());
        let common = shifted.iter().filter(|rest| first.contains(rest)).count();
        assert!(first.len() > 6 && common + 4 > first.len(), "{common} of {}", first.len());
        assert_eq!(chunker.cut(&bytes[..LEAST - 1]), None);
        assert_eq!(chunker.cut(&vec![0; MOST]), Some(LEAST), "as restic cuts zeroes");
    }
}
