//! One `Item` of the hardware, and which of them count in the default configuration.

use std::collections::{BTreeMap, HashMap};

use roxmltree::Node;
use transload_block::{Error, ErrorKind, Result};

use super::package::DescribedItem;
use super::read::{Sections, truth};
use crate::machine::MAX_DEVICES;
use crate::xml::{NodeExt, line};

/// CIM's numbers for what a resource is.
pub(crate) mod resource {
    pub(crate) const OTHER: u32 = 1;
    pub(crate) const PROCESSOR: u32 = 3;
    pub(crate) const MEMORY: u32 = 4;
    pub(crate) const IDE: u32 = 5;
    pub(crate) const SCSI: u32 = 6;
    pub(crate) const ETHERNET: u32 = 10;
    pub(crate) const FLOPPY: u32 = 14;
    pub(crate) const CD: u32 = 15;
    pub(crate) const DVD: u32 = 16;
    pub(crate) const DISK: u32 = 17;
    pub(crate) const OTHER_STORAGE: u32 = 20;
    pub(crate) const SERIAL: u32 = 21;
    pub(crate) const PARALLEL: u32 = 22;
    pub(crate) const USB: u32 = 23;
    pub(crate) const GRAPHICS: u32 = 24;
    pub(crate) const SOUND: u32 = 35;
}

/// An item, as far as it is of use.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Where it stands; its line takes a search, and is for messages alone.
    node: Node<'a, 'a>,
    /// Its `InstanceID`.
    pub(super) id: &'a str,
    /// Its `ResourceType`; 0 where it has none.
    pub(super) kind: u32,
    /// Its `ResourceSubType`: names of kinds that would do, the preferred one first.
    pub(super) subtypes: Vec<&'a str>,
    /// Its name for people.
    pub(super) name: &'a str,
    /// Its `Address`.
    pub(super) address: Option<&'a str>,
    /// Its `AddressOnParent`.
    pub(super) unit: Option<u32>,
    /// Its `Parent`.
    pub(super) parent: Option<&'a str>,
    /// Its first `HostResource`.
    pub(super) host_resource: Option<&'a str>,
    /// Its `VirtualQuantity`.
    pub(super) quantity: Option<&'a str>,
    /// Its `AllocationUnits`.
    pub(super) units: Option<&'a str>,
    /// Its first `Connection`.
    pub(super) connection: Option<&'a str>,
    /// Its `AutomaticAllocation`.
    pub(super) automatic: Option<bool>,
    /// Its `vmw:CoresPerSocket`.
    pub(super) cores_per_socket: Option<&'a str>,
    /// Its `vmw:Config`.
    pub(super) config: BTreeMap<&'a str, &'a str>,
    /// Who deploys the package must understand it.
    pub(super) required: bool,
}

impl<'a> Item<'a> {
    fn new(node: Node<'a, 'a>) -> Self {
        let subtypes = node.child_text("ResourceSubType").unwrap_or_default();
        let subtypes = subtypes.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).collect();
        let config = node
            .children_named("Config")
            .filter_map(|config| Some((config.any_attribute("key")?, config.any_attribute("value")?)));
        Self {
            node,
            id: node.child_text("InstanceID").or_else(|| node.child_text("InstanceId")).unwrap_or_default(),
            kind: node.child_text("ResourceType").and_then(|text| text.parse().ok()).unwrap_or_default(),
            subtypes,
            name: node.child_text("ElementName").or_else(|| node.child_text("Caption")).unwrap_or("device"),
            address: node.child_text("Address").or_else(|| node.child_text("BusNumber")),
            unit: node.child_text("AddressOnParent").and_then(|text| text.parse().ok()),
            parent: node.child_text("Parent"),
            host_resource: node.child_text("HostResource"),
            quantity: node.child_text("VirtualQuantity"),
            units: node.child_text("AllocationUnits"),
            connection: node.child_text("Connection"),
            automatic: node.child_text("AutomaticAllocation").map(truth),
            cores_per_socket: node.child_text("CoresPerSocket"),
            config: config.collect(),
            required: node.any_attribute("required").is_none_or(truth),
        }
    }

    /// The preferred kind, in lower case.
    pub(super) fn subtype(&self) -> String {
        self.subtypes.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default()
    }

    /// The truth of a `vmw:Config`.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key).map(|value| truth(value))
    }

    pub(super) fn corrupt(&self, text: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("OVF: line {}: {}: {text}", line(self.node), self.name))
    }
}

/// The items as they are spelled.
pub(super) fn described(items: &[Item<'_>]) -> Vec<DescribedItem> {
    let kinds: HashMap<&str, u32> = items.iter().map(|item| (item.id, item.kind)).collect();
    let text = |text: Option<&str>| text.map(str::to_owned);
    let described = items.iter().map(|item| DescribedItem {
        name: item.name.to_owned(),
        resource_type: item.kind,
        subtype: item.subtypes.join(" "),
        required: item.required,
        parent: text(item.parent),
        unit: item.unit,
        parent_type: item.parent.and_then(|id| kinds.get(id)).copied(),
        host_resource: text(item.host_resource),
        units: text(item.units),
        connection: text(item.connection),
    });
    described.collect()
}

/// The items of a `VirtualHardwareSection` in the default configuration.
///
/// Bounds are left away. Of items that share an id the one for the default configuration counts, else the one for all.
pub(super) fn items<'a>(section: Node<'a, 'a>, sections: &Sections<'_>) -> Result<Vec<Item<'a>>> {
    let mut items: Vec<Item<'a>> = Vec::new();
    let mut by_id: HashMap<&str, (usize, bool)> = HashMap::new();
    let nodes = section.children().filter(|node| {
        node.is_element() && matches!(node.tag_name().name(), "Item" | "StorageItem" | "EthernetPortItem")
    });
    for node in nodes {
        if items.len() > MAX_DEVICES {
            let text = format!("OVF: line {}: more than {MAX_DEVICES} devices", line(section));
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        if node.any_attribute("bound").is_some_and(|bound| !bound.is_empty() && bound != "normal") {
            continue;
        }
        let special = match node.any_attribute("configuration").filter(|ids| !ids.trim().is_empty()) {
            Some(ids) if !sections.applies(ids) => continue,
            other => other.is_some(),
        };
        let item = Item::new(node);
        match by_id.get(item.id).copied() {
            Some(_) if item.id.is_empty() => items.push(item),
            None => {
                by_id.insert(item.id, (items.len(), special));
                items.push(item);
            }
            Some((_, true)) if !special => {}
            Some((place, false)) if special => {
                by_id.insert(item.id, (place, true));
                items[place] = item;
            }
            Some(_) => return Err(item.corrupt(&format!("another item has the InstanceID {}", item.id))),
        }
    }
    Ok(items)
}
