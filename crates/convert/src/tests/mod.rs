//! The engine on made-up formats, which show their layout, fail and stall on command.

mod conversions;
mod fakes;
mod faults;
mod formats;
mod maps;
