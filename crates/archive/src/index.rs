//! The index in memory: where each blob is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use transload_block::{Error, ErrorKind, Result};

use crate::format::id::Id;
use crate::format::index::{IndexDocument, IndexedBlob, IndexedPack};
use crate::format::pack::{BlobKind, PackedBlob};

/// Where a blob is.
#[derive(Clone, Copy, Debug)]
struct Place {
    pack: u32,
    offset: u32,
    stored: u32,
    /// 0 where it is not compressed.
    unpacked: u32,
}

/// All blobs of a repository. A blob that several packs hold is found in the first that was added.
#[derive(Debug, Default)]
pub(crate) struct Index {
    packs: Vec<Id>,
    known: HashMap<Id, u32>,
    data: HashMap<Id, Place>,
    trees: HashMap<Id, Place>,
    /// Blobs that are in other packs as well, and where.
    copies: HashMap<(BlobKind, Id), Vec<Place>>,
}

impl Index {
    fn map(&self, kind: BlobKind) -> &HashMap<Id, Place> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Adds the blobs of a pack. One that is known already changes nothing.
    pub(crate) fn add(&mut self, pack: Id, blobs: &[PackedBlob]) -> Result<()> {
        if self.known.contains_key(&pack) {
            return Ok(());
        }
        let too_many = |_| Error::new(ErrorKind::TooLarge, "an archive of more than 4 billion packs");
        let number = u32::try_from(self.packs.len()).map_err(too_many)?;
        self.packs.push(pack);
        self.known.insert(pack, number);
        for blob in blobs {
            let place =
                Place { pack: number, offset: blob.offset, stored: blob.stored, unpacked: blob.unpacked.unwrap_or(0) };
            let map = if blob.kind == BlobKind::Data { &mut self.data } else { &mut self.trees };
            match map.entry(blob.id) {
                Entry::Occupied(_) => self.copies.entry((blob.kind, blob.id)).or_default().push(place),
                Entry::Vacant(vacant) => {
                    vacant.insert(place);
                }
            }
        }
        Ok(())
    }

    /// Adds what an index file has.
    pub(crate) fn add_document(&mut self, document: &IndexDocument) -> Result<()> {
        for pack in &document.packs {
            let blobs: Vec<PackedBlob> = pack.blobs.iter().map(Into::into).collect();
            self.add(pack.id, &blobs)?;
        }
        Ok(())
    }

    /// Whether a pack is in it.
    pub(crate) fn has_pack(&self, pack: Id) -> bool {
        self.known.contains_key(&pack)
    }

    /// Whether a blob is in it.
    pub(crate) fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.map(kind).contains_key(id)
    }

    /// The pack that a blob is in, and where.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<(Id, PackedBlob)> {
        self.map(kind).get(id).and_then(|place| self.blob(kind, *id, *place))
    }

    /// The other packs that a blob is in.
    pub(crate) fn other_places(&self, kind: BlobKind, id: &Id) -> Vec<(Id, PackedBlob)> {
        let places = self.copies.get(&(kind, *id)).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| self.blob(kind, *id, *place)).collect()
    }

    fn blob(&self, kind: BlobKind, id: Id, place: Place) -> Option<(Id, PackedBlob)> {
        let Place { pack, offset, stored, unpacked } = place;
        let pack = *self.packs.get(usize::try_from(pack).ok()?)?;
        Some((pack, PackedBlob { id, kind, offset, stored, unpacked: (unpacked > 0).then_some(unpacked) }))
    }

    /// How long a blob is when it is unpacked.
    pub(crate) fn length(&self, kind: BlobKind, id: &Id) -> Option<u32> {
        self.find(kind, id).map(|(_, blob)| blob.length())
    }

    /// Every pack with its blobs, in the order of their places; blobs that are in several packs are in each.
    pub(crate) fn by_pack(&self) -> Vec<(Id, Vec<PackedBlob>)> {
        let mut packs: Vec<(Id, Vec<PackedBlob>)> = self.packs.iter().map(|pack| (*pack, Vec::new())).collect();
        let mut put = |kind, id, place: Place| {
            if let Some((_, blob)) = self.blob(kind, id, place)
                && let Some((_, blobs)) = packs.get_mut(place.pack as usize)
            {
                blobs.push(blob);
            }
        };
        for (kind, map) in [(BlobKind::Data, &self.data), (BlobKind::Tree, &self.trees)] {
            map.iter().for_each(|(id, place)| put(kind, *id, *place));
        }
        for ((kind, id), places) in &self.copies {
            places.iter().for_each(|place| put(*kind, *id, *place));
        }
        for (_, blobs) in &mut packs {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        packs
    }

    /// The blobs of a kind.
    pub(crate) fn ids(&self, kind: BlobKind) -> impl Iterator<Item = &Id> {
        self.map(kind).keys()
    }

    /// How many packs it has.
    pub(crate) fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// Bytes in packs, and bytes of the same blobs when unpacked.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let both = self.data.values().chain(self.trees.values());
        both.fold((0, 0), |(stored, unpacked), place| {
            let length = if place.unpacked > 0 { place.unpacked } else { place.stored.saturating_sub(32) };
            (stored + u64::from(place.stored), unpacked + u64::from(length))
        })
    }

    /// Takes packs out that are no longer there.
    pub(crate) fn forget_packs(&mut self, gone: &HashSet<Id>) -> Result<()> {
        let mut rest = Self::default();
        for (pack, blobs) in self.by_pack() {
            if !gone.contains(&pack) {
                rest.add(pack, &blobs)?;
            }
        }
        *self = rest;
        Ok(())
    }
}

/// Blobs in one index file, as restic has them.
const BLOBS_OF_A_FILE: usize = 50_000;

/// Packs as index files of a bounded size.
pub(crate) fn documents<'a>(
    packs: impl IntoIterator<Item = (&'a Id, &'a [PackedBlob])>,
) -> impl Iterator<Item = IndexDocument> {
    let mut documents = Vec::new();
    let mut current = IndexDocument::default();
    let mut count = 0;
    for (id, blobs) in packs {
        current.packs.push(IndexedPack { id: *id, blobs: blobs.iter().map(IndexedBlob::from).collect() });
        count += blobs.len();
        if count >= BLOBS_OF_A_FILE {
            documents.push(std::mem::take(&mut current));
            count = 0;
        }
    }
    if !current.packs.is_empty() {
        documents.push(current);
    }
    documents.into_iter()
}
