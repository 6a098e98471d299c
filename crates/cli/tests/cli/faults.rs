//! Killed, interrupted, out of room, cut off: whatever ends a conversion early, no image stands under the target's name.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::packages::folder_with_large_machine;
use crate::run::{complaint, names, noise, run, succeed, transload};

/// Every kind of target: its name, and how it is asked for.
const TARGETS: &[(&str, &[&str])] = &[
    ("out.raw", &[]),
    ("out.qcow2", &[]),
    ("out.qcow2", &["-c"]),
    ("out.qcow2", &["-c=zstd"]),
    ("out.vmdk", &["-o", "subformat=monolithicSparse"]),
    ("out.vmdk", &["-o", "subformat=monolithicFlat"]),
    ("out.vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
    ("out.vmdk", &["-o", "subformat=twoGbMaxExtentFlat"]),
    ("out.vmdk", &["-o", "subformat=vmfs"]),
    ("out.vmdk", &["-o", "subformat=streamOptimized"]),
    ("out.vhd", &[]),
    ("out.vhd", &["-o", "subformat=fixed"]),
    ("out.vhdx", &[]),
    ("out.vdi", &[]),
];

/// A folder with a disk that takes a moment.
fn folder_with_large_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = noise(24 << 20);
    disk[6 << 20..12 << 20].fill(0);
    fs::write(folder.path().join("disk.raw"), disk).unwrap();
    folder
}

fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

