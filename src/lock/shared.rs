//! What all handles of the locks, the leases and the waiters share.

use super::error::LockError;
use super::slot::{After, Ask, Asked, Grant, Slot, Terms};
use super::stats::{Count, Counts, LocksStats};
use super::waiter::{Departure, Target, Waiter};
use crate::contain::discard;
use crate::hash::KeyHash;
use crate::keyed::{Keyed, Reading};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crate::time::{Clock, Deadline, NEAR, wake_at, wake_soon};
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::thread::panicking;
use std::time::Duration;

pub(super) struct Shared<K, S> {
    pub(super) slots: Keyed<K, Slot, S>,
    pub(super) clock: Clock,
    pub(super) permits: u32,
    pub(super) watchdog: Option<Duration>,
    /// The token of the next lease.
    tokens: AtomicU64,
    first_token: u64,
    counts: Counts,
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

    fn count(&self, count: Count);

    /// Changes the slot of a key, which is made if it is missing, unless the locks are closed;
    /// whether they are not.
    fn change(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) -> bool;

    /// Ends a lease where that is all there is to do; whether it still counted, if that is asked.
    fn give_back(&self, hash: KeyHash, key: &K, token: u64, asks: bool) -> Option<bool>;

    /// Changes the slot of a key, if there is one.
    fn existing(&self, hash: KeyHash, key: &K, change: &mut Step<'_>);

    /// Has somebody leave the queue of a key soon, on another thread: this one can lock no key.
    fn leave_later(&self, hash: KeyHash, key: K, waiter: Arc<Waiter>);
}

pub(super) type Step<'s> = dyn FnMut(&mut Slot, &Terms<'_>) -> After + 's;

impl<K, S> Shared<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    pub(super) fn new(
        slots: Keyed<K, Slot, S>,
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
            first_token,
            counts: Counts::default(),
            is_closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            me: Weak::clone(me),
        })
    }

    pub(super) fn validate(&self) {
        let next = self.tokens.load(SeqCst);
        self.slots
            .validate(|slot| slot.validate(self.permits, next));
    }

    /// Does what is left to do after a change, with no lock held.
    fn finish(&self, hash: KeyHash, key: &K, after: After) {
        let watch = after.watch;
        after.wake();
        let Some(deadline) = watch else { return };
        let Some(copy) = self.copy(hash, key, deadline) else {
            return;
        };
        let registry: Weak<dyn Registry<K>> = self.me.clone();
        let expiry = Arc::new(Expiry(registry, hash, copy));
        let mut timer = Some(wake_at(&self.clock, deadline, Waker::from(expiry)));
        let unused = self.slots.existing(hash, key, |slot, _| {
            timer.take().map(|timer| slot.keep_timer(timer, deadline))
        });
        // Dropped without a lock: a timer holds a key.
        drop((unused, timer));
    }

    /// A copy of a key for the timer that is to go off at `deadline`. Should that panic, the next
    /// call on the key sets the timer; while a thread unwinds already, the panic goes no further.
    fn copy(&self, hash: KeyHash, key: &K, deadline: Deadline) -> Option<K> {
        let copied = catch_unwind(AssertUnwindSafe(|| key.clone()));
        if copied.is_err() {
            self.slots
                .existing(hash, key, |slot, _| slot.timer_failed(deadline));
        }
        match copied {
            Ok(copy) => Some(copy),
            Err(panic) if !panicking() => resume_unwind(panic),
            Err(panic) => {
                discard(panic);
                None
            }
        }
    }

    /// Grants what is asked for where nobody holds anything or waits, as it is nearly always.
    /// `None` where there is more to it, also where the locks are closed.
    #[inline]
    pub(super) fn take_free(&self, hash: KeyHash, key: &K, ask: Ask) -> Option<Grant> {
        let known = self.slots.existing(hash, key, |slot, reading| {
            self.take_free_of(slot, reading, ask)
        });
        known.unwrap_or_else(|| self.take_free_of_new(hash, key, ask))
    }

    /// The same of a key that is not known, apart: a change that two places make is inlined into
    /// neither.
    #[cold]
    fn take_free_of_new(&self, hash: KeyHash, key: &K, ask: Ask) -> Option<Grant> {
        let taken = self.slots.change(hash, key, |slot, reading| {
            self.take_free_of(slot, reading, ask)
        });
        taken?
    }

    #[inline(always)]
    fn take_free_of(&self, slot: &mut Slot, reading: &mut Reading<'_>, ask: Ask) -> Option<Grant> {
        if self.is_closed() {
            return None;
        }
        let now = reading.coarse();
        slot.take_free(ask, &self.terms(now, reading.clock()))
    }

    /// Grants what is asked for if it is free, in all other cases. Whose it is otherwise is nothing
    /// to a call that does not wait.
    #[cold]
    pub(super) fn ask(&self, hash: KeyHash, key: &K, ask: Ask) -> Result<Grant, LockError> {
        let mut asked = Asked::Busy;
        let is_open = self.change(hash, key, &mut |slot, terms| {
            let after;
            (asked, after) = slot.ask(ask, terms);
            after
        });
        match asked {
            _ if !is_open => Err(LockError::Closed),
            Asked::Granted(grant) => Ok(grant),
            Asked::Reentrant | Asked::Busy => {
                self.counts.add(Count::Busy);
                Err(LockError::Busy)
            }
        }
    }

    fn step(&self, slot: &mut Slot, reading: &mut Reading<'_>, change: &mut Step<'_>) -> After {
        let coarse = reading.coarse();
        let now = if slot.is_near(coarse, NEAR) {
            reading.precise()
        } else {
            coarse
        };
        change(slot, &self.terms(now, reading.clock()))
    }
}

