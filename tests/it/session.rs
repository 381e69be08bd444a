//! Web sessions, by their own face and by those of frameworks.

#[cfg(feature = "actix-session")]
mod actix;
#[cfg(feature = "persist")]
mod persist;
mod security;
#[cfg(feature = "tower-sessions-0-15")]
mod tower;

use crate::common::{HOUR, SECOND, cases};
use haybox::session::{
    Content, Replaced, Session, SessionError, SessionId, Sessions, SessionsBuilder,
};
use haybox::{BuildError, MockClock, OnFull};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn store(set: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> (Sessions, MockClock) {
    let time = MockClock::new();
    let builder = Sessions::builder().clock(time.clock());
    (set(builder).build().unwrap(), time)
}

fn start(sessions: &Sessions, owner: &str) -> SessionId {
    sessions.start(Content::new("{}").owner(owner)).unwrap()
}

#[test]
fn impossible_settings_are_refused() {
    let zero = Duration::ZERO;
    let builder = Sessions::builder;
    for (wrong, setting) in [
        (builder().max_sessions(0), "max_sessions"),
        (builder().max_per_owner(0), "max_per_owner"),
        (builder().idle_timeout(zero), "idle_timeout"),
        (builder().absolute_timeout(zero), "absolute_timeout"),
        (builder().request_timeout(zero), "request_timeout"),
        (builder().sweep_interval(zero), "sweep_interval"),
        (
            builder().idle_timeout(MINUTE).touch_every(MINUTE),
            "touch_every",
        ),
    ] {
        assert_eq!(wrong.build().unwrap_err().setting(), setting);
    }
}

#[test]
fn a_session_holds_what_was_put_into_it() {
    let (sessions, time) = store(|builder| builder);
    let id = start(&sessions, "ada");
    time.advance(HOUR);
    let changed = sessions.replace(&id, Content::new("[1]").owner("bob"));
    assert_eq!(changed, Ok(Replaced::Stored));
    let session = sessions.get(&id).unwrap();
    assert_eq!((session.text(), session.owner()), ("[1]", Some("bob")));
    assert_eq!(session.seen(), session.created() + HOUR);
    assert!(sessions.of_owner("ada").is_empty());
    assert_eq!(sessions.of_owner("bob").len(), 1);
    assert!(!sessions.is_empty());
    assert!(sessions.end(&id) && !sessions.end(&id));
    assert!(sessions.get(&id).is_none());
    assert_eq!((sessions.stats().started, sessions.stats().ended), (1, 1));
}

#[test]
fn a_session_is_given_a_new_id_and_keeps_the_rest() {
    let (sessions, time) = store(|builder| builder.absolute_timeout(HOUR * 2).max_per_owner(2));
    let until = time.clock().system_time() + HOUR;
    let content = Content::new("[1]").owner("ada").until(until);
    let (old, other) = (sessions.start(content).unwrap(), start(&sessions, "ada"));
    let before = sessions.get(&old).unwrap();
    time.advance(MINUTE * 30);
    let new = sessions.cycle_id(&old).unwrap().unwrap();
    assert!(sessions.get(&old).is_none() && sessions.cycle_id(&old) == Ok(None));
    let late = sessions.replace(&old, Content::new("[2]").owner("ada"));
    assert_eq!(late, Ok(Replaced::Ended));
    assert!(!sessions.end(&old));
    let after = sessions.get(&new).unwrap();
    let what = |session: &Session| {
        let owner = session.owner().map(str::to_owned);
        let times = (session.created(), session.until());
        (session.text().to_owned(), owner, session.public_id(), times)
    };
    assert_eq!(what(&after), what(&before));
    assert_eq!(
        after.seen(),
        before.seen() + MINUTE * 30,
        "that is activity"
    );
    assert_eq!(sessions.of_owner("ada").len(), 2, "as many as before");
    assert_eq!((sessions.stats().started, sessions.stats().ended), (3, 1));
    time.advance(MINUTE * 30);
    assert!(
        sessions.get(&new).is_none(),
        "at the time that it was given"
    );
    assert!(sessions.end_one("ada", sessions.get(&other).unwrap().public_id()));
    assert!(sessions.is_empty());
}

/// It would be logged in for ever otherwise.
#[test]
fn a_new_id_does_not_prolong_a_session_beyond_its_absolute_time_out() {
    let (sessions, time) = store(|builder| builder.absolute_timeout(HOUR));
    let mut id = start(&sessions, "ada");
    for _ in 0..3 {
        time.advance(MINUTE * 19);
        id = sessions.cycle_id(&id).unwrap().unwrap();
    }
    time.advance(MINUTE * 3);
    assert!(sessions.get(&id).is_none());
    assert_eq!(sessions.cycle_id(&id), Ok(None));
}

#[test]
fn a_full_store_that_rejects_gives_new_ids() {
    let (sessions, _) = store(|builder| builder.max_sessions(1).on_full(OnFull::Reject));
    let old = start(&sessions, "ada");
    let new = sessions.cycle_id(&old).unwrap().unwrap();
    assert!(sessions.get(&new).is_some() && sessions.len() == 1);
}

#[test]
fn a_log_out_everywhere_beside_new_ids_leaves_no_session_open() {
    let sessions = Sessions::default();
    for round in 0..2_000 {
        let id = start(&sessions, "ada");
        let both = Barrier::new(3);
        let cycle = || {
            both.wait();
            let new = sessions.cycle_id(&id).unwrap()?;
            sessions.cycle_id(&new).unwrap()
        };
        let (ended, ids) = thread::scope(|threads| {
            let cycling = [threads.spawn(cycle), threads.spawn(cycle)];
            both.wait();
            let ended = sessions.end_all("ada");
            (ended, cycling.map(|cycling| cycling.join().unwrap()))
        });
        assert_eq!(ended, 1, "in round {round}");
        assert!(ids[0].is_none() || ids[1].is_none());
        assert!(sessions.is_empty() && sessions.of_owner("ada").is_empty());
    }
}

#[test]
fn a_log_out_everywhere_ends_no_session_that_has_changed_hands() {
    let sessions = Sessions::default();
    for _ in 0..2_000 {
        let id = start(&sessions, "ada");
        let both = Barrier::new(2);
        let changed = thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                sessions.end_all("ada");
            });
            both.wait();
            sessions.replace(&id, Content::new("").owner("bob"))
        });
        let is_there = sessions.get(&id).is_some();
        assert_eq!(is_there, changed == Ok(Replaced::Stored));
    }
}

