//! Where a deflate stream ends (RFC 1951), found by walking its codes without producing its bytes.
//!
//! A qcow2 cluster records only the sectors it may reach into, and what follows the stream there belongs to somebody
//! else. A zlib stream has its checksum directly behind the deflate stream, so taking such a cluster over without
//! compressing it again needs the exact end. The walk trusts nothing: a stream that breaks a rule, runs out or does not
//! hold exactly the bytes it should has no length.

/// The longest code (section 3.2.7).
const MAX_BITS: usize = 15;
/// Bits that the first lookup takes; longer codes, which are rare, are found by counting.
const FAST_BITS: usize = 10;

/// The bytes of the deflate stream at the front of `stored`, when it is sound and decodes to `unit_length` bytes.
pub(super) fn deflate_length(stored: &[u8], unit_length: usize) -> Option<usize> {
    let mut bits = Bits { bytes: stored, next: 0, buffer: 0, count: 0 };
    let mut produced = 0_usize;
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => produced = produced.checked_add(bits.skip_stored()?)?,
            1 => {
                let (literals, distances) = fixed_codes()?;
                walk(&mut bits, &literals, &distances, &mut produced, unit_length)?;
            }
            2 => {
                let (literals, distances) = read_codes(&mut bits)?;
                walk(&mut bits, &literals, &distances, &mut produced, unit_length)?;
            }
            _ => return None,
        }
        if produced > unit_length {
            return None;
        }
        if last {
            break;
        }
    }
    // Whole bytes that were fetched ahead and not used.
    let unread = usize::try_from(bits.count / 8).ok()?;
    (produced == unit_length).then(|| bits.next - unread)
}

/// The bits of a stream, least significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    next: usize,
    buffer: u64,
    count: u32,
}

impl Bits<'_> {
    /// Fills the buffer to at least 32 bits while there are bytes.
    fn refill(&mut self) {
        if self.count < 32 {
            if let Some(chunk) = self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<4>()) {
                self.buffer |= u64::from(u32::from_le_bytes(*chunk)) << self.count;
                self.next += 4;
                self.count += 32;
            } else {
                while self.count <= 32
                    && let Some(byte) = self.bytes.get(self.next)
                {
                    self.buffer |= u64::from(*byte) << self.count;
                    self.next += 1;
                    self.count += 8;
                }
            }
        }
    }

    fn drop(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
        self.buffer >>= count;
        Some(())
    }

    /// The next `count` bits, at most 16, as a number.
    fn take(&mut self, count: u32) -> Option<usize> {
        self.refill();
        let value = self.buffer & ((1 << count) - 1);
        self.drop(count)?;
        usize::try_from(value).ok()
    }

    /// Goes over a stored block and answers its length.
    fn skip_stored(&mut self) -> Option<usize> {
        self.drop(self.count % 8)?;
        let length = self.take(16)?;
        let complement = self.take(16)?;
        if length ^ complement != 0xffff {
            return None;
        }
        let buffered = usize::try_from(self.count / 8).ok()?;
        let start = self.next - buffered;
        (self.buffer, self.count) = (0, 0);
        self.next = start.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        Some(length)
    }
}

