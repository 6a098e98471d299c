//! `transload archive create`: makes a snapshot of disks.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use transload::archive::{
    self, CreateSettings, DiskSource, OpenSettings, Parent, Profiles, RawVolumes, Report, Repository,
};
use transload::block::{Error, ErrorKind, Result};
use transload::image::Format;

use super::open;
use super::password::PasswordArgs;
use super::watch;
use crate::args::{self, ProgressArgs, ReadArgs, ReferenceArgs, SpoolArgs};
use crate::failure::Verdict;
use crate::text;
use crate::volumes::{self, VolumeArgs};

/// Make a snapshot of the files of disks
///
/// The archive is made where there is none. Files that have not changed since the last snapshot of a disk of the same name are not read again. What was stored is kept when it is interrupted; the next run goes on from there.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload archive create disk.qcow2 -o /srv/archive\n  transload archive create web.vmdk db.vmdk -o /srv/archive --tag nightly --exclude-temporary\n  transload archive create disk.raw -o /srv/archive --profiles my.toml --max-level 6\n\nPath profiles, the first that matches: compressed files and media are stored as they are; kernels, initrds and modules zstd 19;\nshared libraries 9; programs 6; /etc 1; databases and logs 5; backups 22; everything else 3. docs/archive.md has the table."
)]
pub(crate) struct Arguments {
    /// The images
    #[arg(value_name = "SRC", required = true)]
    images: Vec<PathBuf>,
    /// The archive
    #[arg(short = 'o', long = "output", value_name = "ARCHIVE")]
    archive: PathBuf,
    /// What a disk is called in the archive: its file's name without the ending when not given; once for each SRC
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The machine that the snapshot is of; this one when not given
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// A word for the snapshot; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// A TOML file with path profiles, which are asked before those that are built in
    #[arg(long, value_name = "FILE", help_heading = "Contents")]
    profiles: Option<PathBuf>,
    /// Leave out what matches, such as /home/*/Downloads or *.iso; may be given several times
    #[arg(long, value_name = "PATTERN", help_heading = "Contents")]
    exclude: Vec<String>,
    /// Leave out what is in /tmp, /var/tmp, /run and in caches
    #[arg(long, help_heading = "Contents")]
    exclude_temporary: bool,
    /// Compress nothing harder than zstd LEVEL: less time for more bytes
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=22), help_heading = "Contents")]
    max_level: Option<i32>,
    /// Store VOLUME byte by byte besides its files, or all of them: restored to the last bit; may be given several times
    #[arg(long, value_name = "VOLUME|all", help_heading = "Contents")]
    raw: Vec<String>,
    /// Leave out when files were read
    #[arg(long, help_heading = "Contents")]
    no_atime: bool,
    /// Compare with this snapshot instead of the last one of the same disk
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "reread")]
    parent: Option<String>,
    /// Read all files, also those that have not changed since the last snapshot
    #[arg(long)]
    reread: bool,
    /// Threads that hash and compress
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// The images' format; found out from their bytes when not given
    #[arg(short = 'f', long, value_name = "FMT", value_parser = args::format_parser(), ignore_case = true)]
    format: Option<&'static Format>,
    /// Options for reading, such as snapshot=NAME
    #[arg(long, value_name = "K=V,…")]
    options: Vec<String>,
    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    archive: String,
    snapshot: String,
    disks: Vec<String>,
    files: u64,
    folders: u64,
    others: u64,
    unchanged: u64,
    excluded: u64,
    left_out: u64,
    bytes: u64,
    new_chunks: u64,
    stored: u64,
    elapsed_milliseconds: u64,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    let begun = Instant::now();
    let disks = disks(arguments)?;
    let profiles = profiles(arguments)?;
    if !Repository::is_at(&arguments.archive) {
        let password = arguments.password.get(true)?;
        Repository::create(&arguments.archive, &password)?;
        // Asked for once.
        let repository = Repository::open(&arguments.archive, &password, OpenSettings::default())?;
        return make(arguments, &disks, profiles, &repository, begun);
    }
    let repository = open::open(&arguments.archive, &arguments.password)?;
    for note in repository.notes() {
        eprintln!("transload: {note}");
    }
    make(arguments, &disks, profiles, &repository, begun)
}

