//! What each eviction policy keeps.

use crate::common::{POLICIES, Seeded};
use haybox::{Cache, CacheBuilder, EvictionPolicy, Op};
use std::collections::VecDeque;

type Keys = Cache<u32, u32, Seeded>;

fn cache(policy: EvictionPolicy, capacity: usize) -> Keys {
    let builder = Cache::builder().max_entries(capacity).hasher(Seeded(3));
    builder.eviction_policy(policy).build().unwrap()
}

/// The policy as `Debug` of the cache shows it, with what an adaptive one does now.
fn in_force(cache: &Keys) -> String {
    let shown = format!("{cache:?}");
    let (_, policy) = shown.split_once("eviction_policy: ").unwrap();
    policy.trim_end_matches(", .. }").to_owned()
}

/// Looks the keys up in turn and stores what is missing; how many hit.
fn replay(cache: &Keys, keys: impl IntoIterator<Item = u32>) -> usize {
    let hits = keys.into_iter().filter(|key| {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, *key);
        }
        hit
    });
    hits.count()
}

/// Keys of which the lower are the more likely, about as in Zipf's law.
fn skewed(random: &mut fastrand::Rng, keys: u32) -> u32 {
    (f64::from(keys).powf(random.f64()) - 1.0) as u32
}

// ---- LRU ----

/// The keys in the order of their last access, the idlest first.
struct Order {
    keys: VecDeque<u32>,
    capacity: usize,
}

impl Order {
    fn holds(&self, key: u32) -> bool {
        self.keys.contains(&key)
    }

    fn remove(&mut self, key: u32) {
        self.keys.retain(|held| *held != key);
    }

    fn touch(&mut self, key: u32) {
        if self.holds(key) {
            self.remove(key);
            self.keys.push_back(key);
        }
    }

    fn store(&mut self, key: u32) {
        self.remove(key);
        if self.keys.len() == self.capacity {
            self.keys.pop_front();
        }
        self.keys.push_back(key);
    }
}

#[test]
fn a_cache_of_one_set_is_exactly_lru() {
    for capacity in [1, 2, 7, 16, 40] {
        for is_heard in [false, true] {
            agrees_with_lru(capacity, is_heard);
        }
    }
}

fn agrees_with_lru(capacity: usize, is_heard: bool) {
    let mut random = fastrand::Rng::with_seed(capacity as u64);
    let mut builder = Cache::<u32, u32>::builder()
        .max_entries(capacity)
        .eviction_policy(EvictionPolicy::Lru);
    if is_heard {
        builder = builder.removal_listener(|_, _, _| {});
    }
    let cache = builder.build().unwrap();
    let mut order = Order {
        keys: VecDeque::new(),
        capacity,
    };
    for step in 0..30_000 {
        let key = random.u32(0..capacity as u32 * 3 / 2 + 2);
        let held = order.holds(key);
        match random.u32(0..12) {
            0..3 => {
                cache.insert(key, step);
                order.store(key);
            }
            3..6 => {
                assert_eq!(cache.get(&key).is_some(), held, "{capacity} {step}");
                order.touch(key);
            }
            6 => {
                assert_eq!(cache.touch(&key), held);
                order.touch(key);
            }
            7 => {
                assert_eq!(cache.update(&key, |value| *value += 1).is_some(), held);
                order.touch(key);
            }
            8 => {
                cache.compute(&key, |_| Op::Put(step));
                order.store(key);
            }
            9 => {
                cache.get_or_insert_with(&key, || step);
                if held {
                    order.touch(key);
                } else {
                    order.store(key);
                }
            }
            10 => {
                let _ = cache.peek(&key);
                let _ = cache.contains_key(&key);
            }
            _ => {
                assert_eq!(cache.remove(&key).is_some(), held);
                order.remove(key);
            }
        }
        let all_here = order.keys.iter().all(|key| cache.contains_key(key));
        assert!(all_here, "{capacity} {step}: {:?}", order.keys);
        assert_eq!(cache.len(), order.keys.len());
    }
    assert!(cache.stats().evictions > 1_000);
    cache.validate();
}

#[test]
fn lru_counts_accesses_and_does_not_forget_them() {
    let cache = cache(EvictionPolicy::Lru, 3);
    cache.insert(1, 1);
    for accesses in 1..5u8 {
        cache.get(&1);
        cache.insert(100 + u32::from(accesses), 0);
        assert_eq!(cache.frequency(&1), Some(accesses.min(3)));
    }
}

