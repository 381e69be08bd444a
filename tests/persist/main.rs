//! Caches and stores that survive a restart: a binary of its own, since it starts itself as a child
//! that is killed.

mod bad_input;
mod cache;
mod clock_set;
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
mod unclosed;

use haybox::persist::{Persistence, SyncPolicy};
use haybox::{Cache, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A directory for a test. Gone with the test.
pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A directory as it is after a `kill -9`.
pub(crate) fn killed(from: &TempDir) -> TempDir {
    let to = dir();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
    }
    to
}

pub(crate) fn always() -> Persistence {
    Persistence::new().sync(SyncPolicy::Always)
}

pub(crate) fn store(dir: &TempDir) -> Store<String, u64> {
    Cache::builder().open_store(dir.path()).expect("opens")
}

/// Every file of a directory with what is in it, for who has to leave it alone.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}
