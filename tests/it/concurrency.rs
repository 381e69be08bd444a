//! Eight threads at once. The threads are real; what they do is bounded by rounds, not by time.

use crate::common::{PATIENCE, SECOND, is_full};
use haybox::{Cache, CacheBuilder, ExpireIf, InsertOptions, MockClock, Op};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const THREADS: u64 = 8;

fn rounds() -> u64 {
    if is_full() { 40_000 } else { 8_000 }
}

/// Runs `work` on eight threads that start together, while another one watches.
fn together(work: impl Fn(u64) + Sync, watch: impl Fn() + Sync) {
    let (start, running) = (
        Barrier::new(THREADS as usize),
        AtomicUsize::new(THREADS as usize),
    );
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, running, work) = (&start, &running, &work);
            scope.spawn(move || {
                let _ended = Ended(running);
                start.wait();
                work(thread);
            });
        }
        while running.load(SeqCst) > 0 {
            watch();
            thread::yield_now();
        }
    });
}

/// Counts a thread off even if it fails.
struct Ended<'c>(&'c AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A value that knows its key and that there is only one of.
struct Unique {
    key: u64,
    living: Arc<AtomicI64>,
}

impl Clone for Unique {
    fn clone(&self) -> Self {
        Self::new(self.key, &self.living)
    }
}

impl Unique {
    fn new(key: u64, living: &Arc<AtomicI64>) -> Self {
        living.fetch_add(1, SeqCst);
        Self {
            key,
            living: Arc::clone(living),
        }
    }
}

impl Drop for Unique {
    fn drop(&mut self) {
        self.living.fetch_sub(1, SeqCst);
    }
}

/// Does one thing out of all that there are, and checks that no value is another key's.
fn any_operation(
    cache: &Cache<u64, Unique>,
    living: &Arc<AtomicI64>,
    keys: u64,
    draw: &mut fastrand::Rng,
) {
    let key = draw.u64(..keys);
    let value = || Unique::new(key, living);
    let own = |value: &Unique| assert_eq!(value.key, key);
    let ttl = Duration::from_nanos(draw.u64(1..50));
    match draw.u32(..40) {
        0..8 => drop(cache.insert(key, value()).inspect(own)),
        8..11 => drop(cache.insert_with_ttl(key, value(), ttl).inspect(own)),
        11 => drop(cache.insert_with(key, value(), InsertOptions::new().if_absent().ttl(ttl))),
        12 => drop(cache.insert_with(key, value(), InsertOptions::new().if_present().keep_ttl())),
        13..20 => drop(cache.get(&key).inspect(own)),
        20 => drop(cache.read(&key, own)),
        21 => drop(cache.peek(&key).inspect(own)),
        22 => drop(cache.touch(&key)),
        23 => drop(cache.update(&key, |value| *value = Unique::new(key, living))),
        24 | 25 => drop(cache.compute(&key, |seen| {
            seen.map_or_else(|| Op::Put(value()), |_| Op::Remove)
        })),
        26 => drop(cache.compute(&key, |_| Op::PutWithTtl(value(), ttl))),
        27..30 => drop(cache.remove(&key).inspect(own)),
        30 => drop(cache.remove_if(&key, |value| value.key % 2 == 0)),
        31 => drop(cache.expire_with(&key, ttl, ExpireIf::Always)),
        32 => drop(cache.persist(&key)),
        33..36 => own(&cache.get_or_insert_with(&key, value)),
        36 => drop(cache.try_get_or_insert_with(&key, || Err::<Unique, _>("none"))),
        37 => two_keys(cache, living, key, (key + 1) % keys),
        38 => drop(
            cache
                .random()
                .inspect(|(key, value)| assert_eq!(*key, value.key)),
        ),
        _ => whole_cache(cache, draw),
    }
}

fn two_keys(cache: &Cache<u64, Unique>, living: &Arc<AtomicI64>, one: u64, other: u64) {
    let _: Result<(), ()> = cache.transaction(&[one, other], |tx| {
        assert!(tx.get(&one).is_none_or(|value| value.key == one));
        tx.remove(&other);
        tx.insert(&one, Unique::new(one, living)).map_err(drop)
    });
}

