//! Opens a VHD: the one place that sees the values of its footers and header before they are checked.
//!
//! Which footer counts: the one at the file's end, unless it is damaged or missing and there is a sound copy at the
//! start. A copy of another disk at the start is what a guest wrote into a fixed disk, and a footer of another disk at the
//! end is what a guest wrote into a dynamic one whose own footer was cut off: the two are of one image when they have the
//! same id.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{BlockRead, Result};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::Fault;
use super::fixed::FixedDisk;
use super::geometry::{Geometry, SizeSource, virtual_size};
use super::layout::{
    BLOCK_MIN, DynamicHeader, FOOTER_BYTES, Footer, HEADER_BYTES, HEADER_COOKIE, OLD_FOOTER_BYTES, SECTOR, SIZE_MAX,
    disk_type,
};
use super::map::Shape;
use super::parent;
use super::probe;
use super::sparse::SparseDisk;
use crate::{Access, ContentId, ImageInfo, ImageWrite, Layer, OpenRequest, ParentReference, Source};

/// What the bytes of an image say, checked.
#[derive(Debug)]
pub(super) struct Image {
    /// The footer that counts.
    pub(super) footer: Footer,
    pub(super) ends: Ends,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) size_source: SizeSource,
    pub(super) body: Body,
    pub(super) warnings: Vec<String>,
}

/// The footers that were found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// What begins as a footer at the start.
    pub(super) front: Option<Footer>,
    /// What begins as a footer at the end, and the bytes in front of it.
    pub(super) back: Option<(Footer, u64)>,
}

/// How the bytes of the disk are held.
#[derive(Debug)]
pub(super) enum Body {
    /// From the start of the file on.
    Fixed,
    /// In blocks.
    Sparse { header: Box<DynamicHeader>, header_offset: u64, shape: Shape },
}

/// Opens one layer.
pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, cache_bytes, .. } = request;
    let mut image = Image::read(&**source.bytes())?;
    let (parent, parent_info) = image.parent(&**source.bytes())?;
    let info = image.info(parent_info);
    let content_ids = vec![ContentId::Uuid(image.footer.unique_id)];
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => (image.device(&source, cache_bytes), None),
        Access::ReadWrite => {
            let writer = image.writer(&source, cache_bytes)?;
            (Arc::clone(&writer) as Arc<dyn BlockRead>, Some(writer))
        }
    };
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent, content_ids })
}

/// Says what the image says of itself.
pub(super) fn describe(source: &Source) -> Result<ImageInfo> {
    let mut image = Image::read(&**source.bytes())?;
    let (_, parent) = image.parent(&**source.bytes())?;
    let info = image.info(parent);
    Ok(ImageInfo { file_size: Some(source.bytes().size()), allocated_size: source.allocated_size(), ..info })
}

