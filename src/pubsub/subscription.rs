//! The subscriber's end.

use super::mailbox::{End, Mailbox, Reader};
use super::stats::Tally;
use crate::build_error::BuildError;
use crate::time::Deadline;
use crate::time::{Clock, NEVER, after};
use crate::wait;
use crossbeam_channel::Receiver;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

/// What happens to a message when the queue of a subscription is full.
///
/// In every case the subscription counts what it lost: see [`Subscription::lost`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// The message that has waited longest is given up for the new one. For what is out of date
    /// when a newer one has come: positions, prices, the state of a page. The default.
    #[default]
    DropOldest,
    /// The new message is given up. For samples and logs, where the first ones tell the most.
    DropNewest,
    /// The publisher waits for room, at most for this time on the clock of the bus; then the new
    /// message is given up. All other subscriptions get the message first. Time zero is
    /// `DropNewest`; [`Duration::MAX`] waits until there is room or the subscription ends.
    ///
    /// A thread that publishes to a subscription that it reads itself waits for the whole time.
    ///
    /// Publishers get room in the order in which they began to wait. A future that was woken for it
    /// is to be polled or dropped: until then it has the room, and nobody else is woken for it.
    Block(Duration),
    /// The subscription ends. It still gets what is waiting, and then
    /// [`NoMessage::TooSlow`]. For subscribers that must see every message or start anew.
    Disconnect,
}

/// How a subscription waits for its subscriber.
///
/// | option | default |
/// | --- | --- |
/// | [`capacity`](Self::capacity) | 256 messages |
/// | [`on_slow`](Self::on_slow) | [`Slow::DropOldest`] |
///
/// ```
/// use haybox::pubsub::{Slow, SubscribeOptions};
///
/// let every_order = SubscribeOptions::new().capacity(10_000).on_slow(Slow::Disconnect);
/// # let _ = every_order;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "options do nothing until something subscribes with them"]
pub struct SubscribeOptions {
    capacity: usize,
    slow: Slow,
}

impl SubscribeOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            capacity: 256,
            slow: Slow::DropOldest,
        }
    }

    /// How many messages may wait, at least 1. Default: 256.
    ///
    /// Memory is taken as messages wait, up to the next power of two of the most that did, and
    /// given back with the subscription.
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// What happens when that many wait and another comes. Default: [`Slow::DropOldest`].
    pub const fn on_slow(mut self, slow: Slow) -> Self {
        self.slow = slow;
        self
    }

    pub(crate) const fn slow(&self) -> Slow {
        self.slow
    }

    pub(super) fn mailbox<M>(self, losses: &Arc<Tally>) -> Result<Arc<Mailbox<M>>, BuildError> {
        if self.capacity == 0 {
            let problem = "a subscription needs room for one message at least";
            return Err(BuildError::new("SubscribeOptions", "capacity", problem));
        }
        Ok(Arc::new(Mailbox::new(
            self.capacity,
            self.slow,
            Arc::clone(losses),
        )))
    }
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a subscription has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoMessage {
    /// None is waiting, or none came in time.
    Empty,
    /// The topic or the bus was closed or dropped, or the subscription itself
    /// [closed](Subscription::close), and all messages were read.
    Closed,
    /// The subscription was too slow and had asked to be ended then ([`Slow::Disconnect`]); all
    /// messages that came before that were read.
    TooSlow,
}

impl fmt::Display for NoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no message is waiting",
            Self::Closed => "the subscription is closed and all its messages were read",
            Self::TooSlow => "the subscription was too slow and has been ended",
        })
    }
}

impl std::error::Error for NoMessage {}

impl From<End> for NoMessage {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::TooSlow => Self::TooSlow,
        }
    }
}

/// Where a mailbox is taken out again.
pub(crate) trait Home<M>: Send + Sync {
    fn remove(&self, mailbox: &Arc<Mailbox<M>>);
}

