//! Programs of Windows (the PE format): what they run on, and the version in their resources.

use std::fmt;

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// The processor.
    pub(crate) machine: Option<&'static str>,
    /// Where the section of resources stands in the file, and how long it is.
    pub(crate) resources: Option<(u64, u64)>,
}

/// Sections of a program; the format has room for 96.
const MOST_SECTIONS: usize = 96;

/// Reads the headers in the first bytes of a program.
pub(crate) fn parse(head: &[u8]) -> Option<Image> {
    let word = |at: usize| Some(u16::from_le_bytes(head.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if !head.starts_with(b"MZ") {
        return None;
    }
    let header = usize::try_from(long(0x3c)?).ok()?;
    if head.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let machine = match word(header + 4)? {
        0x014c => Some("i386"),
        0x8664 => Some("x86_64"),
        0xaa64 => Some("aarch64"),
        0x01c4 => Some("arm"),
        0x0200 => Some("ia64"),
        _ => None,
    };
    let count = usize::from(word(header + 6)?).min(MOST_SECTIONS);
    let first = header + 24 + usize::from(word(header + 20)?);
    let resources = (0..count).find_map(|number| {
        let section = first + number * 40;
        let name = head.get(section..section + 8)?;
        let place = (u64::from(long(section + 20)?), u64::from(long(section + 16)?));
        (name == b".rsrc\0\0\0").then_some(place)
    });
    Some(Image { machine, resources })
}

/// The version of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The first two numbers tell Windows apart, the third is the build.
    pub(crate) numbers: [u16; 4],
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, build, revision] = self.numbers;
        write!(f, "{major}.{minor}.{build}.{revision}")
    }
}

/// The version in a section of resources: that of the product in the structure `VS_FIXEDFILEINFO`.
pub(crate) fn find_version(resources: &[u8]) -> Option<Version> {
    /// The signature, and the version of the structure.
    const HEAD: [u8; 8] = [0xbd, 0x04, 0xef, 0xfe, 0x00, 0x00, 0x01, 0x00];
    let fixed = resources.chunks_exact(4).position(|word| word == &HEAD[..4]).map(|at| at * 4);
    let info = resources.get(fixed?..).filter(|info| info.starts_with(&HEAD))?;
    let word = |at: usize| info.get(at..at + 2).and_then(|bytes| Some(u16::from_le_bytes(bytes.try_into().ok()?)));
    // The more significant half stands behind the other one.
    Some(Version { numbers: [word(18)?, word(16)?, word(22)?, word(20)?] })
}

/// The names of the systems with such a kernel. One for clients and one for servers have the same.
pub(crate) fn windows_name(version: Version) -> Option<&'static str> {
    let [major, minor, build, _] = version.numbers;
    Some(match (major, minor, build) {
        (4, 0, _) => "Windows NT 4.0",
        (5, 0, _) => "Windows 2000",
        (5, 1, _) => "Windows XP",
        (5, 2, _) => "Windows Server 2003 or XP x64",
        (6, 0, _) => "Windows Vista or Server 2008",
        (6, 1, _) => "Windows 7 or Server 2008 R2",
        (6, 2, _) => "Windows 8 or Server 2012",
        (6, 3, _) => "Windows 8.1 or Server 2012 R2",
        (10, 0, 14_393) => "Windows 10 version 1607 or Server 2016",
        (10, 0, 17_763) => "Windows 10 version 1809 or Server 2019",
        (10, 0, 20_348) => "Windows Server 2022",
        (10, 0, 26_100) => "Windows 11 version 24H2 or Server 2025",
        (10, 0, 0..22_000) => "Windows 10",
        (10, 0, _) => "Windows 11",
        _ => return None,
    })
}

/// Any bytes are a program or none; for fuzzing.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(version) = find_version(bytes) {
        let _ = windows_name(version);
    }
    let _ = parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::{Version, find_version, fuzz, parse, windows_name};

    /// The head of a program for x86-64 with two sections, and its resources.
    fn program() -> (Vec<u8>, Vec<u8>) {
        let mut head = vec![0; 1024];
        head[..2].copy_from_slice(b"MZ");
        head[0x3c] = 0x80;
        head[0x80..0x84].copy_from_slice(b"PE\0\0");
        head[0x84..0x88].copy_from_slice(&[0x64, 0x86, 2, 0]);
        head[0x94] = 0xf0;
        let section = 0x80 + 24 + 0xf0;
        head[section..section + 5].copy_from_slice(b".text");
        head[section + 40..section + 45].copy_from_slice(b".rsrc");
        head[section + 56..section + 64].copy_from_slice(&[0, 2, 0, 0, 0, 4, 0, 0]);
        let mut resources = vec![0xbd; 512];
        resources[64..72].copy_from_slice(&[0xbd, 4, 0xef, 0xfe, 0, 0, 1, 0]);
        resources[80..88].copy_from_slice(&[0, 0, 10, 0, 0xeb, 0x0e, 0x65, 0x4a]);
        (head, resources)
    }

    #[test]
    fn versions_of_windows_are_those_of_its_kernel() {
        let (head, resources) = program();
        let image = parse(&head).unwrap();
        assert_eq!((image.machine, image.resources), (Some("x86_64"), Some((0x400, 0x200))));
        let version = find_version(&resources).unwrap();
        assert_eq!(version.to_string(), "10.0.19045.3819");
        assert_eq!(windows_name(version), Some("Windows 10"));
        assert_eq!(windows_name(Version { numbers: [6, 1, 7601, 0] }), Some("Windows 7 or Server 2008 R2"));
        assert_eq!(windows_name(Version { numbers: [3, 51, 0, 0] }), None);
    }

    #[test]
    fn cut_off_programs_are_none() {
        let (head, resources) = program();
        for length in 0..head.len() {
            fuzz(&head[..length]);
        }
        for length in 0..resources.len() {
            fuzz(&resources[..length]);
        }
        let mut far = head;
        far[0x3c..0x40].fill(0xff);
        assert_eq!(parse(&far), None);
    }
}
