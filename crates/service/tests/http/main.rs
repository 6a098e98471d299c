//! The service over real sockets, with curl and others as its clients.

mod document;
mod jobs;
mod limits;
mod looking;
mod page;
mod python;
mod python_client;
mod safety;
mod server;
mod session;
mod streaming;
