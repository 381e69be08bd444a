//! Tests of the public API, in one binary.

#![allow(
    clippy::drop_non_drop,
    dropping_copy_types,
    reason = "`drop` says that a result is not looked at"
)]
#![allow(clippy::type_complexity, reason = "a table of cases is a table")]

mod bad_input;
mod capacity;
mod common;
mod concurrency;
mod counter;
mod durations;
mod events;
mod eviction;
mod iteration;
#[cfg(feature = "persist")]
mod kept_counters;
mod limit;
mod loading;
mod lock;
mod model;
mod pitfalls;
mod presence;
mod pubsub;
mod queue;
mod regressions;
mod room;
#[cfg(feature = "session")]
mod session;
mod sizes;
mod statistics;
mod tags;
mod time;
mod to_key;
mod unwinding;
mod upserts;
mod weak;
mod writes;
