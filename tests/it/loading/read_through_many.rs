//! A loader of several keys bound to a cache.

mod behind;
mod model;

use super::{Gate, Numbers, assert_settled, block_on};
use crate::common::{HOUR, SECOND, panic_of, timed};
use haybox::{
    Cache, CacheBuilder, Freshness, LoadError, Loaded, MockClock, ReadThroughMany,
    ReadThroughManyAsync, Ttl,
};
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A table whose rows hold ten times their key, and what it was asked for.
#[derive(Clone, Default)]
struct Table {
    queries: Arc<Mutex<Vec<Vec<u32>>>>,
    is_down: Arc<AtomicBool>,
    has_bug: Arc<AtomicBool>,
    /// What is added to the value of each row.
    change: Arc<AtomicU32>,
}

type Rows = Result<Vec<(u32, u32)>, &'static str>;

impl Table {
    /// Rows from 100 on are not there.
    fn query(&self, keys: Vec<u32>) -> Rows {
        self.queries.lock().unwrap().push(keys.clone());
        if self.has_bug.load(SeqCst) {
            resume_unwind(Box::new("no source"));
        }
        if self.is_down.load(SeqCst) {
            return Err("down");
        }
        let change = self.change.load(SeqCst);
        let there = keys.into_iter().filter(|key| *key < 100).rev();
        Ok(there.map(|key| (key, key * 10 + change)).collect())
    }

    /// What it was asked for since the last look.
    fn asked(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut *self.queries.lock().unwrap())
    }

    fn behind(&self, cache: &Numbers) -> ReadThroughMany<u32, u32, &'static str> {
        let table = self.clone();
        cache.read_through_many(move |keys| table.query(keys))
    }

    /// Each query is made when the gate is open.
    fn gated(&self, cache: &Numbers, gate: &Gate) -> ReadThroughManyAsync<u32, u32, &'static str> {
        let (table, gate) = (self.clone(), gate.clone());
        cache.read_through_many_async(move |keys| {
            let (table, gate) = (table.clone(), gate.clone());
            async move {
                gate.pass().await;
                table.query(keys)
            }
        })
    }

    fn behind_async(&self, cache: &Numbers) -> ReadThroughManyAsync<u32, u32, &'static str> {
        let gate = Gate::default();
        gate.open();
        self.gated(cache, &gate)
    }
}

/// Entries live for ten seconds.
fn with(freshness: Freshness) -> (Numbers, MockClock, Table) {
    let (cache, time) = timed(|builder: CacheBuilder<u32, u32>| {
        let builder = builder.max_entries(100).time_to_live(SECOND * 10);
        builder.freshness(freshness)
    });
    (cache, time, Table::default())
}

// ---- what it is ----

#[test]
fn a_list_comes_with_one_query_for_what_is_missing() {
    let (cache, _, table) = with(Freshness::new());
    let rows = table.behind(&cache);
    cache.insert(2, 2);
    let found = rows.get_many(&[3, 2, 100, 1, 3]);
    assert_eq!(found, Ok(vec![Some(30), Some(2), None, Some(10), Some(30)]));
    assert_eq!(table.asked(), [[3, 100, 1]]);
    assert_eq!(rows.get(&4), Ok(Some(40)));
    assert_eq!(rows.get(&100), Ok(None));
    assert_eq!(table.asked(), [[4], [100]]);
    let polled = table.behind_async(&cache);
    let found = block_on(polled.get_many(&[4, 5]));
    assert_eq!(found, Ok(vec![Some(40), Some(50)]));
    assert_eq!(block_on(polled.get(&6)), Ok(Some(60)));
    assert_eq!(table.asked(), [[5], [6]]);
    assert_eq!(rows.get_many(&[3, 4, 5, 6]).unwrap().len(), 4);
    let nothing: [&u32; 0] = [];
    assert_eq!(rows.get_many(nothing), Ok(vec![]));
    assert!(table.asked().is_empty());
    polled.invalidate(&5);
    rows.invalidate(&6);
    assert_eq!(polled.cache().get_many(&[4, 5, 6]), [Some(40), None, None]);
    assert_settled(rows.cache());
}

#[test]
fn the_handles_may_go_to_other_threads_and_be_named_in_a_struct() {
    fn is_handle<T: Clone + Send + Sync + std::fmt::Debug + 'static>(handle: &T) -> String {
        format!("{:?}", handle.clone())
    }
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (cache, _, table) = with(Freshness::new());
    assert!(is_handle(&table.behind(&cache)).starts_with("ReadThroughMany {"));
    let polled = table.behind_async(&cache);
    assert!(is_handle(&polled).starts_with("ReadThroughManyAsync {"));
    assert_eq!(block_on(is_send(polled.get(&3))), Ok(Some(30)));
    assert_eq!(block_on(is_send(polled.refresh(&3))), Ok(Some(30)));
    let found = block_on(is_send(polled.get_many(&[3])));
    assert_eq!(found, Ok(vec![Some(30)]));
    let found = block_on(is_send(polled.refresh_many(&[3])));
    assert_eq!(found, Ok(vec![Some(30)]));
}

