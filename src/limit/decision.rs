//! What a limiter answers.

use std::fmt;
use std::time::Duration;

/// Whether a call was allowed, and what is left: all that an answer to a client needs to say.
///
/// The durations are rounded to nothing: they are in nanoseconds. Where a coarse look at the clock
/// decides the question, they and [`remaining`](Self::remaining) are of that look, which may be one
/// tick of the kernel old (1 to 10 ms); then times are too long by that and the remainder is too
/// small, never the other way round. Whether a call is allowed is decided precisely.
///
/// ```
/// use haybox::limit::{Limiter, Quota};
///
/// let limiter = Limiter::<u32>::new(Quota::per_minute(60).burst(2))?;
/// assert_eq!(limiter.check(&7).remaining(), 1);
/// assert_eq!(limiter.check(&7).remaining(), 0);
/// let refused = limiter.check(&7);
/// assert!(!refused.is_allowed());
/// assert!(refused.retry_after().unwrap().as_secs_f64() < 1.1);
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a call that was not allowed should not be made"]
pub struct Decision {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    pub(super) retry_after: Option<Duration>,
    pub(super) reset_after: Duration,
}

impl Decision {
    /// Whether the call may go ahead; its cost is then taken. A refused call takes nothing.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.retry_after.is_none()
    }

    /// The most that can be taken at once: the burst of a token bucket, the limit of a window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How much more could be taken right now.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// How long until the same call would be allowed if nobody else called before; `None` when it
    /// was allowed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// How long until everything is free again, if nobody calls before.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.reset_after
    }
}

/// A call that asks for more than is ever free at once, so that waiting for it would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CostAboveLimit {
    pub(super) cost: u32,
    pub(super) limit: u32,
}

impl CostAboveLimit {
    /// What was asked for.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// The most that can be taken at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

impl fmt::Display for CostAboveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cost, limit } = self;
        write!(
            f,
            "a cost of {cost} can never be allowed: at most {limit} is free at once; \
             split the call, or raise the burst"
        )
    }
}

impl std::error::Error for CostAboveLimit {}
