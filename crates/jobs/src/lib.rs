//! Jobs on disk images: what is asked for, the queue it waits in, and the workers that do it.
//!
//! ```text
//! JobRequest ──► Store::submit ──► queue (SQLite, or PostgreSQL for several processes)
//!                                     │ claim: lease, fencing token, attempt
//!                                     ▼
//!                                  Workers ──► the engine on blocking threads ──► staged files ──► intent ──► rename
//!                                     │ heartbeat: progress out, cancellation in
//!                                     ▼
//!                                  events of the job, numbered, for whoever follows it
//! ```
//!
//! Nothing here knows HTTP. Every path of a request goes through a [`root::Root`], which no name and no symbolic link leads
//! out of. What a job writes is staged under a hidden name and renamed once it is whole; a worker that has lost its lease
//! cannot publish any more, as the one that took over has moved the staged files out of its reach.

pub mod meter;
pub mod model;
pub mod publish;
pub mod root;
pub mod store;
mod tasks;
pub mod worker;
