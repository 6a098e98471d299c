//! Workers on real disks: what they make, what they leave, and who may finish what others began.

#![expect(clippy::unwrap_used, reason = "tests that run on two databases are functions without the attribute")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use support::{Database, House, Process, be_a_worker, convert, done, path, same, wait_for, wait_for_end};
use transload::block::ErrorKind;
use transload_jobs::model::{
    ArchiveJob, CheckJob, Codec, ConvertJob, DigestJob, DigestName, EventKind, ExportJob, Hypervisor, ImportJob,
    JobErrorKind, JobRequest, JobResult, JobState, Location, Prealloc, ReadOptions, RunOptions, ValidateJob,
};
use transload_jobs::root::Root;
use transload_jobs::worker::{Password, WorkerSettings, Workers};
use transload_testkit::witness;

on_both!(
    a_disk_is_converted,
    a_killed_worker_s_job_goes_to_another,
    a_worker_that_stood_still_cannot_publish,
    a_job_that_kills_its_workers_stops,
    a_running_job_is_cancelled_from_elsewhere,
    a_shutdown_puts_jobs_back,
);

#[tokio::test]
#[ignore = "run by other tests, in a process of its own"]
async fn worker_process() {
    be_a_worker().await;
}

async fn a_disk_is_converted(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("in/disk.raw", 8);
    let workers = Workers::start(store.clone(), house.settings());
    let job = JobRequest::Convert(ConvertJob {
        digests: vec![DigestName::Sha256],
        compress: Some(Codec::Zlib),
        verify: true,
        ..ConvertJob::new(path("in/disk.raw"), path("out/new/disk.qcow2"))
    });
    let id = store.submit(&job).await.unwrap().id;
    let job = done(&store, &id).await;
    let result = job.result.unwrap();
    assert_eq!((result.output.as_deref(), result.format.as_deref()), (Some("out/new/disk.qcow2"), Some("qcow2")));
    assert_eq!(result.capacity_bytes, 8 << 20);
    let target = house.path("out/new/disk.qcow2");
    assert_eq!(result.files.len(), 1);
    assert_eq!(result.files[0].name, "out/new/disk.qcow2");
    assert_eq!(result.files[0].size_bytes, Some(fs::metadata(&target).unwrap().len()));
    let expected = witness::must("sha256sum", [house.path("in/disk.raw")]);
    assert_eq!(Some(result.digests[0].hex.as_str()), expected.split(' ').next());
    assert_eq!(result.details["verified"], true);
    assert_eq!(job.progress.total_bytes, Some(8 << 20));
    witness::assert_same_guest(&house.path("in/disk.raw"), "raw", &target, "qcow2");
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    assert_eq!((job.worker.as_deref(), workers.active()), (Some(workers.name()), 0));
    workers.shutdown(Duration::from_secs(5)).await;
}

/// Waits until a worker has written something that is not whole, and says where.
async fn partial(house: &House) {
    let started = Instant::now();
    while house.litter().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "nobody begins");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_killed_worker_s_job_goes_to_another(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("disk.raw", 8);
    let slow = Process::start(&database, &house, Some(2 << 20));
    let id = store.submit(&convert("disk.raw", "disk.qcow2")).await.unwrap().id;
    wait_for(&store, &id, |job| job.progress.done_bytes > 0).await;
    partial(&house).await;
    let pid = slow.id().to_string();
    slow.kill();
    assert!(!house.path("disk.qcow2").exists());
    let workers =
        Workers::start(store.clone(), WorkerSettings { lease: Duration::from_secs(3600), ..house.settings() });
    let job = done(&store, &id).await;
    assert_eq!(job.attempts, 2);
    let lost = job.last_error.unwrap();
    assert!(lost.kind == JobErrorKind::WorkerLost && lost.message.contains(&pid), "{lost:?}");
    witness::assert_same_guest(&house.path("disk.raw"), "raw", &house.path("disk.qcow2"), "qcow2");
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    workers.shutdown(Duration::from_secs(5)).await;
}

