//! Tags and groups: what they make of an entry, and what follows an invalidation.
//!
//! An invalidation is recorded and nothing else ([`Register`](crate::labels::Register)). An entry
//! that it concerns has *fallen*: nobody sees it any more, and it is removed by the next call that
//! writes its key, by an eviction in its set, or by the next pass of the background. Every look at
//! an entry goes through [`is_there`](Engine::is_there), which asks an entry without labels
//! nothing.
//!
//! A value is as old as the epoch at which it was made: that of its storing for what is inserted,
//! that at which the load began for what is loaded, that at which the set was locked for what
//! `compute` and transactions make of what is there. An invalidation that comes between the making
//! and the storing concerns it.

use super::Engine;
use super::expire::SetLocker;
use super::record::RECORD;
use super::room::{Held, Work};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels, NOW, Pass};
use crate::reentrancy;
use crate::table::{Entry, Label, Locked, Ways};
use std::hash::Hash;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Records that may be kept until a pass of the background has made them needless. Callers that
/// bring more lend it a hand.
const MOST_RECORDS: usize = 65_536;

/// So many entries to a record are as good as a bound: a pass then costs each invalidation no more
/// than a look at as many.
const ENTRIES_PER_RECORD: u64 = 8;

/// Sets that the background passes through in one turn, on average. A pass of more is made in one
/// go and followed by a rest.
const SETS_PER_TURN: usize = 10_000;

/// What the log calls every label: no label is zero.
pub(super) const EVERY_LABEL: u64 = 0;

/// Bytes of a set for each entry with labels.
pub(crate) const BYTES_PER_LABEL: u64 = size_of::<Label>() as u64;

/// Bytes of a set for each entry where they weigh more or less than 1.
pub(crate) const BYTES_PER_WEIGHT: u64 = 8;

// ---- what an entry's labels make of it ----

impl<K, V> Engine<K, V> {
    /// Whether an entry may be seen: its time is not up, and it has not fallen.
    #[inline(always)]
    pub(super) fn is_there(&self, ways: &Ways<K, V>, way: usize, entry: &Entry<K, V>) -> bool {
        self.is_live(entry.deadline()) && !self.has_fallen(ways, way, entry)
    }

    /// Whether a label of the entry was invalidated since it was stored.
    #[inline]
    pub(super) fn has_fallen(&self, ways: &Ways<K, V>, way: usize, entry: &Entry<K, V>) -> bool {
        entry.is_labelled() && self.labels_have_fallen(ways, way)
    }

    #[inline(never)]
    fn labels_have_fallen(&self, ways: &Ways<K, V>, way: usize) -> bool {
        let Some(label) = ways.label(way) else {
            return false;
        };
        let since = label.held_at();
        let Some(epoch) = self.register.hold(label.labels.as_slice(), since) else {
            return true;
        };
        if epoch > since {
            label.hold(epoch);
        }
        false
    }

    /// Has the next value be stored with labels and that of its group, as one that is made as it
    /// is stored. Returns what they weigh.
    #[inline(never)]
    pub(super) fn give(
        &self,
        key: &K,
        given: Option<Box<Given>>,
        work: &mut Work<'_, K, V>,
    ) -> u64 {
        let labels = given.map_or(Labels::NONE, |given| given.labels);
        let labels = self.with_group(key, labels);
        let weight = self.weight_of_labels(&labels);
        work.given = Given::new(labels, NOW);
        weight
    }

    /// Gives an entry that was just stored its labels, or takes those that it had.
    #[cold]
    pub(super) fn label(&self, set: &mut Locked<'_, K, V>, way: usize, work: &mut Work<'_, K, V>) {
        let mut given = work.given.take();
        if let Some(given) = &mut given
            && given.epoch == NOW
        {
            // Under the lock, so that no pass of the background has been through the set since.
            given.epoch = self.register.latest();
        }
        set.set_label(way, given);
    }

    /// Gives an entry other labels, as of an epoch, and the weight that they have; whether it
    /// stays.
    pub(super) fn relabel(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        labels: Labels,
        epoch: u64,
        work: &mut Work<'_, K, V>,
    ) -> bool
    where
        K: Hash + Eq,
    {
        let before = self.weight_of_labels(set.labels(way));
        let added = self.weight_of_labels(&labels);
        let weight = (set.weight(way).saturating_sub(before)).saturating_add(added);
        set.set_label(way, Given::new(labels, epoch));
        self.reweigh(set, way, weight, work)
    }

    /// The labels of an entry that is about to be stored: these, and its group's.
    pub(super) fn with_group(&self, key: &K, mut labels: Labels) -> Labels {
        if let Some(group) = &self.policy.group {
            labels.add(group(key));
        }
        labels
    }

