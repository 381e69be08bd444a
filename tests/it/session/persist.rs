//! Sessions that survive the process.

use super::*;
use haybox::persist::OpenError;
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
