//! Whatever is done to a cache, its log brings the same back.

use super::*;
use crate::engine::Tally;
use crate::persist::codec::{CodecError, MessagePack};
use crate::persist::contents::{Contents, Spot, Walked};
use crate::persist::effect::Unencodable;
use crate::persist::frame::LARGEST;
use crate::persist::kept::Kept;
use crate::persist::part::ENOUGH;
use crate::persist::wall::ahead_of;
use crate::sync::AtomicU64;
use crate::{
    Cache, CacheBuilder, Clock, EvictionPolicy, ExpireIf, Freshness, InsertOptions, Loaded,
    MockClock, OnFull, Op,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

/// A log in memory: the batches that were appended.
#[derive(Default)]
pub(crate) struct Memory {
    batches: Mutex<Vec<Effects>>,
    /// Refuses everything from now on.
    is_full: std::sync::atomic::AtomicBool,
    /// Drops what needs no room.
    is_crowded: std::sync::atomic::AtomicBool,
    /// How often room was asked for.
    asked: AtomicU64,
    /// How often something was written that could not be refused.
    urged: AtomicU64,
    unencodable: AtomicU64,
    /// How far the wall clock was ahead, as two's complement.
    written_by: AtomicU64,
}

impl Memory {
    fn batches(&self) -> Vec<Effects> {
        self.batches.lock().unwrap().clone()
    }
}

impl Sink for Memory {
    fn reserve(&self, _: usize) -> Result<(), WriteError> {
        self.asked.fetch_add(1, Relaxed);
        match self.is_full.load(Relaxed) {
            true => Err(WriteError::Closed),
            false => Ok(()),
        }
    }
    fn urge(&self) {
        self.urged.fetch_add(1, Relaxed);
    }
    fn append(&self, effects: &Effects) -> u64 {
        let mut batches = self.batches.lock().unwrap();
        batches.push(effects.clone());
        batches.len() as u64
    }
    fn append_if_room(&self, effects: &Effects) -> bool {
        let has_room = !self.is_crowded.load(Relaxed);
        if has_room {
            self.append(effects);
        }
        has_room
    }
    fn count_unencodable(&self) {
        self.unencodable.fetch_add(1, Relaxed);
    }
    fn written_by(&self) -> i64 {
        self.written_by.load(Relaxed) as i64
    }
    fn wait(&self, _: u64, _: Option<Instant>) -> Result<(), CommitError> {
        Ok(())
    }
}

/// Has a cache recorded, from now on.
pub(crate) fn record<K, V>(cache: &Cache<K, V>, clock: Clock, is_store: bool) -> Arc<Memory>
where
    K: Hash + Eq + Serialize + Send + Sync + 'static,
    V: Serialize + Clone + Send + Sync + 'static,
{
    record_with(cache, clock, is_store, encoder(LARGEST))
}

fn encoder(largest: usize) -> Encoder<MessagePack> {
    Encoder {
        codec: MessagePack,
        decode: None,
        largest,
    }
}

fn record_with<K, V>(
    cache: &Cache<K, V>,
    clock: Clock,
    is_store: bool,
    encoder: Encoder<MessagePack>,
) -> Arc<Memory>
where
    K: Hash + Eq + Serialize + Send + Sync + 'static,
    V: Serialize + Clone + Send + Sync + 'static,
{
    let sink = Arc::new(Memory::default());
    sink.written_by.store(ahead_of(&clock) as u64, Relaxed);
    cache.engine().record_to(Box::new(Log {
        sink: Arc::clone(&sink),
        encoder,
        wall: Arc::new(Wall::new(clock)),
        is_store,
        waits: None,
        copy: V::clone,
        handle: None,
    }));
    sink
}

/// Plays a log into a new cache.
fn replay<K, V>(builder: CacheBuilder<K, V>, batches: &[Effects], clock: Clock) -> Cache<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let cache = builder.assemble(false).unwrap();
    let bounds = cache.engine().lift_bounds();
    let (contents, mut tally) = (contents(&cache, clock), Tally::default());
    for batch in batches {
        for effect in batch.iter() {
            contents.apply(0, effect.unwrap(), &mut tally).unwrap();
        }
    }
    contents.settle(tally);
    contents.recovered(contents.wall.now_ms());
    cache.engine().set_bounds(bounds);
    cache.validate();
    cache
}

fn contents<K, V>(
    cache: &Cache<K, V>,
    clock: Clock,
) -> Kept<K, V, crate::DefaultHashBuilder, MessagePack> {
    Kept {
        engine: cache.shared_engine(),
        hasher: cache.hasher().clone(),
        encoder: encoder(LARGEST),
        is_store: false,
        wall: Arc::new(Wall::new(clock)),
        migrate: None,
        evicts: false,
        dropped: AtomicU64::new(0),
        has_regrouped: crate::sync::AtomicBool::new(false),
    }
}

