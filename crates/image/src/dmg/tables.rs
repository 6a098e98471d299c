//! The tables of a UDIF image: which sectors stand in which chunk of the file.
//!
//! They are resources of the type `blkx`: in a property list of XML, or, in images of before 2003, in a resource fork as the
//! Macintosh had it. Each is a `mish` table with a chunk every 40 bytes.

use roxmltree::{Document, Node, ParsingOptions};
use transload_block::{BlockRead, BlockReadExt, Error, ErrorKind, Result, check_range};

use super::trailer::{Part, Trailer, checksum};
use crate::mapped::{corrupt, field};

pub(super) const SECTOR: u64 = 512;
/// The largest property list or resource fork that is read: a million chunks, which is half a terabyte as Apple makes them.
const RESOURCES_MAX: u64 = 56 << 20;
/// A chunk is unpacked in memory as a whole. Apple's are of 256 KiB or 1 MiB; QEMU reads as much.
const CHUNK_MAX: u64 = 64 << 20;
/// Bytes of a table's header and of its entries.
const TABLE_HEADER: usize = 204;
const ENTRY: usize = 40;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Zeroes that belong to the disk.
    Zero,
    /// Nothing: sectors that nobody uses, which read as zeroes.
    Ignore,
    Raw,
    Adc,
    Zlib,
    Bzip2,
    Lzfse,
    /// As an xz stream.
    Lzma,
}

impl Method {
    /// The name of the codec.
    pub(super) fn codec(self) -> Option<&'static str> {
        match self {
            Self::Zero | Self::Ignore | Self::Raw => None,
            Self::Adc => Some("adc"),
            Self::Zlib => Some("zlib"),
            Self::Bzip2 => Some("bzip2"),
            Self::Lzfse => Some("lzfse"),
            Self::Lzma => Some("lzma"),
        }
    }

    /// What Apple calls an image of such chunks.
    pub(super) fn variant(self) -> &'static str {
        match self {
            Self::Zero | Self::Ignore | Self::Raw => "UDRO",
            Self::Adc => "UDCO",
            Self::Zlib => "UDZO",
            Self::Bzip2 => "UDBZ",
            Self::Lzfse => "ULFO",
            Self::Lzma => "ULMO",
        }
    }
}

/// A run of sectors, and where it is stored. Places in bytes, all checked: the stored bytes are inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) method: Method,
    pub(super) stored_at: u64,
    pub(super) stored_length: u64,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// One resource: its chunks, and the CRC-32 of their bytes without those that are ignored.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) checksum: Option<u32>,
    pub(super) chunks: Vec<Chunk>,
}

/// The tables of the image in `file`, in their order.
pub(super) fn read(file: &dyn BlockRead, trailer: &Trailer) -> Result<Vec<Table>> {
    let resources = if trailer.property_list.length > 0 {
        property_list(&part(file, trailer.property_list, "property list")?)?
    } else if trailer.resource_fork.length > 0 {
        resource_fork(&part(file, trailer.resource_fork, "resource fork")?)?
    } else {
        return Err(corrupt("DMG trailer: there is neither a property list nor a resource fork".to_owned()));
    };
    let tables = resources.into_iter().enumerate();
    tables.map(|(index, resource)| table(file, trailer, index, resource)).collect()
}

