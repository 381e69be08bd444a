//! The lines of those who wait, one for each key that somebody waits for.
//!
//! Only the first of a line tries whether it is let in. The others sleep until those before them
//! have gone: who goes wakes the next one, so a call that is let through costs O(log n) of those
//! who wait. A key that nobody waits for has no line, and a limiter that nobody ever waited for no
//! table of them.
//!
//! A line has a lock of its own, under which no code of the user's runs, and who stands in it holds
//! the line itself: so a place can be given back wherever a wait is dropped, also under the lock of
//! a cache, where no key can be looked up.

use crate::contain::contain;
use crate::equivalent::Equivalent;
use crate::keyed::{Keyed, State};
use crate::sync::Mutex;
use crate::time::{Clock, Deadline, NEVER, wake_all};
use crate::to_key::ToKey;
use crate::turns::Turns;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

/// The lines of a limiter.
pub(super) struct Lines<K, S> {
    by_key: OnceLock<Keyed<K, Kept, S>>,
    settings: Settings<S>,
    /// Knows what calls that wait do not: that the keys may be kept for any time.
    make: fn(&Settings<S>) -> Keyed<K, Kept, S>,
}

/// Of the table.
struct Settings<S> {
    clock: Clock,
    sweep_interval: Duration,
    hasher: S,
}

/// A line in the table, where alone it is found.
#[derive(Default)]
pub(super) struct Kept(Arc<Line>);

impl State for Kept {
    /// Whoever stands in a line, or is about to, holds it.
    fn idle_from(&self) -> Deadline {
        match Arc::strong_count(&self.0) {
            1 => 0,
            _ => NEVER,
        }
    }
}

impl<K, S> Lines<K, S> {
    pub(super) fn new(clock: Clock, sweep_interval: Duration, hasher: S) -> Self
    where
        K: Send + Sync + 'static,
        S: Clone,
    {
        Self {
            by_key: OnceLock::new(),
            settings: Settings {
                clock,
                sweep_interval,
                hasher,
            },
            make: |settings| {
                let clock = settings.clock.clone();
                Keyed::new(clock, settings.sweep_interval, settings.hasher.clone())
            },
        }
    }
}

impl<K, S> Lines<K, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The line of a key, if there is one, with somebody in it or not.
    pub(super) fn find<Q>(&self, key: &Q) -> Option<Arc<Line>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let by_key = self.by_key.get().filter(|lines| lines.len() > 0)?;
        by_key.existing(by_key.hash(key), key, |line, _| Arc::clone(&line.0))
    }

    /// The line of a key, which is made if there is none. `None` from a thread that unwinds while
    /// it holds a lock.
    pub(super) fn of<Q>(&self, key: &Q) -> Option<Arc<Line>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let by_key = self.by_key.get_or_init(|| (self.make)(&self.settings));
        by_key.change(by_key.hash(key), key, |line, _| Arc::clone(&line.0))
    }

    /// Checks every invariant, while nobody else uses them.
    ///
    /// # Panics
    /// With the first that does not hold.
    pub(super) fn validate(&self) {
        if let Some(by_key) = self.by_key.get() {
            by_key.validate(|line| line.0.validate());
        }
    }
}

/// Those who wait for a key.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// The first is awake, though it may sleep until its time; nobody else is.
    turns: Turns,
    /// What all of them are to take.
    costs: u64,
    /// What wakes the first, unless it has yet to try.
    first: Option<Waker>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.0.lock().turns.len()
    }

    /// Has the first try anew, before its time.
    pub(super) fn rouse(&self) {
        let first = self.0.lock().first.take();
        wake_all(first.into_iter().collect());
    }

    fn validate(self: &Arc<Self>) {
        let standing = self.0.lock();
        let (len, awake) = (standing.turns.len(), standing.turns.awake());
        assert_eq!(awake, len.min(1), "the first is awake, and nobody else");
        assert!(standing.costs >= len as u64, "everybody takes something");
        assert!(len > 0 || standing.costs == 0, "who has gone takes nothing");
        assert!(len > 0 || standing.first.is_none(), "nor is it woken");
        assert_eq!(Arc::strong_count(self), len + 1, "who stands here holds it");
    }
}

/// A place in a line. Dropping it gives it back, and wakes who is the first then.
pub(super) struct Spot {
    line: Arc<Line>,
    place: Option<u64>,
    cost: u32,
}

