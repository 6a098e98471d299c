//! From a descriptor to a package: the envelope and its sections.

use std::collections::{HashMap, HashSet};

use roxmltree::Node;
use transload_block::{Error, ErrorKind, Result};

use super::hardware;
use super::package::{Configuration, Dialect, Eula, LogicalNetwork, Namespace, Package, Product, Property, System};
use super::references;
use crate::guest::GuestOs;
use crate::machine::Machine;
use crate::note::Notes;
use crate::xml::{self, NodeExt, line};

/// The longest descriptor that is read. Real ones are some hundred KiB; those with many licences and translations, a few MiB.
pub const MAX_LENGTH: usize = 16 << 20;

/// Collections in collections: more than any package nests.
const MAX_NESTING: usize = 64;

/// Reads an OVF descriptor: XML without a document type, in UTF-8, UTF-16 with a byte order mark, or what its first line says.
///
/// Machines are as the default configuration has them, and values as properties have them by default.
///
/// # Errors
/// `TooLarge` over [`MAX_LENGTH`]; `NotThisFormat` when the root is no OVF envelope; `Unsupported` for a version after 2; `Denied` when it has a
/// document type; `Corrupt`, with the line, when it is not well-formed or breaks a rule without which it makes no sense.
pub fn read(bytes: &[u8]) -> Result<Package> {
    let text = xml::decode(bytes, "OVF", MAX_LENGTH)?;
    let document = xml::parse(&text, "OVF")?;
    let root = document.root_element();
    let mut package = Package {
        namespace: namespace(root)?,
        dialect: Dialect::Generic,
        files: references::files(root)?,
        disks: Vec::new(),
        networks: Vec::new(),
        configurations: Vec::new(),
        systems: Vec::new(),
        notes: Notes::new(),
    };
    let sections = Sections { strings: strings(root), configuration: None };
    package.configurations = configurations(root, &sections);
    let default = package.configurations.iter().find(|configuration| configuration.default);
    let sections = Sections { configuration: default.map(|default| default.id.clone()), ..sections };
    let properties = all_properties(root, &sections);
    package.disks = references::disks(root, &properties, &package.files)?;
    package.networks = networks(root, &sections);
    content(root, &sections, &mut Vec::new(), &mut package)?;
    package.dialect = dialect(root, &package);
    Ok(package)
}

fn namespace(root: Node<'_, '_>) -> Result<Namespace> {
    let namespace = root.tag_name().namespace().unwrap_or_default();
    if root.tag_name().name() != "Envelope" {
        let text = format!("OVF: the root is <{}>, not an envelope", root.tag_name().name());
        return Err(Error::new(ErrorKind::NotThisFormat, text));
    }
    match namespace.trim_end_matches('/') {
        "http://schemas.dmtf.org/ovf/envelope/1" | "http://schemas.dmtf.org/ovf/1/envelope" => Ok(Namespace::V1),
        "http://schemas.dmtf.org/ovf/envelope/2" => Ok(Namespace::V2),
        "http://www.vmware.com/schema/ovf/1/envelope" | "http://schemas.dmtf.org/ovf/envelope/0" => Ok(Namespace::V0_9),
        newer if newer.starts_with("http://schemas.dmtf.org/ovf/envelope/") => {
            Err(Error::new(ErrorKind::Unsupported, format!("OVF: the version of the envelope {newer} is not known")))
        }
        other => Err(Error::new(ErrorKind::NotThisFormat, format!("OVF: the envelope's namespace is \"{other}\""))),
    }
}

/// What every section is read with.
pub(super) struct Sections<'a> {
    /// Texts by message id, of the first bundle that has them.
    strings: HashMap<&'a str, &'a str>,
    /// The default configuration.
    pub(super) configuration: Option<String>,
}

impl<'a> Sections<'a> {
    /// The text of an element, or the text that its message id leads to.
    pub(super) fn text(&self, node: Node<'a, '_>) -> Option<String> {
        let own = Some(node.text().unwrap_or_default()).filter(|text| !text.trim().is_empty());
        let message = || self.strings.get(node.any_attribute("msgid")?).copied();
        own.or_else(message).map(str::to_owned)
    }

    /// As [`Self::text`], of the first child of this name, trimmed.
    pub(super) fn child_text(&self, node: Node<'a, '_>, name: &'static str) -> Option<String> {
        self.text(node.child(name)?).map(|text| text.trim().to_owned())
    }

    /// Whether something for these configurations, separated by spaces, holds in the default one.
    pub(super) fn applies(&self, configurations: &str) -> bool {
        configurations.split_whitespace().any(|id| Some(id) == self.configuration.as_deref())
    }
}

fn strings<'a>(root: Node<'a, '_>) -> HashMap<&'a str, &'a str> {
    let mut strings = HashMap::new();
    for message in root.children_named("Strings").flat_map(|bundle| bundle.children_named("Msg")) {
        if let (Some(id), Some(text)) = (message.any_attribute("msgid"), message.text()) {
            strings.entry(id).or_insert(text);
        }
    }
    strings
}

