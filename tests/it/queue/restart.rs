//! What a queue that is kept in a directory promises across restarts, and across `kill -9`.

use super::{VISIBILITY, at_once, done};
use crate::common::{HOUR, PATIENCE, SECOND, killed, panic_of};
use crate::loading::{Wakes, poll};
use haybox::MockClock;
use haybox::persist::{OpenError, Persistence, SyncPolicy};
use haybox::queue::{
    Delivery, Overflow, PopError, PushError, PushOptions, Pushed, Queue, QueueBuilder, Workers,
};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

fn builder(time: &MockClock) -> QueueBuilder<u32> {
    Queue::builder(100).clock(time.clock())
}

fn open(dir: &TempDir, time: &MockClock) -> Queue<u32> {
    builder(time).open(dir.path()).unwrap()
}

fn new() -> (TempDir, MockClock) {
    (tempfile::tempdir().unwrap(), MockClock::new())
}

#[test]
fn what_is_not_done_is_there_after_a_restart() {
    let (dir, time) = new();
    let queue = at_once(builder(&time)).open(dir.path()).unwrap();
    (1..=5).for_each(|value| _ = queue.push(value).unwrap());
    assert_eq!(done(queue.try_pop()), 1);
    let in_flight = queue.try_pop().unwrap();
    queue.try_pop().unwrap().fail("wrong").unwrap();
    let [of_3, of_4] = [(); 2].map(|()| queue.try_pop().unwrap());
    of_3.release().unwrap();
    of_4.release().unwrap();
    queue.push_with(6, PushOptions::new().priority(1)).unwrap();
    drop(queue);
    in_flight.into_receipt();
    let queue = open(&dir, &time);
    let attempts = |queue: &Queue<u32>| {
        let deliveries = queue.pop_many(10, Duration::ZERO).unwrap();
        let look = |delivery: &haybox::queue::Delivery<u32>| (**delivery, delivery.attempt());
        deliveries.iter().map(look).collect::<Vec<_>>()
    };
    // Attempts that were under way or released do not count, the one that failed does.
    assert_eq!(attempts(&queue), [(6, 1), (2, 1), (3, 2), (4, 1), (5, 1)]);
}

#[test]
fn a_queue_without_a_log_is_refused_since_each_push_would_wait_for_a_snapshot() {
    let (dir, time) = new();
    let path = dir.path().join("mails");
    let opened = builder(&time).open_with(&path, Persistence::new().snapshots_only(HOUR));
    let error = opened.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("snapshots_only") && error.contains("push"),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn what_was_released_for_a_time_waits_for_the_rest_of_it_after_a_restart() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    queue.push(1).unwrap();
    queue.try_pop().unwrap().release_after(HOUR).unwrap();
    drop(queue);
    time.advance(HOUR / 2);
    let queue = open(&dir, &time);
    assert_eq!(queue.stats().delayed, 1);
    time.advance(HOUR / 2);
    assert_eq!(queue.try_pop().unwrap().attempt(), 1);
}

#[test]
fn what_is_ready_after_a_restart_is_due_since_then_in_the_order_of_its_pushes() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let later = |delay| PushOptions::new().delay(delay);
    queue.push_with(1, later(SECOND)).unwrap();
    queue.push(2).unwrap();
    queue.push_with(3, later(HOUR)).unwrap();
    time.advance(SECOND * 60);
    assert_eq!(queue.stats().oldest_age, Some(SECOND * 60));
    drop(queue);
    let queue = open(&dir, &time);
    assert_eq!(queue.stats().oldest_age, Some(Duration::ZERO));
    time.advance(SECOND * 5);
    queue.push(4).unwrap();
    assert_eq!(queue.stats().oldest_age, Some(SECOND * 5));
    assert_eq!([(); 3].map(|()| done(queue.try_pop())), [1, 2, 4]);
    assert_eq!(queue.stats().oldest_age, None);
}