    /// The labels of an entry whose value is about to be replaced by one that was made from it, or
    /// of one that is new.
    pub(super) fn labels_kept(
        &self,
        set: &Locked<'_, K, V>,
        live: Option<usize>,
        key: &K,
    ) -> Labels {
        match live {
            Some(way) => set.labels(way).clone(),
            None => self.with_group(key, Labels::NONE),
        }
    }

    /// What labels add to the weight of their entry, where weights are bytes.
    pub(super) fn weight_of_labels(&self, labels: &Labels) -> u64 {
        if labels.is_empty() || self.budget.memory.is_none() {
            return 0;
        }
        // The place of a group is part of what every entry costs.
        let place = match self.policy.group {
            Some(_) => 0,
            None => BYTES_PER_LABEL,
        };
        let bytes = place + labels.heap_bytes();
        // So is that of a weight where there is a weigher.
        match self.policy.weigher.is_none() && bytes > 0 {
            true => bytes + BYTES_PER_WEIGHT,
            false => bytes,
        }
    }

    /// Overtakes the load of a key if the key's group was invalidated since it began: who comes
    /// now must not get what it brings.
    pub(super) fn overtake_fallen<Q>(
        &self,
        set: &mut Locked<'_, K, V>,
        hash: KeyHash,
        key: &Q,
        labels: &Labels,
        work: &mut Work<'_, K, V>,
    ) where
        Q: Equivalent<K> + ?Sized,
    {
        if !labels.is_empty()
            && let Some(epoch) = set.epoch_of_load(hash, key)
            && self.register.hold(labels.as_slice(), epoch).is_none()
        {
            work.outbox.discard_load(set.overtake(hash, key));
        }
    }
}

// ---- invalidating ----

impl<K, V> Engine<K, V> {
    pub(crate) fn has_groups(&self) -> bool {
        self.policy.group.is_some()
    }

    /// Has every entry with the label fall.
    #[track_caller]
    pub(crate) fn invalidate(&self, label: u64) {
        // What is recorded takes no lock that a closure of the user's may run under. So a call
        // while such a closure unwinds, where no lock of a set can be taken, does not get lost.
        let may_lock = reentrancy::check();
        let mut work = self.work();
        if may_lock && !self.admit(RECORD, &mut work) {
            return;
        }
        let log = |epoch| self.record_label(label, epoch, &mut work);
        self.register.invalidate(label, log);
        drop(work);
        self.start_sweeping();
        if may_lock {
            self.keep_records_few();
        }
    }

    /// Bounds what is recorded between two passes of the background.
    fn keep_records_few(&self) {
        let records = self.register.records();
        if records <= MOST_RECORDS {
            return;
        }
        let by_entries = self.budget.entries.used() / ENTRIES_PER_RECORD;
        let bound = MOST_RECORDS.max(usize::try_from(by_entries).unwrap_or(usize::MAX));
        if records > 2 * bound {
            // Something holds up the pass for long: a set that stays locked, a load that does not
            // end. Without records everything that has labels has fallen.
            let mut work = self.work();
            let log = |epoch| self.record_label(EVERY_LABEL, epoch, &mut work);
            self.register.forget_all(log);
        } else if records > bound {
            self.lend_a_hand(bound);
        }
    }

    /// Goes on with the pass by so many sets that it, and the one after it, end before twice as
    /// many records have come. A pass that could not forget is not repeated at every call.
    #[cold]
    fn lend_a_hand(&self, bound: usize) {
        let mut work = self.work();
        let Some(pass) = self.register.pass() else {
            return;
        };
        // The work may run code of the user's as it ends, and outlives this lock.
        let Some(mut pass) = pass.try_lock() else {
            return;
        };
        if pass.visited == 0 {
            if self.register.since_purge() < bound as u64 / 8 {
                return;
            }
            *pass = Pass::begin(&self.register);
        }
        let mut left = 4 * self.table.sets() / bound + 1;
        self.go_on(&mut pass, &mut work, || {
            left -= 1;
            left > 0
        });
    }

    /// Removes every entry whose key matches, set by set, and overtakes the loads of such keys; how
    /// many entries were removed.
    #[track_caller]
    pub(crate) fn remove_keys(&self, matches: impl Fn(&K) -> bool) -> usize {
        let (mut next, mut removed, mut is_crowded) = (0, 0, false);
        while reentrancy::check()
            && let Some((after, of_set)) = self.remove_keys_in_set(next, &mut is_crowded, &matches)
        {
            next = after;
            removed += of_set;
        }
        removed
    }

