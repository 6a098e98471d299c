//! `transload mount`: an image as folders of the host.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use transload::archive::{Repository, Snapshot};
use transload::block::{Error, ErrorKind, Result};
use transload::image::{Access, OpenSettings, Opened, open};
use transload::mount::{Disk, Event, Files, Mount, MountSettings, Tree};
use transload::open_overlay;

use super::archive::{self, password::PasswordArgs};
use crate::args::{self, ReadArgs};
use crate::failure::{self, Verdict};
use crate::volumes::{self, VolumeArgs};
use crate::{input, interrupt, text};

/// Show an image as folders: its disk, its partitions and their files; or the snapshots of an archive
///
/// DIR/disk.raw is the disk as a guest sees it, DIR/partitions/N.raw a partition, DIR/fs/N/ the files in it. It serves until it is
/// interrupted or DIR is unmounted; then it writes what is still in memory and ends. DIR is printed when everything is there.
/// The image is not changed; with --overlay the disk and its partitions can be written, and the writes go to a file.
///
/// Of an archive, DIR/snapshots/TIME/ has the files of a snapshot, DIR/ids/ID/ the same by its first digits, DIR/latest/ those of the last one.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  transload mount disk.vmdk /mnt\n  transload mount --background --overlay changes.qcow2 disk.qcow2 /mnt\n  fusermount3 -u /mnt"
)]
pub(crate) struct Arguments {
    /// The image, or the folder of an archive
    #[arg(value_name = "IMG|ARCHIVE")]
    image: PathBuf,
    /// The folder to show it in
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    #[command(flatten)]
    password: PasswordArgs,
    /// Let the disk and its partitions be written; what is written goes to FILE, a qcow2 overlay that is made if it does not exist
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// Let other users look in too; what they may see is what the modes and owners of the files say
    #[arg(long)]
    allow_other: bool,
    /// Threads that answer side by side; by default as many as there are cores, and 2 at least
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<NonZeroUsize>,
    /// Come back when it is mounted, and serve in the background
    #[arg(long)]
    background: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    /// This is the process in the background
    #[arg(long, hide = true)]
    behind: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Verdict> {
    if arguments.background && !arguments.behind {
        return start_behind(arguments);
    }
    if Repository::is_at(&arguments.image) {
        let tree = archive_tree(arguments)?;
        serve(arguments, tree, "an archive")?;
        return Ok(Verdict::Done);
    }
    let opened = open_image(arguments)?;
    let disk = disk(arguments, &opened)?;
    let others = volumes::open_others(&arguments.read, &arguments.volumes)?;
    let (tree, notes) = Tree::of_disk(&disk, &others, arguments.volumes.settings())
        .map_err(|error| error.context(arguments.image.display()))?;
    drop(disk);
    for note in &notes {
        eprintln!("transload: {}#{}: not shown: {}", arguments.image.display(), note.volume, note.error);
    }
    let served = serve(arguments, tree, &text::exact_size(opened.device.size()));
    if let Some(top) = opened.layers.first().and_then(|layer| layer.writer.as_ref()) {
        top.finish()?;
    }
    served?;
    Ok(Verdict::Done)
}

/// Mounts `tree`, and comes back when it is unmounted.
fn serve(arguments: &Arguments, tree: Tree, what: &str) -> Result<()> {
    let default = MountSettings::default();
    let settings = MountSettings {
        name: arguments.image.display().to_string(),
        allow_other: arguments.allow_other,
        threads: arguments.threads.map_or(default.threads, NonZeroUsize::get),
    };
    let quiet = arguments.quiet;
    let mount = Mount::new(tree, &arguments.folder, &settings, move |event| tell(&event, quiet))?;
    let unmounter = mount.unmounter();
    interrupt::on_signal(move || {
        if let Err(error) = unmounter.unmount() {
            failure::report(&error, false);
        }
    })?;
    announce(arguments, what)?;
    if arguments.behind {
        let_go_of_terminal()?;
    }
    mount.wait()
}

/// The snapshots of an archive. Each is opened when somebody looks into it.
fn archive_tree(arguments: &Arguments) -> Result<Tree> {
    if arguments.overlay.is_some() {
        let text = format!("{}: an archive is not written through a mount", arguments.image.display());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    let repository = archive::open::open(&arguments.image, &arguments.password)?;
    for note in repository.notes() {
        eprintln!("transload: {note}");
    }
    let (mut snapshots, damaged) = repository.snapshots_and_damage()?;
    for (id, error) in &damaged {
        eprintln!("transload: {}: snapshot {}: not shown: {error}", arguments.image.display(), id.short());
    }
    snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
    let files = |snapshot: &Snapshot| {
        let (repository, snapshot) = (Arc::clone(&repository), snapshot.clone());
        Files::lazy(move || repository.files(&snapshot))
    };
    let mut tree = Tree::new();
    tree.folder(&["snapshots"])?;
    tree.folder(&["ids"])?;
    for snapshot in &snapshots {
        let (time, id) = (snapshot.time.to_string(), snapshot.id);
        // Two of the same moment, or of the same first digits, are told apart by all of their digits.
        if tree.filesystem(&["snapshots", &time], files(snapshot)).is_err() {
            tree.filesystem(&["snapshots", &format!("{time}-{id}")], files(snapshot))?;
        }
        if tree.filesystem(&["ids", &id.short()], files(snapshot)).is_err() {
            tree.filesystem(&["ids", &id.to_string()], files(snapshot))?;
        }
    }
    if let Some(last) = snapshots.last() {
        tree.filesystem(&["latest"], files(last))?;
    }
    Ok(tree)
}

fn open_image(arguments: &Arguments) -> Result<Opened> {
    let read = volumes::as_disk(&arguments.image, &arguments.read)?;
    let prepared = input::prepare(&arguments.image, &read, Access::ReadOnly)?;
    match &arguments.overlay {
        Some(overlay) => {
            let settings = OpenSettings { format: Some(prepared.format), ..prepared.settings };
            open_overlay(&arguments.image, &settings, overlay)
        }
        None => open(prepared.source, &prepared.settings),
    }
}

fn disk(arguments: &Arguments, opened: &Opened) -> Result<Disk> {
    if arguments.overlay.is_some() {
        let writer = opened.writer().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("{}: cannot be written", arguments.image.display()))
        })?;
        return Ok(Disk::writable(writer));
    }
    let disk = Disk::read_only(Arc::clone(&opened.device));
    Ok(match raw_file(&arguments.image, opened) {
        Some(file) => disk.with_file(file),
        None => disk,
    })
}

