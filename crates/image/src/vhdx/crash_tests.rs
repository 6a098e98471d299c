//! What a crash leaves at any point of writing through the log.

use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Memory, Storage};
use transload_testkit::{CrashStorage, Random, disks};

use super::tests::{check, create, open};
use crate::{Access, Source};

const MIB: u64 = 1 << 20;
/// Bytes of a write: a sector is old or new, so writes of one sector each tell which.
const SECTOR: u64 = 512;

/// Writes sectors here and there, flushing after each round. What was flushed is there after a crash; what was not is old
/// or new, sector by sector; nothing else is ever seen, and the file is sound.
#[test]
fn every_crash_replays_to_a_consistent_image() {
    let base = Arc::new(Memory::default());
    let storage: Arc<dyn Storage> = Arc::clone(&base) as Arc<dyn Storage>;
    create(&storage, 6 * MIB, "block_size=1M").unwrap().finish().unwrap();
    let crash = Arc::new(CrashStorage::new((*base).clone()));
    let storage: Arc<dyn Storage> = Arc::clone(&crash) as Arc<dyn Storage>;
    let layer = open(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
    let writer = layer.writer.unwrap();
    let mut random = Random::new(1);
    // For each round the sectors it writes, and the events in the storage's log when its flush returned.
    let mut rounds: Vec<(Vec<u64>, usize)> = Vec::new();
    for round in 1..=8_u8 {
        let sectors: Vec<u64> = (0..4).map(|_| random.below(6 * MIB / SECTOR)).collect();
        for sector in &sectors {
            writer.write_at(&[round; 512], sector * SECTOR).unwrap();
        }
        writer.flush().unwrap();
        rounds.push((sectors, crash.events()));
    }
    writer.finish().unwrap();
    let mut dirty = 0;
    for left in crash.crashes(9, 200) {
        let file: Arc<Memory> = Arc::new(left.file);
        let before = file.to_vec();
        let source = Source::new(Arc::clone(&file) as Arc<dyn BlockRead>);
        let layer = open(source.clone(), Access::ReadOnly).unwrap();
        dirty += u32::from(layer.info.dirty);
        for (index, (sectors, flushed)) in rounds.iter().enumerate() {
            for sector in sectors {
                let later = rounds[index + 1..].iter().any(|(sectors, _)| sectors.contains(sector));
                let found = layer.device.read_vec(sector * SECTOR, SECTOR).unwrap();
                let new = u8::try_from(index + 1).unwrap();
                let sound = found.iter().all(|byte| *byte == new)
                    || (left.events < *flushed && found.iter().all(|byte| *byte == 0));
                assert!(sound || later, "round {new} at event {}: {} {}", left.events, found[0], left.survived);
            }
        }
        assert!(file.to_vec() == before, "reading changes nothing");
        // Replayed into the file, it is the same disk, and it can be written.
        let replayed: Arc<dyn Storage> = Arc::new((*file).clone());
        let writable = Source::writable(Arc::clone(&replayed));
        let again = open(writable, Access::ReadWrite).unwrap();
        assert_eq!(disks::first_difference(&*again.device, &*layer.device), None);
        again.writer.unwrap().finish().unwrap();
        assert!(check(Source::new(replayed), false).unwrap().is_clean());
        drop(source);
    }
    assert!(dirty > 10, "{dirty}");
}

/// The same while the log wraps around many times: more rounds than it has room for.
#[test]
fn the_ring_wraps_around() {
    let base = Arc::new(Memory::default());
    let storage: Arc<dyn Storage> = Arc::clone(&base) as Arc<dyn Storage>;
    create(&storage, 200 * MIB, "block_size=1M").unwrap().finish().unwrap();
    let layer = open(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
    let writer = layer.writer.unwrap();
    for block in 0..200_u64 {
        writer.write_at(&[u8::try_from(block).unwrap() | 1; 512], block * MIB).unwrap();
        writer.flush().unwrap();
    }
    // Dropped without an end: the log is full of entries, the newest of them active.
    drop(writer);
    let layer = open(Source::new(Arc::clone(&base) as Arc<dyn BlockRead>), Access::ReadOnly).unwrap();
    assert!(layer.info.dirty);
    for block in 0..200_u64 {
        assert_eq!(layer.device.read_vec(block * MIB, 1).unwrap(), [u8::try_from(block).unwrap() | 1]);
    }
}
