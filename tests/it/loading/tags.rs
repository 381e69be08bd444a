//! Loaders that tag what they bring, and invalidations while they are at it.

use super::{Gate, assert_settled, block_on, poll_once, pool, until_waiting};
use crate::common::{HOUR, SECOND, panic_of, timed};
use haybox::{
    BoxedLoad, Cache, EvictionPolicy, Freshness, InsertOptions, LoadError, Loaded, ReadThrough,
    ReadThroughAsync,
};
use std::future::pending;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

type Numbers = Cache<u32, u32>;
type Answer = Box<dyn FnOnce() -> Loaded<u32> + Send>;

/// What a loader is to do in its next calls.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Vec<Answer>>>);

impl Script {
    fn then(&self, answer: impl FnOnce() -> Loaded<u32> + Send + 'static) {
        self.0.lock().unwrap().insert(0, Box::new(answer));
    }

    fn next(&self) -> Loaded<u32> {
        let answer = self.0.lock().unwrap().pop();
        answer.expect("it is not called so often")()
    }

    fn read_through(&self, cache: &Numbers) -> ReadThrough<u32, u32, ()> {
        let script = self.clone();
        cache.read_through_revalidating(move |_, _| Ok(script.next()))
    }
}

/// A number that is read when a load begins, and brought with the tag "x" when a gate is open. A
/// zero stands for none.
#[derive(Clone, Default)]
struct Slow {
    number: Arc<AtomicU32>,
    loads: Arc<AtomicU32>,
    gate: Gate,
}

impl Slow {
    fn of(number: u32) -> Self {
        let slow = Self::default();
        slow.number.store(number, SeqCst);
        slow
    }

    fn read_through(&self, cache: &Numbers) -> ReadThroughAsync<u32, u32, ()> {
        let slow = self.clone();
        cache.read_through_async(move |_| {
            slow.loads.fetch_add(1, SeqCst);
            let (number, gate) = (slow.number.load(SeqCst), slow.gate.clone());
            async move {
                gate.pass().await;
                let found = (number > 0).then_some(number);
                Ok(Loaded::from(found).tag("x"))
            }
        })
    }
}

fn discarded(cache: &Numbers) -> u64 {
    cache.stats().discarded_loads
}

// ---- what is stored ----

#[test]
fn a_loader_tags_a_value_by_what_it_has_read() {
    let cache = Numbers::new(10);
    let load = |key: &u32| Loaded::new(*key).tag("all").tags([key % 2, key % 3]);
    let numbers = cache.read_through(move |key| Ok::<_, ()>(load(key)));
    let tasks = cache.read_through_async(move |key| async move { Ok::<_, ()>(load(&key)) });
    for key in 1..=3 {
        assert_eq!(numbers.get(&key), Ok(Some(key)));
    }
    assert_eq!(block_on(tasks.get(&4)), Ok(Some(4)));
    cache.invalidate_tag(&2);
    let left = |cache: &Numbers| [1, 2, 3, 4].map(|key| cache.get(&key));
    assert_eq!(left(&cache), [Some(1), None, Some(3), Some(4)]);
    cache.invalidate_tag(&1);
    assert_eq!(left(&cache), [None; 4]);
    assert_eq!(numbers.get(&6), Ok(Some(6)));
    cache.invalidate_tag("all");
    assert_eq!(cache.get(&6), None);
    assert_settled(&cache);
}

#[test]
fn what_was_invalidated_during_its_load_is_not_stored() {
    let cache = Numbers::new(10);
    let script = Script::default();
    let numbers = script.read_through(&cache);
    for sweeps in [false, true] {
        let inside = cache.clone();
        script.then(move || {
            inside.invalidate_tag("x");
            if sweeps {
                // Must not forget what the load has to know when it ends.
                inside.sweep();
                inside.invalidate_tag("y");
                inside.sweep();
            }
            Loaded::new(1).tags(["w", "x"])
        });
        assert_eq!(numbers.get(&1), Ok(Some(1)));
        assert_eq!(cache.get(&1), None);
    }
    assert_eq!((cache.len(), discarded(&cache)), (0, 2));
    let inside = cache.clone();
    script.then(move || {
        inside.invalidate_tag("y");
        Loaded::new(1).tag("x")
    });
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    assert_eq!(cache.get(&1), Some(1), "it is not concerned");
    assert_settled(&cache);
}

