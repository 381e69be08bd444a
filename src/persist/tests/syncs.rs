//! Faults 19 and 20: a sync of the log that fails, or panics. What it was to write may be lost
//! though the system shows it, so nothing of it is trusted, here or by who opens the directory
//! next.

use super::faults::{empty, lazily, opens, path};
use super::memory::{Fault, How, Memory, Operation, Spoilt};
use super::model::{History, Store, Write, append, by_hand, dir};
use super::{is_snapshot, record};
use crate::persist::error::{CommitError, CompactError};
use crate::persist::manifest::Manifest;
use crate::persist::report::HealthState;
use crate::persist::settings::{Settings, SyncPolicy};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn fault_19_after_a_failed_sync_nothing_is_trusted_but_new_files() {
    let (memory, mut history, store) = empty(3, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    // The next sync of that file would succeed, and lie.
    assert!(store.journal.wait(1, None).is_err());
    assert_eq!(store.journal.durable_seq(), 0);
    let health = store.journal.health();
    assert_eq!(
        (health.state, health.sync_failures),
        (HealthState::Troubled, 1)
    );
    record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
    assert_eq!(store.journal.sync().unwrap(), 2);
    assert!(memory.paths().contains(&path("snap-2.db")));
    assert!(!memory.paths().contains(&path("log-1.wal")));
    store.journal.wait(1, None).unwrap();
    memory.crash_dropping_all();
    drop(opens(&memory, &history, 2));
}

/// Who calls for a sync is told why the new files cannot be made.
#[test]
fn fault_19_what_keeps_new_files_from_being_made_is_told() {
    for how in [How::Full, How::Panic] {
        let (memory, mut history, store) = empty(3, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        assert!(store.journal.wait(1, None).is_err());
        memory.fail_next(1, Some(Operation::Create), how);
        let error = store.journal.sync().unwrap_err();
        let is_meant = match &error {
            CommitError::Disk(error) => how == How::Full && error.is_full(),
            CommitError::Panicked { .. } => how == How::Panic,
            _ => false,
        };
        assert!(is_meant, "{error}");
    }
}

#[test]
fn fault_20_a_failed_sync_and_a_crash_do_not_overstate() {
    for seed in 0..200 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.sync().unwrap();
        record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        assert!(store.journal.wait(2, None).is_err());
        for n in 3..6 {
            record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
            let _ = store.journal.wait(history.last(), Some(Instant::now()));
        }
        assert_eq!(store.journal.durable_seq(), 1);
        memory.crash();
        drop(opens(&memory, &history, 1));
    }
}

#[test]
fn fault_20_a_process_that_dies_after_a_failed_sync_leaves_word_of_it() {
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    // The new generation does not come about, but the manifest says why it was begun.
    memory.fail_next(1, Some(Operation::Create), How::Broken);
    assert!(store.journal.compact().is_err());
    let from = memory.operations() + 6;
    let only = Some(Operation::Create);
    memory.fail(Fault {
        from,
        count: 1,
        only,
        how: How::Broken,
    });
    assert!(store.journal.compact().is_err());
    let killed = memory.copy();
    let store = opens(&killed, &history, 1);
    assert!(
        killed
            .paths()
            .iter()
            .any(|path| path.to_string_lossy().contains("snap-"))
    );
    assert_eq!(store.journal.durable_seq(), 1, "by new files");
}

/// Whether what an opening in the same life of the machine says to be durable is still there when
/// the power goes.
#[track_caller]
fn does_not_overstate(memory: &Memory, history: &History, at_least: u64) {
    let store = opens(memory, history, at_least);
    let durable = store.journal.durable_seq();
    let crashed = memory.fork();
    crashed.crash_dropping_all();
    drop(opens(&crashed, history, durable));
}

/// The next sync of the file would succeed, and the process that opens it reads what is not there.
#[test]
fn fault_20_any_sync_that_fails_or_panics_is_known_to_the_next_opening() {
    let cases = [How::Broken, How::Panic].into_iter();
    for (how, seed) in cases.flat_map(|how| (0..10).map(move |seed| (how, seed))) {
        for at in 1.. {
            let (memory, mut history, store) = empty(seed, by_hand());
            let start = memory.operations();
            memory.fail(Fault {
                from: start + at,
                count: 1,
                only: Some(Operation::Sync),
                how,
            });
            let mut acknowledged = 0;
            for n in 0..2u8 {
                let writes = [Write::Put(vec![n], vec![n; 200])];
                history.add(append(&store.journal, &store.kept, &writes), &writes);
                let _ = store.journal.wait(history.last(), None);
                let _ = store.journal.compact();
                acknowledged = store.journal.durable_seq();
            }
            let _ = store.journal.backup(Path::new("/backup"));
            // As the compactor does, which each failure rings for.
            let _ = store.journal.compact();
            let killed = memory.fork();
            let writes = [Write::Put(vec![2], vec![2; 200])];
            history.add(append(&store.journal, &store.kept, &writes), &writes);
            let _ = store.journal.close();
            let is_over = memory.operations() - start < at;
            memory.heal();
            does_not_overstate(&killed, &history, acknowledged);
            does_not_overstate(&memory, &history, acknowledged);
            if is_over {
                break;
            }
        }
    }
}

/// The sync of what was recovered, by which it counts as durable.
#[test]
fn fault_20_an_opening_whose_sync_fails_or_panics_leaves_word_of_it() {
    for how in [How::Broken, How::Panic] {
        for seed in 0..20 {
            let (memory, mut history, store) = empty(seed, lazily());
            record(&store, &mut history, &[Write::Put(vec![1], vec![1; 200])]);
            store.journal.wait(1, None).unwrap();
            let killed = memory.fork();
            killed.roll_again(seed);
            killed.fail_next(1, Some(Operation::Sync), how);
            let open = || Store::open(&killed.storage(), lazily()).map(drop);
            let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
            assert!(!matches!(opened, Ok(Ok(()))), "the log is synced first");
            does_not_overstate(&killed, &history, 1);
        }
    }
}

/// To leave word of it may panic, too: then it is tried twice more, and nothing waits for it.
#[test]
fn fault_20_word_of_a_panic_that_panics_is_left_later_or_not_at_all() {
    for (panics, is_left) in [(1, true), (2, true), (3, true), (4, false)] {
        let (memory, mut history, store) = empty(5, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1; 200])]);
        memory.fail_from(memory.operations() + 2, panics, How::Panic);
        let waited = store.journal.wait(1, None);
        assert!(matches!(waited, Err(CommitError::Panicked { .. })));
        let compacted = store.journal.compact();
        assert!(matches!(compacted, Err(CompactError::Panicked { .. })));
        let closed = store.journal.close();
        assert!(matches!(closed, Err(CommitError::Panicked { .. })));
        let trouble = store.journal.health().trouble.unwrap();
        assert!(trouble.contains("syncer"), "the first counts: {trouble}");
        let manifest = Manifest::read(&memory, &dir()).unwrap().unwrap();
        assert_eq!(manifest.distrusted, is_left, "after {panics}");
        // It is free, and holds what the system has.
        drop(opens(&memory, &history, 1));
    }
}

