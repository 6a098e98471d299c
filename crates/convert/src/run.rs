//! Carries a plan out: prepares the target, moves the bytes, proves the result, lets it appear.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustix::fs::ioctl_ficlone;
use transload_block::{BlockRead, BlockSink, BlockWrite, Error, ErrorKind, FileBlock, Result, Slice, ZeroMode, Zeros};
use transload_image::{
    CreateRequest, Format, IdSource, OpenSettings, Opened, SinkOutput, SinkRequest, Source, TargetFiles,
};

use crate::compare::{ScanSettings, first_difference};
use crate::feed::{Feed, StreamEnd};
use crate::files::{AtomicFiles, CountedPipe, InPlace};
use crate::growing::{Growing, GrowingPipe};
use crate::hash::Digests;
use crate::job::Job;
use crate::measure::survey;
use crate::plan::{FastPath, Plan, Verification};
use crate::random::Target;
use crate::shape::Shape;
use crate::{
    DigestKind, Input, Output, Preallocation, ProgressDelta, Report, Settings, digest, ids, ordered, preflight, random,
};

/// Plans and runs a conversion.
///
/// # Errors
/// As [`Plan::new`] and [`Plan::run`].
pub fn convert(input: Input, output: Output, settings: &Settings) -> Result<Report> {
    Plan::new(&input, &output, settings)?.run(input, output, settings)
}

/// A source with its place lost: what the shapes need of it.
enum Origin {
    Device(Arc<dyn BlockRead>),
    Stream(StreamEnd),
}

/// Where the image is made.
enum Place {
    Files(AtomicFiles),
    Device(InPlace, PathBuf),
}

impl Place {
    fn files(&self) -> &dyn TargetFiles {
        match self {
            Self::Files(files) => files,
            Self::Device(device, _) => device,
        }
    }

    /// Where the image will be.
    fn path(&self) -> PathBuf {
        match self {
            Self::Files(files) => files.final_path(),
            Self::Device(_, path) => path.clone(),
        }
    }

    fn written(&self) -> u64 {
        match self {
            Self::Files(files) => files.written(),
            Self::Device(device, _) => device.written(),
        }
    }
}

impl Plan {
    /// Converts as planned. `input`, `output` and `settings` are those that the plan was made from.
    ///
    /// On an error, and when it is cancelled, nothing stands under the target's name that was not there before, and
    /// nothing is left behind; only a block device, which is written in place, keeps what was written to it.
    ///
    /// # Errors
    /// `Cancelled`; `NoSpace`; `Checksum` when the result is read back and differs; `Denied` when the target appeared
    /// meanwhile; what the source, the target's format and the operating system answer.
    pub fn run(self, input: Input, output: Output, settings: &Settings) -> Result<Report> {
        let started = Instant::now();
        settings.cancel.check()?;
        let sources = preflight::source_files(&input);
        let mut report = Report { warnings: warnings(&input), ..Report::default() };
        let mut origin = match input {
            Input::Image(opened) => Origin::Device(opened.device),
            Input::Stream { stream, .. } => Origin::Stream(StreamEnd::new(stream)),
        };
        let ids = match (&settings.seed, &mut origin) {
            (Some(seed), _) => ids::from_seed(seed),
            (None, Origin::Device(device)) => ids::from_device(device.as_ref())?,
            (None, Origin::Stream(stream)) => ids::from_stream(stream)?,
        };
        let mut kinds = settings.digests.clone();
        kinds.extend((self.verification == Some(Verification::Digest)).then_some(DigestKind::Blake3));
        let run = Run { plan: &self, settings, ids: &ids, digests: Digests::new(&kinds), hashing: !kinds.is_empty() };
        match output {
            Output::Pipe(pipe) => run.into_pipe(origin, pipe, &mut report)?,
            Output::Path(path) => {
                let place = run.place(&path, sources)?;
                run.into_place(origin, place, &mut report)?;
            }
            Output::Storage { name, storage } => {
                let device = InPlace::over(name.clone(), storage);
                run.refuse_small(&device, Path::new(&name))?;
                run.into_place(origin, Place::Device(device, name.into()), &mut report)?;
            }
        }
        report.elapsed_milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}

/// What the layers of a source would have the user know.
fn warnings(input: &Input) -> Vec<String> {
    let Input::Image(opened) = input else { return Vec::new() };
    let mut warnings = Vec::new();
    for layer in &opened.layers {
        let name = layer.source.display_name();
        warnings.extend(layer.info.warnings.iter().map(|warning| format!("{name}: {warning}")));
        if layer.info.corrupt {
            warnings.push(format!("{name}: is marked as corrupt"));
        }
        if layer.info.dirty {
            warnings.push(format!("{name}: was not closed properly"));
        }
    }
    warnings
}

/// One conversion that is under way.
struct Run<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    ids: &'a IdSource,
    digests: Digests,
    hashing: bool,
}

