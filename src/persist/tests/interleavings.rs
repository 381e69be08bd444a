//! Interleavings of those who append, wait and close with the threads of the journal.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --lib --all-features persist::interleavings
//! ```
//!
//! `HAYBOX_SHUTTLE_ITERATIONS` says how many schedules each scenario is given. There is no time
//! here, so whatever waits has to be woken.

#[path = "memory.rs"]
#[allow(dead_code)]
mod memory;

use self::memory::{How, Memory, Operation};
use crate::MockClock;
use crate::engine::Tally;
use crate::labels::Register;
use crate::persist::contents::{Contents, Spot, Walked};
use crate::persist::effect::{Effect, Effects, Meta, Undecodable, Unencodable};
use crate::persist::error::CommitError;
use crate::persist::header::CodecId;
use crate::persist::journal::{OpenJournal, Place};
use crate::persist::manifest::Manifest;
use crate::persist::report::HealthState;
use crate::persist::settings::{Settings, SyncPolicy, WhenFull};
use crate::persist::wall::{Wall, ahead_of};
use crate::sync::AtomicU64;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

fn check(scenario: fn()) {
    let iterations = match std::env::var("HAYBOX_SHUTTLE_ITERATIONS") {
        Ok(iterations) => iterations.parse().expect("a number of iterations"),
        Err(_) => 2_000,
    };
    run(RandomScheduler::new(iterations / 2), scenario);
    run(PctScheduler::new(3, iterations / 2), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
    shuttle::Runner::new(scheduler, config).run(scenario);
}

/// Which keys are there.
#[derive(Default)]
struct Keys(Mutex<Vec<u64>>);

impl Contents for Keys {
    fn apply(&self, seq: u64, _: Effect<'_>, _: &mut Tally) -> Result<(), Undecodable> {
        self.0.lock().unwrap().push(seq);
        Ok(())
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn recovered(&self, _: u64) {}

    fn write_set(&self, _: &Spot, _: &mut Effects) -> Result<Walked, Unencodable> {
        Ok(Walked::to(None))
    }

    fn write_labels(&self, _: &mut Effects) {}
}

/// What was compared later is what is written by.
#[test]
fn the_clocks_are_compared_by_two_at_once_and_the_later_one_counts() {
    check(|| {
        let time = MockClock::new();
        let wall = Arc::new(Wall::new(time.clock()));
        let (other, set) = (Arc::clone(&wall), time.clone());
        let later = thread::spawn(move || {
            let now = set.clock().system_time();
            set.set_system_time(now + Duration::from_secs(3_600));
            other.compare();
        });
        wall.compare();
        later.join().unwrap();
        assert_eq!(wall.ahead(), ahead_of(&time.clock()));
    });
}

fn settings(sync: SyncPolicy) -> Settings {
    Settings {
        sync,
        threads: 1,
        buffer: 150,
        when_full: WhenFull::Block(Duration::from_secs(3_600)),
        ..Settings::new(CodecId(*b"test"))
    }
}

fn open(memory: &Memory, settings: Settings) -> (Arc<OpenJournal>, Arc<Keys>) {
    let keys = Arc::new(Keys::default());
    let storage = memory.storage();
    let contents = Arc::clone(&keys) as Arc<dyn Contents>;
    let opened = OpenJournal::open(Path::new("/store"), settings, storage, contents);
    (opened.expect("it opens").0, keys)
}

fn put(journal: &OpenJournal) -> u64 {
    let mut effects = Effects::new();
    effects.push(Effect::Put {
        key: b"key",
        value: &[1; 40],
        meta: Meta::default(),
    });
    if journal.reserve(effects.bytes().len()).is_err() {
        return 0;
    }
    journal.append(&effects)
}

/// What opens when the power goes now.
fn after_a_crash(memory: &Memory) -> (Arc<OpenJournal>, Arc<Keys>) {
    let crashed = memory.fork();
    crashed.crash_dropping_all();
    let by_hand = Settings {
        by_hand: true,
        ..settings(SyncPolicy::Os)
    };
    open(&crashed, by_hand)
}

/// What is in the log on the disk when the power goes now.
fn durable(memory: &Memory) -> u64 {
    let (journal, keys) = after_a_crash(memory);
    let keys = keys.0.lock().unwrap();
    assert!(keys.iter().copied().eq(1..=keys.len() as u64), "{keys:?}");
    assert_eq!(journal.last_seq(), keys.len() as u64);
    keys.len() as u64
}

#[test]
fn an_acknowledged_write_is_durable_and_none_waits_for_ever() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (journal, memory) = (Arc::clone(&journal), memory.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let seq = put(&journal);
                        journal.wait(seq, None).expect("it is open");
                        assert!(durable(&memory) >= seq);
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        assert_eq!(journal.close().unwrap().durable_seq, 4);
    });
}

