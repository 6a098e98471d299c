//! The first QEMU copy-on-write format: clusters, plain or deflated, behind two levels of tables.
//!
//! It has the magic of qcow2 and version 1; QEMU's own driver is its description. All integers big-endian. Read only; the
//! AES mode is refused.

use transload_block::{BlockRead, Codec, Error, ErrorKind, Result};

use crate::mapped::{Place, Tables, UnitMap, backing_name, corrupt, field, head, info, layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, ParentReference, ProbeWindow, Source, Variant};

/// The row of qcow in the table of formats.
pub const FORMAT: Format = row(("qcow", &["qcow1"], "qcow (version 1)"), &["qcow"], VARIANTS, probe, describe, open);

const VARIANTS: &[Variant] = &[variant("qcow", "clusters that may be deflated, also over a backing file")];

/// Bytes of the header.
const HEADER: usize = 48;
const MAGIC: &[u8] = b"QFI\xfb\0\0\0\x01";
/// QEMU's bounds of the bits of a cluster.
const CLUSTER_BITS: std::ops::RangeInclusive<u8> = 9..=16;
/// QEMU's bounds of the bits of an L2 table's entries.
const L2_BITS: std::ops::RangeInclusive<u8> = 6..=13;
/// The entry is of a compressed cluster.
const COMPRESSED: u64 = 1 << 63;

fn probe(window: &ProbeWindow<'_>) -> Match {
    if window.head_has(0, MAGIC) { Match::Yes } else { Match::No }
}

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
struct Header {
    cluster_bits: u32,
    l2_bits: u32,
    l1: u64,
    size: u64,
    aes: bool,
    backing: Option<String>,
}

impl Header {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let head = head(file, HEADER, "qcow header")?;
        let be32 = |offset| u32::from_be_bytes(field(&head, offset));
        let be64 = |offset| u64::from_be_bytes(field(&head, offset));
        if !head.starts_with(MAGIC) {
            return Err(Error::new(ErrorKind::NotThisFormat, "qcow header: the magic number is missing"));
        }
        let [cluster_bits, l2_bits] = field(&head, 32);
        if !CLUSTER_BITS.contains(&cluster_bits) || !L2_BITS.contains(&l2_bits) {
            return Err(corrupt(format!(
                "qcow header: {cluster_bits} bits of a cluster and {l2_bits} of an L2 table, must be 9 to 16 and 6 to 13"
            )));
        }
        let (size, method, l1) = (be64(24), be32(36), be64(40));
        if i64::try_from(size).is_err() || i64::try_from(l1).is_err() {
            return Err(corrupt(format!("qcow header: a size of {size} bytes and an L1 table at byte {l1}")));
        }
        if method > 1 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("qcow header: encryption method {method} is not known"),
            ));
        }
        let backing = match (be64(8), be32(16)) {
            (0, _) => None,
            (offset, length) => Some(backing_name(file, offset, length, "qcow header")?),
        };
        Ok(Self { cluster_bits: cluster_bits.into(), l2_bits: l2_bits.into(), l1, size, aes: method == 1, backing })
    }

    fn info(&self, source: &Source) -> ImageInfo {
        ImageInfo {
            backing_file: self.backing.clone(),
            encryption: self.aes.then(|| "aes".to_owned()),
            ..info(&FORMAT, source, self.size, 1 << self.cluster_bits)
        }
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        let entry = |table: u64, slot: u64, what: &str| -> Result<u64> {
            let at = table.checked_add(slot * 8).ok_or_else(|| corrupt(format!("{what} at byte {table}")))?;
            Ok(u64::from_be_bytes(tables.bytes(at, what)?))
        };
        let l2 = entry(self.l1, index >> self.l2_bits, "qcow L1 table")?;
        if l2 == 0 {
            return Ok(Place::Hole);
        }
        let found = entry(l2, index & ((1 << self.l2_bits) - 1), "qcow L2 table")?;
        if found & COMPRESSED != 0 {
            // The length stands above the offset, in as many bits as a cluster has.
            let shift = 63 - self.cluster_bits;
            let length = (found & !COMPRESSED) >> shift;
            return Ok(Place::Packed(found & ((1 << shift) - 1), length, Codec::Deflate));
        }
        Ok(if found == 0 { Place::Hole } else { Place::File(found) })
    }
}

fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let header = Header::read(&**request.source.bytes())?;
    if header.aes {
        return Err(Error::new(ErrorKind::Unsupported, "qcow: the image is encrypted with QEMU's old AES mode")
            .with_remedy("decrypt it with an old qemu-img"));
    }
    let info = header.info(&request.source);
    let parent = header.backing.clone().map(|name| ParentReference {
        names: vec![name],
        format: None,
        content_id: None,
        modified: None,
    });
    let cluster = 1 << header.cluster_bits;
    layer(&FORMAT, request, header, cluster, info, parent)
}
