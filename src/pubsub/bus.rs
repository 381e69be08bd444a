//! The registry of topics by name, and of those who subscribed to patterns of names.
//!
//! One lock guards it, which is taken to find a topic and to subscribe to a pattern and not to
//! publish. Under it only the list of a topic is locked, and no code of the user's runs: what is
//! taken out is dropped when the lock has been released.

use super::mailbox::Mailbox;
use super::stats::{BusStats, Tally};
use super::subscription::Home;
use super::topic::{Matched, Tallies, Target, TopicState};
use super::{Pattern, SubscribeOptions, Subscription, Topic};
use crate::build_error::BuildError;
use crate::slack::give_back;
use crate::sync::Mutex;
use crate::time::Clock;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Weak};

/// A place where the parts of a program publish what happens and others hear of it: topics by
/// name, each with messages of one type.
///
/// A handle: clone it into every thread and task. When the last one is dropped the bus is closed;
/// one that who waits for its messages keeps meanwhile is never dropped: see
/// [`WeakBus`](super::WeakBus).
///
/// Messages are for those who have subscribed when they are published; nothing is kept for later.
/// A process that must not lose them needs a queue. For a value that others want to look at
/// any time, use a [`Cache`](crate::Cache).
///
/// ```
/// use haybox::pubsub::{Bus, Pattern};
///
/// let bus = Bus::new();
/// let everywhere = bus.subscribe_matching::<String>(&Pattern::new("room.*")?);
/// let kitchen = bus.topic::<String>("room.kitchen")?;
/// let in_the_kitchen = kitchen.subscribe();
///
/// assert_eq!(kitchen.publish("soup!".to_owned()), 2);
/// assert_eq!(in_the_kitchen.recv()?, "soup!");
/// let heard = everywhere.recv()?;
/// assert_eq!((&*heard.topic, &*heard.message), ("room.kitchen", "soup!"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bus(pub(super) Arc<BusState>);

/// What the handles of a bus share. Its topics hold it weakly, so that the last handle closes it.
pub(super) struct BusState {
    clock: Clock,
    /// What subscriptions have lost.
    lost: Arc<Tally>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    topics: HashMap<Arc<str>, Known>,
    /// What was published to topics that are not among these any more.
    published: u64,
    patterns: Vec<Listener>,
    is_closed: bool,
}

/// A topic that was not forgotten yet. What was published to it is known though it is gone.
struct Known {
    topic: Weak<dyn Named>,
    published: Arc<Tally>,
}

/// A topic of any type.
pub(super) trait Named: Send + Sync {
    fn close(&self);
    fn type_name(&self) -> &'static str;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A subscription to a pattern.
#[derive(Clone)]
struct Listener {
    pattern: Arc<Pattern>,
    mailbox: Arc<dyn Matching>,
}

/// The mailbox of a subscription to a pattern, of any type.
trait Matching: Send + Sync {
    fn close(&self);
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Send + 'static> Matching for Mailbox<Matched<T>> {
    fn close(&self) {
        Self::close(self);
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A topic was asked for with another type of messages than it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongType {
    topic: String,
    has: &'static str,
    asked: &'static str,
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the messages of topic {:?} are {}, not {}",
            self.topic, self.has, self.asked
        )
    }
}

impl std::error::Error for WrongType {}

impl Bus {
    /// A bus without topics, on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Clock::real())
    }