#[test]
fn a_larger_lru_cache_keeps_what_was_used_last() {
    let cache = cache(EvictionPolicy::Lru, 1_000);
    replay(&cache, 0..20_000);
    // Sets that are under their share leave others a little over theirs.
    let kept = (19_200..20_000).filter(|key| cache.contains_key(key));
    assert!(kept.count() > 780);
    let before = (0..18_000).filter(|key| cache.contains_key(key));
    assert_eq!(before.count(), 0);
}

// ---- the adaptive policy ----

const CAPACITIES: [usize; 3] = [60, 500, 5_000];

#[test]
fn a_loop_over_more_keys_than_fit_keeps_what_is_in() {
    for capacity in CAPACITIES {
        loop_around(capacity, capacity * 3 / 2, capacity * 4 / 10);
        let adaptive = loop_around(capacity, capacity * 2, capacity * 7 / 10);
        assert_eq!(in_force(&adaptive), "Adaptive (frequent)", "{capacity}");
    }
}

/// Goes round so many keys until the policy has settled: then it has to have at least `least` hits
/// in a round, and half as many again as the one that does not adapt.
fn loop_around(capacity: usize, keys: usize, least: usize) -> Keys {
    let adaptive = cache(EvictionPolicy::Adaptive, capacity);
    let balanced = cache(EvictionPolicy::S3Fifo, capacity);
    let round = |cache: &Keys| replay(cache, 0..keys as u32);
    for _ in 0..100 {
        round(&adaptive);
        round(&balanced);
    }
    let (ours, theirs) = (round(&adaptive), round(&balanced));
    assert!(
        ours > least && ours > theirs * 3 / 2,
        "{capacity}, {keys}: {ours} {theirs}"
    );
    adaptive.validate();
    adaptive
}

#[test]
fn what_comes_back_soon_and_never_again_has_recency_first() {
    for capacity in CAPACITIES {
        let adaptive = cache(EvictionPolicy::Adaptive, capacity);
        let balanced = cache(EvictionPolicy::S3Fifo, capacity);
        let mut random = fastrand::Rng::with_seed(5);
        let mut newest = 0;
        let mut hits = [0; 2];
        // Each key is read a few times while it is among the newest, and then no more.
        for _ in 0..capacity * 300 {
            newest += u32::from(random.u32(0..4) == 0);
            let key = newest.saturating_sub(random.u32(0..capacity as u32 * 3 / 4));
            hits[0] += replay(&adaptive, [key]);
            hits[1] += replay(&balanced, [key]);
        }
        assert_eq!(in_force(&adaptive), "Adaptive (recent)", "{capacity}");
        assert!(hits[0] > hits[1], "{capacity}: {hits:?}");
        adaptive.validate();
    }
}

#[test]
fn what_is_popular_for_a_while_has_a_clock() {
    for capacity in [500, 5_000] {
        let adaptive = cache(EvictionPolicy::Adaptive, capacity);
        let balanced = cache(EvictionPolicy::S3Fifo, capacity);
        let mut random = fastrand::Rng::with_seed(11);
        let keys = capacity as u32 * 20;
        let mut hits = [0; 2];
        // Other keys are popular every now and then.
        for at in 0..capacity as u32 * 200 {
            let key = skewed(&mut random, keys) + at / (keys / 2) * keys;
            hits[0] += replay(&adaptive, [key]);
            hits[1] += replay(&balanced, [key]);
        }
        assert_eq!(in_force(&adaptive), "Adaptive (clock)", "{capacity}");
        assert!(hits[0] > hits[1], "{capacity}: {hits:?}");
        adaptive.validate();
    }
}

#[test]
fn what_is_asked_for_some_times_at_once_does_not_push_out_what_lasts() {
    for capacity in [500, 5_000] {
        let adaptive = cache(EvictionPolicy::Adaptive, capacity);
        let balanced = cache(EvictionPolicy::S3Fifo, capacity);
        let mut random = fastrand::Rng::with_seed(13);
        let mut hits = [0; 2];
        // By turns a key that lasts, and one of three that come three times each, and no more.
        for at in 0..capacity as u32 * 100 {
            let lasting = random.u32(0..capacity as u32 * 9 / 10);
            let passing = capacity as u32 + at / 9 * 3 + at % 3;
            hits[0] += replay(&adaptive, [lasting, passing]);
            hits[1] += replay(&balanced, [lasting, passing]);
        }
        assert_eq!(in_force(&adaptive), "Adaptive (strict)", "{capacity}");
        assert!(hits[0] > hits[1], "{capacity}: {hits:?}");
        adaptive.validate();
    }
}

