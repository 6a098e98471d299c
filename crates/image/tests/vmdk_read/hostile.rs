//! VMDKs that lie: each ends in the right kind of error, soon, whatever it claims.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use transload_block::{BlockRead, ErrorKind};
use transload_image::vmdk::fuzz::{fuzz_descriptor, fuzz_open, fuzz_stream};
use transload_image::{Access, OpenSettings, OptionValues, Source, StreamRequest, open};
use transload_testkit::witness;

use crate::builder::{Hosted, SeGrain, Stream, cowd, descriptor, sesparse};
use crate::support::corpus;
use crate::vmdk;

/// How long any of it may take; a build without optimisation and a busy machine are allowed for.
const SOON: Duration = Duration::from_secs(4);

/// Opens a file as a VMDK and reads all of what it says is data, and answers the error.
fn failure(path: &Path) -> Option<(ErrorKind, String)> {
    let began = Instant::now();
    let settings = OpenSettings { format: Some(vmdk()), ..OpenSettings::default() };
    let read = |device: &dyn BlockRead| {
        let mut buf = vec![0; 1 << 20];
        let mut at = 0;
        while at < device.size() {
            let extent = device.block_status(at..device.size())?;
            let length = (extent.length as usize).min(buf.len());
            device.read_at(&mut buf[..length], at)?;
            at = if extent.status.reads_zero() { extent.end() } else { at + length as u64 };
        }
        Ok(())
    };
    let result = Source::from_path(path, Access::ReadOnly)
        .and_then(|source| open(source, &settings))
        .and_then(|opened| read(&*opened.device));
    let took = began.elapsed();
    assert!(took < SOON, "{}: {took:?}", path.display());
    result.err().map(|error| (error.kind(), error.to_string()))
}

fn expect(name: &str, path: &Path, kind: ErrorKind) {
    match failure(path) {
        Some((found, _)) if found == kind => {}
        other => panic!("{name}: {kind:?} is expected, not {other:?}"),
    }
}

#[test]
fn extents_that_are_none_of_the_images_business() {
    let folder = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::write(outside.path().join("secret"), [1; 512]).unwrap();
    fs::write(place("flat"), [1; 1024]).unwrap();
    fs::create_dir(place("directory")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), place("link")).unwrap();
    witness::must("mkfifo", [place("fifo")]);
    let secret = outside.path().join("secret").display().to_string();
    for (line, kind) in [
        ("RW 1 FLAT \"/etc/passwd\" 0", ErrorKind::Denied),
        (&format!("RW 1 FLAT \"{secret}\" 0"), ErrorKind::Denied),
        ("RW 1 FLAT \"../x\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"json:{\"driver\":\"file\"}\" 0", ErrorKind::Denied),
        ("RW 1 SPARSE \"nbd://127.0.0.1/x\"", ErrorKind::Denied),
        ("RW 1 FLAT \"file:flat\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"link\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"fifo\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"directory\" 0", ErrorKind::Denied),
        ("RW 1 FLAT \"absent\" 0", ErrorKind::Io),
        ("RW 1 FLAT \"/dev/sda\" 0", ErrorKind::Unsupported),
        ("RW 1 FLAT \"\\\\.\\PhysicalDrive0\" 0", ErrorKind::Unsupported),
        ("RW 1 VMFSRDM \"x-rdm.vmdk\"", ErrorKind::Unsupported),
        ("RW 1 VMFSRAW \"x-raw.vmdk\"", ErrorKind::Unsupported),
        ("RW 1 HOLOGRAM \"x\"", ErrorKind::Unsupported),
        ("NOACCESS 1 FLAT \"flat\" 0", ErrorKind::Unsupported),
        ("RW 1 FLAT \"d.vmdk\" 0", ErrorKind::Corrupt),
        ("RW 1 SPARSE \"d.vmdk\"", ErrorKind::Corrupt),
        ("RW 1 SPARSE \"flat\"", ErrorKind::Corrupt),
        ("RW 3 FLAT \"flat\" 0", ErrorKind::Corrupt),
        ("RW 1 FLAT \"flat\" 2", ErrorKind::Corrupt),
        ("RW 1 FLAT \"flat\" 18446744073709551615", ErrorKind::Corrupt),
        ("RW 18446744073709551615 FLAT \"flat\" 0", ErrorKind::Corrupt),
        ("RW 36028797018963968 ZERO", ErrorKind::Corrupt),
        ("RW 1 FLAT \"flat\" 0\nRW 1 FLAT \"flat\" 0", ErrorKind::Corrupt),
        ("RW 1 FLAT \"flat\" 0\nRW 1 FLAT \"./flat\" 0", ErrorKind::Corrupt),
    ] {
        fs::write(place("d.vmdk"), descriptor("custom", "", &[line])).unwrap();
        expect(line, &place("d.vmdk"), kind);
    }
    for kind in ["fullDevice", "partitionedDevice", "vmfsRDM", "vmfsPassthroughRawDeviceMap", "vmfsRaw"] {
        fs::write(place("d.vmdk"), descriptor(kind, "", &["RW 1 FLAT \"flat\" 0"])).unwrap();
        expect(kind, &place("d.vmdk"), ErrorKind::Unsupported);
        // What cannot be read is still described, with the reason.
        let source = Source::from_path(&place("d.vmdk"), Access::ReadOnly).unwrap();
        assert_eq!((vmdk().describe.unwrap())(&source).unwrap().warnings.len(), 1);
    }
}