/// Whoever finds out, and whatever the others do at that moment.
#[test]
fn a_directory_that_goes_ends_every_wait_and_is_left_alone() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || {
                    for _ in 0..2 {
                        match put(&journal) {
                            0 => break,
                            seq => drop(journal.wait(seq, None)),
                        }
                    }
                })
            })
            .collect();
        memory.remove_dir(Path::new("/store"));
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let closed = journal.close();
        assert!(matches!(closed, Err(CommitError::DirectoryGone { .. })));
        assert_eq!(put(&journal), 0);
        assert!(memory.paths().is_empty());
    });
}

#[test]
fn close_ends_every_wait_and_never_lies() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        let writer = {
            let (journal, memory) = (Arc::clone(&journal), memory.clone());
            thread::spawn(move || {
                let seq = put(&journal);
                match journal.wait(seq, None) {
                    Ok(()) => assert!(durable(&memory) >= seq),
                    Err(CommitError::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
            })
        };
        let _ = put(&journal);
        let report = journal.close().unwrap();
        assert!(durable(&memory) >= report.durable_seq);
        writer.join().unwrap();
    });
}

#[test]
fn who_waits_for_room_gets_it() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Os));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || (0..3).for_each(|_| assert_ne!(put(&journal), 0)))
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        assert_eq!(journal.sync().unwrap(), 6);
        assert_eq!(durable(&memory), 6);
        journal.close().unwrap();
    });
}

/// Or no write would wait for room for a moment, though the disk is well.
#[test]
fn who_gives_up_waiting_for_room_does_so_until_there_is_some() {
    check(|| {
        let memory = Memory::new(1);
        let impatient = Settings {
            when_full: WhenFull::Block(Duration::ZERO),
            refuses: false,
            ..settings(SyncPolicy::Os)
        };
        let (journal, _) = open(&memory, impatient);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || (0..3).for_each(|_| _ = put(&journal)))
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        journal.sync().unwrap();
        // Who has written all may still be about to say so.
        while journal.health().trouble.is_some() {
            thread::yield_now();
        }
        journal.close().unwrap();
    });
}

#[test]
fn a_failed_sync_is_made_up_for_while_others_write() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || {
                    let seq = put(&journal);
                    // It may be the one that fails, or come after the new generation.
                    let _ = journal.wait(seq, None);
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let synced = journal.sync();
        assert!(synced.is_ok_and(|seq| seq == 2) || journal.sync().is_ok());
        assert_eq!(journal.durable_seq(), 2);
        journal.close().unwrap();
    });
}

/// Two find out at once how the disk is, and the one that it was ill for is late to say so.
#[test]
fn writes_are_taken_again_when_all_is_written_after_a_failure() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        memory.fail_next(1, Some(Operation::Write), How::Full);
        let seq = put(&journal);
        let syncing = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || while journal.sync().is_err() {})
        };
        syncing.join().unwrap();
        assert_eq!(journal.durable_seq(), seq);
        while put(&journal) == 0 {
            thread::yield_now();
        }
        journal.close().unwrap();
    });
}

/// Nobody waits any more, and no write comes that would have the writer look.
#[test]
fn what_a_caller_could_not_write_the_writer_does() {
    check(|| {
        let memory = Memory::new(1);
        // So large that nobody rings because it fills.
        let roomy = Settings {
            buffer: 1_000,
            ..settings(SyncPolicy::Always)
        };
        let (journal, _) = open(&memory, roomy);
        let mut context = Context::from_waker(Waker::noop());
        // Each look rings for the writer, which finds nothing to write, and rests after some.
        let mut place = Place::default();
        for _ in 0..40 {
            let polled = journal.poll_wait(1, &mut context, &mut place);
            assert!(polled.is_pending());
            thread::yield_now();
        }
        memory.fail_next(1, Some(Operation::Write), How::Full);
        let seq = put(&journal);
        let _ = journal.wait(seq, None);
        while put(&journal) == 0 {
            thread::yield_now();
        }
        journal.close().unwrap();
    });
}

