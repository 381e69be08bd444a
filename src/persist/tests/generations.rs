//! What a salvage makes of older generations when the newest snapshot is not whole.

use super::damage::{goes_on, in_mode, small};
use super::memory::Memory;
use super::model::{History, Map, Store, Write, by_hand, dir};
use super::{cases, frames_of, record};
use crate::persist::frame::HEADER;
use crate::persist::manifest::{Manifest, Name};
use crate::persist::settings::{Point, RecoveryMode, Settings, SyncPolicy};
use std::collections::BTreeSet;
use std::path::Path;

fn salvage(memory: &Memory) -> Store {
    Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap()
}

fn manifest_of(memory: &Memory) -> Manifest {
    let manifest = Manifest::read(&*memory.storage(), &dir());
    manifest.unwrap().unwrap()
}

/// A store of several generations, whose keys are put, overwritten and deleted in each of them.
fn of_generations(kept: usize, compactions: u8, random: &mut fastrand::Rng) -> (Memory, History) {
    let memory = Memory::new(random.u64(..));
    let mut history = History::new();
    let settings = Settings {
        generations: kept,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for generation in 0..=compactions {
        for n in 0..random.u8(3..12) {
            let key = vec![random.u8(0..20)];
            let write = match random.bool() {
                true => Write::Put(key, vec![generation, n]),
                false => Write::Delete(key),
            };
            record(&store, &mut history, &[write]);
            store.journal.sync().unwrap();
        }
        if generation < compactions {
            store.journal.compact().unwrap();
        }
    }
    store.journal.close().unwrap();
    (memory, history)
}

/// Spoils a file in one of the ways in which all or some of it can be lost.
fn spoil(memory: &Memory, path: &Path, random: &mut fastrand::Rng) {
    let mut bytes = memory.bytes(path);
    let at = random.usize(0..bytes.len());
    match random.u8(0..4) {
        0 => return memory.forget(path),
        1 => return memory.spoil_part(path, at as u64..at as u64 + 1),
        2 => bytes.truncate(at),
        _ => bytes[at] ^= 1,
    }
    memory.put(path, bytes);
}

#[test]
fn where_the_logs_of_an_older_generation_are_whole_nothing_is_lost_with_any_snapshot() {
    let mut starts = BTreeSet::new();
    for seed in 0..cases(300, 10_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (kept, compactions) = (random.usize(2..5), random.u8(1..6));
        let (memory, history) = of_generations(kept, compactions, &mut random);
        let manifest = manifest_of(&memory);
        let mut snapshots: Vec<u64> = manifest.snapshots.iter().map(|at| at.generation).collect();
        // Where the logs do not reach back to the beginning, the oldest snapshot is what they need.
        let needed = (!manifest.from_start).then(|| snapshots.remove(0));
        let spoilt = random.usize(1..=snapshots.len());
        for generation in &snapshots[snapshots.len() - spoilt..] {
            let path = Name::Snapshot(*generation).in_dir(&dir());
            spoil(&memory, &path, &mut random);
        }
        let has_manifest = random.bool();
        if !has_manifest {
            memory.forget(&dir().join("MANIFEST"));
        }
        let last = history.last();
        let store = salvage(&memory);
        assert_eq!(Some(&store.map()), history.at(last), "seed {seed}");
        let start = match snapshots.len() - spoilt {
            0 => needed.unwrap_or(0),
            sound => snapshots[sound - 1],
        };
        let report = &store.report;
        assert_eq!(report.dropped_seqs, None, "seed {seed}: {report}");
        assert!(!report.damages.is_empty());
        // Without a manifest, a snapshot that says nothing of itself is none.
        if has_manifest {
            assert_eq!(report.went_back_to, Some(start), "seed {seed}");
        }
        starts.insert(start);
        goes_on(store, &memory, last);
    }
    assert!(starts.len() > 4, "{starts:?}");
}

#[test]
fn where_the_newest_snapshot_is_whole_no_older_one_is_looked_at() {
    let mut random = fastrand::Rng::with_seed(1);
    let (memory, history) = of_generations(3, 4, &mut random);
    let manifest = manifest_of(&memory);
    let newest = manifest.newest().unwrap().generation;
    for name in manifest.files().filter(|name| {
        let generation = Name::parse(name).unwrap().generation();
        generation < newest
    }) {
        memory.forget(&dir().join(name));
    }
    let log = Name::Log(newest).in_dir(&dir());
    let mut bytes = memory.bytes(&log);
    let first = frames_of(&memory, &log)[0].clone();
    bytes[first.start + HEADER] ^= 1;
    memory.put(&log, bytes);
    let store = salvage(&memory);
    assert_eq!(store.report.went_back_to, None);
    let files = store.report.damages.iter().map(|damage| &damage.file);
    assert!(files.clone().all(|file| *file == log), "{:?}", store.report);
    goes_on(store, &memory, history.last());
}

/// A store that has just compacted as the power was lost: the disk has the new files, and still the
/// names of those that were removed.
fn before_the_old_files_are_gone() -> (Memory, Map) {
    let (memory, _) = small();
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    // From the log that goes.
    store.write(&[Write::Delete(vec![0])]).unwrap();
    store.write(&[Write::Delete(vec![4])]).unwrap();
    store.put(&[1], b"again");
    store.journal.sync().unwrap();
    store.journal.compact().unwrap();
    // And from the one that stays.
    store.write(&[Write::Delete(vec![5])]).unwrap();
    store.put(&[2], b"again");
    store.journal.sync().unwrap();
    let map = store.map();
    memory.crash_dropping_all();
    drop(store);
    for name in ["snap-2.db", "log-2.wal", "snap-3.db", "log-3.wal"] {
        assert!(memory.paths().contains(&dir().join(name)), "{name}");
    }
    let manifest = manifest_of(&memory);
    assert_eq!((manifest.snapshots.len(), manifest.logs), (1, vec![3]));
    (memory, map)
}

#[test]
fn files_that_a_compaction_has_removed_in_vain_make_up_for_its_snapshot() {
    for seed in 0..40 {
        let (memory, map) = before_the_old_files_are_gone();
        let mut random = fastrand::Rng::with_seed(seed);
        spoil(&memory, &dir().join("snap-3.db"), &mut random);
        let store = salvage(&memory);
        assert_eq!(store.map(), map, "seed {seed}: {}", store.report);
        assert_eq!(store.report.went_back_to, Some(2));
        goes_on(store, &memory, 11);
    }
}

/// Newer than what is lost of the older log, and older than what the newer log says.
#[test]
fn what_is_left_of_a_snapshot_makes_up_for_what_the_log_before_it_has_lost() {
    // So that each is a frame of its own.
    let large = |n: u8| vec![n; 300_000];
    let memory = Memory::new(1);
    let settings = Settings {
        generations: 2,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let change = |puts: &[(u8, u8)], deleted: u8| {
        for (key, n) in puts {
            store.put(&[*key], &large(*n));
        }
        store.write(&[Write::Delete(vec![deleted])]).unwrap();
        store.journal.sync().unwrap();
    };
    change(&[(0, 10), (1, 10), (2, 10)], 9);
    store.journal.compact().unwrap();
    change(&[(1, 20), (3, 20)], 0);
    store.journal.compact().unwrap();
    change(&[(2, 30)], 3);
    store.journal.close().unwrap();
    drop(store);
    let [.., log, _] = manifest_of(&memory).logs[..] else {
        panic!("two generations are kept");
    };
    memory.forget(&Name::Log(log).in_dir(&dir()));
    let snapshot = Name::Snapshot(log + 1).in_dir(&dir());
    let mut bytes = memory.bytes(&snapshot);
    // Behind the first frame, those of keys 1, 2 and 3.
    bytes[frames_of(&memory, &snapshot)[2].end - 1] ^= 1;
    memory.put(&snapshot, bytes);
    let store = salvage(&memory);
    // That 0 was deleted was in the log that is gone.
    let expected = [(0, 10), (1, 20), (2, 30)].map(|(key, n)| (vec![key], large(n)));
    assert!(store.map() == Map::from(expected), "{}", store.report);
    assert_eq!(store.report.went_back_to, Some(log));
    assert_eq!(store.report.dropped_seqs, Some((5, 7)));
    goes_on(store, &memory, 9);
}

/// The same numbers stand for other writes since.
#[test]
fn what_was_given_up_by_a_return_to_an_earlier_time_does_not_come_back() {
    let memory = Memory::new(1);
    let mut history = History::new();
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 1..=6u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        store.journal.sync().unwrap();
    }
    store.journal.close().unwrap();
    drop(store);
    let back = in_mode(RecoveryMode::PointInTime(Point::Seq(3)));
    let store = Store::open(&memory.storage(), back).unwrap();
    history.go_back_to(3);
    for n in 7..=8u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
        store.journal.sync().unwrap();
    }
    memory.crash_dropping_all();
    drop(store);
    let manifest = manifest_of(&memory);
    assert_eq!(manifest.snapshots[0].base, 3);
    assert!(memory.paths().contains(&dir().join("log-1.wal")));
    for (has_snapshot, has_manifest) in [(true, true), (false, true), (true, false), (false, false)]
    {
        let memory = memory.copy();
        let snapshot = Name::Snapshot(manifest.generation).in_dir(&dir());
        let mut bytes = memory.bytes(&snapshot);
        for frame in frames_of(&memory, &snapshot).iter().skip(1) {
            bytes[frame.end - 1] ^= 1;
        }
        memory.put(&snapshot, bytes);
        if !has_snapshot {
            memory.forget(&snapshot);
        }
        if !has_manifest {
            memory.forget(&dir().join("MANIFEST"));
        }
        let store = salvage(&memory);
        assert_eq!(Some(&store.map()), history.at(5), "{}", store.report);
        goes_on(store, &memory, 5);
    }
}

