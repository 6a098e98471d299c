//! VDIs: those of VirtualBox and QEMU as they read them, new ones as QEMU reads them, and ones that lie.

#[cfg(test)]
mod built {
    use std::sync::Arc;

    use transload_block::{BlockReadExt, BlockStatus, ErrorKind, Memory, Storage};
    use transload_image::vdi::FORMAT;
    use transload_image::vdi::fuzz::fuzz_open;
    use transload_image::{
        Access, CheckReport, CheckRequest, Layer, OpenRequest, OptionValues, ReferenceGate, ResizeRequest, Source,
    };
    use transload_testkit::{Random, conformance};

    pub(crate) const FREE: u32 = u32::MAX;
    pub(crate) const ZERO: u32 = u32::MAX - 1;

    /// An image made by hand, from the description alone.
    #[derive(Clone, Debug)]
    pub(crate) struct Built {
        pub version: u32,
        pub kind: u32,
        pub size: u64,
        pub block: u32,
        pub extra: u32,
        pub map: Vec<u32>,
        pub allocated: u32,
        pub map_offset: u32,
        pub data_offset: u32,
        pub parent: [u8; 16],
    }

    impl Built {
        pub(crate) fn new(block: u32, size: u64, map: &[u32]) -> Self {
            let end = map.iter().filter(|entry| **entry < ZERO).map(|entry| entry + 1).max().unwrap_or(0);
            Self {
                version: 0x0001_0001,
                kind: 1,
                size,
                block,
                extra: 0,
                map: map.to_vec(),
                allocated: end,
                map_offset: 512,
                data_offset: 4096,
                parent: [0; 16],
            }
        }

