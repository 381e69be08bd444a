//! How many instructions the hot paths take, counted by valgrind's callgrind: the same on a noisy
//! machine as on a quiet one, so that a change that costs a few per cent shows.
//!
//! ```text
//! cargo bench --bench instructions            # counts, and compares with benches/instructions.txt
//! cargo bench --bench instructions -- --save  # counts, and writes that file
//! cargo bench --bench instructions -- lock    # the paths that have this in their names
//! ```
//!
//! Fails when a path takes more than 3 % more instructions than the file says, with the name of the
//! path, and when the file and the paths here do not name the same. Each path is run with and without
//! its operations, and the difference is what counts. The file holds for the compiler that it names;
//! with another one the counts are shown and judged by nobody, which the last line says.

use haybox::Cache;
use haybox::counter::Counters;
use haybox::limit::{Limiter, Quota};
use haybox::lock::Locks;
use haybox::presence::Presence;
use haybox::pubsub::{Bus, Subscription};
use haybox::queue::{Delivery, Queue};
use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Operations of a run.
const OPERATIONS: u64 = 100_000;

/// Keys of the caches. A few more fit, so that only what is to evict evicts.
const KEYS: u64 = 10_000;

/// The share by which a path may grow.
const TOLERANCE: f64 = 0.03;

struct HotPath {
    name: &'static str,
    run: fn(u64),
}

