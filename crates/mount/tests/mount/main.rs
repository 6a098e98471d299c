//! What the kernel sees through a mount, compared with what stands on the disk.

mod support;

mod faults;
mod trees;
mod writes;
