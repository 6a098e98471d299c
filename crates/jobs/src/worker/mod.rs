//! The workers of a process: they take jobs from the store, do them on blocking threads, and publish what was made.
//!
//! ```text
//! claim loop ─► attempt: finish or sweep what was left ─► task on a blocking thread ─► intent ─► renames ─► finish
//! keeper     ─► one heartbeat for all jobs at hand: progress out; wishes to stop, and lost leases, in
//! caretaker  ─► leases of processes that died on this machine end at once; old jobs are forgotten
//! ```
//!
//! Any number of processes may have workers over one store, as long as they see the same root folder. A process that is killed
//! leaves nothing that matters: its jobs are taken over when their leases have run out, or at once by a process on the same machine
//! that sees that it is gone.

mod attempt;
mod identity;
mod keeper;
mod tracked;

pub use tracked::Tracked;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use transload::block::Result;
use transload::convert::Settings;
use transload::remote::{Credentials, Options, Policy};

use crate::meter::Rate;
use crate::model::JobRequest;
use crate::root::Root;
use crate::store::Store;
use keeper::Keeper;

/// What workers may use, and how they behave.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The folder that paths of requests are in.
    pub root: Root,
    /// The folder of uploads, each a file with its id as its name; no upload can be named when `None`.
    pub uploads: Option<Root>,
    /// Which addresses may be reached, and as whom.
    pub network: Options,
    /// Jobs at once. With none, jobs are only tracked and those of dead workers wait for others.
    pub concurrency: usize,
    /// Bytes of memory for buffers and tables of all jobs together.
    pub memory: u64,
    /// Worker threads of a job; as many as there are cores when `None`.
    pub threads: Option<NonZeroUsize>,
    /// Bytes per second that all jobs may move together; as many as they can when `None`.
    pub rate: Option<u64>,
    /// For how long a job belongs to a worker that is not heard of.
    pub lease: Duration,
    /// How often to look for jobs that other processes have put into the queue.
    pub poll: Duration,
    /// The wait before the second attempt; doubled for each further one, up to ten minutes.
    pub backoff: Duration,
    /// For how long jobs that have ended are remembered; for ever when `None`.
    pub keep: Option<Duration>,
}

impl WorkerSettings {
    /// Workers for `root`, everything else by default: public addresses alone, with nobody's credentials.
    #[must_use]
    pub fn new(root: Root) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let concurrency = (cores / 2).clamp(1, 8);
        Self {
            root,
            uploads: None,
            network: Options { policy: Policy::Public, credentials: Credentials::none(), ..Options::default() },
            concurrency,
            memory: Settings::DEFAULT_MEMORY * concurrency as u64,
            threads: None,
            rate: None,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            backoff: Duration::from_secs(5),
            keep: Some(Duration::from_secs(30 * 86_400)),
        }
    }
}

/// The workers of this process. They go on until [`shutdown`](Self::shutdown); dropped without it, they are stopped where they
/// stand, as if the process had died.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    loops: Vec<JoinHandle<()>>,
}

/// What all parts share.
#[derive(Debug)]
struct Shared {
    store: Store,
    settings: WorkerSettings,
    /// What this process is called in the store.
    name: String,
    keeper: Keeper,
    slots: Arc<Semaphore>,
    rate: Option<Arc<Rate>>,
}

impl Shared {
    /// A job's share of the memory.
    fn memory(&self) -> u64 {
        /// Below this the engine has no room for the units of every format.
        const LEAST: u64 = 8 << 20;
        (self.settings.memory / self.settings.concurrency.max(1) as u64).max(LEAST)
    }

    fn threads(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.settings.threads.unwrap_or_else(cores)
    }
}

