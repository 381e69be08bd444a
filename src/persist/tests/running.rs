//! The journal while it runs: threads, waiting, bounds, dumps.

use super::memory::{How, Memory, Operation};
use super::model::{CODEC, History, Store, Write, append, by_hand, dir, effects};
use super::record;
use crate::MockClock;
use crate::persist::effect::{Effect, Effects};
use crate::persist::error::{CommitError, CompactError, OpenError, WriteError};
use crate::persist::frame::{HEADER, LARGEST, PAYLOAD};
use crate::persist::header;
use crate::persist::journal::Place;
use crate::persist::report::HealthState;
use crate::persist::settings::{Point, RecoveryMode, Settings, SyncPolicy, WhenFull};
use crate::persist::storage::{Disk, Storage};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// With threads, and so small that they have to work.
fn lively(sync: SyncPolicy) -> Settings {
    Settings {
        sync,
        buffer: 4_000,
        growth_bytes: 20_000,
        ..Settings::new(CODEC)
    }
}

#[test]
fn many_threads_write_and_all_of_it_comes_back() {
    for sync in [
        SyncPolicy::Always,
        SyncPolicy::Every(Duration::from_millis(5)),
        SyncPolicy::Os,
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Storage> = Arc::new(Disk);
        let store = Store::open_at(temporary.path(), &disk, lively(sync)).unwrap();
        thread::scope(|scope| {
            for thread in 0..4u8 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..100u8 {
                        let key = vec![thread, n % 50];
                        let seq = store.write(&[Write::Put(key, vec![n; 300])]).unwrap();
                        if n % 10 == 0 {
                            store.journal.wait(seq, None).unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(store.journal.last_seq(), 400);
        assert_eq!(store.journal.sync().unwrap(), 400);
        let report = store.journal.close().unwrap();
        assert_eq!((report.last_seq, report.durable_seq), (400, 400));
        let again = Store::open_at(temporary.path(), &disk, lively(sync)).unwrap();
        assert_eq!(again.map(), store.map());
        assert_eq!(again.map().len(), 200);
        assert_eq!(again.report.last_seq, 400);
    }
}

#[test]
fn a_compaction_is_due_when_the_log_has_grown_and_what_fails_is_tried_later() {
    let memory = Memory::new(1);
    let settings = Settings {
        growth_bytes: 1_000,
        growth_percent: 200,
        log_limit: 100_000,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let due = || store.journal.time_to_compaction();
    let grow = |bytes: usize| {
        let value = vec![1; bytes];
        let seq = store.put(b"key", &value);
        store.journal.wait(seq, None).unwrap();
    };
    grow(800);
    assert_eq!(due(), None);
    grow(200);
    assert_eq!(due(), Some(Duration::ZERO));
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Full);
    (0..10).for_each(|_| drop(store.journal.compact().unwrap_err()));
    assert!(due() > Some(Duration::from_secs(200)), "{:?}", due());
    memory.heal();
    grow(10_000);
    store.journal.compact().unwrap();
    assert_eq!(due(), None);
    // Now by twice the size of the snapshot, and at half of what is allowed.
    grow(15_000);
    assert_eq!(due(), None);
    grow(16_000);
    assert_eq!(due(), Some(Duration::ZERO));
    grow(40_000);
    store.journal.compact().unwrap();
    grow(45_000);
    assert_eq!(due(), None);
    grow(5_000);
    assert_eq!(due(), Some(Duration::ZERO));
}

#[test]
fn a_dump_is_due_in_its_time_if_there_is_something_to_dump() {
    let memory = Memory::new(1);
    let open = |dump_every| {
        let settings = Settings {
            log: false,
            dump_every,
            ..by_hand()
        };
        Store::open(&memory.storage(), settings).unwrap()
    };
    let due = |store: &Store| store.journal.time_to_compaction();
    let hour = Duration::from_secs(3_600);
    let store = open(Some(hour));
    assert_eq!(due(&store), Some(hour), "there is nothing yet");
    store.put(b"key", b"value");
    let left = due(&store).unwrap();
    assert!(left < hour && left > hour / 2, "{left:?}");
    store.journal.compact().unwrap();
    assert_eq!(due(&store), Some(hour));
    drop(store);
    let store = open(Some(Duration::from_nanos(1)));
    store.put(b"key", b"value");
    assert_eq!(due(&store), Some(Duration::ZERO));
    memory.fail_next(u64::MAX, Some(Operation::Create), How::Full);
    (0..10).for_each(|_| drop(store.journal.compact().unwrap_err()));
    assert!(due(&store) > Some(Duration::from_secs(200)));
    memory.heal();
    drop(store);
    let store = open(None);
    store.put(b"key", b"value");
    assert_eq!(due(&store), None, "at the end");
}

#[test]
fn the_log_is_compacted_when_it_has_grown() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), lively(SyncPolicy::Os)).unwrap();
    let start = Instant::now();
    while store.journal.health().compactions < 2 {
        store.put(b"key", &[1; 1_000]);
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{:?}",
            store.journal.health()
        );
    }
    store.journal.close().unwrap();
    let size: usize = memory.image().values().map(Vec::len).sum();
    assert!(size < 200_000, "{size}");
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    assert_eq!(store.map().len(), 1);
}

