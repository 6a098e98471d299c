//! Publications by one, by two, and by one who comes too late.

use tempfile::TempDir;

use super::*;

const JOB: &str = "0190-job";

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk.vmdk");
    (folder, target)
}

/// A staged output of two files.
fn staged(target: &Path, token: i64, force: bool) -> Staging {
    let staging = Staging::create(target, JOB, token, force).unwrap();
    fs::write(staging.path(), format!("descriptor of {token}")).unwrap();
    fs::write(staging.folder().join("disk-flat.vmdk"), format!("extent of {token}")).unwrap();
    staging
}

fn plan(staging: &Staging, force: bool) -> Plan {
    staging.plan(force, JobResult::default(), Vec::new()).unwrap()
}

/// As it comes back from the store.
fn recalled(plan: &Plan) -> Plan {
    serde_json::from_value(serde_json::to_value(plan).unwrap()).unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_appear_together_the_one_that_names_the_others_last() {
    let (folder, target) = place();
    let staging = staged(&target, 1, false);
    assert!(!target.exists());
    let plan = plan(&staging, false);
    assert_eq!(plan.moves.last().unwrap().to, target);
    assert_eq!(plan.files().unwrap().len(), 2);
    plan.carry_out().unwrap();
    drop(staging);
    assert_eq!(names(&folder), ["disk-flat.vmdk", "disk.vmdk"]);
    assert_eq!(fs::read_to_string(target).unwrap(), "descriptor of 1");
}

#[test]
fn what_is_not_published_leaves_nothing() {
    let (folder, target) = place();
    drop(staged(&target, 1, false));
    let staging = staged(&target, 2, false);
    plan(&staging, false);
    drop(staging);
    assert!(names(&folder).is_empty());
}

#[test]
fn who_has_lost_the_job_cannot_publish() {
    let (folder, target) = place();
    let old = staged(&target, 1, false);
    let late = plan(&old, false);
    // Another takes the job over: it has a higher token by now, and no intent of the old one stands in the store.
    sweep(&target, JOB, 2).unwrap();
    assert!(names(&folder).is_empty());
    assert!(late.carry_out().is_err());
    assert!(names(&folder).is_empty());
    // The old one goes on writing where its folder was: that leads nowhere.
    assert!(fs::write(old.path(), "late").is_err());
    let new = staged(&target, 2, false);
    plan(&new, false).carry_out().unwrap();
    assert!(late.carry_out().is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "descriptor of 2");
    drop((old, new));
    assert_eq!(names(&folder), ["disk-flat.vmdk", "disk.vmdk"]);
}

#[test]
fn a_publication_that_broke_off_anywhere_is_finished_by_another() {
    for done in 0..=2 {
        for force in [false, true] {
            let (folder, target) = place();
            if force {
                fs::write(&target, "old").unwrap();
                fs::write(folder.path().join("disk-flat.vmdk"), "old").unwrap();
            }
            let staging = staged(&target, 1, force);
            let intent = recalled(&plan(&staging, force));
            for one in &intent.moves[..done] {
                fs::rename(intent.staging().join(&one.from), &one.to).unwrap();
            }
            // The process is gone; its folder is not.
            std::mem::forget(staging);
            intent.carry_out().unwrap();
            // And once more, by a third.
            recalled(&intent).carry_out().unwrap();
            sweep(&target, JOB, 3).unwrap();
            assert_eq!(names(&folder), ["disk-flat.vmdk", "disk.vmdk"]);
            assert_eq!(fs::read_to_string(&target).unwrap(), "descriptor of 1");
        }
    }
}

#[test]
fn two_may_finish_the_same_publication_at_once() {
    for round in 0..100 {
        let (folder, target) = place();
        let staging = staged(&target, round, false);
        let plan = plan(&staging, false);
        std::thread::scope(|scope| {
            let both = [scope.spawn(|| plan.carry_out()), scope.spawn(|| plan.carry_out())];
            for one in both {
                one.join().unwrap().unwrap();
            }
        });
        drop(staging);
        assert_eq!(names(&folder), ["disk-flat.vmdk", "disk.vmdk"]);
    }
}

#[test]
fn what_is_there_is_kept_unless_told_otherwise() {
    let (folder, target) = place();
    fs::write(&target, "mine").unwrap();
    assert_eq!(Staging::create(&target, JOB, 1, false).unwrap_err().kind(), ErrorKind::Denied);
    fs::remove_file(&target).unwrap();
    // Somebody else makes it meanwhile: before the plan, and after it.
    let staging = staged(&target, 1, false);
    let late = plan(&staging, false);
    fs::write(&target, "mine").unwrap();
    assert_eq!(staging.plan(false, JobResult::default(), Vec::new()).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(late.carry_out().unwrap_err().kind(), ErrorKind::Denied);
    drop(staging);
    assert_eq!(names(&folder), ["disk.vmdk"], "the extent that had its name already is taken back");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    let staging = staged(&target, 2, true);
    plan(&staging, true).carry_out().unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "descriptor of 2");
}

#[test]
fn folders_are_published_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("vm");
    let stage = |token, force| {
        let staging = Staging::create(&target, JOB, token, force).unwrap();
        fs::create_dir(staging.path()).unwrap();
        fs::write(staging.path().join("disk1.qcow2"), token.to_string()).unwrap();
        staging
    };
    // An empty folder is as good as none.
    fs::create_dir(&target).unwrap();
    let staging = stage(1, false);
    let first = plan(&staging, false);
    assert_eq!(first.files().unwrap(), [(target.join("disk1.qcow2"), 1)]);
    first.carry_out().unwrap();
    recalled(&first).carry_out().unwrap();
    drop(staging);
    assert_eq!(fs::read_to_string(target.join("disk1.qcow2")).unwrap(), "1");
    // One with files in it is not, and with force it gets the new ones beside its own.
    assert_eq!(Staging::create(&target, JOB, 2, false).unwrap_err().kind(), ErrorKind::Denied);
    fs::write(target.join("notes"), "mine").unwrap();
    let staging = stage(2, true);
    let second = plan(&staging, true);
    second.carry_out().unwrap();
    recalled(&second).carry_out().unwrap();
    drop(staging);
    assert_eq!(fs::read_to_string(target.join("disk1.qcow2")).unwrap(), "2");
    assert_eq!(fs::read_to_string(target.join("notes")).unwrap(), "mine");
    assert_eq!(names(&folder), ["vm"]);
}

#[test]
fn only_earlier_attempts_at_the_same_job_are_swept() {
    let (folder, target) = place();
    let kept =
        [Staging::create(&target, JOB, 5, false).unwrap(), Staging::create(&target, "another", 1, false).unwrap()];
    std::mem::forget(staged(&target, 3, false));
    fs::create_dir(folder.path().join(format!(".transload-{JOB}-4.dead"))).unwrap();
    fs::write(folder.path().join(format!(".transload-{JOB}-x")), "no token").unwrap();
    sweep(&target, JOB, 5).unwrap();
    assert_eq!(
        names(&folder),
        [format!(".transload-{JOB}-5"), format!(".transload-{JOB}-x"), ".transload-another-1".to_owned()]
    );
    drop(kept);
    sweep(&folder.path().join("nothing/disk"), JOB, 9).unwrap();
}
