//! What the command line may ask for.

use crate::peers::{self, Info};
use crate::settings::{Part, Settings};
use crate::workload::{self, Workload};
use clap::{Parser, Subcommand};
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

    /// All sizes, with fewer rounds and less patience with slow peers: three quarters of an hour
    #[arg(long, conflicts_with = "quick")]
    pub brief: bool,

    /// Rounds for each cell of the speed and the roles (15, 7 with --brief, 5 with --quick)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: Option<u16>,

    /// Milliseconds for each round (100, 40 with --quick)
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

impl Cli {
    /// The sizes of the run that is asked for.
    pub fn settings(&self) -> Settings {
        let mut settings = match (self.quick, self.brief) {
            (true, _) => Settings::quick(),
            (false, true) => Settings::brief(),
            (false, false) => Settings::full(),
        };
        if let Some(rounds) = self.rounds {
            settings.rounds = usize::from(rounds);
        }
        if let Some(round) = self.round_ms {
            settings.round = Duration::from_millis(round);
        }
        settings
    }
}

/// What this program starts itself for.
#[derive(Debug, Subcommand)]
pub enum Child {
    /// Measures one thing and prints it
    #[command(hide = true)]
    Job { name: String, job: String },
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
