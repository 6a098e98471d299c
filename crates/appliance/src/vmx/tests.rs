//! Files of many products are read, every rule of the format holds, and what is written is read again.

mod corpus;
mod format;
mod writing;
