//! Units: DMTF's grammar of programmatic units, and what was written before it.

/// Bytes of one unit of `text`, such as `byte * 2^20`, `MegaBytes` or `GB`. `None` where it is no unit of bytes, or too large.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    factor(text, &["byte", "bytes"]).or_else(|| named(text))
}

/// The factor behind one of the base units: `byte * 2^10 * 3` is 3072. Division is for rates, and no unit of a size.
fn factor(text: &str, bases: &[&str]) -> Option<u64> {
    let mut parts = text.split('*').map(str::trim);
    let base = parts.next()?;
    if !bases.iter().any(|name| base.eq_ignore_ascii_case(name)) {
        return None;
    }
    parts.try_fold(1_u64, |product, part| product.checked_mul(power(part)?))
}

/// `2^20`, `2 ^ 20`, `10^3`, `512`.
fn power(text: &str) -> Option<u64> {
    match text.split_once('^') {
        Some((base, exponent)) => base.trim().parse::<u64>().ok()?.checked_pow(exponent.trim().parse().ok()?),
        None => text.parse().ok(),
    }
}

/// The names that drafts of the standard had; a prefix means a power of 1024 in all of them.
fn named(text: &str) -> Option<u64> {
    const PREFIXES: [(&str, u32); 5] = [("kilo", 10), ("mega", 20), ("giga", 30), ("tera", 40), ("peta", 50)];
    let text = text.trim().to_ascii_lowercase();
    if let Some((_, shift)) =
        PREFIXES.iter().find(|(name, _)| text.strip_prefix(name).is_some_and(|rest| matches!(rest, "byte" | "bytes")))
    {
        return Some(1 << shift);
    }
    let letter = match text.as_str() {
        "b" => return Some(1),
        "kb" | "kib" => 10,
        "mb" | "mib" => 20,
        "gb" | "gib" => 30,
        "tb" | "tib" => 40,
        _ => return None,
    };
    Some(1 << letter)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_of_every_spelling() {
        for (text, expected) in [
            ("byte", Some(1)),
            ("byte * 2^20", Some(1 << 20)),
            ("byte*2^30", Some(1 << 30)),
            ("byte * 2 ^ 30", Some(1 << 30)),
            ("bytes * 10^3", Some(1000)),
            ("byte * 2^10 * 3", Some(3072)),
            ("byte * 512", Some(512)),
            ("MegaBytes", Some(1 << 20)),
            ("GigaBytes", Some(1 << 30)),
            ("MB", Some(1 << 20)),
            ("hertz * 10^6", None),
            ("byte / 2^10", None),
            ("byte * 2^64", None),
            ("byte * 2^63 * 2", None),
            ("byte *", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
