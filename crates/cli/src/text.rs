//! What goes to standard output: text for people or one JSON document, and what happens when nobody reads it.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use transload::block::{Error, Result};

/// Whether anything was printed, so that no second document follows a broken one.
static USED: AtomicBool = AtomicBool::new(false);

/// Whether this run has printed anything to standard output.
pub(crate) fn is_used() -> bool {
    USED.load(Ordering::Relaxed)
}

/// Standard output as text. A reader that goes away (`| head`) has had enough: later output is dropped without a word.
#[derive(Debug)]
pub(crate) struct Text {
    out: BufWriter<Stdout>,
    closed: bool,
}

impl Text {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout()), closed: false }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        let written = if self.closed { Ok(()) } else { writeln!(self.out, "{line}") };
        self.settle(written)
    }

    /// Writes `name: value`, for the lists of `info`.
    pub(crate) fn field(&mut self, name: &str, value: impl Display) -> Result<()> {
        self.line(format_args!("{name}: {value}"))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let written = if self.closed { Ok(()) } else { self.out.write_all(bytes) };
        self.settle(written)
    }

    /// Whether the reader went away, so that a long list may stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Hands over what is still buffered.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.closed || self.out.buffer().is_empty() {
            return Ok(());
        }
        let flushed = self.out.flush();
        self.settle(flushed)
    }

    fn settle(&mut self, written: io::Result<()>) -> Result<()> {
        USED.store(true, Ordering::Relaxed);
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            other => other.map_err(|error| Error::io("standard output", error))?,
        }
        Ok(())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        if !self.closed {
            // Reached with buffered text only while another error is on its way; that one is the one to report.
            let _ = self.out.flush();
        }
    }
}

/// Prints `document` as the one JSON document of this run.
pub(crate) fn json(document: &impl Serialize) -> Result<()> {
    let mut text = Text::new();
    let rendered = serde_json::to_string_pretty(document).map_err(|error| Error::io("JSON", error.into()))?;
    text.line(rendered)?;
    text.finish()
}

/// A line as sha256sum and b3sum print it: the digest, two spaces, the name as it is. A name with a line break or a
/// backslash in it is escaped, and the line then starts with a backslash, so that `--check` finds the file.
pub(crate) fn digest_line(hex: &str, path: &Path) -> Vec<u8> {
    let mut name = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'\\' => name.extend(b"\\\\"),
            b'\n' => name.extend(b"\\n"),
            b'\r' => name.extend(b"\\r"),
            other => name.push(*other),
        }
    }
    let mark: &[u8] = if name.len() == path.as_os_str().len() { b"" } else { b"\\" };
    [mark, hex.as_bytes(), b"  ", &name, b"\n"].concat()
}

/// A number of bytes for people, with three significant digits: `1.50 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return count(bytes);
    }
    let power = (bytes.ilog2() / 10).min(6);
    let unit = u128::from(1_u64 << (10 * power));
    // Hundredths, rounded down: a disk of one byte less than 1 GiB is not shown as 1 GiB.
    let hundredths = u128::from(bytes) * 100 / unit;
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    let name = UNITS[power as usize - 1];
    match (whole, rest) {
        (_, 0) => format!("{whole} {name}"),
        (0..10, _) => format!("{whole}.{rest:02} {name}"),
        (10..100, 10..) => format!("{whole}.{} {name}", rest / 10),
        _ => format!("{whole} {name}"),
    }
}

/// An exact number of bytes: `1 byte`, `5242881 bytes`.
pub(crate) fn count(bytes: u64) -> String {
    format!("{bytes} {}", if bytes == 1 { "byte" } else { "bytes" })
}

/// A number of bytes for people, with the exact number where it was rounded: `1.50 GiB (1610612736 bytes)`.
pub(crate) fn exact_size(bytes: u64) -> String {
    if bytes < 1024 { size(bytes) } else { format!("{} ({bytes} bytes)", size(bytes)) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::{digest_line, exact_size, size};

    #[test]
    fn digest_lines_are_those_of_sha256sum() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"a b.raw", b"00ff  a b.raw\n"),
            (b"a\nb", b"\\00ff  a\\nb\n"),
            (b"a\\b\r", b"\\00ff  a\\\\b\\r\n"),
            (b"\xff", b"00ff  \xff\n"),
        ];
        for (name, line) in cases {
            assert_eq!(digest_line("00ff", Path::new(OsStr::from_bytes(name))), line);
        }
    }

    #[test]
    fn sizes_have_three_digits_and_are_never_rounded_up() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.50 KiB"),
            (10 << 20, "10 MiB"),
            ((1 << 30) - 1, "1023 MiB"),
            (12_884_901_888 + (1 << 29), "12.5 GiB"),
            (10 * (1 << 30) + (1 << 20), "10 GiB"),
            (3 << 40, "3 TiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(exact_size(1536), "1.50 KiB (1536 bytes)");
    }
}
