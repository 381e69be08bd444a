//! Tasks that work on the messages of a queue.

use super::{at_once, on_mock};
use crate::common::{Fragile, PATIENCE, SECOND};
use haybox::MockClock;
use haybox::queue::{Delivery, PushOptions, Queue, Settle, TaskWorkers};
use std::cell::RefCell;
use std::future::pending;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;

fn look<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn run<R>(work: impl Future<Output = R>) -> R {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(work)
}

async fn handle(job: &Delivery<u32>) -> Settle {
    tokio::task::yield_now().await;
    match **job {
        0 => Settle::Fail("no".to_owned()),
        1 => panic!("{} is wrong", **job),
        2 => std::panic::panic_any(7),
        3 => std::panic::panic_any(Fragile),
        4 => Settle::Bury("poison".to_owned()),
        _ => Settle::Ack,
    }
}

#[test]
fn errors_and_panics_are_attempts_that_failed() {
    let (queue, _time) = on_mock(100, |builder| at_once(builder.max_attempts(2)));
    let workers = TaskWorkers::new(&queue);
    (0..10).for_each(|job| _ = queue.push(job).unwrap());
    queue.close();
    let report = run(async {
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(workers.work(handle))).collect();
        let report = workers.drain_async(PATIENCE).await;
        for task in tasks {
            task.await.unwrap();
        }
        report
    });
    assert_eq!((report.done, report.failed, report.buried), (5, 2, 1));
    assert_eq!((report.panicked, report.late), (6, 0));
    let dead = queue.dead_letters();
    let mut errors: Vec<_> = dead
        .iter()
        .map(|letter| (**letter, letter.error().unwrap()))
        .collect();
    errors.sort_unstable();
    let expected = [
        (0, "no"),
        (1, "panicked: 1 is wrong"),
        (2, "panicked: no reason given"),
        (3, "panicked: no reason given"),
        (4, "poison"),
    ];
    assert_eq!(errors, expected);
}

/// Neither threads nor an executor: whoever polls.
#[test]
fn stopping_waits_for_what_runs_and_has_nothing_more_begin() {
    let (queue, _time) = on_mock(100, |builder| builder);
    (0..2).for_each(|job| _ = queue.push(job).unwrap());
    let (workers, may_go_on) = (TaskWorkers::new(&queue), Semaphore::new(0));
    let mut worker =
        Box::pin(workers.work(async |_: &Delivery<u32>| may_go_on.acquire().await.map(drop)));
    assert!(look(worker.as_mut()).is_pending());
    assert_eq!(queue.stats().in_flight, 1);
    let mut stopping = pin!(workers.stop_async());
    assert!(look(stopping.as_mut()).is_pending());
    may_go_on.add_permits(9);
    assert!(look(worker.as_mut()).is_ready(), "it takes no second");
    let Poll::Ready(report) = look(stopping.as_mut()) else {
        panic!("all have ended");
    };
    assert_eq!((report.done, queue.stats().ready), (1, 1));
    let mut late = pin!(workers.work(handle));
    assert!(look(late.as_mut()).is_ready(), "they are stopped");
    assert_eq!(queue.stats().ready, 1);
}

/// A loop that has nothing to wait for would keep the thread to itself.
#[test]
fn a_worker_lets_other_tasks_run() {
    let (queue, _time) = on_mock(1_000, |builder| builder);
    (0..1_000).for_each(|job| _ = queue.push(job).unwrap());
    queue.close();
    let workers = TaskWorkers::new(&queue);
    let mut worker = pin!(workers.work(async |_: &Delivery<u32>| Settle::Ack));
    let mut before = 0;
    while look(worker.as_mut()).is_pending() {
        let done = workers.report().done;
        assert!((1..=100).contains(&(done - before)), "{before}, {done}");
        before = done;
    }
    assert_eq!(workers.report().done, 1_000);
}

#[test]
fn idle_workers_are_woken_to_stop() {
    let (queue, _time) = on_mock(100, |builder| builder);
    let workers = TaskWorkers::new(&queue);
    let report = run(async {
        let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(workers.work(handle))).collect();
        tokio::task::yield_now().await;
        let report = workers.clone().stop_async().await;
        assert!(tasks.iter().all(|task| task.is_finished()));
        report
    });
    assert_eq!(report.done, 0);
    assert!(!queue.is_closed());
}

