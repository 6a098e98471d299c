//! Files and disks: `References` and `DiskSection`.

use std::collections::{HashMap, HashSet};

use roxmltree::Node;
use transload_block::{Error, ErrorKind, Result};

use super::package::{Capacity, Compression, File, VirtualDisk};
use super::read::sections_of;
use super::units;
use crate::xml::{NodeExt, line};

/// A disk larger than any format can hold: 2^60 bytes.
const MAX_CAPACITY: u64 = 1 << 60;

/// More files or disks than any package has; each is looked for by its id.
const MAX_ENTRIES: usize = 4096;

fn bound(length: usize, what: &str) -> Result<()> {
    if length < MAX_ENTRIES {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge, format!("OVF: more than {MAX_ENTRIES} {what}")))
}

fn corrupt(node: Node<'_, '_>, text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("OVF: line {}: {text}", line(node)))
}

/// The files of the package.
pub(super) fn files(root: Node<'_, '_>) -> Result<Vec<File>> {
    let mut ids = HashSet::new();
    let mut files = Vec::new();
    for node in root.children_named("References").flat_map(|references| references.children_named("File")) {
        let attribute = |name| node.any_attribute(name).filter(|text: &&str| !text.is_empty());
        let id = attribute("id").ok_or_else(|| corrupt(node, "File: it has no id"))?;
        let href = attribute("href").ok_or_else(|| corrupt(node, &format!("File {id}: it has no href")))?;
        if !ids.insert(id) {
            return Err(corrupt(node, &format!("File {id}: another file has this id")));
        }
        bound(files.len(), "files")?;
        files.push(File {
            id: id.to_owned(),
            href: href.to_owned(),
            // Wrong ones are in circulation; the package itself knows better.
            size: attribute("size").and_then(|size| size.trim().parse().ok()),
            compression: match attribute("compression") {
                None | Some("identity") => Compression::None,
                Some("gzip") => Compression::Gzip,
                Some(other) => Compression::Other(other.to_owned()),
            },
            chunk_size: attribute("chunkSize").and_then(|size| size.trim().parse().ok()).filter(|size| *size > 0),
        });
    }
    Ok(files)
}

/// The disks of the package.
pub(super) fn disks(
    root: Node<'_, '_>,
    properties: &HashMap<String, String>,
    files: &[File],
) -> Result<Vec<VirtualDisk>> {
    let mut ids = HashSet::new();
    let files: HashSet<&str> = files.iter().map(|file| file.id.as_str()).collect();
    let mut disks = Vec::new();
    for node in sections_of(root, "DiskSection").flat_map(|section| section.children_named("Disk")) {
        let disk = disk(node, properties)?;
        if let Some(file) = disk.file.as_deref().filter(|file| !files.contains(file)) {
            return Err(corrupt(node, &format!("Disk {}: there is no file {file}", disk.id)));
        }
        if !ids.insert(disk.id.clone()) {
            return Err(corrupt(node, &format!("Disk {}: another disk has this id", disk.id)));
        }
        bound(disks.len(), "disks")?;
        disks.push(disk);
    }
    Ok(disks)
}

fn disk(node: Node<'_, '_>, properties: &HashMap<String, String>) -> Result<VirtualDisk> {
    let attribute = |name| node.any_attribute(name).map(str::trim).filter(|text| !text.is_empty());
    let id = attribute("diskId").ok_or_else(|| corrupt(node, "Disk: it has no diskId"))?.to_owned();
    let units = attribute("capacityAllocationUnits");
    let unit = match units {
        None => 1,
        Some(text) => {
            units::bytes(text).ok_or_else(|| corrupt(node, &format!("Disk {id}: \"{text}\" is no unit of bytes")))?
        }
    };
    let text = attribute("capacity").ok_or_else(|| corrupt(node, &format!("Disk {id}: it has no capacity")))?;
    let capacity = match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(key) => {
            let default = properties.get(key).and_then(|value| size(value, unit));
            Capacity::Property { key: key.to_owned(), unit, default }
        }
        None => Capacity::Bytes(size(text, unit).ok_or_else(|| {
            corrupt(node, &format!("Disk {id}: the capacity is \"{text}\" units of {unit} bytes, at most {MAX_CAPACITY} bytes are possible"))
        })?),
    };
    Ok(VirtualDisk {
        id,
        file: attribute("fileRef").map(str::to_owned),
        parent: attribute("parentRef").map(str::to_owned),
        capacity,
        units: units.map(str::to_owned),
        format: attribute("format").map(str::to_owned),
        populated: attribute("populatedSize").and_then(|size| size.parse().ok()),
    })
}

fn size(text: &str, unit: u64) -> Option<u64> {
    text.trim().parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes <= MAX_CAPACITY)
}
