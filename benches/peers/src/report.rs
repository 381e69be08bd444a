//! The results as Markdown.

use crate::hits::SHARES;
use crate::latency;
use crate::peers::{self, Class};
use crate::results::{Cell, Full, HitRow, LatencyRow, MemoryRow, Results, SizeCell, Summary};
use crate::roles;
use crate::summary::{FULL, finds_enough, keeps_bound};
use crate::workload;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A table with a heading line, the first column to the left and all others to the right.
struct Table {
    text: String,
}

impl Table {
    fn new(headings: &[String]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(headings);
        let columns = headings.len().saturating_sub(1);
        table.text += &format!("| --- |{}\n", " ---: |".repeat(columns));
        table
    }

    fn row(&mut self, cells: &[String]) {
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

pub fn markdown(results: &Results) -> String {
    let mut text = String::from("# haybox beside other caches\n\n");
    machine(&mut text, results);
    if !results.speed.is_empty() {
        summary(&mut text, results);
        speed(&mut text, &results.speed);
    }
    if !results.size.is_empty() {
        size(&mut text, &results.size);
    }
    if !results.latency.is_empty() {
        latency(&mut text, &results.latency);
    }
    if !results.memory.is_empty() {
        memory(&mut text, &results.memory);
    }
    if !results.hits.is_empty() {
        hits(&mut text, &results.hits);
    }
    if !results.roles.is_empty() {
        roles(&mut text, results);
    }
    text
}

/// The same without the tables: what the terminal gets at the end of a run.
pub fn closing(results: &Results) -> String {
    let mut text = String::new();
    for summary in results.summary.iter().chain(&results.roles_summary) {
        let (mean, cells) = (summary.mean, summary.cells.len());
        let _ = writeln!(
            text,
            "haybox is {mean:.2} times as fast as {} (geometric mean over {cells} cells)",
            summary.against
        );
    }
    if !results.roles.is_empty() {
        roles_ratios(&mut text, &results.roles_summary);
    }
    for note in &results.notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn machine(text: &mut String, results: &Results) {
    let machine = &results.machine;
    let versions: Vec<_> = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = writeln!(
        text,
        "{} on {} cores of {}, {} GiB, {}, Linux {}, {}, haybox at commit {}.\n\n{}.\n\n\
         Command: `cargo run --release --manifest-path benches/peers/Cargo.toml -- {}`",
        machine.date,
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        machine.rustc_version(),
        machine.commit.as_deref().unwrap_or("unknown"),
        versions.join(", "),
        machine.command
    );
    for note in &results.notes {
        let _ = writeln!(text, "\n{note}");
    }
}

fn summary(text: &mut String, results: &Results) {
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
fn means(text: &mut String, summaries: &[Summary]) {
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
fn ratios(text: &mut String, summary: &Summary, [workload, other]: [&str; 2]) {
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

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
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

/// The peers of these rows, in the order of [`peers::ALL`], after them what is no peer.
fn in_order<'r>(ids: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut seen = as_they_come(ids);
    let place = |id: &&str| peers::ALL.iter().position(|info| info.id == *id);
    seen.sort_by_key(|id| place(id).unwrap_or(usize::MAX));
    seen
}

fn as_they_come<'r>(ids: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut seen: Vec<&str> = Vec::new();
    ids.for_each(|id| {
        if !seen.contains(&id) {
            seen.push(id);
        }
    });
    seen
}

fn speed(text: &mut String, cells: &[Cell]) {
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

fn of_workload<'c>(cells: &'c [Cell], workload: &str) -> Vec<&'c Cell> {
    cells
        .iter()
        .filter(|cell| cell.workload == workload)
        .collect()
}

/// One workload: peers by number of threads.
fn speed_table(text: &mut String, title: &str, peers: &[&str], cells: &[&Cell]) {
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

fn roles(text: &mut String, results: &Results) {
    text.push_str(
        "\n## The other roles\n\nNanoseconds for each operation: wall-clock time over the \
         operations of all threads, the median of rounds in turns, and in parentheses the least \
         and the most. Redis is one client on the loopback interface that waits for each answer. \
         How many times as fast haybox is:\n\n",
    );
    means(text, &results.roles_summary);
    roles_ratios(text, &results.roles_summary);
    for job in roles::jobs() {
        let title = format!("{} (`{}`)", job.label, job.id);
        let cells = of_workload(&results.roles, job.id);
        let peers = as_they_come(cells.iter().map(|cell| cell.peer.as_str()));
        speed_table(text, &title, &peers, &cells);
    }
}

fn roles_ratios(text: &mut String, summaries: &[Summary]) {
    for summary in summaries {
        text.push('\n');
        ratios(text, summary, ["job", "beside"]);
    }
}

fn speed_cell(cell: &Cell) -> String {
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

fn size(text: &mut String, cells: &[SizeCell]) {
    text.push_str(
        "\n## Cost against size\n\nNanoseconds for a read of one thread, uniform over all entries, \
         u64 to u64.\n\n",
    );
    let mut sizes: Vec<usize> = cells.iter().map(|cell| cell.entries).collect();
    sizes.dedup();
    let mut headings = vec!["peer".to_string()];
    headings.extend(sizes.iter().map(|size| thousands(*size)));
    let mut table = Table::new(&headings);
    for peer in in_order(cells.iter().map(|cell| cell.peer.as_str())) {
        let of_size = |size: &usize| {
            let found = cells
                .iter()
                .find(|cell| cell.peer == peer && cell.entries == *size);
            found.map_or("n/a".to_string(), |cell| {
                let star = if cell.hit_ratio < 0.99 { "*" } else { "" };
                number(cell.nanos) + star
            })
        };
        let mut row = vec![peers::label(peer).to_string()];
        row.extend(sizes.iter().map(of_size));
        table.row(&row);
    }
    text.push_str(&table.text);
    if cells.iter().any(|cell| !cell.in_turns) {
        text.push_str(
            "\nAt sizes where the peers do not fit into memory together, each was measured by \
             itself and not in turns.\n",
        );
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

fn latency(text: &mut String, rows: &[LatencyRow]) {
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

fn unique<'r>(words: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut unique: Vec<&str> = words.collect();
    unique.dedup();
    unique
}

fn memory(text: &mut String, rows: &[MemoryRow]) {
    text.push_str(
        "\n## Memory\n\nBytes for each entry that is kept, as allocated, and in parentheses by the \
         resident memory of the process; each peer in a process of its own. \"Evicted\": after as \
         many more were inserted as there is room for. The payload is 16 bytes for u64 to u64; with \
         values of 100 bytes it is 136 (with the two counters of an `Arc`).\n\n",
    );
    let most = rows.iter().map(|row| row.room).max().unwrap_or(0);
    let less = rows.iter().map(|row| row.room).find(|room| *room < most);
    let less = less.unwrap_or(most);
    let headings = [
        "peer".to_string(),
        format!("u64, room for {}", thousands(most)),
        "evicted".to_string(),
        format!("u64, room for {}", thousands(less)),
        "100 bytes".to_string(),
        "entries kept".to_string(),
        "% of a core at rest".to_string(),
    ];
    let mut table = Table::new(&headings);
    for peer in in_order(rows.iter().map(|row| row.peer.as_str())) {
        let of_kind = |room, payload| {
            rows.iter()
                .find(|row| row.peer == peer && row.room == room && row.payload == payload)
        };
        let bytes = |full: Option<Full>| {
            full.map_or("n/a".to_string(), |full| {
                format!("{:.1} ({:.1})", full.allocated, full.resident)
            })
        };
        let first = of_kind(most, false);
        let rest = first.and_then(|row| row.rest_percent);
        table.row(&[
            peers::label(peer).to_string(),
            bytes(first.map(|row| row.full)),
            bytes(first.and_then(|row| row.evicted)),
            bytes(of_kind(less, false).map(|row| row.full)),
            bytes(of_kind(most, true).map(|row| row.full)),
            first.map_or(String::new(), |row| thousands(row.full.entries)),
            rest.map_or("n/a".to_string(), |rest| format!("{rest:.3}")),
        ]);
    }
    text.push_str(&table.text);
    expired(text, rows);
}

fn expired(text: &mut String, rows: &[MemoryRow]) {
    text.push_str(
        "\nMiB after the last entry has expired, allocated (resident), u64 to u64. The first call \
         after that looks a key up that was never there.\n\n",
    );
    let headings = [
        "peer",
        "before",
        "3 s after, without a call",
        "entries counted then",
        "the first call takes",
        "after it",
        "after the call for housekeeping",
    ];
    let mut table = Table::new(&strings(headings));
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    let both =
        |allocated: i64, resident: i64| format!("{:.1} ({:.1})", mib(allocated), mib(resident));
    for row in rows {
        let Some(expired) = row.expired else { continue };
        table.row(&[
            peers::label(&row.peer).to_string(),
            both(expired.allocated_before, expired.resident_before),
            both(expired.allocated_untouched, expired.resident_untouched),
            expired.entries_untouched.to_string(),
            duration(expired.first_call.as_nanos() as u64),
            both(expired.allocated_called, expired.resident_called),
            both(expired.allocated_settled, expired.resident_settled),
        ]);
    }
    text.push_str(&table.text);
}

fn hits(text: &mut String, rows: &[HitRow]) {
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
fn mean_hits(text: &mut String, rows: &[HitRow], peers: &[&str]) {
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

fn is_rival(row: &HitRow) -> bool {
    peers::known(&row.peer).is_some_and(|info| info.class == Class::Rival)
}

/// Whether a cache holds no more than it was allowed to. One entry more is none that counts, though
/// in the least of caches it is some percent.
fn keeps(row: &HitRow) -> bool {
    let most = (row.capacity as f64 * FULL).max(row.capacity as f64 + 1.0);
    row.held.is_none_or(|held| held.mean <= most)
}

/// How far below the best rival haybox is, by who counts as one.
fn behind(text: &mut String, rows: &[HitRow], whom: &str, is_rival: impl Fn(&HitRow) -> bool) {
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

fn best_beside<'r>(
    rows: &'r [HitRow],
    ours: &HitRow,
    is_rival: impl Fn(&HitRow) -> bool,
) -> Option<&'r HitRow> {
    let same = |row: &&HitRow| row.trace == ours.trace && row.share == ours.share;
    let rivals = rows.iter().filter(same).filter(|row| is_rival(row));
    rivals.max_by(|a, b| a.percent.total_cmp(&b.percent))
}

/// The rivals that hold more than they were allowed to, and how much.
fn above_bound(text: &mut String, rows: &[HitRow]) {
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
