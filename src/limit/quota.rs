//! How much is allowed.

use super::gcra::Gcra;
use super::window::Rule;
use crate::build_error::{BuildError, SettingsOf};
use std::time::Duration;

/// How much a key may take in which time.
///
/// Amounts have no unit of their own: a call takes 1 unless it is given another cost, which may
/// stand for bytes, rows or cents. A quota is checked when a limiter is built of it.
///
/// # Burst
/// A token bucket gets `limit` tokens in each `period`, evenly, and holds up to `burst` of them.
/// A key that has rested may take `burst` at once; one that never rests gets `limit` a `period`.
/// Unless it is set, the burst is the limit. A burst of 1 spaces calls evenly.
///
/// ```
/// use haybox::MockClock;
/// use haybox::limit::{Limiter, Quota};
/// use std::time::Duration;
///
/// // 100 an hour, but never more than 5 at once.
/// let quota = Quota::per_hour(100).burst(5);
/// let time = MockClock::new();
/// let limiter = Limiter::<&str>::builder(quota).clock(time.clock()).build()?;
/// assert_eq!((0..10).filter(|_| limiter.check(&"ada").is_allowed()).count(), 5);
/// time.advance(Duration::from_secs(36));
/// assert!(limiter.check(&"ada").is_allowed(), "the next token has come");
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    period: Duration,
    burst: Option<u32>,
    is_window: bool,
}

impl Quota {
    /// A token bucket that gets `limit` tokens in each `period`.
    ///
    /// The time between two tokens is rounded up to a whole nanosecond, so the rate is never
    /// exceeded; of a million tokens a second it falls short by less than 0.1 %.
    #[must_use]
    pub const fn new(limit: u32, period: Duration) -> Self {
        Self {
            limit,
            period,
            burst: None,
            is_window: false,
        }
    }

    /// A token bucket that gets `limit` tokens a second.
    #[must_use]
    pub const fn per_second(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(1))
    }

    /// A token bucket that gets `limit` tokens a minute.
    #[must_use]
    pub const fn per_minute(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(60))
    }

    /// A token bucket that gets `limit` tokens an hour.
    #[must_use]
    pub const fn per_hour(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(3600))
    }

    /// At most `limit` in any span of time of length `period`, wherever it begins. What was taken
    /// at a moment is free again exactly one `period` later.
    ///
    /// ```
    /// use haybox::MockClock;
    /// use haybox::limit::{Limiter, Quota};
    /// use std::time::Duration;
    ///
    /// // What a payment provider's contract says.
    /// let quota = Quota::sliding_window(2, Duration::from_secs(60));
    /// let time = MockClock::new();
    /// let limiter = Limiter::<u32>::builder(quota).clock(time.clock()).build()?;
    /// assert!(limiter.check(&1).is_allowed());
    /// time.advance(Duration::from_secs(59));
    /// assert!(limiter.check(&1).is_allowed());
    /// assert_eq!(limiter.check(&1).retry_after(), Some(Duration::from_secs(1)));
    /// time.advance(Duration::from_secs(1));
    /// assert!(limiter.check(&1).is_allowed());
    /// assert_eq!(limiter.check(&1).retry_after(), Some(Duration::from_secs(59)));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    #[must_use]
    pub const fn sliding_window(limit: u32, period: Duration) -> Self {
        Self {
            limit,
            period,
            burst: None,
            is_window: true,
        }
    }

    /// How many tokens the bucket holds. Default: the limit. A sliding window has none.
    #[must_use]
    pub const fn burst(self, burst: u32) -> Self {
        Self {
            burst: Some(burst),
            ..self
        }
    }

    /// How much is allowed in a period, once a burst is used up.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The time that [`limit`](Self::limit) is for.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The most that is ever free at once.
    #[must_use]
    pub const fn at_once(&self) -> u32 {
        match self.burst {
            Some(burst) => burst,
            None => self.limit,
        }
    }

    /// What decides by this quota.
    pub(super) fn algorithm(&self) -> Result<Algorithm, BuildError> {
        self.check()?;
        let period = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        if self.is_window {
            return Ok(Algorithm::Window(Rule::new(self.limit, period)));
        }
        let interval = period.div_ceil(u64::from(self.limit));
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        match interval.checked_mul(u64::from(self.at_once())) {
            Some(tolerance) if tolerance <= longest => {
                Ok(Algorithm::Bucket(Gcra::new(interval, self.at_once())))
            }
            _ => Err(BuildError::new(
                "Quota",
                "burst",
                "must come back within 292 years, which is what the clock can count to",
            )),
        }
    }

    fn check(&self) -> Result<(), BuildError> {
        let most = self.period.as_nanos();
        SettingsOf("Quota").check_times([("period", self.period)])?;
        SettingsOf("Quota").check([
            (self.limit == 0, "limit", "must be at least 1"),
            (
                self.period > LONGEST,
                "period",
                "must be at most 292 years: what a period gives has to come back",
            ),
            (self.burst == Some(0), "burst", "must be at least 1"),
            (
                self.burst.is_some() && self.is_window,
                "burst",
                "belongs to a token bucket; a sliding window allows its limit at once",
            ),
            (
                !self.is_window && u128::from(self.limit) > most,
                "limit",
                "must be at most one for each nanosecond of the period",
            ),
        ])
    }
}

/// The longest that a quota may take to come back: about 292 years, half of what the clock holds.
const LONGEST: Duration = Duration::from_nanos(u64::MAX / 2);

/// An algorithm with the numbers of a quota.
#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    Bucket(Gcra),
    Window(Rule),
}
