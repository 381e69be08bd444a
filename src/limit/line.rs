//! The lines of those who wait, one for each key that somebody waits for.
//!
//! Only the first of a line tries whether it is let in. The others sleep until those before them
//! have gone: who goes wakes the next one, so a call that is let through costs O(log n) of those
//! who wait. A key that nobody waits for has no line, and a limiter that nobody ever waited for no
//! table of them.
//!
//! The first may be a future that nobody polls, and those behind it may be what keeps it from being
//! polled. So a line with somebody behind the first has a [`Watch`], which lets the next go past a first
//! who is late.
//!
//! A line has a lock of its own, under which no code of the user's runs, and who stands in it holds
//! the line itself: so a place can be given back wherever a wait is dropped, also under the lock of
//! a cache, where no key can be looked up.

use crate::contain::contain;
use crate::equivalent::Equivalent;
use crate::keyed::{Keyed, State};
use crate::sync::Mutex;
use crate::time::{Clock, Deadline, NEVER, Timer, after, wake_all, wake_at};
use crate::to_key::ToKey;
use crate::turns::Turns;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

/// For how long after its time the first is waited for, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// The first is awake, though it may sleep until its time. So are those who were late, and have not
    /// gone: nobody waits for them, and they try when they are polled.
    turns: Turns,
    /// Whether there is a first, which is the last that was woken. If not, nobody sleeps.
    has_first: bool,
    /// What all of them are to take.
    costs: u64,
    /// What wakes the first, unless it has yet to try.
    first: Option<Waker>,
    /// When the first is late, once that was asked.
    late_at: Option<Deadline>,
    is_watched: bool,
    /// When the watch looks next.
    watch: Option<Timer>,
}

impl Standing {
    /// Wakes the next, who is the first then. What woke the first before is for the caller to drop.
    fn pass_on(&mut self, into: &mut Vec<Waker>) -> Option<Waker> {
        let awake = self.turns.awake();
        self.turns.wake_another(into);
        self.has_first = self.turns.awake() > awake;
        self.late_at = None;
        self.first.take()
    }

    /// Ends the watch where nobody is behind the first. What it had set is for the caller to drop.
    fn end_watch(&mut self) -> Option<Timer> {
        if self.turns.is_anybody_asleep() {
            return None;
        }
        self.is_watched = false;
        self.watch.take()
    }

    fn is_first(&self, place: Option<u64>) -> bool {
        self.has_first && self.turns.was_woken_last(place)
    }
}

/// Looks after a line for as long as somebody stands behind the first.
struct Watch {
    line: Weak<Line>,
    clock: Clock,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        if let Some(line) = self.line.upgrade() {
            line.look_after(self);
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.0.lock().turns.len()
    }

    /// Goes past the first if that is late: it is the turn of the next as well then.
    fn look_after(&self, watch: Arc<Watch>) {
        let now = watch.clock.now();
        let mut next = Vec::new();
        let mut standing = self.0.lock();
        let is_late = *standing.late_at.get_or_insert(after(now, PATIENCE)) <= now;
        let unused = is_late.then(|| standing.pass_on(&mut next));
        let ended = standing.end_watch();
        let is_watched = standing.is_watched;
        drop(standing);
        drop(ended);
        wake_all(next);
        let _ = contain(|| drop(unused));
        if is_watched {
            self.watch_on(watch, now);
        }
    }

    fn watch_on(&self, watch: Arc<Watch>, now: Deadline) {
        let clock = watch.clock.clone();
        let timer = wake_at(&clock, after(now, PATIENCE), Waker::from(watch));
        let mut standing = self.0.lock();
        let unused = match standing.is_watched {
            true => standing.watch.replace(timer),
            // Everybody has gone meanwhile.
            false => Some(timer),
        };
        drop(standing);
        drop(unused);
    }

    /// Has the first try anew, before its time.
    pub(super) fn rouse(&self) {
        let first = self.0.lock().first.take();
        wake_all(first.into_iter().collect());
    }

    fn validate(self: &Arc<Self>) {
        let standing = self.0.lock();
        let (len, awake) = (standing.turns.len(), standing.turns.awake());
        assert!(awake >= usize::from(standing.has_first), "it is awake");
        let is_anybody_asleep = standing.turns.is_anybody_asleep();
        assert!(
            standing.has_first || !is_anybody_asleep,
            "who waits has a first"
        );
        assert!(standing.is_watched || !is_anybody_asleep, "and a watch");
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
    /// It is the first, and has to try; or it was late, and may.
    Own,
    /// It is the first, and nothing has changed since it was told to try, but the time.
    StillOwn,
}

impl Spot {
    /// Takes the last place of a line; what all are to take who stand there then. Whether that is
    /// the first place, [`look`](Self::look) says.
    pub(super) fn join(line: Arc<Line>, cost: u32, clock: &Clock) -> (Self, u64) {
        let mut place = None;
        let mut standing = line.0.lock();
        // No code of the user's yet, so that there is somebody to give the place back if it panics.
        standing.turns.wait(&mut place, Waker::noop().clone());
        if !standing.has_first {
            standing.pass_on(&mut Vec::new());
        }
        standing.costs += u64::from(cost);
        let costs = standing.costs;
        let is_to_watch = standing.turns.is_anybody_asleep() && !standing.is_watched;
        standing.is_watched |= is_to_watch;
        drop(standing);
        let spot = Self { line, place, cost };
        if is_to_watch {
            let line = Arc::downgrade(&spot.line);
            let clock = clock.clone();
            let now = clock.now();
            spot.line.watch_on(Arc::new(Watch { line, clock }), now);
        }
        (spot, costs)
    }

    /// It was refused, and will not try before then.
    pub(super) fn tries_at(&self, at: Deadline) {
        let mut standing = self.line.0.lock();
        if standing.is_first(self.place) {
            standing.late_at = Some(after(at, PATIENCE));
        }
    }

    /// Has `waker` woken as soon as another look is worth it.
    pub(super) fn look(&mut self, waker: &Waker) -> Turn {
        // Of the user's executor: cloned before the lock is taken, and dropped after it.
        let waker = waker.clone();
        let mut standing = self.line.0.lock();
        let (turn, before) = if standing.turns.is_asleep(self.place) {
            (Turn::Theirs, standing.turns.wait(&mut self.place, waker))
        } else if !standing.is_first(self.place) {
            (Turn::Own, Some(waker))
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
        let is_first = standing.is_first(self.place);
        let mut unused = standing.turns.leave(&mut self.place);
        if is_first {
            unused = standing.pass_on(&mut next);
        }
        let ended = standing.end_watch();
        drop(standing);
        drop(ended);
        wake_all(next);
        let _ = contain(|| drop(unused));
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::contain::Fragile;
    use crate::time::MockClock;
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
        let (spot, costs) = Spot::join(Arc::clone(line), cost, &MockClock::new().clock());
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