/// What a snapshot of a cache holds.
fn snapshot<K, V>(cache: &Cache<K, V>, clock: Clock) -> Vec<Effects>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let contents = contents(cache, clock);
    let mut labels = Effects::EMPTY;
    contents.write_labels(&mut labels);
    let mut batches = vec![labels];
    let mut next = Some(Spot::default());
    while let Some(spot) = next {
        let mut batch = Effects::EMPTY;
        next = contents.write_set(&spot, &mut batch).unwrap().next;
        batches.push(batch);
    }
    batches
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    id: u64,
    weight: u64,
}

/// No value with this number can be encoded.
const BAD: u64 = u64::MAX;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.id == BAD {
            return Err(serde::ser::Error::custom("a bad value"));
        }
        (self.id, self.weight).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, weight) = Deserialize::deserialize(deserializer)?;
        Ok(Self { id, weight })
    }
}

type Key = (u8, u8);

/// What is known of an entry: its value, its ends in milliseconds, its weight, its labels.
type Known = (Value, crate::table::Ends, u64, Vec<u64>);

fn known(cache: &Cache<Key, Value>) -> BTreeMap<Key, Known> {
    let mut all = BTreeMap::new();
    let mut next = Some(0);
    while let Some(position) = next {
        next = cache.engine().visit_set(position, |key, value, meta| {
            let labels = meta.labels.as_slice().to_vec();
            let known = (value.clone(), meta.life, meta.weight, labels);
            all.insert(*key, known);
        });
    }
    all
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    entries: Option<usize>,
    weight: Option<u64>,
    ttl: bool,
    idle: Option<u64>,
    has_groups: bool,
    on_full: OnFull,
    policy: EvictionPolicy,
    stale: bool,
}

impl Setup {
    fn random(random: &mut fastrand::Rng) -> Self {
        let policies = [
            EvictionPolicy::Adaptive,
            EvictionPolicy::Lfu,
            EvictionPolicy::Lru,
        ];
        Self {
            entries: random.bool().then(|| random.usize(1..40)),
            weight: random.bool().then(|| random.u64(1..200)),
            ttl: random.bool(),
            idle: random.bool().then(|| random.u64(8..4_000)),
            has_groups: random.bool(),
            on_full: random.choice([OnFull::Evict, OnFull::Reject]).unwrap(),
            policy: random.choice(policies).unwrap(),
            stale: random.u8(0..4) == 0,
        }
    }

    fn builder(&self, clock: Clock) -> CacheBuilder<Key, Value> {
        let mut builder = Cache::builder()
            .clock(clock)
            .on_full(self.on_full)
            .eviction_policy(self.policy)
            .negative_ttl(Duration::from_secs(1));
        if let Some(entries) = self.entries {
            builder = builder.max_entries(entries);
        }
        if let Some(weight) = self.weight {
            builder = builder
                .max_weight(weight)
                .weigher(|_: &Key, value: &Value| value.weight)
                .negative_weigher(|_| 1);
        }
        if self.ttl {
            builder = builder.time_to_live(Duration::from_millis(1_500));
        }
        if let Some(idle) = self.idle {
            builder = builder.time_to_idle(Duration::from_millis(idle));
        }
        if self.has_groups {
            builder = builder.group_by(|(group, _): &Key| group);
        }
        if self.stale {
            builder = builder.freshness(
                Freshness::new()
                    .refresh_at(0.5)
                    .stale_if_error(Duration::from_millis(700)),
            );
        }
        builder
    }
}

