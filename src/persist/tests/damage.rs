//! Files that are not as they were written, disks that fail at any operation, and the modes of
//! recovery.

use super::cases;
use super::faults::lazily;
use super::memory::{Fault, How, Memory};
use super::model::{History, Store, Write, by_hand, dir};
use super::{damage_of, frames_of, record};
use crate::MockClock;
use crate::persist::error::{OpenError, WriteError};
use crate::persist::frame::{HEADER, Kind, Stamp, framed};
use crate::persist::manifest::Manifest;
use crate::persist::recovery::Bounds;
use crate::persist::report::HealthState;
use crate::persist::settings::{Point, RecoveryMode, Settings, SyncPolicy};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub(super) fn in_mode(mode: RecoveryMode) -> Settings {
    Settings { mode, ..by_hand() }
}

/// A store with a snapshot and a log, all of it proven.
pub(super) fn small() -> (Memory, History) {
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..6u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 5])]);
        store.journal.sync().unwrap();
        if n == 2 {
            store.journal.compact().unwrap();
        }
    }
    store.journal.close().unwrap();
    (memory, history)
}

/// Opens what was damaged: it is refused, or nothing is missing; and a salvage finds no more than
/// there was.
fn open_damaged(memory: &Memory, history: &History) -> bool {
    let all = history.at(history.last()).unwrap();
    let is_refused = match Store::open(&memory.copy().storage(), by_hand()) {
        Err(_) => true,
        Ok(store) => {
            assert_eq!(&store.map(), all, "{}", store.report);
            false
        }
    };
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    let is_known = |(key, value): (&Vec<u8>, &Vec<u8>)| all.get(key) == Some(value);
    assert!(store.map().iter().all(is_known), "{}", store.report);
    assert!(!is_refused || !store.report.damages.is_empty());
    is_refused
}

