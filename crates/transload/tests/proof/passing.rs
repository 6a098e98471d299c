//! Compressed units that go over as they are: the same streams in another wrapper, and what other readers make of them.
//!
//! A grain of a VMDK is deflated with a window of 32 KiB; QEMU opens the deflate streams of a qcow2 with one of 4 KiB, and can
//! read them nevertheless, since it inflates a cluster in one call. docs/adr/0018-units-pass-between-formats.md says what
//! follows from that; here are the readers.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use transload::block::{BlockRead, ErrorKind, Result};
use transload::convert::{Compression, FastPath, Input, Output, Plan, Report, Settings};
use transload::image::codec::Level;
use transload::image::{Format, OptionValues, StreamRequest};
use transload_testkit::witness;

use super::support::open;

const UNIT: u64 = 64 << 10;
const UNITS: u64 = 24;

/// A disk with repetitions 20 000 bytes apart, far beyond 4 KiB; noise, text, a hole, and an end that is no whole unit.
fn write_disk(path: &Path) {
    let mut state = 7_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56).to_le_bytes()[0]
        };
        (0..length).map(|_| byte()).collect()
    };
    let mut disk = Vec::new();
    for index in 0..UNITS {
        let unit: Vec<u8> = match index % 6 {
            0 => noise(20_000).into_iter().cycle().take(65536).collect(),
            1 => b"words and more words; ".iter().copied().cycle().take(65536).collect(),
            2 => noise(65536),
            3 => vec![0; 65536],
            4 => noise(65536).iter().map(|byte| b"abcdefgh"[usize::from(byte % 8)]).collect(),
            _ => [noise(30_000), vec![9; 5_536], noise(30_000)].concat(),
        };
        disk.extend(unit);
    }
    disk.extend_from_slice(&noise(700).repeat(4)[..2560]);
    fs::write(path, disk).unwrap();
}

fn settings(format: &str, options: &str) -> Settings {
    let format = Format::by_name(format).unwrap();
    let words = options.split(',').filter(|word| !word.is_empty());
    Settings {
        options: OptionValues::parse(format.create_options, words).unwrap(),
        compression: Some(Compression { kind: None, level: Level::default() }),
        force: true,
        ..Settings::new(format)
    }
}

const VMDK: (&str, &str) = ("vmdk", "subformat=streamOptimized");
const ZLIB: (&str, &str) = ("qcow2", "compression_type=zlib");
const ZSTD: (&str, &str) = ("qcow2", "compression_type=zstd");

fn run(input: Input, target: &Path, settings: &Settings) -> Result<Report> {
    let output = Output::Path(target.to_owned());
    Plan::new(&input, &output, settings)?.run(input, output, settings)
}

fn converted(source: &Path, target: &Path, (format, options): (&str, &str)) {
    run(Input::Image(open(source).unwrap()), target, &settings(format, options)).unwrap();
}

fn streamed(path: &Path, format: &str) -> Input {
    let format = Format::by_name(format).unwrap();
    let input = Box::new(fs::File::open(path).unwrap());
    Input::Stream {
        format,
        stream: format.stream.unwrap()(StreamRequest { input, options: &OptionValues::default() }).unwrap(),
    }
}

/// The stored bytes of every compressed unit, by the guest's offset, without what stands behind a stream.
fn units(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let opened = open(path).unwrap();
    let device: &dyn BlockRead = &*opened.device;
    let encoded = device.capabilities().encoded.unwrap();
    let mut found = Vec::new();
    for offset in (0..device.size()).step_by(usize::try_from(UNIT).unwrap()) {
        let mut stored = Vec::new();
        if let Some(unit) = encoded.read_encoded(offset, &mut stored).unwrap() {
            let mut plain = vec![0; usize::try_from(UNIT).unwrap()];
            transload::image::codec::decode_and_trim(unit.codec, &mut stored, &mut plain).unwrap();
            found.push((offset, stored));
        }
    }
    found
}

struct Images {
    folder: tempfile::TempDir,
}

impl Images {
    /// A raw disk, and a streamOptimized VMDK of it made by qemu-img, whose zlib has a window of 32 KiB.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_disk(&folder.path().join("raw"));
        witness::convert(&folder.path().join("raw"), "raw", &folder.path().join("vmdk"), "vmdk", VMDK.1);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The VMDK passed on into a qcow2.
    fn passed(&self) -> PathBuf {
        let target = self.path("qcow2");
        converted(&self.path("vmdk"), &target, ZLIB);
        target
    }
}

