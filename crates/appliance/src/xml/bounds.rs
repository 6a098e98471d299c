//! What a document may ask of its parser: attributes, namespaces and depth are bounded before a tree is made of it.
//!
//! roxmltree compares each attribute of an element with those before it, and copies all namespaces in scope to every element that
//! declares one: both grow with the square of what a hostile document holds. This scan is linear.

use transload_block::{Error, ErrorKind, Result};

/// Attributes of one element, declarations of namespaces among them. The richest that is known, an envelope, has 20.
const MAX_ATTRIBUTES: usize = 128;

/// Declarations of namespaces that hold at once.
const MAX_NAMESPACES_IN_SCOPE: usize = 64;

/// Declarations of namespaces altogether: some writers repeat them at every element.
const MAX_NAMESPACES: usize = 1 << 16;

/// Elements in each other.
const MAX_DEPTH: usize = 512;

/// Refuses a document that goes beyond the bounds. What is not well-formed is left to the parser.
pub(super) fn check(text: &str, what: &str) -> Result<()> {
    let too_many =
        |things: &str, most: usize| Err(Error::new(ErrorKind::TooLarge, format!("{what}: more than {most} {things}")));
    // How many namespaces each open element declares.
    let mut open: Vec<usize> = Vec::new();
    let (mut in_scope, mut declared) = (0, 0);
    let mut rest = text;
    while let Some((_, markup)) = rest.split_once('<') {
        if let Some(end) = skipped(markup) {
            rest = &markup[end..];
            continue;
        }
        if markup.starts_with('/') {
            in_scope -= open.pop().unwrap_or_default();
            rest = markup;
            continue;
        }
        let tag = Tag::scan(markup);
        if tag.attributes > MAX_ATTRIBUTES {
            return too_many("attributes at one element", MAX_ATTRIBUTES);
        }
        declared += tag.namespaces;
        if declared > MAX_NAMESPACES {
            return too_many("namespaces", MAX_NAMESPACES);
        }
        if in_scope + tag.namespaces > MAX_NAMESPACES_IN_SCOPE {
            return too_many("namespaces at once", MAX_NAMESPACES_IN_SCOPE);
        }
        if !tag.closed {
            in_scope += tag.namespaces;
            open.push(tag.namespaces);
        }
        if open.len() > MAX_DEPTH {
            return too_many("elements in each other", MAX_DEPTH);
        }
        rest = &markup[tag.length..];
    }
    Ok(())
}

/// The length of a comment, a CDATA section or a processing instruction behind its `<`.
fn skipped(markup: &str) -> Option<usize> {
    let kinds = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>")];
    let (open, close) = kinds.into_iter().find(|(open, _)| markup.starts_with(open))?;
    let end = markup[open.len()..].find(close).map(|end| open.len() + end + close.len());
    Some(end.unwrap_or(markup.len()))
}

/// A start tag.
struct Tag {
    attributes: usize,
    namespaces: usize,
    /// It is an empty element.
    closed: bool,
    /// Its length behind the `<`.
    length: usize,
}

impl Tag {
    fn scan(markup: &str) -> Self {
        let mut tag = Self { attributes: 0, namespaces: 0, closed: false, length: markup.len() };
        let mut quote = None;
        let mut name = 0;
        let bytes = markup.as_bytes();
        for (place, byte) in bytes.iter().copied().enumerate() {
            match (quote, byte) {
                (Some(open), byte) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => {
                    quote = Some(byte);
                    tag.attributes += 1;
                    tag.namespaces += usize::from(bytes[name..place].starts_with(b"xmlns"));
                }
                (None, b'>') => {
                    tag.closed = place > 0 && bytes[place - 1] == b'/';
                    tag.length = place + 1;
                    break;
                }
                (None, byte) if byte.is_ascii_whitespace() => {}
                // A name begins behind blanks or a value.
                (None, _)
                    if place == 0
                        || bytes[place - 1].is_ascii_whitespace()
                        || matches!(bytes[place - 1], b'"' | b'\'') =>
                {
                    if byte != b'=' {
                        name = place;
                    }
                }
                (None, _) => {}
            }
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ErrorKind> {
        check(text, "test").err().map(|error| error.kind())
    }

    #[test]
    fn what_would_take_long_is_refused() {
        let attributes: String = (0..200).map(|number| format!(" a{number}=\"\"")).collect();
        let tight: String = (0..200).map(|number| format!("a{number}=''")).collect();
        let namespaces: String = (0..70).map(|number| format!(" xmlns:n{number} = \"u{number}\"")).collect();
        let nested: String = (0..70).map(|number| format!("<a xmlns:n{number}='u{number}'>")).collect();
        for text in [
            format!("<a{attributes}/>"),
            format!("<a {tight}/>"),
            format!("<a{namespaces}/>"),
            nested,
            "<a>".repeat(600),
            "<a><b xmlns='u'/>".to_owned() + &"<b xmlns='u'></b>".repeat(70_000),
        ] {
            assert_eq!(kind(&text), Some(ErrorKind::TooLarge), "{}", &text[..40]);
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        let attributes: String = (0..200).map(|number| format!(" a{number}=\"\"")).collect();
        for text in [
            format!("<!-- <a{attributes}/> --><a/>"),
            format!("<a><![CDATA[<a{attributes}/>]]></a>"),
            format!("<?a {attributes}?><a/>"),
            "<a b='>' c=\"<\"/>".repeat(10_000),
            "<a></a>".repeat(10_000),
            "<a xmlns='u'></a>".repeat(10_000),
            "<a xmlns='u'/>".repeat(10_000),
        ] {
            assert_eq!(kind(&text), None, "{}", &text[..20]);
        }
    }
}
