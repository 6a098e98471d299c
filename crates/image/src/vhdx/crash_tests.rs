//! What a crash leaves at any point of writing through the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, Memory, Storage, ZeroMode};
use transload_testkit::crash::Crash;
use transload_testkit::{CrashStorage, Random, disks, witness};

use super::tests::{check, create, open};
use crate::{Access, Source};

const MIB: u64 = 1 << 20;
/// Bytes of a write: a sector is old or new, so writes of one sector each tell which.
const SECTOR: u64 = 512;

/// What was done to an image, and every state of the file in between.
struct Work {
    storage: Arc<CrashStorage>,
    size: u64,
    /// For each round the sectors it writes, and how many flushes the storage had seen when its own returned.
    rounds: Vec<(Vec<u64>, usize)>,
}

impl Work {
    /// Writes sectors here and there of an image of `size` bytes in blocks of 1 MiB, flushing after each round.
    fn new(size: u64, options: &str, rounds: u8, sectors: u64) -> Self {
        let base = Arc::new(Memory::default());
        let storage: Arc<dyn Storage> = Arc::clone(&base) as Arc<dyn Storage>;
        create(&storage, size, options).unwrap().finish().unwrap();
        let crash = Arc::new(CrashStorage::new((*base).clone()));
        let storage: Arc<dyn Storage> = Arc::clone(&crash) as Arc<dyn Storage>;
        let layer = open(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
        let writer = layer.writer.unwrap();
        let mut random = Random::new(1);
        let mut work = Self { storage: crash, size, rounds: Vec::new() };
        for round in 1..=rounds {
            let written: Vec<u64> = (0..sectors).map(|_| random.below(size / SECTOR)).collect();
            for sector in &written {
                writer.write_at(&[round; 512], sector * SECTOR).unwrap();
            }
            writer.flush().unwrap();
            // The storage's flushes are counted by asking for the states that there were.
            work.rounds.push((written, work.flushes()));
        }
        writer.finish().unwrap();
        work
    }

    fn flushes(&self) -> usize {
        self.storage.crashes(0, 1).last().map_or(0, |crash| crash.flushes)
    }

    /// The file as a crash left it is a disk in which what was flushed is there, and what was not is old or new, sector by
    /// sector; replayed into the file it is the same disk, sound, and can be written. Answers whether its log was not empty.
    fn judge(&self, left: &Crash) -> bool {
        let what = format!("flush {}, {}", left.flushes, left.survived);
        let layer = open(Source::new(Arc::new(left.file.clone())), Access::ReadOnly);
        let layer = layer.unwrap_or_else(|error| panic!("{what}: {error}"));
        for (index, (sectors, flushed)) in self.rounds.iter().enumerate() {
            for sector in sectors {
                let later = self.rounds[index + 1..].iter().any(|(sectors, _)| sectors.contains(sector));
                let found = layer.device.read_vec(sector * SECTOR, SECTOR).unwrap();
                let new = u8::try_from(index + 1).unwrap();
                let sound = found.iter().all(|byte| *byte == new)
                    || (left.flushes < *flushed && found.iter().all(|byte| *byte == 0));
                assert!(sound || later, "round {new}, {what}: {}", found[0]);
            }
        }
        let replayed: Arc<dyn Storage> = Arc::new(left.file.clone());
        let again = open(Source::writable(Arc::clone(&replayed)), Access::ReadWrite).unwrap();
        assert_eq!(disks::first_difference(&*again.device, &*layer.device), None, "{what}");
        again.writer.unwrap().finish().unwrap();
        assert!(check(Source::new(replayed), false).unwrap().is_clean(), "{what}");
        layer.info.dirty
    }

    /// QEMU's replay of the file gives the same disk as ours.
    fn judge_by_qemu(&self, left: &Crash, judge: &mut Qemu) {
        let layer = open(Source::new(Arc::new(left.file.clone())), Access::ReadOnly).unwrap();
        let path = judge.folder.path().join("left.vhdx");
        disks::save(&left.file, &path);
        // Opened for writing, QEMU replays.
        witness::must("qemu-img", ["check", "-q", "-r", "all", "-f", "vhdx", path.to_str().unwrap()]);
        let count = judge.disks.len();
        let raw = judge.disks.entry(disks::sha256(&*layer.device)).or_insert_with(|| {
            let raw = judge.folder.path().join(format!("{count}.raw"));
            disks::save(&*layer.device, &raw);
            raw
        });
        witness::assert_same_guest(&path, "vhdx", raw, "raw");
        assert_eq!(layer.device.size(), self.size);
    }
}

/// Where QEMU works, and the disks that it compared with, by digest.
struct Qemu {
    folder: tempfile::TempDir,
    disks: HashMap<String, PathBuf>,
}

impl Qemu {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), disks: HashMap::new() }
    }
}

/// At every sector of every write, what arrived until then is a sound image. QEMU agrees on one in so many of them.
fn judge_every_torn_write(work: &Work, by_qemu: usize) {
    let (mut all, mut dirty, mut qemu) = (0, 0, Qemu::new());
    for left in work.storage.every_crash() {
        dirty += usize::from(work.judge(&left));
        if all % by_qemu == 0 {
            work.judge_by_qemu(&left, &mut qemu);
        }
        all += 1;
    }
    println!("{all} files, {dirty} with a log to replay, {} by QEMU", all.div_ceil(by_qemu));
    assert!(all > 300 && dirty * 20 > all, "{all} {dirty}");
}

