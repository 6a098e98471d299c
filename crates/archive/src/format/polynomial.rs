//! Irreducible polynomials over the field of two elements, by which files are cut into chunks.

use transload_block::Result;

use super::crypto::random;

/// The degree of the polynomials: as large as a window's digest can be with room for one more byte.
const DEGREE: u32 = 53;

/// The degree of a polynomial; 0 for the constants.
pub(crate) const fn degree(polynomial: u64) -> u32 {
    if polynomial == 0 { 0 } else { polynomial.ilog2() }
}

/// The rest of a division.
pub(crate) const fn modulo(mut dividend: u64, divisor: u64) -> u64 {
    let end = degree(divisor);
    while dividend != 0 && degree(dividend) >= end && divisor != 0 {
        if dividend == 0 || (end == 0 && divisor == 1) {
            return 0;
        }
        dividend ^= divisor << (degree(dividend) - end);
    }
    dividend
}

/// The square of a polynomial, modulo another of a degree below 64.
fn square_modulo(polynomial: u64, divisor: u64) -> u64 {
    // Multiplication by x, step by step, with what overflows taken away at once.
    let top = 1 << degree(divisor);
    let times_x = |value: u64| {
        let shifted = value << 1;
        if shifted & top == 0 { shifted } else { shifted ^ divisor }
    };
    let (mut sum, mut power) = (0, modulo(polynomial, divisor));
    for bit in 0..=degree(polynomial) {
        if polynomial >> bit & 1 == 1 {
            sum ^= power;
        }
        power = times_x(power);
    }
    sum
}

fn greatest_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, modulo(one, other));
    }
    one
}

/// Whether a polynomial of degree 53 has no divisors: Ben-Or's test.
pub(crate) fn is_irreducible(polynomial: u64) -> bool {
    let mut power = 2; // x
    for _ in 0..degree(polynomial) / 2 {
        power = square_modulo(power, polynomial);
        if greatest_divisor(polynomial, power ^ 2) != 1 {
            return false;
        }
    }
    true
}

/// Whether chunks can be cut by it, as files that say so are not to be believed.
pub(crate) fn is_usable(polynomial: u64) -> bool {
    degree(polynomial) == DEGREE && is_irreducible(polynomial)
}

/// A random irreducible polynomial, as every repository has its own: what is in one cannot be guessed from the lengths of
/// its chunks.
pub(crate) fn generate() -> Result<u64> {
    loop {
        let mut bytes = [0; 8];
        random(&mut bytes)?;
        let candidate = (u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1)) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{generate, is_irreducible, is_usable};

    #[test]
    fn known_polynomials_are_told_apart() {
        // The example of restic's documentation, and others that its tests have.
        for irreducible in [0x0025_b468_838d_cb75, 0x003D_A335_8B4D_C173] {
            assert!(is_usable(irreducible), "{irreducible:x}");
        }
        for reducible in [0x0038_f1e5_65e2_88df, 0x0020_0000_0000_0000, 0x003D_A335_8B4D_C172] {
            assert!(!is_irreducible(reducible), "{reducible:x}");
        }
        assert!(is_irreducible(0b111) && is_irreducible(0b1011) && !is_irreducible(0b101));
        assert!(is_usable(generate().unwrap()));
        assert!(!is_usable(0) && !is_usable(1) && !is_usable(u64::MAX));
    }
}
