//! VMDKs read at any place and from front to back: those of other makers, those built here byte by byte, and hostile ones.

#![expect(clippy::cast_possible_truncation, reason = "what is built here is small")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod builder;
mod built;
mod contract;
mod hostile;
mod makers;
mod support;

use std::fs::File;
use std::path::Path;

use transload_block::{Error, ErrorKind, Memory, Payload, Result};
use transload_image::{Access, Format, OpenSettings, Opened, OptionValues, Source, StreamRequest, codec, open};

fn vmdk() -> &'static Format {
    Format::by_name("vmdk").unwrap()
}

fn open_file(path: &Path) -> Result<Opened> {
    open(Source::from_path(path, Access::ReadOnly)?, &OpenSettings::default())
}

/// Reads a file from front to back into memory; `None` for a disk that is too large for that.
fn stream_file(path: &Path) -> Result<Option<Memory>> {
    let request = StreamRequest { input: Box::new(File::open(path).unwrap()), options: &OptionValues::default() };
    let mut stream = (vmdk().stream.unwrap())(request)?;
    let size = stream.size().unwrap();
    let mut content = (size <= 64 << 20).then(|| vec![0; size as usize]);
    let mut grain = vec![0; stream.unit_size() as usize];
    let mut buffer = Vec::new();
    while let Some(unit) = stream.next_unit(buffer)? {
        let plain = match &unit.payload {
            Payload::Zero => &[][..],
            Payload::Plain(bytes) => bytes,
            Payload::Encoded { codec, bytes } => {
                // Whoever takes a unit as it is stored decodes it, and sees that it holds a whole one.
                if codec::decode(*codec, bytes, &mut grain)? != grain.len() {
                    return Err(Error::new(ErrorKind::Corrupt, "a unit that is not whole"));
                }
                &grain
            }
        };
        if let Some(content) = &mut content {
            let start = unit.offset as usize;
            content[start..start + unit.length as usize].copy_from_slice(&plain[..unit.length as usize]);
        }
        buffer = match unit.payload {
            Payload::Encoded { bytes, .. } | Payload::Plain(bytes) => bytes,
            Payload::Zero => Vec::new(),
        };
    }
    Ok(content.map(Memory::from))
}
