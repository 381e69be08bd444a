//! The caches that are measured.

use haybox::Cache;
use std::hash::Hash;
use std::time::Duration;

pub const MILLION: usize = 1_000_000;
const HOUR: Duration = Duration::from_secs(3600);

pub fn bounded<K, V>(max_entries: usize) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let builder = Cache::builder().max_entries(max_entries).time_to_live(HOUR);
    builder.build().expect("a bound of at least one entry")
}

pub fn unbounded<K, V>() -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let builder = Cache::builder().time_to_live(HOUR);
    builder.build().expect("no bound can be wrong")
}

pub fn fill(cache: &Cache<u64, u64>, entries: u64) {
    for key in 0..entries {
        cache.insert(key, key);
    }
}
