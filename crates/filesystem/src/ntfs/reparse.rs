//! What else a file can be: reparse points, and the files by which Interix and ntfs-3g keep links and devices.

use transload_block::Result;

use crate::contract::FileKind;
use crate::fields::{Fields, corrupt, unsupported};
use crate::text::{le_units, utf8_of};

const MOUNT_POINT: u32 = 0xA000_0003;
const SYMLINK: u32 = 0xA000_000C;
const LX_SYMLINK: u32 = 0xA000_001D;
const LX_FIFO: u32 = 0x8000_0024;
const LX_CHAR: u32 = 0x8000_0025;
const LX_BLOCK: u32 = 0x8000_0026;
const AF_UNIX: u32 = 0x8000_0023;

/// The kind that a reparse point makes of a file; `None` for those that only say how its bytes are stored.
pub(super) fn kind(point: &[u8]) -> Result<Option<FileKind>> {
    Ok(match tag(point)? {
        MOUNT_POINT | SYMLINK | LX_SYMLINK => Some(FileKind::Symlink),
        LX_FIFO => Some(FileKind::Fifo),
        LX_CHAR => Some(FileKind::CharDevice),
        LX_BLOCK => Some(FileKind::BlockDevice),
        AF_UNIX => Some(FileKind::Socket),
        _ => None,
    })
}

fn tag(point: &[u8]) -> Result<u32> {
    Fields::new(point, "NTFS reparse point").le32(0)
}

/// Refuses a file whose bytes are not where NTFS keeps bytes.
pub(super) fn refuse_stored_elsewhere(point: &[u8]) -> Result<()> {
    let how = match tag(point)? {
        0x8000_0017 => "compressed by Windows' overlay filter (WOF, CompactOS)",
        0x8000_0013 => "deduplicated by Windows Server",
        0x9000_001A..=0x9000_F01A => "a placeholder for a file in the cloud",
        0x8000_0018 | 0xC000_0004 | 0x8000_0006 => "stored in another place (WCI, HSM)",
        _ => return Ok(()),
    };
    Err(unsupported(format!("NTFS: the file is {how}")))
}

/// What a link points to. Windows' own paths keep their meaning as far as they have one here: `\` becomes `/`, and the
/// prefix of the object manager goes.
pub(super) fn target(point: &[u8]) -> Result<Vec<u8>> {
    let fields = Fields::new(point, "NTFS symbolic link");
    let names = match fields.le32(0)? {
        LX_SYMLINK => return Ok(point.get(12..).unwrap_or_default().to_vec()),
        SYMLINK => 20,
        MOUNT_POINT => 16,
        other => return Err(corrupt(format!("NTFS: the reparse point {other:#010x} is no link"))),
    };
    // The name for people, or where there is none the one for the kernel.
    let (at, length) = match fields.le16(14)? {
        0 => (fields.le16(8)?, fields.le16(10)?),
        length => (fields.le16(12)?, length),
    };
    let bytes = fields.bytes(names + usize::from(at), length.into())?;
    let text = utf8_of(le_units(bytes));
    let text = text.strip_prefix(br"\??\").unwrap_or(&text);
    Ok(text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect())
}

/// What a file of the kind of Interix stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Link(Vec<u8>),
    Device(FileKind, (u32, u32)),
    Node(FileKind),
}

/// The longest content that is one: a link of 4096 units.
pub(super) const LONGEST_SPECIAL: u64 = 8 + 8192;

/// Reads the content of a file that has the flag "system" and is no longer than [`LONGEST_SPECIAL`].
pub(super) fn special(content: &[u8]) -> Option<Special> {
    let device = |kind| {
        let number = |at: usize| content.get(at..at + 8)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let (major, minor) = (u32::try_from(number(8)?).ok()?, u32::try_from(number(16)?).ok()?);
        (content.len() == 24).then_some(Special::Device(kind, (major, minor)))
    };
    match content {
        [] => Some(Special::Node(FileKind::Fifo)),
        [0] => Some(Special::Node(FileKind::Socket)),
        [b'I', b'n', b't', b'x', b'L', b'N', b'K', 1, rest @ ..] => Some(Special::Link(utf8_of(le_units(rest)))),
        [b'I', b'n', b't', b'x', b'C', b'H', b'R', 0, ..] => device(FileKind::CharDevice),
        [b'I', b'n', b't', b'x', b'B', b'L', b'K', 0, ..] => device(FileKind::BlockDevice),
        _ => None,
    }
}
