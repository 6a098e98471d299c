//! Where new blobs go: compressed, encrypted, put into packs, and told to the index.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use transload_block::{Error, Result};
use zstd::bulk::Compressor;

use crate::format::document;
use crate::format::id::Id;
use crate::format::pack::{self, BlobKind, PackedBlob};
use crate::index;
use crate::repository::Repository;
use crate::store::Kind;

/// A pack is written when it has so many bytes: the size of restic's.
const PACK_BYTES: usize = 16 << 20;
/// The most blobs of a pack: a header of 8 MiB, half of what is read.
const PACK_BLOBS: usize = 200_000;
/// After how long new packs are told to the index, so that little is lost to a crash.
const INDEX_EVERY: Duration = Duration::from_secs(20);
/// Samples by which bytes are told that no compression makes shorter.
const SAMPLE: usize = 32 << 10;
/// Levels from which it pays to look at a sample first.
const SAMPLED_FROM: i32 = 5;

/// How a blob is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is.
    Plain,
    /// By zstd at this level, unless that makes nothing shorter.
    Zstd(i32),
}

/// Adds blobs to a repository. Any number of threads do so at once.
#[derive(Debug)]
pub(crate) struct Packer<'a> {
    repository: &'a Repository,
    data: Mutex<OpenPack>,
    trees: Mutex<OpenPack>,
    /// Blobs that are on their way into a pack that is not written yet.
    pending: Mutex<HashSet<(BlobKind, Id)>>,
    fresh: Mutex<Fresh>,
    stored: AtomicU64,
    blobs: AtomicU64,
}

#[derive(Debug, Default)]
struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// Packs that no index file names yet.
#[derive(Debug)]
struct Fresh {
    packs: Vec<(Id, Vec<PackedBlob>)>,
    since: Instant,
}

/// What a thread compresses with.
pub(crate) struct Press {
    compressor: Compressor<'static>,
}

impl Press {
    pub(crate) fn new() -> Result<Self> {
        Compressor::new(1).map(|compressor| Self { compressor }).map_err(|error| Error::io("zstd", error))
    }

