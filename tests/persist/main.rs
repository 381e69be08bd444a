//! Caches and stores that survive a restart: a binary of its own, since it starts itself as a child
//! that is killed.

mod bad_input;
mod cache;
mod corpus;
mod golden;
#[cfg(unix)]
mod gone;
mod heat;
#[cfg(unix)]
mod kill;
mod kinds;
mod reader;
mod store;

use haybox::persist::{Persistence, SyncPolicy};
use haybox::{Cache, Store};
use tempfile::TempDir;

/// A directory for a test. Gone with the test.
pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn always() -> Persistence {
    Persistence::new().sync(SyncPolicy::Always)
}

pub(crate) fn store(dir: &TempDir) -> Store<String, u64> {
    Cache::builder().open_store(dir.path()).expect("opens")
}
