//! By what names a differencing disk knows its parent.
//!
//! A name stands in the header, and up to eight more behind locators, each for another system: `W2ru` and `W2ku` in UTF-16,
//! which Windows writes with the lower byte first, `Wi2r` and `Wi2k` in a Windows encoding, `MacX` as a URL. The name in the
//! header has the upper byte first by the specification, and the lower one in what some makers write: the byte order of
//! each is taken from its own bytes.
//!
//! The names are tried as they are where they can mean something here: relative ones first, absolute ones of this system
//! next. In the end the last component of each is tried, since a parent usually travels beside its child. What opens is then
//! checked by its id. A time stamp other than the parent's is only a warning: copying a file changes its time.

use std::time::{Duration, SystemTime};

use transload_block::{BlockRead, Result};

use super::layout::{DynamicHeader, LOCATOR_MAX, ParentLocator, platform};
use crate::{ContentId, ParentReference};

/// What a differencing disk says of its parent.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) reference: ParentReference,
    pub(super) description: Description,
}

/// The same, for `info`.
#[derive(Debug)]
pub(super) struct Description {
    /// The name in the header, or the first of the others.
    pub(super) name: Option<String>,
    pub(super) unique_id: String,
    pub(super) time_stamp: u32,
}

/// The order of the bytes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Big,
    Little,
}

/// Collects the names. One that cannot be read is a warning, since any of them will do.
pub(super) fn read(file: &dyn BlockRead, header: &DynamicHeader, warnings: &mut Vec<String>) -> Result<Parent> {
    let own_name = Some(utf16(&header.parent_name, ByteOrder::Big)).filter(|name| !name.is_empty());
    let mut located: Vec<([u8; 4], String)> = Vec::new();
    for (index, locator) in header.locators.iter().enumerate() {
        if locator.platform_code == platform::NONE {
            continue;
        }
        match read_locator(file, locator)? {
            Some(name) if name.is_empty() => {}
            Some(name) => located.push((locator.platform_code, name)),
            None => {
                let (length, offset) = (locator.data_length.get(), locator.data_offset.get());
                warnings.push(format!(
                    "parent locator {index}: a name of {length} bytes at byte {offset} of the file cannot be"
                ));
            }
        }
    }
    // Relative names are the ones that survive a move.
    located.sort_by_key(|(code, _)| match *code {
        platform::W2RU => 0,
        platform::WI2R => 1,
        platform::MACX => 2,
        platform::W2KU => 3,
        _ => 4,
    });
    let all = || located.iter().map(|(_, name)| name).chain(&own_name);
    let mut names: Vec<String> = Vec::new();
    let candidates = all().filter_map(|name| local_path(name)).chain(all().filter_map(|name| last_component(name)));
    for name in candidates {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let id = ContentId::Uuid(header.parent_unique_id);
    let content_id = Some(id).filter(|_| header.parent_unique_id != [0; 16]);
    if content_id.is_none() {
        warnings.push("the parent is not known by an id; whether it is the right one cannot be checked".to_owned());
    }
    let description = Description {
        name: own_name.clone().or_else(|| all().next().cloned()),
        unique_id: id.to_string().trim_start_matches("UUID ").to_owned(),
        time_stamp: header.parent_time_stamp.get(),
    };
    let modified = modified(header.parent_time_stamp.get());
    let reference = ParentReference { names, format: Some(super::FORMAT.name.to_owned()), content_id, modified };
    Ok(Parent { reference, description })
}

/// A time stamp counts seconds since the first of January 2000, UTC; Windows leaves it at 0 where it takes no note.
fn modified(stamp: u32) -> Option<SystemTime> {
    const YEAR_2000: Duration = Duration::from_secs(946_684_800);
    (stamp != 0).then(|| SystemTime::UNIX_EPOCH + YEAR_2000 + Duration::from_secs(stamp.into()))
}

/// The name behind a locator; empty for systems that no name is taken from, `None` when it cannot be where it should.
fn read_locator(file: &dyn BlockRead, locator: &ParentLocator) -> Result<Option<String>> {
    let (length, offset) = (u64::from(locator.data_length.get()), locator.data_offset.get());
    if length > LOCATOR_MAX || offset.checked_add(length).is_none_or(|end| end > file.size()) {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(length).expect("at most 64 KiB")];
    file.read_at(&mut bytes, offset)?;
    Ok(Some(match locator.platform_code {
        platform::W2RU | platform::W2KU => utf16(&bytes, ByteOrder::Little),
        platform::WI2R | platform::WI2K => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            encoding_rs::WINDOWS_1252.decode_without_bom_handling(&bytes[..end]).0.into_owned()
        }
        platform::MACX => file_url(&bytes),
        _ => String::new(),
    }))
}

