//! Importers, and the rules by which they take or refuse a machine.
//!
//! ```text
//! Package + Importer ──► evaluate ──► [Finding { rule, severity, subject, message }]
//! ```
//!
//! [`IMPORTERS`] is one table and the rules are another: who imports and what each minds. A rule says where it is known
//! from; what is no more than an inference says so there. What a package breaks for everybody is not here: it is not read.

mod importers;
mod rules;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::ovf::Package;

pub use importers::IMPORTERS;

/// How an importer takes a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It takes the package and warns, or something of it is lost.
    Warning,
    /// It refuses the package, or the machine does not start.
    Refusal,
}

/// Who imports.
#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Importer {
    /// Its name on the command line and in JSON, such as `esxi-7.0`.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The newest hardware version of VMware that it knows; `None` where it does not look at it.
    pub hardware_version: Option<u32>,
    /// The kind of importer, which decides the rules that apply.
    pub kind: Kind,
}

/// The kind of an importer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// ESXi and vCenter.
    Esxi,
    /// Workstation and Fusion, by the ovftool inside.
    Workstation,
    /// VirtualBox.
    VirtualBox,
    /// Proxmox VE.
    Proxmox,
    /// OpenStack.
    OpenStack,
    /// Amazon's VM Import.
    Aws,
    /// virt-v2v.
    VirtV2v,
}

/// A rule of one or more importers.
#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    /// Its name, such as `ovf-hardware-version`.
    pub id: &'static str,
    /// What is asked for.
    pub title: &'static str,
    /// Where it is known from.
    pub source: &'static str,
    /// What to do when it is broken.
    pub remedy: &'static str,
    /// `transload repack` does it.
    pub repairable: bool,
}

/// A rule that a package breaks for an importer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// How the importer takes it.
    pub severity: Severity,
    /// What of the package it is about: a file, a disk, a device, or empty for all of it.
    pub subject: String,
    /// What is wrong, with the numbers.
    pub message: String,
}

/// Evaluates the rules about the descriptor and its machines, in the order of the table. Rules about the container (tar,
/// manifest, the disks' own bytes) are not here.
#[must_use]
pub fn evaluate(package: &Package, importer: &Importer) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in rules::ROWS {
        (row.check)(package, importer, &mut |severity, subject, message| {
            findings.push(Finding { rule: &row.rule, severity, subject, message });
        });
    }
    findings
}

/// The rules that [`evaluate`] knows.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rules::ROWS.iter().map(|row| &row.rule)
}
