//! The times of single operations: not how fast the cache is, but how long it may make one wait.

use crate::child;
use crate::machine::number_in;
use crate::peers::{self, Class, HOUR, Info, Options, Subject};
use crate::progress::Progress;
use crate::results::LatencyRow;
use crate::settings::Settings;
use crate::turns;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub is_read: bool,
    pub operations: usize,
    /// Keys are drawn from so many; 0 counts them up, each a new one.
    pub keys: u64,
    /// Fewer operations where they take longer than this.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Scenario {
    Grow,
    GrowUnbounded,
    Evict,
    ReadBesideWriter,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario::Grow,
    Scenario::GrowUnbounded,
    Scenario::Evict,
    Scenario::ReadBesideWriter,
];

/// Operations for a server, each of which is a trip through the network.
const SERVER_OPERATIONS: usize = 100_000;

const EVICTING_CAPACITY: usize = 100_000;
const READ_KEYS: usize = 1_000_000;

impl Scenario {
    fn id(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::GrowUnbounded => "grow-unbounded",
            Self::Evict => "evict",
            Self::ReadBesideWriter => "read-beside-writer",
        }
    }

    fn suits(self, info: &Info) -> bool {
        match self {
            // The pipeline has no single operations.
            _ if info.id == "redis-pipelined" => false,
            Self::Grow => info.evicts,
            Self::GrowUnbounded => info.grows && info.class != Class::Server,
            Self::Evict => info.evicts,
            Self::ReadBesideWriter => info.max_threads > 1,
        }
    }
}

pub fn label(scenario: &str) -> &str {
    match scenario {
        "grow" => "insert, growing from empty to its bound",
        "grow-unbounded" => "insert, growing without a bound",
        "evict" => "insert and evict, room for 100 k",
        "read-beside-writer" => "read of 1 M entries beside a writer",
        other => other,
    }
}

pub fn steps(peers: &[&'static Info], settings: &Settings) -> u64 {
    let suited = |scenario: &Scenario| peers.iter().filter(|info| scenario.suits(info)).count() + 1;
    (SCENARIOS.iter().map(suited).sum::<usize>() * settings.latency_rounds) as u64
}

/// What a child process is to time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Time {
    scenario: Scenario,
    /// None: what the machine does to operations that do nothing, so many of them, which take so
    /// many nanoseconds each.
    peer: Option<String>,
    nothing: (u64, u64),
    settings: Settings,
}

/// Each peer in a process of its own, so that none finds memory that another has left, and in turns.
pub fn measure(
    peers: &[&'static Info],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<LatencyRow>, String> {
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let time = |peer: Option<&Info>, nothing| {
            let what = peer.map_or("nothing", |info| info.label);
            progress.say(format!("{}: {what}", label(scenario.id())));
            let job = Time {
                scenario,
                peer: peer.map(|info| info.id.to_string()),
                nothing,
                settings: settings.clone(),
            };
            let row = child::run(&job, &[])?;
            progress.step();
            Ok::<_, String>(row)
        };
        let mut suited: Vec<&Info> = peers.to_vec();
        suited.retain(|info| scenario.suits(info));
        let mut rounds: Vec<LatencyRow> = Vec::new();
        for round in 0..settings.latency_rounds {
            turns::shuffle(&mut suited, round);
            let from = rounds.len();
            for info in &suited {
                rounds.push(time(Some(info), (0, 0))?);
            }
            let ours = rounds[from..].iter().find(|row| row.peer == "haybox");
            let like = ours.or(rounds.get(from));
            let nothing = like.map(|row| (row.operations, row.mean as u64));
            rounds.push(time(
                None,
                nothing.unwrap_or((settings.insertions as u64, 0)),
            )?);
        }
        let known = peers.iter().map(|info| info.id).chain(["clock"]);
        rows.extend(known.filter_map(|peer| LatencyRow::of_rounds(peer, &rounds)));
    }
    Ok(rows)
}

impl child::Job for Time {
    const NAME: &'static str = "time";

