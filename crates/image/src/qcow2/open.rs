//! Opening: the only file that sees an untrusted header.
//!
//! [`ParsedHeader::read`] turns the first cluster into values that cannot be wrong: what it answers has passed every
//! rule that can be checked without following a table. Behind it, sizes and offsets of the header are facts.

use transload_block::{BlockRead, Codec, Result};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::Qcow2Error;
use super::layout::{
    self, BitmapsExtension, CLUSTER_BITS, ExtensionHead, FeatureName, Header, autoclear, compatible, extension,
    incompatible,
};

/// How the sizes of an image follow from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// In [`CLUSTER_BITS`], and at least [`layout::CLUSTER_BITS_MIN_EXTENDED`] with extended L2 entries.
    pub cluster_bits: u32,
    /// L2 entries of 128 bits, with subclusters.
    pub extended_l2: bool,
    /// Refcounts are `1 << refcount_order` bits wide; at most [`layout::REFCOUNT_ORDER_MAX`].
    pub refcount_order: u32,
}

impl Geometry {
    /// Bytes of a cluster.
    pub(crate) const fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the smallest unit that has a status of its own: a subcluster with extended L2 entries, else a cluster.
    pub(crate) const fn subcluster_size(self) -> u64 {
        if self.extended_l2 { self.cluster_size() / layout::SUBCLUSTERS } else { self.cluster_size() }
    }

    /// Bytes of an L2 entry.
    pub(crate) const fn l2_entry_size(self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Entries of an L2 table, which fills a cluster.
    pub(crate) const fn l2_entries(self) -> u64 {
        self.cluster_size() / self.l2_entry_size()
    }

    /// Guest bytes that one L1 entry maps.
    pub(crate) const fn l2_coverage(self) -> u64 {
        self.l2_entries() * self.cluster_size()
    }

    /// L1 entries that a disk of `size` bytes needs.
    pub(crate) const fn l1_entries(self, size: u64) -> u64 {
        size.div_ceil(self.l2_coverage())
    }

    /// Refcounts in a refcount block, which fills a cluster.
    pub(crate) const fn refcount_block_entries(self) -> u64 {
        (self.cluster_size() * 8) >> self.refcount_order
    }

    /// The largest refcount that fits.
    pub(crate) const fn refcount_max(self) -> u64 {
        if self.refcount_order == 6 { u64::MAX } else { (1 << (1_u32 << self.refcount_order)) - 1 }
    }

    /// `bytes` rounded up to whole clusters; saturates at the last whole cluster of 64 bits.
    pub(crate) const fn round_up(self, bytes: u64) -> u64 {
        match bytes.checked_next_multiple_of(self.cluster_size()) {
            Some(rounded) => rounded,
            None => !(self.cluster_size() - 1),
        }
    }
}

/// How payload is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crypt {
    /// Not.
    None,
    /// The old AES-CBC mode.
    Aes,
    /// LUKS.
    Luks,
}

impl Crypt {
    /// The name that `info` shows; `None` for plain payload.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Aes => Some("aes"),
            Self::Luks => Some("luks"),
        }
    }
}

/// Where a table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableLocation {
    /// A multiple of the cluster size; 0 only when there are no entries.
    pub offset: u64,
    /// Entries of eight bytes.
    pub entries: u64,
}

/// A header extension as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    /// One of [`extension`], or another.
    pub kind: u32,
    /// Its data, without padding.
    pub data: Vec<u8>,
}

