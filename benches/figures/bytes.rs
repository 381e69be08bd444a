//! Bytes for each entry.

use crate::allocator::allocated;
use crate::filled::{MILLION, bounded, unbounded};
use crate::table::{compare, note};
use haybox::Cache;
use std::hash::Hash;

/// Bytes for each entry of a cache with `inserted` keys.
fn bytes_per_entry<K>(
    cache: impl FnOnce() -> Cache<K, u64>,
    inserted: usize,
    key: fn(u64) -> K,
) -> f64
where
    K: Hash + Eq + Send + Sync + 'static,
{
    let before = allocated();
    let cache = cache();
    for number in 0..inserted as u64 {
        cache.insert(key(number), number);
    }
    let bytes = allocated() - before;
    bytes as f64 / cache.len() as f64
}

pub fn bytes() {
    let same = |number| number;
    let measured = bytes_per_entry(|| bounded(MILLION), MILLION, same);
    compare(
        "bytes: u64 -> u64 with TTL, 1M entries, bounded at 1M",
        measured,
        45.0,
        "B",
    );
    let rows: [(&str, f64); 5] = [
        (
            "bounded at 1M, after 3M insertions (with ghosts)",
            bytes_per_entry(|| bounded(MILLION), 3 * MILLION, same),
        ),
        ("unbounded, 1M", bytes_per_entry(unbounded, MILLION, same)),
        (
            "bounded at 100k",
            bytes_per_entry(|| bounded(MILLION / 10), MILLION / 10, same),
        ),
        (
            "bounded at 10M",
            bytes_per_entry(|| bounded(10 * MILLION), 10 * MILLION, same),
        ),
        (
            "unbounded, 10M",
            bytes_per_entry(unbounded, 10 * MILLION, same),
        ),
    ];
    for (what, measured) in rows {
        note(
            &format!("bytes: u64 -> u64 with TTL, {what}"),
            &format!("{measured:.1} B"),
        );
    }
    let strings = bytes_per_entry(
        || bounded(MILLION),
        MILLION,
        |number| format!("key:{number:012}"),
    );
    note(
        "bytes: String of 16 bytes -> u64 with TTL, bounded at 1M (payload 48 B)",
        &format!("{strings:.1} B"),
    );
}
