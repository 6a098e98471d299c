//! Opens vmfsSparse extents: `COWD`, the redo logs and snapshots of ESX hosts.
//!
//! "Virtual Disk Format 5.0", "ESXi Host Sparse Extents", with the header as libvmdk documents it.

use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::FromBytes;

use super::cache::BlockCache;
use super::error::Fault;
use super::header::grain_sectors;
use super::hosted::read_within;
use super::layout::{COWD_GTES_PER_GT, COWD_MAGIC, CowdHeader, DIRECTORY_MAX, SECTOR};
use super::map::{Dialect, Tables};
use super::sparse::Sparse;

/// What the header says, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cowd {
    /// Sectors of the disk.
    pub capacity: u64,
    pub grain_sectors: u64,
    directory: u64,
    entries: u64,
}

/// Reads and checks the header.
pub(crate) fn read_header(file: &dyn BlockRead) -> Result<Cowd> {
    const WHAT: &str = "COWD header";
    let mut bytes = [0; 2048];
    read_within(file, WHAT, 0, &mut bytes)?;
    let raw = CowdHeader::read_from_bytes(&bytes).expect("the header's size");
    if raw.magic != COWD_MAGIC {
        return Err(Fault::Magic { what: WHAT }.into());
    }
    if raw.version.get() != 1 {
        return Err(Fault::Version { what: WHAT, version: raw.version.get().into() }.into());
    }
    let header = Cowd {
        capacity: raw.capacity.get().into(),
        grain_sectors: grain_sectors(WHAT, raw.grain_size.get().into(), false)?,
        directory: raw.gd_offset.get().into(),
        entries: raw.gd_entries.get().into(),
    };
    if header.directory == 0 {
        return Err(Fault::NoDirectory.into());
    }
    Ok(header)
}

/// Opens the tables for the first `sectors` of the extent.
pub(crate) fn open(
    file: &Arc<dyn BlockRead>,
    header: &Cowd,
    sectors: u64,
    cache: &Arc<BlockCache>,
    extent: usize,
) -> Result<Sparse> {
    let needed = sectors.div_ceil(header.grain_sectors).div_ceil(COWD_GTES_PER_GT);
    if header.entries < needed {
        return Err(Fault::DirectoryTooShort { entries: header.entries, needed }.into());
    }
    check_directory(&**file, header.directory, needed * 4)?;
    let tables = Tables {
        file: Arc::clone(file),
        dialect: Dialect::Cowd,
        directory: header.directory * SECTOR,
        entries: needed,
        gtes_per_gt: COWD_GTES_PER_GT,
        grain_bytes: header.grain_sectors * SECTOR,
        cache: Arc::clone(cache),
        extent,
    };
    Ok(Sparse { tables, size: sectors * SECTOR, markers: false })
}

/// Checks that a directory of `bytes` at `sector` is inside the file.
pub(crate) fn check_directory(file: &dyn BlockRead, sector: u64, bytes: u64) -> Result<()> {
    const WHAT: &str = "grain directory";
    if bytes > DIRECTORY_MAX {
        return Err(Fault::DirectoryTooLarge { what: WHAT, bytes, most: DIRECTORY_MAX }.into());
    }
    let end = sector.checked_mul(SECTOR).and_then(|at| at.checked_add(bytes));
    if end.is_none_or(|end| end > file.size()) {
        return Err(Fault::OutsideFile { what: WHAT, sector, bytes, file: file.size() }.into());
    }
    Ok(())
}
