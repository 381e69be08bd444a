//! The publishers' end: a topic and whom it reaches.

#[cfg(doc)]
use super::Slow;
use super::bus::{BusState, Named};
use super::mailbox::{Mailbox, Offer};
use super::stats::Tally;
use super::subscription::Home;
use super::{SubscribeOptions, Subscription};
use crate::build_error::BuildError;
use crate::reentrancy;
use crate::slack::give_back;
use crate::sync::SpinLock;
use crate::time::{Clock, Deadline, after, wake_all};
use crate::wait;
use std::any::Any;
use std::fmt;
use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A message that came through a pattern, and the topic that it was published to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matched<T> {
    /// The name of the topic.
    pub topic: Arc<str>,
    /// What was published.
    pub message: T,
}

/// A name on a [`Bus`](super::Bus) to which messages of one type are published.
///
/// A handle: clone it into every thread and task. The topic is there for as long as a handle or a
/// subscription to it; a name that nobody uses costs nothing.
pub struct Topic<T>(Arc<TopicState<T>>);

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written to may be of the user's, and is written to without the lock.
        let (subscriptions, is_closed) = {
            let targets = self.0.targets.lock();
            (targets.list.len(), targets.is_closed)
        };
        let mut shown = f.debug_struct("Topic");
        shown
            .field("name", &self.0.name)
            .field("subscriptions", &subscriptions)
            .field("closed", &is_closed)
            .finish()
    }
}

impl<T: Send + 'static> Topic<T> {
    pub(crate) fn of(state: Arc<TopicState<T>>) -> Self {
        Self(state)
    }

    /// The name that the bus knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Subscribes to what is published from now on, with the defaults of [`SubscribeOptions`]: a
    /// subscriber that is 256 messages behind loses the oldest.
    ///
    /// A subscription to a topic that is closed has ended from the start.
    #[must_use = "dropping a subscription ends it"]
    pub fn subscribe(&self) -> Subscription<T> {
        let options = SubscribeOptions::new();
        self.subscribe_with(options)
            .expect("the defaults are possible")
    }

    /// Subscribes to what is published from now on.
    ///
    /// # Errors
    /// If the capacity is 0.
    pub fn subscribe_with(&self, options: SubscribeOptions) -> Result<Subscription<T>, BuildError> {
        let mailbox = options.mailbox(&self.0.tallies.lost)?;
        self.0.add(Target::Exact(Arc::clone(&mailbox)));
        let home = Box::new(Arc::clone(&self.0));
        Ok(Subscription::new(mailbox, self.0.clock.clone(), home))
    }

    /// How many subscriptions a message would be offered to now, those through patterns among them.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.0.targets.lock().list.len()
    }

    /// Ends all subscriptions to it: they get what is waiting, then [`NoMessage::Closed`]. Those
    /// through patterns go on with other topics. What is published to it from now on reaches
    /// nobody; who asks the bus for the name gets a new topic.
    ///
    /// [`NoMessage::Closed`]: super::NoMessage::Closed
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether it, or the bus, has been closed or the bus dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.targets.lock().is_closed
    }
}

