//! What a directory is kept for, and who may open it.

use crate::{dir, files};
use haybox::Cache;
use haybox::counter::Counters;
use haybox::persist::{DirKind, OpenError, Persistence, Point, RecoveryMode, check};
use haybox::queue::Queue;
#[cfg(feature = "session")]
use haybox::session::Sessions;
use std::fs;
use std::path::Path;
use std::time::Duration;

type Open = fn(&Path, Persistence) -> Result<(), OpenError>;

/// Every kind, and the call that opens a directory as that.
const WAYS: &[(DirKind, Open)] = &[
    (DirKind::Cache, |dir, options| {
        let builder = Cache::<u64, i64>::builder().max_entries(10);
        builder.open_with(dir, options).map(drop)
    }),
    (DirKind::Store, |dir, options| {
        let builder = Cache::<u64, i64>::builder();
        builder.open_store_with(dir, options).map(drop)
    }),
    (DirKind::Counters, |dir, options| {
        let builder = Counters::<u64>::builder();
        builder.open_with(dir, options).map(drop)
    }),
    (DirKind::Queue, |dir, options| {
        let builder = Queue::<i64>::builder(10);
        builder.open_with(dir, options).map(drop)
    }),
    #[cfg(feature = "session")]
    (DirKind::Sessions, |dir, options| {
        let builder = Sessions::builder();
        let sessions = builder.build_with(|cache| cache.open_with(dir, options));
        sessions.map(drop)
    }),
];

fn open_as(kind: DirKind, dir: &Path, options: Persistence) -> Result<(), OpenError> {
    let way = WAYS.iter().find(|(of, _)| *of == kind);
    way.expect("a way").1(dir, options)
}

/// What the manifest says.
fn kind_of(dir: &Path) -> Option<DirKind> {
    let inspection = check::inspect(dir, |_| ()).unwrap();
    inspection.manifest.expect("a manifest").dir_kind
}

