//! Time: the background, policies that move deadlines, and clocks that do not behave.

use crate::common::{HOUR, PATIENCE, SECOND, drain, logged, timed};
use haybox::{
    Cache, Clock, ExpireIf, Expiry, Insert, InsertOptions, Loaded, MockClock, Op, RemovalCause, Ttl,
};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const MILLI: Duration = Duration::from_millis(1);

/// Deadlines are kept to the microsecond, and rounded down.
const MICRO: Duration = Duration::from_micros(1);

/// Waits for what another thread is to bring about, without an opinion on how long that takes.
#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::yield_now();
    }
}

// ---- real time ----

#[test]
fn the_background_releases_what_has_expired_with_no_call_from_anybody() {
    let (told, tells) = mpsc::channel();
    let listener = move |key: u32, value: String, cause| told.send((key, value, cause)).unwrap();
    let cache = Cache::builder()
        .time_to_live(MILLI * 20)
        .sweep_interval(MILLI * 10)
        .removal_listener(listener)
        .build()
        .unwrap();
    cache.insert_many((0..500).map(|key| (key, format!("value {key}"))));
    let mut keys: Vec<u32> = (0..500)
        .map(|_| {
            let (key, value, cause) = tells
                .recv_timeout(PATIENCE)
                .expect("the sweep comes by itself");
            assert_eq!(
                (value, cause),
                (format!("value {key}"), RemovalCause::Expired)
            );
            key
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..500).collect::<Vec<_>>());
    assert_eq!(cache.len(), 0);
    cache.validate();
}

#[test]
fn a_value_without_a_destructor_is_released_too() {
    let cache = Cache::builder().sweep_interval(MILLI * 10).build().unwrap();
    (0..1_000u64).for_each(|key| drop(cache.insert_with_ttl(key, key, MILLI * (key % 20) as u32)));
    cache.insert(9_999u64, 1u64);
    wait_for("the sweep", || cache.len() == 1);
    assert_eq!(cache.stats().expirations, 1_000);
}

#[test]
fn no_read_sees_an_expired_value_however_late_the_sweep() {
    let cache = Cache::builder().sweep_interval(HOUR).build().unwrap();
    let before = Instant::now();
    cache.insert_with_ttl(1, 'a', MILLI * 30);
    wait_for("the end of the TTL", || cache.get(&1).is_none());
    let lived = before.elapsed() + MICRO;
    assert!(lived >= MILLI * 30, "it ends no earlier than its time says");
    assert_eq!(
        (cache.peek(&1), cache.ttl(&1), cache.len()),
        (None, None, 1)
    );
    assert_eq!((cache.sweep(), cache.len()), (1, 0));
}

#[test]
fn a_set_that_is_held_holds_up_neither_the_sweep_of_others_nor_a_clock_that_is_moved() {
    let time = MockClock::new();
    let cache = Cache::builder()
        .max_entries(10_000)
        .clock(time.clock())
        .build()
        .unwrap();
    cache.insert(0, 0);
    (1..5_000).for_each(|key| drop(cache.insert_with_ttl(key, key, SECOND)));
    let ((entered, has_entered), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        let held = &cache;
        scope.spawn(move || {
            held.update(&0, |_| {
                entered.send(()).unwrap();
                let moved = may_go_on.recv_timeout(PATIENCE);
                moved.expect("the clock is moved meanwhile");
            })
        });
        has_entered.recv_timeout(PATIENCE).unwrap();
        time.advance(SECOND * 2);
        // What is in the set that is held, and no more.
        assert!((1..100).contains(&cache.len()), "{}", cache.len());
        go_on.send(()).unwrap();
    });
    time.advance(SECOND);
    assert_eq!(cache.len(), 1);
    cache.validate();
}

/// A value whose end waits to be let go.
struct Blocks(Arc<(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>)>);

