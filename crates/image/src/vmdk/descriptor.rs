//! The descriptor: the text that says what a VMDK is made of.
//!
//! "Virtual Disk Format 5.0", "The Descriptor File". It stands in a file of its own or embedded in a sparse extent.
//!
//! ```text
//! bytes ──► text::decode ──► lines ──► Descriptor { header, extents, ddb }
//! ```
//!
//! Writers differ in case, spacing around `=`, line ends and quoting, and people edit descriptors by hand; all of that is
//! read. What decides which bytes are the disk's is strict: an extent line that cannot be read is an error and never
//! skipped, since a dropped extent is a lost part of the disk.

use std::collections::BTreeMap;

use super::error::Fault;
use super::extent_line::ExtentLine;
use super::layout::{CAPACITY_MAX, DESCRIPTOR_MAX};
use super::text;

/// `CID` and `parentCID` of a disk that has none.
pub(crate) const CID_NONE: u32 = 0xffff_ffff;

/// What a descriptor says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// `version`.
    pub version: Option<u32>,
    /// The encoding the text was read in.
    pub encoding: String,
    /// `CID`: changes when the disk's content does.
    pub cid: Option<u32>,
    /// `parentCID`: the parent's `CID` when this disk was made from it, or [`CID_NONE`].
    pub parent_cid: Option<u32>,
    /// `createType` as spelled.
    pub create_type: Option<String>,
    /// `parentFileNameHint`, when not empty.
    pub parent_hint: Option<String>,
    /// `changeTrackPath`, when not empty.
    pub change_track_path: Option<String>,
    /// The extents, in the order of the disk.
    pub extents: Vec<ExtentLine>,
    /// The `ddb.` entries, by their names in lower case without that prefix; the first of a name counts.
    pub ddb: BTreeMap<String, String>,
    /// What a reader should know though it is no error.
    pub warnings: Vec<String>,
}

/// The parent that a descriptor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParentLink {
    /// Its name, as given.
    pub hint: Option<String>,
    /// By what it is known.
    pub id: Option<ParentId>,
}

/// By what a descriptor knows its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParentId {
    /// `parentCID`.
    Cid(u32),
    /// `ddb.uuid.parent`, as VirtualBox writes it.
    Uuid([u8; 16]),
}

