//! How far the log has got, and who waits for that.

use crate::persist::error::CommitError;
use crate::sync::{AtomicU64, Mutex, thread};
use crate::time::wake_all;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Poll, Waker};

#[derive(Debug)]
pub(super) struct Commits {
    written: AtomicU64,
    durable: AtomicU64,
    /// Who waits for a write waits until it is durable, not only until it is written.
    until_durable: bool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By the number that is waited for, and the place of who waits.
    wakers: BTreeMap<(u64, u64), Waker>,
    /// How many places there have been.
    places: u64,
    /// Up to here it is not known how it will end.
    failed_through: u64,
    failure: Option<CommitError>,
    /// Nothing more will come.
    ended: Option<CommitError>,
    /// What this thread is to wake is woken later.
    holder: Option<thread::ThreadId>,
    held: Vec<Waker>,
}

/// Where a wait leaves its waker. Given back when the wait ends, however it does.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<u64>);

impl Place {
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}

impl Commits {
    pub(super) fn new(written: u64, durable: u64, until_durable: bool) -> Self {
        Self {
            written: AtomicU64::new(written),
            durable: AtomicU64::new(durable),
            until_durable,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(SeqCst)
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(SeqCst)
    }

    fn has_reached(&self, seq: u64) -> bool {
        let reached = if self.until_durable {
            self.durable()
        } else {
            self.written()
        };
        reached >= seq
    }

    /// Whether a write is as safe as the policy says. If not, the waker is woken when that changes,
    /// in the stead of the one that was left in the same place for the same number.
    pub(super) fn poll(
        &self,
        seq: u64,
        waker: &Waker,
        place: &mut Place,
    ) -> Poll<Result<(), CommitError>> {
        if self.has_reached(seq) {
            return Poll::Ready(Ok(()));
        }
        // Code of the user's executor, so before the lock.
        let waker = waker.clone();
        let mut waiting = self.waiting.lock();
        if self.has_reached(seq) {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = waiting.error_of(seq) {
            return Poll::Ready(Err(error));
        }
        let before = waiting.put(seq, waker, place);
        drop(waiting);
        drop(before);
        Poll::Pending
    }

    /// Gives back the place of a wait for this number.
    pub(super) fn leave(&self, seq: u64, place: &mut Place) {
        if let Some(at) = place.0.take() {
            let left = self.waiting.lock().wakers.remove(&(seq, at));
            drop(left);
        }
    }

    /// All up to `seq` has been handed to the system.
    pub(super) fn wrote(&self, seq: u64) {
        self.written.fetch_max(seq, SeqCst);
        if !self.until_durable {
            self.wake_through(seq);
        }
    }

    /// All up to `seq` is on the disk.
    pub(super) fn synced(&self, seq: u64) {
        self.written.fetch_max(seq, SeqCst);
        self.durable.fetch_max(seq, SeqCst);
        self.wake_through(seq);
    }

    /// Up to `seq` nobody knows how it will end.
    pub(super) fn fail(&self, seq: u64, error: CommitError) {
        let mut waiting = self.waiting.lock();
        waiting.failed_through = waiting.failed_through.max(seq);
        waiting.failure = Some(error);
        drop(waiting);
        self.wake_through(seq);
    }

    /// Nothing more is written. The first reason counts.
    pub(super) fn end(&self, error: CommitError) {
        self.waiting.lock().ended.get_or_insert(error);
        self.wake_through(u64::MAX);
    }

    /// Has what this thread would wake wait for [`take_held`](Self::take_held): a waker is code of
    /// the user's, which may call for the lock that the thread holds. One thread at a time.
    pub(super) fn hold(&self) {
        self.waiting.lock().holder = Some(thread::current().id());
    }

    /// Ends the holding.
    pub(super) fn let_go(&self) {
        self.waiting.lock().holder = None;
    }

    /// What was held, to be woken without the lock, or by a thread that does not have it.
    pub(super) fn take_held(&self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting.lock().held)
    }

    fn wake_through(&self, seq: u64) {
        let mut waiting = self.waiting.lock();
        if waiting.wakers.is_empty() {
            return;
        }
        let later = match seq.checked_add(1) {
            Some(next) => waiting.wakers.split_off(&(next, 0)),
            None => BTreeMap::new(),
        };
        let woken = std::mem::replace(&mut waiting.wakers, later);
        let woken = woken.into_values();
        if waiting.holder == Some(thread::current().id()) {
            waiting.held.extend(woken);
            return;
        }
        drop(waiting);
        wake_all(woken.collect::<Vec<_>>());
    }
}

impl Waiting {
    /// The waker that was there before is for the caller to drop, without the lock.
    fn put(&mut self, seq: u64, waker: Waker, place: &mut Place) -> Option<Waker> {
        let at = *place.0.get_or_insert_with(|| {
            self.places += 1;
            self.places
        });
        self.wakers.insert((seq, at), waker)
    }

