//! A cache that survives restarts.

use crate::{dir, killed};
use haybox::persist::{
    ClockCheck, CommitError, CompactError, HealthState, OpenError, Persistence, SyncPolicy,
};
use haybox::{Cache, CacheBuilder, Freshness, InsertOptions, Loaded, MockClock, Ttl};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_was_in_it_is_in_it_after_a_restart() {
    let dir = dir();
    let open = || Cache::<String, u64>::builder().open(dir.path()).unwrap();
    let cache = open();
    assert!(cache.journal().unwrap().recovery().created);
    for key in 0..1_000 {
        cache.insert(format!("key {key}"), key);
    }
    cache.remove("key 7");
    cache.update("key 8", |value| *value = 80);
    drop(cache);
    let cache = open();
    cache.validate();
    assert_eq!(cache.len(), 999);
    assert_eq!(cache.get("key 7"), None);
    assert_eq!(cache.get("key 8"), Some(80));
    assert_eq!(cache.get("key 999"), Some(999));
    let report = cache.journal().unwrap().recovery();
    assert_eq!((report.entries, report.expired), (999, 0));
}

#[test]
fn a_cache_in_memory_has_no_journal() {
    assert!(Cache::<u32, u32>::new(10).journal().is_none());
}

#[test]
fn time_goes_on_while_it_is_closed() {
    let dir = dir();
    let time = MockClock::new();
    let open = || {
        Cache::<u32, u32>::builder()
            .clock(time.clock())
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    cache.insert_with_ttl(1, 1, 10 * SECOND);
    cache.insert_with_ttl(2, 2, 60 * SECOND);
    cache.insert(3, 3);
    drop(cache);
    time.advance(20 * SECOND);
    let cache = open();
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.ttl(&2), Some(Ttl::Left(40 * SECOND)));
    assert_eq!(cache.ttl(&3), Some(Ttl::Never));
    assert_eq!(cache.journal().unwrap().recovery().expired, 1);
}

#[test]
fn tags_and_groups_and_weights_are_kept() {
    let dir = dir();
    let open = || {
        Cache::<(u8, u32), u64>::builder()
            .max_weight(1_000)
            .weigher(|_, value| *value)
            .group_by(|(group, _)| group)
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    cache.insert_with((1, 1), 100, InsertOptions::new().tag("red"));
    cache.insert_with((1, 2), 200, InsertOptions::new().tag("blue"));
    cache.insert((2, 1), 300);
    cache.insert_with((2, 2), 50, InsertOptions::new().tag("green"));
    cache.invalidate_tag("green");
    drop(cache);
    let cache = open();
    assert_eq!(cache.weight(), 600);
    assert_eq!(cache.get(&(2, 2)), None);
    cache.invalidate_tag("red");
    assert_eq!(cache.get(&(1, 1)), None);
    cache.invalidate_group(&2u8);
    assert_eq!(cache.get(&(2, 1)), None);
    drop(cache);
    let cache = open();
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.get(&(1, 2)), Some(200));
}

/// Invalidations are numbered, and an entry knows the number of the last one before it. Those that are
/// over are not kept: only the entry says how far the numbers had come.
#[test]
fn a_tag_that_is_first_invalidated_after_a_restart_ends_what_came_behind_other_invalidations() {
    let dir = dir();
    let open = || {
        let builder = Cache::<u32, u32>::builder().max_entries(10);
        builder.open(dir.path()).unwrap()
    };
    let cache = open();
    for tag in 0..5 {
        cache.invalidate_tag(&tag);
    }
    cache.sweep();
    cache.insert_with(1, 10, InsertOptions::new().tag("red"));
    cache.journal().unwrap().compact().unwrap();
    drop(cache);
    let cache = open();
    assert_eq!(cache.get(&1), Some(10));
    cache.invalidate_tag("red");
    assert_eq!(cache.get(&1), None);
}

