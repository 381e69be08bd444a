//! Sessions that survive the process.

use super::*;
use crate::common::killed;
use haybox::persist::{OpenError, Persistence, SyncPolicy};
use std::io::Write;
use std::path::Path;

fn open(folder: &Path, time: &MockClock) -> Sessions {
    let builder = Sessions::builder().clock(time.clock()).idle_timeout(HOUR);
    let opened: Result<_, OpenError> = builder.build_with(|cache| cache.open(folder));
    opened.unwrap()
}

#[test]
fn a_restart_keeps_sessions_their_owners_and_their_times_and_no_ended_ones() {
    let folder = tempfile::tempdir().unwrap();
    let time = MockClock::new();
    let sessions = open(folder.path(), &time);
    let (kept, ended) = (start(&sessions, "ada"), start(&sessions, "ada"));
    let moved = start(&sessions, "ada");
    sessions.end(&ended);
    sessions
        .replace(&moved, Content::new("[1]").owner("bob"))
        .unwrap();
    time.advance(MINUTE * 30);
    let before = sessions.get(&kept).unwrap();
    time.advance(MINUTE * 29);
    drop(sessions);

    let sessions = open(folder.path(), &time);
    let after = sessions.get(&moved).unwrap();
    assert_eq!((after.text(), after.owner()), ("[1]", Some("bob")));
    let listed = sessions.of_owner("ada");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].public_id(), before.public_id());
    assert_eq!(listed[0].created(), before.created());
    assert!(sessions.get(&ended).is_none());
    assert_eq!(sessions.end_all("bob"), 1);
    drop(sessions);

    time.advance(HOUR);
    let sessions = open(folder.path(), &time);
    assert!(
        sessions.get(&kept).is_none(),
        "its time went on while nobody was there"
    );
    assert!(sessions.get(&moved).is_none(), "logged out for good");
    assert!(sessions.of_owner("ada").is_empty() && sessions.of_owner("bob").is_empty());
}

// ---- kill -9 ----

const CHILD: &str = "HAYBOX_SESSIONS_CHILD";

/// Not a test: what the process does that is killed. It gives its session one id after another, and
/// says each.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let always = Persistence::new().sync(SyncPolicy::Always);
    let made = Sessions::builder().build_with(|cache| cache.open_with(dir, always));
    let sessions = made.map_err(|error: OpenError| error).unwrap();
    let content = Content::new("[1]").owner("ada");
    let mut id = sessions.start(content).unwrap();
    loop {
        let line = format!("+{id}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        id = sessions.cycle_id(&id).unwrap().unwrap();
    }
}

#[test]
fn after_kill_9_a_session_has_its_last_id_or_the_next_one() {
    // Two lines are the harness's.
    for lines in [3, 20, 200] {
        let dir = tempfile::tempdir().unwrap();
        let test = "session::persist::the_process_that_is_killed";
        let said = killed(test, &[(CHILD, dir.path().as_os_str())], lines);
        let ids = said.iter().filter_map(|line| line.strip_prefix('+'));
        let mut ids: Vec<SessionId> = ids.map(|id| id.parse().unwrap()).collect();
        assert!(ids.pop().is_some());
        let sessions = open(dir.path(), &MockClock::new());
        let listed = sessions.of_owner("ada");
        assert_eq!((sessions.len(), listed.len()), (1, 1), "{lines}");
        assert!(ids.iter().all(|id| sessions.get(id).is_none()));
        for session in listed {
            assert_eq!((session.text(), session.owner()), ("[1]", Some("ada")));
        }
    }
}

#[test]
fn a_restart_after_a_new_id_opens_the_session_by_that_alone() {
    let (folder, time) = (tempfile::tempdir().unwrap(), MockClock::new());
    let sessions = open(folder.path(), &time);
    let old = start(&sessions, "ada");
    let public_id = sessions.get(&old).unwrap().public_id();
    let new = sessions.cycle_id(&old).unwrap().unwrap();
    drop(sessions);
    let sessions = open(folder.path(), &time);
    assert!(sessions.get(&old).is_none());
    assert_eq!(sessions.get(&new).unwrap().public_id(), public_id);
    assert_eq!(sessions.end_all("ada"), 1);
}
