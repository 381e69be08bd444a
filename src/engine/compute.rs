//! Deciding on an entry from what it is, and storing what a closure has made under the lock.

use super::Engine;
use super::record::RECORD;
use super::room::Work;
use super::write::{InSet, Patience, Pending, Stored};
use crate::entry::{Life, Op, Outcome};
use crate::hash::KeyHash;
use crate::labels::Given;
use crate::reentrancy;
use crate::to_key::ToKey;
use std::hash::Hash;

/// What a closure has made under the lock of its set.
pub(super) struct Computed<V> {
    pub(super) value: V,
    pub(super) life: Life,
    /// The entry that it was made from, or instead of.
    pub(super) live: Option<usize>,
    /// When that was looked at.
    pub(super) epoch: u64,
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
    /// Decides on an entry from what it is, in one step.
    #[track_caller]
    pub(crate) fn compute<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        f: impl FnOnce(Option<&V>) -> Op<V>,
    ) -> Outcome<V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let mut work = self.work();
        if !self.admit(RECORD, &mut work) {
            return Outcome::Absent;
        }
        let Some(inside) = reentrancy::enter() else {
            return Outcome::Absent;
        };
        let mut locked = (self.table.lock(&inside, hash), inside);
        let set = &mut locked.0;
        // What `f` makes is made from what is there now.
        let epoch = self.register.latest();
        let live = self.find_live(set, hash, key, &mut work);
        let (value, life) = match (f(live.map(|way| &set.entry(way).value)), live) {
            (Op::Keep, None) => return Outcome::Absent,
            (Op::Keep, Some(_)) => return Outcome::Kept,
            (Op::Remove, None) => {
                self.overtake(set, hash, key, &mut work);
                return Outcome::Absent;
            }
            (Op::Remove, Some(way)) => {
                self.overtake(set, hash, key, &mut work);
                let Some((key, value)) = self.hand_out(set, way, hash, &mut work) else {
                    return Outcome::Kept;
                };
                work.outbox.discard_key(key);
                return Outcome::Removed(value);
            }
            (Op::Put(value), _) => (value, Life::Default),
            (Op::PutWithTtl(value, ttl), _) => (value, Life::For(ttl)),
            (Op::PutKeepTtl(value), _) => (value, Life::Keep),
        };
        let computed = Computed {
            value,
            life,
            live,
            epoch,
        };
        self.put_computed(hash, key, computed, &mut work, locked)
    }

    /// Stores what a closure has made.
    /// The lock comes last for the same reason as in [`attempt`](Self::attempt).
    pub(super) fn put_computed<Q>(
        &self,
        hash: KeyHash,
        borrowed: &Q,
        computed: Computed<V>,
        work: &mut Work<'_, K, V>,
        locked: InSet<'_, K, V>,
    ) -> Outcome<V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let Computed {
            value,
            life,
            live,
            epoch,
        } = computed;
        let key;
        let mut locked = locked;
        let set = &mut locked.0;
        key = borrowed.to_key();
        // The closure may have taken its time.
        work.moment.pass();
        if !self.encode(&key, &value, work) {
            return Outcome::Refused(value);
        }
        let labels = self.labels_kept(set, live, &key);
        let weight = self.policy.weigh(&key, &value);
        let weight = weight.saturating_add(self.weight_of_labels(&labels));
        work.given = Given::new(labels, epoch);
        let deadlines = self.deadlines(set, (&key, &value), live, life, &work.moment);
        self.overtake(set, hash, &key, work);
        let pending = Pending {
            hash,
            key,
            value,
            weight,
        };
        let stored = self.store(set, pending, live, deadlines, Patience::Some, work);
        drop(locked);
        self.have_swept();
        match stored {
            Stored::Inserted(_) => Outcome::Inserted,
            Stored::Replaced(old) => Outcome::Replaced(old),
            Stored::Kept(value) | Stored::Refused(value) => Outcome::Refused(value),
            Stored::Again(pending, _) => Outcome::Refused(pending.value),
        }
    }
}
