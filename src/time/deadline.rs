//! A deadline is one `u64`: nanoseconds on the clock of its cache.

use std::time::Duration;

/// Nanoseconds on a [`Clock`](crate::Clock) at which something has passed.
pub(crate) type Deadline = u64;

/// The deadline of what does not expire. About 584 years after the start of the clock.
pub(crate) const NEVER: Deadline = u64::MAX;

/// The deadlines of entries are whole multiples of this.
pub(crate) const MICROSECOND: u64 = 1_000;

/// An entry has this many bits for the microseconds up to its deadline: 142 years from the start of
/// the clock.
pub(crate) const DEADLINE_BITS: u32 = 52;

/// The deadline `ttl` after `now`. What the clock cannot hold is [`NEVER`].
#[inline]
pub(crate) fn after(now: u64, ttl: Duration) -> Deadline {
    let nanoseconds = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
    now.saturating_add(nanoseconds)
}

/// A deadline as an entry keeps it: rounded down, so an entry may end a little early and never
/// late, but none of zero. What an entry has no room for is [`NEVER`].
#[inline(always)]
pub(crate) fn whole(deadline: Deadline) -> Deadline {
    let whole = deadline / MICROSECOND;
    if whole >> DEADLINE_BITS == 0 {
        whole.max(1) * MICROSECOND
    } else {
        NEVER
    }
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
    fn a_whole_deadline_is_not_later_but_for_one_at_the_start_of_the_clock() {
        let end = MICROSECOND << DEADLINE_BITS;
        for (deadline, kept) in [
            (0, MICROSECOND),
            (999, MICROSECOND),
            (1_000, 1_000),
            (1_234_567, 1_234_000),
            (end - 1, end - MICROSECOND),
            (end, NEVER),
            (NEVER, NEVER),
        ] {
            assert_eq!(whole(deadline), kept, "{deadline}");
        }
    }

    #[test]
    fn time_left_stops_at_zero() {
        assert_eq!(left(NEVER, 5), None);
        assert_eq!(left(7, 5), Some(Duration::from_nanos(2)));
        assert_eq!(left(3, 5), Some(Duration::ZERO));
    }
}