impl Descriptor {
    /// Reads a descriptor; what follows the first NUL is padding.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let decoded = text::decode(bytes)?;
        let mut descriptor = Self { encoding: decoded.encoding.to_owned(), ..Self::default() };
        if decoded.guessed {
            descriptor
                .warnings
                .push("descriptor: it names no encoding and is not UTF-8; read as windows-1252".to_owned());
        }
        for (index, line) in decoded.text.split(['\n', '\r']).enumerate() {
            let line = line.trim_matches(|c: char| c.is_whitespace() || c.is_control());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            descriptor.line(line, index + 1)?;
        }
        descriptor.check_names()?;
        Ok(descriptor)
    }

    fn line(&mut self, line: &str, number: usize) -> Result<(), Fault> {
        if ExtentLine::looks_like(line) {
            self.extents.push(ExtentLine::parse(line, number)?);
            return Ok(());
        }
        let Some((key, value)) = line.split_once('=') else {
            // A word of its own means nothing to anybody; a few are worth a warning, a megabyte of them is not.
            if self.warnings.len() < MAX_WARNINGS {
                self.warnings.push(format!("descriptor: line {number} is not understood"));
            }
            return Ok(());
        };
        self.entry(&key.trim().to_ascii_lowercase(), unquote(value))
    }

    fn entry(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        match key {
            "version" => {
                let number = parse_number(value).ok_or_else(|| bad_value("version", value, "a number"))?;
                once("version", &mut self.version, number)
            }
            "cid" => once("CID", &mut self.cid, parse_cid("CID", value)?),
            "parentcid" => once("parentCID", &mut self.parent_cid, parse_cid("parentCID", value)?),
            "createtype" => once("createType", &mut self.create_type, value.to_owned()),
            "parentfilenamehint" if value.is_empty() => Ok(()),
            "parentfilenamehint" => once("parentFileNameHint", &mut self.parent_hint, value.to_owned()),
            "changetrackpath" if value.is_empty() => Ok(()),
            "changetrackpath" => once("changeTrackPath", &mut self.change_track_path, value.to_owned()),
            _ => {
                if let Some(name) = key.strip_prefix("ddb.") {
                    self.ddb.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
                Ok(())
            }
        }
    }

    /// A name that lost characters in decoding is not the name of the file.
    fn check_names(&self) -> Result<(), Fault> {
        let lost = |name: &str| name.contains(char::REPLACEMENT_CHARACTER);
        let fault = |key: String| Fault::NotDecodable { key, encoding: self.encoding.clone() };
        for (index, extent) in self.extents.iter().enumerate() {
            if extent.name.as_deref().is_some_and(lost) {
                return Err(fault(format!("the name of extent {}", index + 1)));
            }
        }
        match &self.parent_hint {
            Some(hint) if lost(hint) => Err(fault("parentFileNameHint".to_owned())),
            _ => Ok(()),
        }
    }

    /// Sectors of the disk: the sum of the extents.
    pub(crate) fn sectors(&self) -> Result<u64, Fault> {
        let sum: u128 = self.extents.iter().map(|extent| u128::from(extent.sectors)).sum();
        u64::try_from(sum).ok().filter(|sectors| *sectors <= CAPACITY_MAX).ok_or(Fault::ExtentsTooLarge(sum))
    }

    /// The parent, if the disk hangs from one.
    ///
    /// A disk that names a parent and says that it has none is neither read alone nor guessed to have one.
    pub(crate) fn parent(&self) -> Result<Option<ParentLink>, Fault> {
        let hint = self.parent_hint.clone();
        match self.parent_cid {
            Some(cid) if cid != CID_NONE => return Ok(Some(ParentLink { hint, id: Some(ParentId::Cid(cid)) })),
            _ => {}
        }
        // VirtualBox knows a parent of another format, which has no CID, by its UUID alone.
        if let Some(uuid) = self.uuid("uuid.parent").filter(|uuid| *uuid != [0; 16]) {
            return Ok(Some(ParentLink { hint, id: Some(ParentId::Uuid(uuid)) }));
        }
        match (hint, self.parent_cid) {
            (None, _) => Ok(None),
            (Some(hint), None) => Ok(Some(ParentLink { hint: Some(hint), id: None })),
            (Some(hint), Some(_)) => Err(Fault::ParentContradiction { hint }),
        }
    }

    /// A UUID of the disk data base in the usual spelling, as VirtualBox writes them.
    pub(crate) fn uuid(&self, name: &str) -> Option<[u8; 16]> {
        let text = self.ddb.get(name)?.trim_matches(['{', '}', ' ']);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let number = std::str::from_utf8(&digits)
            .ok()
            .filter(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u128::from_str_radix(number, 16).ok().map(u128::to_be_bytes)
    }
}

/// How many lines that are not understood are told one by one.
const MAX_WARNINGS: usize = 8;

/// Sets a value that may be given once, or again with the same value.
fn once<T: PartialEq + std::fmt::Display>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot {
        Some(first) if *first != value => {
            Err(Fault::DescriptorTwice { key, first: first.to_string(), second: value.to_string() })
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// The value without its quotes, and without a second pair that some writers leave inside.
fn unquote(value: &str) -> &str {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"') else { return value };
    match inner.rfind('"') {
        Some(end) => &inner[..end],
        None => inner,
    }
}

fn parse_number(value: &str) -> Option<u32> {
    value.parse().ok()
}

fn parse_cid(key: &'static str, value: &str) -> Result<u32, Fault> {
    let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")).unwrap_or(value);
    u32::from_str_radix(digits, 16).map_err(|_| bad_value(key, value, "a hexadecimal number of 32 bits"))
}

fn bad_value(key: &'static str, value: &str, expected: &'static str) -> Fault {
    Fault::DescriptorValue { key, value: value.chars().take(64).collect(), expected }
}

/// The first line of every descriptor that VMware's products and QEMU write.
const TITLE: &[u8] = b"# disk descriptorfile";

/// Whether a file of `size` bytes that begins with `head` is a descriptor: text up to the end or to its padding, with a
/// version, and a type or an extent.
///
/// Padding that makes the file longer than a descriptor can be is that of a raw disk which begins with such text, unless
/// the first line says that it is a descriptor: then it is one that is too long, which is not passed over in silence.
pub(crate) fn looks_like_descriptor(head: &[u8], size: Option<u64>) -> bool {
    let bytes = text::before_padding(head);
    let is_text = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1a);
    let marks = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let padding = &head[marks + bytes.len()..];
    // A raw disk may begin with text, even with a descriptor's; it goes on with something else or with many zeroes. A few
    // characters behind the first NUL are the end of a longer descriptor: QEMU writes a content ID of one to eight digits
    // over the old one.
    let behind_nul = padding.get(1..).unwrap_or_default();
    let left_over = behind_nul.iter().take_while(|byte| **byte != 0).count();
    let (left_over, zeroes) = behind_nul.split_at(left_over);
    let is_padding = left_over.len() < 8 && left_over.iter().all(is_text) && zeroes.iter().all(|byte| *byte == 0);
    let is_long = !padding.is_empty() && size > Some(DESCRIPTOR_MAX);
    let has_title = bytes.trim_ascii_start().get(..TITLE.len()).is_some_and(|line| line.eq_ignore_ascii_case(TITLE));
    if !bytes.iter().all(is_text) || !is_padding || (is_long && !has_title) {
        return false;
    }
    let (mut version, mut disk) = (false, false);
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let key = line.split_once('=').map(|(key, _)| key.trim());
        version |= key.is_some_and(|key| key.eq_ignore_ascii_case("version"));
        disk |= key.is_some_and(|key| key.eq_ignore_ascii_case("createType")) || ExtentLine::parse(line, 0).is_ok();
    }
    version && disk
}

#[cfg(test)]
mod tests {
    use transload_block::ErrorKind;

    use super::*;
    use crate::vmdk::extent_line::ExtentAccess;

    fn parse(text: &str) -> Descriptor {
        Descriptor::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_descriptor_with_the_end_of_a_longer_one_behind_it_is_recognised() {
        let text = "# Disk DescriptorFile\nversion=1\nCID=219132\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"a\" 0\n";
        for (rest, is_descriptor) in
            [("", true), ("\0\0", true), ("\0\n\0\0", true), ("\0a\"\n\0", true), ("\0\x01\0", false)]
        {
            let file = [text, rest].concat();
            assert_eq!(looks_like_descriptor(file.as_bytes(), Some(file.len() as u64)), is_descriptor, "{rest:?}");
        }
    }

    #[test]
    fn an_ordinary_descriptor() {
        let text = "# Disk DescriptorFile\nversion=1\nCID=8f67ca74\nparentCID=ffffffff\n\
            createType=\"twoGbMaxExtentSparse\"\n\nRW 4192256 SPARSE \"a-s001.vmdk\"\n\
            RW 100 SPARSE \"a-s002.vmdk\"\nddb.adapterType = \"ide\"\n";
        let descriptor = parse(text);
        assert_eq!(descriptor.cid, Some(0x8f67_ca74));
        assert_eq!(descriptor.create_type.as_deref(), Some("twoGbMaxExtentSparse"));
        assert_eq!(descriptor.sectors().unwrap(), 4_192_356);
        assert_eq!(descriptor.ddb["adaptertype"], "ide");
        assert_eq!(descriptor.parent().unwrap(), None);
        assert!(descriptor.warnings.is_empty());
    }

    #[test]
    fn every_other_way_to_write_it() {
        let text = "\u{feff}\r\n  # comment\r\n VERSION = 1\r\ncid=0x00000001\r\nParentCID =  FFFFFFFF \r\n\
            CREATETYPE=custom\r\n\trw   20480\tflat \"d\u{fc}rer \"b\".vmdk\"  0\r\n\
            RDONLY 5 VMFS \"x y.vmdk\" 7\r\nNOACCESS 3 ZERO\r\nRW 1 zero\r\n\0\0\0RW 9 FLAT";
        let descriptor = parse(text);
        assert_eq!(descriptor.extents.len(), 4);
        assert_eq!(descriptor.extents[0].name.as_deref(), Some("d\u{fc}rer \"b\".vmdk"));
        assert_eq!(descriptor.extents[1].offset, 7);
        assert_eq!(descriptor.extents[2].access, ExtentAccess::None);
        assert_eq!(descriptor.sectors().unwrap(), 20489);
    }

    #[test]
    fn a_device_line_of_a_windows_host() {
        let descriptor = parse("RW 63 FLAT \"\\\\.\\PhysicalDrive1\" 0 partitionUUID \"device\"");
        assert_eq!(descriptor.extents[0].name.as_deref(), Some("\\\\.\\PhysicalDrive1"));
        let descriptor = parse("RW 63 FLAT \"\\\\.\\PhysicalDrive1\" partitionUUID \"device\"");
        assert_eq!(descriptor.extents[0].offset, 0);
    }

    #[test]
    fn names_in_other_encodings() {
        let with = |encoding: &str, name: &[u8]| {
            let mut bytes = format!("version=1\nencoding=\"{encoding}\"\nRW 1 FLAT \"").into_bytes();
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b"\" 0\n");
            Descriptor::parse(&bytes).map(|descriptor| descriptor.extents[0].name.clone().unwrap())
        };
        assert_eq!(with("windows-1252", b"\xfcber").unwrap(), "\u{fc}ber");
        assert_eq!(with("GBK", b"\xb4\xc5\xc5\xcc").unwrap(), "\u{78c1}\u{76d8}");
        assert_eq!(with("Shift_JIS", b"\x83\x5c").unwrap(), "\u{30bd}");
        assert_eq!(with("UTF-8", "\u{fc}".as_bytes()).unwrap(), "\u{fc}");
        assert_eq!(with("klingon", b"plain").unwrap(), "plain");
        assert_eq!(with("klingon", b"\xfc").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(with("UTF-8", b"\xfc").unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_encoding_that_is_not_named_is_guessed_aloud() {
        let descriptor = Descriptor::parse(b"version=1\nRW 1 FLAT \"\xfc\" 0").unwrap();
        assert_eq!(descriptor.extents[0].name.as_deref(), Some("\u{fc}"));
        assert_eq!(descriptor.warnings.len(), 1);
    }

    #[test]
    fn lines_that_must_not_be_skipped() {
        for line in [
            "RW x FLAT \"a\" 0",
            "RW -1 FLAT \"a\" 0",
            "RW 1",
            "RW 1 FLAT",
            "RW 1 FLAT \"a",
            "RW 1 FLAT \"a\" 99999999999999999999",
            "RW 1 FLAT \"a\" -1",
            "CID=xyz",
            "CID=1\nCID=2",
            "createType=\"vmfs\"\ncreateType=\"custom\"",
            "version=one",
        ] {
            assert_eq!(Descriptor::parse(line.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{line}");
        }
        assert_eq!(Descriptor::parse(b"RW 1 QUANTUM \"a\"").unwrap_err().kind(), ErrorKind::Unsupported);
        let huge = parse("RW 18446744073709551615 ZERO\nRW 18446744073709551615 ZERO");
        assert_eq!(huge.sectors().unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn parents() {
        let link = |text: &str| parse(text).parent();
        assert_eq!(link("parentCID=ffffffff").unwrap(), None);
        let both = link("parentCID=12\nparentFileNameHint=\"/vmfs/a.vmdk\"").unwrap().unwrap();
        assert_eq!((both.hint.as_deref(), both.id), (Some("/vmfs/a.vmdk"), Some(ParentId::Cid(0x12))));
        let uuid = "ddb.uuid.parent=\"a4311bef-3782-4693-bbd6-f46756822a7c\"\nparentCID=ffffffff";
        let Some(ParentLink { hint: None, id: Some(ParentId::Uuid(bytes)) }) = link(uuid).unwrap() else { panic!() };
        assert_eq!((bytes[0], bytes[15]), (0xa4, 0x7c));
        assert_eq!(link("ddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"").unwrap(), None);
        assert_eq!(link("parentFileNameHint=\"a\"").unwrap().unwrap().id, None);
        assert!(link("parentCID=ffffffff\nparentFileNameHint=\"a\"").is_err());
    }

    #[test]
    fn recognition() {
        let yes = |text: &[u8]| assert!(looks_like_descriptor(text, Some(text.len() as u64)), "{text:?}");
        let no = |text: &[u8]| assert!(!looks_like_descriptor(text, Some(text.len() as u64)), "{text:?}");
        yes(b"# Disk DescriptorFile\nversion=1\ncreateType=\"vmfs\"\n");
        yes(b"\xef\xbb\xbf\r\n#x\r\n\r\nVersion = 1\r\nRW 1 FLAT \"a\" 0\0\0");
        no(b"# Disk DescriptorFile\nversion=1\n");
        no(b"# Disk DescriptorFile\ncreateType=\"vmfs\"\n");
        no(b"version=1\ncreateType=\"vmfs\"\n\0\0x");
        no(b"\x01version=1\ncreateType=\"vmfs\"\n");
        no(b"hello");
        no(b"");
        let padded = b"version=1\ncreateType=\"vmfs\"\n\0\0";
        assert!(!looks_like_descriptor(padded, Some(64 << 20)));
        let titled = b"\xef\xbb\xbf\r\n# Disk DescriptorFile\nversion=1\ncreateType=\"vmfs\"\n\0\0";
        assert!(looks_like_descriptor(titled, Some(300 << 20)));
    }
}