#[test]
fn every_flipped_bit_is_refused_or_does_no_harm() {
    let (original, history) = small();
    let step = if cases(0, 1) == 0 { 3 } else { 1 };
    let mut refused = 0;
    for path in original.paths() {
        let length = original.bytes(&path).len() * 8;
        for bit in (0..length).step_by(step) {
            let memory = original.copy();
            let mut bytes = memory.bytes(&path);
            bytes[bit / 8] ^= 1 << (bit % 8);
            memory.put(&path, bytes);
            refused += u64::from(open_damaged(&memory, &history));
        }
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn a_file_cut_at_any_byte_is_refused_or_nothing_is_missing() {
    let (original, history) = small();
    for path in original.paths() {
        let bytes = original.bytes(&path);
        for cut in 0..bytes.len() {
            let memory = original.copy();
            memory.put(&path, bytes[..cut].to_vec());
            open_damaged(&memory, &history);
        }
        let memory = original.copy();
        memory.forget(&path);
        assert!(
            open_damaged(&memory, &history),
            "without {}",
            path.display()
        );
    }
}

#[test]
fn bytes_that_are_swapped_or_random_do_no_harm() {
    let (original, history) = small();
    for seed in 0..cases(300, 5_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let memory = original.copy();
        let paths = memory.paths();
        let path = &paths[random.usize(0..paths.len())];
        let mut bytes = memory.bytes(path);
        let (one, two) = (random.usize(0..bytes.len()), random.usize(0..bytes.len()));
        let (start, end) = (one.min(two), one.max(two));
        match random.u8(0..4) {
            0 => bytes[start..end]
                .iter_mut()
                .for_each(|byte| *byte = random.u8(..)),
            1 => bytes[start..end].reverse(),
            2 => drop(bytes.drain(start..end)),
            _ => bytes = memory.bytes(&paths[random.usize(0..paths.len())]),
        }
        memory.put(path, bytes);
        open_damaged(&memory, &history);
    }
}

#[test]
fn any_bytes_at_all_are_read_without_a_panic() {
    for seed in 0..cases(2_000, 50_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (memory, _) = (Memory::new(seed), ());
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        store.journal.close().unwrap();
        drop(store);
        let log = dir().join("log-1.wal");
        let mut bytes = memory.bytes(&log);
        bytes.extend((0..random.usize(0..200)).map(|_| random.u8(..)));
        memory.put(&log, bytes);
        let salvage = in_mode(RecoveryMode::Salvage);
        assert!(
            Store::open(&memory.storage(), salvage)
                .unwrap()
                .map()
                .is_empty()
        );
    }
}

/// A workload with compactions and backups in it. Failures are not its concern.
fn work(store: &Store, history: &mut History) {
    for n in 0..12u8 {
        let writes = [
            Write::Put(vec![n % 5], vec![n; 40]),
            Write::Delete(vec![(n + 2) % 5]),
        ];
        if store.write(&writes).is_ok() {
            history.add(store.journal.last_seq(), &writes);
        }
        if n % 2 == 0 {
            let _ = store
                .journal
                .wait(history.last(), Some(std::time::Instant::now()));
        }
        if n % 5 == 4 {
            let _ = store.journal.compact();
        }
        if n == 8 {
            let _ = store.journal.backup(Path::new("/backup"));
        }
    }
    let _ = store.journal.sync();
}

#[test]
fn a_failure_of_any_operation_is_survived() {
    for how in [How::Full, How::Broken, How::Half] {
        for count in [1, 2, u64::MAX] {
            for from in 1.. {
                let memory = Memory::new(from);
                memory.fail(Fault {
                    from,
                    count,
                    only: None,
                    how,
                });
                if survive(&memory, from) {
                    assert!(from > 80, "{from} operations");
                    break;
                }
            }
        }
    }
}

/// Whether the failure came after all of the work.
fn survive(memory: &Memory, from: u64) -> bool {
    let mut history = History::new();
    let store = loop {
        match Store::open(&memory.storage(), by_hand()) {
            Ok(store) => break store,
            Err(_) => memory.heal(),
        }
    };
    work(&store, &mut history);
    let durable = store.journal.durable_seq();
    let (crashed, is_late) = (memory.fork(), memory.operations() < from);
    crashed.crash_dropping_all();
    for left in [crashed, memory.copy()] {
        let recovered = Store::open(&left.storage(), by_hand()).unwrap();
        let last = recovered.report.last_seq;
        assert!(last >= durable, "{} of {durable}", recovered.report);
        assert_eq!(Some(&recovered.map()), history.at(last));
    }
    // As soon as the disk is well, everything is.
    memory.heal();
    assert_eq!(
        store.journal.sync().unwrap(),
        history.last(),
        "operation {from}"
    );
    record(&store, &mut history, &[Write::Put(vec![77], vec![1])]);
    store.journal.wait(history.last(), None).unwrap();
    // The last that failed may be a compaction, which leaves the old files.
    if store.journal.health().state != HealthState::Well {
        store.journal.compact().unwrap();
    }
    assert_eq!(store.journal.health().state, HealthState::Well);
    let report = store.journal.close().unwrap();
    assert_eq!(report.durable_seq, history.last());
    memory.crash_dropping_all();
    let recovered = Store::open(&memory.storage(), by_hand()).unwrap();
    assert_eq!(Some(&recovered.map()), history.at(history.last()));
    is_late
}

#[test]
fn a_point_in_time_is_gone_back_to() {
    let time = MockClock::new();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    time.set_system_time(start);
    let settings = |mode, generations| Settings {
        clock: time.clock(),
        generations,
        ..in_mode(mode)
    };
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), settings(RecoveryMode::default(), 2)).unwrap();
    for n in 0..9u8 {
        time.advance(Duration::from_secs(1));
        record(
            &store,
            &mut history,
            &[Write::Put(vec![n], vec![1]), Write::Delete(vec![n / 2])],
        );
        // Two batches in a frame.
        if n % 2 == 1 {
            store.journal.sync().unwrap();
        }
        if n % 3 == 2 {
            store.journal.compact().unwrap();
        }
    }
    let oldest = 12;
    store.journal.close().unwrap();
    drop(store);
    for seq in oldest..=20 {
        let copy = memory.copy();
        let mode = RecoveryMode::PointInTime(Point::Seq(seq));
        let store = Store::open(&copy.storage(), settings(mode, 2)).unwrap();
        let expected = (seq / 2 * 2).min(18);
        assert_eq!(store.report.last_seq, expected, "no half transaction");
        assert_eq!(Some(&store.map()), history.at(expected));
        store.put(b"another", b"future");
        drop(store);
        let store = Store::open(&copy.storage(), by_hand()).unwrap();
        assert_eq!(store.report.last_seq, expected + 1);
        assert!(store.report.quarantine.is_empty());
    }
    let mode = RecoveryMode::PointInTime(Point::Seq(oldest - 1));
    match Store::open(&memory.storage(), settings(mode, 2)).map(|_| ()) {
        Err(OpenError::OutOfReach { oldest_seq, .. }) => assert_eq!(oldest_seq, oldest),
        other => panic!("{other:?}"),
    }
    // The seventh and the eighth second are one frame, written in the eighth.
    let at = |seconds| RecoveryMode::PointInTime(Point::Time(start + Duration::from_secs(seconds)));
    for (seconds, expected) in [(6, 12), (7, 12), (8, 16), (100, 18)] {
        let copy = memory.copy();
        let store = Store::open(&copy.storage(), settings(at(seconds), 2)).unwrap();
        assert_eq!(store.report.last_seq, expected, "after {seconds} s");
        assert_eq!(Some(&store.map()), history.at(expected));
    }
}

