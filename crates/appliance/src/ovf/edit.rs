//! Changes to a descriptor that leave every other byte of it as it is.

use std::collections::BTreeMap;
use std::ops::Range;

use roxmltree::{Document, Node};
use transload_block::{Error, ErrorKind, Result};

use super::read::{MAX_LENGTH, kind, read, sections_of, truth};
use super::write::STREAM_OPTIMIZED;
use crate::xml::{self, NodeExt, escaped_attribute, escaped_text};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Every machine asks for this hardware family, such as `vmx-15`.
    Family(String),
    /// The file of this id has this many bytes.
    FileSize {
        /// The file's id.
        id: String,
        /// Its length.
        size: u64,
    },
    /// The file of this id has this name, and is neither compressed as a whole nor cut into pieces.
    FileName {
        /// The file's id.
        id: String,
        /// Its name.
        href: String,
    },
    /// The disk of this id has this many bytes; they are rounded up to a MiB and written in MiB.
    Capacity {
        /// The disk's id.
        id: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The file of the disk of this id is a streamOptimized VMDK.
    StreamOptimized {
        /// The disk's id.
        id: String,
    },
    /// The file of this id is no part of the package: it is not listed, the drive that it was in is empty, and no setting
    /// names it.
    RemoveFile {
        /// The file's id.
        id: String,
    },
    /// What only one product understands is marked as not required.
    PrivateNotRequired,
}

/// Applies changes to a descriptor; its text afterwards is UTF-8. A change that is already so changes nothing; of two that
/// contradict each other the later one counts.
///
/// # Errors
/// As [`super::read()`]; `InvalidInput` when there is no file or disk of the id that a change names, or a disk is in a file that is to be
/// removed.
pub fn edit(bytes: impl AsRef<[u8]>, changes: &[Change]) -> Result<String> {
    let bytes = bytes.as_ref();
    // What cannot be read is not to be written either.
    read(bytes)?;
    let text = xml::decode(bytes, "OVF", MAX_LENGTH)?;
    let document = xml::parse(&text, "OVF")?;
    let mut editor = Editor::new(&text, &document);
    for change in changes {
        editor.change(change)?;
    }
    editor.declare_utf8();
    Ok(editor.apply())
}

struct Editor<'a> {
    text: &'a str,
    root: Node<'a, 'a>,
    /// The prefix of the envelope's own attributes; empty where none is declared.
    prefix: &'a str,
    /// What takes the place of a range; an insertion, of an empty one, is told apart by what it inserts.
    edits: BTreeMap<(usize, usize, String), String>,
}

