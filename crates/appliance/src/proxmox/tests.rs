//! The script is run by a real shell against a `qm` that writes down what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::write;
use crate::{
    Address, Bus, Controller, Disk, DiskFormat, Drive, DriveKind, Firmware, GuestOs, Mac, MacPolicy, Machine, Media,
    Network, Nic, NicModel, ScsiModel, Sound,
};

/// Runs the script and returns the arguments of each call of `qm`, and how it ended.
fn run(machine: &Machine, files: &[&str]) -> (Vec<Vec<String>>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let vm = folder.path().join("it's a, folder");
    fs::create_dir(&vm).unwrap();
    for file in files {
        fs::write(vm.join(file), file).unwrap();
    }
    fs::write(vm.join("make.sh"), write(machine).text).unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    // Arguments end in a byte that no argument has; what a link leads to is said as well.
    let fake = format!(
        "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\1' \"$a\"; case $a in *import-from=*) f=${{a#*import-from=}}; cat \"${{f%%,*}}\"; printf '\\1';; esac; done >> '{0}'\nprintf '\\2' >> '{0}'\n",
        folder.path().join("log").display()
    );
    fs::write(bin.join("qm"), fake).unwrap();
    fs::set_permissions(bin.join("qm"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .arg(vm.join("make.sh"))
        .args(["100", "local-lvm"])
        .env("PATH", path)
        .current_dir("/")
        .output()
        .unwrap();
    let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let calls =
        log.split_terminator('\u{2}').map(|call| call.split_terminator('\u{1}').map(str::to_owned).collect()).collect();
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    (calls, output.status.success())
}

/// The value behind an option.
fn option<'a>(calls: &'a [Vec<String>], name: &str) -> Option<&'a str> {
    let arguments = calls.iter().flatten().collect::<Vec<_>>();
    let place = arguments.iter().position(|argument| **argument == format!("--{name}"))?;
    arguments.get(place + 1).map(|value| value.as_str())
}

fn disk(number: usize, address: Address, file: &str) -> Disk {
    let mut disk = Disk::new(format!("disk{number}"), address, Some(file.to_owned()));
    disk.format = Some(DiskFormat::Qcow2);
    disk
}

fn machine() -> Machine {
    let mut machine = Machine::new("Grüße $(touch pwned) `id` 'x' \"y\"\nz", 2048);
    machine.annotation = Some(String::from("it's\n$HOME \"quoted\" \\ ☃"));
    machine.guest = GuestOs::from_vmx("debian12-64");
    (machine.cpus, machine.cores_per_socket) = (6, Some(3));
    machine.uuid = Some(String::from("42359420-99dc-4261-5264-ba58ddae20e4"));
    machine.firmware = Firmware::Efi { secure_boot: true };
    machine.tpm = true;
    machine.features.memory_hot_add = Some(true);
    machine.features.nested_virtualization = Some(true);
    machine.controllers = vec![Controller { bus: Bus::Scsi, number: 0, model: Some(ScsiModel::LsiLogic) }];
    machine.disks = vec![
        disk(1, Address::new(Bus::Scsi, 0, 0), "it's $(touch pwned), one.qcow2"),
        disk(2, Address::new(Bus::Nvme, 0, 0), "-n two.qcow2"),
        disk(3, Address::new(Bus::Sata, 0, 3), "three.qcow2"),
        Disk { capacity: Some((5 << 30) + 1), ..Disk::new("disk4", Address::new(Bus::Scsi, 0, 1), None) },
    ];
    machine.drives = vec![Drive {
        kind: DriveKind::Cdrom,
        address: Some(Address::new(Bus::Ide, 1, 0)),
        floppy: 0,
        media: Media::Empty,
        connected: true,
    }];
    let nic = |number, model, connected, mac| Nic {
        number,
        model: Some(model),
        network: Network::Bridged,
        mac,
        connected,
        wake_on_lan: None,
    };
    machine.nics = vec![
        nic(0, NicModel::VmxNet3, true, MacPolicy::Fixed(Mac([0, 0x50, 0x56, 1, 2, 0xab]))),
        nic(1, NicModel::VmxNet2, false, MacPolicy::Generated(None)),
    ];
    machine.sound = Some(Sound::HdAudio);
    machine
}

