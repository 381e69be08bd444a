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

/// What became of the last attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Failures since the last success.
    failures: u32,
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
        self.failures = if well { 0 } else { self.failures + 1 };
        self.last = Some(Instant::now());
        self.took = took;
    }

    pub(super) fn since_last(&self) -> Duration {
        self.last.map_or(Duration::MAX, |last| last.elapsed())
    }

    /// How long after the last attempt the next one may begin.
    pub(super) fn pause(&self, is_wanted: bool) -> Duration {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => (BACKOFF.start * (1 << (failures - 1).min(16))).min(BACKOFF.end),
        };
        match is_wanted {
            true => pause.min(BACKOFF.start.max(self.took.saturating_mul(SHARE))),
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
            last: None,
            took: Duration::from_millis(took_ms),
        };
        attempts.pause(is_wanted).as_secs()
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