    #[track_caller]
    fn remove_keys_in_set(
        &self,
        from: usize,
        is_crowded: &mut bool,
        matches: &impl Fn(&K) -> bool,
    ) -> Option<(usize, usize)> {
        let mut work = self.work();
        if !self.admit_set(is_crowded, &mut work) {
            return None;
        }
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        work.outbox.discard_loads(set.overtake_if(matches));
        self.forget_if(&mut set, matches, &mut work);
        let mut removed = 0;
        for way in 0..set.width() {
            let Some(entry) = set.get(way).filter(|entry| matches(&entry.key)) else {
                continue;
            };
            if !self.is_live(entry.deadline()) {
                self.take_out(&mut set, way, RemovalCause::Expired, &mut work);
                continue;
            }
            let has_fallen = self.has_fallen(&set, way, entry);
            removed += usize::from(self.remove_at(&mut set, way, &mut work) && !has_fallen);
        }
        set.shrink_if_sparse();
        Some((set.index() + 1, removed))
    }
}

// ---- removing what has fallen ----

impl<K, V> Engine<K, V> {
    /// Removes every entry of a set that has fallen, but what is being replaced; how many.
    #[inline]
    pub(super) fn purge(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) -> usize {
        match set.purged_at() {
            Some(epoch) if epoch < self.register.latest() => self.purge_labelled(set, work),
            _ => 0,
        }
    }

    #[cold]
    fn purge_labelled(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) -> usize {
        let latest = self.register.latest();
        let (mut purged, mut all) = (0, true);
        for way in 0..set.width() {
            let Some(entry) = set.get(way) else { continue };
            if !self.has_fallen(set, way, entry) {
                continue;
            }
            if entry.is_pinned() {
                all = false;
                continue;
            }
            self.take_out_fallen(set, way, work);
            purged += 1;
        }
        if all {
            set.set_purged_at(latest);
        }
        purged
    }

    /// Takes out an entry that has fallen. If its time is up as well, that counts.
    pub(super) fn take_out_fallen(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        work: &mut Work<'_, K, V>,
    ) {
        let cause = if work.moment.has_passed(set.entry(way).deadline()) {
            RemovalCause::Expired
        } else {
            RemovalCause::Explicit
        };
        self.record_leaving(set, way, cause, work);
        self.let_out(set, way, cause, work);
    }

