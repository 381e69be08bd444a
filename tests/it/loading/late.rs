//! Loads that take longer than those who wait have patience.

use super::{Gate, Numbers, assert_settled, block_on, poll_once, until_waiting};
use crate::common::{HOUR, PATIENCE, SECOND, timed};
use haybox::{
    BoxedLoad, Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, ReadThroughAsync,
    Source,
};
use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// Nobody waits for longer than a second.
fn hasty() -> (Numbers, MockClock) {
    timed(|builder: CacheBuilder<u32, u32>| builder.max_entries(10).lock_timeout(SECOND))
}

type Call<'c> = Pin<Box<dyn Future<Output = u32> + 'c>>;

/// A load of key 1, begun, that brings `value` when the gate is open.
fn begun<'c>(cache: &'c Numbers, value: u32, gate: &Gate) -> Call<'c> {
    let gate = gate.clone();
    let mut call: Call<'c> = Box::pin(cache.get_or_load(&1, move || async move {
        gate.pass().await;
        value
    }));
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// One that waits, and would load at once.
fn waits(cache: &Numbers, value: u32) -> Call<'_> {
    let mut call: Call<'_> = Box::pin(cache.get_or_load(&1, move || async move { value }));
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// Rows of which load by load brings what `answer` says of its number, once its gate is open.
fn gated<const LOADS: usize>(
    cache: &Numbers,
    answer: impl Fn(u32) -> Loaded<u32> + Copy + Send + Sync + 'static,
) -> (ReadThroughAsync<u32, u32, ()>, [Gate; LOADS]) {
    let gates = std::array::from_fn(|_| Gate::default());
    let (of_loader, number): ([Gate; LOADS], _) = (gates.clone(), AtomicU32::new(0));
    let rows = cache.read_through_async(move |_| {
        let at = number.fetch_add(1, SeqCst);
        let gate = of_loader[at as usize].clone();
        async move {
            gate.pass().await;
            Ok(answer(at))
        }
    });
    (rows, gates)
}

/// A late load of 10, one of 20 that was begun instead of it, and one who waits for that.
struct Scene<'c> {
    late: (Call<'c>, Gate),
    second: (Call<'c>, Gate),
    waits: Call<'c>,
}

fn scene<'c>(cache: &'c Numbers, time: &MockClock) -> Scene<'c> {
    let (first_gate, second_gate) = (Gate::default(), Gate::default());
    let late = begun(cache, 10, &first_gate);
    let mut second = begun(cache, 20, &second_gate);
    let mut waits = waits(cache, 30);
    time.advance(SECOND);
    assert!(poll_once(second.as_mut()).is_pending(), "it loads");
    assert!(poll_once(waits.as_mut()).is_pending(), "it waits for that");
    assert_eq!(cache.loads_under_way(), 1);
    Scene {
        late: (late, first_gate),
        second: (second, second_gate),
        waits,
    }
}

#[test]
fn the_first_whose_time_is_up_loads_and_the_others_wait_for_that() {
    let (cache, time) = hasty();
    let Scene {
        mut late,
        mut second,
        waits,
    } = scene(&cache, &time);
    second.1.open();
    assert_eq!(poll_once(second.0.as_mut()), Poll::Ready(20));
    assert_eq!(block_on(waits), 20);
    late.1.open();
    assert_eq!(poll_once(late.0.as_mut()), Poll::Ready(10));
    assert_eq!(cache.get(&1), Some(20), "the late one has come too late");
    assert_eq!(cache.stats().discarded_loads, 1);
    assert_settled(&cache);
}

#[test]
fn what_the_late_load_brings_is_for_all_while_there_is_nothing_else() {
    let (cache, time) = hasty();
    let Scene {
        mut late,
        mut second,
        waits,
    } = scene(&cache, &time);
    late.1.open();
    assert_eq!(poll_once(late.0.as_mut()), Poll::Ready(10));
    assert_eq!((cache.get(&1), block_on(waits)), (Some(10), 10));
    assert_eq!(cache.loads_under_way(), 0);
    second.1.open();
    assert_eq!(poll_once(second.0.as_mut()), Poll::Ready(20));
    assert_eq!(cache.get(&1), Some(10));
    assert_settled(&cache);
}