/// What the directory's next owner has written is not written over.
#[test]
fn word_of_a_panic_is_not_left_in_a_directory_that_was_given_free() {
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Panic);
    memory.fail_next(2, Some(Operation::Create), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    assert!(store.journal.close().is_err());
    let next = opens(&memory, &history, 1);
    let before = memory.operations();
    let compacted = store.journal.compact();
    assert!(matches!(compacted, Err(CompactError::Panicked { .. })));
    drop(store);
    assert_eq!(memory.operations(), before);
    drop(next);
}

/// A sync of the new log that fails while the snapshot is made is not made good by the next.
#[test]
fn a_sync_that_fails_during_a_compaction_is_not_trusted_again() {
    for seed in 0..50 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.wait(1, None).unwrap();
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        let (disk, noted) = (memory.clone(), Arc::new(std::sync::Mutex::new(history)));
        let history = Arc::clone(&noted);
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 1 {
                let writes = [Write::Put(vec![2], vec![2; 50])];
                let journal = journal.upgrade().unwrap();
                let seq = append(&journal, &kept.upgrade().unwrap(), &writes);
                noted.lock().unwrap().add(seq, &writes);
                disk.fail_next(1, Some(Operation::Sync), How::Broken);
                assert!(journal.wait(seq, None).is_err());
            }
        }));
        assert!(store.journal.compact().is_err());
        *store.kept.meanwhile.lock().unwrap() = None;
        assert_eq!(store.journal.durable_seq(), 1);
        let history = history.lock().unwrap();
        let crashed = memory.fork();
        crashed.crash_dropping_all();
        drop(opens(&crashed, &history, 1));
        assert_eq!(store.journal.sync().unwrap(), 2);
        memory.crash_dropping_all();
        drop(opens(&memory, &history, 2));
    }
}

