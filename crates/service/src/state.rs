//! What every request shares.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{RwLock, Semaphore, watch};
use transload::block::{Error, ErrorKind, Result};
use transload::image::ReferenceGate;
use transload::remote::{self, Credentials};
use transload_jobs::model::JobRequest;
use transload_jobs::root::Root;
use transload_jobs::store::{Store, StoreSettings};
use transload_jobs::worker::{Tracked, WorkerSettings, Workers};

use crate::audit::Audit;
use crate::budget::Budget;
use crate::config::{Config, References};
use crate::metrics::Metrics;
use crate::problem::{Answer, Problem};
use crate::token::Tokens;

/// The service, as its handlers see it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) root: Root,
    /// The folder of uploads, each a file with its id as its name.
    pub(crate) uploads: Root,
    pub(crate) tokens: Tokens,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) audit: Audit,
    /// Turns for what looks into images without converting them.
    looks: Arc<Semaphore>,
    /// Names of folders of the host, which are nobody's business.
    folders: Vec<String>,
    next_request: AtomicU64,
    /// The queue and the record of all jobs.
    pub(crate) store: Store,
    /// Those who do the jobs, until the service stops.
    workers: RwLock<Option<Workers>>,
    /// Whether the service is stopping: streams that would go on for ever end then.
    pub(crate) stopping: watch::Sender<bool>,
    /// Whether requests come from this machine alone and need no token.
    pub(crate) is_open: bool,
}

/// What every handler gets.
pub(crate) type Shared = Arc<App>;

impl App {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// `InvalidInput` when the configuration contradicts itself; `Denied` when everybody could ask for everything; what the
    /// operating system answers.
    pub(crate) async fn new(config: Config) -> Result<Shared> {
        /// Inspections at a time.
        const LOOKS: usize = 8;
        let root = Root::new(&config.root)?;
        let state = private_folder(&config.state)?;
        private_folder(&state.join(SPOOL))?;
        if state.starts_with(root.path()) {
            let text = format!("{}: the service's own folder is below the root", config.state.display());
            return Err(Error::new(ErrorKind::InvalidInput, text)
                .with_remedy("name another folder with --state: what is below the root is for clients"));
        }
        let uploads = Root::new(private_folder(&root.path().join(UPLOADS))?)?;
        let tokens = Tokens::open(config.token_file())?;
        let is_local = config.listen.ip().is_loopback();
        if !is_local && !tokens.any() {
            let text = format!("{}: is no loopback address, and there is no token", config.listen);
            return Err(Error::new(ErrorKind::Denied, text)
                .with_remedy("make a token with `transload serve token add NAME`, or listen on 127.0.0.1"));
        }
        let database = config.database.clone().unwrap_or_else(|| state.join("jobs.db").display().to_string());
        let store = Store::open(&database, StoreSettings::default()).await?;
        let folders = [root.path(), &state].map(|folder| format!("{}/", folder.display())).into();
        Ok(Arc::new(Self {
            workers: RwLock::new(Some(Workers::start(store.clone(), worker_settings(&config, &root, &uploads)))),
            store,
            stopping: watch::Sender::new(false),
            is_open: is_local && !tokens.any(),
            audit: Audit::open(config.audit_log.as_deref())?,
            budget: Budget::new(&config.limits),
            metrics: Metrics::new()?,
            looks: Arc::new(Semaphore::new(LOOKS)),
            next_request: AtomicU64::new(1),
            config: Config { state, ..config },
            root,
            uploads,
            tokens,
            folders,
        }))
    }

    /// The folder for what is stored for the time of a request.
    pub(crate) fn spool_folder(&self) -> PathBuf {
        self.config.state.join(SPOOL)
    }

    /// Which files an image of a request may pull in.
    pub(crate) fn gate(&self) -> ReferenceGate {
        match self.config.references {
            References::Deny => ReferenceGate::Deny,
            References::Root => ReferenceGate::Allow(vec![self.root.path().to_owned()]),
        }
    }

