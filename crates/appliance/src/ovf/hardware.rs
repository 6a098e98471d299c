//! The hardware of a machine: `VirtualHardwareSection`.

use roxmltree::Node;
use transload_block::Result;

use super::drives::{self, Place};
use super::item::{Item, described, items, resource};
use super::package::{Package, System};
use super::read::{Sections, sections_of, truth};
use super::{units, virtualbox};
use crate::device::{Mac, MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController, Video};
use crate::machine::{Firmware, MAX_CPUS, MAX_MEMORY_MIB, Machine, boot_order};
use crate::note::Notes;
use crate::xml::NodeExt;

/// What a machine gets whose descriptor does not say it, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 1024;

pub(super) fn read<'a>(
    node: Node<'a, '_>,
    sections: &Sections<'a>,
    package: &Package,
    system: &mut System,
) -> Result<()> {
    let hardware: Vec<_> = sections_of(node, "VirtualHardwareSection").collect();
    // Sections beside each other are alternatives: one for VMware is preferred, as is whatever stands first.
    let vmware = |section: &&Node<'_, '_>| families(**section).iter().any(|family| version(family).is_some());
    let Some(section) = hardware.iter().find(vmware).or(hardware.first()).copied() else {
        system.notes.assumed("hardware", "the descriptor describes none");
        system.machine.memory_mib = DEFAULT_MEMORY_MIB;
        return Ok(());
    };
    if hardware.len() > 1 {
        let chosen = families(section).join(" ");
        system
            .notes
            .left_out("hardware", format!("there are {} descriptions of it: \"{chosen}\" was taken", hardware.len()));
    }
    system.families = families(section);
    system.machine.hardware_version = system.families.iter().find_map(|family| version(family));
    let identifier = section.child("System").and_then(|system| system.child_text("VirtualSystemIdentifier"));
    if let Some(identifier) = identifier.filter(|_| node.child_text("Name").is_none()) {
        identifier.clone_into(&mut system.machine.name);
    }
    if let Some(transport) = section.any_attribute("transport") {
        system.transports = transport.split_whitespace().map(str::to_owned).collect();
    }
    let items = items(section, sections)?;
    system.items = described(&items);
    devices(&items, package, &mut system.machine, &mut system.notes)?;
    settings(section, package, &mut system.machine, &mut system.notes);
    virtualbox::supplement(node, &mut system.machine);
    Ok(())
}

fn families(section: Node<'_, '_>) -> Vec<String> {
    let text = section.child("System").and_then(|system| system.child_text("VirtualSystemType")).unwrap_or_default();
    text.split([',', ' ']).map(str::trim).filter(|family| !family.is_empty()).map(str::to_owned).collect()
}

/// The hardware version of a family of VMware's: 21 of `vmx-21`.
fn version(family: &str) -> Option<u32> {
    let digits = family.to_ascii_lowercase().strip_prefix("vmx-")?.to_owned();
    digits.parse().ok().filter(|version| (1..1000).contains(version))
}

