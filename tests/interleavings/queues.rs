//! Queues.

use crate::common::{choice, ignore, seconds};
use crate::executor::block_on;
use crate::roles::pass_time;
use crate::schedules::check;
use haybox::MockClock;
use haybox::queue::{
    Delivery, Overflow, PopError, PushOptions, Queue, QueueBuilder, Settle, TaskWorkers,
};
use shuttle::thread::{scope, yield_now};
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const MESSAGES: u32 = 3;

fn queue(time: &MockClock, set: fn(QueueBuilder<u32>) -> QueueBuilder<u32>) -> Queue<u32> {
    let builder = Queue::builder(100).visibility_timeout(seconds(2));
    let built = set(builder.clock(time.clock())).build();
    built.expect("the settings are possible")
}

/// Pops as a thread or as a task.
fn pop(queue: &Queue<u32>) -> Result<Delivery<u32>, PopError> {
    match choice(4) {
        0 => queue.pop(),
        1 => queue.pop_timeout(seconds(1000)),
        2 => block_on(queue.pop_async()),
        _ => block_on(queue.pop_timeout_async(seconds(1000))),
    }
}

/// Begins to wait and gives up, perhaps after it was woken.
fn give_up(queue: &Queue<u32>) -> Option<Delivery<u32>> {
    let mut popping = pin!(queue.pop_async());
    for _ in 0..choice(3) {
        let polled = popping
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(popped) = polled {
            return popped.ok();
        }
        yield_now();
    }
    None
}

fn push(queue: &Queue<u32>, value: u32) {
    let delay = seconds(u64::from(choice(2)));
    let pushed = match choice(2) {
        0 => queue.push_with(value, PushOptions::new().delay(delay)),
        _ => block_on(queue.push_with_async(value, PushOptions::new().delay(delay))),
    };
    assert!(pushed.is_ok(), "there is room, sooner or later");
}

/// How often each message was acknowledged.
type Done = [AtomicU32; MESSAGES as usize];

/// What a worker may do with a message.
fn work(delivery: Delivery<u32>, queue: &Queue<u32>, done: &Done) {
    let value = *delivery as usize;
    if choice(4) == 0 {
        ignore(delivery.extend(seconds(3)));
    }
    match choice(6) {
        0 => drop(delivery),
        1 => ignore(delivery.nack_after(seconds(u64::from(choice(2))))),
        2 => mem::forget(delivery),
        3 => {
            let receipt = delivery.into_receipt();
            yield_now();
            if queue.ack(receipt).is_ok() {
                done[value].fetch_add(1, SeqCst);
            }
            assert!(queue.ack(receipt).is_err(), "acknowledged twice");
        }
        _ => {
            if delivery.ack().is_ok() {
                done[value].fetch_add(1, SeqCst);
            }
        }
    }
}

