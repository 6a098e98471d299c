//! Which format some bytes are in: looked up in the first and last bytes, never in the name.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::{FORMATS, Format};

/// The first and last bytes of a file, read once and shown to every format.
#[derive(Clone, Copy, Debug)]
pub struct ProbeWindow<'a> {
    /// The first bytes, at most [`ProbeWindow::HEAD`].
    pub head: &'a [u8],
    /// The last bytes, at most [`ProbeWindow::TAIL`]. They overlap `head` in a small file.
    pub tail: &'a [u8],
    /// The file's length in bytes; `None` for a stream, whose `tail` is empty.
    pub size: Option<u64>,
}

impl ProbeWindow<'_> {
    /// How much of the front is looked at. Every format is known by its first bytes; the farthest to look for them is the
    /// first volume descriptor of ISO 9660, behind 32 KiB.
    pub const HEAD: usize = 64 << 10;
    /// How much of the end is looked at. The footers of VHD and DMG are the last 512 bytes.
    pub const TAIL: usize = 4 << 10;

    /// Whether `magic` stands at `offset` of the head.
    #[must_use]
    pub fn head_has(&self, offset: usize, magic: &[u8]) -> bool {
        self.head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    }

    /// The little-endian number in the four bytes at `offset` of the head.
    pub(crate) fn le32(&self, offset: usize) -> Option<u32> {
        self.head.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The last `length` bytes of the file, at most [`Self::TAIL`]; none when it is shorter or a stream.
    pub(crate) fn last(&self, length: usize) -> Option<&[u8]> {
        self.tail.len().checked_sub(length).and_then(|start| self.tail.get(start..))
    }
}

/// How sure a format is of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// They are not of this format.
    No,
    /// They could be: any bytes are raw.
    Fallback,
    /// They are, by a magic and the fields around it. There is no ranking among formats that are sure: bytes that two of
    /// them recognise were made to be read in two ways, and only a person can say which is meant.
    Yes,
}

/// The verdict on some bytes.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The formats that recognised the bytes, in the order of [`FORMATS`]; never empty, and more than one when the bytes
    /// are ambiguous.
    pub candidates: Vec<&'static Format>,
}

impl Detection {
    /// The one format.
    ///
    /// # Errors
    /// `InvalidInput` when several formats recognised the bytes, as in a file made to be read in two ways.
    pub fn unambiguous(&self) -> Result<&'static Format> {
        match self.candidates.as_slice() {
            [only] => Ok(only),
            several => {
                let names: Vec<_> = several.iter().map(|format| format.name).collect();
                let what = format!("the bytes are ambiguous: they could be {}", names.join(" or "));
                Err(Error::new(ErrorKind::InvalidInput, what).with_remedy("name the format with -f"))
            }
        }
    }
}

/// Says what format the bytes of a window are in.
#[must_use]
pub fn detect_window(window: &ProbeWindow<'_>) -> Detection {
    let matches: Vec<_> = FORMATS.iter().map(|format| (*format, (format.probe)(window))).collect();
    let best = matches.iter().map(|(_, found)| *found).max().unwrap_or(Match::No);
    Detection {
        candidates: matches.into_iter().filter(|(_, found)| *found == best).map(|(format, _)| format).collect(),
    }
}

/// Says what format `bytes` are in, from their first and last bytes.
///
/// # Errors
/// What reading answers.
pub fn detect(bytes: &Arc<dyn BlockRead>) -> Result<Detection> {
    let size = bytes.size();
    let head_length = usize::try_from(size.min(ProbeWindow::HEAD as u64)).unwrap_or(ProbeWindow::HEAD);
    let tail_length = usize::try_from(size.min(ProbeWindow::TAIL as u64)).unwrap_or(ProbeWindow::TAIL);
    let (mut head, mut tail) = (vec![0; head_length], vec![0; tail_length]);
    bytes.read_at(&mut head, 0)?;
    bytes.read_at(&mut tail, size - tail_length as u64)?;
    Ok(detect_window(&ProbeWindow { head: &head, tail: &tail, size: Some(size) }))
}
