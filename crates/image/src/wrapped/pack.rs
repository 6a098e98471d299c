//! Packs a disk as it goes by: units of 1 MiB side by side, and what stands around and between them.
//!
//! | how | a unit becomes | between them |
//! |---|---|---|
//! | one gzip stream | deflate blocks that end at a byte | nothing: their checksums are combined at the end |
//! | gzip members | a member of its own | nothing |
//! | Zstandard frames | a frame with its size and checksum | nothing |
//!
//! A unit is packed without regard to its neighbours, so that any thread packs any unit and the result does not depend on
//! their number. The encoder hands over the checksum of a unit in front of its blocks.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};
use transload_block::{BlockEncoder, Codec, Error, ErrorKind, Form, Result};
use zstd::zstd_safe::CParameter;

use super::Kind;
use super::limits::Limits;
use super::members::Members;
use crate::codec::{Encoder, Level};
use crate::kept::lock;
use crate::vmdk::sequential::{Destination, Sequential};
use crate::{OptionValues, SinkOutput};

/// What is packed at once: the loss by not knowing the unit before is well below a hundredth.
pub(crate) const UNIT: usize = 1 << 20;
/// Deflate, no flags, no time, no system: the header of a member (RFC 1952, section 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block that holds nothing (RFC 1951, section 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];
/// A unit's checksum and length in front of its blocks.
const NOTE: usize = 8;

/// How the packed units are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    GzipStream,
    GzipMembers,
    ZstdFrames,
}

/// Packs units: the parallel half.
pub(crate) struct Packer {
    how: How,
    level: Level,
    /// Compressors that nobody uses at the moment.
    idle: Mutex<Vec<Compressor>>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("how", &self.how).field("level", &self.level).finish_non_exhaustive()
    }
}

enum Compressor {
    Deflate(Box<Encoder>, Vec<u8>),
    /// Made anew for every unit: using it again once panicked.
    Stream(Compression),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    fn new(how: How, level: Level) -> Result<Self> {
        Ok(match how {
            How::GzipMembers => Self::Deflate(Box::new(Encoder::new(Codec::Deflate, level)?), Vec::new()),
            // Level 1 grows what cannot be packed.
            How::GzipStream => {
                Self::Stream(Compression::new(u32::try_from(number(level, [2, 6, 9]).clamp(2, 9)).unwrap_or(6)))
            }
            How::ZstdFrames => {
                let failed = |error| Error::io("zstd encoder", error);
                let mut compressor = zstd::bulk::Compressor::new(number(level, [1, 3, 19])).map_err(failed)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
                Self::Zstd(Box::new(compressor))
            }
        })
    }

    /// Packs `unit` into `stored`, replacing what it held.
    fn pack(&mut self, unit: &[u8], stored: &mut Vec<u8>) -> Result<()> {
        // What cannot be packed grows by a little.
        let room = unit.len() + unit.len() / 8 + 1024;
        let length = u32::try_from(unit.len()).unwrap_or(0).to_le_bytes();
        stored.clear();
        match self {
            Self::Deflate(encoder, body) => {
                if !encoder.encode(unit, room, body)? {
                    return Err(no_room());
                }
                stored.extend_from_slice(&GZIP_HEADER);
                stored.extend_from_slice(body);
                stored.extend_from_slice(&crc32fast::hash(unit).to_le_bytes());
                stored.extend_from_slice(&length);
            }
            Self::Stream(level) => {
                stored.reserve(room);
                stored.extend_from_slice(&crc32fast::hash(unit).to_le_bytes());
                stored.extend_from_slice(&length);
                let mut compress = Compress::new(*level, false);
                let done = compress.compress_vec(unit, stored, FlushCompress::Sync);
                let whole = done.is_ok() && compress.total_in() == unit.len() as u64;
                // A sync ends with an empty stored block, at a byte.
                if !whole || !stored.ends_with(&[0, 0, 0xff, 0xff]) {
                    return Err(no_room());
                }
            }
            Self::Zstd(compressor) => {
                stored.resize(room, 0);
                let length = compressor.compress_to_buffer(unit, stored.as_mut_slice());
                stored.truncate(length.map_err(|error| Error::io("zstd encoder", error))?);
            }
        }
        Ok(())
    }
}

fn no_room() -> Error {
    Error::new(ErrorKind::Io, "the compressor did not take a whole unit")
}

/// The number of a level, or what its name stands for here: fast, balanced, max.
fn number(level: Level, [fast, balanced, max]: [i32; 3]) -> i32 {
    match level {
        Level::FAST => fast,
        Level::BALANCED => balanced,
        Level::MAX => max,
        other => other.to_string().parse().unwrap_or(balanced),
    }
}

impl Packer {
    pub(crate) fn new(how: How, level: Level) -> Self {
        Self { how, level, idle: Mutex::default() }
    }

    fn pack(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<()> {
        let idle = lock(&self.idle).pop();
        let mut compressor = idle.map_or_else(|| Compressor::new(self.how, self.level), Ok)?;
        compressor.pack(unit, stored)?;
        lock(&self.idle).push(compressor);
        Ok(())
    }
}

impl BlockEncoder for Packer {
    fn unit_size(&self) -> u64 {
        UNIT as u64
    }

