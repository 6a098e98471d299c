//! Disks inside compressed files: gzip (RFC 1952), bzip2, xz and Zstandard (RFC 8878), told by their magic, never by a name.
//!
//! What is inside is detected in turn. Everything is unpacked on a thread of its own, xz on several; members, streams
//! and frames that follow each other are one file, checksums are verified, and what breaks off or is followed by something
//! else is corrupt.
//!
//! ```text
//! members.rs   compressed bytes ──► the bytes inside, within limits.rs         ahead.rs   the same on a thread
//! stream.rs    read once: a raw disk, a streamOptimized VMDK                   survey.rs  read once to learn the size
//! device.rs    read in order, for what walks over a disk                       inner.rs   what is inside
//! pack.rs      a disk ──► compressed bytes, by many threads                    sink.rs    gzip and Zstandard as targets
//! ```
//!
//! A format that is read at random places has to be unpacked into a file first, which is the caller's decision: [`contents`]
//! gives the bytes.

mod ahead;
mod device;
mod inner;
mod limits;
mod members;
pub(crate) mod pack;
mod sink;
mod stream;
mod survey;

use std::io::Read;
use std::sync::Arc;

use transload_block::{BlockRead, BlockStream, Error, ErrorKind, Result};

use crate::{
    Access, CheckReport, CheckRequest, Finding, FindingKind, Format, ImageInfo, Layer, Match, OpenRequest, OptionKind,
    OptionSpec, OptionValues, ProbeWindow, Source, StreamRequest, Variant, dmg, gcp,
};
use device::Forward;
use inner::Inside;
use limits::Limits;
use survey::Survey;

/// The row of gzip in the table of formats.
pub const GZIP: Format = Format {
    variants: &[
        packed("stream", "one stream, which every reader takes"),
        packed("members", "a member for each MiB, packed by the fastest codec"),
    ],
    create_options: &[OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&["stream", "members"]),
        default: "stream",
        help: "one stream, or many members, of which some readers take the first alone",
    }],
    sink: Some(sink::gzip),
    ..row("gzip", &["gz"], "gzip-compressed disk", &["gz"], gzip, &OF_GZIP)
};
/// The row of bzip2 in the table of formats.
pub const BZIP2: Format = row("bzip2", &["bz2"], "bzip2-compressed disk", &["bz2"], bzip2, &OF_BZIP2);
/// The row of xz in the table of formats.
pub const XZ: Format = row("xz", &[], "xz-compressed disk", &["xz"], xz, &OF_XZ);
/// The row of Zstandard in the table of formats.
pub const ZSTD: Format = Format {
    variants: &[packed("frames", "a frame for each MiB, with its size and checksum")],
    create_options: &[OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&["frames"]),
        default: "frames",
        help: "a frame for each MiB",
    }],
    sink: Some(sink::zstd),
    ..row("zstd", &["zst"], "Zstandard-compressed disk", &["zst"], zstd, &OF_ZSTD)
};

/// A way to write a compressed file: from front to back alone.
const fn packed(name: &'static str, summary: &'static str) -> Variant {
    Variant { name, summary, read: true, write: false, stream_read: true, stream_write: true }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Zstd];

    pub(crate) fn format(self) -> &'static Format {
        match self {
            Self::Gzip => &GZIP,
            Self::Bzip2 => &BZIP2,
            Self::Xz => &XZ,
            Self::Zstd => &ZSTD,
        }
    }

    fn of(format: &Format) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.format() == format)
    }
}

