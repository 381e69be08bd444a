//! Who is there.

use crate::common::{HOUR, INSIDE, OneHash, PATIENCE, SECOND, cases, panic_of};
use Change::{Active, Idle, Joined, Left, TimedOut};
use haybox::presence::{Change, Presence, PresenceBuilder, PresenceEvent, Status};
use haybox::pubsub::{NoMessage, Slow, SubscribeOptions, Subscription};
use haybox::{Cache, MockClock};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

type Online = Presence<u8, u8>;

fn timed(
    set: impl FnOnce(PresenceBuilder<u8, u8>) -> PresenceBuilder<u8, u8>,
) -> (Online, MockClock) {
    let time = MockClock::new();
    let builder = Presence::builder().clock(time.clock()).timeout(SECOND * 30);
    (set(builder).build().unwrap(), time)
}

type Told = (u8, u8, Change);

fn told(events: &Subscription<PresenceEvent<u8, u8>>) -> Vec<Told> {
    let events = events.try_iter();
    events
        .map(|event| (*event.room, *event.member, event.change))
        .collect()
}

#[test]
fn times_of_nothing_are_refused_and_so_is_waiting() {
    let zero = Duration::ZERO;
    let builder = Presence::<u8, u8>::builder;
    for (wrong, setting) in [
        (builder().timeout(zero), "timeout"),
        (builder().idle_after(zero), "idle_after"),
        (builder().sweep_interval(zero), "sweep_interval"),
    ] {
        assert_eq!(wrong.build().unwrap_err().setting(), setting);
    }
    let online = builder().timeout(Duration::MAX).build().unwrap();
    assert!(online.heartbeat(&1, &1));
    let options = SubscribeOptions::new();
    assert!(
        online
            .events_with(options.on_slow(Slow::Block(SECOND)))
            .is_err()
    );
    assert!(online.events_with(options.capacity(0)).is_err());
}

#[test]
fn a_member_that_falls_silent_is_announced_though_nobody_calls() {
    let (online, time) = timed(|builder| builder.sweep_interval(SECOND));
    let events = online.events();
    assert!(online.heartbeat(&1, &7));
    time.advance(SECOND * 29);
    assert!(!online.heartbeat(&1, &7));
    time.advance(SECOND * 30 - Duration::from_nanos(1));
    assert_eq!(told(&events), [(1, 7, Joined)]);
    // The sweep has just been; the next one is an interval away.
    time.advance(SECOND);
    assert_eq!(told(&events), [(1, 7, TimedOut)]);
    assert!(online.rooms().is_empty());
}

#[test]
fn the_keeper_announces_it_on_the_real_clock() {
    let short = Duration::from_millis(5);
    let online = Presence::<String, String>::builder()
        .timeout(short)
        .sweep_interval(short);
    let online = online.build().unwrap();
    let events = online.events();
    online.heartbeat("room", "one");
    for expected in [Joined, TimedOut] {
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&**event.member, event.change), ("one", expected));
    }
}

#[test]
fn nobody_sees_who_is_overdue_and_all_are_told_before_he_returns() {
    let (online, time) = timed(|builder| builder.sweep_interval(HOUR));
    let events = online.events();
    online.heartbeat(&1, &7);
    online.heartbeat(&1, &8);
    time.advance(SECOND * 20);
    online.heartbeat(&1, &8);
    time.advance(SECOND * 10);
    assert_eq!((online.count(&1), online.members(&1)), (1, vec![8]));
    assert!(!online.is_online(&1, &7) && !online.leave(&1, &7));
    assert!(online.heartbeat(&1, &7));
    let expected = [
        (1, 7, Joined),
        (1, 8, Joined),
        (1, 7, TimedOut),
        (1, 7, Joined),
    ];
    assert_eq!(told(&events), expected);
}

#[test]
fn idle_is_not_gone() {
    let (online, time) = timed(|builder| builder.idle_after(SECOND * 10));
    let events = online.events();
    online.heartbeat(&1, &7);
    time.advance(SECOND * 9);
    assert!(!online.active(&1, &7));
    time.advance(SECOND * 9);
    online.heartbeat(&1, &7);
    assert_eq!(online.status(&1, &7), Some(Status::Active));
    time.advance(SECOND);
    assert_eq!(online.status(&1, &7), Some(Status::Idle));
    assert_eq!(online.count(&1), 1);
    assert!(!online.heartbeat(&1, &7));
    assert_eq!(online.status(&1, &7), Some(Status::Idle));
    online.active(&1, &7);
    time.advance(SECOND * 10);
    time.advance(SECOND * 20);
    time.set_system_time(time.clock().system_time() + HOUR);
    let expected = [Joined, Idle, Active, Idle, TimedOut].map(|change| (1, 7, change));
    assert_eq!(told(&events), expected);
}

