//! Jobs on one disk image: convert, digest, check.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{
    Compression, CompressionKind, DigestKind, GuestDigest, Input, Output, Plan, Preallocation, Progress, ScanSettings,
    Settings, image_files,
};
use transload::image::{CheckRequest, FORMATS, FileIdentity, Format, OptionValues};

use super::source::{Wish, known_format};
use super::target::Place;
use super::{Context, Made, Produced, details};
use crate::model::{CheckJob, Codec, ConvertJob, Digest, DigestJob, DigestName, JobResult, Prealloc};

pub(super) fn convert(context: &Context, job: &ConvertJob) -> Result<Produced> {
    let format = target_format(job)?;
    let settings = settings(context, job, format)?;
    let place = context.place(&job.target, job.force)?;
    let beside = match &place {
        Place::Staged(staging) => staging.folder().to_owned(),
        // There is nowhere else to store a disk while it is on its way from one address to another.
        Place::Uploaded(_) => std::env::temp_dir(),
    };
    let wish = Wish { spool: job.spool.then_some(&*beside), folder: &beside, sized: format.name != "raw" };
    let input = context.input(&job.source, &job.read, &wish)?;
    let output = match &place {
        Place::Staged(staging) => {
            refuse_source(&input, staging.target())?;
            Output::Path(staging.path())
        }
        Place::Uploaded(upload) => Output::Pipe(Box::new(upload.writer())),
    };
    let plan = Plan::new(&input, &output, &settings)?;
    let report = plan.run(input, output, &settings)?;
    let fields =
        [("source", json!(job.source.shown())), ("target", json!(job.target.shown())), ("format", json!(format.name))];
    Ok(Produced {
        result: JobResult {
            output: Some(job.target.shown()),
            format: Some(format.name.to_owned()),
            written_bytes: report.written,
            capacity_bytes: report.virtual_size,
            digests: report.digests.iter().map(digest_of).collect(),
            details: details(&report, &fields)?,
            ..JobResult::default()
        },
        warnings: report.warnings,
        made: place.made(),
        force: job.force,
    })
}

/// The target's format: the one that was asked for, or the one that the name's ending stands for.
fn target_format(job: &ConvertJob) -> Result<&'static Format> {
    let format = match job.format.as_deref() {
        Some(name) => Some(known_format("format", name)?),
        None => Format::by_extension(job.target.file_name()),
    };
    let writable = |format: &&Format| format.create.is_some() || format.sink.is_some();
    format.filter(writable).ok_or_else(|| {
        let names: Vec<_> = FORMATS.iter().copied().filter(writable).map(|format| format.name).collect();
        let text = format!("{}: no format that can be written", job.target.shown());
        Error::new(ErrorKind::InvalidInput, text).with_remedy(format!("name one in `format`: {}", names.join(", ")))
    })
}

fn settings(context: &Context, job: &ConvertJob, format: &'static Format) -> Result<Settings> {
    let mut options = OptionValues::default();
    for (key, value) in &job.options {
        options.set(format.create_options, key, value).map_err(|error| error.context("options"))?;
    }
    let level = job.level.as_deref().map(str::parse).transpose()?;
    let kind = match job.compress {
        Some(Codec::Zlib) => Some(CompressionKind::Zlib),
        Some(Codec::Zstd) => Some(CompressionKind::Zstd),
        Some(Codec::Auto) | None => None,
    };
    let compression =
        (job.compress.is_some() || level.is_some()).then(|| Compression { kind, level: level.unwrap_or_default() });
    let mut digests: Vec<DigestKind> = Vec::new();
    for name in &job.digests {
        let kind = kind_of(*name);
        if !digests.contains(&kind) {
            digests.push(kind);
        }
    }
    Ok(Settings {
        options,
        compression,
        threads: Some(context.threads(job.run.threads)),
        memory: context.memory,
        preallocation: match job.prealloc {
            Prealloc::Off => Preallocation::Off,
            Prealloc::Falloc => Preallocation::Falloc,
            Prealloc::Full => Preallocation::Full,
        },
        verify: job.verify,
        digests,
        seed: job.seed.clone(),
        pipe_name: Some(job.target.file_name().to_owned()),
        progress: Some(Arc::clone(&context.meter) as Arc<dyn Progress>),
        cancel: context.cancel.clone(),
        ..Settings::new(format)
    })
}

/// Refuses to replace a file that the source is read from. The engine sees only the staged file, which is none.
fn refuse_source(input: &Input, target: &Path) -> Result<()> {
    let (Input::Image(opened), Ok(metadata)) = (input, fs::metadata(target)) else { return Ok(()) };
    let there = FileIdentity { device: metadata.dev(), inode: metadata.ino() };
    if image_files(opened).contains(&there) {
        let error = Error::new(ErrorKind::InvalidInput, "target: is a file that the source is read from");
        return Err(error.with_remedy("write to another name"));
    }
    Ok(())
}

pub(super) fn digest(context: &Context, job: &DigestJob) -> Result<Produced> {
    let prepared = context.prepare(&job.source, &job.read)?;
    let format = prepared.format;
    let device = prepared.open()?.device;
    let settings = ScanSettings {
        threads: Some(context.threads(job.run.threads)),
        progress: Some(Arc::clone(&context.meter) as Arc<dyn Progress>),
        cancel: context.cancel.clone(),
    };
    let digests = transload::convert::digest(&device, &[kind_of(job.algorithm)], &settings)?;
    let images: Vec<_> = digests
        .iter()
        .map(|digest| {
            json!({ "image": job.source.shown(), "virtual-size": device.size(), "algorithm": digest.algorithm, "hex": digest.hex })
        })
        .collect();
    Ok(Produced {
        result: JobResult {
            format: Some(format.name.to_owned()),
            capacity_bytes: device.size(),
            digests: digests.iter().map(digest_of).collect(),
            details: json!({ "images": images }),
            ..JobResult::default()
        },
        warnings: Vec::new(),
        made: Made::Nothing,
        force: false,
    })
}

pub(super) fn check(context: &Context, job: &CheckJob) -> Result<Produced> {
    let prepared = context.prepare(&job.source, &job.read)?;
    let format = prepared.format;
    let check = format.check.ok_or_else(|| {
        let text = format!("{}: {} images have no metadata that can be checked", job.source.shown(), format.title);
        Error::new(ErrorKind::Unsupported, text)
    })?;
    let gate = prepared.gate().clone();
    let report = check(CheckRequest { source: prepared.source, gate: &gate, repair: false })?;
    let fields =
        [("image", json!(job.source.shown())), ("format", json!(format.name)), ("clean", json!(report.is_clean()))];
    Ok(Produced {
        result: JobResult {
            format: Some(format.name.to_owned()),
            // Leaks endanger no data.
            sound: Some(report.corruptions == report.corruptions_fixed),
            details: details(&report, &fields)?,
            ..JobResult::default()
        },
        warnings: Vec::new(),
        made: Made::Nothing,
        force: false,
    })
}

fn kind_of(name: DigestName) -> DigestKind {
    match name {
        DigestName::Sha256 => DigestKind::Sha256,
        DigestName::Blake3 => DigestKind::Blake3,
    }
}

fn digest_of(digest: &GuestDigest) -> Digest {
    let algorithm = match digest.algorithm {
        DigestKind::Sha256 => DigestName::Sha256,
        DigestKind::Blake3 => DigestName::Blake3,
    };
    Digest { algorithm, hex: digest.hex.clone() }
}