/// What a row can do: functions without a context, one set for each kind.
struct Abilities {
    describe: fn(&Source) -> Result<ImageInfo>,
    open: fn(OpenRequest<'_>) -> Result<Layer>,
    stream: fn(StreamRequest<'_>) -> Result<Box<dyn BlockStream>>,
    check: fn(CheckRequest<'_>) -> Result<CheckReport>,
}

macro_rules! abilities {
    ($name:ident, $kind:expr) => {
        static $name: Abilities = Abilities {
            describe: |source| describe($kind, source),
            open: |request| open($kind, request),
            stream: |request| stream::begin($kind, request),
            check: |request| check($kind, request),
        };
    };
}

abilities!(OF_GZIP, Kind::Gzip);
abilities!(OF_BZIP2, Kind::Bzip2);
abilities!(OF_XZ, Kind::Xz);
abilities!(OF_ZSTD, Kind::Zstd);

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    title: &'static str,
    extensions: &'static [&'static str],
    probe: fn(&ProbeWindow<'_>) -> Match,
    abilities: &Abilities,
) -> Format {
    Format {
        name,
        aliases,
        title,
        extensions,
        variants: &[],
        open_options: OPTIONS,
        create_options: &[],
        probe,
        describe: Some(abilities.describe),
        open: Some(abilities.open),
        stream: Some(abilities.stream),
        create: None,
        sink: None,
        measure: None,
        check: Some(abilities.check),
        resize: None,
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "inner_format",
        kind: OptionKind::Text,
        default: "found out",
        help: "the format of what is inside",
    },
    OptionSpec { name: "max_size", kind: OptionKind::Size, default: "64T", help: "the most bytes that are unpacked" },
    OptionSpec {
        name: "max_ratio",
        kind: OptionKind::Number,
        default: "1100",
        help: "the most bytes that one byte may unpack to, from 64 GiB on",
    },
];

/// A DMG begins with its first compressed block, which may be a bzip2 or xz stream: there the magic is a part of the
/// disk image and not a wrapper around it.
fn is_wrapper(window: &ProbeWindow<'_>) -> bool {
    !dmg::has_trailer(window)
}

fn when(condition: bool) -> Match {
    if condition { Match::Yes } else { Match::No }
}

fn gzip(window: &ProbeWindow<'_>) -> Match {
    // Method 8 is deflate, the only one; the upper three flags are reserved and zero.
    let flags = window.head.get(3).copied().unwrap_or(0xff);
    when(window.head_has(0, &[0x1f, 0x8b, 8]) && flags & 0xe0 == 0 && is_wrapper(window))
}

fn bzip2(window: &ProbeWindow<'_>) -> Match {
    // The block size in units of 100 kB, then a block's magic (the digits of pi) or, for nothing at all, the end's.
    let level = window.head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level));
    let block = window.head_has(4, &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]);
    let end = window.head_has(4, &[0x17, 0x72, 0x45, 0x38, 0x50, 0x90]);
    when(window.head_has(0, b"BZh") && level && (block || end) && is_wrapper(window))
}

fn xz(window: &ProbeWindow<'_>) -> Match {
    // Behind the magic stand the stream's flags, whose first byte is zero.
    when(window.head_has(0, b"\xfd7zXZ\0\0") && is_wrapper(window))
}

fn zstd(window: &ProbeWindow<'_>) -> Match {
    // Frames that are to be skipped may stand in front: pzstd begins with one.
    let mut at = 0;
    while window.head.get(at).is_some_and(|byte| byte & 0xf0 == 0x50) && window.head_has(at + 1, &[0x2a, 0x4d, 0x18]) {
        let length = window.le32(at + 4).and_then(|length| usize::try_from(length).ok());
        let Some(next) = length.and_then(|length| at.checked_add(8)?.checked_add(length)) else { return Match::No };
        at = next;
    }
    // Bit 3 of the frame header's descriptor is reserved and zero.
    let descriptor = window.head.get(at.saturating_add(4)).copied().unwrap_or(0xff);
    when(window.head_has(at, &[0x28, 0xb5, 0x2f, 0xfd]) && descriptor & 0x08 == 0)
}

/// The bytes inside `source`, which is of `format`, unpacked on a thread of their own; `None` when the format is no
/// compressed file. `options` are values for the format's `open_options`.
///
/// # Errors
/// While reading: `Corrupt` when the file breaks off, is damaged, fails a checksum or is followed by something else;
/// `TooLarge` when it holds more than the options allow; what `source` answers.
pub fn contents(source: &Source, format: &Format, options: &OptionValues) -> Result<Option<Box<dyn Read + Send>>> {
    let Some(kind) = Kind::of(format) else { return Ok(None) };
    inside(kind, source, &Limits::of(options)).map(Some)
}

/// The disk inside `source`, which is of `format`, as a stream; `None` when the format is no compressed file. With
/// `sized`, a stream that does not know its size is read twice, the first time to learn it.
///
/// # Errors
/// `Unsupported` when what is inside is read at random places; as [`contents`].
pub fn stream_of(
    source: &Source,
    format: &Format,
    options: &OptionValues,
    sized: bool,
) -> Result<Option<Box<dyn BlockStream>>> {
    let Some(kind) = Kind::of(format) else { return Ok(None) };
    let input = || inside(kind, source, &Limits::of(options));
    let declared = Inside::declared(options)?;
    let stream = stream::of_inside(kind, input()?, declared)?;
    if !sized || stream.size().is_some() {
        return Ok(Some(stream));
    }
    drop(stream);
    let survey = Survey::read(input()?)?;
    let found = Inside::of(&survey, declared)?;
    let stream = stream::of_inside(kind, input()?, Some(found.format))?;
    Ok(Some(Box::new(stream::Sized::new(stream, survey.size))))
}

fn inside(kind: Kind, source: &Source, limits: &Limits) -> Result<Box<dyn Read + Send>> {
    let input = Box::new(survey::Bytes::new(Arc::clone(source.bytes())));
    ahead::unpack(kind, input, limits)
}

/// Opens the gzip file that a request has.
pub(crate) fn open_gzip(request: OpenRequest<'_>) -> Result<Layer> {
    open(Kind::Gzip, request)
}