#[test]
fn what_came_at_different_times_is_told_in_that_order() {
    let (online, time) = timed(|builder| builder.idle_after(SECOND * 5).sweep_interval(HOUR));
    let events = online.events();
    online.heartbeat(&1, &1);
    time.advance(SECOND);
    online.heartbeat(&1, &2);
    time.advance(HOUR * 2);
    let changes = [
        (1, Joined),
        (2, Joined),
        (1, Idle),
        (2, Idle),
        (1, TimedOut),
        (2, TimedOut),
    ];
    assert_eq!(
        told(&events),
        changes.map(|(member, change)| (1, member, change))
    );
}

#[test]
fn rooms_are_apart_and_leave_nothing_behind() {
    let (online, time) = timed(|builder| builder);
    for room in 0..100 {
        online.heartbeat(&room, &1);
        online.heartbeat(&room, &room);
    }
    assert_eq!(online.rooms().len(), 100);
    assert!(online.leave(&3, &1) && !online.leave(&3, &1));
    assert_eq!(
        (online.count(&3), online.count(&1), online.count(&200)),
        (1, 1, 0)
    );
    assert!(online.leave(&3, &3));
    assert_eq!(online.rooms().len(), 99);
    time.advance(HOUR);
    assert!(online.rooms().is_empty());

    let time = MockClock::new();
    let online = Presence::<String, _>::builder()
        .clock(time.clock())
        .build()
        .unwrap();
    let member = Arc::new(1);
    for _ in 0..1_000 {
        online.heartbeat("room", &member);
        online.leave("room", &member);
    }
    // A member that has left is remembered for a while, but not as often as it came.
    assert!(Arc::strong_count(&member) < 200);
    online.heartbeat("room", &member);
    time.advance(HOUR);
    assert_eq!(Arc::strong_count(&member), 1);

    let time = MockClock::new();
    let online = Presence::builder().clock(time.clock()).build().unwrap();
    let room = Arc::new(1);
    assert!(online.heartbeat(&room, &1) && online.leave(&room, &1));
    time.advance(HOUR);
    assert_eq!(
        Arc::strong_count(&room),
        1,
        "a room that is empty goes, too"
    );
}

#[test]
fn who_stays_is_found_gone_after_many_have_left() {
    let (online, time) = timed(|builder| builder);
    let options = SubscribeOptions::new().capacity(10_000);
    let events = online.events_with(options).unwrap();
    (0..10).for_each(|member| assert!(online.heartbeat(&1, &member)));
    for _ in 0..1_000 {
        online.heartbeat(&1, &200);
        online.leave(&1, &200);
    }
    time.advance(SECOND * 30);
    let gone = told(&events).into_iter();
    let gone = gone.filter(|(.., change)| *change == TimedOut);
    assert_eq!(gone.count(), 10);
}

/// A name whose destructor calls another presence, which panics under a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Calls(u8);

impl Drop for Calls {
    fn drop(&mut self) {
        static OTHERS: LazyLock<Online> = LazyLock::new(Presence::new);
        let _ = OTHERS.count(&self.0);
    }
}

#[test]
fn names_are_dropped_under_no_lock() {
    let time = MockClock::new();
    let builder = Presence::<Calls, Calls>::builder().clock(time.clock());
    let online = builder.idle_after(SECOND).build().unwrap();
    let room = |number| Calls(number);
    for member in (0..200).map(Calls) {
        assert!(online.heartbeat(&room(1), &member));
        assert!(!online.active(&room(1), &member));
        assert!(online.leave(&room(1), &member));
    }
    assert!(online.heartbeat(&room(2), &Calls(1)));
    assert!(online.heartbeat(&room(2), &Calls(2)));
    assert!(online.leave(&room(2), &Calls(2)));
    for _ in 0..100 {
        time.advance(SECOND);
        assert_eq!(online.status(&room(2), &Calls(1)), Some(Status::Idle));
        assert!(!online.active(&room(2), &Calls(1)));
    }
    time.advance(HOUR);
    assert!(online.rooms().is_empty());
}

/// Looks who is there when it is woken, which panics under a lock.
struct Looks(Online, AtomicUsize);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let Self(online, seen) = &*self;
        seen.fetch_add(online.count(&1), SeqCst);
    }
}

