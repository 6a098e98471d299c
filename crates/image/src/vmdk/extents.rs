//! Opens the extents that a descriptor lists, every one of them, through the gate.
//!
//! What is sound but cannot be read (devices, NOACCESS) is refused before any file is opened. A file that several flat
//! extents share is opened once. No byte of a file may belong to two places of the disk.

use std::collections::HashMap;
use std::sync::Arc;

use transload_block::{BlockRead, Error, Result};

use super::cache::BlockCache;
use super::cowd;
use super::descriptor::Descriptor;
use super::error::Fault;
use super::extent_line::{ExtentKind, ExtentLine};
use super::hosted::{self, Hosted};
use super::image::Image;
use super::layout::SECTOR;
use super::probe::{Front, front};
use super::read::{Body, Part};
use super::sesparse;
use super::sparse::Sparse;
use crate::{Access, FileIdentity, ReferenceGate, Source};

/// The opened extents.
#[derive(Debug)]
pub(crate) struct Extents {
    pub parts: Vec<Part>,
    pub info: Found,
}

/// What was learned from the files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The length of all files.
    pub file_size: u64,
    /// What they occupy, where that is known of all.
    pub allocated_size: Option<u64>,
    /// An extent was not closed.
    pub dirty: bool,
    /// The largest grain.
    pub grain_bytes: Option<u64>,
    /// Some grains are compressed.
    pub compressed: bool,
    pub warnings: Vec<String>,
}

/// Opens all extents of `image`, whose first file is `source`.
pub(super) fn open(image: &Image, source: &Source, gate: &ReferenceGate, cache_bytes: usize) -> Result<Extents> {
    if let Some(refusal) = image.refusals().next() {
        return Err(refusal.into());
    }
    // The sum is checked, so that no offset below can overflow.
    image.descriptor.sectors()?;
    let found = Found {
        file_size: source.bytes().size(),
        allocated_size: source.allocated_size(),
        dirty: image.hosted.as_ref().is_some_and(|hosted| hosted.header.unclean),
        ..Found::default()
    };
    let cache = Arc::new(BlockCache::new(cache_bytes));
    let mut opener = Opener { image, source, gate, cache, files: HashMap::new(), uses: Vec::new(), found };
    let mut parts = Vec::new();
    let mut start = 0;
    for (index, line) in image.descriptor.extents.iter().enumerate().filter(|(_, line)| line.sectors > 0) {
        let size = line.sectors * SECTOR;
        let body = opener.body(index, line).map_err(|error| in_extent(error, index, line))?;
        parts.push(Part { start, size, body });
        start += size;
    }
    opener.check_overlaps()?;
    Ok(Extents { parts, info: opener.found })
}

struct Opener<'a> {
    image: &'a Image,
    source: &'a Source,
    gate: &'a ReferenceGate,
    cache: Arc<BlockCache>,
    /// The files opened so far, by their names in the descriptor.
    files: HashMap<String, Source>,
    uses: Vec<Use>,
    found: Found,
}

/// Which bytes of which file an extent is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    file: FileKey,
    start: u64,
    end: u64,
    index: usize,
}

/// A file, by its identity, or by its name where it has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileKey {
    Identity(u64, u64),
    Name(String),
}

