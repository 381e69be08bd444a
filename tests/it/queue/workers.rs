//! Threads that work on the messages of a queue.

use super::{VISIBILITY, at_once, on_mock};
use crate::common::{Fragile, PATIENCE, SECOND};
use haybox::MockClock;
use haybox::queue::{Delivery, PushOptions, Queue, Settle, Workers};
use std::io::ErrorKind;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

type Nothing = std::result::Result<(), String>;

#[test]
fn errors_and_panics_are_attempts_that_failed() {
    let (queue, _time) = on_mock(100, |builder| at_once(builder.max_attempts(2)));
    let workers = Workers::start(&queue, 3, |job| match **job {
        0 => Err("no".to_owned()),
        1 => panic!("{} is wrong", **job),
        2 => std::panic::panic_any(7),
        3 => std::panic::panic_any(Fragile),
        _ => Ok(()),
    });
    let workers = workers.unwrap();
    (0..10).for_each(|job| _ = queue.push(job).unwrap());
    queue.close();
    assert!(queue.is_closed());
    let report = workers.drain(PATIENCE);
    let stats = queue.stats();
    assert_eq!((stats.pushed, stats.acked, stats.buried), (10, 6, 4));
    assert_eq!(
        (report.done, report.failed, report.panicked, report.late),
        (6, 2, 6, 0)
    );
    let dead = queue.dead_letters();
    let errors: Vec<_> = dead
        .iter()
        .map(|letter| (**letter, letter.error().unwrap()))
        .collect();
    let expected = [
        (0, "no"),
        (1, "panicked: 1 is wrong"),
        (2, "panicked: no reason given"),
        (3, "panicked: no reason given"),
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_handler_may_bury_release_and_put_off() {
    let (queue, time) = on_mock(100, |builder| at_once(builder.max_attempts(2)));
    let handle = |job: &Delivery<u32>| match (**job, job.attempt()) {
        (0, _) => Settle::Bury("poison".to_owned()),
        (1, _) => Settle::ReleaseAfter(SECOND),
        // Not at once all the same, or it would be popped again and again.
        (2, _) => Settle::ReleaseAfter(Duration::ZERO),
        (3, 1) => Settle::FailAfter("later".to_owned(), SECOND),
        (4, _) => Settle::Fail("no".to_owned()),
        _ => Settle::Ack,
    };
    let workers = Workers::start(&queue, 2, handle).unwrap();
    (0..6).for_each(|job| _ = queue.push(job).unwrap());
    let settled = || {
        let report = workers.report();
        report.done + report.failed + report.buried + report.released
    };
    while settled() < 7 {
        thread::yield_now();
    }
    let stats = queue.stats();
    assert_eq!((stats.delayed, stats.dead, stats.released), (3, 2, 2));
    time.advance(SECOND);
    while settled() < 10 {
        thread::yield_now();
    }
    let report = workers.stop();
    let counts = (report.done, report.failed, report.buried, report.released);
    assert_eq!((counts, report.late), ((2, 3, 1, 4), 0));
    let texts: Vec<_> = queue
        .dead_letters()
        .iter()
        .map(|letter| letter.error().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["poison", "no"]);
}

#[test]
fn stopping_waits_for_what_runs() {
    let (queue, _time) = on_mock(100, |builder| builder);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let workers = Workers::start(&queue, 1, move |_| {
        begun.send(()).unwrap();
        may_go_on.lock().unwrap().recv()
    });
    let workers = workers.unwrap();
    queue.push(1).unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    let stopping = thread::spawn(move || workers.stop());
    go_on.send(()).unwrap();
    assert_eq!(stopping.join().unwrap().done, 1);
    assert!(queue.is_empty() && !queue.is_closed());
}

#[test]
fn idle_workers_stop_at_once() {
    let (queue, _time) = on_mock(100, |builder| builder);
    let workers = Workers::start(&queue, 4, |_| -> Nothing { Ok(()) }).unwrap();
    assert_eq!(workers.stop().done, 0);
    drop(Workers::start(&queue, 4, |_| -> Nothing { Ok(()) }).unwrap());
}

#[test]
fn workers_of_a_closed_queue_wait_for_what_is_tried_again() {
    let (queue, time) = on_mock(100, |builder| builder.backoff(SECOND, SECOND));
    let (tell, told) = mpsc::channel();
    let workers = Workers::start(&queue, 2, move |job| {
        tell.send(job.attempt()).unwrap();
        if job.attempt() < 3 {
            Err("not yet")
        } else {
            Ok(())
        }
    });
    let workers = workers.unwrap();
    queue
        .push_with(1, PushOptions::new().delay(SECOND))
        .unwrap();
    queue.close();
    let report = thread::spawn(move || workers.drain(PATIENCE));
    for attempt in 1..=3 {
        // The clock moves when the message waits to be tried, and no further than to that.
        while queue.stats().delayed == 0 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(attempt));
    }
    let report = report.join().unwrap();
    assert_eq!((report.done, report.failed), (1, 2));
    assert!(queue.is_empty());
}

#[test]
fn workers_of_a_closed_queue_end_by_themselves() {
    let (queue, time) = on_mock(100, |builder| builder);
    queue.push(1).unwrap();
    let last = queue.try_pop().unwrap();
    queue.close();
    let (held_by_threads, ended) = mpsc::channel::<()>();
    let held_by_threads = Mutex::new(held_by_threads);
    let workers = Workers::start(&queue, 1, move |_| {
        let _held = &held_by_threads;
        Nothing::Ok(())
    });
    let workers = workers.unwrap();
    // It waits for the end of what is in flight.
    while time.timers() == 0 {
        thread::yield_now();
    }
    last.ack().unwrap();
    let end = ended.recv_timeout(PATIENCE);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    assert_eq!(workers.report().done, 0);
}

#[test]
fn work_that_takes_longer_than_it_may_is_told() {
    let (queue, time) = on_mock(100, |builder| builder.max_attempts(1));
    let clock = time.clone();
    let workers = Workers::start(&queue, 1, move |_| -> Nothing {
        clock.advance(VISIBILITY);
        Ok(())
    });
    queue.push(1).unwrap();
    queue.close();
    let report = workers.unwrap().drain(PATIENCE);
    assert_eq!((report.done, report.late), (0, 1));
    assert_eq!(
        queue.dead_letters()[0].error(),
        Some("the attempt took longer than it may")
    );
}

#[test]
fn who_is_stopped_takes_nothing_more_also_by_its_own_handler() {
    let (queue, _time) = on_mock(100, |builder| builder);
    queue.pause();
    (0..2).for_each(|job| _ = queue.push(job).unwrap());
    let own = Arc::new(Mutex::new(None::<Workers<u32>>));
    let (held, (alive, ended)) = (Arc::clone(&own), mpsc::channel::<()>());
    let workers = Workers::start(&queue, 1, move |_| -> Nothing {
        let _held_until_the_threads_end = &alive;
        drop(held.lock().unwrap().take());
        Ok(())
    });
    *own.lock().unwrap() = Some(workers.unwrap());
    queue.resume();
    assert_eq!(
        ended.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!((queue.stats().acked, queue.stats().ready), (1, 1));
}

#[test]
fn a_message_whose_destructor_panics_ends_no_worker() {
    struct Fails(bool);
    impl Drop for Fails {
        fn drop(&mut self) {
            assert!(!self.0, "the destructor fails");
        }
    }
    let time = MockClock::new();
    let queue = Queue::builder(10).clock(time.clock()).build().unwrap();
    let workers = Workers::start(&queue, 1, |_| -> Nothing { Ok(()) }).unwrap();
    for fails in [true, false] {
        queue.push(Fails(fails)).unwrap();
    }
    queue.close();
    workers.drain(PATIENCE);
    assert_eq!(queue.stats().acked, 2);
}

#[test]
fn no_workers_is_an_error() {
    let (queue, _time) = on_mock(1, |builder| builder);
    let none = Workers::start(&queue, 0, |_| -> Nothing { Ok(()) });
    assert_eq!(none.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Says that it is dropped, and panics where that was asked for.
struct Grenade(Option<mpsc::Sender<()>>);

impl Drop for Grenade {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told.send(()).unwrap();
            panic!("a destructor fails");
        }
    }
}

#[test]
fn a_destructor_that_panics_when_its_message_is_discarded_ends_no_worker() {
    let time = MockClock::new();
    let builder = Queue::builder(10).max_attempts(1).dead_letters(0);
    let queue = builder.clock(time.clock()).build().unwrap();
    let (told, dropped) = mpsc::channel();
    queue.push(Grenade(Some(told))).unwrap();
    // In flight until its time is over, which the worker is the first to find.
    queue.try_pop().unwrap().into_receipt();
    let (done, worked) = mpsc::channel();
    let workers = Workers::start(&queue, 1, move |_: &Delivery<Grenade>| {
        done.send(()).map_err(|error| error.to_string())
    });
    time.advance(super::VISIBILITY);
    dropped.recv_timeout(PATIENCE).unwrap();
    queue.push(Grenade(None)).unwrap();
    worked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(workers.unwrap().stop().done, 1);
}
