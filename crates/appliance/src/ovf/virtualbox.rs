//! What VirtualBox says of a machine beside the standard: a copy of its own settings, `vbox:Machine`.

use roxmltree::Node;

use super::read::truth;
use crate::device::{Mac, MacPolicy, Network, NicModel};
use crate::machine::{Firmware, Machine};
use crate::xml::NodeExt;

/// Adds to `machine` what the standard's elements have no word for: firmware, module, addresses of adapters.
pub(super) fn supplement(system: Node<'_, '_>, machine: &mut Machine) {
    let own = system
        .children_named("Machine")
        .find(|node| node.tag_name().namespace().is_some_and(|namespace| namespace.contains("virtualbox.org")));
    let Some(own) = own else { return };
    let Some(hardware) = own.child("Hardware") else { return };
    // Version 1.20 of the settings moved these below a section of the firmware's own.
    let bios = hardware.child("BIOS");
    let firmware = hardware.child("Firmware");
    let sections = [firmware, bios, Some(hardware)];
    if firmware.and_then(|node| node.any_attribute("type")).is_some_and(|kind| kind.starts_with("EFI")) {
        let enabled = |node: Node<'_, '_>| node.any_attribute("enabled").is_some_and(truth);
        let secure_boot = sections.into_iter().flatten().filter_map(|node| node.child("SecureBoot")).any(enabled);
        machine.firmware = Firmware::Efi { secure_boot };
    }
    let module = sections.into_iter().flatten().find_map(|node| node.child("TrustedPlatformModule"));
    machine.tpm |= module
        .and_then(|node| node.any_attribute("type"))
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("v2"));
    if machine.uuid.is_none() {
        let digits = |text: &str| text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
        let uuid = hardware.any_attribute("uuid").or_else(|| own.any_attribute("uuid")).map(digits);
        machine.uuid = uuid.filter(|digits| digits.len() == 32).map(|digits| crate::machine::grouped(&digits));
    }
    adapters(hardware, machine);
}

/// The standard's items are in the order of the enabled adapters, and carry neither address nor a kind that it has no name for.
fn adapters(hardware: Node<'_, '_>, machine: &mut Machine) {
    let Some(network) = hardware.child("Network") else { return };
    let enabled = network.children_named("Adapter").filter(|node| node.any_attribute("enabled").is_some_and(truth));
    for (nic, adapter) in machine.nics.iter_mut().zip(enabled) {
        if let Some(mac) = adapter.any_attribute("MACAddress").and_then(Mac::parse) {
            nic.mac = MacPolicy::Fixed(mac);
        }
        if nic.model.is_none() {
            nic.model = adapter.any_attribute("type").map(|kind| match kind.to_ascii_lowercase().as_str() {
                "virtio" => NicModel::Virtio,
                "82540em" | "82543gc" | "82545em" => NicModel::E1000,
                "am79c970a" | "am79c973" => NicModel::PcNet,
                _ => NicModel::Other(kind.to_owned()),
            });
        }
        if adapter.child("NAT").is_some() {
            nic.network = Network::Nat;
        }
    }
}