    fn encode(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<Form> {
        self.pack(unit, stored)?;
        Ok(Form::Encoded)
    }

    fn adopt(&self, _codec: Codec, _encoded: &[u8], _unit: Option<&[u8]>, _stored: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
}

/// Puts packed units behind each other: the serial half.
pub(crate) struct Packed {
    out: Sequential,
    packer: Arc<Packer>,
    /// Of all that went in, for a stream's end.
    checksum: Hasher,
    held: u64,
    /// A packed unit of zeroes.
    zeroes: Vec<u8>,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("out", &self.out).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Packed {
    /// Begins the output.
    ///
    /// # Errors
    /// `Unsupported` for a block device, on which a compressed file would not end; what the output answers.
    pub(crate) fn new(output: SinkOutput<'_>, packer: Arc<Packer>) -> Result<Self> {
        let destination = match output {
            SinkOutput::Pipe(pipe) => Destination::Pipe(pipe),
            SinkOutput::Files(files) => {
                let storage = files.primary()?;
                if storage.size() > 0 {
                    let what = format!("{}: a compressed file has an end, a block device has none", files.name());
                    return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("write to a file or a pipe"));
                }
                Destination::File(storage)
            }
        };
        let mut zeroes = Vec::new();
        packer.pack(&vec![0; UNIT], &mut zeroes)?;
        let mut out = Sequential::new(destination);
        if packer.how == How::GzipStream {
            out.append(&GZIP_HEADER)?;
        }
        Ok(Self { out, packer, checksum: Hasher::new(), held: 0, zeroes })
    }

    pub(crate) fn packer(&self) -> Arc<Packer> {
        Arc::clone(&self.packer)
    }

    /// Appends a unit of `length` bytes that the packer packed.
    pub(crate) fn put_packed(&mut self, packed: &[u8], length: u64) -> Result<()> {
        let blocks = match self.packer.how {
            How::GzipMembers | How::ZstdFrames => packed,
            How::GzipStream => {
                let noted = packed.split_first_chunk::<NOTE>();
                let (note, blocks) =
                    noted.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a unit without its checksum"))?;
                let [a, b, c, d, ..] = *note;
                let part = Hasher::new_with_initial_len(u32::from_le_bytes([a, b, c, d]), length);
                self.checksum.combine(&part);
                blocks
            }
        };
        self.held += length;
        self.out.append(blocks)
    }

    /// Packs and appends some bytes, at most a unit of them, on this thread.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let mut packed = Vec::new();
        for piece in bytes.chunks(UNIT) {
            self.packer.pack(piece, &mut packed)?;
            self.put_packed(&packed, piece.len() as u64)?;
        }
        Ok(())
    }

    /// Appends zeroes.
    pub(crate) fn put_zeroes(&mut self, length: u64) -> Result<()> {
        let zeroes = std::mem::take(&mut self.zeroes);
        let unit = UNIT as u64;
        for _ in 0..length / unit {
            self.put_packed(&zeroes, unit)?;
        }
        self.zeroes = zeroes;
        let rest = usize::try_from(length % unit).unwrap_or(0);
        if rest > 0 { self.put(&vec![0; rest]) } else { Ok(()) }
    }

    /// Appends the first `keep` bytes of a unit that was packed as a whole: a disk's last one is padded.
    pub(crate) fn put_front(&mut self, packed: &[u8], keep: usize) -> Result<()> {
        let (kind, member) = match self.packer.how {
            How::ZstdFrames => (Kind::Zstd, packed.to_vec()),
            How::GzipMembers => (Kind::Gzip, packed.to_vec()),
            How::GzipStream => {
                let (note, blocks) = packed.split_at(NOTE.min(packed.len()));
                (Kind::Gzip, [&GZIP_HEADER, blocks, &LAST_BLOCK, note].concat())
            }
        };
        let limits = Limits::of(&OptionValues::default());
        let mut unit = Vec::with_capacity(UNIT);
        let members = Members::new(kind, Box::new(std::io::Cursor::new(member)), limits);
        members?.read_to_end(&mut unit).map_err(|error| Error::io("the last unit", error))?;
        self.put(unit.get(..keep).unwrap_or(&unit))
    }

    /// Writes the end, and makes the output whole and durable.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.packer.how == How::GzipStream {
            let low = u32::try_from(self.held & u64::from(u32::MAX)).unwrap_or(0);
            let sum = self.checksum.clone().finalize();
            self.out.append(&[&LAST_BLOCK[..], &sum.to_le_bytes(), &low.to_le_bytes()].concat())?;
        } else if self.held == 0 {
            // A file of no members is no compressed file.
            let mut packed = Vec::new();
            self.packer.pack(&[], &mut packed)?;
            self.put_packed(&packed, 0)?;
        }
        self.out.into_file()?.map_or(Ok(()), |file| file.flush())
    }
}
