//! Counters that are kept in a directory.

use crate::common::{HOUR, PATIENCE, SECOND, Seeded, killed};
use haybox::counter::{Counters, CountersBuilder, FlushError};
use haybox::persist::{CommitError, CompactError, Persistence, SyncPolicy, WhenFull, WriteError};
use haybox::{Cache, MockClock};
use serde::{Deserialize, Serialize, Serializer};
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use tempfile::TempDir;

type Set = fn(CountersBuilder<String>) -> CountersBuilder<String>;

/// Nothing is flushed but by a call, or at the end.
fn quiet(dir: &Path) -> Counters<String> {
    let builder = Counters::builder().flush_interval(1_000 * HOUR);
    builder.open(dir).unwrap()
}

fn new() -> (TempDir, Counters<String>) {
    let dir = tempfile::tempdir().unwrap();
    let counters = quiet(dir.path());
    (dir, counters)
}

fn writes(counters: &Counters<String>) -> u64 {
    counters.journal().unwrap().last_seq()
}

/// The directory as a `kill -9` would leave it.
fn copied(dir: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
    }
    to
}

#[test]
fn counts_of_all_threads_are_there_after_a_restart() {
    let (dir, counters) = new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| counters.incr("bread")));
        }
    });
    counters.add("soup", -3);
    counters.incr("taken");
    assert_eq!(counters.take("taken"), 1);
    drop(counters);
    let counters = quiet(dir.path());
    assert_eq!((counters.get("bread"), counters.get("soup")), (4_000, -3));
    assert_eq!(counters.top(9).len(), 2);
    counters.incr("bread");
    drop(counters);
    assert_eq!(quiet(dir.path()).get("bread"), 4_001);
}

#[test]
fn a_flush_writes_what_has_changed_once_each() {
    let (_dir, counters) = new();
    (0..1_000).for_each(|_| counters.incr("hot"));
    counters.incr("cold");
    let before = writes(&counters);
    counters.flush().unwrap();
    assert_eq!(writes(&counters), before + 2);
    counters.flush().unwrap();
    counters.incr("hot");
    counters.decr("hot");
    counters.flush().unwrap();
    assert_eq!(writes(&counters), before + 2, "nothing has changed");
    (0..1_000).for_each(|_| counters.incr("hot"));
    counters.flush().unwrap();
    assert_eq!(writes(&counters), before + 3);
}

#[test]
fn what_was_taken_stays_taken() {
    let (dir, counters) = new();
    for key in ["one", "two", "three", "four"] {
        counters.incr(key);
    }
    counters.flush().unwrap();
    assert_eq!(counters.take("one"), 1);
    assert_eq!(counters.take("two"), 1);
    counters.add("two", 5);
    counters.flush().unwrap();
    drop(counters);
    let counters = quiet(dir.path());
    let all = |counters: &Counters<String>| {
        let mut all = counters.top(9);
        all.sort();
        all.into_iter().map(|(_, count)| count).collect::<Vec<_>>()
    };
    assert_eq!(all(&counters), [1, 1, 5]);
    assert_eq!(counters.take_all().len(), 3);
    drop(counters);
    assert!(quiet(dir.path()).top(9).is_empty());
}

#[test]
fn windows_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let builder = Counters::<String>::builder().window(HOUR);
        builder.open(dir.path()).unwrap()
    };
    open().incr("views");
    let counters = open();
    assert_eq!(
        (counters.get("views"), counters.recent("views", HOUR)),
        (1, 0)
    );
    counters.incr("views");
    assert_eq!(
        (counters.get("views"), counters.recent("views", HOUR)),
        (2, 1)
    );
}

