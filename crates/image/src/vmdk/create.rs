//! Makes new VMDKs for random writing: hosted sparse ones and flat ones, in one file or in pieces of 2 GB.
//!
//! ```text
//! monolithicSparse       name.vmdk            header │ descriptor │ RGD │ RGTs │ GD │ GTs │ pad │ grains
//! twoGbMaxExtentSparse   name.vmdk + name-s001.vmdk …   each: header │ RGD │ RGTs │ GD │ GTs │ pad │ grains
//! monolithicFlat, vmfs   name.vmdk + name-flat.vmdk
//! twoGbMaxExtentFlat     name.vmdk + name-f001.vmdk …
//! ```
//!
//! All grain tables of a sparse extent are there from the start, in two copies, as VMware's own products write them; they
//! are holes in the file until a grain is written. A new image stands open (`uncleanShutdown`) until
//! [`finish`](crate::ImageWrite::finish).

use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result, Storage, ZeroMode};
use zerocopy::IntoBytes;

use super::describe::{ContentIdentity, Description, ExtentLine, ParentLine, own_name, referable_name};
use super::layout::{CAPACITY_MAX, NEWLINE_TEST, SECTOR, SPARSE_MAGIC, SparseHeader, flag};
use super::options::{CreateOptions, Subformat};
use super::write::{Content, Directories, Part, SparseExtent, SparseShape, WritableDisk};
use crate::{ContentId, CreateRequest, ImageWrite};

/// Sectors of a grain: 64 KiB, as VMware's products write it.
pub(super) const GRAIN_SECTORS: u64 = 128;
/// Entries of a grain table: the one number that VMware reads.
pub(super) const GTES: u64 = 512;
/// Sectors of a grain table.
const GT_SECTORS: u64 = GTES * 4 / SECTOR;
/// Sectors of an embedded descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;
/// Sectors of a sparse piece: 2047 MiB, so that the file with its tables stays below 2 GiB. VMware's and VirtualBox's
/// number.
pub(super) const SPARSE_PIECE_SECTORS: u64 = 4_192_256;
/// Sectors of a flat piece, 256 KiB short of 2 GiB. VMware's number.
pub(super) const FLAT_PIECE_SECTORS: u64 = 4_193_792;

/// Makes a new image for random writing.
///
/// # Errors
/// `InvalidInput` for options that do not fit each other, a name that a descriptor cannot hold, or a parent that was not
/// opened; `Unsupported` for streamOptimized, which is written from front to back; `TooLarge` for a disk beyond the
/// format; what the files answer.
pub(crate) fn create(request: CreateRequest<'_>) -> Result<Arc<dyn ImageWrite>> {
    let options = CreateOptions::new(request.options)?;
    let subformat = options.subformat_or(Subformat::MonolithicSparse)?;
    let capacity = checked_capacity(&options, request.size)?;
    let identity = ContentIdentity::derive(request.ids, "vmdk content");
    let parent = parent_line(&request, &options)?;
    let plan = Plan { request: &request, options: &options, subformat, capacity, identity, parent };
    let parts = match subformat {
        Subformat::MonolithicSparse => plan.monolithic_sparse()?,
        Subformat::TwoGbMaxExtentSparse => plan.pieces(SPARSE_PIECE_SECTORS, 's')?,
        Subformat::TwoGbMaxExtentFlat => plan.pieces(FLAT_PIECE_SECTORS, 'f')?,
        Subformat::MonolithicFlat | Subformat::Vmfs => plan.flat()?,
        Subformat::StreamOptimized => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "VMDK: subformat=streamOptimized is written from front to back, not at random places",
            ));
        }
    };
    Ok(Arc::new(WritableDisk::created(parts)))
}

/// The sectors of a disk of `size` bytes, when a VMDK can have them.
///
/// # Errors
/// `TooLarge` when it cannot.
pub(super) fn checked_capacity(options: &CreateOptions, size: u64) -> Result<u64> {
    let capacity = options.capacity(size)?;
    if capacity > CAPACITY_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("VMDK: a disk of {capacity} sectors, at most {CAPACITY_MAX} are possible"),
        ));
    }
    Ok(capacity)
}

/// What the descriptor says of the parent, which the caller opened.
fn parent_line(request: &CreateRequest<'_>, options: &CreateOptions) -> Result<Option<ParentLine>> {
    let Some(name) = &options.backing_file else { return Ok(None) };
    let invalid = |why: &str| Error::new(ErrorKind::InvalidInput, format!("VMDK options: backing_file={name}: {why}"));
    let layer = request.backing.ok_or_else(|| invalid("it was not opened, and its CID is needed"))?;
    let cid = layer.content_ids.iter().find_map(|id| match id {
        ContentId::VmdkCid(cid) => Some(*cid),
        _ => None,
    });
    let cid = cid.ok_or_else(|| invalid("the parent must be a VMDK whose descriptor has a CID"))?;
    Ok(Some(ParentLine { cid, file: referable_name(name)? }))
}

