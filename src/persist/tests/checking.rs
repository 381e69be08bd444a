//! The functions for tools, on real files.

use super::memory::Memory;
use super::model::{CODEC, History, Map, Store, Write, by_hand};
use super::record;
use crate::persist::check::{self, CheckError, FileKind};
use crate::persist::effect::{Effect, Effects, WallLife};
use crate::persist::error::{CompactError, Damage, OpenError};
use crate::persist::report::Progress;
use crate::persist::settings::{Point, RecoveryMode, Settings};
use crate::persist::storage::{Disk, Storage};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

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
    let told = Mutex::new(Vec::new());
    let seen = check::inspect(temporary.path(), |at| told.lock().unwrap().push(at)).unwrap();
    assert!(seen.is_whole());
    let manifest = seen.manifest.unwrap();
    assert_eq!((manifest.durable_seq, &*manifest.logs), (21, &[2][..]));
    for file in &seen.files {
        let header = (file.store, file.codec, file.schema);
        assert_eq!(header, (Some(manifest.store), Some(CODEC), Some(0)));
        assert!(file.is_listed && file.times.is_some_and(|(first, last)| first <= last));
    }
    let [snapshot, log] = &*seen.files else {
        panic!("two files");
    };
    assert_eq!(
        (snapshot.kind, snapshot.puts, snapshot.seqs),
        (FileKind::Snapshot, 10, None)
    );
    assert_eq!((log.kind, log.puts, log.deletes), (FileKind::Log, 10, 1));
    assert_eq!((log.seqs, log.durable_seq), (Some((11, 21)), 21));
    // One frame for each write, and one that says that all of them are on the disk.
    assert_eq!((snapshot.frames, log.frames), (3, 12));
    let (told, total) = (told.into_inner().unwrap(), snapshot.bytes + log.bytes);
    assert_eq!(told.len() as u64, snapshot.frames + log.frames + 2);
    assert!(told.is_sorted_by_key(|at| at.bytes) && told.iter().all(|at| at.total == total));
    assert_eq!(
        (told[3].bytes, told.last().unwrap().bytes),
        (snapshot.bytes, total)
    );
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
    assert_eq!(seen.files[1].damages.len(), 1);
    let damage = &seen.files[1].damages[0];
    assert_eq!(
        (damage.offset, damage.next_seq, damage.durable_seq),
        (64, 0, 0)
    );
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
    drop(store);
    for other in [&saved, &temporary.path().join("notes")] {
        fs::create_dir_all(other).unwrap();
        fs::write(other.join("notes.txt"), "of somebody").unwrap();
        let before = files(other);
        let refused = check::salvage(&dir, other, |_| panic!("nothing is read")).unwrap_err();
        let is_meant = matches!(refused, CheckError::Write(CompactError::NotEmpty { .. }));
        assert!(is_meant && files(other) == before, "{refused}");
    }
    let store = Store::open_at(&saved, &disk(), by_hand()).unwrap();
    assert_eq!(store.map(), map);
    assert!(matches!(
        check::verify(&saved, |_| ()),
        Err(OpenError::Locked { .. })
    ));
}

/// What is seen of each file, and the places where it is damaged.
fn seen_in(dir: &Path) -> Vec<(String, bool, Vec<String>)> {
    let seen = check::inspect(dir, |_| ()).unwrap();
    let files = seen.files.into_iter().map(|file| {
        let name = file.path.file_name().unwrap().to_str().unwrap().to_owned();
        let damages = file.damages.iter();
        let tell = |at: &Damage| {
            let numbers = (at.next_seq, at.durable_seq);
            format!("{}, not {} {numbers:?}", at.found, at.expected)
        };
        let damages = damages.map(tell);
        (name, file.is_listed, damages.collect())
    });
    files.collect()
}

