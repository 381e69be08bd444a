//! The clock that moves only when a test says so, and sweeps as it moves.

use super::clock::Clock;
use super::deadline::{Deadline, NEVER, after};
use super::keeper::Sweep;
use super::timer::{Place, Timers, wake_all};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, SystemTime};

/// A clock for tests. It moves only when told, so no test sleeps to see a value expire.
///
/// The time of an executor is another one: `tokio::time::pause` and `advance` move no clock of this
/// crate, so entries live on, and calls with a time-out go by the clock of what they are called on;
/// nor does `MockClock` move a `tokio::time::sleep`. A test of both moves both.
///
/// [`advance`](Self::advance) also runs the background sweeps that have become due, on the calling
/// thread, before it returns: a cache on a mock clock behaves as if its keeper were infinitely
/// fast, and never has a thread of its own. What another thread's closure holds locked for more
/// than a tenth of a second of real time is left for the next sweep.
///
/// What a [`ReadThrough`](crate::ReadThrough) loads behind its callers is loaded by threads of the
/// process, whatever the clock. A test waits for it by [`Cache::events`](crate::Cache::events),
/// whose `recv` returns when the new value is there.
///
/// ```
/// use haybox::{Cache, MockClock};
/// use std::time::Duration;
///
/// let time = MockClock::new();
/// let cache = Cache::builder()
///     .max_entries(100)
///     .time_to_live(Duration::from_secs(60))
///     .clock(time.clock())
///     .build()?;
/// cache.insert("bread", 1);
/// time.advance(Duration::from_secs(59));
/// assert_eq!(cache.get("bread"), Some(1));
/// time.advance(Duration::from_secs(1));
/// assert_eq!(cache.get("bread"), None);
/// assert_eq!(cache.len(), 0, "released by the sweep, not by the read");
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MockClock(Arc<MockState>);

impl MockClock {
    /// A clock that stands still. Its wall clock shows the start of the year 2000 (UTC).
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(MockState {
            now: AtomicU64::new(MOCK_START),
            wall_at_start: AtomicU64::new(MOCK_WALL),
            jobs: parking_lot::Mutex::new(Vec::new()),
            timers: parking_lot::Mutex::default(),
        }))
    }

    /// The handle to give to [`CacheBuilder::clock`](crate::CacheBuilder::clock).
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::of_mock(&self.0)
    }

    pub(super) fn of(state: &Arc<MockState>) -> Self {
        Self(Arc::clone(state))
    }

    /// Moves the time forward, the wall clock with it, wakes the tasks whose time-out has come, and
    /// runs the sweeps that became due.
    ///
    /// Time stops at the end of what the clock holds, 584 years. Entries that would expire after
    /// the first 142 of them [never do](crate::CacheBuilder::time_to_live).
    ///
    /// # Panics
    /// If called from inside a closure that a cache runs under a lock, when a sweep is due.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let moved = |now: u64| Some(now.saturating_add(by).min(NEVER - 1));
        let _ = self.0.now.fetch_update(SeqCst, SeqCst, moved);
        self.0.wake_due_timers();
        self.0.run_due_sweeps();
    }

    pub(super) fn add_timer(&self, deadline: Deadline, waker: Waker) -> u64 {
        let number = self.0.timers.lock().add(deadline, waker);
        // The time may have moved past the deadline before the timer was there.
        if deadline <= self.0.now() {
            self.0.wake_due_timers();
        }
        number
    }

    /// Adds one that goes off as time moves on, though its deadline has passed.
    pub(super) fn add_due_timer(&self, deadline: Deadline, waker: Waker) {
        self.0.timers.lock().add(deadline, waker);
    }

    pub(super) fn remove_timer(&self, place: Place) -> Option<Waker> {
        self.0.timers.lock().remove(place)
    }

    /// The number of callers that have a time-out running on this clock, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn timers(&self) -> usize {
        self.0.timers.lock().len()
    }

    /// Sets the wall clock and nothing else, as an administrator or a time server would.
    ///
    /// Deadlines do not move with it.
    ///
    /// # Panics
    /// If `time` is before 1970 or more than 584 years after it.
    #[track_caller]
    pub fn set_system_time(&self, time: SystemTime) {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
        let wall = since_epoch
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok());
        let wall = wall.expect("a mock clock shows wall-clock times from 1970 to 2554");
        self.0
            .wall_at_start
            .store(wall.wrapping_sub(self.0.elapsed_nanos()), SeqCst);
    }
}

