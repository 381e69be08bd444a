//! Entries per second at recovery, and the bytes that each takes up on the disk.

use super::inserts::{commit, fill};
use super::stores::{self, key, seconds, size_of};
use super::table::{Aim, Row};
use super::{Job, redis};
use haybox::Cache;
use haybox::persist::{RecoveryReport, SyncPolicy};
use redb::{Database, Durability};
use std::path::Path;
use std::time::Duration;

const SECTION: &str = "Recovery of 5 million entries";

const ENTRIES: u64 = 5_000_000;

const ROUNDS: usize = 3;

const POLICY: SyncPolicy = SyncPolicy::Every(Duration::from_secs(1));

pub fn measure(job: &Job) -> Result<Vec<Row>, String> {
    let entries = job.scaled(ENTRIES);
    let mut rows = Vec::new();
    small(job, entries, &mut rows)?;
    large(job, entries, &mut rows)?;
    rows.extend(redis::recovery(job, SECTION, entries)?);
    rows.push(redb(&job.fresh("recovery-redb")?, job.scaled(1_000_000))?);
    Ok(rows)
}

/// Numbers to numbers.
fn small(job: &Job, entries: u64, rows: &mut Vec<Row>) -> Result<(), String> {
    let dir = job.fresh("recovery-small")?;
    let open = || {
        let opened = Cache::<u64, u64>::builder().open_store_with(&dir, stores::options(POLICY));
        opened.map_err(|error| error.to_string())
    };
    let store = open()?;
    for number in 0..entries {
        let insert = store.insert(key(number), number);
        insert.map_err(|error| error.to_string())?.into_value();
    }
    close(store.journal())?;
    drop(store);
    let kind = "u64 to u64";
    let report = || Ok(open()?.journal().recovery().clone());
    rows.push(times(kind, entries, false, report)?.aim(Aim::AtLeast(2e6)));
    rows.push(on_disk(kind, "log", &dir, entries));
    compact(&dir, open()?.journal())?;
    rows.push(times(kind, entries, true, report)?.aim(Aim::AtLeast(5e6)));
    rows.push(on_disk(kind, "snapshot", &dir, entries));
    remove(&dir)
}

/// Numbers to 100 bytes.
fn large(job: &Job, entries: u64, rows: &mut Vec<Row>) -> Result<(), String> {
    let dir = job.fresh("recovery-large")?;
    let open = || stores::store(&dir, stores::options(POLICY));
    let store = open()?;
    fill(&store, 0..entries)?;
    close(store.journal())?;
    drop(store);
    let kind = "u64 to 100 B";
    let report = || Ok(open()?.journal().recovery().clone());
    rows.push(times(kind, entries, false, report)?);
    rows.push(on_disk(kind, "log", &dir, entries));
    compact(&dir, open()?.journal())?;
    rows.push(times(kind, entries, true, report)?);
    rows.push(on_disk(kind, "snapshot", &dir, entries));
    remove(&dir)
}

/// Opens it some times; the files are in the system's cache.
fn times(
    kind: &str,
    entries: u64,
    is_snapshot: bool,
    open: impl Fn() -> Result<RecoveryReport, String>,
) -> Result<Row, String> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let report = open()?;
        let (from, other) = (report.from_snapshot, report.from_log);
        let read = if is_snapshot { from } else { other };
        if read != entries || report.entries != entries {
            return Err(format!(
                "{entries} entries were written, and there are: {report}"
            ));
        }
        rates.push(entries as f64 / report.total_time.as_secs_f64());
    }
    let from = if is_snapshot { "a snapshot" } else { "a log" };
    Ok(Row::of(
        SECTION,
        format!("haybox, {kind}, from {from}"),
        &rates,
        "/s",
    ))
}

fn on_disk(kind: &str, what: &str, dir: &Path, entries: u64) -> Row {
    let bytes = size_of(dir) as f64 / entries as f64;
    Row::of(
        SECTION,
        format!("haybox, {kind}, {what} on disk"),
        &[bytes],
        "B each",
    )
}

fn compact(dir: &Path, journal: &haybox::persist::Journal) -> Result<(), String> {
    let compacted = journal.compact().map_err(|error| error.to_string());
    compacted.map_err(|error| super::table::said(dir, error))?;
    close(journal)
}

fn close(journal: &haybox::persist::Journal) -> Result<(), String> {
    journal.close().map(drop).map_err(|error| error.to_string())
}

fn remove(dir: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(dir).map_err(|error| super::table::said(dir, error))
}

/// It recovers nothing, since it reads from the disk: what is of interest is the size.
fn redb(dir: &Path, entries: u64) -> Result<Row, String> {
    std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let database = Database::create(dir.join("db")).map_err(|error| error.to_string())?;
    let (_, filled) = seconds(|| {
        let mut starts = (0..entries).step_by(1000);
        starts.try_for_each(|start| commit(&database, start..start + 1000, Durability::None))
    });
    let filled: Result<(), redb::Error> = filled;
    filled.map_err(|error| error.to_string())?;
    commit(&database, 0..1, Durability::Immediate).map_err(|error| error.to_string())?;
    drop(database);
    let bytes = size_of(dir) as f64 / entries as f64;
    Ok(Row::of(
        SECTION,
        "redb, u64 to 100 B, on disk",
        &[bytes],
        "B each",
    ))
}
