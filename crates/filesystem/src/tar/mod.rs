//! Trees as tar archives: POSIX.1-2001 (pax), with everything that this format has a place for.
//!
//! ```text
//! Archive::new(writer) ──► append(filesystem, visit) for every visit of a walk ──► finish()
//! ```
//!
//! Times to the nanosecond, owners and sizes of any number, extended attributes (`SCHILY.xattr.*`, as GNU tar and libarchive
//! read them), devices, and hard links as links. Files with holes are stored as GNU's sparse format 1.0, which both unpack
//! again with their holes; to others such a file begins with the list of its pieces.

mod header;

use std::collections::HashMap;
use std::io::Write;

use transload_block::{BlockRead, BlockReadExt, BlockStatus, Error, ErrorKind, Extent, Result};

use crate::contract::{FileId, FileKind, FileSystem};
use crate::walk::Visit;
use header::{Header, Records};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;
/// An archive consists of blocks of this size.
const BLOCK: usize = 512;
/// Holes shorter than this are stored as zeroes.
const SHORTEST_HOLE: u64 = 64 << 10;
/// The most pieces of a file that is stored with its holes: the list is held in memory.
const MOST_PIECES: usize = 1 << 20;

/// An archive that is being written.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    /// The name under which a file with several names was stored first.
    stored: HashMap<FileId, Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Archive<W> {
    /// An archive that is written to `out`.
    pub fn new(out: W) -> Self {
        Self { out, stored: HashMap::new(), buffer: vec![0; PIECE] }
    }

    /// Adds what a walk came by, under the name `path`.
    ///
    /// # Errors
    /// What reading answers, then the archive is not to be used any more; `Io` when it cannot be written.
    pub fn append(&mut self, filesystem: &dyn FileSystem, visit: &Visit, path: &[u8]) -> Result<()> {
        let metadata = &visit.metadata;
        let mut header = Header::new(path, metadata);
        let mut records = Records::default();
        if metadata.links > 1 && metadata.kind != FileKind::Directory {
            if let Some(first) = self.stored.get(&visit.id) {
                header.hard_link(first);
                return self.write_header(header, records);
            }
            self.stored.insert(visit.id, path.to_vec());
        }
        for xattr in filesystem.xattrs(visit.id)? {
            records.attribute(&xattr);
        }
        match metadata.kind {
            FileKind::Symlink => header.symlink(&filesystem.read_link(visit.id)?),
            FileKind::Regular => {
                let file = filesystem.open(visit.id)?;
                return self.append_file(&*file, header, records);
            }
            _ => {}
        }
        self.write_header(header, records)
    }

    /// Writes the two blocks that end an archive, and hands the writer back.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(|error| Error::io("the archive", error))?;
        Ok(self.out)
    }

    fn append_file(&mut self, file: &dyn BlockRead, mut header: Header, mut records: Records) -> Result<()> {
        let pieces = pieces(file)?;
        let held: u64 = pieces.iter().map(|piece| piece.length).sum();
        if held == file.size() {
            header.size(file.size());
            self.write_header(header, records)?;
            self.copy(file, 0, file.size())?;
            return self.pad(file.size());
        }
        let mut map = format!("{}\n", pieces.len() + 1).into_bytes();
        for piece in &pieces {
            map.extend(format!("{}\n{}\n", piece.offset, piece.length).into_bytes());
        }
        // The last entry is empty and says where the file ends.
        map.extend(format!("{}\n0\n", file.size()).into_bytes());
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        header.sparse(file.size(), &mut records);
        header.size(map.len() as u64 + held);
        self.write_header(header, records)?;
        self.write(&map)?;
        for piece in &pieces {
            self.copy(file, piece.offset, piece.length)?;
        }
        self.pad(held)
    }

    fn copy(&mut self, file: &dyn BlockRead, offset: u64, length: u64) -> Result<()> {
        let (mut at, end) = (offset, offset + length);
        let mut buffer = std::mem::take(&mut self.buffer);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_at(&mut buffer[..count], at)?;
            self.write(&buffer[..count])?;
            at += count as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let rest = usize::try_from(length.next_multiple_of(BLOCK as u64) - length).unwrap_or(0);
        self.write(&[0; BLOCK][..rest])
    }

    fn write_header(&mut self, header: Header, records: Records) -> Result<()> {
        let bytes = header.finish(records);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("the archive", error))
    }
}

/// The pieces of a file that are stored: what holds data, short holes included.
fn pieces(file: &dyn BlockRead) -> Result<Vec<Extent>> {
    let mut pieces: Vec<Extent> = Vec::new();
    for extent in file.extents() {
        let extent = extent?;
        let skipped = extent.status.reads_zero() && extent.length >= SHORTEST_HOLE;
        if skipped {
            continue;
        }
        let full = pieces.len() >= MOST_PIECES;
        match pieces.last_mut() {
            Some(last) if last.end() == extent.offset => last.length += extent.length,
            _ if full => {
                return Err(Error::new(ErrorKind::TooLarge, format!("a file has more than {MOST_PIECES} pieces")));
            }
            _ => pieces.push(Extent { status: BlockStatus::Data, ..extent }),
        }
    }
    Ok(pieces)
}
