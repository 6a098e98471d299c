//! Tables, volumes and superblocks against the programs that make them.

mod corpus;
mod hostile;
mod lvm;
mod making;
mod reading;
mod signatures;
mod support;
