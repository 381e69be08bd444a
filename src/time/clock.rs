//! The clock of a cache: the system's, or one that moves only when a test says so.
//!
//! A precise reading costs as much as a whole look-up. A look-up that only has to know whether a
//! deadline has passed reads the kernel's tick clock instead, which costs a fifth, and asks for a
//! precise reading only when the deadline is near. No reading depends on another thread of the
//! process: it is right after SIGSTOP, in a forked child, and when every other thread starves.

use super::deadline::{Deadline, NEVER, after};
use super::mock::{MockClock, MockState};
use super::system;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a cache reads the time from: [`Clock::real`] unless the builder is given the clock of a
/// [`MockClock`].
///
/// Cheap to clone. Several caches may share one.
///
/// # What the real clock promises
/// It only moves forward, whatever happens to the wall clock, and time that the machine spends
/// suspended counts: on Linux it is `CLOCK_BOOTTIME`, on other Unix systems `CLOCK_MONOTONIC`
/// (which counts sleep on macOS), elsewhere [`std::time::Instant`].
///
/// On Linux a read of the cache looks at the kernel's tick clock first, and at the precise clock
/// when the deadline is within 42 ms. Should the kernel's tick be held up for longer than 20 ms (a
/// virtual machine whose host gives it no processor), a value may be seen for as long as the tick
/// was late.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    Real,
    Mock(Arc<MockState>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real => f.write_str("Real"),
            Self::Mock(state) => write!(f, "Mock({:?})", state.elapsed()),
        }
    }
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real)
    }

    /// The wall-clock time that goes with this clock.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        match &self.0 {
            Source::Real => SystemTime::now(),
            Source::Mock(state) => state.system_time(),
        }
    }

    /// The time as one operation sees it.
    #[inline]
    pub(crate) fn moment(&self) -> Moment<'_> {
        Moment {
            clock: self,
            coarse: Cell::new(None),
        }
    }

    /// Precise nanoseconds since an origin of the clock's own.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::Real => system::now(),
            Source::Mock(state) => state.now(),
        }
    }

    /// A reading that may lag by one tick of the kernel, for stamps where that is near enough, and by
    /// a suspension too short to show, which the next reading may count and the one after it not.
    #[inline(always)]
    pub(crate) fn coarse(&self) -> u64 {
        match &self.0 {
            Source::Real => system::coarse(),
            Source::Mock(state) => state.now(),
        }
    }

    /// Whether `deadline` has passed: it has on the exact nanosecond it names.
    #[inline(always)]
    pub(crate) fn has_passed(&self, deadline: Deadline) -> bool {
        deadline != NEVER && self.has_passed_since(self.coarse(), deadline)
    }

    /// As [`has_passed`](Self::has_passed), for a deadline that a glance was not enough for: it has
    /// passed or is near, or no look was taken.
    #[inline(never)]
    fn has_just_passed(&self, deadline: Deadline) -> bool {
        self.has_passed(deadline)
    }

    /// As [`has_passed`](Self::has_passed), given a coarse reading.
    #[inline(always)]
    fn has_passed_since(&self, coarse: u64, deadline: Deadline) -> bool {
        // The coarse clock lags, so what it calls passed has passed.
        !is_far(coarse, deadline) && (coarse >= deadline || self.now() >= deadline)
    }

    /// The deadline at a point in wall-clock time; one in the past has passed.
    pub(crate) fn deadline_at(&self, at: SystemTime) -> Deadline {
        let ahead = at.duration_since(self.system_time());
        after(self.now(), ahead.unwrap_or(Duration::ZERO))
    }

    /// The wall-clock time of a deadline as it looks now, `None` for one that never comes or that
    /// the system's time cannot hold.
    pub(crate) fn system_time_of(&self, deadline: Deadline) -> Option<SystemTime> {
        if deadline == NEVER {
            return None;
        }
        let (now, wall) = (self.now(), self.system_time());
        if deadline >= now {
            wall.checked_add(Duration::from_nanos(deadline - now))
        } else {
            wall.checked_sub(Duration::from_nanos(now - deadline))
        }
    }

    pub(super) fn of_mock(state: &Arc<MockState>) -> Self {
        Self(Source::Mock(Arc::clone(state)))
    }

    pub(crate) fn mock_state(&self) -> Option<&MockState> {
        match &self.0 {
            Source::Real => None,
            Source::Mock(state) => Some(state),
        }
    }

    /// Whether time stands still until a test moves it.
    pub(crate) fn is_mock(&self) -> bool {
        self.mock_state().is_some()
    }

    /// The mock clock behind this one, if it is one.
    pub(super) fn mock(&self) -> Option<MockClock> {
        match &self.0 {
            Source::Real => None,
            Source::Mock(state) => Some(MockClock::of(state)),
        }
    }
}