    type Answer = LatencyRow;

    fn work(self) -> Result<LatencyRow, String> {
        let Some(peer) = &self.peer else {
            let (operations, nanos) = self.nothing;
            return Ok(row(self.scenario, "clock", &nothing(operations, nanos)));
        };
        let info = peers::named(peer)?;
        let times = times(self.scenario, info, &self.settings)?;
        Ok(row(self.scenario, info.id, &times))
    }
}

/// Times of operations.
pub struct Times {
    all: Histogram<u64>,
    /// Without those in which the scheduler gave the processor to another thread, so that they tell
    /// of the peer and not of the machine. What a hypervisor takes away does not show.
    undisturbed: Histogram<u64>,
    /// Counts how often this thread has lost the processor.
    count_switches: fn() -> u64,
    /// The count when it was last looked at, and the time of the operations since then.
    switches: u64,
    unseen: u64,
}

/// No thread loses the processor and has it back within so many nanoseconds.
const LEAST_DISTURBANCE: u64 = 10_000;

/// After so many nanoseconds of operations the switches are counted again. What happened between two
/// counts is laid to the slow operation at their end, and counting before each would be most of what
/// the thread does.
const BETWEEN_COUNTS: u64 = 1_000_000;

impl Times {
    fn new() -> Self {
        Self::counting(forced_switches)
    }

    fn counting(count_switches: fn() -> u64) -> Self {
        Self {
            all: histogram(),
            undisturbed: histogram(),
            count_switches,
            switches: count_switches(),
            unseen: 0,
        }
    }

    /// Called by the thread whose operations come next: what has happened before is none of theirs.
    #[cold]
    pub fn begin(&mut self) {
        self.switches = (self.count_switches)();
        self.unseen = 0;
    }

    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.all.saturating_record(nanos);
        if nanos < LEAST_DISTURBANCE || !self.was_preempted() {
            self.undisturbed.saturating_record(nanos);
        }
        self.unseen += nanos;
        if self.unseen >= BETWEEN_COUNTS {
            self.begin();
        }
    }

    #[cold]
    fn was_preempted(&mut self) -> bool {
        let before = self.switches;
        self.begin();
        self.switches > before
    }
}

/// How often this thread has lost the processor, 0 where the system does not tell.
fn forced_switches() -> u64 {
    number_in("/proc/thread-self/status", "nonvoluntary_ctxt_switches:")
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that the histogram allows")
}

/// As many operations as of the first peer, which do nothing but read the clock until as much time
/// has passed as its took on average. So they last as long together, and their highest times are
/// what interrupts and other processes take away in such a time.
fn nothing(operations: u64, nanos: u64) -> Times {
    let mut times = Times::new();
    times.begin();
    for _ in 0..operations {
        let started = Instant::now();
        let took = loop {
            let elapsed = started.elapsed().as_nanos() as u64;
            if elapsed >= nanos {
                break elapsed;
            }
        };
        times.record(took);
    }
    times
}

fn times(scenario: Scenario, info: &Info, settings: &Settings) -> Result<Times, String> {
    let at_most = |operations: usize| match info.class {
        Class::Server => operations.min(SERVER_OPERATIONS),
        _ => operations,
    };
    let patience = settings.patience;
    let growth = at_most(settings.growth);
    let (capacity, timed) = match scenario {
        Scenario::Grow => (Some(growth), inserts(growth, patience)),
        Scenario::GrowUnbounded => (None, inserts(growth, patience)),
        Scenario::Evict => (
            Some(EVICTING_CAPACITY),
            inserts(at_most(settings.insertions), patience),
        ),
        Scenario::ReadBesideWriter => (
            Some(READ_KEYS + READ_KEYS / 4),
            reads(settings.insertions, patience),
        ),
    };
    let options = Options {
        capacity,
        ttl: HOUR,
    };
    let subject = peers::build::<u64, u64>(info, options)?;
    let mut times = Times::new();
    match scenario {
        Scenario::Evict => subject.fill(EVICTING_CAPACITY),
        Scenario::ReadBesideWriter => {
            subject.fill(READ_KEYS);
            beside_a_writer(&subject, timed, &mut times);
            return Ok(times);
        }
        _ => {}
    }
    subject.time(timed, &AtomicBool::new(false), &mut times);
    // This process ends, and nobody waits until the threads of what lingers are through.
    std::mem::forget(subject);
    Ok(times)
}