fn devices(items: &[Item<'_>], package: &Package, machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    processors(items, machine, notes)?;
    memory(items, machine, notes)?;
    let mut place = Place::new(items, machine, notes);
    for item in items {
        match item.kind {
            resource::DISK => drives::disk(item, package, &mut place, machine, notes)?,
            resource::CD | resource::DVD => drives::cdrom(item, package, &mut place, machine, notes),
            resource::FLOPPY => drives::floppy(item, package, machine),
            resource::ETHERNET => nic(item, machine, notes),
            resource::USB => usb(item, machine),
            resource::GRAPHICS => video(item, machine),
            resource::SOUND => machine.sound = Some(sound(&item.subtype())),
            resource::SERIAL => machine.serial.push(port(machine.serial.len())),
            resource::PARALLEL => machine.parallel.push(port(machine.parallel.len())),
            resource::OTHER => other(item, machine, notes),
            resource::PROCESSOR | resource::MEMORY | resource::IDE | resource::SCSI | resource::OTHER_STORAGE => {}
            kind => {
                let required = if item.required { ", and required" } else { "" };
                notes.left_out(item.name, format!("resource type {kind} is not known{required}"));
            }
        }
    }
    machine.usb.sort_unstable();
    machine.usb.dedup();
    Ok(())
}

fn processors(items: &[Item<'_>], machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    let mut found = items.iter().filter(|item| item.kind == resource::PROCESSOR);
    let Some(item) = found.next() else {
        notes.assumed("processors", "the descriptor does not say how many: 1 was taken");
        return Ok(());
    };
    let text = item.quantity.unwrap_or("1");
    let number = text.parse().ok().filter(|number| (1..=MAX_CPUS).contains(number));
    machine.cpus = number.ok_or_else(|| item.corrupt(&format!("{text} processors, must be 1 to {MAX_CPUS}")))?;
    machine.cores_per_socket =
        item.cores_per_socket.and_then(|cores| cores.parse().ok()).filter(|cores| (1..=MAX_CPUS).contains(cores));
    if found.next().is_some() {
        notes.left_out("processors", "there are several descriptions of them: the first was taken");
    }
    Ok(())
}

fn memory(items: &[Item<'_>], machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    const MIB: u128 = 1 << 20;
    let Some(item) = items.iter().find(|item| item.kind == resource::MEMORY) else {
        notes.assumed("memory", format!("the descriptor does not say how much: {DEFAULT_MEMORY_MIB} MiB were taken"));
        machine.memory_mib = DEFAULT_MEMORY_MIB;
        return Ok(());
    };
    let unit = match item.units {
        Some(text) => units::bytes(text).ok_or_else(|| item.corrupt(&format!("\"{text}\" is no unit of bytes")))?,
        None => {
            notes.assumed("memory", "the descriptor names no unit: MiB were taken");
            1 << 20
        }
    };
    let text = item.quantity.unwrap_or_default();
    let quantity: u64 = text.parse().map_err(|_| item.corrupt(&format!("\"{text}\" is no amount of memory")))?;
    let bytes = u128::from(quantity) * u128::from(unit);
    let mebibytes = u64::try_from(bytes.div_ceil(MIB)).ok().filter(|amount| (1..=MAX_MEMORY_MIB).contains(amount));
    machine.memory_mib = mebibytes.ok_or_else(|| {
        item.corrupt(&format!("{quantity} units of {unit} bytes of memory, must be 1 to {MAX_MEMORY_MIB} MiB"))
    })?;
    if bytes % MIB != 0 {
        notes.changed("memory", format!("{bytes} bytes are no whole MiB: it was rounded up"));
    }
    Ok(())
}

fn nic(item: &Item<'_>, machine: &mut Machine, notes: &mut Notes) {
    let number = u32::try_from(machine.nics.len()).unwrap_or(u32::MAX);
    let model = item.subtypes.iter().map(|name| nic_model(name)).find(|model| !matches!(model, NicModel::Other(_)));
    let model = model.or_else(|| item.subtypes.first().map(|name| NicModel::Other((*name).to_owned())));
    if let Some(NicModel::Other(name)) = &model {
        notes.attention(item.name, format!("the kind \"{name}\" is not known"));
    }
    let network = match item.connection {
        None => Network::None,
        Some(name) if name.eq_ignore_ascii_case("nat") => Network::Nat,
        Some(name) if name.eq_ignore_ascii_case("bridged") => Network::Bridged,
        Some(name) if name.eq_ignore_ascii_case("hostonly") => Network::HostOnly,
        Some(name) => Network::Named(name.to_owned()),
    };
    machine.nics.push(Nic {
        number,
        model,
        network,
        mac: item.address.and_then(Mac::parse).map_or(MacPolicy::Generated(None), MacPolicy::Fixed),
        connected: item.automatic.unwrap_or(true),
        wake_on_lan: item.flag("wakeOnLanEnabled"),
    });
    placed(item, &format!("ethernet{number}"), machine);
}

fn nic_model(name: &str) -> NicModel {
    match name.to_ascii_lowercase().as_str() {
        "pcnet32" | "flexible" => NicModel::PcNet,
        "virtio" | "virtio-net" | "virtionet" | "3" => NicModel::Virtio,
        "2" => NicModel::E1000,
        "1" => NicModel::Rtl8139,
        "sriovethernetcard" => NicModel::SrIov,
        _ => NicModel::from_spelling(name),
    }
}

/// Keeps the place on the bus that a device has: guests name their adapters after it.
pub(super) fn placed(item: &Item<'_>, device: &str, machine: &mut Machine) {
    if let Some(slot) = item.config.get("slotInfo.pciSlotNumber").filter(|slot| slot.parse::<i32>().is_ok()) {
        machine.extra.insert(format!("{device}.pciSlotNumber"), (*slot).to_owned());
    }
}

fn usb(item: &Item<'_>, machine: &mut Machine) {
    let subtype = item.subtype();
    if subtype.contains("xhci") {
        machine.usb.push(UsbController::Usb3);
        placed(item, "usb_xhci", machine);
    } else if subtype.contains("ehci") && item.flag("ehciEnabled") != Some(false) {
        machine.usb.push(UsbController::Usb2);
        placed(item, "ehci", machine);
    } else {
        machine.usb.push(UsbController::Usb1);
        placed(item, "usb", machine);
    }
}

fn video(item: &Item<'_>, machine: &mut Machine) {
    let number = |key: &str| item.config.get(key).and_then(|text| text.parse::<u64>().ok());
    let video = Video {
        memory_kib: number("videoRamSizeInKB"),
        displays: number("numDisplays").and_then(|number| u32::try_from(number).ok()),
        accelerated_3d: item.flag("enable3DSupport"),
        automatic: item.flag("useAutoDetect"),
    };
    machine.video = Some(video).filter(|video| *video != Video::default());
}

fn sound(subtype: &str) -> Sound {
    match subtype.strip_prefix("vmware.soundcard.").unwrap_or(subtype) {
        "" => Sound::Ensoniq1371,
        "hda" | "ich6" | "ich9" => Sound::HdAudio,
        name => Sound::from_spelling(name),
    }
}

fn port(number: usize) -> Port {
    Port { number: u32::try_from(number).unwrap_or(u32::MAX), backing: PortBacking::None }
}

/// Devices that CIM has no number for: VMware tells them apart by name.
fn other(item: &Item<'_>, machine: &mut Machine, notes: &mut Notes) {
    let subtype = item.subtype();
    match subtype.as_str() {
        "vmware.vtpm" => machine.tpm = true,
        "vmware.vmci" => {
            machine.extra.insert(String::from("vmci0.present"), String::from("TRUE"));
            placed(item, "vmci0", machine);
        }
        name if name.starts_with("vmware.soundcard.") => {
            machine.sound = Some(sound(name));
            placed(item, "sound", machine);
        }
        _ => {
            let required = if item.required { ", and required" } else { "" };
            notes.left_out(item.name, format!("a device of the kind \"{subtype}\" is not known{required}"));
        }
    }
}

/// VMware's settings of the machine as a whole: `vmw:Config` and `vmw:ExtraConfig`.
fn settings(section: Node<'_, '_>, package: &Package, machine: &mut Machine, notes: &mut Notes) {
    let mut secure_boot = false;
    for config in section.children_named("Config") {
        let (Some(key), Some(value)) = (config.any_attribute("key"), config.any_attribute("value")) else { continue };
        let features = &mut machine.features;
        let feature = match key {
            "firmware" => {
                machine.firmware = firmware(value, notes);
                continue;
            }
            "bootOptions.efiSecureBootEnabled" => {
                secure_boot = truth(value);
                continue;
            }
            "cpuHotAddEnabled" => &mut features.cpu_hot_add,
            "cpuHotRemoveEnabled" => &mut features.cpu_hot_remove,
            "memoryHotAddEnabled" => &mut features.memory_hot_add,
            "nestedHVEnabled" => &mut features.nested_virtualization,
            "flags.vvtdEnabled" => &mut features.iommu,
            "flags.vbsEnabled" => &mut features.virtualization_based_security,
            _ => {
                machine.config.insert(key.to_owned(), value.to_owned());
                continue;
            }
        };
        *feature = Some(truth(value));
    }
    match &mut machine.firmware {
        Firmware::Efi { secure_boot: enabled } => *enabled = secure_boot,
        Firmware::Bios if secure_boot => {
            notes.left_out(
                "bootOptions.efiSecureBootEnabled",
                "it is set, and the firmware is BIOS, which has no Secure Boot",
            );
        }
        Firmware::Bios => {}
    }
    for extra in section.children_named("ExtraConfig") {
        if let (Some(key), Some(value)) = (extra.any_attribute("key"), extra.any_attribute("value")) {
            // ovftool always writes it; the file is what counts.
            if key.eq_ignore_ascii_case("bios.bootOrder") {
                machine.boot_order = boot_order(value, notes);
            } else if key != "nvram" {
                machine.extra.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    let nvram = package.files.iter().find(|file| file.href.to_ascii_lowercase().ends_with(".nvram"));
    machine.nvram = nvram.map(|file| file.href.clone());
}

fn firmware(value: &str, notes: &mut Notes) -> Firmware {
    match value {
        "efi" => Firmware::Efi { secure_boot: false },
        "bios" => Firmware::Bios,
        other => {
            notes.changed("firmware", format!("\"{other}\" is not known: it was read as bios"));
            Firmware::Bios
        }
    }
}
