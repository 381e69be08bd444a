//! Waiting until a call is within its quota.

use super::decision::{CostAboveLimit, Decision};
use super::limiter::Limiter;
use super::waiter::Call;
use crate::random;
use crate::time::{Deadline, NEVER, after};
use crate::to_key::ToKey;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

/// How to wait for a limiter.
///
/// | option | default |
/// | --- | --- |
/// | [`cost`](Self::cost) | 1 |
/// | [`jitter`](Self::jitter) | none |
/// | [`timeout`](Self::timeout) | none |
///
/// ```
/// use haybox::limit::{Limiter, Quota, Wait};
/// use std::time::Duration;
///
/// let mails = Limiter::<u32>::new(Quota::per_second(1000))?;
/// let patience = Wait::new().cost(3).timeout(Duration::from_secs(5));
/// mails.until_ready_with(&7, patience)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "these are options of a call"]
pub struct Wait {
    pub(super) cost: u32,
    jitter: Duration,
    pub(super) timeout: Option<Duration>,
}

impl Default for Wait {
    fn default() -> Self {
        Self::new()
    }
}

impl Wait {
    /// For a cost of 1, without jitter, as long as it takes.
    pub const fn new() -> Self {
        Self {
            cost: 1,
            jitter: Duration::ZERO,
            timeout: None,
        }
    }

    /// How much to take.
    pub const fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// Adds a random time from zero up to this to each wait, so that many who were refused at once
    /// do not all come back at once: those who wait for different keys, or in other processes. Those
    /// who wait for one key come back one after another without it.
    ///
    /// It is the first of a line that waits longer, and the others behind it. What becomes free
    /// meanwhile is saved up to the burst, and lost beyond that: keep it well below the time in
    /// which a burst comes back.
    pub const fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// How long to wait at most. A wait that could not end in time fails at once: if what is to be
    /// free by then is less than the cost of the call and of all who wait for the key before it.
    ///
    /// That is as things stand, as if nobody before it gave up or was late, none came back that was
    /// passed by, and none had a [jitter](Self::jitter).
    /// It is exact for a token bucket. For a sliding window it is too when costs are 1; where a great
    /// cost has to wait until it fits as a whole, some waits that could not end in time go on to the
    /// end of it. So may one that begins at the very moment at which another tries. Who would be let in
    /// at the very moment at which the time is up, and is not the first by then, may go without.
    ///
    /// To know it costs a sliding window O(calls of the last period) where others wait.
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// When to try again after a refusal; `None` if that is too late.
    pub(super) fn next_try(
        &self,
        retry_after: Duration,
        now: u64,
        until: Deadline,
    ) -> Option<Deadline> {
        let earliest = after(now, retry_after);
        if earliest > until {
            return None;
        }
        let jitter = self.jitter.min(Duration::from_nanos(NEVER));
        let later = after(earliest, jitter.mul_f64(random::fraction()));
        Some(later.min(until))
    }
}

/// Why a wait for a limiter did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// So much is never free at once.
    CostAboveLimit(CostAboveLimit),
    /// It was not let in in time, or could not be. The answer says when it would be at the earliest: if
    /// it was refused at once, after all who wait before it; if its time ran out, as if nobody else
    /// waited, which is zero if it had only to wait for them.
    TimedOut(Decision),
}

impl From<CostAboveLimit> for WaitError {
    fn from(error: CostAboveLimit) -> Self {
        Self::CostAboveLimit(error)
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CostAboveLimit(error) => error.fmt(f),
            Self::TimedOut(refused) => match refused.retry_after().unwrap_or_default() {
                Duration::ZERO => f.write_str("others wait before it, and were not let in in time"),
                wait => write!(
                    f,
                    "the limit does not allow it in time: in {wait:?} at the earliest"
                ),
            },
        }
    }
}

// What it holds it says itself, so it has no source.
impl std::error::Error for WaitError {}

