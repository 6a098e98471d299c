//! Unpacks on a thread of its own, a few megabytes ahead of whoever reads.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use transload_block::{Error, ErrorKind, Result};

use super::Kind;
use super::limits::Limits;
use super::members::Members;

/// Bytes that are handed over at once, and how many of them may wait.
const PIECE: usize = 1 << 20;
const WAITING: usize = 4;

/// What was unpacked, or why not.
type Piece = io::Result<Vec<u8>>;

/// The bytes inside `input`.
pub(super) fn unpack(kind: Kind, input: Box<dyn Read + Send>, limits: &Limits) -> Result<Box<dyn Read + Send>> {
    let members = Members::new(kind, input, *limits)?;
    let (send, pieces) = sync_channel(WAITING);
    let (give_back, spare) = channel();
    let spawned = thread::Builder::new().name("unpack".to_owned()).spawn(move || run(members, &send, &spare));
    // The thread ends by itself when nobody listens any more.
    spawned.map_err(|error| Error::io("a thread to unpack on", error))?;
    Ok(Box::new(Ahead { pieces: Some(pieces), give_back, piece: Vec::new(), at: 0 }))
}

fn run(mut members: Members, send: &SyncSender<Piece>, spare: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = spare.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let filled = catch_unwind(AssertUnwindSafe(|| fill(&mut members, &mut piece)));
        let filled = filled.unwrap_or_else(|_| {
            Err(io::Error::other(Error::new(ErrorKind::Io, "internal fault while unpacking compressed data")))
        });
        let (answer, last) = match filled {
            Ok(count) => {
                piece.truncate(count);
                (Ok(piece), count < PIECE)
            }
            Err(error) => (Err(error), true),
        };
        if send.send(answer).is_err() || last {
            return;
        }
    }
}

/// Fills `piece`, or its front when there is no more.
fn fill(members: &mut Members, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match members.read(&mut piece[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The reader's end.
struct Ahead {
    /// Gone once it has ended or failed.
    pieces: Option<Receiver<Piece>>,
    give_back: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(pieces) = self.pieces.take() else { return Ok(0) };
            // The thread is gone when it has sent its last piece.
            let Ok(next) = pieces.recv() else { return Ok(0) };
            // Nobody takes it back when there is nothing left to fill.
            drop(self.give_back.send(std::mem::replace(&mut self.piece, next?)));
            self.at = 0;
            self.pieces = (!self.piece.is_empty()).then_some(pieces);
        }
        let count = buf.len().min(self.piece.len() - self.at);
        buf[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