#[test]
fn readers_are_woken_under_no_lock() {
    let (online, _time) = timed(|builder| builder);
    let mut events = online.events();
    let looks = Arc::new(Looks(online.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&looks));
    let mut context = Context::from_waker(&waker);
    assert!(events.poll_recv(&mut context).is_pending());
    assert!(online.heartbeat(&1, &7));
    assert_eq!(looks.1.load(SeqCst), 1);
}

thread_local!(static ELSEWHERE: RefCell<Option<Presence<u8, Twin>>> = const { RefCell::new(None) });

/// A member whose copy joins first, as another thread might between the two steps of a call.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Twin(u8);

impl Clone for Twin {
    fn clone(&self) -> Self {
        if let Some(online) = ELSEWHERE.take() {
            assert!(online.heartbeat(&1, self));
        }
        Self(self.0)
    }
}

#[test]
fn who_joins_twice_at_the_same_time_is_there_once() {
    let online = Presence::<u8, Twin>::new();
    let events = online.events();
    ELSEWHERE.set(Some(online.clone()));
    assert!(!online.heartbeat(&1, &Twin(7)), "the other was first");
    assert_eq!((online.count(&1), events.len()), (1, 1));
}

#[test]
fn subscriptions_end_with_the_last_handle() {
    let (online, _time) = timed(|builder| builder);
    let events = online.events();
    let other = online.clone();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            let mut changes = Vec::new();
            while let Ok(event) = events.recv() {
                changes.push(event.change);
            }
            changes
        });
        drop(online);
        other.heartbeat(&1, &1);
        drop(other);
        assert_eq!(waiting.join().unwrap(), [Joined]);
    });
    assert_eq!(events.recv(), Err(NoMessage::Closed));
}

#[test]
fn who_only_gives_heartbeats_is_idle_after_longer_than_the_timeout() {
    let (online, time) = timed(|builder| builder.idle_after(SECOND * 90));
    assert!(online.active(&1, &7));
    for _ in 0..4 {
        time.advance(SECOND * 20);
        assert!(!online.heartbeat(&1, &7));
        assert_eq!(online.status(&1, &7), Some(Status::Active));
    }
    time.advance(SECOND * 10);
    assert_eq!(online.status(&1, &7), Some(Status::Idle));
}

#[test]
fn what_is_told_is_counted_though_nobody_hears() {
    let (online, time) = timed(|builder| builder.idle_after(SECOND * 10));
    for room in 1..=3 {
        assert!(online.heartbeat(&room, &7) && !online.heartbeat(&room, &7));
    }
    assert!(online.leave(&3, &7) && !online.leave(&3, &7));
    time.advance(SECOND * 10);
    online.sweep();
    assert!(!online.active(&1, &7));
    let stats = online.stats();
    assert_eq!((stats.members, stats.joined, stats.left), (2, 3, 1));
    assert_eq!((stats.turned_idle, stats.turned_active), (2, 1));
    time.advance(SECOND * 20);
    online.sweep();
    let stats = online.stats();
    assert_eq!((stats.members, stats.timed_out), (1, 1));
    assert_eq!(stats.turned_idle, 3);
}

#[test]
fn a_closed_presence_goes_on_and_tells_nobody() {
    let (online, time) = timed(|builder| builder);
    let events = online.events();
    online.heartbeat(&1, &1);
    online.clone().close();
    online.heartbeat(&1, &2);
    assert_eq!(told(&events), [(1, 1, Joined)], "what it had");
    assert_eq!(events.try_recv(), Err(NoMessage::Closed));
    assert_eq!(online.events().try_recv(), Err(NoMessage::Closed));
    assert_eq!(online.count(&1), 2);
    online.close();
    time.advance(SECOND * 30);
    assert_eq!(online.count(&1), 0);
}

#[test]
fn calls_from_inside_are_refused() {
    let (online, _time) = timed(|builder| builder);
    let cache = Cache::new(1);
    cache.insert(1, 1);
    let events = online.events();
    assert!(panic_of(|| cache.update(&1, |_| online.heartbeat(&1, &1))).starts_with(INSIDE));
    assert!(panic_of(|| cache.update(&1, |_| online.close())).starts_with(INSIDE));
    assert_eq!(online.count(&1), 0);
    assert_eq!(events.try_recv(), Err(NoMessage::Empty), "it is not closed");
}