/// Where there is no log the dumps that are kept are in reach.
#[test]
fn without_a_log_an_older_dump_is_gone_back_to() {
    let settings = |mode| Settings {
        log: false,
        generations: 3,
        ..in_mode(mode)
    };
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), settings(RecoveryMode::default())).unwrap();
    for n in 1..=4u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        if n % 2 == 0 {
            store.journal.compact().unwrap();
        }
    }
    store.journal.close().unwrap();
    for (seq, expected) in [(2, 2), (3, 2), (4, 4), (9, 4)] {
        let copy = memory.copy();
        let mode = RecoveryMode::PointInTime(Point::Seq(seq));
        let store = Store::open(&copy.storage(), settings(mode)).unwrap();
        assert_eq!(Some(&store.map()), history.at(expected));
        let left_out = (expected < 4).then_some((expected + 1, 4));
        assert_eq!(store.report.dropped_seqs, left_out);
        goes_on(store, &copy, expected);
    }
    for seq in [0, 1] {
        let mode = RecoveryMode::PointInTime(Point::Seq(seq));
        let refused = Store::open(&memory.storage(), settings(mode)).map(drop);
        let is_meant = matches!(refused, Err(OpenError::OutOfReach { oldest_seq: 2, .. }));
        assert!(is_meant, "{refused:?}");
    }
}

#[test]
fn without_a_snapshot_every_point_is_in_reach() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..5u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![1])]);
    }
    store.journal.close().unwrap();
    for seq in 0..=5 {
        let mode = RecoveryMode::PointInTime(Point::Seq(seq));
        let store = Store::open(&memory.copy().storage(), in_mode(mode)).unwrap();
        assert_eq!(store.report.last_seq, seq);
        assert_eq!(Some(&store.map()), history.at(seq));
        assert_eq!(store.report.quarantine.len(), usize::from(seq < 5));
    }
}