#[test]
fn descriptors_of_a_megabyte() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.vmdk");
    fs::write(folder.path().join("flat"), vec![5; 512]).unwrap();
    let long = |line: &dyn Fn(usize) -> String, bytes: usize| {
        let mut text = descriptor("custom", "", &[]);
        let mut index = 0;
        while text.len() < bytes {
            text.push_str(&line(index));
            text.push('\n');
            index += 1;
        }
        text
    };
    fs::write(&path, long(&|_| "RW 1 ZERO".to_owned(), (1 << 20) + 1)).unwrap();
    expect("too long", &path, ErrorKind::TooLarge);
    // Zeroes behind it make no raw disk of what says that it is a descriptor.
    fs::write(&path, descriptor("custom", "", &["RW 1 FLAT \"flat\" 0"])).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(300 << 20).unwrap();
    expect("padded to hundreds of megabytes", &path, ErrorKind::TooLarge);
    let bytes = Source::from_path(&path, Access::ReadOnly).unwrap();
    assert_eq!(transload_image::detect(bytes.bytes()).unwrap().unambiguous().unwrap().name, "vmdk");
    fs::write(&path, long(&|_| "RW 1 FLAT \"flat\" 0".to_owned(), 1_040_000)).unwrap();
    expect("one file many times", &path, ErrorKind::Corrupt);
    fs::write(&path, long(&|index| format!("RW 1 FLAT \"absent{index}\" 0"), 1_040_000)).unwrap();
    expect("many files", &path, ErrorKind::Io);
    fs::write(&path, long(&|_| "nonsense".to_owned(), 1_040_000)).unwrap();
    expect("no extents", &path, ErrorKind::Corrupt);
    fs::write(&path, long(&|_| "RW 1 ZERO".to_owned(), 1_040_000)).unwrap();
    assert_eq!(failure(&path), None);
    let line = format!("RW 1 ZERO {}", "\"".repeat(1_000_000));
    fs::write(&path, descriptor("custom", "", &[&line])).unwrap();
    failure(&path);
    let line = format!("RW 1 FLAT \"{}", "\"a".repeat(500_000));
    fs::write(&path, descriptor("custom", "", &[&line])).unwrap();
    expect("a million quotes", &path, ErrorKind::Corrupt);
}

