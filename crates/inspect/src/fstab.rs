//! `fstab` and `crypttab`, as text.

/// A line of an `fstab` (fstab(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// What is mounted: a device, a tag such as `UUID=…`, or a name that only the type understands.
    pub(crate) source: String,
    /// Where.
    pub(crate) mount_point: String,
    /// The type of the filesystem.
    pub(crate) kind: String,
    /// The options, as they are written.
    pub(crate) options: String,
}

/// More lines than any system has.
const MOST_LINES: usize = 4096;

/// The lines of an `fstab` that say something. One that has less than three fields says nothing.
pub(crate) fn parse(text: &str) -> Vec<Line> {
    let parse_line = |line: &str| {
        let mut fields = line.split_whitespace().map(unescaped);
        let (source, mount_point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let options = fields.next().unwrap_or_default();
        Some(Line { source, mount_point, kind, options })
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(parse_line).take(MOST_LINES).collect()
}

/// The names and devices of a `crypttab` (crypttab(5)).
pub(crate) fn parse_crypttab(text: &str) -> Vec<(String, String)> {
    let parse_line = |line: &str| {
        let mut fields = line.split_whitespace().map(unescaped);
        Some((fields.next()?, fields.next()?))
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(parse_line).take(MOST_LINES).collect()
}

/// A field with its octal escapes undone: a blank is `\040`.
fn unescaped(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes
            .get(at + 1..at + 4)
            .filter(|digits| *byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        text.push(code.unwrap_or(*byte));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_crypttab};

    #[test]
    fn lines_have_fields_and_comments_have_none() {
        let text = "# / was on sda1\nUUID=1 /\text4 errors=remount-ro 0 1\n\n  /dev/sr0 /media/a\\040b udf\nbroken\ntmpfs /tmp tmpfs defaults,size=1\\777g\n";
        let lines = parse(text);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[0].source.as_str(), lines[0].mount_point.as_str(), lines[0].options.as_str()),
            ("UUID=1", "/", "errors=remount-ro")
        );
        assert_eq!((lines[1].mount_point.as_str(), lines[1].options.as_str()), ("/media/a b", ""));
        assert_eq!(lines[2].options, "defaults,size=1\\777g");
        assert_eq!(parse_crypttab("#x\nroot UUID=2 none luks\n"), [(String::from("root"), String::from("UUID=2"))]);
    }
}