impl<T: Clone + Send + 'static> Topic<T> {
    /// Publishes a message and says how many subscriptions have it: 0 when nobody has subscribed,
    /// or the topic is closed. One for which an older message was given up has it.
    ///
    /// The message is cloned for every subscription but one, so give big ones an [`Arc`]. It takes
    /// some 20 ns and, for each subscription, the time of a clone and of one short lock. It waits for
    /// nobody but subscriptions that asked for that ([`Slow::Block`]), and for those all at the
    /// same time, after all others have the message. A task should not wait that way: see
    /// [`publish_async`](Self::publish_async).
    ///
    /// A subscriber that is woken may publish on this thread, from inside its waker: no lock is
    /// held then. If a `Clone` panics, the subscriptions before it have the message.
    ///
    /// # Panics
    /// If called from inside a closure that a cache runs under a lock.
    ///
    /// ```
    /// use haybox::pubsub::Bus;
    ///
    /// let bus = Bus::new();
    /// let news = bus.topic::<&str>("news")?;
    /// assert_eq!(news.publish("nobody hears this"), 0);
    /// let (one, other) = (news.subscribe(), news.subscribe());
    /// assert_eq!(news.publish("bread is ready"), 2);
    /// assert_eq!(one.try_recv(), other.try_recv());
    /// # Ok::<(), haybox::pubsub::WrongType>(())
    /// ```
    pub fn publish(&self, message: T) -> usize {
        let message = match self.0.offer_only(message) {
            Ok(received) => return received,
            Err(message) => message,
        };
        let list = self.0.listeners();
        let mut round = Round::new(&self.0.name);
        round.offer_all(&list, message);
        self.0.tidy(&mut round);
        while let Some(until) = round.next_deadline(&self.0.clock) {
            if wait::block(&self.0.clock, until, |waker| round.look(waker)).is_none() {
                round.give_up(until);
            }
        }
        round.received
    }

    /// As [`publish`](Self::publish), but where that would block the thread to wait for a
    /// subscription with [`Slow::Block`], the task waits.
    ///
    /// The message is offered to all when the future is first polled. If it is dropped while it
    /// waits, those that it waits for do not get the message and count it as lost. Do not keep it
    /// without polling it: the room that it was woken for is kept as long.
    ///
    /// # Panics
    /// As [`publish`](Self::publish).
    pub async fn publish_async(&self, message: T) -> usize {
        let list = self.0.listeners();
        let mut round = Round::new(&self.0.name);
        round.offer_all(&list, message);
        self.0.tidy(&mut round);
        while let Some(until) = round.next_deadline(&self.0.clock) {
            let waited = wait::wait(&self.0.clock, until, |waker| round.look(waker));
            if waited.await.is_none() {
                round.give_up(until);
            }
        }
        round.received
    }
}

/// Whom a topic reaches.
pub(super) enum Target<T> {
    Exact(Arc<Mailbox<T>>),
    Pattern(Arc<Mailbox<Matched<T>>>),
}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Exact(mailbox) => Self::Exact(Arc::clone(mailbox)),
            Self::Pattern(mailbox) => Self::Pattern(Arc::clone(mailbox)),
        }
    }
}

impl<T> Target<T> {
    #[inline]
    fn offer(&self, name: &Arc<str>, message: T, woken: &mut Vec<Waker>) -> Offer<T> {
        match self {
            Self::Exact(mailbox) => mailbox.offer(message, woken),
            Self::Pattern(mailbox) => {
                let topic = Arc::clone(name);
                match mailbox.offer(Matched { topic, message }, woken) {
                    Offer::Taken => Offer::Taken,
                    Offer::TakenFor(oldest) => Offer::TakenFor(oldest.message),
                    Offer::Lost(lost) => Offer::Lost(lost.message),
                    Offer::Full(full, longest) => Offer::Full(full.message, longest),
                    Offer::Closed(lost) => Offer::Closed(lost.message),
                }
            }
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Exact(mailbox) => mailbox.is_ended(),
            Self::Pattern(mailbox) => mailbox.is_ended(),
        }
    }
}

/// A message on its way to the subscriptions. Wakes who got it at the latest when it is dropped,
/// so that a `Clone` that panics leaves nobody asleep.
struct Round<'l, T> {
    name: &'l Arc<str>,
    received: usize,
    has_ended: bool,
    left: Left<T>,
    full: Vec<Waiting<'l, T>>,
}

impl<'l, T> Round<'l, T> {
    fn new(name: &'l Arc<str>) -> Self {
        Self {
            name,
            received: 0,
            has_ended: false,
            left: Left::default(),
            full: Vec::new(),
        }
    }

    #[inline]
    fn offer(&mut self, target: &'l Target<T>, message: T) {
        match target.offer(self.name, message, &mut self.left.woken) {
            Offer::Taken => self.received += 1,
            other => self.note(target, other),
        }
    }

    /// Something else became of a message than that it was put into an empty place.
    #[cold]
    fn note(&mut self, target: &'l Target<T>, offered: Offer<T>) {
        match offered {
            Offer::Taken => self.received += 1,
            Offer::TakenFor(oldest) => {
                self.received += 1;
                self.left.dropped.push(oldest);
            }
            Offer::Lost(message) => self.left.dropped.push(message),
            Offer::Closed(message) => {
                self.has_ended = true;
                self.left.dropped.push(message);
            }
            Offer::Full(message, longest) => self.full.push(Waiting {
                target,
                name: self.name,
                message: Some(message),
                longest,
                until: None,
                place: None,
            }),
        }
    }

