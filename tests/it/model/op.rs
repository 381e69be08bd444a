//! The operations that the model draws from, and how they are drawn.

use crate::common::POLICIES;
use haybox::{EvictionPolicy, ExpireIf, OnFull};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// What a cache of the model is bounded by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    None,
    Entries(usize),
    Weight(u64),
    Both(usize, u64),
}

#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) bound: Bound,
    pub(super) ttl: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) on_full: OnFull,
    pub(super) policy: EvictionPolicy,
    /// Whether each step of the time sweeps, or none does.
    pub(super) swept: bool,
    /// Whether the keys are in groups.
    pub(super) grouped: bool,
    pub(super) seed: u64,
}

impl Setup {
    pub(super) fn max_entries(&self) -> Option<usize> {
        match self.bound {
            Bound::Entries(max) | Bound::Both(max, _) => Some(max),
            Bound::None | Bound::Weight(_) => None,
        }
    }

    pub(super) fn max_weight(&self) -> Option<u64> {
        match self.bound {
            Bound::Weight(max) | Bound::Both(_, max) => Some(max),
            Bound::None | Bound::Entries(_) => None,
        }
    }

    /// As many keys as make hits, misses and evictions all likely.
    pub(super) fn keys(&self) -> u16 {
        match self.bound {
            Bound::None => 300,
            Bound::Entries(max) | Bound::Both(max, _) => (max + max / 2 + 3) as u16,
            Bound::Weight(_) => 40,
        }
    }
}

pub(super) fn setups() -> impl Strategy<Value = Setup> {
    let bound = prop_oneof![
        Just(Bound::Entries(1)),
        Just(Bound::Entries(2)),
        Just(Bound::Entries(7)),
        Just(Bound::Entries(64)),
        Just(Bound::Entries(1000)),
        Just(Bound::None),
        Just(Bound::Weight(100)),
        Just(Bound::Weight(u64::MAX)),
        Just(Bound::Both(12, 150)),
    ];
    let on_full = prop_oneof![4 => Just(OnFull::Evict), 1 => Just(OnFull::Reject)];
    let setup = (
        bound,
        option(1),
        option(2),
        on_full,
        proptest::sample::select(&POLICIES[..]),
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
    );
    setup.prop_map(
        |(bound, ttl, idle, on_full, policy, swept, grouped, seed)| Setup {
            bound,
            ttl,
            idle,
            on_full,
            policy,
            swept,
            grouped,
            seed,
        },
    )
}

fn option(one_in: u32) -> impl Strategy<Value = Option<Duration>> {
    let chosen = prop_oneof![
        Just(1u64),
        Just(1_000),
        Just(5_000_000),
        Just(2_000_000_000)
    ];
    prop_oneof![one_in => Just(None), 1 => chosen.prop_map(|nanos| Some(Duration::from_nanos(nanos)))]
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Default,
    Ttl(Duration),
    At(i64),
    Never,
    Keep,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Only {
    Always,
    Absent,
    Present,
}

/// What a `compute` or a transaction does to a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Keep,
    Put(Weight),
    PutWithTtl(Weight, Duration),
    PutKeepTtl(Weight),
    Remove,
}

/// What a transaction does to one of its keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Change(Change),
    Expire(Duration),
    Persist,
}

/// Tags, one for each bit.
pub(super) type Tags = u8;

/// How many there are.
pub(super) const TAGS: u8 = 4;

/// What a value weighs; small as a rule.
pub(super) type Weight = u64;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Insert(u16, Weight),
    InsertWithTtl(u16, Weight, Duration),
    InsertWith(u16, Weight, Life, Only, Tags),
    InsertMany(u16, u16, Weight),
    Update(u16, Weight),
    Compute(u16, Change),
    Remove(u16),
    RemoveEntry(u16),
    RemoveIf(u16, bool),
    Retain(u64),
    InvalidateTag(u8),
    InvalidateTags(Tags),
    InvalidateGroup(u8),
    Clear,
    ExpireWith(u16, Duration, ExpireIf),
    Expire(u16, Duration),
    ExpireAt(u16, i64),
    Persist(u16),
    Touch(u16),
    Get(u16),
    Read(u16),
    Peek(u16),
    ContainsKey(u16),
    GetMany(Vec<u16>),
    Load(u16, Weight),
    TryLoad(u16, Option<Weight>),
    Transaction(Vec<(u16, Step)>, bool),
    Advance(Duration),
    SetWall(u64),
    Sweep,
    SetMaxEntries(u16),
    SetMaxWeight(u64),
    Scan(u8),
    Iterate,
    Random,
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        6 => Just(Duration::from_nanos(1)),
        4 => (0u64..4).prop_map(Duration::from_nanos),
        4 => (998u64..1003).prop_map(Duration::from_nanos),
        4 => Just(Duration::from_millis(5)),
        4 => Just(Duration::from_secs(2)),
        1 => (1u64..100_000).prop_map(Duration::from_secs),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
        1 => Just(Duration::from_nanos(u64::MAX)),
    ]
}

