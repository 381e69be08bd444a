//! An entry that was encoded as it was written and cannot be for a snapshot, for as long as it is
//! there: no attempt at one succeeds, and the files of before are gone on with.

use super::faults::{empty, lazily, opens};
use super::memory::{How, Memory, Operation};
use super::model::{History, Kept, Store, Write, by_hand, dir};
use super::record;
use crate::persist::error::{CommitError, CompactError, OpenError};
use crate::persist::manifest::{Manifest, Name};
use crate::persist::report::HealthState;
use crate::persist::settings::{Point, RecoveryMode, Settings, SyncPolicy, WhenFull};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The value that does not become bytes any more.
const BAD: &[u8] = b"bad";

/// A store that holds such a value, and one that is beside it.
fn spoilt(settings: Settings) -> (Memory, History, Store) {
    let (memory, mut history, store) = empty(3, settings);
    record(&store, &mut history, &[Write::Put(vec![0], vec![0])]);
    record(&store, &mut history, &[Write::Put(vec![1], BAD.to_vec())]);
    store.journal.sync().unwrap();
    *store.kept.unencodable.lock().unwrap() = Some(BAD.to_vec());
    (memory, history, store)
}

#[track_caller]
fn fails_to_encode(store: &Store) {
    let error = store.journal.compact().unwrap_err();
    assert!(matches!(error, CompactError::Encode(_)), "{error}");
}

fn logs(memory: &Memory) -> Vec<u64> {
    Manifest::read(memory, &dir()).unwrap().unwrap().logs
}

/// Whatever is written before the entry is replaced and while the snapshot is made at last.
#[test]
fn attempts_in_vain_list_one_log_and_the_snapshot_is_whole_with_that() {
    for is_distrusted in [false, true] {
        let (memory, mut history, store) = spoilt(by_hand());
        if is_distrusted {
            record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
            memory.fail_next(1, Some(Operation::Sync), How::Broken);
            store.journal.sync().unwrap_err();
        }
        for n in 3..20u8 {
            fails_to_encode(&store);
            let writes = [
                Write::Put(vec![n % 5 + 2], vec![n]),
                Write::Delete(vec![n % 3 + 3]),
            ];
            record(&store, &mut history, &writes);
            let _ = store.journal.wait(history.last(), Some(Instant::now()));
            assert_eq!(logs(&memory), [1, 2], "attempt {n}");
            // As it was killed, with the power on.
            drop(opens(&memory.copy(), &history, 2));
        }
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        let before = history.last();
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 2 {
                let writes = [Write::Put(vec![1], vec![7]), Write::Put(vec![3], vec![7])];
                let (journal, kept) = (journal.upgrade().unwrap(), kept.upgrade().unwrap());
                super::model::append(&journal, &kept, &writes);
            }
        }));
        let report = store.journal.compact().unwrap();
        *store.kept.meanwhile.lock().unwrap() = None;
        let writes = [Write::Put(vec![1], vec![7]), Write::Put(vec![3], vec![7])];
        history.add(store.journal.last_seq(), &writes);
        assert_eq!((report.generation, report.last_seq), (2, before + 2));
        assert_eq!(logs(&memory), [2]);
        assert_eq!(store.journal.health().state, HealthState::Well);
        record(&store, &mut history, &[Write::Delete(vec![0])]);
        assert_eq!(store.journal.sync().unwrap(), history.last());
        assert_eq!(store.journal.compact().unwrap().generation, 3);
        record(&store, &mut history, &[Write::Put(vec![8], vec![8])]);
        store.journal.sync().unwrap();
        memory.crash_dropping_all();
        drop(opens(&memory, &history, history.last()));
    }
}

