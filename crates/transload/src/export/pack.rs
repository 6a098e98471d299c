//! Carries an export out: into one file, a folder, or a pipe.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use transload_appliance::Bus;
use transload_appliance::ova::hex;
use transload_block::{Error, ErrorKind, Result};
use transload_convert::{Compression, Input, Output, Plan, Progress, ProgressDelta, Report, Settings, image_files};
use transload_image::codec::Level;
use transload_image::{Format, Opened, OptionValues};

use super::archive::{Contents, Packager, Payload, Written};
use super::plan::{ExportPlan, ExportedKind, folder_of};
use super::source::size_of;
use super::{ExportSettings, MachineProgress};

/// Where the package goes.
pub enum ExportTarget {
    /// One file.
    Ova(PathBuf),
    /// An OVF with its files beside it, by the OVF's path.
    Folder(PathBuf),
    /// A pipe. The disks are read twice.
    Pipe(Box<dyn Write + Send>),
}

impl std::fmt::Debug for ExportTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ExportTarget").field(&self.path()).finish()
    }
}

impl ExportTarget {
    /// The file that appears last.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Ova(path) | Self::Folder(path) => Some(path),
            Self::Pipe(_) => None,
        }
    }

    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.path().map(folder_of)
    }

    /// What the files of a folder are called after: its OVF. Those in an archive are called after the machine.
    pub(super) fn stem(&self) -> Result<Option<String>> {
        let Self::Folder(path) = self else { return Ok(None) };
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(".ovf")).filter(|stem| !stem.is_empty());
        let text = || format!("{}: a folder is named by its descriptor, which ends in .ovf", path.display());
        stem.map(|stem| Some(stem.to_owned())).ok_or_else(|| Error::new(ErrorKind::InvalidInput, text()))
    }
}

/// A file of a finished package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportedFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ExportedKind,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest as the manifest has it, for files that are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The disk's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Bytes of the disk that went in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<u64>,
    /// Bytes of the disk that were skipped as zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
}

/// What an export did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportReport {
    /// The machine's name.
    pub machine: String,
    /// The files, in the package's order.
    pub files: Vec<ExportedFile>,
    /// Bytes of the whole package.
    pub size: u64,
    /// The manifest's function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<&'static str>,
    /// Wall time in milliseconds.
    pub elapsed_milliseconds: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What of the machine is not in the package, or is in it as something else.
    pub notes: transload_appliance::Notes,
}

impl ExportPlan {
    /// Exports as planned. `target` and `settings` are those that the plan was made with.
    ///
    /// On an error, and when it is cancelled, nothing stands under the target's name that was not there before, and
    /// nothing is left behind.
    ///
    /// # Errors
    /// `NoSpace`, with the bytes that are needed; `Cancelled`; `Checksum` when a disk changed between the two passes over
    /// it that a pipe takes; what the disks and the operating system answer.
    pub fn run(self, target: ExportTarget, settings: &ExportSettings) -> Result<ExportReport> {
        let started = Instant::now();
        if let Some(progress) = &settings.progress {
            let passes = if matches!(target, ExportTarget::Pipe(_)) { 2 } else { 1 };
            progress.begin(self.content.total().saturating_mul(passes));
        }
        let (free, needed) = (self.free_space, self.estimated_size);
        let job = Export { plan: &self, settings };
        let written = job.write(target).map_err(|error| tell_room(error, needed, free))?;
        let (files, size) = (job.files(&written), written.size);
        Ok(ExportReport {
            machine: self.machine,
            files,
            size,
            manifest: self.manifest,
            elapsed_milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            warnings: self.warnings,
            notes: self.notes,
        })
    }
}

/// Says how much room an export needs, where it ran out of it.
fn tell_room(error: Error, needed: u64, free: Option<u64>) -> Error {
    if error.kind() != ErrorKind::NoSpace {
        return error;
    }
    let free = free.map_or_else(String::new, |free| format!("; {free} were free when it began"));
    error.with_remedy(format!("make room for about {needed} bytes{free}; the partial package was removed"))
}

/// An export that is under way: what the package's writer asks for.
struct Export<'a> {
    plan: &'a ExportPlan,
    settings: &'a ExportSettings,
}