#[test]
fn they_are_flushed_by_time() {
    let (dir, time) = (tempfile::tempdir().unwrap(), MockClock::new());
    let builder = Counters::<String>::builder().clock(time.clock());
    let counters = builder.open(dir.path()).unwrap();
    counters.incr("views");
    let before = writes(&counters);
    while writes(&counters) == before {
        time.advance(SECOND);
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_that_fails_says_so() {
    let (_dir, counters) = new();
    counters.journal().unwrap().close().unwrap();
    counters.incr("views");
    let failed = counters.flush().unwrap_err();
    assert!(matches!(failed, FlushError::Write(_)), "{failed}");
    assert!(!failed.to_string().is_empty());
    assert_eq!(counters.get("views"), 1);
    let failed = counters.flush();
    assert!(failed.is_err(), "what was not written is not forgotten");
}

/// Fails to be encoded in the ways in which that can fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
enum Odd {
    Good(u8),
    Refuses,
    Panics,
}

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good(number) => serializer.serialize_newtype_variant("Odd", 0, "Good", number),
            Self::Refuses => Err(serde::ser::Error::custom("no")),
            Self::Panics => panic!("no"),
        }
    }
}

#[test]
fn a_key_that_does_not_encode_keeps_no_other_from_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Counters<Odd> {
        let builder = Counters::builder().flush_interval(1_000 * HOUR);
        builder.open(dir.path()).unwrap()
    };
    let counters = open();
    (0..100).for_each(|number| counters.incr(&Odd::Good(number)));
    counters.flush().unwrap();
    for odd in [Odd::Refuses, Odd::Panics] {
        counters.incr(&odd);
        (0..100).for_each(|number| counters.incr(&Odd::Good(number)));
        assert_eq!(counters.take(&Odd::Good(7)), 2);
        counters.incr(&Odd::Good(7));
        let failed = counters.flush().unwrap_err();
        assert!(
            matches!(failed, FlushError::Write(WriteError::Encode(_))),
            "{failed}"
        );
        assert_eq!(counters.take(&odd), 1);
    }
    assert_eq!(counters.take(&Odd::Good(8)), 3);
    counters.flush().unwrap();
    // Nothing is written any more: what is there was written by the flushes.
    counters.journal().unwrap().close().unwrap();
    drop(counters);
    let counters = open();
    let counts = [7, 8, 9].map(|number| counters.get(&Odd::Good(number)));
    assert_eq!((counters.top(200).len(), counts), (99, [1, 0, 3]));
}

thread_local! {
    /// Which destructor of a key of 7 panics from now on, counted by this thread; zero is none.
    static BREAKS_AT: Cell<u32> = const { Cell::new(0) };
    static REFUSES_ONE: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Brittle(u8);

impl Serialize for Brittle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 1 && REFUSES_ONE.get() {
            return Err(serde::ser::Error::custom("not now"));
        }
        serializer.serialize_newtype_struct("Brittle", &self.0)
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        if self.0 == 7 && BREAKS_AT.get() > 0 {
            BREAKS_AT.set(BREAKS_AT.get() - 1);
            assert!(BREAKS_AT.get() > 0, "it breaks");
        }
    }
}

#[test]
fn whichever_key_panics_as_a_flush_drops_it_the_next_one_writes_what_that_could_not() {
    for nth in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let open = || -> Counters<Brittle> {
            let builder = Counters::builder().flush_interval(1_000 * HOUR);
            builder.open(dir.path()).unwrap()
        };
        let counters = open();
        let (one, taken) = (Brittle(1), Brittle(7));
        counters.incr(&one);
        counters.incr(&taken);
        assert_eq!(counters.take(&taken), 1);
        REFUSES_ONE.set(true);
        BREAKS_AT.set(nth);
        let flushed = catch_unwind(AssertUnwindSafe(|| counters.flush()));
        assert!(!matches!(flushed, Ok(Ok(()))), "it could not write one");
        let has_broken = BREAKS_AT.replace(0) == 0;
        REFUSES_ONE.set(false);
        counters.flush().unwrap();
        drop(counters);
        assert_eq!(open().get(&one), 1, "at the {nth}th that is dropped");
        if !has_broken {
            return assert!(nth > 1, "some are dropped");
        }
    }
}

