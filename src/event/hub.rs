//! Who is told what happens to entries, in which order, and on which thread.
//!
//! What happens to a key is put into a queue while the lock of its set is held, which fixes the
//! order; the queue is chosen by the key's hash. Once the lock is released, the thread empties the
//! queues it put something into, unless another thread is already at it, which then delivers for
//! both. So no code of the user's runs under a lock, a listener that calls the cache only adds to
//! a queue that is being emptied already, and a call may return before its event is delivered.
//!
//! A listener that is slower than the writers makes them wait: once a queue has its backlog, who
//! adds to it waits outside of all locks, and takes over when the deliverer has done its share.
//! Where nothing at all was delivered for as long as one waits, the listener hangs: then another
//! backlog may be added before somebody waits again. So a hang costs one wait for each backlog and
//! not for each notice, and what gathers meanwhile grows no faster than by a backlog for each wait.

use super::{Event, Events, RemovalCause};
use crate::busy::{Busy, is_busy_with};
use crate::contain::contain;
use crate::pubsub::{Mailbox, Offer, Slow, Topic};
use crate::slack::give_back;
use crate::stats::{Count, Counters};
use crate::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, RwLock, wait_or_give_up};
use crate::time::wake_all;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::time::{Duration, Instant};

/// A removal listener, with the means to give it copies of what the caller keeps.
pub(crate) struct Listener<K, V> {
    /// That of what is built on the cache, which is told first.
    pub(crate) own: Option<Box<OwnListener<K, V>>>,
    pub(crate) call: Option<Box<Call<K, V>>>,
    pub(crate) clone_key: fn(&K) -> K,
    pub(crate) clone_value: fn(&V) -> V,
}

pub(crate) type Call<K, V> = dyn Fn(K, V, RemovalCause) + Send + Sync;

pub(crate) type OwnListener<K, V> = dyn Fn(&K, &V, RemovalCause) + Send + Sync;

impl<K, V> Listener<K, V> {
    fn tell(&self, key: K, value: V, cause: RemovalCause) {
        if let Some(own) = &self.own {
            own(&key, &value, cause);
        }
        if let Some(call) = &self.call {
            call(key, value, cause);
        }
    }
}

/// Something to be told: an event for the subscriptions, a removal for the listener, or both.
pub(super) struct Notice<K, V> {
    pub(super) event: Option<Event<K>>,
    pub(super) removal: Option<(K, V, RemovalCause)>,
}

/// Queues of notices. A power of two.
pub(super) const QUEUES: usize = 16;

/// Notices that may wait in a queue before those who add to it wait, too. The interleaving checker
/// has not the time for many.
const BACKLOG: usize = if cfg!(shuttle) { 1 } else { 1024 };

/// What a thread delivers for others before it leaves the rest to one of those who wait.
const FAIR_SHARE: usize = if cfg!(shuttle) { 0 } else { 64 };

/// How long a call waits for a listener that is behind before it goes on all the same: the
/// listener may be waiting for this very thread, as where those of two caches write to each
/// other's, or hold up for ever the thread that delivers what expires for all caches.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

struct Queue<K, V> {
    line: Mutex<Line<K, V>>,
    draining: AtomicBool,
    /// Told when there is room again, for a delivery or for a limit that was raised.
    delivered: Condvar,
    waiting: AtomicUsize,
}

/// What waits to be delivered, in its order.
struct Line<K, V> {
    notices: VecDeque<Notice<K, V>>,
    /// How many may wait before those who add to them wait, too. More than the backlog after a wait
    /// in which nothing was delivered, until something is.
    limit: usize,
    /// How many were taken out. The last of them may be with the listener still.
    taken: u64,
}

pub(crate) struct Hub<K, V> {
    pub(super) listener: Option<Listener<K, V>>,
    subscribers: RwLock<Subscribers<K>>,
    subscribed: AtomicBool,
    /// Queues that a call has filled and could not empty, because it panicked.
    stranded: AtomicUsize,
    /// Allocated only where somebody may listen.
    queues: std::sync::OnceLock<Box<[Queue<K, V>]>>,
}

