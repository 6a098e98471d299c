//! The store: the same promises on SQLite and on PostgreSQL.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests that run on two databases are functions without the attribute"
)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use support::{Database, convert, path};
use transload::block::ErrorKind;
use transload_jobs::model::{
    CheckJob, ConvertJob, Event, EventKind, JobError, JobErrorKind, JobFilter, JobKind, JobProgress, JobRequest,
    JobResult, JobState, Location, ReadOptions, RunOptions,
};
use transload_jobs::store::{Beat, Duty, Outcome, Pulse, Store, StoreSettings};

const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

on_both!(
    what_is_submitted_comes_back,
    pages_hang_together_while_jobs_come_and_go,
    filters_find_what_they_say,
    every_job_is_claimed_once,
    higher_priorities_come_first,
    a_lease_that_ran_out_is_taken_over_and_the_old_token_is_worth_nothing,
    a_job_that_loses_its_workers_stops_after_its_attempts,
    a_failed_attempt_waits_and_then_fails_for_good,
    jobs_are_cancelled_in_every_state,
    a_job_is_tried_again_with_its_last_error,
    events_are_numbered_and_of_progress_the_latest_is_kept,
    a_streamed_job_is_never_given_to_another,
    the_queue_has_an_end,
    old_jobs_are_forgotten,
    many_open_a_new_database_at_once,
    addresses_are_shown_without_secrets,
    a_publication_is_recorded_by_its_owner_alone,
);

fn check(name: &str) -> JobRequest {
    JobRequest::Check(CheckJob { source: path(name), read: ReadOptions::default(), run: RunOptions::default() })
}

fn with_run(run: RunOptions) -> JobRequest {
    JobRequest::Convert(ConvertJob { run, ..ConvertJob::new(path("a"), path("b")) })
}

fn result() -> Outcome {
    Outcome::Done(Box::new(JobResult {
        output: Some("b".to_owned()),
        capacity_bytes: u64::MAX >> 2,
        ..JobResult::default()
    }))
}

fn network(text: &str) -> Box<JobError> {
    Box::new(JobError::new(JobErrorKind::Network, text))
}

