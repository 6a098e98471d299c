//! What a job is asked to do.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use transload::block::{Error, ErrorKind, Result};
use utoipa::ToSchema;

use super::JobKind;

/// A job to be done. The field `kind` says which; the others are those of its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum JobRequest {
    /// Write a disk image in another format.
    Convert(ConvertJob),
    /// Pack a machine and its disks into an OVA.
    Export(ExportJob),
    /// Unpack an OVA for a hypervisor.
    Import(ImportJob),
    /// Judge an OVA.
    Validate(ValidateJob),
    /// Compute the digest of a disk.
    Digest(DigestJob),
    /// Check the metadata of a disk image.
    Check(CheckJob),
    /// Put the files of a disk into an archive.
    Archive(ArchiveJob),
}

impl JobRequest {
    /// What is to be done.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match self {
            Self::Convert(_) => JobKind::Convert,
            Self::Export(_) => JobKind::Export,
            Self::Import(_) => JobKind::Import,
            Self::Validate(_) => JobKind::Validate,
            Self::Digest(_) => JobKind::Digest,
            Self::Check(_) => JobKind::Check,
            Self::Archive(_) => JobKind::Archive,
        }
    }

    /// What is read.
    #[must_use]
    pub const fn source(&self) -> &Location {
        match self {
            Self::Convert(job) => &job.source,
            Self::Export(job) => &job.source,
            Self::Import(job) => &job.source,
            Self::Validate(job) => &job.source,
            Self::Digest(job) => &job.source,
            Self::Check(job) => &job.source,
            Self::Archive(job) => &job.source,
        }
    }

    /// What is written, where something is.
    #[must_use]
    pub const fn target(&self) -> Option<&Location> {
        match self {
            Self::Convert(job) => Some(&job.target),
            Self::Export(job) => Some(&job.target),
            Self::Import(job) => Some(&job.target),
            Self::Archive(job) => Some(&job.target),
            Self::Validate(_) | Self::Digest(_) | Self::Check(_) => None,
        }
    }

    /// How the queue treats it.
    #[must_use]
    pub const fn run(&self) -> &RunOptions {
        match self {
            Self::Convert(job) => &job.run,
            Self::Export(job) => &job.run,
            Self::Import(job) => &job.run,
            Self::Validate(job) => &job.run,
            Self::Digest(job) => &job.run,
            Self::Check(job) => &job.run,
            Self::Archive(job) => &job.run,
        }
    }

    /// The same with addresses that have no passwords and signatures in them: for showing.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        let redact = |location: &mut Location| {
            if let Location::Url(address) = location {
                *address = transload::remote::shown_text(address);
            }
        };
        match &mut self {
            Self::Convert(ConvertJob { source, target, .. })
            | Self::Export(ExportJob { source, target, .. })
            | Self::Import(ImportJob { source, target, .. })
            | Self::Archive(ArchiveJob { source, target, .. }) => {
                redact(source);
                redact(target);
            }
            Self::Validate(ValidateJob { source, .. })
            | Self::Digest(DigestJob { source, .. })
            | Self::Check(CheckJob { source, .. }) => redact(source),
        }
        self
    }

    /// Refuses what can be told to be wrong before anything is opened.
    ///
    /// # Errors
    /// `InvalidInput`, with the field that is meant.
    pub fn validate(&self) -> Result<()> {
        self.source().check("source")?;
        if let Some(target) = self.target() {
            target.check("target")?;
            if matches!(target, Location::Upload(_)) {
                return Err(wrong("target", "an upload can be read, not written"));
            }
        }
        self.run().check()
    }
}

fn wrong(field: &str, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{field}: {reason}"))
}

/// Where something is read or written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// A path under the root folder of the service, relative to it.
    Path(String),
    /// The id of an upload.
    Upload(String),
    /// An address: `https://`, `s3://`, `gs://` or `az://`.
    Url(String),
    /// The body of the HTTP request that the job is carried by, and its name. It cannot be submitted.
    Stream(String),
}

impl Location {
    /// The longest text of any kind of place.
    const LONGEST: usize = 8192;

    /// The text without saying what kind of place it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let (Self::Path(text) | Self::Upload(text) | Self::Url(text) | Self::Stream(text)) = self;
        text
    }

    /// The text for showing: an address without passwords and signatures.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Url(address) => transload::remote::shown_text(address),
            other => other.as_str().to_owned(),
        }
    }

    /// The last part of the name, which tells what is in it where it ends in a known way.
    #[must_use]
    pub fn file_name(&self) -> &str {
        let text = self.as_str();
        let text = if matches!(self, Self::Url(_)) { text.split(['?', '#']).next().unwrap_or(text) } else { text };
        text.trim_end_matches('/').rsplit('/').next().unwrap_or(text)
    }

    fn check(&self, field: &str) -> Result<()> {
        let text = self.as_str();
        if text.is_empty() || text.len() > Self::LONGEST || text.contains('\0') {
            return Err(wrong(field, "must have a text of 1 to 8192 bytes, without zero bytes"));
        }
        match self {
            Self::Upload(id) if !is_upload_id(id) => Err(wrong(field, "is no id of an upload")),
            Self::Url(url) if !transload::remote::is_meant_by(url) => {
                Err(wrong(field, "has to begin with https://, http://, s3://, gs:// or az://"))
            }
            Self::Stream(_) => Err(wrong(field, "a stream cannot be submitted; use the streaming routes")),
            _ => Ok(()),
        }
    }
}

