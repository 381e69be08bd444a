//! The tests that actix-session has for any store, run against the store of this crate.

// They are the package's own words.
#![allow(warnings, clippy::all)]

use actix_session::storage::{SessionStore, generate_session_key};
use actix_web::cookie::time;
use haybox::session::Sessions;
use std::collections::HashMap;
use test_helpers::acceptance_test_suite;

async fn redis_store() -> Sessions {
    Sessions::default()
}

include!(concat!(env!("OUT_DIR"), "/actix_session.rs"));
