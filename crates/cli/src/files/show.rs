//! How files are shown: modes, times, names, and the fields of their JSON.

use serde::Serialize;
use transload::filesystem::{FileKind, Metadata, Timestamp};

/// A mode as `ls -l` shows it: `-rwxr-xr-x`.
pub(crate) fn mode(metadata: &Metadata) -> String {
    let bits = metadata.permissions;
    let mut text = String::from(metadata.kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        text.push(if bits >> shift & 4 != 0 { 'r' } else { '-' });
        text.push(if bits >> shift & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & special != 0, bits >> shift & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A moment in UTC to the second: `2026-11-21 08:30:00`.
pub(crate) fn time(time: Option<Timestamp>) -> String {
    let Some(time) = time else { return String::from("-") };
    let (date, seconds) = (civil(time.seconds.div_euclid(86_400)), time.seconds.rem_euclid(86_400));
    let (year, month, day) = date;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A moment in UTC as RFC 3339 has it, with nanoseconds.
pub(crate) fn rfc3339(moment: Timestamp) -> String {
    format!("{}.{:09}Z", time(Some(moment)).replace(' ', "T"), moment.nanos)
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A name for people: control characters are escaped, so that a name cannot act on a terminal.
pub(crate) fn name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|one| if one.is_control() { one.escape_default().to_string() } else { one.to_string() }).collect()
}

/// A file in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FileDocument {
    /// The path from the root of the filesystem.
    path: String,
    /// The bytes of a path that is no UTF-8, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    /// The permissions in octal digits.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    allocated: u64,
    links: u32,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accessed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

impl FileDocument {
    pub(crate) fn new(path: &[u8], id: u64, metadata: &Metadata, target: Option<&[u8]>) -> Self {
        let is_text = std::str::from_utf8(path).is_ok();
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            path_bytes: (!is_text).then(|| path.iter().map(|byte| format!("{byte:02x}")).collect()),
            kind: metadata.kind.name(),
            mode: format!("{:04o}", metadata.permissions),
            uid: metadata.owner.uid,
            gid: metadata.owner.gid,
            size: metadata.size,
            allocated: metadata.allocated,
            links: metadata.links,
            inode: id,
            modified: metadata.modified.map(rfc3339),
            accessed: metadata.accessed.map(rfc3339),
            changed: metadata.changed.map(rfc3339),
            created: metadata.created.map(rfc3339),
            target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
            device: metadata.device.map(|(major, minor)| format!("{major}:{minor}")),
        }
    }
}

/// Parses the letter of a kind, as `find -type` has them.
pub(crate) fn kind(text: &str) -> Result<FileKind, String> {
    Ok(match text {
        "f" => FileKind::Regular,
        "d" => FileKind::Directory,
        "l" => FileKind::Symlink,
        "b" => FileKind::BlockDevice,
        "c" => FileKind::CharDevice,
        "p" => FileKind::Fifo,
        "s" => FileKind::Socket,
        _ => return Err(String::from("must be one of f, d, l, b, c, p, s")),
    })
}

#[cfg(test)]
mod tests {
    use transload::filesystem::{FileKind, Metadata, Owner, Timestamp};

    use super::{mode, name, rfc3339, time};

    #[test]
    fn times_are_shown_in_utc() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (4_102_444_799, "2099-12-31 23:59:59"),
        ];
        for (seconds, text) in cases {
            assert_eq!(time(Some(Timestamp { seconds, nanos: 0 })), text);
        }
        assert_eq!(rfc3339(Timestamp { seconds: 1, nanos: 20 }), "1970-01-01T00:00:01.000000020Z");
    }

    #[test]
    fn modes_are_shown_as_ls_shows_them() {
        let metadata = |permissions| Metadata {
            kind: FileKind::Directory,
            permissions,
            owner: Owner::default(),
            size: 0,
            allocated: 0,
            links: 1,
            modified: None,
            accessed: None,
            changed: None,
            created: None,
            device: None,
        };
        assert_eq!(mode(&metadata(0o755)), "drwxr-xr-x");
        assert_eq!(mode(&metadata(0o7640)), "drwSr-S--T");
        assert_eq!(mode(&metadata(0o1777)), "drwxrwxrwt");
    }

    #[test]
    fn a_name_cannot_act_on_a_terminal() {
        assert_eq!(name(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