#[test]
fn a_log_in_which_nothing_is_new_is_not_compacted_however_small_the_threshold() {
    let memory = Memory::new(1);
    let settings = Settings {
        growth_percent: 0,
        growth_bytes: 0,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings.clone()).unwrap();
    assert_eq!(store.journal.time_to_compaction(), None);
    for _ in 0..2 {
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
        assert!(store.journal.time_to_compaction().is_some());
        store.journal.compact().unwrap();
        assert_eq!(store.journal.time_to_compaction(), None);
    }
    store.journal.close().unwrap();
    let store = Store::open(&memory.storage(), settings).unwrap();
    assert_eq!(store.journal.time_to_compaction(), None);
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_task_is_woken_when_its_write_is_durable() {
    let memory = Memory::new(1);
    let settings = Settings {
        sync: SyncPolicy::Always,
        ..Settings::new(CODEC)
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let stall = memory.stall();
    let seq = store.put(b"key", b"value");
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut place = Place::default();
    let mut poll = || store.journal.poll_wait(seq, &mut context, &mut place);
    assert!(poll().is_pending());
    assert!(poll().is_pending());
    let late = store.journal.wait(seq, Some(Instant::now()));
    assert!(matches!(late, Err(CommitError::TimedOut)));
    drop(stall);
    store.journal.wait(seq, None).unwrap();
    assert!(matches!(poll(), Poll::Ready(Ok(()))));
    store.journal.close().unwrap();
    assert_eq!(count.0.load(SeqCst), 1);
    assert!(matches!(
        store.journal.wait(seq + 1, None),
        Err(CommitError::Closed)
    ));
}

#[test]
fn one_sync_serves_all_who_wait() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    let mut history = History::new();
    // Of a log that was compacted away nothing is synced any more.
    record(&store, &mut history, &[Write::Put(vec![0], vec![0])]);
    store.journal.compact().unwrap();
    for n in 1..50u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
    }
    let health = store.journal.health();
    assert_eq!((health.written_seq, health.durable_seq), (1, 1));
    let before = memory.operations();
    for seq in (1..=50).rev() {
        store.journal.wait(seq, None).unwrap();
    }
    assert_eq!(memory.operations() - before, 2, "a write and a sync");
}

