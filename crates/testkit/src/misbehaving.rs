//! Storage that fails, runs full, is slow or stands still when a test says so, and counts what it is asked.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Error, ErrorKind, Extent, Result, Storage, ZeroMode,
};

/// What a [`Misbehaving`] storage was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `read_at`
    Read,
    /// `block_status`
    Status,
    /// `write_at`
    Write,
    /// `write_zeroes_at`
    Zero,
    /// `flush`
    Flush,
    /// `set_size`
    SetSize,
    /// `allocate`
    Allocate,
}

impl Operation {
    /// Whether it changes the storage, or makes a change last.
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Read | Self::Status)
    }
}

/// Which operations count for [`Misbehaving::fail_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Every operation.
    All,
    /// Those that read.
    Reads,
    /// Those that write, resize and flush.
    Writes,
    /// One sort alone.
    Only(Operation),
}

impl Counted {
    fn includes(self, operation: Operation) -> bool {
        match self {
            Self::All => true,
            Self::Reads => operation == Operation::Read,
            Self::Writes => operation.is_write(),
            Self::Only(only) => only == operation,
        }
    }
}

/// What was asked of a [`Misbehaving`] storage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of every sort.
    pub operations: u64,
    /// Those that write, resize and flush.
    pub writes: u64,
    /// Flushes among them.
    pub flushes: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were written, not counting zeroed ranges.
    pub bytes_written: u64,
}

/// A storage that hands everything on to another one until it is told to misbehave.
#[derive(Debug)]
pub struct Misbehaving {
    inner: Arc<dyn Storage>,
    plan: Mutex<Plan>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    counts: Counts,
    fault: Option<Fault>,
    room: Option<u64>,
    delay: Option<Duration>,
    held: Option<Counted>,
    waiting: usize,
}

#[derive(Debug)]
struct Fault {
    counted: Counted,
    /// How many such operations still succeed.
    left: u64,
    kind: ErrorKind,
    for_ever: bool,
}

impl Misbehaving {
    /// Behaves, for now.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, plan: Mutex::default(), released: Condvar::new() }
    }

    /// The storage beneath, which always behaves.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.inner
    }

    /// Has operation number `number` from now on, counted from 0 among those `counted`, fail with `kind`; those behind it
    /// succeed.
    pub fn fail_at(&self, counted: Counted, number: u64, kind: ErrorKind) {
        self.plan().fault = Some(Fault { counted, left: number, kind, for_ever: false });
    }

    /// As [`fail_at`](Self::fail_at), and so do all behind it.
    pub fn fail_from(&self, counted: Counted, number: u64, kind: ErrorKind) {
        self.plan().fault = Some(Fault { counted, left: number, kind, for_ever: true });
    }

    /// Runs full after `bytes` more were written: the write that exceeds them writes what fits and fails with `NoSpace`,
    /// as do all behind it.
    pub fn run_full_after(&self, bytes: u64) {
        self.plan().room = Some(bytes);
    }

    /// Makes every operation take at least `delay`.
    pub fn delay(&self, delay: Duration) {
        self.plan().delay = Some(delay);
    }

    /// Has operations that are `counted` stand still until [`behave`](Self::behave).
    pub fn hold(&self, counted: Counted) {
        self.plan().held = Some(counted);
    }

    /// How many operations stand still.
    #[must_use]
    pub fn held(&self) -> usize {
        self.plan().waiting
    }

    /// Ends all misbehaviour and lets those that stand still go on.
    pub fn behave(&self) {
        let mut plan = self.plan();
        *plan = Plan { counts: plan.counts, waiting: plan.waiting, ..Plan::default() };
        self.released.notify_all();
    }

    /// What was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.plan().counts
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and does what the plan has for it.
    fn enter(&self, operation: Operation) -> Result<()> {
        let mut plan = self.plan();
        plan.counts.operations += 1;
        plan.counts.writes += u64::from(operation.is_write());
        plan.counts.flushes += u64::from(operation == Operation::Flush);
        while plan.held.is_some_and(|held| held.includes(operation)) {
            plan.waiting += 1;
            plan = self.released.wait(plan).unwrap_or_else(PoisonError::into_inner);
            plan.waiting -= 1;
        }
        let answer = plan.fail(operation);
        let delay = plan.delay;
        drop(plan);
        if let Some(delay) = delay {
            std::thread::sleep(delay);
        }
        answer
    }

    /// How much of a write of `length` bytes there is room for.
    fn take_room(&self, length: usize) -> usize {
        let mut plan = self.plan();
        let fits = plan.room.map_or(length, |room| usize::try_from(room).map_or(length, |room| room.min(length)));
        plan.room = plan.room.map(|room| room - fits as u64);
        plan.counts.bytes_written += fits as u64;
        fits
    }
}

impl Plan {
    fn fail(&mut self, operation: Operation) -> Result<()> {
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.counted.includes(operation)) else { return Ok(()) };
        if fault.left > 0 {
            fault.left -= 1;
            return Ok(());
        }
        let kind = fault.kind;
        if !fault.for_ever {
            self.fault = None;
        }
        Err(Error::new(kind, format!("storage told to fail: {operation:?}")))
    }
}

impl BlockRead for Misbehaving {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn limits(&self) -> BlockLimits {
        self.inner.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.enter(Operation::Read)?;
        self.plan().counts.bytes_read += buf.len() as u64;
        self.inner.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.enter(Operation::Status)?;
        self.inner.block_status(range)
    }

    /// None: a way around this storage would not misbehave.
    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Misbehaving {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.enter(Operation::Write)?;
        let fits = self.take_room(buf.len());
        self.inner.write_at(&buf[..fits], offset)?;
        if fits < buf.len() {
            return Err(Error::new(ErrorKind::NoSpace, format!("storage told to be full at offset {offset} + {fits}")));
        }
        Ok(())
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.enter(Operation::Zero)?;
        self.inner.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.enter(Operation::Flush)?;
        self.inner.flush()
    }
}

impl Storage for Misbehaving {
    fn set_size(&self, size: u64) -> Result<()> {
        self.enter(Operation::SetSize)?;
        self.inner.set_size(size)
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        self.enter(Operation::Allocate)?;
        let full = self.plan().room.is_some_and(|room| room < range.end.saturating_sub(range.start));
        if full {
            return Err(Error::new(ErrorKind::NoSpace, "storage told to be full: allocation"));
        }
        self.inner.allocate(range)
    }
}
