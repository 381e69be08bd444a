//! A loader bound to a cache.

use super::tasks::Fragile;
use super::{BusyPool, assert_settled, block_on, pool, until_settled, whole_pool};
use crate::common::{HOUR, PATIENCE, SECOND, panic_of, timed};
use haybox::{
    Cache, CacheBuilder, Freshness, LoadError, Loaded, LoaderError, MockClock, ReadThrough,
    ReadThroughAsync, Source,
};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// What a program would write: a table, and its rows behind a cache.
struct Users {
    database: Arc<Mutex<Connection>>,
    names: ReadThrough<String, String, rusqlite::Error>,
}

impl Users {
    fn open() -> Self {
        Self::behind(&Cache::new(100))
    }

    fn behind(cache: &Cache<String, String>) -> Self {
        let database = Connection::open_in_memory().unwrap();
        let create = "CREATE TABLE users (login TEXT PRIMARY KEY, name TEXT)";
        database.execute(create, []).unwrap();
        let database = Arc::new(Mutex::new(database));
        let reader = Arc::clone(&database);
        let names = cache.read_through(move |login: &String| {
            let query = "SELECT name FROM users WHERE login = ?1";
            let database = reader.lock().unwrap();
            let row = database.query_row(query, [login], |row| row.get::<_, String>(0));
            row.optional()
        });
        Self { database, names }
    }

    fn rename(&self, login: &str, name: &str) {
        let write = "INSERT OR REPLACE INTO users VALUES (?1, ?2)";
        let commit = || self.database.lock().unwrap().execute(write, [login, name]);
        self.names
            .cache()
            .invalidate_around([login], commit)
            .unwrap();
    }
}

#[test]
fn a_repository_reads_and_writes_through_it() {
    let users = Users::open();
    assert_eq!(users.names.get("ada").unwrap(), None);
    users.rename("ada", "Ada");
    assert_eq!(users.names.get("ada").unwrap().as_deref(), Some("Ada"));
    users.rename("ada", "Ada L.");
    assert_eq!(users.names.get("ada").unwrap().as_deref(), Some("Ada L."));
    assert_settled(users.names.cache());
}

#[test] // spiceai#12673, greptimedb#7825, drizzle#5951
fn readers_beside_a_writer_never_get_what_was_committed_over() {
    let users = Users::open();
    users.rename("ada", "0");
    let committed = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while committed.load(SeqCst) < 1_000 {
                    let before = committed.load(SeqCst);
                    let name = users.names.get("ada").unwrap().unwrap();
                    let read: u32 = name.parse().unwrap();
                    assert!(read >= before, "{read} was committed over by {before}");
                }
            });
        }
        for number in 1..=1_000u32 {
            users.rename("ada", &number.to_string());
            committed.store(number, SeqCst);
        }
    });
    assert_settled(users.names.cache());
}

#[test] // "errors are not cached, "no such row" may be, for its own time"
fn that_there_is_no_row_is_remembered_for_its_own_time_and_an_error_is_not() {
    let (cache, time) = timed(|builder| builder.max_entries(100).negative_ttl(SECOND));
    let users = Users::behind(&cache);
    let run = |statement: &str| users.database.lock().unwrap().execute_batch(statement);
    let insert = "INSERT INTO users VALUES ('ada', 'Ada')";
    assert_eq!(users.names.get("ada").unwrap(), None);
    run(insert).unwrap();
    assert_eq!(users.names.get("ada").unwrap(), None, "as is remembered");
    assert_eq!(cache.stats().loads, 1);
    time.advance(SECOND);
    run("ALTER TABLE users RENAME TO people").unwrap();
    for _ in 0..2 {
        let error = users.names.get("ada").unwrap_err().to_string();
        assert_eq!(error, "the loader failed: no such table: users");
    }
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 2));
    run("ALTER TABLE people RENAME TO users").unwrap();
    assert_eq!(users.names.get("ada").unwrap().as_deref(), Some("Ada"));
    run("DELETE FROM users").unwrap();
    users.names.invalidate("ada");
    assert_eq!(users.names.get("ada").unwrap(), None);
    users.rename("ada", "Ada L.");
    assert_eq!(
        users.names.get("ada").unwrap().as_deref(),
        Some("Ada L."),
        "a commit ends what is remembered"
    );
    assert_settled(&cache);
}

