//! The commands beside `convert`.

use std::fs;
use std::process::Stdio;

use crate::run::{
    complaint, disk, document, fail, folder_with_disk, names, qemu_img, run, succeed, transload, vmware_disk,
};

#[test]
fn info_tells_what_an_image_is() {
    let folder = tempfile::tempdir().unwrap();
    let source = vmware_disk();
    let said = succeed(folder.path(), &["info", source.to_str().unwrap()]);
    assert!(said.contains("format: vmdk (streamOptimized)\n"), "{said}");
    assert!(said.contains("virtual size: 10 MiB (10485760 bytes)\n"), "{said}");
    let layer = document(folder.path(), &["info", source.to_str().unwrap()])["layers"][0].clone();
    assert_eq!(layer["variant"], "streamOptimized");
    assert_eq!(layer["virtual-size"], 10_485_760);
    assert_eq!(layer["cluster-size"], 65_536);
    assert_eq!(layer["file-size"], 271_360);
}

#[test]
fn info_follows_a_chain_only_when_asked() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "base.qcow2"]);
    let made = qemu_img(path, &["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"]);
    assert!(made.status.success(), "{}", complaint(&made));
    let chain = document(path, &["info", "--chain", "top.qcow2"]);
    assert_eq!(chain["layers"].as_array().unwrap().len(), 2);
    assert_eq!(chain["layers"][0]["backing-file"], "base.qcow2");
    fs::remove_file(path.join("base.qcow2")).unwrap();
    assert_eq!(document(path, &["info", "top.qcow2"])["layers"].as_array().unwrap().len(), 1);
    fail(path, &["info", "--chain", "top.qcow2"], 1);
}

#[test]
fn references_are_followed_as_far_as_allowed() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::create_dir(path.join("deep")).unwrap();
    succeed(path, &["convert", "disk.raw", "base.qcow2"]);
    let here = ["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "here.qcow2"];
    assert!(qemu_img(path, &here).status.success());
    let above = ["create", "-q", "-f", "qcow2", "-b", "../base.qcow2", "-F", "qcow2", "deep/above.qcow2"];
    assert!(qemu_img(path, &above).status.success());

    succeed(path, &["compare", "disk.raw", "here.qcow2"]);
    fail(path, &["compare", "--references", "deny", "disk.raw", "here.qcow2"], 6);
    fail(path, &["compare", "disk.raw", "deep/above.qcow2"], 6);
    succeed(path, &["compare", "--allow-dir", ".", "disk.raw", "deep/above.qcow2"]);
    succeed(path, &["compare", "--references", "deny", "--allow-dir", ".", "disk.raw", "deep/above.qcow2"]);
}

