//! Ctrl-C and SIGTERM, in the middle of the work.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::{complaint, folder_with_disk, names, noise, transload};

/// Starts a conversion that waits for more input than it gets.
fn waiting(folder: &std::path::Path, arguments: &[&str]) -> Child {
    let mut child = transload(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(&noise(2 << 20)).unwrap();
    child
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

#[test]
fn an_interrupt_ends_with_130_and_leaves_no_litter() {
    for signal in [Signal::INT, Signal::TERM] {
        for arguments in [&["convert", "-", "out.raw"][..], &["convert", "--spool", "-", "out.qcow2"]] {
            let folder = folder_with_disk();
            let mut child = waiting(folder.path(), arguments);
            let stdin = child.stdin.take();
            std::thread::sleep(Duration::from_millis(300));
            send(&child, signal);
            let start = Instant::now();
            let output = child.wait_with_output().unwrap();
            drop(stdin);
            assert_eq!(output.status.code(), Some(130), "{}", complaint(&output));
            assert!(complaint(&output).contains("interrupted"), "{}", complaint(&output));
            assert!(start.elapsed() < Duration::from_secs(5));
            assert_eq!(names(folder.path()), ["disk.raw"], "{arguments:?}");
        }
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_leaves_no_litter() {
    let folder = folder_with_disk();
    let mut child = waiting(folder.path(), &["convert", "-", "out.raw"]);
    let stdin = child.stdin.take();
    std::thread::sleep(Duration::from_millis(300));
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130), "{}", complaint(&output));
    assert_eq!(names(folder.path()), ["disk.raw"]);
}
