//! What was counted lately, in steps of a 60th of the longest window.

use crate::time::Clock;
use std::collections::VecDeque;
use std::ops::RangeFrom;
use std::time::Duration;

/// Steps of the longest window.
const STEPS: u64 = 60;

pub(super) struct Windows {
    longest: Duration,
    /// In nanoseconds.
    step: u64,
}

impl Windows {
    /// `longest` is at least a nanosecond, and at most what fits a `u64` of them.
    pub(super) fn new(longest: Duration) -> Self {
        let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Self {
            longest,
            step: nanoseconds.div_ceil(STEPS),
        }
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The step that runs now.
    pub(super) fn now(&self, clock: &Clock) -> u64 {
        clock.coarse() / self.step
    }

    /// The steps of the last `within`.
    pub(super) fn range(&self, clock: &Clock, within: Duration) -> RangeFrom<u64> {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let steps = within.div_ceil(self.step).min(STEPS);
        // The step that runs is one of them, and what others count meanwhile may be in later ones.
        (self.now(clock) + 1).saturating_sub(steps)..
    }
}

impl Windows {
    /// The steps that cover the last `within`, as far as they are kept, and the time that they are.
    /// Not 0 unless `within` is.
    pub(super) fn covering(&self, clock: &Clock, within: Duration) -> (RangeFrom<u64>, Duration) {
        let now = clock.coarse();
        let elapsed = now % self.step;
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let whole = within.saturating_sub(elapsed).div_ceil(self.step);
        let whole = whole.min(STEPS - 1);
        let time = (whole * self.step).saturating_add(elapsed);
        let first = (now / self.step).saturating_sub(whole);
        (first.., Duration::from_nanos(time))
    }
}

/// The counts of the steps in which there was something to count.
#[derive(Default)]
pub(super) struct Recent(VecDeque<(u64, i64)>);

impl Recent {
    pub(super) fn add(&mut self, step: u64, by: i64) {
        match self.0.back_mut() {
            // Another thread may have read the clock a little later and been faster.
            Some((last, count)) if *last >= step => *count = count.wrapping_add(by),
            _ => {
                while self
                    .0
                    .front()
                    .is_some_and(|(first, _)| step.saturating_sub(*first) >= STEPS)
                {
                    self.0.pop_front();
                }
                self.0.push_back((step, by));
            }
        }
    }

    pub(super) fn sum(&self, steps: &RangeFrom<u64>) -> i64 {
        let within = self.0.iter().rev();
        let within = within.take_while(|(step, _)| steps.contains(step));
        within.fold(0, |sum, (_, count)| sum.wrapping_add(*count))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_longest_window_has_steps() {
        let mut recent = Recent::default();
        for step in 1..=3 * STEPS {
            (0..3).for_each(|_| recent.add(step, 1));
            let counted = step.min(STEPS);
            assert_eq!(recent.0.len() as u64, counted);
            assert_eq!(recent.sum(&(step + 1 - counted..)), 3 * counted as i64);
        }
        // From a thread that has read the clock before.
        recent.add(3 * STEPS - 1, 1);
        assert_eq!(recent.sum(&(3 * STEPS..)), 4);
    }
}