/// Starts the conversion, waits until it has begun to make the target, then for `delay`, and sends `signal`.
fn interrupted(folder: &Path, arguments: &[&str], delay: Duration, signal: Signal) -> std::process::Output {
    let mut child = transload(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun =
        |child: &mut Child| names(folder).iter().any(|name| is_leftover(name)) || child.try_wait().unwrap().is_some();
    while !begun(&mut child) {
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(delay);
    if child.try_wait().unwrap().is_none() {
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
    }
    child.wait_with_output().unwrap()
}

/// Runs `judge` on conversions to each kind of target that get `signal` somewhere on their way.
fn interrupt_everywhere(signal: Signal, judge: impl Fn(&Path, &str, &std::process::Output, &str)) {
    let folder = folder_with_large_disk();
    let mut places = noise(64).into_iter();
    for (target, options) in TARGETS {
        let arguments = [&["convert", "--force", "disk.raw", target], *options].concat();
        let start = Instant::now();
        succeed(folder.path(), &arguments);
        let whole = start.elapsed();
        for _ in 0..3 {
            for name in names(folder.path()).iter().filter(|name| *name != "disk.raw") {
                let path = folder.path().join(name);
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            let delay = whole * u32::from(places.next().unwrap()) / 256;
            let output = interrupted(folder.path(), &arguments, delay, signal);
            let what = format!("{arguments:?} after {delay:?} of {whole:?}: {}", complaint(&output));
            judge(folder.path(), target, &output, &what);
        }
    }
}

#[test]
fn an_interrupt_anywhere_ends_with_130_and_leaves_nothing() {
    interrupt_everywhere(Signal::TERM, |folder, target, output, what| match output.status.code() {
        Some(130) => assert_eq!(names(folder), ["disk.raw"], "{what}"),
        // It was quicker than the signal.
        Some(0) => drop(succeed(folder, &["compare", "disk.raw", target])),
        other => panic!("{other:?}: {what}"),
    });
}

#[test]
fn a_kill_anywhere_leaves_no_image_under_the_name() {
    interrupt_everywhere(Signal::KILL, |folder, target, output, what| {
        if folder.join(target).exists() {
            // The primary file comes last, so what is there is whole.
            succeed(folder, &["compare", "disk.raw", target]);
            return;
        }
        assert!(!output.status.success(), "{what}");
        let left = names(folder);
        let known = |name: &&String| {
            *name == "disk.raw" || is_leftover(name) || (name.starts_with("out-") && name.ends_with(".vmdk"))
        };
        assert!(left.iter().all(|name| known(&name)), "{left:?}: {what}");
        // Nobody takes it for an image, and the next attempt does not stumble over it.
        assert!(left.iter().any(|name| is_leftover(name)), "{left:?}: {what}");
    });
}

/// A small filesystem in memory, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: PathBuf) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: a small filesystem can only be mounted by root");
            return None;
        }
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&place).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(place)),
            other => {
                eprintln!("SKIPPED: a small filesystem cannot be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn a_full_filesystem_ends_with_8_and_leaves_nothing() {
    let folder = folder_with_large_disk();
    let Some(small) = SmallDisk::mount(folder.path().join("small")) else { return };
    for (target, options) in TARGETS {
        for room in [0_usize, 1, 5] {
            // What is there already takes all but some of the room: sometimes even the first table does not fit.
            let filler = small.0.join("filler");
            fs::write(&filler, vec![1; (8 << 20) - (room << 20) - (room.min(1) << 15)]).unwrap();
            let place = format!("small/{target}");
            let output = run(folder.path(), &[&["convert", "disk.raw", &place], *options].concat());
            let what = format!("{target} {options:?}, {room} MiB: {}", complaint(&output));
            assert_eq!(output.status.code(), Some(8), "{what}");
            assert_eq!(names(&small.0), ["filler"], "{what}");
        }
    }
}

#[test]
fn a_full_output_of_a_pipe_ends_with_8() {
    let folder = folder_with_large_disk();
    for options in [&["-O", "raw"][..], &["-O", "qcow2"], &["-O", "vmdk", "-o", "subformat=streamOptimized"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let arguments = [&["convert", "disk.raw", "-"], options].concat();
        let output = transload(folder.path(), &arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(8), "{options:?}: {}", complaint(&output));
    }
    // What is printed for people counts as well.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = transload(folder.path(), &["info", "disk.raw"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", complaint(&output));
}

#[test]
fn a_reader_that_goes_away_ends_the_conversion() {
    let folder = folder_with_large_disk();
    for options in [&["-O", "raw"][..], &["-O", "qcow2"], &["-O", "vmdk", "-o", "subformat=streamOptimized"]] {
        let arguments = [&["convert", "disk.raw", "-"], options].concat();
        let mut child =
            transload(folder.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1000];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}: {}", complaint(&output));
        assert!(complaint(&output).contains("Broken pipe"), "{options:?}: {}", complaint(&output));
        assert!(start.elapsed() < Duration::from_secs(10), "{options:?}");
        assert_eq!(names(folder.path()), ["disk.raw"], "{options:?}");
    }
}

#[test]
fn an_input_that_breaks_off_leaves_nothing() {
    let folder = folder_with_large_disk();
    succeed(folder.path(), &["convert", "disk.raw", "disk.vmdk", "-o", "subformat=streamOptimized"]);
    let whole = fs::read(folder.path().join("disk.vmdk")).unwrap();
    for length in [0, 511, 512, 70_000, whole.len() / 2, whole.len() - 513] {
        let mut child = transload(folder.path(), &["convert", "-f", "vmdk", "-", "out.qcow2"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdin.take().unwrap().write_all(&whole[..length]));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{length}: {}", complaint(&output));
        assert_eq!(names(folder.path()), ["disk.raw", "disk.vmdk"], "{length}");
    }
}

/// With as many files allowed as are usual, and a disk in more pieces than that.
#[test]
fn a_disk_in_more_pieces_than_files_may_be_open_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let disk = fs::File::create(path.join("disk.raw")).unwrap();
    disk.set_len(200 << 31).unwrap();
    let limited = |hard: bool, arguments: &str| {
        let limit = if hard { "ulimit -n 64" } else { "ulimit -Sn 64" };
        let script = format!("{limit} && exec \"$0\" {arguments}");
        let mut shell = Command::new("sh");
        shell.current_dir(path).args(["-c", &script, env!("CARGO_BIN_EXE_transload")]).output().unwrap()
    };
    for kind in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let target = format!("{kind}.vmdk");
        let output = limited(false, &format!("convert disk.raw {target} -o subformat={kind}"));
        assert!(output.status.success(), "{kind}: {}", complaint(&output));
        let output = limited(false, &format!("compare disk.raw {target}"));
        assert!(output.status.success(), "{kind}: {}", complaint(&output));
        // Where the limit cannot be raised, the error says so and nothing is left.
        let output = limited(true, &format!("convert disk.raw other.vmdk -o subformat={kind}"));
        assert_eq!(output.status.code(), Some(1), "{kind}: {}", complaint(&output));
        assert!(complaint(&output).contains("ulimit -n"), "{kind}: {}", complaint(&output));
        assert!(!names(path).iter().any(|name| name.contains("other")), "{kind}");
        let output = limited(true, &format!("info --chain {target}"));
        assert!(output.status.success() || complaint(&output).contains("ulimit -n"), "{}", complaint(&output));
        let output = limited(true, &format!("digest {target}"));
        assert!(complaint(&output).contains("ulimit -n"), "{kind}: {}", complaint(&output));
    }
}