#[test]
fn it_is_known_from_the_opening_on_when_all_was_brought_to_the_disk() {
    for log in [true, false] {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let open = |mode| {
            let settings = Settings {
                log,
                mode,
                clock: time.clock(),
                ..by_hand()
            };
            Store::open(&memory.storage(), settings).unwrap()
        };
        let now = || {
            time.advance(Duration::from_secs(10));
            Some(time.clock().system_time())
        };
        let opened = now();
        let store = open(RecoveryMode::default());
        let last = || store.journal.health().last_sync;
        assert_eq!(last(), opened, "nothing is not on the disk");
        now();
        store.put(b"a", b"1");
        assert_eq!(last(), opened, "what came since is not");
        let synced = now();
        store.journal.sync().unwrap();
        assert_eq!(last(), synced);
        let compacted = now();
        store.journal.compact().unwrap();
        assert_eq!(last(), compacted);
        now();
        store.journal.sync().unwrap();
        assert_eq!(last(), compacted, "there is nothing to sync");
        store.put(b"a", b"2");
        store.journal.close().unwrap();
        let opened = now();
        let store = open(RecoveryMode::default());
        let health = store.journal.health();
        assert_eq!((health.last_seq, health.durable_seq), (2, 2));
        assert_eq!(health.last_sync, opened);
        store.journal.close().unwrap();
        let reader = open(RecoveryMode::ReadOnly);
        assert_eq!(reader.journal.health().last_sync, None);
    }
}

