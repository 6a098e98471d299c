//! Writing, against a model in memory.

use std::io::Write;
use std::sync::{Arc, Mutex};

use transload_block::{
    BlockRead, BlockReadExt, BlockStatus, BlockWrite, Chain, ErrorKind, Form, Memory, Storage, ZeroMode,
};
use transload_image::{Access, IdSource, MeasureRequest, SinkOutput, SinkRequest, Source};
use transload_testkit::{MemoryTarget, Random, conformance, disks};

use super::support::{FORMAT, MIB, NAME, bytes, check, create, layer, options, resize, sample, try_create, writable};

#[test]
fn new_images_keep_the_block_contract() {
    for (size, text) in [
        (0, "subformat=dynamic"),
        (5 * MIB + 1536, "subformat=dynamic"),
        (9 * MIB, "subformat=dynamic,block_size=512k"),
        (5 * MIB + 512, "subformat=fixed"),
    ] {
        let (target, image) = create(size, text);
        conformance::write(&*image, 7).assert();
        image.finish().unwrap();
        let storage = target.storage(NAME).unwrap();
        let again = layer(Source::new(Arc::clone(&storage) as Arc<dyn BlockRead>), Access::ReadOnly).unwrap();
        conformance::read(&*again.device, &*image).assert();
        assert!(again.info.warnings.is_empty(), "{:?}", again.info.warnings);
        assert!(check(&storage, false).unwrap().is_clean());
        let opened = writable(&storage);
        conformance::write(&**opened.writer.as_ref().unwrap(), 8).assert();
        opened.writer.unwrap().finish().unwrap();
        assert!(check(&storage, false).unwrap().findings.is_empty());
    }
}

/// Bits that are 0 in blocks that have a place, as makers leave them that set bits one by one.
#[test]
fn sectors_that_are_not_set_read_zero_and_can_be_written() {
    let mut image = sample(6 * MIB, "");
    let block = usize::try_from(1536 + 512).unwrap();
    for (index, byte) in image[block..block + 512].iter_mut().enumerate() {
        *byte = if index % 3 == 0 { 0x0f } else { 0 };
    }
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(image));
    let opened = writable(&storage);
    let device = opened.writer.unwrap();
    let model = Memory::from(bytes(&*device));
    assert_eq!(device.read_vec(0, 4096).unwrap(), [vec![0; 2048], vec![1; 2048]].concat());
    assert_eq!(device.block_status(0..MIB).unwrap().status, BlockStatus::Zero);
    conformance::read(&*device, &model).assert();
    conformance::write(&*device, 3).assert();
    device.finish().unwrap();
    let again = writable(&storage);
    conformance::read(&*again.device, &*device).assert();
}

#[test]
fn random_writes_give_what_a_model_has() {
    for (seed, text) in [(1, "subformat=dynamic"), (2, "subformat=fixed"), (3, "block_size=512k")] {
        let size = 40 * MIB + 512;
        let (target, image) = create(size, text);
        let storage = target.storage(NAME).unwrap();
        let model = Memory::default();
        model.set_size(size).unwrap();
        let mut random = Random::new(seed);
        let mut device = image;
        for round in 0..200 {
            let range = random.range(size, 700_000);
            if random.below(4) == 0 {
                device.write_zeroes_at(range.clone(), ZeroMode::Unmap).unwrap();
                model.write_zeroes_at(range, ZeroMode::Unmap).unwrap();
            } else {
                let part = random.bytes(usize::try_from(range.end - range.start).unwrap());
                device.write_at(&part, range.start).unwrap();
                model.write_at(&part, range.start).unwrap();
            }
            if round % 60 == 59 {
                device.finish().unwrap();
                assert!(check(&storage, false).unwrap().findings.is_empty());
                device = writable(&storage).writer.unwrap();
            }
        }
        device.finish().unwrap();
        assert_eq!(disks::first_difference(&*writable(&storage).device, &model), None, "{text}");
    }
}