#[test]
fn read_only_changes_nothing_and_refuses_writes() {
    let (memory, history) = small();
    let log = dir().join("log-2.wal");
    let mut bytes = memory.bytes(&log);
    bytes.extend_from_slice(&[1; 50]);
    memory.put(&log, bytes);
    let before = memory.image();
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::ReadOnly)).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
    assert_eq!(store.report.dropped_bytes, 50);
    assert!(matches!(
        store.journal.reserve(1),
        Err(WriteError::ReadOnly)
    ));
    assert!(store.journal.compact().is_err());
    assert!(store.journal.backup(Path::new("/backup")).is_err());
    assert_eq!(store.journal.health().state, HealthState::ReadOnly);
    store.journal.close().unwrap();
    drop(store);
    assert_eq!(memory.image(), before);
    // Of what was killed the manifest does not say how far it goes, nor does it learn so here.
    let (killed, history) = of_two_unproven_logs();
    let before = killed.image();
    let store = Store::open(&killed.storage(), in_mode(RecoveryMode::ReadOnly)).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
    store.journal.close().unwrap();
    drop(store);
    assert_eq!(killed.image(), before);
    let nothing = Memory::new(1);
    let only_there = Settings {
        create_if_missing: false,
        ..in_mode(RecoveryMode::Salvage)
    };
    for is_made in [false, true] {
        for settings in [in_mode(RecoveryMode::ReadOnly), only_there.clone()] {
            let opened = Store::open(&nothing.storage(), settings).map(drop);
            let opened = opened.unwrap_err();
            assert!(matches!(&opened, OpenError::NotFound { dir: at } if *at == dir()));
            assert!(opened.to_string().contains("mounted"), "{opened}");
            assert_eq!(
                (nothing.has_dir(&dir()), nothing.paths().len()),
                (is_made, 0)
            );
        }
        nothing.storage().create_dir(&dir()).unwrap();
    }
    drop(Store::open(&nothing.storage(), in_mode(RecoveryMode::default())).unwrap());
    drop(Store::open(&nothing.storage(), only_there).unwrap());
}

/// After `kill -9`: no manifest says yet how far the log was proven.
#[test]
fn rot_is_told_from_a_torn_tail_by_the_headers_behind_it() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..4u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 5])]);
        store.journal.sync().unwrap();
    }
    let (killed, log) = (memory.fork(), dir().join("log-1.wal"));
    let frames = frames_of(&killed, &log);
    let (last, proven) = frames.split_last().unwrap();
    let damaged = |frame: &Range<usize>| {
        let memory = killed.fork();
        let mut bytes = memory.bytes(&log);
        bytes[frame.start + HEADER] ^= 1;
        memory.put(&log, bytes);
        memory
    };
    for frame in proven {
        let refused = Store::open(&damaged(frame).storage(), by_hand()).map(drop);
        assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
    }
    let store = Store::open(&damaged(last).storage(), by_hand()).unwrap();
    assert_eq!(Some(&store.map()), history.at(3));
    assert_eq!(store.report.durable_seq, 3);
}