impl Run<'_> {
    fn job(&self) -> Job<'_> {
        Job::new(&self.settings.cancel, self.settings.progress.as_deref())
    }

    fn begin(&self, size: u64) {
        if let Some(progress) = &self.settings.progress {
            progress.begin(size);
        }
    }

    fn into_pipe(mut self, origin: Origin, pipe: Box<dyn std::io::Write + Send>, report: &mut Report) -> Result<()> {
        let written = Arc::new(AtomicU64::new(0));
        let pipe = Box::new(CountedPipe::new(pipe, Arc::clone(&written)));
        let name = self.settings.pipe_name.as_deref().unwrap_or("disk");
        self.ordered(origin, SinkOutput::Pipe(pipe), name, report)?;
        report.written = written.load(Ordering::Relaxed);
        Ok(())
    }

    /// Where the image at `path` is made.
    fn place(&self, path: &Path, sources: Vec<transload_image::FileIdentity>) -> Result<Place> {
        match self.plan.destination {
            crate::Destination::BlockDevice => {
                preflight::refuse_overlap(path, &sources)?;
                let device = InPlace::open(path)?;
                self.refuse_small(&device, path)?;
                if let Some(tell) = self.settings.on_device {
                    tell(path);
                }
                Ok(Place::Device(device, path.to_owned()))
            }
            _ => {
                if self.settings.preallocation != Preallocation::Off {
                    preflight::refuse_full(path, self.plan.virtual_size.unwrap_or(0))?;
                }
                Ok(Place::Files(AtomicFiles::create(path, self.settings.force, sources)?))
            }
        }
    }

    fn into_place(mut self, origin: Origin, place: Place, report: &mut Report) -> Result<()> {
        let source = match &origin {
            Origin::Device(device) => Some(Arc::clone(device)),
            Origin::Stream(_) => None,
        };
        match self.plan.shape {
            Shape::Random => self.random(origin, &place, report)?,
            Shape::Ordered => {
                let name = place.files().name().to_owned();
                self.ordered(origin, SinkOutput::Files(place.files()), &name, report)?;
            }
        }
        self.verify(source, &place, report)?;
        self.settings.cancel.check()?;
        report.written = place.written();
        match place {
            Place::Files(files) => files.commit(),
            Place::Device(device, _) => device.primary()?.flush(),
        }
    }

    /// Refuses a block device that cannot hold the disk whatever is on it.
    fn refuse_small(&self, device: &InPlace, path: &Path) -> Result<()> {
        let (size, wanted) = (device.size(), self.plan.virtual_size.unwrap_or(0));
        if self.plan.target == "raw" && size < wanted {
            let text = format!("{}: has {size} bytes, the disk {wanted}", path.display());
            return Err(Error::new(ErrorKind::NoSpace, text).with_remedy("choose a larger device"));
        }
        Ok(())
    }

    fn random(&mut self, origin: Origin, place: &Place, report: &mut Report) -> Result<()> {
        let plan = self.plan;
        let Some(size) = plan.virtual_size else { return self.random_growing(origin, place, report) };
        let format = self.settings.format;
        let create = format.create.ok_or_else(|| unwritable(format))?;
        let backing = self.open_backing(place)?;
        let image = create(CreateRequest {
            files: place.files(),
            size,
            options: &plan.values,
            ids: self.ids,
            backing: backing.as_ref().and_then(|opened| opened.layers.first()),
            cache_bytes: usize::try_from(plan.table_bytes).unwrap_or(usize::MAX),
        })?;
        self.begin(size);
        let backed = plan.values.text("backing_file").is_some();
        let limits = image.limits();
        let target = Target {
            device: &*image,
            granule: granule(limits.granularity),
            fresh: matches!(place, Place::Files(_)) && !backed,
            backed,
            zero_mode: match self.settings.preallocation {
                Preallocation::Off => ZeroMode::Unmap,
                Preallocation::Falloc | Preallocation::Full => ZeroMode::KeepAllocated,
            },
        };
        report.virtual_size = size;
        if let Origin::Device(device) = &origin
            && plan.fast_paths.contains(&FastPath::Reflink)
            && reflink(device.as_ref(), target.device)
        {
            self.job().advance(ProgressDelta { copied: size, ..ProgressDelta::default() });
            report.copied = size;
            return image.finish();
        }
        self.copy_random(origin, &target, report)?;
        self.settings.cancel.check()?;
        image.finish()
    }

    /// Opens the file that the option `backing_file` names, which is relative to where the target will be.
    fn open_backing(&self, place: &Place) -> Result<Option<Opened>> {
        let Some(name) = self.plan.values.text("backing_file") else { return Ok(None) };
        let path = place.path().parent().unwrap_or(Path::new("")).join(name);
        let format = match self.plan.values.text("backing_fmt") {
            Some(name) => Some(Format::by_name(name).ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, format!("option backing_fmt={name}: no such format"))
            })?),
            None => None,
        };
        let settings = OpenSettings { format, chain: false, ..OpenSettings::default() };
        let bytes: Arc<dyn BlockRead> = Arc::new(FileBlock::open(&path, false)?);
        transload_image::open(Source::new(bytes).with_path(path), &settings).map(Some)
    }

    /// Writes a raw file whose size the source tells by ending.
    fn random_growing(&mut self, origin: Origin, place: &Place, report: &mut Report) -> Result<()> {
        let growing = Growing::new(place.files().primary()?);
        let granule = granule(growing.limits().granularity);
        let target = Target { device: &growing, granule, fresh: true, backed: false, zero_mode: ZeroMode::Unmap };
        self.copy_random(origin, &target, report)?;
        report.virtual_size = report.copied + report.skipped;
        growing.finish(report.virtual_size)
    }

    fn copy_random(&mut self, origin: Origin, target: &Target<'_>, report: &mut Report) -> Result<()> {
        let share = self.plan.sizing.of(target.granule as u64);
        let feed = feed(origin, target.granule as u64, share.span);
        let settings = self.settings;
        let job = Job::new(&settings.cancel, settings.progress.as_deref());
        let digests = self.hashing.then_some(&mut self.digests);
        random::copy(&job, &feed, target, share.crew, digests)?;
        (report.copied, report.skipped) = job.counts();
        self.take_digests(report);
        Ok(())
    }

    fn ordered(&mut self, origin: Origin, output: SinkOutput<'_>, name: &str, report: &mut Report) -> Result<()> {
        let plan = self.plan;
        let settings = self.settings;
        let format = settings.format;
        let Some(size) = plan.virtual_size else { return self.ordered_growing(origin, output, report) };
        // A pipe cannot be gone back in: what stands in front has to be known.
        let extents = match (&output, &origin) {
            (SinkOutput::Pipe(_), Origin::Device(device)) => Some(survey(device.as_ref(), &settings.cancel)?),
            _ => None,
        };
        let sink = format.sink.ok_or_else(|| unwritable(format))?(SinkRequest {
            output,
            name,
            size,
            options: &plan.values,
            level: plan.level,
            ids: self.ids,
            extents: extents.as_deref(),
        })?;
        self.begin(size);
        self.copy_ordered(origin, sink, report)?.finish()?;
        report.virtual_size = size;
        self.take_digests(report);
        Ok(())
    }

    /// Writes a raw disk to a pipe whose size the source tells by ending.
    fn ordered_growing(&mut self, origin: Origin, output: SinkOutput<'_>, report: &mut Report) -> Result<()> {
        let SinkOutput::Pipe(pipe) = output else { return Err(unwritable(self.settings.format)) };
        let end = Arc::new(OnceLock::new());
        let sink = Box::new(GrowingPipe::new(pipe, Arc::clone(&end)));
        let sink = self.copy_ordered(origin, sink, report)?;
        report.virtual_size = report.copied + report.skipped;
        // Nobody else has set it.
        end.get_or_init(|| report.virtual_size);
        sink.finish()?;
        self.take_digests(report);
        Ok(())
    }

    fn copy_ordered(
        &mut self,
        origin: Origin,
        sink: Box<dyn BlockSink>,
        report: &mut Report,
    ) -> Result<Box<dyn BlockSink>> {
        let settings = self.settings;
        let unit = sink.encoder().unit_size();
        let share = self.plan.sizing.of(unit);
        let feed = feed(origin, unit, share.span);
        let job = Job::new(&settings.cancel, settings.progress.as_deref());
        let digests = self.hashing.then_some(&mut self.digests);
        let sink = ordered::copy(&job, &feed, sink, share.crew, self.plan.trust_source, digests)?;
        settings.cancel.check()?;
        (report.copied, report.skipped) = job.counts();
        Ok(sink)
    }

    fn take_digests(&self, report: &mut Report) {
        report.digests = self.settings.digests.iter().filter_map(|kind| self.digests.finish(*kind)).collect();
    }

    /// Reads the finished image back.
    fn verify(&self, source: Option<Arc<dyn BlockRead>>, place: &Place, report: &mut Report) -> Result<()> {
        let Some(verification) = self.plan.verification else { return Ok(()) };
        let target = self.reopen(place)?;
        let scan = ScanSettings {
            threads: self.settings.threads,
            progress: self.settings.progress.clone(),
            cancel: self.settings.cancel.clone(),
        };
        let size = report.virtual_size;
        if target.size() < size {
            let text = format!("the result has {} bytes, the source {size}", target.size());
            return Err(Error::new(ErrorKind::Checksum, text));
        }
        // A format that counts in sectors or more ends in zeroes behind a disk of another size; a block device ends in
        // what was there before.
        let end = if matches!(place, Place::Device(..)) { size } else { target.size() };
        match (verification, source) {
            (Verification::Compare, Some(source)) => {
                self.begin(end);
                if let Some(offset) = first_difference(source.as_ref(), target.as_ref(), end, &scan)? {
                    let text = format!("the result differs from the source at guest offset {offset}");
                    return Err(Error::new(ErrorKind::Checksum, text));
                }
            }
            _ => {
                let whole: Arc<dyn BlockRead> = Arc::new(Slice::new(Arc::clone(&target), 0..size)?);
                let rest = Slice::new(target, size..end)?;
                if let Some(offset) = first_difference(&Zeros::new(0), &rest, end - size, &scan)? {
                    let text = format!("the result is not zero at guest offset {}, behind the source", size + offset);
                    return Err(Error::new(ErrorKind::Checksum, text));
                }
                let found = digest(&whole, &[DigestKind::Blake3], &scan)?;
                let wanted = self.digests.finish(DigestKind::Blake3);
                if found.first() != wanted.as_ref() {
                    return Err(Error::new(ErrorKind::Checksum, "the result's BLAKE3 digest is not the source's"));
                }
            }
        }
        report.verified = true;
        Ok(())
    }

    fn reopen(&self, place: &Place) -> Result<Arc<dyn BlockRead>> {
        let settings = OpenSettings {
            format: Some(self.settings.format),
            cache_bytes: usize::try_from(self.plan.table_bytes).unwrap_or(usize::MAX),
            ..OpenSettings::default()
        };
        let (path, known_as) = match place {
            Place::Device(device, path) if self.plan.destination == crate::Destination::Storage => {
                let source = Source::new(device.primary()?).with_path(path);
                return Ok(transload_image::open(source, &settings)?.device);
            }
            // A backing file is named relative to where the image will be, extents to where they are now.
            Place::Files(files) if self.plan.values.text("backing_file").is_some() => {
                (files.staged_path(), files.final_path())
            }
            Place::Files(files) => (files.staged_path(), files.staged_path()),
            Place::Device(_, path) => (path.clone(), path.clone()),
        };
        let bytes: Arc<dyn BlockRead> = Arc::new(FileBlock::open(&path, false)?);
        let opened = transload_image::open(Source::new(bytes).with_path(known_as), &settings)?;
        Ok(opened.device)
    }
}

