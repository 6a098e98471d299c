//! Digests of a file's own bytes, taken while they are written.
//!
//! ```text
//! DigestWriter::new(inner, digest) ──► (DigestWriter, PendingDigest)
//! write ─► inner ─► a buffer ─► a thread ─► digest               dropped or closed ─► PendingDigest::finish ─► (length, digest)
//! ```
//!
//! The writer goes to whoever writes, as the pipe of a conversion, and is gone when that is done; what it saw is asked of the
//! other half. So the writer of a package learns length and digest of a disk's file that is made once, into its place.
//!
//! Hashing has a thread of its own: SHA-256 takes as long for what a conversion writes as its one appending thread takes for
//! all else, and that thread is what the others wait for (docs/adr/0019-digests-have-a-thread.md). A copy into a buffer that is
//! handed over costs a tenth of it.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use transload_block::{Error, ErrorKind, Result};

use crate::DigestKind;
use crate::hash::Digests;

/// Bytes that are handed over at once.
const BUFFER: usize = 256 << 10;
/// Buffers that go round.
const BUFFERS: usize = 4;

/// What is computed of bytes that go by: a hash function of the caller's, or [`FileDigests`].
pub trait ByteDigest: Send + 'static {
    /// Takes the next bytes in.
    fn update(&mut self, bytes: &[u8]);
}

/// SHA-256 and BLAKE3, those that were asked for, of a file's bytes.
#[derive(Clone, Debug)]
pub struct FileDigests {
    kinds: Vec<DigestKind>,
    digests: Digests,
}

impl FileDigests {
    /// Digests of the given kinds.
    #[must_use]
    pub fn new(kinds: &[DigestKind]) -> Self {
        Self { kinds: kinds.to_vec(), digests: Digests::new(kinds) }
    }

    /// The digests of what was seen so far, in lower-case hexadecimal and in the order in which they were asked for.
    #[must_use]
    pub fn finish(&self) -> Vec<(DigestKind, String)> {
        self.kinds.iter().filter_map(|kind| Some((*kind, self.digests.finish(*kind)?.hex))).collect()
    }
}

impl ByteDigest for FileDigests {
    fn update(&mut self, bytes: &[u8]) {
        self.digests.update(bytes);
    }
}

/// Passes bytes on, and has those that were taken hashed on a thread of its own.
pub struct DigestWriter<W> {
    inner: W,
    /// Bytes that were taken and not handed over yet.
    buffer: Vec<u8>,
    full: mpsc::SyncSender<Vec<u8>>,
    empty: mpsc::Receiver<Vec<u8>>,
    length: Arc<AtomicU64>,
}

impl<W> fmt::Debug for DigestWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestWriter").field("length", &self.length).finish_non_exhaustive()
    }
}

/// The other half of a [`DigestWriter`].
#[derive(Debug)]
pub struct PendingDigest<D> {
    thread: JoinHandle<D>,
    length: Arc<AtomicU64>,
}

impl<W: Write> DigestWriter<W> {
    /// A writer before `inner`, and the half that will know what went through.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn new<D: ByteDigest>(inner: W, mut digest: D) -> Result<(Self, PendingDigest<D>)> {
        let (full, to_hash) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
        let (hashed, empty) = mpsc::sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            // There is room for all of them.
            drop(hashed.try_send(Vec::with_capacity(BUFFER)));
        }
        let body = move || {
            for mut buffer in to_hash {
                digest.update(&buffer);
                buffer.clear();
                // The writer may be gone already.
                drop(hashed.try_send(buffer));
            }
            digest
        };
        let thread = thread::Builder::new().name("digest".to_owned()).spawn(body);
        let thread = thread.map_err(|error| Error::io("thread for a digest", error))?;
        let length = Arc::new(AtomicU64::new(0));
        let buffer = Vec::with_capacity(BUFFER);
        Ok((Self { inner, buffer, full, empty, length: Arc::clone(&length) }, PendingDigest { thread, length }))
    }
}

