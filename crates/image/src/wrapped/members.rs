//! Unpacks members that follow each other: gzip members, bzip2 and xz streams, Zstandard frames.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress};
use liblzma::stream::{Action, MtStreamBuilder, Stream};
use transload_block::{Error, ErrorKind, Result};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::Kind;
use super::limits::Limits;

/// Compressed bytes that are read at once.
const INPUT: usize = 256 << 10;
/// What unpacking xz may need. The highest preset's dictionary has 64 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// What it may use to unpack several blocks at once; with less room, it unpacks one.
const XZ_THREADS_MEMORY: u64 = 96 << 20;
/// The base-two logarithm of the largest window of a Zstandard frame: what `zstd` itself takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The bytes inside a compressed file. An error of its own travels inside the `io::Error`.
pub(super) struct Members {
    kind: Kind,
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// What of the buffer is not used yet.
    start: usize,
    end: usize,
    input_ended: bool,
    codec: Codec,
    /// Where in the file the next unused byte is.
    stored: u64,
    held: u64,
    place: Place,
    limits: Limits,
}

/// Where in the file we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Member,
    /// Behind a member, and behind so many zeroes.
    Between(u64),
    End,
}

/// What a step did.
struct Step {
    used: usize,
    made: usize,
    /// The member is whole, and its checksums are right.
    ended: bool,
}

enum Codec {
    Gzip(Box<Decompress>),
    Bzip2(Box<bzip2::Decompress>),
    Xz(Stream),
    Zstd(Decoder<'static>),
}

impl Codec {
    fn new(kind: Kind) -> Result<Self> {
        let no_memory = |error: liblzma::stream::Error| Error::io("xz decoder", error.into());
        Ok(match kind {
            Kind::Gzip => Self::Gzip(Box::new(Decompress::new_gzip(15))),
            Kind::Bzip2 => Self::Bzip2(Box::new(bzip2::Decompress::new(false))),
            Kind::Xz => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
                let mut builder = MtStreamBuilder::new();
                builder.threads(u32::try_from(threads).unwrap_or(1));
                builder.memlimit_threading(XZ_THREADS_MEMORY).memlimit_stop(XZ_MEMORY);
                Self::Xz(builder.decoder().map_err(no_memory)?)
            }
            Kind::Zstd => {
                let failed = |error| Error::io("zstd decoder", error);
                let mut decoder = Decoder::new().map_err(failed)?;
                let window = zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG);
                decoder.set_parameter(window).map_err(failed)?;
                Self::Zstd(decoder)
            }
        })
    }

    /// Unpacks some of `input` into some of `output`.
    fn step(&mut self, input: &[u8], output: &mut [u8], input_ended: bool) -> Result<Step> {
        let count = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        match self {
            Self::Gzip(codec) => {
                let (used, made) = (codec.total_in(), codec.total_out());
                let status = codec.decompress(input, output, FlushDecompress::None);
                let status = status.map_err(|error| broken(&error.to_string()))?;
                let ended = status == flate2::Status::StreamEnd;
                Ok(Step { used: count(codec.total_in(), used), made: count(codec.total_out(), made), ended })
            }
            Self::Bzip2(codec) => {
                let (used, made) = (codec.total_in(), codec.total_out());
                let status = codec.decompress(input, output).map_err(|error| broken(&error.to_string()))?;
                let ended = status == bzip2::Status::StreamEnd;
                Ok(Step { used: count(codec.total_in(), used), made: count(codec.total_out(), made), ended })
            }
            Self::Xz(codec) => {
                let (used, made) = (codec.total_in(), codec.total_out());
                let action = if input_ended { Action::Finish } else { Action::Run };
                let status = codec.process(input, output, action).map_err(xz_error)?;
                let ended = status == liblzma::stream::Status::StreamEnd;
                Ok(Step { used: count(codec.total_in(), used), made: count(codec.total_out(), made), ended })
            }
            Self::Zstd(codec) => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(output));
                let left = codec.run(&mut from, &mut to).map_err(|error| zstd_error(&error))?;
                Ok(Step { used: from.pos(), made: to.pos(), ended: left == 0 })
            }
        }
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

