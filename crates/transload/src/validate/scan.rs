//! Reads every byte of an archive once: digests, and the disks as their strictest readers see them, on all cores.
//!
//! ```text
//! this thread: read ─► hash ─► markers, tables ─┬─► batches of grains ─► workers: inflate, compare lengths
//!                                               └─◄ buffers ◄──────────────────┘
//! ```

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use transload_appliance::ova::{ManifestAlgorithm, ManifestHasher, Member};
use transload_block::{BlockRead, Codec, Error, ErrorKind, Result, Slice};
use transload_convert::{Cancel, Progress, ProgressDelta};
use transload_image::codec::Decoder;
use transload_image::vmdk::strict::{StreamFacts, StrictGrain, StrictScan};
use transload_image::{Source, detect};

/// How to scan.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    pub(crate) archive: Arc<dyn BlockRead>,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) progress: Option<&'a dyn Progress>,
}

/// What was seen of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) digest: Vec<u8>,
    pub(crate) format: Option<&'static str>,
    /// What is known of a streamOptimized VMDK.
    pub(crate) stream: Option<StreamFacts>,
    /// The last grain inflates to less than a whole one.
    pub(crate) short_last_grain: bool,
    /// Why the disk cannot be read.
    pub(crate) broken: Vec<String>,
}

/// Grains that go to a worker together.
type Batch = Vec<(StrictGrain, Vec<u8>)>;

impl Scanner<'_> {
    /// Reads `member`, hashing it with `algorithm`; `as_disk` also looks into it.
    pub(crate) fn scan(&self, member: &Member, algorithm: ManifestAlgorithm, as_disk: bool) -> Result<Seen> {
        let slice: Arc<dyn BlockRead> =
            Arc::new(Slice::new(Arc::clone(&self.archive), member.offset..member.offset + member.size)?);
        let source = Source::new(slice).with_path(member.plain_name());
        let mut seen = Seen::default();
        if as_disk {
            seen.format = detect(source.bytes())?.unambiguous().ok().map(|format| format.name);
        }
        let mut reading = Reading::new(self, &source, algorithm);
        if seen.format == Some("vmdk") {
            match self.scan_stream(&source, &mut reading, &mut seen) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge) => {
                    seen.broken.push(error.to_string());
                }
                // Another kind of VMDK, or one of which nothing can be said.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        io::copy(&mut reading, &mut io::sink()).map_err(from_io)?;
        seen.digest = reading.hasher.finish();
        Ok(seen)
    }

    /// Goes through a streamOptimized VMDK. The grains are inflated by the workers.
    fn scan_stream(&self, source: &Source, reading: &mut Reading<'_>, seen: &mut Seen) -> Result<()> {
        /// A batch is some hundred kilobytes of stored grains.
        const BATCH: usize = 16;
        let mut scan = StrictScan::begin(source, reading)?;
        let threads = self.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let (to_inflate, batches) = bounded::<Batch>(2 * threads);
        let (give_back, spare) = bounded::<Batch>(4 * threads);
        let verdict = Mutex::new(Verdict::default());
        let walked = thread::scope(|scope| {
            for _ in 0..threads {
                let (batches, give_back, verdict) = (batches.clone(), give_back.clone(), &verdict);
                scope.spawn(move || inflate(&batches, &give_back, verdict));
            }
            drop(batches);
            drop(give_back);
            let mut batch: Batch = Vec::new();
            let mut buffers: Vec<Vec<u8>> = Vec::new();
            loop {
                let mut buffer = buffers.pop().unwrap_or_default();
                let Some(grain) = scan.next_grain(&mut buffer).map_err(unwrap_io)? else { break };
                batch.push((grain, buffer));
                if batch.len() == BATCH {
                    self.cancel.check()?;
                    send(&to_inflate, &mut batch)?;
                    buffers.extend(spare.try_iter().flatten().map(|(_, buffer)| buffer));
                }
            }
            send(&to_inflate, &mut batch)?;
            drop(to_inflate);
            Ok(())
        });
        let verdict = verdict.into_inner().unwrap_or_else(PoisonError::into_inner);
        seen.stream = Some(scan.facts().clone());
        seen.short_last_grain = verdict.short_last_grain;
        seen.broken.extend(verdict.broken());
        walked
    }
}

