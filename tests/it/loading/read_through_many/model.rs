//! Random calls for several keys, whose loads run at random moments, against a model of what each
//! key is: what is served, what is asked for with one query, and what is stored.

use super::super::{Spawned, assert_settled, poll_once};
use crate::common::SECOND;
use haybox::{Cache, Freshness, MockClock, ReadThroughManyAsync};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// Seconds.
const TTL: u64 = 10;
const DUE: u64 = 4;

const QUICK: u32 = 300;
const ASKED: u32 = 10_000;

#[derive(Clone, Debug)]
enum Op {
    /// The caller is there for so long, and goes away if the load has not ended then.
    GetMany(Vec<u32>),
    RefreshMany(Vec<u32>),
    Get(u32),
    /// One of the tasks that are spawned, the first if there are fewer.
    Run(usize),
    Drop(usize),
    /// The row changes, or is no more, and is invalidated.
    Commit(u32, Option<u32>),
    Insert(u32, u32),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..5_u32;
    let keys = || vec(key(), 0..5);
    prop_oneof![
        6 => keys().prop_map(Op::GetMany),
        1 => keys().prop_map(Op::RefreshMany),
        1 => key().prop_map(Op::Get),
        4 => (0..4_usize).prop_map(Op::Run),
        1 => (0..4_usize).prop_map(Op::Drop),
        2 => (key(), proptest::option::of(0..1000_u32)).prop_map(|(key, row)| Op::Commit(key, row)),
        1 => (key(), 0..1000_u32).prop_map(|(key, value)| Op::Insert(key, value)),
        3 => (1..6_u64).prop_map(Op::Pass),
    ]
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its value, and when it was written.
    entry: Option<(u32, u64)>,
    /// The number of the task that loads it.
    loading: Option<u32>,
}

type Rows = Arc<Mutex<BTreeMap<u32, u32>>>;

struct World {
    cache: Cache<u32, u32>,
    time: MockClock,
    now: u64,
    rows: Rows,
    queries: Arc<Mutex<Vec<Vec<u32>>>>,
    through: ReadThroughManyAsync<u32, u32, ()>,
    spawned: Spawned,
    /// The numbers of the tasks that are spawned, and their keys.
    tasks: Vec<(u32, Vec<u32>)>,
    next: u32,
    known: BTreeMap<u32, Known>,
}

impl World {
    fn new() -> Self {
        let (time, spawned) = (MockClock::new(), Spawned::default());
        let tasks = spawned.clone();
        let cache: Cache<u32, u32> = Cache::builder()
            .clock(time.clock())
            .time_to_live(SECOND * TTL as u32)
            .freshness(Freshness::new().refresh_after(SECOND * DUE as u32))
            .spawner(move |load| tasks.0.lock().unwrap().push(load))
            .build()
            .unwrap();
        let rows = Rows::default();
        let queries: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let (table, log) = (Arc::clone(&rows), Arc::clone(&queries));
        let through = cache.read_through_many_async(move |keys: Vec<u32>| {
            let table = Arc::clone(&table);
            log.lock().unwrap().push(keys.clone());
            async move {
                let table = table.lock().unwrap();
                let row = |key: u32| table.get(&key).map(|row| (key, *row));
                Ok(keys.into_iter().filter_map(row).collect::<Vec<_>>())
            }
        });
        Self {
            cache,
            time,
            now: 0,
            rows,
            queries,
            through,
            spawned,
            tasks: Vec::new(),
            next: 0,
            known: BTreeMap::new(),
        }
    }

    fn known(&self, key: u32) -> Known {
        self.known.get(&key).copied().unwrap_or_default()
    }

    /// The value of a key, and its age, while it lives.
    fn live(&self, key: u32) -> Option<(u32, u64)> {
        let (value, written) = self.known(key).entry?;
        let age = self.now - written;
        (age < TTL).then_some((value, age))
    }

    /// What a call has to do: what it is given at once, if that is all of it, and what it loads.
    fn expect(&self, keys: &[u32], insists: bool) -> (Option<Vec<Option<u32>>>, Vec<u32>) {
        let mut seen = BTreeSet::new();
        let (mut loads, mut served) = (Vec::new(), true);
        for key in keys {
            let live = self.live(*key);
            let is_fresh = live.is_some_and(|(_, age)| age < DUE) && !insists;
            if is_fresh || !seen.insert(*key) {
                continue;
            }
            served &= live.is_some() && !insists;
            if self.known(*key).loading.is_none() {
                loads.push(*key);
            }
        }
        let values = keys.iter().map(|key| self.live(*key).map(|live| live.0));
        (served.then(|| values.collect()), loads)
    }

