//! What it costs that entries expire, and how late they are removed.

use crate::filled::MILLION;
use crate::keeper::keeper_time;
use crate::table::{compare, note};
use crate::times::Times;
use haybox::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub fn expiry() {
    price_of_expiry();
    lateness_of_each_entry();
}

/// Entries by the millisecond in which their time is up.
struct Schedule {
    started: Instant,
    due: Vec<u32>,
}

impl Schedule {
    fn new(longest: Duration) -> Self {
        Self {
            started: Instant::now(),
            due: vec![0; longest.as_millis() as usize],
        }
    }

    fn add(&mut self, ttl: Duration) {
        let millisecond = (self.started.elapsed() + ttl).as_millis() as usize;
        self.due[millisecond] += 1;
    }

    /// How long ago the last entry of all but `resident` was due: zero when no more are resident
    /// than are alive.
    fn lateness(&self, resident: usize) -> Duration {
        let now = self.started.elapsed().as_millis() as usize;
        let mut alive: usize = self.due.iter().skip(now).map(|due| *due as usize).sum();
        let mut late = 0;
        while alive < resident && late < now {
            late += 1;
            alive += self.due.get(now - late).map_or(0, |due| *due as usize);
        }
        Duration::from_millis(late as u64)
    }
}

const LONGEST_TTL: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const TOLERANCE: Duration = Duration::from_millis(50);

/// 10M entries expire within a minute while a thread reads.
fn price_of_expiry() {
    let cache: Cache<u64, u64> = Cache::builder()
        .sweep_interval(SWEEP_INTERVAL)
        .build()
        .expect("a valid interval");
    let mut schedule = Schedule::new(5 * LONGEST_TTL);
    let mut random = fastrand::Rng::with_seed(1);
    for key in 0..10 * MILLION as u64 {
        let ttl = Duration::from_millis(random.u64(1..LONGEST_TTL.as_millis() as u64));
        schedule.add(ttl);
        cache.insert_with_ttl(key, key, ttl);
    }
    let filled = schedule.started.elapsed();
    let readers = cache.clone();
    let reader = Reader::start(move |key| readers.get(&key).is_some());
    let until = filled + LONGEST_TTL + SWEEP_INTERVAL + TOLERANCE;
    let mut latest = Duration::ZERO;
    while schedule.started.elapsed() < until {
        thread::sleep(Duration::from_millis(20));
        latest = latest.max(schedule.lateness(cache.len()));
    }
    let reads = reader.stop();
    let expired = cache.stats().expirations;
    match keeper_time() {
        Some(used) => {
            let price = used.as_nanos() as f64 / expired as f64;
            compare(
                "expiry: keeper's time for each of 10M expired entries",
                price,
                300.0,
                "ns",
            );
        }
        None => note(
            "expiry: keeper's time for each expired entry",
            "needs Linux",
        ),
    }
    let most = (SWEEP_INTERVAL + TOLERANCE).as_secs_f64() * 1e3;
    compare(
        "expiry: the most that residents lagged behind deadlines",
        latest.as_secs_f64() * 1e3,
        most,
        "ms",
    );
    compare(
        "expiry: entries left after the last deadline and an interval",
        cache.len() as f64,
        0.0,
        "entries",
    );
    reads.report("expiry: get meanwhile");
    compare(
        "expiry: gets over 1 ms in which the thread waited for a lock",
        reads.blocked as f64,
        0.0,
        "reads",
    );

    let map: HashMap<u64, u64> = (0..MILLION as u64).map(|key| (key, key)).collect();
    let noise = Reader::start(move |key| map.contains_key(&(key % MILLION as u64)));
    thread::sleep(until - filled);
    noise
        .stop()
        .report("expiry: the same over a map nobody writes");
}

/// The delay of each entry, as a removal listener sees it.
fn lateness_of_each_entry() {
    const LONGEST: Duration = Duration::from_secs(10);
    let latest = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let heard = Arc::clone(&latest);
    let listener = move |_, deadline: Duration, _| {
        let late = started.elapsed().saturating_sub(deadline);
        heard.fetch_max(late.as_nanos() as u64, Relaxed);
    };
    let builder = Cache::builder()
        .sweep_interval(SWEEP_INTERVAL)
        .removal_listener(listener);
    let cache = builder.build().expect("a valid interval");
    let mut random = fastrand::Rng::with_seed(2);
    for key in 0..MILLION as u64 {
        let ttl = Duration::from_millis(random.u64(1..LONGEST.as_millis() as u64));
        cache.insert_with_ttl(key, started.elapsed() + ttl, ttl);
    }
    thread::sleep(LONGEST + SWEEP_INTERVAL + TOLERANCE);
    let late = latest.load(Relaxed) as f64 / 1e6;
    let most = (SWEEP_INTERVAL + TOLERANCE).as_secs_f64() * 1e3;
    compare(
        "expiry: the latest of 1M entries, as a removal listener heard of it",
        late,
        most,
        "ms",
    );
}

/// A thread that reads random keys of 10M and takes the time of each read.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Times>,
}

impl Reader {
    fn start(read: impl Fn(u64) -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(3);
            let mut times = Times::new();
            while !stopped.load(Relaxed) {
                let key = random.u64(0..10 * MILLION as u64);
                times.measure(|| read(key));
            }
            times
        });
        Self { stop, thread }
    }

    fn stop(self) -> Times {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the reader does not panic")
    }
}
