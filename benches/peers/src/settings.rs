//! The sizes of a run, and its parts.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a run can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Nanoseconds for each operation
    Speed,
    /// Nanoseconds for a read, by the number of entries
    Size,
    /// Times of single operations, up to the longest
    Latency,
    /// Bytes for each entry, after expiry, and the load at rest
    Memory,
    /// Hit ratios of traces
    Hits,
    /// Limits, locks, publishing, counters, presence: nanoseconds for each operation
    Roles,
}

impl Part {
    /// As the command line has it.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or(String::new(), |value| value.get_name().to_string())
    }
}

/// The sizes of a run, and what it was asked to measure. Part of the results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub quick: bool,
    pub rounds: usize,
    pub round: Duration,
    /// Keys that are made before a measurement and asked for in turns.
    pub ring: usize,
    /// The entries of a cache that grows while its single operations are timed.
    pub growth: usize,
    pub insertions: usize,
    /// Processes that time the single operations of a peer, one after another.
    pub latency_rounds: usize,
    pub sizes: Vec<usize>,
    pub entries_weighed: usize,
    pub ttl: Duration,
    pub rest: Duration,
    /// After so long a peer that is very slow is stopped: timed with fewer operations, filled
    /// with fewer, its hit ratio left out.
    pub patience: Duration,
    pub generated: f64,
}

impl Settings {
    /// More than an hour.
    pub fn full() -> Self {
        Self {
            quick: false,
            rounds: 15,
            round: Duration::from_millis(100),
            ring: 1 << 20,
            growth: 10_000_000,
            insertions: 4_000_000,
            latency_rounds: 5,
            sizes: vec![
                1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
            ],
            entries_weighed: 1_000_000,
            ttl: Duration::from_secs(15),
            rest: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            generated: 1.0,
        }
    }

    /// All sizes, with fewer rounds and less patience with slow peers.
    pub fn brief() -> Self {
        Self {
            rounds: 7,
            insertions: 2_000_000,
            latency_rounds: 3,
            ttl: Duration::from_secs(8),
            rest: Duration::from_secs(5),
            patience: Duration::from_secs(8),
            generated: 0.25,
            ..Self::full()
        }
    }

    /// Some minutes.
    pub fn quick() -> Self {
        Self {
            quick: true,
            rounds: 5,
            round: Duration::from_millis(40),
            growth: 1_000_000,
            insertions: 500_000,
            latency_rounds: 1,
            sizes: vec![1000, 10_000, 100_000, 1_000_000],
            ttl: Duration::from_secs(6),
            rest: Duration::from_secs(3),
            patience: Duration::from_secs(4),
            generated: 0.1,
            ..Self::full()
        }
    }
}
