//! A cache hits after a restart about as often as it did before.

use crate::dir;
use haybox::{Cache, CacheBuilder, EvictionPolicy};
use std::fs;

/// Keys as they are asked for: a few often, most seldom, and a scan now and then.
fn trace(length: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut scan = 0;
    let mut next = |at: usize| {
        if at % 10_000 < 1_500 {
            scan += 1;
            return 1_000_000 + scan;
        }
        // Zipf-like: the logarithm of the rank is uniform.
        (random.f64() * (60_000f64).ln()).exp() as u64
    };
    (0..length).map(&mut next).collect()
}

/// Asks for keys, loading what is missing; the share of hits in percent.
fn hits(cache: &Cache<u64, u64>, keys: &[u64]) -> f64 {
    let found = keys.iter().filter(|key| {
        let hit = cache.get(*key).is_some();
        if !hit {
            cache.insert(**key, **key);
        }
        hit
    });
    found.count() as f64 * 100.0 / keys.len() as f64
}

/// How the first run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    /// Without the snapshot that a small cache makes at its end: a log does not say what was read.
    Killed,
}

/// The mean of so many caches is compared: one of them is off by half a point as a rule.
const CACHES: usize = 3;

#[test]
fn the_hit_ratio_after_a_restart_is_about_what_it_would_be_without() {
    let keys = trace(120_000);
    let (before, after) = keys.split_at(90_000);
    for policy in [EvictionPolicy::Adaptive, EvictionPolicy::Lru] {
        for (end, points) in [(End::Closed, 2.0), (End::Killed, 4.0)] {
            let lost = |_| {
                let stays = bounded(policy).build().unwrap();
                hits(&stays, before);
                hits(&stays, after) - hits_of_restarted(policy, &end, before, after)
            };
            let lost = (0..CACHES).map(lost).sum::<f64>() / CACHES as f64;
            assert!(
                lost < points,
                "{policy:?}, {end:?}: {lost:.2} points fewer than without a restart"
            );
        }
    }
}

fn bounded(policy: EvictionPolicy) -> CacheBuilder<u64, u64> {
    Cache::builder().max_entries(1_500).eviction_policy(policy)
}

fn hits_of_restarted(policy: EvictionPolicy, end: &End, before: &[u64], after: &[u64]) -> f64 {
    let (dir, copy) = (dir(), dir());
    let cache = bounded(policy).open(dir.path()).unwrap();
    hits(&cache, before);
    if let End::Killed = end {
        cache.journal().unwrap().sync().unwrap();
        for file in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            let to = copy.path().join(file.file_name());
            fs::copy(file.path(), to).unwrap();
        }
    }
    drop(cache);
    let path = match end {
        End::Closed => dir.path(),
        End::Killed => copy.path(),
    };
    hits(&bounded(policy).open(path).unwrap(), after)
}

/// What another policy had in its main queue is in the one queue that an LRU has: it goes when it
/// is the idlest.
#[test]
fn what_another_policy_has_left_is_evicted_by_an_lru_in_turn() {
    let dir = dir();
    let open = |policy| {
        let builder = Cache::builder().max_entries(40).eviction_policy(policy);
        builder.open(dir.path()).unwrap()
    };
    let cache: Cache<u64, u64> = open(EvictionPolicy::S3Fifo);
    let old = 0..30;
    cache.insert_many((0..40).map(|key| (key, key)));
    for _ in 0..4 {
        assert!(
            old.clone()
                .all(|key| cache.contains_key(&key) && cache.get(&key).is_some())
        );
    }
    // What is evicted for these makes the policy look through its queues.
    cache.insert_many((100..110).map(|key| (key, key)));
    drop(cache);
    let cache = open(EvictionPolicy::Lru);
    assert!(old.clone().filter(|key| cache.contains_key(key)).count() > 20);
    // Many, so that each set is asked for all of it, however many sets the table has by now.
    cache.insert_many((1_000..2_000).map(|key| (key, key)));
    assert!((1_990..2_000).all(|key| cache.contains_key(&key)));
    assert!(old.clone().all(|key| !cache.contains_key(&key)));
    cache.validate();
}
