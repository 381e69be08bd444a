//! Growing the table by one set at a time.

use super::{MAX_LOAD, Table};
use crate::hash::KeyHash;
use crate::reentrancy;

impl<K, V> Table<K, V> {
    /// Whether the table has fewer sets than `entries` entries ask for.
    #[inline]
    pub(crate) fn is_crowded(&self, entries: u64) -> bool {
        entries > (self.sets() * MAX_LOAD) as u64
    }

    /// Splits the next set. Does nothing when another thread is at it or holds the set.
    ///
    /// Panics with the hasher of a key, without having changed anything.
    pub(crate) fn split_next(&self, hash_of: &dyn Fn(&K) -> KeyHash) {
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