/// A walk may take minutes, and the process may be killed at any of its sets.
#[test]
fn word_of_a_sync_that_fails_during_a_compaction_is_left_at_once() {
    for seed in 0..20 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.wait(1, None).unwrap();
        let write = |n: u8| [Write::Put(vec![n], vec![n; 200])];
        (2..4).for_each(|n| history.add(n.into(), &write(n)));
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        let (disk, killed) = (memory.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let later = Arc::clone(&killed);
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| match set {
            0 => {
                let (journal, kept) = (journal.upgrade().unwrap(), kept.upgrade().unwrap());
                let seq = append(&journal, &kept, &write(2));
                journal.wait(seq, None).unwrap();
                let seq = append(&journal, &kept, &write(3));
                disk.fail_next(1, Some(Operation::Sync), How::Broken);
                assert!(journal.wait(seq, None).is_err());
            }
            _ => later.lock().unwrap().push(disk.fork()),
        }));
        assert!(store.journal.compact().is_err());
        *store.kept.meanwhile.lock().unwrap() = None;
        killed.lock().unwrap().push(memory.fork());
        for killed in killed.lock().unwrap().iter() {
            does_not_overstate(killed, &history, 2);
        }
        assert_eq!(store.journal.sync().unwrap(), 3);
    }
}

/// Nobody may make new files for minutes, as the compactor after it has failed some times.
#[test]
fn word_of_a_failed_sync_is_left_by_who_finds_it_out() {
    for seed in 0..20 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1; 200])]);
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        assert!(store.journal.wait(1, None).is_err());
        does_not_overstate(&memory.fork(), &history, 0);
    }
}

#[test]
fn word_of_a_failed_sync_that_could_not_be_left_is_left_by_the_next() {
    for seed in 0..20 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1; 200])]);
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        memory.fail_next(1, Some(Operation::Create), How::Full);
        assert!(store.journal.wait(1, None).is_err());
        let is_left = || Manifest::read(&memory, &dir()).unwrap().unwrap().distrusted;
        assert!(!is_left());
        assert!(store.journal.wait(1, None).is_err());
        assert!(is_left());
        does_not_overstate(&memory.fork(), &history, 0);
    }
}

/// A backup that has to copy may take long, and keeps new files from being made.
#[test]
fn word_of_a_sync_that_fails_during_a_backup_is_left_at_once() {
    for seed in 0..20 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.compact().unwrap();
        let writes = [Write::Put(vec![2], vec![2; 200])];
        history.add(2, &writes);
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        let (disk, killed) = (memory.clone(), Arc::new(std::sync::Mutex::new(None)));
        let seen = Arc::clone(&killed);
        memory.before(Operation::Link, 1, move || {
            let (journal, kept) = (journal.upgrade().unwrap(), kept.upgrade().unwrap());
            let seq = append(&journal, &kept, &writes);
            disk.fail_next(1, Some(Operation::Sync), How::Broken);
            assert!(journal.wait(seq, None).is_err());
            *seen.lock().unwrap() = Some(disk.fork());
        });
        store.journal.backup(Path::new("/backup")).unwrap();
        let killed = killed.lock().unwrap().take().unwrap();
        does_not_overstate(&killed, &history, 1);
        // The backup is of before, and as good as it was.
        let backup = Manifest::read(&memory, Path::new("/backup"));
        assert!(!backup.unwrap().unwrap().distrusted);
        assert_eq!(store.journal.sync().unwrap(), 2);
    }
}

