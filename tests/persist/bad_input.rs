//! Directories that cannot be opened, and what is said about them.

use crate::{dir, files, store};
use haybox::persist::{
    Codec, CodecError, CommitError, MessagePack, OpenError, Persistence, Point, RecoveryMode,
    SyncPolicy, WhenFull, WriteError, check,
};
use haybox::{Cache, CacheBuilder, EvictionPolicy, Freshness, MockClock, OnFull, Store};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);

fn with_data() -> TempDir {
    let dir = dir();
    let store = store(&dir);
    store.insert("ada".into(), 7).unwrap().wait().unwrap();
    store.journal().close().unwrap();
    dir
}

type Opened = Result<Store<String, u64>, OpenError>;

/// Why a directory cannot be opened; it is as it was before.
#[track_caller]
fn refusal(dir: &TempDir, open: impl FnOnce(&Path) -> Opened) -> OpenError {
    let before = files(dir.path());
    let error = open(dir.path()).map(drop).expect_err("it cannot be opened");
    assert_eq!(files(dir.path()), before, "{error}");
    assert!(error.to_string().len() > 20, "{error}");
    error
}

#[test]
fn a_setting_that_no_cache_can_have() {
    let dir = dir();
    let missing = dir.path().join("new");
    let opened = Cache::<u32, u32>::builder().max_entries(0).open(&missing);
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Build(build) if build.setting() == "max_entries"));
    assert!(!missing.exists());
}

#[test]
fn a_setting_that_says_nothing_to_a_store() {
    type Set = fn(CacheBuilder<u32, u32>) -> CacheBuilder<u32, u32>;
    let cases: [(&str, &str, Set); 7] = [
        ("eviction_policy", "evicts nothing", |builder| {
            builder.eviction_policy(EvictionPolicy::Lru)
        }),
        ("freshness", "load", |builder| {
            builder.freshness(Freshness::new())
        }),
        ("spawner", "load", |builder| builder.spawner(drop)),
        ("negative_ttl", "load", |builder| {
            builder.negative_ttl(SECOND)
        }),
        ("error_ttl", "load", |builder| builder.error_ttl(SECOND)),
        ("negative_weigher", "load", |builder| {
            builder.max_weight(9).negative_weigher(|_| 1)
        }),
        ("lock_timeout", "load", |builder| {
            builder.lock_timeout(SECOND)
        }),
    ];
    for (setting, why, set) in cases {
        let dir = dir();
        let path = dir.path().join("new");
        let opened = set(Cache::builder()).open_store(&path);
        let error = opened.map(drop).unwrap_err();
        let names_it = matches!(&error, OpenError::Build(build) if build.setting() == setting);
        assert!(names_it && error.to_string().contains(why), "{error}");
        assert!(!path.exists());
        assert!(set(Cache::builder()).open(&path).is_ok(), "{setting}");
    }
}

#[test]
fn a_store_takes_every_setting_that_says_something_to_it() {
    let dir = dir();
    let time = MockClock::new();
    let builder = Cache::<u32, u32>::builder()
        .max_entries(9)
        .max_weight(9)
        .max_memory(1 << 20)
        .weigher(|_, _| 1)
        .on_full(OnFull::Evict)
        .eviction_policy(EvictionPolicy::Adaptive)
        .time_to_live(SECOND)
        .ttl_jitter(0.1)
        .time_to_idle(SECOND)
        .sweep_interval(SECOND)
        .lock_timeout(Duration::from_secs(30))
        .group_by(|key: &u32| key)
        .removal_listener(|_, _, _| ())
        .stats(false)
        .clock(time.clock());
    let store = builder.open_store(dir.path()).unwrap();
    let full = (0..10).try_for_each(|key| store.insert(key, key).map(drop));
    assert!(matches!(full, Err(WriteError::NoRoom)), "it evicts nothing");
    assert_eq!(store.len(), 9);
    store.invalidate_group(&1_u32).unwrap().wait().unwrap();
    assert_eq!((store.get(&1), store.get(&2)), (None, Some(2)));
    time.advance(SECOND);
    assert_eq!(store.get(&2), None);
}