const HOT_PATHS: &[HotPath] = &[
    HotPath {
        name: "get, hit",
        run: |n| gets(&timed(KEYS * 2), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "get, hit, no TTL",
        run: |n| gets(&filled(Cache::new(2 * KEYS as usize)), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "get, hit, no bound",
        run: |n| gets(&growing(), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "get, miss",
        run: |n| gets(&timed(KEYS * 2), n, |i| i + (1 << 40)),
    },
    HotPath {
        name: "get by &str, hit",
        run: strings,
    },
    HotPath {
        name: "insert, replacing",
        run: |n| inserts(&timed(KEYS * 2), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "insert, evicting",
        run: |n| inserts(&timed(KEYS), n, |i| i + (1 << 40)),
    },
    HotPath {
        name: "insert, evicting, small cache",
        run: |n| inserts(&small(500), n, |i| i + (1 << 40)),
    },
    HotPath {
        name: "insert, evicting, tiny cache",
        run: |n| inserts(&small(30), n, |i| i + (1 << 40)),
    },
    HotPath {
        name: "insert, growing",
        run: |n| inserts(&growing(), n, |i| i + (1 << 40)),
    },
    HotPath {
        name: "get_or_insert_with, hit",
        run: |n| {
            let cache = timed(KEYS * 2);
            for i in 0..n {
                black_box(cache.get_or_insert_with(&(i * 7 % KEYS), || 0));
            }
        },
    },
    HotPath {
        name: "get_or_insert_with, miss",
        run: |n| {
            let cache = timed(KEYS);
            for i in 0..n {
                black_box(cache.get_or_insert_with(&(i + (1 << 40)), || i));
            }
        },
    },
    HotPath {
        name: "get_or_load, miss",
        run: |n| {
            let cache = timed(KEYS);
            for i in 0..n {
                black_box(now(cache.get_or_load(&(i + (1 << 40)), || async { i })));
            }
        },
    },
    HotPath {
        name: "update",
        run: |n| {
            let cache = timed(KEYS * 2);
            for i in 0..n {
                black_box(cache.update(&(i * 7 % KEYS), |value| *value += 1));
            }
        },
    },
    HotPath {
        name: "remove and insert",
        run: |n| {
            let cache = timed(KEYS * 2);
            for i in 0..n {
                black_box(cache.remove(&(i * 7 % KEYS)));
                black_box(cache.insert(i * 7 % KEYS, i));
            }
        },
    },
    HotPath {
        name: "limit, allowed, hot key",
        run: |n| checks(Quota::per_second(1 << 29), n, |_| 7),
    },
    HotPath {
        name: "limit, allowed, many keys",
        run: |n| checks(Quota::per_second(1 << 29), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "limit, refused, hot key",
        run: |n| checks(Quota::per_hour(1), n, |_| 7),
    },
    HotPath {
        name: "limit, sliding window",
        run: |n| checks(Quota::sliding_window(5, MINUTE), n, |_| 7),
    },
    HotPath {
        name: "lock and release, one key",
        run: |n| locks(n, |_| 7),
    },
    HotPath {
        name: "lock and release, many keys",
        run: |n| locks(n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "publish to 1 and receive",
        run: |n| publishes(1, n),
    },
    HotPath {
        name: "publish to 10 and receive",
        run: |n| publishes(10, n),
    },
    HotPath {
        name: "queue: push, pop, acknowledge",
        run: |n| {
            let queue = Queue::new(KEYS as usize).expect("it has room");
            for i in 0..n {
                let _ = black_box(queue.push(i));
                let _ = black_box(queue.try_pop().map(Delivery::ack));
            }
        },
    },
    HotPath {
        name: "counter, hot key",
        run: |n| counts(&Counters::new(), n, |_| 7),
    },
    HotPath {
        name: "counter, many keys",
        run: |n| counts(&Counters::new(), n, |i| i * 7 % KEYS),
    },
    HotPath {
        name: "presence, heartbeat",
        run: |n| {
            let online: Presence<u64, u64> = Presence::new();
            for i in 0..KEYS {
                online.heartbeat(&(i % 100), &i);
            }
            for i in 0..n {
                let member = i * 7 % KEYS;
                black_box(online.heartbeat(&(member % 100), &member));
            }
        },
    },
];

const MINUTE: Duration = Duration::from_secs(60);

// ---- what is counted ----

fn filled(cache: Cache<u64, u64>) -> Cache<u64, u64> {
    cache.insert_many((0..KEYS).map(|key| (key, key)));
    cache
}

fn timed(max_entries: u64) -> Cache<u64, u64> {
    let builder = Cache::builder().max_entries(max_entries as usize);
    let cache = builder.time_to_live(Duration::from_secs(36_000)).build();
    let cache = filled(cache.expect("a bound and a TTL are a cache"));
    // So that ghosts are there and the queues have settled.
    if max_entries == KEYS {
        cache.insert_many((1 << 30..(1 << 30) + 2 * KEYS).map(|key| (key, key)));
    }
    cache
}

/// A cache so small that the eviction policy watches much of it.
fn small(max_entries: usize) -> Cache<u64, u64> {
    let builder = Cache::builder().max_entries(max_entries);
    let cache = builder.time_to_live(Duration::from_secs(36_000)).build();
    filled(cache.expect("a bound and a TTL are a cache"))
}

fn growing() -> Cache<u64, u64> {
    let builder = Cache::builder().time_to_live(Duration::from_secs(36_000));
    filled(builder.build().expect("a TTL alone is a cache"))
}

fn gets(cache: &Cache<u64, u64>, n: u64, key: impl Fn(u64) -> u64) {
    for i in 0..n {
        black_box(cache.get(&key(i)));
    }
}

fn inserts(cache: &Cache<u64, u64>, n: u64, key: impl Fn(u64) -> u64) {
    for i in 0..n {
        black_box(cache.insert(key(i), i));
    }
}

/// Runs a future that is ready at its first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("there is nothing to wait for"),
    }
}

fn strings(n: u64) {
    let names: Vec<String> = (0..KEYS).map(|i| format!("user:{i:08}")).collect();
    let cache: Cache<String, u64> = names.iter().cloned().zip(0..).collect();
    for i in 0..n {
        black_box(cache.get(names[(i * 7 % KEYS) as usize].as_str()));
    }
}

fn checks(quota: Quota, n: u64, key: impl Fn(u64) -> u64) {
    let limiter = Limiter::<u64>::new(quota).expect("the quota is possible");
    for i in 0..KEYS {
        let _ = limiter.check(&i);
    }
    for i in 0..n {
        let _ = black_box(limiter.check(&key(i)));
    }
}

fn locks(n: u64, key: impl Fn(u64) -> u64) {
    let locks = Locks::<u64>::new(MINUTE).expect("a minute is possible");
    for i in 0..KEYS {
        drop(locks.try_acquire(&i));
    }
    for i in 0..n {
        drop(black_box(locks.acquire(&key(i))));
    }
}

fn publishes(subscriptions: usize, n: u64) {
    let bus = Bus::new();
    let topic = bus.topic::<u64>("news").expect("it has no other type");
    let listening: Vec<Subscription<u64>> = (0..subscriptions).map(|_| topic.subscribe()).collect();
    for i in 0..n {
        black_box(topic.publish(i));
        for subscription in &listening {
            let _ = black_box(subscription.try_recv());
        }
    }
}

fn counts(counters: &Counters<u64>, n: u64, key: impl Fn(u64) -> u64) {
    for i in 0..KEYS {
        counters.incr(&i);
    }
    for i in 0..n {
        counters.incr(black_box(&key(i)));
    }
}

// ---- counting ----

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, operations] = &arguments[..]
        && flag == "--run"
    {
        return run(name, operations);
    }
    let words = arguments.iter().filter(|word| !word.starts_with("--"));
    let part = words.cloned().collect::<Vec<_>>().join(" ");
    match compare(&part, arguments.iter().any(|flag| flag == "--save")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One run of a path, under valgrind.
fn run(name: &str, operations: &str) -> ExitCode {
    let path = HOT_PATHS.iter().find(|path| path.name == name);
    let (Some(path), Ok(operations)) = (path, operations.parse()) else {
        eprintln!("no such path or number: {name}, {operations}");
        return ExitCode::FAILURE;
    };
    (path.run)(operations);
    ExitCode::SUCCESS
}

/// Counts every path whose name contains `part`; whether none has grown.
fn compare(part: &str, save: bool) -> Result<bool, Box<dyn Error>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: not counted, since valgrind is not installed");
        return Ok(true);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let compiler = compiler()?;
    let baseline = std::fs::read_to_string(&file).unwrap_or_default();
    let theirs = baseline.lines().next().unwrap_or("no compiler");
    let judged = theirs == compiler;
    check(part, save, judged, &baseline)?;
    let mut counts = format!("{compiler}\n");
    let mut has_held = true;
    for path in HOT_PATHS {
        if !path.name.contains(part) {
            // What is not counted keeps its line.
            if let Some(before) = in_baseline(&baseline, path.name) {
                writeln!(counts, "{before:6.0}  {}", path.name)?;
            }
            continue;
        }
        let count = count(path.name)?;
        writeln!(counts, "{count:6.0}  {}", path.name)?;
        let before = in_baseline(&baseline, path.name);
        let change = before.map(|before| count / before - 1.0);
        let grown = judged && change.is_some_and(|change| change > TOLERANCE);
        has_held &= !grown;
        println!(
            "{:<30} {count:6.0} instructions{}{}",
            path.name,
            change.map_or(String::new(), |change| format!(
                "  {:+.1} %",
                change * 100.0
            )),
            if grown { "  TOO MANY" } else { "" }
        );
    }
    if save {
        std::fs::write(&file, counts)?;
        return Ok(true);
    }
    if !judged {
        // A step of .ci/run looks for the first two words.
        println!("not judged: the baseline of instructions is of {theirs}, and this is {compiler}");
    }
    Ok(has_held)
}

/// Refuses what would count nothing, or leave a path unjudged without a word.
fn check(part: &str, save: bool, judged: bool, baseline: &str) -> Result<(), String> {
    if !HOT_PATHS.iter().any(|path| path.name.contains(part)) {
        let names: Vec<_> = HOT_PATHS.iter().map(|path| path.name).collect();
        let names = names.join("\n  ");
        return Err(format!(
            "no path has \"{part}\" in its name; there are\n  {names}"
        ));
    }
    if save {
        // The lines that stay would be of another compiler than the file says.
        return if judged || part.is_empty() {
            Ok(())
        } else {
            Err("the baseline is of another compiler: only all paths can be saved".to_string())
        };
    }
    let unknown = |path: &&str| !HOT_PATHS.iter().any(|hot| hot.name == *path);
    let mut lines = lines(baseline).map(|(_, path)| path);
    if let Some(path) = lines.find(unknown) {
        return Err(format!(
            "the baseline has a line for \"{path}\", which is no path: --save"
        ));
    }
    let missing = |path: &&HotPath| in_baseline(baseline, path.name).is_none();
    match HOT_PATHS.iter().find(missing) {
        Some(path) => Err(format!(
            "the baseline has no line for \"{}\": --save",
            path.name
        )),
        None => Ok(()),
    }
}

fn compiler() -> Result<String, Box<dyn Error>> {
    let version = Command::new("rustc").arg("--version").output()?.stdout;
    Ok(format!(
        "{} {}",
        String::from_utf8(version)?.trim(),
        std::env::consts::ARCH
    ))
}

/// The counts and names of a baseline, below the line of its compiler.
fn lines(baseline: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = baseline.lines().skip(1);
    lines.filter_map(|line| line.trim().split_once("  "))
}

fn in_baseline(baseline: &str, name: &str) -> Option<f64> {
    lines(baseline)
        .find(|(_, path)| *path == name)?
        .0
        .parse()
        .ok()
}

/// Instructions of one operation: the difference between a run with them and one without.
fn count(name: &str) -> Result<f64, Box<dyn Error>> {
    let with = total(name, OPERATIONS)?;
    let without = total(name, 0)?;
    Ok((with - without) / OPERATIONS as f64)
}

/// Instructions of a whole run.
fn total(name: &str, operations: u64) -> Result<f64, Box<dyn Error>> {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("callgrind.out");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--run", name, &operations.to_string()])
        .status()?;
    if !status.success() {
        return Err(format!("{name}: the run under valgrind ended with {status}").into());
    }
    let counted = std::fs::read_to_string(&out)?;
    let line = counted
        .lines()
        .find_map(|line| line.strip_prefix("summary: "));
    Ok(line.ok_or("callgrind wrote no summary")?.trim().parse()?)
}
