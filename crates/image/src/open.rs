//! Opens an image with everything it hangs from.

mod chain;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::FORMAT as LAYER_FORMAT;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use transload_block::{BlockRead, BlockWrite, Chain, Result};

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

impl Opened {
    /// The disk for writing, when it was opened so: writes go to the top layer, which first copies what it needs from the
    /// layers below.
    ///
    /// Whoever writes also reads through what this returns, and shares one of them: the locks that keep a half-copied unit
    /// from being seen are its own. In the end the top layer's [`Layer::writer`] is to be finished.
    #[must_use]
    pub fn writer(&self) -> Option<Arc<dyn BlockWrite>> {
        let (top, lower) = self.layers.split_first()?;
        let writer = Arc::clone(top.writer.as_ref()?) as Arc<dyn BlockWrite>;
        if lower.is_empty() {
            return Some(writer);
        }
        let lower = lower.iter().map(|layer| Arc::clone(&layer.device)).collect();
        Some(Arc::new(Chain::writable(writer, lower)))
    }
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
    /// When the parent's file was last changed, by the child's word, to the second. Copies change it: another time is a
    /// warning, never a refusal.
    pub modified: Option<SystemTime>,
}

/// By what a child knows its parent. `Display` writes it as the format's own texts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentId {
    /// A VMDK descriptor's CID.
    VmdkCid(u32),
    /// A UUID in the order of its text: VirtualBox's image UUID, VHD's unique id.
    Uuid([u8; 16]),
    /// A disk of VirtualBox in the state that its last session left: both UUIDs in the order of their text.
    ModifiedUuid {
        /// The image UUID.
        image: [u8; 16],
        /// The modification UUID.
        modification: [u8; 16],
    },
}

impl ContentId {
    /// The identity of the disk alone, whatever state it is in.
    pub(crate) const fn disk(self) -> Self {
        match self {
            Self::ModifiedUuid { image, .. } => Self::Uuid(image),
            other => other,
        }
    }
}

/// Opens the file at `path`, which the user named, and, unless told otherwise, everything it hangs from.
///
/// # Errors
/// As [`Source::from_path`] and [`open`].
pub fn open_path(path: &Path, settings: &OpenSettings) -> Result<Opened> {
    open(Source::from_path(path, settings.access)?, settings)
}

/// Opens `source` and, unless told otherwise, everything it hangs from.
///
/// The format is what the settings say, or else what the bytes say; a source that is declared raw is never probed. Parents
/// are opened for reading, in the format that their child declares, or else in what their bytes say.
///
/// # Errors
/// What the driver answers, with the file's name before it; `Unsupported` for a format that is known and not read;
/// `InvalidInput` when the bytes could be of several formats; `Denied` when the gate refuses a reference; `Corrupt` for a
/// cycle of references, and for a parent that is not the one its child was made on; `TooLarge` for more than
/// [`ReferenceGate::MAX_DEPTH`] of them.
pub fn open(source: Source, settings: &OpenSettings) -> Result<Opened> {
    let layers = chain::open_layers(source, settings)?;
    let device: Arc<dyn BlockRead> = match layers.as_slice() {
        [only] => Arc::clone(&only.device),
        several => Arc::new(Chain::new(several.iter().map(|layer| Arc::clone(&layer.device)).collect())),
    };
    Ok(Opened { device, layers })
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VmdkCid(cid) => write!(f, "CID {cid:08x}"),
            Self::Uuid(uuid) => write_uuid(f, "UUID ", uuid),
            Self::ModifiedUuid { image, modification } => {
                write_uuid(f, "UUID ", image)?;
                write_uuid(f, " as modified by ", modification)
            }
        }
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, before: &str, uuid: &[u8; 16]) -> fmt::Result {
    f.write_str(before)?;
    uuid.iter().enumerate().try_for_each(|(index, byte)| {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(f, "{dash}{byte:02x}")
    })
}