#[test]
fn a_setting_that_no_directory_can_be_kept_with() {
    let dir = dir();
    let missing = dir.path().join("new");
    let new = Persistence::new;
    for (options, setting) in [
        (new().buffer(4_095), "buffer"),
        (new().log_limit(65_535), "log_limit"),
        (new().generations(0), "generations"),
        (new().snapshots_only(Duration::ZERO), "snapshots_only"),
        (
            new().snapshots_only(Duration::MAX).sync(SyncPolicy::Always),
            "snapshots_only",
        ),
    ] {
        let opened = Cache::<u32, u32>::builder().open_with(&missing, options);
        let error = opened.map(drop).unwrap_err();
        assert!(
            matches!(&error, OpenError::Build(build) if build.setting() == setting),
            "{error}"
        );
        assert!(!missing.exists());
    }
    let longest = new()
        .snapshots_only(Duration::MAX)
        .clock_skew(Duration::MAX);
    let longest = longest.sync(SyncPolicy::Every(Duration::MAX));
    let cache = Cache::<u32, u32>::builder()
        .open_with(&missing, longest)
        .unwrap();
    cache.insert(1, 1);
    drop(cache);
    assert_eq!(
        Cache::<u32, u32>::builder().open(&missing).unwrap().get(&1),
        Some(1)
    );
}

/// A store that is opened, written, closed, opened again and read.
fn works(options: impl Fn() -> Persistence) -> Result<(), OpenError> {
    let dir = dir();
    let open = || Cache::<u32, u32>::builder().open_store_with(dir.path(), options());
    let store = open()?;
    let all = (0..1_000).map(|key| (key, key));
    store.insert_many(all).unwrap().into_value();
    store.journal().sync().unwrap();
    store.journal().close().unwrap();
    assert_eq!(open()?.len(), 1_000);
    Ok(())
}

#[test]
fn sizes_at_the_ends_of_their_ranges() {
    type Set = fn(u64) -> Persistence;
    let cases: [(Set, [Option<&str>; 3]); 7] = [
        (
            |n| Persistence::new().buffer(n as usize),
            [Some("buffer"), Some("buffer"), None],
        ),
        (
            |n| Persistence::new().log_limit(n),
            [Some("log_limit"), Some("log_limit"), None],
        ),
        (
            |n| Persistence::new().generations(n as usize),
            [Some("generations"), None, None],
        ),
        (|n| Persistence::new().compact_at(n, 0), [None; 3]),
        (|n| Persistence::new().compact_at(100, n), [None; 3]),
        (|n| Persistence::new().threads(n as usize), [None; 3]),
        (|n| Persistence::new().schema_version(n as u32), [None; 3]),
    ];
    for (set, expected) in cases {
        for (n, expected) in [0, 1, u64::MAX].into_iter().zip(expected) {
            let setting = works(|| set(n)).map_err(|error| match error {
                OpenError::Build(error) => error.setting(),
                error => panic!("{error}"),
            });
            assert_eq!(setting.err(), expected, "{n}");
        }
    }
}

#[test]
fn times_at_the_ends_of_their_range() {
    let new = Persistence::new;
    for time in [Duration::ZERO, Duration::MAX] {
        let always = || new().sync(SyncPolicy::Always);
        works(|| new().sync(SyncPolicy::Every(time))).unwrap();
        works(|| always().when_full(WhenFull::Block(time))).unwrap();
        works(|| new().clock_skew(time)).unwrap();
        let dir = dir();
        let open = |options| Cache::<u32, u32>::builder().open_store_with(dir.path(), options);
        let store = open(always()).unwrap();
        let commit = store.insert(1, 1).unwrap();
        match commit.wait_timeout(time) {
            Ok(None) => {}
            Err(CommitError::TimedOut) if time.is_zero() => {}
            other => panic!("{other:?}"),
        }
        store.journal().close().unwrap();
        assert_eq!(open(new()).unwrap().len(), 1);
        // In a cache that waits for each write.
        let dir = self::dir();
        let options = always().when_full(WhenFull::Block(time));
        let open = |options| Cache::<u32, u32>::builder().open_with(dir.path(), options);
        let cache = open(options).unwrap();
        cache.insert(2, 2);
        drop(cache);
        assert_eq!(open(new()).unwrap().len(), 1);
    }
    let far = Duration::from_secs(1 << 40);
    // As far as the times of the system reach: those of Windows begin in 1601 and end in 30828.
    let epoch = SystemTime::UNIX_EPOCH;
    let nearer = Duration::from_secs(1 << 33);
    let past = epoch.checked_sub(far).unwrap_or(epoch - nearer);
    let future = epoch.checked_add(far).unwrap_or(epoch + nearer);
    let found_at = |time| {
        let dir = with_data();
        let options = Persistence::new().recovery(RecoveryMode::PointInTime(Point::Time(time)));
        let opened = Cache::<String, u64>::builder().open_store_with(dir.path(), options);
        opened.unwrap().get("ada")
    };
    assert_eq!((found_at(future), found_at(past)), (Some(7), None));
}