async fn what_is_submitted_comes_back(database: Database) {
    let store = database.open().await;
    let request = with_run(RunOptions {
        name: Some("Wöchentlich ' \" \\ 100%".to_owned()),
        priority: Some(-7),
        max_attempts: Some(5),
        threads: None,
    });
    let submitted = store.submit(&request).await.unwrap();
    assert_eq!((submitted.state, submitted.priority, submitted.max_attempts), (JobState::Queued, -7, 5));
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.get(&submitted.id).await.unwrap().unwrap(), submitted);
    assert_eq!(submitted.request, request);
    let away = (submitted.created_at.0 - transload_jobs::model::Timestamp::now().0).abs();
    assert!(away < 60_000, "the database's clock is {away} ms away");
    for unknown in ["", "x", "' OR 1 = 1 --", &"y".repeat(100_000)] {
        assert_eq!(store.get(unknown).await.unwrap(), None);
        assert_eq!(store.cancel(unknown).await.unwrap(), None);
        assert_eq!(store.retry(unknown).await.unwrap(), None);
        assert!(!store.forget(unknown).await.unwrap());
    }
    for wrong in [
        convert("", "b"),
        convert("a\0b", "b"),
        JobRequest::Convert(ConvertJob::new(Location::Upload("../x".to_owned()), path("b"))),
        JobRequest::Convert(ConvertJob::new(Location::Url("file:///etc/passwd".to_owned()), path("b"))),
        JobRequest::Convert(ConvertJob::new(Location::Stream("x".to_owned()), path("b"))),
        JobRequest::Convert(ConvertJob::new(path("a"), Location::Upload("x".to_owned()))),
        with_run(RunOptions { max_attempts: Some(0), ..RunOptions::default() }),
        with_run(RunOptions { priority: Some(101), ..RunOptions::default() }),
        with_run(RunOptions { name: Some("x".repeat(201)), ..RunOptions::default() }),
    ] {
        assert_eq!(store.submit(&wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
    }
    store.ping().await.unwrap();
}

async fn pages_hang_together_while_jobs_come_and_go(database: Database) {
    let store = database.open().await;
    let mut ids = Vec::new();
    for number in 0..23 {
        ids.push(store.submit(&check(&format!("disk{number}"))).await.unwrap().id);
    }
    for (oldest_first, mut expected) in [(true, ids.clone()), (false, ids.iter().rev().cloned().collect())] {
        let mut filter = JobFilter { limit: Some(5), oldest_first, ..JobFilter::default() };
        let mut seen = Vec::new();
        loop {
            let page = store.list(&filter).await.unwrap();
            seen.extend(page.jobs.iter().map(|job| job.id.clone()));
            // A newer job moves nothing that is still to come of the newest first, and is the last of the oldest first.
            if seen.len() == 10 {
                let late = store.submit(&check("late")).await.unwrap().id;
                if oldest_first {
                    expected.push(late);
                }
                // One that has not been shown yet goes.
                let gone = expected.remove(12);
                store.cancel(&gone).await.unwrap();
                assert!(store.forget(&gone).await.unwrap());
                ids.retain(|id| *id != gone);
            }
            let Some(next) = page.next else { break };
            filter.after = Some(next);
        }
        if oldest_first {
            let late = expected.last().unwrap().clone();
            store.cancel(&late).await.unwrap();
            store.forget(&late).await.unwrap();
            assert_eq!(seen, expected);
        } else {
            expected.retain(|id| ids.contains(id));
            let seen: Vec<_> = seen.into_iter().filter(|id| ids.contains(id)).collect();
            assert_eq!(seen, expected);
        }
    }
    for (limit, after) in [(Some(0), None), (Some(501), None), (None, Some("x")), (None, Some("-1"))] {
        let filter = JobFilter { limit, after: after.map(str::to_owned), ..JobFilter::default() };
        assert_eq!(store.list(&filter).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

async fn filters_find_what_they_say(database: Database) {
    let store = database.open().await;
    let named = RunOptions { name: Some("Nightly_100%".to_owned()), ..RunOptions::default() };
    let nightly = store.submit(&with_run(named)).await.unwrap().id;
    let checked = store.submit(&check("vm/Web!Server.vmdk")).await.unwrap().id;
    let cancelled = store.submit(&convert("vm/other.raw", "out/other.qcow2")).await.unwrap().id;
    store.cancel(&cancelled).await.unwrap();
    let find = |filter: JobFilter| {
        let store = store.clone();
        async move { store.list(&filter).await.unwrap().jobs.into_iter().map(|job| job.id).collect::<HashSet<_>>() }
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<HashSet<_>>();
    let text = |text: &str| JobFilter { text: Some(text.to_owned()), ..JobFilter::default() };
    assert_eq!(find(text("nightly_100%")).await, set(&[&nightly]));
    assert_eq!(find(text("nightly_1%0")).await, set(&[]));
    assert_eq!(find(text("web!server")).await, set(&[&checked]));
    assert_eq!(find(text("VM/")).await, set(&[&checked, &cancelled]));
    assert_eq!(find(text("' OR '1'='1")).await, set(&[]));
    let states = JobFilter { states: vec![JobState::Cancelled, JobState::Failed], ..JobFilter::default() };
    assert_eq!(find(states.clone()).await, set(&[&cancelled]));
    assert_eq!(find(JobFilter { kinds: vec![JobKind::Check], ..states }).await, set(&[]));
    let kinds = JobFilter { kinds: vec![JobKind::Check, JobKind::Digest], ..JobFilter::default() };
    assert_eq!(find(kinds).await, set(&[&checked]));
    let counts = store.counts().await.unwrap();
    assert_eq!(
        counts,
        [
            (JobKind::Check, JobState::Queued, 1),
            (JobKind::Convert, JobState::Cancelled, 1),
            (JobKind::Convert, JobState::Queued, 1)
        ]
    );
}

async fn every_job_is_claimed_once(database: Database) {
    let store = database.open().await;
    let mut submitted = HashSet::new();
    for number in 0..60 {
        submitted.insert(store.submit(&check(&format!("disk{number}"))).await.unwrap().id);
    }
    let mut tasks = Vec::new();
    for worker in 0..6 {
        // Stores of their own, as other processes have.
        let store = database.open_with(StoreSettings { connections: 2, ..StoreSettings::default() }).await;
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            while let Some(claim) = store.claim(&format!("worker{worker}"), LEASE).await.unwrap() {
                assert_eq!((claim.token, claim.job.attempts, claim.duty), (1, 1, Duty::Run));
                mine.push(claim.job.id.clone());
                assert!(store.finish(&claim.job.id, claim.token, &result(), &[]).await.unwrap());
            }
            store.close().await;
            mine
        }));
    }
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap());
    }
    assert_eq!(claimed.len(), 60);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), submitted);
}

