//! Bringing back what a log or a snapshot holds, and taking a snapshot.
//!
//! While a cache is restored nobody else uses it, it has no bounds, and nothing is recorded or
//! told. What has expired or fallen stays until the end: a later record may have a deadline that
//! gives it more time.

use super::Engine;
use super::budget::{Gauge, Room};
use super::invalidate::EVERY_LABEL;
use super::record::{self, Meta};
use super::room::Work;
use crate::entry::OnFull;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::Freshness;
use crate::reentrancy;
use crate::table::{Ends, Item, Locked};
use crate::time::{Deadline, NEVER, after, whole};
use std::hash::Hash;
use std::mem;

/// What is known of an entry that is brought back.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) life: Ends,
    /// How far the wall clock is ahead of the clock of deadlines, in nanoseconds.
    pub(crate) ahead: i64,
    /// Where it is recorded. It counts where there is no weigher.
    pub(crate) weight: Option<u64>,
    pub(crate) labels: Labels,
    pub(crate) epoch: u64,
    pub(crate) heat: u8,
}

/// What came of it when all was brought back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    /// Entries that had expired or fallen.
    pub(crate) dropped: u64,
    /// Whether there are entries that are not recorded as of the group that they are of now.
    pub(crate) has_regrouped: bool,
}

/// What one thread has brought back and taken out since it last told the budget, where all threads
/// that restore would meet at each entry.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// One of the two is zero, of entries and of weight each, so that neither sum outgrows what the
    /// cache may hold.
    added: Room,
    removed: Room,
    changes: u32,
}

impl Tally {
    fn add(&mut self, room: Room) {
        self.changes += 1;
        let rest = self.removed.missing(room);
        self.removed = room.missing(self.removed);
        self.added = self.added.plus(rest);
    }

    fn remove(&mut self, room: Room) {
        self.changes += 1;
        let rest = self.added.missing(room);
        self.added = room.missing(self.added);
        self.removed = self.removed.plus(rest);
    }
}

/// A set has as many entries as a set can have: the hasher puts that many keys into one.
#[derive(Debug)]
pub(crate) struct SetFull;

impl<K: Hash + Eq, V> Engine<K, V> {
    /// Brings an entry back, in the place of what the key had. Not, if its set has as many as a set
    /// can have; what evicts then evicts one.
    pub(crate) fn restore(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        restored: Restored,
        tally: &mut Tally,
    ) -> Result<(), SetFull> {
        let labels = restored.labels;
        let weight = self.restored_weight(&key, &value, &labels, restored.weight);
        // Entries without labels have none, and the threads that restore need not meet there.
        if restored.epoch > 0 {
            self.register.restore_epoch(restored.epoch);
        }
        let mut item = Item::new(hash, key, value, weight);
        (item.deadline, item.beside.ends) = self.restored_ends(restored.life, restored.ahead);
        // Nobody knows when it was loaded, so it is due to be loaded anew.
        let age = |freshness: &Freshness| freshness.age(OLDEST);
        item.beside.age = self.policy.freshness.as_ref().map(age);
        let mut work = self.work();
        work.given = Given::new(labels, restored.epoch);
        let Some(inside) = reentrancy::enter() else {
            return Ok(());
        };
        let mut set = self.table.lock(&inside, hash);
        let way = match set.find(hash, &item.key) {
            None if !set.has_room() && !self.free_way_restoring(&mut set, tally, &mut work) => {
                work.outbox.discard(item.key, item.value);
                return Err(SetFull);
            }
            None => set.bring_back(item, restored.heat),
            Some(way) => {
                tally.remove(self.budget.cost(set.weight(way)));
                self.restore_over(&mut set, way, item, &mut work);
                way
            }
        };
        tally.add(self.budget.cost(weight));
        self.settle_if_due(tally);
        if set.entry(way).is_labelled() || work.given.is_some() {
            let given = work.given.take();
            set.set_label(way, given);
        }
        Ok(())
    }

    #[cold]
    fn free_way_restoring(
        &self,
        set: &mut Locked<'_, K, V>,
        tally: &mut Tally,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let evicts = self.policy.on_full == OnFull::Evict;
        let victim = evicts.then(|| set.victim()).flatten();
        victim
            .map(|way| tally.remove(self.drop_restored(set, way, work)))
            .is_some()
    }

