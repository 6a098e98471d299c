//! Workers that are killed at random moments: no job is lost, nothing that looks whole is not, and nothing is left behind.
//!
//! `cargo xtask chaos` runs the long version; the seed of a run stands in its output.

#![expect(clippy::unwrap_used, reason = "tests that run on two databases are functions without the attribute")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::{Database, House, Process, be_a_worker, path};
use transload_jobs::model::{ConvertJob, JobFilter, JobRequest, JobState, RunOptions};
use transload_jobs::store::{Store, StoreSettings};
use transload_jobs::worker::Workers;
use transload_testkit::witness;

#[tokio::test]
#[ignore = "run by other tests, in a process of its own"]
async fn worker_process() {
    be_a_worker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_outlive_their_workers_on_sqlite() {
    chaos(Database::sqlite(), 20, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_outlive_their_workers_on_postgresql() {
    chaos(Database::postgres().await, 20, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo xtask chaos"]
async fn two_hundred_jobs_outlive_their_workers() {
    let seed = std::env::var("TRANSLOAD_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let jobs = std::env::var("TRANSLOAD_CHAOS_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(200);
    chaos(Database::sqlite(), jobs, seed).await;
    chaos(Database::postgres().await, jobs, seed + 1).await;
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The kinds of targets: one file, two files, a file that is written from front to back.
const TARGETS: &[(&str, &str, Option<&str>)] = &[
    ("raw", "raw", None),
    ("qcow2", "qcow2", None),
    ("vmdk", "vmdk", Some("monolithicFlat")),
    ("vmdk", "vmdk", Some("streamOptimized")),
];

async fn chaos(database: Database, jobs: u64, seed: u64) {
    eprintln!("{jobs} jobs, seed {seed}");
    let (house, store) = (House::new(), database.open_with(StoreSettings::default()).await);
    let mut dice = Dice(seed);
    for disk in 0..4 {
        house.disk(&format!("in/{disk}.raw"), 1 + disk);
    }
    let mut expected = Vec::new();
    for number in 0..jobs {
        let (disk, target) = (dice.roll(4), usize::try_from(dice.roll(TARGETS.len() as u64)).unwrap());
        let (format, ending, variant) = TARGETS[target];
        let name = format!("out{}/{number}.{ending}", number % 3);
        let options = variant.map(|variant| ("subformat".to_owned(), variant.to_owned()));
        let job = ConvertJob {
            options: options.into_iter().collect::<BTreeMap<_, _>>(),
            // It is the workers' fault, not the jobs'.
            run: RunOptions { max_attempts: Some(20), ..RunOptions::default() },
            ..ConvertJob::new(path(&format!("in/{disk}.raw")), path(&name))
        };
        let id = store.submit(&JobRequest::Convert(job)).await.unwrap().id;
        expected.push((id, disk, name, format));
    }
    let kills = torment(&database, &house, &store, &mut dice, jobs).await;
    // Those that were killed last may have left something.
    let workers = Workers::start(store.clone(), house.settings());
    wait_until_done(&store, jobs).await;
    workers.shutdown(Duration::from_secs(10)).await;
    for (id, disk, name, format) in &expected {
        let job = store.get(id).await.unwrap().expect("no job is lost");
        assert_eq!(job.state, JobState::Done, "{job:#?}");
        witness::assert_same_guest(&house.path(&format!("in/{disk}.raw")), "raw", &house.path(name), format);
    }
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    eprintln!("{jobs} jobs were done, {kills} workers were killed");
    assert!(kills >= jobs / 10, "only {kills} workers were killed");
}

/// Has two processes work on the queue, and kills one of them every now and then, until half a job for each kill is left.
async fn torment(database: &Database, house: &House, store: &Store, dice: &mut Dice, jobs: u64) -> u64 {
    let rate = Some(12 << 20);
    let mut processes = vec![Process::start(database, house, rate), Process::start(database, house, rate)];
    let (mut kills, started) = (0, Instant::now());
    while left(store).await > jobs / 5 {
        assert!(
            started.elapsed() < Duration::from_secs(20 * jobs.max(10)),
            "{} of {jobs} jobs are left",
            left(store).await
        );
        tokio::time::sleep(Duration::from_millis(100 + dice.roll(500))).await;
        // Whatever is under a name of its own at this moment has to be whole.
        whole(house);
        let victim = usize::try_from(dice.roll(2)).unwrap();
        processes.remove(victim).kill();
        whole(house);
        kills += 1;
        processes.push(Process::start(database, house, rate));
    }
    kills
}

/// Every image that has its name can be opened and has as many bytes as one of the sources.
fn whole(house: &House) {
    for folder in 0..3 {
        let Ok(entries) = std::fs::read_dir(house.path(&format!("out{folder}"))) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // An extent comes before the descriptor that names it.
            if name.starts_with('.') || name.ends_with("-flat.vmdk") {
                continue;
            }
            let opened = transload::open(&path).unwrap_or_else(|error| unreachable!("{name}: {error}"));
            let size = opened.device.size() >> 20;
            assert!((1..=4).contains(&size), "{name}: {size} MiB");
        }
    }
}

async fn left(store: &Store) -> u64 {
    let counts = store.counts().await.unwrap();
    counts.iter().filter(|(_, state, _)| !state.is_final()).map(|(_, _, jobs)| *jobs).sum()
}

async fn wait_until_done(store: &Store, jobs: u64) {
    let started = Instant::now();
    while left(store).await > 0 {
        let running = JobFilter { states: vec![JobState::Running, JobState::Queued], ..JobFilter::default() };
        assert!(
            started.elapsed() < Duration::from_secs(60 + 2 * jobs),
            "{:#?}",
            store.list(&running).await.unwrap().jobs
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
