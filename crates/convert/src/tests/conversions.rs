use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use transload_image::codec::Level;

use transload_block::{BlockRead, ErrorKind, Memory};

use super::fakes::{
    Disk, DiskStream, FLAT, LOG, STREAM_ONLY, UNIT, image, read_log, read_records, read_zeroed, settings,
};
use crate::{
    Compression, DigestKind, Input, Output, Plan, Progress, ProgressDelta, ScanSettings, Settings, Shape, convert,
    digest,
};

/// Sizes around units, tasks and sectors.
const SIZES: &[u64] =
    &[0, 1, 511, 4096, UNIT - 1, UNIT, UNIT + 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 512, (9 << 20) + 12345];

fn run(input: Input, settings: &Settings) -> (Vec<u8>, crate::Report) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let report = convert(input, Output::Path(path.clone()), settings).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "litter");
    (fs::read(&path).unwrap(), report)
}

fn used(disk: &Disk) -> usize {
    let bytes = disk.to_vec();
    bytes.chunks(65536).filter(|unit| unit.iter().any(|byte| *byte != 0)).count()
}

fn compressed(mut settings: Settings) -> Settings {
    settings.compression = Some(Compression { kind: None, level: Level::FAST });
    settings
}

#[test]
fn flat_targets_hold_every_byte_of_every_size() {
    for size in SIZES {
        for share in [0, 1, 4, 8] {
            let disk = Disk::mixed(*size, share);
            let wanted = disk.to_vec();
            let (file, report) = run(image(disk), &settings(&FLAT, "", 3));
            assert!(file == wanted, "{size} {share}");
            assert_eq!(report.copied + report.skipped, *size);
            assert_eq!(report.virtual_size, *size);
        }
    }
}

#[test]
fn the_layout_does_not_depend_on_threads_or_timing() {
    for options in ["reserve=on", "reserve=off"] {
        let mut first: Option<Vec<u8>> = None;
        for threads in [1, 2, 3, 5, 8] {
            let size = (20 << 20) + 777;
            let disk = Disk { delays: true, ..Disk::mixed(size, 5) };
            let (wanted, units) = (disk.to_vec(), used(&disk));
            let (file, _) = run(image(disk), &settings(&LOG, options, threads));
            assert!(read_log(&file, size, units) == wanted, "{options} {threads}");
            assert!(*first.get_or_insert_with(|| file.clone()) == file, "{options} {threads}");
        }
    }
}

#[test]
fn ordered_targets_are_the_same_for_any_number_of_threads() {
    for size in SIZES {
        let mut first: Option<Vec<u8>> = None;
        for threads in [1, 2, 8] {
            let disk = Disk { delays: true, encoded: true, ..Disk::mixed(*size, 6) };
            let wanted = disk.to_vec();
            let (file, report) = run(image(disk), &compressed(settings(&LOG, "", threads)));
            assert!(read_records(&file, *size).0 == wanted, "{size} {threads}");
            assert!(*first.get_or_insert_with(|| file.clone()) == file, "{size} {threads}");
            assert_eq!(report.copied + report.skipped, *size);
        }
    }
}

#[test]
fn compressed_units_pass_unchanged() {
    let size = 8 << 20;
    let disk = Disk { encoded: true, ..Disk::mixed(size, 8) };
    let even = disk.units.iter().filter(|(index, unit)| *index % 2 == 0 && unit.iter().any(|byte| *byte != 0)).count();
    let wanted = disk.to_vec();
    let (file, _) = run(image(disk), &compressed(settings(&LOG, "", 2)));
    let (bytes, adopted) = read_records(&file, size);
    assert!(bytes == wanted);
    assert_eq!(adopted, even);
}

