//! The stores that are compared, and what they are filled with.

use haybox::persist::{Persistence, SyncPolicy};
use haybox::{Cache, Store};
use std::path::Path;
use std::time::{Duration, Instant};

pub type Entries = Store<u64, String>;
pub type Memory = Cache<u64, String>;

/// How large a value is, in bytes.
pub const VALUE: usize = 100;

pub fn value() -> String {
    "x".repeat(VALUE)
}

/// Keys that follow one another are no neighbours in any table (the finaliser of SplitMix64).
pub fn key(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The policies, by their names.
pub fn policies() -> [(&'static str, SyncPolicy); 3] {
    [
        ("Every(1 s)", SyncPolicy::Every(Duration::from_secs(1))),
        ("Os", SyncPolicy::Os),
        ("Always, not waited for", SyncPolicy::Always),
    ]
}

/// A log that is never compacted by itself, so that it is known what is measured.
pub fn options(policy: SyncPolicy) -> Persistence {
    Persistence::new()
        .sync(policy)
        .compact_at(u64::MAX, u64::MAX)
}

pub fn store(dir: &Path, options: Persistence) -> Result<Entries, String> {
    let opened = Cache::builder().open_store_with(dir, options);
    opened.map_err(|error| error.to_string())
}

pub fn memory() -> Memory {
    Cache::builder().build().expect("a cache needs no bound")
}

/// The bytes of all files in a directory.
pub fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// How long something took, in seconds.
pub fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed().as_secs_f64(), result)
}
