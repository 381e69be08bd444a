//! The generic cell rate algorithm, in its form of virtual scheduling: ITU-T Recommendation I.371,
//! "Traffic control and congestion control in B-ISDN", annex A.
//!
//! The state of a key is one point in time, the *theoretical arrival time*: when the bucket is full
//! again. A call of cost `n` moves it by `n` intervals and is allowed if it is then at most one
//! full bucket ahead. What the recommendation calls the limit (tau) is one interval less, since it
//! counts what may come early and we count what may be taken at once.
//!
//! A cost that is charged moves it in any case, so it may be further ahead than that: the key is in
//! debt, and no call conforms until enough time has passed.
//!
//! O(1) in time, 8 bytes a key. A bucket that is full is one that was never used, so it needs no
//! memory at all.

use super::decision::Decision;
use crate::keyed::{Reading, State};
use crate::time::{Deadline, NEAR};
use std::time::Duration;

/// What is kept of a key.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_at: u64,
}

impl State for Bucket {
    fn idle_from(&self) -> Deadline {
        self.full_at
    }
}

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

    /// Decides on a call, and takes its cost if it is allowed.
    #[inline]
    pub(super) fn decide(
        &self,
        bucket: &mut Bucket,
        cost: u32,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let (full_at, decision) = self.judge(bucket.full_at, cost, reading);
        bucket.full_at = full_at;
        decision
    }

    /// The same by a precise reading, for who sleeps by the answer: that of a coarse one may be too late
    /// by as much as it lags.
    pub(super) fn decide_precisely(
        &self,
        bucket: &mut Bucket,
        cost: u32,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let (full_at, decision) = self.judge_at(bucket.full_at, cost, reading.precise());
        bucket.full_at = full_at;
        decision
    }

    /// Takes a cost, whether it is there or not; what remains. No debt lasts longer than the clock
    /// can tell.
    pub(super) fn charge(&self, bucket: &mut Bucket, cost: u64, reading: &mut Reading<'_>) -> u32 {
        let now = reading.precise();
        let increment = self.interval.saturating_mul(cost);
        bucket.full_at = bucket.full_at.max(now).saturating_add(increment);
        self.decision(bucket.full_at - now, None).remaining
    }

    /// What a call of cost 1 would be answered, but that nothing is taken.
    pub(super) fn preview(&self, bucket: &Bucket, reading: &mut Reading<'_>) -> Decision {
        let (_, as_if) = self.judge(bucket.full_at, 1, reading);
        let (_, now) = self.judge(bucket.full_at, 0, reading);
        Decision {
            retry_after: as_if.retry_after,
            ..now
        }
    }

    /// What is left, and how long it takes at least until so much has been let in, call after call.
    pub(super) fn forecast(
        &self,
        bucket: &Bucket,
        costs: u64,
        reading: &mut Reading<'_>,
    ) -> Decision {
        let now = reading.precise();
        let filling = bucket.full_at.max(now) - now;
        let asked = filling.saturating_add(self.interval.saturating_mul(costs));
        self.decision(filling, Some(asked.saturating_sub(self.capacity)))
    }

    /// When the bucket is full after a call, and what the call is answered.
    #[inline]
    fn judge(&self, full_at: u64, cost: u32, reading: &mut Reading<'_>) -> (u64, Decision) {
        let increment = self.interval * u64::from(cost);
        let now = self.now(full_at, increment, reading);
        self.judge_at(full_at, cost, now)
    }

    #[inline]
    fn judge_at(&self, full_at: u64, cost: u32, now: u64) -> (u64, Decision) {
        let increment = self.interval * u64::from(cost);
        // Nothing overflows before the clock itself ends.
        let asked = full_at.max(now).saturating_add(increment);
        if asked - now <= self.capacity {
            return (asked, self.decision(asked - now, None));
        }
        // What costs nothing is allowed in debt, too.
        let too_early = (cost > 0).then(|| asked - now - self.capacity);
        let filling = full_at.max(now) - now;
        (full_at, self.decision(filling, too_early))
    }

    /// A reading of the clock that decides as a precise one would: a coarse one if neither the time
    /// at which the bucket is full nor that at which the call conforms is near.
    #[inline]
    fn now(&self, full_at: u64, increment: u64, reading: &mut Reading<'_>) -> u64 {
        let conforms_at = full_at
            .saturating_add(increment)
            .saturating_sub(self.capacity);
        let is_far = |point: u64, time: u64| self.capacity > NEAR && point.abs_diff(time) >= NEAR;
        let is_clear =
            |time: u64| full_at > time && is_far(full_at, time) && is_far(conforms_at, time);
        // Where the last look at the clock would not have been clear this one hardly is, so that
        // the coarse clock would be read for nothing.
        if !is_clear(reading.seen()) {
            return reading.precise();
        }
        let coarse = reading.coarse();
        if is_clear(coarse) {
            coarse
        } else {
            reading.precise()
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
