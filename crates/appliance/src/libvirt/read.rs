//! From a domain to a machine.

use roxmltree::Node;
use transload_block::{Error, ErrorKind, Result};

use crate::device::{Mac, MacPolicy, Network, Nic, NicModel, Port, PortBacking, Sound, UsbController, Video};
use crate::machine::{BootDevice, Firmware, MAX_CPUS, MAX_DEVICES, MAX_MEMORY_MIB, Machine, grouped};
use crate::note::{Notes, Reading};
use crate::storage::{Address, Bus, Controller, Disk, DiskFormat, DiskMode, Drive, DriveKind, Media, ScsiModel};
use crate::xml::{self, NodeExt, line};

/// The longest domain that is read. Real ones have a few dozen KiB.
pub const MAX_LENGTH: usize = 4 << 20;

/// Reads a domain's XML, as `virsh dumpxml` prints it.
///
/// # Errors
/// `TooLarge` over [`MAX_LENGTH`]; `NotThisFormat` when the root is no domain; `Denied` when it has a document type; `Corrupt`, with the line,
/// when it is not well-formed or a number is none; `Unsupported` for disks that are no file or device of the host.
pub fn read(bytes: &[u8]) -> Result<Reading<Machine>> {
    let text = xml::decode(bytes, "domain", MAX_LENGTH)?;
    let document = xml::parse(&text, "domain")?;
    let root = document.root_element();
    if root.tag_name().name() != "domain" {
        let text = format!("domain: the root is <{}>", root.tag_name().name());
        return Err(Error::new(ErrorKind::NotThisFormat, text));
    }
    let mut notes = Notes::new();
    let name = root.child_text("name").ok_or_else(|| corrupt(root, "it has no name"))?;
    let mut machine = Machine::new(name, memory(root)?);
    machine.annotation =
        root.child("description").and_then(|node| node.text()).filter(|text| !text.is_empty()).map(str::to_owned);
    let digits = root.child_text("uuid").map(|text| text.replace('-', "").to_ascii_lowercase());
    machine.uuid = digits
        .filter(|digits| digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .map(|digits| grouped(&digits));
    processors(root, &mut machine)?;
    machine.guest.libosinfo = guest(root);
    firmware(root, &mut machine);
    if let Some(devices) = root.child("devices") {
        read_devices(devices, &mut machine, &mut notes)?;
    }
    for (name, message) in
        [("commandline", "QEMU's own arguments stay behind"), ("launchSecurity", "the memory is not encrypted")]
    {
        if root.child(name).is_some() {
            notes.left_out(name, message);
        }
    }
    Ok(Reading { value: machine, notes })
}

fn corrupt(node: Node<'_, '_>, text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("domain: line {}: {text}", line(node)))
}

fn memory(root: Node<'_, '_>) -> Result<u64> {
    let node = root.child("memory").ok_or_else(|| corrupt(root, "it has no memory"))?;
    let unit: u64 = match node.any_attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        unit => return Err(corrupt(node, &format!("\"{unit}\" is no unit of memory"))),
    };
    let quantity: Option<u64> = node.trimmed().parse().ok();
    let mebibytes = quantity.and_then(|quantity| quantity.checked_mul(unit)).map(|bytes| bytes.div_ceil(1 << 20));
    mebibytes.filter(|amount| (1..=MAX_MEMORY_MIB).contains(amount)).ok_or_else(|| {
        corrupt(
            node,
            &format!("\"{}\" units of {unit} bytes of memory, must be 1 to {MAX_MEMORY_MIB} MiB", node.trimmed()),
        )
    })
}