/// What is done with machines, and the name under which nothing may be left.
const PACKAGES: &[(&str, &[&str])] = &[
    ("out.ova", &["export", "--force", "--disk", "disk.raw", "--name", "vm", "-o", "out.ova"]),
    ("new.ova", &["repack", "vm.ova", "-o", "new.ova", "--force"]),
    ("out", &["import", "vm.ova", "-o", "out", "--to", "libvirt", "--force"]),
];

#[test]
fn a_package_that_is_interrupted_or_killed_anywhere_is_not_there() {
    let folder = folder_with_large_machine();
    let path = folder.path();
    let mut places = noise(64).into_iter();
    for (target, arguments) in PACKAGES {
        for signal in [Signal::TERM, Signal::KILL] {
            for _ in 0..3 {
                for name in names(path).iter().filter(|name| !["disk.raw", "vm.ova"].contains(&name.as_str())) {
                    let path = path.join(name);
                    if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
                }
                let delay = Duration::from_millis(2) * u32::from(places.next().unwrap());
                let output = interrupted(path, arguments, delay, signal);
                let what = format!("{arguments:?} after {delay:?}: {}", complaint(&output));
                let left: Vec<_> = names(path).into_iter().filter(|name| !is_leftover(name)).collect();
                if output.status.success() {
                    assert!(left.contains(&(*target).to_owned()), "{left:?}: {what}");
                    continue;
                }
                assert_eq!(left, ["disk.raw", "vm.ova"], "{what}");
                if signal == Signal::TERM {
                    assert_eq!(output.status.code(), Some(130), "{what}");
                    assert_eq!(names(path), ["disk.raw", "vm.ova"], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_package_that_does_not_fit_says_how_much_room_it_needs_and_leaves_nothing() {
    let folder = folder_with_large_machine();
    let path = folder.path();
    let Some(small) = SmallDisk::mount(path.join("small")) else { return };
    // Before the slow part, by the estimate.
    let output = run(path, &["export", "--disk", "disk.raw", "--name", "vm", "-o", "small/vm.ova"]);
    assert_eq!(output.status.code(), Some(8), "{}", complaint(&output));
    assert!(complaint(&output).contains("are needed for the package"), "{}", complaint(&output));
    assert!(names(&small.0).is_empty());
    // And where the estimate is overruled.
    for arguments in [
        &["export", "--disk", "disk.raw", "--name", "vm", "-o", "small/vm.ova", "--force"][..],
        &["repack", "vm.ova", "-o", "small/vm.ova"],
        &["import", "vm.ova", "-o", "small/vm", "--to", "libvirt"],
    ] {
        let output = run(path, arguments);
        assert_eq!(output.status.code(), Some(8), "{arguments:?}: {}", complaint(&output));
        assert!(names(&small.0).is_empty(), "{arguments:?}: {:?}", names(&small.0));
        if arguments[0] == "export" {
            assert!(complaint(&output).contains("make room for about"), "{}", complaint(&output));
        }
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let piped = ["export", "--disk", "disk.raw", "-o", "-"];
    let output = transload(path, &piped).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", complaint(&output));
}