impl Export<'_> {
    fn write(&self, target: ExportTarget) -> Result<Written> {
        let disks = &self.plan.content.disks;
        let packager = Packager {
            contents: self,
            manifest: self.settings.manifest,
            signer: self.settings.signer.as_ref(),
            force: self.settings.force,
            avoid: disks.iter().flat_map(|disk| image_files(&disk.opened)).collect(),
            cancel: &self.settings.cancel,
        };
        match target {
            ExportTarget::Ova(path) => packager.to_file(&path),
            ExportTarget::Folder(path) => packager.to_folder(&path),
            ExportTarget::Pipe(pipe) => packager.to_pipe(pipe),
        }
    }

    /// What the report says of the files.
    fn files(&self, written: &Written) -> Vec<ExportedFile> {
        let plain = |name: &str, kind, size, digest: Option<&Vec<u8>>| ExportedFile {
            name: name.to_owned(),
            kind,
            size,
            digest: digest.map(|digest| hex(digest)),
            virtual_size: None,
            copied: None,
            skipped: None,
        };
        let mut files = Vec::new();
        for small in &written.small {
            let kind = match small.ending {
                "mf" => ExportedKind::Manifest,
                "cert" => ExportedKind::Certificate,
                _ => ExportedKind::Descriptor,
            };
            files.push(plain(&small.name, kind, small.text.len() as u64, small.digest.as_ref()));
        }
        let disks = self.plan.content.disks.len();
        for (place, (name, payload)) in self.names().iter().zip(&written.payloads).enumerate() {
            let is_disk = place < disks;
            let kind = if is_disk { ExportedKind::Disk } else { ExportedKind::Nvram };
            let digest = payload.member.digest.as_ref().filter(|_| self.settings.manifest.is_some());
            let report = Some(&payload.report).filter(|_| is_disk);
            files.push(ExportedFile {
                virtual_size: report.map(|report| report.virtual_size),
                copied: report.map(|report| report.copied),
                skipped: report.map(|report| report.skipped),
                ..plain(name, kind, payload.member.size, digest)
            });
        }
        files
    }
}

impl Contents for Export<'_> {
    fn stem(&self) -> &str {
        &self.plan.content.stem
    }

    fn names(&self) -> Vec<String> {
        let content = &self.plan.content;
        let disks = content.disks.iter().map(|disk| disk.name.clone());
        disks.chain(content.nvram.as_ref().map(|(name, _)| name.clone())).collect()
    }

    fn write(&self, place: usize, mut output: Box<dyn Write + Send>) -> Result<Report> {
        let (content, settings) = (&self.plan.content, self.settings);
        let Some(disk) = content.disks.get(place) else {
            let bytes = content.nvram.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            output.write_all(bytes).map_err(|error| Error::io("output", error))?;
            return Ok(Report::default());
        };
        if let Some(progress) = &settings.progress {
            progress.disk(place + 1, content.disks.len(), &disk.name, size_of(&disk.opened));
        }
        compress(
            &disk.opened,
            &disk.name,
            disk.bus,
            output,
            &EngineSettings {
                level: settings.level,
                threads: settings.threads,
                memory: settings.memory,
                chunk_size: settings.chunk_size,
                progress: settings
                    .progress
                    .as_ref()
                    .map(|inner| Arc::new(Part(Arc::clone(inner))) as Arc<dyn Progress>),
                cancel: settings.cancel.clone(),
            },
        )
    }

    fn descriptor_length(&self) -> Result<usize> {
        self.plan.content.descriptor_length(self.settings)
    }

    fn descriptor(&self, payloads: &[Payload]) -> Result<String> {
        let known: Vec<_> = payloads.iter().map(|payload| (payload.member.size, payload.report.copied)).collect();
        let content = &self.plan.content;
        Ok(content.write(&content.entries(&known), self.settings)?.text)
    }
}

/// What the engine is told for a disk of a package.
#[derive(Debug)]
pub(crate) struct EngineSettings {
    pub(crate) level: Level,
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    pub(crate) memory: u64,
    pub(crate) chunk_size: Option<u64>,
    pub(crate) progress: Option<Arc<dyn Progress>>,
    pub(crate) cancel: transload_convert::Cancel,
}

/// Writes a disk as a streamOptimized VMDK whose tables stand behind the data.
pub(crate) fn compress(
    disk: &Opened,
    name: &str,
    bus: Bus,
    output: Box<dyn Write + Send>,
    engine: &EngineSettings,
) -> Result<Report> {
    let format = Format::by_name("vmdk").expect("a row of the table");
    let adapter = if bus == Bus::Ide { "ide" } else { "lsilogic" };
    let mut options = OptionValues::default();
    let round = super::plan::CAPACITY_UNIT.to_string();
    let values =
        [("subformat", "streamOptimized"), ("layout", "footer"), ("adapter_type", adapter), ("round_up", &round)];
    for (key, value) in values {
        options.set(format.create_options, key, value)?;
    }
    let settings = Settings {
        options,
        compression: Some(Compression { kind: None, level: engine.level }),
        threads: engine.threads,
        memory: engine.memory,
        task_bytes: engine.chunk_size,
        pipe_name: Some(name.to_owned()),
        progress: engine.progress.clone(),
        cancel: engine.cancel.clone(),
        ..Settings::new(format)
    };
    // The disk stays open for a second pass: the engine gets a second handle on its device.
    let again = Opened { device: Arc::clone(&disk.device), layers: Vec::new() };
    let (input, output) = (Input::Image(again), Output::Pipe(output));
    Plan::new(&input, &output, &settings)?.run(input, output, &settings)
}

/// One disk's part of the whole: the sum of all was told before.
#[derive(Debug)]
pub(crate) struct Part(pub(crate) Arc<dyn MachineProgress>);

impl Progress for Part {
    fn begin(&self, _total: u64) {}

    fn advance(&self, delta: ProgressDelta) {
        self.0.advance(delta);
    }
}
