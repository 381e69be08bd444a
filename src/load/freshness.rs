//! How fresh a value has to be, and what is done about one that is not.

use crate::build_error::{BuildError, SettingsOf};
use crate::random;
use crate::time::{Deadline, NEVER};
use std::time::Duration;

/// How fresh loaded values are to be: when they are loaded anew before their TTL is over, and when
/// a stale one is better than none.
///
/// For a whole cache by [`CacheBuilder::freshness`](crate::CacheBuilder::freshness), or for some
/// calls by [`ReadThrough::with_freshness`](crate::ReadThrough::with_freshness). Without any of it
/// a value is served until its TTL is over, and then never.
///
/// What is said here of a value and its load holds for each value that a call for several keys asks
/// for. Those that such a call is to load come with one call of the loader, which runs behind it
/// where the call can leave each of them:
/// [`ReadThroughMany::get_many`](crate::ReadThroughMany::get_many).
///
/// An entry then has two ends: that of its TTL, and a later one, when it is gone. Between them only
/// calls that load know of it. `get`, `contains_key`, iteration and all others do not see it.
///
/// # A loader that panics
/// To all who do not run it a panic is what an error is: they get the old value, live or stale, and
/// nobody loads the key for [`retry_after`](Self::retry_after). The panic itself goes to the caller
/// that runs the loader, also where there is an old value, since a bug is to be seen. So, while the
/// loader goes on panicking, it is one caller in each such period that panics; or none, where the
/// load runs behind: on the pool of threads that is the end of it, and a task that was
/// [spawned](crate::CacheBuilder::spawner) panics in its executor. A caller that has nothing but
/// such a task to wait for panics, too, with a sentence; its loader is not run again for it. A future
/// that is dropped has not panicked: the next caller loads at once. Where there is no old value the
/// next of those who wait loads, as
/// [every loading call](crate::Cache#what-every-loading-call-keeps) has it.
///
/// ```
/// use haybox::{Cache, Freshness};
/// use std::time::Duration;
///
/// let prices: Cache<u32, u32> = Cache::builder()
///     .max_entries(10_000)
///     .time_to_live(Duration::from_secs(60))
///     .freshness(
///         Freshness::new()
///             .refresh_at(0.8)
///             .jitter(0.1)
///             .stale_if_error(Duration::from_secs(3600)),
///     )
///     .build()?;
/// # Ok::<(), haybox::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Freshness {
    refresh: Refresh,
    jitter: f64,
    stale_if_error: Option<Duration>,
    retry_after: Duration,
    soft_timeout: Option<Duration>,
    hard_timeout: Option<Duration>,
}

/// When a value that is still alive is loaded anew.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refresh {
    Never,
    After(Duration),
    /// Of the TTL.
    Share(f64),
}

/// What a loader says of how fresh one value is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnTimes {
    pub(crate) refresh_after: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
}

impl OwnTimes {
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of the age of an entry, where that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age {
    /// When it was written, 0 when that is not known; said by its loader, when it is due.
    since: Said,
    /// For how long after its deadline it is kept.
    kept: Said,
    /// No load is tried before this.
    pub(crate) retry_at: Deadline,
}

/// A time in 63 bits, which are 292 years, and whether the loader of the value has said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said(u64);

impl Said {
    const BY_LOADER: u64 = 1 << 63;

    fn by_call(time: u64) -> Self {
        Self(time.min(!Self::BY_LOADER))
    }

    fn by_loader(time: u64) -> Self {
        Self(Self::by_call(time).0 | Self::BY_LOADER)
    }

    fn time(self) -> u64 {
        self.0 & !Self::BY_LOADER
    }

    fn is_by_loader(self) -> bool {
        self.0 & Self::BY_LOADER != 0
    }
}

impl Age {
    /// Of an entry that is written now.
    pub(crate) fn written(now: Deadline) -> Self {
        Self {
            since: Said::by_call(now),
            ..Self::default()
        }
    }

