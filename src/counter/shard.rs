//! One part of a stripe: counts behind one lock, which hardly two threads want at the same time.
//!
//! Under the lock only `Eq` of the keys runs, guarded against calls back into this crate. Keys are
//! copied before and dropped after it. A key may be in a table twice: with a life that somebody has
//! just ended and is collecting, and with the next one; and if a call that took it panicked, once
//! with what that call has put back and once with what was counted meanwhile.

use super::life::Life;
use super::recent::Recent;
use super::{State, Total};
use crate::equivalent::Equivalent;
use crate::reentrancy;
use crate::slack::give_back;
#[cfg(feature = "persist")]
use crate::sync::AtomicBool;
use crate::sync::SpinLock;
use crate::time::Clock;
use hashtable::HashTable;
use std::mem;
use std::ops::RangeFrom;
use std::sync::Arc;
#[cfg(feature = "persist")]
use std::sync::atomic::Ordering::Relaxed;

#[repr(align(64))]
pub(super) struct Shard<K> {
    cells: SpinLock<HashTable<Cell<K>>>,
    /// Something was counted since the last flush. Written under the lock.
    #[cfg(feature = "persist")]
    is_changed: AtomicBool,
}

pub(super) struct Cell<K> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) count: i64,
    life: Option<Arc<Life>>,
    recent: Option<Box<Recent>>,
}

/// What became of an insertion, with what is to be dropped.
pub(super) enum Found<K> {
    Done(Option<Cell<K>>),
    /// The life that the count was to belong to is over.
    Over(Option<Cell<K>>),
}

impl<K> Cell<K> {
    pub(super) fn recent(&self, steps: &RangeFrom<u64>) -> i64 {
        self.recent.as_ref().map_or(0, |recent| recent.sum(steps))
    }

    fn add(&mut self, state: &State<K>, by: i64) {
        self.count = self.count.wrapping_add(by);
        if let Some(windows) = &state.windows {
            let recent = self.recent.get_or_insert_default();
            recent.add(windows.now(&state.clock), by);
        }
    }

    /// Whether another cell counts the same. A life is of one key alone.
    pub(super) fn is_same(&self, other: &Self) -> bool
    where
        K: Eq,
    {
        self.is_of(other.life.as_ref()) && (self.life.is_some() || self.key == other.key)
    }

    fn is_of(&self, life: Option<&Arc<Life>>) -> bool {
        match (&self.life, life) {
            (None, None) => true,
            (Some(own), Some(life)) => Arc::ptr_eq(own, life),
            _ => false,
        }
    }

    fn lives(&self, clock: &Clock) -> bool {
        self.life.as_ref().is_none_or(|life| life.lives(clock))
    }

    /// Its time is up, and nobody is collecting it.
    fn has_expired(&self, clock: &Clock) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| !life.is_ended() && !life.lives(clock))
    }
}

impl<K> Shard<K> {
    pub(super) fn new() -> Self {
        Self {
            cells: SpinLock::new(HashTable::new()),
            #[cfg(feature = "persist")]
            is_changed: AtomicBool::new(false),
        }
    }

    #[inline(always)]
    fn mark_changed(&self) {
        #[cfg(feature = "persist")]
        self.is_changed.store(true, Relaxed);
    }

    /// Whether something was counted since the last call. What is counted during this call is seen
    /// by a look after it, or by the next.
    #[cfg(feature = "persist")]
    pub(super) fn take_changed(&self) -> bool {
        let _cells = self.cells.lock();
        self.is_changed.swap(false, Relaxed)
    }

    /// Counts, if the key is there and lives.
    #[inline]
    pub(super) fn add<Q: Equivalent<K> + ?Sized>(
        &self,
        state: &State<K>,
        hash: u64,
        key: &Q,
        by: i64,
    ) -> bool {
        let Some(_inside) = reentrancy::enter() else {
            return true;
        };
        let mut cells = self.cells.lock();
        match cells.find_mut(hash, |cell| key.equivalent(&cell.key)) {
            Some(cell) if cell.lives(&state.clock) => {
                cell.add(state, by);
                self.mark_changed();
                true
            }
            _ => false,
        }
    }

