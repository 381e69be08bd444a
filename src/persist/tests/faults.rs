//! The thirty faults, by number. Of 1, 2 and 25 the real `kill -9`, and 26, need a process or
//! entries that expire, and are tested with the cache and the store. Of 19 and 20, syncs that fail,
//! `syncs.rs` has the tests.

use super::memory::{Fault, How, Memory, Operation};
use super::model::{CODEC, History, Map, Store, Write, append, by_hand, dir, effects};
use super::{damage_of, frames_of, record};
use crate::MockClock;
use crate::persist::error::{CommitError, CompactError, OpenError, WriteError};
use crate::persist::frame::PAYLOAD;
use crate::persist::header::{self, CodecId};
use crate::persist::manifest::Manifest;
use crate::persist::report::{ClockCheck, HealthState};
use crate::persist::settings::{RecoveryMode, Settings, SyncPolicy, WhenFull};
use crate::persist::storage::{Disk, Storage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const LOG_1: &str = "/store/log-1.wal";

pub(super) fn path(name: &str) -> PathBuf {
    dir().join(name)
}

pub(super) fn lazily() -> Settings {
    Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    }
}

/// A new store on a disk in memory.
pub(super) fn empty(seed: u64, settings: Settings) -> (Memory, History, Store) {
    let memory = Memory::new(seed);
    let store = Store::open(&memory.storage(), settings).unwrap();
    (memory, History::new(), store)
}

/// A store whose five writes were handed to the system, one frame each, and of which nothing is
/// proven to be on the disk: as `kill -9` leaves it.
fn unproven() -> (Memory, History) {
    let (memory, mut history, store) = empty(1, lazily());
    for n in 0..5u8 {
        let writes = [
            Write::Put(vec![n], vec![n; 20]),
            Write::Put(vec![n, 0], vec![1]),
        ];
        record(&store, &mut history, &writes);
        store.journal.wait(history.last(), None).unwrap();
    }
    let killed = memory.copy();
    drop(store);
    (killed, history)
}

/// The same, closed in peace, so that all of it is proven.
fn proven() -> (Memory, History) {
    let (memory, history) = unproven();
    let store = Store::open(&memory.storage(), lazily()).unwrap();
    store.journal.close().unwrap();
    (memory, history)
}

/// Opens and compares with the history; what is left out must not be proven.
#[track_caller]
pub(super) fn opens(memory: &Memory, history: &History, at_least: u64) -> Store {
    let store = Store::open(&memory.storage(), lazily()).unwrap();
    let seq = store.report.last_seq;
    assert!(seq >= at_least, "{seq} of {at_least}: {}", store.report);
    assert_eq!(Some(&store.map()), history.at(seq), "{}", store.report);
    store
}

/// Refuses to open, and changes nothing.
#[track_caller]
fn refused(memory: &Memory, settings: Settings) -> OpenError {
    let before = memory.image();
    let Err(error) = Store::open(&memory.storage(), settings) else {
        panic!("this should have been refused");
    };
    assert_eq!(memory.image(), before, "after {error}");
    let text = error.to_string();
    assert!(text.contains("/store"), "it names the file: {text}");
    error
}

fn edit(memory: &Memory, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = memory.bytes(Path::new(path));
    change(&mut bytes);
    memory.put(Path::new(path), bytes);
}

#[test]
fn fault_01_killed_under_always_no_acknowledged_write_is_lost() {
    let (memory, mut history, store) = empty(1, by_hand());
    for n in 0..20u8 {
        record(&store, &mut history, &[Write::Put(vec![n % 7], vec![n])]);
        store.journal.wait(history.last(), None).unwrap();
        drop(opens(&memory.copy(), &history, history.last()));
    }
}

#[test]
fn fault_02_killed_under_every_what_was_written_is_there() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let settings = Settings {
        sync: SyncPolicy::default(),
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for n in 0..20u8 {
        record(&store, &mut history, &[Write::Put(vec![n % 7], vec![n])]);
        if n % 3 == 0 {
            store.journal.wait(history.last(), None).unwrap();
        }
        let written = store.journal.health().written_seq;
        assert!(store.journal.health().waiting_bytes < 256 << 10);
        drop(opens(&memory.copy(), &history, written));
    }
}

#[test]
fn fault_03_power_cut_loses_nothing_durable() {
    let (memory, mut history, store) = empty(1, lazily());
    for n in 0..9u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        store.journal.wait(history.last(), None).unwrap();
        if n == 4 {
            assert_eq!(store.journal.sync().unwrap(), 5);
        }
    }
    assert_eq!(
        (store.journal.durable_seq(), store.journal.last_seq()),
        (5, 9)
    );
    memory.crash_dropping_all();
    let store = opens(&memory, &history, 5);
    assert_eq!(store.report.last_seq, 5);
}

#[test]
fn fault_04_unsynced_writes_in_another_order_leave_a_prefix() {
    let (memory, history) = unproven();
    let frames = frames_of(&memory, Path::new(LOG_1));
    // The second write never came to the disk, those behind it did.
    edit(&memory, LOG_1, |bytes| bytes[frames[1].clone()].fill(0));
    let store = opens(&memory, &history, 2);
    assert_eq!(store.report.last_seq, 2);
    assert_eq!(store.report.dropped_seqs, Some((5, 10)));
    assert_eq!(store.report.quarantine.len(), 1);
}

#[test]
fn fault_05_a_tail_cut_at_any_byte_opens() {
    let (original, history) = unproven();
    let length = original.bytes(Path::new(LOG_1)).len();
    for cut in header::LENGTH..length {
        let memory = original.copy();
        edit(&memory, LOG_1, |bytes| bytes.truncate(cut));
        let frames = frames_of(&original, Path::new(LOG_1));
        let whole = frames.iter().filter(|frame| frame.end <= cut).count() as u64;
        let store = opens(&memory, &history, 0);
        assert_eq!(store.report.last_seq, whole * 2);
        // It goes on from there.
        store.put(b"new", b"value");
        store.journal.close().unwrap();
        let again = Store::open(&memory.storage(), lazily()).unwrap();
        assert_eq!(again.report.last_seq, whole * 2 + 1);
        assert_eq!(again.map().get(&b"new"[..]), Some(&b"value".to_vec()));
    }
}

