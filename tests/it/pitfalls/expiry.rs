use crate::common::{HOUR, PATIENCE, SECOND, drain, logged, timed};
use haybox::{Cache, Insert, InsertOptions, MockClock, RemovalCause, Ttl};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

const NANO: Duration = Duration::from_nanos(1);
const MICRO: Duration = Duration::from_micros(1);

#[test]
fn zero_is_gone_at_once_and_more_than_the_clock_holds_is_never() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    cache.insert_with_ttl(0, 'z', Duration::ZERO);
    assert_eq!((cache.get(&0), cache.len()), (None, 0));
    let huge = [
        Duration::MAX,
        Duration::from_nanos(u64::MAX),
        Duration::from_secs(u64::MAX),
    ];
    for ttl in huge {
        cache.insert_with_ttl(1, 'h', ttl);
        assert_eq!(cache.ttl(&1), Some(Ttl::Never), "{ttl:?}");
        assert!(cache.expire(&1, ttl));
        assert_eq!(cache.ttl(&1), Some(Ttl::Never), "{ttl:?}");
    }
    time.advance(Duration::MAX);
    assert_eq!(cache.get(&1), Some('h'), "never is never");
    cache.insert_with_ttl(2, 'l', SECOND);
    assert_eq!(
        cache.ttl(&2),
        Some(Ttl::Never),
        "a deadline that would wrap does not come"
    );
    cache.validate();
}

#[test] // theine#64
fn an_entry_expires_on_the_exact_tick() {
    for ttl in [MICRO, Duration::from_micros(999_999), SECOND, HOUR + MICRO] {
        let (cache, time) = timed(|builder| builder.max_entries(10));
        cache.insert_with_ttl(1, 'a', ttl);
        time.advance(ttl - NANO);
        assert_eq!(cache.ttl(&1), Some(Ttl::Left(NANO)), "{ttl:?}");
        assert_eq!(cache.get(&1), Some('a'), "{ttl:?}");
        time.advance(NANO);
        assert_eq!(cache.get(&1), None, "{ttl:?}");
        assert_eq!(cache.ttl(&1), None, "{ttl:?}");
    }
}

#[test]
fn what_is_no_whole_microsecond_ends_early_and_never_late() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    time.advance(NANO * 300);
    cache.insert_with_ttl(1, 'a', MICRO * 2 + NANO * 600);
    assert_eq!(cache.ttl(&1), Some(Ttl::Left(MICRO * 2 - NANO * 300)));
    time.advance(MICRO * 2 - NANO * 301);
    assert_eq!(cache.get(&1), Some('a'));
    time.advance(NANO);
    assert_eq!(cache.get(&1), None);
    cache.insert_with_ttl(2, 'b', NANO * 999);
    assert_eq!(cache.get(&2), None, "nothing is left of it");
    cache.validate();
}

#[test] // moka#549
fn an_expired_entry_that_is_written_anew_to_never_expire_is_readable() {
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(SECOND));
    cache.insert(1, 'a');
    time.advance(SECOND * 2);
    assert_eq!(
        cache.insert_with(1, 'b', InsertOptions::new().no_ttl()),
        Insert::Inserted
    );
    time.advance(HOUR);
    assert_eq!(
        (cache.get(&1), cache.ttl(&1)),
        (Some('b'), Some(Ttl::Never))
    );
    cache.insert(2, 'c');
    assert!(cache.persist(&2));
    time.advance(HOUR);
    assert_eq!(cache.get(&2), Some('c'));
}

#[test] // caffeine#30
fn an_entry_that_is_written_while_it_expires_survives() {
    let (cache, time) = timed(|builder| builder.max_entries(100).time_to_live(SECOND));
    for key in 0..50 {
        cache.insert(key, 'a');
    }
    time.advance(SECOND);
    for key in 0..50 {
        cache.insert(key, 'b');
    }
    assert_eq!(cache.sweep(), 0, "the old ones left as the new ones came");
    assert_eq!((cache.len(), cache.get(&7)), (50, Some('b')));
}