#[test]
fn of_a_crowd_one_more_loads_in_each_time_out_however_many_wait() {
    let (cache, time) = hasty();
    let begun = Cell::new(0);
    let gates: [Gate; 20] = std::array::from_fn(|_| Gate::default());
    let mut calls: Vec<Call<'_>> = (1..=20)
        .map(|value| -> Call<'_> {
            let (begun, gates) = (&begun, &gates);
            Box::pin(cache.get_or_load(&1, move || {
                begun.set(begun.get() + 1);
                let gate = gates[begun.get() - 1].clone();
                async move {
                    gate.pass().await;
                    value
                }
            }))
        })
        .collect();
    let poll_all = |calls: &mut Vec<Call<'_>>| {
        for call in calls.iter_mut() {
            assert!(poll_once(call.as_mut()).is_pending());
        }
    };
    poll_all(&mut calls);
    for loads in 1..=5 {
        assert_eq!(begun.get(), loads);
        time.advance(SECOND - Duration::from_nanos(1));
        poll_all(&mut calls);
        assert_eq!(begun.get(), loads);
        // Who comes late has a time-out of its own, and does not begin one sooner.
        let late = cache.get_or_load(&1, || async { unreachable!("others load") });
        calls.push(Box::pin(late));
        time.advance(Duration::from_nanos(1));
        poll_all(&mut calls);
    }
    assert_eq!((begun.get(), cache.loads_under_way()), (6, 1));

    gates[3].open();
    // Each who leads has what it loads itself, if it is still at it.
    let answers = calls.iter_mut().map(|call| poll_once(call.as_mut()));
    let answers: Vec<_> = answers.collect();
    let waited = answers[6..].iter();
    assert_eq!(answers[3], Poll::Ready(4));
    assert!(waited.clone().all(|answer| *answer == Poll::Ready(4)));
    assert_eq!((begun.get(), cache.get(&1)), (6, Some(4)));
    drop(calls);
    assert_settled(&cache);
}

/// Each new load has somebody who came with it, and is not to be ahead of who came before.
#[test]
fn who_has_waited_longest_gives_up_a_load_as_soon_as_who_came_with_it() {
    let (cache, time) = hasty();
    let (half, never) = (SECOND / 2, Gate::default());
    let first = begun(&cache, 10, &never);
    let mut second = begun(&cache, 20, &never);
    time.advance(half);
    let mut patient = waits(&cache, 30);
    time.advance(half);
    assert!(poll_once(second.as_mut()).is_pending(), "it loads");
    let newcomer = waits(&cache, 40);
    time.advance(half);
    assert!(poll_once(patient.as_mut()).is_pending());
    time.advance(half);
    assert_eq!(poll_once(patient.as_mut()), Poll::Ready(30));
    assert_eq!(block_on(newcomer), 30);
    drop((first, second));
    assert_settled(&cache);
}

#[test]
fn a_late_load_that_a_write_has_overtaken_is_stored_nowhere() {
    let changes: [fn(&Numbers); 3] = [
        |cache| drop(cache.remove(&1)),
        |cache| cache.invalidate(&1),
        Cache::clear,
    ];
    for change in changes {
        let (cache, time) = hasty();
        let Scene {
            mut late,
            mut second,
            waits,
        } = scene(&cache, &time);
        change(&cache);
        late.1.open();
        assert_eq!(poll_once(late.0.as_mut()), Poll::Ready(10));
        assert_eq!(cache.get(&1), None);
        second.1.open();
        assert_eq!(poll_once(second.0.as_mut()), Poll::Ready(20));
        assert_eq!((block_on(waits), cache.get(&1)), (20, None));
        assert_settled(&cache);
    }
}

