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
        self.put_made(hash, key, (value, life), (live, epoch), &mut work, locked)
    }

    /// Stores what a closure has made under the lock of its set, from what was there at an epoch.
    /// The lock comes last for the same reason as in [`attempt`](Self::attempt).
    pub(super) fn put_made<Q>(
        &self,
        hash: KeyHash,
        borrowed: &Q,
        (value, life): (V, Life),
        (live, epoch): (Option<usize>, u64),
        work: &mut Work<'_, K, V>,
        locked: InSet<'_, K, V>,
    ) -> Outcome<V>
    where
        Q: ToKey<K> + ?Sized,
    {
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
