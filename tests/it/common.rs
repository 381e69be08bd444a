//! What several files of tests use.

use haybox::{Cache, CacheBuilder, EvictionPolicy, MockClock, RemovalCause};
use std::any::Any;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

/// Every policy that a cache can be given.
pub(crate) const POLICIES: [EvictionPolicy; 4] = [
    EvictionPolicy::Adaptive,
    EvictionPolicy::S3Fifo,
    EvictionPolicy::Lfu,
    EvictionPolicy::Lru,
];

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// As long as a test waits for another thread before it gives up: on a machine under load a
/// thread may not run for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How many cases to run: `HAYBOX_CASES` is a number, or `full` for what CI asks for.
pub(crate) fn cases(quick: u32, full: u32) -> u32 {
    match std::env::var("HAYBOX_CASES") {
        Ok(asked) if asked == "full" => full,
        Ok(asked) => asked.parse().expect("HAYBOX_CASES is a number or `full`"),
        Err(_) => quick,
    }
}

/// Whether to run all of what a plain `cargo test` runs a sample of.
pub(crate) fn is_full() -> bool {
    !cfg!(debug_assertions) || std::env::var("HAYBOX_CASES").is_ok_and(|asked| asked == "full")
}

/// The sentence that `f` panics with.
#[track_caller]
pub(crate) fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("this should have panicked"),
        Err(payload) => sentence(&*payload),
    }
}

pub(crate) fn sentence(payload: &(dyn Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().cloned();
    owned
        .or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        })
        .unwrap_or_default()
}

/// The line that a panic is said to come from, and its file.
pub(crate) fn place_of_panic<R>(f: impl FnOnce() -> R) -> (String, u32) {
    thread_local!(static PLACE: RefCell<Option<(String, u32)>> = const { RefCell::new(None) });
    static NOTES_PLACES: Once = Once::new();
    NOTES_PLACES.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location();
            PLACE.set(place.map(|place| (place.file().to_owned(), place.line())));
            report(panic);
        }));
    });
    panic_of(f);
    PLACE.take().expect("a panic has a place")
}

pub(crate) const INSIDE: &str = "haybox was called from inside";

/// What a removal listener was told.
pub(crate) type Removals<K, V> = Arc<Mutex<Vec<(K, V, RemovalCause)>>>;

/// Has every removal logged.
pub(crate) fn logged<K, V, S>(
    builder: CacheBuilder<K, V, S>,
) -> (CacheBuilder<K, V, S>, Removals<K, V>)
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    let log = Removals::<K, V>::default();
    let writer = Arc::clone(&log);
    let listener = move |key, value, cause| writer.lock().unwrap().push((key, value, cause));
    (builder.removal_listener(listener), log)
}

/// Takes what was logged so far.
pub(crate) fn drain<T>(log: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// A cache on a mock clock that sweeps only when asked to.
pub(crate) fn timed<K, V>(
    set: impl FnOnce(CacheBuilder<K, V>) -> CacheBuilder<K, V>,
) -> (Cache<K, V>, MockClock)
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let time = MockClock::new();
    let builder = Cache::builder()
        .clock(time.clock())
        .sweep_interval(HOUR * 10_000);
    (set(builder).build().unwrap(), time)
}

/// A hasher that gives every key the same hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OneHash;

impl BuildHasher for OneHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl std::hash::Hasher for OneHash {
    fn finish(&self) -> u64 {
        42
    }

    fn write(&mut self, _: &[u8]) {}
}

/// A hasher that a test can choose, so that what fails fails again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = std::hash::DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        let mut hasher = std::hash::DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher
    }
}

/// Runs a test of this binary as a process of its own, until it has written so many lines, and kills
/// it; all the lines that it wrote.
#[cfg(feature = "persist")]
pub(crate) fn killed(
    test: &str,
    environment: &[(&str, &std::ffi::OsStr)],
    lines: usize,
) -> Vec<String> {
    use std::io::BufReader;
    use std::process::{Command, Stdio};
    // On one processor the harness would begin a line of its own, which the first of the child's
    // would be a part of.
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=2"])
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    while said.len() < lines && take_line(&mut output, &mut said) {}
    child.kill().unwrap();
    child.wait().unwrap();
    while take_line(&mut output, &mut said) {}
    said
}

/// Reads a line, if there is another whole one: half a line may say something else.
#[cfg(feature = "persist")]
fn take_line(output: &mut impl std::io::BufRead, said: &mut Vec<String>) -> bool {
    let mut line = String::new();
    let read = output.read_line(&mut line);
    let is_whole = read.is_ok() && line.ends_with('\n');
    if is_whole {
        line.pop();
        said.push(line);
    }
    is_whole
}

/// What a callback panics with, and does so again as it is dropped.
pub(crate) struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("it breaks");
    }
}
