//! What one operation costs, for u64 -> u64 with a TTL and counted statistics, on one thread and
//! on two, beside a bare map that knows neither as the floor; and on one thread a load by a task, an
//! insertion with a listener or a weigher, a removal and a walk over all entries.
//!
//! Times are per operation and thread: on two threads that do not hinder each other they are the
//! same as on one. Keys are drawn beforehand; each thread has its own.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hashbrown::HashMap;
use haybox::{Cache, CacheBuilder, DefaultHashBuilder};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime;

/// Keys that are drawn for each thread. A power of two.
const KEYS: usize = 1 << 20;

const SIZES: [(&str, u64); 2] = [("10k", 10_000), ("1M", 1_000_000)];
const THREADS: [usize; 2] = [1, 2];

type Map = HashMap<u64, u64, DefaultHashBuilder>;

fn timed() -> CacheBuilder<u64, u64> {
    Cache::builder().time_to_live(Duration::from_secs(3600))
}

fn cache(max_entries: u64) -> Cache<u64, u64> {
    filled(timed().max_entries(max_entries as usize), 0)
}

fn filled_cache(entries: u64) -> Cache<u64, u64> {
    filled(timed().max_entries(entries as usize), entries)
}

fn filled(builder: CacheBuilder<u64, u64>, entries: u64) -> Cache<u64, u64> {
    let cache = builder.build().expect("a bound of at least one entry");
    for key in 0..entries {
        cache.insert(key, key);
    }
    cache
}

// ---- keys ----

fn uniform(universe: u64, seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..KEYS).map(|_| random.u64(0..universe)).collect()
}

/// Keys of which the one at rank `r` is drawn in proportion to `r^-0.99`.
fn zipf(universe: u64, seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let weights = (1..=universe).map(|rank| (rank as f64).powf(-0.99));
    let sums: Vec<f64> = weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let total = sums.last().copied().unwrap_or_default();
    let draw = |_| {
        let point = random.f64() * total;
        let rank = sums.partition_point(|sum| *sum < point) as u64;
        scattered(rank.min(universe - 1), universe)
    };
    (0..KEYS).map(draw).collect()
}

/// A permutation, so that popular keys are no neighbours: 7,368,787 is a prime.
fn scattered(rank: u64, universe: u64) -> u64 {
    rank * 7_368_787 % universe
}

// ---- measuring ----

/// The time of `times` operations on each of some threads, from the first start to the last end.
fn on_threads(threads: usize, times: u64, operation: impl Fn(usize, u64) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        barrier.wait();
        let start = Instant::now();
        for turn in 0..times {
            operation(thread, turn);
        }
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let run = &run;
                scope.spawn(move || run(thread))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|span| span.expect("no operation panics"))
            .collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    end.zip(start)
        .map_or(Duration::ZERO, |(end, start)| end - start)
}

/// Measures an operation on each number of threads. It is given its position, which no other call
/// has, and a key of its thread's.
fn each_thread_count(
    criterion: &mut Criterion,
    name: &str,
    size: &str,
    keys: &[Vec<u64>],
    operation: impl Fn(u64, u64) + Sync,
) {
    let mut group = criterion.benchmark_group(name);
    let mut done = 0;
    for threads in THREADS {
        let id = BenchmarkId::new(size, format!("{threads} threads"));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|times| {
                let first = done;
                done += times * threads as u64;
                on_threads(threads, times, |thread, turn| {
                    let position = first + thread as u64 * times + turn;
                    operation(position, keys[thread][position as usize & (KEYS - 1)]);
                })
            });
        });
    }
    group.finish();
}

/// Measures the same operation on a bare map.
fn floor(
    criterion: &mut Criterion,
    name: &str,
    size: &str,
    keys: &[u64],
    mut operation: impl FnMut(u64, u64),
) {
    let id = BenchmarkId::new(size, "bare map");
    criterion
        .benchmark_group(name)
        .bench_function(id, |bencher| {
            let mut position = 0;
            bencher.iter(|| {
                operation(position, keys[position as usize & (KEYS - 1)]);
                position += 1;
            });
        });
}

/// Measures an operation on one thread. It is given its position, which no other call has.
fn alone(criterion: &mut Criterion, name: &str, id: &str, mut operation: impl FnMut(u64)) {
    let mut position = 0;
    criterion
        .benchmark_group(name)
        .bench_function(id, |bencher| {
            bencher.iter(|| {
                operation(position);
                position += 1;
            });
        });
}

/// The same of what a task waits for.
fn in_a_task(criterion: &mut Criterion, name: &str, id: &str, operation: impl AsyncFn(u64)) {
    let executor = runtime::Builder::new_current_thread().build();
    let executor = executor.expect("an executor of this thread alone");
    let mut done = 0;
    criterion
        .benchmark_group(name)
        .bench_function(id, |bencher| {
            bencher.iter_custom(|times| {
                let first = done;
                done += times;
                executor.block_on(async {
                    let start = Instant::now();
                    for position in first..done {
                        operation(position).await;
                    }
                    start.elapsed()
                })
            });
        });
}

fn per_thread(draw: impl Fn(u64) -> Vec<u64>) -> Vec<Vec<u64>> {
    (0..THREADS.len() as u64).map(draw).collect()
}

// ---- the operations ----

