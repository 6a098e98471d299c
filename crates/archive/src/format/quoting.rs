//! Names as trees hold them: text in which what is no text is escaped, by the rules of strings in Go.

/// Writes a name. Bytes that are no UTF-8 become `\xff`, so that every name of a Unix fits a document that holds text.
pub(crate) fn quote(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' | '"' => text.extend(['\\', character]),
                '\x07' => text.push_str("\\a"),
                '\x08' => text.push_str("\\b"),
                '\x0c' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\x0b' => text.push_str("\\v"),
                '\0'..=' ' | '\x7f' if character != ' ' => text.push_str(&format!("\\x{:02x}", u32::from(character))),
                // What has no glyph; the rest of what Go escapes is read the same unescaped.
                '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{feff}' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(character)));
                }
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Reads a name; `None` when an escape is not one.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        let mut length = 2;
        match escape {
            b'a' => name.push(7),
            b'b' => name.push(8),
            b'f' => name.push(12),
            b'n' => name.push(b'\n'),
            b'r' => name.push(b'\r'),
            b't' => name.push(b'\t'),
            b'v' => name.push(11),
            b'\\' | b'"' | b'\'' => name.push(escape),
            b'x' => {
                length = 4;
                name.push(u8::try_from(digits(rest, at + 2, 2, 16)?).ok()?);
            }
            b'0'..=b'7' => {
                length = 4;
                name.push(u8::try_from(digits(rest, at + 1, 3, 8)?).ok()?);
            }
            b'u' | b'U' => {
                let count = if escape == b'u' { 4 } else { 8 };
                length = 2 + count;
                let character = char::from_u32(digits(rest, at + 2, count, 16)?)?;
                name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
        rest = rest.get(at + length..)?;
    }
    name.extend_from_slice(rest.as_bytes());
    Some(name)
}

fn digits(text: &str, from: usize, count: usize, radix: u32) -> Option<u32> {
    let digits = text.get(from..from + count)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{quote, unquote};

    #[test]
    fn names_are_those_of_go() {
        let cases: [(&[u8], &str); 6] = [
            (b"a b", "a b"),
            (b"\xff\xfe.txt", "\\xff\\xfe.txt"),
            ("Größe\u{1f600}".as_bytes(), "Größe\u{1f600}"),
            (b"back\\slash\"quote'", "back\\\\slash\\\"quote'"),
            (b"\n\t\x01\x7f", "\\n\\t\\x01\\x7f"),
            ("\u{ad}".as_bytes(), "\\u00ad"),
        ];
        for (name, text) in cases {
            assert_eq!(quote(name), text);
            assert_eq!(unquote(text).unwrap(), name);
        }
        assert_eq!(unquote("\\U0001f600\\101").unwrap(), "\u{1f600}A".as_bytes());
        for wrong in ["\\", "\\q", "\\x1", "\\xgg", "\\ud800", "\\400", "\\x+1", "\\u12ä"] {
            assert_eq!(unquote(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_name_comes_back(name in any::<Vec<u8>>()) {
            prop_assert_eq!(unquote(&quote(&name)).unwrap(), name);
        }
    }
}
