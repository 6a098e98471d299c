//! Raw: the guest's bytes and nothing else.
//!
//! There is no header to recognise, so that any bytes are raw that no other format claims, and none to check: a raw disk
//! cannot be damaged in a way that could be seen, and has no `check`. Its virtual size is the length of its file to the
//! byte, whether or not that is a whole number of sectors.
//!
//! ```text
//! open    the storage itself, for writing behind a bound      stream   a pipe, in units of 1 MiB, until it ends
//! create  random writing, sparse unless told otherwise        sink     front to back, into a file or a pipe
//! resize  the file's end                                      measure  the file's length
//! ```
//!
//! A block device is a target like a file with three differences: its size stays what it is and has to suffice, what
//! lies behind the disk's end is left alone, and what was there before shows wherever nothing is written. The sink zeroes
//! what is left out; who writes at random does it for himself.

mod create;
mod disk;
mod open;
mod resize;
mod sink;
mod stream;
#[cfg(test)]
mod tests;

use crate::{Format, Match, Measure, MeasureRequest, ProbeWindow, Variant, preallocation};
use transload_block::Result;

/// The row of raw in the table of formats.
pub const FORMAT: Format = Format {
    name: "raw",
    aliases: &[],
    title: "Raw",
    extensions: &["raw", "img", "dd", "bin"],
    variants: &[Variant {
        name: "raw",
        summary: "the guest's bytes",
        read: true,
        write: true,
        stream_read: true,
        stream_write: true,
    }],
    open_options: &[],
    create_options: &[preallocation::OPTION],
    probe,
    describe: Some(open::describe),
    open: Some(open::open),
    stream: Some(stream::stream),
    create: Some(create::create),
    sink: Some(sink::sink),
    measure: Some(measure),
    check: None,
    resize: Some(resize::resize),
};

/// What is read, written and handed on at a time: long enough that calls cost nothing, short enough that several of them
/// stay in a processor's cache.
const UNIT: usize = 1 << 20;

fn probe(_window: &ProbeWindow<'_>) -> Match {
    Match::Fallback
}

/// A raw file is as long as its disk, though one with holes may occupy less.
fn measure(request: MeasureRequest<'_>) -> Result<Measure> {
    Ok(Measure { required: request.size, fully_allocated: request.size })
}