/// As those do who keep their counters in a `static`.
#[test]
fn what_was_counted_is_in_what_is_synced_copied_and_closed() {
    let (dir, counters) = new();
    let journal = counters.journal().unwrap();
    let at = |dir: &Path| quiet(dir).get("bread");
    counters.incr("bread");
    journal.sync().unwrap();
    assert_eq!(at(copied(&dir).path()), 1);
    counters.incr("bread");
    let backup = dir.path().join("backup");
    journal.backup(&backup).unwrap();
    assert_eq!(at(&backup), 2);
    counters.incr("bread");
    journal.clone().close().unwrap();
    counters.incr("bread");
    // Nothing is written any more, and nothing is an error that was not counted before.
    journal.close().unwrap();
    assert!(counters.flush().is_err());
    drop(counters);
    assert_eq!(at(dir.path()), 3);
}

#[test]
fn who_closes_is_told_of_a_count_that_could_not_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let counters = Counters::<Odd>::builder().open(dir.path()).unwrap();
    counters.incr(&Odd::Good(1));
    counters.incr(&Odd::Refuses);
    let journal = counters.journal().unwrap();
    assert!(matches!(journal.sync(), Err(CommitError::Encode(_))));
    let backup = journal.backup(dir.path().join("backup"));
    assert!(matches!(backup, Err(CompactError::Encode(_))));
    assert!(matches!(journal.close(), Err(CommitError::Encode(_))));
    drop(counters);
    let counters = Counters::<Odd>::builder().open(dir.path()).unwrap();
    assert_eq!(counters.get(&Odd::Good(1)), 1, "all others were");
}

#[test]
fn a_flush_waits_for_what_another_has_written() {
    let (dir, time) = (tempfile::tempdir().unwrap(), MockClock::new());
    let builder = Counters::<String>::builder().clock(time.clock());
    let options = Persistence::new().sync(SyncPolicy::Always);
    let counters = builder.open_with(dir.path(), options).unwrap();
    for _ in 0..20 {
        let before = writes(&counters);
        counters.incr("views");
        while writes(&counters) == before {
            time.advance(SECOND);
            std::thread::yield_now();
        }
        counters.flush().unwrap();
        let health = counters.journal().unwrap().health();
        assert!(health.durable_seq > before, "{health:?}");
    }
}

/// Runs something once when one of them is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Meanwhile(u8);

static MEANWHILE: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

impl Serialize for Meanwhile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(work) = MEANWHILE.lock().unwrap().take() {
            // On a thread that holds no lock.
            std::thread::spawn(work).join().unwrap();
        }
        serializer.serialize_newtype_struct("Meanwhile", &self.0)
    }
}

#[test]
fn what_was_taken_before_a_flush_stays_taken_though_it_is_counted_during_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &TempDir| -> Counters<Meanwhile> {
        let builder = Counters::builder().flush_interval(1_000 * HOUR);
        builder.open(dir.path()).unwrap()
    };
    let (counters, [first, second]) = (open(&dir), [1, 2].map(Meanwhile));
    counters.add(&first, 100);
    counters.add(&second, 100);
    counters.flush().unwrap();
    let taken = [&first, &second].map(|key| counters.take(key));
    assert_eq!(taken, [100, 100]);
    let counting = counters.clone();
    *MEANWHILE.lock().unwrap() = Some(Box::new(move || {
        [1, 2]
            .map(Meanwhile)
            .iter()
            .for_each(|key| counting.incr(key));
    }));
    counters.flush().unwrap();
    // It crashes: nothing is written any more.
    let copied = copied(&dir);
    let counters = open(&copied);
    let mut counts = [&first, &second].map(|key| counters.get(key));
    counts.sort_unstable();
    assert_eq!(counts, [0, 1], "what the flush has come to later");
}

