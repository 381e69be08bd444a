//! Waiting for a point in time, or to be woken before: threads and tasks alike.

use super::{Clock, Deadline, NEVER, Timer, left, wake_at};
use crate::sync::{Condvar, Mutex, wait, wait_until};
use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Who waits for a point in time looks at the clock this often: a thread sleeps by a clock that
/// stands still while the machine is suspended, and deadlines do not.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// Lets a thread wait as a task does.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    /// Blocks the thread until it is woken or `until` has passed. May return early.
    pub(crate) fn park(self: &Arc<Self>, clock: &Clock, until: Deadline) {
        // Real time needs no timer, since the thread can wake by itself.
        let _timer = clock
            .is_mock()
            .then(|| wake_at(clock, until, Waker::from(Arc::clone(self))));
        // Two looks at clocks are saved where no time ends the wait.
        let is_timed = until != NEVER && !clock.is_mock();
        let wake = is_timed.then(|| Instant::now() + nap(until, clock.now()));
        let mut is_woken = self.is_woken.lock();
        while !mem::take(&mut *is_woken) {
            let Some(wake) = wake else {
                is_woken = wait(&self.woken, is_woken);
                continue;
            };
            let timed_out;
            (is_woken, timed_out) = wait_until(&self.woken, is_woken, wake);
            if timed_out {
                return;
            }
        }
    }
}

/// How long to sleep before the next look at the clock.
pub(super) fn nap(until: Deadline, now: u64) -> Duration {
    left(until, now).map_or(LONGEST_NAP, |left| left.min(LONGEST_NAP))
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock() = true;
        self.woken.notify_all();
    }
}

/// The timer of a task, which follows it from waker to waker.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Armed>);

#[derive(Debug)]
struct Armed {
    waker: Waker,
    until: Deadline,
    _timer: Timer,
}

impl Alarm {
    /// Has `waker` woken at `until` and no other time, unless it was set for that before and has yet
    /// to go off: who was woken by it may read a clock that lags, and has to be woken again.
    pub(crate) fn set(&mut self, clock: &Clock, until: Deadline, waker: &Waker) {
        let is_same = |armed: &Armed| armed.until == until && armed.waker.will_wake(waker);
        let is_set =
            self.0.as_ref().is_some_and(is_same) && (until == NEVER || clock.now() < until);
        if !is_set {
            let _timer = wake_at(clock, until, waker.clone());
            let waker = waker.clone();
            self.0 = Some(Armed {
                waker,
                until,
                _timer,
            });
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::time::MockClock;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// The machine may be suspended in each of them, and the time is up at once when it goes on.
    #[test]
    fn a_long_wait_looks_at_the_clock_now_and_then() {
        let (second, hour) = (1_000_000_000, 3_600_000_000_000);
        assert_eq!(nap(hour + second, hour), Duration::from_secs(1));
        assert_eq!(nap(hour, hour), Duration::ZERO);
        assert_eq!(nap(2 * hour, hour), LONGEST_NAP);
        assert_eq!(nap(NEVER, hour), LONGEST_NAP);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn an_alarm_that_has_gone_off_is_set_anew_for_who_reads_a_clock_that_lags() {
        let (time, woken) = (MockClock::new(), Arc::new(Woken::default()));
        let (clock, waker) = (time.clock(), Waker::from(Arc::clone(&woken)));
        let second = Duration::from_secs(1);
        let until = crate::time::after(clock.now(), second);
        let mut alarm = Alarm::default();
        (0..3).for_each(|_| alarm.set(&clock, until, &waker));
        assert_eq!(time.timers(), 1, "it is set once");
        time.advance(second);
        assert_eq!(woken.0.load(SeqCst), 1);
        alarm.set(&clock, until, &waker);
        assert_eq!(woken.0.load(SeqCst), 2);
    }

    #[test]
    fn an_alarm_that_is_set_for_another_time_goes_off_then_and_only_then() {
        let (time, woken) = (MockClock::new(), Arc::new(Woken::default()));
        let (clock, waker) = (time.clock(), Waker::from(Arc::clone(&woken)));
        let second = Duration::from_secs(1);
        let in_seconds = |seconds| crate::time::after(clock.now(), seconds * second);
        let mut alarm = Alarm::default();
        for (seconds, wakes) in [(5, 0), (1, 1), (3, 1)] {
            alarm.set(&clock, in_seconds(seconds), &waker);
            assert_eq!(time.timers(), 1);
            time.advance(second);
            assert_eq!(woken.0.load(SeqCst), wakes);
        }
        alarm.set(&clock, NEVER, &waker);
        time.advance(5 * second);
        assert_eq!((woken.0.load(SeqCst), time.timers()), (1, 0));
    }
}
