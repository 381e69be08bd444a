//! A deadline is one `u64`: nanoseconds on the clock of its cache.

use std::time::Duration;

/// Nanoseconds on a [`Clock`](crate::Clock) at which something has passed.
pub(crate) type Deadline = u64;

/// The deadline of what does not expire. About 584 years after the start of the clock.
pub(crate) const NEVER: Deadline = u64::MAX;

/// The deadline `ttl` after `now`. What the clock cannot hold is [`NEVER`].
#[inline]
pub(crate) fn after(now: u64, ttl: Duration) -> Deadline {
    let nanoseconds = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
    now.saturating_add(nanoseconds)
}

/// The time left, `None` for [`NEVER`].
#[inline]
pub(crate) fn left(deadline: Deadline, now: u64) -> Option<Duration> {
    (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clock_cannot_hold_is_never() {
        assert_eq!(after(5, Duration::MAX), NEVER);
        assert_eq!(after(5, Duration::from_nanos(u64::MAX)), NEVER);
        assert_eq!(after(5, Duration::from_nanos(u64::MAX - 6)), NEVER - 1);
        assert_eq!(after(5, Duration::ZERO), 5);
    }

    #[test]
    fn time_left_stops_at_zero() {
        assert_eq!(left(NEVER, 5), None);
        assert_eq!(left(7, 5), Some(Duration::from_nanos(2)));
        assert_eq!(left(3, 5), Some(Duration::ZERO));
    }
}
