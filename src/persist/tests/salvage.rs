//! What a salvage finds, and what it says of the rest.

use super::damage::{goes_on, in_mode, small};
use super::frames_of;
use super::memory::{How, Memory, Operation, Spoilt};
use super::model::{Map, Store, by_hand, dir};
use crate::persist::check;
use crate::persist::effect::Decoder;
use crate::persist::error::{Damage, OpenError};
use crate::persist::frame::HEADER;
use crate::persist::header;
use crate::persist::manifest::Manifest;
use crate::persist::recovery::Recovery;
use crate::persist::report::RecoveryReport;
use crate::persist::settings::{RecoveryMode, Settings, SyncPolicy};
use crate::persist::wall::Wall;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn a_salvage_that_finds_every_number_says_that_none_is_lost() {
    let (memory, history) = small();
    let log = dir().join("log-2.wal");
    let frames = frames_of(&memory, &log);
    let mut bytes = memory.bytes(&log);
    let at = frames[1].start;
    bytes.splice(at..at, [7; 100]);
    memory.put(&log, bytes);
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
    let report = &store.report;
    assert_eq!((report.dropped_bytes, report.dropped_seqs), (100, None));
    assert_eq!(report.damages.len(), 1);
}

/// A disk that fails, or a file that may not be opened, is no damage: it may be read another time.
#[test]
fn what_cannot_be_read_is_refused_as_such_and_passed_over_by_a_salvage() {
    let (original, history) = small();
    for how in [Spoilt::Read, Spoilt::Open] {
        for name in ["MANIFEST", "snap-2.db", "log-2.wal"] {
            let (memory, path) = (original.copy(), dir().join(name));
            memory.spoil(&path, how);
            let before = memory.image();
            match Store::open(&memory.storage(), by_hand()).map(drop) {
                Err(OpenError::Disk(error)) if how == Spoilt::Open => assert_eq!(error.path, path),
                Err(OpenError::Unreadable(part)) => {
                    assert_eq!((part.file, part.bytes), (path.clone(), 0..64));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(memory.image(), before);
            let salvage = in_mode(RecoveryMode::Salvage);
            memory.fail_next(u64::MAX, Some(Operation::Link), How::Broken);
            let refused = Store::open(&memory.storage(), salvage.clone()).map(drop);
            assert!(
                matches!(refused, Err(OpenError::Disk(_))),
                "it is kept first"
            );
            let mut after = memory.image();
            after.retain(|path, _| !path.starts_with(dir().join("quarantine")));
            assert_eq!(after, before, "also as what was opened is dropped");
            memory.heal();
            let store = Store::open(&memory.storage(), salvage).unwrap();
            let all = history.at(6).unwrap();
            let lost = |key: &u8| match name {
                "snap-2.db" => *key < 3,
                "log-2.wal" => *key >= 3,
                _ => false,
            };
            let mut expected = all.clone();
            expected.retain(|key, _| !lost(&key[0]));
            assert_eq!(store.map(), expected, "without {name}");
            let damages = &store.report.damages;
            assert_eq!(damages[0].file, path);
            let header = (path.clone(), 0..64);
            let of_open_files = &[header][..usize::from(how == Spoilt::Read)];
            assert_eq!(unreadable(&store), of_open_files);
            // Without the log all ends before what is proven.
            assert_eq!(damages.len(), if name == "log-2.wal" { 2 } else { 1 });
            goes_on(store, &memory, 6);
        }
    }
}

/// A store with a snapshot and two logs; the keys of each file are of its own number.
fn of_three_files() -> (Memory, Map) {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(&[1], b"in the snapshot");
    store.journal.sync().unwrap();
    store.journal.compact().unwrap();
    store.put(&[2], b"in the first log");
    store.journal.backup(Path::new("/backup")).unwrap();
    store.put(&[3], b"in the second log");
    store.journal.close().unwrap();
    (memory, store.map())
}

/// A disk that dies: a file that could be opened and read can be no more, at whichever of the times
/// that a salvage opens it.
#[test]
fn a_file_that_can_be_read_for_a_while_keeps_no_salvage_from_the_others() {
    let (listed, all) = of_three_files();
    // Here all is written anew, whatever can be read.
    let unlisted = listed.copy();
    unlisted.forget(&dir().join("MANIFEST"));
    let files = ["MANIFEST", "snap-2.db", "log-2.wal", "log-3.wal"];
    for (key, name) in (0u8..).zip(files) {
        let path = dir().join(name);
        let mut without = all.clone();
        without.remove(&[key][..]);
        for (original, how, may_change) in [
            (&listed, Spoilt::Open, true),
            (&listed, Spoilt::Read, true),
            (&listed, Spoilt::Open, false),
            (&listed, Spoilt::Read, false),
            (&unlisted, Spoilt::Open, true),
            (&unlisted, Spoilt::Read, true),
        ] {
            if !original.paths().contains(&path) {
                continue;
            }
            let found = (0..).map_while(|opens| {
                let memory = original.copy();
                memory.spoil_after(opens, &path, how);
                let (map, report) = salvaged(&memory, may_change);
                let is_named = report.damages.iter().any(|damage| damage.file == path);
                assert!(is_named || map == all, "{name}, opening {opens}: {report}");
                is_named.then_some(map)
            });
            let found: Vec<Map> = found.collect();
            let at = format!("{name}, {how:?}, {may_change}: {found:?}");
            assert_eq!(found.first(), Some(&without), "{at}");
            assert!(
                found.iter().all(|map| [&all, &without].contains(&map)),
                "{at}"
            );
            // What was read counts, also where the log can be opened no more to be gone on with.
            let is_reopened = may_change && name.starts_with("log");
            assert_eq!(found.contains(&all), is_reopened || key == 0, "{at}");
        }
    }
}

/// What a salvage finds: one that opens the directory and goes on in it, or one that only reads it, as
/// `haybox-check` does.
fn salvaged(memory: &Memory, may_change: bool) -> (Map, RecoveryReport) {
    let settings = in_mode(RecoveryMode::Salvage);
    if may_change {
        let store = Store::open(&memory.storage(), settings).unwrap();
        let found = (store.map(), store.report.clone());
        let last = store.report.last_seq;
        if !found.1.damages.is_empty() {
            goes_on(store, memory, last);
        }
        return found;
    }
    let kept = super::model::Kept::default();
    let recovery = Recovery {
        wall: Wall::new(settings.clock.clone()),
        dir: &dir(),
        settings: &settings,
        storage: memory,
        contents: &kept,
        may_change,
    };
    let report = recovery.run().unwrap().report;
    (kept.map(), report)
}

/// What a salvage has read around.
fn unreadable(store: &Store) -> Vec<(PathBuf, Range<u64>)> {
    let parts = store.report.unreadable.iter();
    parts
        .map(|part| (part.file.clone(), part.bytes.clone()))
        .collect()
}

/// A store with a snapshot and a log of many frames, over many sectors.
fn large() -> (Memory, Map) {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 0..60u8 {
        store.put(&[n], &[n; 20_000][..if n < 30 { 20_000 } else { 1_000 }]);
        store.journal.sync().unwrap();
        if n == 29 {
            store.journal.compact().unwrap();
        }
    }
    store.journal.close().unwrap();
    let map = store.map();
    (memory, map)
}

/// The keys that a frame puts.
fn keys_in(bytes: &[u8], frame: &Range<usize>) -> Vec<Vec<u8>> {
    let payload = &bytes[frame.start + HEADER..frame.end];
    let puts = Decoder::new(payload).flatten();
    puts.filter_map(|effect| effect.key().map(<[u8]>::to_vec))
        .collect()
}

const SECTOR: u64 = 4096;

#[test]
fn a_bad_sector_is_refused_by_its_place_and_costs_a_salvage_what_lies_in_it() {
    let (original, all) = large();
    for name in ["snap-2.db", "log-2.wal"] {
        let path = dir().join(name);
        let (bytes, frames) = (original.bytes(&path), frames_of(&original, &path));
        let length = bytes.len() as u64;
        assert!(frames.len() > 3 && length > 7 * SECTOR, "{frames:?}");
        let last = (length - 1) / SECTOR;
        for sector in (1..last).step_by(if name == "snap-2.db" { 9 } else { 1 }) {
            let bad = sector * SECTOR..(sector + 1) * SECTOR;
            let memory = original.copy();
            memory.spoil_part(&path, bad.clone());
            let before = memory.image();
            match Store::open(&memory.storage(), by_hand()).map(drop) {
                Err(error @ OpenError::Unreadable(_)) => {
                    let place = format!("bytes {} to {} of", bad.start, bad.end - 1);
                    for says in [&*place, name, "input/output error", "RecoveryMode::Salvage"] {
                        assert!(error.to_string().contains(says), "{error}");
                    }
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(memory.image(), before);
            let is_lost = |frame: &&Range<usize>| {
                frame.start < bad.end as usize && frame.end > bad.start as usize
            };
            let lost = frames.iter().filter(is_lost);
            let lost: Vec<_> = lost.flat_map(|frame| keys_in(&bytes, frame)).collect();
            let mut expected = all.clone();
            expected.retain(|key, _| !lost.contains(key));
            assert!(!expected.is_empty());
            let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
            assert!(store.map() == expected, "{name}, sector {sector}");
            assert_eq!(unreadable(&store), [(path.clone(), bad)]);
            assert!(
                store
                    .report
                    .damages
                    .iter()
                    .any(|damage| damage.file == path)
            );
            goes_on(store, &memory, 60);
        }
    }
}

/// However large a set is: there are four here.
#[test]
fn damage_costs_a_snapshot_a_frame_of_less_than_32_kib_or_one_entry() {
    const MOST: usize = 32 << 10;
    for (entries, length) in [
        (200u32, 10),
        (1_000, 40),
        (400, 900),
        (12, 20_000),
        (4, 100_000),
    ] {
        let memory = Memory::new(1);
        let store = Store::open(&memory.storage(), by_hand()).unwrap();
        for n in 0..entries {
            store.put(&n.to_be_bytes(), &vec![n as u8; length]);
        }
        store.journal.sync().unwrap();
        let before = memory.operations();
        let written = store.journal.compact().unwrap().bytes as usize;
        let operations = (memory.operations() - before) as usize;
        assert!(
            operations < 24 + written / (256 << 10),
            "{operations} for {written} bytes"
        );
        store.journal.close().unwrap();
        let path = dir().join("snap-2.db");
        let (sound, all) = (memory.bytes(&path), store.map());
        let frames = frames_of(&memory, &path);
        let mut found = 0;
        let most = (sound.len() / 8).clamp(2 << 10, MOST);
        for frame in &frames {
            let keys = keys_in(&sound, frame);
            found += keys.len();
            assert!(keys.len() <= 1 || frame.len() < HEADER + most, "{frame:?}");
        }
        assert_eq!(found, all.len());
        // None so small that their headers count.
        assert!(frames.len() < 80 + sound.len() / (8 << 10), "{frames:?}");
        let middle = &frames[frames.len() / 2];
        let lost = keys_in(&sound, middle);
        let mut bytes = sound;
        bytes[middle.end - 1] ^= 1;
        memory.put(&path, bytes);
        let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
        let mut expected = all;
        expected.retain(|key, _| !lost.contains(key));
        assert!(store.map() == expected && !lost.is_empty());
    }
}

#[test]
fn who_looks_into_a_file_with_a_bad_sector_sees_what_lies_behind_it() {
    let (memory, _) = large();
    let whole = check::inspect_on(&memory, &dir(), |_| ()).unwrap();
    let (snapshot, log) = (dir().join("snap-2.db"), dir().join("log-2.wal"));
    memory.spoil_part(&snapshot, 0..1);
    memory.spoil_part(&log, 2 * SECTOR..3 * SECTOR);
    let seen = check::inspect_on(&memory, &dir(), |_| ()).unwrap();
    let files = || whole.files.iter().zip(&seen.files);
    let bytes: Vec<_> = files().map(|(_, file)| &file.unreadable[0].bytes).collect();
    assert_eq!(bytes, [&(0..64), &(2 * SECTOR..3 * SECTOR)]);
    assert!(files().all(|(whole, file)| whole.bytes == file.bytes && !file.damages.is_empty()));
    let frames: Vec<_> = files()
        .map(|(whole, file)| whole.frames - file.frames)
        .collect();
    assert_eq!(frames[0], whole.files[0].frames);
    assert!((4..6).contains(&frames[1]), "{frames:?}");
    assert_eq!(seen.files[1].seqs, whole.files[1].seqs);
    assert!(!seen.is_whole());
}

/// What it says about how far the log was proven on disk is not known.
#[test]
fn a_bad_sector_behind_a_torn_tail_is_refused() {
    let (memory, _) = large();
    let path = dir().join("log-2.wal");
    let frames = frames_of(&memory, &path);
    let mut bytes = memory.bytes(&path);
    bytes[frames[2].start + 50] ^= 1;
    memory.put(&path, bytes);
    memory.spoil_part(&path, 4 * SECTOR..5 * SECTOR);
    let mut manifest = Manifest::read(&*memory.storage(), &dir()).unwrap().unwrap();
    manifest.durable = 30;
    manifest.publish(&*memory.storage(), &dir()).unwrap();
    for mode in [RecoveryMode::TolerateTornTail, RecoveryMode::ReadOnly] {
        let refused = Store::open(&memory.storage(), in_mode(mode)).map(drop);
        assert!(
            matches!(refused, Err(OpenError::Unreadable(_))),
            "{refused:?}"
        );
    }
}

/// Were it taken for a new store, its files would be removed.
#[test]
fn files_that_cannot_be_opened_are_not_taken_for_none() {
    let (memory, _) = small();
    memory.forget(&dir().join("MANIFEST"));
    for name in ["snap-2.db", "log-2.wal"] {
        memory.spoil(&dir().join(name), Spoilt::Open);
    }
    let before = memory.image();
    let error = Store::open(&memory.storage(), by_hand())
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, OpenError::NoManifest { .. }), "{error}");
    assert_eq!(memory.image(), before);
}

#[test]
fn a_salvage_without_a_manifest_believes_the_most_of_the_files() {
    let (other, _) = small();
    let snapshot = other.bytes(&dir().join("snap-2.db"));
    for name in ["snap-9.db", "log-9.wal", "snap-1.db", "log-1.wal"] {
        let (memory, history) = small();
        memory.forget(&dir().join("MANIFEST"));
        let path = dir().join(name);
        // As it is named, but of another store.
        let mut bytes = snapshot.clone();
        bytes[10] = if name.starts_with("log") { 2 } else { 3 };
        bytes[32..40].copy_from_slice(
            &u64::from(name.as_bytes()[name.find('-').unwrap() + 1] - b'0').to_le_bytes(),
        );
        let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&checksum);
        memory.put(&path, bytes);
        let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
        assert_eq!(Some(&store.map()), history.at(6), "beside {name}");
        let is_older_log = name == "log-1.wal";
        let files: Vec<_> = store
            .report
            .damages
            .iter()
            .map(|damage| &damage.file)
            .collect();
        assert_eq!(files.contains(&&path), !is_older_log, "{files:?}");
        let says_whose = |damage: &Damage| damage.found.starts_with("one of store");
        assert!(is_older_log || store.report.damages.iter().any(says_whose));
        goes_on(store, &memory, 6);
    }
}

#[test]
fn a_salvage_without_a_manifest_says_what_is_wrong_with_a_snapshot() {
    let (memory, _) = small();
    memory.forget(&dir().join("MANIFEST"));
    let path = dir().join("snap-2.db");
    memory.spoil(&path, Spoilt::Open);
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    let mut damages = store.report.damages.iter();
    let of_snapshot = damages.find(|damage| damage.file == path).unwrap();
    assert!(
        of_snapshot.found.starts_with("cannot open"),
        "{of_snapshot}"
    );
}

/// By their numbers, and not by their names.
#[test]
fn a_salvage_without_a_manifest_reads_the_logs_in_their_order() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    for n in 1..=11u8 {
        store.put(b"key", &[n]);
        store.journal.sync().unwrap();
        if n < 11 {
            memory.fail_from(memory.operations() + 10, 1, How::Broken);
            assert!(store.journal.compact().is_err());
        }
    }
    store.journal.close().unwrap();
    memory.forget(&dir().join("MANIFEST"));
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(
        (store.map()[&b"key"[..]][0], store.report.damages.len()),
        (11, 1)
    );
    goes_on(store, &memory, 11);
}

