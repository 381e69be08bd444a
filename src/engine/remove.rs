//! Removing an entry for who gets it.

use super::Engine;
use super::record::RECORD;
use super::room::Work;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::table::Locked;
use std::hash::Hash;

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
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
    pub(super) fn hand_out(
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
