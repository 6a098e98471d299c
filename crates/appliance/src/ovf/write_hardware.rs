//! The hardware of a machine, as ovftool writes it.

use std::collections::{BTreeMap, HashMap};

use super::item::resource;
use super::write::{FileEntry, FileUse, WrittenDisk, file_id, network_name};
use super::written_items::{WrittenItem, config};
use crate::device::{MacPolicy, Nic, NicModel, Port, PortBacking, Sound, UsbController};
use crate::machine::{Firmware, Machine, boot_order_text};
use crate::note::{Notes, WriteSettings};
use crate::storage::{Bus, Controller, Disk, DiskMode, Drive, DriveKind, Media, ScsiModel};
use crate::vmx::keys::{is_harmless, is_path};
use crate::xml::XmlWriter;

/// The hardware version of a machine that names none: every ESXi since 6.5 takes it.
const DEFAULT_HARDWARE_VERSION: u32 = 13;

/// Where ovftool begins to count the adapters' places.
const FIRST_NIC_ADDRESS: u32 = 7;

pub(super) fn write(
    xml: &mut XmlWriter,
    machine: &Machine,
    files: &[FileEntry],
    disks: &[WrittenDisk],
    settings: &WriteSettings,
    notes: &mut Notes,
) {
    xml.open("VirtualHardwareSection", &[]);
    xml.text("Info", &[], "Virtual hardware requirements");
    system(xml, machine, settings, notes);
    let mut items = Items {
        machine,
        files,
        notes,
        next: 1,
        controllers: HashMap::new(),
        slots: pci_slots(machine),
        items: Vec::new(),
    };
    items.processors_and_memory();
    items.controllers();
    items.disks(disks);
    items.drives();
    items.nics();
    items.others();
    for item in std::mem::take(&mut items.items) {
        item.write(xml);
    }
    settings_of_machine(xml, machine);
    extra_settings(xml, machine, files, notes);
    left_out(machine, notes);
    xml.close();
}

fn system(xml: &mut XmlWriter, machine: &Machine, settings: &WriteSettings, notes: &mut Notes) {
    let version = settings.hardware_version.or(machine.hardware_version).unwrap_or_else(|| {
        notes.assumed("hardware version", format!("the machine names none: vmx-{DEFAULT_HARDWARE_VERSION} was taken"));
        DEFAULT_HARDWARE_VERSION
    });
    xml.open("System", &[]);
    xml.text("vssd:ElementName", &[], "Virtual Hardware Family");
    xml.text("vssd:InstanceID", &[], 0);
    xml.text("vssd:VirtualSystemIdentifier", &[], &machine.name);
    xml.text("vssd:VirtualSystemType", &[], format!("vmx-{version:02}"));
    xml.close();
}

struct Items<'a> {
    machine: &'a Machine,
    files: &'a [FileEntry],
    notes: &'a mut Notes,
    next: u32,
    controllers: HashMap<(Bus, u32), u32>,
    /// Places on the bus, by the name of the device in lower case.
    slots: HashMap<String, &'a str>,
    items: Vec<WrittenItem>,
}

