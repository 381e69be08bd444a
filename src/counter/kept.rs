//! Counters that survive a restart: the counts are values of a store, written together from time to
//! time, however often they change in between.
//!
//! A flush looks at the parts in which something was counted since the last one, adds up the
//! stripes, and writes the totals that differ from the store's. A count that comes while it looks
//! marks its part again, so it is in the next flush at the latest.

use super::{SHARDS, State, Total, shard_of};
use crate::DefaultHashBuilder;
use crate::persist::{CommitError, Journal, Store, WriteError};
use crate::reentrancy;
use crate::sync::Mutex;
use crate::time::{Clock, Parker, after};
use hashtable::HashTable;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread;
use std::time::Duration;

/// Why a flush did not get everything to where it is safe. What was not written is tried again by
/// the next one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FlushError {
    /// A count could not be written.
    Write(WriteError),
    /// All was written, but it is not known whether it would survive.
    Commit(CommitError),
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FlushError {}

/// What counters need of where they are kept. They know nothing of how keys are encoded.
pub(super) trait Keep<K>: Send + Sync {
    /// The count of a key was taken.
    fn took(&self, key: &K);

    /// Writes down what has changed. Whether it waits until that is safe is for the caller to say.
    fn flush(&self, state: &State<K>, waits: bool) -> Result<(), FlushError>;

    fn journal(&self) -> &Journal;
}

pub(super) struct Kept<K> {
    store: Store<K, i64>,
    /// One flush at a time; whether the last one failed, so that the next has to look at everything.
    failed: Mutex<bool>,
    taken: Mutex<Vec<K>>,
    /// Of the thread that flushes.
    parker: Arc<Parker>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Kept<K> {
    /// Has the counts of a store in the stripes of counters that nobody has seen yet, and theirs in
    /// the store from now on.
    pub(super) fn restore(store: Store<K, i64>, state: &mut State<K>) -> Arc<Parker> {
        for (key, count) in &store {
            let hash = state.hasher.hash_one(&key);
            let stripe = state.stripes[0].get_or_init(super::new_stripe);
            let unused = stripe[shard_of(hash)].insert(state, hash, key, count, None);
            drop(unused);
        }
        let parker = Arc::default();
        state.kept = Some(Box::new(Self {
            store,
            failed: Mutex::new(false),
            taken: Mutex::default(),
            parker: Arc::clone(&parker),
        }));
        parker
    }

    fn write(&self, state: &State<K>, everything: bool) -> Result<Option<u64>, WriteError> {
        let mut last = None;
        for number in 0..SHARDS {
            let changed = state.shards(number).filter(|shard| shard.take_changed());
            // All marks have to be taken back before the first look.
            if changed.count() == 0 && !everything {
                continue;
            }
            let mut totals: HashTable<Total<K>> = HashTable::new();
            for shard in state.shards(number) {
                shard.add_to(&mut totals, &state.clock);
            }
            for Total(_, key, count) in totals {
                if self.store.peek(&key) != Some(count) {
                    last = Some(self.store.insert(key, count)?.seq());
                }
            }
        }
        Ok(last)
    }

    /// Removes what was taken and not counted again. What was is marked, and in the next flush.
    fn remove(&self, state: &State<K>, taken: &[K]) -> Result<Option<u64>, WriteError> {
        let mut last = None;
        for key in taken {
            if state.count_of(key) == 0 {
                last = Some(self.store.remove(key)?.seq());
            }
        }
        Ok(last)
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Keep<K> for Kept<K> {
    fn took(&self, key: &K) {
        let key = key.clone();
        self.taken.lock().push(key);
    }

    fn flush(&self, state: &State<K>, waits: bool) -> Result<(), FlushError> {
        let mut failed = self.failed.lock();
        let taken = mem::take(&mut *self.taken.lock());
        let written = self.write(state, *failed);
        let written = written.and_then(|last| Ok(self.remove(state, &taken)?.or(last)));
        *failed = written.is_err();
        if written.is_err() {
            self.taken.lock().extend(taken);
        }
        drop(failed);
        let last = written.map_err(FlushError::Write)?;
        if waits && last.is_some() {
            let commit = self.store.insert_many([]).map_err(FlushError::Write)?;
            commit.wait().map_err(FlushError::Commit)?;
        }
        Ok(())
    }

    fn journal(&self) -> &Journal {
        self.store.journal()
    }
}

impl<K> Drop for Kept<K> {
    fn drop(&mut self) {
        // The thread finds that there is nothing to flush any more.
        Waker::from(Arc::clone(&self.parker)).wake();
    }
}

/// Has counters flushed every `interval` by a thread of their own, until they are dropped: what
/// encodes keys is code of the user's, and a disk may be slow, which the keeper's other work must not
/// suffer from.
pub(super) fn flush_every<K: Send + Sync + 'static>(
    interval: Duration,
    clock: Clock,
    state: Weak<State<K>>,
    parker: Arc<Parker>,
) -> std::io::Result<()> {
    let run = move || {
        loop {
            let until = after(clock.now(), interval);
            while !clock.has_passed(until) {
                if state.strong_count() == 0 {
                    return;
                }
                parker.park(&clock, until);
            }
            let Some(state) = state.upgrade() else { return };
            if let Some(kept) = &state.kept {
                // `Serialize` of a key may panic, and health() tells of the rest.
                let flush = std::panic::AssertUnwindSafe(|| kept.flush(&state, false));
                let _ = std::panic::catch_unwind(flush);
            }
        }
    };
    let thread = thread::Builder::new().name("haybox-counters".into());
    thread.spawn(run).map(drop)
}

impl<K> Drop for State<K> {
    fn drop(&mut self) {
        // Under a lock of a cache nothing can be written; the last interval is lost then.
        if let Some(kept) = self.kept.take()
            && !reentrancy::is_inside()
        {
            let _ = kept.flush(self, false);
        }
    }
}

impl<K: Hash + Eq> State<K> {
    /// The count of a key of counters without lives.
    fn count_of(&self, key: &K) -> i64 {
        let hash = DefaultHashBuilder::hash_one(&self.hasher, key);
        let shards = self.shards(shard_of(hash));
        let counts = shards.map(|shard| shard.look(hash, key, None, |cell| cell.count));
        counts.fold(0, i64::wrapping_add)
    }
}
