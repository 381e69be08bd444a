//! One part of a stripe: counts behind one lock, which hardly two threads want at the same time.
//!
//! Under the lock only `Eq` of the keys runs, guarded against calls back into this crate. Keys are
//! copied before and dropped after it. A key may be in a table twice: with a life that somebody has
//! just ended and is collecting, and with the next one.

use super::life::Life;
use super::recent::Recent;
use super::{State, Total};
use crate::Equivalent;
use crate::reentrancy;
#[cfg(feature = "persist")]
use crate::sync::AtomicBool;
use crate::sync::SpinLock;
use crate::time::Clock;
use hashtable::HashTable;
use std::ops::RangeInclusive;
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
    pub(super) fn recent(&self, steps: &RangeInclusive<u64>) -> i64 {
        self.recent.as_ref().map_or(0, |recent| recent.sum(steps))
    }

    fn add(&mut self, state: &State<K>, by: i64) {
        self.count = self.count.wrapping_add(by);
        if let Some(windows) = &state.windows {
            let recent = self.recent.get_or_insert_default();
            recent.add(windows.now(&state.clock), by);
        }
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

    /// Counts, if the key is there and lives; with a given life only if it has that.
    #[inline]
    pub(super) fn add<Q: Equivalent<K> + ?Sized>(
        &self,
        state: &State<K>,
        hash: u64,
        key: &Q,
        by: i64,
        life: Option<&Arc<Life>>,
    ) -> bool {
        let Some(_inside) = reentrancy::enter() else {
            return true;
        };
        let mut cells = self.cells.lock();
        let found = cells.find_mut(hash, |cell| {
            key.equivalent(&cell.key) && (life.is_none() || cell.is_of(life))
        });
        match found {
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
        if cell.life.as_ref().is_some_and(|life| life.is_ended()) {
            drop(cells);
            return Found::Over(Some(cell));
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
        let found = cells.find(hash, |cell| cell.is_of(life) && key.equivalent(&cell.key));
        found.map_or(0, of)
    }

    pub(super) fn take<Q: Equivalent<K> + ?Sized>(
        &self,
        hash: u64,
        key: &Q,
        life: Option<&Arc<Life>>,
    ) -> Option<Cell<K>> {
        let _inside = reentrancy::enter()?;
        let mut cells = self.cells.lock();
        let found = cells.find_entry(hash, |cell| cell.is_of(life) && key.equivalent(&cell.key));
        Some(found.ok()?.remove().0)
    }

    /// Takes all cells but those of lives that began meanwhile. Those whose time is up are dropped.
    pub(super) fn take_all(&self, clock: &Clock) -> impl Iterator<Item = Cell<K>> {
        let mut cells = self.cells.lock();
        let taken: Vec<_> = cells
            .extract_if(|cell| cell.life.is_none() || !cell.lives(clock))
            .collect();
        // A table that was full keeps no memory for what may never come again.
        cells.shrink_to_fit(|cell| cell.hash);
        drop(cells);
        let is_counted = |cell: &Cell<K>| cell.life.as_ref().is_none_or(|life| life.is_ended());
        taken.into_iter().filter(is_counted)
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

    /// Takes out the cell of a life, if there is one. `false` when the lock is not free.
    pub(super) fn try_remove(&self, life: &Arc<Life>, into: &mut Vec<Cell<K>>) -> bool {
        let Some(mut cells) = self.cells.try_lock() else {
            return false;
        };
        let own = |cell: &Cell<K>| cell.is_of(Some(life));
        if let Ok(entry) = cells.find_entry(life.hash(), own) {
            into.push(entry.remove().0);
        }
        true
    }
}