#[test]
fn bounds_of_all_kinds_hold_before_and_after_a_restart() {
    type Used = fn(&Cache<u32, u64>) -> u64;
    type Set = fn(CacheBuilder<u32, u64>) -> CacheBuilder<u32, u64>;
    let bounds: [(Set, Used, u64); 3] = [
        (
            |builder| builder.max_entries(50),
            |cache| cache.len() as u64,
            50,
        ),
        (
            |builder| builder.max_weight(500).weigher(|_, value| *value),
            Cache::weight,
            500,
        ),
        (|builder| builder.max_memory(10_000), Cache::memory, 10_000),
    ];
    for (set, used, bound) in bounds {
        let dir = dir();
        for _ in 0..2 {
            let cache = set(Cache::builder()).open(dir.path()).unwrap();
            cache.insert_many((0..1_000).map(|key| (key, 10)));
            let used = used(&cache);
            assert!(used > bound / 2 && used <= bound, "{used} of {bound}");
            cache.validate();
        }
    }
}

#[test]
fn what_tags_take_up_is_counted_after_a_restart_as_before() {
    let dir = dir();
    let open = || {
        let builder = Cache::<u32, u64>::builder().max_memory(1 << 20);
        let builder = builder.weigher(|_, value| *value);
        builder.open(dir.path()).unwrap()
    };
    let cache = open();
    for key in 0..20 {
        let tags = InsertOptions::new().tags(["red", "blue"]);
        cache.insert_with(key, 100, tags);
    }
    let memory = cache.memory();
    drop(cache);
    let cache = open();
    assert_eq!((cache.len(), cache.memory()), (20, memory));
    cache.validate();
}

/// The weight that was recorded is of another value (a decoded `Vec` has another capacity) or by
/// another weigher, and the bound is one of what is there now.
#[test]
fn what_comes_back_is_weighed_by_the_weigher_that_there_is_now() {
    let dir = dir();
    let open = |each: u64| {
        Cache::<u32, u32>::builder()
            .max_weight(50)
            .weigher(move |_, _| each)
            .open(dir.path())
            .unwrap()
    };
    let cache = open(2);
    cache.insert_many((0..20).map(|key| (key, key)));
    assert_eq!((cache.len(), cache.weight()), (20, 40));
    drop(cache);
    let cache = open(10);
    assert_eq!((cache.len(), cache.weight()), (5, 50));
    drop(cache);
    let cache = open(0);
    assert_eq!((cache.len(), cache.weight()), (5, 0));
}

#[test]
fn what_a_migration_makes_is_weighed_as_it_is_now() {
    let dir = dir();
    let builder = || {
        Cache::<u32, Vec<u8>>::builder()
            .max_weight(1_000)
            .weigher(|_, bytes: &Vec<u8>| bytes.len() as u64)
    };
    let cache = builder().open(dir.path()).unwrap();
    cache.insert_many((0..20).map(|key| (key, vec![1; 10])));
    drop(cache);
    let ten_times = Persistence::new().schema_version(1).migrate(|old| {
        let bytes: Vec<u8> = old.value()?;
        old.with_value(&bytes.repeat(10))
    });
    let cache = builder().open_with(dir.path(), ten_times).unwrap();
    assert_eq!((cache.len(), cache.weight()), (10, 1_000));
}