/// A header that has passed every rule.
#[derive(Clone, Debug)]
pub(crate) struct ParsedHeader {
    /// 2 or 3.
    pub version: u32,
    /// The sizes.
    pub geometry: Geometry,
    /// Virtual size in bytes.
    pub size: u64,
    /// The active L1 table: inside the file, large enough for `size`.
    pub l1: TableLocation,
    /// The refcount table, whole clusters inside the file.
    pub refcount_table: TableLocation,
    /// At most [`layout::SNAPSHOTS_MAX`].
    pub nb_snapshots: u32,
    /// A multiple of the cluster size inside the file, when there are snapshots.
    pub snapshots_offset: u64,
    /// Known bits only.
    pub incompatible: u64,
    /// As in the file.
    pub compatible: u64,
    /// As in the file.
    pub autoclear: u64,
    /// How compressed clusters are encoded.
    pub compression: Codec,
    /// How payload is encrypted.
    pub crypt: Crypt,
    /// The backing file's name.
    pub backing_file: Option<String>,
    /// The backing file's format.
    pub backing_format: Option<String>,
    /// The external data file's name, as in its extension; may be empty.
    pub data_file: Option<String>,
    /// The bitmaps extension as it stands; its numbers are not checked.
    pub bitmaps: Option<BitmapsExtension>,
    /// All extensions in their order, without the end marker.
    pub extensions: Vec<Extension>,
}

impl ParsedHeader {
    /// Reads and checks the header of `file`.
    ///
    /// # Errors
    /// A [`Qcow2Error`] by the rule that is broken; what reading answers.
    pub(crate) fn read(file: &dyn BlockRead) -> Result<Self> {
        let file_size = file.size();
        let head = read_front(file, layout::HEADER_LENGTH_V3_COMPRESSION as u64)?;
        let (raw, cluster_bits) = parse_fixed(&head, file_size)?;
        let first = read_front(file, 1 << cluster_bits)?;
        Ok(Self::parse(raw, &first, file_size)?)
    }

    /// Checks `raw`, whose version and cluster bits are sound, with `first` being the file's first cluster.
    fn parse(raw: Header, first: &[u8], file_size: u64) -> Result<Self, Qcow2Error> {
        let cluster_size = 1_u64 << raw.cluster_bits.get();
        let mut raw = raw;
        let header_length = check_header_length(&mut raw, cluster_size)?;
        let (extensions, names) = read_extensions(&raw, header_length, first)?;
        check_features(raw.incompatible_features.get(), &names)?;
        let geometry = check_geometry(&raw)?;
        let parsed = Self {
            version: raw.version.get(),
            geometry,
            size: raw.size.get(),
            l1: check_l1(&raw, geometry, file_size)?,
            refcount_table: check_refcount_table(&raw, geometry, file_size)?,
            nb_snapshots: raw.nb_snapshots.get(),
            snapshots_offset: raw.snapshots_offset.get(),
            incompatible: raw.incompatible_features.get(),
            compatible: raw.compatible_features.get(),
            autoclear: raw.autoclear_features.get(),
            compression: check_compression(&raw)?,
            crypt: check_crypt(raw.crypt_method.get())?,
            backing_file: read_backing_name(&raw, first)?,
            backing_format: text(&extensions, extension::BACKING_FORMAT, "backing format")?,
            data_file: text(&extensions, extension::DATA_FILE, "external data file")?,
            bitmaps: read_bitmaps(&extensions)?,
            extensions,
        };
        parsed.check_snapshots(file_size)?;
        if parsed.data_file_raw() && parsed.backing_file.is_some() {
            return Err(Qcow2Error::RawDataFileWithBacking);
        }
        Ok(parsed)
    }

    fn check_snapshots(&self, file_size: u64) -> Result<(), Qcow2Error> {
        if self.nb_snapshots > layout::SNAPSHOTS_MAX {
            return Err(Qcow2Error::TooManySnapshots(self.nb_snapshots));
        }
        if self.nb_snapshots > 0 {
            let least = u64::from(self.nb_snapshots) * size_of::<layout::SnapshotHead>() as u64;
            check_table("snapshot table", self.snapshots_offset, least, self.geometry, file_size)?;
        }
        Ok(())
    }

    /// Whether refcounts may be wrong: the image was not closed.
    pub(crate) const fn dirty(&self) -> bool {
        self.incompatible & incompatible::DIRTY != 0
    }

    /// Whether metadata is known to be damaged.
    pub(crate) const fn corrupt(&self) -> bool {
        self.incompatible & incompatible::CORRUPT != 0
    }

