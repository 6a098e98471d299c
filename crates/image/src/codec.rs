//! Whole-unit compression and decompression: the one module that calls codec libraries.
//!
//! Every call takes a whole cluster or grain and gives a whole one. Bounds are the caller's: a decoder fills exactly the
//! buffer it is given, never more, and says when a stream holds less or more than that.
//!
//! Which library does what was measured (docs/adr/0016-codecs-by-measurement.md): libdeflate inflates, and deflates at the
//! numbered levels; ISA-L's igzip, where it is built in, deflates at the named levels where speed counts; zstd does zstd.

mod encoder;
mod level;
mod noise;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use libdeflater::{DecompressionError, Decompressor};
use transload_block::{Codec, Error, ErrorKind, Result};
use zlib_rs::{Inflate, InflateFlush, Status};

pub use encoder::Encoder;
pub(crate) use encoder::{ZLIB_HEADER, ZLIB_TRAILER};
pub use level::{LEVELS, Level};

/// Decodes units, one after the other. Not shared: each worker has its own, or borrows the thread's by [`decode`].
pub struct Decoder {
    deflate: Decompressor,
    /// For the one question that libdeflate is not asked by its binding: where a stream ends.
    inflate: Inflate,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder with its tables allocated.
    ///
    /// # Errors
    /// `Io` when there is no memory for them.
    pub fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new().map_err(|error| Error::io("zstd decoder", error))?;
        Ok(Self { deflate: Decompressor::new(), inflate: Inflate::new(false, WINDOW_BITS), zstd })
    }

    /// As [`decode`](Self::decode), and cuts `stored` off behind its stream: a qcow2 cluster records only the sectors it
    /// may reach into, and what follows the stream there belongs to somebody else. A zlib stream is left as it is, since the formats
    /// that have them record their lengths.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_and_trim(&mut self, codec: Codec, stored: &mut Vec<u8>, unit: &mut [u8]) -> Result<usize> {
        let (held, taken) = match codec {
            Codec::Deflate => self.inflate(stored, unit)?,
            Codec::Zstd => {
                let frame = frame_length(stored)?;
                (self.decode(codec, &stored[..frame], unit)?, frame)
            }
            _ => (self.decode(codec, stored, unit)?, stored.len()),
        };
        stored.truncate(taken);
        Ok(held)
    }

    /// Inflates a bare stream, and answers how many bytes it held and how many it took.
    fn inflate(&mut self, stored: &[u8], unit: &mut [u8]) -> Result<(usize, usize)> {
        self.inflate.reset(false);
        let status = self.inflate.decompress(stored, unit, InflateFlush::Finish);
        let count = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
        let (taken, held) = (count(self.inflate.total_in()), count(self.inflate.total_out()));
        match status {
            Ok(Status::StreamEnd) => Ok((held, taken)),
            Ok(_) if held == unit.len() && taken < stored.len() => Err(corrupt(Codec::Deflate, MORE_THAN_ONE_UNIT)),
            _ => Err(corrupt(Codec::Deflate, BROKEN)),
        }
    }

    /// Decodes the one stream that `stored` begins with into the front of `unit` and returns how many bytes it held.
    /// What follows the stream in `stored` is padding and is not looked at.
    ///
    /// # Errors
    /// `Corrupt` when the stream breaks off, breaks a rule of its codec, fails its own checksum, or holds more than
    /// `unit` has room for.
    pub fn decode(&mut self, codec: Codec, stored: &[u8], unit: &mut [u8]) -> Result<usize> {
        match codec {
            Codec::Deflate => self.deflate.deflate_decompress(stored, unit).map_err(|error| bad_deflate(codec, &error)),
            Codec::Zlib => self.deflate.zlib_decompress(stored, unit).map_err(|error| bad_deflate(codec, &error)),
            Codec::Zstd => {
                let stored = &stored[..frame_length(stored)?];
                self.zstd.decompress_to_buffer(stored, unit).map_err(|error| corrupt(codec, &error.to_string()))
            }
            other => Err(Error::new(ErrorKind::Unsupported, format!("codec {other:?}"))),
        }
    }
}

/// The bytes of the zstd frame that `stored` begins with.
fn frame_length(stored: &[u8]) -> Result<usize> {
    let frame = zstd::zstd_safe::find_frame_compressed_size(stored)
        .map_err(|code| corrupt(Codec::Zstd, zstd::zstd_safe::get_error_name(code)))?;
    if frame > stored.len() {
        return Err(corrupt(Codec::Zstd, "the frame breaks off"));
    }
    Ok(frame)
}

/// Deflate's largest window, 32 KiB, as a power of two.
const WINDOW_BITS: u8 = 15;

const MORE_THAN_ONE_UNIT: &str = "the stream holds more than one unit";
const BROKEN: &str = "the stream breaks off, is damaged or fails its checksum";

fn bad_deflate(codec: Codec, error: &DecompressionError) -> Error {
    let what = match error {
        DecompressionError::InsufficientSpace => MORE_THAN_ONE_UNIT,
        DecompressionError::BadData => BROKEN,
    };
    corrupt(codec, what)
}

fn corrupt(codec: Codec, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{codec:?} unit: {what}"))
}

thread_local! {
    static DECODER: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

/// Decodes with the calling thread's own [`Decoder`]; see [`Decoder::decode`].
///
/// # Errors
/// As [`Decoder::decode`] and [`Decoder::new`].
pub fn decode(codec: Codec, stored: &[u8], unit: &mut [u8]) -> Result<usize> {
    with_own_decoder(|decoder| decoder.decode(codec, stored, unit))
}

/// As [`decode`], and cuts `stored` off behind its stream; see [`Decoder::decode_and_trim`].
///
/// # Errors
/// As [`decode`].
pub fn decode_and_trim(codec: Codec, stored: &mut Vec<u8>, unit: &mut [u8]) -> Result<usize> {
    with_own_decoder(|decoder| decoder.decode_and_trim(codec, stored, unit))
}

fn with_own_decoder(decode: impl FnOnce(&mut Decoder) -> Result<usize>) -> Result<usize> {
    DECODER.with_borrow_mut(|slot| {
        let decoder = match slot {
            Some(decoder) => decoder,
            None => slot.insert(Decoder::new()?),
        };
        decode(decoder)
    })
}

/// The Adler-32 of `bytes`: the checksum at the end of a zlib stream (RFC 1950).
#[must_use]
pub fn adler32(bytes: &[u8]) -> u32 {
    libdeflater::adler32(bytes)
}
