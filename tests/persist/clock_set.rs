//! The wall clock is set while a directory is open: what is in memory does not move, and what comes back
//! is that.

use super::{dir, killed};
use haybox::persist::{ClockCheck, Persistence, check};
use haybox::{Cache, MockClock, Store, Ttl};
use serde::{Deserialize, Serialize, Serializer};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3_600);

/// The wall clock as it stands first.
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn open(dir: &Path, time: &MockClock) -> Store<u32, u32> {
    let builder = Cache::<u32, u32>::builder().clock(time.clock());
    builder.open_store(dir).unwrap()
}

fn mock() -> MockClock {
    let time = MockClock::new();
    time.set_system_time(start());
    time
}

#[test]
fn a_clock_that_is_set_just_before_the_close_costs_nothing() {
    for _ in 0..20 {
        let (dir, time) = (dir(), mock());
        let store = open(dir.path(), &time);
        for key in 0..10 {
            let _ = store.insert_with_ttl(key, key, 4 * HOUR).unwrap();
        }
        time.set_system_time(start() + 8 * HOUR);
        drop(store);
        let store = open(dir.path(), &time);
        assert_eq!(store.len(), 10);
        assert_eq!(store.ttl(&3), Some(Ttl::Left(4 * HOUR)));
    }
}

#[test]
fn a_backup_of_what_nobody_writes_to_is_by_the_clock_of_now() {
    let (from, to, time) = (dir(), dir(), mock());
    let store = open(from.path(), &time);
    store
        .insert_with_ttl(1, 1, 4 * HOUR)
        .unwrap()
        .wait()
        .unwrap();
    time.set_system_time(start() + 8 * HOUR);
    let to = to.path().join("copy");
    store.journal().backup(&to).unwrap();
    assert_eq!(open(&to, &time).ttl(&1), Some(Ttl::Left(4 * HOUR)));
}

static IS_REFUSED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Deserialize)]
struct Picky(u32);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 99 && IS_REFUSED.load(SeqCst) {
            return Err(serde::ser::Error::custom("not now"));
        }
        serializer.serialize_newtype_struct("Picky", &self.0)
    }
}

/// The log of an attempt that has failed is taken by the next one, but not by one that makes up for a
/// clock that was set.
#[test]
fn a_compaction_begins_a_log_where_the_one_before_it_is_by_another_clock() {
    let (dir, time) = (dir(), mock());
    let open = || {
        let builder = Cache::<u32, Picky>::builder().clock(time.clock());
        builder.open_store(dir.path()).unwrap()
    };
    let store = open();
    store.insert(99, Picky(99)).unwrap().wait().unwrap();
    IS_REFUSED.store(true, SeqCst);
    store.journal().compact().unwrap_err();
    let commit = store.insert_with_ttl(2, Picky(2), 4 * HOUR).unwrap();
    commit.wait().unwrap();
    time.set_system_time(start() + 8 * HOUR);
    IS_REFUSED.store(false, SeqCst);
    store.journal().compact().unwrap();
    drop(store);
    assert_eq!(open().ttl(&2), Some(Ttl::Left(4 * HOUR)));
}

/// Times to set the clock to, each as so many were encoded, the last first.
type Times = Vec<(u32, SystemTime)>;

static TO_SET: Mutex<Option<(MockClock, Times)>> = Mutex::new(None);
static ENCODED: AtomicU32 = AtomicU32::new(0);

/// Sets the clock while it is encoded.
#[derive(Clone, Deserialize)]
struct Setter(u32);

impl Serialize for Setter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut to_set = TO_SET.lock().unwrap();
        let encoded = ENCODED.fetch_add(1, SeqCst);
        if let Some((time, times)) = &mut *to_set
            && let Some((_, wall)) = times.pop_if(|(at, _)| *at == encoded)
        {
            time.set_system_time(wall);
        }
        serializer.serialize_newtype_struct("Setter", &self.0)
    }
}