#[test]
fn streams_feed_both_shapes() {
    for size in SIZES {
        let stream = |knows_size| Input::Stream {
            format: &FLAT,
            stream: Box::new(DiskStream { disk: Disk::mixed(*size, 6), knows_size }),
        };
        let disk = Disk::mixed(*size, 6);
        let (wanted, units) = (disk.to_vec(), used(&disk));
        for threads in [1, 4] {
            assert!(run(stream(true), &settings(&FLAT, "", threads)).0 == wanted, "{size} {threads}");
            let (file, _) = run(stream(true), &settings(&LOG, "", threads));
            assert!(read_log(&file, *size, units) == wanted, "{size} {threads}");
            let (file, _) = run(stream(true), &compressed(settings(&LOG, "", threads)));
            assert!(read_records(&file, *size).0 == wanted, "{size} {threads}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = convert(stream(false), Output::Path(folder.path().join("x")), &settings(&FLAT, "", 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.remedy().is_some());
    }
}

#[test]
fn a_raw_file_grows_with_a_stream_of_unknown_size() {
    let size = (3 << 20) + 5;
    let disk = Disk::mixed(size, 8);
    let wanted = disk.to_vec();
    // The stream ends with its last unit.
    let end = disk.units.last_key_value().map(|(index, _)| size.min((index + 1) * UNIT)).unwrap();
    let input = Input::Stream { format: &FLAT, stream: Box::new(DiskStream { disk, knows_size: false }) };
    let (file, report) = run(input, &settings(&transload_image::raw::FORMAT, "", 3));
    assert_eq!(report.virtual_size, end);
    assert!(file == wanted[..usize::try_from(end).unwrap()]);
}

#[derive(Clone, Debug, Default)]
struct SharedPipe(Arc<Mutex<Vec<u8>>>);

impl Write for SharedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_pipe_gets_the_ordered_shape_without_compression() {
    let disk = Disk::mixed(3 << 20, 5);
    let wanted = disk.to_vec();
    let pipe = SharedPipe::default();
    let report = convert(image(disk), Output::Pipe(Box::new(pipe.clone())), &settings(&LOG, "", 2)).unwrap();
    let file = pipe.0.lock().unwrap().clone();
    assert_eq!(report.written, file.len() as u64);
    let (bytes, adopted) = read_records(&file, 3 << 20);
    assert!(bytes == wanted);
    assert_eq!(adopted, 0);
    let verify = Settings { verify: true, ..settings(&LOG, "", 2) };
    let error = convert(image(Disk::mixed(1, 1)), Output::Pipe(Box::new(pipe)), &verify).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_raw_pipe_takes_a_stream_of_unknown_size() {
    for size in SIZES {
        for threads in [1, 4] {
            let disk = Disk::mixed(*size, 6);
            let wanted = disk.to_vec();
            let end = disk.units.last_key_value().map_or(0, |(index, _)| (*size).min((index + 1) * UNIT));
            let input = Input::Stream { format: &FLAT, stream: Box::new(DiskStream { disk, knows_size: false }) };
            let pipe = SharedPipe::default();
            let settings =
                Settings { digests: vec![DigestKind::Sha256], ..settings(&transload_image::raw::FORMAT, "", threads) };
            let report = convert(input, Output::Pipe(Box::new(pipe.clone())), &settings).unwrap();
            let written = pipe.0.lock().unwrap().clone();
            assert!(written == wanted[..usize::try_from(end).unwrap()], "{size} {threads}");
            assert_eq!((report.virtual_size, report.written), (end, end));
            let flat: Arc<dyn BlockRead> = Arc::new(Memory::from(written));
            let again = digest(&flat, &settings.digests, &ScanSettings::default()).unwrap();
            assert_eq!(report.digests, again, "{size} {threads}");
        }
    }
}

#[test]
fn room_cannot_be_set_aside_for_a_disk_of_unknown_size() {
    let stream = DiskStream { disk: Disk::mixed(1 << 20, 8), knows_size: false };
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&transload_image::raw::FORMAT, "preallocation=full", 1);
    let input = Input::Stream { format: &FLAT, stream: Box::new(stream) };
    let error = convert(input, Output::Path(folder.path().join("x")), &settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_backed_target_gets_its_zeroes_written() {
    let disk = Disk::mixed(7 << 20, 3);
    let size = disk.size;
    let wanted = disk.to_vec();
    let backing = tempfile::NamedTempFile::new().unwrap();
    let options = format!("backing_file={}", backing.path().display());
    let (file, _) = run(image(disk), &settings(&FLAT, &options, 2));
    let zeroed = read_zeroed(&file, size);
    for (page, bytes) in wanted.chunks(4096).enumerate() {
        let offset = page as u64 * 4096;
        let is_zeroed = zeroed.iter().any(|range| range.contains(&offset));
        assert_eq!(is_zeroed, bytes.iter().all(|byte| *byte == 0), "page {page}");
    }
}

#[test]
fn holes_cost_no_time() {
    let start = Instant::now();
    for format in [&LOG, &STREAM_ONLY] {
        let mut disk = Disk { size: 64 << 40, ..Disk::default() };
        disk.units.insert(5 << 20, vec![7; 65536]);
        disk.units.insert((64 << 24) - 1, vec![8; 65536]);
        let mut settings = settings(format, "", 2);
        settings.digests = Vec::new();
        let (file, report) = run(image(disk), &settings);
        assert!(file.len() < 200_000);
        assert_eq!(report.copied, 2 * UNIT);
        assert_eq!(report.skipped, (64 << 40) - 2 * UNIT);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn digests_from_the_pass_are_those_of_the_bytes() {
    for size in SIZES {
        for format in [&FLAT, &LOG, &STREAM_ONLY] {
            let disk = Disk { delays: true, ..Disk::mixed(*size, 4) };
            let bytes = disk.to_vec();
            let mut settings = settings(format, "", 4);
            settings.digests = vec![DigestKind::Sha256, DigestKind::Blake3];
            let (_, report) = run(image(disk), &settings);
            let device: Arc<dyn BlockRead> = Arc::new(Memory::from(bytes.clone()));
            let alone = digest(&device, &settings.digests, &ScanSettings::default()).unwrap();
            assert_eq!(report.digests, alone, "{size} {}", format.name);
            assert_eq!(alone[1].hex, blake3::hash(&bytes).to_hex().as_str());
        }
    }
    let empty: Arc<dyn BlockRead> = Arc::new(Memory::new(0));
    let digests = digest(&empty, &[DigestKind::Sha256], &ScanSettings::default()).unwrap();
    assert_eq!(digests[0].hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn little_memory_is_enough() {
    for format in [&FLAT, &LOG, &STREAM_ONLY] {
        let disk = Disk::mixed(5 << 20, 6);
        let mut little = settings(format, "", 8);
        little.memory = 1;
        little.digests = vec![DigestKind::Blake3];
        let digest = blake3::hash(&disk.to_vec()).to_hex();
        let (_, report) = run(image(disk), &little);
        assert_eq!(report.digests[0].hex, digest.as_str());
    }
}

#[derive(Debug, Default)]
struct Count {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Count {
    fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, delta: ProgressDelta) {
        self.done.fetch_add(delta.copied + delta.skipped, Ordering::Relaxed);
    }
}

#[test]
fn progress_adds_up_to_the_size() {
    for format in [&FLAT, &LOG, &STREAM_ONLY] {
        let count = Arc::new(Count::default());
        let mut settings = settings(format, "", 3);
        settings.progress = Some(Arc::clone(&count) as Arc<dyn Progress>);
        run(image(Disk::mixed((5 << 20) + 1, 4)), &settings);
        assert_eq!(count.total.load(Ordering::Relaxed), (5 << 20) + 1);
        assert_eq!(count.done.load(Ordering::Relaxed), (5 << 20) + 1, "{}", format.name);
    }
}

#[test]
fn a_plan_says_what_will_be_done() {
    let path = || Output::Path(Path::new("/tmp/transload-does-not-exist").to_owned());
    let input = image(Disk { encoded: true, ..Disk::mixed(1 << 20, 4) });
    let plan = Plan::new(&input, &path(), &compressed(settings(&LOG, "", 2))).unwrap();
    assert_eq!(plan.shape, Shape::Ordered);
    let text = plan.to_string();
    for words in ["1048576 bytes", "ordered", "level fast", "pass unchanged", "threads   2"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(Plan::new(&input, &path(), &settings(&LOG, "", 2)).unwrap().shape, Shape::Random);
    let flat = compressed(settings(&transload_image::raw::FORMAT, "", 2));
    assert_eq!(Plan::new(&input, &path(), &flat).unwrap_err().kind(), ErrorKind::Unsupported);
    let to_pipe = Plan::new(&input, &Output::Pipe(Box::new(io::sink())), &settings(&FLAT, "", 2));
    assert_eq!(to_pipe.unwrap_err().kind(), ErrorKind::Unsupported);
    let nowhere = Output::Path("/no/such/folder/x".into());
    assert_eq!(Plan::new(&input, &nowhere, &settings(&FLAT, "", 2)).unwrap_err().kind(), ErrorKind::InvalidInput);
}
