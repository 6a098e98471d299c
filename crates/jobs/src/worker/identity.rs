//! What a process is called in the store, and whether one of this machine is still there.
//!
//! `HOST/BOOT-NAMESPACE-PID-START`: the start of the machine, the namespace of process numbers and the moment at which the
//! process began tell a process from another that has got its number.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// This process.
pub(super) fn own() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().replace(|character: char| !character.is_ascii_alphanumeric() && character != '-', "_");
    let pid = std::process::id();
    format!("{host}/{}-{pid}-{}", machine(), started(pid).unwrap_or_default())
}

/// Whether `worker` was a process of this machine that is no more. A process elsewhere, or in another container, is not known
/// to be dead.
pub(super) fn is_dead(worker: &str) -> bool {
    let parse = || {
        let (_, rest) = worker.rsplit_once('/')?;
        let (rest, start) = rest.rsplit_once('-')?;
        let (place, pid) = rest.rsplit_once('-')?;
        Some((place, pid.parse::<u32>().ok()?, start.parse::<u64>().ok()?))
    };
    let Some((place, pid, start)) = parse() else { return false };
    // Without /proc nothing is known, and no start is.
    start != 0 && place == machine() && started(pid) != Some(start)
}

/// This start of this machine, and this namespace.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot: String = boot.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
    format!("{boot}-{namespace}")
}

/// When a process began, in ticks since the machine did; `None` when there is none, or it has ended and only its parent has not
/// heard of that yet.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may have some of its own.
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_living_are_told_from_the_dead() {
        assert!(!is_dead(&own()), "{}", own());
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let name = format!("host/{}-{}-{}", machine(), child.id(), started(child.id()).unwrap());
        assert!(!is_dead(&name));
        child.kill().unwrap();
        // It is a zombie, and then gone.
        while started(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(is_dead(&name));
        child.wait().unwrap();
        assert!(is_dead(&name));
        // The number is taken by another process.
        assert!(is_dead(&format!("host/{}-{}-1", machine(), std::process::id())));
        // Elsewhere, or nothing at all.
        for other in ["", "host", "host/x", "host/0123456789ab-1-2-3", "a/b-c-d-e", "host/--0-0"] {
            assert!(!is_dead(other), "{other}");
        }
    }
}