    /// The same with what its loader says.
    pub(crate) fn with(mut self, own: OwnTimes, now: Deadline) -> Self {
        if let Some(age) = own.refresh_after {
            self.since = Said::by_loader(now.saturating_add(nanoseconds(age)));
        }
        if let Some(longest) = own.stale_if_error {
            self.kept = Said::by_loader(nanoseconds(longest));
        }
        self
    }

    /// The same where no load is tried for a while.
    pub(crate) fn resting(self, retry_at: Deadline) -> Self {
        Self { retry_at, ..self }
    }

    /// When an entry with this deadline is gone.
    pub(crate) fn gone(self, deadline: Deadline) -> Deadline {
        deadline.saturating_add(self.kept.time())
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self::NO_WISHES
    }
}

impl Freshness {
    const NO_WISHES: Self = Self {
        refresh: Refresh::Never,
        jitter: 0.0,
        stale_if_error: None,
        retry_after: Duration::from_secs(1),
        soft_timeout: None,
        hard_timeout: None,
    };

    /// For calls that go by what loaders say of their values, and by nothing else.
    pub(crate) fn of_loaders() -> &'static Self {
        static OF_LOADERS: Freshness = Freshness::NO_WISHES;
        &OF_LOADERS
    }

    /// No wishes: the same as `default()`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value older than this is served at once, and one load of its key begins behind it.
    /// Default: none. More than zero.
    ///
    /// A value whose TTL is over by then is not refreshed but loaded. So the age should be less than
    /// the [`time_to_live`](crate::CacheBuilder::time_to_live) of the cache; where it is not, only
    /// values with a longer TTL of their own are refreshed, which
    /// [`Loaded::ttl`](crate::Loaded::ttl) or a write gives them.
    ///
    /// ```text
    /// written        age      TTL is over
    ///    |------------|------------|
    ///      served       served,      loaded
    ///                   one load
    ///                   behind
    /// ```
    ///
    /// Only a call begins the load: what nobody asks for is not loaded. While it is under way all
    /// callers get the old value, and the new one has a new TTL. If it fails, the old value stays,
    /// and [`retry_after`](Self::retry_after) says when the next one may begin.
    #[doc(alias = "refreshAfterWrite")]
    pub fn refresh_after(mut self, age: Duration) -> Self {
        self.refresh = Refresh::After(age);
        self
    }

    /// The same with the age as a share of the value's TTL, more than 0 and less than 1. What has
    /// no TTL is not refreshed. A freshness has one of the two: who calls both has what the second
    /// call says.
    ///
    /// ```text
    /// written                 0.8      TTL is over
    ///    |---------------------|------------|
    ///      served                served,      loaded
    ///                            one load
    ///                            behind
    /// ```
    pub fn refresh_at(mut self, share: f64) -> Self {
        self.refresh = Refresh::Share(share);
        self
    }

    /// Takes a share, up to this one and different for each value, off the age at which a value is
    /// refreshed, so that values written together are not all loaded together. From 0, the
    /// default, to 1. Needs one of the two. For the TTL itself there is
    /// [`ttl_jitter`](crate::CacheBuilder::ttl_jitter).
    ///
    /// ```text
    /// written            age - jitter  age      TTL is over
    ///    |---------------------|........|------------|
    ///                           somewhere here
    /// ```
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Keeps a value for this long beyond its TTL, and serves it when it cannot be loaded: the
    /// loader fails or [panics](Self#a-loader-that-panics), or takes longer than one of the
    /// time-outs. Default: none. More than zero.
    ///
    /// ```text
    /// written      TTL is over                        gone
    ///    |--------------|---------------------------------|
    ///      served         loaded; if that fails, served     loaded; if that fails, the error
    /// ```
    ///
    /// A value that was removed, invalidated or evicted is not kept, nor is one whose key an
    /// `update` or `compute` was tried on after its TTL. Until it is gone it takes up its room and
    /// counts in `len`, also where a full cache rejects new entries; one that evicts treats it as
    /// what lives, by how it was asked for.
    pub fn stale_if_error(mut self, longest: Duration) -> Self {
        self.stale_if_error = Some(longest);
        self
    }

