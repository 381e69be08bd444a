//! What is remembered beside values counts against bounds on weights and bytes, with its key.

use crate::common::{HOUR, SECOND, cases, timed};
use haybox::{Cache, CacheBuilder, Loaded, OnFull};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashSet;
use std::convert::Infallible;
use std::hash::Hash;

type Builder = CacheBuilder<String, String>;

/// In bytes, as what is weighed here is.
const BOUND: u64 = 20_000;

fn weighed(builder: Builder) -> Builder {
    builder.weigher(|key, value| (key.len() + value.len()) as u64)
}

fn remembering(builder: Builder) -> Builder {
    let builder = weighed(builder).negative_weigher(|key| key.len() as u64);
    builder.negative_ttl(HOUR).error_ttl(HOUR)
}

fn name(number: u32, length: usize) -> String {
    format!("{number:>length$}")
}

fn is_remembered<K, V>(cache: &Cache<K, V>, key: &K) -> bool
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let mut asked = false;
    let found = cache.get_or_find_with(key, || {
        asked = true;
        None
    });
    found.is_none() && !asked
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u32, usize, usize),
    Miss(u32, usize),
    Fail(u32, usize),
    Remove(u32, usize),
    Invalidate(u8),
    Pass,
    Bound(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let length = || prop_oneof![Just(6_usize), Just(40), Just(2_000), Just(30_000)];
    prop_oneof![
        4 => (0..60_u32, length(), 0..500_usize).prop_map(|(key, key_len, len)| Op::Insert(key, key_len, len)),
        8 => (0..200_u32, length()).prop_map(|(key, length)| Op::Miss(key, length)),
        2 => (0..200_u32, length()).prop_map(|(key, length)| Op::Fail(key, length)),
        1 => (0..60_u32, length()).prop_map(|(key, length)| Op::Remove(key, length)),
        1 => (0..3_u8).prop_map(Op::Invalidate),
        1 => Just(Op::Pass),
        1 => (BOUND / 4..BOUND * 4).prop_map(Op::Bound),
    ]
}

fn bounded(builder: Builder, by: u8) -> Builder {
    match by {
        0 => builder.max_weight(BOUND),
        1 => builder.max_memory(BOUND),
        _ => builder.max_memory(2 * BOUND).max_weight(BOUND),
    }
}

fn check(by: u8, on_full: OnFull, ops: &[Op]) {
    let (cache, time) = timed(|builder| bounded(remembering(builder), by).on_full(on_full));
    // The keys of which it may be remembered that they have no value.
    let mut may_be_known = HashSet::new();
    let loads = cache.read_through(|key: &String| {
        let tag = key.len() as u8 % 3;
        Ok::<_, Infallible>(Loaded::absent().tag(&tag).tag(&"all"))
    });
    for op in ops {
        match op.clone() {
            Op::Insert(key, length, value) => {
                let key = name(key, length);
                may_be_known.remove(&key);
                cache.insert(key, "v".repeat(value));
            }
            Op::Miss(key, length) => {
                let key = name(key, length);
                if loads.get(&key).unwrap().is_none() {
                    may_be_known.insert(key);
                }
            }
            Op::Fail(key, length) => {
                let key = name(key, length);
                let failed = cache.try_get_or_insert_with(&key, || Err([7_u8; 100]));
                assert!(failed.is_err() || cache.contains_key(&key));
                may_be_known.remove(&key);
            }
            Op::Remove(key, length) => {
                let key = name(key, length);
                may_be_known.remove(&key);
                cache.remove(&key);
            }
            Op::Invalidate(tag) => {
                cache.invalidate_tag(&tag);
                may_be_known.retain(|key: &String| key.len() as u8 % 3 != tag);
            }
            Op::Pass => time.advance(HOUR / 4),
            Op::Bound(bytes) if by == 0 => cache.set_max_weight(bytes).unwrap(),
            Op::Bound(bytes) => cache.set_max_memory(bytes).unwrap(),
        }
        // All that is counted is there, and no more than the bounds allow.
        cache.validate();
        let weights = cache.iter().map(|(key, value)| key.len() + value.len());
        assert_eq!(
            cache.weight(),
            weights.sum::<usize>() as u64,
            "of entries alone"
        );
        assert_eq!(cache.len(), cache.iter().count());
    }
    let names = (0..200).flat_map(|key| [6, 40, 2_000, 30_000].map(|length| name(key, length)));
    let mut remembered = names.filter(|key| {
        let asked = cache.try_get_or_find_with(key, || Err::<Option<String>, _>(()));
        matches!(asked, Ok(None))
    });
    assert!(remembered.all(|key| may_be_known.contains(&key)));
    cache.validate();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60, 3_000), ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_whatever_is_remembered(
        by in 0..3_u8,
        rejects in any::<bool>(),
        ops in vec(op(), 1..150),
    ) {
        let on_full = if rejects { OnFull::Reject } else { OnFull::Evict };
        check(by, on_full, &ops);
    }
}

