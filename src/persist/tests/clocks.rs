//! The wall clock that is set while the journal runs, and what is made up for then.

use super::is_snapshot;
use super::memory::{How, Memory, Operation};
use super::model::{Store, by_hand, dir};
use crate::persist::Persistence;
use crate::persist::manifest::Name;
use crate::persist::report::ClockCheck;
use crate::persist::settings::Settings;
use crate::{Cache, MockClock, Ttl};
use std::time::Duration;

/// By hand, and by this clock.
fn open_by(time: &MockClock, memory: &Memory) -> Store {
    let settings = Settings {
        clock: time.clock(),
        ..by_hand()
    };
    Store::open(&memory.storage(), settings).unwrap()
}

#[test]
fn a_compaction_is_due_when_the_wall_clock_was_set_by_more_than_a_minute() {
    for log in [true, false] {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let settings = Settings {
            clock: time.clock(),
            log,
            dump_every: None,
            ..by_hand()
        };
        let store = Store::open(&memory.storage(), settings).unwrap();
        let due = || store.journal.time_to_compaction();
        let set = |seconds: i64| {
            let by = Duration::from_secs(seconds.unsigned_abs());
            let now = time.clock().system_time();
            time.set_system_time(if seconds < 0 { now - by } else { now + by });
        };
        time.advance(Duration::from_secs(86_400));
        assert_eq!(due(), None, "time passes for both clocks");
        for (seconds, is_due) in [(60, false), (-120, false), (-1, true)] {
            set(seconds);
            assert_eq!(due(), is_due.then_some(Duration::ZERO), "{seconds}");
        }
        memory.fail_next(1, Some(Operation::Create), How::Full);
        store.journal.compact().unwrap_err();
        assert!(due() > Some(Duration::ZERO), "it is tried again");
        memory.heal();
        for seconds in [0, 61, 315_360_000, -3_600] {
            set(seconds);
            store.journal.compact().unwrap();
            assert_eq!(due(), None);
        }
        // In the midst of so many walks.
        for walks in 0..=4 {
            let (walked, mut left) = (time.clone(), walks);
            *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
                if set == 0 && left > 0 {
                    left -= 1;
                    let now = walked.clock().system_time();
                    walked.set_system_time(now + Duration::from_secs(61));
                }
            }));
            store.journal.compact().unwrap();
            let is_off = (walks > 2).then_some(Duration::ZERO);
            assert_eq!(due(), is_off, "set in {walks} walks");
            let paths = memory.paths();
            let snapshots = paths.iter().filter(|path| is_snapshot(path));
            assert_eq!(snapshots.count(), 1, "{paths:?}");
            store.journal.compact().unwrap();
            assert_eq!(due(), None);
        }
    }
}

/// What was written meanwhile is off, and a mark says that it was later than it is.
#[test]
fn a_clock_that_was_wrong_for_a_while_is_made_up_for() {
    let (memory, time) = (Memory::new(1), MockClock::new());
    let store = open_by(&time, &memory);
    let due = || store.journal.time_to_compaction();
    let right = time.clock().system_time();
    let writes = || {
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
    };
    let marks = || store.journal.mark().unwrap();
    let steps: [&dyn Fn(); 2] = [&writes, &marks];
    for step in steps {
        for (hours, is_off) in [(0, false), (12, true), (-12, true)] {
            // Set right afterwards, or while the disk takes it.
            for is_slow in [false, true] {
                writes();
                let by = Duration::from_secs(3_600 * i32::unsigned_abs(hours) as u64);
                time.set_system_time(if hours < 0 { right - by } else { right + by });
                if is_slow {
                    let time = time.clone();
                    memory.before(Operation::Write, 1, move || time.set_system_time(right));
                }
                step();
                time.set_system_time(right);
                let expected = is_off.then_some(Duration::ZERO);
                assert_eq!(due(), expected, "{hours} h, {is_slow}");
                store.journal.compact().unwrap();
                assert_eq!(due(), None);
            }
        }
    }
    // Of what is marked already no mark is written, by whatever clock.
    writes();
    marks();
    time.set_system_time(right + Duration::from_secs(43_200));
    marks();
    time.set_system_time(right);
    assert_eq!(due(), None);
}

#[test]
fn times_that_a_wrong_clock_made_are_made_up_for_though_it_was_right_as_they_were_written() {
    let (dir, time) = (tempfile::tempdir().unwrap(), MockClock::new());
    let right = time.clock().system_time();
    let hours = |hours: u64| Duration::from_secs(3_600 * hours);
    let builder = Cache::<u32, u32>::builder().clock(time.clock());
    let options = Persistence::new().by_hand();
    let store = builder.open_store_with(dir.path(), options).unwrap();
    let journal = &store.journal().open;
    let without = || drop(store.insert(1, 1).unwrap());
    let with = || drop(store.insert_with_ttl(1, 1, hours(4)).unwrap());
    let moved = || drop(store.expire(&1, hours(2)).unwrap());
    let writes: [(&dyn Fn(), bool); 3] = [(&without, false), (&with, true), (&moved, true)];
    for ahead in [0, 12] {
        for (write, has_times) in writes {
            time.set_system_time(right + hours(ahead));
            write();
            time.set_system_time(right);
            // It is in the same frame.
            let _ = store.insert(2, 2).unwrap();
            journal.sync().unwrap();
            let is_due = has_times && ahead > 0;
            assert_eq!(
                journal.time_to_compaction(),
                is_due.then_some(Duration::ZERO)
            );
            journal.compact().unwrap();
            assert_eq!(journal.time_to_compaction(), None);
        }
    }
}