async fn higher_priorities_come_first(database: Database) {
    let store = database.open().await;
    let mut expected = Vec::new();
    for priority in [0, 5, -5, 5] {
        let run = RunOptions { priority: Some(priority), ..RunOptions::default() };
        expected.push((-priority, expected.len(), store.submit(&with_run(run)).await.unwrap().id));
    }
    expected.sort();
    for (_, _, id) in expected {
        assert_eq!(store.claim("w", LEASE).await.unwrap().unwrap().job.id, id);
    }
    assert!(store.claim("w", LEASE).await.unwrap().is_none());
}

async fn a_lease_that_ran_out_is_taken_over_and_the_old_token_is_worth_nothing(database: Database) {
    let store = database.open().await;
    let id = store.submit(&check("disk")).await.unwrap().id;
    let old = store.claim("old", SHORT).await.unwrap().unwrap();
    assert!(old.job.worker.as_deref() == Some("old") && store.claim("new", LEASE).await.unwrap().is_none());
    let beat = Beat { id: id.clone(), token: old.token, progress: None };
    // A heartbeat keeps it.
    assert_eq!(store.heartbeat(std::slice::from_ref(&beat), LEASE).await.unwrap(), [Pulse::Alive]);
    tokio::time::sleep(SHORT * 2).await;
    assert!(store.claim("new", LEASE).await.unwrap().is_none());
    assert_eq!(store.heartbeat(std::slice::from_ref(&beat), SHORT).await.unwrap(), [Pulse::Alive]);
    tokio::time::sleep(SHORT * 3).await;
    let new = store.claim("new", LEASE).await.unwrap().unwrap();
    assert!(new.token > old.token && new.job.id == id && new.duty == Duty::Run);
    assert_eq!(new.job.last_error.as_ref().unwrap().kind, JobErrorKind::WorkerLost);
    assert_eq!(new.job.attempts, 2);
    // Nothing that the old one says counts any more.
    assert_eq!(store.heartbeat(&[beat], LEASE).await.unwrap(), [Pulse::Lost]);
    let intent = serde_json::json!({"late": true});
    assert_eq!(store.intend(&id, old.token, &intent, LEASE).await.unwrap(), Pulse::Lost);
    assert!(!store.finish(&id, old.token, &result(), &[]).await.unwrap());
    assert_eq!(store.get(&id).await.unwrap().unwrap().state, JobState::Running);
    assert!(store.finish(&id, new.token, &result(), &["w".to_owned()]).await.unwrap());
    assert!(!store.finish(&id, new.token, &Outcome::Cancelled, &[]).await.unwrap());
    let job = store.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.warnings), (JobState::Done, vec!["w".to_owned()]));
    assert_eq!(job.result.unwrap().capacity_bytes, u64::MAX >> 2);
}

async fn a_job_that_loses_its_workers_stops_after_its_attempts(database: Database) {
    let store = database.open().await;
    let id = store.submit(&with_run(RunOptions { max_attempts: Some(2), ..RunOptions::default() })).await.unwrap().id;
    for attempt in 1..=2 {
        let claim = store.claim("w", Duration::ZERO).await.unwrap().unwrap();
        assert_eq!((claim.job.attempts, &claim.duty), (attempt, &Duty::Run));
        tokio::time::sleep(SHORT).await;
    }
    let claim = store.claim("cleaner", LEASE).await.unwrap().unwrap();
    assert_eq!(claim.job.attempts, 2, "cleaning up is no attempt");
    let Duty::Settle(outcome) = claim.duty else { panic!("{:?}", claim.duty) };
    assert!(store.finish(&id, claim.token, &outcome, &[]).await.unwrap());
    let job = store.get(&id).await.unwrap().unwrap();
    let error = job.error.unwrap();
    assert_eq!((job.state, error.kind, error.attempt), (JobState::Failed, JobErrorKind::WorkerLost, 2));
    assert!(store.claim("w", LEASE).await.unwrap().is_none());
}

