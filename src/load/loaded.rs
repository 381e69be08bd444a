//! What a loader may answer besides a value.

use super::freshness::OwnTimes;
use crate::entry::Life;
use crate::labels::{self, Labels};
use crate::to_key::ToKey;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// What a loader of a [`ReadThrough`](crate::ReadThrough) brings, or for each of its keys one of a
/// [`ReadThroughMany`](crate::ReadThroughMany): a value, possibly with a TTL, a weight and tags of
/// its own; that there is none; that the old one still holds; or a value for its caller alone.
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
///
/// # What an HTTP origin says
///
/// | of a response | of a value |
/// | --- | --- |
/// | `max-age` | [`ttl`](Self::ttl) |
/// | `stale-while-revalidate` | a `ttl` of both together, and [`refresh_after`](Self::refresh_after) the `max-age` |
/// | `stale-if-error` | [`stale_if_error`](Self::stale_if_error) |
/// | `must-revalidate` | `stale_if_error` of zero, which is needed only where the cache says otherwise |
/// | `no-cache` | a `ttl` of zero, and `stale_if_error` |
/// | `no-store`, `private` | [`unshared`](Self::unshared) |
/// | `ETag` and 304 | [`read_through_revalidating`](crate::Cache::read_through_revalidating) and [`not_modified`](Self::not_modified), or a new value where the headers of the answer count |
/// | `Vary` | the headers as part of the key |
/// | a surrogate key, or cache tag | [`tag`](Self::tag) |
/// | `X-Cache`, `Cache-Status` | [`get_with_source`](crate::ReadThrough::get_with_source) |
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Loaded<V> {
    pub(crate) what: What<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) labels: Labels,
    rare: Option<Box<Rare>>,
}