#[test]
fn a_change_during_a_log_out_brings_nothing_back() {
    let (sessions, time) = store(|builder| builder.request_timeout(MINUTE));
    let id = start(&sessions, "ada");
    sessions.end_all("ada");
    let late = || {
        sessions
            .replace(&id, Content::new("").owner("ada"))
            .unwrap()
    };
    assert_eq!(late(), Replaced::Ended);
    time.advance(MINUTE);
    assert_eq!(
        late(),
        Replaced::Unknown,
        "and nothing is remembered for ever"
    );
    assert!(sessions.get(&id).is_none() && sessions.of_owner("ada").is_empty());
    assert_eq!(sessions.stats().too_late, 2);
}

#[test]
fn nobody_chooses_the_id_of_a_session() {
    let (sessions, _) = store(|builder| builder);
    let brought = SessionId::from(42);
    let changed = sessions.replace(&brought, Content::new("{}"));
    assert_eq!(changed, Ok(Replaced::Unknown));
    assert!(!sessions.set_until(&brought, std::time::SystemTime::now()));
    assert!(sessions.get(&brought).is_none() && sessions.is_empty());
    assert!(!sessions.end(&brought));
    let changed = sessions.replace(&brought, Content::new("{}"));
    assert_eq!(changed, Ok(Replaced::Unknown), "it has never begun");
}

#[test]
fn a_session_ends_when_it_is_idle_or_old() {
    let idle = MINUTE * 30;
    let (sessions, time) = store(|builder| builder.idle_timeout(idle).absolute_timeout(HOUR * 2));
    let (used, unused) = (start(&sessions, "ada"), start(&sessions, "ada"));
    time.advance(MINUTE * 29);
    assert!(sessions.get(&used).is_some());
    time.advance(MINUTE);
    assert!(sessions.get(&unused).is_none(), "on the tick");
    for minutes in [28, 29, 29] {
        time.advance(MINUTE * minutes);
        assert!(sessions.get(&used).is_some());
    }
    time.advance(MINUTE * 4);
    assert!(
        sessions.get(&used).is_none(),
        "two hours, though it was in use"
    );
    time.advance(SECOND);
    assert!(sessions.is_empty(), "released though nobody asked");
    assert_eq!(sessions.stats().expired, 2);
}

