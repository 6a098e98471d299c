//! Disks inside compressed files, with every command that reads one; and compressed files as targets.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{
    complaint, disk, document, fail, folder_with_disk, is_in_sectors, names, qemu_img, run_with_input, succeed,
};

/// Packs `from` as `to` with a program of others.
fn pack(folder: &Path, program: &str, from: &str, to: &str) {
    let output = Command::new(program).args(["-c", from]).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed as a witness: {error}"));
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