impl Workers {
    /// Starts workers over `store`. Has to be called inside a tokio runtime.
    #[must_use]
    pub fn start(store: Store, settings: WorkerSettings) -> Self {
        let concurrency = settings.concurrency.min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            keeper: Keeper::new(store.clone(), settings.lease),
            name: identity::own(),
            slots: Arc::new(Semaphore::new(concurrency)),
            rate: settings.rate.map(|rate| Arc::new(Rate::new(rate))),
            store,
            settings,
        });
        let (stop, stopped) = watch::channel(false);
        let mut loops =
            vec![tokio::spawn(beat(Arc::clone(&shared))), tokio::spawn(care(Arc::clone(&shared), stopped.clone()))];
        if concurrency > 0 {
            loops.push(tokio::spawn(work(Arc::clone(&shared), stopped)));
        }
        Self { shared, stop, loops }
    }

    /// What this process is called in [`Job::worker`](crate::model::Job::worker).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Jobs at hand, those carried by HTTP requests included.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shared.keeper.len()
    }

    /// Records a job that an HTTP request carries, so that it stands in the list with its progress and can be cancelled there.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn track(&self, request: &JobRequest) -> Result<Tracked> {
        Tracked::begin(Arc::clone(&self.shared), request).await
    }

    /// Takes no more jobs, gives those at hand `grace` to end, and puts the rest back into the queue, where the attempt does
    /// not count. Nothing of them is left.
    pub async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, self.shared.keeper.idle()).await.is_err() {
            self.shared.keeper.stop_all();
            self.shared.keeper.idle().await;
        }
        for task in self.loops.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// Takes jobs as long as there is a slot for them.
async fn work(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    /// The wait after the database has failed, doubled up to [`LONGEST`].
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(15);
    let mut wait = FIRST;
    while !*stopped.borrow() {
        let slot = tokio::select! {
            slot = Arc::clone(&shared.slots).acquire_owned() => slot,
            _ = stopped.changed() => continue,
        };
        let Ok(slot) = slot else { return };
        match shared.store.claim(&shared.name, shared.settings.lease).await {
            Ok(Some(claim)) => {
                wait = FIRST;
                let held = shared.keeper.hold(&claim, shared.rate.clone());
                tokio::spawn(attempt::attempt(Arc::clone(&shared), claim, held, slot));
            }
            Ok(None) => {
                wait = FIRST;
                drop(slot);
                tokio::select! {
                    () = shared.store.wait_for_work(shared.settings.poll) => {}
                    _ = stopped.changed() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no job could be claimed");
                drop(slot);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stopped.changed() => {}
                }
                wait = (wait * 2).min(LONGEST);
            }
        }
    }
}

/// Sends heartbeats. Goes on while the process shuts down, since jobs still end then.
async fn beat(shared: Arc<Shared>) {
    const OFTEN: Duration = Duration::from_secs(1);
    let interval = OFTEN.min(shared.settings.lease / 4).max(Duration::from_millis(20));
    loop {
        shared.store.wait_for_cancel(interval).await;
        shared.keeper.beat().await;
    }
}

/// Looks after what is left of others, and of old.
async fn care(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    const HOUR: Duration = Duration::from_secs(3600);
    /// How often to see whether processes of this machine are gone.
    const OFTEN: Duration = Duration::from_secs(5);
    let mut forgot: Option<tokio::time::Instant> = None;
    while !*stopped.borrow() {
        if let Err(error) = expire_dead(&shared).await {
            tracing::warn!(%error, "leases of dead processes could not be looked after");
        }
        if let Some(keep) = shared.settings.keep
            && forgot.is_none_or(|when| when.elapsed() >= HOUR)
        {
            forgot = Some(tokio::time::Instant::now());
            match shared.store.forget_older(keep).await {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(jobs, "old jobs were forgotten"),
                Err(error) => tracing::warn!(%error, "old jobs could not be forgotten"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(OFTEN.min(shared.settings.lease / 2)) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn expire_dead(shared: &Shared) -> Result<()> {
    for worker in shared.store.active_workers().await? {
        if identity::is_dead(&worker) {
            let jobs = shared.store.expire_worker(&worker).await?;
            tracing::info!(worker, jobs, "a process on this machine is gone; its jobs are taken over");
        }
    }
    Ok(())
}
