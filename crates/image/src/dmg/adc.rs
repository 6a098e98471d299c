//! Apple Data Compression: literals and copies, as disk images before zlib had it.
//!
//! Undocumented by Apple; known from the programs that read it. A byte says what follows:
//!
//! ```text
//! 1LLLLLLL                       L + 1 literal bytes
//! 01LLLLLL DDDDDDDD DDDDDDDD     L + 4 bytes from D + 1 back
//! 00LLLLDD DDDDDDDD              L + 3 bytes from D + 1 back
//! ```

use super::window::Window;

/// Fills the front of `unit` with what `stored` says, and returns how much that is; `None` when it breaks off, leads to in
/// front of the unit, or holds more than the unit.
pub(super) fn decode(stored: &[u8], unit: &mut [u8]) -> Option<usize> {
    let mut window = Window::new(unit);
    let mut rest = stored;
    while let Some((&first, tail)) = rest.split_first() {
        let low = usize::from(first & 0x3f);
        rest = match first {
            0x80.. => {
                let (literals, tail) = tail.split_at_checked(usize::from(first & 0x7f) + 1)?;
                window.put(literals)?;
                tail
            }
            0x40.. => {
                let (distance, tail) = tail.split_first_chunk()?;
                window.copy(usize::from(u16::from_be_bytes(*distance)) + 1, low + 4)?;
                tail
            }
            _ => {
                let (&distance, tail) = tail.split_first()?;
                window.copy(((low & 3) << 8 | usize::from(distance)) + 1, (low >> 2) + 3)?;
                tail
            }
        };
        if window.is_full() {
            break;
        }
    }
    Some(window.filled())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn every_kind_of_step() {
        let mut unit = [0; 16];
        // "abc", six bytes from three back, four from nine back.
        let stored = [0x82, b'a', b'b', b'c', 0x0c, 2, 0x40, 0, 8];
        assert_eq!(decode(&stored, &mut unit), Some(13));
        assert_eq!(&unit[..13], b"abcabcabcabca");
    }

    #[test]
    fn distances_of_more_than_a_byte() {
        let mut unit = vec![0; 600];
        let mut stored = Vec::new();
        for index in 0..5_u8 {
            stored.push(0x80 | 99);
            stored.extend([index; 100]);
        }
        // Three from 450 back and seven from 503 back.
        stored.extend([0x01, 0xc1, 0x43, 0x01, 0xf6]);
        assert_eq!(decode(&stored, &mut unit), Some(510));
        assert_eq!(unit[500..503], [0; 3], "450 back is inside the first hundred");
        assert_eq!(unit[503..510], [0; 7]);
    }

    #[test]
    fn the_farthest_of_the_short_distances() {
        let mut unit = vec![0; 1027];
        let literals: Vec<u8> = (0..128).collect();
        let mut stored = Vec::new();
        for _ in 0..8 {
            stored.push(0xff);
            stored.extend_from_slice(&literals);
        }
        // 1024 back, the lower byte of the distance being 255.
        stored.extend([0x03, 0xff]);
        assert_eq!(decode(&stored, &mut unit), Some(1027));
        assert_eq!(unit[1024..], [0, 1, 2]);
        *stored.last_mut().unwrap() = 0xfd;
        assert_eq!(decode(&stored, &mut unit), Some(1027));
        assert_eq!(unit[1024..], [2, 3, 4]);
    }

    #[test]
    fn what_leads_outside_is_refused() {
        let mut unit = [0; 8];
        for stored in [
            &[0x82, 1, 2][..],
            &[0x00],
            &[0x40, 0],
            &[0x00, 0],
            &[0x80, 1, 0x00, 1],
            &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(decode(stored, &mut unit), None, "{stored:?}");
        }
    }
}
