//! LZFSE, Apple's compression of 2015: blocks of matches whose parts are coded by finite state entropy, and LZVN blocks
//! for what is short.
//!
//! The format is that of Apple's published reference decoder. A stream is blocks, each with a magic of its own, and an end:
//!
//! ```text
//! bvx-  raw bytes        bvxn  LZVN (lzvn.rs)        bvx1, bvx2  LZFSE with plain or packed tables        bvx$  the end
//! ```
//!
//! A block says how many bytes it holds, and no block may say none: work is in proportion to what is written.

use super::entropy::{Bits, Literals, Values};
use super::lzvn;
use super::window::Window;

/// What the parts of a match are coded with: states, and for each symbol the first value and how many bits are added to it.
const L_STATES: usize = 64;
const M_STATES: usize = 64;
const D_STATES: usize = 256;
const LITERAL_STATES: usize = 1024;
const L_SYMBOLS: usize = 20;
const M_SYMBOLS: usize = 20;
const D_SYMBOLS: usize = 64;
const LITERAL_SYMBOLS: usize = 256;
const SYMBOLS: usize = L_SYMBOLS + M_SYMBOLS + D_SYMBOLS + LITERAL_SYMBOLS;
/// What a block may hold at most; the encoder's own bounds.
const MATCHES_MAX: u32 = 10_000;
const LITERALS_MAX: u32 = 4 * MATCHES_MAX;

const L_EXTRA: [u8; L_SYMBOLS] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 8];
const M_EXTRA: [u8; M_SYMBOLS] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11];

/// The bits that are added to each distance: four symbols for each number of them.
const fn d_extra() -> [u8; D_SYMBOLS] {
    let mut extra = [0; D_SYMBOLS];
    let (mut index, mut bits) = (0, 0);
    while index < D_SYMBOLS {
        extra[index] = bits;
        index += 1;
        if index % 4 == 0 {
            bits += 1;
        }
    }
    extra
}

/// Fills the front of `unit` with what `stored` holds, and returns how much that is; `None` when it breaks off, breaks a
/// rule, or holds more than the unit.
pub(super) fn decode(stored: &[u8], unit: &mut [u8]) -> Option<usize> {
    let mut window = Window::new(unit);
    let mut rest = stored;
    loop {
        let (magic, tail) = rest.split_first_chunk::<4>()?;
        rest = match magic {
            b"bvx$" => return Some(window.filled()),
            b"bvx-" => {
                let (length, tail) = size(tail)?;
                let (bytes, tail) = tail.split_at_checked(length)?;
                window.put(bytes)?;
                tail
            }
            b"bvxn" => {
                let (length, tail) = size(tail)?;
                let (stored, tail) = size(tail)?;
                let (payload, tail) = tail.split_at_checked(stored)?;
                let end = window.filled().checked_add(length)?;
                lzvn::decode(payload, &mut window, end)?;
                tail
            }
            b"bvx1" => block(&Header::plain(tail)?, tail, &mut window)?,
            b"bvx2" => block(&Header::packed(tail)?, tail, &mut window)?,
            _ => return None,
        };
    }
}

/// A length of 32 bits, which is not zero, and what follows it.
fn size(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, tail) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length > 0)?;
    Some((length, tail))
}

/// What stands in front of an LZFSE block.
struct Header {
    raw_bytes: usize,
    literals: usize,
    literal_bytes: usize,
    /// Bits of the last byte that are no part of the stream.
    literal_spare: u32,
    literal_states: [u16; 4],
    matches: u32,
    match_bytes: usize,
    match_spare: u32,
    l_state: u16,
    m_state: u16,
    d_state: u16,
    frequencies: [u16; SYMBOLS],
    /// Where the payload begins, behind the magic.
    length: usize,
}

