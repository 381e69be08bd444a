//! A write that was made and may not be durable yet.

use super::error::CommitError;
use super::journal::{OpenJournal, Place};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a write of a [`Store`](crate::Store) gives back: its result, and the way to wait until it
/// is durable. Everybody sees the write already.
///
/// Waiting is free under [`SyncPolicy::Every`](super::SyncPolicy::Every) and
/// [`Os`](super::SyncPolicy::Os) but for a few milliseconds: a write counts there as soon as it is
/// handed to the system, which a `kill -9` does not undo. Under
/// [`SyncPolicy::Always`](super::SyncPolicy::Always) it waits for the disk; threads and tasks that
/// wait at the same time share one sync, so write first and wait for the last:
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use haybox::Cache;
/// use haybox::persist::{Persistence, SyncPolicy};
///
/// let store = Cache::<u64, String>::builder()
///     .open_store_with(dir, Persistence::new().sync(SyncPolicy::Always))?;
/// let first = store.insert(1, "oats".into())?;
/// let second = store.insert(2, "hay".into())?;
/// second.wait()?; // The first is durable, too: the log is written in order.
/// assert!(first.is_durable());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In a task, `.await` it, on any executor. To go on without waiting take the
/// [`into_value`](Self::into_value).
///
/// An error of a wait means that it is *not known* whether the write is durable. It is not undone.
#[must_use = "the write is made, but it is not known to be durable before its commit is waited for; \
              `into_value` goes on without"]
pub struct Commit<T> {
    value: T,
    seq: u64,
    journal: Arc<OpenJournal>,
}

impl<T> Commit<T> {
    pub(super) fn new(value: T, seq: u64, journal: Arc<OpenJournal>) -> Self {
        Self {
            value,
            seq,
            journal,
        }
    }

    /// What the write returned.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What the write returned, without waiting.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The number of the write in the log. That of a call that found nothing to change is the number
    /// of the last write before it.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether the write is on the disk, whatever the policy: what a power loss does not undo.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.journal.durable_seq() >= self.seq
    }

    /// Waits until the write is as safe as the policy says, and returns what it returned. With an
    /// error that is gone: where it matters, take [`wait_timeout`](Self::wait_timeout), which leaves
    /// it in place.
    ///
    /// # Errors
    /// It is not known whether the write is durable: the disk fails, or the store was closed before.
    ///
    /// # Panics
    /// Inside a closure that a cache or a store runs under a lock: what it waits for may need that.
    #[track_caller]
    pub fn wait(self) -> Result<T, CommitError> {
        self.journal.wait(self.seq, None)?;
        Ok(self.value)
    }

    /// As [`wait`](Self::wait), at most for `timeout`. May be called again after an error.
    ///
    /// # Errors
    /// As for `wait`; [`CommitError::TimedOut`] if it takes longer.
    ///
    /// # Panics
    /// As `wait`.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, CommitError> {
        // What the clock cannot hold is for ever.
        self.journal
            .wait(self.seq, Instant::now().checked_add(timeout))?;
        Ok(&self.value)
    }

    /// The same write with another value, for who wraps a store.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Commit<U> {
        Commit {
            value: f(self.value),
            seq: self.seq,
            journal: self.journal,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Commit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("value", &self.value)
            .field("seq", &self.seq)
            .field("is_durable", &self.is_durable())
            .finish()
    }
}

impl<T> IntoFuture for Commit<T> {
    type Output = Result<T, CommitError>;
    type IntoFuture = CommitFuture<T>;

    fn into_future(self) -> CommitFuture<T> {
        CommitFuture {
            seq: self.seq,
            journal: self.journal,
            place: Place::default(),
            value: Some(self.value),
        }
    }
}

/// Waits for a [`Commit`]. Runs on any executor; dropping it undoes nothing, and leaves nothing
/// behind.
/// As [`Commit::wait`], it panics inside a closure that a cache or a store runs under a lock.
#[must_use = "a future does nothing until it is polled"]
pub struct CommitFuture<T> {
    seq: u64,
    journal: Arc<OpenJournal>,
    place: Place,
    /// Until it was given out.
    value: Option<T>,
}

impl<T> fmt::Debug for CommitFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitFuture")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

// The value is never pinned.
impl<T> Unpin for CommitFuture<T> {}

impl<T> Drop for CommitFuture<T> {
    fn drop(&mut self) {
        self.journal.end_wait(self.seq, &mut self.place);
    }
}

impl<T> Future for CommitFuture<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waited = this.journal.poll_wait(this.seq, context, &mut this.place);
        let waited = std::task::ready!(waited);
        let value = self.value.take();
        let value = value.expect("a future is not polled after it has ended");
        Poll::Ready(waited.map(|()| value))
    }
}
