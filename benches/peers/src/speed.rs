//! Nanoseconds for each operation, by workload and number of threads; and by the number of entries.
//!
//! All peers of a cell are alive at the same time and take turns, so that whatever else the machine
//! does falls on all of them alike. The first turn only finds out how many operations fill a round.

use crate::child;
use crate::data::{Key, Value};
use crate::machine::{number_in, processor_time};
use crate::peers::{self, Info, Options, Subject};
use crate::progress::Progress;
use crate::results::{Cell, SizeCell};
use crate::settings::Settings;
use crate::turns::{self, median};
use crate::workload::{self, Kind, Pattern, Workload};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time to live in the churn.
const CHURN_TTL: Duration = Duration::from_millis(100);

/// So long after its last operation nothing is left to be done of a churn, for who clears what has
/// expired without being called.
const CLEARED: Duration = Duration::from_millis(1_500);

/// One peer of a cell, filled.
struct Runner<K, V> {
    info: &'static Info,
    subject: Subject<K, V>,
    /// Operations of each thread in a round.
    operations: usize,
    rounds: Vec<f64>,
    hits: u64,
    reads: u64,
}

pub fn measure(
    peers: &[&'static Info],
    workloads: &[&'static Workload],
    threads: &[usize],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for workload in workloads {
        let suited: Vec<_> = peers
            .iter()
            .copied()
            .filter(|info| workload.suits(info))
            .collect();
        let (lingering, suited): (Vec<_>, Vec<_>) = suited
            .into_iter()
            .partition(|info| info.lingers && workload.evicts());
        cells.extend(in_turns(&suited, workload, threads, settings, progress)?);
        for info in lingering {
            progress.say(format!("{}: {} by itself", workload.label, info.label));
            let alone = Alone {
                peer: info.id.to_string(),
                workload: workload.id.to_string(),
                threads: threads.to_vec(),
                settings: settings.clone(),
            };
            cells.extend(child::run(&alone, &[])?);
        }
    }
    Ok(cells)
}

/// What a child process measures: one peer that would disturb the others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Alone {
    peer: String,
    workload: String,
    threads: Vec<usize>,
    settings: Settings,
}

impl child::Job for Alone {
    const NAME: &'static str = "speed";

    type Answer = Vec<Cell>;

    fn work(self) -> Result<Vec<Cell>, String> {
        let peer = peers::named(&self.peer)?;
        let named = |workload: &&Workload| workload.id == self.workload;
        let workload = workload::ALL.iter().find(named);
        let workload = workload.ok_or("there is no such workload")?;
        let hidden = Progress::hidden();
        in_turns(&[peer], workload, &self.threads, &self.settings, &hidden)
    }
}

fn in_turns(
    peers: &[&'static Info],
    workload: &Workload,
    threads: &[usize],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<Cell>, String> {
    if workload.is_text {
        of_workload::<String, Arc<[u8]>>(peers, workload, threads, settings, progress)
    } else {
        of_workload::<u64, u64>(peers, workload, threads, settings, progress)
    }
}

/// The length of the ring of keys. Where what was evicted is asked for again, four times as long:
/// in a short one a cache meets the same requests in the same order after ten times its capacity,
/// which is a loop and not the distribution that the row is named after.
fn ring_of(workload: &Workload, settings: &Settings) -> usize {
    if workload.evicts() {
        4 * settings.ring
    } else {
        settings.ring
    }
}

/// How many steps the progress goes on by.
pub fn steps(workloads: &[&'static Workload], threads: &[usize], settings: &Settings) -> u64 {
    (workloads.len() * threads.len() * (settings.rounds + 1)) as u64
}

fn of_workload<K: Key, V: Value>(
    peers: &[&'static Info],
    workload: &Workload,
    threads: &[usize],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<Cell>, String> {
    progress.say(format!("{}: filling", workload.label));
    let ring: Vec<K> = workload
        .numbers(ring_of(workload, settings))
        .into_iter()
        .map(K::make)
        .collect();
    let mut runners = Vec::new();
    for info in peers {
        let subject = filled(info, workload, &ring, settings.patience)?;
        runners.push(Runner::new(info, subject));
    }
    let mut cells = Vec::new();
    for &threads in threads {
        progress.say(format!("{}: threads: {threads}", workload.label));
        let able = |runner: &&mut Runner<K, V>| runner.info.max_threads >= threads;
        for round in 0..=settings.rounds {
            turns::shuffle(&mut runners, round);
            for runner in runners.iter_mut().filter(able) {
                if round == 0 {
                    runner.calibrate(workload.kind, &ring, threads, settings.round);
                } else {
                    runner.round(workload.kind, &ring, threads, round);
                }
            }
            progress.step();
        }
        runners.sort_by_key(|runner| peers::ALL.iter().position(|info| info.id == runner.info.id));
        for runner in runners.iter_mut().filter(able) {
            let processor =
                (workload.kind == Kind::Churn).then(|| runner.processor_time(&ring, threads));
            cells.push(runner.finish(workload, threads, processor));
        }
    }
    // Dropping it would wait for what its threads have left to do; this process is for it alone.
    let lingers = |runner: &mut Runner<K, V>| runner.info.lingers && workload.evicts();
    runners.extract_if(.., lingers).for_each(std::mem::forget);
    Ok(cells)
}

/// Builds a peer and brings it to where the workload's operations find it.
fn filled<K: Key, V: Value>(
    info: &Info,
    workload: &Workload,
    ring: &[K],
    patience: Duration,
) -> Result<Subject<K, V>, String> {
    let mut options = Options::bounded(workload.capacity);
    if workload.kind == Kind::Churn {
        options.ttl = CHURN_TTL;
    }
    let subject = peers::build::<K, V>(info, options)?;
    match workload.kind {
        Kind::Read | Kind::Mixed => subject.fill(workload.keys),
        // The churn's own first turn fills it as far as it will be.
        Kind::Churn => {}
        // As many operations as it takes for what is resident to be what the policy has chosen.
        kind => {
            let started = Instant::now();
            let step = workload.capacity / 100;
            for from in (0..10 * workload.capacity).step_by(step) {
                if started.elapsed() > patience {
                    break;
                }
                subject.run(kind, ring, ring.len() / 2 + from, step);
            }
        }
    }
    Ok(subject)
}

impl<K: Key, V: Value> Runner<K, V> {
    fn new(info: &'static Info, subject: Subject<K, V>) -> Self {
        Self {
            info,
            subject,
            operations: 0,
            rounds: Vec::new(),
            hits: 0,
            reads: 0,
        }
    }

    /// Finds how many operations take about the time of a round, which warms it up as well.
    fn calibrate(&mut self, kind: Kind, ring: &[K], threads: usize, time: Duration) {
        self.operations = turns::fill(time, |operations| {
            let (nanos, _) = self.turn(kind, ring, threads, operations, ring.len() / 3);
            nanos * (operations * threads) as f64
        });
        self.rounds.clear();
        (self.hits, self.reads) = (0, 0);
    }

    fn round(&mut self, kind: Kind, ring: &[K], threads: usize, round: usize) {
        let from = round * (turns::warming(self.operations) + self.operations);
        let (nanos, hits) = self.turn(kind, ring, threads, self.operations, from);
        self.rounds.push(nanos);
        self.hits += hits;
        self.reads += reads(kind, self.operations * threads);
    }

    /// Lets all threads run, each from another place of the ring on: nanoseconds for each operation
    /// of any thread, and the hits.
    fn turn(
        &self,
        kind: Kind,
        ring: &[K],
        threads: usize,
        operations: usize,
        from: usize,
    ) -> (f64, u64) {
        let warming = turns::warming(operations);
        let from = |thread: usize| from + thread * (ring.len() / threads);
        let (took, hits) = turns::at_once(
            threads,
            |thread| _ = self.subject.run(kind, ring, from(thread), warming),
            |thread| {
                self.subject
                    .run(kind, ring, from(thread) + warming, operations)
            },
        );
        let nanos = took.as_nanos() as f64 / (operations * threads) as f64;
        (nanos, hits.into_iter().sum())
    }

    /// Nanoseconds of all processors for each operation of a churn, with what is done in the
    /// background until all has expired: in a round that falls on whoever has the next turn.
    fn processor_time(&self, ring: &[K], threads: usize) -> f64 {
        std::thread::sleep(CLEARED);
        let before = processor_time();
        self.turn(Kind::Churn, ring, threads, self.operations, 0);
        std::thread::sleep(CLEARED);
        let took = processor_time().saturating_sub(before);
        let operations = turns::warming(self.operations) + self.operations;
        took.as_nanos() as f64 / (operations * threads) as f64
    }

    fn finish(&mut self, workload: &Workload, threads: usize, processor: Option<f64>) -> Cell {
        let rounds = std::mem::take(&mut self.rounds);
        Cell {
            workload: workload.id.to_string(),
            threads,
            peer: self.info.id.to_string(),
            nanos: median(&rounds),
            hit_ratio: (self.reads > 0).then(|| self.hits as f64 / self.reads as f64),
            rounds,
            fullness: self.subject.len() as f64 / workload.capacity as f64,
            processor,
        }
    }
}

/// How many of the operations are reads.
fn reads(kind: Kind, operations: usize) -> u64 {
    let operations = operations as u64;
    match kind {
        Kind::Read | Kind::CacheAside => operations,
        Kind::Insert => 0,
        Kind::Mixed => operations * 9 / 10,
        Kind::Churn => operations / 2,
    }
}

// ---- by size ----

pub fn size_steps(peers: &[&'static Info], settings: &Settings) -> u64 {
    let groups = |size: &usize| by_group(&readable(peers), *size).len();
    let groups: usize = settings.sizes.iter().map(groups).sum();
    (groups * (settings.rounds + 1)) as u64
}

/// Each read of a server is a trip through the network, whatever its size.
fn readable(peers: &[&'static Info]) -> Vec<&'static Info> {
    peers
        .iter()
        .copied()
        .filter(|info| info.class != peers::Class::Server)
        .collect()
}

/// Those that are measured in turns: all, or where memory does not suffice each by itself.
fn by_group(peers: &[&'static Info], entries: usize) -> Vec<Vec<&'static Info>> {
    let available = number_in("/proc/meminfo", "MemAvailable:") << 10;
    let needed = (entries * peers.len()) as u64 * BYTES_PER_ENTRY;
    let fit = available == 0 || needed < available / 2;
    let together = if fit { peers.len().max(1) } else { 1 };
    peers.chunks(together).map(<[_]>::to_vec).collect()
}

/// What an entry takes up at most, for all that is known before it is measured.
const BYTES_PER_ENTRY: u64 = 250;

/// Reads of one thread, uniform over all entries.
pub fn by_size(
    peers: &[&'static Info],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<SizeCell>, String> {
    let peers = readable(peers);
    let mut cells = Vec::new();
    for &entries in &settings.sizes {
        let workload = Workload {
            id: "size",
            label: "read, uniform",
            kind: Kind::Read,
            pattern: Pattern::Uniform,
            keys: entries,
            capacity: entries + entries / 4,
            is_text: false,
        };
        for group in by_group(&peers, entries) {
            progress.say(format!("read of {entries} entries"));
            let in_turns = group.len() == peers.len();
            let group = of_workload::<u64, u64>(&group, &workload, &[1], settings, progress)?;
            cells.extend(group.into_iter().map(|cell| SizeCell {
                entries,
                peer: cell.peer,
                nanos: cell.nanos,
                rounds: cell.rounds,
                hit_ratio: cell.hit_ratio.unwrap_or_default(),
                in_turns,
            }));
        }
    }
    Ok(cells)
}