async fn a_worker_that_stood_still_cannot_publish(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("disk.raw", 6);
    let still = Process::start(&database, &house, Some(2 << 20));
    let id = store.submit(&convert("disk.raw", "disk.qcow2")).await.unwrap().id;
    wait_for(&store, &id, |job| job.progress.done_bytes > 0).await;
    partial(&house).await;
    // SQLite has one writer; one that stands still in the middle of writing would hold everybody up.
    loop {
        still.signal("STOP");
        if tokio::time::timeout(Duration::from_secs(1), store.expire_worker("nobody")).await.is_ok() {
            break;
        }
        still.signal("CONT");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It lives, so that only its lease tells.
    let workers = Workers::start(store.clone(), house.settings());
    let job = done(&store, &id).await;
    assert_eq!((job.attempts, job.worker.as_deref()), (2, Some(workers.name())));
    let published = fs::metadata(house.path("disk.qcow2")).unwrap();
    still.signal("CONT");
    // Long enough for it to end what it had begun, and to hear that it is late.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let now = fs::metadata(house.path("disk.qcow2")).unwrap();
    assert_eq!((now.ino(), now.mtime_nsec()), (published.ino(), published.mtime_nsec()));
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    assert_eq!(store.get(&id).await.unwrap().unwrap(), job);
    workers.shutdown(Duration::from_secs(5)).await;
}

async fn a_job_that_kills_its_workers_stops(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("disk.raw", 8);
    let request = JobRequest::Convert(ConvertJob {
        run: RunOptions { max_attempts: Some(2), ..RunOptions::default() },
        ..ConvertJob::new(path("disk.raw"), path("disk.qcow2"))
    });
    let id = store.submit(&request).await.unwrap().id;
    for attempt in 1..=2 {
        let worker = Process::start(&database, &house, Some(1 << 20));
        wait_for(&store, &id, |job| job.state == JobState::Running && job.attempts == attempt).await;
        partial(&house).await;
        worker.kill();
    }
    let workers = Workers::start(store.clone(), house.settings());
    let job = wait_for_end(&store, &id).await;
    assert_eq!((job.state, job.attempts), (JobState::Failed, 2));
    assert_eq!(job.error.unwrap().kind, JobErrorKind::WorkerLost);
    assert!(!house.path("disk.qcow2").exists() && house.litter().is_empty(), "{:?}", house.litter());
    // Whoever asks for it by hand gets it done.
    store.retry(&id).await.unwrap();
    done(&store, &id).await;
    workers.shutdown(Duration::from_secs(5)).await;
}

async fn a_running_job_is_cancelled_from_elsewhere(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("disk.raw", 32);
    let settings = WorkerSettings { rate: Some(2 << 20), ..house.settings() };
    let workers = Workers::start(database.open().await, settings);
    let id = store.submit(&convert("disk.raw", "disk.qcow2")).await.unwrap().id;
    wait_for(&store, &id, |job| job.progress.done_bytes > 0).await;
    assert!(!house.litter().is_empty());
    store.cancel(&id).await.unwrap();
    let asked = Instant::now();
    let job = wait_for_end(&store, &id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(!house.path("disk.qcow2").exists() && house.litter().is_empty(), "{:?}", house.litter());
    let events = store.events(&id, 0, 100).await.unwrap();
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::CancelRequested)));
    workers.shutdown(Duration::from_secs(5)).await;
}

async fn a_shutdown_puts_jobs_back(database: Database) {
    let (house, store) = (House::new(), database.open().await);
    house.disk("disk.raw", 8);
    let slow = WorkerSettings { rate: Some(1 << 20), ..house.settings() };
    let workers = Workers::start(store.clone(), slow);
    let id = store.submit(&convert("disk.raw", "disk.qcow2")).await.unwrap().id;
    wait_for(&store, &id, |job| job.progress.done_bytes > 0).await;
    workers.shutdown(Duration::from_millis(50)).await;
    let job = store.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempts, &job.error), (JobState::Queued, 0, &None));
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    let workers = Workers::start(store.clone(), house.settings());
    assert_eq!(done(&store, &id).await.attempts, 1);
    assert!(same_guest(&house, "disk.raw", "disk.qcow2"));
    workers.shutdown(Duration::from_secs(5)).await;
}

