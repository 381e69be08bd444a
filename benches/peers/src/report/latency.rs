//! Times of single operations.

use super::table::{Table, duration, strings, thousands, unique};
use crate::latency;
use crate::peers;
use crate::results::LatencyRow;
use std::fmt::Write;

pub(super) fn latency(text: &mut String, rows: &[LatencyRow]) {
    text.push_str(
        "\n## Times of single operations\n\nEach operation is timed by itself, the reading of the \
         clock included; what the clock takes alone stands in the last row of each table, and its \
         longest times are the machine's. Each peer in processes of its own, in turns: the medians of \
         the rounds, in parentheses the least and the most, and the longest of all. A peer that is \
         built for all entries from the start does not grow: scc. \"Undisturbed\" leaves out \
         operations in which the scheduler took the processor away.\n",
    );
    for scenario in unique(rows.iter().map(|row| row.scenario.as_str())) {
        let _ = writeln!(text, "\n### {}\n", latency::label(scenario));
        let headings = [
            "peer",
            "operations",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99.99",
            "longest",
            "over 1 ms",
            "p99.99 undisturbed",
            "longest undisturbed",
        ];
        let mut table = Table::new(&strings(headings));
        for row in rows.iter().filter(|row| row.scenario == scenario) {
            let times = [row.p50, row.p90, row.p99, row.p999, row.p9999, row.max];
            let mut cells = vec![
                peers::label(&row.peer).to_string(),
                thousands(row.operations as usize),
            ];
            cells.extend(times.map(duration));
            if let [least, .., most] = row.p9999_of_rounds[..] {
                let p9999 = cells.len() - 2;
                cells[p9999] += &format!(" ({}–{})", duration(least), duration(most));
            }
            cells.push(row.slow.to_string());
            cells.extend([row.undisturbed_p9999, row.undisturbed_max].map(duration));
            table.row(&cells);
        }
        text.push_str(&table.text);
    }
}
