//! What it costs: memory for each entry and option, time in the background, and what files take.
//!
//! How fast a cache is beside other caches is on the [front page](crate#beside-other-caches), and
//! how it was measured in [`beside_other_caches`](super::beside_other_caches); what the other roles
//! take is in [`roles`](super::roles#what-they-cost).
//!
//! # An entry
//!
//! An entry costs its key, its value and 8 bytes, and its share of a set: about 6 bytes, 12 once
//! something was evicted (20 to 40 in caches of up to 5,120, which remember more of what was
//! evicted), and about a twentieth more for slots that are free. Options add to that, for each
//! entry:
//!
//! | option | bytes |
//! | --- | --- |
//! | [`weigher`](CacheBuilder::weigher) | 8 |
//! | [`time_to_idle`](CacheBuilder::time_to_idle) | 16 |
//! | [`group_by`](CacheBuilder::group_by) | 24 |
//! | [`freshness`](CacheBuilder::freshness), or a loader that [says it](Loaded::refresh_after) of its values | 24 |
//! | one [tag](Cache::invalidate_tag); several | 24; about 40, and 8 for each tag |
//! | any of these, once | about 6 for their place in the set |
//! | all others | 0 |
//!
//! With a TTL, a `u64` with its `u64` takes 32.0 bytes in a cache of 1,000,000, and 37.0 after
//! evictions. A cache that holds few of many entries takes more for each:
//! [`max_entries`](CacheBuilder::max_entries).
//!
//! # In the background
//!
//! Measured on 2 cores of an AMD EPYC (Zen 5) under Linux, by `cargo bench --bench figures`, as were
//! the bytes above:
//!
//! | what | figure |
//! | --- | --- |
//! | the background's share of a core, 10 million entries, none due | 0.01 % |
//! | the background's time for each entry that expires, of 10 million | 566 ns |
//! | longest that an expired entry stayed, of 10 million within a minute, [sweep interval](CacheBuilder::sweep_interval) 1 s | 0.78 s |
//! | an empty cache bounded at 100; one with 10 entries (of 10,000 in one process) | 1.9 kB; 4.5 kB |
//! | the background's share of a core for 10,000 idle caches | 0.6 % |
//! | threads in the background, for all caches together | 2 at most; up to 8 more where values are loaded anew behind their readers, 1 once something waits with a time-out; 3 for each open directory, 1 for counters that are kept |
//!
//! # Files
//!
//! What the feature `persist` costs and brings, for values of 100 bytes:
//!
//! | what | haybox | Redis 7 | redb 4 |
//! | --- | --- | --- | --- |
//! | inserts per second, synced each second, one thread | 1.07 million; 1.42 without files | 0.50 million, pipelined | 0.29 million, not synced |
//! | durable commits per second, 64 threads | 109,000 | 79,000 | 5,000 |
//! | a read, beside one of a cache without files | 24.6 ns, 24.4 ns | | |
//! | entries recovered per second, from a log | 2.0 million; 4.3 of `u64` to `u64` | 0.85 million | |
//! | … from a snapshot | 3.2 million; 9.2 of `u64` to `u64` | | |
//! | bytes on the disk for an entry | 114 | 144 | 277 |
//! | 99.9 % of insertions take less than, compacting; not compacting | 1.7 µs; 1.5 µs | | |
//! | more memory while compacting, at most | 0.15 % | | |
//! | more memory while opening, at most | half of the files, up to 96 MiB, and the largest value besides | | |
//!
//! While it compacts, a read waits at most until about 1 MiB of its set is encoded, or one entry that
//! is larger; and of larger values the memory is that of three more of the largest, not of a set.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --features persist --bin persist`
//! measures that again.

use crate::{Cache, CacheBuilder, Loaded};