#[test]
fn room_is_waited_for_and_found() {
    let memory = Memory::new(1);
    let settings = Settings {
        buffer: 2_000,
        when_full: WhenFull::Block(Duration::from_secs(30)),
        sync: SyncPolicy::Os,
        ..Settings::new(CODEC)
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    for n in 0..200u8 {
        store.put(&[n], &[n; 500]);
    }
    // More than the buffer holds goes through it when it is empty.
    store.put(b"large", &[1; 100_000]);
    store.journal.sync().unwrap();
    assert_eq!(store.journal.health().waiting_bytes, 0);
}

#[test]
fn what_needs_no_room_is_dropped_when_there_is_none() {
    let memory = Memory::new(1);
    let settings = Settings {
        buffer: 300,
        when_full: WhenFull::Error,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let write = effects(&[Write::Put(vec![1], vec![1; 100])]);
    assert!(store.journal.append_if_room(&write));
    store.journal.append(&write);
    assert!(!store.journal.append_if_room(&write));
    assert_eq!(store.journal.health().dropped_extensions, 1);
    assert!(matches!(
        store.journal.reserve(100),
        Err(WriteError::BufferFull { .. })
    ));
    store.journal.sync().unwrap();
    store.journal.reserve(100).unwrap();
    let too_large = store.journal.reserve(LARGEST + 1);
    assert!(matches!(too_large, Err(WriteError::TooLarge { .. })));
}

#[test]
fn frames_are_bounded_and_batches_stay_whole() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    let mut history = History::new();
    for n in 0..20u8 {
        record(
            &store,
            &mut history,
            &[Write::Put(vec![n], vec![n; 30_000])],
        );
    }
    let many: Vec<_> = (0..20u8)
        .map(|n| Write::Put(vec![n], vec![0; 30_000]))
        .collect();
    record(&store, &mut history, &many);
    record(&store, &mut history, &[Write::Delete(vec![0])]);
    store.journal.close().unwrap();
    let frames = super::frames_of(&memory, &dir().join("log-1.wal"));
    let sizes: Vec<_> = frames.iter().map(|frame| frame.len() / 1_000).collect();
    assert_eq!(sizes, [240, 240, 120, 600, 0, 0]);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    assert_eq!(Some(&store.map()), history.at(history.last()));
}

/// Frames that are written in one go.
#[test]
fn what_waits_is_written_in_frames_that_follow_one_another() {
    let memory = Memory::new(1);
    let settings = Settings {
        buffer: 4 << 20,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let mut history = History::new();
    // Eight of them are a frame to the byte, with what says how long a key and a value are.
    let value = PAYLOAD / 8 - 6;
    for n in 0..40u8 {
        let value = vec![n; if n == 39 { value + 1 } else { value }];
        record(&store, &mut history, &[Write::Put(vec![n % 7], value)]);
    }
    let before = memory.operations();
    store.journal.sync().unwrap();
    assert_eq!(memory.operations() - before, 2, "a write and a sync");
    let killed = memory.copy();
    let frames = super::frames_of(&killed, &dir().join("log-1.wal"));
    let mut sizes = vec![HEADER + PAYLOAD; 4];
    sizes.extend([HEADER + PAYLOAD - PAYLOAD / 8, HEADER + PAYLOAD / 8 + 1]);
    assert!(frames.iter().map(Range::len).eq(sizes));
    let store = Store::open(&killed.storage(), by_hand()).unwrap();
    assert_eq!(
        (Some(&store.map()), store.report.damages.len()),
        (history.at(40), 0)
    );
}

#[test]
fn a_log_that_may_not_grow_refuses_writes_until_it_is_compacted() {
    let memory = Memory::new(1);
    let settings = Settings {
        log_limit: 1_000,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    store.put(b"key", &[1; 2_000]);
    store.journal.sync().unwrap();
    let refused = store.journal.reserve(1);
    assert!(matches!(refused, Err(WriteError::LogFull { limit: 1_000 })));
    store.journal.compact().unwrap();
    store.journal.reserve(1).unwrap();
    assert_eq!(store.journal.health().log_bytes, header::LENGTH as u64);
    store.put(b"key", &[1; 20]);
    store.journal.sync().unwrap();
    store.journal.reserve(1).unwrap();
}

#[test]
fn a_log_is_full_from_the_byte_on_that_it_may_not_go_beyond() {
    let after = |log_limit| {
        let settings = Settings {
            log_limit,
            ..by_hand()
        };
        let store = Store::open(&Memory::new(1).storage(), settings).unwrap();
        store.put(b"key", &[1; 100]);
        store.journal.sync().unwrap();
        (
            store.journal.health().log_bytes,
            store.journal.reserve(1).is_ok(),
        )
    };
    let (bytes, _) = after(u64::MAX);
    assert_eq!(after(bytes), (bytes, false));
    assert_eq!(after(bytes + 1), (bytes, true));
}

#[test]
fn a_log_is_compacted_before_it_is_as_large_as_it_may_be() {
    let memory = Memory::new(1);
    let settings = Settings {
        log_limit: 50_000,
        ..Settings::new(CODEC)
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let start = Instant::now();
    while store.journal.health().compactions < 2 {
        // It may be refused until the compaction is done.
        let _ = store.write(&[Write::Put(vec![1], vec![1; 1_000])]);
        let health = store.journal.health();
        assert!(start.elapsed() < Duration::from_secs(30), "{health:?}");
    }
}

/// Who waits for room that will not come is told so.
#[test]
fn who_waits_for_room_is_told_that_the_disk_fails() {
    for how in [How::Broken, How::Panic] {
        let memory = Memory::new(1);
        let settings = Settings {
            buffer: 2_000,
            when_full: WhenFull::Block(Duration::MAX),
            sync: SyncPolicy::Os,
            ..Settings::new(CODEC)
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let stall = memory.stall();
        memory.fail_next(u64::MAX, Some(Operation::Write), how);
        let refused = thread::scope(|scope| {
            let write = |n: u8| store.write(&[Write::Put(vec![n], vec![n; 500])]);
            let writer = scope.spawn(move || (0..50u8).find_map(|n| write(n).err()));
            drop(stall);
            writer.join().unwrap()
        });
        let is_meant = match how {
            How::Panic => matches!(refused, Some(WriteError::Panicked { .. })),
            _ => matches!(refused, Some(WriteError::Disk(_))),
        };
        assert!(is_meant, "{refused:?}");
        memory.heal();
    }
}

#[test]
fn room_is_waited_for_for_ever() {
    let memory = Memory::new(1);
    let settings = Settings {
        buffer: 2_000,
        when_full: WhenFull::Block(Duration::MAX),
        sync: SyncPolicy::Os,
        ..Settings::new(CODEC)
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let stall = memory.stall();
    thread::scope(|scope| {
        let writer = scope.spawn(|| (0..50u8).for_each(|n| _ = store.put(&[n], &[n; 500])));
        drop(stall);
        writer.join().unwrap();
    });
}

#[test]
fn after_close_nothing_is_written_whoever_waits() {
    let memory = Memory::new(1);
    for sync in [SyncPolicy::Always, SyncPolicy::Os] {
        let settings = Settings { sync, ..by_hand() };
        let store = Store::open(&memory.storage(), settings).unwrap();
        store.journal.close().unwrap();
        let before = memory.image();
        let seq = append(&store.journal, &store.kept, &[Write::Put(vec![1], vec![1])]);
        let durable = store.journal.durable_seq();
        assert!(matches!(
            store.journal.wait(seq, None),
            Err(CommitError::Closed)
        ));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(
            store
                .journal
                .poll_wait(seq, &mut context, &mut Place::default()),
            Poll::Ready(Err(CommitError::Closed))
        ));
        let copied = store.journal.backup(Path::new("/backup"));
        assert!(matches!(copied, Err(CompactError::Closed)));
        assert_eq!(memory.image(), before, "the directory may be another's");
        assert_eq!(store.journal.durable_seq(), durable);
    }
}

/// Calls the journal when it is woken.
struct Calls(
    std::sync::Weak<crate::persist::journal::OpenJournal>,
    AtomicUsize,
);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        if let Some(journal) = self.0.upgrade() {
            let _ = journal.compact();
            let _ = journal.close();
        }
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_waker_may_call_the_journal_that_wakes_it() {
    let memory = Memory::new(1);
    let settings = Settings {
        log: false,
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let seq = store.put(b"key", b"value");
    let calls = Arc::new(Calls(Arc::downgrade(&store.journal), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&calls));
    let mut context = Context::from_waker(&waker);
    let place = &mut Place::default();
    let polled = store.journal.poll_wait(seq, &mut context, place);
    assert!(polled.is_pending());
    // A compaction wakes it, and is over by then.
    store.journal.compact().unwrap();
    assert_eq!(calls.1.load(SeqCst), 1);
    assert_eq!(store.journal.health().state, HealthState::Closed);
}

/// What is asked of the disk goes by whole paths, so that it stays in the directory that was opened.
#[test]
fn a_process_that_goes_to_another_directory_stays_with_its_files() {
    let memory = Memory::new(1);
    let store = Store::open_at(Path::new("home"), &memory.storage(), by_hand()).unwrap();
    store.put(b"key", b"value");
    let report = store.journal.backup(Path::new("copy")).unwrap();
    store.journal.close().unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(report.dir, here.join("copy"));
    let paths = memory.paths();
    let of = |dir: &str| {
        paths
            .iter()
            .filter(|path| path.starts_with(here.join(dir)))
            .count()
    };
    assert!(of("home") > 0 && of("copy") > 0, "{paths:?}");
    assert_eq!(of("home") + of("copy"), paths.len(), "{paths:?}");
}

#[test]
fn dumps_alone_are_kept_without_a_log() {
    let memory = Memory::new(1);
    let settings = || Settings {
        log: false,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings()).unwrap();
    let mut history = History::new();
    for n in 0..5u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n])]);
    }
    let health = store.journal.health();
    assert_eq!(
        (health.durable_seq, health.waiting_bytes, health.unlogged),
        (0, 0, 0)
    );
    let killed = Store::open(&memory.copy().storage(), settings()).unwrap();
    // Its files have an owner from the beginning.
    assert!(killed.map().is_empty() && !killed.report.created && store.report.created);
    assert_eq!(store.journal.sync().unwrap(), 5);
    record(&store, &mut history, &[Write::Put(vec![9], vec![9])]);
    let backup = store.journal.backup(Path::new("/backup")).unwrap();
    assert_eq!(backup.last_seq, 6);
    let restored =
        Store::open_at(Path::new("/backup"), &memory.copy().storage(), settings()).unwrap();
    assert_eq!(Some(&restored.map()), history.at(6));
    record(&store, &mut history, &[Write::Delete(vec![0])]);
    store.journal.close().unwrap();
    assert!(
        memory
            .paths()
            .iter()
            .all(|path| path.extension().is_none_or(|end| end != "wal"))
    );
    memory.crash_dropping_all();
    let store = Store::open(&memory.storage(), settings()).unwrap();
    assert_eq!((store.report.last_seq, store.map().len()), (7, 5));
    // And it may be given a log later, and lose it again.
    drop(store);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"logged", b"1");
    drop(store);
    let store = Store::open(&memory.storage(), settings()).unwrap();
    assert_eq!(store.report.last_seq, 8);
}

