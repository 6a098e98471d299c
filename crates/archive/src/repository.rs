//! An open repository: its key, its index, and what is read through them.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use transload_block::{Error, ErrorKind, Result};
use transload_filesystem::FileSystem;

use crate::format::config::Config;
use crate::format::crypto::CryptoKey;
use crate::format::document;
use crate::format::id::Id;
use crate::format::index::IndexDocument;
use crate::format::key;
use crate::format::node::Tree;
use crate::format::pack::{BlobKind, LONGEST_BLOB, PackedBlob, open_blob, read_header};
use crate::format::snapshot::{Snapshot, SnapshotDocument};
use crate::format::time::Time;
use crate::index::Index;
use crate::lock::{self, Lock, Sealing};
use crate::lru::Lru;
use crate::store::{Kind, Store, read_at};
use crate::view::View;

/// Memory for chunks that were unpacked, unless it is said otherwise.
const CACHE_BYTES: usize = 64 << 20;
/// Memory for folders, which are a small part of what is read.
const TREE_CACHE_BYTES: usize = 16 << 20;

/// How a repository is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenSettings {
    /// Memory for chunks that were unpacked.
    pub cache_bytes: usize,
}

impl Default for OpenSettings {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES }
    }
}

/// What cannot be read, and why.
pub type Damaged = Vec<(Id, Error)>;

/// Packs with what is in them.
pub(crate) type Packs = Vec<(Id, Vec<PackedBlob>)>;

/// How much is in a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks of files, each once.
    pub chunks: u64,
    /// Folders, each once.
    pub trees: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of chunks and folders as they are stored.
    pub stored: u64,
    /// Bytes of the same when they are unpacked.
    pub unpacked: u64,
}

/// A repository of archives: a folder in restic's format.
///
/// Any number of threads read at once. What others add after it was opened is not seen.
#[derive(Debug)]
pub struct Repository {
    pub(crate) store: Arc<Store>,
    pub(crate) key: CryptoKey,
    pub(crate) config: Config,
    index: RwLock<Index>,
    blobs: Lru<Id, Vec<u8>>,
    trees: Lru<Id, Tree>,
    /// What was found wrong when it was opened, and could be mended in memory.
    notes: Vec<String>,
}

