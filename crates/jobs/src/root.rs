//! The folder that all paths of requests are in, which neither a name nor a symbolic link leads out of.
//!
//! ```text
//! "vm/disk.vmdk" ──► checks of the name ──► openat2(root, RESOLVE_BENEATH) ──► the path of what was opened
//! ```
//!
//! The kernel resolves the name, so that there is no moment between a check and its use in which a link may be exchanged
//! on the way; where it has no `openat2` the name is made canonical and compared. What comes back is a path without
//! links in it, since the engine opens the files beside an image by their names. A link that is put there afterwards would
//! be followed: who can make links in the root by other means than this service is trusted not to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use transload::block::{Error, ErrorKind, Result};

/// What names of the service's own files and folders begin with. No request may name one: they are uploads that belong to
/// others, and outputs that are not whole.
pub const RESERVED: &str = ".transload";

/// Linux's `PATH_MAX`, with its terminating zero.
const LONGEST_PATH: usize = 4095;

/// Linux's `NAME_MAX`.
const LONGEST_NAME: usize = 255;

/// How often a walk that was disturbed is tried again.
const ATTEMPTS: usize = 64;

/// A folder that paths are confined to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Root {
    /// Absolute, without links.
    path: Arc<Path>,
    folder: Arc<OwnedFd>,
}

