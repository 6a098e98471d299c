//! What must hold for any bytes at all, one function per reader: a test calls them with seeds and made-up bytes, fuzz targets
//! with found ones. They panic when it does not hold.

#[cfg(test)]
mod tests;

use transload_block::{ErrorKind, Property};

use crate::ovf::{Change, FileEntry, FileUse, WriteSettings};
use crate::storage::{Bus, DiskFormat, Media, ScsiModel};
use crate::{GuestOs, MacPolicy, Machine, Note, libvirt, ova, ovf, profile, proxmox, virtualbox, vmx, xml};

/// Every property, by the name of its fuzz target.
pub const ALL: &[Property] = &[
    Property { name: "domain_read", holds: domain, seeds: domain_seeds },
    Property { name: "ova_read", holds: ova::fuzz::container, seeds: ova_seeds },
    Property { name: "ovf_read", holds: descriptor, seeds: descriptor_seeds },
    Property { name: "vmx_read", holds: settings, seeds: settings_seeds },
];

/// A VMX is read or refused for a reason; what was read is written as lines that are read again, as far as a VMX can say
/// it; and every other writing of it is sound.
///
/// # Panics
/// When it is not so.
pub fn settings(bytes: &[u8]) {
    match vmx::read(bytes) {
        Ok(reading) => {
            again_as_vmx(&reading.value);
            everywhere(&reading.value);
        }
        Err(error) => refused(error.kind()),
    }
}

/// As [`settings`], of an OVF; and of what is edited no more changes than was asked for.
///
/// # Panics
/// When it is not so.
pub fn descriptor(bytes: &[u8]) {
    let package = match ovf::read(bytes) {
        Ok(package) => package,
        Err(error) => return refused(error.kind()),
    };
    for importer in profile::IMPORTERS {
        let _ = profile::evaluate(&package, importer);
    }
    for system in package.systems.iter().take(4) {
        again_as_vmx(&system.machine);
        everywhere(&system.machine);
    }
    let edited = ovf::edit(bytes, &[]).and_then(|text| ovf::read(text.as_bytes()));
    assert_eq!(edited.ok().as_ref(), Some(&package), "a descriptor that nothing was changed in");
    let family = Change::Family(String::from("vmx-13"));
    let changed = ovf::edit(bytes, &[family, Change::PrivateNotRequired]);
    let changed = changed.and_then(|text| ovf::read(text.as_bytes()));
    let changed =
        changed.map(|package| package.systems.into_iter().map(|system| system.machine.disks).collect::<Vec<_>>());
    let disks: Vec<_> = package.systems.into_iter().map(|system| system.machine.disks).collect();
    assert_eq!(changed.ok(), Some(disks), "disks of a descriptor whose family was changed");
}

/// As [`settings`], of a libvirt domain.
///
/// # Panics
/// When it is not so.
pub fn domain(bytes: &[u8]) {
    match libvirt::read(bytes) {
        Ok(reading) => everywhere(&reading.value),
        Err(error) => refused(error.kind()),
    }
}

fn refused(kind: ErrorKind) {
    use ErrorKind::{Corrupt, Denied, NotThisFormat, TooLarge, Unsupported};
    assert!(matches!(kind, Corrupt | Denied | NotThisFormat | TooLarge | Unsupported), "{kind:?} of bytes");
}

/// Writes a VMX, reads it, and writes and reads that again: from then on nothing changes, and what no writer may change is
/// as it was from the beginning.
fn again_as_vmx(machine: &Machine) {
    let read = |machine: &Machine| {
        let written = vmx::write(machine, &WriteSettings::new());
        let lines = written.text.lines().filter(|line| {
            let value = line.split_once(" = ").map_or("", |(_, value)| value);
            !(value.len() >= 2
                && value.starts_with('"')
                && value.ends_with('"')
                && !value[1..value.len() - 1].contains('"'))
        });
        let odd: Vec<_> = lines.collect();
        assert!(odd.is_empty(), "lines that are no settings: {odd:?}");
        vmx::read(written.text.as_bytes()).ok().map(|reading| reading.value)
    };
    let first = read(machine);
    let Some(first) = first else {
        // More devices than a machine has, together.
        assert!(
            machine.disks.len() + machine.drives.len() + machine.nics.len() > 1000,
            "a VMX that was written is not read"
        );
        return;
    };
    assert_eq!(
        (first.cpus, first.memory_mib, first.firmware, first.tpm),
        (machine.cpus, machine.memory_mib, machine.firmware, machine.tpm)
    );
    let mut annotation = machine.annotation.clone().filter(|text| !text.is_empty());
    annotation = annotation.map(|text| text.replace("\r\n", "\n").replace('\r', "\n"));
    assert_eq!(first.annotation, annotation);
    assert_eq!(
        first.nics.len(),
        machine.nics.iter().map(|nic| nic.number).collect::<std::collections::BTreeSet<_>>().len()
    );
    assert_eq!(read(&first).as_ref(), Some(&first), "the second time");
}

