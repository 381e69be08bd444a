//! The table "What writes do to an entry" in the docs of `Cache`, cell by cell.

use crate::common::{HOUR, POLICIES, SECOND, timed};
use EventKind::{Inserted, Removed, Updated};
use RemovalCause::{Expired, Explicit};
use haybox::{
    Cache, EventKind, EvictionPolicy, ExpireIf, Freshness, InsertOptions, MockClock, Op,
    RemovalCause, Ttl,
};
use std::time::{Duration, SystemTime};

/// What becomes of the TTL of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Anew,
    Given,
    Stays,
    Never,
    /// The entry is gone, or never came.
    Gone,
}

/// A call on key 1.
struct Call<'c> {
    cache: &'c Cache<u32, u32>,
    /// The TTL to give, where the call takes one.
    ttl: Duration,
    /// The same as a point in time.
    at: SystemTime,
}

struct Row {
    name: &'static str,
    call: fn(&Call<'_>),
    /// Of an entry that is there.
    ttl: Life,
    is_access: bool,
    events: &'static [EventKind],
    /// Of one that is not.
    new_ttl: Life,
    new_events: &'static [EventKind],
}

const TTL: Duration = Duration::from_secs(100);
const OWN: Duration = Duration::from_secs(60);
const GIVEN: Duration = Duration::from_secs(30);
const PASSED: Duration = Duration::from_secs(10);

/// A call that stores a value whether or not there is one.
const fn stores(name: &'static str, ttl: Life, new_ttl: Life, call: fn(&Call<'_>)) -> Row {
    Row {
        name,
        call,
        ttl,
        is_access: true,
        events: &[Updated],
        new_ttl,
        new_events: &[Inserted],
    }
}