/// A store that was killed with two logs, since a snapshot had failed: the last number of the first
/// log was proven when the second was there.
fn of_two_logs() -> Memory {
    for from in 1..50 {
        let memory = Memory::new(1);
        let settings = Settings {
            sync: SyncPolicy::Os,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        store.put(b"1", b"one");
        store.journal.sync().unwrap();
        let written = store.put(b"2", b"two");
        store.journal.wait(written, None).unwrap();
        memory.fail_from(memory.operations() + from, 1, How::Broken);
        let failed = store.journal.compact().is_err();
        memory.heal();
        store.put(b"3", b"three");
        store.journal.sync().unwrap();
        store.put(b"4", b"four");
        store.journal.sync().unwrap();
        let killed = memory.fork();
        let manifest = Manifest::read(&*killed.storage(), &dir());
        let manifest = manifest.unwrap().unwrap();
        let has_two = manifest.snapshots.is_empty() && manifest.logs == [1, 2];
        if failed && has_two && !frames_of(&killed, &dir().join("log-2.wal")).is_empty() {
            return killed;
        }
    }
    panic!("a snapshot can fail");
}

/// The last frame that was synced is told by the manifest that lists the next log.
#[test]
fn rot_in_a_log_is_told_by_the_manifest() {
    let (memory, log) = (Memory::new(1), dir().join("log-1.wal"));
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    let seq = store.put(b"1", b"one");
    store.journal.wait(seq, None).unwrap();
    memory.fail_from(memory.operations() + 10, 1, How::Broken);
    assert!(store.journal.compact().is_err());
    let killed = memory.copy();
    let mut bytes = killed.bytes(&log);
    *bytes.last_mut().unwrap() ^= 1;
    killed.put(&log, bytes);
    let refused = Store::open(&killed.storage(), by_hand()).map(drop);
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
}

#[test]
fn rot_in_a_log_is_told_by_the_logs_behind_it() {
    let (memory, log) = (of_two_logs(), dir().join("log-1.wal"));
    assert_eq!(
        Store::open(&memory.fork().storage(), by_hand())
            .unwrap()
            .map()
            .len(),
        4
    );
    let last = frames_of(&memory, &log).pop().unwrap();
    let mut bytes = memory.bytes(&log);
    bytes[last.start + HEADER] ^= 1;
    memory.put(&log, bytes);
    let refused = Store::open(&memory.fork().storage(), by_hand()).map(drop);
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(
        (store.map().len(), store.report.dropped_seqs),
        (3, Some((2, 2)))
    );
}

/// A store of two logs of which nothing is proven, as `kill -9` leaves it, since a snapshot had
/// failed. The first two writes are one frame.
fn of_two_unproven_logs() -> (Memory, History) {
    let memory = Memory::new(1);
    let mut history = History::new();
    let settings = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for n in 1..=6u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 9])]);
        if n != 1 {
            store.journal.wait(history.last(), None).unwrap();
        }
        if n == 3 {
            // The log is made, and listed; the snapshot is not begun.
            memory.fail_from(memory.operations() + 10, 1, How::Broken);
            assert!(store.journal.compact().is_err());
        }
    }
    let killed = memory.copy();
    assert_eq!(frames_of(&killed, &dir().join("log-1.wal")).len(), 2);
    assert_eq!(frames_of(&killed, &dir().join("log-2.wal")).len(), 3);
    (killed, history)
}

/// Goes on after what was left out, and opens again without it, also after `kill -9`.
pub(super) fn goes_on(store: Store, memory: &Memory, last: u64) {
    assert_eq!(store.report.last_seq, last);
    assert_eq!(store.put(b"another", b"future"), last + 1);
    store.journal.sync().unwrap();
    let (map, killed) = (store.map(), memory.copy());
    drop(store);
    for memory in [&killed, memory] {
        let again = Store::open(&memory.storage(), in_mode(RecoveryMode::Strict)).unwrap();
        assert_eq!(
            (again.map(), again.report.last_seq),
            (map.clone(), last + 1)
        );
    }
}

