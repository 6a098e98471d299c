//! Opens seSparse extents: snapshots on VMFS 6 and of disks over 2 TiB.
//!
//! VMware has not documented the format; the layout and the meaning of entries are those that QEMU's driver found. What
//! differs from it anywhere is refused, since a guess would be somebody's data.

use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::cache::BlockCache;
use super::cowd::check_directory;
use super::error::Fault;
use super::hosted::read_within;
use super::layout::{
    CAPACITY_MAX, SECTOR, SESPARSE_GRAIN_SECTORS, SESPARSE_MAGIC, SESPARSE_TABLE_SECTORS, SESPARSE_VERSION,
    SESPARSE_VOLATILE_MAGIC, SeSparseHeader, SeSparseVolatileHeader,
};
use super::map::{Dialect, SeSparsePlaces, Tables};
use super::sparse::Sparse;

const WHAT: &str = "seSparse header";

/// What the headers say, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeSparse {
    /// Sectors of the disk.
    pub capacity: u64,
    pub grain_sectors: u64,
    directory: u64,
    directory_sectors: u64,
    places: SeSparsePlaces,
}

/// Reads and checks both headers.
pub(crate) fn read_header(file: &dyn BlockRead) -> Result<SeSparse> {
    let mut sector = [0; 512];
    read_within(file, WHAT, 0, &mut sector)?;
    let raw = SeSparseHeader::read_from_bytes(&sector).expect("the header's size");
    if raw.magic.get() != SESPARSE_MAGIC {
        return Err(Fault::Magic { what: WHAT }.into());
    }
    if raw.version.get() != SESPARSE_VERSION {
        return Err(Fault::Version { what: WHAT, version: raw.version.get() }.into());
    }
    if raw.flags.get() != 0 {
        return Err(Fault::Flags { what: WHAT, flags: raw.flags.get() }.into());
    }
    if let Some(reserved) = raw.reserved.iter().find(|reserved| reserved.get() != 0) {
        return Err(Fault::Flags { what: "seSparse reserved field", flags: reserved.get() }.into());
    }
    for (what, value, expected) in [
        ("grain size", raw.grain_size.get(), SESPARSE_GRAIN_SECTORS),
        ("grain table size", raw.grain_table_size.get(), SESPARSE_TABLE_SECTORS),
    ] {
        if value != expected {
            return Err(Fault::SeSparseGeometry { what, value, expected }.into());
        }
    }
    check_volatile(file, raw.volatile_header_offset.get())?;
    let capacity = raw.capacity.get();
    if capacity > CAPACITY_MAX {
        return Err(Fault::Capacity { what: WHAT, sectors: capacity }.into());
    }
    let bytes = |what, sector: u64| {
        let at = sector.checked_mul(SECTOR).filter(|at| *at <= file.size());
        at.ok_or(Fault::OutsideFile { what, sector, bytes: 0, file: file.size() })
    };
    let tables = bytes("grain tables", raw.grain_tables_offset.get())?;
    let grains = bytes("grains", raw.grains_offset.get())?;
    let (directory, directory_sectors) = (raw.grain_dir_offset.get(), raw.grain_dir_size.get());
    let places = SeSparsePlaces { tables, grains };
    Ok(SeSparse { capacity, grain_sectors: raw.grain_size.get(), directory, directory_sectors, places })
}

fn check_volatile(file: &dyn BlockRead, sector: u64) -> Result<()> {
    const WHAT: &str = "seSparse volatile header";
    let mut bytes = [0; 512];
    read_within(file, WHAT, sector, &mut bytes)?;
    let raw = SeSparseVolatileHeader::read_from_bytes(&bytes).expect("the header's size");
    if raw.magic.get() != SESPARSE_VOLATILE_MAGIC {
        return Err(Fault::BadMagic { what: WHAT, found: raw.magic.get() }.into());
    }
    if raw.replay_journal.get() != 0 {
        return Err(Fault::Journal.into());
    }
    Ok(())
}

/// Opens the tables for the first `sectors` of the extent.
pub(crate) fn open(
    file: &Arc<dyn BlockRead>,
    header: &SeSparse,
    sectors: u64,
    cache: &Arc<BlockCache>,
    extent: usize,
) -> Result<Sparse> {
    let gtes_per_gt = SESPARSE_TABLE_SECTORS * SECTOR / 8;
    let needed = sectors.div_ceil(header.grain_sectors).div_ceil(gtes_per_gt);
    let entries = header.directory_sectors.saturating_mul(SECTOR / 8);
    if entries < needed {
        return Err(Fault::DirectoryTooShort { entries, needed }.into());
    }
    check_directory(&**file, header.directory, needed * 8)?;
    let tables = Tables {
        file: Arc::clone(file),
        dialect: Dialect::SeSparse(header.places),
        directory: header.directory * SECTOR,
        entries: needed,
        gtes_per_gt,
        grain_bytes: header.grain_sectors * SECTOR,
        cache: Arc::clone(cache),
        extent,
    };
    Ok(Sparse { tables, size: sectors * SECTOR, markers: false })
}
