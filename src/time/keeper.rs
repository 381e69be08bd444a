//! The keeper: one thread of the process that sweeps every cache with expiring entries.
//!
//! It starts with the first deadline that any cache is given, so a process without deadlines has
//! no thread. It knows caches only weakly and never owns one. It works in slices of about a
//! millisecond and turns to the next cache in between, so a big cache does not delay a small one.
//!
//! The keeper runs no code of the user's and waits for no lock. Where values have destructors or somebody listens, it
//! hands what it removed to a second thread, the reaper. A destructor or listener that blocks
//! therefore holds back the background expiry of caches that need the reaper, and nothing else:
//! reads see no expired value in any case.

use super::Clock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, LazyLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A cache as the keeper sees it.
pub(crate) trait Sweep: Send + Sync {
    /// The time between two sweeps.
    fn interval(&self) -> Duration;

    /// Removes what has expired, for about a millisecond at most.
    fn sweep_slice(&self) -> Swept;

    /// Whether the aftermath of a slice may run code of the user's.
    fn needs_reaper(&self) -> bool;
}

/// What a slice of sweeping left to do.
pub(crate) struct Swept {
    /// The time was up before the work was done.
    pub(crate) more: bool,
    /// Dropping what was removed and telling who listens.
    pub(crate) aftermath: Option<Aftermath>,
}

pub(crate) type Aftermath = Box<dyn FnOnce() + Send>;

impl Swept {
    /// Does what is left on this thread and says whether there is more to sweep.
    pub(crate) fn finish_here(self) -> bool {
        if let Some(aftermath) = self.aftermath {
            aftermath();
        }
        self.more
    }
}

/// Has a cache swept from now on: by the keeper, or by its mock clock.
pub(crate) fn register(clock: &Clock, sweep: Weak<dyn Sweep>, interval: Duration) {
    match clock.mock_state() {
        Some(mock) => mock.register(sweep, interval),
        // Where no thread can be started nobody listens; expiry then stays lazy, and
        // `Cache::sweep` is there to release the memory.
        None => drop(KEEPER.send(Job {
            due: next_turn(interval),
            sweep,
        })),
    }
}

struct Job {
    due: Instant,
    sweep: Weak<dyn Sweep>,
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Job {}
impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Job {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

static KEEPER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = crossbeam_channel::unbounded();
    // The error is the system's refusal to start a thread: see `register`.
    let _ = thread::Builder::new()
        .name("haybox-keeper".into())
        .spawn(|| keep(jobs));
    sender
});

static REAPER: LazyLock<Sender<Aftermath>> = LazyLock::new(|| {
    let (sender, aftermaths) = crossbeam_channel::bounded::<Aftermath>(REAPER_BACKLOG);
    let reap = move || {
        for aftermath in aftermaths {
            // The panic has been reported by the hook; the next cache must not suffer for it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(aftermath));
        }
    };
    let _ = thread::Builder::new()
        .name("haybox-reaper".into())
        .spawn(reap);
    sender
});

/// Slices that may wait for the reaper before the keeper passes over caches that need it.
const REAPER_BACKLOG: usize = 64;

/// How soon the keeper comes back to a cache whose aftermath found no room.
const RETRY: Duration = Duration::from_millis(20);

/// However short the interval, the keeper sleeps this long between two turns of a cache.
const SHORTEST_TURN: Duration = Duration::from_millis(1);

/// When to sweep a cache next: somewhat sooner than asked, so that what expires right after a sweep
/// is gone within one interval of its deadline, the time of the sweep included.
///
/// Turns are aligned to multiples of that, so that ten thousand caches with the same interval wake
/// the keeper once and not ten thousand times.
fn next_turn(interval: Duration) -> Instant {
    let interval = (interval - interval / 5).max(SHORTEST_TURN);
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let elapsed = START.elapsed();
    let into_turn = elapsed.as_nanos() % interval.as_nanos();
    let rest = interval.saturating_sub(Duration::from_nanos(u64::try_from(into_turn).unwrap_or(0)));
    let far = Duration::from_secs(86_400);
    Instant::now() + rest.min(far)
}

fn keep(new_jobs: Receiver<Job>) {
    let mut jobs = BinaryHeap::new();
    loop {
        match wait(&new_jobs, jobs.peek()) {
            Ok(job) => jobs.push(Reverse(job)),
            Err(RecvTimeoutError::Timeout) => turn(&mut jobs),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Waits for the next new cache, at most until the first turn is due.
fn wait(new_jobs: &Receiver<Job>, first: Option<&Reverse<Job>>) -> Result<Job, RecvTimeoutError> {
    match first {
        Some(Reverse(job)) => new_jobs.recv_deadline(job.due),
        None => new_jobs.recv().map_err(RecvTimeoutError::from),
    }
}

/// Sweeps one slice of every cache whose turn is due.
fn turn(jobs: &mut BinaryHeap<Reverse<Job>>) {
    let now = Instant::now();
    while jobs.peek().is_some_and(|Reverse(job)| job.due <= now) {
        let Some(Reverse(mut job)) = jobs.pop() else {
            return;
        };
        if let Some(wait) = sweep(&job) {
            job.due = wait;
            jobs.push(Reverse(job));
        }
    }
}

/// Sweeps one slice and says when the next turn is, `None` when the cache is gone.
fn sweep(job: &Job) -> Option<Instant> {
    let cache = job.sweep.upgrade()?;
    if cache.needs_reaper() && REAPER.is_full() {
        return Some(Instant::now() + RETRY);
    }
    // No code of the user's runs in a slice, so a panic is a bug of ours. It must not end the
    // sweeping of every other cache of the process.
    let slice = std::panic::AssertUnwindSafe(|| cache.sweep_slice());
    let Ok(swept) = std::panic::catch_unwind(slice) else {
        return Some(next_turn(cache.interval()));
    };
    if let Some(aftermath) = swept.aftermath {
        hand_over(aftermath);
    }
    let next = if swept.more {
        // A cache with more to do comes again at once, after the others that are due now.
        Instant::now()
    } else {
        next_turn(cache.interval())
    };
    let_go(cache);
    Some(next)
}

/// Drops the keeper's hold of a cache. When the last handle went meanwhile, that drops the
/// closures that the user gave the builder, and so is for the reaper.
fn let_go(cache: Arc<dyn Sweep>) {
    if Arc::strong_count(&cache) == 1 {
        return hand_over(Box::new(move || drop(cache)));
    }
    // The last handle may go between the look and this.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(cache)));
}

fn hand_over(aftermath: Aftermath) {
    // Only the keeper sends, and it looked for room first; without a reaper thread nobody
    // receives. Dropping here is then all that can be done, and it must not end the keeper.
    if let Err(refused) = REAPER.try_send(aftermath) {
        let drop_here = std::panic::AssertUnwindSafe(move || drop(refused));
        let _ = std::panic::catch_unwind(drop_here);
    }
}