async fn a_failed_attempt_waits_and_then_fails_for_good(database: Database) {
    let store = database.open().await;
    let id = store.submit(&with_run(RunOptions { max_attempts: Some(2), ..RunOptions::default() })).await.unwrap().id;
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    let again = Outcome::Again { error: Some(network("one")), delay: SHORT * 4, counts: true };
    store.finish(&id, claim.token, &again, &[]).await.unwrap();
    let job = store.get(&id).await.unwrap().unwrap();
    assert!(job.state == JobState::Queued && job.not_before.is_some() && job.error.is_none());
    assert_eq!(job.last_error.unwrap().message, "one");
    assert!(store.claim("w", LEASE).await.unwrap().is_none(), "it has to wait");
    tokio::time::sleep(SHORT * 6).await;
    // A worker that has to stop itself gives the attempt back.
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    let back = Outcome::Again { error: None, delay: Duration::ZERO, counts: false };
    store.finish(&id, claim.token, &back, &[]).await.unwrap();
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    assert_eq!(claim.job.attempts, 2);
    let again = Outcome::Again { error: Some(network("two")), delay: SHORT, counts: true };
    store.finish(&id, claim.token, &again, &[]).await.unwrap();
    let job = store.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.error.unwrap().message), (JobState::Failed, "two".to_owned()));
    assert!(job.finished_at.is_some() && job.not_before.is_none());
}

async fn jobs_are_cancelled_in_every_state(database: Database) {
    let store = database.open().await;
    let queued = store.submit(&check("a")).await.unwrap().id;
    assert_eq!(store.cancel(&queued).await.unwrap().unwrap().state, JobState::Cancelled);
    assert!(store.claim("w", LEASE).await.unwrap().is_none());

    let running = store.submit(&check("b")).await.unwrap().id;
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    let job = store.cancel(&running).await.unwrap().unwrap();
    assert!(job.state == JobState::Running && job.cancel_requested);
    let beat = Beat { id: running.clone(), token: claim.token, progress: None };
    assert_eq!(store.heartbeat(&[beat], LEASE).await.unwrap(), [Pulse::CancelRequested]);
    let intent = serde_json::json!({});
    assert_eq!(store.intend(&running, claim.token, &intent, LEASE).await.unwrap(), Pulse::CancelRequested);
    // A worker that wants to put it back cancels it.
    let again = Outcome::Again { error: None, delay: SHORT, counts: false };
    assert!(store.finish(&running, claim.token, &again, &[]).await.unwrap());
    assert_eq!(store.get(&running).await.unwrap().unwrap().state, JobState::Cancelled);

    // One whose worker is gone is cleaned up and not done.
    let lost = store.submit(&check("c")).await.unwrap().id;
    store.claim("w", Duration::ZERO).await.unwrap().unwrap();
    store.cancel(&lost).await.unwrap();
    tokio::time::sleep(SHORT).await;
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    assert_eq!(claim.duty, Duty::Settle(Outcome::Cancelled));
    store.finish(&lost, claim.token, &Outcome::Cancelled, &[]).await.unwrap();

    // One that has ended stays as it is.
    let done = store.submit(&check("d")).await.unwrap().id;
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    store.finish(&done, claim.token, &result(), &[]).await.unwrap();
    let job = store.cancel(&done).await.unwrap().unwrap();
    assert!(job.state == JobState::Done && !job.cancel_requested);
}