#[test]
fn keys_may_be_asked_for_by_what_they_borrow_as() {
    let cache: Cache<String, usize> = Cache::new(10);
    let lengths = cache.read_through_many(|names: Vec<String>| {
        let length = |name: String| (name.clone(), name.len());
        Ok::<_, ()>(names.into_iter().map(length))
    });
    let found = lengths.get_many(["hay", "straw"]);
    assert_eq!(found, Ok(vec![Some(3), Some(5)]));
    assert_eq!(lengths.get("oats"), Ok(Some(4)));
    assert_settled(&cache);
}

#[test]
fn what_is_brought_may_come_as_a_map_with_a_ttl_tags_and_a_weight() {
    let (cache, _) = timed(|builder: CacheBuilder<u32, u32>| {
        let builder = builder.max_weight(100).weigher(|_, _| 1);
        builder.time_to_live(HOUR)
    });
    let load = |keys: Vec<u32>| {
        let loaded = |key| match key {
            1 => Loaded::new(10).tag("odd").ttl(SECOND),
            2 => Loaded::new(20).weight(7),
            3 => Loaded::new(30).tag("odd"),
            _ => Loaded::absent(),
        };
        let loaded = keys.into_iter().map(|key| (key, loaded(key)));
        Ok::<HashMap<u32, Loaded<u32>>, ()>(loaded.collect())
    };
    let rows = cache.read_through_many(load);
    let polled = cache.read_through_many_async(move |keys| async move { load(keys) });
    for ask in [
        &|| rows.get_many(&[1, 2, 3, 4]) as Result<_, _>,
        &(|| block_on(polled.get_many(&[1, 2, 3, 4]))) as &dyn Fn() -> _,
        &|| [1, 2, 3, 4].iter().map(|key| rows.get(key)).collect(),
    ] {
        assert_eq!(ask(), Ok(vec![Some(10), Some(20), Some(30), None]));
        assert_eq!(cache.ttl(&1), Some(Ttl::Left(SECOND)));
        assert_eq!(cache.ttl(&3), Some(Ttl::Left(HOUR)));
        assert_eq!(cache.weight(), 9);
        cache.invalidate_tag("odd");
        assert_eq!(cache.get_many(&[1, 2, 3]), [None, Some(20), None]);
        cache.clear();
    }
    let options = cache.read_through_many(|keys: Vec<u32>| {
        let row = |key: u32| (key, (key > 5).then_some(key));
        Ok::<_, ()>(keys.into_iter().map(row))
    });
    assert_eq!(options.get_many(&[5, 6]), Ok(vec![None, Some(6)]));
    assert_settled(&cache);
}

#[test]
fn that_there_is_no_row_is_remembered_and_an_error_is_not() {
    let (cache, time) = timed(|builder| builder.max_entries(10).negative_ttl(SECOND));
    let table = Table::default();
    let rows = table.behind(&cache);
    assert_eq!(rows.get_many(&[100, 101]), Ok(vec![None, None]));
    assert_eq!(rows.get(&100), Ok(None), "as is remembered");
    assert_eq!(rows.get_many(&[101, 1]), Ok(vec![None, Some(10)]));
    assert_eq!(table.asked(), [vec![100, 101], vec![1]]);
    time.advance(SECOND);
    table.is_down.store(true, SeqCst);
    for _ in 0..2 {
        let error = rows.get_many(&[1, 100]).unwrap_err();
        assert_eq!(error, LoadError::Failed("down".into()));
    }
    assert_eq!(table.asked(), [[100], [100]]);
    assert_settled(&cache);
}

#[test]
fn an_error_that_is_remembered_of_one_key_is_no_failure_of_those_before_it() {
    let (cache, _) = timed(|builder| builder.max_entries(100).error_ttl(SECOND));
    let table = Table::default();
    let (rows, polled) = (table.behind(&cache), table.behind_async(&cache));
    table.is_down.store(true, SeqCst);
    let down = Err(LoadError::Failed("down".into()));
    assert_eq!(rows.get_many(&[4]), down);
    table.is_down.store(false, SeqCst);
    assert_eq!(table.asked(), [[4]]);
    assert_eq!(rows.get_many(&[1, 2, 3, 4, 5]), down);
    assert_eq!(block_on(polled.get_many(&[1, 2, 3, 4, 5])), down);
    assert!(table.asked().is_empty());
    assert_eq!(cache.stats().load_failures, 1, "what the source was asked");
    assert_settled(&cache);
    let rest = vec![Some(10), Some(20), Some(30), Some(50)];
    assert_eq!(rows.get_many(&[1, 2, 3, 5]), Ok(rest));
    assert_settled(&cache);
}

