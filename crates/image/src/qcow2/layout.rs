//! The bytes of a qcow2 file: the QEMU project's `docs/interop/qcow2.rst`, versions 2 and 3. All integers big-endian.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first four bytes of the file: `QFI` and 0xfb.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Version 2 (`compat=0.10`): a header of 72 bytes, no feature bits, refcounts of 16 bits.
pub(crate) const VERSION_2: u32 = 2;
/// Version 3 (`compat=1.1`).
pub(crate) const VERSION_3: u32 = 3;

/// The header's length in version 2, and the offset at which version 3 goes on.
pub(crate) const HEADER_LENGTH_V2: usize = 72;
/// The shortest header of version 3: up to and with `header_length`.
pub(crate) const HEADER_LENGTH_V3: usize = 104;
/// The header of version 3 with `compression_type` and its padding.
pub(crate) const HEADER_LENGTH_V3_COMPRESSION: usize = 112;

/// Clusters of 512 bytes to 2 MiB: the bounds of the specification and of QEMU.
pub(crate) const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Refcount widths of 1 to 64 bits.
pub(crate) const REFCOUNT_ORDER_MAX: u32 = 6;
/// QEMU's limit on the L1 table, 32 MiB: it maps 2 EiB with 2 MiB clusters and bounds the memory of a hostile header.
pub(crate) const L1_BYTES_MAX: u64 = 32 << 20;
/// QEMU's limit on the refcount table, 8 MiB.
pub(crate) const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
/// The specification's limit on a backing file name in bytes.
pub(crate) const BACKING_NAME_MAX: u32 = 1023;
/// QEMU's limit on internal snapshots.
pub(crate) const SNAPSHOTS_MAX: u32 = 65536;
/// QEMU's limit on the snapshot table, 1 GiB there; here what 65536 snapshots of plain names need.
pub(crate) const SNAPSHOT_TABLE_BYTES_MAX: u64 = 16 << 20;
/// QEMU's limit on persistent bitmaps.
pub(crate) const BITMAPS_MAX: u32 = 65535;
/// Subclusters of a cluster with extended L2 entries.
pub(crate) const SUBCLUSTERS: u64 = 32;
/// With extended L2 entries a cluster has at least 32 subclusters of 512 bytes.
pub(crate) const CLUSTER_BITS_MIN_EXTENDED: u32 = 14;

/// The header. In version 2 the fields from `incompatible_features` on are not in the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: [u8; 4],
    pub version: U32,
    /// Where the backing file's name stands; 0 for none.
    pub backing_file_offset: U64,
    pub backing_file_size: U32,
    pub cluster_bits: U32,
    /// Virtual size in bytes.
    pub size: U64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: U32,
    /// Entries of the L1 table.
    pub l1_size: U32,
    pub l1_table_offset: U64,
    pub refcount_table_offset: U64,
    pub refcount_table_clusters: U32,
    pub nb_snapshots: U32,
    pub snapshots_offset: U64,
    pub incompatible_features: U64,
    pub compatible_features: U64,
    pub autoclear_features: U64,
    /// Refcounts are `1 << refcount_order` bits wide; 4 in version 2.
    pub refcount_order: U32,
    pub header_length: U32,
    /// 0 zlib (bare deflate), 1 zstd; there when `header_length` is above 104.
    pub compression_type: u8,
    pub padding: [u8; 7],
}
const _: () = assert!(size_of::<Header>() == HEADER_LENGTH_V3_COMPRESSION);

/// Feature bits that a reader must know to open the image.
pub(crate) mod incompatible {
    /// Refcounts may be wrong: the image was not closed.
    pub(crate) const DIRTY: u64 = 1 << 0;
    /// Metadata is known to be damaged.
    pub(crate) const CORRUPT: u64 = 1 << 1;
    /// Guest data stands in another file.
    pub(crate) const DATA_FILE: u64 = 1 << 2;
    /// `compression_type` is not zlib.
    pub(crate) const COMPRESSION_TYPE: u64 = 1 << 3;
    /// L2 entries of 128 bits, with subclusters.
    pub(crate) const EXTENDED_L2: u64 = 1 << 4;
    /// What the driver handles.
    pub(crate) const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
}