/// It may be the newest, and what is older is not what there was.
#[test]
fn a_snapshot_of_a_newer_version_is_refused_also_where_no_manifest_lists_it() {
    let memory = Memory::new(1);
    let without_log = Settings {
        log: false,
        generations: 2,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), without_log).unwrap();
    for n in 0..2u8 {
        store.put(b"key", &[n]);
        store.journal.compact().unwrap();
    }
    store.journal.close().unwrap();
    // The format, and a feature.
    for at in [8, 12] {
        let memory = memory.copy();
        let path = dir().join("snap-2.db");
        let mut bytes = memory.bytes(&path);
        bytes[at] = 64;
        let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&checksum);
        memory.put(&path, bytes);
        let salvage = || Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).map(drop);
        let listed = salvage().unwrap_err();
        memory.forget(&dir().join("MANIFEST"));
        let before = memory.image();
        for error in [listed, salvage().unwrap_err()] {
            assert!(
                matches!(&error, OpenError::NewerFormat { file, .. } if at == 8 && *file == path)
                    || matches!(&error, OpenError::UnknownFeatures { file, .. } if *file == path),
                "{error}"
            );
        }
        assert_eq!(memory.image(), before);
    }
}

#[test]
fn a_salvage_of_a_snapshot_alone_gives_no_number_again() {
    let (memory, _) = small();
    memory.forget(&dir().join("MANIFEST"));
    memory.forget(&dir().join("log-2.wal"));
    let snapshot = dir().join("snap-2.db");
    let mut bytes = memory.bytes(&snapshot);
    for frame in &frames_of(&memory, &snapshot)[..2] {
        bytes[frame.end - 1] ^= 1;
    }
    memory.put(&snapshot, bytes);
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(store.map(), Map::new());
    goes_on(store, &memory, 3);
}