impl Items<'_> {
    fn item(&mut self, kind: u32, name: impl Into<String>) -> WrittenItem {
        let id = self.next;
        self.next += 1;
        WrittenItem::new(id, kind, name)
    }

    /// Gives a device the place on the bus that it had, as far as a VMX said it.
    fn placed(&self, item: WrittenItem, device: &str) -> WrittenItem {
        match self.slots.get(&device.to_lowercase()) {
            Some(slot) => item.with_config("slotInfo.pciSlotNumber", slot),
            None => item,
        }
    }

    fn processors_and_memory(&mut self) {
        let machine = self.machine;
        let item = self.item(resource::PROCESSOR, format!("{} virtual CPU(s)", machine.cpus));
        let item = item
            .with("rasd:AllocationUnits", "hertz * 10^6")
            .with("rasd:Description", "Number of Virtual CPUs")
            .with("rasd:VirtualQuantity", machine.cpus)
            .with_cores(machine.cores_per_socket);
        self.items.push(item);
        let item = self.item(resource::MEMORY, format!("{}MB of memory", machine.memory_mib));
        let item = item
            .with("rasd:AllocationUnits", "byte * 2^20")
            .with("rasd:Description", "Memory Size")
            .with("rasd:VirtualQuantity", machine.memory_mib);
        self.items.push(item);
    }

    fn controllers(&mut self) {
        for controller in &self.machine.controllers {
            let (kind, name) = match controller.bus {
                Bus::Ide => (resource::IDE, "IDE Controller"),
                Bus::Scsi => (resource::SCSI, "SCSI Controller"),
                Bus::Sata => (resource::OTHER_STORAGE, "SATA Controller"),
                Bus::Nvme => (resource::OTHER_STORAGE, "NVMe Controller"),
                // There are none: the machine was adapted before.
                Bus::Virtio => continue,
            };
            let item = self.item(kind, format!("{name} {}", controller.number));
            let item = item.with("rasd:Address", controller.number).with("rasd:Description", name);
            self.controllers.insert((controller.bus, controller.number), self.next - 1);
            let item = match self.controller_subtype(controller) {
                Some(subtype) => item.with("rasd:ResourceSubType", subtype),
                None => item,
            };
            let item = self.placed(item, &format!("{}{}", controller.bus, controller.number));
            self.items.push(item);
        }
    }

    fn controller_subtype(&mut self, controller: &Controller) -> Option<String> {
        let subtype = match (controller.bus, &controller.model) {
            (Bus::Ide | Bus::Virtio, _) => return None,
            (Bus::Sata, _) => "vmware.sata.ahci",
            (Bus::Nvme, _) => "vmware.nvme.controller",
            (Bus::Scsi, Some(ScsiModel::BusLogic)) => "buslogic",
            (Bus::Scsi, Some(ScsiModel::LsiLogicSas)) => "lsilogicsas",
            (Bus::Scsi, Some(ScsiModel::ParaVirtual | ScsiModel::VirtioScsi)) => "VirtualSCSI",
            (Bus::Scsi, Some(ScsiModel::LsiLogic)) => "lsilogic",
            (Bus::Scsi, Some(ScsiModel::Other(name))) => {
                let message = format!("the kind \"{name}\" is not one that importers take: it is lsilogic");
                self.notes.changed(format!("scsi{}", controller.number), message);
                "lsilogic"
            }
            (Bus::Scsi, None) => {
                let message = "the machine names no kind: lsilogic was taken";
                self.notes.assumed(format!("scsi{}", controller.number), message);
                "lsilogic"
            }
        };
        Some(subtype.to_owned())
    }

    fn disks(&mut self, disks: &[WrittenDisk]) {
        for (number, (disk, written)) in self.machine.disks.iter().zip(disks).enumerate() {
            let item = self.item(resource::DISK, format!("Hard Disk {}", number + 1));
            let mut item = item
                .with("rasd:AddressOnParent", disk.address.unit)
                .with("rasd:HostResource", format!("ovf:/disk/{}", written.id));
            if let Some(parent) = self.controllers.get(&(disk.address.bus, disk.address.controller)) {
                item = item.with("rasd:Parent", parent);
            }
            if let Some(mode) = disk_mode(disk) {
                item = item.with_config("backing.diskMode", mode);
            }
            if disk.read_only {
                self.notes.left_out(disk.address.to_string(), "an OVF cannot say that a disk is read-only");
            }
            self.items.push(item);
        }
    }

    fn drives(&mut self) {
        for (place, drive) in self.machine.drives.iter().enumerate() {
            let inside = self.files.iter().position(|file| file.purpose == FileUse::Drive(place));
            let (kind, name) = match drive.kind {
                DriveKind::Cdrom => (resource::CD, format!("CD-ROM {}", place + 1)),
                DriveKind::Floppy => (resource::FLOPPY, format!("Floppy {}", drive.floppy + 1)),
            };
            let subtype = drive_subtype(drive, inside.is_some());
            let connected = drive.connected && (inside.is_some() || !matches!(drive.media, Media::Image(_)));
            let item = self.item(kind, name);
            let mut item = item.with("rasd:AutomaticAllocation", connected).with("rasd:ResourceSubType", subtype);
            if let Some(file) = inside {
                item = item.with("rasd:HostResource", format!("ovf:/file/{}", file_id(file)));
            }
            match drive.address {
                Some(address) => {
                    item = item.with("rasd:AddressOnParent", address.unit);
                    if let Some(parent) = self.controllers.get(&(address.bus, address.controller)) {
                        item = item.with("rasd:Parent", parent);
                    }
                }
                None => item = item.with("rasd:AddressOnParent", drive.floppy),
            }
            match &drive.media {
                Media::Image(file) if inside.is_none() => {
                    self.notes.left_out(
                        drive_name(drive),
                        format!("the image {file} is not in the package: the drive is empty"),
                    );
                }
                Media::Host(device) if !device.is_empty() => {
                    self.notes.left_out(
                        drive_name(drive),
                        format!("{device} is the host's: any drive of the new host is taken"),
                    );
                }
                _ => {}
            }
            self.items.push(item);
        }
    }

    fn nics(&mut self) {
        for (place, nic) in (0_u32..).zip(&self.machine.nics) {
            let item = self.item(resource::ETHERNET, format!("Network adapter {}", place + 1));
            let subtype = self.nic_subtype(nic);
            let mut item = item
                .with("rasd:AddressOnParent", FIRST_NIC_ADDRESS.saturating_add(place))
                .with("rasd:AutomaticAllocation", nic.connected)
                .with("rasd:ResourceSubType", &subtype);
            if let Some(network) = network_name(&nic.network) {
                item = item
                    .with("rasd:Connection", network)
                    .with("rasd:Description", format!("{subtype} ethernet adapter on \"{network}\""));
            }
            if let MacPolicy::Fixed(mac) = nic.mac {
                item = item.with("rasd:Address", mac);
            }
            if let Some(wake) = nic.wake_on_lan {
                item = item.with_config("wakeOnLanEnabled", wake);
            }
            let item = self.placed(item, &format!("ethernet{}", nic.number));
            self.items.push(item);
        }
    }

    fn nic_subtype(&mut self, nic: &Nic) -> String {
        let part = format!("ethernet{}", nic.number);
        match &nic.model {
            Some(NicModel::PcNet) => "PCNet32",
            Some(NicModel::E1000) => "E1000",
            Some(NicModel::E1000e) => "E1000e",
            Some(NicModel::VmxNet) => "VmxNet",
            Some(NicModel::VmxNet2) => "VmxNet2",
            Some(NicModel::VmxNet3 | NicModel::Virtio) => "VmxNet3",
            Some(NicModel::SrIov) => "SriovEthernetCard",
            Some(other @ (NicModel::Rtl8139 | NicModel::Other(_))) => {
                self.notes.changed(part, format!("importers do not take the kind {other}: it is E1000"));
                "E1000"
            }
            None => {
                self.notes.assumed(part, "the machine names no kind: PCNet32, VMware's own default, was taken");
                "PCNet32"
            }
        }
        .to_owned()
    }

    fn others(&mut self) {
        self.usb();
        self.video();
        self.vmci();
        if let Some(sound) = &self.machine.sound {
            let subtype = match sound {
                Sound::Ensoniq1371 | Sound::HdAudio | Sound::Sb16 => sound.as_str(),
                other => {
                    self.notes.changed("sound", format!("importers do not take the kind {other}: it is hdaudio"));
                    "hdaudio"
                }
            };
            self.private("Sound Card", &format!("vmware.soundcard.{subtype}"), "sound");
        }
        if self.machine.tpm {
            self.private("Virtual TPM", "vmware.vtpm", "vtpm");
            self.notes.attention(
                "tpm",
                "importers make a new, empty one: what was sealed in the old one needs its recovery key",
            );
        }
        self.ports(&self.machine.serial, resource::SERIAL, "serial");
        self.ports(&self.machine.parallel, resource::PARALLEL, "parallel");
    }

    /// A device that only VMware has a name for.
    fn private(&mut self, name: &str, subtype: &str, device: &str) {
        let item = self.item(resource::OTHER, name).optional();
        let item = item.with("rasd:AutomaticAllocation", false).with("rasd:ResourceSubType", subtype);
        let item = self.placed(item, device);
        self.items.push(item);
    }

    fn usb(&mut self) {
        for controller in &self.machine.usb {
            let (name, subtype, device) = match controller {
                UsbController::Usb1 => ("USB Controller", "vmware.usb.ehci", "usb"),
                UsbController::Usb2 => ("USB Controller (EHCI)", "vmware.usb.ehci", "ehci"),
                UsbController::Usb3 => ("USB Controller (XHCI)", "vmware.usb.xhci", "usb_xhci"),
            };
            let item = self.item(resource::USB, name).optional();
            let mut item = item.with("rasd:Address", 0).with("rasd:ResourceSubType", subtype);
            if *controller != UsbController::Usb3 {
                item = item
                    .with_config("autoConnectDevices", false)
                    .with_config("ehciEnabled", *controller == UsbController::Usb2);
            }
            let item = self.placed(item, device);
            self.items.push(item);
        }
    }

    fn video(&mut self) {
        let Some(video) = &self.machine.video else { return };
        let item = self.item(resource::GRAPHICS, "Video card").optional();
        let mut item = item.with("rasd:AutomaticAllocation", false);
        let settings = [
            ("videoRamSizeInKB", video.memory_kib.map(|number| number.to_string())),
            ("numDisplays", video.displays.map(|number| number.to_string())),
            ("enable3DSupport", video.accelerated_3d.map(|truth| truth.to_string())),
            ("useAutoDetect", video.automatic.map(|truth| truth.to_string())),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                item = item.with_config(key, value);
            }
        }
        self.items.push(item);
    }

    fn vmci(&mut self) {
        let present = self
            .machine
            .extra
            .iter()
            .any(|(key, value)| key.eq_ignore_ascii_case("vmci0.present") && value.eq_ignore_ascii_case("true"));
        if present {
            self.private("VMCI device", "vmware.vmci", "vmci0");
        }
    }

    fn ports(&mut self, ports: &[Port], kind: u32, name: &str) {
        for port in ports {
            let subtype = format!("vmware.{name}port.device");
            let item = self.item(kind, format!("{name} port {}", port.number)).optional();
            let item = item.with("rasd:AutomaticAllocation", false).with("rasd:ResourceSubType", subtype);
            if port.backing != PortBacking::None {
                let message = "where its bytes go on the host is not written: it is not connected";
                self.notes.left_out(format!("{name}{}", port.number), message);
            }
            self.items.push(item);
        }
    }
}

