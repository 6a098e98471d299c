//! XML, as far as machines are written in it: reading within bounds, and writing with everything escaped.

mod bounds;

use std::fmt::{Display, Write};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use roxmltree::{Document, Node, ParsingOptions};
use transload_block::{Error, ErrorKind, Result};

/// More elements and texts than any description of machines has.
const MAX_NODES: u32 = 1_000_000;

/// Turns the bytes of an XML document into text: by its byte order mark, or by the encoding that its first line names.
pub(crate) fn decode(bytes: &[u8], what: &str, max_length: usize) -> Result<String> {
    if bytes.len() > max_length {
        let text = format!("{what}: {} bytes, at most {max_length} are read", bytes.len());
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    let (encoding, bytes) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (encoding, &bytes[length..]),
        None => (declared(bytes, what)?, bytes),
    };
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    if broken {
        let text = format!("{what}: it is said to be {}, and is not", encoding.name());
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    Ok(text.into_owned())
}

/// The encoding that `<?xml … encoding="…"?>` names, else UTF-8.
fn declared(bytes: &[u8], what: &str) -> Result<&'static Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let declaration = head.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or("", |(inner, _)| inner);
    let Some((_, value)) = declaration.split_once("encoding") else { return Ok(UTF_8) };
    let label = value.trim_start().strip_prefix('=').map_or("", str::trim_start);
    let label = label.trim_start_matches(['"', '\'']).split(['"', '\'']).next().unwrap_or_default();
    match Encoding::for_label(label.as_bytes()) {
        // Whoever says UTF-16 in single bytes cannot mean it.
        Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => Ok(UTF_8),
        Some(encoding) => Ok(encoding),
        None => Err(Error::new(ErrorKind::Unsupported, format!("{what}: the encoding \"{label}\" is not known"))),
    }
}

/// Parses text without a document type, so that there are no entities but the five of XML.
pub(crate) fn parse<'a>(text: &'a str, what: &str) -> Result<Document<'a>> {
    bounds::check(text, what)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => {
            Error::new(ErrorKind::Denied, format!("{what}: it has a document type, whose entities are not expanded"))
                .with_remedy("remove <!DOCTYPE …> and the entities")
        }
        roxmltree::Error::NodesLimitReached => {
            Error::new(ErrorKind::TooLarge, format!("{what}: more than {MAX_NODES} elements and texts"))
        }
        error => {
            let line = error.pos().row;
            Error::new(ErrorKind::Corrupt, format!("{what}: line {line}: not well-formed")).with_source(error)
        }
    })
}

/// The line that a node begins in.
pub(crate) fn line(node: Node<'_, '_>) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

/// Short ways over a tree in which namespaces differ from version to version.
pub(crate) trait NodeExt<'a, 'input: 'a> {
    /// The child elements of this local name.
    fn children_named(self, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>>;
    /// The first child element of this local name.
    fn child(self, name: &'static str) -> Option<Node<'a, 'input>>;
    /// The trimmed text of the first child element of this local name, unless it is empty.
    fn child_text(self, name: &'static str) -> Option<&'a str>;
    /// The value of the first attribute of this local name, whatever its namespace.
    fn any_attribute(self, name: &str) -> Option<&'a str>;
    /// The trimmed text.
    fn trimmed(self) -> &'a str;
}

impl<'a, 'input: 'a> NodeExt<'a, 'input> for Node<'a, 'input> {
    fn children_named(self, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
        self.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
    }

    fn child(self, name: &'static str) -> Option<Node<'a, 'input>> {
        self.children_named(name).next()
    }

    fn child_text(self, name: &'static str) -> Option<&'a str> {
        Some(self.child(name)?.trimmed()).filter(|text| !text.is_empty())
    }

    fn any_attribute(self, name: &str) -> Option<&'a str> {
        self.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
    }

    fn trimmed(self) -> &'a str {
        self.text().unwrap_or_default().trim()
    }
}

/// A document being written: elements on lines of their own, two spaces to a level.
#[derive(Debug, Default)]
pub(crate) struct XmlWriter {
    text: String,
    open: Vec<&'static str>,
}

