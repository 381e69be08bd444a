//! The lease: what its holder sees.

use super::error::LeaseLost;
use super::slot::{After, Grant};
use super::stats::Count;
use super::waiter::Target;
use super::watchdog::Watch;
use crate::reentrancy::is_inside;
use crate::time::{NEVER, left};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A key, held for a time. From [`Locks`](super::Locks).
///
/// Dropping it releases it. Dropping one whose time has passed does nothing, and in particular does
/// not end the lease of whoever has it now. It may be sent to another thread, but goes on counting
/// as one of the thread that asked for it: see [`unbind`](Self::unbind).
///
/// Two kinds of drop do not release it, and leave it to its time: leaking it, and dropping it while
/// a panic goes through a closure that a cache runs under its lock.
#[must_use = "a lease is released when it is dropped"]
pub struct Lease<K> {
    target: Target<K>,
    grant: Grant,
    watch: Option<Arc<Watch<K>>>,
    is_released: bool,
}

impl<K> fmt::Debug for Lease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("token", &self.grant.token)
            .finish_non_exhaustive()
    }
}

impl<K> Lease<K> {
    #[inline]
    pub(super) fn new(target: Target<K>, grant: Grant, watchdog: Option<Duration>) -> Self
    where
        K: Clone + Send + Sync + 'static,
    {
        let mut lease = Self {
            target,
            grant,
            watch: None,
            is_released: false,
        };
        // The watchdog copies the key: should that panic, the lease is given back.
        lease.watch = watchdog.map(|at_most| Watch::start(&lease.target, grant, at_most));
        lease
    }

    /// The fencing token: greater than that of every lease that these locks granted before. See the
    /// [module](crate::lock#fencing-tokens) for how it is used.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.grant.token
    }

    /// The key that is held.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.target.key
    }

    /// Whether the lease still counted at the moment of the call. It may end right after it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// How long it lasts if it is not renewed; zero when it has ended.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let mut remaining = Duration::ZERO;
        self.target.existing(|slot, terms| {
            if let Some(deadline) = slot.deadline_of(self.grant.token, terms.now) {
                let now = terms.clock.now();
                remaining = left(deadline, now).unwrap_or(Duration::MAX);
            }
            After::default()
        });
        remaining
    }

    /// Has the lease last for its whole lease time from now on. It never makes it shorter.
    ///
    /// ```
    /// use haybox::MockClock;
    /// use haybox::lock::Locks;
    /// use std::time::Duration;
    ///
    /// let (time, minute) = (MockClock::new(), Duration::from_secs(60));
    /// let locks = Locks::<&str>::builder(minute).clock(time.clock()).build()?;
    /// let lease = locks.try_acquire(&"import")?;
    /// for _batch in 0..10 {
    ///     time.advance(Duration::from_secs(50)); // The work of a batch.
    ///     lease.renew()?;
    /// }
    /// time.advance(minute);
    /// assert!(lease.renew().is_err(), "too late: somebody else may hold it");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LeaseLost`] if its time has passed. It is not taken again, even if nobody has it: ask
    /// again, for a new token.
    pub fn renew(&self) -> Result<(), LeaseLost> {
        let mut renewed = None;
        self.target.existing(|slot, terms| {
            let (until, after) = slot.renew(self.grant, NEVER, terms);
            renewed = until;
            after
        });
        renewed.map(|_| ()).ok_or(self.lost())
    }

    /// From now on the lease does not count for the thread that asked for it: that thread may wait
    /// for another one of the same key. For who acquires leases on one thread and has others hold
    /// them.
    ///
    /// ```
    /// use haybox::lock::Locks;
    /// use std::{thread, time::Duration};
    ///
    /// let locks = Locks::<&str>::new(Duration::from_secs(60))?;
    /// for job in 0..3 {
    ///     let lease = locks.acquire(&"printer")?.unbind();
    ///     thread::spawn(move || {
    ///         println!("printing {job}");
    ///         drop(lease);
    ///     });
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unbind(self) -> Self {
        self.target.existing(|slot, _| {
            slot.unbind(self.grant.token);
            After::default()
        });
        self
    }

    /// Ends the lease. Dropping it does the same, but does not tell.
    ///
    /// # Errors
    /// [`LeaseLost`] if its time had passed before.
    pub fn release(mut self) -> Result<(), LeaseLost> {
        let lost = self.lost();
        if self.end(true) { Ok(()) } else { Err(lost) }
    }

    fn lost(&self) -> LeaseLost {
        LeaseLost {
            token: self.grant.token,
        }
    }

    /// Whether it still counted, if that is asked.
    fn end(&mut self, asks: bool) -> bool {
        self.is_released = true;
        if let Some(watch) = self.watch.take() {
            watch.stop();
        }
        let Target {
            registry,
            hash,
            key,
        } = &self.target;
        let given_back = registry.give_back(*hash, key, self.grant.token, asks);
        let was_held = given_back.unwrap_or_else(|| self.end_among_others());
        // Inside a closure under a lock nothing has ended yet.
        if !was_held && !is_inside() {
            registry.count(Count::Lost);
        }
        was_held
    }

    /// The same where others wait, or it has ended before.
    fn end_among_others(&self) -> bool {
        let mut was_held = false;
        self.target.existing(|slot, terms| {
            let (held, after) = slot.release(self.grant.token, terms);
            was_held = held;
            after
        });
        was_held
    }
}

impl<K> Drop for Lease<K> {
    fn drop(&mut self) {
        if !self.is_released {
            self.end(false);
        }
    }
}