/// Whether `id` may be the id of an upload: it becomes the name of a file.
#[must_use]
pub fn is_upload_id(id: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&id.len()) && id.bytes().all(sound)
}

/// How the queue treats a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunOptions {
    /// What people call it; also found by the list's text filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Jobs with a higher one are begun before others: -100 to 100, 0 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: Option<i32>,
    /// After how many attempts it fails for good: 1 to 20, the service's own number when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 20)]
    pub max_attempts: Option<u32>,
    /// Worker threads: the service's share for a job when not given, and never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub threads: Option<NonZeroUsize>,
}

impl RunOptions {
    fn check(&self) -> Result<()> {
        let fits = |name: &String| name.len() <= 200 && !name.contains('\0');
        if !self.name.as_ref().is_none_or(fits) {
            return Err(wrong("run.name", "must be at most 200 bytes, without zero bytes"));
        }
        if !self.priority.is_none_or(|priority| (-100..=100).contains(&priority)) {
            return Err(wrong("run.priority", "must be -100 to 100"));
        }
        if !self.max_attempts.is_none_or(|attempts| (1..=20).contains(&attempts)) {
            return Err(wrong("run.maxAttempts", "must be 1 to 20"));
        }
        Ok(())
    }
}

/// How a disk image is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadOptions {
    /// Its format, which then is not found out from its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Options of that format, such as `snapshot`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Which other files it may pull in.
    #[serde(default)]
    pub references: References,
    /// What the bytes of the source must have as their digest: `sha256:…`. For addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// Which files an image under the root may pull in. Uploads and addresses pull in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum References {
    /// Those in its own folder.
    #[default]
    SameDir,
    /// None.
    Deny,
}

/// Writes a disk image in another format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConvertJob {
    /// The image.
    pub source: Location,
    /// The new image.
    pub target: Location,
    /// How the source is read.
    #[serde(default)]
    pub read: ReadOptions,
    /// The target's format; from its name's ending when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Options of that format, such as `subformat`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Compress the target, with this codec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Codec>,
    /// How hard to compress: `fast`, `balanced`, `max`, or 1 to 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Set room aside for the whole target.
    #[serde(default)]
    pub prealloc: Prealloc,
    /// Read the result back and compare what a guest sees.
    #[serde(default)]
    pub verify: bool,
    /// Digests of the bytes that a guest sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<DigestName>,
    /// Replace the target if it exists.
    #[serde(default)]
    pub force: bool,
    /// Derive identifiers in the target from this text instead of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// Store what can only be read once in a temporary file beside the target first, where the conversion needs that.
    #[serde(default)]
    pub spool: bool,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

impl ConvertJob {
    /// From `source` to `target`, everything else by default.
    #[must_use]
    pub fn new(source: Location, target: Location) -> Self {
        Self {
            source,
            target,
            read: ReadOptions::default(),
            format: None,
            options: BTreeMap::new(),
            compress: None,
            level: None,
            prealloc: Prealloc::Off,
            verify: false,
            digests: Vec::new(),
            force: false,
            seed: None,
            spool: false,
            run: RunOptions::default(),
        }
    }
}

/// A codec for compressed targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// What the format uses by itself.
    #[default]
    Auto,
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// Whether room is set aside for the whole target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prealloc {
    /// Holes stay holes.
    #[default]
    Off,
    /// Allocated without being written.
    Falloc,
    /// Written with zeroes.
    Full,
}

/// A function for digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DigestName {
    /// SHA-256.
    #[default]
    Sha256,
    /// BLAKE3 with 32 bytes.
    Blake3,
}

/// Packs a machine and its disks into an OVA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportJob {
    /// The machine: a `.vmx`, an `.ovf` or a libvirt `.xml` under the root. Its disks are beside it, or below its folder.
    pub source: Location,
    /// The package: `NAME.ova` is one file, `DIR/NAME.ovf` a folder.
    pub target: Location,
    /// The manifest's digests.
    #[serde(default)]
    pub manifest: ManifestName,
    /// How hard to compress: `fast`, `balanced`, `max`, or 1 to 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Ask for this hardware version instead of the machine's own: 4 to 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 4, maximum = 99)]
    pub hardware_version: Option<u32>,
    /// Whether the file with the EFI variables goes along.
    #[serde(default)]
    pub nvram: NvramChoice,
    /// Which machine of an OVF that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Replace the package if it exists, export a machine that seems to be running, begin where room seems to lack.
    #[serde(default)]
    pub force: bool,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