impl Image {
    /// Reads and checks everything but the block allocation table.
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        let ends = Ends::read(file)?;
        let mut warnings = Vec::new();
        let (footer, before) = ends.choose(file.size(), &mut warnings)?;
        let (size, size_source) = virtual_size(&footer);
        if footer.disk_type.get() == disk_type::FIXED {
            let size = fixed_size(&footer, size, before)?;
            return Ok(Self { footer, ends, size, size_source, body: Body::Fixed, warnings });
        }
        if size > SIZE_MAX {
            return Err(Fault::TooLarge { size, most: SIZE_MAX }.into());
        }
        if !size.is_multiple_of(SECTOR) {
            return Err(Fault::PartialSector { size }.into());
        }
        let header_offset = footer.data_offset.get();
        let header = read_header(file, header_offset)?;
        let has_parent = footer.disk_type.get() == disk_type::DIFFERENCING;
        let shape = checked_shape(&header, size, has_parent, file.size())?;
        let body = Body::Sparse { header: Box::new(header), header_offset, shape };
        Ok(Self { footer, ends, size, size_source, body, warnings })
    }

    /// What a differencing disk hangs from, and what is to be said of that.
    fn parent(&mut self, file: &dyn BlockRead) -> Result<(Option<ParentReference>, Option<parent::Description>)> {
        match &self.body {
            Body::Sparse { header, shape, .. } if shape.has_parent => {
                let found = parent::read(file, header, &mut self.warnings)?;
                Ok((Some(found.reference), Some(found.description)))
            }
            _ => Ok((None, None)),
        }
    }

    /// The disk for reading.
    fn device(&self, source: &Source, cache_bytes: usize) -> Arc<dyn BlockRead> {
        let file = Arc::clone(source.bytes());
        match &self.body {
            Body::Fixed => Arc::new(FixedDisk::for_reading(file, self.size)),
            Body::Sparse { shape, .. } => Arc::new(SparseDisk::for_reading(file, *shape, cache_bytes)),
        }
    }

    /// The disk for writing.
    pub(super) fn writer(&self, source: &Source, cache_bytes: usize) -> Result<Arc<dyn ImageWrite>> {
        let storage = Arc::clone(source.storage()?);
        if self.is_saved() {
            return Err(Fault::SavedState.into());
        }
        Ok(match &self.body {
            Body::Fixed => Arc::new(FixedDisk::for_writing(storage, self.size)),
            Body::Sparse { shape, .. } => {
                let end = self.end_of_blocks(storage.size());
                Arc::new(SparseDisk::for_writing(storage, *shape, self.footer, end, cache_bytes))
            }
        })
    }

    /// Whether a suspended machine counts on the disk's content.
    pub(super) fn is_saved(&self) -> bool {
        self.footer.saved_state != 0
    }

    /// The byte behind everything in a file of `file` bytes but the footer at its end.
    pub(super) fn end_of_blocks(&self, file: u64) -> u64 {
        let own = self.ends.back.filter(|(footer, _)| footer.unique_id == self.footer.unique_id);
        own.map_or(file, |(_, before)| before).next_multiple_of(SECTOR)
    }

    fn info(&self, parent: Option<parent::Description>) -> ImageInfo {
        let footer = &self.footer;
        let variant = match footer.disk_type.get() {
            disk_type::FIXED => "fixed",
            disk_type::DYNAMIC => "dynamic",
            _ => "differencing",
        };
        let mut info = ImageInfo {
            format: super::FORMAT.name.to_owned(),
            variant: Some(variant.to_owned()),
            virtual_size: self.size,
            warnings: self.warnings.clone(),
            ..ImageInfo::default()
        };
        let geometry = Geometry::of_footer(footer);
        let Geometry { cylinders, heads, sectors_per_track } = geometry;
        let source = match self.size_source {
            SizeSource::CurrentSize => "current-size",
            SizeSource::Geometry => "geometry",
        };
        let mut detail = |key: &str, value: String| info.details.insert(key.to_owned(), value);
        detail("creator-application", shown(&footer.creator_application));
        detail("creator-version", format!("{:#010x}", footer.creator_version.get()));
        detail("creator-host-os", shown(&footer.creator_host_os));
        detail("unique-id", ContentId::Uuid(footer.unique_id).to_string().trim_start_matches("UUID ").to_owned());
        detail("geometry", format!("{cylinders}/{heads}/{sectors_per_track}"));
        detail("size-from", source.to_owned());
        detail("current-size", footer.current_size.get().to_string());
        detail("original-size", footer.original_size.get().to_string());
        detail("time-stamp", footer.time_stamp.get().to_string());
        if self.is_saved() {
            detail("saved-state", "yes".to_owned());
        }
        if let Some(parent) = parent {
            detail("parent-unique-id", parent.unique_id);
            detail("parent-time-stamp", parent.time_stamp.to_string());
            info.backing_file = parent.name;
            info.backing_format = Some(super::FORMAT.name.to_owned());
        }
        if let Body::Sparse { shape, .. } = &self.body {
            info.cluster_size = Some(shape.block);
        }
        info
    }
}

/// Four letters as a person sees them.
fn shown(letters: &[u8; 4]) -> String {
    letters.escape_ascii().to_string().trim_end_matches("\\x00").trim_end().to_owned()
}

impl Ends {
    fn read(file: &dyn BlockRead) -> Result<Self> {
        let read = |range: Range<u64>| -> Result<Option<Footer>> {
            let mut bytes = [0; size_of::<Footer>()];
            let length = usize::try_from(range.end - range.start).expect("511 or 512");
            file.read_at(&mut bytes[..length], range.start)?;
            Ok(Footer::read_from_bytes(&bytes).ok().filter(|footer| footer.cookie == super::layout::FOOTER_COOKIE))
        };
        let size = file.size();
        let front = if size < FOOTER_BYTES { None } else { read(0..FOOTER_BYTES)? };
        let mut back = None;
        for length in [FOOTER_BYTES, OLD_FOOTER_BYTES] {
            let Some(before) = size.checked_sub(length) else { continue };
            if back.is_none() {
                back = read(before..size)?.map(|footer| (footer, before));
            }
        }
        Ok(Self { front, back })
    }