/// The file whose bytes are those of the disk, where there is one.
fn raw_file(path: &Path, opened: &Opened) -> Option<File> {
    let [only] = opened.layers.as_slice() else { return None };
    let file = only.source.path()? == path && only.format.name == "raw" && path.is_file();
    file.then(|| File::open(path).ok()).flatten()
}

fn tell(event: &Event, quiet: bool) {
    match event {
        Event::Failed { error } => eprintln!("transload: {error}"),
        Event::InUse if !quiet => {
            eprintln!("transload: files are open: ends when they are closed, and in any case in {:?}", Mount::PATIENCE);
        }
        _ => {}
    }
}

/// Says that it is mounted: the folder on standard output, the rest to people.
fn announce(arguments: &Arguments, what: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", arguments.folder.display()).and_then(|()| stdout.flush());
    written.map_err(|error| Error::io("standard output", error))?;
    if !arguments.quiet {
        let image = arguments.image.display();
        let how = match &arguments.overlay {
            Some(overlay) => format!("writes go to {}", overlay.display()),
            None => "read-only".to_owned(),
        };
        eprintln!("transload: {image}: mounted, {what}, {how}");
    }
    Ok(())
}

/// Starts this program once more, in a session of its own, and comes back when it has mounted or failed.
fn start_behind(arguments: &Arguments) -> Result<Verdict> {
    let failed = |error| Error::io("starting a process in the background", error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut all: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Behind a `--` it would be taken for a name.
    let end = all.iter().position(|argument| argument == "--").unwrap_or(all.len());
    all.insert(end, OsString::from("--behind"));
    let mut child =
        Command::new(program).args(all).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
    }
    if line.is_empty() {
        // It has told why on standard error; its code is ours.
        let status = child.wait().map_err(failed)?;
        std::process::exit(status.code().unwrap_or(1));
    }
    print!("{line}");
    if !arguments.quiet {
        eprintln!("transload: process {} serves it; fusermount3 -u {line}", child.id());
    }
    Ok(Verdict::Done)
}

/// Begins a session of its own, and points standard output and error nowhere: nobody reads them any more.
fn let_go_of_terminal() -> Result<()> {
    let failed = |error: rustix::io::Errno| Error::io("letting go of the terminal", error.into());
    // Who leads a session already stays in it.
    let _ = rustix::process::setsid();
    let nowhere = OpenOptions::new().write(true).open("/dev/null").map_err(|error| Error::io("/dev/null", error))?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(failed)?;
    rustix::stdio::dup2_stderr(&nowhere).map_err(failed)
}
