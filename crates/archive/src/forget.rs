//! Which snapshots are kept, and removing the others. Their space is given back by compaction.

use std::collections::HashSet;

use transload_block::Result;

use crate::format::id::Id;
use crate::format::snapshot::Snapshot;
use crate::format::time::Time;
use crate::repository::Repository;
use crate::store::Kind;

/// How many snapshots of each group are kept. One that any rule keeps stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The last ones.
    pub last: usize,
    /// The last of each of so many hours.
    pub hourly: usize,
    /// The last of each of so many days.
    pub daily: usize,
    /// The last of each of so many weeks, which begin on Mondays.
    pub weekly: usize,
    /// The last of each of so many months.
    pub monthly: usize,
    /// The last of each of so many years.
    pub yearly: usize,
}

impl Keep {
    /// Whether it keeps nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The snapshots that go. Those of the same machine and the same disks are one group.
    #[must_use]
    pub fn forgotten<'a>(&self, snapshots: &'a [Snapshot]) -> Vec<&'a Snapshot> {
        let mut groups: Vec<(&str, &[String])> =
            snapshots.iter().map(|snapshot| (snapshot.hostname.as_str(), snapshot.paths.as_slice())).collect();
        groups.sort_unstable();
        groups.dedup();
        let mut gone = Vec::new();
        for group in groups {
            let mut members: Vec<&Snapshot> = snapshots
                .iter()
                .filter(|snapshot| (snapshot.hostname.as_str(), snapshot.paths.as_slice()) == group)
                .collect();
            members.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.time, snapshot.id)));
            let kept = self.kept(&members);
            gone.extend(members.into_iter().filter(|snapshot| !kept.contains(&snapshot.id)));
        }
        gone
    }

    /// The snapshots of a group that stay; the newest come first.
    fn kept(&self, members: &[&Snapshot]) -> HashSet<Id> {
        /// The number of a period that a moment is in.
        type Period = fn(&Time) -> i64;
        let rules: [(usize, Period); 5] = [
            (self.hourly, |time| time.seconds().div_euclid(3600)),
            (self.daily, Time::day),
            // 1970-01-01 was a Thursday.
            (self.weekly, |time| (time.day() + 3).div_euclid(7)),
            (self.monthly, |time| time.date().0 * 12 + i64::from(time.date().1)),
            (self.yearly, |time| time.date().0),
        ];
        let mut kept: HashSet<Id> = members.iter().take(self.last).map(|snapshot| snapshot.id).collect();
        for (count, period) in rules {
            let mut seen = HashSet::new();
            for snapshot in members {
                if seen.len() < count && seen.insert(period(&snapshot.time)) {
                    kept.insert(snapshot.id);
                }
            }
        }
        kept
    }
}

/// Removes snapshots. What they alone need is given back by [`compact`](crate::compact()).
///
/// # Errors
/// `Denied` while the archive is being compacted.
pub fn forget(repository: &Repository, snapshots: &[Id]) -> Result<()> {
    let lock = repository.lock(true)?;
    for id in snapshots {
        lock.check()?;
        repository.store.remove(Kind::Snapshot, *id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Id, Keep, Snapshot, Time};

    #[test]
    fn the_last_of_each_period_is_kept() {
        let snapshot = |time: &str, host: &str| Snapshot {
            id: Id::of(format!("{time}{host}").as_bytes()),
            time: time.parse::<Time>().unwrap(),
            tree: Id::of(b""),
            paths: vec!["/web".to_owned()],
            hostname: host.to_owned(),
            tags: Vec::new(),
            program: String::new(),
            parent: None,
        };
        let times = [
            "2025-12-31T10:00:00Z",
            "2026-01-01T09:00:00Z",
            "2026-01-01T10:00:00Z",
            "2026-01-04T23:00:00Z",
            "2026-01-05T01:00:00Z",
        ];
        let mut all: Vec<_> = times.iter().map(|time| snapshot(time, "a")).collect();
        all.push(snapshot("2020-01-01T00:00:00Z", "b"));
        let gone = |keep: Keep| keep.forgotten(&all).iter().map(|one| one.time.to_string()).collect::<Vec<_>>();
        let none = Keep::default();
        assert!(none.is_nothing());
        assert_eq!(gone(Keep { last: 1, ..none }).len(), 4);
        assert_eq!(gone(Keep { daily: 3, ..none }), [times[1], times[0]]);
        // Monday the 5th begins a week; the 4th ends the one before.
        assert_eq!(gone(Keep { weekly: 2, ..none }), [times[2], times[1], times[0]]);
        assert_eq!(gone(Keep { yearly: 5, ..none }), [times[3], times[2], times[1]]);
        assert_eq!(gone(Keep { monthly: 1, last: 2, ..none }), [times[2], times[1], times[0]]);
        assert_eq!(gone(Keep { hourly: 9, ..none }), [""; 0]);
    }
}