/// A call that leaves a missing entry missing.
const fn concerns(
    name: &'static str,
    (ttl, is_access): (Life, bool),
    events: &'static [EventKind],
    call: fn(&Call<'_>),
) -> Row {
    Row {
        name,
        call,
        ttl,
        is_access,
        events,
        new_ttl: Life::Gone,
        new_events: &[],
    }
}

fn rows() -> Vec<Row> {
    use Life::{Anew, Given, Gone, Never, Stays};
    vec![
        stores("insert", Anew, Anew, |c| drop(c.cache.insert(1, 2))),
        stores("insert_many", Anew, Anew, |c| {
            drop(c.cache.insert_many([(1, 2)]))
        }),
        stores("extend", Anew, Anew, |c| {
            let mut cache = c.cache;
            cache.extend([(1, 2)]);
        }),
        stores("insert_with_ttl", Given, Given, |c| {
            drop(c.cache.insert_with_ttl(1, 2, c.ttl))
        }),
        stores("insert_with", Anew, Anew, |c| {
            drop(c.cache.insert_with(1, 2, InsertOptions::new()))
        }),
        stores("insert_with ttl", Given, Given, |c| {
            c.cache.insert_with(1, 2, InsertOptions::new().ttl(c.ttl));
        }),
        stores("insert_with expire_at", Given, Given, |c| {
            c.cache
                .insert_with(1, 2, InsertOptions::new().expire_at(c.at));
        }),
        stores("insert_with no_ttl", Never, Never, |c| {
            c.cache.insert_with(1, 2, InsertOptions::new().no_ttl());
        }),
        stores("insert_with keep_ttl", Stays, Anew, |c| {
            c.cache.insert_with(1, 2, InsertOptions::new().keep_ttl());
        }),
        Row {
            name: "insert_with if_absent",
            call: |c| drop(c.cache.insert_with(1, 2, InsertOptions::new().if_absent())),
            ttl: Stays,
            is_access: false,
            events: &[],
            new_ttl: Anew,
            new_events: &[Inserted],
        },
        concerns("insert_with if_present", (Anew, true), &[Updated], |c| {
            c.cache.insert_with(1, 2, InsertOptions::new().if_present());
        }),
        concerns("update", (Stays, true), &[Updated], |c| {
            drop(c.cache.update(&1, |value| *value = 2))
        }),
        stores("update_or_insert_with", Stays, Anew, |c| {
            c.cache.update_or_insert_with(&1, || 1, |value| *value = 2)
        }),
        stores("compute Put", Anew, Anew, |c| {
            drop(c.cache.compute(&1, |_| Op::Put(2)))
        }),
        stores("compute PutWithTtl", Given, Given, |c| {
            drop(c.cache.compute(&1, |_| Op::PutWithTtl(2, c.ttl)))
        }),
        stores("compute PutKeepTtl", Stays, Anew, |c| {
            drop(c.cache.compute(&1, |_| Op::PutKeepTtl(2)))
        }),
        concerns("compute Keep", (Stays, false), &[], |c| {
            drop(c.cache.compute(&1, |_| Op::Keep))
        }),
        concerns("compute Remove", (Gone, false), &[Removed(Explicit)], |c| {
            drop(c.cache.compute(&1, |_| Op::Remove))
        }),
        Row {
            name: "get_or_insert_with",
            call: |c| drop(c.cache.get_or_insert_with(&1, || 2)),
            ttl: Stays,
            is_access: true,
            events: &[],
            new_ttl: Anew,
            new_events: &[Inserted],
        },
        stores("transaction insert", Anew, Anew, |c| {
            c.cache.transaction(&[1], |tx| tx.insert(&1, 2)).unwrap()
        }),
        stores("transaction insert_with_ttl", Given, Given, |c| {
            c.cache
                .transaction(&[1], |tx| tx.insert_with_ttl(&1, 2, c.ttl))
                .unwrap();
        }),
        stores("transaction insert_keep_ttl", Stays, Anew, |c| {
            c.cache
                .transaction(&[1], |tx| tx.insert_keep_ttl(&1, 2))
                .unwrap();
        }),
        concerns(
            "transaction remove",
            (Gone, false),
            &[Removed(Explicit)],
            |c| {
                let _: Result<bool, ()> = c.cache.transaction(&[1], |tx| Ok(tx.remove(&1)));
            },
        ),
        concerns("transaction expire", (Given, false), &[], |c| {
            let _: Result<bool, ()> = c.cache.transaction(&[1], |tx| Ok(tx.expire(&1, c.ttl)));
        }),
        concerns("transaction persist", (Never, false), &[], |c| {
            let _: Result<bool, ()> = c.cache.transaction(&[1], |tx| Ok(tx.persist(&1)));
        }),
        concerns(
            "transaction expire at once",
            (Gone, false),
            &[Removed(Expired)],
            |c| {
                let at_once = Duration::ZERO;
                let _: Result<bool, ()> =
                    c.cache.transaction(&[1], |tx| Ok(tx.expire(&1, at_once)));
            },
        ),
        concerns("transaction that fails", (Stays, false), &[], |c| {
            let _: Result<(), ()> = c
                .cache
                .transaction(&[1], |tx| tx.insert(&1, 2).map_err(drop).and(Err(())));
        }),
        concerns("expire", (Given, false), &[], |c| {
            drop(c.cache.expire(&1, c.ttl))
        }),
        concerns("expire_with", (Given, false), &[], |c| {
            drop(c.cache.expire_with(&1, c.ttl, ExpireIf::Always))
        }),
        concerns(
            "expire_with that does not apply",
            (Stays, false),
            &[],
            |c| {
                assert!(!c.cache.expire_with(&1, Duration::MAX, ExpireIf::Sooner));
            },
        ),
        concerns("expire_at", (Given, false), &[], |c| {
            drop(c.cache.expire_at(&1, c.at))
        }),
        concerns("expire at once", (Gone, false), &[Removed(Expired)], |c| {
            drop(c.cache.expire(&1, Duration::ZERO))
        }),
        concerns(
            "expire_at the past",
            (Gone, false),
            &[Removed(Expired)],
            |c| {
                c.cache.expire_at(&1, SystemTime::UNIX_EPOCH);
            },
        ),
        concerns("persist", (Never, false), &[], |c| {
            drop(c.cache.persist(&1))
        }),
        concerns("get", (Stays, true), &[], |c| drop(c.cache.get(&1))),
        concerns("read", (Stays, true), &[], |c| {
            drop(c.cache.read(&1, |_| ()))
        }),
        concerns("get_many", (Stays, true), &[], |c| {
            drop(c.cache.get_many(&[1]))
        }),
        concerns("touch", (Stays, true), &[], |c| drop(c.cache.touch(&1))),
        concerns("peek", (Stays, false), &[], |c| drop(c.cache.peek(&1))),
        concerns("contains_key", (Stays, false), &[], |c| {
            drop(c.cache.contains_key(&1))
        }),
        concerns("ttl", (Stays, false), &[], |c| drop(c.cache.ttl(&1))),
        concerns("deadline", (Stays, false), &[], |c| {
            drop(c.cache.deadline(&1))
        }),
        concerns("frequency", (Stays, false), &[], |c| {
            drop(c.cache.frequency(&1))
        }),
        concerns("iter", (Stays, false), &[], |c| {
            drop(c.cache.iter().count())
        }),
        concerns("keys", (Stays, false), &[], |c| {
            drop(c.cache.keys().count())
        }),
        concerns("values", (Stays, false), &[], |c| {
            drop(c.cache.values().count())
        }),
        concerns("scan", (Stays, false), &[], |c| drop(c.cache.scan(0, 10))),
        concerns("random", (Stays, false), &[], |c| drop(c.cache.random())),
        concerns("retain that keeps", (Stays, false), &[], |c| {
            c.cache.retain(|_, _| true)
        }),
        concerns("sweep", (Stays, false), &[], |c| drop(c.cache.sweep())),
        concerns("remove", (Gone, false), &[Removed(Explicit)], |c| {
            drop(c.cache.remove(&1))
        }),
        concerns("remove_entry", (Gone, false), &[Removed(Explicit)], |c| {
            drop(c.cache.remove_entry(&1))
        }),
        concerns("remove_if", (Gone, false), &[Removed(Explicit)], |c| {
            drop(c.cache.remove_if(&1, |_| true))
        }),
        concerns("remove_if that does not apply", (Stays, false), &[], |c| {
            drop(c.cache.remove_if(&1, |_| false))
        }),
        concerns("invalidate", (Gone, false), &[Removed(Explicit)], |c| {
            c.cache.invalidate(&1)
        }),
        concerns(
            "invalidate_around",
            (Gone, false),
            &[Removed(Explicit)],
            |c| c.cache.invalidate_around([&1], || ()),
        ),
        concerns("retain", (Gone, false), &[Removed(Explicit)], |c| {
            c.cache.retain(|_, _| false)
        }),
        concerns("clear", (Gone, false), &[Removed(Explicit)], |c| {
            c.cache.clear()
        }),
    ]
}

impl Row {
    fn run(&self, cache: &Cache<u32, u32>, time: &MockClock, ttl: Duration) {
        let at = time.clock().system_time() + ttl;
        (self.call)(&Call { cache, ttl, at });
    }
}

#[test]
fn the_ttl_of_an_entry_after_each_call() {
    for row in rows() {
        let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(TTL));
        row.run(&cache, &time, GIVEN);
        assert_eq!(
            cache.ttl(&1),
            expected(row.new_ttl),
            "{} of a missing entry",
            row.name
        );
        cache.insert_with_ttl(1, 0, OWN);
        time.advance(PASSED);
        row.run(&cache, &time, GIVEN);
        assert_eq!(cache.ttl(&1), expected(row.ttl), "{}", row.name);
        cache.validate();
    }
}

