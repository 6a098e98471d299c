//! What the tests of the queue share: databases of both kinds, a house with a root folder, and worker processes that can be
//! killed.

#![expect(dead_code, reason = "each test file uses a part of this")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use transload_jobs::model::{ConvertJob, Job, JobRequest, JobState, Location};
use transload_jobs::root::Root;
use transload_jobs::store::{Store, StoreSettings};
use transload_jobs::worker::WorkerSettings;

/// A PostgreSQL server of the tests' own. It stops when the test's process does, however that ends.
struct Postgres {
    folder: PathBuf,
    /// Its standard input stays open as long as this does.
    _process: Child,
}

/// Starts a server in a folder of its own, as somebody who is not root, which it refuses to be; stops it when standard input
/// ends. Nothing of it outlives the test, so nothing has to be durable.
const SERVE: &str = r#"
set -e
"$2/initdb" -D "$1/data" -U postgres -A trust --no-sync >"$1/log" 2>&1 || { cat "$1/log" >&2; exit 1; }
"$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c max_connections=200 >>"$1/log" 2>&1 </dev/null &
server=$!
for i in $(seq 300); do "$2/pg_isready" -q -h "$1" && break; sleep 0.1; done
"$2/pg_isready" -q -h "$1" || { cat "$1/log" >&2; exit 1; }
echo ready
cat >/dev/null
kill -INT $server
wait $server
rm -rf "$1"
"#;

impl Postgres {
    fn get() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let programs = newest_postgresql();
        let folder = tempfile::Builder::new().prefix("transload-pg-").tempdir_in("/tmp").unwrap().keep();
        let is_root =
            fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
        let mut command = if is_root {
            let owned = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(owned.is_ok_and(|status| status.success()), "the user of Debian's package postgresql is missing");
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", SERVE, "sh"]).arg(&folder).arg(&programs).current_dir("/tmp");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "PostgreSQL does not start");
        Self { folder, _process: child }
    }
}

/// Where the programs of the newest PostgreSQL are.
fn newest_postgresql() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let found = versions.into_iter().rfind(|programs| programs.join("initdb").exists());
    found.expect("PostgreSQL is missing: install Debian's package postgresql (cargo xtask setup)")
}

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A path with all that has a meaning in an address.
        let url = folder.path().join("jobs & 100%?#.db").to_str().unwrap().to_owned();
        Self { url, _folder: Some(folder) }
    }

    pub(crate) async fn postgres() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let server = tokio::task::spawn_blocking(Postgres::get).await.unwrap();
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = |name: &str| format!("postgres://postgres@localhost/{name}?host={}", server.folder.display());
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url("postgres")).await.expect("the server of this test");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        pool.close().await;
        Self { url: url(&name), _folder: None }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(StoreSettings::default()).await
    }

    pub(crate) async fn open_with(&self, settings: StoreSettings) -> Store {
        Store::open(&self.url, settings).await.expect("a store")
    }
}

/// Runs a test on both databases.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Database::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Database::postgres().await).await;
            })*
        }
    };
}

/// A root folder with disks in it.
pub(crate) struct House {
    pub(crate) folder: TempDir,
    pub(crate) root: Root,
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path()).unwrap();
        Self { folder, root }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes a raw disk of so many MiB, every one of them different and none of them zero.
    pub(crate) fn disk(&self, name: &str, mebibytes: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        let mut piece = vec![0_u8; 1 << 20];
        let mut state = mebibytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for at in 0..mebibytes {
            for word in piece.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all_at(&piece, at << 20).unwrap();
        }
    }

    /// Everything under the root whose name says that it is not whole, or not for anybody.
    pub(crate) fn litter(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    found.push(entry.path());
                } else if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        found
    }

    /// Workers with short leases, as tests have no time.
    pub(crate) fn settings(&self) -> WorkerSettings {
        WorkerSettings {
            concurrency: 2,
            lease: Duration::from_millis(1500),
            poll: Duration::from_millis(50),
            backoff: Duration::from_millis(50),
            ..WorkerSettings::new(self.root.clone())
        }
    }
}

pub(crate) fn path(name: &str) -> Location {
    Location::Path(name.to_owned())
}

pub(crate) fn convert(from: &str, to: &str) -> JobRequest {
    JobRequest::Convert(ConvertJob::new(path(from), path(to)))
}

/// Waits until a job has come to one of the states, or says how it stands instead.
pub(crate) async fn wait_for(store: &Store, id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
    let started = Instant::now();
    loop {
        let job = store.get(id).await.expect("an answer").expect("the job");
        if wanted(&job) {
            return job;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the job does not come to it: {job:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn wait_for_end(store: &Store, id: &str) -> Job {
    wait_for(store, id, |job| job.state.is_final()).await
}

pub(crate) async fn done(store: &Store, id: &str) -> Job {
    let job = wait_for_end(store, id).await;
    assert_eq!(job.state, JobState::Done, "{job:#?}");
    job
}

/// Whether two raw files have the same bytes.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

/// Another process with workers: this test's own program, asked to run nothing but them.
pub(crate) struct Process(Child);

/// What the other process is told by.
const ORDER: &str = "TRANSLOAD_TEST_WORKER";

impl Process {
    /// Starts one over the same database and root. `rate` slows its jobs down.
    pub(crate) fn start(database: &Database, house: &House, rate: Option<u64>) -> Self {
        let order = serde_json::json!({ "url": database.url, "root": house.root.path(), "rate": rate });
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "worker_process", "--ignored", "--nocapture"]).env(ORDER, order.to_string());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("this program once more"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What [`Process`] runs. A test file that uses it has an ignored test of the name `worker_process` that calls this.
pub(crate) async fn be_a_worker() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let store = Store::open(order["url"].as_str().unwrap(), StoreSettings::default()).await.unwrap();
    let root = Root::new(order["root"].as_str().unwrap()).unwrap();
    let settings = WorkerSettings {
        concurrency: 2,
        lease: Duration::from_millis(1500),
        poll: Duration::from_millis(50),
        rate: order["rate"].as_u64(),
        ..WorkerSettings::new(root)
    };
    let workers = transload_jobs::worker::Workers::start(store, settings);
    // Nobody who has forgotten about it may find it running for ever.
    tokio::time::sleep(Duration::from_secs(600)).await;
    drop(workers);
}
