//! One load under way, and those who wait for it.

use super::freshness::Age;
use super::verdict::Known;
use super::waiting::Node;
use crate::hash::KeyHash;
use crate::labels::Given;
use crate::sync::{Condvar, Mutex, wait_until};
use crate::time::{Clock, Deadline, Timer, left, wake_all, wake_at};
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A load that the set of its key knows of. A write or removal of the key takes it out, and what
/// is loaded is then not stored; who waits already gets it all the same.
pub(crate) struct UnderWay<K, V> {
    hash: KeyHash,
    pub(crate) key: K,
    pub(crate) flight: Arc<Flight<V>>,
    epoch: u64,
}

impl<K, V> UnderWay<K, V> {
    pub(crate) fn new(hash: KeyHash, key: K, flight: Arc<Flight<V>>, epoch: u64) -> Self {
        Self {
            hash,
            key,
            flight,
            epoch,
        }
    }

    /// The epoch at which the load began: what is invalidated after it, the load does not know of.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }
}

impl<K, V> fmt::Debug for UnderWay<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// What a load wants stored, besides its value.
pub(crate) struct Fill<'f, K, V> {
    pub(crate) flight: &'f Arc<Flight<V>>,
    /// What the loader says of the weight.
    pub(crate) weight: Option<u64>,
    /// Where the load asked for another freshness than the cache's own.
    pub(crate) age: Option<Age>,
    /// What the set knew of the load, to be dropped when no lock is held.
    pub(crate) ended: Cell<Option<UnderWay<K, V>>>,
}

/// How a load ended.
pub(crate) enum Landing<V> {
    Loaded(Arc<V>),
    /// There is no value.
    Known(Known),
    /// It took longer than allowed.
    TimedOut,
    /// The loader panicked, or its future was dropped: somebody else has to load.
    Abandoned,
}

impl<V> Clone for Landing<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(value) => Self::Loaded(Arc::clone(value)),
            Self::Known(known) => Self::Known(known.clone()),
            Self::TimedOut => Self::TimedOut,
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// A load, shared by who leads it and who waits for it, threads and tasks alike.
pub(crate) struct Flight<V> {
    node: Arc<Node>,
    state: Mutex<State<V>>,
    /// The labels of what was loaded and the epoch at which the load began, where there are labels.
    /// Known when the flight lands.
    made: OnceLock<Box<Given>>,
}

struct State<V> {
    landing: Option<Landing<V>>,
    waiters: Waiters,
}

impl<V> Flight<V> {
    /// A flight of the load that `node` stands for, which may have several.
    pub(crate) fn depart(node: Arc<Node>) -> Arc<Self> {
        let state = State {
            landing: None,
            waiters: Waiters::default(),
        };
        Arc::new(Self {
            node,
            state: Mutex::new(state),
            made: OnceLock::new(),
        })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// What decides on who may get what a flight that has landed brought.
    pub(crate) fn made(&self) -> Option<&Given> {
        self.made.get().map(|made| &**made)
    }

    pub(crate) fn has_landed(&self) -> bool {
        self.state.lock().landing.is_some()
    }

    /// Ends the flight and wakes all who wait for it.
    pub(crate) fn land(&self, landing: Landing<V>, made: Option<Box<Given>>) {
        if let Some(made) = made {
            self.made.get_or_init(|| made);
        }
        let mut state = self.state.lock();
        state.landing = Some(landing);
        let waiters = mem::take(&mut state.waiters);
        drop(state);
        waiters.wake();
    }

    /// Blocks the thread until the load has ended, `None` when it takes longer than to `until`.
    pub(crate) fn wait(&self, clock: &Clock, until: Deadline) -> Option<Landing<V>> {
        let parker = Arc::new(Parker::default());
        let waker = Waker::from(Arc::clone(&parker));
        let mut landed = Landed::of(self);
        // Real time needs no timer, since the thread can wake by itself.
        let _timer = clock
            .is_mock()
            .then(|| wake_at(clock, until, waker.clone()));
        loop {
            if let Some(landing) = landed.look(&waker) {
                return Some(landing);
            }
            if clock.has_passed(until) {
                return None;
            }
            let longest = Duration::from_secs(86_400);
            let rest = left(until, clock.now()).filter(|_| !clock.is_mock());
            parker.park(rest.map_or(longest, |rest| rest.min(longest)));
        }
    }

    /// Waits until the load has ended, `None` when it takes longer than to `until`.
    pub(crate) async fn landed(&self, clock: &Clock, until: Deadline) -> Option<Landing<V>> {
        let mut landed = Landed::of(self);
        let mut time_out = None;
        poll_fn(|context| landed.poll(context, clock, until, &mut time_out)).await
    }
}

/// One who waits for a flight. Dropping it ends the wait.
struct Landed<'f, V> {
    flight: &'f Flight<V>,
    place: Option<usize>,
}

impl<'f, V> Landed<'f, V> {
    fn of(flight: &'f Flight<V>) -> Self {
        Self {
            flight,
            place: None,
        }
    }

    /// How the flight has landed, if it has; otherwise `waker` is woken when it does.
    fn look(&mut self, waker: &Waker) -> Option<Landing<V>> {
        let mut state = self.flight.state.lock();
        if state.landing.is_some() {
            // The waiters were taken out as it landed.
            self.place = None;
            return state.landing.clone();
        }
        let replaced = match self.place {
            Some(place) => state.waiters.replace(place, waker),
            None => {
                self.place = Some(state.waiters.add(waker.clone()));
                None
            }
        };
        drop(state);
        drop(replaced);
        None
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        clock: &Clock,
        until: Deadline,
        time_out: &mut Option<(Waker, Timer)>,
    ) -> Poll<Option<Landing<V>>> {
        let waker = context.waker();
        if let Some(landing) = self.look(waker) {
            return Poll::Ready(Some(landing));
        }
        if clock.has_passed(until) {
            return Poll::Ready(None);
        }
        let is_set = time_out
            .as_ref()
            .is_some_and(|(woken, _)| woken.will_wake(waker));
        if !is_set {
            let timer = wake_at(clock, until, waker.clone());
            *time_out = Some((waker.clone(), timer));
        }
        Poll::Pending
    }
}

impl<V> Drop for Landed<'_, V> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.flight.state.lock();
        let waker = match state.landing {
            None => state.waiters.remove(place),
            Some(_) => None,
        };
        drop(state);
        drop(waker);
    }
}

/// Who is woken when a flight lands. Coming, going and changing the waker are O(1).
#[derive(Default)]
struct Waiters {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Waiters {
    fn add(&mut self, waker: Waker) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(waker);
                place
            }
            None => {
                self.places.push(Some(waker));
                self.places.len() - 1
            }
        }
    }

    /// Has another waker woken from now on; the one before, if it was another.
    fn replace(&mut self, place: usize, waker: &Waker) -> Option<Waker> {
        let there = &mut self.places[place];
        if there.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return None;
        }
        there.replace(waker.clone())
    }

    fn remove(&mut self, place: usize) -> Option<Waker> {
        self.free.push(place);
        self.places[place].take()
    }

    fn wake(self) {
        wake_all(self.places.into_iter().flatten());
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
