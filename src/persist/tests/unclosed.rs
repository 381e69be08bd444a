//! Whether a directory was closed in peace: never said where anything is missing, wherever a fault
//! or a crash comes, and said where nothing is.

use super::faults::{lazily, path};
use super::memory::{Fault, How, Memory, Operation};
use super::model::{Map, Store, Write, append, dir};
use crate::MockClock;
use crate::persist::check::inspect_on;
use crate::persist::frame;
use crate::persist::header::{self, CLEARS};
use crate::persist::settings::{Point, RecoveryMode, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn asking() -> Settings {
    Settings {
        discards_unclosed: true,
        ..lazily()
    }
}

fn open(memory: &Memory, settings: Settings) -> Store {
    Store::open(&memory.storage(), settings).unwrap()
}

/// What it says, and what is there.
fn found(memory: &Memory) -> (Option<bool>, Map) {
    let store = open(memory, asking());
    (store.report.closed, store.map())
}

/// Three processes, one after the other; what the last one that could open the directory had in
/// memory when it closed.
fn run(memory: &Memory) -> Map {
    let mut map = Map::new();
    for process in 0..3u8 {
        let Ok(store) = Store::open(&memory.storage(), asking()) else {
            continue;
        };
        for n in 0..3u8 {
            // What cannot be written is in memory alone, as in a cache.
            let write = Write::Put(vec![process, n], vec![n]);
            let _ = store.write(&[write]);
            let _ = (n == process).then(|| store.journal.sync());
        }
        let _ = (process == 1).then(|| store.journal.compact());
        map = store.map();
        let _ = store.journal.close();
    }
    map
}

#[test]
fn what_was_closed_is_known_to_be_so_also_after_a_power_cut() {
    let memory = Memory::new(1);
    let map = run(&memory);
    assert_eq!(map.len(), 9);
    memory.crash_dropping_all();
    assert_eq!(found(&memory), (Some(true), map));
}

#[test]
fn what_is_new_needs_not_be_closed_and_who_does_not_ask_is_not_told() {
    let memory = Memory::new(1);
    let store = open(&memory, asking());
    assert_eq!(
        (store.report.closed, store.report.created),
        (Some(true), true)
    );
    drop(store);
    assert_eq!(open(&memory, lazily()).report.closed, None);
}

#[test]
fn what_was_open_when_the_process_ended_was_not_closed() {
    let memory = Memory::new(1);
    run(&memory);
    for settings in [asking(), lazily()] {
        let store = open(&memory, settings);
        // Nothing was written, and nothing is missing; but nobody knows that.
        let killed = memory.copy();
        assert_eq!(found(&killed).0, Some(false));
        drop(store);
    }
    // The last one was closed by who did not ask.
    assert_eq!(found(&memory).0, Some(false));
    assert_eq!(found(&memory).0, Some(true));
}

/// A store of a snapshot and a log, as it is when its process is killed.
fn killed(entries: u32) -> (Memory, Map) {
    let memory = Memory::new(1);
    let store = open(&memory, asking());
    for n in 0..entries {
        store.put(&n.to_be_bytes(), b"some value");
        let _ = (n == entries / 2).then(|| store.journal.compact());
    }
    store.journal.sync().unwrap();
    (memory.copy(), store.map())
}

/// The logs that not every version may read, with their lengths.
fn logs_that_clear(memory: &Memory) -> Vec<(PathBuf, usize)> {
    let files = memory.image().into_iter();
    let clear = files.filter(|(_, bytes)| bytes.get(12..16) == Some(&CLEARS.to_le_bytes()[..]));
    clear.map(|(path, bytes)| (path, bytes.len())).collect()
}

#[test]
fn what_is_discarded_costs_one_record_and_one_number_however_much_it_is() {
    let (memory, all) = killed(10_000);
    let bytes = || -> usize { memory.image().values().map(Vec::len).sum() };
    let before = bytes();
    let store = open(&memory, asking());
    let report = &store.report;
    assert_eq!((report.closed, report.discarded), (Some(false), 10_000));
    assert_eq!(store.map(), Map::new());
    let last = all.len() as u64 + 1;
    assert_eq!(store.journal.last_seq(), last);
    assert_eq!(store.journal.health().written_seq, last);
    assert!(bytes() < before + 200, "{before} and {}", bytes());
    assert_eq!(
        logs_that_clear(&memory),
        [(path("log-3.wal"), header::LENGTH + frame::HEADER)]
    );
    store.put(b"new", b"1");
    let killed = memory.copy();
    store.journal.close().unwrap();
    // From the record alone: no snapshot was made.
    let (closed, map) = found(&memory);
    assert_eq!((closed, map.len()), (Some(true), 1));
    let store = open(&killed, lazily());
    assert_eq!((store.journal.last_seq(), store.map().len()), (last, 0));
    store.journal.compact().unwrap();
    assert_eq!(logs_that_clear(&killed), []);
    assert!(store.map().is_empty());
}

/// And whoever opens it next, whether it asks or not, goes on with that.
#[test]
fn a_crash_while_all_is_discarded_leaves_all_of_it_or_nothing() {
    let (original, all) = killed(100);
    let mut left = [0, 0];
    for at in 1.. {
        let memory = original.copy();
        memory.fail_from(at, u64::MAX, How::Broken);
        let opened = Store::open(&memory.storage(), asking());
        if let Ok(store) = &opened {
            assert_eq!(store.map(), Map::new(), "operation {at}");
            assert_eq!(store.report.discarded, 100);
            // As a cache does.
            let _ = store.journal.compact();
        }
        // Before it is dropped, which closes it.
        let is_over = memory.operations() < at;
        for seed in 0..8 {
            let crashed = memory.fork();
            crashed.roll_again(seed);
            crashed.crash();
            crashed.heal();
            let store = open(&crashed.copy(), lazily());
            let (map, last) = (store.map(), store.journal.last_seq());
            let is_discarded = map.is_empty();
            assert!(is_discarded || map == all, "operation {at}");
            assert_eq!(last, 100 + u64::from(is_discarded), "operation {at}");
            left[usize::from(is_discarded)] += 1;
            assert_eq!(found(&crashed), (Some(false), Map::new()), "operation {at}");
        }
        if is_over {
            break;
        }
    }
    assert!(left.iter().all(|times| *times > 8), "{left:?}");
}

/// Whatever fails once, nothing of before is there again for who opens it after a close.
#[test]
fn what_could_not_be_said_to_be_discarded_is_made_up_for_by_a_snapshot() {
    let (original, _) = killed(100);
    let (mut made_up, mut said) = (0, 0);
    for settings in [
        asking(),
        Settings {
            generations: 2,
            ..asking()
        },
        Settings {
            log: false,
            ..asking()
        },
    ] {
        for at in 1.. {
            let memory = original.copy();
            memory.fail_from(at, 1, How::Broken);
            let opened = Store::open(&memory.storage(), settings.clone());
            let is_closed = opened.is_ok_and(|store| {
                match store.journal.health().unlogged {
                    0 => said += 1,
                    _ => made_up += 1,
                }
                let _ = store.journal.compact();
                store.put(b"new", b"1");
                assert!(store.journal.last_seq() > 101);
                store.journal.close().is_ok()
            });
            let is_over = memory.operations() < at;
            memory.heal();
            memory.crash_dropping_all();
            let map = open(&memory, lazily()).map();
            if is_closed {
                assert_eq!(map.keys().collect::<Vec<_>>(), [b"new"], "operation {at}");
            }
            if is_over {
                break;
            }
        }
    }
    assert!(made_up > 5 && said > 5, "{made_up} and {said}");
}

#[test]
fn what_was_there_before_all_was_discarded_can_be_gone_back_to() {
    let time = MockClock::new();
    time.set_system_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let settings = |mode| Settings {
        mode,
        generations: 3,
        clock: time.clock(),
        ..asking()
    };
    let second = || {
        let now = time.clock().system_time();
        time.set_system_time(now + Duration::from_secs(1));
        now
    };
    let memory = Memory::new(1);
    let store = open(&memory, settings(RecoveryMode::default()));
    for n in 0..10u8 {
        store.put(&[n], b"old");
        let _ = (n == 4).then(|| store.journal.compact());
    }
    store.journal.sync().unwrap();
    let (all, memory) = (store.map(), memory.copy());
    second();
    let before = second();
    let store = open(&memory, settings(RecoveryMode::default()));
    let after = second();
    store.put(b"new", b"1");
    store.journal.sync().unwrap();
    second();
    for is_compacted in [false, true] {
        let _ = is_compacted.then(|| store.journal.compact().unwrap());
        let at = |point| {
            let settings = Settings {
                discards_unclosed: false,
                ..settings(RecoveryMode::PointInTime(point))
            };
            let store = open(&memory.copy(), settings);
            (store.map(), store.report.last_seq)
        };
        for point in [Point::Seq(10), Point::Time(before)] {
            assert_eq!(at(point), (all.clone(), 10), "{point:?}");
        }
        for point in [Point::Seq(11), Point::Time(after)] {
            assert_eq!(at(point), (Map::new(), 11), "{point:?}");
        }
        assert_eq!(at(Point::Seq(12)).0, store.map());
    }
}

/// Of the state that was discarded, which the mark of closing must not vouch for.
#[test]
fn a_backup_that_is_copied_back_was_not_closed() {
    let (memory, all) = killed(100);
    let backup = memory.copy();
    for settings in [
        asking(),
        Settings {
            log: false,
            ..asking()
        },
    ] {
        let memory = memory.copy();
        let store = open(&memory, settings);
        store.journal.close().unwrap();
        let mark = memory.bytes(&path("CLOSED"));
        assert_eq!(found(&memory), (Some(true), Map::new()));
        let backup = backup.copy();
        backup.put(&path("CLOSED"), mark);
        assert_eq!(open(&backup.copy(), lazily()).map(), all);
        assert_eq!(found(&backup), (Some(false), Map::new()));
    }
}

#[test]
fn a_salvage_knows_what_was_discarded() {
    let (memory, _) = killed(100);
    let store = open(&memory, asking());
    store.put(b"new", b"1");
    store.journal.sync().unwrap();
    let salvaging = Settings {
        mode: RecoveryMode::Salvage,
        ..lazily()
    };
    for is_listed in [true, false] {
        let memory = memory.copy();
        if !is_listed {
            memory.forget(&path("MANIFEST"));
        }
        let store = open(&memory, salvaging.clone());
        assert_eq!((store.map().len(), store.report.undecodable), (1, 0));
        assert_eq!(store.report.is_whole(), is_listed);
    }
    let seen = inspect_on(&*memory.storage(), &dir(), |_| ()).unwrap();
    assert!(seen.is_whole());
    let clears = seen.files.iter().map(|file| (file.clears, file.seqs));
    assert_eq!(
        clears.collect::<Vec<_>>(),
        [(0, None), (0, Some((1, 100))), (1, Some((101, 102)))]
    );
}

#[test]
fn a_mark_beside_other_files_says_nothing() {
    let memory = Memory::new(1);
    run(&memory);
    let mark = memory.bytes(&path("CLOSED"));
    let store = open(&memory, asking());
    store.put(b"more", b"1");
    store.journal.close().unwrap();
    for other in [&mark[..], &mark[..mark.len() - 1], b""] {
        let memory = memory.copy();
        memory.put(&path("CLOSED"), other.to_vec());
        assert_eq!(found(&memory).0, Some(false));
    }
    let longer = [&memory.bytes(&path("CLOSED"))[..], b"1\n"].concat();
    let other = memory.copy();
    other.put(&path("CLOSED"), longer);
    assert_eq!(found(&other).0, Some(false));
    assert_eq!(found(&memory).0, Some(true));
}

/// A cache goes on after that, and what is invalidated then is in memory alone.
#[test]
fn what_is_written_while_it_is_closed_leaves_no_mark() {
    let memory = Memory::new(1);
    let store = open(&memory, asking());
    store.put(b"key", b"old");
    let (journal, kept) = (Arc::clone(&store.journal), Arc::clone(&store.kept));
    // The last thing that is done before the mark: the manifest says how far the log is proven.
    memory.before(Operation::Rename, 1, move || {
        append(&journal, &kept, &[Write::Delete(b"key".to_vec())]);
    });
    store.journal.close().unwrap();
    assert!(store.map().is_empty());
    assert_eq!(found(&memory).0, Some(false));
    assert_eq!(found(&memory).0, Some(true));
}

/// The one that had taken the mark away could not sync that, so the next one has to.
#[test]
fn a_mark_that_was_taken_away_by_an_opening_that_failed_does_not_come_back() {
    let memory = Memory::new(1);
    run(&memory);
    memory.fail_next(1, Some(Operation::SyncDir), How::Broken);
    assert!(Store::open(&memory.storage(), asking()).is_err());
    let store = open(&memory, asking());
    store.put(b"lost", b"1");
    memory.crash_dropping_all();
    assert_eq!(found(&memory).0, Some(false));
}

/// A fault at each operation, for once or for good, and the power is cut at the end.
#[test]
fn nothing_is_missing_of_what_is_said_to_be_closed_whatever_fails() {
    let whole = Memory::new(1);
    run(&whole);
    let (mut closed, mut unclosed) = (0, 0);
    for from in 1..=whole.operations() {
        for (how, count) in [
            (How::Broken, 1),
            (How::Broken, u64::MAX),
            (How::Full, u64::MAX),
        ] {
            for seed in 0..4 {
                let memory = Memory::new(seed);
                memory.fail(Fault {
                    from,
                    count,
                    only: None,
                    how,
                });
                let map = run(&memory);
                memory.heal();
                memory.crash();
                let store = open(&memory, asking());
                match store.report.closed == Some(true) && !store.report.created {
                    false => unclosed += 1,
                    true => {
                        closed += 1;
                        let at = format!("operation {from}, {how:?} {count} times, seed {seed}");
                        assert_eq!(store.map(), map, "{at}: {}", store.report);
                    }
                }
            }
        }
    }
    assert!(
        closed > 20 && unclosed > 200,
        "{closed} closed, {unclosed} not"
    );
}
