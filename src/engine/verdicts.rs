//! Remembering what loads have found out where it is no value.
//!
//! A verdict lies in the set of its key and is taken out by whatever would overtake a load of the
//! key. It takes up the room of an entry, and makes room before entries do while there is more than
//! one for every [`ENTRIES_PER_VERDICT`] of them in its set, or while all verdicts weigh more than
//! that share of the bound. Where a full cache refuses entries it makes room in any case: what is
//! only remembered keeps no value out.
//!
//! Its weight is that of its key, which the user's weigher of entries cannot say without a value.
//! Where it is bounded and not known, nothing is remembered.

use super::Engine;
use super::budget::Room;
use super::policy::{PASSED, in_time};
use super::room::{Held, Made, Work};
use crate::entry::OnFull;
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::labels::Labels;
use crate::load::{Fill, Known, UnderWay, Verdict};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Locked, Ways};
use crate::time::Deadline;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

/// In a full set, verdicts are kept up to this share of its entries.
const ENTRIES_PER_VERDICT: usize = 8;

/// The most verdicts of one set. Only keys with equal hashes can come so far.
const MOST: usize = 1024;

impl<K, V> Engine<K, V> {
    /// Ends a load that has brought no value for others, and remembers what it has found out, unless
    /// it was overtaken: that there is none, an error, or nothing, since the value is its caller's
    /// alone. That there is none is an answer, which ends all loads of the key. What the set knew of
    /// it otherwise is returned, to be dropped.
    pub(super) fn conclude(
        &self,
        hash: KeyHash,
        key: K,
        (known, labels): (Option<Known>, Labels),
        ttl: Option<Duration>,
        fill: Fill<'_, K, V>,
    ) -> Option<UnderWay<K, V>>
    where
        K: Eq,
    {
        let labels = self.with_group(&key, labels);
        let cost =
            (ttl.and(known.as_ref())).and_then(|known| self.cost_of_verdict(&key, &labels, known));
        // Declared before the lock, for the case that code of the user's panics under it.
        let (left, is_newest, verdict);
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock(&inside, hash);
        let holds = |epoch: &u64| {
            labels.is_empty() || self.register.hold(labels.as_slice(), *epoch).is_some()
        };
        let wanted = set.epoch_of(fill.flight).filter(holds);
        if wanted.is_none() {
            work.outbox.count(Count::DiscardedLoads);
        }
        let at = set.place_of_any(fill.flight);
        let is_answer = wanted.is_some() && matches!(known, Some(Known::Absent));
        (left, is_newest) = match is_answer {
            false => set.leave_load(fill.flight),
            true => {
                fill.keep(set.end_loads_with(fill.flight));
                (None, true)
            }
        };
        let Some(epoch) = wanted.filter(|_| is_newest) else {
            work.outbox.discard_key(key);
            return left;
        };
        self.forget(&mut set, hash, &key, &mut work);
        if !matches!(known, Some(Known::Failed(_)))
            && let Some(way) = set.find(hash, &key)
        {
            // What the source has no more, or not for all, is removed.
            self.take_out(&mut set, way, RemovalCause::Explicit, &mut work);
        }
        let Some(known) = known else {
            work.outbox.discard_key(key);
            // What late loads have read is as old as what was just taken away.
            let late = || at.and_then(|at| set.end_load_at(at)).map(|(load, _)| load);
            return left.or_else(late);
        };
        let deadline = ttl.map_or(PASSED, |ttl| in_time(&work.moment, ttl));
        verdict = Verdict {
            hash,
            key,
            deadline,
            labels,
            epoch,
            weight: cost.map_or(0, |cost| cost.weight),
            known,
        };
        let has_room = |cost| self.make_room_for_verdict(&mut set, cost, &mut work);
        if deadline == PASSED || !cost.is_some_and(has_room) {
            work.outbox.discard_verdict(verdict);
            return left;
        }
        self.verdicts.fetch_add(1, AcqRel);
        self.verdict_weight.fetch_add(verdict.weight, AcqRel);
        set.remember(verdict);
        drop(set);
        self.have_swept();
        left
    }

    /// What a verdict takes up; `None` where that matters and nobody says what its key holds.
    fn cost_of_verdict(&self, key: &K, labels: &Labels, known: &Known) -> Option<Room> {
        let room = self.budget.cost(1);
        if self.budget.counts_entries_only() {
            return Some(room);
        }
        let mut weight = room.weight;
        let bounds_weight = self.budget.weight.is_some();
        if self.policy.lacks_negative_weigher(bounds_weight) {
            return None;
        }
        if let Some(weigher) = &self.policy.negative_weigher {
            weight = weigher(key);
        }
        if self.budget.memory.is_some() {
            let heap = labels.heap_bytes() + known.heap_bytes();
            let place = Ways::<K, V>::BYTES_PER_VERDICT.saturating_sub(self.budget.overhead);
            weight = weight.saturating_add(heap + place);
        }
        Some(self.budget.room(1, weight))
    }

