//! The parallel half of streamOptimized: one grain to one zlib stream that every reader's buffer holds.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use transload_block::{BlockEncoder, Codec, Error, ErrorKind, Form, Result, is_all_zero};

use super::layout::COMPRESSED_GRAIN_MAX;
use crate::codec::{self, Encoder, Level, ZLIB_HEADER, ZLIB_TRAILER};

/// Guest bytes of a grain: the only size that all of VMware's and VirtualBox's readers take.
pub(super) const GRAIN_BYTES: usize = 64 << 10;

/// Compresses grains. It has no state between them: every thread borrows its own compressor.
#[derive(Debug)]
pub(super) struct GrainEncoder {
    level: Level,
    /// Which encoder a thread's compressor was made for.
    id: u64,
    /// What a grain of zeroes becomes, by which the sink knows one without decoding it.
    zero: Vec<u8>,
}

thread_local! {
    /// The thread's compressor and the encoder it belongs to: a compressor is some hundred kilobytes of tables, far too
    /// much to set up anew for a grain.
    static COMPRESSOR: RefCell<Option<(u64, Encoder)>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl GrainEncoder {
    /// An encoder at `level`.
    ///
    /// # Errors
    /// `Io` when there is no memory.
    pub(super) fn new(level: Level) -> Result<Self> {
        let mut encoder = Self { level, id: NEXT_ID.fetch_add(1, Ordering::Relaxed), zero: Vec::new() };
        let mut zero = Vec::new();
        encoder.encode(&[0; GRAIN_BYTES], &mut zero)?;
        encoder.zero = zero;
        Ok(encoder)
    }

    /// Whether `stored` is this encoder's own stream of a grain of zeroes.
    pub(super) fn is_zero_grain(&self, stored: &[u8]) -> bool {
        stored == self.zero
    }

    fn compress(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<bool> {
        COMPRESSOR.with_borrow_mut(|slot| {
            let encoder = match slot {
                Some((id, encoder)) if *id == self.id => encoder,
                _ => &mut slot.insert((self.id, Encoder::new(Codec::Zlib, self.level)?)).1,
            };
            encoder.encode(unit, COMPRESSED_GRAIN_MAX, stored)
        })
    }
}

impl BlockEncoder for GrainEncoder {
    fn unit_size(&self) -> u64 {
        GRAIN_BYTES as u64
    }

    fn encode(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<Form> {
        check_unit(unit)?;
        if !self.compress(unit, stored)? {
            // Stored blocks of 64 KiB are shorter than the bound.
            return Err(Error::new(ErrorKind::Io, "VMDK grain: the compressor did not store what it could not shrink"));
        }
        Ok(Form::Encoded)
    }

    fn adopt(&self, codec: Codec, encoded: &[u8], unit: Option<&[u8]>, stored: &mut Vec<u8>) -> Result<bool> {
        let Some(unit) = unit else {
            // Whoever trusts the source trusts its checksums; a stream without one would need the bytes.
            let fits = codec == Codec::Zlib && encoded.len() <= COMPRESSED_GRAIN_MAX;
            stored.clear();
            stored.extend_from_slice(if fits { encoded } else { &[] });
            return Ok(fits);
        };
        check_unit(unit)?;
        // A grain of zeroes is left out, which the sink can tell only from its own encoding.
        if is_all_zero(unit) {
            return Ok(false);
        }
        let adler = codec::adler32(unit).to_be_bytes();
        match codec {
            // The checksum proves that the stream ends here and holds the whole unit: another writer's last grain may
            // hold only the disk's bytes, and VirtualBox refuses a grain that inflates to less than 64 KiB.
            Codec::Zlib if encoded.len() <= COMPRESSED_GRAIN_MAX && encoded.ends_with(&adler) => {
                stored.clear();
                stored.extend_from_slice(encoded);
                Ok(true)
            }
            Codec::Deflate if ZLIB_HEADER.len() + encoded.len() + ZLIB_TRAILER <= COMPRESSED_GRAIN_MAX => {
                stored.clear();
                stored.extend_from_slice(&ZLIB_HEADER);
                stored.extend_from_slice(encoded);
                stored.extend_from_slice(&adler);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn check_unit(unit: &[u8]) -> Result<()> {
    if unit.len() == GRAIN_BYTES {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("VMDK grain of {} bytes, must be {GRAIN_BYTES}", unit.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..GRAIN_BYTES).map(|_| next()).collect()
    }

    #[test]
    fn an_incompressible_grain_stays_inside_every_readers_buffer() {
        let unit = noise();
        let numbers = codec::LEVELS.map(|number| Level::number(number).unwrap());
        for level in numbers.chain([Level::FAST, Level::BALANCED, Level::MAX]) {
            let mut stored = Vec::new();
            let encoder = GrainEncoder::new(level).unwrap();
            assert_eq!(encoder.encode(&unit, &mut stored).unwrap(), Form::Encoded);
            assert!(stored.len() <= COMPRESSED_GRAIN_MAX, "level {level}: {}", stored.len());
            let mut back = vec![0; GRAIN_BYTES];
            assert_eq!(codec::decode(Codec::Zlib, &stored, &mut back).unwrap(), GRAIN_BYTES);
            assert_eq!(back, unit);
        }
    }

    #[test]
    fn adopts_zlib_and_deflate_and_refuses_what_does_not_hold_the_whole_grain() {
        let encoder = GrainEncoder::new(Level::default()).unwrap();
        let mut unit = noise();
        unit[1000..].fill(7);
        let (mut zlib, mut stored) = (Vec::new(), Vec::new());
        encoder.encode(&unit, &mut zlib).unwrap();
        assert!(encoder.adopt(Codec::Zlib, &zlib, Some(&unit), &mut stored).unwrap());
        assert_eq!(stored, zlib);
        assert!(encoder.adopt(Codec::Zlib, &zlib, None, &mut stored).unwrap());
        assert_eq!(stored, zlib);
        // Trailing bytes behind the stream.
        let mut padded = zlib.clone();
        padded.extend_from_slice(&[0; 100]);
        assert!(!encoder.adopt(Codec::Zlib, &padded, Some(&unit), &mut stored).unwrap());
        let deflate = &zlib[2..zlib.len() - 4];
        assert!(encoder.adopt(Codec::Deflate, deflate, Some(&unit), &mut stored).unwrap());
        assert_eq!(stored[2..], zlib[2..]);
        // Nobody knows the checksum of what nobody has decoded.
        assert!(!encoder.adopt(Codec::Deflate, deflate, None, &mut stored).unwrap());
        assert!(!encoder.adopt(Codec::Zlib, &vec![0x78; COMPRESSED_GRAIN_MAX + 1], None, &mut stored).unwrap());
        // The short last grain of another writer.
        let mut short = Vec::new();
        Encoder::new(Codec::Zlib, Level::default()).unwrap().encode(&unit[..1500], 4096, &mut short).unwrap();
        unit[1500..].fill(0);
        assert!(!encoder.adopt(Codec::Zlib, &short, Some(&unit), &mut stored).unwrap());
        assert!(!encoder.adopt(Codec::Zstd, &short, Some(&unit), &mut stored).unwrap());
        assert!(!encoder.adopt(Codec::Zstd, &short, None, &mut stored).unwrap());
    }
}
