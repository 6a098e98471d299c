//! `convert`: files, pipes, digests, and what stands in the way.

use std::fs;
use std::process::Stdio;

use crate::run::{
    VMWARE_DIGEST, complaint, disk, document, fail, folder_with_disk, is_in_sectors, names, qemu_img, run,
    run_with_input, succeed, transload, vmware_disk,
};

#[test]
fn the_first_command_of_the_readme_makes_a_qcow2_that_qemu_calls_identical() {
    let folder = tempfile::tempdir().unwrap();
    let source = vmware_disk();
    let (source, path) = (source.to_str().unwrap(), folder.path());
    succeed(path, &["convert", source, "disk.qcow2"]);
    let same = qemu_img(path, &["compare", "-f", "vmdk", "-F", "qcow2", source, "disk.qcow2"]);
    assert!(same.status.success(), "{}", complaint(&same));
    assert!(qemu_img(path, &["check", "disk.qcow2"]).status.success());
    assert_eq!(succeed(path, &["digest", "disk.qcow2"]), format!("{VMWARE_DIGEST}  disk.qcow2\n"));
    assert_eq!(names(path), ["disk.qcow2"]);
}

#[test]
fn every_target_reads_back_as_the_source_was() {
    let folder = folder_with_disk();
    let path = folder.path();
    let targets: &[(&str, &[&str])] = &[
        ("a.raw", &[]),
        ("a.qcow2", &[]),
        ("b.qcow2", &["-c"]),
        ("c.qcow2", &["-c=zstd", "--level", "3", "-o", "cluster_size=2M"]),
        ("a.vmdk", &[]),
        ("b.vmdk", &["-o", "subformat=streamOptimized"]),
        ("c.vmdk", &["-o", "subformat=monolithicFlat"]),
        ("d.vmdk", &["-o", "subformat=twoGbMaxExtentFlat", "--prealloc", "falloc"]),
        ("e.vmdk", &["-o", "subformat=vmfs", "--prealloc", "full"]),
    ];
    for (target, options) in targets {
        let arguments = [&["convert", "disk.raw", target, "--verify"], *options].concat();
        let report = document(path, &arguments);
        assert_eq!(report["verified"], true, "{target}");
        let judge = qemu_img(path, &["compare", "-f", "raw", "disk.raw", target]);
        assert!(judge.status.success(), "{target}: {}{}", complaint(&judge), String::from_utf8_lossy(&judge.stdout));
        succeed(path, &["compare", "disk.raw", target]);
    }
}

#[test]
fn the_digest_on_the_way_is_that_of_the_disk_in_any_format() {
    let folder = folder_with_disk();
    let path = folder.path();
    let printed = succeed(path, &["convert", "disk.raw", "disk.qcow2", "--digest", "sha256", "--digest", "blake3"]);
    let by_itself = [
        succeed(path, &["digest", "-f", "raw", "disk.raw"]),
        succeed(path, &["digest", "--algorithm", "blake3", "disk.raw"]),
    ];
    assert_eq!(printed, by_itself.concat());
}

#[test]
fn the_same_input_gives_the_same_output_whatever_the_threads() {
    let folder = folder_with_disk();
    let path = folder.path();
    for (format, options) in [("qcow2", "-c"), ("qcow2", "--no-such"), ("vmdk", "--no-such"), ("vmdk", "-c")] {
        let mut outputs = Vec::new();
        for threads in ["1", "2", "7"] {
            let mut arguments = vec!["convert", "disk.raw", "out", "-O", format, "--force", "--threads", threads];
            arguments.extend(Some(options).filter(|option| *option == "-c"));
            succeed(path, &arguments);
            outputs.push(fs::read(path.join("out")).unwrap());
        }
        assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2], "{format} {options}");
    }
}

#[test]
fn a_pipe_is_read_and_written_in_one_pass() {
    let folder = folder_with_disk();
    let path = folder.path();
    let stored = run_with_input(path, &["convert", "-", "stored.raw"], &disk());
    assert!(stored.status.success(), "{}", complaint(&stored));
    assert!(fs::read(path.join("stored.raw")).unwrap() == disk());

    let stream = fs::read(vmware_disk()).unwrap();
    let through = run_with_input(path, &["convert", "-", "-O", "raw", "-", "--digest", "sha256"], &stream);
    assert!(through.status.success(), "{}", complaint(&through));
    assert_eq!(through.stdout.len(), 10_485_760);
    assert!(complaint(&through).contains(VMWARE_DIGEST), "{}", complaint(&through));

    let passed = run_with_input(path, &["convert", "-f", "raw", "-", "-O", "raw", "-"], &disk());
    assert!(passed.status.success() && passed.stdout == disk(), "{}", complaint(&passed));

    let streamed = run_with_input(path, &["convert", "-", "stream.raw", "--digest", "sha256"], &stream);
    assert!(streamed.status.success(), "{}", complaint(&streamed));
    assert_eq!(String::from_utf8(streamed.stdout).unwrap(), format!("{VMWARE_DIGEST}  -\n"));

    for format in ["vmdk", "qcow2"] {
        let written = run(path, &["convert", "disk.raw", "-O", format, "-"]);
        assert!(written.status.success(), "{}", complaint(&written));
        fs::write(path.join("out"), written.stdout).unwrap();
        let judge = qemu_img(path, &["compare", "-f", "raw", "-F", format, "disk.raw", "out"]);
        assert!(judge.status.success(), "{format}: {}", complaint(&judge));
    }
}

