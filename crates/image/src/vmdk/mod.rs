//! VMDK.

mod cache;
pub(crate) mod cowd;
pub(crate) mod descriptor;
mod directory;
pub(crate) mod error;
pub(crate) mod extent_line;
mod extents;
#[doc(hidden)]
pub mod fuzz;
pub(crate) mod header;
mod hosted;
pub(crate) mod layout;
mod map;
mod open;
mod probe;
mod read;
mod sesparse;
mod sparse;
mod stream;
pub(crate) mod text;

use crate::Format;

/// The row of VMDK in the table of formats.
pub const FORMAT: Format = Format {
    name: "vmdk",
    aliases: &[],
    title: "VMDK",
    extensions: &["vmdk"],
    variants: &[],
    open_options: &[],
    create_options: &[],
    probe: probe::probe,
    describe: Some(open::describe),
    open: Some(open::open),
    stream: Some(stream::stream),
    create: None,
    sink: None,
    measure: None,
    check: None,
    resize: None,
};
