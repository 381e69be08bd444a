//! Walking through a cache, keys whose hashes collide, and the collection traits.

use crate::common::{OneHash, SECOND, Seeded, is_full, timed};
use haybox::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::iter::FusedIterator;
use std::thread;

/// Walks by cursor; `between` runs before each call but the first.
fn walk<S: BuildHasher>(
    cache: &Cache<u64, u64, S>,
    count: usize,
    mut between: impl FnMut(),
) -> Vec<u64> {
    let (mut cursor, mut met) = (0, Vec::new());
    loop {
        let (next, entries) = cache.scan(cursor, count);
        met.extend(entries.into_iter().map(|(key, _)| key));
        cursor = next;
        if cursor == 0 {
            return met;
        }
        between();
    }
}

fn assert_each_once(met: &[u64], resident: u64) {
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    met.iter()
        .for_each(|key| *times.entry(*key).or_default() += 1);
    let wrong: Vec<_> = (0..resident)
        .filter(|key| times.get(key) != Some(&1))
        .collect();
    assert!(wrong.is_empty(), "not met exactly once: {wrong:?}");
    assert!(
        times.values().all(|times| *times == 1),
        "not even what came meanwhile is met twice"
    );
}

#[test]
fn a_scan_meets_every_resident_once_while_the_table_grows() {
    for (resident, count, seed) in [
        (1, 1, 1),
        (50, 7, 2),
        (1_000, 10, 3),
        (5_000, 100, 4),
        (300, 1, 5),
    ] {
        let cache = Cache::builder().hasher(Seeded(seed)).build().unwrap();
        cache.insert_many((0..resident).map(|key| (key, key)));
        let mut next = resident;
        let met = walk(&cache, count, || {
            for _ in 0..if next < 20_000 { 200 } else { 0 } {
                cache.insert(next, next);
                next += 1;
            }
        });
        assert_each_once(&met, resident);
        cache.validate();
    }
}

#[test]
fn an_iterator_meets_every_resident_once_while_the_table_grows() {
    for seed in 0..5 {
        let cache = Cache::builder().hasher(Seeded(seed)).build().unwrap();
        cache.insert_many((0..2_000u64).map(|key| (key, key)));
        let mut next = 2_000;
        let met: Vec<u64> = cache
            .keys()
            .inspect(|_| {
                // The walk meets much of what comes meanwhile, so this has to end some time.
                for _ in 0..if next < 20_000 { 5 } else { 0 } {
                    cache.insert(next, next);
                    next += 1;
                }
            })
            .collect();
        assert_each_once(&met, 2_000);
    }
}

#[test]
fn scans_of_other_threads_meet_every_resident_while_the_table_grows() {
    let cache: Cache<u64, u64> = (0..3_000).map(|key| (key, key)).collect();
    thread::scope(|scope| {
        for thread in 0..2u64 {
            let cache = &cache;
            scope.spawn(move || {
                (0..30_000).for_each(|key| drop(cache.insert(10_000 + key * 2 + thread, key)))
            });
            scope.spawn(move || {
                (0..5).for_each(|_| assert_each_once(&walk(cache, 50, || ()), 3_000))
            });
            scope.spawn(move || assert_each_once(&cache.keys().collect::<Vec<_>>(), 3_000));
        }
    });
    cache.validate();
}

#[test]
fn a_cursor_is_a_place_that_needs_no_state() {
    let cache: Cache<u64, u64> = (0..1_000).map(|key| (key, key)).collect();
    let (next, first) = cache.scan(0, 100);
    assert_eq!(first.len(), 100);
    assert_eq!(
        cache.scan(0, 100),
        (next, first.clone()),
        "the same place shows the same"
    );
    let rest = walk_from(&cache, next);
    let all: BTreeSet<u64> = first.iter().map(|(key, _)| *key).chain(rest).collect();
    assert_eq!(all.len(), 1_000);
    first.iter().for_each(|(key, _)| drop(cache.remove(key)));
    assert_eq!(
        walk_from(&cache, next).len(),
        900,
        "removals before the cursor change nothing"
    );
    let (end, all) = cache.scan(0, usize::MAX);
    assert_eq!((end, all.len()), (0, 900));
    assert_eq!(cache.scan(0, 0).1.len(), 1, "a count of none counts as one");
    assert_eq!(cache.scan(u64::MAX, 10).0, 0, "any cursor is a place");
    cache.clear();
    assert_eq!(cache.scan(0, 10), (0, vec![]));
}

