//! The keeper: one thread of the process that sweeps every cache with expiring entries.
//!
//! It starts with the first deadline that any cache is given, so a process without deadlines has
//! no thread. It knows caches only weakly and never owns one. It works in slices of about a
//! millisecond and turns to the next cache in between, so a big cache does not delay a small one.
//!
//! The keeper runs no code of the user's and waits for no lock. Where values have destructors or
//! somebody listens, it hands what it removed to a second thread, the reaper. A destructor or
//! listener that blocks therefore holds back the background expiry of caches that need the reaper,
//! and nothing else: reads see no expired value in any case. Caches that wait for room at the
//! reaper stand in line and cost nothing until there is some, however many they are.

use super::Clock;
use crate::contain::contain;
use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, TryRecvError};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, LazyLock, OnceLock, Weak};
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

fn start_reaper() -> Sender<Aftermath> {
    let (sender, aftermaths) = crossbeam_channel::bounded::<Aftermath>(REAPER_BACKLOG);
    let reap = move || {
        for aftermath in aftermaths {
            // The next cache must not suffer for one that panics.
            let _ = contain(aftermath);
        }
    };
    let _ = thread::Builder::new()
        .name("haybox-reaper".into())
        .spawn(reap);
    sender
}

/// Slices that may wait for the reaper before caches that need it have to wait themselves.
const REAPER_BACKLOG: usize = 64;

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
    let mut keeper = Keeper::default();
    loop {
        match keeper.wait(&new_jobs) {
            Ok(job) => keeper.jobs.push(Reverse(job)),
            Err(RecvTimeoutError::Timeout) => keeper.turn(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[derive(Default)]
struct Keeper {
    jobs: BinaryHeap<Reverse<Job>>,
    /// Those whose turn has come and that wait for room at the reaper.
    held: VecDeque<Job>,
    reaper: OnceLock<Sender<Aftermath>>,
}

impl Keeper {
    /// Waits for the next new cache, at most until the first turn is due, or until the reaper has
    /// room for those that wait for it.
    fn wait(&self, new_jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let first = self.jobs.peek().map(|Reverse(job)| job.due);
        if !self.held.is_empty() {
            return self.wait_for_room(new_jobs, first);
        }
        match first {
            Some(due) => new_jobs.recv_deadline(due),
            None => new_jobs.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn wait_for_room(
        &self,
        new_jobs: &Receiver<Job>,
        first: Option<Instant>,
    ) -> Result<Job, RecvTimeoutError> {
        let mut either = Select::new();
        let new = either.recv(new_jobs);
        either.send(self.reaper());
        let ready = match first {
            Some(due) => either.ready_deadline(due).ok(),
            None => Some(either.ready()),
        };
        if ready != Some(new) {
            return Err(RecvTimeoutError::Timeout);
        }
        new_jobs.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Sweeps one slice of every cache whose turn is due, those that wait for the reaper first.
    fn turn(&mut self) {
        let now = Instant::now();
        while !self.held.is_empty() && !self.reaper().is_full() {
            let held = self.held.pop_front();
            held.into_iter().for_each(|job| self.sweep(job));
        }
        while self.jobs.peek().is_some_and(|Reverse(job)| job.due <= now) {
            let due = self.jobs.pop();
            due.into_iter().for_each(|Reverse(job)| self.sweep(job));
        }
    }

    /// Sweeps one slice of a cache, unless it is gone, and notes its next turn.
    fn sweep(&mut self, mut job: Job) {
        let Some(cache) = job.sweep.upgrade() else {
            return;
        };
        if cache.needs_reaper() && self.reaper().is_full() {
            return self.held.push_back(job);
        }
        job.due = self.sweep_slice(&*cache);
        self.jobs.push(Reverse(job));
        self.let_go(cache);
    }

    /// Sweeps a slice and says when the next turn is.
    fn sweep_slice(&self, cache: &dyn Sweep) -> Instant {
        // No code of the user's runs in a slice, so a panic is a bug of ours. It must not end the
        // sweeping of every other cache of the process.
        let Some(swept) = contain(|| cache.sweep_slice()) else {
            return next_turn(cache.interval());
        };
        if let Some(aftermath) = swept.aftermath {
            self.hand_over(aftermath);
        }
        if swept.more {
            // A cache with more to do comes again at once, after the others that are due now.
            return Instant::now();
        }
        next_turn(cache.interval())
    }

    /// Drops the keeper's hold of a cache. When the last handle went meanwhile, that drops the
    /// closures that the user gave the builder, and so is for the reaper.
    fn let_go(&self, cache: Arc<dyn Sweep>) {
        if Arc::strong_count(&cache) == 1 {
            return self.hand_over(Box::new(move || drop(cache)));
        }
        // The last handle may go between the look and this.
        let _ = contain(move || drop(cache));
    }

    fn hand_over(&self, aftermath: Aftermath) {
        // Only the keeper sends, and it looked for room first; without a reaper thread nobody
        // receives. Dropping here is then all that can be done, and it must not end the keeper.
        if let Err(refused) = self.reaper().try_send(aftermath) {
            let _ = contain(move || drop(refused));
        }
    }

    /// The reaper, whose thread starts when it is needed first.
    fn reaper(&self) -> &Sender<Aftermath> {
        self.reaper.get_or_init(start_reaper)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::contain::Fragile;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A cache whose every slice leaves something for the reaper.
    #[derive(Default)]
    struct Needy {
        asked: AtomicUsize,
        swept: AtomicUsize,
    }

    impl Sweep for Needy {
        fn interval(&self) -> Duration {
            Duration::from_secs(86_400)
        }

        fn sweep_slice(&self) -> Swept {
            self.swept.fetch_add(1, Relaxed);
            let aftermath: Aftermath = Box::new(|| ());
            Swept {
                more: false,
                aftermath: Some(aftermath),
            }
        }

        fn needs_reaper(&self) -> bool {
            self.asked.fetch_add(1, Relaxed);
            true
        }
    }

    /// A keeper whose reaper has room for one, with caches whose turn is due.
    fn crowded(caches: &[Arc<Needy>]) -> (Keeper, Receiver<Aftermath>) {
        let (reaper, aftermaths) = crossbeam_channel::bounded(1);
        let mut keeper = Keeper {
            reaper: OnceLock::from(reaper),
            ..Keeper::default()
        };
        for cache in caches {
            let sweep: Weak<Needy> = Arc::downgrade(cache);
            let due = Instant::now();
            keeper.jobs.push(Reverse(Job { due, sweep }));
        }
        (keeper, aftermaths)
    }

    fn total(caches: &[Arc<Needy>], count: impl Fn(&Needy) -> &AtomicUsize) -> usize {
        caches.iter().map(|cache| count(cache).load(Relaxed)).sum()
    }

    #[test]
    fn who_waits_for_the_reaper_is_left_alone_until_it_has_room() {
        let caches: Vec<_> = (0..10).map(|_| Arc::<Needy>::default()).collect();
        let (mut keeper, aftermaths) = crowded(&caches);
        for swept in 1..=caches.len() {
            (0..100).for_each(|_| keeper.turn());
            assert_eq!(total(&caches, |cache| &cache.swept), swept);
            assert_eq!(total(&caches, |cache| &cache.asked), 9 + swept);
            aftermaths.try_recv().expect("what the slice has left")();
        }
        assert!(caches.iter().all(|cache| cache.swept.load(Relaxed) == 1));
        assert_eq!((keeper.held.len(), keeper.jobs.len()), (0, caches.len()));
    }

    #[test]
    fn room_at_the_reaper_wakes_the_keeper_as_a_new_cache_does() {
        let caches = [Arc::<Needy>::default(), Arc::default()];
        let (mut keeper, aftermaths) = crowded(&caches);
        keeper.turn();
        let (register, new_jobs) = crossbeam_channel::unbounded();
        let due = Instant::now();
        let sweep: Weak<Needy> = Weak::new();
        register.send(Job { due, sweep }).expect("a receiver");
        assert!(keeper.wait(&new_jobs).is_ok());
        drop(aftermaths.try_recv());
        let woken = keeper.wait(&new_jobs).map(drop);
        assert_eq!(woken, Err(RecvTimeoutError::Timeout));
        keeper.turn();
        assert_eq!(total(&caches, |cache| &cache.swept), 2);
    }

    #[test]
    fn the_reaper_outlives_what_panics_as_it_is_dropped() {
        let reaper = start_reaper();
        let (reaped, tell) = crossbeam_channel::bounded(1);
        reaper.send(Box::new(|| Fragile::throw())).unwrap();
        reaper
            .send(Box::new(move || reaped.send(()).unwrap()))
            .unwrap();
        drop(reaper);
        assert_eq!(tell.recv(), Ok(()));
    }

    #[test]
    fn the_next_turn_is_within_four_fifths_of_the_interval() {
        let waits = (1..100).map(Duration::from_secs).map(|interval| {
            let before = Instant::now();
            let turn = next_turn(interval);
            assert!(turn >= before && turn <= Instant::now() + interval * 4 / 5);
            turn - before
        });
        assert!(waits.max() > Some(SHORTEST_TURN));
        let turn = next_turn(Duration::ZERO);
        assert!(turn <= Instant::now() + SHORTEST_TURN);
    }
}
