//! Images that lie, through every way in: each ends in the right kind of error, at once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use transload::block::{ErrorKind, Result};
use transload::image::{Access, CheckRequest, ReferenceGate, Source};
use transload_testkit::hostile::lies;

use super::support::{Target, convert, open};

/// A second, and what a build without optimisation on a busy machine needs beyond that.
const SOON: Duration = Duration::from_secs(5);

fn timed<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = action();
    let took = started.elapsed();
    assert!(took < SOON, "{what}: {took:?}");
    answer
}

fn read_all(path: &Path) -> Result<()> {
    let opened = open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < opened.device.size() {
        let extent = opened.device.block_status(at..opened.device.size())?;
        let length = usize::try_from(extent.length).unwrap().min(buffer.len());
        opened.device.read_at(&mut buffer[..length], at)?;
        at = if extent.status.reads_zero() { extent.end() } else { at + length as u64 };
    }
    Ok(())
}

/// Describing may succeed, since it opens nothing and reads only headers; but a failure is of a kind that says something
/// about the bytes.
fn describe(path: &Path) -> Result<()> {
    let source = Source::from_path(path, Access::ReadOnly)?;
    let format = transload::image::detect(source.bytes())?.unambiguous()?;
    format.describe.map_or(Ok(()), |describe| describe(&source).map(drop))
}

fn check(path: &Path) -> Result<u64> {
    let source = Source::from_path(path, Access::ReadOnly)?;
    let format = transload::image::detect(source.bytes())?.unambiguous()?;
    let gate = &ReferenceGate::SameDirectory;
    let Some(check) = format.check else { return Ok(0) };
    check(CheckRequest { source, gate, repair: false }).map(|report| report.corruptions)
}

#[test]
fn every_lie_ends_in_its_kind_by_every_way_in() {
    let folder = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let raw = Target { format: "raw", options: "", compressed: false };
    let stream = Target { format: "vmdk", options: "subformat=streamOptimized", compressed: true };
    let mut wrong = Vec::new();
    let verdict = |what: String, found: Result<()>, kind: ErrorKind| match found {
        Err(error) if error.kind() == kind => None,
        other => Some(format!("{what}: {kind:?} is expected, not {other:?}")),
    };
    for lie in lies(folder.path()) {
        let (name, path) = (&lie.name, &lie.path);
        wrong.extend(verdict(format!("{name}: read"), timed(name, || read_all(path)), lie.kind));
        for target in [&raw, &stream] {
            let ended = timed(name, || convert(path, &out.path().join("disk"), target).map(drop));
            if ended.is_ok() {
                fs::remove_file(out.path().join("disk")).unwrap();
            }
            wrong.extend(verdict(format!("{name}: convert"), ended, lie.kind));
        }
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{name}: litter");
        let telling =
            [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::TooLarge, ErrorKind::Denied, ErrorKind::Io];
        if let Err(error) = timed(name, || describe(path)) {
            wrong.extend(verdict(format!("{name}: describe"), Err(error), lie.kind));
        }
        match timed(name, || check(path)) {
            Err(error) => assert!(telling.contains(&error.kind()), "{name}: checked: {error}"),
            // A check looks at one image, not at what it hangs from, and at tables, not into grains; what cannot be read
            // may be sound.
            Ok(0) => {
                let elsewhere = ["chain", "inflate", "no stream", "a child"].iter().any(|part| name.contains(part));
                if !elsewhere && lie.kind != ErrorKind::Unsupported {
                    wrong.push(format!("{name}: a check finds nothing"));
                }
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    transload_testkit::witness::must("mkfifo", [&fifo]);
    for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
        let error = timed("open", || open(path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
    }
}

/// A thousand L1 entries that name the same L2 table, full of data: a disk of half a terabyte in a few clusters.
#[test]
fn one_table_used_a_thousand_times_is_checked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("shared.qcow2");
    transload_testkit::witness::create(&image, "qcow2", "", 1 << 39);
    let mut bytes = fs::read(&image).unwrap();
    let l1 = usize::try_from(u64::from_be_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let l2 = bytes.len().next_multiple_of(65_536);
    bytes.resize(l2 + 2 * 65_536, 0);
    for entry in 0..1024 {
        bytes[l1 + 8 * entry..][..8].copy_from_slice(&(l2 as u64).to_be_bytes());
    }
    for entry in 0..8192 {
        bytes[l2 + 8 * entry..][..8].copy_from_slice(&(l2 as u64 + 65_536).to_be_bytes());
    }
    fs::write(&image, bytes).unwrap();
    assert!(timed("check", || check(&image)).unwrap() > 0);
    timed("describe", || describe(&image)).unwrap();
    let opened = timed("open", || open(&image)).unwrap();
    // All of it is data, and the same cluster: what a guest would read.
    let mut byte = [1];
    opened.device.read_at(&mut byte, (1 << 38) + 5).unwrap();
    assert_eq!(byte, [0]);
}
