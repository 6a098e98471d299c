//! Disks inside compressed files, with every command that reads one; and compressed files as targets.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{
    complaint, disk, document, fail, folder_with_disk, is_in_sectors, names, qemu_img, run, run_with_input, succeed,
};

/// Packs `from` as `to` with a program of others.
fn pack(folder: &Path, program: &str, from: &str, to: &str) {
    let output = Command::new(program).args(["-c", from]).current_dir(folder).output();
    let output = output.expect("a witness is needed: gzip, bzip2, xz-utils and zstd");
    assert!(output.status.success(), "{}", complaint(&output));
    fs::write(folder.join(to), output.stdout).unwrap();
}

const PACKERS: [(&str, &str); 4] = [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst")];

#[test]
fn every_command_reads_a_compressed_disk() {
    let folder = folder_with_disk();
    let path = folder.path();
    let digest = succeed(path, &["digest", "disk.raw"]);
    for (program, ending) in PACKERS {
        let packed = format!("disk.raw.{ending}");
        pack(path, program, "disk.raw", &packed);
        succeed(path, &["convert", &packed, "out.qcow2", "--force", "--verify"]);
        assert!(qemu_img(path, &["compare", "-f", "raw", "-F", "qcow2", "disk.raw", "out.qcow2"]).status.success());
        let printed = succeed(path, &["convert", &packed, "out.raw", "--force", "--verify", "--digest", "sha256"]);
        assert_eq!(printed[..64], digest[..64]);
        assert!(fs::read(path.join("out.raw")).unwrap() == disk());
        let vmdk = ["convert", &packed, "out.vmdk", "-o", "subformat=streamOptimized", "--force"];
        succeed(path, &vmdk);
        assert_eq!(succeed(path, &["digest", &packed])[..64], digest[..64]);
        let info = document(path, &["info", &packed]);
        assert_eq!(info["layers"][0]["format"], "raw");
        assert_eq!(info["layers"][0]["virtual-size"], disk().len());
        assert_eq!(info["layers"][0]["details"]["container"], if program == "zstd" { "zstd" } else { program });
        assert_eq!(document(path, &["measure", "-O", "raw", &packed])["required"], disk().len());
        let map = document(path, &["map", &packed]);
        assert!(map.as_array().unwrap().iter().any(|entry| entry["zero"] == true), "{map}");
        assert_eq!(document(path, &["check", &packed])["clean"], true);
        succeed(path, &["compare", &packed, "disk.raw"]);
        let bytes = fs::read(path.join(&packed)).unwrap();
        let piped = run_with_input(path, &["convert", "-", "piped.raw", "--force"], &bytes);
        assert!(piped.status.success(), "{}", complaint(&piped));
        assert!(fs::read(path.join("piped.raw")).unwrap() == disk());
        fs::write(path.join("cut"), &bytes[..bytes.len() - 3]).unwrap();
        fail(path, &["check", "cut"], 4);
        for target in ["cut.raw", "cut.qcow2"] {
            let said = fail(path, &["convert", "cut", target], 4);
            assert!(said.contains("breaks off") && !path.join(target).exists(), "{said}");
        }
    }
}

#[test]
fn an_image_that_is_read_at_random_places_is_unpacked_when_asked() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    pack(path, "xz", "disk.qcow2", "disk.qcow2.xz");
    for command in [&["convert", "disk.qcow2.xz", "out.raw"][..], &["digest", "disk.qcow2.xz"]] {
        let said = fail(path, command, 5);
        assert!(said.contains("--spool") && said.contains("qcow2"), "{said}");
    }
    assert_eq!(document(path, &["info", "disk.qcow2.xz"])["layers"][0]["format"], "qcow2");
    succeed(path, &["convert", "--spool", "disk.qcow2.xz", "out.raw"]);
    assert!(is_in_sectors(&fs::read(path.join("out.raw")).unwrap(), &disk()));
    let bytes = fs::read(path.join("disk.qcow2.xz")).unwrap();
    let piped = run_with_input(path, &["convert", "--spool", "-", "piped.raw"], &bytes);
    assert!(piped.status.success(), "{}", complaint(&piped));
    assert!(is_in_sectors(&fs::read(path.join("piped.raw")).unwrap(), &disk()));
    let digest = |image: &str, more: &[&str]| succeed(path, &[&["digest", image], more].concat())[..64].to_owned();
    assert_eq!(digest("disk.qcow2.xz", &["--spool"]), digest("disk.qcow2", &[]));
    for command in ["map", "check", "info"] {
        succeed(path, &[command, "--spool", "disk.qcow2.xz"]);
    }
    succeed(path, &["measure", "--spool", "-O", "vmdk", "disk.qcow2.xz"]);
    succeed(path, &["compare", "--spool", "disk.qcow2.xz", "disk.raw"]);
    assert_eq!(names(path), ["disk.qcow2", "disk.qcow2.xz", "disk.raw", "out.raw", "piped.raw"]);
}

