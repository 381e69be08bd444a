//! What calls are given about an entry, and what they answer.

use crate::labels::{self, Given, Labels, NOW};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

/// How long an entry still has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// It does not expire.
    Never,
    /// It expires when this much time has passed with no access to it.
    Left(Duration),
}

/// What a [`Cache::insert_with`](crate::Cache::insert_with) is to do besides storing the value.
///
/// Without any of it, `insert_with` does what `insert` does. Of settings that contradict each other
/// (two that say when the entry expires, or both conditions) the last counts.
///
/// | Redis | here |
/// | --- | --- |
/// | `SET … EX 30`, `PX 30000` | `.ttl(Duration::from_secs(30))` |
/// | `SET … EXAT t` | `.expire_at(t)` |
/// | `SET … KEEPTTL` | `.keep_ttl()` |
/// | `SET … NX` | `.if_absent()` |
/// | `SET … XX` | `.if_present()` |
/// | `SET … GET` | the answer: [`Insert::Replaced`] has the old value; for `NX` with `GET`, [`get_or_insert_with`](crate::Cache::get_or_insert_with), or [`compute`](crate::Cache::compute), which a store has, too |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct InsertOptions {
    pub(crate) life: Life,
    pub(crate) only_if: OnlyIf,
    pub(crate) given: Option<Box<Given>>,
}

/// Where the deadline of a written entry comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// The cache's policy.
    #[default]
    Default,
    For(Duration),
    Until(SystemTime),
    Forever,
    /// That of the entry it replaces; the cache's policy where there is none.
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnlyIf {
    #[default]
    Always,
    Absent,
    Present,
}

impl InsertOptions {
    /// Whether nothing but the life of the entry is asked for.
    #[inline]
    pub(crate) fn are_plain(&self) -> bool {
        self.only_if == OnlyIf::Always && self.given.is_none()
    }

    /// No wishes: the same as `default()`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry expires when `ttl` has passed, to the microsecond and never later. Zero means that
    /// it is gone at once, [more than the clock can hold](crate::CacheBuilder::time_to_live) that
    /// it never expires.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.life = Life::For(ttl);
        self
    }

    /// The entry expires at a point in wall-clock time, as the wall clock stands during the call.
    /// It is gone at once if that is past, and never if it is [more than the clock can
    /// hold](crate::CacheBuilder::time_to_live).
    pub fn expire_at(mut self, time: SystemTime) -> Self {
        self.life = Life::Until(time);
        self
    }

    /// The entry does not expire, whatever the cache's own policy; an idle time still holds.
    pub fn no_ttl(mut self) -> Self {
        self.life = Life::Forever;
        self
    }

    /// The entry expires when the one that it replaces would have. Where it replaces none, the
    /// cache's policy decides.
    pub fn keep_ttl(mut self) -> Self {
        self.life = Life::Keep;
        self
    }

    /// The entry has this tag, besides those it was given before: when
    /// [`invalidate_tag`](crate::Cache::invalidate_tag) is called for it, the entry is gone.
    ///
    /// A tag is anything that has a hash: a name, a number, an enum, a tuple of those. Tags that
    /// have the same hash are the same tag, so a `String` stands for its `str`, and a number for
    /// equal ones of other types, but not within a slice or `Vec`.
    pub fn tag<T: Hash + ?Sized>(self, tag: &T) -> Self {
        let label = labels::of_tag(tag);
        self.labels(|labels| labels.add(label))
    }

    /// The entry has these tags, besides those it was given before. As for [`tag`](Self::tag); each
    /// counts once.
    ///
    /// ```
    /// use haybox::{Cache, InsertOptions};
    ///
    /// let cache = Cache::new(100);
    /// let tags = InsertOptions::new().tags(["users", "team 7"]);
    /// cache.insert_with("user 1", "Ada", tags);
    /// cache.invalidate_tag("team 7");
    /// assert_eq!(cache.get("user 1"), None);
    /// ```
    pub fn tags<T: Hash>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags = tags.into_iter().map(|tag| labels::of_tag(&tag));
        self.labels(|labels| labels.extend(tags))
    }

    fn labels(mut self, add: impl FnOnce(&mut Labels)) -> Self {
        let mut labels = self.given.take().map_or(Labels::NONE, |given| given.labels);
        add(&mut labels);
        self.given = Given::new(labels, NOW);
        self
    }

    /// Stores the value only when the key has no live value.
    ///
    /// With a TTL of zero, or a time that is past, the value has ended as it is stored: each caller
    /// is told [`Insert::Inserted`], and none of their values is there. So who takes a key as a
    /// lock gives it a [`ttl`](Self::ttl), and no time of another machine's clock; a lock that its
    /// holder can lose while at work is better a lease of [`lock`](crate::lock).
    pub fn if_absent(mut self) -> Self {
        self.only_if = OnlyIf::Absent;
        self
    }

    /// Stores the value only when the key has a live value.
    pub fn if_present(mut self) -> Self {
        self.only_if = OnlyIf::Present;
        self
    }
}