/// Nothing is new in the log, so no other compaction would come.
#[test]
fn writes_are_taken_again_when_a_log_that_was_full_is_compacted() {
    check(|| {
        let memory = Memory::new(1);
        let limited = Settings {
            log_limit: 90,
            growth_bytes: u64::MAX,
            ..settings(SyncPolicy::Os)
        };
        let (journal, _) = open(&memory, limited);
        assert_eq!(put(&journal), 1);
        let compacting = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || journal.compact().map(drop))
        };
        compacting.join().unwrap().unwrap();
        while put(&journal) == 0 {
            thread::yield_now();
        }
        journal.close().unwrap();
    });
}

/// Whoever has written and synced it: what a compaction or a backup then does may take minutes.
fn who_waits_is_told_before(operation: Operation, nth: usize, run: fn(&OpenJournal)) {
    let memory = Memory::new(1);
    let (journal, _) = open(&memory, settings(SyncPolicy::Always));
    let waiter = {
        let journal = Arc::clone(&journal);
        thread::spawn(move || {
            let seq = put(&journal);
            let patience = Some(Instant::now() + Duration::from_secs(3_600));
            journal.wait(seq, patience).expect("the disk syncs");
        })
    };
    memory.before(operation, nth, move || waiter.join().unwrap());
    run(&journal);
    journal.close().unwrap();
}

#[test]
fn who_waits_does_not_wait_for_a_snapshot() {
    // That of the manifest which lists the new log comes first.
    check(|| who_waits_is_told_before(Operation::Rename, 2, |journal| drop(journal.compact())));
}

#[test]
fn who_waits_does_not_wait_for_a_backup() {
    check(|| {
        who_waits_is_told_before(Operation::Link, 1, |journal| {
            drop(journal.backup(Path::new("/backup")));
        });
    });
}

/// The backup has written what the writer would have had synced.
#[test]
fn who_waits_is_told_though_a_backup_fails() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        memory.fail_next(1, Some(Operation::Create), How::Full);
        let copying = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || assert!(journal.backup(Path::new("/backup")).is_err()))
        };
        let seq = put(&journal);
        // One that leaves the steps to the threads.
        let patience = Some(Instant::now() + Duration::from_secs(3_600));
        journal.wait(seq, patience).expect("the disk syncs");
        assert!(durable(&memory) >= seq);
        copying.join().unwrap();
        journal.close().unwrap();
    });
}

#[test]
fn a_directory_is_not_given_free_while_a_compaction_is_at_it() {
    check(|| {
        let memory = Memory::new(1);
        let by_hand = || Settings {
            by_hand: true,
            ..settings(SyncPolicy::Os)
        };
        let (journal, _) = open(&memory, by_hand());
        assert_eq!(put(&journal), 1);
        let others: Vec<_> = (0..2)
            .map(|at| {
                let journal = Arc::clone(&journal);
                thread::spawn(move || match at {
                    0 => drop(journal.compact()),
                    _ => drop(journal.close().unwrap()),
                })
            })
            .collect();
        journal.close().unwrap();
        let (_next, _) = open(&memory, by_hand());
        let before = memory.operations();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(memory.operations(), before, "the directory is another's");
    });
}

/// By whoever is at it, where it could not be left before.
#[test]
fn word_of_a_failed_sync_is_not_left_in_a_directory_that_was_given_free() {
    check(|| {
        let memory = Memory::new(1);
        let by_hand = || Settings {
            by_hand: true,
            ..settings(SyncPolicy::Always)
        };
        let (journal, _) = open(&memory, by_hand());
        memory.fail_next(1, Some(Operation::Sync), How::Broken);
        memory.fail_next(u64::MAX, Some(Operation::Create), How::Broken);
        let seq = put(&journal);
        let waiting = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || drop(journal.wait(seq, None)))
        };
        let _ = journal.close();
        memory.heal();
        let (_next, _) = open(&memory, by_hand());
        let before = memory.operations();
        waiting.join().unwrap();
        assert_eq!(memory.operations(), before, "the directory is another's");
    });
}

/// A log that ends where it was rotated does not have it replayed a second time.
#[test]
fn an_invalidation_that_was_logged_before_is_in_the_snapshot() {
    check(|| {
        let (register, logged) = (Arc::new(Register::new()), Arc::new(AtomicU64::new(0)));
        let invalidating = {
            let (register, logged) = (Arc::clone(&register), Arc::clone(&logged));
            thread::spawn(move || {
                register.invalidate(7, |epoch| logged.store(epoch, SeqCst));
                register.forget_all(|epoch| logged.store(epoch + 1, SeqCst));
            })
        };
        let before = logged.load(SeqCst);
        let (forced, records) = register.all();
        match before {
            0 => {}
            1 => assert!(forced == 1 || records == [(7, 1)]),
            _ => assert_eq!(forced, 1),
        }
        invalidating.join().unwrap();
    });
}