fn inserts(operations: usize, patience: Duration) -> Timed {
    Timed {
        is_read: false,
        operations,
        keys: 0,
        patience,
    }
}

fn reads(operations: usize, patience: Duration) -> Timed {
    Timed {
        is_read: true,
        operations,
        keys: READ_KEYS as u64,
        patience,
    }
}

/// Times reads while another thread replaces values as fast as it can.
fn beside_a_writer(subject: &Subject<u64, u64>, timed: Timed, times: &mut Times) {
    let stop = AtomicBool::new(false);
    let writes = Timed {
        is_read: false,
        operations: usize::MAX,
        ..timed
    };
    std::thread::scope(|scope| {
        scope.spawn(|| subject.time(writes, &stop, &mut Times::new()));
        std::thread::sleep(Duration::from_millis(50));
        subject.time(timed, &AtomicBool::new(false), times);
        stop.store(true, Relaxed);
    });
}

/// The curve has so many points for each nine of the share.
const POINTS: i32 = 8;

fn row(scenario: Scenario, peer: &str, both: &Times) -> LatencyRow {
    let times = &both.all;
    let quantile = |share| times.value_at_quantile(share);
    let longer = |point: i32| 10f64.powf(-f64::from(point) / f64::from(POINTS));
    let shares = (0..8 * POINTS).map(longer);
    // Beyond one operation there is nothing to tell.
    let shares = shares.filter(|share| share * times.len() as f64 >= 1.0);
    LatencyRow {
        scenario: scenario.id().to_string(),
        peer: peer.to_string(),
        operations: times.len(),
        mean: times.mean(),
        p9999_of_rounds: Vec::new(),
        slow: times.len() - times.count_between(0, 1_000_000),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        p9999: quantile(0.9999),
        max: times.max(),
        undisturbed_p9999: both.undisturbed.value_at_quantile(0.9999),
        undisturbed_max: both.undisturbed.max(),
        curve: shares.map(|share| (share, quantile(1.0 - share))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static SWITCHES: Cell<u64> = const { Cell::new(0) };
    }

    fn lose_the_processor() {
        SWITCHES.set(SWITCHES.get() + 1);
    }

    /// The slow operations that count as undisturbed after this has happened.
    fn undisturbed(happens: impl FnOnce(&mut Times)) -> u64 {
        let mut times = Times::counting(|| SWITCHES.get());
        happens(&mut times);
        times.undisturbed.len() - times.undisturbed.count_between(0, LEAST_DISTURBANCE)
    }

    #[test]
    fn an_operation_that_lost_the_processor_is_left_out() {
        let slow = undisturbed(|times| {
            times.begin();
            lose_the_processor();
            times.record(50_000);
            times.record(50_000);
        });
        assert_eq!(slow, 1);
    }

    #[test]
    fn what_was_lost_while_a_cache_was_filled_is_not_laid_to_its_operations() {
        let map = peers::named("hashbrown").unwrap();
        let map = peers::build::<u64, u64>(map, Options::bounded(1)).unwrap();
        let slow = undisturbed(|times| {
            lose_the_processor();
            let nothing = inserts(0, Duration::MAX);
            map.time(nothing, &AtomicBool::new(false), times);
            times.record(50_000);
        });
        assert_eq!(slow, 1);
    }

    #[test]
    fn what_was_lost_long_before_a_slow_operation_is_not_laid_to_it() {
        let slow = undisturbed(|times| {
            times.begin();
            lose_the_processor();
            (0..BETWEEN_COUNTS / 100).for_each(|_| times.record(100));
            times.record(50_000);
        });
        assert_eq!(slow, 1);
    }
}
