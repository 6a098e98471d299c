//! From bytes to text: byte order marks, the `.encoding` line, code pages.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use transload_block::{Error, ErrorKind, Result};

use crate::note::Notes;

/// Names of code pages that VMware's products write and the WHATWG's list of labels does not have.
const FURTHER_LABELS: &[(&str, &str)] = &[
    ("cp932", "shift_jis"),
    ("windows-932", "shift_jis"),
    ("cp936", "gbk"),
    ("windows-936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("windows-950", "big5"),
    ("ansi", "windows-1252"),
    ("windows-1252", "windows-1252"),
];

/// Turns the bytes of a VMX into text.
///
/// A byte order mark decides; then the `.encoding` line; then UTF-8 if it is that; then windows-1252, which every byte is.
pub(super) fn decode(bytes: &[u8], notes: &mut Notes) -> Result<String> {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        let (text, broken) = encoding.decode_without_bom_handling(&bytes[length..]);
        if broken {
            let text = format!("VMX: the byte order mark says {}, and the text is not", encoding.name());
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        return Ok(text.into_owned());
    }
    let Some(label) = declared(bytes) else {
        return Ok(undeclared(bytes, notes));
    };
    let encoding = by_label(&label).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("VMX: .encoding is \"{label}\", which is not known"))
            .with_remedy("save the file as UTF-8 with the line .encoding = \"UTF-8\"")
    })?;
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    if !broken {
        return Ok(text.into_owned());
    }
    if encoding == UTF_8 {
        notes.assumed(".encoding", "the file says UTF-8 and is not: it was read as windows-1252");
        return Ok(WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned());
    }
    notes.attention(
        ".encoding",
        format!("the file says {label}, and not all of it is: such characters are shown as \u{fffd}"),
    );
    Ok(text.into_owned())
}

fn undeclared(bytes: &[u8], notes: &mut Notes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            notes.assumed(".encoding", "the file names no encoding and is not UTF-8: it was read as windows-1252");
            WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned()
        }
    }
}

/// The encoding of this name, if text in it can be searched for ASCII, as it was to find the name.
fn by_label(label: &str) -> Option<&'static Encoding> {
    let further = FURTHER_LABELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(label)).map(|(_, label)| *label);
    let encoding = Encoding::for_label(further.unwrap_or(label).as_bytes())?;
    // Whoever says UTF-16 in single bytes cannot mean it.
    Some(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

/// The value of the `.encoding` line, read as ASCII.
fn declared(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b".encoding";
    let line = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii).find(|line| {
        line.get(..KEY.len()).is_some_and(|start| start.eq_ignore_ascii_case(KEY))
            && line[KEY.len()..].trim_ascii_start().starts_with(b"=")
    })?;
    let value = line[KEY.len()..].trim_ascii_start().strip_prefix(b"=")?;
    let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
    let value = value.trim_start_matches('"');
    Some(value.split('"').next().unwrap_or_default().trim().to_owned()).filter(|label| !label.is_empty())
}
