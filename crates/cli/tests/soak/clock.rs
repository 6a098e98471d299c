//! How long a suite goes on.

use std::time::{SystemTime, UNIX_EPOCH};

/// Whether there is time for more.
pub(crate) fn has_time() -> bool {
    let until = std::env::var("TRANSLOAD_SOAK_UNTIL").ok().and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    until.is_some_and(|until| now < until)
}

/// The seeds of a suite: at least `round` of them, and then as many as there is time for.
pub(crate) fn seeds(round: u64) -> impl Iterator<Item = u64> {
    let first = std::env::var("TRANSLOAD_SOAK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let mut done = 0;
    std::iter::from_fn(move || {
        let goes_on = done < round || has_time();
        done += 1;
        goes_on.then(|| first.wrapping_add(done - 1))
    })
}
