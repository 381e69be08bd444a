//! The locks: the face that users see.

use super::error::LockError;
use super::lease::Lease;
use super::shared::{Registry, Shared};
use super::slot::Ask;
use super::stats::LocksStats;
use super::waiter::{Acquire, Call, Target};
use crate::build_error::{BuildError, SettingsOf};
use crate::equivalent::Equivalent;
use crate::hash::{DefaultHashBuilder, KeyHash};
use crate::keyed::Keyed;
use crate::thread;
use crate::time::{Clock, Deadline, NEVER, after};
use crate::to_key::ToKey;
use crate::unrun::refuse_future;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Leases by key. See the [module](crate::lock) for what they promise.
///
/// A `Locks` is a handle: clone it into every thread and task. When the last one is dropped, or one
/// is [closed](Self::close), who waits gets [`LockError::Closed`]; leases stay valid. A last handle
/// that is dropped inside a closure that a cache runs under its lock closes nothing, since no lock
/// may be taken there: who waits is served in turn all the same, or times out.
///
/// # Calls from inside calls
/// `Eq`, `Hash` and `Clone` of a key may run under a lock, as they do in a
/// [`Cache`](crate::Cache): a haybox call from inside them panics with a sentence, as does a call
/// from inside a closure that a cache runs under its lock.
///
/// ```
/// use haybox::lock::{LockError, Locks};
/// use std::time::Duration;
///
/// let locks = Locks::<u64>::new(Duration::from_secs(10))?;
/// // Two requests of one customer at the same moment, and only one of them pays.
/// let paid = locks.with_lock(&42, |lease| charge(42, lease.token()))?;
/// assert_eq!(paid, "paid");
/// # fn charge(_: u64, _: u64) -> &'static str { "paid" }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Locks<K, S = DefaultHashBuilder> {
    shared: Arc<Shared<K, S>>,
    /// In nanoseconds.
    lease_time: u64,
    /// The permits that a lease takes.
    taking: NonZeroU32,
}

impl<K, S> Clone for Locks<K, S> {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self {
            shared: Arc::clone(&self.shared),
            ..*self
        }
    }
}

impl<K, S> Drop for Locks<K, S> {
    fn drop(&mut self) {
        // Inside a closure under a lock no other may be taken, so nobody can be told; who waits is
        // served in turn, or ends with its time-out.
        if self.shared.drop_handle() && !crate::reentrancy::is_inside() {
            self.shared.close();
        }
    }
}

/// Shows the settings, and no key.
impl<K, S> fmt::Debug for Locks<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks")
            .field("lease_time", &Duration::from_nanos(self.lease_time))
            .field("permits", &self.shared.permits)
            .field("is_closed", &self.shared.is_closed())
            .finish_non_exhaustive()
    }
}

impl<K> Locks<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Locks with one permit, whose leases last for `lease_time` unless they are renewed.
    ///
    /// # Errors
    /// [`BuildError`] if the lease time is zero.
    pub fn new(lease_time: Duration) -> Result<Self, BuildError> {
        Self::builder(lease_time).build()
    }

    /// A builder with every option at its default.
    pub fn builder(lease_time: Duration) -> LocksBuilder<K> {
        LocksBuilder {
            lease_time,
            permits: 1,
            watchdog: None,
            first_token: 1,
            clock: Clock::real(),
            hasher: DefaultHashBuilder::default(),
            keys: PhantomData,
        }
    }
}