#[test]
fn transitions_of_each_member_alternate_among_threads() {
    let (online, time) = timed(|builder| builder.sweep_interval(SECOND));
    let options = SubscribeOptions::new().capacity(1 << 20);
    let events = online.events_with(options).unwrap();
    thread::scope(|threads| {
        for seed in 0..4u8 {
            let (online, time) = (&online, &time);
            threads.spawn(move || {
                for step in 0..2_000u32 {
                    let member = (step as u8).wrapping_mul(7).wrapping_add(seed) % 3;
                    match step % 5 {
                        0 => _ = online.leave(&(seed % 2), &member),
                        1 if seed == 0 => time.advance(SECOND * 11),
                        _ => _ = online.heartbeat(&(seed % 2), &member),
                    }
                }
            });
        }
    });
    time.advance(HOUR);
    let mut there = HashMap::new();
    for (room, member, change) in told(&events) {
        let before = there
            .insert((room, member), change == Joined)
            .unwrap_or(false);
        assert_ne!(before, change == Joined, "{change:?} of {member} in {room}");
    }
    assert!(there.values().all(|is_there| !is_there));
    assert_eq!(events.lost(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Heartbeat(u8, u8),
    Active(u8, u8),
    Leave(u8, u8),
    Look(u8, u8),
    Advance(u64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let at = (0..2u8, 0..3u8);
    prop_oneof![
        6 => at.clone().prop_map(|(room, member)| Op::Heartbeat(room, member)),
        3 => at.clone().prop_map(|(room, member)| Op::Active(room, member)),
        2 => at.clone().prop_map(|(room, member)| Op::Leave(room, member)),
        3 => at.prop_map(|(room, member)| Op::Look(room, member)),
        6 => (1..25u64).prop_map(Op::Advance),
        1 => Just(Op::Sweep),
    ]
}

/// When a member was last heard of, when it last acted, and whether it is idle. In seconds.
#[derive(Clone, Copy)]
struct Member {
    heard: u64,
    acted: u64,
    is_idle: bool,
}

/// The sequential model, which looks at every member for every second.
#[derive(Default)]
struct Model {
    members: BTreeMap<(u8, u8), Member>,
    told: Vec<Told>,
}

impl Model {
    fn pass(&mut self, now: u64, idle_after: u64) {
        let mut gone = Vec::new();
        for (at, member) in &mut self.members {
            if now >= member.heard + 30 {
                gone.push(*at);
                self.told.push((at.0, at.1, TimedOut));
            } else if !member.is_idle && now >= member.acted + idle_after {
                member.is_idle = true;
                self.told.push((at.0, at.1, Idle));
            }
        }
        self.members.retain(|at, _| !gone.contains(at));
    }

    fn sign(&mut self, at: (u8, u8), now: u64, acts: bool) -> bool {
        let Some(member) = self.members.get_mut(&at) else {
            let (heard, acted, is_idle) = (now, now, false);
            self.members.insert(
                at,
                Member {
                    heard,
                    acted,
                    is_idle,
                },
            );
            self.told.push((at.0, at.1, Joined));
            return true;
        };
        member.heard = now;
        if acts {
            member.acted = now;
            if std::mem::take(&mut member.is_idle) {
                self.told.push((at.0, at.1, Active));
            }
        }
        false
    }
}

/// The story of each member: the rooms of a lock are told of before those of another.
fn by_member(told: &[Told]) -> BTreeMap<(u8, u8), Vec<Change>> {
    let mut stories = BTreeMap::<_, Vec<_>>::new();
    for (room, member, change) in told {
        stories.entry((*room, *member)).or_default().push(*change);
    }
    stories
}

#[test]
fn a_sweep_says_how_many_have_gone() {
    let (online, time) = timed(|builder| builder.idle_after(SECOND * 10).sweep_interval(HOUR));
    (0..1_000u16).for_each(|at| _ = online.heartbeat(&((at / 100) as u8), &((at % 100) as u8)));
    time.advance(SECOND * 10);
    assert_eq!(online.sweep(), 0, "they are idle");
    assert!(online.leave(&0, &0) && !online.active(&0, &1));
    time.advance(SECOND * 20);
    assert_eq!(online.sweep(), 998);
    assert_eq!((online.sweep(), online.stats().timed_out), (0, 998));
    time.advance(SECOND * 10);
    assert_eq!(online.count(&0), 0, "announced by a call");
    assert_eq!((online.sweep(), online.stats().timed_out), (0, 999));
}

#[test]
fn members_and_rooms_with_one_hash_are_told_apart() {
    let (_, time) = timed(|builder| builder);
    let builder = Presence::<u8, u8>::builder().hasher(OneHash);
    let online = builder.clock(time.clock()).build().unwrap();
    let events = online.events();
    for (room, member) in [(1, 1), (1, 2), (2, 1)] {
        assert!(online.heartbeat(&room, &member));
    }
    for (room, other) in [(1, 2), (2, 1)] {
        assert!(online.leave(&room, &1) && !online.is_online(&room, &1));
        assert!(online.is_online(&other, &1) && online.is_online(&1, &2));
        assert!(online.heartbeat(&room, &1));
    }
    assert!(online.leave(&1, &1));
    assert_eq!((online.members(&1), online.members(&2)), (vec![2], vec![1]));
    let same = online.downgrade().upgrade().unwrap();
    time.advance(HOUR);
    assert_eq!((same.count(&1), same.count(&2)), (0, 0));
    assert_eq!(told(&events).len(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200, 10_000)))]

    #[test]
    fn any_calls_do_what_the_model_does(
        ops in prop::collection::vec(op(), 1..60),
        idle_after in prop_oneof![Just(10u64), Just(30), Just(45)],
        sweep in prop_oneof![Just(SECOND), Just(HOUR)],
    ) {
        let (online, time) = timed(|builder| {
            builder.idle_after(SECOND * idle_after as u32).sweep_interval(sweep)
        });
        let options = SubscribeOptions::new().capacity(10_000);
        let events = online.events_with(options).unwrap();
        let (mut model, mut now) = (Model::default(), 0);
        for op in ops {
            match op {
                Op::Heartbeat(room, member) => {
                    let joined = online.heartbeat(&room, &member);
                    assert_eq!(joined, model.sign((room, member), now, false));
                }
                Op::Active(room, member) => {
                    let joined = online.active(&room, &member);
                    assert_eq!(joined, model.sign((room, member), now, true));
                }
                Op::Leave(room, member) => {
                    let left = model.members.remove(&(room, member)).is_some();
                    if left {
                        model.told.push((room, member, Left));
                    }
                    assert_eq!(online.leave(&room, &member), left);
                }
                Op::Look(room, member) => {
                    let expected = model.members.get(&(room, member));
                    let status = expected.map(|member| match member.is_idle {
                        true => Status::Idle,
                        false => Status::Active,
                    });
                    assert_eq!(online.status(&room, &member), status);
                    let mut members = online.members(&room);
                    members.sort();
                    let expected = model.members.keys().filter(|at| at.0 == room);
                    assert!(members.iter().eq(expected.map(|at| &at.1)));
                    assert_eq!(online.count(&room), members.len());
                }
                Op::Advance(seconds) => {
                    for _ in 0..seconds {
                        now += 1;
                        model.pass(now, idle_after);
                    }
                    time.advance(SECOND * seconds as u32);
                }
                Op::Sweep => drop(online.sweep()),
            }
            online.validate();
        }
        online.sweep();
        assert_eq!(by_member(&told(&events)), by_member(&model.told));
    }
}

thread_local!(static FAILS: Cell<bool> = const { Cell::new(false) });

/// A name whose `Hash` and `Eq` may panic.
#[derive(Clone, Debug)]
struct Moody(u8);

impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!FAILS.get(), "not now");
        self.0.hash(state);
    }
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        assert!(!FAILS.get(), "not now");
        self.0 == other.0
    }
}

