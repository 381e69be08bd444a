//! When a compaction that failed is tried again.
//!
//! An attempt may write as much as there is, so what fails again and again is tried ever more seldom.
//! But as long as new files are needed no write becomes durable, and some are refused, though the disk
//! may be well by now. So where one waits or was refused since the last attempt the pause is short.

use crate::sync::AtomicBool;
use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How long a compaction that failed is not tried again, at first and at last.
const BACKOFF: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(300);

/// Where somebody wants it, so many times as long as the last attempt took, if that is more than the
/// shortest pause: a disk that is slow to fail is not kept busy by that.
const SHARE: u32 = 4;

/// Nor is it tried sooner than after this part of the time for which it has failed. Each attempt that
/// the disk fails may leave a file behind, so their number must not grow as fast as it does at first:
/// in a day it is some three hundred.
const PART: u32 = 8;

/// What became of the last attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Failures since the last success.
    failures: u32,
    /// When the first of them was told.
    failing_since: Option<Instant>,
    /// When the last ended.
    last: Option<Instant>,
    took: Duration,
}

impl Attempts {
    /// As if one had just succeeded.
    pub(super) fn begin() -> Self {
        Self {
            last: Some(Instant::now()),
            ..Self::default()
        }
    }

    pub(super) fn ended(&mut self, well: bool, took: Duration) {
        let now = Instant::now();
        self.failures = if well { 0 } else { self.failures + 1 };
        self.failing_since = (!well).then(|| self.failing_since.unwrap_or(now));
        self.last = Some(now);
        self.took = took;
    }

    pub(super) fn since_last(&self) -> Duration {
        self.last.map_or(Duration::MAX, |last| last.elapsed())
    }

    /// How long the attempts have failed, up to the last.
    fn failed_for(&self) -> Duration {
        match (self.failing_since, self.last) {
            (Some(first), Some(last)) => last.duration_since(first),
            _ => Duration::ZERO,
        }
    }

    /// How long after the last attempt the next one may begin.
    pub(super) fn pause(&self, is_wanted: bool) -> Duration {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => (BACKOFF.start * (1 << (failures - 1).min(16))).min(BACKOFF.end),
        };
        match is_wanted {
            true => {
                let least = self
                    .took
                    .saturating_mul(SHARE)
                    .max(self.failed_for() / PART);
                pause.min(BACKOFF.start.max(least))
            }
            false => pause,
        }
    }
}

/// Whether somebody waits for the next attempt.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// The last one failed: without that there is no pause to be cut short.
    has_failed: AtomicBool,
    is_wanted: AtomicBool,
}

impl Demand {
    /// Who waits now waits for this attempt.
    pub(super) fn begin(&self) {
        self.is_wanted.store(false, SeqCst);
    }

    /// Comes before those who wait are told, so that who begins to wait when they have been sees it.
    pub(super) fn ended(&self, well: bool) {
        self.has_failed.store(!well, SeqCst);
    }

    /// Somebody waits, or is refused. Says whether the compactor has to be told.
    pub(super) fn note(&self) -> bool {
        self.has_failed.load(SeqCst) && !self.is_wanted.swap(true, SeqCst)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(SeqCst)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn pause(failures: u32, took_ms: u64, is_wanted: bool) -> u64 {
        let attempts = Attempts {
            failures,
            took: Duration::from_millis(took_ms),
            ..Attempts::default()
        };
        attempts.pause(is_wanted).as_secs()
    }

    #[test]
    fn what_fails_for_long_is_tried_more_seldom_by_whoever_it_is_wanted() {
        let first = Instant::now();
        let pause = |seconds| {
            let attempts = Attempts {
                failures: 30,
                failing_since: Some(first),
                last: Some(first + Duration::from_secs(seconds)),
                took: Duration::ZERO,
            };
            attempts.pause(true).as_secs()
        };
        assert_eq!([0, 8, 80, 800, 80_000].map(pause), [1, 1, 10, 100, 300]);
        let mut attempts = Attempts::default();
        attempts.ended(false, Duration::ZERO);
        let since = attempts.failing_since;
        attempts.ended(false, Duration::ZERO);
        assert!(since.is_some() && attempts.failing_since == since);
        attempts.ended(true, Duration::ZERO);
        assert_eq!(attempts.failing_since, None);
    }

    #[test]
    fn what_fails_again_and_again_is_tried_ever_more_seldom() {
        let of = |failures| pause(failures, 9, false);
        assert_eq!([0, 1, 2, 3, 9].map(of), [0, 1, 2, 4, 256]);
        assert_eq!([10, 33, u32::MAX].map(of), [300; 3]);
    }

    #[test]
    fn what_somebody_waits_for_is_tried_as_often_as_the_attempts_allow() {
        assert_eq!(
            [0, 1, 2, 9].map(|failures| pause(failures, 9, true)),
            [0, 1, 1, 1]
        );
        assert_eq!(
            [250, 3_000, 90_000].map(|took| pause(9, took, true)),
            [1, 12, 256]
        );
        let demand = Demand::default();
        assert!(!demand.note(), "nothing has failed");
        demand.ended(false);
        assert!(demand.note() && !demand.note() && demand.is_wanted());
        demand.begin();
        assert!(!demand.is_wanted() && demand.note());
        demand.begin();
        demand.ended(true);
        assert!(!demand.note() && !demand.is_wanted());
    }
}
