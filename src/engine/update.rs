//! Changing a value in place, or a copy of it where the change has to be recorded first.

use super::Engine;
use super::changing::Changing;
use super::compute::Computed;
use super::record::{RECORD, Refusal};
use super::room::{Made, Work};
use super::write::{InSet, Patience};
use crate::entry::{Life, Outcome};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::stats::Count;
use crate::table::Locked;
use crate::to_key::ToKey;
use std::hash::Hash;
use std::mem;

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
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
            let computed = Computed {
                value,
                life: Life::Default,
                live: None,
                epoch,
            };
            let outcome = self.put_computed(hash, key, computed, &mut work, locked);
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
}