#[test]
fn map_covers_the_disk_without_gaps_as_qemu_img_does() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let map = document(path, &["map", "disk.qcow2"]);
    let mut end = 0;
    for entry in map.as_array().unwrap() {
        assert_eq!(entry["start"], end);
        end += entry["length"].as_u64().unwrap();
    }
    assert_eq!(end, fs::metadata(path.join("disk.raw")).unwrap().len().next_multiple_of(512));
    let witness = qemu_img(path, &["map", "--output=json", "disk.qcow2"]);
    let witness: serde_json::Value = serde_json::from_slice(&witness.stdout).unwrap();
    let data = |map: &serde_json::Value| -> Vec<(u64, u64)> {
        let data = map.as_array().unwrap().iter().filter(|entry| entry["data"] == true);
        data.map(|entry| (entry["start"].as_u64().unwrap(), entry["offset"].as_u64().unwrap())).collect()
    };
    assert_eq!(data(&map), data(&witness));
    let said = succeed(path, &["map", "disk.qcow2"]);
    assert!(said.starts_with("offset") && said.contains("data"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = folder_with_disk();
    let mut child =
        transload(folder.path(), &["formats"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(complaint(&output), "");
}

#[test]
fn check_tells_sound_images_from_corrupt_ones() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let report = document(path, &["check", "disk.qcow2"]);
    assert_eq!(report["clean"], true);
    assert_eq!(report["corruptions"], 0);

    // The first entry of the L2 table points far behind the end of the file.
    let mut image = fs::read(path.join("disk.qcow2")).unwrap();
    let number = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let l1 = usize::try_from(number(&image, 40)).unwrap();
    let l2 = usize::try_from(number(&image, l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    image[l2..l2 + 8].copy_from_slice(&((1_u64 << 63) | (1 << 40)).to_be_bytes());
    fs::write(path.join("broken.qcow2"), &image).unwrap();
    let output = run(path, &["check", "--json", "broken.qcow2"]);
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert!(report["corruptions"].as_u64().unwrap() > 0);
    fail(path, &["check", "disk.raw"], 5);
}

#[test]
fn a_leak_is_told_and_mended_and_no_failure() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "leaky.qcow2"]);
    // A second reference for the cluster of the header.
    let mut image = fs::read(path.join("leaky.qcow2")).unwrap();
    let number = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let table = usize::try_from(number(&image, 48)).unwrap();
    let block = usize::try_from(number(&image, table)).unwrap();
    image[block + 1] = 2;
    fs::write(path.join("leaky.qcow2"), &image).unwrap();
    let report = document(path, &["check", "leaky.qcow2"]);
    assert_eq!((&report["leaks"], &report["corruptions"]), (&1.into(), &0.into()), "{report}");
    let report = document(path, &["check", "--repair", "leaky.qcow2"]);
    assert_eq!((&report["leaks-fixed"], &report["clean"]), (&1.into(), &true.into()), "{report}");
    assert_eq!(document(path, &["check", "leaky.qcow2"])["leaks"], 0);
    assert!(qemu_img(path, &["check", "leaky.qcow2"]).status.success());
}

#[test]
fn compare_answers_with_the_first_difference() {
    let folder = folder_with_disk();
    let path = folder.path();
    let mut other = disk();
    other[2_000_000] ^= 1;
    other[2_500_000] ^= 1;
    fs::write(path.join("other.raw"), &other).unwrap();
    assert_eq!(succeed(path, &["compare", "disk.raw", "disk.raw"]), "identical\n");
    let output = run(path, &["compare", "disk.raw", "other.raw"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains("2000000"));
    let output = run(path, &["compare", "--json", "disk.raw", "other.raw"]);
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verdict["identical"], &verdict["first-difference"]), (&false.into(), &2_000_000.into()));

    other.clone_from(&disk());
    other.extend([0; 5000]);
    fs::write(path.join("longer.raw"), &other).unwrap();
    succeed(path, &["compare", "disk.raw", "longer.raw"]);
    fail(path, &["compare", "--strict", "disk.raw", "longer.raw"], 3);
}

#[test]
fn digest_prints_as_sha256sum_does() {
    let folder = folder_with_disk();
    let path = folder.path();
    let ours = succeed(path, &["digest", "disk.raw"]);
    let theirs = std::process::Command::new("sha256sum").arg("disk.raw").current_dir(path).output().unwrap();
    assert_eq!(ours, String::from_utf8(theirs.stdout).unwrap());
}

#[test]
fn measure_is_enough_and_agrees_for_images_and_sizes() {
    let folder = folder_with_disk();
    let path = folder.path();
    let measured = document(path, &["measure", "-O", "qcow2", "disk.raw"]);
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    let real = fs::metadata(path.join("disk.qcow2")).unwrap().len();
    assert!(measured["required"].as_u64().unwrap() >= real, "{measured} {real}");
    assert!(measured["fully-allocated"].as_u64().unwrap() >= measured["required"].as_u64().unwrap());
    let empty = document(path, &["measure", "-O", "qcow2", "--size", "10G"]);
    let witness = qemu_img(path, &["measure", "--output=json", "-O", "qcow2", "--size", "10G"]);
    let witness: serde_json::Value = serde_json::from_slice(&witness.stdout).unwrap();
    assert_eq!((&empty["required"], &empty["fully-allocated"]), (&witness["required"], &witness["fully-allocated"]));
    fail(path, &["measure", "-O", "qcow2"], 2);
    fail(path, &["measure", "-O", "qcow2", "disk.raw", "--size", "1G"], 2);
}