/// The kind of a section: its name, or, in the drafts before 1.0, the type that a `Section` or `Content` is said to have.
pub(super) fn kind<'a>(node: Node<'a, '_>) -> &'a str {
    let name = node.tag_name().name();
    match node.any_attribute("type") {
        Some(typed) if matches!(name, "Section" | "Content") => {
            let typed = typed.rsplit(':').next().unwrap_or(typed);
            typed.strip_suffix("_Type").unwrap_or(typed)
        }
        _ => name,
    }
}

/// The child elements that are sections of this kind.
pub(super) fn sections_of<'a, 'i>(node: Node<'a, 'i>, wanted: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.is_element() && kind(*child) == wanted)
}

fn configurations<'a>(root: Node<'a, '_>, sections: &Sections<'a>) -> Vec<Configuration> {
    let nodes =
        sections_of(root, "DeploymentOptionSection").flat_map(|section| section.children_named("Configuration"));
    let mut found: Vec<Configuration> = nodes
        .map(|node| Configuration {
            id: node.any_attribute("id").unwrap_or_default().to_owned(),
            label: sections.child_text(node, "Label").unwrap_or_default(),
            description: sections.child_text(node, "Description").unwrap_or_default(),
            default: node.any_attribute("default").is_some_and(truth),
        })
        .collect();
    // Unless one says so, the first is the default.
    if !found.iter().any(|configuration| configuration.default)
        && let Some(first) = found.first_mut()
    {
        first.default = true;
    }
    found
}

/// A boolean of XML Schema.
pub(super) fn truth(text: &str) -> bool {
    matches!(text.trim(), "true" | "1") || text.trim().eq_ignore_ascii_case("true")
}

fn networks<'a>(root: Node<'a, '_>, sections: &Sections<'a>) -> Vec<LogicalNetwork> {
    let nodes = sections_of(root, "NetworkSection").flat_map(|section| section.children_named("Network"));
    nodes
        .filter_map(|node| {
            let name = node.any_attribute("name")?.to_owned();
            Some(LogicalNetwork { name, description: sections.child_text(node, "Description") })
        })
        .collect()
}

/// The defaults of all properties, by their whole keys and by their short ones: what `${…}` stands for.
fn all_properties(root: Node<'_, '_>, sections: &Sections<'_>) -> HashMap<String, String> {
    let mut values = HashMap::new();
    for section in root.descendants().filter(|node| node.is_element() && kind(*node) == "ProductSection") {
        for property in section.children_named("Property") {
            let (key, value) = (property.any_attribute("key"), property_value(property, sections));
            if let (Some(key), Some(value)) = (key, value) {
                values.entry(whole_key(section, key)).or_insert_with(|| value.clone());
                values.entry(key.to_owned()).or_insert(value);
            }
        }
    }
    values
}

fn whole_key(section: Node<'_, '_>, key: &str) -> String {
    let part = |name: &str| section.any_attribute(name).filter(|text| !text.is_empty());
    [part("class"), Some(key), part("instance")].into_iter().flatten().collect::<Vec<_>>().join(".")
}

/// A property's value: that of the default configuration, else its own default.
fn property_value(property: Node<'_, '_>, sections: &Sections<'_>) -> Option<String> {
    let of_configuration = property
        .children_named("Value")
        .find(|value| value.any_attribute("configuration").is_some_and(|ids| sections.applies(ids)));
    of_configuration.unwrap_or(property).any_attribute("value").map(str::to_owned)
}

/// Takes machines and collections below `node`.
fn content<'a>(
    node: Node<'a, '_>,
    sections: &Sections<'a>,
    path: &mut Vec<String>,
    package: &mut Package,
) -> Result<()> {
    if path.len() > MAX_NESTING {
        let text = format!("OVF: line {}: more than {MAX_NESTING} collections in each other", line(node));
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    for child in node.children().filter(Node::is_element) {
        match kind(child) {
            "VirtualSystem" => {
                let system = system(child, sections, path, package)?;
                package.systems.push(system);
            }
            "VirtualSystemCollection" => {
                path.push(child.any_attribute("id").unwrap_or_default().to_owned());
                content(child, sections, path, package)?;
                path.pop();
            }
            "References"
            | "DiskSection"
            | "NetworkSection"
            | "DeploymentOptionSection"
            | "Strings"
            | "Info"
            | "Name" => {}
            other if other.ends_with("Section") || child.any_attribute("required").is_some_and(truth) => {
                let place = path.last().map_or("envelope", String::as_str);
                package.notes.left_out(format!("{place}: {other}"), "it is about the package as a whole");
            }
            _ => {}
        }
    }
    Ok(())
}

fn system<'a>(node: Node<'a, '_>, sections: &Sections<'a>, path: &[String], package: &Package) -> Result<System> {
    let id = node.any_attribute("id").unwrap_or_default().to_owned();
    let name = sections.child_text(node, "Name");
    let mut system = System {
        id: id.clone(),
        collections: path.to_vec(),
        families: Vec::new(),
        machine: Machine::new(name.clone().unwrap_or(id), 0),
        products: Vec::new(),
        eulas: Vec::new(),
        transports: Vec::new(),
        items: Vec::new(),
        notes: Notes::new(),
    };
    system.machine.guest = sections_of(node, "OperatingSystemSection")
        .next()
        .map_or_else(GuestOs::default, |section| guest(section, sections));
    let annotation = sections_of(node, "AnnotationSection").next();
    system.machine.annotation = annotation.and_then(|section| sections.text(section.child("Annotation")?));
    system.products = sections_of(node, "ProductSection").map(|section| product(section, sections)).collect();
    let licences = sections_of(node, "EulaSection").filter_map(|section| sections.child_text(section, "License"));
    system.eulas = licences.map(Eula).collect();
    hardware::read(node, sections, package, &mut system)?;
    if system.machine.name.is_empty() {
        system.notes.assumed("name", "the descriptor names no name: \"vm\" was taken");
        system.machine.name = String::from("vm");
    }
    note_sections(node, &mut system);
    Ok(system)
}