    /// Whether guest data stands in another file.
    pub(crate) const fn has_data_file(&self) -> bool {
        self.incompatible & incompatible::DATA_FILE != 0
    }

    /// Whether that file is a raw image by itself.
    pub(crate) const fn data_file_raw(&self) -> bool {
        self.has_data_file() && self.autoclear & autoclear::DATA_FILE_RAW != 0
    }

    /// The name of the compression type.
    pub(crate) fn compression_name(&self) -> &'static str {
        if self.compression == Codec::Zstd { "zstd" } else { "zlib" }
    }

    /// Whether refcounts may be written late, under the dirty bit.
    pub(crate) const fn lazy_refcounts(&self) -> bool {
        self.compatible & compatible::LAZY_REFCOUNTS != 0
    }
}

/// Reads up to `length` bytes from the front of `file`.
fn read_front(file: &dyn BlockRead, length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length.min(file.size())).expect("at most a cluster");
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Takes the header's fields from `head`, with zeroes for those that are not in the file, and checks what the place of
/// everything else depends on.
fn parse_fixed(head: &[u8], file_size: u64) -> Result<(Header, u32), Qcow2Error> {
    if head.len() >= 4 && head[..4] != layout::MAGIC {
        return Err(Qcow2Error::Magic { found: [head[0], head[1], head[2], head[3]] });
    }
    let cut_off = |needed| Qcow2Error::HeaderCutOff { size: file_size, needed };
    if head.len() < layout::HEADER_LENGTH_V2 {
        return Err(cut_off(layout::HEADER_LENGTH_V2));
    }
    let mut raw = Header::new_zeroed();
    raw.as_mut_bytes()[..head.len()].copy_from_slice(head);
    match raw.version.get() {
        layout::VERSION_2 => {
            let mut short = Header::new_zeroed();
            let fields = &raw.as_bytes()[..layout::HEADER_LENGTH_V2];
            short.as_mut_bytes()[..layout::HEADER_LENGTH_V2].copy_from_slice(fields);
            raw = short;
        }
        layout::VERSION_3 if head.len() < layout::HEADER_LENGTH_V3 => return Err(cut_off(layout::HEADER_LENGTH_V3)),
        layout::VERSION_3 => {}
        other => return Err(Qcow2Error::Version(other)),
    }
    let cluster_bits = raw.cluster_bits.get();
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(Qcow2Error::ClusterBits(cluster_bits));
    }
    Ok((raw, cluster_bits))
}

/// Checks the header's length, and sets the fields that a shorter header does not have to what they then mean.
fn check_header_length(raw: &mut Header, cluster_size: u64) -> Result<usize, Qcow2Error> {
    if raw.version.get() == layout::VERSION_2 {
        raw.refcount_order = 4.into();
        return Ok(layout::HEADER_LENGTH_V2);
    }
    let length = raw.header_length.get();
    if (length as usize) < layout::HEADER_LENGTH_V3 || !length.is_multiple_of(8) || u64::from(length) > cluster_size {
        return Err(Qcow2Error::HeaderLength { length, cluster_size });
    }
    if (length as usize) < layout::HEADER_LENGTH_V3_COMPRESSION {
        raw.compression_type = 0;
    }
    Ok(length as usize)
}

fn check_geometry(raw: &Header) -> Result<Geometry, Qcow2Error> {
    let geometry = Geometry {
        cluster_bits: raw.cluster_bits.get(),
        extended_l2: raw.incompatible_features.get() & incompatible::EXTENDED_L2 != 0,
        refcount_order: raw.refcount_order.get(),
    };
    if geometry.refcount_order > layout::REFCOUNT_ORDER_MAX {
        return Err(Qcow2Error::RefcountOrder(geometry.refcount_order));
    }
    if geometry.extended_l2 && geometry.cluster_bits < layout::CLUSTER_BITS_MIN_EXTENDED {
        return Err(Qcow2Error::ClusterBitsExtended(geometry.cluster_bits));
    }
    Ok(geometry)
}

