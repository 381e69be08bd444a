//! The limiter: the face that users see.

use super::decision::{CostAboveLimit, Decision};
use super::gcra::{Bucket, Gcra};
use super::line::Lines;
use super::quota::{Algorithm, Quota};
use super::stats::LimiterStats;
use super::window::{Rule, Window};
use crate::build_error::{BuildError, SettingsOf};
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use crate::keyed::{Keyed, Notes, Reading, State};
use crate::time::Clock;
use crate::to_key::ToKey;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Counts by key and says whether a call is within its [`Quota`].
///
/// A `Limiter` is a handle: clone it into every thread and task. See the
/// [module](crate::limit) for what is promised and what it costs.
///
/// # Calls from inside calls
/// `Eq`, `Hash` and `Clone` of a key may run under a lock, as they do in a [`Cache`](crate::Cache):
/// a haybox call from inside them panics with a sentence, as does a call of the limiter from inside
/// a closure that a cache runs under its lock.
///
/// ```
/// use haybox::limit::{Limiter, Quota};
///
/// let logins: Limiter<String> = Limiter::new(Quota::per_minute(5))?;
/// for _ in 0..5 {
///     assert!(logins.check("ada").is_allowed());
/// }
/// assert!(!logins.check("ada").is_allowed(), "somebody tries out passwords");
/// assert!(logins.check("grace").is_allowed(), "others do not suffer from it");
/// # Ok::<(), haybox::BuildError>(())
/// ```
pub struct Limiter<K, S = DefaultHashBuilder> {
    cells: Cells<K, S>,
    pub(super) lines: Arc<Lines<K, S>>,
    pub(super) clock: Clock,
    quota: Quota,
}

/// What is kept of the keys, by the algorithm.
enum Cells<K, S> {
    Bucket(Gcra, Keyed<K, Bucket, S>),
    Window(Rule, Keyed<K, Window, S>),
}

impl<K, S: Clone> Clone for Limiter<K, S> {
    fn clone(&self) -> Self {
        let cells = match &self.cells {
            Cells::Bucket(gcra, cells) => Cells::Bucket(*gcra, cells.clone()),
            Cells::Window(rule, cells) => Cells::Window(*rule, cells.clone()),
        };
        Self {
            cells,
            lines: Arc::clone(&self.lines),
            clock: self.clock.clone(),
            quota: self.quota,
        }
    }
}

/// Shows the quota and the number of keys, and no key.
impl<K, S> fmt::Debug for Limiter<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("quota", &self.quota)
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

impl<K> Limiter<K>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    /// A limiter on the system's clock.
    ///
    /// # Errors
    /// [`BuildError`] if the quota is impossible: see [`LimiterBuilder::build`].
    pub fn new(quota: Quota) -> Result<Self, BuildError> {
        Self::builder(quota).build()
    }

    /// A builder with every option at its default.
    pub fn builder(quota: Quota) -> LimiterBuilder<K> {
        LimiterBuilder {
            quota,
            clock: Clock::real(),
            sweep_interval: Duration::from_secs(1),
            hasher: DefaultHashBuilder::default(),
            keys: PhantomData,
        }
    }
}

impl<K, S> Limiter<K, S> {
    /// The quota that the limiter was built with.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// How many keys take up memory. Idle ones are among them until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.cells {
            Cells::Bucket(_, cells) => cells.len(),
            Cells::Window(_, cells) => cells.len(),
        }
    }

    /// Whether no key takes up memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls were allowed and refused so far, with all keys and through all handles. Takes
    /// the lock of each part of the keys in turn.
    ///
    /// ```
    /// use haybox::limit::{Limiter, Quota};
    ///
    /// let logins: Limiter<String> = Limiter::new(Quota::per_minute(2))?;
    /// (0..5).for_each(|_| drop(logins.check("ada")));
    /// assert_eq!((logins.stats().allowed, logins.stats().refused), (2, 3));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        let [refused, allowed] = match &self.cells {
            Cells::Bucket(_, cells) => cells.counts(),
            Cells::Window(_, cells) => cells.counts(),
        };
        LimiterStats {
            allowed,
            refused,
            keys: self.len(),
        }
    }

    fn at_once(&self) -> u32 {
        match &self.cells {
            Cells::Bucket(gcra, _) => gcra.burst(),
            Cells::Window(rule, _) => rule.limit(),
        }
    }

    /// How long until all is free again after everything was taken.
    #[cfg(feature = "tower")]
    pub(super) fn whole_after(&self) -> Duration {
        match &self.cells {
            Cells::Bucket(gcra, _) => gcra.whole_after(),
            Cells::Window(..) => self.quota.period(),
        }
    }

    pub(super) fn affordable(&self, cost: u32) -> Result<(), CostAboveLimit> {
        let limit = self.at_once();
        if cost > limit {
            return Err(CostAboveLimit { cost, limit });
        }
        Ok(())
    }
}