fn send(to_inflate: &Sender<Batch>, batch: &mut Batch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let lost = || Error::new(ErrorKind::Io, "internal fault in a worker thread");
    to_inflate.send(std::mem::take(batch)).map_err(|_| lost())
}

/// What the workers found.
#[derive(Debug, Default)]
struct Verdict {
    short_last_grain: bool,
    /// The lowest broken grains, and how many there are.
    broken: Vec<(u64, String)>,
    count: u64,
}

impl Verdict {
    /// Grains that are told one by one.
    const SHOWN: usize = 5;

    fn add(&mut self, offset: u64, text: String) {
        self.count += 1;
        self.broken.push((offset, text));
        self.broken.sort();
        self.broken.truncate(Self::SHOWN);
    }

    fn broken(self) -> Vec<String> {
        let shown = self.broken.len() as u64;
        let mut texts: Vec<_> = self.broken.into_iter().map(|(_, text)| text).collect();
        if self.count > shown {
            texts.push(format!("and {} more grains", self.count - shown));
        }
        texts
    }
}

fn inflate(batches: &Receiver<Batch>, give_back: &Sender<Batch>, verdict: &Mutex<Verdict>) {
    let mut unit = Vec::new();
    let mut decoder = Decoder::new();
    for batch in batches {
        for (grain, stored) in &batch {
            unit.resize(usize::try_from(grain.whole).unwrap_or(0), 0);
            let decoded = match &mut decoder {
                Ok(decoder) => decoder.decode(Codec::Zlib, stored, &mut unit).map(|length| length as u64),
                Err(error) => Err(Error::new(ErrorKind::Io, error.to_string())),
            };
            let mut verdict = verdict.lock().unwrap_or_else(PoisonError::into_inner);
            match decoded {
                Ok(length) if length == grain.whole => {}
                Ok(length) if grain.valid < grain.whole && length >= grain.valid => verdict.short_last_grain = true,
                Ok(length) => verdict.add(
                    grain.offset,
                    format!("the grain at guest byte {} inflates to {length} bytes, not {}", grain.offset, grain.whole),
                ),
                Err(error) => {
                    verdict.add(
                        grain.offset,
                        format!("the grain at guest byte {} cannot be inflated: {error}", grain.offset),
                    );
                }
            }
        }
        // The walker may have gone, or have enough of them.
        drop(give_back.try_send(batch));
    }
}

/// A member's bytes in order, hashed as they are taken from the device.
struct Reading<'a> {
    device: Arc<dyn BlockRead>,
    hasher: ManifestHasher,
    buffer: Vec<u8>,
    /// What of the buffer was handed out.
    taken: usize,
    at: u64,
    cancel: &'a Cancel,
    progress: Option<&'a dyn Progress>,
}

impl<'a> Reading<'a> {
    fn new(scanner: &Scanner<'a>, source: &Source, algorithm: ManifestAlgorithm) -> Self {
        Self {
            device: Arc::clone(source.bytes()),
            hasher: algorithm.hasher(),
            buffer: Vec::new(),
            taken: 0,
            at: 0,
            cancel: scanner.cancel,
            progress: scanner.progress,
        }
    }

    fn fill(&mut self) -> Result<()> {
        const STEP: u64 = 1 << 20;
        self.cancel.check()?;
        let length = STEP.min(self.device.size() - self.at);
        self.buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        self.taken = 0;
        self.device.read_at(&mut self.buffer, self.at)?;
        self.at += length;
        self.hasher.update(&self.buffer);
        if let Some(progress) = self.progress {
            progress.advance(ProgressDelta { copied: length, ..ProgressDelta::default() });
        }
        Ok(())
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            self.fill().map_err(io::Error::other)?;
        }
        let count = buf.len().min(self.buffer.len() - self.taken);
        buf[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

/// The error of this crate that the standard library's traits carried.
fn from_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("archive: read", error),
    }
}

/// The same where it was wrapped once more on the way.
fn unwrap_io(error: Error) -> Error {
    let carried = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .and_then(|source| source.get_ref())
        .and_then(|inner| inner.downcast_ref::<Error>());
    match carried {
        Some(inner) => Error::new(inner.kind(), inner.to_string()),
        None => error,
    }
}
