//! The list of what a store of sessions must not do wrong, a test for each line. That an id has
//! 128 bits of the system's generator, and that tokens are compared in constant time, is tested
//! beside them, in `src/session`; cookies are in `tests/frameworks` and the example's.

use super::*;
use haybox::session::Token;

const SECRET: &str = "the-secret-of-ada";

#[test]
fn no_debug_shows_what_is_in_a_session_or_opens_one() {
    let (sessions, _) = store(|builder| builder.max_size(100));
    let content = Content::new(SECRET).owner(SECRET);
    let id = sessions.start(content.clone()).unwrap();
    let session = sessions.get(&id).unwrap();
    let record = sessions.cache().get(&id).unwrap();
    let token = Token::random().unwrap();
    let too_large = sessions.start(Content::new(SECRET.repeat(100)));
    let shown = format!(
        "{sessions:?} {content:?} {id:?} {session:?} {record:?} {token:?} {too_large:?} {:?} {:#?}",
        sessions.stats(),
        sessions.cache(),
    );
    for secret in [SECRET, &id.to_string(), &token.to_string()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!too_large.unwrap_err().to_string().contains(SECRET));
}

#[test]
fn a_session_has_a_size_that_it_cannot_exceed() {
    let (sessions, _) = store(|builder| builder.max_size(100));
    let content = |size: usize| Content::new("x".repeat(size - 3)).owner("ada");
    let id = sessions.start(content(100)).unwrap();
    let refused = SessionError::TooLarge {
        size: 101,
        max_size: 100,
    };
    assert_eq!(sessions.start(content(101)), Err(refused));
    assert_eq!(sessions.replace(&id, content(101)), Err(refused));
    assert_eq!(sessions.get(&id).unwrap().text().len(), 97, "as it was");
}

#[test]
fn an_owner_has_a_number_of_sessions_that_cannot_be_exceeded() {
    let (sessions, time) = store(|builder| builder.max_per_owner(3));
    let ids: Vec<_> = (0..3)
        .map(|_| {
            time.advance(MINUTE);
            start(&sessions, "ada")
        })
        .collect();
    let bob = start(&sessions, "bob");
    assert!(sessions.get(&ids[0]).is_some(), "active");
    time.advance(MINUTE);
    let fourth = start(&sessions, "ada");
    let there = |id: &SessionId| sessions.get(id).is_some();
    assert!(!there(&ids[1]), "the idlest");
    let stay = [ids[0], ids[2], fourth, bob];
    assert!(stay.iter().all(there));
    // Who logs in without another id counts as well.
    assert_eq!(
        sessions.replace(&bob, Content::new("").owner("ada")),
        Ok(Replaced::Stored)
    );
    assert!(there(&bob));
    assert_eq!(sessions.of_owner("ada").len(), 3);
    assert_eq!(sessions.stats().over_limit, 2);
    let late = sessions.replace(&ids[1], Content::new(""));
    assert_eq!(late, Ok(Replaced::Ended), "and does not come back");
}

#[test]
fn it_is_always_the_idlest_session_of_an_owner_that_goes() {
    let (sessions, time) = store(|builder| builder.max_per_owner(8));
    let start = || {
        time.advance(MINUTE);
        start(&sessions, "ada")
    };
    let ids: Vec<_> = (0..100).map(|_| start()).collect();
    let there = |id: &&SessionId| sessions.get(id).is_some();
    assert!(ids.iter().filter(there).eq(&ids[92..]));
}

#[test]
fn who_logs_in_stays_though_others_have_at_the_same_moment() {
    let (sessions, _) = store(|builder| builder.max_per_owner(2));
    for _ in 0..50 {
        let new = start(&sessions, "ada");
        assert!(sessions.get(&new).is_some());
    }
    assert_eq!(sessions.of_owner("ada").len(), 2);
}

#[test]
fn of_simultaneous_log_ins_as_many_stay_as_may() {
    for (max, before) in [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)] {
        for _ in 0..400 {
            let (sessions, time) = store(|builder| builder.max_per_owner(max));
            let old: Vec<_> = (0..before).map(|_| start(&sessions, "ada")).collect();
            time.advance(MINUTE);
            let gate = Barrier::new(4);
            let log_in = || {
                gate.wait();
                start(&sessions, "ada")
            };
            let new: Vec<_> = thread::scope(|scope| {
                let calls: Vec<_> = (0..4).map(|_| scope.spawn(log_in)).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            let open = |ids: &[SessionId]| {
                let open = ids.iter().filter(|id| sessions.get(id).is_some());
                open.count()
            };
            assert_eq!((open(&old), open(&new)), (0, max));
            assert_eq!(sessions.of_owner("ada").len(), max);
            assert_eq!(sessions.stats().over_limit, (before + 4 - max) as u64);
        }
    }
}

#[test]
fn ids_differ_and_are_not_in_order() {
    let (sessions, _) = store(|builder| builder);
    let ids: Vec<u128> = (0..1_000).map(|_| start(&sessions, "ada").into()).collect();
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 1_000);
    let ascents = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((300..700).contains(&ascents), "{ascents}");
}
