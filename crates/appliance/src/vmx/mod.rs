//! VMX: the file of settings that VMware's products keep of a machine.
mod read;
mod write;

pub use read::{MAX_LENGTH, read};
pub use write::{WriteSettings, write};