fn make(
    arguments: &Arguments,
    disks: &[DiskSource],
    profiles: Profiles,
    repository: &std::sync::Arc<Repository>,
    begun: Instant,
) -> Result<Verdict> {
    let parent = match &arguments.parent {
        Some(name) => Parent::Snapshot(repository.find_snapshot(name)?.id),
        None if arguments.reread => Parent::None,
        None => Parent::Latest,
    };
    let defaults = CreateSettings::default();
    let settings = CreateSettings {
        hostname: arguments.host.clone(),
        tags: arguments.tag.clone(),
        profiles,
        parent,
        access_times: !arguments.no_atime,
        raw: match arguments.raw.as_slice() {
            [] => RawVolumes::Unreadable,
            names if names.iter().any(|name| name == "all") => RawVolumes::All,
            names => RawVolumes::Named(names.to_vec()),
        },
        threads: arguments.threads.map_or(defaults.threads, usize::from),
        ..defaults
    };
    let (watch, display) = watch::start(arguments.progress)?;
    let made = archive::create(repository, disks, &settings, &watch);
    drop(display);
    let report = made.map_err(|error| {
        let is_cancelled = error.kind() == ErrorKind::Cancelled;
        if is_cancelled {
            error.with_remedy("what was stored is kept: the same command goes on from there")
        } else {
            error
        }
    })?;
    let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tell(arguments, disks, report, elapsed)
}

fn tell(arguments: &Arguments, disks: &[DiskSource], report: Report, elapsed: u64) -> Result<Verdict> {
    for warning in &report.warnings {
        eprintln!("transload: {warning}");
    }
    // A snapshot that lacks files is no whole one.
    let verdict = if report.left_out > 0 { Verdict::Corrupt } else { Verdict::Done };
    let snapshot = report.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()).unwrap_or_default();
    if arguments.json {
        text::json(&Document {
            archive: arguments.archive.display().to_string(),
            snapshot,
            disks: disks.iter().map(|disk| disk.name.clone()).collect(),
            files: report.files,
            folders: report.folders,
            others: report.others,
            unchanged: report.unchanged,
            excluded: report.excluded,
            left_out: report.left_out,
            bytes: report.bytes,
            new_chunks: report.new_blobs,
            stored: report.stored,
            elapsed_milliseconds: elapsed,
            warnings: report.warnings,
        })?;
    } else if !arguments.progress.quiet {
        let Report { files, unchanged, bytes, stored, .. } = report;
        let mut out = text::Text::new();
        out.line(format_args!(
            "snapshot {}: {files} files, {} ({unchanged} unchanged); {} added in {}.{} s",
            &snapshot[..8.min(snapshot.len())],
            text::size(bytes),
            text::size(stored),
            elapsed / 1000,
            elapsed / 100 % 10
        ))?;
        out.finish()?;
    }
    Ok(verdict)
}

fn disks(arguments: &Arguments) -> Result<Vec<DiskSource>> {
    if !arguments.name.is_empty() && arguments.name.len() != arguments.images.len() {
        let (names, images) = (arguments.name.len(), arguments.images.len());
        let text = format!("--name is given {names} times for {images} images");
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let mut names = arguments.name.iter();
    arguments.images.iter().map(|image| disk(arguments, image, names.next())).collect()
}

fn disk(arguments: &Arguments, image: &Path, name: Option<&String>) -> Result<DiskSource> {
    // `-o` is the archive here, and no option for reading.
    let read = ReadArgs {
        format: arguments.format,
        options: arguments.options.clone(),
        spool: arguments.spool,
        references: arguments.references.clone(),
    };
    let (device, volumes) = volumes::scan(image, &read, &arguments.volumes)?;
    let name = name.cloned().or_else(|| Some(image.file_stem()?.to_string_lossy().into_owned()));
    let format = match arguments.format {
        Some(format) => Ok(format.name),
        None => transload::detect(image).map(|format| format.name),
    };
    Ok(DiskSource {
        name: name.unwrap_or_else(|| "disk".to_owned()),
        origin: image.display().to_string(),
        format: format.unwrap_or("raw").to_owned(),
        device,
        volumes,
    })
}

fn profiles(arguments: &Arguments) -> Result<Profiles> {
    let mut profiles = Profiles::default();
    if let Some(path) = &arguments.profiles {
        let text = fs::read_to_string(path).map_err(|error| Error::io(path.display().to_string(), error))?;
        profiles.extend(&text).map_err(|error| error.context(path.display()))?;
    }
    if arguments.exclude_temporary {
        profiles.exclude_temporary();
    }
    for pattern in &arguments.exclude {
        if pattern.trim_matches('/').is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("--exclude '{pattern}' would leave out everything"),
            ));
        }
        profiles.exclude(pattern);
    }
    if let Some(level) = arguments.max_level {
        profiles.limit_level(level);
    }
    Ok(profiles)
}
