//! Backups: whole or none, next to no work where nothing was written, and nothing left behind.

use super::memory::{How, Memory, Operation, Spoilt};
use super::model::{History, Store, Write, by_hand};
use super::record;
use crate::MockClock;
use crate::persist::error::{CompactError, OpenError};
use crate::persist::report::ClockCheck;
use crate::persist::settings::{Settings, SyncPolicy};
use crate::persist::storage::{Disk, Storage};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn a_backup_is_a_store_of_its_own() {
    let temporary = tempfile::tempdir().unwrap();
    let (home, copy) = (temporary.path().join("home"), temporary.path().join("copy"));
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    let store = Store::open_at(&home, &disk, by_hand()).unwrap();
    let mut history = History::new();
    for n in 0..20u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        if n == 9 {
            store.journal.compact().unwrap();
        }
    }
    let report = store.journal.backup(&copy).unwrap();
    assert_eq!((report.last_seq, report.linked, report.copied), (20, 2, 0));
    let again = store.journal.backup(&copy);
    assert!(matches!(again, Err(CompactError::NotEmpty { .. })));
    // Both go on, and neither sees what the other writes.
    record(&store, &mut history, &[Write::Put(vec![1], vec![99])]);
    store.journal.sync().unwrap();
    let restored = Store::open_at(&copy, &disk, by_hand()).unwrap();
    assert_eq!(Some(&restored.map()), history.at(20));
    restored.put(b"only here", b"1");
    restored.journal.compact().unwrap();
    restored.journal.close().unwrap();
    store.journal.close().unwrap();
    drop(store);
    let store = Store::open_at(&home, &disk, by_hand()).unwrap();
    assert_eq!(Some(&store.map()), history.at(21));
}

/// Nobody would write the times of the backup anew.
#[test]
fn a_backup_is_by_the_clock_of_its_end_also_where_that_is_set_as_it_is_made() {
    for is_set in [false, true] {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let settings = || Settings {
            clock: time.clock(),
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings()).unwrap();
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
        if is_set {
            let (set, now) = (time.clone(), time.clock().system_time());
            let before = now - Duration::from_secs(43_200);
            // As the log is begun that goes on here, and looked at was the clock before.
            memory.before(Operation::Create, 1, move || set.set_system_time(before));
        }
        let to = Path::new("/backup");
        let report = store.journal.backup(to).unwrap();
        let backup = Store::open_at(to, &memory.storage(), settings()).unwrap();
        assert_eq!(backup.report.clock, ClockCheck::Fine, "{is_set}");
        assert_eq!((report.last_seq, backup.map()), (1, store.map()));
        assert_eq!(backup.report.from_snapshot, u64::from(is_set));
    }
}

/// Whoever has found the directory empty first.
#[test]
fn of_two_backups_into_one_directory_at_once_one_fails() {
    let memory = Memory::new(1);
    let to = Path::new("/backup");
    let open = |name: &str, log| {
        let settings = Settings { log, ..by_hand() };
        let store = Store::open_at(Path::new(name), &memory.storage(), settings).unwrap();
        store.put(name.as_bytes(), b"1");
        store
    };
    for log in [true, false] {
        memory.remove_dir(to);
        let (one, other) = (open("/one", false), open("/other", log));
        let (journal, is_made) = (Arc::clone(&other.journal), Arc::new(AtomicUsize::new(0)));
        let made = Arc::clone(&is_made);
        // Without a log it compacts first, when it has looked into the directory.
        *one.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 0 {
                journal.backup(to).unwrap();
                made.fetch_add(1, SeqCst);
            }
        }));
        let refused = one.journal.backup(to);
        assert_eq!(is_made.load(SeqCst), 1);
        assert!(matches!(&refused, Err(CompactError::NotEmpty { dir }) if dir == to));
        *one.kept.meanwhile.lock().unwrap() = None;
        let backup = Store::open_at(to, &memory.storage(), by_hand()).unwrap();
        assert_eq!(backup.map(), other.map());
    }
}

/// The file of a backup that says nothing yet: a directory with that alone is as one with none.
fn made_before_all(memory: &Memory) -> Vec<std::path::PathBuf> {
    let lock = Path::new("/backup/LOCK").to_owned();
    let mut paths = memory.paths();
    paths.retain(|path| *path == lock);
    paths
}

