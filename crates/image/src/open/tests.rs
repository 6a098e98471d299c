//! Opening and walking chains, with a format of the tests' own whose files are a few lines of text.
//!
//! ```text
//! TEST LAYER
//! parent=base          may stand several times
//! format=raw           the parent's
//! wants=0000abcd       the parent's CID
//! cid=00001234         its own
//! data=2               the index of the one kilobyte that is not a hole, filled with the digit
//! ```

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use transload_block::{BlockLimits, BlockStatus, Capabilities, Error, ErrorKind, Extent, Memory, Storage, check_range};

use super::*;
use crate::{FORMATS, Match, OpenRequest, ProbeWindow};

/// The row of the tests' format in the table, there only in this crate's own tests.
pub(crate) const FORMAT: Format = Format {
    name: "test-layer",
    aliases: &[],
    title: "Test layer",
    extensions: &[],
    variants: &[],
    open_options: &[],
    create_options: &[],
    probe,
    describe: None,
    open: Some(open_test_layer),
    stream: None,
    create: None,
    sink: None,
    measure: None,
    check: None,
    resize: None,
};

const MAGIC: &[u8] = b"TEST LAYER\n";
const UNIT: u64 = 1024;
const SIZE: u64 = 8 * UNIT;

fn probe(window: &ProbeWindow<'_>) -> Match {
    if window.head_has(0, MAGIC) { Match::Yes } else { Match::No }
}

/// Holes but for one unit, which is full of one byte.
#[derive(Debug)]
struct OneUnit {
    range: Range<u64>,
    byte: u8,
}

impl BlockRead for OneUnit {
    fn size(&self) -> u64 {
        SIZE
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, SIZE)?;
        for (at, byte) in (offset..).zip(buf) {
            *byte = if self.range.contains(&at) { self.byte } else { 0 };
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let inside = self.range.contains(&range.start);
        let status = if inside { BlockStatus::Data } else { BlockStatus::Hole };
        let border = if inside { self.range.end } else { self.range.start };
        let end = if border > range.start { border.min(range.end) } else { range.end };
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

fn open_test_layer(request: OpenRequest<'_>) -> Result<Layer> {
    let source = request.source;
    assert!(request.cache_bytes > 0);
    let mut text = vec![0; usize::try_from(source.bytes().size()).unwrap()];
    source.bytes().read_at(&mut text, 0)?;
    let text = String::from_utf8(text).unwrap();
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).collect()
    };
    let number = |key: &str| values(key).first().map(|value| u32::from_str_radix(value, 16).unwrap());
    if !text.starts_with("TEST LAYER") {
        return Err(Error::new(ErrorKind::NotThisFormat, "magic"));
    }
    if !values("broken").is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "header: broken"));
    }
    let (names, wants) = (values("parent"), number("wants").map(ContentId::VmdkCid));
    let parent = (!names.is_empty() || wants.is_some()).then(|| ParentReference {
        names,
        format: values("format").first().cloned(),
        content_id: wants,
        modified: number("time").map(|time| SystemTime::UNIX_EPOCH + Duration::from_secs(time.into())),
    });
    let data = u64::from(number("data").unwrap_or(0));
    let byte = b'0' + u8::try_from(data).unwrap();
    let device = Arc::new(OneUnit { range: data * UNIT..(data + 1) * UNIT, byte });
    let content_ids = number("cid").map(ContentId::VmdkCid).into_iter().collect();
    let info = ImageInfo::default();
    Ok(Layer { format: &FORMAT, source, device, writer: None, info, parent, content_ids })
}

/// A folder with files of the tests' format.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        for (name, lines) in files {
            let lines = lines.replace(' ', "\n");
            fs::write(temp.path().join(name), format!("TEST LAYER\n{lines}\n")).unwrap();
        }
        Self(temp)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> Result<Opened> {
        open_path(&self.path(name), &OpenSettings::default())
    }

    fn refused(&self, name: &str, kind: ErrorKind, words: &[&str]) -> Error {
        let error = self.open(name).expect_err(name);
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error} should say {word:?}");
        }
        error
    }
}

