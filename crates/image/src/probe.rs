//! Which format some bytes are in: looked up in the first and last bytes, never in the name.

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
    /// The file's length in bytes; 0 in `tail` and `None` here when it is a stream.
    pub size: Option<u64>,
}

impl ProbeWindow<'_> {
    /// How much of the front is looked at: up to the VHDX region tables' magic at 192 KiB it is not needed, since the
    /// file identifier stands at 0; ISO 9660 needs 32 KiB and a sector.
    pub const HEAD: usize = 64 << 10;
    /// How much of the end is looked at: a VHD footer is its last 512 bytes.
    pub const TAIL: usize = 4 << 10;

    /// Whether `magic` stands at `offset` of the head.
    #[must_use]
    pub fn head_has(&self, offset: usize, magic: &[u8]) -> bool {
        self.head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    }
}

/// How sure a format is of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// They are not of this format.
    No,
    /// They could be: any bytes are raw.
    Fallback,
    /// They are, by a magic and the fields around it.
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
                Err(Error::new(ErrorKind::InvalidInput, format!("ambiguous: could be {}", names.join(" or ")))
                    .with_remedy("name the format with -f"))
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
