use std::fs;
use std::path::Path;
use std::time::Duration;

use transload_block::ErrorKind;
use transload_image::Format;

use super::fakes::{Disk, DiskStream, FLAT, LOG, STREAM_ONLY, image, noise, settings};
use crate::{DigestKind, Input, Output, Report, Settings, convert};

fn attempt(input: Input, folder: &Path, settings: &Settings) -> transload_block::Result<Report> {
    let answer = convert(input, Output::Path(folder.join("out")), settings);
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    match &answer {
        Ok(_) => assert_eq!(left, ["out"]),
        Err(_) => assert!(left.is_empty(), "left behind: {left:?}"),
    }
    answer
}

fn with_digest(format: &'static Format, options: &str) -> Settings {
    Settings { digests: vec![DigestKind::Blake3], ..settings(format, options, 3) }
}

/// A conversion that fails at each operation in turn, until one gets through.
fn fail_everywhere(wanted: ErrorKind, attempt_at: impl Fn(u64) -> transload_block::Result<Report>) {
    for at in 1.. {
        match attempt_at(at) {
            Ok(_) => {
                assert!(at > 5, "nothing was made to fail");
                return;
            }
            Err(error) => assert_eq!(error.kind(), wanted, "{at}: {error}"),
        }
    }
}

#[test]
fn a_read_error_anywhere_leaves_nothing() {
    for format in [&FLAT, &LOG, &STREAM_ONLY] {
        fail_everywhere(ErrorKind::Io, |fail_at| {
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk { fail_at, ..Disk::mixed(3 << 20, 4) };
            attempt(image(disk), folder.path(), &with_digest(format, ""))
        });
        fail_everywhere(ErrorKind::Io, |fail_at| {
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk { fail_at, ..Disk::mixed(3 << 20, 4) };
            let input = Input::Stream { format: &FLAT, stream: Box::new(DiskStream { disk, knows_size: true }) };
            attempt(input, folder.path(), &with_digest(format, ""))
        });
    }
}

#[test]
fn a_full_disk_at_any_write_leaves_nothing() {
    for format in [&FLAT, &LOG, &STREAM_ONLY] {
        fail_everywhere(ErrorKind::NoSpace, |fail_at| {
            let folder = tempfile::tempdir().unwrap();
            let settings = with_digest(format, &format!("fail_at={fail_at}"));
            attempt(image(Disk::mixed(6 << 20, 4)), folder.path(), &settings)
        });
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_and_leaves_nothing() {
    for format in [&FLAT, &LOG, &STREAM_ONLY] {
        // The identifiers are sampled before the workers start, in the caller's thread; a seed leaves that out.
        fail_everywhere(ErrorKind::Io, |panic_at| {
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk { panic_at, ..Disk::mixed(3 << 20, 4) };
            let settings = Settings { seed: Some("s".to_owned()), ..with_digest(format, "") };
            attempt(image(disk), folder.path(), &settings)
        });
    }
}

#[test]
fn stopping_at_any_moment_leaves_nothing() {
    for round in 0..40 {
        let format = [&FLAT, &LOG, &STREAM_ONLY][round % 3];
        let folder = tempfile::tempdir().unwrap();
        let settings = with_digest(format, "");
        let cancel = settings.cancel.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(noise(round as u64) % 20_000));
                cancel.cancel();
            });
            let disk = Disk { delays: true, ..Disk::mixed(4 << 20, 4) };
            if let Err(error) = attempt(image(disk), folder.path(), &settings) {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            }
        });
    }
}

#[test]
fn stopping_ends_the_hashing_of_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let settings = with_digest(&LOG, "");
    let cancel = settings.cancel.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            cancel.cancel();
        });
        let disk = Disk { size: 64 << 40, ..Disk::default() };
        let error = attempt(image(disk), folder.path(), &settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn an_existing_target_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    fs::write(&path, "precious").unwrap();
    let answer = convert(image(Disk::mixed(1, 1)), Output::Path(path.clone()), &settings(&FLAT, "", 1));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Denied);
    let failing = Settings { force: true, ..settings(&LOG, "fail_at=1", 1) };
    let answer = convert(image(Disk::mixed(1 << 20, 8)), Output::Path(path.clone()), &failing);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let forced = Settings { force: true, ..settings(&FLAT, "", 1) };
    convert(image(Disk::mixed(1, 0)), Output::Path(path.clone()), &forced).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0]);
}