fn layers(opened: &Opened) -> Vec<String> {
    opened.layers.iter().map(|layer| file_name(layer.source.path().unwrap())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn digits(opened: &Opened) -> String {
    let mut bytes = vec![0; usize::try_from(opened.device.size()).unwrap()];
    opened.device.read_at(&mut bytes, 0).unwrap();
    bytes.chunks(1024).map(|unit| if unit[0] == 0 { '.' } else { char::from(unit[0]) }).collect()
}

#[test]
fn a_parent_of_another_time_is_a_warning() {
    let folder =
        Folder::new(&[("base", "cid=1"), ("top", "parent=base wants=1 time=100"), ("plain", "parent=base wants=1")]);
    let base = fs::File::options().write(true).open(folder.path("base")).unwrap();
    let warnings = |name| folder.open(name).unwrap().layers[0].info.warnings.clone();
    base.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(256_700)).unwrap();
    assert_eq!(warnings("top"), [""; 0], "the same time, to the second");
    base.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(257)).unwrap();
    assert!(warnings("top")[0].contains("257 seconds"), "{:?}", warnings("top"));
    assert_eq!(warnings("plain"), [""; 0]);
}

#[test]
fn a_single_layer_is_its_own_device() {
    let folder = Folder::new(&[("one", "data=3")]);
    let opened = folder.open("one").unwrap();
    assert_eq!(digits(&opened), "...3....");
    assert!(Arc::ptr_eq(&opened.device, &opened.layers[0].device));
    assert_eq!(opened.layers[0].info.file_size, Some(18));
    assert!(opened.layers[0].info.allocated_size.is_some());
}

#[test]
fn a_chain_shows_what_lies_below_and_raw_may_be_at_its_end() {
    let folder =
        Folder::new(&[("top", "parent=middle wants=a data=1"), ("middle", "parent=base format=raw cid=a data=2")]);
    fs::write(folder.path("base"), vec![b'r'; 8192]).unwrap();
    let opened = folder.open("top").unwrap();
    assert_eq!(layers(&opened), ["top", "middle", "base"]);
    assert_eq!(digits(&opened), "r12rrrrr");
    let settings = OpenSettings { chain: false, ..OpenSettings::default() };
    let alone = open_path(&folder.path("top"), &settings).unwrap();
    assert_eq!((layers(&alone).len(), digits(&alone).as_str()), (1, ".1......"));
}

#[test]
fn the_parents_format_is_what_the_child_says() {
    let folder = Folder::new(&[
        ("probed", "parent=base"),
        ("named", "parent=base format=TEST-LAYER"),
        ("raw", "parent=base format=raw"),
        ("strange", "parent=base format=whatever"),
        ("base", "data=5"),
    ]);
    assert_eq!(folder.open("probed").unwrap().layers[1].format.name, "test-layer");
    assert_eq!(folder.open("named").unwrap().layers[1].format.name, "test-layer");
    assert_eq!(folder.open("raw").unwrap().layers[1].format.name, "raw");
    folder.refused("strange", ErrorKind::Unsupported, &["strange", "'whatever'"]);
}

#[test]
fn what_is_declared_raw_is_never_probed() {
    let folder = Folder::new(&[("one", "parent=/etc/passwd")]);
    let settings = OpenSettings { format: Format::by_name("raw"), ..OpenSettings::default() };
    let opened = open_path(&folder.path("one"), &settings).unwrap();
    assert_eq!((opened.layers.len(), opened.layers[0].format.name), (1, "raw"));
}

#[test]
fn a_declared_format_that_the_bytes_are_not_of_is_an_error() {
    let folder = Folder::new(&[("top", "parent=base format=test-layer")]);
    fs::write(folder.path("base"), "something else").unwrap();
    folder.refused("top", ErrorKind::NotThisFormat, &["base"]);
}