    /// The end of the next wait that ends, `None` when nothing is waited for any more.
    fn next_deadline(&mut self, clock: &Clock) -> Option<Deadline> {
        if self.full.is_empty() {
            return None;
        }
        let now = clock.now();
        let until = |waiting: &mut Waiting<'_, T>| {
            *waiting
                .until
                .get_or_insert_with(|| after(now, waiting.longest))
        };
        self.full.iter_mut().map(until).min()
    }

    /// Puts the message wherever there is room now. Ready when nothing is left to wait for.
    fn look(&mut self, waker: &Waker) -> Poll<()> {
        let received = &mut self.received;
        self.full.retain_mut(|waiting| match waiting.look(waker) {
            Poll::Ready(is_taken) => {
                *received += usize::from(is_taken);
                false
            }
            Poll::Pending => true,
        });
        if self.full.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits no longer for those whose time is up.
    fn give_up(&mut self, now: Deadline) {
        self.full
            .retain(|waiting| waiting.until.is_none_or(|until| until > now));
    }
}

impl<'l, T: Clone> Round<'l, T> {
    /// Offers copies to all but the last, and the message itself to that.
    fn offer_all(&mut self, list: &'l [Target<T>], message: T) {
        let Some((last, others)) = list.split_last() else {
            return;
        };
        for target in others {
            let copy = message.clone();
            self.offer(target, copy);
        }
        self.offer(last, message);
    }
}

/// What a publisher does when it holds no lock: wakes readers, drops messages.
pub(crate) struct Left<T> {
    woken: Vec<Waker>,
    dropped: Vec<T>,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Self {
            woken: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

impl<T> Left<T> {
    fn settle(&mut self) {
        wake_all(mem::take(&mut self.woken));
        self.dropped.clear();
    }

    fn append(&mut self, other: &mut Self) {
        self.woken.append(&mut other.woken);
        self.dropped.append(&mut other.dropped);
    }
}

impl<T> Drop for Left<T> {
    fn drop(&mut self) {
        wake_all(mem::take(&mut self.woken));
    }
}

/// A message that waits for room. Dropping it ends the wait, and the message is lost.
struct Waiting<'l, T> {
    target: &'l Target<T>,
    name: &'l Arc<str>,
    message: Option<T>,
    longest: Duration,
    /// Set when the wait begins.
    until: Option<Deadline>,
    place: Option<u64>,
}

impl<T> Waiting<'_, T> {
    fn look(&mut self, waker: &Waker) -> Poll<bool> {
        match self.target {
            Target::Exact(mailbox) => mailbox.poll_put(&mut self.place, &mut self.message, waker),
            Target::Pattern(mailbox) => {
                let topic = Arc::clone(self.name);
                let message = self.message.take();
                let mut message = message.map(|message| Matched { topic, message });
                let looked = mailbox.poll_put(&mut self.place, &mut message, waker);
                self.message = message.map(|message| message.message);
                looked
            }
        }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let has_lost = self.message.is_some();
        match self.target {
            Target::Exact(mailbox) => mailbox.stop_writing(&mut self.place, has_lost),
            Target::Pattern(mailbox) => mailbox.stop_writing(&mut self.place, has_lost),
        }
    }
}

/// What the handles of a topic share.
pub(crate) struct TopicState<T> {
    name: Arc<str>,
    clock: Clock,
    /// Nowhere for a topic that belongs to no bus.
    bus: Weak<BusState>,
    tallies: Tallies,
    targets: SpinLock<Targets<T>>,
}

/// What is counted for the bus.
#[derive(Clone, Default)]
pub(super) struct Tallies {
    /// What was published to this topic, by those who hold the lock of its targets.
    pub(super) published: Arc<Tally>,
    /// What the subscriptions of all topics have lost.
    pub(super) lost: Arc<Tally>,
}

/// Publishers work on the list as it was when they began, so that none of them holds the lock
/// while it clones messages.
struct Targets<T> {
    list: Arc<Vec<Target<T>>>,
    is_closed: bool,
}

