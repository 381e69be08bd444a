//! Waiting until a call is within its quota.

use super::decision::{CostAboveLimit, Decision};
use super::limiter::Limiter;
use crate::random;
use crate::reentrancy;
use crate::time::{Deadline, NEVER, Parker, after, passing};
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
    cost: u32,
    jitter: Duration,
    timeout: Option<Duration>,
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
    /// do not all come back at once.
    pub const fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// How long to wait at most. A wait that could not end in time fails at once.
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// When to try again after a refusal; `None` if that is too late.
    fn next_try(&self, retry_after: Duration, now: u64, until: Deadline) -> Option<Deadline> {
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
    /// It will not be allowed within the time-out. This is the last answer, which says when it
    /// would be.
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
            Self::TimedOut(refused) => write!(
                f,
                "the limit does not allow it in time: in {:?} at the earliest",
                refused.retry_after().unwrap_or_default()
            ),
        }
    }
}

// What it holds it says itself, so it has no source.
impl std::error::Error for WaitError {}

/// Calls that wait.
///
/// Who waits tries again as soon as it would be allowed if nobody else called. Waiters are not
/// served in order, and one with a great cost can be overtaken by those with a small one; for a
/// queue, use `Locks` with permits.
///
/// All waiters of a key are told the same time, come back together, and all but those that are let
/// in are refused and wait again: each call that is let through costs O(waiters of the key), and
/// counts as many refusals. With a small burst, what was free before the first of them came back is
/// lost, so with thousands of waiters, or hundreds of blocked threads, less is let through than the
/// quota allows. [`jitter`](Wait::jitter) spreads them; better, few wait for one key, as the
/// workers of a queue do.
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
        let until = self.deadline(wait)?;
        loop {
            match self.attempt(key, wait, until)? {
                Attempt::Allowed(decision) => return Ok(decision),
                Attempt::Again(at) => Parker::park_until(&self.clock, at),
            }
        }
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
        let until = self.deadline(wait)?;
        loop {
            match self.attempt(key, wait, until)? {
                Attempt::Allowed(decision) => return Ok(decision),
                Attempt::Again(at) => passing(&self.clock, at).await,
            }
        }
    }

    /// When to give up.
    fn deadline(&self, wait: Wait) -> Result<Deadline, CostAboveLimit> {
        self.affordable(wait.cost)?;
        let until = wait.timeout.map(|time| after(self.clock.now(), time));
        Ok(until.unwrap_or(NEVER))
    }

    fn attempt<Q>(&self, key: &Q, wait: Wait, until: Deadline) -> Result<Attempt, WaitError>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        let decision = self.take(key, wait.cost);
        let Some(retry_after) = decision.retry_after() else {
            return Ok(Attempt::Allowed(decision));
        };
        let next_try = wait.next_try(retry_after, self.clock.now(), until);
        // A thread that unwinds with a lock held is refused for ever.
        match next_try.filter(|_| reentrancy::check()) {
            Some(at) => Ok(Attempt::Again(at)),
            None => Err(WaitError::TimedOut(decision)),
        }
    }
}

enum Attempt {
    Allowed(Decision),
    Again(Deadline),
}
