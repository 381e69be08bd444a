//! Many small caches.

use crate::allocator::allocated;
use crate::filled::{bounded, fill};
use crate::keeper::keeper_time;
use crate::table::note;
use haybox::Cache;
use std::fs;
use std::thread;
use std::time::Duration;

pub fn caches() {
    const CACHES: usize = 10_000;
    let before = allocated();
    let empty: Vec<Cache<u64, u64>> = (0..CACHES).map(|_| bounded(100)).collect();
    let bytes = (allocated() - before) as f64 / CACHES as f64;
    note(
        "caches: bytes of an empty cache bounded at 100, with TTL",
        &format!("{bytes:.0} B"),
    );
    for cache in &empty {
        fill(cache, 10);
    }
    let bytes = (allocated() - before) as f64 / CACHES as f64;
    note(
        "caches: bytes of one with 10 entries",
        &format!("{bytes:.0} B"),
    );
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    note(
        "caches: threads of a process with 10,000 of them",
        &threads.to_string(),
    );
    let Some(before) = keeper_time() else { return };
    thread::sleep(Duration::from_secs(5));
    let used = keeper_time().unwrap_or_default().saturating_sub(before);
    note(
        "caches: keeper's share of a core, all idle",
        &format!("{:.2} %", 20.0 * used.as_secs_f64()),
    );
}