#[test]
fn what_lies_behind_a_torn_tail_or_a_point_in_time_is_left_out_of_all_logs() {
    let (killed, history) = of_two_unproven_logs();
    let logs = ["log-1.wal", "log-2.wal"].map(|log| dir().join(log));
    let frames = logs.clone().map(|log| frames_of(&killed, &log));
    let size = |frames: &[Range<usize>]| frames.iter().map(Range::len).sum::<usize>() as u64;
    let left_out = |log: usize, at: usize| match log {
        0 => size(&frames[0][at..]) + size(&frames[1]),
        _ => size(&frames[1][at..]),
    };
    let places = [(0, 0, 0), (0, 1, 2), (1, 0, 3), (1, 1, 4), (1, 2, 5)];
    for (log, at, last) in places {
        let memory = killed.copy();
        let mut bytes = memory.bytes(&logs[log]);
        bytes[frames[log][at].end - 1] ^= 1;
        memory.put(&logs[log], bytes.clone());
        let mut behind = vec![bytes.split_off(frames[log][at].start)];
        if log == 0 {
            behind.push(memory.bytes(&logs[1]).split_off(frames[1][0].start));
        }
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        assert_eq!(Some(&store.map()), history.at(last));
        assert_eq!(store.report.dropped_seqs, Some((last + 1, 6)));
        assert_eq!(store.report.dropped_bytes, left_out(log, at));
        let put_aside = store.report.quarantine.iter();
        let put_aside: Vec<_> = put_aside.map(|path| memory.bytes(path)).collect();
        assert_eq!(put_aside, behind, "each log has its own");
        goes_on(store, &memory, last);
    }
    let places = [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 2),
        (1, 0, 3),
        (1, 1, 4),
        (1, 2, 5),
    ];
    for (log, at, last) in places {
        let memory = killed.copy();
        let mode = RecoveryMode::PointInTime(Point::Seq(last));
        let store = Store::open(&memory.storage(), in_mode(mode)).unwrap();
        assert_eq!(Some(&store.map()), history.at(last));
        assert_eq!(store.report.dropped_seqs, Some((last + 1, 6)));
        assert_eq!(store.report.dropped_bytes, left_out(log, at));
        assert!(store.report.damages.is_empty());
        goes_on(store, &memory, last);
    }
}

/// Frames that are whole and not those whose turn it is.
#[test]
fn a_frame_that_comes_twice_is_cut_off_and_not_taken_again() {
    let (memory, log) = (Memory::new(1), dir().join("log-1.wal"));
    let settings = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for value in [b"1", b"2", b"3"] {
        let seq = store.put(b"key", value);
        store.journal.wait(seq, None).unwrap();
    }
    let killed = memory.copy();
    let frames = frames_of(&killed, &log);
    let mut bytes = killed.bytes(&log);
    let size = bytes.len() as u64;
    bytes.extend_from_within(frames[0].clone());
    bytes.extend_from_within(frames[1].clone());
    killed.put(&log, bytes);
    let salvaged = killed.copy();
    let salvage = in_mode(RecoveryMode::Salvage);
    for (memory, mode) in [(killed, by_hand()), (salvaged, salvage)] {
        let store = Store::open(&memory.storage(), mode).unwrap();
        assert_eq!(store.map()[&b"key"[..]], b"3");
        let report = &store.report;
        assert_eq!((report.frames, report.damages.len()), (3, 1));
        assert_eq!(
            (report.damages[0].offset, report.dropped_seqs),
            (size, None)
        );
        assert_eq!(report.dropped_bytes, 2 * frames[0].len() as u64);
        goes_on(store, &memory, 3);
    }
}

/// Snapshots with more or less in them than they say, and frames that belong elsewhere: all of them
/// whole, and none of them written by a crash.
#[test]
fn frames_that_are_whole_and_not_where_they_belong_are_refused() {
    let (original, history) = small();
    let (snapshot, log) = (dir().join("snap-2.db"), dir().join("log-2.wal"));
    let frames = frames_of(&original, &snapshot);
    // Begin, entries, end.
    assert_eq!(frames.len(), 3);
    let of = |path: &Path, kind, count, first, payload: &[u8]| {
        let salt = original.bytes(path)[48..52].try_into().unwrap();
        let stamp = Stamp {
            kind,
            count,
            first,
            durable: 0,
            wall_ms: 0,
        };
        framed(payload, stamp, u32::from_le_bytes(salt))
    };
    let in_snapshot = |kind, first, payload: &[u8]| of(&snapshot, kind, 0, first, payload);
    let fewer = Bounds {
        base: 3,
        end: 3,
        entries: 2,
    };
    let last = frames[2].clone();
    let cases = [
        (
            &snapshot,
            last.clone(),
            in_snapshot(Kind::End, 2, &fewer.encode()),
            "another number",
        ),
        (&snapshot, last.end..last.end, vec![0], "another number"),
        (
            &snapshot,
            last.clone(),
            in_snapshot(Kind::Manifest, 2, &[]),
            "another kind",
        ),
        (&snapshot, last.clone(), vec![], "the end of the file"),
        (
            &snapshot,
            frames[1].clone(),
            in_snapshot(Kind::Snapshot, 5, &[]),
            "frame 5",
        ),
        (
            &log,
            64..64,
            of(&log, Kind::Snapshot, 1, 4, &[0]),
            "another kind",
        ),
        (
            &log,
            64..64,
            of(&log, Kind::Mark, 1, 4, &[0]),
            "another kind",
        ),
    ];
    for (path, place, with, found) in cases {
        let memory = original.copy();
        let mut bytes = memory.bytes(path);
        bytes.splice(place, with);
        memory.put(path, bytes);
        let damage = damage_of(
            Store::open(&memory.storage(), by_hand())
                .map(drop)
                .unwrap_err(),
        );
        assert!(damage.found.contains(found), "{damage}");
        open_damaged(&memory, &history);
    }
}