/// The first part of its snapshot would be by one clock, and the next by another.
#[test]
fn a_clock_that_is_set_during_a_snapshot_costs_nothing() {
    let year = 365 * 24 * HOUR;
    let (ahead, behind) = (start() + 10 * year, start() - 10 * year);
    for (first, then) in [
        (ahead, vec![(300, start())]),
        (behind, vec![(300, start())]),
        // And it is set right again before the end, ...
        (start(), vec![(600, start()), (300, start() + 12 * HOUR)]),
        (start(), vec![(600, start()), (300, start() - 12 * HOUR)]),
        // ... or at once.
        (start(), vec![(301, start()), (300, start() + 12 * HOUR)]),
    ] {
        let (dir, time) = (dir(), mock());
        time.set_system_time(first);
        let open = |dir: &Path, time: &MockClock| {
            let builder = Cache::<u32, Setter>::builder().clock(time.clock());
            builder.open_store(dir).unwrap()
        };
        let store = open(dir.path(), &time);
        for key in 0..1_000 {
            let _ = store.insert_with_ttl(key, Setter(key), 4 * HOUR).unwrap();
        }
        store.journal().sync().unwrap();
        ENCODED.store(0, SeqCst);
        *TO_SET.lock().unwrap() = Some((time.clone(), then.clone()));
        store.journal().compact().unwrap();
        let (_, left) = TO_SET.lock().unwrap().take().unwrap();
        assert!(left.is_empty(), "all were set");
        let again = open(killed(&dir).path(), &time);
        for key in 0..1_000 {
            let ttl = again.ttl(&key);
            assert_eq!(ttl, Some(Ttl::Left(4 * HOUR)), "{key}, {first:?}, {then:?}");
        }
    }
}

/// As on a machine whose clock is set by the network some seconds after it has started.
#[test]
fn a_clock_that_is_set_while_a_directory_is_opened_costs_nothing() {
    let (dir, time) = (dir(), mock());
    let store = open(dir.path(), &time);
    store
        .insert_with_ttl(1, 1, 4 * HOUR)
        .unwrap()
        .wait()
        .unwrap();
    drop(store);
    let day = 24 * HOUR;
    let (minute, now) = (HOUR / 60, start() + HOUR / 60);
    let left = 4 * HOUR - minute;
    for (boot, set_to, expected) in [
        (now, None, left),
        (now + 8 * HOUR, Some(now), left),
        (now - 8 * HOUR, Some(now), left),
        (now - 23 * HOUR, Some(now), left),
        (now - 30 * day, Some(now), left),
        // It was written by a clock that is not believed, and has what it had left then.
        (now - 30 * day, None, 4 * HOUR),
        (now, Some(now - 30 * day), 4 * HOUR),
    ] {
        let copy = killed(&dir);
        let time = MockClock::new();
        time.set_system_time(boot);
        let set = time.clone();
        let options = Persistence::new().on_progress(move |_| {
            if let Some(wall) = set_to {
                set.set_system_time(wall);
            }
        });
        let builder = Cache::<u32, u32>::builder().clock(time.clock());
        let store = builder.open_store_with(copy.path(), options).unwrap();
        let context = format!("{boot:?}, {set_to:?}");
        assert_eq!(store.ttl(&1), Some(Ttl::Left(expected)), "{context}");
        drop(store);
        let again = open(copy.path(), &time);
        assert_eq!(again.ttl(&1), Some(Ttl::Left(expected)), "{context}");
    }
}

/// Reading takes its time, and what is not believed by its beginning would be by its end.
#[test]
fn a_log_that_is_ahead_by_just_what_is_too_much_costs_its_time_once() {
    let (dir, time) = (dir(), mock());
    let (day, moment) = (24 * HOUR, Duration::from_millis(1));
    time.set_system_time(start() + day + moment);
    let store = open(dir.path(), &time);
    let written = store.insert_with_ttl(1, 1, 36 * HOUR).unwrap();
    written.wait().unwrap();
    for pause in [Duration::ZERO, 2 * moment] {
        let (copy, time) = (killed(&dir), mock());
        let (passing, has_passed) = (time.clone(), AtomicBool::new(false));
        let options = Persistence::new().clock_skew(day).on_progress(move |_| {
            if !has_passed.swap(true, SeqCst) {
                passing.advance(pause);
            }
        });
        let builder = Cache::<u32, u32>::builder().clock(time.clock());
        let store = builder.open_store_with(copy.path(), options).unwrap();
        let left = Ttl::Left(36 * HOUR - pause);
        assert_eq!(store.ttl(&1), Some(left), "{pause:?}");
        let clock = store.journal().recovery().clock;
        assert_eq!(clock, ClockCheck::LogAhead(day + moment), "{pause:?}");
    }
}

#[test]
fn what_is_written_when_the_clock_was_set_is_by_that() {
    let (dir, time) = (dir(), mock());
    let store = open(dir.path(), &time);
    time.set_system_time(start() + 8 * HOUR);
    let commit = store.insert_with_ttl(1, 1, 4 * HOUR).unwrap();
    commit.wait().unwrap();
    let again = open(killed(&dir).path(), &time);
    assert_eq!(again.ttl(&1), Some(Ttl::Left(4 * HOUR)));
}