impl<'a> Editor<'a> {
    fn new(text: &'a str, document: &'a Document<'a>) -> Self {
        let root = document.root_element();
        let envelope = root.tag_name().namespace().unwrap_or_default();
        let prefix = root.namespaces().find(|namespace| namespace.uri() == envelope && namespace.name().is_some());
        let prefix = prefix.and_then(roxmltree::Namespace::name).unwrap_or_default();
        Self { text, root, prefix, edits: BTreeMap::new() }
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Family(family) => self.family(family),
            Change::FileSize { id, size } => {
                let file = self.file(id)?;
                self.set(file, "size", &size.to_string());
            }
            Change::FileName { id, href } => {
                let file = self.file(id)?;
                self.set(file, "href", href);
                self.unset(file, "compression");
                self.unset(file, "chunkSize");
            }
            Change::Capacity { id, bytes } => {
                let disk = self.disk(id)?;
                self.set(disk, "capacity", &bytes.div_ceil(1 << 20).to_string());
                self.set(disk, "capacityAllocationUnits", "byte * 2^20");
            }
            Change::StreamOptimized { id } => {
                let disk = self.disk(id)?;
                self.set(disk, "format", STREAM_OPTIMIZED);
            }
            Change::RemoveFile { id } => self.remove_file(id)?,
            Change::PrivateNotRequired => self.private_not_required(),
        }
        Ok(())
    }

    fn file(&self, id: &str) -> Result<Node<'a, 'a>> {
        let mut files = self.root.children_named("References").flat_map(|references| references.children_named("File"));
        files.find(|file| file.any_attribute("id") == Some(id)).ok_or_else(|| missing("file", id))
    }

    fn disk(&self, id: &str) -> Result<Node<'a, 'a>> {
        let mut disks = sections_of(self.root, "DiskSection").flat_map(|section| section.children_named("Disk"));
        disks.find(|disk| disk.any_attribute("diskId") == Some(id)).ok_or_else(|| missing("disk", id))
    }

    fn family(&mut self, family: &str) {
        let root = self.root;
        for section in root.descendants().filter(|node| node.is_element() && kind(*node) == "VirtualHardwareSection") {
            let family_of = section.child("System").and_then(|system| system.child("VirtualSystemType"));
            if let Some(node) = family_of {
                self.set_text(node, family);
            }
        }
    }

    fn remove_file(&mut self, id: &str) -> Result<()> {
        let file = self.file(id)?;
        let root = self.root;
        let mut disks = sections_of(root, "DiskSection").flat_map(|section| section.children_named("Disk"));
        if disks.any(|disk| disk.any_attribute("fileRef") == Some(id)) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("OVF: file {id}: a disk is in it")));
        }
        self.remove(file);
        let href = file.any_attribute("href");
        for node in root.descendants().filter(Node::is_element) {
            let name = node.tag_name().name();
            let resource = || node.trimmed().strip_prefix("ovf:").unwrap_or(node.trimmed());
            let in_drive =
                name == "HostResource" && resource().trim_start_matches('/').strip_prefix("file/") == Some(id);
            let setting = name == "ExtraConfig"
                && node.any_attribute("key") == Some("nvram")
                && node.any_attribute("value") == href;
            if in_drive || setting {
                self.remove(node);
            }
        }
        Ok(())
    }

    fn private_not_required(&mut self) {
        let root = self.root;
        for node in root.descendants().filter(|node| node.is_element() && node.parent_element().is_some()) {
            let public = node.tag_name().namespace().is_none_or(|address| {
                address.starts_with("http://schemas.dmtf.org/") || Some(address) == root.tag_name().namespace()
            });
            let parent_public = node
                .parent_element()
                .is_some_and(|parent| parent.tag_name().namespace() == root.tag_name().namespace());
            let private = !public && parent_public;
            let device = node.tag_name().name() == "Item"
                && node.child_text("ResourceType") == Some("1")
                && node
                    .child_text("ResourceSubType")
                    .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("vmware."));
            if (private || device) && node.any_attribute("required").is_none_or(truth) {
                self.set(node, "required", "false");
            }
        }
    }

    /// Sets an attribute of the envelope's namespace.
    fn set(&mut self, node: Node<'a, 'a>, name: &str, value: &str) {
        if node.any_attribute(name) == Some(value) {
            return;
        }
        if let Some(attribute) = node.attributes().find(|attribute| attribute.name() == name) {
            let range = self.value(attribute.range());
            self.put(range, name, escaped_attribute(value));
            return;
        }
        let place = node.range().start + 1 + self.name_length(node);
        let value = escaped_attribute(value);
        let attribute = if self.prefix.is_empty() {
            let envelope = escaped_attribute(self.root.tag_name().namespace().unwrap_or_default());
            format!(" xmlns:ovf=\"{envelope}\" ovf:{name}=\"{value}\"")
        } else {
            format!(" {}:{name}=\"{value}\"", self.prefix)
        };
        self.put(place..place, name, attribute);
    }

    fn unset(&mut self, node: Node<'a, 'a>, name: &str) {
        if let Some(attribute) = node.attributes().find(|attribute| attribute.name() == name) {
            self.put(attribute.range(), name, String::new());
        }
    }

    /// The value of an attribute between its quotes: a name has none, so that the first one of them opens it.
    fn value(&self, attribute: Range<usize>) -> Range<usize> {
        let text = &self.text[attribute.clone()];
        let quote = text.chars().next_back().unwrap_or('"');
        let open = text.find(quote).unwrap_or_default();
        attribute.start + open + 1..attribute.end - 1
    }

    /// The length of an element's name with its prefix.
    fn name_length(&self, node: Node<'a, 'a>) -> usize {
        let tag = &self.text[node.range().start + 1..node.range().end];
        tag.find(|character: char| character.is_whitespace() || matches!(character, '/' | '>')).unwrap_or(tag.len())
    }

    fn set_text(&mut self, node: Node<'a, 'a>, content: &str) {
        if node.text().map(str::trim) == Some(content) {
            return;
        }
        // The name and attributes stay; what was inside is replaced as a whole.
        let range = node.range();
        let name = &self.text[range.start + 1..range.start + 1 + self.name_length(node)];
        let attributes: String =
            node.attributes().map(|attribute| format!(" {}", &self.text[attribute.range()])).collect();
        let element = format!("<{name}{attributes}>{}</{name}>", escaped_text(content));
        self.put(range, "text", element);
    }

    /// Removes an element and the line that it leaves empty.
    fn remove(&mut self, node: Node<'a, 'a>) {
        let mut range = node.range();
        let before = self.text[..range.start].trim_end_matches([' ', '\t']);
        if before.ends_with('\n') && self.text[range.end..].starts_with(['\r', '\n']) {
            range.start = before.len() - if before.ends_with("\r\n") { 2 } else { 1 };
        }
        self.put(range, "", String::new());
    }

    fn put(&mut self, range: Range<usize>, what: &str, replacement: String) {
        self.edits.insert((range.start, range.end, what.to_owned()), replacement);
    }

    /// Whatever the encoding was that the text came in.
    fn declare_utf8(&mut self) {
        let Some(end) = self.text.strip_prefix("<?xml").and(self.text.find("?>")) else { return };
        let declaration = &self.text[..end];
        let Some(place) = declaration.find("encoding") else { return };
        let Some(open) = declaration[place..].find(['"', '\'']).map(|open| place + open) else { return };
        let quote = declaration[open..].chars().next().unwrap_or('"');
        let Some(length) = declaration[open + 1..].find(quote) else { return };
        let value = open + 1..open + 1 + length;
        if !self.text[value.clone()].eq_ignore_ascii_case("utf-8") {
            self.put(value, "encoding", String::from("UTF-8"));
        }
    }

    /// Puts everything in its place; what lies inside something that is removed or replaced goes with it.
    fn apply(self) -> String {
        let mut text = String::with_capacity(self.text.len() + 1024);
        let mut done = 0;
        for ((start, end, _), replacement) in &self.edits {
            if *start < done {
                continue;
            }
            text.push_str(&self.text[done..*start]);
            text.push_str(replacement);
            done = *end;
        }
        text.push_str(&self.text[done..]);
        text
    }
}

fn missing(what: &str, id: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("OVF: there is no {what} {id}"))
}