#[test]
fn not_modified_is_a_panic_since_no_old_value_is_shown() {
    let cache: Numbers = Cache::new(10);
    let rows = cache.read_through_many(|keys: Vec<u32>| {
        let row = |key| (key, Loaded::<u32>::not_modified());
        Ok::<_, ()>(keys.into_iter().map(row))
    });
    assert!(panic_of(|| rows.get_many(&[1, 2])).contains("not modified"));
    assert!(panic_of(|| rows.get(&1)).contains("not modified"));
    assert_settled(&cache);
}

#[test]
fn a_loader_that_reads_through_itself_for_one_of_its_keys_is_told_so() {
    let slot: Arc<Mutex<Option<ReadThroughMany<u32, u32, &'static str>>>> = Arc::default();
    let own = Arc::clone(&slot);
    let rows = Cache::new(10).read_through_many(move |keys: Vec<u32>| {
        let rows = own.lock().unwrap().clone().unwrap();
        match rows.get_many(&[keys[1], 9]) {
            Err(LoadError::Reentrant) => Err::<[(u32, u32); 0], _>("circle"),
            // The inner call, for the key that the outer one has not asked for.
            other => panic!("{other:?}"),
        }
    });
    *slot.lock().unwrap() = Some(rows.clone());
    rows.cache().insert(9, 90);
    let error = rows.get_many(&[1, 2]).unwrap_err();
    assert_eq!(error, LoadError::Failed("circle".into()));
    assert_settled(rows.cache());
    slot.lock().unwrap().take();
}

// ---- refreshing by hand ----

#[test]
fn several_values_are_loaded_anew_with_one_query_though_they_are_fresh() {
    let (cache, _, table) = with(Freshness::new());
    let (rows, polled) = (table.behind(&cache), table.behind_async(&cache));
    assert_eq!(rows.get_many(&[1, 2]), Ok(vec![Some(10), Some(20)]));
    table.change.store(1, SeqCst);
    let found = rows.refresh_many(&[1, 2, 3, 1]);
    assert_eq!(found, Ok(vec![Some(11), Some(21), Some(31), Some(11)]));
    table.change.store(2, SeqCst);
    let found = block_on(polled.refresh_many(&[2, 3]));
    assert_eq!(found, Ok(vec![Some(22), Some(32)]));
    assert_eq!(rows.refresh(&1), Ok(Some(12)));
    assert_eq!(cache.get_many(&[1, 2, 3]), [Some(12), Some(22), Some(32)]);
    assert_eq!(cache.stats().refreshes, 5);
    table.is_down.store(true, SeqCst);
    assert!(rows.refresh_many(&[1, 2]).is_err());
    assert!(block_on(polled.refresh_many(&[1, 2])).is_err());
    assert_eq!(
        rows.get_many(&[1, 2]),
        Ok(vec![Some(12), Some(22)]),
        "the old ones stay"
    );
    let asked = [vec![1, 2], vec![1, 2, 3], vec![2, 3], vec![1]];
    assert_eq!(table.asked()[..4], asked);
    assert_settled(&cache);
}

#[test]
fn a_freshness_for_some_calls_goes_before_that_of_the_cache() {
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(SECOND));
    let table = Table::default();
    let plain = table.behind(&cache);
    let lenient = Freshness::new().stale_if_error(SECOND * 5);
    let kept = plain.with_freshness(lenient.clone()).unwrap();
    let kept_async = table.behind_async(&cache).with_freshness(lenient).unwrap();
    assert_eq!(kept.get_many(&[1, 2]), Ok(vec![Some(10), Some(20)]));
    let found = block_on(kept_async.get_many(&[2, 3]));
    assert_eq!(found, Ok(vec![Some(20), Some(30)]));
    table.is_down.store(true, SeqCst);
    time.advance(SECOND);
    assert!(plain.get_many(&[1, 2]).is_err());
    assert_eq!(kept.get_many(&[1, 2]), Ok(vec![Some(10), Some(20)]));
    assert_eq!(kept.get(&3), Ok(Some(30)));
    let found = block_on(kept_async.get_many(&[3, 2]));
    assert_eq!(found, Ok(vec![Some(30), Some(20)]));
    time.advance(SECOND * 5);
    assert!(kept.get_many(&[1, 2]).is_err(), "gone");
    let wrong = Freshness::new().jitter(2.0);
    assert_eq!(plain.with_freshness(wrong).unwrap_err().setting(), "jitter");
    assert_settled(&cache);
}
