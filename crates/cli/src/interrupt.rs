//! Ctrl-C and SIGTERM: the first asks the job to stop and clean up, the second ends the process at once. For what serves, the end
//! of its terminal is one of them, unless it was started with `nohup`.

use std::fs;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, remove_partial_outputs};

use crate::failure::exit_code;

/// Has `action` run at the first interrupt. The second ends the process at once.
pub(crate) fn on_signal(action: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).map_err(|error| Error::io("signal handlers", error))?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            action();
        }
        if signals.next().is_some() {
            process::exit(i32::from(exit_code(ErrorKind::Cancelled)));
        }
    });
    Ok(())
}

/// Whether the process was started to ignore `signal`. Where the system does not tell, it was not.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 != 0)
}

/// Turns interrupts into a request to stop, for the rest of the process. For commands that look at the answer; others
/// leave the signals to do what they do by default.
pub(crate) fn install() -> Result<Cancel> {
    let cancel = Cancel::default();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::io("signal handlers", error))?;
    let switch = cancel.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            if switch.is_cancelled() {
                remove_partial_outputs();
                process::exit(i32::from(exit_code(ErrorKind::Cancelled)));
            }
            switch.cancel();
        }
    });
    Ok(cancel)
}
