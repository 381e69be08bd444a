//! What loading through the cache costs: a hit beside a plain `get`, a miss whose loader returns at
//! once beside a plain insertion; haybox, moka and quick_cache in turns in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin loading
//! ```

use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Keys that are there.
const KEYS: u64 = 10_000;

/// Operations of a round.
const OPERATIONS: u64 = 300_000;

const ROUNDS: usize = 9;

const HOUR: Duration = Duration::from_secs(3600);

/// A call that is timed: it is given a key that is there, or a new one.
type Call<'c> = Box<dyn Fn(u64) + 'c>;

struct Row<'c> {
    name: &'static str,
    is_hit: bool,
    call: Call<'c>,
}

fn row<'c>(name: &'static str, is_hit: bool, call: impl Fn(u64) + 'c) -> Row<'c> {
    Row {
        name,
        is_hit,
        call: Box::new(call),
    }
}

/// Runs a future that is ready at its first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("there is nothing to wait for"),
    }
}

/// The hasher of all three. haybox's own default is the same.
type Hasher = ahash::RandomState;

type Hay = haybox::Cache<u64, u64>;
type Moka = moka::sync::Cache<u64, u64, Hasher>;
type Quick = quick_cache::sync::Cache<u64, u64, UnitWeighter, Hasher>;

/// One of each, with the keys in it and room for as many more.
fn filled() -> (Hay, Moka, Quick) {
    let room = 2 * KEYS as usize;
    let hay = Hay::builder()
        .max_entries(room)
        .time_to_live(HOUR)
        .build()
        .expect("a bound and a TTL are a cache");
    let moka = moka::sync::Cache::builder()
        .max_capacity(room as u64)
        .time_to_live(HOUR)
        .build_with_hasher(Hasher::new());
    let quick = Quick::with(
        room,
        room as u64,
        UnitWeighter,
        Hasher::new(),
        DefaultLifecycle::default(),
    );
    for key in 0..KEYS {
        hay.insert(key, key);
        moka.insert(key, key);
        quick.insert(key, key);
    }
    moka.run_pending_tasks();
    (hay, moka, quick)
}

fn main() {
    let (hay, moka, quick) = filled();
    let (into_hay, into_moka, into_quick) = filled();
    let reader = hay.read_through(|key: &u64| Ok::<_, Infallible>(*key));
    let rows = [
        row("haybox get", true, |key| {
            let _ = black_box(hay.get(&key));
        }),
        row("haybox get_or_insert_with", true, |key| {
            black_box(hay.get_or_insert_with(&key, || key));
        }),
        row("haybox get_or_load", true, |key| {
            black_box(now(hay.get_or_load(&key, || async { key })));
        }),
        row("haybox read_through", true, |key| {
            let _ = black_box(reader.get(&key));
        }),
        row("moka get", true, |key| {
            let _ = black_box(moka.get(&key));
        }),
        row("moka get_with", true, |key| {
            black_box(moka.get_with(key, || key));
        }),
        row("quick_cache get", true, |key| {
            let _ = black_box(quick.get(&key));
        }),
        row("quick_cache get_or_insert_with", true, |key| {
            let _ = black_box(quick.get_or_insert_with(&key, || Ok::<_, Infallible>(key)));
        }),
        row("haybox insert", false, |key| {
            let _ = black_box(into_hay.insert(key, key));
        }),
        row("haybox get_or_insert_with", false, |key| {
            black_box(into_hay.get_or_insert_with(&key, || key));
        }),
        row("haybox get_or_load", false, |key| {
            black_box(now(into_hay.get_or_load(&key, || async { key })));
        }),
        row("moka insert", false, |key| into_moka.insert(key, key)),
        row("moka get_with", false, |key| {
            black_box(into_moka.get_with(key, || key));
        }),
        row("quick_cache insert", false, |key| {
            into_quick.insert(key, key)
        }),
        row("quick_cache get_or_insert_with", false, |key| {
            let _ = black_box(into_quick.get_or_insert_with(&key, || Ok::<_, Infallible>(key)));
        }),
    ];
    let mut times = rows.each_ref().map(|_| Vec::new());
    let mut fresh = 1 << 40;
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut times) {
            let first = if row.is_hit { 0 } else { fresh };
            let started = Instant::now();
            for step in 0..OPERATIONS {
                (row.call)(if row.is_hit {
                    step * 7 % KEYS
                } else {
                    first + step
                });
            }
            times.push(started.elapsed().as_secs_f64() * 1e9 / OPERATIONS as f64);
            fresh += OPERATIONS;
        }
    }
    println!("ns per operation, one thread: median (least to most) of {ROUNDS} rounds in turns");
    for (row, times) in rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let kind = if row.is_hit { "hit" } else { "miss" };
        println!(
            "{kind:<5} {:<32} {:>7.1} ({:.1} to {:.1})",
            row.name,
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS - 1]
        );
    }
}
