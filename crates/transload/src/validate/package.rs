//! What is to be seen in a package, as observations of rules that are broken.

use std::sync::Arc;

use transload_appliance::ova::{
    ArchiveEnd, CERTIFICATE_MAX, Irregularity, MANIFEST_MAX, Manifest, ManifestAlgorithm, Member, MemberKind, NAME_MAX,
    OnDevice, SignatureFile, Walk, hex,
};
use transload_appliance::ovf::{self, Package};
use transload_block::{BlockReadExt, Error, ErrorKind, Result};
use transload_image::Source;
use transload_image::vmdk::strict::StreamFacts;

use super::rules::{self, ContainerRule};
use super::scan::{Scanner, Seen};
use super::{MemberReport, SignatureReport, ValidateSettings};

/// A rule that is broken.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) rule: &'static ContainerRule,
    pub(crate) subject: String,
    pub(crate) message: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Examination {
    pub(crate) observations: Vec<Observation>,
    pub(crate) members: Vec<MemberReport>,
    pub(crate) package: Option<Package>,
    pub(crate) algorithm: Option<ManifestAlgorithm>,
    pub(crate) signature: Option<SignatureReport>,
}

impl Examination {
    /// Looks at everything in `source`.
    pub(crate) fn of(source: &Source, settings: &ValidateSettings) -> Result<Self> {
        let mut this = Self::default();
        let members = this.walk(source)?;
        let descriptor = members.iter().position(|member| member.has_ending("ovf"));
        this.look_at_order(&members, descriptor);
        this.read_descriptor(source, descriptor.map(|place| &members[place]))?;
        let manifest = this.read_manifest(source, &members)?;
        this.read_signature(source, &members, manifest.as_ref().map(|(_, text)| text))?;
        let manifest = manifest.map(|(manifest, _)| manifest);
        this.look_at_references(&members, manifest.as_ref());
        this.scan(source, &members, manifest.as_ref(), settings)?;
        Ok(this)
    }

    pub(super) fn machines(&self) -> Vec<String> {
        let systems = self.package.iter().flat_map(|package| &package.systems);
        systems.map(|system| system.machine.name.clone()).collect()
    }

    /// The disks that are streamOptimized: the disk's id, its file's name, what was seen of it, and whether its size is the
    /// one that the descriptor says.
    pub(crate) fn streams(&self) -> Vec<(String, String, StreamFacts, bool)> {
        let Some(package) = &self.package else { return Vec::new() };
        let mut found = Vec::new();
        for disk in &package.disks {
            let Some(file) = disk.file.as_ref().and_then(|id| package.file(id)) else { continue };
            let member = self.members.iter().find(|member| plain(&member.name) == plain(&file.href));
            let Some(stream) = member.and_then(|member| member.stream.clone()) else { continue };
            let mut wrong = self.observations.iter().filter(|seen| seen.rule.rule.id == rules::DISK_CAPACITY.rule.id);
            let agrees = !wrong.any(|seen| plain(&seen.subject) == plain(&file.href));
            found.push((disk.id.clone(), file.href.clone(), stream, agrees));
        }
        found
    }

    fn see(&mut self, rule: &'static ContainerRule, subject: &str, message: impl Into<String>) {
        self.observations.push(Observation { rule, subject: subject.to_owned(), message: message.into() });
    }

    /// Goes through the archive. What is broken in it ends the walk; what stands before it is kept.
    fn walk(&mut self, source: &Source) -> Result<Vec<Member>> {
        let mut walk = Walk::new(OnDevice::new(&**source.bytes()));
        let mut members = Vec::new();
        loop {
            match walk.next_member() {
                Ok(Some(member)) => {
                    self.look_at_member(&member);
                    members.extend((member.kind == MemberKind::File).then_some(member));
                }
                Ok(None) => break,
                Err(error) if members.is_empty() && error.kind() == ErrorKind::Corrupt => {
                    let text = format!("{}: not an OVA: {error}", source.display_name());
                    return Err(Error::new(ErrorKind::NotThisFormat, text));
                }
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(error) => {
                    self.see(&rules::UNSAFE_MEMBER, "", error.to_string());
                    return Ok(members);
                }
            }
        }
        if members.is_empty() {
            let text = format!("{}: not an OVA: the archive holds no file", source.display_name());
            return Err(Error::new(ErrorKind::NotThisFormat, text));
        }
        self.look_at_end(walk.end().unwrap_or_default());
        Ok(members)
    }

