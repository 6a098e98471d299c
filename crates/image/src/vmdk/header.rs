//! The header of a hosted sparse extent, checked: what is behind [`HostedHeader::parse`] cannot be wrong by itself.
//!
//! Whether the places it names are inside the file is the business of whoever knows the file.

use zerocopy::FromBytes;

use super::error::Fault;
use super::layout::{
    CAPACITY_MAX, COMPRESSED_GRAIN_SECTORS_MAX, COMPRESSION_DEFLATE, GD_AT_END, GRAIN_SECTORS_MAX, GTES_MAX, GTES_MIN,
    NEWLINE_TEST, SECTOR, SPARSE_MAGIC, SparseHeader, flag,
};

/// What a header of a hosted sparse extent says, in sectors as there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostedHeader {
    /// 1 to 3.
    pub version: u32,
    /// Sectors of the disk in this extent; a descriptor's extent line overrules it.
    pub capacity: u64,
    /// Sectors of a grain: a power of two, at most [`GRAIN_SECTORS_MAX`].
    pub grain_sectors: u64,
    /// First sector and sectors of the embedded descriptor.
    pub descriptor: Option<(u64, u64)>,
    /// Entries of a grain table: a power of two, [`GTES_MIN`] to [`GTES_MAX`].
    pub gtes_per_gt: u64,
    /// First sector of the redundant grain directory, where there is one.
    pub rgd: Option<u64>,
    /// First sector of the grain directory.
    pub gd: DirectoryPlace,
    /// Sectors in front of the first grain.
    pub overhead: u64,
    /// The extent was not closed.
    pub unclean: bool,
    /// Grains are zlib streams.
    pub compressed: bool,
    /// Markers stand in front of compressed grains.
    pub markers: bool,
    /// A grain table entry of 1 is a grain of zeroes.
    pub zeroed_grains: bool,
}

/// Where the grain directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryPlace {
    /// At this sector.
    Sector(u64),
    /// The footer tells.
    Footer,
}

impl HostedHeader {
    /// Reads and checks a header or footer from the front of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let (raw, _) = SparseHeader::read_from_prefix(bytes).map_err(|_| Fault::TooShort {
            what: "header",
            length: bytes.len() as u64,
            needed: SECTOR,
        })?;
        if raw.magic != SPARSE_MAGIC {
            return Err(Fault::Magic { what: "header" });
        }
        let version = raw.version.get();
        match version {
            0 => return Err(Fault::VersionZero),
            1..=3 => {}
            _ => return Err(Fault::Version { what: "header", version: version.into() }),
        }
        let flags = raw.flags.get();
        if flags & flag::NEWLINE_TEST != 0 && raw.newline_test != NEWLINE_TEST {
            return Err(Fault::NewlineTest { found: raw.newline_test });
        }
        let unknown = flags & flag::INCOMPATIBLE & !(flag::COMPRESSED | flag::MARKERS);
        if unknown != 0 {
            return Err(Fault::Flags { what: "header", flags: unknown.into() });
        }
        let compressed = compression(flags, raw.compress_algorithm.get())?;
        let markers = flags & flag::MARKERS != 0;
        if markers && !compressed {
            return Err(Fault::MarkersWithoutCompression);
        }
        let grain_sectors = grain_sectors("header", raw.grain_size.get(), compressed)?;
        let capacity = raw.capacity.get();
        if capacity > CAPACITY_MAX {
            return Err(Fault::Capacity { what: "header", sectors: capacity });
        }
        let gd = match raw.gd_offset.get() {
            GD_AT_END => DirectoryPlace::Footer,
            sector => DirectoryPlace::Sector(sector),
        };
        let rgd = raw.rgd_offset.get();
        // VirtualBox gives the directory's own place here when it has no second copy.
        let second = flags & flag::REDUNDANT_TABLE != 0 && rgd != 0 && rgd != GD_AT_END && rgd != raw.gd_offset.get();
        let descriptor = (raw.descriptor_offset.get(), raw.descriptor_size.get());
        Ok(Self {
            version,
            capacity,
            grain_sectors,
            descriptor: (descriptor.0 != 0 && descriptor.1 != 0).then_some(descriptor),
            gtes_per_gt: gtes_per_gt("header", raw.gtes_per_gt.get().into())?,
            rgd: second.then_some(rgd),
            gd,
            overhead: raw.overhead.get(),
            unclean: raw.unclean_shutdown != 0,
            compressed,
            markers,
            zeroed_grains: flags & flag::ZEROED_GRAINS != 0,
        })
    }

    /// Reads and checks a footer. That it has no magic is no sign of another format: the header had one.
    pub(crate) fn parse_footer(bytes: &[u8]) -> Result<Self, Fault> {
        Self::parse(bytes).map_err(|fault| match fault {
            Fault::Magic { .. } => Fault::FooterMagic,
            other => other,
        })
    }

    /// Bytes of a grain.
    pub(crate) fn grain_bytes(&self) -> u64 {
        self.grain_sectors * SECTOR
    }

    /// Whether a file of `file` bytes can hold a grain directory for all of the capacity. One whose place only the footer
    /// knows can.
    pub(crate) fn directory_fits(&self, file: u64) -> bool {
        let DirectoryPlace::Sector(sector) = self.gd else { return true };
        let bytes = self.capacity.div_ceil(self.grain_sectors).div_ceil(self.gtes_per_gt) * 4;
        sector.checked_mul(SECTOR).and_then(|at| at.checked_add(bytes)).is_some_and(|end| end <= file)
    }

    /// Bytes of a grain table.
    pub(crate) fn gt_bytes(&self) -> u64 {
        self.gtes_per_gt * 4
    }
}

/// Whether grains are compressed. Writers agree on the algorithm and not on the flag, so either is enough.
fn compression(flags: u32, algorithm: u16) -> Result<bool, Fault> {
    match (flags & flag::COMPRESSED != 0, algorithm) {
        (true, 0) => Err(Fault::CompressionNotNamed),
        (false, 0) => Ok(false),
        (_, COMPRESSION_DEFLATE) => Ok(true),
        (_, other) => Err(Fault::Compression(other)),
    }
}

/// Checks a grain size.
pub(crate) fn grain_sectors(what: &'static str, sectors: u64, compressed: bool) -> Result<u64, Fault> {
    if !sectors.is_power_of_two() {
        return Err(Fault::GrainSize { what, sectors });
    }
    let most = if compressed { COMPRESSED_GRAIN_SECTORS_MAX } else { GRAIN_SECTORS_MAX };
    if sectors > most {
        return Err(Fault::GrainTooLarge { what, sectors, most });
    }
    Ok(sectors)
}

/// Checks how many entries a grain table has.
pub(crate) fn gtes_per_gt(what: &'static str, entries: u64) -> Result<u64, Fault> {
    if !entries.is_power_of_two() {
        return Err(Fault::TableEntries { what, entries });
    }
    if !(GTES_MIN..=GTES_MAX).contains(&entries) {
        return Err(Fault::TableEntriesRange { what, entries });
    }
    Ok(entries)
}