#[test]
fn a_content_may_end_its_session_earlier_and_not_later() {
    let (sessions, time) = store(|builder| builder.absolute_timeout(HOUR));
    let now = time.clock().system_time();
    let early = sessions
        .start(Content::new("").until(now + MINUTE))
        .unwrap();
    let late = sessions
        .start(Content::new("").until(now + HOUR * 9))
        .unwrap();
    let until = |id| sessions.get(id).unwrap().until();
    assert_eq!(until(&early), Some(now + MINUTE));
    time.advance(MINUTE);
    assert!(sessions.get(&early).is_none() && sessions.get(&late).is_some());
    assert!(sessions.set_until(&late, now + MINUTE * 2));
    time.advance(MINUTE);
    assert!(sessions.get(&late).is_none());
    let past = sessions.start(Content::new("").until(now)).unwrap();
    assert!(sessions.get(&past).is_none());
}

#[test]
fn reading_counts_as_activity_once_in_a_while() {
    let (sessions, time) = store(|builder| builder.idle_timeout(HOUR).touch_every(MINUTE));
    let id = start(&sessions, "ada");
    let writes = || sessions.cache().stats().updates;
    for _ in 0..10 {
        time.advance(SECOND * 6);
        (0..100).for_each(|_| assert!(sessions.get(&id).is_some()));
    }
    assert_eq!(writes(), 1, "a thousand reads, one write");
    // A wall clock that is set back by years must not end who is active.
    let back = time.clock().system_time() - HOUR * 20_000;
    time.set_system_time(back);
    for _ in 0..4 {
        time.advance(MINUTE * 30);
        assert!(sessions.get(&id).is_some());
    }
}

#[test]
fn how_often_activity_is_written_follows_the_idle_timeout_where_nobody_says() {
    for (idle, every) in [
        (SECOND, SECOND / 10),
        (MINUTE, SECOND * 6),
        (HOUR, MINUTE),
        (Duration::MAX, MINUTE),
    ] {
        let (sessions, time) = store(|builder| builder.idle_timeout(idle));
        let id = start(&sessions, "ada");
        let writes = || sessions.cache().stats().updates;
        time.advance(every - Duration::from_millis(1));
        assert!(sessions.get(&id).is_some());
        assert_eq!(writes(), 0, "{idle:?}");
        time.advance(Duration::from_millis(1));
        assert!(sessions.get(&id).is_some());
        assert_eq!(writes(), 1, "{idle:?}");
    }
}

#[test]
fn a_session_whose_time_is_up_by_the_wall_clock_opens_nothing_though_that_was_set_forward() {
    let (sessions, time) = store(|builder| builder.absolute_timeout(HOUR));
    let ahead = |by: Duration| time.clock().system_time() + by;
    let [long, short] = [HOUR * 9, MINUTE * 30].map(|until| {
        let content = Content::new("").until(ahead(until)).owner("ada");
        sessions.start(content).unwrap()
    });
    let public_id = sessions.get(&long).unwrap().public_id();
    let listed = || -> Vec<u64> {
        let owned = sessions.of_owner("ada").into_iter();
        owned.map(|session| session.public_id()).collect()
    };
    assert_eq!(listed().len(), 2);
    time.set_system_time(ahead(MINUTE * 30));
    // Before anybody asks for one of them, which has the cache know.
    assert_eq!(listed(), [public_id]);
    assert_eq!(sessions.cycle_id(&short).unwrap(), None);
    assert!(sessions.get(&short).is_none() && sessions.get(&long).is_some());
    time.set_system_time(ahead(MINUTE * 30));
    assert!(listed().is_empty());
    assert!(sessions.get(&long).is_none());
    assert!(sessions.is_empty() || sessions.sweep() == sessions.len());
}

