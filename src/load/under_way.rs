//! What the set of a key knows of its load.

use super::flight::Flight;
use crate::hash::KeyHash;
use crate::time::{Deadline, NEVER};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// So many late loads of a key are remembered. More of them hang than are slow.
const MOST_LATE: usize = 8;

/// A load that the set of its key knows of. A write or removal of the key takes it out, and what
/// is loaded is then not stored; who waits already gets it all the same.
pub(crate) struct UnderWay<K, V> {
    hash: KeyHash,
    pub(crate) key: K,
    /// What those who come now wait for.
    pub(crate) flight: Arc<Flight<V>>,
    epoch: u64,
    late: Option<Box<LateLoads<V>>>,
    /// When somebody waited for it first; [`NEVER`] until then.
    awaited_since: Deadline,
}

/// Loads of a key that took too long, so that another one was begun. What they bring is as good, as
/// long as nothing has overtaken any of them: the one that comes first is stored and ends them all.
struct LateLoads<V> {
    loads: Vec<Late<V>>,
    /// The one that was begun last has ended without a value, and is known for these alone.
    alone: bool,
}

/// What a load was that has left the others of its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Last,
    /// Others run that had begun before it.
    Newest,
    Older,
}

struct Late<V> {
    flight: Arc<Flight<V>>,
    epoch: u64,
}

impl<V> LateLoads<V> {
    fn of(loads: Vec<Late<V>>) -> Option<Box<Self>> {
        let alone = false;
        (!loads.is_empty()).then(|| Box::new(Self { loads, alone }))
    }

    fn into_loads(late: Option<Box<Self>>) -> Vec<Late<V>> {
        late.map_or_else(Vec::new, |late| late.loads)
    }
}

/// The loads that a set knows of: most often one, for a short time, which needs no memory of its
/// own.
pub(crate) type Loads<K, V> = SmallVec<[UnderWay<K, V>; 1]>;

impl<K, V> UnderWay<K, V> {
    pub(crate) fn new(hash: KeyHash, key: K, flight: Arc<Flight<V>>, epoch: u64) -> Self {
        Self {
            hash,
            key,
            flight,
            epoch,
            late: None,
            awaited_since: NEVER,
        }
    }

    /// The same, begun instead of another, and of those that are late already. What is to be
    /// expected nothing of stays with the other.
    pub(crate) fn instead_of(mut self, other: Option<&mut Self>) -> Self {
        let Some(other) = other else { return self };
        let has_ended = other.has_ended();
        let (mut loads, mut rest) = (Vec::new(), Vec::new());
        for late in LateLoads::into_loads(other.late.take()) {
            match late.flight.has_landed() {
                true => rest.push(late),
                false => loads.push(late),
            }
        }
        if !has_ended {
            let (flight, epoch) = (Arc::clone(&other.flight), other.epoch);
            loads.push(Late { flight, epoch });
        }
        if loads.len() > MOST_LATE {
            rest.push(loads.remove(0));
        }
        other.late = LateLoads::of(rest);
        self.late = LateLoads::of(loads);
        self
    }

    /// Whether it is not to be waited for, though it is known.
    pub(crate) fn has_ended(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.alone) || self.flight.has_landed()
    }

    fn late(&self) -> &[Late<V>] {
        self.late.as_ref().map_or(&[], |late| &late.loads)
    }

    /// Notes that somebody waits for it from now on, and says since when anybody has.
    pub(crate) fn await_from(&mut self, now: Deadline) -> Deadline {
        self.awaited_since = self.awaited_since.min(now);
        self.awaited_since
    }

    /// The epoch at which the load began: what is invalidated after it, the load does not know of.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch at which a load began that may store what it brings: this one, or a late one.
    pub(crate) fn epoch_of(&self, flight: &Arc<Flight<V>>) -> Option<u64> {
        if Arc::ptr_eq(&self.flight, flight) {
            return Some(self.epoch);
        }
        let mut late = self.late().iter();
        late.find(|late| Arc::ptr_eq(&late.flight, flight))
            .map(|late| late.epoch)
    }

    /// The epoch at which the oldest of those began that may store something yet; `None` where none
    /// of them runs, because their leaders were dropped where no lock could be taken.
    pub(crate) fn oldest_epoch(&self) -> Option<u64> {
        let late = self.late().iter();
        let late = late.filter(|late| !late.flight.has_landed());
        let newest = (!self.has_ended()).then_some(self.epoch);
        late.map(|late| late.epoch).chain(newest).min()
    }

    /// Its key and the flights of its other loads than this one, once it is out of its set.
    pub(crate) fn into_others(self, flight: &Arc<Flight<V>>) -> (K, Vec<Arc<Flight<V>>>) {
        let mut others = Vec::new();
        let mut add = |other: Arc<Flight<V>>| {
            if !Arc::ptr_eq(&other, flight) {
                others.push(other);
            }
        };
        for late in LateLoads::into_loads(self.late) {
            add(late.flight);
        }
        add(self.flight);
        (self.key, others)
    }

    /// One of its loads has ended, and its answer does not count.
    pub(crate) fn leave(&mut self, flight: &Arc<Flight<V>>) -> Left {
        let Some(late) = &mut self.late else {
            return Left::Last;
        };
        // A leader that was dropped where no lock could be taken has left nothing but its flight.
        late.alone |= Arc::ptr_eq(&self.flight, flight) || self.flight.has_landed();
        let mut loads = late.loads.iter();
        let place = loads.position(|late| Arc::ptr_eq(&late.flight, flight));
        let runs = |late: &Late<V>| !late.flight.has_landed();
        let is_newest = late.alone && !loads.any(runs);
        if let Some(place) = place {
            late.loads.remove(place);
        }
        match (late.alone && !late.loads.iter().any(runs), is_newest) {
            (true, _) => Left::Last,
            (_, true) => Left::Newest,
            _ => Left::Older,
        }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Its key and its flight, once it is out of its set.
    pub(crate) fn into_parts(self) -> (K, Arc<Flight<V>>) {
        (self.key, self.flight)
    }
}

impl<K, V> fmt::Debug for UnderWay<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::flight::{Crew, Landing};
    use super::*;

    #[test]
    fn no_epoch_is_kept_for_a_load_that_has_ended() {
        let of_epoch = |epoch| {
            let flight: Arc<Flight<u64>> = Crew::new(false).known;
            UnderWay::new(KeyHash::at_position(7), 7, flight, epoch)
        };
        let mut first = of_epoch(3);
        let mut second = of_epoch(5).instead_of(Some(&mut first));
        let third = of_epoch(8).instead_of(Some(&mut second));
        let end = |load: &UnderWay<u64, u64>| load.flight.land(Landing::Abandoned, None);
        assert_eq!(third.oldest_epoch(), Some(3));
        end(&first);
        assert_eq!(third.oldest_epoch(), Some(5));
        end(&third);
        assert_eq!(third.oldest_epoch(), Some(5), "a late one still runs");
        end(&second);
        assert_eq!(third.oldest_epoch(), None);
    }
}
