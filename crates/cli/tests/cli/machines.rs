//! `info` of machines.

use std::fs;

use crate::run::{document, fail, succeed};

const VMX: &str = "displayName = \"two|0Alines\"\nmemsize = \"64\"\nfirmware = \"efi\"\nethernet0.present = \"TRUE\"\n";

#[test]
fn a_machine_is_told_by_its_content_unless_a_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("vm.vmx"), VMX).unwrap();
    fs::write(path.join("settings"), format!("config.version = \"8\"\n{VMX}")).unwrap();
    for name in ["vm.vmx", "settings"] {
        let said = succeed(path, &["info", name]);
        assert!(said.contains("machine: two lines\n") && said.contains("firmware: UEFI\n"), "{said}");
    }
    let machine = &document(path, &["info", "vm.vmx"])["machines"][0]["machine"];
    assert_eq!((&machine["name"], &machine["memory-mib"]), (&"two\nlines".into(), &64.into()));
    assert_eq!(machine["firmware"]["kind"], "efi");
    assert!(succeed(path, &["info", "-f", "raw", "vm.vmx"]).contains("format: raw"));
}

#[test]
fn a_description_that_lies_is_corrupt_and_one_that_is_encrypted_unsupported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("lie.vmx"), "displayName = \"a\"\nmemsize = \"-1\"\n").unwrap();
    fs::write(path.join("locked.vmx"), ".encoding = \"UTF-8\"\nencryption.data = \"x\"\n").unwrap();
    fs::write(path.join("bomb.ovf"), "<!DOCTYPE a [<!ENTITY b \"c\">]><Envelope>&b;</Envelope>").unwrap();
    fs::write(path.join("broken.ovf"), "<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>\n<a>\n</Envelope>")
        .unwrap();
    fail(path, &["info", "lie.vmx"], 4);
    fail(path, &["info", "locked.vmx"], 5);
    fail(path, &["info", "bomb.ovf"], 6);
    let said = fail(path, &["info", "broken.ovf"], 4);
    assert!(said.contains("broken.ovf: OVF: line 3"), "{said}");
}