#[test]
fn a_late_load_that_is_dropped_leaves_the_other_alone() {
    let (cache, time) = hasty();
    let Scene {
        late,
        mut second,
        waits,
    } = scene(&cache, &time);
    drop(late);
    assert_eq!(cache.loads_under_way(), 1);
    second.1.open();
    assert_eq!(poll_once(second.0.as_mut()), Poll::Ready(20));
    assert_eq!((block_on(waits), cache.get(&1)), (20, Some(20)));
    assert_settled(&cache);
}

type Found<'c> = Pin<Box<dyn Future<Output = Result<Option<u32>, LoadError<&'static str>>> + 'c>>;

#[test]
fn a_late_load_that_fails_leaves_the_other_alone_and_one_that_finds_nothing_has_answered() {
    for brings in [Err("down"), Ok(None)] {
        let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
            builder
                .max_entries(10)
                .negative_ttl(HOUR)
                .error_ttl(HOUR)
                .lock_timeout(SECOND)
        });
        let gates = [Gate::default(), Gate::default()];
        let load = |at: usize, brings: Result<Option<u32>, &'static str>| -> Found<'_> {
            let gate = gates[at].clone();
            Box::pin(cache.try_get_or_find(&1, move || async move {
                gate.pass().await;
                brings
            }))
        };
        let (mut late, mut second) = (load(0, brings), load(1, Ok(Some(20))));
        let mut waits = load(1, Ok(Some(30)));
        for call in [&mut late, &mut second, &mut waits] {
            assert!(poll_once(call.as_mut()).is_pending());
        }
        time.advance(SECOND);
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(waits.as_mut()).is_pending());
        gates[0].open();
        let own = brings.map_err(|error| LoadError::Failed(Arc::new(error)));
        assert_eq!(poll_once(late.as_mut()), Poll::Ready(own));
        let has_answered = brings.is_ok();
        let told = poll_once(waits.as_mut());
        assert_eq!(
            told,
            if has_answered {
                Poll::Ready(Ok(None))
            } else {
                Poll::Pending
            }
        );
        gates[1].open();
        assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(20))));
        assert_eq!(cache.get(&1), (!has_answered).then_some(20));
        assert_settled(&cache);
    }
}

#[test]
fn a_late_load_brings_what_the_second_one_did_not() {
    let (cache, time) = hasty();
    let (gate, never) = (Gate::default(), Gate::default());
    let fails = |gate: Gate| -> Found<'_> {
        Box::pin(cache.try_get_or_find(&1, move || async move {
            gate.pass().await;
            Err("down")
        }))
    };
    for ends in ["dropped", "failed"] {
        let late_gate = Gate::default();
        let mut late = begun(&cache, 10, &late_gate);
        let mut second = match ends {
            "dropped" => fails(never.clone()),
            _ => fails(gate.clone()),
        };
        assert!(poll_once(second.as_mut()).is_pending());
        time.advance(SECOND);
        gate.open();
        let ended = poll_once(second.as_mut());
        assert_eq!(ended.is_ready(), ends == "failed");
        drop(second);
        // A third one, begun beside it.
        let third = begun(&cache, 30, &never);
        late_gate.open();
        assert_eq!(poll_once(late.as_mut()), Poll::Ready(10));
        assert_eq!(cache.get(&1), Some(10), "{ends}");
        drop(third);
        assert_settled(&cache);
        cache.clear();
    }
}

#[test]
fn what_is_known_of_a_late_load_goes_with_it() {
    let (cache, time) = hasty();
    let Scene {
        late,
        second,
        waits,
    } = scene(&cache, &time);
    drop(second);
    assert_eq!(cache.loads_under_way(), 1, "the late one");
    drop(late);
    assert_eq!(cache.loads_under_way(), 0);
    assert_eq!((block_on(waits), cache.get(&1)), (30, Some(30)));
    assert_settled(&cache);
}