/// A point in time that is further than this from a coarse reading is on the same side of a precise
/// one.
pub(crate) const NEAR: u64 = system::GUARD;

/// Whether a deadline is so far ahead of a coarse reading that it has not passed by a precise one.
#[inline(always)]
pub(super) fn is_far(coarse: u64, deadline: Deadline) -> bool {
    deadline > coarse && deadline - coarse >= NEAR
}

/// The time as one operation sees it: a coarse reading taken at most once, and precise readings
/// only where it is too coarse. Read when it is first asked, which is after the lock is taken, so
/// no decision is older than that.
pub(crate) struct Moment<'c> {
    clock: &'c Clock,
    coarse: Cell<Option<u64>>,
}

impl Moment<'_> {
    /// May lag by one tick of the kernel.
    #[inline(always)]
    pub(crate) fn coarse(&self) -> u64 {
        if let Some(coarse) = self.coarse.get() {
            return coarse;
        }
        let coarse = self.clock.coarse();
        self.coarse.set(Some(coarse));
        coarse
    }

    /// Whether a deadline has passed.
    #[inline(always)]
    pub(crate) fn has_passed(&self, deadline: Deadline) -> bool {
        deadline != NEVER && self.clock.has_passed_since(self.coarse(), deadline)
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.clock
    }

    /// Forgets the reading, when locks were released and taken anew.
    pub(crate) fn pass(&self) {
        self.coarse.set(None);
    }
}

/// A look at the clock for a deadline that is not known yet.
///
/// It is taken before an entry is looked at, so that more look-ups are under way at once where they
/// wait for memory: "Where the time of a look-up goes" in ARCHITECTURE.md says how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance(u64);

impl Glance {
    /// No look was taken: each deadline asks the clock.
    pub(crate) const NONE: Self = Self(u64::MAX);

    #[inline(always)]
    pub(crate) fn at(clock: &Clock) -> Self {
        Self(clock.coarse())
    }

    /// Whether a deadline has passed.
    #[inline(always)]
    pub(crate) fn has_passed(self, deadline: Deadline, clock: &Clock) -> bool {
        deadline != NEVER && !is_far(self.0, deadline) && clock.has_just_passed(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_clock_moves_forward() {
        let clock = Clock::real();
        let readings: Vec<u64> = (0..100).map(|_| clock.now()).collect();
        assert!(readings.is_sorted());
    }

    #[test]
    fn a_glance_decides_as_the_clock_does() {
        let time = MockClock::new();
        let clock = time.clock();
        let start = clock.now();
        for ahead in [0, 1, 5_000_000, system::GUARD, system::GUARD + 1, 1 << 40] {
            let deadline = start + ahead;
            for glance in [Glance::NONE, Glance::at(&clock)] {
                assert_eq!(glance.has_passed(deadline, &clock), ahead == 0, "{ahead}");
            }
        }
        for glance in [Glance::NONE, Glance::at(&clock)] {
            assert!(glance.has_passed(start - 1, &clock) && glance.has_passed(1, &clock));
            assert!(!glance.has_passed(NEVER, &clock));
        }
        if system::GUARD == 0 {
            return;
        }
        // A reading that lags by less than a tick: what is near is asked of the clock once more.
        let lagging = Glance::at(&clock);
        time.advance(Duration::from_millis(15));
        let deadline = start + 15_000_000;
        assert!(lagging.has_passed(deadline, &clock));
        assert!(!lagging.has_passed(deadline + 1, &clock));
    }

    #[test]
    fn a_point_in_the_past_has_passed() {
        let clock = MockClock::new().clock();
        let past = clock.deadline_at(SystemTime::UNIX_EPOCH);
        assert!(clock.has_passed(past));
        assert_eq!(clock.deadline_at(clock.system_time()), clock.now());
    }
}