#[test]
fn a_file_system_that_has_no_sync_of_names_is_told_of() {
    for lacks in [false, true] {
        let memory = Memory::new(1);
        if lacks {
            memory.lack_sync_of_names();
        }
        for created in [true, false] {
            let store = Store::open(&memory.storage(), by_hand()).unwrap();
            let report = &store.report;
            assert_eq!((report.created, report.names_unsynced), (created, lacks));
            assert_eq!(report.to_string().contains("does not sync names"), lacks);
        }
    }
}

/// Of what a crash has left unfinished, and of no file of anybody else.
#[test]
fn opening_clears_away_what_is_not_listed() {
    let memory = Memory::new(1);
    drop(Store::open(&memory.storage(), by_hand()).unwrap());
    let listed = memory.paths();
    let ours = ["log-9.wal", "snap-9.db", "snap-10.db.tmp", "MANIFEST.tmp"];
    let others = ["log-9.txt", "notes.tmp", "snap-09.db"];
    for name in ours.iter().chain(&others) {
        memory.put(&dir().join(name), vec![1; 100]);
    }
    let all = memory.paths();
    let read_only = Settings {
        mode: RecoveryMode::ReadOnly,
        ..by_hand()
    };
    drop(Store::open(&memory.storage(), read_only).unwrap());
    assert_eq!(memory.paths(), all);
    drop(Store::open(&memory.storage(), by_hand()).unwrap());
    let mut left = memory.paths();
    left.retain(|path| !listed.contains(path));
    assert_eq!(left, others.map(|name| dir().join(name)));
    // Without a log nothing but the manifest is made, and that has to be.
    let without = Settings {
        log: false,
        ..by_hand()
    };
    let nothing = Memory::new(1);
    nothing.fail_next(1, Some(Operation::Rename), How::Broken);
    assert!(Store::open(&nothing.storage(), without).is_err());
}

