//! One thread, with nothing locked by others: what fits within the bounds is kept, whatever stores
//! it, and nothing goes for what has room beside it.

use haybox::{Cache, Op, Outcome, Refused};

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
