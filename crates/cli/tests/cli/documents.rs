//! The documentation of the command line, compared with the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use transload::convert::{Comparison, Difference, DigestKind, GuestDigest, MapEntry, Report};
use transload::image::{BitmapInfo, CheckReport, ExtentInfo, Finding, FindingKind, ImageInfo, Measure, SnapshotInfo};

use crate::packages::folder_with_machine;
use crate::run::{document, folder_with_disk, run, succeed, workspace};

/// The fields that docs/json.md lists, by section.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        } else if let Some((field, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            sections.entry(section.clone()).or_default().insert(field.to_owned());
        }
    }
    sections
}

/// The fields of `value`, as docs/json.md spells them.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found.insert(path.clone());
                // Free names, documented as a whole.
                if !matches!(
                    name.as_str(),
                    "details" | "features" | "extra" | "config" | "video" | "property" | "products"
                ) {
                    fields(inner, &path, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| fields(inner, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[track_caller]
pub(crate) fn expect_documented(section: &str, prefix: &str, value: &Value) {
    let mut found = BTreeSet::new();
    fields(value, prefix, &mut found);
    let documented = &documented()[section];
    let missing: Vec<_> = found.difference(documented).collect();
    assert!(missing.is_empty(), "docs/json.md, {section}: not documented: {missing:?}");
}

/// Also wants every documented field that begins with `prefix` to be in `value`.
#[track_caller]
fn expect_exactly(section: &str, prefix: &str, value: &Value) {
    expect_documented(section, prefix, value);
    let mut found = BTreeSet::new();
    fields(value, prefix, &mut found);
    let documented = &documented()[section];
    let gone: Vec<_> = documented
        .iter()
        .filter(|field| field.starts_with(&format!("{prefix}.")) || (prefix.is_empty() && !field.contains('.')))
        .filter(|field| !found.contains(*field))
        .collect();
    assert!(gone.is_empty(), "docs/json.md, {section}: documented, but not printed: {gone:?}");
}

#[test]
fn what_the_program_prints_is_documented() {
    let folder = folder_with_disk();
    let path = folder.path();
    let cases: &[(&str, &[&str])] = &[
        ("convert --dry-run", &["convert", "--dry-run", "--verify", "--digest", "sha256", "disk.raw", "disk.qcow2"]),
        ("convert", &["convert", "--digest", "sha256", "disk.raw", "disk.qcow2"]),
        ("info", &["info", "disk.qcow2"]),
        ("map", &["map", "disk.qcow2"]),
        ("check", &["check", "disk.qcow2"]),
        ("compare", &["compare", "disk.raw", "disk.qcow2"]),
        ("measure", &["measure", "-O", "qcow2", "disk.raw"]),
        ("digest", &["digest", "disk.qcow2"]),
        ("create", &["create", "empty.qcow2", "1M"]),
        ("resize", &["resize", "empty.qcow2", "2M"]),
        ("partitions", &["partitions", "disk.raw"]),
        ("inspect", &["inspect", "disk.raw"]),
        ("formats", &["formats"]),
        ("script", &["script", "script.txt", "files.raw"]),
        ("ls", &["ls", "files.raw:/"]),
        ("find", &["find", "files.raw:/"]),
        ("stat", &["stat", "files.raw:/link"]),
        ("mkfs", &["mkfs", "empty.qcow2", "--type", "fat"]),
    ];
    fs::write(path.join("script.txt"), "create 16M\nmkfs #whole --type ext4 --label L\nln -s /x :/link\n").unwrap();
    for (section, arguments) in cases {
        expect_documented(section, "", &document(path, arguments));
    }
    for section in ["convert", "info", "measure", "digest", "create", "resize", "formats", "script"] {
        let (_, arguments) = cases.iter().find(|(name, _)| *name == section).unwrap();
        let arguments =
            [*arguments, if matches!(section, "convert" | "create" | "script") { &["--force"] } else { &[][..] }];
        expect_exactly(section, "", &document(path, &arguments.concat()));
    }
    what_is_printed_of_machines_is_documented();
    let failed = run(path, &["info", "none", "--json"]);
    expect_documented("Failures", "", &serde_json::from_slice(&failed.stdout).unwrap());
}

/// Of a machine with everything that packages have, also the signature and what is wrong with it.
fn what_is_printed_of_machines_is_documented() {
    let folder = folder_with_machine();
    let path = folder.path();
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a", "-keyout", "key"];
    let openssl = Command::new("openssl").current_dir(path).args(request).args(["-out", "cert"]).output();
    assert!(openssl.expect("openssl is a witness: install openssl").status.success());
    let signed = ["export", "vm.vmx", "-o", "vm.ova", "--sign", "key", "cert", "--force"];
    let cases: &[(&str, &[&str])] = &[
        ("export --dry-run", &["export", "vm.vmx", "-o", "vm.ova", "--dry-run"]),
        ("export", &signed),
        ("validate", &["validate", "vm.ova"]),
        ("repack", &["repack", "vm.ova", "-o", "repacked.ova", "--hw-version", "11"]),
        ("import", &["import", "vm.ova", "-o", "imported", "--to", "proxmox"]),
        ("info of a machine", &["info", "vm.ova"]),
        ("info of a machine", &["info", "vm.vmx"]),
    ];
    for (section, arguments) in cases {
        expect_documented(section, "", &document(path, arguments));
    }
}

#[test]
fn every_field_of_a_disk_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("luks.raw"), [&b"LUKS\xba\xbe\x00\x02"[..], &[0; 160], b"0123", &[0; 9000]].concat()).unwrap();
    succeed(path, &["create", "disk.raw", "8M"]);
    let disk = document(path, &["partitions", "disk.raw", "--init", "gpt", "--add", "rest,name=x"]);
    for (section, name) in
        [("partitions", "luks.raw"), ("inspect", "luks.raw"), ("partitions", "disk.raw"), ("inspect", "disk.raw")]
    {
        expect_documented(section, "", &document(path, &[section, name]));
    }
    // Nothing that is documented is missing but what depends on the contents.
    for field in ["image", "virtual-size", "table", "id", "sector-size", "partitions", "groups", "findings"] {
        assert!(disk.get(field).is_some(), "{field}");
    }
    let mut inspection = transload::inspect::Inspection::default();
    let text = || Some(String::from("text"));
    inspection.systems.push(transload::inspect::System {
        volume: String::new(),
        root: String::new(),
        family: transload::inspect::Family::Linux,
        name: text(),
        id: text(),
        version: text(),
        architecture: text(),
        hostname: text(),
        kernels: vec![],
        registry: vec![],
        mounts: vec![transload::inspect::Mount {
            source: String::new(),
            mount_point: String::new(),
            kind: String::new(),
            options: String::new(),
            state: transload::inspect::MountState::Locked,
            volume: text(),
        }],
    });
    inspection.boot_loaders.push(transload::inspect::BootLoader {
        name: String::new(),
        firmware: Some("uefi"),
        volume: String::new(),
        path: text(),
    });
    inspection.encrypted.push(transload::inspect::Encrypted {
        volume: String::new(),
        kind: "crypto_LUKS",
        version: Some("2"),
        label: text(),
        uuid: text(),
    });
    inspection.unreadable.push(transload::inspect::Unreadable {
        volume: String::new(),
        kind: "xfs",
        reason: String::new(),
    });
    let value = serde_json::to_value(inspection).unwrap();
    expect_documented("inspect", "", &value);
    for list in ["systems[]", "systems[].mounts[]", "boot-loaders[]", "encrypted[]", "unreadable[]"] {
        let inner = list.split('.').fold(value.clone(), |value, part| value[part.trim_end_matches("[]")][0].clone());
        expect_exactly("inspect", list, &inner);
    }
}

#[test]
fn every_field_of_an_image_is_documented() {
    let text = || Some(String::from("text"));
    let info = ImageInfo {
        variant: text(),
        file_size: Some(1),
        allocated_size: Some(1),
        cluster_size: Some(1),
        compression: text(),
        encryption: text(),
        backing_file: text(),
        backing_format: text(),
        data_file: text(),
        extents: vec![ExtentInfo { kind: String::new(), size: 1, file: text() }],
        snapshots: vec![SnapshotInfo {
            id: String::new(),
            name: String::new(),
            virtual_size: 1,
            vm_state_size: 1,
            date_seconds: 1,
            vm_clock_nanoseconds: 1,
        }],
        bitmaps: vec![BitmapInfo { name: String::new(), granularity: 1, flags: vec![] }],
        details: BTreeMap::from([(String::from("any"), String::new())]),
        warnings: vec![String::new()],
        ..ImageInfo::default()
    };
    let mut value = serde_json::to_value(info).unwrap();
    value["file"] = Value::from("added by the command");
    expect_exactly("info", "layers[]", &value);
}

#[test]
fn every_field_of_a_check_a_map_and_a_comparison_is_documented() {
    let mut report = CheckReport::default();
    report.add(Finding { kind: FindingKind::Leak, message: String::new(), fixed: true });
    expect_documented("check", "", &serde_json::to_value(report).unwrap());
    let entry = MapEntry {
        start: 0,
        length: 1,
        depth: 0,
        present: true,
        zero: false,
        data: true,
        compressed: false,
        offset: Some(0),
        filename: Some(String::new()),
    };
    expect_exactly("map", "[]", &serde_json::to_value(entry).unwrap());
    let comparison = Comparison {
        identical: false,
        first_difference: Some(1),
        size_differs: false,
        difference: Some(Difference::Content),
    };
    expect_documented("compare", "", &serde_json::to_value(comparison).unwrap());
    let report = Report {
        digests: vec![GuestDigest { algorithm: DigestKind::Sha256, hex: String::new() }],
        warnings: vec![String::new()],
        ..Report::default()
    };
    expect_documented("convert", "", &serde_json::to_value(report).unwrap());
    expect_documented("measure", "", &serde_json::to_value(Measure { required: 1, fully_allocated: 1 }).unwrap());
}

#[test]
fn every_option_is_in_the_description_of_the_command_line() {
    let text = fs::read_to_string(workspace().join("docs/cli.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let overview = succeed(folder.path(), &["--help"]);
    let commands = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    // A description that is wrapped goes on in lines that are further in.
    for line in commands.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   ")) {
        let command = line.split_whitespace().next().unwrap();
        let section = text.split("\n## ").find(|section| section.starts_with(&format!("`{command}`")));
        let section = section.unwrap_or_else(|| panic!("docs/cli.md: no section for {command}"));
        let help = succeed(folder.path(), &[command, "-h"]);
        let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
        for option in options.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--"))) {
            let name = option.split(['[', '=']).next().unwrap();
            let everywhere =
                ["--help", "--references", "--allow-dir", "--json", "--progress", "--quiet", "--spool", "--threads"];
            assert!(
                section.contains(name) || (everywhere.contains(&name) && text.contains(name)),
                "docs/cli.md, {command}: {name} is not described"
            );
        }
    }
}
