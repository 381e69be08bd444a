//! A table that grows under those who look things up, walk and remove.

use crate::common::{CROWDED, FILLER, Numbers, built, choice, fill, ignore, numbers};
use crate::schedules::check;
use shuttle::thread::scope;

#[test]
fn what_stays_is_found_and_met_once_while_the_table_grows() {
    check("walks during growth", || {
        let cache = built(numbers());
        let count = if choice(2) == 0 {
            CROWDED
        } else {
            3 * CROWDED + 5
        };
        fill(&cache, count);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                for step in [0, 11, 22, 33] {
                    let key = FILLER + step;
                    assert_eq!(cache.get(&key), Some(key), "a look-up misses what stays");
                }
            });
            threads.spawn(|| {
                let met = match choice(3) {
                    0 => cache.iter().collect(),
                    1 => scanned(&cache, 7),
                    _ => cache.keys().map(|key| (key, key)).collect(),
                };
                assert_met_once(met, count);
            });
        });
        assert_met_once(cache.iter().collect(), count);
        assert_eq!(cache.len(), count as usize + 3);
        cache.validate();
    });
}

/// A thread that has read the number of sets and then sleeps may find its set split twice.
#[test]
fn a_call_finds_its_set_after_several_splits() {
    check("several splits", || {
        let cache = built(numbers());
        fill(&cache, 4 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| {
                for _ in 0..3 {
                    let key = FILLER + choice(CROWDED);
                    assert_eq!(cache.get(&key), Some(key), "a look-up misses what stays");
                }
            });
            threads.spawn(|| {
                let key = 10 + choice(64);
                assert_eq!(cache.insert(key, 1), None);
                assert_eq!(cache.update(&key, |value| *value), Some(1));
                assert_eq!(cache.remove(&key), Some(1));
            });
        });
        assert_eq!(cache.len() as u32, 4 * CROWDED + 8);
        cache.validate();
    });
}

fn scanned(cache: &Numbers, count: usize) -> Vec<(u32, u32)> {
    let (mut cursor, mut met) = (0, Vec::new());
    loop {
        let (next, entries) = cache.scan(cursor, count);
        met.extend(entries);
        cursor = next;
        if cursor == 0 {
            return met;
        }
    }
}

fn assert_met_once(met: Vec<(u32, u32)>, count: u32) {
    let fillers = met.iter().map(|(key, _)| *key).filter(|key| *key >= FILLER);
    let mut fillers: Vec<u32> = fillers.collect();
    fillers.sort_unstable();
    let expected: Vec<u32> = (FILLER..FILLER + count).collect();
    assert_eq!(fillers, expected, "a walk meets each entry that stays once");
}

#[test]
fn a_removal_of_many_leaves_nothing_behind_while_the_table_grows() {
    check("retain during growth", || {
        let cache = built(numbers());
        fill(&cache, 2 * CROWDED + 5);
        scope(|threads| {
            threads.spawn(|| (0..2).for_each(|key| ignore(cache.insert(key, key))));
            threads.spawn(|| cache.retain(|key, _| *key < FILLER || key % 8 == 0));
            threads.spawn(|| {
                let key = FILLER + 8;
                assert_eq!(cache.update(&key, |value| *value), Some(key));
            });
        });
        let left = cache.keys().filter(|key| *key >= FILLER && key % 8 != 0);
        assert_eq!(left.count(), 0, "every entry was there from the beginning");
        assert_eq!(cache.keys().filter(|key| *key >= FILLER).count(), 11);
        cache.validate();
    });
}