#[test]
fn every_place_of_damage_is_told_once() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, other) = (temporary.path().join("one"), temporary.path().join("other"));
    // A snapshot of several frames, and every kind of effect.
    let store = Store::open_at(&dir, &disk(), by_hand()).unwrap();
    for n in 0..8u8 {
        store.put(&[n], &[n; 200_000]);
    }
    store.journal.sync().unwrap();
    store.journal.compact().unwrap();
    let mut effects = Effects::new();
    let life = WallLife::default();
    effects.push(Effect::Deadline { key: &[1], life });
    effects.push(Effect::Label { label: 1, epoch: 1 });
    for _ in 0..4 {
        let seq = store.journal.append(&effects);
        store.journal.wait(seq, None).unwrap();
    }
    store.journal.close().unwrap();
    let sound = check::inspect(&dir, |_| ()).unwrap();
    let (snapshot, log) = (&sound.files[0], &sound.files[1]);
    assert_eq!((snapshot.frames, log.deadlines, log.labels), (10, 4, 4));

    let edit = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = dir.join(name);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let seen = seen_in(&dir);
        fs::write(&path, sound).unwrap();
        let (_, _, damages) = seen.into_iter().find(|(at, ..)| at == name).unwrap();
        damages
    };
    let rot = |numbers| {
        format!("another checksum, not a payload with the checksum in its header {numbers:?}")
    };
    let rotten = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    // The second frame of the snapshot: the first says how many entries come.
    assert_eq!(
        edit("snap-2.db", &rotten(10_000)),
        [rot((0, 0)), "number 2, not number 1 (0, 0)".into()]
    );
    let size = fs::metadata(dir.join("log-2.wal")).unwrap().len() as usize;
    // The last is a mark, of a header alone.
    let frame = (size - 64 - 48) / 4;
    assert_eq!(
        edit("log-2.wal", &rotten(64 + 2 * frame - 1)),
        [rot((11, 8)), "number 13, not number 11 (11, 8)".into()]
    );
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    assert_eq!(
        edit("snap-2.db", &cut)[1..],
        ["the end of the file, not the end of a snapshot (0, 0)"]
    );
    assert_eq!(edit("log-2.wal", &cut).len(), 1);

    // Files that are not what or whose they are said to be.
    fs::copy(dir.join("snap-2.db"), dir.join("snap-1.db")).unwrap();
    fs::write(dir.join("snap-9.db.tmp"), "unfinished").unwrap();
    drop(Store::open_at(&other, &disk(), by_hand()).unwrap());
    fs::copy(other.join("log-1.wal"), dir.join("log-1.wal")).unwrap();
    fs::remove_file(dir.join("log-2.wal")).unwrap();
    let mut seen = seen_in(&dir);
    let [named, foreign, missing] = [0, 1, 3].map(|at| std::mem::take(&mut seen[at].2).concat());
    assert_eq!(
        named,
        "Snapshot 2, not Snapshot 1, as the name of the file says (0, 0)"
    );
    assert!(
        foreign.contains("belongs to store") && foreign.contains("not a file of store"),
        "{foreign}"
    );
    assert!(missing.contains("not a file of this store"), "{missing}");
    let names = [
        ("snap-1.db", false),
        ("log-1.wal", false),
        ("snap-2.db", true),
        ("log-2.wal", true),
    ];
    assert_eq!(
        seen,
        names.map(|(name, is_listed)| (name.into(), is_listed, Vec::new()))
    );
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

