//! Storing a value as it is, whatever was there.

use super::Engine;
use super::plain::Plain;
use super::room::Work;
use super::write::{InSet, Patience, Pending, Stored};
use crate::entry::{Insert, InsertOptions, Life, OnFull, OnlyIf};
use crate::hash::KeyHash;
use crate::load::{Fill, Flight};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::Locked;
use std::hash::Hash;
use std::sync::Arc;

/// On what terms a value is stored.
struct Terms<'f, K, V> {
    life: Life,
    only_if: OnlyIf,
    fill: Option<&'f Fill<'f, K, V>>,
    patience: Patience,
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
{
    /// Stores a value.
    #[inline]
    pub(crate) fn insert(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        options: InsertOptions,
    ) -> Insert<V> {
        let done = match self.insert_plainly(hash, key, value, &options) {
            Plain::Inserted => Insert::Inserted,
            Plain::Replaced(old) => Insert::Replaced(old),
            Plain::Unchanged(key, value) => {
                return self.insert_generally(hash, key, value, options, None);
            }
        };
        self.have_swept();
        done
    }

    /// Stores a value. What fills the cache from a load is stored only while that has not been
    /// overtaken.
    pub(super) fn insert_generally(
        &self,
        hash: KeyHash,
        key: K,
        value: V,
        options: InsertOptions,
        fill: Option<&Fill<'_, K, V>>,
    ) -> Insert<V> {
        if !reentrancy::check() {
            return Insert::Refused(value);
        }
        let mut work = self.work();
        let weight = fill.and_then(|fill| fill.weight);
        let mut weight = weight.unwrap_or_else(|| self.policy.weigh(&key, &value));
        let InsertOptions {
            life,
            only_if,
            given,
        } = options;
        if given.is_some() || self.policy.group.is_some() {
            weight = weight.saturating_add(self.give(&key, given, &mut work));
        }
        let mut pending = Pending {
            hash,
            key,
            value,
            weight,
        };
        if !self.prepare_record(&pending.key, &pending.value, &mut work) {
            return Insert::Refused(pending.value);
        }
        let mut terms = Terms {
            life,
            only_if,
            fill,
            patience: Patience::None,
        };
        let done = loop {
            let Some(inside) = reentrancy::enter() else {
                return Insert::Refused(pending.value);
            };
            let locked = (self.table.lock(&inside, hash), inside);
            match self.attempt(pending, &terms, &mut work, locked) {
                Stored::Inserted(_) => break Insert::Inserted,
                Stored::Replaced(old) => break Insert::Replaced(old),
                Stored::Kept(value) => break Insert::Kept(value),
                Stored::Refused(value) => break Insert::Refused(value),
                Stored::Again(back, need) => {
                    pending = back;
                    if self.policy.on_full == OnFull::Evict {
                        self.make_room_unlocked(need, &mut work);
                    } else {
                        self.clear_unlocked(need, &mut work);
                        terms.patience = Patience::Some;
                    }
                }
            }
        };
        self.have_swept();
        done
    }

    /// The lock comes last, so that it is let go of first: if code of the user's panics under it,
    /// what was to be stored is dropped with nothing locked.
    #[inline]
    fn attempt(
        &self,
        pending: Pending<K, V>,
        terms: &Terms<'_, K, V>,
        work: &mut Work<'_, K, V>,
        mut locked: InSet<'_, K, V>,
    ) -> Stored<K, V> {
        let set = &mut locked.0;
        let fill = terms.fill;
        if let Some(fill) = fill
            && !self.is_wanted(set, fill.flight, work)
        {
            work.outbox.count(Count::DiscardedLoads);
            return keep(pending, work);
        }
        let live = self.find_live(set, pending.hash, &pending.key, work);
        let allowed = match terms.only_if {
            OnlyIf::Always => true,
            OnlyIf::Absent => live.is_none(),
            OnlyIf::Present => live.is_some(),
        };
        if !allowed {
            return keep(pending, work);
        }
        let entry = (&pending.key, &pending.value);
        let mut deadlines = self.deadlines(set, entry, live, terms.life, &work.moment);
        if let Some(age) = fill.and_then(|fill| fill.age) {
            deadlines.age = Some(age);
        }
        if fill.is_none() {
            self.overtake(set, pending.hash, &pending.key, work);
        } else {
            self.forget(set, pending.hash, &pending.key, work);
        }
        let stored = self.store(set, pending, live, deadlines, terms.patience, work);
        if let Some(fill) = fill
            && !matches!(stored, Stored::Again(..))
        {
            fill.keep(set.end_loads_with(fill.flight));
        }
        stored
    }

    /// Whether a loaded value is to be stored: nothing has overtaken its load, and none of its
    /// labels was invalidated since it began.
    fn is_wanted(
        &self,
        set: &mut Locked<'_, K, V>,
        flight: &Arc<Flight<V>>,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let Some(epoch) = set.epoch_of(flight) else {
            return false;
        };
        let Some(given) = &mut work.given else {
            return true;
        };
        given.epoch = epoch;
        let holds = self.register.hold(given.labels.as_slice(), epoch).is_some();
        if !holds {
            work.outbox.discard_load(set.leave_load(flight).0);
        }
        holds
    }
}

/// Leaves everything as it is and gives the value back.
fn keep<K, V>(pending: Pending<K, V>, work: &mut Work<'_, K, V>) -> Stored<K, V> {
    work.outbox.discard_key(pending.key);
    Stored::Kept(pending.value)
}
