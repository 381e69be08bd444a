//! Timers: a task is woken when a point in time on the clock of its cache has come.
//!
//! One thread serves all timers of the process on the real clock. It starts with the first timer
//! and sleeps while there is none. The timers of a [`MockClock`] are served by
//! its `advance`, and need no thread. What is woken is any [`Waker`], so whoever waits here may run
//! on any executor, or on none.

use super::clock::Clock;
use super::deadline::{Deadline, NEVER};
use super::mock::MockClock;
use crate::contain::contain;
use std::collections::BTreeMap;
use std::fmt;
use std::task::Waker;

/// Has `waker` woken when `deadline` has passed on `clock`, once, unless the timer is dropped
/// before. A deadline that has passed already wakes soon; one that never comes costs nothing.
///
/// O(log n) of the timers of its clock, as is dropping it: a timer that is not needed any more
/// leaves no trace.
pub(crate) fn wake_at(clock: &Clock, deadline: Deadline, waker: Waker) -> Timer {
    if deadline == NEVER {
        return Timer(None);
    }
    let served_by = clock.mock();
    let number = match &served_by {
        None => real::add(deadline, waker),
        Some(mock) => mock.add_timer(deadline, waker),
    };
    Timer(Some(Set {
        served_by,
        place: (deadline, number),
    }))
}

/// Has `waker` woken soon, on the thread that serves the timers of `clock`: of a mock clock, as time
/// moves on. Never by this call, whose thread may hold any lock.
pub(crate) fn wake_soon(clock: &Clock, waker: Waker) {
    match clock.mock() {
        None => drop(real::add(PAST, waker)),
        Some(mock) => mock.add_due_timer(PAST, waker),
    }
}

/// A deadline that has passed on every clock.
const PAST: Deadline = 0;

/// A timer that has been set. Dropping it cancels it.
#[must_use = "dropping a timer cancels it"]
#[derive(Debug)]
pub(crate) struct Timer(Option<Set>);

#[derive(Debug)]
struct Set {
    /// None for the real clock.
    served_by: Option<MockClock>,
    place: Place,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(set) = &self.0 else { return };
        // What is dropped here is a waker, which is code of the user's, so no lock is held.
        drop(match &set.served_by {
            None => real::remove(set.place),
            Some(mock) => mock.remove_timer(set.place),
        });
    }
}

/// Where a timer is found again: timers of one deadline go by their number.
pub(super) type Place = (Deadline, u64);

/// Timers that have not gone off, the next one first.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<Place, Waker>,
    next_number: u64,
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timers({})", self.waiting.len())
    }
}

impl Timers {
    #[cfg(not(shuttle))]
    const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub(super) fn add(&mut self, deadline: Deadline, waker: Waker) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert((deadline, number), waker);
        number
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Waker> {
        self.waiting.remove(&place)
    }

    /// Takes out what is to be woken at `now`.
    pub(super) fn take_due(&mut self, now: Deadline) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    #[cfg(not(shuttle))]
    fn first(&self) -> Option<Deadline> {
        self.waiting.keys().next().map(|(deadline, _)| *deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Wakes all of them, though the waking of one may panic: it is code of the user's executor.
#[inline]
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    // Mostly there is nobody.
    if !wakers.is_empty() {
        wake_some(wakers);
    }
}

#[cold]
fn wake_some(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = contain(|| waker.wake());
    }
}

/// The timers on the real clock, and the thread that serves them.
#[cfg(not(shuttle))]
mod real {
    use super::*;
    use crate::time::park::nap;
    use parking_lot::{Condvar, Mutex};
    use std::sync::LazyLock;
    use std::thread;

    static TIMERS: Mutex<Timers> = Mutex::new(Timers::new());
    /// Told when the first timer is another one.
    static CHANGED: Condvar = Condvar::new();

    /// Where no thread can be started no timer goes off, and who waits is woken by what it waits
    /// for alone.
    static STARTED: LazyLock<bool> = LazyLock::new(|| {
        let thread = thread::Builder::new().name("haybox-timer".into());
        thread.spawn(serve).is_ok()
    });

