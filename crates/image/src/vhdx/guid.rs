//! GUIDs as Microsoft stores them: the first three groups little-endian, the rest in the order of the text.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Sixteen bytes as they stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub(crate) struct Guid([u8; 16]);

impl Guid {
    /// The one that means none.
    pub(crate) const ZERO: Self = Self([0; 16]);

    /// From the groups of its text.
    pub(crate) const fn new(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        let ([e, f], [g, h]) = (second.to_le_bytes(), third.to_le_bytes());
        let [i, j, k, l, m, n, o, p] = rest;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// From a UUID in the order of its text.
    pub(crate) const fn from_text_order(uuid: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = uuid;
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// The UUID in the order of its text.
    pub(crate) const fn text_order(self) -> [u8; 16] {
        // The same bytes change places both ways.
        Self::from_text_order(self.0).0
    }

    /// From its text, with or without braces.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(|character: char| matches!(character, '{' | '}' | '\0' | ' '));
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut uuid = [0; 16];
        if digits.len() != 32 || text.len() != 36 {
            return None;
        }
        for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self::from_text_order(uuid))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text_order().iter().enumerate().try_for_each(|(index, byte)| {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")
        })
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes() {
        let guid = Guid::new(0x2dc2_7766, 0xf623, 0x4200, *b"\x9d\x64\x11\x5e\x9b\xfd\x4a\x08");
        assert_eq!(guid.to_string(), "2dc27766-f623-4200-9d64-115e9bfd4a08");
        assert_eq!(guid.as_bytes()[..6], [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6]);
        assert_eq!(Guid::parse("{2DC27766-F623-4200-9D64-115E9BFD4A08}"), Some(guid));
        assert_eq!(Guid::from_text_order(guid.text_order()), guid);
        for bad in [
            "",
            "{}",
            "2dc27766f62342009d64115e9bfd4a08",
            "2dc27766-f623-4200-9d64-115e9bfd4a0",
            "+dc27766-f623-4200-9d64-115e9bfd4ag8",
        ] {
            assert_eq!(Guid::parse(bad), None, "{bad}");
        }
    }
}
