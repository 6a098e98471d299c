//! The conversion engine: moves guest bytes from one image to another, on all cores, in bounded memory, with the same
//! output for the same input whatever the timing.
//!
//! ```text
//! Input + Output + Settings ──► Plan::new (printable) ──► Plan::run ──► Report
//!
//!            ┌ Feed ────────────┐   ┌ workers ──────────────┐   ┌ target ──────────────────────────┐
//! device ──► │ data, zeroes     │──►│ read, decode          │──►│ random: reserve in order, write  │──► verify ──► commit
//! stream ──► │ tickets in order │   │ test for zero, encode │   │ ordered: append in order         │
//!            └──────────────────┘   └───────────────────────┘   └──────────────┬───────────────────┘
//!                                                                              └► digests, in order
//! ```
//!
//! Beside converting, it [`compare()`]s, [`digest()`]s, [`map()`]s and [`measure()`]s. It knows no format: what a target can do
//! it learns from its row in `transload_image::FORMATS`. Threads are scoped to one call; nothing outlives it.

mod compare;
mod digest;
mod digest_writer;
mod feed;
mod files;
mod growing;
mod hash;
mod ids;
mod job;
mod map;
mod measure;
mod ordered;
mod plan;
mod preflight;
mod random;
mod request;
mod resume;
mod run;
mod shape;
mod sizing;
mod spool;
#[cfg(test)]
mod tests;
mod zero;

pub use compare::{Comparison, Difference, ScanSettings, compare};
pub use digest::digest;
pub use digest_writer::{ByteDigest, DigestWriter, FileDigests, PendingDigest};
pub use files::{AtomicFiles, AtomicFolder, InPlace, remove_partial_outputs};
pub use map::{MapEntry, map};
pub use measure::measure;
pub use plan::{Destination, FastPath, Plan, Verification};
pub use preflight::image_files;
pub use request::{
    Cancel, Compression, CompressionKind, DigestKind, GuestDigest, Input, Output, Preallocation, Progress,
    ProgressDelta, Report, Settings,
};
pub use resume::convert_resumable;
pub use run::convert;
pub use shape::Shape;
pub use spool::spool_to_temp;