impl<K, S> Limiter<K, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Takes 1 for a key, if that is within its quota. Never waits.
    #[inline]
    pub fn check<Q>(&self, key: &Q) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.take(key, 1)
    }

    /// Takes `cost` for a key, all of it or nothing. Never waits. A cost of zero takes nothing and
    /// is always allowed.
    ///
    /// For a cost that is known before the work. One that is known only afterwards is for
    /// [`charge`](Self::charge): what is refused here takes nothing, though the work is done.
    ///
    /// ```
    /// use haybox::limit::{Limiter, Quota};
    ///
    /// // A megabyte a second for each client.
    /// let bytes = Limiter::<u32>::new(Quota::per_second(1 << 20))?;
    /// assert!(bytes.check_n(&7, 300_000)?.is_allowed());
    /// assert!(bytes.check_n(&7, 2_000_000).is_err(), "more than there ever is");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`CostAboveLimit`] if so much is never free at once, whatever the time.
    #[inline]
    pub fn check_n<Q>(&self, key: &Q, cost: u32) -> Result<Decision, CostAboveLimit>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.affordable(cost)?;
        Ok(self.take(key, cost))
    }

    /// Takes `cost` for a key whatever is left, and says what remains. Never waits, and is never
    /// refused: a key that has less goes into debt, and is refused until that is paid off. It is
    /// for costs that are known only when the work is done: the tokens of a language model's
    /// answer, the bytes of a response, the time that a query took.
    ///
    /// [`peek`](Self::peek) before the work asks whether anything is left at all. Where the cost
    /// can be estimated, [`check_n`](Self::check_n) takes the estimate before, and what it falls
    /// short of is charged afterwards. Either way, who is let in with one unit left may cost any
    /// amount, and so may all who are let in before the first of them is charged: a key can
    /// overshoot its quota by the cost of what is under way for it at once. To bound that, bound
    /// how many those are, for example by [`Locks`](crate::lock::Locks) with permits.
    ///
    /// - The debt of a token bucket is paid off at its rate: one of `n` tokens takes the time of
    ///   `n` tokens, and what is charged meanwhile comes on top. So over a long time a key gets no
    ///   more than the rate, whatever the costs are. A debt of more time than the clock holds (584
    ///   years) lasts until its end.
    /// - A sliding window counts what was charged like all else: exactly one `period` after its
    ///   charge it counts no more, also where it was many times the limit. A call is allowed if
    ///   what was taken and charged within the last `period` leaves room for it.
    ///
    /// [`retry_after`](Decision::retry_after) of a refused call is exact in both. A debt takes up
    /// no memory beyond that of a key in use. [`reset`](Self::reset) remits it.
    ///
    /// From a thread that unwinds while it holds a lock of this crate nothing is taken.
    ///
    /// ```
    /// use haybox::MockClock;
    /// use haybox::limit::{Limiter, Quota};
    /// use std::time::Duration;
    ///
    /// // A gateway before a language model: 6,000 tokens a minute for each of its users.
    /// let time = MockClock::new();
    /// let quota = Quota::per_minute(6_000);
    /// let tokens = Limiter::<String>::builder(quota).clock(time.clock()).build()?;
    ///
    /// // Before the request goes on.
    /// assert!(tokens.peek("ada").is_allowed());
    /// // After the answer, which says what it has cost.
    /// assert_eq!(tokens.charge("ada", 9_000), 0);
    ///
    /// // 3,000 too many, which come back within half a minute, and one for the next request.
    /// let refused = tokens.peek("ada");
    /// assert_eq!(refused.retry_after(), Some(Duration::from_millis(30_010)));
    /// time.advance(Duration::from_millis(30_010));
    /// assert!(tokens.peek("ada").is_allowed());
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn charge<Q>(&self, key: &Q, cost: u64) -> u32
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let remaining = match &self.cells {
            Cells::Bucket(gcra, cells) => cells.change(cells.hash(key), key, |bucket, reading| {
                gcra.charge(bucket, cost, reading)
            }),
            Cells::Window(rule, cells) => cells.change(cells.hash(key), key, |window, reading| {
                rule.charge(window, cost, reading)
            }),
        };
        remaining.unwrap_or(0)
    }

    /// What [`check`](Self::check) would answer, but that nothing is taken: what remains is still
    /// all there. For a page that shows its visitor where he stands, and before work whose cost is
    /// [charged](Self::charge) afterwards. O(calls of the last period) for a sliding window.
    pub fn peek<Q>(&self, key: &Q) -> Decision
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        match &self.cells {
            Cells::Bucket(gcra, cells) => {
                let preview =
                    |bucket: &Bucket, reading: &mut Reading<'_>| gcra.preview(bucket, reading);
                self.look(cells, key, preview)
            }
            Cells::Window(rule, cells) => {
                let preview =
                    |window: &Window, reading: &mut Reading<'_>| rule.preview(window, 1, reading);
                self.look(cells, key, preview)
            }
        }
    }

    /// Forgets what a key has taken: it may start anew at once, and so may those who
    /// [wait](Self::until_ready) for it, in their order. Says whether there was something.
    pub fn reset<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let was_there = match &self.cells {
            Cells::Bucket(_, cells) => cells.remove(cells.hash(key), key),
            Cells::Window(_, cells) => cells.remove(cells.hash(key), key),
        };
        if let Some(line) = self.lines.find(key) {
            line.rouse();
        }
        was_there
    }

    /// How many callers [wait](Self::until_ready) for a key at this moment, for who would rather
    /// give up at once than be the thousandth.
    #[must_use]
    pub fn waiters<Q>(&self, key: &Q) -> usize
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.lines.find(key).map_or(0, |line| line.len())
    }

    /// Checks every invariant, for tests. Nobody else may use it meanwhile.
    ///
    /// # Panics
    /// With the first that does not hold.
    #[doc(hidden)]
    pub fn validate(&self) {
        match &self.cells {
            Cells::Bucket(_, cells) => cells.validate(|_| ()),
            Cells::Window(_, cells) => cells.validate(|_| ()),
        }
        self.lines.validate();
    }

    /// Takes a cost that is not above what is ever free.
    #[inline]
    pub(super) fn take<Q>(&self, key: &Q, cost: u32) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let decision = match &self.cells {
            Cells::Bucket(gcra, cells) => cells.change(cells.hash(key), key, |bucket, reading| {
                counted(gcra.decide(bucket, cost, reading), reading)
            }),
            Cells::Window(rule, cells) => cells.change(cells.hash(key), key, |window, reading| {
                counted(rule.decide(window, cost, reading), reading)
            }),
        };
        decision.unwrap_or_else(|| self.unreachable())
    }

    /// Does as [`take`](Self::take), but that a refusal is not counted: who waits is not refused
    /// yet. One function for both takes 5 to 14 % more instructions of a call that does not wait.
    pub(super) fn attempt<Q>(&self, key: &Q, cost: u32) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let count = |decision: Decision, reading: &mut Reading<'_>| {
            if decision.is_allowed() {
                reading.count(true);
            }
            decision
        };
        let decision = match &self.cells {
            Cells::Bucket(gcra, cells) => cells.change(cells.hash(key), key, |bucket, reading| {
                let mut decision = gcra.decide(bucket, cost, reading);
                if !decision.is_allowed() {
                    decision = gcra.decide_precisely(bucket, cost, reading);
                }
                count(decision, reading)
            }),
            Cells::Window(rule, cells) => cells.change(cells.hash(key), key, |window, reading| {
                count(rule.decide(window, cost, reading), reading)
            }),
        };
        decision.unwrap_or_else(|| self.unreachable())
    }

    /// Counts a refusal.
    pub(super) fn refuse<Q>(&self, key: &Q)
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        match &self.cells {
            Cells::Bucket(_, cells) => {
                cells.change(cells.hash(key), key, |_, reading| reading.count(false))
            }
            Cells::Window(_, cells) => {
                cells.change(cells.hash(key), key, |_, reading| reading.count(false))
            }
        };
    }

    /// What is left of a key, and how long it takes at least until calls of these costs, one after
    /// the other, are let in.
    pub(super) fn forecast<Q>(&self, key: &Q, costs: u64) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let decision = match &self.cells {
            Cells::Bucket(gcra, cells) => cells.change(cells.hash(key), key, |bucket, reading| {
                gcra.forecast(bucket, costs, reading)
            }),
            Cells::Window(rule, cells) => cells.change(cells.hash(key), key, |window, reading| {
                rule.forecast(window, costs, reading)
            }),
        };
        decision.unwrap_or_else(|| self.unreachable())
    }

    /// Looks at what is kept of a key, or at what would be.
    fn look<V: State, Q>(
        &self,
        cells: &Keyed<K, V, S>,
        key: &Q,
        preview: impl Fn(&V, &mut Reading<'_>) -> Decision,
    ) -> Decision
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = cells.hash(key);
        let known = cells.existing(hash, key, |state, reading| preview(state, reading));
        known.unwrap_or_else(|| {
            let mut notes = Notes::default();
            preview(&V::default(), &mut Reading::new(&self.clock, &mut notes))
        })
    }

    /// The answer to a call from a thread that unwinds while it holds a lock: no.
    #[cold]
    fn unreachable(&self) -> Decision {
        Decision {
            limit: self.at_once(),
            remaining: 0,
            retry_after: Some(self.quota.period()),
            reset_after: self.quota.period(),
        }
    }
}