impl Drop for Blocks {
    fn drop(&mut self) {
        self.0.0.send(()).unwrap();
        self.0.1.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_destructor_that_blocks_holds_up_no_cache_that_has_none() {
    let ((entered, has_entered), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let gate = Arc::new((entered, Mutex::new(may_go_on)));
    let blocked = Cache::builder().sweep_interval(MILLI).build().unwrap();
    blocked.insert_with_ttl(1, Blocks(gate), MILLI);
    has_entered
        .recv_timeout(PATIENCE)
        .expect("the value expires in the background");

    let other = Cache::builder().sweep_interval(MILLI).build().unwrap();
    (0..100u32).for_each(|key| drop(other.insert_with_ttl(key, key, MILLI)));
    wait_for("the sweep of the other cache", || other.is_empty());
    assert!(
        blocked.is_empty() && !blocked.contains_key(&1),
        "the cache itself is not locked"
    );
    blocked.insert_with_ttl(
        2,
        Blocks(Arc::new((mpsc::channel().0, Mutex::new(mpsc::channel().1)))),
        HOUR,
    );
    assert!(blocked.contains_key(&2));
    std::mem::forget(blocked.remove(&2));
    go_on.send(()).unwrap();
}

#[test]
fn a_destructor_or_listener_that_panics_in_the_background_stops_nothing() {
    struct Fails(bool, mpsc::Sender<()>);
    impl Drop for Fails {
        fn drop(&mut self) {
            self.1.send(()).unwrap();
            assert!(!self.0 || thread::panicking(), "the destructor fails");
        }
    }
    let (told, tells) = mpsc::channel();
    let cache = Cache::builder().sweep_interval(MILLI).build().unwrap();
    for key in 0..20 {
        cache.insert_with_ttl(key, Fails(true, told.clone()), MILLI);
        tells
            .recv_timeout(PATIENCE)
            .expect("the background goes on");
    }
}

#[test]
fn the_background_keeps_no_cache_alive() {
    let token = Arc::new(());
    for _ in 0..200 {
        let cache = Cache::builder()
            .sweep_interval(MILLI)
            .time_to_live(HOUR)
            .build()
            .unwrap();
        cache.insert(1, Arc::clone(&token));
        drop(cache);
    }
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_thousand_caches_expire_side_by_side() {
    let caches: Vec<_> = (0..1_000)
        .map(|number| {
            let cache = Cache::builder()
                .max_entries(10)
                .sweep_interval(MILLI * 5)
                .build()
                .unwrap();
            cache.insert_with_ttl(number, number, MILLI * 5);
            cache
        })
        .collect();
    wait_for("every sweep", || caches.iter().all(Cache::is_empty));
}

#[test]
fn the_real_clock_gives_a_deadline_on_the_wall() {
    let cache: Cache<u32, u32> = Cache::builder().clock(Clock::real()).build().unwrap();
    let before = SystemTime::now();
    cache.insert_with_ttl(1, 1, HOUR);
    let deadline = cache.deadline(&1).unwrap().unwrap();
    // One tick of the kernel early is allowed.
    assert!(deadline > before + HOUR - SECOND && deadline < SystemTime::now() + HOUR + SECOND);
    assert!(
        matches!(cache.ttl(&1), Some(Ttl::Left(left)) if left <= HOUR && left > HOUR - PATIENCE)
    );
}

// ---- mock time ----

#[test]
fn the_mock_clock_sweeps_when_the_interval_has_passed_and_not_before() {
    let time = MockClock::new();
    let cache = Cache::builder()
        .clock(time.clock())
        .sweep_interval(SECOND * 10)
        .build()
        .unwrap();
    cache.insert_with_ttl(1, 1, SECOND);
    time.advance(SECOND * 9);
    assert_eq!(
        (cache.len(), cache.get(&1)),
        (1, None),
        "gone, and not released yet"
    );
    time.advance(SECOND);
    assert_eq!(cache.len(), 0);
}

/// Each is the first call that gives an entry of its cache a deadline.
#[test]
fn a_cache_is_swept_whichever_call_gives_it_its_first_deadline() {
    type Call = fn(&Cache<u32, u32>);
    let calls: [(&str, Call); 8] = [
        ("insert", |cache| {
            assert_eq!(cache.insert_with_ttl(1, 1, SECOND), None);
        }),
        ("insert with a tag", |cache| {
            let options = InsertOptions::new().ttl(SECOND).tag("red");
            assert!(cache.insert_with(1, 1, options).is_stored());
        }),
        ("compute", |cache| {
            cache.compute(&1, |_| Op::PutWithTtl(1, SECOND));
        }),
        ("expire", |cache| {
            cache.insert(1, 1);
            assert!(cache.expire(&1, SECOND));
        }),
        ("transaction", |cache| {
            let done = cache.transaction(&[1], |tx| tx.insert_with_ttl(&1, 1, SECOND));
            assert_eq!(done, Ok(()));
        }),
        ("a load", |cache| {
            let rows = cache.read_through(|_| Ok::<_, ()>(Loaded::new(1).ttl(SECOND)));
            assert_eq!(rows.get(&1), Ok(Some(1)));
        }),
        ("a load that finds nothing", |cache| {
            let rows = cache.read_through(|_| Ok::<_, ()>(Loaded::absent().ttl(SECOND)));
            assert_eq!(rows.get(&1), Ok(None));
        }),
        ("a load that finds nothing new", |cache| {
            let load = |_: &u32, _: Option<&u32>| Ok::<_, ()>(Loaded::not_modified().ttl(SECOND));
            cache.insert(1, 1);
            assert_eq!(
                cache.read_through_revalidating(load).refresh(&1),
                Ok(Some(1))
            );
        }),
    ];
    for (name, call) in calls {
        let time = MockClock::new();
        let cache = Cache::builder().clock(time.clock()).build().unwrap();
        cache.insert(2, 2);
        call(&cache);
        let held = || cache.stats().entries + cache.stats().absences;
        assert_eq!(held(), 2, "{name}");
        time.advance(HOUR);
        assert_eq!(held(), 1, "{name}");
        cache.validate();
    }
}

/// As [above](a_cache_is_swept_whichever_call_gives_it_its_first_deadline).
#[test]
fn a_cache_is_swept_whose_first_deadline_comes_with_a_read() {
    struct AfterRead;
    impl Expiry<u32, u32> for AfterRead {
        fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
            None
        }
        fn expire_after_read(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
            Some(SECOND)
        }
    }
    let time = MockClock::new();
    let builder = Cache::builder().expiry(AfterRead).clock(time.clock());
    let cache = builder.build().unwrap();
    cache.insert(1, 1);
    time.advance(HOUR);
    assert_eq!(cache.get(&1), Some(1));
    time.advance(HOUR);
    assert_eq!(cache.len(), 0);
    cache.validate();
}

#[test]
fn caches_may_share_a_mock_clock_and_leave_it() {
    let time = MockClock::new();
    let make = || {
        Cache::builder()
            .clock(time.clock())
            .time_to_live(SECOND)
            .build()
            .unwrap()
    };
    let (one, other): (Cache<u32, u32>, Cache<u32, String>) = (make(), {
        Cache::builder()
            .clock(time.clock())
            .time_to_live(SECOND * 2)
            .build()
            .unwrap()
    });
    one.insert(1, 1);
    other.insert(1, "b".to_owned());
    time.advance(SECOND);
    assert_eq!((one.len(), other.len()), (0, 1));
    drop(one);
    time.advance(SECOND);
    assert_eq!(other.len(), 0);
}

#[test]
fn jitter_takes_up_to_its_share_off_the_default_ttl_only() {
    let (cache, _time) = timed(|builder| builder.time_to_live(SECOND * 100).ttl_jitter(0.3));
    let left = |key: u32| match cache.ttl(&key) {
        Some(Ttl::Left(left)) => left.as_secs_f64(),
        other => panic!("{other:?}"),
    };
    cache.insert_many((0..2_000).map(|key| (key, key)));
    let lives: Vec<f64> = (0..2_000).map(left).collect();
    assert!(lives.iter().all(|left| (70.0..=100.0).contains(left)));
    let mean = lives.iter().sum::<f64>() / 2_000.0;
    assert!((83.0..87.0).contains(&mean), "spread evenly: {mean}");
    assert!(lives.iter().any(|left| *left < 72.0) && lives.iter().any(|left| *left > 98.0));
    cache.insert_with_ttl(1, 1, SECOND * 100);
    assert_eq!(left(1), 100.0, "a TTL that is given is taken as it is");
    assert!(cache.expire(&2, SECOND * 100));
    assert_eq!(left(2), 100.0);
}

/// Lives for as many seconds as its value says; a write adds one, a read two, to what is left.
struct ByValue;

impl Expiry<u32, u64> for ByValue {
    fn expire_after_create(&self, _: &u32, value: &u64) -> Option<Duration> {
        (*value > 0).then(|| Duration::from_secs(*value))
    }

    fn expire_after_update(&self, _: &u32, _: &u64, left: Option<Duration>) -> Option<Duration> {
        left.map(|left| left + SECOND)
    }

    fn expire_after_read(&self, _: &u32, value: &u64, left: Option<Duration>) -> Option<Duration> {
        if *value == 7 {
            left
        } else {
            left.map(|left| left + SECOND * 2)
        }
    }
}

fn seconds(left: u64) -> Option<Ttl> {
    Some(Ttl::Left(Duration::from_secs(left)))
}

#[test]
fn an_expiry_policy_decides_on_create_update_and_read() {
    let (cache, time) = timed(|builder| builder.max_entries(10).expiry(ByValue));
    cache.insert(1, 10);
    assert_eq!(cache.ttl(&1), seconds(10));
    time.advance(SECOND * 4);
    cache.insert(1, 50);
    assert_eq!(
        cache.ttl(&1),
        seconds(7),
        "an update is given what was left"
    );
    cache.get(&1);
    assert_eq!(cache.ttl(&1), seconds(9), "a read, too");
    let _ = cache.peek(&1);
    cache.update(&1, |_| ());
    assert_eq!(
        cache.ttl(&1),
        seconds(9),
        "neither a peek nor an update in place moves it"
    );
    cache.insert(2, 0);
    assert_eq!(cache.ttl(&2), Some(Ttl::Never));
    cache.get(&2);
    assert_eq!(cache.ttl(&2), Some(Ttl::Never));
    cache.insert(3, 7);
    cache.get(&3);
    assert_eq!(
        cache.ttl(&3),
        seconds(7),
        "returning what is left leaves it alone"
    );
    cache.insert_with_ttl(4, 10, SECOND * 3);
    assert_eq!(cache.ttl(&4), seconds(3), "a TTL that is given goes first");
    time.advance(SECOND * 3);
    cache.insert(4, 20);
    assert_eq!(
        cache.ttl(&4),
        seconds(20),
        "what has expired is not updated but created"
    );
    cache.validate();
}

/// On the clock of the system, from which a write reckons a TTL of a second or more by the tick.
#[test]
fn an_expiry_policy_that_returns_what_is_left_of_it_leaves_the_deadline_alone_at_each_update() {
    struct Kept;
    impl Expiry<u32, u32> for Kept {
        fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
            Some(HOUR)
        }

        fn expire_after_update(
            &self,
            _: &u32,
            _: &u32,
            left: Option<Duration>,
        ) -> Option<Duration> {
            left
        }
    }
    let cache = Cache::builder().expiry(Kept).build().unwrap();
    let began = Instant::now();
    cache.insert(1, 0);
    (0..2_000).for_each(|value| drop(cache.insert(1, value)));
    let Some(Ttl::Left(left)) = cache.ttl(&1) else {
        panic!("it lives for an hour")
    };
    assert!(left + began.elapsed() > HOUR - SECOND / 5, "{left:?}");
}

/// However long the closure takes that makes it.
#[test]
fn what_a_closure_has_made_lives_from_when_it_was_made() {
    let (ttl, idle) = (SECOND * 10, SECOND * 8);
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(ttl));
    let late = |value: u32| {
        time.advance(SECOND * 4);
        value
    };
    for _ in 0..2 {
        cache.compute(&1, |_| Op::Put(late(1)));
        assert_eq!(cache.ttl(&1), Some(Ttl::Left(ttl)));
        time.advance(SECOND);
    }
    cache.insert(2, 2);
    time.advance(ttl);
    cache.update_or_insert_with(&2, || late(2), |_| ());
    assert_eq!(cache.ttl(&2), Some(Ttl::Left(ttl)));
    cache.insert_with(3, 3, InsertOptions::new().tag("tag"));
    cache.invalidate_tag("tag");
    let done = cache.transaction(&[3, 4], |tx| {
        tx.insert(&3, late(3))?;
        tx.insert(&4, 4)
    });
    assert!(done.is_ok());
    let left = Some(Ttl::Left(ttl));
    assert_eq!((cache.ttl(&3), cache.ttl(&4)), (left, left));
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_idle(idle));
    cache.insert(1, 1);
    cache.update(&1, |_| time.advance(SECOND * 4));
    assert_eq!(cache.ttl(&1), Some(Ttl::Left(idle)));
    cache.validate();
}

