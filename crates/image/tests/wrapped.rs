//! Disks inside compressed files, as other programs pack them; and files that break off, go on, or hold too much.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockStatus, BlockStream, ErrorKind, Memory, Payload, Result};
use transload_image::{
    Access, CheckRequest, Format, OpenSettings, OptionValues, ReferenceGate, Source, StreamRequest, detect, open_path,
    properties, wrapped,
};
use transload_testkit::{Random, conformance, witness};

/// Noise, text and megabytes of zeroes.
fn disk() -> Vec<u8> {
    let mut random = Random::new(12);
    let mut disk = random.bytes(60_000);
    disk.extend(include_bytes!("wrapped.rs").iter().cycle().take(300_000));
    disk.resize(2 << 20, 0);
    disk.extend(random.bytes(50_000));
    disk.resize(disk.len() + (1 << 20), 0);
    disk.truncate(disk.len() / 512 * 512);
    disk
}

/// The same disk as several programs pack it, in one part and in several.
fn packed(folder: &Path, plain: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(plain).expect("the test's own");
    let halves = [folder.join("half.0"), folder.join("half.1")];
    fs::write(&halves[0], &bytes[..200_001]).expect("the test's own");
    fs::write(&halves[1], &bytes[200_001..]).expect("the test's own");
    let pack = |program: &str, options: &[&str], file: &Path| {
        let mut arguments = options.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>();
        arguments.extend(["-c".as_ref(), file.as_os_str()]);
        let output = witness::run(program, arguments);
        assert!(output.status.success(), "{program}: {}", witness::said(&output));
        output.stdout
    };
    let mut made = Vec::new();
    let mut put = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("the test's own");
        made.push(path);
    };
    let two = |program: &str, between: &[u8]| {
        [pack(program, &[], &halves[0]), between.to_vec(), pack(program, &[], &halves[1])].concat()
    };
    put("one.gz", pack("gzip", &[], plain));
    put("fast.gz", pack("gzip", &["-1"], plain));
    put("two.gz", two("gzip", &[]));
    put("padded.gz", [pack("gzip", &[], plain), vec![0; 10_240]].concat());
    put("pigz.gz", pack("pigz", &["-p", "4", "-b", "128"], plain));
    put("one.bz2", pack("bzip2", &[], plain));
    put("two.bz2", two("bzip2", &[]));
    put("one.xz", pack("xz", &["-T1"], plain));
    put("blocks.xz", pack("xz", &["-T2", "--block-size=100KiB"], plain));
    put("crc32.xz", pack("xz", &["--check=crc32"], plain));
    put("two.xz", two("xz", &[]));
    put("padded.xz", two("xz", &[0; 8]));
    put("one.zst", pack("zstd", &[], plain));
    put("two.zst", two("zstd", &[]));
    put("skipped.zst", two("zstd", &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]));
    put("front.zst", [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &pack("zstd", &["-19"], plain)[..]].concat());
    put("long.zst", pack("zstd", &["--long=27"], plain));
    made
}

fn format_of(path: &Path) -> &'static Format {
    let name = match path.extension().expect("the test's own").to_str().expect("the test's own") {
        "gz" => "gzip",
        "bz2" => "bzip2",
        "zst" => "zstd",
        other => other,
    };
    Format::by_name(name).expect("the test's own")
}

fn streamed(path: &Path, options: &str) -> Result<Box<dyn BlockStream>> {
    let format = format_of(path);
    let options = OptionValues::parse(format.open_options, Some(options).filter(|text| !text.is_empty()))?;
    let input = Box::new(fs::File::open(path).expect("the test's own"));
    format.stream.expect("the test's own")(StreamRequest { input, options: &options })
}

