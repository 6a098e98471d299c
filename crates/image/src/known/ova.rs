//! Virtual appliances in one file: a tar archive (POSIX ustar, GNU or pax) whose first member is an OVF descriptor, as
//! DMTF DSP0243, section 5.3, asks.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of OVA in the table of formats.
pub(crate) const FORMAT: Format = row("ova", &[], "virtual appliance (OVA)", &["ova"], probe);

const BLOCK: usize = 512;

/// Where the fields that are looked at stand in a member's header.
mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const KIND: usize = 156;
    /// `ustar`; what follows it tells POSIX from GNU and does not matter here.
    pub(super) const MAGIC: Range<usize> = 257..262;
}

fn probe(window: &ProbeWindow<'_>) -> Match {
    let mut rest = window.head;
    let mut long_name = false;
    // Headers that only describe the one behind them: pax records for all and for one, GNU's long name and link.
    while let Some(header) = rest.first_chunk().and_then(Header::new) {
        let kind = header.0[field::KIND];
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return when(long_name || header.is_descriptor());
        }
        let Some(size) = header.size() else { break };
        let payload = rest.get(BLOCK..).and_then(|payload| payload.get(..size)).unwrap_or_default();
        long_name |= match kind {
            b'L' => is_descriptor(payload),
            b'x' => payload.split(|byte| *byte == b'\n').any(|record| is_path(record) && is_descriptor(record)),
            _ => false,
        };
        let next = size.div_ceil(BLOCK).saturating_add(1).checked_mul(BLOCK);
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    Match::No
}

/// Whether a pax record, `LENGTH KEY=VALUE`, is a member's name.
fn is_path(record: &[u8]) -> bool {
    record.split(|byte| *byte == b' ').nth(1).is_some_and(|rest| rest.starts_with(b"path="))
}

/// Whether a name, which may have NULs behind it, ends as a descriptor's does.
fn is_descriptor(name: &[u8]) -> bool {
    const ENDING: &[u8] = b".ovf";
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let base = length.checked_sub(ENDING.len());
    base.is_some_and(|base| name[base..length].eq_ignore_ascii_case(ENDING))
}

struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    fn new(block: &'a [u8; BLOCK]) -> Option<Self> {
        let (front, rest) = block.split_at(field::CHECKSUM.start);
        let rest = &rest[field::CHECKSUM.len()..];
        // The sum is taken with spaces in its own place.
        let spaces = field::CHECKSUM.len() * usize::from(b' ');
        let sum = front.iter().chain(rest).map(|byte| usize::from(*byte)).sum::<usize>() + spaces;
        let sound = octal(&block[field::CHECKSUM]) == Some(sum) && block[field::MAGIC] == *b"ustar";
        sound.then_some(Self(block))
    }

    /// Whether the member is called as a descriptor is, by the name in the header.
    fn is_descriptor(&self) -> bool {
        is_descriptor(&self.0[field::NAME])
    }

    fn size(&self) -> Option<usize> {
        octal(&self.0[field::SIZE])
    }
}

/// A number as tar writes it: octal digits between spaces and NULs.
fn octal(field: &[u8]) -> Option<usize> {
    let text = str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    // A sign is a number to the parser and none to tar.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| usize::from_str_radix(digits, 8).ok())?
}