    /// A bus whose time-outs go by a given clock, for tests that do not wait.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self(Arc::new(BusState {
            clock,
            lost: Arc::default(),
            registry: Mutex::default(),
        }))
    }

    /// The topic of a name, which is made if it is not there. Any text is a name.
    ///
    /// Keep the topic rather than asking again for each message: finding it takes a lock of the
    /// whole bus, some 100 ns, and making one compares its name with all patterns.
    ///
    /// # Errors
    /// If the topic is there with another type of messages.
    pub fn topic<T: Send + 'static>(&self, name: &str) -> Result<Topic<T>, WrongType> {
        let found = self.0.find_or_make::<T>(name);
        let (has, any) = (found.type_name(), found.into_any());
        match any.downcast::<TopicState<T>>() {
            Ok(state) => Ok(Topic::of(state)),
            Err(_) => Err(WrongType {
                topic: name.to_owned(),
                has,
                asked: std::any::type_name::<T>(),
            }),
        }
    }

    /// Subscribes to all topics with messages of type `T` whose names match a pattern, those that
    /// are made later too, with the defaults of [`SubscribeOptions`].
    ///
    /// Topics of other types are not matched. All the topics share one queue. A subscription of a
    /// bus that is closed has ended from the start.
    #[doc(alias = "PSUBSCRIBE")]
    #[must_use = "dropping a subscription ends it"]
    pub fn subscribe_matching<T: Send + 'static>(
        &self,
        pattern: &Pattern,
    ) -> Subscription<Matched<T>> {
        self.subscribe_matching_with(pattern, SubscribeOptions::new())
            .expect("the defaults are possible")
    }

    /// As [`subscribe_matching`](Self::subscribe_matching), with options. O(topics), as is dropping
    /// the subscription.
    ///
    /// # Errors
    /// If the capacity is 0.
    pub fn subscribe_matching_with<T: Send + 'static>(
        &self,
        pattern: &Pattern,
        options: SubscribeOptions,
    ) -> Result<Subscription<Matched<T>>, BuildError> {
        let mailbox = options.mailbox::<Matched<T>>(&self.0.lost)?;
        self.0.listen(pattern, &mailbox);
        let home = Box::new(Arc::downgrade(&self.0));
        Ok(Subscription::new(mailbox, self.0.clock.clone(), home))
    }

    /// The names of the topics that are in use, in no particular order.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        let registry = self.0.registry.lock();
        let in_use = |(name, known): (&Arc<str>, &Known)| {
            (known.topic.strong_count() > 0).then(|| Arc::clone(name))
        };
        registry.topics.iter().filter_map(in_use).collect()
    }

    /// What went over the bus so far. O(topics), under the lock that finding a topic takes.
    ///
    /// ```
    /// use haybox::pubsub::{Bus, SubscribeOptions};
    ///
    /// let bus = Bus::new();
    /// let steps = bus.topic::<u32>("steps")?;
    /// let _slow = steps.subscribe_with(SubscribeOptions::new().capacity(2))?;
    /// (1..=5).for_each(|step| assert_eq!(steps.publish(step), 1));
    /// assert_eq!((bus.stats().published, bus.stats().lost), (5, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> BusStats {
        let registry = self.0.registry.lock();
        let known = registry.topics.values();
        let published = known.clone().map(|known| known.published.get());
        BusStats {
            published: registry.published + published.sum::<u64>(),
            lost: self.0.lost.get(),
            topics: known.filter(|known| known.topic.strong_count() > 0).count(),
        }
    }

    /// Closes all topics and ends all subscriptions: who waits gets what is waiting, then
    /// [`NoMessage::Closed`](super::NoMessage::Closed); publishers that wait for room go on. Topics
    /// of a closed bus reach nobody. Dropping the last handle does the same.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl BusState {
    fn find_or_make<T: Send + 'static>(self: &Arc<Self>, name: &str) -> Arc<dyn Named> {
        let mut registry = self.registry.lock();
        let known = registry.topics.get(name);
        if let Some(found) = known.and_then(|known| known.topic.upgrade()) {
            return found;
        }
        let name: Arc<str> = Arc::from(name);
        let list = registry.listeners_of::<T>(&name);
        let tallies = Tallies {
            published: Arc::default(),
            lost: Arc::clone(&self.lost),
        };
        let published = Arc::clone(&tallies.published);
        let topic: Arc<dyn Named> = Arc::new(TopicState::<T>::new(
            Arc::clone(&name),
            self.clock.clone(),
            Arc::downgrade(self),
            tallies,
            list,
            registry.is_closed,
        ));
        if !registry.is_closed {
            let weak = Arc::downgrade(&topic);
            registry.know(
                name,
                Known {
                    topic: weak,
                    published,
                },
            );
        }
        topic
    }

    fn listen<T: Send + 'static>(&self, pattern: &Pattern, mailbox: &Arc<Mailbox<Matched<T>>>) {
        let mut registry = self.registry.lock();
        if registry.is_closed {
            drop(registry);
            return mailbox.close();
        }
        let in_use = registry.in_use();
        for (_, topic) in in_use.iter().filter(|(name, _)| pattern.matches(name)) {
            if let Ok(topic) = Arc::clone(topic).into_any().downcast::<TopicState<T>>() {
                topic.add(Target::Pattern(Arc::clone(mailbox)));
            }
        }
        registry.patterns.push(Listener {
            pattern: Arc::new(pattern.clone()),
            mailbox: Arc::clone(mailbox) as Arc<dyn Matching>,
        });
        drop(registry);
        drop(in_use);
    }

    /// A topic is gone or closed. Another of its name may have come already.
    pub(super) fn forget(&self, name: &Arc<str>, topic: *const ()) {
        let mut registry = self.registry.lock();
        let is_it = |known: &Known| std::ptr::addr_eq(known.topic.as_ptr(), topic);
        if !registry.topics.get(name).is_some_and(is_it) {
            return;
        }
        let forgotten = registry.topics.remove_entry(name);
        give_back!(registry.topics);
        registry.note_gone(forgotten.as_ref().map(|(_, known)| known));
        drop(registry);
        drop(forgotten);
    }

    fn close(&self) {
        let mut registry = self.registry.lock();
        registry.is_closed = true;
        // Each is forgotten as it is closed.
        let in_use = registry.in_use();
        let patterns = mem::take(&mut registry.patterns);
        drop(registry);
        for (_, topic) in in_use {
            topic.close();
        }
        for listener in patterns {
            listener.mailbox.close();
        }
    }
}