#[test]
fn a_full_store_takes_every_new_session_and_lets_the_idlest_go() {
    let (sessions, time) = store(|builder| builder.max_sessions(32));
    let ids: Vec<_> = (0..32)
        .map(|_| {
            time.advance(SECOND);
            start(&sessions, "ada")
        })
        .collect();
    assert!(ids.iter().all(|id| sessions.get(id).is_some()));
    let first = ids[0];
    for _ in 0..1_000 {
        assert!(sessions.get(&first).is_some(), "who is active stays");
        let new = start(&sessions, "bob");
        assert!(sessions.get(&new).is_some());
    }
    assert_eq!((sessions.len(), sessions.stats().evicted), (32, 1_000));
    assert_eq!(sessions.of_owner("ada").len(), 1);
}

#[test]
fn a_large_full_store_takes_every_new_session() {
    let (sessions, _) = store(|builder| builder.max_sessions(1_000));
    for _ in 0..5_000 {
        let new = start(&sessions, "ada");
        assert!(sessions.get(&new).is_some());
    }
    assert_eq!((sessions.len(), sessions.stats().evicted), (1_000, 4_000));
    assert_eq!(sessions.of_owner("ada").len(), 1_000);
}

#[test]
fn a_store_that_rejects_says_so_and_logs_nobody_out() {
    let (sessions, _) = store(|builder| builder.max_sessions(2).on_full(OnFull::Reject));
    let ids = [start(&sessions, "ada"), start(&sessions, "bob")];
    let third = sessions.start(Content::new("").owner("cyd"));
    assert_eq!(third, Err(SessionError::Full));
    assert!(ids.iter().all(|id| sessions.get(id).is_some()));
    assert!(sessions.of_owner("cyd").is_empty());
    assert_eq!(sessions.stats().rejected, 1);
    sessions.end(&ids[0]);
    start(&sessions, "cyd");
}

#[test]
fn memory_is_bounded_too() {
    let (sessions, _) = store(|builder| builder.max_memory(1 << 20));
    for _ in 0..1_000 {
        let text = "x".repeat(10_000);
        let id = sessions.start(Content::new(text)).unwrap();
        assert!(sessions.get(&id).is_some());
        assert!(sessions.cache().memory() <= 1 << 20);
    }
    assert!((80..105).contains(&sessions.len()), "{}", sessions.len());
}

#[test]
fn a_session_that_grows_where_there_is_no_room_stays_as_it_was() {
    for on_full in [OnFull::Reject, OnFull::Evict] {
        let (sessions, _) = store(|builder| {
            let builder = builder.max_memory(40_000).max_size(1_000_000);
            builder.on_full(on_full)
        });
        let content = |size: usize| Content::new("x".repeat(size)).owner("ada");
        let ada = sessions.start(content(5_000)).unwrap();
        while on_full == OnFull::Reject && sessions.start(content(5_000)).is_ok() {}
        let more_than_there_is = match on_full {
            OnFull::Reject => 9_000,
            _ => 90_000,
        };
        let others = sessions.len();
        let refused = sessions.replace(&ada, content(more_than_there_is));
        assert_eq!(
            refused == Err(SessionError::Full),
            on_full == OnFull::Reject,
            "{refused:?}"
        );
        assert_eq!(
            sessions.get(&ada).map(|found| found.text().len()),
            Some(5_000)
        );
        assert_eq!(
            (sessions.len(), sessions.of_owner("ada").len()),
            (others, others)
        );
        assert_eq!(sessions.replace(&ada, content(4_000)), Ok(Replaced::Stored));
        assert_eq!(
            sessions.stats().rejected,
            if on_full == OnFull::Reject { 2 } else { 1 }
        );
    }
}

