//! How a thread of the journal is told that there is something to do.

use super::LONG;
use crate::sync::{AtomicBool, Condvar, Mutex, wait_until};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    rung: Condvar,
    /// The thread sleeps until it is rung for, so somebody has to.
    is_parked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_rung: bool,
    is_stopped: bool,
}

impl Bell {
    /// Wakes the thread, now or when it comes to listen.
    pub(super) fn ring(&self) {
        self.state.lock().is_rung = true;
        self.rung.notify_all();
    }

    /// Wakes the thread if only this will.
    #[inline]
    pub(super) fn ring_if_parked(&self) {
        if self.is_parked.load(SeqCst) {
            self.ring();
        }
    }

    /// Ends all waiting, for good.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.rung.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Waits until the bell is rung or the time is up.
    pub(super) fn listen_for(&self, time: Duration) {
        self.wait(Instant::now() + time.min(LONG), |state| state.is_rung);
    }

    /// As [`park`](Self::park), at most for some time.
    pub(super) fn doze(&self, time: Duration) {
        self.is_parked.store(true, SeqCst);
        self.listen_for(time);
        self.is_parked.store(false, SeqCst);
    }

    /// Waits until the time is up, whoever rings.
    pub(super) fn nap(&self, time: Duration) {
        if !time.is_zero() {
            self.wait(Instant::now() + time.min(LONG), |_| false);
        }
    }

    /// Waits until the bell is rung, unless there is something to do already.
    ///
    /// Who makes something to do does so before it looks whether this thread is parked, and this
    /// thread says that it is before it looks for something to do: one of the two sees the other.
    pub(super) fn park(&self, has_work: impl FnOnce() -> bool) {
        self.is_parked.store(true, SeqCst);
        if !has_work() {
            self.wait(Instant::now() + LONG, |state| state.is_rung);
        }
        self.is_parked.store(false, SeqCst);
    }

    fn wait(&self, until: Instant, is_enough: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        let mut is_late = false;
        while !is_late && !state.is_stopped && !is_enough(&state) {
            (state, is_late) = wait_until(&self.rung, state, until);
        }
        if is_enough(&state) {
            state.is_rung = false;
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::thread;

    impl Bell {
        fn is_rung(&self) -> bool {
            self.state.lock().is_rung
        }

        fn is_parked(&self) -> bool {
            self.is_parked.load(SeqCst)
        }
    }

    #[test]
    fn a_ring_ends_one_wait_whether_it_comes_before_or_meanwhile() {
        let bell = Bell::default();
        bell.ring_if_parked();
        assert!(!bell.is_rung(), "nobody sleeps");
        for wait in [
            |bell: &Bell| bell.listen_for(LONG),
            |bell: &Bell| bell.doze(LONG),
        ] {
            bell.ring();
            wait(&bell);
            assert!(!bell.is_rung() && !bell.is_parked());
        }
        bell.park(|| {
            assert!(bell.is_parked(), "who makes work now has to see it");
            bell.ring_if_parked();
            false
        });
        assert!(!bell.is_rung() && !bell.is_parked());
        bell.park(|| true);
        assert!(!bell.is_parked());
    }

    #[test]
    fn who_sleeps_is_woken() {
        for rest in [
            |bell: &Bell| bell.park(|| false),
            |bell: &Bell| bell.doze(LONG),
        ] {
            let bell = Bell::default();
            thread::scope(|scope| {
                let sleeper = scope.spawn(|| rest(&bell));
                while !bell.is_parked() {
                    thread::yield_now();
                }
                bell.ring_if_parked();
                sleeper.join().unwrap();
            });
        }
    }

    #[test]
    fn nobody_sleeps_once_it_is_stopped_and_a_nap_leaves_the_ring_to_others() {
        let bell = Bell::default();
        bell.ring();
        bell.nap(Duration::ZERO);
        bell.stop();
        assert!(bell.is_stopped());
        bell.nap(Duration::MAX);
        assert!(bell.is_rung());
        bell.listen_for(Duration::MAX);
        assert!(!bell.is_rung());
        bell.doze(Duration::MAX);
        bell.park(|| false);
    }
}
