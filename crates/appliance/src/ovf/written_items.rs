//! The `Item`s of the hardware, as ovftool writes them.

use std::collections::BTreeMap;

use crate::xml::XmlWriter;

/// An item to be written. The schema wants its fields in the order of the alphabet.
#[derive(Debug, Default)]
pub(super) struct WrittenItem {
    fields: BTreeMap<&'static str, String>,
    config: BTreeMap<String, String>,
    cores_per_socket: Option<u32>,
    optional: bool,
}

impl WrittenItem {
    /// An item of this number and kind.
    pub(super) fn new(id: u32, kind: u32, name: impl Into<String>) -> Self {
        let mut item = Self::default();
        item.set("rasd:InstanceID", id);
        item.set("rasd:ResourceType", kind);
        item.fields.insert("rasd:ElementName", name.into());
        item
    }

    /// Whoever does not know it may leave it away.
    pub(super) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(super) fn with(mut self, field: &'static str, value: impl ToString) -> Self {
        self.set(field, value);
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers give numbers and texts, their own and borrowed ones")]
    pub(super) fn with_config(mut self, key: &str, value: impl ToString) -> Self {
        self.config.insert(key.to_owned(), value.to_string());
        self
    }

    pub(super) fn with_cores(mut self, cores: Option<u32>) -> Self {
        self.cores_per_socket = cores;
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers give numbers and texts, their own and borrowed ones")]
    fn set(&mut self, field: &'static str, value: impl ToString) {
        self.fields.insert(field, value.to_string());
    }

    pub(super) fn write(&self, xml: &mut XmlWriter) {
        if self.optional {
            xml.open("Item", &[("ovf:required", &false)]);
        } else {
            xml.open("Item", &[]);
        }
        for (name, value) in &self.fields {
            xml.text(name, &[], value);
        }
        if let Some(cores) = self.cores_per_socket {
            xml.text("vmw:CoresPerSocket", &[("ovf:required", &false)], cores);
        }
        for (key, value) in &self.config {
            config(xml, "vmw:Config", key, value);
        }
        xml.close();
    }
}

/// Writes a setting that only VMware understands.
pub(super) fn config(xml: &mut XmlWriter, element: &'static str, key: &str, value: &str) {
    xml.empty(element, &[("ovf:required", &false), ("vmw:key", &key), ("vmw:value", &value)]);
}