#[test]
fn a_file_in_the_place_of_the_directory() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "not a directory").unwrap();
    let opened = Cache::<u32, u32>::builder().open(&path);
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a directory");
}

#[test]
fn a_manifest_of_another_program() {
    let open = |dir: &Path, mode| {
        let options = Persistence::new().recovery(mode);
        Cache::builder().open_store_with(dir, options)
    };
    for foreign in [
        "MANIFEST-000004\n",
        "x",
        "Manifest-Version: 1.0\n".repeat(9).as_str(),
    ] {
        let dir = dir();
        fs::write(dir.path().join("MANIFEST"), foreign).unwrap();
        fs::write(dir.path().join("log-3.wal"), foreign).unwrap();
        for mode in [
            RecoveryMode::TolerateTornTail,
            RecoveryMode::Salvage,
            RecoveryMode::ReadOnly,
        ] {
            let error = refusal(&dir, |dir| open(dir, mode));
            assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains("MANIFEST is no file of haybox's"), "{said}");
        }
        let checked = check::verify(dir.path(), |_| ()).map(drop);
        assert!(matches!(checked, Err(OpenError::NotOurs { .. })));
        let saved = check::salvage(dir.path(), &dir.path().join("saved"), |_| ());
        assert!(matches!(
            saved.map(drop),
            Err(check::CheckError::Open(OpenError::NotOurs { .. }))
        ));
    }
}

/// What is left of one of ours, and one that something has written over beside the other files.
#[test]
fn a_manifest_that_was_ours_is_damaged_and_salvaged() {
    let open = |dir: &Path, mode| {
        let options = Persistence::new().recovery(mode);
        Cache::builder().open_store_with(dir, options)
    };
    let mark = b"\x89hbox\r\n\x1A";
    for (left, is_alone) in [
        (vec![], true),
        (vec![0; 500], true),
        (mark[..3].to_vec(), true),
        // As text conversions leave it.
        (b"\x09hbox\n\x1A and more".to_vec(), true),
        (b"MANIFEST-000004".to_vec(), false),
    ] {
        let dir = with_data();
        if is_alone {
            let log = fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
            let mut log = log.filter(|file| file.path().extension() == Some("wal".as_ref()));
            fs::remove_file(log.next().expect("a log").path()).unwrap();
        }
        fs::write(dir.path().join("MANIFEST"), left).unwrap();
        let error = refusal(&dir, |dir| open(dir, RecoveryMode::TolerateTornTail));
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
        if !is_alone {
            let salvaged = open(dir.path(), RecoveryMode::Salvage).unwrap();
            assert_eq!(salvaged.get("ada"), Some(7));
        }
    }
}

#[test]
fn an_empty_path() {
    for mode in [RecoveryMode::default(), RecoveryMode::ReadOnly] {
        let options = Persistence::new().recovery(mode);
        let error = Cache::<u32, u32>::builder().open_with("", options);
        let error = error.map(drop).unwrap_err();
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
        assert!(error.to_string().contains("is empty"), "{error}");
    }
}

#[test]
fn a_directory_that_is_open_already() {
    let dir = with_data();
    let first = store(&dir);
    let second = Cache::<String, u64>::builder().open_store(dir.path());
    let error = second.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(first);
    assert_eq!(store(&dir).get("ada"), Some(7));
}

/// As `MessagePack`, under another name.
#[derive(Clone, Debug)]
struct Renamed;

impl Codec for Renamed {
    fn id(&self) -> [u8; 4] {
        *b"MINE"
    }
    fn encode<T: Serialize + ?Sized>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        MessagePack.encode(value, to)
    }
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        MessagePack.decode(bytes)
    }
}

