//! Whole-unit deflate (RFC 1951, RFC 1950) by igzip, the compressor of Intel's ISA-L.
//!
//! It is twice as fast as any other that was measured, at a few hundredths more size (docs/adr/0016-codecs-by-measurement.md).
//! Nothing here inflates: libdeflate is faster at that.
//!
//! ```text
//! Compressor::new(level, wrapper) ─► compress(unit, stored) ─► compress(…) ─► …
//! ```
//!
//! This is the one crate of the workspace with `unsafe` code, and all of it is in `native.rs`: ISA-L is C and assembly, its
//! whole interface is one structure with raw pointers in it, and the crate that binds it (`isal-sys`) adds nothing to
//! that. The safe wrapper that exists (`isal-rs`) allocates a quarter of a megabyte for each unit and offers
//! no level 2.
//!
//! Without the feature `native` the crate is empty. A `Compressor` may move between threads, and is used by one at a time.

#[cfg(feature = "native")]
mod native;

#[cfg(feature = "native")]
pub use native::{Compressor, LEVELS, Wrapper};
