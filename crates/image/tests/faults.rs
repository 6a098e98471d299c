//! Storage that runs full or fails, at every single operation, beneath every writer, repair and resize.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use transload_image::codec::Level;

use transload_block::{
    BlockRead, BlockStatus, BlockWrite, Error, ErrorKind, Extent, Form, Memory, Result, Storage, ZeroMode, is_all_zero,
};
use transload_image::{
    Access, CheckReport, CheckRequest, CreateRequest, Format, IdSource, OpenSettings, OptionValues, ReferenceGate,
    ResizeRequest, SinkOutput, SinkRequest, Source, open,
};
use transload_testkit::{Counted, MemoryTarget, Misbehaving, Operation, Random};

const SIZE: u64 = 1 << 20;

/// Random writing: format, options, the file that holds the data, and the primary one.
const RANDOM: &[(&str, &str, &[&str])] = &[
    ("raw", "", &["disk"]),
    ("raw", "preallocation=full", &["disk"]),
    ("qcow2", "cluster_size=4k", &["disk"]),
    ("qcow2", "cluster_size=16k,extended_l2=on,lazy_refcounts=on", &["disk"]),
    ("qcow2", "cluster_size=64k,preallocation=full", &["disk"]),
    ("vmdk", "subformat=monolithicSparse", &["disk"]),
    ("vmdk", "subformat=monolithicFlat", &["disk", "disk-flat.vmdk"]),
    ("vmdk", "subformat=twoGbMaxExtentSparse", &["disk", "disk-s001.vmdk"]),
    ("vmdk", "subformat=twoGbMaxExtentFlat", &["disk", "disk-f001.vmdk"]),
    ("vmdk", "subformat=vmfs", &["disk", "disk-flat.vmdk"]),
    ("vhd", "block_size=512k", &["disk"]),
    ("vhd", "subformat=fixed", &["disk"]),
    ("vhdx", "block_size=1M", &["disk"]),
    ("vhdx", "subformat=fixed,block_size=1M", &["disk"]),
    ("vdi", "", &["disk"]),
    ("vdi", "subformat=fixed", &["disk"]),
];

/// Writing from front to back.
const ORDERED: &[(&str, &str)] = &[
    ("raw", ""),
    ("qcow2", "cluster_size=16k"),
    ("qcow2", "compression_type=zstd"),
    ("vmdk", "subformat=streamOptimized,layout=front"),
    ("vmdk", "subformat=streamOptimized,layout=footer"),
    ("vhd", "subformat=fixed"),
];

fn format(name: &str) -> &'static Format {
    Format::by_name(name).unwrap()
}

fn options(format: &Format, text: &str) -> OptionValues {
    OptionValues::parse(format.create_options, Some(text).filter(|text| !text.is_empty())).unwrap()
}

/// A disk with data that does not compress, zeroes, and data again.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    let noise = Random::new(3).bytes(300_000);
    bytes[..200_000].copy_from_slice(&noise[..200_000]);
    bytes[700_001..800_001].copy_from_slice(&noise[200_000..]);
    bytes
}

/// What is in it, in units of 64 KiB.
const EXTENTS: &[Extent] = &[
    Extent { offset: 0, length: 4 << 16, status: BlockStatus::Data },
    Extent { offset: 4 << 16, length: 6 << 16, status: BlockStatus::Hole },
    Extent { offset: 10 << 16, length: 3 << 16, status: BlockStatus::Data },
    Extent { offset: 13 << 16, length: 3 << 16, status: BlockStatus::Hole },
];

/// Makes an image at random places in files that may misbehave.
fn write_randomly(format: &Format, text: &str, files: &MemoryTarget) -> Result<()> {
    let ids = IdSource::from_material(b"faults");
    let options = options(format, text);
    let request = CreateRequest { files, size: SIZE, options: &options, ids: &ids, backing: None, cache_bytes: 4096 };
    let image = format.create.unwrap()(request)?;
    let disk = disk();
    for (number, part) in disk.chunks(70_000).enumerate() {
        if !is_all_zero(part) {
            image.write_at(part, number as u64 * 70_000)?;
        }
    }
    image.flush()?;
    image.write_zeroes_at(100_000..300_000, ZeroMode::Unmap)?;
    image.finish()
}