#[test]
fn headers_that_lie() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.vmdk");
    let mut hosted = Hosted::monolithic(4096, "");
    hosted.data = vec![(0, 1), (3, 2)];
    let built = hosted.build();
    let entry = built.first_table;
    let (corrupt, unsupported) = (ErrorKind::Corrupt, ErrorKind::Unsupported);
    let u32s: [(&str, usize, u32, ErrorKind); 15] = [
        ("version 4", 4, 4, unsupported),
        ("an incompatible flag", 8, 0x4_0003, unsupported),
        ("markers without compression", 8, 0x2_0003, corrupt),
        ("compression without a name", 8, 0x1_0003, corrupt),
        ("no entries", 44, 0, corrupt),
        ("506 entries", 44, 506, corrupt),
        ("64 entries", 44, 64, unsupported),
        ("2^31 entries", 44, 1 << 31, unsupported),
        ("newlines", 73, 0x0a0d_0a0a, corrupt),
        ("compression 7", 77, 7, unsupported),
        ("a grain in the descriptor", entry, 1, corrupt),
        ("a grain behind the end", entry, 0xffff_ffff, corrupt),
        ("a grain half behind the end", entry, (built.file.0.len() / 512 - 1) as u32, corrupt),
        ("a descriptor of gigabytes", 36, 1 << 24, ErrorKind::TooLarge),
        ("a descriptor behind the end", 28, 1 << 20, corrupt),
    ];
    for (name, at, value, kind) in u32s {
        let mut built = built.clone();
        built.file.u32(at, value);
        fs::write(&path, &built.file.0).unwrap();
        expect(name, &path, kind);
    }
    let u64s: [(&str, usize, u64, ErrorKind); 10] = [
        ("capacity of everything", 12, u64::MAX, corrupt),
        ("capacity of too much", 12, 1 << 54, corrupt),
        ("capacity of half an exabyte, which the descriptor does not repeat", 12, 1 << 50, corrupt),
        ("capacity of less", 12, 8, corrupt),
        ("grain of nothing", 20, 0, corrupt),
        ("grain of three", 20, 3, corrupt),
        ("grain of terabytes", 20, 1 << 31, unsupported),
        ("a directory that has no footer", 56, u64::MAX, corrupt),
        ("a descriptor of everything", 36, u64::MAX, ErrorKind::TooLarge),
        ("a descriptor nowhere", 28, u64::MAX, corrupt),
    ];
    for (name, at, value, kind) in u64s {
        let mut built = built.clone();
        built.file.u64(at, value);
        fs::write(&path, &built.file.0).unwrap();
        expect(name, &path, kind);
    }
    // A directory of gigabytes that is not there, and one that is, as a hole.
    let mut huge = built.clone();
    huge.file.u64(12, (1 << 54) - 1);
    let text = descriptor("monolithicSparse", "", &[&format!("RW {} SPARSE \"d\"", (1u64 << 54) - 1)]);
    huge.file.put(512, &[0; 2048]);
    huge.file.put(512, text.as_bytes());
    fs::write(&path, &huge.file.0).unwrap();
    expect("a directory of more than the file", &path, corrupt);
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 43).unwrap();
    assert!(failure(&path).is_some());
}

#[test]
fn bare_extents_of_every_kind() {
    let folder = TempDir::new().unwrap();
    let hosted = Hosted::new(64).build().file.0;
    let se = sesparse(64, &[]).0;
    for (name, bytes) in [("a-s001.vmdk", &hosted), ("a-delta.vmdk", &cowd(64, 1, &[])), ("a-sesparse.vmdk", &se)] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        expect(name, &path, ErrorKind::Unsupported);
        let source = Source::from_path(&path, Access::ReadOnly).unwrap();
        let error = open(source, &OpenSettings::default()).unwrap_err();
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("a.vmdk")), "{name}: {error:?}");
    }
}