fn processors(root: Node<'_, '_>, machine: &mut Machine) -> Result<()> {
    if let Some(node) = root.child("vcpu") {
        // The machine starts with the current ones; the others may be added.
        let text = node.any_attribute("current").unwrap_or(node.trimmed());
        let number = text.parse().ok().filter(|number| (1..=MAX_CPUS).contains(number));
        machine.cpus =
            number.ok_or_else(|| corrupt(node, &format!("\"{text}\" processors, must be 1 to {MAX_CPUS}")))?;
        machine.features.cpu_hot_add = node.any_attribute("current").map(|_| true);
    }
    let cpu = root.child("cpu");
    if let Some(topology) = cpu.and_then(|cpu| cpu.child("topology")) {
        let number = |name| topology.any_attribute(name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
        let cores = number("dies").checked_mul(number("cores")).and_then(|cores| cores.checked_mul(number("threads")));
        machine.cores_per_socket = cores.filter(|cores| (1..=MAX_CPUS).contains(cores));
    }
    if cpu.and_then(|cpu| cpu.any_attribute("mode")) == Some("host-passthrough") {
        machine.features.nested_virtualization = Some(true);
    }
    Ok(())
}

fn guest(root: Node<'_, '_>) -> Option<String> {
    let info = root.child("metadata")?.child("libosinfo")?;
    info.child("os")?.any_attribute("id").map(str::to_owned)
}

fn firmware(root: Node<'_, '_>, machine: &mut Machine) {
    let Some(os) = root.child("os") else { return };
    let loader = os.child("loader");
    let flash = loader.and_then(|loader| loader.any_attribute("type")) == Some("pflash");
    if os.any_attribute("firmware") == Some("efi") || flash {
        let feature = |name: &str| {
            let mut features = os.child("firmware").into_iter().flat_map(|firmware| firmware.children_named("feature"));
            features
                .find(|feature| feature.any_attribute("name") == Some(name))
                .and_then(|feature| feature.any_attribute("enabled"))
        };
        let capable = feature("secure-boot") == Some("yes")
            || loader.and_then(|loader| loader.any_attribute("secure")) == Some("yes");
        // Without keys the firmware is able to, and does not.
        machine.firmware = Firmware::Efi { secure_boot: capable && feature("enrolled-keys") != Some("no") };
        machine.nvram = os.child_text("nvram").map(str::to_owned);
    }
    for boot in os.children_named("boot") {
        let device = match boot.any_attribute("dev") {
            Some("hd") => BootDevice::Disk,
            Some("cdrom") => BootDevice::Cdrom,
            Some("fd") => BootDevice::Floppy,
            Some("network") => BootDevice::Network,
            _ => continue,
        };
        if !machine.boot_order.contains(&device) {
            machine.boot_order.push(device);
        }
    }
}

fn read_devices(devices: Node<'_, '_>, machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    let count = devices.children().filter(Node::is_element).count();
    if count > MAX_DEVICES {
        let text = format!("domain: {count} devices, at most {MAX_DEVICES} are read");
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    for node in devices.children_named("controller") {
        controller(node, machine);
    }
    for node in devices.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "disk" => disk(node, machine, notes)?,
            "interface" => interface(node, machine, notes),
            "tpm" => tpm(node, machine, notes),
            "sound" => machine.sound = node.any_attribute("model").map(sound),
            "video" => video(node, machine),
            "serial" => machine.serial.push(port(node, machine.serial.len())),
            "parallel" => machine.parallel.push(port(node, machine.parallel.len())),
            "hostdev" | "filesystem" | "shmem" | "vsock" | "redirdev" | "smartcard" | "nvram" | "crypto" => {
                notes.left_out(node.tag_name().name(), "it belongs to the old host");
            }
            "iommu" => machine.features.iommu = Some(true),
            // The board's, the console's, or made anew anywhere.
            _ => {}
        }
    }
    machine.usb.sort_unstable();
    machine.usb.dedup();
    Ok(())
}

fn controller(node: Node<'_, '_>, machine: &mut Machine) {
    let number = node.any_attribute("index").and_then(|text| text.parse().ok()).unwrap_or_default();
    let model = node.any_attribute("model");
    match node.any_attribute("type") {
        Some("scsi") => {
            let model = model.map(|model| match model {
                "vmpvscsi" => ScsiModel::ParaVirtual,
                "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional" => ScsiModel::VirtioScsi,
                other => ScsiModel::from_spelling(other),
            });
            if machine.controller(Bus::Scsi, number).is_none() {
                machine.controllers.push(Controller { bus: Bus::Scsi, number, model });
            }
        }
        Some("usb") => match model {
            Some("none") => {}
            Some(model) if model.contains("xhci") => machine.usb.push(UsbController::Usb3),
            Some(model) if model.contains("ehci") => machine.usb.push(UsbController::Usb2),
            // The companions of a faster one are part of it.
            Some(model) if model.starts_with("ich9-uhci") => {}
            _ => machine.usb.push(UsbController::Usb1),
        },
        _ => {}
    }
}

