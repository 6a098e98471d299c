//! Giving back the space of what no snapshot needs any more.
//!
//! ```text
//! exclusive lock ──► what is needed ──► packs that are needed in part ──► their rest into new packs
//!                                   └─► new index ──► old index goes ──► packs that nothing names go
//! ```
//!
//! Killed at any point, every snapshot is whole: nothing goes before all that is needed of it is elsewhere and named.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use transload_block::{Error, ErrorKind, Result};

use crate::create::Watch;
use crate::create::packer::Packer;
use crate::format::document;
use crate::format::id::Id;
use crate::format::pack::{BlobKind, PackedBlob, open_blob};
use crate::index;
use crate::reach::Reached;
use crate::repository::{Repository, adopt_packs};
use crate::store::Kind;

/// What compaction did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Compaction {
    /// Packs before.
    pub packs: u64,
    /// Packs that went.
    pub removed_packs: u64,
    /// Packs whose rest was moved; they are among those that went.
    pub rewritten_packs: u64,
    /// Bytes of all packs before.
    pub bytes: u64,
    /// Bytes that no snapshot needs.
    pub unused: u64,
    /// Bytes that were given back.
    pub freed: u64,
    /// What to know.
    pub warnings: Vec<String>,
}

/// How much may stay that is not needed.
#[derive(Clone, Copy, Debug)]
pub struct CompactSettings {
    /// Hundredths of what is needed that may stay unused: less means more to rewrite.
    pub most_unused: u8,
    /// Says what would be done, and does nothing.
    pub dry_run: bool,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self { most_unused: 5, dry_run: false }
    }
}

/// A pack and what of it is needed.
struct PackUse {
    id: Id,
    size: u64,
    blobs: Vec<PackedBlob>,
    needed: Vec<PackedBlob>,
    unused: u64,
}

/// Gives back space.
///
/// # Errors
/// `Denied` while somebody else uses the archive; `Corrupt` when it is not known what is needed, since a snapshot or a
/// folder is damaged: nothing is removed then.
pub fn compact(repository: &Arc<Repository>, settings: CompactSettings, watch: &dyn Watch) -> Result<Compaction> {
    let lock = repository.lock(true)?;
    repository.reload()?;
    let mut done = Compaction::default();
    let mut packs = survey(repository, &mut done)?;
    choose(&mut packs, settings, &mut done);
    let (going, staying): (Vec<_>, Vec<_>) = packs.into_iter().partition(|(_, goes)| *goes);
    done.removed_packs = going.len() as u64;
    done.rewritten_packs = going.iter().filter(|(pack, _)| !pack.needed.is_empty()).count() as u64;
    done.freed = going.iter().map(|(pack, _)| pack.unused).sum();
    if settings.dry_run {
        return Ok(done);
    }
    watch.begin(going.iter().filter(|(pack, _)| !pack.needed.is_empty()).map(|(pack, _)| pack.size).sum());
    let packer = Packer::new(repository);
    let mut kept_after_all = HashSet::new();
    for (pack, _) in going.iter().filter(|(pack, _)| !pack.needed.is_empty()) {
        watch.check()?;
        lock.check()?;
        if let Err(error) = move_rest(repository, &packer, pack) {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error);
            }
            // What can still be read of a damaged pack is worth more than its space.
            done.warnings.push(format!("pack {} stays: {error}", pack.id.short()));
            kept_after_all.insert(pack.id);
        }
        watch.read(pack.size);
    }
    packer.flush()?;
    let gone: HashSet<Id> = going.iter().map(|(pack, _)| pack.id).filter(|id| !kept_after_all.contains(id)).collect();
    done.removed_packs = gone.len() as u64;
    done.rewritten_packs -= kept_after_all.len() as u64;
    done.freed = going.iter().filter(|(pack, _)| gone.contains(&pack.id)).map(|(pack, _)| pack.unused).sum();
    drop(staying);
    lock.check()?;
    replace_index(repository, &gone)?;
    for pack in &gone {
        repository.store.remove(Kind::Pack, *pack)?;
    }
    repository.store.sweep()?;
    Ok(done)
}

