//! A directory that somebody removes while it is open.

use crate::{always, dir};
use haybox::persist::{CommitError, HealthState, WriteError};
use haybox::{Cache, Store};
use std::fs;
use std::path::Path;

fn open(dir: &Path) -> Store<String, u64> {
    let opened = Cache::builder().open_store_with(dir, always());
    opened.unwrap()
}

/// Writes to a store whose directory is gone, and says whether it is in memory. A thread that has
/// synced an earlier write may only now look whether that counts, and so be the first to find out.
fn write_in_vain(old: &Store<String, u64>, value: u64) -> bool {
    match old.insert("old".into(), value) {
        Ok(commit) => {
            let error = commit.wait().unwrap_err();
            assert!(
                matches!(error, CommitError::DirectoryGone { .. }),
                "{error}"
            );
            true
        }
        Err(error) => {
            let is_gone = matches!(error, WriteError::DirectoryGone { .. });
            assert!(is_gone, "{error}");
            false
        }
    }
}

#[test]
fn the_old_handle_of_a_directory_that_was_made_anew_leaves_it_alone() {
    for is_dropped_at_once in [true, false] {
        let base = dir();
        let dir = base.path().join("store");
        let old = open(&dir);
        old.insert("old".into(), 1).unwrap().wait().unwrap();
        old.journal().sync().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let new = open(&dir);
        for key in 0..100 {
            let commit = new.insert(format!("new {key}"), key).unwrap();
            commit.wait().unwrap();
        }
        new.journal().close().unwrap();
        if !is_dropped_at_once {
            let is_there = write_in_vain(&old, 2);
            let health = old.journal().health();
            assert_eq!(health.state, HealthState::Troubled);
            assert_eq!(
                health.trouble.unwrap(),
                format!(
                    "{} was removed, moved away or replaced while it was open, and nothing is \
                     written any more: close and open again",
                    dir.display()
                )
            );
            let is_taken = write_in_vain(&old, 3);
            assert!(!is_taken);
            assert_eq!(old.get("old"), Some(if is_there { 2 } else { 1 }));
            assert!(old.journal().close().is_err());
        }
        drop(old);
        let new = open(&dir);
        assert_eq!((new.len(), new.get("new 99")), (100, Some(99)));
    }
}

#[test]
fn what_was_removed_or_moved_away_is_not_made_anew_by_halves() {
    for is_moved in [true, false] {
        let base = dir();
        let dir = base.path().join("store");
        let old = open(&dir);
        old.insert("old".into(), 1).unwrap().wait().unwrap();
        if is_moved {
            fs::rename(&dir, base.path().join("elsewhere")).unwrap();
            fs::create_dir(&dir).unwrap();
        } else {
            for file in fs::read_dir(&dir).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        write_in_vain(&old, 2);
        assert_eq!(old.journal().health().state, HealthState::Troubled);
        assert!(old.journal().sync().is_err());
        drop(old);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert!(open(&dir).is_empty());
    }
}

/// It is found out when it is compacted for the end, too.
#[test]
fn a_cache_goes_on_in_memory() {
    for is_synced in [true, false] {
        let dir = dir();
        let open = || {
            let builder = Cache::<u32, u32>::builder().max_entries(100);
            builder.open(dir.path()).unwrap()
        };
        let cache = open();
        cache.insert(1, 1);
        fs::remove_dir_all(dir.path()).unwrap();
        let other = open();
        other.insert(2, 2);
        drop(other);
        if is_synced {
            assert!(cache.journal().unwrap().sync().is_err());
            cache.insert(3, 3);
            assert_eq!((cache.get(&1), cache.get(&3)), (Some(1), Some(3)));
        }
        drop(cache);
        let other = open();
        assert_eq!((other.get(&1), other.get(&2)), (None, Some(2)));
    }
}
