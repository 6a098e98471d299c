//! From a machine to a VMX.

use std::collections::BTreeSet;

use super::document::quoted;
use super::keys::{CONFIG, ValueKind, is_harmless};
use crate::adapt::for_vmware;
use crate::device::{MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController};
use crate::machine::{Firmware, Machine, boot_order_text};
use crate::note::{Notes, WriteSettings, Written};
use crate::storage::{Bus, Controller, Disk, DiskMode, Drive, DriveKind, Media, base_name};

/// The hardware version of a machine that names none: every product since ESXi 6.5 and Workstation 14 runs it.
const DEFAULT_HARDWARE_VERSION: u32 = 13;

/// Writes the VMX of `machine`, in UTF-8. Disks are named as their `file` says.
///
/// Of [`Machine::extra`] only such settings are written as a machine from elsewhere may bring along: none that names a
/// file or a device of the host, or contradicts the rest.
#[must_use]
pub fn write(machine: &Machine, settings: &WriteSettings) -> Written {
    let mut vmx = Vmx::default();
    let machine = &for_vmware(machine, &mut vmx.notes);
    general(&mut vmx, machine, settings);
    for controller in &machine.controllers {
        vmx.controller(controller);
    }
    for disk in &machine.disks {
        vmx.disk(disk);
    }
    machine.drives.iter().for_each(|drive| vmx.drive(drive));
    if !machine.drives.iter().any(|drive| drive.kind == DriveKind::Floppy && drive.floppy == 0) {
        // It would be there otherwise.
        vmx.flag("floppy0.present", false);
    }
    machine.nics.iter().for_each(|nic| vmx.nic(nic));
    machine.serial.iter().for_each(|port| vmx.port("serial", port));
    machine.parallel.iter().for_each(|port| vmx.port("parallel", port));
    vmx.usb(machine);
    vmx.sound_and_video(machine);
    vmx.config(machine);
    vmx.bridges(machine);
    vmx.extra(machine);
    Written { text: vmx.text, notes: vmx.notes }
}

#[derive(Default)]
struct Vmx {
    text: String,
    /// The keys that are there, in lower case: none is written twice.
    keys: BTreeSet<String>,
    notes: Notes,
}

fn general(vmx: &mut Vmx, machine: &Machine, settings: &WriteSettings) {
    vmx.set(".encoding", "UTF-8");
    vmx.set("config.version", "8");
    let version = settings.hardware_version.or(machine.hardware_version).unwrap_or_else(|| {
        vmx.notes.assumed("virtualHW.version", format!("the machine names none: {DEFAULT_HARDWARE_VERSION} was taken"));
        DEFAULT_HARDWARE_VERSION
    });
    vmx.set("virtualHW.version", version);
    vmx.set("displayName", &machine.name);
    if let Some(annotation) = &machine.annotation {
        vmx.set("annotation", annotation);
    }
    let guest = machine.guest.vmware_name().unwrap_or_else(|| {
        vmx.notes.assumed("guestOS", "the machine names no guest that VMware knows: \"other-64\" was taken");
        String::from("other-64")
    });
    vmx.set("guestOS", guest);
    vmx.set("memsize", machine.memory_mib);
    vmx.set("numvcpus", machine.cpus);
    if let Some(cores) = machine.cores_per_socket {
        vmx.set("cpuid.coresPerSocket", cores);
    }
    if let Some(uuid) = &machine.uuid {
        vmx.set("uuid.bios", spaced(uuid));
    }
    if let Firmware::Efi { secure_boot } = machine.firmware {
        vmx.set("firmware", "efi");
        if secure_boot {
            vmx.flag("uefi.secureBoot.enabled", true);
        }
    }
    if let Some(nvram) = &machine.nvram {
        vmx.set("nvram", nvram);
    }
    if !machine.boot_order.is_empty() {
        vmx.set("bios.bootOrder", boot_order_text(&machine.boot_order));
    }
    if machine.tpm {
        vmx.set("managedVM.autoAddVTPM", "software");
        let message = "a new, empty one is made when the machine is first opened; keys that were sealed in the old one are not in it";
        vmx.notes.attention("tpm", message);
    }
    vmx.features(machine);
}

/// The digits of a UUID as a VMX has them.
fn spaced(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    let (first, second) = pairs.split_at(pairs.len() / 2);
    format!("{}-{}", first.join(" "), second.join(" "))
}

impl Vmx {
    #[expect(clippy::needless_pass_by_value, reason = "callers give numbers and texts, their own and borrowed ones")]
    fn set(&mut self, key: &str, value: impl ToString) {
        if self.keys.insert(key.to_lowercase()) {
            self.text.push_str(key);
            self.text.push_str(" = ");
            self.text.push_str(&quoted(&value.to_string()));
            self.text.push('\n');
        }
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.set(key, if value { "TRUE" } else { "FALSE" });
    }