/// Every pack, with what of it is needed. A blob that several packs hold is needed in one of them.
fn survey(repository: &Arc<Repository>, done: &mut Compaction) -> Result<Vec<(PackUse, bool)>> {
    let (_, damaged) = adopt_packs(&repository.store, &repository.key, &mut repository.index_mut())?;
    done.warnings.extend(damaged.into_iter().map(|(_, error)| error.to_string()));
    let (snapshots, damaged) = repository.snapshots_and_damage()?;
    if let Some((id, error)) = damaged.into_iter().next() {
        let remedy = format!("what snapshot {} needs is not known; `forget` it first if it is lost", id.short());
        return Err(error.with_remedy(remedy));
    }
    let mut reached = Reached::default();
    for snapshot in &snapshots {
        let within = |error: Error| {
            error.context(format_args!("snapshot {}", snapshot.id.short())).with_remedy("`verify` says what is damaged")
        };
        reached.add(repository, snapshot.tree).map_err(within)?;
    }
    let sizes: HashMap<Id, u64> = repository.store.list(Kind::Pack)?.into_iter().collect();
    let mut taken: HashSet<(BlobKind, Id)> = HashSet::new();
    let mut packs = Vec::new();
    for (id, blobs) in repository.index().by_pack() {
        let Some(size) = sizes.get(&id).copied() else {
            done.warnings.push(format!("pack {}: the file is missing", id.short()));
            continue;
        };
        let is_needed =
            |blob: &&PackedBlob| reached.contains(blob.kind, &blob.id) && taken.insert((blob.kind, blob.id));
        let needed: Vec<PackedBlob> = blobs.iter().filter(is_needed).copied().collect();
        let used: u64 = needed.iter().map(|blob| u64::from(blob.stored)).sum();
        let all: u64 = blobs.iter().map(|blob| u64::from(blob.stored)).sum();
        // A pack that goes as a whole gives its header back too.
        let unused = if needed.is_empty() { size } else { all - used };
        done.packs += 1;
        done.bytes += size;
        done.unused += unused;
        packs.push((PackUse { id, size, blobs, needed, unused }, false));
    }
    Ok(packs)
}

/// Marks the packs that go: those that are not needed at all, and of the others those with most to give back until what
/// stays unused is little enough.
fn choose(packs: &mut [(PackUse, bool)], settings: CompactSettings, done: &mut Compaction) {
    for (pack, goes) in packs.iter_mut() {
        *goes = pack.needed.is_empty();
    }
    let used = done.bytes - done.unused;
    let allowed = u64::try_from(u128::from(used) * u128::from(settings.most_unused) / 100).unwrap_or(u64::MAX);
    let mut left: u64 = packs.iter().filter(|(_, goes)| !goes).map(|(pack, _)| pack.unused).sum();
    let mut partly: Vec<usize> = (0..packs.len()).filter(|at| !packs[*at].1 && packs[*at].0.unused > 0).collect();
    partly.sort_by_key(|at| std::cmp::Reverse(packs[*at].0.unused * 1000 / packs[*at].0.size.max(1)));
    for at in partly {
        if left <= allowed {
            break;
        }
        left -= packs[at].0.unused;
        packs[at].1 = true;
    }
}

/// Copies what is needed of a pack into new ones. It is proved on the way, and stays encrypted as it is.
fn move_rest(repository: &Repository, packer: &Packer<'_>, pack: &PackUse) -> Result<()> {
    let bytes = repository.store.read(Kind::Pack, pack.id)?;
    let mut moved = Vec::with_capacity(pack.needed.len());
    for blob in &pack.needed {
        let (start, length) = (blob.offset as usize, blob.stored as usize);
        let sealed = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("chunk {}: the pack ends before it", blob.id.short()))
        })?;
        open_blob(blob, sealed.to_vec(), &repository.key)?;
        moved.push((blob, sealed));
    }
    debug_assert!(pack.blobs.len() >= moved.len(), "what is needed is a part");
    for (blob, sealed) in moved {
        packer.put(blob.kind, blob.id, sealed, blob.unpacked)?;
    }
    Ok(())
}

/// Writes an index without the packs that go, and removes the old one.
fn replace_index(repository: &Repository, gone: &HashSet<Id>) -> Result<()> {
    let old: Vec<Id> = repository.store.list(Kind::Index)?.into_iter().map(|(id, _)| id).collect();
    let stored: HashSet<Id> = repository.store.list(Kind::Pack)?.into_iter().map(|(id, _)| id).collect();
    let mut packs = repository.index().by_pack();
    packs.retain(|(pack, _)| !gone.contains(pack) && stored.contains(pack));
    packs.sort_by_key(|(pack, _)| *pack);
    let mut fresh = HashSet::new();
    for document in index::documents(packs.iter().map(|(id, blobs)| (id, blobs.as_slice()))) {
        let bytes = document::seal(&document, repository.config.version, &repository.key)?;
        fresh.insert(repository.store.save(Kind::Index, &bytes)?);
    }
    for id in old.into_iter().filter(|id| !fresh.contains(id)) {
        repository.store.remove(Kind::Index, id)?;
    }
    repository.index_mut().forget_packs(gone)
}