/// Whatever fails, a backup that was made is whole when the power goes, and one that was not made
/// is no store, or the same one.
#[test]
fn a_backup_is_whole_or_none_whatever_fails() {
    let backup = Path::new("/backup");
    let opens = |memory: &Memory, history: &History| {
        let opened = Store::open_at(backup, &memory.copy().storage(), by_hand());
        match opened {
            Ok(store) if store.report.created => {
                // Of which nothing was made.
                let made = memory.paths().into_iter();
                let made = made.filter(|path| path.parent() == Some(backup));
                assert!(made.eq(made_before_all(memory)));
                false
            }
            Err(OpenError::NoManifest { .. }) => false,
            Ok(store) => Some(&store.map()) == history.at(12) || panic!("{}", store.report),
            Err(error) => panic!("{error}"),
        }
    };
    for (log, has_links) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut made_up = 0;
        for at in 1.. {
            let memory = Memory::new(at);
            let settings = Settings {
                sync: SyncPolicy::Os,
                log,
                // No file is removed, which may fail.
                generations: 9,
                ..by_hand()
            };
            let store = Store::open(&memory.storage(), settings).unwrap();
            let mut history = History::new();
            for n in 0..12u8 {
                record(&store, &mut history, &[Write::Put(vec![n % 9], vec![n])]);
                if n == 6 {
                    store.journal.compact().unwrap();
                }
            }
            memory.fail_from(memory.operations() + at, 1, How::Broken);
            if !has_links {
                memory.fail_next(u64::MAX, Some(Operation::Link), How::Broken);
            }
            let before = memory.operations();
            let made = store.journal.backup(backup);
            let is_over = memory.operations() < before + at;
            let crashed = memory.fork();
            crashed.crash();
            let is_there = opens(&crashed, &history);
            match made {
                Ok(report) => {
                    memory.crash_dropping_all();
                    assert!(is_there && opens(&memory, &history), "operation {at}");
                    let mut files = memory.image();
                    files.retain(|path, _| {
                        let is_other = path.ends_with("MANIFEST") || path.ends_with("LOCK");
                        path.parent() == Some(backup) && !is_other
                    });
                    let bytes: usize = files.values().map(Vec::len).sum();
                    assert_eq!((report.last_seq, report.bytes), (12, bytes as u64));
                    // Of a log the backup has one of its own.
                    let files = files.len() as u64 - u64::from(log);
                    let copied = match has_links {
                        true => u64::from(!is_over),
                        false => files,
                    };
                    assert_eq!((report.linked, report.copied), (files - copied, copied));
                    // That a file cannot be linked is made up for, and nothing else.
                    made_up += u64::from(!is_over);
                    assert!(!is_over || made_up == files);
                }
                Err(error) => assert!(matches!(error, CompactError::Disk(_)), "{error}"),
            }
            if is_over {
                assert!(at > 15, "{at} operations");
                break;
            }
        }
    }
}

/// The log of a backup ends where the manifest says, so that one that is cut is told from one that
/// ended there.
#[test]
fn a_backup_that_is_cut_is_damaged() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"1", b"one");
    store.put(b"2", b"two");
    let compactions = store.journal.health().compactions;
    store.journal.backup(Path::new("/backup")).unwrap();
    assert_eq!(
        store.journal.health().compactions,
        compactions,
        "there is no need"
    );
    let log = Path::new("/backup/log-1.wal");
    let mut bytes = memory.bytes(log);
    bytes.pop();
    memory.put(log, bytes);
    let opened = Store::open_at(Path::new("/backup"), &memory.storage(), by_hand()).map(drop);
    assert!(matches!(opened, Err(OpenError::Damaged(_))), "{opened:?}");
}

#[test]
fn backups_and_compactions_of_a_store_at_rest_leave_no_file_open_or_behind() {
    for sync in [SyncPolicy::Always, SyncPolicy::Os] {
        let memory = Memory::new(1);
        let settings = Settings { sync, ..by_hand() };
        let store = Store::open(&memory.storage(), settings.clone()).unwrap();
        store.put(b"key", b"value");
        let backup = |number: u32| {
            let to = format!("/backup-{number}");
            store.journal.backup(Path::new(&to)).unwrap();
            let restored = Store::open_at(Path::new(&to), &memory.storage(), settings.clone());
            assert_eq!(restored.unwrap().map(), store.map());
        };
        backup(0);
        let files = || {
            let paths = memory.paths();
            let of_store = paths.iter().filter(|path| path.starts_with("/store"));
            (memory.open_files(), of_store.count())
        };
        let before = files();
        (1..10).for_each(backup);
        assert_eq!(files(), before);
        store.journal.compact().unwrap();
        let before = files();
        for number in 10..20 {
            store.journal.compact().unwrap();
            backup(number);
        }
        assert_eq!(files(), before);
        // What a backup goes on with is its own, and so is what the store goes on with.
        store.put(b"later", b"1");
        backup(20);
        assert_eq!(store.map().len(), 2);
    }
}