#[test]
fn host_extents_that_lie() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.vmdk");
    fs::write(&path, descriptor("custom", "parentCID=1\n", &["RW 64 SPARSE \"e\""])).unwrap();
    let open_alone = |bytes: &[u8]| {
        fs::write(folder.path().join("e"), bytes).unwrap();
        let settings = OpenSettings { chain: false, ..OpenSettings::default() };
        let source = Source::from_path(&path, Access::ReadOnly).unwrap();
        let device = open(source, &settings).map_err(|error| error.kind())?.device;
        device.read_at(&mut vec![0; device.size() as usize], 0).map_err(|error| error.kind())
    };
    let se = |damage: &dyn Fn(&mut crate::builder::Bytes)| {
        let mut file = sesparse(64, &[(0, SeGrain::Stored(0, 1))]);
        damage(&mut file);
        open_alone(&file.0)
    };
    let (corrupt, unsupported) = (Err(ErrorKind::Corrupt), Err(ErrorKind::Unsupported));
    assert_eq!(se(&|_| ()), Ok(()));
    assert_eq!(se(&|file| file.u64(8, 0x3_0000_0000)), unsupported);
    assert_eq!(se(&|file| file.u64(24, 16)), unsupported);
    assert_eq!(se(&|file| file.u64(40, 1)), unsupported);
    assert_eq!(se(&|file| file.u64(48, 1)), unsupported);
    assert_eq!(se(&|file| file.u64(512, 1)), corrupt);
    assert_eq!(se(&|file| file.u64(512 + 24, 1)), unsupported);
    assert_eq!(se(&|file| file.u64(80, u64::MAX)), corrupt);
    assert_eq!(se(&|file| file.u64(128, u64::MAX)), corrupt);
    assert_eq!(se(&|file| file.u64(136, 0)), corrupt);
    assert_eq!(se(&|file| file.u64(144, u64::MAX)), corrupt);
    assert_eq!(se(&|file| file.u64(192, u64::MAX)), corrupt);
    assert_eq!(se(&|file| file.u64(8 * 512, 0x2000_0000_0000_0000)), corrupt);
    assert_eq!(se(&|file| file.u64(8 * 512, 0x1000_0000_ffff_ffff)), corrupt);
    assert_eq!(se(&|file| file.u64(9 * 512, 0x4000_0000_0000_0000)), corrupt);
    assert_eq!(se(&|file| file.u64(9 * 512, 0x3fff_ffff_ffff_ffff)), corrupt);
    assert_eq!(se(&|file| file.u64(16, 56)), corrupt);
    let cow = |damage: &dyn Fn(&mut crate::builder::Bytes)| {
        let mut file = crate::builder::Bytes(cowd(64, 8, &[(0, 1)]));
        damage(&mut file);
        open_alone(&file.0)
    };
    assert_eq!(cow(&|_| ()), Ok(()));
    assert_eq!(cow(&|file| file.u32(4, 2)), unsupported);
    assert_eq!(cow(&|file| file.u32(12, 0)), corrupt);
    assert_eq!(cow(&|file| file.u32(16, 0)), corrupt);
    assert_eq!(cow(&|file| file.u32(16, 9)), corrupt);
    assert_eq!(cow(&|file| file.u32(20, 0)), corrupt);
    assert_eq!(cow(&|file| file.u32(20, u32::MAX)), corrupt);
    assert_eq!(cow(&|file| file.u32(24, 0)), corrupt);
    assert_eq!(cow(&|file| file.u32(2048, u32::MAX)), corrupt);
    assert_eq!(cow(&|file| file.u32(5 * 512, 2)), corrupt);
    assert_eq!(cow(&|file| file.u32(5 * 512, u32::MAX)), corrupt);
}

/// What reading `built` gives, at random and as a stream: the number of bytes, or the error.
fn both(built: &[u8]) -> [Result<u64, ErrorKind>; 2] {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.vmdk");
    fs::write(&path, built).unwrap();
    let size = |error: Option<(ErrorKind, String)>| match error {
        Some((kind, _)) => Err(kind),
        None => Ok(fs::metadata(&path).unwrap().len()),
    };
    let random = size(failure(&path));
    let stream = crate::stream_file(&path).map(|content| content.map_or(0, |content| content.size()));
    [random, stream.map_err(|error| error.kind())]
}