    fn features(&mut self, machine: &Machine) {
        let features = &machine.features;
        let flags = [
            ("vcpu.hotadd", features.cpu_hot_add),
            ("vcpu.hotremove", features.cpu_hot_remove),
            ("mem.hotadd", features.memory_hot_add),
            ("vhv.enable", features.nested_virtualization),
            ("vvtd.enable", features.iommu),
            ("windows.vbs.enabled", features.virtualization_based_security),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                self.flag(key, value);
            }
        }
    }

    fn controller(&mut self, controller: &Controller) {
        let name = format!("{}{}", controller.bus, controller.number);
        match controller.bus {
            Bus::Ide | Bus::Virtio => return,
            Bus::Scsi | Bus::Sata | Bus::Nvme => {}
        }
        if let Some(model) = &controller.model {
            self.set(&format!("{name}.virtualDev"), model);
        }
        self.flag(&format!("{name}.present"), true);
    }

    fn disk(&mut self, disk: &Disk) {
        let address = disk.address;
        let Some(file) = &disk.file else {
            self.notes.attention(
                address.to_string(),
                format!("{} is an empty disk: it has to be made and named here", disk.id),
            );
            return;
        };
        self.flag(&format!("{address}.present"), true);
        self.set(&format!("{address}.fileName"), file);
        if disk.raw_device {
            self.set(&format!("{address}.deviceType"), "rawDisk");
        } else {
            let kind = if address.bus == Bus::Scsi { "scsi-hardDisk" } else { "disk" };
            self.set(&format!("{address}.deviceType"), kind);
        }
        let mode = match disk.mode {
            DiskMode::Persistent => None,
            DiskMode::IndependentPersistent => Some("independent-persistent"),
            DiskMode::IndependentNonpersistent => Some("independent-nonpersistent"),
            DiskMode::Undoable => Some("undoable"),
        };
        if let Some(mode) = mode {
            self.set(&format!("{address}.mode"), mode);
        }
        if disk.read_only {
            self.notes.left_out(address.to_string(), "a VMX cannot say that a disk is read-only");
        }
    }

    fn drive(&mut self, drive: &Drive) {
        let name = match (drive.kind, drive.address) {
            (DriveKind::Floppy, _) => format!("floppy{}", drive.floppy),
            (DriveKind::Cdrom, Some(address)) => address.to_string(),
            (DriveKind::Cdrom, None) => {
                self.notes.left_out("cdrom", "it hangs from nothing");
                return;
            }
        };
        self.flag(&format!("{name}.present"), true);
        let kind = if drive.kind == DriveKind::Floppy { "fileType" } else { "deviceType" };
        let (image, host) =
            if drive.kind == DriveKind::Floppy { ("file", "device") } else { ("cdrom-image", "cdrom-raw") };
        match &drive.media {
            Media::Empty => self.set(&format!("{name}.{kind}"), host),
            Media::Image(file) => {
                self.set(&format!("{name}.{kind}"), image);
                self.set(&format!("{name}.fileName"), file);
            }
            Media::Host(device) => {
                self.set(&format!("{name}.{kind}"), host);
                self.set(&format!("{name}.fileName"), if device.is_empty() { "auto detect" } else { device });
            }
            Media::Client => {
                self.set(&format!("{name}.{kind}"), host);
                self.flag(&format!("{name}.clientDevice"), true);
            }
        }
        if !drive.connected {
            self.flag(&format!("{name}.startConnected"), false);
        }
    }

    fn nic(&mut self, nic: &Nic) {
        let name = format!("ethernet{}", nic.number);
        self.flag(&format!("{name}.present"), true);
        self.nic_model(&name, nic);
        match &nic.network {
            Network::None => self.set(&format!("{name}.connectionType"), "none"),
            Network::Bridged => self.set(&format!("{name}.connectionType"), "bridged"),
            Network::Nat => self.set(&format!("{name}.connectionType"), "nat"),
            Network::HostOnly => self.set(&format!("{name}.connectionType"), "hostonly"),
            Network::Named(network) => {
                let hosted = network.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("vmnet"));
                if hosted {
                    self.set(&format!("{name}.connectionType"), "custom");
                    if base_name(network) == network {
                        self.set(&format!("{name}.vnet"), network);
                    }
                }
                self.set(&format!("{name}.networkName"), network);
            }
        }
        match nic.mac {
            MacPolicy::Fixed(mac) => {
                self.set(&format!("{name}.addressType"), "static");
                self.set(&format!("{name}.address"), mac);
                // Otherwise only addresses from 00:50:56:00:00:00 to 00:50:56:3f:ff:ff are taken.
                if !matches!(mac.0, [0, 0x50, 0x56, 0..=0x3f, _, _]) {
                    self.flag(&format!("{name}.checkMACAddress"), false);
                }
            }
            MacPolicy::Generated(mac) => {
                self.set(&format!("{name}.addressType"), "generated");
                if let Some(mac) = mac {
                    self.set(&format!("{name}.generatedAddress"), mac);
                }
            }
        }
        if !nic.connected {
            self.flag(&format!("{name}.startConnected"), false);
        }
        if let Some(wake) = nic.wake_on_lan {
            self.flag(&format!("{name}.wakeOnPcktRcv"), wake);
        }
    }

    fn nic_model(&mut self, name: &str, nic: &Nic) {
        let key = format!("{name}.virtualDev");
        match &nic.model {
            None => {}
            Some(NicModel::VmxNet2) => {
                self.set(&key, "vmxnet");
                self.set(&format!("{name}.features"), "15");
            }
            Some(NicModel::Rtl8139) => {
                self.notes.changed(name, "VMware has no rtl8139: it is e1000");
                self.set(&key, "e1000");
            }
            Some(NicModel::SrIov) => {
                self.notes.changed(name, "a function of a physical adapter stays behind: it is vmxnet3");
                self.set(&key, "vmxnet3");
            }
            Some(model) => self.set(&key, model),
        }
    }

    fn port(&mut self, prefix: &str, port: &Port) {
        let name = format!("{prefix}{}", port.number);
        self.flag(&format!("{name}.present"), true);
        let (kind, file, end) = match &port.backing {
            PortBacking::None => return,
            PortBacking::Device(file) => ("device", file, None),
            PortBacking::File(file) => ("file", file, None),
            PortBacking::Pipe { name, server } => ("pipe", name, Some(*server)),
            PortBacking::Network { uri, server } => ("network", uri, Some(*server)),
        };
        self.set(&format!("{name}.fileType"), kind);
        self.set(&format!("{name}.fileName"), file);
        if let Some(server) = end {
            self.set(&format!("{name}.{kind}.endPoint"), if server { "server" } else { "client" });
        }
    }

    fn usb(&mut self, machine: &Machine) {
        for controller in &machine.usb {
            match controller {
                UsbController::Usb1 => self.flag("usb.present", true),
                UsbController::Usb2 => {
                    self.flag("usb.present", true);
                    self.flag("ehci.present", true);
                }
                UsbController::Usb3 => self.flag("usb_xhci.present", true),
            }
        }
    }

    fn sound_and_video(&mut self, machine: &Machine) {
        if let Some(sound) = &machine.sound {
            self.flag("sound.present", true);
            let model = match sound {
                Sound::Ensoniq1371 => "es1371",
                Sound::Ac97 => {
                    self.notes.changed("sound", "VMware has no ac97: it is hdaudio");
                    "hdaudio"
                }
                other => other.as_str(),
            };
            self.set("sound.virtualDev", model);
            self.set("sound.fileName", "-1");
            self.flag("sound.autodetect", true);
        }
        let Some(video) = &machine.video else { return };
        if let Some(memory) = video.memory_kib {
            self.set("svga.vramSize", memory.saturating_mul(1024));
        }
        if let Some(displays) = video.displays {
            self.set("svga.numDisplays", displays);
        }
        if let Some(accelerated) = video.accelerated_3d {
            self.flag("mks.enable3d", accelerated);
        }
        if let Some(automatic) = video.automatic {
            self.flag("svga.autodetect", automatic);
        }
    }

    fn config(&mut self, machine: &Machine) {
        for (name, value) in &machine.config {
            let Some((_, key, kind)) = CONFIG.iter().find(|(config, _, _)| config == name) else {
                self.notes.left_out(name, format!("a VMX has no key for it; it is \"{value}\""));
                continue;
            };
            match kind {
                ValueKind::Text => self.set(key, value),
                ValueKind::Flag => self.flag(key, value.eq_ignore_ascii_case("true")),
                ValueKind::PowerOperation if value == "preset" => self.set(key, "default"),
                ValueKind::PowerOperation => self.set(key, value),
            }
        }
    }

    /// The bridges that PCI Express adapters and controllers hang from. VMware's products write them into every machine
    /// they make; one without them has no place for such a device.
    fn bridges(&mut self, machine: &Machine) {
        if machine.extra.keys().any(|key| key.to_lowercase().starts_with("pcibridge")) {
            return;
        }
        self.flag("pciBridge0.present", true);
        for number in 4..8 {
            self.flag(&format!("pciBridge{number}.present"), true);
            self.set(&format!("pciBridge{number}.virtualDev"), "pcieRootPort");
            self.set(&format!("pciBridge{number}.functions"), "8");
        }
    }

    fn extra(&mut self, machine: &Machine) {
        let mut refused = Vec::new();
        for (key, value) in &machine.extra {
            if is_harmless(key) {
                self.set(key, value);
            } else {
                refused.push(key.as_str());
            }
        }
        if !refused.is_empty() {
            let message = format!("they reach out of the machine or stand elsewhere: {}", refused.join(", "));
            self.notes.left_out("further settings", message);
        }
    }
}
