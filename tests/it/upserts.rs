//! `update_or_insert_with`: a change of what may not be there yet.

use crate::common::{panic_of, timed};
use haybox::{Cache, InsertOptions, Ttl};
use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

fn bump(cache: &Cache<&'static str, u64>) -> u64 {
    cache.update_or_insert_with(
        &"count",
        || 0,
        |count| {
            *count += 1;
            *count
        },
    )
}

#[test]
fn what_is_missing_is_made_and_changed_and_what_is_there_is_changed() {
    let cache = Cache::new(10);
    assert_eq!((bump(&cache), bump(&cache), bump(&cache)), (1, 2, 3));
    assert_eq!(cache.get("count"), Some(3));
    let stats = cache.stats();
    assert_eq!((stats.inserts, stats.updates), (1, 2));
    cache.validate();
}

#[test]
fn what_has_expired_or_was_invalidated_is_made_anew() {
    let ttl = Duration::from_secs(60);
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(ttl));
    bump(&cache);
    time.advance(ttl / 2);
    assert_eq!(bump(&cache), 2);
    assert_eq!(
        cache.ttl("count"),
        Some(Ttl::Left(ttl / 2)),
        "as of its beginning"
    );
    time.advance(ttl / 2);
    assert_eq!(bump(&cache), 1);
    cache.insert_with("count", 7, InsertOptions::new().tag("tag"));
    assert_eq!(bump(&cache), 8, "the tag stays");
    cache.invalidate_tag("tag");
    assert_eq!(bump(&cache), 1);
    cache.invalidate_tag("tag");
    assert_eq!(bump(&cache), 2, "what is made has no tag");
    cache.validate();
}

#[test]
fn threads_that_make_change_and_remove_one_value_lose_no_change() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 500;
    let cache = Cache::new(10);
    let start = Barrier::new(THREADS as usize);
    let taken: u64 = thread::scope(|scope| {
        let count = || {
            start.wait();
            let mut taken = 0;
            for round in 0..ROUNDS {
                let made = Cell::new(0);
                let changed = Cell::new(0);
                let make = || {
                    made.set(made.get() + 1);
                    0
                };
                cache.update_or_insert_with(&"count", make, |count| {
                    changed.set(changed.get() + 1);
                    *count += 1;
                });
                assert!(made.get() <= 1 && changed.get() == 1);
                if round % 3 == 0 {
                    taken += cache.remove("count").unwrap_or(0);
                }
            }
            taken
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(taken + cache.get("count").unwrap_or(0), THREADS * ROUNDS);
    cache.validate();
}

#[test]
fn a_panic_leaves_nothing_half_made() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let words = panic_of(|| cache.update_or_insert_with(&1, || panic!("no flour"), |_| ()));
    assert_eq!(words, "no flour");
    let words = panic_of(|| cache.update_or_insert_with(&1, || 1, |_| panic!("burnt")));
    assert_eq!(words, "burnt");
    assert_eq!((cache.get(&1), cache.len()), (None, 0));
    cache.validate();
}

#[test]
fn what_does_not_fit_is_not_stored_and_its_caller_has_its_answer() {
    let cache = Cache::<u32, Vec<u8>>::builder()
        .max_weight(10)
        .weigher(|_, value| value.len() as u64)
        .build()
        .unwrap();
    let grow = |by| {
        cache.update_or_insert_with(&1, Vec::new, |value| {
            value.resize(value.len() + by, 0);
            value.len()
        })
    };
    assert_eq!((grow(11), cache.len()), (11, 0));
    assert_eq!((grow(8), cache.weight()), (8, 8));
    assert_eq!((grow(8), cache.weight()), (16, 0));
    cache.validate();
}

#[test]
fn who_unwinds_inside_a_closure_has_an_answer_and_stores_nothing() {
    struct Late<'c>(&'c Cache<u32, u32>, &'c Cell<u32>);
    impl Drop for Late<'_> {
        fn drop(&mut self) {
            self.1
                .set(self.0.update_or_insert_with(&2, || 5, |value| *value + 1));
        }
    }
    let (cache, answer) = (Cache::new(10), Cell::new(0));
    cache.insert(1, 1);
    panic_of(|| {
        cache.read(&1, |_| {
            let _late = Late(&cache, &answer);
            panic!("on the way out")
        })
    });
    assert_eq!((answer.get(), cache.get(&2)), (6, None));
    cache.validate();
}