/// Calls that wait.
///
/// Who waits for a key, thread or task, stands in a line, in the order in which the calls began, or
/// were first polled. Only the first tries: it sleeps until its call would be allowed if nobody else
/// called, takes its cost, and wakes the next as it goes. So waiters that are polled when they are
/// woken are let in in their order, whatever their costs; each is woken once when it has become the
/// first and once when its time has come, and costs O(log n) of the waiters of the key however many
/// there are. One who gives up, is dropped or unwinds, wherever it stands, takes nothing and holds
/// nobody up.
///
/// A call that does not wait, such as [`check`](Self::check), stands in no line: it gets what is free
/// at that moment, as a `try_lock` does, and who waits then waits longer. It could not say when to
/// try again otherwise, and would look at a line each time that is hardly ever there. So those that
/// do not wait can keep a great cost waiting for as long as they come often enough; where that must
/// not be, let all calls wait, with a [`timeout`](Wait::timeout) if need be. Never do both together
/// get more than the quota. [`charge`](Self::charge) puts off who waits, and
/// [`reset`](Self::reset) lets in who does.
///
/// Who is to be polled and is not holds up those behind it, and those who come: for a second or two,
/// and then they go past. Such are a future that is kept beside what the same task awaits, in an arm of
/// `select!` or in a stream that buffers some, and a task whose thread is blocked, by
/// [`until_ready`](Self::until_ready) for instance. Where many in a row are not polled each is waited
/// for half as long as the one before it, down to a 32nd of a second, so that a hundred of them take
/// about seven seconds. Who was passed by and is polled again stands in its place again: the next turn
/// is its own. A stall of the whole process for two seconds or more makes nobody late, unless another
/// follows at once; a shorter one may cost the first its turn, and never its place.
///
/// At most as many are let through as can be woken one after another, some tens of thousands a second
/// for one key. With a burst of 1, what is free before the first is awake is lost, as it is for one
/// who comes late; a burst of a few makes up for it.
///
/// A wait counts once in the [`stats`](Self::stats), when it is over; one that is dropped before counts
/// nowhere. A key that somebody waits for takes up the key once more and about 700 bytes, and about 75
/// for each further one who waits, beside its future or thread and the timer of its time-out; that is
/// released with the memory of idle keys. A key for which several wait is looked at once a second: that
/// takes half a microsecond, so 5 % of a thread for 100,000 such keys.
impl<K, S> Limiter<K, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Blocks the thread until a call is allowed, and takes 1 for it.
    ///
    /// In an async program that holds up all tasks of the thread. A task calls
    /// [`until_ready_async`](Self::until_ready_async).
    ///
    /// ```
    /// use haybox::limit::{Limiter, Quota};
    ///
    /// // Ask a service a thousand times a second, however fast the answers come.
    /// let pace = Limiter::<&str>::new(Quota::per_second(1000).burst(1))?;
    /// for page in 0..3 {
    ///     let _ = pace.until_ready(&"example.org");
    ///     // fetch(page)
    /// }
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    pub fn until_ready<Q>(&self, key: &Q) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        match self.until_ready_with(key, Wait::new()) {
            Ok(decision) | Err(WaitError::TimedOut(decision)) => decision,
            Err(WaitError::CostAboveLimit(_)) => unreachable!("every limit allows a cost of 1"),
        }
    }

    /// Blocks the thread until a call is allowed or the time is up. A task calls
    /// [`until_ready_with_async`](Self::until_ready_with_async).
    ///
    /// # Errors
    /// [`WaitError`]; nothing is then taken.
    pub fn until_ready_with<Q>(&self, key: &Q, wait: Wait) -> Result<Decision, WaitError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        Call::new(self, key, wait)?.block()
    }

    /// Waits until a call is allowed, and takes 1 for it. Runs on any executor. Dropping the future
    /// before it is ready takes nothing.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// use haybox::limit::{Limiter, Quota};
    ///
    /// let pace = Limiter::<&str>::new(Quota::per_second(1000).burst(1))?;
    /// for page in 0..3 {
    ///     let _ = pace.until_ready_async(&"example.org").await;
    ///     // fetch(page).await
    /// }
    /// # Ok::<(), haybox::BuildError>(())
    /// # }).unwrap();
    /// ```
    pub async fn until_ready_async<Q>(&self, key: &Q) -> Decision
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        match self.until_ready_with_async(key, Wait::new()).await {
            Ok(decision) | Err(WaitError::TimedOut(decision)) => decision,
            Err(WaitError::CostAboveLimit(_)) => unreachable!("every limit allows a cost of 1"),
        }
    }

    /// Waits until a call is allowed or the time is up. The time-out counts from the first poll.
    ///
    /// # Errors
    /// [`WaitError`]; nothing is then taken.
    pub async fn until_ready_with_async<Q>(
        &self,
        key: &Q,
        wait: Wait,
    ) -> Result<Decision, WaitError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        Call::new(self, key, wait)?.wait().await
    }
}
