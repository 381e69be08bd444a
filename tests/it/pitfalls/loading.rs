use crate::common::{PATIENCE, SECOND, panic_of, timed};
use haybox::{Cache, LoadError};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier};
use std::thread;

/// A load that another thread has begun, and that ends when it is told to.
struct Begun {
    go_on: Sender<()>,
}

impl Begun {
    fn end(self) {
        self.go_on.send(()).unwrap();
    }
}

/// What a loader calls in between.
fn gate() -> (impl FnOnce() + Send, impl FnOnce() -> Begun) {
    let (entered, has_entered): (Sender<()>, Receiver<()>) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let pass = move || {
        entered.send(()).unwrap();
        may_go_on.recv_timeout(PATIENCE).unwrap();
    };
    let begun = move || {
        has_entered.recv_timeout(PATIENCE).unwrap();
        Begun { go_on }
    };
    (pass, begun)
}

/// Invalidates a key while it is loaded, and says what is there afterwards.
fn after_invalidation(invalidate: impl Fn(&Cache<u32, &'static str>)) -> Option<&'static str> {
    let cache = Cache::new(100);
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let load = || {
            pass();
            "stale"
        };
        let leader = scope.spawn(|| cache.get_or_insert_with(&1, load));
        let load = begun();
        invalidate(&cache);
        let late = cache.get_or_insert_with(&2, || "other");
        load.end();
        assert_eq!(
            (leader.join().unwrap(), late),
            ("stale", "other"),
            "who waited gets it all the same"
        );
    });
    cache.validate();
    assert_eq!(cache.stats().discarded_loads, 1);
    cache.get(&1)
}

#[test] // caffeine#193, otter#137, foyer#1289
fn a_load_that_an_invalidation_overtook_is_not_stored() {
    assert_eq!(after_invalidation(|cache| drop(cache.remove(&1))), None);
    assert_eq!(
        after_invalidation(|cache| drop(cache.remove_if(&1, |_| true))),
        None
    );
    assert_eq!(after_invalidation(|cache| cache.retain(|_, _| true)), None);
    assert_eq!(after_invalidation(Cache::clear), None);
    let by_transaction = |cache: &Cache<u32, &'static str>| {
        let removed: Result<bool, ()> = cache.transaction(&[1], |tx| Ok(tx.remove(&1)));
        assert_eq!(removed, Ok(false));
    };
    assert_eq!(after_invalidation(by_transaction), None);
}

#[test] // caffeine#193
fn who_asks_after_an_invalidation_does_not_get_the_overtaken_value() {
    let cache = Cache::new(100);
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let load = || {
            pass();
            "stale"
        };
        let leader = scope.spawn(|| cache.get_or_insert_with(&1, load));
        let load = begun();
        cache.remove(&1);
        assert_eq!(cache.get_or_insert_with(&1, || "fresh"), "fresh");
        load.end();
        assert_eq!(leader.join().unwrap(), "stale");
    });
    assert_eq!(cache.get(&1), Some("fresh"));
    cache.validate();
}

#[test] // foyer#1310, quick-cache#40
fn a_fresh_value_survives_an_older_leader() {
    let put = |cache: &Cache<u32, &'static str>| drop(cache.insert(1, "fresh"));
    assert_eq!(after_invalidation(put), Some("fresh"));
    let compute =
        |cache: &Cache<u32, &'static str>| drop(cache.compute(&1, |_| haybox::Op::Put("fresh")));
    assert_eq!(after_invalidation(compute), Some("fresh"));
    let transaction = |cache: &Cache<u32, &'static str>| {
        cache
            .transaction(&[1], |tx| tx.insert(&1, "fresh"))
            .unwrap();
    };
    assert_eq!(after_invalidation(transaction), Some("fresh"));
    let gone_again = |cache: &Cache<u32, &'static str>| {
        cache.insert(1, "fresh");
        cache.remove(&1);
    };
    assert_eq!(after_invalidation(gone_again), None);
}

#[test] // moka#59
fn when_a_leader_panics_one_of_those_who_wait_loads() {
    let cache: Cache<u32, u32> = Cache::new(100);
    let loads = AtomicU32::new(0);
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let fail = || -> u32 {
            pass();
            panic!("the loader fails")
        };
        let leader = scope.spawn(|| panic_of(|| cache.get_or_insert_with(&1, fail)));
        let load = begun();
        let wait = || {
            cache.get_or_insert_with(&1, || {
                loads.fetch_add(1, SeqCst);
                7
            })
        };
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(wait)).collect();
        while cache.stats().waits < 4 {
            thread::yield_now();
        }
        load.end();
        assert_eq!(leader.join().unwrap(), "the loader fails");
        waiters
            .into_iter()
            .for_each(|waiter| assert_eq!(waiter.join().unwrap(), 7));
    });
    assert_eq!(loads.load(SeqCst), 1);
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
    cache.validate();
}