/// Publishes an event to a topic, and says whether that is still open.
type Publish<K> = dyn Fn(&Event<K>) -> bool + Send + Sync;

struct Subscribers<K> {
    list: Vec<Arc<Mailbox<Event<K>>>>,
    topics: Vec<Arc<Publish<K>>>,
    clone_key: Option<fn(&K) -> K>,
}

impl<K, V> fmt::Debug for Hub<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Hub");
        shown
            .field("listener", &self.listener.is_some())
            .field("subscribed", &self.subscribed)
            .finish()
    }
}

impl<K, V> Hub<K, V> {
    pub(crate) fn new(listener: Option<Listener<K, V>>) -> Self {
        Self {
            listener,
            subscribers: RwLock::new(Subscribers {
                list: Vec::new(),
                topics: Vec::new(),
                clone_key: None,
            }),
            subscribed: AtomicBool::new(false),
            stranded: AtomicUsize::new(0),
            queues: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether anybody is to be told anything.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.listener.is_some() || self.subscribed.load(Acquire)
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Events<K>
    where
        K: Clone,
    {
        let mailbox = Arc::new(Mailbox::alone(capacity, Slow::DropNewest));
        let mut subscribers = self.subscribers.write();
        subscribers.clone_key = Some(K::clone);
        subscribers.list.push(Arc::clone(&mailbox));
        self.subscribed.store(true, Release);
        Events::of(mailbox)
    }

    /// Has events published to a topic until that is closed.
    pub(crate) fn publish_to(&self, topic: &Topic<Event<K>>)
    where
        K: Clone + Send + Sync + 'static,
    {
        let topic = topic.clone();
        let publish = move |event: &Event<K>| {
            if topic.subscriptions() > 0 {
                topic.publish(event.clone());
            }
            !topic.is_closed()
        };
        let mut subscribers = self.subscribers.write();
        subscribers.clone_key = Some(K::clone);
        subscribers.topics.push(Arc::new(publish));
        self.subscribed.store(true, Release);
    }

    /// How to copy a key for a subscription, if there is one.
    pub(super) fn key_cloner(&self) -> Option<fn(&K) -> K> {
        if self.subscribed.load(Acquire) {
            self.subscribers.read().clone_key
        } else {
            None
        }
    }

    fn queue(&self, number: usize) -> &Queue<K, V> {
        let queues = self
            .queues
            .get_or_init(|| std::iter::repeat_with(Queue::new).take(QUEUES).collect());
        &queues[number]
    }

    /// Puts a notice into a queue, while the lock of its key's set is held.
    pub(super) fn post(&self, number: usize, notice: Notice<K, V>) {
        self.queue(number).line.lock().notices.push_back(notice);
    }

    /// Leaves queues to the next call that empties any.
    pub(super) fn strand(&self, queues: u16) {
        self.stranded.fetch_or(usize::from(queues), SeqCst);
    }

    /// Delivers what is in some queues and in those that were left behind.
    pub(super) fn drain_all(&self, queues: u16, counters: Option<&Counters>) {
        let queues = usize::from(queues) | self.stranded.swap(0, SeqCst);
        for number in (0..QUEUES).filter(|number| queues & 1 << number != 0) {
            let queue = self.queue(number);
            // A listener is not to wait for itself.
            while self.drain(queue, counters)
                && !is_busy_with(self)
                && queue.wait_for_room(Instant::now() + LONGEST_WAIT)
            {}
        }
    }

    /// Delivers what is in a queue, unless another thread or a caller up the stack is at it: then
    /// that one delivers it. Says whether there is so much left that the caller has to wait.
    fn drain(&self, queue: &Queue<K, V>, counters: Option<&Counters>) -> bool {
        while queue.len() > 0 && !queue.draining.swap(true, SeqCst) {
            let share = queue.len() + FAIR_SHARE;
            let handed_over = self.deliver_some(queue, share, counters);
            // A notice that came after the last look is seen by the loop's condition, by whoever
            // put it there or by this thread.
            queue.draining.store(false, SeqCst);
            // Who has given up waiting meanwhile takes nothing over.
            if handed_over && queue.is_awaited() {
                queue.wake();
                return false;
            }
        }
        queue.is_full()
    }

    /// Delivers until the queue is empty, or past its share when somebody waits who can go on.
    fn deliver_some(&self, queue: &Queue<K, V>, share: usize, counters: Option<&Counters>) -> bool {
        // The calls of its listener must not wait for it; they may for those of other caches.
        let _busy = Busy::with(self);
        for done in 0.. {
            let is_awaited = queue.is_awaited();
            if done >= share && is_awaited {
                return true;
            }
            let Some(notice) = queue.take() else {
                break;
            };
            // Listeners and the destructors of keys may panic; the next notice is delivered all the
            // same.
            if contain(|| self.deliver(notice)).is_none()
                && let Some(counters) = counters
            {
                counters.add(Count::ListenerPanics, 1);
            }
            if is_awaited && !queue.is_full() {
                queue.wake();
            }
        }
        false
    }

    fn deliver(&self, notice: Notice<K, V>) {
        if let Some(event) = notice.event {
            // A key that cannot be copied is lost to the subscriptions, not to the listener.
            let _ = contain(|| self.publish(event));
        }
        if let (Some(listener), Some((key, value, cause))) = (&self.listener, notice.removal) {
            listener.tell(key, value, cause);
        }
    }

    fn publish(&self, event: Event<K>) {
        let mut has_ended = self.publish_to_topics(&event);
        for (mailbox, key) in self.copies(&event.key) {
            let (kind, mut woken) = (event.kind, Vec::new());
            let offered = mailbox.offer(Event { key, kind }, &mut woken);
            // Before a key is dropped for which there was no place, which may panic.
            wake_all(woken);
            has_ended |= matches!(offered, Offer::Closed(_));
        }
        if has_ended {
            self.forget_ended();
        }
    }

    /// Says whether one of the topics was closed, which is then forgotten.
    fn publish_to_topics(&self, event: &Event<K>) -> bool {
        let topics = self.subscribers.read().topics.clone();
        let is_closed = |publish: &Arc<Publish<K>>| {
            // A key that cannot be copied is lost to this topic, not to others.
            contain(|| !publish(event)).unwrap_or(false)
        };
        let closed: Vec<_> = topics.into_iter().filter(is_closed).collect();
        if closed.is_empty() {
            return false;
        }
        let is_closed =
            |publish: &mut Arc<Publish<K>>| closed.iter().any(|other| Arc::ptr_eq(publish, other));
        let mut subscribers = self.subscribers.write();
        // What is taken out is still held by `closed`, and dropped when the lock is released.
        subscribers.topics.retain_mut(|publish| !is_closed(publish));
        drop(subscribers);
        true
    }

    /// The subscriptions, each with a copy of a key for it. They are not locked any more: copying
    /// and waking readers may take its time.
    fn copies(&self, key: &K) -> Vec<(Arc<Mailbox<Event<K>>>, K)> {
        let (list, clone_key) = {
            let subscribers = self.subscribers.read();
            (subscribers.list.clone(), subscribers.clone_key)
        };
        let copy = |mailbox| Some((mailbox, clone_key?(key)));
        list.into_iter().filter_map(copy).collect()
    }

    fn forget_ended(&self) {
        let mut subscribers = self.subscribers.write();
        subscribers.list.retain(|mailbox| !mailbox.is_ended());
        if subscribers.list.is_empty() && subscribers.topics.is_empty() {
            self.subscribed.store(false, Release);
        }
    }

    /// Ends all subscriptions: their readers get what is waiting, then the end.
    pub(crate) fn close(&self) {
        let mut subscribers = self.subscribers.write();
        let list = mem::take(&mut subscribers.list);
        let topics = mem::take(&mut subscribers.topics);
        drop(subscribers);
        list.iter().for_each(|mailbox| mailbox.close());
        drop(topics);
    }
}

impl<K, V> Queue<K, V> {
    fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                notices: VecDeque::new(),
                limit: BACKLOG,
                taken: 0,
            }),
            draining: AtomicBool::new(false),
            delivered: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn len(&self) -> usize {
        self.line.lock().notices.len()
    }