    fn look_at_member(&mut self, member: &Member) {
        let name = member.name.as_str();
        if let Err(error) = member.refuse_unsafe() {
            self.see(&rules::UNSAFE_MEMBER, name, error.to_string());
            return;
        }
        if member.kind == MemberKind::Folder {
            self.see(&rules::NAME, name, "is a folder");
            return;
        }
        if member.pax {
            self.see(&rules::PAX, name, "has a pax header");
        }
        if member.name.contains('/') {
            self.see(&rules::NAME, name, "has a folder before its name");
        }
        if member.name.len() > NAME_MAX {
            self.see(&rules::NAME, name, format!("has a name of {} bytes", member.name.len()));
        }
    }

    fn look_at_end(&mut self, end: ArchiveEnd) {
        if end.trailing {
            self.see(&rules::ARCHIVE_END, "", "something follows the end of the archive");
        } else if end.zero_blocks < 2 {
            self.see(&rules::ARCHIVE_END, "", format!("the archive ends in {} blocks of zeroes", end.zero_blocks));
        }
    }

    fn look_at_order(&mut self, members: &[Member], descriptor: Option<usize>) {
        let first = members.first().map_or("", |member| member.name.as_str()).to_owned();
        match descriptor {
            None => self.see(&rules::DESCRIPTOR, "", "there is no file that ends in .ovf"),
            Some(0) => {}
            Some(place) => {
                let name = members[place].name.clone();
                self.see(&rules::DESCRIPTOR_FIRST, &name, format!("stands behind '{first}'"));
            }
        }
        let small = |member: &Member| member.has_ending("mf") || member.has_ending("cert");
        let places: Vec<_> = members.iter().enumerate().filter(|(_, member)| small(member)).collect();
        let (count, total) = (places.len(), members.len());
        let in_front = places.iter().all(|(place, _)| (1..=count).contains(place));
        let at_end = places.iter().all(|(place, _)| *place >= total - count);
        if !in_front && !at_end {
            self.see(&rules::ORDER, "", "the manifest stands among the files");
        }
    }

    fn read_descriptor(&mut self, source: &Source, member: Option<&Member>) -> Result<()> {
        let Some(member) = member else { return Ok(()) };
        if member.size > ovf::MAX_LENGTH as u64 {
            self.see(&rules::DESCRIPTOR, &member.name, format!("has {} bytes", member.size));
            return Ok(());
        }
        let text = source.bytes().read_vec(member.offset, member.size)?;
        match ovf::read(&text) {
            Ok(package) => self.package = Some(package),
            Err(error) => self.see(&rules::DESCRIPTOR, &member.name, error.to_string()),
        }
        Ok(())
    }

