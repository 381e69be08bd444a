//! What a load has left behind, kept for the next one.
//!
//! A load takes up a little memory while it is under way: what callers meet at, and what its set
//! knows of it. Most loads are joined by nobody, and then all of that is as good as new afterwards.
//! Keeping it for the next load costs half of what it takes to give it back and ask for it anew.

use super::Table;
use super::loads::LoadRoom;
use crate::load::Crew;
use crate::sync::SpinLock;
use crate::thread;
use std::fmt;
use std::sync::OnceLock;

/// Threads keep theirs apart, as far as there are as many places.
const PLACES: usize = 8;

/// What a load needs.
pub(crate) struct Spare<K, V> {
    pub(crate) crew: Crew<V>,
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
        places[thread::slot() % PLACES].0.try_lock()?.take()
    }

    /// Keeps what a load has left in which nobody else has a hand.
    pub(crate) fn keep_spare(&self, spare: Spare<K, V>) {
        debug_assert!(spare.crew.is_complete());
        let places = self.spares.0.get_or_init(Spares::places);
        let before = match places[thread::slot() % PLACES].0.try_lock() {
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
    use std::sync::Arc;

    fn table() -> Table<u64, u64> {
        Table::new(100, EvictionPolicy::default())
    }

    #[test]
    fn what_a_load_leaves_is_for_one_other() {
        let table = table();
        let (crew, room) = (Crew::new(false), LoadRoom::default());
        let flight = Arc::as_ptr(&crew.leads);
        table.keep_spare(Spare { crew, room });
        let again = table.take_spare().expect("the one that was kept");
        assert_eq!(Arc::as_ptr(&again.crew.leads), flight);
        assert!(table.take_spare().is_none());
    }
}
