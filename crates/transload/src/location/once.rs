//! Bytes that come once as the source of a conversion: detected by their head, held to a checksum at their end.

use std::io::{Cursor, Read};

use transload_block::{BlockRead, BlockStream, Error, ErrorKind, Memory, Result, StreamUnit};
use transload_convert::Cancel;
use transload_image::{Format, OptionValues, ProbeWindow, StreamRequest, detect_window};
use transload_remote::{Checksum, Checksummed};

use super::require_disk;

/// What is known of bytes that come once.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnceSettings<'a> {
    /// Their format; found out from the first bytes when `None`.
    pub format: Option<&'static Format>,
    /// Options for reading the format, each `K=V,…`.
    pub options: &'a [String],
    /// Their number, where it is known: a raw disk is as long.
    pub size: Option<u64>,
    /// What their digest must be.
    pub checksum: Option<&'a Checksum>,
    /// Whether they come from a server, which sends anything: bytes of no known format must begin as a disk does.
    pub foreign: bool,
}

/// What to do about bytes that cannot be read so.
const REMEDY: &str = "store it in a temporary file first with --spool";

/// Begins to read the disk in `input`, which messages call `name`. When a checksum was given, the stream's end is an error
/// unless all bytes, those behind the disk's end included, have it.
///
/// # Errors
/// `Unsupported` when the format is not one that can be read from front to back; `InvalidInput` when it is ambiguous or none;
/// what reading answers.
pub fn stream(
    input: Box<dyn Read + Send>,
    name: &str,
    settings: &OnceSettings<'_>,
) -> Result<(&'static Format, Box<dyn BlockStream>)> {
    let (checksummed, input): (_, Box<dyn Read + Send>) = match settings.checksum {
        Some(checksum) => {
            let handle = Checksummed::new(input, name, checksum);
            (Some(handle.clone()), Box::new(handle))
        }
        None => (None, input),
    };
    let (format, input) = match settings.format {
        Some(format) => (format, input),
        None => detect(input, name, settings.foreign)?,
    };
    let begin = format.stream.ok_or_else(|| {
        let text = format!("{name}: {} cannot be read from front to back", format.title);
        Error::new(ErrorKind::Unsupported, text).with_remedy(REMEDY)
    })?;
    let options = OptionValues::parse(format.open_options, settings.options.iter().map(String::as_str))?;
    let stream = begin(StreamRequest { input, options: &options }).map_err(|error| {
        let error = error.context(name);
        // The format can be streamed, this variant of it cannot.
        if error.kind() == ErrorKind::Unsupported { error.with_remedy(REMEDY) } else { error }
    })?;
    let size = settings.size.filter(|_| format.name == "raw").or(stream.size());
    Ok((format, Box::new(Once { stream, size, checksum: checksummed })))
}

/// Reads the head that formats are told by, and says which format it is; the answer reads from the first byte on.
fn detect(
    mut input: Box<dyn Read + Send>,
    name: &str,
    foreign: bool,
) -> Result<(&'static Format, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    let window = ProbeWindow::HEAD as u64;
    let read = input.by_ref().take(window).read_to_end(&mut head);
    read.map_err(|error| Error::io(name, error))?;
    let detection = detect_window(&ProbeWindow { head: &head, tail: &[], size: None });
    let format = detection.unambiguous().map_err(|error| error.context(name))?;
    if foreign && format.name == "raw" {
        require_disk(&Memory::from(head.clone()), name)?;
    }
    Ok((format, Box::new(Cursor::new(head).chain(input))))
}

/// A stream whose size is known from elsewhere, and whose end is held to a checksum.
#[derive(Debug)]
struct Once {
    stream: Box<dyn BlockStream>,
    size: Option<u64>,
    checksum: Option<Checksummed>,
}

impl BlockStream for Once {
    fn size(&self) -> Option<u64> {
        self.size
    }

    fn unit_size(&self) -> u64 {
        self.stream.unit_size()
    }

    fn next_unit(&mut self, buffer: Vec<u8>) -> Result<Option<StreamUnit>> {
        let unit = self.stream.next_unit(buffer)?;
        if unit.is_none()
            && let Some(checksum) = self.checksum.take()
        {
            checksum.verify()?;
        }
        Ok(unit)
    }
}

/// Reads all of `bytes`, which messages call `name`, and makes sure that they have `checksum`.
///
/// # Errors
/// `Checksum` when they do not; `Cancelled`; what reading answers.
pub fn verify(bytes: &dyn BlockRead, name: &str, checksum: &Checksum, cancel: &Cancel) -> Result<()> {
    const STEP: u64 = 1 << 20;
    let mut digest = checksum.digest();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes.size() {
        cancel.check()?;
        let length = STEP.min(bytes.size() - at);
        let piece = &mut buffer[..usize::try_from(length).unwrap_or_default()];
        bytes.read_at(piece, at)?;
        digest.update(piece);
        at += length;
    }
    digest.verify(name)
}