#[test]
fn a_worker_that_is_dropped_gives_its_message_back_and_nobody_waits_for_it() {
    let (queue, _time) = on_mock(100, at_once);
    queue.push(7).unwrap();
    let workers = TaskWorkers::new(&queue);
    let mut first = Box::pin(workers.work(async |_: &Delivery<u32>| pending::<Settle>().await));
    let second = workers.work(handle);
    assert!(look(first.as_mut()).is_pending());
    let mut stopping = pin!(workers.stop_async());
    assert!(look(stopping.as_mut()).is_pending());
    drop(first);
    assert!(look(stopping.as_mut()).is_ready(), "one has not begun");
    drop(second);
    let again = queue.try_pop().unwrap();
    assert_eq!((*again, again.attempt()), (7, 2));
}

#[test]
fn who_is_stopping_is_woken_by_the_last() {
    let (queue, _time) = on_mock(100, |builder| builder);
    let workers = TaskWorkers::new(&queue);
    run(async {
        for _ in 0..3 {
            tokio::spawn(workers.work(async |_: &Delivery<u32>| Settle::Ack));
        }
        tokio::task::yield_now().await;
        let (one, other) = tokio::join!(workers.stop_async(), workers.stop_async());
        assert_eq!(one, other);
    });
}

#[test]
fn workers_of_a_closed_queue_wait_for_what_is_tried_again() {
    let (queue, time) = on_mock(100, |builder| builder.backoff(SECOND, SECOND));
    let workers = TaskWorkers::new(&queue);
    let later = PushOptions::new().delay(SECOND);
    queue.push_with(9, later).unwrap();
    queue.close();
    let mut worker = Box::pin(
        workers.work(async |job: &Delivery<u32>| match job.attempt() {
            3 => Ok(()),
            _ => Err("not yet"),
        }),
    );
    let mut draining = pin!(workers.drain_async(PATIENCE));
    for _ in 0..3 {
        assert!(look(worker.as_mut()).is_pending());
        assert!(look(draining.as_mut()).is_pending());
        time.advance(SECOND);
    }
    assert!(look(worker.as_mut()).is_ready());
    let Poll::Ready(report) = look(draining.as_mut()) else {
        panic!("the queue is empty");
    };
    assert_eq!((report.done, report.failed), (1, 2));
}

#[test]
fn draining_ends_after_its_time_though_there_is_something_left() {
    let (queue, time) = on_mock(100, |builder| builder);
    queue.push(9).unwrap();
    let workers = TaskWorkers::new(&queue);
    let mut draining = pin!(workers.drain_async(SECOND));
    time.advance(SECOND);
    assert!(look(draining.as_mut()).is_pending(), "from the first poll");
    time.advance(SECOND);
    assert!(look(draining.as_mut()).is_ready());
    assert_eq!(queue.len(), 1);
}

#[test]
fn work_that_takes_longer_than_it_may_is_told() {
    let (queue, time) = on_mock(100, |builder| builder.max_attempts(1));
    queue.push(9).unwrap();
    queue.close();
    let workers = TaskWorkers::new(&queue);
    let mut worker = pin!(workers.work(async |_: &Delivery<u32>| {
        time.advance(super::VISIBILITY);
        Settle::Ack
    }));
    assert!(look(worker.as_mut()).is_ready());
    let report = workers.report();
    assert_eq!((report.done, report.late), (0, 1));
}

/// A future that panics as it is dropped.
struct Grenade(Rc<RefCell<u32>>);

impl Future for Grenade {
    type Output = Settle;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Settle> {
        Poll::Ready(Settle::Ack)
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
        panic!("a destructor fails");
    }
}

/// Nor has it to be `Send`.
#[test]
fn a_future_that_panics_as_it_is_dropped_ends_no_worker() {
    let (queue, _time) = on_mock(100, |builder| at_once(builder.max_attempts(2)));
    queue.push(9).unwrap();
    queue.close();
    let panics = Rc::new(RefCell::new(0));
    let workers = TaskWorkers::new(&queue);
    let handler = async |_: &Delivery<u32>| Grenade(Rc::clone(&panics)).await;
    let mut worker = Box::pin(workers.work(handler));
    assert!(look(worker.as_mut()).is_ready());
    assert_eq!((*panics.borrow(), queue.dead_letters().len()), (2, 1));
    assert_eq!(workers.report().panicked, 2);
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
    for fails in [true, false] {
        queue.push(Fails(fails)).unwrap();
    }
    queue.close();
    let workers = TaskWorkers::new(&queue);
    let mut worker = pin!(workers.work(async |_: &Delivery<Fails>| Settle::Ack));
    assert!(look(worker.as_mut()).is_pending(), "it gives way");
    assert!(look(worker.as_mut()).is_ready());
    assert_eq!(queue.stats().acked, 2);
}
