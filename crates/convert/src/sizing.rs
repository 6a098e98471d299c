//! Shares out the memory of a job: tables, buffers, threads.

use crate::random::Crew;
use crate::shape::Shape;

/// What the shares depend on, but for the target's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizing {
    /// Bytes, all together.
    pub(crate) memory: u64,
    /// Worker threads that are wished for.
    pub(crate) threads: usize,
    /// How the bytes move.
    pub(crate) shape: Shape,
    /// Whether tasks wait for the hashing thread.
    pub(crate) hashing: bool,
    /// The most guest bytes in one task that are wished for.
    pub(crate) span: Option<u64>,
}

/// What a task has at least where memory is short, unless a unit is smaller still.
const LEAST_SPAN: u64 = 64 << 10;
/// The most that may be wished for.
const MOST_SPAN: u64 = 64 << 20;

/// The shares of the workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Threads and tasks under way.
    pub(crate) crew: Crew,
    /// The most guest bytes in one task.
    pub(crate) span: u64,
}

impl Sizing {
    /// Bytes for the tables of the target: a quarter. Another one is the source's, which was opened before.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.memory / 4
    }

    /// The shares for a target whose unit is `unit` bytes, a power of two.
    ///
    /// Half of the memory is for buffers. Where it does not hold what is wished for, tasks become smaller, then the
    /// window, then the crew; one thread with one unit is the least.
    pub(crate) fn of(&self, unit: u64) -> Share {
        /// Large enough that threads meet seldom, small enough for a core's own cache.
        const RANDOM_SPAN: u64 = 1 << 20;
        /// Sixteen grains or clusters of the usual size.
        const ORDERED_SPAN: u64 = 1 << 20;
        let (mut span, copies) = match self.shape {
            // The plain bytes, and stored ones where a stream has them.
            Shape::Random => (RANDOM_SPAN, 2),
            // As received, plain, encoded.
            Shape::Ordered => (ORDERED_SPAN, 3),
        };
        let waits = self.shape == Shape::Ordered || self.hashing;
        let mut threads = self.threads.max(1);
        let mut window = if waits { 3 * threads + 1 } else { threads };
        if let Some(wished) = self.span {
            span = wished.clamp(LEAST_SPAN, MOST_SPAN).next_power_of_two();
        }
        span = span.max(unit);
        let budget = self.memory / 2;
        let needed = |window: usize, span: u64| span.saturating_mul(copies).saturating_mul(window as u64);
        while needed(window, span) > budget && span > unit.max(LEAST_SPAN) {
            span /= 2;
        }
        while needed(window, span) > budget && window > 1 {
            window -= 1;
        }
        threads = threads.min(window);
        Share { crew: Crew { threads, window }, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_kept_down_to_one_unit() {
        for shape in [Shape::Random, Shape::Ordered] {
            for memory in [0, 1 << 20, 16 << 20, 192 << 20, 4 << 30] {
                for threads in [1, 2, 16, 128] {
                    for unit in [512, 64 << 10, 2 << 20] {
                        let sizing = Sizing { memory, threads, shape, hashing: true, span: None };
                        let share = sizing.of(unit);
                        let used = share.span * 3 * share.crew.window as u64;
                        assert!(share.crew.threads >= 1 && share.crew.threads <= share.crew.window);
                        assert!(share.span.is_multiple_of(unit));
                        assert!(used <= memory / 2 * 3 / 2 || share.crew.window == 1, "{sizing:?} {share:?}");
                    }
                }
            }
        }
    }
}