fn hits(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let keys = per_thread(|seed| uniform(entries, seed));
        let cache = filled_cache(entries);
        each_thread_count(criterion, "read hit", size, &keys, |_, key| {
            black_box(cache.get(&key));
        });
        let map: Map = (0..entries).map(|key| (key, key)).collect();
        floor(criterion, "read hit", size, &keys[0], |_, key| {
            black_box(map.get(&key));
        });
    }
}

fn misses(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let absent = |seed| {
            uniform(entries, seed)
                .iter()
                .map(|key| key + entries)
                .collect()
        };
        let keys = per_thread(absent);
        let cache = filled_cache(entries);
        each_thread_count(criterion, "read miss", size, &keys, |_, key| {
            black_box(cache.get(&key));
        });
        let map: Map = (0..entries).map(|key| (key, key)).collect();
        floor(criterion, "read miss", size, &keys[0], |_, key| {
            black_box(map.get(&key));
        });
    }
}

/// Insertions of keys that are not there into a full cache: each evicts one entry.
fn insertions(criterion: &mut Criterion) {
    // The keys are the positions, so none comes twice.
    let keys = per_thread(|_| vec![0; KEYS]);
    for (size, entries) in SIZES {
        let cache = filled_cache(entries);
        each_thread_count(criterion, "insert", size, &keys, |position, _| {
            black_box(cache.insert(entries + position, position));
        });
        // A map evicts nothing: the oldest key is removed from it.
        let mut map: Map = (0..entries).map(|key| (key, key)).collect();
        floor(criterion, "insert", size, &keys[0], |position, _| {
            map.remove(&position);
            black_box(map.insert(entries + position, position));
        });
    }
}

fn updates(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let keys = per_thread(|seed| uniform(entries, seed));
        let cache = filled_cache(entries);
        each_thread_count(criterion, "update", size, &keys, |_, key| {
            black_box(cache.insert(key, key));
        });
        let mut map: Map = (0..entries).map(|key| (key, key)).collect();
        floor(criterion, "update", size, &keys[0], |_, key| {
            black_box(map.insert(key, key));
        });
    }
}

/// Reads, and after a miss stores what was missing, in a tenth of the room that all would need.
fn cache_aside(criterion: &mut Criterion) {
    const UNIVERSE: u64 = 1_000_000;
    let keys = per_thread(|seed| zipf(UNIVERSE, seed));
    let cache = cache(UNIVERSE / 10);
    let read_through = |key: u64| {
        if cache.get(&key).is_none() {
            cache.insert(key, key);
        }
    };
    keys[0].iter().copied().for_each(read_through);
    each_thread_count(
        criterion,
        "cache-aside",
        "1M zipf in 100k",
        &keys,
        |_, key| {
            read_through(key);
        },
    );
}

fn mixed(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let keys = per_thread(|seed| zipf(entries, seed));
        let cache = filled_cache(entries);
        each_thread_count(criterion, "mixed 90/10", size, &keys, |turn, key| {
            match turn % 10 {
                9 => drop(black_box(cache.insert(key, key).is_some())),
                _ => drop(black_box(cache.get(&key).is_some())),
            }
        });
        let mut map: Map = (0..entries).map(|key| (key, key)).collect();
        floor(
            criterion,
            "mixed 90/10",
            size,
            &keys[0],
            |position, key| match position % 10 {
                9 => drop(black_box(map.insert(key, key).is_some())),
                _ => drop(black_box(map.contains_key(&key))),
            },
        );
    }
}

/// A load whose loader has its answer at once, so that what the cache does shows. A miss evicts.
fn loads(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let cache = filled_cache(entries);
        let keys = uniform(entries, 0);
        in_a_task(criterion, "load, hit", size, async |position| {
            let key = keys[position as usize & (KEYS - 1)];
            black_box(cache.get_or_load(&key, || async { key }).await);
        });
        in_a_task(criterion, "load, miss", size, async |position| {
            let key = entries + position;
            black_box(cache.get_or_load(&key, || async { key }).await);
        });
    }
}

/// Insertions as those above, of which somebody is told, or which are weighed.
fn watched_insertions(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let heard = timed()
            .max_entries(entries as usize)
            .removal_listener(|key, value, cause| _ = black_box((key, value, cause)));
        let heard = filled(heard, entries);
        alone(criterion, "insert, with a listener", size, |position| {
            black_box(heard.insert(entries + position, position));
        });
        let weighed = filled(timed().max_weight(entries).weigher(|_, _| 1), entries);
        alone(criterion, "insert, weighed", size, |position| {
            black_box(weighed.insert(entries + position, position));
        });
    }
}

/// A removal, and the insertion without which the next one would find nothing.
fn removals(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let cache = filled_cache(entries);
        let keys = uniform(entries, 0);
        alone(criterion, "remove and insert", size, |position| {
            let key = keys[position as usize & (KEYS - 1)];
            black_box(cache.remove(&key));
            black_box(cache.insert(key, position));
        });
    }
}

/// A whole walk, whose time is that of all entries together.
fn walks(criterion: &mut Criterion) {
    for (size, entries) in SIZES {
        let cache = filled_cache(entries);
        alone(criterion, "iterate", size, |_| {
            black_box(cache.iter().fold(0, |sum, (_, value)| sum ^ value));
        });
    }
}

criterion_group! {
    name = operations;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = hits, misses, insertions, updates, cache_aside, mixed, loads, watched_insertions,
        removals, walks
}
criterion_main!(operations);