impl Repository {
    /// Whether the folder at `path` holds a repository. It may still turn out to be damaged.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        let store = Store::new(path);
        store.exists() && path.join("keys").is_dir() && path.join("data").is_dir()
    }

    /// Makes a repository in an empty folder, or in one that is not there yet. It is of version 2.
    ///
    /// # Errors
    /// `Denied` when there is one already, or something else; what the file system answers.
    pub fn create(path: &Path, password: &[u8]) -> Result<()> {
        let store = Store::new(path);
        if store.exists() {
            return Err(Error::new(ErrorKind::Denied, format!("{}: there is an archive already", path.display())));
        }
        store.create()?;
        let master = CryptoKey::generate()?;
        let file = key::write(&master, password, Time::now(), (&lock::user(), &lock::host()))?;
        store.save(Kind::Key, &file)?;
        store.write_config(&Config::generate()?.seal(&master)?)
    }

    /// Opens the repository at `path`.
    ///
    /// Damaged index files are no hindrance: the packs that they are of tell their contents themselves. What was found is
    /// in [`notes`](Self::notes).
    ///
    /// # Errors
    /// `NotThisFormat` when there is none; `Denied` for a wrong password; `Corrupt` when its configuration or all of its
    /// keys are damaged.
    pub fn open(path: &Path, password: &[u8], settings: OpenSettings) -> Result<Arc<Self>> {
        let store = Arc::new(Store::new(path));
        let within = |error: Error| error.context(path.display());
        if !store.exists() {
            let text = format!("{}: no archive: there is no file \"config\" in it", path.display());
            return Err(Error::new(ErrorKind::NotThisFormat, text));
        }
        let (master, mut notes) = find_key(&store, password).map_err(within)?;
        let config = Config::open(store.read_config()?, &master).map_err(within)?;
        let mut index = load_index(&store, &master, &mut notes)?;
        if !notes.is_empty() || index.pack_count() == 0 {
            let (_, damaged) = adopt_packs(&store, &master, &mut index)?;
            notes.extend(damaged.into_iter().map(|(_, error)| error.to_string()));
        }
        Ok(Arc::new(Self {
            store,
            key: master,
            config,
            index: RwLock::new(index),
            blobs: Lru::new(settings.cache_bytes),
            trees: Lru::new(TREE_CACHE_BYTES),
            notes,
        }))
    }

    /// What was found wrong when it was opened: damaged keys, damaged indexes.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What tells it from others.
    #[must_use]
    pub fn id(&self) -> Id {
        self.config.id
    }

    /// The version of restic's format: 2, or 1 without compression.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.config.version
    }

    /// All snapshots, the oldest first.
    ///
    /// # Errors
    /// As [`snapshots_and_damage`](Self::snapshots_and_damage), for the first one that cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let (snapshots, damaged) = self.snapshots_and_damage()?;
        match damaged.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(snapshots),
        }
    }

    /// All snapshots that can be read, the oldest first, and what is wrong with the others.
    ///
    /// # Errors
    /// What the file system answers to listing them.
    pub fn snapshots_and_damage(&self) -> Result<(Vec<Snapshot>, Damaged)> {
        let (mut sound, mut damaged) = (Vec::new(), Vec::new());
        for (id, _) in self.store.list(Kind::Snapshot)? {
            let read = self.store.read_proved(Kind::Snapshot, id);
            let path = self.store.path(Kind::Snapshot, id);
            match read.and_then(|bytes| {
                document::open::<SnapshotDocument>(bytes, &self.key).map_err(|error| error.context(path.display()))
            }) {
                Ok(document) => sound.push(Snapshot::new(id, document)),
                // Somebody else removed it.
                Err(_) if !path.exists() => {}
                Err(error) => damaged.push((id, error)),
            }
        }
        sound.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok((sound, damaged))
    }

    /// The snapshot of this name: the first digits of its digest, or `latest`.
    ///
    /// # Errors
    /// `InvalidInput` when there is none, or more than one.
    pub fn find_snapshot(&self, name: &str) -> Result<Snapshot> {
        let (mut snapshots, damaged) = self.snapshots_and_damage()?;
        let none = |text: String| {
            Err(Error::new(ErrorKind::InvalidInput, format!("{}: {text}", self.store.root().display()))
                .with_remedy("`transload archive list` shows the snapshots"))
        };
        if name == "latest" {
            return snapshots.pop().map_or_else(|| none("there is no snapshot in it".to_owned()), Ok);
        }
        let is_meant = |id: &Id| !name.is_empty() && id.to_string().starts_with(name);
        if let Some((_, error)) = damaged.into_iter().find(|(id, _)| is_meant(id)) {
            return Err(error);
        }
        snapshots.retain(|snapshot| is_meant(&snapshot.id));
        match (snapshots.pop(), snapshots.len()) {
            (Some(snapshot), 0) => Ok(snapshot),
            (Some(_), others) => none(format!("{} snapshots begin with \"{name}\"", others + 1)),
            (None, _) => none(format!("there is no snapshot \"{}\"", name.escape_debug())),
        }
    }

    /// The files of a snapshot. At the top of those made here is a folder for each disk.
    ///
    /// # Errors
    /// `Corrupt` when its tree is missing or damaged.
    pub fn files(self: &Arc<Self>, snapshot: &Snapshot) -> Result<Arc<dyn FileSystem>> {
        Ok(Arc::new(View::new(Arc::clone(self), snapshot)?))
    }

    /// Takes a lock, exclusive or beside others.
    pub(crate) fn lock(&self, exclusive: bool) -> Result<Lock> {
        let sealing = Sealing { key: self.key.clone(), version: self.config.version };
        Lock::take(&self.store, &sealing, exclusive)
    }

    /// Reads the index again: others may have added to it, or taken away from it, before a lock was taken. Packs that no
    /// index file names are not in it afterwards: whoever takes them over has to know which they are.
    pub(crate) fn reload(&self) -> Result<()> {
        let fresh = load_index(&self.store, &self.key, &mut Vec::new())?;
        *self.index_mut() = fresh;
        Ok(())
    }

    /// How many chunks of files and how many folders it has, how many packs, and the bytes of these.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let index = self.index();
        let (stored, unpacked) = index.totals();
        Totals {
            chunks: index.ids(BlobKind::Data).count() as u64,
            trees: index.ids(BlobKind::Tree).count() as u64,
            packs: index.pack_count() as u64,
            stored,
            unpacked,
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of a file, as it was unpacked last or anew.
    pub(crate) fn data(&self, id: &Id) -> Result<Arc<Vec<u8>>> {
        if let Some(found) = self.blobs.get(id) {
            return Ok(found);
        }
        let bytes = Arc::new(self.load(BlobKind::Data, id)?);
        self.blobs.insert(*id, Arc::clone(&bytes), bytes.len());
        Ok(bytes)
    }

    /// A folder.
    pub(crate) fn tree(&self, id: &Id) -> Result<Arc<Tree>> {
        if let Some(found) = self.trees.get(id) {
            return Ok(found);
        }
        let bytes = self.load(BlobKind::Tree, id)?;
        let tree = Tree::from_bytes(&bytes).map_err(|error| error.context(format_args!("tree {}", id.short())))?;
        let tree = Arc::new(tree);
        self.trees.insert(*id, Arc::clone(&tree), bytes.len() * 2);
        Ok(tree)
    }

    /// Reads a blob from its pack, or from another that has it where the first is damaged.
    pub(crate) fn load(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let (found, others) = {
            let index = self.index();
            (index.find(kind, id), index.other_places(kind, id))
        };
        let missing = || Error::new(ErrorKind::Corrupt, format!("chunk {}: it is in no pack", id.short()));
        let (pack, blob) = found.ok_or_else(missing)?;
        let first = self.load_from(pack, &blob);
        if first.is_ok() {
            return first;
        }
        others.iter().find_map(|(pack, blob)| self.load_from(*pack, blob).ok()).map_or(first, Ok)
    }

    fn load_from(&self, pack: Id, blob: &PackedBlob) -> Result<Vec<u8>> {
        let stored = usize::try_from(blob.stored.min(LONGEST_BLOB)).unwrap_or(usize::MAX);
        let bytes = self.store.read_at(Kind::Pack, pack, blob.offset.into(), stored)?;
        open_blob(blob, bytes, &self.key).map_err(|error| error.context(self.store.path(Kind::Pack, pack).display()))
    }
}

