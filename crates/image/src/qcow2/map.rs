//! What an L2 entry says: pure functions from its bits to where guest bytes stand.
//!
//! Specification: "L2 table entry", "Standard Cluster Descriptor", "Extended L2 Entries" and "Compressed Clusters
//! Descriptor". Nothing here reads a file.

use super::error::Qcow2Error;
use super::layout::{COMPRESSED_SECTOR, SUBCLUSTERS, entry};
use super::open::Geometry;

/// Where the bytes of a cluster or subcluster stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nowhere: the backing file shows. With extended L2 entries the cluster may have a host cluster all the same.
    Hole {
        /// The cluster's host cluster.
        host: Option<HostCluster>,
    },
    /// They are zeroes, whatever the host cluster holds.
    Zero {
        /// The cluster's host cluster.
        host: Option<HostCluster>,
    },
    /// In the host cluster, as they are.
    Data(HostCluster),
    /// In a compressed cluster.
    Compressed(CompressedRange),
}

/// A host cluster that holds plain guest data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostCluster {
    /// Its first byte in the file that holds guest data; a multiple of the cluster size.
    pub offset: u64,
    /// Nothing else refers to it: it may be written in place.
    pub owned: bool,
}

/// Where a compressed cluster's stream stands. It may begin anywhere and share its sectors with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompressedRange {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes to the end of its last sector, at least 1. The stream ends somewhere in that sector, and the file may too.
    pub length: u64,
}

/// What bears on the meaning of an L2 entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRules {
    pub geometry: Geometry,
    /// Version 3: the zero flag exists.
    pub zero_flag: bool,
    /// Guest data stands in another file, where offset 0 is a place like any other.
    pub data_file: bool,
}

/// An L2 entry, and with extended entries its subcluster bitmap, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct L2Entry {
    pub descriptor: u64,
    /// Low half: the subcluster is allocated; high half: it reads as zeroes.
    pub bitmap: u64,
}

/// All subclusters read as zeroes.
pub(crate) const BITMAP_ALL_ZERO: u64 = 0xffff_ffff_0000_0000;
/// All subclusters are allocated.
pub(crate) const BITMAP_ALL_ALLOCATED: u64 = 0xffff_ffff;

/// Says what `entry`, which maps the cluster at guest offset `guest`, says of its subcluster `subcluster` (always 0
/// without extended entries).
///
/// # Errors
/// When reserved bits are set, an offset is not aligned, or bits contradict each other.
pub(crate) fn mapping(rules: &EntryRules, entry: L2Entry, subcluster: u32, guest: u64) -> Result<Mapping, Qcow2Error> {
    let bad = |rule| Qcow2Error::L2Entry { guest, entry: entry.descriptor, rule };
    if entry.descriptor & entry::COMPRESSED != 0 {
        if rules.data_file {
            return Err(bad("is a compressed cluster in an image with an external data file"));
        }
        if entry.bitmap != 0 {
            return Err(Qcow2Error::Bitmap { guest, bitmap: entry.bitmap, rule: "of a compressed cluster is not 0" });
        }
        return Ok(Mapping::Compressed(compressed_range(rules.geometry, entry.descriptor)));
    }
    if entry.descriptor & entry::L2_RESERVED != 0 {
        return Err(bad("has reserved bits set"));
    }
    let host = host_cluster(rules, entry.descriptor).map_err(bad)?;
    if rules.geometry.extended_l2 {
        return extended(entry, host, subcluster, guest);
    }
    let zero = entry.descriptor & entry::ZERO != 0;
    match host {
        _ if zero && !rules.zero_flag => Err(bad("has the zero flag, which version 2 does not have")),
        host if zero => Ok(Mapping::Zero { host }),
        Some(host) => Ok(Mapping::Data(host)),
        None => Ok(Mapping::Hole { host: None }),
    }
}

fn host_cluster(rules: &EntryRules, descriptor: u64) -> Result<Option<HostCluster>, &'static str> {
    let offset = descriptor & entry::OFFSET;
    let owned = descriptor & entry::COPIED != 0;
    if !offset.is_multiple_of(rules.geometry.cluster_size()) {
        return Err("has a host offset that is not a multiple of the cluster size");
    }
    // In a data file every cluster stands at its guest offset, so the flag alone tells cluster 0 from none.
    let there = offset != 0 || rules.data_file && owned;
    Ok(there.then_some(HostCluster { offset, owned }))
}

fn extended(entry: L2Entry, host: Option<HostCluster>, subcluster: u32, guest: u64) -> Result<Mapping, Qcow2Error> {
    let bitmap = entry.bitmap;
    let bad = |rule| Qcow2Error::Bitmap { guest, bitmap, rule };
    if entry.descriptor & entry::ZERO != 0 {
        return Err(Qcow2Error::L2Entry { guest, entry: entry.descriptor, rule: "has reserved bit 0 set" });
    }
    if (bitmap >> SUBCLUSTERS) & bitmap & BITMAP_ALL_ALLOCATED != 0 {
        return Err(bad("has subclusters that are both allocated and zero"));
    }
    if bitmap & BITMAP_ALL_ALLOCATED != 0 && host.is_none() {
        return Err(bad("has allocated subclusters without a host cluster"));
    }
    let allocated = bitmap >> subcluster & 1 != 0;
    let zero = bitmap >> SUBCLUSTERS >> subcluster & 1 != 0;
    match host {
        host if zero => Ok(Mapping::Zero { host }),
        Some(host) if allocated => Ok(Mapping::Data(host)),
        host => Ok(Mapping::Hole { host }),
    }
}

/// How many subclusters from `subcluster` on have the same two bits, at least one.
pub(crate) fn subcluster_run(bitmap: u64, subcluster: u32) -> u32 {
    let run = |half: u32| {
        let bits = half >> subcluster;
        let same = if bits & 1 == 0 { bits.trailing_zeros() } else { bits.trailing_ones() };
        same.min(32 - subcluster)
    };
    let halves = bitmap.to_be_bytes();
    let half = |from: usize| u32::from_be_bytes([halves[from], halves[from + 1], halves[from + 2], halves[from + 3]]);
    run(half(4)).min(run(half(0)))
}

/// The bits of `count` subclusters from `first` on, in the low half of a bitmap.
pub(crate) const fn subcluster_mask(first: u32, count: u32) -> u64 {
    (((1_u64 << count) - 1) << first) & BITMAP_ALL_ALLOCATED
}

/// Where the stream of a compressed cluster stands: the offset in the low `x` bits, above it the number of sectors
/// behind the first, with `x = 62 - (cluster_bits - 8)`.
pub(crate) fn compressed_range(geometry: Geometry, descriptor: u64) -> CompressedRange {
    let split = 62 - (geometry.cluster_bits - 8);
    let offset = descriptor & ((1 << split) - 1);
    let sectors = (descriptor & (entry::COMPRESSED - 1)) >> split;
    CompressedRange { offset, length: (sectors + 1) * COMPRESSED_SECTOR - offset % COMPRESSED_SECTOR }
}

/// The descriptor of a compressed cluster of `length` bytes at `offset`: the reverse of [`compressed_range`]. `None` when
/// the numbers do not fit.
pub(crate) fn compressed_descriptor(geometry: Geometry, offset: u64, length: u64) -> Option<u64> {
    let split = 62 - (geometry.cluster_bits - 8);
    let last = offset.checked_add(length.checked_sub(1)?)?;
    let sectors = last / COMPRESSED_SECTOR - offset / COMPRESSED_SECTOR;
    let fits = offset < 1 << split && sectors < 1 << (62 - split);
    fits.then_some(entry::COMPRESSED | sectors << split | offset)
}
