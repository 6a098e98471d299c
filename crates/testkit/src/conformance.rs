//! The block contract as a suite that any device can be put through.
//!
//! ```
//! use transload_block::{Memory, Storage};
//! use transload_testkit::conformance;
//!
//! // What the device should hold, here the same bytes in memory.
//! let disk = Memory::from(vec![7; 300_000]);
//! let expected = disk.clone();
//! conformance::read(&disk, &expected).assert();
//! conformance::storage(&disk, 1).assert(); // overwrites it
//! ```
//!
//! Every sentence of `transload_block`'s traits that can be seen from outside is a [`Sentence`] here, and a failure
//! names the one that is broken. The suite asks at unaligned places, at and behind the end, with sums that overflow, from
//! several threads at once. It is itself proved by drivers with one mistake each, which it has to catch.

use std::fmt;

mod capability;
mod read;
mod storage;
mod write;

pub use read::{layer, read, status_costs};
pub use storage::storage;
pub use write::{read_only, write};

/// A sentence of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sentence {
    /// The size is constant while the device is shared.
    SizeIsConstant,
    /// Limits are powers of two, the preferred size is a multiple of the alignment, and they are constant.
    LimitsAreSane,
    /// Status changes at multiples of the granularity.
    StatusChangesAtGranularity,
    /// A read fills all of the buffer with the bytes at the offset.
    ReadFillsTheBuffer,
    /// An empty buffer or range succeeds at any offset up to and including the size.
    EmptySucceeds,
    /// A read of any byte behind the size is `OutOfRange`.
    ReadOutOfRange,
    /// Zero is a promise, and so is a hole where nothing lies below: they read as zeroes.
    ZeroReadsZero,
    /// An extent begins at the start of the range, has a byte, and ends inside it.
    ExtentIsInside,
    /// The status is true for every byte of the extent, wherever the question begins.
    StatusIsTrue,
    /// A question for no byte, or for a byte behind the size, is `OutOfRange`.
    StatusOutOfRange,
    /// Status costs no payload I/O.
    StatusIsCheap,
    /// Any number of threads read at once.
    ReadsRunAtOnce,
    /// An encoded unit holds the byte that was asked for, is no longer than a unit, ends inside the device, and decodes
    /// to the guest's bytes.
    EncodedIsTheUnit,
    /// A host extent has the guest's bytes, has a byte, and ends inside the range.
    HostExtentIsTrue,
    /// A write is seen by the reads that start after it.
    WriteIsSeen,
    /// What was not written does not change.
    RestIsUnchanged,
    /// A write or zeroing of any byte behind the size is `OutOfRange` and writes nothing.
    WriteOutOfRange,
    /// A zeroed range reads as zeroes.
    ZeroedReadsZero,
    /// A written or zeroed range is no hole.
    WrittenIsNoHole,
    /// An extent never goes back to being a hole.
    NeverBackToHole,
    /// Writes that do not overlap do not disturb each other, even inside one unit.
    WritesDoNotDisturb,
    /// Writes that overlap leave one or the other in each byte.
    OverlapLeavesOne,
    /// A flush succeeds and changes no byte.
    FlushKeeps,
    /// A device opened for reading answers writes with `ReadOnly`.
    ReadOnlyRefuses,
    /// Reserved ranges take their bytes, and nothing else changes.
    ReserveKeepsTheRest,
    /// Writing never extends a storage.
    WriteDoesNotExtend,
    /// A moved end is where it was put, and what is in front of it stays.
    SizeMoves,
    /// New bytes read as zeroes, also where something was cut off before.
    NewBytesAreZero,
    /// Setting room aside changes neither contents nor size, and is refused outside the size.
    AllocateKeepsContents,
}

/// A sentence that a device broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub sentence: Sentence,
    /// By what.
    pub detail: String,
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
#[must_use = "a verdict has to be looked at"]
pub struct Verdict {
    /// What was broken; the first few of each sentence.
    pub failures: Vec<Failure>,
}

impl Verdict {
    /// How often the same sentence is worth telling.
    const TELL: usize = 3;

    /// Fails the test when a sentence is broken.
    ///
    /// # Panics
    /// When one is.
    pub fn assert(&self) {
        assert!(self.failures.is_empty(), "the block contract is broken:\n{self}");
    }

    /// Whether this sentence was found broken.
    #[must_use]
    pub fn broke(&self, sentence: Sentence) -> bool {
        self.failures.iter().any(|failure| failure.sentence == sentence)
    }

    fn is_sound(&self) -> bool {
        self.failures.is_empty()
    }

    fn check(&mut self, sentence: Sentence, holds: bool, detail: impl FnOnce() -> String) -> bool {
        let told = self.failures.iter().filter(|failure| failure.sentence == sentence).count();
        if !holds && told < Self::TELL {
            self.failures.push(Failure { sentence, detail: detail() });
        }
        holds
    }

    fn merge(&mut self, other: Self) {
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{:?}: {}", failure.sentence, failure.detail)?;
        }
        Ok(())
    }
}

/// A buffer whose bytes are unlikely to be what a read should put there, so that one left untouched is seen.
fn soiled(length: u64, offset: u64) -> Vec<u8> {
    let mut bytes =
        crate::random::Random::new(offset ^ 0x5011_ED00).bytes(usize::try_from(length).expect("a test's buffer"));
    bytes.iter_mut().for_each(|byte| *byte |= 1);
    bytes
}

/// Where two buffers differ, for messages.
fn difference(found: &[u8], expected: &[u8], offset: u64) -> String {
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        Some(at) => format!("byte {} is {:#04x}, not {:#04x}", offset + at as u64, found[at], expected[at]),
        None => format!("{} bytes, not {}", found.len(), expected.len()),
    }
}