/// By the real clock, whose coarse readings lag behind the precise one of the restart.
#[test]
fn what_is_pushed_right_after_a_restart_does_not_overtake_what_was_there() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let open = || Queue::<u32>::builder(10).open(dir.path()).unwrap();
        let queue = open();
        (0..3).for_each(|value| _ = queue.push(value).unwrap());
        drop(queue);
        let queue = open();
        queue.push(3).unwrap();
        assert_eq!([(); 4].map(|()| done(queue.try_pop())), [0, 1, 2, 3]);
    }
}

#[test]
fn delays_and_keys_and_dead_letters_come_back() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let later = PushOptions::new().delay(HOUR).dedup_key("report");
    let first = queue.push_with(1, later.clone()).unwrap();
    queue.push(2).unwrap();
    queue.try_pop().unwrap().bury("poison").unwrap();
    let purged = queue.push(3).unwrap();
    queue.try_pop().unwrap().bury("poison").unwrap();
    assert!(queue.purge(purged));
    drop(queue);
    time.advance(HOUR / 2);
    let queue = open(&dir, &time);
    assert_eq!(
        queue.push_with(4, later).unwrap(),
        Pushed::Duplicate(first.id())
    );
    queue.validate();
    let dead = queue.dead_letters();
    assert_eq!(
        (dead.len(), *dead[0], dead[0].error()),
        (1, 2, Some("poison"))
    );
    queue.requeue(dead[0].id()).unwrap();
    drop(queue);
    let queue = open(&dir, &time);
    assert_eq!((queue.stats().dead, done(queue.try_pop())), (0, 2));
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    time.advance(HOUR / 2 + SECOND);
    assert_eq!(done(queue.try_pop()), 1);
    for value in [5, 6] {
        queue.push(value).unwrap();
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    assert_eq!(queue.purge_all(), 2);
    let cancelled = queue.push(7).unwrap();
    assert!(queue.cancel(cancelled) && !queue.cancel(cancelled));
    drop(queue);
    let queue = open(&dir, &time);
    queue.validate();
    assert_eq!((queue.len(), queue.stats().dead), (0, 0));
}

#[test]
fn a_wall_clock_that_was_set_delays_nothing_for_longer_than_it_was() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    queue.push(1).unwrap();
    queue
        .push_with(2, PushOptions::new().delay(SECOND))
        .unwrap();
    drop(queue);
    time.set_system_time(SystemTime::UNIX_EPOCH + HOUR);
    let queue = open(&dir, &time);
    assert_eq!(done(queue.try_pop()), 1, "it was ready, and is");
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    time.advance(2 * SECOND);
    assert_eq!(done(queue.try_pop()), 2);
}

#[test]
fn numbers_are_not_given_twice() {
    let (dir, time) = new();
    let mut last = 0;
    for _ in 0..3 {
        let queue = open(&dir, &time);
        let id = queue.push(1).unwrap();
        assert!(id > last, "{id} after {last}");
        last = id;
        queue.try_pop().unwrap().ack().unwrap();
    }
}

#[test]
fn messages_that_are_given_up_do_not_come_back() {
    let (dir, time) = new();
    let few = || {
        let builder = Queue::builder(2)
            .overflow(Overflow::DropOldest)
            .dead_letters(1);
        builder.clock(time.clock()).open(dir.path()).unwrap()
    };
    let queue = few();
    (1..=3).for_each(|value| _ = queue.push(value).unwrap());
    for _ in 0..2 {
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    queue.push(4).unwrap();
    queue.validate();
    drop(queue);
    let queue = few();
    queue.validate();
    assert_eq!(
        (queue.dead_letters().len(), *queue.dead_letters()[0]),
        (1, 3)
    );
    assert_eq!((queue.len(), done(queue.try_pop())), (1, 4));
}

#[test]
fn deaths_by_time_are_kept_too() {
    let (dir, time) = new();
    let queue = builder(&time).max_attempts(1).open(dir.path()).unwrap();
    queue.push(1).unwrap();
    queue.try_pop().unwrap().into_receipt();
    time.advance(VISIBILITY);
    assert_eq!(queue.stats().dead, 1);
    drop(queue);
    assert_eq!(open(&dir, &time).stats().dead, 1);
}

#[test]
fn a_directory_is_one_queue_and_settings_are_checked_first() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let second = builder(&time).open(dir.path()).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    assert!(queue.journal().is_some() && Queue::<u32>::new(1).unwrap().journal().is_none());
    let nothing = dir.path().join("nothing");
    assert!(Queue::<u32>::builder(0).open(&nothing).is_err());
    assert!(!nothing.exists());
}

