use crate::common::{Fragile, INSIDE, SECOND, drain, logged, panic_of, timed};
use haybox::{Cache, EventKind, MockClock, RemovalCause};
use std::future::Future;
use std::panic::panic_any;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;

#[test] // moka#391
fn a_panicking_listener_is_counted_and_stays_enabled() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let listener = move |key: u32, _: u32, _| {
        counted.fetch_add(1, SeqCst);
        match key % 4 {
            1 => panic!("the listener fails"),
            3 => panic_any(Fragile),
            _ => {}
        }
    };
    let cache = Cache::builder()
        .max_entries(10)
        .removal_listener(listener)
        .build()
        .unwrap();
    for key in 0..10 {
        cache.insert(key, key);
        assert_eq!(cache.remove(&key), Some(key));
    }
    assert_eq!(calls.load(SeqCst), 10);
    assert_eq!(cache.stats().listener_panics, 5);
    cache.validate();
}

#[test] // moka#298
fn a_listener_may_call_the_cache() {
    static CACHE: OnceLock<Cache<u32, u32>> = OnceLock::new();
    let listener = |key: u32, value: u32, cause| {
        let cache = CACHE.get().unwrap();
        if cause == RemovalCause::Capacity {
            cache.insert(key + 1_000, value);
            cache.update(&(key + 1_000), |value| *value += 1);
            cache.remove(&(key + 1_000));
            cache.get_or_insert_with(&5_000, || 1);
            cache.retain(|key, _| *key != 5_000);
        }
    };
    let cache = CACHE.get_or_init(|| {
        Cache::builder()
            .max_entries(20)
            .removal_listener(listener)
            .build()
            .unwrap()
    });
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..300).for_each(|key| drop(cache.insert(key * 4 + thread, key))));
        }
    });
    cache.validate();
    assert!(cache.len() <= 20);
}

/// A value whose end calls the cache.
#[derive(Clone)]
struct CallsOnDrop(Option<Cache<u32, CallsOnDrop>>, Arc<AtomicU32>);

impl Drop for CallsOnDrop {
    fn drop(&mut self) {
        if let Some(cache) = self.0.take() {
            cache.insert(77, CallsOnDrop(None, Arc::clone(&self.1)));
            cache.update(&77, |_| ());
            cache.remove(&77);
            self.1.fetch_add(1, SeqCst);
        }
    }
}

#[test] // moka#298
fn the_drop_of_a_value_may_call_the_cache_however_it_leaves() {
    let ends = Arc::new(AtomicU32::new(0));
    let (cache, time) = timed(|builder| builder.max_entries(3));
    let value = || CallsOnDrop(Some(cache.clone()), Arc::clone(&ends));
    let ended = |expected: u32, how: &str| {
        assert_eq!(ends.swap(0, SeqCst), expected, "{how}");
        cache.validate();
    };
    (0..6).for_each(|key| drop(cache.insert(key, value())));
    cache.clear();
    ended(6, "evicted and cleared");

    cache.insert(1, value());
    cache.insert(1, value());
    ended(1, "replaced");
    cache.remove(&1);
    ended(1, "removed");

    cache.insert_with_ttl(1, value(), SECOND);
    time.advance(SECOND);
    assert_eq!(cache.sweep(), 1);
    ended(1, "swept");
    cache.insert_with_ttl(1, value(), SECOND);
    time.advance(SECOND);
    cache.insert(1, value());
    ended(1, "expired and overwritten");

    cache.retain(|_, _| false);
    ended(1, "not retained");
    cache.insert_with(1, value(), haybox::InsertOptions::new().if_present());
    ended(1, "not stored");
    cache.compute(&1, |_| haybox::Op::Put(value()));
    let done: Result<(), ()> = cache.transaction(&[1, 2], |tx| {
        tx.remove(&1);
        tx.insert(&2, value()).map_err(drop)
    });
    assert_eq!(done, Ok(()));
    ended(1, "removed by a transaction");
    let done: Result<(), ()> = cache.transaction(&[2], |tx| {
        tx.insert(&2, value()).map_err(drop)?;
        Err(())
    });
    assert_eq!(done, Err(()));
    ended(1, "staged and not committed");
    cache.expire(&2, std::time::Duration::ZERO);
    ended(1, "expired by hand");
}

#[test] // moka#298
fn a_closure_that_calls_a_cache_panics_with_a_sentence() {
    let cache: Cache<u32, u32> = Cache::new(10);
    cache.insert(1, 1);
    let other: Cache<u32, u32> = Cache::new(10);
    assert!(panic_of(|| cache.read(&1, |_| cache.get(&2))).starts_with(INSIDE));
    assert!(
        panic_of(|| cache.read(&1, |_| other.get(&2))).starts_with(INSIDE),
        "on any cache"
    );
    assert_eq!(cache.get(&1), Some(1), "and does no harm");
}

#[test] // stretto#27
fn nothing_that_a_call_returns_holds_a_lock_across_an_await() {
    let cache: Cache<u32, String> = Cache::new(1);
    cache.insert(1, "old".to_owned());
    let mut polled = false;
    let mut task = pin!(async {
        let value = cache.get(&1);
        let mut entries = cache.iter();
        let first = entries.next();
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut polled, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        (value, first, entries.next())
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(task.as_mut().poll(&mut context).is_pending());
    thread::scope(|scope| {
        scope
            .spawn(|| cache.insert(1, "new".to_owned()))
            .join()
            .unwrap()
    });
    let Poll::Ready((value, first, rest)) = task.poll(&mut context) else {
        panic!("it has no more to wait for")
    };
    assert_eq!((value.as_deref(), rest), (Some("old"), None));
    assert_eq!(first, Some((1, "old".to_owned())));
}

#[test] // moka#601
fn the_end_of_an_expired_value_is_told_before_what_comes_after_it() {
    let time = MockClock::new();
    let builder = Cache::builder()
        .max_entries(10)
        .clock(time.clock())
        .sweep_interval(SECOND * 100);
    let (builder, log) = logged(builder);
    let cache = builder.build().unwrap();
    let events = cache.events(10);
    cache.insert_with_ttl(1, 'a', SECOND);
    time.advance(SECOND);
    assert_eq!(
        cache.insert(1, 'b'),
        None,
        "an expired value is not replaced"
    );
    assert_eq!(drain(&log), [(1, 'a', RemovalCause::Expired)]);
    let kinds: Vec<_> = events.try_iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Inserted,
            EventKind::Removed(RemovalCause::Expired),
            EventKind::Inserted
        ]
    );
}
