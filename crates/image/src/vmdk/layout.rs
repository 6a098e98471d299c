//! The bytes of a VMDK: VMware's "Virtual Disk Format 5.0" (and 1.1), with what open-vmdk and VirtualBox's VMDK reader
//! add to it. All integers little-endian; places are counted in sectors of 512 bytes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;

/// The first four bytes of a hosted sparse extent: `KDMV`.
pub(crate) const SPARSE_MAGIC: [u8; 4] = *b"KDMV";
/// The first four bytes of a vmfsSparse extent: `COWD`.
pub(crate) const COWD_MAGIC: [u8; 4] = *b"COWD";
/// The first eight bytes of a seSparse extent, as a number.
pub(crate) const SESPARSE_MAGIC: u64 = 0x0000_0000_cafe_babe;

/// The header of a hosted sparse extent (monolithicSparse, twoGbMaxExtentSparse, streamOptimized), and the footer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SparseHeader {
    pub magic: [u8; 4],
    /// 1; 2 when zeroed grains are used; 3 for streamOptimized.
    pub version: U32,
    pub flags: U32,
    /// Sectors of the disk in this extent.
    pub capacity: U64,
    /// Sectors of a grain, a power of two.
    pub grain_size: U64,
    /// The embedded descriptor's first sector; 0 for none.
    pub descriptor_offset: U64,
    /// Its sectors.
    pub descriptor_size: U64,
    /// Entries of a grain table; 512 in everything that VMware reads.
    pub gtes_per_gt: U32,
    /// The redundant grain directory's first sector.
    pub rgd_offset: U64,
    /// The grain directory's first sector, or [`GD_AT_END`].
    pub gd_offset: U64,
    /// Sectors in front of the first grain.
    pub overhead: U64,
    /// Set while the extent is open for writing.
    pub unclean_shutdown: u8,
    /// [`NEWLINE_TEST`].
    pub newline_test: [u8; 4],
    /// 0 none, 1 deflate.
    pub compress_algorithm: U16,
    pub padding: [u8; 433],
}
const _: () = assert!(size_of::<SparseHeader>() == 512);

/// `gd_offset` of a header whose real one stands in the footer.
pub(crate) const GD_AT_END: u64 = u64::MAX;
/// The largest disk, in sectors: its bytes fit an `i64`, as file offsets must.
pub(crate) const CAPACITY_MAX: u64 = (1 << 54) - 1;
/// The largest grain, in sectors (1 GiB): what QEMU takes. VMware writes 1 to 128.
pub(crate) const GRAIN_SECTORS_MAX: u64 = 1 << 21;
/// The largest compressed grain, in sectors (2 MiB): it is inflated in memory. VMware takes up to 128.
pub(crate) const COMPRESSED_GRAIN_SECTORS_MAX: u64 = 1 << 12;
/// The fewest entries of a grain table: one sector of them, as in open-vmdk.
pub(crate) const GTES_MIN: u64 = 128;
/// The most entries of a grain table. VMware writes 512; a table is read as a whole.
pub(crate) const GTES_MAX: u64 = 8192;
/// The longest descriptor, in bytes. Real ones are under 2 KiB, and the longest list of extents that a process can open
/// files for is far below this.
pub(crate) const DESCRIPTOR_MAX: u64 = 1 << 20;
/// The largest grain directory, in bytes: 16 times that of a disk of 64 TiB in the usual geometry.
pub(crate) const DIRECTORY_MAX: u64 = 128 << 20;

/// Four bytes that a transfer in text mode would change.
pub(crate) const NEWLINE_TEST: [u8; 4] = *b"\n \r\n";
/// `compress_algorithm`: zlib streams (RFC 1950).
pub(crate) const COMPRESSION_DEFLATE: u16 = 1;

/// Bits of `flags`.
pub(crate) mod flag {
    /// `newline_test` is valid.
    pub(crate) const NEWLINE_TEST: u32 = 1 << 0;
    /// The redundant grain directory is there.
    pub(crate) const REDUNDANT_TABLE: u32 = 1 << 1;
    /// A grain table entry of 1 is a grain of zeroes.
    pub(crate) const ZEROED_GRAINS: u32 = 1 << 2;
    /// Grains are compressed.
    pub(crate) const COMPRESSED: u32 = 1 << 16;
    /// Markers stand in front of grains and tables.
    pub(crate) const MARKERS: u32 = 1 << 17;
    /// Bits that a reader must know to read the extent.
    pub(crate) const INCOMPATIBLE: u32 = 0xffff_0000;
}