/// Where everything in a hosted sparse file stands, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SparseLayout {
    capacity: u64,
    descriptor_sectors: u64,
    rgd: u64,
    gd: u64,
    tables: u64,
    pub(super) overhead: u64,
}

impl SparseLayout {
    /// The layout of a file that holds `capacity` sectors of the disk.
    ///
    /// # Errors
    /// `TooLarge` when the tables alone reach 2 TiB.
    pub(super) fn new(capacity: u64, with_descriptor: bool) -> Result<Self> {
        let tables = capacity.div_ceil(GRAIN_SECTORS).div_ceil(GTES);
        let descriptor_sectors = if with_descriptor { DESCRIPTOR_SECTORS } else { 0 };
        let one_copy = super::sink::directory_sectors(tables) + tables * GT_SECTORS;
        let rgd = 1 + descriptor_sectors;
        let gd = rgd + one_copy;
        let overhead = (gd + one_copy).next_multiple_of(GRAIN_SECTORS);
        if overhead > u64::from(u32::MAX) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("VMDK: the tables of a sparse file for {capacity} sectors reach 2 TiB"),
            )
            .with_remedy("use subformat=streamOptimized, or another format"));
        }
        Ok(Self { capacity, descriptor_sectors, rgd, gd, tables, overhead })
    }

    fn header(&self, zeroed_grains: bool) -> SparseHeader {
        let zeroed = if zeroed_grains { flag::ZEROED_GRAINS } else { 0 };
        SparseHeader {
            magic: SPARSE_MAGIC,
            version: if zeroed_grains { 2 } else { 1 }.into(),
            flags: (flag::NEWLINE_TEST | flag::REDUNDANT_TABLE | zeroed).into(),
            capacity: self.capacity.into(),
            grain_size: GRAIN_SECTORS.into(),
            descriptor_offset: u64::from(self.descriptor_sectors > 0).into(),
            descriptor_size: self.descriptor_sectors.into(),
            gtes_per_gt: 512.into(),
            rgd_offset: self.rgd.into(),
            gd_offset: self.gd.into(),
            overhead: self.overhead.into(),
            unclean_shutdown: 1,
            newline_test: NEWLINE_TEST,
            compress_algorithm: 0.into(),
            padding: [0; 433],
        }
    }

    /// Writes the grain directory at sector `directory`, whose tables follow it.
    fn write_directory(&self, storage: &dyn Storage, directory: u64) -> Result<()> {
        const ENTRIES: u64 = 16 << 10;
        let first = directory + super::sink::directory_sectors(self.tables);
        let mut table = 0;
        while table < self.tables {
            let until = self.tables.min(table + ENTRIES);
            let mut bytes = Vec::with_capacity(usize::try_from((until - table) * 4).unwrap_or(0));
            for index in table..until {
                let sector = u32::try_from(first + index * GT_SECTORS).expect("the overhead is below 2 TiB");
                bytes.extend_from_slice(&sector.to_le_bytes());
            }
            storage.write_at(&bytes, directory * SECTOR + table * 4)?;
            table = until;
        }
        Ok(())
    }
}

/// A request with everything that was found out about it.
struct Plan<'a> {
    request: &'a CreateRequest<'a>,
    options: &'a CreateOptions,
    subformat: Subformat,
    capacity: u64,
    identity: ContentIdentity,
    parent: Option<ParentLine>,
}