/// A compaction was cut short between naming its snapshot and listing it.
#[test]
fn a_newer_snapshot_that_is_whole_counts_listed_or_not() {
    let (memory, history) = small();
    let compacted = memory.copy();
    let store = Store::open(&compacted.storage(), by_hand()).unwrap();
    store.journal.compact().unwrap();
    store.put(&[1], b"later");
    store.journal.close().unwrap();
    for name in ["snap-3.db", "log-3.wal"] {
        let path = dir().join(name);
        memory.put(&path, compacted.bytes(&path));
    }
    for is_gone in [false, true] {
        let memory = memory.copy();
        let old = dir().join("snap-2.db");
        let mut bytes = memory.bytes(&old);
        bytes[100] ^= 1;
        memory.put(&old, bytes);
        if is_gone {
            memory.forget(&old);
        }
        let store = salvage(&memory);
        let mut expected = history.at(6).unwrap().clone();
        expected.insert(vec![1], b"later".to_vec());
        assert_eq!(store.map(), expected);
        let files: Vec<_> = store.report.damages.iter().map(|at| &at.file).collect();
        assert_eq!(files, [&old]);
        assert_eq!(store.report.went_back_to, None);
        goes_on(store, &memory, 7);
    }
}

/// Were a number given again, the new file would empty the one that is kept under another name.
#[test]
fn a_salvage_gives_no_number_of_a_file_again() {
    let (memory, _) = small();
    memory.put(&dir().join("log-7.wal"), b"whatever".to_vec());
    let snapshot = dir().join("snap-2.db");
    let mut bytes = memory.bytes(&snapshot);
    bytes[100] ^= 1;
    memory.put(&snapshot, bytes);
    let store = salvage(&memory);
    assert_eq!(store.journal.health().generation, 8);
    goes_on(store, &memory, 6);
}

