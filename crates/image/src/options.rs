//! The `-o key=value` options of a format: what there are, and what was given.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use transload_block::{Error, ErrorKind, Result};

/// One option a format understands.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The key, as qemu-img spells it where it has the option.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// The value when it is not given, for people; empty where it depends.
    pub default: &'static str,
    /// One line for people.
    pub help: &'static str,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum OptionKind {
    /// `on` or `off`.
    Flag,
    /// A whole number.
    Number,
    /// Bytes, with the suffixes k, M, G, T (powers of 1024).
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

/// Options that were given, checked against their specifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionValues(BTreeMap<&'static str, String>);

impl OptionValues {
    /// Parses `key=value` pairs separated by commas (a comma in a value is written twice), each item of `arguments` being
    /// one `-o`. A later value replaces an earlier one; a bare `key` means `key=on`.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown key, which the message lists the known ones for, or a value not of its kind.
    pub fn parse<'a>(specs: &[OptionSpec], arguments: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut values = Self::default();
        for argument in arguments {
            for item in split_items(argument) {
                let (key, value) = item.split_once('=').unwrap_or((&item, "on"));
                values.set(specs, key.trim(), value)?;
            }
        }
        Ok(values)
    }

    /// Sets one option.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn set(&mut self, specs: &[OptionSpec], key: &str, value: &str) -> Result<()> {
        let Some(spec) = specs.iter().find(|spec| spec.name == key) else {
            let known: Vec<_> = specs.iter().map(|spec| spec.name).collect();
            let known = if known.is_empty() { "there are none here".to_owned() } else { known.join(", ") };
            return Err(Error::new(ErrorKind::InvalidInput, format!("unknown option '{key}'; known: {known}")));
        };
        let sound = match spec.kind {
            OptionKind::Flag => parse_flag(value).is_some(),
            OptionKind::Number => value.parse::<u64>().is_ok(),
            OptionKind::Size => parse_size(value).is_some(),
            OptionKind::Choice(words) => words.contains(&value),
            OptionKind::Text => true,
        };
        if !sound {
            let wanted = match spec.kind {
                OptionKind::Flag => "on or off".to_owned(),
                OptionKind::Number => "a whole number".to_owned(),
                OptionKind::Size => "a size such as 65536, 64k or 2M".to_owned(),
                OptionKind::Choice(words) => format!("one of {}", words.join(", ")),
                OptionKind::Text => "text".to_owned(),
            };
            return Err(Error::new(ErrorKind::InvalidInput, format!("option {key}={value}: must be {wanted}")));
        }
        self.0.insert(spec.name, value.to_owned());
        Ok(())
    }

    /// The text that was given for `key`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The flag that was given for `key`.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.text(key).and_then(parse_flag)
    }

    /// The whole number that was given for `key`.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(|value| value.parse().ok())
    }

    /// The size in bytes that was given for `key`.
    #[must_use]
    pub fn size(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(parse_size)
    }

    /// Whether no option was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The options in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

/// Splits at single commas; two commas stand for one.
fn split_items(argument: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut characters = argument.chars().peekable();
    while let Some(character) = characters.next() {
        let doubled = character == ',' && characters.next_if_eq(&',').is_some();
        match items.last_mut() {
            Some(item) if character != ',' || doubled => item.push(character),
            _ => items.push(String::new()),
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

fn parse_flag(value: &str) -> Option<bool> {
    match value {
        "on" | "yes" | "true" => Some(true),
        "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// Reads a size as qemu-img does: a decimal number, which may have a fraction when a suffix follows, and one of the
/// suffixes b, k, M, G, T, P, E in either case (powers of 1024). `None` for anything else and for what exceeds 64 bits.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        "p" | "pib" => 50,
        "e" | "eib" => 60,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || !all_digits(whole)
        || !all_digits(fraction)
        || fraction.len() > 9
        || (digits.contains('.') && shift == 0)
    {
        return None;
    }
    let unit = 1_u64 << shift;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part =
        if fraction.is_empty() { 0 } else { u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit) / scale };
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}