/// A peaceful end writes what waits, and nobody is there to make up for it later.
#[test]
fn times_that_a_wrong_clock_made_are_made_up_for_by_closing() {
    let hour = Duration::from_secs(3_600);
    for (ahead, back) in [(0, 0), (12, 0), (0, 12)] {
        let (dir, time) = (tempfile::tempdir().unwrap(), MockClock::new());
        let right = time.clock().system_time();
        let open = || {
            let builder = Cache::<u32, u32>::builder().clock(time.clock());
            let options = Persistence::new().by_hand();
            builder.open_store_with(dir.path(), options).unwrap()
        };
        let store = open();
        time.set_system_time(right + ahead * hour - back * hour);
        let _ = store.insert_with_ttl(1, 1, 4 * hour).unwrap();
        time.set_system_time(right);
        store.journal().close().unwrap();
        drop(store);
        let Some(Ttl::Left(left)) = open().ttl(&1) else {
            panic!("it is gone");
        };
        assert!(left <= 4 * hour && left > 3 * hour, "{left:?}");
    }
}

/// The log that it began is by that clock as well, and so is the mark that ends it.
#[test]
fn a_compaction_that_fails_while_the_clock_is_wrong_is_made_up_for_when_it_is_right() {
    for fails in [false, true] {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let store = open_by(&time, &memory);
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
        let right = time.clock().system_time();
        time.set_system_time(right + Duration::from_secs(43_200));
        *store.kept.unencodable.lock().unwrap() = fails.then(|| b"value".to_vec());
        assert_eq!(store.journal.compact().is_err(), fails);
        store.put(b"key", b"other");
        store.journal.sync().unwrap();
        time.set_system_time(right);
        // After a failure it is put off a little.
        assert!(store.journal.time_to_compaction().is_some());
        store.journal.compact().unwrap();
        assert_eq!(store.journal.time_to_compaction(), None);
    }
}

/// All of its frames say when it was begun, and the next start would take that for the time.
#[test]
fn a_snapshot_that_is_begun_by_a_wrong_clock_is_not_used() {
    for nth in 1..=4 {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let store = open_by(&time, &memory);
        store.put(b"key", b"value");
        store.journal.sync().unwrap();
        let right = time.clock().system_time();
        let ahead = right + Duration::from_secs(43_200);
        let (wrong, mended) = (time.clone(), time.clone());
        memory.before(Operation::Create, nth, move || wrong.set_system_time(ahead));
        *store.kept.meanwhile.lock().unwrap() = Some(Box::new(move |set| {
            if set == 0 {
                mended.set_system_time(right);
            }
        }));
        store.journal.compact().unwrap();
        time.set_system_time(right);
        let again = open_by(&time, &memory.copy());
        assert_eq!(again.report.clock, ClockCheck::Fine, "{nth}");
        assert_eq!(again.map(), store.map());
    }
}

/// Its deadlines are by the clock of before, and would come behind those of the snapshot.
#[test]
fn what_waits_when_the_clock_was_set_goes_to_the_log_of_before() {
    for hours in [0, 12] {
        let (memory, time) = (Memory::new(1), MockClock::new());
        let store = open_by(&time, &memory);
        store.put(b"key", b"value");
        let by = Duration::from_secs(3_600 * hours);
        time.set_system_time(time.clock().system_time() + by);
        store.journal.compact().unwrap();
        let log = memory.bytes(&Name::Log(2).in_dir(&dir()));
        let is_behind = log.windows(5).any(|bytes| bytes == b"value");
        assert_eq!(is_behind, hours == 0, "set by {hours} h");
    }
}

/// Its time would count again at each start.
#[test]
fn a_log_that_is_ahead_of_the_clock_is_written_anew_however_often_that_fails() {
    let (memory, time) = (Memory::new(1), MockClock::new());
    let open = || open_by(&time, &memory);
    let store = open();
    store.put(b"key", b"value");
    store.journal.sync().unwrap();
    drop(store);
    let right = time.clock().system_time();
    for (seconds, is_due) in [(59, false), (60, true), (864_000, true)] {
        time.set_system_time(right - Duration::from_secs(seconds));
        let store = open();
        let due = || store.journal.time_to_compaction();
        assert_eq!(due(), is_due.then_some(Duration::ZERO), "{seconds}");
        memory.fail_next(1, Some(Operation::Create), How::Full);
        store.journal.compact().unwrap_err();
        assert_eq!(due().is_some(), is_due, "it is tried again");
        memory.heal();
    }
    open().journal.compact().unwrap();
    assert_eq!(open().journal.time_to_compaction(), None);
}