fn xz_error(error: liblzma::stream::Error) -> Error {
    use liblzma::stream::Error as Xz;
    match error {
        Xz::MemLimit => {
            let what = format!("unpacking it needs more than {} MiB of memory", XZ_MEMORY >> 20);
            Error::new(ErrorKind::Unsupported, what).with_remedy("unpack it with `xz -d` first")
        }
        Xz::UnsupportedCheck | Xz::Options => {
            Error::new(ErrorKind::Unsupported, format!("it uses what this version of xz does not know: {error}"))
        }
        Xz::Mem => Error::new(ErrorKind::TooLarge, "no memory to unpack it"),
        _ => broken(&error.to_string()),
    }
}

fn zstd_error(error: &io::Error) -> Error {
    let what = error.to_string();
    if what.contains("too much memory") {
        let what = format!("unpacking it needs a window of more than {} MiB", 1 << (ZSTD_WINDOW_LOG - 20));
        return Error::new(ErrorKind::Unsupported, what).with_remedy("unpack it with `zstd -d --long=31` first");
    }
    broken(&what)
}

impl Members {
    pub(super) fn new(kind: Kind, input: Box<dyn Read + Send>, limits: Limits) -> Result<Self> {
        Ok(Self {
            kind,
            input,
            buffer: vec![0; INPUT],
            start: 0,
            end: 0,
            input_ended: false,
            codec: Codec::new(kind)?,
            stored: 0,
            held: 0,
            place: Place::Member,
            limits,
        })
    }

    /// Makes sure that there is a byte, if any is left.
    fn fill(&mut self) -> io::Result<()> {
        while self.start == self.end && !self.input_ended {
            match self.input.read(&mut self.buffer) {
                Ok(0) => self.input_ended = true,
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        self.stored += count as u64;
    }

    /// Looks at what stands behind a member: the end, zeroes, or the next one.
    fn between(&mut self, zeroes: u64) -> Result<()> {
        let rest = &self.buffer[self.start..self.end];
        let Some(first) = rest.first() else {
            self.place = Place::End;
            return Ok(());
        };
        // Tapes and block devices pad with zeroes, and xz has a rule for them. Frames of Zstandard stand back to back.
        if *first == 0 && matches!(self.kind, Kind::Gzip | Kind::Xz) {
            let count = rest.iter().take_while(|byte| **byte == 0).count();
            self.take(count);
            self.place = Place::Between(zeroes + count as u64);
            return Ok(());
        }
        let (magic, sound) = match self.kind {
            Kind::Gzip => (0x1f, zeroes == 0),
            Kind::Bzip2 => (b'B', true),
            Kind::Xz => (0xfd, zeroes.is_multiple_of(4)),
            Kind::Zstd => (*first, true),
        };
        if *first != magic || !sound {
            return Err(broken("something else follows the end of the compressed data"));
        }
        if self.kind != Kind::Zstd {
            self.codec = Codec::new(self.kind)?;
        }
        self.place = Place::Member;
        Ok(())
    }

    /// Unpacks until there is something, or the file is at its sound end.
    fn unpack(&mut self, output: &mut [u8]) -> Result<usize> {
        loop {
            self.fill().map_err(|error| Error::io("compressed input", error))?;
            match self.place {
                Place::End => return Ok(0),
                Place::Between(zeroes) => {
                    self.between(zeroes)?;
                    continue;
                }
                Place::Member => {}
            }
            let step = self.codec.step(&self.buffer[self.start..self.end], output, self.input_ended)?;
            self.take(step.used);
            self.held += step.made as u64;
            if step.ended {
                self.place = Place::Between(0);
            } else if step.used == 0 && step.made == 0 {
                let what = if self.input_ended { "it breaks off" } else { "the data leads nowhere" };
                return Err(broken(what));
            }
            if step.made > 0 {
                self.limits.check(self.held, self.stored)?;
                return Ok(step.made);
            }
        }
    }
}

impl Read for Members {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        self.unpack(output).map_err(|error| {
            let (name, at) = (self.kind.format().name, self.stored);
            // Where in the file, and in what.
            io::Error::other(error.context(format!("{name} data at byte {at}")))
        })
    }
}
