//! A mount's life: it is made, serves, and is taken away.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::mount::{UnmountFlags, unmount};
use transload_block::{Error, ErrorKind, Result};

use crate::Tree;
use crate::answers::{Answers, Log};
use crate::serve::Serve;

/// How a mount is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSettings {
    /// What `df` and `mount` call it: the image's name.
    pub name: String,
    /// Whether users other than the one who mounts may look in. Then the kernel checks modes and owners; else nobody else gets
    /// near, and the one who mounts sees everything.
    pub allow_other: bool,
    /// Threads that answer side by side.
    pub threads: usize,
}

impl Default for MountSettings {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        Self { name: "transload".to_owned(), allow_other: false, threads }
    }
}

/// What a mount tells, for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A call failed for a reason that the caller's error number does not say. After a hundred of them no more are told of.
    Failed {
        /// What, where and why.
        error: Arc<Error>,
    },
    /// It was to be unmounted while files in it are open: nobody new finds it, and it ends when they are closed or after
    /// [`Mount::PATIENCE`].
    InUse,
}

/// A tree that is mounted.
pub struct Mount {
    answers: Arc<Answers>,
    unmounter: Unmounter,
    news: Receiver<News>,
    folder: PathBuf,
}

enum News {
    /// The kernel is done with it.
    Ended(io::Result<()>),
    /// Somebody wants it to end.
    Asked,
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Ends a mount, from any thread.
#[derive(Clone)]
pub struct Unmounter {
    session: Arc<Mutex<SessionUnmounter>>,
    news: Sender<News>,
    folder: PathBuf,
    answers: Arc<Answers>,
}

impl fmt::Debug for Unmounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unmounter").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Mount {
    /// How long those who have files open may take to close them when the mount is to end.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// Mounts `tree` on `folder` and begins to serve. `log` is told of what happens, from any thread.
    ///
    /// # Errors
    /// `InvalidInput` when `folder` is no folder; `Unsupported` when FUSE or the program that mounts for ordinary users is
    /// missing, with what to install; `Denied` when mounting is not allowed; what the operating system answers otherwise.
    pub fn new(
        tree: Tree,
        folder: &Path,
        settings: &MountSettings,
        log: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Self> {
        let writable = tree.is_writable();
        let folder = check_folder(folder)?;
        let log: Log = Box::new(log);
        let answers = Arc::new(Answers::new(tree, log));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(settings.name.replace([',', '\n', '\\'], "_")),
            MountOption::Subtype("transload".to_owned()),
            if writable { MountOption::RW } else { MountOption::RO },
            MountOption::NoAtime,
        ];
        if settings.allow_other {
            config.acl = SessionACL::All;
            config.mount_options.push(MountOption::DefaultPermissions);
        }
        config.n_threads = Some(settings.threads.max(1));
        // A descriptor for each thread, where the kernel has that: they do not wait for each other then.
        config.clone_fd = settings.threads > 1 && cfg!(target_os = "linux");
        let mut session = Session::new(Serve::new(Arc::clone(&answers)), &folder, &config)
            .map_err(|error| cannot_mount(&folder, error))?;
        let (sender, news) = channel();
        let unmounter = Unmounter {
            session: Arc::new(Mutex::new(session.unmount_callable())),
            news: sender.clone(),
            folder: folder.clone(),
            answers: Arc::clone(&answers),
        };
        let serving = thread::Builder::new().name("mount".to_owned()).spawn(move || {
            let ended = session.run();
            // Nobody waits any more where the mount was dropped.
            drop(sender.send(News::Ended(ended)));
        });
        serving.map_err(|error| Error::io("a thread for the mount", error))?;
        read_ahead(&folder);
        Ok(Self { answers, unmounter, news, folder })
    }

