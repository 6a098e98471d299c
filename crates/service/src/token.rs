//! Bearer tokens: who may ask.
//!
//! A token is 256 random bits, shown once, when it is made. The file of tokens has a line for each: its name, the SHA-256 of the
//! token and when it was made. A hash that is quick to compute is right here: nobody guesses 256 random bits, and whoever reads the
//! file has nothing to send. The file is read again when it has changed, so that tokens come and go without a restart.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use constant_time_eq::constant_time_eq_32;
use sha2::{Digest as _, Sha256};
use transload::block::{Error, ErrorKind, Result};

/// What every token begins with, so that it is found where it should not be.
const PREFIX: &str = "tl_";
/// The longest name.
const LONGEST_NAME: usize = 64;

/// A token as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is called, for the log and to remove it by.
    pub name: String,
    /// Seconds since 1970 when it was made.
    pub created: u64,
    hash: [u8; 32],
}

/// The tokens of the file at `path`; none when there is no such file.
///
/// # Errors
/// `Corrupt` when a line is not of a token; what the operating system answers.
pub fn list(path: &Path) -> Result<Vec<Token>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path.display().to_string(), error)),
    };
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        tokens.push(Token::parse(line).ok_or_else(|| {
            let text = format!("{}: line {}: is not NAME HASH SECONDS", path.display(), number + 1);
            Error::new(ErrorKind::Corrupt, text)
        })?);
    }
    Ok(tokens)
}

/// Makes a token called `name`, adds it to the file at `path`, and returns it. It is kept nowhere.
///
/// # Errors
/// `InvalidInput` when the name is not made of letters, digits, `.`, `_`, `@` and `-`; `Denied` when there is one of that name; as
/// [`list`].
pub fn add(path: &Path, name: &str) -> Result<String> {
    let sound = |letter: char| letter.is_ascii_alphanumeric() || "._@-".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(sound) {
        let text = format!("token name '{}': must be 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ @ -", name.escape_debug());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let mut tokens = list(path)?;
    if tokens.iter().any(|token| token.name == name) {
        return Err(Error::new(ErrorKind::Denied, format!("there is a token called '{name}'"))
            .with_remedy("remove it first, or choose another name"));
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Error::io("random bits", io::Error::other(error)))?;
    let token = format!("{PREFIX}{}", hex(&random));
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    tokens.push(Token { name: name.to_owned(), created, hash: hash(&token) });
    store(path, &tokens)?;
    Ok(token)
}

/// Removes the token called `name` from the file at `path`.
///
/// # Errors
/// `InvalidInput` when there is none; as [`list`].
pub fn remove(path: &Path, name: &str) -> Result<()> {
    let mut tokens = list(path)?;
    let before = tokens.len();
    tokens.retain(|token| token.name != name);
    if tokens.len() == before {
        return Err(Error::new(ErrorKind::InvalidInput, format!("there is no token called '{}'", name.escape_debug())));
    }
    store(path, &tokens)
}

impl Token {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (name, digest, created) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || digest.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(digest.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self { name: name.to_owned(), created: created.parse().ok()?, hash })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes the file anew beside the old one, for the owner alone, and lets it take its place.
fn store(path: &Path, tokens: &[Token]) -> Result<()> {
    let fail = |error| Error::io(path.display().to_string(), error);
    let mut text =
        String::from("# Tokens of `transload serve`: NAME SHA-256 SECONDS. The tokens themselves are nowhere.\n");
    for token in tokens {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {} {}", token.name, hex(&token.hash), token.created);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    written.map_err(|error| {
        // What is left would only be in the way.
        let _ = fs::remove_file(&fresh);
        fail(error)
    })
}

/// What tells one version of a file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The tokens of a file, read again when it has changed.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    known: Mutex<(Stamp, Vec<Token>)>,
}

impl Tokens {
    /// The tokens of the file at `path`.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let tokens = Self { known: Mutex::new((stamp(&path), list(&path)?)), path };
        Ok(tokens)
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        self.with(|tokens| !tokens.is_empty())
    }

    /// The name of the token that was sent, if there is one. Takes as long for a wrong one as for a right one.
    pub(crate) fn name_of(&self, sent: &str) -> Option<String> {
        let sent = hash(sent);
        self.with(|tokens| {
            let found = tokens
                .iter()
                .fold(None, |found, token| if constant_time_eq_32(&token.hash, &sent) { Some(token) } else { found });
            found.map(|token| token.name.clone())
        })
    }

    fn with<T>(&self, look: impl FnOnce(&[Token]) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if known.0 != now {
            match list(&self.path) {
                Ok(tokens) => *known = (now, tokens),
                // A file that cannot be read opens no door, and closes none that was open.
                Err(error) => tracing::error!(%error, "the tokens could not be read again"),
            }
        }
        look(&known.1)
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn tokens_come_and_go_while_the_service_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/tokens");
        let tokens = Tokens::open(path.clone()).unwrap();
        assert!(!tokens.any());
        let token = add(&path, "ci").unwrap();
        let other = add(&path, "web").unwrap();
        assert!(tokens.any());
        assert_eq!(tokens.name_of(&token).as_deref(), Some("ci"));
        assert_eq!(tokens.name_of(&other).as_deref(), Some("web"));
        assert_eq!(tokens.name_of("tl_00"), None);
        remove(&path, "ci").unwrap();
        assert_eq!(tokens.name_of(&token), None);
        assert_eq!(list(&path).unwrap().len(), 1);
    }

    #[test]
    fn the_file_has_no_token_in_it_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = add(&path, "ci").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token[PREFIX.len()..]), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_are_plain_and_used_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for name in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert_eq!(add(&path, name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
        add(&path, "a").unwrap();
        assert_eq!(add(&path, "a").unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(remove(&path, "b").unwrap_err().kind(), ErrorKind::InvalidInput);
        fs::write(&path, "nonsense\n").unwrap();
        assert_eq!(list(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