#[test]
fn a_closed_journal_refuses_messages_and_lets_work_go_on() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    queue.push(1).unwrap();
    queue.journal().unwrap().close().unwrap();
    let refused = queue.push(2).unwrap_err();
    assert!(matches!(&refused, PushError::NotKept(2, _)), "{refused}");
    assert_eq!((queue.len(), refused.into_inner()), (1, Some(2)));
    assert_eq!(done(queue.try_pop()), 1);
    drop(queue);
    assert_eq!(done(open(&dir, &time).try_pop()), 1, "at least once");
}

#[test]
fn a_push_that_fails_gives_up_no_other_message() {
    let (dir, time) = new();
    let builder = Queue::builder(1).overflow(Overflow::DropOldest);
    let queue = builder.clock(time.clock()).open(dir.path()).unwrap();
    queue.push(1).unwrap();
    queue.journal().unwrap().close().unwrap();
    assert!(matches!(queue.push(2), Err(PushError::NotKept(2, _))));
    assert_eq!(queue.stats().discarded, 0);
    assert_eq!(done(queue.try_pop()), 1);
}

/// Who pushes waits until the message is kept, a task as well as a thread.
#[cfg(unix)]
#[test]
fn a_push_whose_message_cannot_be_kept_says_that_it_is_not_known_to_be() {
    use crate::loading::block_on;
    use haybox::persist::CommitError;
    let (base, time) = new();
    let dir = base.path().join("queue");
    let always = Persistence::new().sync(SyncPolicy::Always);
    let queue = builder(&time).open_with(&dir, always).unwrap();
    let push = |value| block_on(queue.push_async(value));
    let id = push(1).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let Err(PushError::Unsure(unsure, CommitError::DirectoryGone { .. })) = push(2) else {
        panic!("the disk has not got it");
    };
    assert_eq!(unsure, id + 1);
    assert_eq!(queue.len(), 2, "it is in the queue");
    assert!(
        matches!(queue.push(3), Err(PushError::NotKept(3, _))),
        "now it is known"
    );
}

#[test]
fn a_limit_of_dead_letters_that_has_become_lower_holds_at_once() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    for value in 1..=5 {
        queue.push(value).unwrap();
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    drop(queue);
    let queue = builder(&time).dead_letters(2).open(dir.path()).unwrap();
    let left = queue.dead_letters();
    assert_eq!(left.iter().map(|dead| **dead).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(queue.stats().discarded, 3);
    drop(queue);
    assert_eq!(open(&dir, &time).stats().dead, 2);
}

#[test]
fn messages_come_in_faster_than_a_small_buffer_holds() {
    let (dir, time) = new();
    let options = Persistence::new().buffer(4 << 10);
    let builder = Queue::builder(1_000).clock(time.clock());
    let queue = builder.open_with(dir.path(), options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| _ = queue.push("x".repeat(3_000)).unwrap()));
        }
    });
    let all = queue.pop_many(1_000, Duration::ZERO).unwrap();
    all.into_iter().for_each(|one| one.ack().unwrap());
    drop(queue);
    let builder = Queue::<String>::builder(1_000).clock(time.clock());
    let queue = builder.open(dir.path()).unwrap();
    assert!(queue.is_empty(), "what was done is done: {}", queue.len());
}

/// Fails to be encoded in the ways in which that can fail.
#[derive(Deserialize, Debug)]
enum Odd {
    Good,
    Refuses,
    Panics,
    Calls,
    /// Drops somebody who waits, in the middle of a panic.
    Drops,
}

