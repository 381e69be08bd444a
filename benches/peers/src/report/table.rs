//! Tables, and how figures are written.

use crate::peers;

/// A table with a heading line, the first column to the left and all others to the right.
pub struct Table {
    pub text: String,
}

impl Table {
    pub fn new(headings: &[String]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(headings);
        let columns = headings.len().saturating_sub(1);
        table.text += &format!("| --- |{}\n", " ---: |".repeat(columns));
        table
    }

    pub fn row(&mut self, cells: &[String]) {
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

pub(super) fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).into()
}

/// Three digits that count.
pub fn number(nanos: f64) -> String {
    match nanos {
        _ if !nanos.is_finite() => "n/a".to_string(),
        ..9.95 => format!("{nanos:.1}"),
        ..99_950.0 => format!("{nanos:.0}"),
        _ => format!("{:.0} k", nanos / 1e3),
    }
}

pub fn duration(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

/// 1 k, 3 k, 10 M.
pub fn thousands(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{} k", number as f64 / 1e3),
        _ => format!("{} M", number as f64 / 1e6),
    }
}

/// The peers of these rows, in the order of [`peers::ALL`], after them what is no peer.
pub(super) fn in_order<'r>(ids: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut seen = as_they_come(ids);
    let place = |id: &&str| peers::ALL.iter().position(|info| info.id == *id);
    seen.sort_by_key(|id| place(id).unwrap_or(usize::MAX));
    seen
}

pub(super) fn as_they_come<'r>(ids: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut seen: Vec<&str> = Vec::new();
    ids.for_each(|id| {
        if !seen.contains(&id) {
            seen.push(id);
        }
    });
    seen
}

pub(super) fn unique<'r>(words: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut unique: Vec<&str> = words.collect();
    unique.dedup();
    unique
}
