//! A process is killed while it writes, again and again, and what it had acknowledged is there.
//!
//! The child is this test binary, with the test [`the_child`] alone. Its threads do what a number
//! says ([`Step::of`]), so that parent and child agree on every state without talking: after the
//! first `n` steps of a thread its keys hold what the parent works out. Acknowledgements come
//! through a pipe, which outlives the child.
//!
//! 100 rounds, or as many as `HAYBOX_KILLS` says.

use crate::dir;
use haybox::persist::{Persistence, SyncPolicy};
use haybox::{Cache, Op, Store};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const THREADS: u8 = 2;

/// What may wait to be written. The least there is, so that loss shows.
const BUFFER: usize = 4 << 10;

/// No record of a step is shorter.
const SHORTEST: usize = 8;

/// What the child is told, in its environment.
const ORDERS: &str = "HAYBOX_KILLED_CHILD";

type Key = (u8, u32);
type Carts = Store<Key, String>;

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u32),
    Remove(u32),
    Append(u32),
    Toggle(u32),
    /// Two keys as one.
    Both(u32, u32),
}

impl Step {
    fn of(thread: u8, number: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(number << 8 | u64::from(thread));
        let key = random.u32(0..40);
        match random.u8(0..8) {
            0..3 => Self::Insert(key),
            3 => Self::Remove(key),
            4..6 => Self::Append(key),
            6 => Self::Toggle(key),
            _ => Self::Both(key, 40 + key),
        }
    }

    /// Carries the step out in the model.
    fn model(self, number: u64, state: &mut BTreeMap<u32, String>) {
        let value = text(number);
        match self {
            Self::Insert(key) => _ = state.insert(key, value),
            Self::Remove(key) => _ = state.remove(&key),
            Self::Append(key) => {
                state.entry(key).and_modify(|old| append(old, number));
            }
            Self::Toggle(key) => match state.remove(&key) {
                Some(_) => {}
                None => _ = state.insert(key, value),
            },
            Self::Both(one, other) => {
                state.insert(one, value.clone());
                state.insert(other, value);
            }
        }
    }

    /// Carries the step out, and waits if asked to.
    fn run(self, store: &Carts, thread: u8, number: u64, waits: bool) {
        let value = text(number);
        let key = |key| (thread, key);
        let done = match self {
            Self::Insert(at) => store.insert(key(at), value).map(|commit| commit.map(drop)),
            Self::Remove(at) => store.remove(&key(at)).map(|commit| commit.map(drop)),
            Self::Append(at) => store
                .update(&key(at), |old| append(old, number))
                .map(|commit| commit.map(drop)),
            Self::Toggle(at) => store
                .compute(&key(at), |old| match old {
                    Some(_) => Op::Remove,
                    None => Op::Put(value),
                })
                .map(|commit| commit.map(drop)),
            Self::Both(one, other) => {
                let keys = [key(one), key(other)];
                let done = store.transaction(&keys, |tx| {
                    tx.insert(&keys[0], value.clone())?;
                    tx.insert(&keys[1], value)
                });
                Ok(done.expect("a transaction is kept"))
            }
        };
        let commit = done.expect("a write is kept");
        if waits {
            commit.wait().expect("a write is durable");
        } else {
            commit.into_value();
        }
    }
}

fn text(number: u64) -> String {
    format!("{number} {}", "x".repeat((number % 50) as usize))
}

fn append(value: &mut String, number: u64) {
    value.truncate(100);
    value.push_str(&number.to_string());
}

/// How a child writes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    policy: SyncPolicy,
    /// Whether it waits before it acknowledges.
    waits: bool,
}

const WAYS: [Way; 4] = [
    Way {
        policy: SyncPolicy::Always,
        waits: true,
    },
    Way {
        policy: SyncPolicy::Every(Duration::from_millis(20)),
        waits: true,
    },
    Way {
        policy: SyncPolicy::Every(Duration::from_millis(20)),
        waits: false,
    },
    Way {
        policy: SyncPolicy::Os,
        waits: false,
    },
];