    fn make_room_for_verdict(
        &self,
        set: &mut Locked<'_, K, V>,
        cost: Room,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        if set.verdicts().len() >= MOST {
            self.forget_at(set, 0, work);
        }
        if !self.budget.could_fit(cost) {
            return false;
        }
        let made = if work.held.reaches(cost) {
            Made::Enough
        } else if self.outweigh_entries(cost) {
            self.make_room_from_verdicts(set, cost, work)
        } else {
            self.make_room(set, cost, work)
        };
        if made == Made::Enough {
            work.held.spend(cost);
        }
        made == Made::Enough
    }

    /// What all verdicts take up.
    pub(super) fn remembered(&self) -> Room {
        let (entries, weight) = (&self.verdicts, &self.verdict_weight);
        self.budget
            .room(entries.load(Acquire) as u64, weight.load(Acquire))
    }

    /// Whether the verdicts, with so much `more` of them, have more than their share of the weight.
    fn outweigh_entries(&self, more: Room) -> bool {
        let shares = ENTRIES_PER_VERDICT as u64;
        !self.budget.counts_entries_only()
            && self.budget.outweighs(self.remembered().plus(more), shares)
    }

    /// What is remembered of a key, if its time is not up and it has not fallen.
    pub(super) fn known<Q>(&self, set: &Locked<'_, K, V>, hash: KeyHash, key: &Q) -> Option<Known>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let verdict = &set.verdicts()[set.verdict_of(hash, key)?];
        let (labels, epoch) = (&verdict.labels, verdict.epoch);
        let holds = self.is_live(verdict.deadline)
            && (labels.is_empty() || self.register.hold(labels.as_slice(), epoch).is_some());
        holds.then(|| verdict.known.clone())
    }

    /// Forgets what is remembered of a key.
    #[inline]
    pub(super) fn forget<Q>(
        &self,
        set: &mut Locked<'_, K, V>,
        hash: KeyHash,
        key: &Q,
        work: &mut Work<'_, K, V>,
    ) where
        Q: Equivalent<K> + ?Sized,
    {
        if !set.verdicts().is_empty()
            && let Some(at) = set.verdict_of(hash, key)
        {
            self.forget_at(set, at, work);
        }
    }

    pub(super) fn forget_all(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) {
        self.forget_where(set, |_| true, work);
    }

    /// Forgets what is remembered of keys that match.
    pub(super) fn forget_if(
        &self,
        set: &mut Locked<'_, K, V>,
        matches: impl Fn(&K) -> bool,
        work: &mut Work<'_, K, V>,
    ) {
        self.forget_where(set, |verdict| matches(&verdict.key), work);
    }

    /// Forgets the verdicts of a set for which `is_it` holds, which is asked once of each: the
    /// youngest first, so that few of the others have to move up.
    fn forget_where(
        &self,
        set: &mut Locked<'_, K, V>,
        mut is_it: impl FnMut(&mut Verdict<K>) -> bool,
        work: &mut Work<'_, K, V>,
    ) {
        for at in (0..set.verdicts().len()).rev() {
            if is_it(&mut set.verdicts_mut()[at]) {
                self.forget_at(set, at, work);
            }
        }
    }

    fn forget_at(&self, set: &mut Locked<'_, K, V>, at: usize, work: &mut Work<'_, K, V>) {
        let Some(verdict) = set.take_verdict(at) else {
            return;
        };
        work.held.add(self.budget.room(1, verdict.weight));
        self.verdicts.fetch_sub(1, AcqRel);
        self.verdict_weight.fetch_sub(verdict.weight, AcqRel);
        work.outbox.discard_verdict(verdict);
    }

    /// Forgets the verdicts of a set that have fallen. The others remember that they have not, so
    /// that what they would have been judged by can be forgotten.
    pub(super) fn purge_verdicts(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) {
        let has_fallen = |verdict: &mut Verdict<K>| {
            let held = self.register.hold(verdict.labels.as_slice(), verdict.epoch);
            verdict.epoch = held.unwrap_or(verdict.epoch);
            held.is_none() && !verdict.labels.is_empty()
        };
        self.forget_where(set, has_fallen, work);
    }

