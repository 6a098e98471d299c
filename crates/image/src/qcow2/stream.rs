//! Writing qcow2 from front to back: compressed into a file, or plain into a pipe.
//!
//! ```text
//! file:  zeroes │ L1 (later) │ units and L2 tables as they come │ refcount blocks │ refcount table     then L1, header
//! pipe:  header │ refcounts │ L1 │ L2 │ data clusters                                                  strictly forward
//! ```
//!
//! A file gets its header last, after everything else is flushed: until then it is no qcow2 image. A pipe gets its tables
//! first, which is possible where the source's allocation is known; see [`Ahead`].
//!
//! Neither is for overlays: what is not appended reads as zeroes, which in an image with a backing file it would not.

use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{BlockEncoder, BlockSink, Codec, Error, ErrorKind, Extent, Form, Result, Storage};

use super::ahead::Ahead;
use super::header_write::{TablePlaces, header_bytes};
use super::layout::entry;
use super::map::compressed_descriptor;
use super::options::{NewImage, Preallocation};
use super::packed::PackedFile;
use crate::codec::{Encoder, Level};
use crate::{SinkOutput, SinkRequest};

/// Makes a new image from front to back; the row's `sink`.
pub(crate) fn sink(request: SinkRequest<'_>) -> Result<Box<dyn BlockSink>> {
    let image = NewImage::new(request.size, request.options)?;
    if image.backing.is_some() {
        return Err(refused("backing_file", "what an ordered writer leaves out must read as zeroes"));
    }
    if image.data_file.is_some() {
        return Err(refused("data_file", "it holds nothing compressed, and a pipe has no other file"));
    }
    if image.preallocation != Preallocation::Off {
        return Err(refused("preallocation", "an ordered writer allocates what it is given"));
    }
    match request.output {
        SinkOutput::Files(files) => {
            Ok(Box::new(CompressedSink::new(files.primary()?, image, request.level.unwrap_or_default())?)
                as Box<dyn BlockSink>)
        }
        SinkOutput::Pipe(pipe) => Ok(Box::new(PipeSink::new(pipe, &image, request.extents)?)),
    }
}

fn refused(option: &str, reason: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("option {option}: not in an image written from front to back: {reason}"),
    )
    .with_remedy("write to a file without compression")
}

/// Refuses an offset that breaks the contract of [`BlockSink::append`], and answers its cluster.
fn checked_cluster(image: &NewImage, offset: u64, next: u64) -> Result<u64> {
    let cluster = offset / image.geometry.cluster_size();
    if !offset.is_multiple_of(image.geometry.cluster_size()) || cluster < next || offset >= image.size {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "unit at {offset}: must be a multiple of {}, at least {} and inside the disk of {} bytes",
                image.geometry.cluster_size(),
                next * image.geometry.cluster_size(),
                image.size
            ),
        ));
    }
    Ok(cluster)
}

fn wrong_length(form: Form, length: usize, image: &NewImage) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("{form:?} unit of {length} bytes in an image with clusters of {}", image.geometry.cluster_size()),
    )
}

/// Compresses clusters, on as many threads at once as there are.
struct ClusterEncoder {
    codec: Codec,
    level: Level,
    cluster_size: usize,
    /// Encoders that nobody uses right now.
    idle: Mutex<Vec<Encoder>>,
}

impl std::fmt::Debug for ClusterEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterEncoder").field("codec", &self.codec).field("level", &self.level).finish_non_exhaustive()
    }
}

impl BlockEncoder for ClusterEncoder {
    fn unit_size(&self) -> u64 {
        self.cluster_size as u64
    }

    fn encode(&self, unit: &[u8], stored: &mut Vec<u8>) -> Result<Form> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = match idle {
            Some(encoder) => encoder,
            None => Encoder::new(self.codec, self.level)?,
        };
        let mut bytes = std::mem::take(stored);
        let shrunk = encoder.encode(unit, self.cluster_size - 1, &mut bytes);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        *stored = bytes;
        Ok(if shrunk? { Form::Encoded } else { Form::Plain })
    }

    fn adopt(&self, codec: Codec, encoded: &[u8], _unit: Option<&[u8]>, stored: &mut Vec<u8>) -> Result<bool> {
        let bytes = match (codec, self.codec) {
            (Codec::Deflate, Codec::Deflate) | (Codec::Zstd, Codec::Zstd) => Some(encoded),
            (Codec::Zlib, Codec::Deflate) => deflate_inside_zlib(encoded),
            _ => None,
        };
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty() && bytes.len() < self.cluster_size) else {
            return Ok(false);
        };
        stored.clear();
        stored.extend_from_slice(bytes);
        Ok(true)
    }
}