fn part(file: &dyn BlockRead, part: Part, name: &str) -> Result<Vec<u8>> {
    if part.length > RESOURCES_MAX {
        let what = format!("DMG {name}: {} bytes, more than the {RESOURCES_MAX} that are read", part.length);
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    file.read_vec(part.offset, part.length)
}

/// A `blkx` resource: its name and its bytes.
struct Resource {
    name: String,
    bytes: Vec<u8>,
}

/// The `blkx` resources of a property list: `plist/dict/resource-fork/blkx`, an array with `Name` and `Data` in each.
fn property_list(bytes: &[u8]) -> Result<Vec<Resource>> {
    let broken = |what: &str| corrupt(format!("DMG property list: {what}"));
    let text = str::from_utf8(bytes).map_err(|_| broken("it is not UTF-8"))?;
    // Property lists name their document type, which is not looked at. One that declares entities has no good reason to.
    if text.contains("<!ENTITY") {
        return Err(broken("it declares an entity"));
    }
    let options = ParsingOptions { allow_dtd: true, nodes_limit: 1 << 20, ..ParsingOptions::default() };
    let text = text.trim_end_matches('\0');
    let document = Document::parse_with_options(text, options).map_err(|error| broken(&error.to_string()))?;
    let root = document.root_element().children().find(Node::is_element).ok_or_else(|| broken("it is empty"))?;
    let resources = value(root, "resource-fork").ok_or_else(|| broken("it has no resource-fork"))?;
    let tables = value(resources, "blkx").ok_or_else(|| broken("its resource-fork has no blkx"))?;
    let resource = |entry: Node<'_, '_>| {
        let data = value(entry, "Data").ok_or_else(|| broken("a blkx has no Data"))?;
        let name = value(entry, "Name").or_else(|| value(entry, "CFName")).map(text_of).unwrap_or_default();
        let bytes = base64(&text_of(data)).ok_or_else(|| broken("the Data of a blkx is not base64"))?;
        Ok(Resource { name: shown(&name), bytes })
    };
    tables.children().filter(Node::is_element).map(resource).collect()
}

/// What stands behind the key `name` of a dictionary.
fn value<'a, 'input>(dictionary: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    let mut elements = dictionary.children().filter(Node::is_element);
    elements.find(|node| node.tag_name().name() == "key" && node.text().is_some_and(|text| text.trim() == name))?;
    elements.next()
}

fn text_of(node: Node<'_, '_>) -> String {
    node.children().filter_map(|child| child.text()).collect()
}

/// Decodes base64 (RFC 4648, section 4) with white space in it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut found = Vec::with_capacity(text.len() / 4 * 3);
    let (mut waiting, mut bits, mut ended) = (0_u32, 0, false);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                ended = true;
                continue;
            }
            _ => return None,
        };
        if ended {
            return None;
        }
        waiting = waiting << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            found.push(u8::try_from(waiting >> bits & 0xff).ok()?);
        }
    }
    // A lone digit is not a byte.
    (bits < 6).then_some(found)
}

/// The `blkx` resources of a resource fork: Inside Macintosh, "Resource File Format".
fn resource_fork(fork: &[u8]) -> Result<Vec<Resource>> {
    found_in_fork(fork).ok_or_else(|| corrupt("DMG resource fork: a list reaches out of it, or has no blkx".to_owned()))
}