#[test]
fn closing_with_a_broken_disk_says_so() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"key", b"value");
    memory.fail_next(u64::MAX, Some(Operation::Sync), How::Broken);
    let before = store.journal.close().unwrap_err().to_string();
    let health = store.journal.health();
    assert_eq!((health.state, health.durable_seq), (HealthState::Closed, 0));
    let operations = memory.operations();
    let again = store.journal.close().unwrap_err().to_string();
    assert_eq!(again, before, "who comes later hears the same");
    assert_eq!(memory.operations(), operations, "and nothing is done");
    assert!(matches!(store.journal.reserve(1), Err(WriteError::Closed)));
}

#[test]
fn what_is_kept_is_let_go_on_close() {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), Settings::new(CODEC)).unwrap();
    append(&store.journal, &store.kept, &[Write::Put(vec![1], vec![1])]);
    store.journal.close().unwrap();
    assert_eq!(Arc::strong_count(&store.kept), 1);
}

#[test]
fn a_snapshot_says_first_how_many_entries_come() {
    let storage = Memory::new(1).storage();
    let store = Store::open(&storage, by_hand()).unwrap();
    let mut history = History::new();
    for n in 0..3u8 {
        record(&store, &mut history, &[Write::Put(vec![n], vec![n; 50])]);
    }
    let mut invalidation = Effects::new();
    invalidation.push(Effect::Label { label: 7, epoch: 9 });
    store.journal.append(&invalidation);
    store.journal.close().unwrap();
    for from_snapshot in [0, 4] {
        let again = Store::open(&storage, by_hand()).unwrap();
        assert_eq!(again.report.from_snapshot, from_snapshot);
        // Invalidations are in it, too, and are no entries.
        let expected = (from_snapshot > 0).then_some(3);
        assert_eq!(*again.kept.expected.lock().unwrap(), expected);
        assert_eq!(again.kept.labels(), [(7, 9)].into());
        again.journal.compact().unwrap();
    }
}

