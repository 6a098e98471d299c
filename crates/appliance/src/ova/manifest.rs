//! The manifest of an OVF package: a digest for every file (DMTF DSP0243 2.1.1, section 6.2).
//!
//! ```text
//! SHA256(machine.ovf)= 6ac3…e1\n          algorithm "(" name ")=" space hex newline
//! ```
//!
//! Written exactly so, since importers take it to the letter. Read liberally: what other programs write is understood and
//! what is unusual about it is noted, so that a validator can tell which importer will refuse it.

use std::fmt::{self, Write};

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use transload_block::{Error, ErrorKind, Result};

/// The most bytes of a manifest that are read: some twenty thousand lines.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// A digest function that manifests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestAlgorithm {
    /// SHA-1: the only one before vSphere 6.5.
    Sha1,
    /// SHA-256: what is written today.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl ManifestAlgorithm {
    /// The name in a manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Bytes in a digest.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Begins a digest.
    #[must_use]
    pub fn hasher(self) -> ManifestHasher {
        match self {
            Self::Sha1 => ManifestHasher(Function::Sha1(Sha1::new())),
            Self::Sha256 => ManifestHasher(Function::Sha256(Sha256::new())),
            Self::Sha512 => ManifestHasher(Function::Sha512(Sha512::new())),
        }
    }

    fn from_name(name: &str) -> Option<(Self, bool)> {
        let known = [Self::Sha1, Self::Sha256, Self::Sha512];
        if let Some(algorithm) = known.iter().find(|known| known.name().eq_ignore_ascii_case(name)) {
            return Some((*algorithm, algorithm.name() == name));
        }
        let spelled = [("SHA-1", Self::Sha1), ("SHA2-256", Self::Sha256), ("SHA-256", Self::Sha256)];
        let more = [("SHA2-512", Self::Sha512), ("SHA-512", Self::Sha512)];
        let found = spelled.into_iter().chain(more).find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, algorithm)| (algorithm, false))
    }
}

impl fmt::Display for ManifestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest that is being computed.
#[derive(Clone, Debug)]
pub struct ManifestHasher(Function);

#[derive(Clone, Debug)]
enum Function {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl ManifestHasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Function::Sha1(hasher) => hasher.update(bytes),
            Function::Sha256(hasher) => hasher.update(bytes),
            Function::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Function::Sha1(hasher) => hasher.finalize().to_vec(),
            Function::Sha256(hasher) => hasher.finalize().to_vec(),
            Function::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The function.
    pub algorithm: ManifestAlgorithm,
    /// The file's name.
    pub name: String,
    /// Its digest, or in a certificate file the signature.
    pub value: Vec<u8>,
}

impl fmt::Display for ManifestEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})= {}", self.algorithm, self.name, hex(&self.value))
    }
}

/// Something in a manifest that some importers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Irregularity {
    /// `SHA256 (name)`: "Invalid OVF checksum algorithm: SHA256 ".
    SpaceBeforeName,
    /// `SHA2-256(name)` and the like.
    AlgorithmSpelling,
    /// Other than one space behind the equals sign, or one before it.
    SpaceAtEquals,
    /// Upper-case hexadecimal digits.
    UpperCase,
    /// A carriage return before the newline.
    CarriageReturn,
    /// An empty line.
    BlankLine,
    /// No newline behind the last line.
    NoNewlineAtEnd,
    /// More than one function.
    MixedAlgorithms,
    /// A byte order mark at its beginning.
    ByteOrderMark,
}

impl fmt::Display for Irregularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SpaceBeforeName => "a space between the algorithm and the name",
            Self::AlgorithmSpelling => "an algorithm that is not spelled SHA1, SHA256 or SHA512",
            Self::SpaceAtEquals => "not exactly `)= ` before the digest",
            Self::UpperCase => "upper-case digits",
            Self::CarriageReturn => "carriage returns",
            Self::BlankLine => "an empty line",
            Self::NoNewlineAtEnd => "no newline at its end",
            Self::MixedAlgorithms => "several algorithms",
            Self::ByteOrderMark => "a byte order mark",
        })
    }
}

/// A manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Its lines, in order.
    pub entries: Vec<ManifestEntry>,
    /// What is unusual about it, each thing once.
    pub irregularities: Vec<Irregularity>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// `Corrupt` for a line that is none, with its number; `Unsupported` for another function; `TooLarge`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() as u64 > MANIFEST_MAX {
            let text = format!("manifest of {} bytes, at most {MANIFEST_MAX} are read", text.len());
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        let text = str::from_utf8(text).map_err(|_| Error::new(ErrorKind::Corrupt, "manifest: not UTF-8"))?;
        let mut manifest = Self::default();
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        manifest.note(body.len() < text.len(), Irregularity::ByteOrderMark);
        manifest.note(!body.is_empty() && !body.ends_with('\n'), Irregularity::NoNewlineAtEnd);
        for (index, line) in body.split_terminator('\n').enumerate() {
            let plain = line.trim_end_matches('\r');
            manifest.note(plain.len() < line.len(), Irregularity::CarriageReturn);
            if plain.trim().is_empty() {
                manifest.note(true, Irregularity::BlankLine);
                continue;
            }
            let entry = parse_line(plain, &mut manifest.irregularities)
                .map_err(|error| error.context(format!("manifest: line {}", index + 1)))?;
            if entry.value.len() != entry.algorithm.length() {
                let (found, expected) = (entry.value.len(), entry.algorithm.length());
                let text = format!("manifest: line {}: a digest of {found} bytes, must be {expected}", index + 1);
                return Err(Error::new(ErrorKind::Corrupt, text));
            }
            manifest.entries.push(entry);
        }
        let mixed = manifest.entries.windows(2).any(|pair| pair[0].algorithm != pair[1].algorithm);
        manifest.note(mixed, Irregularity::MixedAlgorithms);
        Ok(manifest)
    }

    /// The line for the file called `name`; the last one, where there are several.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&ManifestEntry> {
        let name = name.trim_start_matches("./");
        self.entries.iter().rev().find(|entry| entry.name.trim_start_matches("./") == name)
    }

    /// The manifest as it is written.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{entry}");
        }
        text
    }

    fn note(&mut self, holds: bool, irregularity: Irregularity) {
        note(&mut self.irregularities, holds, irregularity);
    }
}