#[test]
fn the_first_of_any_number_of_late_loads_is_stored() {
    let (cache, time) = hasty();
    let (gate, never) = (Gate::default(), Gate::default());
    for others in [1, 2, 7] {
        let gate = if others == 1 {
            gate.clone()
        } else {
            Gate::default()
        };
        let mut late = begun(&cache, 10, &gate);
        let mut rest: Vec<_> = (0..others)
            .map(|_| {
                let mut next = begun(&cache, 20, &never);
                time.advance(SECOND);
                assert!(poll_once(next.as_mut()).is_pending());
                next
            })
            .collect();
        gate.open();
        assert_eq!(poll_once(late.as_mut()), Poll::Ready(10));
        assert_eq!(cache.get(&1), Some(10), "with {others} others");
        rest.clear();
        assert_settled(&cache);
        cache.clear();
    }
}

#[test]
fn who_waits_for_a_late_load_is_told_what_the_other_has_brought() {
    let (cache, time) = hasty();
    let (gate, never) = (Gate::default(), Gate::default());
    let late = begun(&cache, 10, &never);
    let mut second = begun(&cache, 20, &gate);
    time.advance(SECOND - Duration::from_nanos(1));
    let mut last = waits(&cache, 30);
    time.advance(Duration::from_nanos(1));
    gate.open();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(20));
    assert_eq!(poll_once(last.as_mut()), Poll::Ready(20));
    drop(late);
    assert_settled(&cache);
}

#[test]
fn a_late_answer_that_the_old_value_holds_is_for_all() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .time_to_live(SECOND)
            .freshness(Freshness::new().stale_if_error(HOUR))
            .lock_timeout(SECOND)
    });
    let (gates, number) = ([Gate::default(), Gate::default()], AtomicU32::new(0));
    let of_loader = gates.clone();
    let rows = cache.read_through_revalidating_async(move |_: u32, old: Option<u32>| {
        let gate = of_loader[number.fetch_add(1, SeqCst) as usize].clone();
        async move {
            gate.pass().await;
            assert_eq!(old, Some(7));
            Ok::<_, ()>(Loaded::not_modified())
        }
    });
    // Nothing stale is served to these.
    let rows = rows.with_freshness(Freshness::new()).unwrap();
    cache.insert(1, 7);
    time.advance(SECOND);
    let mut calls = [(); 3].map(|()| Box::pin(rows.get(&1)));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    time.advance(SECOND);
    let [late, second, waits] = &mut calls;
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[0].open();
    for call in [late, waits] {
        assert_eq!(poll_once(call.as_mut()), Poll::Ready(Ok(Some(7))));
    }
    assert_eq!((cache.get(&1), cache.loads_under_way()), (Some(7), 0));
    drop(calls);
    assert_settled(&cache);
}

#[test]
fn who_insists_on_a_new_value_finds_no_older_one_in_its_place() {
    let (cache, time) = hasty();
    let (gates, row) = (
        [Gate::default(), Gate::default()],
        Arc::new(AtomicU32::new(1)),
    );
    let (of_loader, read, number) = (gates.clone(), Arc::clone(&row), AtomicU32::new(0));
    let rows = cache.read_through_async(move |_: u32| {
        let gate = of_loader[number.fetch_add(1, SeqCst) as usize].clone();
        let read = read.load(SeqCst);
        async move {
            gate.pass().await;
            Ok::<_, ()>(read)
        }
    });
    let (mut late, mut fresh) = (Box::pin(rows.get(&1)), Box::pin(rows.refresh(&1)));
    assert!(poll_once(late.as_mut()).is_pending());
    assert!(poll_once(fresh.as_mut()).is_pending());
    time.advance(SECOND);
    row.store(2, SeqCst);
    assert!(poll_once(fresh.as_mut()).is_pending());
    gates[0].open();
    assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(Some(1))));
    gates[1].open();
    assert_eq!(poll_once(fresh.as_mut()), Poll::Ready(Ok(Some(2))));
    assert_eq!(cache.get(&1), Some(2));
    assert_settled(&cache);
}