impl<K, S> Locks<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    // ---- acquiring ----

    /// Takes the lease of a key if it is free and nobody waits for it. Never waits, so it may be
    /// called in a task, too.
    ///
    /// The lease is bound to the thread, so that a call that would block it for the same key is
    /// [`LockError::Reentrant`]. In a task, which may go on elsewhere, [`unbind`](Lease::unbind)
    /// it.
    ///
    /// # Errors
    /// [`LockError::Busy`], also where it is this thread or task that holds it;
    /// [`Closed`](LockError::Closed).
    pub fn try_acquire<Q>(&self, key: &Q) -> Result<Lease<K>, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let (target, ask) = (self.target(key), self.terms(thread::id()));
        let (hash, key) = (target.hash, &target.key);
        let grant = match self.shared.take_free(hash, key, ask) {
            Some(grant) => grant,
            None => self.shared.ask(hash, key, ask)?,
        };
        Ok(Lease::new(target, grant, self.shared.watchdog))
    }

    /// Takes the lease of a key, and blocks the thread until it is free. What it waits for ends
    /// with the leases before it.
    ///
    /// In an async program it holds up all tasks of the thread, those of a whole runtime of one
    /// thread, and so maybe the task that has the lease and would give it back: then it waits until
    /// that lease has run out. A task calls [`acquire_async`](Self::acquire_async).
    ///
    /// # Errors
    /// [`LockError::Reentrant`] or [`Closed`](LockError::Closed).
    pub fn acquire<Q>(&self, key: &Q) -> Result<Lease<K>, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.acquire_until(key, || NEVER)
    }

    /// Takes the lease of a key, and blocks the thread for at most `timeout` until it is free. A task
    /// calls [`acquire_timeout_async`](Self::acquire_timeout_async): see [`acquire`](Self::acquire).
    ///
    /// ```
    /// use haybox::lock::{LockError, Locks};
    /// use std::{thread, time::Duration};
    ///
    /// let locks = Locks::<&str>::new(Duration::from_secs(60))?;
    /// let held = locks.acquire(&"door")?;
    /// let other = locks.clone();
    /// let waited = thread::spawn(move || other.acquire_timeout(&"door", Duration::from_millis(1)));
    /// assert_eq!(waited.join().unwrap().unwrap_err(), LockError::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LockError::TimedOut`], [`Reentrant`](LockError::Reentrant) or
    /// [`Closed`](LockError::Closed).
    pub fn acquire_timeout<Q>(&self, key: &Q, timeout: Duration) -> Result<Lease<K>, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.acquire_until(key, || after(self.shared.clock.now(), timeout))
    }

    /// Takes the lease of a key when it is free, without blocking the thread.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// use haybox::lock::Locks;
    /// use std::time::Duration;
    ///
    /// let locks = Locks::<String>::new(Duration::from_secs(60))?;
    /// let lease = locks.acquire_async("door").await?;
    /// drop(lease);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`LockError::Closed`].
    pub fn acquire_async<Q>(&self, key: &Q) -> Acquire<K>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        Acquire::new(Call::new(self.target(key), self.terms(0)), None)
    }

    /// Takes the lease of a key when it is free, without blocking the thread. The time-out counts
    /// from the first poll.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] or [`Closed`](LockError::Closed).
    pub fn acquire_timeout_async<Q>(&self, key: &Q, timeout: Duration) -> Acquire<K>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        Acquire::new(Call::new(self.target(key), self.terms(0)), Some(timeout))
    }

    /// Runs a function while holding the lease of a key, waiting for it as
    /// [`acquire`](Self::acquire) does. It is released however the function ends.
    ///
    /// # Errors
    /// As `acquire`; the function has then not run. [`LockError::Lost`] if the lease ended before
    /// the function did: what it returned is then dropped.
    ///
    /// # Panics
    /// With `f`; and in debug builds, before it waits, if `f` returns an `async` block, which is
    /// for [`with_lock_async`](Self::with_lock_async), or a closure, which cannot be told from it.
    #[track_caller]
    pub fn with_lock<Q, R>(&self, key: &Q, f: impl FnOnce(&Lease<K>) -> R) -> Result<R, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        refuse_future::<R>("with_lock", "with_lock_async");
        let lease = self.acquire(key)?;
        let result = f(&lease);
        lease.release()?;
        Ok(result)
    }

    /// As [`with_lock`](Self::with_lock), for work that is awaited. The lease is also released when
    /// the task is cancelled. A task that asks for what it holds waits until its own lease has
    /// ended.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # async fn charge(order: u64, token: u64) -> u64 { order + token }
    /// use haybox::lock::Locks;
    /// use std::time::Duration;
    ///
    /// let orders = Locks::<u64>::new(Duration::from_secs(30)).unwrap();
    /// let paid = orders.with_lock_async(&42, async |lease| charge(42, lease.token()).await).await?;
    /// # assert!(paid > 42);
    /// # Ok::<(), haybox::lock::LockError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`LockError::Closed`]; the work has then not begun. [`LockError::Lost`] as with `with_lock`.
    pub async fn with_lock_async<Q, R>(
        &self,
        key: &Q,
        work: impl AsyncFnOnce(&Lease<K>) -> R,
    ) -> Result<R, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let lease = self.acquire_async(key).await?;
        let result = work(&lease).await;
        lease.release()?;
        Ok(result)
    }

    // ---- other handles ----

    /// A handle to the same locks whose leases last for another time.
    ///
    /// # Errors
    /// As for [`LocksBuilder::build`].
    pub fn with_lease_time(&self, lease_time: Duration) -> Result<Self, BuildError> {
        check_lease_time(lease_time, self.shared.watchdog)?;
        let mut other = self.clone();
        other.lease_time = nanoseconds(lease_time);
        Ok(other)
    }

    /// A handle to the same locks whose leases take so many permits each. They are granted together
    /// or not at all, and in turn: who waits for many is not overtaken by those who need few.
    ///
    /// # Errors
    /// [`BuildError`] if that is zero or more than there are.
    pub fn taking(&self, permits: u32) -> Result<Self, BuildError> {
        let problem = match NonZeroU32::new(permits) {
            None => "must be at least 1",
            Some(_) if permits > self.shared.permits => {
                "must be at most the permits that there are"
            }
            Some(taking) => {
                let mut other = self.clone();
                other.taking = taking;
                return Ok(other);
            }
        };
        Err(BuildError::new("Locks", "taking", problem))
    }

    // ---- looking ----

    /// How many permits of a key nobody holds at this moment.
    #[must_use]
    pub fn available<Q>(&self, key: &Q) -> u32
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let permits = self.shared.permits;
        let hash = self.shared.slots.hash(key);
        let free = self.shared.slots.existing(hash, key, |slot, reading| {
            slot.free_at(permits, reading.precise())
        });
        free.unwrap_or(permits)
    }

    /// How many callers wait for a key at this moment.
    #[must_use]
    pub fn waiters<Q>(&self, key: &Q) -> usize
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.shared.slots.hash(key);
        let waiters = self
            .shared
            .slots
            .existing(hash, key, |slot, _| slot.waiters());
        waiters.unwrap_or(0)
    }

    /// How many keys take up memory. Free ones are among them until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.slots.len()
    }

    /// Whether no key takes up memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the locks have done so far. O(1).
    ///
    /// ```
    /// use haybox::lock::Locks;
    /// use std::time::Duration;
    ///
    /// let locks = Locks::<u32>::new(Duration::from_secs(60))?;
    /// let lease = locks.try_acquire(&1)?;
    /// assert!(locks.try_acquire(&1).is_err());
    /// lease.release()?;
    /// let stats = locks.stats();
    /// assert_eq!((stats.acquired, stats.busy, stats.lost), (1, 1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> LocksStats {
        self.shared.stats()
    }

    /// Checks every invariant, for tests. Nobody else may use them meanwhile.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.shared.validate();
    }

    /// Grants no more leases, and wakes all who wait with [`LockError::Closed`]. The leases that
    /// there are stay valid. O(keys). Closing twice does nothing more.
    ///
    /// ```
    /// use haybox::lock::{LockError, Locks};
    /// use std::time::Duration;
    ///
    /// let locks = Locks::<u32>::new(Duration::from_secs(60))?;
    /// let lease = locks.try_acquire(&1)?;
    /// locks.close();
    /// assert_eq!(locks.try_acquire(&2).unwrap_err(), LockError::Closed);
    /// lease.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.shared.close();
    }

    // ---- parts ----

    fn target<Q>(&self, key: &Q) -> Target<K>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let hash: KeyHash = self.shared.slots.hash(key);
        let registry: Arc<dyn Registry<K>> = Arc::clone(&self.shared) as _;
        Target {
            registry,
            hash,
            key: key.to_key(),
        }
    }

    fn terms(&self, thread: u64) -> Ask {
        Ask {
            permits: self.taking,
            thread,
            lease_time: self.lease_time,
        }
    }

    fn acquire_until<Q>(
        &self,
        key: &Q,
        until: impl FnOnce() -> Deadline,
    ) -> Result<Lease<K>, LockError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let (target, ask) = (self.target(key), self.terms(thread::id()));
        match self.shared.take_free(target.hash, &target.key, ask) {
            Some(grant) => Ok(Lease::new(target, grant, self.shared.watchdog)),
            None => Call::new(target, ask).wait(until()),
        }
    }
}

