//! The rules: one row each, with what it asks, where that is known from, what to do, and how it is looked at.

use super::{Importer, Kind, Rule, Severity};
use crate::ovf::item::resource;
use crate::ovf::{Compression, DescribedItem, Namespace, Package, System};
use crate::storage::{Bus, ScsiModel};
use crate::{Firmware, Machine, NicModel, UsbController};

use Severity::{Refusal, Warning};

/// Takes what is found: how it is taken, what it is about, what is wrong.
pub(super) type Report<'r> = dyn FnMut(Severity, String, String) + 'r;

/// A rule and its check.
pub(super) struct Row {
    pub(super) rule: Rule,
    pub(super) check: fn(&Package, &Importer, &mut Report<'_>),
}

macro_rules! rows {
    ($({ $id:literal, $title:literal, $source:literal, $remedy:literal, $repairable:literal, $check:expr })+) => {
        &[$(Row { rule: Rule { id: $id, title: $title, source: $source, remedy: $remedy, repairable: $repairable }, check: $check },)+]
    };
}

/// All of them, those about the descriptor as a whole first.
pub(super) const ROWS: &[Row] = rows! {
    { "ovf-version", "the descriptor is OVF 1", "govmomi ovf/importer; libguestfs/virt-v2v#18; Proxmox OVF.pm",
      "export it again as OVF 1.0", false, version }
    { "ovf-several-machines", "there is one machine", "AWS VM Import prerequisites; Glance ovf_process; Proxmox OVF.pm",
      "export each machine by itself", false, several }
    { "ovf-no-machine", "there is a machine", "DSP0243 2.1.1, section 8", "export it again", false, none }
    { "ovf-file-name", "files have plain names beside the descriptor", "DSP0243 2.1.1, section 7.1; Proxmox SAFE_CHAR_CLASS_RE",
      "rename the files, in the descriptor as well", false, file_names }
    { "ovf-file-compressed", "files are not compressed as a whole", "VirtualBox ApplianceImplImport; Proxmox OVF.pm; Glance ovf_process",
      "unpack them by hand; `transload import` reads disks that gzip has packed", false, compressed }
    { "ovf-file-chunked", "files are not cut into pieces", "libguestfs/virt-v2v#189", "join them with `transload repack`", true, chunked }
    { "ovf-disk-format", "disks are said to be streamOptimized VMDKs", "govmomi ovf/importer; DSP0243 2.1.1, section 9.1",
      "convert them with `transload repack`", true, disk_formats }
    { "ovf-disk-units", "capacities are in `byte * 2^n`", "Proxmox OVF.pm, try_parse_capacity_unit",
      "write them in `byte * 2^20` with `transload repack`", true, disk_units }
    { "ovf-disk-property", "capacities are numbers", "DSP0243 2.1.1, section 9.1: a property is for those who ask for properties",
      "write the number in the place of the property", false, disk_properties }
    { "ovf-disk-empty", "every disk has a file", "Proxmox OVF.pm; Glance ovf_process; AWS VM Import prerequisites",
      "make the disk after the import", false, empty_disks }
    { "ovf-disk-parent", "no disk is a layer over another", "DSP0243 2.1.1, section 9.1: few readers have it (inferred)",
      "export the machine without snapshots", false, layers }
    { "ovf-disk-count", "not more disks than the importer takes", "Glance ovf_process: one; AWS VM Import quotas: 21",
      "give it the disks one by one", false, disk_count }
    { "ovf-hardware-family", "the hardware family is one of VMware's", "opensemanticsearch#96, nixos-generators#128: \"Unsupported hardware family\"",
      "set one with `transload repack --hw-version`", true, family }
    { "ovf-hardware-version", "the hardware version is one that the host has", "Broadcom KB 315655; govmomi import: \"Unsupported hardware family\"",
      "lower it with `transload repack --hw-version`", true, hardware_version }
    { "ovf-device-version", "every device is one that the hardware version has", "Broadcom KB 315391",
      "raise it with `transload repack --hw-version`, or leave the device out", true, device_versions }
    { "ovf-device-required", "what only one product knows is not required", "DSP0243 2.1.1, section 8.1; ovftool: \"No support for the virtual hardware device type\"",
      "mark it with `transload repack`", true, required_devices }
    { "ovf-network-listed", "adapters are plugged into networks that are listed", "DSP0243 2.1.1, section 8.3 and 9.2",
      "list the network in the NetworkSection", false, networks }
    { "ovf-disk-placed", "disks name their controller and are named as the standard does", "Proxmox OVF.pm: \"invalid host resource … skipping\"",
      "export it again, or import it with `transload import --to proxmox`", false, placed }
    { "ovf-disk-slot", "no two disks have one place on a kind of controller", "Proxmox OVF.pm, id_to_pve: the controller's number is not looked at",
      "import it with `transload import --to proxmox`", false, slots }
    { "ovf-memory-units", "memory is in MiB", "virt-v2v OVF.ml, Proxmox OVF.pm: AllocationUnits is not looked at",
      "correct the memory after the import, or use `transload import`", false, memory_units }
    { "ovf-nvme", "disks hang from other controllers than NVMe", "virt-v2v OVF.ml, Proxmox OVF.pm: resource type 20 is SATA to them",
      "use `transload import`", false, nvme }
    { "ovf-firmware-nvram", "a machine with UEFI brings its variables", "Broadcom KB 320015; packer-plugin-vsphere#95",
      "export it with `--nvram include`, or have the boot loader at \\EFI\\BOOT\\BOOTX64.EFI", false, nvram_missing }
    { "ovf-nvram-upload", "no file but disks and images", "ansible vmware.vmware#257, govmomi#2136: \"Session has missing or invalid file(s)\", HTTP 405",
      "leave it out with `transload repack --nvram skip`", true, nvram_upload }
    { "ovf-firmware-aws", "the machine starts with BIOS", "AWS VM Import prerequisites",
      "import the disk as a snapshot and register an image with UEFI", false, firmware_aws }
    { "ovf-lost", "nothing of the machine is lost", "virt-v2v OVF.ml; Proxmox OVF.pm; VirtualBox ApplianceImplImport",
      "use `transload import`, or set it after the import", false, lost }
};

/// Whether it is VMware's own code.
fn vmware(importer: &Importer) -> bool {
    matches!(importer.kind, Kind::Esxi | Kind::Workstation)
}

fn machines(package: &Package) -> impl Iterator<Item = (&System, &Machine)> {
    package.systems.iter().map(|system| (system, &system.machine))
}

fn version(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let refuses = match (package.namespace, importer.kind) {
        (Namespace::V1, _) | (_, Kind::VirtualBox) | (Namespace::V0_9, Kind::Workstation) => return,
        (Namespace::V2, Kind::OpenStack) => return,
        _ => Refusal,
    };
    let version = match package.namespace {
        Namespace::V0_9 => "0.9",
        Namespace::V1 => "1",
        Namespace::V2 => "2",
    };
    report(refuses, String::new(), format!("the envelope is of version {version}"));
}

fn several(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let count = package.systems.len();
    let collected = package.systems.iter().any(|system| !system.collections.is_empty());
    let severity = match importer.kind {
        _ if count < 2 && !(collected && importer.kind == Kind::Proxmox) => return,
        Kind::Aws | Kind::OpenStack => Refusal,
        // vCenter takes a collection as a vApp, a host by itself does not.
        Kind::Esxi => Warning,
        Kind::Workstation | Kind::VirtualBox => return,
        Kind::Proxmox => Refusal,
        Kind::VirtV2v => Warning,
    };
    report(severity, String::new(), format!("there are {count} machines"));
}

fn none(package: &Package, _: &Importer, report: &mut Report<'_>) {
    if package.systems.is_empty() {
        report(Refusal, String::new(), String::from("there is none"));
    }
}

fn file_names(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let safe = |character: char| character.is_ascii_alphanumeric() || "-.+=_".contains(character);
    for file in &package.files {
        let name = file.href.as_str();
        if name.contains("://") {
            // vCenter follows addresses, ovftool too; everybody else looks beside the descriptor.
            if !vmware(importer) {
                report(Refusal, name.to_owned(), String::from("it is an address"));
            }
        } else if name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..") {
            report(Refusal, name.to_owned(), String::from("it is not beside the descriptor"));
        } else if importer.kind == Kind::Proxmox && !name.chars().all(safe) {
            report(Refusal, name.to_owned(), String::from("it has other characters than letters, digits and -.+=_"));
        }
    }
}

