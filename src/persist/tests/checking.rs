//! The functions for tools, on real files.

use super::model::{History, Map, Store, Write, by_hand};
use super::record;
use crate::persist::check::{self, FileKind};
use crate::persist::error::OpenError;
use crate::persist::storage::{Disk, Storage};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

fn disk() -> Arc<dyn Storage> {
    Arc::new(Disk)
}

/// A store with a snapshot and a log, closed.
fn store_in(dir: &Path) -> Map {
    let store = Store::open_at(dir, &disk(), by_hand()).unwrap();
    let mut history = History::new();
    for n in 0..20u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 50])]);
        store.journal.sync().unwrap();
        if n == 9 {
            store.journal.compact().unwrap();
        }
    }
    record(&store, &mut history, &[Write::Delete(vec![0])]);
    store.journal.close().unwrap();
    store.map()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_sound_store_is_described() {
    let temporary = tempfile::tempdir().unwrap();
    store_in(temporary.path());
    let before = files(temporary.path());
    let last = AtomicU64::new(0);
    let seen = check::inspect(temporary.path(), |at| last.store(at.bytes, SeqCst)).unwrap();
    assert!(seen.is_whole());
    let manifest = seen.manifest.unwrap();
    assert_eq!((manifest.durable_seq, &*manifest.logs), (21, &[2][..]));
    let [snapshot, log] = &*seen.files else {
        panic!("two files");
    };
    assert_eq!(
        (snapshot.kind, snapshot.puts, snapshot.seqs),
        (FileKind::Snapshot, 10, None)
    );
    assert_eq!((log.kind, log.puts, log.deletes), (FileKind::Log, 10, 1));
    assert_eq!((log.seqs, log.durable_seq), (Some((11, 21)), 21));
    assert_eq!(last.load(SeqCst), snapshot.bytes + log.bytes);
    let report = check::verify(temporary.path(), |_| ()).unwrap();
    assert_eq!(
        (report.last_seq, report.from_snapshot, report.from_log),
        (21, 10, 11)
    );
    assert_eq!(files(temporary.path()), before);
}

#[test]
fn a_damaged_store_is_described_and_saved() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, saved) = (
        temporary.path().join("store"),
        temporary.path().join("saved"),
    );
    let mut map = store_in(&dir);
    let log = dir.join("log-2.wal");
    let mut bytes = fs::read(&log).unwrap();
    bytes[64 + 48 + 10] ^= 1;
    fs::write(&log, bytes).unwrap();
    let before = files(&dir);
    let seen = check::inspect(&dir, |_| ()).unwrap();
    assert!(!seen.is_whole());
    assert_eq!(seen.files[1].damages[0].offset, 64);
    assert_eq!(
        (seen.files[1].puts, seen.files[1].seqs),
        (9, Some((12, 21)))
    );
    assert!(matches!(
        check::verify(&dir, |_| ()),
        Err(OpenError::Damaged(_))
    ));
    let report = check::salvage(&dir, &saved, |_| ()).unwrap();
    assert_eq!(report.recovery.dropped_seqs, Some((11, 11)));
    assert_eq!(files(&dir), before, "it stays as it was");
    map.remove(&[10][..]);
    assert_eq!(report.entries, map.len() as u64);
    let store = Store::open_at(&saved, &disk(), by_hand()).unwrap();
    assert_eq!(store.map(), map);
    assert!(
        check::salvage(&dir, &saved, |_| ()).is_err(),
        "there are files"
    );
    assert!(matches!(
        check::verify(&saved, |_| ()),
        Err(OpenError::Locked { .. })
    ));
}

#[test]
fn a_store_that_nobody_has_open_is_compacted() {
    let temporary = tempfile::tempdir().unwrap();
    let map = store_in(temporary.path());
    let report = check::compact(temporary.path(), |_| ()).unwrap();
    assert_eq!((report.entries, report.last_seq), (19, 21));
    let store = Store::open_at(temporary.path(), &disk(), by_hand()).unwrap();
    assert_eq!((store.map(), store.report.from_log), (map, 0));
}

#[test]
fn what_is_no_store_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    let nothing = temporary.path().join("nothing");
    assert!(check::inspect(&nothing, |_| ()).is_err());
    assert!(check::verify(&nothing, |_| ()).is_err());
    assert!(check::salvage(&nothing, temporary.path(), |_| ()).is_err());
    let file = temporary.path().join("file");
    fs::write(&file, "text").unwrap();
    for opened in [
        Store::open_at(&file, &disk(), by_hand()),
        Store::open_at(&file.join("in"), &disk(), by_hand()),
    ] {
        let Err(error) = opened else {
            panic!("a file is no directory");
        };
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
    }
    let empty = temporary.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(!check::inspect(&empty, |_| ()).unwrap().is_whole());
    for absent in [&nothing, &empty] {
        assert!(
            check::compact(absent, |_| ()).is_err(),
            "nothing is made of nothing"
        );
    }
    assert!(!nothing.exists());
    assert_eq!(files(&empty), []);
}
