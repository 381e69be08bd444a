//! What was measured, as it is written to and read from `results.json`.

use crate::machine::Machine;
use crate::peers;
use crate::settings::{Part, Settings};
use serde::{Deserialize, Serialize};
use std::mem::take;
use std::time::Duration;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub settings: Settings,
    /// What was left out, and why.
    pub notes: Vec<String>,
    pub speed: Vec<Cell>,
    pub size: Vec<SizeCell>,
    pub latency: Vec<LatencyRow>,
    pub memory: Vec<MemoryRow>,
    pub hits: Vec<HitRow>,
    pub summary: Vec<Summary>,
    /// The other roles; the workload of a cell is the job.
    #[serde(default)]
    pub roles: Vec<Cell>,
    #[serde(default)]
    pub roles_summary: Vec<Summary>,
}

impl Results {
    /// Whether a part has nothing of any peer. Neither the clock nor a policy is one.
    pub fn lacks(&self, part: Part) -> bool {
        let is_peer = |id: &str| peers::known(id).is_some();
        match part {
            Part::Speed => self.speed.is_empty(),
            Part::Size => self.size.is_empty(),
            Part::Latency => !self.latency.iter().any(|row| is_peer(&row.peer)),
            Part::Memory => self.memory.is_empty(),
            Part::Hits => !self.hits.iter().any(|row| is_peer(&row.peer)),
            Part::Roles => self.roles.is_empty(),
        }
    }

    /// Takes over a part of another run's.
    pub fn take_over(&mut self, part: Part, other: &mut Self) {
        match part {
            Part::Speed => {
                self.speed = take(&mut other.speed);
                self.summary = take(&mut other.summary);
            }
            Part::Size => self.size = take(&mut other.size),
            Part::Latency => self.latency = take(&mut other.latency),
            Part::Memory => self.memory = take(&mut other.memory),
            Part::Hits => self.hits = take(&mut other.hits),
            Part::Roles => {
                self.roles = take(&mut other.roles);
                self.roles_summary = take(&mut other.roles_summary);
            }
        }
    }
}

/// One peer under one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub workload: String,
    pub threads: usize,
    pub peer: String,
    /// The median of the rounds; wall-clock time over the operations of all threads.
    pub nanos: f64,
    pub rounds: Vec<f64>,
    /// The share of reads that hit; none where nothing is read.
    pub hit_ratio: Option<f64>,
    /// The entries at the end, for each one that there was to be room for. More than 1 where the
    /// bound does not hold, or is another.
    #[serde(default)]
    pub fullness: f64,
    /// Of a churn: nanoseconds of all processors for each operation, with what is done in the
    /// background afterwards.
    #[serde(default)]
    pub processor: Option<f64>,
}