fn compressed(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let severity = match importer.kind {
        Kind::Esxi | Kind::Workstation | Kind::VirtV2v => return,
        Kind::VirtualBox | Kind::Proxmox | Kind::OpenStack | Kind::Aws => Refusal,
    };
    for file in package.files.iter().filter(|file| file.compression != Compression::None) {
        report(severity, file.href.clone(), String::from("it is compressed as a whole"));
    }
}

fn chunked(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if vmware(importer) {
        return;
    }
    for file in &package.files {
        if let Some(size) = file.chunk_size {
            report(Refusal, file.href.clone(), format!("it is cut into pieces of {size} bytes"));
        }
    }
}

fn disk_formats(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    for disk in package.disks.iter().filter(|disk| disk.file.is_some()) {
        let format = disk.format.as_deref().unwrap_or_default().to_ascii_lowercase();
        let vmdk = format.contains("vmdk") || format.contains("virtualdiskformat");
        let severity = match importer.kind {
            Kind::Esxi | Kind::Workstation | Kind::VirtualBox | Kind::Aws if !vmdk => Refusal,
            Kind::Esxi if !format.ends_with("#streamoptimized") && !format.contains("virtualdiskformat") => Refusal,
            _ => continue,
        };
        report(severity, disk.id.clone(), format!("its format is \"{}\"", disk.format.as_deref().unwrap_or("")));
    }
}