fn note(list: &mut Vec<Irregularity>, holds: bool, irregularity: Irregularity) {
    if holds && !list.contains(&irregularity) {
        list.push(irregularity);
    }
}

/// Takes apart `ALGORITHM(name)= hex`. A name may have parentheses in it: the last `)` before the `=` ends it.
pub(super) fn parse_line(line: &str, irregularities: &mut Vec<Irregularity>) -> Result<ManifestEntry> {
    let broken = || {
        let shown: String = line.chars().take(80).collect();
        Error::new(ErrorKind::Corrupt, format!("'{shown}' is not `ALGORITHM(name)= digest`"))
    };
    let (front, value) = line.rsplit_once('=').ok_or_else(broken)?;
    let (algorithm, name) = front.split_once('(').ok_or_else(broken)?;
    let name = name.trim_end().strip_suffix(')').ok_or_else(broken)?;
    let spaced = front.ends_with(' ') || front.ends_with('\t');
    note(irregularities, spaced || !value.starts_with(' ') || value[1..].starts_with(' '), Irregularity::SpaceAtEquals);
    note(irregularities, algorithm.trim() != algorithm, Irregularity::SpaceBeforeName);
    let (algorithm, usual) = ManifestAlgorithm::from_name(algorithm.trim()).ok_or_else(|| {
        let shown: String = algorithm.chars().take(40).collect();
        Error::new(ErrorKind::Unsupported, format!("digest function '{shown}'"))
    })?;
    note(irregularities, !usual, Irregularity::AlgorithmSpelling);
    let value = value.trim();
    note(irregularities, value.bytes().any(|digit| digit.is_ascii_uppercase()), Irregularity::UpperCase);
    let value = from_hex(value).ok_or_else(broken)?;
    Ok(ManifestEntry { algorithm, name: name.to_owned(), value })
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() && !pairs.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> ManifestEntry {
        let mut hasher = ManifestAlgorithm::Sha256.hasher();
        hasher.update(name.as_bytes());
        ManifestEntry { algorithm: ManifestAlgorithm::Sha256, name: name.to_owned(), value: hasher.finish() }
    }

    #[test]
    fn what_is_written_is_exact_and_regular() {
        let names = ["a.ovf", "a (1)=x.vmdk", "Schnee ☃.vmdk"];
        let manifest = Manifest { entries: names.map(entry).to_vec(), irregularities: Vec::new() };
        let text = manifest.text();
        let first = "SHA256(a.ovf)= ";
        assert!(text.starts_with(first) && text.ends_with('\n'), "{text}");
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn what_others_write_is_read_and_noted() {
        let digest = hex(&entry("a").value);
        let cases = [
            (format!("SHA256 (a)= {digest}\n"), Some(Irregularity::SpaceBeforeName)),
            (format!("SHA256 (a) = {digest}\n"), Some(Irregularity::SpaceAtEquals)),
            (format!("SHA256(a)={digest}\n"), Some(Irregularity::SpaceAtEquals)),
            (format!("SHA2-256(a)= {digest}\n"), Some(Irregularity::AlgorithmSpelling)),
            (format!("sha256(a)= {digest}\n"), Some(Irregularity::AlgorithmSpelling)),
            (format!("SHA256(a)= {}\n", digest.to_uppercase()), Some(Irregularity::UpperCase)),
            (format!("SHA256(a)= {digest}\r\n"), Some(Irregularity::CarriageReturn)),
            (format!("SHA256(a)= {digest}\n\n"), Some(Irregularity::BlankLine)),
            (format!("SHA256(a)= {digest}"), Some(Irregularity::NoNewlineAtEnd)),
            (format!("\u{feff}SHA256(a)= {digest}\n"), Some(Irregularity::ByteOrderMark)),
            (format!("SHA256(a)= {digest}\nSHA1(b)= {}\n", "0".repeat(40)), Some(Irregularity::MixedAlgorithms)),
            (format!("SHA256(a)= {digest}\n"), None),
        ];
        for (text, expected) in cases {
            let manifest = Manifest::parse(text.as_bytes()).unwrap();
            assert_eq!(manifest.entry("./a").unwrap().value, entry("a").value, "{text}");
            match expected {
                Some(irregularity) => assert!(manifest.irregularities.contains(&irregularity), "{text}"),
                None => assert_eq!(manifest.irregularities, [], "{text}"),
            }
        }
    }

    #[test]
    fn lines_that_are_none_are_refused() {
        for (text, kind) in [
            ("a", ErrorKind::Corrupt),
            ("SHA256(a)= 00", ErrorKind::Corrupt),
            ("SHA256(a)= xyz", ErrorKind::Corrupt),
            ("SHA256 a = 00", ErrorKind::Corrupt),
            ("SHA256(a)=", ErrorKind::Corrupt),
            ("MD5(a)= 00", ErrorKind::Unsupported),
            ("(a)= 00", ErrorKind::Unsupported),
        ] {
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().kind(), kind, "{text}");
        }
        assert_eq!(Manifest::parse(b"\xff").unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(Manifest::parse(b"").unwrap().entries, []);
    }
}
