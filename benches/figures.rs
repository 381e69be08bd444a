//! The figures that the cache is held to, measured: memory, expiry, growth, many small caches.
//!
//! `cargo bench --bench figures` runs all of them (some four minutes, 1 GiB of memory), `cargo
//! bench --bench figures -- bytes growth` only those that are named. Each line shows what was
//! measured and, where there is one, the aim. What depends on the scheduler stands beside the
//! same measurement of a plain map or of nothing at all: where those are slow too, the machine was
//! busy.

use haybox::Cache;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const MILLION: usize = 1_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A figure's name and what measures it.
type Figure = (&'static str, fn());

const FIGURES: [Figure; 6] = [
    ("bytes", bytes),
    ("idle", idle),
    ("expiry", expiry),
    ("sigstop", sigstop),
    ("growth", growth),
    ("caches", caches),
];

fn main() {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with('-'));
    if names.first().is_some_and(|name| name == CHILD) {
        return stopped_child();
    }
    // Cargo passes this to every benchmark, and leaves it out when benchmarks run as tests.
    if names.is_empty() && !flags.iter().any(|flag| flag == "--bench") {
        return;
    }
    let is_known = |name: &&String| FIGURES.iter().any(|(figure, _)| figure == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<_> = FIGURES.iter().map(|(figure, _)| *figure).collect();
        eprintln!(
            "there is no figure called {unknown}; there are {}",
            known.join(", ")
        );
        std::process::exit(2);
    }
    println!("{:<68} {:>16} {:>14}", "figure", "measured", "aim");
    for (name, measure) in FIGURES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}

// ---- the table ----

/// Prints a measurement without an aim.
fn note(what: &str, measured: &str) {
    println!("{what:<68} {measured:>16}");
}

/// Prints a measurement and whether it is within its aim.
fn compare(what: &str, measured: f64, most: f64, unit: &str) {
    let verdict = if measured <= most { "met" } else { "MISSED" };
    let (measured, most) = (
        format!("{measured:.1} {unit}"),
        format!("<= {most:.0} {unit}"),
    );
    println!("{what:<68} {measured:>16} {most:>14}  {verdict}");
}

fn nanos(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

// ---- bytes per entry ----

/// Counts the bytes that are allocated now, as they were asked for: what the allocator adds to
/// each block is not in it.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the block came from `alloc` above with this layout, so from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bounded<K, V>(max_entries: usize) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let builder = Cache::builder().max_entries(max_entries).time_to_live(HOUR);
    builder.build().expect("a bound of at least one entry")
}

fn unbounded<K, V>() -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let builder = Cache::builder().time_to_live(HOUR);
    builder.build().expect("no bound can be wrong")
}

fn fill(cache: &Cache<u64, u64>, entries: u64) {
    for key in 0..entries {
        cache.insert(key, key);
    }
}

/// Bytes for each entry of a cache with `inserted` keys.
fn bytes_per_entry<K>(
    cache: impl FnOnce() -> Cache<K, u64>,
    inserted: usize,
    key: fn(u64) -> K,
) -> f64
where
    K: Hash + Eq + Send + Sync + 'static,
{
    let before = ALLOCATED.load(Relaxed);
    let cache = cache();
    for number in 0..inserted as u64 {
        cache.insert(key(number), number);
    }
    let bytes = ALLOCATED.load(Relaxed) - before;
    bytes as f64 / cache.len() as f64
}

fn bytes() {
    let same = |number| number;
    let measured = bytes_per_entry(|| bounded(MILLION), MILLION, same);
    compare(
        "bytes: u64 -> u64 with TTL, 1M entries, bounded at 1M",
        measured,
        45.0,
        "B",
    );
    let rows: [(&str, f64); 5] = [
        (
            "bounded at 1M, after 3M insertions (with ghosts)",
            bytes_per_entry(|| bounded(MILLION), 3 * MILLION, same),
        ),
        ("unbounded, 1M", bytes_per_entry(unbounded, MILLION, same)),
        (
            "bounded at 100k",
            bytes_per_entry(|| bounded(MILLION / 10), MILLION / 10, same),
        ),
        (
            "bounded at 10M",
            bytes_per_entry(|| bounded(10 * MILLION), 10 * MILLION, same),
        ),
        (
            "unbounded, 10M",
            bytes_per_entry(unbounded, 10 * MILLION, same),
        ),
    ];
    for (what, measured) in rows {
        note(
            &format!("bytes: u64 -> u64 with TTL, {what}"),
            &format!("{measured:.1} B"),
        );
    }
    let strings = bytes_per_entry(
        || bounded(MILLION),
        MILLION,
        |number| format!("key:{number:012}"),
    );
    note(
        "bytes: String of 16 bytes -> u64 with TTL, bounded at 1M (payload 48 B)",
        &format!("{strings:.1} B"),
    );
}