#[test]
fn the_sooner_of_expiry_policy_and_time_to_live_counts() {
    let (cache, _time) = timed(|builder| {
        builder
            .max_entries(10)
            .expiry(ByValue)
            .time_to_live(SECOND * 15)
    });
    cache.insert_many([(1, 10), (2, 20), (3, 0)]);
    assert_eq!(
        [1, 2, 3].map(|key| cache.ttl(&key)),
        [seconds(10), seconds(15), seconds(15)]
    );
}

#[test]
fn an_expiry_policy_that_ends_a_life_on_read_does_so_where_idle_time_counts() {
    struct ReadOnce;
    impl Expiry<u32, u32> for ReadOnce {
        fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
            None
        }
        fn expire_after_read(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
            Some(Duration::ZERO)
        }
    }
    let (cache, _) = timed(|builder| {
        let builder = builder.max_entries(10).time_to_idle(HOUR);
        builder.expiry(ReadOnce)
    });
    cache.insert(1, 5);
    assert_eq!(cache.get(&1), Some(5));
    cache.validate();
    assert_eq!(cache.get(&1), None);
}

#[test]
fn an_expiry_policy_that_shortens_a_life_on_read_is_swept_in_time() {
    struct ReadOnce;
    impl Expiry<u32, u32> for ReadOnce {
        fn expire_after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
            Some(HOUR)
        }
        fn expire_after_read(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
            Some(Duration::ZERO)
        }
    }
    let (builder, log) = logged(Cache::builder().expiry(ReadOnce));
    let time = MockClock::new();
    let cache = builder.clock(time.clock()).build().unwrap();
    cache.insert(1, 5);
    assert_eq!(cache.get(&1), Some(5));
    assert_eq!(cache.get(&1), None);
    cache.validate();
    time.advance(SECOND);
    assert_eq!(
        (cache.len(), drain(&log)),
        (0, vec![(1, 5, RemovalCause::Expired)])
    );
}

