//! The HTTP service: disks and machines are converted, kept, looked at and handed out over HTTP.
//!
//! ```text
//! Config ──► Service::bind ──► address() ──► run(shutdown)          one process, one listener
//!
//! listen.rs   sockets, TLS, limits of connections ──► guard.rs   who asks, from where, with which headers
//!                                                         │
//! routes/     upload, import, export ◄───────────────────┤   one pass: body.rs ──► intake.rs ──► engine ──► outflow.rs
//!             jobs, uploads, files, images ◄─────────────┤   over the crate `transload-jobs`
//!             openapi, metrics, health, page ◄───────────┘
//! ```
//!
//! Everything at the edge is async; every conversion runs on threads, as everywhere else in the workspace, and is fed and
//! emptied through channels of a few pieces, so that a slow client holds back the engine and not the memory. What may run at
//! once is decided by [`Budget`](budget::Budget) before the first byte of a body is read.
//!
//! What it does not do: it keeps no state of its own beside the tokens and the uploads. Jobs, their queue and their workers are
//! the crate `transload-jobs`; addresses on the network are opened by the policy of `transload::remote`.

mod api;
mod audit;
mod body;
mod budget;
mod config;
mod guard;
mod intake;
mod listen;
mod logging;
mod metrics;
mod openapi;
mod outflow;
mod page;
mod problem;
mod process;
mod record;
mod reference;
mod routes;
mod socket;
mod state;
mod stream;
mod tls;
pub mod token;

pub use config::{Config, Limits, References, TlsFiles};
pub use listen::Service;
pub use logging::{LogFormat, start_logging};
pub use openapi::document;
pub use process::{Ready, serve};