#[test]
fn fault_28_another_codec_or_schema_is_refused_and_nothing_touched() {
    let dir = with_data();
    let error = refusal(&dir, |dir| {
        Cache::builder().open_store_with(dir, Persistence::new().codec(Renamed))
    });
    assert!(matches!(error, OpenError::OtherCodec { .. }), "{error}");
    assert!(error.to_string().contains("MPCK") && error.to_string().contains("MINE"));
    let error = refusal(&dir, |dir| {
        Cache::builder().open_store_with(dir, Persistence::new().schema_version(3))
    });
    assert!(
        matches!(
            error,
            OpenError::OtherSchema {
                expected: 3,
                found: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(store(&dir).get("ada"), Some(7));
}

#[test]
fn a_value_of_another_type_is_refused_with_its_place_and_salvage_leaves_it_out() {
    let dir = dir();
    let open = || Cache::<String, String>::builder().open_store(dir.path());
    let texts = open().unwrap();
    texts
        .insert("ada".into(), "seven".into())
        .unwrap()
        .wait()
        .unwrap();
    drop(texts);
    let numbers = |mode| {
        let options = Persistence::new().recovery(mode);
        Cache::<String, u64>::builder().open_store_with(dir.path(), options)
    };
    let error = refusal(&dir, |_| numbers(RecoveryMode::TolerateTornTail));
    assert!(matches!(error, OpenError::Undecodable { .. }), "{error}");
    assert!(
        error.to_string().contains("the value does not decode"),
        "{error}"
    );
    assert_eq!(open().unwrap().get("ada").as_deref(), Some("seven"));
    let salvaged = numbers(RecoveryMode::Salvage).unwrap();
    assert_eq!(salvaged.journal().recovery().undecodable, 1);
    assert!(salvaged.is_empty());
}

/// A value with a decoder of its own that panics, as one that has been changed without care.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Careful(u32);

impl<'de> Deserialize<'de> for Careful {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(from)?;
        assert_ne!(number, 7, "seven is out of use");
        Ok(Self(number))
    }
}

#[test]
fn a_salvage_leaves_out_what_a_decoder_panics_at_as_the_error_of_opening_says() {
    let dir = dir();
    let numbers = Cache::<String, u32>::builder().open(dir.path()).unwrap();
    numbers.insert_many([6, 7, 8].map(|number| (number.to_string(), number)));
    drop(numbers);
    let open = |mode| {
        let options = Persistence::new().verify_writes(false).recovery(mode);
        Cache::<String, Careful>::builder().open_with(dir.path(), options)
    };
    let error = open(RecoveryMode::TolerateTornTail).unwrap_err();
    assert!(matches!(error, OpenError::Undecodable { .. }), "{error}");
    for says in [
        "it panics: ",
        "seven is out of use",
        "RecoveryMode::Salvage",
    ] {
        assert!(error.to_string().contains(says), "{error}");
    }
    let careful = open(RecoveryMode::Salvage).unwrap();
    let report = careful.journal().unwrap().recovery().clone();
    assert_eq!((report.undecodable, careful.len()), (1, 2));
    careful.validate();
    drop(careful);
    let careful = open(RecoveryMode::Strict).unwrap();
    assert_eq!(
        (careful.get("8"), careful.get("7")),
        (Some(Careful(8)), None)
    );
    let kept = Cache::<String, u32>::builder().open(&report.quarantine[0]);
    assert_eq!(kept.unwrap().get("7"), Some(7));
}

#[test]
fn a_salvage_sticks_and_keeps_what_did_not_decode() {
    for (has_snapshot, is_bounded) in [(false, false), (false, true), (true, false), (true, true)] {
        let dir = dir();
        let texts = Cache::<u32, String>::builder().open(dir.path()).unwrap();
        texts.insert_many((0..5).map(|key| (key, "text".to_string())));
        if has_snapshot {
            // What is not written yet would be in the new log, too.
            texts.journal().unwrap().sync().unwrap();
            texts.journal().unwrap().compact().unwrap();
        }
        drop(texts);
        let numbers = |mode| {
            let builder = Cache::<u32, u64>::builder();
            let builder = match is_bounded {
                true => builder.max_entries(100),
                false => builder,
            };
            builder.open_with(dir.path(), Persistence::new().recovery(mode))
        };
        let salvaged = numbers(RecoveryMode::Salvage).unwrap();
        let report = salvaged.journal().unwrap().recovery().clone();
        assert_eq!((report.undecodable, salvaged.len()), (5, 0));
        salvaged.insert(7, 7);
        drop(salvaged);
        for mode in [RecoveryMode::TolerateTornTail, RecoveryMode::Salvage] {
            let numbers = numbers(mode).unwrap();
            assert_eq!((numbers.get(&7), numbers.len()), (Some(7), 1));
            let journal = numbers.journal().unwrap();
            assert!(journal.recovery().quarantine.is_empty());
        }
        let copy = &report.quarantine[0];
        assert!(copy.starts_with(dir.path()), "{}", copy.display());
        let texts = Cache::<u32, String>::builder().open(copy).unwrap();
        assert_eq!(texts.iter().filter(|(_, text)| text == "text").count(), 5);
    }
}

#[test]
fn old_values_are_migrated_once() {
    #[derive(Deserialize)]
    struct Old {
        items: Vec<u32>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        items: Vec<(u32, u16)>,
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct CartV1 {
        items: Vec<u32>,
    }
    let dir = dir();
    let first = Persistence::new().schema_version(1);
    let store = Cache::<u8, CartV1>::builder()
        .open_store_with(dir.path(), first)
        .unwrap();
    for key in 0..4 {
        let cart = CartV1 {
            items: vec![u32::from(key); 2],
        };
        store.insert(key, cart).unwrap().wait().unwrap();
    }
    store.remove(&3).unwrap().wait().unwrap();
    drop(store);
    let second = || {
        Persistence::new()
            .schema_version(2)
            .migrate(|old| match old.schema_version() {
                1 if old.key::<u8>()? == 2 => Ok(old.gone()),
                1 => {
                    let Old { items } = old.value()?;
                    let items = items.into_iter().map(|item| (item, 1)).collect();
                    old.with_value(&Cart { items })
                }
                _ => Err(old.unknown()),
            })
    };
    let open = || Cache::<u8, Cart>::builder().open_store_with(dir.path(), second());
    let cart = |item| {
        Some(Cart {
            items: vec![(item, 1); 2],
        })
    };
    let store = open().unwrap();
    assert_eq!(
        store.get_many([&0, &1, &2, &3]),
        [cart(0), cart(1), None, None]
    );
    assert_eq!(store.journal().recovery().migrated_from, [1]);
    drop(store);
    let store = open().unwrap();
    assert!(
        store.journal().recovery().migrated_from.is_empty(),
        "the files are of today"
    );
    assert_eq!(store.len(), 2);
}

/// Whatever was kept before, keys of another type and removals of them among it.
#[test]
fn a_cache_whose_types_have_changed_starts_empty() {
    for has_snapshot in [false, true] {
        let dir = dir();
        let old = Cache::<String, u32>::builder().open(dir.path()).unwrap();
        old.insert_many((0..5).map(|key| (format!("key {key}"), key)));
        old.expire("key 3", std::time::Duration::from_secs(1_000));
        if has_snapshot {
            old.journal().unwrap().compact().unwrap();
        }
        old.remove("key 4");
        drop(old);
        let open = |version| {
            let options = Persistence::new().schema_version(version);
            let options = options.migrate(|old| Ok(old.gone()));
            Cache::<u32, String>::builder().open_with(dir.path(), options)
        };
        let new = open(1).unwrap();
        assert_eq!(new.journal().unwrap().recovery().migrated_from, [0]);
        assert!(new.is_empty());
        new.insert(1, "new".into());
        drop(new);
        let new = open(1).unwrap();
        assert_eq!((new.get(&1).as_deref(), new.len()), (Some("new"), 1));
        drop(new);
        assert!(open(2).unwrap().is_empty());
        // From then on no migration is needed.
        let options = Persistence::new().schema_version(2);
        let same = Cache::<u32, String>::builder().open_with(dir.path(), options);
        assert!(same.unwrap().is_empty());
    }
}

#[test]
fn read_only_reads_beside_others_and_refuses_writes() {
    let dir = with_data();
    let before = files(dir.path());
    let open = || {
        let options = Persistence::new().recovery(RecoveryMode::ReadOnly);
        Cache::<String, u64>::builder()
            .open_store_with(dir.path(), options)
            .unwrap()
    };
    let (one, other) = (open(), open());
    assert_eq!((one.get("ada"), other.get("ada")), (Some(7), Some(7)));
    let refused = one.insert("bob".into(), 1).map(drop);
    assert!(matches!(refused, Err(WriteError::ReadOnly)));
    let read = one.transaction(&["ada".into()], |tx| Ok::<_, ()>(tx.get("ada").copied()));
    assert_eq!(read.unwrap().wait().unwrap(), Some(7));
    assert_eq!(one.len(), 1);
    drop((one, other));
    assert_eq!(files(dir.path()), before);
}

#[test]
#[cfg(unix)]
fn others_than_the_owner_read_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let base = dir();
    let (dir, copy) = (base.path().join("store"), base.path().join("copy"));
    let store = Cache::<String, u64>::builder().open_store(&dir).unwrap();
    store.insert("ada".into(), 7).unwrap().wait().unwrap();
    store.journal().compact().unwrap();
    store.journal().backup(&copy).unwrap();
    let mut seen = 0;
    for dir in [&dir, &copy] {
        for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} files");
}

#[test]
#[cfg(unix)]
fn a_directory_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir();
    let inner = dir.path().join("sealed");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(inner.join("probe"), "").is_ok() {
        // Root may do everything.
        return;
    }
    let opened = Cache::<u32, u32>::builder().open(&inner);
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Disk(_)), "{error}");
    assert!(error.to_string().contains("sealed"), "{error}");
}