/// Feature bits that a reader may ignore.
pub(crate) mod compatible {
    /// Refcounts are updated lazily, under the dirty bit.
    pub(crate) const LAZY_REFCOUNTS: u64 = 1 << 0;
}

/// Feature bits that a writer which does not know them must clear.
pub(crate) mod autoclear {
    /// The bitmaps extension is consistent with the data.
    pub(crate) const BITMAPS: u64 = 1 << 0;
    /// The external data file is a plain raw image.
    pub(crate) const DATA_FILE_RAW: u64 = 1 << 1;
}

/// The head of a header extension; data follows, padded to eight bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtensionHead {
    pub kind: U32,
    pub length: U32,
}
const _: () = assert!(size_of::<ExtensionHead>() == 8);

/// Kinds of header extensions.
pub(crate) mod extension {
    pub(crate) const END: u32 = 0;
    pub(crate) const BACKING_FORMAT: u32 = 0xe279_2aca;
    pub(crate) const FEATURE_NAMES: u32 = 0x6803_f857;
    pub(crate) const BITMAPS: u32 = 0x2385_2875;
    pub(crate) const CRYPTO_HEADER: u32 = 0x0537_be77;
    pub(crate) const DATA_FILE: u32 = 0x4441_5441;
}

/// One entry of the feature name table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FeatureName {
    /// 0 incompatible, 1 compatible, 2 autoclear.
    pub kind: u8,
    pub bit: u8,
    /// Padded with zeroes.
    pub name: [u8; 46],
}
const _: () = assert!(size_of::<FeatureName>() == 48);

/// The fixed part of a snapshot table entry; extra data, id and name follow, padded to eight bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SnapshotHead {
    pub l1_table_offset: U64,
    pub l1_size: U32,
    pub id_length: U16,
    pub name_length: U16,
    pub date_seconds: U32,
    pub date_nanoseconds: U32,
    pub vm_clock_nanoseconds: U64,
    /// Bytes of machine state; superseded by the 64-bit field of the extra data.
    pub vm_state_size: U32,
    pub extra_length: U32,
}
const _: () = assert!(size_of::<SnapshotHead>() == 40);

/// The bitmaps extension.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BitmapsExtension {
    pub nb_bitmaps: U32,
    pub reserved: U32,
    pub directory_size: U64,
    pub directory_offset: U64,
}
const _: () = assert!(size_of::<BitmapsExtension>() == 24);

/// The fixed part of a bitmap directory entry; extra data and name follow, padded to eight bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BitmapHead {
    pub table_offset: U64,
    pub table_size: U32,
    /// Bit 0 in use, bit 1 auto, bit 2 extra data is compatible.
    pub flags: U32,
    pub kind: u8,
    pub granularity_bits: u8,
    pub name_size: U16,
    pub extra_size: U32,
}
const _: () = assert!(size_of::<BitmapHead>() == 24);

/// The bits of an L1, L2 or refcount table entry.
pub(crate) mod entry {
    /// Host offset in an L1 entry and in a standard L2 entry: bits 9 to 55.
    pub(crate) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    /// The refcount is exactly one: writing in place disturbs no snapshot.
    pub(crate) const COPIED: u64 = 1 << 63;
    /// An L2 entry of a compressed cluster.
    pub(crate) const COMPRESSED: u64 = 1 << 62;
    /// A standard L2 entry (version 3, not extended): the cluster reads as zeroes.
    pub(crate) const ZERO: u64 = 1;
    /// Bits of an L1 entry that must be zero.
    pub(crate) const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
    /// Bits of a standard L2 entry that must be zero.
    pub(crate) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
    /// Host offset in a refcount table entry: bits 9 to 63.
    pub(crate) const REFCOUNT_BLOCK_OFFSET: u64 = !0x1ff;
}

/// Compressed data is counted in sectors of 512 bytes.
pub(crate) const COMPRESSED_SECTOR: u64 = 512;