struct World {
    random: fastrand::Rng,
    setup: Setup,
    cache: Cache<Key, Value>,
    time: MockClock,
    log: Arc<Memory>,
    id: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let setup = Setup::random(&mut random);
        let time = MockClock::new();
        let cache = setup.builder(time.clock()).assemble(false).unwrap();
        let log = record(&cache, time.clock(), false);
        Self {
            random,
            setup,
            cache,
            time,
            log,
            id: 0,
        }
    }

    fn key(&mut self) -> Key {
        (self.random.u8(0..4), self.random.u8(0..20))
    }

    fn value(&mut self) -> Value {
        self.id += 1;
        let id = if self.random.u8(0..40) == 0 {
            BAD
        } else {
            self.id
        };
        let weight = self.random.u64(0..30);
        Value { id, weight }
    }

    fn span(&mut self) -> Duration {
        let millis = self.random.choice([0, 1, 20, 300, 2_000, 60_000]).unwrap();
        Duration::from_millis(millis)
    }

    fn options(&mut self) -> InsertOptions {
        let mut options = InsertOptions::new();
        let tags = self.random.u8(0..3);
        for _ in 0..tags {
            options = options.tag(&self.random.u8(0..6));
        }
        options = match self.random.u8(0..6) {
            0 => options.if_absent(),
            1 => options.if_present(),
            _ => options,
        };
        match self.random.u8(0..5) {
            0 => options.ttl(self.span()),
            1 => options.keep_ttl(),
            2 => options.no_ttl(),
            3 => options.expire_at(self.time.clock().system_time() + self.span()),
            _ => options,
        }
    }

    fn step(&mut self) {
        let (key, value) = (self.key(), self.value());
        let cache = self.cache.clone();
        match self.random.u8(0..27) {
            0..4 => _ = cache.insert(key, value),
            4..7 => _ = cache.insert_with(key, value, self.options()),
            7 => _ = cache.update(&key, |old| *old = value),
            26 => cache.update_or_insert_with(&key, || value.clone(), |old| old.id ^= 1),
            8 => {
                let span = self.span();
                let op = match self.random.u8(0..5) {
                    0 => Op::Keep,
                    1 => Op::Put(value),
                    2 => Op::PutWithTtl(value, span),
                    3 => Op::PutKeepTtl(value),
                    _ => Op::Remove,
                };
                _ = cache.compute(&key, |_| op);
            }
            9 => _ = cache.remove(&key),
            10 => _ = cache.remove_if(&key, |value| value.id % 2 == 0),
            11 => _ = cache.expire(&key, self.span()),
            12 => _ = cache.expire_with(&key, self.span(), ExpireIf::Later),
            13 => _ = cache.persist(&key),
            14 => match self.random.u8(0..6) {
                0 => cache.clear(),
                _ => cache.retain(|_, value| value.id % 5 != 0),
            },
            15 => cache.invalidate_tag(&self.random.u8(0..6)),
            16 if self.setup.has_groups => cache.invalidate_group(&key.0),
            17 => self.transact(),
            18..20 => _ = cache.get(&key),
            20 => _ = cache.get_or_insert_with(&key, || value),
            21 => _ = cache.get_or_find_with(&key, || (key.1 % 2 == 0).then_some(value)),
            22 => self.load(key, value),
            23 => self.rebound(),
            24 => _ = cache.sweep(),
            _ => {
                let span = self.span();
                self.time.advance(span);
            }
        }
    }

    fn transact(&mut self) {
        let keys = [self.key(), self.key(), self.key()];
        let values = [self.value(), self.value(), self.value()];
        let span = self.span();
        let (kinds, fails) = (self.random.u32(..), self.random.u8(0..6) == 0);
        let _ = self.cache.transaction(&keys, |tx| {
            for (at, (key, value)) in keys.iter().zip(values).enumerate() {
                let put = match (kinds >> (3 * at)) % 6 {
                    0 => tx.insert(key, value),
                    1 => tx.insert_with_ttl(key, value, span),
                    2 => tx.insert_keep_ttl(key, value),
                    3 => {
                        tx.expire(key, span);
                        Ok(())
                    }
                    4 => {
                        tx.persist(key);
                        Ok(())
                    }
                    _ => {
                        tx.remove(key);
                        Ok(())
                    }
                };
                drop(put);
            }
            if fails { Err(()) } else { Ok(()) }
        });
    }

    /// A loader that may renew what is there, with other tags or the same.
    fn load(&mut self, key: Key, value: Value) {
        let (kind, tag, ttl) = (self.random.u8(0..4), self.random.u8(0..6), self.span());
        let reader = self.cache.read_through_revalidating(move |_: &Key, old| {
            let kind = if old.is_some() { kind } else { kind % 2 * 3 };
            Ok::<_, std::io::Error>(match kind {
                0 => Loaded::new(value.clone()).tag(&tag),
                1 => Loaded::not_modified().ttl(ttl),
                2 => Loaded::not_modified().tag(&tag),
                _ => Loaded::absent(),
            })
        });
        drop(reader.refresh(&key));
    }

    fn rebound(&mut self) {
        if self.setup.entries.is_some() {
            let entries = self.random.usize(1..40);
            self.setup.entries = Some(entries);
            self.cache.set_max_entries(entries).unwrap();
        }
        if self.setup.weight.is_some() {
            let weight = self.random.u64(1..200);
            self.setup.weight = Some(weight);
            self.cache.set_max_weight(weight).unwrap();
        }
    }

    fn check(&self, seed: u64, step: usize) {
        // Only the sweep records who was idle for too long. Without it, on the other hand, labels
        // have to tell by themselves what has fallen.
        if self.setup.idle.is_some() || self.id.is_multiple_of(2) {
            self.cache.sweep();
        }
        self.cache.validate();
        let now = self.time.clock().now();
        let expected = known(&self.cache);
        let log = replay(
            self.setup.builder(self.time.clock()),
            &self.log.batches(),
            self.time.clock(),
        );
        let snapshot = replay(
            self.setup.builder(self.time.clock()),
            &snapshot(&self.cache, self.time.clock()),
            self.time.clock(),
        );
        for (way, cache) in [("log", log), ("snapshot", snapshot)] {
            let found = known(&cache);
            let wanted = expected.iter().filter(|(_, known)| known.0.id != BAD);
            let wanted: BTreeMap<_, _> = wanted.map(|(key, known)| (*key, known)).collect();
            let context = format!("seed {seed}, step {step}, {way}, {:?}", self.setup);
            assert!(
                wanted.keys().copied().eq(found.keys().copied()),
                "{context}: {wanted:?} {found:?}"
            );
            for (key, (value, life, weight, labels)) in wanted {
                let found = &found[&key];
                assert_eq!(
                    (value, weight, labels, life.hard),
                    (&found.0, &found.2, &found.3, found.1.hard),
                    "{context}: {key:?} at {now}"
                );
                let idle = Duration::from_millis(self.setup.idle.unwrap_or(0)).as_nanos() as u64;
                let latest = life.idle.saturating_add(idle / 8 + 1_000_000);
                assert!(
                    (life.idle..=latest).contains(&found.1.idle),
                    "{context}: {key:?}: {life:?} {:?}",
                    found.1
                );
            }
        }
    }
}

