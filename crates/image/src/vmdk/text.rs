//! The bytes of a descriptor as text: byte order mark, padding, and the encoding that the descriptor names in itself.
//!
//! All encodings that VMware writes agree with ASCII on line ends, `=` and `"`, so that the line naming the encoding can
//! be found before it is known.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::error::Fault;
use super::layout::DESCRIPTOR_MAX;

/// A descriptor's text, and what was found on the way to it.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    /// The text. What is not valid in its encoding is U+FFFD.
    pub text: Cow<'a, str>,
    /// The name of the encoding it was read in.
    pub encoding: &'static str,
    /// The encoding was not named and is a guess.
    pub guessed: bool,
}

/// The part of `bytes` in front of the padding: descriptors in sectors are filled up with NUL.
pub(crate) fn before_padding(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Decodes a descriptor.
pub(crate) fn decode(bytes: &[u8]) -> Result<Text<'_>, Fault> {
    let marked = bytes.starts_with(b"\xef\xbb\xbf");
    let bytes = before_padding(bytes);
    if bytes.len() as u64 > DESCRIPTOR_MAX {
        return Err(Fault::DescriptorTooLong { bytes: bytes.len() as u64, most: DESCRIPTOR_MAX });
    }
    let named = named_encoding(bytes);
    let (encoding, guessed) = match named {
        _ if marked => (UTF_8, false),
        // Nothing but ASCII reads the same in all of them, whatever the name.
        Some(name) => match by_name(&name) {
            Some(encoding) => (encoding, false),
            None if bytes.is_ascii() => (UTF_8, false),
            None => return Err(Fault::Encoding(name)),
        },
        None if std::str::from_utf8(bytes).is_ok() => (UTF_8, false),
        None => (WINDOWS_1252, true),
    };
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    Ok(Text { text, encoding: encoding.name(), guessed })
}

/// The value of `encoding`, or else of `ddb.encoding`.
fn named_encoding(bytes: &[u8]) -> Option<String> {
    let value = |wanted: &[u8]| {
        bytes.split(|byte| matches!(byte, b'\n' | b'\r')).find_map(|line| {
            let equals = line.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let value = value.strip_suffix(b"\"").unwrap_or(value).trim_ascii();
            (key.eq_ignore_ascii_case(wanted) && !value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
        })
    };
    value(b"encoding").or_else(|| value(b"ddb.encoding"))
}

/// An encoding by the names that the WHATWG knows, and by those of Windows code pages.
fn by_name(name: &str) -> Option<&'static Encoding> {
    let label = match name.to_ascii_lowercase().as_str() {
        "windows-936" | "cp936" | "936" => "gbk",
        "windows-932" | "cp932" | "932" => "shift_jis",
        "windows-949" | "cp949" | "949" => "euc-kr",
        "windows-950" | "cp950" | "950" => "big5",
        "ascii7" => "us-ascii",
        _ => name,
    };
    // Text in UTF-16 would not have been found by the search for ASCII.
    Encoding::for_label(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
}