    /// Counts, in a new cell if there is none of that life.
    pub(super) fn insert(
        &self,
        state: &State<K>,
        hash: u64,
        key: K,
        by: i64,
        life: Option<Arc<Life>>,
    ) -> Found<K>
    where
        K: Eq,
    {
        let mut cell = Cell {
            hash,
            key,
            count: 0,
            life,
            recent: None,
        };
        let Some(_inside) = reentrancy::enter() else {
            return Found::Done(Some(cell));
        };
        let mut cells = self.cells.lock();
        // Who ends a life collects its cells after that, so under this lock it is seen in time.
        if let Some(life) = cell.life.as_ref().filter(|life| !life.lives(&state.clock)) {
            let is_ended = life.is_ended();
            drop(cells);
            // One whose time is up may have been swept. The count was in time, and is over with it.
            return if is_ended {
                Found::Over(Some(cell))
            } else {
                Found::Done(Some(cell))
            };
        }
        self.mark_changed();
        let own = |other: &Cell<K>| other.is_of(cell.life.as_ref()) && other.key == cell.key;
        if let Some(found) = cells.find_mut(hash, own) {
            found.add(state, by);
            drop(cells);
            return Found::Done(Some(cell));
        }
        cell.add(state, by);
        let stale = |other: &Cell<K>| other.has_expired(&state.clock) && other.key == cell.key;
        let removed = cells.find_entry(hash, stale).ok();
        let removed = removed.map(|entry| entry.remove().0);
        cells.insert_unique(hash, cell, |cell| cell.hash);
        drop(cells);
        Found::Done(removed)
    }

    pub(super) fn look<Q: Equivalent<K> + ?Sized>(
        &self,
        hash: u64,
        key: &Q,
        life: Option<&Arc<Life>>,
        of: impl Fn(&Cell<K>) -> i64,
    ) -> i64 {
        let Some(_inside) = reentrancy::enter() else {
            return 0;
        };
        let cells = self.cells.lock();
        let mut sum = 0_i64;
        // Looks at all that may be the key.
        let _ = cells.find(hash, |cell| {
            if cell.is_of(life) && key.equivalent(&cell.key) {
                sum = sum.wrapping_add(of(cell));
            }
            false
        });
        sum
    }

