//! Remote sources and targets against servers of this process and of other makers.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail a test by panicking, as the tests themselves do"
)]

mod http;
mod object;
mod policy;

use std::time::Duration;

use transload_remote::{Limits, Options};

/// Options that lose no time when something fails.
fn quick() -> Options {
    let limits = Limits {
        backoff: Duration::from_millis(1),
        idle: Duration::from_millis(800),
        connect: Duration::from_secs(2),
        attempts: 3,
        cache_bytes: 8 << 20,
        ..Limits::default()
    };
    Options { limits, ..Options::default() }
}

/// Bytes that differ from place to place.
fn sample(length: usize) -> Vec<u8> {
    let mut bytes = transload_testkit::Random::new(7).bytes(length);
    bytes[..4].copy_from_slice(b"disk");
    bytes
}
