//! The results as pictures in SVG.
//!
//! Colours are those of Okabe and Ito, which people who see few colours can tell apart; where there
//! are more lines than colours, dashes tell them apart. haybox is always the strongest.

mod bars;
mod frame;
mod lines;

use crate::hits::SHARES;
use crate::latency;
use crate::peers::{self, Class, Info};
use crate::report::{number, thousands};
use crate::results::{Cell, Full, HitRow, LatencyRow, MemoryRow, Results};
use crate::roles;
use crate::summary::keeps_bound;
use crate::workload::{self, Workload};
use bars::{Bar, Panel as BarPanel};
use lines::{Axis, Line, Panel as LinePanel};

/// A picture's file name and text.
pub type Picture = (String, String);

/// Draws all that there are results for.
///
/// # Errors
/// A sentence of the drawing library's, which has no reason to fail.
pub fn draw(results: &Results) -> Result<Vec<Picture>, String> {
    let mut pictures = Vec::new();
    for threads in threads_of(&results.speed) {
        pictures.push(throughput(results, threads)?);
    }
    if !results.size.is_empty() {
        pictures.push(size(results)?);
    }
    if !results.latency.is_empty() {
        pictures.push(times(results)?);
    }
    if !results.memory.is_empty() {
        pictures.push(memory(results)?);
    }
    if !results.hits.is_empty() {
        pictures.push(hits(results)?);
    }
    for threads in threads_of(&results.roles) {
        pictures.push(of_roles(results, threads)?);
    }
    Ok(pictures)
}

fn throughput(results: &Results, threads: usize) -> Result<Picture, String> {
    let panel = |workload: &Workload| {
        let cells = of_workload(&results.speed, workload.id, threads);
        let bar = |info: &'static Info| {
            let cell = cells.iter().find(|cell| cell.peer == info.id)?;
            Some(throughput_bar(info, cell))
        };
        let bars: Vec<Bar> = peers::ALL.iter().filter_map(bar).collect();
        BarPanel::new(workload.label, bars)
    };
    let panels: Vec<BarPanel> = workload::ALL.iter().map(panel).collect();
    let subtitle = "Millions per second over all threads, the median of rounds in turns, and the \
                    least and the most. u64 to u64; \u{201c}text\u{201d} is String to Arc<[u8]> of 100 bytes.";
    bars_by_threads(results, "speed", "Operations", threads, subtitle, panels)
}

fn of_roles(results: &Results, threads: usize) -> Result<Picture, String> {
    let panel = |job: roles::Job| {
        let cells = of_workload(&results.roles, job.id, threads);
        let bar = |cell: &&Cell| Some(throughput_bar(peers::known(&cell.peer)?, cell));
        BarPanel::new(job.label, cells.iter().filter_map(bar).collect())
    };
    let panels: Vec<BarPanel> = roles::jobs().into_iter().map(panel).collect();
    let subtitle = "Millions per second over all threads, the median of rounds in turns, and the \
                    least and the most.";
    bars_by_threads(
        results,
        "roles",
        "Other roles, operations",
        threads,
        subtitle,
        panels,
    )
}

fn of_workload<'c>(cells: &'c [Cell], workload: &str, threads: usize) -> Vec<&'c Cell> {
    let is_it = |cell: &&Cell| cell.workload == workload && cell.threads == threads;
    cells.iter().filter(is_it).collect()
}

fn throughput_bar(info: &Info, cell: &Cell) -> Bar {
    let millions = 1e3 / cell.nanos;
    let mut text = format!("{} M/s", digits(millions));
    if let Some(ratio) = cell.hit_ratio.filter(|ratio| *ratio < 0.9995) {
        text += &format!(", {:.0} % hits", 100.0 * ratio);
    }
    if !keeps_bound(cell) {
        text += &format!(", {:.1} × its bound", cell.fullness);
    }
    Bar::new(info, millions, text).with_spread(1e3 / cell.most(), 1e3 / cell.least())
}

/// A picture for a number of threads, of the panels that have something in them.
fn bars_by_threads(
    results: &Results,
    name: &str,
    what: &str,
    threads: usize,
    subtitle: &str,
    mut panels: Vec<BarPanel>,
) -> Result<Picture, String> {
    panels.retain(|panel| !panel.bars.is_empty());
    let noun = if threads == 1 { "thread" } else { "threads" };
    let title = format!("{what} per second with {threads} {noun}: longer is better");
    let svg = bars::draw(&title, subtitle, &panels, 3, &results.machine)?;
    Ok((format!("{name}-{threads}-{noun}.svg"), svg))
}