/// Checks that a table of `length` bytes is aligned, not on top of the header, and inside the file. A file may end
/// inside its last cluster; what is missing of that reads as zeroes, as QEMU has it.
pub(crate) fn check_table(
    table: &'static str,
    offset: u64,
    length: u64,
    geometry: Geometry,
    file_size: u64,
) -> Result<(), Qcow2Error> {
    let alignment = geometry.cluster_size();
    if !offset.is_multiple_of(alignment) {
        return Err(Qcow2Error::Unaligned { table, offset, alignment });
    }
    if offset == 0 {
        return Err(Qcow2Error::Overlap { table, offset, length, other: "header" });
    }
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > geometry.round_up(file_size)) {
        return Err(Qcow2Error::OutsideFile { table, offset, length, file_size });
    }
    Ok(())
}

/// Checks an L1 table, the active one or a snapshot's, for a disk of `size` bytes.
pub(crate) fn check_l1_location(
    location: TableLocation,
    size: u64,
    geometry: Geometry,
    file_size: u64,
) -> Result<(), Qcow2Error> {
    let needed = geometry.l1_entries(size);
    if location.entries < needed {
        return Err(Qcow2Error::L1TooSmall { entries: location.entries, needed, size });
    }
    if location.entries == 0 {
        return Ok(());
    }
    let length = location.entries * 8;
    check_table("L1 table", location.offset, length, geometry, file_size)?;
    if length > layout::L1_BYTES_MAX {
        return Err(Qcow2Error::TableTooLarge { table: "L1 table", length, limit: layout::L1_BYTES_MAX });
    }
    Ok(())
}

fn check_l1(raw: &Header, geometry: Geometry, file_size: u64) -> Result<TableLocation, Qcow2Error> {
    let location = TableLocation { offset: raw.l1_table_offset.get(), entries: raw.l1_size.get().into() };
    check_l1_location(location, raw.size.get(), geometry, file_size)?;
    Ok(location)
}

fn check_refcount_table(raw: &Header, geometry: Geometry, file_size: u64) -> Result<TableLocation, Qcow2Error> {
    let table = "refcount table";
    let offset = raw.refcount_table_offset.get();
    let length = u64::from(raw.refcount_table_clusters.get()) * geometry.cluster_size();
    if length == 0 {
        return Err(Qcow2Error::NoRefcountTable);
    }
    check_table(table, offset, length, geometry, file_size)?;
    if length > layout::REFCOUNT_TABLE_BYTES_MAX {
        return Err(Qcow2Error::TableTooLarge { table, length, limit: layout::REFCOUNT_TABLE_BYTES_MAX });
    }
    let l1 = raw.l1_table_offset.get()..raw.l1_table_offset.get().saturating_add(u64::from(raw.l1_size.get()) * 8);
    if !l1.is_empty() && offset < l1.end && l1.start < offset + length {
        return Err(Qcow2Error::Overlap { table, offset, length, other: "L1 table" });
    }
    Ok(TableLocation { offset, entries: length / 8 })
}

fn check_compression(raw: &Header) -> Result<Codec, Qcow2Error> {
    let (kind, bit) = (raw.compression_type, raw.incompatible_features.get() & incompatible::COMPRESSION_TYPE != 0);
    if (kind != 0) != bit {
        return Err(Qcow2Error::CompressionBit { kind, bit });
    }
    match kind {
        0 => Ok(Codec::Deflate),
        1 => Ok(Codec::Zstd),
        other => Err(Qcow2Error::CompressionType(other)),
    }
}

fn check_crypt(method: u32) -> Result<Crypt, Qcow2Error> {
    match method {
        0 => Ok(Crypt::None),
        1 => Ok(Crypt::Aes),
        2 => Ok(Crypt::Luks),
        other => Err(Qcow2Error::CryptMethod(other)),
    }
}

/// The incompatible features' names by bit, as the image itself has them.
type FeatureNames = Vec<(u8, String)>;

