//! The NBD protocol (Network Block Device): a server that offers any virtual disk, and a client that is one.
//!
//! Specification: the NBD project's `doc/proto.md`, fixed newstyle negotiation.
//!
//! ```text
//! Server::new(exports) ──► serve(listener, stop) ──► a session per client: handshake ──► requests, answered in any order
//! NbdDisk::connect(address) ──► read_at, write_at, block_status …      a BlockWrite like any other
//! ```
//!
//! | | server | client |
//! |---|---|---|
//! | negotiation | fixed newstyle: `GO INFO LIST EXPORT_NAME STARTTLS ABORT` | `GO`, falling back to `EXPORT_NAME` |
//! | TLS | allowed or demanded, with certificates of clients | demanded by the address: `nbds://` |
//! | replies | simple, structured, extended headers | the same |
//! | block status | `base:allocation` | the same, remembered a little ahead |
//! | writing | write, zeroes, trim, flush, FUA | the same; zeroes are written where the server has no command for it |
//! | several connections | yes, one flush covers all | as many as help, where the server allows it |
//!
//! Threads, not async: a session has a few of them, which take turns at reading requests and answer side by side. What a
//! client sends is hostile input: lengths are bounded before anything is allocated, a negotiation has a deadline, and a
//! session's memory does not depend on what is asked for.
//!
//! What it does not do: authenticate clients but by certificates. Without them, whoever reaches a server has its disks.

mod address;
mod client;
mod protocol;
mod server;
mod tls;
mod transport;

pub use address::{DEFAULT_PORT, NbdAddress, Place, TlsAddress};
pub use client::{ConnectSettings, NbdDisk};
pub use server::{Event, Export, Listener, Server, ServerLimits, Stop};
pub use tls::{ClientTls, ServerTls, TlsMode};

#[doc(hidden)]
pub mod properties;
