//! The conversion engine: moves guest bytes from one image to another, on all cores, in bounded memory, with the same
//! output for the same input whatever the timing.
//!
//! ```text
//! Input + Output + Settings ──► Plan::new (printable) ──► Plan::run ──► Report
//! ```

mod request;

pub use request::{
    Cancel, Compression, CompressionKind, DigestKind, GuestDigest, Input, Output, Preallocation, Progress,
    ProgressDelta, Report, Settings,
};