/// What somebody in a line is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There are others before it.
    Theirs,
    /// It is the first, and has to try.
    Own,
    /// It is the first, and nothing has changed since it was told to try, but the time.
    StillOwn,
}

impl Spot {
    /// Takes the last place of a line; what all are to take who stand there then. Whether that is
    /// the first place, [`look`](Self::look) says.
    pub(super) fn join(line: Arc<Line>, cost: u32) -> (Self, u64) {
        let mut place = None;
        let mut standing = line.0.lock();
        // No code of the user's yet, so that there is somebody to give the place back if it panics.
        standing.turns.wait(&mut place, Waker::noop().clone());
        standing.turns.wake(1, &mut Vec::new());
        standing.costs += u64::from(cost);
        let costs = standing.costs;
        drop(standing);
        (Self { line, place, cost }, costs)
    }

    /// Has `waker` woken as soon as another look is worth it.
    pub(super) fn look(&mut self, waker: &Waker) -> Turn {
        // Of the user's executor: cloned before the lock is taken, and dropped after it.
        let waker = waker.clone();
        let mut standing = self.line.0.lock();
        let (turn, before) = if standing.turns.is_asleep(self.place) {
            (Turn::Theirs, standing.turns.wait(&mut self.place, waker))
        } else {
            match standing.first.replace(waker) {
                None => (Turn::Own, None),
                before => (Turn::StillOwn, before),
            }
        };
        drop(standing);
        let _ = contain(|| drop(before));
        turn
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        let mut next = Vec::new();
        let mut standing = self.line.0.lock();
        standing.costs -= u64::from(self.cost);
        let unused = standing.turns.leave(&mut self.place).or_else(|| {
            // It was the first.
            standing.turns.wake(1, &mut next);
            standing.first.take()
        });
        drop(standing);
        wake_all(next);
        let _ = contain(|| drop(unused));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::contain::Fragile;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn join(line: &Arc<Line>, cost: u32) -> (Spot, u64, Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (spot, costs) = Spot::join(Arc::clone(line), cost);
        line.validate();
        (spot, costs, woken, waker)
    }

    #[test]
    fn the_first_tries_once_and_the_next_when_it_has_gone() {
        let line = Arc::new(Line::default());
        let (mut first, costs, first_woken, waker) = join(&line, 2);
        assert_eq!(costs, 2);
        assert_eq!(first.look(&waker), Turn::Own);
        assert_eq!(first.look(&waker), Turn::StillOwn);
        let (mut second, costs, woken, waker) = join(&line, 3);
        assert_eq!((costs, second.look(&waker)), (5, Turn::Theirs));
        line.rouse();
        assert_eq!(first.look(&waker), Turn::Own, "it was told to");
        assert_eq!(first_woken.0.load(SeqCst), 1);
        assert_eq!(woken.0.load(SeqCst), 0);
        drop(first);
        line.validate();
        assert_eq!((woken.0.load(SeqCst), second.look(&waker)), (1, Turn::Own));
        drop(second);
        line.validate();
    }

    #[test]
    fn who_goes_from_the_middle_wakes_nobody_and_passes_its_turn_on() {
        let line = Arc::new(Line::default());
        let spots = [(); 4].map(|()| join(&line, 1));
        let [first, second, third, mut fourth] = spots;
        assert_eq!(fourth.0.look(&fourth.3), Turn::Theirs);
        drop(third.0);
        drop(first.0);
        // It was woken, and goes without a look.
        drop(second.0);
        line.validate();
        assert_eq!(fourth.2.0.load(SeqCst), 1);
        assert_eq!((line.len(), fourth.0.look(&fourth.3)), (1, Turn::Own));
    }

    /// Of an executor that has broken down.
    struct Broken;

    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            Fragile::throw();
        }
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            Fragile::throw();
        }
    }

    #[test]
    fn wakers_that_panic_keep_nobody_from_its_place() {
        let line = Arc::new(Line::default());
        let mut spots = [(); 4].map(|()| join(&line, 1).0);
        for spot in &mut spots {
            let waker = std::mem::ManuallyDrop::new(Waker::from(Arc::new(Broken)));
            spot.look(&waker);
        }
        let [first, second, third, mut fourth] = spots;
        drop(third);
        drop(first);
        drop(second);
        line.validate();
        assert_eq!(fourth.look(Waker::noop()), Turn::Own);
    }
}