fn check_features(features: u64, names: &FeatureNames) -> Result<(), Qcow2Error> {
    let unknown = features & !incompatible::KNOWN;
    if unknown == 0 {
        return Ok(());
    }
    let called = |bit: u8| {
        let name = names.iter().find(|(named, _)| *named == bit).map(|(_, name)| name.as_str());
        format!("'{}' (bit {bit})", name.unwrap_or("unnamed"))
    };
    let listed: Vec<_> = (0..64).filter(|bit| unknown >> bit & 1 != 0).map(called).collect();
    Err(Qcow2Error::Incompatible(listed.join(", ")))
}

/// Walks the header extensions in the first cluster. They end with an end marker, or where the backing file's name or
/// the cluster begins to be something else.
fn read_extensions(
    raw: &Header,
    header_length: usize,
    first: &[u8],
) -> Result<(Vec<Extension>, FeatureNames), Qcow2Error> {
    let backing = usize::try_from(raw.backing_file_offset.get()).unwrap_or(usize::MAX);
    let end = if backing == 0 { first.len() } else { first.len().min(backing) };
    let area = first.get(..end).unwrap_or_default();
    let (mut extensions, mut names) = (Vec::new(), Vec::new());
    let mut at = header_length;
    while let Some((head, rest)) = area.get(at..).and_then(|rest| ExtensionHead::read_from_prefix(rest).ok()) {
        let (kind, length) = (head.kind.get(), head.length.get());
        if kind == extension::END {
            break;
        }
        let data = rest.get(..length as usize).ok_or(Qcow2Error::ExtensionCutOff {
            kind,
            offset: at as u64,
            length,
            end: area.len() as u64,
        })?;
        if kind == extension::FEATURE_NAMES {
            names.extend(incompatible_names(data));
        }
        extensions.push(Extension { kind, data: data.to_vec() });
        at += size_of::<ExtensionHead>() + data.len().next_multiple_of(8);
    }
    Ok((extensions, names))
}

fn incompatible_names(table: &[u8]) -> impl Iterator<Item = (u8, String)> {
    table
        .chunks_exact(size_of::<FeatureName>())
        .filter_map(|chunk| FeatureName::read_from_bytes(chunk).ok())
        .filter(|feature| feature.kind == 0)
        .map(|feature| {
            let end = feature.name.iter().position(|byte| *byte == 0).unwrap_or(feature.name.len());
            (feature.bit, feature.name[..end].escape_ascii().to_string())
        })
}

fn text(extensions: &[Extension], kind: u32, what: &'static str) -> Result<Option<String>, Qcow2Error> {
    let Some(found) = extensions.iter().find(|extension| extension.kind == kind) else { return Ok(None) };
    let name = String::from_utf8(found.data.clone()).map_err(|_| Qcow2Error::NameEncoding { what })?;
    Ok(Some(name))
}

fn read_backing_name(raw: &Header, first: &[u8]) -> Result<Option<String>, Qcow2Error> {
    let (offset, length) = (raw.backing_file_offset.get(), raw.backing_file_size.get());
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    let bad = Qcow2Error::BackingName { offset, length };
    if length > layout::BACKING_NAME_MAX {
        return Err(bad);
    }
    let name = usize::try_from(offset).ok().and_then(|start| first.get(start..)?.get(..length as usize));
    let name = String::from_utf8(name.ok_or(bad)?.to_vec());
    name.map(Some).map_err(|_| Qcow2Error::NameEncoding { what: "backing file" })
}

fn read_bitmaps(extensions: &[Extension]) -> Result<Option<BitmapsExtension>, Qcow2Error> {
    let Some(found) = extensions.iter().find(|extension| extension.kind == extension::BITMAPS) else {
        return Ok(None);
    };
    let length = u32::try_from(found.data.len()).unwrap_or(u32::MAX);
    let read = BitmapsExtension::read_from_bytes(&found.data);
    read.map(Some).map_err(|_| Qcow2Error::ExtensionLength { kind: extension::BITMAPS, length, rule: "24" })
}