impl Eq for Moody {}

/// Both names of everybody are known by then.
#[test]
fn who_falls_idle_or_is_gone_is_found_without_hash_and_eq() {
    let time = MockClock::new();
    let builder = Presence::<Moody, Moody>::builder().clock(time.clock());
    let builder = builder.timeout(SECOND * 30).idle_after(SECOND * 10);
    let online = builder.build().unwrap();
    let events = online.events();
    for number in 0..100 {
        assert!(online.heartbeat(&Moody(number % 3), &Moody(number)));
    }
    let told = |change| {
        let told = events.try_iter().map(|event| event.change);
        assert_eq!(told.collect::<Vec<_>>(), [change; 100]);
    };
    told(Joined);
    FAILS.set(true);
    time.advance(SECOND * 10);
    told(Idle);
    time.advance(SECOND * 20);
    told(TimedOut);
    FAILS.set(false);
    assert!(online.rooms().is_empty());
}

thread_local!(static HASHES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) });

/// A room that can be hashed only so often.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare(u8);

impl Hash for Rare {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let left = HASHES_LEFT.get().checked_sub(1).expect("no more hashes");
        HASHES_LEFT.set(left);
        self.0.hash(state);
    }
}

#[test]
fn whoever_is_gone_is_told_of_however_often_a_room_can_be_hashed() {
    for hashes in 0..6 {
        let online = Presence::<Rare, u8>::new();
        let events = online.events();
        assert!(online.heartbeat(&Rare(1), &7));
        HASHES_LEFT.set(hashes);
        let left = catch_unwind(AssertUnwindSafe(|| online.leave(&Rare(1), &7)));
        HASHES_LEFT.set(u32::MAX);
        let is_there = online.is_online(&Rare(1), &7);
        assert!(left.is_err() || !is_there);
        let told: Vec<Change> = events.try_iter().map(|event| event.change).collect();
        let all = if is_there {
            &[Joined][..]
        } else {
            &[Joined, Left]
        };
        assert_eq!(told, all, "with {hashes} hashes");
        assert_eq!(online.rooms().len(), usize::from(is_there));
        assert!(is_there || online.heartbeat(&Rare(1), &7));
    }
}