impl Registry {
    fn know(&mut self, name: Arc<str>, known: Known) {
        let before = self.topics.insert(name, known);
        self.note_gone(before.as_ref());
    }

    /// A topic is not among the known ones any more, and nobody publishes to it.
    fn note_gone(&mut self, known: Option<&Known>) {
        self.published += known.map_or(0, |known| known.published.get());
    }

    /// The topics that somebody uses. They are dropped by the caller when the lock is released: the
    /// last of a topic's owners takes it.
    fn in_use(&self) -> Vec<(Arc<str>, Arc<dyn Named>)> {
        let in_use =
            |(name, known): (&Arc<str>, &Known)| Some((Arc::clone(name), known.topic.upgrade()?));
        self.topics.iter().filter_map(in_use).collect()
    }

    fn listeners_of<T: Send + 'static>(&self, name: &str) -> Vec<Target<T>> {
        let matching = |listener: &Listener| {
            if !listener.pattern.matches(name) {
                return None;
            }
            let mailbox = Arc::clone(&listener.mailbox).into_any();
            mailbox.downcast().ok().map(Target::Pattern)
        };
        self.patterns.iter().filter_map(matching).collect()
    }
}

impl Drop for BusState {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for BusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topics, patterns, is_closed) = {
            let registry = self.registry.lock();
            let (topics, patterns) = (registry.topics.len(), registry.patterns.len());
            (topics, patterns, registry.is_closed)
        };
        let mut shown = f.debug_struct("BusState");
        shown
            .field("topics", &topics)
            .field("patterns", &patterns)
            .field("closed", &is_closed)
            .finish()
    }
}

impl<T: Send + 'static> Home<Matched<T>> for Weak<BusState> {
    fn remove(&self, mailbox: &Arc<Mailbox<Matched<T>>>) {
        let Some(bus) = self.upgrade() else { return };
        let mut registry = bus.registry.lock();
        let is_it = |listener: &mut Listener| {
            std::ptr::addr_eq(Arc::as_ptr(&listener.mailbox), Arc::as_ptr(mailbox))
        };
        let removed: Vec<_> = registry.patterns.extract_if(.., is_it).collect();
        give_back!(registry.patterns);
        let in_use = if removed.is_empty() {
            Vec::new()
        } else {
            registry.in_use()
        };
        drop(registry);
        // A topic that is made from now on does not know the mailbox.
        for (name, topic) in in_use {
            if removed.iter().any(|gone| gone.pattern.matches(&name))
                && let Ok(topic) = topic.into_any().downcast::<TopicState<T>>()
            {
                topic.retain(|target| match target {
                    Target::Exact(_) => true,
                    Target::Pattern(other) => !Arc::ptr_eq(other, mailbox),
                });
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_topics_and_subscriptions_took_up_is_given_back() {
        const MANY: usize = 2_000;
        let bus = Bus::new();
        let topic = |number: usize| bus.topic::<u32>(&number.to_string()).unwrap();
        drop((0..MANY).map(topic).collect::<Vec<_>>());
        let one = Pattern::new("none").unwrap();
        let subscribe = |_| bus.subscribe_matching::<u32>(&one);
        drop((0..MANY).map(subscribe).collect::<Vec<_>>());
        let registry = bus.0.registry.lock();
        assert!(registry.topics.capacity() < MANY / 2);
        assert!(registry.patterns.capacity() < MANY / 2);
    }
}
