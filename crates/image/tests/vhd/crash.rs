//! What a crash leaves of an image that is written.

use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockWrite, Chain, Memory, Storage};
use transload_image::{Access, ImageWrite, Source};
use transload_testkit::{CrashStorage, MemoryTarget};

use super::support::{MIB, NAME, bytes, check, layer, resize, sample, try_create};

const SECTOR: usize = 512;

/// After a crash each sector is as it was at the last flush, or as it was written since.
#[test]
fn every_crash_leaves_each_sector_old_or_new() {
    for text in ["subformat=dynamic,block_size=512k", "subformat=fixed", "backing_file=base.vhd,block_size=512k"] {
        let size = 3 * MIB;
        let parent = layer(Source::new(Arc::new(Memory::from(sample(size, "")))), Access::ReadOnly).unwrap();
        let crashes = Arc::new(CrashStorage::default());
        let target = MemoryTarget::new(NAME).with_storage(NAME, Arc::clone(&crashes) as Arc<dyn Storage>);
        let backing = text.starts_with("backing").then_some(&parent);
        let image = try_create(&target, size, text, backing).unwrap();
        image.finish().unwrap();
        crashes.settle();
        let disk = disk(&image, backing.map(|parent| &parent.device));
        let mut states = vec![bytes(&*disk)];
        for round in 1..=4_u8 {
            for (at, length) in [(0, 70_000), (700_000, 4096), (MIB + 100, 300), (2 * MIB + 5 * 512, 1024)] {
                disk.write_at(&vec![round * 16; length], at + u64::from(round) * 512).unwrap();
            }
            disk.flush().unwrap();
            states.push(bytes(&*disk));
        }
        image.finish().unwrap();
        for crash in crashes.crashes(11, 300) {
            let survived = crash.survived;
            let file: Arc<dyn Storage> = Arc::new(crash.file);
            let found = layer(Source::new(Arc::clone(&file) as Arc<dyn BlockRead>), Access::ReadOnly).unwrap();
            let found = match backing {
                Some(parent) => bytes(&Chain::new(vec![found.device, Arc::clone(&parent.device)])),
                None => bytes(&*found.device),
            };
            for (index, sector) in found.chunks(SECTOR).enumerate() {
                let place = index * SECTOR..index * SECTOR + sector.len();
                let known = states.iter().any(|state| state[place.clone()] == *sector);
                assert!(known || text.contains("fixed"), "{text}: sector {index}, {survived}");
            }
            check(&file, true).unwrap();
            assert_eq!(check(&file, false).unwrap().corruptions, 0, "{text}: {survived}");
        }
    }
}

fn disk(image: &Arc<dyn ImageWrite>, parent: Option<&Arc<dyn BlockRead>>) -> Arc<dyn BlockWrite> {
    let top = Arc::clone(image) as Arc<dyn BlockWrite>;
    match parent {
        Some(parent) => Arc::new(Chain::writable(top, vec![Arc::clone(parent)])),
        None => top,
    }
}

#[test]
fn a_crash_during_a_change_of_size_of_a_dynamic_disk_leaves_the_old_size_or_the_new() {
    for (text, size) in [("subformat=dynamic", 300 * MIB), ("subformat=dynamic", 7 * MIB), ("subformat=dynamic", MIB)] {
        let before = sample(6 * MIB, text);
        let crashes = Arc::new(CrashStorage::new(Memory::from(before.clone())));
        let storage = Arc::clone(&crashes) as Arc<dyn Storage>;
        let content = bytes(&*layer(Source::new(Arc::new(Memory::from(before))), Access::ReadOnly).unwrap().device);
        resize(&storage, size, true).unwrap();
        for crash in crashes.crashes(5, 200) {
            let file: Arc<dyn BlockRead> = Arc::new(crash.file);
            let opened = layer(Source::new(file), Access::ReadOnly).unwrap();
            let found = opened.device.size();
            assert!(found == 6 * MIB || found == size, "{text} {found}: {}", crash.survived);
            let kept = found.min(size).min(6 * MIB);
            assert!(opened.device.read_vec(0, kept).unwrap() == content[..usize::try_from(kept).unwrap()], "{text}");
        }
    }
}
