//! What can only be seen from inside.

use super::*;
use std::cell::Cell;
use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex};

/// A store whose ids come from a list.
fn with_ids<const N: usize>(ids: [u128; N]) -> Sessions {
    let ids = Mutex::new(ids.into_iter());
    let mut builder = Sessions::builder();
    builder.ids = Box::new(move || {
        let id = ids.lock().unwrap().next();
        id.map(SessionId::from).ok_or(SessionError::NoRandomness)
    });
    builder.build().unwrap()
}

#[test]
fn an_id_that_somebody_has_is_not_given_again() {
    let sessions = with_ids([7, 7, 7, 8]);
    let first = sessions.start(Content::new("first")).unwrap();
    let second = sessions.start(Content::new("second")).unwrap();
    assert_eq!((first, second), (SessionId::from(7), SessionId::from(8)));
    assert_eq!(sessions.get(&first).unwrap().text(), "first");
    assert_eq!(sessions.get(&second).unwrap().text(), "second");
}

#[test]
fn a_session_is_given_no_id_that_somebody_has() {
    let sessions = with_ids([7, 8, 1, 2, 8, 7, 9, 10]);
    let start = || sessions.start(Content::new("").owner("ada")).unwrap();
    let (first, other) = (start(), start());
    let ids = [(); 2].map(|()| sessions.cycle_id(&first));
    assert_eq!(ids, [Ok(Some(SessionId::from(1))), Ok(None)]);
    // Its own, and that of the other: what was not free is asked for again.
    let third = sessions.cycle_id(&other).unwrap();
    assert_eq!(third, Some(SessionId::from(7)));
    assert_eq!(sessions.of_owner("ada").len(), 2);
    assert_eq!(sessions.end_all("ada"), 2);
}

#[test]
fn a_session_is_found_by_an_id_that_it_had_thousands_of_ids_ago() {
    const STACK: usize = 128 << 10;
    let sessions = Sessions::builder().build().unwrap();
    let first = sessions.start(Content::new("").owner("ada")).unwrap();
    let next = |id: SessionId, _| sessions.cycle_id(&id).unwrap().unwrap();
    let last = (0..5_000).fold(first, next);
    let on_little_stack = std::thread::Builder::new().stack_size(STACK);
    let public_id = sessions.get(&last).unwrap().public_id();
    // As a call that has read the index before the id was changed.
    sessions.0.owners.expect(&Arc::from("ada"), first);
    let walk = move || {
        assert_eq!(sessions.end_others("ada", &first), 0);
        assert_eq!(sessions.of_owner("ada")[0].public_id(), public_id);
        assert!(sessions.end_one("ada", public_id));
        assert!(sessions.get(&last).is_none());
    };
    on_little_stack.spawn(walk).unwrap().join().unwrap();
}

/// The sessions of a store, given another id behind the back of a call that has read the index, and
/// so many log-outs of others later that nothing tells which.
struct Moving {
    sessions: Sessions,
    ids: Mutex<Vec<SessionId>>,
}

impl Moving {
    fn new() -> Self {
        let sessions = Sessions::builder().build().unwrap();
        let ids = [(); 3].map(|()| sessions.start(Content::new("").owner("ada")).unwrap());
        let ids = Mutex::new(ids.into());
        Self { sessions, ids }
    }

    /// Does it at the first look of a call.
    fn all_but(&self, looked_at: &SessionId) {
        for id in mem::take(&mut *self.ids.lock().unwrap()) {
            if id != *looked_at {
                assert!(self.sessions.cycle_id(&id).unwrap().is_some());
                self.sessions.0.ended.clear();
            }
        }
    }
}

#[test]
fn a_log_out_everywhere_ends_sessions_whose_former_ids_are_forgotten() {
    let moving = Moving::new();
    let ended = moving.sessions.end_which("ada", |id, _| {
        moving.all_but(id);
        true
    });
    assert_eq!(ended, 3);
    assert!(moving.sessions.is_empty());
}

#[test]
fn a_list_of_sessions_has_those_whose_former_ids_are_forgotten() {
    let moving = Moving::new();
    let found = moving.sessions.find_all("ada", |id| {
        moving.all_but(id);
        moving.sessions.0.cache.peek(id)
    });
    let names: HashSet<_> = found.iter().map(|record| record.public_id).collect();
    assert_eq!((found.len(), names.len()), (3, 3));
}