#[inline(always)]
fn counted(decision: Decision, reading: &mut Reading<'_>) -> Decision {
    reading.count(decision.is_allowed());
    decision
}

/// Builds a [`Limiter`]. From [`Limiter::builder`].
///
/// ```
/// use haybox::MockClock;
/// use haybox::limit::{Limiter, Quota};
///
/// let time = MockClock::new();
/// let limiter: Limiter<u64> =
///     Limiter::builder(Quota::per_second(10)).clock(time.clock()).build()?;
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct LimiterBuilder<K, S = DefaultHashBuilder> {
    quota: Quota,
    clock: Clock,
    sweep_interval: Duration,
    hasher: S,
    keys: PhantomData<fn(K)>,
}

impl<K, S> fmt::Debug for LimiterBuilder<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterBuilder")
            .field("quota", &self.quota)
            .field("clock", &self.clock)
            .field("sweep_interval", &self.sweep_interval)
            .finish_non_exhaustive()
    }
}

impl<K, S> LimiterBuilder<K, S> {
    /// What the limiter reads the time from. Default: [`Clock::real`].
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// How often idle keys are looked for in the background. Default: 1 s. More than zero.
    pub fn sweep_interval(self, interval: Duration) -> Self {
        Self {
            sweep_interval: interval,
            ..self
        }
    }

