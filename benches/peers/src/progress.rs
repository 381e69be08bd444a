//! How far a run has come, on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

pub struct Progress {
    bar: ProgressBar,
    /// Where nobody watches, lines are written in place of a bar: a log of what was measured when.
    is_log: bool,
}

impl Progress {
    pub fn new(part: &str, steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        let template = "{prefix:>8} [{elapsed_precise}] {wide_bar} {pos}/{len}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(part.to_string());
        // Seldom, so that drawing does not disturb the measurement.
        bar.enable_steady_tick(Duration::from_secs(2));
        Self {
            bar,
            is_log: !std::io::stderr().is_terminal(),
        }
    }

    /// For a process whose parent shows the progress.
    pub fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            is_log: false,
        }
    }

    pub fn say(&self, what: String) {
        if self.is_log {
            let (part, seconds) = (self.bar.prefix(), self.bar.elapsed().as_secs());
            eprintln!("{part} {seconds} s: {what}");
        }
        self.bar.set_message(what);
    }

    pub fn step(&self) {
        self.bar.inc(1);
    }

    pub fn finish(self) {
        self.bar.finish_with_message("done");
    }
}