    /// Compresses `bytes`; `None` where that makes nothing shorter.
    fn press(&mut self, bytes: &[u8], level: i32) -> Result<Option<Vec<u8>>> {
        let failed = |error| Error::io("zstd", error);
        if level >= SAMPLED_FROM && bytes.len() >= 2 * SAMPLE {
            let start = (bytes.len() - SAMPLE) / 2;
            let sample = &bytes[start..start + SAMPLE];
            self.compressor.set_compression_level(1).map_err(failed)?;
            let packed = self.compressor.compress(sample).map_err(failed)?;
            // One part in fifty and more is gained, or it is stored as it is; where the sample was no picture of the rest,
            // a fast level finds out.
            if packed.len() + SAMPLE / 50 > SAMPLE {
                let packed = self.compressor.compress(bytes).map_err(failed)?;
                return Ok(Some(packed).filter(|packed| packed.len() + bytes.len() / 50 < bytes.len()));
            }
        }
        self.compressor.set_compression_level(level).map_err(failed)?;
        let packed = self.compressor.compress(bytes).map_err(failed)?;
        Ok(Some(packed).filter(|packed| packed.len() < bytes.len()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Packer<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            data: Mutex::default(),
            trees: Mutex::default(),
            pending: Mutex::default(),
            fresh: Mutex::new(Fresh { packs: Vec::new(), since: Instant::now() }),
            stored: AtomicU64::new(0),
            blobs: AtomicU64::new(0),
        }
    }

    /// Bytes that were added to packs, and how many blobs.
    pub(crate) fn added(&self) -> (u64, u64) {
        (self.stored.load(Ordering::Relaxed), self.blobs.load(Ordering::Relaxed))
    }

    /// Whether a blob is there, or on its way.
    pub(crate) fn has(&self, kind: BlobKind, id: &Id) -> bool {
        self.repository.index().contains(kind, id) || lock(&self.pending).contains(&(kind, *id))
    }

    /// Takes packs over that are there and that no index file names.
    pub(crate) fn adopt(&self, packs: Vec<(Id, Vec<PackedBlob>)>) {
        lock(&self.fresh).packs.extend(packs);
    }

    /// Stores a blob, unless it is there already. Answers whether it is new.
    pub(crate) fn store(
        &self,
        kind: BlobKind,
        id: Id,
        bytes: &[u8],
        packing: Packing,
        press: &mut Press,
    ) -> Result<bool> {
        if self.repository.index().contains(kind, &id) || !lock(&self.pending).insert((kind, id)) {
            return Ok(false);
        }
        let packing = if self.repository.config.version < 2 { Packing::Plain } else { packing };
        let packed = match packing {
            Packing::Plain => None,
            Packing::Zstd(level) => press.press(bytes, level)?,
        };
        let unpacked = packed.is_some().then(|| u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let sealed = self.repository.key.seal(packed.as_deref().unwrap_or(bytes))?;
        self.put(kind, id, &sealed, unpacked)?;
        Ok(true)
    }

    /// Puts a blob into the open pack that is sealed already.
    pub(crate) fn put(&self, kind: BlobKind, id: Id, sealed: &[u8], unpacked: Option<u32>) -> Result<()> {
        self.stored.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        self.blobs.fetch_add(1, Ordering::Relaxed);
        let open = if kind == BlobKind::Data { &self.data } else { &self.trees };
        let full = {
            let mut open = lock(open);
            let place = u32::try_from(open.bytes.len()).ok().zip(u32::try_from(sealed.len()).ok());
            let (offset, stored) = place.ok_or_else(|| {
                Error::new(transload_block::ErrorKind::TooLarge, format!("a blob of {} bytes", sealed.len()))
            })?;
            open.bytes.extend_from_slice(sealed);
            open.blobs.push(PackedBlob { id, kind, offset, stored, unpacked });
            (open.bytes.len() >= PACK_BYTES || open.blobs.len() >= PACK_BLOBS).then(|| std::mem::take(&mut *open))
        };
        full.map_or(Ok(()), |pack| self.write(pack))
    }

    fn write(&self, mut pack: OpenPack) -> Result<()> {
        pack.bytes.extend(pack::header(&pack.blobs, &self.repository.key)?);
        let id = self.repository.store.save(Kind::Pack, &pack.bytes)?;
        self.repository.index_mut().add(id, &pack.blobs)?;
        {
            let mut pending = lock(&self.pending);
            pack.blobs.iter().for_each(|blob| {
                pending.remove(&(blob.kind, blob.id));
            });
        }
        let due = {
            let mut fresh = lock(&self.fresh);
            fresh.packs.push((id, pack.blobs));
            if fresh.since.elapsed() < INDEX_EVERY {
                return Ok(());
            }
            fresh.since = Instant::now();
            std::mem::take(&mut fresh.packs)
        };
        self.write_index(&due)
    }

    fn write_index(&self, packs: &[(Id, Vec<PackedBlob>)]) -> Result<()> {
        for document in index::documents(packs.iter().map(|(id, blobs)| (id, blobs.as_slice()))) {
            let bytes = document::seal(&document, self.repository.config.version, &self.repository.key)?;
            self.repository.store.save(Kind::Index, &bytes)?;
        }
        Ok(())
    }

    /// Writes the packs that are open and tells the index of all that are new. Afterwards everything that was stored
    /// survives.
    pub(crate) fn flush(&self) -> Result<()> {
        for open in [&self.data, &self.trees] {
            let pack = std::mem::take(&mut *lock(open));
            if !pack.blobs.is_empty() {
                self.write(pack)?;
            }
        }
        let packs = std::mem::take(&mut lock(&self.fresh).packs);
        self.write_index(&packs)
    }
}