static WAITS: Mutex<Option<BoxFuture>> = Mutex::new(None);
type BoxFuture = Pin<Box<dyn Future<Output = Result<Delivery<Odd>, PopError>> + Send>>;

static CALLED: OnceLock<Queue<Odd>> = OnceLock::new();

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good => serializer.serialize_unit_variant("Odd", 0, "Good"),
            Self::Refuses => Err(serde::ser::Error::custom("no")),
            Self::Panics => panic!("no"),
            Self::Drops => {
                let _waits = WAITS.lock().unwrap().take();
                panic!("with one who waits");
            }
            Self::Calls => {
                let sentence = panic_of(|| CALLED.get().unwrap().len());
                Err(serde::ser::Error::custom(sentence))
            }
        }
    }
}

#[test]
fn what_does_not_encode_is_refused_and_harms_nothing() {
    let (dir, _) = new();
    let queue = CALLED.get_or_init(|| Queue::builder(10).open(dir.path()).unwrap());
    let mut waits: BoxFuture = Box::pin(queue.pop_async());
    let mut context = Context::from_waker(Waker::noop());
    assert!(waits.as_mut().poll(&mut context).is_pending());
    *WAITS.lock().unwrap() = Some(waits);
    for (odd, part) in [
        (Odd::Refuses, "no"),
        (Odd::Drops, "panicked"),
        (Odd::Panics, "panicked"),
        (Odd::Calls, "from inside the Serialize of a message"),
    ] {
        let error = queue.push(odd).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    queue.push(Odd::Good).unwrap();
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_message_that_is_refused_leaves_its_key_to_others() {
    let (dir, _) = new();
    let queue: Queue<Odd> = Queue::builder(10).open(dir.path()).unwrap();
    let report = || PushOptions::new().dedup_key("report");
    assert!(queue.push_with(Odd::Refuses, report()).is_err());
    assert!(!queue.push_with(Odd::Good, report()).unwrap().is_duplicate());
    queue.validate();
}

#[test]
fn a_call_from_inside_a_closure_under_a_lock_panics() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let cache = haybox::Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    let sentence = panic_of(|| cache.update(&1, |_| queue.push(1).is_ok()));
    assert!(sentence.starts_with(crate::common::INSIDE), "{sentence}");
    queue.push(1).unwrap();
    let held = queue.try_pop().unwrap();
    let sentence = panic_of(|| {
        cache.update(&1, move |_| {
            let _held = held;
            panic!("with a delivery");
        })
    });
    assert_eq!(sentence, "with a delivery");
    assert_eq!(queue.stats().in_flight, 1, "it is left to its time");
}

#[test]
fn the_last_handle_closes_the_queue_wherever_it_is_dropped() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let cache = haybox::Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    let mut waits = std::pin::pin!(queue.pop_async());
    let mut look = || {
        let mut context = Context::from_waker(Waker::noop());
        waits
            .as_mut()
            .poll(&mut context)
            .map(|popped| popped.unwrap_err())
    };
    assert_eq!(look(), Poll::Pending);
    cache.update(&1, |_| drop(queue));
    assert_eq!(look(), Poll::Ready(PopError::Closed));
}

#[test]
fn who_waits_may_give_up_under_the_lock_of_a_cache() {
    let (dir, time) = new();
    let queue = open(&dir, &time);
    let cache = haybox::Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    let (first, second) = (Wakes::new(), Wakes::new());
    let mut gives_up = Box::pin(queue.pop_async());
    let mut waits = Box::pin(queue.pop_async());
    assert!(poll(gives_up.as_mut(), &first.1).is_pending());
    assert!(poll(waits.as_mut(), &second.1).is_pending());
    cache.update(&1, |_| drop(gives_up));
    queue.push(1).unwrap();
    assert_eq!((first.0.count(), second.0.count()), (0, 1));
    assert!(poll(waits.as_mut(), &second.1).is_ready());
    // Also if it was woken already: the next one has what that was for.
    let [mut woken, mut next] = [(); 2].map(|()| Box::pin(queue.pop_async()));
    assert!(poll(woken.as_mut(), &first.1).is_pending());
    assert!(poll(next.as_mut(), &second.1).is_pending());
    queue.push(2).unwrap();
    assert_eq!((first.0.count(), second.0.count()), (1, 1));
    cache.update(&1, |_| drop(woken));
    assert_eq!(second.0.count(), 2);
}

