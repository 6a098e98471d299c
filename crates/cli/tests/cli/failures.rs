//! What is said and answered when something is wrong with an image.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::{complaint, disk, fail, folder_with_disk, names, run, succeed, transload};

#[test]
fn a_missing_image_is_named_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let said = fail(folder.path(), &["info", "none.qcow2"], 1);
    assert!(said.starts_with("transload: "), "{said}");
    assert!(said.contains("none.qcow2") && said.contains("caused by: No such file"), "{said}");
}

#[test]
fn a_failure_is_a_document_when_json_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["convert", "--json", "none.qcow2", "a.raw"]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "io");
    assert_eq!(document["error"]["exit-code"], 1);
    assert!(document["error"]["message"].as_str().unwrap().contains("none.qcow2"));
    assert!(complaint(&output).starts_with("transload: "));
}

#[test]
fn wrong_usage_is_2() {
    let folder = folder_with_disk();
    let path = folder.path();
    let cases: &[&[&str]] = &[
        &["frobnicate"],
        &["convert", "disk.raw"],
        &["convert", "disk.raw", "a.qcow2", "-O", "frob"],
        &["convert", "disk.raw", "a.qcow2", "--level", "13"],
        &["convert", "disk.raw", "a.qcow2", "--threads", "0"],
        &["convert", "disk.raw", "a.qcow2", "--threads", "1000000"],
        &["convert", "disk.raw", "a.qcow2", "-o", "frob=1"],
        &["convert", "disk.raw", "a.qcow2", "--memory", "much"],
        &["convert", "disk.raw", "a.qcow2", "--source-option", "frob=1"],
        &["convert", "disk.raw", "no/such/folder/a.qcow2"],
        &["info", "-o", "frob=1", "disk.raw"],
    ];
    for case in cases {
        fail(path, case, 2);
    }
    assert_eq!(names(path), ["disk.raw"]);
}

#[test]
fn a_truncated_image_is_corrupt_and_leaves_no_target() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "-c", "disk.raw", "disk.vmdk"]);
    let image = fs::read(path.join("disk.vmdk")).unwrap();
    fs::write(path.join("short.vmdk"), &image[..image.len() / 2]).unwrap();
    fail(path, &["convert", "short.vmdk", "out.raw"], 4);
    assert_eq!(names(path), ["disk.raw", "disk.vmdk", "short.vmdk"]);
}

#[test]
fn hostile_names_in_an_image_open_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("jail")).unwrap();
    fs::write(path.join("secret.raw"), vec![b's'; 1 << 20]).unwrap();
    symlink(path.join("secret.raw"), path.join("jail/link.raw")).unwrap();
    let made = Command::new("mkfifo").arg(path.join("jail/fifo.raw")).status().unwrap();
    assert!(made.success());
    for name in
        ["/etc/passwd", "../secret.raw", "link.raw", "fifo.raw", "json:{\"driver\":\"null-co\"}", "nbd://host/x"]
    {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\
             RW 2 FLAT \"{}\" 0\nddb.adapterType = \"ide\"\n",
            name.replace('"', "'")
        );
        fs::write(path.join("jail/evil.vmdk"), text).unwrap();
        let start = Instant::now();
        let output = run(path, &["convert", "jail/evil.vmdk", "out.raw"]);
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 4 | 6)), "{name}: {code:?} {}", complaint(&output));
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
        assert!(!path.join("out.raw").exists(), "{name}");
        // Describing it opens nothing, so there is nothing to refuse.
        succeed(path, &["info", "jail/evil.vmdk"]);
    }
}

#[test]
fn a_lying_header_is_corrupt() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let image = fs::read(path.join("disk.qcow2")).unwrap();
    // Cluster bits of 63; an L1 table at the end of the address space; a size of petabytes with a small table.
    let lies: &[(usize, &[u8])] = &[
        (20, &63_u32.to_be_bytes()),
        (20, &0_u32.to_be_bytes()),
        (40, &(u64::MAX - 511).to_be_bytes()),
        (24, &(1_u64 << 55).to_be_bytes()),
    ];
    for (place, lie) in lies {
        let mut image = image.clone();
        image[*place..*place + lie.len()].copy_from_slice(lie);
        fs::write(path.join("lie.qcow2"), &image).unwrap();
        for arguments in [&["info", "--chain", "lie.qcow2"][..], &["convert", "lie.qcow2", "out.raw"]] {
            fail(path, arguments, 4);
        }
    }
    assert_eq!(names(path), ["disk.qcow2", "disk.raw", "lie.qcow2"]);
}

