//! When a compaction is due.

use super::Inner;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// More logs than these behind the newest snapshot are worth a compaction, whatever their lengths.
const MANY_LOGS: usize = 50;

impl Inner {
    /// Whether the log alone will not make anything durable any more.
    pub(super) fn needs_generation(&self) -> bool {
        self.is_distrusted() || self.has_lost()
    }

    fn is_distrusted(&self) -> bool {
        self.syncing.lock().is_distrusted
    }

    /// Whether there are effects that are in no listed log.
    pub(super) fn has_lost(&self) -> bool {
        self.settings.log && (self.buffer.has_gap() || self.tail.lock().is_unlisted)
    }

    pub(super) fn is_log_large(&self) -> bool {
        let newest = self.catalog.lock().newest();
        // Where nothing has come since, the next snapshot would be the same.
        if self.buffer.last() <= newest.map_or(0, |snapshot| snapshot.end) {
            return false;
        }
        let snapshot = newest.map_or(0, |snapshot| snapshot.bytes);
        let growth = snapshot.saturating_mul(self.settings.growth_percent) / 100;
        // A log that reached its limit before it was worth compacting would stay there for ever.
        let most = (self.settings.log_limit / 2).max(1);
        let threshold = growth.max(self.settings.growth_bytes).min(most);
        self.log_bytes.load(Relaxed) >= threshold || self.has_many_logs()
    }

    /// Each backup begins a log, and each log takes its time at opening, however short it is.
    fn has_many_logs(&self) -> bool {
        let catalog = self.catalog.lock();
        let first = catalog.newest().map_or(0, |snapshot| snapshot.generation);
        catalog.logs.iter().filter(|log| **log >= first).count() > MANY_LOGS
    }

    /// Whether a compaction is needed, so that one that fails is tried again.
    pub(super) fn is_due(&self) -> bool {
        self.needs_generation() || self.has_stepped() || (self.settings.log && self.is_log_large())
    }

    /// How long the compactor has to wait, `None` until it is rung for.
    pub(super) fn time_to_compaction(&self) -> Option<Duration> {
        let compacting = self.compacting.lock();
        let since = compacting.since_last();
        let pause = compacting.pause(self.demand.is_wanted());
        let pause = pause.saturating_sub(since);
        drop(compacting);
        if self.is_due() {
            return Some(pause);
        }
        if self.settings.log {
            return None;
        }
        let every = self.settings.dump_every?;
        let left = every.saturating_sub(since);
        // With nothing to dump it looks again an interval later.
        let is_idle = self.buffer.last() <= self.commits.durable();
        Some(if is_idle {
            left.max(every)
        } else {
            left.max(pause)
        })
    }
}