#[test]
fn the_script_makes_the_whole_machine() {
    let files = ["it's $(touch pwned), one.qcow2", "-n two.qcow2", "three.qcow2"];
    let (calls, done) = run(&machine(), &files);
    assert!(done);
    assert_eq!(calls[0][..2], ["create", "100"]);
    for (name, value) in [
        ("name", "Gre-touch-pwned-id-x-y-z"),
        ("description", "it's\n$HOME \"quoted\" \\ ☃"),
        ("ostype", "l26"),
        ("memory", "2048"),
        ("sockets", "2"),
        ("cores", "3"),
        ("cpu", "host"),
        ("smbios1", "uuid=42359420-99dc-4261-5264-ba58ddae20e4"),
        ("scsihw", "virtio-scsi-single"),
        ("bios", "ovmf"),
        ("machine", "q35"),
        ("efidisk0", "local-lvm:1,efitype=4m,pre-enrolled-keys=1"),
        ("tpmstate0", "local-lvm:1,version=v2.0"),
        ("hotplug", "network,disk,usb,memory"),
        ("net0", "vmxnet3=00:50:56:01:02:AB,bridge=vmbr0"),
        ("net1", "e1000,bridge=vmbr0,link_down=1"),
        ("audio0", "device=ich9-intel-hda,driver=none"),
        ("scsi2", "local-lvm:6,discard=on"),
        ("ide2", "none,media=cdrom"),
        ("boot", "order=scsi0;ide2"),
    ] {
        assert_eq!(option(&calls, name), Some(value), "{name}");
    }
    // What the links lead to is the file that was meant.
    for (slot, file) in ["scsi0", "scsi1", "sata0"].iter().zip(files) {
        let call = calls.iter().find(|call| call.contains(&format!("--{slot}"))).unwrap();
        assert!(call[3].starts_with("local-lvm:0,import-from=/") && call[3].ends_with(".qcow2,discard=on"), "{call:?}");
        assert_eq!(call[4], file);
    }
}

#[test]
fn a_missing_disk_stops_the_script_before_anything_is_made() {
    let (calls, done) = run(&machine(), &["three.qcow2"]);
    assert!(!done && calls.is_empty(), "{calls:?}");
}

#[test]
fn disks_find_slots_that_the_guest_has_drivers_for() {
    let slots = |guest: &str, model: Option<ScsiModel>, addresses: &[Address]| {
        let mut machine = Machine::new("vm", 512);
        machine.guest = GuestOs::from_vmx(guest);
        machine.controllers = vec![Controller { bus: Bus::Scsi, number: 0, model }];
        machine.disks = addresses.iter().map(|address| disk(1, *address, "a")).collect();
        let written = write(&machine);
        let names = written.text.lines().filter_map(|line| line.strip_prefix("qm set \"$VMID\" --"));
        let names: Vec<_> =
            names.filter_map(|rest| rest.split(' ').next()).filter(|name| *name != "boot").map(str::to_owned).collect();
        (names.join(" "), written.notes.0.len())
    };
    let scsi = Address::new(Bus::Scsi, 0, 0);
    assert_eq!(slots("windows9-64", Some(ScsiModel::LsiLogicSas), &[scsi]), (String::from("sata0"), 1));
    assert_eq!(slots("windows9-64", Some(ScsiModel::ParaVirtual), &[scsi]), (String::from("scsi0"), 0));
    assert_eq!(slots("debian12-64", None, &[scsi]), (String::from("scsi0"), 1));
    let ide = [Address::new(Bus::Ide, 1, 1), Address::new(Bus::Ide, 0, 0), Address::new(Bus::Ide, 4, 0)];
    assert_eq!(slots("other", None, &ide), (String::from("ide3 ide0 ide1"), 0));
    let many: Vec<_> = (0..60).map(|unit| Address::new(Bus::Scsi, 0, unit)).collect();
    let (names, _) = slots("debian12-64", None, &many);
    assert!(names.ends_with("scsi30 virtio0 virtio1 virtio2 virtio3 virtio4 virtio5 virtio6 virtio7 virtio8 virtio9 virtio10 virtio11 virtio12 virtio13 virtio14 virtio15"), "{names}");
}
