//! Controllers, drives, adapters and ports, by the keys that begin with their names.

use std::collections::{BTreeMap, BTreeSet};

use transload_block::{Error, ErrorKind, Result};

use super::document::Document;
use super::read::{number, small};
use crate::device::{Mac, MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController, Video};
use crate::machine::{MAX_DEVICES, Machine};
use crate::note::Notes;
use crate::storage::{
    Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel, base_name,
};

/// The buses that a VMX has keys for, in the order in which the firmware looks for something to start.
const BUSES: [Bus; 4] = [Bus::Scsi, Bus::Nvme, Bus::Sata, Bus::Ide];

pub(super) fn read(document: &mut Document, machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    let keys: Vec<String> = document.keys().collect();
    bound(&keys)?;
    controllers(document, &keys, machine);
    drives(document, &keys, machine, notes);
    floppies(document, machine);
    nics(document, &keys, machine, notes);
    machine.serial = ports(document, &keys, "serial", notes);
    machine.parallel = ports(document, &keys, "parallel", notes);
    usb(document, machine);
    sound(document, machine);
    video(document, machine)
}

/// Refuses more devices than a machine can have, so that looking one up among the others stays cheap.
fn bound(keys: &[String]) -> Result<()> {
    const KINDS: [&str; 7] = ["ide", "scsi", "sata", "nvme", "ethernet", "serial", "parallel"];
    let device = |key: &&String| KINDS.iter().any(|kind| numbered(key, kind).is_some());
    let devices: BTreeSet<&str> = keys.iter().filter(device).filter_map(|key| key.split('.').next()).collect();
    if devices.len() > MAX_DEVICES {
        let text = format!("VMX: {} devices, at most {MAX_DEVICES} are read", devices.len());
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    Ok(())
}

/// The number behind `prefix` in `key`, and what follows the number: `scsi`, `scsi10:3.mode` gives `(10, ":3.mode")`.
fn numbered<'a>(key: &'a str, prefix: &str) -> Option<(u32, &'a str)> {
    let rest = key.strip_prefix(prefix)?;
    let end = rest.find(|character: char| !character.is_ascii_digit())?;
    Some((rest[..end].parse().ok()?, &rest[end..]))
}

fn numbers(keys: &[String], prefix: &str) -> BTreeSet<u32> {
    let devices = keys.iter().filter_map(|key| numbered(key, prefix)).filter(|(_, rest)| rest.starts_with('.'));
    devices.map(|(number, _)| number).collect()
}

fn controllers(document: &mut Document, keys: &[String], machine: &mut Machine) {
    for bus in BUSES.into_iter().filter(|bus| *bus != Bus::Ide) {
        for number in numbers(keys, bus.as_str()) {
            let model = document.take_text(&format!("{bus}{number}.virtualDev"));
            if document.take_flag(&format!("{bus}{number}.present")) != Some(true) {
                continue;
            }
            let model = model.filter(|_| bus == Bus::Scsi).map(|model| ScsiModel::from_spelling(&model));
            machine.controllers.push(Controller { bus, number, model });
        }
    }
}

fn drives(document: &mut Document, keys: &[String], machine: &mut Machine, notes: &mut Notes) {
    let mut addresses = BTreeSet::new();
    for (order, bus) in BUSES.into_iter().enumerate() {
        for key in keys {
            let Some((controller, rest)) = numbered(key, bus.as_str()) else { continue };
            if let Some((unit, _)) = numbered(rest, ":").filter(|(_, rest)| rest.starts_with('.')) {
                addresses.insert((order, Address::new(bus, controller, unit)));
            }
        }
    }
    for (_, address) in addresses {
        drive(document, address, machine, notes);
    }
}

fn drive(document: &mut Document, address: Address, machine: &mut Machine, notes: &mut Notes) {
    let key = |name: &str| format!("{address}.{name}");
    let present = document.take_flag(&key("present"));
    let file = document.take_text(&key("fileName"));
    let kind = document.take_text(&key("deviceType")).map(|kind| kind.to_ascii_lowercase());
    let mode = document.take_text(&key("mode"));
    let connected = document.take_flag(&key("startConnected")).unwrap_or(true);
    let client = document.take_flag(&key("clientDevice")) == Some(true);
    let _ = (
        document.take(&key("autodetect")),
        document.take(&key("redo")),
        document.take(&key("allowGuestConnectionControl")),
    );
    if present != Some(true) {
        return;
    }
    let controller = format!("{}{}", address.bus, address.controller);
    if address.bus != Bus::Ide && machine.controller(address.bus, address.controller).is_none() {
        if document.contains(&format!("{controller}.present")) {
            notes.left_out(address.to_string(), format!("its controller is switched off ({controller}.present)"));
            return;
        }
        notes.assumed(controller, "it has drives and is not set: it was taken for present");
    }
    machine.need_controller(address);
    match kind.as_deref() {
        Some(kind) if kind.contains("cdrom") => {
            let media = media(kind == "cdrom-image", client, file);
            machine.drives.push(Drive { kind: DriveKind::Cdrom, address: Some(address), floppy: 0, media, connected });
        }
        Some(kind) if kind.contains("disk") => disk(address, kind == "rawdisk", mode.as_deref(), file, machine, notes),
        None if file.as_deref().is_some_and(is_iso) => {
            notes
                .assumed(address.to_string(), "it has no deviceType and an ISO image: it was taken for a CD-ROM drive");
            let media = media(true, client, file);
            machine.drives.push(Drive { kind: DriveKind::Cdrom, address: Some(address), floppy: 0, media, connected });
        }
        None => disk(address, false, mode.as_deref(), file, machine, notes),
        Some(kind) => notes.left_out(address.to_string(), format!("a device of the type \"{kind}\" is a host's")),
    }
}

