//! Caches of numbers, and what the scenarios share.

use haybox::{Cache, CacheBuilder, MockClock};
use shuttle::rand::{Rng, thread_rng};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the checks themselves know they keep in locks and atomics of `std`, which are no scheduling
/// points.
pub fn known<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For calls whose answer does not matter.
pub fn ignore<T>(_: T) {}

pub fn choice(choices: u32) -> u32 {
    thread_rng().gen_range(0..choices)
}

/// A hasher without a seed, so that a schedule can be replayed.
#[derive(Default)]
pub struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed here")
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value);
    }
}

pub type Fixed = BuildHasherDefault<Plain>;

pub type Numbers = Cache<u32, u32, Fixed>;

pub fn numbers() -> CacheBuilder<u32, u32, Fixed> {
    Cache::builder().hasher(Fixed::default())
}

pub fn built<V: Send + Sync + 'static>(
    builder: CacheBuilder<u32, V, Fixed>,
) -> Cache<u32, V, Fixed> {
    builder.build().expect("the settings are possible")
}

/// Enough to be expected that a table starts with four sets.
pub const OF_FOUR_SETS: usize = 160;

/// The first of the keys that fill a cache up.
pub const FILLER: u32 = 1_000;

/// The load at which a table of one set splits.
pub const CROWDED: u32 = 40;

/// Puts many entries in at once, so that the table falls behind with its growth.
pub fn fill(cache: &Numbers, count: u32) {
    let keys: Vec<u32> = (FILLER..FILLER + count).collect();
    let filled = cache.transaction(&keys, |tx| {
        keys.iter().try_for_each(|key| tx.insert(key, *key))
    });
    assert!(filled.is_ok());
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn expiring(time: &MockClock) -> CacheBuilder<u32, u32, Fixed> {
    let sets = if choice(2) == 0 { 10 } else { OF_FOUR_SETS };
    numbers()
        .max_entries(sets)
        .clock(time.clock())
        .sweep_interval(seconds(1))
}

/// Writes one number under both keys, which are named in the order given.
pub fn write_both(cache: &Numbers, keys: [u32; 2], value: u32) {
    let written = cache.transaction(&keys, |tx| {
        tx.insert(&keys[0], value)?;
        tx.insert(&keys[1], value)
    });
    let fits = cache.max_entries().is_none_or(|max| max >= 2)
        && cache.max_weight().is_none_or(|max| max >= 2);
    assert_eq!(written.is_ok(), fits, "what cannot fit together is refused");
}
