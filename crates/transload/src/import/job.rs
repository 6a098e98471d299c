//! One import under way: takes members as they come, and writes what the machine needs of them.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use transload_appliance::ova::{
    CERTIFICATE_MAX, FromReader, Index, MANIFEST_MAX, Manifest, ManifestAlgorithm, Member, MemberKind, SignatureFile,
    Walk,
};
use transload_appliance::ovf;
use transload_appliance::{DiskFormat, Machine, Media, Notes};
use transload_block::{BlockRead, BlockReadExt, Concat, Error, ErrorKind, Result, Slice};
use transload_convert::{AtomicFolder, Input, Output, Plan, Progress, Report, Settings};
use transload_image::{
    Format, OpenSettings, OptionValues, ProbeWindow, ReferenceGate, Source, StreamRequest, detect, detect_window,
};

use super::read::{DeviceReader, Hashed, Hashers, WalkReader, from_io, gunzip};
use super::target::ImportTarget;
use super::{ImportReport, ImportSettings, ImportedFile, ImportedKind};
use crate::export::{Part, choose_system, file_stem};

/// What is wanted of a file in the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It holds the disk with this place in the machine.
    Disk(usize),
    /// It is in the drive with this place.
    Media(usize),
    /// It holds the firmware's variables.
    Nvram,
}

/// A file of the package that the machine needs.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) href: String,
    /// The members that it is stored as.
    pub(super) pieces: Vec<String>,
    pub(super) uses: Vec<Use>,
    /// It is compressed as a whole.
    pub(super) gzip: bool,
    pub(super) done: bool,
}

/// Digests of a member by the functions that may be asked for.
pub(super) type Digests = Vec<(ManifestAlgorithm, Vec<u8>)>;

/// An import under way.
pub(super) struct Job<'a> {
    pub(super) place: &'a AtomicFolder,
    pub(super) settings: &'a ImportSettings,
    pub(super) machine: Machine,
    pub(super) stem: String,
    pub(super) wanted: Vec<Wanted>,
    pub(super) manifest: Option<Manifest>,
    /// The source is a stream, of which only its end tells that there is no manifest.
    pub(super) manifest_may_come: bool,
    /// The manifest's bytes, which are what is signed.
    pub(super) manifest_text: Vec<u8>,
    pub(super) signature: Option<SignatureFile>,
    pub(super) digests: Vec<(String, Digests)>,
    pub(super) files: Vec<ImportedFile>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Notes,
}

/// Imports from bytes that can be read at any place.
pub(super) fn from_source(source: &Source, place: &AtomicFolder, settings: &ImportSettings) -> Result<ImportReport> {
    let name = source.display_name();
    let context = |error: Error| error.context(&name);
    let index = Index::read(&**source.bytes()).map_err(context)?;
    let read = |member: &Member, most: u64| read_member(source, member, most);
    let descriptor = index
        .descriptor()
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{name}: there is no descriptor (.ovf) in it")))?;
    let text = read(descriptor, ovf::MAX_LENGTH as u64).map_err(context)?;
    let mut job = Job::new(&text, place, settings).map_err(context)?;
    for member in &index.members {
        if member.has_ending("mf") {
            job.take_manifest(read(member, MANIFEST_MAX)?).map_err(context)?;
        } else if member.has_ending("cert") {
            job.take_certificate(&read(member, CERTIFICATE_MAX)?).map_err(context)?;
        }
    }
    job.begin();
    for member in &index.members {
        settings.cancel.check()?;
        let slice = |member: &Member| -> Result<Arc<dyn BlockRead>> {
            let range = member.offset..member.offset + member.size;
            Ok(Arc::new(Slice::new(Arc::clone(source.bytes()), range)?))
        };
        let wanted = job.wanted(member.plain_name());
        match wanted {
            Some((file, 0)) => {
                let mut parts = Vec::new();
                for piece in &job.wanted[file].pieces {
                    let missing = || Error::new(ErrorKind::Corrupt, format!("'{piece}' is not in the archive"));
                    parts.push(slice(index.member(piece).ok_or_else(missing)?)?);
                }
                let whole = if parts.len() == 1 { parts.swap_remove(0) } else { Arc::new(Concat::new(parts)?) as _ };
                job.take_device(file, member, &whole, slice(member)?).map_err(context)?;
            }
            // A piece of a file that was taken with its first, or nothing that is needed: only its digest is.
            _ => {
                let hashers = job.hashers(member.plain_name());
                let mut hashed =
                    Hashed::new(BufReader::with_capacity(1 << 20, DeviceReader::new(slice(member)?)), hashers.clone());
                io::copy(&mut hashed, &mut io::sink()).map_err(from_io)?;
                job.digests.push((member.plain_name().to_owned(), hashers.finish()));
            }
        }
    }
    job.finish().map_err(context)
}