impl ExportJob {
    /// From `source` to `target`, everything else by default.
    #[must_use]
    pub fn new(source: Location, target: Location) -> Self {
        Self {
            source,
            target,
            manifest: ManifestName::Sha256,
            level: None,
            hardware_version: None,
            nvram: NvramChoice::Auto,
            system: None,
            force: false,
            run: RunOptions::default(),
        }
    }
}

/// The function of a manifest's digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ManifestName {
    /// What every importer since vSphere 6.5 takes.
    #[default]
    Sha256,
    /// For vSphere up to 6.0.
    Sha1,
    /// For importers that ask for it.
    Sha512,
    /// No manifest.
    None,
}

/// Whether the file with the EFI variables goes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NvramChoice {
    /// If the machine starts by EFI and the file is there.
    #[default]
    Auto,
    /// It must.
    Include,
    /// It does not, for importers that refuse it.
    Skip,
}

/// Unpacks an OVA for a hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportJob {
    /// The OVA.
    pub source: Location,
    /// The folder for the machine; it must be empty or not there.
    pub target: Location,
    /// The hypervisor.
    pub to: Hypervisor,
    /// The disks' format, instead of the hypervisor's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Which machine of a package that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Go on where the manifest or the signature is wrong.
    #[serde(default)]
    pub ignore_manifest: bool,
    /// Put files into a folder that is not empty, replacing those of the same names.
    #[serde(default)]
    pub force: bool,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

impl ImportJob {
    /// From `source` to `target` for `to`, everything else by default.
    #[must_use]
    pub fn new(source: Location, target: Location, to: Hypervisor) -> Self {
        let run = RunOptions::default();
        Self { source, target, to, format: None, system: None, ignore_manifest: false, force: false, run }
    }
}

/// For whom a machine is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// A domain XML for `virsh define`, qcow2 disks.
    Libvirt,
    /// A script of `qm` commands, qcow2 disks.
    Proxmox,
    /// A `.vmx` for Workstation, Fusion and Player, VMDKs.
    Vmx,
    /// A PowerShell script, VHDX disks.
    Hyperv,
    /// A `.vbox`, VDI disks.
    Virtualbox,
    /// The disks alone, raw.
    Raw,
}

/// Judges an OVA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidateJob {
    /// The OVA.
    pub source: Location,
    /// Judge for these importers alone.
    #[serde(default, rename = "for", skip_serializing_if = "Vec::is_empty")]
    pub importers: Vec<String>,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

/// Computes the digest of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DigestJob {
    /// The image.
    pub source: Location,
    /// How it is read.
    #[serde(default)]
    pub read: ReadOptions,
    /// Which function.
    #[serde(default)]
    pub algorithm: DigestName,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

/// Checks the metadata of a disk image, which is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckJob {
    /// The image.
    pub source: Location,
    /// How it is read.
    #[serde(default)]
    pub read: ReadOptions,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

/// Puts the files of a disk into an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveJob {
    /// The image.
    pub source: Location,
    /// The archive.
    pub target: Location,
    /// How the source is read.
    #[serde(default)]
    pub read: ReadOptions,
    /// Which volume of the disk: the number of a partition, or a name; the one with a root filesystem when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Replace the archive if it exists.
    #[serde(default)]
    pub force: bool,
    /// How the queue treats it.
    #[serde(default)]
    pub run: RunOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_the_documentation_writes_them() {
        let page = include_str!("../../../../docs/jobs.md");
        let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let request: JobRequest = serde_json::from_str(example).unwrap();
        request.validate().unwrap();
        let JobRequest::Convert(job) = &request else { panic!("{request:?}") };
        assert_eq!((job.compress, job.run.priority), (Some(Codec::Zstd), Some(10)));
        assert_eq!(serde_json::from_value::<JobRequest>(serde_json::to_value(&request).unwrap()).unwrap(), request);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for json in [
            r#"{"kind":"convert","source":{"path":"a"},"target":{"path":"b"},"formt":"raw"}"#,
            r#"{"kind":"convert","source":{"path":"a","url":"b"},"target":{"path":"b"}}"#,
            r#"{"kind":"convert","source":{"path":"a"},"target":{"path":"b"},"run":{"memory":1}}"#,
            r#"{"kind":"convert","source":"a","target":{"path":"b"}}"#,
            r#"{"kind":"remove","source":{"path":"a"}}"#,
            r#"{"kind":"convert","source":{"path":"a"}}"#,
            r#"{"source":{"path":"a"},"target":{"path":"b"}}"#,
        ] {
            assert!(serde_json::from_str::<JobRequest>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_last_part_of_a_place_is_its_name() {
        for (location, name) in [
            (Location::Path("a/b.raw".to_owned()), "b.raw"),
            (Location::Path("b".to_owned()), "b"),
            (Location::Url("https://h/a/disk.vmdk?x=/y#/z".to_owned()), "disk.vmdk"),
            (Location::Url("s3://bucket/key/".to_owned()), "key"),
        ] {
            assert_eq!(location.file_name(), name);
        }
    }
}
