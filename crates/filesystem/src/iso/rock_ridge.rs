//! Rock Ridge: what stands in the system use area of a record, and where that continues.

use transload_block::Result;

use super::record::{long_moment, moment};
use crate::cache::Cache;
use crate::contract::Timestamp;
use crate::fields::{Fields, corrupt, in_memory};

/// Areas in which one record's entries may continue.
const MOST_AREAS: usize = 64;
/// The longest name, and the longest target of a link.
const LONGEST_NAME: usize = 1024;
const LONGEST_LINK: usize = 64 << 10;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Whether there was anything at all.
    pub(super) is_set: bool,
    pub(super) name: Option<Vec<u8>>,
    pub(super) mode: Option<u32>,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: (u32, u32),
    pub(super) link: Option<Vec<u8>>,
    pub(super) created: Option<Timestamp>,
    pub(super) modified: Option<Timestamp>,
    pub(super) accessed: Option<Timestamp>,
    pub(super) changed: Option<Timestamp>,
    /// The block of the folder that stands elsewhere, and the mark of one that does.
    pub(super) moved_to: Option<u32>,
    pub(super) is_moved_here: bool,
    pub(super) is_compressed: bool,
}

/// The bytes to skip in every area, where this one begins with the mark of the protocol.
pub(super) fn indicator(area: &[u8]) -> Option<usize> {
    // On some discs (CD-ROM XA) fourteen bytes of another kind stand before it.
    [0, 14].into_iter().find_map(|at| match area.get(at..at + 7)? {
        [b'S', b'P', 7, 1, 0xBE, 0xEF, skip] => Some(usize::from(*skip)),
        _ => None,
    })
}

/// Reads the entries of an area and of those it continues in.
pub(super) fn read(cache: &Cache, block_size: u64, area: &[u8], skip: usize) -> Result<Extra> {
    let mut extra = Extra::default();
    let mut link = Link::default();
    let mut area = area.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..MOST_AREAS {
        let mut next = None;
        let mut at = 0;
        while let Some(head) = area.get(at..at + 4) {
            let length = usize::from(head[2]);
            if length < 4 || &head[..2] == b"ST" {
                break;
            }
            let body = area.get(at + 4..at + length);
            let body = body.ok_or_else(|| corrupt(format!("Rock Ridge: an entry of {length} bytes at {at}")))?;
            let fields = Fields::new(body, "Rock Ridge");
            match &head[..2] {
                b"CE" => {
                    let length = in_memory(fields.le32(16)?.into(), 64 << 10, "a continuation of Rock Ridge")?;
                    next = Some((u64::from(fields.le32(0)?) * block_size + u64::from(fields.le32(8)?), length));
                }
                name => entry(name, &fields, body, &mut extra, &mut link)?,
            }
            at += length;
        }
        match next {
            Some((place, length)) => area = cache.read_vec(place, length)?,
            None => {
                extra.link = link.finish();
                return Ok(extra);
            }
        }
    }
    Err(corrupt(format!("Rock Ridge: the entries of a record continue in more than {MOST_AREAS} places")))
}

fn entry(name: &[u8], fields: &Fields<'_>, body: &[u8], extra: &mut Extra, link: &mut Link) -> Result<()> {
    match name {
        b"PX" => {
            extra.is_set = true;
            extra.mode = Some(fields.le32(0)?);
            extra.links = fields.le32(8)?;
            (extra.uid, extra.gid) = (fields.le32(16)?, fields.le32(24)?);
        }
        b"PN" => {
            let (high, low) = (fields.le32(0)?, fields.le32(8)?);
            // Writers put major and minor number here, or nothing and both in one number, as Linux has it.
            let together = high == 0 && low > 0xFF;
            let apart = (low >> 8 & 0xFFF, low & 0xFF | low >> 12 & 0xF_FF00);
            extra.device = if together { apart } else { (high, low) };
        }
        b"NM" => {
            let flags = fields.u8(0)?;
            if flags & 0x06 == 0 {
                let name = extra.name.get_or_insert_default();
                name.extend_from_slice(&body[1..]);
                if name.len() > LONGEST_NAME {
                    return Err(corrupt(format!("Rock Ridge: a name of {} bytes", name.len())));
                }
            }
        }
        b"SL" => link.push(&body[1.min(body.len())..])?,
        b"TF" => times(fields, extra)?,
        b"CL" => extra.moved_to = Some(fields.le32(0)?),
        b"RE" => extra.is_moved_here = true,
        b"ZF" => extra.is_compressed = true,
        _ => {}
    }
    Ok(())
}

fn times(fields: &Fields<'_>, extra: &mut Extra) -> Result<()> {
    let flags = fields.u8(0)?;
    let length = if flags & 0x80 != 0 { 17 } else { 7 };
    let mut at = 1;
    for bit in 0..7 {
        if flags >> bit & 1 == 0 {
            continue;
        }
        let bytes = fields.bytes(at, length)?;
        let time = if length == 17 { long_moment(bytes) } else { moment(bytes) };
        match bit {
            0 => extra.created = time,
            1 => extra.modified = time,
            2 => extra.accessed = time,
            3 => extra.changed = time,
            _ => {}
        }
        at += length;
    }
    Ok(())
}

/// The target of a symbolic link, component by component.
#[derive(Debug, Default)]
struct Link {
    target: Option<Vec<u8>>,
    /// The last component goes on in the next record.
    goes_on: bool,
}

impl Link {
    fn push(&mut self, mut parts: &[u8]) -> Result<()> {
        while let [flags, length, rest @ ..] = parts {
            let text = rest.get(..usize::from(*length)).ok_or_else(|| corrupt("Rock Ridge: a link is cut off"))?;
            let target = self.target.get_or_insert_default();
            if !self.goes_on && !target.is_empty() && !target.ends_with(b"/") {
                target.push(b'/');
            }
            match flags & 0x0E {
                0x02 => target.push(b'.'),
                0x04 => target.extend_from_slice(b".."),
                0x08 => target.push(b'/'),
                _ => target.extend_from_slice(text),
            }
            self.goes_on = flags & 1 != 0;
            if target.len() > LONGEST_LINK {
                return Err(corrupt(format!("Rock Ridge: a link of {} bytes", target.len())));
            }
            parts = &rest[usize::from(*length)..];
        }
        Ok(())
    }

    fn finish(self) -> Option<Vec<u8>> {
        self.target
    }
}
