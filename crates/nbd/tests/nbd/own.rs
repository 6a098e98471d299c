//! The client is a device that keeps the contract, over the server.

use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, ErrorKind, Memory, Storage, ZeroMode};
use transload_nbd::{ConnectSettings, Export, Listener, NbdDisk, Place, ServerLimits};
use transload_testkit::disks::samples;
use transload_testkit::{Misbehaving, conformance};

use crate::support::{Served, patchwork};

#[test]
fn a_served_disk_reads_as_the_disk() {
    for sample in samples() {
        let disk = sample.memory();
        let served = Served::new(vec![Export::read_only("", Arc::new(disk.clone()))]);
        let client = served.connect("");
        conformance::read(&client, &disk).assert();
        assert!(client.is_read_only());
        conformance::read_only(&client).assert();
    }
}

#[test]
fn a_served_disk_writes_as_the_disk() {
    for size in [1, 4095, 65_536, 700_001, 3 << 20] {
        let disk = patchwork(size, size);
        let served = Served::new(vec![Export::writable("", Arc::new(disk.clone()))]);
        conformance::write(&served.connect(""), 1).assert();
        served.end().expect("a good end");
    }
}

#[test]
fn a_disk_of_three_tebibytes_is_served() {
    let disk = Memory::default();
    disk.set_size(3 << 40).expect("memory takes it");
    let served = Served::new(vec![Export::writable("", Arc::new(disk))]);
    let client = served.connect("");
    assert_eq!(client.block_status(0..3 << 40).expect("status").length, 3 << 40, "extended headers have 64 bits");
    client.write_zeroes_at(5..(3 << 40) - 5, ZeroMode::Unmap).expect("zeroes");
    client.write_at(b"end", (3 << 40) - 3).expect("the end");
    client.flush().expect("a flush");
    let mut end = [0; 3];
    served.connect("").read_at(&mut end, (3 << 40) - 3).expect("the end again");
    assert_eq!(&end, b"end");
}

#[test]
fn exports_are_told_apart_by_name() {
    let exports = vec![
        Export::read_only("one", Arc::new(Memory::new(4096))),
        Export::read_only("zwei drei/ö", Arc::new(Memory::new(8192))),
    ];
    let served = Served::new(exports);
    assert_eq!(served.connect("").size(), 4096, "the first is the default");
    assert_eq!(served.connect("zwei drei/ö").size(), 8192);
    let missing = NbdDisk::connect(&served.address("three"), &ConnectSettings::default()).expect_err("no such export");
    assert_eq!(missing.kind(), ErrorKind::InvalidInput, "{missing}");
}

#[test]
fn errors_of_the_device_reach_the_client_and_the_session_lives_on() {
    let disk = Arc::new(Misbehaving::new(Arc::new(Memory::from(vec![7; 1 << 20]))));
    let served = Served::new(vec![Export::writable("", Arc::clone(&disk) as Arc<dyn BlockWrite>)]);
    let settings = ConnectSettings { connections: 1, ..ConnectSettings::default() };
    let client = NbdDisk::connect(&served.address(""), &settings).expect("a connection");
    disk.run_full_after(0);
    let error = client.write_at(&[1; 512], 0).expect_err("the disk is full");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let mut byte = [0];
    client.read_at(&mut byte, 4096).expect("reads go on");
    assert_eq!(byte, [7]);
}

#[test]
fn many_threads_share_one_connection() {
    let disk = patchwork(8 << 20, 9);
    let served = Served::new(vec![Export::read_only("", Arc::new(disk.clone()))]);
    let settings = ConnectSettings { connections: 1, ..ConnectSettings::default() };
    let client = NbdDisk::connect(&served.address(""), &settings).expect("a connection");
    assert_eq!(client.connections(), 1);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (client, disk) = (&client, &disk);
            scope.spawn(move || {
                let mut random = transload_testkit::Random::new(thread);
                for _ in 0..100 {
                    let range = random.range(8 << 20, 600_000);
                    let length = usize::try_from(range.end - range.start).expect("small");
                    let (mut got, mut expected) = (vec![1; length], vec![2; length]);
                    client.read_at(&mut got, range.start).expect("a read");
                    disk.read_at(&mut expected, range.start).expect("memory");
                    assert!(got == expected, "{range:?}");
                }
            });
        }
    });
}

#[test]
fn a_stopped_server_is_told_as_a_network_error() {
    let served = Served::new(vec![Export::read_only("", Arc::new(Memory::new(1 << 20)))]);
    let client = served.connect("");
    served.end().expect("a good end");
    for _ in 0..2 {
        let error = client.read_at(&mut [0; 512], 0).expect_err("nobody there");
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    }
}

#[test]
fn sockets_that_are_in_use_are_refused_and_old_ones_replaced() {
    let served = Served::new(vec![Export::read_only("", Arc::new(Memory::new(1)))]);
    let place = Place::Unix(served.socket());
    assert_eq!(Listener::bind(&place).expect_err("in use").kind(), ErrorKind::Denied);
    let file = served.folder().join("file");
    std::fs::write(&file, "mine").expect("a file");
    assert_eq!(Listener::bind(&Place::Unix(file.clone())).expect_err("a file").kind(), ErrorKind::Denied);
    assert_eq!(std::fs::read(&file).expect("still there"), b"mine");
    let old = served.folder().join("old");
    drop(std::os::unix::net::UnixListener::bind(&old).expect("a socket"));
    drop(Listener::bind(&Place::Unix(old.clone())).expect("nobody listens there"));
    assert!(!old.exists(), "the listener removes its socket");
}

#[test]
fn clients_beyond_the_limit_are_turned_away() {
    let limits = ServerLimits { clients: 1, ..ServerLimits::default() };
    let served = Served::with_limits(vec![Export::read_only("", Arc::new(Memory::new(1 << 20)))], limits);
    let first = served.connect("");
    assert_eq!(first.connections(), 1, "a second connection found no room, and was not needed");
    let second = NbdDisk::connect(&served.address(""), &ConnectSettings::default()).expect_err("no room");
    assert_eq!(second.kind(), ErrorKind::Network, "{second}");
    first.read_at(&mut [0; 16], 0).expect("the first is served on");
}
