//! Reads of a cache with files beside one without, in turns.

use super::Job;
use super::stores::{self, key, seconds, value};
use super::table::{Aim, Row};
use haybox::Cache;
use haybox::persist::SyncPolicy;
use std::hint::black_box;
use std::time::Duration;

const SECTION: &str = "Reads";

const ROUNDS: usize = 11;

const ENTRIES: u64 = 100_000;

pub fn measure(job: &Job) -> Result<Vec<Row>, String> {
    let policy = SyncPolicy::Every(Duration::from_secs(1));
    let dir = job.fresh("reads")?;
    let kept = Cache::builder().open_with(&dir, stores::options(policy));
    let caches = [stores::memory(), kept.map_err(|error| error.to_string())?];
    for cache in &caches {
        for number in 0..ENTRIES {
            let _ = cache.insert(key(number), value());
        }
    }
    let reads = job.scaled(3_000_000);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for turn in 0..2 {
            // So that none always comes after the other.
            let at = (turn + round) % 2;
            let cache = &caches[at];
            let read = |number: u64| {
                black_box(cache.read(&key(number * 7 % ENTRIES), |value: &String| value.len()));
            };
            let took = seconds(|| (0..reads).for_each(read)).0;
            times[at].push(took * 1e9 / reads as f64);
        }
    }
    let [without, with] = times;
    let ratios: Vec<f64> = with
        .iter()
        .zip(&without)
        .map(|(with, without)| with / without)
        .collect();
    Ok(vec![
        Row::of(SECTION, "a read without files", &without, "ns"),
        Row::of(SECTION, "a read with files", &with, "ns"),
        // What the rounds differ by themselves.
        Row::of(SECTION, "with : without", &ratios, "×").aim(Aim::AtMost(1.02)),
    ])
}