impl XmlWriter {
    /// Begins a document with the declaration.
    pub(crate) fn new() -> Self {
        Self { text: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), open: Vec::new() }
    }

    /// Begins one without.
    pub(crate) fn bare() -> Self {
        Self::default()
    }

    /// Begins an element that has others inside.
    pub(crate) fn open(&mut self, name: &'static str, attributes: &[(&str, &dyn Display)]) {
        self.start(name, attributes);
        self.text.push_str(">\n");
        self.open.push(name);
    }

    /// Ends the element that was begun last.
    pub(crate) fn close(&mut self) {
        let name = self.open.pop().expect("an element is closed as often as one is opened");
        self.indent();
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    /// Writes an element with nothing inside.
    pub(crate) fn empty(&mut self, name: &'static str, attributes: &[(&str, &dyn Display)]) {
        self.start(name, attributes);
        self.text.push_str("/>\n");
    }

    /// Writes an element with text inside.
    pub(crate) fn text(&mut self, name: &'static str, attributes: &[(&str, &dyn Display)], content: impl Display) {
        self.start(name, attributes);
        self.text.push('>');
        escape(&mut self.text, &content.to_string(), false);
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    /// Ends the document.
    pub(crate) fn finish(self) -> String {
        assert!(self.open.is_empty(), "every element is closed: {:?}", self.open);
        self.text
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, &value.to_string(), true);
            self.text.push('"');
        }
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("  ", self.open.len()));
    }
}

/// Appends `content` with markup escaped. What XML cannot hold at all becomes the replacement character.
fn escape(text: &mut String, content: &str, attribute: bool) {
    for character in content.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' if attribute => text.push_str("&quot;"),
            // Readers turn a bare one of these into something else: line ends everywhere, all three in attributes.
            '\r' => text.push_str("&#13;"),
            '\n' | '\t' if attribute => write!(text, "&#{};", u32::from(character)).expect("a String takes all"),
            '\n' | '\t' => text.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            _ => text.push(character),
        }
    }
}

/// A text as the value of an attribute between double or single quotes.
pub(crate) fn escaped_attribute(content: &str) -> String {
    let mut text = String::new();
    escape(&mut text, content, true);
    text.replace('\'', "&apos;")
}

/// A text as the content of an element.
pub(crate) fn escaped_text(content: &str) -> String {
    let mut text = String::new();
    escape(&mut text, content, false);
    text
}

/// Whether XML can hold all of `content` as it is.
pub(crate) fn can_hold(content: &str) -> bool {
    !content.chars().any(|character| {
        matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let hostile = "<a b='\"&amp;]]>\u{0}\t\n\r ☃ü";
        let mut xml = XmlWriter::new();
        xml.open("root", &[("name", &hostile)]);
        xml.text("text", &[], hostile);
        xml.close();
        let text = xml.finish();
        let document = parse(&text, "test").unwrap();
        let expected = hostile.replace('\0', "\u{fffd}");
        assert_eq!(document.root_element().attribute("name"), Some(expected.as_str()));
        assert_eq!(document.root_element().child("text").unwrap().text(), Some(expected.as_str()));
        assert!(!can_hold(hostile) && can_hold(&expected));
    }

    #[test]
    fn entities_are_refused_and_lines_are_told() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"xxx\"><!ENTITY y \"&x;&x;\">]>\n<a>&y;</a>";
        assert_eq!(parse(bomb, "test").unwrap_err().kind(), ErrorKind::Denied);
        let error = parse("<a>\n<b>\n</a>", "test").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("line 3"), "{error}");
        assert_eq!(parse("<a>&unknown;</a>", "test").unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn deep_and_wide_documents_end() {
        let deep = format!("{}{}", "<a>".repeat(200_000), "</a>".repeat(200_000));
        assert_eq!(parse(&deep, "test").unwrap_err().kind(), ErrorKind::TooLarge);
        let wide = format!("<a>{}</a>", "<b/>".repeat(1_000_001));
        assert_eq!(parse(&wide, "test").unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn encodings_are_found() {
        let text = |bytes: &[u8]| decode(bytes, "test", 1000).map_err(|error| error.kind());
        assert_eq!(
            text(b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe4</a>").unwrap().chars().rev().nth(4),
            Some('ä')
        );
        assert_eq!(text(b"\xff\xfe<\0a\0/\0>\0").unwrap(), "<a/>");
        assert_eq!(text("\u{feff}<a/>".as_bytes()).unwrap(), "<a/>");
        assert_eq!(text(b"<a>\xe4</a>"), Err(ErrorKind::Corrupt));
        assert_eq!(text(b"<?xml version=\"1.0\" encoding=\"none such\"?><a/>"), Err(ErrorKind::Unsupported));
        assert_eq!(text(&[b' '; 1001]), Err(ErrorKind::TooLarge));
    }
}
