//! Invalidation around a commit.

use super::{Gate, assert_settled, block_on, poll_once};
use crate::common::panic_of;
use haybox::Cache;
use std::future::pending;
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::Poll;
use std::thread;

type Names = Cache<String, u32>;

/// Has a load under way, one that begins within `commit`, and a value; nothing of it may survive.
fn nothing_survives(invalidate_around: impl FnOnce(&Names, &mut dyn FnMut())) {
    let cache = Names::new(10);
    cache.insert("kept".into(), 1);
    cache.insert("there".into(), 1);
    let gate = Gate::default();
    let load = || async {
        gate.pass().await;
        1
    };
    let mut before = pin!(cache.get_or_load("before", load));
    let mut within = pin!(cache.get_or_load("within", load));
    assert!(poll_once(before.as_mut()).is_pending());
    invalidate_around(&cache, &mut || {
        assert_eq!(cache.loads_under_way(), 0, "invalidated before the commit");
        assert_eq!(cache.get("there"), None);
        assert!(poll_once(within.as_mut()).is_pending());
        assert_eq!(cache.get_or_insert_with("there", || 1), 1);
    });
    assert_eq!(cache.loads_under_way(), 0, "and after it");
    gate.open();
    assert_eq!(poll_once(before.as_mut()), Poll::Ready(1));
    assert_eq!(poll_once(within.as_mut()), Poll::Ready(1));
    for key in ["before", "within", "there"] {
        assert_eq!(cache.get(key), None, "{key}");
    }
    assert_eq!(cache.get("kept"), Some(1));
    assert_settled(&cache);
}

const KEYS: [&str; 3] = ["before", "within", "there"];

#[test]
fn what_was_loaded_before_the_commit_does_not_survive_it() {
    nothing_survives(|cache, commit| cache.invalidate_around(KEYS, commit));
    nothing_survives(|cache, commit| {
        block_on(cache.invalidate_around_async(KEYS, async { commit() }));
    });
    nothing_survives(|cache, commit| {
        let fence = cache.fence(KEYS);
        commit();
        drop(fence);
    });
}

/// It would run when nothing is invalidated any more.
#[cfg(debug_assertions)]
#[test]
fn a_commit_that_only_makes_a_future_is_refused() {
    let cache = Names::new(10);
    cache.insert("plum".into(), 1);
    let calls: [(&str, &dyn Fn()); 3] = [
        ("invalidate_around_async", &|| {
            drop(cache.invalidate_around(["plum"], || async { 1 }));
        }),
        ("invalidate_around_async", &|| {
            drop(cache.invalidate_around(["plum"], async || 1));
        }),
        ("around_async", &|| {
            drop(cache.fence(["plum"]).around(|| async { 1 }))
        }),
    ];
    for (instead, call) in calls {
        let sentence = crate::common::panic_of(call);
        assert!(sentence.ends_with(instead), "{sentence}");
    }
}

#[test]
fn a_commit_that_fails_or_panics_is_fenced_all_the_same() {
    nothing_survives(|cache, commit| {
        let failed = cache.invalidate_around(KEYS, || {
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
        assert_eq!(
            panic_of(|| cache.invalidate_around(KEYS, commit)),
            "no connection"
        );
    });
    nothing_survives(|cache, commit| {
        let commit = async {
            commit();
            resume_unwind(Box::new("no connection"));
        };
        let call = cache.invalidate_around_async(KEYS, commit);
        assert_eq!(panic_of(|| block_on(call)), "no connection");
    });
}

#[test]
fn a_commit_that_is_cancelled_is_fenced_all_the_same() {
    nothing_survives(|cache, commit| {
        let commit = async {
            commit();
            pending::<()>().await;
        };
        let mut call = Box::pin(cache.invalidate_around_async(KEYS, commit));
        assert!(poll_once(call.as_mut()).is_pending());
    });
}

#[test]
fn invalidating_overtakes_a_load_and_forgets_the_value() {
    let cache = Names::new(10);
    let gate = Gate::default();
    let mut load = pin!(cache.get_or_load("plum", || async {
        gate.pass().await;
        1
    }));
    assert!(poll_once(load.as_mut()).is_pending());
    cache.invalidate("plum");
    assert_eq!(cache.get_or_insert_with("plum", || 2), 2);
    gate.open();
    assert_eq!(poll_once(load), Poll::Ready(1));
    assert_eq!(cache.get("plum"), Some(2));
    cache.invalidate("plum");
    assert_eq!(
        (cache.get("plum"), cache.stats().discarded_loads),
        (None, 1)
    );
    assert_settled(&cache);
}

/// A value whose destructor panics, unless something else unwinds.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new("it breaks"));
        }
    }
}

#[test]
fn all_keys_of_a_fence_are_invalidated_though_what_it_removes_panics() {
    let cache: Cache<u32, Option<Fragile>> = Cache::new(10);
    let fill = || {
        let entry = |key| (key, (key == 2).then(|| Fragile));
        assert_eq!(cache.insert_many((1..=4).map(entry)), 4);
    };
    let keys = [1, 2, 3, 4];
    fill();
    assert_eq!(panic_of(|| drop(cache.fence(&keys))), "it breaks");
    assert!(cache.is_empty());
    assert_eq!(
        panic_of(|| cache.invalidate_around(&keys, fill)),
        "it breaks"
    );
    assert!(cache.is_empty());
    cache.validate();
}

/// One whose destructor always does.
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        resume_unwind(Box::new("it breaks"));
    }
}

/// A panic that leaves a destructor while another one unwinds ends the process.
#[test]
fn several_values_of_a_fence_may_panic_and_its_commit_as_well() {
    let cache: Cache<u32, Option<Brittle>> = Cache::new(10);
    let keys = [1, 2, 3, 4];
    let fill = || {
        let entry = |key| (key, (key == 2 || key == 3).then(|| Brittle));
        assert_eq!(cache.insert_many(keys.map(entry)), 4);
    };
    fill();
    assert_eq!(panic_of(|| drop(cache.fence(&keys))), "it breaks");
    assert!(cache.is_empty());
    let fails = || {
        fill();
        if !cache.is_empty() {
            resume_unwind(Box::new("no commit"));
        }
    };
    assert_eq!(
        panic_of(|| cache.invalidate_around(&keys, fails)),
        "no commit"
    );
    assert!(cache.is_empty());
    cache.validate();
}