#[test]
fn a_raw_disk_with_the_magic_of_a_format_in_it_can_be_declared_raw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut bytes = disk();
    bytes[..4].copy_from_slice(b"QFI\xfb");
    fs::write(path.join("disk.raw"), &bytes).unwrap();
    succeed(path, &["convert", "-f", "raw", "disk.raw", "disk.qcow2"]);
    succeed(path, &["compare", "-f", "raw", "disk.raw", "disk.qcow2"]);
}

#[test]
fn what_is_no_file_is_refused_without_the_advice_to_force_it() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::create_dir(path.join("folder")).unwrap();
    for target in ["/dev/null", "folder", "."] {
        for force in [&[][..], &["--force"]] {
            let said = fail(path, &[&["convert", "-O", "raw", "disk.raw", target], force].concat(), 2);
            assert!(said.contains("neither a regular file nor a block device"), "{said}");
            assert!(!said.contains("--force"), "{said}");
        }
    }
    assert_eq!(names(path), ["disk.raw", "folder"]);
}

#[test]
fn a_reference_that_is_denied_tells_how_to_allow_it() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::create_dir(path.join("sub")).unwrap();
    succeed(path, &["create", "-o", "backing_file=../disk.raw,backing_fmt=raw", "sub/o.qcow2"]);
    for policy in ["same-dir", "deny"] {
        let said = fail(path, &["digest", "--references", policy, "sub/o.qcow2"], 6);
        assert!(said.contains("hint: ") && said.contains("--allow-dir"), "{said}");
    }
    succeed(path, &["digest", "--allow-dir", ".", "sub/o.qcow2"]);
}

#[test]
fn room_that_cannot_be_set_aside_is_said_with_a_way_out() {
    let folder = folder_with_disk();
    let said = fail(folder.path(), &["convert", "--prealloc", "full", "disk.raw", "a.vmdk"], 2);
    assert!(said.contains("hint: choose a flat kind, such as subformat=monolithicFlat"), "{said}");
    let streamed = ["convert", "--prealloc", "full", "-c", "disk.raw", "a.vmdk"];
    let said = fail(folder.path(), &streamed, 5);
    assert!(said.contains("hint: leave out --prealloc"), "{said}");
}

/// What an image may make the program take, the program itself included.
const MEMORY_KIB: u64 = 64 << 10;

/// Runs the program on each argument and prints the seconds of the slowest run and the KiB of the largest.
const WATCH: &str = "
import resource, subprocess, sys, time
program, verb, slowest = sys.argv[1], sys.argv[2].split(), 0
for image in sys.argv[3:]:
    start = time.time()
    subprocess.run([program, *verb, image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    slowest = max(slowest, time.time() - start)
print(int(slowest * 1000), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
";

#[test]
fn a_lie_takes_neither_time_nor_memory() {
    let folder = tempfile::tempdir().unwrap();
    let lies: Vec<_> = transload_testkit::hostile::lies(folder.path()).into_iter().map(|lie| lie.path).collect();
    for verb in ["info", "check", "map", "digest"] {
        let mut command = Command::new("python3");
        command.args(["-c", WATCH, env!("CARGO_BIN_EXE_transload"), verb]).args(&lies);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<u64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [milliseconds, kib] = numbers[..] else { panic!("{verb}: {said}{}", complaint(&output)) };
        println!("{verb}: {} images, {milliseconds} ms and {kib} KiB at the most", lies.len());
        // A second, and what a build without optimisation on a busy machine needs beyond that.
        assert!(milliseconds < 5000 && kib < MEMORY_KIB, "{verb}: {milliseconds} ms, {kib} KiB");
    }
}

#[test]
fn a_failure_of_standard_output_is_told_as_its_own() {
    let folder = folder_with_disk();
    let path = folder.path();
    for format in ["raw", "qcow2", "vmdk"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = transload(path, &["convert", "disk.raw", "-O", format, "-"]).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(8), "{}", complaint(&output));
        assert!(complaint(&output).contains("standard output: No space left"), "{}", complaint(&output));
    }
    let said = fail(path, &["convert", "disk.raw", "-"], 2);
    assert!(said.contains("standard output: the name does not tell the format"), "{said}");
    let sparse = ["convert", "disk.raw", "-O", "vmdk", "-o", "subformat=monolithicSparse", "-"];
    let said = fail(path, &sparse, 5);
    assert!(said.contains("monolithicSparse cannot be written to a pipe"), "{said}");
    assert!(said.contains("hint: write to a file, or choose subformat=streamOptimized"), "{said}");
    fail(path, &["create", "-O", "raw", "-", "1M"], 2);
    assert_eq!(names(path), ["disk.raw"]);
}