#[test]
fn a_child_keeps_the_contract_and_shows_its_parent() {
    let parent_bytes = sample(6 * MIB, "");
    let parent = layer(Source::new(Arc::new(Memory::from(parent_bytes))), Access::ReadOnly).unwrap();
    let target = MemoryTarget::new("child.vhd");
    let child = try_create(&target, 6 * MIB, "backing_file=./base.vhd", Some(&parent)).unwrap();
    assert_eq!(child.block_status(0..6 * MIB).unwrap().status, BlockStatus::Hole);
    let chain = Chain::writable(Arc::clone(&child) as Arc<dyn BlockWrite>, vec![Arc::clone(&parent.device)]);
    let model = Memory::from(bytes(&*parent.device));
    conformance::read(&chain, &model).assert();
    let mut random = Random::new(4);
    for _ in 0..60 {
        let range = random.range(6 * MIB, 40_000);
        if random.below(3) == 0 {
            chain.write_zeroes_at(range.clone(), ZeroMode::Unmap).unwrap();
            model.write_zeroes_at(range, ZeroMode::Unmap).unwrap();
        } else {
            let part = random.bytes(usize::try_from(range.end - range.start).unwrap());
            chain.write_at(&part, range.start).unwrap();
            model.write_at(&part, range.start).unwrap();
        }
    }
    conformance::read(&chain, &model).assert();
    child.finish().unwrap();
    let storage = target.storage("child.vhd").unwrap();
    let again = writable(&storage);
    let reference = again.parent.as_ref().unwrap();
    assert_eq!(reference.names, ["base.vhd"]);
    assert_eq!(reference.content_id, Some(parent.content_ids[0]));
    assert_eq!(again.info.backing_file.as_deref(), Some("base.vhd"));
    let chain = Chain::new(vec![Arc::clone(&again.device), Arc::clone(&parent.device)]);
    conformance::read(&chain, &model).assert();
    conformance::write(&**again.writer.as_ref().unwrap(), 5).assert();
    let wrong = try_create(&MemoryTarget::new("c"), 5 * MIB, "backing_file=base.vhd", Some(&parent)).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidInput);
    assert_eq!(resize(&storage, 7 * MIB, false).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn sizes_grow_and_shrink_and_what_is_uncovered_is_zero() {
    for text in ["subformat=dynamic", "subformat=fixed"] {
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(sample(6 * MIB, text)));
        let before = bytes(&*writable(&storage).device);
        // The last one needs a longer table than the first sector of it has room for.
        for size in [6 * MIB + 512, 5 * MIB, 5 * MIB, 7 * MIB, MIB / 2 + 512, 6 * MIB, 300 * MIB] {
            let old = writable(&storage).device.size();
            if size < old {
                assert_eq!(resize(&storage, size, false).unwrap_err().kind(), ErrorKind::InvalidInput);
            }
            let expected = bytes(&*writable(&storage).device);
            resize(&storage, size, true).unwrap();
            let opened = writable(&storage);
            assert!(opened.info.warnings.is_empty() && opened.device.size() == size, "{:?}", opened.info);
            let kept = usize::try_from(size.min(old)).unwrap();
            let found = bytes(&*opened.device);
            assert!(found[..kept] == expected[..kept] && found[kept..].iter().all(|byte| *byte == 0), "{text} {size}");
            assert_eq!(check(&storage, false).unwrap().corruptions, 0, "{text} {size}");
        }
        let opened = writable(&storage);
        let kept = usize::try_from(MIB / 2).unwrap();
        assert!(opened.device.read_vec(0, MIB / 2).unwrap() == before[..kept]);
        conformance::write(&**opened.writer.as_ref().unwrap(), 6).assert();
        assert_eq!(resize(&storage, 2041 << 30, false).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn the_same_disk_gives_the_same_image_and_as_long_as_was_measured() {
    for text in ["subformat=dynamic", "subformat=fixed", "block_size=512k"] {
        let image = sample(9 * MIB, text);
        assert!(image == sample(9 * MIB, text));
        let device = layer(Source::new(Arc::new(Memory::from(image.clone()))), Access::ReadOnly).unwrap().device;
        let extents: Vec<_> = device.extents().map(Result::unwrap).collect();
        let values = options(text);
        let request = MeasureRequest { size: 9 * MIB, options: &values, extents: &extents };
        let measure = FORMAT.measure.unwrap()(request).unwrap();
        assert_eq!(measure.required, image.len() as u64, "{text}");
    }
}

#[test]
fn a_fixed_image_from_front_to_back_is_the_one_written_in_place() {
    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);
    impl Write for Pipe {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let size = 5 * MIB + 512;
    let pipe = Pipe::default();
    let target = MemoryTarget::new(NAME);
    let (ids, values) = (IdSource::from_material(b"subformat=fixed"), options("subformat=fixed"));
    for output in [SinkOutput::Pipe(Box::new(pipe.clone())), SinkOutput::Files(&target)] {
        let request = SinkRequest { output, name: NAME, size, options: &values, level: None, ids: &ids, extents: None };
        let mut sink = FORMAT.sink.unwrap()(request).unwrap();
        let unit = vec![7; usize::try_from(MIB).unwrap()];
        sink.append(MIB, Form::Plain, &unit).unwrap();
        sink.append(5 * MIB, Form::Plain, &unit).unwrap();
        assert_eq!(sink.append(2 * MIB, Form::Plain, &unit).unwrap_err().kind(), ErrorKind::InvalidInput);
        sink.finish().unwrap();
    }
    let (in_place, image) = create(size, "subformat=fixed");
    image.write_at(&vec![7; usize::try_from(MIB).unwrap()], MIB).unwrap();
    image.write_at(&[7; 512], 5 * MIB).unwrap();
    image.finish().unwrap();
    let expected = bytes(&*in_place.storage(NAME).unwrap());
    assert!(*pipe.0.lock().unwrap() == expected);
    assert!(bytes(&*target.storage(NAME).unwrap()) == expected);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (text, size, kind) in [
        ("force_size=off", MIB, ErrorKind::InvalidInput),
        ("subformat=differencing", MIB, ErrorKind::InvalidInput),
        ("subformat=fixed,block_size=2M", MIB, ErrorKind::InvalidInput),
        ("block_size=1M", MIB, ErrorKind::InvalidInput),
        ("round_up=1000", MIB, ErrorKind::InvalidInput),
        ("backing_file=x.vhd", MIB, ErrorKind::InvalidInput),
        ("subformat=dynamic", (2040 << 30) + 1, ErrorKind::TooLarge),
        ("subformat=fixed", u64::MAX, ErrorKind::TooLarge),
    ] {
        let error = try_create(&MemoryTarget::new(NAME), size, text, None).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
    }
    let (_, image) = create(2040 << 30, "force_size=on");
    assert_eq!(image.size(), 2040 << 30);
    image.write_at(&[1], (2040 << 30) - 1).unwrap();
    image.finish().unwrap();
    assert_eq!(create(MIB + 1, "round_up=1M").1.size(), 2 * MIB);
    assert_eq!(create(1, "").1.size(), 512);
    let device = Arc::new(Memory::from(vec![0; 1 << 20]));
    let target = MemoryTarget::new(NAME).with_storage(NAME, device);
    assert_eq!(try_create(&target, MIB, "", None).unwrap_err().kind(), ErrorKind::Unsupported);
}