/// A queue that the messages of a topic, or of all topics whose names match a pattern, come into.
///
/// Threads read it with [`recv`](Self::recv) and its relatives, tasks of any runtime or none with
/// [`recv_async`](Self::recv_async) or [`poll_recv`](Self::poll_recv), and crossbeam's `select!`
/// waits for its [`bell`](Self::bell). Dropping it ends it: what waits is dropped, and publishers
/// that wait for room go on at once. [`close`](Self::close) ends it from any thread, also while
/// others wait for a message, and says what both cost.
///
/// Several may read one subscription at the same time. Then each message goes to one of them, and
/// wakes the one that has waited longest, which keeps its turn where one that comes just then is
/// quicker. A future that was woken is to be polled or dropped: nobody else is woken for the same
/// message.
///
/// The messages of one publisher that waits for each call to end before it makes the next come in
/// the order in which it published them, also from different topics of a pattern. Messages of
/// different publishers, and of calls that are under way at the same time, come in any order, and
/// two subscriptions may see them in different ones.
///
/// Each call takes one lock that only the publishers to this subscription and its readers share,
/// for some 10 ns.
pub struct Subscription<M> {
    mailbox: Arc<Mailbox<M>>,
    clock: Clock,
    home: Box<dyn Home<M>>,
    bell: OnceLock<Receiver<()>>,
    /// Who calls `poll_recv`.
    poller: Reader,
}