    /// Whether who adds to it is to wait.
    fn is_full(&self) -> bool {
        self.line.lock().is_full()
    }

    fn take(&self) -> Option<Notice<K, V>> {
        self.line.lock().take()
    }

    /// Whether somebody waits who can go on where another stops.
    fn is_awaited(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Wakes those who wait. Through the lock, so that none is between its look and its sleep.
    fn wake(&self) {
        drop(self.line.lock());
        self.delivered.notify_all();
    }

    /// Waits, with no lock held, until the queue is not full or nobody empties it, at most to
    /// `until`. Says whether the caller is to try again: not when it has waited long enough.
    fn wait_for_room(&self, until: Instant) -> bool {
        self.waiting.fetch_add(1, SeqCst);
        let mut line = self.line.lock();
        let taken_before = line.taken;
        let mut timed_out = false;
        while line.is_full() && self.draining.load(SeqCst) && !timed_out {
            (line, timed_out) = wait_or_give_up(&self.delivered, line, until);
        }
        let lets_in_more = timed_out && line.give_up(taken_before);
        drop(line);
        if lets_in_more {
            // The others that wait do so for the same hang.
            self.delivered.notify_all();
        }
        self.waiting.fetch_sub(1, SeqCst);
        // Though the time is up: the one who stopped may have counted on this thread.
        !timed_out || !self.draining.load(SeqCst)
    }
}

impl<K, V> Line<K, V> {
    fn is_full(&self) -> bool {
        self.notices.len() > self.limit
    }

