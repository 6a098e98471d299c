//! How far a job is: a bar on a terminal, lines in a log, nothing when it should be quiet.
//!
//! The job posts to three counters, which costs it next to nothing; a thread of its own draws them.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use transload::convert::{Progress, ProgressDelta};
use transload::export::MachineProgress;

use crate::text;

/// When progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// As a bar, when standard error is a terminal
    #[default]
    Auto,
    /// As a bar on a terminal, as lines elsewhere
    Always,
    /// Not at all
    Never,
}

/// The counters that a job posts to.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    total: AtomicU64,
    done: AtomicU64,
    written: AtomicU64,
    /// The disk of a machine that is being moved, and what was done when it began.
    part: Mutex<Option<Part>>,
}

/// One disk of several.
#[derive(Clone, Debug)]
struct Part {
    place: usize,
    of: usize,
    name: String,
    size: u64,
    begun_at: u64,
}

impl Meter {
    /// Which disk it is and how far, as in `disk 1 of 2 (a.vmdk) 42%`; empty where there is only one thing to do.
    fn part(&self) -> String {
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Part { place, of, name, size, begun_at }) = &*part else { return String::new() };
        let done = self.done.load(Ordering::Relaxed).saturating_sub(*begun_at).min(*size);
        let percent = (u128::from(done) * 100).checked_div(u128::from(*size)).unwrap_or(100);
        format!("disk {place} of {of} ({name}) {percent}%")
    }
}

impl MachineProgress for Meter {
    fn disk(&self, place: usize, of: usize, name: &str, size: u64) {
        let begun_at = self.done.load(Ordering::Relaxed);
        let part = Part { place, of, name: name.to_owned(), size, begun_at };
        *self.part.lock().unwrap_or_else(PoisonError::into_inner) = Some(part);
    }
}

impl Progress for Meter {
    fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    fn advance(&self, delta: ProgressDelta) {
        self.done.fetch_add(delta.copied + delta.skipped, Ordering::Relaxed);
        self.written.fetch_add(delta.written, Ordering::Relaxed);
    }
}

/// A display of a [`Meter`] that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Display {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts showing progress as `when` says. `None` when nobody is to be told.
pub(crate) fn start(when: When) -> Option<(Arc<Meter>, Display)> {
    let terminal = io::stderr().is_terminal();
    if when == When::Never || (when == When::Auto && !terminal) {
        return None;
    }
    let meter = Arc::new(Meter::default());
    let (stop, stopped) = mpsc::channel();
    let seen = Arc::clone(&meter);
    let thread = thread::spawn(move || if terminal { draw_bar(&seen, &stopped) } else { print_lines(&seen, &stopped) });
    Some((meter, Display { stop: Some(stop), thread: Some(thread) }))
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A display that failed has nothing to say about the job.
            let _ = thread.join();
        }
    }
}

/// Waits for `pause`; false when the display is to end.
fn goes_on(stopped: &mpsc::Receiver<()>, pause: Duration) -> bool {
    stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

fn draw_bar(meter: &Meter, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template =
        "{bar:30} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}  {msg}";
    // The template is checked by a test; an unreadable one would fall back to the plain bar.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    while goes_on(stopped, Duration::from_millis(100)) {
        let total = meter.total.load(Ordering::Relaxed);
        if total > 0 {
            bar.set_length(total);
            bar.set_position(meter.done.load(Ordering::Relaxed).min(total));
            bar.set_message(meter.part());
        }
    }
    bar.finish_and_clear();
}

fn print_lines(meter: &Meter, stopped: &mpsc::Receiver<()>) {
    let start = Instant::now();
    while goes_on(stopped, Duration::from_secs(1)) {
        eprintln!("{}", line(meter, start.elapsed()));
    }
    eprintln!("{}", line(meter, start.elapsed()));
}

/// The state of `meter` after `elapsed`, as in `42.00% 4.20 GiB of 10 GiB, 350 MiB/s, 17 s left`.
fn line(meter: &Meter, elapsed: Duration) -> String {
    let (total, done) = (meter.total.load(Ordering::Relaxed), meter.done.load(Ordering::Relaxed));
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(done) * 1000 / milliseconds).unwrap_or(u64::MAX);
    let rate_text = text::size(rate);
    if total == 0 {
        return format!("{}, {rate_text}/s", text::size(done));
    }
    let done = done.min(total);
    let hundredths = u128::from(done) * 10_000 / u128::from(total);
    let left = if rate == 0 { "?".to_owned() } else { (total - done).div_ceil(rate).to_string() };
    let part = meter.part();
    let part = if part.is_empty() { part } else { format!(", {part}") };
    format!(
        "{}.{:02}% {} of {}, {rate_text}/s, {left} s left{part}",
        hundredths / 100,
        hundredths % 100,
        text::size(done),
        text::size(total)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::ProgressStyle;
    use transload::convert::{Progress, ProgressDelta};
    use transload::export::MachineProgress;

    use super::{Meter, line};

    #[test]
    fn a_line_tells_percent_rate_and_time_left() {
        let meter = Meter::default();
        meter.begin(10 << 30);
        meter.advance(ProgressDelta { copied: 1 << 30, skipped: 1 << 30, written: 7 });
        assert_eq!(line(&meter, Duration::from_secs(2)), "20.00% 2 GiB of 10 GiB, 1 GiB/s, 8 s left");
    }

    #[test]
    fn a_line_of_a_machine_tells_which_disk() {
        let meter = Meter::default();
        meter.begin(4 << 30);
        meter.disk(1, 2, "a.vmdk", 2 << 30);
        meter.advance(ProgressDelta { copied: 2 << 30, skipped: 0, written: 0 });
        meter.disk(2, 2, "b.vmdk", 2 << 30);
        meter.advance(ProgressDelta { copied: 1 << 30, skipped: 0, written: 0 });
        let line = line(&meter, Duration::from_secs(3));
        assert_eq!(line, "75.00% 3 GiB of 4 GiB, 1 GiB/s, 1 s left, disk 2 of 2 (b.vmdk) 50%");
    }

    #[test]
    fn a_line_without_a_known_end_tells_what_is_done() {
        let meter = Meter::default();
        meter.advance(ProgressDelta { copied: 3 << 20, skipped: 0, written: 0 });
        assert_eq!(line(&meter, Duration::from_secs(3)), "3 MiB, 1 MiB/s");
    }

    #[test]
    fn a_line_of_an_empty_disk_does_not_divide_by_zero() {
        assert_eq!(line(&Meter::default(), Duration::ZERO), "0 bytes, 0 bytes/s");
    }

    #[test]
    fn the_bar_template_is_understood() {
        assert!(
            ProgressStyle::with_template("{bar:30} {percent:>3}%  {binary_bytes_per_sec}  ETA {eta}  {msg}").is_ok()
        );
    }
}