/// Has every file say that it is of a kind, by its number: with 0 as files of before did.
fn record(dir: &Path, code: u16) {
    for (name, mut bytes) in files(dir) {
        if bytes.len() >= 64 {
            bytes[52..54].copy_from_slice(&code.to_le_bytes());
            let checksum = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

/// A store of so many entries, all of them on the disk.
fn a_store_of(dir: &Path, entries: u64) {
    let store = Cache::<u64, i64>::builder().open_store(dir).unwrap();
    let all = (0..entries).map(|key| (key, 7));
    store.insert_many(all).unwrap().wait().unwrap();
    store.journal().close().unwrap();
}

fn entries_of(dir: &Path) -> usize {
    let store = Cache::<u64, i64>::builder().open_store(dir).unwrap();
    store.len()
}

/// That a directory is not opened as a kind, and is left as it is.
#[track_caller]
fn is_refused(dir: &Path, asked: DirKind, options: Persistence) -> OpenError {
    let before = files(dir);
    let error = open_as(asked, dir, options).unwrap_err();
    let is_other = matches!(error, OpenError::OtherKind { expected, .. } if expected == asked);
    assert!(is_other, "{error}");
    assert_eq!(files(dir), before, "{error}");
    error
}

#[test]
fn what_is_kept_for_one_thing_is_not_opened_as_another() {
    let pairs = WAYS
        .iter()
        .flat_map(|kept| WAYS.iter().map(move |asked| (kept, asked.0)));
    for ((kept, open), asked) in pairs {
        let dir = dir();
        let dir = dir.path();
        open(dir, Persistence::new()).unwrap();
        assert_eq!(kind_of(dir), Some(*kept));
        fs::remove_file(dir.join("LOCK")).unwrap();
        if *kept == asked || (*kept, asked) == (DirKind::Cache, DirKind::Store) {
            open_as(asked, dir, Persistence::new()).unwrap();
            assert_eq!(kind_of(dir), Some(asked));
            continue;
        }
        let error = is_refused(dir, asked, Persistence::new());
        let said = error.to_string();
        let both = format!("is the directory of {kept}, and was to be opened as that of {asked}");
        assert!(said.contains(&both), "{said}");
        assert!(said.contains("open it with"), "{said}");
        open(dir, Persistence::new()).unwrap();
    }
}

#[test]
fn a_store_loses_nothing_to_who_takes_it_for_a_cache_or_for_counters() {
    let dir = dir();
    let dir = dir.path();
    a_store_of(dir, 1_000);
    for mode in [
        RecoveryMode::TolerateTornTail,
        RecoveryMode::Strict,
        RecoveryMode::Salvage,
        RecoveryMode::ReadOnly,
        RecoveryMode::PointInTime(Point::Seq(500)),
    ] {
        for asked in [DirKind::Cache, DirKind::Counters, DirKind::Queue] {
            is_refused(dir, asked, Persistence::new().recovery(mode));
        }
    }
    assert_eq!(entries_of(dir), 1_000);
}

/// Who has the wrong path is told so also while the directory is in use.
#[test]
fn a_directory_of_another_kind_is_not_locked_to_be_refused() {
    let dir = dir();
    let store = Cache::<u64, i64>::builder().open_store(dir.path()).unwrap();
    is_refused(dir.path(), DirKind::Cache, Persistence::new());
    assert!(store.insert(1, 1).unwrap().wait().is_ok());
}

#[test]
fn without_a_log_the_snapshots_say_it() {
    let dir = dir();
    let dir = dir.path();
    let options = || Persistence::new().snapshots_only(Duration::from_secs(3_600));
    let cache = Cache::<u64, i64>::builder().open_with(dir, options());
    cache.unwrap().insert_many((0..100).map(|key| (key, 7)));
    open_as(DirKind::Store, dir, options()).unwrap();
    fs::remove_file(dir.join("MANIFEST")).unwrap();
    is_refused(
        dir,
        DirKind::Cache,
        options().recovery(RecoveryMode::Salvage),
    );
}

#[test]
fn a_cache_s_directory_becomes_a_store_s_with_all_that_is_in_it() {
    for is_logged in [true, false] {
        let dir = dir();
        let dir = dir.path();
        let options = || match is_logged {
            true => Persistence::new(),
            false => Persistence::new().snapshots_only(Duration::from_secs(3_600)),
        };
        let cache = Cache::<u64, i64>::builder().open_with(dir, options());
        cache.unwrap().insert_many((0..100).map(|key| (key, 7)));
        let read_only = Persistence::new().recovery(RecoveryMode::ReadOnly);
        open_as(DirKind::Store, dir, read_only).unwrap();
        assert_eq!(kind_of(dir), Some(DirKind::Cache), "nothing is written");
        open_as(DirKind::Store, dir, options()).unwrap();
        is_refused(dir, DirKind::Cache, options());
        assert_eq!(entries_of(dir), 100);
    }
}

#[test]
fn a_directory_of_which_nothing_is_recorded_is_whose_that_opens_it() {
    for (kind, open) in WAYS.iter().copied() {
        let dir = dir();
        let dir = dir.path();
        open(dir, Persistence::new()).unwrap();
        record(dir, 0);
        assert_eq!(kind_of(dir), None);
        open(dir, Persistence::new().recovery(RecoveryMode::ReadOnly)).unwrap();
        assert_eq!(kind_of(dir), None, "nothing is written");
        let migration = Persistence::new().schema_version(1);
        let migration = migration.migrate(|old| Ok(old.gone()));
        for options in [Persistence::new(), migration] {
            record(dir, 0);
            open(dir, options).unwrap();
            assert_eq!(kind_of(dir), Some(kind));
        }
    }
}

#[test]
fn what_a_newer_version_keeps_is_left_to_it_and_shown_and_compacted_as_it_is() {
    let dir = dir();
    let dir = dir.path();
    a_store_of(dir, 10);
    record(dir, 9);
    let error = is_refused(dir, DirKind::Store, Persistence::new());
    assert!(error.to_string().contains("with a newer version of haybox"));
    check::verify(dir, |_| ()).unwrap();
    check::compact(dir, |_| ()).unwrap();
    let inspection = check::inspect(dir, |_| ()).unwrap();
    let of_files = inspection.files.iter().map(|file| file.dir_kind);
    let kinds: Vec<_> = of_files.chain([kind_of(dir)]).collect();
    assert_eq!(kinds, [Some(DirKind::Unknown(9)); 3]);
}

#[test]
fn copies_and_what_is_left_of_a_directory_are_of_its_kind() {
    let dir = dir();
    let (dir, backup, saved) = (
        dir.path().join("store"),
        dir.path().join("backup"),
        dir.path().join("saved"),
    );
    let options = || Persistence::new().generations(3);
    let store = Cache::<u64, i64>::builder().open_store_with(&dir, options());
    let store = store.unwrap();
    store
        .insert_many((0..10).map(|key| (key, 7)))
        .unwrap()
        .wait()
        .unwrap();
    store.journal().compact().unwrap();
    store.insert(10, 7).unwrap().wait().unwrap();
    store.journal().backup(&backup).unwrap();
    drop(store);
    check::salvage(&dir, &saved, |_| ()).unwrap();
    let back = options().recovery(RecoveryMode::PointInTime(Point::Seq(10)));
    let earlier = Cache::<u64, i64>::builder().open_store_with(&dir, back);
    let earlier = earlier.unwrap();
    assert_eq!(earlier.len(), 10);
    let aside = earlier.journal().recovery().quarantine[0].clone();
    drop(earlier);
    for (copy, entries) in [(&dir, 10), (&backup, 11), (&saved, 11), (&aside, 11)] {
        is_refused(copy, DirKind::Cache, Persistence::new());
        assert_eq!(entries_of(copy), entries);
    }
}

#[test]
fn without_a_manifest_the_newest_file_that_says_it_counts() {
    let salvage = || Persistence::new().recovery(RecoveryMode::Salvage);
    for is_recorded in [true, false] {
        let (dir, saved) = (dir(), dir());
        let (dir, saved) = (dir.path(), saved.path());
        // The snapshot is that of a cache.
        let cache = Cache::<u64, i64>::builder().open(dir).unwrap();
        cache.insert_many((0..100).map(|key| (key, 7)));
        cache.journal().unwrap().compact().unwrap();
        drop(cache);
        open_as(DirKind::Store, dir, Persistence::new()).unwrap();
        if !is_recorded {
            record(dir, 0);
        }
        fs::remove_file(dir.join("MANIFEST")).unwrap();
        check::salvage(dir, saved, |_| ()).unwrap();
        if is_recorded {
            is_refused(dir, DirKind::Cache, salvage());
            is_refused(saved, DirKind::Cache, Persistence::new());
        } else {
            assert_eq!(kind_of(saved), None);
        }
        let store = Cache::<u64, i64>::builder().open_store_with(dir, salvage());
        assert_eq!(store.unwrap().len(), 100);
        assert_eq!(kind_of(dir), Some(DirKind::Store));
        is_refused(dir, DirKind::Cache, salvage());
    }
}
