//! Queues whose messages are records of a store: one for each, written when it is pushed, comes
//! back or dies, and removed when it is done.
//!
//! It is called under the lock of the queue, so that the records of a message are written in the
//! order in which it changed. A new message may be refused. What has become of one has happened,
//! and is written whether there is room for it or not: the messages in the queue bound how much
//! that is, and behind that the buffer of the log does. The store's own locks are taken after that,
//! never before: a call from inside a closure that runs under one of them panics.

use super::record::Record;
use crate::contain::contain;
use crate::persist::{Commit, CommitError, Journal, Store, WriteError};
use crate::queue::message::Entry;
use crate::reentrancy;
use crate::sync::thread_cell;
use crate::time::{Clock, Deadline, after};
use crate::wait::{block, wait as wait_until};
use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

// Whether this thread encodes a message under the lock of a queue.
thread_cell!(KEEPING: bool = false);

#[derive(Debug)]
pub(in crate::queue) struct Kept<T>(Option<Records<T>>);

#[derive(Debug)]
struct Records<T> {
    store: Store<u64, Record<T>>,
    clock: Clock,
    /// Numbers below this may be used without another word: a restart goes on from here.
    reserved: u64,
}

/// Why a message was not written.
pub(in crate::queue) struct NotKept {
    pub(in crate::queue) error: WriteError,
    /// What is written before there is room for it, where that is all that it lacks.
    room: Pending,
}

/// Why it is not known whether a message was written.
pub(in crate::queue) type NotSure = CommitError;

/// What is to be waited for before a push is acknowledged.
pub(in crate::queue) type Pending = Option<Commit<()>>;

/// For how long a push waits all in all, with no lock held, for a disk that does not keep up.
const LONGEST: Duration = Duration::from_secs(5);

/// Message numbers that one record reserves. A restart skips as many at most.
const BLOCK: u64 = 10_000;

/// The record that says which numbers are reserved. Messages are numbered from 1.
pub(super) const MARK: u64 = 0;

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
            reserved: 0,
        };
        (Self(Some(kept)), entries, next)
    }

    pub(in crate::queue) fn journal(&self) -> Option<&Journal> {
        self.0.as_ref().map(|records| records.store.journal())
    }

    /// Makes sure that no restart gives a number of below `id` to another message.
    #[inline]
    pub(in crate::queue) fn reserve(&mut self, id: u64) {
        if let Some(records) = self.0.as_mut().filter(|records| id >= records.reserved) {
            let next = id.saturating_add(BLOCK);
            let mark = Record::Reserved(next);
            if records
                .store
                .insist(|store| store.insert(MARK, mark))
                .is_ok()
            {
                records.reserved = next;
            }
        }
    }

    /// What is to be waited for until all that was written so far is safe.
    pub(in crate::queue) fn all_so_far(&self) -> Pending {
        self.0.as_ref().and_then(Records::all_so_far)
    }

    /// Writes a new message, if there is room for it and the disk does not fail.
    #[inline]
    pub(in crate::queue) fn put(&mut self, entry: &Entry<T>, now: u64) -> Result<Pending, NotKept> {
        match &mut self.0 {
            None => Ok(None),
            Some(records) => match records.put(entry, false, now) {
                Ok(commit) => Ok(Some(commit)),
                Err(error) => Err(records.refused(error)),
            },
        }
    }

    /// Writes what has become of a message, at once or when the disk can. What does not encode any
    /// more stays as it was: a restart finds it with fewer attempts.
    #[inline]
    pub(in crate::queue) fn rewrite(&mut self, entry: &Entry<T>, is_dead: bool, now: u64) {
        if let Some(records) = &self.0 {
            let _ = records.store.insist(|_| records.put(entry, is_dead, now));
        }
    }

    /// A message is done, and its record goes, at once or when the disk can. The message is still
    /// the caller's: its destructor, which is code of the user's, does not run here.
    #[inline]
    pub(in crate::queue) fn remove(&mut self, id: u64) {
        if let Some(records) = &self.0 {
            // Nothing of what may be refused is, and there is nothing to wait for.
            let _ = records.store.insist(|store| store.remove(&id));
        }
    }

    /// # Panics
    /// If there are records of others than these messages, or one has none.
    pub(in crate::queue) fn validate(&self, ids: &BTreeSet<u64>) {
        if let Some(records) = &self.0 {
            let written = records.store.iter().map(|(id, _)| id);
            let written: BTreeSet<u64> = written.filter(|id| *id != MARK).collect();
            assert_eq!(written, *ids, "each message has a record");
        }
    }
}

