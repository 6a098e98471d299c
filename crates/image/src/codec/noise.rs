//! Recognises units that cannot shrink before time is spent on them: what is compressed or encrypted already.
//!
//! A sample of the unit is held against equal frequencies of all byte values. In noise the statistic chi-square has mean
//! 255 and standard deviation 23; text and programs are in the thousands and beyond. What passes for noise here could still shrink by
//! repeating itself, which no unit of the disks that were measured did by as much as a thousandth of all sizes
//! (docs/adr/0017-noise-is-recognised.md).

/// Bytes that are looked at, in [`PIECES`] pieces spread evenly over the unit.
const SAMPLE: usize = 4096;
const PIECES: usize = 32;
/// Units shorter than this are not worth the look.
const UNIT_MIN: usize = 4 * SAMPLE;
/// The chi-square below which a sample passes for noise: six standard deviations above the mean of noise.
const CHI_SQUARE_MAX: u64 = 405;

/// Whether `unit` looks like noise.
pub(super) fn is_noise(unit: &[u8]) -> bool {
    if unit.len() < UNIT_MIN {
        return false;
    }
    // Two tables, so that equal bytes behind each other do not wait for one another.
    let mut even = [0_u16; 256];
    let mut odd = [0_u16; 256];
    for piece in unit.chunks_exact(unit.len() / PIECES).take(PIECES) {
        for pair in piece[..SAMPLE / PIECES].chunks_exact(2) {
            even[usize::from(pair[0])] += 1;
            odd[usize::from(pair[1])] += 1;
        }
    }
    let squares: u64 = even.iter().zip(&odd).map(|(even, odd)| u64::from(even + odd).pow(2)).sum();
    squares * 256 / (SAMPLE as u64) < SAMPLE as u64 + CHI_SQUARE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn noise_is_noise_and_nothing_else_is() {
        for length in [UNIT_MIN, 65536, 65537, 2 << 20] {
            assert!(is_noise(&noise(length)), "{length}");
            assert!(!is_noise(&vec![7; length]));
            let text: Vec<u8> =
                (0..length).map(|at| b"it is not noise, and all of it has a meaning "[at % 45]).collect();
            assert!(!is_noise(&text));
            // Six bits to the byte, as in base64.
            let letters: Vec<u8> = noise(length).iter().map(|byte| b'0' + byte % 64).collect();
            assert!(!is_noise(&letters));
            // A quarter that is zero.
            let mut mixed = noise(length);
            mixed[length / 2..length / 4 * 3].fill(0);
            assert!(!is_noise(&mixed));
        }
    }

    #[test]
    fn a_short_unit_is_not_judged() {
        assert!(!is_noise(&[]));
        assert!(!is_noise(&noise(UNIT_MIN - 1)));
    }
}