impl Default for MockClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Where mock time starts: not at zero, so that arithmetic that goes below the start shows.
const MOCK_START: u64 = 3_600_000_000_000;
/// 2000-01-01T00:00:00Z in nanoseconds since 1970.
const MOCK_WALL: u64 = 946_684_800_000_000_000;

pub(crate) struct MockState {
    now: AtomicU64,
    wall_at_start: AtomicU64,
    jobs: parking_lot::Mutex<Vec<MockJob>>,
    timers: parking_lot::Mutex<Timers>,
}

struct MockJob {
    due: Deadline,
    sweep: Weak<dyn Sweep>,
}

impl fmt::Debug for MockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MockState({:?})", self.elapsed())
    }
}

impl MockState {
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.now.load(SeqCst)
    }

    fn elapsed_nanos(&self) -> u64 {
        self.now() - MOCK_START
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos())
    }

    pub(super) fn system_time(&self) -> SystemTime {
        let wall = self
            .wall_at_start
            .load(SeqCst)
            .wrapping_add(self.elapsed_nanos());
        SystemTime::UNIX_EPOCH + Duration::from_nanos(wall)
    }

    pub(crate) fn register(&self, sweep: Weak<dyn Sweep>, interval: Duration) {
        let due = after(self.now(), interval);
        self.jobs.lock().push(MockJob { due, sweep });
    }

    fn wake_due_timers(&self) {
        let due = self.timers.lock().take_due(self.now());
        wake_all(due);
    }

    fn run_due_sweeps(&self) {
        for sweep in self.take_due() {
            while sweep.sweep_slice().finish_here() {}
        }
    }

    /// The caches to sweep now, each set to its next turn. The list is unlocked before any of
    /// them runs, since a listener may drop a cache or make a new one.
    fn take_due(&self) -> Vec<Arc<dyn Sweep>> {
        let now = self.now();
        let (mut due, mut others) = (Vec::new(), Vec::new());
        self.jobs.lock().retain_mut(|job| {
            let Some(sweep) = job.sweep.upgrade() else {
                return false;
            };
            let is_due = job.due <= now;
            if is_due {
                job.due = after(now, sweep.interval());
            }
            // Kept until the list is unlocked: dropping the last one runs code of the user's.
            if is_due { &mut due } else { &mut others }.push(sweep);
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mock_time_stops_at_the_end_and_never_reaches_never() {
        let time = MockClock::new();
        time.advance(Duration::MAX);
        time.advance(Duration::MAX);
        assert!(!time.clock().has_passed(NEVER));
    }

    #[test]
    fn a_mock_clock_stands_still_and_its_wall_moves_with_it() {
        let time = MockClock::new();
        let clock = time.clock();
        let (now, wall) = (clock.now(), clock.system_time());
        assert_eq!(clock.now(), now);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800);
        assert_eq!(wall, start, "of the year 2000");
        time.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), now + 5_000_000_000);
        assert_eq!(clock.system_time(), wall + Duration::from_secs(5));
        let in_a_second = clock.system_time() + Duration::from_secs(1);
        let ahead = after(clock.now(), Duration::from_secs(1));
        assert_eq!(clock.system_time_of(now), Some(wall), "long ago");
        assert_eq!(clock.system_time_of(ahead), Some(in_a_second));
    }

    #[test]
    fn setting_the_wall_clock_moves_no_deadline() {
        let time = MockClock::new();
        let clock = time.clock();
        let deadline = after(clock.now(), Duration::from_secs(10));
        let future = clock.system_time() + Duration::from_secs(1_000_000_000);
        time.set_system_time(future);
        assert_eq!(clock.system_time(), future);
        assert!(!clock.has_passed(deadline));
        assert_eq!(
            clock.system_time_of(deadline),
            Some(future + Duration::from_secs(10))
        );
    }
}
