//! A conversion that can be taken up again where it was interrupted.
//!
//! ```text
//! .NAME.resume/   NAME …                  the files of the image, not whole yet
//!                 transload.checkpoint    what is converted, and up to which guest byte the result is safe
//!
//! window of the disk ──► copied as ever ──► some seconds passed? flush the image ──► then, and only then, the checkpoint ──► next
//! ```
//!
//! What a checkpoint promises is what [`flush`](transload_block::BlockWrite::flush) promises: all bytes in front of its place survive a
//! crash. What lies behind it is copied again. The same source writes the same bytes there, and none where it has zeroes, so that what
//! an interrupted window left behind does no harm; clusters that it left without owner are found by a check of the image before it is
//! taken up.
//!
//! Only what is written at any place can be taken up: a target that is made from front to back is whole or nothing. The layout of
//! an image that was taken up may differ from one that was made in one go; the guest's bytes do not.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result, Slice, ZeroMode};
use transload_image::{Access, CheckRequest, CreateRequest, Format, ImageWrite, OpenSettings, ReferenceGate, Source};

use crate::compare::{ScanSettings, first_difference};
use crate::feed::Feed;
use crate::files::{AtomicFiles, CHECKPOINT, CHECKPOINT_LOCK, CHECKPOINT_NEXT};
use crate::job::Job;
use crate::random::Target;
use crate::shape::Shape;
use crate::{
    Destination, Input, Output, Plan, Preallocation, ProgressDelta, Report, Settings, digest, ids, preflight, random,
};

/// What is copied between two looks at the clock: a multiple of every unit that targets allocate in.
const WINDOW: u64 = 32 << 20;

/// How often a checkpoint is written at most: a flush makes everybody wait for the disk.
const INTERVAL: Duration = Duration::from_secs(2);

/// Converts `input` into a file at `path`, going on where an earlier call for the same was interrupted.
///
/// `mark` stands for the state of the source: size and entity tag, or size and time of change. A checkpoint with another mark, or of
/// other settings, is of no use, and the conversion begins anew. After an error the checkpoint and what is there of the image stay in
/// the hidden folder `.NAME.resume` beside the target; after success nothing of it is left.
///
/// # Errors
/// `Unsupported` for a source that comes once and a target that is written from front to back; `Denied` when another process is at it;
/// otherwise as [`Plan::new`] and [`Plan::run`].
pub fn convert_resumable(input: Input, path: &Path, mark: &str, settings: &Settings) -> Result<Report> {
    let started = Instant::now();
    let output = Output::Path(path.to_owned());
    let plan = Plan::new(&input, &output, settings)?;
    refuse_others(&plan)?;
    let avoid = preflight::source_files(&input);
    let Input::Image(opened) = input else { return Err(not_twice("a source that comes once")) };
    let source = opened.device;
    let files = AtomicFiles::resumable(path, settings.force, avoid)?;
    let folder = files.staging_folder();
    let checkpoint = Checkpoint::at(&folder, &subject(&plan, mark, settings))?;
    let work = Work { plan: &plan, settings, source: &source };
    let mut report = work.run(files, &checkpoint).inspect_err(|_| {
        // Without a checkpoint there is nothing to go on with.
        if !checkpoint.path.exists() {
            drop(fs::remove_dir_all(&folder));
        }
    })?;
    // The image has its name; a folder that cannot be removed is no failure of the conversion.
    drop(fs::remove_dir_all(folder));
    report.elapsed_milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

fn not_twice(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} cannot be taken up again after an interruption"))
        .with_remedy("leave out --resume")
}

fn refuse_others(plan: &Plan) -> Result<()> {
    if plan.streamed {
        return Err(not_twice("a source that comes once, from front to back,"));
    }
    if plan.shape != Shape::Random {
        return Err(not_twice("a target that is compressed, or written from front to back,"));
    }
    if plan.destination != Destination::File {
        return Err(not_twice("a target that is no file"));
    }
    if plan.values.text("backing_file").is_some() {
        return Err(not_twice("a target with a backing file"));
    }
    Ok(())
}

