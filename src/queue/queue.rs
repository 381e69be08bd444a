//! The queue: the face that users see.

use super::Pushed;
use super::batch::Batch;
use super::builder::{PushOptions, QueueBuilder};
use super::delivery::{self, Delivery, End};
use super::error::{PopError, PushError, PushManyError, ReceiptError, RequeueError};
use super::kept;
use super::message::{DeadLetter, Receipt};
use super::push::{PushCall, push, push_async};
use super::shared::{Shared, Waiting};
use super::state::{After, State};
use super::stats::QueueStats;
use crate::build_error::BuildError;
use crate::time::{Clock, Deadline, NEVER, after};
use crate::wait::{block, wait};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A queue of messages, each of which is worked on until somebody says that it is done. See the
/// [module](crate::queue) for what it promises.
///
/// A `Queue` is a handle: clone it into every thread and task. When the last one is dropped, or one
/// is [closed](Self::close), nothing comes in any more, and who waits gets `Closed`.
///
/// ```
/// use haybox::queue::{PopError, Queue};
/// use std::time::Duration;
///
/// let queue = Queue::new(1000)?;
/// queue.push("resize cat.png")?;
/// let job = queue.pop()?;
/// assert_eq!(*job, "resize cat.png");
/// job.nack_after(Duration::ZERO)?; // The worker fails, and …
/// let job = queue.pop()?; // … the message comes again: a `nack` would have it wait for 1 s.
/// assert_eq!(job.attempt(), 2);
/// job.ack()?;
/// assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}