/// In the log as it was, or in quarantine: what a torn tail holds may be wanted.
#[test]
fn what_is_cut_off_is_not_lost_whatever_fails() {
    let (original, log) = (Memory::new(1), dir().join("log-1.wal"));
    let store = Store::open(&original.storage(), by_hand()).unwrap();
    store.put(b"key", b"value");
    store.journal.close().unwrap();
    let sound = original.bytes(&log);
    let torn = [7; 100];
    original.put(&log, [&sound[..], &torn].concat());
    for at in 1.. {
        let memory = original.copy();
        memory.fail_from(at, 1, How::Broken);
        let opened = Store::open(&memory.storage(), by_hand());
        let is_over = memory.operations() < at;
        memory.crash_dropping_all();
        let is_as_it_was = memory.bytes(&log).ends_with(&torn);
        let mut copies = memory.paths();
        copies.retain(|path| path.starts_with(dir().join("quarantine")));
        let is_kept = copies.iter().any(|copy| memory.bytes(copy) == torn);
        assert!(is_as_it_was || is_kept, "operation {at}");
        if let Ok(store) = opened {
            assert!(is_kept && copies == store.report.quarantine);
            assert_eq!(memory.bytes(&log), sound);
        }
        if is_over {
            assert!(at > 5, "{at} operations");
            break;
        }
    }
}

/// A log that ends with half a frame, and with a whole one behind it or not.
fn torn(has_whole_frame: bool) -> (Memory, usize) {
    let (memory, log) = (Memory::new(1), dir().join("log-1.wal"));
    let store = Store::open(&memory.storage(), lazily()).unwrap();
    for n in 0..4u8 {
        let seq = store.put(&[n], &[n; 300]);
        store.journal.wait(seq, None).unwrap();
    }
    let killed = memory.copy();
    drop(store);
    let (mut bytes, frames) = (killed.bytes(&log), frames_of(&killed, &log));
    if has_whole_frame {
        bytes[frames[2].end - 1] ^= 1;
    } else {
        bytes.truncate(frames[2].end - 1);
    }
    killed.put(&log, bytes);
    let tail = killed.bytes(&log).len() - frames[2].start;
    (killed, tail)
}

#[test]
fn a_full_disk_keeps_no_store_down_for_half_a_write_that_cannot_be_put_aside() {
    for has_whole_frame in [false, true] {
        let (original, tail) = torn(has_whole_frame);
        for space in [0, tail / 2] {
            let memory = original.copy();
            memory.limit_space(space);
            let opened = Store::open(&memory.storage(), by_hand());
            memory.heal();
            let store = if has_whole_frame {
                let error = opened.map(drop).unwrap_err();
                assert!(
                    matches!(&error, OpenError::Disk(error) if error.is_full()),
                    "{error}"
                );
                let is_as_it_was = memory.image() == original.image();
                assert!(is_as_it_was, "with room for {space} bytes");
                Store::open(&memory.storage(), by_hand()).unwrap()
            } else {
                opened.unwrap()
            };
            let report = &store.report;
            assert_eq!(report.quarantine.len(), usize::from(has_whole_frame));
            assert_eq!(
                report.to_string().contains("without a copy"),
                !has_whole_frame
            );
            let uncopied = if has_whole_frame { 0 } else { tail as u64 };
            assert_eq!(report.uncopied_bytes, uncopied);
            goes_on(store, &memory, 2);
        }
    }
}

