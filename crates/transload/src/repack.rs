//! Rewrites an OVA so that importers take it: what has to change is changed, everything else is copied as it is.
//!
//! ```text
//! validate's examination ──► what is wrong ──► per file: copied, rewritten, left out ──► descriptor edited ──► new archive
//! ```
//!
//! The order, the archive's dialect, the manifest and the sizes in the descriptor come out right by being written anew. A
//! disk is rewritten only where its own bytes are what is wrong; its grains are then passed on as they are stored, unless
//! they are wrong themselves. The descriptor keeps every byte that no change is about.

use std::collections::HashSet;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use transload_appliance::Bus;
use transload_appliance::ova::{Index, ManifestAlgorithm, Member, NAME_MAX, Signer};
use transload_appliance::ovf::{self, Change, Compression, Package};
use transload_appliance::profile::{self, IMPORTERS};
use transload_block::{BlockRead, BlockReadExt, Concat, Error, ErrorKind, Result, Slice};
use transload_convert::{Cancel, Progress, ProgressDelta, Report, Settings};
use transload_image::codec::Level;
use transload_image::{Access, OpenSettings, Opened, ReferenceGate, Source, open};
use transload_remote::{Options, Stop};

use crate::export::{Contents, EngineSettings, MachineProgress, Packager, Part, Payload, compress, file_stem};
use crate::location::{self, Location};
use crate::validate::{Examination, Soundness, ValidateSettings, rewriting_rules};

/// How to repack.
#[derive(Debug)]
pub struct RepackSettings {
    /// The manifest's function; the old manifest's, or SHA-256, when `None`.
    pub manifest: Option<ManifestAlgorithm>,
    /// The hardware version to ask for instead of the package's own.
    pub hardware_version: Option<u32>,
    /// Leave out the file with the firmware's variables.
    pub skip_nvram: bool,
    /// Signs the new manifest. A signature that is there is dropped, since it is of the old one.
    pub signer: Option<Signer>,
    /// How hard disks are compressed that have to be.
    pub level: Level,
    /// Replace an existing target, and go on where digests are wrong.
    pub force: bool,
    /// Worker threads; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Bytes of memory for buffers and tables.
    pub memory: u64,
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Whom to tell how far it is.
    pub progress: Option<Arc<dyn MachineProgress>>,
}

impl Default for RepackSettings {
    fn default() -> Self {
        Self {
            manifest: None,
            hardware_version: None,
            skip_nvram: false,
            signer: None,
            level: Level::BALANCED,
            force: false,
            threads: None,
            memory: Settings::DEFAULT_MEMORY,
            cancel: Cancel::default(),
            progress: None,
        }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Its bytes are as they were.
    Copied,
    /// It was made anew.
    Rewritten,
    /// It is not in the new package.
    LeftOut,
}

/// A file of the old or the new package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RepackedFile {
    /// Its name: in the new package, or in the old one if it is not in the new.
    pub name: String,
    /// What became of it.
    pub action: Action,
    /// Why: the rules that it broke, or what was asked for.
    pub reasons: Vec<String>,
}

/// What a repack did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RepackReport {
    /// The files.
    pub files: Vec<RepackedFile>,
    /// Bytes of the new package.
    pub size: u64,
    /// The new manifest's function.
    pub manifest: &'static str,
    /// Wall time in milliseconds.
    pub elapsed_milliseconds: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A file that goes into the new package.
#[derive(Debug)]
struct Item {
    /// Its id in the descriptor.
    file: String,
    href: String,
    name: String,
    bytes: Arc<dyn BlockRead>,
    /// The disk that it is rewritten as.
    disk: Option<(String, Bus, Opened)>,
    reasons: Vec<String>,
}

struct Repack<'a> {
    settings: &'a RepackSettings,
    stem: String,
    descriptor: Vec<u8>,
    changes: Vec<Change>,
    items: Vec<Item>,
}