/// The key that a password opens. Damaged key files are noted.
fn find_key(store: &Store, password: &[u8]) -> Result<(CryptoKey, Vec<String>)> {
    let mut notes = Vec::new();
    let mut damage = None;
    let files = store.list(Kind::Key)?;
    let mut tried = 0;
    for (id, _) in &files {
        let name = store.path(Kind::Key, *id);
        let read = store
            .read_proved(Kind::Key, *id)
            .and_then(|file| key::read(&file, password).map_err(|error| error.context(name.display())));
        match read {
            Ok(Some(key)) => return Ok((key, notes)),
            Ok(None) => tried += 1,
            Err(error) => {
                notes.push(error.to_string());
                damage.get_or_insert(error);
            }
        }
    }
    Err(match damage {
        Some(error) if tried == 0 => error,
        _ if files.is_empty() => Error::new(ErrorKind::Corrupt, "there is no key in it"),
        _ => Error::new(ErrorKind::Denied, format!("the password opens none of its {tried} keys")),
    })
}

/// Reads all index files, and notes those that are damaged.
fn load_index(store: &Store, key: &CryptoKey, notes: &mut Vec<String>) -> Result<Index> {
    let mut index = Index::default();
    for (id, _) in store.list(Kind::Index)? {
        let path = store.path(Kind::Index, id);
        let read = store.read_proved(Kind::Index, id).and_then(|bytes| {
            document::open::<IndexDocument>(bytes, key).map_err(|error| error.context(path.display()))
        });
        match read {
            Ok(document) => index.add_document(&document)?,
            // Somebody else put another in its place.
            Err(_) if !path.exists() => {}
            Err(error) => notes.push(error.to_string()),
        }
    }
    Ok(index)
}

/// Adds the packs that no index file names, by what they say themselves. Answers which they are, and those that cannot be
/// read.
pub(crate) fn adopt_packs(store: &Store, key: &CryptoKey, index: &mut Index) -> Result<(Packs, Damaged)> {
    let (mut adopted, mut damaged) = (Vec::new(), Vec::new());
    for (pack, size) in store.list(Kind::Pack)? {
        if index.has_pack(pack) {
            continue;
        }
        let header = store
            .open(Kind::Pack, pack)
            .and_then(|file| read_header(size, key, |offset, length| read_at(&file, offset, length)));
        match header {
            Ok(blobs) => {
                index.add(pack, &blobs)?;
                adopted.push((pack, blobs));
            }
            Err(error) => damaged.push((pack, error.context(store.path(Kind::Pack, pack).display()))),
        }
    }
    Ok((adopted, damaged))
}
