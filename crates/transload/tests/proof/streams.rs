//! From pipes and to pipes: what is read or written once, from front to back, for any number of threads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};

use transload::block::{ErrorKind, Result};
use transload::convert::{Input, Output, Plan, Report, Settings};
use transload::image::{Format, OptionValues, StreamRequest};
use transload_testkit::disks::{Fill, Sample};
use transload_testkit::witness;

use super::support::{Original, TARGETS, Target, convert, files, fresh, open};

const MIB: u64 = 1 << 20;

/// A pipe that remembers what went through.
#[derive(Clone, Debug, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn samples() -> Vec<Sample> {
    let sample = |name, size, parts| Sample { name, size, parts };
    vec![
        sample("no bytes", 0, vec![]),
        sample("one byte", 1, vec![(0..1, Fill::Text)]),
        sample("empty", 3 * MIB, vec![]),
        sample("odd end", 2 * MIB + 513, vec![(0..70_000, Fill::Random), (MIB..2 * MIB + 513, Fill::Text)]),
        sample("empty end", 9 * MIB + 512, vec![(5 * MIB..6 * MIB + 1, Fill::Random), (7 * MIB..8 * MIB, Fill::Text)]),
        sample("zeroes", 2 * MIB, vec![(0..2 * MIB, Fill::WrittenZeroes)]),
    ]
}

/// The image at `path` as something that is read once.
fn streamed(path: &Path, format: &str) -> Result<Input> {
    let format = Format::by_name(format).unwrap();
    let input = Box::new(File::open(path).unwrap());
    let stream = format.stream.unwrap()(StreamRequest { input, options: &OptionValues::default() })?;
    Ok(Input::Stream { format, stream })
}

fn run(input: Input, output: Output, settings: &Settings) -> Result<Report> {
    Plan::new(&input, &output, settings)?.run(input, output, settings)
}

fn with_threads(target: &Target, threads: usize) -> Settings {
    Settings { threads: NonZeroUsize::new(threads), ..target.settings() }
}

/// What can be written to a pipe, of a source whose content is known beforehand.
const TO_PIPES: &[Target] = &[
    Target { format: "raw", options: "", compressed: false },
    Target { format: "qcow2", options: "", compressed: false },
    Target { format: "qcow2", options: "cluster_size=4k", compressed: false },
    Target { format: "qcow2", options: "extended_l2=on", compressed: false },
    Target { format: "qcow2", options: "compat=0.10,cluster_size=2M", compressed: false },
    Target { format: "vmdk", options: "subformat=streamOptimized,layout=footer", compressed: true },
    Target { format: "vmdk", options: "subformat=streamOptimized", compressed: true },
];

#[test]
fn pipes_get_the_same_sound_image_for_any_number_of_threads() {
    for sample in samples() {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(&sample, folder.path());
        for target in TO_PIPES {
            let what = format!("{} to a pipe as {target:?}", sample.name);
            let mut first: Option<Vec<u8>> = None;
            for threads in [1, 2, 5] {
                let pipe = Pipe::default();
                let output = Output::Pipe(Box::new(pipe.clone()));
                let input = Input::Image(open(&original.raw).unwrap());
                run(input, output, &with_threads(target, threads)).unwrap_or_else(|error| panic!("{what}: {error}"));
                let bytes = pipe.0.lock().unwrap().clone();
                assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{what}: {threads} threads");
            }
            let image = folder.path().join("image");
            fs::write(&image, first.unwrap()).unwrap();
            original.assert_read_in(&image, target.format, &what);
            original.assert_witnessed_in(&image, target.format, &what);
        }
    }
}

#[test]
fn what_cannot_go_to_a_pipe_says_so_before_a_byte_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    fs::write(&raw, [7; 100_000]).unwrap();
    for target in TARGETS.iter().filter(|target| target.format == "vmdk" && !target.options.contains("footer")) {
        let pipe = Pipe::default();
        let input = Input::Image(open(&raw).unwrap());
        let error = run(input, Output::Pipe(Box::new(pipe.clone())), &target.settings()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput), "{target:?}: {error}");
        assert_eq!(pipe.0.lock().unwrap().len(), 0, "{target:?}");
    }
}

/// Variants that can be read from a pipe, and how they are made.
fn stream_sources(original: &Original, folder: &Path) -> Vec<(&'static str, &'static str, std::path::PathBuf)> {
    let path = |name: &str| fresh(folder, name).join("disk.vmdk");
    let (front, footer, qemu) = (path("front"), path("footer"), path("qemu"));
    let options = "subformat=streamOptimized,layout=front";
    convert(&original.raw, &front, &Target { format: "vmdk", options, compressed: true }).unwrap();
    let options = "subformat=streamOptimized,layout=footer";
    convert(&original.raw, &footer, &Target { format: "vmdk", options, compressed: true }).unwrap();
    let mut sources = vec![("raw", "raw", original.raw.clone()), ("front", "vmdk", front), ("footer", "vmdk", footer)];
    if original.size > 0 {
        witness::convert(&original.raw, "raw", &qemu, "vmdk", "subformat=streamOptimized");
        sources.push(("qemu", "vmdk", qemu));
    }
    sources
}