    pub(super) fn add(deadline: Deadline, waker: Waker) -> u64 {
        LazyLock::force(&STARTED);
        let mut timers = TIMERS.lock();
        let is_first = timers.first().is_none_or(|first| deadline < first);
        let number = timers.add(deadline, waker);
        drop(timers);
        if is_first {
            CHANGED.notify_one();
        }
        number
    }

    pub(super) fn remove(place: Place) -> Option<Waker> {
        TIMERS.lock().remove(place)
    }

    fn serve() {
        let clock = Clock::real();
        let mut timers = TIMERS.lock();
        loop {
            let now = clock.now();
            let due = timers.take_due(now);
            if !due.is_empty() {
                drop(timers);
                wake_all(due);
                timers = TIMERS.lock();
                continue;
            }
            match timers.first() {
                None => CHANGED.wait(&mut timers),
                Some(first) => {
                    CHANGED.wait_for(&mut timers, nap(first, now));
                }
            }
        }
    }
}

/// The interleaving checker knows no time: timers on the real clock never go off.
#[cfg(shuttle)]
mod real {
    use super::*;

    pub(super) fn add(_: Deadline, _: Waker) -> u64 {
        0
    }

    pub(super) fn remove(_: Place) -> Option<Waker> {
        None
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::contain::Fragile;
    use crate::time::after;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, mpsc};
    use std::task::Wake;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    struct Fails;

    impl Wake for Fails {
        fn wake(self: Arc<Self>) {
            Fragile::throw()
        }
    }

    fn in_time(clock: &Clock, time: Duration, waker: Waker) -> Timer {
        wake_at(clock, after(clock.now(), time), waker)
    }

    #[test]
    fn a_timer_goes_off_once_and_on_the_exact_tick() {
        let (time, woken) = (MockClock::new(), Arc::new(Woken::default()));
        let _timer = in_time(&time.clock(), SECOND, Waker::from(Arc::clone(&woken)));
        time.advance(SECOND - Duration::from_nanos(1));
        assert_eq!(woken.0.load(SeqCst), 0);
        time.advance(Duration::from_nanos(1));
        assert_eq!(woken.0.load(SeqCst), 1);
        time.advance(SECOND);
        assert_eq!(woken.0.load(SeqCst), 1);
    }

    #[test]
    fn a_timer_that_is_dropped_leaves_no_trace() {
        let (time, woken) = (MockClock::new(), Arc::new(Woken::default()));
        let clock = time.clock();
        for _ in 0..1_000 {
            drop(in_time(&clock, SECOND, Waker::from(Arc::clone(&woken))));
        }
        let never = wake_at(&clock, NEVER, Waker::from(Arc::clone(&woken)));
        assert_eq!(time.timers(), 0);
        assert_eq!(Arc::strong_count(&woken), 1, "their wakers are dropped");
        time.advance(SECOND);
        assert_eq!(woken.0.load(SeqCst), 0);
        drop(never);
    }

    #[test]
    fn a_waker_that_panics_takes_no_other_with_it() {
        let (time, woken) = (MockClock::new(), Arc::new(Woken::default()));
        let clock = time.clock();
        let _timers = [
            in_time(&clock, SECOND, Waker::from(Arc::new(Fails))),
            in_time(&clock, SECOND, Waker::from(Arc::clone(&woken))),
        ];
        time.advance(SECOND);
        assert_eq!(woken.0.load(SeqCst), 1);
    }

    #[test]
    fn the_timers_of_the_real_clock_go_off_in_order() {
        struct Tells(mpsc::Sender<u32>, u32);
        impl Wake for Tells {
            fn wake(self: Arc<Self>) {
                let _ = self.0.send(self.1);
            }
        }
        let (tell, told) = mpsc::channel();
        let clock = Clock::real();
        let timer = |number, milliseconds| {
            let waker = Waker::from(Arc::new(Tells(tell.clone(), number)));
            in_time(&clock, Duration::from_millis(milliseconds), waker)
        };
        // Each is nearer than what the thread sleeps for at that moment.
        let _timers = [timer(4, 3_600_000), timer(3, 30), timer(2, 15), timer(1, 0)];
        let patience = Duration::from_secs(30);
        let order = [(); 3].map(|()| told.recv_timeout(patience).unwrap());
        assert_eq!(order, [1, 2, 3]);
    }
}