/// Makes an image from front to back.
fn write_in_order(format: &Format, text: &str, output: SinkOutput<'_>) -> Result<()> {
    let (level, extents) = match output {
        // Laid out ahead of its data, and so not compressed.
        SinkOutput::Pipe(_) if format.name == "qcow2" => (None, Some(EXTENTS)),
        _ => (Some(Level::FAST), None),
    };
    let options = options(format, text);
    let ids = IdSource::from_material(b"faults");
    let request = SinkRequest { output, name: "disk", size: SIZE, options: &options, level, ids: &ids, extents };
    let mut sink = format.sink.unwrap()(request)?;
    let encoder = sink.encoder();
    let unit_size = usize::try_from(encoder.unit_size()).unwrap();
    let mut stored = Vec::new();
    for (number, part) in disk().chunks(unit_size).enumerate() {
        let mut unit = part.to_vec();
        unit.resize(unit_size, 0);
        if is_all_zero(&unit) {
            continue;
        }
        let form = encoder.encode(&unit, &mut stored)?;
        let bytes = if form == Form::Plain { &unit } else { &stored };
        sink.append((number * unit_size) as u64, form, bytes)?;
    }
    sink.finish()
}

/// A target whose file `name` misbehaves as `plan` says.
fn target(name: &str, plan: impl FnOnce(&Misbehaving)) -> (MemoryTarget, Arc<Misbehaving>) {
    let storage = Arc::new(Misbehaving::new(Arc::new(Memory::default())));
    plan(&storage);
    (MemoryTarget::new("disk").with_storage(name, Arc::clone(&storage) as Arc<dyn Storage>), storage)
}

#[track_caller]
fn assert_fails(answer: &Result<()>, kind: ErrorKind, what: &str) {
    let found = answer.as_ref().err().map(Error::kind);
    assert_eq!(found, Some(kind), "{what}: {answer:?}");
}