impl Header {
    /// The header with fields and tables as they are, as `bvx1` has it. `bytes` begin behind the magic.
    fn plain(bytes: &[u8]) -> Option<Self> {
        const TABLES: usize = 46;
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u16_at = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let size_at = |at: usize| usize::try_from(u32_at(at)?).ok();
        // Zero, or how many bits are missing as a negative number.
        let spare_at = |at: usize| u32_at(at).map(u32::wrapping_neg);
        let mut frequencies = [0; SYMBOLS];
        for (index, frequency) in frequencies.iter_mut().enumerate() {
            *frequency = u16_at(TABLES + 2 * index)?;
        }
        let header = Self {
            raw_bytes: size_at(0)?,
            // The bytes of the payload stand at 4: they are the sum of the two parts.
            literals: size_at(8)?,
            matches: u32_at(12)?,
            literal_bytes: size_at(16)?,
            match_bytes: size_at(20)?,
            literal_spare: spare_at(24)?,
            literal_states: [u16_at(28)?, u16_at(30)?, u16_at(32)?, u16_at(34)?],
            match_spare: spare_at(36)?,
            l_state: u16_at(40)?,
            m_state: u16_at(42)?,
            d_state: u16_at(44)?,
            frequencies,
            length: TABLES + 2 * SYMBOLS,
        };
        header.checked()
    }

