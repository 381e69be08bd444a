//! The clock of a cache: the system's, or one that moves only when a test says so.
//!
//! A precise reading costs as much as a whole look-up. A look-up that only has to know whether a
//! deadline has passed reads the kernel's tick clock instead, which costs a fifth, and asks for a
//! precise reading only when the deadline is near. No reading depends on another thread of the
//! process: it is right after SIGSTOP, in a forked child, and when every other thread starves.

use super::deadline::{Deadline, NEVER, after};
use super::keeper::Sweep;
use super::timer::{Place, Timers, wake_all};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::Waker;
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
            Source::Mock(state) => state.now.load(SeqCst),
        }
    }

    /// A reading that may lag by one tick of the kernel, for stamps where that is near enough, and by
    /// a suspension too short to show, which the next reading may count and the one after it not.
    #[inline(always)]
    pub(crate) fn coarse(&self) -> u64 {
        match &self.0 {
            Source::Real => system::coarse(),
            Source::Mock(state) => state.now.load(SeqCst),
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
            Source::Mock(state) => Some(MockClock(Arc::clone(state))),
        }
    }
}

/// A point in time that is further than this from a coarse reading is on the same side of a precise
/// one.
pub(crate) const NEAR: u64 = system::GUARD;

/// Whether a deadline is so far ahead of a coarse reading that it has not passed by a precise one.
#[inline(always)]
fn is_far(coarse: u64, deadline: Deadline) -> bool {
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
        Clock(Source::Mock(Arc::clone(&self.0)))
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
        if deadline <= self.0.now.load(SeqCst) {
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
    fn elapsed_nanos(&self) -> u64 {
        self.now.load(SeqCst) - MOCK_START
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos())
    }

    fn system_time(&self) -> SystemTime {
        let wall = self
            .wall_at_start
            .load(SeqCst)
            .wrapping_add(self.elapsed_nanos());
        SystemTime::UNIX_EPOCH + Duration::from_nanos(wall)
    }

    pub(crate) fn register(&self, sweep: Weak<dyn Sweep>, interval: Duration) {
        let due = after(self.now.load(SeqCst), interval);
        self.jobs.lock().push(MockJob { due, sweep });
    }

    fn wake_due_timers(&self) {
        let due = self.timers.lock().take_due(self.now.load(SeqCst));
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
        let now = self.now.load(SeqCst);
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

/// Linux: the boot clock, and the tick clocks to avoid reading it.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use rustix::time::{ClockId, clock_gettime};
    use std::sync::atomic::{
        AtomicI64, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    };

    /// A deadline nearer than this to a coarse reading is decided by a precise one. A reading lags by
    /// a tick, which comes every 1 to 10 ms or for lack of a processor late, and by a suspension that
    /// is too short to be told from noise.
    pub(super) const GUARD: u64 = LATE_TICK + UNCOUNTED;

    /// How late a tick may come.
    const LATE_TICK: u64 = 20_000_000;

    /// How far the two coarse clocks may seem to drift apart because a tick fell between the two
    /// readings.
    const TICK_NOISE: u64 = 11_000_000;

    /// The longest suspension that may not show: the wall clock was set back by too little to show
    /// before it.
    const UNCOUNTED: u64 = 2 * TICK_NOISE;

    #[inline]
    fn read(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    pub(super) fn now() -> u64 {
        read(ClockId::Boottime)
    }

    #[inline]
    pub(super) fn coarse() -> u64 {
        SUSPENSION.boot_time(&Kernel)
    }

    static SUSPENSION: Suspension = Suspension::new();

    /// What the boot clock is derived from.
    trait Clocks {
        /// The coarse clock that stands still while the machine is suspended.
        fn monotonic(&self) -> u64;

        /// The coarse clock that does not, and that people set.
        fn wall(&self) -> u64;

        /// How far the boot clock is ahead of the monotonic one; wraps where it is behind, as in a
        /// container with an offset of its own.
        fn boot_ahead(&self) -> u64;
    }

    struct Kernel;

    impl Clocks for Kernel {
        #[inline]
        fn monotonic(&self) -> u64 {
            read(ClockId::MonotonicCoarse)
        }

        fn wall(&self) -> u64 {
            read(ClockId::RealtimeCoarse)
        }

        /// Taken between two readings that are close together.
        fn boot_ahead(&self) -> u64 {
            loop {
                let before = read(ClockId::Monotonic);
                let boot = read(ClockId::Boottime);
                let after = read(ClockId::Monotonic);
                if after - before < CLOSE {
                    return boot.wrapping_sub(after);
                }
            }
        }
    }

    /// Derives the boot clock, which has no coarse form, from two coarse clocks.
    ///
    /// The monotonic clock stands still while the machine is suspended and the wall clock does
    /// not. So when the distance between the two has changed, either the machine slept or
    /// somebody set the wall clock; one precise look at the boot clock tells which. Time servers
    /// that slew the clocks slew both alike.
    ///
    /// The distance is looked at once for each tick of the monotonic clock. A suspension always
    /// comes with a new reading: the kernel brings the clock up to the nanosecond as it goes down.
    struct Suspension {
        checked: AtomicU64,
        wall_ahead: AtomicI64,
        /// Wraps: see `boot_ahead`.
        suspended: AtomicU64,
        checking: parking_lot::Mutex<()>,
    }

    impl Suspension {
        const fn new() -> Self {
            Self {
                checked: AtomicU64::new(u64::MAX),
                wall_ahead: AtomicI64::new(i64::MIN),
                suspended: AtomicU64::new(0),
                checking: parking_lot::Mutex::new(()),
            }
        }

        #[inline]
        fn boot_time(&self, clocks: &impl Clocks) -> u64 {
            let monotonic = clocks.monotonic();
            let suspended = if monotonic == self.checked.load(Acquire) {
                self.suspended.load(Relaxed)
            } else {
                self.check(monotonic, clocks)
            };
            monotonic.wrapping_add(suspended)
        }

        #[cold]
        fn check(&self, monotonic: u64, clocks: &impl Clocks) -> u64 {
            // One at a time, so that an older measurement does not overwrite a newer one. Who
            // finds another at it measures for itself alone and waits for nobody: the other may
            // have lost its processor, or be a thread that a fork has left behind.
            let Some(_checking) = self.checking.try_lock() else {
                return clocks.boot_ahead();
            };
            let distance = distance(monotonic, clocks.wall());
            let drift = distance.wrapping_sub(self.wall_ahead.load(Relaxed));
            if drift.unsigned_abs() > TICK_NOISE {
                // In this order: what is slept between the two shows at the next look.
                self.wall_ahead.store(wall_ahead(clocks), Relaxed);
                self.suspended.store(clocks.boot_ahead(), Relaxed);
            }
            // Whoever finds this tick checked sees what was measured.
            self.checked.store(monotonic, Release);
            self.suspended.load(Relaxed)
        }
    }

    fn distance(monotonic: u64, wall: u64) -> i64 {
        wall.wrapping_sub(monotonic) as i64
    }

    /// How far the wall clock is ahead, read in one tick: who has lost the processor between the two
    /// readings would take the time without it for a distance.
    fn wall_ahead(clocks: &impl Clocks) -> i64 {
        loop {
            let monotonic = clocks.monotonic();
            let wall = clocks.wall();
            if clocks.monotonic() == monotonic {
                return distance(monotonic, wall);
            }
        }
    }

    /// Readings of two clocks that are not further apart count as one moment.
    const CLOSE: u64 = 1_000_000;

    #[cfg(test)]
    mod tests {
        use super::super::Clock;
        use super::*;
        use std::cell::Cell;
        use std::sync::mpsc::{Receiver, Sender, channel};

        const HOUR: u64 = 3_600_000_000_000;

        /// Clocks that stand still.
        #[derive(Clone, Copy)]
        struct At {
            monotonic: u64,
            wall: u64,
            slept: u64,
        }

        impl At {
            fn later(self, by: u64) -> Self {
                let (monotonic, wall) = (self.monotonic + by, self.wall + by);
                Self {
                    monotonic,
                    wall,
                    ..self
                }
            }

            fn after_sleep(self, of: u64) -> Self {
                let (wall, slept) = (self.wall + of, self.slept + of);
                Self {
                    wall,
                    slept,
                    ..self
                }
                .later(5)
            }

            fn boot(self) -> u64 {
                self.monotonic + self.slept
            }
        }

        impl Clocks for At {
            fn monotonic(&self) -> u64 {
                self.monotonic
            }

            fn wall(&self) -> u64 {
                self.wall
            }

            fn boot_ahead(&self) -> u64 {
                self.slept
            }
        }

        const START: At = At {
            monotonic: HOUR,
            wall: 50 * HOUR,
            slept: 0,
        };

        /// Clocks of which those that are `false` must not be read.
        struct Unread {
            at: At,
            wall: bool,
            boot: bool,
        }

        impl Clocks for Unread {
            fn monotonic(&self) -> u64 {
                self.at.monotonic
            }

            fn wall(&self) -> u64 {
                assert!(self.wall, "once a tick");
                self.at.wall
            }

            fn boot_ahead(&self) -> u64 {
                assert!(self.boot, "the distance is the same");
                self.at.slept
            }
        }

        #[test]
        fn time_suspended_counts_at_the_first_reading_after_it() {
            let clock = Suspension::new();
            assert_eq!(clock.boot_time(&START), HOUR);
            // The machine sleeps for two hours: only the wall clock and the boot clock move.
            let resumed = START.after_sleep(2 * HOUR);
            assert_eq!(clock.boot_time(&resumed), 3 * HOUR + 5);
            let (at, wall, boot) = (resumed.later(4), true, false);
            let later = clock.boot_time(&Unread { at, wall, boot });
            assert_eq!(later, 3 * HOUR + 9);
        }

        /// Clocks whose precise reading says that it is being taken, and waits.
        struct Waiting(At, Sender<()>, Receiver<()>);

        impl Clocks for Waiting {
            fn monotonic(&self) -> u64 {
                self.0.monotonic
            }

            fn wall(&self) -> u64 {
                self.0.wall
            }

            fn boot_ahead(&self) -> u64 {
                self.1.send(()).unwrap();
                let _ = self.2.recv();
                self.0.slept
            }
        }

        /// One reading while another thread has begun to look at the distance and does not come on.
        fn beside_a_checker(clock: &Suspension, first: At, second: At) -> u64 {
            let ((entered, has_entered), (go_on, may_go_on)) = (channel(), channel::<()>());
            std::thread::scope(|scope| {
                let waiting = Waiting(first, entered, may_go_on);
                scope.spawn(move || clock.boot_time(&waiting));
                has_entered.recv().unwrap();
                let reading = clock.boot_time(&second);
                drop(go_on);
                reading
            })
        }

        #[test]
        fn the_first_readings_of_a_process_count_what_was_slept_before() {
            let at = START.after_sleep(2 * HOUR);
            assert_eq!(beside_a_checker(&Suspension::new(), at, at), at.boot());
        }

        #[test]
        fn time_suspended_counts_while_who_measures_it_has_no_processor() {
            let clock = Suspension::new();
            clock.boot_time(&START);
            let resumed = START.after_sleep(2 * HOUR);
            let second = resumed.later(500_000_000);
            assert_eq!(beside_a_checker(&clock, resumed, second), second.boot());
        }

        /// A thread that loses its processor between its first two readings.
        struct HeldUp {
            at: At,
            until: At,
            readings: Cell<u32>,
        }

        impl HeldUp {
            fn read(&self) -> At {
                self.readings.set(self.readings.get() + 1);
                let is_first = self.readings.get() == 1;
                if is_first { self.at } else { self.until }
            }
        }

        impl Clocks for HeldUp {
            fn monotonic(&self) -> u64 {
                self.read().monotonic
            }

            fn wall(&self) -> u64 {
                self.read().wall
            }

            fn boot_ahead(&self) -> u64 {
                self.read().slept
            }
        }

        #[test]
        fn time_without_a_processor_between_two_readings_hides_no_suspension() {
            const LONG: u64 = 2_000_000_000;
            let clock = Suspension::new();
            clock.boot_time(&START);
            let (at, until) = (START.later(5), START.later(5 + LONG));
            let readings = Cell::default();
            let reading = clock.boot_time(&HeldUp {
                at,
                until,
                readings,
            });
            assert_eq!(reading, at.boot());
            // As long as the thread was held up: what it took for the distance is there now.
            let resumed = until.after_sleep(LONG);
            assert_eq!(clock.boot_time(&resumed), resumed.boot());
        }

        #[test]
        fn a_suspension_too_short_to_be_counted_makes_no_deadline_far_that_has_passed() {
            const TICK: u64 = 10_000_000;
            for slept in (0..60).map(|millis| millis * 1_000_000) {
                let clock = Suspension::new();
                clock.boot_time(&START);
                let mut at = START.later(TICK).after_sleep(slept);
                // Set back meanwhile, by what hides as much of the sleep.
                at.wall -= TICK;
                let coarse = clock.boot_time(&at);
                // Just before a tick that is as late as it may be.
                let now = at.boot() + 20_000_000;
                let is_far = super::super::is_far(coarse, now - 1);
                assert!(!is_far, "{slept} ns slept, {} ns behind", now - coarse);
            }
        }

        #[test]
        fn a_step_of_the_wall_clock_moves_nothing() {
            let clock = Suspension::new();
            clock.boot_time(&START);
            for (tick, wall) in [(1, 20 * 8766 * HOUR), (2, HOUR / 2)] {
                let at = At {
                    wall,
                    ..START.later(tick)
                };
                assert_eq!(clock.boot_time(&at), at.monotonic);
            }
        }

        #[test]
        fn the_wall_clock_is_read_once_a_tick() {
            let clock = Suspension::new();
            clock.boot_time(&START);
            let (at, wall, boot) = (START, false, false);
            assert_eq!(clock.boot_time(&Unread { at, wall, boot }), HOUR);
        }

        #[test]
        fn a_coarse_reading_is_never_ahead_and_hardly_behind() {
            for _ in 0..1000 {
                let coarse = coarse();
                let precise = now();
                assert!(coarse <= precise + 1_000, "{coarse} is ahead of {precise}");
            }
        }

        #[test]
        fn near_deadlines_are_decided_precisely() {
            for _ in 0..10 {
                let deadline = now() + 1_000_000;
                while now() < deadline {
                    let before = now();
                    let passed = Clock::real().has_passed(deadline);
                    assert!(
                        !passed || now() >= deadline,
                        "passed at {before}, due {deadline}"
                    );
                }
                assert!(Clock::real().has_passed(deadline));
            }
        }
    }
}

/// Systems without a tick clock to read: the precise clock for everything.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    /// Coarse readings are precise here.
    pub(super) const GUARD: u64 = 0;

    #[cfg(unix)]
    pub(super) fn now() -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    #[cfg(not(unix))]
    pub(super) fn now() -> u64 {
        use std::{sync::LazyLock, time::Instant};
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }

    pub(super) fn coarse() -> u64 {
        now()
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

    #[test]
    fn a_point_in_the_past_has_passed() {
        let clock = MockClock::new().clock();
        let past = clock.deadline_at(SystemTime::UNIX_EPOCH);
        assert!(clock.has_passed(past));
        assert_eq!(clock.deadline_at(clock.system_time()), clock.now());
    }

    #[test]
    fn mock_time_stops_at_the_end_and_never_reaches_never() {
        let time = MockClock::new();
        time.advance(Duration::MAX);
        time.advance(Duration::MAX);
        assert!(!time.clock().has_passed(NEVER));
    }
}
