//! Locks: files that tell others that somebody adds to a repository, or takes away from it.
//!
//! They are those of restic. A lock that is exclusive stands alone; others stand beside each other. One is void when it
//! was not renewed for half an hour, or when its process has ended on this machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use transload_block::{Error, ErrorKind, Result};

use crate::format::crypto::CryptoKey;
use crate::format::document;
use crate::format::id::Id;
use crate::format::time::Time;
use crate::store::{Kind, Store};

/// After how many seconds without renewal a lock is void.
const VOID_AFTER: i64 = 30 * 60;
/// How often it is renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long after one's own lock is there one looks for others that came at the same time.
const SECOND_LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockDocument {
    time: Time,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

impl LockDocument {
    fn new(exclusive: bool) -> Self {
        Self {
            time: Time::now(),
            exclusive,
            hostname: host(),
            username: user(),
            pid: std::process::id(),
            uid: Some(rustix::process::geteuid().as_raw()),
            gid: Some(rustix::process::getegid().as_raw()),
        }
    }

    fn is_void(&self) -> bool {
        if Time::now().seconds() - self.time.seconds() > VOID_AFTER {
            return true;
        }
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let is_gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        self.hostname == host() && pid.is_none_or(is_gone)
    }
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user, as the environment has it.
pub(crate) fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default()
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    store: Arc<Store>,
    current: Arc<Mutex<Id>>,
    lost: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What locks are written with.
#[derive(Clone, Debug)]
pub(crate) struct Sealing {
    pub(crate) key: CryptoKey,
    pub(crate) version: u32,
}

impl Lock {
    /// Takes a lock.
    ///
    /// # Errors
    /// `Denied` when another one stands in the way.
    pub(crate) fn take(store: &Arc<Store>, sealing: &Sealing, exclusive: bool) -> Result<Self> {
        look_for_others(store, sealing, exclusive, None)?;
        let own =
            store.save(Kind::Lock, &document::seal(&LockDocument::new(exclusive), sealing.version, &sealing.key)?)?;
        thread::sleep(SECOND_LOOK);
        if let Err(error) = look_for_others(store, sealing, exclusive, Some(own)) {
            store.remove(Kind::Lock, own)?;
            return Err(error);
        }
        let (current, lost) = (Arc::new(Mutex::new(own)), Arc::new(AtomicBool::new(false)));
        let (stop, stopped) = mpsc::channel::<()>();
        let renewal = (Arc::clone(store), sealing.clone(), Arc::clone(&current), Arc::clone(&lost));
        let thread = thread::spawn(move || {
            let (store, sealing, current, lost) = renewal;
            while stopped.recv_timeout(RENEWED_EVERY) == Err(RecvTimeoutError::Timeout) {
                let renewed = document::seal(&LockDocument::new(exclusive), sealing.version, &sealing.key)
                    .and_then(|bytes| store.save(Kind::Lock, &bytes))
                    .and_then(|fresh| {
                        let old =
                            std::mem::replace(&mut *current.lock().unwrap_or_else(PoisonError::into_inner), fresh);
                        store.remove(Kind::Lock, old)
                    });
                lost.store(renewed.is_err(), Ordering::Relaxed);
            }
        });
        Ok(Self { store: Arc::clone(store), current, lost, stop: Some(stop), thread: Some(thread) })
    }

    /// Fails when the lock could not be renewed: somebody else may take away what is relied on.
    pub(crate) fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) {
            let text = format!("{}: the lock could not be renewed", self.store.root().display());
            return Err(Error::new(ErrorKind::Io, text));
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked renews no more.
            drop(thread.join());
        }
        let own = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // One that stays is void as soon as this process has ended.
        drop(self.store.remove(Kind::Lock, own));
    }
}

/// Fails when a lock of somebody else stands in the way, and removes those that are void.
fn look_for_others(store: &Store, sealing: &Sealing, exclusive: bool, own: Option<Id>) -> Result<()> {
    for (id, _) in store.list(Kind::Lock)? {
        if Some(id) == own {
            continue;
        }
        let read =
            store.read_proved(Kind::Lock, id).and_then(|bytes| document::open::<LockDocument>(bytes, &sealing.key));
        let lock = match read {
            Ok(lock) => lock,
            // Gone in the meantime.
            Err(_) if !store.path(Kind::Lock, id).exists() => continue,
            Err(error) => {
                let remedy = "remove the file if nobody is using the archive";
                return Err(error.context(store.path(Kind::Lock, id).display()).with_remedy(remedy));
            }
        };
        if lock.is_void() {
            store.remove(Kind::Lock, id)?;
        } else if exclusive || lock.exclusive {
            let LockDocument { pid, hostname, time, .. } = lock;
            let text = format!("{}: locked by process {pid} on {hostname} since {time}", store.root().display());
            return Err(Error::new(ErrorKind::Denied, text).with_remedy(
                "wait until it has ended; the lock of a process that was killed elsewhere is void after 30 minutes",
            ));
        }
    }
    Ok(())
}
