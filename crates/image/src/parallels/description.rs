//! The `DiskDescriptor.xml` of a bundle: what it names, before anything of it is opened.

use roxmltree::{Document, Node, ParsingOptions};
use transload_block::{BlockRead, Error, ErrorKind, Result};

use super::image::SECTOR;
use crate::ReferenceGate;
use crate::mapped::corrupt;

/// The largest description that is read. A disk of 2 TiB that is split into files of 2 GiB, with a dozen snapshots, has one
/// of 3 MiB.
const BYTES_MAX: u64 = 8 << 20;
/// The most elements, attributes and texts in it.
const NODES_MAX: u32 = 400_000;
/// The most parts that a disk is split into. The files are all open at once.
const STORAGES_MAX: usize = 2048;
/// The root element.
const ROOT: &[u8] = b"<Parallels_disk_image";
/// The snapshot that is read when the description does not say which: Parallels' name for the current state.
const CURRENT: Guid = Guid(0x5fba_abe3_6958_40ff_92a7_860e_329a_ab41);
/// No snapshot: the parent of the first one.
const NONE: Guid = Guid(0);

/// Whether these are the first bytes of a description, which lists the images and holds no data.
pub(super) fn is_description(head: &[u8]) -> bool {
    /// The root stands behind no more than the XML declaration and a comment.
    const WITHIN: usize = 1024;
    let front = &head[..head.len().min(WITHIN)];
    let text = front.strip_prefix(b"\xef\xbb\xbf").unwrap_or(front);
    text.starts_with(b"<") && text.windows(ROOT.len()).any(|part| part == ROOT)
}

/// The name of a snapshot, and of the images that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Guid(u128);

impl Guid {
    /// `{01234567-89ab-cdef-0123-456789abcdef}`, with or without the braces.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let dashes = text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
        let digits: String = text.chars().filter(|character| *character != '-').collect();
        let sound = text.len() == 36 && dashes && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| u128::from_str_radix(&digits, 16).ok().map(Self))?
    }
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{{{}-{}-{}-{}-{}}}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// A description that was found sound.
#[derive(Debug)]
pub(super) struct Description {
    /// The disk's size in bytes: that of all storages.
    pub(super) size: u64,
    /// In the order of the disk, without gaps, at least one.
    pub(super) storages: Vec<Storage>,
    /// Every snapshot and its parent.
    pub(super) shots: Vec<(Guid, Option<Guid>)>,
    top: Option<Guid>,
}

/// A part of the disk.
#[derive(Debug)]
pub(super) struct Storage {
    /// Bytes, at least one sector.
    pub(super) size: u64,
    /// One for each snapshot.
    pub(super) images: Vec<Image>,
}

/// A file that holds what one snapshot changed of a storage.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) guid: Guid,
    pub(super) kind: Kind,
    pub(super) file: String,
}

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The part's bytes.
    Plain,
    /// An expanding image; the format's own name says compressed, which it is not.
    Compressed,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "Plain",
            Self::Compressed => "Compressed",
        }
    }
}

