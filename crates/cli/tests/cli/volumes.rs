//! Partitions, logical volumes and what is on them, through the command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{complaint, document, fail, qemu_img, run, succeed, workspace};

/// Runs a program of util-linux or gdisk, which is the witness that is not ours.
fn witness(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(format!("/usr/sbin/{program}")).current_dir(folder).args(arguments).output();
    let output = output.expect("a witness of these tests: install fdisk and gdisk");
    assert!(output.status.success(), "{program} {arguments:?}: {}", complaint(&output));
    String::from_utf8(output.stdout).expect("text")
}

const LAYOUT: [&str; 6] =
    ["--init", "gpt", "--add", "size=64M,type=esp,name=EFI,active", "--add", "rest,type=linux,name=root"];

#[test]
fn tables_are_made_and_edited_in_every_format_that_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for format in ["raw", "qcow2", "vhdx", "vhd", "vdi", "vmdk"] {
        let name = format!("disk.{format}");
        let name = name.as_str();
        succeed(path, &["create", name, "256M"]);
        succeed(path, &[&["partitions", name], &LAYOUT[..], &["--seed", "the same"]].concat());
        succeed(
            path,
            &["partitions", name, "--delete", "2", "--set", "1,name=boot,type=linux", "--add", "size=32M,type=swap"],
        );
        let found = document(path, &["partitions", name]);
        let rows: Vec<_> = found["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["name"].clone(), row["type-name"].clone()))
            .collect();
        assert_eq!(rows, [(Value::from("boot"), Value::from("linux")), (Value::Null, Value::from("swap"))], "{format}");
        assert_eq!(found["findings"], Value::Array(vec![]), "{format}");
        // Every format has the same disk, and others find it sound.
        succeed(
            path,
            &["check", name]
                .iter()
                .copied()
                .filter(|_| format != "raw")
                .chain(["info", name].into_iter().filter(|_| format == "raw"))
                .collect::<Vec<_>>(),
        );
        succeed(path, &["convert", "--force", name, "out.raw"]);
        assert!(witness(path, "sgdisk", &["--verify", "out.raw"]).contains("No problems found"), "{format}");
        succeed(path, &["compare", name, "disk.raw"]);
    }
}

#[test]
fn an_mbr_is_made_with_logical_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &["create", "disk.raw", "256M"]);
    let made = [
        "partitions",
        "disk.raw",
        "--init",
        "mbr",
        "--add",
        "size=64M,type=linux,active",
        "--add",
        "rest,type=extended",
    ];
    succeed(path, &[&made[..], &["--add", "size=32M,type=swap,logical", "--add", "rest,type=lvm,logical"]].concat());
    let said = witness(path, "sfdisk", &["--verify", "disk.raw"]);
    assert!(said.contains("No errors detected"), "{said}");
    let dump = witness(path, "sfdisk", &["--dump", "disk.raw"]);
    let ends = ["type=83, bootable", "type=f", "type=82", "type=8e"];
    assert!(ends.iter().all(|end| dump.lines().any(|line| line.ends_with(end))), "{dump}");
    let listed = succeed(path, &["partitions", "disk.raw"]);
    assert!(listed.contains("5  66 MiB") && listed.contains("Linux LVM"), "{listed}");
}

#[test]
fn a_new_table_does_not_take_away_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("data.raw"), vec![7; 4 << 20]).unwrap();
    fail(path, &["partitions", "data.raw", "--init", "gpt"], 6);
    assert!(fs::read(path.join("data.raw")).unwrap().iter().all(|byte| *byte == 7));
    succeed(path, &["partitions", "data.raw", "--init", "gpt", "--force", "--add", "rest"]);
    let said = fail(path, &["partitions", "data.raw", "--init", "mbr"], 6);
    assert!(said.contains("a table (GPT) with 1 partitions"), "{said}");
    // One thing that is not possible, and nothing is done.
    let before = fs::read(path.join("data.raw")).unwrap();
    fail(path, &["partitions", "data.raw", "--delete", "1", "--add", "size=1G"], 2);
    fail(path, &["partitions", "data.raw", "--delete", "9"], 2);
    fail(path, &["partitions", "data.raw", "--add", "rest,type=nonsense"], 2);
    assert!(fs::read(path.join("data.raw")).unwrap() == before);
}

#[test]
fn the_same_seed_makes_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["one.raw", "two.raw", "three.raw"] {
        succeed(path, &["create", name, "128M"]);
        let seed = if name == "three.raw" { "other" } else { "same" };
        succeed(path, &[&["partitions", name], &LAYOUT[..], &["--seed", seed]].concat());
    }
    assert!(fs::read(path.join("one.raw")).unwrap() == fs::read(path.join("two.raw")).unwrap());
    assert!(fs::read(path.join("one.raw")).unwrap() != fs::read(path.join("three.raw")).unwrap());
}