#[test]
fn fault_06_a_tail_of_zeros_is_torn() {
    let (memory, history) = unproven();
    edit(&memory, LOG_1, |bytes| bytes.extend_from_slice(&[0; 5_000]));
    let store = opens(&memory, &history, history.last());
    assert_eq!(store.report.dropped_bytes, 5_000);
    assert_eq!(store.report.damages[0].found, "zeros");
}

#[test]
fn fault_07_a_tail_of_garbage_is_torn_and_kept_in_quarantine() {
    let (memory, history) = unproven();
    let garbage: Vec<u8> = (0..3_000u32).map(|n| (n * n) as u8).collect();
    edit(&memory, LOG_1, |bytes| bytes.extend_from_slice(&garbage));
    let strict = Settings {
        mode: RecoveryMode::Strict,
        ..lazily()
    };
    let error = refused(&memory, strict);
    assert!(matches!(error, OpenError::TornTail(_)), "{error}");
    let store = opens(&memory, &history, history.last());
    let copy = store.report.quarantine[0].clone();
    assert_eq!(memory.bytes(&copy), garbage);
    drop(store);
    let store = opens(&memory, &history, history.last());
    assert!(store.report.damages.is_empty(), "once is enough");
}

#[test]
fn fault_08_a_flipped_bit_below_what_is_proven_is_refused() {
    let (original, _) = proven();
    let frames = frames_of(&original, Path::new(LOG_1));
    for (at, frame) in frames.iter().take(5).enumerate() {
        let memory = original.copy();
        edit(&memory, LOG_1, |bytes| bytes[frame.end - 1] ^= 1);
        let damage = damage_of(refused(&memory, lazily()));
        assert_eq!(damage.offset, frame.start as u64);
        assert_eq!(
            (damage.next_seq, damage.durable_seq),
            (at as u64 * 2 + 1, 10)
        );
    }
}

#[test]
fn fault_09_a_flipped_bit_in_a_length_is_told_from_a_length() {
    for (original, is_proven) in [(unproven().0, false), (proven().0, true)] {
        let frames = frames_of(&original, Path::new(LOG_1));
        for bit in 0..32 {
            let memory = original.copy();
            let at = frames[2].start + 8 + bit / 8;
            edit(&memory, LOG_1, |bytes| bytes[at] ^= 1 << (bit % 8));
            let opened = Store::open(&memory.storage(), lazily());
            match opened {
                Ok(store) => assert!(!is_proven && store.report.last_seq == 4),
                Err(error) => assert!(is_proven && damage_of(error).next_seq == 5),
            }
        }
    }
}

#[test]
fn fault_10_a_damaged_file_header_is_refused() {
    let (original, _) = proven();
    for name in ["MANIFEST", "log-1.wal"] {
        for bit in 0..header::LENGTH * 8 {
            let memory = original.copy();
            let file = format!("/store/{name}");
            edit(&memory, &file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let damage = damage_of(refused(&memory, lazily()));
            let expected = match bit {
                ..64 => "the mark of a haybox file",
                _ => "a whole file header",
            };
            assert_eq!((damage.expected, damage.offset), (expected.into(), 0));
        }
        for cut in 0..header::LENGTH {
            let memory = original.copy();
            edit(&memory, &format!("/store/{name}"), |bytes| {
                bytes.truncate(cut)
            });
            let damage = damage_of(refused(&memory, lazily()));
            assert_eq!(damage.found, format!("{cut} bytes"));
        }
    }
}

#[test]
fn fault_11_a_damaged_snapshot_is_refused_and_salvaged() {
    let (original, history) = proven();
    let store = Store::open(&original.storage(), lazily()).unwrap();
    store.journal.compact().unwrap();
    store.journal.close().unwrap();
    let snapshot = "/store/snap-2.db";
    let frames = frames_of(&original, Path::new(snapshot));
    edit(&original, snapshot, |bytes| {
        bytes[frames[1].start + 60] ^= 4
    });
    let damage = damage_of(refused(&original, lazily()));
    assert_eq!(damage.offset, frames[1].start as u64);
    let salvage = Settings {
        mode: RecoveryMode::Salvage,
        ..lazily()
    };
    let store = Store::open(&original.storage(), salvage).unwrap();
    assert_eq!(store.report.damages[0].offset, damage.offset);
    assert_eq!(store.map(), Map::new(), "all entries were in that frame");
    let copy = store.report.quarantine[0].join("snap-2.db");
    assert!(original.paths().contains(&copy));
    drop(store);
    let store = Store::open(&original.storage(), lazily()).unwrap();
    assert_eq!(
        store.report.last_seq,
        history.last(),
        "a salvaged store is sound"
    );
}

/// A store with three logs, since no compaction has succeeded.
fn three_logs() -> (Memory, History) {
    let (memory, mut history, store) = empty(1, lazily());
    for n in 0..3u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        store.journal.sync().unwrap();
        if n < 2 {
            // The first rename lists the new log, the second would name the snapshot.
            memory.fail(Fault {
                from: memory.operations() + 10,
                count: 1,
                only: Some(Operation::Rename),
                how: How::Broken,
            });
            assert!(store.journal.compact().is_err());
        }
    }
    store.journal.close().unwrap();
    assert!(memory.paths().contains(&path("log-3.wal")));
    (memory, history)
}

#[test]
fn fault_12_a_missing_log_is_refused() {
    let (original, history) = three_logs();
    drop(opens(&original.copy(), &history, 3));
    for log in ["log-1.wal", "log-2.wal", "log-3.wal"] {
        let memory = original.copy();
        memory.forget(&path(log));
        match refused(&memory, lazily()) {
            OpenError::Missing { file } => assert_eq!(file, path(log)),
            error => panic!("{error}"),
        }
        let salvage = Settings {
            mode: RecoveryMode::Salvage,
            ..lazily()
        };
        let store = Store::open(&memory.storage(), salvage).unwrap();
        assert_eq!(store.map().len(), 2);
        assert!(!store.report.damages.is_empty());
    }
    // Nor is one taken for another.
    let (first, second) = (
        original.bytes(&path("log-1.wal")),
        original.bytes(&path("log-2.wal")),
    );
    original.put(&path("log-2.wal"), first);
    original.put(&path("log-1.wal"), second);
    let damage = damage_of(refused(&original, lazily()));
    let (expected, found) = ("Log 1, as the name of the file says", "Log 2");
    assert_eq!((&*damage.expected, &*damage.found), (expected, found));
}

