//! A set with its lock held, and what of its table its changes concern: the hints, the policy of
//! eviction, and whether there are too many loads.

use super::loads::LoadRoom;
use super::{Entry, Item, MAX_LOAD, Segment, Table, Ways};
use crate::hash::KeyHash;
use crate::load::{UnderWay, Verdict};
use crate::sync::SpinGuard;
use crate::time::Deadline;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;

/// A set with its lock held.
pub(crate) struct Locked<'t, K, V> {
    pub(super) table: &'t Table<K, V>,
    pub(super) segment: &'t Segment<K, V>,
    pub(super) offset: usize,
    pub(super) index: usize,
    pub(super) ways: SpinGuard<'t, Ways<K, V>>,
}

impl<K, V> Deref for Locked<'_, K, V> {
    type Target = Ways<K, V>;

    fn deref(&self) -> &Ways<K, V> {
        &self.ways
    }
}

impl<K, V> DerefMut for Locked<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Ways<K, V> {
        &mut self.ways
    }
}

impl<K, V> Locked<'_, K, V> {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether a hash belongs here: it does not if the set was split since it was looked up.
    #[inline]
    pub(crate) fn is_set_of(&self, hash: KeyHash) -> bool {
        self.route(hash, self.index).is_none()
    }

    /// Puts a new entry in; its way.
    pub(crate) fn add(&mut self, hash: KeyHash, item: Item<K, V>) -> usize {
        debug_assert_eq!(item.fingerprint, hash.fingerprint());
        let setting = self.table.eviction.setting();
        let expected = self.table.expected;
        let deadline = item.deadline;
        let way = self.ways.place(item, expected, setting);
        self.note(deadline);
        if self.ways.shadow.is_some() {
            self.observe_insertion(hash);
        }
        way
    }

    /// Puts an entry in that was there before, with what was made of it then; its way.
    #[cfg(feature = "persist")]
    pub(crate) fn bring_back(&mut self, item: Item<K, V>, heat: u8) -> usize {
        let setting = self.table.eviction.setting();
        let expected = self.table.expected;
        let deadline = item.deadline;
        // Where accesses keep the order there is one queue, whichever another policy had it in.
        let heat = if self.table.eviction.is_lru() {
            0
        } else {
            heat
        };
        let way = self.ways.place_with(heat, item, expected, setting);
        self.note(deadline);
        way
    }

    /// Puts a new entry in the place of another, which it returns. For caches that weigh nothing
    /// and know no idle time.
    #[inline(always)]
    pub(crate) fn exchange(
        &mut self,
        way: usize,
        hash: KeyHash,
        (key, value): (K, V),
        deadline: Deadline,
    ) -> Entry<K, V> {
        let entry = Entry::new(hash.fingerprint(), key, value, deadline);
        let setting = self.table.eviction.setting();
        let old = self.ways.exchange(way, hash, entry, setting);
        self.note(deadline);
        if self.ways.shadow.is_some() {
            self.observe_insertion(hash);
        }
        old
    }

    /// Begins a load beside others. They are looked through one by one, so the table is to grow
    /// where they are many.
    pub(crate) fn begin_one_more_load(&mut self, load: UnderWay<K, V>) {
        self.ways.begin_load(load, LoadRoom::default());
        if self.has_many_loads() {
            self.table.many_loads.store(true, Relaxed);
        }
    }

    pub(super) fn has_many_loads(&self) -> bool {
        self.loads().len() > MAX_LOAD
    }

    /// Remembers what a load has found out.
    pub(crate) fn remember(&mut self, verdict: Verdict<K>) {
        let deadline = verdict.deadline;
        self.ways.add_verdict(verdict);
        self.note(deadline);
    }

    /// Chooses the entry that has to go, `None` when there is none or all are pinned, and leaves
    /// a ghost of it where the policy wants one.
    #[inline(always)]
    pub(crate) fn victim(&mut self) -> Option<usize> {
        let special = self.table.special.load(Relaxed);
        if self.index & special == special {
            return self.victim_of_special_set();
        }
        self.ways.victim(self.table.eviction.setting())
    }

    #[inline(never)]
    fn victim_of_special_set(&mut self) -> Option<usize> {
        let table = self.table;
        if table.eviction.is_lru() {
            return self.ways.idlest();
        }
        self.ways.observe_reads(table.sampling_rate());
        let victim = self.ways.victim(table.eviction.setting());
        if let Some(way) = victim {
            self.ways.observe_victim(way);
        }
        victim
    }

    #[inline(never)]
    fn observe_insertion(&mut self, hash: KeyHash) {
        let special = self.table.special.load(Relaxed);
        if self.index & special != special {
            // The table has grown, and this set is not sampled any more.
            self.ways.shadow = None;
            return;
        }
        if let Some(tally) = self.ways.observe_insertion(hash.fingerprint()) {
            let table = self.table;
            table.eviction.judge(&tally, table.sampled(self.len()));
        }
    }

    /// Counts an access to an entry for the eviction policy.
    #[inline(always)]
    pub(crate) fn note_access(&mut self, way: usize) {
        self.ways.entry_mut(way).count_read();
        self.keep_order(way);
    }

    /// Makes an entry that was accessed the last to go, under LRU.
    #[inline(always)]
    pub(crate) fn keep_order(&mut self, way: usize) {
        if self.table.eviction.is_lru() {
            self.ways.make_youngest(way);
        }
    }

    /// Moves the deadline of an entry.
    #[inline(always)]
    pub(crate) fn move_deadline(&mut self, way: usize, deadline: Deadline) {
        self.ways.entry_mut(way).set_deadline(deadline);
        self.note(deadline);
    }

    /// Notes a deadline that an entry was given.
    #[inline(always)]
    pub(crate) fn note(&self, deadline: Deadline) {
        self.table.note(self.segment, self.offset, deadline);
    }

    /// A time before which none of the entries expires.
    pub(crate) fn hint(&self) -> Deadline {
        self.segment.hint(self.offset)
    }

    /// Makes the hint exact, after entries were taken out or have moved.
    pub(crate) fn refresh_hint(&self) {
        self.set_hint(self.ways.first_deadline());
    }

    /// Makes the hint exact, given the first deadline of the set.
    pub(crate) fn set_hint(&self, first: Deadline) {
        self.segment.set_hint(self.offset, first);
        self.table.note_first(self.segment, first);
    }

    /// # Panics
    /// If a hint is later than the first deadline of the set.
    pub(super) fn validate_hints(&self) {
        let first = self.first_deadline();
        assert!(self.hint() <= first, "the hint of the set is not too late");
        assert!(
            self.segment.earliest() <= first,
            "the hint of the segment is not too late"
        );
        assert!(
            self.table.earliest() <= first,
            "the hint of the table is not too late"
        );
    }
}
