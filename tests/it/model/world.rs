//! A cache beside the map that says what must be in it.

use super::op::{Change, Life, Only, Op, Setup, Step, TAGS, Tags};
use crate::common::{HOUR, Removals, Seeded, drain, logged};
use haybox::{
    Cache, Clock, ExpireIf, Insert, InsertOptions, LoadError, MockClock, OnFull, Outcome, Refused,
    RemovalCause, Ttl,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const NEVER: u64 = u64::MAX;

/// Where a mock clock begins.
const START: u64 = 3_600_000_000_000;

/// Up to where an entry can have a deadline on its clock.
const CLOCK_END: u64 = 1_000 << 52;

/// A value like no other. The token counts the copies there are.
#[derive(Clone, Debug)]
struct Value {
    id: u64,
    weight: u64,
    _token: Arc<()>,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// What the map knows of an entry that is resident, expired or not.
#[derive(Clone, Debug)]
struct Known {
    value: Value,
    hard: u64,
    idle: u64,
    tags: Tags,
    /// Whether one of its tags, or its group, was invalidated.
    fallen: bool,
}

/// What a transaction has made of a key so far: the hard end of its life is with it.
#[derive(Clone, Debug)]
enum Staged {
    Gone,
    Put(Value, u64),
    Kept(u64),
}

fn ttl_of(left: Option<Duration>) -> Ttl {
    left.map_or(Ttl::Never, Ttl::Left)
}

impl Known {
    fn is_live(&self, now: u64) -> bool {
        self.deadline() > now && !self.fallen
    }

    fn deadline(&self) -> u64 {
        self.hard.min(self.idle)
    }
}

/// Who may be evicted by a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Evicts {
    Nobody,
    Anybody,
    /// A value that does not fit takes the one it was to replace with it.
    Only(u16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    hits: u64,
    misses: u64,
    inserts: u64,
    updates: u64,
    refusals: u64,
    evictions: u64,
    expirations: u64,
    removals: u64,
}

pub(super) struct World {
    setup: Setup,
    cache: Cache<u16, Value, Seeded>,
    time: MockClock,
    clock: Clock,
    log: Removals<u16, Value>,
    known: BTreeMap<u16, Known>,
    max_entries: Option<usize>,
    max_weight: Option<u64>,
    /// Time since the start.
    now: u64,
    next_id: u64,
    token: Arc<()>,
    tally: Tally,
    /// The tags of the value that is being stored.
    given: Tags,
}

/// The groups that keys are in, by their remainder.
static GROUPS: [u8; 3] = [0, 1, 2];

fn group(key: &u16) -> &'static u8 {
    &GROUPS[usize::from(*key) % GROUPS.len()]
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let time = MockClock::new();
        let sweep_interval = if setup.swept {
            Duration::from_nanos(1)
        } else {
            HOUR * 100_000
        };
        let mut builder = Cache::builder()
            .on_full(setup.on_full)
            .eviction_policy(setup.policy)
            .clock(time.clock())
            .sweep_interval(sweep_interval);
        if let Some(max) = setup.max_entries() {
            builder = builder.max_entries(max);
        }
        if let Some(max) = setup.max_weight() {
            builder = builder
                .max_weight(max)
                .weigher(|_, value: &Value| value.weight);
        }
        if let Some(ttl) = setup.ttl {
            builder = builder.time_to_live(ttl);
        }
        if let Some(idle) = setup.idle {
            builder = builder.time_to_idle(idle);
        }
        if setup.grouped {
            builder = builder.group_by(|key| group(key));
        }
        let (builder, log) = logged(builder);
        Self {
            cache: builder.hasher(Seeded(setup.seed)).build().unwrap(),
            clock: time.clock(),
            time,
            log,
            known: BTreeMap::new(),
            max_entries: setup.max_entries(),
            max_weight: setup.max_weight(),
            now: 0,
            next_id: 0,
            token: Arc::new(()),
            tally: Tally::default(),
            given: 0,
            setup,
        }
    }

    /// Runs one operation on both and compares them.
    pub(super) fn run(&mut self, op: &Op) {
        self.given = 0;
        match op {
            Op::Insert(key, weight) => self.insert(self.key(*key), *weight),
            Op::InsertWithTtl(key, weight, ttl) => {
                self.insert_with_ttl(self.key(*key), *weight, *ttl)
            }
            Op::InsertWith(key, weight, life, only, tags) => {
                self.insert_with(self.key(*key), *weight, *life, *only, *tags)
            }
            Op::InsertMany(first, count, weight) => self.insert_many(*first, *count, *weight),
            Op::Update(key, weight) => self.update(self.key(*key), *weight),
            Op::Compute(key, change) => self.compute(self.key(*key), *change),
            Op::Transaction(parts, commit) => self.transaction(parts, *commit),
            Op::Load(key, weight) => self.load(self.key(*key), *weight),
            Op::TryLoad(key, weight) => self.try_load(self.key(*key), *weight),
            Op::Remove(key) => self.remove(self.key(*key)),
            Op::RemoveEntry(key) => self.remove_entry(self.key(*key)),
            Op::RemoveIf(key, yes) => self.remove_if(self.key(*key), *yes),
            Op::Retain(divisor) => self.retain(|value| value.id % divisor != 0),
            Op::Clear => self.clear(),
            Op::InvalidateTag(tag) => self.invalidate_tag(*tag),
            Op::InvalidateTags(tags) => self.invalidate_tags(*tags),
            Op::InvalidateGroup(group) => self.invalidate_group(*group),
            Op::Expire(key, ttl) => self.expire(self.key(*key), *ttl),
            Op::ExpireWith(key, ttl, condition) => {
                self.expire_with(self.key(*key), *ttl, *condition)
            }
            Op::ExpireAt(key, offset) => self.expire_at(self.key(*key), *offset),
            Op::Persist(key) => self.persist(self.key(*key)),
            Op::Touch(key) => self.touch(self.key(*key)),
            Op::Get(key) => self.get(self.key(*key)),
            Op::Read(key) => self.read(self.key(*key)),
            Op::Peek(key) => self.look_at(self.key(*key)),
            Op::ContainsKey(key) => self.look_at(self.key(*key)),
            Op::GetMany(keys) => self.get_many(keys),
            Op::Advance(step) => self.advance(*step),
            Op::SetWall(seconds) => self.set_wall(*seconds),
            Op::Sweep => self.sweep(),
            Op::SetMaxEntries(max) => self.set_max_entries(usize::from(*max)),
            Op::SetMaxWeight(max) => self.set_max_weight(*max),
            Op::Scan(count) => self.scan(usize::from(*count)),
            Op::Iterate => self.iterate(),
            Op::Random => self.random(),
        }
        self.compare(op);
    }

    /// Compares everything once more, and checks that the end of the cache drops every value.
    pub(super) fn finish(mut self) {
        for key in 0..self.setup.keys() {
            self.look_at(key);
        }
        self.iterate();
        let stats = self.cache.stats();
        let counted = Tally {
            hits: stats.hits,
            misses: stats.misses,
            inserts: stats.inserts,
            updates: stats.updates,
            refusals: stats.refusals,
            evictions: stats.evictions,
            expirations: stats.expirations,
            removals: stats.removals,
        };
        assert_eq!(counted, self.tally, "the stats say what happened");
        let token = Arc::clone(&self.token);
        drop(self);
        assert_eq!(Arc::strong_count(&token), 1, "every value is dropped");
    }

    // ---- what is known ----

    fn key(&self, drawn: u16) -> u16 {
        drawn % self.setup.keys()
    }

    fn value(&mut self, weight: u64) -> Value {
        self.next_id += 1;
        Value {
            id: self.next_id,
            weight,
            _token: Arc::clone(&self.token),
        }
    }

    fn live(&self, key: u16) -> Option<&Known> {
        self.known.get(&key).filter(|known| known.is_live(self.now))
    }

    fn live_value(&self, key: u16) -> Option<Value> {
        self.live(key).map(|known| known.value.clone())
    }

    fn live_ids(&self) -> BTreeSet<(u16, u64)> {
        let live = self
            .known
            .iter()
            .filter(|(_, known)| known.is_live(self.now));
        live.map(|(key, known)| (*key, known.value.id)).collect()
    }

    fn has_expired(&self) -> bool {
        self.known
            .values()
            .any(|known| known.deadline() <= self.now)
    }

    fn has_fallen(&self) -> bool {
        self.known.values().any(|known| known.fallen)
    }

    fn weight_of(&self, value: &Value) -> u64 {
        if self.setup.max_weight().is_some() {
            value.weight
        } else {
            1
        }
    }

    fn weight(&self) -> u64 {
        self.known
            .values()
            .map(|known| self.weight_of(&known.value))
            .fold(0, u64::saturating_add)
    }

    /// In whole microseconds, and never where that is more than 142 years on the clock.
    fn in_time(&self, ttl: Duration) -> u64 {
        let exact = self
            .now
            .saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(NEVER));
        match exact.saturating_add(START) {
            CLOCK_END.. => NEVER,
            _ => exact / 1_000 * 1_000,
        }
    }

    fn at(&self, offset: i64) -> (SystemTime, u64) {
        let wall = self.clock.system_time();
        let distance = Duration::from_nanos(offset.unsigned_abs());
        if offset < 0 {
            (wall - distance, self.now)
        } else {
            // Some systems have times that are coarser than nanoseconds.
            let time = wall + distance;
            (time, self.in_time(time.duration_since(wall).unwrap()))
        }
    }

    fn left(&self, deadline: u64) -> Option<Duration> {
        (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(self.now)))
    }

    fn idle_from_now(&self) -> u64 {
        self.setup.idle.map_or(NEVER, |idle| self.in_time(idle))
    }

    fn default_deadline(&self) -> u64 {
        self.setup.ttl.map_or(NEVER, |ttl| self.in_time(ttl))
    }

    fn access(&mut self, key: u16) {
        let idle = self.idle_from_now();
        let now = self.now;
        if let Some(known) = self.known.get_mut(&key).filter(|known| known.is_live(now)) {
            known.idle = idle;
        }
    }

    // ---- what the listener was told ----

    /// Takes the removals of a call: first those that it must have caused, then those that it may
    /// have.
    fn settle(&mut self, expected: &[(u16, &Value, RemovalCause)], evicts: Evicts) {
        let mut told = drain(&self.log);
        for (_, _, cause) in &told {
            match cause {
                RemovalCause::Expired => self.tally.expirations += 1,
                RemovalCause::Explicit => self.tally.removals += 1,
                RemovalCause::Capacity => self.tally.evictions += 1,
                _ => {}
            }
        }
        for (key, value, cause) in expected {
            let is_it =
                |told: &(u16, Value, RemovalCause)| told == &(*key, (*value).clone(), *cause);
            let at = told.iter().position(is_it);
            told.remove(at.unwrap_or_else(|| {
                panic!("{key}: {cause:?} of {value:?} is told, not only {told:?}")
            }));
        }
        let mut evicted = Vec::new();
        for (key, value, cause) in told {
            let known = self
                .known
                .remove(&key)
                .unwrap_or_else(|| panic!("{key} was there: {value:?} {cause:?}"));
            assert_eq!(
                known.value, value,
                "{key}: the value that leaves is the one that was there"
            );
            let expired = known.deadline() <= self.now;
            match cause {
                RemovalCause::Expired => assert!(expired, "{key} has expired"),
                RemovalCause::Capacity => {
                    assert!(!expired, "{key} expired rather than being evicted");
                    assert!(!known.fallen, "{key} had fallen");
                    assert!(
                        evicts == Evicts::Anybody || evicts == Evicts::Only(key),
                        "{key} must stay: {evicts:?}"
                    );
                    evicted.push(value);
                }
                RemovalCause::Explicit => {
                    assert!(known.fallen && !expired, "{key} was not removed");
                }
                unexpected => panic!("{key}: {unexpected:?}"),
            }
        }
        if evicts == Evicts::Anybody && !evicted.is_empty() {
            assert!(!self.has_expired(), "what has expired goes first");
        }
    }

    fn nothing_else_left(&mut self) {
        self.settle(&[], Evicts::Nobody);
    }

    /// Whether a value of a weight may be refused, with what is there now apart from `key`.
    fn may_refuse(&self, key: u16, value: &Value) -> bool {
        let never_fits = self
            .max_weight
            .is_some_and(|max| self.weight_of(value) > max);
        if self.setup.on_full == OnFull::Evict {
            return never_fits;
        }
        let others = self.known.iter().filter(|(other, _)| **other != key);
        let weight = others
            .clone()
            .map(|(_, known)| self.weight_of(&known.value))
            .fold(0u64, u64::saturating_add);
        let too_heavy = self.max_weight.is_some_and(|max| {
            weight
                .checked_add(self.weight_of(value))
                .is_none_or(|sum| sum > max)
        });
        let too_many = self.max_entries.is_some_and(|max| others.count() >= max);
        never_fits || too_heavy || too_many
    }

    /// Applies a value that was refused: the old one is gone, nothing else is.
    fn refused(&mut self, key: u16, value: &Value) {
        self.tally.refusals += 1;
        let was_live = self.live(key).is_some();
        self.settle(&[], Evicts::Only(key));
        assert!(
            !was_live || !self.known.contains_key(&key),
            "{key}: the old value of a refused one is gone"
        );
        let never_fits = self
            .max_weight
            .is_some_and(|max| self.weight_of(value) > max);
        assert!(
            never_fits || !self.has_fallen(),
            "what has fallen goes first"
        );
        assert!(
            self.may_refuse(key, value),
            "{key}: {value:?} was refused and would have fitted"
        );
    }

    /// Applies a value that was stored, with what it replaced.
    fn stored(&mut self, key: u16, value: Value, old: Option<&Value>, hard: u64) {
        let idle = self.idle_from_now();
        let known = Known {
            value,
            hard,
            idle,
            tags: self.given,
            fallen: false,
        };
        let gone_at_once = known.deadline() <= self.now;
        let mut expected = Vec::new();
        match old {
            Some(old) => {
                self.tally.updates += 1;
                self.known.remove(&key);
                expected.push((key, old, RemovalCause::Replaced));
            }
            None => self.tally.inserts += 1,
        }
        if gone_at_once {
            expected.push((key, &known.value, RemovalCause::Expired));
        }
        let evicts = match self.setup.on_full {
            OnFull::Evict if !gone_at_once => Evicts::Anybody,
            _ => Evicts::Nobody,
        };
        let evictions = self.tally.evictions;
        self.settle(&expected, evicts);
        if !gone_at_once {
            assert!(!self.known.contains_key(&key), "{key} is there once");
            self.known.insert(key, known);
        }
        let is_full = self.max_entries.is_some_and(|max| self.known.len() == max);
        assert!(
            self.tally.evictions == evictions || is_full || self.max_weight.is_some(),
            "nothing is evicted below the bound"
        );
    }

    fn inserted(&mut self, key: u16, value: Value, got: Insert<Value>, hard: u64) {
        let old = self.live_value(key);
        match got {
            Insert::Inserted => {
                assert_eq!(old, None, "{key}: an insertion replaces nothing live");
                self.stored(key, value, None, hard);
            }
            Insert::Replaced(replaced) => {
                assert_eq!(
                    Some(&replaced),
                    old.as_ref(),
                    "{key}: the old value comes back"
                );
                self.stored(key, value, Some(&replaced), hard);
            }
            Insert::Refused(back) => {
                assert_eq!(back, value);
                self.refused(key, &value);
            }
            Insert::Kept(_) => panic!("{key}: kept without a condition"),
        }
    }

    // ---- writes ----

    fn insert(&mut self, key: u16, weight: u64) {
        let value = self.value(weight);
        let got = self.cache.insert(key, value.clone());
        self.inserted_without_answer(key, value, got, self.default_deadline());
    }

    fn insert_with_ttl(&mut self, key: u16, weight: u64, ttl: Duration) {
        let value = self.value(weight);
        let got = self.cache.insert_with_ttl(key, value.clone(), ttl);
        self.inserted_without_answer(key, value, got, self.in_time(ttl));
    }

    /// `insert` does not say whether the value was refused; the stats do.
    fn inserted_without_answer(&mut self, key: u16, value: Value, got: Option<Value>, hard: u64) {
        let refused = self.cache.stats().refusals > self.tally.refusals;
        let answer = match got {
            Some(old) => Insert::Replaced(old),
            None if refused => Insert::Refused(value.clone()),
            None => Insert::Inserted,
        };
        self.inserted(key, value, answer, hard);
    }

    fn insert_with(&mut self, key: u16, weight: u64, life: Life, only: Only, tags: Tags) {
        let value = self.value(weight);
        self.given = tags;
        let live = self.live(key).map(|known| known.hard);
        let options = InsertOptions::new();
        let (options, hard) = match life {
            Life::Default => (options, self.default_deadline()),
            Life::Ttl(ttl) => (options.ttl(ttl), self.in_time(ttl)),
            Life::At(offset) => {
                let (time, hard) = self.at(offset);
                (options.expire_at(time), hard)
            }
            Life::Never => (options.no_ttl(), NEVER),
            Life::Keep => (options.keep_ttl(), live.unwrap_or(self.default_deadline())),
        };
        let (options, allowed) = match only {
            Only::Always => (options, true),
            Only::Absent => (options.if_absent(), live.is_none()),
            Only::Present => (options.if_present(), live.is_some()),
        };
        let options = options.tags(each(tags));
        let got = self.cache.insert_with(key, value.clone(), options);
        if allowed {
            self.inserted(key, value, got, hard);
        } else {
            assert_eq!(
                got,
                Insert::Kept(value),
                "{key}: the condition did not hold"
            );
            self.nothing_else_left();
        }
    }

    /// The iterator runs between two insertions, so each of them is checked by itself.
    fn insert_many(&mut self, first: u16, count: u16, weight: u64) {
        let cache = self.cache.clone();
        let keys = self.setup.keys();
        let deadline = self.default_deadline();
        let world = RefCell::new(self);
        let mut last: Option<(u16, Value)> = None;
        let mut stored = 0;
        let mut check = |last: Option<(u16, Value)>| {
            let Some((key, value)) = last else { return };
            let mut world = world.borrow_mut();
            let refusals = world.tally.refusals;
            let refused = world.cache.stats().refusals > refusals;
            let old = world.live_value(key).filter(|_| !refused);
            world.inserted_without_answer(key, value, old, deadline);
            stored += usize::from(world.tally.refusals == refusals);
        };
        let mut numbers = (0..count).map(|number| first.wrapping_add(number) % keys);
        let entries = std::iter::from_fn(|| {
            check(last.take());
            let key = numbers.next()?;
            let value = world.borrow_mut().value(weight);
            last = Some((key, value.clone()));
            Some((key, value))
        });
        let told = cache.insert_many(entries);
        check(last);
        assert_eq!(told, stored, "as many are stored as insert_many says");
    }

    fn update(&mut self, key: u16, weight: u64) {
        let live = self.live_value(key);
        let new = self.value(weight);
        let put = new.clone();
        let got = self
            .cache
            .update(&key, |value| std::mem::replace(value, put));
        assert_eq!(got, live, "{key}: update sees the live value");
        if live.is_none() {
            return self.nothing_else_left();
        }
        self.tally.updates += 1;
        let refused = self.cache.stats().refusals > self.tally.refusals;
        self.known.get_mut(&key).expect("it is live").value = new.clone();
        if refused {
            return self.refused(key, &new);
        }
        self.access(key);
        let known = self.known.remove(&key).expect("it is live");
        let evicts = if self.setup.on_full == OnFull::Evict {
            Evicts::Anybody
        } else {
            Evicts::Nobody
        };
        self.settle(&[], evicts);
        self.known.insert(key, known);
    }

    fn compute(&mut self, key: u16, change: Change) {
        let live = self.live(key).cloned();
        self.given = live.as_ref().map_or(0, |known| known.tags);
        let old = live.as_ref().map(|known| known.value.clone());
        let (op, value, hard) = self.planned(change, live.as_ref());
        let outcome = self.cache.compute(&key, |seen| {
            assert_eq!(seen, old.as_ref(), "{key}: compute sees the live value");
            op
        });
        match (outcome, value) {
            (Outcome::Inserted, Some(value)) => self.inserted(key, value, Insert::Inserted, hard),
            (Outcome::Replaced(old), Some(value)) => {
                self.inserted(key, value, Insert::Replaced(old), hard)
            }
            (Outcome::Refused(back), Some(value)) => {
                self.inserted(key, value, Insert::Refused(back), hard)
            }
            (Outcome::Removed(removed), None) => {
                assert!(matches!(change, Change::Remove));
                assert_eq!(Some(&removed), old.as_ref());
                self.removed(key, &removed);
            }
            (Outcome::Kept, None) => {
                assert!(matches!(change, Change::Keep) && old.is_some());
                self.nothing_else_left();
            }
            (Outcome::Absent, None) => {
                assert_eq!(old, None);
                self.nothing_else_left();
            }
            (outcome, _) => panic!("{key}: {outcome:?} of {change:?} on {old:?}"),
        }
    }

    fn planned(
        &mut self,
        change: Change,
        live: Option<&Known>,
    ) -> (haybox::Op<Value>, Option<Value>, u64) {
        match change {
            Change::Keep => (haybox::Op::Keep, None, NEVER),
            Change::Remove => (haybox::Op::Remove, None, NEVER),
            Change::Put(weight) => {
                let value = self.value(weight);
                (
                    haybox::Op::Put(value.clone()),
                    Some(value),
                    self.default_deadline(),
                )
            }
            Change::PutWithTtl(weight, ttl) => {
                let value = self.value(weight);
                (
                    haybox::Op::PutWithTtl(value.clone(), ttl),
                    Some(value),
                    self.in_time(ttl),
                )
            }
            Change::PutKeepTtl(weight) => {
                let value = self.value(weight);
                let hard = live.map_or(self.default_deadline(), |known| known.hard);
                (haybox::Op::PutKeepTtl(value.clone()), Some(value), hard)
            }
        }
    }

    fn transaction(&mut self, parts: &[(u16, Step)], commit: bool) {
        let keys: Vec<u16> = parts.iter().map(|(key, _)| self.key(*key)).collect();
        let mut staged: BTreeMap<u16, Staged> = BTreeMap::new();
        let before: BTreeMap<u16, Option<Known>> = keys
            .iter()
            .map(|key| (*key, self.live(*key).cloned()))
            .collect();
        let planned: Vec<_> = parts
            .iter()
            .zip(&keys)
            .map(|((_, step), key)| (*key, *step, self.values_of(*step)))
            .collect();
        let mut refusals = 0;
        let cache = self.cache.clone();
        let done: Result<(), ()> = cache.transaction(&keys, |tx| {
            for (key, step, value) in planned {
                let now = self.seen(before[&key].as_ref(), staged.get(&key));
                let present = now.as_ref().map(|(value, ..)| value);
                assert_eq!(
                    tx.get(&key),
                    present,
                    "{key}: a transaction sees its own changes"
                );
                let end = now.as_ref().map(|(_, hard, idle)| (*hard).min(*idle));
                let ttl = end.map(|end| ttl_of(self.left(end)));
                assert_eq!(tx.ttl(&key), ttl, "{key}: its TTLs, too");
                let (change, value) = match (step, value) {
                    (Step::Expire(_) | Step::Persist, _) => {
                        let (changed, hard) = match step {
                            Step::Expire(ttl) => (tx.expire(&key, ttl), self.in_time(ttl)),
                            _ => (tx.persist(&key), NEVER),
                        };
                        assert_eq!(changed, present.is_some(), "{key}");
                        if changed {
                            let put = match staged.remove(&key) {
                                Some(Staged::Put(value, _)) => Staged::Put(value, hard),
                                _ => Staged::Kept(hard),
                            };
                            staged.insert(key, put);
                        }
                        continue;
                    }
                    (Step::Change(Change::Remove), _) => {
                        assert_eq!(tx.remove(&key), present.is_some());
                        staged.insert(key, Staged::Gone);
                        continue;
                    }
                    (Step::Change(_), None) => continue,
                    (Step::Change(change), Some(value)) => (change, value),
                };
                let (put, hard) = match change {
                    Change::PutWithTtl(_, ttl) => (
                        tx.insert_with_ttl(&key, value.clone(), ttl),
                        self.in_time(ttl),
                    ),
                    Change::PutKeepTtl(_) => (
                        tx.insert_keep_ttl(&key, value.clone()),
                        now.map_or(self.default_deadline(), |(_, hard, _)| hard),
                    ),
                    _ => (tx.insert(&key, value.clone()), self.default_deadline()),
                };
                match put {
                    Ok(()) => drop(staged.insert(key, Staged::Put(value, hard))),
                    Err(Refused(back)) => {
                        assert_eq!(back, value);
                        refusals += 1;
                    }
                }
            }
            if commit { Ok(()) } else { Err(()) }
        });
        assert_eq!(done.is_ok(), commit);
        self.tally.refusals += refusals;
        if commit {
            self.committed(staged, &before);
        } else {
            self.nothing_else_left();
        }
    }

    /// The value that a step stores.
    fn values_of(&mut self, step: Step) -> Option<Value> {
        match step {
            Step::Change(
                Change::Put(weight) | Change::PutWithTtl(weight, _) | Change::PutKeepTtl(weight),
            ) => Some(self.value(weight)),
            _ => None,
        }
    }

    /// What a transaction sees of a key: its value, and the ends of its life.
    fn seen(&self, before: Option<&Known>, staged: Option<&Staged>) -> Option<(Value, u64, u64)> {
        match staged {
            None => before.map(|known| (known.value.clone(), known.hard, known.idle)),
            Some(Staged::Gone) => None,
            Some(Staged::Put(value, hard)) => Some((value.clone(), *hard, self.idle_from_now())),
            Some(Staged::Kept(hard)) => {
                before.map(|known| (known.value.clone(), *hard, known.idle))
            }
        }
    }

    /// Applies a transaction. What found no room left as if evicted at once.
    fn committed(&mut self, staged: BTreeMap<u16, Staged>, before: &BTreeMap<u16, Option<Known>>) {
        let may_lack_room = self.may_lack_room(&staged, before);
        let told = self.log.lock().unwrap().clone();
        let mut expected = Vec::new();
        let (mut stored, mut kept) = (Vec::new(), Vec::new());
        for (key, change) in &staged {
            let old = before[key].as_ref().map(|known| &known.value);
            match (change, old) {
                (Staged::Gone | Staged::Kept(_), None) => {}
                (Staged::Gone, Some(old)) => expected.push((*key, old, RemovalCause::Explicit)),
                (Staged::Kept(hard), Some(old)) => {
                    let known = before[key].clone().map(|known| Known {
                        hard: *hard,
                        ..known
                    });
                    match known.filter(|known| known.is_live(self.now)) {
                        Some(known) => kept.push((*key, known)),
                        None => expected.push((*key, old, RemovalCause::Expired)),
                    }
                }
                (Staged::Put(value, hard), old) => {
                    let idle = self.idle_from_now();
                    let gone = (*hard).min(idle) <= self.now;
                    let replaced = old.map(|old| (*key, old, RemovalCause::Replaced));
                    let is_there = self.cache.peek(key).as_ref() == Some(value);
                    if !gone && !is_there {
                        assert!(may_lack_room, "{key}: there was room for {value:?}");
                        self.tally.refusals += 1;
                        // The old value has to have left, for want of room.
                        expected.extend(old.map(|old| (*key, old, RemovalCause::Capacity)));
                        continue;
                    }
                    match old {
                        None => self.tally.inserts += 1,
                        Some(_) => self.tally.updates += 1,
                    }
                    expected.extend(replaced);
                    if gone {
                        expected.push((*key, value, RemovalCause::Expired));
                    } else {
                        stored.push((
                            *key,
                            Known {
                                value: value.clone(),
                                hard: *hard,
                                idle,
                                tags: before[key].as_ref().map_or(0, |known| known.tags),
                                fallen: false,
                            },
                        ));
                    }
                }
            }
        }
        for (key, old) in before {
            if old.is_some() && staged.contains_key(key) {
                self.known.remove(key);
            }
        }
        // Before the others are stored, which may push it out.
        self.known.extend(kept);
        let evicts = match self.setup.on_full {
            OnFull::Evict if !stored.is_empty() || may_lack_room => Evicts::Anybody,
            _ => Evicts::Nobody,
        };
        assert!(
            told.len() >= expected.len(),
            "{expected:?} is told, not only {told:?}"
        );
        self.settle(&expected, evicts);
        self.known.extend(stored);
    }

    /// Whether the values of a transaction, with those they replace, may not fit all at once.
    fn may_lack_room(
        &self,
        staged: &BTreeMap<u16, Staged>,
        before: &BTreeMap<u16, Option<Known>>,
    ) -> bool {
        let puts = staged.iter().filter_map(|(key, change)| match change {
            Staged::Put(value, _) => Some((key, value)),
            Staged::Gone | Staged::Kept(_) => None,
        });
        let weight = puts
            .clone()
            .map(|(key, value)| {
                let old = before[key]
                    .as_ref()
                    .map_or(0, |known| self.weight_of(&known.value));
                self.weight_of(value).max(old)
            })
            .fold(0u128, |sum, weight| sum + u128::from(weight));
        self.max_entries.is_some_and(|max| puts.count() > max)
            || self.max_weight.is_some_and(|max| weight > max.into())
    }

    fn load(&mut self, key: u16, weight: u64) {
        let live = self.live_value(key);
        let value = self.value(weight);
        let loaded = self.cache.get_or_insert_with(&key, || value.clone());
        self.loaded(key, live, value, loaded);
    }

    fn try_load(&mut self, key: u16, weight: Option<u64>) {
        let live = self.live_value(key);
        let value = weight.map(|weight| self.value(weight));
        let loaded = self
            .cache
            .try_get_or_insert_with(&key, || value.clone().ok_or("none"));
        match (loaded, value) {
            (Ok(loaded), value) => {
                let value = value.unwrap_or_else(|| loaded.clone());
                self.loaded(key, live, value, loaded);
            }
            (Err(LoadError::Failed(error)), None) => {
                assert_eq!((live, *error), (None, "none"));
                self.tally.misses += 1;
                self.nothing_else_left();
            }
            (failed, _) => panic!("{key}: {failed:?}"),
        }
    }

    fn loaded(&mut self, key: u16, live: Option<Value>, value: Value, loaded: Value) {
        if let Some(live) = live {
            assert_eq!(loaded, live, "{key}: what is there is not loaded");
            self.tally.hits += 1;
            self.access(key);
            return self.nothing_else_left();
        }
        assert_eq!(loaded, value);
        self.tally.misses += 1;
        self.inserted_without_answer(key, value, None, self.default_deadline());
    }

    // ---- removals ----

    fn removed(&mut self, key: u16, value: &Value) {
        self.known.remove(&key);
        self.settle(&[(key, value, RemovalCause::Explicit)], Evicts::Nobody);
    }

    fn removed_maybe(&mut self, key: u16, got: Option<Value>, expected: Option<Value>) {
        assert_eq!(got, expected, "{key}: remove returns the live value");
        match got {
            Some(value) => self.removed(key, &value),
            None => self.nothing_else_left(),
        }
    }

    fn remove(&mut self, key: u16) {
        let got = self.cache.remove(&key);
        self.removed_maybe(key, got, self.live_value(key));
    }

    fn remove_entry(&mut self, key: u16) {
        let got = self.cache.remove_entry(&key);
        assert!(got.as_ref().is_none_or(|(removed, _)| *removed == key));
        self.removed_maybe(key, got.map(|(_, value)| value), self.live_value(key));
    }

    fn remove_if(&mut self, key: u16, yes: bool) {
        let live = self.live_value(key);
        let got = self.cache.remove_if(&key, |value| {
            assert_eq!(Some(value), live.as_ref());
            yes
        });
        self.removed_maybe(key, got, live.clone().filter(|_| yes));
    }

    fn retain(&mut self, keep: impl Fn(&Value) -> bool) {
        let mut seen = BTreeSet::new();
        self.cache.retain(|key, value| {
            assert!(seen.insert((*key, value.id)), "{key} is seen once");
            keep(value)
        });
        assert_eq!(seen, self.live_ids(), "retain sees what is live");
        self.dropped_unless(keep);
    }

    fn clear(&mut self) {
        self.cache.clear();
        self.dropped_unless(|_| false);
        assert!(self.cache.is_empty());
    }

    fn dropped_unless(&mut self, keep: impl Fn(&Value) -> bool) {
        let now = self.now;
        let gone = |known: &Known| known.is_live(now) && !keep(&known.value);
        let known = std::mem::take(&mut self.known);
        let (gone, known): (BTreeMap<_, _>, _) =
            known.into_iter().partition(|(_, known)| gone(known));
        self.known = known;
        let expected: Vec<_> = gone
            .iter()
            .map(|(key, known)| (*key, &known.value, RemovalCause::Explicit))
            .collect();
        self.settle(&expected, Evicts::Nobody);
        assert!(!self.has_expired(), "what has expired goes, too");
        assert!(!self.has_fallen(), "what has fallen goes, too");
    }

    fn invalidate_tag(&mut self, tag: u8) {
        self.cache.invalidate_tag(&tag);
        self.fell(|_, known| known.tags & 1 << tag != 0);
    }

    fn invalidate_tags(&mut self, tags: Tags) {
        self.cache.invalidate_tags(each(tags));
        self.fell(|_, known| known.tags & tags != 0);
    }

    fn invalidate_group(&mut self, asked: u8) {
        if self.setup.grouped {
            self.cache.invalidate_group(&asked);
            self.fell(|key, _| *group(key) == asked);
        }
    }

    fn fell(&mut self, is_concerned: impl Fn(&u16, &Known) -> bool) {
        for (key, known) in &mut self.known {
            known.fallen |= is_concerned(key, known);
        }
        self.nothing_else_left();
    }

    // ---- deadlines ----

    fn expire(&mut self, key: u16, ttl: Duration) {
        let changed = self.cache.expire(&key, ttl);
        self.moved(key, changed, self.in_time(ttl), ExpireIf::Always);
    }

    fn expire_with(&mut self, key: u16, ttl: Duration, condition: ExpireIf) {
        let changed = self.cache.expire_with(&key, ttl, condition);
        self.moved(key, changed, self.in_time(ttl), condition);
    }

    fn expire_at(&mut self, key: u16, offset: i64) {
        let (time, deadline) = self.at(offset);
        let changed = self.cache.expire_at(&key, time);
        self.moved(key, changed, deadline, ExpireIf::Always);
    }

    fn persist(&mut self, key: u16) {
        let changed = self.cache.persist(&key);
        self.moved(key, changed, NEVER, ExpireIf::Always);
    }

    fn moved(&mut self, key: u16, changed: bool, wanted: u64, condition: ExpireIf) {
        let live = self.live(key).cloned();
        let applies = live.as_ref().is_some_and(|known| match condition {
            ExpireIf::Always => true,
            ExpireIf::NoTtl => known.hard == NEVER,
            ExpireIf::HasTtl => known.hard != NEVER,
            ExpireIf::Later => wanted > known.hard,
            ExpireIf::Sooner => wanted < known.hard,
        });
        assert_eq!(
            changed, applies,
            "{key}: {condition:?}, from {live:?} to {wanted}"
        );
        if applies && let Some(known) = self.known.get_mut(&key) {
            known.hard = wanted;
        }
        self.nothing_else_left();
        if applies && wanted <= self.now {
            assert!(!self.known.contains_key(&key), "{key} is released at once");
        }
    }

    // ---- reads ----

    fn touch(&mut self, key: u16) {
        assert_eq!(self.cache.touch(&key), self.live(key).is_some());
        self.access(key);
    }

    fn looked_up(&mut self, key: u16, got: Option<u64>) {
        assert_eq!(got, self.live(key).map(|known| known.value.id), "{key}");
        match got {
            Some(_) => {
                self.tally.hits += 1;
                self.access(key);
            }
            None => self.tally.misses += 1,
        }
    }

    fn get(&mut self, key: u16) {
        let got = self.cache.get(&key).map(|value| value.id);
        self.looked_up(key, got);
    }

    fn read(&mut self, key: u16) {
        let got = self.cache.read(&key, |value| value.id);
        self.looked_up(key, got);
    }

    fn get_many(&mut self, keys: &[u16]) {
        let keys: Vec<u16> = keys.iter().map(|key| self.key(*key)).collect();
        let got = self.cache.get_many(&keys);
        assert_eq!(got.len(), keys.len());
        for (key, value) in keys.iter().zip(got) {
            self.looked_up(*key, value.map(|value| value.id));
        }
    }

    /// Everything that can be seen of a key without leaving a trace.
    fn look_at(&mut self, key: u16) {
        let live = self.live(key);
        assert_eq!(
            self.cache.peek(&key).as_ref(),
            live.map(|known| &known.value),
            "{key}"
        );
        assert_eq!(self.cache.contains_key(&key), live.is_some(), "{key}");
        let left = live.map(|known| self.left(known.deadline()));
        assert_eq!(self.cache.ttl(&key), left.map(ttl_of), "{key}: {live:?}");
        let wall = self.clock.system_time();
        assert_eq!(
            self.cache.deadline(&key),
            left.map(|left| left.map(|left| wall + left)),
            "{key}"
        );
    }

    fn scan(&mut self, count: usize) {
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let (next, entries) = self.cache.scan(cursor, count);
            assert!(
                next == 0 || entries.len() >= count.max(1),
                "a call brings as many as asked for"
            );
            assert!(next == 0 || next > cursor, "a scan moves forward");
            found.extend(entries);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        self.met(found);
    }

    fn met(&self, found: Vec<(u16, Value)>) {
        let ids: BTreeSet<_> = found.iter().map(|(key, value)| (*key, value.id)).collect();
        assert_eq!(ids.len(), found.len(), "each is met once");
        assert_eq!(
            ids,
            self.live_ids(),
            "all that is live is met, and nothing else"
        );
    }

    fn iterate(&mut self) {
        self.met(self.cache.iter().collect());
        let live = self.live_ids();
        assert_eq!(
            self.cache.keys().collect::<BTreeSet<_>>(),
            live.iter().map(|(key, _)| *key).collect()
        );
        let ids = self.cache.values().map(|value| value.id);
        assert_eq!(
            ids.collect::<BTreeSet<_>>(),
            live.iter().map(|(_, id)| *id).collect()
        );
    }

    fn random(&mut self) {
        match self.cache.random() {
            Some((key, value)) => assert_eq!(self.live_value(key), Some(value)),
            None => assert!(self.live_ids().is_empty()),
        }
    }

    // ---- time and bounds ----

    fn advance(&mut self, step: Duration) {
        self.time.advance(step);
        let step = u64::try_from(step.as_nanos()).expect("steps are short");
        self.now += step;
        self.nothing_else_left();
        if self.setup.swept && step > 0 {
            assert!(!self.has_expired(), "the sweep releases what has expired");
            assert!(!self.has_fallen(), "and what has fallen");
        }
    }

    fn set_wall(&mut self, seconds: u64) {
        self.time
            .set_system_time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }

    fn sweep(&mut self) {
        let expired = self
            .known
            .values()
            .filter(|known| !known.is_live(self.now))
            .count();
        assert_eq!(self.cache.sweep(), expired);
        self.nothing_else_left();
        assert!(!self.has_expired() && !self.has_fallen());
    }

    fn set_max_entries(&mut self, max: usize) {
        self.max_entries = Some(max);
        self.cache.set_max_entries(max).unwrap();
        assert_eq!(self.cache.max_entries(), Some(max));
        self.lowered();
    }

    fn set_max_weight(&mut self, max: u64) {
        assert_eq!(
            self.cache.set_max_weight(max).is_ok(),
            self.max_weight.is_some()
        );
        if self.max_weight.is_some() {
            self.max_weight = Some(max);
            self.lowered();
        }
    }

    /// A bound that is lowered holds even for a cache that rejects.
    fn lowered(&mut self) {
        let before = self.known.len();
        let expired = self.has_expired() || self.has_fallen();
        self.settle(&[], Evicts::Anybody);
        let max = self.max_entries.unwrap_or(usize::MAX);
        if !expired && self.max_weight.is_none() {
            assert_eq!(
                self.known.len(),
                before.min(max),
                "no more is evicted than has to be"
            );
        }
    }

    /// What must hold after each operation.
    fn compare(&mut self, op: &Op) {
        self.cache.validate();
        assert_eq!(self.cache.len(), self.known.len(), "{op:?}");
        assert!(
            self.max_entries.is_none_or(|max| self.cache.len() <= max),
            "{op:?}"
        );
        if self.setup.max_weight().is_some() {
            assert_eq!(self.cache.weight(), self.weight(), "{op:?}");
            assert!(
                self.max_weight.is_none_or(|max| self.cache.weight() <= max),
                "{op:?}"
            );
        }
        let keys: Vec<u16> = match op {
            Op::InsertMany(..) | Op::Transaction(..) => self.known.keys().copied().collect(),
            _ => self
                .known
                .keys()
                .copied()
                .take(4)
                .chain([self.key(self.next_id as u16)])
                .collect(),
        };
        for key in keys.into_iter().chain(key_of(op).map(|key| self.key(key))) {
            self.look_at(key);
        }
    }
}

/// The tags of a set of them, as numbers of a type that is not the one they are invalidated by.
fn each(tags: Tags) -> impl Iterator<Item = u64> {
    (0..TAGS)
        .filter(move |tag| tags & 1 << tag != 0)
        .map(u64::from)
}

fn key_of(op: &Op) -> Option<u16> {
    match op {
        Op::Insert(key, ..)
        | Op::InsertWithTtl(key, ..)
        | Op::InsertWith(key, ..)
        | Op::Update(key, ..)
        | Op::Compute(key, ..)
        | Op::Remove(key)
        | Op::RemoveEntry(key)
        | Op::RemoveIf(key, ..)
        | Op::Expire(key, ..)
        | Op::ExpireWith(key, ..)
        | Op::ExpireAt(key, ..)
        | Op::Persist(key)
        | Op::Touch(key)
        | Op::Get(key)
        | Op::Read(key)
        | Op::Peek(key)
        | Op::ContainsKey(key)
        | Op::Load(key, ..)
        | Op::TryLoad(key, ..) => Some(*key),
        _ => None,
    }
}