/// Writes the package at `from` to `to`, with the remedies applied that [`validate`](crate::validate::validate) names.
///
/// # Errors
/// `Corrupt` for a package of which something is missing or broken for good; `Checksum` where digests are wrong, without
/// `force`; `Denied` when the target exists; what the disks and the operating system answer.
pub fn repack(from: &Path, to: &Path, settings: &RepackSettings) -> Result<RepackReport> {
    let started = Instant::now();
    let cancel = settings.cancel.clone();
    let network = Options { stop: Stop::when(move || cancel.is_cancelled()), ..Options::default() };
    let source = location::open(&Location::of(from), Access::ReadOnly, &network)?.anywhere()?;
    let examine = ValidateSettings { threads: settings.threads, cancel: settings.cancel.clone(), progress: None };
    let examination = Examination::of(&source, &examine)?;
    let context = |error: Error| error.context(Location::of(from).shown());
    let mut warnings = refuse(&examination, settings.force).map_err(context)?;
    let index = Index::read(&**source.bytes()).map_err(context)?;
    let (repack, mut files) = Repack::new(&source, &index, &examination, settings).map_err(context)?;
    if examination.signature.is_some() && settings.signer.is_none() {
        warnings.push("the signature was of the old manifest and is dropped".to_owned());
    }
    if let Some(progress) = &settings.progress {
        progress.begin(repack.items.iter().map(Item::work).sum());
    }
    let algorithm = settings.manifest.or(examination.algorithm).unwrap_or(ManifestAlgorithm::Sha256);
    let packager = Packager {
        contents: &repack,
        manifest: Some(algorithm),
        signer: settings.signer.as_ref(),
        force: settings.force,
        avoid: source.identity().into_iter().collect(),
        cancel: &settings.cancel,
    };
    let written = packager.to_file(to)?;
    files.splice(
        0..0,
        written.small.iter().map(|small| RepackedFile {
            name: small.name.clone(),
            action: Action::Rewritten,
            reasons: Vec::new(),
        }),
    );
    Ok(RepackReport {
        files,
        size: written.size,
        manifest: algorithm.name(),
        elapsed_milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        warnings,
    })
}

/// Refuses what repacking does not mend; answers what it goes on with.
fn refuse(examination: &Examination, force: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for seen in &examination.observations {
        let text = format!("'{}' {}", seen.subject, seen.message);
        let kind = match seen.rule.soundness {
            _ if seen.rule.rule.repairable => continue,
            Soundness::Corrupt => ErrorKind::Corrupt,
            Soundness::Mismatch if force => {
                warnings.push(text);
                continue;
            }
            Soundness::Mismatch => ErrorKind::Checksum,
            Soundness::Sound => continue,
        };
        return Err(Error::new(kind, text).with_remedy(seen.rule.rule.remedy));
    }
    Ok(warnings)
}

impl<'a> Repack<'a> {
    fn new(
        source: &Source,
        index: &Index,
        examination: &Examination,
        settings: &'a RepackSettings,
    ) -> Result<(Self, Vec<RepackedFile>)> {
        let no_descriptor = || Error::new(ErrorKind::Corrupt, "there is no descriptor in it");
        let member = index.descriptor().ok_or_else(no_descriptor)?;
        let package = examination.package.as_ref().ok_or_else(no_descriptor)?;
        let descriptor = source.bytes().read_vec(member.offset, member.size.min(ovf::MAX_LENGTH as u64))?;
        let base = flat(member.plain_name());
        let stem = base.get(..base.len().saturating_sub(4)).filter(|stem| !stem.is_empty()).unwrap_or("machine");
        let mut this = Self { settings, stem: file_stem(stem), descriptor, changes: Vec::new(), items: Vec::new() };
        let nvram: HashSet<_> = package.systems.iter().filter_map(|system| system.machine.nvram.clone()).collect();
        let mut files = Vec::new();
        for file in &package.files {
            if settings.skip_nvram && (nvram.contains(&file.href) || file.href.to_ascii_lowercase().ends_with(".nvram"))
            {
                this.changes.push(Change::RemoveFile { id: file.id.clone() });
                let reasons = vec!["asked for".to_owned()];
                files.push(RepackedFile { name: file.href.clone(), action: Action::LeftOut, reasons });
                continue;
            }
            let item = this.item(source, index, examination, package, file)?;
            let action = if item.disk.is_some() { Action::Rewritten } else { Action::Copied };
            files.push(RepackedFile { name: item.name.clone(), action, reasons: item.reasons.clone() });
            this.items.push(item);
        }
        for member in index.members.iter().filter(|member| !this.is_known(package, member)) {
            let reasons = vec!["ovf-file-unlisted".to_owned()];
            files.push(RepackedFile { name: member.name.clone(), action: Action::LeftOut, reasons });
        }
        this.add_changes(examination);
        Ok((this, files))
    }

