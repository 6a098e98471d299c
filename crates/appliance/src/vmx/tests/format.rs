use transload_block::ErrorKind;

use crate::vmx::{MAX_LENGTH, read};
use crate::{Bus, DiskMode, Firmware, Machine, Media, Network, NoteKind, Notes};

/// Reads settings behind those that every file has.
fn machine(settings: &str) -> (Machine, Notes) {
    let reading = read(format!("config.version = \"8\"\ndisplayName = \"vm\"\n{settings}").as_bytes()).unwrap();
    (reading.value, reading.notes)
}

fn kind(text: &[u8]) -> ErrorKind {
    read(text).unwrap_err().kind()
}

#[test]
fn keys_have_no_case_and_values_no_need_of_quotes() {
    let (machine, _) = machine(
        "MEMSIZE=64\nNumVCPUs= \"2\" # two\n  ide0:0.PRESENT =true\nIDE0:0.filename = a b.vmdk   # a disk\r\nscsi1.present = \"yes\"\n",
    );
    assert_eq!((machine.memory_mib, machine.cpus), (64, 2));
    assert_eq!(machine.disks[0].file.as_deref(), Some("a b.vmdk"));
    assert!(machine.controller(Bus::Scsi, 1).is_some());
}

#[test]
fn quotes_and_escapes() {
    for (written, meant) in [
        (r#""a|22b""#, "a\"b"),
        (r#""a|7Cb|7c""#, "a|b|"),
        (r#""two|0Alines""#, "two\nlines"),
        (r#""|C3|BC""#, "ü"),
        (r#""|FC""#, "ü"),
        (r#""50|zz|""#, "50|zz|"),
        (r#""a"b"c""#, "a\"b\"c"),
        (r#""open"#, "open"),
        (r##""a # b" # c"##, "a # b"),
        ("☃", "☃"),
    ] {
        let (machine, _) = machine(&format!("annotation = {written}"));
        assert_eq!(machine.annotation.as_deref(), Some(meant), "{written}");
    }
}

#[test]
fn of_two_settings_the_later_counts_and_is_noted() {
    let (machine, notes) =
        machine("memsize = \"64\"\nMemSize = \"128\"\nnumvcpus = \"1\"\nnumvcpus = \"1\"\nnot a setting\n");
    assert_eq!(machine.memory_mib, 128);
    let notes: Vec<_> = notes.iter().map(|note| (note.kind, note.part.as_str())).collect();
    assert_eq!(notes, [(NoteKind::Attention, "MemSize"), (NoteKind::LeftOut, "line 7")]);
}

#[test]
fn encodings() {
    let text = "displayName = \"Grüße ☃\"\nmemsize = \"64\"\n";
    let wide = |big: bool| {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
    };
    let name = |bytes: &[u8]| read(bytes).unwrap().value.name;
    assert_eq!(name(text.as_bytes()), "Grüße ☃");
    assert_eq!(name(format!("\u{feff}{text}").as_bytes()), "Grüße ☃");
    assert_eq!(name(&wide(false)), "Grüße ☃");
    assert_eq!(name(&wide(true)), "Grüße ☃");
    assert_eq!(name(b".encoding = \"windows-1252\"\ndisplayName = \"\x80 \xfc\""), "€ ü");
    assert_eq!(name(b".Encoding=Shift_JIS\ndisplayName = \"\x93\xfa\x96\x7b\""), "日本");
    assert_eq!(name(b".encoding = \"GBK\"\ndisplayName = \"\xd6\xd0\""), "中");
    assert_eq!(name(b".encoding = \"cp932\"\ndisplayName = \"\x93\xfa\""), "日");
    // Neither said nor UTF-8, and said to be UTF-8 and not.
    for bytes in [&b"displayName = \"\xfc\""[..], b".encoding = \"UTF-8\"\ndisplayName = \"\xfc\""] {
        let reading = read(bytes).unwrap();
        assert_eq!(reading.value.name, "ü");
        assert!(reading.notes.iter().any(|note| note.part == ".encoding"));
    }
    assert_eq!(kind(b".encoding = \"klingon\"\ndisplayName = \"a\""), ErrorKind::Unsupported);
    assert_eq!(kind(b"\xff\xfed\0\x00\xd8a\0"), ErrorKind::Corrupt);
}

#[test]
fn disks_of_every_bus_and_kind() {
    let (machine, notes) = machine(
        r#"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "C:\VMs\a-000002.vmdk"
scsi0:1.present = "FALSE"
scsi0:1.fileName = "no.vmdk"
scsi0:2.present = "TRUE"
scsi0:2.deviceType = "rawDisk"
scsi0:2.fileName = "physical.vmdk"
scsi0:3.present = "TRUE"
scsi0:3.deviceType = "scsi-passthru"
scsi0:3.fileName = "/dev/sg0"
sata0.present = "TRUE"
sata0:1.present = "TRUE"
sata0:1.fileName = "[store one] vm/b.vmdk"
sata0:1.mode = "independent-persistent"
nvme0.present = "TRUE"
nvme0:0.present = "TRUE"
nvme0:0.fileName = "c.vmdk"
nvme0:0.mode = "Undoable"
ide1:0.present = "TRUE"
ide1:0.fileName = "install.ISO"
scsi1.present = "FALSE"
scsi1:0.present = "TRUE"
scsi1:0.fileName = "off.vmdk"
scsi2:0.present = "TRUE"
scsi2:0.fileName = "d.vmdk"
ide0:0.present = "TRUE"
"#,
    );
    let disks: Vec<_> =
        machine.disks.iter().map(|disk| (disk.address.to_string(), disk.file.as_deref().unwrap(), disk.mode)).collect();
    assert_eq!(
        disks,
        [
            ("scsi0:0".to_owned(), r"C:\VMs\a-000002.vmdk", DiskMode::Persistent),
            ("scsi0:2".to_owned(), "physical.vmdk", DiskMode::Persistent),
            ("scsi2:0".to_owned(), "d.vmdk", DiskMode::Persistent),
            ("nvme0:0".to_owned(), "c.vmdk", DiskMode::Undoable),
            ("sata0:1".to_owned(), "[store one] vm/b.vmdk", DiskMode::IndependentPersistent),
        ]
    );
    assert!(machine.disks[1].raw_device);
    assert_eq!(machine.drives[0].media, Media::Image(String::from("install.ISO")));
    let parts: Vec<_> = notes.iter().map(|note| note.part.as_str()).collect();
    assert_eq!(parts, ["memsize", "scsi0:0", "scsi0:3", "scsi1:0", "scsi2", "ide0:0", "ide1:0"]);
}

#[test]
fn networks_of_hosted_products_and_of_servers() {
    let network = |settings: &str| {
        let settings: String = settings.split(' ').map(|setting| format!("ethernet0.{setting}\n")).collect();
        machine(&format!("ethernet0.present = \"TRUE\"\n{settings}")).0.nics[0].network.clone()
    };
    let named = |name: &str| Network::Named(name.to_owned());
    assert_eq!(network("connectionType=nat"), Network::Nat);
    assert_eq!(network("connectionType=hostonly networkName=VMnet1"), Network::HostOnly);
    assert_eq!(network("connectionType=bridged networkName=VMnet0"), Network::Bridged);
    assert_eq!(network("networkName=LAN"), named("LAN"));
    assert_eq!(network("connectionType=custom vnet=/dev/vmnet2"), named("vmnet2"));
    assert_eq!(network("connectionType=none"), Network::None);
    assert_eq!(network("address=nonsense"), Network::Bridged);
}

#[test]
fn firmware_and_module() {
    assert_eq!(machine("firmware = \"efi\"").0.firmware, Firmware::Efi { secure_boot: false });
    let (secure, _) = machine("firmware = \"EFI\"\nuefi.secureBoot.enabled = \"TRUE\"\nvtpm.present = \"TRUE\"");
    assert_eq!((secure.firmware, secure.tpm), (Firmware::Efi { secure_boot: true }, true));
    assert!(machine("managedVM.autoAddVTPM = \"software\"").0.tpm);
    let (bios, notes) = machine("uefi.secureBoot.enabled = \"TRUE\"");
    assert_eq!(bios.firmware, Firmware::Bios);
    assert!(notes.iter().any(|note| note.part == "uefi.secureBoot.enabled"));
}

#[test]
fn what_is_no_machine_or_lies_is_refused() {
    assert_eq!(kind(b""), ErrorKind::NotThisFormat);
    assert_eq!(kind(b"[section]\na = b\n"), ErrorKind::NotThisFormat);
    assert_eq!(kind(&[0; 4096]), ErrorKind::NotThisFormat);
    assert_eq!(kind(&vec![b' '; MAX_LENGTH + 1]), ErrorKind::TooLarge);
    for lie in [
        "memsize = \"0\"",
        "memsize = \"-4\"",
        "memsize = \"lots\"",
        "numvcpus = \"0\"",
        "numvcpus = \"99999999999\"",
        "cpuid.coresPerSocket = \"0\"",
    ] {
        assert_eq!(
            kind(lie.as_bytes()),
            if lie.starts_with("mem") { ErrorKind::Corrupt } else { ErrorKind::NotThisFormat },
            "{lie}"
        );
        assert_eq!(kind(format!("guestOS = \"other\"\n{lie}").as_bytes()), ErrorKind::Corrupt, "{lie}");
    }
    assert_eq!(
        kind(b".encoding = \"UTF-8\"\ndisplayName = \"a\"\nencryption.keySafe = \"vmware:key\""),
        ErrorKind::Unsupported
    );
    assert_eq!(kind(b"encryption.data = \"x\""), ErrorKind::Unsupported);
    let many: String = (0..5000).map(|number| format!("scsi{number}:0.present = \"TRUE\"\n")).collect();
    assert_eq!(kind(format!("displayName = \"a\"\n{many}").as_bytes()), ErrorKind::TooLarge);
}
