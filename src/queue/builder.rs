//! Every option of a queue and of a push, and the one place where they are checked.

use super::Queue;
#[cfg(feature = "persist")]
use super::kept::{Kept, of_messages};
use super::state::State;
use crate::build_error::{BuildError, SettingsOf};
#[cfg(feature = "persist")]
use crate::cache::Cache;
#[cfg(feature = "persist")]
use crate::persist::{Codec, DirKind, OpenError, Persistence, WhenFull};
use crate::time::Clock;
#[cfg(feature = "persist")]
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "persist")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What happens to a push when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The push is refused at once, and gets its message back. The default: who pushes should know
    /// that the workers do not keep up.
    #[default]
    Reject,
    /// The push waits for room, at most for this time on the clock of the queue, and is refused
    /// then. Those who wait go in in the order in which they came. [`Duration::MAX`] waits until
    /// there is room or the queue is closed.
    ///
    /// A worker that pushes to the queue that it works for may wait for itself; give it a time.
    Block(Duration),
    /// The message goes in, and of the lowest priority the one that has been ready for longest is
    /// given up; if none is ready, the delayed one that is due first. Those in flight are not
    /// given up: if there is nothing else the push is refused. For what is out of date when newer
    /// ones have come.
    DropOldest,
}

/// Builds a [`Queue`]. From [`Queue::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`overflow`](Self::overflow) | [`Overflow::Reject`] |
/// | [`visibility_timeout`](Self::visibility_timeout) | 30 s |
/// | [`watchdog`](Self::watchdog) | none: what takes longer is extended by hand |
/// | [`max_attempts`](Self::max_attempts) | 10 |
/// | [`backoff`](Self::backoff) | what failed is tried again after 1 s, then 2 s, …, at most 5 minutes |
/// | [`dead_letters`](Self::dead_letters) | as many as the capacity |
/// | [`dedup_window`](Self::dedup_window) | 5 minutes |
/// | [`clock`](Self::clock) | the system's |
#[must_use = "a builder does nothing until `build` is called"]
pub struct QueueBuilder<T> {
    rules: Rules,
    clock: Clock,
    of: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for QueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("rules", &self.rules)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// What a queue does when, as it was built.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) capacity: usize,
    pub(super) overflow: Overflow,
    pub(super) visibility: Duration,
    watchdog: Option<Duration>,
    pub(super) max_attempts: u32,
    first_retry: Duration,
    longest_retry: Duration,
    pub(super) dead_letters: usize,
    pub(super) dedup_window: Duration,
}

impl Rules {
    /// How long a delivery lasts that nobody extends.
    #[inline]
    pub(super) fn held_for(&self) -> Duration {
        self.watchdog.unwrap_or(self.visibility)
    }

    /// Whether the queue counts times that are so short that a tick of the kernel matters.
    #[inline]
    pub(super) fn is_fine(&self) -> bool {
        let second = Duration::from_secs(1);
        let is_short = |time: Duration| !time.is_zero() && time < second;
        self.visibility < second || is_short(self.first_retry) || is_short(self.dedup_window)
    }

    /// How long a receipt lasts, where that is another time.
    pub(super) fn visibility_without_watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|_| self.visibility)
    }

    fn check(&self) -> Result<(), BuildError> {
        SettingsOf("Queue").check_times([("visibility_timeout", self.visibility)])?;
        SettingsOf("Queue").check([
            (self.capacity == 0, "capacity", "must be at least 1"),
            (
                self.watchdog
                    .is_some_and(|at_most| at_most < self.visibility),
                "watchdog",
                "must be at least the visibility time-out",
            ),
            (self.max_attempts == 0, "max_attempts", "must be at least 1"),
            (
                self.longest_retry < self.first_retry,
                "backoff",
                "the longest wait must be at least the first",
            ),
        ])
    }

    /// How long to wait after so many attempts.
    pub(super) fn backoff_after(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let delay = self.first_retry.saturating_mul(1 << doublings);
        delay.min(self.longest_retry)
    }
}