/// Decodes UTF-16 up to a NUL. The byte order is what a mark says, or else what most characters below U+0100 have, or else
/// `usual`.
fn utf16(bytes: &[u8], usual: ByteOrder) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let end = units.iter().position(|unit| *unit == [0, 0]).unwrap_or(units.len());
    let mut units = &units[..end];
    let zeroes = |place: usize| units.iter().filter(|unit| unit[place] == 0).count();
    let order = match units.first() {
        Some([0xfe, 0xff]) => ByteOrder::Big,
        Some([0xff, 0xfe]) => ByteOrder::Little,
        _ if zeroes(0) > zeroes(1) => ByteOrder::Big,
        _ if zeroes(0) < zeroes(1) => ByteOrder::Little,
        _ => usual,
    };
    if matches!(units.first(), Some([0xfe, 0xff] | [0xff, 0xfe])) {
        units = &units[1..];
    }
    let characters = units.iter().map(|unit| match order {
        ByteOrder::Big => u16::from_be_bytes(*unit),
        ByteOrder::Little => u16::from_le_bytes(*unit),
    });
    char::decode_utf16(characters).map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The UTF-16 of a name, in the byte order of a locator or of the header.
pub(super) fn to_utf16(name: &str, big_endian: bool) -> Vec<u8> {
    name.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

/// The path of a `file:` URL, with its percent signs resolved.
fn file_url(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = &bytes[..end];
    let path = match text.strip_prefix(b"file://") {
        // What stands in front of the path is a host.
        Some(rest) => rest.iter().position(|byte| *byte == b'/').map_or(rest, |slash| &rest[slash..]),
        None => text,
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            decoded.push(byte);
            rest = &tail[2..];
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A name as a path of this system, where it can be one: no drive, no network.
fn local_path(name: &str) -> Option<String> {
    let path = name.replace('\\', "/");
    let path = path.trim_start_matches("./");
    let drive = path.split('/').next().is_some_and(|first| first.contains(':'));
    (!path.is_empty() && !drive && !path.starts_with("//")).then(|| path.to_owned())
}

/// What stands behind the last separator.
fn last_component(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    // `C:parent.vhd` is relative to the drive's folder.
    let last = match last.split_once(':') {
        Some((drive, rest)) if drive.len() == 1 => rest,
        _ => last,
    };
    (!last.is_empty()).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_are_read_whichever_is_usual() {
        for name in ["c:\\disks\\parent.vhd", "Диск.vhd", "父.vhd", "\u{1f4bf}.vhd"] {
            for usual in [ByteOrder::Big, ByteOrder::Little] {
                assert_eq!(utf16(&to_utf16(name, true), usual), name);
                assert_eq!(utf16(&to_utf16(name, false), usual), name);
            }
        }
        assert_eq!(utf16(b"\xfe\xff\x72\x36\0.", ByteOrder::Little), "父.");
        assert_eq!(utf16(b"a\0b\0\0\0c\0", ByteOrder::Big), "ab");
        assert_eq!(utf16(b"\xd8\x00\x00a\x00", ByteOrder::Big), "\u{fffd}a");
    }

    #[test]
    fn names_become_paths_of_this_system_or_names() {
        for (name, path, last) in [
            (".\\parent.vhd", Some("parent.vhd"), Some("parent.vhd")),
            ("..\\..\\a\\parent.vhd", Some("../../a/parent.vhd"), Some("parent.vhd")),
            ("C:\\a\\parent.vhd", None, Some("parent.vhd")),
            ("C:parent.vhd", None, Some("parent.vhd")),
            ("\\\\server\\share\\parent.vhd", None, Some("parent.vhd")),
            ("/home/a/parent.vhd", Some("/home/a/parent.vhd"), Some("parent.vhd")),
            ("folder\\", Some("folder/"), None),
        ] {
            assert_eq!(local_path(name).as_deref(), path, "{name}");
            assert_eq!(last_component(name).as_deref(), last, "{name}");
        }
        assert_eq!(file_url(b"file://localhost/a%20b/100%.vhd\0junk"), "/a b/100%.vhd");
        assert_eq!(file_url(b"file:///x.vhd"), "/x.vhd");
    }
}
