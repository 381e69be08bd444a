//! The threads: each takes its steps, and sleeps when there are none.

use super::{Inner, OpenJournal};
use crate::persist::error::{CommitError, DiskError, OpenError};
use crate::persist::settings::SyncPolicy;
use crate::persist::wall::OLD;
use crate::sync::thread;
use crate::time::wake_all;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread that has nothing to do looks again before it sleeps.
const NAP: Duration = Duration::from_millis(2);

/// How many naps without work the writer takes before it sleeps until it is woken.
const IDLE_NAPS: u32 = 25;

/// How long the writer waits after a failure, at first and at last.
const BACKOFF: std::ops::Range<Duration> = Duration::from_millis(10)..Duration::from_secs(1);

/// Under [`SyncPolicy::Os`] so often, for the sake of telling damage from a crash.
const SELDOM: Duration = Duration::from_secs(60);

/// When the next sync begins.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    /// When the last one began, if something was written that it may not have covered.
    begun: Option<Instant>,
}

impl Pace {
    fn new(pause: Duration) -> Self {
        Self { pause, begun: None }
    }

    /// How long to wait, when there is something to be synced. What came after the last sync had begun
    /// has waited since then: were its end waited for, and the pause from then on, that would be one
    /// sync more that a power loss can cost.
    fn left(&mut self, now: Instant) -> Duration {
        let begun = self.begun.take().unwrap_or(now);
        self.pause
            .saturating_sub(now.saturating_duration_since(begun))
    }

    fn synced(&mut self, begun: Instant, has_unsynced: bool) {
        self.begun = has_unsynced.then_some(begun);
    }
}

/// What a thread does until it is stopped, or a panic or the loss of the directory has ended the
/// journal.
type Run = fn(&Inner) -> Result<(), CommitError>;

impl OpenJournal {
    pub(super) fn start_threads(&self) -> Result<(), OpenError> {
        if self.inner.settings.by_hand {
            return Ok(());
        }
        self.start("writer", Inner::run_writer)?;
        self.start("syncer", Inner::run_syncer)?;
        self.start("compactor", Inner::run_compactor)
    }

    fn start(&self, role: &'static str, run: Run) -> Result<(), OpenError> {
        let inner = Arc::clone(&self.inner);
        let name = format!("haybox-{role}");
        let builder = thread::Builder::new().name(name.clone());
        let started = builder.spawn(move || {
            // What it returns has ended the journal, and those who wait have been told.
            let _ = inner.guarded(role, || run(&inner));
        });
        let thread = started.map_err(DiskError::of("start a thread for", Path::new(&name)))?;
        self.closing.note_own(thread.thread().id());
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Ends the threads after the steps they are in.
    pub(super) fn stop_threads(&self) {
        for bell in [
            &self.inner.writer,
            &self.inner.syncer,
            &self.inner.compactor,
        ] {
            bell.stop();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A waker that the writer wakes may drop the last handle: no thread waits for itself.
            if thread.thread().id() != thread::current().id() {
                // It catches panics, and reports them.
                let _ = thread.join();
            }
        }
    }
}

impl Inner {
    fn run_writer(&self) -> Result<(), CommitError> {
        let mut idle = 0;
        let mut backoff = BACKOFF.start;
        while !self.writer.is_stopped() {
            wake_all(self.commits.take_held());
            match self.write_step() {
                Ok(0) if idle >= IDLE_NAPS => self.rest()?,
                Ok(0) => {
                    idle += 1;
                    self.writer.listen_for(NAP);
                }
                Ok(_) => {
                    (idle, backoff) = (0, BACKOFF.start);
                    self.wrote();
                }
                Err(error) if error.is_final() => return Err(error),
                Err(_) => {
                    self.writer.nap(backoff);
                    backoff = (backoff * 2).min(BACKOFF.end);
                }
            }
            if self.buffer.has_gap() {
                self.compactor.ring_if_parked();
            }
        }
        Ok(())
    }

    fn wrote(&self) {
        if self.waits_for_disk() {
            self.syncer.ring();
        } else {
            self.syncer.ring_if_parked();
        }
        self.writer.listen_for(NAP);
    }

    /// Sleeps until something is appended.
    fn rest(&self) -> Result<(), CommitError> {
        match self.mark_step() {
            Err(error) if error.is_final() => return Err(error),
            // A failure of the disk shows with the next write.
            _ => self.writer.park(|| !self.buffer.is_empty()),
        }
        Ok(())
    }

    fn run_syncer(&self) -> Result<(), CommitError> {
        let pause = match self.settings.sync {
            SyncPolicy::Always => Duration::ZERO,
            SyncPolicy::Every(pause) => pause,
            SyncPolicy::Os => SELDOM,
        };
        let mut pace = Pace::new(pause);
        while !self.syncer.is_stopped() {
            self.syncer.park(|| self.has_unsynced());
            self.syncer.nap(pace.left(Instant::now()));
            if self.syncer.is_stopped() {
                break;
            }
            let begun = Instant::now();
            match self.sync_step() {
                Ok(()) => {
                    pace.synced(begun, self.has_unsynced());
                    self.writer.ring_if_parked();
                }
                Err(error) if error.is_final() => return Err(error),
                // The compactor works at it, and rings when it is done.
                Err(_) => self.syncer.listen_for(BACKOFF.end),
            }
        }
        Ok(())
    }

    fn has_unsynced(&self) -> bool {
        self.tail.lock().next - 1 > self.commits.durable()
    }

    fn run_compactor(&self) -> Result<(), CommitError> {
        while !self.compactor.is_stopped() {
            match self.time_to_compaction() {
                Some(Duration::ZERO) => {}
                Some(time) => self.compactor.doze(time),
                None => self.compactor.park(|| self.time_to_compaction().is_some()),
            }
            if self.compactor.is_stopped() || self.time_to_compaction() != Some(Duration::ZERO) {
                continue;
            }
            if self.has_stepped() {
                // What is written meanwhile may still be by a comparison of before.
                self.compactor.nap(2 * OLD);
                // Somebody may have made a snapshot meanwhile.
                if self.time_to_compaction() != Some(Duration::ZERO) {
                    continue;
                }
            }
            // What fails is tried again later.
            match self.compact().map_err(CommitError::from) {
                Err(error) if error.is_final() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_came_during_a_sync_waits_for_the_interval_from_its_beginning_on() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut pace = Pace::new(3 * second);
        assert_eq!(pace.left(start), 3 * second, "the first write came now");
        pace.synced(start, true);
        assert_eq!(pace.left(start + second), 2 * second);
        pace.synced(start, true);
        assert_eq!(pace.left(start + 7 * second), Duration::ZERO);
        // What came later has waited for nothing yet, and neither has what is tried again.
        pace.synced(start, false);
        assert_eq!(pace.left(start + second), 3 * second);
        assert_eq!(pace.left(start + 2 * second), 3 * second);
    }
}