#[test]
fn fault_13_a_frame_twice_or_in_another_place_is_refused() {
    let (original, _) = proven();
    let frames = frames_of(&original, Path::new(LOG_1));
    assert_eq!(frames[1].len(), frames[2].len());
    let twice = original.copy();
    edit(&twice, LOG_1, |bytes| {
        bytes.copy_within(frames[1].clone(), frames[2].start)
    });
    let damage = damage_of(refused(&twice, lazily()));
    assert_eq!(
        (&*damage.expected, &*damage.found),
        ("number 5", "number 3")
    );
    let swapped = original.copy();
    edit(&swapped, LOG_1, |bytes| {
        let (one, two) = (
            bytes[frames[1].clone()].to_vec(),
            bytes[frames[2].clone()].to_vec(),
        );
        bytes[frames[1].clone()].copy_from_slice(&two);
        bytes[frames[2].clone()].copy_from_slice(&one);
    });
    let damage = damage_of(refused(&swapped, lazily()));
    assert_eq!(
        (&*damage.expected, &*damage.found),
        ("number 3", "number 5")
    );
}

#[test]
fn fault_14_a_frame_or_a_file_of_another_store_is_refused() {
    let (original, _) = proven();
    let (other, _) = proven();
    let frames = frames_of(&original, Path::new(LOG_1));
    let foreign = other.bytes(Path::new(LOG_1))[frames[1].clone()].to_vec();
    let memory = original.copy();
    edit(&memory, LOG_1, |bytes| {
        bytes[frames[1].clone()].copy_from_slice(&foreign)
    });
    let damage = damage_of(refused(&memory, lazily()));
    assert_eq!(damage.found, "another checksum of the frame's header");
    let memory = original.copy();
    memory.put(Path::new(LOG_1), other.bytes(Path::new(LOG_1)));
    let error = refused(&memory, lazily());
    assert!(matches!(error, OpenError::OtherStore { .. }), "{error}");
}

#[test]
fn fault_15_a_torn_transaction_is_all_or_nothing() {
    let (original, mut history) = unproven();
    let store = opens(&original, &history, 10);
    let three: Vec<_> = (0..3u8)
        .map(|n| Write::Put(vec![9, n], vec![n; 9]))
        .collect();
    record(&store, &mut history, &three);
    store.journal.wait(history.last(), None).unwrap();
    let killed = original.copy();
    let last = frames_of(&killed, Path::new(LOG_1)).pop().unwrap();
    for cut in last {
        let memory = killed.copy();
        edit(&memory, LOG_1, |bytes| bytes.truncate(cut));
        let store = opens(&memory, &history, 10);
        assert_eq!(store.report.last_seq, 10, "nothing of three");
        store.put(b"more", b"1");
        drop(store);
        let store = Store::open(&memory.storage(), lazily()).unwrap();
        assert_eq!(store.report.last_seq, 11);
        assert!(!store.map().contains_key(&[9, 0][..]));
    }
}

#[test]
fn fault_16_a_short_write_is_completed_or_cut_back() {
    let (memory, mut history, store) = empty(1, lazily());
    for n in 0..10u8 {
        let log_length = memory.bytes(Path::new(LOG_1)).len();
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 100])]);
        memory.fail_next(1, Some(Operation::Write), How::Half);
        let error = store.journal.wait(history.last(), None).unwrap_err();
        assert!(matches!(error, CommitError::Disk(_)), "{error}");
        assert_eq!(memory.bytes(Path::new(LOG_1)).len(), log_length, "cut back");
        store.journal.wait(history.last(), None).unwrap();
        drop(opens(&memory.copy(), &history, history.last()));
    }
    assert_eq!(store.journal.health().write_failures, 10);
}

#[test]
fn fault_17_a_full_disk_refuses_writes_and_heals() {
    let (memory, mut history, store) = empty(1, by_hand());
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    store.journal.wait(1, None).unwrap();
    memory.limit_space(30);
    let accepted = [Write::Put(vec![2], vec![2; 50])];
    record(&store, &mut history, &accepted);
    let error = store.journal.wait(2, None).unwrap_err();
    assert!(error.to_string().contains("free some space"), "{error}");
    let error = store.journal.sync().unwrap_err();
    assert!(error.to_string().contains("free some space"), "{error}");
    let refusal = store.write(&[Write::Put(vec![3], vec![3])]).unwrap_err();
    assert!(
        matches!(&refusal, WriteError::Disk(error) if error.is_full()),
        "{refusal}"
    );
    assert_eq!(
        store.map().len(),
        2,
        "reads go on, and the refused write is not there"
    );
    let health = store.journal.health();
    assert_eq!(health.state, HealthState::Troubled);
    let trouble = health.trouble.unwrap();
    assert!(
        trouble.starts_with("cannot write /store/log-1.wal"),
        "{trouble}"
    );
    assert!(
        refusal.to_string().contains("writes are refused"),
        "{refusal}"
    );
    memory.heal();
    store.journal.wait(2, None).unwrap();
    assert_eq!(store.journal.health().state, HealthState::Well);
    record(&store, &mut history, &[Write::Put(vec![3], vec![3])]);
    store.journal.sync().unwrap();
    memory.crash_dropping_all();
    drop(opens(&memory, &history, 3));
}

/// A cache goes on in memory, for as long as the disk is full; the log cannot, and is made up for.
#[test]
fn fault_17_a_cache_goes_on_and_the_log_is_made_up_for() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let settings = Settings {
        buffer: 1_000,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    store.journal.sync().unwrap();
    memory.limit_space(100);
    for n in 0..200u8 {
        let writes = [Write::Put(vec![n], vec![n; 500])];
        let seq = append(&store.journal, &store.kept, &writes);
        history.add(seq, &writes);
        let _ = store.journal.wait(seq, Some(Instant::now()));
    }
    let health = store.journal.health();
    assert!(health.waiting_bytes < 20_000, "{}", health.waiting_bytes);
    assert!(health.unlogged > 100);
    assert_eq!(health.durable_seq, 1);
    drop(opens(&memory.copy(), &history, 1));
    memory.heal();
    assert_eq!(store.journal.sync().unwrap(), history.last());
    assert_eq!(store.journal.health().state, HealthState::Well);
    memory.crash_dropping_all();
    drop(opens(&memory, &history, history.last()));
}

