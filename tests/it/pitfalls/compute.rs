use haybox::{Cache, Op, Outcome};
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

const THREADS: u64 = 8;
const ROUNDS: u64 = 500;

#[test] // moka#574
fn concurrent_computes_of_one_key_lose_no_update() {
    let cache: Cache<&str, u64> = Cache::new(10);
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..ROUNDS {
                    cache.compute(&"count", |count| {
                        Op::Put(count.map_or(1, |count| count + 1))
                    });
                }
            });
        }
    });
    assert_eq!(cache.get("count"), Some(THREADS * ROUNDS));
    cache.validate();
}

#[test] // moka#593
fn the_outcome_of_a_concurrent_compute_is_true() {
    let cache: Cache<&str, u64> = Cache::new(10);
    let start = Barrier::new(THREADS as usize);
    let compute = |thread: u64| {
        start.wait();
        let (mut inserted, mut seen) = (0, Vec::new());
        for round in 0..ROUNDS {
            let own = thread * ROUNDS + round;
            let remove = round % 5 == 4;
            let outcome = cache.compute(&"key", |_| if remove { Op::Remove } else { Op::Put(own) });
            match outcome {
                Outcome::Inserted => inserted += 1,
                Outcome::Replaced(old) | Outcome::Removed(old) => seen.push(old),
                Outcome::Absent => assert!(remove),
                other => panic!("{other:?}"),
            }
        }
        (inserted, seen)
    };
    let compute = &compute;
    let results: Vec<(u64, Vec<u64>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || compute(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let seen: Vec<u64> = results
        .iter()
        .flat_map(|(_, seen)| seen.iter().copied())
        .chain(cache.get("key"))
        .collect();
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "each value leaves once");
    assert_eq!(
        seen.len() as u64,
        THREADS * ROUNDS * 4 / 5,
        "and each that was put is heard of again"
    );
    let removals = cache.stats().removals + u64::from(cache.contains_key("key"));
    assert_eq!(
        results.iter().map(|(inserted, _)| inserted).sum::<u64>(),
        removals
    );
}

#[test] // moka#593
fn a_compute_of_an_expired_entry_sees_none_and_inserts() {
    let (cache, time) = crate::common::timed(|builder| builder.max_entries(10));
    cache.insert_with_ttl(1, 'a', crate::common::SECOND);
    time.advance(crate::common::SECOND);
    let outcome = cache.compute(&1, |seen| {
        assert_eq!(seen, None);
        Op::Put('b')
    });
    assert_eq!(outcome, Outcome::Inserted);
    assert_eq!(cache.compute(&2, |_| Op::Remove), Outcome::Absent);
}
