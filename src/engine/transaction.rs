//! Several keys changed as one.

use super::Engine;
use super::budget::Room;
use super::policy::{Deadlines, PASSED};
use super::record::{self, Encoded, Meta, RECORD};
use super::room::{Held, Work};
use super::write::{Patience, Pending, Stored};
use crate::entry::{Life, OnFull, Refused};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::reentrancy;
use crate::stats::Count;
use crate::table::Locked;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// The view that the closure of [`Cache::transaction`](crate::Cache::transaction) has of its keys.
///
/// It sees its own changes. Nobody else sees them before the closure has returned `Ok`, and then
/// all at once.
pub struct Transaction<'t, K, V> {
    engine: &'t Engine<K, V>,
    keys: &'t [K],
    hashes: &'t [KeyHash],
    locks: &'t [Locked<'t, K, V>],
    staged: &'t mut [Staged<V>],
    /// What was staged and staged anew; dropped with the locks released.
    overwritten: &'t mut Vec<Staged<V>>,
    /// Gets so much room set aside for the values staged, in a cache that rejects; whether it is
    /// there.
    reaches: &'t mut (dyn FnMut(Room) -> bool + 't),
}

/// What a transaction has done to a key so far.
enum Staged<V> {
    Untouched,
    Put(V, Life, u64),
    Removed,
}

impl<K, V> fmt::Debug for Transaction<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V> Transaction<'_, K, V> {
    /// The value of a key as it is, with what this transaction has done to it.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        match &self.staged[index] {
            Staged::Put(value, ..) => Some(value),
            Staged::Removed => None,
            Staged::Untouched => self.stored(index),
        }
    }

    /// Stores a value under one of the keys, with the TTL that an insertion would give it.
    ///
    /// # Errors
    /// [`Refused`] gives the value back when it can never fit, or when the cache is full and
    /// rejects. The transaction goes on; return the error to undo all of it.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert<Q>(&mut self, key: &Q, value: V) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::Default)
    }

    /// As [`insert`](Self::insert), with a TTL of its own.
    ///
    /// # Errors
    /// As for `insert`.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert_with_ttl<Q>(&mut self, key: &Q, value: V, ttl: Duration) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::For(ttl))
    }

    /// As [`insert`](Self::insert), leaving the deadline as it is.
    ///
    /// # Errors
    /// As for `insert`.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert_keep_ttl<Q>(&mut self, key: &Q, value: V) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::Keep)
    }

    /// Removes the value of a key; whether there was one.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        let had = self.get(key).is_some();
        self.stage(index, Staged::Removed);
        had
    }

    #[track_caller]
    fn put<Q>(&mut self, key: &Q, value: V, life: Life) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        let weight = self.engine.policy.weigh(&self.keys[index], &value);
        let labels = self.labels(index);
        let weight = weight.saturating_add(self.engine.weight_of_labels(&labels));
        if !self.fits(index, weight) {
            self.engine.count(Count::Refusals);
            return Err(Refused(value));
        }
        self.stage(index, Staged::Put(value, life, weight));
        Ok(())
    }

    /// Stages a change. A value that was staged before is kept until the locks are released.
    fn stage(&mut self, index: usize, staged: Staged<V>) {
        let before = std::mem::replace(&mut self.staged[index], staged);
        self.overwritten.push(before);
    }

    /// Whether everything staged, with a value of `weight` at `index`, fits. A cache that does not
    /// evict takes the room at once: at the commit it is too late to refuse.
    fn fits(&mut self, index: usize, weight: u64) -> bool {
        let budget = &self.engine.budget;
        let (mut needs, mut has) = (Room::NONE, Room::NONE);
        for (other, staged) in self.staged.iter().enumerate() {
            let put = match staged {
                _ if other == index => Some(weight),
                Staged::Put(_, _, weight) => Some(*weight),
                Staged::Removed => None,
                Staged::Untouched => continue,
            };
            needs = needs.plus(put.map_or(Room::NONE, |weight| budget.cost(weight)));
            let stored = self
                .way(other)
                .map(|(set, way)| self.locks[set].weight(way));
            has = has.plus(stored.map_or(Room::NONE, |weight| budget.cost(weight)));
        }
        if !budget.could_fit(needs) {
            return false;
        }
        if self.engine.policy.on_full == OnFull::Evict {
            return true;
        }
        (self.reaches)(has.missing(needs))
    }

    #[track_caller]
    fn index_of<Q>(&self, key: &Q) -> usize
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.keys.iter().position(|own| key.equivalent(own));
        index.expect("a transaction reads and writes only the keys it was given")
    }

    fn stored(&self, index: usize) -> Option<&V> {
        let (set, way) = self.way(index)?;
        let entry = self.locks[set].entry(way);
        self.engine
            .is_live(entry.deadline())
            .then_some(&entry.value)
    }

    /// The labels that an entry stored under a key will have.
    fn labels(&self, index: usize) -> Labels {
        match self.way(index).filter(|_| self.stored(index).is_some()) {
            Some((set, way)) => self.locks[set].labels(way).clone(),
            None => self.engine.with_group(&self.keys[index], Labels::NONE),
        }
    }

    fn way(&self, index: usize) -> Option<(usize, usize)> {
        if self.locks.is_empty() {
            return None;
        }
        let set = set_of(self.locks, self.hashes[index]);
        Some((
            set,
            self.locks[set].find(self.hashes[index], &self.keys[index])?,
        ))
    }
}