/// Everything that the result depends on, in one line.
fn subject(plan: &Plan, mark: &str, settings: &Settings) -> String {
    let options: Vec<_> = plan.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let size = plan.virtual_size.unwrap_or_default();
    let seed = settings.seed.as_deref().unwrap_or_default();
    let preallocation = settings.preallocation;
    let text =
        format!("{} {} {size} {mark} seed={seed} {preallocation:?} {}", plan.source, plan.target, options.join(","));
    text.replace(['\n', '\r'], " ")
}

/// The file that says how far it is. It is locked for as long as somebody is at it.
struct Checkpoint {
    path: PathBuf,
    subject: String,
    _lock: File,
}

/// The first line of a checkpoint.
const MAGIC: &str = "transload checkpoint 1";

impl Checkpoint {
    fn at(folder: &Path, subject: &str) -> Result<Self> {
        let path = folder.join(CHECKPOINT_LOCK);
        let fail = |error| Error::io(path.display().to_string(), error);
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let text = format!("{}: another process is at this conversion", folder.display());
                return Err(Error::new(ErrorKind::Denied, text).with_remedy("wait for it, or end it"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        Ok(Self { path: folder.join(CHECKPOINT), subject: subject.to_owned(), _lock: lock })
    }

    /// Up to which guest byte the image is safe, where the checkpoint is of the same conversion.
    fn done(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        let same = lines.next() == Some(MAGIC) && lines.next() == Some(self.subject.as_str());
        lines.next().filter(|_| same)?.parse().ok()
    }

    fn write(&self, done: u64) -> Result<()> {
        let fail = |error| Error::io(self.path.display().to_string(), error);
        let next = self.path.with_file_name(CHECKPOINT_NEXT);
        let mut file = File::create(&next).map_err(fail)?;
        write!(file, "{MAGIC}\n{}\n{done}\n", self.subject).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        fs::rename(&next, &self.path).map_err(fail)
    }
}

struct Work<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    source: &'a Arc<dyn BlockRead>,
}

impl Work<'_> {
    fn run(&self, files: AtomicFiles, checkpoint: &Checkpoint) -> Result<Report> {
        let mut report = Report { virtual_size: self.source.size(), ..Report::default() };
        let (image, done) = self.image(&files, checkpoint, &mut report)?;
        if let Some(progress) = &self.settings.progress {
            progress.begin(self.source.size());
            progress.advance(ProgressDelta { skipped: done, ..ProgressDelta::default() });
        }
        self.copy(&image, done, checkpoint, &mut report)?;
        image.finish()?;
        drop(image);
        self.prove(&files, &mut report)?;
        self.settings.cancel.check()?;
        report.written = files.written();
        files.commit()?;
        Ok(report)
    }

    /// The image, and up to where it is done: the one that is there, or a new one.
    fn image(
        &self,
        files: &AtomicFiles,
        checkpoint: &Checkpoint,
        report: &mut Report,
    ) -> Result<(Arc<dyn ImageWrite>, u64)> {
        if let Some(done) = checkpoint.done().filter(|done| *done <= self.source.size() && done.is_multiple_of(WINDOW))
        {
            match self.reopen(files) {
                Ok(image) => {
                    report.warnings.push(format!("went on at {done} of {} bytes", self.source.size()));
                    return Ok((image, done));
                }
                Err(error) => {
                    report.warnings.push(format!("began anew, as what was there cannot be taken up: {error}"));
                }
            }
        } else if checkpoint.path.exists() {
            let text =
                "began anew: the source, the target's options or its format are not those of the interrupted run";
            report.warnings.push(text.to_owned());
        }
        files.clear()?;
        let format = self.settings.format;
        let create = format.create.ok_or_else(|| not_twice("this format"))?;
        let ids = match self.settings.seed.as_deref() {
            Some(seed) => ids::from_seed(seed),
            None => ids::from_device(self.source.as_ref())?,
        };
        let image = create(CreateRequest {
            files,
            size: self.source.size(),
            options: &self.plan.values,
            ids: &ids,
            backing: None,
            cache_bytes: self.cache_bytes(),
        })?;
        Ok((image, 0))
    }

    fn cache_bytes(&self) -> usize {
        usize::try_from(self.plan.table_bytes).unwrap_or(usize::MAX)
    }

    fn open_settings(&self, access: Access) -> OpenSettings {
        let (format, cache_bytes) = (Some(self.settings.format), self.cache_bytes());
        OpenSettings { format, access, cache_bytes, ..OpenSettings::default() }
    }

