//! Calls on two keys have an order in which each could have been made alone.

use crate::common::{CROWDED, Numbers, OF_FOUR_SETS, built, choice, fill, ignore, known, numbers};
use crate::schedules::check;
use haybox::{Insert, InsertOptions, Op, Outcome};
use shuttle::thread::scope;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

/// A call on one of two keys, or on both.
#[derive(Clone, Copy, Debug)]
enum Call {
    Get(usize),
    Insert(usize, u32),
    IfAbsent(usize, u32),
    IfPresent(usize, u32),
    Remove(usize),
    Update(usize, u32),
    Upsert(usize, u32),
    /// A `compute` that removes what is there and puts something where nothing is.
    Toggle(usize, u32),
    /// A transaction that exchanges the two values.
    Swap,
    /// A transaction that reads both.
    ReadBoth,
}

type State = [Option<u32>; 2];

impl Call {
    /// A call with a value that no other has.
    fn any(next_value: &AtomicU32) -> Self {
        let (key, value) = (choice(2) as usize, next_value.fetch_add(1, SeqCst));
        match choice(14) {
            0 | 1 => Self::Get(key),
            2 | 3 => Self::Insert(key, value),
            4 => Self::IfAbsent(key, value),
            5 => Self::IfPresent(key, value),
            6 | 7 => Self::Remove(key),
            8 => Self::Update(key, value),
            9 => Self::Toggle(key, value),
            10 => Self::Swap,
            11 | 12 => Self::Upsert(key, value),
            _ => Self::ReadBoth,
        }
    }

    /// What the call does to a pair of values, and what it answers: the values before.
    fn apply(self, state: State) -> (State, State) {
        let (mut after, mut seen) = (state, [None; 2]);
        match self {
            Self::Get(key) => seen[key] = state[key],
            Self::Insert(key, value) => seen[key] = after[key].replace(value),
            Self::IfAbsent(key, value) => {
                seen[key] = state[key].map(|_| value);
                after[key] = state[key].or(Some(value));
            }
            Self::IfPresent(key, value) | Self::Update(key, value) => {
                seen[key] = state[key];
                after[key] = state[key].map(|_| value);
            }
            Self::Remove(key) => seen[key] = after[key].take(),
            Self::Upsert(key, value) => {
                seen[key] = state[key].or(Some(value));
                after[key] = state[key].map(|_| value).or(Some(value + 1_000));
            }
            Self::Toggle(key, value) => {
                seen[key] = state[key];
                after[key] = state[key].is_none().then_some(value);
            }
            Self::Swap => (after, seen) = ([state[1], state[0]], state),
            Self::ReadBoth => seen = state,
        }
        (after, seen)
    }

    fn run(self, cache: &Numbers, keys: [u32; 2]) -> State {
        let mut seen = [None; 2];
        match self {
            Self::Get(key) => seen[key] = cache.get(&keys[key]),
            Self::Insert(key, value) => seen[key] = cache.insert(keys[key], value),
            Self::IfAbsent(key, value) => {
                let inserted =
                    cache.insert_with(keys[key], value, InsertOptions::new().if_absent());
                seen[key] = match inserted {
                    Insert::Kept(value) => Some(value),
                    other => other.replaced(),
                };
            }
            Self::IfPresent(key, value) => {
                let options = InsertOptions::new().if_present();
                seen[key] = cache.insert_with(keys[key], value, options).replaced();
            }
            Self::Remove(key) => seen[key] = cache.remove(&keys[key]),
            Self::Update(key, value) => {
                seen[key] = cache.update(&keys[key], |old| mem::replace(old, value));
            }
            Self::Upsert(key, value) => {
                let change = |old: &mut u32| {
                    let new = if *old == value { value + 1_000 } else { value };
                    mem::replace(old, new)
                };
                seen[key] = Some(cache.update_or_insert_with(&keys[key], || value, change));
            }
            Self::Toggle(key, value) => {
                let outcome = cache.compute(&keys[key], |old| {
                    seen[key] = old.copied();
                    if old.is_some() {
                        Op::Remove
                    } else {
                        Op::Put(value)
                    }
                });
                match (seen[key], outcome) {
                    (Some(seen), Outcome::Removed(removed)) => assert_eq!(seen, removed),
                    (None, Outcome::Inserted | Outcome::Refused(_)) => {}
                    (seen, outcome) => panic!("{seen:?} was seen and then {outcome:?}"),
                }
            }
            Self::Swap | Self::ReadBoth => seen = self.run_both(cache, keys),
        }
        seen
    }