/// Two write and wait, and the first operation of a kind panics, on whichever thread it is. Says
/// how many operations there were then, and what came to the disk.
fn nobody_goes_on_after_a_panic(operation: Operation) -> (u64, u64) {
    let memory = Memory::new(1);
    let (journal, _) = open(&memory, settings(SyncPolicy::Always));
    let before = memory.operations();
    memory.fail_next(1, Some(operation), How::Panic);
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let journal = Arc::clone(&journal);
            thread::spawn(move || match put(&journal) {
                0 => assert_eq!(journal.health().state, HealthState::Failed),
                seq => told_of_the_panic(journal.wait(seq, None)),
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    assert_eq!(journal.health().state, HealthState::Failed);
    told_of_the_panic(journal.sync());
    told_of_the_panic(journal.close());
    let operations = memory.operations() - before;
    let came = durable(&memory);
    let (next, _) = open(&memory, settings(SyncPolicy::Always));
    assert!(after_a_crash(&memory).0.last_seq() >= next.durable_seq());
    (operations, came)
}

#[track_caller]
fn told_of_the_panic<R: std::fmt::Debug>(result: Result<R, CommitError>) {
    match result {
        Err(CommitError::Panicked { thread }) => assert!(thread.contains("a bug in the storage")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_is_not_gone_on_with_after_a_panic_in_a_write() {
    check(|| {
        let (operations, came) = nobody_goes_on_after_a_panic(Operation::Write);
        assert_eq!((operations, came), (1, 0), "the one that panicked");
    });
}

#[test]
fn a_log_is_not_synced_again_after_a_panic_in_a_sync() {
    check(|| {
        let (operations, _) = nobody_goes_on_after_a_panic(Operation::Sync);
        // One or two writes, the sync, and the manifest that says that it failed.
        assert!((7..=8).contains(&operations), "{operations}");
    });
}

#[test]
fn word_of_a_panic_in_a_sync_is_left_before_anybody_closes() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Os));
        memory.fail_next(1, Some(Operation::Sync), How::Panic);
        assert_eq!(put(&journal), 1);
        told_of_the_panic(journal.sync());
        let is_told = || {
            let manifest = Manifest::read(&memory, Path::new("/store"));
            manifest.unwrap().expect("there is one").distrusted
        };
        while !is_told() {
            thread::yield_now();
        }
        told_of_the_panic(journal.close());
        drop(open(&memory, settings(SyncPolicy::Always)));
    });
}

#[test]
fn a_panic_ends_those_who_wait_while_it_closes() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Always));
        memory.fail_next(1, Some(Operation::Write), How::Panic);
        let writer = {
            let journal = Arc::clone(&journal);
            thread::spawn(move || match put(&journal) {
                0 => true,
                seq => match journal.wait(seq, None) {
                    // It was appended behind the last write.
                    Err(CommitError::Closed) => true,
                    result => {
                        told_of_the_panic(result);
                        false
                    }
                },
            })
        };
        let closed = journal.close();
        if !writer.join().unwrap() {
            assert_eq!(journal.health().state, HealthState::Failed);
        } else {
            assert_eq!(closed.unwrap().durable_seq, 0);
        }
        assert_eq!(durable(&memory), 0);
        drop(open(&memory, settings(SyncPolicy::Always)));
    });
}

#[test]
fn a_panic_of_the_writer_at_rest_is_visible() {
    check(|| {
        let memory = Memory::new(1);
        let (journal, _) = open(&memory, settings(SyncPolicy::Os));
        assert_eq!(put(&journal), 1);
        assert_eq!(journal.sync().unwrap(), 1);
        memory.fail_next(1, Some(Operation::Write), How::Panic);
        let mut context = Context::from_waker(Waker::noop());
        // Each look rings for the writer, which has nothing to do until it rests.
        let mut place = Place::default();
        while journal.poll_wait(2, &mut context, &mut place).is_pending() {
            thread::yield_now();
        }
        assert_eq!(journal.health().state, HealthState::Failed);
        assert_eq!(put(&journal), 0);
        told_of_the_panic(journal.close());
    });
}
