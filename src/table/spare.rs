//! What a load has left behind, kept for the next one.
//!
//! A load takes up a little memory while it is under way: what callers meet at, and what its set
//! knows of it. Most loads are joined by nobody, and then all of that is as good as new afterwards.
//! Keeping it for the next load costs half of what it takes to give it back and ask for it anew.

use super::Table;
use super::set::LoadRoom;
use crate::load::Flight;
use crate::stats::thread_number;
use crate::sync::SpinLock;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Threads keep theirs apart, as far as there are as many places.
const PLACES: usize = 8;

/// What a load needs.
pub(crate) struct Spare<K, V> {
    pub(crate) flight: Arc<Flight<V>>,
    pub(crate) room: LoadRoom<K, V>,
}

/// A place on a cache line of its own.
#[repr(align(64))]
struct Place<K, V>(SpinLock<Option<Spare<K, V>>>);

/// None before the first load.
pub(super) struct Spares<K, V>(OnceLock<Box<[Place<K, V>; PLACES]>>);

impl<K, V> Table<K, V> {
    /// What an earlier load of this thread has left, if it has. Never waits.
    pub(crate) fn take_spare(&self) -> Option<Spare<K, V>> {
        let places = self.spares.0.get()?;
        places[thread_number() % PLACES].0.try_lock()?.take()
    }

    /// Keeps what a load has left, if nobody else has a hand in it.
    pub(crate) fn keep_spare(&self, mut spare: Spare<K, V>) {
        if !Flight::is_new(&mut spare.flight) {
            return spare.flight.node().land();
        }
        let places = self.spares.0.get_or_init(Spares::places);
        let before = match places[thread_number() % PLACES].0.try_lock() {
            Some(mut place) => place.replace(spare),
            None => None,
        };
        drop(before);
    }
}

impl<K, V> Spares<K, V> {
    fn places() -> Box<[Place<K, V>; PLACES]> {
        Box::new(std::array::from_fn(|_| Place(SpinLock::new(None))))
    }
}

impl<K, V> Default for Spares<K, V> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<K, V> fmt::Debug for Spares<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::entry::EvictionPolicy;
    use crate::load::Node;

    fn table() -> Table<u64, u64> {
        Table::new(100, EvictionPolicy::default())
    }

    fn spare() -> Spare<u64, u64> {
        Spare {
            flight: Flight::depart(Node::new(false)),
            room: LoadRoom::default(),
        }
    }

    #[test]
    fn what_a_load_leaves_is_for_one_other() {
        let table = table();
        let first = spare();
        let flight = Arc::as_ptr(&first.flight);
        table.keep_spare(first);
        let again = table.take_spare().expect("the one that was kept");
        assert_eq!(Arc::as_ptr(&again.flight), flight);
        assert!(table.take_spare().is_none());
    }

    #[test]
    fn what_others_have_a_hand_in_is_not_kept() {
        let table = table();
        let (joined, waited_for, landed) = (spare(), spare(), spare());
        let _flight = Arc::clone(&joined.flight);
        let _node = Arc::clone(waited_for.flight.node());
        landed.flight.node().land();
        for spare in [joined, waited_for, landed] {
            table.keep_spare(spare);
            assert!(table.take_spare().is_none());
        }
    }
}