#[test]
fn a_file_that_is_redirected_to_standard_input_needs_no_spool() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let input = Stdio::from(fs::File::open(path.join("disk.qcow2")).unwrap());
    let output = transload(path, &["convert", "-", "back.raw"]).stdin(input).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(is_in_sectors(&fs::read(path.join("back.raw")).unwrap(), &disk()));
}

#[test]
fn what_cannot_be_read_from_a_pipe_is_spooled_when_asked() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let image = fs::read(path.join("disk.qcow2")).unwrap();
    let refused = run_with_input(path, &["convert", "-", "back.raw"], &image);
    assert_eq!(refused.status.code(), Some(5), "{}", complaint(&refused));
    assert!(complaint(&refused).contains("--spool"), "{}", complaint(&refused));
    let spooled = run_with_input(path, &["convert", "--spool", "-", "back.raw"], &image);
    assert!(spooled.status.success(), "{}", complaint(&spooled));
    assert!(is_in_sectors(&fs::read(path.join("back.raw")).unwrap(), &disk()));
    assert_eq!(names(path), ["back.raw", "disk.qcow2", "disk.raw"]);
}

#[test]
fn an_existing_target_is_replaced_only_with_force() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::write(path.join("out.raw"), "precious").unwrap();
    let said = fail(path, &["convert", "disk.raw", "out.raw"], 6);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(fs::read(path.join("out.raw")).unwrap(), b"precious");
    succeed(path, &["convert", "disk.raw", "out.raw", "--force"]);
    assert!(fs::read(path.join("out.raw")).unwrap() == disk());
}

#[test]
fn the_source_is_never_the_target() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::hard_link(path.join("disk.raw"), path.join("same.raw")).unwrap();
    for target in ["disk.raw", "./disk.raw", "same.raw"] {
        fail(path, &["convert", "disk.raw", target, "--force"], 2);
        assert!(fs::read(path.join("disk.raw")).unwrap() == disk());
    }
}

#[test]
fn the_target_format_comes_from_the_option_or_the_name_and_is_never_guessed() {
    let folder = folder_with_disk();
    let path = folder.path();
    let said = fail(path, &["convert", "disk.raw", "disk.unknown"], 2);
    assert!(said.contains("-O"), "{said}");
    fail(path, &["convert", "disk.raw", "-"], 2);
    succeed(path, &["convert", "disk.raw", "disk.unknown", "-O", "QCOW2"]);
    assert_eq!(document(path, &["info", "disk.unknown"])["layers"][0]["format"], "qcow2");
}

#[test]
fn a_dry_run_makes_nothing() {
    let folder = folder_with_disk();
    let path = folder.path();
    let said = succeed(path, &["convert", "--dry-run", "disk.raw", "disk.qcow2"]);
    assert!(said.contains("qcow2"), "{said}");
    let plan = document(path, &["convert", "--dry-run", "disk.raw", "disk.qcow2"]);
    assert_eq!(plan["plan"]["target"], "qcow2");
    assert_eq!(names(path), ["disk.raw"]);
}

#[test]
fn progress_is_lines_where_there_is_no_terminal_and_quiet_is_quiet() {
    let folder = folder_with_disk();
    let path = folder.path();
    let silent = run(path, &["convert", "-q", "disk.raw", "a.qcow2"]);
    assert_eq!(complaint(&silent), "");
    assert!(silent.stdout.is_empty());
    let spoken = run(path, &["convert", "-p", "disk.raw", "b.qcow2"]);
    assert!(complaint(&spoken).contains("100.00%"), "{}", complaint(&spoken));
    let usual = run(path, &["convert", "disk.raw", "c.qcow2"]);
    assert!(!complaint(&usual).contains('%'), "{}", complaint(&usual));
    fail(path, &["convert", "-p", "-q", "disk.raw", "d.qcow2"], 2);
}

#[test]
fn json_and_the_image_do_not_share_standard_output() {
    let folder = folder_with_disk();
    fail(folder.path(), &["convert", "disk.raw", "-O", "raw", "-", "--json"], 2);
}
