//! Members that come and go.

use crate::common::choice;
use crate::schedules::check;
use haybox::MockClock;
use haybox::presence::{Change, Presence};
use shuttle::thread::scope;
use std::time::Duration;

#[test]
fn members_join_and_leave_in_turn() {
    check("transitions of presence", || {
        let (time, second) = (MockClock::new(), Duration::from_secs(1));
        let online = Presence::<u32, u32>::builder()
            .timeout(second * 2)
            .idle_after(second)
            .sweep_interval(second)
            .clock(time.clock())
            .build()
            .expect("the settings are possible");
        let events = online.events();
        let joined = scope(|threads| {
            let calls = [0, 1].map(|_| {
                let online = &online;
                threads.spawn(move || {
                    let (mut joined, mut left) = (0, 0);
                    for _ in 0..3 {
                        match choice(4) {
                            0 => left += u32::from(online.leave(&1, &1)),
                            1 => joined += u32::from(online.active(&1, &1)),
                            2 => drop(online.members(&1)),
                            _ => joined += u32::from(online.heartbeat(&1, &1)),
                        }
                    }
                    (joined, left)
                })
            });
            threads.spawn(|| (0..3).for_each(|_| time.advance(second)));
            calls.map(|calls| calls.join().expect("it does not panic"))
        });
        time.advance(second * 3);
        let changes: Vec<Change> = events.try_iter().map(|event| event.change).collect();
        check_story(&changes);
        let count = |change| changes.iter().filter(|other| **other == change).count() as u32;
        assert_eq!(count(Change::Joined), joined[0].0 + joined[1].0);
        assert_eq!(count(Change::Left), joined[0].1 + joined[1].1);
    });
}

/// Joined and gone in turn, idle and active in turn in between, and gone at the end.
fn check_story(changes: &[Change]) {
    let (mut is_there, mut is_idle) = (false, false);
    for change in changes {
        let (was_there, was_idle) = (is_there, is_idle);
        match change {
            Change::Joined => (is_there, is_idle) = (true, false),
            Change::Left | Change::TimedOut => is_there = false,
            Change::Idle => is_idle = true,
            Change::Active => is_idle = false,
            other => panic!("{other:?} is new"),
        }
        let is_change = match change {
            Change::Joined => !was_there,
            Change::Idle => was_there && !was_idle,
            Change::Active => was_there && was_idle,
            _ => was_there,
        };
        assert!(is_change, "{change:?} in {changes:?}");
    }
    assert!(!is_there, "nobody stays: {changes:?}");
}
