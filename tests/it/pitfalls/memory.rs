use crate::common::panic_of;
use haybox::Cache;
use std::sync::{Arc, Barrier};
use std::thread;

#[test] // moka#383
fn dropping_the_cache_drops_every_value() {
    let token = Arc::new(());
    for entries in [1, 40, 5_000] {
        let bounded = Cache::builder()
            .max_entries(entries)
            .time_to_idle(crate::common::HOUR)
            .build()
            .unwrap();
        let unbounded = Cache::unbounded();
        for key in 0..entries {
            bounded.insert(key, Arc::clone(&token));
            unbounded.insert(key, Arc::clone(&token));
        }
        let handle = bounded.clone();
        assert_eq!(Arc::strong_count(&token), 2 * entries + 1);
        drop(bounded);
        drop(unbounded);
        assert_eq!(
            Arc::strong_count(&token),
            entries + 1,
            "the other handle keeps them"
        );
        drop(handle);
        assert_eq!(Arc::strong_count(&token), 1);
    }
}

#[test] // foyer#1315
fn removals_and_clears_that_race_insertions_lose_and_leak_nothing() {
    let token = &Arc::new(());
    let cache: &Cache<u32, Arc<()>> = &Cache::new(200);
    let start = &Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4u32 {
            scope.spawn(move || {
                start.wait();
                for round in 0..2_000u32 {
                    let key = (round * 31 + thread) % 300;
                    match thread {
                        0 | 1 => drop(cache.insert(key, Arc::clone(token))),
                        2 => drop(cache.remove(&key)),
                        _ if round % 50 == 0 => cache.clear(),
                        _ => cache.retain(|held, _| held % 7 != round % 7),
                    }
                }
            });
        }
    });
    cache.validate();
    assert_eq!(Arc::strong_count(token), cache.len() + 1);
    cache.clear();
    assert_eq!((Arc::strong_count(token), cache.len()), (1, 0));
}

#[test] // foyer#1237
fn one_panic_does_not_poison_a_set() {
    let cache: Cache<u32, u32> = Cache::new(30);
    (0..30).for_each(|key| drop(cache.insert(key, key)));
    let fail = || -> u32 { panic!("the closure fails") };
    for key in 0..30 {
        panic_of(|| cache.read(&key, |_| fail()));
        panic_of(|| cache.update(&key, |_| fail()));
        panic_of(|| cache.compute(&key, |_| haybox::Op::Put(fail())));
        panic_of(|| cache.remove_if(&key, |_| fail() == 0));
        panic_of(|| cache.retain(|_, _| fail() == 0));
        panic_of(|| cache.get_or_insert_with(&(key + 100), fail));
        panic_of(|| cache.transaction(&[key], |_| Err::<(), u32>(fail())));
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            (0..30)
                .map(|key| cache.get(&key))
                .collect::<Option<Vec<_>>>()
        });
        assert_eq!(other.join().unwrap(), Some((0..30).collect()));
    });
    cache.validate();
}
