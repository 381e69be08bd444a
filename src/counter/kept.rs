//! Counters that survive a restart: the counts are values of a store, written together from time to
//! time, however often they change in between.
//!
//! A flush looks at the parts in which something was counted since the last one, adds up the
//! stripes, and writes the totals that differ from the store's. A count that comes while it looks
//! marks its part again, so it is in the next flush at the latest.
//!
//! Copying and encoding a key is code of the user's. One key that fails in it keeps no other from
//! being written.

use super::{SHARDS, State, Total, shard_of};
use crate::busy::{Busy, is_busy_with};
use crate::contain::contain;
use crate::persist::{CommitError, Journal, Store, WriteError};
use crate::reentrancy;
use crate::sync::Mutex;
use crate::time::{Clock, Parker, after};
use hashtable::HashTable;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Why a flush did not get everything to where it is safe. What was not written is tried again by
/// the next one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FlushError {
    /// A count could not be written: the first of those. Where it is the key that cannot be
    /// encoded, all others were written.
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

impl std::error::Error for FlushError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write(error) => error.source(),
            Self::Commit(error) => error.source(),
        }
    }
}

/// What counters need of where they are kept. They know nothing of how keys are encoded.
pub(super) trait Keep<K>: Send + Sync {
    /// The count of a key was taken.
    fn took(&self, hash: u64, key: &K);

    /// Writes down what has changed. Whether it waits until that is safe is for the caller to say.
    fn flush(&self, state: &State<K>, waits: bool) -> Result<(), FlushError>;

    /// The files, which have all that was counted before they are synced, copied or closed.
    fn journal(&self, state: &Arc<State<K>>) -> &Journal;

    /// Writes down what has changed, also where the log has no room for it: nothing is left that could
    /// be written later, or a copy is made of what there is.
    fn gather(&self, state: &State<K>) -> Result<(), WriteError>;

    /// There is another public handle.
    fn enter(&self);

    /// A public handle is dropped. The last one ends the thread that flushes and gathers what is left,
    /// so that who drops it knows that all is written.
    fn leave(&self, state: &Arc<State<K>>);

    /// A thread flushes from now on.
    fn is_flushed_by(&self, flusher: Flusher<K>);
}

pub(super) struct Kept<K> {
    store: Store<K, i64>,
    /// One flush at a time; whether the last one failed, so that the next has to look at
    /// everything.
    failed: Mutex<bool>,
    taken: Mutex<Taken<K>>,
    /// The public handles. The thread that flushes holds another now and then.
    handles: AtomicUsize,
    flusher: Mutex<Option<Flusher<K>>>,
    /// As its users see it.
    journal: OnceLock<Journal>,
}

/// The thread that flushes.
pub(super) struct Flusher<K> {
    thread: JoinHandle<()>,
    stop: Arc<Stop<K>>,
}