impl<K, S> Shared<K, S> {
    #[inline]
    fn terms<'t>(&'t self, now: u64, clock: &'t Clock) -> Terms<'t> {
        Terms {
            permits: self.permits,
            now,
            clock,
            tokens: &self.tokens,
        }
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, SeqCst);
    }

    pub(super) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, SeqCst) == 1
    }

    pub(super) fn stats(&self) -> LocksStats {
        let granted = self.tokens.load(SeqCst) - self.first_token;
        self.counts.stats(granted, self.slots.len())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }
}

impl<K, S> Shared<K, S> {
    /// Sends all who wait away.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
        // Whoever joined a queue did it with the key locked after it saw that the locks were open,
        // so the walk meets it.
        let mut afters = Vec::new();
        self.slots.each(|slot| afters.extend(slot.close()));
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

    fn count(&self, count: Count) {
        self.counts.add(count);
    }

    fn change(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) -> bool {
        let changed = self.slots.change(hash, key, |slot, reading| {
            let is_open = !self.is_closed();
            is_open.then(|| self.step(slot, reading, change))
        });
        match changed.flatten() {
            None => false,
            Some(after) => {
                self.finish(hash, key, after);
                true
            }
        }
    }

    fn give_back(&self, hash: KeyHash, key: &K, token: u64, asks: bool) -> Option<bool> {
        let given = self.slots.existing(hash, key, |slot, reading| {
            let deadline = slot.give_back(token)?;
            Some(!asks || !reading.has_passed(deadline))
        });
        given?
    }

    fn existing(&self, hash: KeyHash, key: &K, change: &mut Step<'_>) {
        let after = self
            .slots
            .existing(hash, key, |slot, reading| self.step(slot, reading, change));
        if let Some(after) = after {
            self.finish(hash, key, after);
        }
    }

    #[cold]
    fn leave_later(&self, hash: KeyHash, key: K, waiter: Arc<Waiter>) {
        let registry: Weak<dyn Registry<K>> = self.me.clone();
        let departure = Departure {
            registry,
            hash,
            key,
            waiter,
        };
        wake_soon(&self.clock, Waker::from(Arc::new(departure)));
    }
}

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