#[test]
fn grains_become_clusters_and_clusters_grains() {
    let images = Images::new();
    let (raw, vmdk, qcow2) = (images.path("raw"), images.path("vmdk"), images.passed());
    witness::assert_same_guest(&raw, "raw", &qcow2, "qcow2");
    witness::assert_sound(&qcow2, "qcow2");
    let (grains, clusters) = (units(&vmdk), units(&qcow2));
    let same = clusters.iter().filter(|(offset, cluster)| {
        let grain = grains.iter().find(|(at, _)| at == offset);
        // Header and checksum off.
        grain.is_some_and(|(_, grain)| grain[2..grain.len() - 4] == **cluster)
    });
    // What does not shrink is a plain cluster, and the grain that the disk's end cuts off is stored anew.
    assert!(clusters.len() >= 16 && same.count() >= clusters.len() - 1, "{} clusters", clusters.len());
    // And back.
    let back = images.path("back");
    converted(&qcow2, &back, VMDK);
    witness::assert_same_guest(&raw, "raw", &back, "vmdk");
    let again = units(&back);
    let same = clusters.iter().filter(|(offset, cluster)| {
        again.iter().any(|(at, grain)| at == offset && grain[2..grain.len() - 4] == **cluster)
    });
    assert!(same.count() >= clusters.len() - 1, "of {}", clusters.len());
}

#[test]
fn the_same_format_copies_its_units() {
    let images = Images::new();
    for (index, kind) in [VMDK, ZLIB, ZSTD].into_iter().enumerate() {
        let (first, second) = (images.path(&format!("first{index}")), images.path(&format!("second{index}")));
        // Made by another level than that of the copy, so that what is compressed again would differ.
        let first_settings = Settings {
            compression: Some(Compression { kind: None, level: Level::number(9).unwrap() }),
            ..settings(kind.0, kind.1)
        };
        run(Input::Image(open(&images.path("raw")).unwrap()), &first, &first_settings).unwrap();
        converted(&first, &second, kind);
        witness::assert_same_guest(&images.path("raw"), "raw", &second, kind.0);
        let (before, after) = (units(&first), units(&second));
        assert_eq!(before.len(), after.len());
        let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        assert!(same >= before.len() - 1, "{kind:?}: {same} of {}", before.len());
        // A copy of a copy does not grow by what stands behind the streams.
        let third = images.path(&format!("third{index}"));
        converted(&second, &third, kind);
        assert_eq!(fs::metadata(&second).unwrap().len(), fs::metadata(&third).unwrap().len(), "{kind:?}");
    }
}

#[test]
fn a_stream_passes_like_a_file_and_trust_changes_no_byte() {
    let images = Images::new();
    let wanted = fs::read(images.passed()).unwrap();
    for (input, trust_source) in [
        (streamed(&images.path("vmdk"), "vmdk"), false),
        (streamed(&images.path("vmdk"), "vmdk"), true),
        (Input::Image(open(&images.path("vmdk")).unwrap()), true),
    ] {
        let target = images.path("other");
        let seed = Some("one".to_owned());
        let checked = Settings { trust_source, seed, ..settings(ZLIB.0, ZLIB.1) };
        let plan = Plan::new(&input, &Output::Path(target.clone()), &checked).unwrap();
        assert!(plan.fast_paths.contains(&FastPath::PassThrough));
        assert_eq!(plan.trust_source, trust_source);
        assert_eq!(plan.to_string().contains("unchecked"), trust_source, "{plan}");
        run(input, &target, &checked).unwrap();
        assert!(fs::read(&target).unwrap() == wanted, "trusted: {trust_source}");
    }
}

