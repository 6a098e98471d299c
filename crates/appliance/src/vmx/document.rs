//! The lines of a VMX: keys with values, and what of them has been looked at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::note::Notes;

/// A setting, as the file has it.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key in the file's own letters.
    pub(super) key: String,
    /// The value without quotes and escapes.
    pub(super) value: String,
    used: bool,
}

/// The settings of a file, found by key whatever the case of its letters.
#[derive(Debug, Default)]
pub(super) struct Document {
    settings: Vec<Setting>,
    by_key: HashMap<String, usize>,
}

impl Document {
    /// Takes `text` apart. What is no setting is noted; of two settings of one key the later one counts.
    pub(super) fn parse(text: &str, notes: &mut Notes) -> Self {
        let mut document = Self::default();
        for (index, line) in text.split(['\n', '\r']).enumerate() {
            let line = line.trim_matches(|character: char| character.is_whitespace() || character == '\0');
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match setting(line) {
                Some((key, value)) => document.insert(key, value, notes),
                None => notes.left_out(format!("line {}", index + 1), "it is neither a comment nor a setting"),
            }
        }
        document
    }

    fn insert(&mut self, key: &str, value: String, notes: &mut Notes) {
        match self.by_key.entry(key.to_lowercase()) {
            Entry::Vacant(entry) => {
                entry.insert(self.settings.len());
                self.settings.push(Setting { key: key.to_owned(), value, used: false });
            }
            Entry::Occupied(entry) => {
                let setting = &mut self.settings[*entry.get()];
                if setting.value != value {
                    let message = format!("it is set twice: \"{}\" was dropped for \"{value}\"", setting.value);
                    notes.attention(key, message);
                    setting.value = value;
                }
            }
        }
    }

    /// The value of `key`, which is then no longer among the [`Document::rest`].
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let setting = &mut self.settings[*self.by_key.get(&key.to_lowercase())?];
        setting.used = true;
        Some(setting.value.clone())
    }

    /// The value of `key` unless it is empty.
    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take(key).filter(|value| !value.is_empty())
    }

    /// The truth of `key`, where it has one.
    pub(super) fn take_flag(&mut self, key: &str) -> Option<bool> {
        self.take(key).as_deref().and_then(flag)
    }

    /// Whether there is a setting of this key, or one whose key continues with a dot.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.by_key.keys().any(|key| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(&key.to_lowercase())
    }

    /// All keys in lower case, in the order of the file.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.settings.iter().map(|setting| setting.key.to_lowercase())
    }

    /// The settings that nothing has taken, in the order of the file.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| !setting.used)
    }
}

/// The truth of a value, as VMware's products read it.
pub(super) fn flag(value: &str) -> Option<bool> {
    let value = value.trim();
    let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is(&["true", "yes", "on", "1", "t", "y"]) {
        Some(true)
    } else if is(&["false", "no", "off", "0", "f", "n"]) {
        Some(false)
    } else {
        None
    }
}

/// Takes `key = "value"`, `key=value` and either with a comment behind apart.
fn setting(line: &str) -> Option<(&str, String)> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return None;
    }
    let raw = match value.strip_prefix('"') {
        Some(quoted) => match quoted.split_once('"') {
            // A quote that should have been escaped: whatever follows it belongs to the value, up to the last one.
            Some((_, rest)) if !rest.trim().is_empty() && !rest.trim_start().starts_with('#') => {
                quoted.rsplit_once('"').map_or(quoted, |(inner, _)| inner)
            }
            Some((inner, _)) => inner,
            None => quoted,
        },
        None => value.split('#').next().unwrap_or_default().trim_end(),
    };
    Some((key, unescape(raw)))
}

/// Puts the bytes in the place of `|XX`. They are UTF-8 as a rule, else each is taken for a character of windows-1252.
fn unescape(raw: &str) -> String {
    if !raw.contains('|') {
        return raw.to_owned();
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('|') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(digits) => {
                bytes.extend(u8::from_str_radix(digits, 16));
                rest = &after[2..];
            }
            None => {
                bytes.push(b'|');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|error| {
        error
            .as_bytes()
            .utf8_chunks()
            .map(|chunk| {
                let (odd, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(chunk.invalid());
                format!("{}{odd}", chunk.valid())
            })
            .collect()
    })
}

/// A value between quotes, with what would end it or the line escaped.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '|' | '\0'..='\u{1f}' | '\u{7f}' => text.push_str(&format!("|{:02X}", u32::from(character))),
            // Some readers end a line here.
            '\u{85}' | '\u{2028}' | '\u{2029}' => {
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| text.push_str(&format!("|{byte:02X}")));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}
