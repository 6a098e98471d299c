//! Reads the description of a machine and writes it for another hypervisor: `translate FILE vmx|libvirt|proxmox|hyperv|virtualbox`.
//!
//! Disks keep their names: converting them is another matter.

use transload_appliance::{Machine, Notes, Written, hyperv, libvirt, ovf, proxmox, virtualbox, vmx};
use transload_block::{Error, ErrorKind, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, target] = arguments.as_slice() else {
        return Err(Error::new(ErrorKind::InvalidInput, "usage: translate FILE vmx|libvirt|proxmox|hyperv|virtualbox"));
    };
    let bytes = std::fs::read(file).map_err(|error| Error::io(file.clone(), error))?;
    let (machine, notes) = read(&bytes)?;
    let written = write(&machine, target)?;
    print!("{}", written.text);
    for note in notes.iter().chain(&written.notes) {
        eprintln!("{note}");
    }
    Ok(())
}

/// Reads whichever of the three it is.
fn read(bytes: &[u8]) -> Result<(Machine, Notes)> {
    if let Ok(reading) = libvirt::read(bytes) {
        return Ok((reading.value, reading.notes));
    }
    match ovf::read(bytes) {
        Ok(mut package) if !package.systems.is_empty() => {
            let system = package.systems.swap_remove(0);
            Ok((system.machine, system.notes))
        }
        _ => vmx::read(bytes).map(|reading| (reading.value, reading.notes)),
    }
}

fn write(machine: &Machine, target: &str) -> Result<Written> {
    Ok(match target {
        "vmx" => vmx::write(machine, &vmx::WriteSettings::new()),
        "libvirt" => libvirt::write(machine),
        "proxmox" => proxmox::write(machine),
        "hyperv" => hyperv::write(machine),
        "virtualbox" => virtualbox::write(machine),
        other => return Err(Error::new(ErrorKind::InvalidInput, format!("{other} is not known"))),
    })
}