    /// Purges sets until `enough`, the own one first, for a cache that does not evict. Sets that
    /// others hold are passed over. Where there were none of these, and nothing that has fallen is
    /// left, who comes next need not look again.
    #[cold]
    pub(super) fn purge_for(
        &self,
        own: &mut Locked<'_, K, V>,
        work: &mut Work<'_, K, V>,
        mut enough: impl FnMut(&mut Held<'_>) -> bool,
    ) {
        if !self.register.has_felled() {
            return;
        }
        let began = self.register.latest();
        // What is being replaced stays, though it may have fallen.
        let is_clear = |set: &Locked<'_, K, V>| set.purged_at().is_none_or(|at| at >= began);
        self.purge(own, work);
        let (mut next, mut all) = (0, is_clear(own));
        while !enough(&mut work.held) {
            let Some(index) = self.table.next_index(next) else {
                if all {
                    self.register.note_cleared(began);
                }
                return;
            };
            if let Some(mut set) = self.table.try_lock_index(index) {
                self.purge(&mut set, work);
                all &= is_clear(&set);
            } else {
                all &= index == own.index();
            }
            next = index + 1;
        }
    }

    /// Purges every set, on this thread; how many entries were removed.
    pub(super) fn purge_all(&self) -> usize {
        let mut purged = 0;
        let mut pass = Pass::begin(&self.register);
        loop {
            let mut work = self.work();
            let Some(inside) = reentrancy::enter() else {
                return purged;
            };
            let Some(mut set) = self.table.lock_next(&inside, pass.next) else {
                break;
            };
            purged += self.visit(&mut pass, &mut set, &mut work);
            pass.next = set.index() + 1;
        }
        self.register.end(&pass);
        purged
    }

    fn visit(
        &self,
        pass: &mut Pass,
        set: &mut Locked<'_, K, V>,
        work: &mut Work<'_, K, V>,
    ) -> usize {
        let purged = self.purge(set, work);
        self.purge_verdicts(set, work);
        // Else those that nobody asks for again would stay, with their keys.
        work.outbox.discard_loads(set.take_ended_loads());
        if purged > 0 {
            set.shrink_if_sparse();
        }
        if let Some(epoch) = set.oldest_epoch() {
            pass.spare(epoch);
        }
        purged
    }

    /// Purges sets in the background until the time of a slice is up; says whether there is more.
    pub(super) fn purge_until(&self, end: Instant, work: &mut Work<'_, K, V>) -> bool {
        let Some(pass) = self.register.pass() else {
            return false;
        };
        if !self.register.is_due() || !reentrancy::check() {
            return false;
        }
        // Else a caller is at it.
        let Some(mut pass) = pass.try_lock() else {
            return false;
        };
        if pass.visited == 0 {
            let rest = self.rest.load(Relaxed);
            if rest > 0 {
                self.rest.store(rest - 1, Relaxed);
                return false;
            }
            *pass = Pass::begin(&self.register);
        }
        self.go_on(&mut pass, work, || Instant::now() < end)
    }

    /// Goes on with a pass for as long as it is told; says whether there is more. Sets that others
    /// hold are passed over, and left for the next turn.
    fn go_on(
        &self,
        pass: &mut Pass,
        work: &mut Work<'_, K, V>,
        mut has_time: impl FnMut() -> bool,
    ) -> bool {
        let mut locker = SetLocker::of(&self.clock);
        while let Some(index) = self.next_of(pass) {
            if !self.visit_soon(pass, index, &mut locker, work) {
                pass.pass_over(index);
            }
            if !has_time() {
                return true;
            }
        }
        if pass.end_turn() {
            self.register.end(pass);
            self.rest.store(pass.visited / SETS_PER_TURN, Relaxed);
            *pass = Pass::default();
        }
        false
    }

    /// The next set of a pass: one that it has not come to, also because another has just split, or
    /// behind all of these one that was passed over.
    fn next_of(&self, pass: &mut Pass) -> Option<usize> {
        let Some(index) = self.table.next_index(pass.next) else {
            return pass.take_passed_over();
        };
        pass.next = index + 1;
        pass.visited += 1;
        Some(index)
    }

    /// Visits a set unless others hold it for longer than there is patience for; whether it did.
    fn visit_soon(
        &self,
        pass: &mut Pass,
        index: usize,
        locker: &mut SetLocker,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let Some(inside) = reentrancy::enter() else {
            return false;
        };
        let Some(mut set) = locker.lock(&self.table, &inside, index) else {
            return false;
        };
        self.visit(pass, &mut set, work);
        drop(set);
        drop(inside);
        work.held.release();
        true
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::entry::OnFull;
    use crate::reentrancy;
    use crate::{Cache, Insert, InsertOptions, MockClock};
    use std::thread::scope;
    use std::time::Duration;

    /// One sweep of the background.
    const TURN: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_cache_that_rejects_is_searched_once_for_what_an_invalidation_has_felled() {
        let builder = Cache::builder().max_entries(1_000).on_full(OnFull::Reject);
        // Nobody sweeps while it is looked at.
        let cache = builder.clock(MockClock::new().clock()).build().unwrap();
        for key in 0..1_000u64 {
            cache.insert_with(key, key, InsertOptions::new().tag(&key));
        }
        let engine = cache.engine();
        let insert = |key| cache.insert_with(key, 0, InsertOptions::new());
        let is_refused = |key| insert(key) == Insert::Refused(0);
        cache.invalidate_tag(&"of nobody");
        assert!(engine.register.has_felled());
        {
            let inside = reentrancy::enter().unwrap();
            let set = engine.table.lock(&inside, cache.hash(&0));
            let index = set.index();
            let elsewhere = |key: &u64| cache.hash(key).index() % engine.table.sets() != index;
            let key = (1_000..).find(elsewhere).unwrap();
            assert!(scope(|threads| threads
                .spawn(|| is_refused(key))
                .join()
                .unwrap()));
        }
        assert!(engine.register.has_felled(), "a set was passed over");
        assert!(is_refused(2_000));
        assert!(!engine.register.has_felled(), "all were looked at");
        assert!(
            engine.register.is_due(),
            "the record is still to be forgotten"
        );

        cache.invalidate_tag(&7u64);
        assert_eq!(insert(3_000), Insert::Inserted);
        assert!(is_refused(3_001));
        assert!(!engine.register.has_felled());
        assert_eq!(cache.sweep(), 0);
        assert!(!engine.register.is_due());
        cache.validate();
    }

    #[test]
    fn a_set_that_is_held_stops_no_pass_and_is_visited_when_it_is_free() {
        let time = MockClock::new();
        let builder = Cache::builder().max_entries(10_000);
        let cache = builder.clock(time.clock()).build().unwrap();
        for key in 0..10_000u64 {
            cache.insert_with(key, key, InsertOptions::new().tag(&"fruit"));
        }
        let engine = cache.engine();
        cache.invalidate_tag(&"fruit");
        let of_held = {
            let inside = reentrancy::enter().unwrap();
            let set = engine.table.lock(&inside, cache.hash(&0));
            scope(|threads| threads.spawn(|| time.advance(TURN)).join().unwrap());
            assert!(engine.register.is_due(), "one set was passed over");
            (0..set.width())
                .filter(|&way| set.get(way).is_some())
                .count()
        };
        assert!(of_held > 0);
        assert_eq!(cache.len(), of_held, "the others are clear");
        time.advance(TURN);
        assert_eq!(cache.len(), 0);
        assert!(!engine.register.is_due(), "the record is forgotten");
        cache.validate();
    }
}