#[test]
fn idle_time_and_ttl_end_an_entry_whichever_comes_first() {
    let (cache, time) = timed(|builder| {
        builder
            .max_entries(10)
            .time_to_live(SECOND * 10)
            .time_to_idle(SECOND * 4)
    });
    cache.insert(1, 1);
    for _ in 0..3 {
        time.advance(SECOND * 3);
        assert_eq!(cache.get(&1), Some(1));
    }
    assert_eq!(cache.ttl(&1), seconds(1), "no access outlasts the TTL");
    time.advance(SECOND);
    assert_eq!(cache.get(&1), None);

    cache.insert(2, 2);
    time.advance(SECOND * 4);
    assert_eq!(cache.get(&2), None, "idle for too long");
    cache.insert_with(3, 3, InsertOptions::new().no_ttl());
    assert_eq!(cache.ttl(&3), seconds(4));
    assert!(
        cache.expire_with(&3, HOUR, ExpireIf::NoTtl),
        "an idle time is no TTL"
    );
    assert!(!cache.expire_with(&3, HOUR, ExpireIf::NoTtl));
    for _ in 0..20 {
        time.advance(SECOND * 3);
        assert!(cache.touch(&3));
    }
    cache.validate();
}

#[test]
fn a_point_on_the_wall_clock_counts_as_the_wall_stands_during_the_call() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    let now = time.clock().system_time();
    cache.insert_many([(1, 1), (2, 2)]);
    assert!(cache.expire_at(&1, now + SECOND * 60));
    time.set_system_time(now + SECOND * 50);
    assert_eq!(
        cache.ttl(&1),
        seconds(60),
        "a step of the wall clock moves no deadline"
    );
    assert_eq!(
        cache.deadline(&1),
        Some(Some(now + SECOND * 110)),
        "but what it looks like on the wall"
    );
    assert!(cache.expire_at(&2, now + SECOND * 60));
    assert_eq!(cache.ttl(&2), seconds(10));
    assert!(cache.expire_at(&2, now), "the past is at once");
    assert_eq!((cache.get(&2), cache.len()), (None, 1));
    assert!(!cache.expire_at(&2, now + HOUR));
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * 31_556_952);
    assert!(cache.expire_at(&1, far));
    assert_eq!(
        cache.ttl(&1),
        Some(Ttl::Never),
        "what the clock cannot hold"
    );
    assert_eq!(cache.deadline(&1), Some(None));
    time.set_system_time(SystemTime::UNIX_EPOCH);
    cache.insert_with(3, 3, InsertOptions::new().expire_at(SystemTime::UNIX_EPOCH));
    assert_eq!((cache.get(&3), cache.len()), (None, 1));
}

