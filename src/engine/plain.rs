//! The short way in: an insertion as most of them are.
//!
//! Nobody listens, nothing is weighed, no load is under way in the key's set, which keeps nothing
//! beside its entries, the entry in the way is alive or there is none, and the key's own set can give
//! a place. What such an insertion does is a few stores, and the general way
//! ([`insert`](Engine::insert)) spends several times as much on being prepared for the rest. Whatever
//! is not as simple is handed back before anything has changed, and goes the general way.

use super::Engine;
use super::policy::{PASSED, in_time};
use crate::entry::{InsertOptions, Life, OnFull};
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Entry, Item, Locked};
use crate::time::{Deadline, Moment, NEVER};
use std::hash::Hash;
use std::mem;

/// What became of a value.
pub(super) enum Plain<K, V> {
    Inserted,
    Replaced(V),
    /// Nothing: it has to go the general way.
    Unchanged(K, V),
}

/// Where a new entry goes.
pub(super) enum Place {
    Free,
    /// That of this way's entry, which has to go.
    Of(usize),
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
    /// Stores a value if that is simple.
    #[inline]
    pub(super) fn insert_plainly(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        options: &InsertOptions,
    ) -> Plain<K, V> {
        let moment = self.clock.moment();
        if !self.policy.is_plain || !options.are_plain() {
            return Plain::Unchanged(key, value);
        }
        let Some(inside) = reentrancy::enter() else {
            return Plain::Unchanged(key, value);
        };
        let mut set = self.table.lock(&inside, hash);
        let Some(deadline) = self.plain_deadline(options.life, &moment) else {
            return Plain::Unchanged(key, value);
        };
        if !set.is_bare() || self.hub.is_heard() {
            return Plain::Unchanged(key, value);
        }
        let Some((way, entry)) = set.find_entry(hash, &key) else {
            let Some(place) = self.plain_place(&mut set, &moment) else {
                return Plain::Unchanged(key, value);
            };
            let evicted = self.fill(&mut set, place, hash, (key, value), deadline);
            drop((set, inside));
            drop(evicted);
            return Plain::Inserted;
        };
        if moment.has_passed(entry.deadline()) {
            return Plain::Unchanged(key, value);
        }
        entry.count_read();
        entry.set_deadline(deadline);
        let old = mem::replace(&mut entry.value, value);
        set.keep_order(way);
        set.note(deadline);
        self.count(Count::Updates);
        // The key goes last: its destructor is the user's.
        drop((set, inside));
        Plain::Replaced(old)
    }

    /// The deadline of a new value, unless it takes more than a look at the clock.
    #[inline]
    pub(super) fn plain_deadline(&self, life: Life, moment: &Moment<'_>) -> Option<Deadline> {
        let deadline = match (life, self.policy.time_to_live) {
            (Life::Default, Some(ttl)) | (Life::For(ttl), _) => in_time(moment, ttl),
            (Life::Default, None) | (Life::Forever, _) => NEVER,
            (Life::Until(_) | Life::Keep, _) => return None,
        };
        (deadline != PASSED).then_some(deadline)
    }

    /// A place for one more entry, where the set can give one. What is given has to be filled.
    #[inline(always)]
    pub(super) fn plain_place(
        &self,
        set: &mut Locked<'_, K, V>,
        moment: &Moment<'_>,
    ) -> Option<Place> {
        if !set.has_room() {
            return None;
        }
        if self.budget.try_take_entry() {
            return Some(Place::Free);
        }
        if self.policy.on_full == OnFull::Reject
            || moment.has_passed(self.table.earliest())
            || !self.holds_share(set, 0)
        {
            return None;
        }
        set.victim().map(Place::Of)
    }

    /// Puts an entry in its place; returns the one that was there.
    #[inline(always)]
    pub(super) fn fill(
        &self,
        set: &mut Locked<'_, K, V>,
        place: Place,
        hash: KeyHash,
        (key, value): (K, V),
        deadline: Deadline,
    ) -> Option<Entry<K, V>> {
        match place {
            Place::Free => {
                self.count(Count::Inserts);
                let mut item = Item::new(hash, key, value, 1);
                item.deadline = deadline;
                set.add(hash, item);
                None
            }
            Place::Of(victim) => {
                self.count_each([Count::Inserts, Count::Evictions]);
                Some(set.exchange(victim, hash, (key, value), deadline))
            }
        }
    }
}
