//! The first bytes of a new image: the header, its extensions and the backing file's name.
//!
//! Everything stands in the first cluster, in the order in which QEMU writes it, so that its tools change as little as
//! possible when they rewrite the header: the fields, the backing format, the data file's name, the feature names, the end mark, the backing
//! file's name.

use transload_block::{Codec, Error, ErrorKind, Result};
use zerocopy::IntoBytes;
use zerocopy::big_endian::{U32, U64};

use super::layout::{
    ExtensionHead, FeatureName, HEADER_LENGTH_V2, HEADER_LENGTH_V3_COMPRESSION, Header, MAGIC, VERSION_3, autoclear,
    compatible, extension, incompatible,
};
use super::options::NewImage;

/// Where the tables stand that the header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePlaces {
    pub l1_offset: u64,
    pub l1_entries: u64,
    pub refcount_table_offset: u64,
    pub refcount_table_clusters: u64,
}

/// Names of all feature bits, for readers that do not know one: kind (0 incompatible, 1 compatible, 2 autoclear), bit,
/// and QEMU's name.
const FEATURE_NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// The bytes from the file's start to the end of the backing file's name.
///
/// The table of feature names is left out where the cluster has no room for it: it is a courtesy to readers, the rest is
/// not.
///
/// # Errors
/// `InvalidInput` when the backing file's name does not fit into the first cluster.
pub(crate) fn header_bytes(image: &NewImage, places: TablePlaces) -> Result<Vec<u8>> {
    let with_names = assemble(image, places, image.version >= VERSION_3)?;
    if with_names.len() as u64 <= image.geometry.cluster_size() {
        return Ok(with_names);
    }
    let bytes = assemble(image, places, false)?;
    if bytes.len() as u64 <= image.geometry.cluster_size() {
        return Ok(bytes);
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "the names of the backing file and the data file do not fit into the first cluster of {} bytes",
            image.geometry.cluster_size()
        ),
    )
    .with_remedy("choose larger clusters with -o cluster_size, or a shorter name"))
}

fn assemble(image: &NewImage, places: TablePlaces, names: bool) -> Result<Vec<u8>> {
    let mut extensions = Vec::new();
    if let Some(backing) = &image.backing {
        extension(&mut extensions, extension::BACKING_FORMAT, backing.format.as_bytes())?;
    }
    if let Some(data_file) = &image.data_file {
        extension(&mut extensions, extension::DATA_FILE, data_file.name.as_bytes())?;
    }
    if names {
        extension(&mut extensions, extension::FEATURE_NAMES, &feature_names())?;
    }
    extension(&mut extensions, extension::END, &[])?;

    let length = if image.version >= VERSION_3 { HEADER_LENGTH_V3_COMPRESSION } else { HEADER_LENGTH_V2 };
    let mut header = fields(image, places)?;
    if let Some(backing) = &image.backing {
        header.backing_file_offset = U64::new((length + extensions.len()) as u64);
        header.backing_file_size = U32::new(narrow(backing.name.len() as u64, "backing file name")?);
    }
    let mut bytes = header.as_bytes()[..length].to_vec();
    bytes.extend_from_slice(&extensions);
    if let Some(backing) = &image.backing {
        bytes.extend_from_slice(backing.name.as_bytes());
    }
    Ok(bytes)
}

fn fields(image: &NewImage, places: TablePlaces) -> Result<Header> {
    let mut incompatible_features = 0;
    if image.compression == Codec::Zstd {
        incompatible_features |= incompatible::COMPRESSION_TYPE;
    }
    if image.geometry.extended_l2 {
        incompatible_features |= incompatible::EXTENDED_L2;
    }
    let mut autoclear_features = 0;
    if let Some(data_file) = &image.data_file {
        incompatible_features |= incompatible::DATA_FILE;
        autoclear_features |= if data_file.raw { autoclear::DATA_FILE_RAW } else { 0 };
    }
    let compatible_features = if image.lazy_refcounts { compatible::LAZY_REFCOUNTS } else { 0 };
    Ok(Header {
        magic: MAGIC,
        version: U32::new(image.version),
        backing_file_offset: U64::new(0),
        backing_file_size: U32::new(0),
        cluster_bits: U32::new(image.geometry.cluster_bits),
        size: U64::new(image.size),
        crypt_method: U32::new(0),
        l1_size: U32::new(narrow(places.l1_entries, "L1 entries")?),
        l1_table_offset: U64::new(places.l1_offset),
        refcount_table_offset: U64::new(places.refcount_table_offset),
        refcount_table_clusters: U32::new(narrow(places.refcount_table_clusters, "refcount table clusters")?),
        nb_snapshots: U32::new(0),
        snapshots_offset: U64::new(0),
        incompatible_features: U64::new(incompatible_features),
        compatible_features: U64::new(compatible_features),
        autoclear_features: U64::new(autoclear_features),
        refcount_order: U32::new(image.geometry.refcount_order),
        header_length: U32::new(narrow(HEADER_LENGTH_V3_COMPRESSION as u64, "header")?),
        compression_type: u8::from(image.compression == Codec::Zstd),
        padding: [0; 7],
    })
}

fn feature_names() -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, bit, text) in FEATURE_NAMES {
        let mut name = [0; 46];
        name[..text.len()].copy_from_slice(text.as_bytes());
        table.extend_from_slice(FeatureName { kind, bit, name }.as_bytes());
    }
    table
}

fn extension(into: &mut Vec<u8>, kind: u32, data: &[u8]) -> Result<()> {
    let length = narrow(data.len() as u64, "header extension")?;
    into.extend_from_slice(ExtensionHead { kind: U32::new(kind), length: U32::new(length) }.as_bytes());
    into.extend_from_slice(data);
    into.resize(into.len().next_multiple_of(8), 0);
    Ok(())
}

fn narrow(value: u64, what: &str) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::new(ErrorKind::TooLarge, format!("{what}: {value} does not fit in 32 bits")))
}