impl Plan<'_> {
    fn description(&self, extents: &[ExtentLine]) -> String {
        Description {
            create_type: self.subformat.name(),
            capacity: self.capacity,
            identity: &self.identity,
            parent: self.parent.as_ref(),
            extents,
            options: self.options,
        }
        .text()
    }

    fn monolithic_sparse(&self) -> Result<Vec<Part>> {
        let layout = SparseLayout::new(self.capacity, true)?;
        let file = own_name(self.request.files.name());
        let text = self.description(&[ExtentLine { sectors: self.capacity, kind: "SPARSE", file, offset: None }]);
        let room = DESCRIPTOR_SECTORS * SECTOR;
        if text.len() as u64 > room {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("VMDK descriptor of {} bytes, room for {room}", text.len()),
            )
            .with_remedy("give the parent a shorter path"));
        }
        let storage = self.request.files.primary()?;
        let extent = self.sparse_extent(&storage, layout, Some(&text), self.request.cache_bytes)?;
        Ok(vec![Part { range: 0..self.capacity * SECTOR, content: Content::Sparse(extent) }])
    }

    /// Files of at most `most` sectors, numbered from 1 with `letter` before the number.
    fn pieces(&self, most: u64, letter: char) -> Result<Vec<Part>> {
        let stem = stem(self.request.files.name())?;
        // An empty disk still has a piece: a descriptor without extents is refused by readers.
        let count = self.capacity.div_ceil(most).max(1);
        let cache_bytes = self.request.cache_bytes / usize::try_from(count).unwrap_or(usize::MAX);
        let (mut lines, mut parts) = (Vec::new(), Vec::new());
        for index in 0..count {
            let file = format!("{stem}-{letter}{:03}.vmdk", index + 1);
            let sectors = (self.capacity - index * most).min(most);
            let storage = self.request.files.sibling(&file)?;
            let start = index * most * SECTOR;
            let range = start..start + sectors * SECTOR;
            let (kind, offset, content) = if self.subformat.is_sparse() {
                let layout = SparseLayout::new(sectors, false)?;
                let extent = self.sparse_extent(&storage, layout, None, cache_bytes)?;
                ("SPARSE", None, Content::Sparse(extent))
            } else {
                self.make_flat(&*storage, sectors * SECTOR)?;
                ("FLAT", Some(0), Content::Flat { storage, offset: 0 })
            };
            lines.push(ExtentLine { sectors, kind, file, offset });
            parts.push(Part { range, content });
        }
        self.write_descriptor(&lines)?;
        Ok(parts)
    }

    fn flat(&self) -> Result<Vec<Part>> {
        let file = format!("{}-flat.vmdk", stem(self.request.files.name())?);
        let storage = self.request.files.sibling(&file)?;
        self.make_flat(&*storage, self.capacity * SECTOR)?;
        // Hosted products spell the offset out, ESXi does not.
        let (kind, offset) = if self.subformat == Subformat::Vmfs { ("VMFS", None) } else { ("FLAT", Some(0)) };
        self.write_descriptor(&[ExtentLine { sectors: self.capacity, kind, file, offset }])?;
        Ok(vec![Part { range: 0..self.capacity * SECTOR, content: Content::Flat { storage, offset: 0 } }])
    }

    /// Makes a new file as long as the guest's bytes that it will hold, and sets their room aside if asked.
    fn make_flat(&self, storage: &dyn Storage, bytes: u64) -> Result<()> {
        storage.set_size(bytes)?;
        self.options.preallocation.set_aside(storage, bytes)
    }

    fn write_descriptor(&self, lines: &[ExtentLine]) -> Result<()> {
        let text = self.description(lines);
        let storage = self.request.files.primary()?;
        storage.set_size(text.len() as u64)?;
        storage.write_at(text.as_bytes(), 0)?;
        storage.flush()
    }

    fn sparse_extent(
        &self,
        storage: &Arc<dyn Storage>,
        layout: SparseLayout,
        descriptor: Option<&str>,
        cache_bytes: usize,
    ) -> Result<SparseExtent> {
        let (stale, overhead) = (storage.size(), layout.overhead * SECTOR);
        if stale < overhead {
            storage.set_size(overhead)?;
        }
        if stale > 0 {
            storage.write_zeroes_at(0..stale.min(overhead), ZeroMode::Unmap)?;
        }
        storage.write_at(layout.header(self.options.zeroed_grain).as_bytes(), 0)?;
        if let Some(text) = descriptor {
            storage.write_at(text.as_bytes(), SECTOR)?;
        }
        layout.write_directory(&**storage, layout.rgd)?;
        layout.write_directory(&**storage, layout.gd)?;
        let shape = SparseShape {
            size: layout.capacity * SECTOR,
            grain: GRAIN_SECTORS * SECTOR,
            directories: Directories { gd: layout.gd, rgd: Some(layout.rgd), entries: GTES },
            overhead,
            zeroed_grains: self.options.zeroed_grain,
            has_parent: self.parent.is_some(),
            stale,
        };
        Ok(SparseExtent::new(Arc::clone(storage), shape, cache_bytes))
    }
}

/// The name of the image without its ending, from which the names of its extents are made.
fn stem(name: &str) -> Result<String> {
    let stem = match name.len().checked_sub(5).and_then(|at| name.split_at_checked(at)) {
        Some((stem, ending)) if ending.eq_ignore_ascii_case(".vmdk") && !stem.is_empty() => stem,
        _ => name,
    };
    referable_name(stem)
}