fn steps() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0u64..3).prop_map(Duration::from_nanos),
        4 => (990u64..1010).prop_map(Duration::from_nanos),
        4 => Just(Duration::from_millis(5)),
        2 => Just(Duration::from_secs(2)),
        1 => Just(Duration::from_secs(200_000)),
    ]
}

fn weights() -> impl Strategy<Value = Weight> {
    prop_oneof![
        20 => 0u64..12,
        2 => 30u64..110,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 3),
    ]
}

fn offsets() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0i64),
        -5i64..5,
        Just(1_000_000_000),
        Just(-1_000_000_000)
    ]
}

fn lives() -> impl Strategy<Value = Life> {
    prop_oneof![
        Just(Life::Default),
        durations().prop_map(Life::Ttl),
        offsets().prop_map(Life::At),
        Just(Life::Never),
        Just(Life::Keep),
    ]
}

fn tags() -> impl Strategy<Value = Tags> {
    prop_oneof![Just(0), 0..1u8 << TAGS]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Keep),
        3 => weights().prop_map(Change::Put),
        2 => (weights(), durations()).prop_map(|(weight, ttl)| Change::PutWithTtl(weight, ttl)),
        2 => weights().prop_map(Change::PutKeepTtl),
        2 => Just(Change::Remove),
    ]
}

fn conditions() -> impl Strategy<Value = ExpireIf> {
    prop_oneof![
        Just(ExpireIf::Always),
        Just(ExpireIf::NoTtl),
        Just(ExpireIf::HasTtl),
        Just(ExpireIf::Later),
        Just(ExpireIf::Sooner),
    ]
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..60)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => writes(),
        3 => deadlines(),
        5 => reads(),
        3 => removals(),
        4 => steps().prop_map(Op::Advance),
        1 => whole(),
    ]
}

fn key() -> impl Strategy<Value = u16> {
    any::<u16>()
}

fn writes() -> impl Strategy<Value = Op> {
    let only = prop_oneof![Just(Only::Always), Just(Only::Absent), Just(Only::Present)];
    let step = prop_oneof![
        6 => changes().prop_map(Step::Change),
        2 => durations().prop_map(Step::Expire),
        1 => Just(Step::Persist),
    ];
    let part = (key(), step);
    prop_oneof![
        6 => (key(), weights()).prop_map(|(key, weight)| Op::Insert(key, weight)),
        4 => (key(), weights(), durations()).prop_map(|(key, weight, ttl)| Op::InsertWithTtl(key, weight, ttl)),
        6 => (key(), weights(), lives(), only, tags())
            .prop_map(|(key, weight, life, only, tags)| Op::InsertWith(key, weight, life, only, tags)),
        2 => (key(), 0u16..200, 0u64..4).prop_map(|(first, count, weight)| Op::InsertMany(first, count, weight)),
        4 => (key(), weights()).prop_map(|(key, weight)| Op::Update(key, weight)),
        4 => (key(), changes()).prop_map(|(key, change)| Op::Compute(key, change)),
        3 => (vec(part, 1..5), any::<bool>()).prop_map(|(parts, commit)| Op::Transaction(parts, commit)),
        3 => (key(), weights()).prop_map(|(key, weight)| Op::Load(key, weight)),
        2 => (key(), proptest::option::of(weights())).prop_map(|(key, weight)| Op::TryLoad(key, weight)),
    ]
}

fn deadlines() -> impl Strategy<Value = Op> {
    prop_oneof![
        (key(), durations()).prop_map(|(key, ttl)| Op::Expire(key, ttl)),
        (key(), durations(), conditions())
            .prop_map(|(key, ttl, condition)| Op::ExpireWith(key, ttl, condition)),
        (key(), offsets()).prop_map(|(key, offset)| Op::ExpireAt(key, offset)),
        key().prop_map(Op::Persist),
    ]
}

fn reads() -> impl Strategy<Value = Op> {
    prop_oneof![
        key().prop_map(Op::Touch),
        key().prop_map(Op::Get),
        key().prop_map(Op::Read),
        key().prop_map(Op::Peek),
        key().prop_map(Op::ContainsKey),
        vec(key(), 0..6).prop_map(Op::GetMany),
    ]
}

fn removals() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => key().prop_map(Op::Remove),
        2 => key().prop_map(Op::RemoveEntry),
        2 => (key(), any::<bool>()).prop_map(|(key, yes)| Op::RemoveIf(key, yes)),
        1 => (2u64..5).prop_map(Op::Retain),
        4 => (0..TAGS).prop_map(Op::InvalidateTag),
        1 => tags().prop_map(Op::InvalidateTags),
        2 => (0u8..3).prop_map(Op::InvalidateGroup),
    ]
}

fn whole() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Clear),
        3 => Just(Op::Sweep),
        2 => (1u16..100).prop_map(Op::SetMaxEntries),
        2 => (1u64..200).prop_map(Op::SetMaxWeight),
        2 => any::<u8>().prop_map(Op::Scan),
        2 => Just(Op::Iterate),
        2 => Just(Op::Random),
        2 => (0u64..2_000_000_000).prop_map(Op::SetWall),
    ]
}