#[test]
fn an_absence_has_tags_for_as_long_as_it_is_remembered() {
    let (cache, _) = timed(|builder| builder.negative_ttl(HOUR));
    let script = Script::default();
    let numbers = script.read_through(&cache);
    script.then(|| Loaded::absent().tag("x"));
    assert_eq!(numbers.get(&1), Ok(None));
    cache.invalidate_tag("y");
    assert_eq!(numbers.get(&1), Ok(None), "remembered");
    cache.invalidate_tag("x");
    let inside = cache.clone();
    script.then(move || {
        inside.invalidate_tag("x");
        Loaded::absent().tag("x")
    });
    assert_eq!(numbers.get(&1), Ok(None), "loaded");
    assert_eq!(discarded(&cache), 1);
    script.then(|| Loaded::new(3));
    assert_eq!(numbers.get(&1), Ok(Some(3)));
    assert_settled(&cache);
}

#[test]
fn what_was_found_out_of_a_group_is_forgotten_with_it() {
    let builder = Cache::builder().group_by(|(tenant, _): &(u32, u32)| tenant);
    let builder = builder.negative_ttl(HOUR).error_ttl(HOUR);
    let cache: Cache<(u32, u32), u32> = builder.build().unwrap();
    let fail = |key: &(u32, u32)| cache.try_get_or_insert_with(key, || Err("down"));
    let down = Err(LoadError::Failed(Arc::new("down")));
    for tenant in [1, 2] {
        assert_eq!(cache.get_or_find_with(&(tenant, 1), || None), None);
        assert_eq!(fail(&(tenant, 2)), down);
    }
    cache.invalidate_group(&1);
    for sweeps in [false, true] {
        if sweeps {
            cache.sweep();
        }
        assert_eq!(cache.get_or_find_with(&(2, 1), || Some(9)), None, "another");
        assert_eq!(cache.try_get_or_insert_with(&(2, 2), || Ok(9)), down);
        cache.invalidate_group(&1);
        assert_eq!(cache.get_or_find_with(&(1, 1), || None), None);
        assert_eq!(fail(&(1, 2)), down);
        cache.invalidate_group(&1);
    }
    assert_eq!(cache.get_or_find_with(&(1, 1), || Some(5)), Some(5));
    assert_eq!(
        cache.try_get_or_insert_with(&(1, 2), || Ok::<_, &str>(6)),
        Ok(6)
    );
    // Of a load that was under way.
    let found = cache.get_or_find_with(&(3, 1), || {
        cache.invalidate_group(&3);
        None
    });
    assert_eq!(found, None);
    assert_eq!(cache.get_or_find_with(&(3, 1), || Some(7)), Some(7));
    assert_settled(&cache);
}

#[test]
fn tags_of_loads_count_where_bytes_are_bounded() {
    let build = || -> Numbers {
        let builder = Cache::builder().max_memory(1 << 20);
        builder.weigher(|_, _| 100).build().unwrap()
    };
    let inserted = |tags: u32| {
        let cache = build();
        cache.insert_with(1, 1, InsertOptions::new().tags(0..tags));
        cache.memory()
    };
    let (cache, script) = (build(), Script::default());
    let numbers = script.read_through(&cache);
    let refresh = |answer: Loaded<u32>, tags: u32| {
        script.then(|| answer);
        assert_eq!(numbers.refresh(&1), Ok(Some(1)));
        assert_eq!(cache.memory(), inserted(tags));
        cache.validate();
    };
    refresh(Loaded::new(1).tags(0..3), 3);
    refresh(Loaded::new(1).weight(100).tags(0..5), 5);
    refresh(Loaded::not_modified(), 5);
    refresh(Loaded::not_modified().tags(0..50), 50);
    refresh(Loaded::not_modified().tag(&7), 1);
    refresh(Loaded::new(1), 0);
    script.then(|| Loaded::not_modified().tags(0..200_000));
    assert_eq!(numbers.refresh(&1), Ok(Some(1)));
    assert_eq!(cache.len(), 0, "there is no room for so many");
    assert_settled(&cache);
}