impl<T> QueueBuilder<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            rules: Rules {
                capacity,
                overflow: Overflow::Reject,
                visibility: Duration::from_secs(30),
                watchdog: None,
                // The waits between ten attempts add up to 511 s: an outage of eight minutes buries
                // nothing.
                max_attempts: 10,
                first_retry: Duration::from_secs(1),
                longest_retry: Duration::from_secs(300),
                dead_letters: capacity,
                dedup_window: Duration::from_secs(300),
            },
            clock: Clock::real(),
            of: PhantomData,
        }
    }

    /// What happens to a push when the queue is full. Default: [`Overflow::Reject`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.rules.overflow = overflow;
        self
    }

    /// How long a message that was handed out is kept from others. Default: 30 s. If it is not
    /// settled by then the attempt has failed, and the message is handed out again. More than zero.
    ///
    /// Take it longer than an attempt may take, or have it extended: by
    /// [`Delivery::extend`](super::Delivery::extend), or by a [`watchdog`](Self::watchdog).
    pub fn visibility_timeout(mut self, time: Duration) -> Self {
        self.rules.visibility = time;
        self
    }

    /// Keeps a message from others for as long as its [`Delivery`](super::Delivery) lives, but for
    /// `at_most` this time. Default: no watchdog. At least the visibility time-out.
    ///
    /// So the visibility time-out can be short though some work takes long: it holds for
    /// [receipts](super::Delivery::into_receipt) only. A worker that hangs, or leaks its delivery,
    /// holds its message up for `at_most`. It costs nothing: who works on a message is in the same
    /// process, and if it panics or ends, its delivery is dropped.
    pub fn watchdog(mut self, at_most: Duration) -> Self {
        self.rules.watchdog = Some(at_most);
        self
    }

    /// How often a message is handed out, at least 1. Default: 10, which with the default
    /// [`backoff`](Self::backoff) takes 511 s: while what the workers need is away for eight
    /// minutes, nothing is buried. When the last attempt has failed the message becomes a dead
    /// letter. An attempt whose time has passed counts, one that was released does not.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.rules.max_attempts = attempts;
        self
    }

    /// Has a message that failed wait before it is tried again: for `first` after the first
    /// attempt, twice as long after each further one, at most for `longest`. Default: 1 s, at most
    /// 5 minutes. With zero for both it is tried again at once, in its old place in the line: all
    /// its attempts may be gone within microseconds, so that is for failures that have nothing to
    /// do with what the workers share.
    ///
    /// It holds for [`nack`](super::Delivery::nack), [`fail`](super::Delivery::fail), dropped
    /// deliveries and [`Workers`](super::Workers), for errors and panics alike; not for
    /// [`nack_after`](super::Delivery::nack_after), which says itself for how long. An attempt
    /// whose time has passed is tried again at once: it has waited for as long as that.
    ///
    /// ```
    /// use haybox::{MockClock, queue::{PopError, Queue}};
    /// use std::time::Duration;
    ///
    /// let (time, second) = (MockClock::new(), Duration::from_secs(1));
    /// let queue = Queue::builder(100).clock(time.clock()).build()?;
    /// queue.push("mail")?;
    /// queue.try_pop()?.fail("no such host")?;
    /// assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    /// time.advance(second);
    /// queue.try_pop()?.fail("no such host")?;
    /// time.advance(second);
    /// assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty, "2 s this time");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.rules.first_retry, self.rules.longest_retry) = (first, longest);
        self
    }

    /// How many dead letters are kept. Default: as many as the capacity. Of more, the oldest is
    /// discarded, for good, and counted ([`QueueStats::discarded`](super::QueueStats::discarded));
    /// with 0, each is. They do not count towards the capacity, so a queue may hold twice that.
    pub fn dead_letters(mut self, most: usize) -> Self {
        self.rules.dead_letters = most;
        self
    }

    /// For how long after a push its [de-duplication key](PushOptions::dedup_key) counts, though
    /// the message is done. Default: 5 minutes. With zero, it counts while the message is in the
    /// queue; that long it counts in any case.
    ///
    /// A key that is remembered takes up about 150 bytes, and is cleared by the first call after
    /// its time. The window ends with the process, also of a queue that is
    /// [kept](crate::queue#surviving-a-restart): after a restart a key counts only while its
    /// message is in the queue.
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.rules.dedup_window = window;
        self
    }

    /// What the queue reads the time from. Default: [`Clock::real`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the queue.
    ///
    /// # Errors
    /// [`BuildError`] names the first setting that is impossible: no capacity, a visibility
    /// time-out of zero, a watchdog that ends before that, no attempts, a longest backoff below the
    /// first.
    pub fn build(self) -> Result<Queue<T>, BuildError>
    where
        T: Send + Sync + 'static,
    {
        self.rules.check()?;
        Ok(Queue::with(State::new(self.rules), self.clock))
    }

    /// Builds a queue that survives restarts, with what the directory holds: see
    /// [the module](crate::queue#surviving-a-restart). The directory is made if it is not there.
    /// Feature `persist`.
    ///
    /// ```
    /// use haybox::queue::Queue;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("mails");
    /// let mails = Queue::builder(10_000).open(&dir)?;
    /// let first = mails.push("welcome 7".to_string())?; // A kill -9 from here on does not undo it.
    /// mails.push("welcome 8".to_string())?;
    /// mails.pop()?.ack()?;
    /// let half_done = mails.pop()?;
    /// # drop(half_done);
    /// drop(mails); // The process ends.
    ///
    /// let mails = Queue::<String>::builder(10_000).open(&dir)?;
    /// assert_eq!(*mails.pop()?, "welcome 8");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the directory, and what can be done about it; one that
    /// is kept for anything but a queue is not opened ([`DirKind`]). Or it says what is wrong with
    /// a setting, as for [`build`](Self::build).
    #[cfg(feature = "persist")]
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Queue<T>, OpenError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.open_with(dir, Persistence::new())
    }

    /// As [`open`](Self::open), with options: how safe a push is when it returns, how messages
    /// become bytes, when the files are compacted, what becomes of messages of another type: a
    /// [`migrate`](Persistence::migrate) of a queue uses
    /// [`Old::with_message`](crate::persist::Old::with_message).
    /// [`when_full`](Persistence::when_full) says nothing here: a push waits at most 5 s for room,
    /// nothing else does.
    ///
    /// [`snapshots_only`](Persistence::snapshots_only) is an error: each push would wait for the next
    /// snapshot.
    ///
    /// # Errors
    /// As for `open`.
    #[cfg(feature = "persist")]
    pub fn open_with<C: Codec>(
        self,
        dir: impl AsRef<Path>,
        options: Persistence<C>,
    ) -> Result<Queue<T>, OpenError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.rules.check()?;
        let problem = "is not for queues: each push would wait for the next snapshot";
        SettingsOf("Persistence").check([(!options.keeps_log(), "snapshots_only", problem)])?;
        let store = Cache::builder().stats(false).clock(self.clock.clone());
        let store = store.of_role(DirKind::Queue);
        let options = of_messages(options);
        // It is called under the lock of the queue, where nobody may wait for the disk.
        let store = store.open_store_with(dir, options.when_full(WhenFull::Error))?;
        let (kept, entries, next) = Kept::recover(store, self.clock.clone());
        let mut state = State::new(self.rules);
        state.recover(kept, entries, next, self.clock.now());
        Ok(Queue::with(state, self.clock))
    }
}

