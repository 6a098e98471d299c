//! DMG (UDIF): images that are built here by the format's rules and read by programs of others as well, one by Apple's own
//! program, and ones that lie.

mod builder;
mod hostile;
mod read;
