//! Storing, changing and removing entries.

use super::Engine;
use super::budget::Room;
use super::changing::Changing;
use super::plain::Plain;
use super::policy::{Deadlines, PASSED};
use super::record::{RECORD, Refusal};
use super::room::{Made, Work};
use crate::entry::{Insert, InsertOptions, Life, OnFull, OnlyIf, Op, Outcome};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::labels::Given;
use crate::load::{Fill, Flight};
use crate::reentrancy::{self, Inside};
use crate::stats::Count;
use crate::table::{Item, Locked};
use crate::time::Moment;
use crate::to_key::ToKey;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

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
type InSet<'t, K, V> = (Locked<'t, K, V>, Inside);

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
    /// Stores a value.
    #[inline]
    pub(crate) fn insert(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        options: InsertOptions,
    ) -> Insert<V> {
        let done = match self.insert_plainly(hash, key, value, &options) {
            Plain::Inserted => Insert::Inserted,
            Plain::Replaced(old) => Insert::Replaced(old),
            Plain::Unchanged(key, value) => {
                return self.insert_generally(hash, key, value, options, None);
            }
        };
        self.have_swept();
        done
    }

    /// Stores a value. What fills the cache from a load is stored only while that has not been
    /// overtaken.
    pub(super) fn insert_generally(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        options: InsertOptions,
        fill: Option<&Fill<'_, K, V>>,
    ) -> Insert<V> {
        if !reentrancy::check() {
            return Insert::Refused(value);
        }
        let mut work = self.work();
        let weight = fill.and_then(|fill| fill.weight);
        let mut weight = weight.unwrap_or_else(|| self.policy.weigh(&key, &value));
        let InsertOptions {
            life,
            only_if,
            given,
        } = options;
        if given.is_some() || self.policy.group.is_some() {
            weight = weight.saturating_add(self.give(&key, given, &mut work));
        }
        let mut pending = Pending {
            hash,
            key,
            value,
            weight,
        };
        if !self.prepare_record(&pending.key, &pending.value, &mut work) {
            return Insert::Refused(pending.value);
        }
        let mut patience = Patience::None;
        let done = loop {
            let Some(inside) = reentrancy::enter() else {
                return Insert::Refused(pending.value);
            };
            let locked = (self.table.lock(&inside, hash), inside);
            let conditions = (life, only_if);
            match self.attempt(pending, conditions, fill, patience, &mut work, locked) {
                Stored::Inserted(_) => break Insert::Inserted,
                Stored::Replaced(old) => break Insert::Replaced(old),
                Stored::Kept(value) => break Insert::Kept(value),
                Stored::Refused(value) => break Insert::Refused(value),
                Stored::Again(back, need) => {
                    pending = back;
                    if self.policy.on_full == OnFull::Evict {
                        self.make_room_unlocked(need, &mut work);
                    } else {
                        self.clear_unlocked(need, &mut work);
                        patience = Patience::Some;
                    }
                }
            }
        };
        self.have_swept();
        done
    }

    /// The lock comes last, so that it is let go of first: if code of the user's panics under it,
    /// what was to be stored is dropped with nothing locked.
    #[inline]
    fn attempt(
        &self,
        pending: Pending<K, V>,
        (life, only_if): (Life, OnlyIf),
        fill: Option<&Fill<'_, K, V>>,
        patience: Patience,
        work: &mut Work<'_, K, V>,
        mut locked: InSet<'_, K, V>,
    ) -> Stored<K, V> {
        let set = &mut locked.0;
        if let Some(fill) = fill
            && !self.is_wanted(set, fill.flight, work)
        {
            work.outbox.count(Count::DiscardedLoads);
            return keep(pending, work);
        }
        let live = self.find_live(set, pending.hash, &pending.key, work);
        let allowed = match only_if {
            OnlyIf::Always => true,
            OnlyIf::Absent => live.is_none(),
            OnlyIf::Present => live.is_some(),
        };
        if !allowed {
            return keep(pending, work);
        }
        let entry = (&pending.key, &pending.value);
        let mut deadlines = self.deadlines(set, entry, live, life, &work.moment);
        if let Some(age) = fill.and_then(|fill| fill.age) {
            deadlines.age = Some(age);
        }
        if fill.is_none() {
            self.overtake(set, pending.hash, &pending.key, work);
        } else {
            self.forget(set, pending.hash, &pending.key, work);
        }
        let stored = self.store(set, pending, live, deadlines, patience, work);
        if let Some(fill) = fill
            && !matches!(stored, Stored::Again(..))
        {
            fill.keep(set.end_loads_with(fill.flight));
        }
        stored
    }

    /// Whether a loaded value is to be stored: nothing has overtaken its load, and none of its
    /// labels was invalidated since it began.
    fn is_wanted(
        &self,
        set: &mut Locked<'_, K, V>,
        flight: &Arc<Flight<V>>,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let Some(epoch) = set.epoch_of(flight) else {
            return false;
        };
        let Some(given) = &mut work.given else {
            return true;
        };
        given.epoch = epoch;
        let holds = self.register.hold(given.labels.as_slice(), epoch).is_some();
        if !holds {
            work.outbox.discard_load(set.leave_load(flight).0);
        }
        holds
    }

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
    fn make_room_for(
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

    // ---- changing in place ----

    /// Changes a live value in place, keeping its deadline.
    pub(crate) fn update<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(&mut V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        if self.recorder().is_some() {
            return self.update_copy(hash, key, f);
        }
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut locked = (self.table.lock(&inside, hash), inside);
        let way = self.find_live(&mut locked.0, hash, key, &mut work)?;
        self.overtake(&mut locked.0, hash, key, &mut work);
        Some(self.change_in_place(way, hash, f, &mut work, locked))
    }

    /// Changes a value where it is.
    #[inline(always)]
    fn change_in_place<R>(
        &self,
        way: usize,
        hash: KeyHash,
        f: impl FnOnce(&mut V) -> R,
        work: &mut Work<'_, K, V>,
        locked: InSet<'_, K, V>,
    ) -> R {
        let result;
        // Let go of before what `f` returned is dropped, should what follows it panic.
        let mut locked = locked;
        let set = &mut locked.0;
        let mut changing = Changing::begin(self, set, way, work);
        result = f(changing.value());
        let weight = changing.weigh();
        changing.end();
        self.settle_update(set, way, hash, weight, work);
        result
    }

    /// As [`update`](Self::update), of a copy, which takes the place of the value only if it can be
    /// recorded.
    #[cold]
    #[inline(never)]
    fn update_copy<Q, R>(&self, hash: KeyHash, key: &Q, f: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut work = self.work();
        if !self.admit(RECORD, &mut work) {
            return None;
        }
        let inside = reentrancy::enter()?;
        let mut locked = (self.table.lock(&inside, hash), inside);
        let way = self.find_live(&mut locked.0, hash, key, &mut work)?;
        self.overtake(&mut locked.0, hash, key, &mut work);
        let (result, holds) = self.change_copy(way, hash, f, &mut work, locked);
        holds.then_some(result)
    }

    /// Changes a copy of a value, which takes its place if it can be recorded; whether it has.
    fn change_copy<R>(
        &self,
        way: usize,
        hash: KeyHash,
        f: impl FnOnce(&mut V) -> R,
        work: &mut Work<'_, K, V>,
        locked: InSet<'_, K, V>,
    ) -> (R, bool) {
        let (mut value, result);
        // Let go of before the value is dropped, whichever of the two that is in the end, and what
        // `f` returned, should what follows it panic.
        let mut locked = locked;
        let set = &mut locked.0;
        let recorder = self.recorder().expect("who copies a value records it");
        value = recorder.copy(&set.entry(way).value);
        result = f(&mut value);
        let Some(weight) = self.may_take_place(set, way, &value, work) else {
            return (result, false);
        };
        mem::swap(&mut set.entry_mut(way).value, &mut value);
        self.settle_update(set, way, hash, weight, work);
        (result, true)
    }

    /// As [`update`](Self::update), of a value that `make` has made where there is none.
    #[track_caller]
    pub(crate) fn update_or_insert<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        make: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> R
    where
        Q: ToKey<K> + ?Sized,
    {
        let mut value;
        let mut work = self.work();
        let is_admitted = self.admit(RECORD, &mut work);
        let inside = if is_admitted {
            reentrancy::enter()
        } else {
            None
        };
        let Some(inside) = inside else {
            // No lock can be taken, or nothing can be written down: it is stored nowhere.
            return f(&mut make());
        };
        let mut locked = (self.table.lock(&inside, hash), inside);
        let epoch = self.register.latest();
        let Some(way) = self.find_live(&mut locked.0, hash, key, &mut work) else {
            // Kept outside of the locks: it is dropped after them if `f` panics.
            value = make();
            let result = f(&mut value);
            let made = (value, Life::Default);
            let outcome = self.put_made(hash, key, made, (None, epoch), &mut work, locked);
            if let Outcome::Refused(value) = outcome {
                work.outbox.discard_value(value);
            }
            return result;
        };
        self.overtake(&mut locked.0, hash, key, &mut work);
        if self.recorder().is_some() {
            return self.change_copy(way, hash, f, &mut work, locked).0;
        }
        self.change_in_place(way, hash, f, &mut work, locked)
    }

    /// What a value weighs, if it can be recorded and, where nothing may be lost, fits.
    fn may_take_place(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        value: &V,
        work: &mut Work<'_, K, V>,
    ) -> Option<u64> {
        let key = &set.entry(way).key;
        if !self.encode(key, value, work) {
            return None;
        }
        let labels = self.weight_of_labels(set.labels(way));
        let weight = self.policy.weigh(key, value).saturating_add(labels);
        if !self.is_strict() {
            return Some(weight);
        }
        let made = self.make_room_for(set, weight, Some(way), Patience::Some, work);
        if made != Made::Enough {
            work.refuse(Refusal::Full);
            return None;
        }
        Some(weight)
    }

    /// Gives a changed value its weight and tells of the change.
    #[inline(always)]
    fn settle_update(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        hash: KeyHash,
        weight: u64,
        work: &mut Work<'_, K, V>,
    ) {
        set.keep_order(way);
        let entry = set.entry_mut(way);
        entry.count_read();
        work.outbox.count(Count::Updates);
        work.outbox.updated(hash.fingerprint(), &entry.key, None);
        let hard = set.hard_deadline(way);
        if self.policy.time_to_idle.is_some() {
            // The closure may have taken its time.
            work.moment.pass();
            let deadlines = self.policy.with_idle_time(&work.moment, hard);
            self.set_deadlines(set, way, deadlines);
        }
        if self.reweigh(set, way, weight, work) {
            self.record_put(set, way, work);
        }
    }

    /// Gives an entry another weight, or removes it where there is no room for that; whether it
    /// stays.
    pub(super) fn reweigh(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        weight: u64,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        if weight == set.weight(way) {
            return true;
        }
        let made = self.make_room_for(set, weight, Some(way), Patience::Some, work);
        if made != Made::Enough {
            work.outbox.count(Count::Refusals);
            self.take_out(set, way, RemovalCause::Capacity, work);
            return false;
        }
        work.held.add(self.budget.cost(set.weight(way)));
        work.held.spend(self.budget.cost(weight));
        set.set_weight(way, weight);
        true
    }

    /// Decides on an entry from what it is, in one step.
    #[track_caller]
    pub(crate) fn compute<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(Option<&V>) -> Op<V>,
    ) -> Outcome<V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let mut work = self.work();
        if !self.admit(RECORD, &mut work) {
            return Outcome::Absent;
        }
        let Some(inside) = reentrancy::enter() else {
            return Outcome::Absent;
        };
        let mut locked = (self.table.lock(&inside, hash), inside);
        let set = &mut locked.0;
        // What `f` makes is made from what is there now.
        let epoch = self.register.latest();
        let live = self.find_live(set, hash, key, &mut work);
        let (value, life) = match (f(live.map(|way| &set.entry(way).value)), live) {
            (Op::Keep, None) => return Outcome::Absent,
            (Op::Keep, Some(_)) => return Outcome::Kept,
            (Op::Remove, None) => {
                self.overtake(set, hash, key, &mut work);
                return Outcome::Absent;
            }
            (Op::Remove, Some(way)) => {
                self.overtake(set, hash, key, &mut work);
                let Some((key, value)) = self.hand_out(set, way, hash, &mut work) else {
                    return Outcome::Kept;
                };
                work.outbox.discard_key(key);
                return Outcome::Removed(value);
            }
            (Op::Put(value), _) => (value, Life::Default),
            (Op::PutWithTtl(value, ttl), _) => (value, Life::For(ttl)),
            (Op::PutKeepTtl(value), _) => (value, Life::Keep),
        };
        self.put_made(hash, key, (value, life), (live, epoch), &mut work, locked)
    }

    /// Stores what a closure has made under the lock of its set, from what was there at an epoch.
    /// The lock comes last for the same reason as in [`attempt`](Self::attempt).
    fn put_made<Q>(
        &self,
        hash: KeyHash,
        borrowed: &Q,
        (value, life): (V, Life),
        (live, epoch): (Option<usize>, u64),
        work: &mut Work<'_, K, V>,
        locked: InSet<'_, K, V>,
    ) -> Outcome<V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let key;
        let mut locked = locked;
        let set = &mut locked.0;
        key = borrowed.to_key();
        // The closure may have taken its time.
        work.moment.pass();
        if !self.encode(&key, &value, work) {
            return Outcome::Refused(value);
        }
        let labels = self.labels_kept(set, live, &key);
        let weight = self.policy.weigh(&key, &value);
        let weight = weight.saturating_add(self.weight_of_labels(&labels));
        work.given = Given::new(labels, epoch);
        let deadlines = self.deadlines(set, (&key, &value), live, life, &work.moment);
        self.overtake(set, hash, &key, work);
        let pending = Pending {
            hash,
            key,
            value,
            weight,
        };
        let stored = self.store(set, pending, live, deadlines, Patience::Some, work);
        drop(locked);
        self.have_swept();
        match stored {
            Stored::Inserted(_) => Outcome::Inserted,
            Stored::Replaced(old) => Outcome::Replaced(old),
            Stored::Kept(value) | Stored::Refused(value) => Outcome::Refused(value),
            Stored::Again(pending, _) => Outcome::Refused(pending.value),
        }
    }

    // ---- removing ----

    /// Removes a live entry if `condition` holds for its value, and ends the load of its key.
    #[track_caller]
    pub(crate) fn remove<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        condition: impl FnOnce(&V) -> bool,
    ) -> Option<(K, V)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut work = self.work();
        if !self.admit(RECORD, &mut work) {
            return None;
        }
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        self.overtake(&mut set, hash, key, &mut work);
        let way = self.find_live(&mut set, hash, key, &mut work)?;
        if !condition(&set.entry(way).value) {
            return None;
        }
        self.hand_out(&mut set, way, hash, &mut work)
    }

    /// Takes a live entry out for the caller, if that may be recorded.
    fn hand_out(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        hash: KeyHash,
        work: &mut Work<'_, K, V>,
    ) -> Option<(K, V)> {
        if !self.record_delete(&set.entry(way).key, work) {
            return None;
        }
        let entry = set.entry(way);
        work.outbox
            .handed_out(hash.fingerprint(), &entry.key, &entry.value);
        let item = set.remove(way);
        work.held.add(self.budget.cost(item.beside.weight));
        Some((item.key, item.value))
    }
}

/// Leaves everything as it is and gives the value back.
fn keep<K, V>(pending: Pending<K, V>, work: &mut Work<'_, K, V>) -> Stored<K, V> {
    work.outbox.discard_key(pending.key);
    Stored::Kept(pending.value)
}