fn disk(node: Node<'_, '_>, machine: &mut Machine, notes: &mut Notes) -> Result<()> {
    let target = node.child("target");
    let name = target.and_then(|target| target.any_attribute("dev")).unwrap_or("disk");
    let source = node.child("source");
    let kind = node.any_attribute("type").unwrap_or("file");
    let file = match kind {
        "file" => source.and_then(|source| source.any_attribute("file")),
        "block" => source.and_then(|source| source.any_attribute("dev")),
        other => {
            let text = format!(
                "domain: line {}: disk {name} is of the type \"{other}\", only files and devices of the host are read",
                line(node)
            );
            return Err(Error::new(ErrorKind::Unsupported, text).with_remedy("name a file with <disk type='file'>"));
        }
    };
    if node.child("encryption").is_some() || source.and_then(|source| source.child("encryption")).is_some() {
        let text = format!("domain: line {}: disk {name} is encrypted", line(node));
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let file = file.filter(|file| !file.is_empty()).map(str::to_owned);
    match node.any_attribute("device").unwrap_or("disk") {
        "floppy" => {
            let floppy = u32::from(name.ends_with('b'));
            let media = file.map_or(Media::Empty, Media::Image);
            machine.drives.push(Drive { kind: DriveKind::Floppy, address: None, floppy, media, connected: true });
        }
        "cdrom" => {
            let address = address(node, name, machine, notes);
            machine.need_controller(address);
            let media =
                file.map_or(Media::Empty, |file| if kind == "block" { Media::Host(file) } else { Media::Image(file) });
            machine.drives.push(Drive {
                kind: DriveKind::Cdrom,
                address: Some(address),
                floppy: 0,
                media,
                connected: true,
            });
        }
        _ => {
            let address = address(node, name, machine, notes);
            machine.need_controller(address);
            let mut disk = Disk::new(format!("disk{}", machine.disks.len() + 1), address, file);
            disk.format =
                node.child("driver").and_then(|driver| driver.any_attribute("type")).map(|format| match format {
                    "vpc" => DiskFormat::Vhd,
                    other => DiskFormat::from_spelling(other),
                });
            disk.read_only = node.child("readonly").is_some();
            disk.raw_device = node.any_attribute("device") == Some("lun");
            if node.child("transient").is_some() {
                disk.mode = DiskMode::IndependentNonpersistent;
            }
            if disk.file.is_none() {
                notes.left_out(name, "the disk has no file");
            } else {
                machine.disks.push(disk);
            }
        }
    }
    Ok(())
}

/// Where a drive hangs: its address, else the place that its name stands for.
fn address(node: Node<'_, '_>, name: &str, machine: &Machine, notes: &mut Notes) -> Address {
    let bus = match node.child("target").and_then(|target| target.any_attribute("bus")) {
        Some("ide") => Bus::Ide,
        Some("scsi") => Bus::Scsi,
        Some("sata") => Bus::Sata,
        Some("nvme") => Bus::Nvme,
        Some("virtio") => Bus::Virtio,
        None if name.starts_with("vd") => Bus::Virtio,
        None if name.starts_with("hd") => Bus::Ide,
        other => {
            let bus = other.unwrap_or("none");
            notes.changed(name, format!("the bus \"{bus}\" is not known elsewhere: it hangs from SATA"));
            Bus::Sata
        }
    };
    let place = node.child("address").filter(|address| address.any_attribute("type") == Some("drive"));
    let number = |name| place.and_then(|place| place.any_attribute(name)).and_then(|text| text.parse::<u32>().ok());
    let wanted = match (bus, number("controller"), number("unit")) {
        (Bus::Ide, Some(_), Some(unit)) => Address::new(bus, number("bus").unwrap_or_default(), unit),
        (Bus::Scsi, Some(controller), Some(unit)) => {
            Address::new(bus, controller, number("target").unwrap_or_default().max(unit))
        }
        (_, Some(controller), Some(unit)) => Address::new(bus, controller, unit),
        _ => by_name(bus, name),
    };
    let taken = |address: Address| {
        machine.disks.iter().any(|disk| disk.address == address)
            || machine.drives.iter().any(|drive| drive.address == Some(address))
    };
    let mut address = wanted;
    while taken(address) {
        address.unit = address.unit.saturating_add(1);
    }
    if address != wanted {
        notes.changed(name, format!("{wanted} is taken: it is {address}"));
    }
    address
}

/// The place that `sdc` stands for.
fn by_name(bus: Bus, name: &str) -> Address {
    let letters = name.get(2..).unwrap_or_default().bytes().filter(u8::is_ascii_lowercase).take(3);
    let place = letters.fold(0, |number: u32, letter| number * 26 + u32::from(letter - b'a') + 1).saturating_sub(1);
    match bus {
        Bus::Ide => Address::new(bus, place / 2, place % 2),
        Bus::Sata => Address::new(bus, place / 6, place % 6),
        _ => Address::new(bus, 0, place),
    }
}

fn interface(node: Node<'_, '_>, machine: &mut Machine, notes: &mut Notes) {
    let number = u32::try_from(machine.nics.len()).unwrap_or(u32::MAX);
    let source = |name| node.child("source").and_then(|source| source.any_attribute(name));
    let network = match node.any_attribute("type").unwrap_or_default() {
        "user" => Network::Nat,
        "network" => match source("network") {
            None | Some("default") => Network::Nat,
            Some(name) => Network::Named(name.to_owned()),
        },
        kind => {
            let place = source("bridge").or_else(|| source("dev"));
            if !matches!(kind, "bridge" | "direct" | "ethernet") {
                notes.changed(format!("nic {number}"), format!("the type \"{kind}\" is not known elsewhere"));
            }
            place.map_or(Network::Bridged, |place| Network::Named(place.to_owned()))
        }
    };
    let model = node.child("model").and_then(|model| model.any_attribute("type")).map(|model| match model {
        "pcnet" => NicModel::PcNet,
        model if model.starts_with("virtio") => NicModel::Virtio,
        model => NicModel::from_spelling(model),
    });
    let mac = node.child("mac").and_then(|mac| mac.any_attribute("address")).and_then(Mac::parse);
    machine.nics.push(Nic {
        number,
        model,
        network,
        mac: mac.map_or(MacPolicy::Generated(None), MacPolicy::Fixed),
        connected: node.child("link").and_then(|link| link.any_attribute("state")) != Some("down"),
        wake_on_lan: None,
    });
}

fn tpm(node: Node<'_, '_>, machine: &mut Machine, notes: &mut Notes) {
    let backend = node.child("backend");
    match backend.and_then(|backend| backend.any_attribute("type")) {
        Some("emulator") if backend.and_then(|backend| backend.any_attribute("version")) != Some("1.2") => {
            machine.tpm = true;
        }
        Some("emulator") => notes.left_out("tpm", "it is of version 1.2"),
        _ => notes.left_out("tpm", "it is the old host's own"),
    }
}

fn sound(model: &str) -> Sound {
    match model {
        "ich6" | "ich7" | "ich9" => Sound::HdAudio,
        "es1370" => Sound::Ensoniq1371,
        other => Sound::from_spelling(other),
    }
}

fn video(node: Node<'_, '_>, machine: &mut Machine) {
    let Some(model) = node.child("model") else { return };
    let number = |name| model.any_attribute(name).and_then(|text| text.parse::<u64>().ok());
    let accelerated =
        model.child("acceleration").and_then(|node| node.any_attribute("accel3d")).map(|value| value == "yes");
    let video = Video {
        memory_kib: number("vram"),
        displays: number("heads").filter(|heads| *heads > 1).and_then(|heads| u32::try_from(heads).ok()),
        accelerated_3d: accelerated,
        automatic: None,
    };
    machine.video = Some(video).filter(|video| *video != Video::default());
}

fn port(node: Node<'_, '_>, place: usize) -> Port {
    let number =
        node.child("target").and_then(|target| target.any_attribute("port")).and_then(|text| text.parse().ok());
    let path = node.child("source").and_then(|source| source.any_attribute("path")).map(str::to_owned);
    let server = node.child("source").and_then(|source| source.any_attribute("mode")) == Some("bind");
    let backing = match (node.any_attribute("type"), path) {
        (Some("dev"), Some(path)) => PortBacking::Device(path),
        (Some("file"), Some(path)) => PortBacking::File(path),
        (Some("pipe" | "unix"), Some(name)) => PortBacking::Pipe { name, server },
        _ => PortBacking::None,
    };
    Port { number: number.unwrap_or_else(|| u32::try_from(place).unwrap_or(u32::MAX)), backing }
}
