//! The program as its users see it: what it prints, what it answers, what it leaves behind.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail a test by panicking, as the tests themselves do"
)]

mod archive;
mod commands;
mod compressed;
mod conversions;
mod deploy;
mod documents;
mod failures;
mod faults;
mod files;
mod interrupts;
mod machines;
mod mount;
mod nbd;
mod packages;
mod remote;
mod run;
mod volumes;
