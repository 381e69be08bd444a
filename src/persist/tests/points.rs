//! Going back to a point in time, where a snapshot was made while writes went on, where the clock
//! was wrong for a moment, and where it was gone back before.

use super::damage::in_mode;
use super::memory::Memory;
use super::model::{History, Store, Write, append, dir};
use super::record;
use crate::MockClock;
use crate::persist::error::OpenError;
use crate::persist::manifest::Manifest;
use crate::persist::settings::{Point, RecoveryMode, Settings};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const HOUR: u64 = 3_600;

struct World {
    memory: Memory,
    time: MockClock,
    /// What the map was after each write.
    history: History,
    store: Store,
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

impl World {
    fn new() -> Self {
        let (memory, time) = (Memory::new(1), MockClock::new());
        time.set_system_time(start());
        let settings = settings(&time, RecoveryMode::default());
        let store = Store::open(&memory.storage(), settings).unwrap();
        let mut world = Self {
            memory,
            time,
            history: History::new(),
            store,
        };
        for n in 0..4u8 {
            world.write(&[Write::Put(vec![n], b"old".to_vec())]);
        }
        world
    }

    fn write(&mut self, writes: &[Write]) {
        record(&self.store, &mut self.history, writes);
        self.store.journal.sync().unwrap();
    }

    /// A compaction, in the middle of which both the first set and the last are written to, as one
    /// transaction and by a clock that is ahead by so many seconds; the number that the snapshot
    /// ends with.
    fn compact_during_a_write(&mut self, ahead: u64) -> u64 {
        let (journal, kept) = (
            Arc::downgrade(&self.store.journal),
            Arc::downgrade(&self.store.kept),
        );
        let (time, before) = (self.time.clone(), self.time.clock().system_time());
        let noted = Arc::new(Mutex::new(std::mem::take(&mut self.history)));
        let history = Arc::clone(&noted);
        let meanwhile = move |set| {
            if set != 2 {
                return;
            }
            let (journal, kept) = (journal.upgrade().unwrap(), kept.upgrade().unwrap());
            let writes = [0, 3].map(|n| Write::Put(vec![n], b"new".to_vec()));
            time.set_system_time(before + Duration::from_secs(ahead));
            let seq = append(&journal, &kept, &writes);
            journal.wait(seq, None).unwrap();
            time.set_system_time(before);
            noted.lock().unwrap().add(seq, &writes);
        };
        *self.store.kept.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
        let report = self.store.journal.compact().unwrap();
        *self.store.kept.meanwhile.lock().unwrap() = None;
        self.history = history.lock().unwrap().clone();
        assert_eq!(report.last_seq, self.history.last());
        report.last_seq
    }

    /// What a copy of the closed directory opens as.
    fn opened(&self, settings: Settings) -> Result<Store, OpenError> {
        Store::open(&self.memory.copy().storage(), settings)
    }
}

fn settings(time: &MockClock, mode: RecoveryMode) -> Settings {
    Settings {
        clock: time.clock(),
        generations: 3,
        ..in_mode(mode)
    }
}

fn at(seconds: u64) -> RecoveryMode {
    RecoveryMode::PointInTime(Point::Time(start() + Duration::from_secs(seconds)))
}

#[test]
fn a_clock_that_is_wrong_during_a_snapshot_does_not_tear_what_was_written_meanwhile() {
    let mut world = World::new();
    let end = world.compact_during_a_write(HOUR);
    world.time.advance(Duration::from_secs(2 * HOUR));
    world.write(&[Write::Put(vec![1], b"later".to_vec())]);
    world.store.journal.close().unwrap();
    let store = world.opened(settings(&world.time, at(HOUR / 2))).unwrap();
    assert_eq!(store.report.last_seq, end);
    assert_eq!(Some(&store.map()), world.history.at(end));
}

#[test]
fn what_is_whole_only_with_its_log_is_not_gone_back_to_without_it() {
    let mut world = World::new();
    let end = world.compact_during_a_write(0);
    world.store.journal.close().unwrap();
    let back = || settings(&world.time, RecoveryMode::PointInTime(Point::Seq(end)));
    let store = world.opened(back()).unwrap();
    assert_eq!(Some(&store.map()), world.history.at(end));

    // As a version has left it that kept the snapshot when it was opened without a log.
    let copy = world.memory.copy();
    let storage = copy.storage();
    let mut manifest = Manifest::read(&*storage, &dir()).unwrap().unwrap();
    manifest.logs.clear();
    manifest.publish(&*storage, &dir()).unwrap();
    let refused = Store::open(&storage, back()).map(drop);
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");

    let without_log = || Settings {
        log: false,
        ..settings(&world.time, RecoveryMode::default())
    };
    let store = Store::open(&world.memory.storage(), without_log()).unwrap();
    assert_eq!(Some(&store.map()), world.history.at(end));
    store.put(b"another", b"future");
    store.journal.compact().unwrap();
    store.journal.close().unwrap();
    let refused = world.opened(back()).map(drop);
    let oldest = end + 1;
    assert!(
        matches!(refused, Err(OpenError::OutOfReach { oldest_seq, .. }) if oldest_seq == oldest),
        "{refused:?}"
    );
}

/// A store of three writes, ten seconds apart, and the modes that go back to the second.
fn three_writes(log: bool) -> (MockClock, Memory, [RecoveryMode; 2]) {
    let (time, memory) = (MockClock::new(), Memory::new(1));
    time.set_system_time(start());
    let store = open_at(&memory, &time, log, RecoveryMode::default()).unwrap();
    for key in 0..3u8 {
        store.put(&[key], &[key]);
        store.journal.sync().unwrap();
        time.advance(Duration::from_secs(10));
    }
    let to_the_second = [RecoveryMode::PointInTime(Point::Seq(2)), at(15)];
    (time, memory, to_the_second)
}

/// Why a point in time is not gone back to, and the number that the error names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    WentBack(u64),
    OutOfReach(u64),
}

