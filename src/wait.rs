//! Waiting for what another thread or task will do, the same way for threads and for tasks.
//!
//! Who waits looks again each time it is woken, so a wake-up too many does no harm. A look is a
//! closure that is given a [`Waker`]: it says what it found, or leaves a copy of the waker where
//! the other side finds it.

use crate::time::{Alarm, Clock, Deadline, Parker};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Blocks the thread until a look finds something, `None` when that takes longer than to `until`.
pub(crate) fn block<R>(
    clock: &Clock,
    until: Deadline,
    mut look: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    loop {
        if let Poll::Ready(found) = look(&waker) {
            return Some(found);
        }
        if clock.has_passed(until) {
            return None;
        }
        parker.park(clock, until);
    }
}

/// Waits until a look finds something, `None` when that takes longer than to `until`.
pub(crate) async fn wait<R>(
    clock: &Clock,
    until: Deadline,
    mut look: impl FnMut(&Waker) -> Poll<R>,
) -> Option<R> {
    let mut time_out = Alarm::default();
    poll_fn(|context: &mut Context<'_>| {
        let waker = context.waker();
        if let Poll::Ready(found) = look(waker) {
            return Poll::Ready(Some(found));
        }
        if clock.has_passed(until) {
            return Poll::Ready(None);
        }
        time_out.set(clock, until, waker);
        Poll::Pending
    })
    .await
}

/// Who is to be woken, all at once. Coming, going and changing the waker are O(1). Waking is O(most
/// that ever waited), and as much memory is kept: for what happens once. Those that are woken by
/// turns are in [`Turns`](crate::turns::Turns).
///
/// It is kept under a lock, and wakers are code of the user's executor: so they come in as copies
/// made before, and go out to be woken or dropped afterwards.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    waiting: usize,
    /// The place that was given out last.
    newest: usize,
}

impl Waiters {
    /// Has `waker` woken next time. A place is kept until it is given back; the waker that was
    /// there before is for the caller to drop.
    pub(crate) fn put(&mut self, place: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        let at = *place.get_or_insert_with(|| {
            self.newest = self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
            self.newest
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

    /// Adds everybody to those who are to be woken by [`wake_all`](crate::time::wake_all) once the
    /// lock is released. Their places stay theirs.
    #[inline]
    pub(crate) fn take(&mut self, woken: &mut Vec<Waker>) {
        if self.waiting != 0 {
            self.take_some(woken);
        }
    }

    /// As [`take`](Self::take), and who has come last is woken first, if it still waits.
    pub(crate) fn take_newest_first(&mut self, woken: &mut Vec<Waker>) {
        let newest = self.places.get_mut(self.newest).and_then(Option::take);
        self.waiting -= usize::from(newest.is_some());
        woken.extend(newest);
        self.take(woken);
    }

    #[cold]
    fn take_some(&mut self, woken: &mut Vec<Waker>) {
        self.waiting = 0;
        woken.extend(self.places.iter_mut().filter_map(Option::take));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::time::{MockClock, after};
    use std::array::from_fn;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    fn taken(waiters: &mut Waiters) -> usize {
        let mut woken = Vec::new();
        waiters.take(&mut woken);
        woken.len()
    }

    #[test]
    fn places_are_kept_until_they_are_given_back() {
        let mut waiters = Waiters::default();
        let (mut first, mut second) = (None, None);
        assert!(waiters.put(&mut first, Waker::noop().clone()).is_none());
        assert!(waiters.put(&mut first, Waker::noop().clone()).is_some());
        assert!(waiters.put(&mut second, Waker::noop().clone()).is_none());
        assert_ne!(first, second);
        assert_eq!(taken(&mut waiters), 2);
        assert_eq!(taken(&mut waiters), 0);
        assert!(waiters.leave(first.unwrap()).is_none());
        let mut third = None;
        assert!(waiters.put(&mut third, Waker::noop().clone()).is_none());
        assert_eq!(third, first);
        assert!(waiters.leave(third.unwrap()).is_some());
        assert_eq!(taken(&mut waiters), 0);
    }

    #[test]
    fn who_has_come_last_is_taken_first_whatever_its_place() {
        let wakers: [Waker; 4] = from_fn(|_| Waker::from(Arc::new(Parker::default())));
        for last_leaves in [false, true] {
            let mut waiters = Waiters::default();
            let mut come = |place: &mut Option<usize>, number: usize| {
                let before = waiters.put(place, wakers[number].clone());
                assert!(before.is_none());
            };
            let mut places = [None; 4];
            (0..3).for_each(|number| come(&mut places[number], number));
            drop(waiters.leave(places[1].unwrap()));
            drop(waiters.put(&mut places[3], wakers[3].clone()));
            // Who looks again has not come again.
            drop(waiters.put(&mut places[0], wakers[0].clone()));
            if last_leaves {
                drop(waiters.leave(places[3].unwrap()));
            }
            let mut woken = Vec::new();
            waiters.take_newest_first(&mut woken);
            let number = |woken: &Waker| wakers.iter().position(|waker| waker.will_wake(woken));
            let order: Vec<_> = woken.iter().map(|woken| number(woken).unwrap()).collect();
            let left: &[usize] = if last_leaves { &[0, 2] } else { &[3, 0, 2] };
            assert_eq!(order, left);
            assert_eq!(taken(&mut waiters), 0);
        }
    }

    #[test]
    fn who_blocks_looks_again_when_it_is_woken_and_not_before() {
        let (time, second) = (MockClock::new(), Duration::from_secs(1));
        let (clock, looks) = (time.clock(), AtomicUsize::new(0));
        let until = after(clock.now(), second);
        let look = |_: &Waker| {
            looks.fetch_add(1, SeqCst);
            Poll::<()>::Pending
        };
        thread::scope(|threads| {
            let blocked = threads.spawn(|| block(&clock, until, look));
            while time.timers() == 0 {
                thread::yield_now();
            }
            (0..1_000).for_each(|_| thread::yield_now());
            time.advance(second);
            assert_eq!(blocked.join().unwrap(), None);
        });
        assert_eq!(looks.load(SeqCst), 2);
    }
}