/// Holds up the thread that encodes it, while there is somebody who says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Slow;

static SLOW: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((entered, leave)) = SLOW.lock().unwrap().take() {
            entered.send(()).unwrap();
            leave.recv().unwrap();
        }
        serializer.serialize_unit_struct("Slow")
    }
}

#[test]
fn who_drops_the_last_handle_waits_for_the_flush_that_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Counters<Slow> {
        let builder = Counters::builder().flush_interval(Duration::from_millis(1));
        builder.open(dir.path()).unwrap()
    };
    let counters = open();
    let (entered, enters) = mpsc::channel();
    let (leave, leaves) = mpsc::channel();
    *SLOW.lock().unwrap() = Some((entered, leaves));
    counters.incr(&Slow);
    enters.recv_timeout(PATIENCE).unwrap();
    counters.incr(&Slow);
    drop(counters.clone());
    let (dropped, drops) = mpsc::channel();
    let last = std::thread::spawn(move || {
        drop(counters);
        dropped.send(()).unwrap();
    });
    let early = drops.recv_timeout(Duration::from_millis(200));
    leave.send(()).unwrap();
    last.join().unwrap();
    assert!(early.is_err(), "it did not wait");
    assert_eq!(open().get(&Slow), 2);
}

#[test]
fn the_shortest_interval_ends_with_the_last_handle() {
    for nanoseconds in [1, 10, 1_000] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Counters::builder().flush_interval(Duration::from_nanos(nanoseconds));
        let counters: Counters<String> = builder.open(dir.path()).unwrap();
        counters.incr("bread");
        let (dropped, drops) = mpsc::channel();
        let last = std::thread::spawn(move || {
            drop(counters);
            dropped.send(()).unwrap();
        });
        drops.recv_timeout(PATIENCE).expect("the flusher ends");
        last.join().unwrap();
        assert_eq!(quiet(dir.path()).get("bread"), 1);
    }
}

#[test]
fn an_impossible_setting_is_an_error_and_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nothing");
    let sets: [(Set, &str); 2] = [
        (|builder| builder.time_to_live(SECOND), "time_to_live"),
        (
            |builder| builder.flush_interval(Duration::ZERO),
            "flush_interval",
        ),
    ];
    for (set, setting) in sets {
        let error = set(Counters::builder()).open(&path).unwrap_err();
        assert!(error.to_string().contains(setting), "{error}");
        assert!(!path.exists());
    }
    let plain = Counters::<String>::new();
    plain.flush().unwrap();
    assert!(plain.journal().is_none());
}

// ---- kill -9 ----

const CHILD: &str = "HAYBOX_COUNTERS_CHILD";
const STEP: i64 = 1_000;

/// Not a test: what the process does that is killed. It says what it had counted when a flush began
/// that has ended.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let counters = quiet(Path::new(&dir));
    for flushed in 1.. {
        (0..STEP).for_each(|_| counters.incr("views"));
        counters.incr("other");
        counters.flush().unwrap();
        let line = format!("+{}\n", flushed * STEP);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn kill_9_loses_no_more_than_what_was_counted_since_the_last_flush() {
    for lines in [3, 30, 60] {
        let dir = tempfile::tempdir().unwrap();
        let test = "kept_counters::the_process_that_is_killed";
        let said = killed(test, &[(CHILD, dir.path().as_os_str())], lines);
        let mut flushed = said.iter().filter_map(|line| line.strip_prefix('+'));
        let last: i64 = flushed
            .next_back()
            .map_or(0, |count| count.parse().unwrap());
        let counters = quiet(dir.path());
        let count = counters.get("views");
        assert!(
            (last..=last + 2 * STEP).contains(&count),
            "{count} after {last}"
        );
        assert_eq!(count % STEP, 0);
    }
}

#[test]
fn a_key_that_flushes_its_counters_while_they_are_flushed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &TempDir| -> Counters<Flushing> {
        let builder = Counters::builder().flush_interval(1_000 * HOUR);
        builder.open(dir.path()).unwrap()
    };
    let counters = open(&dir);
    (0..3).for_each(|key| counters.incr(&Flushing(key)));
    *FLUSHED.lock().unwrap() = Some(counters.clone());
    let error = counters.flush().unwrap_err();
    assert!(matches!(error, FlushError::Write(WriteError::Encode(_))));
    *FLUSHED.lock().unwrap() = None;
    let copied = copied(&dir);
    drop(counters);
    for (dir, expected) in [(&copied, [1, 0, 1]), (&dir, [1; 3])] {
        let counters = open(dir);
        let counts = [0, 1, 2].map(|key| counters.get(&Flushing(key)));
        assert_eq!(
            counts, expected,
            "all but the one that could not be encoded"
        );
    }
}

