//! Reading everything, and saying which files what is damaged touches.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{Error, ErrorKind, Result};

use crate::create::Watch;
use crate::format::id::Id;
use crate::format::node::Tree;
use crate::format::pack::{BlobKind, PackedBlob, open_blob, read_header};
use crate::format::snapshot::Snapshot;
use crate::repository::Repository;
use crate::store::Kind;

/// Folders inside each other.
const DEEPEST: usize = 4096;

/// A file that cannot be restored as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: Id,
    /// The path from its root.
    pub path: Vec<u8>,
    /// Whether it is a folder, with everything in it.
    pub is_folder: bool,
    /// What is wrong.
    pub reason: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Packs that were read.
    pub packs: u64,
    /// Chunks and folders in them.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// What is damaged: a sentence for each file of the archive, and for each chunk.
    pub damage: Vec<String>,
    /// The files of snapshots that it touches.
    pub affected: Vec<Affected>,
    /// What is not damage: what a run left that was stopped.
    pub notes: Vec<String>,
}

impl Verification {
    /// Whether everything is as it was stored.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.affected.is_empty()
    }
}

/// Reads and proves all of a repository, with so many threads.
///
/// # Errors
/// What the file system answers to listing the files. Damage is part of the answer.
pub fn verify(repository: &Arc<Repository>, threads: usize, watch: &dyn Watch) -> Result<Verification> {
    let mut found = Verification::default();
    found.damage.extend(repository.notes().iter().cloned());
    for kind in [Kind::Key, Kind::Index, Kind::Lock] {
        for (id, _) in repository.store.list(kind)? {
            if let Err(error) = repository.store.read_proved(kind, id)
                && repository.store.path(kind, id).exists()
                && !found.damage.contains(&error.to_string())
            {
                found.damage.push(error.to_string());
            }
        }
    }
    let (snapshots, damaged) = repository.snapshots_and_damage()?;
    found.snapshots = snapshots.len() as u64;
    found.damage.extend(damaged.iter().map(|(_, error)| error.to_string()));
    let bad = packs(repository, threads.max(1), watch, &mut found)?;
    affected(repository, &snapshots, &bad, &mut found)?;
    found.affected.sort();
    found.damage.sort();
    Ok(found)
}

/// Blobs that cannot be had, and why.
type Bad = HashMap<(BlobKind, Id), String>;

/// Reads every pack. Answers the blobs that are sound in none.
fn packs(repository: &Repository, threads: usize, watch: &dyn Watch, found: &mut Verification) -> Result<Bad> {
    let mut indexed: HashMap<Id, Vec<PackedBlob>> = repository.index().by_pack().into_iter().collect();
    let stored = repository.store.list(Kind::Pack)?;
    watch.begin(stored.iter().map(|(_, size)| size).sum());
    let mut work = Vec::new();
    for (pack, size) in stored {
        let blobs = indexed.remove(&pack);
        if blobs.is_none() {
            found.notes.push(format!(
                "pack {}: no index names it; the next `create` or `compact` takes care of it",
                pack.short()
            ));
        }
        work.push((pack, size, blobs));
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let run = || {
            while let Some((pack, size, blobs)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                if watch.check().is_err() {
                    return;
                }
                let result = one_pack(repository, *pack, blobs.as_deref());
                watch.read(*size);
                results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            }
        };
        (0..threads).for_each(|_| drop(scope.spawn(run)));
    });
    watch.check()?;
    let (mut bad, mut sound) = (Bad::new(), HashSet::new());
    for result in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        found.packs += 1;
        found.bytes += result.bytes;
        found.blobs += (result.sound.len() + result.bad.len()) as u64;
        found.damage.extend(result.damage);
        sound.extend(result.sound);
        bad.extend(result.bad);
    }
    for (pack, blobs) in indexed {
        let text = format!("pack {}: the file is missing", pack.short());
        bad.extend(blobs.iter().map(|blob| ((blob.kind, blob.id), text.clone())));
        found.damage.push(text);
    }
    bad.retain(|blob, _| !sound.contains(blob));
    Ok(bad)
}

/// What one pack is like.
#[derive(Default)]
struct PackResult {
    bytes: u64,
    sound: Vec<(BlobKind, Id)>,
    bad: Vec<((BlobKind, Id), String)>,
    damage: Vec<String>,
}