/// The snapshot is made, and what came behind it is no better than a sync that failed meanwhile.
#[test]
fn a_sync_that_fails_as_the_snapshot_is_named_is_made_up_for_by_the_next() {
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    store.journal.wait(1, None).unwrap();
    let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
    let (disk, noted) = (memory.clone(), Arc::new(std::sync::Mutex::new(history)));
    let history = Arc::clone(&noted);
    // The first rename is that of the manifest that lists the new log.
    memory.before(Operation::Rename, 2, move || {
        let writes = [Write::Put(vec![2], vec![2; 50])];
        let journal = journal.upgrade().unwrap();
        let seq = append(&journal, &kept.upgrade().unwrap(), &writes);
        noted.lock().unwrap().add(seq, &writes);
        disk.fail_next(1, Some(Operation::Sync), How::Broken);
        assert!(journal.wait(seq, None).is_err());
    });
    // The manifest that lists the snapshot says it, too: none can be made behind that.
    let full = memory.clone();
    memory.before(Operation::Rename, 4, move || {
        full.fail_next(9, Some(Operation::Create), How::Full);
    });
    store.journal.compact().unwrap();
    assert!(Manifest::read(&memory, &dir()).unwrap().unwrap().distrusted);
    memory.heal();
    let history = history.lock().unwrap();
    assert_eq!((store.journal.durable_seq(), history.last()), (1, 2));
    assert_eq!(store.journal.health().state, HealthState::Troubled);
    assert!(
        store.journal.wait(2, None).is_err(),
        "the next sync would succeed"
    );
    let killed = memory.fork();
    assert!(Manifest::read(&killed, &dir()).unwrap().unwrap().distrusted);
    does_not_overstate(&killed, &history, 1);
    assert_eq!(store.journal.sync().unwrap(), 2);
    assert_eq!(store.journal.health().state, HealthState::Well);
    memory.crash_dropping_all();
    drop(opens(&memory, &history, 2));
}

/// A process may end at any moment. Whether a sync has failed before a compaction, or while it
/// makes its log, the manifest says so before the next file is made.
#[test]
fn word_of_a_failed_sync_is_there_before_the_next_file() {
    // The first file is the manifest, or the log and then the manifest, twice.
    for (is_meanwhile, file) in [(false, 2), (true, 4)] {
        let (memory, mut history, store) = empty(5, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        if is_meanwhile {
            let journal = Arc::downgrade(&store.journal);
            memory.before(Operation::Create, 1, move || {
                assert!(journal.upgrade().unwrap().wait(1, None).is_err());
            });
        } else {
            assert!(store.journal.wait(1, None).is_err());
        }
        let (disk, seen) = (memory.clone(), Arc::new(std::sync::Mutex::new(None)));
        let noted = Arc::clone(&seen);
        memory.before(Operation::Create, file, move || {
            let manifest = Manifest::read(&disk, &dir()).unwrap().unwrap();
            *noted.lock().unwrap() = Some(manifest.distrusted);
        });
        store.journal.compact().unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(true), "{is_meanwhile}");
        assert_eq!(store.journal.durable_seq(), 1);
    }
}

/// A log whose syncs fail for ever is done with as soon as there is another.
#[test]
fn a_log_that_is_never_synced_is_made_up_for_by_new_files() {
    for (is_rotated, sync) in [(false, SyncPolicy::Always), (true, SyncPolicy::Os)] {
        let settings = Settings { sync, ..by_hand() };
        let (memory, mut history, store) = empty(5, settings);
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        memory.spoil(&path("log-1.wal"), Spoilt::Sync);
        if is_rotated {
            // The log is written, and another follows on it; the snapshot is not begun.
            store.journal.wait(1, None).unwrap();
            memory.fail_from(memory.operations() + 10, 1, How::Broken);
            assert!(store.journal.compact().is_err());
        }
        let error = store.journal.sync().unwrap_err().to_string();
        assert!(error.contains("log-1.wal: input/output error"), "{error}");
        record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
        assert_eq!(store.journal.sync().unwrap(), 2);
        let health = store.journal.health();
        assert_eq!((health.state, health.sync_failures), (HealthState::Well, 1));
        memory.crash_dropping_all();
        drop(opens(&memory, &history, 2));
    }
}

