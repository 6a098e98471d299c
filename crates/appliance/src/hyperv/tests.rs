//! No PowerShell is to be had as a package: the script is read by its own rules for strings.

use super::write;
use crate::{
    Address, Bus, Disk, DiskFormat, Drive, DriveKind, Firmware, GuestOs, Mac, MacPolicy, Machine, Media, Network, Nic,
    NicModel, Port, PortBacking,
};

/// The script with each literal string as one `§`, and the strings themselves.
fn tokens(script: &str) -> (String, Vec<String>) {
    let quote = |character: char| matches!(character, '\'' | '‘' | '’' | '‚' | '‛');
    let (mut code, mut strings) = (String::new(), Vec::new());
    let mut characters = script.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(character) = characters.next() {
        if character == '#' {
            characters.by_ref().take_while(|character| *character != '\n').for_each(drop);
        } else if character == '"' {
            // The few that the script has of its own.
            let inner: String = characters.by_ref().take_while(|character| *character != '"').collect();
            assert!(inner.starts_with("missing: ") || inner.starts_with("machine $Name is made"), "{inner}");
        } else if quote(character) {
            let mut text = String::new();
            while let Some(character) = characters.next() {
                if !quote(character) {
                    text.push(character);
                } else if characters.peek().is_some_and(|next| quote(*next)) {
                    text.push(character);
                    characters.next();
                } else {
                    break;
                }
            }
            code.push('§');
            strings.push(text);
        } else {
            code.push(character);
        }
    }
    (code, strings)
}

fn disk(number: usize, address: Address, file: &str) -> Disk {
    let mut disk = Disk::new(format!("disk{number}"), address, Some(file.to_owned()));
    disk.format = Some(DiskFormat::Vhdx);
    disk
}

fn machine(firmware: Firmware) -> Machine {
    let mut machine = Machine::new("it’s 'a' $(Get-Date); `n \"x\"", 2048);
    machine.annotation = Some(String::from("two\nlines'; Remove-Item ‘C:\\’ #"));
    machine.guest = GuestOs::from_vmx("debian12-64");
    (machine.cpus, machine.cores_per_socket) = (8, Some(4));
    machine.features.nested_virtualization = Some(true);
    machine.firmware = firmware;
    machine.tpm = true;
    machine.disks = vec![
        disk(1, Address::new(Bus::Scsi, 0, 0), "it's, one.vhdx"),
        disk(2, Address::new(Bus::Scsi, 0, 1), "sub/two.vhdx"),
        Disk { capacity: Some(5 << 30), ..Disk::new("disk3", Address::new(Bus::Nvme, 0, 0), None) },
    ];
    let media = Media::Image(String::from("a'b.iso"));
    machine.drives = vec![Drive {
        kind: DriveKind::Cdrom,
        address: Some(Address::new(Bus::Sata, 0, 0)),
        floppy: 0,
        media,
        connected: true,
    }];
    let mac = MacPolicy::Fixed(Mac([0, 0x50, 0x56, 1, 2, 0xab]));
    machine.nics = vec![Nic {
        number: 0,
        model: Some(NicModel::VmxNet3),
        network: Network::Bridged,
        mac,
        connected: true,
        wake_on_lan: None,
    }];
    machine.serial =
        vec![Port { number: 0, backing: PortBacking::Pipe { name: String::from(r"\\.\pipe\x'y"), server: true } }];
    machine
}

#[test]
fn a_machine_with_uefi_is_of_the_second_generation() {
    let written = write(&machine(Firmware::Efi { secure_boot: true }));
    assert!(written.text.starts_with('\u{feff}') && !written.text.replace("\r\n", "").contains('\r'));
    let (code, strings) = tokens(&written.text);
    for line in [
        "param([string]$SwitchName = §, [string]$Name = §)",
        "$vm = New-VM -Name $Name -Generation 2 -MemoryStartupBytes 2048MB -NoVHD",
        "Set-VMProcessor -VM $vm -Count 8 -MaximumCountPerNumaNode 4 -MaximumCountPerNumaSocket 1 -ExposeVirtualizationExtensions $true",
        "Add-VMHardDiskDrive -VM $vm -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 1 -Path ([IO.Path]::Combine($PSScriptRoot, §))",
        "New-VHD -Path ([IO.Path]::Combine($PSScriptRoot, §)) -SizeBytes 5368709120 -Dynamic | Out-Null",
        "Add-VMDvdDrive -VM $vm -ControllerNumber 0 -ControllerLocation 3 -Path ([IO.Path]::Combine($PSScriptRoot, §))",
        "$nic = Add-VMNetworkAdapter -VM $vm -Name § -Passthru -StaticMacAddress §",
        "Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate §",
        "Set-VMComPort -VM $vm -Number 1 -Path §",
        "Enable-VMTPM -VM $vm",
    ] {
        assert!(code.lines().any(|found| found.trim() == line), "{line}\n{code}");
    }
    for string in [
        "it’s 'a' $(Get-Date); `n \"x\"",
        "two\nlines'; Remove-Item ‘C:\\’ #",
        "it's, one.vhdx",
        r"sub\two.vhdx",
        "a'b.iso",
        r"\\.\pipe\x'y",
        "0050560102AB",
        "MicrosoftUEFICertificateAuthority",
    ] {
        assert!(strings.iter().any(|found| found == string), "{string}: {strings:?}");
    }
    assert!(!code.contains("Remove-Item") && !code.contains("Get-Date"), "{code}");
}

#[test]
fn a_machine_with_bios_starts_from_ide() {
    let mut machine = machine(Firmware::Bios);
    let written = write(&machine);
    let (code, _) = tokens(&written.text);
    assert!(code.contains("-Generation 1 ") && !code.contains("Set-VMFirmware") && !code.contains("Enable-VMTPM"));
    let places: Vec<_> = code
        .lines()
        .filter_map(|line| line.split("-ControllerType ").nth(1))
        .map(|rest| rest.split(" -Path").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "IDE -ControllerNumber 0 -ControllerLocation 0",
            "SCSI -ControllerNumber 0 -ControllerLocation 0",
            "SCSI -ControllerNumber 0 -ControllerLocation 1"
        ]
    );
    assert!(code.contains("Add-VMDvdDrive -VM $vm -ControllerNumber 1 -ControllerLocation 0"));
    assert!(written.notes.iter().any(|note| note.part == "tpm"));
    machine.guest = GuestOs::from_vmx("windows11-64");
    machine.firmware = Firmware::Efi { secure_boot: true };
    assert!(write(&machine).text.contains("'MicrosoftWindows'"));
}

#[test]
fn more_disks_than_a_controller_has_get_another() {
    let mut machine = Machine::new("vm", 512);
    machine.firmware = Firmware::Efi { secure_boot: false };
    machine.disks = (0..300).map(|unit| disk(1, Address::new(Bus::Scsi, 0, unit), "a.vhdx")).collect();
    let written = write(&machine);
    assert_eq!(written.text.matches("Add-VMScsiController").count(), 3);
    assert_eq!(written.text.matches("Add-VMHardDiskDrive").count(), 256);
    assert_eq!(written.notes.iter().filter(|note| note.message.contains("no place left")).count(), 44);
}