#[test]
fn a_damaged_unit_is_found_unless_the_source_is_trusted() {
    let images = Images::new();
    let mut bytes = fs::read(images.path("vmdk")).unwrap();
    let (_, grain) = units(&images.path("vmdk")).swap_remove(4);
    let place = bytes.windows(grain.len()).position(|window| window == grain).unwrap();
    // Its checksum.
    bytes[place + grain.len() - 1] ^= 1;
    let damaged = images.path("damaged");
    fs::write(&damaged, bytes).unwrap();
    // Without a seed, identifiers come from samples of the content, this unit among them.
    let mut wanted = Settings { seed: Some("any".to_owned()), ..settings(ZLIB.0, ZLIB.1) };
    let target = images.path("target");
    let error = run(Input::Image(open(&damaged).unwrap()), &target, &wanted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!target.exists());
    wanted.trust_source = true;
    run(Input::Image(open(&damaged).unwrap()), &target, &wanted).unwrap();
    // A digest needs every byte, and so finds it whatever is trusted.
    wanted.digests = vec![transload::convert::DigestKind::Blake3];
    assert_eq!(run(Input::Image(open(&damaged).unwrap()), &target, &wanted).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn units_of_different_sizes_are_compressed_anew() {
    let images = Images::new();
    let target = images.path("target");
    let other = settings("qcow2", "cluster_size=128k");
    let input = Input::Image(open(&images.path("vmdk")).unwrap());
    let plan = Plan::new(&input, &Output::Path(target.clone()), &other).unwrap();
    assert!(!plan.fast_paths.contains(&FastPath::PassThrough), "{plan}");
    run(input, &target, &Settings { trust_source: true, ..other }).unwrap();
    witness::assert_same_guest(&images.path("raw"), "raw", &target, "qcow2");
}

/// The streams behind each other, each with its length and the bytes that it holds: what the scripts below read.
fn write_streams(images: &Images, path: &Path) {
    let raw = fs::read(images.path("raw")).unwrap();
    let mut all = Vec::new();
    for (offset, stored) in units(&images.passed()) {
        let start = usize::try_from(offset).unwrap();
        let mut unit = raw[start..raw.len().min(start + 65536)].to_vec();
        unit.resize(65536, 0);
        all.extend_from_slice(&u32::try_from(stored.len()).unwrap().to_le_bytes());
        all.extend_from_slice(&stored);
        all.extend_from_slice(&unit);
    }
    fs::write(path, all).unwrap();
}

#[test]
fn zlib_inflates_them_in_one_call_with_a_window_of_4_kib() {
    const SCRIPT: &str = "
import struct, sys, zlib
data, at, small = open(sys.argv[1], 'rb').read(), 0, 0
while at < len(data):
    (length,) = struct.unpack_from('<I', data, at)
    stored, unit = data[at + 4:at + 4 + length], data[at + 4 + length:at + 4 + length + 65536]
    at += 4 + length + 65536
    for bits in (-12, -15):
        assert zlib.decompress(stored, bits, 65536) == unit, bits
    try:
        pieces, rest = zlib.decompressobj(-12), stored
        while rest:
            pieces.decompress(rest, 1024)
            rest = pieces.unconsumed_tail
    except zlib.error as error:
        assert 'too far back' in str(error), error
        small += 1
print(small)
";
    let images = Images::new();
    let streams = images.path("streams");
    write_streams(&images, &streams);
    let said = witness::must("python3", [OsStr::new("-c"), OsStr::new(SCRIPT), streams.as_os_str()]);
    // The streams do reach back further than 4 KiB: in pieces, that window does not do.
    assert!(said.trim().parse::<u32>().unwrap() >= 4, "{said}");
}

#[test]
fn seven_zip_and_libqcow_read_the_clusters() {
    let images = Images::new();
    let (raw, qcow2) = (fs::read(images.path("raw")).unwrap(), images.passed());
    let output = witness::run("7z", ["e".as_ref(), "-so".as_ref(), "-tqcow".as_ref(), qcow2.as_os_str()]);
    assert!(output.status.success() && output.stdout == raw, "7-Zip: {}", String::from_utf8_lossy(&output.stderr));
    // Debian's library is for Debian's interpreter.
    const SCRIPT: &str = "
import pyqcow, sys
image = pyqcow.open(sys.argv[1])
while True:
    part = image.read_buffer(1 << 20)
    if not part: break
    sys.stdout.buffer.write(part)
";
    let output = witness::run("/usr/bin/python3", [OsStr::new("-c"), OsStr::new(SCRIPT), qcow2.as_os_str()]);
    assert!(
        output.status.success() && output.stdout == raw,
        "libqcow (python3-libqcow): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "compiles a program"]
fn go_inflates_them() {
    const PROGRAM: &str = r#"package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"os"
)

func main() {
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	for len(data) > 0 {
		length := binary.LittleEndian.Uint32(data)
		unit, err := io.ReadAll(flate.NewReader(bytes.NewReader(data[4 : 4+length])))
		if err != nil {
			panic(err)
		}
		if !bytes.Equal(unit, data[4+length:4+length+65536]) {
			panic("another unit")
		}
		data = data[4+length+65536:]
	}
}
"#;
    let images = Images::new();
    let (streams, program) = (images.path("streams"), images.path("main.go"));
    write_streams(&images, &streams);
    fs::write(&program, PROGRAM).unwrap();
    let mut go = Command::new("go");
    go.args(["run".as_ref(), program.as_os_str(), streams.as_os_str()]);
    let output = go.env("GOCACHE", images.path("cache")).env("GO111MODULE", "off").output();
    let output = output.expect("go is needed as a witness: install golang-go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