    /// A failure of the engine as it is told: without the names of the host's folders.
    pub(crate) fn problem(&self, error: Error) -> Problem {
        Problem::from(error).without(&self.folders)
    }

    /// Text that names files, without the names of the host's folders.
    pub(crate) fn shown(&self, text: &str) -> String {
        self.folders.iter().fold(text.to_owned(), |text, folder| text.replace(folder.as_str(), ""))
    }

    /// An error without the names of the host's folders, as the list of jobs keeps it.
    pub(crate) fn tidy(&self, error: &Error) -> Error {
        let text = error.to_string();
        let context = text.strip_prefix(&format!("{}: ", error.kind())).unwrap_or(&text);
        let tidy = Error::new(error.kind(), self.shown(context));
        let tidy = error.remedy().into_iter().fold(tidy, |tidy, remedy| tidy.with_remedy(self.shown(remedy)));
        let causes = crate::problem::failure(error).causes;
        causes.into_iter().rev().fold(tidy, |tidy, cause| tidy.with_source(self.shown(&cause)))
    }

    /// Records a conversion in one pass among the jobs.
    pub(crate) async fn track(&self, request: &JobRequest) -> Answer<Tracked> {
        match self.workers.read().await.as_ref() {
            Some(workers) => workers.track(request).await.map_err(|error| self.problem(error)),
            None => Err(Problem::busy("the service is stopping", 10)),
        }
    }

    /// Lets jobs end for as long as the configuration has it, and puts the rest back into the queue.
    pub(crate) async fn stop_jobs(&self) {
        let workers = self.workers.write().await.take();
        if let Some(workers) = workers {
            workers.shutdown(self.config.limits.grace).await;
        }
    }

    /// A number for a request.
    pub(crate) fn request_id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Does what looks into an image, on a thread, when it is its turn.
    pub(crate) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let turn = tokio::time::timeout(self.config.limits.queue_time, Arc::clone(&self.looks).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Problem::busy("too many images are being looked at", 5)) };
        let app = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&app)
        });
        match work.await {
            Ok(done) => done.map_err(|error| self.problem(error)),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// A fault of the service itself.
    pub(crate) fn fault(&self, error: &tokio::task::JoinError) -> Problem {
        tracing::error!(%error, "a request ended by a fault of the program");
        self.problem(Error::new(ErrorKind::Io, "a fault of the program; the log has more"))
    }
}

/// The folder below the state in which bodies are stored.
const SPOOL: &str = "spool";

/// The folder below the root in which uploads are kept: its name is reserved, so that no request can say it.
const UPLOADS: &str = ".transload-uploads";

/// The folder at `path`, made for the owner alone where it is missing; absolute and without links.
fn private_folder(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let fail = |error| Error::io(path.display().to_string(), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
    std::fs::canonicalize(path).map_err(fail)
}

/// What the workers may use.
fn worker_settings(config: &Config, root: &Root, uploads: &Root) -> WorkerSettings {
    let default = WorkerSettings::new(root.clone());
    let concurrency = config.jobs.concurrency.unwrap_or(default.concurrency);
    WorkerSettings {
        uploads: Some(uploads.clone()),
        network: network(config),
        concurrency,
        memory: config.jobs.memory.unwrap_or((192 << 20) * concurrency.max(1) as u64),
        rate: config.jobs.rate,
        keep: config.jobs.keep.or(default.keep),
        ..default
    }
}

/// How addresses are opened: by the service's policy, and with nobody's rights unless the operator says otherwise.
pub(crate) fn network(config: &Config) -> remote::Options {
    let credentials = Credentials { environment: config.credentials, ..Credentials::none() };
    let limits = remote::Limits { max_size: Some(config.limits.upload), ..remote::Limits::default() };
    remote::Options { policy: config.addresses.clone(), credentials, limits, ..remote::Options::default() }
}