#[test]
fn a_late_load_that_turns_out_to_be_unshared_leaves_the_other_alone() {
    let (cache, time) = hasty();
    let (gates, number) = ([Gate::default(), Gate::default()], AtomicU32::new(0));
    let of_loader = gates.clone();
    let rows = cache.read_through_async(move |_: u32| {
        let at = number.fetch_add(1, SeqCst);
        let gate = of_loader.get(at as usize).cloned();
        async move {
            if let Some(gate) = gate {
                gate.pass().await;
            }
            Ok::<_, ()>(Loaded::unshared(at))
        }
    });
    let mut calls = [(); 3].map(|()| Box::pin(rows.get(&1)));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    time.advance(SECOND);
    let [late, second, waits] = &mut calls;
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[0].open();
    assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(Some(0))));
    assert!(poll_once(waits.as_mut()).is_pending(), "for the second");
    gates[1].open();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(waits.as_mut()), Poll::Ready(Ok(Some(2))));
    assert_eq!(cache.len(), 0);
    assert_settled(&cache);
}

/// What a task of another caller has brought for that one alone, though this caller waits for a
/// task as well.
#[test]
fn who_has_a_load_run_elsewhere_does_not_get_what_is_unshared_of_a_late_one() {
    let tasks = Arc::<Mutex<Vec<BoxedLoad>>>::default();
    let spawned = Arc::clone(&tasks);
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .lock_timeout(SECOND)
            .spawner(move |load| spawned.lock().unwrap().push(load))
            .freshness(Freshness::new().hard_timeout(SECOND / 2))
    });
    let (rows, gates) = gated::<2>(&cache, Loaded::unshared);
    // The first caller has the most patience, and the others find its load overdue.
    let rows = rows.with_freshness(Freshness::new()).unwrap();
    let hasty = rows
        .with_freshness(Freshness::new().hard_timeout(SECOND / 2))
        .unwrap();
    let poll_tasks = || {
        let mut tasks = tasks.lock().unwrap();
        tasks.retain_mut(|task| poll_once(task.as_mut()).is_pending());
    };
    let (mut first, mut early) = (Box::pin(rows.get(&1)), Box::pin(hasty.get(&1)));
    assert!(poll_once(first.as_mut()).is_pending());
    poll_tasks();
    assert!(poll_once(early.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(early.as_mut()).is_ready(), "it has timed out");
    let mut second = Box::pin(hasty.get(&1));
    assert!(poll_once(second.as_mut()).is_pending());
    poll_tasks();
    assert_eq!(tasks.lock().unwrap().len(), 2, "one of its own");
    gates[0].open();
    poll_tasks();
    assert_eq!(poll_once(first.as_mut()), Poll::Ready(Ok(Some(0))));
    assert!(
        poll_once(second.as_mut()).is_pending(),
        "it is not for this one"
    );
    gates[1].open();
    poll_tasks();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_settled(&cache);
}

#[test]
fn a_source_that_is_down_rests_though_one_load_hangs() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .time_to_live(SECOND)
            .freshness(
                Freshness::new()
                    .stale_if_error(HOUR)
                    .retry_after(SECOND * 5),
            )
            .error_ttl(SECOND * 5)
            .lock_timeout(SECOND)
    });
    let asked = AtomicU32::new(0);
    let load = |key: &'static u32| {
        cache.try_get_or_load(key, || async {
            match asked.fetch_add(1, SeqCst) {
                0 => pending().await,
                _ => Err::<u32, _>("down"),
            }
        })
    };
    // With an old value and with none.
    for key in [&1, &2] {
        asked.store(0, SeqCst);
        if *key == 1 {
            cache.insert(1, 7);
        }
        time.advance(SECOND);
        let (mut hangs, mut second) = (Box::pin(load(key)), Box::pin(load(key)));
        assert!(poll_once(hangs.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        time.advance(SECOND);
        assert!(poll_once(second.as_mut()).is_ready());
        for _ in 0..9 {
            let answer = block_on(load(key));
            assert_eq!(answer.ok(), (*key == 1).then_some(7));
        }
        assert_eq!(asked.load(SeqCst), 2, "nobody asks for a while");
        time.advance(SECOND * 5);
        drop(block_on(load(key)));
        assert_eq!(asked.load(SeqCst), 3);
        drop(hangs);
        assert_eq!(cache.loads_under_way(), 0);
    }
    assert_settled(&cache);
}

/// Whether that which runs yet is the last that was begun or not.
#[test]
fn a_late_load_that_fails_has_nobody_rest_while_a_newer_one_runs() {
    for hangs_up in [false, true] {
        let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
            let freshness = Freshness::new().stale_if_error(HOUR).retry_after(HOUR);
            builder
                .time_to_live(SECOND)
                .freshness(freshness)
                .lock_timeout(SECOND)
        });
        let (gate, never) = (Gate::default(), Gate::default());
        let load = |gate: &Gate| {
            let gate = gate.clone();
            Box::pin(cache.try_get_or_load(&1, move || async move {
                gate.pass().await;
                Err::<u32, _>("down")
            }))
        };
        cache.insert(1, 7);
        time.advance(SECOND);
        let mut late = load(&gate);
        let mut newer = [load(&never), load(&never)];
        assert!(poll_once(late.as_mut()).is_pending());
        for call in newer.iter_mut().take(if hangs_up { 2 } else { 1 }) {
            assert!(poll_once(call.as_mut()).is_pending());
            time.advance(SECOND);
            assert!(poll_once(call.as_mut()).is_pending(), "it loads");
        }
        let [_second, third] = newer;
        drop(third);
        gate.open();
        assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(7)));
        let mut next = load(&never);
        assert!(
            poll_once(next.as_mut()).is_pending(),
            "hangs up: {hangs_up}"
        );
        drop(next);
    }
}