    /// A file that the descriptor lists, and what becomes of it.
    fn item(
        &self,
        source: &Source,
        index: &Index,
        examination: &Examination,
        package: &Package,
        file: &ovf::File,
    ) -> Result<Item> {
        let mut parts: Vec<Arc<dyn BlockRead>> = Vec::new();
        let mut subjects = vec![file.href.clone()];
        for piece in file.pieces() {
            let missing = || Error::new(ErrorKind::Corrupt, format!("'{piece}' is not in the archive"));
            let member = index.member(&piece).ok_or_else(missing)?;
            subjects.push(member.name.clone());
            let range = member.offset..member.offset + member.size;
            parts.push(Arc::new(Slice::new(Arc::clone(source.bytes()), range)?));
        }
        let bytes = if parts.len() == 1 { parts.swap_remove(0) } else { Arc::new(Concat::new(parts)?) as _ };
        let whole = file.compression == Compression::None;
        let disk = package.disks.iter().find(|disk| disk.file.as_ref() == Some(&file.id)).filter(|_| whole);
        let reasons = rewriting_rules(examination, &subjects);
        let rewritten = match disk {
            Some(disk) if !reasons.is_empty() => {
                let named = Source::new(Arc::clone(&bytes)).with_path(flat(&file.href));
                // A disk inside an archive names no file: the archive has no folder.
                let alone = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
                let opened = open(named, &alone)?;
                refuse_guess(&opened, disk, &file.href)?;
                let machines = package.systems.iter().flat_map(|system| &system.machine.disks);
                let bus = machines.filter(|known| known.id == disk.id).map(|known| known.address.bus).next();
                Some((disk.id.clone(), bus.unwrap_or(Bus::Scsi), opened))
            }
            _ => None,
        };
        let name = self.name(&file.href, rewritten.is_some());
        Ok(Item { file: file.id.clone(), href: file.href.clone(), name, bytes, disk: rewritten, reasons })
    }

    /// The name of a file in the new package: without a folder, not too long for a header, and not taken.
    fn name(&self, href: &str, rewritten: bool) -> String {
        let mut name = flat(href).to_owned();
        if rewritten && !name.to_ascii_lowercase().ends_with(".vmdk") {
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
            name = format!("{stem}.vmdk");
        }
        let taken = |name: &str| self.items.iter().any(|item| item.name == name);
        if name.len() <= NAME_MAX && !taken(&name) {
            return name;
        }
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_owned();
        (1..).map(|number| format!("{}-file{number}.{ending}", self.stem)).find(|name| !taken(name)).unwrap_or(name)
    }

    fn is_known(&self, package: &Package, member: &Member) -> bool {
        let special = ["ovf", "mf", "cert"].iter().any(|ending| member.has_ending(ending));
        let pieces = package.files.iter().flat_map(ovf::File::pieces);
        special || pieces.into_iter().any(|piece| piece.trim_start_matches("./") == member.plain_name())
    }

    /// What has to change in the descriptor, but for the sizes of files.
    fn add_changes(&mut self, examination: &Examination) {
        if let Some(version) = self.settings.hardware_version {
            self.changes.push(Change::Family(format!("vmx-{version:02}")));
        }
        let flagged = flagged_rules(examination);
        if flagged.contains("ovf-device-required") {
            self.changes.push(Change::PrivateNotRequired);
        }
        let chunked: HashSet<_> = examination
            .package
            .iter()
            .flat_map(|package| &package.files)
            .filter(|file| file.chunk_size.is_some())
            .map(|file| file.id.clone())
            .collect();
        for item in &self.items {
            if item.name != item.href || chunked.contains(&item.file) {
                self.changes.push(Change::FileName { id: item.file.clone(), href: item.name.clone() });
            }
            if let Some((disk, _, opened)) = &item.disk {
                self.changes.push(Change::StreamOptimized { id: disk.clone() });
                self.changes.push(Change::Capacity { id: disk.clone(), bytes: opened.device.size() });
            }
        }
        let rewritten: HashSet<_> =
            self.items.iter().filter(|item| item.disk.is_some()).map(|item| item.href.clone()).collect();
        for (id, href, stream, agrees) in examination.streams() {
            if rewritten.contains(&href) {
                continue;
            }
            if flagged.contains("ovf-disk-format") {
                self.changes.push(Change::StreamOptimized { id: id.clone() });
            }
            if !agrees || flagged.contains("ovf-disk-units") {
                self.changes.push(Change::Capacity { id, bytes: stream.capacity });
            }
        }
    }