#[test]
fn a_changed_parent_is_corrupt_and_both_identifiers_are_said() {
    let folder = Folder::new(&[
        ("top", "parent=base wants=1234abcd"),
        ("base", "cid=cafe0001"),
        ("other", "parent=nameless wants=1"),
        ("nameless", "data=1"),
    ]);
    let words = ["top", "base", "changed after the snapshot was taken", "1234abcd", "cafe0001"];
    folder.refused("top", ErrorKind::Corrupt, &words);
    folder.refused("other", ErrorKind::Corrupt, &["00000001", "has none"]);
}

#[test]
fn names_are_tried_in_turn_and_the_first_error_is_told() {
    let folder = Folder::new(&[
        ("second", "parent=/somewhere/else/base.vmdk parent=base"),
        ("neither", "parent=/somewhere/else/base.vmdk parent=missing"),
        ("broken", "parent=bad parent=base"),
        ("bad", "broken=1"),
        ("base", "data=5"),
    ]);
    assert_eq!(layers(&folder.open("second").unwrap()), ["second", "base"]);
    let error = folder.refused("neither", ErrorKind::Denied, &["neither", "/somewhere/else/base.vmdk"]);
    assert!(error.remedy().is_some());
    let error = folder.refused("broken", ErrorKind::Corrupt, &["bad: header"]);
    assert_eq!(error.to_string(), format!("corrupt: {}: header: broken", folder.path("bad").display()));
}

#[test]
fn hostile_names_end_at_the_gate() {
    for name in ["../base", "json:{}", "nbd://localhost/x", "/etc/passwd", "file:base"] {
        let folder = Folder::new(&[("top", &format!("parent={name}")), ("base", "data=5")]);
        folder.refused("top", ErrorKind::Denied, &["top", name]);
    }
    let folder = Folder::new(&[("top", "parent=base"), ("base", "data=5")]);
    let settings = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
    assert_eq!(open_path(&folder.path("top"), &settings).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(open_path(&folder.path("base"), &settings).unwrap().layers.len(), 1);
}

#[test]
fn a_cycle_is_corrupt_whatever_the_names() {
    let folder = Folder::new(&[("a", "parent=b"), ("b", "parent=c"), ("self", "parent=link")]);
    std::os::unix::fs::symlink("a", folder.path("c")).unwrap();
    std::os::unix::fs::symlink("self", folder.path("link")).unwrap();
    folder.refused("a", ErrorKind::Corrupt, &["cycle", "a -> ", "b -> "]);
    folder.refused("self", ErrorKind::Corrupt, &["cycle"]);
    fs::remove_file(folder.path("c")).unwrap();
    fs::hard_link(folder.path("a"), folder.path("c")).unwrap();
    folder.refused("a", ErrorKind::Corrupt, &["cycle"]);
}

#[test]
fn sixteen_references_are_followed_and_one_more_is_not() {
    let names: Vec<_> = (0..18).map(|index| format!("layer{index}")).collect();
    let lines: Vec<_> = (1..19).map(|index| format!("parent=layer{index}")).collect();
    let mut files: Vec<_> = names.iter().map(String::as_str).zip(lines.iter().map(String::as_str)).collect();
    files[17].1 = "data=0";
    let folder = Folder::new(&files);
    assert_eq!(folder.open("layer1").unwrap().layers.len(), 17);
    folder.refused("layer0", ErrorKind::TooLarge, &["16"]);
}

#[test]
fn a_parent_known_only_by_its_identifier_is_found_beside_the_child() {
    let folder = Folder::new(&[
        ("top", "wants=77 cid=78 data=1"),
        ("base", "cid=77 data=2"),
        ("bad", "broken=1"),
        ("stranger", "cid=79"),
    ]);
    fs::write(folder.path("raw"), "cid=77").unwrap();
    fs::create_dir(folder.path("sub")).unwrap();
    assert_eq!(layers(&folder.open("top").unwrap()), ["top", "base"]);
    fs::copy(folder.path("base"), folder.path("copy")).unwrap();
    folder.refused("top", ErrorKind::InvalidInput, &["base", "copy", "CID 00000077"]);
    fs::remove_file(folder.path("base")).unwrap();
    fs::remove_file(folder.path("copy")).unwrap();
    folder.refused("top", ErrorKind::Io, &["CID 00000077", "none of the 4 files"]);
}

#[test]
fn a_child_is_never_its_own_parent_by_identifier() {
    let folder = Folder::new(&[("top", "wants=5 cid=5")]);
    folder.refused("top", ErrorKind::Io, &["none of"]);
}

#[test]
fn a_recognised_format_that_cannot_be_read_is_named() {
    let folder = Folder::new(&[]);
    fs::write(folder.path("x"), b"LUKS\xba\xbe\0\x01").unwrap();
    let error = folder.refused("x", ErrorKind::Unsupported, &["x: this is LUKS"]);
    assert_eq!(error.remedy(), Some("to take its bytes as they are, name the format with -f raw"));
}

#[test]
fn ambiguous_bytes_are_refused_until_the_format_is_named() {
    let folder = Folder::new(&[("two", "data=1")]);
    let mut bytes = fs::read(folder.path("two")).unwrap();
    bytes.resize(1 << 16, 0);
    bytes[32768..32775].copy_from_slice(b"\x01CD001\x01");
    fs::write(folder.path("two"), bytes).unwrap();
    let error = folder.refused("two", ErrorKind::InvalidInput, &["two", "ambiguous", "iso or test-layer"]);
    assert_eq!(error.remedy(), Some("name the format with -f"));
    let settings = OpenSettings { format: Format::by_name("raw"), ..OpenSettings::default() };
    assert_eq!(open_path(&folder.path("two"), &settings).unwrap().device.size(), 1 << 16);
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let folder = Folder::new(&[]);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, folder.path("fifo"), fifo, rustix::fs::Mode::from(0o600), 0).unwrap();
    folder.refused("fifo", ErrorKind::InvalidInput, &["fifo"]);
    folder.refused("", ErrorKind::InvalidInput, &[]);
    folder.refused("missing", ErrorKind::Io, &["missing"]);
}

