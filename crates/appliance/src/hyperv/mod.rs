//! A PowerShell script that makes a machine on Hyper-V.
//!
//! The cmdlets are those of the module Hyper-V of Windows Server 2016 and Windows 10 or newer. UEFI is generation 2, BIOS generation 1,
//! which starts from IDE alone: there the first disk hangs from IDE, and whatever IDE has no room for from SCSI.

mod disks;
#[cfg(test)]
mod tests;

use crate::device::{MacPolicy, Network, NicModel, Port, PortBacking};
use crate::guest::Family;
use crate::machine::{BootDevice, Firmware, Machine};
use crate::note::{Notes, Written};
use crate::quoting::{comment, powershell};

/// More adapters than Hyper-V gives a machine of the second generation.
const MAX_NICS: usize = 64;

/// Writes the script that makes `machine`. Its parameters name the switch that adapters are connected to and the machine, should it
/// have another name; disks are named as their `file` says, relative to the script's own folder.
#[must_use]
pub fn write(machine: &Machine) -> Written {
    let mut notes = Notes::new();
    let generation = if machine.firmware.is_efi() { 2 } else { 1 };
    let mut script = Script { text: header(machine), notes: &mut notes };
    let name = machine.name.replace(['\r', '\n', '\t'], " ");
    script.line(&format!("param([string]$SwitchName = '', [string]$Name = {})", powershell(&name)));
    script.line("$ErrorActionPreference = 'Stop'");
    disks::check(&mut script, machine);
    script.line(&format!(
        "$vm = New-VM -Name $Name -Generation {generation} -MemoryStartupBytes {}MB -NoVHD",
        machine.memory_mib
    ));
    script.line("Set-VM -VM $vm -AutomaticCheckpointsEnabled $false");
    if let Some(annotation) = &machine.annotation {
        script.line(&format!("Set-VM -VM $vm -Notes {}", powershell(annotation)));
    }
    script.line("Set-VMMemory -VM $vm -DynamicMemoryEnabled $false");
    processor(&mut script, machine);
    disks::attach(&mut script, machine, generation);
    nics(&mut script, machine);
    ports(&mut script, machine);
    firmware(&mut script, machine, generation);
    script.line("Write-Output \"machine $Name is made; start it with: Start-VM -Name '$Name'\"");
    let text = script.text;
    left_out(machine, &mut notes);
    Written { text, notes }
}

struct Script<'a> {
    text: String,
    notes: &'a mut Notes,
}

impl Script<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push_str("\r\n");
    }
}

/// A byte order mark first: without it Windows PowerShell takes a script for the code page of the day.
fn header(machine: &Machine) -> String {
    format!("\u{feff}#Requires -Modules Hyper-V\r\n# Makes the machine {} on Hyper-V.\r\n", comment(&machine.name))
}

fn processor(script: &mut Script<'_>, machine: &Machine) {
    let mut line = format!("Set-VMProcessor -VM $vm -Count {}", machine.cpus);
    if machine.cores_per_socket.is_some() {
        let (_, cores) = machine.topology();
        line.push_str(&format!(" -MaximumCountPerNumaNode {cores} -MaximumCountPerNumaSocket 1"));
    }
    if machine.features.nested_virtualization == Some(true) {
        line.push_str(" -ExposeVirtualizationExtensions $true");
    }
    script.line(&line);
}

fn nics(script: &mut Script<'_>, machine: &Machine) {
    script.line("Get-VMNetworkAdapter -VM $vm | Remove-VMNetworkAdapter");
    for (place, nic) in machine.nics.iter().take(MAX_NICS).enumerate() {
        let part = format!("nic {}", nic.number);
        let mut line = format!("$nic = Add-VMNetworkAdapter -VM $vm -Name 'nic{place}' -Passthru");
        match nic.mac {
            MacPolicy::Fixed(mac) | MacPolicy::Generated(Some(mac)) if mac.0[0] & 1 == 0 => {
                line.push_str(&format!(" -StaticMacAddress '{}'", mac.bare()));
            }
            MacPolicy::Generated(None) => {}
            _ => script.notes.left_out(&part, "it has the address of a group: a new one is generated"),
        }
        script.line(&line);
        if nic.connected && nic.network != Network::None {
            script.line("if ($SwitchName) { Connect-VMNetworkAdapter -VMNetworkAdapter $nic -SwitchName $SwitchName }");
        }
        match &nic.model {
            Some(model) if !matches!(model, NicModel::Other(name) if name == "synthetic") => {
                script
                    .notes
                    .changed(&part, format!("{model} is Hyper-V's own adapter here: the guest needs its driver"));
            }
            _ => {}
        }
        if let Network::Named(name) = &nic.network {
            script.notes.changed(
                &part,
                format!("it was plugged into \"{name}\": it is in the switch that the script is given"),
            );
        }
    }
    if machine.nics.len() > MAX_NICS {
        script
            .notes
            .left_out("network adapters", format!("there are {}, and {MAX_NICS} is the most", machine.nics.len()));
    }
}

