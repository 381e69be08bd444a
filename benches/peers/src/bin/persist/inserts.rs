//! Inserts of new keys with values of 100 B per second, and what the files add to one.

use super::stores::{self, Entries, Memory, key, seconds, value};
use super::table::{Aim, Row};
use super::{Job, redis};
use haybox::persist::SyncPolicy;
use redb::{Database, Durability, TableDefinition};
use std::path::Path;
use std::time::Duration;

const SECTION: &str = "Inserts of 100 B";

pub const TABLE: TableDefinition<u64, &str> = TableDefinition::new("entries");

const ROUNDS: usize = 5;

/// What each round inserts.
const BATCH: u64 = 1_000_000;

pub fn measure(job: &Job) -> Result<Vec<Row>, String> {
    let batch = job.scaled(BATCH);
    let mut rows = Vec::new();
    let every = haybox(job, batch, &mut rows)?;
    from_two_threads(job, batch, &mut rows)?;
    rows.extend(redis::inserts(job, SECTION, batch)?);
    rows.push(redb(&job.fresh("redb")?, batch)?);
    rows.push(every);
    Ok(rows)
}

/// In turns: without files, and under each policy. The last row is what `Every` adds.
fn haybox(job: &Job, batch: u64, rows: &mut Vec<Row>) -> Result<Row, String> {
    let memory = stores::memory();
    let mut kept = Vec::new();
    for (name, policy) in stores::policies() {
        let dir = job.fresh(&format!("inserts-{policy:?}"))?;
        kept.push((
            name,
            stores::store(&dir, stores::options(policy))?,
            Vec::new(),
        ));
    }
    let mut without = Vec::new();
    for round in 0..=ROUNDS as u64 {
        let keys = round * batch..(round + 1) * batch;
        let took = seconds(|| fill_memory(&memory, keys.clone())).0;
        // The first warms up.
        if round > 0 {
            without.push(batch as f64 / took);
        }
        for (_, store, times) in &mut kept {
            let (took, filled) = seconds(|| fill(store, keys.clone()));
            filled?;
            if round > 0 {
                times.push(batch as f64 / took);
            }
            store.journal().sync().map_err(|error| error.to_string())?;
        }
    }
    rows.push(Row::of(
        SECTION,
        "haybox without files, 1 thread",
        &without,
        "/s",
    ));
    for (name, _, times) in &kept {
        let row = Row::of(SECTION, format!("haybox, {name}, 1 thread"), times, "/s");
        rows.push(if *name == "Every(1 s)" {
            row.aim(Aim::AtLeast(1e6))
        } else {
            row
        });
    }
    let added = kept[0].2.iter().zip(&without);
    let added = added.map(|(with, without)| 1e6 / with - 1e6 / without);
    let added: Vec<f64> = added.collect();
    let row = Row::of(SECTION, "what `Every` adds to an insert", &added, "µs");
    Ok(row.aim(Aim::AtMost(1.0)))
}

fn fill_memory(memory: &Memory, keys: std::ops::Range<u64>) {
    for number in keys {
        // Nothing refuses an entry of an unbounded cache.
        let _ = memory.insert(key(number), value());
    }
}

pub fn fill(store: &Entries, keys: std::ops::Range<u64>) -> Result<(), String> {
    for number in keys {
        let insert = store.insert(key(number), value());
        insert.map_err(|error| error.to_string())?.into_value();
    }
    Ok(())
}

fn from_two_threads(job: &Job, batch: u64, rows: &mut Vec<Row>) -> Result<(), String> {
    let dir = job.fresh("inserts-two")?;
    let every = SyncPolicy::Every(Duration::from_secs(1));
    let store = stores::store(&dir, stores::options(every))?;
    let mut times = Vec::new();
    for round in 0..=ROUNDS as u64 {
        let first = round * batch;
        let (half, end) = (first + batch / 2, first + batch);
        let (took, filled) = seconds(|| {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| fill(&store, half..end));
                fill(&store, first..half).and(other.join().expect("does not panic"))
            })
        });
        filled?;
        if round > 0 {
            times.push(batch as f64 / took);
        }
    }
    rows.push(Row::of(
        SECTION,
        "haybox, Every(1 s), 2 threads",
        &times,
        "/s",
    ));
    Ok(())
}

/// Redb writes when a transaction commits: here a thousand inserts each, without waiting for the
/// disk, which is the nearest it has to `Os`.
fn redb(dir: &Path, batch: u64) -> Result<Row, String> {
    std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let database = Database::create(dir.join("db")).map_err(|error| error.to_string())?;
    // It is slower by so much that a tenth says the same.
    let batch = batch / 10;
    let mut times = Vec::new();
    for round in 0..=ROUNDS as u64 {
        let (took, filled) = seconds(|| {
            let first = round * batch;
            let mut starts = (first..first + batch).step_by(1000);
            starts.try_for_each(|start| commit(&database, start..start + 1000, Durability::None))
        });
        let filled: Result<(), redb::Error> = filled;
        filled.map_err(|error| error.to_string())?;
        if round > 0 {
            times.push(batch as f64 / took);
        }
    }
    let what = "redb, Durability::None, 1,000 in a transaction";
    Ok(Row::of(SECTION, what, &times, "/s"))
}

/// Inserts in one transaction.
pub fn commit(
    database: &Database,
    keys: std::ops::Range<u64>,
    durability: Durability,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(durability)?;
    {
        let mut table = transaction.open_table(TABLE)?;
        let value = value();
        for number in keys {
            table.insert(key(number), value.as_str())?;
        }
    }
    transaction.commit()?;
    Ok(())
}