#[test]
fn create_makes_an_empty_disk_that_others_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let cases: &[(&str, &[&str])] = &[
        ("a.raw", &[]),
        ("a.qcow2", &[]),
        ("b.qcow2", &["-o", "cluster_size=4k,compat=0.10"]),
        ("a.vmdk", &[]),
        ("b.vmdk", &["-o", "subformat=streamOptimized"]),
        ("c.vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
    ];
    for (name, options) in cases {
        let made = document(path, &[&["create", name, "5M"], *options].concat());
        assert_eq!(made["virtual-size"], 5 << 20, "{name}");
        let info = qemu_img(path, &["info", "--output=json", name]);
        assert!(info.status.success(), "{name}: {}", complaint(&info));
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        assert_eq!(info["virtual-size"], 5 << 20, "{name}");
    }
    let said = fail(path, &["create", "a.qcow2", "5M"], 6);
    assert!(said.contains("--force"), "{said}");
    succeed(path, &["create", "--force", "a.qcow2", "1M"]);
    fail(path, &["create", "e.qcow2", "lots"], 2);
    fail(path, &["create", "e.qcow2", "1M", "-o", "cluster_size=12345"], 2);
    assert!(!names(path).contains(&"e.qcow2".to_owned()));
}

#[test]
fn create_makes_an_overlay_as_large_as_its_backing_file() {
    let folder = folder_with_disk();
    let path = folder.path();
    fs::create_dir(path.join("deep")).unwrap();
    succeed(path, &["convert", "disk.raw", "deep/base.qcow2"]);
    succeed(path, &["create", "-o", "backing_file=base.qcow2,backing_fmt=qcow2", "deep/top.qcow2"]);
    succeed(path, &["compare", "disk.raw", "deep/top.qcow2"]);
    let judge = qemu_img(path, &["compare", "-f", "raw", "-F", "qcow2", "disk.raw", "deep/top.qcow2"]);
    assert!(judge.status.success(), "{}", complaint(&judge));
    fail(path, &["create", "-o", "backing_file=none.qcow2,backing_fmt=qcow2", "deep/other.qcow2"], 1);
    fail(path, &["create", "deep/other.qcow2"], 2);
    assert_eq!(names(&path.join("deep")), ["base.qcow2", "top.qcow2"]);
}

#[test]
fn create_is_deterministic_and_seeds_differ() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let make = |options: &[&str]| {
        succeed(path, &[&["create", "--force", "a.vmdk", "5M"], options].concat());
        fs::read(path.join("a.vmdk")).unwrap()
    };
    assert!(make(&[]) == make(&[]));
    assert!(make(&["--seed", "one"]) == make(&["--seed", "one"]));
    assert!(make(&["--seed", "one"]) != make(&["--seed", "two"]));
}

#[test]
fn resize_grows_by_itself_and_shrinks_when_told() {
    let folder = folder_with_disk();
    let path = folder.path();
    succeed(path, &["convert", "disk.raw", "disk.qcow2"]);
    for image in ["disk.raw", "disk.qcow2"] {
        succeed(path, &["resize", image, "4M"]);
        let grown = document(path, &["resize", image, "+1M"]);
        assert_eq!((&grown["old-size"], &grown["new-size"]), (&(4 << 20).into(), &(5 << 20).into()), "{image}");
        let said = fail(path, &["resize", image, "-2M"], 6);
        assert!(said.contains("--shrink"), "{said}");
        succeed(path, &["resize", "--shrink", image, "-2M"]);
        assert_eq!(document(path, &["info", image])["layers"][0]["virtual-size"], 3 << 20);
        fail(path, &["resize", "--shrink", image, "-9M"], 2);
    }
    assert!(qemu_img(path, &["check", "disk.qcow2"]).status.success());
    succeed(path, &["compare", "disk.raw", "disk.qcow2"]);
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeed(path, &["completions", shell]);
        assert!(script.contains("convert") && script.contains("prealloc"), "{shell}");
    }
    assert!(succeed(path, &["man"]).starts_with(".ie"));
    succeed(path, &["man", "--dir", "pages"]);
    let pages = names(&path.join("pages"));
    for command in [
        "check",
        "compare",
        "completions",
        "convert",
        "create",
        "digest",
        "export",
        "formats",
        "import",
        "info",
        "man",
        "map",
        "measure",
        "repack",
        "resize",
        "validate",
    ] {
        assert!(pages.contains(&format!("transload-{command}.1")), "{command}: {pages:?}");
        let help = succeed(path, &[command, "--help"]);
        assert!(help.contains("Usage: transload"), "{help}");
    }
    assert!(pages.contains(&"transload.1".to_owned()));
}

#[test]
fn help_lists_the_formats_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let help = succeed(folder.path(), &["convert", "--help"]);
    for format in transload::image::FORMATS {
        assert!(help.contains(format.name), "{}: {help}", format.name);
        for option in format.create_options {
            assert!(help.contains(option.name), "{}: {help}", option.name);
        }
    }
}