/// Writes the machine in every other writing; XML has to be well-formed, and everything about the notes is there.
fn everywhere(machine: &Machine) {
    let mut machine = machine.clone();
    for disk in &mut machine.disks {
        disk.format = disk.format.take().or(Some(DiskFormat::Qcow2));
        disk.capacity = disk.capacity.or(Some(1 << 30));
    }
    let domain = libvirt::write(&machine);
    let box_settings = virtualbox::write(&machine);
    for (name, text) in [("domain", &domain.text), ("vbox", &box_settings.text)] {
        assert!(xml::parse(text, name).is_ok(), "{name}: {text}");
    }
    let script = proxmox::write(&machine);
    let powershell = crate::hyperv::write(&machine);
    let notes = [&domain.notes, &box_settings.notes, &script.notes, &powershell.notes];
    let said = |note: &Note| !note.part.is_empty() && !note.message.is_empty();
    assert!(notes.into_iter().flatten().all(said), "a note that says nothing");
    again_as_ovf(&machine);
}

/// Writes an OVF and reads it: what it can say comes back.
fn again_as_ovf(machine: &Machine) {
    let mut machine = machine.clone();
    for (number, disk) in machine.disks.iter_mut().enumerate() {
        disk.id = format!("vmdisk{}", number + 1);
    }
    let files: Vec<_> = machine
        .disks
        .iter()
        .map(|disk| FileEntry {
            href: format!("{}.vmdk", disk.id),
            size: None,
            purpose: FileUse::Disk {
                id: disk.id.clone(),
                capacity: disk.capacity.unwrap_or_default() % (1 << 60),
                populated: None,
            },
        })
        .collect();
    let settings = WriteSettings::new();
    let written = ovf::write(&machine, &files, &settings);
    let (written, room) = (written.map(|written| written.text), ovf::widest(&machine, &files, &settings));
    let (Ok(text), Ok(room)) = (written, room) else { unreachable!("an OVF that cannot be written") };
    assert!(text.len() <= room, "{} bytes in the room of {room}", text.len());
    let package = match ovf::read(text.as_bytes()) {
        Ok(package) => package,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}: {text}");
            return;
        }
    };
    let Some(read) = package.systems.first().map(|system| &system.machine) else {
        unreachable!("an OVF without its machine")
    };
    assert_eq!(
        (read.cpus, read.memory_mib, read.firmware, read.tpm),
        (machine.cpus, machine.memory_mib, machine.firmware, machine.tpm)
    );
    assert_eq!(read.disks.len(), machine.disks.len());
    let fixed = |machine: &Machine| {
        machine
            .nics
            .iter()
            .map(|nic| match nic.mac {
                MacPolicy::Fixed(mac) => Some(mac),
                MacPolicy::Generated(_) => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(fixed(read), fixed(&machine));
}

fn settings_seeds() -> Vec<Vec<u8>> {
    let all = "displayName = \"a |22b|22\"\nguestOS = \"debian12-64\"\nmemsize = \"512\"\nnumvcpus = \"4\"\ncpuid.coresPerSocket = \"2\"\n\
        firmware = \"efi\"\nuefi.secureBoot.enabled = \"TRUE\"\nvtpm.present = \"TRUE\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\n\
        scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"a-000001.vmdk\"\nscsi0:0.mode = \"independent-persistent\"\nnvme0.present = \"TRUE\"\n\
        nvme0:0.present = \"TRUE\"\nnvme0:0.fileName = \"b.vmdk\"\nide1:0.present = \"TRUE\"\nide1:0.deviceType = \"cdrom-image\"\nide1:0.fileName = \"x.iso\"\n\
        ethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"vmxnet3\"\nethernet0.networkName = \"LAN\"\nethernet0.addressType = \"static\"\n\
        ethernet0.address = \"00:50:56:01:02:03\"\nserial0.present = \"TRUE\"\nserial0.fileType = \"pipe\"\nserial0.fileName = \"p\"\nsound.present = \"TRUE\"\n\
        usb.present = \"TRUE\"\nehci.present = \"TRUE\"\nbios.bootOrder = \"cdrom,hdd\"\nsvga.vramSize = \"8388608\"\ntools.syncTime = \"TRUE\"\nguestinfo.a = \"b\"\n";
    let wide =
        std::iter::once(0xfeff).chain("displayName = \"ü\"\n".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    vec![
        all.as_bytes().to_vec(),
        b".encoding = \"windows-1252\"\ndisplayName = \"\xfc\"\n# comment\nmemsize=64".to_vec(),
        wide,
        b"displayName = \"a\"\ndisplayName = \"b\"\nencryption.data = \"x\"".to_vec(),
    ]
}

/// A machine with a device of every kind.
fn example() -> Machine {
    let reading = vmx::read(&settings_seeds().swap_remove(0));
    let mut machine = reading.map_or_else(|_| Machine::new("a", 1), |reading| reading.value);
    machine.guest = GuestOs { cim: Some(96), ..machine.guest };
    machine.disks.iter_mut().for_each(|disk| disk.capacity = Some(1 << 30));
    machine
}

fn descriptor_seeds() -> Vec<Vec<u8>> {
    let written = ovf::write(&example(), &[], &WriteSettings::new()).map(|written| written.text.into_bytes());
    let old = br#"<Envelope xmlns="http://www.vmware.com/schema/ovf/1/envelope" xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope" xmlns:xsi="x">
<References><File ovf:href="a.vmdk" ovf:id="f" ovf:size="9" ovf:chunkSize="4"/></References><Section xsi:type="ovf:DiskSection_Type"><Info/>
<Disk ovf:capacity="${p}" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d" ovf:fileRef="f"/></Section>
<Section xsi:type="ovf:DeploymentOptionSection_Type"><Configuration ovf:id="c"/></Section><Content xsi:type="ovf:VirtualSystem_Type" ovf:id="v"><Info/>
<Section xsi:type="ovf:ProductSection_Type"><Property ovf:key="p" ovf:value="2"/></Section><Section xsi:type="ovf:VirtualHardwareSection_Type">
<Item ovf:configuration="c"><InstanceId>1</InstanceId><ResourceType>17</ResourceType><HostResource>/disk/d</HostResource></Item>
<Item><InstanceId>2</InstanceId><ResourceType>4</ResourceType><AllocationUnits>MegaBytes</AllocationUnits><VirtualQuantity>64</VirtualQuantity></Item>
</Section></Content></Envelope>"#;
    vec![written.unwrap_or_default(), old.to_vec()]
}

fn domain_seeds() -> Vec<Vec<u8>> {
    let mut machine = example();
    machine
        .controllers
        .iter_mut()
        .filter(|controller| controller.bus == Bus::Scsi)
        .for_each(|controller| controller.model = Some(ScsiModel::VirtioScsi));
    machine.drives.iter_mut().for_each(|drive| drive.media = Media::Empty);
    vec![libvirt::write(&machine).text.into_bytes()]
}

fn ova_seeds() -> Vec<Vec<u8>> {
    let descriptor = descriptor_seeds().swap_remove(1);
    let manifest = b"SHA256(a.ovf)= 00\nSHA1(b)= ff\n".to_vec();
    let mut archive = Vec::new();
    for (name, payload) in [("a.ovf", &descriptor), ("a.mf", &manifest)] {
        archive.extend(ova::member_header(name, payload.len() as u64, 0).unwrap_or_default());
        archive.extend(payload);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    vec![archive, manifest]
}
