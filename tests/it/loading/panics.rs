//! Code of the user's that panics in a load, at every place at which a load runs any: whoever waits
//! for it is told, and nothing is left of it.

use super::{Gate, assert_settled, poll_once};
use crate::common::{SECOND, timed};
use haybox::{Cache, CacheBuilder};
use std::cell::Cell;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::thread;

thread_local!(static LEFT: Cell<u32> = const { Cell::new(u32::MAX) });

/// A key or value of which all that a cache calls counts down to a panic.
#[derive(Debug)]
struct Frail(u32);

fn step() {
    let left = LEFT.get();
    if left == u32::MAX || thread::panicking() {
        return;
    }
    LEFT.set(left.checked_sub(1).unwrap_or(u32::MAX));
    assert!(left > 0, "it breaks");
}

impl Clone for Frail {
    fn clone(&self) -> Self {
        step();
        Self(self.0)
    }
}

impl PartialEq for Frail {
    fn eq(&self, other: &Self) -> bool {
        step();
        self.0 == other.0
    }
}

impl Eq for Frail {}

impl Hash for Frail {
    fn hash<H: Hasher>(&self, state: &mut H) {
        step();
        self.0.hash(state);
    }
}

impl Drop for Frail {
    fn drop(&mut self) {
        step();
    }
}

type Fragile = Cache<Frail, Frail>;
type Call<'c> = Pin<Box<dyn Future<Output = Option<u32>> + 'c>>;

/// The kinds of calls that lead a load of two keys, or of the first of them.
#[derive(Clone, Copy, Debug)]
enum Leads {
    Value,
    Error,
    Nothing,
    Both,
}

impl Leads {
    fn call<'c>(self, cache: &'c Fragile, keys: &'c [Frail; 2], gate: &'c Gate) -> Call<'c> {
        let value = async || {
            gate.pass().await;
            Frail(10)
        };
        Box::pin(async move {
            let found = match self {
                Self::Value => Some(cache.get_or_load(&keys[0], value).await),
                Self::Error => {
                    let fails = async || Err::<Frail, Frail>(value().await);
                    cache.try_get_or_load(&keys[0], fails).await.ok()
                }
                Self::Nothing => {
                    let finds = async || Some(value().await).filter(|_| false);
                    cache.get_or_find(&keys[0], finds).await
                }
                Self::Both => {
                    let loads = async |missing: Vec<Frail>| {
                        gate.pass().await;
                        missing.into_iter().map(|key| (key, Frail(10)))
                    };
                    cache.get_many_or_load(keys, loads).await.swap_remove(0)
                }
            };
            found.map(|value| value.0)
        })
    }
}

/// The kinds of caches whose loads end in ways of their own.
fn caches() -> [Fragile; 4] {
    let set: [fn(CacheBuilder<Frail, Frail>) -> CacheBuilder<Frail, Frail>; 4] = [
        |builder| builder.max_entries(3),
        |builder| {
            builder.max_weight(3).weigher(|_, _| {
                step();
                1
            })
        },
        |builder| {
            builder
                .max_entries(3)
                .negative_ttl(SECOND)
                .error_ttl(SECOND)
        },
        |builder| {
            builder.max_entries(3).group_by(|key: &Frail| {
                step();
                if key.0 < 5 { &0_u32 } else { &1_u32 }
            })
        },
    ];
    set.map(|set| {
        let cache = timed(set).0;
        // Full, so that something has to go.
        (5..8).for_each(|key| drop(cache.insert(Frail(key), Frail(0))));
        cache
    })
}

/// Breaks what a part of a scenario runs of the user's at one place after the other, until there is
/// none left, for each kind of call and of cache.
fn break_everywhere(scenario: impl Fn(Leads, &Fragile, u32) -> bool) {
    for kind in [Leads::Value, Leads::Error, Leads::Nothing, Leads::Both] {
        for cache_at in 0..4 {
            let mut at = 0;
            while scenario(kind, &caches()[cache_at], at) {
                at += 1;
            }
            assert!(at > 0, "there is something to break");
        }
    }
}

/// Runs something that breaks at a place; whether it did.
fn breaks<R>(at: u32, run: impl FnOnce() -> R) -> bool {
    LEFT.set(at);
    let result = catch_unwind(AssertUnwindSafe(run));
    LEFT.set(u32::MAX);
    result.is_err()
}

fn ask<'c>(cache: &'c Fragile, key: &'c Frail) -> Call<'c> {
    Box::pin(async move {
        let load = || async { Frail(20) };
        Some(cache.get_or_load(key, load).await.0)
    })
}

/// The call that leads a load, and one that waits for it.
fn led_and_awaited<'c>(
    kind: Leads,
    cache: &'c Fragile,
    keys: &'c [Frail; 2],
    gate: &'c Gate,
) -> (Call<'c>, Call<'c>) {
    let mut leader = kind.call(cache, keys, gate);
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut waits = ask(cache, &keys[0]);
    assert!(poll_once(waits.as_mut()).is_pending());
    (leader, waits)
}

#[test]
fn a_load_that_breaks_as_it_ends_leaves_nobody_waiting() {
    for is_overtaken in [false, true] {
        break_everywhere(|kind, cache, at| {
            let (keys, gate) = ([Frail(1), Frail(2)], Gate::default());
            let (mut leader, mut waits) = led_and_awaited(kind, cache, &keys, &gate);
            if is_overtaken {
                cache.remove(&keys[0]);
            }
            gate.open();
            let is_broken = breaks(at, || poll_once(leader.as_mut()));
            let found = poll_once(waits.as_mut());
            drop((leader, waits));
            let again = poll_once(ask(cache, &keys[1]).as_mut());
            for found in [found, again] {
                let is_a_value = matches!(found, Poll::Ready(Some(10 | 20)));
                assert!(is_a_value, "{kind:?}, {cache:?}, {at}: {found:?}");
            }
            assert_settled(cache);
            is_broken
        });
    }
}

#[test]
fn a_load_that_breaks_as_it_begins_is_begun_by_the_next_caller() {
    break_everywhere(|kind, cache, at| {
        let (keys, gate) = ([Frail(1), Frail(2)], Gate::default());
        let mut leader = kind.call(cache, &keys, &gate);
        let is_broken = breaks(at, || poll_once(leader.as_mut()));
        drop(leader);
        for key in &keys {
            assert_eq!(poll_once(ask(cache, key).as_mut()), Poll::Ready(Some(20)));
        }
        assert_settled(cache);
        is_broken
    });
}

#[test]
fn a_load_that_breaks_as_it_is_dropped_is_taken_over() {
    break_everywhere(|kind, cache, at| {
        let (keys, gate) = ([Frail(1), Frail(2)], Gate::default());
        let (leader, mut waits) = led_and_awaited(kind, cache, &keys, &gate);
        let is_broken = breaks(at, || drop(leader));
        assert_eq!(poll_once(waits.as_mut()), Poll::Ready(Some(20)));
        assert_settled(cache);
        is_broken
    });
}