fn drain(mut stream: Box<dyn BlockStream>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(unit) = stream.next_unit(Vec::new())? {
        all.resize(usize::try_from(unit.offset).expect("the test's own"), 0);
        match unit.payload {
            Payload::Plain(bytes) => all.extend(bytes),
            Payload::Zero => all.resize(all.len() + usize::try_from(unit.length).expect("the test's own"), 0),
            Payload::Encoded { .. } => return Ok(all),
        }
    }
    Ok(all)
}

fn open(path: &Path) -> Result<transload_image::Opened> {
    open_path(path, &OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() })
}

fn check(path: &Path) -> Result<transload_image::CheckReport> {
    let source = Source::from_path(path, Access::ReadOnly)?;
    format_of(path).check.expect("the test's own")(CheckRequest { source, gate: &ReferenceGate::Deny, repair: false })
}

#[test]
fn what_other_programs_pack_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, disk()).unwrap();
    let expected = Memory::from(disk());
    for path in packed(folder.path(), &plain) {
        let name = path.display();
        let source = Source::from_path(&path, Access::ReadOnly).unwrap();
        assert_eq!(detect(source.bytes()).unwrap().unambiguous().unwrap(), format_of(&path), "{name}");
        let opened = open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Each question at another place begins again: the whole suite is for one of each.
        if path.file_stem().is_some_and(|stem| stem == "two") {
            conformance::read(&*opened.device, &expected).assert();
        }
        assert!(opened.device.read_vec(0, expected.size()).unwrap() == disk(), "{name}");
        let info = &opened.layers[0].info;
        assert_eq!((info.format.as_str(), info.details["container"].as_str()), ("raw", format_of(&path).name));
        let zeroes: u64 = opened
            .device
            .extents()
            .map(Result::unwrap)
            .filter(|extent| extent.status == BlockStatus::Zero)
            .map(|e| e.length)
            .sum();
        assert!(zeroes >= 1 << 20, "{name}: {zeroes}");
        assert!(drain(streamed(&path, "").unwrap()).unwrap() == disk(), "{name}");
        let described = format_of(&path).describe.unwrap()(&source).unwrap();
        assert_eq!(described.virtual_size, disk().len() as u64, "{name}");
        assert!(check(&path).unwrap().is_clean(), "{name}");
        let sized = wrapped::stream_of(&source, format_of(&path), &OptionValues::default(), true).unwrap().unwrap();
        assert_eq!(sized.size(), Some(disk().len() as u64));
        assert!(drain(sized).unwrap() == disk(), "{name}");
    }
}

#[test]
fn what_breaks_off_or_goes_on_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, disk()).unwrap();
    for path in packed(folder.path(), &plain) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        let broken = folder.path().join(format!("broken.{}", path.extension().unwrap().to_str().unwrap()));
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&broken, bytes).unwrap();
            let error = streamed(&broken, "").and_then(drain).map(drop).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}, {what}: {error}");
            assert_eq!(open(&broken).map(drop).unwrap_err().kind(), ErrorKind::Corrupt, "{name}, {what}");
            assert!(!check(&broken).unwrap().is_clean(), "{name}, {what}");
        };
        let padding = if name.starts_with("padded.gz") { 10_240 } else { 0 };
        let end = whole.len() - padding;
        for cut in [end / 3, end - 5, end - 1] {
            refused(&whole[..cut], &format!("cut at {cut}"));
        }
        refused(&[&whole[..], b"garbage"].concat(), "garbage behind");
        if !name.contains("zst") {
            refused(&[&whole[..], &[0; 9], b"garbage"].concat(), "garbage behind zeroes");
        }
        if name.starts_with("two") {
            refused(&[&whole[..], &whole[..40]].concat(), "a member that breaks off");
        }
        // The checksum at the end, or a bit of the data.
        let mut damaged = whole.clone();
        damaged[end - 6] ^= 0x10;
        refused(&damaged, "damaged at the end");
        let mut damaged = whole.clone();
        damaged[end / 2] ^= 0x10;
        refused(&damaged, "damaged in the middle");
    }
}