/// The deflate stream of a zlib stream (RFC 1950): without the two bytes of its header and the four of its checksum.
/// `None` when a preset dictionary is needed or the header is none.
fn deflate_inside_zlib(stream: &[u8]) -> Option<&[u8]> {
    let (&[method, flags], rest) = stream.split_first_chunk::<2>()?;
    let sound = method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31);
    let dictionary = flags & 0x20 != 0;
    (sound && !dictionary).then(|| rest.len().checked_sub(4).and_then(|end| rest.get(..end))).flatten()
}

/// Compressed clusters into a file, packed behind each other.
#[derive(Debug)]
struct CompressedSink {
    image: NewImage,
    storage: Arc<dyn Storage>,
    encoder: Arc<ClusterEncoder>,
    file: PackedFile,
    l1: Vec<u64>,
    /// The L2 table being filled, and its place in the L1 table.
    l2: Vec<u8>,
    l2_index: Option<u64>,
    next: u64,
}

impl CompressedSink {
    fn new(storage: Arc<dyn Storage>, image: NewImage, level: Level) -> Result<Self> {
        let codec = image.compression;
        let cluster_size = 1 << image.geometry.cluster_bits;
        // Made here so that a codec that is not written is refused before anything is.
        let idle = Mutex::new(vec![Encoder::new(codec, level)?]);
        let encoder = Arc::new(ClusterEncoder { codec, level, cluster_size, idle });
        let l1_clusters = (image.l1_entries() * 8).div_ceil(image.geometry.cluster_size());
        // The names in the header are checked now, its values come at the end.
        header_bytes(
            &image,
            TablePlaces { l1_offset: 0, l1_entries: 0, refcount_table_offset: 0, refcount_table_clusters: 0 },
        )?;
        if storage.size() > 0 {
            // A block device: no header of an earlier image may stand before a half-written one.
            storage.write_at(&vec![0; cluster_size.min(usize::try_from(storage.size()).unwrap_or(cluster_size))], 0)?;
        }
        let file = PackedFile::new(Arc::clone(&storage), &image, 1 + l1_clusters)?;
        let l1_entries =
            usize::try_from(image.l1_entries()).map_err(|_| Error::new(ErrorKind::TooLarge, "L1 table"))?;
        Ok(Self {
            image,
            storage,
            encoder,
            file,
            l1: vec![0; l1_entries],
            l2: vec![0; cluster_size],
            l2_index: None,
            next: 0,
        })
    }

    fn write_l2(&mut self) -> Result<()> {
        if let Some(index) = self.l2_index.take() {
            let offset = self.file.append_cluster(&self.l2)?;
            let slot = usize::try_from(index).ok().and_then(|index| self.l1.get_mut(index));
            *slot.expect("the unit lies inside the disk") = offset | entry::COPIED;
            self.l2.fill(0);
        }
        Ok(())
    }

    fn set_l2_entry(&mut self, cluster: u64, value: u64, subclusters: u64) {
        let size = self.image.geometry.l2_entry_size();
        let at = usize::try_from(cluster % self.image.geometry.l2_entries() * size).expect("the table is in memory");
        self.l2[at..at + 8].copy_from_slice(&value.to_be_bytes());
        if size == 16 {
            self.l2[at + 8..at + 16].copy_from_slice(&subclusters.to_be_bytes());
        }
    }
}

