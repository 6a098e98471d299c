//! Names: eleven bytes in a code page, and beside them up to 255 UTF-16 units in entries of thirteen.

use crate::text::utf8_of;

/// Bytes of an entry.
pub(super) const ENTRY: usize = 32;
/// Units in one entry of a long name.
pub(super) const UNITS: usize = 13;
/// The longest name, in units.
pub(super) const LONGEST: usize = 255;

/// The upper half of code page 437, in which the short names of most volumes are.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A short name as people see it: `NAME.EXT`, in lower case where the entry says so.
pub(super) fn short_name(entry: &[u8]) -> Vec<u8> {
    let flags = entry[12];
    let part = |bytes: &[u8], lower: bool| {
        let end = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        let text: String = bytes[..end].iter().map(|byte| decode(*byte)).collect();
        if lower { text.to_lowercase() } else { text }
    };
    let mut base = entry[..8].to_vec();
    if base[0] == 0x05 {
        base[0] = 0xE5;
    }
    let base = part(&base, flags & 0x08 != 0);
    let extension = part(&entry[8..11], flags & 0x10 != 0);
    if extension.is_empty() { base.into_bytes() } else { format!("{base}.{extension}").into_bytes() }
}

fn decode(byte: u8) -> char {
    match byte.checked_sub(0x80) {
        None => char::from(byte),
        Some(index) => UPPER.chars().nth(index.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

/// The sum over a short name that ties the entries of a long one to it.
pub(super) fn checksum(short: &[u8]) -> u8 {
    short.iter().take(11).fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Entries of a long name as they are met: the last piece first.
#[derive(Debug, Default)]
pub(super) struct LongName {
    units: Vec<u16>,
    /// The number of the piece that has to come next; 0 when the name is whole.
    expected: u8,
    checksum: u8,
    alive: bool,
}

impl LongName {
    /// Takes an entry of a long name. One that does not fit to those before begins anew or ends the name.
    pub(super) fn push(&mut self, entry: &[u8]) {
        let (order, sum) = (entry[0], entry[13]);
        let number = order & 0x3F;
        if order & 0x40 != 0 {
            *self = Self { units: Vec::new(), expected: number, checksum: sum, alive: (1..=20).contains(&number) };
        }
        if !self.alive || number != self.expected || sum != self.checksum {
            self.alive = false;
            return;
        }
        let piece = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
        let mut units: Vec<u16> = crate::text::le_units(&piece).collect();
        units.append(&mut self.units);
        self.units = units;
        self.expected -= 1;
    }

    /// The name, if it is whole and belongs to this short entry; ready for the next.
    pub(super) fn take(&mut self, short: &[u8]) -> Option<Vec<u8>> {
        let this = std::mem::take(self);
        if !this.alive || this.expected != 0 || this.checksum != checksum(short) {
            return None;
        }
        let end = this.units.iter().position(|unit| *unit == 0).unwrap_or(this.units.len());
        (end > 0).then(|| utf8_of(this.units[..end].iter().copied()))
    }
}

/// Whether two names are the same to FAT.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let upper = |name: &[u8]| String::from_utf8_lossy(name).chars().flat_map(char::to_uppercase).collect::<String>();
    one == other
        || one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && upper(one) == upper(other))
}
