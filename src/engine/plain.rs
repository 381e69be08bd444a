//! The short way in: an insertion as most of them are.
//!
//! Nobody listens, nothing is weighed, no load is under way in the key's set and nothing else hangs
//! off it, the entry in the way is alive or there is none, and the key's own set can give a place. What such an insertion does is a
//! few stores, and the general way ([`insert`](Engine::insert)) spends several times as much on
//! being prepared for the rest. Whatever is not as simple is handed back before anything has
//! changed, and goes the general way.

use super::Engine;
use super::policy::{PASSED, in_time};
use crate::entry::{InsertOptions, Life, OnFull};
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Item, Locked};
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
            return self.place_plainly(inside, set, (hash, key, value), deadline, &moment);
        };
        if moment.has_passed(entry.deadline()) {
            return Plain::Unchanged(key, value);
        }
        entry.count_read();
        set.keep_order(way);
        set.move_deadline(way, deadline);
        let old = mem::replace(&mut set.entry_mut(way).value, value);
        self.count(Count::Updates);
        // The key goes last: its destructor is the user's.
        drop((set, inside));
        Plain::Replaced(old)
    }

    /// The deadline of a new value, unless it takes more than a look at the clock.
    #[inline]
    fn plain_deadline(&self, life: Life, moment: &Moment<'_>) -> Option<Deadline> {
        let deadline = match (life, self.policy.time_to_live) {
            (Life::Default, Some(ttl)) | (Life::For(ttl), _) => in_time(moment, ttl),
            (Life::Default, None) | (Life::Forever, _) => NEVER,
            (Life::Until(_) | Life::Keep, _) => return None,
        };
        (deadline != PASSED).then_some(deadline)
    }

    #[inline]
    fn place_plainly(
        &self,
        inside: reentrancy::Inside,
        mut set: Locked<'_, K, V>,
        (hash, key, value): (KeyHash, K, V),
        deadline: Deadline,
        moment: &Moment<'_>,
    ) -> Plain<K, V> {
        if !set.has_room() {
            return Plain::Unchanged(key, value);
        }
        if self.budget.try_take_entry() {
            set.add(hash, Item::plain(hash, key, value, deadline));
            self.count(Count::Inserts);
            return Plain::Inserted;
        }
        if self.policy.on_full == OnFull::Reject
            || moment.has_passed(self.table.earliest())
            || !self.holds_share(&set)
        {
            return Plain::Unchanged(key, value);
        }
        let Some(victim) = set.victim() else {
            return Plain::Unchanged(key, value);
        };
        let evicted = set.exchange(victim, hash, Item::plain(hash, key, value, deadline));
        self.count(Count::Inserts);
        self.count(Count::Evictions);
        drop((set, inside));
        drop(evicted);
        Plain::Inserted
    }
}