    fn error_of(&self, seq: u64) -> Option<CommitError> {
        let failure = self.failure.as_ref().filter(|_| seq <= self.failed_through);
        self.ended.as_ref().or(failure).cloned()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_once_when_it_is_known_how_it_ends() {
        let commits = Commits::new(0, 0, true);
        let counts = [(); 3].map(|()| Arc::new(Count::default()));
        let woken = || counts.each_ref().map(|count| count.0.load(SeqCst));
        let mut places = [(); 3].map(|()| Place::default());
        let mut poll = |seq: usize| {
            let waker = Waker::from(Arc::clone(&counts[seq - 1]));
            commits.poll(seq as u64, &waker, &mut places[seq - 1])
        };
        for seq in [1, 2, 3, 3] {
            assert!(poll(seq).is_pending());
        }
        commits.wrote(3);
        assert_eq!((woken(), commits.written()), ([0, 0, 0], 3));
        commits.synced(1);
        assert_eq!((woken(), commits.durable()), ([1, 0, 0], 1));
        assert!(matches!(poll(1), Poll::Ready(Ok(()))));
        commits.fail(2, CommitError::TimedOut);
        assert_eq!(woken(), [1, 1, 0]);
        assert!(matches!(poll(2), Poll::Ready(Err(CommitError::TimedOut))));
        // It was tried again.
        commits.synced(2);
        assert!(matches!(poll(2), Poll::Ready(Ok(()))));
        assert!(poll(3).is_pending());
        commits.end(CommitError::Closed);
        commits.end(CommitError::TimedOut);
        assert_eq!(woken(), [1, 1, 1]);
        assert!(matches!(poll(3), Poll::Ready(Err(CommitError::Closed))));
        commits.synced(3);
        assert!(matches!(poll(3), Poll::Ready(Ok(()))));
    }

    #[test]
    fn what_is_held_is_woken_by_who_takes_it_and_nothing_is_held_afterwards() {
        let commits = Commits::new(0, 0, false);
        let count = Arc::new(Count::default());
        for (seq, is_held) in [(1, true), (2, false)] {
            let waker = Waker::from(Arc::clone(&count));
            let place = &mut Place::default();
            assert!(commits.poll(seq, &waker, place).is_pending());
            if is_held {
                commits.hold();
            }
            commits.wrote(seq);
            assert_eq!(count.0.load(SeqCst), if is_held { 0 } else { 2 });
            commits.take_held().into_iter().for_each(Waker::wake);
            assert_eq!(count.0.load(SeqCst) as u64, seq);
            commits.let_go();
        }
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let commits = Commits::new(0, 0, true);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let (mut gone, mut stays) = (Place::default(), Place::default());
        for place in [&mut gone, &mut stays] {
            assert!(commits.poll(1, &waker, place).is_pending());
        }
        assert_eq!(Arc::strong_count(&count), 4);
        commits.leave(1, &mut gone);
        commits.leave(1, &mut gone);
        assert_eq!(Arc::strong_count(&count), 3);
        commits.synced(1);
        assert_eq!(count.0.load(SeqCst), 1);
        commits.leave(1, &mut stays);
        assert_eq!(Arc::strong_count(&count), 2);
    }
}