/// While nobody waits it is tried ever more seldom, since each attempt may write as much as there
/// is.
#[test]
fn new_files_that_fail_are_tried_again_soon_if_a_write_waits_or_is_refused() {
    let long = |store: &Store| store.journal.time_to_compaction() > Some(Duration::from_secs(60));
    let fails_often = |store: &Store| {
        for _ in 0..10 {
            assert!(store.journal.compact().is_err());
        }
        assert!(long(store));
    };
    let now = || Some(Instant::now());
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Broken);
    fails_often(&store);
    assert!(matches!(
        store.journal.wait(1, now()),
        Err(CommitError::Disk(_))
    ));
    assert!(long(&store), "nobody waits for what has failed");
    record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
    assert!(matches!(
        store.journal.wait(2, now()),
        Err(CommitError::TimedOut)
    ));
    assert!(!long(&store));
    assert!(store.journal.compact().is_err());
    assert!(matches!(
        store.journal.wait(2, now()),
        Err(CommitError::Disk(_))
    ));
    assert!(long(&store));
    memory.heal();
    assert_eq!(store.journal.sync().unwrap(), 2);

    // What could not be logged, of a store and of a cache, which goes on in memory.
    for refuses in [true, false] {
        let settings = Settings {
            buffer: 64,
            refuses,
            ..by_hand()
        };
        let (memory, _, store) = empty(5, settings);
        memory.fail_next(u64::MAX, None, How::Full);
        for n in 0..100 {
            append(
                &store.journal,
                &store.kept,
                &[Write::Put(vec![n], vec![n; 20])],
            );
        }
        let _ = store.journal.sync();
        fails_often(&store);
        assert!(store.write(&[Write::Put(vec![1], vec![1])]).is_err());
        assert_eq!(long(&store), !refuses);
    }
}

/// The threads are left to themselves, and would try again in minutes.
#[test]
fn who_waits_when_the_disk_is_well_again_does_not_wait_for_long() {
    let memory = Memory::new(1);
    let settings = Settings {
        by_hand: false,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Broken);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    let seq = store.put(b"key", b"value");
    assert!(store.journal.wait(seq, None).is_err());
    for _ in 0..10 {
        assert!(store.journal.compact().is_err());
    }
    memory.heal();
    let seq = store.put(b"key", b"other");
    let patience = Instant::now() + Duration::from_secs(60);
    store.journal.wait(seq, Some(patience)).unwrap();
    assert_eq!(store.journal.durable_seq(), seq);
}

/// The compactor sleeps for minutes, and nobody but who is refused knows that it should not.
#[test]
fn who_is_refused_when_the_disk_is_well_again_is_not_for_long() {
    let memory = Memory::new(1);
    let settings = Settings {
        by_hand: false,
        sync: SyncPolicy::Os,
        log_limit: 1_000,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Broken);
    for _ in 0..10 {
        assert!(store.journal.compact().is_err());
    }
    let patience = Instant::now() + Duration::from_secs(60);
    let write = || store.write(&[Write::Put(vec![1], vec![1; 50])]);
    while write().is_ok() {
        assert!(Instant::now() < patience, "the log is full at some time");
        std::thread::yield_now();
    }
    memory.heal();
    while write().is_err() {
        assert!(Instant::now() < patience, "{:?}", store.journal.health());
        std::thread::yield_now();
    }
}