impl Opener<'_> {
    fn body(&mut self, index: usize, line: &ExtentLine) -> Result<Body> {
        if line.kind == ExtentKind::Zero {
            return Ok(Body::Zero);
        }
        let name = line.name.clone().unwrap_or_default();
        let own = self.image.own == Some(index);
        let source = if own { self.source.clone() } else { self.file(&name)? };
        if line.kind.is_flat() {
            return self.flat(index, line, name, &source);
        }
        if line.offset != 0 {
            return Err(Fault::SparseOffset { index: index + 1, name, offset: line.offset }.into());
        }
        self.uses.push(Use { file: file_key(&source, &name), start: 0, end: u64::MAX, index });
        let sparse = self.sparse(index, line, name, source.bytes(), own)?;
        self.found.compressed |= sparse.is_compressed();
        self.found.grain_bytes = self.found.grain_bytes.max(Some(sparse.tables.grain_bytes));
        Ok(Body::Sparse(sparse))
    }

    fn flat(&mut self, index: usize, line: &ExtentLine, name: String, source: &Source) -> Result<Body> {
        let (needed, file) = (line.sectors * SECTOR, source.bytes().size());
        let start = line.offset.saturating_mul(SECTOR);
        let Some(end) = start.checked_add(needed).filter(|end| *end <= file) else {
            return Err(Fault::FlatTooShort { index: index + 1, name, start, needed, file }.into());
        };
        self.uses.push(Use { file: file_key(source, &name), start, end, index });
        Ok(Body::Flat { file: Arc::clone(source.bytes()), offset: start })
    }

    fn sparse(
        &mut self,
        index: usize,
        line: &ExtentLine,
        name: String,
        file: &Arc<dyn BlockRead>,
        own: bool,
    ) -> Result<Sparse> {
        let (number, sectors) = (index + 1, line.sectors);
        let mut head = [0; 2048];
        let length = usize::try_from(file.size().min(2048)).expect("at most the head");
        file.read_at(&mut head[..length], 0)?;
        match front(&head[..length], Some(file.size())) {
            Some(Front::Hosted) => {
                let mut hosted = self.hosted(number, &name, &**file, own)?;
                let header = hosted.header.capacity;
                let whole = header.next_multiple_of(hosted.header.grain_sectors);
                if sectors > whole {
                    return Err(Fault::ExtentLargerThanHeader { index: number, name, line: sectors, header }.into());
                }
                if header != sectors && whole != sectors.next_multiple_of(hosted.header.grain_sectors) {
                    // The descriptor rules over a header that could be right, not over one that is damaged.
                    if !hosted.header.directory_fits(file.size()) {
                        return Err(Fault::HeaderLargerThanFile { index: number, name, line: sectors, header }.into());
                    }
                    self.found.warnings.push(format!(
                        "extent {number} ({name}): the descriptor's {sectors} sectors count, the header says {header}"
                    ));
                }
                let sparse = hosted::open(file, &mut hosted, sectors, &self.cache, index)?;
                let warnings = hosted.warnings.into_iter();
                self.found.warnings.extend(warnings.map(|warning| format!("extent {number} ({name}): {warning}")));
                self.found.dirty |= hosted.header.unclean;
                Ok(sparse)
            }
            Some(Front::Cowd) => {
                let header = cowd::read_header(&**file)?;
                check_capacity(number, name, sectors, header.capacity, header.grain_sectors)?;
                cowd::open(file, &header, sectors, &self.cache, index)
            }
            Some(Front::SeSparse) => {
                let header = sesparse::read_header(&**file)?;
                check_capacity(number, name, sectors, header.capacity, header.grain_sectors)?;
                sesparse::open(file, &header, sectors, &self.cache, index)
            }
            Some(Front::Descriptor) | None => Err(Fault::NotSparse { index: number, name }.into()),
        }
    }

    /// The header of a hosted extent. One that is another file and has a descriptor of its own may be a disk with a
    /// parent, whose holes are not this disk's.
    fn hosted(&self, index: usize, name: &str, file: &dyn BlockRead, own: bool) -> Result<Hosted> {
        if let (true, Some(hosted)) = (own, &self.image.hosted) {
            return Ok(hosted.clone());
        }
        let hosted = hosted::read_header(file)?;
        let embedded = hosted::embedded_descriptor(file, &hosted.header)?;
        match embedded.as_ref().map(Descriptor::parent).transpose()?.flatten() {
            Some(_) => Err(Fault::ExtentHasParent { index, name: name.to_owned() }.into()),
            None => Ok(hosted),
        }
    }

    fn file(&mut self, name: &str) -> Result<Source> {
        if let Some(source) = self.files.get(name) {
            return Ok(source.clone());
        }
        let source = self.gate.open(self.source, name, Access::ReadOnly)?;
        self.found.file_size = self.found.file_size.saturating_add(source.bytes().size());
        let both = self.found.allocated_size.zip(source.allocated_size());
        self.found.allocated_size = both.map(|(sum, file)| sum.saturating_add(file));
        self.files.insert(name.to_owned(), source.clone());
        Ok(source)
    }

    /// Refuses extents that are the same bytes of a file, or the file that lists them.
    fn check_overlaps(&mut self) -> Result<()> {
        if self.image.own.is_none() {
            let index = usize::MAX;
            self.uses.push(Use { file: file_key(self.source, ""), start: 0, end: u64::MAX, index });
        }
        self.uses.sort_unstable();
        let clash = self.uses.windows(2).find(|pair| pair[0].file == pair[1].file && pair[0].end > pair[1].start);
        let Some([one, other]) = clash else { return Ok(()) };
        let (first, second) = (one.index.min(other.index), one.index.max(other.index));
        let name = |index: usize| self.image.descriptor.extents[index].name.clone().unwrap_or_default();
        Err(match second {
            usize::MAX => Fault::DescriptorItself { index: first + 1, name: name(first) }.into(),
            _ => Fault::Overlap { index: second + 1, name: name(second), other: first + 1 }.into(),
        })
    }
}

fn file_key(source: &Source, name: &str) -> FileKey {
    match source.identity() {
        Some(FileIdentity { device, inode }) => FileKey::Identity(device, inode),
        None => FileKey::Name(name.to_owned()),
    }
}

/// Refuses a line that says more than the header, which may be rounded up to a grain.
fn check_capacity(index: usize, name: String, line: u64, header: u64, grain: u64) -> Result<()> {
    if line > header.next_multiple_of(grain) {
        return Err(Fault::ExtentLargerThanHeader { index, name, line, header }.into());
    }
    Ok(())
}

/// Says in which extent it was, where the error does not.
fn in_extent(error: Error, index: usize, line: &ExtentLine) -> Error {
    let number = index + 1;
    if error.to_string().contains(&format!("extent {number} (")) {
        return error;
    }
    let name = line.name.as_deref().unwrap_or("no file");
    error.context(format!("extent {number} ({name})"))
}
