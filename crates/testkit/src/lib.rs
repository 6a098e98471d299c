//! What tests need: the block contract as a suite, storage that misbehaves on command, sample disks, and witnesses by other
//! makers. Nothing here is part of the product.
//!
//! | module | for |
//! |---|---|
//! | [`conformance`] | putting a device through every sentence of the block contract |
//! | [`misbehaving`] | storage that fails at the Nth operation, runs full, is slow, stands still |
//! | [`short_io`] | short reads and writes beneath the loops that a file's driver runs |
//! | [`crash`] | the file as a crash would leave it |
//! | [`history`] | random work, and what a crash may leave of it |
//! | [`http_server`] | an HTTP server that misbehaves on command |
//! | [`object_server`] | object stores of other makers on the loopback interface |
//! | [`overlay`] | a writable layer with holes, for chains |
//! | [`packed`] | a layer of compressed units |
//! | [`target`] | the files of a new image, in memory |
//! | [`disks`] | sample disks, digests, comparison |
//! | [`hostile`] | images that lie |
//! | [`witness`] | `qemu-img` and others as judges |
//! | [`corpus`] | real images that stand beside the project |
//! | [`random`] | random numbers that are the same in every run |

pub mod conformance;
pub mod corpus;
pub mod crash;
pub mod disks;
pub mod history;
pub mod hostile;
pub mod http_server;
pub mod misbehaving;
pub mod object_server;
pub mod overlay;
pub mod packed;
pub mod random;
pub mod short_io;
pub mod target;
pub mod witness;

pub use corpus::Corpus;
pub use crash::CrashStorage;
pub use history::History;
pub use http_server::{Fault, HttpServer};
pub use misbehaving::{Counted, Misbehaving, Operation};
pub use object_server::ObjectServer;
pub use overlay::Overlay;
pub use packed::Packed;
pub use random::Random;
pub use short_io::ShortIo;
pub use target::MemoryTarget;
