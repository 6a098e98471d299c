//! Where something new goes in a filesystem: the folder that is there, and the name that is to be.

use transload::block::{Error, ErrorKind, Result};
use transload::filesystem::{FileId, FileKind, FileSystem, FileSystemExt, Follow, find};

/// The folder in which the last name of `path` stands or would stand, and that name. Nothing for the root itself.
pub(crate) fn parent(filesystem: &dyn FileSystem, path: &[u8]) -> Result<Option<(FileId, Vec<u8>)>> {
    let trimmed = trim(path);
    let Some(slash) = trimmed.iter().rposition(|byte| *byte == b'/') else {
        return Ok((!trimmed.is_empty()).then(|| (filesystem.root(), trimmed.to_vec())));
    };
    let (folder, name) = (&trimmed[..slash], &trimmed[slash + 1..]);
    if matches!(name, b"." | b"..") {
        let text = format!("{}: does not name anything in its folder", String::from_utf8_lossy(path));
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let found = filesystem.resolve(folder, Follow::All)?;
    if filesystem.stat(found.id)?.kind != FileKind::Directory {
        let text = format!("{}: is no folder", String::from_utf8_lossy(&found.path));
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(Some((found.id, name.to_vec())))
}

/// The folder at `path`, where there is one.
pub(crate) fn folder(filesystem: &dyn FileSystem, path: &[u8]) -> Result<Option<FileId>> {
    let Some(found) = find(filesystem, path, Follow::All)? else { return Ok(None) };
    Ok((filesystem.stat(found.id)?.kind == FileKind::Directory).then_some(found.id))
}

/// A path without the slashes at its end.
fn trim(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}