fn expected(life: Life) -> Option<Ttl> {
    match life {
        Life::Anew => Some(Ttl::Left(TTL)),
        Life::Given => Some(Ttl::Left(GIVEN)),
        Life::Stays => Some(Ttl::Left(OWN - PASSED)),
        Life::Never => Some(Ttl::Never),
        Life::Gone => None,
    }
}

#[test]
fn whether_each_call_restarts_the_idle_time() {
    for row in rows().iter().filter(|row| row.ttl != Life::Gone) {
        let (cache, time) = timed(|builder| builder.max_entries(10).time_to_idle(GIVEN));
        cache.insert(1, 0);
        time.advance(PASSED);
        row.run(&cache, &time, HOUR);
        let left = if row.is_access { GIVEN } else { GIVEN - PASSED };
        assert_eq!(cache.ttl(&1), Some(Ttl::Left(left)), "{}", row.name);
        cache.validate();
    }
}

#[test]
fn whether_each_call_counts_for_the_eviction_policy() {
    for row in rows().iter().filter(|row| row.ttl != Life::Gone) {
        for policy in POLICIES {
            let (cache, time) = timed(|builder| {
                let builder = builder.max_entries(10).time_to_live(TTL);
                builder.eviction_policy(policy)
            });
            cache.insert_with_ttl(1, 0, OWN);
            assert_eq!(cache.frequency(&1), Some(0));
            row.run(&cache, &time, GIVEN);
            assert_eq!(
                cache.frequency(&1),
                Some(u8::from(row.is_access)),
                "{} {policy:?}",
                row.name
            );
        }
    }
}