/// Shows numbers, and no message.
impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let look =
            |state: &mut State<T>, now, _: &mut After<T>| (state.stats(now), state.is_closed());
        let (stats, is_closed) = self.shared.change(look);
        f.debug_struct("Queue")
            .field("rules", &self.shared.rules)
            .field("stats", &stats)
            .field("is_closed", &is_closed)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Queue<T> {
    /// A queue for at most so many messages, with every other option at its default.
    ///
    /// # Errors
    /// [`BuildError`] if that is zero.
    pub fn new(capacity: usize) -> Result<Self, BuildError> {
        Self::builder(capacity).build()
    }

    /// A builder with every option at its default. The capacity counts messages that are ready,
    /// delayed or in flight.
    pub fn builder(capacity: usize) -> QueueBuilder<T> {
        QueueBuilder::new(capacity)
    }

    pub(super) fn with(state: State<T>, clock: Clock) -> Self {
        Self {
            shared: Shared::new(state, clock),
        }
    }

    #[cfg(all(test, not(shuttle)))]
    pub(super) fn shared(&self) -> &Arc<Shared<T>> {
        &self.shared
    }

    // ---- pushing ----

    /// Puts a message at the end of the line; its number, which is greater than that of every
    /// message before. What happens when the queue is full is for [`Overflow`](super::Overflow) to
    /// say.
    ///
    /// Where it waits, for room ([`Overflow::Block`](super::Overflow::Block)) or for a disk, it blocks the thread and all
    /// tasks of it. A task calls [`push_async`](Self::push_async).
    ///
    /// # Errors
    /// [`PushError`] gives the message back, but for `PushError::Unsure` of a queue that is
    /// [kept](crate::queue#surviving-a-restart): then the message is in the queue, and who pushes
    /// again has it done twice. [`PushError::into_inner`] tells which.
    #[doc(alias = "LPUSH")]
    #[doc(alias = "RPUSH")]
    #[doc(alias = "XADD")]
    #[inline]
    pub fn push(&self, value: T) -> Result<u64, PushError<T>> {
        self.push_with(value, PushOptions::new()).map(Pushed::id)
    }

    /// As [`push`](Self::push), with a delay, a priority or a de-duplication key.
    ///
    /// ```
    /// use haybox::queue::{PushOptions, Pushed, Queue};
    ///
    /// let queue = Queue::new(100)?;
    /// let order = PushOptions::new().dedup_key("order 17");
    /// let first = queue.push_with("charge the card", order.clone())?;
    /// // The client got no answer, and asks again.
    /// let second = queue.push_with("charge the card", order)?;
    /// assert_eq!(second, Pushed::Duplicate(first.id()));
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As `push`.
    #[inline]
    pub fn push_with(&self, value: T, options: PushOptions) -> Result<Pushed, PushError<T>> {
        push(&self.shared, PushCall::new(value, options))
    }

    /// As [`push`](Self::push), without blocking the thread where that would wait
    /// ([`Overflow::Block`](super::Overflow::Block)). The time counts from the first poll. Dropping
    /// the future before it is ready drops the message; where the queue is
    /// [kept](crate::queue#surviving-a-restart) the message may be in the queue by then, its record
    /// on the way to the disk, and stays there. Do not keep it without polling it: the room that it
    /// was woken for is kept as long.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// use haybox::queue::Queue;
    ///
    /// let queue = Queue::new(100)?;
    /// queue.push_async("letter").await?;
    /// assert_eq!(*queue.pop_async().await?, "letter");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As `push`.
    pub fn push_async(
        &self,
        value: T,
    ) -> impl Future<Output = Result<u64, PushError<T>>> + Send + use<T> {
        let pushing = self.push_with_async(value, PushOptions::new());
        async { pushing.await.map(Pushed::id) }
    }

    /// As [`push_with`](Self::push_with), without blocking the thread: see
    /// [`push_async`](Self::push_async).
    ///
    /// # Errors
    /// As `push`.
    pub fn push_with_async(
        &self,
        value: T,
        options: PushOptions,
    ) -> impl Future<Output = Result<Pushed, PushError<T>>> + Send + use<T> {
        push_async(Arc::clone(&self.shared), PushCall::new(value, options))
    }

    /// Puts several messages at the end of the line, in their order; their numbers. As a
    /// [`push`](Self::push) of each, but it takes the lock of the queue once for 100 of them, and
    /// where the queue is [kept](crate::queue#surviving-a-restart) it waits for the disk once: with
    /// `SyncPolicy::Always` for one sync instead of one for each. Others may push in between, and
    /// what is in the queue is handed out before the call returns.
    ///
    /// It is not all or nothing: it ends with the first message that is refused, and those before
    /// it are in the queue. With [`Overflow::Block`](super::Overflow::Block) each one that finds no
    /// room waits for as long.
    ///
    /// ```
    /// use haybox::queue::Queue;
    ///
    /// let mails = Queue::new(3)?;
    /// assert_eq!(mails.push_many(vec!["ada", "bob"])?, [1, 2]);
    /// let error = mails.push_many(vec!["cyd", "dan", "eve"]).unwrap_err();
    /// assert!(error.pushed == [3] && error.error.is_full());
    /// assert_eq!(error.into_inner(), ["dan", "eve"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PushManyError`] has why the first message was refused that was, the numbers of those that
    /// are in the queue, and the others.
    pub fn push_many(&self, values: Vec<T>) -> Result<Vec<u64>, PushManyError<T>> {
        let mut batch = Batch::new(values);
        let refusal = loop {
            let Some(value) = batch.push(&self.shared) else {
                break None;
            };
            match self.push(value) {
                Ok(id) => batch.note(id),
                Err(refusal) => break Some(refusal),
            }
        };
        let waited = kept::wait(batch.pending());
        batch.answer(refusal, waited)
    }

    /// As [`push_many`](Self::push_many), without blocking the thread. Dropping the future before
    /// it is ready drops the messages that are not in the queue yet, and leaves the others in it.
    ///
    /// # Errors
    /// As `push_many`.
    pub fn push_many_async(
        &self,
        values: Vec<T>,
    ) -> impl Future<Output = Result<Vec<u64>, PushManyError<T>>> + Send + use<T> {
        let (shared, mut batch) = (Arc::clone(&self.shared), Batch::new(values));
        async move {
            let refusal = loop {
                let Some(value) = batch.push(&shared) else {
                    break None;
                };
                let call = PushCall::new(value, PushOptions::new());
                match push_async(Arc::clone(&shared), call).await {
                    Ok(pushed) => batch.note(pushed.id()),
                    Err(refusal) => break Some(refusal),
                }
            };
            let waited = kept::wait_async(batch.pending()).await;
            batch.answer(refusal, waited)
        }
    }

    /// Takes a message out that waits, ready or delayed, and drops it; whether there was one with
    /// that number, as [`push`](Self::push) has said it. What is in flight is with its worker, who
    /// has to look whether the work is still wanted; a dead letter is [purged](Self::purge). The
    /// de-duplication key counts for the rest of its window.
    ///
    /// O(n) in the messages that wait, under the lock of the queue. Of a
    /// [kept](super#surviving-a-restart) queue a crash within some milliseconds may bring the
    /// message back, as one that was acknowledged.
    ///
    /// ```
    /// use haybox::queue::{PushOptions, Queue};
    /// use std::time::Duration;
    ///
    /// let reminders = Queue::new(1_000)?;
    /// let in_a_day = PushOptions::new().delay(Duration::from_secs(86_400));
    /// let id = reminders.push_with("your cart is waiting", in_a_day)?.id();
    /// assert!(reminders.cancel(id)); // It was paid for.
    /// assert!(reminders.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&self, id: u64) -> bool {
        self.shared
            .change(|state, now, after| state.cancel(id, now, after))
    }

    // ---- popping ----

    /// Takes the message whose turn it is, and blocks the thread until there is one.
    ///
    /// In an async program it holds up all tasks of the thread, those of a whole runtime of one
    /// thread, and so maybe the task that would push. A task calls [`pop_async`](Self::pop_async).
    ///
    /// # Errors
    /// [`PopError::Closed`]; never `Empty`.
    pub fn pop(&self) -> Result<Delivery<T>, PopError> {
        self.pop_until(|| NEVER)
    }

    /// Takes the message whose turn it is, if one is ready.
    ///
    /// # Errors
    /// [`PopError`] says whether there may be one later.
    #[inline]
    pub fn try_pop(&self) -> Result<Delivery<T>, PopError> {
        let taken = self.shared.change(|state, now, _| state.take(now))?;
        Ok(Delivery::new(Arc::clone(&self.shared), taken))
    }

    /// Takes the message whose turn it is, and blocks the thread for at most `timeout` until there
    /// is one. A task calls [`pop_timeout_async`](Self::pop_timeout_async): see [`pop`](Self::pop).
    ///
    /// # Errors
    /// [`PopError`] says whether there may be one later.
    #[doc(alias = "BRPOP")]
    #[doc(alias = "BLPOP")]
    pub fn pop_timeout(&self, timeout: Duration) -> Result<Delivery<T>, PopError> {
        self.pop_until(|| after(self.shared.clock.now(), timeout))
    }

    /// Takes the message whose turn it is, without blocking the thread. It needs no runtime: any
    /// executor may poll it.
    ///
    /// The future borrows nothing and is no handle: when all are dropped, it ends with
    /// [`PopError::Closed`]. Dropping it before it is ready loses no message, and whoever waits
    /// next gets what it was woken for. Do not keep it without polling it: what it was woken for
    /// waits as long.
    ///
    /// # Errors
    /// [`PopError::Closed`]; never `Empty`.
    pub fn pop_async(&self) -> impl Future<Output = Result<Delivery<T>, PopError>> + Send + use<T> {
        self.pop_timeout_async(Duration::MAX)
    }

    /// As [`pop_async`](Self::pop_async), for at most `timeout`, which counts from the first poll.
    ///
    /// # Errors
    /// [`PopError`] says whether there may be one later.
    pub fn pop_timeout_async(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<Delivery<T>, PopError>> + Send + use<T> {
        let mut waiting = self.waiting(|state| &mut state.poppers);
        async move {
            let clock = waiting.shared().clock.clone();
            let until = after(clock.now(), timeout);
            let popped = wait(&clock, until, |waker| look_for_one(&mut waiting, waker));
            popped.await.unwrap_or(Err(PopError::Empty))
        }
    }

    /// Takes up to `most` messages that are ready, in their order; if none is, blocks the thread
    /// for at most `timeout` until one is. Each is settled by itself.
    ///
    /// Tasks take one with [`pop_async`](Self::pop_async) and what else is ready with this and a
    /// time of zero.
    ///
    /// ```
    /// use haybox::queue::Queue;
    /// use std::time::Duration;
    ///
    /// let queue = Queue::new(1000)?;
    /// for row in 0..250 {
    ///     queue.push(row)?;
    /// }
    /// let rows = queue.pop_many(100, Duration::from_secs(1))?;
    /// // INSERT INTO log VALUES (…), (…), …
    /// assert_eq!(rows.len(), 100);
    /// for row in rows {
    ///     row.ack()?;
    /// }
    /// assert_eq!(queue.len(), 150);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PopError`] says whether there may be one later. `most` of zero is always `Ok` and empty.
    pub fn pop_many(&self, most: usize, timeout: Duration) -> Result<Vec<Delivery<T>>, PopError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut all = vec![self.pop_timeout(timeout)?];
        let room = (most - 1).min(self.stats().ready);
        let mut more = Vec::with_capacity(room);
        self.shared.change(|state, now, _| {
            more.extend(std::iter::from_fn(|| state.take(now).ok()).take(room));
        });
        let deliveries = more.into_iter();
        all.extend(deliveries.map(|taken| Delivery::new(Arc::clone(&self.shared), taken)));
        Ok(all)
    }

    fn pop_until(&self, until: impl FnOnce() -> Deadline) -> Result<Delivery<T>, PopError> {
        match self.try_pop() {
            Err(PopError::Empty) => {}
            popped => return popped,
        }
        let mut waiting = self.waiting(|state| &mut state.poppers);
        let popped = block(&self.shared.clock, until(), |waker| {
            look_for_one(&mut waiting, waker)
        });
        popped.unwrap_or(Err(PopError::Empty))
    }

    /// As [`pop`](Self::pop), until somebody sets `is_stopped` and calls
    /// [`wake_poppers`](Self::wake_poppers). Of a closed queue it waits for what is delayed and in
    /// flight, too.
    pub(super) fn pop_unless(&self, is_stopped: &AtomicBool) -> Option<Delivery<T>> {
        let mut waiting = self.waiting(|state| &mut state.poppers);
        let look = |waker: &Waker| look_unless(is_stopped, &mut waiting, waker);
        block(&self.shared.clock, NEVER, look).flatten()
    }

    /// As [`pop_unless`](Self::pop_unless), for a task.
    pub(super) async fn pop_unless_async(&self, is_stopped: &AtomicBool) -> Option<Delivery<T>> {
        let mut waiting = self.waiting(|state| &mut state.poppers);
        let look = |waker: &Waker| look_unless(is_stopped, &mut waiting, waker);
        wait(&self.shared.clock, NEVER, look).await.flatten()
    }

    pub(super) fn wake_poppers(&self) {
        self.shared.wake_poppers();
    }

    fn waiting(&self, turns: fn(&mut State<T>) -> &mut crate::turns::Turns) -> Waiting<T> {
        Waiting::new(Arc::clone(&self.shared), turns)
    }

    // ---- receipts ----

    /// The work of a delivery is done: its message leaves the queue.
    ///
    /// # Errors
    /// [`ReceiptError::Stale`] if its time had passed or it was settled before,
    /// [`ReceiptError::Unknown`] if it is from another queue.
    pub fn ack(&self, receipt: Receipt) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Done)
    }

    /// As [`Delivery::nack`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(&self, receipt: Receipt) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Again(None, None))
    }

    /// As [`Delivery::nack_after`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack_after(&self, receipt: Receipt, delay: Duration) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Again(Some(delay), None))
    }

    /// As [`Delivery::fail`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn fail(&self, receipt: Receipt, error: impl fmt::Display) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Again(None, Some(error.to_string())))
    }

    /// As [`Delivery::fail_after`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn fail_after(
        &self,
        receipt: Receipt,
        error: impl fmt::Display,
        delay: Duration,
    ) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Again(Some(delay), Some(error.to_string())))
    }

    /// As [`Delivery::release`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn release(&self, receipt: Receipt) -> Result<(), ReceiptError> {
        self.release_after(receipt, Duration::ZERO)
    }

    /// As [`Delivery::release_after`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn release_after(&self, receipt: Receipt, delay: Duration) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Untouched(delay))
    }

    /// As [`Delivery::bury`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn bury(&self, receipt: Receipt, error: impl fmt::Display) -> Result<(), ReceiptError> {
        self.settle(receipt, End::Never(error.to_string()))
    }

    /// As [`Delivery::extend`].
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn extend(&self, receipt: Receipt, time: Duration) -> Result<(), ReceiptError> {
        self.check(receipt)?;
        delivery::extend(&self.shared, receipt.number, receipt.id, time)
    }

    fn settle(&self, receipt: Receipt, end: End) -> Result<(), ReceiptError> {
        self.check(receipt)?;
        delivery::settle(&self.shared, receipt.number, receipt.id, end)
    }

    fn check(&self, receipt: Receipt) -> Result<(), ReceiptError> {
        if receipt.queue == self.shared.tag {
            Ok(())
        } else {
            Err(ReceiptError::Unknown)
        }
    }

    // ---- dead letters ----

    /// The messages that have failed as often as they may, the lowest number first. O(dead
    /// letters).
    ///
    /// ```
    /// use haybox::queue::Queue;
    ///
    /// let queue = Queue::builder(100).max_attempts(1).build()?;
    /// let id = queue.push("{\"amount\": NaN}")?;
    /// queue.pop()?.fail("expected a number")?;
    /// let dead = &queue.dead_letters()[0];
    /// assert_eq!((dead.id(), dead.error()), (id, Some("expected a number")));
    /// // Once the bug is fixed:
    /// queue.requeue(id)?;
    /// assert_eq!(queue.pop()?.attempt(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter<T>> {
        self.shared.change(|state, _, _| state.dead_letters())
    }

    /// Puts a dead letter at the end of the line again, with all its attempts before it.
    ///
    /// # Errors
    /// [`RequeueError`] says why it stays where it is.
    pub fn requeue(&self, id: u64) -> Result<(), RequeueError> {
        self.shared.change(|state, now, _| state.requeue(id, now))
    }

    /// Requeues as many dead letters as there is room for, the lowest number first; how many.
    pub fn requeue_all(&self) -> usize {
        self.shared.change(|state, now, _| state.requeue_all(now))
    }

    /// Drops a dead letter; whether there was one with that number.
    pub fn purge(&self, id: u64) -> bool {
        let purged = self.shared.change(|state, _, _| state.purge(id));
        purged.is_some()
    }

    /// Drops all dead letters; how many.
    pub fn purge_all(&self) -> usize {
        let purged = self.shared.change(|state, _, _| state.purge_all());
        purged.len()
    }

    // ---- the whole ----

    /// Hands out nothing from now on, until [`resume`](Self::resume): who pops waits, and of a
    /// queue that is closed gets `Closed`, though messages may be ready. Pushes go on coming in,
    /// and what is in flight can be settled.
    pub fn pause(&self) {
        self.shared.change(|state, _, _| state.is_paused = true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shared.change(|state, _, _| state.is_paused = false);
    }

    /// Whether the queue is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.change(|state, _, _| state.is_paused)
    }

    /// Takes nothing in any more, and wakes all who wait with `Closed`. What is ready can still be
    /// popped, without waiting, and what is in flight can be settled; while the queue is
    /// [paused](Self::pause) who pops gets `Closed` all the same, and after the pause what is
    /// ready. Closing twice does nothing more.
    ///
    /// ```
    /// use haybox::queue::{PopError, Queue};
    ///
    /// let queue = Queue::new(100)?;
    /// queue.push(1)?;
    /// queue.close();
    /// assert_eq!(queue.push(2).unwrap_err().into_inner(), Some(2));
    /// queue.pop()?.ack()?;
    /// assert_eq!(queue.pop().unwrap_err(), PopError::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.change(|state, _, _| state.is_closed())
    }

    /// Blocks the thread until nothing is ready, delayed or in flight, for at most `timeout`;
    /// whether that has come. Others have to do the work.
    pub fn wait_until_empty(&self, timeout: Duration) -> bool {
        let mut waiting = self.waiting(|state| &mut state.watchers);
        let until = after(self.shared.clock.now(), timeout);
        let look = |waker: &Waker| look_whether_empty(&mut waiting, waker);
        block(&self.shared.clock, until, look).is_some()
    }

    /// As [`wait_until_empty`](Self::wait_until_empty), without blocking the thread: for at most
    /// `timeout`, which counts from the first poll. The future borrows nothing and is no handle.
    pub fn wait_until_empty_async(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = bool> + Send + use<T> {
        let mut waiting = self.waiting(|state| &mut state.watchers);
        async move {
            let clock = waiting.shared().clock.clone();
            let until = after(clock.now(), timeout);
            let is_empty = wait(&clock, until, |waker| {
                look_whether_empty(&mut waiting, waker)
            });
            is_empty.await.is_some()
        }
    }

    /// How many messages are ready, delayed or in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.change(|state, _, _| state.len())
    }

    /// Whether no message is ready, delayed or in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages it holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.rules.capacity
    }

    /// The files that the queue is kept in; `None` if it was not
    /// [opened](QueueBuilder::open) on a directory.
    #[cfg(feature = "persist")]
    #[must_use]
    pub fn journal(&self) -> Option<&crate::persist::Journal> {
        self.shared.journal.as_ref()
    }

    /// What is in the queue now, and what it has done.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.shared.change(|state, now, _| state.stats(now))
    }

    /// Checks every invariant, for tests.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.shared.change(|state, now, _| state.validate(now));
    }
}

