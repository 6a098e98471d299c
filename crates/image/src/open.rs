//! Opens an image with everything it hangs from.

use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};

use crate::{Format, ImageInfo, ImageWrite, OptionValues, ReferenceGate, Source};

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading.
    #[default]
    ReadOnly,
    /// Reading and writing; the layers below the top one are still only read.
    ReadWrite,
}

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenSettings {
    /// The format; probed when `None`.
    pub format: Option<&'static Format>,
    /// Which files the image may pull in.
    pub gate: ReferenceGate,
    /// Values for the format's `open_options`.
    pub options: OptionValues,
    /// For reading or for writing.
    pub access: Access,
    /// Bytes of memory that tables may be kept in, over all layers.
    pub cache_bytes: usize,
    /// Whether to open the layers below; without them, holes of the top layer read as zeroes.
    pub chain: bool,
}

impl Default for OpenSettings {
    fn default() -> Self {
        Self {
            format: None,
            gate: ReferenceGate::default(),
            options: OptionValues::default(),
            access: Access::ReadOnly,
            cache_bytes: 32 << 20,
            chain: true,
        }
    }
}

/// An opened image.
#[derive(Debug)]
pub struct Opened {
    /// The disk as a guest sees it.
    pub device: Arc<dyn BlockRead>,
    /// The layers, the top one first.
    pub layers: Vec<Layer>,
}

/// One layer of an image: what a driver opens.
#[derive(Debug)]
pub struct Layer {
    /// Its format.
    pub format: &'static Format,
    /// Its file.
    pub source: Source,
    /// This layer's bytes alone: a hole is where the parent shows.
    pub device: Arc<dyn BlockRead>,
    /// The same device for writing, when it was opened so.
    pub writer: Option<Arc<dyn ImageWrite>>,
    /// What it says of itself.
    pub info: ImageInfo,
    /// What it hangs from, not opened.
    pub parent: Option<ParentReference>,
    /// By what a child may know it.
    pub content_ids: Vec<ContentId>,
}

/// What a layer says of its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentReference {
    /// File names to try in turn, as the image has them; empty when it knows its parent only by `content_id`, which is
    /// then looked for among the files the gate allows.
    pub names: Vec<String>,
    /// The parent's format where the image says it; probed otherwise.
    pub format: Option<String>,
    /// What the parent must answer to. A parent that does not is refused: it was changed behind its child's back.
    pub content_id: Option<ContentId>,
}

/// By what a child knows its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentId {
    /// A VMDK descriptor's CID.
    VmdkCid(u32),
    /// A UUID in the order of its text: VirtualBox's image UUID, VHD's unique id.
    Uuid([u8; 16]),
}

/// Opens `source` and, unless told otherwise, everything it hangs from.
///
/// # Errors
/// What the driver answers, with the file's name before it; `Denied` when the gate refuses a reference; `Corrupt` for a
/// cycle of references; `TooLarge` for more than [`ReferenceGate::MAX_DEPTH`] of them.
pub fn open(source: Source, settings: &OpenSettings) -> Result<Opened> {
    let _ = (source, settings);
    Err(Error::new(ErrorKind::Unsupported, "open"))
}