    /// How long after a load that failed or panicked the old value is served without another
    /// attempt. Default: 1 s. More than zero.
    ///
    /// ```text
    /// TTL is over                                            gone
    ///    |------x------------------|------x--------------------|
    ///           ^ fails              ^    ^ fails
    ///           |--- retry_after ----|    |--- retry_after ...
    /// ```
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// When a load takes longer than this, the stale value is served, if there is one, and the load
    /// goes on behind. Default: none. More than zero, less than the
    /// [`hard_timeout`](Self::hard_timeout). It needs [`stale_if_error`](Self::stale_if_error),
    /// which keeps the value.
    ///
    /// ```text
    /// a call for a stale value:   |-- soft_timeout --|
    ///                             |                  '-> the stale value
    ///                             |-- the load --------------------| -> stored
    /// ```
    ///
    /// The caller that begins the load can leave it only where something else goes on with it: the
    /// pool of threads or the [`spawner`](crate::CacheBuilder::spawner) that a
    /// [`ReadThrough`](crate::ReadThrough) or a [`ReadThroughMany`](crate::ReadThroughMany) uses.
    /// Those who only wait for it always can.
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = Some(timeout);
        self
    }

    /// When a load takes longer than this, it counts as failed: all who wait get the stale value
    /// if there is one, otherwise [`LoadError::TimedOut`](crate::LoadError::TimedOut). Default:
    /// none. More than zero.
    ///
    /// ```text
    /// a call:   |-- hard_timeout --| -> the stale value, or TimedOut
    /// ```
    ///
    /// The future of a loader is dropped at that moment. A loader that blocks its thread cannot be
    /// stopped: those who wait for it leave, but the caller that runs it has to wait for its end.
    /// Give what it calls a time-out of its own. Calls that return a value in any case, such as
    /// `get_or_load`, are not timed out.
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = Some(timeout);
        self
    }

    /// The first setting that makes no sense.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let (age, share) = match self.refresh {
            Refresh::Never => (None, None),
            Refresh::After(age) => (Some(age), None),
            Refresh::Share(share) => (None, Some(share)),
        };
        let outlasts = |soft: Duration| self.hard_timeout.is_some_and(|hard| soft >= hard);
        SettingsOf("Freshness").check_times([
            ("refresh_after", age),
            ("stale_if_error", self.stale_if_error),
            ("retry_after", Some(self.retry_after)),
            ("soft_timeout", self.soft_timeout),
            ("hard_timeout", self.hard_timeout),
        ])?;
        SettingsOf("Freshness").check([
            (
                share.is_some_and(|share| !(share > 0.0 && share < 1.0)),
                "refresh_at",
                "must be a share of the TTL, more than 0.0 and less than 1.0",
            ),
            (
                !(0.0..=1.0).contains(&self.jitter),
                "jitter",
                "must be a share from 0.0 to 1.0",
            ),
            (
                self.jitter != 0.0 && !self.refreshes(),
                "jitter",
                "needs refresh_after or refresh_at, which it is taken off",
            ),
            (
                self.soft_timeout.is_some() && self.stale_if_error.is_none(),
                "soft_timeout",
                "needs stale_if_error, which keeps the value that is served",
            ),
            (
                self.soft_timeout.is_some_and(outlasts),
                "soft_timeout",
                "must be less than the hard_timeout, which ends the load",
            ),
        ])
    }

    /// The age of a value that is written now.
    pub(crate) fn age(&self, now: Deadline) -> Age {
        Age {
            kept: Said::by_call(self.stale_if_error.map_or(0, nanoseconds)),
            ..Age::written(now)
        }
    }

    /// When a value is to be refreshed that expires at `deadline`. `salt` is different for each
    /// key.
    pub(crate) fn refresh_from(&self, age: Age, deadline: Deadline, salt: u64) -> Deadline {
        let written = age.since.time();
        if age.since.is_by_loader() {
            return written.max(age.retry_at);
        }
        if written == 0 {
            return NEVER;
        }
        let life = match self.refresh {
            Refresh::Never => return NEVER,
            Refresh::After(age) => nanoseconds(age),
            Refresh::Share(_) if deadline == NEVER => return NEVER,
            Refresh::Share(share) => (deadline.saturating_sub(written) as f64 * share) as u64,
        };
        let taken_off = if self.jitter == 0.0 {
            0
        } else {
            let random = random::fraction_of(salt ^ written);
            (life as f64 * self.jitter * random) as u64
        };
        let from = written.saturating_add(life.saturating_sub(taken_off));
        from.max(age.retry_at)
    }

    /// Whether there is anything to refresh.
    #[inline]
    pub(crate) fn refreshes(&self) -> bool {
        self.refresh != Refresh::Never
    }

    /// Until when a value that expired at `deadline` may be served.
    pub(crate) fn stale_until(&self, age: Age, deadline: Deadline) -> Deadline {
        let longest = match age.kept.is_by_loader() {
            true => NEVER,
            false => self.stale_if_error.map_or(0, nanoseconds),
        };
        deadline.saturating_add(longest.min(age.kept.time()))
    }

    pub(crate) fn pause(&self) -> Duration {
        self.retry_after
    }

    pub(crate) fn soft_limit(&self) -> Option<Duration> {
        self.soft_timeout
    }

    pub(crate) fn hard_limit(&self) -> Option<Duration> {
        self.hard_timeout
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    fn written(at: u64) -> Age {
        Age::written(seconds(at))
    }

    #[test]
    fn the_age_of_a_refresh_is_given_or_a_share_of_the_ttl() {
        let absolute = Freshness::new().refresh_after(Duration::from_secs(10));
        assert_eq!(absolute.refresh_from(written(5), NEVER, 7), seconds(15));
        let share = Freshness::new().refresh_at(0.5);
        assert_eq!(share.refresh_from(written(5), seconds(25), 7), seconds(15));
        assert_eq!(share.refresh_from(written(5), NEVER, 7), NEVER);
        assert_eq!(share.refresh_from(Age::default(), seconds(25), 7), NEVER);
        let none = Freshness::new();
        assert_eq!(none.refresh_from(written(5), seconds(25), 7), NEVER);
    }

    #[test]
    fn jitter_makes_it_sooner_and_is_the_same_each_time() {
        let freshness = Freshness::new()
            .refresh_after(Duration::from_secs(10))
            .jitter(0.5);
        let all: Vec<u64> = (0..1_000)
            .map(|salt| freshness.refresh_from(written(5), NEVER, salt))
            .collect();
        assert!(
            all.iter()
                .all(|at| (seconds(10)..=seconds(15)).contains(at))
        );
        assert!(all.iter().any(|at| *at < seconds(11)) && all.iter().any(|at| *at > seconds(14)));
        assert_eq!(all[3], freshness.refresh_from(written(5), NEVER, 3));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let new = Freshness::new;
        let zero = Duration::ZERO;
        for (freshness, setting) in [
            (new().refresh_after(zero), "refresh_after"),
            (new().refresh_at(0.0), "refresh_at"),
            (new().refresh_at(1.0), "refresh_at"),
            (new().refresh_at(f64::NAN), "refresh_at"),
            (new().jitter(1.5), "jitter"),
            (new().jitter(f64::NAN), "jitter"),
            (new().stale_if_error(zero), "stale_if_error"),
            (new().retry_after(zero), "retry_after"),
            (
                new().stale_if_error(Duration::MAX).soft_timeout(zero),
                "soft_timeout",
            ),
            (new().soft_timeout(Duration::MAX), "soft_timeout"),
            (new().hard_timeout(zero), "hard_timeout"),
        ] {
            assert_eq!(
                freshness.check().unwrap_err().setting(),
                setting,
                "{freshness:?}"
            );
        }
        assert!(new().check().is_ok());
    }
}