fn ports(script: &mut Script<'_>, machine: &Machine) {
    for Port { number, backing } in &machine.serial {
        match backing {
            _ if *number > 1 => script.notes.left_out(format!("serial{number}"), "Hyper-V has two such ports"),
            PortBacking::Pipe { name, .. } if name.starts_with(r"\\.\pipe\") => {
                script.line(&format!("Set-VMComPort -VM $vm -Number {} -Path {}", number + 1, powershell(name)));
            }
            PortBacking::None => {}
            _ => script
                .notes
                .left_out(format!("serial{number}"), "what it was connected to is the old host's: it is not connected"),
        }
    }
}

fn firmware(script: &mut Script<'_>, machine: &Machine, generation: u32) {
    match machine.firmware {
        Firmware::Efi { secure_boot: true } => {
            let windows = machine.guest.family() == Family::Windows;
            let template = if windows { "MicrosoftWindows" } else { "MicrosoftUEFICertificateAuthority" };
            script.line(&format!("Set-VMFirmware -VM $vm -EnableSecureBoot On -SecureBootTemplate '{template}'"));
        }
        Firmware::Efi { secure_boot: false } => script.line("Set-VMFirmware -VM $vm -EnableSecureBoot Off"),
        Firmware::Bios => {}
    }
    if generation == 2 && machine.nvram.is_some() {
        script
            .notes
            .left_out("nvram", "the firmware's variables are in another product's format: boot entries are found anew");
    }
    let first = machine.boot_order.first().copied().unwrap_or(BootDevice::Disk);
    let find = match first {
        BootDevice::Disk if machine.disks.is_empty() => None,
        BootDevice::Disk => Some("Get-VMHardDiskDrive -VM $vm"),
        BootDevice::Cdrom => Some("Get-VMDvdDrive -VM $vm"),
        BootDevice::Network => Some("Get-VMNetworkAdapter -VM $vm"),
        BootDevice::Floppy => None,
    };
    match (generation, find) {
        (2, Some(find)) => {
            script.line(&format!("$first = @({find})[0]"));
            script.line("if ($first) { Set-VMFirmware -VM $vm -FirstBootDevice $first }");
        }
        (1, Some(_)) => {
            let order = match first {
                BootDevice::Cdrom => "'CD', 'IDE', 'LegacyNetworkAdapter', 'Floppy'",
                BootDevice::Network => "'LegacyNetworkAdapter', 'IDE', 'CD', 'Floppy'",
                _ => "'IDE', 'CD', 'LegacyNetworkAdapter', 'Floppy'",
            };
            script.line(&format!("Set-VMBios -VM $vm -StartupOrder @({order})"));
        }
        _ => {}
    }
    if machine.tpm && generation == 2 {
        script.line("Set-VMKeyProtector -VM $vm -NewLocalKeyProtector");
        script.line("Enable-VMTPM -VM $vm");
        script.notes.attention("tpm", "it is new and empty: what was sealed in the old one needs its recovery key");
    } else if machine.tpm {
        script.notes.left_out("tpm", "a machine with BIOS has none on Hyper-V");
    }
}

fn left_out(machine: &Machine, notes: &mut Notes) {
    if machine.name.contains(['\r', '\n', '\t']) {
        notes.changed("name", "line ends in it are blanks");
    }
    if machine.uuid.is_some() {
        notes.left_out("uuid", "Hyper-V gives the machine a new one");
    }
    for (part, there) in [
        ("sound", machine.sound.is_some()),
        ("usb", !machine.usb.is_empty()),
        ("parallel ports", !machine.parallel.is_empty()),
    ] {
        if there {
            notes.left_out(part, "Hyper-V has none");
        }
    }
    if machine.drives.iter().any(|drive| drive.address.is_none()) {
        notes.left_out("floppy", "the drive is empty, where there is one at all");
    }
    crate::adapt::note_vmware_settings(machine, notes);
}