#[test]
fn a_session_that_is_larger_than_all_may_be_together_is_too_large_and_the_store_not_full() {
    for on_full in [OnFull::Reject, OnFull::Evict] {
        let (sessions, _) = store(|builder| builder.max_memory(4_000).on_full(on_full));
        let content = |size: usize| Content::new("x".repeat(size - 3)).owner("ada");
        let refused = sessions.start(content(10_000));
        let Err(SessionError::TooLarge { size, max_size }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(size, 10_000);
        assert!((3_700..4_000).contains(&max_size), "{max_size}");
        let too_large = Err(SessionError::TooLarge {
            size: max_size + 1,
            max_size,
        });
        assert_eq!(sessions.start(content(max_size + 1)), too_large);
        let id = sessions.start(content(max_size)).unwrap();
        assert_eq!(
            sessions.replace(&id, content(max_size + 1)),
            too_large.map(|_| Replaced::Stored)
        );
        assert_eq!(sessions.get(&id).unwrap().text().len(), max_size - 3);
        assert_eq!((sessions.len(), sessions.stats().rejected), (1, 3));
    }
}

#[test]
fn an_owner_lists_and_ends_sessions_and_only_the_own_ones() {
    let (sessions, time) = store(|builder| builder);
    let phone = start(&sessions, "ada");
    time.advance(SECOND);
    let laptop = start(&sessions, "ada");
    let bob = start(&sessions, "bob");
    let public = |id| sessions.get(id).unwrap().public_id();
    let listed = sessions.of_owner("ada");
    let listed: Vec<_> = listed.iter().map(|session| session.public_id()).collect();
    assert_eq!(
        listed,
        [public(&laptop), public(&phone)],
        "the last at the head"
    );

    assert!(!sessions.end_one("ada", public(&bob)));
    assert!(sessions.end_one("ada", public(&phone)));
    assert!(sessions.get(&phone).is_none() && sessions.get(&laptop).is_some());

    start(&sessions, "ada");
    assert_eq!(sessions.end_others("ada", &laptop), 1);
    assert_eq!(sessions.of_owner("ada").len(), 1);
    assert_eq!((sessions.end_all("ada"), sessions.end_all("ada")), (1, 0));
    assert!(sessions.get(&bob).is_some());
}

#[test]
fn sessions_that_a_cache_brings_along_have_their_owners() {
    let old = Sessions::builder().build().unwrap();
    let id = start(&old, "ada");
    let record = old.cache().get(&id).unwrap();
    let sessions = Sessions::builder()
        .build_with(|builder| {
            let cache = builder.build()?;
            cache.insert(id, record);
            Ok::<_, BuildError>(cache)
        })
        .unwrap();
    assert_eq!(sessions.of_owner("ada").len(), 1);
    assert_eq!(sessions.end_all("ada"), 1);
}

#[test]
fn logging_out_everywhere_beside_log_ins_and_changes_leaves_no_session_unlisted() {
    let sessions = Sessions::builder().build().unwrap();
    let owners = ["ada", "bob"];
    for _ in 0..200 {
        let ids: Vec<_> = (0..4).map(|at| start(&sessions, owners[at % 2])).collect();
        let gate = Barrier::new(6);
        thread::scope(|scope| {
            for (at, id) in ids.iter().enumerate() {
                let (sessions, gate) = (&sessions, &gate);
                scope.spawn(move || {
                    gate.wait();
                    for turn in 0..4 {
                        let owner = owners[(at + turn) % 2];
                        let _ = sessions.replace(id, Content::new("late").owner(owner));
                    }
                });
            }
            let end = |owner| {
                gate.wait();
                sessions.end_all(owner);
            };
            scope.spawn(move || end("ada"));
            scope.spawn(move || end("bob"));
        });
        let listed = || owners.iter().map(|owner| sessions.of_owner(owner).len());
        let there = ids.iter().filter(|id| sessions.get(id).is_some()).count();
        assert_eq!(listed().sum::<usize>(), there);
        owners.iter().for_each(|owner| {
            sessions.end_all(owner);
        });
        assert!(sessions.is_empty() && listed().all(|listed| listed == 0));
        for id in &ids {
            assert_eq!(sessions.replace(id, Content::new("")), Ok(Replaced::Ended));
        }
    }
}

/// What may be done to a store of two owners.
#[derive(Clone, Debug)]
enum Step {
    Start(u8),
    Cycle(usize),
    Get(usize),
    Replace(usize, u8),
    End(usize),
    EndAll(u8),
    EndOthers(u8, usize),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (owner, which) = (0..3u8, 0..20usize);
    prop_oneof![
        3 => owner.clone().prop_map(Step::Start),
        2 => which.clone().prop_map(Step::Cycle),
        3 => which.clone().prop_map(Step::Get),
        3 => (which.clone(), owner.clone()).prop_map(|(which, owner)| Step::Replace(which, owner)),
        1 => which.clone().prop_map(Step::End),
        1 => owner.clone().prop_map(Step::EndAll),
        1 => (owner, which).prop_map(|(owner, which)| Step::EndOthers(owner, which)),
        2 => (1..40u64).prop_map(Step::Advance),
    ]
}

/// The same in the plainest way: for each id its owner, and when it was started and last active.
#[derive(Default)]
struct Model {
    now: u64,
    sessions: HashMap<SessionId, (u8, u64, u64)>,
    /// Under which ids sessions are that had others before.
    moved: HashMap<SessionId, SessionId>,
}

/// How many random cases are to be run in full.
const ASKED: u32 = 10_000;
const IDLE: u64 = 30;
const OLD: u64 = 100;

impl Model {
    fn expire(&mut self) {
        let now = self.now;
        (self.sessions).retain(|_, (_, started, seen)| *seen + IDLE > now && *started + OLD > now);
    }

    fn end(&mut self, which: impl Fn(&SessionId, u8) -> bool) -> usize {
        let before = self.sessions.len();
        self.sessions.retain(|id, (owner, ..)| !which(id, *owner));
        before - self.sessions.len()
    }
}

#[test]
fn a_store_does_what_a_map_would() {
    let cases = cases(200, ASKED);
    println!("sessions: {cases} random cases (asked for: {ASKED})");
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let steps = proptest::collection::vec(step(), 1..80);
    runner
        .run(&steps, |steps| {
            run(&steps);
            Ok(())
        })
        .unwrap();
}

fn run(steps: &[Step]) {
    let (sessions, time) = store(|builder| {
        let builder = builder.idle_timeout(SECOND * IDLE as u32);
        builder
            .absolute_timeout(SECOND * OLD as u32)
            .touch_every(Duration::ZERO)
            .request_timeout(SECOND * OLD as u32)
    });
    let mut model = Model::default();
    let mut ids = vec![SessionId::from(1)];
    let name = |owner: u8| format!("owner {owner}");
    for step in steps {
        match *step {
            Step::Start(owner) => {
                let id = start(&sessions, &name(owner));
                model.sessions.insert(id, (owner, model.now, model.now));
                ids.push(id);
            }
            Step::Cycle(which) => {
                let id = ids[which % ids.len()];
                let cycled = sessions.cycle_id(&id).unwrap();
                let own = model.sessions.remove(&id);
                assert_eq!(cycled.is_some(), own.is_some());
                if let (Some(new), Some((owner, started, _))) = (cycled, own) {
                    assert!(!ids.contains(&new));
                    model.sessions.insert(new, (owner, started, model.now));
                    model.moved.insert(id, new);
                    ids.push(new);
                }
            }
            Step::Get(which) => {
                let id = ids[which % ids.len()];
                let found = sessions.get(&id);
                let now = model.now;
                let own = model.sessions.get_mut(&id);
                let expected = own.map(|(owner, _, seen)| {
                    *seen = now;
                    name(*owner)
                });
                assert_eq!(
                    found.map(|found| found.owner().unwrap().to_owned()),
                    expected
                );
            }
            Step::Replace(which, owner) => {
                let id = ids[which % ids.len()];
                let replaced = sessions.replace(&id, Content::new("").owner(name(owner)));
                let now = model.now;
                let own = model.sessions.get_mut(&id);
                assert_eq!(replaced.unwrap() == Replaced::Stored, own.is_some());
                if let Some(own) = own {
                    *own = (owner, own.1, now);
                }
            }
            Step::End(which) => {
                let id = ids[which % ids.len()];
                let ended = model.end(|own, _| *own == id) > 0;
                assert_eq!(sessions.end(&id), ended);
            }
            Step::EndAll(owner) => {
                let ended = model.end(|_, own| own == owner);
                assert_eq!(sessions.end_all(&name(owner)), ended);
            }
            Step::EndOthers(owner, which) => {
                let but = ids[which % ids.len()];
                let mut spared = but;
                while let Some(new) = model.moved.get(&spared) {
                    spared = *new;
                }
                let ended = model.end(|id, own| own == owner && *id != spared);
                assert_eq!(sessions.end_others(&name(owner), &but), ended);
            }
            Step::Advance(seconds) => {
                time.advance(SECOND * seconds as u32);
                model.now += seconds;
                model.expire();
            }
        }
        for owner in 0..3 {
            let own = model.sessions.values().filter(|own| own.0 == owner).count();
            assert_eq!(sessions.of_owner(&name(owner)).len(), own);
        }
    }
}