struct Stop<K> {
    is_set: AtomicBool,
    /// Counters that are left to it, since their last handle was dropped where nothing can be
    /// written.
    left: Mutex<Option<Arc<State<K>>>>,
    parker: Arc<Parker>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Kept<K> {
    /// Has the counts of a store in the stripes of counters that nobody has seen yet, and theirs in
    /// the store from now on.
    pub(super) fn restore(store: Store<K, i64>, state: &mut State<K>, hasher: &impl BuildHasher) {
        for (key, count) in &store {
            let hash = hasher.hash_one(&key);
            let stripe = state.stripes[0].get_or_init(super::new_stripe);
            let unused = stripe[shard_of(hash)].insert(state, hash, key, count, None);
            drop(unused);
        }
        state.kept = Some(Box::new(Self {
            store,
            failed: Mutex::new(false),
            taken: Mutex::default(),
            handles: AtomicUsize::new(1),
            flusher: Mutex::default(),
            journal: OnceLock::new(),
        }));
    }

    /// Writes what has changed, as far as the log takes it.
    fn pass(&self, state: &State<K>) -> Problems {
        let mut failed = self.failed.lock();
        // Until it is known that nothing went wrong, whatever a key may do.
        let everything = mem::replace(&mut *failed, true);
        let mut taken = Lent {
            home: &self.taken,
            keys: mem::take(&mut *self.taken.lock()),
        };
        let mut problems = Problems::default();
        self.write(state, everything, &mut problems);
        self.settle(state, &mut taken.keys, &mut problems);
        drop(taken);
        *failed = problems.first.is_some();
        problems
    }

    fn write(&self, state: &State<K>, everything: bool, problems: &mut Problems) {
        for number in 0..SHARDS {
            if problems.is_over {
                return;
            }
            let changed = state.shards(number).filter(|shard| shard.take_changed());
            // All marks have to be taken back before the first look.
            if changed.count() == 0 && !everything {
                continue;
            }
            let totals = problems.none_in(|| Ok(totals_of(state, number)));
            for Total(_, key, count) in totals.into_iter().flatten() {
                problems.none_in(|| self.put(key, count));
            }
        }
    }

    fn put(&self, key: K, count: i64) -> Result<(), WriteError> {
        if self.store.peek(&key) != Some(count) {
            let _ = self.store.insert(key, count)?;
        }
        Ok(())
    }

    /// Has the store say of what was taken what has come in since then: mostly nothing, and then it
    /// is removed.
    fn settle(&self, state: &State<K>, taken: &mut Taken<K>, problems: &mut Problems) {
        taken.0.retain(|(hash, key)| {
            let settled = problems.none_in(|| self.settle_one(state, *hash, key));
            settled.is_none()
        });
    }

    /// A key that was counted again is not left to the next flush: until then the store would have
    /// the count that is in the hands of who took it.
    fn settle_one(&self, state: &State<K>, hash: u64, key: &K) -> Result<(), WriteError> {
        let count = state.count_of(hash, key);
        if count != 0 {
            return self.put(key.clone(), count);
        }
        if self.store.contains_key(key) {
            let _ = self.store.remove(key)?;
        }
        Ok(())
    }
}

fn totals_of<K: Clone + Eq>(state: &State<K>, number: usize) -> HashTable<Total<K>> {
    let mut totals = HashTable::new();
    for shard in state.shards(number) {
        shard.add_to(&mut totals, &state.clock);
    }
    totals
}

/// What went wrong in a flush.
#[derive(Default)]
struct Problems {
    first: Option<WriteError>,
    /// Nothing more can be written, whatever the key.
    is_over: bool,
}

impl Problems {
    /// Takes a step if there is use in one; `None` if it failed, also by a panic.
    fn none_in<T>(&mut self, step: impl FnOnce() -> Result<T, WriteError>) -> Option<T> {
        if self.is_over {
            return None;
        }
        let done = contain(step);
        let done = done.unwrap_or_else(|| Err(WriteError::Encode("a key panicked".into())));
        let error = match done {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        let is_of_the_key = matches!(error, WriteError::Encode(_) | WriteError::TooLarge { .. });
        self.is_over = !is_of_the_key;
        self.first.get_or_insert(error);
        None
    }
}

/// Keys whose counts were taken, with their hashes: each once, however long nothing can be written.
struct Taken<K>(HashTable<(u64, K)>);

impl<K> Default for Taken<K> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<K: Eq> Taken<K> {
    /// Notes a key, or gives it back where it is noted already.
    fn note(&mut self, hash: u64, key: K) -> Option<K> {
        if self.0.find(hash, |(_, own)| *own == key).is_some() {
            return Some(key);
        }
        self.0.insert_unique(hash, (hash, key), |(hash, _)| *hash);
        None
    }
}

/// Keys that go back to the others unless their flush has dealt with them.
struct Lent<'k, K: Eq> {
    home: &'k Mutex<Taken<K>>,
    keys: Taken<K>,
}

impl<K: Eq> Drop for Lent<'_, K> {
    fn drop(&mut self) {
        let keys = mem::take(&mut self.keys);
        let inside = reentrancy::enter();
        let mut home = self.home.lock();
        let note = |(hash, key)| contain(|| home.note(hash, key)).flatten();
        let known: Vec<K> = keys.0.into_iter().filter_map(note).collect();
        drop(home);
        drop(inside);
        drop(known);
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Keep<K> for Kept<K> {
    fn took(&self, hash: u64, key: &K) {
        let key = key.clone();
        let inside = reentrancy::enter();
        let known = self.taken.lock().note(hash, key);
        drop(inside);
        drop(known);
    }

    fn flush(&self, state: &State<K>, waits: bool) -> Result<(), FlushError> {
        if is_busy_with(self) {
            assert!(
                thread::panicking(),
                "counters were flushed by a key that they are flushing: from its Serialize, Clone or Drop"
            );
            return Ok(());
        }
        let _busy = Busy::with(self);
        let problems = self.pass(state);
        if waits {
            // Also for what an earlier flush has written and not waited for.
            let commit = self.store.insert_many([]).map_err(FlushError::Write)?;
            commit.wait().map_err(FlushError::Commit)?;
        }
        problems
            .first
            .map_or(Ok(()), |first| Err(FlushError::Write(first)))
    }

    fn journal(&self, state: &Arc<State<K>>) -> &Journal {
        self.journal.get_or_init(|| {
            let counted = Arc::downgrade(state);
            let gather = move || match counted.upgrade() {
                Some(state) => {
                    let kept = state.kept.as_ref();
                    kept.map_or(Ok(()), |kept| kept.gather(&state))
                }
                // The last handle has.
                None => Ok(()),
            };
            self.store.journal().clone().gathering(Arc::new(gather))
        })
    }

    fn gather(&self, state: &State<K>) -> Result<(), WriteError> {
        if is_busy_with(self) {
            // A key that is flushed cannot wait for that.
            return Ok(());
        }
        let _busy = Busy::with(self);
        let mut problems = self.pass(state);
        if problems.is_over {
            // It has waited as long as a write does. What is left does not wait any more.
            problems = self.store.insist(|_| self.pass(state));
        }
        problems.first.map_or(Ok(()), Err)
    }

    fn enter(&self) {
        self.handles.fetch_add(1, Relaxed);
    }

    fn leave(&self, state: &Arc<State<K>>) {
        if self.handles.fetch_sub(1, SeqCst) != 1 {
            return;
        }
        let flusher = self.flusher.lock().take();
        // Under a lock of a cache nothing can be written, nor waited for.
        let is_inside = reentrancy::is_inside();
        if let Some(flusher) = &flusher {
            if is_inside {
                *flusher.stop.left.lock() = Some(Arc::clone(state));
            }
            flusher.stop.set();
        }
        if is_inside {
            return;
        }
        if let Some(flusher) = flusher {
            // A key may own the counters, and is dropped in the middle of a flush.
            if flusher.thread.thread().id() == thread::current().id() {
                return;
            }
            // It catches what panics.
            let _ = flusher.thread.join();
        }
        let _ = contain(|| self.gather(state));
    }

    fn is_flushed_by(&self, flusher: Flusher<K>) {
        *self.flusher.lock() = Some(flusher);
    }
}

impl<K> Stop<K> {
    fn new() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            left: Mutex::new(None),
            parker: Arc::default(),
        }
    }