/// There is nothing else that it could wait for, and no write is refused.
#[test]
fn who_waits_for_a_dump_is_told_when_it_fails() {
    let memory = Memory::new(1);
    let settings = Settings {
        log: false,
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings).unwrap();
    let seq = store.put(b"key", b"value");
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let place = &mut Place::default();
    assert!(
        store
            .journal
            .poll_wait(seq, &mut context, place)
            .is_pending()
    );
    memory.fail_next(1, Some(Operation::Create), How::Full);
    assert!(store.journal.compact().is_err());
    assert_eq!(count.0.load(SeqCst), 1);
    match store.journal.wait(seq, Some(Instant::now())) {
        Err(CommitError::Disk(error)) => assert!(error.is_full()),
        waited => panic!("{waited:?}"),
    }
    assert_eq!(store.journal.health().state, HealthState::Troubled);
    let next = store.put(b"key", b"other");
    store.journal.compact().unwrap();
    store.journal.wait(next, Some(Instant::now())).unwrap();
    store.journal.wait(seq, Some(Instant::now())).unwrap();
    assert_eq!(store.journal.health().state, HealthState::Well);
}

/// As its documentation says: there is no log that would bring it to one moment.
#[test]
fn a_dump_has_a_part_of_what_is_written_meanwhile() {
    let memory = Memory::new(1);
    let settings = Settings {
        log: false,
        ..by_hand()
    };
    let store = Store::open(&memory.storage(), settings.clone()).unwrap();
    let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
    *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
        if set == 1 {
            let both = [Write::Put(vec![0], vec![1]), Write::Put(vec![1], vec![1])];
            append(&journal.upgrade().unwrap(), &kept.upgrade().unwrap(), &both);
        }
    }));
    store.journal.compact().unwrap();
    *store.kept.meanwhile.lock().unwrap() = None;
    let killed = Store::open(&memory.copy().storage(), settings.clone()).unwrap();
    assert_eq!(killed.map().into_keys().collect::<Vec<_>>(), [[1]]);
    store.journal.close().unwrap();
    let closed = Store::open(&memory.storage(), settings).unwrap();
    assert_eq!(closed.map(), store.map());
}

/// A store of which a snapshot is due, as by a sync that failed, or not.
fn walks_into(memory: &Memory, is_needed: bool) -> Store {
    let store = Store::open(&memory.storage(), by_hand()).unwrap();
    store.put(b"a", b"1");
    store.put(b"b", b"2");
    if is_needed {
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        store.journal.sync().unwrap_err();
    } else {
        store.journal.sync().unwrap();
    }
    store
}

#[test]
fn what_cannot_be_encoded_for_a_snapshot_leaves_the_old_files_and_the_store_at_work() {
    for is_needed in [false, true] {
        for panics in [false, true] {
            let memory = Memory::new(1);
            let store = walks_into(&memory, is_needed);
            let kept = &store.kept;
            let spoil = || match panics {
                true => {
                    *kept.meanwhile.lock().unwrap() = Some(Box::new(|_| panic!("in a bad mood")))
                }
                false => *kept.unencodable.lock().unwrap() = Some(b"2".to_vec()),
            };
            spoil();
            let said = if panics {
                "it panics: in a bad mood"
            } else {
                "a bad value"
            };
            let error = store.journal.compact().unwrap_err();
            assert!(
                matches!(&error, CompactError::Encode(why) if why == said),
                "{error}"
            );
            assert!(error.to_string().contains(said), "{error}");
            let health = store.journal.health();
            assert_eq!((health.compactions, health.compaction_failures), (0, 1));
            assert_eq!(health.state, HealthState::Troubled);
            assert!(health.trouble.unwrap().contains(said));
            let temporary = memory.paths();
            assert!(
                temporary
                    .iter()
                    .all(|path| path.extension() != Some("tmp".as_ref()))
            );

            // Writes go on; who waits for one that takes a snapshot is told.
            let waited = store.journal.wait(2, Some(Instant::now()));
            store.put(b"c", b"3");
            spoil();
            let synced = store.journal.sync().map(drop);
            for told in [waited, synced] {
                match told {
                    Ok(()) => assert!(!is_needed),
                    Err(CommitError::Encode(why)) => assert_eq!((&*why, is_needed), (said, true)),
                    Err(error) => panic!("{error}"),
                }
            }
            let killed = memory.copy();
            let reopened = Store::open(&killed.storage(), by_hand()).unwrap();
            assert_eq!(reopened.map().len(), if is_needed { 2 } else { 3 });

            // What is to blame is replaced.
            *kept.meanwhile.lock().unwrap() = None;
            store.put(b"b", b"4");
            store.journal.compact().unwrap();
            assert_eq!(store.journal.health().state, HealthState::Well);
            store.journal.close().unwrap();
            let reopened = Store::open(&memory.storage(), by_hand()).unwrap();
            assert_eq!(reopened.map(), store.map());
        }
    }
}

