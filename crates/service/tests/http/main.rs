//! The service over real sockets, with curl and others as its clients.

mod document;
mod jobs;
mod limits;
mod looking;
mod safety;
mod server;
mod streaming;
