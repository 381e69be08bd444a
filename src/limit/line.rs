//! The lines of those who wait, one for each key that somebody waits for.
//!
//! Only the first of a line tries whether it is let in. The others sleep until those before them
//! have gone: who goes wakes the next one, so a call that is let through costs O(log n) of those
//! who wait. A key that nobody waits for has no line, and a limiter that nobody ever waited for no
//! table of them.
//!
//! The first may be a future that nobody polls, and those behind it may be what keeps it from being
//! polled. So a line with somebody behind the first has a [`Watch`], which lets the next go past a first
//! who is late. That one is in nobody's way until it is polled: it stands in its place again then, which is
//! before all who came after it.
//!
//! A line has a lock of its own, under which no code of the user's runs, and who stands in it holds
//! the line itself: so a place can be given back wherever a wait is dropped, also under the lock of
//! a cache, where no key can be looked up.

use crate::contain::contain;
use crate::equivalent::Equivalent;
use crate::keyed::{Keyed, State};
use crate::reentrancy;
use crate::sync::Mutex;
use crate::time::{Clock, Deadline, NEVER, Timer, after, wake_all, wake_at, wake_soon};
use crate::to_key::ToKey;
use crate::turns::Turns;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

/// How often is looked whether the first is late. It is passed by if it was at two looks: the first of
/// them may be the first thing that runs after a stall of the whole process, and wakes it once more. The
/// second may be that as well; if it comes by so much too late, a third look decides.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often that is halved at most while one after the other is passed by: they may be many.
const HALVINGS: u32 = 6;

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
    /// The first is awake, though it may sleep until its time. So are those who were passed by and have
    /// not been polled since: nobody waits for them.
    turns: Turns,
    /// Whether there is a first, which is the last that was woken. If not, nobody sleeps.
    has_first: bool,
    /// What each of them is to take, by its place, but for those who were passed by, and for a first
    /// that tries just now.
    costs: BTreeMap<u64, u32>,
    /// All of that together.
    sum: u64,
    /// What was taken off as firsts tried, and was not put on again, since the line was made.
    tried: u64,
    /// What wakes the first, unless it has yet to try.
    first: Option<Waker>,
    /// When the first is to try next; zero if that is at once.
    due: Deadline,
    /// Whether the watch has found the first due, and has woken it once more.
    is_reminded: bool,
    /// Whether it has found it due again, and has let it be since that look was late.
    is_spared: bool,
    /// How often the patience is halved: once for each who was passed by since one was polled.
    halvings: u32,
    /// How many watches have begun. Only the last of them may set a timer.
    watches: u64,
    is_watched: bool,
    /// When the watch is to look next.
    looks_at: Deadline,
    /// What has it look then.
    watch: Option<Timer>,
}

impl Standing {
    /// Has somebody stand in its place, which is the last one if it has none yet.
    fn stand(&mut self, place: &mut Option<u64>, cost: u32) {
        // No code of the user's yet, so that there is somebody to give the place back if it panics.
        self.turns.wait(place, Waker::noop().clone());
        self.put_on(*place, cost);
        if !self.has_first {
            self.pass_on(&mut Vec::new());
        }
    }

    fn put_on(&mut self, place: Option<u64>, cost: u32) {
        if let Some(place) = place {
            self.costs.insert(place, cost);
            self.sum += u64::from(cost);
        }
    }

    /// What stands in this place, if anything does, is not to be waited for any more.
    fn take_off(&mut self, place: Option<u64>) {
        let cost = place.and_then(|place| self.costs.remove(&place));
        self.sum -= u64::from(cost.unwrap_or(0));
    }

    /// Wakes the next, who is the first then. What woke the first before is for the caller to drop.
    fn pass_on(&mut self, into: &mut Vec<Waker>) -> Option<Waker> {
        let awake = self.turns.awake();
        self.turns.wake_another(into);
        self.has_first = self.turns.awake() > awake;
        self.tries_at(0);
        self.first.take()
    }

    fn tries_at(&mut self, due: Deadline) {
        self.due = due;
        (self.is_reminded, self.is_spared) = (false, false);
    }

    fn is_first(&self, place: Option<u64>) -> bool {
        self.has_first && self.turns.was_woken_last(place)
    }

    fn was_passed_by(&self, place: Option<u64>) -> bool {
        !self.turns.is_asleep(place) && !self.is_first(place)
    }