    /// The header with packed fields and tables, as `bvx2` has it. `bytes` begin behind the magic.
    fn packed(bytes: &[u8]) -> Option<Self> {
        const TABLES: usize = 28;
        let (raw_bytes, rest) = size(bytes)?;
        let (fields, _) = rest.split_first_chunk::<24>()?;
        let words: [u64; 3] =
            std::array::from_fn(|index| fields[8 * index..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        let field = |word: usize, shift: u32, bits: u32| words[word] >> shift & ((1 << bits) - 1);
        let small = |word, shift, bits| u16::try_from(field(word, shift, bits)).ok();
        let size = |word, shift, bits| usize::try_from(field(word, shift, bits)).ok();
        let spare = |word, shift| u32::try_from(7 - field(word, shift, 3)).ok();
        // The header's own length counts the magic.
        let length = size(2, 0, 32)?.checked_sub(4)?;
        let tables = bytes.get(TABLES..length)?;
        let header = Self {
            raw_bytes,
            literals: size(0, 0, 20)?,
            literal_bytes: size(0, 20, 20)?,
            literal_spare: spare(0, 60)?,
            literal_states: [small(1, 0, 10)?, small(1, 10, 10)?, small(1, 20, 10)?, small(1, 30, 10)?],
            matches: u32::try_from(field(0, 40, 20)).ok()?,
            match_bytes: size(1, 40, 20)?,
            match_spare: spare(1, 60)?,
            l_state: small(2, 32, 10)?,
            m_state: small(2, 42, 10)?,
            d_state: small(2, 52, 10)?,
            frequencies: frequencies(tables)?,
            length,
        };
        header.checked()
    }

    fn checked(self) -> Option<Self> {
        let sound = self.raw_bytes > 0
            && self.matches <= MATCHES_MAX
            && self.literals <= LITERALS_MAX as usize
            && self.literals % 4 == 0
            && self.literal_spare < 8
            && self.match_spare < 8;
        sound.then_some(self)
    }
}

/// Unpacks the frequencies: codes of 2 to 14 bits, the lowest bits first. The rest of the last byte is padding, and less
/// than a byte.
fn frequencies(packed: &[u8]) -> Option<[u16; SYMBOLS]> {
    let mut found = [0; SYMBOLS];
    let (mut waiting, mut bits) = (0_u32, 0_u32);
    let mut bytes = packed.iter();
    for frequency in &mut found {
        while bits <= 24 {
            let Some(byte) = bytes.next() else { break };
            waiting |= u32::from(*byte) << bits;
            bits += 8;
        }
        let low = |count: u32| waiting & ((1 << count) - 1);
        let (value, length) = match low(2) {
            0 => (0, 2),
            2 => (1, 2),
            _ => match (low(3), low(4)) {
                (1, _) => (2, 3),
                (5, _) => (3, 3),
                (3, _) => (4 + (low(5) >> 3), 5),
                (_, 7) => (8 + (low(8) >> 4), 8),
                _ => (24 + (low(14) >> 4), 14),
            },
        };
        if length > bits {
            return None;
        }
        waiting >>= length;
        bits -= length;
        *frequency = u16::try_from(value).ok()?;
    }
    (bits < 8 && bytes.next().is_none()).then_some(found)
}

/// Decodes the block behind `header`, which is at the start of `bytes`, and returns what follows it.
fn block<'a>(header: &Header, bytes: &'a [u8], window: &mut Window<'_>) -> Option<&'a [u8]> {
    let payload = bytes.get(header.length..)?;
    let (literal_stream, payload) = payload.split_at_checked(header.literal_bytes)?;
    let (match_stream, rest) = payload.split_at_checked(header.match_bytes)?;
    let (l, tables) = header.frequencies.split_first_chunk::<L_SYMBOLS>()?;
    let (m, tables) = tables.split_first_chunk::<M_SYMBOLS>()?;
    let (d, literal) = tables.split_first_chunk::<D_SYMBOLS>()?;

    let mut literals = [0; LITERALS_MAX as usize];
    let literals = literals.get_mut(..header.literals)?;
    let table = Literals::<LITERAL_STATES>::new(literal)?;
    let mut states = header.literal_states;
    let mut bits = Bits::new(literal_stream, header.literal_spare)?;
    for four in literals.chunks_exact_mut(4) {
        for (byte, state) in four.iter_mut().zip(&mut states) {
            *byte = table.next(state, &mut bits)?;
        }
    }

    let l_values = Values::<L_STATES>::new(l, &L_EXTRA)?;
    let m_values = Values::<M_STATES>::new(m, &M_EXTRA)?;
    let d_values = Values::<D_STATES>::new(d, &const { d_extra() })?;
    let (mut l_state, mut m_state, mut d_state) = (header.l_state, header.m_state, header.d_state);
    let mut bits = Bits::new(match_stream, header.match_spare)?;
    let end = window.filled().checked_add(header.raw_bytes)?;
    let (mut literals, mut distance) = (&*literals, 0);
    for _ in 0..header.matches {
        let length = l_values.next(&mut l_state, &mut bits)?;
        let copied = m_values.next(&mut m_state, &mut bits)?;
        let new = d_values.next(&mut d_state, &mut bits)?;
        // No distance means the one before.
        distance = if new == 0 { distance } else { new };
        let (these, others) = literals.split_at_checked(length)?;
        literals = others;
        window.put(these)?;
        if copied > 0 {
            window.copy(distance, copied)?;
        }
        if window.filled() > end {
            return None;
        }
    }
    (window.filled() == end).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::decode;

    fn noise(length: usize, distinct: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % distinct
        };
        (0..length).map(|_| u8::try_from(next()).unwrap()).collect()
    }

    fn samples() -> Vec<Vec<u8>> {
        let text = include_bytes!("lzfse.rs");
        let mixed = [&text[..], &noise(50_000, 256), &[0; 100_000], &text[100..], &noise(200_000, 3)].concat();
        vec![
            vec![7],
            b"abc".to_vec(),
            noise(300, 256),
            noise(300, 2),
            text[..3000].to_vec(),
            text.to_vec(),
            vec![0; 1 << 20],
            mixed,
        ]
    }

    #[test]
    fn what_another_encoder_made_is_read() {
        for plain in samples() {
            let mut stored = Vec::new();
            lzfse_rust::encode_bytes(&plain, &mut stored).unwrap();
            let mut unit = vec![0; plain.len() + 10];
            assert_eq!(decode(&stored, &mut unit), Some(plain.len()), "{} bytes as {:?}", plain.len(), &stored[..4]);
            assert!(unit[..plain.len()] == plain);
            assert_eq!(decode(&stored, &mut unit[..plain.len() - 1]), None, "it holds more");
            for cut in [0, 3, 8, stored.len() / 2, stored.len() - 1] {
                assert_eq!(decode(&stored[..cut], &mut unit), None, "{cut} of {}", stored.len());
            }
        }
    }

    #[test]
    fn damage_is_refused_or_gives_bytes() {
        for plain in samples().into_iter().filter(|plain| plain.len() < 100_000) {
            let mut stored = Vec::new();
            lzfse_rust::encode_bytes(&plain, &mut stored).unwrap();
            let mut unit = vec![0; plain.len()];
            let mut theirs = Vec::new();
            for round in 0..300 {
                let mut damaged = stored.clone();
                let at =
                    noise(round + 1, 251).iter().map(|byte| usize::from(*byte)).sum::<usize>() * 7919 % stored.len();
                damaged[at] ^= 1 << (round % 8);
                theirs.clear();
                let ours = decode(&damaged, &mut unit);
                let other = lzfse_rust::decode_bytes(&damaged, &mut theirs).is_ok();
                // Whatever both accept, they read alike.
                if let (Some(length), true) = (ours, other) {
                    assert!(unit[..length] == theirs, "round {round}");
                }
            }
        }
    }
}
