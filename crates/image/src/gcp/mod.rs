//! Images for Google Compute Engine: a raw disk called `disk.raw` in a tar archive, compressed by gzip.
//!
//! "Manually import boot disks" of the Compute Engine documentation: the archive is of GNU tar's old format (`--format=oldgnu`),
//! sparse (`-S`), and the disk a whole number of GiB. A disk of another size is made longer with zeroes.
//!
//! ```text
//! tar.rs   the header, and its map of a sparse file        sink.rs   writing, packed by many threads
//! read.rs  the member as a device, and read once
//! ```

mod read;
mod sink;
mod tar;

use std::io::{Cursor, Read};
use std::sync::Arc;

use transload_block::{BlockRead, BlockStream, Error, Result};

use crate::mapped::info;
use crate::{
    Access, Format, ImageInfo, Layer, Match, OpenRequest, OptionKind, OptionSpec, OptionValues, ProbeWindow, Source,
    StreamRequest, Variant, wrapped,
};
use read::{Member, MemberStream};
use tar::Header;

/// The row of these images in the table of formats.
pub const FORMAT: Format = Format {
    name: "gcp",
    aliases: &[],
    title: "Google Cloud image (disk.raw in tar.gz)",
    extensions: &["tar.gz"],
    variants: &[Variant {
        name: "oldgnu",
        summary: "disk.raw in a sparse tar archive of GNU's old format, compressed by gzip",
        read: true,
        write: false,
        stream_read: true,
        stream_write: true,
    }],
    open_options: &[],
    create_options: &[
        OptionSpec {
            name: "subformat",
            kind: OptionKind::Choice(&["oldgnu"]),
            default: "oldgnu",
            help: "the format of the archive",
        },
        OptionSpec {
            name: "round_up",
            kind: OptionKind::Size,
            default: "1G",
            help: "what the size of the disk is rounded up to a multiple of",
        },
    ],
    probe,
    describe: Some(describe),
    open: Some(open),
    stream: Some(stream),
    create: None,
    sink: Some(sink::sink),
    measure: None,
    check: None,
    resize: None,
};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Recognises the archive. Compressed, it is a gzip file, inside which it is recognised.
fn probe(window: &ProbeWindow<'_>) -> Match {
    let header = window.head.first_chunk().and_then(Header::parse);
    if header.is_some_and(|header| header.is_disk()) { Match::Yes } else { Match::No }
}

fn is_gzip(file: &dyn BlockRead) -> Result<bool> {
    let mut magic = [0; 2];
    if file.size() < 2 {
        return Ok(false);
    }
    file.read_at(&mut magic, 0)?;
    Ok(magic == GZIP)
}

/// The disk inside the archive that `file` is.
pub(crate) fn member(file: Arc<dyn BlockRead>) -> Result<Arc<dyn BlockRead>> {
    Ok(Arc::new(Member::open(file)?))
}

fn describe(source: &Source) -> Result<ImageInfo> {
    if is_gzip(&**source.bytes())? {
        return wrapped::describe_gzip(source);
    }
    let member = Member::open(Arc::clone(source.bytes()))?;
    let variant = Some("oldgnu".to_owned());
    Ok(ImageInfo { variant, cluster_size: None, ..info(&FORMAT, source, member.size(), 512) })
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    if request.access == Access::ReadWrite {
        let error = Error::new(transload_block::ErrorKind::Unsupported, format!("{} is only read", FORMAT.title));
        return Err(error.with_remedy("unpack it with tar first"));
    }
    if is_gzip(&**request.source.bytes())? {
        return wrapped::open_gzip(request);
    }
    let source = request.source;
    let info = describe(&source)?;
    let device = member(Arc::clone(source.bytes()))?;
    Ok(Layer { format: &FORMAT, source, device, writer: None, info, parent: None, content_ids: Vec::new() })
}

fn stream(request: StreamRequest<'_>) -> Result<Box<dyn BlockStream>> {
    let mut input = request.input;
    let mut head = Vec::new();
    let read = input.by_ref().take(GZIP.len() as u64).read_to_end(&mut head);
    read.map_err(|error| Error::io("reading the archive", error))?;
    let gzip = head == GZIP;
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(input));
    if gzip {
        let options = &OptionValues::default();
        return wrapped::stream_gzip(StreamRequest { input, options });
    }
    Ok(Box::new(MemberStream::begin(input)?))
}