    /// The transactions, with their keys in either order.
    fn run_both(self, cache: &Numbers, keys: [u32; 2]) -> State {
        let named = if choice(2) == 0 {
            keys
        } else {
            [keys[1], keys[0]]
        };
        let done = cache.transaction(&named, |tx| {
            let seen = keys.map(|key| tx.get(&key).copied());
            if matches!(self, Self::Swap) {
                for (key, value) in [(keys[0], seen[1]), (keys[1], seen[0])] {
                    match value {
                        Some(value) => tx.insert(&key, value)?,
                        None => ignore(tx.remove(&key)),
                    }
                }
            }
            Ok::<_, haybox::Refused<u32>>(seen)
        });
        done.expect("a cache that evicts refuses nothing that could fit")
    }
}

/// A call that has returned, and when it began and ended.
#[derive(Clone, Copy, Debug)]
struct Done {
    call: Call,
    seen: State,
    began: usize,
    ended: usize,
}

#[derive(Default)]
struct History {
    time: AtomicUsize,
    next_value: AtomicU32,
    calls: Mutex<Vec<Done>>,
}

impl History {
    fn run_any(&self, cache: &Numbers, keys: [u32; 2]) {
        self.run(Call::any(&self.next_value), cache, keys);
    }

    fn run(&self, call: Call, cache: &Numbers, keys: [u32; 2]) {
        let began = self.time.fetch_add(1, SeqCst);
        let seen = call.run(cache, keys);
        let ended = self.time.fetch_add(1, SeqCst);
        known(&self.calls).push(Done {
            call,
            seen,
            began,
            ended,
        });
    }

    /// Checks that the calls could have happened one after the other, each at a moment between its
    /// beginning and its end. Where entries are evicted, values may vanish in between.
    fn check(&self, evicts: bool) {
        let calls = known(&self.calls);
        let explained = explain(&calls, &mut Vec::new(), [None; 2], evicts);
        assert!(
            explained,
            "no order of these calls explains them: {calls:#?}"
        );
    }
}

fn explain(calls: &[Done], used: &mut Vec<usize>, state: State, evicts: bool) -> bool {
    if used.len() == calls.len() {
        return true;
    }
    let left = || (0..calls.len()).filter(|at| !used.contains(at));
    let horizon = left().map(|at| calls[at].ended).min().unwrap_or(0);
    let candidates: Vec<usize> = left().filter(|at| calls[*at].began < horizon).collect();
    let vanished = if evicts { 4 } else { 1 };
    candidates.into_iter().any(|at| {
        (0..vanished).any(|gone| {
            let state = [0, 1].map(|key| state[key].filter(|_| gone & (1 << key) == 0));
            let (after, seen) = calls[at].call.apply(state);
            if seen != calls[at].seen {
                return false;
            }
            used.push(at);
            let explained = explain(calls, used, after, evicts);
            used.pop();
            explained
        })
    })
}

/// Three threads with two or three calls each, and one more call on each key at the end.
fn run_any_calls(cache: &Numbers, keys: [u32; 2], evicts: bool) {
    let history = History::default();
    scope(|threads| {
        for calls in [3, 2, 2] {
            let history = &history;
            threads.spawn(move || (0..calls).for_each(|_| history.run_any(cache, keys)));
        }
    });
    history.run(Call::Get(0), cache, keys);
    history.run(Call::Get(1), cache, keys);
    history.check(evicts);
    cache.validate();
}

#[test]
fn calls_on_keys_of_one_set_are_linearizable() {
    check("one set", || {
        run_any_calls(&built(numbers()), [1, 2], false)
    });
}

#[test]
fn calls_on_keys_of_several_sets_are_linearizable() {
    check("several sets", || {
        let cache = built(numbers().max_entries(OF_FOUR_SETS));
        run_any_calls(&cache, [choice(8), 8 + choice(8)], false);
    });
}

#[test]
fn calls_beside_eviction_are_linearizable_but_for_what_is_evicted() {
    check("eviction of one set", || {
        let cache = built(numbers().max_entries(1 + choice(2) as usize));
        run_any_calls(&cache, [1, 2], true);
    });
    check("eviction of several sets", || {
        let cache = built(
            numbers()
                .max_entries(OF_FOUR_SETS)
                .max_weight(1 + u64::from(choice(2))),
        );
        run_any_calls(&cache, [choice(8), 8 + choice(8)], true);
    });
}

#[test]
fn calls_beside_growth_are_linearizable() {
    check("growth", || {
        let cache = built(numbers());
        fill(
            &cache,
            if choice(2) == 0 {
                CROWDED
            } else {
                3 * CROWDED + 5
            },
        );
        run_any_calls(&cache, [choice(8), 8 + choice(8)], false);
    });
}