#[test]
fn a_backing_file_is_found_beside_the_compressed_image() {
    let folder = folder_with_disk();
    let path = folder.path();
    assert!(qemu_img(path, &["create", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "top.qcow2"]).status.success());
    pack(path, "gzip", "top.qcow2", "top.qcow2.gz");
    fs::remove_file(path.join("top.qcow2")).unwrap();
    succeed(path, &["convert", "--spool", "top.qcow2.gz", "out.raw"]);
    assert!(is_in_sectors(&fs::read(path.join("out.raw")).unwrap(), &disk()));
}

#[test]
fn bounds_are_kept_and_can_be_moved() {
    let folder = folder_with_disk();
    let path = folder.path();
    pack(path, "zstd", "disk.raw", "disk.zst");
    let said = fail(path, &["convert", "disk.zst", "out.raw", "--source-option", "max_size=1M"], 1);
    assert!(said.contains("max_size"), "{said}");
    succeed(path, &["convert", "disk.zst", "out.raw", "--source-option", "max_size=4M"]);
    fail(path, &["convert", "disk.zst", "disk.zst", "--force", "-O", "raw"], 2);
    assert_eq!(names(path), ["disk.raw", "disk.zst", "out.raw"]);
}

/// Unpacks `from` with a program of others and gives what is inside.
fn unpack(folder: &Path, program: &str, from: &str) -> Vec<u8> {
    let output = Command::new(program).args(["-dc", from]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program}: {}", complaint(&output));
    output.stdout
}

#[test]
fn compressed_targets_are_sound_and_the_same_for_any_number_of_threads() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let sectors = succeed(path, &["convert", "disk.qcow2", "sectors.raw"]);
    assert_eq!(sectors, "");
    let expected = fs::read(path.join("sectors.raw")).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("out.gz", "gzip", &[]),
        ("out.gz", "gzip", &["--level", "fast"]),
        ("out.gz", "gzip", &["--level", "12"]),
        ("out.gz", "gzip", &["-o", "subformat=members"]),
        ("out.gz", "gzip", &["-o", "subformat=members", "--level", "fast"]),
        ("out.zst", "zstd", &[]),
        ("out.zst", "zstd", &["-c", "--level", "max"]),
    ];
    for (target, program, options) in cases {
        for source in ["disk.raw", "disk.qcow2"] {
            let mut first: Option<Vec<u8>> = None;
            for threads in ["1", "2", "5"] {
                let arguments = ["convert", source, target, "--force", "--verify", "--threads", threads];
                let report = document(path, &[&arguments[..], options].concat());
                assert_eq!(report["verified"], true);
                let bytes = fs::read(path.join(target)).unwrap();
                assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{options:?}: {threads} threads");
            }
            let wanted = if source == "disk.raw" { &disk() } else { &expected };
            assert!(unpack(path, program, target) == *wanted, "{target} {options:?} of {source}");
            let pipe = run(path, &[&["convert", source, "-O", program, "-"], *options].concat());
            assert!(pipe.status.success() && Some(&pipe.stdout) == first.as_ref(), "{}", complaint(&pipe));
        }
        assert!(Command::new(program).args(["-t", target]).current_dir(path).status().unwrap().success());
    }
    // One stream is one member: what reads the first alone reads all of it.
    succeed(path, &["convert", "disk.raw", "one.gz"]);
    let listed = Command::new("python3")
        .args(["-c", "import zlib,sys; d=zlib.decompressobj(31); b=d.decompress(open('one.gz','rb').read()); print(len(b), d.eof, len(d.unused_data))"])
        .current_dir(path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), format!("{} True 0\n", disk().len()));
    let said = fail(path, &["convert", "disk.raw", "no.gz", "-c=zstd"], 5);
    assert!(said.contains("zstd") && !path.join("no.gz").exists(), "{said}");
}

#[test]
fn disks_of_every_length_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for length in [0, 1, 511, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| if at < length / 2 { 0 } else { at.to_le_bytes()[1] }).collect();
        fs::write(path.join("a.raw"), &bytes).unwrap();
        for (target, program, options) in [
            ("a.gz", "gzip", "subformat=stream"),
            ("a.gz", "gzip", "subformat=members"),
            ("a.zst", "zstd", "subformat=frames"),
        ] {
            succeed(path, &["convert", "a.raw", target, "-o", options, "--force"]);
            assert!(unpack(path, program, target) == bytes, "{length} {options}");
        }
    }
}