fn is_iso(file: &str) -> bool {
    DiskFormat::of_name(file) == Some(DiskFormat::Iso)
}

fn media(image: bool, client: bool, file: Option<String>) -> Media {
    /// What vSphere writes for nothing.
    const EMPTY: &[&str] = &["emptybackingstring", "vmware-null-remote-floppy"];
    let file = file.filter(|file| !EMPTY.contains(&file.to_ascii_lowercase().as_str()));
    match file {
        _ if client => Media::Client,
        Some(file) if image => Media::Image(file),
        Some(file) if file.eq_ignore_ascii_case("auto detect") => Media::Host(String::new()),
        Some(file) => Media::Host(file),
        None => Media::Empty,
    }
}

fn disk(
    address: Address,
    raw: bool,
    mode: Option<&str>,
    file: Option<String>,
    machine: &mut Machine,
    notes: &mut Notes,
) {
    let Some(file) = file else {
        notes.left_out(address.to_string(), "the disk has no fileName");
        return;
    };
    let mut disk = Disk::new(format!("disk{}", machine.disks.len() + 1), address, None);
    disk.format = DiskFormat::of_name(&file).filter(|_| !raw);
    if is_delta(&file) {
        notes.attention(address.to_string(), format!("{} is the current state over a snapshot", base_name(&file)));
    }
    disk.file = Some(file);
    disk.raw_device = raw;
    disk.mode = match mode.map(str::to_ascii_lowercase).as_deref() {
        None | Some("persistent") => DiskMode::Persistent,
        Some("independent-persistent") => DiskMode::IndependentPersistent,
        Some("independent-nonpersistent") => DiskMode::IndependentNonpersistent,
        Some("undoable" | "append" | "nonpersistent") => DiskMode::Undoable,
        Some(other) => {
            notes.changed(address.to_string(), format!("the mode \"{other}\" is not known: it was read as persistent"));
            DiskMode::Persistent
        }
    };
    machine.disks.push(disk);
}