/// What a loader has said counts where nobody else can say it.
#[test]
fn a_weight_of_a_loader_comes_back_where_there_is_no_weigher() {
    let dir = dir();
    let open = || {
        Cache::<u32, u32>::builder()
            .max_weight(50)
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    let heavy = cache.read_through(|key| Ok::<_, Infallible>(Loaded::new(*key).weight(7)));
    assert_eq!(heavy.get(&1), Ok(Some(1)));
    cache.insert(2, 2);
    drop((cache, heavy));
    assert_eq!(open().weight(), 8);
}

/// The group of a key may be another one in the next release. What was invalidated before stays
/// gone all the same, and until it is written anew an entry is of its old group, too.
#[test]
fn entries_that_come_back_are_of_the_groups_that_there_are_now() {
    let dir = dir();
    let builder = Cache::<(u8, u32), u32>::builder;
    let by_first = || {
        builder()
            .group_by(|(first, _)| first)
            .open(dir.path())
            .unwrap()
    };
    let cache = by_first();
    cache.insert_many([((1, 10), 0), ((2, 20), 0), ((2, 21), 0), ((3, 30), 0)]);
    cache.invalidate_group(&3u8);
    drop(cache);
    let cache = builder()
        .group_by(|(_, second)| second)
        .open(dir.path())
        .unwrap();
    assert_eq!(cache.get(&(3, 30)), None);
    cache.invalidate_group(&20u32);
    assert_eq!(cache.get(&(2, 20)), None);
    assert_eq!(cache.get(&(2, 21)), Some(0));
    drop(cache);
    let cache = by_first();
    assert_eq!((cache.len(), cache.get(&(2, 20))), (2, None));
    cache.invalidate_group(&2u8);
    assert_eq!(cache.get(&(2, 21)), None);
    assert_eq!(cache.get(&(1, 10)), Some(0));
}

#[test]
fn a_lower_bound_holds_from_the_start_and_what_went_stays_gone() {
    let dir = dir();
    let cache = Cache::<u32, u32>::builder().open(dir.path()).unwrap();
    cache.insert_many((0..1_000).map(|key| (key, key)));
    drop(cache);
    let bounded = |bound| {
        Cache::<u32, u32>::builder()
            .max_entries(bound)
            .open(dir.path())
            .unwrap()
    };
    let cache = bounded(100);
    assert_eq!(cache.len(), 100);
    let mut kept: Vec<_> = cache.keys().collect();
    drop(cache);
    let cache = bounded(10_000);
    let mut found: Vec<_> = cache.keys().collect();
    kept.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, kept);
}

#[test]
fn listeners_are_told_nothing_of_what_is_recovered() {
    let dir = dir();
    let time = MockClock::new();
    let open = || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&log);
        let cache = Cache::<u32, u32>::builder()
            .clock(time.clock())
            .removal_listener(move |key, _, cause| told.lock().unwrap().push((key, cause)))
            .open(dir.path());
        (cache.unwrap(), log)
    };
    let (cache, _) = open();
    cache.insert_with_ttl(1, 1, SECOND);
    cache.insert(2, 2);
    drop(cache);
    time.advance(2 * SECOND);
    let (cache, log) = open();
    assert!(log.lock().unwrap().is_empty());
    assert_eq!(cache.stats().inserts, 0);
    assert_eq!(cache.len(), 1);
}

/// One value, of which every copy is counted.
#[derive(Clone)]
struct Counted(Arc<()>);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self(Arc::default()))
    }
}

