//! The files in an image.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use transload::block::{BlockRead, Error, ErrorKind, Result};
use transload::filesystem::{self, Entry, FileKind, FileSystem, FileSystemExt, Follow, find};
use transload::volume::{ReadSettings, Usage, Volume, VolumeName, Volumes};
use utoipa::{IntoParams, ToSchema};

use crate::problem::{Answer, Problem};

/// Which folder of which image.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TreeQuery {
    /// The image, as a path below the root.
    pub(crate) path: Option<String>,
    /// The image, as the id of an upload; either this or `path`.
    pub(crate) upload: Option<String>,
    /// Its format. Found out from its bytes when not given; what is given is never doubted.
    pub(crate) src: Option<String>,
    /// The volume, as the inspection names it; the only one with files, or the one of a system, when not given.
    pub(crate) volume: Option<String>,
    /// The folder, from the root of the filesystem; `/` when not given.
    #[param(example = "/etc")]
    pub(crate) folder: Option<String>,
    /// Names up to this one are left out: `next` of the page before.
    pub(crate) after: Option<String>,
    /// The most entries.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

impl TreeQuery {
    /// The most entries of a page.
    pub(crate) fn limit(&self) -> Answer<usize> {
        let limit = self.limit.unwrap_or(200);
        if (1..=1000).contains(&limit) {
            Ok(usize::try_from(limit).unwrap_or(200))
        } else {
            Err(Problem::invalid(format!("limit={limit}: must be 1 to 1000")))
        }
    }
}

/// A page of a folder in an image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeDocument {
    /// The volume that is looked at.
    volume: String,
    /// The folder, without links in its path.
    folder: String,
    /// What is in it, in the order of names.
    entries: Vec<TreeEntry>,
    /// What to give as `after` for the next page; nothing when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A file in an image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TreeEntry {
    name: String,
    /// `file`, `directory`, `symlink`, `block-device`, `char-device`, `fifo` or `socket`.
    kind: &'static str,
    /// Bytes.
    size: u64,
    /// The permissions in octal digits.
    mode: String,
    uid: u32,
    gid: u32,
    /// Seconds since 1970 when its contents changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<i64>,
    /// Where a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// A page of the folder that is asked for; `None` when there is none of that name.
pub(crate) fn list(disk: &Arc<dyn BlockRead>, query: &TreeQuery, limit: usize) -> Result<Option<TreeDocument>> {
    let volumes = Volumes::scan(disk, &[], ReadSettings::default())?;
    let named = query.volume.as_deref().map(str::parse::<VolumeName>).transpose()?;
    let volume = choose(&volumes, named.as_ref())?;
    let filesystem = filesystem::open(volume.device()?)?;
    let filesystem = filesystem.as_ref();
    let folder = query.folder.as_deref().unwrap_or("/");
    let Some(found) = find(filesystem, folder.as_bytes(), Follow::All)? else { return Ok(None) };
    if filesystem.stat(found.id)?.kind != FileKind::Directory {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{folder}: is no folder")));
    }
    let after = query.after.as_deref().map(str::as_bytes);
    let mut entries = filesystem.entries(found.id)?;
    entries.retain(|entry| after.is_none_or(|after| entry.name.as_slice() > after));
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
    Ok(Some(TreeDocument {
        volume: volume.name.to_string(),
        folder: String::from_utf8_lossy(&found.path).into_owned(),
        entries: entries.iter().map(|entry| row(filesystem, entry)).collect::<Result<_>>()?,
        next,
    }))
}

fn row(filesystem: &dyn FileSystem, entry: &Entry) -> Result<TreeEntry> {
    let metadata = filesystem.stat(entry.id)?;
    let target = match metadata.kind {
        FileKind::Symlink => Some(String::from_utf8_lossy(&filesystem.read_link(entry.id)?).into_owned()),
        _ => None,
    };
    Ok(TreeEntry {
        name: String::from_utf8_lossy(&entry.name).into_owned(),
        kind: metadata.kind.name(),
        size: metadata.size,
        mode: format!("{:04o}", metadata.permissions),
        uid: metadata.owner.uid,
        gid: metadata.owner.gid,
        modified: metadata.modified.map(|time| time.seconds),
        target,
    })
}

/// The volume that is named; where none is, the only one with files, or the only one with a system's root.
fn choose<'a>(volumes: &'a Volumes, named: Option<&VolumeName>) -> Result<&'a Volume> {
    if let Some(name) = named {
        return volumes.find(name);
    }
    let with_files: Vec<&Volume> = volumes.iter().filter(|volume| has_files(volume)).collect();
    if let [only] = with_files.as_slice() {
        return Ok(only);
    }
    let roots: Vec<&Volume> = with_files.iter().copied().filter(|volume| is_root(volume)).collect();
    if let [only] = roots.as_slice() {
        return Ok(only);
    }
    let names: Vec<_> = with_files.iter().map(|volume| volume.name.to_string()).collect();
    let what =
        if names.is_empty() { "no volume holds a filesystem that is known" } else { "several volumes hold files" };
    let error = Error::new(ErrorKind::InvalidInput, what);
    Err(if names.is_empty() { error } else { error.with_remedy(format!("name a volume: {}", names.join(", "))) })
}

fn has_files(volume: &Volume) -> bool {
    let usage = volume.signature().ok().flatten().map(|found| found.format.usage());
    usage.is_none_or(|usage| usage == Usage::Filesystem)
        && volume.device().is_ok_and(|device| filesystem::probe(&*device).is_ok_and(|kind| kind.is_some()))
}

/// Whether a volume holds the files of an operating system.
fn is_root(volume: &Volume) -> bool {
    const MARKS: &[&[u8]] = &[b"/etc/os-release", b"/usr/lib/os-release", b"/etc/fstab", b"/Windows/System32/config"];
    let Ok(filesystem) = volume.device().and_then(filesystem::open) else { return false };
    MARKS.iter().any(|mark| filesystem.resolve(mark, Follow::AllButLast).is_ok())
}