impl<T> Records<T> {
    fn put(&self, entry: &Entry<T>, is_dead: bool, now: u64) -> Result<Commit<()>, WriteError> {
        let wall = self.clock.system_time();
        let record = Record::of(entry, is_dead, now, wall);
        let was_keeping = KEEPING.with(|keeping| keeping.replace(true));
        // `Serialize` is code of the user's, and a message must not get lost between two places.
        let inserted = contain(|| self.store.insert(entry.id, record));
        KEEPING.with(|keeping| keeping.set(was_keeping));
        match inserted {
            Some(inserted) => Ok(inserted?.map(drop)),
            None => Err(WriteError::Encode("Serialize panicked".into())),
        }
    }

    fn refused(&self, error: WriteError) -> NotKept {
        let lacks_room = matches!(error, WriteError::BufferFull { .. });
        let room = lacks_room.then(|| self.all_so_far()).flatten();
        NotKept { error, room }
    }

    fn all_so_far(&self) -> Pending {
        let nothing_more = self.store.insert_many([]);
        nothing_more.ok().map(|commit| commit.map(drop))
    }
}

/// # Panics
/// If the thread holds the lock of a queue or of a set, with a sentence that says so.
#[inline]
pub(in crate::queue) fn check(is_kept: bool) {
    if is_kept {
        reentrancy::check();
        check_not_keeping(is_kept);
    }
}

/// # Panics
/// If the thread holds the lock of a queue.
#[inline]
pub(in crate::queue) fn check_not_keeping(is_kept: bool) {
    if is_kept {
        // A destructor that calls while the thread unwinds ends the process so: the other choice is
        // to wait for ever for a lock that its own thread holds.
        assert!(
            !is_keeping(is_kept),
            "a queue was called from inside the Serialize of a message, which it runs under its lock"
        );
    }
}

/// Whether this thread encodes a message, and so holds the lock of a queue that is kept.
pub(in crate::queue) fn is_keeping(is_kept: bool) -> bool {
    is_kept && KEEPING.with(std::cell::Cell::get)
}