    /// Takes the cells of a key.
    pub(super) fn take<'s, Q: Equivalent<K> + ?Sized>(
        &'s self,
        hash: u64,
        key: &Q,
        life: Option<&Arc<Life>>,
        taken: &mut Taken<'s, K>,
    ) {
        let Some(_inside) = reentrancy::enter() else {
            return;
        };
        let mut cells = self.cells.lock();
        // A life is of one key alone, so that what it ended is found whatever `Eq` does.
        let own =
            |cell: &Cell<K>| cell.is_of(life) && (life.is_some() || key.equivalent(&cell.key));
        while let Ok(entry) = cells.find_entry(hash, own) {
            taken.0.push((self, entry.remove().0));
        }
        give_back(&mut cells);
    }

    /// Takes all cells but those of lives that began meanwhile; those whose time is up to be
    /// dropped.
    pub(super) fn take_all<'s>(
        &'s self,
        clock: &Clock,
        taken: &mut Taken<'s, K>,
        expired: &mut Vec<Cell<K>>,
    ) {
        let mut cells = self.cells.lock();
        let over = cells.extract_if(|cell| cell.life.is_none() || !cell.lives(clock));
        let over: Vec<_> = over.collect();
        // A table that was full keeps no memory for what may never come again.
        cells.shrink_to_fit(|cell| cell.hash);
        drop(cells);
        for cell in over {
            if cell.life.as_ref().is_none_or(|life| life.is_ended()) {
                taken.0.push((self, cell));
            } else {
                expired.push(cell);
            }
        }
    }

    pub(super) fn add_to(&self, totals: &mut HashTable<Total<K>>, clock: &Clock)
    where
        K: Clone + Eq,
    {
        let Some(_inside) = reentrancy::enter() else {
            return;
        };
        let cells = self.cells.lock();
        for cell in cells.iter().filter(|cell| cell.lives(clock)) {
            match totals.find_mut(cell.hash, |other| other.1 == cell.key) {
                Some(total) => total.2 = total.2.wrapping_add(cell.count),
                None => {
                    let total = Total(cell.hash, cell.key.clone(), cell.count);
                    totals.insert_unique(cell.hash, total, |total| total.0);
                }
            }
        }
    }

    /// Checks every cell, given the hash of a key and whether one is of this shard.
    ///
    /// # Panics
    /// With the first that is not as it should be.
    pub(super) fn validate(
        &self,
        state: &State<K>,
        hash_of: impl Fn(&K) -> u64,
        is_own: impl Fn(u64) -> bool,
    ) where
        K: Eq,
    {
        let Some(_inside) = reentrancy::enter() else {
            return;
        };
        let cells = self.cells.lock();
        for cell in cells.iter() {
            let hash = hash_of(&cell.key);
            assert!(cell.hash == hash && is_own(hash), "the hash of the key");
            let has_life = cell.life.is_some();
            assert_eq!(has_life, state.lives.is_some(), "all live, or none does");
            let mut life = cell.life.iter();
            assert!(life.all(|life| life.hash() == hash), "the life of the key");
            assert!(cell.recent.is_some() == state.windows.is_some());
            let alike = cells.iter().filter(|other| other.is_same(cell));
            assert_eq!(alike.count(), 1, "a life of a key has one cell");
        }
    }

    /// Takes out the cell of a life, if there is one. `false` when the lock is not free.
    pub(super) fn try_remove(&self, life: &Arc<Life>, into: &mut Vec<Cell<K>>) -> bool {
        let Some(mut cells) = self.cells.try_lock() else {
            return false;
        };
        let own = |cell: &Cell<K>| cell.is_of(Some(life));
        if let Ok(entry) = cells.find_entry(life.hash(), own) {
            into.push(entry.remove().0);
            give_back(&mut cells);
        }
        true
    }
}

/// Cells that were taken out, and go back to where they were if a key panics before their counts
/// are in the hands of who asked.
pub(super) struct Taken<'s, K>(Vec<(&'s Shard<K>, Cell<K>)>);

impl<'s, K> Taken<'s, K> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &Cell<K>> {
        self.0.iter().map(|(_, cell)| cell)
    }

    pub(super) fn cell(&self, at: usize) -> &Cell<K> {
        &self.0[at].1
    }

    /// They do not go back.
    pub(super) fn keep(mut self) -> Vec<Cell<K>> {
        let cells = mem::take(&mut self.0).into_iter();
        cells.map(|(_, cell)| cell).collect()
    }
}

impl<K> Drop for Taken<'_, K> {
    /// Goes by the hashes alone: `Eq` may be what has panicked.
    fn drop(&mut self) {
        for (shard, cell) in self.0.drain(..) {
            let mut cells = shard.cells.lock();
            shard.mark_changed();
            cells.insert_unique(cell.hash, cell, |cell| cell.hash);
        }
    }
}