fn cases(quick: u64, full: u64) -> u64 {
    match std::env::var("HAYBOX_CASES") {
        Ok(asked) if asked == "full" => full,
        Ok(asked) => asked.parse().expect("HAYBOX_CASES is a number or `full`"),
        Err(_) => quick,
    }
}

#[test]
fn a_log_brings_back_what_any_operations_have_left() {
    for seed in 0..cases(300, 20_000) {
        let mut world = World::new(seed);
        for step in 0..world.random.usize(1..120) {
            world.step();
            if world.random.u8(0..16) == 0 {
                world.check(seed, step);
            }
        }
        world.check(seed, usize::MAX);
    }
}

/// Threads that change the same few keys in every way.
fn contend(cache: &Cache<Key, Value>) {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..2_000 {
                    let key = (0, random.u8(0..12));
                    let other = (0, random.u8(0..12));
                    let value = Value {
                        id: random.u64(0..1_000_000),
                        weight: random.u64(0..30),
                    };
                    match random.u8(0..8) {
                        0..3 => _ = cache.insert(key, value),
                        3 => _ = cache.update(&key, |old| *old = value),
                        4 => _ = cache.remove(&key),
                        5 => _ = cache.expire(&key, Duration::from_secs(random.u64(1..1_000))),
                        6 => _ = cache.compute(&key, |_| Op::PutKeepTtl(value)),
                        _ => {
                            let _ = cache.transaction(&[key, other], |tx| {
                                tx.insert(&key, value.clone()).map_err(drop)?;
                                tx.insert(&other, value).map_err(drop)
                            });
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn the_log_of_threads_that_contend_ends_where_the_cache_does() {
    for bound in [None, Some(8)] {
        let time = MockClock::new();
        let builder = || {
            let builder = Cache::builder().clock(time.clock());
            match bound {
                None => builder,
                Some(bound) => builder.max_entries(bound),
            }
        };
        let cache = builder().assemble(false).unwrap();
        let log = record(&cache, time.clock(), false);
        contend(&cache);
        let replayed = replay(builder(), &log.batches(), time.clock());
        assert_eq!(known(&cache), known(&replayed), "with a bound of {bound:?}");
    }
}

#[test]
fn every_prefix_of_the_log_is_a_state_that_a_key_went_through() {
    let cache: Cache<u8, u64> = Cache::builder().assemble(false).unwrap();
    let log = record(&cache, Clock::real(), false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..1_000u64 {
                    let next = |count: Option<&u64>| Op::Put(count.map_or(1, |count| count + 1));
                    let _ = cache.compute(&((round % 3) as u8), next);
                }
            });
        }
    });
    let mut counts = BTreeMap::<Vec<u8>, u64>::new();
    for batch in log.batches() {
        for effect in batch.iter() {
            let Ok(Effect::Put { key, value, .. }) = effect else {
                panic!("nothing but values is stored: {effect:?}");
            };
            let count = counts.entry(key.to_vec()).or_default();
            *count += 1;
            assert_eq!(MessagePack.decode::<u64>(value).unwrap(), *count);
        }
    }
    assert_eq!(counts.values().sum::<u64>(), 4_000);
}