/// Those that are kept to go back to, and those that are removed, whose space is to be free.
#[test]
fn no_log_from_before_a_compaction_is_kept_open() {
    for generations in [1, 9] {
        let memory = Memory::new(1);
        let settings = Settings {
            sync: SyncPolicy::Os,
            generations,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let before = memory.open_files();
        for n in 0..6u8 {
            store.put(&[n], &[n; 100]);
            match n % 3 {
                0 => drop(store.journal.sync().unwrap()),
                // As the writer does at rest: what comes behind the last sync is no effect.
                1 => {
                    store.journal.sync().unwrap();
                    store.journal.mark().unwrap();
                }
                _ => {}
            }
            store.journal.compact().unwrap();
            let open = memory.open_files();
            assert!(open <= before + usize::from(generations > 1), "{n}: {open}");
        }
        // With nothing written in between.
        let before = memory.open_files();
        (0..5).for_each(|_| _ = store.journal.compact().unwrap());
        assert!(memory.open_files() <= before, "{generations} generations");
    }
}

#[test]
fn many_short_logs_are_worth_a_compaction() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..60u8 {
        assert_eq!(store.journal.time_to_compaction().is_some(), n >= 50, "{n}");
        store.put(&[n], &[n]);
        let to = format!("/backup-{n}");
        store.journal.backup(Path::new(&to)).unwrap();
    }
    store.journal.compact().unwrap();
    assert_eq!(store.journal.time_to_compaction(), None::<Duration>);
}

#[test]
fn a_backup_that_cannot_be_begun_leaves_no_directory_that_opens_as_a_new_store() {
    let to = Path::new("/backup");
    for log in [true, false] {
        let memory = Memory::new(1);
        let settings = Settings { log, ..by_hand() };
        let store = Store::open(&memory.storage(), settings).unwrap();
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
        let backup = |expected: fn(&CompactError) -> bool| {
            let failed = store.journal.backup(to).unwrap_err();
            assert!(expected(&failed), "{failed}");
            assert!(!memory.has_dir(to), "{failed}");
        };
        // The first file in it, and the second.
        for nth in 1..=2 {
            store.put(b"key", b"value");
            store.journal.sync().unwrap();
            let full = memory.clone();
            memory.before(Operation::Create, nth, move || {
                full.fail_next(1, Some(Operation::Create), How::Full);
            });
            if log || nth == 1 {
                backup(|error| matches!(error, CompactError::Disk(error) if error.is_full()));
            }
        }
        memory.fail_next(1, Some(Operation::Link), How::Full);
        if !log {
            // It is copied where it cannot be linked, and that fails, too.
            let full = memory.clone();
            memory.before(Operation::Link, 1, move || {
                full.fail_next(9, Some(Operation::Create), How::Full);
            });
            backup(|error| matches!(error, CompactError::Disk(error) if error.is_full()));
        }
        memory.heal();
        store.journal.close().unwrap();
        backup(|error| matches!(error, CompactError::Closed));
    }
}

/// Each generation that is kept has one, or more, and another compaction would not make them fewer.
#[test]
fn the_logs_of_generations_that_are_kept_are_not_worth_a_compaction() {
    let memory = Memory::new(1);
    let settings = Settings {
        generations: 99,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for n in 0..60u8 {
        store.put(&[n], &[n]);
        store.journal.compact().unwrap();
    }
    store.put(b"key", b"value");
    assert_eq!(store.journal.time_to_compaction(), None::<Duration>);
}

/// Also where that is no more than what the writer says at rest: half of it would be a torn tail.
#[test]
fn a_backup_is_on_the_disk_to_the_end_of_what_it_is_made_of() {
    let memory = Memory::new(1);
    let settings = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    store.put(b"key", b"value");
    store.journal.sync().unwrap();
    store.journal.mark().unwrap();
    memory.spoil(Path::new("/store/log-1.wal"), Spoilt::Sync);
    let backup = store.journal.backup(Path::new("/backup")).map(drop);
    assert!(matches!(backup, Err(CompactError::Disk(_))), "{backup:?}");
}
