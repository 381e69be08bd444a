//! What a blocking caller may rely on, beside what the pitfalls have.

use super::{assert_settled, until_waiting};
use crate::common::{PATIENCE, SECOND, panic_of, place_of_panic, timed};
use haybox::{Cache, InsertOptions};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn the_time_out_of_a_thread_is_on_the_clock_of_the_cache() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            cache.get_or_insert_with(&1, || {
                entered.send(()).unwrap();
                may_go_on.recv_timeout(PATIENCE).unwrap();
                "late"
            })
        });
        has_entered.recv_timeout(PATIENCE).unwrap();
        let waiter = scope.spawn(|| cache.get_or_insert_with(&1, || "own"));
        while time.timers() == 0 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(waiter.join().unwrap(), "own");
        go_on.send(()).unwrap();
        assert_eq!(leader.join().unwrap(), "late");
    });
    assert_eq!(cache.get(&1), Some("own"));
    assert_eq!(time.timers(), 0);
    assert_settled(&cache);
}

#[test]
fn the_callers_own_keys_need_not_outlive_their_calls() {
    let cache: Cache<String, u32> = Cache::new(10);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let cache = &cache;
        let leader = scope.spawn(move || {
            let key = String::from("key");
            cache.get_or_insert_with(key.as_str(), || {
                drop(cache.remove("key"));
                may_go_on.recv_timeout(PATIENCE).unwrap();
                1
            })
        });
        let waiter = scope.spawn(|| {
            let key = String::from("key");
            let loaded = cache.get_or_insert_with(key.as_str(), || 2);
            drop(key);
            go_on.send(()).unwrap();
            loaded
        });
        assert!((1..=2).contains(&waiter.join().unwrap()));
        assert!((1..=2).contains(&leader.join().unwrap()));
    });
    assert_settled(&cache);
}

#[test]
fn where_all_loaders_panic_each_caller_runs_its_own_once_one_after_the_other() {
    const WAITERS: u32 = 5;
    let cache: Cache<u32, u32> = Cache::new(10);
    let (loads, is_loading) = (AtomicU32::new(0), AtomicBool::new(false));
    let load = || -> u32 {
        assert!(!is_loading.swap(true, SeqCst), "one load at a time");
        if loads.fetch_add(1, SeqCst) == 0 {
            until_waiting(&cache, u64::from(WAITERS));
        }
        is_loading.store(false, SeqCst);
        resume_unwind(Box::new("no source"))
    };
    thread::scope(|scope| {
        let call = || panic_of(|| cache.get_or_insert_with(&1, load));
        let calls: Vec<_> = (0..=WAITERS).map(|_| scope.spawn(call)).collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), "no source");
        }
    });
    assert_eq!(loads.load(SeqCst), 1 + WAITERS);
    assert_settled(&cache);
}

#[test]
fn a_panic_of_a_call_for_several_keys_points_at_the_call() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let load = |_| [(3, 3)];
    let many = || cache.get_many_or_insert_with(&[3], load);
    let line = line!() - 1;
    let within = || cache.get_or_find_with(&3, || many()[0]);
    assert_eq!(place_of_panic(within), (file!().to_owned(), line));
    let other = || cache.transaction(&[1], |tx| tx.insert(&2, 2));
    assert_eq!(place_of_panic(other), (file!().to_owned(), line!() - 1));
    let looks = || cache.transaction(&[1], |tx| Ok::<_, ()>(tx.get(&2).copied()));
    assert_eq!(place_of_panic(looks), (file!().to_owned(), line!() - 1));
    assert_settled(&cache);
}

#[test]
fn what_is_loaded_takes_the_place_of_an_entry_with_a_tag_and_has_none() {
    let cache: Cache<u32, u32> = Cache::new(1);
    cache.insert(0, 0);
    let loaded = cache.get_or_insert_with(&1, || {
        cache.insert_with(0, 0, InsertOptions::new().tag("row"));
        1
    });
    assert_eq!((loaded, cache.len()), (1, 1));
    cache.invalidate_tag("row");
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn what_is_loaded_takes_the_place_of_an_entry_whose_time_is_up() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    let moment = Duration::from_millis(1);
    for round in 1..=3u32 {
        let previous = cache.insert_with_ttl(1, 0, moment);
        assert_eq!(previous, (round > 1).then_some(round - 1));
        // No sweep is due yet.
        time.advance(moment);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.get_or_insert_with(&1, || round), round);
        assert_eq!((cache.len(), cache.get(&1)), (1, Some(round)));
        assert_eq!(cache.stats().expirations, u64::from(round));
    }
    cache.validate();
    assert_settled(&cache);
}

/// A value of a thread that asks a cache when the thread ends.
struct Late(std::rc::Rc<std::cell::OnceCell<haybox::Cache<u32, u32>>>);

impl Drop for Late {
    fn drop(&mut self) {
        let cache = self.0.get().expect("the thread has set it");
        assert_eq!(
            cache.get_or_insert_with(&2, || cache.get_or_insert_with(&3, || 3)),
            3
        );
    }
}

thread_local!(static LATE: Late = Late(std::rc::Rc::default()));

#[test]
fn a_thread_that_ends_may_load_until_its_end() {
    let cache: haybox::Cache<u32, u32> = haybox::Cache::new(10);
    let of_thread = cache.clone();
    let thread = thread::spawn(move || {
        LATE.with(|late| late.0.set(of_thread.clone()).unwrap());
        assert_eq!(
            of_thread.get_or_insert_with(&1, || of_thread.get_or_insert_with(&4, || 1)),
            1
        );
    });
    thread.join().unwrap();
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(1), Some(3), Some(3)]);
    assert_settled(&cache);
}