    /// The hasher of the keys. Default: [`DefaultHashBuilder`], seeded for each limiter.
    pub fn hasher<H>(self, hasher: H) -> LimiterBuilder<K, H> {
        LimiterBuilder {
            quota: self.quota,
            clock: self.clock,
            sweep_interval: self.sweep_interval,
            hasher,
            keys: PhantomData,
        }
    }

    /// Builds the limiter.
    ///
    /// # Errors
    /// [`BuildError`] names the first setting that is impossible: a limit, period, burst or sweep
    /// interval of zero, a burst for a sliding window, more than one token for each nanosecond, or
    /// more time than the clock holds (292 years).
    pub fn build(self) -> Result<Limiter<K, S>, BuildError>
    where
        K: Hash + Eq + Send + Sync + 'static,
        S: BuildHasher + Clone,
    {
        let cells = match self.quota.algorithm()? {
            Algorithm::Bucket(gcra) => Cells::Bucket(gcra, self.cells()?),
            Algorithm::Window(rule) => Cells::Window(rule, self.cells()?),
        };
        Ok(Limiter {
            cells,
            lines: Arc::new(Lines::new(
                self.clock.clone(),
                self.sweep_interval,
                self.hasher,
            )),
            clock: self.clock,
            quota: self.quota,
        })
    }

    fn cells<V>(&self) -> Result<Keyed<K, V, S>, BuildError>
    where
        K: Send + Sync + 'static,
        V: State,
        S: Clone,
    {
        SettingsOf("Limiter").check_times([("sweep_interval", self.sweep_interval)])?;
        let (clock, hasher) = (self.clock.clone(), self.hasher.clone());
        Ok(Keyed::new(clock, self.sweep_interval, hasher))
    }
}