/// In front of every compressed grain: where it belongs and how long its zlib stream is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct GrainMarker {
    /// The grain's first sector in the disk.
    pub lba: U64,
    /// Bytes of the zlib stream that follows; 0 makes it a [`Marker`].
    pub size: U32,
}
const _: () = assert!(size_of::<GrainMarker>() == 12);

/// A sector that says what follows it, or that nothing does.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Marker {
    /// Sectors of the structure behind the marker.
    pub sectors: U64,
    /// 0: what tells a marker from a grain.
    pub size: U32,
    pub kind: U32,
    pub padding: [u8; 496],
}
const _: () = assert!(size_of::<Marker>() == 512);

/// Values of [`Marker::kind`].
pub(crate) mod marker {
    /// End of stream: a whole sector of zeroes.
    pub(crate) const EOS: u32 = 0;
    /// A grain table follows.
    pub(crate) const GRAIN_TABLE: u32 = 1;
    /// The grain directory follows.
    pub(crate) const GRAIN_DIRECTORY: u32 = 2;
    /// The footer follows.
    pub(crate) const FOOTER: u32 = 3;
    /// Progress of an export, to be skipped; not in the specification, met in exports of recent vSphere.
    pub(crate) const PROGRESS: u32 = 4;
}

/// The longest zlib stream of a 64 KiB grain that every reader takes: VirtualBox's buffer of 66 048 bytes and VMware's
/// bound of `(grain sectors + 1) * 512`, less the 12 bytes of the marker.
pub(crate) const COMPRESSED_GRAIN_MAX: usize = 66_036;

/// The header of a vmfsSparse (COWD) extent.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CowdHeader {
    pub magic: [u8; 4],
    pub version: U32,
    pub flags: U32,
    /// Sectors of the disk.
    pub capacity: U32,
    /// Sectors of a grain.
    pub grain_size: U32,
    /// The grain directory's first sector.
    pub gd_offset: U32,
    /// Its entries; each grain table has 4096.
    pub gd_entries: U32,
    /// The next free sector.
    pub free_sector: U32,
    pub rest: [u8; 2016],
}
const _: () = assert!(size_of::<CowdHeader>() == 2048);

/// Entries of a COWD grain table.
pub(crate) const COWD_GTES_PER_GT: u64 = 4096;

/// The constant header of a seSparse extent; see QEMU's notes on the format, which VMware does not document.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SeSparseHeader {
    pub magic: U64,
    pub version: U64,
    pub capacity: U64,
    pub grain_size: U64,
    pub grain_table_size: U64,
    pub flags: U64,
    pub reserved: [U64; 4],
    pub volatile_header_offset: U64,
    pub volatile_header_size: U64,
    pub journal_header_offset: U64,
    pub journal_header_size: U64,
    pub journal_offset: U64,
    pub journal_size: U64,
    pub grain_dir_offset: U64,
    pub grain_dir_size: U64,
    pub grain_tables_offset: U64,
    pub grain_tables_size: U64,
    pub free_bitmap_offset: U64,
    pub free_bitmap_size: U64,
    pub backmap_offset: U64,
    pub backmap_size: U64,
    pub grains_offset: U64,
    pub grains_size: U64,
    pub padding: [u8; 304],
}
const _: () = assert!(size_of::<SeSparseHeader>() == 512);

/// The one version of seSparse that is known: 2.1.
pub(crate) const SESPARSE_VERSION: u64 = 0x0000_0002_0000_0001;
/// Sectors of a seSparse grain.
pub(crate) const SESPARSE_GRAIN_SECTORS: u64 = 8;
/// Sectors of a seSparse grain table, of 4096 entries.
pub(crate) const SESPARSE_TABLE_SECTORS: u64 = 64;
/// The first eight bytes of the volatile header, as a number.
pub(crate) const SESPARSE_VOLATILE_MAGIC: u64 = 0x0000_0000_cafe_cafe;

/// The volatile header of a seSparse extent: what changes while it is in use.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SeSparseVolatileHeader {
    pub magic: U64,
    pub free_gt_number: U64,
    pub next_txn_seq_number: U64,
    /// Not 0 when the journal must be replayed before the tables are true.
    pub replay_journal: U64,
    pub padding: [u8; 480],
}
const _: () = assert!(size_of::<SeSparseVolatileHeader>() == 512);