fn disk_mode(disk: &Disk) -> Option<&'static str> {
    match disk.mode {
        DiskMode::Persistent => None,
        DiskMode::IndependentPersistent => Some("independent_persistent"),
        DiskMode::IndependentNonpersistent => Some("independent_nonpersistent"),
        DiskMode::Undoable => Some("undoable"),
    }
}

fn drive_subtype(drive: &Drive, inside: bool) -> &'static str {
    match (drive.kind, &drive.media) {
        (DriveKind::Cdrom, _) if inside => "vmware.cdrom.iso",
        (DriveKind::Floppy, _) if inside => "vmware.floppy.image",
        (DriveKind::Cdrom, Media::Host(_)) => "vmware.cdrom.atapi",
        (DriveKind::Floppy, Media::Host(_)) => "vmware.floppy.device",
        (DriveKind::Cdrom, _) => "vmware.cdrom.remotepassthrough",
        (DriveKind::Floppy, _) => "vmware.floppy.remotedevice",
    }
}

fn drive_name(drive: &Drive) -> String {
    drive.address.map_or_else(|| format!("floppy{}", drive.floppy), |address| address.to_string())
}

/// The device and the number that a setting gives a place on the bus.
fn pci_slot<'a>(key: &str, value: &'a str) -> Option<(String, &'a str)> {
    let device = key.to_lowercase().strip_suffix(".pcislotnumber")?.to_owned();
    let slot = value.trim();
    slot.parse::<i32>().is_ok_and(|slot| slot >= 0).then_some((device, slot))
}

