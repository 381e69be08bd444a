//! One thread, with nothing locked by others: what fits within the bounds is kept, whatever stores
//! it, and nothing goes for what has room beside it.

use crate::common::cases;
use haybox::{Cache, EvictionPolicy, InsertOptions, OnFull, Op, Outcome, Refused};
use std::collections::BTreeMap;

/// Ten entries that take up all the weight there is.
fn full(entries: usize) -> Cache<u64, u64> {
    let builder = Cache::builder().max_entries(entries).max_weight(100);
    let cache = builder.weigher(|_, value| *value).build().unwrap();
    cache.insert_many((0..10).map(|key| (key, 10)));
    cache
}

/// The sizes have from one set to sixteen: in a small table all sets are asked for what they have
/// beyond their share before any is asked for the rest.
#[test]
fn a_heavy_value_gets_its_room_in_a_table_of_any_size() {
    for entries in [40, 80, 160, 320, 321, 640] {
        for _ in 0..20 {
            let cache = full(entries);
            assert!(matches!(
                cache.compute(&100, |_| Op::Put(100)),
                Outcome::Inserted
            ));
            let cache = full(entries);
            assert_eq!(cache.update(&5, |value| *value = 90), Some(()));
            assert_eq!(cache.get(&5), Some(90), "{entries}");
            let cache = full(entries);
            cache.update_or_insert_with(&100, || 100, |_| ());
            assert_eq!(cache.get(&100), Some(100), "{entries}");
            let cache = full(entries);
            let keys = Vec::from_iter(100..106);
            let done: Result<(), Refused<u64>> = cache.transaction(&keys, |tx| {
                keys.iter().try_for_each(|key| tx.insert(key, 15))
            });
            assert_eq!(done, Ok(()));
            assert!(keys.iter().all(|key| cache.contains_key(key)), "{entries}");
            cache.validate();
        }
    }
}

#[test]
fn the_bytes_of_a_heavy_value_become_the_places_of_light_ones() {
    for on_full in [OnFull::Evict, OnFull::Reject] {
        let place = bytes_of_a_place();
        let builder = Cache::builder().max_memory(place + 1_000).on_full(on_full);
        let cache = builder.weigher(|_, value| *value).build().unwrap();
        cache.insert(1, 1_000);
        let done: Result<(), Refused<u64>> = cache.transaction(&[1, 2], |tx| {
            tx.insert(&1, 0)?;
            tx.insert(&2, 0)
        });
        assert_eq!(done, Ok(()));
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(0), Some(0)));
        assert_eq!(cache.memory(), 2 * place);
        cache.validate();
    }
}

#[test]
fn a_transaction_refuses_what_together_weighs_more_than_can_be_counted() {
    let builder = Cache::builder().max_weight(u64::MAX);
    let cache = builder.weigher(|_, value| *value).build().unwrap();
    let done = cache.transaction(&[1, 2], |tx| {
        tx.insert(&1, u64::MAX)?;
        tx.insert(&2, u64::MAX)
    });
    assert_eq!((done, cache.len()), (Err(Refused(u64::MAX)), 0));
    assert_eq!(cache.insert(1, u64::MAX), None);
    assert_eq!(cache.get(&1), Some(u64::MAX));
    cache.validate();
}

/// What an entry takes up besides its weight.
fn bytes_of_a_place() -> u64 {
    let builder = Cache::<u64, u64>::builder().max_memory(1 << 20);
    let cache = builder.weigher(|_, value| *value).build().unwrap();
    cache.insert(1, 0);
    cache.memory()
}

/// A cache of up to so many entries of a weight of 20, and the bytes of half of that.
struct Bounds {
    entries: usize,
    place: Option<u64>,
    on_full: OnFull,
    policy: EvictionPolicy,
}

impl Bounds {
    fn weight(&self) -> u64 {
        self.entries as u64 * 20
    }

    fn memory(&self) -> Option<u64> {
        (self.place).map(|place| self.entries as u64 * (place / 2 + 10) + place)
    }

    fn cache(&self) -> Cache<u64, u64> {
        let builder = Cache::builder().max_entries(self.entries);
        let mut builder = builder.max_weight(self.weight()).on_full(self.on_full);
        if let Some(bytes) = self.memory() {
            builder = builder.max_memory(bytes);
        }
        let builder = builder.eviction_policy(self.policy);
        builder.weigher(|_, value| *value).build().unwrap()
    }