/// What is seldom said of a value, apart from what every load hands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    weight: Option<u64>,
    times: OwnTimes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<V> {
    Value(V),
    Absent,
    NotModified,
    Unshared(V),
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

    /// The old value, which the loader was shown, still holds. It gets a new TTL, and keeps its
    /// tags unless it is given others.
    ///
    /// For loaders of [`read_through_revalidating`](crate::Cache::read_through_revalidating). One
    /// that answers this without having been shown a value makes its caller panic.
    pub fn not_modified() -> Self {
        Self::of(What::NotModified)
    }

    /// A value for the caller alone that has loaded it, such as what an origin answers with
    /// `Cache-Control: private` or `no-store`. It is not stored, takes the old value away, and is not
    /// given to those who wait for the load: each of them loads for itself, all at once. Whatever
    /// else is said of it does not count.
    ///
    /// It is for what turns out to be so. Where it is known before, have a key for each caller, or do
    /// not ask the cache: those who come during such a load wait for it in vain.
    ///
    /// ```
    /// use haybox::{Cache, Loaded};
    ///
    /// # type Error = std::io::Error;
    /// # struct Answer { body: String, is_private: bool }
    /// # fn fetch(url: &str) -> Result<Answer, Error> {
    /// #     Ok(Answer { body: url.into(), is_private: url == "/me" })
    /// # }
    /// let pages = Cache::<String, String>::new(1_000).read_through(|url| {
    ///     let answer = fetch(url)?;
    ///     Ok::<_, Error>(match answer.is_private {
    ///         true => Loaded::unshared(answer.body),
    ///         false => Loaded::new(answer.body),
    ///     })
    /// });
    /// assert_eq!(pages.get("/me")?.as_deref(), Some("/me"));
    /// assert!(!pages.cache().contains_key("/me"));
    /// # Ok::<(), haybox::LoadError<Error>>(())
    /// ```
    pub fn unshared(value: V) -> Self {
        Self::of(What::Unshared(value))
    }

    /// The value, if nothing but how long it holds is said of it.
    pub(crate) fn plain_value(&self) -> Option<&V> {
        match &self.what {
            What::Value(value) => {
                let is_plain = self.labels.is_empty() && self.rare.is_none();
                is_plain.then_some(value)
            }
            What::Absent | What::NotModified | What::Unshared(_) => None,
        }
    }

    /// What the loader says of the weight.
    pub(crate) fn own_weight(&self) -> Option<u64> {
        self.rare.as_ref()?.weight
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// What the loader says of how fresh it is to be.
    pub(crate) fn own_times(&self) -> OwnTimes {
        self.rare
            .as_ref()
            .map_or_else(OwnTimes::default, |rare| rare.times)
    }

    /// How long the value lives. What is to be kept for longer is stored, though its time is as good
    /// as over.
    pub(crate) fn life(&self) -> Life {
        let longest = self.own_times().stale_if_error;
        let is_kept = longest.is_some_and(|longest| !longest.is_zero());
        match self.ttl {
            None => Life::Default,
            Some(ttl) if is_kept => Life::For(ttl.max(Duration::from_micros(1))),
            Some(ttl) => Life::For(ttl),
        }
    }

    fn of(what: What<V>) -> Self {
        Self {
            what,
            ttl: None,
            labels: Labels::NONE,
            rare: None,
        }
    }

    /// The value, or its absence, holds for this long, whatever the policy of the cache. Zero means
    /// that it goes to those who wait and is not stored, unless the loader also says that it is
    /// [kept](Self::stale_if_error); more than the clock can hold that it never expires. To those who
    /// wait it goes in any case; for what only one caller may have there is
    /// [`unshared`](Self::unshared). An absence is remembered only where its key can be weighed:
    /// [`negative_weigher`](crate::CacheBuilder::negative_weigher).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// When it is older than this, the value is served at once, and one load of its key begins behind
    /// it: as [`Freshness::refresh_after`](crate::Freshness::refresh_after), for this value. Zero
    /// means that each call begins a load, unless one is under way.
    ///
    /// It goes before what the cache or a call says, needs no [`Freshness`](crate::Freshness) of
    /// theirs, and their [`jitter`](crate::Freshness::jitter) is not taken off it. Like all that is
    /// known of ages it is not kept in files: of what comes back after a restart the cache decides.
    /// In the sets where such values lie, each entry takes 24 bytes more, which
    /// [`max_memory`](crate::CacheBuilder::max_memory) counts only where the cache was built with a
    /// freshness. From the first such value on all loading calls of the cache look for such times, and
    /// take as long as with a freshness.
    ///
    /// What an origin says of a response with `Cache-Control: max-age=60,
    /// stale-while-revalidate=30, stale-if-error=3600` ([RFC 5861]) is then:
    ///
    /// ```
    /// use haybox::{Cache, Loaded, MockClock, Source};
    /// use std::time::Duration;
    ///
    /// let seconds = Duration::from_secs;
    /// # type Error = std::io::Error;
    /// # struct Answer { body: String, max_age: Duration, revalidate: Duration, if_error: Duration }
    /// # fn fetch(_: &str) -> Result<Answer, Error> {
    /// #     let seconds = Duration::from_secs;
    /// #     Ok(Answer { body: "hay".into(), max_age: seconds(60), revalidate: seconds(30), if_error: seconds(3600) })
    /// # }
    /// let clock = MockClock::new();
    /// let cache: Cache<String, String> =
    ///     Cache::builder().max_entries(1_000).clock(clock.clock()).build()?;
    /// let pages = cache.read_through(|url: &String| {
    ///     let answer = fetch(url)?;
    ///     Ok::<_, Error>(
    ///         Loaded::new(answer.body)
    ///             .ttl(answer.max_age + answer.revalidate)
    ///             .refresh_after(answer.max_age)
    ///             .stale_if_error(answer.if_error),
    ///     )
    /// });
    /// assert_eq!(pages.get_with_source("/")?.1, Source::Loaded);
    /// clock.advance(seconds(70));
    /// assert_eq!(pages.get_with_source("/")?.1, Source::Hit); // And it is fetched behind.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [RFC 5861]: https://www.rfc-editor.org/rfc/rfc5861
    pub fn refresh_after(mut self, age: Duration) -> Self {
        self.rare().times.refresh_after = Some(age);
        self
    }

    /// The value is kept for this long beyond its TTL, and served when it cannot be loaded: as
    /// [`Freshness::stale_if_error`](crate::Freshness::stale_if_error), for this value. Zero means
    /// that it is not. With a TTL of zero (HTTP's `no-cache`) each call asks the loader, which is
    /// shown the old value where it [revalidates](crate::Cache::read_through_revalidating): only
    /// within the first microseconds it is served as it is. What is said of
    /// [`refresh_after`](Self::refresh_after) holds for it as well.
    pub fn stale_if_error(mut self, longest: Duration) -> Self {
        self.rare().times.stale_if_error = Some(longest);
        self
    }

    /// What the entry weighs, instead of what the [`weigher`](crate::CacheBuilder::weigher) would
    /// say. A later `update` or `compute` weighs it by the weigher, and so does opening a directory
    /// in which it is kept.
    pub fn weight(mut self, weight: u64) -> Self {
        self.rare().weight = Some(weight);
        self
    }

    /// The entry has this tag, besides those it was given before: when
    /// [`invalidate_tag`](crate::Cache::invalidate_tag) is called for it, the entry is gone. What a
    /// tag is, and what it costs, is as for [`InsertOptions::tag`](crate::InsertOptions::tag). That
    /// there is no value may have tags, too, for as long as it is remembered.
    ///
    /// What a value was made of is often not known before it is loaded:
    ///
    /// ```
    /// use haybox::{Cache, Loaded};
    ///
    /// # type Error = std::io::Error;
    /// struct Article { author: u64, text: String }
    /// # fn query(_: &u64) -> Result<Article, Error> {
    /// #     Ok(Article { author: 7, text: "By Ada".into() })
    /// # }
    ///
    /// let pages = Cache::<u64, String>::new(1_000).read_through(|id| {
    ///     // SELECT … FROM articles JOIN authors … WHERE articles.id = ?1
    ///     let article = query(id)?;
    ///     let page = Loaded::new(article.text).tag(&("author", article.author));
    ///     Ok::<_, Error>(page)
    /// });
    /// assert!(pages.get(&1)?.is_some());
    ///
    /// // Author 7 has a new name. Nobody need know which articles are his.
    /// pages.cache().invalidate_tag(&("author", 7));
    /// assert_eq!(pages.cache().get(&1), None);
    /// # Ok::<(), haybox::LoadError<Error>>(())
    /// ```
    ///
    /// # An invalidation during the load
    /// The value counts as made when its load began. If one of its tags was invalidated since then,
    /// it is not stored, and counts as [discarded](crate::Stats::discarded_loads). Callers that
    /// came before the invalidation get it all the same. Those that came after it have joined the
    /// load too, since its tags were not known yet; they do not get it, and load anew, one for all
    /// of them. So a read that begins after `invalidate_tag` has returned never gets what was read
    /// before.
    ///
    /// ```text
    /// load:          |--- SELECT -------------------|        not stored
    /// caller:           |- waits -------------------|> gets what the load brought
    /// invalidate_tag:                 |-|
    /// caller:                              |- waits |--- SELECT ---|> gets this
    /// ```
    pub fn tag<T: Hash + ?Sized>(mut self, tag: &T) -> Self {
        self.labels.add(labels::of_tag(tag));
        self
    }

    /// The entry has these tags, besides those it was given before. As for [`tag`](Self::tag); each
    /// counts once.
    pub fn tags<T: Hash>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags = tags.into_iter().map(|tag| labels::of_tag(&tag));
        self.labels.extend(tags);
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

/// What a loader of several keys has brought for each of those it was asked for, in their order.
/// What it was not asked for is nothing that a write could have overtaken, so it is dropped.
pub(crate) fn in_order<'k, K, V, Q, T>(
    keys: impl IntoIterator<Item = &'k Q>,
    brought: impl IntoIterator<Item = (K, T)>,
) -> Vec<Loaded<V>>
where
    K: Hash + Eq,
    Q: ToKey<K> + ?Sized + 'k,
    T: Into<Loaded<V>>,
{
    let mut brought: HashMap<K, T> = brought.into_iter().collect();
    let of_key = |key: &Q| brought.remove(&key.to_key());
    let found = keys.into_iter().map(of_key);
    found
        .map(|loaded| loaded.map_or_else(Loaded::absent, T::into))
        .collect()
}