/// How many operations of one sort `write` does: the first number from which on nothing fails for good.
fn count(write: &impl Fn(&MemoryTarget) -> Result<()>, file: &str, sort: Operation) -> u64 {
    let fails = |number| {
        let (files, _) = target(file, |storage| storage.fail_from(Counted::Only(sort), number, ErrorKind::Io));
        write(&files).is_err()
    };
    let mut above = 1;
    while fails(above - 1) {
        above *= 2;
    }
    let (mut low, mut high) = (above / 2, above - 1);
    while low < high {
        let middle = low.midpoint(high);
        if fails(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Runs `write` into a file that fails at each of its operations in turn, and that is full after some bytes.
fn fail_at_each(file: &str, what: &str, write: impl Fn(&MemoryTarget) -> Result<()>) {
    let (files, storage) = target(file, |_| ());
    let whole = write(&files);
    assert!(whole.is_ok(), "{what}: {whole:?}");
    let counts = storage.counts();
    assert!(counts.writes > 0, "{what}: {file} is written");
    for number in 0..counts.writes {
        let (files, _) = target(file, |storage| storage.fail_from(Counted::Writes, number, ErrorKind::NoSpace));
        assert_fails(&write(&files), ErrorKind::NoSpace, &format!("{what}: {file}: from operation {number}"));
    }
    // A storage that fails once and then works again: the failure is not forgotten. (A change of size may be tried
    // again with a smaller one.)
    for sort in [Operation::Write, Operation::Zero, Operation::Flush] {
        let operations = count(&write, file, sort);
        for number in 0..operations {
            let (files, _) = target(file, |storage| storage.fail_at(Counted::Only(sort), number, ErrorKind::Io));
            let answer = write(&files);
            assert_fails(&answer, ErrorKind::Io, &format!("{what}: {file}: {sort:?} {number}"));
        }
    }
    for number in 0..16 {
        let room = counts.bytes_written.saturating_sub(1) * number / 15;
        let (files, _) = target(file, |storage| storage.run_full_after(room));
        assert_fails(&write(&files), ErrorKind::NoSpace, &format!("{what}: {file}: room for {room}"));
    }
}

#[test]
fn a_full_disk_under_random_writing_is_no_space_at_every_operation() {
    for (name, text, files) in RANDOM {
        for file in *files {
            fail_at_each(file, &format!("{name} {text}"), |files| write_randomly(format(name), text, files));
        }
    }
}

#[test]
fn a_full_disk_under_writing_in_order_is_no_space_at_every_operation() {
    for (name, text) in ORDERED {
        fail_at_each("disk", &format!("{name} {text}"), |files| {
            write_in_order(format(name), text, SinkOutput::Files(files))
        });
    }
}

/// A pipe whose reader goes away, or whose disk is full, after some bytes.
#[derive(Clone)]
struct Pipe {
    left: usize,
    kind: io::ErrorKind,
    written: Arc<Mutex<usize>>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.left);
        if length == 0 && !bytes.is_empty() {
            return Err(self.kind.into());
        }
        self.left -= length;
        *self.written.lock().unwrap() += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_pipe_that_breaks_anywhere_is_an_error() {
    for (name, text) in [("raw", ""), ("qcow2", ""), ("vmdk", "subformat=streamOptimized")] {
        let whole = Pipe { left: usize::MAX, kind: io::ErrorKind::BrokenPipe, written: Arc::default() };
        write_in_order(format(name), text, SinkOutput::Pipe(Box::new(whole.clone()))).unwrap();
        let length = *whole.written.lock().unwrap();
        for (kind, wanted) in
            [(io::ErrorKind::BrokenPipe, ErrorKind::Io), (io::ErrorKind::StorageFull, ErrorKind::NoSpace)]
        {
            for left in (0..length).step_by(30_011).chain([length - 1]) {
                let pipe = Pipe { left, kind, written: Arc::default() };
                let answer = write_in_order(format(name), text, SinkOutput::Pipe(Box::new(pipe)));
                assert_fails(&answer, wanted, &format!("{name}: after {left} of {length} bytes"));
            }
        }
    }
}

/// An image in memory, made by random writing.
fn image(name: &str, text: &str) -> Memory {
    let files = MemoryTarget::new("disk");
    write_randomly(format(name), text, &files).unwrap();
    Memory::clone(&files.memory("disk").unwrap())
}

fn check(format: &Format, storage: &Arc<dyn Storage>, repair: bool) -> Result<CheckReport> {
    let source = Source::writable(Arc::clone(storage));
    format.check.unwrap()(CheckRequest { source, gate: &ReferenceGate::Deny, repair })
}

fn contents(format: &'static Format, storage: &Arc<dyn Storage>) -> Vec<u8> {
    let settings = OpenSettings {
        format: Some(format),
        gate: ReferenceGate::Deny,
        access: Access::ReadOnly,
        ..OpenSettings::default()
    };
    let opened = open(Source::writable(Arc::clone(storage)), &settings).unwrap();
    let mut bytes = vec![0; usize::try_from(opened.device.size()).unwrap()];
    opened.device.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Runs `act` on copies of `patient` whose writes fail from each on in turn, and `judge`s what is left of each.
fn break_off_at_each(
    patient: &Memory,
    act: impl Fn(&Arc<dyn Storage>) -> Result<()>,
    judge: impl Fn(&Arc<dyn Storage>, u64),
) {
    for number in 0.. {
        assert!(number < 5000, "it never gets through");
        let inner: Arc<dyn Storage> = Arc::new(patient.clone());
        let storage = Arc::new(Misbehaving::new(Arc::clone(&inner)));
        storage.fail_from(Counted::Writes, number, ErrorKind::Io);
        let answer = act(&(Arc::clone(&storage) as Arc<dyn Storage>));
        judge(&inner, number);
        match answer {
            Ok(()) => {
                assert!(number > 0, "nothing was made to fail");
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{number}: {error}"),
        }
    }
}

#[test]
fn a_repair_that_breaks_off_anywhere_makes_nothing_worse() {
    for (name, text) in [
        ("qcow2", "cluster_size=4k"),
        ("qcow2", "cluster_size=16k,extended_l2=on"),
        ("qcow2", "cluster_size=512,refcount_bits=1"),
        ("vmdk", "subformat=monolithicSparse"),
    ] {
        let format = format(name);
        let sound = image(name, text);
        let expected = contents(format, &(Arc::new(sound.clone()) as Arc<dyn Storage>));
        for seed in 0..6 {
            let patient = wounded(&sound, name, seed);
            let before = check(format, &(Arc::new(patient.clone()) as Arc<dyn Storage>), false).unwrap();
            assert!(!before.findings.is_empty(), "{name} {text} {seed}: nothing is wrong");
            break_off_at_each(
                &patient,
                |storage| check(format, storage, true).map(drop),
                |left, number| {
                    let after = check(format, left, false).unwrap();
                    let what = format!("{name} {text} {seed}: broken off at {number}: {:?}", after.findings);
                    assert!(after.corruptions <= before.corruptions, "{what}");
                    assert!(contents(format, left) == expected, "{what}");
                    // And a repair that gets through mends the rest.
                    assert!(check(format, left, true).unwrap().is_clean(), "{what}");
                    assert!(check(format, left, false).unwrap().findings.is_empty(), "{what}");
                },
            );
        }
    }
}

/// A copy with wrong counts or tables, and unused space at its end.
fn wounded(sound: &Memory, name: &str, seed: u64) -> Memory {
    let patient = sound.clone();
    let mut random = Random::new(seed);
    let read = |at: u64| {
        let mut bytes = [0; 8];
        patient.read_at(&mut bytes, at).unwrap();
        bytes
    };
    if name == "qcow2" {
        let table = u64::from_be_bytes(read(48));
        let block = u64::from_be_bytes(read(table));
        for _ in 0..4 {
            let at = block + random.below(32);
            let [old, ..] = read(at);
            // Counts that are too low, too high, and of clusters that are not there.
            patient.write_at(&[old ^ 1 << random.below(2)], at).unwrap();
        }
    } else {
        // One copy of a grain table, and the mark of an image in use.
        let directory = u64::from_le_bytes(read(48)) * 512;
        let [a, b, c, d, ..] = read(directory);
        let table = u64::from(u32::from_le_bytes([a, b, c, d])) * 512;
        patient.write_at(&random.bytes(8), table + random.below(16)).unwrap();
        patient.write_at(&[1], 72).unwrap();
    }
    patient
}

#[test]
fn a_resize_that_breaks_off_anywhere_leaves_a_sound_image() {
    for (name, text) in [
        ("qcow2", "cluster_size=512"),
        ("qcow2", "cluster_size=16k,extended_l2=on"),
        ("qcow2", "compat=v2"),
        ("vhd", "block_size=512k"),
        ("vhdx", "block_size=1M"),
        ("vdi", ""),
    ] {
        let format = format(name);
        let sound = image(name, text);
        let expected = contents(format, &(Arc::new(sound.clone()) as Arc<dyn Storage>));
        for size in [SIZE * 3, SIZE * 64, SIZE / 2 + 512, 512] {
            if name == "vhdx" && size < SIZE {
                // A VHDX is not made smaller.
                continue;
            }
            break_off_at_each(
                &sound,
                |storage| {
                    let source = Source::writable(Arc::clone(storage));
                    format.resize.unwrap()(ResizeRequest { source, gate: &ReferenceGate::Deny, size, shrink: true })
                },
                |left, number| {
                    let report = check(format, left, false).unwrap();
                    let what = format!("{name} {text} to {size}, broken off at {number}: {:?}", report.findings);
                    // A VHD has its footer twice; of two that differ one counts, and a repair writes it over the other. The
                    // log of a VHDX is replayed.
                    let mended = ["vhd", "vhdx"].contains(&name) && check(format, left, true).unwrap().is_clean();
                    assert!(report.corruptions == 0 || mended, "{what}");
                    let now = contents(format, left);
                    let kept = now.len().min(expected.len()).min(usize::try_from(size).unwrap());
                    assert!(now[..kept] == expected[..kept], "{what}");
                },
            );
        }
    }
}

/// A slot of a grain table behind the disk's last grain names space at the end of the file: cutting that off made the
/// slot a corruption that no repair could mend.
#[test]
fn a_repair_keeps_what_slots_behind_the_disk_name() {
    let patient = image("vmdk", "subformat=monolithicSparse");
    let read = |at: u64| {
        let mut bytes = [0; 8];
        patient.read_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let end = patient.size().next_multiple_of(65_536);
    patient.set_size(end + (1 << 20)).unwrap();
    patient.write_at(&[1; 512], end).unwrap();
    for directory in [read(48), read(56)] {
        let table = read(directory * 512) & 0xffff_ffff;
        patient.write_at(&u32::try_from(end / 512).unwrap().to_le_bytes(), table * 512 + 4 * 40).unwrap();
    }
    transload_image::properties::vmdk_check(&patient.to_vec());
}
