//! One load under way, and those who wait for it.

use super::freshness::Age;
use super::under_way::UnderWay;
use super::verdict::Known;
use super::waiting::Node;
use crate::labels::Given;
use crate::sync::Mutex;
use crate::time::{Clock, Deadline, wake_all};
use crate::wait::{self, Waiters};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

/// What a load wants stored, besides its value.
pub(crate) struct Fill<'f, K, V> {
    pub(crate) flight: &'f Arc<Flight<V>>,
    /// What the loader says of the weight.
    pub(crate) weight: Option<u64>,
    /// Where the load asked for another freshness than the cache's own.
    pub(crate) age: Option<Age>,
    /// For what the set knew of the load, to be dropped when no lock is held.
    pub(crate) ended: &'f OnceLock<UnderWay<K, V>>,
}

impl<K, V> Fill<'_, K, V> {
    /// Keeps what was taken out of the set, which it is once.
    pub(crate) fn keep(&self, ended: Option<UnderWay<K, V>>) {
        if let Some(ended) = ended {
            self.ended.get_or_init(|| ended);
        }
    }
}

/// How a load ended.
pub(crate) enum Landing<V> {
    Loaded(Arc<V>),
    /// There is no value.
    Known(Known),
    /// There is a value for the caller alone that has had it loaded.
    Unshared(Arc<V>),
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
            Self::Unshared(value) => Self::Unshared(Arc::clone(value)),
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

    /// Ends the flight and wakes all who wait for it, unless another load of the key has ended it
    /// with what that has brought.
    pub(crate) fn land(&self, landing: Landing<V>, made: Option<Box<Given>>) {
        let mut state = self.state.lock();
        if state.landing.is_some() {
            return;
        }
        // With the landing that it is of: what the two have read may be of different tags.
        if let Some(made) = made {
            self.made.get_or_init(|| made);
        }
        let is_dropped = matches!(landing, Landing::Abandoned) && !self.node.has_panicked();
        state.landing = Some(landing);
        let mut waiters = Vec::new();
        if is_dropped {
            // Mostly since its caller's time was up, and who is woken first leads next: the oldest
            // would be out of time before its loader has ended, and so would the next oldest. Where
            // loaders panic the oldest are first, since each of them waits for its own.
            state.waiters.take_newest_first(&mut waiters);
        } else {
            state.waiters.take(&mut waiters);
        }
        drop(state);
        wake_all(waiters);
    }

    /// Blocks the thread until the load has ended, `None` when it takes longer than to `until`.
    pub(crate) fn wait(&self, clock: &Clock, until: Deadline) -> Option<Landing<V>> {
        let mut landed = Landed::of(self);
        wait::block(clock, until, |waker| landed.look(waker))
    }

    /// Waits until the load has ended, `None` when it takes longer than to `until`.
    pub(crate) async fn landed(&self, clock: &Clock, until: Deadline) -> Option<Landing<V>> {
        let mut landed = Landed::of(self);
        wait::wait(clock, until, |waker| landed.look(waker)).await
    }
}

/// A flight with a handle for each that needs one while nobody has joined the load.
///
/// They are made once and from then on moved, from one load to the next: to count a handle more
/// and less costs as much each time as to take a lock.
pub(crate) struct Crew<V> {
    /// Of who leads the load.
    pub(crate) leads: Arc<Flight<V>>,
    /// Of the set of its key.
    pub(crate) known: Arc<Flight<V>>,
    /// Of the thread that runs the loader.
    pub(crate) runs: Arc<Node>,
}

impl<V> Crew<V> {
    pub(crate) fn new(is_task: bool) -> Self {
        let runs = Node::new(is_task);
        let leads = Flight::depart(Arc::clone(&runs));
        Self {
            known: Arc::clone(&leads),
            leads,
            runs,
        }
    }

    /// Whether nobody else has a hand in it. If it has not landed it is then as good as new: who
    /// waits for the flight, who waits together with its loader and who looks at its node has a
    /// handle until the traces of that are gone. Nobody new can come, since all handles are here.
    /// To look at the counts is enough, since all that they guard is behind locks and atomics.
    pub(crate) fn is_complete(&self) -> bool {
        Arc::strong_count(&self.leads) == 2 && Arc::strong_count(&self.runs) == 2
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
    fn look(&mut self, waker: &Waker) -> Poll<Landing<V>> {
        let waker = waker.clone();
        let mut state = self.flight.state.lock();
        if let Some(landing) = &state.landing {
            let landing = landing.clone();
            // Nobody is woken any more.
            self.place = None;
            return Poll::Ready(landing);
        }
        let before = state.waiters.put(&mut self.place, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl<V> Drop for Landed<'_, V> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut state = self.flight.state.lock();
        let waker = match state.landing {
            None => state.waiters.leave(place),
            Some(_) => None,
        };
        drop(state);
        drop(waker);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_crew_is_complete_while_nobody_else_has_a_hand_in_it() {
        let crew: Crew<u64> = Crew::new(false);
        assert!(crew.is_complete());
        let joined = Arc::clone(&crew.known);
        assert!(!crew.is_complete());
        drop(joined);
        let waited_for = Arc::clone(crew.leads.node());
        assert!(!crew.is_complete());
        drop(waited_for);
        assert!(crew.is_complete());
    }
}