/// How one message is pushed. For [`Queue::push_with`].
///
/// | option | default |
/// | --- | --- |
/// | [`delay`](Self::delay) | none |
/// | [`priority`](Self::priority) | 0 |
/// | [`dedup_key`](Self::dedup_key) | none |
///
/// ```
/// use haybox::queue::PushOptions;
/// use std::time::Duration;
///
/// let reminder = PushOptions::new()
///     .delay(Duration::from_secs(3600))
///     .priority(-1)
///     .dedup_key("reminder:42");
/// # let _ = reminder;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "options do nothing until something is pushed with them"]
pub struct PushOptions {
    pub(super) delay: Duration,
    pub(super) priority: i8,
    pub(super) key: Option<Arc<str>>,
}

impl PushOptions {
    /// At once, with priority 0, whatever was pushed before.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message is not handed out before this time has passed. Default: zero. Its place in the
    /// line is that of a message that is pushed then. One of more than 584 years never comes.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Messages of a higher priority are handed out first, and as long as there are any, no others.
    /// Default: 0.
    pub fn priority(self, priority: i8) -> Self {
        Self { priority, ..self }
    }

    /// The message counts as the same as one that was pushed with this key and is still in the
    /// queue, or was pushed within the [window](QueueBuilder::dedup_window): it is then not taken
    /// in, and the push answers [`Pushed::Duplicate`](super::Pushed::Duplicate). Default: no key.
    ///
    /// So a request that is sent twice, or an hourly job that two schedulers push, is done once.
    /// Dead letters do not count as in the queue. After a restart of a queue that is
    /// [kept](crate::queue#surviving-a-restart) only what is still in it counts: the window ends
    /// with the process, so it is no memory of what was ever done.
    pub fn dedup_key(self, key: impl Into<Arc<str>>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }
}