#[test]
fn an_error_of_any_type_goes_on_with_its_type_and_its_source() {
    type Any = Box<dyn Error + Send + Sync>;

    fn ask(bound: &ReadThrough<u32, u32, Any>, key: u32) -> Result<Option<u32>, Any> {
        Ok(bound.get(&key).map_err(LoadError::wrapped)?)
    }
    let cache = Cache::<u32, u32>::new(10);
    let bound = cache.read_through(|key: &u32| match key {
        0 => Err::<u32, Any>(Cause(std::fmt::Error).into()),
        key => Ok(*key),
    });
    let error = ask(&bound, 0).unwrap_err();
    assert_eq!(error.to_string(), "the loader failed: down");
    assert!(error.source().unwrap().is::<std::fmt::Error>());
    let failed = error.downcast_ref::<LoadError<LoaderError<Any>>>();
    let Some(LoadError::Failed(cause)) = failed else {
        panic!("{error}")
    };
    assert!(cause.is::<Cause>());
    assert_eq!(format!("{cause:?}"), "Cause(Error)");
    assert_eq!(ask(&bound, 1).unwrap(), Some(1));
    let late = LoadError::<Any>::TimedOut.wrapped();
    assert_eq!(late.to_string(), LoadError::<Any>::TimedOut.to_string());
    assert!(late.source().is_none());
}

#[derive(Debug)]
struct Cause(std::fmt::Error);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("down")
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn both_kinds_share_the_loads_of_their_cache() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let blocking = cache.read_through(|key: &u32| Ok::<u32, ()>(key * 2));
    let polled: ReadThroughAsync<u32, u32, ()> =
        cache.read_through_async(|_| async { Err::<u32, ()>(()) });
    assert_eq!(blocking.get(&4), Ok(Some(8)));
    assert_eq!(block_on(polled.get(&4)), Ok(Some(8)));
    polled.invalidate(&4);
    assert_eq!(cache.get(&4), None);
    assert_settled(&cache);
}

#[test]
fn the_handles_may_go_to_other_threads_and_be_named_in_a_struct() {
    fn is_handle<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: &T) {}
    let cache: Cache<u32, u32> = Cache::new(10);
    is_handle(&cache.read_through(|key| Ok::<u32, ()>(*key)));
    let polled = cache.read_through_async(|key| async move { Ok::<_, ()>(Some(key)) });
    is_handle(&polled);
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    assert_eq!(block_on(is_send(polled.get(&3))), Ok(Some(3)));
    assert_eq!(block_on(is_send(polled.refresh(&3))), Ok(Some(3)));
}

#[test]
fn a_loader_that_reads_through_itself_for_its_own_key_is_told_so() {
    let slot: Arc<Mutex<Option<ReadThrough<u32, u32, &'static str>>>> = Arc::default();
    let own = Arc::clone(&slot);
    let numbers = Cache::new(10).read_through(move |key| {
        let numbers = own.lock().unwrap().clone().unwrap();
        match numbers.get(key) {
            Err(LoadError::Reentrant) => Err::<u32, _>("circle"),
            other => panic!("{other:?}"),
        }
    });
    *slot.lock().unwrap() = Some(numbers.clone());
    assert!(matches!(numbers.get(&1), Err(LoadError::Failed(error)) if *error == "circle"));
    assert_settled(numbers.cache());
    slot.lock().unwrap().take();
}

#[test]
fn not_modified_without_an_old_value_is_a_panic_with_a_sentence() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let numbers = cache.read_through(|_| Ok::<Loaded<u32>, ()>(Loaded::not_modified()));
    assert!(panic_of(|| numbers.get(&1)).contains("not modified"));
    assert_settled(&cache);
}

#[test]
fn loads_that_the_pool_has_no_room_for_are_refused_and_counted() {
    let _pool = whole_pool();
    let time = MockClock::new();
    let cache: Cache<u32, u32> = Cache::builder()
        .clock(time.clock())
        .freshness(Freshness::new().refresh_after(SECOND))
        .build()
        .unwrap();
    cache.insert_many((0..2_000).map(|key| (key, 0)));
    time.advance(SECOND);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let numbers = cache.read_through(move |_| {
        // All wait until the sender is dropped.
        let _ = may_go_on.lock().unwrap().recv();
        Ok::<u32, ()>(1)
    });
    for key in 0..2_000 {
        assert_eq!(numbers.get(&key), Ok(Some(0)));
    }
    let refused = cache.stats().refused_refreshes;
    assert!((1_000..2_000).contains(&refused), "{refused} were refused");
    assert_eq!(cache.stats().load_failures, 0, "none of them was begun");
    drop(go_on);
    while cache.loads_under_way() > 0 {
        thread::yield_now();
    }
    let fresh = cache.iter().filter(|(_, value)| *value == 1).count();
    assert_eq!(fresh as u64, 2_000 - refused);
    assert_settled(&cache);
}