#[test]
fn each_message_is_acknowledged_once_or_is_a_dead_letter() {
    check("queue: delivery", || {
        let (time, ended) = (MockClock::new(), AtomicU32::new(0));
        let queue = queue(&time, |builder| builder.max_attempts(2));
        let done = Done::default();
        scope(|threads| {
            threads.spawn(|| (0..MESSAGES).for_each(|value| push(&queue, value)));
            for _ in 0..2 {
                threads.spawn(|| {
                    loop {
                        if choice(4) == 0 {
                            if let Some(delivery) = give_up(&queue) {
                                work(delivery, &queue, &done);
                            }
                            continue;
                        }
                        match pop(&queue) {
                            Ok(delivery) => work(delivery, &queue, &done),
                            Err(PopError::Closed) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    ended.fetch_add(1, SeqCst);
                });
            }
            threads.spawn(|| {
                // The others wait without the help of each other: time alone brings back what was
                // leaked.
                while queue.stats().pushed < u64::from(MESSAGES) || !queue.is_empty() {
                    time.advance(seconds(1));
                    yield_now();
                }
                queue.close();
                pass_time(&time, &ended, 2);
            });
        });
        for dead in queue.dead_letters() {
            assert_eq!(dead.attempts(), 2);
            assert_eq!(
                done[*dead as usize].fetch_add(1, SeqCst),
                0,
                "done and dead"
            );
        }
        for count in &done {
            assert_eq!(count.load(SeqCst), 1);
        }
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn a_full_queue_lets_everybody_in_without_the_help_of_time() {
    check("queue: room", || {
        let time = MockClock::new();
        let builder = Queue::builder(1).overflow(Overflow::Block(Duration::MAX));
        let small: Queue<u32> = builder.clock(time.clock()).build().expect("possible");
        scope(|threads| {
            for value in 0..2 {
                let small = &small;
                threads.spawn(move || {
                    for _ in 0..2 {
                        if choice(4) == 0 {
                            let pushing = pin!(small.push_async(7));
                            ignore(pushing.poll(&mut Context::from_waker(Waker::noop())));
                        }
                        assert!(block_on(small.push_async(value)).is_ok());
                    }
                });
            }
            threads.spawn(|| {
                let mut done = 0;
                while done < 4 {
                    let popped = if choice(4) == 0 {
                        give_up(&small)
                    } else {
                        pop(&small).ok()
                    };
                    let Some(delivery) = popped else { continue };
                    done += u32::from(*delivery != 7);
                    assert!(delivery.ack().is_ok());
                }
            });
        });
        while let Ok(delivery) = small.try_pop() {
            assert_eq!(*delivery, 7);
            assert!(delivery.ack().is_ok());
        }
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn nobody_waits_for_a_queue_that_is_closed() {
    check("queue: the end", || {
        let time = MockClock::new();
        let builder = Queue::builder(1).overflow(Overflow::Block(Duration::MAX));
        let queue: Queue<u32> = builder.clock(time.clock()).build().expect("possible");
        assert!(queue.push(1).is_ok());
        queue.pause();
        let (closing, future) = (queue.clone(), queue.pop_async());
        let (pusher, popper) = (queue.clone(), queue);
        scope(|threads| {
            threads.spawn(move || assert!(block_on(future).is_err()));
            threads.spawn(move || {
                let pushing = pusher.push_async(2);
                drop(pusher);
                assert!(block_on(pushing).is_err_and(|error| !error.is_full()));
            });
            threads.spawn(move || {
                let popping = popper.pop_timeout_async(seconds(1000));
                drop(popper);
                assert!(block_on(popping).is_err());
            });
            threads.spawn(move || {
                if choice(2) == 0 {
                    closing.close();
                }
                drop(closing);
            });
        });
        assert_eq!(time.timers(), 0);
    });
}

#[test]
fn who_has_stopped_all_workers_finds_none_at_work() {
    check("queue: stopping tasks", || {
        let time = MockClock::new();
        let queue = queue(&time, |builder| builder);
        let (workers, at_work) = (TaskWorkers::new(&queue), AtomicU32::new(0));
        let (first, second) = (workers.clone(), workers.clone());
        let handle = async |_: &Delivery<u32>| {
            at_work.fetch_add(1, SeqCst);
            yield_now();
            at_work.fetch_sub(1, SeqCst);
            Settle::Ack
        };
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| block_on(workers.work(handle)));
            }
            threads.spawn(|| (0..MESSAGES).for_each(|value| _ = queue.push(value)));
            for workers in [first, second] {
                let (queue, at_work) = (&queue, &at_work);
                threads.spawn(move || {
                    if choice(3) == 0 {
                        let stopping = pin!(workers.stop_async());
                        ignore(stopping.poll(&mut Context::from_waker(Waker::noop())));
                    }
                    if choice(2) == 0 {
                        yield_now();
                    }
                    let report = block_on(workers.stop_async());
                    let counts = queue.stats();
                    assert_eq!(at_work.load(SeqCst), 0);
                    assert_eq!((counts.acked, counts.in_flight), (report.done, 0));
                });
            }
        });
        assert_eq!(queue.stats().pushed, u64::from(MESSAGES));
    });
}
