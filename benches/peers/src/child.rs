//! Measurements in a process of their own: what is to find untouched memory, and a peer whose
//! threads would go on for a minute with what a measurement has left them to do.

use crate::cli::Settings;
use crate::results::Cell;
use crate::{hits, latency, memory, out, speed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a child is told, as JSON in its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    Weigh(memory::Job),
    Time(latency::Job),
    /// The speed of one peer under one workload.
    Cells {
        peer: String,
        workload: String,
        threads: Vec<usize>,
        settings: Settings,
    },
    /// The hits of a trace that comes through the standard input.
    Replay {
        peer: String,
        capacity: usize,
        patience: Duration,
    },
}

/// Starts this program once more and waits for its answer.
///
/// # Errors
/// A sentence, where the child does not start, fails, or prints something else.
pub fn run<T: DeserializeOwned>(job: &Job, input: &[u8]) -> Result<T, String> {
    let failure =
        |what: &dyn std::fmt::Display| format!("a measurement in a process of its own: {what}");
    let program = std::env::current_exe().map_err(|error| failure(&error))?;
    let argument = serde_json::to_string(job).map_err(|error| failure(&error))?;
    let mut child = Command::new(program)
        .args(["job", &argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failure(&error))?;
    // It reads all of it before it prints anything.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(|error| failure(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failure(&error))?;
    if !output.status.success() {
        return Err(failure(&output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failure(&error))
}

/// What the child does. It prints its answer and ends without cleaning up.
pub fn work(argument: &str) -> Result<(), String> {
    let job = serde_json::from_str(argument).map_err(|error| format!("no job: {error}"))?;
    let answer = match job {
        Job::Weigh(job) => serde_json::to_string(&memory::weigh(&job)?),
        Job::Time(job) => serde_json::to_string(&latency::time(&job)?),
        Job::Cells {
            peer,
            workload,
            threads,
            settings,
        } => {
            let cells: Vec<Cell> = speed::alone(&peer, &workload, &threads, &settings)?;
            serde_json::to_string(&cells)
        }
        Job::Replay {
            peer,
            capacity,
            patience,
        } => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| format!("no trace: {error}"))?;
            let (keys, _) = bytes.as_chunks::<8>();
            let keys: Vec<u64> = keys.iter().map(|key| u64::from_le_bytes(*key)).collect();
            serde_json::to_string(&hits::alone(&peer, capacity, &keys, patience)?)
        }
    };
    out::print(&answer.map_err(|error| error.to_string())?)?;
    std::process::exit(0)
}
