//! Real images of other makers, which stand beside the project and not in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The images and the table that says what they hold.
#[derive(Debug)]
pub struct Corpus {
    /// The folder they are unpacked into.
    pub folder: PathBuf,
    /// The table, in its order.
    pub entries: Vec<Entry>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path below the folder.
    pub path: String,
    /// Where it comes from.
    pub origin: String,
    /// The format, as the table names it.
    pub format: String,
    /// Details of the format.
    pub variant: String,
    /// Bytes that a guest sees, where known.
    pub virtual_size: Option<u64>,
    /// Their SHA-256 in lower-case hexadecimal digits, where known.
    pub sha256: Option<String>,
    /// What other readers do with it.
    pub notes: String,
    /// The licence it is under.
    pub licence: String,
}

impl Corpus {
    /// The corpus, unpacked once into the target folder. `None` where it does not stand beside the workspace; that is
    /// said on standard error.
    ///
    /// # Panics
    /// When it is there and cannot be unpacked or read: that is no reason to skip a test.
    #[must_use]
    pub fn get() -> Option<&'static Self> {
        static CORPUS: OnceLock<Option<Corpus>> = OnceLock::new();
        let corpus = CORPUS.get_or_init(|| {
            let origin = workspace().join("../shared/corpus");
            let archive = origin.join("visible.tar.zst");
            if !archive.exists() {
                return None;
            }
            let folder = unpack(&archive).expect("the corpus is unpacked (tar and zstd are needed)");
            let table = fs::read_to_string(origin.join("MANIFEST.tsv")).expect("the table of the corpus is read");
            Some(Self { folder, entries: parse(&table) })
        });
        if corpus.is_none() {
            eprintln!("SKIPPED: no corpus of real images at ../shared/corpus beside the workspace");
        }
        corpus.as_ref()
    }

    /// Where an entry's file is.
    #[must_use]
    pub fn file(&self, entry: &Entry) -> PathBuf {
        self.folder.join(&entry.path)
    }

    /// The entries of a format, as the table names it.
    pub fn of_format<'a>(&'a self, format: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.format == format)
    }

    /// The entry of this path.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

/// The root of the workspace.
fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Unpacks into a folder of a name that nobody else uses and renames it, so that tests that run at once find all of it or
/// nothing. An archive that has changed is unpacked anew.
fn unpack(archive: &Path) -> io::Result<PathBuf> {
    let target = target_folder();
    let (folder, stamp) = (target.join("corpus"), target.join("corpus/.archive-length"));
    let length = fs::metadata(archive)?.len().to_string();
    if fs::read_to_string(&stamp).is_ok_and(|found| found == length) {
        return Ok(folder);
    }
    fs::create_dir_all(&target)?;
    let fresh = tempfile::Builder::new().prefix("corpus-").tempdir_in(&target)?;
    let status = Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(fresh.path()).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("tar --zstd -xf {}: {status}", archive.display())));
    }
    fs::write(fresh.path().join(".archive-length"), &length)?;
    if folder.exists() && fs::read_to_string(&stamp).map_or(true, |found| found != length) {
        fs::remove_dir_all(&folder)?;
    }
    let fresh = fresh.keep();
    match fs::rename(&fresh, &folder) {
        Ok(()) => Ok(folder),
        // Another test was faster.
        Err(_) if fs::read_to_string(&stamp).is_ok_and(|found| found == length) => {
            fs::remove_dir_all(&fresh)?;
            Ok(folder)
        }
        Err(error) => Err(error),
    }
}

fn parse(table: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        Entry {
            path: field(),
            origin: field(),
            format: field(),
            variant: field(),
            virtual_size: field().parse().ok(),
            sha256: Some(field()).filter(|digest| digest.len() == 64),
            notes: field(),
            licence: field(),
        }
    };
    table.lines().skip(1).filter(|line| !line.is_empty()).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_a_file() {
        let Some(corpus) = Corpus::get() else { return };
        assert!(corpus.entries.len() > 100);
        for entry in &corpus.entries {
            assert!(corpus.file(entry).exists(), "{}", entry.path);
        }
        assert!(corpus.of_format("qcow2").all(|entry| entry.virtual_size.is_some() || entry.sha256.is_none()));
        let entry = corpus.entry("cdi/fs-overhead.qcow2").unwrap();
        assert_eq!((entry.virtual_size, entry.licence.as_str()), (Some(858_993_664), "Apache-2.0"));
    }
}
