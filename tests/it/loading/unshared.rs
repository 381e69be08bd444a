//! Values that nobody may have but the caller that has loaded them.

use super::{Gate, Numbers, assert_settled, block_on, poll_once, spawning, until_waiting};
use crate::common::{SECOND, timed};
use haybox::{Cache, CacheBuilder, Freshness, Loaded, Source};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;

fn cache() -> Numbers {
    Cache::new(100)
}

#[test]
fn it_is_given_to_its_caller_and_stored_nowhere() {
    let cache = cache();
    let rows = cache.read_through(|key| Ok::<_, ()>(Loaded::unshared(*key)));
    for _ in 0..2 {
        assert_eq!(rows.get_with_source(&1), Ok((Some(1), Source::Loaded)));
    }
    let load = |keys: Vec<u32>| keys.into_iter().map(|key| (key, Loaded::unshared(key)));
    assert_eq!(
        cache.get_many_or_insert_with(&[1, 2], load),
        [Some(1), Some(2)]
    );
    assert_eq!((cache.len(), cache.stats().loads), (0, 3));
    assert_settled(&cache);
}

#[test]
fn it_takes_the_old_value_away() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .time_to_live(SECOND)
            .freshness(Freshness::new().stale_if_error(SECOND * 9))
    });
    let rows = cache.read_through(|key| Ok::<_, ()>(Loaded::unshared(*key)));
    for ago in [std::time::Duration::ZERO, SECOND] {
        cache.insert(1, 7);
        time.advance(ago);
        assert_eq!(rows.refresh(&1), Ok(Some(1)));
        assert_eq!(cache.len(), 0);
    }
    assert_settled(&cache);
}

#[test]
fn threads_that_wait_for_it_load_for_themselves() {
    const CROWD: u32 = 8;
    let (cache, loads) = (cache(), Arc::<AtomicU32>::default());
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let own = {
        let loads = Arc::clone(&loads);
        move || Loaded::unshared(loads.fetch_add(1, SeqCst))
    };
    let of_rows = own.clone();
    let rows = cache.read_through(move |_| Ok::<_, ()>(of_rows()));
    let ask_many = || cache.get_many_or_insert_with(&[1], |_| [(1, own())])[0];
    let ask_one = || rows.get(&1).unwrap();
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            cache.get_many_or_insert_with(&[1], |_| {
                may_go_on.lock().unwrap().recv().unwrap();
                [(1, own())]
            })
        });
        while cache.loads_under_way() == 0 {
            thread::yield_now();
        }
        let crowd: Vec<_> = (0..CROWD)
            .map(|at| match at % 2 {
                0 => scope.spawn(ask_many),
                _ => scope.spawn(ask_one),
            })
            .collect();
        until_waiting(&cache, u64::from(CROWD));
        go_on.send(()).unwrap();
        assert_eq!(leader.join().unwrap(), [Some(0)]);
        let mut got: Vec<_> = crowd
            .into_iter()
            .filter_map(|call| call.join().unwrap())
            .collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(1..=CROWD), "each has one of its own");
    });
    assert_eq!(cache.get(&1), None);
    assert_settled(&cache);
}

/// That it still holds would be an answer about a value that the source keeps for nobody.
#[test]
fn who_loads_for_itself_is_shown_no_old_value() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .time_to_live(SECOND)
            .freshness(Freshness::new().stale_if_error(SECOND * 9))
    });
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (may_go_on, seen) = (Mutex::new(may_go_on), Arc::<Mutex<Vec<_>>>::default());
    let sees = Arc::clone(&seen);
    let rows = cache.read_through_revalidating(move |_: &u32, old| {
        sees.lock().unwrap().push(old.copied());
        may_go_on.lock().unwrap().recv().unwrap();
        Ok::<_, ()>(Loaded::unshared(1))
    });
    cache.insert(1, 7);
    time.advance(SECOND);
    thread::scope(|scope| {
        let calls = [(); 2].map(|()| scope.spawn(|| rows.get(&1)));
        until_waiting(&cache, 1);
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        for call in calls {
            assert_eq!(call.join().unwrap(), Ok(Some(1)));
        }
    });
    assert_eq!(*seen.lock().unwrap(), [Some(7), None]);
    assert_settled(&cache);
}

#[test]
fn tasks_that_wait_for_it_load_at_once() {
    let cache = cache();
    let gate = Gate::default();
    let loads = AtomicU32::new(0);
    let of_loader = gate.clone();
    let rows = cache.read_through_async(move |_: u32| {
        let (gate, number) = (of_loader.clone(), loads.fetch_add(1, SeqCst));
        async move {
            gate.pass().await;
            Ok::<_, ()>(Loaded::unshared(number))
        }
    });
    let mut calls = [(); 4].map(|()| Box::pin(rows.get_with_source(&1)));
    let mut plain = Box::pin(cache.get_or_load(&1, || async { 77 }));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert!(poll_once(plain.as_mut()).is_pending());
    gate.open();
    for (call, number) in calls.iter_mut().zip(0..) {
        let answer = Poll::Ready(Ok((Some(number), Source::Loaded)));
        assert_eq!(poll_once(call.as_mut()), answer);
    }
    assert_eq!(poll_once(plain.as_mut()), Poll::Ready(77));
    assert_eq!(cache.get(&1), None, "who loads alone stores nothing");
    assert_settled(&cache);
}

#[test]
fn who_has_it_loaded_by_a_task_gets_it_and_nobody_else() {
    let (cache, _, spawned) = spawning(Freshness::new());
    let loads = AtomicU32::new(0);
    let rows = cache.read_through_async(move |_: u32| {
        let number = loads.fetch_add(1, SeqCst);
        async move { Ok::<_, ()>(Loaded::unshared(number)) }
    });
    let (mut own, mut other) = (Box::pin(rows.get(&1)), Box::pin(rows.get(&1)));
    assert!(poll_once(own.as_mut()).is_pending());
    assert!(poll_once(other.as_mut()).is_pending());
    spawned.run();
    assert_eq!(poll_once(other.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(own.as_mut()), Poll::Ready(Ok(Some(0))));
    assert_eq!(cache.len(), 0);
    assert_settled(&cache);
}

#[test]
fn a_write_meanwhile_stays() {
    let cache = cache();
    let gate = Gate::default();
    let of_loader = gate.clone();
    let rows = cache.read_through_async(move |_: u32| {
        let gate = of_loader.clone();
        async move {
            gate.pass().await;
            Ok::<_, ()>(Loaded::unshared(1))
        }
    });
    let mut call = Box::pin(rows.get(&1));
    assert!(poll_once(call.as_mut()).is_pending());
    cache.insert(1, 5);
    gate.open();
    assert_eq!(block_on(call), Ok(Some(1)));
    assert_eq!(cache.get(&1), Some(5));
    assert_settled(&cache);
}

#[test]
fn each_load_of_those_who_waited_for_it_is_counted() {
    let (cache, gate) = (cache(), Gate::default());
    let rows = cache.read_through_async({
        let gate = gate.clone();
        move |key| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, ()>(Loaded::unshared(key))
            }
        }
    });
    let mut calls = [(); 3].map(|()| Box::pin(rows.get(&1)));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    gate.open();
    for call in &mut calls {
        assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(Some(1))));
    }
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.waits), (3, 2));
    assert_settled(&cache);
}