    /// Opens the image of an interrupted run, after what it left without owner was collected.
    fn reopen(&self, files: &AtomicFiles) -> Result<Arc<dyn ImageWrite>> {
        let path = files.staged_path();
        let format: &Format = self.settings.format;
        if let Some(check) = format.check {
            let source = Source::from_path(&path, Access::ReadWrite)?;
            let found = check(CheckRequest { source, gate: &ReferenceGate::SameDirectory, repair: true })?;
            if found.corruptions > found.corruptions_fixed {
                return Err(Error::new(ErrorKind::Corrupt, format!("{} errors remain", found.corruptions)));
            }
        }
        let mut opened = transload_image::open(
            Source::from_path(&path, Access::ReadWrite)?,
            &self.open_settings(Access::ReadWrite),
        )?;
        let writer = opened.layers.first_mut().and_then(|top| top.writer.take());
        let writer = writer.ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the image cannot be opened for writing"))?;
        if writer.size() < self.source.size() {
            return Err(Error::new(ErrorKind::Corrupt, format!("the image has {} bytes", writer.size())));
        }
        files.adopt_all()?;
        Ok(writer)
    }

    /// Copies the disk from `done` on, window by window.
    fn copy(&self, image: &Arc<dyn ImageWrite>, done: u64, checkpoint: &Checkpoint, report: &mut Report) -> Result<()> {
        let size = self.source.size();
        let granule = usize::try_from(image.limits().granularity.clamp(4096, 2 << 20)).unwrap_or(4096);
        let share = self.plan.sizing.of(granule as u64);
        let zero_mode = match self.settings.preallocation {
            Preallocation::Off => ZeroMode::Unmap,
            Preallocation::Falloc | Preallocation::Full => ZeroMode::KeepAllocated,
        };
        report.skipped = done;
        let mut safe = Instant::now();
        let mut start = done;
        while start < size {
            let end = size.min(start + WINDOW);
            let window: Arc<dyn BlockRead> = Arc::new(Slice::new(Arc::clone(self.source), start..end)?);
            let place = Slice::writable(Arc::clone(image) as Arc<dyn BlockWrite>, start..end)?;
            let target = Target { device: &place, granule, fresh: true, backed: false, zero_mode };
            let job = Job::new(&self.settings.cancel, self.settings.progress.as_deref());
            let copied =
                random::copy(&job, &Feed::device(window, granule as u64, share.span), &target, share.crew, None);
            if let Err(error) = copied {
                // Whoever stops it wants to go on later: what the windows before brought is made safe. The error stays the error.
                if start > done {
                    drop(image.flush().and_then(|()| checkpoint.write(start)));
                }
                return Err(error);
            }
            let (copied, skipped) = job.counts();
            report.copied += copied;
            report.skipped += skipped;
            start = end;
            if safe.elapsed() >= INTERVAL && start < size {
                image.flush()?;
                checkpoint.write(start)?;
                safe = Instant::now();
            }
        }
        Ok(())
    }

    /// Reads the finished image back, for the proof and for digests: an interrupted run has not seen all bytes.
    fn prove(&self, files: &AtomicFiles, report: &mut Report) -> Result<()> {
        if self.plan.verification.is_none() && self.settings.digests.is_empty() {
            return Ok(());
        }
        let source = Source::from_path(&files.staged_path(), Access::ReadOnly)?;
        let target = transload_image::open(source, &self.open_settings(Access::ReadOnly))?.device;
        let scan =
            ScanSettings { threads: self.settings.threads, progress: None, cancel: self.settings.cancel.clone() };
        if self.plan.verification.is_some() {
            if let Some(offset) = first_difference(self.source.as_ref(), target.as_ref(), target.size(), &scan)? {
                let text = format!("the result differs from the source at guest offset {offset}");
                return Err(Error::new(ErrorKind::Checksum, text));
            }
            report.verified = true;
        }
        let whole: Arc<dyn BlockRead> = Arc::new(Slice::new(target, 0..self.source.size())?);
        if !self.settings.digests.is_empty() {
            report.digests = digest(&whole, &self.settings.digests, &scan)?;
        }
        Ok(())
    }
}
