//! Nanoseconds for each operation, and how they compare.

use super::table::{Table, in_order, number, strings};
use crate::peers;
use crate::results::{Cell, Results, Summary};
use crate::summary::{finds_enough, keeps_bound};
use crate::workload;
use std::fmt::Write;

pub(super) fn summary(text: &mut String, results: &Results) {
    text.push_str(
        "\n## Summary\n\nHow many times as fast haybox with TTL is, the geometric mean over all \
         cells that both have. In a cell it is the median of the ratios of the rounds, in each of \
         which all take their turns within a second or so; beside stretto where it evicts, which it \
         does in a process of its own, it is the ratio of the medians. Rivals are moka, \
         quick_cache, foyer, mini-moka and stretto. In cells that only read, a peer that has lost more than 1 % of the \
         keys is left out, and everywhere one that holds more entries than it was allowed to.\n\n",
    );
    means(text, &results.summary);
    if let Some(best) = results.summary.first() {
        let behind = best.cells.iter().filter(|cell| cell.is_behind()).count();
        let _ = writeln!(
            text,
            "\nEach cell against the best rival in it. The rival is faster by more than the noise \
             in {behind} of {}: in three rounds of four.\n",
            best.cells.len()
        );
        ratios(text, best, ["workload", "best rival"]);
    }
}

/// The geometric means, and where haybox stands worst.
pub(super) fn means(text: &mut String, summaries: &[Summary]) {
    let mut table = Table::new(&strings([
        "against",
        "mean",
        "cells",
        "least",
        "in the cell",
    ]));
    for summary in summaries {
        let least = summary
            .cells
            .iter()
            .min_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let (ratio, cell) = least.map_or((f64::NAN, String::new()), |least| {
            let threads = least.threads;
            (
                least.ratio,
                format!("{} ({threads} threads, {})", least.workload, least.peer),
            )
        });
        table.row(&[
            summary.against.clone(),
            format!("{:.2}", summary.mean),
            summary.cells.len().to_string(),
            format!("{ratio:.2}"),
            cell,
        ]);
    }
    text.push_str(&table.text);
}

/// Each cell of a summary.
pub(super) fn ratios(text: &mut String, summary: &Summary, [workload, other]: [&str; 2]) {
    let headings = [
        workload,
        "threads",
        "haybox ns",
        other,
        "ns",
        "ratio",
        "quartiles",
    ];
    let mut table = Table::new(&strings(headings));
    for cell in &summary.cells {
        table.row(&[
            cell.workload.clone(),
            cell.threads.to_string(),
            number(cell.haybox),
            peers::label(&cell.peer).to_string(),
            number(cell.other),
            format!("{:.2}", cell.ratio),
            format!("{:.2} to {:.2}", cell.quartiles.0, cell.quartiles.1),
        ]);
    }
    text.push_str(&table.text);
}

pub(super) fn speed(text: &mut String, cells: &[Cell]) {
    text.push_str(
        "\n## Speed\n\nNanoseconds for each operation: wall-clock time over the operations of all \
         threads, the median of rounds in turns, and in parentheses the least and the most. Beside \
         it the percent of reads that hit, where not all do. u64 to u64; \"text\" is String (20 \
         bytes) to Arc<[u8]> (100 bytes). A star: has lost more than 1 % of what it was filled \
         with. A dagger: holds so many times the entries that it was allowed to. In the \
         churn, what is done in the background falls on who has the next turn, so beside it stands \
         the time of all processors for an operation, with the second and a half after the last.\n",
    );
    for workload in &workload::ALL {
        let title = format!("{} (`{}`)", workload.label, workload.id);
        let cells = of_workload(cells, workload.id);
        let peers = in_order(cells.iter().map(|cell| cell.peer.as_str()));
        speed_table(text, &title, &peers, &cells);
    }
}

pub(super) fn of_workload<'c>(cells: &'c [Cell], workload: &str) -> Vec<&'c Cell> {
    cells
        .iter()
        .filter(|cell| cell.workload == workload)
        .collect()
}

/// One workload: peers by number of threads.
pub(super) fn speed_table(text: &mut String, title: &str, peers: &[&str], cells: &[&Cell]) {
    let mut threads: Vec<usize> = cells.iter().map(|cell| cell.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    if threads.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n### {title}\n");
    let mut headings = vec!["peer".to_string()];
    headings.extend(threads.iter().map(|threads| format!("threads: {threads}")));
    let mut table = Table::new(&headings);
    for peer in peers {
        let of_peer = |threads: &usize| {
            let found = cells
                .iter()
                .find(|cell| cell.peer == *peer && cell.threads == *threads);
            found.map_or("n/a".to_string(), |cell| speed_cell(cell))
        };
        let mut row = vec![peers::label(peer).to_string()];
        row.extend(threads.iter().map(of_peer));
        table.row(&row);
    }
    text.push_str(&table.text);
}

pub(super) fn speed_cell(cell: &Cell) -> String {
    let (least, most) = (number(cell.least()), number(cell.most()));
    let mut text = format!("{} ({least}–{most})", number(cell.nanos));
    if let Some(ratio) = cell.hit_ratio.filter(|ratio| *ratio < 0.9995) {
        let _ = write!(text, " {:.1} %", 100.0 * ratio);
    }
    if !finds_enough(cell) {
        text.push('*');
    }
    if !keeps_bound(cell) {
        let _ = write!(text, " †{:.2}", cell.fullness);
    }
    if let Some(processor) = cell.processor {
        let _ = write!(text, ", {} of all processors", number(processor));
    }
    text
}