#[test]
fn a_salvage_takes_all_that_is_whole() {
    let (original, history) = small();
    let log = dir().join("log-2.wal");
    let frames = frames_of(&original, &log);
    for (at, frame) in frames.iter().enumerate().take(3) {
        let memory = original.copy();
        let mut bytes = memory.bytes(&log);
        bytes[frame.start + 50] ^= 1;
        memory.put(&log, bytes);
        assert!(Store::open(&memory.storage(), by_hand()).is_err());
        let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
        let mut expected: Map = history.at(6).unwrap().clone();
        expected.remove(&vec![at as u8 + 3]);
        assert_eq!(store.map(), expected);
        let lost = at as u64 + 4;
        assert_eq!(store.report.dropped_seqs, Some((lost, lost)));
        assert_eq!(store.report.dropped_bytes, frame.len() as u64);
        drop(store);
        let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Strict)).unwrap();
        assert_eq!(store.map(), expected);
    }
}

#[test]
fn a_salvage_gives_no_number_again_that_was_proven() {
    let (memory, history) = small();
    let log = dir().join("log-2.wal");
    let first = frames_of(&memory, &log)[0].clone();
    memory.put(&log, memory.bytes(&log)[..first.end].to_vec());
    let refused = Store::open(&memory.storage(), by_hand()).map(drop);
    assert!(matches!(refused, Err(OpenError::Damaged(_))));
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(Some(&store.map()), history.at(4));
    assert_eq!(store.report.dropped_seqs, Some((5, 6)));
    assert_eq!(store.put(b"new", b"value"), 7);
    store.journal.close().unwrap();
    let map = store.map();
    drop(store);
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Strict)).unwrap();
    assert_eq!(store.map(), map);
}