fn feed(origin: Origin, align: u64, span: u64) -> Feed {
    match origin {
        Origin::Device(device) => Feed::device(device, align, span),
        Origin::Stream(stream) => Feed::stream(stream, align, span),
    }
}

/// What is tested for zero at once: the target's unit, but not less than a page and not more than a task.
fn granule(granularity: u32) -> usize {
    usize::try_from(granularity.clamp(4096, 2 << 20)).unwrap_or(4096)
}

fn unwritable(format: &Format) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{} is not written so", format.name))
}

/// Has the file system share all blocks of both files, where both disks are a whole file and it can. `false` means that
/// nothing has changed.
fn reflink(source: &dyn BlockRead, target: &dyn BlockWrite) -> bool {
    fn whole_file(device: &(impl BlockRead + ?Sized), size: u64) -> Option<&std::fs::File> {
        let host = device.capabilities().host_extents?.host_extent(0..size).ok()?;
        let location = host.location.filter(|location| host.length == size && location.offset == 0)?;
        let exact = location.file.metadata().ok().is_some_and(|metadata| metadata.is_file() && metadata.len() == size);
        exact.then_some(location.file)
    }
    let size = source.size();
    if size == 0 || target.size() != size {
        return false;
    }
    match (whole_file(source, size), whole_file(target, size)) {
        (Some(source), Some(target)) => ioctl_ficlone(target, source).is_ok(),
        _ => false,
    }
}