#[test]
fn xz_is_padded_by_its_own_rule() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, disk()).unwrap();
    let whole = witness::run("xz", ["-c".as_ref(), plain.as_os_str()]).stdout;
    let path = folder.path().join("padded.xz");
    fs::write(&path, [&whole[..], &[0; 3], &whole].concat()).unwrap();
    assert_eq!(open(&path).map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn gzipped(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("inside");
    fs::write(&path, bytes).expect("the test's own");
    let packed = witness::run("gzip", ["-c".as_ref(), path.as_os_str()]).stdout;
    let path = folder.join("outside.gz");
    fs::write(&path, packed).expect("the test's own");
    path
}

#[test]
fn other_formats_inside_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, image) = (folder.path().join("raw"), folder.path().join("image"));
    fs::write(&raw, disk()).unwrap();
    let size = disk().len() as u64;
    // What is read at random places says so, and is described all the same.
    for (format, options, name) in
        [("qcow2", "", "qcow2"), ("vpc", "subformat=fixed,force_size=on", "vhd"), ("vdi", "", "vdi")]
    {
        witness::convert(&raw, "raw", &image, format, options);
        let path = gzipped(folder.path(), &fs::read(&image).unwrap());
        let error = open(&path).map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(&format!("({name})")), "{error}");
        assert!(error.remedy().unwrap().contains("--spool"));
        let error = streamed(&path, "").and_then(drain).map(drop).unwrap_err();
        // A fixed VHD is known by its end alone, and a stream gets there last.
        let expected = if name == "vhd" { ErrorKind::InvalidInput } else { ErrorKind::Unsupported };
        assert_eq!(error.kind(), expected, "{error}");
        let source = Source::from_path(&path, Access::ReadOnly).unwrap();
        let info = format_of(&path).describe.unwrap()(&source).unwrap();
        assert_eq!((info.format.as_str(), info.virtual_size, info.details["container"].as_str()), (name, size, "gzip"));
        // The bytes themselves, for those who declare them raw.
        assert!(drain(streamed(&path, "inner_format=raw").unwrap()).unwrap() == fs::read(&image).unwrap());
    }
    witness::convert(&raw, "raw", &image, "vmdk", "subformat=streamOptimized");
    let path = gzipped(folder.path(), &fs::read(&image).unwrap());
    assert_eq!(streamed(&path, "").unwrap().size(), Some(size));
    let twice = gzipped(folder.path(), &fs::read(&path).unwrap());
    for error in [open(&twice).map(drop).unwrap_err(), streamed(&twice, "").map(drop).unwrap_err()] {
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("another one"), "{error}");
    }
    assert_eq!(streamed(&path, "inner_format=nonsense").map(drop).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_holds_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = gzipped(folder.path(), &vec![0; 9 << 20]);
    assert!(drain(streamed(&path, "max_size=9M").unwrap()).is_ok());
    let error = streamed(&path, "max_size=8M").and_then(drain).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.remedy().unwrap().contains("max_size"));
}

#[test]
fn any_damage_is_noticed_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, &disk()[..350_000]).unwrap();
    let mut random = Random::new(31);
    for path in packed(folder.path(), &plain) {
        let whole = fs::read(&path).unwrap();
        for _ in 0..3 {
            let mut bytes = whole.clone();
            let at = usize::try_from(random.range(bytes.len() as u64, 1).start).unwrap();
            bytes[at] ^= 1 << (at % 8);
            properties::wrapped(&bytes);
        }
    }
    let device = open(&packed(folder.path(), &plain)[0]).unwrap().device;
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (device, disk): (Arc<_>, _) = (Arc::clone(&device), disk());
            scope.spawn(move || {
                for at in (thread * 70_000..300_000).step_by(50_021) {
                    let from = usize::try_from(at).unwrap();
                    assert!(
                        device.read_vec(at, 50_000.min(350_000 - at)).unwrap()[..]
                            == disk[from..from + 50_000.min(350_000 - from)]
                    );
                }
            });
        }
    });
}