/// What [`Cache::insert_with`](crate::Cache::insert_with) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert<V> {
    /// Stored; the key had no live value.
    Inserted,
    /// Stored instead of this value.
    Replaced(V),
    /// Not stored, since the condition did not hold; this is the new value back, not the one that is
    /// there, which [`compute`](crate::Cache::compute) sees in the same step.
    Kept(V),
    /// Not stored, since it does not fit; this is the new value back. The old value is gone: a
    /// cache does not go on serving what its caller meant to overwrite.
    Refused(V),
}

impl<V> Insert<V> {
    /// Whether the value was stored. One whose TTL was zero, or whose time was past, has been, and
    /// was gone at once.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Inserted | Self::Replaced(_))
    }

    /// The value that was replaced.
    pub fn replaced(self) -> Option<V> {
        match self {
            Self::Replaced(value) => Some(value),
            Self::Inserted | Self::Kept(_) | Self::Refused(_) => None,
        }
    }
}

/// What the closure of a [`Cache::compute`](crate::Cache::compute) wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<V> {
    /// Nothing.
    Keep,
    /// Store the value, with the TTL that an insertion would give it.
    Put(V),
    /// Store the value, with this TTL.
    PutWithTtl(V, Duration),
    /// Store the value and leave the deadline as it is.
    PutKeepTtl(V),
    /// Remove the entry.
    Remove,
}

/// What a [`Cache::compute`](crate::Cache::compute) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<V> {
    /// The key had no live value and has none now.
    Absent,
    /// The value was left alone.
    Kept,
    /// Stored; the key had no live value.
    Inserted,
    /// Stored instead of this value.
    Replaced(V),
    /// This value was removed.
    Removed(V),
    /// Not stored, since it does not fit; this is the new value back, and the old one is gone.
    Refused(V),
}

/// When [`Cache::expire_with`](crate::Cache::expire_with) changes a deadline, as in Redis's
/// `EXPIRE` with `NX`, `XX`, `GT` and `LT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireIf {
    /// Whatever it is.
    #[default]
    Always,
    /// The entry does not expire yet (`NX`).
    NoTtl,
    /// The entry has a deadline (`XX`).
    HasTtl,
    /// The new deadline is later (`GT`). Never is later than everything.
    Later,
    /// The new deadline is sooner (`LT`).
    Sooner,
}

/// A value that does not fit, given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused<V>(pub V);

impl<V> fmt::Debug for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refused(..)")
    }
}

impl<V> fmt::Display for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value does not fit within the bounds of the cache")
    }
}

impl<V> std::error::Error for Refused<V> {}

/// What the cache does with a new entry when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Makes room: what has expired goes first, then what the eviction policy chooses.
    #[default]
    Evict,
    /// Refuses the new entry unless something has expired, as Redis does with `noeviction`. What is
    /// only remembered ([`negative_ttl`](crate::CacheBuilder::negative_ttl)) makes room for it. No
    /// more of either is cleared than the entry needs. Where all of it lies beside keys that other
    /// threads are at, an insertion waits for these, and for their closures, before it refuses.
    /// [`Cache::insert_with`](crate::Cache::insert_with) says so; the stats count it.
    Reject,
}

