//! Other makers' clients read and write what the server offers, and the client reads what others serve.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, BlockReadExt, BlockStatus, BlockWrite, FileBlock, Memory};
use transload_nbd::{ConnectSettings, Export, NbdAddress, NbdDisk, Place};
use transload_testkit::{conformance, disks, witness};

use crate::support::{Served, patchwork};

#[test]
fn qemu_img_reads_and_writes() {
    let disk = patchwork(20_000_256, 3);
    let served = Served::new(vec![Export::writable("a b", Arc::new(disk.clone()))]);
    let flat = served.folder().join("flat");
    disks::save(&disk, &flat);
    let uri = served.address("a b").to_string();
    let path = flat.to_str().expect("plain");
    witness::qemu_img(["compare", "-f", "raw", "-F", "raw", path, &uri]);
    let other = served.folder().join("other");
    disks::save(&patchwork(20_000_256, 4), &other);
    let other = other.to_str().expect("plain");
    witness::qemu_img(["convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "16", other, &uri]);
    witness::qemu_img(["compare", "-f", "raw", "-F", "raw", other, &uri]);
    let map = witness::qemu_img(["map", "--output=json", "-f", "raw", &uri]);
    assert!(map.contains("\"zero\": true"), "{map}");
}

#[test]
fn libnbd_lists_copies_and_maps() {
    let disk = patchwork(9_000_448, 5);
    let exports = vec![
        Export::read_only("first", Arc::new(disk.clone())).with_description("the first disk"),
        Export::writable("second", Arc::new(Memory::new(9_000_448))),
    ];
    let served = Served::new(exports);
    let list = witness::must("nbdinfo", ["--list", &served.address("").to_string()]);
    assert!(list.contains("the first disk") && list.contains("second"), "{list}");
    assert!(list.contains("can_multi_conn: true") && list.contains("base:allocation"), "{list}");
    let map = witness::must("nbdinfo", ["--map", &served.address("first").to_string()]);
    let expected: Vec<_> = disk.extents().map(|extent| extent.expect("memory")).collect();
    assert_eq!(map.lines().count(), expected.len(), "{map}");
    for (line, extent) in map.lines().zip(&expected) {
        let numbers: Vec<u64> = line.split_whitespace().take(3).map(|word| word.parse().expect("a number")).collect();
        let state = match extent.status {
            BlockStatus::Data => 0,
            BlockStatus::Hole => 3,
            BlockStatus::Zero => 2,
        };
        assert_eq!(numbers, [extent.offset, extent.length, state], "{line}");
    }
    let copy = served.folder().join("copy");
    let (from, to) = (served.address("first").to_string(), served.address("second").to_string());
    witness::must("nbdcopy", [from.as_str(), copy.to_str().expect("plain")]);
    assert_same(&FileBlock::open(&copy, false).expect("the copy"), &disk);
    witness::must("nbdcopy", [from.as_str(), &to]);
    assert_same(&served.connect("second"), &disk);
    let forced = served.folder().join("forced");
    witness::must("nbdcopy", ["--synchronous", "--connections=1", &from, forced.to_str().expect("plain")]);
    assert_same(&FileBlock::open(&forced, false).expect("the copy"), &disk);
}

#[test]
fn the_client_reads_and_writes_what_qemu_nbd_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = patchwork(6_000_128, 6);
    let flat = folder.path().join("flat");
    disks::save(&disk, &flat);
    let qcow2 = folder.path().join("disk.qcow2");
    let (flat, image) = (flat.to_str().expect("plain"), qcow2.to_str().expect("plain"));
    witness::qemu_img(["convert", "-f", "raw", "-O", "qcow2", flat, image]);
    let socket = folder.path().join("socket");
    let arguments = ["--format=qcow2", "--persistent", "--shared=8", "-x", "disk", "-k"];
    let server = Running::start(Command::new("qemu-nbd").args(arguments).arg(&socket).arg(&qcow2), &socket);
    let address = NbdAddress { place: Place::Unix(socket), export: "disk".to_owned(), tls: None };
    let client = NbdDisk::connect(&address, &ConnectSettings::default()).expect("a connection");
    // QEMU rounds a disk up to whole sectors.
    assert_eq!(client.size(), 6_000_128_u64.next_multiple_of(512));
    conformance::read(&client, &disk).assert();
    assert!(client.extents().map(|extent| extent.expect("status")).any(|extent| extent.status.reads_zero()));
    client.write_at(b"written by the client", 1_000_001).expect("a write");
    client.flush().expect("a flush");
    drop(client);
    drop(server);
    disk.write_at(b"written by the client", 1_000_001).expect("memory");
    disks::save(&disk, Path::new(flat));
    witness::qemu_img(["compare", "-f", "raw", "-F", "qcow2", flat, image]);
}

#[test]
fn the_client_serves_itself_from_nbdkit_with_large_blocks_and_without_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = patchwork(4 << 20, 7);
    let flat = folder.path().join("flat");
    disks::save(&disk, &flat);
    let file = format!("file={}", flat.display());
    for arguments in [
        // Blocks of 64 KiB alone are taken: the client has to read before it writes.
        &[
            "--filter=blocksize-policy",
            "file",
            "blocksize-minimum=64k",
            "blocksize-preferred=64k",
            "blocksize-maximum=1M",
            "blocksize-error-policy=error",
        ][..],
        &["--no-sr", "file"],
        &["--filter=nozero", "--filter=noextents", "--filter=noparallel", "file"],
        &["--mask-handshake=0", "--no-sr", "file"],
    ] {
        let socket = folder.path().join("socket");
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--exit-with-parent", "--unix"]).arg(&socket).args(arguments).arg(&file);
        let server = Running::start(&mut command, &socket);
        let address = NbdAddress { place: Place::Unix(socket), export: String::new(), tls: None };
        let connected = NbdDisk::connect(&address, &ConnectSettings::default());
        if arguments.contains(&"--mask-handshake=0") {
            let error = connected.expect_err("a server without fixed newstyle");
            assert_eq!(error.kind(), transload_block::ErrorKind::Unsupported, "{error}");
            continue;
        }
        let client = connected.expect("a connection");
        assert_same(&client, &disk);
        conformance::write(&client, 1).assert();
        disks::save(&disk, &flat);
        // nbdkit does not end before its clients.
        drop(client);
        drop(server);
    }
}

fn assert_same(one: &dyn BlockRead, other: &dyn BlockRead) {
    assert_eq!(one.size(), other.size());
    assert_eq!(disks::first_difference(one, other), None);
}

/// A server of another maker, ended with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command, socket: &Path) -> Self {
        drop(std::fs::remove_file(socket));
        let child = command.spawn();
        let child = child.expect("qemu-nbd and nbdkit are needed as witnesses: install qemu-utils and nbdkit");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM, which qemu-nbd needs to write what it still holds.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}