    fn edited(&self, sizes: impl Iterator<Item = u64>) -> Result<String> {
        let mut changes = self.changes.clone();
        let sized = self.items.iter().zip(sizes);
        changes.extend(sized.map(|(item, size)| Change::FileSize { id: item.file.clone(), size }));
        ovf::edit(&self.descriptor, &changes)
    }
}

impl Item {
    /// Bytes that are gone through for it.
    fn work(&self) -> u64 {
        self.disk.as_ref().map_or(self.bytes.size(), |(_, _, opened)| opened.device.size())
    }

    /// Copies its bytes as they are.
    fn copy(&self, output: &mut dyn Write, settings: &RepackSettings) -> Result<Report> {
        const STEP: u64 = 1 << 20;
        let (size, mut at) = (self.bytes.size(), 0);
        let mut buffer = Vec::new();
        while at < size {
            settings.cancel.check()?;
            let length = STEP.min(size - at);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            self.bytes.read_at(&mut buffer, at)?;
            output.write_all(&buffer).map_err(|error: io::Error| Error::io("output", error))?;
            at += length;
            if let Some(progress) = &settings.progress {
                progress.advance(ProgressDelta { copied: length, ..ProgressDelta::default() });
            }
        }
        Ok(Report::default())
    }
}

impl Contents for Repack<'_> {
    fn stem(&self) -> &str {
        &self.stem
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|item| item.name.clone()).collect()
    }

    fn write(&self, place: usize, mut output: Box<dyn Write + Send>) -> Result<Report> {
        let (item, settings) = (&self.items[place], self.settings);
        if let Some(progress) = &settings.progress {
            progress.disk(place + 1, self.items.len(), &item.name, item.work());
        }
        match &item.disk {
            None => item.copy(&mut output, settings),
            Some((_, bus, opened)) => compress(
                opened,
                &item.name,
                *bus,
                output,
                &EngineSettings {
                    level: settings.level,
                    threads: settings.threads,
                    memory: settings.memory,
                    chunk_size: None,
                    progress: settings
                        .progress
                        .as_ref()
                        .map(|inner| Arc::new(Part(Arc::clone(inner))) as Arc<dyn Progress>),
                    cancel: settings.cancel.clone(),
                },
            ),
        }
    }

    fn descriptor_length(&self) -> Result<usize> {
        Ok(self.edited(self.items.iter().map(|_| u64::MAX))?.len())
    }

    fn descriptor(&self, payloads: &[Payload]) -> Result<String> {
        self.edited(payloads.iter().map(|payload| payload.member.size))
    }
}

/// The rules about the descriptor that any importer finds broken.
fn flagged_rules(examination: &Examination) -> HashSet<&'static str> {
    let Some(package) = &examination.package else { return HashSet::new() };
    let findings = IMPORTERS.iter().flat_map(|importer| profile::evaluate(package, importer));
    findings.map(|finding| finding.rule.id).collect()
}

/// Refuses to take bytes of no format for a raw disk where the descriptor says that they are of one.
fn refuse_guess(opened: &Opened, disk: &ovf::VirtualDisk, href: &str) -> Result<()> {
    let format = opened.layers.first().map(|layer| layer.format.name);
    match &disk.format {
        Some(said) if format == Some("raw") && !said.to_ascii_lowercase().contains("raw") => {
            let text = format!("'{href}' is of no known format, and the descriptor says that it is {said}");
            Err(Error::new(ErrorKind::Corrupt, text))
        }
        _ => Ok(()),
    }
}

/// The last part of a name.
fn flat(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
