//! Waiting for what another thread or task will do, the same way for threads and for tasks.
//!
//! Who waits looks again each time it is woken, so a wake-up too many does no harm. A look is a
//! closure that is given a [`Waker`]: it says what it found, or leaves a copy of the waker where
//! the other side finds it.

use crate::sync::{Condvar, Mutex, wait_until};
use crate::time::{Clock, Deadline, Timer, left, wake_at};
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Blocks the thread until a look finds something, `None` when that takes longer than to `until`.
pub(crate) fn block<R>(
    clock: &Clock,
    until: Deadline,
    mut look: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    // Real time needs no timer, since the thread can wake by itself.
    let _timer = clock
        .is_mock()
        .then(|| wake_at(clock, until, waker.clone()));
    loop {
        if let Poll::Ready(found) = look(&waker) {
            return Some(found);
        }
        if clock.has_passed(until) {
            return None;
        }
        let rest = left(until, clock.now()).filter(|_| !clock.is_mock());
        parker.park(rest.map_or(LONGEST_NAP, |rest| rest.min(LONGEST_NAP)));
    }
}

/// Waits until a look finds something, `None` when that takes longer than to `until`.
pub(crate) async fn wait<R>(
    clock: &Clock,
    until: Deadline,
    mut look: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    let mut time_out: Option<(Waker, Timer)> = None;
    poll_fn(|context: &mut Context<'_>| {
        let waker = context.waker();
        if let Poll::Ready(found) = look(waker) {
            return Poll::Ready(Some(found));
        }
        if clock.has_passed(until) {
            return Poll::Ready(None);
        }
        let is_set = time_out
            .as_ref()
            .is_some_and(|(woken, _)| woken.will_wake(waker));
        if !is_set {
            let timer = wake_at(clock, until, waker.clone());
            time_out = Some((waker.clone(), timer));
        }
        Poll::Pending
    })
    .await
}

/// A thread that waits without an end in sight looks around this often.
const LONGEST_NAP: Duration = Duration::from_secs(86_400);

/// Who is to be woken. Coming, going and changing the waker are O(1).
///
/// It is kept under a lock, and wakers are code of the user's executor: so they come in as copies
/// made before, and go out to be woken or dropped afterwards.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    waiting: usize,
}

impl Waiters {
    /// Has `waker` woken next time. A place is kept until it is given back; the waker that was
    /// there before is for the caller to drop.
    pub(crate) fn put(&mut self, place: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        let at = *place.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            })
        });
        let before = self.places[at].replace(waker);
        self.waiting += usize::from(before.is_none());
        before
    }

    /// Gives a place back, and the waker that was in it to the caller to drop.
    pub(crate) fn leave(&mut self, place: usize) -> Option<Waker> {
        let waker = self.places[place].take();
        self.waiting -= usize::from(waker.is_some());
        self.free.push(place);
        waker
    }

    /// Everybody, to be woken by [`wake_all`](crate::time::wake_all) once the lock is released.
    /// Their places stay theirs.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        if self.waiting == 0 {
            return Vec::new();
        }
        self.waiting = 0;
        self.places.iter_mut().filter_map(Option::take).collect()
    }
}

/// Lets a thread wait as a task does.
#[derive(Default)]
struct Parker {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    /// Waits until it is woken, at most for about `longest`.
    fn park(&self, longest: Duration) {
        let until = Instant::now() + longest;
        let mut is_woken = self.is_woken.lock();
        while !mem::take(&mut *is_woken) {
            let timed_out;
            (is_woken, timed_out) = wait_until(&self.woken, is_woken, until);
            if timed_out {
                return;
            }
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock() = true;
        self.woken.notify_all();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_until_they_are_given_back() {
        let mut waiters = Waiters::default();
        let (mut first, mut second) = (None, None);
        assert!(waiters.put(&mut first, Waker::noop().clone()).is_none());
        assert!(waiters.put(&mut first, Waker::noop().clone()).is_some());
        assert!(waiters.put(&mut second, Waker::noop().clone()).is_none());
        assert_ne!(first, second);
        assert_eq!(waiters.take().len(), 2);
        assert!(waiters.take().is_empty());
        assert!(waiters.leave(first.unwrap()).is_none());
        let mut third = None;
        assert!(waiters.put(&mut third, Waker::noop().clone()).is_none());
        assert_eq!(third, first);
        assert!(waiters.leave(third.unwrap()).is_some());
        assert!(waiters.take().is_empty());
    }
}