#[test]
fn google_cloud_images_are_what_its_importer_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut bytes = disk();
    bytes.resize(30 << 20, 0);
    bytes.extend(disk());
    fs::write(path.join("disk.raw"), &bytes).unwrap();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    fs::rename(path.join("disk.raw"), path.join("given.raw")).unwrap();
    // A GiB takes its time in a build for tests: once, and then less of it.
    for (source, options, size) in [
        ("disk.qcow2", "subformat=oldgnu", 1_u64 << 30),
        ("given.raw", "round_up=64M", 64 << 20),
        ("disk.qcow2", "round_up=40M", 40 << 20),
    ] {
        let mut first: Option<Vec<u8>> = None;
        for threads in ["1", "3"] {
            let arguments = ["convert", source, "image.tar.gz", "-o", options, "--force", "--threads", threads];
            let output = run(path, &arguments);
            assert!(output.status.success(), "{}", complaint(&output));
            assert!(complaint(&output).contains(&format!("{size} bytes long")), "{}", complaint(&output));
            let packed = fs::read(path.join("image.tar.gz")).unwrap();
            assert!(*first.get_or_insert_with(|| packed.clone()) == packed, "{threads} threads");
        }
        assert!(Command::new("gzip").args(["-t", "image.tar.gz"]).current_dir(path).status().unwrap().success());
        let list = Command::new("tar").args(["-tvzf", "image.tar.gz"]).current_dir(path).output().unwrap();
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(
            text.lines().count() == 1 && text.contains(&format!(" {size} ")) && text.trim_end().ends_with(" disk.raw"),
            "{text}"
        );
        assert!(complaint(&list).is_empty(), "{}", complaint(&list));
        assert!(Command::new("tar").args(["-xzf", "image.tar.gz"]).current_dir(path).status().unwrap().success());
        assert_eq!(fs::metadata(path.join("disk.raw")).unwrap().len(), size);
        assert!(qemu_img(path, &["compare", "-f", "raw", "-F", "raw", "disk.raw", "given.raw"]).status.success());
        fs::remove_file(path.join("disk.raw")).unwrap();
        if size == 1 << 30 {
            continue;
        }
        succeed(path, &["convert", source, "image.tar.gz", "-o", options, "--force", "--verify"]);
        // And back, in one pass and from a pipe.
        succeed(path, &["convert", "image.tar.gz", "back.qcow2", "--force"]);
        assert!(qemu_img(path, &["compare", "-f", "qcow2", "-F", "raw", "back.qcow2", "given.raw"]).status.success());
        succeed(path, &["compare", "image.tar.gz", "given.raw"]);
        let piped = run_with_input(
            path,
            &["convert", "-", "piped.qcow2", "--force"],
            &fs::read(path.join("image.tar.gz")).unwrap(),
        );
        assert!(piped.status.success(), "{}", complaint(&piped));
        assert!(qemu_img(path, &["compare", "-f", "qcow2", "-F", "raw", "piped.qcow2", "given.raw"]).status.success());
    }
    // What GNU tar makes of a sparse file, as the documentation has it.
    fs::copy(path.join("given.raw"), path.join("disk.raw")).unwrap();
    assert!(Command::new("truncate").args(["-s", "64M", "disk.raw"]).current_dir(path).status().unwrap().success());
    for flags in ["-Sczf", "-czf"] {
        let made = Command::new("tar")
            .args(["--format=oldgnu", flags, "theirs.tar.gz", "disk.raw"])
            .current_dir(path)
            .status();
        assert!(made.unwrap().success());
        succeed(path, &["compare", "theirs.tar.gz", "given.raw"]);
        let report = document(path, &["convert", "theirs.tar.gz", "theirs.qcow2", "--force"]);
        assert_eq!(report["virtual-size"], 64 << 20);
        assert!(qemu_img(path, &["compare", "-f", "qcow2", "-F", "raw", "theirs.qcow2", "given.raw"]).status.success());
    }
    // The archive by itself, and one of something else.
    assert!(Command::new("tar").args(["-cf", "plain.tar", "disk.raw"]).current_dir(path).status().unwrap().success());
    succeed(path, &["compare", "plain.tar", "given.raw"]);
    let streamed = run_with_input(
        path,
        &["convert", "-", "streamed.tar.gz", "-o", "round_up=64M"],
        &fs::read(path.join("image.tar.gz")).unwrap(),
    );
    assert!(streamed.status.success(), "{}", complaint(&streamed));
    succeed(path, &["compare", "streamed.tar.gz", "given.raw"]);
}