fn same_guest(house: &House, raw: &str, qcow2: &str) -> bool {
    witness::assert_same_guest(&house.path(raw), "raw", &house.path(qcow2), "qcow2");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_job_does_what_its_command_does() {
    let (house, database) = (House::new(), Database::sqlite());
    let store = database.open().await;
    let password = Password::new("secret");
    let settings = WorkerSettings { archive_password: Some(password.clone()), ..house.settings() };
    let workers = Workers::start(store.clone(), settings);
    assert!(!format!("{password:?}").contains("secret"));
    house.disk("vm/disk.raw", 4);
    let run = async |request: JobRequest| done(&store, &store.submit(&request).await.unwrap().id).await.result.unwrap();

    // An image of two files.
    let options = BTreeMap::from([("subformat".to_owned(), "monolithicFlat".to_owned())]);
    let flat = ConvertJob { options, ..ConvertJob::new(path("vm/disk.raw"), path("vm/disk.vmdk")) };
    let made = run(JobRequest::Convert(flat)).await;
    assert_eq!(made.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), ["vm/disk-flat.vmdk", "vm/disk.vmdk"]);
    witness::assert_same_guest(&house.path("vm/disk.raw"), "raw", &house.path("vm/disk.vmdk"), "vmdk");

    let read = ReadOptions::default;
    let options = RunOptions::default;
    let digest =
        DigestJob { source: path("vm/disk.vmdk"), read: read(), algorithm: DigestName::Sha256, run: options() };
    let digest = run(JobRequest::Digest(digest)).await;
    assert!(witness::must("sha256sum", [house.path("vm/disk.raw")]).starts_with(&digest.digests[0].hex));

    run(convert("vm/disk.raw", "vm/disk.qcow2")).await;
    let check = CheckJob { source: path("vm/disk.qcow2"), read: read(), run: options() };
    let found = run(JobRequest::Check(check.clone())).await;
    assert_eq!((found.sound, found.details["clean"].as_bool()), (Some(true), Some(true)));
    // A refcount of zero where there is data.
    let mut image = fs::read(house.path("vm/disk.qcow2")).unwrap();
    let table = usize::try_from(u64::from_be_bytes(image[48..56].try_into().unwrap())).unwrap();
    let block = usize::try_from(u64::from_be_bytes(image[table..table + 8].try_into().unwrap())).unwrap();
    image[block + 20..block + 22].fill(0);
    fs::write(house.path("vm/bad.qcow2"), image).unwrap();
    let found = run(JobRequest::Check(CheckJob { source: path("vm/bad.qcow2"), ..check })).await;
    assert_eq!(found.sound, Some(false), "{:?}", found.details);

    let vmx = "config.version = \"8\"\nvirtualHW.version = \"19\"\nmemsize = \"512\"\nnumvcpus = \"1\"\ndisplayName = \"web\"\n\
         guestOS = \"debian12-64\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\nscsi0:0.present = \"TRUE\"\n\
         scsi0:0.fileName = \"disk.vmdk\"\n";
    fs::write(house.path("vm/web.vmx"), vmx).unwrap();
    let made = run(JobRequest::Export(ExportJob::new(path("vm/web.vmx"), path("out/web.ova")))).await;
    assert_eq!((made.files.len(), made.capacity_bytes), (1, 4 << 20));
    let made = run(JobRequest::Export(ExportJob::new(path("vm/web.vmx"), path("out/web/web.ovf")))).await;
    assert_eq!(made.files.len(), 3, "{:?}", made.files);

    let validate =
        ValidateJob { source: path("out/web.ova"), importers: vec!["virtualbox-7".to_owned()], run: options() };
    let found = run(JobRequest::Validate(validate)).await;
    assert_eq!((found.sound, found.details["verdicts"].as_array().map(Vec::len)), (Some(true), Some(1)));

    let import = ImportJob::new(path("out/web.ova"), path("machines/web"), Hypervisor::Libvirt);
    let made = run(JobRequest::Import(import)).await;
    assert_eq!(made.files.len(), 2, "{:?}", made.files);
    let folder = house.path("machines/web");
    let domain = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let domain = domain.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "xml")).unwrap();
    let domain = fs::read_to_string(domain).unwrap();
    assert!(domain.contains(folder.to_str().unwrap()) && !domain.contains(".transload"), "{domain}");

    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("hello"), "world").unwrap();
    let (image, tree) = (house.path("vm/files.raw"), files.path().to_owned());
    witness::must("mke2fs", ["-q", "-d", tree.to_str().unwrap(), "-t", "ext4", image.to_str().unwrap(), "8M"]);
    let archive = || ArchiveJob {
        source: path("vm/files.raw"),
        target: path("archives/web"),
        read: read(),
        disk: None,
        host: None,
        tags: vec!["nightly".to_owned()],
        reread: false,
        run: options(),
    };
    let made = run(JobRequest::Archive(archive())).await;
    assert_eq!((made.sound, made.details["files"].as_u64()), (Some(true), Some(1)), "{:?}", made.details);
    assert_eq!(run(JobRequest::Archive(archive())).await.details["unchanged"].as_u64(), Some(1));
    let opened = transload::archive::Repository::open(
        &house.path("archives/web"),
        b"secret",
        transload::archive::OpenSettings::default(),
    );
    assert_eq!(opened.unwrap().snapshots().unwrap().len(), 2);
    assert!(house.litter().is_empty(), "{:?}", house.litter());
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_leaves_nothing() {
    let (house, database) = (House::new(), Database::sqlite());
    let uploads = tempfile::tempdir().unwrap();
    let store = database.open().await;
    let settings = WorkerSettings { uploads: Some(Root::new(uploads.path()).unwrap()), ..house.settings() };
    let workers = Workers::start(store.clone(), settings);
    house.disk("disk.raw", 1);
    fs::write(uploads.path().join("up-1"), vec![1; 1 << 20]).unwrap();
    fs::write(house.path("there.qcow2"), "mine").unwrap();
    std::os::unix::fs::symlink("/etc", house.path("away")).unwrap();
    let from = |source: Location| ConvertJob::new(source, path("new.qcow2"));
    let url = |text: &str| Location::Url(text.to_owned());
    let declared = |job: ConvertJob, format: &str| ConvertJob {
        read: ReadOptions { format: Some(format.to_owned()), ..ReadOptions::default() },
        ..job
    };
    let checksum = |job: ConvertJob, text: &str| ConvertJob {
        read: ReadOptions { checksum: Some(text.to_owned()), ..ReadOptions::default() },
        ..job
    };
    for (job, kind) in [
        (from(path("nothing.raw")), JobErrorKind::Io),
        (from(path("../disk.raw")), JobErrorKind::Denied),
        (from(path("away/passwd")), JobErrorKind::Denied),
        (ConvertJob::new(path("disk.raw"), path("away/x.qcow2")), JobErrorKind::Denied),
        (ConvertJob::new(path("disk.raw"), path("../x.qcow2")), JobErrorKind::Denied),
        (ConvertJob::new(path("disk.raw"), path("there.qcow2")), JobErrorKind::Denied),
        (ConvertJob::new(path("disk.raw"), path("x.unknown")), JobErrorKind::InvalidInput),
        (
            ConvertJob {
                force: true,
                format: Some("raw".to_owned()),
                ..ConvertJob::new(path("disk.raw"), path("disk.raw"))
            },
            JobErrorKind::InvalidInput,
        ),
        (declared(from(path("disk.raw")), "qcow2"), JobErrorKind::NotThisFormat),
        (declared(from(path("disk.raw")), "nonsense"), JobErrorKind::InvalidInput),
        (ConvertJob { level: Some("13".to_owned()), ..from(path("disk.raw")) }, JobErrorKind::InvalidInput),
        (from(Location::Upload("up-2".to_owned())), JobErrorKind::Io),
        (
            checksum(from(path("disk.raw")), "sha256:0000000000000000000000000000000000000000000000000000000000000000"),
            JobErrorKind::Checksum,
        ),
        // Addresses on this machine and its networks, and none that names a file.
        (from(url("http://127.0.0.1:1/disk.raw")), JobErrorKind::Denied),
        (from(url("http://169.254.169.254/latest/meta-data")), JobErrorKind::Denied),
        (from(url("http://[::1]/disk.raw")), JobErrorKind::Denied),
    ] {
        let text = format!("{job:?}");
        let id = store.submit(&JobRequest::Convert(job)).await.unwrap().id;
        let job = wait_for_end(&store, &id).await;
        let found = job.error.as_ref().map(|error| error.kind);
        assert_eq!((job.state, found, job.attempts), (JobState::Failed, Some(kind), 1), "{text}: {:?}", job.error);
    }
    assert_eq!(fs::read_to_string(house.path("there.qcow2")).unwrap(), "mine");
    assert!(!house.path("new.qcow2").exists() && house.litter().is_empty(), "{:?}", house.litter());

    let upload = ConvertJob { prealloc: Prealloc::Full, ..from(Location::Upload("up-1".to_owned())) };
    let id = store.submit(&JobRequest::Convert(upload)).await.unwrap().id;
    done(&store, &id).await;
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_request_carries_stands_in_the_list() {
    let (house, database) = (House::new(), Database::sqlite());
    let store = database.open().await;
    let workers = Workers::start(store.clone(), house.settings());
    let request = JobRequest::Convert(ConvertJob::new(Location::Stream("disk.raw".to_owned()), path("disk.raw")));
    let target = house.root.resolve_new("disk.raw").unwrap();

    let tracked = workers.track(&request).await.unwrap();
    let id = tracked.id().to_owned();
    transload::convert::Progress::begin(&**tracked.meter(), 7);
    wait_for(&store, &id, |job| job.progress.total_bytes == Some(7)).await;
    let staging = tracked.stage(&target, false).unwrap();
    fs::write(staging.path(), "content").unwrap();
    let result = tracked.publish(staging, false, JobResult::default(), Vec::new()).await.unwrap();
    assert_eq!(result.files[0].size_bytes, Some(7));
    assert_eq!(done(&store, &id).await.result.unwrap(), result);
    assert_eq!(fs::read_to_string(&target).unwrap(), "content");

    // A client that goes away.
    let tracked = workers.track(&request).await.unwrap();
    let id = tracked.id().to_owned();
    drop(tracked);
    let job = wait_for_end(&store, &id).await;
    assert_eq!((job.state, job.error.unwrap().kind), (JobState::Failed, JobErrorKind::Network));

    // One that is cancelled in the list.
    let tracked = workers.track(&request).await.unwrap();
    let other = house.root.resolve_new("other.raw").unwrap();
    let staging = tracked.stage(&other, false).unwrap();
    fs::write(staging.path(), "content").unwrap();
    let id = tracked.id().to_owned();
    store.cancel(&id).await.unwrap();
    let started = Instant::now();
    while !tracked.cancel().is_cancelled() {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = tracked.publish(staging, false, JobResult::default(), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(wait_for_end(&store, &id).await.state, JobState::Cancelled);
    assert!(!other.exists() && house.litter().is_empty());
    assert_eq!(workers.active(), 0);
    workers.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_jobs_run_at_once_as_may() {
    let (house, database) = (House::new(), Database::sqlite());
    let store = database.open().await;
    house.disk("disk.raw", 4);
    let settings = WorkerSettings { concurrency: 3, rate: Some(12 << 20), ..house.settings() };
    let workers = Workers::start(store.clone(), settings);
    let mut ids = Vec::new();
    for number in 0..9 {
        ids.push(store.submit(&convert("disk.raw", &format!("out/{number}.raw"))).await.unwrap().id);
    }
    let started = Instant::now();
    let mut most = 0;
    loop {
        let counts = store.counts().await.unwrap();
        let of = |state| counts.iter().filter(|(_, there, _)| *there == state).map(|(_, _, jobs)| *jobs).sum::<u64>();
        most = most.max(of(JobState::Running));
        if of(JobState::Done) == 9 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{counts:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 36 MiB at 12 MiB/s.
    assert!(started.elapsed() >= Duration::from_millis(2500), "{:?}", started.elapsed());
    assert_eq!(most, 3);
    for number in 0..9 {
        assert!(same(&house.path("disk.raw"), &house.path(&format!("out/{number}.raw"))));
    }
    workers.shutdown(Duration::from_secs(5)).await;
}
