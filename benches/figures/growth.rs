//! The times of insertions while a cache grows.

use crate::filled::{MILLION, unbounded};
use crate::times::Times;
use std::time::Instant;

pub fn growth() {
    let cache = unbounded();
    let mut times = Times::new();
    let started = Instant::now();
    for key in 0..10 * MILLION as u64 {
        times.measure(|| cache.insert(key, key));
    }
    let took = started.elapsed();
    let mut nothing = Times::new();
    let started = Instant::now();
    while started.elapsed() < took {
        nothing.measure(|| ());
    }
    times.report("growth: insert, from empty to 10M");
    nothing.report("growth: nothing, for as long");
}
