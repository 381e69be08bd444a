//! Walking through a cache.

use super::Cache;
use crate::hash::DefaultHashBuilder;
use crate::reentrancy;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::iter::FusedIterator;
use std::vec;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The live entries, as copies, in no order that means anything.
    ///
    /// The walk holds no lock between two entries and stops nobody. An entry that stays in the
    /// cache during the whole walk is met exactly once, however the cache grows; one that comes or
    /// goes may or may not be met. Entries are copied a set at a time, mostly 20 to 40 of them: what
    /// expires, or is replaced or removed, before the walk comes to its copy is met as it was.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        Iter(self.walk(|key, value| (key.clone(), value.clone())))
    }

    /// The keys of the live entries, as copies. As for [`iter`](Self::iter).
    #[must_use]
    pub fn keys(&self) -> Keys<'_, K, V, S>
    where
        K: Clone,
    {
        Keys(self.walk(|key, _| key.clone()))
    }

    /// The values of the live entries, as copies. As for [`iter`](Self::iter).
    #[must_use]
    pub fn values(&self) -> Values<'_, K, V, S>
    where
        V: Clone,
    {
        Values(self.walk(|_, value| value.clone()))
    }

    fn walk<T>(&self, collect: fn(&K, &V) -> T) -> Walk<'_, K, V, S, T> {
        Walk {
            cache: self,
            collect,
            position: Some(0),
            waiting: Vec::new().into_iter(),
        }
    }

    /// Walks through the cache in calls: about `count` live entries from `cursor` on, and the
    /// cursor to go on from. A walk starts at cursor 0 and has ended when it gets 0 back.
    ///
    /// The cursor is a place in the order of the keys' hashes and needs no state in the cache, so
    /// a walk may take its time, or end early. An entry that stays in the cache during the whole
    /// walk is met exactly once, however the cache grows. More than `count` entries come in one
    /// call only when they have the same hash, fewer only at the end; a `count` of 0 counts as 1.
    ///
    /// Each call looks through one small set for each few dozen entries, and hashes their keys.
    ///
    /// ```
    /// let cache: haybox::Cache<u32, u32> = (0..1000).map(|key| (key, key)).collect();
    /// let (mut cursor, mut met) = (0, 0);
    /// loop {
    ///     let (next, entries) = cache.scan(cursor, 100);
    ///     met += entries.len();
    ///     cursor = next;
    ///     if cursor == 0 {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(met, 1000);
    /// ```
    #[track_caller]
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<(K, V)>)
    where
        K: Clone,
        V: Clone,
    {
        if !reentrancy::check() {
            return (0, Vec::new());
        }
        let copy = |key: &K, value: &V| (key.clone(), value.clone());
        let (entries, next) = self
            .engine
            .scan(cursor, count.max(1), &|key| self.hash(key), copy);
        (next.unwrap_or(0), entries)
    }

    /// A live entry chosen at random, as a copy; `None` if there is none. All entries are about
    /// equally likely. In a cache that has few entries left in a table grown for many, where sixteen
    /// sets at random have none, it walks through the sets to the first that has: O(sets).
    #[doc(alias = "RANDOMKEY")]
    #[track_caller]
    pub fn random(&self) -> Option<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        if !reentrancy::check() {
            return None;
        }
        self.engine
            .random(|entry| (entry.key.clone(), entry.value.clone()))
    }
}

/// One set after the other: copied under its lock, then given out.
struct Walk<'c, K, V, S, T> {
    cache: &'c Cache<K, V, S>,
    collect: fn(&K, &V) -> T,
    position: Option<u64>,
    waiting: vec::IntoIter<T>,
}

impl<K, V, S, T> Iterator for Walk<'_, K, V, S, T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.waiting.next() {
                return Some(item);
            }
            let (items, next) = self.cache.engine.collect_set(self.position?, self.collect);
            self.position = next;
            self.waiting = items.into_iter();
        }
    }
}

macro_rules! walks {
    ($($(#[$doc:meta])* $name:ident => $item:ty;)*) => {$(
        $(#[$doc])*
        pub struct $name<'c, K, V, S = DefaultHashBuilder>(Walk<'c, K, V, S, $item>);

        impl<K, V, S> fmt::Debug for $name<'_, K, V, S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl<K, V, S> Iterator for $name<'_, K, V, S> {
            type Item = $item;

            #[track_caller]
            fn next(&mut self) -> Option<$item> {
                self.0.next()
            }
        }

        impl<K, V, S> FusedIterator for $name<'_, K, V, S> {}
    )*};
}
walks! {
    /// The entries of a cache, from [`Cache::iter`].
    Iter => (K, V);
    /// The keys of a cache, from [`Cache::keys`].
    Keys => K;
    /// The values of a cache, from [`Cache::values`].
    Values => V;
}

impl<'c, K, V, S> IntoIterator for &'c Cache<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    type Item = (K, V);
    type IntoIter = Iter<'c, K, V, S>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