/// As those of a cache in memory do.
#[test]
fn writers_wait_for_a_slow_listener_instead_of_piling_up_values() {
    let dir = dir();
    let (value, most) = (Counted(Arc::default()), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let listener = move |_: u32, value: Counted, _| {
        seen.fetch_max(Arc::strong_count(&value.0), SeqCst);
        thread::yield_now();
    };
    let cache = Cache::builder()
        .max_entries(10)
        .removal_listener(listener)
        .open(dir.path())
        .unwrap();
    thread::scope(|scope| {
        for first in 0..8 {
            let (cache, value) = (&cache, &value);
            scope.spawn(move || {
                for key in 0..4_000 {
                    cache.insert(first * 4_000 + key, value.clone());
                }
            });
        }
    });
    // 16 queues with a backlog each, the bound, and a few on their way for each thread.
    let most = most.load(SeqCst);
    assert!(most < 16 * 1_024 + 10 + 100, "{most} values at once");
    assert_eq!(Arc::strong_count(&value.0), 11);
    drop(cache);
    assert_eq!(Arc::strong_count(&value.0), 1);
    let again: Cache<u32, Counted> = Cache::builder().open(dir.path()).unwrap();
    assert_eq!(again.len(), 10);
}

#[test]
fn an_idle_time_goes_on_from_the_last_access() {
    let dir = dir();
    let time = MockClock::new();
    let open = || {
        Cache::<u32, u32>::builder()
            .clock(time.clock())
            .time_to_idle(80 * SECOND)
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    cache.insert(1, 1);
    cache.insert(2, 2);
    time.advance(60 * SECOND);
    assert_eq!(cache.get(&1), Some(1));
    drop(cache);
    time.advance(40 * SECOND);
    let cache = open();
    assert_eq!(cache.get(&2), None, "idle for 100 s");
    assert!(cache.contains_key(&1), "idle for 40 s");
    time.advance(Duration::from_secs(51));
    assert!(
        !cache.contains_key(&1),
        "idle for 91 s, with the slack of an eighth"
    );
}

/// Each start is of another boot of the machine, and what is closed leaves a snapshot.
#[test]
fn restarts_make_no_idle_time_longer_than_one_record_does() {
    const IDLE: u64 = 1_800;
    for pause in [0, 200, 224, 700] {
        let dir = dir();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let open = |restarts: u64| {
            let time = MockClock::new();
            time.advance(Duration::from_secs(restarts % 7));
            time.set_system_time(start + Duration::from_secs(restarts * pause));
            Cache::<u32, u32>::builder()
                .clock(time.clock())
                .max_entries(100)
                .time_to_idle(Duration::from_secs(IDLE))
                .open(dir.path())
                .unwrap()
        };
        open(0).insert(1, 1);
        for restarts in 1..=12 {
            let idle_for = restarts * pause;
            match open(restarts).ttl(&1) {
                None => assert!(idle_for >= IDLE, "idle for {idle_for} s"),
                Some(Ttl::Left(left)) => {
                    assert!(left <= Duration::from_secs(IDLE), "{left:?}");
                    assert!(
                        idle_for < IDLE + IDLE / 8,
                        "idle for {idle_for} s: {left:?}"
                    );
                }
                Some(never) => panic!("{never:?}"),
            }
        }
    }
}

#[test]
fn a_restart_costs_nobody_a_part_of_the_idle_time() {
    let dir = dir();
    let time = MockClock::new();
    let idle = Duration::from_secs(1_800);
    let open = || {
        Cache::<u32, u32>::builder()
            .clock(time.clock())
            .time_to_idle(idle)
            .open_store(dir.path())
            .unwrap()
    };
    let mut store = open();
    let _ = store.insert(1, 1).unwrap();
    for read in 0..100 {
        if read % 7 == 0 {
            store.journal().compact().unwrap();
        }
        time.advance(37 * SECOND);
        assert_eq!(store.get(&1), Some(1));
        drop(store);
        store = open();
        let Some(Ttl::Left(left)) = store.ttl(&1) else {
            panic!("it has an idle time");
        };
        let lost = idle.checked_sub(left).expect("no more than from now on");
        assert!(lost <= Duration::from_millis(12), "{lost:?} at read {read}");
    }
}

/// Ends at which nothing is recorded anew lie before a line of a grid, which is where they come back.
#[test]
fn a_restart_ends_nothing_sooner_than_the_last_read_said() {
    let idle = 8 * SECOND;
    for millis in 0..30 {
        let dir = dir();
        let time = MockClock::new();
        time.set_system_time(SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND);
        let open = || {
            Cache::<u32, u32>::builder()
                .clock(time.clock())
                .time_to_idle(idle)
                .open_store(dir.path())
                .unwrap()
        };
        let store = open();
        time.advance(Duration::from_millis(500));
        let _ = store.insert(1, 1).unwrap();
        time.advance(Duration::from_millis(490 + millis));
        assert_eq!(store.get(&1), Some(1));
        drop(store);
        let left = open().ttl(&1);
        assert!(
            matches!(left, Some(Ttl::Left(left)) if left >= idle),
            "{left:?} after a read {millis} ms later"
        );
    }
}

#[test]
fn fault_26_what_overwrote_an_entry_and_has_expired_does_not_bring_it_back() {
    for compacts in [false, true] {
        let dir = dir();
        let time = MockClock::new();
        let open = || {
            Cache::<u32, u32>::builder()
                .clock(time.clock())
                .open(dir.path())
                .unwrap()
        };
        let cache = open();
        cache.insert(1, 1);
        if compacts {
            cache.journal().unwrap().compact().unwrap();
        }
        cache.insert_with_ttl(1, 2, SECOND);
        cache.insert(2, 2);
        cache.expire(&2, SECOND);
        cache.insert_with_ttl(3, 3, SECOND);
        cache.persist(&3);
        drop(cache);
        time.advance(2 * SECOND);
        for _ in 0..2 {
            let cache = open();
            assert_eq!(cache.get_many([&1, &2, &3]), [None, None, Some(3)]);
            cache.journal().unwrap().compact().unwrap();
        }
    }
}

#[test]
fn fault_27_a_clock_that_went_back_brings_nothing_back_and_one_ten_years_ahead_is_reported() {
    let dir = dir();
    let time = MockClock::new();
    let start = time.clock().system_time();
    let open = || {
        Cache::<u32, u32>::builder()
            .clock(time.clock())
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    cache.insert_with_ttl(1, 1, 10 * SECOND);
    cache.insert_with_ttl(2, 2, 7_200 * SECOND);
    time.advance(3_600 * SECOND);
    cache.insert(3, 3);
    drop(cache);

    // The clock shows the time of the first write again: the first entry has expired all the same,
    // and the second has no more time than it had.
    time.set_system_time(start);
    let cache = open();
    let report = cache.journal().unwrap().recovery();
    assert!(matches!(report.clock, ClockCheck::WentBack(_)), "{report}");
    assert_eq!(cache.get_many([&1, &2, &3]), [None, Some(2), Some(3)]);
    let Some(Ttl::Left(left)) = cache.ttl(&2) else {
        panic!("it has a TTL");
    };
    assert!(left <= 3_601 * SECOND, "{left:?}");

    // A write while the clock is ten years ahead, and then it is right again.
    time.set_system_time(start + 10 * 365 * 86_400 * SECOND);
    cache.insert(4, 4);
    drop(cache);
    time.set_system_time(start + 3_500 * SECOND);
    let cache = open();
    let report = cache.journal().unwrap().recovery();
    assert!(matches!(report.clock, ClockCheck::LogAhead(_)), "{report}");
    assert_eq!(cache.get_many([&2, &3, &4]), [Some(2), Some(3), Some(4)]);
}

#[test]
fn what_a_clock_that_was_ahead_has_written_lives_no_longer_by_that() {
    let right = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for ahead in [25 * 3_600, 10 * 365 * 86_400].map(Duration::from_secs) {
        for is_in_snapshot in [false, true] {
            let dir = dir();
            let open = |time: &MockClock| {
                Cache::<u32, u32>::builder()
                    .clock(time.clock())
                    .time_to_idle(50 * SECOND)
                    .open(dir.path())
                    .unwrap()
            };
            let time = MockClock::new();
            time.set_system_time(right + ahead);
            let cache = open(&time);
            cache.insert_with_ttl(1, 1, 40 * SECOND);
            cache.insert(2, 2);
            cache.insert_with_ttl(3, 3, 20 * SECOND);
            cache.expire(&3, 30 * SECOND);
            cache.insert_with_ttl(4, 4, 10 * SECOND);
            cache.journal().unwrap().sync().unwrap();
            time.advance(10 * SECOND);
            if is_in_snapshot {
                cache.journal().unwrap().compact().unwrap();
            }
            drop(cache);

            let time = MockClock::new();
            time.set_system_time(right);
            let cache = open(&time);
            let report = cache.journal().unwrap().recovery();
            assert!(matches!(report.clock, ClockCheck::LogAhead(_)), "{report}");
            // In the log is what they had before the ten seconds.
            let passed: u32 = if is_in_snapshot { 10 } else { 0 };
            let left = |key| match cache.ttl(&key) {
                Some(Ttl::Left(left)) => left,
                other => panic!("{other:?} of {key}"),
            };
            let is_about = |key, seconds: u32| {
                let error = left(key).abs_diff(SECOND * (seconds - passed));
                assert!(error < SECOND, "{:?} of {key}", left(key));
            };
            is_about(1, 40);
            is_about(3, 30);
            assert!(left(2) <= 50 * SECOND, "{:?}", left(2));
            assert_eq!(cache.get(&4), (!is_in_snapshot).then_some(4));
            time.advance(50 * SECOND);
            assert_eq!(cache.get_many([&1, &2, &3, &4]), [None; 4]);
        }
    }
}

/// As on a machine without a battery for its clock: it starts hours behind, and is set later.
#[test]
fn what_is_to_live_for_hours_outlives_a_start_with_a_clock_that_is_set_later() {
    let hour = 3_600 * SECOND;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let open = |dir: &TempDir, at: SystemTime| {
        let time = MockClock::new();
        time.set_system_time(at);
        let store = Cache::<u32, u32>::builder()
            .clock(time.clock())
            .open_store(dir.path())
            .unwrap();
        (time, store)
    };
    for is_killed in [false, true] {
        let first = dir();
        let (_, store) = open(&first, now);
        store
            .insert_with_ttl(1, 1, 4 * hour)
            .unwrap()
            .wait()
            .unwrap();
        drop(store);
        let (time, store) = open(&first, now - 8 * hour);
        let clock = store.journal().recovery().clock;
        assert!(matches!(clock, ClockCheck::WentBack(_)), "{clock}");
        let compactions = store.journal().health().compactions;
        time.set_system_time(now + 60 * SECOND);
        let second = if is_killed {
            store.insert(2, 2).unwrap().wait().unwrap();
            let asked = Instant::now();
            while store.journal().health().compactions == compactions {
                assert!(asked.elapsed() < 60 * SECOND, "nobody writes a snapshot");
                thread::yield_now();
            }
            killed(&first)
        } else {
            drop(store);
            first
        };
        let (_, store) = open(&second, now + 120 * SECOND);
        assert_eq!(store.journal().recovery().clock, ClockCheck::Fine);
        assert_eq!(store.get(&1), Some(1));
        assert!(matches!(store.ttl(&1), Some(Ttl::Left(left)) if left > 3 * hour));
    }
}

#[test]
fn a_clock_that_went_back_costs_its_time_once_and_not_at_each_start() {
    let time = MockClock::new();
    let start = time.clock().system_time();
    let open = |dir: &TempDir| {
        let builder = Cache::<u32, u32>::builder().clock(time.clock());
        builder.open(dir.path()).unwrap()
    };
    for hours in [1, 100] {
        time.set_system_time(start + hours * 3_600 * SECOND);
        let first = dir();
        let cache = open(&first);
        cache.insert(1, 1);
        cache.journal().unwrap().sync().unwrap();
        let second = killed(&first);

        time.set_system_time(start);
        let cache = open(&second);
        let clock = cache.journal().unwrap().recovery().clock;
        assert_ne!(clock, ClockCheck::Fine);
        cache.insert_with_ttl(2, 2, 7_200 * SECOND);
        cache.journal().unwrap().sync().unwrap();
        let third = killed(&second);

        let cache = open(&third);
        let clock = cache.journal().unwrap().recovery().clock;
        assert_eq!(clock, ClockCheck::Fine);
        assert_eq!(cache.get_many([&1, &2]), [Some(1), Some(2)]);
        assert!(matches!(cache.ttl(&2), Some(Ttl::Left(left)) if left > 7_100 * SECOND));
    }
}

#[test]
fn the_last_handle_may_go_inside_a_closure() {
    let dir = dir();
    let cache = Cache::<u32, u32>::builder().open(dir.path()).unwrap();
    cache.insert(1, 1);
    let other = Cache::<u32, u32>::new(10);
    other.insert(1, 1);
    let mut held = Some(cache);
    other.read(&1, |_| held.take().is_some());
    // Closed by a thread of its own, some time later.
    let opened = || Cache::<u32, u32>::builder().open(dir.path());
    let cache = loop {
        match opened() {
            Ok(cache) => break cache,
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn what_was_loaded_is_due_for_a_refresh_after_a_restart() {
    let dir = dir();
    let time = MockClock::new();
    let open = || {
        Cache::<u32, u32>::builder()
            .clock(time.clock())
            .freshness(Freshness::new().refresh_after(60 * SECOND))
            .open(dir.path())
            .unwrap()
    };
    let cache = open();
    let reader = cache.read_through(|key: &u32| Ok::<_, std::io::Error>(*key));
    assert_eq!(reader.get(&1).unwrap(), Some(1));
    drop((reader, cache));
    let cache = open();
    let newer = cache.read_through(|key: &u32| Ok::<_, std::io::Error>(key + 10));
    newer.get(&1).unwrap();
    time.advance(SECOND);
    assert_eq!(cache.stats().refreshes, 1);
}

#[test]
fn snapshots_alone_keep_what_was_there_at_the_last_one() {
    let dir = dir();
    let open = || {
        let options = Persistence::new().snapshots_only(300 * SECOND);
        Cache::<u32, u32>::builder()
            .open_with(dir.path(), options)
            .unwrap()
    };
    let cache = open();
    cache.insert_many((0..500).map(|key| (key, key)));
    cache.journal().unwrap().compact().unwrap();
    cache.insert(500, 500);
    drop(cache);
    let cache = open();
    assert_eq!(cache.len(), 501, "closing makes a snapshot, too");
    assert_eq!(cache.get(&500), Some(500));
}

#[test]
fn a_write_does_not_wait_for_a_log_that_is_not_kept() {
    let dir = dir();
    let options = || {
        Persistence::new()
            .sync(SyncPolicy::Always)
            .snapshots_only(300 * SECOND)
    };
    let builder = Cache::<u32, u32>::builder;
    let cache = builder().open_with(dir.path(), options());
    let store = builder().open_store_with(dir.path(), options());
    for error in [cache.err().unwrap(), store.err().unwrap()] {
        assert!(matches!(error, OpenError::Build(_)), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("Persistence: snapshots_only: "),
            "{error}"
        );
    }
}

/// Asks the files for everything when it is dropped.
struct Asks(haybox::persist::Journal, std::path::PathBuf);

impl Drop for Asks {
    fn drop(&mut self) {
        let Self(journal, to) = self;
        assert!(matches!(journal.compact(), Err(CompactError::Reentrant)));
        assert!(matches!(journal.backup(to), Err(CompactError::Reentrant)));
        assert!(matches!(journal.sync(), Err(CommitError::Reentrant)));
        assert!(matches!(journal.close(), Err(CommitError::Reentrant)));
    }
}

#[test]
fn a_call_from_inside_a_closure_is_refused_and_loses_nothing() {
    let dir = dir();
    let home = dir.path().join("home");
    let cache = Cache::<u32, u32>::builder().open(&home).unwrap();
    cache.insert_many((0..100).map(|key| (key, key)));
    let journal = cache.journal().unwrap().clone();
    let to = dir.path().join("backup");
    let calls: [&dyn Fn(); 4] = [
        &|| _ = journal.compact(),
        &|| _ = journal.backup(&to),
        &|| _ = journal.sync(),
        &|| _ = journal.close(),
    ];
    for call in calls {
        let called = std::panic::AssertUnwindSafe(|| cache.update(&7, |_| call()));
        let panic = std::panic::catch_unwind(called).unwrap_err();
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap();
        assert!(said.starts_with("haybox was called from inside"), "{said}");
    }
    // While the closure unwinds the calls fail.
    let unwinding = std::panic::AssertUnwindSafe(|| {
        cache.update(&7, |_| {
            let _asks = Asks(journal.clone(), to.clone());
            panic!("on purpose");
        })
    });
    assert!(std::panic::catch_unwind(unwinding).is_err());
    assert_eq!(journal.health().state, HealthState::Well);
    journal.compact().unwrap();
    journal.close().unwrap();
    drop(cache);
    let cache = Cache::<u32, u32>::builder().open(&home).unwrap();
    assert_eq!(cache.len(), 100);
}

/// What is in memory is what is on the disk: neither has a value that could not be weighed.
#[test]
fn an_update_that_its_weigher_panics_at_changes_nothing() {
    let dir = dir();
    let open = || {
        let builder = Cache::<u64, u64>::builder().max_weight(1_000);
        let weigher = |_: &u64, value: &u64| {
            assert!(*value != 77, "not to be weighed");
            *value
        };
        builder.weigher(weigher).open(dir.path()).unwrap()
    };
    let cache = open();
    cache.insert(1, 5);
    let update = std::panic::AssertUnwindSafe(|| cache.update(&1, |value| *value = 77));
    assert!(std::panic::catch_unwind(update).is_err());
    assert_eq!((cache.get(&1), cache.weight()), (Some(5), 5));
    cache.validate();
    drop(cache);
    assert_eq!(open().get(&1), Some(5));
}

/// Notes that it was dropped, by a call that changes nothing while its thread unwinds with a lock
/// held.
#[derive(Clone, Serialize, Deserialize)]
struct Notes(u64);

static TOLD: LazyLock<Cache<u64, ()>> = LazyLock::new(|| Cache::new(1_000));

impl Drop for Notes {
    fn drop(&mut self) {
        TOLD.insert(self.0, ());
    }
}

#[test]
fn the_copy_that_an_update_changes_is_dropped_with_nothing_locked_if_it_panics() {
    let dir = dir();
    let cache = Cache::<u64, Notes>::builder().open(dir.path()).unwrap();
    cache.insert(1, Notes(1));
    TOLD.clear();
    let update = || {
        cache.update(&1, |value| {
            value.0 = 7;
            panic!("a closure's")
        })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(update)).is_err());
    assert!(TOLD.contains_key(&7));
    assert_eq!(cache.read(&1, |value| value.0), Some(1));
    cache.validate();
}

/// A key that can be written down while it is allowed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
struct Shy(u64);

static SHY: AtomicBool = AtomicBool::new(false);

impl Serialize for Shy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 1 || !SHY.load(SeqCst), "not this one");
        serializer.serialize_newtype_struct("Shy", &self.0)
    }
}

#[test]
fn the_key_of_what_is_evicted_may_panic_as_it_is_written_down() {
    let dir = dir();
    let builder = Cache::<Shy, u64>::builder().max_weight(10);
    let builder = builder.weigher(|_, value| *value);
    let cache = builder.open(dir.path()).unwrap();
    let fill = || {
        SHY.store(false, SeqCst);
        cache.clear();
        cache.insert_many([(Shy(1), 5), (Shy(2), 5)]);
        SHY.store(true, SeqCst);
    };
    fill();
    cache.insert(Shy(2), 9);
    assert_eq!((cache.get(&Shy(1)), cache.get(&Shy(2))), (None, Some(9)));
    cache.validate();
    fill();
    assert_eq!(cache.update(&Shy(2), |value| *value = 8), Some(()));
    assert_eq!((cache.get(&Shy(1)), cache.get(&Shy(2))), (None, Some(8)));
    cache.validate();
    fill();
    let keys = [Shy(2), Shy(3)];
    let done = cache.transaction(&keys, |tx| {
        tx.insert(&Shy(2), 4)?;
        tx.insert(&Shy(3), 6)
    });
    assert!(done.is_ok());
    assert_eq!((cache.get(&Shy(2)), cache.get(&Shy(3))), (Some(4), Some(6)));
    assert_eq!(cache.len(), 2);
    cache.validate();
}
