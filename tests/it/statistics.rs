//! Statistics as a list of names and values.

use crate::common::{SECOND, timed};
use haybox::limit::LimiterStats;
use haybox::lock::LocksStats;
use haybox::presence::PresenceStats;
use haybox::pubsub::BusStats;
use haybox::queue::{Queue, QueueStats, WorkersReport};
use haybox::{Cache, Freshness, Metric, MetricKind, MetricUnit, MockClock, Stats};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::thread;
use std::time::Duration;

/// The derived `Debug` knows all fields of a struct.
fn lists_all(statistics: impl Debug, listed: impl Iterator<Item = Metric>) {
    let fields = fields_of(statistics);
    let names: Vec<_> = listed.map(|metric| metric.name).collect();
    assert!(fields.len() >= 3, "{fields:?}");
    assert_eq!(names, fields);
}

fn fields_of(statistics: impl Debug) -> Vec<String> {
    let shown = format!("{statistics:#?}");
    let fields = shown.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    ")?.split_once(": ")?;
        (!name.starts_with(' ')).then(|| name.to_owned())
    });
    fields.collect()
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

#[cfg(feature = "persist")]
#[test]
fn of_health_all_numbers_are_listed_and_whether_all_is_well() {
    use haybox::persist::{Health, HealthState};
    let mut health = Health::default();
    let mut fields = fields_of(&health);
    fields.retain(|field| !["trouble", "compaction", "last_sync"].contains(&field.as_str()));
    fields[0] = "well".to_owned();
    let names: Vec<_> = health.iter().map(|metric| metric.name).collect();
    assert_eq!(names, fields);
    let well = |health: &Health| health.iter().next().map(|metric| metric.value);
    assert_eq!(well(&health), Some(1));
    for state in [
        HealthState::Troubled,
        HealthState::ReadOnly,
        HealthState::Failed,
    ] {
        health.state = state;
        assert_eq!(well(&health), Some(0), "{state:?}");
    }
    (health.log_bytes, health.write_failures) = (300, 2);
    let listed: BTreeMap<_, _> = health
        .iter()
        .map(|metric| (metric.name, (metric.kind, metric.value)))
        .collect();
    assert_eq!(listed["log_bytes"], (MetricKind::Gauge, 300));
    assert_eq!(listed["write_failures"], (MetricKind::Counter, 2));
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
    let listed: BTreeMap<_, _> = stats
        .iter()
        .map(|metric| (metric.name, metric.value))
        .collect();
    assert_eq!((listed["hits"], listed["misses"]), (2, 2));
    assert_eq!(listed["entries"], 2);
    assert_eq!(listed["memory"], stats.memory);
    assert_eq!(listed["load_time"], 20_000_000, "nanoseconds");
    let times = stats
        .iter()
        .filter(|metric| metric.unit == MetricUnit::Nanoseconds);
    let times: Vec<_> = times.map(|metric| metric.name).collect();
    assert_eq!(times, ["load_time"]);
}

#[test]
fn an_age_that_is_not_there_is_zero() {
    let time = MockClock::new();
    let queue = Queue::builder(10).clock(time.clock()).build().unwrap();
    let age = |queue: &Queue<u32>| {
        let mut listed = queue.stats().iter();
        let age = listed.find(|metric| metric.name == "oldest_age");
        age.expect("it is listed").value
    };
    assert_eq!(age(&queue), 0);
    queue.push(1).unwrap();
    time.advance(SECOND);
    assert_eq!(age(&queue), 1_000_000_000);
}

/// A reset takes the counters to where they began, and leaves what is there.
#[test]
fn counters_begin_anew_at_a_reset_and_gauges_do_not() {
    let cache = Cache::<u32, u32>::builder()
        .max_entries(10)
        .build()
        .unwrap();
    for key in 0..20 {
        cache.insert(key, key);
    }
    let used = cache.stats();
    cache.reset_stats();
    let mut gauges = Vec::new();
    for (before, after) in used.iter().zip(cache.stats().iter()) {
        if after.kind == MetricKind::Counter {
            assert_eq!(after.value, 0, "{after:?}");
        } else {
            assert_eq!((after, after.kind), (before, MetricKind::Gauge));
            gauges.push(after.name);
        }
    }
    assert_eq!(gauges, ["entries", "absences", "weight", "memory"]);
    assert!(used.evictions == 10 && used.entries == 10, "{used:?}");
}

/// What goes down as messages come and go is a gauge, and the rest only grows.
#[test]
fn the_counters_of_a_queue_only_grow_and_its_gauges_come_back_to_zero() {
    let queue = Queue::builder(10).build().unwrap();
    let mut before = queue.stats();
    let mut grows_only = |queue: &Queue<u32>| {
        let now = queue.stats();
        for (earlier, later) in before.iter().zip(now.iter()) {
            let is_counter = later.kind == MetricKind::Counter;
            assert!(!is_counter || later.value >= earlier.value, "{later:?}");
        }
        before = now;
        now
    };
    queue.push(1).unwrap();
    grows_only(&queue);
    let delivery = queue.pop().unwrap();
    grows_only(&queue);
    delivery.ack().unwrap();
    let ended = grows_only(&queue);
    let gauges = ended
        .iter()
        .filter(|metric| metric.kind == MetricKind::Gauge);
    let gauges: Vec<u64> = gauges.map(|gauge| gauge.value).collect();
    assert_eq!(gauges, [0; 6]);
    assert_eq!(MetricKind::Gauge.to_string(), "gauge");
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
