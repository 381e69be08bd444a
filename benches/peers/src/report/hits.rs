//! Hit ratios.

use super::table::{Table, in_order, strings, unique};
use crate::hits::SHARES;
use crate::peers::{self, Class};
use crate::results::HitRow;
use crate::summary::FULL;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn hits(text: &mut String, rows: &[HitRow]) {
    text.push_str(
        "\n## Hit ratio\n\nPercent of the requests that hit, by capacity in entries. On a miss the \
         key is inserted. \"Clairvoyant\" knows the future and may refuse keys: no cache can do \
         better. scc's capacity rounds up to a power of two, which stands in parentheses. A dagger: \
         held so many times the entries that it was allowed to.\n",
    );
    let peers = in_order(rows.iter().map(|row| row.peer.as_str()));
    for trace in unique(rows.iter().map(|row| row.trace.as_str())) {
        let of_trace: Vec<_> = rows.iter().filter(|row| row.trace == trace).collect();
        let Some(first) = of_trace.first() else {
            continue;
        };
        let (requests, distinct) = (first.requests, first.distinct);
        let _ = writeln!(
            text,
            "\n### {trace}: {requests} requests, {distinct} keys\n"
        );
        let mut headings = vec!["capacity".to_string()];
        headings.extend(peers.iter().map(|peer| peers::label(peer).to_string()));
        let mut table = Table::new(&headings);
        for share in SHARES {
            let of_share: Vec<_> = of_trace.iter().filter(|row| row.share == share).collect();
            let Some(first) = of_share.first() else {
                continue;
            };
            let percent = |peer: &&str| {
                let found = of_share.iter().find(|row| row.peer == **peer);
                found.map_or("n/a".to_string(), |row| {
                    let more = row.effective_capacity.filter(|more| *more != row.capacity);
                    let more = more.map_or(String::new(), |more| format!(" ({more})"));
                    let above = row.fullness().filter(|_| !keeps(row));
                    let above = above.map_or(String::new(), |above| format!(" †{above:.2}"));
                    format!("{:.2}{more}{above}", row.percent)
                })
            };
            let mut row = vec![format!("{share} % = {}", first.capacity)];
            row.extend(peers.iter().map(percent));
            table.row(&row);
        }
        text.push_str(&table.text);
    }
    mean_hits(text, rows, &peers);
}

/// The mean over all rows, and how far below the best rival haybox is in those where it is.
pub(super) fn mean_hits(text: &mut String, rows: &[HitRow], peers: &[&str]) {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry(&row.peer).or_default();
        sum.0 += row.percent;
        sum.1 += 1;
    }
    text.push_str("\nThe mean over all rows, of those that have them all:\n\n");
    let headings: Vec<String> = peers
        .iter()
        .map(|peer| peers::label(peer).to_string())
        .collect();
    let mut table = Table::new(&headings);
    // One that was stopped in some rows would have another mean than the others.
    let all = sums.values().map(|(_, rows)| *rows).max().unwrap_or(0);
    let mean = |peer: &&str| {
        let sum = sums.get(peer).filter(|(_, rows)| *rows == all);
        sum.map_or("n/a".to_string(), |(sum, rows)| {
            format!("{:.2}", sum / *rows as f64)
        })
    };
    let means: Vec<String> = peers.iter().map(mean).collect();
    table.row(&means);
    text.push_str(&table.text);
    behind(text, rows, "the best rival", |row| {
        is_rival(row) && peers::info(&row.peer).is_some()
    });
    behind(text, rows, "the best rival that keeps its bound", |row| {
        is_rival(row) && keeps(row)
    });
    above_bound(text, rows);
}

pub(super) fn is_rival(row: &HitRow) -> bool {
    peers::known(&row.peer).is_some_and(|info| info.class == Class::Rival)
}

/// Whether a cache holds no more than it was allowed to. One entry more is none that counts, though
/// in the least of caches it is some percent.
pub(super) fn keeps(row: &HitRow) -> bool {
    let most = (row.capacity as f64 * FULL).max(row.capacity as f64 + 1.0);
    row.held.is_none_or(|held| held.mean <= most)
}

/// How far below the best rival haybox is, by who counts as one.
pub(super) fn behind(
    text: &mut String,
    rows: &[HitRow],
    whom: &str,
    is_rival: impl Fn(&HitRow) -> bool,
) {
    let ours = rows.iter().filter(|row| row.peer == "haybox");
    let gap = |ours| {
        let best = best_beside(rows, ours, &is_rival)?;
        Some((best.percent - ours.percent, best, ours))
    };
    let mut gaps: Vec<(f64, &HitRow, &HitRow)> = ours.filter_map(gap).collect();
    if gaps.is_empty() {
        return;
    }
    gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mean = gaps.iter().map(|(gap, ..)| gap).sum::<f64>() / gaps.len() as f64;
    let side = if mean < 0.0 { "above" } else { "below" };
    let far = gaps.partition_point(|(gap, ..)| *gap > 0.3);
    let _ = writeln!(
        text,
        "\nhaybox is more than 0.3 points below {whom} in {far} of {} rows, and {:.2} {side} it on \
         the mean over all rows.\n",
        gaps.len(),
        mean.abs()
    );
    for (gap, best, ours) in &gaps[..far] {
        let _ = writeln!(
            text,
            "- {} at {} %: {:.2} against {:.2} of {} ({gap:.2})",
            ours.trace,
            ours.share,
            ours.percent,
            best.percent,
            peers::label(&best.peer)
        );
    }
}

pub(super) fn best_beside<'r>(
    rows: &'r [HitRow],
    ours: &HitRow,
    is_rival: impl Fn(&HitRow) -> bool,
) -> Option<&'r HitRow> {
    let same = |row: &&HitRow| row.trace == ours.trace && row.share == ours.share;
    let rivals = rows.iter().filter(same).filter(|row| is_rival(row));
    rivals.max_by(|a, b| a.percent.total_cmp(&b.percent))
}

/// The rivals that hold more than they were allowed to, and how much.
pub(super) fn above_bound(text: &mut String, rows: &[HitRow]) {
    let mut table = Table::new(&strings(["trace", "capacity", "peer", "held", "at most"]));
    let above = rows.iter().filter(|row| is_rival(row) && !keeps(row));
    for (row, held) in above.filter_map(|row| Some((row, row.held?))) {
        table.row(&[
            format!("{} at {} %", row.trace, row.share),
            row.capacity.to_string(),
            peers::label(&row.peer).to_string(),
            format!("{:.1}", held.mean),
            held.most.to_string(),
        ]);
    }
    text.push_str(
        "\nThe entries that could be read of the rivals that held over a fiftieth more than their \
         capacity, and more than one: the mean from when they were full, and the most.\n\n",
    );
    text.push_str(&table.text);
}