    /// What an entry weighs. Where there is a weigher, it says so anew: it may be another one, or
    /// the value take up other room, than when the entry was recorded.
    fn restored_weight(&self, key: &K, value: &V, labels: &Labels, recorded: Option<u64>) -> u64 {
        match (&self.policy.weigher, recorded) {
            (None, Some(recorded)) => recorded,
            _ => {
                let weight = self.policy.weigh(key, value);
                weight.saturating_add(self.weight_of_labels(labels))
            }
        }
    }

    /// Brings a later state of an entry back, which keeps its place in the queues.
    fn restore_over(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        item: Item<K, V>,
        work: &mut Work<'_, K, V>,
    ) {
        set.keep_beside(way, item.beside);
        set.move_deadline(way, item.deadline);
        let old = mem::replace(&mut set.entry_mut(way).value, item.value);
        set.note_access(way);
        work.outbox.discard(item.key, old);
    }

    fn restored_ends(&self, life: Ends, ahead: i64) -> (Deadline, Option<Ends>) {
        let Some(idle) = self.policy.time_to_idle else {
            return (whole(life.hard), None);
        };
        let idle = after(0, idle);
        let ends = Ends {
            hard: whole(life.hard),
            idle: whole(match life.idle {
                // It gets what there can be at most when all is restored.
                NEVER => NEVER,
                // What was not worth a record may have happened.
                recorded => record::end_of_step(recorded, idle, ahead),
            }),
        };
        (ends.sooner(), Some(ends))
    }

    /// Moves the deadlines of an entry, if it is there.
    pub(crate) fn restore_life(&self, hash: KeyHash, key: &K, life: Ends, ahead: i64) {
        let Some(inside) = reentrancy::enter() else {
            return;
        };
        let mut set = self.table.lock(&inside, hash);
        if let Some(way) = set.find(hash, key) {
            let (deadline, ends) = self.restored_ends(life, ahead);
            if let Some(ends) = ends {
                set.move_ends(way, ends);
            }
            set.move_deadline(way, deadline);
            // Who is given time anew was most often read.
            set.note_access(way);
        }
    }

    /// Takes an entry out, if it is there. In a cache that evicts it is taken as evicted: should it
    /// come back soon, the eviction policy made more of it.
    pub(crate) fn restore_removal(&self, hash: KeyHash, key: &K, evicts: bool, tally: &mut Tally) {
        let mut work = self.work();
        let Some(inside) = reentrancy::enter() else {
            return;
        };
        let mut set = self.table.lock(&inside, hash);
        if let Some(way) = set.find(hash, key) {
            let removed = self.drop_restored(&mut set, way, &mut work);
            tally.remove(removed);
            self.settle_if_due(tally);
            if evicts {
                set.leave_ghost(hash.fingerprint());
            }
        }
    }

    /// Takes an entry out, and says what it took up.
    fn drop_restored(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        work: &mut Work<'_, K, V>,
    ) -> Room {
        let item = set.take(way);
        work.outbox.discard(item.key, item.value);
        self.budget.cost(item.beside.weight)
    }

    /// Ends the restoring: all deadlines come sooner by as much as the clock that counts is ahead
    /// of the wall clock, nothing is idle for longer than from now on, what has expired or fallen
    /// goes, untold, and the rest is put into the groups of today.
    pub(crate) fn end_restoring(&self, ahead: u64) -> Ended {
        let idle = self.policy.time_to_idle;
        let latest = idle.map_or(NEVER, |idle| whole(after(self.clock.now(), idle)));
        let mut next = Some(0);
        let mut ended = Ended::default();
        while let Some(from) = next {
            next = self.end_restoring_set(from, ahead, latest, &mut ended);
        }
        self.table.refresh_earliest();
        self.have_swept();
        if self.register.is_due() {
            self.start_sweeping();
        }
        ended
    }

    fn end_restoring_set(
        &self,
        from: usize,
        ahead: u64,
        latest: Deadline,
        ended: &mut Ended,
    ) -> Option<usize> {
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        for way in 0..set.width() {
            if set.get(way).is_none() {
                continue;
            }
            if ahead > 0 || latest != NEVER {
                self.bring_forward(&mut set, way, ahead, latest);
            }
            let entry = set.entry(way);
            if !self.is_live(set.gone(way)) || self.has_fallen(&set, way, entry) {
                let room = self.drop_restored(&mut set, way, &mut work);
                self.budget.give(room);
                ended.dropped += 1;
            } else if self.has_groups() {
                ended.has_regrouped |= self.regroup(&mut set, way, &mut work);
            }
        }
        set.refresh_hint();
        set.shrink_if_sparse();
        Some(set.index() + 1)
    }

