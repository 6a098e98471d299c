//! The server and the client against each other, against other makers' programs, and against those who mean no good.

mod hostile;
mod own;
mod peers;
mod support;
mod tls;
