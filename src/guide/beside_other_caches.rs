//! How the comparison with other caches on the [front page](crate#beside-other-caches) was measured,
//! why it comes out as it does, and how it came out in other runs.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` measures all of it again, with more
//! peers, latencies and hit ratios of your own traces; `cargo bench --bench operations` measures
//! haybox alone.
//!
//! # Operations
//! The virtual machine has phases of seconds or hours in which everything that shares memory between
//! threads takes three to four times as long: two threads on 10,000 keys took 10 ns in the run that is
//! shown, 22 in the run before and 28 in another. So only what ran in the same round is compared.
//!
//! Beside the fastest of the others in each cell haybox was as a geometric mean 1.27 times as fast, and
//! 1.35 times in the run before, whose gets and insertions take the same instructions within 1 %. With
//! one thread it is 0.86 times as fast as quick_cache, where the clock of a TTL is 3 to 4 ns of a read.
//!
//! The worst is the insertion of texts, 0.47 with one thread (0.62 in the run before): what quick_cache
//! evicts there most likely lies in memory in the order in which it was allocated, and what haybox
//! evicts does not, so that freeing it waits for memory.
//!
//! # Latencies
//! The row of nothing is the machine: ten million operations last long enough to meet more than a
//! thousand ticks of its timer, which take longer while memory is busy. The 99.99 % of haybox were 22,
//! 22, 23 and 28 µs in four runs. Without a bound they are 24 µs, the 99 % 2.3 µs, and the longest 0.64
//! ms.
//!
//! # Hit ratios
//! Some rival was better by more than 0.3 points in 20 to 26 of the 79 rows in five runs, and in 17 to
//! 21 of them where the rivals keep their bounds. moka takes insertions into its bound in batches, and
//! can be read with more entries until then: 38 with room for 13, 62 with room for 35. Made to keep its
//! bound it has 49.9 % of hits.