/// Builds [`Locks`]. From [`Locks::builder`].
///
/// | option | default |
/// | --- | --- |
/// | [`permits`](Self::permits) | 1 |
/// | [`watchdog`](Self::watchdog) | none: leases are renewed by hand |
/// | [`first_token`](Self::first_token) | 1 |
/// | [`clock`](Self::clock) | the system's |
/// | [`hasher`](Self::hasher) | `ahash`, seeded for each |
#[must_use = "a builder does nothing until `build` is called"]
pub struct LocksBuilder<K, S = DefaultHashBuilder> {
    lease_time: Duration,
    permits: u32,
    watchdog: Option<Duration>,
    first_token: u64,
    clock: Clock,
    hasher: S,
    keys: PhantomData<fn(K)>,
}

impl<K, S> fmt::Debug for LocksBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocksBuilder")
            .field("lease_time", &self.lease_time)
            .field("permits", &self.permits)
            .field("watchdog", &self.watchdog)
            .field("first_token", &self.first_token)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<K, S> LocksBuilder<K, S> {
    /// How many permits each key has. Default: 1, a lock. At least 1.
    pub fn permits(self, permits: u32) -> Self {
        Self { permits, ..self }
    }

    /// Has each lease renewed in the background while its [`Lease`] lives, until it is `at_most`
    /// old. Default: not at all.
    ///
    /// So the lease time can be short though the work may take long. What hangs, or leaks its
    /// lease, holds others up for `at_most`. A lease time of at least 1 ms is needed. A holder that
    /// is paused together with the whole process or machine loses its lease all the same: nobody is
    /// there to renew it. Renewals begin when the call returns the lease, so also with them a lease
    /// has to last until who [waits](crate::lock#waiting) for it runs.
    ///
    /// ```
    /// use haybox::MockClock;
    /// use haybox::lock::Locks;
    /// use std::time::Duration;
    ///
    /// let (time, second) = (MockClock::new(), Duration::from_secs(1));
    /// let locks = Locks::<&str>::builder(3 * second)
    ///     .watchdog(60 * second)
    ///     .clock(time.clock())
    ///     .build()?;
    /// let lease = locks.try_acquire(&"backup")?;
    /// for _ in 0..59 {
    ///     time.advance(second);
    /// }
    /// assert!(lease.is_held());
    /// time.advance(second);
    /// assert!(!lease.is_held());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watchdog(self, at_most: Duration) -> Self {
        Self {
            watchdog: Some(at_most),
            ..self
        }
    }

    /// The token of the first lease. Default: 1. For what outlives the process: one more than the
    /// greatest that it has seen.
    pub fn first_token(self, token: u64) -> Self {
        Self {
            first_token: token,
            ..self
        }
    }

    /// What the locks read the time from. Default: [`Clock::real`].
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The hasher of the keys. Default: [`DefaultHashBuilder`], seeded for each.
    pub fn hasher<H>(self, hasher: H) -> LocksBuilder<K, H> {
        LocksBuilder {
            lease_time: self.lease_time,
            permits: self.permits,
            watchdog: self.watchdog,
            first_token: self.first_token,
            clock: self.clock,
            hasher,
            keys: PhantomData,
        }
    }

    /// Builds the locks.
    ///
    /// # Errors
    /// [`BuildError`] names the first setting that is impossible: a lease time of zero, or of less
    /// than 1 ms with a watchdog; no permits; a watchdog that ends before a lease would; a first
    /// token that leaves none to come.
    pub fn build(self) -> Result<Locks<K, S>, BuildError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        S: BuildHasher + Clone + Send + Sync + 'static,
    {
        check_lease_time(self.lease_time, self.watchdog)?;
        if self.permits == 0 {
            return Err(BuildError::new("Locks", "permits", "must be at least 1"));
        }
        if self.first_token > u64::MAX / 2 {
            let problem = "must be at most half of u64::MAX, so that there are more to come";
            return Err(BuildError::new("Locks", "first_token", problem));
        }
        let slots = Keyed::new(self.clock.clone(), SWEEP_INTERVAL, self.hasher);
        Ok(Locks {
            shared: Shared::new(
                slots,
                self.clock,
                self.permits,
                self.watchdog,
                self.first_token,
            ),
            lease_time: nanoseconds(self.lease_time),
            taking: NonZeroU32::MIN,
        })
    }
}

/// How often keys that nobody holds are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the clock cannot count to never comes.
fn nanoseconds(lease_time: Duration) -> u64 {
    u64::try_from(lease_time.as_nanos()).unwrap_or(u64::MAX)
}

fn check_lease_time(lease_time: Duration, watchdog: Option<Duration>) -> Result<(), BuildError> {
    SettingsOf("Locks").check_times([("lease_time", lease_time)])?;
    SettingsOf("Locks").check([
        (
            watchdog.is_some() && lease_time < Duration::from_millis(1),
            "lease_time",
            "must be at least 1 ms for a watchdog to renew it",
        ),
        (
            watchdog.is_some_and(|at_most| at_most < lease_time),
            "watchdog",
            "must be at least the lease time",
        ),
    ])
}