/// Whose threads are left to themselves.
#[test]
fn a_failed_sync_is_made_up_for_without_a_call() {
    let memory = Memory::new(1);
    let settings = Settings {
        by_hand: false,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    let seq = store.put(b"key", b"value");
    let patience = Instant::now() + Duration::from_secs(60);
    while store.journal.wait(seq, Some(patience)).is_err() {
        assert!(Instant::now() < patience, "{:?}", store.journal.health());
    }
    assert_eq!(store.journal.durable_seq(), seq);
    assert_eq!(store.journal.health().sync_failures, 1);
}

/// Of a failed sync the manifest says so before anything else is tried that may fail.
#[test]
fn word_of_a_failed_sync_comes_before_the_new_log() {
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    memory.fail_next(1, Some(Operation::SyncDir), How::Broken);
    assert!(store.journal.compact().is_err());
    let killed = memory.copy();
    drop(opens(&killed, &history, 1));
    assert!(
        killed.paths().iter().any(|path| is_snapshot(path)),
        "all is written anew"
    );
}

/// Of the log that it is written to nothing else says that it is not on the disk.
#[test]
fn what_is_written_during_a_sync_is_synced_though_another_log_has_begun() {
    let (memory, mut history, store) = empty(5, lazily());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
    let writes = [Write::Put(vec![2], vec![2])];
    history.add(2, &writes);
    memory.before(Operation::Sync, 1, move || {
        let (journal, kept) = (journal.upgrade().unwrap(), kept.upgrade().unwrap());
        let seq = append(&journal, &kept, &writes);
        journal.wait(seq, None).unwrap();
    });
    assert_eq!(store.journal.sync().unwrap(), 1);
    // The next log is made, and listed; the snapshot is not begun.
    memory.fail_from(memory.operations() + 10, 1, How::Broken);
    assert!(store.journal.compact().is_err());
    assert_eq!(store.journal.durable_seq(), 1);
    memory.spoil(&path("log-1.wal"), Spoilt::Sync);
    assert!(store.journal.sync().is_err());
    assert_eq!(store.journal.durable_seq(), 1);
    assert_eq!(store.journal.sync().unwrap(), 2, "by new files");
    memory.crash_dropping_all();
    drop(opens(&memory, &history, 2));
}

/// The walk does not see it any more, and the next sync of the log would succeed.
#[test]
fn a_sync_that_fails_behind_the_walk_is_not_trusted_again() {
    for seed in 0..20 {
        let (memory, mut history, store) = empty(seed, by_hand());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.wait(1, None).unwrap();
        let writes = [Write::Put(vec![3], vec![3; 50])];
        history.add(2, &writes);
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 3 {
                append(
                    &journal.upgrade().unwrap(),
                    &kept.upgrade().unwrap(),
                    &writes,
                );
            }
        }));
        let (journal, disk) = (Arc::downgrade(&store.journal), memory.clone());
        // Of the new log, of the manifest, and of the snapshot its header, and all else in one.
        memory.before(Operation::Write, 4, move || {
            disk.fail_next(1, Some(Operation::Sync), How::Broken);
            assert!(journal.upgrade().unwrap().wait(2, None).is_err());
        });
        assert!(store.journal.compact().is_err());
        *store.kept.meanwhile.lock().unwrap() = None;
        assert_eq!(store.journal.durable_seq(), 1);
        does_not_overstate(&memory.fork(), &history, 1);
        assert_eq!(store.journal.sync().unwrap(), 2);
    }
}

/// A crash may leave out the cut and not the write, and what is left of that would cut off what
/// follows.
#[test]
fn a_log_that_a_write_was_cut_off_from_is_synced_before_what_follows_counts() {
    for is_mark in [false, true] {
        let (memory, mut history, store) = empty(5, lazily());
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.sync().unwrap();
        let writes = [Write::Put(vec![2], vec![2; 50])];
        if !is_mark {
            record(&store, &mut history, &writes);
        }
        memory.fail_next(1, Some(Operation::Write), How::Half);
        let failed = match is_mark {
            true => store.journal.mark(),
            false => store.journal.wait(2, None),
        };
        assert!(failed.is_err());
        // The next log is made, and listed; the snapshot is not begun.
        memory.fail_from(memory.operations() + 10, 1, How::Broken);
        assert!(store.journal.compact().is_err());
        if is_mark {
            record(&store, &mut history, &writes);
        }
        store.journal.wait(2, None).unwrap();
        memory.spoil(&path("log-1.wal"), Spoilt::Sync);
        assert!(store.journal.sync().is_err());
        assert_eq!(store.journal.durable_seq(), 1);
        assert_eq!(store.journal.sync().unwrap(), 2, "by new files");
        memory.crash_dropping_all();
        drop(opens(&memory, &history, 2));
    }
}

/// By who waits then for what has never come to the disk.
#[test]
fn word_of_a_failed_sync_is_not_left_in_a_directory_that_was_given_free() {
    let (memory, mut history, store) = empty(5, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Broken);
    assert!(store.journal.wait(1, None).is_err());
    assert!(store.journal.close().is_err());
    memory.heal();
    let next = opens(&memory, &history, 1);
    let before = memory.operations();
    assert!(store.journal.wait(1, None).is_err());
    assert_eq!(memory.operations(), before);
    drop(next);
}