#[test]
fn a_source_in_memory_has_no_folder_to_look_for_parents_in() {
    let bytes = b"TEST LAYER\nparent=base\n".to_vec();
    let error = open(Source::new(Arc::new(Memory::from(bytes))), &OpenSettings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn raw_opens_for_writing() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(vec![7; 1000]));
    let settings = OpenSettings { access: Access::ReadWrite, ..OpenSettings::default() };
    let opened = open(Source::writable(Arc::clone(&storage)), &settings).unwrap();
    let writer = opened.layers[0].writer.as_ref().unwrap();
    writer.write_at(b"end", 997).unwrap();
    assert_eq!(writer.write_at(b"behind", 997).unwrap_err().kind(), ErrorKind::OutOfRange);
    writer.finish().unwrap();
    opened.writer().unwrap().write_at(b"E", 997).unwrap();
    let mut read = [0; 3];
    opened.device.read_at(&mut read, 997).unwrap();
    assert_eq!(&read, b"End");
    assert!(open(Source::new(Arc::clone(&storage) as _), &OpenSettings::default()).unwrap().writer().is_none());
    let error = open(Source::new(storage), &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

#[test]
fn content_ids_are_shown_as_the_formats_write_them() {
    assert_eq!(ContentId::VmdkCid(0xab).to_string(), "CID 000000ab");
    let uuid = ContentId::Uuid(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
    assert_eq!(uuid.to_string(), "UUID 01234567-89ab-cdef-0123-456789abcdef");
}

#[test]
fn every_row_has_names_of_its_own() {
    let names: Vec<_> = FORMATS.iter().flat_map(|format| std::iter::once(&format.name).chain(format.aliases)).collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| other.eq_ignore_ascii_case(name)).count(), 1, "{name}");
    }
    assert_eq!(FORMATS.last().unwrap().name, "raw");
    let extensions: Vec<_> = FORMATS.iter().flat_map(|format| format.extensions).collect();
    for extension in &extensions {
        assert_eq!(extensions.iter().filter(|other| *other == extension).count(), 1, "{extension}");
    }
}