fn found_in_fork(fork: &[u8]) -> Option<Vec<Resource>> {
    let be16 = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let be32 = |bytes: &[u8], at: usize| -> Option<usize> {
        usize::try_from(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
    };
    let data = fork.get(be32(fork, 0)?..)?;
    let map = fork.get(be32(fork, 4)?..)?;
    let (types, names) = (map.get(usize::from(be16(map, 24)?)..)?, map.get(usize::from(be16(map, 26)?)..)?);
    // Counts are one less than what they count.
    let count = usize::from(be16(types, 0)?.wrapping_add(1));
    let kind = (0..count)
        .map_while(|index| types.get(2 + 8 * index..10 + 8 * index))
        .find(|kind| kind.starts_with(b"blkx"))?;
    let (count, list) = (usize::from(be16(kind, 4)?) + 1, types.get(usize::from(be16(kind, 6)?)..)?);
    let resource = |index: usize| {
        let entry = list.get(12 * index..12 * index + 12)?;
        let name = match be16(entry, 2)? {
            u16::MAX => &[][..],
            at => {
                let (length, rest) = names.get(usize::from(at)..)?.split_first()?;
                rest.get(..usize::from(*length))?
            }
        };
        let at = be32(entry, 4)? & 0xff_ffff;
        let bytes = data.get(at + 4..)?.get(..be32(data, at)?)?;
        Some(Resource { name: shown(&String::from_utf8_lossy(name)), bytes: bytes.to_vec() })
    };
    (0..count).map(resource).collect()
}

/// A hostile name as a message shows it.
fn shown(name: &str) -> String {
    name.chars().take(80).collect::<String>().escape_debug().to_string()
}

fn table(file: &dyn BlockRead, trailer: &Trailer, index: usize, resource: Resource) -> Result<Table> {
    let Resource { name, bytes } = resource;
    let broken = |what: String| corrupt(format!("DMG table {index} '{name}': {what}"));
    if bytes.len() < TABLE_HEADER || !bytes.starts_with(b"mish") {
        return Err(broken(format!("{} bytes that are no table", bytes.len())));
    }
    let be32 = |at: usize| u32::from_be_bytes(field(&bytes, at));
    let be64 = |at: usize| u64::from_be_bytes(field(&bytes, at));
    if be32(4) != 1 {
        let what = format!("DMG table {index} '{name}': version {} is not known", be32(4));
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let (first, data) = (be64(8), be64(24));
    let entries = usize::try_from(be32(200)).unwrap_or(usize::MAX);
    let entries = entries.checked_mul(ENTRY).and_then(|length| bytes.get(TABLE_HEADER..)?.get(..length));
    let Some(entries) = entries else {
        return Err(broken(format!("{} chunks in {} bytes", be32(200), bytes.len())));
    };
    let base =
        trailer.data_fork.offset.checked_add(data).ok_or_else(|| broken(format!("its data is at byte {data}")))?;
    let mut chunks = Vec::new();
    for (number, entry) in entries.as_chunks::<ENTRY>().0.iter().enumerate() {
        let found = chunk(entry, first, base, file.size())
            .map_err(|error| error.context(format!("DMG table {index} '{name}': chunk {number}")))?;
        match found {
            Entry::Chunk(chunk) => chunks.push(chunk),
            Entry::Nothing => {}
            Entry::End => break,
        }
    }
    Ok(Table { checksum: checksum(&bytes[64..]), chunks, name })
}

/// What an entry of a table is.
enum Entry {
    Chunk(Chunk),
    /// A comment, or no sectors.
    Nothing,
    End,
}

fn chunk(entry: &[u8; ENTRY], first: u64, base: u64, file_size: u64) -> Result<Entry> {
    let be64 = |at: usize| u64::from_be_bytes(field(entry, at));
    let (sector, sectors, place, stored_length) = (be64(8), be64(16), be64(24), be64(32));
    let method = match u32::from_be_bytes(field(entry, 0)) {
        0 => Method::Zero,
        1 => Method::Raw,
        2 => Method::Ignore,
        0x8000_0004 => Method::Adc,
        0x8000_0005 => Method::Zlib,
        0x8000_0006 => Method::Bzip2,
        0x8000_0007 => Method::Lzfse,
        0x8000_0008 => Method::Lzma,
        0x7fff_fffe => return Ok(Entry::Nothing),
        0xffff_ffff => return Ok(Entry::End),
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("stored in a way ({other:#010x}) that is not known"),
            ));
        }
    };
    if sectors == 0 {
        return Ok(Entry::Nothing);
    }
    let start = first.checked_add(sector);
    let end = start.and_then(|start| start.checked_add(sectors)).filter(|end| *end <= u64::MAX / SECTOR / 2);
    let (Some(start), Some(_)) = (start, end) else {
        return Err(corrupt(format!("{sectors} sectors at sector {first} + {sector}")));
    };
    let length = sectors * SECTOR;
    let stored = !matches!(method, Method::Zero | Method::Ignore);
    let stored_at = if stored { base.checked_add(place).unwrap_or(u64::MAX) } else { 0 };
    if stored && check_range(stored_at, stored_length, file_size).is_err() {
        let what = format!("{stored_length} bytes at byte {stored_at} reach behind the file's end at byte {file_size}");
        return Err(corrupt(what));
    }
    if method == Method::Raw && stored_length < length {
        return Err(corrupt(format!("{sectors} sectors in {stored_length} bytes that are not compressed")));
    }
    if method.codec().is_some() && (length > CHUNK_MAX || stored_length > CHUNK_MAX) {
        let what = format!("{length} bytes in {stored_length}, more than the {CHUNK_MAX} that are unpacked at once");
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let stored_length = if stored { stored_length } else { 0 };
    Ok(Entry::Chunk(Chunk { start: start * SECTOR, length, method, stored_at, stored_length }))
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_the_standard_has_it() {
        let table: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            (" Zm9v\n\tYmE= ", Some(b"fooba")),
            ("/+8", Some(&[0xff, 0xef])),
            ("Z", None),
            ("Zg==Zg==", None),
            ("Zm9*", None),
        ];
        for (text, bytes) in table {
            assert_eq!(base64(text).as_deref(), *bytes, "{text}");
        }
    }
}