/// Imports from bytes that come once.
pub(super) fn from_stream(
    input: Box<dyn Read + Send>,
    place: &AtomicFolder,
    settings: &ImportSettings,
) -> Result<ImportReport> {
    let late = || {
        Error::new(ErrorKind::InvalidInput, "the descriptor is not the first file of the archive")
            .with_remedy("store the archive in a file and import that")
    };
    let walk = Arc::new(Mutex::new(Walk::new(FromReader(BufReader::with_capacity(1 << 20, input)))));
    let next = || walk.lock().unwrap_or_else(PoisonError::into_inner).next_member();
    let mut first = next()?;
    // The folder that was packed stands before what is in it.
    while let Some(member) = first.as_ref().filter(|member| member.kind == MemberKind::Folder) {
        member.refuse_unsafe()?;
        first = next()?;
    }
    let Some(descriptor) = first else {
        return Err(Error::new(ErrorKind::NotThisFormat, "the archive holds no file"));
    };
    descriptor.refuse_unsafe()?;
    if !descriptor.has_ending("ovf") {
        return Err(late());
    }
    let text = read_whole(&walk, ovf::MAX_LENGTH as u64)?;
    let mut job = Job::new(&text, place, settings)?;
    job.manifest_may_come = true;
    let hashers = job.hashers(descriptor.plain_name());
    hashers.update(&text);
    job.digests.push((descriptor.plain_name().to_owned(), hashers.finish()));
    job.begin();
    while let Some(member) = next()? {
        settings.cancel.check()?;
        member.refuse_unsafe()?;
        if member.kind != MemberKind::File {
            continue;
        }
        if member.has_ending("mf") {
            job.take_manifest(read_whole(&walk, MANIFEST_MAX)?)?;
            continue;
        }
        if member.has_ending("cert") {
            job.take_certificate(&read_whole(&walk, CERTIFICATE_MAX)?)?;
            continue;
        }
        let hashers = job.hashers(member.plain_name());
        let reader = || Hashed::new(WalkReader(Arc::clone(&walk)), hashers.clone());
        if let Some((file, piece)) = job.wanted(member.plain_name()) {
            if job.wanted[file].pieces.len() > 1 || piece > 0 {
                let text = format!("'{}' is a piece of a file, which cannot be joined from a stream", member.name);
                return Err(
                    Error::new(ErrorKind::Unsupported, text).with_remedy("store the archive in a file and import that")
                );
            }
            job.take_stream(file, &member, Box::new(reader()))?;
        }
        // What the reader of the disk did not need of it.
        io::copy(&mut reader(), &mut io::sink()).map_err(from_io)?;
        job.digests.push((member.plain_name().to_owned(), hashers.finish()));
    }
    job.finish()
}

