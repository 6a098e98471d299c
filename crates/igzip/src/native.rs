//! The calls into ISA-L.
#![expect(unsafe_code, reason = "ISA-L is C and assembly; the crate's page says why it is worth it")]

use std::ops::RangeInclusive;

use isal_sys::igzip_lib as isal;

/// igzip's own levels: 0 has fixed codes, 1 to 3 have codes made for each block.
pub const LEVELS: RangeInclusive<u8> = 0..=3;

/// What stands around the deflate stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// Nothing (RFC 1951).
    Bare,
    /// The header and checksum of zlib (RFC 1950).
    Zlib,
}

/// Compresses units, one after the other. The same unit gives the same bytes, whatever came before it.
pub struct Compressor {
    /// On the heap: 80 KiB, most of them state of ISA-L's own.
    stream: Box<isal::isal_zstream>,
    /// Tables and tokens, aligned for any type that ISA-L puts into it.
    level_buffer: Vec<u128>,
    level: u8,
    wrapper: Wrapper,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).field("wrapper", &self.wrapper).finish_non_exhaustive()
    }
}

// SAFETY: the pointers inside `stream` are null or stale between calls: `compress` sets every one of them that ISA-L follows,
// and nothing that they lead to is shared with another compressor but ISA-L's constant tables.
unsafe impl Send for Compressor {}

impl Compressor {
    /// A compressor at `level` of [`LEVELS`]; `None` when the level is outside.
    #[must_use]
    pub fn new(level: u8, wrapper: Wrapper) -> Option<Self> {
        // Room for the tokens of 64 KiB of input, so that a unit of the usual size is one block with one code.
        let buffer_bytes = match level {
            0 => isal::ISAL_DEF_LVL0_DEFAULT,
            1 => isal::ISAL_DEF_LVL1_DEFAULT,
            2 => isal::ISAL_DEF_LVL2_DEFAULT,
            3 => isal::ISAL_DEF_LVL3_DEFAULT,
            _ => return None,
        };
        let words = usize::try_from(buffer_bytes).ok()?.div_ceil(size_of::<u128>());
        // SAFETY: the structure holds integers, arrays of them, C unions of those, and pointers; all zero bits are a value of each.
        let stream = unsafe { Box::<isal::isal_zstream>::new_zeroed().assume_init() };
        Some(Self { stream, level_buffer: vec![0; words], level, wrapper })
    }

    /// Compresses `unit` into the front of `stored` and answers how many bytes it became, or `None` when `stored` has no
    /// room for them. An incompressible unit becomes stored blocks where there is room for those.
    pub fn compress(&mut self, unit: &[u8], stored: &mut [u8]) -> Option<usize> {
        let avail_in = u32::try_from(unit.len()).ok()?;
        // Less room than there is, is no danger.
        let avail_out = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        let stream = &mut *self.stream;
        // SAFETY: `stream` is a whole structure of ISA-L's, to which nothing else refers.
        unsafe { isal::isal_deflate_stateless_init(stream) };
        stream.level = u32::from(self.level);
        if !self.level_buffer.is_empty() {
            stream.level_buf = self.level_buffer.as_mut_ptr().cast();
            stream.level_buf_size = u32::try_from(size_of_val(self.level_buffer.as_slice())).ok()?;
        }
        stream.end_of_stream = 1;
        stream.gzip_flag = match self.wrapper {
            Wrapper::Bare => flag(isal::IGZIP_DEFLATE),
            Wrapper::Zlib => flag(isal::IGZIP_ZLIB),
        };
        // ISA-L reads through this pointer and never writes, whatever its type says.
        stream.next_in = unit.as_ptr().cast_mut();
        stream.avail_in = avail_in;
        stream.next_out = stored.as_mut_ptr();
        stream.avail_out = avail_out;
        // SAFETY: `next_in` has `avail_in` readable bytes, `next_out` has `avail_out` writable ones and `level_buf` has
        // `level_buf_size`, each in a slice or vector that is borrowed until the call returns; `hufftables` was set to a
        // constant table by the initialisation.
        let answer = unsafe { isal::isal_deflate_stateless(stream) };
        (i64::from(answer) == i64::from(isal::COMP_OK)).then(|| usize::try_from(stream.total_out).ok()).flatten()
    }
}

/// A constant of the header as the structure has it.
fn flag(value: u32) -> u16 {
    u16::try_from(value).expect("a constant below ten")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..65536_u32)
            .map(|at| b"the field's own words, over and over. "[(at % 38) as usize] ^ u8::from(at % 97 == 0))
            .collect()
    }

    #[test]
    fn a_compressor_has_no_memory_and_keeps_to_its_room() {
        for level in LEVELS {
            for wrapper in [Wrapper::Bare, Wrapper::Zlib] {
                let mut compressor = Compressor::new(level, wrapper).unwrap();
                let (mut first, mut second) = (vec![0; 70_000], vec![0xff; 70_000]);
                let length = compressor.compress(&text(), &mut first).unwrap();
                assert!(length < 20_000, "level {level}: {length}");
                let noise: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                assert!(compressor.compress(&noise, &mut vec![0; 200_000]).is_some());
                assert_eq!(compressor.compress(&text(), &mut second[..length / 2]), None);
                assert!(second[length / 2..].iter().all(|byte| *byte == 0xff), "level {level} wrote behind its room");
                assert_eq!(compressor.compress(&text(), &mut second), Some(length));
                assert_eq!(first[..length], second[..length], "level {level}");
                assert_eq!(compressor.compress(&[], &mut []), None);
            }
        }
    }

    #[test]
    fn a_unit_that_does_not_shrink_is_stored() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..65536)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()[7]
            })
            .collect();
        for level in LEVELS {
            let length = Compressor::new(level, Wrapper::Zlib).unwrap().compress(&noise, &mut vec![0; 66_036]);
            assert!(length.is_some_and(|length| length <= 65536 + 2 * 5 + 6), "level {level}: {length:?}");
        }
    }

    #[test]
    fn there_is_no_level_above_the_scale() {
        assert!(Compressor::new(4, Wrapper::Bare).is_none());
    }
}