// ---- the keeper ----

/// The processor time that the keeper thread has used, `None` where the system does not tell.
fn keeper_time() -> Option<Duration> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    let keeper = threads.map(|thread| thread.path()).find(|path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "haybox-keeper")
    })?;
    let exact = fs::read_to_string(keeper.join("schedstat")).ok();
    let exact = exact.and_then(|text| text.split_whitespace().next()?.parse().ok());
    exact
        .map(Duration::from_nanos)
        .or_else(|| ticks(&fs::read_to_string(keeper.join("stat")).ok()?))
}

/// The processor time in a `stat` file, in ticks of 10 ms.
fn ticks(stat: &str) -> Option<Duration> {
    // The name of the thread, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis(10 * (user + system)))
}

fn idle() {
    let cache = unbounded();
    fill(&cache, 10 * MILLION as u64);
    // The turn that the insertions caused is not part of being idle.
    thread::sleep(Duration::from_secs(2));
    let (Some(before), started) = (keeper_time(), Instant::now()) else {
        return note("idle: keeper", "needs Linux");
    };
    thread::sleep(Duration::from_secs(10));
    let used = keeper_time().unwrap_or_default().saturating_sub(before);
    let share = 100.0 * used.as_secs_f64() / started.elapsed().as_secs_f64();
    note(
        "idle: keeper, 10M entries not due, 10 s",
        &format!("{used:.1?}"),
    );
    compare("idle: keeper's share of a core", share, 1.0, "%");
}

fn expiry() {
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

// ---- reads and their times ----

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

/// Buckets for each doubling of the time.
const STEPS: u64 = 32;

/// What counts as slow, in nanoseconds.
const SLOW: u64 = 1_000_000;

/// A histogram of times, exact to 3 %.
struct Times {
    buckets: Vec<u64>,
    longest: u64,
    /// The longest in which the scheduler did not take the processor away.
    longest_undisturbed: u64,
    slow: u64,
    /// Slow ones in which the scheduler took the processor away. The few turns that a waiting
    /// thread gives away before it goes to sleep look the same.
    preempted: u64,
    /// Slow ones in which the thread gave up the processor of itself: it waited for a lock.
    blocked: u64,
    switches: Switches,
}

impl Times {
    fn new() -> Self {
        Self {
            buckets: vec![0; 64 * STEPS as usize],
            longest: 0,
            longest_undisturbed: 0,
            slow: 0,
            preempted: 0,
            blocked: 0,
            switches: Switches::of_thread(),
        }
    }

    #[inline]
    fn measure<R>(&mut self, operation: impl FnOnce() -> R) {
        let started = Instant::now();
        black_box(operation());
        let time = started.elapsed().as_nanos() as u64;
        self.buckets[bucket_of(time)] += 1;
        // No thread loses the processor and has it back within this time.
        if time > 5_000 {
            self.look_closer(time);
        }
    }

    #[cold]
    fn look_closer(&mut self, time: u64) {
        let switches = Switches::of_thread();
        let was_preempted = switches.forced > self.switches.forced;
        if time > SLOW {
            self.slow += 1;
            self.preempted += u64::from(was_preempted);
            self.blocked += u64::from(switches.waits > self.switches.waits);
        }
        self.longest = self.longest.max(time);
        if !was_preempted {
            self.longest_undisturbed = self.longest_undisturbed.max(time);
        }
        self.switches = switches;
    }

    fn quantile(&self, share: f64) -> u64 {
        let count: u64 = self.buckets.iter().sum();
        let rank = (count as f64 * share) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|times| {
            seen += times;
            seen > rank
        });
        lowest_of(bucket.unwrap_or(0))
    }

    fn report(&self, what: &str) {
        let count: u64 = self.buckets.iter().sum();
        let print = |row: &str, measured: &str| note(&format!("{what}: {row}"), measured);
        print("number", &format!("{:.1} M", count as f64 / 1e6));
        print("p50", &nanos(self.quantile(0.5)));
        print("p99.9", &nanos(self.quantile(0.999)));
        print("p99.99", &nanos(self.quantile(0.9999)));
        print("longest", &nanos(self.longest));
        print(
            "longest that was not preempted",
            &nanos(self.longest_undisturbed),
        );
        print(
            "over 1 ms, of these preempted",
            &format!("{}, {}", self.slow, self.preempted),
        );
    }
}