#[test]
fn fault_18_a_full_disk_in_compaction_leaves_the_old_files() {
    let (memory, history) = proven();
    let store = opens(&memory, &history, 10);
    let before = memory.image();
    memory.limit_space(400);
    let error = store.journal.compact().unwrap_err();
    assert!(
        matches!(&error, CompactError::Disk(error) if error.is_full()),
        "{error}"
    );
    assert!(
        memory
            .paths()
            .iter()
            .all(|path| !path.ends_with("snap-2.db.tmp"))
    );
    assert_eq!(memory.bytes(Path::new(LOG_1)), before[Path::new(LOG_1)]);
    drop(opens(&memory.copy(), &history, 10));
    memory.heal();
    store.journal.compact().unwrap();
    let health = store.journal.health();
    assert_eq!((health.compactions, health.compaction_failures), (1, 1));
    drop(store);
    drop(opens(&memory, &history, 10));
}

/// Of a compaction that was asked for and is not tried again it is not known whether it would fail
/// now. One that is needed is tried again.
#[test]
fn a_compaction_that_fails_is_trouble_while_it_is_needed_or_nothing_is_written() {
    for (growth_bytes, sync_fails, ends) in [
        (1 << 20, false, true),
        (1, false, false),
        (1 << 20, true, false),
    ] {
        let settings = Settings {
            growth_bytes,
            ..by_hand()
        };
        let (memory, _, store) = empty(1, settings);
        store.put(b"1", b"one");
        if sync_fails {
            memory.fail_next(1, Some(Operation::Sync), How::Broken);
        }
        assert_eq!(store.journal.wait(1, None).is_err(), sync_fails);
        memory.fail_next(1, Some(Operation::Create), How::Full);
        store.journal.compact().unwrap_err();
        let health = |state| {
            let health = store.journal.health();
            assert_eq!(
                (health.state, health.trouble.is_none()),
                (state, state == HealthState::Well)
            );
        };
        health(HealthState::Troubled);
        let seq = store.put(b"2", b"two");
        health(HealthState::Troubled);
        assert_eq!(
            store.journal.wait(seq, Some(Instant::now())).is_ok(),
            !sync_fails
        );
        health(if ends {
            HealthState::Well
        } else {
            HealthState::Troubled
        });
        store.journal.compact().unwrap();
        health(HealthState::Well);
    }
}

/// Whatever fails of a compaction or of closing, the caller is told.
#[test]
fn what_fails_of_a_compaction_or_of_closing_is_told() {
    type Call = fn(&Store) -> bool;
    let compact: Call = |store| store.journal.compact().is_ok();
    let close: Call = |store| store.journal.close().is_ok();
    for (call, log) in [
        (compact, true),
        (compact, false),
        (close, true),
        (close, false),
    ] {
        let mut told = Vec::new();
        for at in 1.. {
            let settings = Settings {
                log,
                // No file is removed, which may fail.
                generations: 9,
                ..lazily()
            };
            let (memory, mut history, store) = empty(1, settings);
            for n in 0..3u8 {
                // The first is more than a frame of a snapshot waits for.
                let value = vec![n; if n == 0 { PAYLOAD } else { 20 }];
                record(&store, &mut history, &[Write::Put(vec![n], value)]);
                if n == 1 {
                    store.journal.compact().unwrap();
                }
            }
            let before = memory.operations();
            memory.fail_from(before + at, 1, How::Broken);
            let is_ok = call(&store);
            let is_over = memory.operations() < before + at;
            memory.heal();
            if is_ok {
                let crashed = memory.fork();
                crashed.crash_dropping_all();
                drop(opens(&crashed, &history, 3));
            }
            drop(opens(&memory.copy(), &history, if log { 2 } else { 0 }));
            if is_over {
                assert!(is_ok && at > 8, "{at} operations");
                break;
            }
            told.push(!is_ok);
        }
        assert!(told.iter().all(|told| *told), "log {log}: {told:?}");
    }
}

/// The snapshot would have parts of what no log has.
#[test]
fn a_compaction_is_none_if_the_log_cannot_keep_up_with_it() {
    let settings = Settings {
        buffer: 1_000,
        ..by_hand()
    };
    let (memory, mut history, store) = empty(1, settings);
    record(&store, &mut history, &[Write::Put(vec![9], vec![9])]);
    store.journal.sync().unwrap();
    let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
    let noted = Arc::new(std::sync::Mutex::new(history));
    let history = Arc::clone(&noted);
    *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
        let journal = journal.upgrade().unwrap();
        let progress = journal.health().compaction.unwrap();
        assert!((0.0..=1.0).contains(&progress));
        for n in (0..100u8).filter(|_| set == 1) {
            let writes = [Write::Put(vec![n], vec![n; 500])];
            let seq = append(&journal, &kept.upgrade().unwrap(), &writes);
            noted.lock().unwrap().add(seq, &writes);
        }
    }));
    let error = store.journal.compact().unwrap_err();
    assert!(
        error.to_string().contains("than the disk took meanwhile"),
        "{error}"
    );
    *store.kept.meanwhile.lock().unwrap() = None;
    assert_eq!(
        (
            store.journal.durable_seq(),
            store.journal.health().compaction
        ),
        (1, None)
    );
    let history = history.lock().unwrap();
    for left in [memory.copy(), memory.fork()] {
        left.crash();
        drop(opens(&left, &history, 1));
    }
    assert_eq!(store.journal.sync().unwrap(), history.last());
    memory.crash_dropping_all();
    drop(opens(&memory, &history, history.last()));
}

/// Stops the disk for good at an operation, and then the power.
fn stopped_at(memory: &Memory, operation: u64) {
    memory.fail_from(memory.operations() + operation, u64::MAX, How::Broken);
}

#[test]
fn fault_21_a_crash_at_any_step_of_compaction_leaves_the_old_files_or_the_new() {
    let mut operations = 1;
    let mut opened = 0;
    loop {
        let mut is_done = false;
        for seed in 0..20 {
            let (original, history) = proven();
            let memory = original.with_seed(seed);
            let store = opens(&memory, &history, 10);
            let before = memory.operations();
            stopped_at(&memory, operations);
            is_done = store.journal.compact().is_ok() && memory.operations() < before + operations;
            if seed == 0 {
                memory.crash_dropping_all();
            } else {
                memory.crash();
            }
            memory.heal();
            drop(opens(&memory, &history, 10));
            opened += 1;
        }
        if is_done {
            break;
        }
        operations += 1;
    }
    assert!(operations > 20, "{operations} steps, {opened} crashes");
}