async fn a_job_is_tried_again_with_its_last_error(database: Database) {
    let store = database.open().await;
    let id = store.submit(&check("a")).await.unwrap().id;
    assert_eq!(store.retry(&id).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    let failed = Outcome::Failed(Box::new(JobError::new(JobErrorKind::Corrupt, "broken")));
    store.finish(&id, claim.token, &failed, &[]).await.unwrap();
    let job = store.retry(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempts, &job.error), (JobState::Queued, 0, &None));
    assert_eq!(job.last_error.as_ref().unwrap().message, "broken");
    let second = store.claim("w", LEASE).await.unwrap().unwrap();
    assert!(second.token > claim.token, "a worker of the first run has no say in the second");
    assert!(!store.finish(&id, claim.token, &result(), &[]).await.unwrap());
    store.finish(&id, second.token, &result(), &[]).await.unwrap();
    let job = store.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.last_error.unwrap().message), (JobState::Done, "broken".to_owned()));
    assert_eq!(store.retry(&id).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

async fn events_are_numbered_and_of_progress_the_latest_is_kept(database: Database) {
    let store = database.open().await;
    let id = store.submit(&check("a")).await.unwrap().id;
    let follower = tokio::spawn(follow(database.open().await, id.clone()));
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    for done in 1..=5 {
        let progress = JobProgress { done_bytes: done, total_bytes: Some(5), ..JobProgress::default() };
        let beat = Beat { id: id.clone(), token: claim.token, progress: Some(progress) };
        store.heartbeat(&[beat], LEASE).await.unwrap();
    }
    store.cancel(&id).await.unwrap();
    store.finish(&id, claim.token, &result(), &["mind".to_owned()]).await.unwrap();
    let events = store.events(&id, 0, 100).await.unwrap();
    let names: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(names, ["state", "state", "progress", "cancelRequested", "warning", "state"]);
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
    let EventKind::Progress { progress } = &events[2].kind else { panic!("{events:?}") };
    assert_eq!(progress.done_bytes, 5);
    // Who comes back sees what is behind the last one, and pages.
    assert_eq!(store.events(&id, events[3].id, 100).await.unwrap(), events[4..]);
    assert_eq!(store.events(&id, 0, 2).await.unwrap(), events[..2]);
    assert_eq!(store.get(&id).await.unwrap().unwrap().last_event, events[5].id);
    let seen = follower.await.unwrap();
    assert_eq!(seen.last(), events.last());
    assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id));
    // As JSON, they are what a browser gets.
    let json = serde_json::to_value(&events[5]).unwrap();
    assert_eq!((json["type"].as_str(), json["state"].as_str()), (Some("state"), Some("done")));
    assert_eq!(serde_json::from_value::<Event>(json).unwrap(), events[5]);
}

/// What somebody sees who follows a job from the beginning to its end, in another process.
async fn follow(store: Store, id: String) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let after = seen.last().map_or(0, |event| event.id);
        seen.extend(store.wait_for_events(&id, after, 100, Duration::from_secs(20)).await.unwrap());
        let ended = |event: &Event| matches!(&event.kind, EventKind::State { state, .. } if state.is_final());
        if seen.last().is_some_and(ended) {
            return seen;
        }
    }
}

