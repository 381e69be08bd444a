//! Measurements in a process of their own: what is to find untouched memory, and a peer whose
//! threads would go on for a minute with what a measurement has left them to do.

use crate::out;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a child is told, as JSON in its argument, and does.
pub trait Job: Serialize + DeserializeOwned {
    /// Which one it is.
    const NAME: &'static str;

    type Answer: Serialize + DeserializeOwned;

    fn work(self) -> Result<Self::Answer, String>;
}

/// Starts this program once more, with an input, and waits for its answer.
///
/// # Errors
/// A sentence, where the child does not start, fails, or prints something else.
pub fn run<J: Job>(job: &J, input: &[u8]) -> Result<J::Answer, String> {
    let failure =
        |what: &dyn std::fmt::Display| format!("a measurement in a process of its own: {what}");
    let program = std::env::current_exe().map_err(|error| failure(&error))?;
    let argument = serde_json::to_string(job).map_err(|error| failure(&error))?;
    let mut child = Command::new(program)
        .args(["job", J::NAME, &argument])
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
pub fn work<J: Job>(argument: &str) -> Result<(), String> {
    let job: J = serde_json::from_str(argument).map_err(|error| format!("no job: {error}"))?;
    let answer = serde_json::to_string(&job.work()?);
    out::print(&answer.map_err(|error| error.to_string())?)?;
    std::process::exit(0)
}