#[test]
fn that_there_is_nothing_does_not_count_if_its_tag_fell_before_the_other_began() {
    let (cache, time) = hasty();
    let (rows, gates) = gated::<2>(&cache, |at| match at {
        0 => Loaded::absent().tag("row"),
        _ => Loaded::new(at).tag("row"),
    });
    let mut calls = [(); 3].map(|()| Box::pin(rows.get(&1)));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    cache.invalidate_tag("row");
    time.advance(SECOND);
    let [late, second, waits] = &mut calls;
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[0].open();
    assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(None)));
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[1].open();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(waits.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

#[test]
fn a_leader_that_is_dropped_inside_a_closure_leaves_nothing_for_good() {
    for is_late in [true, false] {
        let (cache, time) = hasty();
        cache.insert(2, 2);
        let Scene {
            late,
            second,
            waits,
        } = scene(&cache, &time);
        let (inside, outside) = if is_late {
            (late, second)
        } else {
            (second, late)
        };
        cache.read(&2, |_| drop(inside.0));
        drop(outside);
        assert_eq!(cache.loads_under_way(), 0);
        assert_eq!((block_on(waits), cache.get(&1)), (30, Some(30)));
        assert_settled(&cache);
    }
}

#[test]
fn a_source_that_is_down_rests_though_the_newest_caller_has_hung_up() {
    let (cache, time) =
        timed(|builder: CacheBuilder<u32, u32>| builder.error_ttl(SECOND * 5).lock_timeout(SECOND));
    let (gate, never) = (Gate::default(), Gate::default());
    let load = |gate: &Gate| -> Found<'_> {
        let gate = gate.clone();
        Box::pin(cache.try_get_or_find(&1, move || async move {
            gate.pass().await;
            Err("down")
        }))
    };
    let (hangs, mut second) = (begun(&cache, 1, &never), load(&gate));
    assert!(poll_once(second.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(second.as_mut()).is_pending(), "it loads");
    let mut third = load(&never);
    assert!(poll_once(third.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(third.as_mut()).is_pending(), "it loads");
    drop(third);
    gate.open();
    assert!(poll_once(second.as_mut()).is_ready());
    let error = block_on(cache.try_get_or_load(&1, || async { Ok::<_, &str>(1) }));
    assert!(error.is_err(), "that is remembered");
    drop(hangs);
    assert_settled(&cache);
}

/// Whether it is the last that was begun, or the last of those that still run.
#[test]
fn what_is_unshared_now_is_not_brought_back_by_a_late_load() {
    for hangs_up in [false, true] {
        let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
            builder
                .time_to_live(SECOND)
                .freshness(Freshness::new().stale_if_error(HOUR))
                .lock_timeout(SECOND)
        });
        let (gates, number) = ([(); 3].map(|()| Gate::default()), AtomicU32::new(0));
        let of_loader = gates.clone();
        let rows = cache.read_through_revalidating_async(move |_: u32, _| {
            let at = number.fetch_add(1, SeqCst);
            let gate = of_loader[at as usize].clone();
            async move {
                gate.pass().await;
                Ok::<_, ()>(match at {
                    0 => Loaded::not_modified(),
                    _ => Loaded::unshared(at),
                })
            }
        });
        let rows = rows.with_freshness(Freshness::new()).unwrap();
        cache.insert(1, 7);
        time.advance(SECOND);
        let [mut late, mut second, mut third] = [(); 3].map(|()| Box::pin(rows.get(&1)));
        assert!(poll_once(late.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        time.advance(SECOND);
        assert!(poll_once(second.as_mut()).is_pending(), "it loads");
        if hangs_up {
            assert!(poll_once(third.as_mut()).is_pending());
            time.advance(SECOND);
            assert!(poll_once(third.as_mut()).is_pending(), "it loads");
        }
        drop(third);
        gates[1].open();
        assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
        gates[0].open();
        assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(Some(7))));
        assert_eq!(cache.len(), 0, "hangs up: {hangs_up}");
        assert_settled(&cache);
    }
}