    fn call(&mut self, keys: &[u32], insists: bool) {
        let (expected, loads) = self.expect(keys, insists);
        let answer = if insists {
            poll_once(pin!(self.through.refresh_many(keys)))
        } else {
            poll_once(pin!(self.through.get_many(keys)))
        };
        assert_eq!(
            answer,
            expected.map_or(Poll::Pending, |found| Poll::Ready(Ok(found)))
        );
        self.has_begun(loads);
    }

    fn has_begun(&mut self, loads: Vec<u32>) {
        if !loads.is_empty() {
            for key in &loads {
                self.known.entry(*key).or_default().loading = Some(self.next);
            }
            self.tasks.push((self.next, loads));
            self.next += 1;
        }
        assert_eq!(
            self.spawned.len(),
            self.tasks.len(),
            "one task for each call"
        );
    }

    fn task(&mut self, at: usize) -> Option<(haybox::BoxedLoad, u32, Vec<u32>)> {
        let at = if at < self.tasks.len() { at } else { 0 };
        let (number, keys) = (!self.tasks.is_empty()).then(|| self.tasks.remove(at))?;
        Some((self.spawned.0.lock().unwrap().remove(at), number, keys))
    }

    fn run_task(&mut self, at: usize) {
        let Some((mut task, number, keys)) = self.task(at) else {
            return;
        };
        assert!(poll_once(task.as_mut()).is_ready());
        let asked = std::mem::take(&mut *self.queries.lock().unwrap());
        assert_eq!(
            (asked.len(), asked.concat()),
            (1, keys.clone()),
            "one query"
        );
        for key in keys {
            let row = self.rows.lock().unwrap().get(&key).copied();
            let known = self.known.entry(key).or_default();
            if known.loading == Some(number) {
                known.loading = None;
                known.entry = row.map(|row| (row, self.now));
            }
        }
    }

    fn drop_task(&mut self, at: usize) {
        let Some((task, number, keys)) = self.task(at) else {
            return;
        };
        drop(task);
        for key in keys {
            let known = self.known.entry(key).or_default();
            known.loading = known.loading.filter(|task| *task != number);
        }
    }

    fn write(&mut self, key: u32, value: Option<u32>) {
        let entry = value.map(|value| (value, self.now));
        let loading = None;
        self.known.insert(key, Known { entry, loading });
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::GetMany(keys) => self.call(keys, false),
            Op::RefreshMany(keys) => self.call(keys, true),
            Op::Get(key) => {
                let (expected, loads) = self.expect(&[*key], false);
                let answer = poll_once(pin!(self.through.get(key)));
                let expected = expected.map(|found| Ok(found[0]));
                assert_eq!(answer, expected.map_or(Poll::Pending, Poll::Ready));
                self.has_begun(loads);
            }
            Op::Run(at) => self.run_task(*at),
            Op::Drop(at) => self.drop_task(*at),
            Op::Commit(key, row) => {
                let mut rows = self.rows.lock().unwrap();
                match row {
                    Some(row) => rows.insert(*key, *row),
                    None => rows.remove(key),
                };
                drop(rows);
                self.through.invalidate(key);
                self.write(*key, None);
            }
            Op::Insert(key, value) => {
                self.cache.insert(*key, *value);
                self.write(*key, Some(*value));
            }
            Op::Pass(seconds) => {
                self.time.advance(SECOND * *seconds as u32);
                self.now += seconds;
            }
        }
        for key in 0..5 {
            let live = self.live(key).map(|(value, _)| value);
            assert_eq!(self.cache.peek(&key), live, "{key} after {op:?}");
        }
    }
}

#[test]
fn random_calls_for_several_keys_agree_with_a_model_of_each_key() {
    let cases = crate::common::cases(QUICK, ASKED);
    println!("lists: {cases} random cases (asked for: {ASKED})");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(op(), 1..80), |ops| {
        let mut world = World::new();
        ops.iter().for_each(|op| world.apply(op));
        while !world.tasks.is_empty() {
            world.run_task(0);
        }
        assert_settled(&world.cache);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
