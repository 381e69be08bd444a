//! What it costs to survive a restart: haybox with its files beside itself without, Redis with its
//! append-only file, and redb; in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --features persist --bin persist
//! ```
//!
//! With `--quick` it takes less than a minute. Each section runs in a process of its own, so that
//! none finds the memory of another; within a section all take turns. The files are in a directory
//! under `--dir`, which should be on the disk that is asked about, and are removed.

mod compacting;
mod durable;
mod inserts;
mod reads;
mod recovery;
mod redis;
mod stores;
mod table;

#[path = "../../progress.rs"]
#[allow(dead_code, reason = "the other program uses more of it")]
mod progress;

#[path = "../../out.rs"]
mod out;

use clap::Parser;
use progress::Progress;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use table::{Results, Row};

/// Measures what persistence costs, beside Redis and redb.
#[derive(Debug, Parser)]
#[command(name = "persist", version = None)]
struct Cli {
    /// Where the files are while it runs; a new directory in it is removed at the end
    #[arg(long, default_value = "target", value_name = "DIR")]
    dir: PathBuf,

    /// Where the results go: persist.json and persist.md
    #[arg(long, default_value = "target/peers", value_name = "DIR")]
    out: PathBuf,

    /// A tenth of the entries
    #[arg(long)]
    quick: bool,

    /// These sections only
    #[arg(long, value_delimiter = ',', value_name = "SECTIONS")]
    only: Vec<Section>,

    /// What a child measures
    #[arg(long, hide = true)]
    job: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
enum Section {
    /// Inserts per second under each policy
    Inserts,
    /// Durable commits per second of 64 threads
    Durable,
    /// Reads with and without files
    Reads,
    /// Entries per second at recovery, and bytes of disk for each
    Recovery,
    /// Latency of inserts, and memory, while compacting
    Compacting,
}

const SECTIONS: [Section; 5] = [
    Section::Inserts,
    Section::Durable,
    Section::Reads,
    Section::Recovery,
    Section::Compacting,
];

/// What a section is told.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    section: Section,
    dir: PathBuf,
    quick: bool,
}

impl Job {
    /// A number of entries or operations: a tenth of it in a quick run.
    fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }

    /// A path for files that do not exist yet.
    fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.dir.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| table::said(&path, error))?;
        }
        Ok(path)
    }

    fn run(&self) -> Result<Vec<Row>, String> {
        match self.section {
            Section::Inserts => inserts::measure(self),
            Section::Durable => durable::measure(self),
            Section::Reads => reads::measure(self),
            Section::Recovery => recovery::measure(self),
            Section::Compacting => compacting::measure(self),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.job {
        Some(job) => work(job),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    for dir in [&cli.dir, &cli.out] {
        fs::create_dir_all(dir).map_err(|error| table::said(dir, error))?;
    }
    let files = tempfile::Builder::new()
        .prefix("persist-")
        .tempdir_in(&cli.dir);
    let files = files.map_err(|error| table::said(&cli.dir, error))?;
    let sections = SECTIONS
        .iter()
        .filter(|section| cli.only.is_empty() || cli.only.contains(section));
    let sections: Vec<Section> = sections.copied().collect();
    let progress = Progress::new("persist", sections.len() as u64);
    let mut results = Results::here(cli.quick, redis::version());
    for section in sections {
        progress.say(format!("{section:?}"));
        let dir = files.path().to_path_buf();
        let quick = cli.quick;
        results.rows.extend(child(&Job {
            section,
            dir,
            quick,
        })?);
        progress.step();
        // A run that is broken off is not lost.
        write(&results, &cli.out)?;
    }
    progress.finish();
    out::print(&results.markdown())
}

/// Starts this program once more and waits for its answer.
fn child(job: &Job) -> Result<Vec<Row>, String> {
    let failure = |what: &dyn std::fmt::Display| format!("{:?}: {what}", job.section);
    let program = std::env::current_exe().map_err(|error| failure(&error))?;
    let argument = serde_json::to_string(job).map_err(|error| failure(&error))?;
    let child = Command::new(program)
        .args(["--job", &argument])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failure(&error))?;
    if !child.status.success() {
        return Err(failure(&child.status));
    }
    serde_json::from_slice(&child.stdout).map_err(|error| failure(&error))
}

fn work(job: &str) -> Result<(), String> {
    let job: Job = serde_json::from_str(job).map_err(|error| format!("no job: {error}"))?;
    let rows = serde_json::to_string(&job.run()?).map_err(|error| error.to_string())?;
    out::print(&rows)
}

fn write(results: &Results, out: &Path) -> Result<(), String> {
    let json = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    for (name, text) in [("persist.json", json), ("persist.md", results.markdown())] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| table::said(&path, error))?;
    }
    Ok(())
}