/// A canonical Huffman code.
struct Code {
    /// By the next [`FAST_BITS`] bits: symbol and length, length 0 where the code is longer.
    fast: Vec<(u16, u8)>,
    /// How many codes there are of each length.
    counts: [u16; MAX_BITS + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    /// The code in which symbol `n` has `lengths[n]` bits. `None` when more codes are asked for than there are, and for
    /// an incomplete code other than that of a single symbol.
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0_u16; MAX_BITS + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        counts[0] = 0;
        let mut left = 1_i32;
        let mut starts = [0_usize; MAX_BITS + 2];
        let mut codes = [0_usize; MAX_BITS + 2];
        for length in 1..=MAX_BITS {
            left = (left << 1) - i32::from(counts[length]);
            if left < 0 {
                return None;
            }
            starts[length + 1] = starts[length] + usize::from(counts[length]);
            codes[length + 1] = (codes[length] + usize::from(counts[length])) << 1;
        }
        let total = starts[MAX_BITS + 1];
        if left > 0 && total > 1 {
            return None;
        }
        let mut symbols = vec![0_u16; total];
        let mut fast = vec![(0_u16, 0_u8); 1 << FAST_BITS];
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let (symbol, bits) = (u16::try_from(symbol).ok()?, usize::from(*length));
            symbols[starts[bits]] = symbol;
            starts[bits] += 1;
            if bits <= FAST_BITS {
                let reversed = codes[bits].reverse_bits() >> (usize::BITS as usize - bits);
                for slot in fast.iter_mut().skip(reversed).step_by(1 << bits) {
                    *slot = (symbol, *length);
                }
            }
            codes[bits] += 1;
        }
        Some(Self { fast, counts, symbols })
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        bits.refill();
        let index = usize::try_from(bits.buffer & ((1 << FAST_BITS) - 1)).ok()?;
        let (symbol, length) = self.fast[index];
        if length > 0 {
            bits.drop(u32::from(length))?;
            return Some(usize::from(symbol));
        }
        let (mut code, mut first, mut index) = (0_usize, 0_usize, 0_usize);
        for length in 1..=MAX_BITS {
            code |= usize::from(bits.buffer >> (length - 1) & 1 == 1);
            let count = usize::from(self.counts[length]);
            if code < first + count {
                bits.drop(u32::try_from(length).ok()?)?;
                return self.symbols.get(index + (code - first)).map(|symbol| usize::from(*symbol));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// The codes of a block with fixed codes (section 3.2.6).
fn fixed_codes() -> Option<(Code, Code)> {
    let mut lengths = [8_u8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    Some((Code::new(&lengths)?, Code::new(&[5; 32])?))
}

/// Reads the codes of a block with dynamic codes (section 3.2.7).
fn read_codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literal_count = bits.take(5)? + 257;
    let distance_count = bits.take(5)? + 1;
    let length_count = bits.take(4)? + 4;
    let mut code_lengths = [0_u8; 19];
    for place in ORDER.iter().take(length_count) {
        code_lengths[*place] = u8::try_from(bits.take(3)?).ok()?;
    }
    let code = Code::new(&code_lengths)?;
    let total = literal_count + distance_count;
    let mut lengths: Vec<u8> = Vec::with_capacity(total);
    while lengths.len() < total {
        let (value, times) = match code.read(bits)? {
            symbol @ 0..=15 => (u8::try_from(symbol).ok()?, 1),
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            _ => (0, 11 + bits.take(7)?),
        };
        lengths.resize(lengths.len() + times, value);
    }
    if lengths.len() != total || lengths[256] == 0 {
        return None;
    }
    let (literals, distances) = lengths.split_at(literal_count);
    Some((Code::new(literals)?, Code::new(distances)?))
}

/// Goes over the symbols of a block up to its end and adds up the bytes that they stand for (section 3.2.5).
fn walk(bits: &mut Bits<'_>, literals: &Code, distances: &Code, produced: &mut usize, limit: usize) -> Option<()> {
    while *produced <= limit {
        let symbol = literals.read(bits)?;
        let length = match symbol {
            0..=255 => {
                *produced += 1;
                continue;
            }
            256 => return Some(()),
            257..=264 => symbol - 254,
            265..=284 => {
                let extra = (symbol - 261) / 4;
                let base = ((4 + (symbol - 265) % 4) << extra) + 3;
                base + bits.take(u32::try_from(extra).ok()?)?
            }
            285 => 258,
            _ => return None,
        };
        let distance = match distances.read(bits)? {
            symbol @ 0..=3 => symbol + 1,
            symbol @ 4..=29 => {
                let extra = symbol / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + bits.take(u32::try_from(extra).ok()?)?
            }
            _ => return None,
        };
        if distance > *produced {
            return None;
        }
        *produced += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoder;
    use transload_block::Codec;

    #[test]
    fn finds_the_end_whatever_the_content_and_what_follows() {
        let mut state = 1_u64;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).to_le_bytes()[0]
        };
        for kind in 0..6 {
            let unit: Vec<u8> = (0..65536_usize)
                .map(|place| match kind {
                    0 => 0,
                    1 => noise(),
                    2 => noise() & 3,
                    3 => u8::try_from(place / 7 % 251).unwrap(),
                    4 => b"the quick brown fox jumps over the lazy dog; "[place % 45] ^ (noise() >> 7),
                    _ => {
                        if place < 40_000 {
                            noise()
                        } else {
                            9
                        }
                    }
                })
                .collect();
            for level in [1, 3, 6, 9, 12] {
                let mut stored = Vec::new();
                Encoder::new(Codec::Deflate, level).unwrap().encode(&unit, 70_000, &mut stored).unwrap();
                let length = stored.len();
                for tail in [0, 1, 3, 4, 5, 511] {
                    stored.truncate(length);
                    stored.extend((0..tail).map(|_| noise()));
                    assert_eq!(deflate_length(&stored, unit.len()), Some(length), "{kind} {level} {tail}");
                }
                assert_eq!(deflate_length(&stored[..length - 1], unit.len()), None);
                assert_eq!(deflate_length(&stored, unit.len() - 1), None);
                assert_eq!(deflate_length(&stored, unit.len() + 1), None);
            }
        }
    }

    #[test]
    fn noise_has_no_end_and_does_no_harm() {
        let mut state = 7_u64;
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..300)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    (state >> 40).to_le_bytes()[0]
                })
                .collect();
            let _ = deflate_length(&bytes, 65536);
        }
    }
}