    /// Gives up the oldest verdict of a set, if verdicts take up more than their share of it, or
    /// weigh more than theirs of the cache.
    pub(super) fn evict_verdict(
        &self,
        set: &mut Locked<'_, K, V>,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let verdicts = set.verdicts().len();
        let evicts = verdicts * ENTRIES_PER_VERDICT > set.len()
            || verdicts > 0 && self.outweigh_entries(Room::NONE);
        if evicts {
            self.forget_at(set, 0, work);
        }
        evicts
    }

    /// Gives up verdicts until `enough`, those of the own set first, each set's oldest first. Sets
    /// that others hold are passed over.
    #[cold]
    pub(super) fn forget_for(
        &self,
        own: Option<&mut Locked<'_, K, V>>,
        work: &mut Work<'_, K, V>,
        mut enough: impl FnMut(&mut Held<'_>) -> bool,
    ) {
        let mut forget_in = |set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>| {
            let mut is_enough = false;
            while !is_enough && !set.verdicts().is_empty() {
                self.forget_at(set, 0, work);
                is_enough = enough(&mut work.held);
            }
            is_enough
        };
        if own.is_some_and(|own| forget_in(own, work)) {
            return;
        }
        let (sets, start) = (self.table.sets(), self.verdict_hand.load(Relaxed));
        for step in 0..sets {
            if !self.has_verdicts() {
                return;
            }
            let index = (start + step) % sets;
            if let Some(mut set) = self.table.try_lock_index(index)
                && forget_in(&mut set, work)
            {
                return self.verdict_hand.store(index, Relaxed);
            }
        }
    }

    /// Whether there is `need` in `held`, once verdicts were given up for it where they have to be.
    pub(super) fn reaches_or_forgets(
        &self,
        need: Room,
        own: Option<&mut Locked<'_, K, V>>,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        if !work.held.reaches(need) {
            self.forget_for(own, work, |held| held.reaches(need));
        }
        work.held.reaches(need)
    }

    /// Whether what keeps `need` out of a cache that rejects may be verdicts or what has expired.
    pub(super) fn could_clear_for(&self, need: Room, work: &Work<'_, K, V>) -> bool {
        self.policy.on_full == OnFull::Reject
            && (self.has_verdicts() || work.moment.has_passed(self.table.earliest()))
            && self.budget.could_fit(need)
    }

    fn has_verdicts(&self) -> bool {
        self.verdicts.load(Acquire) > 0
    }

    /// Clears what has expired, then gives up verdicts, until `need` is in `held`, with no set
    /// locked: it waits for one after the other. One thread at a time, as in
    /// [`make_room_unlocked`](Self::make_room_unlocked).
    #[cold]
    pub(super) fn clear_unlocked(&self, need: Room, work: &mut Work<'_, K, V>) {
        work.held.release();
        work.moment.pass();
        let _turn = self.making_room.lock();
        self.clear_expired_unlocked(work, |held| held.reaches(need));
        let mut next = 0;
        while self.has_verdicts()
            && !work.held.reaches(need)
            && let Some(inside) = reentrancy::enter()
            && let Some(mut set) = self.table.lock_next(&inside, next)
        {
            while !set.verdicts().is_empty() && !work.held.reaches(need) {
                self.forget_at(&mut set, 0, work);
            }
            next = set.index() + 1;
        }
    }

    /// Clears the verdicts of a set that have expired at `now`; when the first of the others does.
    pub(super) fn clear_expired_verdicts(
        &self,
        set: &mut Locked<'_, K, V>,
        now: Deadline,
        work: &mut Work<'_, K, V>,
    ) -> Deadline {
        self.forget_where(set, |verdict| verdict.deadline <= now, work);
        set.first_verdict_deadline()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::Cache;
    use std::cell::RefCell;
    use std::time::Duration;

    #[test]
    fn who_forgets_by_key_is_asked_once_of_each() {
        let builder = Cache::<u32, u32>::builder().max_entries(40);
        let cache = builder.negative_ttl(Duration::from_secs(60)).build();
        let cache = cache.unwrap();
        let nothing = |key| cache.get_or_find_with(&key, || None);
        assert!((0..30).all(|key| nothing(key).is_none()));
        let asked = RefCell::new(Vec::new());
        let is_odd = |key: &u32| {
            asked.borrow_mut().push(*key);
            key % 2 == 1
        };
        assert_eq!(cache.engine().remove_keys(is_odd), 0);
        let mut asked = asked.into_inner();
        asked.sort_unstable();
        assert!(asked.into_iter().eq(0..30));
        assert_eq!(cache.stats().absences, 15);
        cache.validate();
    }
}