#[test]
fn a_salvage_needs_no_manifest_that_is_whole() {
    let (memory, history) = small();
    let manifest = dir().join("MANIFEST");
    let mut bytes = memory.bytes(&manifest);
    bytes[header::LENGTH] ^= 1;
    memory.put(&manifest, bytes);
    assert!(Store::open(&memory.storage(), by_hand()).is_err());
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
}

#[test]
fn a_salvage_needs_no_manifest() {
    let (memory, history) = small();
    memory.forget(&dir().join("MANIFEST"));
    let error = Store::open(&memory.storage(), by_hand())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, OpenError::NoManifest { .. }), "{error}");
    let store = Store::open(&memory.storage(), in_mode(RecoveryMode::Salvage)).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
    drop(store);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    assert_eq!(Some(&store.map()), history.at(6));
}

#[test]
fn what_does_not_decode_is_named_and_can_be_salvaged() {
    // Of a snapshot it is named by its place in the frame.
    for (n, name, at) in [
        (0, "snap-2.db", 0),
        (1, "snap-2.db", 1),
        (4, "log-2.wal", 5),
        (5, "log-2.wal", 6),
    ] {
        let (memory, _) = small();
        let open = |settings| {
            let kept = Arc::new(super::model::Kept::default());
            *kept.undecodable.lock().unwrap() = Some(vec![n; 5]);
            Store::open_with(&dir(), &memory.storage(), settings, kept)
        };
        match open(by_hand()).map(drop) {
            Err(OpenError::Undecodable { file, seq, .. }) => {
                assert_eq!((file, seq), (dir().join(name), at));
            }
            other => panic!("{other:?}"),
        }
        let before = memory.image();
        let store = open(in_mode(RecoveryMode::Salvage)).unwrap();
        assert_eq!((store.report.undecodable, store.map().len()), (1, 5));
        let [copy] = &store.report.quarantine[..] else {
            panic!("one directory");
        };
        let copy = copy.clone();
        for (path, bytes) in before {
            let name = path.file_name().unwrap();
            assert_eq!(memory.bytes(&copy.join(name)), bytes, "{}", path.display());
        }
        drop(store);
        let store = open(in_mode(RecoveryMode::Strict)).unwrap();
        assert_eq!((store.map().len(), store.report.quarantine), (5, vec![]));
    }
}

