//! What the builder settled: how long entries live, what they weigh, what a full cache does.

use super::Engine;
use crate::entry::{EvictionPolicy, Expiry, Life, OnFull};
use crate::load::{Age, Freshness, Spawner};
use crate::random;
use crate::table::Ends;
use crate::time::{Deadline, MICROSECOND, Moment, NEVER, after, left, whole};
use std::fmt;
use std::mem::needs_drop;
use std::time::{Duration, SystemTime};

pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;

pub(crate) type KeyWeigher<K> = Box<dyn Fn(&K) -> u64 + Send + Sync>;

pub(crate) type Grouping<K> = Box<dyn Fn(&K) -> u64 + Send + Sync>;

pub(crate) struct Policy<K, V> {
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) time_to_idle: Option<Duration>,
    pub(crate) ttl_jitter: f64,
    pub(crate) expiry: Option<Box<dyn Expiry<K, V>>>,
    pub(crate) weigher: Option<Weigher<K, V>>,
    /// What a key weighs of which only is remembered that it has no value.
    pub(crate) negative_weigher: Option<KeyWeigher<K>>,
    /// The label of the group that a key is in.
    pub(crate) group: Option<Grouping<K>>,
    pub(crate) on_full: OnFull,
    pub(crate) sweep_interval: Duration,
    pub(crate) lock_timeout: Duration,
    /// Whether a write has nothing to ask or to compute but a TTL: see `plain.rs`.
    pub(crate) is_plain: bool,
    /// Whether a read may move a deadline.
    pub(crate) reads_move_deadlines: bool,
    /// How long it is remembered that a key has no value.
    pub(crate) negative_ttl: Option<Duration>,
    /// How long a loader's error is remembered.
    pub(crate) error_ttl: Option<Duration>,
    pub(crate) freshness: Option<Freshness>,
    /// Spawns loads of tasks.
    pub(crate) spawner: Option<Spawner>,
    /// Whether a read does more to a set than to count: it moves a deadline, or an entry in its
    /// queue.
    pub(crate) reads_change_sets: bool,
    pub(crate) eviction: EvictionPolicy,
    /// Registers the cache with its keeper.
    pub(crate) start_sweeping: fn(&Engine<K, V>),
}

impl<K, V> fmt::Debug for Policy<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").finish_non_exhaustive()
    }
}

/// From this TTL on, a new deadline is reckoned from the kernel's tick clock, which costs a fifth
/// and lets the entry expire at most a tick (1 to 10 ms) early.
const COARSE_FROM: Duration = Duration::from_secs(1);

/// A deadline that has passed on every clock: the first there is.
pub(crate) const PASSED: Deadline = MICROSECOND;

/// The deadline of an entry, and what it comes from where idle time counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) effective: Deadline,
    pub(crate) ends: Option<Ends>,
    /// Where freshness counts.
    pub(crate) age: Option<Age>,
}

impl Deadlines {
    /// The ends as they are recorded.
    pub(super) fn life(&self) -> Ends {
        self.ends.unwrap_or_else(|| Ends::hard(self.effective))
    }
}

impl From<Ends> for Deadlines {
    fn from(ends: Ends) -> Self {
        Self {
            effective: ends.sooner(),
            ends: Some(ends),
            age: None,
        }
    }
}

impl<K, V> Policy<K, V> {
    #[inline]
    pub(crate) fn weigh(&self, key: &K, value: &V) -> u64 {
        self.weigher
            .as_ref()
            .map_or(1, |weigher| weigher(key, value))
    }

    /// Whether nobody says what a key weighs without a value, though it may be any amount.
    pub(crate) fn lacks_negative_weigher(&self, bounds_weight: bool) -> bool {
        let may_be_any = bounds_weight || needs_drop::<K>();
        self.negative_weigher.is_none() && self.weigher.is_some() && may_be_any
    }

    /// Whether neither closures of the user's nor chance nor idle time have a say in a write.
    pub(crate) fn asks_nothing(&self) -> bool {
        self.weigher.is_none()
            && self.expiry.is_none()
            && self.time_to_idle.is_none()
            && self.freshness.is_none()
            && self.group.is_none()
            && self.ttl_jitter == 0.0
    }

