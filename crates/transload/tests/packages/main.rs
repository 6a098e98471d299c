//! Machines into packages and out of them, with the witnesses: GNU tar, bsdtar, sha256sum, openssl, qemu-img, COT, libvirt's
//! schema.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail a test by panicking, as the tests themselves do"
)]

mod export;
mod import;
mod machine;
mod repack;
mod validate;