    /// What ends it.
    #[must_use]
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Waits until it is unmounted, by its [`Unmounter`] or by anybody else, and makes what was written survive a crash.
    ///
    /// # Errors
    /// `Io` when serving failed; what a disk answers to the last flush.
    pub fn wait(self) -> Result<()> {
        let ended = match self.news.recv() {
            Ok(News::Ended(ended)) => ended,
            Ok(News::Asked) => match self.news.recv_timeout(Self::PATIENCE) {
                Ok(News::Ended(ended)) => ended,
                // Files are open still: they are cut off when the process lets go of the mount.
                Ok(News::Asked) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
            },
            Err(_) => Ok(()),
        };
        let finished = self.answers.finish();
        ended.map_err(|error| Error::io(format!("{}: serving the mount", self.folder.display()), error))?;
        finished
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // An error has nobody to go to; the mount is gone already where all went well.
        drop(self.unmounter.unmount());
    }
}

impl Unmounter {
    /// Unmounts. Where files are open nobody new finds the mount, and [`Mount::wait`] gives them a little time.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn unmount(&self) -> Result<()> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = session.unmount();
        drop(session);
        let outcome = match outcome {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                self.answers.tell(Event::InUse);
                unmount(&self.folder, UnmountFlags::DETACH).map_err(io::Error::from)
            }
            other => other,
        };
        // Who waits may have gone.
        drop(self.news.send(News::Asked));
        outcome.map_err(|error| Error::io(format!("{}: unmount", self.folder.display()), error))
    }
}

/// The folder by its whole path.
fn check_folder(folder: &Path) -> Result<PathBuf> {
    let name = folder.display();
    let metadata = fs::metadata(folder).map_err(|error| match error.raw_os_error() {
        Some(number) if number == rustix::io::Errno::NOTCONN.raw_os_error() => {
            Error::new(ErrorKind::Io, format!("{name}: a mount whose server is gone"))
                .with_remedy(format!("take it away first: fusermount3 -u {name}, or umount {name}"))
        }
        _ => Error::io(name.to_string(), error),
    })?;
    if !metadata.is_dir() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{name}: is no folder")));
    }
    fs::canonicalize(folder).map_err(|error| Error::io(name.to_string(), error))
}

/// What stands in the way of mounting, and what to do.
fn cannot_mount(folder: &Path, error: io::Error) -> Error {
    const MODULE: &str = "load the kernel's module with 'modprobe fuse'; give a container the device with '--device /dev/fuse \
         --cap-add SYS_ADMIN'";
    const PROGRAM: &str = "install the package fuse3, which has the program fusermount3, or mount as root";
    let name = folder.display();
    if !Path::new("/dev/fuse").exists() {
        let text = format!("{name}: FUSE is missing: there is no /dev/fuse");
        return Error::new(ErrorKind::Unsupported, text).with_source(error).with_remedy(MODULE);
    }
    let is_root = rustix::process::geteuid().is_root();
    match error.kind() {
        // Root mounts by itself: what is not found is the program that mounts for others.
        io::ErrorKind::NotFound => {
            let text = format!("{name}: FUSE is missing: there is no fusermount3");
            Error::new(ErrorKind::Unsupported, text).with_source(error).with_remedy(PROGRAM)
        }
        io::ErrorKind::PermissionDenied if is_root => {
            let text = format!("{name}: mounting is not allowed here");
            Error::new(ErrorKind::Denied, text).with_source(error).with_remedy(MODULE)
        }
        io::ErrorKind::PermissionDenied => {
            let text = format!("{name}: mounting is not allowed");
            let remedy =
                "--allow-other takes the line user_allow_other in /etc/fuse.conf; /dev/fuse must be open to you";
            Error::new(ErrorKind::Denied, text).with_source(error).with_remedy(remedy)
        }
        _ => Error::io(format!("{name}: mount"), error),
    }
}

/// Has the kernel read further ahead than the 128 KiB that it takes for enough: where the right to say so is missing, it does not.
fn read_ahead(folder: &Path) {
    const KIBIBYTES: &str = "4096";
    let Ok(metadata) = fs::metadata(folder) else { return };
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    drop(fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), KIBIBYTES));
}
