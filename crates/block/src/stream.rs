//! Disks that can be read or written only once, from front to back.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{Codec, Result};

/// A source that is read once, in ascending order of guest offsets: standard input, an HTTP body, a streamOptimized VMDK
/// on a pipe.
pub trait BlockStream: Send + Debug {
    /// The virtual size in bytes, where it is known before the end.
    fn size(&self) -> Option<u64>;

    /// What units the stream comes in, in bytes: a power of two. Every unit starts at a multiple of it, and none is
    /// longer.
    fn unit_size(&self) -> u64;

    /// Returns the next unit, or `None` at the sound end of the stream. Units ascend and do not overlap; what lies
    /// between them, and behind the last one, is a hole.
    ///
    /// `buffer` is a spare one to fill: its contents are replaced, and it comes back inside the unit.
    ///
    /// # Errors
    /// `Corrupt` when the stream breaks off or breaks a rule of the format; what the source answers. After an error the
    /// stream is at an end.
    fn next_unit(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>>;
}

/// One piece of a [`BlockStream`].
#[derive(Debug)]
pub struct StreamUnit {
    /// The first guest byte.
    pub offset: u64,
    /// Guest bytes, at least one, not reaching behind the virtual size where that is known.
    pub length: u64,
    /// What stands there.
    pub payload: Payload,
}

/// What a [`StreamUnit`] holds.
#[derive(Debug)]
pub enum Payload {
    /// Zeroes.
    Zero,
    /// The guest bytes themselves, `length` of them.
    Plain(Vec<u8>),
    /// The unit as stored. It decodes to a whole unit, of which the first `length` bytes count.
    Encoded {
        /// How it is encoded.
        codec: Codec,
        /// The stored bytes.
        bytes: Vec<u8>,
    },
}

/// How a unit goes into the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the guest's bytes.
    Plain,
    /// As the encoder's bytes.
    Encoded,
}

/// The parallel half of an ordered writer: turns guest bytes into stored bytes, with no state between units.
pub trait BlockEncoder: Send + Sync + Debug {
    /// Guest bytes in a unit, a power of two: cluster size, grain size, or the transfer size of a plain target.
    fn unit_size(&self) -> u64;

    /// Encodes one unit.
    ///
    /// `unit` has exactly [`unit_size`](Self::unit_size) bytes; the last one of a disk is padded with zeroes. `stored`
    /// is replaced when the answer is [`Form::Encoded`] and untouched when it is [`Form::Plain`].
    ///
    /// # Errors
    /// What the codec answers.
    fn encode(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<Form>;

    /// Takes over a unit that is already encoded, without compressing it again: `encoded` in `codec`, which decodes to
    /// `unit` and ends where its stream does. Returns whether `stored` now holds it in this target's own wrapper; `false`
    /// sends the caller to [`encode`](Self::encode).
    ///
    /// `unit` is `None` when the caller trusts the source and has not decoded it: then `encoded` holds a whole unit, and may
    /// have padding behind it. A target that needs the guest's bytes, for their checksum, answers `false`.
    ///
    /// # Errors
    /// What the codec answers.
    fn adopt(&self, codec: Codec, encoded: &[u8], unit: Option<&[u8]>, stored: &mut Vec<u8>) -> Result<bool>;
}

/// The serial half of an ordered writer: puts encoded units behind each other. Dropped without
/// [`finish`](Self::finish), it leaves an output that is not valid.
pub trait BlockSink: Send + Debug {
    /// The parallel half, to be shared by the workers.
    fn encoder(&self) -> Arc<dyn BlockEncoder>;

    /// Appends the unit that starts at guest `offset`, a multiple of the unit size. Offsets ascend; what is left out
    /// reads as zeroes. `bytes` is the unit itself for [`Form::Plain`], what the encoder stored for [`Form::Encoded`].
    ///
    /// # Errors
    /// `NoSpace`, or what the output answers; `InvalidInput` when the offset does not ascend.
    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()>;

    /// Writes what is left (tables, footers) and makes the output whole and durable.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn finish(self: Box<Self>) -> Result<()>;
}