#[test]
fn long_names_of_what_does_not_exist_push_out_hardly_any_value() {
    for by in 0..3 {
        let (cache, _) = timed(|builder| bounded(remembering(builder), by));
        for key in 0..1_000 {
            cache.insert(name(key, 6), String::new());
        }
        let before = cache.len();
        for key in 0..10_000 {
            let key = name(key, 500);
            assert_eq!(cache.get_or_find_with(&key, || None), None);
        }
        cache.validate();
        let left = cache.len();
        assert!(
            left >= before * 8 / 10,
            "{left} of {before} are left, bounded by {by}"
        );
        assert!(
            is_remembered(&cache, &name(9_999, 500)),
            "the newest is known"
        );
    }
}

#[test]
fn a_name_longer_than_the_bound_is_not_remembered() {
    for by in 0..3 {
        let (cache, _) = timed(|builder| bounded(remembering(builder), by));
        let (long, short) = (name(1, BOUND as usize + 1), name(1, 500));
        for key in [&long, &short] {
            assert_eq!(cache.get_or_find_with(key, || None), None);
        }
        assert!(!is_remembered(&cache, &long));
        assert!(is_remembered(&cache, &short));
        cache.validate();
    }
}

#[test]
fn what_cannot_be_weighed_is_not_remembered() {
    let problem = |builder: Builder| match builder.build() {
        Ok(_) => None,
        Err(error) => Some((error.setting(), error.to_string())),
    };
    let bounded = || [0, 1, 2].map(|by| bounded(weighed(Cache::builder()), by));
    for builder in bounded() {
        assert_eq!(problem(builder), None);
    }
    for builder in bounded().map(|builder| builder.negative_ttl(SECOND)) {
        let (setting, sentence) = problem(builder).expect("keys may be of any length");
        assert_eq!(setting, "negative_weigher");
        assert!(sentence.contains("not be bounded"), "{sentence}");
    }
    for builder in bounded().map(|builder| builder.error_ttl(SECOND)) {
        assert_eq!(
            problem(builder).map(|(name, _)| name),
            Some("negative_weigher")
        );
    }
    let unbounded = Cache::builder().negative_weigher(|_| 1);
    assert_eq!(
        problem(unbounded).map(|(name, _)| name),
        Some("negative_weigher")
    );

    // A loader that wants it all the same is not asked whether it may.
    for builder in bounded() {
        let cache = builder.build().unwrap();
        let absent = |_: &String| Ok::<_, Infallible>(Loaded::absent().ttl(HOUR));
        assert_eq!(cache.read_through(absent).get(&name(1, 9)).unwrap(), None);
        assert!(!is_remembered(&cache, &name(1, 9)));
        cache.validate();
    }
}

#[test]
fn keys_that_hold_nothing_on_the_heap_need_no_weigher_of_their_own() {
    let (cache, _) = timed(|builder: CacheBuilder<u64, String>| {
        let builder = builder.weigher(|_, value| value.len() as u64);
        builder.max_memory(BOUND).negative_ttl(HOUR)
    });
    for key in 0..1_000 {
        assert!(!is_remembered(&cache, &key));
        assert!(is_remembered(&cache, &key));
    }
    cache.validate();
    assert!(cache.memory() > BOUND - 200);
    assert_eq!((cache.len(), cache.weight()), (0, 0));
}