/// Says what is inside a gzip file.
pub(crate) fn describe_gzip(source: &Source) -> Result<ImageInfo> {
    describe(Kind::Gzip, source)
}

/// Begins to read what is inside a gzip file.
pub(crate) fn stream_gzip(request: StreamRequest<'_>) -> Result<Box<dyn BlockStream>> {
    stream::begin(Kind::Gzip, request)
}

/// What the disk inside says of itself. All of it is unpacked: nothing else tells how large it is, and whether it is sound.
fn describe(kind: Kind, source: &Source) -> Result<ImageInfo> {
    let survey = Survey::read(inside(kind, source, &Limits::of(&OptionValues::default()))?)?;
    let found = Inside::of(&survey, None)?;
    let describe = found.format.describe.ok_or_else(|| found.needs_a_file(kind))?;
    let seen = Source::new(Arc::new(survey.glance()));
    let seen = source.path().into_iter().fold(seen, Source::with_path);
    let info = describe(&seen).map_err(|error| match error.kind() {
        ErrorKind::OutOfRange => found.needs_a_file(kind),
        _ => error,
    })?;
    Ok(wrapped_info(kind, source, info))
}

fn wrapped_info(kind: Kind, source: &Source, mut info: ImageInfo) -> ImageInfo {
    info.details.insert("container".to_owned(), kind.format().name.to_owned());
    let (file_size, allocated_size) = (Some(source.bytes().size()), source.allocated_size());
    ImageInfo { file_size, allocated_size, ..info }
}

/// A raw disk inside, as a device that is cheap to read in order.
fn open(kind: Kind, request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, options, access, .. } = request;
    let format = kind.format();
    if access == Access::ReadWrite {
        let what = format!("{}: what is inside a compressed file is only read", format.title);
        return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("decompress it first"));
    }
    let limits = Limits::of(options);
    let survey = Survey::read(inside(kind, &source, &limits)?)?;
    let found = Inside::of(&survey, Inside::declared(options)?)?;
    let describe = found.format.describe.ok_or_else(|| found.needs_a_file(kind))?;
    let is_archive = found.format == &gcp::FORMAT;
    if found.format.name != "raw" && !is_archive {
        return Err(found.needs_a_file(kind));
    }
    let info = describe(&Source::new(Arc::new(survey.glance())))?;
    let info = wrapped_info(kind, &source, info);
    let forward: Arc<dyn BlockRead> = Arc::new(Forward::new(kind, Arc::clone(source.bytes()), limits, survey));
    let device = if is_archive { gcp::member(forward)? } else { forward };
    Ok(Layer { format, source, device, writer: None, info, parent: None, content_ids: Vec::new() })
}

/// Unpacks all of it, which verifies the checksums that the file has.
fn check(kind: Kind, request: CheckRequest<'_>) -> Result<CheckReport> {
    let CheckRequest { source, repair, .. } = request;
    if repair {
        return Err(Error::new(ErrorKind::Unsupported, "a compressed file cannot be repaired"));
    }
    let size = source.bytes().size();
    let mut report = CheckReport { image_end_offset: size, ..CheckReport::default() };
    match inside(kind, &source, &Limits::of(&OptionValues::default())).and_then(Survey::read) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            report.add(Finding { kind: FindingKind::Corruption, message: error.to_string(), fixed: false });
        }
        read => drop(read?),
    }
    Ok(report)
}

/// Unpacks any bytes as whatever compressed file they are, and reads the disk inside both ways: the stream and the device have
/// the same bytes, and damage is `Corrupt`.
#[doc(hidden)]
pub fn fuzz_read(bytes: &[u8]) {
    let window = ProbeWindow { head: &bytes[..bytes.len().min(ProbeWindow::HEAD)], tail: &[], size: None };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| (kind.format().probe)(&window) == Match::Yes) else { return };
    // Four megabytes are enough to see that a bound holds.
    let mut options = OptionValues::default();
    options.set(OPTIONS, "max_size", "4M").expect("a size");
    options.set(OPTIONS, "inner_format", "raw").expect("a text");
    let source = Source::new(Arc::new(transload_block::Memory::from(bytes.to_vec())));
    let mut whole = Vec::new();
    let read = contents(&source, kind.format(), &options).expect("memory can be read").expect("a compressed file");
    match { read }.read_to_end(&mut whole).map_err(|error| Error::io("read", error)) {
        Ok(_) => {
            assert!(whole.len() <= 4 << 20);
            let gate = &crate::ReferenceGate::Deny;
            let request =
                OpenRequest { source, gate, options: &options, access: Access::ReadOnly, cache_bytes: 1 << 16 };
            let device = open(kind, request).expect("what can be unpacked is a raw disk").device;
            let mut again = vec![0; whole.len()];
            device.read_at(&mut again, 0).expect("what was unpacked once");
            assert!(again == whole);
            crate::properties::device(&*device);
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge | ErrorKind::Unsupported),
            "{error}"
        ),
    }
}