    /// The footer that counts, and the bytes in front of the file's end or of the footer there.
    fn choose(&self, file: u64, warnings: &mut Vec<String>) -> Result<(Footer, u64), Fault> {
        let front = self.front.filter(|footer| footer.is_sound() && is_sparse(footer));
        let back = self.back.filter(|(footer, _)| footer.is_sound());
        let (footer, before) = match (front, back) {
            (_, Some((footer, before))) if probe::is_exact(&footer, before) => (footer, before),
            (Some(front), Some((back, before))) if front.unique_id == back.unique_id => {
                if front != back {
                    warnings.push("the footer and the copy of it at the file's start differ".to_owned());
                }
                (back, before)
            }
            (Some(front), other) => {
                let what = match (other, self.back) {
                    (Some(_), _) => "the footer at the file's end is another disk's",
                    (None, Some(_)) => "the footer at the file's end is damaged",
                    (None, None) => "the footer at the file's end is missing",
                };
                warnings.push(format!("{what}; the copy at its start was used"));
                (front, file)
            }
            (None, Some((back, before))) => {
                if is_sparse(&back) {
                    let what = if self.front.is_some() { "damaged" } else { "missing" };
                    warnings.push(format!("the copy of the footer at the file's start is {what}"));
                }
                (back, before)
            }
            (None, None) => match (self.back, self.front) {
                // Nothing but the checksum speaks against it.
                (Some((footer, before)), _) if probe::is_exact(&footer, before) => {
                    warnings.push("the footer's checksum is wrong; it tells the file's length right".to_owned());
                    (footer, before)
                }
                (Some((footer, _)), _) | (None, Some(footer)) => {
                    return Err(Fault::FooterDamaged { found: footer.checksum.get() });
                }
                (None, None) => return Err(Fault::NoFooter),
            },
        };
        let version = footer.version.get();
        if version >> 16 != super::layout::VERSION >> 16 {
            return Err(Fault::Version(version));
        }
        match footer.disk_type.get() {
            disk_type::FIXED | disk_type::DYNAMIC | disk_type::DIFFERENCING => Ok((footer, before)),
            other => Err(Fault::DiskType(other)),
        }
    }
}

fn is_sparse(footer: &Footer) -> bool {
    matches!(footer.disk_type.get(), disk_type::DYNAMIC | disk_type::DIFFERENCING)
}

/// The size of a fixed disk with `before` bytes in front of its footer. There is no bound but the file's own length:
/// Azure has fixed disks that are larger than a dynamic one can be.
fn fixed_size(footer: &Footer, size: u64, before: u64) -> Result<u64, Fault> {
    // A geometry of more than the file has was made up by somebody else than the file's maker.
    let size = if size > before && footer.current_size.get() <= before { footer.current_size.get() } else { size };
    if size > before {
        return Err(Fault::CutOff { size, there: before });
    }
    Ok(size)
}

fn read_header(file: &dyn BlockRead, offset: u64) -> Result<DynamicHeader> {
    let place = Fault::HeaderPlace { offset, file: file.size() };
    if offset.checked_add(HEADER_BYTES).is_none_or(|end| end > file.size()) {
        return Err(place.into());
    }
    let mut header = DynamicHeader::new_zeroed();
    file.read_at(header.as_mut_bytes(), offset)?;
    if header.cookie != HEADER_COOKIE {
        return Err(Fault::HeaderCookie { offset }.into());
    }
    let (found, right) = (header.checksum.get(), header.right_checksum());
    if found != right {
        return Err(Fault::HeaderChecksum { found, right }.into());
    }
    let version = header.version.get();
    if version >> 16 != super::layout::VERSION >> 16 {
        return Err(Fault::HeaderVersion(version).into());
    }
    Ok(header)
}

fn checked_shape(header: &DynamicHeader, size: u64, has_parent: bool, file: u64) -> Result<Shape, Fault> {
    let block = u64::from(header.block_size.get());
    if !block.is_power_of_two() || block < BLOCK_MIN {
        return Err(Fault::BlockSize(header.block_size.get()));
    }
    let (entries, needed) = (header.max_table_entries.get(), size.div_ceil(block));
    if u64::from(entries) < needed {
        return Err(Fault::TooFewEntries { entries, needed, block });
    }
    // Entries that no block of the disk needs are not looked at.
    let (offset, bytes) = (header.table_offset.get(), needed * 4);
    if offset.checked_add(bytes).is_none_or(|end| end > file) {
        return Err(Fault::TablePlace { offset, bytes, file });
    }
    Ok(Shape { size, block, table: offset, has_parent })
}