/// What was cut off may come back behind it, as the file grows: whole, and with the next numbers.
#[test]
fn a_log_that_was_cut_is_not_gone_on_with() {
    let (memory, tail) = torn(true);
    let log = dir().join("log-1.wal");
    let length = memory.bytes(&log).len() - tail;
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    goes_on(store, &memory, 2);
    assert_eq!(memory.bytes(&log).len(), length);
    let manifest = Manifest::read(&*memory.storage(), &dir()).unwrap().unwrap();
    assert_eq!(manifest.logs, [1, 2]);
}

/// By an attempt that was cut short before the log was; and of what the same log ended with before.
#[test]
fn a_copy_of_a_torn_tail_takes_the_place_of_the_same_and_of_no_other() {
    let (torn, tail) = torn(true);
    for is_same in [true, false] {
        let memory = torn.copy();
        let log = memory.bytes(&dir().join("log-1.wal"));
        let frame = log.len() - tail;
        let copy = dir().join(format!("quarantine/log-1-from-{frame}.torn"));
        let left = if is_same {
            log[frame..frame + 9].to_vec()
        } else {
            vec![7; 9]
        };
        memory.put(&copy, left.clone());
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        let quarantine = &store.report.quarantine;
        assert_eq!(memory.bytes(&quarantine[0]), log[frame..]);
        assert_eq!(quarantine[0] == copy, is_same);
        assert!(is_same || memory.bytes(&copy) == left);
    }
}

/// Until all of it is in new files the old ones are as they were.
#[test]
fn a_point_in_time_that_is_cut_short_has_left_out_nothing() {
    let (original, history) = of_two_unproven_logs();
    for (at, last) in (1..60).flat_map(|at| [(at, 1), (at, 4)]) {
        let memory = original.copy();
        memory.fail_from(at, u64::MAX, How::Broken);
        let mode = RecoveryMode::PointInTime(Point::Seq(last));
        let opened = Store::open(&memory.storage(), in_mode(mode)).map(drop);
        let is_over = opened.is_ok() && memory.operations() < at;
        memory.crash_dropping_all();
        memory.heal();
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        let found = store.report.last_seq;
        assert!(found == 6 || found == last, "operation {at}: {found}");
        assert!(opened.is_err() || found == last);
        assert_eq!(Some(&store.map()), history.at(found));
        assert!(at < 59 || is_over);
    }
}

#[test]
fn progress_is_told_up_to_the_end() {
    let (memory, _) = small();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let settings = Settings {
        progress: Some(Arc::new(move |progress| log.lock().unwrap().push(progress))),
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let told = told.lock().unwrap();
    let last = told.last().unwrap();
    assert_eq!(last.bytes, store.report.bytes);
    // But for the headers of two files.
    assert_eq!(last.total, last.bytes + 128);
    assert!(told.is_sorted_by_key(|progress| progress.bytes));
}

#[test]
fn damage_says_where_it_is_and_what_to_do() {
    let (memory, _) = small();
    let log = dir().join("log-2.wal");
    let mut bytes = memory.bytes(&log);
    bytes[64] ^= 1;
    memory.put(&log, bytes);
    let error = Store::open(&memory.storage(), by_hand())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "/store/log-2.wal is damaged at byte 64: expected the header of a frame, found no mark of \
         a frame (number 4; proven on disk up to 6): nothing was changed; restore a backup, or \
         open with RecoveryMode::Salvage for what can still be read"
    );
    assert_eq!(damage_of(error).offset, 64);
}
