//! The tests of tower-sessions 0.14, run against the store of this crate.

// They are the package's own words.
#![allow(warnings, clippy::all)]

extern crate tower_sessions_0_14 as tower_sessions;

include!(concat!(env!("OUT_DIR"), "/tower_sessions_0_14.rs"));