impl<T: Send + 'static> TopicState<T> {
    pub(super) fn new(
        name: Arc<str>,
        clock: Clock,
        bus: Weak<BusState>,
        tallies: Tallies,
        list: Vec<Target<T>>,
        is_closed: bool,
    ) -> Self {
        let list = Arc::new(list);
        Self {
            name,
            clock,
            bus,
            tallies,
            targets: SpinLock::new(Targets { list, is_closed }),
        }
    }

    /// One that belongs to no bus.
    pub(crate) fn alone(name: &str, clock: Clock) -> Arc<Self> {
        let (name, bus, tallies) = (Arc::from(name), Weak::new(), Tallies::default());
        Arc::new(Self::new(name, clock, bus, tallies, Vec::new(), false))
    }

    pub(super) fn add(&self, target: Target<T>) {
        let mut targets = self.targets.lock();
        if !targets.is_closed {
            return Arc::make_mut(&mut targets.list).push(target);
        }
        drop(targets);
        // A pattern's mailbox is closed by the bus alone.
        if let Target::Exact(mailbox) = target {
            mailbox.close();
        }
    }

    fn close(&self) {
        self.end();
        if let Some(bus) = self.bus.upgrade() {
            bus.forget(&self.name, std::ptr::from_ref(self).cast());
        }
    }
}

impl<T> TopicState<T> {
    /// Takes out what `keep` does not want; it is dropped when the lock is released.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Target<T>) -> bool) {
        let mut targets = self.targets.lock();
        let list = Arc::make_mut(&mut targets.list);
        let removed: Vec<_> = list.extract_if(.., |target| !keep(target)).collect();
        give_back!(list);
        drop(targets);
        drop(removed);
    }

    /// Ends the subscriptions to it.
    pub(crate) fn end(&self) {
        let mut targets = self.targets.lock();
        targets.is_closed = true;
        let list = mem::take(&mut targets.list);
        drop(targets);
        for target in &*list {
            if let Target::Exact(mailbox) = target {
                mailbox.close();
            }
        }
    }

    /// Whom a message reaches that is published now.
    fn listeners(&self) -> Arc<Vec<Target<T>>> {
        if !reentrancy::check() {
            return Arc::default();
        }
        let targets = self.targets.lock();
        // The bus has forgotten the tally of a topic that was closed.
        self.tallies.published.count_locked();
        Arc::clone(&targets.list)
    }

    /// What is done when all have been offered the message, before waiting for any.
    fn tidy(&self, round: &mut Round<'_, T>) {
        if round.has_ended {
            self.retain(|target| !target.is_ended());
        }
        round.left.settle();
    }
}

impl<T: Clone + Send + 'static> TopicState<T> {
    /// Publishes to the only subscription, which takes no copy of the list, since there is nothing
    /// to clone. Gives the message back where there is another number of them, or more to do.
    #[inline]
    fn offer_only(&self, message: T) -> Result<usize, T> {
        if !reentrancy::check() {
            return Ok(0);
        }
        let mut left = Left::<T>::default();
        let targets = self.targets.lock();
        let [only] = &targets.list[..] else {
            return Err(message);
        };
        let offered = only.offer(&self.name, message, &mut left.woken);
        if !matches!(offered, Offer::Full(..) | Offer::Closed(_)) {
            self.tallies.published.count_locked();
        }
        drop(targets);
        match offered {
            Offer::Taken | Offer::TakenFor(_) => Ok(1),
            Offer::Lost(_) => Ok(0),
            Offer::Full(message, _) | Offer::Closed(message) => Err(message),
        }
    }

    /// Publishes under a lock of ours: nobody is woken and nothing dropped until what is added to
    /// `left` is dropped. `T` is one of our own types, whose `Clone` is no code of the user's, and
    /// no subscription waits for room.
    pub(crate) fn publish_later(&self, message: T, left: &mut Left<T>) {
        let list = Arc::clone(&self.targets.lock().list);
        let mut round = Round::new(&self.name);
        round.offer_all(&list, message);
        left.append(&mut round.left);
    }
}

impl<T: Send + 'static> Home<T> for Arc<TopicState<T>> {
    fn remove(&self, mailbox: &Arc<Mailbox<T>>) {
        self.retain(|target| match target {
            Target::Exact(other) => !Arc::ptr_eq(other, mailbox),
            Target::Pattern(_) => true,
        });
    }
}

impl<T: Send + 'static> Named for TopicState<T> {
    fn close(&self) {
        Self::close(self);
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<T>()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<T> Drop for TopicState<T> {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.forget(&self.name, std::ptr::from_ref(self).cast());
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_crowd_of_subscriptions_took_up_is_given_back() {
        const MANY: usize = 2_000;
        let topic = TopicState::<u32>::alone("", Clock::real());
        let topic = Topic::of(topic);
        drop((0..MANY).map(|_| topic.subscribe()).collect::<Vec<_>>());
        assert!(topic.0.targets.lock().list.capacity() < MANY / 2);
    }
}
