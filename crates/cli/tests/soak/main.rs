//! What takes too long for every run: each suite goes on with new seeds until its time is up (`cargo xtask soak`).
//!
//! | variable | means | without it |
//! |---|---|---|
//! | `TRANSLOAD_SOAK_UNTIL` | seconds since 1970 after which nothing new is begun | one round of each suite |
//! | `TRANSLOAD_SOAK_SEED` | the first seed | 1 |
//!
//! A failure names its seed, with which it comes again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod clock;
mod conversions;
mod crashes;
mod damage;
mod kinds;
