//! What a loader may answer besides a value.

use std::time::Duration;

/// What a loader of a [`ReadThrough`](crate::ReadThrough) brings: a value, possibly with a TTL and
/// a weight of its own; that there is none; or that the old one still holds.
///
/// A loader that always brings a value may return it as it is, and one that may find none an
/// `Option`: both convert.
///
/// ```
/// use haybox::Loaded;
/// use std::time::Duration;
///
/// // What an HTTP API has answered, with its `max-age`.
/// fn answered(page: String, max_age: u64) -> Loaded<String> {
///     let weight = page.len() as u64;
///     Loaded::new(page).ttl(Duration::from_secs(max_age)).weight(weight)
/// }
/// # answered(String::new(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) what: What<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) weight: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<V> {
    Value(V),
    Absent,
    NotModified,
}

impl<V> Loaded<V> {
    /// A value.
    pub fn new(value: V) -> Self {
        Self::of(What::Value(value))
    }

    /// There is no value. That is remembered for the
    /// [`negative_ttl`](crate::CacheBuilder::negative_ttl), if there is one, and removes the old
    /// value.
    pub fn absent() -> Self {
        Self::of(What::Absent)
    }

    /// The old value, which the loader was shown, still holds. It gets a new TTL.
    ///
    /// A loader that answers this without having been shown a value makes its caller panic.
    pub fn not_modified() -> Self {
        Self::of(What::NotModified)
    }

    fn of(what: What<V>) -> Self {
        Self {
            what,
            ttl: None,
            weight: None,
        }
    }

    /// The value, or its absence, holds for this long, whatever the policy of the cache. Zero means
    /// that it goes to those who wait and is not stored, more than the clock can hold that it never
    /// expires.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What the entry weighs, instead of what the [`weigher`](crate::CacheBuilder::weigher) would
    /// say. A later `update` or `compute` weighs it by the weigher.
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(weight);
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(found: Option<V>) -> Self {
        found.map_or_else(Self::absent, Self::new)
    }
}