thread_local!(static COPIES: Cell<u32> = const { Cell::new(0) });

#[derive(Debug, PartialEq)]
struct Copied;

impl Clone for Copied {
    fn clone(&self) -> Self {
        COPIES.set(COPIES.get() + 1);
        Self
    }
}

#[test]
fn what_nobody_waits_for_is_not_copied_for_them() {
    // Not as simple as most: it has a weigher.
    let cache: Cache<u32, Copied> = Cache::builder()
        .max_weight(10)
        .weigher(|_, _| 2)
        .build()
        .unwrap();
    for copies in 1..4 {
        assert_eq!(cache.get_or_insert_with(&copies, || Copied), Copied);
        assert_eq!(COPIES.get(), copies, "one for the cache");
    }
    let rows = cache.read_through(|_| Ok::<_, ()>(Loaded::unshared(Copied)));
    assert_eq!(rows.get(&9), Ok(Some(Copied)));
    assert_eq!(COPIES.get(), 3, "none");
}

#[test]
fn a_late_load_with_a_tag_that_fell_before_the_other_began_is_not_given_to_anybody_else() {
    let (cache, time) = hasty();
    let (rows, gates) = gated::<2>(&cache, |at| Loaded::new(at).tag("row"));
    let mut calls = [(); 3].map(|()| Box::pin(rows.get_with_source(&1)));
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    cache.invalidate_tag("row");
    time.advance(SECOND);
    let [late, second, waits] = &mut calls;
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[0].open();
    assert_eq!(
        poll_once(late.as_mut()),
        Poll::Ready(Ok((Some(0), Source::Loaded)))
    );
    assert_eq!(cache.get(&1), None);
    assert!(poll_once(waits.as_mut()).is_pending());
    gates[1].open();
    assert_eq!(
        poll_once(second.as_mut()),
        Poll::Ready(Ok((Some(1), Source::Loaded)))
    );
    assert_eq!(
        poll_once(waits.as_mut()),
        Poll::Ready(Ok((Some(1), Source::Joined)))
    );
    assert_eq!(cache.get(&1), Some(1));
    assert_settled(&cache);
}

