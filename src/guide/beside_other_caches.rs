//! How the comparison with other caches on the [front page](crate#beside-other-caches) was measured,
//! why it comes out as it does, and how it came out in other runs.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` measures all of it again, with more
//! peers, latencies and hit ratios of your own traces; `cargo bench --bench operations` measures
//! haybox alone.
//!
//! # Operations
//! The virtual machine has phases of seconds or hours in which everything that shares memory between
//! threads takes three to four times as long: two threads on 10,000 keys took 27 ns in the run that is
//! shown, 10 in another and 22 in a third. So only what ran in the same round is compared.
//!
//! Beside the fastest of the others in each cell haybox was as a geometric mean 1.34 times as fast, and
//! 1.27 to 1.35 times in four runs before, whose gets and insertions take the same instructions within
//! 1 %, and whose rounds were half as long. With one thread it is 0.89 times as fast as quick_cache (0.85
//! in the run before), where the clock of a TTL is 2.5 to 4 ns of a read; without a TTL it is level.
//!
//! The insertion of texts with one thread is at 0.78, and was at 0.47 to 0.79 in the short rounds, which
//! began with what others had left in the processor's caches: what quick_cache evicts there most likely
//! lies in memory in the order in which it was allocated, and what haybox evicts does not, so that
//! freeing it waits for memory.
//!
//! The table of operations is of a later run than latencies, memory and the other roles. What lies
//! between the two changed none of these but locks, publishing and presence, by 2 % of their instructions
//! at most. Hits, and the memory of haybox, are of a still later one, with a fifth setting of the policy,
//! which takes insertions that evict 0.4 to 1.8 % more instructions.
//!
//! # Latencies
//! The row of nothing is the machine: ten million operations last long enough to meet more than a
//! thousand ticks of its timer, which take longer while memory is busy. The 99.99 % of haybox were 25 to
//! 31 µs in the three processes of the run that is shown, and 22, 22, 23 and 28 µs in four runs before.
//! Without a bound they are 25 to 32 µs.
//!
//! # Hit ratios
//! Of the real traces `corda`, `gcc`, `scarab`, `sprite` and `web12` bear the names of files that come
//! with the simulator of Caffeine, and `oltp` is of the paper on ARC (Megiddo and Modha, FAST 2003). The
//! generated ones are made by `benches/peers/src/traces.rs`.
//!
//! Some rival was better by more than 0.3 points in 11 of 47 rows of the real traces, in 9 of 32 of the
//! first four generated ones, and in 28 of 64 of those that were made later; in 20 to 26 of the first 79
//! in six runs before, with four settings and not five. moka takes insertions into its bound in batches, and can be read with more
//! entries until then: 38 with room for 13, 62 with room for 35. Where the load changes all the time,
//! between a distribution that stands still, a loop that just fits, and keys that come soon again or
//! never, every policy here is beaten by plain LRU at one size (72 %, haybox 70; 63 with four settings).