/// What has been written since the last attempt stays behind the snapshot that is made at last, and
/// is read at each opening. So a log that has grown is left, and one that has not is kept, however
/// many attempts there are.
#[test]
fn an_attempt_in_vain_begins_a_log_only_where_that_of_the_last_has_grown() {
    let most = 2_000;
    let by_growth = Settings {
        growth_bytes: most,
        ..by_hand()
    };
    let by_limit = Settings {
        log_limit: 2 * most,
        ..by_hand()
    };
    // Beyond its limit a log takes no writes.
    for (settings, last) in [(by_growth, 6), (by_limit, 3)] {
        let (memory, mut history, store) = spoilt(settings);
        let length = |log| memory.bytes(&Name::Log(log).in_dir(&dir())).len() as u64;
        fails_to_encode(&store);
        for log in 2..last {
            while length(log) < most {
                fails_to_encode(&store);
                assert_eq!(logs(&memory), (1..=log).collect::<Vec<_>>());
                record(&store, &mut history, &[Write::Put(vec![3], vec![3; 500])]);
                store.journal.sync().unwrap();
            }
            fails_to_encode(&store);
            assert_eq!(logs(&memory), (1..=log + 1).collect::<Vec<_>>());
        }
        record(&store, &mut history, &[Write::Delete(vec![1])]);
        store.journal.compact().unwrap();
        assert_eq!(logs(&memory), [last]);
        assert!(length(last) < most, "{}", length(last));
        memory.crash_dropping_all();
        drop(opens(&memory, &history, history.last()));
    }
}

/// What the log of the last attempt is no good for any more: one whose sync has failed, one that
/// does not take what is written, one that a backup has ended.
#[test]
fn a_log_that_something_is_wrong_with_is_not_gone_on_with() {
    type Spoil = fn(&Memory, &Store, &mut History);
    let spoil: [Spoil; 3] = [
        |memory, store, history| {
            record(store, history, &[Write::Put(vec![5], vec![5])]);
            memory.fail_next(1, Some(Operation::Sync), How::Broken);
            store.journal.sync().unwrap_err();
        },
        |memory, store, history| {
            record(store, history, &[Write::Put(vec![5], vec![5; 99])]);
            memory.fail_next(1, Some(Operation::Write), How::Half);
            memory.fail_next(1, Some(Operation::Cut), How::Broken);
            store.journal.sync().unwrap_err();
        },
        |_, store, history| {
            record(store, history, &[Write::Put(vec![5], vec![5])]);
            store.journal.backup(Path::new("/backup")).unwrap();
        },
    ];
    for (at, spoil) in spoil.into_iter().enumerate() {
        let (memory, mut history, store) = spoilt(by_hand());
        fails_to_encode(&store);
        spoil(&memory, &store, &mut history);
        fails_to_encode(&store);
        let listed = logs(&memory);
        assert!(listed.len() > 2, "case {at}");
        // What waited goes into the new one.
        let _ = store.journal.wait(history.last(), Some(Instant::now()));
        fails_to_encode(&store);
        assert_eq!(logs(&memory), listed, "case {at}");
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.compact().unwrap();
        assert_eq!(store.journal.durable_seq(), history.last());
        memory.crash_dropping_all();
        drop(opens(&memory, &history, history.last()));
    }
}

/// The log of the last attempt lacks what could not be logged since, or is the first that has it.
#[test]
fn what_could_not_be_logged_between_attempts_is_in_the_snapshot() {
    let settings = Settings {
        buffer: 500,
        when_full: WhenFull::Error,
        ..lazily()
    };
    let (memory, mut history, store) = spoilt(settings);
    fails_to_encode(&store);
    let crowd = |history: &mut History, from: u8| {
        for n in from..from + 100 {
            let writes = [Write::Put(vec![n], vec![n; 100])];
            let seq = super::model::append(&store.journal, &store.kept, &writes);
            history.add(seq, &writes);
        }
    };
    crowd(&mut history, 4);
    assert!(store.journal.health().unlogged > 0);
    fails_to_encode(&store);
    assert_eq!(logs(&memory), [1, 2], "it follows on nothing");
    // Into the log that is not listed yet.
    let writes = [Write::Put(vec![2], vec![2])];
    history.add(
        super::model::append(&store.journal, &store.kept, &writes),
        &writes,
    );
    fails_to_encode(&store);
    crowd(&mut history, 110);
    fails_to_encode(&store);
    let writes = [Write::Put(vec![1], vec![1])];
    history.add(
        super::model::append(&store.journal, &store.kept, &writes),
        &writes,
    );
    store.journal.compact().unwrap();
    assert_eq!(store.journal.durable_seq(), history.last());
    memory.crash_dropping_all();
    drop(opens(&memory, &history, history.last()));
}

/// A directory in which a sync has failed and a value does not encode, as it was left by a process
/// that was killed or that has closed it; the history of what the system shows.
fn left_distrusted(is_closed: bool) -> (Memory, History) {
    let (memory, mut history, store) = spoilt(by_hand());
    record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
    memory.fail_next(1, Some(Operation::Sync), How::Broken);
    store.journal.sync().unwrap_err();
    fails_to_encode(&store);
    if is_closed {
        record(&store, &mut history, &[Write::Put(vec![3], vec![3])]);
        let closed = store.journal.close();
        assert!(matches!(closed, Err(CommitError::Encode(_))), "{closed:?}");
    }
    assert!(Manifest::read(&memory, &dir()).unwrap().unwrap().distrusted);
    (memory.fork(), history)
}