// ---- kill -9 ----

const CHILD: &str = "HAYBOX_QUEUE_CHILD";

/// Not a test: what the process does that is killed. It says what it does, a line for each message:
/// `+` once a push was acknowledged, `-` before an acknowledgement is tried.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let sync = match std::env::var("HAYBOX_QUEUE_SYNC").as_deref() {
        Ok("always") => SyncPolicy::Always,
        _ => SyncPolicy::Every(SECOND),
    };
    let say = |sign: char, id: u64| {
        let line = format!("{sign}{id}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    };
    let queue: Queue<u64> = Queue::builder(1000)
        .overflow(Overflow::Block(PATIENCE))
        .open_with(Path::new(&dir), Persistence::new().sync(sync))
        .unwrap();
    let _workers = Workers::start(&queue, 2, move |job| {
        if job.attempt() == 1 && **job % 5 == 0 {
            return Err("try again");
        }
        say('-', job.id());
        Ok(())
    });
    let push = || {
        for value in 0..u64::MAX {
            // More comes in than the workers take out.
            say('+', queue.push(value).unwrap());
            if value % 2 == 0 {
                let options = PushOptions::new().delay(HOUR);
                say('+', queue.push_with(value, options).unwrap().id());
            }
            if queue.len() > 900 {
                queue.close();
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(push);
        scope.spawn(push);
    });
    std::thread::park();
}

/// Lets a process work until it has said so many lines, and kills it. What it had acknowledged and
/// nobody has worked on is there.
fn kill_one(dir: &Path, sync: &str, lines: usize) {
    let said = killed(
        "queue::restart::the_process_that_is_killed",
        &[
            (CHILD, dir.as_os_str()),
            ("HAYBOX_QUEUE_SYNC", sync.as_ref()),
        ],
        lines,
    );
    let (mut pushed, mut tried) = (BTreeSet::new(), BTreeSet::new());
    let mut take = |line: String| {
        let Some((sign, id)) = line.split_at_checked(1) else {
            return;
        };
        let Ok(id) = id.parse::<u64>() else { return };
        match sign {
            "+" => _ = pushed.insert(id),
            "-" => _ = tried.insert(id),
            _ => {}
        }
    };
    said.into_iter().for_each(&mut take);

    let time = MockClock::new();
    let builder = Queue::<u64>::builder(2000).clock(time.clock());
    let queue = builder.open(dir).unwrap();
    let stats = queue.stats();
    assert_eq!((stats.in_flight, stats.dead), (0, 0));
    time.advance(HOUR + SECOND);
    let next = queue.push(0).unwrap();
    let newest = pushed.last().copied().unwrap_or(0);
    assert!(next > newest, "{next} was given before");
    queue.close();
    let mut found = BTreeSet::new();
    while let Ok(delivery) = queue.try_pop() {
        assert!(found.insert(delivery.id()), "one message comes once");
        delivery.ack().unwrap();
    }
    let is_safe = |id: &&u64| tried.contains(id) || found.contains(id);
    let lost: Vec<_> = pushed.iter().filter(|id| !is_safe(id)).collect();
    assert!(lost.is_empty(), "{lost:?} are lost, of {}", pushed.len());
    assert!(
        pushed.len() + tried.len() >= lines / 2,
        "it was killed in the middle"
    );
}

#[test]
fn no_message_is_lost_by_kill_9() {
    for sync in ["every", "always"] {
        let rounds = if crate::common::is_full() { 10 } else { 3 };
        for round in 0..rounds {
            let dir = tempfile::tempdir().unwrap();
            kill_one(dir.path(), sync, 40 + 97 * round);
        }
    }
}