impl<M> Subscription<M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<M>>, clock: Clock, home: Box<dyn Home<M>>) -> Self {
        Self {
            mailbox,
            clock,
            home,
            bell: OnceLock::new(),
            poller: Reader::polling(),
        }
    }

    /// Waits for the next message, and blocks the thread until it comes.
    ///
    /// In an async program it holds up all tasks of the thread, those of a whole runtime of one
    /// thread, and so maybe the task that would publish. A task calls
    /// [`recv_async`](Self::recv_async).
    ///
    /// # Errors
    /// [`NoMessage::Closed`] or [`NoMessage::TooSlow`], when there will be none; never `Empty`.
    ///
    /// ```
    /// use haybox::pubsub::{Bus, NoMessage};
    ///
    /// let bus = Bus::new();
    /// let orders = bus.topic::<u32>("orders")?;
    /// let subscription = orders.subscribe();
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| assert_eq!(subscription.recv(), Ok(1)));
    ///     orders.publish(1);
    /// });
    /// drop(bus);
    /// assert_eq!(subscription.recv(), Err(NoMessage::Closed));
    /// # Ok::<(), haybox::pubsub::WrongType>(())
    /// ```
    pub fn recv(&self) -> Result<M, NoMessage> {
        self.recv_until(NEVER)
    }

    /// The next message if one is waiting.
    ///
    /// # Errors
    /// [`NoMessage`] says whether there may be one later.
    #[inline]
    pub fn try_recv(&self) -> Result<M, NoMessage> {
        self.mailbox.take()?.ok_or(NoMessage::Empty)
    }

    /// Waits for the next message, at most for `timeout` on the clock of the bus. Time zero is
    /// [`try_recv`](Self::try_recv). It blocks the thread, as [`recv`](Self::recv) does.
    ///
    /// # Errors
    /// [`NoMessage`] says whether there may be one later.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<M, NoMessage> {
        self.recv_until(after(self.clock.now(), timeout))
    }

    fn recv_until(&self, until: Deadline) -> Result<M, NoMessage> {
        // Nearly always this needs nothing else.
        if let Some(message) = self.mailbox.take()? {
            return Ok(message);
        }
        let mut reading = Reading::of(&self.mailbox);
        let found = wait::block(&self.clock, until, |waker| {
            self.mailbox.poll_take(&mut reading.reader, waker)
        });
        Ok(found.ok_or(NoMessage::Empty)??)
    }

    /// Waits for the next message without blocking the thread. It needs no runtime: any executor
    /// may poll it.
    ///
    /// Dropping the future before it is ready loses no message.
    ///
    /// # Errors
    /// [`NoMessage::Closed`] or [`NoMessage::TooSlow`], when there will be none; never `Empty`.
    pub async fn recv_async(&self) -> Result<M, NoMessage> {
        if let Some(message) = self.mailbox.take()? {
            return Ok(message);
        }
        let mut reading = Reading::of(&self.mailbox);
        let taken = poll_fn(|context| self.mailbox.poll_take(&mut reading.reader, context.waker()));
        Ok(taken.await?)
    }

    /// The next message, `None` when there will be none; otherwise the task is woken when there is
    /// something to poll for. This is what `futures_core::Stream` asks for, which the feature
    /// `stream` implements.
    ///
    /// Only the waker of the last call is woken.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<M>> {
        let taken = self.mailbox.poll_take(&mut self.poller, context.waker());
        taken.map(Result::ok)
    }

    /// Moves messages that are waiting to the end of a vector, at most `most`, under one lock: for
    /// subscribers that get so many that a lock for each would show. Waits for none. Returns how
    /// many, which may be 0.
    ///
    /// # Errors
    /// [`NoMessage::Closed`] or [`NoMessage::TooSlow`], when there will be none; never `Empty`.
    pub fn drain(&self, into: &mut Vec<M>, most: usize) -> Result<usize, NoMessage> {
        Ok(self.mailbox.take_many(into, most)?)
    }

    /// The messages that are waiting now, without waiting for more.
    pub fn try_iter(&self) -> impl Iterator<Item = M> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Every message from now on; waits for each, and ends when there will be none.
    pub fn iter(&self) -> Iter<'_, M> {
        Iter(self)
    }

    /// What crossbeam's `select!` can wait for: it is ready when messages are waiting or there will
    /// be none, and then [`try_recv`](Self::try_recv) says which.
    ///
    /// It may be ready once more after the last message was read, so be ready for
    /// [`NoMessage::Empty`]. The type is that of `crossbeam-channel` 0.5, since its macro takes no
    /// other. Publishers pay for it (some 20 ns) from the first call on.
    ///
    /// ```
    /// use crossbeam_channel::{bounded, select};
    /// use haybox::pubsub::Bus;
    ///
    /// let bus = Bus::new();
    /// let prices = bus.topic::<u32>("prices")?;
    /// let subscription = prices.subscribe();
    /// let (stop, stopped) = bounded(1);
    /// prices.publish(30);
    /// let mut seen = Vec::new();
    /// loop {
    ///     select! {
    ///         recv(subscription.bell()) -> _ => {
    ///             seen.extend(subscription.try_iter());
    ///             stop.send(()).expect("somebody listens");
    ///         }
    ///         recv(stopped) -> _ => break,
    ///     }
    /// }
    /// assert_eq!(seen, [30]);
    /// # Ok::<(), haybox::pubsub::WrongType>(())
    /// ```
    pub fn bell(&self) -> &Receiver<()> {
        self.bell.get_or_init(|| self.mailbox.bell())
    }

    /// Ends the subscription: nothing comes in any more, and whoever waits for a message, a thread
    /// or a task, goes on at once. What is waiting can still be read, then there is
    /// [`NoMessage::Closed`]; who does not want it drops the subscription. Publishers that wait for
    /// room go on, and their messages are not received.
    ///
    /// It is for others than who reads, who share the subscription by reference or in an [`Arc`].
    /// One that has ended before, as by [`NoMessage::TooSlow`], stays as it is, and closing twice
    /// does nothing more. O(subscriptions of the topic), or of all topics where it is one to a
    /// pattern.
    ///
    /// ```
    /// use haybox::pubsub::{Bus, NoMessage};
    /// use std::sync::Arc;
    /// use std::thread;
    ///
    /// let bus = Bus::new();
    /// let orders = bus.topic::<u32>("orders")?;
    /// let subscription = Arc::new(orders.subscribe());
    /// let worker = thread::spawn({
    ///     let subscription = Arc::clone(&subscription);
    ///     move || subscription.iter().sum::<u32>()
    /// });
    /// (1..=3).for_each(|order| assert_eq!(orders.publish(order), 1));
    /// subscription.close();
    /// assert_eq!(orders.publish(4), 0);
    /// assert_eq!(worker.join().unwrap(), 6);
    /// assert_eq!(subscription.recv(), Err(NoMessage::Closed));
    /// # Ok::<(), haybox::pubsub::WrongType>(())
    /// ```
    #[doc(alias = "UNSUBSCRIBE")]
    #[doc(alias = "PUNSUBSCRIBE")]
    pub fn close(&self) {
        self.home.remove(&self.mailbox);
        self.mailbox.close();
    }

    /// How many messages were lost so far because the subscription was slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.mailbox.lost()
    }

    /// How many messages were lost since the last call of this. With [`Slow::DropOldest`] they
    /// would have come before those that are waiting: asked after each message, it tells where the
    /// gaps are.
    ///
    /// ```
    /// use haybox::pubsub::{Bus, SubscribeOptions};
    ///
    /// let bus = Bus::new();
    /// let steps = bus.topic::<u32>("steps")?;
    /// let subscription = steps.subscribe_with(SubscribeOptions::new().capacity(2))?;
    /// (1..=5).for_each(|step| assert_eq!(steps.publish(step), 1));
    /// assert_eq!((subscription.try_recv(), subscription.take_lost()), (Ok(4), 3));
    /// assert_eq!((subscription.try_recv(), subscription.take_lost()), (Ok(5), 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_lost(&self) -> u64 {
        self.mailbox.take_lost()
    }

    /// How many messages are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mailbox.len()
    }

    /// Whether no message is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.mailbox.capacity()
    }
}