/// Which entry goes when a full cache takes a new one.
///
/// Eviction looks at the set of the new key, a few dozen entries, so that it takes the same short
/// time in a cache of any size. A set that holds less than nine tenths of its share of the entries
/// has another set give one up instead. What has expired goes before anything that lives, but for
/// what another thread has locked at that moment, and what was written and has expired while a sweep
/// looked for what expires next.
///
/// All of them take the same memory and about the same time, but for the sampling of `Adaptive`
/// and the reads of `Lru`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// Finds out which way of evicting suits the accesses, and changes it when they change.
    ///
    /// In a sample of the sets (two of them in caches of up to some 2,500 entries, one in 32 in
    /// larger ones, and no more than 128) five copies of the queues, keys and counts alone, try five
    /// settings on the same accesses: "balanced", S3-FIFO in which what was asked for more often of
    /// late stays; "frequent" as [`Lfu`](Self::Lfu) (for skewed accesses that stay the same, scans
    /// and loops); "recent", near to a FIFO (for bursts, and where what is new counts); "clock" without
    /// any probation (for keys that are asked for for a while and then by and by forgotten); and
    /// "strict", in which all that leaves probation is weighed (for keys that are asked for some times
    /// at once and never again, beside others that last). The whole cache follows one of them.
    /// Another takes over when it would have had more hits by 30 and a tenth of the entries in the
    /// sample: that a switch has to pay for what it exchanges keeps the policy from following chance.
    ///
    /// Costs 1,352 bytes for each sampled set from its first eviction on, at most 2.2 bytes for
    /// each entry or 2.7 kilobytes for the cache, and for the largest no more than 173 kilobytes; in
    /// caches of up to 5,120 entries 2,992 bytes, and at most 4.7 for each entry or 6 kilobytes;
    /// nothing for reads; for an insertion a twentieth more instructions in large caches, a quarter
    /// in those of a few hundred entries, and up to a half in those of less than 80.
    ///
    /// Sources: Qureshi, Jaleel, Patt, Steely, Emer, "Adaptive Insertion Policies for High
    /// Performance Caching", ISCA 2007 (a few sets try policies for all); Page, "Continuous
    /// Inspection Schemes", Biometrika 1954 (when to switch).
    #[default]
    Adaptive,

    /// S3-FIFO: new entries are on probation in a queue that holds a fifth of them. Who is read
    /// twice there, or comes back soon after it has left, moves to the main queue, where each
    /// read counts for another round. Good at most of what web servers and databases do, scans
    /// between reads included.
    ///
    /// Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction",
    /// SOSP 2023. Here the queues belong to sets, probation is twice as long as there, and the
    /// main queue fills before anything is evicted.
    S3Fifo,

    /// Frequency first: only the newest entry of a set is on probation, and it stays only if its
    /// key was asked for more often than that of the entry which would go for it. Good at skewed
    /// accesses that stay the same, at scans, and at loops over more keys than fit; slow to follow
    /// when other keys become hot.
    ///
    /// Not a strict LFU: a set remembers the counts of its last 60 evicted keys, or 180 in a cache
    /// of up to 5,120 entries; counts go up to seven, reads between two rounds of the queue count
    /// once, and now and then all counts are halved, so that what was hot once goes in the end.
    ///
    /// Source: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
    /// Transactions on Storage 2017, with counts beside the ghosts in place of the sketch.
    Lfu,

    /// Evicts the idlest of the key's set: the entry whose last access lies furthest back, exactly.
    /// A cache of up to 40 entries has one set, so it is LRU in the strict sense; a larger one is
    /// LRU within each of its sets. Accesses are those of the table in the docs of
    /// [`Cache`](crate::Cache).
    ///
    /// Each read moves its entry in a queue, which costs some nanoseconds and touches two more
    /// cache lines of the set. A scan over more keys than fit empties the cache.
    Lru,
}

/// A policy that gives each entry its own time to live, from what it sees of it.
///
/// The methods run under the lock of the entry's set: they must be short, and a call of a cache
/// from inside them panics. Without an own `expire_after_update` or `expire_after_read`, an update
/// counts as a creation and a read changes nothing.
///
/// ```
/// use haybox::{Cache, Expiry};
/// use std::time::Duration;
///
/// struct Token { seconds_left: u64 }
///
/// /// A token lives as long as its issuer says.
/// struct AsIssued;
/// impl Expiry<String, Token> for AsIssued {
///     fn expire_after_create(&self, _: &String, token: &Token) -> Option<Duration> {
///         Some(Duration::from_secs(token.seconds_left))
///     }
/// }
///
/// let tokens: Cache<String, Token> = Cache::builder().max_entries(1000).expiry(AsIssued).build()?;
/// tokens.insert("ada".into(), Token { seconds_left: 3600 });
/// # Ok::<(), haybox::BuildError>(())
/// ```
pub trait Expiry<K, V>: Send + Sync {
    /// The time to live of a new entry, `None` for no end.
    fn expire_after_create(&self, key: &K, value: &V) -> Option<Duration>;

    /// The time to live of an entry whose value was replaced, given what was left of it. Returning
    /// `left` leaves the deadline alone.
    fn expire_after_update(&self, key: &K, value: &V, left: Option<Duration>) -> Option<Duration> {
        let _ = left;
        self.expire_after_create(key, value)
    }

    /// The time to live of an entry that was read, given what is left of it. Returning `left`
    /// leaves the deadline alone.
    fn expire_after_read(&self, key: &K, value: &V, left: Option<Duration>) -> Option<Duration> {
        let _ = (key, value);
        left
    }
}