impl Description {
    /// Reads the description that is all of `file`.
    pub(super) fn read(file: &dyn BlockRead) -> Result<Self> {
        let size = file.size();
        if size > BYTES_MAX {
            let what = format!("Parallels description: {size} bytes, more than the {BYTES_MAX} that are read");
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_at(&mut text, 0)?;
        let text = String::from_utf8(text).map_err(|_| broken("it is not UTF-8"))?;
        Self::parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
    }

    fn parse(text: &str) -> Result<Self> {
        // No document type is allowed, and so no entity but the five that XML has.
        let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|error| broken(&error.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "Parallels_disk_image" {
            return Err(broken("its root is no Parallels_disk_image"));
        }
        refuse_what_is_not_read(root)?;
        let mut storages = Vec::new();
        let mut end = 0;
        for node in children(child(root, "StorageData")?, "Storage") {
            if storages.len() == STORAGES_MAX {
                let what = format!("Parallels description: more than {STORAGES_MAX} storages");
                return Err(Error::new(ErrorKind::TooLarge, what));
            }
            let index = storages.len();
            let (storage, next) = storage(node, end).map_err(|error| error.context(format!("storage {index}")))?;
            end = next;
            storages.push(storage);
        }
        if storages.is_empty() {
            return Err(broken("it has no storage"));
        }
        let declared = number(child(child(root, "Disk_Parameters")?, "Disk_size")?)?;
        if declared != end {
            return Err(broken(&format!("the disk has {declared} sectors, and its storages end at sector {end}")));
        }
        let (top, shots) = match children(root, "Snapshots").next() {
            Some(node) => snapshots(node)?,
            None => (None, Vec::new()),
        };
        Ok(Self { size: end * SECTOR, storages, shots, top })
    }

    /// The snapshots that lie over each other in what `wanted` shows, or the current state, the top one first.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such snapshot; `Corrupt` for a parent that is not there and for a cycle; `TooLarge`
    /// for more than [`ReferenceGate::MAX_DEPTH`].
    pub(super) fn chain(&self, wanted: Option<&str>) -> Result<Vec<Guid>> {
        if self.shots.is_empty() {
            return self.only_images(wanted);
        }
        let known = |guid: Guid| self.shots.iter().find(|(shot, _)| *shot == guid);
        let first = match wanted {
            Some(text) => Guid::parse(text).filter(|guid| known(*guid).is_some()).ok_or_else(|| self.unknown(text))?,
            None => self.top.unwrap_or(CURRENT),
        };
        let mut chain = Vec::new();
        let mut next = Some(first);
        while let Some(guid) = next {
            let Some((_, parent)) = known(guid) else {
                return Err(broken(&format!("snapshot {guid} is named and not listed")));
            };
            if chain.contains(&guid) {
                return Err(broken(&format!("snapshot {guid} is its own ancestor")));
            }
            if chain.len() == ReferenceGate::MAX_DEPTH {
                let what = format!("Parallels description: more than {} snapshots below each other", chain.len());
                return Err(Error::new(ErrorKind::TooLarge, what));
            }
            chain.push(guid);
            next = *parent;
        }
        Ok(chain)
    }

    /// The chain of a disk without snapshots: the one image that each storage has.
    fn only_images(&self, wanted: Option<&str>) -> Result<Vec<Guid>> {
        let first = self.storages.first().and_then(|storage| storage.images.first()).map_or(NONE, |image| image.guid);
        if self.storages.iter().any(|storage| storage.images.len() != 1 || storage.images[0].guid != first) {
            return Err(broken("it has several images for a part of the disk, and no list of snapshots"));
        }
        match wanted {
            Some(text) if Guid::parse(text) != Some(first) => Err(self.unknown(text)),
            _ => Ok(vec![first]),
        }
    }

    fn unknown(&self, wanted: &str) -> Error {
        let known: Vec<_> = self.shots.iter().map(|(guid, _)| guid.to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let what = format!("option snapshot={}: there is no such snapshot", wanted.escape_debug());
        Error::new(ErrorKind::InvalidInput, what).with_remedy(format!("name one of these: {known}"))
    }
}

/// Refuses encryption, and the padding that no known program writes.
fn refuse_what_is_not_read(root: Node<'_, '_>) -> Result<()> {
    let parameters = child(root, "Disk_Parameters")?;
    let padding = match children(parameters, "Padding").next() {
        Some(node) => number(node)?,
        None => 0,
    };
    if padding != 0 {
        let what = format!("Parallels description: a padding of {padding}, of no known meaning");
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let engines = children(parameters, "Encryption").flat_map(|node| children(node, "Engine"));
    for engine in engines.map(text) {
        if !engine.is_empty() && Guid::parse(engine) != Some(NONE) {
            let engine = engine.escape_debug();
            let what = format!("Parallels description: the disk is encrypted, by engine {engine}");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
    }
    Ok(())
}

/// A storage that begins where the one before it ends, and the sector behind it.
fn storage(node: Node<'_, '_>, expected: u64) -> Result<(Storage, u64)> {
    /// So that no sum of bytes below can overflow.
    const SECTORS_MAX: u64 = u64::MAX / SECTOR / 2;
    let (start, end) = (number(child(node, "Start")?)?, number(child(node, "End")?)?);
    if start != expected || end <= start || end > SECTORS_MAX {
        return Err(broken(&format!("sectors {start} to {end}, where one begins at sector {expected}")));
    }
    let images = children(node, "Image").map(image).collect::<Result<Vec<_>>>()?;
    for (index, image) in images.iter().enumerate() {
        if images[..index].iter().any(|other| other.guid == image.guid) {
            return Err(broken(&format!("two images of snapshot {}", image.guid)));
        }
    }
    Ok((Storage { size: (end - start) * SECTOR, images }, end))
}

fn image(node: Node<'_, '_>) -> Result<Image> {
    let guid = guid(child(node, "GUID")?)?;
    let kind = match text(child(node, "Type")?) {
        "Plain" => Kind::Plain,
        "Compressed" => Kind::Compressed,
        other => {
            let what = format!("Parallels description: an image of type '{}'", other.escape_debug());
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
    };
    Ok(Image { guid, kind, file: text(child(node, "File")?).to_owned() })
}

/// The top one, where it is named, and each with its parent.
type Shots = (Option<Guid>, Vec<(Guid, Option<Guid>)>);

fn snapshots(node: Node<'_, '_>) -> Result<Shots> {
    let top = children(node, "TopGUID").next().map(guid).transpose()?;
    let shot = |node| -> Result<_> {
        let parent = children(node, "ParentGUID").next().map(guid).transpose()?;
        Ok((guid(child(node, "GUID")?)?, parent.filter(|parent| *parent != NONE)))
    };
    let shots = children(node, "Shot").map(shot).collect::<Result<Vec<_>>>()?;
    Ok((top, shots))
}

fn children<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> Result<Node<'a, 'input>> {
    let parent = node.tag_name().name();
    children(node, name).next().ok_or_else(|| broken(&format!("{parent} has no {name}")))
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or("").trim()
}

fn number(node: Node<'_, '_>) -> Result<u64> {
    let (name, text) = (node.tag_name().name(), text(node));
    // The parser of numbers takes a sign as well.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| broken(&format!("{name} is '{}', must be a number", shown(text))))
}

fn guid(node: Node<'_, '_>) -> Result<Guid> {
    let (name, text) = (node.tag_name().name(), text(node));
    Guid::parse(text).ok_or_else(|| broken(&format!("{name} is '{}', must be a GUID", shown(text))))
}

/// A hostile text as a message shows it.
fn shown(text: &str) -> String {
    text.chars().take(60).collect::<String>().escape_debug().to_string()
}

fn broken(what: &str) -> Error {
    corrupt(format!("Parallels description: {what}"))
}

/// Any bytes are a description or are refused, and a description covers its disk without gaps.
#[doc(hidden)]
pub fn fuzz_description(bytes: &[u8]) {
    let file = transload_block::Memory::from(bytes.to_vec());
    match Description::read(&file) {
        Ok(description) => {
            let sum: u64 = description.storages.iter().map(|storage| storage.size).sum();
            assert_eq!(sum, description.size);
            if let Ok(chain) = description.chain(None) {
                assert!((1..=ReferenceGate::MAX_DEPTH).contains(&chain.len()));
            }
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::TooLarge),
            "{error}"
        ),
    }
}