#[test]
fn fault_22_a_crash_during_recovery_and_another_change_nothing() {
    let (mut original, history) = unproven();
    edit(&original, LOG_1, |bytes| bytes.extend_from_slice(&[7; 100]));
    original = original.with_seed(9);
    let mut failures = 0;
    for first in 1..30 {
        for second in 1..30 {
            let memory = original.with_seed(first * 100 + second);
            for operation in [first, second] {
                stopped_at(&memory, operation);
                failures += u64::from(Store::open(&memory.storage(), lazily()).is_err());
                memory.heal();
                memory.crash();
            }
            let store = opens(&memory, &history, 10);
            assert_eq!(store.report.last_seq, 10);
        }
    }
    assert!(failures > 200, "{failures}");
}

#[test]
fn fault_23_a_lost_rename_opens() {
    let (memory, history) = proven();
    let store = opens(&memory, &history, 10);
    for directory_syncs in 0..3 {
        memory.fail(Fault {
            from: memory.operations() + 1 + directory_syncs * 4,
            count: 1,
            only: Some(Operation::SyncDir),
            how: How::Broken,
        });
        let _ = store.journal.compact();
        memory.heal();
        let copy = memory.fork();
        copy.crash_dropping_all();
        drop(opens(&copy, &history, 10));
    }
}

#[test]
fn fault_24_the_log_is_durable_before_the_snapshot_counts() {
    let (memory, history) = proven();
    let store = opens(&memory, &history, 10);
    let history = Arc::new(std::sync::Mutex::new(history));
    let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
    let noted = Arc::clone(&history);
    *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
        let writes = [
            Write::Put(vec![set as u8 + 1], vec![99]),
            Write::Delete(vec![set as u8]),
        ];
        let seq = append(
            &journal.upgrade().unwrap(),
            &kept.upgrade().unwrap(),
            &writes,
        );
        noted.lock().unwrap().add(seq, &writes);
    }));
    let report = store.journal.compact().unwrap();
    assert_eq!(report.last_seq, 18);
    let history = history.lock().unwrap();
    memory.crash_dropping_all();
    drop(opens(&memory, &history, 18));
    // Were a part of the log lost all the same, that is no torn tail.
    let log = path("log-2.wal");
    let length = memory.bytes(&log).len();
    for cut in header::LENGTH..length {
        let copy = memory.copy();
        edit(&copy, log.to_str().unwrap(), |bytes| bytes.truncate(cut));
        match Store::open(&copy.storage(), lazily()) {
            Ok(store) => assert_eq!(Some(&store.map()), history.at(18)),
            Err(error) => assert!(damage_of(error).next_seq <= 18),
        }
    }
    // Were all but the snapshot lost, no number would be given again that it may have a part of.
    let copy = memory.copy();
    copy.forget(&log);
    copy.forget(&path("MANIFEST"));
    let salvage = Settings {
        mode: RecoveryMode::Salvage,
        ..lazily()
    };
    let store = Store::open(&copy.storage(), salvage).unwrap();
    assert_eq!(store.put(b"new", b"value"), 19);
}

#[test]
fn fault_25_a_second_opening_finds_it_locked() {
    let temporary = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Storage> = Arc::new(Disk);
    let store = Store::open_at(temporary.path(), &disk, by_hand()).unwrap();
    let again = Store::open_at(temporary.path(), &disk, by_hand());
    let Err(OpenError::Locked { dir }) = again else {
        panic!("it should be locked");
    };
    assert_eq!(dir, temporary.path());
    store.put(b"key", b"value");
    drop(store);
    let store = Store::open_at(temporary.path(), &disk, by_hand()).unwrap();
    assert_eq!(store.map().len(), 1);
    store.journal.close().unwrap();
    drop(Store::open_at(temporary.path(), &disk, by_hand()).unwrap());
}

#[test]
fn fault_27_a_clock_that_is_wrong_is_reported() {
    // Times are in the log, and where there is none in the snapshot.
    for log in [true, false] {
        let time = MockClock::new();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        time.set_system_time(start);
        let memory = Memory::new(1);
        let settings = || Settings {
            clock: time.clock(),
            log,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings()).unwrap();
        store.put(b"key", b"value");
        store.journal.close().unwrap();
        let open = |offset: i64| {
            let hours = Duration::from_secs(3600 * offset.unsigned_abs());
            time.set_system_time(if offset < 0 {
                start - hours
            } else {
                start + hours
            });
            let copy = memory.copy();
            let store = Store::open(&copy.storage(), settings()).unwrap();
            let now = store.kept.now_ms.lock().unwrap().unwrap();
            (store.report.clock, now)
        };
        let hour = Duration::from_secs(3600);
        let at = |hours: i64| (1_700_000_000_000 + hours * 3_600_000) as u64;
        assert_eq!(open(0), (ClockCheck::Fine, at(0)));
        assert_eq!(open(5), (ClockCheck::Fine, at(5)));
        assert_eq!(open(-1), (ClockCheck::WentBack(hour), at(0)));
        assert_eq!(open(-24), (ClockCheck::WentBack(24 * hour), at(0)));
        let years = 87_600;
        let ahead = ClockCheck::LogAhead(hour * years as u32);
        assert_eq!(open(-years), (ahead, at(-years)));
    }
}

#[test]
fn fault_28_another_codec_schema_or_format_is_refused() {
    let (memory, history) = proven();
    let codec = Settings {
        codec: CodecId(*b"json"),
        ..lazily()
    };
    let error = refused(&memory, codec);
    assert!(
        matches!(error, OpenError::OtherCodec { found: CODEC, .. }),
        "{error}"
    );
    let schema = Settings {
        schema: 2,
        ..lazily()
    };
    let error = refused(&memory, schema.clone());
    assert!(
        matches!(
            error,
            OpenError::OtherSchema {
                found: 0,
                expected: 2,
                ..
            }
        ),
        "{error}"
    );
    let checked = |bytes: &mut Vec<u8>| {
        let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&checksum);
    };
    let newer = memory.copy();
    edit(&newer, LOG_1, |bytes| {
        bytes[8] = 2;
        checked(bytes);
    });
    let error = refused(&newer, lazily());
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    let featured = memory.copy();
    edit(&featured, LOG_1, |bytes| {
        bytes[12] = 4;
        checked(bytes);
    });
    let error = refused(&featured, lazily());
    assert!(
        matches!(error, OpenError::UnknownFeatures { bits: 4, .. }),
        "{error}"
    );
    // A migration reads them, and writes all anew under the new version.
    let migrating = Settings {
        accepts_schema: Some(Arc::new(|schema| schema == 0)),
        ..schema.clone()
    };
    let store = Store::open(&memory.storage(), migrating).unwrap();
    assert_eq!(store.report.migrated_from, [0]);
    assert_eq!(store.kept.migrated.lock().unwrap().len(), 10);
    assert_eq!(Some(&store.map()), history.at(10));
    drop(store);
    let store = Store::open(&memory.storage(), schema.clone()).unwrap();
    assert_eq!(Some(&store.map()), history.at(10));
    assert!(store.kept.migrated.lock().unwrap().is_empty());
    assert!(store.report.migrated_from.is_empty());
    let (several, _) = three_logs();
    let migrating = Settings {
        accepts_schema: Some(Arc::new(|_| true)),
        ..schema
    };
    let store = Store::open(&several.storage(), migrating).unwrap();
    assert_eq!(store.report.migrated_from, [0], "each is named once");
}