#[test]
fn a_log_that_is_ahead_by_just_what_a_clock_may_be_wrong_is_believed() {
    let (dir, time) = (dir(), mock());
    let store = open(dir.path(), &time);
    let commit = store.insert_with_ttl(1, 1, 4 * HOUR).unwrap();
    commit.wait().unwrap();
    let killed = killed(&dir);
    time.set_system_time(start() - HOUR);
    let builder = Cache::<u32, u32>::builder().clock(time.clock());
    let options = Persistence::new().clock_skew(HOUR);
    let store = builder.open_store_with(killed.path(), options).unwrap();
    // As long as it had when it was written, which counts as now.
    assert_eq!(store.ttl(&1), Some(Ttl::Left(4 * HOUR)));
}

#[test]
fn a_first_idle_time_is_whole_whatever_the_clock() {
    for back in [0, 2] {
        let (dir, time) = (dir(), mock());
        let store = open(dir.path(), &time);
        store.insert(1, 1).unwrap().wait().unwrap();
        drop(store);
        time.set_system_time(start() - back * HOUR);
        let builder = Cache::<u32, u32>::builder().clock(time.clock());
        let store = builder.time_to_idle(HOUR).open_store(dir.path()).unwrap();
        assert_eq!(store.ttl(&1), Some(Ttl::Left(HOUR)), "{back} h back");
    }
}

/// The files are written anew by the clock of now, which is that of the machine.
#[test]
fn what_a_clock_that_was_ahead_let_expire_stays_so_in_new_files() {
    let (dir, time) = (dir(), MockClock::new());
    time.set_system_time(SystemTime::now());
    let store = open(dir.path(), &time);
    let _ = store.insert_with_ttl(1, 1, HOUR / 6).unwrap();
    let _ = store.insert_with_ttl(3, 3, 9 * HOUR).unwrap();
    time.advance(HOUR);
    assert_eq!(store.get(&1), None);
    let _ = store.insert(2, 2).unwrap();
    drop(store);
    let (compacted, saved) = (killed(&dir), super::dir());
    let saved = saved.path().join("saved");
    check::compact(compacted.path(), |_| ()).unwrap();
    check::salvage(dir.path(), &saved, |_| ()).unwrap();
    for new in [compacted.path(), &saved] {
        let time = MockClock::new();
        time.set_system_time(SystemTime::now());
        let store = open(new, &time);
        assert_eq!((store.get(&1), store.get(&2)), (None, Some(2)), "{new:?}");
        let Some(Ttl::Left(left)) = store.ttl(&3) else {
            panic!("it has hours left");
        };
        assert!(left < 8 * HOUR + HOUR / 60, "{left:?} in {new:?}");
    }
}

#[test]
fn a_clock_that_is_set_by_a_second_makes_no_idle_time_shorter_by_more() {
    let idle = Duration::from_secs(1_800);
    // Ends are recorded anew as they cross a line, which are 225 s apart. The first lies just before
    // one, and a second later just behind it.
    let before_a_line = Duration::from_millis(224_900);
    for step in [0, 1, 5].map(Duration::from_secs) {
        let (dir, time) = (dir(), MockClock::new());
        let lines = Duration::from_secs(1_800_000_000 / 225 * 225);
        let wall = SystemTime::UNIX_EPOCH + lines + before_a_line;
        time.set_system_time(wall);
        let open = |dir: &Path| {
            let builder = Cache::<u32, u32>::builder().clock(time.clock());
            builder.time_to_idle(idle).open(dir).unwrap()
        };
        let cache = open(dir.path());
        cache.insert(1, 1);
        cache.journal().unwrap().sync().unwrap();
        time.set_system_time(wall + step);
        // So that the clocks are compared.
        cache.insert(2, 2);
        time.advance(Duration::from_secs(220));
        assert_eq!(cache.get(&1), Some(1));
        cache.journal().unwrap().sync().unwrap();
        let Some(Ttl::Left(left)) = open(killed(&dir).path()).ttl(&1) else {
            panic!("it has an idle time");
        };
        let lost = idle.checked_sub(left).expect("no more than from now on");
        assert!(
            lost <= step + Duration::from_millis(12),
            "{lost:?}, {step:?}"
        );
    }
}