#[test]
fn a_load_that_the_pool_refuses_is_given_up_though_its_value_panics() {
    let _pool = whole_pool();
    let time = MockClock::new();
    let due = || Freshness::new().refresh_after(SECOND);
    let builder = Cache::<u32, u32>::builder().clock(time.clock());
    let crowd = builder.freshness(due()).build().unwrap();
    crowd.insert_many((0..2_000).map(|key| (key, 0)));
    let builder = Cache::<u32, Fragile>::builder().clock(time.clock());
    let cache = builder.freshness(due()).build().unwrap();
    cache.insert(1, Fragile(1));
    time.advance(SECOND);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let crowded = crowd.read_through(move |_| {
        // All wait until the sender is dropped.
        let _ = may_go_on.lock().unwrap().recv();
        Ok::<u32, ()>(1)
    });
    while crowd.stats().refused_refreshes == 0 {
        (0..2_000).for_each(|key| assert_eq!(crowded.get(&key), Ok(Some(0))));
    }
    let values = cache.read_through(|_| Ok::<Fragile, ()>(Fragile(2)));
    Fragile::panics_next();
    assert_eq!(panic_of(|| values.get(&1)), "it breaks");
    assert_settled(&cache);
    assert_eq!(values.get(&1), Ok(Some(Fragile(1))), "it is refused again");
    drop(go_on);
    while crowd.loads_under_way() > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_load_that_waits_for_the_pool_is_not_begun_when_the_cache_is_gone() {
    let busy = BusyPool::new();
    let (closed, time) = due_after_a_second();
    time.advance(SECOND);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let numbers = closed.read_through(move |_| Ok::<u32, ()>(counted.fetch_add(1, SeqCst)));
    assert_eq!(numbers.get(&1), Ok(Some(0)));
    drop((closed, numbers));
    drop(busy);
    while Arc::strong_count(&calls) > 1 {
        thread::yield_now();
    }
    assert_eq!(calls.load(SeqCst), 0);
}

/// Values of 0 that are due after a second and expire after two.
fn due_after_a_second() -> (Cache<u32, u32>, MockClock) {
    let due = Freshness::new().refresh_after(SECOND);
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.time_to_live(2 * SECOND).freshness(due));
    cache.insert_many([(1, 0), (2, 0)]);
    (cache, time)
}

type Rows = ReadThrough<u32, u32, ()>;

/// Sources that hang for others are not to be noticed where a value has expired meanwhile.
#[test]
fn who_needs_what_waits_for_the_pool_loads_it_instead() {
    let callers: [fn(&Rows); 3] = [
        |rows| assert_eq!(rows.get_with_source(&1), Ok((Some(1), Source::Loaded))),
        |rows| assert_eq!(rows.cache().get_or_insert_with(&1, || 1), 1),
        |rows| {
            let found = rows.cache().get_or_load(&1, || async { 1 });
            assert_eq!(block_on(found), 1);
        },
    ];
    for call in callers {
        let busy = BusyPool::new();
        let (cache, time) = due_after_a_second();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let rows = cache.read_through(move |_| Ok::<u32, ()>(counted.fetch_add(1, SeqCst) + 1));
        time.advance(SECOND);
        for _ in 0..2 {
            assert_eq!(rows.get_with_source(&1), Ok((Some(0), Source::Hit)));
        }
        assert_eq!((calls.load(SeqCst), cache.loads_under_way()), (0, 1));
        time.advance(SECOND);
        call(&rows);
        let begun = calls.load(SeqCst);
        assert_eq!((cache.get(&1), cache.loads_under_way()), (Some(1), 0));
        drop(busy);
        drop((rows, cache));
        while Arc::strong_count(&calls) > 1 {
            thread::yield_now();
        }
        assert_eq!(calls.load(SeqCst), begun, "what waited is not run");
    }
}