impl BlockSink for CompressedSink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::clone(&self.encoder) as Arc<dyn BlockEncoder>
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let cluster = checked_cluster(&self.image, offset, self.next)?;
        let table = cluster / self.image.geometry.l2_entries();
        if self.l2_index != Some(table) {
            self.write_l2()?;
            self.l2_index = Some(table);
        }
        match form {
            Form::Plain if bytes.len() as u64 == self.image.geometry.cluster_size() => {
                let host = self.file.append_cluster(bytes)?;
                self.set_l2_entry(cluster, host | entry::COPIED, 0xffff_ffff);
            }
            Form::Encoded if !bytes.is_empty() && (bytes.len() as u64) < self.image.geometry.cluster_size() => {
                let host = self.file.append_packed(bytes)?;
                let length = bytes.len() as u64;
                let value = compressed_descriptor(self.image.geometry, host, length).ok_or_else(|| {
                    Error::new(ErrorKind::TooLarge, format!("no entry for {length} compressed bytes at {host}"))
                })?;
                self.set_l2_entry(cluster, value, 0);
            }
            _ => return Err(wrong_length(form, bytes.len(), &self.image)),
        }
        self.next = cluster + 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.write_l2()?;
        let Self { image, storage, file, l1, .. } = *self;
        let (refcount_table_offset, refcount_table_clusters) = file.finish()?;
        let bytes: Vec<u8> = l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        storage.write_at(&bytes, image.geometry.cluster_size())?;
        storage.flush()?;

        let places = TablePlaces {
            l1_offset: image.geometry.cluster_size(),
            l1_entries: image.l1_entries(),
            refcount_table_offset,
            refcount_table_clusters,
        };
        storage.write_at(&header_bytes(&image, places)?, 0)?;
        storage.flush()
    }
}

/// Passes clusters on as they are.
#[derive(Debug)]
struct PlainEncoder {
    cluster_size: u64,
}

impl BlockEncoder for PlainEncoder {
    fn unit_size(&self) -> u64 {
        self.cluster_size
    }

    fn encode(&self, _unit: &[u8], _stored: &mut Vec<u8>) -> Result<Form> {
        Ok(Form::Plain)
    }

    fn adopt(&self, _codec: Codec, _encoded: &[u8], _unit: Option<&[u8]>, _stored: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
}

/// Plain clusters into a pipe, behind tables that were worked out before.
struct PipeSink {
    image: NewImage,
    ahead: Ahead,
    pipe: BufWriter<Box<dyn Write + Send>>,
    /// The file's cluster that is written next.
    position: u64,
    /// The guest cluster that may come next.
    next: u64,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for PipeSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipeSink").field("image", &self.image).field("position", &self.position).finish_non_exhaustive()
    }
}

/// Bytes that are gathered before they go into the pipe: what a Linux pipe can hold by default at most.
const PIPE_BUFFER: usize = 1 << 20;

impl PipeSink {
    fn new(pipe: Box<dyn Write + Send>, image: &NewImage, extents: Option<&[Extent]>) -> Result<Self> {
        let Some(extents) = extents else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "qcow2 into a pipe: the source's allocation is not known, and the tables stand in front of the data",
            )
            .with_remedy("write to a file, or read from a source that can seek"));
        };
        Ok(Self {
            image: image.clone(),
            ahead: Ahead::new(image, extents)?,
            pipe: BufWriter::with_capacity(PIPE_BUFFER, pipe),
            position: 0,
            next: 0,
            scratch: vec![0; 1 << image.geometry.cluster_bits],
        })
    }

    /// Writes tables, and zeroes for clusters that were announced and did not come, up to `cluster` of the file.
    fn advance(&mut self, cluster: u64) -> Result<()> {
        while self.position < cluster {
            if self.position < self.ahead.metadata_clusters() {
                self.ahead.fill_metadata(self.position, &mut self.scratch);
            } else {
                self.scratch.fill(0);
            }
            self.pipe.write_all(&self.scratch).map_err(broken_pipe)?;
            self.position += 1;
        }
        Ok(())
    }
}

fn broken_pipe(error: std::io::Error) -> Error {
    Error::io("output pipe", error)
}

impl BlockSink for PipeSink {
    fn encoder(&self) -> Arc<dyn BlockEncoder> {
        Arc::new(PlainEncoder { cluster_size: self.image.geometry.cluster_size() })
    }

    fn append(&mut self, offset: u64, form: Form, bytes: &[u8]) -> Result<()> {
        let cluster = checked_cluster(&self.image, offset, self.next)?;
        if form != Form::Plain || bytes.len() as u64 != self.image.geometry.cluster_size() {
            return Err(wrong_length(form, bytes.len(), &self.image));
        }
        let place = self.ahead.data_cluster(cluster).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("unit at {offset}: the extents said that there is no data"))
        })?;
        self.advance(place)?;
        self.pipe.write_all(bytes).map_err(broken_pipe)?;
        self.position = place + 1;
        self.next = cluster + 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.advance(self.ahead.clusters())?;
        self.pipe.flush().map_err(broken_pipe)
    }
}
