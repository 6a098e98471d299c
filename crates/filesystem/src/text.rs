//! Names in UTF-16, as NTFS, FAT, exFAT and Joliet store them.

/// UTF-16 as UTF-8. A surrogate that stands alone, which Windows allows in names, becomes the three bytes that UTF-8 would
/// have for it, so that different names stay different.
pub(crate) fn utf8_of(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for decoded in char::decode_utf16(units) {
        match decoded {
            Ok(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(alone) => {
                let [high, low] = alone.unpaired_surrogate().to_be_bytes();
                bytes.extend([0xE0 | (high >> 4), 0x80 | ((high & 0x0F) << 2) | (low >> 6), 0x80 | (low & 0x3F)]);
            }
        }
    }
    bytes
}

/// The little-endian units of a byte string; an odd last byte is left out.
pub(crate) fn le_units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| u16::from_le_bytes(*pair))
}

/// A label: bytes up to the first zero, without blanks at its end.
pub(crate) fn label(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

/// A UUID as it is printed, from its bytes in that order.
pub(crate) fn uuid(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 16 || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_that_stand_alone_stay_different() {
        assert_eq!(utf8_of("grüße 𝄞".encode_utf16()), "grüße 𝄞".as_bytes());
        assert_eq!(utf8_of([0xD800]), [0xED, 0xA0, 0x80]);
        assert_ne!(utf8_of([0xD800]), utf8_of([0xDC00]));
    }

    #[test]
    fn a_uuid_is_printed_as_blkid_does() {
        let bytes: Vec<u8> = (1..=16).collect();
        assert_eq!(uuid(&bytes).as_deref(), Some("01020304-0506-0708-090a-0b0c0d0e0f10"));
        assert_eq!(uuid(&[0; 16]), None);
    }
}
