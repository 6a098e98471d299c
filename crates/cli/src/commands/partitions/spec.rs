//! What `--add` and `--set` take: words and `key=value`, separated by commas; a comma in a value is written twice.

use transload::block::{Error, ErrorKind, Result};
use transload::image::parse_size;
use transload::volume::{Change, Guid, Kind, NewPartition, Scheme, Size};

/// A list of words and pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// As it was given.
    text: String,
    items: Vec<(String, Option<String>)>,
}

/// Splits a list at its commas.
#[expect(clippy::unnecessary_wraps, reason = "clap's parsers return results")]
pub(super) fn parse(text: &str) -> Result<Spec, String> {
    let mut items = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match items.last_mut() {
            Some(item) if character != ',' || characters.next_if_eq(&',').is_some() => item.push(character),
            _ => items.push(String::new()),
        }
    }
    let pair = |item: String| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item, None),
    };
    Ok(Spec { text: text.to_owned(), items: items.into_iter().map(pair).collect() })
}

impl Spec {
    fn wrong(&self, text: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("'{}': {text}", self.text))
    }

    /// The partition to be added to a table of `scheme`.
    pub(super) fn new_partition(&self, scheme: Scheme) -> Result<NewPartition> {
        let mut new = NewPartition::new(Kind::parse("linux", scheme)?, Size::Rest);
        let mut size = None;
        for (key, value) in &self.items {
            match (key.as_str(), value.as_deref()) {
                ("rest", None) => size = Some(Size::Rest),
                ("size", Some("rest")) => size = Some(Size::Rest),
                ("size", Some(value)) => size = Some(Size::Exact(self.size(value)?)),
                ("start", Some(value)) => new.start = Some(self.size(value)?),
                ("type", Some(value)) => new.kind = Kind::parse(value, scheme)?,
                ("name", Some(value)) => value.clone_into(&mut new.name),
                ("guid", Some(value)) => new.guid = Some(value.parse::<Guid>()?),
                ("attributes", Some(value)) => new.attributes = self.attributes(value)?,
                ("active", value) => new.active = self.flag(key, value)?,
                ("logical", value) => new.logical = self.flag(key, value)?,
                ("number", Some(value)) => new.number = Some(self.number(value)?),
                _ => {
                    return Err(
                        self.unknown(key, "size, rest, start, type, name, guid, attributes, active, logical, number")
                    );
                }
            }
        }
        new.size = size.ok_or_else(|| self.wrong("says no size: give size=SIZE or rest"))?;
        Ok(new)
    }

    /// The partition that is to be changed in a table of `scheme`, and how.
    pub(super) fn change(&self, scheme: Scheme) -> Result<(u32, Change)> {
        let mut items = self.items.iter();
        let number = match items.next() {
            Some((number, None)) => self.number(number)?,
            _ => return Err(self.wrong("must begin with the number of a partition")),
        };
        let mut change = Change::default();
        for (key, value) in items {
            match (key.as_str(), value.as_deref()) {
                ("type", Some(value)) => change.kind = Some(Kind::parse(value, scheme)?),
                ("name", Some(value)) => change.name = Some(value.to_owned()),
                ("guid", Some(value)) => change.guid = Some(value.parse()?),
                ("attributes", Some(value)) => change.attributes = Some(self.attributes(value)?),
                ("active", value) => change.active = Some(self.flag(key, value)?),
                _ => return Err(self.unknown(key, "type, name, guid, attributes, active")),
            }
        }
        Ok((number, change))
    }

    fn unknown(&self, key: &str, known: &str) -> Error {
        self.wrong(format_args!("'{key}' is not known, or has no value; there are {known}"))
    }

    fn size(&self, value: &str) -> Result<u64> {
        parse_size(value).ok_or_else(|| self.wrong(format_args!("'{value}' is no size")))
    }

    fn number(&self, value: &str) -> Result<u32> {
        value.parse().map_err(|_| self.wrong(format_args!("'{value}' is no number of a partition")))
    }

    fn attributes(&self, value: &str) -> Result<u64> {
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        parsed.map_err(|_| self.wrong(format_args!("'{value}' is no number of 64 bits")))
    }

    fn flag(&self, key: &str, value: Option<&str>) -> Result<bool> {
        match value {
            None | Some("yes" | "on" | "true") => Ok(true),
            Some("no" | "off" | "false") => Ok(false),
            Some(other) => Err(self.wrong(format_args!("{key} is yes or no, not '{other}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use transload::volume::{Kind, Scheme, Size};

    use super::parse;

    #[test]
    fn a_partition_is_words_and_pairs() {
        let new = parse("size=512M,type=esp,name=a,,b=c,active").unwrap().new_partition(Scheme::Gpt).unwrap();
        assert_eq!(new.size, Size::Exact(512 << 20));
        assert_eq!((new.kind, new.name.as_str(), new.active), (Kind::ESP, "a,b=c", true));
        let new = parse("rest,type=lvm,logical,active=no,start=1M").unwrap().new_partition(Scheme::Mbr).unwrap();
        assert_eq!((new.size, new.kind, new.logical, new.start), (Size::Rest, Kind::Mbr(0x8e), true, Some(1 << 20)));
        for wrong in ["", "type=linux", "rest,", "rest,x", "rest,type", "size=x", "rest,active=maybe", "rest,guid=1"] {
            assert!(parse(wrong).unwrap().new_partition(Scheme::Gpt).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_change_begins_with_a_number() {
        let (number, change) = parse("3,type=swap,attributes=0x5").unwrap().change(Scheme::Mbr).unwrap();
        assert_eq!((number, change.kind, change.attributes), (3, Some(Kind::Mbr(0x82)), Some(5)));
        for wrong in ["", "type=swap", "x", "1,size=5", "1,logical"] {
            assert!(parse(wrong).unwrap().change(Scheme::Mbr).is_err(), "{wrong}");
        }
    }
}
