//! The conversion engine.
mod feed;
mod files;
mod hash;
mod job;
mod ordered;
mod random;
mod request;
mod zero;
pub use request::{
    Cancel, Compression, CompressionKind, DigestKind, GuestDigest, Input, Output, Preallocation, Progress,
    ProgressDelta, Report, Settings,
};
pub use files::{AtomicFiles, InPlace, remove_partial_outputs};