#[test]
fn whether_each_call_makes_an_entry_the_last_to_go_under_lru() {
    for row in rows().iter().filter(|row| row.ttl != Life::Gone) {
        let (cache, time) = timed(|builder| {
            let builder = builder.max_entries(3).time_to_live(TTL);
            builder.eviction_policy(EvictionPolicy::Lru)
        });
        cache.insert_with_ttl(1, 0, OWN);
        cache.insert_many([(8, 0), (9, 0)]);
        row.run(&cache, &time, GIVEN);
        cache.insert(10, 0);
        assert_eq!(cache.contains_key(&1), row.is_access, "{}", row.name);
    }
}

#[test]
fn the_events_of_each_call() {
    for row in rows() {
        let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(TTL));
        let events = cache.events(10);
        row.run(&cache, &time, GIVEN);
        let kinds: Vec<_> = events.try_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, row.new_events, "{} of a missing entry", row.name);
        cache.insert_with_ttl(1, 0, OWN);
        events.try_iter().count();
        row.run(&cache, &time, GIVEN);
        let kinds: Vec<_> = events.try_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, row.events, "{}", row.name);
    }
}

/// Where a TTL ends sooner than the idle time, the idle time is known all the same.
#[test]
fn a_change_of_the_ttl_is_no_access_where_the_ttl_was_the_sooner_end() {
    let (cache, time) = timed(|builder| builder.max_entries(10).time_to_idle(SECOND * 10));
    let changes: [fn(&Cache<u32, u32>) -> bool; 4] = [
        |cache| cache.expire(&1, HOUR),
        |cache| cache.transaction(&[1], |tx| Ok::<_, ()>(tx.expire(&1, HOUR))) == Ok(true),
        |cache| cache.persist(&1),
        |cache| cache.expire_with(&1, HOUR, ExpireIf::Later),
    ];
    for change in changes {
        cache.insert_with_ttl(1, 0, SECOND * 5);
        time.advance(SECOND * 4);
        assert!(change(&cache));
        assert_eq!(
            cache.ttl(&1),
            Some(Ttl::Left(SECOND * 6)),
            "six of the ten seconds are left"
        );
    }
}