    /// Has an entry be of its group of today, too; whether it is not recorded as one of it. What
    /// was invalidated before today meant those who were of the group then, by which it has been
    /// judged: it is of this one from now on.
    fn regroup(&self, set: &mut Locked<'_, K, V>, way: usize, work: &mut Work<'_, K, V>) -> bool {
        let recorded = set.labels(way);
        let labels = self.with_group(&set.entry(way).key, recorded.clone());
        if labels == *recorded {
            return false;
        }
        // There is no bound yet, so it stays.
        self.relabel(set, way, labels, self.register.latest(), work);
        true
    }

    /// The end of an idle time is brought to the latest there can be, too.
    fn bring_forward(&self, set: &mut Locked<'_, K, V>, way: usize, ahead: u64, latest: Deadline) {
        let sooner = |deadline: Deadline| match deadline {
            NEVER => NEVER,
            _ => whole(deadline.saturating_sub(ahead)),
        };
        let Ends { hard, idle } = record::life(set, way);
        let ends = Ends {
            hard: sooner(hard),
            idle: sooner(idle).min(latest),
        };
        set.move_ends(way, ends);
        set.move_deadline(way, ends.sooner());
    }
}

impl<K, V> Engine<K, V> {
    /// Brings an invalidation back.
    pub(crate) fn restore_label(&self, label: u64, epoch: u64) {
        match label {
            EVERY_LABEL => self.register.restore_forgotten(epoch),
            _ => self.register.restore(label, epoch),
        }
    }

    /// How many sets the table has; from then on it has no fewer.
    pub(crate) fn sets(&self) -> usize {
        self.table.sets()
    }

    fn settle_if_due(&self, tally: &mut Tally) {
        if tally.changes >= UNTOLD {
            self.settle(mem::take(tally));
        }
    }

    /// Counts what a thread has restored.
    pub(crate) fn settle(&self, tally: Tally) {
        // There is no bound yet, so nothing can be refused.
        self.budget.try_take(tally.added);
        self.budget.give(tally.removed);
    }

    /// Visits the entries of the set at `position` that live, under its lock, the oldest of each
    /// queue first; where to go on.
    pub(crate) fn visit_set(
        &self,
        position: u64,
        mut visit: impl FnMut(&K, &V, Meta<'_>),
    ) -> Option<u64> {
        // "No more" would be a lie, and the snapshot one of nothing.
        let inside = reentrancy::enter().expect("no snapshot is taken from inside a closure");
        let of_set = self.table.at_position(&inside, position, |ways, next| {
            for (way, entry) in ways.in_order() {
                if self.is_live(ways.gone(way)) && !self.has_fallen(ways, way, entry) {
                    visit(&entry.key, &entry.value, record::meta(ways, way));
                }
            }
            next
        });
        of_set.unwrap_or_else(|| self.table.skip_unused(position))
    }

    /// Visits the invalidations that entries may still have to be judged by.
    pub(crate) fn visit_labels(&self, mut visit: impl FnMut(u64, u64)) {
        let (forced, records) = self.register.all();
        if forced > 0 {
            visit(EVERY_LABEL, forced);
        }
        for (label, epoch) in records {
            visit(label, epoch);
        }
    }

    /// Takes the bounds off, before the cache is restored.
    pub(crate) fn lift_bounds(&self) -> Bounds {
        let lift = |gauge: &Gauge| {
            let max = gauge.max();
            gauge.set_max(u64::MAX);
            max
        };
        Bounds {
            entries: lift(&self.budget.entries),
            weight: self.budget.weight.as_ref().map(lift),
            memory: self.budget.memory.as_ref().map(lift),
        }
    }

    /// Sets the bounds that were off while the cache was restored, and evicts what is beyond them.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        let budget = &self.budget;
        let gauges = [
            (Some(&budget.entries), Some(bounds.entries)),
            (budget.weight.as_ref(), bounds.weight),
            (budget.memory.as_ref(), bounds.memory),
        ];
        for (gauge, max) in gauges {
            if let (Some(gauge), Some(max)) = (gauge, max) {
                self.rebound(gauge, max);
            }
        }
    }
}