#[test]
fn what_stays_the_same_is_not_answered_by_changes() {
    for capacity in CAPACITIES {
        let cache = cache(EvictionPolicy::Adaptive, capacity);
        let mut random = fastrand::Rng::with_seed(9);
        let (mut switches, mut before) = (0, in_force(&cache));
        for _ in 0..200 {
            let keys = (0..capacity * 2).map(|_| skewed(&mut random, capacity as u32 * 20));
            replay(&cache, keys);
            switches += usize::from(in_force(&cache) != before);
            before = in_force(&cache);
        }
        assert!(switches <= 6, "{capacity}: {switches}");
        cache.validate();
    }
}

#[test]
fn a_policy_that_is_given_stays() {
    let shown = ["Adaptive (balanced)", "S3Fifo", "Lfu", "Lru"];
    for (policy, shown) in POLICIES.into_iter().zip(shown) {
        let cache = cache(policy, 60);
        assert_eq!(in_force(&cache), shown);
        if policy != EvictionPolicy::Adaptive {
            (0..100).for_each(|_| drop(replay(&cache, 0..70)));
            assert_eq!(in_force(&cache), shown);
        }
        cache.validate();
    }
    assert_eq!(EvictionPolicy::default(), EvictionPolicy::Adaptive);
    let builder: CacheBuilder<u32, u32> = Cache::builder();
    assert!(format!("{builder:?}").contains("eviction_policy: Adaptive"));
}

#[test]
fn shadows_survive_removals_growth_and_changed_bounds() {
    for capacity in [1, 2, 5, 30, 90, 700] {
        let cache = cache(EvictionPolicy::Adaptive, capacity);
        let mut random = fastrand::Rng::with_seed(capacity as u64);
        for step in 0..20_000u32 {
            let key = random.u32(0..capacity as u32 * 2 + 2);
            match random.u32(0..400) {
                0 => cache.retain(|key, _| key % 3 != 0),
                1 => cache.clear(),
                2 => cache
                    .set_max_entries(random.usize(1..capacity * 8))
                    .unwrap(),
                3..40 => drop(cache.remove(&key)),
                40..100 => drop(cache.insert(key, step)),
                _ => drop(replay(&cache, [key])),
            }
            if step % 50 == 0 {
                cache.validate();
            }
        }
    }
}

/// The share of hits on keys that are asked for again and again, with so many others in between
/// that the cache could be filled three and a half times.
fn hits_of_rare_keys(capacity: u32) -> f64 {
    let cache = cache(EvictionPolicy::Lfu, capacity as usize);
    let (rare, mut others) = (0..capacity / 2, 1 << 20..);
    let rounds = 10;
    let mut hits = 0;
    for _ in 0..rounds {
        replay(&cache, others.by_ref().take(3 * capacity as usize));
        hits += replay(&cache, rare.clone());
    }
    cache.validate();
    hits as f64 / f64::from(rounds * capacity / 2)
}

#[test]
fn a_cache_of_up_to_five_thousand_remembers_three_times_as_many_keys() {
    for capacity in [40, 1_000, 5_000] {
        let hits = hits_of_rare_keys(capacity);
        assert!(hits > 0.6, "{capacity}: {hits}");
    }
    let hits = hits_of_rare_keys(10_000);
    assert!(hits < 0.2, "{hits}");
}

#[test]
fn a_cache_that_grows_forgets_what_a_larger_one_has_no_room_for() {
    let cache = cache(EvictionPolicy::Adaptive, 4_500);
    let mut random = fastrand::Rng::with_seed(10);
    for entries in [4_500, 5_200, 7_500, 11_000, 1_500] {
        cache.set_max_entries(entries as usize).unwrap();
        for _ in 0..5 {
            replay(&cache, (0..entries).map(|_| random.u32(0..2 * entries)));
            // Among other things, that sets and shadows have as many ghosts as their table allows.
            cache.validate();
        }
        assert!(cache.len() <= entries as usize);
    }
}