impl<M> fmt::Debug for Subscription<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.mailbox).finish()
    }
}

impl<M> Drop for Subscription<M> {
    fn drop(&mut self) {
        self.home.remove(&self.mailbox);
        self.mailbox.stop_reading(&mut self.poller);
        self.mailbox.abandon();
    }
}

/// One who waits for a message. Dropping it ends the wait.
struct Reading<'m, M> {
    mailbox: &'m Mailbox<M>,
    reader: Reader,
}

impl<'m, M> Reading<'m, M> {
    fn of(mailbox: &'m Mailbox<M>) -> Self {
        Self {
            mailbox,
            reader: Reader::waiting(),
        }
    }
}

impl<M> Drop for Reading<'_, M> {
    fn drop(&mut self) {
        self.mailbox.stop_reading(&mut self.reader);
    }
}

/// Every message of a subscription, from [`Subscription::iter`].
#[derive(Debug)]
pub struct Iter<'s, M>(&'s Subscription<M>);

impl<M> Iterator for Iter<'_, M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        self.0.recv().ok()
    }
}

impl<'s, M> IntoIterator for &'s Subscription<M> {
    type Item = M;
    type IntoIter = Iter<'s, M>;

    fn into_iter(self) -> Iter<'s, M> {
        self.iter()
    }
}

/// Every message of a subscription that is consumed by it.
#[derive(Debug)]
pub struct IntoIter<M>(Subscription<M>);

impl<M> Iterator for IntoIter<M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        self.0.recv().ok()
    }
}

impl<M> IntoIterator for Subscription<M> {
    type Item = M;
    type IntoIter = IntoIter<M>;

    fn into_iter(self) -> IntoIter<M> {
        IntoIter(self)
    }
}

#[cfg(feature = "stream")]
impl<M> futures_core::Stream for Subscription<M> {
    type Item = M;

    fn poll_next(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<M>> {
        self.get_mut().poll_recv(context)
    }
}