/// The bounds of a cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) entries: u64,
    pub(crate) weight: Option<u64>,
    pub(crate) memory: Option<u64>,
}

impl Bounds {
    /// Whether there is any bound.
    pub(crate) fn are_any(&self) -> bool {
        self.entries < u64::MAX || self.weight.is_some() || self.memory.is_some()
    }
}

/// So many changes a thread keeps to itself at most: the table grows by what the budget knows of,
/// and no set is to become much fuller meanwhile.
const UNTOLD: u32 = 32;

/// As long ago as the clock can tell.
const OLDEST: Deadline = 1;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::Cache;
    use crate::table::MAX_WAYS;
    use std::hash::RandomState;

    #[test]
    fn entries_that_were_expected_make_no_table_grow() {
        let cache = Cache::<u64, u64>::builder().build().unwrap();
        let engine = cache.engine();
        engine.expect(10_000, |_| unreachable!("there is no key to be hashed"));
        let sets = engine.table.sets();
        let hasher = RandomState::new();
        let mut tally = Tally::default();
        for key in 0..10_000 {
            bring(engine, KeyHash::of(&hasher, &key), key, &mut tally).unwrap();
            engine.grow(|key| KeyHash::of(&hasher, key));
        }
        engine.settle(tally);
        assert_eq!((engine.len(), engine.table.sets()), (10_000, sets));
    }

    fn bring(
        engine: &Engine<u64, u64>,
        hash: KeyHash,
        key: u64,
        tally: &mut Tally,
    ) -> Result<(), SetFull> {
        let restored = Restored {
            life: Ends::default(),
            ahead: 0,
            weight: None,
            labels: Labels::NONE,
            epoch: 0,
            heat: 0,
        };
        engine.restore(hash, key, key, restored, tally)
    }

    /// As if they had been brought back one by one, which looks each of them up before.
    fn fill(engine: &Engine<u64, u64>, tally: &mut Tally) {
        let inside = reentrancy::enter().unwrap();
        let mut set = engine.table.lock(&inside, KeyHash::at_position(0));
        for key in 0..MAX_WAYS as u64 {
            set.bring_back(Item::new(KeyHash::at_position(key), key, key, 1), 0);
            tally.add(engine.budget.cost(1));
        }
    }

    /// Keys whose hashes name the same set, however many sets there are.
    #[test]
    fn a_set_that_is_full_refuses_or_evicts_as_the_cache_does() {
        let most = MAX_WAYS as u64;
        for on_full in [OnFull::Reject, OnFull::Evict] {
            let builder = Cache::<u64, u64>::builder().on_full(on_full);
            let cache = builder.build().unwrap();
            let (engine, mut tally) = (cache.engine(), Tally::default());
            fill(engine, &mut tally);
            let evicts = on_full == OnFull::Evict;
            let hash = KeyHash::at_position(most);
            assert_eq!(bring(engine, hash, most, &mut tally).is_ok(), evicts);
            engine.settle(tally);
            assert_eq!(engine.len(), most);

            let insert = |key: u64| {
                let options = crate::entry::InsertOptions::new();
                let hash = KeyHash::at_position(key);
                engine.insert(hash, key, key, options)
            };
            let refused = matches!(insert(most + 1), crate::entry::Insert::Refused(_));
            assert_eq!((refused, engine.len()), (!evicts, most));

            let keys = [most + 2, most + 3, most - 1];
            let hashes = keys.map(KeyHash::at_position);
            let inserted = engine.transaction(&keys, &hashes, |tx| {
                // Of two new ones there is room for the first, after one has gone.
                tx.insert(&keys[2], 7)?;
                Ok::<_, crate::entry::Refused<u64>>(
                    [keys[0], keys[1]].map(|key| tx.insert(&key, 7).is_ok()),
                )
            });
            assert_eq!(inserted.unwrap(), [evicts; 2]);
            let remove = |key: u64| engine.remove(KeyHash::at_position(key), &key, |_| true);
            if !evicts {
                assert!(remove(0).is_some());
                let inserted = engine.transaction(&keys, &hashes, |tx| {
                    let both = [keys[0], keys[1]].map(|key| tx.insert(&key, 7).is_ok());
                    Ok::<_, ()>(both)
                });
                assert_eq!(inserted.unwrap(), [true, false]);
            }
            assert_eq!(engine.len(), most);
        }
    }
}
