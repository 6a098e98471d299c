//! The one place that opens files which an image names: backing files, external data files, VMDK extents, VHD parents.
//!
//! Names inside images are file names, never URLs or options, and hostile until proved harmless. A name passes three
//! checks, in this order:
//!
//! ```text
//! shape ──► place ──► what stands there
//! no URL    resolved folder is      regular file (a block device only below a named root),
//! no NUL    an allowed one          opened by folder handle without following links, looked at once more
//! ```
//!
//! The folder is resolved first, and then walked down again from the allowed root with a handle per step that follows no
//! symbolic link: whoever exchanges a folder for a link between the check and the opening makes the opening fail. A
//! symbolic link as the last component is followed when what it points to passes the same checks.
//!
//! A hard link cannot be told from the file itself: who may create one inside the allowed folder could as well have
//! copied the file.

mod beneath;
#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;
use std::path::{Component, Path, PathBuf};

use transload_block::{Error, ErrorKind, Result};

use crate::{Access, Source};

/// Which file of the operating system something is, so that a cycle is found whatever the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The device that holds the file.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// Decides which files an image may pull in, and opens them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReferenceGate {
    /// None: any reference is refused.
    Deny,
    /// Regular files in the folder of the file that names them.
    #[default]
    SameDirectory,
    /// Regular files and block devices below any of these folders.
    Allow(Vec<PathBuf>),
}

/// A folder that is allowed, without symbolic links in its name, and the way from there to a file's folder.
struct Place {
    root: PathBuf,
    /// Without symbolic links, `..` and `.`; empty for the root itself.
    below: PathBuf,
}

impl ReferenceGate {
    /// How many references may hang from each other before it is called a mistake or an attack.
    pub const MAX_DEPTH: usize = 16;

    /// Opens the file that the image at `referrer` calls `name`: relative to the folder in which the referrer was found
    /// under the name that it was opened by, or absolute.
    ///
    /// # Errors
    /// `Denied` when the policy or the shape of the name forbids it, or when it is no regular file; `Io` when it cannot
    /// be opened; `InvalidInput` when the referrer has no place among files.
    pub fn open(&self, referrer: &Source, name: &str, access: Access) -> Result<Source> {
        let path = referrer.path().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("reference {}: its image is in no folder", shown(name)))
        });
        self.open_beside(path?, name, access).map_err(|error| error.context(format!("reference {}", shown(name))))
    }

    fn open_beside(&self, referrer: &Path, name: &str, access: Access) -> Result<Source> {
        if *self == Self::Deny {
            return Err(denied("references to other files are not followed here").with_remedy(TRUST));
        }
        check_shape(name)?;
        if *self == Self::SameDirectory {
            check_plain(Path::new(name))?;
        }
        let folder = referrer.parent().unwrap_or(Path::new(""));
        let path = folder.join(name);
        let place = self.place(folder, path.parent().unwrap_or(Path::new("")))?;
        let last = path.file_name().ok_or_else(|| denied("it names a folder"))?;
        let file = match beneath::open(&place, last, access, self.allows_devices())? {
            beneath::Found::File(file) => file,
            beneath::Found::Link(resolved) => {
                let place = self.place(folder, resolved.parent().unwrap_or(Path::new("/")))?;
                let last = resolved.file_name().ok_or_else(|| denied("it is a link to a folder"))?;
                match beneath::open(&place, last, access, self.allows_devices())? {
                    beneath::Found::File(file) => file,
                    beneath::Found::Link(_) => return Err(denied("it changed while it was being opened")),
                }
            }
        };
        Source::from_file(file, path, access)
    }

    /// The names, good for [`open`](Self::open), of the regular files that an image at `referrer` may refer to without
    /// naming them, for formats that know their parent only by its identifier: those in its own folder. At most `limit`,
    /// the first in the order of their names. Names that are not Unicode are left out, and so are symbolic links.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn siblings(&self, referrer: &Path, limit: usize) -> Result<Vec<String>> {
        if *self == Self::Deny {
            return Err(denied("references to other files are not followed here").with_remedy(TRUST));
        }
        let folder = referrer.parent().unwrap_or(Path::new(""));
        let place = self.place(folder, folder)?;
        let folder = place.root.join(place.below);
        let fail = |error| Error::io(folder.display().to_string(), error);
        // The greatest name is on top, so that what is kept is the smallest `limit` of any number of files.
        let mut names = BinaryHeap::new();
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !entry.file_type().map_err(fail)?.is_file() {
                continue;
            }
            // A colon would read as a protocol at the start of a name and does not behind `./`.
            let Ok(name) = entry.file_name().into_string() else { continue };
            names.push(if name.contains(':') { format!("./{name}") } else { name });
            if names.len() > limit {
                names.pop();
            }
        }
        Ok(names.into_sorted_vec())
    }

    fn allows_devices(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Finds out through which allowed folder `wanted` is reached. That it does not exist is not told apart from that it
    /// is not allowed: an image must not be able to ask what there is elsewhere.
    fn place(&self, folder: &Path, wanted: &Path) -> Result<Place> {
        let resolved = std::fs::canonicalize(or_here(wanted));
        let roots = match self {
            Self::Deny => &[][..],
            Self::SameDirectory => &[folder.to_owned()][..],
            Self::Allow(roots) => roots,
        };
        for root in roots {
            let (Ok(root), Ok(resolved)) = (std::fs::canonicalize(or_here(root)), &resolved) else { continue };
            match resolved.strip_prefix(&root) {
                Ok(below) if !matches!(self, Self::SameDirectory) || below.as_os_str().is_empty() => {
                    let below = below.to_owned();
                    return Ok(Place { root, below });
                }
                _ => {}
            }
        }
        Err(denied(match self {
            Self::Allow(_) => "it is not below any of the allowed folders",
            _ => "it is not in the folder of the image that names it",
        })
        .with_remedy(TRUST))
    }
}