// ---- not modified ----

#[test]
fn what_is_not_modified_keeps_its_tags_unless_it_is_given_others() {
    let (cache, script) = (Numbers::new(10), Script::default());
    let numbers = script.read_through(&cache);
    script.then(|| Loaded::new(1).tags(["a", "b"]));
    script.then(Loaded::not_modified);
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    assert_eq!(numbers.refresh(&1), Ok(Some(1)));
    cache.invalidate_tag("b");
    assert_eq!(cache.get(&1), None);
    script.then(|| Loaded::new(2).tag("a"));
    script.then(|| Loaded::not_modified().tag("c"));
    assert_eq!(numbers.get(&1), Ok(Some(2)));
    let events = cache.events(10);
    assert_eq!(numbers.refresh(&1), Ok(Some(2)));
    assert!(events.try_recv().is_err());
    cache.invalidate_tag("a");
    assert_eq!(cache.get(&1), Some(2), "it has it no more");
    cache.invalidate_tag("c");
    assert_eq!(cache.get(&1), None);
    assert_settled(&cache);
}

#[test]
fn what_is_not_modified_but_was_invalidated_meanwhile_is_not_renewed() {
    for given in [None, Some("c")] {
        let (cache, script) = (Numbers::new(10), Script::default());
        let numbers = script.read_through(&cache);
        script.then(|| Loaded::new(1).tag("a"));
        assert_eq!(numbers.get(&1), Ok(Some(1)));
        let inside = cache.clone();
        script.then(move || {
            inside.invalidate_tag(given.unwrap_or("a"));
            match given {
                None => Loaded::not_modified(),
                Some(tag) => Loaded::not_modified().tag(tag),
            }
        });
        assert_eq!(numbers.refresh(&1), Ok(Some(1)));
        assert_eq!(discarded(&cache), 1);
        let old = given.map(|_| 1);
        assert_eq!(cache.get(&1), old, "its own tag was not invalidated");
        cache.invalidate_tag("a");
        assert_eq!(cache.get(&1), None);
        assert_settled(&cache);
    }
}

#[test]
fn what_is_not_modified_but_was_evicted_comes_back_with_its_tags() {
    let cache = Numbers::builder().max_entries(4);
    let cache = cache.eviction_policy(EvictionPolicy::Lru).build().unwrap();
    let script = Script::default();
    let numbers = script.read_through(&cache);
    script.then(|| Loaded::new(1).tag("a"));
    assert_eq!(numbers.get(&1), Ok(Some(1)));
    let inside = cache.clone();
    script.then(move || {
        let evicts = |key: &u32| {
            inside.insert(*key, 0);
            !inside.contains_key(&1)
        };
        assert!((2..1_000).any(|key| evicts(&key)));
        Loaded::not_modified()
    });
    assert_eq!(numbers.refresh(&1), Ok(Some(1)));
    assert_eq!(cache.get(&1), Some(1));
    cache.invalidate_tag("a");
    assert_eq!(cache.get(&1), None);
    assert_settled(&cache);
}

// ---- behind ----