fn set_of<K, V>(locks: &[Locked<'_, K, V>], hash: KeyHash) -> usize {
    let of_hash = |set: &Locked<'_, K, V>| set.route(hash, set.index()).is_none();
    locks
        .iter()
        .position(of_hash)
        .expect("the sets of all keys are locked")
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Gives up verdicts for as many entries, or all where it is not known how much they take up.
    fn forget_for_transaction(&self, entries: u64) {
        let (need, mut work) = (Room { entries, weight: 0 }, self.work());
        let knows_need = self.budget.counts_entries_only();
        if !(knows_need && work.held.reaches(need)) {
            self.forget_for(None, &mut work, |held| knows_need && held.reaches(need));
        }
    }

    /// Runs `f` with the sets of all keys locked, and applies what it did if it returns `Ok`.
    pub(crate) fn transaction<R, E>(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        if !reentrancy::check() {
            return self.rehearse(keys, hashes, f);
        }
        if self.policy.on_full == OnFull::Reject {
            // With the locks held it is too late to clear what has expired or fallen, or to forget
            // what their own sets remember. What is forgotten is room for everybody: to keep it would
            // refuse others for as long as `f` runs, which may not even need it.
            self.sweep_for_room();
            self.forget_for_transaction(keys.len() as u64);
        }
        // Declared before the locks, so dropped after them: all that may run code of the user's.
        let mut work = self.work();
        let is_admitted = self.admit(RECORD * keys.len(), &mut work);
        let mut staged: Vec<_> = keys.iter().map(|_| Staged::Untouched).collect();
        let mut overwritten = Vec::new();
        let mut changes = Vec::with_capacity(keys.len());
        let owned = keys.to_vec();
        let inside =
            reentrancy::enter().expect("no transaction starts while a closure of a cache unwinds");
        let mut locks = self.table.lock_all(&inside, hashes);
        // What `f` makes is made from what is there now. It sees one moment: what falls while it
        // runs is there for it, and what it makes of that falls with it.
        let epoch = self.register.latest();
        if epoch > 0 {
            self.remove_fallen(keys, hashes, &mut locks, &mut work);
        }
        let result = {
            let mut reaches = |need| self.reaches_or_forgets(need, None, &mut work);
            f(&mut Transaction {
                engine: self,
                keys,
                hashes,
                locks: &locks,
                staged: &mut staged,
                overwritten: &mut overwritten,
                reaches: &mut reaches,
            })?
        };
        self.clear_expired_in(&mut locks, &mut work);
        let hashes = hashes.iter().copied().zip(staged);
        self.prepare(owned, hashes, epoch, &mut locks, &mut changes, &mut work);
        if !is_admitted || !self.record_ahead(&changes, &locks, &mut work) {
            // Why is known to the recorder, whose face asks it.
            discard(changes, &mut work);
            return Ok(result);
        }
        self.apply(changes, &mut locks, &mut work);
        drop(locks);
        self.have_swept();
        Ok(result)
    }

    /// Removes what has fallen of the keys of a transaction.
    fn remove_fallen(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        locks: &mut [Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) {
        for (key, hash) in keys.iter().zip(hashes) {
            let set = set_of(locks, *hash);
            let locked = &mut locks[set];
            if let Some(way) = locked.find(*hash, key)
                && self.has_fallen(locked, way, locked.entry(way))
            {
                self.take_out_fallen(locked, way, work);
            }
        }
    }

    /// Clears what has expired in the sets of a transaction, so that it makes room before anything
    /// that lives has to.
    fn clear_expired_in(&self, locks: &mut [Locked<'_, K, V>], work: &mut Work<'_, K, V>) {
        for set in locks {
            if work.moment.has_passed(set.hint()) {
                self.clear_expired(set, self.clock.now(), work);
            }
        }
    }

    /// Runs `f` on nothing and forgets what it did: the thread unwinds out of a closure of a cache,
    /// where no lock can be taken, and a second panic would abort the process.
    fn rehearse<R, E>(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut staged: Vec<_> = keys.iter().map(|_| Staged::Untouched).collect();
        let mut overwritten = Vec::new();
        let mut held = Held::nothing(&self.budget);
        f(&mut Transaction {
            engine: self,
            keys,
            hashes,
            locks: &[],
            staged: &mut staged,
            overwritten: &mut overwritten,
            reaches: &mut |need| held.reaches(need),
        })
    }

    /// Everything of the commit that may run code of the user's, so may panic: no value is changed
    /// yet, though loads of the keys are overtaken.
    fn prepare(
        &self,
        keys: Vec<K>,
        staged: impl Iterator<Item = (KeyHash, Staged<V>)>,
        epoch: u64,
        locks: &mut [Locked<'_, K, V>],
        changes: &mut Vec<Change<K, V>>,
        work: &mut Work<'_, K, V>,
    ) {
        for (key, (hash, staged)) in keys.into_iter().zip(staged) {
            let set = set_of(locks, hash);
            let locked = &mut locks[set];
            let (value, life, weight) = match staged {
                Staged::Untouched => continue,
                Staged::Removed => {
                    let live = self.find_unexpired(locked, hash, &key, work);
                    self.overtake(locked, hash, &key, work);
                    changes.extend(live.map(|way| Change::Remove { set, way }));
                    work.outbox.discard_key(key);
                    continue;
                }
                Staged::Put(value, life, weight) => (value, life, weight),
            };
            let live = self.find_unexpired(locked, hash, &key, work);
            let given = Given::new(self.labels_kept(locked, live, &key), epoch);
            let pending = Pending {
                hash,
                key,
                value,
                weight,
            };
            let deadlines = self.deadlines(locked, &pending, live, life, &work.moment);
            self.overtake(locked, hash, &pending.key, work);
            changes.push(Change::Store {
                set,
                live,
                pending,
                given,
                deadlines,
            });
        }
    }

    /// Records all changes as one, before any of them is applied; whether they may be.
    fn record_ahead(
        &self,
        changes: &[Change<K, V>],
        locks: &[Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) -> bool {
        if work.recording.is_none() || changes.is_empty() {
            return true;
        }
        let mut encoded = Vec::with_capacity(changes.len());
        for change in changes {
            if let Change::Store { pending, .. } = change
                && !self.encode(&pending.key, &pending.value, work)
            {
                return false;
            }
            encoded.push(
                work.recording
                    .as_mut()
                    .and_then(|recording| recording.entry.take()),
            );
        }
        if let Some(recording) = &mut work.recording
            && !recording.check(&mut encoded)
        {
            return false;
        }
        let records: Vec<_> = changes
            .iter()
            .zip(&encoded)
            .map(|(change, encoded)| change.record(locks, encoded.as_ref()))
            .collect();
        if let Some(recording) = &mut work.recording {
            recording.note(&records);
            recording.is_ahead = true;
        }
        true
    }

    /// Applies all changes. What finds no room even now leaves as if evicted at once: a cache may
    /// evict at any time, but it never keeps the value that was to be overwritten.
    fn apply(
        &self,
        changes: Vec<Change<K, V>>,
        locks: &mut [Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) {
        // Removals first, for the room they leave. None of the entries concerned may be evicted
        // for another before all is done.
        let (removals, stores): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| matches!(change, Change::Remove { .. }));
        let mut pinned: Vec<_> = stores.iter().filter_map(Change::place).collect();
        for (set, way) in &pinned {
            locks[*set].entry_mut(*way).pin();
        }
        for change in removals.into_iter().chain(stores) {
            match change {
                Change::Remove { set, way } if work.is_recorded() => {
                    self.let_out(&mut locks[set], way, RemovalCause::Explicit, work)
                }
                Change::Remove { set, way } => {
                    self.take_out(&mut locks[set], way, RemovalCause::Explicit, work)
                }
                Change::Store {
                    set,
                    live,
                    pending,
                    given,
                    deadlines,
                } => {
                    work.given = given;
                    if deadlines.effective != PASSED {
                        let need = self.need(&locks[set], pending.weight, live);
                        self.make_room_among(locks, set, need, work);
                    }
                    let locked = &mut locks[set];
                    let stored = self.store(locked, pending, live, deadlines, Patience::Some, work);
                    let placed = settle(stored, live, work);
                    if let Some(entry) = placed.and_then(|way| locked.get_mut(way)) {
                        entry.pin();
                        pinned.extend(placed.map(|way| (set, way)));
                    }
                }
            }
        }
        for (set, way) in pinned {
            if let Some(entry) = locks[set].get_mut(way) {
                entry.unpin();
            }
        }
    }
}

/// One change of a transaction, ready to be made.
enum Change<K, V> {
    Remove {
        set: usize,
        way: usize,
    },
    Store {
        set: usize,
        live: Option<usize>,
        pending: Pending<K, V>,
        given: Option<Box<Given>>,
        deadlines: Deadlines,
    },
}

impl<K, V> Change<K, V> {
    /// The change as it is recorded.
    fn record<'a>(
        &'a self,
        locks: &'a [Locked<'_, K, V>],
        encoded: Option<&'a Encoded>,
    ) -> record::Change<'a, K> {
        match (self, encoded) {
            (Self::Remove { set, way }, _) => record::Change::Delete(&locks[*set].entry(*way).key),
            (Self::Store { pending, .. }, None) => record::Change::Delete(&pending.key),
            (
                Self::Store {
                    pending, deadlines, ..
                },
                Some(_),
            ) if deadlines.effective == PASSED => record::Change::Delete(&pending.key),
            (
                Self::Store {
                    set,
                    live,
                    pending,
                    given,
                    deadlines,
                },
                Some(encoded),
            ) => {
                let (labels, epoch) = match given {
                    Some(given) => (&given.labels, given.epoch),
                    None => (&Labels::NONE, 0),
                };
                let heat = live.map_or(0, |way| locks[*set].entry(way).heat());
                let weight = pending.weight;
                let life = deadlines.life();
                let meta = Meta {
                    life,
                    weight,
                    labels,
                    epoch,
                    heat,
                };
                record::Change::Put(encoded, meta)
            }
        }
    }

    /// The entry that is there already.
    fn place(&self) -> Option<(usize, usize)> {
        match self {
            Self::Remove { .. } => None,
            Self::Store { set, live, .. } => live.map(|way| (*set, way)),
        }
    }
}

/// Puts aside what is not applied after all.
#[cold]
fn discard<K, V>(changes: Vec<Change<K, V>>, work: &mut Work<'_, K, V>) {
    for change in changes {
        if let Change::Store { pending, .. } = change {
            work.outbox.discard(pending.key, pending.value);
        }
    }
}

/// Puts aside what a store left over; the way that holds the new value, if any does.
fn settle<K, V>(
    stored: Stored<K, V>,
    live: Option<usize>,
    work: &mut Work<'_, K, V>,
) -> Option<usize> {
    match stored {
        Stored::Inserted(way) => way,
        Stored::Replaced(old) => {
            work.outbox.discard_value(old);
            live
        }
        Stored::Kept(value) | Stored::Refused(value) => {
            work.outbox.discard_value(value);
            None
        }
        Stored::Again(pending, _) => {
            work.outbox.discard(pending.key, pending.value);
            None
        }
    }
}