fn pci_slots(machine: &Machine) -> HashMap<String, &str> {
    machine.extra.iter().filter_map(|(key, value)| pci_slot(key, value)).collect()
}

/// `vmw:Config`: what VMware has a name for.
fn settings_of_machine(xml: &mut XmlWriter, machine: &Machine) {
    let mut settings: BTreeMap<&str, String> = BTreeMap::new();
    let features = &machine.features;
    let flags = [
        ("cpuHotAddEnabled", features.cpu_hot_add),
        ("cpuHotRemoveEnabled", features.cpu_hot_remove),
        ("memoryHotAddEnabled", features.memory_hot_add),
        ("nestedHVEnabled", features.nested_virtualization),
        ("flags.vvtdEnabled", features.iommu),
        ("flags.vbsEnabled", features.virtualization_based_security),
    ];
    settings.extend(flags.into_iter().filter_map(|(key, value)| Some((key, value?.to_string()))));
    settings.extend(machine.config.iter().map(|(key, value)| (key.as_str(), value.clone())));
    settings.insert("firmware", String::from(if machine.firmware.is_efi() { "efi" } else { "bios" }));
    if let Firmware::Efi { secure_boot } = machine.firmware {
        settings.insert("bootOptions.efiSecureBootEnabled", secure_boot.to_string());
    }
    for (key, value) in settings {
        config(xml, "vmw:Config", key, &value);
    }
}