fn walk_from(cache: &Cache<u64, u64>, mut cursor: u64) -> Vec<u64> {
    let mut met = Vec::new();
    while cursor != 0 {
        let (next, entries) = cache.scan(cursor, 33);
        met.extend(entries.into_iter().map(|(key, _)| key));
        cursor = next;
    }
    met
}

/// Gives ten keys at a time the same hash.
#[derive(Clone, Copy, Default)]
struct ByTens(u64);

impl BuildHasher for ByTens {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for ByTens {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are integers")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (key / 10).wrapping_mul(0x1234_5678_9ABC_DEF1);
    }
}

#[test]
fn a_scan_brings_equal_hashes_together() {
    let cache = Cache::builder().hasher(ByTens::default()).build().unwrap();
    cache.insert_many((0..1_000u64).map(|key| (key, key)));
    let mut cursor = 0;
    let mut met = Vec::new();
    loop {
        let (next, entries) = cache.scan(cursor, 1);
        let tens: BTreeSet<u64> = entries.iter().map(|(key, _)| key / 10).collect();
        assert_eq!((entries.len(), tens.len()), (10, 1));
        met.extend(entries.into_iter().map(|(key, _)| key));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_each_once(&met, 1_000);
    let all_equal = Cache::builder().hasher(OneHash).build().unwrap();
    all_equal.insert_many((0..300u64).map(|key| (key, key)));
    let (next, entries) = all_equal.scan(0, 5);
    assert_eq!(entries.len(), 300);
    assert!(next == 0 || all_equal.scan(next, 5) == (0, vec![]));
}

#[test]
fn an_iterator_goes_on_while_entries_come_and_go() {
    let cache: Cache<u64, u64> = (0..5_000).map(|key| (key, key)).collect();
    let mut met = BTreeSet::new();
    for (key, value) in &cache {
        assert_eq!(key, value);
        assert!(met.insert(key), "{key} twice");
        cache.remove(&(4_999 - key));
        if key % 100 == 0 {
            cache.retain(|key, _| key % 7 != 0);
        }
    }
    assert!(
        cache.keys().all(|key| met.contains(&key)),
        "what stays is met"
    );
    let mut cleared = cache.iter();
    assert!(cleared.next().is_some());
    cache.clear();
    assert!(
        cleared.count() < 64,
        "at most the rest of the set that it was at"
    );
    cache.validate();
}

#[test]
fn a_walk_shows_nothing_that_has_expired() {
    let (cache, time) = timed(|builder| builder);
    (0..1_000u64)
        .for_each(|key| drop(cache.insert_with_ttl(key, key, SECOND * (1 + (key % 2) as u32))));
    let mut early = cache.iter();
    early.next();
    time.advance(SECOND);
    assert_eq!((cache.iter().count(), cache.len()), (500, 1_000));
    assert!(
        cache
            .keys()
            .chain(cache.values())
            .all(|number| number % 2 == 1)
    );
    assert!(walk(&cache, 10, || ()).iter().all(|key| key % 2 == 1));
    let late = early.filter(|(key, _)| key % 2 == 0).count();
    assert!(late < 64, "at most what was copied before the end: {late}");
    assert!((0..100).all(|_| cache.random().unwrap().0 % 2 == 1));
}

#[test]
fn a_random_entry_is_about_any_entry() {
    for entries in [2u64, 30, 100, 1_000] {
        let cache: Cache<u64, u64> = (0..entries).map(|key| (key, key)).collect();
        let mut times = vec![0u32; entries as usize];
        let draws = 200 * entries as u32;
        for _ in 0..draws {
            let (key, value) = cache.random().unwrap();
            assert_eq!(key, value);
            times[key as usize] += 1;
        }
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(
            *least >= 50 && *most <= 800,
            "200 expected, from {least} to {most} of {entries}"
        );
    }
}

#[test]
fn a_random_entry_is_found_even_if_there_is_one() {
    for capacity in [1usize, 100, 100_000] {
        let cache = Cache::new(capacity);
        assert_eq!(cache.random(), None);
        cache.insert(5u64, 'x');
        assert!(
            (0..20).all(|_| cache.random() == Some((5, 'x'))),
            "{capacity}"
        );
        cache.remove(&5);
        assert_eq!(cache.random(), None);
    }
    let emptied: Cache<u64, u64> = (0..20_000).map(|key| (key, key)).collect();
    emptied.retain(|key, _| *key == 777);
    assert_eq!(emptied.random(), Some((777, 777)));
}

#[test]
fn a_big_empty_cache_is_walked_quickly() {
    let cache: Cache<u64, u64> = Cache::new(2_000_000);
    assert_eq!((cache.iter().count(), cache.scan(0, 10)), (0, (0, vec![])));
    cache.insert_many((0..50).map(|key| (key, key)));
    assert_each_once(&walk(&cache, 3, || ()), 50);
    assert_eq!(cache.iter().count(), 50);
}

#[test]
fn many_keys_with_one_hash_end_sanely() {
    // A set holds 65,534 entries. Finding one among so many equal hashes takes a look at each,
    // so a plain debug build stops where the set has long outgrown everything else.
    let keys = if is_full() { 70_000u64 } else { 3_000 };
    let cache = Cache::builder().hasher(OneHash).build().unwrap();
    for key in 0..keys {
        cache.insert(key, key);
    }
    let resident = keys.min(65_534);
    assert_eq!(cache.len() as u64, resident);
    assert_eq!(cache.stats().evictions, keys - resident);
    assert_eq!(cache.get(&(keys - 1)), Some(keys - 1));
    assert_eq!(
        cache.iter().filter(|(key, value)| key == value).count() as u64,
        resident
    );
    cache.insert(u64::MAX, 1);
    assert_eq!(cache.remove(&u64::MAX), Some(1));
    cache.clear();
    assert!(cache.is_empty());
    cache.validate();
}

#[test]
fn the_collection_traits_store_everything() {
    let mut cache: Cache<u64, u64> = [(1, 1), (2, 2)].into_iter().collect();
    cache.extend([(3, 3)]);
    let mut handle = &cache;
    handle.extend([(4, 4), (1, 5)]);
    let sorted: BTreeMap<u64, u64> = (&cache).into_iter().collect();
    assert_eq!(sorted, BTreeMap::from([(1, 5), (2, 2), (3, 3), (4, 4)]));
    assert_eq!(cache.get_many(&[4, 9, 1]), [Some(4), None, Some(5)]);
    assert_eq!(cache.max_entries(), None);
    let shown = format!("{cache:?} {:?} {:?}", cache.iter(), cache.events(1));
    assert_eq!(
        shown,
        "Cache { len: 4, weight: 4, .. } Iter { .. } Events { waiting: 0, lost: 0 }"
    );
}

#[test]
fn keys_are_looked_up_by_what_they_can_be_borrowed_as() {
    let cache: Cache<String, Vec<u8>> = Cache::new(10);
    cache.insert("hay".to_owned(), vec![1]);
    assert_eq!(cache.get("hay"), Some(vec![1]));
    assert_eq!(cache.get_or_insert_with("straw", || vec![2]), [2]);
    assert_eq!(cache.update("straw", |value| value.push(3)), Some(()));
    assert_eq!(
        cache.remove_entry("straw"),
        Some(("straw".to_owned(), vec![2, 3]))
    );
    assert_eq!(cache.get_many(["hay", "straw"]), [Some(vec![1]), None]);
}

#[test]
fn walks_have_names_and_end_once() {
    fn all(cache: &Cache<u64, u64>) -> haybox::Iter<'_, u64, u64> {
        cache.iter()
    }
    fn ends_once(mut walk: impl FusedIterator<Item = u64>) {
        assert_eq!(walk.by_ref().count(), 100);
        assert_eq!((walk.next(), walk.next()), (None, None));
    }
    let cache: Cache<u64, u64> = (0..100).map(|key| (key, key)).collect();
    ends_once(all(&cache).map(|(key, _)| key));
    let (keys, values): (haybox::Keys<'_, u64, u64>, haybox::Values<'_, u64, u64>) =
        (cache.keys(), cache.values());
    ends_once(keys);
    ends_once(values);
}
