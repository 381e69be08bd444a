//! Linux: the boot clock, and the tick clocks to avoid reading it.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// A deadline nearer than this to a coarse reading is decided by a precise one. A reading lags by
/// a tick, which comes every 1 to 10 ms or for lack of a processor late, and by a suspension that
/// is too short to be told from noise.
pub(in crate::time) const GUARD: u64 = LATE_TICK + UNCOUNTED;

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

pub(in crate::time) fn now() -> u64 {
    read(ClockId::Boottime)
}

#[inline]
pub(in crate::time) fn coarse() -> u64 {
    // By `Kernel` these readings cost a hit four per cent more instructions.
    SUSPENSION.boot_time(
        read(ClockId::MonotonicCoarse),
        || read(ClockId::RealtimeCoarse),
        || Ahead::measure(&Kernel),
    )
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

    /// A reading of the monotonic clock as one of the boot clock. The clocks are read here and not in
    /// [`check`](Self::check): then the compiler puts them out of the way of who needs no time.
    #[inline]
    fn boot_time(
        &self,
        monotonic: u64,
        wall: impl FnOnce() -> u64,
        measure: impl FnOnce() -> Ahead,
    ) -> u64 {
        let suspended = if monotonic == self.checked.load(Acquire) {
            self.suspended.load(Relaxed)
        } else {
            self.check(monotonic, wall(), measure)
        };
        monotonic.wrapping_add(suspended)
    }

    #[cold]
    fn check(&self, monotonic: u64, wall: u64, measure: impl FnOnce() -> Ahead) -> u64 {
        // One at a time, so that an older measurement does not overwrite a newer one. Who
        // finds another at it measures for itself alone and waits for nobody: the other may
        // have lost its processor, or be a thread that a fork has left behind.
        let Some(_checking) = self.checking.try_lock() else {
            return measure().boot;
        };
        let drift = distance(monotonic, wall).wrapping_sub(self.wall_ahead.load(Relaxed));
        if drift.unsigned_abs() > TICK_NOISE {
            let ahead = measure();
            self.suspended.store(ahead.boot, Relaxed);
            self.wall_ahead.store(ahead.wall, Relaxed);
        }
        // Whoever finds this tick checked sees what was measured.
        self.checked.store(monotonic, Release);
        self.suspended.load(Relaxed)
    }
}

/// How far two clocks are ahead of the monotonic one.
struct Ahead {
    wall: i64,
    /// Wraps: see `boot_ahead`.
    boot: u64,
}

impl Ahead {
    /// In this order: what is slept between the two shows at the next look.
    fn measure(clocks: &impl Clocks) -> Self {
        Self {
            wall: wall_ahead(clocks),
            boot: clocks.boot_ahead(),
        }
    }
}

fn distance(monotonic: u64, wall: u64) -> i64 {
    wall.wrapping_sub(monotonic) as i64
}

/// How far the wall clock is ahead, read within a moment: who has lost the processor between the two
/// readings would take the time without it for a distance. Not within a tick, as some systems that
/// run programs for Linux, such as gVisor, have no ticks.
fn wall_ahead(clocks: &impl Clocks) -> i64 {
    loop {
        let monotonic = clocks.monotonic();
        let wall = clocks.wall();
        if clocks.monotonic().saturating_sub(monotonic) < CLOSE {
            return distance(monotonic, wall);
        }
    }
}

/// Readings of two clocks that are not further apart count as one moment.
const CLOSE: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;
    use crate::time::clock::is_far;
    use std::cell::Cell;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const HOUR: u64 = 3_600_000_000_000;

    impl Suspension {
        fn boot_time_by(&self, clocks: &impl Clocks) -> u64 {
            let measure = || Ahead::measure(clocks);
            self.boot_time(clocks.monotonic(), || clocks.wall(), measure)
        }
    }

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
        assert_eq!(clock.boot_time_by(&START), HOUR);
        // The machine sleeps for two hours: only the wall clock and the boot clock move.
        let resumed = START.after_sleep(2 * HOUR);
        assert_eq!(clock.boot_time_by(&resumed), 3 * HOUR + 5);
        let (at, wall, boot) = (resumed.later(4), true, false);
        let later = clock.boot_time_by(&Unread { at, wall, boot });
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
            scope.spawn(move || clock.boot_time_by(&waiting));
            has_entered.recv().unwrap();
            let reading = clock.boot_time_by(&second);
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
        clock.boot_time_by(&START);
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
        clock.boot_time_by(&START);
        let (at, until) = (START.later(5), START.later(5 + LONG));
        let readings = Cell::default();
        let reading = clock.boot_time_by(&HeldUp {
            at,
            until,
            readings,
        });
        assert_eq!(reading, at.boot());
        // As long as the thread was held up: what it took for the distance is there now.
        let resumed = until.after_sleep(LONG);
        assert_eq!(clock.boot_time_by(&resumed), resumed.boot());
    }

    /// Clocks that have no ticks and move at each reading.
    struct Precise(Cell<u64>);

    impl Precise {
        fn read(&self) -> u64 {
            self.0.set(self.0.get() + 1_000);
            self.0.get()
        }
    }

    impl Clocks for Precise {
        fn monotonic(&self) -> u64 {
            HOUR + self.read()
        }

        fn wall(&self) -> u64 {
            50 * HOUR + self.read()
        }

        fn boot_ahead(&self) -> u64 {
            7
        }
    }

    #[test]
    fn clocks_without_ticks_are_read_as_well() {
        let (clock, clocks) = (Suspension::new(), Precise(Cell::default()));
        for _ in 0..3 {
            let before = HOUR + clocks.0.get();
            let reading = clock.boot_time_by(&clocks);
            assert!(reading > before + 7 && reading <= HOUR + clocks.0.get() + 7);
        }
    }

    #[test]
    fn a_suspension_too_short_to_be_counted_makes_no_deadline_far_that_has_passed() {
        const TICK: u64 = 10_000_000;
        for slept in (0..60).map(|millis| millis * 1_000_000) {
            let clock = Suspension::new();
            clock.boot_time_by(&START);
            let mut at = START.later(TICK).after_sleep(slept);
            // Set back meanwhile, by what hides as much of the sleep.
            at.wall -= TICK;
            let coarse = clock.boot_time_by(&at);
            // Just before a tick that is as late as it may be.
            let now = at.boot() + 20_000_000;
            let is_far = is_far(coarse, now - 1);
            assert!(!is_far, "{slept} ns slept, {} ns behind", now - coarse);
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_nothing() {
        let clock = Suspension::new();
        clock.boot_time_by(&START);
        for (tick, wall) in [(1, 20 * 8766 * HOUR), (2, HOUR / 2)] {
            let at = At {
                wall,
                ..START.later(tick)
            };
            assert_eq!(clock.boot_time_by(&at), at.monotonic);
        }
    }

    #[test]
    fn the_wall_clock_is_read_once_a_tick() {
        let clock = Suspension::new();
        clock.boot_time_by(&START);
        let (at, wall, boot) = (START, false, false);
        assert_eq!(clock.boot_time_by(&Unread { at, wall, boot }), HOUR);
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