    fn allow(&self, entries: &BTreeMap<u64, u64>) -> bool {
        let weight: u64 = entries.values().sum();
        let places = entries.len() as u64 * self.place.unwrap_or(0);
        entries.len() <= self.entries
            && weight <= self.weight()
            && self.memory().is_none_or(|bytes| weight + places <= bytes)
    }
}

fn bounds() -> impl Iterator<Item = Bounds> {
    let place = bytes_of_a_place();
    let entries = [5, 30, 100, 200].into_iter();
    entries.flat_map(move |entries| {
        [None, Some(place)].into_iter().flat_map(move |place| {
            [OnFull::Evict, OnFull::Reject]
                .into_iter()
                .flat_map(move |on_full| {
                    [EvictionPolicy::Adaptive, EvictionPolicy::Lru].map(|policy| Bounds {
                        entries,
                        place,
                        on_full,
                        policy,
                    })
                })
        })
    })
}

#[test]
fn random_changes_keep_what_fits_and_evict_nothing_for_what_has_room() {
    let steps = cases(300, 5_000);
    for (seed, bounds) in bounds().enumerate() {
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let cache = bounds.cache();
        for step in 0..steps {
            let context = format!("step {step} of {seed}, {} entries", bounds.entries);
            if random.bool() {
                change_one(&bounds, &cache, &mut random, &context);
            } else {
                change_some(&bounds, &cache, &mut random, &context);
            }
        }
        cache.validate();
    }
}

fn any_key(bounds: &Bounds, random: &mut fastrand::Rng) -> u64 {
    random.u64(..2 * bounds.entries as u64)
}

fn any_weight(bounds: &Bounds, random: &mut fastrand::Rng) -> u64 {
    match random.u8(..4) {
        0 => random.u64(..bounds.weight() / 2),
        _ => random.u64(..30),
    }
}

/// Stores, changes or removes one value.
fn change_one(bounds: &Bounds, cache: &Cache<u64, u64>, random: &mut fastrand::Rng, context: &str) {
    let (key, weight) = (any_key(bounds, random), any_weight(bounds, random));
    let mut expected: BTreeMap<_, _> = cache.iter().collect();
    let was_there = expected.insert(key, weight).is_some();
    match random.u8(..5) {
        0 => drop(cache.insert_with(key, weight, InsertOptions::new())),
        1 => drop(cache.compute(&key, |_| Op::Put(weight))),
        2 => cache.update_or_insert_with(&key, || weight, |value| *value = weight),
        3 if was_there => assert!(cache.update(&key, |value| *value = weight).is_some()),
        _ => {
            assert_eq!(cache.remove(&key).is_some(), was_there);
            expected.remove(&key);
        }
    }
    if bounds.allow(&expected) {
        assert_eq!(
            cache.iter().collect::<BTreeMap<_, _>>(),
            expected,
            "{context}"
        );
    } else if bounds.allow(&BTreeMap::from([(key, weight)])) && bounds.on_full == OnFull::Evict {
        assert_eq!(cache.peek(&key), Some(weight), "{context}");
    }
}

/// Stores and removes values in a transaction, which goes on where one is refused.
fn change_some(
    bounds: &Bounds,
    cache: &Cache<u64, u64>,
    random: &mut fastrand::Rng,
    context: &str,
) {
    let keys: Vec<_> = (0..random.usize(1..8))
        .map(|_| any_key(bounds, random))
        .collect();
    let mut expected: BTreeMap<_, _> = cache.iter().collect();
    let mut staged = BTreeMap::new();
    let done: Result<(), ()> = cache.transaction(&keys, |tx| {
        for key in &keys {
            if random.u8(..4) == 0 {
                tx.remove(key);
                expected.remove(key);
                staged.insert(*key, None);
                continue;
            }
            let weight = any_weight(bounds, random);
            let mut with_it = expected.clone();
            with_it.insert(*key, weight);
            if tx.insert(key, weight).is_ok() {
                expected = with_it;
                staged.insert(*key, Some(weight));
            } else {
                assert!(
                    !bounds.allow(&with_it),
                    "{context}: there is room for {key}"
                );
            }
        }
        Ok(())
    });
    assert_eq!(done, Ok(()));
    for (key, value) in staged {
        assert_eq!(cache.peek(&key), value, "{context}: {key}");
    }
    if bounds.allow(&expected) {
        assert_eq!(
            cache.iter().collect::<BTreeMap<_, _>>(),
            expected,
            "{context}"
        );
    }
}
