use crate::common::OneHash;
use haybox::{Cache, DefaultHashBuilder};
use std::hash::BuildHasher;

#[test] // ristretto#30
fn a_collision_of_the_whole_hash_never_returns_the_value_of_another_key() {
    let cache = Cache::builder()
        .max_entries(300)
        .hasher(OneHash)
        .build()
        .unwrap();
    for key in 0..200u32 {
        assert_eq!(cache.get(&key), None);
        assert_eq!(cache.insert(key, key), None);
    }
    for key in 0..200 {
        assert_eq!(cache.get(&key), Some(key));
        assert_eq!(cache.insert(key, key + 1_000), Some(key));
    }
    for key in 0..200 {
        assert_eq!(cache.remove(&key), Some(key + 1_000));
        assert_eq!(cache.get(&key), None);
    }
    cache.insert(1, 1);
    assert_eq!(cache.get_or_insert_with(&2, || 2), 2);
    cache.validate();
}

#[test]
fn seeds_differ_per_cache() {
    let hashes = |hasher: DefaultHashBuilder| {
        (0..4u64)
            .map(|key| hasher.hash_one(key))
            .collect::<Vec<_>>()
    };
    assert_ne!(
        hashes(DefaultHashBuilder::default()),
        hashes(DefaultHashBuilder::default())
    );
    let order = || {
        (0..500u64)
            .map(|key| (key, ()))
            .collect::<Cache<_, _>>()
            .keys()
            .collect::<Vec<_>>()
    };
    assert_ne!(
        order(),
        order(),
        "two caches hold the same keys in different places"
    );
}