    /// The deadlines of an entry that is written now. `replaced` is the hard deadline of the live
    /// entry whose place it takes.
    #[inline]
    pub(crate) fn on_write(
        &self,
        moment: &Moment<'_>,
        (key, value): (&K, &V),
        life: Life,
        replaced: Option<Deadline>,
    ) -> Deadlines {
        let hard = match (life, replaced) {
            (Life::Keep, Some(deadline)) => deadline,
            (Life::For(ttl), _) => in_time(moment, ttl),
            (Life::Until(time), _) => until(moment, time),
            (Life::Forever, _) => NEVER,
            (Life::Default | Life::Keep, replaced) => self.default(moment, (key, value), replaced),
        };
        let mut deadlines = self.with_idle_time(moment, hard);
        if let Some(freshness) = &self.freshness {
            deadlines.age = Some(freshness.age(moment.coarse()));
        }
        deadlines
    }

    #[inline]
    fn default(
        &self,
        moment: &Moment<'_>,
        entry: (&K, &V),
        replaced: Option<Deadline>,
    ) -> Deadline {
        let by_ttl = match self.time_to_live {
            Some(ttl) => in_time(moment, self.jittered(ttl)),
            None => NEVER,
        };
        match &self.expiry {
            Some(expiry) => by_ttl.min(by_expiry(&**expiry, moment, entry, replaced)),
            None => by_ttl,
        }
    }

    fn jittered(&self, ttl: Duration) -> Duration {
        if self.ttl_jitter == 0.0 {
            return ttl;
        }
        // Longer than the clock can hold is not jittered but cut: the product could overflow.
        ttl.min(Duration::from_nanos(NEVER))
            .mul_f64(1.0 - self.ttl_jitter * random::fraction())
    }

    /// The deadlines of an entry that is accessed now and whose hard deadline is `hard`.
    #[inline]
    pub(crate) fn with_idle_time(&self, moment: &Moment<'_>, hard: Deadline) -> Deadlines {
        match self.time_to_idle {
            None => Deadlines {
                effective: hard,
                ends: None,
                age: None,
            },
            Some(idle) => Ends {
                hard,
                idle: in_time(moment, idle),
            }
            .into(),
        }
    }

    /// The deadlines of an entry that is read now.
    pub(crate) fn on_read(
        &self,
        moment: &Moment<'_>,
        (key, value): (&K, &V),
        hard: Deadline,
    ) -> Deadlines {
        let hard = match &self.expiry {
            None => hard,
            Some(expiry) => {
                let now = moment.clock().now();
                let before = left(hard, now);
                let asked = expiry.expire_after_read(key, value, before);
                if asked == before {
                    hard
                } else {
                    asked.map_or(NEVER, |ttl| in_time(moment, ttl))
                }
            }
        };
        self.with_idle_time(moment, hard)
    }
}

fn by_expiry<K, V>(
    expiry: &dyn Expiry<K, V>,
    moment: &Moment<'_>,
    (key, value): (&K, &V),
    replaced: Option<Deadline>,
) -> Deadline {
    let now = moment.clock().now();
    let ttl = match replaced {
        None => expiry.expire_after_create(key, value),
        Some(deadline) => {
            let before = left(deadline, now);
            let asked = expiry.expire_after_update(key, value, before);
            if asked == before {
                // Reckoned anew, from a clock that lags, it would come sooner at every update.
                return deadline;
            }
            asked
        }
    };
    ttl.map_or(NEVER, |ttl| in_time(moment, ttl))
}

/// The deadline `ttl` from now; one that has long passed for a `ttl` of zero or of so little that
/// nothing is left of it in whole microseconds.
#[inline(always)]
pub(crate) fn in_time(moment: &Moment<'_>, ttl: Duration) -> Deadline {
    if ttl >= COARSE_FROM {
        return whole(after(moment.coarse(), ttl));
    }
    let now = moment.clock().now();
    ahead(now, after(now, ttl))
}

/// A deadline as it is kept, if it is after `now` then.
fn ahead(now: u64, deadline: Deadline) -> Deadline {
    let whole = whole(deadline);
    if whole > now { whole } else { PASSED }
}

/// The deadline at a point in wall-clock time; one that has long passed for what is not ahead.
pub(crate) fn until(moment: &Moment<'_>, time: SystemTime) -> Deadline {
    let deadline = moment.clock().deadline_at(time);
    ahead(moment.clock().now(), deadline)
}