    fn read_manifest(&mut self, source: &Source, members: &[Member]) -> Result<Option<(Manifest, Vec<u8>)>> {
        let Some(member) = members.iter().find(|member| member.has_ending("mf")) else { return Ok(None) };
        if member.size > MANIFEST_MAX {
            self.see(&rules::MANIFEST_UNREADABLE, &member.name, format!("has {} bytes", member.size));
            return Ok(None);
        }
        let text = source.bytes().read_vec(member.offset, member.size)?;
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.see(&rules::MANIFEST_UNREADABLE, &member.name, error.to_string());
                return Ok(None);
            }
        };
        for irregularity in &manifest.irregularities {
            let rule = match irregularity {
                Irregularity::SpaceBeforeName
                | Irregularity::AlgorithmSpelling
                | Irregularity::SpaceAtEquals
                | Irregularity::ByteOrderMark => &rules::MANIFEST_SYNTAX,
                _ => &rules::MANIFEST_STYLE,
            };
            self.see(rule, &member.name, format!("has {irregularity}"));
        }
        self.algorithm = manifest.entries.first().map(|entry| entry.algorithm);
        match self.algorithm {
            Some(ManifestAlgorithm::Sha256) => {
                self.see(&rules::MANIFEST_ALGORITHM, &member.name, "is of SHA256");
            }
            Some(ManifestAlgorithm::Sha512) => self.see(&rules::MANIFEST_SHA512, &member.name, "is of SHA512"),
            _ => {}
        }
        Ok(Some((manifest, text)))
    }

    fn read_signature(&mut self, source: &Source, members: &[Member], manifest: Option<&Vec<u8>>) -> Result<()> {
        let Some(member) = members.iter().find(|member| member.has_ending("cert")) else { return Ok(()) };
        if member.size > CERTIFICATE_MAX {
            self.see(&rules::SIGNATURE, &member.name, format!("has {} bytes", member.size));
            return Ok(());
        }
        let text = source.bytes().read_vec(member.offset, member.size)?;
        let file = match SignatureFile::parse(&text) {
            Ok(file) => file,
            Err(error) => {
                self.see(&rules::SIGNATURE, &member.name, error.to_string());
                return Ok(());
            }
        };
        let verified = match manifest {
            Some(manifest) => file.verify(manifest),
            None => Err(Error::new(ErrorKind::Checksum, "there is no manifest that it could be of")),
        };
        let (subject, issuer, valid_until) = (file.subject(), file.issuer(), file.valid_until());
        self.signature = Some(SignatureReport { subject, issuer, valid_until, matches: verified.is_ok() });
        if let Err(error) = verified {
            self.see(&rules::SIGNATURE, &member.name, error.to_string());
        }
        Ok(())
    }

    /// Compares what the descriptor and the manifest list with what is there.
    fn look_at_references(&mut self, members: &[Member], manifest: Option<&Manifest>) {
        let find = |name: &str| members.iter().find(|member| member.plain_name() == name.trim_start_matches("./"));
        let files = self.package.as_ref().map(|package| package.files.clone()).unwrap_or_default();
        let mut listed = Vec::new();
        for file in &files {
            let pieces = file.pieces();
            let found: Vec<_> = pieces.iter().filter_map(|name| find(name)).collect();
            if found.len() < pieces.len() {
                let message = format!("is listed as '{}' and not in the archive", file.id);
                self.see(&rules::FILE_MISSING, &file.href, message);
            } else if let Some(size) = file.size {
                let there: u64 = found.iter().map(|member| member.size).sum();
                if there != size {
                    let message = format!("has {there} bytes, and the descriptor says {size}");
                    self.see(&rules::FILE_SIZE, &file.href, message);
                }
            }
            listed.extend(pieces);
        }
        let is_listed =
            |member: &Member| listed.iter().any(|name| name.trim_start_matches("./") == member.plain_name());
        let special = |member: &Member| ["ovf", "mf", "cert"].iter().any(|ending| member.has_ending(ending));
        if self.package.is_some() {
            for member in members.iter().filter(|member| !special(member) && !is_listed(member)) {
                self.see(&rules::FILE_UNLISTED, &member.name, "is not listed in the descriptor");
            }
        }
        let Some(manifest) = manifest else { return };
        for entry in manifest.entries.iter().filter(|entry| find(&entry.name).is_none()) {
            self.see(&rules::MANIFEST_ABSENT_FILE, &entry.name, "is in the manifest and not in the archive");
        }
        let in_manifest = |member: &&Member| !member.has_ending("mf") && !member.has_ending("cert");
        for member in members.iter().filter(in_manifest).filter(|member| manifest.entry(&member.name).is_none()) {
            self.see(&rules::MANIFEST_INCOMPLETE, &member.name, "is not in the manifest");
        }
    }

    /// Reads every member.
    fn scan(
        &mut self,
        source: &Source,
        members: &[Member],
        manifest: Option<&Manifest>,
        settings: &ValidateSettings,
    ) -> Result<()> {
        if let Some(progress) = &settings.progress {
            progress.begin(members.iter().map(|member| member.size).sum());
        }
        let scanner = Scanner {
            archive: Arc::clone(source.bytes()),
            threads: settings.threads,
            cancel: &settings.cancel,
            progress: settings.progress.as_deref(),
        };
        for member in members {
            let entry = manifest.and_then(|manifest| manifest.entry(&member.name));
            let algorithm = entry.map_or(ManifestAlgorithm::Sha256, |entry| entry.algorithm);
            let disk = self.disk_in(member);
            let seen = scanner.scan(member, algorithm, disk.is_some())?;
            let matches = entry.map(|entry| entry.value == seen.digest);
            if let (Some(entry), Some(false)) = (entry, matches) {
                let (says, has) = (hex(&entry.value), hex(&seen.digest));
                self.see(
                    &rules::DIGEST,
                    &member.name,
                    format!("has the {algorithm} {has}, and the manifest says {says}"),
                );
            }
            if let Some(capacity) = disk {
                self.look_at_disk(member, &seen, capacity);
            }
            self.members.push(MemberReport {
                name: member.name.clone(),
                size: member.size,
                digest: Some(hex(&seen.digest)),
                digest_matches: matches,
                format: seen.format.map(str::to_owned),
                stream: seen.stream,
            });
        }
        Ok(())
    }

    /// Whether a member is a disk as a whole, and the size that the descriptor gives it.
    fn disk_in(&self, member: &Member) -> Option<Option<u64>> {
        let package = self.package.as_ref()?;
        let name = member.plain_name();
        let file = package.files.iter().find(|file| file.href.trim_start_matches("./") == name)?;
        let plain = file.compression == ovf::Compression::None && file.chunk_size.is_none();
        let disk = package.disks.iter().find(|disk| disk.file.as_ref() == Some(&file.id)).filter(|_| plain)?;
        Some(disk.capacity.bytes())
    }

    fn look_at_disk(&mut self, member: &Member, seen: &Seen, capacity: Option<u64>) {
        let name = member.name.as_str();
        for broken in &seen.broken {
            self.see(&rules::DISK_CORRUPT, name, broken.clone());
        }
        let Some(stream) = &seen.stream else {
            // What cannot be read is not judged further.
            if !seen.broken.is_empty() {
                return;
            }
            let format = seen.format.unwrap_or("not known");
            self.see(&rules::DISK_FORMAT, name, format!("is no streamOptimized VMDK; its format is {format}"));
            return;
        };
        if !stream.create_type.eq_ignore_ascii_case("streamOptimized") {
            self.see(&rules::DISK_STRUCTURE, name, format!("calls itself {}", stream.create_type));
        }
        // The missing marker has a rule of its own.
        for fault in stream.faults.iter().filter(|fault| stream.end_marker || !fault.contains("end-of-stream")) {
            self.see(&rules::DISK_STRUCTURE, name, fault.clone());
        }
        if !stream.end_marker {
            self.see(&rules::DISK_END, name, "has no end-of-stream marker");
        }
        if stream.trailing > 0 {
            self.see(
                &rules::DISK_TRAILING,
                name,
                format!("has {} bytes behind the end of the stream", stream.trailing),
            );
        }
        if stream.version != 3 {
            self.see(&rules::DISK_VERSION, name, format!("has version {} in its header", stream.version));
        }
        if (stream.grain_bytes, stream.table_entries) != (64 << 10, 512) {
            let message = format!("has grains of {} bytes, {} to a table", stream.grain_bytes, stream.table_entries);
            self.see(&rules::DISK_GRAIN, name, message);
        }
        if seen.short_last_grain {
            self.see(&rules::DISK_LAST_GRAIN, name, "has a last grain that inflates to less than the others");
        }
        if stream.footer {
            self.see(&rules::DISK_FOOTER, name, "has its grain directory in a footer");
        }
        let rounded = stream.capacity.next_multiple_of(1 << 20);
        if let Some(capacity) = capacity.filter(|capacity| ![stream.capacity, rounded].contains(capacity)) {
            let message = format!("has {} bytes, and the descriptor says {capacity}", stream.capacity);
            self.see(&rules::DISK_CAPACITY, name, message);
        }
    }
}

/// A name without the `./` before it.
fn plain(name: &str) -> &str {
    name.trim_start_matches("./")
}

/// The rules that a file breaks by its own bytes as a disk, by any of the names that it has: those for which it has to be
/// written anew.
pub(crate) fn rewriting_rules(examination: &Examination, names: &[String]) -> Vec<String> {
    let rewriting = [
        &rules::DISK_FORMAT,
        &rules::DISK_END,
        &rules::DISK_TRAILING,
        &rules::DISK_STRUCTURE,
        &rules::DISK_VERSION,
        &rules::DISK_GRAIN,
        &rules::DISK_LAST_GRAIN,
    ];
    let about = |subject: &str| names.iter().any(|name| plain(name) == plain(subject));
    let seen = examination.observations.iter().filter(|seen| about(&seen.subject));
    let mut ids: Vec<_> = seen.map(|seen| seen.rule.rule.id.to_owned()).collect();
    ids.retain(|id| rewriting.iter().any(|rule| rule.rule.id == id));
    ids.dedup();
    ids
}
