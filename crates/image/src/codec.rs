//! Whole-unit compression and decompression: the one module that calls codec libraries.
//!
//! Every call takes a whole cluster or grain and gives a whole one. Bounds are the caller's: a decoder fills exactly the
//! buffer it is given, never more, and says when a stream holds less or more than that.

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};
use transload_block::{Codec, Error, ErrorKind, Result};

/// Decodes units, one after the other. Not shared: each worker has its own, or borrows the thread's by [`decode`].
pub struct Decoder {
    deflate: Decompressor,
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
        Ok(Self { deflate: Decompressor::new(), zstd })
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
                let frame = zstd::zstd_safe::find_frame_compressed_size(stored)
                    .map_err(|code| corrupt(codec, zstd::zstd_safe::get_error_name(code)))?;
                let stored = stored.get(..frame).ok_or_else(|| corrupt(codec, "the frame breaks off"))?;
                self.zstd.decompress_to_buffer(stored, unit).map_err(|error| corrupt(codec, &error.to_string()))
            }
            other => Err(Error::new(ErrorKind::Unsupported, format!("codec {other:?}"))),
        }
    }
}

fn bad_deflate(codec: Codec, error: &DecompressionError) -> Error {
    let what = match error {
        DecompressionError::InsufficientSpace => "the stream holds more than one unit",
        DecompressionError::BadData => "the stream breaks off, is damaged or fails its checksum",
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
    DECODER.with_borrow_mut(|slot| {
        let decoder = match slot {
            Some(decoder) => decoder,
            None => slot.insert(Decoder::new()?),
        };
        decoder.decode(codec, stored, unit)
    })
}

/// The level scale of the command line: 1 is fastest, 12 smallest.
pub const LEVELS: std::ops::RangeInclusive<u32> = 1..=12;

/// Encodes units, one after the other. Not shared: each worker has its own.
pub struct Encoder(Inner);

enum Inner {
    Deflate { compressor: Compressor, zlib: bool },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder for `codec` at `level` of [`LEVELS`].
    ///
    /// # Errors
    /// `InvalidInput` when the level is outside the scale; `Unsupported` for a codec that is only read.
    pub fn new(codec: Codec, level: u32) -> Result<Self> {
        if !LEVELS.contains(&level) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("compression level {level} is not in 1 to 12")));
        }
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        let inner = match codec {
            Codec::Deflate | Codec::Zlib => {
                let level = CompressionLvl::new(level)
                    .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("deflate level {level}")))?;
                Inner::Deflate { compressor: Compressor::new(level), zlib: codec == Codec::Zlib }
            }
            Codec::Zstd => {
                Inner::Zstd(zstd::bulk::Compressor::new(level).map_err(|error| Error::io("zstd encoder", error))?)
            }
            other => return Err(Error::new(ErrorKind::Unsupported, format!("writing codec {other:?}"))),
        };
        Ok(Self(inner))
    }

    /// Encodes `unit` into `stored`, replacing what it held, and answers whether the result is at most `limit` bytes
    /// long. Where it is not, `stored` is unspecified.
    ///
    /// # Errors
    /// What the codec answers, which for a sound `unit` is only a lack of memory.
    pub fn encode(&mut self, unit: &[u8], limit: usize, stored: &mut Vec<u8>) -> Result<bool> {
        stored.resize(limit, 0);
        let written = match &mut self.0 {
            Inner::Deflate { compressor, zlib: true } => compressor.zlib_compress(unit, stored).ok(),
            Inner::Deflate { compressor, zlib: false } => compressor.deflate_compress(unit, stored).ok(),
            // The one way in which a compressor fails here is a buffer that is too small.
            Inner::Zstd(compressor) => compressor.compress_to_buffer(unit, stored.as_mut_slice()).ok(),
        };
        stored.truncate(written.unwrap_or(0));
        Ok(written.is_some())
    }
}

/// The Adler-32 of `bytes`: the checksum at the end of a zlib stream (RFC 1950).
#[must_use]
pub fn adler32(bytes: &[u8]) -> u32 {
    libdeflater::adler32(bytes)
}