/// `vmw:ExtraConfig`: what only a VMX has a name for, as far as it may leave its host.
fn extra_settings(xml: &mut XmlWriter, machine: &Machine, files: &[FileEntry], notes: &mut Notes) {
    if let Some(nvram) = files.iter().find(|file| file.purpose == FileUse::Nvram) {
        config(xml, "vmw:ExtraConfig", "nvram", &nvram.href);
    } else if let Some(nvram) = machine.nvram.as_ref().filter(|_| machine.firmware.is_efi()) {
        notes.left_out("nvram", format!("the firmware's variables in {nvram} are not in the package"));
    }
    if !machine.boot_order.is_empty() {
        config(xml, "vmw:ExtraConfig", "bios.bootOrder", &boot_order_text(&machine.boot_order));
    }
    let mut refused = Vec::new();
    for (key, value) in &machine.extra {
        if key.eq_ignore_ascii_case("vmci0.present") || has_item(machine, key, value) {
            continue;
        }
        if is_harmless(key) && !is_path(value) {
            config(xml, "vmw:ExtraConfig", key, value);
        } else {
            refused.push(key.as_str());
        }
    }
    if !refused.is_empty() {
        notes.left_out("further settings", format!("they speak of the host: {}", refused.join(", ")));
    }
}

/// Whether a place on the bus is written with the device that has it.
fn has_item(machine: &Machine, key: &str, value: &str) -> bool {
    let Some((device, _)) = pci_slot(key, value) else { return false };
    let digits = device.trim_start_matches(|character: char| !character.is_ascii_digit());
    let name = device.strip_suffix(digits).unwrap_or_default();
    let number = digits.parse::<u32>().ok().filter(|number| device == format!("{name}{number}"));
    match (name, number) {
        ("ethernet", Some(number)) => machine.nics.iter().any(|nic| nic.number == number),
        ("scsi", Some(number)) => machine.controller(Bus::Scsi, number).is_some(),
        ("sata", Some(number)) => machine.controller(Bus::Sata, number).is_some(),
        ("nvme", Some(number)) => machine.controller(Bus::Nvme, number).is_some(),
        ("vmci", Some(0)) => true,
        ("sound", None) => machine.sound.is_some(),
        ("usb", None) => machine.usb.contains(&UsbController::Usb1),
        ("ehci", None) => machine.usb.contains(&UsbController::Usb2),
        ("usb_xhci", None) => machine.usb.contains(&UsbController::Usb3),
        _ => false,
    }
}

fn left_out(machine: &Machine, notes: &mut Notes) {
    if machine.uuid.is_some() {
        notes.left_out("uuid", "an OVF cannot say it: importers give the machine a new one");
    }
    for nic in &machine.nics {
        if let MacPolicy::Generated(Some(mac)) = nic.mac {
            notes.left_out(
                format!("ethernet{}", nic.number),
                format!("the address {mac} was generated: importers generate a new one"),
            );
        }
    }
    for disk in machine.disks.iter().filter(|disk| disk.raw_device) {
        notes.attention(
            disk.address.to_string(),
            "it was handed through from the host: an ordinary disk takes its place",
        );
    }
}