#[test]
fn what_comes_from_a_pipe_is_the_same_disk_for_any_number_of_threads() {
    for sample in samples() {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(&sample, folder.path());
        for (name, format, source) in stream_sources(&original, folder.path()) {
            // How long a raw stream is shows at its end; only a raw file can grow with it.
            for target in TARGETS.iter().filter(|target| format == "vmdk" || target.format == "raw") {
                let what = format!("{} from {name} on a pipe to {target:?}", sample.name);
                let mut first = None;
                for threads in [1, 3] {
                    let out = fresh(folder.path(), "target");
                    let image = out.join("disk");
                    let input = streamed(&source, format).unwrap();
                    let settings = with_threads(target, threads);
                    let report = match run(input, Output::Path(image.clone()), &settings) {
                        Ok(report) => report,
                        Err(error) if format == "raw" && target.options.contains("preallocation") => {
                            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
                            break;
                        }
                        Err(error) => panic!("{what}: {error} {error:?}"),
                    };
                    assert_eq!(report.copied + report.skipped, report.virtual_size, "{what}");
                    if first.is_none() {
                        original_or_in_sectors(&original, &image, format, target.format, &what);
                    }
                    let found = files(&out);
                    assert!(*first.get_or_insert_with(|| found.clone()) == found, "{what}: {threads} threads");
                }
            }
        }
    }
}

/// A VMDK knows whole sectors alone, so a raw disk made of one has them too.
fn original_or_in_sectors(original: &Original, image: &Path, from: &str, format: &str, what: &str) {
    if from == "raw" || format != "raw" {
        return original.assert_read_in(image, format, what);
    }
    let opened = open(image).unwrap();
    let (size, sha256) = original.expected("vmdk");
    assert_eq!(opened.device.size(), size, "{what}");
    assert_eq!(transload_testkit::disks::sha256(&*opened.device), sha256, "{what}");
}

#[test]
fn pipe_to_pipe_without_a_file_between() {
    for sample in samples() {
        let folder = tempfile::tempdir().unwrap();
        let original = Original::new(&sample, folder.path());
        for (name, format, source) in stream_sources(&original, folder.path()) {
            for (wanted, options) in [("raw", ""), ("vmdk", "subformat=streamOptimized")] {
                let what = format!("{} from {name} to {wanted}", sample.name);
                let target = Target { format: wanted, options, compressed: wanted == "vmdk" };
                let pipe = Pipe::default();
                let input = streamed(&source, format).unwrap();
                let ended = run(input, Output::Pipe(Box::new(pipe.clone())), &target.settings());
                if format == "raw" && wanted != "raw" {
                    // How long it is shows at its end, and a header that has gone cannot be told afterwards.
                    assert_eq!(ended.unwrap_err().kind(), ErrorKind::InvalidInput, "{what}");
                    assert_eq!(pipe.0.lock().unwrap().len(), 0, "{what}");
                    continue;
                }
                ended.unwrap_or_else(|error| panic!("{what}: {error} {error:?}"));
                let image = folder.path().join("image");
                fs::write(&image, &*pipe.0.lock().unwrap()).unwrap();
                original_or_in_sectors(&original, &image, format, wanted, &what);
                if format == "vmdk" && wanted == "vmdk" {
                    original.assert_witnessed_in(&image, "vmdk", &what);
                }
            }
        }
    }
}

#[test]
fn a_pipe_that_breaks_off_leaves_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample { name: "full", size: 3 * MIB, parts: vec![(0..3 * MIB, Fill::Random)] };
    let original = Original::new(&sample, folder.path());
    let source = folder.path().join("whole.vmdk");
    let options = "subformat=streamOptimized";
    convert(&original.raw, &source, &Target { format: "vmdk", options, compressed: true }).unwrap();
    let bytes = fs::read(&source).unwrap();
    let cut = folder.path().join("cut.vmdk");
    // Before the last sector, which says only that this is the end: qemu-img leaves it out.
    for keep in [600, 21 * 512, 30_000, bytes.len() / 2, bytes.len() - 1024] {
        fs::write(&cut, &bytes[..keep]).unwrap();
        for target in TARGETS {
            let out = fresh(folder.path(), "target");
            let ended =
                streamed(&cut, "vmdk").and_then(|input| run(input, Output::Path(out.join("disk")), &target.settings()));
            let error = ended.expect_err(&format!("{keep} of {} bytes", bytes.len()));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{keep} {target:?}: {error}");
            assert_eq!(files(&out), [], "{keep} {target:?}");
        }
    }
}
