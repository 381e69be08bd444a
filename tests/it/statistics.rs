//! Statistics as a list of names and values.

use crate::common::{SECOND, timed};
use haybox::limit::LimiterStats;
use haybox::lock::LocksStats;
use haybox::presence::PresenceStats;
use haybox::pubsub::BusStats;
use haybox::queue::{Queue, QueueStats, WorkersReport};
use haybox::{Cache, Freshness, MockClock, Stats};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::thread;
use std::time::Duration;

/// The derived `Debug` knows all fields of a struct.
fn lists_all(statistics: impl Debug, listed: impl Iterator<Item = (&'static str, u64)>) {
    let shown = format!("{statistics:#?}");
    let fields = shown.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    ")?.split_once(": ")?;
        (!name.starts_with(' ')).then_some(name)
    });
    let fields: Vec<_> = fields.collect();
    let names: Vec<_> = listed.map(|(name, _)| name).collect();
    assert!(fields.len() >= 3, "{shown}");
    assert_eq!(names, fields);
}

#[test]
fn every_figure_is_listed_by_its_name() {
    lists_all(Stats::default(), Stats::default().iter());
    lists_all(QueueStats::default(), QueueStats::default().iter());
    lists_all(WorkersReport::default(), WorkersReport::default().iter());
    lists_all(LimiterStats::default(), LimiterStats::default().iter());
    lists_all(LocksStats::default(), LocksStats::default().iter());
    lists_all(PresenceStats::default(), PresenceStats::default().iter());
    lists_all(BusStats::default(), BusStats::default().iter());
    #[cfg(feature = "session")]
    {
        use haybox::session::SessionStats;
        lists_all(SessionStats::default(), SessionStats::default().iter());
    }
}

#[test]
fn a_list_has_the_values_of_its_fields() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    cache.insert(1, 10);
    for key in [1, 1, 2] {
        let _ = cache.get(&key);
    }
    cache.get_or_insert_with(&3, || {
        time.advance(Duration::from_millis(20));
        30
    });
    let stats = cache.stats();
    let listed: BTreeMap<_, _> = stats.iter().collect();
    assert_eq!((listed["hits"], listed["misses"]), (2, 2));
    assert_eq!(listed["entries"], 2);
    assert_eq!(listed["memory"], stats.memory);
    assert_eq!(listed["load_time"], 20_000_000, "nanoseconds");
}

#[test]
fn an_age_that_is_not_there_is_zero() {
    let time = MockClock::new();
    let queue = Queue::builder(10).clock(time.clock()).build().unwrap();
    let age = |queue: &Queue<u32>| queue.stats().iter().find(|(name, _)| *name == "oldest_age");
    assert_eq!(age(&queue), Some(("oldest_age", 0)));
    queue.push(1).unwrap();
    time.advance(SECOND);
    assert_eq!(age(&queue), Some(("oldest_age", 1_000_000_000)));
}

#[test]
fn who_waits_for_the_load_of_another_has_missed() {
    let cache = Cache::<u32, u32>::new(10);
    thread::scope(|threads| {
        for _ in 0..50 {
            threads.spawn(|| {
                cache.get_or_insert_with(&1, || {
                    while cache.stats().waits < 49 {
                        thread::yield_now();
                    }
                    10
                })
            });
        }
    });
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (0, 50));
    assert_eq!((stats.waits, stats.loads), (49, 1));
}

#[test]
fn what_is_served_stale_has_been_missed_and_what_is_due_has_been_hit() {
    let freshness = Freshness::new()
        .refresh_after(SECOND)
        .stale_if_error(SECOND * 60)
        .retry_after(SECOND * 60);
    let (cache, time) = timed(|builder| {
        let builder = builder.max_entries(10).time_to_live(SECOND * 2);
        builder.freshness(freshness)
    });
    let load = |result: Result<u32, ()>| cache.try_get_or_insert_with(&1, || result);
    assert_eq!(load(Ok(10)), Ok(10));
    time.advance(SECOND);
    assert_eq!(load(Err(())), Ok(10), "it is due");
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.stale_served), (1, 1, 0));
    assert_eq!((stats.loads, stats.load_failures), (1, 1));
    time.advance(SECOND * 2);
    for _ in 0..3 {
        assert_eq!(load(Err(())), Ok(10), "it is stale");
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.stale_served), (1, 4, 3));
    assert_eq!((stats.waits, stats.load_failures), (0, 1));
}