#[test] // caffeine#30
fn the_time_of_an_entry_may_run_out_while_it_is_changed() {
    let weigh = |_: &u32, value: &u32| u64::from(*value);
    let (cache, time) = timed(|builder| builder.max_weight(10).weigher(weigh));
    cache.insert_with_ttl(1, 4, SECOND);
    cache.insert(2, 6);
    let changed = cache.update(&1, |value| {
        time.advance(SECOND);
        *value = 8;
    });
    assert_eq!(changed, Some(()));
    assert_eq!(cache.get(&1), None, "its time is up all the same");
    cache.validate();

    cache.insert_with_ttl(1, 1, SECOND);
    cache.compute(&1, |_| {
        time.advance(SECOND);
        haybox::Op::Put(9)
    });
    assert_eq!(
        cache.get(&1),
        Some(9),
        "a write that is given a new TTL survives"
    );
    cache.validate();

    cache.clear();
    cache.insert_with_ttl(1, 1, SECOND);
    cache.insert_with_ttl(3, 5, SECOND);
    let done: Result<(), ()> = cache.transaction(&[1, 3], |tx| {
        time.advance(SECOND);
        tx.insert(&1, 9).map_err(drop)
    });
    assert_eq!(
        (done, cache.get(&1), cache.get(&3)),
        (Ok(()), Some(9), None)
    );
    cache.validate();
}

#[test]
fn whether_an_entry_has_expired_is_decided_after_the_wait_for_the_lock() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    cache.insert_with_ttl(1, 'a', SECOND);
    let (entered, has_entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    thread::scope(|scope| {
        let cache = &cache;
        scope.spawn(move || {
            cache.update(&1, |_| {
                entered.send(()).unwrap();
                may_go_on.recv_timeout(PATIENCE).unwrap();
            })
        });
        has_entered.recv_timeout(PATIENCE).unwrap();
        let (started, has_started) = mpsc::channel();
        let read = scope.spawn(move || {
            started.send(()).unwrap();
            cache.get(&1)
        });
        has_started.recv_timeout(PATIENCE).unwrap();
        time.advance(SECOND);
        go_on.send(()).unwrap();
        assert_eq!(read.join().unwrap(), None);
    });
}

#[test] // moka#349, moka#379, moka#544
fn an_idle_cache_releases_what_has_expired() {
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_entries(10_000)
        .time_to_live(SECOND * 60)
        .clock(time.clock());
    let (builder, log) = logged(builder);
    let cache = builder.build().unwrap();
    cache.insert_many((0..5_000u32).map(|key| (key, key)));
    time.advance(SECOND * 59);
    assert_eq!((cache.len(), drain(&log).len()), (5_000, 0));
    time.advance(SECOND);
    assert_eq!(cache.len(), 0);
    let told = drain(&log);
    assert_eq!(told.len(), 5_000);
    assert!(
        told.iter()
            .all(|(_, _, cause)| *cause == RemovalCause::Expired)
    );
}

#[test] // ristretto#329
fn what_was_evicted_leaves_no_trace_in_the_bookkeeping_of_expiry() {
    let time = MockClock::new();
    let (builder, log) = logged(Cache::builder().max_entries(50).clock(time.clock()));
    let cache = builder.build().unwrap();
    for key in 0..5_000u32 {
        cache.insert_with_ttl(key, key, SECOND * 10);
    }
    let evicted = drain(&log);
    assert_eq!(evicted.len(), 4_950);
    for key in 0..5_000 {
        cache.remove(&key);
    }
    drain(&log);
    time.advance(SECOND * 20);
    assert_eq!(
        drain(&log),
        [],
        "nothing expires that was evicted or removed"
    );
    assert_eq!((cache.sweep(), cache.stats().expirations), (0, 0));
}

#[test] // ristretto#426
fn a_wall_clock_that_jumps_years_moves_no_deadline() {
    let (cache, time) = timed(|builder| builder.max_entries(1_000).time_to_live(HOUR));
    cache.insert_many((0..1_000).map(|key| (key, key)));
    for years in [0, 50, 1, 300] {
        time.set_system_time(SystemTime::UNIX_EPOCH + Duration::from_secs(years * 31_556_952));
        assert_eq!((cache.sweep(), cache.len()), (0, 1_000));
        assert_eq!(cache.ttl(&1), Some(Ttl::Left(HOUR)));
    }
}

#[test] // redis#15620
fn a_hundred_thousand_volatile_keys_are_released_within_one_sweep_interval() {
    let time = MockClock::new();
    let cache = Cache::builder().clock(time.clock()).build().unwrap();
    for key in 0..100_000u64 {
        cache.insert_with_ttl(key, key, Duration::from_millis(1 + key % 10_000));
    }
    for second in 1..=10 {
        time.advance(SECOND);
        assert_eq!(cache.len(), 100_000 - second * 10_000);
    }
}
