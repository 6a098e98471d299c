//! Encoding a unit, by whichever library the level asks for.

#[cfg(feature = "igzip")]
use transload_igzip::Wrapper;

use libdeflater::{CompressionLvl, Compressor};
use transload_block::{Codec, Error, ErrorKind, Result};

use super::adler32;
use super::level::{Engine, Level};
use super::noise::is_noise;

/// First bytes of a zlib stream (RFC 1950, section 2.2): deflate with a window of 32 KiB, no dictionary, default effort.
/// A stream made with a smaller window is sound under this header too.
pub(crate) const ZLIB_HEADER: [u8; 2] = [0x78, 0x9c];
/// Bytes of the Adler-32 at its end.
pub(crate) const ZLIB_TRAILER: usize = 4;
/// The most a stored deflate block holds (RFC 1951, section 3.2.4), and the bytes in front of it.
const STORED_BLOCK_MAX: usize = 0xffff;
const STORED_BLOCK_HEADER: usize = 5;

/// Encodes units, one after the other. Not shared: each worker has its own.
pub struct Encoder {
    library: Library,
    codec: Codec,
    probe: bool,
    /// Where the library writes: the results are copied out of it, which is less work than clearing room for them.
    room: Vec<u8>,
}

enum Library {
    #[cfg(feature = "igzip")]
    Igzip(transload_igzip::Compressor),
    Libdeflate(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder for `codec` at `level`.
    ///
    /// # Errors
    /// `Unsupported` for a codec that is only read; `Io` when there is no memory.
    pub fn new(codec: Codec, level: Level) -> Result<Self> {
        let method = level.method(codec)?;
        let library = match method.engine {
            #[cfg(feature = "igzip")]
            Engine::Igzip(level) => {
                let wrapper = if codec == Codec::Zlib { Wrapper::Zlib } else { Wrapper::Bare };
                let compressor = transload_igzip::Compressor::new(level, wrapper);
                Library::Igzip(compressor.ok_or_else(|| no_such_level("igzip", level.into()))?)
            }
            Engine::Libdeflate(level) => {
                let level = CompressionLvl::new(level).map_err(|_| no_such_level("libdeflate", level))?;
                Library::Libdeflate(Compressor::new(level))
            }
            Engine::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(level);
                Library::Zstd(compressor.map_err(|error| Error::io("zstd encoder", error))?)
            }
        };
        Ok(Self { library, codec, probe: method.probe, room: Vec::new() })
    }

    /// Encodes `unit` into `stored`, replacing what it held, and answers whether the result is at most `limit` bytes
    /// long. Where it is not, `stored` is unspecified.
    ///
    /// A unit that does not shrink becomes stored blocks in deflate and zlib, where `limit` leaves room for them.
    ///
    /// # Errors
    /// What the codec answers, which for a sound `unit` is only a lack of memory.
    pub fn encode(&mut self, unit: &[u8], limit: usize, stored: &mut Vec<u8>) -> Result<bool> {
        stored.clear();
        if self.probe && is_noise(unit) {
            return Ok(self.store(unit, limit, stored));
        }
        if self.room.len() < limit {
            self.room.resize(limit, 0);
        }
        let room = &mut self.room[..limit];
        let written = match &mut self.library {
            #[cfg(feature = "igzip")]
            Library::Igzip(compressor) => compressor.compress(unit, room),
            Library::Libdeflate(compressor) if self.codec == Codec::Zlib => compressor.zlib_compress(unit, room).ok(),
            Library::Libdeflate(compressor) => compressor.deflate_compress(unit, room).ok(),
            // The one way in which a compressor fails here is a buffer that is too small.
            Library::Zstd(compressor) => compressor.compress_to_buffer(unit, room).ok(),
        };
        match written {
            Some(written) => {
                stored.extend_from_slice(&self.room[..written]);
                Ok(true)
            }
            None => Ok(self.store(unit, limit, stored)),
        }
    }

    /// Puts `unit` into stored blocks, where they are not more than `limit` bytes.
    fn store(&self, unit: &[u8], limit: usize, stored: &mut Vec<u8>) -> bool {
        let wrapper = match self.codec {
            Codec::Deflate => 0,
            Codec::Zlib => ZLIB_HEADER.len() + ZLIB_TRAILER,
            _ => return false,
        };
        let blocks = unit.len().div_ceil(STORED_BLOCK_MAX).max(1);
        if wrapper + blocks * STORED_BLOCK_HEADER + unit.len() > limit {
            return false;
        }
        if self.codec == Codec::Zlib {
            stored.extend_from_slice(&ZLIB_HEADER);
        }
        for index in 0..blocks {
            let from = index * STORED_BLOCK_MAX;
            let block = &unit[from..unit.len().min(from + STORED_BLOCK_MAX)];
            let length = u16::try_from(block.len()).expect("a stored block has at most 0xffff bytes");
            stored.push(u8::from(index + 1 == blocks));
            stored.extend_from_slice(&length.to_le_bytes());
            stored.extend_from_slice(&(!length).to_le_bytes());
            stored.extend_from_slice(block);
        }
        if self.codec == Codec::Zlib {
            stored.extend_from_slice(&adler32(unit).to_be_bytes());
        }
        true
    }
}

fn no_such_level(library: &str, level: i32) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{library} has no level {level}"))
}