/// An id may be in the index before its session has it.
#[test]
fn a_session_that_comes_to_an_id_just_after_the_look_for_it_is_found() {
    // In half of the rounds the index has the new id before the old one.
    for _ in 0..64 {
        let sessions = with_ids([7, 8]);
        let first = sessions.start(Content::new("").owner("ada")).unwrap();
        let next = SessionId::from(8);
        sessions.0.owners.expect(&Arc::from("ada"), next);
        let has_looked = Cell::new(false);
        let found = sessions.find_all("ada", |id| {
            if *id == first && has_looked.take() {
                assert_eq!(sessions.cycle_id(&first), Ok(Some(next)));
                sessions.0.ended.clear();
            }
            has_looked.set(*id == next);
            sessions.0.cache.peek(id)
        });
        assert_eq!(found.len(), 1);
    }
}

#[test]
fn ids_that_were_ended_are_remembered_though_the_store_is_small() {
    let sessions = Sessions::builder().max_sessions(2).build().unwrap();
    let start = || sessions.start(Content::new("")).unwrap();
    let first = start();
    assert!(sessions.end(&first));
    (0..50_000).for_each(|_| assert!(sessions.end(&start())));
    let change = sessions.replace(&first, Content::new(""));
    assert_eq!(change, Ok(Replaced::Ended));
}

#[test]
fn what_is_remembered_of_ended_ids_is_bounded() {
    let sessions = Sessions::builder().max_sessions(10).build().unwrap();
    for _ in 0..110_000 {
        assert!(sessions.end(&sessions.start(Content::new("")).unwrap()));
    }
    assert_eq!(sessions.0.ended.len(), 100_000);
}

#[test]
fn without_random_numbers_no_session_starts() {
    let sessions = with_ids([]);
    let started = sessions.start(Content::new(""));
    assert_eq!(started, Err(SessionError::NoRandomness));
    assert!(sessions.is_empty());
}

#[test]
fn the_index_of_owners_forgets_who_has_no_session_any_more() {
    let time = crate::MockClock::new();
    let hour = std::time::Duration::from_secs(3600);
    let sessions = Sessions::builder()
        .max_sessions(3)
        .idle_timeout(hour)
        .clock(time.clock())
        .build()
        .unwrap();
    let start = |owner: &str| sessions.start(Content::new("").owner(owner)).unwrap();
    let ada = start("ada");
    start("bob");
    start("cyd");
    start("dan");
    let owners = &sessions.0.owners;
    assert_eq!((owners.count("ada"), owners.len()), (0, 3), "evicted");
    assert!(sessions.get(&ada).is_none());
    sessions.end_all("bob");
    assert_eq!((owners.count("bob"), owners.len()), (0, 2), "ended");
    let cyd = owners.ids("cyd").into_iter().next().unwrap();
    let eve = Content::new("").owner("eve");
    assert!(sessions.replace(&cyd, eve).is_ok());
    assert_eq!((owners.count("cyd"), owners.count("eve")), (0, 1));
    assert_eq!(owners.len(), 2, "of another owner now");
    time.advance(hour);
    time.advance(hour);
    assert_eq!(owners.len(), 0, "expired");
}

#[test]
fn a_listener_of_the_cache_is_told_beside_the_index_of_owners() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let listener = move |id, _, cause| telling.lock().unwrap().push((id, cause));
    let sessions = Sessions::builder().max_sessions(1);
    let made = sessions.build_with(|cache| cache.removal_listener(listener).build());
    let sessions = made.unwrap();
    let start = |owner: &str| sessions.start(Content::new("").owner(owner)).unwrap();
    let (ada, bob) = (start("ada"), start("bob"));
    assert_eq!(sessions.0.owners.len(), 1);
    assert!(sessions.end(&bob));
    assert_eq!(sessions.0.owners.len(), 0);
    use crate::RemovalCause::{Capacity, Explicit};
    assert_eq!(*told.lock().unwrap(), [(ada, Capacity), (bob, Explicit)]);
}
