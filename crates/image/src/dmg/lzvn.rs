//! LZVN: what LZFSE uses for short blocks. Operations of one to three bytes, with literals behind them.
//!
//! ```text
//! LLMMMDDD DDDDDDDD           small distance       L literals, M + 3 bytes from D back
//! LLMMM111 D×16               large distance       the same with a distance of 16 bits, the lower byte first
//! LLMMM110                    previous distance    only with literals; without, 00000110 is the end
//! 101LLMMM DDDDDDMM D×8       medium distance      L literals, M + 3 bytes from D back, D of 14 bits
//! 1110LLLL, 11100000 L×8      literals             L, or L + 16 of them
//! 1111MMMM, 11110000 M×8      a match              M, or M + 16 bytes from the previous distance
//! ```

use super::window::Window;

/// Appends what `stored` says to `window`, up to `end`, which has to be reached; `None` when it breaks a rule.
pub(super) fn decode(stored: &[u8], window: &mut Window<'_>, end: usize) -> Option<()> {
    let mut rest = stored;
    let mut distance = 0;
    loop {
        let (&operation, tail) = rest.split_first()?;
        let (literals, length) = (usize::from(operation >> 6), usize::from(operation >> 3 & 7) + 3);
        let low = usize::from(operation & 15);
        let (literals, length, tail) = match operation {
            0x06 => return (window.filled() == end).then_some(()),
            // Does nothing.
            0x0e | 0x16 => {
                rest = tail;
                continue;
            }
            0x1e | 0x26 | 0x2e | 0x36 | 0x3e | 0x70..=0x7f | 0xd0..=0xdf => return None,
            0xe0 => {
                let (&more, tail) = tail.split_first()?;
                (usize::from(more) + 16, 0, tail)
            }
            0xe1..=0xef => (low, 0, tail),
            0xf0 => {
                let (&more, tail) = tail.split_first()?;
                (0, usize::from(more) + 16, tail)
            }
            0xf1.. => (0, low, tail),
            0xa0..=0xbf => {
                let (word, tail) = tail.split_first_chunk()?;
                let word = usize::from(u16::from_le_bytes(*word));
                distance = word >> 2;
                (usize::from(operation >> 3 & 3), (usize::from(operation & 7) << 2 | word & 3) + 3, tail)
            }
            _ => match operation & 7 {
                6 => (literals, length, tail),
                7 => {
                    let (word, tail) = tail.split_first_chunk()?;
                    distance = usize::from(u16::from_le_bytes(*word));
                    (literals, length, tail)
                }
                high => {
                    let (&byte, tail) = tail.split_first()?;
                    distance = usize::from(high) << 8 | usize::from(byte);
                    (literals, length, tail)
                }
            },
        };
        let (bytes, tail) = tail.split_at_checked(literals)?;
        window.put(bytes)?;
        if length > 0 {
            window.copy(distance, length)?;
        }
        if window.filled() > end {
            return None;
        }
        rest = tail;
    }
}
