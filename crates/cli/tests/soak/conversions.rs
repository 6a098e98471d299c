//! The program itself: disks of terabytes through every writer, and random disks through chains of conversions.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use transload::image::{FORMATS, Format};
use transload_testkit::{Random, witness};

use crate::clock;
use crate::kinds::{Kind, written_at_random};

fn transload(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_transload")).current_dir(folder).args(arguments).output().unwrap()
}

fn succeed(folder: &Path, arguments: &[&str], what: &str) {
    let output = transload(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: transload {arguments:?}: {said}");
}

/// The kinds that are only written from front to back.
fn written_in_order() -> Vec<Kind> {
    let stream_only = |format: &'static Format| {
        let variants = format.variants.iter().filter(|variant| variant.stream_write && !variant.write);
        variants.map(move |variant| Kind { format, options: format!("subformat={}", variant.name) })
    };
    FORMATS.iter().copied().filter(|format| format.sink.is_some()).flat_map(stream_only).collect()
}

/// Data at the start, behind 4 GiB, at both sides of 2 TiB, and in the last bytes.
fn islands(size: u64) -> Vec<(u64, Vec<u8>)> {
    let places = [0, 5 << 30, (2 << 40) - 70_000, (2 << 40) + (3 << 30), size - 100_000];
    places.iter().zip(7..).map(|(place, seed)| (*place, Random::new(seed).bytes(100_000))).collect()
}

#[test]
#[ignore = "long: cargo xtask soak"]
fn a_disk_of_3_tib_goes_through_every_writer() {
    let size = (3_u64 << 40) + 512;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let raw = File::create(path.join("disk.raw")).unwrap();
    raw.set_len(size).unwrap();
    for (place, bytes) in islands(size) {
        raw.write_all_at(&bytes, place).unwrap();
    }
    let kinds = written_at_random().into_iter().map(|kind| (kind, false));
    let kinds = kinds.chain(written_in_order().into_iter().map(|kind| (kind, false))).chain([
        (Kind { format: Format::by_name("qcow2").unwrap(), options: String::new() }, true),
        (Kind { format: Format::by_name("qcow2").unwrap(), options: "compression_type=zstd".to_owned() }, true),
    ]);
    for (done, (kind, compressed)) in kinds.enumerate() {
        if done > 0 && !clock::has_time() && std::env::var_os("TRANSLOAD_SOAK_UNTIL").is_some() {
            break;
        }
        let what = format!("{} {}{}", kind.format.name, kind.options, if compressed { ", compressed" } else { "" });
        eprintln!("3 TiB: {what}");
        let mut arguments = vec!["convert", "-f", "raw", "disk.raw", "out", "-O", kind.format.name, "--verify", "-q"];
        if !kind.options.is_empty() {
            arguments.extend(["-o", &kind.options]);
        }
        arguments.extend(compressed.then_some("-c"));
        let output = transload(path, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            back(path, &kind, size, &what);
        } else {
            // Formats end somewhere, and tables that would fill the disk are not written: said before anything is made.
            assert!(said.contains("too large") || said.contains("no space left"), "{what}: {said}");
            eprintln!("3 TiB: {what}: {}", said.trim());
        }
        for left in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if !left.ends_with("disk.raw") {
                std::fs::remove_file(left).unwrap();
            }
        }
    }
}

/// The islands in what comes back out of the image.
fn back(folder: &Path, kind: &Kind, size: u64, what: &str) {
    succeed(folder, &["convert", "-f", kind.format.name, "out", "back", "-O", "raw", "-q"], what);
    let back = File::open(folder.join("back")).unwrap();
    assert!(back.metadata().unwrap().len() >= size, "{what}");
    for (place, bytes) in islands(size) {
        let mut found = vec![0; bytes.len()];
        back.read_exact_at(&mut found, place).unwrap();
        assert!(found == bytes, "{what}: what stands at {place}");
    }
}

#[test]
#[ignore = "long: cargo xtask soak"]
fn random_disks_go_through_chains_of_conversions() {
    let kinds: Vec<_> = written_at_random().into_iter().chain(written_in_order()).collect();
    for seed in clock::seeds(6) {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let size = random.below(40 << 20) + 1;
        let raw = File::create(path.join("disk.raw")).unwrap();
        raw.set_len(size).unwrap();
        for _ in 0..random.below(30) {
            let range = random.range(size, 900_000);
            let length = usize::try_from(range.end - range.start).unwrap();
            raw.write_all_at(&random.bytes(length), range.start).unwrap();
        }
        let (mut from, mut format) = ("disk.raw".to_owned(), "raw");
        let mut said = format!("seed {seed}: {size} bytes");
        for step in 0..4 {
            let kind = &kinds[usize::try_from(random.below(kinds.len() as u64)).unwrap()];
            let (to, threads) = (format!("step{step}"), (random.below(5) + 1).to_string());
            said = format!("{said} → {} {}", kind.format.name, kind.options);
            let mut arguments = vec!["convert", "-f", format, &from, &to, "-O", kind.format.name, "-q"];
            arguments.extend(["--threads", &threads, "--verify"]);
            if !kind.options.is_empty() {
                arguments.extend(["-o", &kind.options]);
            }
            succeed(path, &arguments, &said);
            if let Some(name) = kind.qemu_name() {
                witness::assert_same_guest(&path.join("disk.raw"), "raw", &path.join(&to), name);
            }
            (from, format) = (to, kind.format.name);
        }
        eprintln!("{said}");
        succeed(path, &["compare", "-f", "raw", "-F", format, "disk.raw", &from], &said);
    }
}