/// Says which sections are not read.
fn note_sections(node: Node<'_, '_>, system: &mut System) {
    const READ: &[&str] =
        &["OperatingSystemSection", "AnnotationSection", "ProductSection", "EulaSection", "VirtualHardwareSection"];
    let mut seen = HashSet::new();
    for child in node.children().filter(Node::is_element) {
        let kind = kind(child);
        if kind.ends_with("Section") && !READ.contains(&kind) && seen.insert(kind) {
            let required = child.any_attribute("required").is_none_or(truth);
            let message = if required { "it is required, and not known" } else { "it is not known" };
            system.notes.left_out(kind, message);
        }
    }
    let properties = system.products.iter().map(|product| product.properties.len()).sum::<usize>();
    if properties > 0 {
        let message = format!("{properties} properties are for whoever deploys the package; no machine has them");
        system.notes.left_out("properties", message);
    }
    if !system.products.is_empty() && properties == 0 {
        system.notes.left_out("product", "what is installed is told by the descriptor alone");
    }
    if !system.eulas.is_empty() {
        system.notes.left_out("licences", "whoever deploys the package is asked to agree to them");
    }
}

fn guest<'a>(section: Node<'a, '_>, sections: &Sections<'a>) -> GuestOs {
    let text = |name: &str| section.any_attribute(name).map(str::trim).filter(|text| !text.is_empty());
    GuestOs {
        vmware: text("osType").map(GuestOs::vmware_of_vim),
        cim: text("id").and_then(|id| id.parse().ok()).filter(|id| *id > 1),
        version: text("version").map(str::to_owned),
        virtualbox: section.child_text("OSType").map(str::to_owned),
        libosinfo: None,
        description: sections.child_text(section, "Description"),
    }
}

fn product<'a>(section: Node<'a, '_>, sections: &Sections<'a>) -> Product {
    let mut product = Product {
        name: sections.child_text(section, "Product"),
        vendor: sections.child_text(section, "Vendor"),
        version: sections.child_text(section, "Version"),
        full_version: sections.child_text(section, "FullVersion"),
        properties: Vec::new(),
    };
    let mut category = None;
    for child in section.children().filter(Node::is_element) {
        match child.tag_name().name() {
            "Category" => category = sections.text(child).map(|text| text.trim().to_owned()),
            "Property" => product.properties.extend(property(section, child, sections, category.as_ref())),
            _ => {}
        }
    }
    product
}

fn property<'a>(
    section: Node<'a, '_>,
    node: Node<'a, '_>,
    sections: &Sections<'a>,
    category: Option<&String>,
) -> Option<Property> {
    let key = node.any_attribute("key")?;
    Some(Property {
        key: whole_key(section, key),
        kind: node.any_attribute("type").unwrap_or("string").to_owned(),
        value: property_value(node, sections),
        label: sections.child_text(node, "Label"),
        description: sections.child_text(node, "Description"),
        category: category.cloned(),
        user_configurable: node.any_attribute("userConfigurable").is_some_and(truth),
        password: node.any_attribute("password").is_some_and(truth),
    })
}

fn dialect(root: Node<'_, '_>, package: &Package) -> Dialect {
    let family = |prefix: &str| {
        let mut families = package.systems.iter().flat_map(|system| &system.families);
        families.any(|family| family.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
    };
    let namespace = |part: &str| root.namespaces().any(|namespace| namespace.uri().contains(part));
    if namespace("virtualbox.org") || family("virtualbox") {
        Dialect::VirtualBox
    } else if namespace("ovirt.org") || namespace("redhat.com") {
        Dialect::OVirt
    } else if namespace("vmware.com/schema/ovf") && package.namespace != Namespace::V0_9
        || family("vmx-")
        || family("vmware")
    {
        Dialect::VMware
    } else if namespace("citrix.com") || family("xen") || family("hvm") {
        Dialect::Xen
    } else {
        Dialect::Generic
    }
}