fn bucket_of(time: u64) -> usize {
    let doublings = u64::from((time / STEPS).checked_ilog2().map_or(0, |log| log + 1));
    let within = if doublings == 0 {
        time
    } else {
        (time >> (doublings - 1)) - STEPS
    };
    (doublings * STEPS + within) as usize
}

fn lowest_of(bucket: usize) -> u64 {
    let (doublings, within) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if doublings == 0 {
        within
    } else {
        (within + STEPS) << (doublings - 1)
    }
}

/// How often a thread has lost the processor.
#[derive(Clone, Copy)]
struct Switches {
    /// Because it waited for something.
    waits: u64,
    /// Because the scheduler gave it to another thread.
    forced: u64,
}

impl Switches {
    fn of_thread() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let count = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse().ok())
                .unwrap_or(0)
        };
        Self {
            waits: count("voluntary_ctxt_switches:"),
            forced: count("nonvoluntary_ctxt_switches:"),
        }
    }
}

// ---- a process that was stopped ----

/// The argument that makes this program the child of `sigstop`.
const CHILD: &str = "stopped-child";
const CHILD_TTL: Duration = Duration::from_secs(2);
const STOPPED_FOR: Duration = Duration::from_secs(5);

fn sigstop() {
    if !cfg!(unix) {
        return note("sigstop", "needs Unix");
    }
    let program = std::env::current_exe().expect("the path of this program");
    let child = Command::new(program)
        .arg(CHILD)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("this program can be started again");
    let output = child.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    signal("-STOP", child.id());
    thread::sleep(STOPPED_FOR);
    signal("-CONT", child.id());
    let result = lines.next().expect("the child reports");
    let status = child.wait().expect("the child ends");
    assert!(status.success(), "the child failed");
    let numbers: Vec<f64> = result
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    note(
        "sigstop: the child stood still for",
        &format!("{:.2} s", numbers[0]),
    );
    note(
        "sigstop: from the deadline to the first read after it",
        &format!("{:.2} s", numbers[1]),
    );
    compare("sigstop: expired values served", numbers[2], 0.0, "values");
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
}

/// Reads without a pause, so that it is stopped between two reads and goes on with a read.
fn stopped_child() {
    let cache = Cache::builder()
        .time_to_live(CHILD_TTL)
        .build()
        .expect("a valid TTL");
    fill(&cache, 1000);
    let deadline = Instant::now() + CHILD_TTL;
    println!("ready");
    let (mut previous, mut gap, mut served) = (Instant::now(), Duration::ZERO, 0u64);
    let mut first_after = None;
    for key in (0..1000u64).cycle() {
        let before = Instant::now();
        let found = cache.get(&key).is_some();
        gap = gap.max(before - previous);
        previous = before;
        if before >= deadline {
            served += u64::from(found);
            first_after.get_or_insert(before - deadline);
        }
        if before >= deadline + Duration::from_secs(1) && gap > Duration::from_secs(1) {
            break;
        }
    }
    let first_after = first_after.unwrap_or_default();
    println!(
        "{} {} {served}",
        gap.as_secs_f64(),
        first_after.as_secs_f64()
    );
}

// ---- growth ----

fn growth() {
    let cache = unbounded();
    let mut times = Times::new();
    let started = Instant::now();
    for key in 0..10 * MILLION as u64 {
        times.measure(|| cache.insert(key, key));
    }
    let took = started.elapsed();
    let mut nothing = Times::new();
    let started = Instant::now();
    while started.elapsed() < took {
        nothing.measure(|| ());
    }
    times.report("growth: insert, from empty to 10M");
    nothing.report("growth: nothing, for as long");
}

// ---- many caches ----

fn caches() {
    const CACHES: usize = 10_000;
    let before = ALLOCATED.load(Relaxed);
    let empty: Vec<Cache<u64, u64>> = (0..CACHES).map(|_| bounded(100)).collect();
    let bytes = (ALLOCATED.load(Relaxed) - before) as f64 / CACHES as f64;
    note(
        "caches: bytes of an empty cache bounded at 100, with TTL",
        &format!("{bytes:.0} B"),
    );
    for cache in &empty {
        fill(cache, 10);
    }
    let bytes = (ALLOCATED.load(Relaxed) - before) as f64 / CACHES as f64;
    note(
        "caches: bytes of one with 10 entries",
        &format!("{bytes:.0} B"),
    );
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    note(
        "caches: threads of a process with 10,000 of them",
        &threads.to_string(),
    );
    let Some(before) = keeper_time() else { return };
    thread::sleep(Duration::from_secs(5));
    let used = keeper_time().unwrap_or_default().saturating_sub(before);
    note(
        "caches: keeper's share of a core, all idle",
        &format!("{:.2} %", 20.0 * used.as_secs_f64()),
    );
}