    /// Wakes a first that is due once more, and passes it by if it was due at the last look as well, but
    /// for one look that comes late. Whether it was due.
    fn remind(&mut self, now: Deadline, into: &mut Vec<Waker>) -> bool {
        let is_due = self.has_first && self.due <= now;
        // So late a look is where the whole process was stopped, perhaps before the first could be polled.
        // Once is enough, or one would never be passed by where all looks are late.
        let has_stood_still = after(self.looks_at, PATIENCE) <= now;
        if is_due && self.is_reminded && has_stood_still && !self.is_spared {
            self.is_spared = true;
        } else if is_due && self.is_reminded {
            self.take_off(Some(self.turns.last_woken()));
            self.halvings = HALVINGS.min(self.halvings + 1);
            let late = self.pass_on(into);
            into.extend(late);
        } else if is_due {
            self.is_reminded = true;
            into.extend(self.first.take());
        }
        is_due
    }

    /// The look that has to be planned, if one has to.
    fn begin_watch(&mut self, clock: &Clock) -> Option<Look> {
        let is_missing = !self.is_watched && self.turns.is_anybody_asleep();
        is_missing.then(|| self.next_look(after(clock.now(), PATIENCE)))
    }

    fn next_look(&mut self, at: Deadline) -> Look {
        self.is_watched = true;
        self.watches += 1;
        self.looks_at = at;
        Look {
            number: self.watches,
            at,
        }
    }

    /// What the watch had set is for the caller to drop.
    fn end_watch(&mut self) -> Option<Timer> {
        self.is_watched = false;
        self.watch.take()
    }
}

/// One look of a watch, for which the timer is still to be set.
struct Look {
    number: u64,
    at: Deadline,
}

/// Looks after a line for as long as somebody stands behind the first, or the first is late.
///
/// It goes on when those behind the first have gone, up to its next look: where all of them go sooner
/// than that, by a short time-out for instance, there would be none ever.
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

    fn look_after(&self, watch: Arc<Watch>) {
        let now = watch.clock.now();
        let mut woken = Vec::new();
        let mut standing = self.0.lock();
        let is_due = standing.remind(now, &mut woken);
        let (mut ended, mut next) = (None, None);
        if is_due || standing.turns.is_anybody_asleep() {
            let patience = PATIENCE / (1 << standing.halvings);
            next = Some(standing.next_look(after(now, patience)));
        } else {
            ended = standing.end_watch();
        }
        drop(standing);
        drop(ended);
        wake_all(woken);
        if let Some(look) = next {
            self.watch_on(watch, look);
        }
    }

    fn begin_watch(self: &Arc<Self>, look: Look, clock: &Clock) {
        let watch = Watch {
            line: Arc::downgrade(self),
            clock: clock.clone(),
        };
        self.watch_on(Arc::new(watch), look);
    }

    fn watch_on(&self, watch: Arc<Watch>, look: Look) {
        let clock = watch.clock.clone();
        let timer = wake_at(&clock, look.at, Waker::from(watch));
        let mut standing = self.0.lock();
        let unused = match standing.is_watched && standing.watches == look.number {
            true => standing.watch.replace(timer),
            // Everybody has gone meanwhile, or it has gone off already and was set anew.
            false => Some(timer),
        };
        drop(standing);
        drop(unused);
    }

    /// Has the first try anew, before its time.
    pub(super) fn rouse(&self) {
        let mut standing = self.0.lock();
        // Whether it was found late stays: else it would be for ever the first where resets are many.
        standing.due = 0;
        let first = standing.first.take();
        drop(standing);
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
        assert!(len > 0 || !standing.is_watched, "who has gone needs none");
        let sum: u64 = standing.costs.values().map(|cost| u64::from(*cost)).sum();
        assert_eq!(standing.sum, sum);
        let late = awake - usize::from(standing.has_first);
        assert_eq!(standing.costs.len() + late, len, "all but the late take");
        assert!(
            standing.has_first || standing.first.is_none(),
            "who has gone is not woken"
        );
        // So does a watch that looks at this moment.
        let holders = len + 1..=len + 1 + usize::from(standing.is_watched);
        assert!(
            holders.contains(&Arc::strong_count(self)),
            "who stands here holds it"
        );
    }
}

/// A place in a line. Dropping it gives it back, and wakes who is the first then.
pub(super) struct Spot<'c> {
    line: Arc<Line>,
    place: Option<u64>,
    cost: u32,
    clock: &'c Clock,
}

/// What all are to take who stood up to a place as that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    pub(super) sum: u64,
    /// What firsts had tried to take by then.
    tried: u64,
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

impl<'c> Spot<'c> {
    /// Takes the last place of a line; what all are to take who stand there then. Whether that is
    /// the first place, [`look`](Self::look) says.
    pub(super) fn join(line: Arc<Line>, cost: u32, clock: &'c Clock) -> (Self, Costs) {
        let mut place = None;
        let mut standing = line.0.lock();
        standing.stand(&mut place, cost);
        let costs = Costs {
            sum: standing.sum,
            tried: standing.tried,
        };
        let watch = standing.begin_watch(clock);
        drop(standing);
        let spot = Self {
            line,
            place,
            cost,
            clock,
        };
        spot.begin_watch(watch);
        (spot, costs)
    }