/// As they are listed when no snapshot can be made for long.
fn with_many_logs(settings: &Settings) -> (Memory, History) {
    let memory = Memory::new(1);
    let store = Store::open(&memory.storage(), settings.clone()).unwrap();
    let mut history = History::new();
    for n in 0..40u8 {
        record(
            &store,
            &mut history,
            &[Write::Put(vec![n % 9], vec![n; 20])],
        );
        store.journal.wait(history.last(), None).unwrap();
        let backup = format!("/backup-{n}");
        store.journal.backup(Path::new(&backup)).unwrap();
    }
    record(&store, &mut history, &[Write::Put(vec![9], vec![9; 20])]);
    store.journal.wait(history.last(), None).unwrap();
    (memory.copy(), history)
}

#[test]
fn more_logs_than_may_be_open_at_once_are_recovered_and_cut() {
    let settings = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let (memory, history) = with_many_logs(&settings);
    memory.limit_open_files(3);
    let open = |memory: &Memory, mode| {
        let settings = Settings {
            mode,
            ..settings.clone()
        };
        Store::open(&memory.storage(), settings)
    };
    for mode in [
        RecoveryMode::ReadOnly,
        RecoveryMode::TolerateTornTail,
        RecoveryMode::Salvage,
    ] {
        let store = open(&memory, mode).unwrap();
        assert_eq!(
            (Some(&store.map()), store.report.last_seq),
            (history.at(41), 41)
        );
    }

    // Torn in the last, and all that is behind the sixth log left out.
    let torn = memory.copy();
    torn.limit_open_files(3);
    let last = dir().join("log-41.wal");
    let mut bytes = torn.bytes(&last);
    bytes.extend_from_slice(&[7; 100]);
    torn.put(&last, bytes);
    let store = open(&torn, RecoveryMode::TolerateTornTail).unwrap();
    assert_eq!(
        (Some(&store.map()), store.report.quarantine.len()),
        (history.at(41), 1)
    );
    let back = RecoveryMode::PointInTime(Point::Seq(5));
    let store = open(&memory, back).unwrap();
    assert_eq!(Some(&store.map()), history.at(5));
    store.put(b"key", b"value");
    store.journal.compact().unwrap();
}

/// What has taken the place of a log while it was not open is another's.
#[test]
fn a_log_that_is_replaced_while_it_is_recovered_is_not_cut() {
    let settings = Settings {
        sync: SyncPolicy::Os,
        ..by_hand()
    };
    let (memory, _) = with_many_logs(&settings);
    let log = dir().join("log-41.wal");
    let mut torn = memory.bytes(&log);
    torn.extend_from_slice(&[7; 100]);
    memory.put(&log, torn);
    let (disk, other) = (memory.clone(), [5; 9_000]);
    let mut foreign = memory.bytes(&dir().join("log-40.wal"));
    foreign.extend_from_slice(&other);
    let replaced = foreign.clone();
    // The copy of what is behind the end is made, and is to be cut off next.
    memory.before(Operation::Create, 1, move || {
        disk.put(&dir().join("log-41.wal"), foreign)
    });
    let opened = Store::open(&memory.storage(), settings).map(drop);
    assert!(matches!(opened, Err(OpenError::Disk(_))), "{opened:?}");
    assert_eq!(memory.bytes(&log), replaced);
}