#[test]
fn a_load_behind_is_as_old_as_the_call_that_began_it() {
    let _pool = pool();
    for tag in ["a", "b", "c"] {
        let tasks = Arc::new(Mutex::new(Vec::<BoxedLoad>::new()));
        let spawned = Arc::clone(&tasks);
        let (cache, time) = timed(|builder| {
            let freshness = Freshness::new().refresh_after(SECOND);
            let builder = builder.max_entries(4).freshness(freshness);
            builder.spawner(move |load| spawned.lock().unwrap().push(load))
        });
        let numbers = cache.read_through_revalidating_async(|_, old: Option<u32>| async move {
            Ok::<_, ()>(match old {
                None => Loaded::new(1).tag("a"),
                Some(1) => Loaded::new(2).tag("b"),
                Some(_) => Loaded::not_modified(),
            })
        });
        let mut first = pin!(numbers.get(&1));
        assert!(poll_once(first.as_mut()).is_pending());
        block_on(tasks.lock().unwrap().pop().unwrap());
        let refresh = |meanwhile: &dyn Fn()| {
            time.advance(SECOND);
            let old = block_on(numbers.get(&1)).unwrap();
            let task = tasks.lock().unwrap().pop().unwrap();
            meanwhile();
            block_on(task);
            old
        };
        assert_eq!(block_on(first), Ok(Some(1)));
        assert_eq!(refresh(&|| cache.invalidate_tag(tag)), Some(1));
        let left = match tag {
            "a" => Some(2),
            "b" => Some(1),
            _ => Some(2),
        };
        assert_eq!(cache.get(&1), left);
        assert_eq!(discarded(&cache), u64::from(tag == "b"));
        if left == Some(2) {
            let evict = || {
                let evicts = |key: &u32| {
                    cache.insert(*key, 0);
                    // In use as well.
                    (0..4).for_each(|_| drop(cache.get(key)));
                    !cache.contains_key(&1)
                };
                assert!((2..1_000).any(|key| evicts(&key)));
            };
            assert_eq!(refresh(&evict), Some(2));
            assert_eq!(cache.get(&1), Some(2), "its tags went with the task");
            cache.invalidate_tag("b");
            assert_eq!(cache.get(&1), None);
        }
        assert_settled(&cache);
    }
}

// ---- who waits ----

#[test]
fn who_came_after_the_invalidation_does_not_get_what_the_load_brings() {
    let cache = Numbers::new(10);
    let slow = Slow::of(1);
    let numbers = slow.read_through(&cache);
    let mut leader = pin!(numbers.get(&1));
    let mut early = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert!(poll_once(early.as_mut()).is_pending());
    slow.number.store(2, SeqCst);
    cache.invalidate_tag("x");
    let mut late = [(); 3].map(|()| Box::pin(numbers.get(&1)));
    let mut again = Box::pin(numbers.refresh(&1));
    for call in &mut late {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert!(poll_once(again.as_mut()).is_pending());
    assert_eq!(slow.loads.load(SeqCst), 1, "its tags are not known yet");
    slow.gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(early), Poll::Ready(Ok(Some(1))), "it came before");
    assert_eq!((cache.get(&1), discarded(&cache)), (None, 1));
    for call in &mut late {
        assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(Some(2))));
    }
    assert_eq!(slow.loads.load(SeqCst), 2, "one load for all of them");
    assert_eq!(poll_once(again.as_mut()), Poll::Ready(Ok(Some(2))));
    assert_eq!(cache.get(&1), Some(2));
    assert_settled(&cache);
}

#[test]
fn an_invalidation_of_other_tags_costs_who_waits_nothing() {
    let cache = Numbers::new(10);
    let slow = Slow::of(1);
    let numbers = slow.read_through(&cache);
    let mut leader = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.invalidate_tag("y");
    let mut late = pin!(numbers.get(&1));
    assert!(poll_once(late.as_mut()).is_pending());
    slow.gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(late), Poll::Ready(Ok(Some(1))));
    assert_eq!(slow.loads.load(SeqCst), 1);
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn who_came_late_is_not_told_an_absence_of_before() {
    let (cache, _) = timed(|builder| builder.negative_ttl(HOUR));
    let slow = Slow::of(0);
    let numbers = slow.read_through(&cache);
    let mut leader = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    slow.number.store(2, SeqCst);
    cache.invalidate_tag("x");
    let mut late = pin!(numbers.get(&1));
    assert!(poll_once(late.as_mut()).is_pending());
    slow.gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(Ok(None)));
    assert_eq!(poll_once(late), Poll::Ready(Ok(Some(2))));
    assert_settled(&cache);
}

