//! The generic cell rate algorithm, in its form of virtual scheduling: ITU-T Recommendation I.371,
//! "Traffic control and congestion control in B-ISDN", annex A.
//!
//! The state of a key is one point in time, the *theoretical arrival time*: when the bucket is full
//! again. A call of cost `n` moves it by `n` intervals and is allowed if it is then at most one
//! full bucket ahead. What the recommendation calls the limit (tau) is one interval less, since it
//! counts what may come early and we count what may be taken at once.
//!
//! O(1) in time, 8 bytes a key. The state is kept as the deadline of the key's slot, delayed by
//! [`GRACE`], so a bucket that has been full for that long needs no memory at all.

use super::decision::Decision;
use crate::time::{Deadline, Moment, NEAR};
use std::time::Duration;

/// How long the slot of an idle key stays, so that one that is called now and then is not made
/// anew each time.
pub(super) const GRACE: u64 = 10_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Gcra {
    /// Nanoseconds between two tokens.
    interval: u64,
    burst: u32,
    /// Nanoseconds in which an empty bucket gets full.
    capacity: u64,
}

impl Gcra {
    pub(super) fn new(interval: u64, burst: u32) -> Self {
        let capacity = interval * u64::from(burst);
        Self {
            interval,
            burst,
            capacity,
        }
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    #[cfg(feature = "tower")]
    pub(super) fn whole_after(&self) -> Duration {
        Duration::from_nanos(self.capacity)
    }

    /// Decides on a call, given the deadline of the key's slot; the deadline from now on.
    #[inline]
    pub(super) fn decide(
        &self,
        deadline: Deadline,
        cost: u32,
        moment: &Moment<'_>,
    ) -> (Deadline, Decision) {
        let full_at = deadline.saturating_sub(GRACE);
        let increment = self.interval * u64::from(cost);
        let now = self.now(full_at, increment, moment);
        // Nothing overflows before the clock itself ends.
        let asked = full_at.max(now).saturating_add(increment);
        if asked - now <= self.capacity {
            return (
                asked.saturating_add(GRACE),
                self.decision(asked - now, None),
            );
        }
        let too_early = asked - now - self.capacity;
        let refused = self.decision(full_at.max(now) - now, Some(too_early));
        (deadline, refused)
    }

    /// What a call of cost 1 would be answered, but that nothing is taken.
    pub(super) fn preview(&self, deadline: Deadline, moment: &Moment<'_>) -> Decision {
        let (_, as_if) = self.decide(deadline, 1, moment);
        let (_, now) = self.decide(deadline, 0, moment);
        Decision {
            retry_after: as_if.retry_after,
            ..now
        }
    }

    /// A reading of the clock that decides as a precise one would: a coarse one if neither the time
    /// at which the bucket is full nor that at which the call conforms is near.
    #[inline]
    fn now(&self, full_at: u64, increment: u64, moment: &Moment<'_>) -> u64 {
        if self.capacity <= NEAR {
            return moment.clock().now();
        }
        let coarse = moment.coarse();
        let conforms_at = full_at
            .saturating_add(increment)
            .saturating_sub(self.capacity);
        let is_far = |point: u64| point.abs_diff(coarse) >= NEAR;
        if full_at > coarse && is_far(full_at) && is_far(conforms_at) {
            coarse
        } else {
            moment.clock().now()
        }
    }

    /// An answer, given for how long the bucket is not full.
    #[inline]
    fn decision(&self, filling: u64, too_early: Option<u64>) -> Decision {
        // A coarse reading may show a bucket that others have filled by a precise one as too full.
        let free = self.capacity.saturating_sub(filling);
        Decision {
            limit: self.burst,
            // At most the burst, so it fits.
            remaining: (free / self.interval) as u32,
            retry_after: too_early.map(Duration::from_nanos),
            reset_after: Duration::from_nanos(filling),
        }
    }
}
