//! Inserts while the files are compacted, and the memory that it takes.

use super::Job;
use super::inserts::fill;
use super::stores::{self, Entries, key, value};
use super::table::{Aim, Row};
use haybox::persist::SyncPolicy;
use hdrhistogram::Histogram;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SECTION: &str = "While compacting";

const ENTRIES: u64 = 2_000_000;

const ROUNDS: usize = 5;

/// Between two inserts, so that the disk keeps up and what is timed is an insert, not the wait for
/// room in the buffer: 100,000 a second.
const PACE: Duration = Duration::from_micros(10);

pub fn measure(job: &Job) -> Result<Vec<Row>, String> {
    let entries = job.scaled(ENTRIES);
    let policy = SyncPolicy::Every(Duration::from_secs(1));
    let store = stores::store(&job.fresh("compacting")?, stores::options(policy))?;
    fill(&store, 0..entries)?;
    store.journal().sync().map_err(|error| error.to_string())?;
    let mut rows = memory(&store)?;
    let (mut quiet, mut busy, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let times = time_inserts(&store, entries, false)?;
        quiet.push(times.value_at_quantile(0.999) as f64 / 1e3);
        let times = time_inserts(&store, entries, true)?;
        busy.push(times.value_at_quantile(0.999) as f64 / 1e3);
        longest.push(times.max() as f64 / 1e3);
    }
    rows.push(Row::of(SECTION, "p99.9 of an insert, quiet", &quiet, "µs"));
    rows.push(Row::of(
        SECTION,
        "p99.9 of an insert, compacting",
        &busy,
        "µs",
    ));
    rows.push(Row::of(
        SECTION,
        "the longest insert, compacting",
        &longest,
        "µs",
    ));
    Ok(rows)
}

/// What the process has resident at most during a compaction, beside before it.
fn memory(store: &Entries) -> Result<Vec<Row>, String> {
    let (mut steady, mut peak) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = resident("VmRSS:")?;
        // The system forgets the highest so far.
        fs::write("/proc/self/clear_refs", "5").map_err(|error| error.to_string())?;
        store
            .journal()
            .compact()
            .map_err(|error| error.to_string())?;
        steady.push(before / 1024.0);
        peak.push((resident("VmHWM:")? / before - 1.0) * 100.0);
    }
    Ok(vec![
        Row::of(SECTION, "resident before", &steady, "MiB"),
        Row::of(SECTION, "more at most, compacting", &peak, "%").aim(Aim::AtMost(10.0)),
    ])
}

/// In KiB.
fn resident(field: &str) -> Result<f64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("/proc/self/status has no {field}"))
}

/// The times of inserts over entries that are there, in nanoseconds: for as long as one compaction
/// takes, or for half a second without.
fn time_inserts(store: &Entries, entries: u64, compact: bool) -> Result<Histogram<u64>, String> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let compaction = compact.then(|| {
            scope.spawn(|| {
                let report = store.journal().compact();
                done.store(true, Relaxed);
                report.map_err(|error| error.to_string())
            })
        });
        let started = Instant::now();
        let is_over = || match compact {
            true => done.load(Relaxed),
            false => started.elapsed() > Duration::from_millis(500),
        };
        let mut times = Histogram::new(3).map_err(|error| error.to_string())?;
        let mut number = 0;
        while !is_over() {
            number += 1;
            let (key, value) = (key(number % entries), value());
            let begun = Instant::now();
            let insert = store.insert(key, value);
            let took = begun.elapsed();
            insert.map_err(|error| error.to_string())?.into_value();
            // This, and no other way to record, makes room for a long time.
            let recorded = times.record(took.as_nanos() as u64);
            recorded.map_err(|error| error.to_string())?;
            while begun.elapsed() < PACE {
                std::hint::spin_loop();
            }
        }
        if let Some(compaction) = compaction {
            compaction.join().expect("does not panic")?;
        }
        Ok(times)
    })
}
