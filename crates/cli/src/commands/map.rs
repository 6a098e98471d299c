//! `transload map`: which parts of a disk hold data, and where they stand.

use std::path::PathBuf;

use clap::Args;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{MapEntry, map};

use crate::args::ReadArgs;
use crate::failure::Verdict;
use crate::text::Text;
use crate::{input, interrupt};

/// Show which parts of a disk hold data, in which layer, and where in which file
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload map disk.qcow2\n  transload map --json disk.vmdk | jq '.[] | select(.data)'"
)]
pub(crate) struct Arguments {
    /// The image
    #[arg(value_name = "IMG")]
    image: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Print JSON: a list with the fields of `qemu-img map`
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let opened = input::open(&arguments.image, &arguments.read)?;
    let cancel = interrupt::install()?;
    let mut list = List { text: Text::new(), json: arguments.json, empty: true };
    let done = map(&opened, &cancel, |entry| {
        if list.text.is_closed() {
            // Nobody reads on; this ends the walk and is no failure.
            return Err(Error::new(ErrorKind::Cancelled, "standard output was closed"));
        }
        list.entry(&entry)
    });
    match done {
        Err(_) if list.text.is_closed() => Ok(Verdict::Done),
        Err(error) => Err(error),
        Ok(()) => list.end().map(|()| Verdict::Done),
    }
}

/// The list as it is printed: entry by entry, since there may be millions.
struct List {
    text: Text,
    json: bool,
    empty: bool,
}

impl List {
    fn entry(&mut self, entry: &MapEntry) -> Result<()> {
        let first = std::mem::take(&mut self.empty);
        if self.json {
            self.text.bytes(if first { b"[\n  " } else { b",\n  " })?;
            let rendered = serde_json::to_string(entry).map_err(|error| Error::io("JSON", error.into()))?;
            return self.text.bytes(rendered.as_bytes());
        }
        if first {
            self.text.line("offset             length             layer  what        where")?;
        }
        let place = match (entry.offset, &entry.filename) {
            (Some(offset), Some(file)) => format!("{offset:#x} in {file}"),
            _ => "-".to_owned(),
        };
        let (start, length, depth) = (entry.start, entry.length, entry.depth);
        self.text.line(format_args!("{start:<#18x} {length:<#18x} {depth:<6} {:<11} {place}", what(entry)))
    }

    fn end(mut self) -> Result<()> {
        match (self.json, self.empty) {
            (true, true) => self.text.line("[]")?,
            (true, false) => self.text.line("\n]")?,
            _ => {}
        }
        self.text.finish()
    }
}

/// The status in a word.
fn what(entry: &MapEntry) -> &'static str {
    match (entry.present, entry.data, entry.compressed) {
        (false, _, _) => "hole",
        (true, false, _) => "zero",
        (true, true, true) => "compressed",
        (true, true, false) => "data",
    }
}
