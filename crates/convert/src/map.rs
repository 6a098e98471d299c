//! Which layer holds which guest bytes, and where in its file: what `qemu-img map` shows.

use std::ops::Range;

use serde::Serialize;
use transload_block::{BlockStatus, Result};
use transload_image::{Layer, Opened};

use crate::Cancel;
use crate::feed::status;

/// A run of guest bytes. Serialized, it has the fields of `qemu-img map --output=json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MapEntry {
    /// The first guest byte.
    pub start: u64,
    /// Guest bytes.
    pub length: u64,
    /// The layer that decides what is read here, 0 being the top one; the lowest that reaches here if none does.
    pub depth: usize,
    /// Whether a layer decides, or nothing is allocated at all.
    pub present: bool,
    /// Whether it reads as zeroes.
    pub zero: bool,
    /// Whether there are bytes to be read.
    pub data: bool,
    /// Whether these are compressed.
    pub compressed: bool,
    /// Where the bytes stand unchanged in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Which file that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

impl MapEntry {
    /// Whether `next`, which stands behind this entry, says the same of its bytes.
    fn goes_on_in(&self, next: &Self) -> bool {
        let place = self.offset.map(|offset| offset + self.length);
        (self.depth, self.present, self.zero, self.data, self.compressed)
            == (next.depth, next.present, next.zero, next.data, next.compressed)
            && place == next.offset
            && self.filename == next.filename
    }
}

/// Calls `each` with one entry after the other, from the first guest byte to the last. Neighbours that say the same are
/// one entry.
///
/// # Errors
/// `Cancelled`; what the layers and `each` answer.
pub fn map(image: &Opened, cancel: &Cancel, mut each: impl FnMut(MapEntry) -> Result<()>) -> Result<()> {
    let size = image.device.size();
    let mut pending: Option<MapEntry> = None;
    let mut offset = 0;
    while offset < size {
        cancel.check()?;
        let next = entry(&image.layers, offset..size)?;
        offset += next.length;
        match &mut pending {
            Some(entry) if entry.goes_on_in(&next) => entry.length += next.length,
            _ => {
                if let Some(entry) = pending.replace(next) {
                    each(entry)?;
                }
            }
        }
    }
    pending.map_or(Ok(()), each)
}

/// What the layers say of the start of `range`.
fn entry(layers: &[Layer], mut range: Range<u64>) -> Result<MapEntry> {
    let mut lowest = 0;
    for (depth, layer) in layers.iter().enumerate() {
        let size = layer.device.size();
        if range.start >= size {
            // Layers below a short one show through it no more.
            break;
        }
        lowest = depth;
        range.end = range.end.min(size);
        let extent = status(layer.device.as_ref(), range.clone())?;
        range.end = extent.end();
        match extent.status {
            BlockStatus::Hole => {}
            BlockStatus::Zero | BlockStatus::Data => return present(layer, depth, range, extent.status),
        }
    }
    let (start, length) = (range.start, range.end - range.start);
    Ok(MapEntry {
        start,
        length,
        depth: lowest,
        present: false,
        zero: true,
        data: false,
        compressed: false,
        offset: None,
        filename: None,
    })
}

fn is_in_file(layer: &Layer) -> bool {
    layer.source.bytes().capabilities().host_extents.is_some()
}

/// What `layer` says of `range`, all of which has one status in it.
fn present(layer: &Layer, depth: usize, mut range: Range<u64>, status: BlockStatus) -> Result<MapEntry> {
    let capabilities = layer.device.capabilities();
    let mut location = None;
    if let Some(places) = capabilities.host_extents {
        let host = places.host_extent(range.clone())?;
        range.end = range.end.min(range.start.saturating_add(host.length.max(1)));
        location = host.location;
    }
    let data = status == BlockStatus::Data;
    Ok(MapEntry {
        start: range.start,
        length: range.end - range.start,
        depth,
        present: true,
        zero: !data,
        data,
        // What is data and stands nowhere unchanged, in an image that has compressed units, is one of them. Of an image that is in
        // no file, nothing stands in one: there it is not told.
        compressed: data && location.is_none() && capabilities.encoded.is_some() && is_in_file(layer),
        offset: location.map(|location| location.offset),
        filename: location.map(|location| location.path.display().to_string()),
    })
}
