//! Virtual PC's and Hyper-V's VHD: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0. All integers
//! big-endian.
//!
//! A dynamic or differencing image begins with a copy of its footer. A fixed one begins with the guest's first sector, and
//! has its footer in the last 512 bytes alone, or in the last 511 when a version of Virtual PC before 2004 made it.
//! `conectix` anywhere else is a guest's business.

use super::{row, when};
use crate::{Format, Match, ProbeWindow};

/// The row of VHD in the table of formats.
pub(crate) const FORMAT: Format = row("vhd", &["vpc"], "VHD", &["vhd", "avhd"], probe);

const COOKIE: &[u8; 8] = b"conectix";
/// Bytes of a footer, and of one by Virtual PC before 2004.
const FOOTER: usize = 512;
const FOOTER_OLD: usize = 511;

/// Where the fields that are looked at stand in the footer.
mod field {
    pub(super) const VERSION: usize = 12;
    pub(super) const CURRENT_SIZE: usize = 48;
    pub(super) const DISK_TYPE: usize = 60;
    pub(super) const CHECKSUM: usize = 64;
}

/// The file format version 1.0, the only one there is.
const VERSION: u32 = 0x0001_0000;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

fn probe(window: &ProbeWindow<'_>) -> Match {
    let copy = window.head.get(..FOOTER).and_then(Footer::new).is_some_and(|copy| copy.is_copy());
    let footer = [FOOTER, FOOTER_OLD].into_iter().any(|length| {
        let before = window.size.and_then(|size| size.checked_sub(length as u64));
        window.last(length).and_then(Footer::new).is_some_and(|footer| footer.ends_file(before))
    });
    when(copy || footer)
}

/// Bytes that begin as a footer does, 511 or 512 of them.
struct Footer<'a>(&'a [u8]);

impl<'a> Footer<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let footer = Self(bytes);
        (bytes.starts_with(COOKIE) && footer.word(field::VERSION) == VERSION).then_some(footer)
    }

    /// Whether it is the copy at the start of a dynamic or differencing image, damaged or not.
    fn is_copy(&self) -> bool {
        matches!(self.word(field::DISK_TYPE), DYNAMIC | DIFFERENCING) || self.is_sound()
    }

    /// Whether it is a footer behind `before` bytes: by its checksum, or, should that be damaged, by telling the length of
    /// the fixed disk in front of it.
    fn ends_file(&self, before: Option<u64>) -> bool {
        let fixed = self.word(field::DISK_TYPE) == FIXED && before.is_some_and(|before| before > 0);
        self.is_sound() || fixed && before == Some(self.current_size())
    }

    /// Whether the checksum is right: the complement of the sum of all bytes but its own.
    fn is_sound(&self) -> bool {
        let (front, rest) = self.0.split_at(field::CHECKSUM);
        let sum: u32 = front.iter().chain(&rest[4..]).map(|byte| u32::from(*byte)).sum();
        self.word(field::CHECKSUM) == !sum
    }

    fn current_size(&self) -> u64 {
        u64::from(self.word(field::CURRENT_SIZE)) << 32 | u64::from(self.word(field::CURRENT_SIZE + 4))
    }

    fn word(&self, offset: usize) -> u32 {
        self.0[offset..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}
