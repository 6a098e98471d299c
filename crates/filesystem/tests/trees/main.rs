//! Trees that the kernel or a filesystem's own tools wrote, read here and compared byte for byte with what was put in.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod compare;
mod ext;
mod fat;
mod hostile;
mod mount;
mod ntfs;
mod others;
mod tree;
mod written;
