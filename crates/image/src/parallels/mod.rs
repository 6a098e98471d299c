//! Parallels disks: expanding images, with either magic.
//!
//! The QEMU project's `docs/interop/parallels.rst`. Read only. A bundle (`.hdd`) keeps such images beside a
//! `DiskDescriptor.xml` that names them; the description itself is recognised and refused.

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::mapped::{Place, Tables, UnitMap, corrupt, field, head, info, layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, ProbeWindow, Source, Variant};

/// The row of Parallels in the table of formats.
pub const FORMAT: Format = row(("parallels", &[], "Parallels disk"), &["hdd", "hds"], VARIANTS, probe, describe, open);

const VARIANTS: &[Variant] = &[
    variant("WithoutFreeSpace", "blocks whose places are counted in sectors"),
    variant("WithouFreSpacExt", "blocks whose places are counted in blocks, for larger files"),
];

const HEADER: usize = 64;
const SECTOR: u64 = 512;
/// The one version that either kind of header has.
const VERSION: u32 = 2;
/// Somebody had the image open and did not close it: `Ynot`.
const IN_USE: u32 = 0x746f_6e59;
/// The root element of a bundle's description.
const ROOT: &[u8] = b"<Parallels_disk_image";

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The second kind counts in tracks instead of sectors, so that it can be larger.
    let magic = window.head_has(0, b"WithoutFreeSpace") || window.head_has(0, b"WithouFreSpacExt");
    if magic && window.le32(16) == Some(VERSION) || is_description(window.head) { Match::Yes } else { Match::No }
}

/// Whether it is the `DiskDescriptor.xml` of a bundle, which lists the images and holds no data.
fn is_description(head: &[u8]) -> bool {
    /// The root stands behind no more than the XML declaration and a comment.
    const WITHIN: usize = 1024;
    let front = &head[..head.len().min(WITHIN)];
    let text = front.strip_prefix(b"\xef\xbb\xbf").unwrap_or(front);
    text.starts_with(b"<") && text.windows(ROOT.len()).any(|part| part == ROOT)
}

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
struct Header {
    variant: &'static str,
    /// Bytes of a block.
    block: u64,
    entries: u64,
    /// Bytes that an entry of the map counts.
    scale: u64,
    size: u64,
    in_use: bool,
}

impl Header {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let front = head(file, usize::try_from(file.size().min(1024)).unwrap_or(0), "Parallels header")?;
        if is_description(&front) {
            let what = "this is the description of a Parallels bundle, which holds no data itself";
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("give the .hds file beside it"));
        }
        let head = head(file, HEADER, "Parallels header")?;
        let le32 = |offset| u32::from_le_bytes(field(&head, offset));
        let (variant, extended) = match &head[..16] {
            b"WithoutFreeSpace" => ("WithoutFreeSpace", false),
            b"WithouFreSpacExt" => ("WithouFreSpacExt", true),
            _ => return Err(Error::new(ErrorKind::NotThisFormat, "Parallels header: the magic number is missing")),
        };
        if le32(16) != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("Parallels header: version {} is not known", le32(16)),
            ));
        }
        let (tracks, entries) = (u64::from(le32(28)), u64::from(le32(32)));
        // The first kind has 32 bits for it; what stands behind them is of no meaning.
        let sectors = if extended { u64::from_le_bytes(field(&head, 36)) } else { u64::from(le32(36)) };
        if tracks == 0 {
            return Err(corrupt("Parallels header: a block of 0 sectors".to_owned()));
        }
        if sectors.div_ceil(tracks) > entries || sectors > u64::MAX / SECTOR / 2 {
            return Err(corrupt(format!(
                "Parallels header: {entries} blocks of {tracks} sectors do not cover the disk of {sectors} sectors"
            )));
        }
        let end = HEADER as u64 + entries * 4;
        if end > file.size() {
            return Err(corrupt(format!("Parallels map: it ends at byte {end}, and the file at byte {}", file.size())));
        }
        let block = tracks * SECTOR;
        let scale = if extended { block } else { SECTOR };
        Ok(Self { variant, block, entries, scale, size: sectors * SECTOR, in_use: le32(44) == IN_USE })
    }

    fn info(&self, source: &Source) -> ImageInfo {
        ImageInfo {
            variant: Some(self.variant.to_owned()),
            dirty: self.in_use,
            ..info(&FORMAT, source, self.size, self.block)
        }
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        let first = HEADER as u64 + self.entries * 4;
        match u64::from(u32::from_le_bytes(tables.bytes(HEADER as u64 + index * 4, "Parallels map")?)) {
            0 => Ok(Place::Hole),
            // Below 2^32 blocks of below 2^41 bytes do not always fit.
            entry => match entry.checked_mul(self.scale).filter(|start| *start >= first) {
                Some(start) => Ok(Place::File(start)),
                None => Err(corrupt(format!("Parallels map: block {index} is at {entry}, not behind the map"))),
            },
        }
    }
}

fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let header = Header::read(&**request.source.bytes())?;
    let (info, block) = (header.info(&request.source), header.block);
    layer(&FORMAT, request, header, block, info, None)
}
