//! The wall clock is set while a directory is open: what is in memory does not move, and what comes back
//! is that.

use super::{dir, killed};
use haybox::{Cache, MockClock, Store, Ttl};
use serde::{Deserialize, Serialize, Serializer};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
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

/// Sets the clock while it is encoded.
#[derive(Clone, Deserialize)]
struct Setter(u32);

static TO_SET: Mutex<Option<MockClock>> = Mutex::new(None);

impl Serialize for Setter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 500
            && let Some(time) = TO_SET.lock().unwrap().take()
        {
            time.set_system_time(start());
        }
        serializer.serialize_newtype_struct("Setter", &self.0)
    }
}

/// The first half of its snapshot would be by one clock, and the second by the other.
#[test]
fn a_clock_that_is_set_during_a_snapshot_costs_nothing() {
    let year = 365 * 24 * HOUR;
    for is_ahead in [true, false] {
        let (dir, time) = (dir(), mock());
        let wrong = match is_ahead {
            true => start() + 10 * year,
            false => start() - 10 * year,
        };
        time.set_system_time(wrong);
        let open = |dir: &Path, time: &MockClock| {
            let builder = Cache::<u32, Setter>::builder().clock(time.clock());
            builder.open_store(dir).unwrap()
        };
        let store = open(dir.path(), &time);
        for key in 0..1_000 {
            let _ = store.insert_with_ttl(key, Setter(key), 4 * HOUR).unwrap();
        }
        *TO_SET.lock().unwrap() = Some(time.clone());
        store.journal().compact().unwrap();
        assert!(TO_SET.lock().unwrap().is_none());
        let again = open(killed(&dir).path(), &time);
        for key in 0..1_000 {
            let ttl = again.ttl(&key);
            assert_eq!(ttl, Some(Ttl::Left(4 * HOUR)), "{key}, {is_ahead}");
        }
    }
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