/// The first one flushes some counters as it is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Flushing(u8);

static FLUSHED: Mutex<Option<Counters<Flushing>>> = Mutex::new(None);

impl Serialize for Flushing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counters = FLUSHED.lock().unwrap().clone();
        if let (Some(counters), Self(1)) = (counters, self) {
            counters.flush().unwrap();
        }
        serializer.serialize_newtype_struct("Flushing", &self.0)
    }
}

#[test]
fn the_last_handle_may_be_dropped_in_a_closure_of_a_cache() {
    let (dir, counters) = new();
    let cache = Cache::new(10);
    cache.insert(1, ());
    counters.add("bread", 3);
    cache.update(&1, |()| drop(counters));
    // Their thread has them still, and then the directory is free.
    let open = || Counters::<String>::builder().open(dir.path()).ok();
    let back = std::iter::repeat_with(|| (std::thread::yield_now(), open()).1);
    let counters = back.flatten().next().unwrap();
    assert_eq!(counters.get("bread"), 3);
}

#[test]
fn the_last_handle_keeps_as_much_as_close_does_where_the_log_takes_no_more() {
    let keys = || (0..2_000).map(|number| format!("page {number:060}"));
    let in_a_closure = |counters| {
        let cache = Cache::new(10);
        cache.insert(1, ());
        cache.update(&1, |()| drop(counters));
    };
    let ends: [&dyn Fn(Counters<String>); 3] = [
        &|counters| drop(counters.journal().unwrap().close().unwrap()),
        &drop,
        &in_a_closure,
    ];
    for end in ends {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let small = Persistence::new().buffer(4 << 10);
            let builder = Counters::<String>::builder().flush_interval(1_000 * HOUR);
            builder.open_with(dir.path(), small.when_full(WhenFull::Error))
        };
        let counters = open().unwrap();
        keys().for_each(|key| counters.incr(&key));
        end(counters);
        let back = std::iter::repeat_with(|| (std::thread::yield_now(), open().ok()).1);
        let counters = back.flatten().next().unwrap();
        assert_eq!(keys().filter(|key| counters.get(key) == 1).count(), 2_000);
    }
}

#[test]
fn counters_are_found_again_by_another_hasher() {
    let dir = tempfile::tempdir().unwrap();
    let open = |seed| {
        let builder = Counters::<String>::builder().flush_interval(1_000 * HOUR);
        builder.hasher(Seeded(seed)).open(dir.path()).unwrap()
    };
    let likes = open(1);
    likes.add("bread", 3);
    likes.add("soup", 2);
    likes.flush().unwrap();
    assert_eq!(likes.take("bread"), 3);
    likes.incr("bread");
    likes.flush().unwrap();
    assert_eq!(likes.take("soup"), 2);
    drop(likes);
    let likes = open(2);
    assert_eq!((likes.get("bread"), likes.get("soup")), (1, 0));
    likes.incr("bread");
    assert_eq!(likes.top(2), [("bread".to_owned(), 2)]);
}