fn disk_units(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if importer.kind != Kind::Proxmox {
        return;
    }
    let power = |units: &str| {
        let factor =
            units.strip_prefix("byte").map(str::trim_start).and_then(|rest| rest.strip_prefix('*')).map(str::trim);
        factor.and_then(|factor| factor.split_once('^')).is_some_and(|(base, exponent)| {
            [base, exponent]
                .iter()
                .all(|digits| !digits.trim().is_empty() && digits.trim().bytes().all(|digit| digit.is_ascii_digit()))
        })
    };
    for disk in &package.disks {
        let units = disk.units.as_deref().unwrap_or("byte");
        if !power(units) {
            report(Warning, disk.id.clone(), format!("its units are \"{units}\": the size is not understood"));
        }
    }
}

fn disk_properties(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if vmware(importer) {
        return;
    }
    for disk in &package.disks {
        if let crate::ovf::Capacity::Property { key, .. } = &disk.capacity {
            report(Refusal, disk.id.clone(), format!("its size is the property {key}"));
        }
    }
}

fn empty_disks(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let severity = match importer.kind {
        Kind::Esxi | Kind::Workstation | Kind::VirtualBox => return,
        Kind::Proxmox | Kind::VirtV2v | Kind::OpenStack => Warning,
        Kind::Aws => Refusal,
    };
    for disk in package.disks.iter().filter(|disk| disk.file.is_none()) {
        report(severity, disk.id.clone(), String::from("it is an empty disk: it is not made"));
    }
}

fn layers(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let severity = if importer.kind == Kind::Esxi { Warning } else { Refusal };
    for disk in &package.disks {
        if let Some(parent) = &disk.parent {
            report(severity, disk.id.clone(), format!("it is a layer over {parent}"));
        }
    }
}

fn disk_count(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let most = match importer.kind {
        Kind::OpenStack => 1,
        Kind::Aws => 21,
        _ => return,
    };
    let count = package.disks.iter().filter(|disk| disk.file.is_some()).count();
    if count > most {
        report(Refusal, String::new(), format!("there are {count} disks, and {most} is the most"));
    }
}

/// The lowest hardware version of VMware's that a machine asks for: any of those it lists will do.
fn lowest(system: &System) -> Option<u32> {
    let versions = system
        .families
        .iter()
        .filter_map(|family| family.to_ascii_lowercase().strip_prefix("vmx-")?.parse::<u32>().ok());
    versions.min()
}

fn family(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !vmware(importer) {
        return;
    }
    for (system, machine) in machines(package) {
        if !system.families.is_empty() && lowest(system).is_none() {
            let families = system.families.join(" ");
            report(Refusal, machine.name.clone(), format!("the hardware family is \"{families}\""));
        }
    }
}

