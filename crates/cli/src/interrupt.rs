//! Ctrl-C and SIGTERM: the first asks the job to stop and clean up, the second ends the process at once.

use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use transload::block::{Error, ErrorKind, Result};
use transload::convert::{Cancel, remove_partial_outputs};

use crate::failure::exit_code;

/// Has `action` run at the first interrupt. The second ends the process at once.
pub(crate) fn on_signal(action: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::io("signal handlers", error))?;
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