fn open(dir: &Path, policy: SyncPolicy) -> Carts {
    let options = Persistence::new()
        .sync(policy)
        .buffer(BUFFER)
        // So that it compacts all the time.
        .compact_at(50, 16 << 10);
    let opened = Cache::builder().open_store_with(dir, options);
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// The child: does nothing unless a parent has given it orders.
#[test]
fn the_child() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let mut orders = orders.split('|');
    let dir = PathBuf::from(orders.next().unwrap());
    let way = WAYS[orders.next().unwrap().parse::<usize>().unwrap()];
    let starts: Vec<u64> = orders.map(|start| start.parse().unwrap()).collect();
    let store = open(&dir, way.policy);
    std::thread::scope(|scope| {
        for (thread, start) in (0..THREADS).zip(starts) {
            let store = &store;
            scope.spawn(move || {
                for number in start.. {
                    let asks = number % 4 == 3;
                    Step::of(thread, number).run(store, thread, number, way.waits && asks);
                    if asks {
                        let line = format!("{thread} {number}\n");
                        // Fails when the parent is gone.
                        if std::io::stderr().write_all(line.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}

/// What a thread has done, as far as it is known.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Steps that are in the store.
    steps: u64,
    state: BTreeMap<u32, String>,
}

impl Known {
    /// Finds how many more steps make the state that was found, from the least that it may be on.
    fn catch_up(&mut self, thread: u8, found: &BTreeMap<u32, String>, least: u64, context: &str) {
        let mut known = self.clone();
        // A little more than was acknowledged may have been written.
        for _ in 0..20_000 {
            if known.steps >= least && known.state == *found {
                *self = known;
                return;
            }
            Step::of(thread, known.steps).model(known.steps, &mut known.state);
            known.steps += 1;
        }
        panic!(
            "{context}: thread {thread} had {} steps, at least {least} were kept, and no number of \
             them makes {found:?}",
            self.steps
        );
    }
}

/// Starts a child, kills it after some acknowledgements, and says up to where it has acknowledged.
fn kill_a_child(dir: &Path, way: usize, known: &[Known], acknowledgements: usize) -> Vec<u64> {
    let mut orders = format!("{}|{way}", dir.display());
    for thread in known {
        orders.push_str(&format!("|{}", thread.steps));
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_child", "--nocapture"])
        .env(ORDERS, orders)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut acknowledged: Vec<u64> = known.iter().map(|thread| thread.steps).collect();
    let mut note = |line: String| {
        let (thread, number) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let number: u64 = number.parse().unwrap_or_else(|_| panic!("{line}"));
        acknowledged[thread.parse::<usize>().unwrap()] = number + 1;
    };
    for line in lines.by_ref().take(acknowledgements) {
        note(line.unwrap());
    }
    child.kill().unwrap();
    // What it said before it died.
    lines.map_while(Result::ok).for_each(&mut note);
    child.wait().unwrap();
    acknowledged
}

#[test]
fn fault_1_and_2_kill_9_loses_nothing_that_was_acknowledged_and_the_rest_within_its_bound() {
    let rounds = std::env::var("HAYBOX_KILLS").map_or(100, |rounds| rounds.parse().unwrap());
    let dir = dir();
    let mut known = vec![Known::default(); usize::from(THREADS)];
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..rounds {
        let way = round % WAYS.len();
        let acknowledgements = random.usize(1..80);
        let acknowledged = kill_a_child(dir.path(), way, &known, acknowledgements);
        let store = open(dir.path(), SyncPolicy::Os);
        let mut found = vec![BTreeMap::new(); usize::from(THREADS)];
        for ((thread, key), value) in &store {
            found[usize::from(thread)].insert(key, value);
        }
        let may_lose = match WAYS[way].waits {
            true => 0,
            false => (BUFFER / SHORTEST) as u64,
        };
        for (thread, known) in (0..THREADS).zip(&mut known) {
            let least = acknowledged[usize::from(thread)].saturating_sub(may_lose);
            let least = least.max(known.steps);
            let context = format!(
                "round {round}, {:?}, {}",
                WAYS[way],
                store.journal().recovery()
            );
            known.catch_up(thread, &found[usize::from(thread)], least, &context);
        }
    }
}
