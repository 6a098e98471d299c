//! Everything below a folder, in an order that is the same every time.

use std::collections::HashSet;

use transload_block::{Error, ErrorKind, Result};

use crate::contract::{Entry, FileId, FileKind, FileSystem, FileSystemExt, Metadata};
use crate::fields::corrupt;
use crate::path::show;

/// Folders inside each other. Linux has paths of at most 4096 bytes, which are 2048 folders.
const DEEPEST: usize = 2048;

/// Something that a walk came by.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Its path from where the walk began, without a leading `/`.
    pub path: Vec<u8>,
    /// What it is.
    pub id: FileId,
    /// What is known of it.
    pub metadata: Metadata,
}

/// The walk through everything below a folder: a folder before what is in it, and what is in it sorted by the bytes of the
/// names. After an error about one folder it goes on behind that folder.
#[derive(Debug)]
pub struct Walk<'a, F: ?Sized> {
    filesystem: &'a F,
    /// The folders on the way, each with what is still to come, the next last.
    stack: Vec<Level>,
    /// To be listed before the next entry.
    pending: Option<(Vec<u8>, FileId)>,
    /// A folder has one parent: what is met twice is a circle or a lie.
    seen: HashSet<FileId>,
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    rest: Vec<Entry>,
}

impl<'a, F: FileSystem + ?Sized> Walk<'a, F> {
    pub(crate) fn new(filesystem: &'a F, dir: FileId) -> Self {
        Self { filesystem, stack: Vec::new(), pending: Some((Vec::new(), dir)), seen: HashSet::new() }
    }

    /// Does not enter the folder that was handed out last.
    pub fn skip_folder(&mut self) {
        self.pending = None;
    }

    fn descend(&mut self, path: Vec<u8>, dir: FileId) -> Result<()> {
        let within = |error: Error| error.context(format_args!("/{}", show(&path)));
        if !self.seen.insert(dir) {
            return Err(within(corrupt("a folder that is in two places")));
        }
        if self.stack.len() >= DEEPEST {
            return Err(within(Error::new(ErrorKind::TooLarge, format!("more than {DEEPEST} folders in each other"))));
        }
        let mut rest = self.filesystem.entries(dir).map_err(within)?;
        rest.reverse();
        self.stack.push(Level { path, rest });
        Ok(())
    }
}

impl<F: FileSystem + ?Sized> Iterator for Walk<'_, F> {
    type Item = Result<Visit>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((path, dir)) = self.pending.take()
            && let Err(error) = self.descend(path, dir)
        {
            return Some(Err(error));
        }
        loop {
            let level = self.stack.last_mut()?;
            let Some(entry) = level.rest.pop() else {
                self.stack.pop();
                continue;
            };
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let metadata = match self.filesystem.stat(entry.id) {
                Ok(metadata) => metadata,
                Err(error) => return Some(Err(error.context(format_args!("/{}", show(&path))))),
            };
            if metadata.kind == FileKind::Directory {
                self.pending = Some((path.clone(), entry.id));
            }
            return Some(Ok(Visit { path, id: entry.id, metadata }));
        }
    }
}
