//! State by key that other parts of the crate keep in a cache: the cells of limits, the slots of
//! locks.
//!
//! A slot is an entry whose deadline says when its state may be forgotten, which is when a missing
//! slot means the same. So a hot key costs one lock of its set, and an idle one is cleared by the
//! sweep like any entry that expires. Nothing is evicted here: such caches have no bound.

use super::Engine;
use super::policy::Deadlines;
use super::room::Work;
use super::write::{Patience, Pending, Stored};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::table::Locked;
use crate::time::{Deadline, Moment};
use std::hash::Hash;

/// A change of a slot: it is given the state and its deadline, and says the next deadline.
///
/// A slot that was not there has the default state and a deadline of 0. One whose deadline has
/// passed may be there still.
pub(crate) trait Change<V, R>:
    FnOnce(&mut V, Deadline, &Moment<'_>) -> (Deadline, R)
{
}

impl<V, R, F> Change<V, R> for F where F: FnOnce(&mut V, Deadline, &Moment<'_>) -> (Deadline, R) {}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
    /// Changes the slot of a key, which is made if it is missing: whether it was, and what the
    /// change returned. `None` where no lock may be taken.
    #[inline]
    pub(crate) fn slot<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        change: impl Change<V, R>,
    ) -> Option<(bool, R)>
    where
        Q: Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        V: Default,
    {
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        if let Some(way) = set.find(hash, key) {
            let moment = self.clock.moment();
            return Some((false, change_way(&mut set, way, &moment, change)));
        }
        drop(set);
        drop(inside);
        self.add_slot(hash, key.to_owned(), change)
    }

    /// Changes the slot of a key, if it is there.
    #[inline]
    pub(crate) fn existing_slot<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        change: impl Change<V, R>,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        let way = set.find(hash, key)?;
        let moment = self.clock.moment();
        Some(change_way(&mut set, way, &moment, change))
    }

    #[cold]
    fn add_slot<R>(&self, hash: KeyHash, key: K, change: impl Change<V, R>) -> Option<(bool, R)>
    where
        V: Default,
    {
        let mut value = V::default();
        let mut work: Work<'_, K, V> = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        // Another thread may have added it since.
        if let Some(way) = set.find(hash, &key) {
            return Some((false, change_way(&mut set, way, &work.moment, change)));
        }
        let (effective, result) = change(&mut value, 0, &work.moment);
        let pending = Pending {
            hash,
            key,
            value,
            weight: 1,
        };
        let deadlines = Deadlines {
            effective,
            ends: None,
            age: None,
        };
        let stored: Stored<K, V> = self.store(
            &mut set,
            pending,
            None,
            deadlines,
            Patience::Some,
            &mut work,
        );
        drop(set);
        drop(inside);
        drop(stored);
        self.have_swept();
        Some((true, result))
    }

    /// Visits every slot that stays while this runs, each under the lock of its set.
    pub(crate) fn each_slot(&self, mut visit: impl FnMut(&mut V)) {
        let mut next = 0;
        while let Some(inside) = reentrancy::enter() {
            let Some(mut set) = self.table.lock_next(&inside, next) else {
                return;
            };
            next = set.index() + 1;
            for way in 0..set.width() {
                if set.get(way).is_some() {
                    visit(&mut set.entry_mut(way).value);
                }
            }
        }
    }
}

#[inline]
fn change_way<K, V, R>(
    set: &mut Locked<'_, K, V>,
    way: usize,
    moment: &Moment<'_>,
    change: impl Change<V, R>,
) -> R {
    let before = set.entry(way).deadline();
    let (deadline, result) = change(&mut set.entry_mut(way).value, before, moment);
    if deadline != before {
        set.move_deadline(way, deadline);
    }
    result
}
