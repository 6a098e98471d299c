//! QED, a predecessor of qcow2's version 3: clusters behind two levels of tables, no refcounts, no snapshots.
//!
//! The QEMU project's `docs/interop/qed_spec.rst`. Read only.

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::mapped::{Place, Tables, UnitMap, backing_name, corrupt, field, head, info, layer, row, variant};
use crate::{Format, ImageInfo, Layer, Match, OpenRequest, ParentReference, ProbeWindow, Source, Variant};

/// The row of QED in the table of formats.
pub const FORMAT: Format = row(("qed", &[], "QED"), &["qed"], VARIANTS, probe, describe, open);

const VARIANTS: &[Variant] = &[variant("qed", "clusters behind two levels of tables, also over a backing file")];

/// Bytes of the header.
const HEADER: usize = 72;
/// The image has a backing file.
const BACKING: u64 = 1;
/// The image was not closed properly; its tables are sound all the same.
const NEED_CHECK: u64 = 2;
/// The backing file is raw and not to be probed.
const BACKING_RAW: u64 = 4;
/// The entry of a cluster of zeroes.
const ZERO: u64 = 1;

fn probe(window: &ProbeWindow<'_>) -> Match {
    // The specification's bounds: 4 KiB to 64 MiB.
    let cluster = window.le32(4).is_some_and(|size| size.is_power_of_two() && (1 << 12..=1 << 26).contains(&size));
    if window.head_has(0, b"QED\0") && cluster { Match::Yes } else { Match::No }
}

/// A header that was found sound, and the map of the image.
#[derive(Debug)]
struct Header {
    cluster: u64,
    /// Entries of a table.
    entries: u64,
    l1: u64,
    size: u64,
    features: u64,
    backing: Option<String>,
}

impl Header {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let head = head(file, HEADER, "QED header")?;
        let le32 = |offset| u32::from_le_bytes(field(&head, offset));
        let le64 = |offset| u64::from_le_bytes(field(&head, offset));
        if !head.starts_with(b"QED\0") {
            return Err(Error::new(ErrorKind::NotThisFormat, "QED header: the magic number is missing"));
        }
        let (cluster, table) = (le32(4), le32(8));
        if !cluster.is_power_of_two() || !(1 << 12..=1 << 26).contains(&cluster) {
            return Err(corrupt(format!(
                "QED header: a cluster of {cluster} bytes, must be a power of two, 4 KiB to 64 MiB"
            )));
        }
        if !table.is_power_of_two() || table > 16 {
            return Err(corrupt(format!("QED header: a table of {table} clusters, must be 1, 2, 4, 8 or 16")));
        }
        let (features, l1, size) = (le64(16), le64(40), le64(48));
        let unknown = features & !(BACKING | NEED_CHECK | BACKING_RAW);
        if unknown != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("QED header: incompatible features {unknown:#x} are set"),
            ));
        }
        let cluster = u64::from(cluster);
        let entries = cluster * u64::from(table) / 8;
        // 2^26 bytes * (2^27 entries)^2 is more than 64 bits have.
        let most = u128::from(cluster) * u128::from(entries) * u128::from(entries);
        if u128::from(size) > most || size % 512 != 0 {
            return Err(corrupt(format!(
                "QED header: a size of {size} bytes, must be whole sectors and at most {most}"
            )));
        }
        if !l1.is_multiple_of(cluster) || l1 == 0 {
            return Err(corrupt(format!("QED header: the L1 table at byte {l1} is not at a multiple of {cluster}")));
        }
        let backing = if features & BACKING == 0 {
            None
        } else {
            Some(backing_name(file, u64::from(le32(56)), le32(60), "QED header")?)
        };
        Ok(Self { cluster, entries, l1, size, features, backing })
    }

    fn info(&self, source: &Source) -> ImageInfo {
        ImageInfo {
            backing_file: self.backing.clone(),
            backing_format: self.backing_format(),
            dirty: self.features & NEED_CHECK != 0,
            ..info(&FORMAT, source, self.size, self.cluster)
        }
    }

    fn backing_format(&self) -> Option<String> {
        (self.backing.is_some() && self.features & BACKING_RAW != 0).then(|| "raw".to_owned())
    }
}

impl UnitMap for Header {
    fn place(&self, tables: &Tables, index: u64) -> Result<Place> {
        let entry = |table: u64, slot: u64, what: &str| -> Result<u64> {
            let at = table.checked_add(slot * 8).ok_or_else(|| corrupt(format!("{what} at byte {table}")))?;
            let entry = u64::from_le_bytes(tables.bytes(at, what)?);
            if entry > ZERO && !entry.is_multiple_of(self.cluster) {
                return Err(corrupt(format!("{what}: entry {slot} is byte {entry}, no multiple of {}", self.cluster)));
            }
            Ok(entry)
        };
        match entry(self.l1, index / self.entries, "QED L1 table")? {
            0 => Ok(Place::Hole),
            l2 if l2 < self.cluster => Err(corrupt(format!("QED L1 table: entry {} is {l2}", index / self.entries))),
            l2 => Ok(match entry(l2, index % self.entries, "QED L2 table")? {
                0 => Place::Hole,
                ZERO => Place::Zero,
                start => Place::File(start),
            }),
        }
    }
}

fn describe(source: &Source) -> Result<ImageInfo> {
    Ok(Header::read(&**source.bytes())?.info(source))
}

fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let header = Header::read(&**request.source.bytes())?;
    let info = header.info(&request.source);
    let format = header.backing_format();
    let parent = header.backing.clone().map(|name| ParentReference {
        names: vec![name],
        format,
        content_id: None,
        modified: None,
    });
    let cluster = header.cluster;
    layer(&FORMAT, request, header, cluster, info, parent)
}