/// A call for several keys and one of another form join the load as well.
#[test]
fn calls_of_every_kind_look_at_the_tags_of_what_they_waited_for() {
    let cache = Numbers::new(10);
    let slow = Slow::of(1);
    let numbers = slow.read_through(&cache);
    let mut leader = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.invalidate_tag("x");
    let load = async |missing: Vec<u32>| missing.into_iter().map(|key| (key, 2));
    let mut many = pin!(cache.get_many_or_load(&[1, 5], load));
    assert!(poll_once(many.as_mut()).is_pending());
    thread::scope(|scope| {
        let waits = cache.stats().waits;
        let of_thread = scope.spawn(|| cache.get_or_insert_with(&1, || 2));
        until_waiting(&cache, waits + 1);
        slow.gate.open();
        assert_eq!(poll_once(leader), Poll::Ready(Ok(Some(1))));
        assert_eq!(of_thread.join().unwrap(), 2);
    });
    assert_eq!(poll_once(many), Poll::Ready(vec![Some(2), Some(2)]));
    assert_settled(&cache);
}

/// What was loaded was overtaken by a write besides, so that its set does not know of it any more.
#[test]
fn a_load_that_was_overtaken_still_says_how_old_it_is() {
    let cache = Numbers::new(10);
    let slow = Slow::of(1);
    let numbers = slow.read_through(&cache);
    let mut leader = pin!(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.invalidate_tag("x");
    let mut late = pin!(numbers.get(&1));
    assert!(poll_once(late.as_mut()).is_pending());
    cache.invalidate(&1);
    slow.number.store(2, SeqCst);
    slow.gate.open();
    assert_eq!(poll_once(leader), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(late), Poll::Ready(Ok(Some(2))));
    assert_eq!(discarded(&cache), 1);
    assert_settled(&cache);
}

/// Each load that a caller waits for is invalidated: it loads for itself when its patience is over.
#[test]
fn invalidations_without_end_do_not_hold_a_caller_for_ever() {
    let (cache, time) = timed(|builder| builder.lock_timeout(SECOND * 3));
    let (began, begun) = channel();
    let begun = Mutex::new(begun);
    let numbers = cache.read_through_async(move |_| {
        let gate = Gate::default();
        began.send(gate.clone()).unwrap();
        async move {
            gate.pass().await;
            Ok::<_, ()>(Loaded::new(1).tag("x"))
        }
    });
    let next = || begun.lock().unwrap().try_recv().unwrap();
    let mut leader = Box::pin(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.invalidate_tag("x");
    let mut late = pin!(numbers.get(&1));
    assert!(poll_once(late.as_mut()).is_pending());
    let gate = next();
    time.advance(SECOND);
    gate.open();
    assert_eq!(poll_once(leader.as_mut()), Poll::Ready(Ok(Some(1))));
    // Somebody else leads again before the caller comes to it.
    let mut leader = Box::pin(numbers.get(&1));
    assert!(poll_once(leader.as_mut()).is_pending());
    assert!(poll_once(late.as_mut()).is_pending());
    let _never = next();
    time.advance(SECOND * 2);
    assert!(poll_once(late.as_mut()).is_pending(), "it loads");
    next().open();
    assert_eq!(poll_once(late), Poll::Ready(Ok(Some(1))));
    drop(leader);
    assert_settled(&cache);
}

// ---- fences ----

/// Entry 1, with the tag "x", changes in `commit`, and so does entry 9; loads of tagged values are
/// under way before it and begin within it. Nothing of that may survive.
fn nothing_survives(fenced: impl FnOnce(&Numbers, &mut dyn FnMut())) {
    let cache = Numbers::new(100);
    let tagged = |key, tag| cache.insert_with(key, 1, InsertOptions::new().tag(tag));
    tagged(1, "x");
    tagged(2, "y");
    cache.insert(9, 1);
    let slow = Slow::of(1);
    let numbers = slow.read_through(&cache);
    let mut before = pin!(numbers.get(&3));
    let mut within = pin!(numbers.get(&4));
    assert!(poll_once(before.as_mut()).is_pending());
    fenced(&cache, &mut || {
        assert_eq!(cache.get(&1), None, "invalidated before the commit");
        tagged(1, "x");
        cache.insert(9, 1);
        assert!(poll_once(within.as_mut()).is_pending());
    });
    slow.gate.open();
    assert_eq!(poll_once(before), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(within), Poll::Ready(Ok(Some(1))));
    for key in [1, 3, 4] {
        assert_eq!(cache.get(&key), None, "{key}");
    }
    assert_eq!(cache.get(&2), Some(1), "of another tag");
    assert_eq!(discarded(&cache), 2);
    assert_settled(&cache);
}

#[test]
fn a_fence_of_tags_is_there_before_the_commit_and_after_it() {
    nothing_survives(|cache, commit| cache.fence_tags(["x"]).around(commit));
    nothing_survives(|cache, commit| {
        let _fence = cache.fence_tags(["w", "x"]);
        commit();
    });
    nothing_survives(|cache, commit| {
        cache.fence([&9]).tag("x").around(&mut *commit);
        assert_eq!(cache.get(&9), None, "with keys");
    });
    nothing_survives(|cache, commit| {
        let fence = cache.fence([&9]).tags(["x", "z"]);
        block_on(fence.around_async(async { commit() }));
        assert_eq!(cache.get(&9), None);
    });
}

#[test]
fn a_fence_of_tags_holds_when_the_commit_fails_panics_or_is_cancelled() {
    nothing_survives(|cache, commit| {
        let failed = cache.fence_tags(["x"]).around(|| {
            commit();
            Err::<(), _>("conflict")
        });
        assert_eq!(failed, Err("conflict"));
    });
    nothing_survives(|cache, commit| {
        let commit = || -> () {
            commit();
            resume_unwind(Box::new("no connection"));
        };
        let panic = panic_of(|| cache.fence_tags(["x"]).around(commit));
        assert_eq!(panic, "no connection");
    });
    nothing_survives(|cache, commit| {
        let commit = async {
            commit();
            pending::<()>().await;
        };
        let mut call = Box::pin(cache.fence_tags(["x"]).around_async(commit));
        assert!(poll_once(call.as_mut()).is_pending());
    });
}

#[test]
fn a_fence_may_be_one_of_groups() {
    let builder = Cache::builder().group_by(|(tenant, _): &(u32, u32)| tenant);
    let cache: Cache<(u32, u32), u32> = builder.build().unwrap();
    cache.insert((1, 1), 1);
    cache.insert((2, 1), 1);
    let no_keys: [&(u32, u32); 0] = [];
    cache.fence(no_keys).group(&1).around(|| {
        assert_eq!(cache.get(&(1, 1)), None);
        cache.insert((1, 2), 1);
    });
    assert_eq!((cache.get(&(1, 2)), cache.get(&(2, 1))), (None, Some(1)));
    let without = Numbers::new(10);
    let told = panic_of(|| drop(without.fence_tags(["x"]).group(&1)));
    assert!(told.contains("group_by"), "{told}");
    cache.validate();
}

#[test]
fn a_leader_that_is_dropped_inside_a_closure_keeps_no_record_of_what_is_invalidated() {
    let (cache, _time) = timed(|builder| builder.max_entries(1_000));
    cache.insert_with(1, 10, InsertOptions::new().tag("kept"));
    let mut leader = Box::pin(cache.get_or_load(&2, pending));
    assert!(poll_once(leader.as_mut()).is_pending());
    cache.read(&1, |_| drop(leader));
    assert_eq!(cache.loads_under_way(), 1);
    for tag in 0..150_000 {
        cache.invalidate_tag(&tag);
        if tag % 50_000 == 0 {
            cache.sweep();
            assert_eq!(cache.loads_under_way(), 0, "nobody else clears up");
        }
    }
    assert_eq!(cache.get(&1), Some(10), "not concerned");
    cache.validate();
}

#[test]
fn a_sweep_takes_no_load_that_runs_for_one_that_has_ended() {
    let (cache, time) = timed(|builder| builder.max_entries(10).lock_timeout(SECOND));
    cache.insert(1, 10);
    let mut loads: Vec<_> = (0..2)
        .map(|_| Box::pin(cache.get_or_load(&2, pending)))
        .collect();
    for load in &mut loads {
        assert!(poll_once(load.as_mut()).is_pending());
    }
    time.advance(SECOND);
    assert!(poll_once(loads[1].as_mut()).is_pending(), "it leads, too");
    for running in (0..=2).rev() {
        cache.invalidate_tag(&running);
        cache.sweep();
        assert_eq!(cache.loads_under_way(), running.min(1));
        if running > 0 {
            cache.read(&1, |_| drop(loads.remove(0)));
        }
    }
}