#[test]
fn one_sweep_announces_all_who_are_due_however_many() {
    let time = MockClock::new();
    let builder = Presence::<u8, u32>::builder().clock(time.clock());
    let online = builder.timeout(SECOND * 30).build().unwrap();
    let options = SubscribeOptions::new().capacity(10_000);
    let events = online.events_with(options).unwrap();
    // More than the background does under one lock.
    (0..2_000).for_each(|member| assert!(online.heartbeat(&1, &member)));
    time.advance(SECOND * 30);
    let gone: Vec<u32> = events
        .try_iter()
        .filter(|event| event.change == TimedOut)
        .map(|event| *event.member)
        .collect();
    assert_eq!(gone.len(), 2_000);
}

thread_local!(static THIRD_FAILS: Cell<bool> = const { Cell::new(false) });

/// A member whose `Hash` may panic for the third one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Third(u32);

impl Hash for Third {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.0 != 3 || !THIRD_FAILS.get(), "not now");
        self.0.hash(state);
    }
}

#[test]
fn a_member_that_cannot_be_hashed_stays_and_harms_no_other_while_tables_change() {
    let time = MockClock::new();
    let members = Presence::<u8, Third>::builder().clock(time.clock());
    let rooms = Presence::<Third, u8>::builder().clock(time.clock());
    let (members, rooms) = (members.build().unwrap(), rooms.build().unwrap());
    let join = |number| members.heartbeat(&1, &Third(number)) & rooms.heartbeat(&Third(number), &1);
    let leave = |number| members.leave(&1, &Third(number)) & rooms.leave(&Third(number), &1);
    (0..100).for_each(|number| assert!(join(number)));
    THIRD_FAILS.set(true);
    // Few come and go, and then many, so that the tables are tidied up, grow and shrink.
    for number in 100..2_000 {
        assert!(leave(number - 96) && join(number));
    }
    (2_000..5_000).for_each(|number| assert!(join(number)));
    (2_000..5_000).for_each(|number| assert!(leave(number)));
    THIRD_FAILS.set(false);
    assert_eq!((members.count(&1), rooms.rooms().len()), (100, 100));
    assert!(members.leave(&1, &Third(3)) && rooms.leave(&Third(3), &1));
    assert_eq!((members.stats().members, rooms.stats().members), (99, 99));
}

/// Notes how many had gone when it was woken first.
struct Gone(Presence<u8, u32>, AtomicUsize);

impl Wake for Gone {
    fn wake(self: Arc<Self>) {
        self.1.store(self.0.stats().timed_out as usize, SeqCst);
    }
}

#[test]
fn a_call_that_finds_many_gone_lets_others_in_between() {
    let time = MockClock::new();
    let builder = Presence::<u8, u32>::builder().clock(time.clock());
    let builder = builder.timeout(SECOND * 30).sweep_interval(1_000 * HOUR);
    let online = builder.build().unwrap();
    (0..2_000).for_each(|member| assert!(online.heartbeat(&1, &member)));
    let events = online.events();
    let gone = Arc::new(Gone(online.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&gone));
    let mut next = std::pin::pin!(events.recv_async());
    assert!(
        next.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    time.advance(SECOND * 30);
    assert_eq!(online.count(&1), 0);
    let first = gone.1.load(SeqCst);
    assert!((1..1_000).contains(&first), "{first} at once");
    assert_eq!(online.stats().timed_out, 2_000);
}