fn one_pack(repository: &Repository, pack: Id, indexed: Option<&[PackedBlob]>) -> PackResult {
    let mut result = PackResult::default();
    let name = pack.short();
    let bytes = match repository.store.read(Kind::Pack, pack) {
        Ok(bytes) => bytes,
        Err(error) => {
            result.damage.push(error.to_string());
            let bad = indexed.unwrap_or_default().iter().map(|blob| ((blob.kind, blob.id), error.to_string()));
            result.bad.extend(bad);
            return result;
        }
    };
    result.bytes = bytes.len() as u64;
    let is_itself = Id::of(&bytes) == pack;
    let slice = |offset: u64, length: usize| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let piece = start.checked_add(length).and_then(|end| bytes.get(start..end));
        let outside = || Error::new(ErrorKind::Corrupt, format!("{length} bytes at {offset} of {}", bytes.len()));
        piece.map(<[u8]>::to_vec).ok_or_else(outside)
    };
    let header = read_header(bytes.len() as u64, &repository.key, slice);
    match (&header, indexed) {
        (Err(error), _) => result.damage.push(format!("pack {name}: {error}")),
        (Ok(header), Some(indexed)) if header != indexed => {
            result.damage.push(format!("pack {name}: the index lists other chunks than the pack itself"));
        }
        _ => {}
    }
    let listed = indexed.map(<[PackedBlob]>::to_vec).or(header.ok()).unwrap_or_default();
    for blob in &listed {
        let length = usize::try_from(blob.stored).unwrap_or(usize::MAX);
        match slice(blob.offset.into(), length).and_then(|stored| open_blob(blob, stored, &repository.key)) {
            Ok(_) => result.sound.push((blob.kind, blob.id)),
            Err(error) => {
                let text = format!("pack {name}: {error}");
                result.damage.push(text.clone());
                result.bad.push(((blob.kind, blob.id), text));
            }
        }
    }
    if !is_itself && result.damage.is_empty() {
        result.damage.push(format!("pack {name}: the bytes are not those that it is called by"));
    }
    result
}

/// Which trees have something damaged in or below them. A tree that is in many places is read once.
struct Search<'a> {
    repository: &'a Repository,
    bad: &'a Bad,
    known: HashMap<Id, bool>,
}

impl Search<'_> {
    fn tree(&self, id: &Id) -> Result<Arc<Tree>> {
        match self.bad.get(&(BlobKind::Tree, *id)) {
            Some(reason) => Err(Error::new(ErrorKind::Corrupt, reason.clone())),
            None => self.repository.tree(id),
        }
    }

    /// What is wrong with a chunk.
    fn chunk(&self, id: &Id) -> Option<String> {
        let missing = || {
            let absent = !self.repository.index().contains(BlobKind::Data, id);
            absent.then(|| format!("chunk {}: it is in no pack", id.short()))
        };
        self.bad.get(&(BlobKind::Data, *id)).cloned().or_else(missing)
    }

    fn is_damaged(&mut self, id: Id, depth: usize) -> bool {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let damaged = match self.tree(&id) {
            Err(_) => true,
            Ok(_) if depth > DEEPEST => true,
            Ok(tree) => {
                let mut damaged = false;
                for node in &tree.nodes {
                    // All of them are asked, so that each subtree is known.
                    damaged |= node.subtree.is_some_and(|subtree| self.is_damaged(subtree, depth + 1));
                    damaged |= node.content.iter().flatten().any(|chunk| self.chunk(chunk).is_some());
                    damaged |= node.kind == "file" && node.content.is_none() && node.size > 0;
                }
                damaged
            }
        };
        self.known.insert(id, damaged);
        damaged
    }
}

fn affected(repository: &Repository, snapshots: &[Snapshot], bad: &Bad, found: &mut Verification) -> Result<()> {
    let mut search = Search { repository, bad, known: HashMap::new() };
    for snapshot in snapshots {
        let mut pending = vec![(Vec::new(), snapshot.tree)];
        while let Some((path, id)) = pending.pop() {
            if !search.is_damaged(id, 0) {
                continue;
            }
            let affected =
                |path: Vec<u8>, is_folder, reason| Affected { snapshot: snapshot.id, path, is_folder, reason };
            let tree = match search.tree(&id) {
                Ok(tree) => tree,
                Err(error) => {
                    let path = if path.is_empty() { b"/".to_vec() } else { path };
                    found.affected.push(affected(path, true, error.to_string()));
                    continue;
                }
            };
            for node in &tree.nodes {
                let below =
                    [path.as_slice(), b"/", &node.name().unwrap_or_else(|_| node.name.clone().into_bytes())].concat();
                if let Some(subtree) = node.subtree {
                    pending.push((below, subtree));
                } else if let Some(reason) = node.content.iter().flatten().find_map(|chunk| search.chunk(chunk)) {
                    found.affected.push(affected(below, false, reason));
                }
            }
        }
    }
    Ok(())
}