#[test]
fn who_takes_a_key_for_no_time_is_told_so_and_so_is_the_next() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    let now = time.clock().system_time();
    let take = |options: InsertOptions| cache.insert_with(1, 1, options.if_absent());
    for options in [
        InsertOptions::new().ttl(Duration::ZERO),
        InsertOptions::new().expire_at(now),
        InsertOptions::new().expire_at(now - SECOND),
    ] {
        for _ in 0..2 {
            let taken = take(options.clone());
            assert_eq!((taken, taken.is_stored()), (Insert::Inserted, true));
            assert_eq!(cache.get(&1), None, "never held by two, as it is by none");
        }
    }
    assert_eq!(take(InsertOptions::new().ttl(SECOND)), Insert::Inserted);
    let late = take(InsertOptions::new().expire_at(now - SECOND));
    assert_eq!((late, cache.ttl(&1)), (Insert::Kept(1), seconds(1)));
}

#[test]
fn the_conditions_of_expire_with_are_those_of_redis() {
    use ExpireIf::{Always, HasTtl, Later, NoTtl, Sooner};
    let cases = [
        (None, 10, Always, true),
        (None, 10, NoTtl, true),
        (None, 10, HasTtl, false),
        (None, 10, Later, false),
        (None, 10, Sooner, true),
        (Some(20), 10, Always, true),
        (Some(20), 10, NoTtl, false),
        (Some(20), 10, HasTtl, true),
        (Some(20), 10, Later, false),
        (Some(20), 10, Sooner, true),
        (Some(20), 30, Later, true),
        (Some(20), 30, Sooner, false),
        (Some(20), 20, Later, false),
        (Some(20), 20, Sooner, false),
    ];
    for (had, wanted, condition, changes) in cases {
        let (cache, _time) = timed(|builder| builder.max_entries(10));
        let options = had.map_or(InsertOptions::new(), |had| {
            InsertOptions::new().ttl(Duration::from_secs(had))
        });
        cache.insert_with(1, 1, options);
        let changed = cache.expire_with(&1, Duration::from_secs(wanted), condition);
        assert_eq!(changed, changes, "{had:?} to {wanted}, {condition:?}");
        let left = if changes {
            seconds(wanted)
        } else {
            had.map_or(Some(Ttl::Never), seconds)
        };
        assert_eq!(cache.ttl(&1), left, "{had:?} to {wanted}, {condition:?}");
        assert!(
            !cache.expire_with(&2, SECOND, condition),
            "a missing entry is not changed"
        );
    }
}

#[test]
fn a_listener_of_the_sweep_may_use_the_cache_and_the_clock() {
    let time = MockClock::new();
    let (busy, inner) = (Arc::new(AtomicBool::new(false)), time.clone());
    let flag = Arc::clone(&busy);
    let listener = move |_: u32, _: u32, _| {
        flag.store(true, SeqCst);
        inner.advance(SECOND);
    };
    let cache = Cache::builder()
        .clock(time.clock())
        .removal_listener(listener)
        .build()
        .unwrap();
    cache.insert_with_ttl(1, 1, SECOND);
    cache.insert_with_ttl(2, 2, SECOND * 2);
    time.advance(SECOND);
    assert!(busy.load(SeqCst) && cache.get(&2).is_none());
    cache.validate();
}
