//! VHD, the disks of Virtual PC, Hyper-V before 2012, Azure and XenServer: fixed, dynamic and differencing.
//!
//! Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0. What is read, written and refused is in
//! `docs/formats/vhd.md`.
//!
//! ```text
//! fixed                 the guest's bytes │ footer
//! dynamic, differencing footer (copy) │ header │ table │ names of the parent │ block: bitmap, data │ … │ footer
//!
//! probe ──► open::Image ──► fixed::FixedDisk
//!                       └─► map::Tables ──► sparse::SparseDisk            reading and writing
//! create ──► the same devices           sink ──► fixed, from front to back
//! ```
//!
//! A driver knows its own layer: where a differencing disk has nothing the device has a hole, and the parent is another
//! layer. Reading and writing are one device, since both ask the same tables.

mod cache;
mod check;
mod create;
mod error;
mod fixed;
#[doc(hidden)]
pub mod fuzz;
mod geometry;
mod layout;
mod map;
mod measure;
mod open;
mod options;
mod parent;
mod probe;
mod resize;
mod sink;
mod sparse;

use crate::{Format, Variant};

/// The row of VHD in the table of formats.
pub const FORMAT: Format = Format {
    name: "vhd",
    aliases: &["vpc"],
    title: "VHD",
    extensions: &["vhd", "avhd"],
    variants: VARIANTS,
    open_options: &[],
    create_options: options::CREATE_OPTIONS,
    probe: probe::probe,
    describe: Some(open::describe),
    open: Some(open::open),
    stream: None,
    create: Some(create::create),
    sink: Some(sink::sink),
    measure: Some(measure::measure),
    check: Some(check::check),
    resize: Some(resize::resize),
};

/// The kinds of VHD, the default of a new one first.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "dynamic",
        summary: "grows with its content, for Hyper-V, Virtual PC, VirtualBox and XenServer",
        read: true,
        write: true,
        stream_read: false,
        stream_write: false,
    },
    Variant {
        name: "fixed",
        summary: "the guest's bytes and a footer: what Azure takes",
        read: true,
        write: true,
        stream_read: false,
        stream_write: true,
    },
    Variant {
        name: "differencing",
        summary: "what has changed since its parent; made with backing_file",
        read: true,
        write: true,
        stream_read: false,
        stream_write: false,
    },
];
