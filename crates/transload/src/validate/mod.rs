//! Judges an OVA: whether it is sound, and who will take it.
//!
//! ```text
//! validate(path) ──► index, descriptor, manifest ──► every member once: digest, grains ──► findings ──► a verdict each
//! ```
//!
//! A package can be sound and still be refused: by the dialect of its archive, the spelling of its manifest, the layout of
//! its disks. What an importer minds is in two tables of rules, one about the container here, one about the descriptor in
//! `transload_appliance::profile`; every finding names its rule, where that is known from, and what to do.

mod package;
mod rules;
pub(crate) mod scan;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use transload_appliance::profile::{self, Finding, IMPORTERS, Severity};
use transload_block::Result;
use transload_convert::{Cancel, Progress};
use transload_image::vmdk::strict::StreamFacts;
use transload_image::{Access, Source};

pub(crate) use package::{Examination, rewriting_rules};
pub use rules::Soundness;

/// How to validate.
#[derive(Debug, Default)]
pub struct ValidateSettings {
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Whom to tell how far it is.
    pub progress: Option<Arc<dyn Progress>>,
}

/// What was found of one file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest, where the manifest has one or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether that is what the manifest says; `None` where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_matches: Option<bool>,
    /// The format of a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What was seen of a streamOptimized VMDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamFacts>,
}

/// What the certificate file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignatureReport {
    /// Who signed.
    pub subject: String,
    /// Who vouches for that.
    pub issuer: String,
    /// Until when, in UTC.
    pub valid_until: String,
    /// Whether the signature is of the manifest. Nothing is said of whether the signer is to be trusted.
    pub matches: bool,
}

/// A rule that the package breaks, and what that says of it as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageFinding {
    /// The rule's name.
    pub rule: &'static str,
    /// What it asks for.
    pub title: &'static str,
    /// What of the package it is about; empty for all of it.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// Whether the package is broken by it, or only unwelcome somewhere.
    pub soundness: Soundness,
    /// Where the rule is known from.
    pub source: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// `transload repack` does it.
    pub repairable: bool,
}

/// Whether an importer will take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing is known against it.
    Accepted,
    /// It will be taken, with warnings or losses.
    Warnings,
    /// It will be refused, or not work.
    Refused,
}

/// The verdict of one importer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImporterVerdict {
    /// Its name, such as `esxi-7.0`.
    pub importer: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it will do.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Why an importer refuses or warns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// The rule's name.
    pub rule: &'static str,
    /// How it takes it.
    pub severity: Severity,
    /// What of the package it is about.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
    /// `transload repack` does it.
    pub repairable: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Validation {
    /// Bytes of the archive.
    pub size: u64,
    /// Whether it is what it says.
    pub soundness: Soundness,
    /// Its machines, by name.
    pub machines: Vec<String>,
    /// Its files, in the archive's order.
    pub members: Vec<MemberReport>,
    /// The manifest's function, where there is a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<&'static str>,
    /// What the certificate file says, where there is one that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureReport>,
    /// The rules about the container that it breaks, whoever minds. What is a choice, and minded by some, is in the
    /// verdicts alone.
    pub findings: Vec<PackageFinding>,
    /// What each importer will do.
    pub verdicts: Vec<ImporterVerdict>,
    /// Wall time in milliseconds.
    pub elapsed_milliseconds: u64,
}

/// Judges the OVA at `path`, reading each of its bytes once.
///
/// # Errors
/// `NotThisFormat` when it is no tar archive; `Cancelled`; what the operating system answers. What is wrong with the
/// package is no error, but a finding.
pub fn validate(path: &Path, settings: &ValidateSettings) -> Result<Validation> {
    validate_source(&Source::from_path(path, Access::ReadOnly)?, settings)
}

/// As [`validate`], for bytes that are already open.
///
/// # Errors
/// As [`validate`].
pub fn validate_source(source: &Source, settings: &ValidateSettings) -> Result<Validation> {
    let started = Instant::now();
    let examination = Examination::of(source, settings)?;
    let findings: Vec<_> = examination
        .observations
        .iter()
        .filter(|seen| !seen.rule.is_choice())
        .map(|seen| PackageFinding {
            rule: seen.rule.rule.id,
            title: seen.rule.rule.title,
            subject: seen.subject.clone(),
            message: seen.message.clone(),
            soundness: seen.rule.soundness,
            source: seen.rule.rule.source,
            remedy: seen.rule.rule.remedy,
            repairable: seen.rule.rule.repairable,
        })
        .collect();
    Ok(Validation {
        size: source.bytes().size(),
        soundness: findings.iter().map(|finding| finding.soundness).max().unwrap_or_default(),
        machines: examination.machines(),
        verdicts: verdicts(&examination),
        members: examination.members,
        manifest: examination.algorithm.map(transload_appliance::ova::ManifestAlgorithm::name),
        signature: examination.signature,
        findings,
        elapsed_milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn verdicts(examination: &Examination) -> Vec<ImporterVerdict> {
    let mut verdicts = Vec::new();
    for importer in IMPORTERS {
        let mut reasons: Vec<_> = examination
            .observations
            .iter()
            .filter_map(|seen| {
                let severity = (seen.rule.minds)(importer)?;
                let finding = Finding {
                    rule: &seen.rule.rule,
                    severity,
                    subject: seen.subject.clone(),
                    message: seen.message.clone(),
                };
                Some(reason(finding))
            })
            .collect();
        if let Some(package) = &examination.package {
            reasons.extend(profile::evaluate(package, importer).into_iter().map(reason));
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        let outcome = match reasons.first().map(|reason| reason.severity) {
            None => Outcome::Accepted,
            Some(Severity::Warning) => Outcome::Warnings,
            Some(_) => Outcome::Refused,
        };
        verdicts.push(ImporterVerdict { importer: importer.id, title: importer.title, outcome, reasons });
    }
    verdicts
}

fn reason(finding: Finding) -> Reason {
    Reason {
        rule: finding.rule.id,
        severity: finding.severity,
        subject: finding.subject,
        message: finding.message,
        remedy: finding.rule.remedy,
        repairable: finding.rule.repairable,
    }
}