/// Whatever fails, the files are those of the old version until all is there in the new one.
#[test]
fn a_migration_that_fails_can_be_gone_back_from() {
    let settings = |schema| Settings {
        schema,
        generations: 3,
        ..lazily()
    };
    let migrating = || Settings {
        accepts_schema: Some(Arc::new(|schema| schema == 0)),
        ..settings(2)
    };
    for at in 1.. {
        let (memory, mut history, store) = empty(1, settings(0));
        record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
        store.journal.compact().unwrap();
        record(&store, &mut history, &[Write::Put(vec![2], vec![2])]);
        drop(store);
        memory.fail_from(memory.operations() + at, 1, How::Full);
        let migrated = Store::open(&memory.storage(), migrating());
        let manifest = Manifest::read(&memory, &dir()).unwrap().unwrap();
        let (is_done, snapshots) = (migrated.is_ok(), manifest.snapshots.len());
        drop(migrated);
        memory.heal();
        let version = if snapshots == 1 { 0 } else { 2 };
        let store = Store::open(&memory.storage(), settings(version)).unwrap();
        assert_eq!(Some(&store.map()), history.at(2), "{at}");
        assert!(store.report.migrated_from.is_empty());
        if is_done {
            assert_eq!(
                (version, snapshots),
                (2, 2),
                "the generation before is kept"
            );
            break;
        }
    }
}