#[test]
fn who_needs_one_of_the_values_that_wait_for_the_pool_together_loads_it_instead() {
    let busy = BusyPool::new();
    let (cache, time) = due_after_a_second();
    let rows = cache.read_through_many(|keys: Vec<u32>| {
        Ok::<_, ()>(keys.into_iter().map(|key| (key, 10 * key)))
    });
    time.advance(SECOND);
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(0), Some(0)]));
    assert_eq!(cache.loads_under_way(), 2);
    time.advance(SECOND);
    assert_eq!(rows.get(&1), Ok(Some(10)));
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(10), Some(20)]));
    drop(busy);
    while cache.loads_under_way() > 0 {
        thread::yield_now();
    }
    assert_settled(&cache);
}

/// A value that has expired and may be served for long, to who has waited for half a second.
fn stale_after_a_while() -> (Cache<u32, u32>, MockClock) {
    let stale = Freshness::new()
        .stale_if_error(10_000 * HOUR)
        .soft_timeout(SECOND / 2);
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.time_to_live(SECOND).freshness(stale));
    cache.insert_many([(1, 0), (2, 0)]);
    time.advance(SECOND);
    (cache, time)
}

/// What a call that waits comes to when `call_off` has run, without the help of time.
fn woken_by<R: Send>(
    time: &MockClock,
    waits: impl FnOnce() -> R + Send,
    call_off: impl FnOnce(),
) -> R {
    thread::scope(|threads| {
        let (tell, told) = mpsc::channel();
        threads.spawn(move || tell.send(waits()).unwrap());
        while time.timers() == 0 {
            thread::yield_now();
        }
        call_off();
        let woken = told.recv_timeout(PATIENCE);
        time.advance(HOUR);
        woken.expect("it waits no longer")
    })
}

#[test]
fn who_waits_for_a_load_that_a_refresh_calls_off_takes_what_that_brings() {
    let busy = BusyPool::new();
    let (cache, time) = stale_after_a_while();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let rows = cache.read_through(move |_| Ok::<u32, ()>(counted.fetch_add(1, SeqCst) + 1));
    let refresh = || assert_eq!(rows.refresh(&1), Ok(Some(1)));
    assert_eq!(woken_by(&time, || rows.get(&1), refresh), Ok(Some(1)));
    assert_eq!(calls.load(SeqCst), 1);
    drop(busy);
    assert_settled(&cache);
}

/// A write has brought what both want, so that nobody begins a load instead.
#[test]
fn who_has_no_patience_left_for_a_load_in_the_queue_wakes_the_others_who_wait_for_it() {
    let busy = BusyPool::new();
    let stale = Freshness::new()
        .stale_if_error(10_000 * HOUR)
        .soft_timeout(HOUR);
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        let builder = builder.time_to_live(HOUR).freshness(stale);
        builder.lock_timeout(SECOND)
    });
    cache.insert(1, 0);
    time.advance(HOUR);
    let rows = cache.read_through(|_| Ok::<u32, ()>(1));
    let woken = thread::scope(|threads| {
        let (tell, told) = mpsc::channel();
        let waits = |callers| {
            let (tell, rows) = (tell.clone(), &rows);
            threads.spawn(move || tell.send(rows.get(&1)).unwrap());
            while time.timers() < callers {
                thread::yield_now();
            }
        };
        waits(1);
        time.advance(SECOND / 2);
        waits(2);
        cache.insert(1, 5);
        time.advance(SECOND / 2);
        let woken = [(); 2].map(|()| told.recv_timeout(PATIENCE));
        time.advance(HOUR);
        woken
    });
    assert_eq!(woken, [(); 2].map(|()| Ok(Ok(Some(5)))));
    drop(busy);
    assert_settled(&cache);
}

/// Nobody runs the loads that were in the queue with it.
#[test]
fn who_waits_for_several_loads_of_which_one_is_called_off_loads_the_others() {
    let busy = BusyPool::new();
    let (cache, time) = stale_after_a_while();
    let many = cache.read_through_many(|keys: Vec<u32>| {
        Ok::<_, ()>(keys.into_iter().map(|key| (key, 10 * key)))
    });
    let one = cache.read_through(|_| Ok::<u32, ()>(7));
    let refresh = || assert_eq!(one.refresh(&1), Ok(Some(7)));
    let woken = woken_by(&time, || many.get_many(&[1, 2]), refresh);
    assert_eq!(woken, Ok(vec![Some(7), Some(20)]));
    drop(busy);
    assert_settled(&cache);
}