/// What to do about a reference that leads to a place that nobody allowed.
const TRUST: &str = "allow the folder that it is in with --allow-dir, if you trust the image";

/// The current folder has an empty name as the parent of a bare file name.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn denied(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Denied, why)
}

/// A hostile name as a message shows it: quoted, without control characters, and not of any length.
fn shown(name: &str) -> String {
    const SHOWN: usize = 120;
    let rest = if name.chars().nth(SHOWN).is_some() { "…" } else { "" };
    let front: String = name.chars().take(SHOWN).collect();
    format!("'{}{rest}'", front.escape_debug())
}

/// Refuses names that are no file names, whatever the policy.
fn check_shape(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(denied("the name is empty"));
    }
    if name.contains('\0') {
        return Err(denied("the name has a NUL in it"));
    }
    if name.ends_with('/') || name.ends_with("/.") {
        return Err(denied("it names a folder"));
    }
    if name.starts_with("\\\\") {
        return Err(denied("it is a Windows network name"));
    }
    // QEMU's rule: a colon in front of the first slash ends the name of a protocol. A file that has one in its name is
    // written with `./` before it.
    match name.split('/').next().and_then(|first| first.split_once(':')) {
        Some((drive, _)) if drive.len() == 1 => Err(denied("it has a Windows drive letter")),
        Some((protocol, _)) => Err(denied(format!(
            "'{}:' would be a URL or protocol, and images may only name files",
            protocol.escape_debug()
        ))),
        None => Ok(()),
    }
}

/// Refuses relative names that lead anywhere but to an entry of the folder itself, and `..` anywhere.
fn check_plain(name: &Path) -> Result<()> {
    let parts = || name.components().filter(|part| *part != Component::CurDir);
    if parts().any(|part| part == Component::ParentDir) {
        return Err(denied("it has '..' in it").with_remedy(TRUST));
    }
    if name.is_relative() && parts().count() != 1 {
        return Err(denied("it is not directly in the folder of the image that names it").with_remedy(TRUST));
    }
    Ok(())
}
