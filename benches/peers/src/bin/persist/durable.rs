//! Commits per second that are on the disk when the call returns, of 64 threads.

use super::inserts::commit;
use super::stores::{self, key, value};
use super::table::{Aim, Row};
use super::{Job, redis};
use haybox::persist::SyncPolicy;
use redb::{Database, Durability};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SECTION: &str = "Durable commits of 64 threads";

pub const THREADS: u64 = 64;

const ROUNDS: usize = 5;

pub fn measure(job: &Job) -> Result<Vec<Row>, String> {
    let round = Duration::from_millis(if job.quick { 200 } else { 2000 });
    let store = stores::store(&job.fresh("durable")?, stores::options(SyncPolicy::Always))?;
    let dir = job.fresh("durable-redb")?;
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let database = Database::create(dir.join("db")).map_err(|error| error.to_string())?;
    let ours = |number| {
        let insert = store.insert(key(number), value());
        insert
            .expect("the disk is fine")
            .wait()
            .expect("the disk is fine");
    };
    let theirs = |number: u64| {
        let done = commit(&database, number..number + 1, Durability::Immediate);
        done.expect("the disk is fine");
    };
    let (mut haybox, mut redb) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        haybox.push(at_once(round, &ours));
        redb.push(at_once(round, &theirs));
    }
    let ratios: Vec<f64> = haybox
        .iter()
        .zip(&redb)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    let mut rows = vec![
        Row::of(SECTION, "haybox, Always", &haybox, "/s"),
        Row::of(SECTION, "redb, Durability::Immediate", &redb, "/s"),
    ];
    rows.extend(redis::durable(job, SECTION)?);
    let ratio = Row::of(SECTION, "haybox : redb", &ratios, "×");
    rows.push(ratio.aim(Aim::AtLeast(20.0)));
    Ok(rows)
}

/// How often all threads together have done something in a second.
fn at_once(round: Duration, commit: &(impl Fn(u64) + Sync)) -> f64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let (first, started) = (NUMBERS.load(Relaxed), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while started.elapsed() < round {
                    commit(NUMBERS.fetch_add(1, Relaxed));
                }
            });
        }
    });
    (NUMBERS.load(Relaxed) - first) as f64 / started.elapsed().as_secs_f64()
}
