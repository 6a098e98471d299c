//! `transload find`: files in an image, by name and kind.

use clap::Args;
use serde::Serialize;
use transload::block::{Error, Result};
use transload::filesystem::{FileKind, FileSystemExt, Follow, Visit};

use crate::address::{self, Address};
use crate::failure::Verdict;
use crate::files::{self, FileArgs, show};
use crate::text::{self, Text};

/// Find files in an image
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload find disk.qcow2:/etc --name '*.conf' --type f\n  transload find disk.vhdx#3:/Windows --iname 'ntoskrnl.exe'"
)]
pub(crate) struct Arguments {
    /// Where to look: IMG[#VOLUME]:/PATH
    #[arg(value_name = "IMG[#VOLUME]:/PATH", value_parser = address::parser())]
    address: Address,
    /// Files whose name is like PATTERN, in which * stands for anything, ? for one character and [a-z] for one of these
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// As --name, without telling upper case from lower case
    #[arg(long, value_name = "PATTERN")]
    iname: Option<String>,
    /// Files of these kinds: f file, d folder, l symbolic link, b and c devices, p pipe, s socket
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',', value_parser = show::kind)]
    kinds: Vec<FileKind>,
    /// End every path with a zero byte in place of a line feed
    #[arg(short = '0', long)]
    print0: bool,
    #[command(flatten)]
    files: FileArgs,
    /// Print JSON
    #[arg(long, conflicts_with = "print0")]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Document {
    files: Vec<show::FileDocument>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let place = files::open(&arguments.address, &arguments.files)?;
    let found = place.resolve(&arguments.address, Follow::All)?;
    let filesystem = &*place.filesystem;
    let metadata = filesystem.stat(found.id).map_err(|error| place.context(error, &found.path))?;
    let is_folder = metadata.kind == FileKind::Directory;
    let (mut text, mut documents, mut failure) = (Text::new(), Vec::new(), None::<Error>);
    let base = if found.path == b"/" { Vec::new() } else { found.path.clone() };
    let start = Visit { path: Vec::new(), id: found.id, metadata };
    let below = is_folder.then(|| filesystem.walk(found.id)).into_iter().flatten();
    for visit in std::iter::once(Ok(start)).chain(below) {
        let visit = match visit {
            Ok(visit) => visit,
            Err(error) => {
                let error = error.context(&place.name);
                eprintln!("transload: {error}");
                failure.get_or_insert(error);
                continue;
            }
        };
        let mut path = base.clone();
        if !visit.path.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&visit.path);
        } else if path.is_empty() {
            path.push(b'/');
        }
        if !matches(arguments, &path, visit.metadata.kind) {
            continue;
        }
        if arguments.json {
            documents.push(show::FileDocument::new(&path, visit.id.0, &visit.metadata, None));
        } else {
            path.push(if arguments.print0 { 0 } else { b'\n' });
            text.bytes(&path)?;
        }
        if text.is_closed() {
            break;
        }
    }
    text.finish()?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if arguments.json {
        text::json(&Document { files: documents })?;
    }
    Ok(Verdict::Done)
}

fn matches(arguments: &Arguments, path: &[u8], kind: FileKind) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().into_bytes();
    (arguments.kinds.is_empty() || arguments.kinds.contains(&kind))
        && arguments.name.as_ref().is_none_or(|pattern| is_like(name, pattern.as_bytes()))
        && arguments.iname.as_ref().is_none_or(|pattern| is_like(&lower(name), &lower(pattern.as_bytes())))
}

/// Whether a name is like a pattern of the shell.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Where the last `*` stands, and how much of the name it stands for: going back to it suffices.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match one(&pattern[here..], name[at]) {
            Some(length) if pattern[here] != b'*' => {
                at += 1;
                here += length;
            }
            _ if pattern.get(here) == Some(&b'*') => {
                star = Some((here, at));
                here += 1;
            }
            _ => match &mut star {
                Some((place, covered)) => {
                    *covered += 1;
                    (at, here) = (*covered, *place + 1);
                }
                None => return false,
            },
        }
    }
    pattern[here..].iter().all(|byte| *byte == b'*')
}

/// Whether the pattern's first element is like this byte, and how long that element is. `?` is one character, also where
/// that has several bytes: it takes the bytes behind the first one with it by standing for each.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (negated, rest) = match rest {
                [b'!' | b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let end = 1 + rest.iter().skip(1).position(|byte| *byte == b']')?;
            let (mut set, mut found) = (&rest[..end], false);
            while let Some((low, tail)) = set.split_first() {
                let (high, tail) = match tail {
                    [b'-', high, tail @ ..] => (high, tail),
                    tail => (low, tail),
                };
                found |= (low..=high).contains(&&byte);
                set = tail;
            }
            (found != negated).then_some(pattern.len() - rest.len() + end + 1)
        }
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns_are_those_of_the_shell() {
        let cases = [
            ("a.conf", "*.conf", true),
            ("a.conf.d", "*.conf", false),
            ("abc", "a?c", true),
            ("abc", "a[a-c]c", true),
            ("abc", "a[!a-c]c", false),
            ("a]c", "a[]]c", true),
            ("a*c", "a\\*c", true),
            ("abc", "a\\*c", false),
            ("", "*", true),
            ("", "?", false),
            ("aaab", "*a*b", true),
            ("x", "", false),
            ("[", "[", false),
        ];
        for (name, pattern, expected) in cases {
            assert_eq!(is_like(name.as_bytes(), pattern.as_bytes()), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let (name, pattern) = ("a".repeat(255), "*a".repeat(100) + "b");
        assert!(!is_like(name.as_bytes(), pattern.as_bytes()));
    }
}
