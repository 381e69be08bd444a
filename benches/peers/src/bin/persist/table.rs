//! What was measured, and how it is shown.

use serde::{Deserialize, Serialize};
use std::fmt::{Display, Write};
use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub quick: bool,
    pub machine: String,
    pub rows: Vec<Row>,
}

/// One figure: the median of the rounds, the least and the most.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub section: String,
    pub what: String,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub unit: String,
    pub aim: Option<Aim>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(aim) => figure >= aim,
            Self::AtMost(aim) => figure <= aim,
        }
    }
}

impl Row {
    /// Of one figure for each round.
    pub fn of(section: &str, what: impl Into<String>, rounds: &[f64], unit: &str) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self {
            section: section.to_string(),
            what: what.into(),
            median: at(sorted.len() / 2),
            least: at(0),
            most: at(sorted.len().saturating_sub(1)),
            unit: unit.to_string(),
            aim: None,
        }
    }

    pub fn aim(self, aim: Aim) -> Self {
        let aim = Some(aim);
        Self { aim, ..self }
    }
}

impl Results {
    pub fn here(quick: bool, redis: Option<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let processor = processor.map_or("?", |name| name.trim_start_matches(['\t', ':', ' ']));
        let redis = redis.map_or("no Redis".to_string(), |version| format!("Redis {version}"));
        Self {
            quick,
            machine: format!("{cores} × {processor}, {redis}, redb 4"),
            rows: Vec::new(),
        }
    }

    pub fn markdown(&self) -> String {
        let quick = if self.quick { ", a quick run" } else { "" };
        let mut text = format!("Persistence, on {}{quick}.\n", self.machine);
        let mut section = "";
        for row in &self.rows {
            if row.section != section {
                section = &row.section;
                let _ = write!(
                    text,
                    "\n### {section}\n\n| | median (least to most) | aim |\n| --- | ---: | --- |\n"
                );
            }
            let _ = writeln!(
                text,
                "| {} | {} {} ({} to {}) | {} |",
                row.what,
                short(row.median),
                row.unit,
                short(row.least),
                short(row.most),
                row.aim
                    .map_or_else(String::new, |aim| verdict(aim, row.median))
            );
        }
        text
    }
}

fn verdict(aim: Aim, figure: f64) -> String {
    let (sign, number) = match aim {
        Aim::AtLeast(number) => ("≥", number),
        Aim::AtMost(number) => ("≤", number),
    };
    let met = if aim.is_met(figure) {
        "met"
    } else {
        "**missed**"
    };
    format!("{sign} {}: {met}", short(number))
}

/// Three or so digits, with separators of thousands.
fn short(number: f64) -> String {
    if number.abs() < 100.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The message of an error, with the path that it is about.
pub fn said(path: &Path, error: impl Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_spread_and_their_aim() {
        let row = Row::of("s", "w", &[3.0, 1.0, 1_234_567.0], "ns").aim(Aim::AtMost(2.0));
        assert_eq!((row.least, row.median, row.most), (1.0, 3.0, 1_234_567.0));
        let mut results = Results::here(true, None);
        results.rows.push(row);
        let text = results.markdown();
        assert!(
            text.contains("| w | 3.00 ns (1.00 to 1,234,567) | ≤ 2.00: **missed** |"),
            "{text}"
        );
    }
}