fn hardware_version(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let Some(most) = importer.hardware_version else { return };
    for (system, machine) in machines(package) {
        if let Some(version) = lowest(system).filter(|version| *version > most) {
            report(
                Refusal,
                machine.name.clone(),
                format!("vmx-{version:02} is asked for, and vmx-{most:02} is the newest here"),
            );
        }
    }
}

/// What came with which hardware version.
fn needs(machine: &Machine) -> Vec<(&'static str, u32)> {
    let mut needs = Vec::new();
    let bus = |bus: Bus| machine.controllers.iter().any(|controller| controller.bus == bus);
    let scsi =
        |model: ScsiModel| machine.controllers.iter().any(|controller| controller.model.as_ref() == Some(&model));
    let nic = |model: NicModel| machine.nics.iter().any(|nic| nic.model.as_ref() == Some(&model));
    let mut need = |there: bool, what: &'static str, version: u32| {
        if there {
            needs.push((what, version));
        }
    };
    need(bus(Bus::Nvme), "an NVMe controller", 13);
    need(bus(Bus::Sata), "a SATA controller", 10);
    need(scsi(ScsiModel::ParaVirtual), "a paravirtual SCSI controller", 7);
    need(scsi(ScsiModel::LsiLogicSas), "an LSI SAS controller", 7);
    need(nic(NicModel::VmxNet3), "an adapter of the kind VmxNet3", 7);
    need(nic(NicModel::E1000e), "an adapter of the kind E1000e", 8);
    need(nic(NicModel::SrIov), "an SR-IOV adapter", 10);
    need(machine.usb.contains(&UsbController::Usb3), "a USB 3 controller", 8);
    need(machine.firmware.is_efi(), "UEFI", 8);
    need(machine.firmware.secure_boot(), "Secure Boot", 13);
    need(machine.tpm, "a TPM", 14);
    need(machine.features.virtualization_based_security == Some(true), "virtualization-based security", 14);
    needs
}

fn device_versions(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !vmware(importer) {
        return;
    }
    for (system, machine) in machines(package) {
        let Some(version) = lowest(system) else { continue };
        for (what, needed) in needs(machine).into_iter().filter(|(_, needed)| *needed > version) {
            report(
                Refusal,
                machine.name.clone(),
                format!("{what} came with vmx-{needed:02}, and the machine is vmx-{version:02}"),
            );
        }
    }
}

fn required_devices(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let known = |item: &DescribedItem| match item.resource_type {
        resource::OTHER => vmware(importer) && item.subtype.to_ascii_lowercase().starts_with("vmware."),
        resource::SOUND => importer.kind == Kind::VirtualBox,
        3..=6 | 10 | 14..=17 | 20..=24 => true,
        _ => false,
    };
    // The others say that they do not know it, and go on.
    let severity = match importer.kind {
        Kind::Esxi | Kind::Workstation => Refusal,
        Kind::VirtualBox | Kind::VirtV2v => Warning,
        Kind::Proxmox | Kind::OpenStack | Kind::Aws => return,
    };
    for (system, machine) in machines(package) {
        for item in system.items.iter().filter(|item| item.required && !known(item)) {
            let kind = if item.subtype.is_empty() { String::new() } else { format!(" ({})", item.subtype) };
            report(
                severity,
                machine.name.clone(),
                format!("{}: resource type {}{kind} is required", item.name, item.resource_type),
            );
        }
    }
}

fn networks(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !vmware(importer) {
        return;
    }
    for (system, _) in machines(package) {
        for item in &system.items {
            if let Some(name) = item.connection.as_ref().filter(|_| item.resource_type == resource::ETHERNET)
                && !package.networks.iter().any(|network| network.name == *name)
            {
                report(Refusal, item.name.clone(), format!("its network \"{name}\" is not listed"));
            }
        }
    }
}

fn disks(system: &System) -> impl Iterator<Item = &DescribedItem> {
    system.items.iter().filter(|item| item.resource_type == resource::DISK)
}