/// Whether a destructor had better leave the queue alone: a panic goes through code that runs under
/// a lock, and another one would end the process.
pub(in crate::queue) fn is_off_limits(is_kept: bool) -> bool {
    is_keeping(is_kept) || (is_kept && reentrancy::is_inside())
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

impl fmt::Debug for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// For how long a push that found no room on its way to the disk still waits for some.
#[derive(Default)]
pub(in crate::queue) struct FullWait(Option<Deadline>);

impl FullWait {
    /// What to wait for before another try; `None` if there is no use in one.
    pub(in crate::queue) fn room(&mut self, refusal: &mut NotKept) -> Option<Room> {
        let room = refusal.room.take()?;
        let clock = Clock::real();
        let until = *self.0.get_or_insert_with(|| after(clock.now(), LONGEST));
        if clock.has_passed(until) {
            let waited = LONGEST;
            refusal.error = WriteError::BufferFull { waited };
            return None;
        }
        Some(Room {
            written: room.into_future(),
            until,
        })
    }
}

/// Room in the buffer of the log: there is some once what is in it now is written.
pub(in crate::queue) struct Room {
    written: <Commit<()> as IntoFuture>::IntoFuture,
    until: Deadline,
}

impl Room {
    /// Whether another try is worth it: the time may be up, but the disk does not fail.
    pub(in crate::queue) fn wait(mut self) -> bool {
        let waited = block(&Clock::real(), self.until, |waker| self.look(waker));
        waited.is_none_or(|written| written.is_ok())
    }

    pub(in crate::queue) async fn wait_async(mut self) -> bool {
        let clock = Clock::real();
        let waited = wait_until(&clock, self.until, |waker| self.look(waker)).await;
        waited.is_none_or(|written| written.is_ok())
    }

    fn look(&mut self, waker: &Waker) -> Poll<Result<(), CommitError>> {
        Pin::new(&mut self.written).poll(&mut Context::from_waker(waker))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::Cache;
    use crate::persist::{Persistence, SyncPolicy};
    use crate::queue::message::Payload;
    use crate::queue::shared::Shared;
    use crate::queue::{Overflow, PushOptions, Queue};
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use std::sync::{Arc, mpsc};

    /// The records, with the numbers of the messages in them and the next number.
    fn recovered(dir: &tempfile::TempDir) -> (Kept<u32>, Vec<u64>, u64) {
        let store = Cache::builder().open_store(dir.path()).unwrap();
        let (kept, entries, next) = Kept::recover(store, Clock::real());
        let ids = entries.iter().map(|(entry, _)| entry.id);
        (kept, ids.collect(), next)
    }

    fn kept(dir: &tempfile::TempDir) -> Kept<u32> {
        recovered(dir).0
    }

    fn entry(id: u64) -> Entry<u32> {
        Entry::of(id, 7)
    }

    /// A queue whose log is written by who waits for it, and by closing.
    fn by_hand<T>(dir: &tempfile::TempDir) -> Queue<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let options = Persistence::new().buffer(BUFFER).by_hand();
        let builder = Queue::builder(100).backoff(Duration::ZERO, Duration::ZERO);
        builder.open_with(dir.path(), options).unwrap()
    }

    const BUFFER: usize = 4 << 10;

    /// Pushes a message that is larger than the buffer, and does not wait for it.
    fn fill<T: Send + Sync + 'static>(queue: &Queue<T>, value: T) {
        let payload = Payload {
            value,
            priority: 0,
            key: None,
        };
        let pushed = queue.shared().change(|state, now, after| {
            let pushed = state.push(Arc::new(payload), None, false, now, after);
            pushed.is_ok()
        });
        let waiting = queue.journal().unwrap().health().waiting_bytes;
        assert!(pushed && waiting > BUFFER);
    }

    #[test]
    fn what_becomes_of_messages_while_the_log_is_full_is_written_with_no_further_call() {
        let dir = tempfile::tempdir().unwrap();
        let queue = by_hand::<Vec<u8>>(&dir);
        (1..=5).for_each(|number| _ = queue.push(vec![number]).unwrap());
        let [done, fails, dies, is_dead] = [(); 4].map(|()| queue.try_pop().unwrap());
        let id_of_dead = is_dead.id();
        is_dead.bury("poison").unwrap();
        queue.journal().unwrap().sync().unwrap();
        fill(&queue, vec![6; 2 * BUFFER]);
        done.ack().unwrap();
        fails.fail("no").unwrap();
        dies.bury("poison").unwrap();
        queue.requeue(id_of_dead).unwrap();
        queue.journal().unwrap().close().unwrap();
        drop(queue);
        let queue = by_hand::<Vec<u8>>(&dir);
        let dead = queue.dead_letters();
        assert_eq!((dead.len(), &**dead[0]), (1, &[3][..]));
        let left = queue.pop_many(10, Duration::ZERO).unwrap();
        let left = left.iter().map(|one| (one[0], one.attempt()));
        assert_eq!(left.collect::<Vec<_>>(), [(2, 2), (4, 1), (5, 1), (6, 1)]);
    }

    #[test]
    fn many_messages_are_written_in_one_go_and_waited_for() {
        let log_of = |push: fn(&Queue<u8>, Vec<u8>)| {
            let dir = tempfile::tempdir().unwrap();
            let queue = by_hand::<u8>(&dir);
            queue.push(0).unwrap();
            let log_bytes = |queue: &Queue<u8>| queue.journal().unwrap().health().log_bytes;
            let before = log_bytes(&queue);
            push(&queue, (1..51).collect());
            let health = queue.journal().unwrap().health();
            assert_eq!((health.last_seq - 2, health.waiting_bytes), (50, 0));
            health.log_bytes - before
        };
        let each = |queue: &Queue<u8>, values: Vec<u8>| {
            values
                .into_iter()
                .for_each(|value| _ = queue.push(value).unwrap());
        };
        let all = |queue: &Queue<u8>, values| _ = queue.push_many(values).unwrap();
        // The headers of the frames that are saved.
        let saved = log_of(each) - log_of(all);
        assert!(saved > 0 && saved % 49 == 0, "{saved}");
    }

    /// Looks, when it is dropped, whether its queue is locked. What it is decoded as does not.
    #[derive(Serialize, Deserialize)]
    struct Looks {
        pad: Vec<u8>,
        #[serde(skip)]
        from: Option<(Arc<Shared<Looks>>, mpsc::Sender<bool>)>,
    }

    impl Drop for Looks {
        fn drop(&mut self) {
            if let Some((queue, tell)) = self.from.take() {
                tell.send(queue.is_locked()).unwrap();
            }
        }
    }

    #[test]
    fn a_message_that_is_done_while_the_log_is_full_is_dropped_by_who_has_done_it() {
        let dir = tempfile::tempdir().unwrap();
        let queue = by_hand::<Looks>(&dir);
        let padded = |pad| Looks { pad, from: None };
        let (tell, told) = mpsc::channel();
        let looks = Looks {
            pad: Vec::new(),
            from: Some((Arc::clone(queue.shared()), tell)),
        };
        assert!(queue.push(looks).is_ok());
        let looks = queue.try_pop().unwrap();
        fill(&queue, padded(vec![0; 2 * BUFFER]));
        looks.ack().unwrap();
        assert_eq!(told.try_recv(), Ok(false), "with no lock held, at once");
        queue.journal().unwrap().sync().unwrap();
        assert!(queue.push(padded(Vec::new())).is_ok());
    }

    #[test]
    fn numbers_go_on_behind_every_message_and_what_was_reserved() {
        let dir = tempfile::tempdir().unwrap();
        kept(&dir).put(&entry(5), 0).unwrap();
        let (mut kept, _, next) = recovered(&dir);
        assert_eq!(next, 6);
        let mut writes = |id| {
            let before = kept.journal().unwrap().last_seq();
            kept.reserve(id);
            kept.journal().unwrap().last_seq() - before
        };
        let ids = [6, 7, 5 + BLOCK, 6 + BLOCK];
        assert_eq!(ids.map(&mut writes), [1, 0, 0, 1]);
        drop(kept);
        assert_eq!(recovered(&dir).2, 6 + 2 * BLOCK);
    }

    #[test]
    fn who_is_told_of_an_earlier_message_waits_for_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = kept(&dir);
        let first = kept.put(&entry(1), 0).unwrap().unwrap();
        assert!(kept.all_so_far().unwrap().seq() >= first.seq());
        assert!(Kept::<u32>::nowhere().all_so_far().is_none());
    }

    #[test]
    fn who_pushes_what_is_there_already_waits_until_that_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let queue = by_hand::<u8>(&dir);
        let payload = Payload {
            value: 7,
            priority: 0,
            key: Some(Arc::from("report")),
        };
        // By somebody who still waits for the disk.
        let is_in = queue.shared().change(|state, now, after| {
            let pushed = state.push(Arc::new(payload), None, false, now, after);
            pushed.is_ok()
        });
        let waiting = || queue.journal().unwrap().health().waiting_bytes;
        assert!(is_in && waiting() > 0);
        let report = PushOptions::new().dedup_key("report");
        assert!(queue.push_with(7, report).unwrap().is_duplicate());
        assert_eq!(waiting(), 0);
    }

    /// The second one waits for room, and then in vain for the disk: it is in the queue all the same.
    #[cfg(unix)]
    #[test]
    fn who_pushes_many_is_told_of_the_last_though_it_is_not_known_to_be_kept() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("queue");
        let options = Persistence::new().sync(SyncPolicy::Always).by_hand();
        let builder = Queue::builder(1).overflow(Overflow::Block(Duration::MAX));
        let queue = builder.open_with(&dir, options).unwrap();
        let error = std::thread::scope(|threads| {
            let pushing = threads.spawn(|| queue.push_many(vec![1_u8, 2]).unwrap_err());
            while queue.is_empty() {
                std::thread::yield_now();
            }
            std::fs::remove_dir_all(&dir).unwrap();
            queue.try_pop().unwrap().ack().unwrap();
            pushing.join().unwrap()
        });
        let (pushed, left) = (error.pushed, error.left);
        assert_eq!((pushed, left, queue.len()), (vec![1, 2], vec![], 1));
    }

    #[test]
    fn a_message_that_finds_no_room_does_not_wait_under_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(&dir);
        let records = kept.0.as_ref().unwrap();
        let waited = Duration::ZERO;
        let mut full = records.refused(WriteError::BufferFull { waited });
        let mut wait = FullWait::default();
        let room = wait.room(&mut full).unwrap();
        assert!(room.wait(), "all is written");
        assert!(wait.room(&mut full).is_none(), "one commit, one wait");
        wait.0 = Some(0);
        let mut full = records.refused(WriteError::BufferFull { waited });
        assert!(wait.room(&mut full).is_none());
        assert!(matches!(full.error, WriteError::BufferFull { waited } if waited == LONGEST));
        let mut closed = records.refused(WriteError::Closed);
        assert!(FullWait::default().room(&mut closed).is_none());
    }
}