async fn a_streamed_job_is_never_given_to_another(database: Database) {
    let store = database.open().await;
    let request = JobRequest::Convert(ConvertJob::new(Location::Stream("upload".to_owned()), path("b")));
    let claim = store.begin_streamed(&request, "http", Duration::ZERO).await.unwrap();
    assert!(claim.job.streamed && claim.job.state == JobState::Running);
    tokio::time::sleep(SHORT).await;
    let taken = store.claim("w", LEASE).await.unwrap().unwrap();
    let Duty::Settle(outcome) = taken.duty else { panic!("{:?}", taken.duty) };
    store.finish(&claim.job.id, taken.token, &outcome, &[]).await.unwrap();
    assert_eq!(store.get(&claim.job.id).await.unwrap().unwrap().state, JobState::Failed);
    assert_eq!(store.retry(&claim.job.id).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

async fn the_queue_has_an_end(database: Database) {
    let store = database.open_with(StoreSettings { max_queued: 2, ..StoreSettings::default() }).await;
    for _ in 0..2 {
        store.submit(&check("a")).await.unwrap();
    }
    assert_eq!(store.submit(&check("a")).await.unwrap_err().kind(), ErrorKind::TooLarge);
    store.claim("w", LEASE).await.unwrap().unwrap();
    store.submit(&check("a")).await.unwrap();
}

async fn old_jobs_are_forgotten(database: Database) {
    let store = database.open().await;
    let done = store.submit(&check("a")).await.unwrap().id;
    let claim = store.claim("w", LEASE).await.unwrap().unwrap();
    assert_eq!(store.forget(&done).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    store.finish(&done, claim.token, &result(), &[]).await.unwrap();
    let waiting = store.submit(&check("b")).await.unwrap().id;
    assert_eq!(store.forget_older(LEASE).await.unwrap(), 0);
    tokio::time::sleep(SHORT).await;
    assert_eq!(store.forget_older(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(store.get(&done).await.unwrap(), None);
    assert!(store.events(&done, 0, 10).await.unwrap().is_empty());
    assert!(store.get(&waiting).await.unwrap().is_some());
}

async fn many_open_a_new_database_at_once(database: Database) {
    let opening: Vec<_> = (0..6)
        .map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move {
                Store::open(&url, StoreSettings { connections: 2, ..StoreSettings::default() }).await
            })
        })
        .collect();
    for store in opening {
        let store = store.await.unwrap().unwrap();
        store.submit(&check("a")).await.unwrap();
        store.close().await;
    }
    // One that a later version has migrated is left alone.
    sqlx::any::install_default_drivers();
    let url = if database.url.starts_with('/') { encoded(&database.url) } else { database.url.clone() };
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::query("UPDATE transload_schema SET version = 999").execute(&pool).await.unwrap();
    pool.close().await;
    let error = Store::open(&database.url, StoreSettings::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

fn encoded(path: &str) -> String {
    let special: BTreeMap<char, &str> = [('%', "%25"), ('?', "%3F"), ('#', "%23"), (' ', "%20")].into();
    path.chars().fold("sqlite://".to_owned(), |url, letter| {
        special.get(&letter).map_or_else(|| format!("{url}{letter}"), |text| format!("{url}{text}"))
    })
}

async fn addresses_are_shown_without_secrets(database: Database) {
    let store = database.open().await;
    let secret = Location::Url("https://user:secret@host.example/disk.qcow2?signature=secret".to_owned());
    let request = JobRequest::Convert(ConvertJob::new(secret, path("b")));
    let submitted = store.submit(&request).await.unwrap();
    let listed = store.list(&JobFilter::default()).await.unwrap().jobs.remove(0);
    for job in [submitted.clone(), listed, store.get(&submitted.id).await.unwrap().unwrap()] {
        let json = serde_json::to_string(&job).unwrap();
        assert!(!json.contains("secret") && json.contains("host.example"), "{json}");
    }
    let text = JobFilter { text: Some("secret".to_owned()), ..JobFilter::default() };
    assert!(store.list(&text).await.unwrap().jobs.is_empty());
    // Who does the job needs them.
    assert_eq!(store.claim("w", LEASE).await.unwrap().unwrap().job.request, request);
}

async fn a_publication_is_recorded_by_its_owner_alone(database: Database) {
    let store = database.open().await;
    let id = store.submit(&check("a")).await.unwrap().id;
    let old = store.claim("old", LEASE).await.unwrap().unwrap();
    let intent = serde_json::json!({"files": ["ä"]});
    assert_eq!(store.intend(&id, old.token, &intent, Duration::ZERO).await.unwrap(), Pulse::Alive);
    tokio::time::sleep(SHORT).await;
    let new = store.claim("new", LEASE).await.unwrap().unwrap();
    assert_eq!(new.intent, Some(intent));
    store.drop_intent(&id, old.token).await.unwrap();
    assert_eq!(store.active_workers().await.unwrap(), ["new"]);
    store.expire_worker("old").await.unwrap();
    assert!(store.claim("third", LEASE).await.unwrap().is_none());
    store.expire_worker("new").await.unwrap();
    let third = store.claim("third", LEASE).await.unwrap().unwrap();
    assert!(third.intent.is_some(), "only its owner drops it");
    store.drop_intent(&id, third.token).await.unwrap();
    store.expire_worker("third").await.unwrap();
    assert_eq!(store.claim("fourth", LEASE).await.unwrap().unwrap().intent, None);
}