fn whole_cache(cache: &Cache<u64, Unique>, draw: &mut fastrand::Rng) {
    match draw.u32(..60) {
        0..8 => drop(cache.sweep()),
        8..12 => drop(cache.scan(draw.u64(..), 20)),
        12..15 => cache
            .iter()
            .for_each(|(key, value)| assert_eq!(key, value.key)),
        15 => cache.retain(|key, _| key % 3 > 0),
        16 => cache.clear(),
        _ => drop(cache.stats()),
    }
}

fn stress(builder: CacheBuilder<u64, Unique>, keys: u64, max: Option<usize>) {
    let time = MockClock::new();
    let living = &Arc::new(AtomicI64::new(0));
    let cache = &builder
        .clock(time.clock())
        .sweep_interval(Duration::from_nanos(5))
        .build()
        .unwrap();
    let work = |thread| {
        let mut draw = fastrand::Rng::with_seed(thread);
        for _ in 0..rounds() {
            any_operation(cache, living, keys, &mut draw);
        }
    };
    let watch = || {
        time.advance(Duration::from_nanos(1));
        assert!(max.is_none_or(|max| cache.len() <= max));
        if cache.max_weight().is_some() {
            assert!(cache.weight() <= 300);
        }
    };
    together(work, watch);
    cache.validate();
    assert_eq!(
        living.load(SeqCst),
        cache.len() as i64,
        "every value is in the cache or dropped"
    );
    cache.clear();
    cache.validate();
    assert_eq!(
        (living.load(SeqCst), cache.len(), cache.weight()),
        (0, 0, 0)
    );
}

#[test]
fn all_operations_on_a_tiny_cache() {
    stress(Cache::builder().max_entries(3), 8, Some(3));
}

#[test]
fn all_operations_on_a_small_cache() {
    stress(Cache::builder().max_entries(200), 400, Some(200));
}

#[test]
fn all_operations_on_a_weighed_cache() {
    stress(
        Cache::builder().max_weight(300).weigher(|key, _| key % 17),
        200,
        None,
    );
}

#[test]
fn all_operations_on_a_cache_with_idle_time() {
    stress(
        Cache::builder()
            .max_entries(100)
            .time_to_idle(Duration::from_nanos(30)),
        150,
        Some(100),
    );
}

#[test]
fn all_operations_on_a_growing_table() {
    stress(Cache::builder(), 100_000, None);
}

#[test]
fn no_update_is_lost() {
    let cache: Cache<u64, u64> = Cache::unbounded();
    let count = |thread: u64| {
        for round in 0..rounds() {
            let key = (round * 7 + thread) % 50;
            cache.compute(&key, |count| Op::Put(count.copied().unwrap_or(0) + 1));
            cache.update(&key, |count| *count += 1);
            // A table that grows meanwhile moves the counters about.
            cache.insert(1_000 + thread * rounds() + round, 0);
        }
    };
    together(count, || ());
    let sum: u64 = (0..50).map(|key| cache.get(&key).unwrap()).sum();
    assert_eq!(sum, 2 * THREADS * rounds());
    cache.validate();
}

#[test]
fn one_load_per_key_among_eight_threads() {
    let cache: Cache<u64, u64> = Cache::unbounded();
    let loads = AtomicU64::new(0);
    let keys = rounds() / 2;
    let ask = |_| {
        for key in 0..keys {
            let load = || {
                loads.fetch_add(1, SeqCst);
                thread::yield_now();
                key * 3
            };
            assert_eq!(cache.get_or_insert_with(&key, load), key * 3);
        }
    };
    together(ask, || ());
    assert_eq!(loads.load(SeqCst), keys);
    assert_eq!((cache.stats().loads, cache.len() as u64), (keys, keys));
    cache.validate();
}

#[test]
fn transactions_conserve_a_sum_and_readers_see_it_whole() {
    const ACCOUNTS: u64 = 10;
    let cache: Cache<u64, u64> = Cache::unbounded();
    let accounts: Vec<u64> = (0..ACCOUNTS).collect();
    cache.insert_many(accounts.iter().map(|account| (*account, 1_000)));
    let sum = || -> u64 {
        let sum: Result<u64, ()> = cache.transaction(&accounts, |tx| {
            Ok(accounts
                .iter()
                .map(|account| tx.get(account).copied().unwrap())
                .sum())
        });
        sum.unwrap()
    };
    let pay = |thread: u64| {
        let mut draw = fastrand::Rng::with_seed(thread);
        for round in 0..rounds() {
            let (from, to, amount) = (draw.u64(..ACCOUNTS), draw.u64(..ACCOUNTS), draw.u64(..50));
            let _ = cache.transaction(&[to, from], |tx| {
                let (had, has) = (*tx.get(&from).unwrap(), *tx.get(&to).unwrap());
                if from == to || had < amount {
                    return Err(());
                }
                tx.insert(&from, had - amount).map_err(drop)?;
                if round % 10 == 0 {
                    return Err(());
                }
                tx.insert(&to, has + amount).map_err(drop)
            });
            cache.insert(ACCOUNTS + thread * rounds() + round, 0);
            if round % 50 == 0 {
                assert_eq!(sum(), ACCOUNTS * 1_000);
            }
        }
    };
    together(pay, || assert_eq!(sum(), ACCOUNTS * 1_000));
    assert_eq!(sum(), ACCOUNTS * 1_000);
    cache.validate();
}

