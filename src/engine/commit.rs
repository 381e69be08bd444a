//! The commit of a transaction: what was staged becomes changes, which are recorded as one and then
//! made.
//!
//! Whatever may panic comes first, and whatever may be refused comes before anything is changed. So
//! a commit that has begun to change entries is done whole.

use super::Engine;
use super::budget::Room;
use super::policy::{Deadlines, PASSED};
use super::record::{self, Encoded, Meta};
use super::room::Work;
use super::transaction::Staged;
use super::ttl::{deadline_of, moved};
use super::write::{Patience, Pending, Stored};
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::labels::{Given, Labels};
use crate::table::Locked;
use std::hash::Hash;
use std::iter::Peekable;
use std::mem;

/// One change of a transaction, ready to be made.
pub(super) enum Change<K, V> {
    /// The entry in this way of one of the sets, and why it goes.
    Remove(usize, usize, RemovalCause),
    /// The entry stays, with other deadlines.
    Keep(usize, usize, Deadlines),
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
            (Self::Remove(set, way, _), _) => record::Change::Delete(&locks[*set].entry(*way).key),
            (Self::Keep(set, way, deadlines), _) => {
                record::Change::Deadline(&locks[*set].entry(*way).key, deadlines.life())
            }
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

    /// The entry that is there already, of what is stored.
    fn place(&self) -> Option<(usize, usize)> {
        match self {
            Self::Remove(..) | Self::Keep(..) => None,
            Self::Store { set, live, .. } => live.map(|way| (*set, way)),
        }
    }
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Everything of the commit that may run code of the user's, so may panic: no value is changed
    /// yet, though loads of the keys are overtaken.
    pub(super) fn prepare(
        &self,
        staged: &mut Peekable<impl Iterator<Item = (K, Staged<V>)>>,
        places: impl Iterator<Item = (KeyHash, usize)>,
        (now, epoch): (u64, u64),
        locks: &mut [Locked<'_, K, V>],
        changes: &mut Vec<Change<K, V>>,
        work: &mut Work<'_, K, V>,
    ) {
        for (hash, set) in places {
            let (locked, mut put) = (&mut locks[set], None);
            if let Some((key, staged)) = staged.peek()
                && !matches!(staged, Staged::Untouched)
            {
                let live = self.find_at(now, locked, (hash, key), work);
                self.overtake(locked, hash, key, work);
                if let Staged::Put {
                    value,
                    life,
                    is_new,
                    ..
                } = staged
                {
                    let replaced = live.filter(|_| !is_new);
                    let given = Given::new(self.labels_kept(locked, replaced, key), epoch);
                    let entry = (key, value);
                    let deadlines = self.deadlines(locked, entry, replaced, *life, &work.moment);
                    put = Some((live, given, deadlines));
                } else {
                    changes.extend(live.map(|way| match staged {
                        Staged::Kept(life) => {
                            let hard = deadline_of(*life, &work.moment);
                            kept(moved(locked, way, hard), (set, way), now)
                        }
                        _ => Change::Remove(set, way, RemovalCause::Explicit),
                    }));
                }
            }
            // Taken out of its place now that no code of the user's runs: who holds the locks has
            // declared that before them.
            match (staged.next(), put) {
                (
                    Some((key, Staged::Put { value, weight, .. })),
                    Some((live, given, deadlines)),
                ) => {
                    let pending = Pending {
                        hash,
                        key,
                        value,
                        weight,
                    };
                    changes.push(Change::Store {
                        set,
                        live,
                        pending,
                        given,
                        deadlines,
                    });
                }
                (next, _) => next
                    .into_iter()
                    .for_each(|(key, _)| work.outbox.discard_key(key)),
            }
        }
    }

    /// The way of an entry that lived at `now`. One that did not is removed on the way.
    fn find_at(
        &self,
        now: u64,
        set: &mut Locked<'_, K, V>,
        (hash, key): (KeyHash, &K),
        work: &mut Work<'_, K, V>,
    ) -> Option<usize> {
        let way = set.find(hash, key)?;
        if set.entry(way).deadline() > now {
            return Some(way);
        }
        self.take_out(set, way, RemovalCause::Expired, work);
        None
    }

    /// Makes the changes, if they were admitted to the log and can be recorded. They are left in
    /// their place for as long as code of the user's may run, which may panic: who holds the locks
    /// drops them later.
    pub(super) fn commit(
        &self,
        is_admitted: bool,
        changes: &mut Vec<Change<K, V>>,
        locks: &mut [Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) {
        if changes.is_empty() {
            // It was a read, of which the log has nothing.
            work.take_back_refusal();
        } else if is_admitted && self.record_ahead(changes, locks, work) {
            self.apply(mem::take(changes), locks, work);
        } else {
            // Why is known to the recorder, whose face asks it.
            discard(mem::take(changes), work);
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
            if !recording.note(&records) {
                return false;
            }
            recording.is_ahead = true;
        }
        true
    }

    /// When a change is applied: what leaves room before what takes it, since all of them together
    /// may have no more than that.
    fn turn(&self, change: &Change<K, V>, locks: &[Locked<'_, K, V>]) -> Turn {
        match change {
            // What only gets other deadlines, too, while it is there.
            Change::Remove(..) | Change::Keep(..) => Turn::Clears,
            Change::Store { deadlines, .. } if deadlines.effective == PASSED => Turn::Shrinks,
            Change::Store {
                set, live, pending, ..
            } => match self.need(&locks[*set], pending.weight, *live) {
                Room::NONE => Turn::Shrinks,
                _ => Turn::Grows,
            },
        }
    }

    /// Applies all changes. What finds no room even now leaves as if evicted at once: a cache may
    /// evict at any time, but it never keeps the value that was to be overwritten.
    fn apply(
        &self,
        mut changes: Vec<Change<K, V>>,
        locks: &mut [Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) {
        changes.sort_by_key(|change| self.turn(change, locks));
        // None of the entries that are stored may be evicted for another before all is done.
        let mut pinned: Vec<_> = changes.iter().filter_map(Change::place).collect();
        for (set, way) in &pinned {
            locks[*set].entry_mut(*way).pin();
        }
        for change in changes {
            match change {
                Change::Remove(set, way, cause) if work.is_recorded() => {
                    self.let_out(&mut locks[set], way, cause, work)
                }
                Change::Remove(set, way, cause) => self.take_out(&mut locks[set], way, cause, work),
                Change::Keep(set, way, deadlines) => {
                    self.set_deadlines(&mut locks[set], way, deadlines)
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

/// The order in which changes are applied.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Clears,
    /// Takes no more room than what was stored under its key.
    Shrinks,
    Grows,
}

/// The change of an entry whose value stays, with the deadlines that it gets.
fn kept<K, V>(deadlines: Deadlines, (set, way): (usize, usize), now: u64) -> Change<K, V> {
    if deadlines.effective <= now {
        Change::Remove(set, way, RemovalCause::Expired)
    } else {
        Change::Keep(set, way, deadlines)
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