impl Root {
    /// Confines paths to the folder at `path`, which must exist.
    ///
    /// # Errors
    /// What the operating system answers, also when `path` is no folder.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let context = |error: io::Error| Error::io(format!("{}: the root folder", path.display()), error);
        let canonical = fs::canonicalize(path).map_err(context)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&canonical, flags, Mode::empty()).map_err(|error| context(error.into()))?;
        Ok(Self { path: canonical.into(), folder: Arc::new(folder) })
    }

    /// The folder, absolute and without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file or folder that `name` stands for, absolute and without links in it.
    ///
    /// Links are followed as long as they are relative and stay inside.
    ///
    /// # Errors
    /// `Denied` when `name` leads out or is reserved for the service; `InvalidInput` when it is no name; `Io` when there
    /// is nothing, with `io::ErrorKind::NotFound` as its source.
    pub fn resolve_existing(&self, name: &str) -> Result<PathBuf> {
        self.resolve(name, &self.check_name(name)?)
    }

    /// The path for a new file or folder that `name` stands for. The folder it is to be in must exist; something of its own
    /// name may.
    ///
    /// # Errors
    /// As [`resolve_existing`](Self::resolve_existing); `Denied` also when the name is taken by a symbolic link.
    pub fn resolve_new(&self, name: &str) -> Result<PathBuf> {
        let relative = self.check_name(name)?;
        let last = relative.file_name().filter(|_| !name.ends_with('/'));
        let last = last.ok_or_else(|| refused(ErrorKind::InvalidInput, name, "is not the name of a file"))?;
        let path = self.resolve_parent(name, &relative)?.join(last);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(refused(ErrorKind::Denied, name, "is a symbolic link, and would be replaced"));
        }
        Ok(path)
    }

    /// Makes the folders that the last part of `name` is to be in, as far as they are missing.
    ///
    /// # Errors
    /// As [`resolve_existing`](Self::resolve_existing), and what the operating system answers.
    pub fn create_parents(&self, name: &str) -> Result<()> {
        let relative = self.check_name(name)?;
        let mut so_far = PathBuf::new();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            let parent =
                if so_far.as_os_str().is_empty() { self.path.to_path_buf() } else { self.resolve(name, &so_far)? };
            so_far.push(part);
            match fs::DirBuilder::new().mode(0o777).create(parent.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io(format!("'{name}': its folder"), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the file that `name` stands for, for reading. Nothing can be put in its place between the check and the opening.
    ///
    /// # Errors
    /// As [`resolve_existing`](Self::resolve_existing).
    pub fn open_existing(&self, name: &str) -> Result<File> {
        let relative = self.check_name(name)?;
        match self.open_beneath(&relative, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(opened) => Ok(File::from(opened)),
            Err(Errno::NOSYS | Errno::PERM) => {
                let path = self.resolve(name, &relative)?;
                File::open(path).map_err(|error| Error::io(format!("'{name}'"), error))
            }
            Err(error) => Err(failed(name, error)),
        }
    }

    /// The name of `path` as requests have it.
    ///
    /// # Errors
    /// `Denied` when it is not inside.
    pub fn name_of(&self, path: &Path) -> Result<String> {
        let name = path.strip_prefix(&self.path).ok().and_then(Path::to_str);
        name.map(ToOwned::to_owned).ok_or_else(|| refused(ErrorKind::Denied, &path.to_string_lossy(), OUTSIDE))
    }

    fn resolve_parent(&self, name: &str, relative: &Path) -> Result<PathBuf> {
        match relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.resolve(name, parent),
            None => Ok(self.path.to_path_buf()),
        }
    }

    /// What is wrong with a name before anybody looks at the disk; answers it without `.` and doubled slashes.
    fn check_name(&self, name: &str) -> Result<PathBuf> {
        let refuse = |kind, reason: &str| Err(refused(kind, name, reason));
        if name.is_empty() {
            return refuse(ErrorKind::InvalidInput, "is no name");
        }
        if name.contains('\0') {
            return refuse(ErrorKind::InvalidInput, "has a zero byte in it");
        }
        if name.starts_with('/') {
            return refuse(ErrorKind::Denied, "is absolute; names are relative to the root folder");
        }
        if self.path.as_os_str().len() + 1 + name.len() > LONGEST_PATH {
            return refuse(ErrorKind::InvalidInput, "is too long");
        }
        let mut relative = PathBuf::new();
        for component in Path::new(name).components() {
            match component {
                Component::Normal(part) if part.len() > LONGEST_NAME => {
                    return refuse(ErrorKind::InvalidInput, "has a part that is too long");
                }
                Component::Normal(part) if is_reserved(part) => {
                    return refuse(ErrorKind::Denied, "is reserved for the service");
                }
                Component::Normal(part) => relative.push(part),
                Component::CurDir => {}
                Component::ParentDir => return refuse(ErrorKind::Denied, OUTSIDE),
                Component::RootDir | Component::Prefix(_) => return refuse(ErrorKind::Denied, "is absolute"),
            }
        }
        if relative.as_os_str().is_empty() {
            return refuse(ErrorKind::InvalidInput, "is the root folder itself");
        }
        Ok(relative)
    }

    fn resolve(&self, name: &str, relative: &Path) -> Result<PathBuf> {
        let path = match self.open_beneath(relative, OFlags::PATH) {
            // What the kernel opened is what counts, whatever the name has become since.
            Ok(opened) => fs::read_link(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())),
            Err(Errno::NOSYS | Errno::PERM) => fs::canonicalize(self.path.join(relative)),
            Err(error) => return Err(failed(name, error)),
        };
        let path = path.map_err(|error| Error::io(format!("'{name}'"), error))?;
        let inside = path.strip_prefix(&self.path).map_err(|_| refused(ErrorKind::Denied, name, OUTSIDE))?;
        if inside.components().any(|part| matches!(part, Component::Normal(part) if is_reserved(part))) {
            return Err(refused(ErrorKind::Denied, name, "is reserved for the service"));
        }
        Ok(path)
    }

    fn open_beneath(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&*self.folder, relative, flags | OFlags::CLOEXEC, Mode::empty(), beneath);
        // A rename somewhere while the kernel walks lets it give up and ask to be called again.
        (0..ATTEMPTS)
            .map(|_| open())
            .find(|opened| !matches!(opened, Err(Errno::AGAIN | Errno::INTR)))
            .unwrap_or_else(open)
    }
}

const OUTSIDE: &str = "leads out of the root folder";

/// Whether a part of a path belongs to the service, or to the engine while an output is not whole.
fn is_reserved(part: &OsStr) -> bool {
    let bytes = part.as_encoded_bytes();
    bytes.starts_with(RESERVED.as_bytes()) || (bytes.starts_with(b".") && bytes.ends_with(b".partial"))
}

fn refused(kind: ErrorKind, name: &str, reason: &str) -> Error {
    // A name from a request may be of any length, and of any characters.
    let shown: String = name.chars().take(200).collect();
    Error::new(kind, format!("{shown:?} {reason}"))
}

fn failed(name: &str, error: Errno) -> Error {
    match error {
        Errno::XDEV | Errno::LOOP => refused(ErrorKind::Denied, name, OUTSIDE),
        error => Error::io(format!("'{name}'"), error.into()),
    }
}

#[cfg(test)]
mod tests;