#[test]
fn the_listener_is_told_of_each_value_exactly_once() {
    let told: Arc<Mutex<HashMap<u64, u32>>> = Arc::default();
    let writer = Arc::clone(&told);
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_entries(60)
        .clock(time.clock())
        .sweep_interval(Duration::from_nanos(3));
    let listener =
        move |_: u64, value: u64, _| *writer.lock().unwrap().entry(value).or_default() += 1;
    let cache = builder.removal_listener(listener).build().unwrap();
    let work = |thread: u64| {
        let mut draw = fastrand::Rng::with_seed(thread + 100);
        for round in 0..rounds() {
            let (key, value) = (draw.u64(..90), thread * rounds() + round);
            match draw.u32(..6) {
                0 => drop(cache.remove(&key)),
                1 => drop(cache.insert_with_ttl(key, value, Duration::from_nanos(draw.u64(..9)))),
                2 => drop(cache.compute(&key, |_| Op::Put(value))),
                3 => drop(cache.transaction(&[key], |tx| tx.insert(&key, value))),
                4 if round % 40 == 0 => cache.clear(),
                _ => drop(cache.insert(key, value)),
            }
        }
    };
    together(work, || time.advance(Duration::from_nanos(1)));
    cache.validate();
    let stats = cache.stats();
    cache.clear();
    let told = told.lock().unwrap();
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(
        told.len() as u64,
        stats.inserts + stats.updates,
        "each value that came has left"
    );
}

#[test]
fn the_last_handle_drops_everything_on_its_own_thread() {
    struct Home(thread::ThreadId, Arc<AtomicU64>);
    impl Drop for Home {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.0);
            self.1.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicU64::new(0));
    let cache: Cache<u64, Home> = Cache::builder()
        .time_to_live(SECOND * 1_000)
        .build()
        .unwrap();
    let (own, handle) = (cache.clone(), cache.clone());
    let count = Arc::clone(&dropped);
    thread::spawn(move || {
        let here = thread::current().id();
        (0..5_000).for_each(|key| drop(own.insert(key, Home(here, Arc::clone(&count)))));
        drop((cache, handle));
        assert_eq!(count.load(SeqCst), 0);
        drop(own);
        assert_eq!(count.load(SeqCst), 5_000);
    })
    .join()
    .unwrap();
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn handles_may_be_cloned_and_dropped_by_many_threads() {
    let token = Arc::new(());
    let cache: Cache<u64, Arc<()>> = Cache::new(100);
    let handles = Mutex::new(vec![cache]);
    let work = |thread: u64| {
        for round in 0..rounds() {
            let own = handles.lock().unwrap()[0].clone();
            own.insert(thread * 31 + round % 30, Arc::clone(&token));
        }
    };
    together(work, || ());
    let last = handles.into_inner().unwrap();
    assert_eq!(last[0].len(), Arc::strong_count(&token) - 1);
    drop(last);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_reader_of_one_key_never_waits_for_a_whole_walk() {
    let cache: Cache<u64, u64> = (0..10_000).map(|key| (key, key)).collect();
    let (entered, go_on) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        let walk = scope.spawn(|| {
            let mut entries = cache.iter();
            entries.next();
            entered.wait();
            let end = std::time::Instant::now() + PATIENCE;
            while !go_on.load(SeqCst) && std::time::Instant::now() < end {
                thread::yield_now();
            }
            entries.count()
        });
        entered.wait();
        (0..10_000).for_each(|key| assert_eq!(cache.insert(key, key + 1), Some(key)));
        go_on.store(true, SeqCst);
        assert_eq!(walk.join().unwrap(), 9_999);
    });
}
