//! Growing the table by one set at a time.

use super::{Locked, MAX_LOAD, Table};
use crate::hash::KeyHash;
use crate::reentrancy;
use std::sync::atomic::Ordering::Relaxed;

impl<K, V> Table<K, V> {
    /// Whether the table has fewer sets than `entries` entries ask for.
    #[inline]
    pub(crate) fn is_crowded(&self, entries: u64) -> bool {
        entries > (self.sets() * MAX_LOAD) as u64
    }

    /// Whether a set had too many loads under way when one more began, or the next set to be split
    /// had, when that was looked at since.
    pub(crate) fn has_many_loads(&self) -> bool {
        self.many_loads.load(Relaxed)
    }

    /// Splits the next set. Does nothing when another thread is at it or holds the set.
    ///
    /// Panics with the hasher of a key, without having changed anything.
    pub(crate) fn split_next(&self, hash_of: &dyn Fn(&K) -> KeyHash) {
        self.split_next_if(hash_of, |_| true);
    }

    /// The same if the set has too many loads itself, as all have when there are too many in all.
    /// Where one set has them alone, since their keys share a hash, splits would be no help.
    pub(crate) fn split_next_for_loads(&self, hash_of: &dyn Fn(&K) -> KeyHash) {
        self.split_next_if(hash_of, |next| {
            let has_many = next.has_many_loads();
            self.many_loads.store(has_many, Relaxed);
            has_many
        });
    }

    fn split_next_if(
        &self,
        hash_of: &dyn Fn(&K) -> KeyHash,
        is_wanted: impl FnOnce(&Locked<'_, K, V>) -> bool,
    ) {
        let Some(_growing) = self.growing.try_lock() else {
            return;
        };
        let Some(inside) = reentrancy::enter() else {
            return;
        };
        let upper_index = self.sets();
        if upper_index > u32::MAX as usize {
            return;
        }
        let depth = upper_index.ilog2() as u8;
        let lower_index = upper_index - (1 << depth);
        // A set that is locked is split by a later call: nobody waits for a key that is not its own.
        let Some(mut lower) = self.lock_if_free(&inside, lower_index) else {
            return;
        };
        debug_assert_eq!(lower.depth(), depth);
        if !is_wanted(&lower) {
            return;
        }
        let leaving = lower.leaving(hash_of);
        let mut upper = self.lock_index(&inside, upper_index);
        *upper.ways = lower.split(&leaving);
        lower.refresh_hint();
        upper.refresh_hint();
        // Published while both are locked: who comes by the old number waits for the old set and
        // is sent on, who comes by the new one waits for the new set.
        self.publish(upper_index + 1);
    }
}