#[test]
fn who_has_something_to_go_on_with_after_a_while_leaves_the_load_where_it_waits() {
    let busy = BusyPool::new();
    let stale = Freshness::new()
        .stale_if_error(10_000 * HOUR)
        .soft_timeout(SECOND / 2);
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.time_to_live(SECOND).freshness(stale));
    cache.insert(1, 0);
    let rows = cache.read_through(|_| Ok::<u32, ()>(1));
    time.advance(SECOND);
    for _ in 0..2 {
        let found = thread::scope(|scope| {
            let call = scope.spawn(|| rows.get_with_source(&1).unwrap());
            while !call.is_finished() {
                time.advance(Duration::from_millis(1));
                thread::yield_now();
            }
            call.join().unwrap()
        });
        assert_eq!(found, (Some(0), Source::Stale));
    }
    assert_eq!(cache.loads_under_way(), 1);
    drop(busy);
    while cache.loads_under_way() > 0 {
        thread::yield_now();
    }
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn a_load_behind_that_panics_rests_as_one_that_fails() {
    let _pool = pool();
    let time = MockClock::new();
    let cache: Cache<u32, u32> = Cache::builder()
        .clock(time.clock())
        .freshness(Freshness::new().refresh_after(SECOND))
        .build()
        .unwrap();
    cache.insert(1, 0);
    time.advance(SECOND);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let numbers = cache.read_through(move |_| {
        if counted.fetch_add(1, SeqCst) == 0 {
            std::panic::resume_unwind(Box::new("no source"));
        }
        Ok::<u32, ()>(1)
    });
    assert_eq!(numbers.get(&1), Ok(Some(0)));
    while calls.load(SeqCst) < 1 || cache.loads_under_way() > 0 {
        thread::yield_now();
    }
    for _ in 0..5 {
        assert_eq!(numbers.get(&1), Ok(Some(0)));
        assert_eq!(cache.loads_under_way(), 0, "the next attempt is put off");
    }
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(cache.stats().load_failures, 1);
    time.advance(SECOND);
    assert_eq!(numbers.get(&1), Ok(Some(0)));
    while cache.get(&1) == Some(0) {
        thread::yield_now();
    }
    while cache.loads_under_way() > 0 {
        thread::yield_now();
    }
    assert_settled(&cache);
}

#[test]
fn a_freshness_for_some_calls_goes_before_that_of_the_cache() {
    let time = MockClock::new();
    let cache: Cache<u32, u32> = Cache::builder()
        .clock(time.clock())
        .time_to_live(SECOND)
        .build()
        .unwrap();
    let rows: Arc<Mutex<HashMap<u32, u32>>> = Arc::new(Mutex::new(HashMap::from([(1, 10)])));
    let source = Arc::clone(&rows);
    let plain =
        cache.read_through(move |key| source.lock().unwrap().get(key).copied().ok_or("down"));
    let lenient = Freshness::new().stale_if_error(SECOND * 5);
    let kept = plain.with_freshness(lenient).unwrap();
    assert_eq!(kept.get(&1), Ok(Some(10)));
    rows.lock().unwrap().clear();
    time.advance(SECOND);
    assert!(plain.get(&1).is_err());
    assert_eq!(kept.get(&1), Ok(Some(10)));
    // Kept for another call, it is still too old for this one.
    let strict = Freshness::new().stale_if_error(SECOND * 2);
    let strict = plain.with_freshness(strict).unwrap();
    assert_eq!(strict.get(&1), Ok(Some(10)));
    time.advance(SECOND * 2);
    assert!(strict.get(&1).is_err());
    assert_eq!(kept.get(&1), Ok(Some(10)));
    time.advance(SECOND * 3);
    assert!(kept.get(&1).is_err());
    assert_settled(&cache);
}

#[test]
fn what_is_loaded_behind_is_kept_as_the_freshness_of_the_call_says() {
    let _pool = pool();
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| builder.time_to_live(SECOND * 10));
    let is_down = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_down);
    let rows = cache.read_through(move |_| match asked.load(SeqCst) {
        true => Err("down"),
        false => Ok(7),
    });
    let freshness = Freshness::new().refresh_after(SECOND).stale_if_error(HOUR);
    let rows = rows.with_freshness(freshness).unwrap();
    for _ in 0..2 {
        assert_eq!(rows.get(&1), Ok(Some(7)));
        until_settled(&cache);
        time.advance(SECOND);
    }
    assert_eq!(cache.stats().refreshes, 1);
    time.advance(SECOND * 10);
    is_down.store(true, SeqCst);
    assert_eq!(rows.get_with_source(&1), Ok((Some(7), Source::Stale)));
    assert_settled(&cache);
}