#[test]
fn every_torn_write_replays_to_a_consistent_image() {
    judge_every_torn_write(&Work::new(3 * MIB, "block_size=1M", 4, 2), 17);
}

#[test]
#[ignore = "minutes: QEMU judges each of some thousand files; part of `cargo xtask soak`"]
fn every_torn_write_replays_to_what_qemu_replays_it_to() {
    judge_every_torn_write(&Work::new(6 * MIB, "block_size=1M", 8, 4), 1);
    judge_every_torn_write(&Work::new(3 * MIB, "block_size=1M,subformat=fixed", 4, 2), 1);
}

/// Writes that are lost in any combination, by chance.
#[test]
fn every_crash_replays_to_a_consistent_image() {
    let work = Work::new(6 * MIB, "block_size=1M", 8, 4);
    let dirty = work.storage.crashes(9, 120).filter(|left| work.judge(left)).count();
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

/// An entry that goes around the ring's end, torn at every sector: the one before it stays the newest.
#[test]
fn an_entry_around_the_end_of_the_ring_is_whole_or_not_there() {
    let base = Arc::new(Memory::default());
    let storage: Arc<dyn Storage> = Arc::clone(&base) as Arc<dyn Storage>;
    create(&storage, 3 * MIB, "block_size=1M").unwrap().finish().unwrap();
    let crash = Arc::new(CrashStorage::new((*base).clone()));
    let storage: Arc<dyn Storage> = Arc::clone(&crash) as Arc<dyn Storage>;
    let image = super::open::Image::read(&(Arc::clone(&storage) as Arc<dyn BlockRead>)).unwrap();
    let mut journal = super::journal::Journal::new(&image.header);
    journal.begin(&*storage, b"test").unwrap();
    let at = image.regions.bat.offset;
    let length = super::journal::FileLength { flushed: storage.size(), last: storage.size() };
    // Three sectors of the ring each; 256 are no multiple of that.
    let commit = |journal: &mut super::journal::Journal, number: u8| {
        let (first, second) = ([number; 4096], [number ^ 0xff; 4096]);
        journal.commit(&*storage, &[(at + 4096, &first), (at + 8192, &second)], length).unwrap();
    };
    (0..85).for_each(|number| commit(&mut journal, number));
    crash.settle();
    commit(&mut journal, 85);
    let (mut old, mut new) = (0, 0);
    for left in crash.every_crash() {
        let source: Arc<dyn BlockRead> = Arc::new(left.file);
        let image = super::open::Image::read(&source).unwrap();
        let found = image.file.read_vec(at + 4096, 8192).unwrap();
        let number = found[0];
        assert!(found[..4096].iter().all(|byte| *byte == number), "{}", left.survived);
        assert!(found[4096..].iter().all(|byte| *byte == number ^ 0xff), "{}", left.survived);
        assert!(number == 85 || number == 84 && left.flushes == 0, "{} {}", number, left.survived);
        *(if number == 85 { &mut new } else { &mut old }) += 1;
    }
    assert!(old > 20 && new > 20, "{old} {new}");
}

/// Zeroes and a disk that grows go through the log too.
#[test]
fn a_torn_resize_leaves_the_old_disk_or_the_new() {
    let base = Arc::new(Memory::default());
    let storage: Arc<dyn Storage> = Arc::clone(&base) as Arc<dyn Storage>;
    let image = create(&storage, 3 * MIB, "block_size=1M").unwrap();
    image.write_at(&[3; 512], MIB).unwrap();
    image.write_zeroes_at(MIB + 100..MIB + 200, ZeroMode::Unmap).unwrap();
    image.finish().unwrap();
    // The second table does not fit into the region of the first: it moves.
    for size in [5 * MIB, 160 << 30] {
        let crash = Arc::new(CrashStorage::new((*base).clone()));
        let source = Source::writable(Arc::clone(&crash) as Arc<dyn Storage>);
        let gate = crate::ReferenceGate::Deny;
        super::resize::resize(crate::ResizeRequest { source, gate: &gate, size, shrink: false }).unwrap();
        let mut sizes = [0, 0];
        for left in crash.crashes(3, 80) {
            let replayed: Arc<dyn Storage> = Arc::new(left.file);
            let layer = open(Source::writable(Arc::clone(&replayed)), Access::ReadWrite).unwrap();
            let found = layer.device.size();
            assert!(found == 3 * MIB || found == size, "{found}");
            sizes[usize::from(found == size)] += 1;
            assert_eq!(layer.device.read_vec(MIB + 99, 3).unwrap(), [3, 0, 0], "{}", left.survived);
            layer.writer.unwrap().finish().unwrap();
            assert!(check(Source::new(replayed), false).unwrap().is_clean(), "{}", left.survived);
        }
        assert!(sizes[0] > 3 && sizes[1] > 3, "{sizes:?}");
    }
}