#[test]
fn the_second_copy_of_a_gpt_follows_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for format in ["raw", "qcow2", "vhdx"] {
        let name = format!("disk.{format}");
        let name = name.as_str();
        succeed(path, &["create", name, "128M"]);
        succeed(path, &[&["partitions", name], &LAYOUT[..]].concat());
        succeed(path, &["resize", name, "+64M"]);
        let said = succeed(path, &["partitions", name]);
        assert!(said.contains("resize --fix-gpt"), "{said}");
        assert_eq!(document(path, &["resize", "--fix-gpt", name, "+64M"])["fixed-gpt"], true);
        assert_eq!(document(path, &["partitions", name])["findings"], Value::Array(vec![]));
        succeed(path, &["partitions", name, "--delete", "2"]);
        // A VHDX only grows.
        if format == "vhdx" {
            continue;
        }
        succeed(path, &["resize", "--fix-gpt", "--shrink", name, "100M"]);
        succeed(path, &["convert", "--force", name, "out.raw"]);
        assert!(witness(path, "sgdisk", &["--verify", "out.raw"]).contains("No problems found"), "{format}");
        // What would not fit is refused before anything is lost.
        fail(path, &["resize", "--fix-gpt", "--shrink", name, "40M"], 2);
        assert_eq!(document(path, &["info", name])["layers"][0]["virtual-size"], 100 << 20);
    }
    succeed(path, &["create", "plain.raw", "1M"]);
    fail(path, &["resize", "--fix-gpt", "plain.raw", "2M"], 2);
}

#[test]
fn damage_is_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(path, &["create", "disk.raw", "128M"]);
    succeed(path, &[&["partitions", "disk.raw"], &LAYOUT[..]].concat());
    let mut bytes = fs::read(path.join("disk.raw")).unwrap();
    bytes[600] ^= 1;
    fs::write(path.join("primary.raw"), &bytes).unwrap();
    let said = succeed(path, &["partitions", "primary.raw"]);
    assert!(said.contains("warning: primary GPT: the CRC of the header"), "{said}");
    let end = bytes.len();
    bytes[end - 512..].fill(0);
    fs::write(path.join("both.raw"), &bytes).unwrap();
    fail(path, &["partitions", "both.raw"], 4);
    fs::write(path.join("cut.raw"), &fs::read(path.join("disk.raw")).unwrap()[..100 << 20]).unwrap();
    let cut = run(path, &["partitions", "cut.raw"]);
    assert_eq!(cut.status.code(), Some(4));
    assert!(String::from_utf8(cut.stdout).unwrap().contains("damage: the table is for a disk"));
}

/// The disks of the group that lvm2 made, whole.
fn lvm_disks(folder: &Path) {
    let part = |name: &str| fs::read(workspace().join("testdata/lvm").join(name)).expect("a specimen");
    for (name, parts) in [
        ("first", vec![(0, "first.head")]),
        ("second", vec![(0, "second.head")]),
        ("third", vec![(0, "third.head"), (50_266_112, "third.tail")]),
    ] {
        let mut bytes = vec![0; 48 << 20];
        for (at, file) in parts {
            let part = part(file);
            bytes[at..at + part.len()].copy_from_slice(&part);
        }
        fs::write(folder.join(format!("{name}.raw")), bytes).expect("a disk");
    }
}

#[test]
fn groups_over_several_images_are_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    lvm_disks(path);
    let made = qemu_img(path, &["convert", "-O", "qcow2", "second.raw", "second.qcow2"]);
    assert!(made.status.success(), "{}", complaint(&made));
    let found = document(path, &["partitions", "--with-disk", "second.qcow2", "--with-disk", "third.raw", "first.raw"]);
    let group = &found["groups"][0];
    assert_eq!((group["name"].as_str(), group["missing"].as_array().map(Vec::len)), (Some("tlvg"), Some(0)));
    let volumes = group["volumes"].as_array().unwrap();
    let unreadable: Vec<_> = volumes
        .iter()
        .filter(|volume| volume.get("unreadable").is_some())
        .map(|volume| volume["name"].clone())
        .collect();
    assert_eq!(unreadable, ["r"]);
    let alone = succeed(path, &["partitions", "first.raw"]);
    assert!(alone.contains("missing: physical volume dvmmYS") && alone.contains("tlvg/s2"), "{alone}");
}

#[test]
fn encrypted_volumes_and_discs_are_looked_at_as_disks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut header = vec![0; 1 << 20];
    header[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x02");
    header[168..204].copy_from_slice(b"202265fe-9842-4c2d-ac9b-aba1b05deb63");
    fs::write(path.join("secret.img"), &header).unwrap();
    let found = document(path, &["inspect", "secret.img"]);
    assert_eq!(found["encrypted"][0]["type"], "crypto_LUKS");
    assert_eq!(found["encrypted"][0]["uuid"], "202265fe-9842-4c2d-ac9b-aba1b05deb63");
    let said = succeed(path, &["inspect", "secret.img"]);
    assert!(said.contains("encrypted: volume whole, crypto_LUKS version 2"), "{said}");
}

#[test]
fn inspect_tells_of_a_system_whatever_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let tree = path.join("tree/etc");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("os-release"), "PRETTY_NAME=\"Test \u{1b}[31mOS 1\"\nID=test\n").unwrap();
    fs::write(tree.join("fstab"), "LABEL=here / ext4 defaults 0 1\nUUID=none /gone xfs defaults 0 2\n").unwrap();
    succeed(path, &["create", "disk.raw", "64M"]);
    succeed(path, &["partitions", "disk.raw", "--init", "gpt", "--add", "rest,type=linux"]);
    witness(path, "mkfs.ext4", &["-q", "-L", "here", "-E", "offset=1048576", "-d", "tree", "disk.raw", "60M"]);
    succeed(path, &["convert", "disk.raw", "disk.vmdk"]);
    for name in ["disk.raw", "disk.vmdk"] {
        let said = succeed(path, &["inspect", name]);
        // What an image says does not steer the terminal.
        assert!(said.contains("system: Test \u{fffd}[31mOS 1\n"), "{said}");
        assert!(said.contains("mounts /: LABEL=here (volume 1)\n"), "{said}");
        assert!(said.contains("mounts /gone: UUID=none (not on this disk)\n"), "{said}");
    }
}
