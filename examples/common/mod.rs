//! What the examples share: reading options and traces, Zipf keys, a progress bar and a table.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

/// Why an example stops early.
pub enum Failure {
    /// Wrong input: one sentence, exit code 2.
    Input(String),
    /// Anything else that goes wrong: exit code 1.
    Run(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Run(Box::new(error))
    }
}

/// Ends an example: reports a failure and chooses the exit code.
pub fn finish(outcome: Result<ExitCode, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(Failure::Input(sentence)) => {
            eprintln!("error: {sentence} (--help lists the options)");
            ExitCode::from(2)
        }
        Err(Failure::Run(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line after the program's name.
pub fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
}

/// Takes the value of `option` from the command line; `wanted` says in words what it needs.
pub fn text(
    option: &str,
    arguments: &mut impl Iterator<Item = String>,
    wanted: &str,
) -> Result<String, Failure> {
    arguments
        .next()
        .ok_or_else(|| Failure::Input(format!("{option} needs {wanted} after it")))
}

/// Reads a trace: one little-endian `u64` key per request.
pub fn read_trace(path: &Path) -> Result<Vec<u64>, Failure> {
    let wrong = |why: &str| Failure::Input(format!("the trace {} {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    match bytes.as_chunks::<8>() {
        ([], []) => Err(wrong("is empty")),
        (keys, []) => Ok(keys.iter().copied().map(u64::from_le_bytes).collect()),
        _ => Err(wrong("is not a sequence of 8-byte keys")),
    }
}

/// Draws ranks `1..=n` with probability proportional to `rank^-exponent`, in constant time and
/// without a table.
///
/// This is rejection-inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate
/// variates from monotone discrete distributions", ACM TOMACS 6(3), 1996). The area under the
/// curve `x^-exponent` is inverted in closed form, the point found is rounded to a rank, and the
/// little that the curve and the bars of the ranks differ is rejected: a draw needs fewer than
/// two tries on average, whatever `n` is.
pub struct Zipf {
    ranks: f64,
    exponent: f64,
    /// The areas between which a point is drawn. The first rank's bar has the width it needs to
    /// hold exactly its probability, so it is never rejected.
    areas: (f64, f64),
    /// A point this close below its rank is accepted without computing the bar's area.
    squeeze: f64,
}

impl Zipf {
    /// `exponent` is positive and not 1, where the closed form is another one.
    pub fn new(ranks: u64, exponent: f64) -> Self {
        assert!(ranks > 0 && exponent > 0.0 && exponent != 1.0);
        let mut zipf = Zipf {
            ranks: ranks as f64,
            exponent,
            areas: (0.0, 0.0),
            squeeze: 0.0,
        };
        zipf.areas = (zipf.area(1.5) - 1.0, zipf.area(zipf.ranks + 0.5));
        zipf.squeeze = 2.0 - zipf.point(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    pub fn rank(&self, random: &mut fastrand::Rng) -> u64 {
        let (low, high) = self.areas;
        loop {
            let area = high - random.f64() * (high - low);
            let point = self.point(area);
            let rank = point.round().clamp(1.0, self.ranks);
            let near = rank - point <= self.squeeze;
            if near || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// An integral of `height`, and below its inverse.
    fn area(&self, x: f64) -> f64 {
        x.powf(1.0 - self.exponent) / (1.0 - self.exponent)
    }

    fn point(&self, area: f64) -> f64 {
        (area * (1.0 - self.exponent)).powf(1.0 / (1.0 - self.exponent))
    }
}

/// A progress bar on the standard error; it shows only on a terminal.
pub fn progress(steps: u64, task: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:22} {wide_bar} {percent:>3} %  {eta:>4} left")
        .expect("the template is valid");
    ProgressBar::new(steps).with_style(style).with_message(task)
}

/// Prints rows in columns: the first aligned left, the others right.
pub fn print_table(rows: &[Vec<String>]) {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        println!("{}", line.trim_end());
    }
}

/// A number with commas between the thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
