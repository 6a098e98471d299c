//! The block contract: a virtual disk as an array of bytes with positioned reads and writes, and the devices that need
//! nothing but that contract.
//!
//! Life of a device, in the order of its calls:
//!
//! ```text
//! open ──► size(), limits() ──► block_status(range) ──► read_at(buf, offset)      any number of threads at once
//!                                     │                 write_at / write_zeroes_at
//!                                     └ Hole: look below (Chain does) or read zeroes; Zero: zeroes; Data: read
//!          flush() ──► drop
//! ```
//!
//! [`BlockRead`] and [`BlockWrite`] describe a disk as a guest sees it. [`Storage`] is what a format is stored in: a
//! disk whose end can be moved. [`BlockStream`], [`BlockSink`] and [`BlockEncoder`] are for what can be read or written
//! only from front to back.
//!
//! Everything is synchronous, object-safe and takes `&self`: threads do the parallel work, no device has a cursor. The
//! crate knows no image format; those are in `transload-image`.

mod capability;
mod chain;
mod concat;
mod contract;
mod error;
mod ext;
mod file;
mod memory;
mod positioned;
mod property;
mod range_lock;
mod slice;
mod storage;
mod stream;
mod zeros;

pub use capability::{Capabilities, Codec, EncodedRead, EncodedUnit, HostExtent, HostExtents, HostLocation, Reserve};
pub use chain::Chain;
pub use concat::Concat;
pub use contract::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Extent, ZeroMode, check_extent, check_range, check_span,
};
pub use error::{Error, ErrorKind, Result};
pub use ext::{BlockReadExt, Extents, is_all_zero};
pub use file::FileBlock;
pub use memory::Memory;
pub use positioned::{PositionedIo, read_full_at, write_full_at};
#[doc(hidden)]
pub use property::Property;
pub use range_lock::{RangeGuard, RangeLock};
pub use slice::Slice;
pub use storage::Storage;
pub use stream::{BlockEncoder, BlockSink, BlockStream, Form, Payload, StreamUnit};
pub use zeros::Zeros;