fn read_member(source: &Source, member: &Member, most: u64) -> Result<Vec<u8>> {
    if member.size > most {
        let text = format!("'{}' has {} bytes, at most {most} are read", member.name, member.size);
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    source.bytes().read_vec(member.offset, member.size)
}

fn read_whole<S: transload_appliance::ova::Forward>(walk: &Mutex<Walk<S>>, most: u64) -> Result<Vec<u8>> {
    walk.lock().unwrap_or_else(PoisonError::into_inner).read_all(most)
}

impl<'a> Job<'a> {
    fn new(descriptor: &[u8], place: &'a AtomicFolder, settings: &'a ImportSettings) -> Result<Self> {
        let package = ovf::read(descriptor)?;
        let parents: HashSet<_> =
            package.disks.iter().filter(|disk| disk.parent.is_some()).map(|disk| disk.id.clone()).collect();
        let files = package.files.clone();
        let (machine, notes) = choose_system(package, settings.system.as_deref())?;
        if let Some(disk) = machine.disks.iter().find(|disk| parents.contains(&disk.id)) {
            let text = format!("disk '{}' is a layer over another disk of the package", disk.id);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let stem = file_stem(&machine.name);
        let mut job = Self {
            place,
            settings,
            machine,
            stem,
            wanted: Vec::new(),
            manifest: None,
            manifest_may_come: false,
            manifest_text: Vec::new(),
            signature: None,
            digests: Vec::new(),
            files: Vec::new(),
            warnings: Vec::new(),
            notes,
        };
        job.look_for_files(&files)?;
        Ok(job)
    }

    /// Notes which files of the package the machine needs, and refuses those that lead elsewhere.
    fn look_for_files(&mut self, files: &[ovf::File]) -> Result<()> {
        let mut needed: Vec<(String, Use)> = Vec::new();
        for (place, disk) in self.machine.disks.iter().enumerate() {
            needed.extend(disk.file.clone().map(|href| (href, Use::Disk(place))));
        }
        for (place, drive) in self.machine.drives.iter().enumerate() {
            if let Media::Image(href) = &drive.media
                && files.iter().any(|file| file.href == *href)
            {
                needed.push((href.clone(), Use::Media(place)));
            }
        }
        let nvram = self.machine.nvram.clone().filter(|_| self.settings.target.takes_nvram());
        needed.extend(nvram.filter(|href| files.iter().any(|file| file.href == *href)).map(|href| (href, Use::Nvram)));
        for (href, purpose) in needed {
            if let Some(known) = self.wanted.iter_mut().find(|wanted| wanted.href == href) {
                known.uses.push(purpose);
                continue;
            }
            let name = href.trim_start_matches("./");
            transload_appliance::ova::refuse_unsafe_name(name)
                .map_err(|why| Error::new(ErrorKind::Denied, format!("the descriptor's file '{href}' {why}")))?;
            let file = files.iter().find(|file| file.href == href);
            let compression = file.map_or(&ovf::Compression::None, |file| &file.compression);
            let gzip = *compression == ovf::Compression::Gzip;
            let is_disk = matches!(purpose, Use::Disk(_));
            if *compression != ovf::Compression::None && !(gzip && is_disk) {
                let text = format!("'{href}' is compressed as a whole");
                return Err(Error::new(ErrorKind::Unsupported, text)
                    .with_remedy("unpack the package, decompress the file, and convert it by itself"));
            }
            let pieces = file.map_or_else(|| vec![href.clone()], ovf::File::pieces);
            let pieces = pieces.iter().map(|piece| piece.trim_start_matches("./").to_owned()).collect();
            self.wanted.push(Wanted { href, pieces, uses: vec![purpose], gzip, done: false });
        }
        Ok(())
    }

    fn begin(&self) {
        if let Some(progress) = &self.settings.progress {
            progress.begin(self.machine.disks.iter().filter_map(|disk| disk.capacity).sum());
        }
    }

    /// The file that the member called `name` is of, and which piece of it.
    fn wanted(&self, name: &str) -> Option<(usize, usize)> {
        self.wanted
            .iter()
            .enumerate()
            .find_map(|(file, wanted)| wanted.pieces.iter().position(|piece| piece == name).map(|piece| (file, piece)))
    }

    /// What a member has to be hashed with: what the manifest says, or, while it has not come, all that it may say.
    fn hashers(&self, name: &str) -> Hashers {
        const ALL: [ManifestAlgorithm; 3] =
            [ManifestAlgorithm::Sha1, ManifestAlgorithm::Sha256, ManifestAlgorithm::Sha512];
        match &self.manifest {
            Some(manifest) => {
                let algorithm = manifest.entry(name).map(|entry| entry.algorithm);
                Hashers::new(algorithm.as_slice())
            }
            None if !self.manifest_may_come => Hashers::new(&[]),
            None => Hashers::new(&ALL),
        }
    }

    fn take_manifest(&mut self, text: Vec<u8>) -> Result<()> {
        match Manifest::parse(&text) {
            Ok(manifest) => self.manifest = Some(manifest),
            Err(error) if self.settings.ignore_manifest => self.warnings.push(error.to_string()),
            Err(error) => return Err(error.with_remedy("import nevertheless with --ignore-manifest")),
        }
        self.manifest_text = text;
        Ok(())
    }

    fn take_certificate(&mut self, text: &[u8]) -> Result<()> {
        match SignatureFile::parse(text) {
            Ok(signature) => self.signature = Some(signature),
            Err(error) if self.settings.ignore_manifest => self.warnings.push(error.to_string()),
            Err(error) => return Err(error.with_remedy("import nevertheless with --ignore-manifest")),
        }
        Ok(())
    }

    /// Takes a file that can be read at any place; `member` is the first of its pieces, `own` that piece's bytes.
    fn take_device(
        &mut self,
        file: usize,
        member: &Member,
        whole: &Arc<dyn BlockRead>,
        own: Arc<dyn BlockRead>,
    ) -> Result<()> {
        let name = member.plain_name().to_owned();
        let hashers = self.hashers(&name);
        let Some(disk) = self.first_disk(file) else {
            let mut hashed = Hashed::new(BufReader::with_capacity(1 << 20, DeviceReader::new(own)), hashers.clone());
            self.copy_through(file, &mut hashed)?;
            self.digests.push((name, hashers.finish()));
            return Ok(());
        };
        let hash = |own: Arc<dyn BlockRead>, hashers: Hashers| {
            let mut hashed = Hashed::new(BufReader::with_capacity(1 << 20, DeviceReader::new(own)), hashers);
            io::copy(&mut hashed, &mut io::sink()).map_err(from_io)
        };
        if self.wanted[file].gzip {
            let input = Box::new(DeviceReader::new(Arc::clone(whole)));
            self.take_stream(file, member, input)?;
            hash(own, hashers.clone())?;
            self.digests.push((name, hashers.finish()));
            return Ok(());
        }
        let source = Source::new(Arc::clone(whole)).with_path(&name);
        let format = detect(source.bytes())?.unambiguous().map_err(|error| error.context(&name))?;
        self.refuse_guess(disk, format, &name)?;
        // A disk inside an archive names no file: the archive has no folder.
        let open = OpenSettings { format: Some(format), gate: ReferenceGate::Deny, ..OpenSettings::default() };
        let opened = transload_image::open(source, &open)?;
        if let Some(file) = opened.layers.first().and_then(|layer| layer.info.backing_file.as_ref()) {
            return Err(Error::new(ErrorKind::Denied, format!("'{name}' is a layer over '{file}'")));
        }
        let second = hashers.clone();
        let report = thread::scope(|scope| {
            let hashing = scope.spawn(move || hash(own, second));
            let report = self.convert(disk, Input::Image(opened), &name);
            let hashed =
                hashing.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "internal fault while hashing")));
            report.and_then(|report| hashed.map(|_| report))
        })?;
        self.digests.push((name.clone(), hashers.finish()));
        self.disk_is_done(file, disk, &name, &report)
    }

    /// Takes a file that comes once.
    fn take_stream(&mut self, file: usize, member: &Member, mut input: Box<dyn Read + Send>) -> Result<()> {
        let name = member.plain_name().to_owned();
        let Some(disk) = self.first_disk(file) else { return self.copy_through(file, &mut input) };
        let mut size = Some(member.size);
        if self.wanted[file].gzip {
            input = Box::new(gunzip(input, self.machine.disks[disk].capacity));
            size = None;
        }
        let mut head = Vec::new();
        input.by_ref().take(ProbeWindow::HEAD as u64).read_to_end(&mut head).map_err(from_io)?;
        let detection = detect_window(&ProbeWindow { head: &head, tail: &[], size });
        let format = detection.unambiguous().map_err(|error| error.context(&name))?;
        self.refuse_guess(disk, format, &name)?;
        let remedy = "store the archive in a file and import that";
        let begin = format.stream.ok_or_else(|| {
            let text = format!("'{name}': {} cannot be read from a stream", format.title);
            Error::new(ErrorKind::Unsupported, text).with_remedy(remedy)
        })?;
        let input: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(input));
        let stream = begin(StreamRequest { input, options: &OptionValues::default() }).map_err(|error| {
            let error = error.context(&name);
            if error.kind() == ErrorKind::Unsupported { error.with_remedy(remedy) } else { error }
        })?;
        let report = self.convert(disk, Input::Stream { format, stream }, &name)?;
        self.disk_is_done(file, disk, &name, &report)
    }

    /// Refuses to take bytes of no format for a raw disk unless the descriptor says that they are one.
    fn refuse_guess(&self, disk: usize, format: &'static Format, name: &str) -> Result<()> {
        let said = self.machine.disks[disk].format.as_ref();
        if format.name != "raw" || said == Some(&DiskFormat::Raw) {
            return Ok(());
        }
        let said = said.map_or("nothing", DiskFormat::as_str);
        let text = format!("'{name}' is of no known format, and the descriptor says {said} of it");
        Err(Error::new(ErrorKind::Corrupt, text))
    }

    fn first_disk(&self, file: usize) -> Option<usize> {
        self.wanted[file].uses.iter().find_map(|purpose| match purpose {
            Use::Disk(disk) => Some(*disk),
            Use::Media(_) | Use::Nvram => None,
        })
    }

    /// The name that a file gets, which is not the one that the package gave it.
    pub(super) fn disk_name(&self, disk: usize) -> String {
        let format = self.format();
        let ending = format.extensions.first().copied().unwrap_or(format.name);
        format!("{}-disk{}.{ending}", self.stem, disk + 1)
    }

    fn format(&self) -> &'static Format {
        self.settings.format.unwrap_or(self.settings.target.format())
    }

    /// Converts a disk into the hidden folder.
    pub(super) fn convert(&self, disk: usize, input: Input, from: &str) -> Result<Report> {
        let format = self.format();
        let machine_disk = &self.machine.disks[disk];
        if let Some(progress) = &self.settings.progress {
            let size = machine_disk.capacity.unwrap_or(0);
            progress.disk(disk + 1, self.machine.disks.len(), from, size);
        }
        let settings = Settings {
            options: ImportTarget::options(format, machine_disk.address.bus)?,
            threads: self.settings.threads,
            memory: self.settings.memory,
            cancel: self.settings.cancel.clone(),
            progress: self
                .settings
                .progress
                .as_ref()
                .map(|inner| Arc::new(Part(Arc::clone(inner))) as Arc<dyn Progress>),
            ..Settings::new(format)
        };
        let output = Output::Path(self.place.staged_path().join(self.disk_name(disk)));
        Plan::new(&input, &output, &settings)?.run(input, output, &settings).map_err(|error| error.context(from))
    }

    /// Enters a converted disk, and copies it for others that are made of the same file.
    fn disk_is_done(&mut self, file: usize, disk: usize, from: &str, report: &Report) -> Result<()> {
        self.warnings.extend(report.warnings.iter().map(|warning| format!("{from}: {warning}")));
        let name = self.disk_name(disk);
        self.enter_disk(disk, name.clone(), Some(from), report.virtual_size);
        let others: Vec<_> =
            self.wanted[file].uses.iter().filter(|purpose| **purpose != Use::Disk(disk)).copied().collect();
        for other in others {
            let Use::Disk(other) = other else {
                return Err(Error::new(ErrorKind::Corrupt, format!("'{from}' is a disk and something else")));
            };
            let copy = self.disk_name(other);
            let folder = self.place.staged_path();
            fs::copy(folder.join(&name), folder.join(&copy)).map_err(|error| Error::io(copy.clone(), error))?;
            self.enter_disk(other, copy, Some(from), report.virtual_size);
        }
        self.wanted[file].done = true;
        Ok(())
    }

    pub(super) fn enter_disk(&mut self, disk: usize, name: String, from: Option<&str>, size: u64) {
        let format = self.format();
        let absolute = self.named(&name);
        let entry = &mut self.machine.disks[disk];
        // Packages round up to whole MiB.
        let told = entry.capacity.filter(|told| ![size, size.next_multiple_of(1 << 20)].contains(told));
        if let Some(told) = told {
            self.warnings.push(format!("{}: has {size} bytes, and the descriptor says {told}", entry.id));
        }
        entry.capacity = Some(size);
        entry.format = Some(DiskFormat::from_spelling(format.name));
        entry.file = Some(absolute);
        self.files.push(ImportedFile {
            name,
            kind: ImportedKind::Disk,
            from: from.map(str::to_owned),
            format: Some(format.name),
            virtual_size: Some(size),
        });
    }

    /// The name of a file in the folder as the description has it.
    fn named(&self, name: &str) -> String {
        if !self.settings.target.wants_absolute() {
            return name.to_owned();
        }
        let folder = self.settings.described_folder.as_deref().unwrap_or(self.place.final_path());
        folder.join(name).to_string_lossy().into_owned()
    }

    /// Copies a file that is no disk.
    fn copy_through(&mut self, file: usize, input: &mut dyn Read) -> Result<()> {
        let uses = self.wanted[file].uses.clone();
        let href = self.wanted[file].href.clone();
        let (ending, kind) = match uses.first() {
            Some(Use::Nvram) => ("nvram".to_owned(), ImportedKind::Nvram),
            Some(Use::Media(place)) => (format!("media{}.iso", place + 1), ImportedKind::Media),
            _ => return Ok(()),
        };
        let name = if kind == ImportedKind::Nvram {
            format!("{}.nvram", self.stem)
        } else {
            format!("{}-{ending}", self.stem)
        };
        let path = self.place.staged_path().join(&name);
        let mut output = fs::File::create_new(&path).map_err(|error| Error::io(name.clone(), error))?;
        io::copy(input, &mut output).map_err(from_io)?;
        let absolute = self.named(&name);
        for purpose in uses {
            match purpose {
                Use::Media(place) => self.machine.drives[place].media = Media::Image(absolute.clone()),
                Use::Nvram => self.machine.nvram = Some(absolute.clone()),
                Use::Disk(_) => {}
            }
        }
        self.files.push(ImportedFile { name, kind, from: Some(href), format: None, virtual_size: None });
        self.wanted[file].done = true;
        Ok(())
    }
}