#[test] // caffeine#1954
fn a_load_that_does_not_end_blocks_nobody_else() {
    let (cache, time) = timed(|builder| builder.max_entries(1_000).sweep_interval(SECOND));
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let load = || {
            pass();
            0
        };
        let leader = scope.spawn(|| cache.get_or_insert_with(&0, load));
        let load = begun();
        for key in 1..1_000 {
            cache.insert_with_ttl(key, key, SECOND);
        }
        time.advance(SECOND);
        assert_eq!(cache.len(), 0, "others expire");
        assert_eq!(cache.get_or_insert_with(&1, || 1), 1, "others load");
        assert_eq!(
            cache.insert(0, 5),
            None,
            "and the key itself can be written"
        );
        load.end();
        leader.join().unwrap();
    });
    assert_eq!(cache.get(&0), Some(5));
}

/// A key that counts its copies.
#[derive(Clone, Debug)]
struct Counted(
    u32,
    #[expect(dead_code, reason = "its copies are counted")] Arc<()>,
);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Counted {}
impl std::hash::Hash for Counted {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test] // moka#295, moka#329
fn nothing_is_left_of_loads_that_have_ended() {
    let token = Arc::new(());
    let key = |number| Counted(number, Arc::clone(&token));
    let cache: Cache<Counted, u32> = Cache::new(100);
    for number in 0..50 {
        cache.get_or_insert_with(&key(number), || number);
        let failed = cache.try_get_or_insert_with(&key(number + 50), || Err::<u32, _>("no"));
        assert!(matches!(failed, Err(LoadError::Failed(_))));
        panic_of(|| cache.get_or_insert_with(&key(number + 100), || panic!("the loader fails")));
        cache.get_or_insert_with(&key(number + 150), || {
            cache.remove(&key(number + 150));
            1
        });
    }
    assert_eq!(cache.len(), 50);
    assert_eq!(
        Arc::strong_count(&token),
        51,
        "the keys of what is stored, and no others"
    );
    cache.clear();
    assert_eq!(Arc::strong_count(&token), 1);
    cache.validate();
}

#[test]
fn two_error_types_for_one_key_make_one_load() {
    let cache: Cache<u32, u32> = Cache::new(100);
    let loads = AtomicU32::new(0);
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let load = || {
            pass();
            loads.fetch_add(1, SeqCst);
            Ok::<u32, String>(5)
        };
        let leader = scope.spawn(|| cache.try_get_or_insert_with(&1, load).unwrap());
        let load = begun();
        let other = scope.spawn(|| {
            let load = || {
                loads.fetch_add(1, SeqCst);
                Err::<u32, std::num::ParseIntError>("x".parse::<u32>().unwrap_err())
            };
            cache.try_get_or_insert_with(&1, load).unwrap()
        });
        while cache.stats().waits == 0 {
            thread::yield_now();
        }
        load.end();
        assert_eq!((leader.join().unwrap(), other.join().unwrap()), (5, 5));
    });
    assert_eq!(loads.load(SeqCst), 1);
}

#[test] // moka#59
fn an_error_goes_to_all_who_waited_and_is_not_stored() {
    let cache: Cache<u32, u32> = Cache::new(100);
    let (pass, begun) = gate();
    thread::scope(|scope| {
        let fail = || {
            pass();
            Err::<u32, _>("no such row".to_owned())
        };
        let leader = scope.spawn(|| cache.try_get_or_insert_with(&1, fail));
        let load = begun();
        let wait = || cache.try_get_or_insert_with(&1, || Ok::<u32, String>(1));
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(wait)).collect();
        while cache.stats().waits < 3 {
            thread::yield_now();
        }
        load.end();
        let all: Vec<_> = waiters
            .into_iter()
            .chain([leader])
            .map(|thread| thread.join().unwrap())
            .collect();
        let errors: Vec<_> = all
            .into_iter()
            .map(|result| match result {
                Err(LoadError::Failed(error)) => error,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(
            errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])),
            "one error for all"
        );
    });
    assert_eq!(
        cache
            .try_get_or_insert_with(&1, || Ok::<u32, String>(2))
            .unwrap(),
        2
    );
}

/// A thread that has been woken is not waiting any more, even if it has not run yet.
#[test]
fn a_waiter_whose_load_has_landed_closes_no_circle() {
    for _ in 0..200 {
        let cache: Cache<char, u32> = Cache::new(10);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let load = || {
                    start.wait();
                    cache.get_or_insert_with(&'x', || 1) + 1
                };
                assert_eq!(cache.get_or_insert_with(&'y', load), 2);
            });
            let load = || {
                start.wait();
                while cache.stats().waits == 0 {
                    thread::yield_now();
                }
                1
            };
            cache.get_or_insert_with(&'x', load);
            // The other thread may still seem to wait for this one.
            assert_eq!(cache.get_or_insert_with(&'y', || 2), 2);
        });
    }
}