    fn begin_watch(&self, look: Option<Look>) {
        if let Some(look) = look {
            self.line.begin_watch(look, self.clock);
        }
    }

    /// Wakes who is the first now. What wakes it may call haybox, so under the lock of a cache, where
    /// that would panic and the turn be lost, it is left to the clock's timers.
    fn wake(&self, next: Vec<Waker>) {
        if !reentrancy::is_inside() {
            return wake_all(next);
        }
        for waker in next {
            wake_soon(self.clock, waker);
        }
    }

    /// What is left of that without what firsts have taken since, or are about to.
    pub(super) fn left_of(&self, costs: Costs) -> u64 {
        let tried = self.line.0.lock().tried;
        // Who was refused has it counted again, and who came back that was passed by had not counted.
        let since = tried.wrapping_sub(costs.tried) as i64;
        let left = costs.sum.saturating_add_signed(since.wrapping_neg());
        left.max(u64::from(self.cost))
    }

    /// It is about to try, so what it is to take does not count in the line until it is refused. Who joins
    /// just then would count it twice, as taken and as still to be, and think that it waits for too long.
    pub(super) fn tries(&self) {
        let mut standing = self.line.0.lock();
        let before = standing.sum;
        standing.take_off(self.place);
        standing.tried += before - standing.sum;
    }

    /// It was refused, and will not try before then.
    pub(super) fn tries_at(&self, at: Deadline) {
        let mut standing = self.line.0.lock();
        if standing.is_first(self.place) {
            standing.put_on(self.place, self.cost);
            standing.tried -= u64::from(self.cost);
            standing.tries_at(at);
        }
    }

    /// Has `waker` woken as soon as another look is worth it. Who was passed by stands in its place again.
    pub(super) fn look(&mut self, waker: &Waker) -> Turn {
        // Of the user's executor: cloned before the lock is taken, and dropped after it.
        let waker = waker.clone();
        let mut standing = self.line.0.lock();
        if standing.was_passed_by(self.place) {
            // It is polled, if late. Were the patience not whole again, all who are polled as late as it
            // would be passed by, one after the other and for ever.
            standing.halvings = 0;
            standing.stand(&mut self.place, self.cost);
        }
        let (turn, before) = if standing.is_first(self.place) {
            standing.halvings = 0;
            match standing.first.replace(waker) {
                None => (Turn::Own, None),
                before => (Turn::StillOwn, before),
            }
        } else {
            (Turn::Theirs, standing.turns.wait(&mut self.place, waker))
        };
        let watch = standing.begin_watch(self.clock);
        drop(standing);
        self.begin_watch(watch);
        let _ = contain(|| drop(before));
        turn
    }
}

impl Drop for Spot<'_> {
    fn drop(&mut self) {
        let mut next = Vec::new();
        let mut standing = self.line.0.lock();
        standing.take_off(self.place);
        let is_first = standing.is_first(self.place);
        let mut unused = standing.turns.leave(&mut self.place);
        if is_first {
            unused = standing.pass_on(&mut next);
        }
        let mut ended = None;
        if standing.turns.len() == 0 {
            ended = standing.end_watch();
        }
        drop(standing);
        drop(ended);
        self.wake(next);
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

    fn join<'c>(
        line: &Arc<Line>,
        clock: &'c Clock,
        cost: u32,
    ) -> (Spot<'c>, u64, Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (spot, costs) = Spot::join(Arc::clone(line), cost, clock);
        line.validate();
        (spot, costs.sum, woken, waker)
    }

    #[test]
    fn the_first_tries_once_and_the_next_when_it_has_gone() {
        let (line, clock) = (Arc::new(Line::default()), MockClock::new().clock());
        let (mut first, costs, first_woken, waker) = join(&line, &clock, 2);
        assert_eq!(costs, 2);
        assert_eq!(first.look(&waker), Turn::Own);
        assert_eq!(first.look(&waker), Turn::StillOwn);
        let (mut second, costs, woken, waker) = join(&line, &clock, 3);
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
        let (line, clock) = (Arc::new(Line::default()), MockClock::new().clock());
        let spots = [(); 4].map(|()| join(&line, &clock, 1));
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
        let (line, clock) = (Arc::new(Line::default()), MockClock::new().clock());
        let mut spots = [(); 4].map(|()| join(&line, &clock, 1).0);
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