impl Cell {
    pub fn least(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.rounds.iter().copied().fold(0.0, f64::max)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SizeCell {
    pub entries: usize,
    pub peer: String,
    pub nanos: f64,
    pub rounds: Vec<f64>,
    pub hit_ratio: f64,
    /// Whether the peers took turns: where they do not fit into memory together, each is measured
    /// by itself.
    pub in_turns: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyRow {
    pub scenario: String,
    pub peer: String,
    pub operations: u64,
    pub mean: f64,
    /// Operations over a millisecond.
    pub slow: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
    /// The same without operations in which the scheduler took the processor away.
    #[serde(default)]
    pub undisturbed_p9999: u64,
    #[serde(default)]
    pub undisturbed_max: u64,
    /// That of each round, in ascending order.
    pub p9999_of_rounds: Vec<u64>,
    /// Points of the curve: the share of operations that took longer, and the nanoseconds.
    pub curve: Vec<(f64, u64)>,
}

impl LatencyRow {
    /// The medians of a peer's rounds, but the longest of all: none that a cache may take is to be
    /// hidden by two rounds in which it did not.
    pub fn of_rounds(peer: &str, rounds: &[Self]) -> Option<Self> {
        let rounds: Vec<&Self> = rounds.iter().filter(|row| row.peer == peer).collect();
        let sorted = |field: &dyn Fn(&Self) -> u64| {
            let mut values: Vec<u64> = rounds.iter().map(|row| field(row)).collect();
            values.sort_unstable();
            values
        };
        let middle = |field: &dyn Fn(&Self) -> u64| sorted(field)[rounds.len() / 2];
        let most = |field: &dyn Fn(&Self) -> u64| sorted(field)[rounds.len() - 1];
        let first = *rounds.first()?;
        let points = rounds.iter().map(|row| row.curve.len()).min()?;
        let point = |at: usize| (first.curve[at].0, middle(&|row| row.curve[at].1));
        Some(Self {
            scenario: first.scenario.clone(),
            peer: first.peer.clone(),
            operations: middle(&|row| row.operations),
            mean: rounds.iter().map(|row| row.mean).sum::<f64>() / rounds.len() as f64,
            slow: most(&|row| row.slow),
            p50: middle(&|row| row.p50),
            p90: middle(&|row| row.p90),
            p99: middle(&|row| row.p99),
            p999: middle(&|row| row.p999),
            p9999: middle(&|row| row.p9999),
            max: most(&|row| row.max),
            undisturbed_p9999: middle(&|row| row.undisturbed_p9999),
            undisturbed_max: most(&|row| row.undisturbed_max),
            p9999_of_rounds: sorted(&|row| row.p9999),
            curve: (0..points).map(point).collect(),
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryRow {
    pub peer: String,
    /// The entries that there is room for, and as many are inserted.
    pub room: usize,
    /// Whether the values are 100 bytes on the heap.
    pub payload: bool,
    pub full: Full,
    /// After as many more were inserted.
    pub evicted: Option<Full>,
    /// The share of a core that the process uses while nothing is asked of it, in percent.
    pub rest_percent: Option<f64>,
    pub expired: Option<Expired>,
}

/// What is in a cache, and the bytes for each entry of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Full {
    pub entries: usize,
    pub allocated: f64,
    pub resident: f64,
}

impl Full {
    pub fn of(entries: usize, allocated: i64, resident: i64) -> Self {
        let per_entry = |bytes: i64| bytes as f64 / entries.max(1) as f64;
        Self {
            entries,
            allocated: per_entry(allocated),
            resident: per_entry(resident),
        }
    }
}

/// After the last deadline has passed: bytes that are left of those before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Expired {
    pub allocated_before: i64,
    pub resident_before: i64,
    /// Without any call of the cache.
    pub allocated_untouched: i64,
    pub resident_untouched: i64,
    pub entries_untouched: usize,
    /// After one look-up of a key that was never there, and the time that it took.
    pub first_call: Duration,
    pub allocated_called: i64,
    pub resident_called: i64,
    /// After the call that does its housekeeping.
    pub allocated_settled: i64,
    pub resident_settled: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HitRow {
    pub trace: String,
    pub requests: usize,
    pub distinct: usize,
    /// Percent of the distinct keys.
    pub share: f64,
    pub capacity: usize,
    pub peer: String,
    /// What the peer can really hold, where that differs.
    pub effective_capacity: Option<usize>,
    /// Of a peer.
    #[serde(default)]
    pub held: Option<Held>,
    pub percent: f64,
}

/// The entries that could be read of a cache, from when it was full, or all the time if it never
/// was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub mean: f64,
    pub most: usize,
}

impl HitRow {
    /// The entries that were held, for each one that there was room for.
    pub fn fullness(&self) -> Option<f64> {
        self.held.map(|held| held.mean / self.capacity as f64)
    }
}

/// How many times as fast haybox is as others: a geometric mean over cells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub against: String,
    pub mean: f64,
    pub cells: Vec<Ratio>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    pub workload: String,
    pub threads: usize,
    pub haybox: f64,
    pub peer: String,
    pub other: f64,
    /// The median of the ratios of the rounds, and between which two the middle half of them lies.
    pub ratio: f64,
    #[serde(default)]
    pub quartiles: (f64, f64),
}

impl Ratio {
    /// Whether the other is faster by more than the noise: in three rounds out of four.
    pub fn is_behind(&self) -> bool {
        self.quartiles.1 < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(peer: &str, nanos: u64) -> LatencyRow {
        LatencyRow {
            scenario: "grow".to_string(),
            peer: peer.to_string(),
            operations: 10,
            mean: nanos as f64,
            slow: nanos / 30,
            p50: nanos,
            p90: nanos,
            p99: nanos,
            p999: nanos,
            p9999: nanos,
            max: nanos,
            undisturbed_p9999: nanos,
            undisturbed_max: nanos,
            p9999_of_rounds: Vec::new(),
            curve: vec![(0.5, nanos)],
        }
    }

    #[test]
    fn rounds_come_to_their_medians_and_the_longest_of_all() {
        let rounds = [20, 90, 30].map(|nanos| round("moka", nanos));
        let rounds = [&rounds[..], &[round("haybox", 5)]].concat();
        let moka = LatencyRow::of_rounds("moka", &rounds).unwrap();
        assert_eq!((moka.p50, moka.p9999, moka.curve[0].1), (30, 30, 30));
        assert_eq!((moka.max, moka.undisturbed_max, moka.slow), (90, 90, 3));
        assert_eq!(moka.p9999_of_rounds, [20, 30, 90]);
        assert!(LatencyRow::of_rounds("scc", &rounds).is_none());
    }

    #[test]
    fn a_part_with_the_clock_alone_has_nothing_of_a_peer() {
        let mut results = Results {
            latency: vec![round("clock", 1)],
            ..Results::default()
        };
        assert!(results.lacks(Part::Latency) && results.lacks(Part::Speed));
        results.latency.push(round("haybox", 1));
        assert!(!results.lacks(Part::Latency));
    }
}