#[test]
fn where_there_is_no_log_the_dump_before_is_what_there_is() {
    let memory = Memory::new(1);
    let settings = |mode| Settings {
        log: false,
        sync: SyncPolicy::Os,
        generations: 2,
        ..in_mode(mode)
    };
    let store = Store::open(&memory.storage(), settings(RecoveryMode::Strict)).unwrap();
    for (key, value) in [(1, 1), (2, 1), (3, 1)] {
        store.put(&[key], &[value]);
    }
    store.journal.compact().unwrap();
    for (key, value) in [(1, 2), (2, 2), (5, 2)] {
        store.put(&[key], &[value]);
    }
    store.journal.compact().unwrap();
    store.journal.close().unwrap();
    let manifest = manifest_of(&memory);
    let [older, newest] = &manifest.snapshots[..] else {
        panic!("{manifest:?}");
    };
    let path = Name::Snapshot(newest.generation).in_dir(&dir());
    let mut bytes = memory.bytes(&path);
    // All of the entries are in one frame, behind the first.
    bytes[frames_of(&memory, &path)[1].end - 1] ^= 1;
    memory.put(&path, bytes);
    let older = older.generation;
    let store = Store::open(&memory.storage(), settings(RecoveryMode::Salvage)).unwrap();
    assert_eq!(store.report.went_back_to, Some(older));
    let expected = [1, 2, 3].map(|key| (vec![key], vec![1]));
    assert_eq!(store.map(), Map::from(expected));
}
