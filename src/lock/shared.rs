//! What all handles of the locks, the leases and the waiters share.

use super::slot::{After, Slot, Terms};
use super::waiter::Target;
use crate::cache::Cache;
use crate::hash::KeyHash;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crate::time::{Clock, Deadline, Moment, NEAR, wake_at};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

pub(super) struct Shared<K, S> {
    pub(super) slots: Cache<K, Slot, S>,
    pub(super) clock: Clock,
    pub(super) permits: u32,
    pub(super) watchdog: Option<Duration>,
    /// The token of the next lease.
    tokens: AtomicU64,
    is_closed: AtomicBool,
    /// The public handles. Leases and waiters do not count.
    handles: AtomicUsize,
    me: Weak<Self>,
}

/// The part of [`Shared`] that leases and waiters need, which do not know of hashers.
pub(super) trait Registry<K>: Send + Sync {
    fn clock(&self) -> &Clock;

    /// How long the watchdog renews a lease.
    fn watchdog(&self) -> Option<Duration>;

    /// Changes the slot of a key, which is made if it is missing, unless the locks are closed;
    /// whether they are not.
    fn change(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) -> bool;

    /// Changes the slot of a key, if there is one.
    fn existing(&self, hash: KeyHash, key: &K, change: &mut Step<'_>);
}

pub(super) type Step<'s> = dyn FnMut(&mut Slot, &Terms<'_>) -> After + 's;

impl<K, S> Shared<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(
        slots: Cache<K, Slot, S>,
        clock: Clock,
        permits: u32,
        watchdog: Option<Duration>,
        first_token: u64,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            slots,
            clock,
            permits,
            watchdog,
            tokens: AtomicU64::new(first_token),
            is_closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            me: Weak::clone(me),
        })
    }

    /// Does what is left to do after a change, with no lock held.
    fn finish(&self, hash: KeyHash, key: &K, after: After) {
        let watch = after.watch;
        after.wake();
        let Some(deadline) = watch else { return };
        let registry: Weak<dyn Registry<K>> = self.me.clone();
        let expiry = Arc::new(Expiry(registry, hash, key.clone()));
        let mut timer = Some(wake_at(&self.clock, deadline, Waker::from(expiry)));
        let unused = self.slots.existing_slot(hash, key, |slot, forget_at, _| {
            let unused = timer.take().map(|timer| slot.keep_timer(timer, deadline));
            (forget_at, unused)
        });
        // Dropped without a lock: a timer holds a key.
        drop((unused, timer));
    }

    fn step(
        &self,
        slot: &mut Slot,
        forget_at: Deadline,
        moment: &Moment<'_>,
        change: &mut Step<'_>,
    ) -> (Deadline, After) {
        let coarse = moment.coarse();
        let is_precise = slot.is_near(coarse, NEAR);
        let terms = Terms {
            permits: self.permits,
            now: if is_precise {
                moment.clock().now()
            } else {
                coarse
            },
            clock: moment.clock(),
            next_token: &|| self.next_token(),
        };
        let after = change(slot, &terms);
        (later_if_near(forget_at, slot.forget_at(coarse)), after)
    }
}

impl<K, S> Shared<K, S> {
    fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, SeqCst)
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, SeqCst);
    }

    pub(super) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, SeqCst) == 1
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }
}

impl<K, S> Shared<K, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Sends all who wait away.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
        // Whoever joined a queue did it with the set locked after it saw that the locks were open,
        // so the walk meets it.
        let mut afters = Vec::new();
        self.slots.each_slot(|slot| afters.extend(slot.close()));
        afters.into_iter().for_each(After::wake);
    }
}

impl<K, S> Registry<K> for Shared<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn change(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) -> bool {
        let changed = self.slots.slot(hash, key, |slot, forget_at, moment| {
            if self.is_closed() {
                return (forget_at, None);
            }
            let (forget_at, after) = self.step(slot, forget_at, moment, change);
            (forget_at, Some(after))
        });
        match changed.flatten() {
            None => false,
            Some(after) => {
                self.finish(hash, key, after);
                true
            }
        }
    }

    fn existing(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) {
        let after = self
            .slots
            .existing_slot(hash, key, |slot, forget_at, moment| {
                self.step(slot, forget_at, moment, change)
            });
        if let Some(after) = after {
            self.finish(hash, key, after);
        }
    }
}

/// The deadline of a slot: the one that it has if that is not much later than the one it needs. What
/// is locked and freed in turns then has its deadline moved once in a while and in one direction,
/// which costs nothing, and not twice in each turn.
fn later_if_near(current: Deadline, needed: Deadline) -> Deadline {
    if (needed..needed.saturating_add(SPARE)).contains(&current) {
        current
    } else {
        needed
    }
}

/// In nanoseconds: a minute.
const SPARE: u64 = 60_000_000_000;

/// Has the leases of a key that have expired handed on.
struct Expiry<K>(Weak<dyn Registry<K>>, KeyHash, K);

impl<K> Wake for Expiry<K>
where
    K: Send + Sync + 'static,
{
    fn wake(self: Arc<Self>) {
        let Self(registry, hash, key) = &*self;
        if let Some(registry) = registry.upgrade() {
            registry.existing(*hash, key, &mut |slot, terms| {
                slot.timer_went_off();
                slot.settle(terms)
            });
        }
    }
}

impl<K> Target<K> {
    /// Changes the slot of the key, if there is one.
    pub(super) fn existing(&self, mut change: impl FnMut(&mut Slot, &Terms<'_>) -> After) {
        self.registry.existing(self.hash, &self.key, &mut change);
    }
}
