//! How a value gets into its set, whichever call brings it: the room that it needs, its place, and
//! what becomes of what was there.

use super::Engine;
use super::budget::Room;
use super::policy::{Deadlines, PASSED};
use super::record::Refusal;
use super::room::{Made, Work};
use crate::entry::{Life, OnFull};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::reentrancy::Inside;
use crate::stats::Count;
use crate::table::{Item, Locked};
use crate::time::Moment;
use std::hash::Hash;
use std::mem;

/// A value on its way into the cache.
pub(super) struct Pending<K, V> {
    pub(super) hash: KeyHash,
    pub(super) key: K,
    pub(super) value: V,
    pub(super) weight: u64,
}

/// What storing with the set locked came to.
pub(super) enum Stored<K, V> {
    /// As a new entry, in this way; in none if its time was up as it came.
    Inserted(Option<usize>),
    /// In the place of this value.
    Replaced(V),
    /// Not, since the condition did not hold.
    Kept(V),
    Refused(V),
    /// Not, and the set has to be let go: nothing that could make room is in reach.
    Again(Pending<K, V>, Room),
}

/// A set that is locked, and the proof that it may be, in the order in which they are let go of.
pub(super) type InSet<'t, K, V> = (Locked<'t, K, V>, Inside);

/// How far a call goes to make room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The caller can let go of the set and try again.
    None,
    /// It cannot: what does not fit after many attempts is refused.
    Some,
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
    /// The deadlines of a value that is about to be stored.
    pub(super) fn deadlines(
        &self,
        set: &Locked<'_, K, V>,
        entry: (&K, &V),
        live: Option<usize>,
        life: Life,
        moment: &Moment<'_>,
    ) -> Deadlines {
        let replaced = live.map(|way| set.hard_deadline(way));
        self.policy.on_write(moment, entry, life, replaced)
    }

    /// Overtakes the load of a key, and forgets what an earlier one has found out.
    #[inline(always)]
    pub(super) fn overtake<Q>(
        &self,
        set: &mut Locked<'_, K, V>,
        hash: KeyHash,
        key: &Q,
        work: &mut Work<'_, K, V>,
    ) where
        Q: Equivalent<K> + ?Sized,
    {
        work.outbox.discard_load(set.overtake(hash, key));
        self.forget(set, hash, key, work);
    }

    /// The way of a live entry. One that is not is removed on the way, so that its end is told
    /// before whatever replaces it.
    #[inline]
    pub(super) fn find_live<Q>(
        &self,
        set: &mut Locked<'_, K, V>,
        hash: KeyHash,
        key: &Q,
        work: &mut Work<'_, K, V>,
    ) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let way = set.find(hash, key)?;
        if work.moment.has_passed(set.entry(way).deadline()) {
            self.take_out(set, way, RemovalCause::Expired, work);
            return None;
        }
        if self.has_fallen(set, way, set.entry(way)) {
            self.take_out_fallen(set, way, work);
            return None;
        }
        Some(way)
    }

    /// Stores a value with its set locked, in the place of the live entry `live` or as a new one.
    ///
    /// Runs no code of the user's but the `Clone` of what is told to listeners, so what begins
    /// here is done whole.
    #[inline]
    pub(super) fn store(
        &self,
        set: &mut Locked<'_, K, V>,
        pending: Pending<K, V>,
        live: Option<usize>,
        deadlines: Deadlines,
        patience: Patience,
        work: &mut Work<'_, K, V>,
    ) -> Stored<K, V> {
        if deadlines.effective == PASSED {
            return self.store_expired(set, pending, live, work);
        }
        match self.make_room_for(set, pending.weight, live, patience, work) {
            Made::Enough => {}
            made if patience == Patience::None
                && self.may_come_again(made, pending.weight, work) =>
            {
                let need = self.budget.cost(pending.weight);
                return Stored::Again(pending, need);
            }
            Made::Refused | Made::NothingInReach => return self.refuse(set, pending, live, work),
        }
        match live {
            Some(way) => Stored::Replaced(self.replace(set, way, pending, deadlines, work)),
            None => Stored::Inserted(Some(self.place(set, pending, deadlines, work))),
        }
    }

    /// Whether there may be room for an entry for who lets go of its set: what is in the way may be
    /// in sets that others hold.
    #[cold]
    fn may_come_again(&self, made: Made, weight: u64, work: &Work<'_, K, V>) -> bool {
        match made {
            Made::Enough => false,
            Made::NothingInReach => true,
            Made::Refused => self.could_clear_for(self.budget.cost(weight), work),
        }
    }

    /// What a new value needs beyond what the entry in its place has already.
    #[inline]
    pub(super) fn need(&self, set: &Locked<'_, K, V>, weight: u64, live: Option<usize>) -> Room {
        let has = live.map_or(Room::NONE, |way| self.budget.cost(set.weight(way)));
        has.missing(self.budget.cost(weight))
    }

    /// Gets what a new value needs into `held`, beyond what the entry in its place has already.
    #[inline]
    pub(super) fn make_room_for(
        &self,
        set: &mut Locked<'_, K, V>,
        weight: u64,
        live: Option<usize>,
        patience: Patience,
        work: &mut Work<'_, K, V>,
    ) -> Made {
        let need = self.need(set, weight, live);
        if need == Room::NONE {
            return Made::Enough;
        }
        // What a call has set aside it may use, though the bound may have become lower since then.
        if !self.budget.could_fit(self.budget.cost(weight)) && !work.held.covers(need) {
            return Made::Refused;
        }
        if live.is_none() && !set.has_room() && !self.free_way(set, work) {
            return Made::Refused;
        }
        live.inspect(|way| set.entry_mut(*way).pin());
        let made = match patience {
            Patience::None => self.make_room(set, need, work),
            Patience::Some => self.make_room_patiently(set, need, work),
        };
        live.inspect(|way| set.entry_mut(*way).unpin());
        made
    }

    /// Gets a place for one more entry in a set that has as many as a set can have. What rejects
    /// evicts nothing for it.
    #[cold]
    fn free_way(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) -> bool {
        self.clear_expired(set, self.clock.now(), work);
        self.purge(set, work);
        while !set.has_room() {
            if self.policy.on_full == OnFull::Reject || !self.evict_from(set, work) {
                return false;
            }
        }
        true
    }

    fn place(
        &self,
        set: &mut Locked<'_, K, V>,
        pending: Pending<K, V>,
        deadlines: Deadlines,
        work: &mut Work<'_, K, V>,
    ) -> usize {
        let mut item = Item::new(pending.hash, pending.key, pending.value, pending.weight);
        item.deadline = deadlines.effective;
        (item.beside.ends, item.beside.age) = (deadlines.ends, deadlines.age);
        work.outbox.inserted(item.fingerprint, &item.key);
        work.outbox.count(Count::Inserts);
        work.held.spend(self.budget.cost(pending.weight));
        let way = set.add(pending.hash, item);
        if work.given.is_some() {
            self.label(set, way, work);
        }
        self.record_put(set, way, work);
        way
    }

    fn replace(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        pending: Pending<K, V>,
        deadlines: Deadlines,
        work: &mut Work<'_, K, V>,
    ) -> V {
        let fingerprint = pending.hash.fingerprint();
        work.outbox
            .updated(fingerprint, &pending.key, Some(&set.entry(way).value));
        work.outbox.count(Count::Updates);
        work.held.add(self.budget.cost(set.weight(way)));
        work.held.spend(self.budget.cost(pending.weight));
        set.set_weight(way, pending.weight);
        set.set_age(way, deadlines.age);
        self.set_deadlines(set, way, deadlines);
        let entry = set.entry_mut(way);
        let old = mem::replace(&mut entry.value, pending.value);
        entry.count_read();
        if entry.is_labelled() || work.given.is_some() {
            self.label(set, way, work);
        }
        set.keep_order(way);
        self.record_put(set, way, work);
        work.outbox.discard_key(pending.key);
        old
    }

    /// A value whose time is up as it comes: as if it were stored and expired at once, without
    /// making room for it.
    fn store_expired(
        &self,
        set: &mut Locked<'_, K, V>,
        pending: Pending<K, V>,
        live: Option<usize>,
        work: &mut Work<'_, K, V>,
    ) -> Stored<K, V> {
        let fingerprint = pending.hash.fingerprint();
        let stored = match live {
            None => {
                work.outbox.inserted(fingerprint, &pending.key);
                work.outbox.count(Count::Inserts);
                Stored::Inserted(None)
            }
            Some(way) => {
                work.outbox
                    .updated(fingerprint, &pending.key, Some(&set.entry(way).value));
                work.outbox.count(Count::Updates);
                if !work.is_recorded() {
                    self.record_delete(&pending.key, work);
                }
                let item = set.remove(way);
                work.held.add(self.budget.cost(item.beside.weight));
                work.outbox.discard_key(item.key);
                Stored::Replaced(item.value)
            }
        };
        work.outbox.removed(
            fingerprint,
            pending.key,
            pending.value,
            RemovalCause::Expired,
        );
        stored
    }

    /// Gives the new value back, and does not keep the old one, which its owner meant to overwrite.
    /// A store does keep it.
    fn refuse(
        &self,
        set: &mut Locked<'_, K, V>,
        pending: Pending<K, V>,
        live: Option<usize>,
        work: &mut Work<'_, K, V>,
    ) -> Stored<K, V> {
        work.outbox.count(Count::Refusals);
        if work.is_recorded() {
            self.record_delete(&pending.key, work);
            live.inspect(|way| self.let_out(set, *way, RemovalCause::Capacity, work));
        } else if self.is_strict() {
            work.refuse(Refusal::Full);
        } else if let Some(way) = live {
            self.take_out(set, way, RemovalCause::Capacity, work);
        }
        work.outbox.discard_key(pending.key);
        Stored::Refused(pending.value)
    }
}
