//! The text that describes a group: sections in braces, and values that are numbers, strings or lists of them.
//!
//! ```text
//! vg0 {
//!     extent_size = 8192          # sectors
//!     status = ["READ", "WRITE"]
//!     physical_volumes { pv0 { … } }
//! }
//! ```

use transload_block::{Error, ErrorKind, Result};

/// How deep sections may stand in each other; a group's text has five levels.
const MAX_DEPTH: u32 = 16;
/// Sections and values in a text: some forty for a volume, of which a group has thousands at most.
const MAX_NODES: usize = 500_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

/// What stands in braces, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section(Vec<(String, Value)>);

impl Section {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The sections in it, with their names.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name) {
            Some(Value::Section(section)) => Some(section),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Ok(text),
            other => Err(unexpected(name, "a string", other)),
        }
    }

    /// A number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        match self.get(name) {
            Some(Value::Number(number)) if *number >= 0 => Ok(number.unsigned_abs()),
            other => Err(unexpected(name, "a number from 0 on", other)),
        }
    }

    /// A list; a value that stands alone is a list of one, as lvm2 reads it.
    pub(super) fn list(&self, name: &str) -> Result<&[Value]> {
        match self.get(name) {
            Some(Value::List(values)) => Ok(values),
            Some(value @ (Value::Text(_) | Value::Number(_))) => Ok(std::slice::from_ref(value)),
            other => Err(unexpected(name, "a list", other)),
        }
    }

    /// Whether the list `name` has the string `word` in it.
    pub(super) fn has_word(&self, name: &str, word: &str) -> bool {
        self.list(name)
            .is_ok_and(|values| values.iter().any(|value| matches!(value, Value::Text(text) if text == word)))
    }
}

fn unexpected(name: &str, wanted: &str, found: Option<&Value>) -> Error {
    let found = match found {
        None => "nothing",
        Some(Value::Number(_)) => "a number",
        Some(Value::Text(_)) => "a string",
        Some(Value::List(_)) => "a list",
        Some(Value::Section(_)) => "a section",
    };
    Error::new(ErrorKind::Corrupt, format!("'{name}' must be {wanted}, and is {found}"))
}

/// Parses a text, which ends with a zero byte or with its last one.
///
/// # Errors
/// `Corrupt` with the line, when it is none; `TooLarge` when it has more in it than a group can have.
pub(super) fn parse(bytes: &[u8]) -> Result<Section> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let mut parser = Parser { bytes: &bytes[..end], at: 0, nodes: 0 };
    let section = parser.section(0)?;
    match parser.peek() {
        None => Ok(section),
        Some(byte) => Err(parser.error(&format!("'{}' closes nothing", char::from(byte)))),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn error(&self, text: &str) -> Error {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::new(ErrorKind::Corrupt, format!("line {line} of the group's text: {text}"))
    }

    /// The next byte that is neither blank nor comment.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                b'#' => {
                    let rest = &self.bytes[self.at..];
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => return Some(byte),
            }
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(&format!("'{}' is missing", char::from(wanted))))
    }

    fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let text = format!("the group's text has more than {MAX_NODES} values");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(())
    }

    /// What stands in a section up to the brace that closes it, or to the end of the text.
    fn section(&mut self, depth: u32) -> Result<Section> {
        if depth > MAX_DEPTH {
            return Err(self.error(&format!("sections stand in each other more than {MAX_DEPTH} deep")));
        }
        let mut section = Section::default();
        while let Some(byte) = self.peek() {
            if byte == b'}' {
                break;
            }
            self.count()?;
            let name = self.name()?;
            let value = match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    let inner = self.section(depth + 1)?;
                    self.expect(b'}')?;
                    Value::Section(inner)
                }
                _ => {
                    self.expect(b'=')?;
                    self.value()?
                }
            };
            section.0.push((name, value));
        }
        Ok(section)
    }

    fn name(&mut self) -> Result<String> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+_.-/:@".contains(byte);
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.error("a name is missing"));
        }
        self.at += length;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn value(&mut self) -> Result<Value> {
        match self.peek() {
            Some(b'[') => {
                self.at += 1;
                self.list()
            }
            Some(b'"') => self.string(),
            _ => self.number(),
        }
    }

    fn list(&mut self) -> Result<Value> {
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(values));
                }
                Some(b',') if !values.is_empty() => self.at += 1,
                Some(b'"') => values.push(self.string()?),
                Some(_) => values.push(self.number()?),
                None => return Err(self.error("a list has no end")),
            }
            self.count()?;
        }
    }

    fn string(&mut self) -> Result<Value> {
        let mut text = Vec::new();
        let mut at = self.at + 1;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    at += 1;
                    text.extend(self.bytes.get(at));
                }
                Some(byte) => text.push(*byte),
                None => return Err(self.error("a string has no end")),
            }
            at += 1;
        }
        self.at = at + 1;
        Ok(Value::Text(String::from_utf8_lossy(&text).into_owned()))
    }

    /// A number. One with a point in it, which no field of ours has, is cut off there.
    fn number(&mut self) -> Result<Value> {
        let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.".contains(byte);
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let digits = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let whole = digits.split('.').next().unwrap_or_default();
        let number =
            whole.parse().map_err(|_| self.error("a value is missing, or is no number that fits into 64 bits"))?;
        self.at += length;
        Ok(Value::Number(number))
    }
}

/// Any bytes are a text or an error of two kinds; for fuzzing.
pub(crate) fn fuzz_text(bytes: &[u8]) {
    if let Err(error) = parse(bytes) {
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge), "{error}");
    }
}

#[cfg(test)]
mod tests {
    use transload_block::ErrorKind;

    use super::{MAX_DEPTH, MAX_NODES, Value, parse};

    #[test]
    fn a_text_has_sections_and_values() {
        let text = parse(
            b"# a comment\nvg { id = \"a\\\"b\" extent_size=8192 # sectors\n status = [\"READ\", \"WRITE\"]\n flags = []\n \
              tags = \"one\"\n part { x = -5 y = 1.5 } }\nversion = 1\n\0garbage{",
        )
        .unwrap();
        let group = text.section("vg").unwrap();
        assert_eq!(group.text("id").unwrap(), "a\"b");
        assert_eq!(group.number("extent_size").unwrap(), 8192);
        assert!(group.has_word("status", "WRITE") && group.has_word("tags", "one") && !group.has_word("flags", "READ"));
        assert!(group.section("part").unwrap().number("x").is_err());
        assert_eq!(group.section("part").unwrap().list("y").unwrap(), [Value::Number(1)]);
        assert_eq!(text.number("version").unwrap(), 1);
        assert_eq!(text.sections().count(), 1);
    }

    #[test]
    fn broken_texts_are_corrupt_with_their_line() {
        let deep = "a{".repeat(MAX_DEPTH as usize + 2);
        let texts =
            ["a", "a =", "a = \"b", "a = [1", "a {", "}", "a {\n}}", "= 1", "a = 99999999999999999999", "a = x", &deep];
        for text in texts {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
        assert!(parse(b"a {\n}\n}").unwrap_err().to_string().contains("line 3"));
        let many = "a=1\n".repeat(MAX_NODES + 1);
        assert_eq!(parse(many.as_bytes()).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