/// Which are there to be gone back to.
#[test]
fn a_store_that_is_compacted_keeps_as_many_generations_as_it_had() {
    for (snapshots, kept) in [(0, 1), (1, 2), (2, 3), (3, 3), (5, 3)] {
        let temporary = tempfile::tempdir().unwrap();
        let settings = || Settings {
            generations: 3,
            ..by_hand()
        };
        let store = Store::open_at(temporary.path(), &disk(), settings()).unwrap();
        for n in 0..=snapshots {
            store.put(b"key", &[n]);
            if n < snapshots {
                store.journal.compact().unwrap();
            }
        }
        drop(store);
        check::compact(temporary.path(), |_| ()).unwrap();
        let seen = check::inspect(temporary.path(), |_| ()).unwrap();
        assert_eq!(seen.manifest.unwrap().snapshots.len(), kept, "{snapshots}");
        let oldest = u64::from(snapshots) + 2 - kept as u64;
        let back = Settings {
            mode: RecoveryMode::PointInTime(Point::Seq(oldest)),
            ..settings()
        };
        let store = Store::open_at(temporary.path(), &disk(), back).unwrap();
        assert_eq!(store.map()[&b"key"[..]], [oldest as u8 - 1]);
    }
}

/// A manifest that cannot be read, and files of several versions.
#[test]
fn what_the_store_itself_would_refuse_is_verified_and_saved() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, saved) = (
        temporary.path().join("store"),
        temporary.path().join("saved"),
    );
    let map = store_in(&dir);
    let told = Arc::new(AtomicU64::new(0));
    let tell = || {
        let told = Arc::clone(&told);
        move |at: Progress| told.store(at.bytes, SeqCst)
    };
    let report = check::verify(&dir, tell()).unwrap();
    assert_eq!(told.swap(0, SeqCst), report.bytes);
    let manifest = dir.join("MANIFEST");
    let sound = fs::read(&manifest).unwrap();
    let mut bytes = sound.clone();
    bytes[70] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    fs::write(dir.join("snap-9.db.tmp"), "unfinished").unwrap();
    let refused = check::verify(&dir, |_| ()).map(drop);
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
    let saving = check::salvage(&dir, &saved, tell()).unwrap();
    assert_eq!(told.swap(0, SeqCst), saving.recovery.bytes);
    let store = Store::open_at(&saved, &disk(), by_hand()).unwrap();
    assert_eq!(store.map(), map);
    drop(store);
    fs::remove_file(&manifest).unwrap();
    let refused = check::compact(&dir, |_| ()).map(drop);
    assert!(matches!(
        refused,
        Err(CheckError::Open(OpenError::NoManifest { .. }))
    ));
    fs::write(&manifest, sound).unwrap();

    // A log of a newer schema behind a snapshot.
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"key", b"value");
    store.journal.compact().unwrap();
    drop(store);
    let half = temporary.path().join("half");
    fs::create_dir(&half).unwrap();
    for (path, mut bytes) in memory.image() {
        if path.ends_with("log-2.wal") {
            bytes[44] = 7;
            let checksum = crc32c::crc32c(&bytes[..60]).to_le_bytes();
            bytes[60..64].copy_from_slice(&checksum);
        }
        fs::write(half.join(path.file_name().unwrap()), bytes).unwrap();
    }
    let seen = check::inspect(&half, |_| ()).unwrap();
    let schemas: Vec<_> = seen.files.iter().filter_map(|file| file.schema).collect();
    assert_eq!((seen.manifest.unwrap().schema, schemas), (0, vec![0, 7]));
    let report = check::verify(&half, |_| ()).unwrap();
    assert_eq!((report.last_seq, report.migrated_from), (1, vec![7]));
    let refused = check::compact(&half, |_| ()).map(drop);
    let is_meant = matches!(
        refused,
        Err(CheckError::Open(OpenError::OtherSchema { found: 7, .. }))
    );
    assert!(is_meant, "only the store itself knows how: {refused:?}");
    let again = temporary.path().join("again");
    assert_eq!(check::salvage(&half, &again, |_| ()).unwrap().entries, 1);
    // What was saved is of the schema that the manifest had, and stays so.
    check::compact(&again, tell()).unwrap();
    assert!(told.load(SeqCst) > 0);
    let store = Store::open_at(&again, &disk(), by_hand()).unwrap();
    assert_eq!(store.map()[&b"key"[..]], b"value");
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