    fn take(&mut self) -> Option<Notice<K, V>> {
        let notice = self.notices.pop_front()?;
        self.taken = self.taken.wrapping_add(1);
        self.limit = BACKLOG;
        give_back!(self.notices);
        Some(notice)
    }

    /// Somebody has waited long enough, from when so many had been taken out. Where none was since,
    /// another backlog is let in; says whether.
    fn give_up(&mut self, taken_before: u64) -> bool {
        let hangs = self.taken == taken_before;
        if hangs {
            self.limit = self.notices.len() + BACKLOG;
        }
        hangs
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// A queue whose deliverer does not come back.
    fn hanging() -> Queue<(), ()> {
        let queue = Queue::new();
        queue.draining.store(true, SeqCst);
        queue
    }

    fn post(queue: &Queue<(), ()>, count: usize) {
        let notice = || Notice {
            event: None,
            removal: None,
        };
        let notices = std::iter::repeat_with(notice).take(count);
        queue.line.lock().notices.extend(notices);
    }

    #[test]
    fn a_wait_in_vain_lets_in_one_more_backlog_until_something_is_delivered() {
        let queue = hanging();
        let over = Instant::now();
        for backlogs in 1..4 {
            post(&queue, BACKLOG);
            assert!(!queue.is_full(), "nobody waits for the {backlogs}. backlog");
            post(&queue, 1);
            assert!(queue.is_full());
            assert!(!queue.wait_for_room(over), "who has waited goes on");
        }
        assert!(!queue.is_full());
        assert!(queue.take().is_some());
        assert!(queue.is_full(), "it is waited for again");
    }

    #[test]
    fn a_flood_of_notices_leaves_no_room_behind() {
        let queue = hanging();
        post(&queue, 100 * BACKLOG);
        while queue.take().is_some() {}
        assert!(queue.line.lock().notices.capacity() < BACKLOG);
    }

    #[test]
    fn a_listener_that_is_slow_is_waited_for_each_time() {
        let queue = hanging();
        post(&queue, BACKLOG + 3);
        let mut line = queue.line.lock();
        let taken_before = line.taken;
        assert!(line.take().is_some());
        assert!(!line.give_up(taken_before));
        assert!(line.is_full());
        let taken_before = line.taken;
        assert!(line.give_up(taken_before));
        assert!(!line.is_full());
    }
}