/// Gives memory back when many cells have become few, in O(1) on average.
#[inline]
fn give_back<K>(cells: &mut HashTable<Cell<K>>) {
    give_back!(cells, |cell| cell.hash);
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::Counters;
    use super::*;
    use crate::slack::FEW;
    use crate::time::MockClock;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// Counters that count for a second, and are swept when they are told to.
    fn timed() -> (Counters<u32>, MockClock) {
        let time = MockClock::new();
        let counters = Counters::builder().time_to_live(SECOND).clock(time.clock());
        let counters = counters.sweep_interval(3_600 * SECOND).build();
        (counters.unwrap(), time)
    }

    fn life(state: &State<u32>) -> Arc<Life> {
        let lives = state.lives.as_ref().unwrap();
        lives.begin(&state.clock, 7, &1).0
    }

    #[test]
    fn a_count_whose_time_is_up_before_it_is_in_leaves_nothing_behind() {
        let (counters, time) = timed();
        let (state, shard) = (&counters.0, Shard::new());
        let life = life(state);
        time.advance(SECOND);
        assert_eq!(counters.sweep(), 1, "the life, without the count");
        let inserted = shard.insert(state, 7, 1, 1, Some(life));
        assert!(matches!(inserted, Found::Done(Some(_))));
        assert!(shard.cells.lock().is_empty());
    }

    #[test]
    fn a_key_has_one_cell_however_often_its_time_is_up() {
        let (counters, time) = timed();
        let (state, shard) = (&counters.0, Shard::new());
        for _ in 0..100 {
            drop(shard.insert(state, 7, 1, 1, Some(life(state))));
            time.advance(SECOND);
        }
        assert_eq!(shard.cells.lock().len(), 1);
    }

    #[test]
    fn a_key_counts_in_its_new_life_while_the_old_one_is_collected() {
        let (counters, _time) = timed();
        let (state, shard) = (&counters.0, Shard::new());
        let old = life(state);
        drop(shard.insert(state, 7, 1, 10, Some(Arc::clone(&old))));
        let ended = state.lives.as_ref().unwrap().end(&state.clock, 7, &1);
        assert!(ended.is_some() && old.is_ended());
        let new = life(state);
        for _ in 0..3 {
            drop(shard.insert(state, 7, 1, 1, Some(Arc::clone(&new))));
        }
        let late = shard.insert(state, 7, 1, 1, Some(Arc::clone(&old)));
        assert!(matches!(late, Found::Over(Some(_))), "it is counted anew");
        let count = |life| shard.look(7, &1, Some(life), |cell| cell.count);
        assert_eq!((count(&old), count(&new)), (10, 3));
        for (life, count) in [(&old, 10), (&new, 3)] {
            let mut taken = Taken::new();
            shard.take(7, &1, Some(life), &mut taken);
            assert_eq!(taken.keep().first().map(|cell| cell.count), Some(count));
        }
    }

    #[test]
    fn what_many_keys_took_is_given_back_however_they_go() {
        let sweep = |counters: &Counters<u32>, time: &MockClock| {
            time.advance(SECOND);
            assert_eq!(counters.sweep(), 20_000);
        };
        let take = |counters: &Counters<u32>, _: &MockClock| {
            assert!((0..20_000).all(|key| counters.take(&key) == 1));
        };
        for go in [sweep, take] as [fn(&Counters<u32>, &MockClock); 2] {
            let (counters, time) = timed();
            (0..20_000).for_each(|key| counters.incr(&key));
            go(&counters, &time);
            for number in 0..super::super::SHARDS {
                for shard in counters.0.shards(number) {
                    assert!(shard.cells.lock().capacity() <= 8 * FEW);
                }
                assert!(counters.0.lives.as_ref().unwrap().room(number) <= 8 * FEW);
            }
        }
    }

    #[test]
    fn what_a_sweep_could_not_lock_is_left_to_the_next() {
        let (counters, time) = timed();
        counters.incr(&1);
        let shards = || (0..super::super::SHARDS).flat_map(|number| counters.0.shards(number));
        time.advance(SECOND);
        let locked: Vec<_> = shards().map(|shard| shard.cells.lock()).collect();
        assert_eq!(counters.sweep(), 0);
        drop(locked);
        assert_eq!(counters.sweep(), 1);
        assert!(shards().all(|shard| shard.cells.lock().is_empty()));
    }
}
