//! Jobs that put the files of a disk into an archive.

use std::fmt;
use std::sync::Arc;

use serde_json::json;
use transload::archive::{self, CreateSettings, DiskSource, OpenSettings, Parent, Repository, Watch};
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, Progress, ProgressDelta};
use transload::volume::{ReadSettings, Volumes};

use super::{Context, Made, Produced};
use crate::meter::Meter;
use crate::model::{ArchiveJob, JobResult, Location};

/// The password of archives, which no message shows.
#[derive(Clone)]
pub struct Password(Arc<[u8]>);

impl Password {
    /// Takes the password over.
    #[must_use]
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(password.into().into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Makes a snapshot. An archive is safe against writers that end in the middle by itself: what was stored counts only once the
/// snapshot that needs it is there, and what no snapshot needs `transload archive compact` removes.
pub(super) fn create(context: &Context, job: &ArchiveJob) -> Result<Produced> {
    let password = context.password.as_ref().ok_or_else(|| {
        let error = Error::new(ErrorKind::Unsupported, "the service has no password for archives");
        error.with_remedy("start it with one")
    })?;
    let Location::Path(target) = &job.target else {
        return Err(Error::new(ErrorKind::InvalidInput, "target: has to be a folder under the root"));
    };
    let prepared = context.prepare(&job.source, &job.read)?;
    let format = prepared.format;
    let device = prepared.open()?.device;
    let volumes = Volumes::scan(&device, &[], ReadSettings::default())?;
    let capacity = device.size();
    let name = job.disk.clone().unwrap_or_else(|| stem(job.source.file_name()));
    let origin = job.source.shown();
    let disk = DiskSource { name, origin, format: format.name.to_owned(), device, volumes };
    context.root.create_parents(target)?;
    let folder = context.root.resolve_new(target)?;
    if !Repository::is_at(&folder) {
        Repository::create(&folder, &password.0)?;
    }
    let cache_bytes = context.cache_bytes();
    let repository = Repository::open(&folder, &password.0, OpenSettings { cache_bytes })?;
    let mut warnings = repository.notes().to_vec();
    let settings = CreateSettings {
        hostname: job.host.clone(),
        tags: job.tags.clone(),
        parent: if job.reread { Parent::None } else { Parent::Latest },
        threads: context.threads(job.run.threads).get(),
        ..CreateSettings::default()
    };
    let watch = Watching { meter: Arc::clone(&context.meter), cancel: context.cancel.clone() };
    let report = archive::create(&repository, std::slice::from_ref(&disk), &settings, &watch)?;
    warnings.extend(report.warnings.iter().cloned());
    Ok(Produced {
        result: JobResult {
            output: Some(job.target.shown()),
            format: Some("archive".to_owned()),
            written_bytes: report.stored,
            capacity_bytes: capacity,
            sound: Some(report.left_out == 0),
            details: json!({
                "archive": job.target.shown(),
                "snapshot": report.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()),
                "disks": [disk.name],
                "files": report.files,
                "folders": report.folders,
                "others": report.others,
                "unchanged": report.unchanged,
                "excluded": report.excluded,
                "left-out": report.left_out,
                "bytes": report.bytes,
                "new-chunks": report.new_blobs,
                "stored": report.stored,
            }),
            ..JobResult::default()
        },
        warnings,
        made: Made::Nothing,
        force: false,
    })
}

/// A name without its ending.
fn stem(name: &str) -> String {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

/// Who is told how far the archive is, and says when to stop.
struct Watching {
    meter: Arc<Meter>,
    cancel: Cancel,
}

impl Watch for Watching {
    fn wants_total(&self) -> bool {
        true
    }

    fn begin(&self, total: u64) {
        self.meter.begin(total);
    }

    fn read(&self, bytes: u64) {
        self.meter.advance(ProgressDelta { copied: bytes, ..ProgressDelta::default() });
    }

    fn written(&self, bytes: u64) {
        self.meter.advance(ProgressDelta { written: bytes, ..ProgressDelta::default() });
    }

    fn check(&self) -> Result<()> {
        self.cancel.check()
    }
}