fn open_spoilt(memory: &Memory, settings: Settings) -> Result<Store, OpenError> {
    let kept = Kept::default();
    *kept.unencodable.lock().unwrap() = Some(BAD.to_vec());
    Store::open_with(&dir(), &memory.storage(), settings, Arc::new(kept))
}

#[test]
fn a_directory_that_is_not_trusted_is_opened_though_it_cannot_be_written_anew() {
    for is_closed in [false, true] {
        for sync in [SyncPolicy::Always, SyncPolicy::Os] {
            let (memory, mut history) = left_distrusted(is_closed);
            let settings = || Settings { sync, ..by_hand() };
            let store = open_spoilt(&memory, settings()).unwrap();
            assert_eq!(Some(&store.map()), history.at(history.last()));
            let health = store.journal.health();
            assert_eq!(
                (health.state, health.durable_seq),
                (HealthState::Troubled, 2)
            );
            assert!(health.trouble.unwrap().contains("a bad value"));
            assert_eq!((health.last_sync, health.last_seq), (None, history.last()));

            // It goes on as after a sync that has failed here, and says no more than it knows.
            record(&store, &mut history, &[Write::Put(vec![4], vec![4])]);
            let waited = store.journal.wait(history.last(), Some(Instant::now()));
            assert_eq!(waited.is_ok(), sync == SyncPolicy::Os);
            fails_to_encode(&store);
            fails_to_encode(&store);
            assert_eq!(store.journal.durable_seq(), 2);
            let crashed = memory.fork();
            crashed.crash_dropping_all();
            drop(opens(&crashed, &history, 2));
            let killed = memory.fork();
            let again = open_spoilt(&killed, settings()).unwrap();
            assert_eq!(Some(&again.map()), history.at(history.last()));
            assert_eq!(
                logs(&killed).len(),
                logs(&memory).len() + 1,
                "one for each opening"
            );

            record(&store, &mut history, &[Write::Delete(vec![1])]);
            assert_eq!(store.journal.sync().unwrap(), history.last());
            assert_eq!(store.journal.health().state, HealthState::Well);
            memory.crash_dropping_all();
            drop(opens(&memory, &history, history.last()));
        }
    }
}

/// Where the state is not that of the files there is nothing to go on with.
#[test]
fn what_takes_the_place_of_the_files_is_not_opened_if_it_cannot_be_written() {
    let (memory, _) = left_distrusted(false);
    let modes: [Settings; 2] = [
        Settings {
            mode: RecoveryMode::PointInTime(Point::Seq(2)),
            ..by_hand()
        },
        Settings {
            schema: 1,
            accepts_schema: Some(Arc::new(|_| true)),
            ..by_hand()
        },
    ];
    for settings in modes {
        let copy = memory.copy();
        let opened = open_spoilt(&copy, settings).map(drop);
        assert!(matches!(opened, Err(OpenError::Disk(_))), "{opened:?}");
        assert_eq!(open_spoilt(&copy, by_hand()).unwrap().map().len(), 3);
    }
}

/// Of a write that failed its half is gone from the log, and what is written behind it is in another
/// one; nothing has synced the first of the two.
#[test]
fn a_cut_that_a_power_cut_undoes_takes_nothing_with_it() {
    for seed in 0..40 {
        let memory = Memory::new(seed);
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        let mut history = History::new();
        let put = |n: u8| [Write::Put(vec![n], vec![n; 200])];
        record(&store, &mut history, &put(1));
        store.journal.wait(1, None).unwrap();
        memory.fail_next(1, Some(Operation::Write), How::Half);
        record(&store, &mut history, &put(2));
        assert!(store.journal.wait(2, None).is_err());
        // A new log is begun, and the snapshot fails.
        *store.kept.unencodable.lock().unwrap() = Some(vec![1; 200]);
        assert!(store.journal.compact().is_err());
        assert_eq!(store.journal.sync().unwrap(), 2);
        memory.crash();
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        assert_eq!((store.report.last_seq, store.map().len()), (2, 2), "{seed}");
    }
}