#[test]
fn a_transaction_is_one_batch() {
    let cache: Cache<u8, u64> = Cache::builder().max_entries(2).assemble(false).unwrap();
    let log = record(&cache, Clock::real(), false);
    cache.insert(9, 9);
    let done = cache.transaction(&[1, 2], |tx| {
        tx.insert(&1, 1)?;
        tx.insert(&2, 2)
    });
    assert!(done.is_ok());
    let effects: Vec<_> = log.batches().iter().map(Effects::len).collect();
    assert_eq!(
        effects,
        [1, 2, 1],
        "a value, the transaction, who had to go for it"
    );
}

/// Whatever the log says: it is not asked for more than what was written.
#[test]
fn a_transaction_that_writes_nothing_is_not_refused_for_want_of_room() {
    let time = MockClock::new();
    let cache: Cache<u8, u64> = Cache::builder()
        .clock(time.clock())
        .assemble(false)
        .unwrap();
    let log = record(&cache, time.clock(), true);
    cache.insert(1, 1);
    cache.insert_with_ttl(2, 2, Duration::from_secs(1));
    time.advance(Duration::from_secs(2));
    log.is_full.store(true, Relaxed);
    let (read, outcome) = outcome::of(&log, || {
        cache.transaction(&[1, 2, 3], |tx| {
            assert!(!tx.remove(&3) && !tx.expire(&2, Duration::ZERO));
            Ok::<_, ()>(tx.get(&1).copied())
        })
    });
    assert!(matches!((read, outcome), (Ok(Some(1)), None)));
    let (_, outcome) = outcome::of(&log, || {
        cache.transaction(&[1], |tx| Ok::<_, ()>(tx.remove(&1)))
    });
    assert!(matches!(outcome, Some(Err(WriteError::Closed))));
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn a_write_that_is_not_admitted_changes_nothing_in_a_store() {
    let cache: Cache<u8, u64> = Cache::builder().assemble(false).unwrap();
    let log = record(&cache, Clock::real(), true);
    cache.insert(1, 1);
    log.is_full.store(true, Relaxed);
    let (_, outcome) = outcome::of(&log, || cache.insert(1, 2));
    assert!(matches!(outcome, Some(Err(WriteError::Closed))));
    let (_, outcome) = outcome::of(&log, || cache.retain(|_, _| false));
    assert!(matches!(outcome, Some(Err(WriteError::Closed))));
    for key in [1, 2] {
        log.asked.store(0, Relaxed);
        let upsert = || cache.update_or_insert_with(&key, || 0, |value| *value += 5);
        let (_, outcome) = outcome::of(&log, upsert);
        assert!(matches!(outcome, Some(Err(WriteError::Closed))));
        assert_eq!(
            log.asked.load(Relaxed),
            1,
            "what is refused is not tried again"
        );
    }
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
    assert_eq!(log.batches().len(), 1);
}

#[test]
fn a_write_that_is_insisted_on_is_recorded_where_others_are_refused() {
    let cache: Cache<u8, u64> = Cache::builder().assemble(false).unwrap();
    let log = record(&cache, Clock::real(), true);
    let of_another = Arc::new(Memory::default());
    cache.insert(1, 1);
    log.is_full.store(true, Relaxed);
    log.asked.store(0, Relaxed);
    let removed = insist::on(&log, || outcome::of(&log, || cache.remove(&1)));
    assert!(matches!(removed, (Some(1), Some(Ok(2)))));
    let calls = [&log.asked, &log.urged].map(|calls| calls.load(Relaxed));
    assert_eq!(calls, [0, 1], "it does not wait for room");
    let refused = insist::on(&of_another, || outcome::of(&log, || cache.insert(2, 2)));
    assert!(matches!(refused, (None, Some(Err(WriteError::Closed)))));
    // Not even by a panic does it outlast its call.
    assert!(crate::contain::contain(|| insist::on(&log, || panic!("in between"))).is_none());
    let (_, refused) = outcome::of(&log, || cache.insert(3, 3));
    assert!(matches!(refused, Some(Err(WriteError::Closed))));
    assert_eq!((cache.len(), log.batches().len()), (0, 2));
}

#[test]
fn where_there_was_no_room_once_a_walk_does_not_wait_again() {
    let cache: Cache<u32, u64> = Cache::builder().assemble(false).unwrap();
    let log = record(&cache, Clock::real(), false);
    for key in 0..10_000 {
        cache.insert(key, 1);
    }
    log.is_full.store(true, Relaxed);
    for clear in [
        |cache: &Cache<u32, u64>| cache.retain(|key, _| key % 2 == 0),
        |cache: &Cache<u32, u64>| cache.clear(),
    ] {
        log.asked.store(0, Relaxed);
        clear(&cache);
        assert_eq!(log.asked.load(Relaxed), 1, "there are many sets");
    }
    assert!(cache.is_empty());
}

#[test]
fn what_is_larger_than_a_batch_may_be_is_refused_or_absent_in_the_log() {
    type Write = fn(&Cache<u8, String>, String);
    let write: [Write; 5] = [
        |cache, large| _ = cache.insert(1, large),
        |cache, large| _ = cache.update(&1, |value| *value = large),
        |cache, large| cache.update_or_insert_with(&1, String::new, |value| *value = large),
        |cache, large| _ = cache.compute(&1, |_| Op::Put(large)),
        |cache, large| {
            // Each of them is small enough.
            let half = large[..60].to_owned();
            let done = cache.transaction(&[1, 2], |tx| {
                tx.insert(&1, half.clone())?;
                tx.insert(&2, half)
            });
            assert!(done.is_ok());
        },
    ];
    for write in write {
        for is_store in [true, false] {
            let cache: Cache<u8, String> = Cache::builder().assemble(false).unwrap();
            let log = record_with(&cache, Clock::real(), is_store, encoder(100));
            cache.insert(1, "small".into());
            let (_, outcome) = outcome::of(&log, || write(&cache, "x".repeat(110)));
            let refused = matches!(
                outcome,
                Some(Err(WriteError::TooLarge { limit: 100, bytes })) if bytes > 100
            );
            assert_eq!(refused, is_store, "{outcome:?}");
            assert_eq!(cache.get(&1).unwrap() == "small", is_store);
            let replayed = replay(
                Cache::<u8, String>::builder(),
                &log.batches(),
                Clock::real(),
            );
            let kept = is_store.then(|| "small".to_owned());
            assert_eq!(replayed.get(&1), kept, "an older value never comes back");
        }
    }
}

/// Each read gives an entry so long.
struct EachRead(Arc<AtomicU64>);

impl crate::Expiry<u8, u64> for EachRead {
    fn expire_after_create(&self, _: &u8, _: &u64) -> Option<Duration> {
        Some(Duration::from_secs(80))
    }
    fn expire_after_read(&self, _: &u8, _: &u64, _: Option<Duration>) -> Option<Duration> {
        Some(Duration::from_secs(self.0.load(Relaxed)))
    }
}

fn read_often() -> (Cache<u8, u64>, Arc<AtomicU64>, Arc<Memory>, MockClock) {
    let (time, each) = (MockClock::new(), Arc::new(AtomicU64::new(80)));
    let builder = Cache::builder().clock(time.clock());
    let builder = builder.expiry(EachRead(Arc::clone(&each)));
    let cache = builder.assemble(false).unwrap();
    let log = record(&cache, time.clock(), false);
    cache.insert(1, 1);
    (cache, each, log, time)
}

#[test]
fn a_deadline_that_reads_put_off_in_small_steps_is_recorded() {
    let (cache, _, log, time) = read_often();
    for _ in 0..400 {
        time.advance(Duration::from_secs(1));
        assert_eq!(cache.get(&1), Some(1));
    }
    let records = log.batches().len();
    assert!((40..=101).contains(&records), "{records}");
    let replayed = replay(
        Cache::<u8, u64>::builder().clock(time.clock()),
        &log.batches(),
        time.clock(),
    );
    time.advance(Duration::from_secs(69));
    assert_eq!(replayed.get(&1), Some(1), "at most an eighth is lost");
}

/// The wall clock is ahead of the other by a time that is no whole microsecond.
#[test]
fn deadlines_come_back_whole_and_reads_with_them() {
    for idle in [None, Some(30), Some(90)] {
        let time = MockClock::new();
        let wall = std::time::SystemTime::UNIX_EPOCH + Duration::new(86_400, 123_457);
        time.set_system_time(wall);
        let builder = || {
            let builder = Cache::<u8, u64>::builder().clock(time.clock());
            match idle {
                Some(idle) => builder.time_to_idle(Duration::from_secs(idle)),
                None => builder,
            }
        };
        let cache = builder().assemble(false).unwrap();
        let log = record(&cache, time.clock(), false);
        cache.insert_with_ttl(1, 1, Duration::from_secs(60));
        cache.get(&1);
        cache.get(&1);
        // Records what reads have left behind.
        cache.insert_with_ttl(1, 2, Duration::from_secs(60));
        let batches = log.batches();
        let last = batches.last_chunk::<1>().expect("that of the last write");
        let replayed = replay(builder(), last, time.clock());
        assert!(replayed.frequency(&1) >= Some(2), "it was read twice");
        let left = |cache: &Cache<u8, u64>| match cache.ttl(&1) {
            Some(crate::Ttl::Left(left)) => left,
            other => panic!("{other:?}"),
        };
        let error = left(&cache).abs_diff(left(&replayed));
        // Idle time may have begun anew, as far as that is not recorded.
        let allowed = Duration::from_secs(idle.unwrap_or(0)) / 8;
        assert!(error <= allowed + Duration::from_millis(1), "{error:?}");
        replayed.validate();
    }
}

#[test]
fn a_deadline_that_a_read_brings_forward_is_recorded_whether_there_is_room_or_not() {
    let (cache, each, log, time) = read_often();
    log.is_crowded.store(true, Relaxed);
    each.store(10, Relaxed);
    assert_eq!(cache.get(&1), Some(1));
    time.advance(Duration::from_secs(11));
    let replayed = replay(
        Cache::<u8, u64>::builder().clock(time.clock()),
        &log.batches(),
        time.clock(),
    );
    assert_eq!(replayed.get(&1), None);
}

/// Encodes as long as it is told that it does.
#[derive(Clone, Debug)]
struct Moody {
    id: u8,
    is_bad: Arc<std::sync::atomic::AtomicBool>,
}

impl Moody {
    fn new(id: u8) -> Self {
        let is_bad = Arc::default();
        Self { id, is_bad }
    }

    fn turn_bad(&self) {
        self.is_bad.store(true, Relaxed);
    }
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Moody {}

impl Hash for Moody {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_bad.load(Relaxed) {
            return Err(serde::ser::Error::custom("in a bad mood"));
        }
        self.id.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(Self::new)
    }
}

#[test]
fn a_key_that_does_not_encode_any_more_stays_in_a_store_and_is_counted_in_a_cache() {
    type Change = fn(&Cache<Moody, u8>, &Moody);
    let changes: [(Change, bool); 7] = [
        (|cache, key| _ = cache.remove(key), false),
        (|cache, key| _ = cache.compute(key, |_| Op::Remove), false),
        (|cache, _| cache.retain(|_, _| false), false),
        (
            |cache, key| _ = cache.engine().remove_keys(|at| at == key),
            false,
        ),
        (|cache, key| _ = cache.expire(key, Duration::ZERO), false),
        (
            |cache, key| _ = cache.expire(key, Duration::from_secs(9)),
            true,
        ),
        (
            |cache, key| {
                let done = cache.transaction(std::slice::from_ref(key), |tx| {
                    tx.remove(key);
                    Ok::<_, ()>(())
                });
                assert!(done.is_ok());
            },
            false,
        ),
    ];
    for (number, (change, keeps)) in changes.into_iter().enumerate() {
        for is_store in [true, false] {
            let cache: Cache<Moody, u8> = Cache::builder().assemble(false).unwrap();
            let log = record(&cache, Clock::real(), is_store);
            let key = Moody::new(1);
            cache.insert(key.clone(), 7);
            let ttl = cache.ttl(&key);
            key.turn_bad();
            let (_, outcome) = outcome::of(&log, || change(&cache, &key));
            assert_eq!(log.batches().len(), 1, "change {number}");
            let refused =
                matches!(&outcome, Some(Err(WriteError::Encode(said))) if said.contains("bad"));
            assert_eq!(refused, is_store, "change {number}: {outcome:?}");
            assert_eq!(
                cache.contains_key(&key),
                is_store || keeps,
                "change {number}"
            );
            assert_eq!(cache.ttl(&key) == ttl, is_store, "change {number}");
            assert_eq!(log.unencodable.load(Relaxed), u64::from(!is_store));
            cache.validate();
        }
    }
}

/// While others write, remove, and split the set.
#[test]
fn a_set_of_large_values_is_walked_a_part_at_a_time_and_nothing_that_stays_is_missed() {
    const LARGE: usize = 200_000;
    for splits in [false, true] {
        let cache: Cache<u64, Vec<u8>> = Cache::builder().assemble(false).unwrap();
        let value = || vec![7; LARGE];
        (0..30).for_each(|key| drop(cache.insert(key, value())));
        let contents = contents(&cache, Clock::real());
        let (mut seen, mut next) = (BTreeMap::<u64, u32>::new(), Some(Spot::default()));
        let (mut parts, mut others) = (0, 100..);
        while let Some(spot) = next {
            let mut out = Effects::EMPTY;
            next = contents.write_set(&spot, &mut out).unwrap().next;
            assert!(out.bytes().len() < ENOUGH + LARGE + 100);
            for effect in out.iter() {
                let key = effect.unwrap().key().unwrap().to_vec();
                *seen.entry(MessagePack.decode(&key).unwrap()).or_default() += 1;
            }
            if next.as_ref().is_some_and(|spot| spot.rest.is_some()) {
                parts += 1;
                cache.remove(&(30 - parts));
                cache.insert(parts, value());
                cache.get(&(parts + 3));
                let more = if splits { 200 } else { 0 };
                others
                    .by_ref()
                    .take(more)
                    .for_each(|key| drop(cache.insert(key, Vec::new())));
            }
        }
        assert!(parts > 0);
        for key in 0..30 - parts {
            assert!(seen.contains_key(&key), "{key} of {parts} parts");
            assert!(splits || seen[&key] == 1, "{key}");
        }
        cache.validate();
    }
}

/// A hasher that is none keeps nothing from being walked, nor the walk from ending.
#[test]
fn entries_whose_hashes_are_the_same_are_all_walked() {
    type None = BuildHasherDefault<Same>;
    let cache: Cache<u64, Vec<u8>, None> = Cache::builder()
        .hasher(None::default())
        .assemble(false)
        .unwrap();
    (0..20).for_each(|key| drop(cache.insert(key, vec![7; 200_000])));
    let contents = Kept {
        engine: cache.shared_engine(),
        hasher: None::default(),
        encoder: encoder(LARGEST),
        is_store: false,
        wall: Arc::new(Wall::new(Clock::real())),
        migrate: Option::None,
        evicts: false,
        dropped: AtomicU64::new(0),
        has_regrouped: crate::sync::AtomicBool::new(false),
    };
    let (mut seen, mut next) = (BTreeSet::new(), Some(Spot::default()));
    while let Some(spot) = next {
        let mut out = Effects::EMPTY;
        next = contents.write_set(&spot, &mut out).unwrap().next;
        seen.extend(
            out.iter()
                .map(|effect| effect.unwrap().key().unwrap().to_vec()),
        );
    }
    assert_eq!(seen.len(), 20);
}

#[derive(Default)]
struct Same;

impl Hasher for Same {
    fn finish(&self) -> u64 {
        7
    }
    fn write(&mut self, _: &[u8]) {}
}

/// What a walk of all sets comes to.
fn walked<V>(cache: &Cache<u8, V>, contents: &impl Contents) -> Result<(Vec<u8>, u64), Unencodable>
where
    V: Send + Sync + 'static,
{
    let (mut keys, mut left_out, mut next) = (Vec::new(), 0, Some(Spot::default()));
    while let Some(spot) = next {
        let mut out = Effects::EMPTY;
        let walked: Walked = contents.write_set(&spot, &mut out)?;
        keys.extend(out.iter().map(|effect| effect.unwrap().key().unwrap()[0]));
        left_out += walked.left_out;
        next = walked.next;
    }
    cache.validate();
    keys.sort_unstable();
    Ok((keys, left_out))
}

#[test]
fn what_does_not_encode_any_more_is_in_no_snapshot_of_a_cache_and_no_snapshot_is_made_of_a_store() {
    let cache: Cache<u8, Moody> = Cache::builder().assemble(false).unwrap();
    let bad = Moody::new(7);
    cache.insert(1, bad.clone());
    cache.insert(2, Moody::new(8));
    for is_store in [false, true] {
        let contents = Kept {
            is_store,
            ..contents(&cache, Clock::real())
        };
        bad.is_bad.store(false, Relaxed);
        assert_eq!(walked(&cache, &contents), Ok((vec![1, 2], 0)));
        bad.turn_bad();
        match walked(&cache, &contents) {
            Ok(walked) => assert_eq!((walked, is_store), ((vec![2], 1), false)),
            Err(error) => assert!(is_store && error.reason.contains("a bad mood")),
        }
    }
}

#[test]
fn a_snapshot_takes_nothing_that_the_log_refuses() {
    let cache: Cache<u8, String> = Cache::builder().assemble(false).unwrap();
    cache.insert(1, "x".repeat(50));
    cache.insert(2, "small".into());
    let encoders = [
        encoder(40),
        Encoder {
            decode: Some(|_, key, _| match key {
                [1] => Err(CodecError::new("not of today")),
                _ => Ok(()),
            }),
            ..encoder(LARGEST)
        },
    ];
    for (number, encoder) in encoders.into_iter().enumerate() {
        let mut contents = Kept {
            encoder,
            ..contents(&cache, Clock::real())
        };
        assert_eq!(walked(&cache, &contents), Ok((vec![2], 1)), "{number}");
        contents.is_store = true;
        assert!(walked(&cache, &contents).is_err(), "{number}");
    }
}
