//! What a caller that missed is to do: one decision under the lock of the set of its key.

use super::Engine;
use super::call::{Call, Old};
use super::leader::{Leader, OwnLeader};
use super::room::Work;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::load::{Flight, Freshness, Known, Source, UnderWay};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::{Locked, Ways};
use crate::time::after;
use crate::to_key::ToKey;
use std::hash::Hash;
use std::sync::Arc;

/// What a caller that missed is to do.
pub(super) enum Role<'e, K, V>
where
    K: Eq,
{
    /// The value came meanwhile, or there is one that serves.
    Hit(V, Source),
    /// There is none, as is known.
    Known(Known),
    Lead(OwnLeader<'e, K, V>),
    Wait(Arc<Flight<V>>),
}

/// What becomes of a load that a caller has found under way.
enum Met<'e, K, V>
where
    K: Eq,
{
    /// It is waited for no longer, and the caller leads one, instead of this one if it still runs.
    Ends(Option<UnderWay<K, V>>),
    GoesOn(Role<'e, K, V>),
}

/// What an entry is to a caller that loads.
enum Seen {
    Fresh,
    Old {
        is_live: bool,
        may_serve: bool,
        /// It is served without an attempt to load.
        serves: bool,
    },
    Gone,
}

impl Seen {
    fn old(is_live: bool, may_serve: bool) -> Self {
        Self::Old {
            is_live,
            may_serve,
            serves: false,
        }
    }
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq,
    V: Clone,
{
    pub(super) fn take_role<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        call: &mut Call<'_, V>,
    ) -> Role<'_, K, V>
    where
        Q: ToKey<K> + ?Sized,
    {
        let owned = key.to_key();
        let labels = self.with_group(&owned, Labels::NONE);
        call.waits_for_own = false;
        // Dropped when the lock is released.
        let before = call.old.take();
        let mut kept = Labels::NONE;
        let mut work = self.work();
        let Some(inside) = reentrancy::enter() else {
            return Role::Lead(Leader::new(self, hash, call.depart(), Given::default()));
        };
        let mut set = self.table.lock(&inside, hash);
        // Before anything is looked at, so that what is found to hold is not older. Under the lock,
        // so that no pass of the background misses the load.
        let epoch = self.register.latest();
        call.since.get_or_insert(epoch);
        if let Some(way) = set.find(hash, key)
            && !self.has_fallen(&set, way, set.entry(way))
        {
            match self.answer(&mut set, way, (hash, key), call, &mut work) {
                Ok((value, source)) => {
                    work.outbox.discard_key(owned);
                    return Role::Hit(value, source);
                }
                Err(labels) => kept = labels,
            }
        }
        self.overtake_fallen(&mut set, hash, key, &labels, &mut work);
        if call.old.is_none()
            && !call.ignores_known
            && !call.insists
            && let Some(known) = self.known(&set, hash, key)
        {
            work.outbox.discard_key(owned);
            return Role::Known(known);
        }
        let found = set.load_of(hash, key);
        let found = found.map(|load| (Arc::clone(&load.flight), load.has_ended()));
        let mut late = match found {
            None => None,
            // It is known for those that are late, or its leader was dropped where no lock could be
            // taken.
            Some((ended, true)) => set.end_load(&ended),
            Some((found, false)) => match self.meet(&mut set, found, call, &mut work) {
                Met::Ends(late) => late,
                Met::GoesOn(role) => {
                    work.outbox.discard_key(owned);
                    return role;
                }
            },
        };
        let called_off = late.as_ref().map(|late| Arc::clone(late.flight.node()));
        let flight = call.depart();
        let load = UnderWay::new(hash, owned, Arc::clone(&flight), epoch);
        // Who insists on a new value is not to find an older one in its place.
        let is_as_good = late.as_mut().filter(|_| !call.insists);
        set.begin_one_more_load(load.instead_of(is_as_good));
        work.outbox.discard_load(late);
        drop(set);
        drop(inside);
        let made = Given {
            labels: kept,
            epoch,
        };
        let leader = Leader::new(self, hash, flight, made);
        let leader = leader.pausing(call.pause());
        // What is dropped here is the user's, and may panic: the load has its leader by then, and
        // does not yet lie where what is returned does, which such a panic leaks.
        if let Some(node) = called_off {
            node.give_up_skipped();
        }
        drop((work, before));
        Role::Lead(leader)
    }

    /// What a caller gets of an entry, if that is all that it asks for. Otherwise the call has its
    /// value as the old one, where that is of any use, and these are the labels of it.
    fn answer<Q>(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        (hash, key): (KeyHash, &Q),
        call: &mut Call<'_, V>,
        work: &mut Work<'_, K, V>,
    ) -> Result<(V, Source), Labels>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let source = match self.see(set, way, hash, call) {
            Seen::Fresh => {
                set.note_access(way);
                Source::Hit
            }
            Seen::Old { serves: true, .. } => {
                work.outbox.count(Count::StaleServed);
                Source::Stale
            }
            // While it is loaded everybody gets the old value.
            Seen::Old { is_live: true, .. } if !call.insists && is_loaded(set, hash, key) => {
                Source::Hit
            }
            Seen::Old {
                is_live, may_serve, ..
            } => {
                call.old = Some(Old {
                    value: set.entry(way).value.clone(),
                    is_live,
                    may_serve,
                });
                return Err(set.labels(way).clone());
            }
            Seen::Gone => return Err(Labels::NONE),
        };
        Ok((set.entry(way).value.clone(), source))
    }

    /// What a caller does about a load that it has found under way.
    fn meet<'e>(
        &'e self,
        set: &mut Ways<K, V>,
        found: Arc<Flight<V>>,
        call: &mut Call<'_, V>,
        work: &mut Work<'_, K, V>,
    ) -> Met<'e, K, V> {
        match &call.patience.given_up {
            None if self.is_overdue(set, &found, call) => {
                found.node().call_off();
                return Met::Ends(set.end_load(&found));
            }
            None => {}
            // The others who wait for it give it up as well, and find what begins now. Nobody has
            // waited for that before it began, so no two begin within one time-out, however many
            // wait: a source that is overloaded is asked by one more, and not by all.
            Some(given_up) if Arc::ptr_eq(given_up, &found) => {
                return Met::Ends(set.end_load(&found));
            }
            // Others gave it up, too, and one of them leads.
            Some(_) => {
                if let Some(old) = call.fallback() {
                    work.outbox.count(Count::StaleServed);
                    return Met::GoesOn(Role::Hit(old.value.clone(), Source::Stale));
                }
                // As long as whoever waits for it longest, or those who come with each load that
                // begins would always be ahead of who came before them.
                call.patience.since = set.await_load(&found, self.clock.now());
            }
        }
        match call.runs_loader() && found.node().call_off_queued() {
            true => Met::Ends(set.end_load(&found)),
            false => Met::GoesOn(Role::Wait(found)),
        }
    }

    /// Whether a load of a task has been waited for as long as anybody has patience. Callers with
    /// shorter time-outs go away before they give one up, so one that nobody polls would be in
    /// their way for ever. A loader that blocks a thread is not begun anew for them: it would block
    /// another one.
    fn is_overdue(
        &self,
        set: &mut Ways<K, V>,
        flight: &Arc<Flight<V>>,
        call: &Call<'_, V>,
    ) -> bool {
        let patience = self.policy.lock_timeout;
        let since = set.await_load(flight, self.clock.now());
        let hard = call.terms.and_then(Freshness::hard_limit);
        let mut limits = call.soft_limit().into_iter().chain(hard);
        flight.node().is_polled()
            && limits.any(|limit| limit < patience)
            && since.is_some_and(|since| self.clock.has_passed(after(since, patience)))
    }

    /// What an entry is to a caller.
    fn see(&self, set: &Ways<K, V>, way: usize, hash: KeyHash, call: &Call<'_, V>) -> Seen {
        let deadline = set.entry(way).deadline();
        let Some(terms) = call.terms.filter(|_| !call.insists) else {
            return match (self.is_live(deadline), call.insists) {
                (true, false) => Seen::Fresh,
                (true, true) => Seen::old(true, true),
                (false, _) => Seen::Gone,
            };
        };
        if self.is_live(deadline) {
            return if self.refreshes(terms) && self.is_due(set, way, hash, terms) {
                Seen::old(true, true)
            } else {
                Seen::Fresh
            };
        }
        match set.age(way).filter(|age| self.is_live(age.gone(deadline))) {
            None => Seen::Gone,
            Some(age) => {
                let may_serve = self.is_live(terms.stale_until(age, deadline));
                let rests = age.retry_at != 0 && self.is_live(age.retry_at);
                Seen::Old {
                    is_live: false,
                    may_serve,
                    serves: may_serve && rests,
                }
            }
        }
    }

    pub(super) fn is_due(
        &self,
        ways: &Ways<K, V>,
        way: usize,
        hash: KeyHash,
        terms: &Freshness,
    ) -> bool {
        let Some(age) = ways.age(way) else {
            return false;
        };
        let from = terms.refresh_from(age, ways.hard_deadline(way), hash.position());
        self.clock.has_passed(from)
    }
}

/// Whether a load of a key is under way. One whose leader was dropped where no lock could be taken
/// is still known to the set, and is not.
pub(super) fn is_loaded<K, V, Q>(set: &Ways<K, V>, hash: KeyHash, key: &Q) -> bool
where
    Q: Equivalent<K> + ?Sized,
{
    set.load_of(hash, key).is_some_and(|load| !load.has_ended())
}
