//! What the command line may ask for.

use crate::peers::{self, Info};
use crate::workload::{self, Workload};
use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Measures haybox beside other caches, in one process and in turns.
///
/// Writes results.json, a table in Markdown and charts in SVG. Figures count as ratios within one
/// run on a machine that does nothing else.
#[derive(Debug, Parser)]
#[command(name = "peers", version = None)]
pub struct Cli {
    /// What to measure; everything by default
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    pub only: Vec<Part>,

    /// The peers, by name; all by default
    #[arg(long, value_delimiter = ',', value_parser = peer, value_name = "NAMES")]
    pub peers: Vec<&'static Info>,

    /// Numbers of threads for the speed and the roles
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,

    /// Workloads of the speed, by name; all by default
    #[arg(long, value_delimiter = ',', value_parser = a_workload, value_name = "NAMES")]
    pub workloads: Vec<&'static Workload>,

    /// Where the results go
    #[arg(long, default_value = "target/peers", value_name = "DIR")]
    pub out: PathBuf,

    /// Traces for the hit ratio: one little-endian u64 key per request
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub trace: Vec<PathBuf>,

    /// Smaller sizes and fewer rounds: some minutes instead of an hour
    #[arg(long)]
    pub quick: bool,

    /// All sizes, with fewer and shorter rounds and less patience with slow peers: less than half
    /// an hour
    #[arg(long, conflicts_with = "quick")]
    pub brief: bool,

    /// Rounds for each cell of the speed and the roles (15, 9 with --brief, 5 with --quick)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: Option<u16>,

    /// Milliseconds for each round (100, 50 with --brief, 40 with --quick)
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub round_ms: Option<u64>,

    /// Draws tables and charts anew from results.json, and measures nothing
    #[arg(long, conflicts_with_all = ["only", "trace", "brief", "quick"])]
    pub redraw: bool,

    /// Names of the peers and workloads
    #[arg(long)]
    pub list: bool,

    #[command(subcommand)]
    pub child: Option<Child>,
}

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

/// What this program starts itself for.
#[derive(Debug, Subcommand)]
pub enum Child {
    /// Measures one thing and prints it
    #[command(hide = true)]
    Job { job: String },
}

fn peer(name: &str) -> Result<&'static Info, String> {
    let known = || {
        let ids: Vec<_> = peers::ALL.iter().map(|info| info.id).collect();
        format!("there are {}", ids.join(", "))
    };
    peers::info(name).ok_or_else(known)
}

fn a_workload(name: &str) -> Result<&'static Workload, String> {
    let known = || {
        let ids: Vec<_> = workload::ALL.iter().map(|workload| workload.id).collect();
        format!("there are {}", ids.join(", "))
    };
    let found = workload::ALL.iter().find(|workload| workload.id == name);
    found.ok_or_else(known)
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
    pub fn of(cli: &Cli) -> Self {
        let mut settings = match (cli.quick, cli.brief) {
            (true, _) => quick(),
            (false, true) => brief(),
            (false, false) => full(),
        };
        if let Some(rounds) = cli.rounds {
            settings.rounds = usize::from(rounds);
        }
        if let Some(round) = cli.round_ms {
            settings.round = Duration::from_millis(round);
        }
        settings
    }
}

fn full() -> Settings {
    Settings {
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

fn brief() -> Settings {
    Settings {
        rounds: 9,
        round: Duration::from_millis(50),
        insertions: 2_000_000,
        latency_rounds: 3,
        ttl: Duration::from_secs(8),
        rest: Duration::from_secs(5),
        patience: Duration::from_secs(8),
        generated: 0.25,
        ..full()
    }
}

fn quick() -> Settings {
    Settings {
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
        ..full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let error = Cli::try_parse_from(["peers", "--peers", "memcached"]).unwrap_err();
        assert!(error.to_string().contains("quick_cache"));
        let error = Cli::try_parse_from(["peers", "--workloads", "x"]).unwrap_err();
        assert!(error.to_string().contains("read-hot"));
    }
}