#[test]
fn fault_29_a_stalled_disk_bounds_the_memory_and_the_wait() {
    for when_full in [WhenFull::Error, WhenFull::Block(Duration::from_millis(1))] {
        let memory = Memory::new(1);
        let settings = Settings {
            buffer: 10_000,
            when_full,
            ..Settings::new(CODEC)
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let stall = memory.stall();
        let value = vec![7; 1_000];
        let refused = (0..100u8)
            .map(|n| store.write(&[Write::Put(vec![n], value.clone())]))
            .find_map(Result::err);
        assert!(
            matches!(refused, Some(WriteError::BufferFull { .. })),
            "{refused:?}"
        );
        let health = store.journal.health();
        assert!(health.waiting_bytes <= 12_000, "{}", health.waiting_bytes);
        drop(stall);
        store.journal.sync().unwrap();
        store.put(b"again", b"1");
    }
}

/// It would cost each of some thousands.
#[test]
fn fault_29_a_stalled_disk_has_one_write_of_a_cache_wait() {
    let memory = Memory::new(1);
    let clock = MockClock::new();
    let settings = Settings {
        buffer: 10_000,
        when_full: WhenFull::Block(Duration::from_millis(1)),
        refuses: false,
        clock: clock.clock(),
        ..Settings::new(CODEC)
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let write = || store.write(&[Write::Put(vec![1], vec![7; 1_000])]);
    for _ in 0..2 {
        // Another thread may have written all and be about to say that there is room.
        let patience = Instant::now() + Duration::from_secs(60);
        while store.journal.health().state != HealthState::Well {
            assert!(Instant::now() < patience, "{:?}", store.journal.health());
            std::thread::yield_now();
        }
        let stall = memory.stall();
        let first = (0..100).find_map(|_| write().err());
        assert!(
            matches!(first, Some(WriteError::BufferFull { waited }) if !waited.is_zero()),
            "{first:?}"
        );
        for _ in 0..100 {
            let next = write();
            assert!(
                matches!(next, Err(WriteError::BufferFull { waited }) if waited.is_zero()),
                "{next:?}"
            );
        }
        let health = store.journal.health();
        assert_eq!(health.state, HealthState::Troubled);
        assert!(health.trouble.is_some());
        drop(stall);
        store.journal.sync().unwrap();
    }
    write().unwrap();
}

/// Nobody has waited for room, nor does anything fail.
#[test]
fn fault_29_a_disk_that_does_not_come_back_is_a_trouble() {
    for refuses in [true, false] {
        let memory = Memory::new(1);
        let clock = MockClock::new();
        let settings = Settings {
            refuses,
            clock: clock.clock(),
            ..Settings::new(CODEC)
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let stall = memory.stall();
        store.put(b"key", b"value");
        let patience = Instant::now() + Duration::from_secs(60);
        let trouble = loop {
            match store.journal.health() {
                health if health.state == HealthState::Troubled => break health.trouble.unwrap(),
                health => assert_eq!(health.state, HealthState::Well),
            }
            assert!(Instant::now() < patience);
            clock.advance(Duration::from_secs(1));
        };
        assert!(trouble.contains("has not taken a write"), "{trouble}");
        drop(stall);
        store.journal.sync().unwrap();
        assert_eq!(store.journal.health().state, HealthState::Well);
    }
}

#[test]
fn fault_30_a_panic_of_the_writer_is_visible() {
    for by_hand in [true, false] {
        let memory = Memory::new(1);
        let settings = Settings {
            by_hand,
            ..super::model::by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        memory.fail_next(1, Some(Operation::Write), How::Panic);
        store.put(b"key", b"value");
        let error = store.journal.wait(1, None).unwrap_err();
        assert!(matches!(error, CommitError::Panicked { .. }), "{error}");
        assert!(
            error.to_string().contains("a bug in the storage"),
            "{error}"
        );
        let health = store.journal.health();
        assert_eq!(health.state, HealthState::Failed);
        assert!(health.trouble.unwrap().contains("writer"));
        let write = [Write::Put(vec![1], vec![1])];
        let refused = store.journal.reserve(effects(&write).bytes().len());
        assert!(matches!(refused, Err(WriteError::Panicked { .. })));
        assert!(matches!(
            store.journal.sync(),
            Err(CommitError::Panicked { .. })
        ));
        assert!(matches!(
            store.journal.close(),
            Err(CommitError::Panicked { .. })
        ));
        drop(store);
        assert!(Store::open(&memory.storage(), lazily()).is_ok());
    }
}

#[test]
fn fault_30_a_panic_of_the_compactor_is_visible() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"key", b"value");
    store.journal.sync().unwrap();
    memory.fail_next(1, Some(Operation::Rename), How::Panic);
    let error = store.journal.compact().unwrap_err();
    assert!(matches!(error, CompactError::Panicked { .. }), "{error}");
    assert_eq!(store.journal.health().state, HealthState::Failed);
    let refused = store.journal.reserve(1).unwrap_err();
    assert!(
        refused.to_string().contains("a bug in the storage"),
        "{refused}"
    );
    drop(store);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    assert_eq!(store.map().len(), 1);
}

/// The writer says when it comes to rest how far the log is proven.
#[test]
fn fault_30_a_panic_of_the_writer_at_rest_is_visible() {
    let memory = Memory::new(1);
    let settings = Settings {
        by_hand: false,
        sync: SyncPolicy::Every(Duration::from_secs(3_600)),
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    // The first operation is the write, the second the sync.
    memory.fail(Fault {
        from: memory.operations() + 2,
        count: 1,
        only: Some(Operation::Write),
        how: How::Panic,
    });
    assert_eq!(store.put(b"key", b"value"), 1);
    assert_eq!(store.journal.sync().unwrap(), 1);
    let patience = Instant::now() + Duration::from_secs(60);
    let error = store.journal.wait(2, Some(patience)).unwrap_err();
    assert!(matches!(error, CommitError::Panicked { .. }), "{error}");
    let health = store.journal.health();
    assert_eq!(health.state, HealthState::Failed);
    assert!(health.trouble.unwrap().contains("writer"));
    // What was acknowledged before stays so.
    store.journal.wait(1, None).unwrap();
}

/// Whatever panics, nothing is done to the files afterwards, every call says so, and the directory
/// is given free with all that was acknowledged.
#[test]
fn fault_30_a_panic_at_any_operation_ends_the_journal() {
    for at in 1.. {
        let (memory, mut history, store) = empty(at, by_hand());
        let start = memory.operations();
        memory.fail_from(start + at, 1, How::Panic);
        let mut acknowledged = 0;
        let mut results = Vec::new();
        for n in 0..2u8 {
            // As a cache does, which goes on in memory.
            let writes = [Write::Put(vec![n], vec![n; 20])];
            history.add(append(&store.journal, &store.kept, &writes), &writes);
            let waited = store.journal.wait(history.last(), None);
            if waited.is_ok() {
                acknowledged = history.last();
            }
            results.push(waited.map_err(|error| error.to_string()));
            let compacted = store.journal.compact().map(drop);
            results.push(compacted.map_err(|error| error.to_string()));
        }
        let copied = store.journal.backup(Path::new("/backup")).map(drop);
        results.push(copied.map_err(|error| error.to_string()));
        let is_well = store.journal.health().state == HealthState::Well;
        let closed = store.journal.close().map(drop);
        results.push(closed.map_err(|error| error.to_string()));

        let operations = memory.operations() - start;
        let Some(first) = results.iter().position(Result::is_err) else {
            assert!(is_well && operations < at, "{operations} of {at}");
            return;
        };
        // Of a sync of the log the manifest says so: created, written, synced, renamed, synced.
        let word = 5 * store.journal.health().sync_failures;
        assert_eq!(operations, at + word, "nothing else is done afterwards");
        for result in &results[first..] {
            let error = result.as_ref().unwrap_err();
            assert!(error.contains("a bug in the storage"), "{at}: {error}");
        }
        let health = store.journal.health();
        assert_eq!(health.state, HealthState::Failed);
        assert!(health.trouble.unwrap().contains("a bug in the storage"));
        let crashed = memory.fork();
        crashed.crash();
        drop(opens(&crashed, &history, acknowledged));
        drop(opens(&memory, &history, acknowledged));
    }
}

/// What a write that failed left at the end of a log must not cut off the log that follows on it.
#[test]
fn a_log_does_not_follow_on_half_a_frame() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let settings = Settings {
        sync: SyncPolicy::default(),
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    store.journal.sync().unwrap();
    record(&store, &mut history, &[Write::Put(vec![2], vec![2; 100])]);
    memory.fail_next(1, Some(Operation::Write), How::Half);
    memory.fail_next(1, Some(Operation::Cut), How::Broken);
    assert!(store.journal.wait(2, None).is_err());
    // The log is rotated, and there the compaction ends.
    memory.fail(Fault {
        from: memory.operations() + 10,
        count: 1,
        only: Some(Operation::Rename),
        how: How::Broken,
    });
    assert!(store.journal.compact().is_err());
    store.journal.wait(2, None).unwrap();
    drop(opens(&memory.copy(), &history, 2));
}

/// A log that the manifest does not list yet does not count, however much is in it.
#[test]
fn nothing_is_acknowledged_in_a_log_that_is_not_listed() {
    for sync in [SyncPolicy::default(), SyncPolicy::Always] {
        let time = MockClock::new();
        let settings = Settings {
            clock: time.clock(),
            sync,
            buffer: 1_000,
            generations: 5,
            ..by_hand()
        };
        let (memory, mut history, store) = empty(1, settings);
        record(&store, &mut history, &[Write::Put(vec![0], vec![0])]);
        store.journal.compact().unwrap();
        memory.limit_space(100);
        for n in 0..100u8 {
            let writes = [Write::Put(vec![n], vec![n; 500])];
            history.add(append(&store.journal, &store.kept, &writes), &writes);
        }
        memory.heal();
        store.journal.reserve(0).unwrap();
        memory.fail_next(1, Some(Operation::Rename), How::Broken);
        assert!(store.journal.compact().is_err());
        // A store takes nothing more, and who waits is told.
        let refused = store.journal.reserve(0);
        assert!(matches!(refused, Err(WriteError::Disk(_))), "{refused:?}");
        let waited = store.journal.wait(history.last(), None);
        assert!(matches!(waited, Err(CommitError::Disk(_))), "{waited:?}");
        // Nor is it rot, however long it is written to.
        for _ in 0..2 {
            time.advance(Duration::from_secs(60));
            let writes = [Write::Put(vec![1], vec![1])];
            let seq = append(&store.journal, &store.kept, &writes);
            history.add(seq, &writes);
            assert!(store.journal.wait(seq, Some(Instant::now())).is_err());
        }
        let seq = history.last();
        assert!(frames_of(&memory, &path("log-3.wal")).len() > 1);
        drop(opens(&memory.copy(), &history, 1));
        // What is written to it behind the snapshot counts as soon as it is listed.
        let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
        let noted = Arc::new(std::sync::Mutex::new(history));
        let history = Arc::clone(&noted);
        memory.before(Operation::Rename, 1, move || {
            let journal = journal.upgrade().unwrap();
            let writes = [Write::Put(vec![2], vec![2])];
            let seq = append(&journal, &kept.upgrade().unwrap(), &writes);
            noted.lock().unwrap().add(seq, &writes);
            assert!(journal.wait(seq, Some(Instant::now())).is_err());
        });
        store.journal.compact().unwrap();
        store.journal.reserve(0).unwrap();
        let waited = store.journal.wait(seq + 1, Some(Instant::now()));
        assert!(waited.is_ok(), "{waited:?}");
        let history = history.lock().unwrap();
        drop(opens(&memory.copy(), &history, seq + 1));
        // The files of before do not lead up to it.
        let manifest = Manifest::read(&memory, &dir()).unwrap().unwrap();
        assert_eq!((manifest.snapshots.len(), manifest.logs.len()), (1, 1));
        assert!(!manifest.from_start);
    }
}

/// Nothing is proven, but what whole frames follow on for long was on the disk.
#[test]
fn damage_with_much_newer_frames_behind_it_is_rot() {
    let (often, seldom) = (Duration::from_secs(1), Duration::from_secs(30));
    for (sync, longest) in [
        (SyncPolicy::Os, 45_000),
        (SyncPolicy::Every(often), 45_000),
        (SyncPolicy::Every(seldom), 60_000),
    ] {
        for (pause, is_rot) in [(1, false), (longest / 4, false), (longest / 4 + 1, true)] {
            let time = MockClock::new();
            let memory = Memory::new(1);
            let settings = || Settings {
                clock: time.clock(),
                sync,
                ..by_hand()
            };
            let store = Store::open(&memory.storage(), settings()).unwrap();
            // However long nothing is written, what comes then may be torn.
            time.advance(Duration::from_secs(1_000));
            for n in 0..7u8 {
                let seq = store.put(&[n], &[n; 20]);
                store.journal.wait(seq, None).unwrap();
                // The longest of them does not count, and here they are all the same.
                time.advance(Duration::from_millis(if n == 0 {
                    1_000_000
                } else {
                    pause
                }));
            }
            let killed = memory.copy();
            let frames = frames_of(&killed, Path::new(LOG_1));
            edit(&killed, LOG_1, |bytes| bytes[frames[1].end - 1] ^= 1);
            match Store::open(&killed.storage(), settings()) {
                Ok(store) => assert!(!is_rot && store.report.last_seq == 1),
                Err(error) => {
                    let damage = damage_of(error);
                    assert!(is_rot && damage.next_seq == 2);
                    assert!(damage.found.contains("whole frames of later"), "{damage}");
                }
            }
        }
    }
}

/// A power loss has written the later block and not the earlier one, and the clock was set in between.
#[test]
fn a_clock_that_was_set_makes_no_rot_of_a_torn_tail() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for step in [-36_000, -60, 0, 60, 3_600, 315_360_000i64] {
        for set_before in 2..5u8 {
            let time = MockClock::new();
            time.set_system_time(start);
            let memory = Memory::new(1);
            let settings = || Settings {
                clock: time.clock(),
                ..lazily()
            };
            let store = Store::open(&memory.storage(), settings()).unwrap();
            for n in 1..6u8 {
                if n == set_before {
                    let by = Duration::from_secs(step.unsigned_abs());
                    let now = time.clock().system_time();
                    time.set_system_time(if step < 0 { now - by } else { now + by });
                }
                let seq = store.put(&[n], &[n; 20]);
                store.journal.wait(seq, None).unwrap();
                time.advance(Duration::from_millis(300));
            }
            let killed = memory.copy();
            let frames = frames_of(&killed, Path::new(LOG_1));
            edit(&killed, LOG_1, |bytes| bytes[frames[1].end - 1] ^= 1);
            let store = Store::open(&killed.storage(), settings()).unwrap();
            assert_eq!(store.report.last_seq, 1, "{step} s before {set_before}");
        }
    }
}

/// What a write that failed left behind, and could not be cut off, is a torn tail however long the
/// next log is written to.
#[test]
fn half_a_frame_that_stays_is_no_rot() {
    let time = MockClock::new();
    let memory = Memory::new(1);
    let mut history = History::new();
    let settings = || Settings {
        clock: time.clock(),
        ..lazily()
    };
    let store = Store::open(&memory.storage(), settings()).unwrap();
    record(&store, &mut history, &[Write::Put(vec![1], vec![1])]);
    store.journal.wait(1, None).unwrap();
    record(&store, &mut history, &[Write::Put(vec![2], vec![2; 100])]);
    memory.fail_next(1, Some(Operation::Write), How::Half);
    memory.fail_next(u64::MAX, Some(Operation::Cut), How::Broken);
    assert!(store.journal.wait(2, None).is_err());
    // The new log is made, and listed; the snapshot is not begun.
    memory.fail(Fault {
        from: memory.operations() + 10,
        count: 1,
        only: Some(Operation::Create),
        how: How::Broken,
    });
    assert!(store.journal.compact().is_err());
    for n in 3..6 {
        time.advance(Duration::from_secs(60));
        // As a cache does, which goes on in memory.
        let writes = [Write::Put(vec![n], vec![n])];
        history.add(append(&store.journal, &store.kept, &writes), &writes);
        let _ = store.journal.wait(history.last(), Some(Instant::now()));
    }
    let killed = memory.copy();
    assert_eq!(frames_of(&killed, &path("log-2.wal")).len(), 3);
    let opened = opens(&killed, &history, 1);
    assert_eq!(opened.report.last_seq, 1);
    memory.heal();
    assert_eq!(store.journal.sync().unwrap(), history.last());
    memory.crash_dropping_all();
    drop(opens(&memory, &history, history.last()));
}
