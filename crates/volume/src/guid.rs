//! GUIDs as GPT keeps them, and identifiers that are the same every time.

use std::fmt;
use std::str::FromStr;

use transload_block::{Error, ErrorKind};

/// A GUID in the order of its text (RFC 9562): on disk the first three groups stand with their bytes reversed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All zeroes: the type of an entry that is not used.
    pub const NIL: Self = Self([0; 16]);

    /// The GUID that these bytes of a disk are (UEFI 2.10, appendix A).
    #[must_use]
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        Self(swapped(bytes))
    }

    /// The bytes that stand for it on disk.
    #[must_use]
    pub const fn to_disk(self) -> [u8; 16] {
        swapped(self.0)
    }

    /// The GUID that a constant's text spells.
    ///
    /// # Panics
    /// When it is none, at compile time.
    #[must_use]
    pub(crate) const fn constant(text: &str) -> Self {
        Self(parse(text.as_bytes()).expect("the text of a GUID"))
    }
}

/// Reverses the first three groups; doing it twice changes nothing.
const fn swapped(b: [u8; 16]) -> [u8; 16] {
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const fn parse(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let (mut at, mut index) = (0, 0);
    while at < 36 {
        if matches!(at, 8 | 13 | 18 | 23) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let (Some(high), Some(low)) = (digit(text[at]), digit(text[at + 1])) else { return None };
        bytes[index] = high << 4 | low;
        (at, index) = (at + 2, index + 1);
    }
    Some(bytes)
}

impl fmt::Display for Guid {
    /// In lower case, as RFC 9562 has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = Error;

    /// Parses the text of a GUID, in either case, with or without braces.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bare = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        parse(bare.as_bytes()).map(Self).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("'{text}' is no GUID, such as 0fc63daf-8483-4772-8e79-3d69d8477de4"),
            )
        })
    }
}

/// Where new identifiers come from: a seed, from which each use derives its own. The same seed gives the same table.
#[derive(Clone, Debug)]
pub struct Identifiers([u8; 32]);

impl Identifiers {
    /// Identifiers derived from `material`: the user's seed, or what tells this disk from others.
    #[must_use]
    pub fn from_material(material: &[u8]) -> Self {
        Self(*blake3::hash(material).as_bytes())
    }

    fn bytes(&self, purpose: &str) -> [u8; 16] {
        let digest = blake3::keyed_hash(&self.0, purpose.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes
    }

    /// A GUID of version 4 for `purpose`.
    pub(crate) fn guid(&self, purpose: &str) -> Guid {
        let mut bytes = self.bytes(purpose);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    /// The signature of an MBR, which is never zero: Windows would replace that.
    pub(crate) fn signature(&self) -> u32 {
        let [a, b, c, d, ..] = self.bytes("mbr signature");
        u32::from_le_bytes([a, b, c, d]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Guid, Identifiers};

    #[test]
    fn text_and_disk_order_agree_with_the_specification() {
        // The EFI system partition, with its bytes as UEFI prints them.
        let esp: Guid = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".parse().unwrap();
        let disk = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(esp.to_disk(), disk);
        assert_eq!(Guid::from_disk(disk), esp);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(format!("{{{esp}}}").parse::<Guid>().unwrap(), esp);
        for wrong in ["", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "c12a7328xf81f-11d2-ba4b-00a0c93ec93b"] {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn identifiers_are_the_same_for_the_same_seed() {
        let ids = Identifiers::from_material(b"a");
        assert_eq!(ids.guid("x"), Identifiers::from_material(b"a").guid("x"));
        assert_ne!(ids.guid("x"), ids.guid("y"));
        assert_ne!(ids.guid("x"), Identifiers::from_material(b"b").guid("x"));
        assert_eq!(&ids.guid("x").to_string()[14..15], "4");
    }
}
