//! Interleavings of calls, run through the real code on shuttle's locks and atomics.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release --test interleavings
//! ```
//!
//! `HAYBOX_SHUTTLE_ITERATIONS` says how many schedules each scenario is given. A failure prints the
//! seed, or the schedule, that brings it back.
#![cfg(shuttle)]

mod bounds;
mod common;
mod end;
mod events;
mod executor;
mod expiry;
mod growth;
mod late;
mod linearizability;
mod loads;
mod many_keys;
mod presence;
mod pubsub;
mod queues;
mod roles;
mod schedules;
mod tags;
mod tasks;
mod transactions;
