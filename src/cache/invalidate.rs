//! Many entries ended by one call: by tag, by group, by the start of their keys.

use super::Cache;
use crate::labels;
use std::hash::Hash;

impl<K, V, S> Cache<K, V, S> {
    /// Ends every entry with a tag, however many there are, in O(1): when it returns, nobody sees
    /// any of them again.
    ///
    /// For values that are made of several sources. Each is stored with one tag for each source
    /// ([`InsertOptions::tags`](crate::InsertOptions::tags), or
    /// [`Loaded::tags`](crate::Loaded::tags) where a loader brings it), and who changes a source
    /// need not know what was made of it:
    ///
    /// ```
    /// use haybox::{Cache, InsertOptions};
    ///
    /// // Pages of a shop, each with the products that it shows.
    /// let pages: Cache<String, String> = Cache::new(10_000);
    /// let show = |path: &str, products: &[u64]| {
    ///     let page = format!("{} products", products.len());
    ///     let tags = InsertOptions::new().tags(products);
    ///     pages.insert_with(path.to_string(), page, tags)
    /// };
    /// show("/sale", &[3, 7, 12]);
    /// show("/shoes?page=1", &[1, 2, 3]);
    /// show("/hats", &[20]);
    ///
    /// // The price of product 3 changes.
    /// pages.invalidate_tag(&3);
    /// assert_eq!(pages.get("/sale"), None);
    /// assert_eq!(pages.get("/shoes?page=1"), None);
    /// assert!(pages.get("/hats").is_some());
    /// ```
    ///
    /// # What it does to entries
    /// They are gone as if each had been removed: no call finds them, and a value that is stored
    /// under their keys replaces nothing. What leaves later is their memory, and what is told of
    /// it: an entry counts in [`len`](Self::len) and [`weight`](Self::weight), and its removal is
    /// not told, until its key is written, its set evicts (it goes before what lives there) or the
    /// background sweeps. The cause is
    /// [`Explicit`](crate::RemovalCause::Explicit), or
    /// [`Expired`](crate::RemovalCause::Expired) if its time is up by then, too.
    ///
    /// A loaded value counts as made when its load begins, and what `update`, `compute` or a
    /// transaction makes of an entry when the key is locked. What is invalidated between that and
    /// the storing ends it as well: a load that has read the old data leaves nothing behind, and
    /// callers that come after the invalidation do not get what it brings. An `insert` cannot know
    /// how old its value is, and counts as made when it is stored: invalidate after the source has
    /// changed, and load through the cache.
    ///
    /// # What it costs
    /// The call itself takes a few locks that it shares with other invalidations, and no set. Tags
    /// that are never used again leave nothing: a record of each is kept until the background has
    /// passed through all sets, at the next
    /// [`sweep_interval`](crate::CacheBuilder::sweep_interval), or less often in a cache of more
    /// than 10,000 sets (some 300,000 entries), where it keeps to that many sets for each interval
    /// on average. When more than 65,536 records wait (or an eighth of the number of entries), each
    /// call removes some of what it and others have ended. Should twice as many wait, because a
    /// load or a closure has held everything up for all of that time, every entry with a tag or a
    /// group that was stored before counts as ended, so that memory stays bounded.
    ///
    /// An entry costs about 30 bytes with one tag, and with more of them 8 bytes for each and about
    /// 16 on top; one without that lies in a set with such costs the 30, too. Under
    /// [`max_memory`](crate::CacheBuilder::max_memory) the tags count. A read of an entry with tags
    /// looks at each of them once after an invalidation, whatever was invalidated, and not again
    /// until there is another. Entries without tags cost nothing.
    ///
    /// Tags are known by 64 bits of their hash, with keys that are drawn at random for each process
    /// (with the feature `persist`, with keys that never change, so that a tag means the same after
    /// a restart): should two tags have the same, invalidating one ends the entries of both.
    ///
    /// # Panics
    /// As every call does, from inside a closure that runs under the lock of a set.
    #[track_caller]
    pub fn invalidate_tag<T: Hash + ?Sized>(&self, tag: &T) {
        self.engine.invalidate(labels::of_tag(tag));
    }

    /// Ends every entry with any of these tags. As [`invalidate_tag`](Self::invalidate_tag), one
    /// after the other.
    #[track_caller]
    pub fn invalidate_tags<T: Hash>(&self, tags: impl IntoIterator<Item = T>) {
        for tag in tags {
            self.invalidate_tag(&tag);
        }
    }

    /// Ends every entry whose key is in a group, in O(1), as
    /// [`invalidate_tag`](Self::invalidate_tag) does for tags. Loads of such keys that are under
    /// way are overtaken: callers that come later do not wait for them.
    ///
    /// The groups are those of [`group_by`](crate::CacheBuilder::group_by), by their hash: a `&str`
    /// will do for a `String`, and a number for equal ones of other types. For keys that have more
    /// than one group, use tags; for the start of any key,
    /// [`invalidate_prefix`](Self::invalidate_prefix).
    ///
    /// # Panics
    /// If the cache was built without `group_by`: it would end nothing, and that would go
    /// unnoticed.
    #[track_caller]
    pub fn invalidate_group<G: Hash + ?Sized>(&self, group: &G) {
        assert!(
            self.engine.has_groups(),
            "Cache::invalidate_group: the cache has no groups; give `group_by` to its builder"
        );
        self.engine.invalidate(labels::of_group(group));
    }

    /// Removes every entry whose key starts with `prefix`, and overtakes the loads of such keys;
    /// how many entries were there to be seen. The empty prefix is that of every key.
    ///
    /// Looks at each key of the cache, set by set, so it costs as much as a walk through all of it
    /// ([`retain`](Self::retain) does the same for any condition): for a million `String`s not
    /// quite twice as long as a walk through a `HashMap` of them (60 ms and 36 on a busy machine),
    /// and about 0.4 µs for each entry that it removes. Entries that other threads insert meanwhile
    /// may or may not be seen; those that were there before, and all that loads bring that began
    /// before, are gone when it returns. Where prefixes are known beforehand,
    /// [`invalidate_group`](Self::invalidate_group) costs the same for any number of entries.
    ///
    /// ```
    /// let pages: haybox::Cache<String, u32> = haybox::Cache::new(100);
    /// for path in ["/shoes/1", "/shoes/2", "/hats/1"] {
    ///     pages.insert(path.to_string(), 0);
    /// }
    /// assert_eq!(pages.invalidate_prefix("/shoes/"), 2);
    /// assert_eq!(pages.len(), 1);
    /// ```
    #[track_caller]
    pub fn invalidate_prefix(&self, prefix: &str) -> usize
    where
        K: AsRef<str>,
    {
        self.engine
            .remove_keys(|key| key.as_ref().starts_with(prefix))
    }
}