fn placed(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if importer.kind != Kind::Proxmox {
        return;
    }
    let unreserved = |part: &str| {
        !part.is_empty()
            && part.chars().all(|character| character.is_ascii_alphanumeric() || "-._~".contains(character))
    };
    for item in package.systems.iter().flat_map(disks) {
        let resource = item.host_resource.as_deref().unwrap_or_default();
        let parts = resource.strip_prefix("ovf:/").and_then(|path| path.split_once('/'));
        if !parts.is_some_and(|(section, id)| unreserved(section) && unreserved(id)) {
            report(Refusal, item.name.clone(), format!("\"{resource}\" is not ovf:/disk/ID: the disk is lost"));
        } else if item.parent_type.is_none() {
            report(
                Refusal,
                item.name.clone(),
                String::from("it names no controller that is described: the disk is lost"),
            );
        }
    }
}

fn slots(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if importer.kind != Kind::Proxmox {
        return;
    }
    for (system, _) in machines(package) {
        let mut seen = std::collections::HashSet::new();
        for item in disks(system) {
            let (Some(kind), Some(unit)) = (item.parent_type, item.unit) else { continue };
            if !seen.insert((kind, unit)) {
                report(
                    Refusal,
                    item.name.clone(),
                    format!("another disk is unit {unit} of the same kind of controller: one is lost"),
                );
            }
        }
    }
}

fn memory_units(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !matches!(importer.kind, Kind::VirtV2v | Kind::Proxmox) {
        return;
    }
    for (system, machine) in machines(package) {
        for item in system.items.iter().filter(|item| item.resource_type == resource::MEMORY) {
            let units = item.units.as_deref().unwrap_or("MB");
            if crate::ovf::unit_bytes(units) != Some(1 << 20) {
                report(Warning, machine.name.clone(), format!("memory is in \"{units}\", and taken for MiB"));
            }
        }
    }
}

fn nvme(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !matches!(importer.kind, Kind::VirtV2v | Kind::Proxmox) {
        return;
    }
    for disk in machines(package).flat_map(|(_, machine)| &machine.disks).filter(|disk| disk.address.bus == Bus::Nvme) {
        report(Warning, disk.id.clone(), String::from("it hangs from NVMe, and is taken to hang from SATA"));
    }
}

fn nvram_missing(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if !vmware(importer) {
        return;
    }
    for (_, machine) in machines(package).filter(|(_, machine)| machine.firmware.is_efi() && machine.nvram.is_none()) {
        report(
            Warning,
            machine.name.clone(),
            String::from("it starts with UEFI, and its boot entries are not in the package"),
        );
    }
}

fn nvram_upload(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    let severity = match importer.kind {
        Kind::Esxi if importer.hardware_version.is_some_and(|version| version <= 13) => Warning,
        // "One OVF, the disks, nothing else": inferred.
        Kind::Aws => Warning,
        _ => return,
    };
    for file in package.files.iter().filter(|file| file.href.to_ascii_lowercase().ends_with(".nvram")) {
        report(severity, file.href.clone(), String::from("uploads of the firmware's variables may be refused"));
    }
}

fn firmware_aws(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if importer.kind != Kind::Aws {
        return;
    }
    for (_, machine) in machines(package).filter(|(_, machine)| machine.firmware.is_efi()) {
        report(
            Warning,
            machine.name.clone(),
            String::from("it starts with UEFI: the platform's boot mode has to be said"),
        );
    }
}

fn lost(package: &Package, importer: &Importer, report: &mut Report<'_>) {
    if matches!(importer.kind, Kind::Esxi | Kind::Workstation | Kind::OpenStack | Kind::Aws) {
        return;
    }
    let virtualbox = importer.kind == Kind::VirtualBox;
    let own = package.dialect == crate::ovf::Dialect::VirtualBox;
    for (_, machine) in machines(package) {
        // VirtualBox reads its own copy of the settings, where it wrote one.
        let lost = [
            (machine.firmware.is_efi() && virtualbox && !own, "UEFI is not taken over: the machine starts with BIOS"),
            (machine.firmware == (Firmware::Efi { secure_boot: true }), "Secure Boot is not taken over"),
            (machine.tpm && !(virtualbox && own), "the TPM is not taken over"),
            (
                importer.kind == Kind::Proxmox && machine.topology().0 > 1 && machine.cores_per_socket.is_some(),
                "sockets are not taken over",
            ),
            (!virtualbox && machine.sound.is_some(), "the sound card is not taken over"),
        ];
        for (_, message) in lost.into_iter().filter(|(there, _)| *there) {
            report(Warning, machine.name.clone(), message.to_owned());
        }
    }
}
