//! Chains of real formats under the block contract, and many threads that write into units which have to be copied first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use transload_block::{BlockReadExt, Memory};
use transload_image::{Access, OpenSettings, Opened, open_path};
use transload_testkit::{Random, conformance, disks, witness};

const SIZE: usize = (2 << 20) + 512;

/// The overlay's format and options, and the format beneath.
const CHAINS: [(&str, &str, &str); 5] = [
    ("qcow2", "", "raw"),
    ("qcow2", "cluster_size=4k", "vmdk"),
    ("qcow2", "cluster_size=64k,extended_l2=on", "qcow2"),
    ("qcow2", "compat=0.10", "qcow2"),
    ("vmdk", "", "vmdk"),
];

/// An overlay over a disk of data, zeroes and holes, and that disk.
fn chain(folder: &Path, (format, options, below): (&str, &str, &str)) -> (std::path::PathBuf, Vec<u8>) {
    let (raw, base, top) = (folder.join("disk.raw"), folder.join("base"), folder.join("top"));
    let mut bytes = vec![0; SIZE];
    let noise = Random::new(8).bytes(SIZE);
    for (start, end) in [(0, 200_000), (300_001, 900_000), (1 << 20, 1 << 21), (SIZE - 100, SIZE)] {
        bytes[start..end].copy_from_slice(&noise[start..end]);
    }
    disks::save(&Memory::from(bytes.clone()), &raw);
    witness::convert(&raw, "raw", &base, below, "");
    let backing = format!("backing_file=base,backing_fmt={below}");
    let options = if options.is_empty() { backing } else { format!("{options},{backing}") };
    witness::qemu_img(["create", "-q", "-f", format, "-o", &options, top.to_str().unwrap()]);
    (top, bytes)
}

fn open(path: &Path, access: Access) -> Opened {
    open_path(path, &OpenSettings { access, ..OpenSettings::default() }).unwrap()
}

#[test]
fn chains_of_real_formats_keep_the_contract() {
    for (kind, seed) in CHAINS.into_iter().zip(1..) {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = chain(folder.path(), kind);
        conformance::read(&*open(&path, Access::ReadOnly).device, &Memory::from(bytes)).assert();
        let opened = open(&path, Access::ReadWrite);
        let writer = opened.writer().unwrap();
        conformance::write(&*writer, seed).assert();
        opened.layers[0].writer.as_ref().unwrap().finish().unwrap();
        let expected = writer.read_vec(0, writer.size()).unwrap();
        assert!(open(&path, Access::ReadOnly).device.read_vec(0, SIZE as u64).unwrap() == expected, "{kind:?}");
        let raw = folder.path().join("expected.raw");
        std::fs::write(&raw, expected).unwrap();
        witness::assert_same_guest(&path, kind.0, &raw, "raw");
    }
}

/// Eight threads write a piece each into every unit at the same time, all of which the overlay does not have yet: a copy of
/// what is below must not undo what another thread has written.
#[test]
fn copies_on_write_lose_no_neighbours_write() {
    const THREADS: usize = 8;
    const PIECE: usize = 700;
    const STRIDE: usize = 3 * 4096 + 512;
    for kind in CHAINS {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut model) = chain(folder.path(), kind);
        let opened = open(&path, Access::ReadWrite);
        let writer = opened.writer().unwrap();
        let places: Vec<usize> = (0..SIZE - THREADS * PIECE).step_by(STRIDE).collect();
        let start = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (writer, places, start) = (&writer, &places, &start);
                scope.spawn(move || {
                    start.wait();
                    let byte = u8::try_from(thread).unwrap() + 1;
                    for place in places {
                        writer.write_at(&[byte; PIECE], (place + thread * PIECE) as u64).unwrap();
                    }
                });
            }
        });
        for place in places {
            for thread in 0..THREADS {
                model[place + thread * PIECE..][..PIECE].fill(u8::try_from(thread).unwrap() + 1);
            }
        }
        let differs = |found: &[u8]| found.iter().zip(&model).position(|(found, wanted)| found != wanted);
        let found = writer.read_vec(0, SIZE as u64).unwrap();
        assert_eq!(differs(&found), None, "{kind:?}: the first byte that is wrong");
        opened.layers[0].writer.as_ref().unwrap().finish().unwrap();
        let raw = folder.path().join("expected.raw");
        std::fs::write(&raw, &model).unwrap();
        witness::assert_same_guest(&path, kind.0, &raw, "raw");
    }
}
