//! Times of single operations, and what the scheduler had to do with them.

use crate::table::{nanos, note};
use std::fs;
use std::hint::black_box;
use std::time::Instant;

/// Buckets for each doubling of the time.
const STEPS: u64 = 32;

/// What counts as slow, in nanoseconds.
const SLOW: u64 = 1_000_000;

/// A histogram of times, exact to 3 %.
pub struct Times {
    buckets: Vec<u64>,
    longest: u64,
    /// The longest in which the scheduler did not take the processor away.
    longest_undisturbed: u64,
    slow: u64,
    /// Slow ones in which the scheduler took the processor away. The few turns that a waiting
    /// thread gives away before it goes to sleep look the same.
    preempted: u64,
    /// Slow ones in which the thread gave up the processor of itself: it waited for a lock.
    pub blocked: u64,
    switches: Switches,
}

impl Times {
    pub fn new() -> Self {
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
    pub fn measure<R>(&mut self, operation: impl FnOnce() -> R) {
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

    pub fn report(&self, what: &str) {
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
