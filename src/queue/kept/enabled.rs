//! Queues whose messages are records of a store: one for each, written when it is pushed, comes back
//! or dies, and removed when it is done.
//!
//! It is called under the lock of the queue, so that the records of a message are written in the
//! order in which it changed. The store's own locks are taken after that, never before: a call from
//! inside a closure that runs under one of them panics.

use super::record::Record;
use crate::persist::{Commit, CommitError, Journal, Store, WriteError};
use crate::queue::message::Entry;
use crate::reentrancy;
use crate::sync::thread_cell;
use crate::time::Clock;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

// Whether this thread encodes a message under the lock of a queue.
thread_cell!(KEEPING: bool = false);

#[derive(Debug)]
pub(in crate::queue) struct Kept<T>(Option<Records<T>>);

#[derive(Debug)]
struct Records<T> {
    store: Store<u64, Record<T>>,
    clock: Clock,
    /// Messages that are done, and whose records could not be removed: that is tried again.
    undead: BTreeSet<u64>,
    /// Numbers below this may be used without another word: a restart goes on from here.
    reserved: u64,
}

/// Why a message was not written, and why it is not known whether it was.
pub(in crate::queue) type NotKept = WriteError;
pub(in crate::queue) type NotSure = CommitError;

/// What is to be waited for before a push is acknowledged.
pub(in crate::queue) type Pending = Option<Commit<()>>;

/// Message numbers that one record reserves. A restart skips as many at most.
const BLOCK: u64 = 10_000;

/// The record that says which numbers are reserved. Messages are numbered from 1.
const MARK: u64 = 0;

impl<T> Kept<T> {
    pub(in crate::queue) fn nowhere() -> Self {
        Self(None)
    }

    /// Goes on with what a store has, and gives out its messages: with where they were, the lowest
    /// number first, and the number of the next.
    pub(in crate::queue) fn recover(
        store: Store<u64, Record<T>>,
        clock: Clock,
    ) -> (Self, Vec<(Entry<T>, bool)>, u64) {
        let mut records: Vec<_> = store.iter().collect();
        records.sort_unstable_by_key(|(id, _)| *id);
        let now = (clock.now(), clock.system_time());
        let next = records.iter().map(|(id, record)| match record {
            Record::Reserved(next) => *next,
            Record::Message(_) => id + 1,
        });
        let next = next.max().unwrap_or(1);
        let entries = records.into_iter();
        let entries = entries.filter_map(|(id, record)| record.into_entry(id, now));
        let entries = entries.collect();
        let kept = Records {
            store,
            clock,
            undead: BTreeSet::new(),
            reserved: 0,
        };
        (Self(Some(kept)), entries, next)
    }

    pub(in crate::queue) fn journal(&self) -> Option<&Journal> {
        self.0.as_ref().map(|records| records.store.journal())
    }

    /// Makes sure that no restart gives a number of below `id` to another message. Where the disk
    /// fails it is tried again with the next message.
    #[inline]
    pub(in crate::queue) fn reserve(&mut self, id: u64) {
        if let Some(records) = self.0.as_mut().filter(|records| id >= records.reserved) {
            let next = id.saturating_add(BLOCK);
            if records.store.insert(MARK, Record::Reserved(next)).is_ok() {
                records.reserved = next;
            }
        }
    }

    /// Writes a message as it is now.
    #[inline]
    pub(in crate::queue) fn put(
        &mut self,
        entry: &Entry<T>,
        is_dead: bool,
        now: u64,
    ) -> Result<Pending, NotKept> {
        match &mut self.0 {
            None => Ok(None),
            Some(records) => records.put(entry, is_dead, now).map(Some),
        }
    }

    /// A message is done. If that cannot be written it is tried again after the next one; a restart
    /// before that hands the message out again.
    #[inline]
    pub(in crate::queue) fn remove(&mut self, id: u64) {
        if let Some(records) = &mut self.0 {
            records.remove(id);
        }
    }
}

impl<T> Records<T> {
    fn put(&mut self, entry: &Entry<T>, is_dead: bool, now: u64) -> Result<Commit<()>, WriteError> {
        let wall = self.clock.system_time();
        let record = Record::of(entry, is_dead, now, wall);
        let was_keeping = KEEPING.with(|keeping| keeping.replace(true));
        // `Serialize` is code of the user's, and a message must not get lost between two places.
        let insert = AssertUnwindSafe(|| self.store.insert(entry.id, record));
        let inserted = catch_unwind(insert);
        KEEPING.with(|keeping| keeping.set(was_keeping));
        match inserted {
            Ok(inserted) => Ok(inserted?.map(drop)),
            Err(_) => Err(WriteError::Encode("Serialize panicked".into())),
        }
    }

    fn remove(&mut self, id: u64) {
        if self.store.remove(&id).is_err() {
            self.undead.insert(id);
        } else if let Some(id) = self.undead.pop_first() {
            self.remove(id);
        }
    }
}

/// # Panics
/// If the thread holds the lock of a queue or of a set, with a sentence that says so.
#[inline]
pub(in crate::queue) fn check(is_kept: bool) {
    if is_kept {
        reentrancy::check();
        let is_keeping = KEEPING.with(std::cell::Cell::get);
        assert!(
            !is_keeping || std::thread::panicking(),
            "a queue was called from inside the Serialize of a message, which it runs under its lock"
        );
    }
}

/// Whether a destructor had better leave the queue alone: a panic goes through code that runs under
/// a lock, and another one would end the process.
pub(in crate::queue) fn is_off_limits(is_kept: bool) -> bool {
    is_kept && (reentrancy::is_inside() || KEEPING.with(std::cell::Cell::get))
}

#[inline]
pub(in crate::queue) fn wait(pending: Pending) -> Result<(), CommitError> {
    pending.map_or(Ok(()), Commit::wait)
}

pub(in crate::queue) async fn wait_async(pending: Pending) -> Result<(), CommitError> {
    match pending {
        None => Ok(()),
        Some(commit) => commit.await,
    }
}