/// Whether a disk is named as VMware's products name the layer over a snapshot: `name-000001.vmdk`.
fn is_delta(file: &str) -> bool {
    let stem = base_name(file).rsplit_once('.').map_or("", |(stem, _)| stem);
    stem.rsplit_once('-')
        .is_some_and(|(_, digits)| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

fn floppies(document: &mut Document, machine: &mut Machine) {
    for number in 0..2 {
        let key = |name: &str| format!("floppy{number}.{name}");
        // The first floppy drive is there unless the file says no; one that it never speaks of is not worth having.
        let named = number == 0 && document.has_prefix("floppy0");
        let present = document.take_flag(&key("present")).unwrap_or(named);
        let file = document.take_text(&key("fileName"));
        let image = document.take_text(&key("fileType")).is_some_and(|kind| kind.eq_ignore_ascii_case("file"));
        let client = document.take_flag(&key("clientDevice")) == Some(true);
        let connected = document.take_flag(&key("startConnected")).unwrap_or(true);
        let _ = document.take(&key("autodetect"));
        if present {
            let media = media(image, client, file);
            machine.drives.push(Drive { kind: DriveKind::Floppy, address: None, floppy: number, media, connected });
        }
    }
}

fn nics(document: &mut Document, keys: &[String], machine: &mut Machine, notes: &mut Notes) {
    for number in numbers(keys, "ethernet") {
        let key = |name: &str| format!("ethernet{number}.{name}");
        let present = document.take_flag(&key("present")) == Some(true);
        let model = document.take_text(&key("virtualDev")).map(|model| NicModel::from_spelling(&model));
        // The second paravirtual adapter is the first one with these abilities.
        let second = model == Some(NicModel::VmxNet) && document.take(&key("features")).as_deref() == Some("15");
        let network = network(document, number);
        let mac = mac(document, number, notes);
        let connected = document.take_flag(&key("startConnected")).unwrap_or(true);
        let wake_on_lan = document.take_flag(&key("wakeOnPcktRcv"));
        if present {
            let model = if second { Some(NicModel::VmxNet2) } else { model };
            machine.nics.push(Nic { number, model, network, mac, connected, wake_on_lan });
        }
    }
}

fn network(document: &mut Document, number: u32) -> Network {
    let name = document.take_text(&format!("ethernet{number}.networkName"));
    let kind = document.take_text(&format!("ethernet{number}.connectionType")).map(|kind| kind.to_ascii_lowercase());
    let switch = document.take_text(&format!("ethernet{number}.vnet"));
    // The virtual networks of hosted products, which mean no more than the kind beside them.
    let hosted = |name: &String| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("vmnet"));
    match (kind.as_deref(), name) {
        (None | Some("bridged" | "custom" | "monitor_dev"), Some(name)) if !hosted(&name) => Network::Named(name),
        (Some("nat"), _) => Network::Nat,
        (Some("hostonly"), _) => Network::HostOnly,
        (Some("none"), _) => Network::None,
        (Some("custom"), name) => match switch.as_deref().map(base_name).map(str::to_owned).or(name) {
            Some(name) => Network::Named(name),
            None => Network::None,
        },
        (None, Some(name)) => Network::Named(name),
        _ => Network::Bridged,
    }
}

fn mac(document: &mut Document, number: u32, notes: &mut Notes) -> MacPolicy {
    let key = |name: &str| format!("ethernet{number}.{name}");
    let kind = document.take_text(&key("addressType")).map(|kind| kind.to_ascii_lowercase());
    let (fixed, generated) = (document.take_text(&key("address")), document.take_text(&key("generatedAddress")));
    let _ = document.take(&key("checkMACAddress"));
    let mut parse = |text: Option<String>| {
        let text = text?;
        let mac = Mac::parse(text.trim());
        if mac.is_none() {
            notes.left_out(format!("ethernet{number}"), format!("\"{text}\" is no Ethernet address"));
        }
        mac
    };
    match kind.as_deref() {
        Some("static") => parse(fixed).map_or(MacPolicy::Generated(None), MacPolicy::Fixed),
        None if fixed.is_some() => parse(fixed).map_or(MacPolicy::Generated(None), MacPolicy::Fixed),
        _ => MacPolicy::Generated(parse(generated)),
    }
}

fn ports(document: &mut Document, keys: &[String], prefix: &str, notes: &mut Notes) -> Vec<Port> {
    let mut ports = BTreeMap::new();
    for number in numbers(keys, prefix) {
        let key = |name: &str| format!("{prefix}{number}.{name}");
        let present = document.take_flag(&key("present")) == Some(true);
        let kind = document.take_text(&key("fileType")).map(|kind| kind.to_ascii_lowercase());
        let file = document.take_text(&key("fileName"));
        let server = |document: &mut Document, name: &str| {
            document.take_text(&key(name)).is_none_or(|end| !end.eq_ignore_ascii_case("client"))
        };
        let pipe_server = server(document, "pipe.endPoint");
        let network_server = server(document, "network.endPoint");
        let _ = (document.take(&key("startConnected")), document.take(&key("autodetect")));
        if !present {
            continue;
        }
        let backing = match (kind.as_deref(), file) {
            (Some("thinprint"), _) => {
                notes.left_out(format!("{prefix}{number}"), "it prints on the host's printers");
                continue;
            }
            (_, None) => PortBacking::None,
            (Some("file"), Some(file)) => PortBacking::File(file),
            (Some("pipe"), Some(name)) => PortBacking::Pipe { name, server: pipe_server },
            (Some("network"), Some(uri)) => PortBacking::Network { uri, server: network_server },
            (_, Some(file)) => PortBacking::Device(file),
        };
        ports.insert(number, Port { number, backing });
    }
    ports.into_values().collect()
}

fn usb(document: &mut Document, machine: &mut Machine) {
    let (first, second) = (document.take_flag("usb.present"), document.take_flag("ehci.present"));
    match (first, second) {
        (_, Some(true)) => machine.usb.push(UsbController::Usb2),
        (Some(true), _) => machine.usb.push(UsbController::Usb1),
        _ => {}
    }
    if document.take_flag("usb_xhci.present") == Some(true) {
        machine.usb.push(UsbController::Usb3);
    }
}

fn sound(document: &mut Document, machine: &mut Machine) {
    let model = document.take_text("sound.virtualDev");
    for key in ["sound.fileName", "sound.autodetect", "sound.startConnected"] {
        let _ = document.take(key);
    }
    if document.take_flag("sound.present") == Some(true) {
        machine.sound = Some(match model.as_deref() {
            None | Some("es1371") => Sound::Ensoniq1371,
            Some(model) => Sound::from_spelling(model),
        });
    }
}

fn video(document: &mut Document, machine: &mut Machine) -> Result<()> {
    let _ = document.take("svga.present");
    let video = Video {
        memory_kib: number(document, "svga.vramSize", 0, 1 << 40)?.map(|bytes| bytes / 1024),
        displays: small(document, "svga.numDisplays", 0, 64)?,
        accelerated_3d: document.take_flag("mks.enable3d"),
        automatic: document.take_flag("svga.autodetect"),
    };
    machine.video = Some(video).filter(|video| *video != Video::default());
    Ok(())
}