impl Refusal {
    fn of(opened: Result<Store, OpenError>) -> Option<Self> {
        match opened.map(drop) {
            Ok(()) => None,
            Err(OpenError::WentBack { last_seq, .. }) => Some(Self::WentBack(last_seq)),
            Err(OpenError::OutOfReach { oldest_seq, .. }) => Some(Self::OutOfReach(oldest_seq)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn open_at(
    memory: &Memory,
    time: &MockClock,
    log: bool,
    mode: RecoveryMode,
) -> Result<Store, OpenError> {
    let settings = Settings {
        log,
        generations: 2,
        clock: time.clock(),
        ..in_mode(mode)
    };
    Store::open(&memory.storage(), settings)
}

/// A time is found again as a number is, and is as much out of reach where nothing but snapshots of
/// later are left. What the error says can be done is what can be done.
#[test]
fn a_second_start_in_a_mode_that_goes_back_to_a_time_says_what_it_says_of_a_number() {
    for (log, compactions) in [(true, 0), (true, 1), (true, 3), (false, 0), (false, 3)] {
        for by in 0..2 {
            let (time, memory, back) = three_writes(log);
            let open = |mode| open_at(&memory, &time, log, mode);
            // Nothing is left out by the later ones.
            for _ in 0..3 {
                let store = open(back[by]).unwrap();
                assert_eq!((store.report.last_seq, store.map().len()), (2, 2));
                time.advance(Duration::from_secs(10));
                if compactions > 0 {
                    store.journal.compact().unwrap();
                }
            }
            let store = open(back[by]).unwrap();
            for n in 0..=compactions {
                store.put(&[7], &[n]);
                store.journal.sync().unwrap();
                if n > 0 {
                    store.journal.compact().unwrap();
                }
            }
            let expected = store.map();
            drop(store);
            let refusal = |mode| Refusal::of(open(mode));
            let refused = refusal(back[by]).unwrap();
            assert_eq!(open(RecoveryMode::default()).unwrap().map(), expected);
            let reachable = match refused {
                Refusal::OutOfReach(oldest) => {
                    assert_eq!(compactions, 3);
                    assert_eq!(refusal(back[by]), Some(refused));
                    oldest
                }
                Refusal::WentBack(last) => {
                    assert_eq!((last, compactions < 2), (2, true));
                    last
                }
            };
            let again = open(RecoveryMode::PointInTime(Point::Seq(reachable))).unwrap();
            assert_eq!(again.report.last_seq, reachable);
        }
    }
}

/// What led on from it was never in a log.
#[test]
fn a_snapshot_of_before_there_was_a_log_is_gone_back_to_also_where_there_is_one_by_now() {
    let (time, memory) = (MockClock::new(), Memory::new(1));
    time.set_system_time(start());
    let store = open_at(&memory, &time, false, RecoveryMode::default()).unwrap();
    for key in 0..2u8 {
        store.put(&[key], &[key]);
        store.journal.compact().unwrap();
        time.advance(Duration::from_secs(10));
    }
    store.journal.close().unwrap();
    let store = open_at(&memory, &time, true, RecoveryMode::default()).unwrap();
    store.put(&[2], &[2]);
    store.journal.close().unwrap();
    let seq = |seq| RecoveryMode::PointInTime(Point::Seq(seq));
    for (mode, last) in [
        (seq(1), 1),
        (at(5), 1),
        (seq(2), 2),
        (at(15), 2),
        (seq(3), 3),
    ] {
        let memory = memory.copy();
        let store = open_at(&memory, &time, true, mode).unwrap();
        let found = (store.report.last_seq, store.map().len() as u64);
        assert_eq!(found, (last, last), "{mode:?}");
        store.put(b"new", b"1");
        store.journal.close().unwrap();
        let store = open_at(&memory, &time, true, RecoveryMode::default()).unwrap();
        assert_eq!(store.map().len() as u64, last + 1);
    }
}

/// Though it would leave out what was written since as well, if it were.
#[test]
fn a_point_that_is_not_in_the_files_is_out_of_reach_whether_it_was_gone_back_before_or_not() {
    for log in [true, false] {
        for (point, beyond) in [
            (RecoveryMode::PointInTime(Point::Seq(3)), Point::Seq(1)),
            (at(35), Point::Time(start() + Duration::from_secs(5))),
        ] {
            let (time, memory, _) = three_writes(log);
            let open = |mode| open_at(&memory, &time, log, mode);
            let refusal = |mode| Refusal::of(open(mode));
            let beyond = RecoveryMode::PointInTime(beyond);
            let store = open(RecoveryMode::default()).unwrap();
            for _ in 0..2 {
                store.journal.compact().unwrap();
            }
            drop(store);
            assert_eq!(refusal(beyond), Some(Refusal::OutOfReach(3)));
            time.advance(Duration::from_secs(10));
            let store = open(point).unwrap();
            store.put(b"new", b"1");
            store.journal.sync().unwrap();
            drop(store);
            assert_eq!(refusal(beyond), Some(Refusal::OutOfReach(3)));
            assert_eq!(refusal(point), Some(Refusal::WentBack(3)));
        }
    }
}

#[test]
fn a_backup_of_a_store_that_was_gone_back_is_none() {
    for log in [true, false] {
        let (time, memory, back) = three_writes(log);
        let copy = Path::new("/copy");
        let store = open_at(&memory, &time, log, back[0]).unwrap();
        store.put(b"new", b"1");
        store.journal.backup(copy).unwrap();
        assert!(Manifest::read(&memory, &dir()).unwrap().unwrap().went_back);
        let manifest = Manifest::read(&memory, copy).unwrap().unwrap();
        assert!(!manifest.went_back);
    }
}

/// As by a program in which the mode was left.
#[test]
fn what_was_written_since_it_was_gone_back_is_not_left_out_by_the_next_start() {
    // Where the point is the last number, the first start in the mode leaves nothing out.
    for (log, last) in [(true, 3), (false, 3), (true, 2), (false, 2)] {
        let memory = Memory::new(1);
        let open = |mode| {
            let settings = Settings {
                log,
                generations: 2,
                ..in_mode(mode)
            };
            Store::open(&memory.storage(), settings)
        };
        let back = RecoveryMode::PointInTime(Point::Seq(2));
        let write = |store: &Store, key: u8| {
            store.put(&[key], &[key]);
            store.journal.sync().unwrap();
        };
        let store = open(RecoveryMode::default()).unwrap();
        (1..=last).for_each(|key| write(&store, key));
        drop(store);
        let store = open(back).unwrap();
        assert_eq!((store.report.last_seq, store.map().len()), (2, 2));
        drop(store);
        // As long as nothing is left out it may be opened like that.
        let store = open(back).unwrap();
        write(&store, 4);
        let expected = store.map();
        drop(store);
        let before = memory.image();
        let error = open(back).map(drop).unwrap_err();
        assert!(
            matches!(error, OpenError::WentBack { last_seq: 2, .. }),
            "{error}"
        );
        assert_eq!(memory.image(), before);
        let store = open(RecoveryMode::ReadOnly).unwrap();
        assert_eq!(store.map(), expected);
        drop(store);
        open(back).map(drop).unwrap_err();
        let store = open(RecoveryMode::default()).unwrap();
        assert_eq!(store.map(), expected);
        drop(store);
        // Now it is meant.
        let store = open(back).unwrap();
        assert_eq!((store.report.last_seq, store.map().len()), (2, 2));
    }
}
