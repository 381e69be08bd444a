//! A value while a closure of the user's changes it where it is, under the lock of its set.

use super::Engine;
use super::room::Work;
use crate::contain::contain;
use crate::event::RemovalCause;
use crate::table::Locked;
use std::hash::Hash;
use std::mem;

/// Holds what is known of an entry while it is not: if the closure panics, or the weigher that is to
/// say what has become of it, the entry is given the weight that it has then. It is taken out where
/// there is no room for that, or nobody can say.
pub(super) struct Changing<'c, 't, 'e, K, V>
where
    K: Hash + Eq,
{
    engine: &'c Engine<K, V>,
    set: &'c mut Locked<'t, K, V>,
    way: usize,
    work: &'c mut Work<'e, K, V>,
}

impl<'c, 't, 'e, K, V> Changing<'c, 't, 'e, K, V>
where
    K: Hash + Eq,
{
    #[inline(always)]
    pub(super) fn begin(
        engine: &'c Engine<K, V>,
        set: &'c mut Locked<'t, K, V>,
        way: usize,
        work: &'c mut Work<'e, K, V>,
    ) -> Self {
        Self {
            engine,
            set,
            way,
            work,
        }
    }

    #[inline(always)]
    pub(super) fn value(&mut self) -> &mut V {
        &mut self.set.entry_mut(self.way).value
    }

    /// What the entry weighs as it is now.
    #[inline(always)]
    pub(super) fn weigh(&self) -> u64 {
        let entry = self.set.entry(self.way);
        let weight = self.engine.policy.weigh(&entry.key, &entry.value);
        if !entry.is_labelled() {
            return weight;
        }
        let labels = self.set.labels(self.way);
        weight.saturating_add(self.engine.weight_of_labels(labels))
    }

    /// The change has come to its end.
    #[inline(always)]
    pub(super) fn end(self) {
        mem::forget(self);
    }
}

impl<K, V> Drop for Changing<'_, '_, '_, K, V>
where
    K: Hash + Eq,
{
    #[cold]
    fn drop(&mut self) {
        let weight = contain(|| self.weigh());
        let (engine, set, way) = (self.engine, &mut *self.set, self.way);
        match weight {
            Some(weight) => {
                engine.reweigh(set, way, weight, self.work);
            }
            None => engine.take_out(set, way, RemovalCause::Capacity, self.work),
        }
    }
}