#[test]
fn a_load_in_flight_is_overtaken_by_each_call_that_stores_or_removes() {
    let overtakes = |row: &Row| row.new_ttl != Life::Gone || row.ttl == Life::Gone;
    let not = [
        "get_or_insert_with",
        "expire at once",
        "expire_at the past",
        "transaction expire at once",
    ];
    for row in rows()
        .iter()
        .filter(|row| overtakes(row) && !not.contains(&row.name))
    {
        let (cache, time) = timed(|builder| builder.max_entries(10).time_to_live(TTL));
        let loaded = cache.get_or_insert_with(&1, || {
            row.run(&cache, &time, GIVEN);
            77
        });
        assert_eq!(
            (loaded, cache.stats().discarded_loads),
            (77, 1),
            "{}",
            row.name
        );
        assert_ne!(cache.get(&1), Some(77), "{}", row.name);
        cache.validate();
    }
}

/// What a refresh brings must not undo what was written while it was under way.
#[test]
fn a_refresh_in_flight_is_overtaken_by_each_call_that_changes_the_entry() {
    let also = ["retain that keeps", "remove_if that does not apply"];
    for row in rows() {
        let overtakes =
            !row.events.is_empty() || row.ttl != Life::Stays || also.contains(&row.name);
        let (cache, time) = timed(|builder| {
            let freshness = Freshness::new().refresh_after(PASSED);
            let builder = builder.max_entries(10).time_to_live(TTL);
            builder.freshness(freshness)
        });
        cache.insert(1, 0);
        time.advance(PASSED);
        let loaded = cache.get_or_insert_with(&1, || {
            row.run(&cache, &time, GIVEN);
            77
        });
        assert_eq!(
            (loaded, cache.stats().discarded_loads),
            (77, u64::from(overtakes)),
            "{}",
            row.name
        );
        assert_eq!(cache.get(&1) == Some(77), !overtakes, "{}", row.name);
        cache.validate();
    }
}

/// Most insertions take a short way of their own. A cache that somebody listens to never does, so
/// it tells whether the two ways differ: in what they keep, evict, expire, answer or count.
#[test]
fn the_short_way_of_an_insertion_does_what_the_general_way_does() {
    for policy in POLICIES {
        for capacity in [1, 7, 100, 1000] {
            compare_the_two_ways(policy, capacity);
        }
    }
}

fn compare_the_two_ways(policy: EvictionPolicy, capacity: usize) {
    type Fixed = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
    let mut random = fastrand::Rng::with_seed(11);
    let time = MockClock::new();
    let builder = || {
        let builder = Cache::<u32, u32>::builder().max_entries(capacity);
        let builder = builder
            .eviction_policy(policy)
            .time_to_live(Duration::from_secs(9))
            .clock(time.clock());
        builder.hasher(Fixed::default())
    };
    let short = builder().build().unwrap();
    let general = builder().removal_listener(|_, _, _| {}).build().unwrap();
    for step in 0..20_000u32 {
        let key = random.u32(0..3 * capacity as u32 + 2);
        let options = match random.u32(0..20) {
            0 => InsertOptions::new().ttl(Duration::from_secs(random.u64(0..5))),
            1 => InsertOptions::new().no_ttl(),
            2 => InsertOptions::new().keep_ttl(),
            _ => InsertOptions::new(),
        };
        match random.u32(0..10) {
            0..5 => assert_eq!(
                short.insert_with(key, step, options.clone()),
                general.insert_with(key, step, options)
            ),
            5..8 => assert_eq!(short.get(&key), general.get(&key), "{policy:?} {step}"),
            8 => assert_eq!(short.remove(&key), general.remove(&key)),
            _ => time.advance(Duration::from_millis(random.u64(0..40))),
        }
        assert_eq!(short.ttl(&key), general.ttl(&key));
        assert_eq!(
            short.frequency(&key),
            general.frequency(&key),
            "{policy:?} {capacity} {step}"
        );
    }
    assert_eq!(short.stats(), general.stats());
    assert_eq!(format!("{short:?}"), format!("{general:?}"));
    assert!(short.stats().updates > 0 && short.stats().evictions > 0);
    short.validate();
}