        /// The file, and what a guest sees: block `n` of the file is full of noise of its own.
        pub(crate) fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
            let mut file = vec![0; 0x40];
            file[..10].copy_from_slice(b"<<< any >>");
            let mut put = |number: u32| file.extend_from_slice(&number.to_le_bytes());
            put(0xbeda_107f);
            put(self.version);
            let old = self.version >> 16 == 0;
            if !old {
                put(400);
            }
            put(self.kind);
            put(0);
            (0..64).for_each(|_| put(0));
            if !old {
                put(self.map_offset);
                put(self.data_offset);
            }
            [0, 0, 0, 512].into_iter().for_each(&mut put);
            if !old {
                put(0);
            }
            put(u32::try_from(self.size).expect("a small disk"));
            put((self.size >> 32) as u32);
            put(self.block);
            if !old {
                put(self.extra);
            }
            put(u32::try_from(self.map.len()).expect("a small disk"));
            put(self.allocated);
            file.extend_from_slice(&[1; 16]);
            file.extend_from_slice(&[2; 16]);
            file.extend_from_slice(&self.parent);
            let data = if old {
                file.len() + self.map.len() * 4
            } else {
                file.resize(self.map_offset as usize, 0);
                self.data_offset as usize
            };
            self.map.iter().for_each(|entry| file.extend_from_slice(&entry.to_le_bytes()));
            file.resize(data.max(file.len()), 0);
            let mut random = Random::new(7);
            let mut guest = vec![0; usize::try_from(self.size).unwrap()];
            let (block, extra) = (self.block as usize, self.extra as usize);
            let end = self.map.iter().filter(|entry| **entry < ZERO).map(|entry| *entry as usize + 1).max();
            for _ in 0..end.unwrap_or(0).min(64) {
                let noise = random.bytes(block + extra);
                file.extend_from_slice(&noise);
            }
            for (index, entry) in self.map.iter().enumerate().filter(|(_, entry)| **entry < ZERO) {
                let (start, from) = (index * block, data + *entry as usize * (block + extra) + extra);
                let length = guest.len().saturating_sub(start).min(block);
                if length > 0 && from + length <= file.len() {
                    let piece = file[from..from + length].to_vec();
                    guest[start..start + length].copy_from_slice(&piece);
                }
            }
            (file, guest)
        }
    }

    pub(crate) fn open(bytes: Vec<u8>) -> transload_block::Result<Layer> {
        open_as(Source::new(Arc::new(Memory::from(bytes))), Access::ReadOnly)
    }

    pub(crate) fn open_as(source: Source, access: Access) -> transload_block::Result<Layer> {
        let (gate, options) = (&ReferenceGate::Deny, &OptionValues::default());
        FORMAT.open.unwrap()(OpenRequest { source, gate, options, access, cache_bytes: 1 << 20 })
    }

    pub(crate) fn check(storage: &Arc<dyn Storage>, repair: bool) -> CheckReport {
        let source = Source::writable(Arc::clone(storage));
        FORMAT.check.unwrap()(CheckRequest { source, gate: &ReferenceGate::Deny, repair }).unwrap()
    }

    pub(crate) fn resize(storage: &Arc<dyn Storage>, size: u64, shrink: bool) -> transload_block::Result<()> {
        let source = Source::writable(Arc::clone(storage));
        FORMAT.resize.unwrap()(ResizeRequest { source, gate: &ReferenceGate::Deny, size, shrink })
    }

    #[test]
    fn every_version_block_size_and_kind_of_entry_is_read() {
        let shapes = [
            Built::new(4096, 5 * 4096 - 1000, &[2, FREE, 0, ZERO, 1]),
            Built::new(512, 2048, &[3, 2, 1, 0]),
            Built::new(2 << 20, 5 << 20, &[1, ZERO, 0]),
            Built { extra: 512, ..Built::new(4096, 5 * 4096, &[0, 1, 2, FREE, 3]) },
            Built { version: 0x0001_0000, ..Built::new(4096, 8192, &[0, 1]) },
            Built { version: 0, ..Built::new(4096, 3 * 4096 - 512, &[1, FREE, 0]) },
            Built { kind: 2, ..Built::new(65536, 3 * 65536 - 512, &[0, 1, 2]) },
            // More entries than the size needs.
            Built::new(4096, 4096, &[1, FREE, 0]),
            Built::new(4096, 0, &[]),
        ];
        for shape in shapes {
            let (file, guest) = shape.bytes();
            let layer = open(file).unwrap();
            assert_eq!(layer.info.virtual_size, shape.size);
            conformance::read(&*layer.device, &Memory::from(guest)).assert();
        }
    }

    #[test]
    fn a_discarded_block_is_zero_and_one_without_a_place_is_a_hole() {
        let layer = open(Built::new(4096, 3 * 4096, &[FREE, ZERO, 0]).bytes().0).unwrap();
        let statuses: Vec<_> = layer.device.extents().map(|extent| extent.unwrap().status).collect();
        assert_eq!(statuses, [BlockStatus::Hole, BlockStatus::Zero, BlockStatus::Data]);
        assert_eq!(layer.info.cluster_size, Some(4096));
    }

    #[test]
    fn lies_are_corrupt_and_what_is_not_known_is_unsupported() {
        let sound = Built::new(4096, 3 * 4096, &[0, 1, FREE]);
        let opened = |built: &Built| open(built.bytes().0).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(opened(&sound), Ok(()));
        for (built, kind) in [
            (Built { version: 0x0002_0000, ..sound.clone() }, ErrorKind::Unsupported),
            (Built { kind: 9, ..sound.clone() }, ErrorKind::Unsupported),
            (Built { kind: 4, ..sound.clone() }, ErrorKind::Corrupt),
            (Built { kind: 3, ..sound.clone() }, ErrorKind::Corrupt),
            (Built { block: 0, ..sound.clone() }, ErrorKind::Corrupt),
            (Built { block: 4097, ..sound.clone() }, ErrorKind::Corrupt),
            (Built { block: 256, ..sound.clone() }, ErrorKind::Corrupt),
            (Built { data_offset: 520, ..sound.clone() }, ErrorKind::Corrupt),
        ] {
            assert_eq!(opened(&built), Err(kind), "{built:?}");
        }
        let patched = |at: usize, value: u32| {
            let mut file = sound.bytes().0;
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            open(file).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(patched(0x40, 0), Err(ErrorKind::NotThisFormat));
        assert_eq!(patched(0x48, 100), Err(ErrorKind::Corrupt), "header size");
        assert_eq!(patched(0x154, 0x100), Err(ErrorKind::Corrupt), "map over header");
        assert_eq!(patched(0x174, 1), Err(ErrorKind::Corrupt), "4 GiB and three blocks");
        for blocks in [u32::MAX, u32::MAX - 1, u32::MAX / 2, 2] {
            assert_eq!(patched(0x180, blocks), Err(ErrorKind::Corrupt), "{blocks} blocks");
        }
        let file = sound.bytes().0;
        for length in [0, 0x40, 0x48, 0x100, 515] {
            assert_eq!(open(file[..length].to_vec()).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
        }
    }

    #[test]
    fn entries_are_checked_when_they_are_used_and_a_cut_file_is_no_zeroes() {
        for (map, bad) in [([0, 3, 1], 1_u64), ([0, 1, 7], 2), ([u32::MAX - 2, 0, 1], 0)] {
            let layer = open(Built { allocated: 2, ..Built::new(4096, 3 * 4096, &map) }.bytes().0).unwrap();
            let mut buf = [0; 1];
            assert_eq!(layer.device.read_at(&mut buf, bad * 4096).unwrap_err().kind(), ErrorKind::Corrupt, "{map:?}");
        }
        let (mut file, _) = Built::new(4096, 2 * 4096, &[0, 1]).bytes();
        file.truncate(file.len() - 1);
        let layer = open(file).unwrap();
        layer.device.read_vec(0, 4096).unwrap();
        assert_eq!(layer.device.read_vec(4096, 4096).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_block_that_is_given_away_twice_is_found_and_never_written() {
        let (file, _) = Built::new(4096, 3 * 4096, &[0, 0, 1]).bytes();
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(file));
        let report = check(&storage, true);
        assert_eq!((report.corruptions, report.corruptions_fixed), (1, 0), "{report:?}");
        let error = open_as(Source::writable(storage), Access::ReadWrite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn leaks_and_a_wrong_count_are_repaired() {
        for (allocated, map) in [(9, vec![0, 1, FREE]), (1, vec![0, 1, FREE]), (5, vec![4, FREE, 1, ZERO, 2])] {
            let built = Built { allocated, ..Built::new(4096, map.len() as u64 * 4096, &map) };
            let (file, guest) = built.bytes();
            let storage: Arc<dyn Storage> = Arc::new(Memory::from(file));
            storage.set_size(storage.size() + 10_000).unwrap();
            assert!(!check(&storage, false).is_clean(), "{built:?}");
            assert!(check(&storage, true).is_clean(), "{built:?}");
            let after = check(&storage, false);
            assert_eq!((after.corruptions, after.leaks), (0, 0), "{built:?} {after:?}");
            let layer = open_as(Source::writable(storage), Access::ReadOnly).unwrap();
            conformance::read(&*layer.device, &Memory::from(guest)).assert();
        }
    }

    #[test]
    fn existing_images_of_any_shape_are_written() {
        for built in [
            Built::new(65536, 5 * 65536 - 1024, &[2, FREE, 0, ZERO, 1]),
            Built { extra: 512, ..Built::new(4096, 40 * 4096, &[FREE; 40]) },
            Built { version: 0, ..Built::new(4096, 9 * 4096 - 512, &[1, FREE, 0, FREE, FREE, FREE, FREE, ZERO, FREE]) },
        ] {
            let storage: Arc<dyn Storage> = Arc::new(Memory::from(built.bytes().0));
            let layer = open_as(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
            let writer = layer.writer.unwrap();
            conformance::write(&*writer, 5).assert();
            writer.finish().unwrap();
            let report = check(&storage, false);
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{built:?} {report:?}");
            let again = open_as(Source::writable(storage), Access::ReadOnly).unwrap();
            conformance::read(&*again.device, &*layer.device).assert();
            assert_ne!(again.content_ids.last(), layer.content_ids.last(), "another modification UUID");
            assert_eq!(again.content_ids.first(), layer.content_ids.first());
        }
    }

    #[test]
    fn zeroes_hide_a_parent_and_a_write_of_nothing_changes_nothing() {
        let built = Built { kind: 4, parent: [3; 16], ..Built::new(4096, 4 * 4096 - 512, &[FREE, FREE, FREE, FREE]) };
        let (file, _) = built.bytes();
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(file.clone()));
        let layer = open_as(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap();
        let writer = layer.writer.unwrap();
        writer.finish().unwrap();
        assert_eq!(storage.read_vec(0, storage.size()).unwrap(), file);
        writer.write_zeroes_at(4096..layer.device.size(), transload_block::ZeroMode::Unmap).unwrap();
        let extents: Vec<_> = layer.device.extents().map(|extent| extent.unwrap().status).collect();
        assert_eq!(extents, [BlockStatus::Hole, BlockStatus::Zero]);
        assert_eq!(resize(&storage, 1 << 20, false).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn any_bytes_open_or_are_refused() {
        let (file, _) = Built::new(4096, 5 * 4096, &[2, FREE, 0, ZERO, 1]).bytes();
        let mut random = Random::new(3);
        for _ in 0..3000 {
            let mut bytes = file.clone();
            let length = bytes.len() as u64;
            for _ in 0..3 {
                let within = if random.bytes(1)[0] < 128 { 600 } else { length };
                let at = random.range(within, 4);
                let noise = random.bytes(usize::try_from(at.end - at.start).unwrap());
                bytes[usize::try_from(at.start).unwrap()..usize::try_from(at.end).unwrap()].copy_from_slice(&noise);
            }
            fuzz_open(&bytes);
        }
        for length in 0..1000 {
            fuzz_open(&file[..length]);
        }
    }

    #[test]
    fn a_size_is_changed_both_ways_and_what_comes_to_light_is_zero() {
        // A map without room for one more entry, and one with room.
        for data_offset in [532, 4096] {
            for (kind, map) in [(1, vec![2, FREE, 0, 3, 1]), (2, vec![0, 1, 2, 3, 4])] {
                let built = Built { data_offset, kind, ..Built::new(512, 5 * 512 - 100, &map) };
                let (file, mut guest) = built.bytes();
                let storage: Arc<dyn Storage> = Arc::new(Memory::from(file));
                let wanted = |guest: &[u8], storage: &Arc<dyn Storage>| {
                    let layer = open_as(Source::writable(Arc::clone(storage)), Access::ReadOnly).unwrap();
                    conformance::read(&*layer.device, &Memory::from(guest.to_vec())).assert();
                    let report = check(storage, false);
                    assert_eq!((report.corruptions, report.leaks), (0, 0), "{built:?} {report:?}");
                };
                for size in [300 * 512, 700 * 512] {
                    resize(&storage, size, false).unwrap();
                    guest.resize(usize::try_from(size).unwrap(), 0);
                    wanted(&guest, &storage);
                }
                assert_eq!(resize(&storage, 512, false).unwrap_err().kind(), ErrorKind::InvalidInput);
                resize(&storage, 1024, true).unwrap();
                guest.truncate(1024);
                wanted(&guest, &storage);
                resize(&storage, 4096, false).unwrap();
                guest.resize(4096, 0);
                wanted(&guest, &storage);
            }
        }
    }
}

#[cfg(test)]
mod others {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use transload_block::{BlockRead, BlockReadExt, BlockWrite, ErrorKind, FileBlock, Memory, Storage};
    use transload_image::vdi::FORMAT;
    use transload_image::{Access, CreateRequest, IdSource, ImageWrite, OpenSettings, OptionValues, Source, open_path};
    use transload_testkit::{Corpus, CrashStorage, MemoryTarget, Random, conformance, disks, witness};

    use crate::built::{check, open_as, resize};

    fn create(target: &MemoryTarget, size: u64, options: &str) -> transload_block::Result<Arc<dyn ImageWrite>> {
        let options = &OptionValues::parse(FORMAT.create_options, [options]).unwrap();
        let ids = &IdSource::from_material(b"test");
        FORMAT.create.unwrap()(CreateRequest { files: target, size, options, ids, backing: None, cache_bytes: 1 << 20 })
    }

    fn write_some(device: &dyn BlockWrite, seed: u64) {
        let mut random = Random::new(seed);
        for _ in 0..12 {
            let range = random.range(device.size(), 400_000);
            let bytes = random.bytes(usize::try_from(range.end - range.start).unwrap());
            device.write_at(&bytes, range.start).unwrap();
        }
    }

    #[test]
    fn new_images_keep_the_contract() {
        for (options, size) in [("", 5 << 20), ("", (3 << 20) + 1536), ("subformat=fixed", (3 << 20) + 512), ("", 512)]
        {
            let target = MemoryTarget::new("disk.vdi");
            let image = create(&target, size, options).unwrap();
            conformance::write(&*image, 3).assert();
            image.finish().unwrap();
            let report = check(&target.storage("disk.vdi").unwrap(), false);
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{report:?}");
        }
    }

    #[test]
    fn qemu_reads_what_is_written_and_finds_nothing_wrong() {
        for options in ["", "subformat=fixed", "static=on"] {
            for size in [0, 1, 512, (1 << 20) + 512, (70 << 20) + 1000, 5 << 30] {
                let target = MemoryTarget::new("disk.vdi");
                if size > 1 << 30 && !options.is_empty() {
                    continue;
                }
                let image = create(&target, size, options).unwrap();
                assert_eq!(image.size(), size.next_multiple_of(512));
                if size > 0 {
                    write_some(&*image, size);
                }
                image.finish().unwrap();
                let folder = tempfile::tempdir().unwrap();
                target.save(folder.path());
                let (path, raw) = (folder.path().join("disk.vdi"), folder.path().join("disk.raw"));
                disks::save(&*image, &raw);
                witness::assert_sound(&path, "vdi");
                witness::assert_same_guest(&raw, "raw", &path, "vdi");
            }
        }
    }

    #[test]
    fn what_qemu_writes_is_read_checked_and_resized() {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("disk.raw");
        let disk = Memory::new((9 << 20) + 1536);
        write_some(&disk, 1);
        disks::save(&disk, &raw);
        for options in ["static=off", "static=on"] {
            let path = folder.path().join("disk.vdi");
            witness::convert(&raw, "raw", &path, "vdi", options);
            let opened = open_path(&path, &OpenSettings::default()).unwrap();
            conformance::read(&*opened.device, &disk).assert();
            let storage: Arc<dyn Storage> = Arc::new(FileBlock::open(&path, true).unwrap());
            let report = check(&storage, false);
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{report:?}");
            // 200 blocks need more room than QEMU leaves behind its map.
            for size in [200 << 20, 5 << 20] {
                resize(&storage, size, true).unwrap();
                witness::assert_sound(&path, "vdi");
                let longer = Memory::from(disk.read_vec(0, disk.size().min(size)).unwrap());
                longer.set_size(size).unwrap();
                disks::save(&longer, &raw);
                witness::assert_same_guest(&raw, "raw", &path, "vdi");
            }
            disks::save(&disk, &raw);
        }
    }

    #[test]
    fn the_layout_follows_the_reservations_and_not_the_threads() {
        let file = |order: &[u64]| {
            let target = MemoryTarget::new("disk.vdi");
            let image = create(&target, 32 << 20, "").unwrap();
            let reserve = image.capabilities().reserve.unwrap();
            (0..16).for_each(|segment| reserve.reserve(segment << 21..(segment << 21) + (1 << 20)).unwrap());
            std::thread::scope(|scope| {
                for segment in order {
                    let image = &image;
                    let bytes = Random::new(*segment).bytes(1 << 20);
                    scope.spawn(move || image.write_at(&bytes, segment << 21).unwrap());
                }
            });
            image.finish().unwrap();
            let storage = target.storage("disk.vdi").unwrap();
            storage.read_vec(0, storage.size()).unwrap()
        };
        assert!(file(&(0..16).collect::<Vec<_>>()) == file(&(0..16).rev().collect::<Vec<_>>()));
    }

    #[test]
    fn refusals_of_options_and_sizes() {
        let refused = |size, options| create(&MemoryTarget::new("a.vdi"), size, options).unwrap_err().kind();
        assert_eq!(refused(1 << 20, "static=on,subformat=dynamic"), ErrorKind::InvalidInput);
        assert_eq!(refused(u64::MAX, ""), ErrorKind::TooLarge);
        assert_eq!(refused(1 << 52, ""), ErrorKind::TooLarge);
    }

    #[test]
    fn a_crash_leaves_old_or_new_and_nothing_given_away_twice() {
        let target = MemoryTarget::new("disk.vdi");
        let image = create(&target, 6 << 20, "").unwrap();
        image.write_at(&[0x11; 3 << 20], 1 << 20).unwrap();
        image.finish().unwrap();
        drop(image);
        let storage = target.storage("disk.vdi").unwrap();
        let base = Memory::from(storage.read_vec(0, storage.size()).unwrap());
        let crash = Arc::new(CrashStorage::new(base));
        let source = Source::writable(Arc::clone(&crash) as Arc<dyn Storage>);
        let writer = open_as(source, Access::ReadWrite).unwrap().writer.unwrap();
        writer.write_at(&[0x22; 2 << 20], 3 << 20).unwrap();
        writer.flush().unwrap();
        writer.write_at(&[0x44; 1 << 20], 0).unwrap();
        writer.write_at(&[0x44; 1000], 5 << 20).unwrap();
        writer.finish().unwrap();
        for crash in crash.crashes(9, 60) {
            let storage: Arc<dyn Storage> = Arc::new(crash.file);
            let report = check(&storage, false);
            assert_eq!(report.corruptions, 0, "{} {report:?}", crash.survived);
            let layer = open_as(Source::writable(Arc::clone(&storage)), Access::ReadOnly).unwrap();
            let bytes = layer.device.read_vec(0, layer.device.size()).unwrap();
            let of =
                |range: std::ops::Range<usize>, values: &[u8]| bytes[range].iter().all(|byte| values.contains(byte));
            assert!(of(0..1 << 20, &[0, 0x44]) && of(1 << 20..3 << 20, &[0x11]), "{}", crash.survived);
            assert!(of(3 << 20..4 << 20, &[0x11, 0x22]) && of(4 << 20..5 << 20, &[0, 0x22]), "{}", crash.survived);
            // And it can be written again: what is left over behind the blocks does not come to light.
            let writer = open_as(Source::writable(Arc::clone(&storage)), Access::ReadWrite).unwrap().writer.unwrap();
            writer.write_at(&[0x55], (6 << 20) - 1).unwrap();
            writer.finish().unwrap();
            assert_eq!(check(&storage, false).corruptions, 0);
            let last = writer.read_vec((5 << 20) + 1000, (1 << 20) - 1001).unwrap();
            assert!(last.iter().all(|byte| *byte == 0), "{}", crash.survived);
        }
    }

    #[test]
    fn images_of_virtualbox_have_the_digests_of_the_table() {
        let Some(corpus) = Corpus::get() else { return };
        let mut tested = 0;
        for entry in corpus.of_format("vdi") {
            let Some(digest) = &entry.sha256 else { continue };
            let opened = open_path(&corpus.file(entry), &OpenSettings::default()).unwrap();
            assert_eq!(disks::sha256(&*opened.device), *digest, "{}", entry.path);
            assert_eq!(opened.layers.len(), 1 + usize::from(entry.path.contains("diff")), "{}", entry.path);
            tested += 1;
        }
        assert!(tested >= 5, "{tested} images");
    }

    fn copy(from: &Path, folder: &Path, name: &str) {
        fs::copy(from.join(name), folder.join(name)).unwrap();
    }

    #[test]
    fn a_child_is_never_read_alone_nor_over_a_parent_that_was_changed() {
        let Some(corpus) = Corpus::get() else { return };
        let from = corpus.folder.join("virtualbox-7.2.22");
        let folder = tempfile::tempdir().unwrap();
        copy(&from, folder.path(), "diff1.vdi");
        let child = folder.path().join("diff1.vdi");
        let error = open_path(&child, &OpenSettings::default()).unwrap_err();
        assert!(error.to_string().contains("0bb302d3-9c4c-43a8-bb8a-c81ade694751"), "{error}");
        let alone = OpenSettings { chain: false, ..OpenSettings::default() };
        assert!(open_path(&child, &alone).unwrap().layers[0].parent.is_some());
        copy(&from, folder.path(), "base.vdi");
        open_path(&child, &OpenSettings::default()).unwrap();
        // A session on the parent gives it another modification UUID.
        let settings = OpenSettings { access: Access::ReadWrite, ..OpenSettings::default() };
        let parent = open_path(&folder.path().join("base.vdi"), &settings).unwrap();
        let writer = parent.layers[0].writer.as_ref().unwrap();
        writer.write_at(&[1], 0).unwrap();
        writer.finish().unwrap();
        let error = open_path(&child, &OpenSettings::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("changed after the snapshot"), "{error}");
    }

    #[test]
    fn a_child_is_written_over_its_parent() {
        let Some(corpus) = Corpus::get() else { return };
        let from = corpus.folder.join("virtualbox-7.2.22");
        let folder = tempfile::tempdir().unwrap();
        ["diff1.vdi", "base.vdi"].into_iter().for_each(|name| copy(&from, folder.path(), name));
        let child = folder.path().join("diff1.vdi");
        let model = {
            let opened = open_path(&child, &OpenSettings::default()).unwrap();
            Memory::from(opened.device.read_vec(0, opened.device.size()).unwrap())
        };
        let settings = OpenSettings { access: Access::ReadWrite, ..OpenSettings::default() };
        let opened = open_path(&child, &settings).unwrap();
        let writer = opened.writer().unwrap();
        write_some(&*writer, 4);
        write_some(&model, 4);
        opened.layers[0].writer.as_ref().unwrap().finish().unwrap();
        let again = open_path(&child, &OpenSettings::default()).unwrap();
        conformance::read(&*again.device, &model).assert();
    }
}