impl<W> DigestWriter<W> {
    /// Takes in what was written.
    fn see(&mut self, mut bytes: &[u8]) {
        self.length.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                self.hand_over();
            }
        }
    }

    /// Gives the buffer to the thread and waits for an empty one. A thread that has died is reported by
    /// [`PendingDigest::finish`]; the bytes are none the worse for it.
    fn hand_over(&mut self) {
        let full = std::mem::take(&mut self.buffer);
        self.buffer = match self.full.send(full) {
            Ok(()) => self.empty.recv().unwrap_or_default(),
            Err(mpsc::SendError(mut full)) => {
                full.clear();
                full
            }
        };
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.see(&bytes[..count.min(bytes.len())]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> Drop for DigestWriter<W> {
    fn drop(&mut self) {
        let last = std::mem::take(&mut self.buffer);
        // Nobody listens only when the thread has died, which the other half reports.
        drop(self.full.send(last));
    }
}

impl<D> PendingDigest<D> {
    /// Waits until the writer is dropped and everything that went through is hashed; answers how many bytes that was, and the
    /// digest. Called while somebody still holds the writer, it waits for them.
    ///
    /// # Errors
    /// `Io` when the digest panicked.
    pub fn finish(self) -> Result<(u64, D)> {
        let died = |_| Error::new(ErrorKind::Io, "the thread of a digest has died");
        let digest = self.thread.join().map_err(died)?;
        Ok((self.length.load(Ordering::Relaxed), digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes only some of what it is given, and fails after a while.
    struct Grudging {
        taken: Vec<u8>,
        most: usize,
    }

    impl Write for Grudging {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.taken.len() >= self.most {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(1000).min(self.most - self.taken.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    fn expected(bytes: &[u8]) -> Vec<(DigestKind, String)> {
        let mut digests = FileDigests::new(&[DigestKind::Sha256, DigestKind::Blake3]);
        digests.update(bytes);
        digests.finish()
    }

    #[test]
    fn everything_that_went_through_is_hashed_and_counted() {
        for length in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 10 * BUFFER + 77] {
            let all = bytes(length);
            let (mut writer, pending) =
                DigestWriter::new(io::sink(), FileDigests::new(&[DigestKind::Sha256, DigestKind::Blake3])).unwrap();
            for piece in all.chunks(100_001) {
                writer.write_all(piece).unwrap();
            }
            writer.flush().unwrap();
            drop(writer);
            let (counted, digests) = pending.finish().unwrap();
            assert_eq!((counted, digests.finish()), (length as u64, expected(&all)));
        }
        // Of no bytes, as sha256sum and b3sum have it.
        let words: Vec<_> = expected(&[]).into_iter().map(|(_, hex)| hex).collect();
        assert!(words[0].starts_with("e3b0c44298fc1c14") && words[1].starts_with("af1349b9f5f9a1a6"), "{words:?}");
    }

    #[test]
    fn only_what_was_taken_is_hashed() {
        let all = bytes(600_000);
        let inner = Grudging { taken: Vec::new(), most: 500_500 };
        let (mut writer, pending) = DigestWriter::new(inner, FileDigests::new(&[DigestKind::Sha256])).unwrap();
        assert_eq!(writer.write_all(&all).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(writer);
        let (counted, digests) = pending.finish().unwrap();
        assert_eq!(counted, 500_500);
        assert_eq!(digests.finish()[..], expected(&all[..500_500])[..1]);
    }

    #[test]
    fn a_digest_that_dies_is_an_error_and_no_hang() {
        #[derive(Debug)]
        struct Dying;
        impl ByteDigest for Dying {
            fn update(&mut self, bytes: &[u8]) {
                assert!(bytes.is_empty(), "dies");
            }
        }
        let (mut writer, pending) = DigestWriter::new(io::sink(), Dying).unwrap();
        writer.write_all(&bytes(20 * BUFFER)).unwrap();
        drop(writer);
        assert_eq!(pending.finish().unwrap_err().kind(), ErrorKind::Io);
    }
}
