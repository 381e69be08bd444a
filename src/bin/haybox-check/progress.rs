//! How far it is, on stderr.

use haybox::persist::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over the bytes that are read. Where stderr is no terminal nothing is drawn.
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new(what: &'static str, quiet: bool) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let template =
            "{prefix} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        Self(bar)
    }

    /// What is to be called with the progress.
    pub fn teller(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let bar = self.0.clone();
        move |at| {
            bar.set_length(at.total);
            bar.set_position(at.bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