fn look_for_one<T>(waiting: &mut Waiting<T>, waker: &Waker) -> Poll<Result<Delivery<T>, PopError>> {
    let taken = waiting.look(waker, |state, now, _| take(state, now));
    taken.map_ok(|taken| Delivery::new(Arc::clone(waiting.shared()), taken))
}

fn look_whether_empty<T>(waiting: &mut Waiting<T>, waker: &Waker) -> Poll<()> {
    waiting.look(waker, |state, _, _| (state.len() == 0).then_some(()))
}

/// `None` when there is to be nothing more.
fn look_unless<T>(
    is_stopped: &AtomicBool,
    waiting: &mut Waiting<T>,
    waker: &Waker,
) -> Poll<Option<Delivery<T>>> {
    let taken = waiting.look(waker, |state, now, _| {
        if is_stopped.load(SeqCst) {
            return Some(None);
        }
        match state.take(now) {
            Ok(taken) => Some(Some(taken)),
            Err(PopError::Closed) if state.len() == 0 => Some(None),
            Err(_) => None,
        }
    });
    taken.map(|taken| Some(Delivery::new(Arc::clone(waiting.shared()), taken?)))
}

/// `None` while there may be something later.
fn take<T>(state: &mut State<T>, now: u64) -> Option<Result<super::state::Taken<T>, PopError>> {
    match state.take(now) {
        Err(PopError::Empty) => None,
        taken => Some(taken),
    }
}
