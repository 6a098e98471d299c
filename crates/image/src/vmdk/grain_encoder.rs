//! The parallel half of streamOptimized: one grain to one zlib stream that every reader's buffer holds.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use transload_block::{BlockEncoder, Codec, Error, ErrorKind, Form, Result};

use super::layout::COMPRESSED_GRAIN_MAX;
use crate::codec::{self, Encoder};

/// Guest bytes of a grain: the only size that all of VMware's and VirtualBox's readers take.
pub(super) const GRAIN_BYTES: usize = 64 << 10;

/// First bytes of a zlib stream (RFC 1950, section 2.2): deflate with a window of 32 KiB, no dictionary, default effort.
/// A stream made with a smaller window is sound under this header too.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x9c];
/// Bytes of the Adler-32 at its end.
const ZLIB_TRAILER: usize = 4;
/// The most a stored deflate block holds (RFC 1951, section 3.2.4).
const STORED_BLOCK_MAX: usize = 0xffff;

/// Compresses grains. It has no state between them: every thread borrows its own compressor.
#[derive(Debug)]
pub(super) struct GrainEncoder {
    level: u32,
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
    /// An encoder at `level` of [`codec::LEVELS`].
    ///
    /// # Errors
    /// `InvalidInput` when the level is outside the scale.
    pub(super) fn new(level: u32) -> Result<Self> {
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
            store(unit, stored);
        }
        Ok(Form::Encoded)
    }

    fn adopt(&self, codec: Codec, encoded: &[u8], unit: &[u8], stored: &mut Vec<u8>) -> Result<bool> {
        check_unit(unit)?;
        // A grain of zeroes is left out, which the sink can tell only from its own encoding.
        if unit.iter().all(|byte| *byte == 0) {
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
            Codec::Deflate => {
                let Some(length) = super::deflate_end::deflate_length(encoded, unit.len()) else { return Ok(false) };
                if ZLIB_HEADER.len() + length + ZLIB_TRAILER > COMPRESSED_GRAIN_MAX {
                    return Ok(false);
                }
                stored.clear();
                stored.extend_from_slice(&ZLIB_HEADER);
                stored.extend_from_slice(&encoded[..length]);
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

/// Wraps `unit` in stored blocks: the way out when compression makes it longer than readers' buffers.
fn store(unit: &[u8], stored: &mut Vec<u8>) {
    stored.clear();
    stored.extend_from_slice(&ZLIB_HEADER);
    let mut blocks = unit.chunks(STORED_BLOCK_MAX).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a chunk of at most 0xffff bytes");
        stored.push(u8::from(blocks.peek().is_none()));
        stored.extend_from_slice(&length.to_le_bytes());
        stored.extend_from_slice(&(!length).to_le_bytes());
        stored.extend_from_slice(block);
    }
    stored.extend_from_slice(&codec::adler32(unit).to_be_bytes());
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
        for level in codec::LEVELS {
            let mut stored = Vec::new();
            let encoder = GrainEncoder::new(level).unwrap();
            assert_eq!(encoder.encode(&unit, &mut stored).unwrap(), Form::Encoded);
            assert!(stored.len() <= COMPRESSED_GRAIN_MAX, "level {level}: {}", stored.len());
            let mut back = vec![0; GRAIN_BYTES];
            assert_eq!(codec::decode(Codec::Zlib, &stored, &mut back).unwrap(), GRAIN_BYTES);
            assert_eq!(back, unit);
        }
        let mut stored = Vec::new();
        store(&unit, &mut stored);
        assert!(stored.len() <= COMPRESSED_GRAIN_MAX);
        let mut back = vec![0; GRAIN_BYTES];
        assert_eq!(codec::decode(Codec::Zlib, &stored, &mut back).unwrap(), GRAIN_BYTES);
        assert_eq!(back, unit);
    }

    #[test]
    fn adopts_zlib_and_deflate_and_refuses_what_does_not_hold_the_whole_grain() {
        let encoder = GrainEncoder::new(6).unwrap();
        let mut unit = noise();
        unit[1000..].fill(7);
        let (mut zlib, mut stored) = (Vec::new(), Vec::new());
        encoder.encode(&unit, &mut zlib).unwrap();
        assert!(encoder.adopt(Codec::Zlib, &zlib, &unit, &mut stored).unwrap());
        assert_eq!(stored, zlib);
        // Trailing bytes behind the stream, as behind a qcow2 cluster.
        let mut padded = zlib.clone();
        padded.extend_from_slice(&[0; 100]);
        assert!(!encoder.adopt(Codec::Zlib, &padded, &unit, &mut stored).unwrap());
        let deflate = &padded[2..zlib.len() - 4 + 50];
        assert!(encoder.adopt(Codec::Deflate, deflate, &unit, &mut stored).unwrap());
        assert_eq!(stored[2..], zlib[2..]);
        let mut back = vec![0; GRAIN_BYTES];
        codec::decode(Codec::Zlib, &stored, &mut back).unwrap();
        assert_eq!(back, unit);
        // The short last grain of another writer.
        let mut short = Vec::new();
        Encoder::new(Codec::Zlib, 6).unwrap().encode(&unit[..1500], 4096, &mut short).unwrap();
        unit[1500..].fill(0);
        assert!(!encoder.adopt(Codec::Zlib, &short, &unit, &mut stored).unwrap());
        assert!(!encoder.adopt(Codec::Deflate, &short[2..short.len() - 4], &unit, &mut stored).unwrap());
        assert!(!encoder.adopt(Codec::Zstd, &short, &unit, &mut stored).unwrap());
    }
}