#[test]
fn streams_that_lie() {
    let whole = vec![7; 65_536];
    let short = vec![7; 512];
    let corrupt = ErrorKind::Corrupt;
    let good = Stream::new(257, &[(0, &whole), (128, &whole), (256, &whole)]);
    assert!(both(&good.build()).iter().all(Result::is_ok));
    assert!(both(&Stream { footer: false, ..good.clone() }.build()).iter().all(Result::is_ok));
    assert!(both(&Stream { progress: true, ..good.clone() }.build()).iter().all(Result::is_ok));
    let mut padded = good.build();
    padded.resize(padded.len() + 100 * 512, 0);
    assert!(both(&padded).iter().all(Result::is_ok));
    // The last grain may be as short as what is in it, and no shorter; none may be longer; others not even shorter.
    assert!(both(&Stream::new(257, &[(256, &short)]).build()).iter().all(Result::is_ok));
    let wrong: [Stream; 7] = [
        Stream::new(257, &[(256, &short[..511])]),
        Stream::new(257, &[(0, &short)]),
        Stream::new(257, &[(0, &[7; 65_537])]),
        Stream::new(257, &[(0, &vec![7; 130_000])]),
        Stream::new(257, &[(0, &[])]),
        Stream { claimed: Some(u32::MAX), ..good.clone() },
        Stream { claimed: Some(20), ..good.clone() },
    ];
    for (index, stream) in wrong.iter().enumerate() {
        assert_eq!(both(&stream.build()), [Err(corrupt), Err(corrupt)], "{index}");
    }
    let stream_only = |stream: &Stream| both(&stream.build())[1];
    assert_eq!(stream_only(&Stream::new(257, &[(128, &whole), (0, &whole)])), Err(ErrorKind::Unsupported));
    assert_eq!(stream_only(&Stream::new(257, &[(128, &whole), (128, &whole)])), Err(corrupt));
    assert_eq!(stream_only(&Stream::new(257, &[(1, &whole)])), Err(corrupt));
    assert_eq!(stream_only(&Stream::new(257, &[(384, &whole)])), Err(corrupt));
    assert_eq!(stream_only(&Stream::new(257, &[(1 << 56, &whole)])), Err(corrupt));
    let parts = vec!["RW 128 SPARSE \"s.vmdk\"".to_owned(), "RW 128 SPARSE \"t.vmdk\"".to_owned()];
    assert_eq!(stream_only(&Stream { lines: parts, ..good.clone() }), Err(ErrorKind::Unsupported));
    let larger = vec!["RW 999 SPARSE \"s.vmdk\"".to_owned()];
    assert_eq!(both(&Stream { lines: larger, ..good.clone() }.build()), [Err(corrupt), Err(corrupt)]);
    // Something behind the end; a marker of no type; a footer that is none; a lost grain.
    let mut after = good.build();
    after.extend_from_slice(&[1; 512]);
    assert_eq!(both(&after)[1], Err(corrupt));
    let bytes = good.build();
    let markers = bytes.len() - 512 * (1 + 2 + 2 + 5);
    for (at, value) in [(12, 9), (0, 5), (512 * 5, 1 << 30), (512 * 7, 7), (512 * 8, 0), (512, 0)] {
        let mut damaged = bytes.clone();
        damaged[markers + at..markers + at + 4].copy_from_slice(&u32::to_le_bytes(value));
        assert_eq!(both(&damaged)[1], Err(corrupt), "{at}");
    }
}

#[test]
fn what_cannot_be_read_from_a_stream_says_so() {
    let begin = |bytes: Vec<u8>| {
        let request = StreamRequest { input: Box::new(Cursor::new(bytes)), options: &OptionValues::default() };
        (vmdk().stream.unwrap())(request).map(drop).unwrap_err()
    };
    let text = descriptor("vmfs", "", &["RW 1 VMFS \"x\""]) + &" ".repeat(512);
    for bytes in [text.into_bytes(), Hosted::monolithic(64, "").build().file.0, sesparse(64, &[]).0] {
        let error = begin(bytes);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.remedy().is_some());
    }
    assert_eq!(begin(vec![1; 1024]).kind(), ErrorKind::NotThisFormat);
    assert_eq!(begin(vec![1; 100]).kind(), ErrorKind::Corrupt);
}

/// A generator of the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn properties_hold_for_damaged_images() {
    let mut hosted = Hosted::monolithic(1000, "");
    (hosted.data, hosted.zeroed, hosted.version, hosted.flags) = (vec![(0, 1), (1, 3), (124, 2)], vec![7], 2, 7);
    let stream = Stream::new(300, &[(0, &[3; 65_536]), (256, &[7; 44 * 512])]);
    let mut seeds = vec![
        hosted.build().file.0,
        stream.build(),
        Stream { footer: false, progress: true, ..stream }.build(),
        descriptor("custom", "", &["RW 9 ZERO", "RW 3 FLAT \"x\" 0"]).into_bytes(),
    ];
    for sample in corpus().unwrap_or_default().into_iter().filter(|sample| sample.format == "vmdk") {
        let bytes = fs::read(&sample.path).unwrap();
        if bytes.len() < 160_000 {
            seeds.push(bytes);
        }
    }
    let mut random = Random(1);
    for seed in &seeds {
        for round in 0..60 {
            let mut bytes = seed.clone();
            for _ in 0..round % 5 {
                // Most damage goes where the structures are.
                let bound = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(2048) };
                let at = random.below(bound);
                bytes[at] = [0, 1, 0xff, bytes[at] ^ 1 << random.below(8)][random.below(4)];
            }
            if round % 7 == 6 {
                bytes.truncate(random.below(bytes.len()));
            }
            fuzz_open(&bytes);
            fuzz_stream(&bytes);
            fuzz_descriptor(&bytes[..bytes.len().min(4096)]);
        }
    }
}