/// Who comes after an invalidation has joined the load that was begun instead, and must not get
/// what the late one read before.
#[test]
fn who_joined_after_a_tag_fell_does_not_get_what_the_late_load_brings() {
    let (cache, time) = hasty();
    let (rows, gates) = gated::<3>(&cache, |at| Loaded::new(at).tag("row"));
    let (mut late, mut second) = (Box::pin(rows.get(&1)), Box::pin(rows.get(&1)));
    assert!(poll_once(late.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(poll_once(second.as_mut()).is_pending());
    cache.invalidate_tag("row");
    let mut after = Box::pin(rows.get(&1));
    assert!(poll_once(after.as_mut()).is_pending());
    gates[0].open();
    assert_eq!(poll_once(late.as_mut()), Poll::Ready(Ok(Some(0))));
    assert_eq!(cache.get(&1), None, "it is as old as the first question");
    gates[1].open();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
    assert!(poll_once(after.as_mut()).is_pending(), "it loads anew");
    gates[2].open();
    assert_eq!(poll_once(after.as_mut()), Poll::Ready(Ok(Some(2))));
    assert_settled(&cache);
}

/// It was asked for before, though its caller waits for it only since then.
#[test]
fn who_asked_before_a_tag_fell_gets_what_was_loaded_before_whichever_load_that_is() {
    let (cache, time) = hasty();
    let (rows, gates) = gated::<2>(&cache, |at| Loaded::new(at).tag("row"));
    let [mut late, mut second, mut waits] = [(); 3].map(|()| Box::pin(rows.get(&1)));
    for call in [&mut late, &mut second, &mut waits] {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    time.advance(SECOND);
    assert!(poll_once(second.as_mut()).is_pending(), "it loads");
    cache.invalidate_tag("row");
    assert!(poll_once(waits.as_mut()).is_pending(), "it waits for that");
    gates[1].open();
    assert_eq!(poll_once(second.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(waits.as_mut()), Poll::Ready(Ok(Some(1))));
    assert_eq!(cache.get(&1), None, "who asks now does not");
    drop(late);
    assert_settled(&cache);
}

#[test]
fn who_has_a_stale_value_does_not_wait_once_more() {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        builder
            .max_entries(10)
            .time_to_live(SECOND)
            .freshness(Freshness::new().stale_if_error(HOUR))
            .lock_timeout(SECOND)
    });
    cache.insert(1, 7);
    time.advance(SECOND);
    let load = || Box::pin(cache.get_or_load(&1, pending));
    let mut calls = [load(), load(), load(), load()];
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    time.advance(SECOND);
    let [_, second, third, fourth] = &mut calls;
    assert!(poll_once(second.as_mut()).is_pending(), "it loads");
    assert_eq!(poll_once(third.as_mut()), Poll::Ready(7));
    assert_eq!(poll_once(fourth.as_mut()), Poll::Ready(7));
    assert_eq!(cache.stats().stale_served, 2);
    drop(calls);
    assert_settled(&cache);
}

#[test]
fn a_crowd_of_threads_costs_a_slow_source_one_more_query() {
    const CROWD: u64 = 20;
    let (cache, time) = hasty();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (end, may_end) = mpsc::channel();
    let (may_end, may_go_on) = (Mutex::new(may_end), Mutex::new(may_go_on));
    let queries = AtomicU32::new(0);
    let query = || match queries.fetch_add(1, SeqCst) {
        0 => {
            let patience = may_go_on.lock().unwrap().recv_timeout(PATIENCE);
            patience.expect("the test lets it go on");
            0
        }
        1 => {
            // The others wait for this one before it ends; the late one ends first.
            until_waiting(&cache, CROWD + CROWD - 1);
            go_on.send(()).unwrap();
            // Who finds the value may do so before those who wait are told.
            let ended = may_end.lock().unwrap().recv_timeout(PATIENCE);
            ended.expect("the late one has told all others");
            1
        }
        _ => panic!("nobody else is to ask"),
    };
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            let value = cache.get_or_insert_with(&1, query);
            end.send(()).unwrap();
            value
        });
        while queries.load(SeqCst) == 0 {
            thread::yield_now();
        }
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| scope.spawn(|| cache.get_or_insert_with(&1, query)))
            .collect();
        while time.timers() < CROWD as usize {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(late.join().unwrap(), 0);
        let mut got: Vec<_> = crowd.into_iter().map(|call| call.join().unwrap()).collect();
        got.sort_unstable();
        let mut expected = vec![0; CROWD as usize - 1];
        expected.push(1);
        assert_eq!(got, expected);
    });
    assert_eq!((queries.load(SeqCst), cache.get(&1)), (2, Some(0)));
    assert_settled(&cache);
}
