//! Paths: from the root of a filesystem to what stands there, through symbolic links.

use transload_block::{Error, ErrorKind, Result};

use crate::contract::{FileId, FileKind, FileSystem};
use crate::fields::{corrupt, invalid};

/// Whether the last name of a path is followed where it is a symbolic link. Links on the way always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The link itself is meant.
    AllButLast,
    /// What it points to is meant.
    All,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The file.
    pub id: FileId,
    /// Its path without links, `.` and `..`, beginning with `/`.
    pub path: Vec<u8>,
}

/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;
/// Names in a path and in all links that are followed on the way.
const MOST_NAMES: usize = 16 << 10;

/// Follows `path` from the root. A leading `/` changes nothing.
///
/// # Errors
/// `Io` when there is nothing of that name.
pub(crate) fn resolve<F: FileSystem + ?Sized>(filesystem: &F, path: &[u8], follow: Follow) -> Result<Resolved> {
    find(filesystem, path, follow)?.ok_or_else(|| missing(path))
}

/// The error that says there is nothing at `path`.
pub(crate) fn missing(path: &[u8]) -> Error {
    Error::new(ErrorKind::Io, format!("{}: no such file or folder", show(path)))
}

/// What stands at a path from the root, as [`resolve`](crate::FileSystemExt::resolve) finds it; `None` when there is nothing
/// of that name.
///
/// # Errors
/// As [`resolve`](crate::FileSystemExt::resolve), but for what is missing.
pub fn find<F: FileSystem + ?Sized>(filesystem: &F, path: &[u8], follow: Follow) -> Result<Option<Resolved>> {
    // What is still to be walked, the next name last.
    let mut names: Vec<Vec<u8>> = Vec::new();
    push_names(&mut names, path);
    let mut stack: Vec<(FileId, Vec<u8>)> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = names.pop() {
        steps += 1;
        if steps > MOST_NAMES {
            return Err(invalid(format!("{}: a path of more than {MOST_NAMES} names", show(path))));
        }
        match name.as_slice() {
            b"." => continue,
            b".." => {
                stack.pop();
                continue;
            }
            _ => {}
        }
        let here = stack.last().map_or_else(|| filesystem.root(), |(id, _)| *id);
        if filesystem.stat(here)?.kind != FileKind::Directory {
            return Err(invalid(format!("{}: {} is no folder", show(path), show(&join(&stack)))));
        }
        let Some(id) = filesystem.lookup(here, &name)? else { return Ok(None) };
        let is_link = filesystem.stat(id)?.kind == FileKind::Symlink;
        if is_link && (!names.is_empty() || follow == Follow::All) {
            links += 1;
            if links > MOST_LINKS {
                return Err(corrupt(format!("{}: more than {MOST_LINKS} symbolic links on the way", show(path))));
            }
            let target = filesystem.read_link(id)?;
            if target.first() == Some(&b'/') {
                stack.clear();
            }
            push_names(&mut names, &target);
            continue;
        }
        stack.push((id, name));
    }
    let id = stack.last().map_or_else(|| filesystem.root(), |(id, _)| *id);
    Ok(Some(Resolved { id, path: join(&stack) }))
}

fn push_names(names: &mut Vec<Vec<u8>>, path: &[u8]) {
    names.extend(path.split(|byte| *byte == b'/').rev().filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
    // A path that ends in `/` means the folder, also where a link stands there.
    if path.ends_with(b"/") && path.iter().any(|byte| *byte != b'/') {
        names.insert(0, b".".to_vec());
    }
}

fn join(stack: &[(FileId, Vec<u8>)]) -> Vec<u8> {
    let mut path = Vec::new();
    for (_, name) in stack {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// A path for messages.
pub(crate) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