/// The process that wrote it was killed before it was on the disk.
#[test]
fn what_does_not_decode_survives_a_power_cut_behind_the_salvage() {
    let memory = Memory::new(1);
    let lazily = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), lazily).unwrap();
    let seq = store.put(b"key", &[4; 5]);
    store.journal.wait(seq, None).unwrap();
    for at in 1.. {
        let killed = memory.fork();
        killed.fail_from(at, 1, How::Broken);
        let kept = Arc::new(super::model::Kept::default());
        *kept.undecodable.lock().unwrap() = Some(vec![4; 5]);
        let salvage = in_mode(RecoveryMode::Salvage);
        let salvaged = Store::open_with(&dir(), &killed.storage(), salvage, kept);
        let is_over = killed.operations() < at;
        killed.crash_dropping_all();
        killed.heal();
        let Ok(salvaged) = salvaged else {
            continue;
        };
        let copy = salvaged.report.quarantine[0].clone();
        drop(salvaged);
        let store = Store::open_at(&copy, &killed.storage(), by_hand()).unwrap();
        assert_eq!(
            store.map().get(&b"key"[..]),
            Some(&vec![4; 5]),
            "operation {at}"
        );
        if is_over {
            break;
        }
    }
}

/// Whatever fails on the way, what does not decode is in the directory or in its quarantine.
#[test]
fn a_salvage_that_is_cut_short_has_lost_nothing_that_does_not_decode() {
    let (original, history) = small();
    let rot = vec![4; 5];
    for at in 1.. {
        let memory = original.copy();
        memory.fail_from(at, u64::MAX, How::Broken);
        let kept = Arc::new(super::model::Kept::default());
        *kept.undecodable.lock().unwrap() = Some(rot.clone());
        let salvage = in_mode(RecoveryMode::Salvage);
        let opened = Store::open_with(&dir(), &memory.storage(), salvage, kept).map(drop);
        memory.crash_dropping_all();
        memory.heal();
        let is_over = opened.is_ok() && memory.operations() < at;
        let mut dirs: Vec<_> = memory.paths();
        dirs.retain(|path| path.file_name().is_some_and(|name| name == "MANIFEST"));
        let holds_all = |manifest: &PathBuf| {
            let dir = manifest.parent().unwrap();
            let copy = memory.copy();
            let opened = Store::open_at(dir, &copy.storage(), by_hand());
            opened.is_ok_and(|store| Some(&store.map()) == history.at(6))
        };
        assert!(dirs.iter().any(holds_all), "{at}: {dirs:?}");
        if is_over {
            assert!(at > 15, "{at} operations");
            break;
        }
    }
}