    fn set(&self) {
        self.is_set.store(true, SeqCst);
        Waker::from(Arc::clone(&self.parker)).wake();
    }

    fn is_set(&self) -> bool {
        self.is_set.load(SeqCst)
    }

    /// Waits for an interval; whether that is over before this is set.
    fn waits_for(&self, clock: &Clock, interval: Duration) -> bool {
        let until = after(clock.now(), interval);
        while !self.is_set() {
            if clock.has_passed(until) {
                return true;
            }
            self.parker.park(clock, until);
        }
        false
    }
}

/// Has counters flushed every `interval` by a thread of their own, until they are dropped: what
/// encodes keys is code of the user's, and a disk may be slow, which the keeper's other work must
/// not suffer from.
pub(super) fn flush_every<K: Send + Sync + 'static>(state: &Arc<State<K>>, interval: Duration) {
    let (flushed, clock) = (Arc::downgrade(state), state.clock.clone());
    let stop = Arc::new(Stop::new());
    let told = Arc::clone(&stop);
    let run = move || {
        while told.waits_for(&clock, interval) {
            let Some(state) = flushed.upgrade() else {
                return;
            };
            flush_behind(&state);
        }
        let left = told.left.lock().take();
        if let Some(state) = left
            && let Some(kept) = &state.kept
        {
            let _ = contain(|| kept.gather(&state));
        }
    };
    let thread = thread::Builder::new().name("haybox-counters".into());
    // Where no thread can be started, `flush` and the drop of the last handle do it.
    if let (Ok(thread), Some(kept)) = (thread.spawn(run), &state.kept) {
        kept.is_flushed_by(Flusher { thread, stop });
    }
}

fn flush_behind<K>(state: &State<K>) {
    if let Some(kept) = &state.kept {
        // What drops a key may panic, and health() tells of the rest.
        let _ = contain(|| kept.flush(state, false));
    }
}

impl<K: Eq> State<K> {
    /// The count of a key of counters without lives.
    fn count_of(&self, hash: u64, key: &K) -> i64 {
        let shards = self.shards(shard_of(hash));
        let counts = shards.map(|shard| shard.look(hash, key, None, |cell| cell.count));
        counts.fold(0, i64::wrapping_add)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_not_be_removed_go_back_to_those_that_were_taken_since() {
        let taken = |keys: &[u32]| {
            let mut taken = Taken::default();
            let known = keys.iter().filter_map(|key| taken.note(7, *key)).count();
            (taken, known)
        };
        let (home, known) = taken(&[1, 3, 1, 1]);
        assert_eq!(known, 2, "each once");
        let home = Mutex::new(home);
        let mut lent = Lent {
            home: &home,
            keys: taken(&[2, 3, 4]).0,
        };
        lent.keys.0.retain(|(_, key)| *key != 2);
        drop(lent);
        let mut all: Vec<_> = home.lock().0.iter().map(|(_, key)| *key).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 3, 4]);
    }
}
