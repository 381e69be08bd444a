//! Many entries in one call, and the collection traits of the standard library.

use super::Cache;
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use std::hash::{BuildHasher, Hash};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The values of several keys, in their order. Each key is looked up by itself: this saves
    /// typing, and reads no common moment; for that there is [`transaction`](Self::transaction).
    ///
    /// The keys come as references: `["hay", "straw"]` or `names.iter().map(String::as_str)` for
    /// keys that are `String`s, `&ids` for a `Vec` of the keys themselves.
    ///
    /// ```
    /// let cache = haybox::Cache::new(100);
    /// cache.insert_many([("hay", 1), ("straw", 2)]);
    /// assert_eq!(cache.get_many(["straw", "oats", "hay"]), [Some(2), None, Some(1)]);
    /// ```
    #[doc(alias = "MGET")]
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
        V: Clone,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Stores several values, each as [`insert`](Self::insert) does, and returns how many are
    /// stored: less than were given if some do not fit.
    #[doc(alias = "MSET")]
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> usize {
        let insert = |(key, value)| self.insert_with(key, value, Default::default());
        entries
            .into_iter()
            .map(insert)
            .filter(|inserted| inserted.is_stored())
            .count()
    }
}

/// An unbounded cache of the entries. There is no `Default`, which would be unbounded as well and
/// does not look like it.
impl<K, V> FromIterator<(K, V)> for Cache<K, V, DefaultHashBuilder>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let cache = Self::unbounded();
        cache.insert_many(entries);
        cache
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Extend<(K, V)> for Cache<K, V, S> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.insert_many(entries);
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Extend<(K, V)> for &Cache<K, V, S> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.insert_many(entries);
    }
}