fn threads_of(cells: &[Cell]) -> Vec<usize> {
    let mut threads: Vec<usize> = cells.iter().map(|cell| cell.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    threads
}

/// Two digits that count.
fn digits(value: f64) -> String {
    match value {
        ..0.095 => format!("{value:.3}"),
        ..0.95 => format!("{value:.2}"),
        ..9.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn memory(results: &Results) -> Result<Picture, String> {
    let all = results.settings.entries_weighed;
    let rows = |payload| {
        let of_kind = move |row: &&MemoryRow| row.room == all && row.payload == payload;
        results.memory.iter().filter(of_kind)
    };
    let bar = |row: &MemoryRow, full: Full| {
        let text = format!("{:.0} B ({:.0} B resident)", full.allocated, full.resident);
        Some(Bar::new(peers::info(&row.peer)?, full.allocated, text))
    };
    let bytes = |row: &MemoryRow| bar(row, row.full);
    let evicted = |row: &MemoryRow| bar(row, row.evicted?);
    let fewer = results.memory.iter().filter(|row| row.room < all);
    let left = |row: &MemoryRow| {
        let expired = row.expired?;
        let share = |left: i64, before: i64| 100.0 * left as f64 / before as f64;
        let untouched = share(expired.allocated_untouched, expired.allocated_before);
        let resident = share(expired.resident_untouched, expired.resident_before);
        let text = format!("{untouched:.0} % ({resident:.0} % resident)");
        Some(Bar::new(peers::info(&row.peer)?, untouched, text))
    };
    let rest = |row: &MemoryRow| {
        let percent = row.rest_percent?;
        Some(Bar::new(
            peers::info(&row.peer)?,
            percent,
            format!("{percent:.3} %"),
        ))
    };
    let panels = [
        BarPanel::new(
            "bytes per entry, u64 to u64",
            rows(false).filter_map(bytes).collect(),
        ),
        BarPanel::new(
            "the same after evicting as many",
            rows(false).filter_map(evicted).collect(),
        ),
        BarPanel::new(
            "bytes per entry, u64 to u64, room for three fifths",
            fewer.filter_map(bytes).collect(),
        ),
        BarPanel::new(
            "bytes per entry, u64 to 100 bytes",
            rows(true).filter_map(bytes).collect(),
        ),
        BarPanel::new(
            "left 3 s after all has expired, without a call",
            rows(false).filter_map(left).collect(),
        ),
        BarPanel::new(
            "share of a core at rest, entries not due",
            rows(false).filter_map(rest).collect(),
        ),
    ];
    let title = "Memory, and load at rest: shorter is better";
    let subtitle = format!(
        "Room for {} entries; bytes as allocated, each peer in a process of its own.",
        thousands(all)
    );
    let svg = bars::draw(title, &subtitle, &panels, 2, &results.machine)?;
    Ok(("memory.svg".to_string(), svg))
}

fn size(results: &Results) -> Result<Picture, String> {
    let line = |info: &'static Info| {
        let cells = results.size.iter().filter(|cell| cell.peer == info.id);
        let points = cells.map(|cell| ((cell.entries as f64).log10(), cell.nanos.log10()));
        Line::new(info.id, points.collect())
    };
    let lines: Vec<Line> = peers::ALL.iter().map(line).collect();
    let sizes = results.size.iter().map(|cell| cell.entries as f64);
    let nanos = results.size.iter().map(|cell| cell.nanos);
    let panel = LinePanel {
        title: String::new(),
        x: Axis::logarithmic("entries", sizes, &|entries| thousands(entries as usize)),
        y: Axis::logarithmic("nanoseconds for a read", nanos, &number),
        lines,
    };
    let title = "The cost of a read against the number of entries: lower is better";
    let subtitle = "One thread, uniform over all entries, u64 to u64.";
    let svg = lines::draw(title, subtitle, &[panel], 1, (860, 520), &results.machine)?;
    Ok(("size.svg".to_string(), svg))
}

fn times(results: &Results) -> Result<Picture, String> {
    let mut scenarios: Vec<&str> = results
        .latency
        .iter()
        .map(|row| row.scenario.as_str())
        .collect();
    scenarios.dedup();
    let panel = |scenario: &&str| {
        let rows = results
            .latency
            .iter()
            .filter(|row| row.scenario == *scenario);
        let rows: Vec<&LatencyRow> = rows.collect();
        let line = |row: &&LatencyRow| {
            let rank = |share: f64| -share.log10();
            let mut points: Vec<_> = row
                .curve
                .iter()
                .map(|(share, nanos)| (rank(*share), (*nanos).max(1) as f64))
                .collect();
            points.push((rank(1.0 / row.operations as f64), row.max as f64));
            let points = points
                .into_iter()
                .map(|(rank, nanos)| (rank, nanos.log10()));
            Line::new(&row.peer, points.collect())
        };
        LinePanel {
            title: latency::label(scenario).to_string(),
            x: Axis {
                label: "share of the operations that were faster".to_string(),
                range: (0.0, 7.0),
                ticks: nines(),
            },
            y: Axis {
                label: "time of an operation".to_string(),
                range: (1.0, 8.6),
                ticks: (1..9)
                    .map(|power| (f64::from(power), power_of_ten(power)))
                    .collect(),
            },
            lines: rows.iter().map(line).collect(),
        }
    };
    let panels: Vec<LinePanel> = scenarios.iter().map(panel).collect();
    let title = "Times of single operations, from the median to the longest: lower is better";
    let subtitle = "Each operation timed by itself, the reading of the clock included. The longest \
                    times of \u{201c}nothing, for as long\u{201d} are the machine's.";
    let svg = lines::draw(title, subtitle, &panels, 2, (560, 400), &results.machine)?;
    Ok(("latency.svg".to_string(), svg))
}

fn nines() -> Vec<(f64, String)> {
    let names = [
        "0", "90 %", "99 %", "99.9 %", "99.99 %", "5 nines", "6 nines", "7 nines",
    ];
    names
        .iter()
        .enumerate()
        .map(|(rank, name)| (rank as f64, (*name).to_string()))
        .collect()
}

fn power_of_ten(power: i32) -> String {
    let nanos = 10u64.pow(power as u32);
    match nanos {
        ..1000 => format!("{nanos} ns"),
        1000..1_000_000 => format!("{} µs", nanos / 1000),
        1_000_000.. => format!("{} ms", nanos / 1_000_000),
    }
}

fn hits(results: &Results) -> Result<Picture, String> {
    let mut traces: Vec<&str> = results.hits.iter().map(|row| row.trace.as_str()).collect();
    traces.dedup();
    let panel = |trace: &&str| {
        let rows: Vec<_> = results
            .hits
            .iter()
            .filter(|row| row.trace == *trace)
            .collect();
        let mut ids: Vec<&str> = rows.iter().map(|row| row.peer.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let line = |id: &&str| {
            let of_peer = rows.iter().filter(|row| row.peer == *id);
            let points = of_peer.map(|row| (held_share(row).log10(), row.percent));
            Line::new(id, points.collect())
        };
        let (least, most) = rows.iter().fold((100.0f64, 0.0f64), |(least, most), row| {
            (least.min(row.percent), most.max(row.percent))
        });
        let label = |share: f64| (share.log10(), format!("{share} %"));
        LinePanel {
            title: (*trace).to_string(),
            x: Axis {
                label: "capacity, of the distinct keys".to_string(),
                range: (SHARES[0].log10(), SHARES[SHARES.len() - 1].log10()),
                ticks: SHARES.map(label).to_vec(),
            },
            y: Axis::linear("hits, percent", (least, most)),
            lines: ids.iter().map(line).collect(),
        }
    };
    let panels: Vec<LinePanel> = traces.iter().map(panel).collect();
    let title = "Hit ratio against capacity: higher is better";
    let subtitle = "A miss inserts the key. \u{201c}Clairvoyant\u{201d} knows the future: no cache \
                    can do better. scc stands where what it holds is, up to twice as much.";
    let columns = panels.len().min(3);
    let svg = lines::draw(
        title,
        subtitle,
        &panels,
        columns,
        (440, 330),
        &results.machine,
    )?;
    Ok(("hits.svg".to_string(), svg))
}

/// The capacity in percent of the distinct keys: what a peer can really hold, within the picture.
fn held_share(row: &HitRow) -> f64 {
    let held = row.effective_capacity;
    let share = held.map_or(row.share, |held| 100.0 * held as f64 / row.distinct as f64);
    share.clamp(SHARES[0], SHARES[SHARES.len() - 1])
}

/// Keeps the classes of peers apart in bars.
fn colour_of(class: Class, id: &str) -> plotters::style::RGBColor {
    use frame::colour;
    match class {
        Class::Haybox if id == "haybox" => colour::VERMILLION,
        Class::Haybox => colour::PALE_VERMILLION,
        Class::Rival => colour::BLUE,
        Class::Plain => colour::GREEN,
        Class::Floor => colour::GREY,
        Class::Server => colour::PURPLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_times() {
        assert_eq!(power_of_ten(2), "100 ns");
        assert_eq!(power_of_ten(4), "10 µs");
        assert_eq!(power_of_ten(8), "100 ms");
    }

    #[test]
    fn no_results_make_no_pictures() {
        assert!(draw(&Results::default()).is_ok_and(|pictures| pictures.is_empty()));
    }
}
