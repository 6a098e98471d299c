//! A raw disk inside a compressed file, for what walks over a disk: digests, comparisons, maps.
//!
//! There is no way into the middle of a deflate stream. Reading goes on where it is; to go back is to begin again. The last
//! megabytes are kept, so that threads that read side by side do not make it go back, and zeroes are known from the survey.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, Capabilities, Error, ErrorKind, Extent, Result, check_extent, check_range,
};

use super::limits::Limits;
use super::survey::{Bytes, STEP, Survey, read_full};
use super::{Kind, ahead};
use crate::kept::lock;

/// Steps that are kept.
const KEPT: usize = 24;
/// How often all of it may be unpacked before it is called a mistake.
const ROUNDS: u64 = 64;

/// The disk.
pub(super) struct Forward {
    kind: Kind,
    file: Arc<dyn BlockRead>,
    limits: Limits,
    survey: Survey,
    state: Mutex<State>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("kind", &self.kind).field("size", &self.survey.size).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    input: Option<Box<dyn Read + Send>>,
    /// The step that comes next.
    next: u64,
    /// The last steps, the newest at the back.
    kept: VecDeque<(u64, Arc<Vec<u8>>)>,
    /// Steps unpacked so far, over all rounds.
    unpacked: u64,
}

impl Forward {
    pub(super) fn new(kind: Kind, file: Arc<dyn BlockRead>, limits: Limits, survey: Survey) -> Self {
        Self { kind, file, limits, survey, state: Mutex::default() }
    }

    /// The bytes of step `index`.
    fn step(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        let mut state = lock(&self.state);
        if let Some((_, bytes)) = state.kept.iter().find(|(kept, _)| *kept == index) {
            return Ok(Arc::clone(bytes));
        }
        if state.next > index || state.input.is_none() {
            let most = ROUNDS * (self.survey.size.div_ceil(STEP) + 64);
            if state.unpacked > most {
                let what = "the compressed disk is read at random places, which unpacks it again each time";
                let error = Error::new(ErrorKind::Unsupported, what);
                return Err(error.with_remedy("unpack it into a temporary file first with --spool"));
            }
            let input = Box::new(Bytes::new(Arc::clone(&self.file)));
            *state = State { unpacked: state.unpacked, ..State::default() };
            state.input = Some(ahead::unpack(self.kind, input, &self.limits)?);
        }
        loop {
            let found = self.advance(&mut state);
            let (at, bytes) = found.inspect_err(|_| state.input = None)?;
            if at == index {
                return Ok(bytes);
            }
        }
    }

    /// Unpacks the next step and keeps it.
    fn advance(&self, state: &mut State) -> Result<(u64, Arc<Vec<u8>>)> {
        let index = state.next;
        let length = usize::try_from((self.survey.size - index * STEP).min(STEP)).unwrap_or(0);
        // A buffer that nobody reads any more is used again.
        let spare = if state.kept.len() >= KEPT { state.kept.pop_front() } else { None };
        let mut bytes = spare.and_then(|(_, bytes)| Arc::into_inner(bytes)).unwrap_or_default();
        bytes.resize(length, 0);
        let count = match &mut state.input {
            Some(input) => read_full(input, &mut bytes).map_err(|error| Error::io("unpacking", error))?,
            None => 0,
        };
        if count < length {
            let what = format!("the compressed file changed while it was read: it held {} bytes", self.survey.size);
            return Err(Error::new(ErrorKind::Io, what));
        }
        (state.next, state.unpacked) = (index + 1, state.unpacked + 1);
        let bytes = Arc::new(bytes);
        state.kept.push_back((index, Arc::clone(&bytes)));
        Ok((index, bytes))
    }
}

impl BlockRead for Forward {
    fn size(&self) -> u64 {
        self.survey.size
    }

    fn limits(&self) -> BlockLimits {
        let step = u32::try_from(STEP).unwrap_or(1 << 20);
        BlockLimits { alignment: 1, preferred: step, granularity: step }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.size())?;
        let (mut at, mut buf) = (offset, buf);
        while at < end {
            let (index, within) = (at / STEP, at % STEP);
            let length = (STEP - within).min(end - at);
            let (piece, rest) = buf.split_at_mut(usize::try_from(length).unwrap_or(buf.len()));
            if self.survey.has_data(index) {
                let bytes = self.step(index)?;
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                piece.copy_from_slice(bytes.get(from..from.saturating_add(piece.len())).unwrap_or_default());
            } else {
                piece.fill(0);
            }
            at += length;
            buf = rest;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        /// Steps that are looked at for one answer.
        const MOST: u64 = 4096;
        check_extent(&range, self.size())?;
        let first = range.start / STEP;
        let data = self.survey.has_data(first);
        let last =
            first + (first..first + MOST).take_while(|index| self.survey.has_data(*index) == data).count() as u64;
        let end = (last * STEP).min(range.end);
        let status = if data { BlockStatus::Data } else { BlockStatus::Zero };
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}
