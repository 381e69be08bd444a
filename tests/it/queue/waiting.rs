//! Threads and tasks that wait for messages and for room.

use super::{VISIBILITY, done, on_mock, plain};
use crate::common::{PATIENCE, SECOND};
use crate::loading::{Wakes, block_on, poll, poll_once};
use haybox::queue::{Overflow, PopError, PushOptions, Queue};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

#[test]
fn a_message_wakes_one_of_those_who_wait_the_first() {
    let (queue, time) = plain();
    let tasks = [(); 3].map(|()| (Wakes::new(), Box::pin(queue.pop_async())));
    let [(first, mut one), (second, mut two), (third, mut three)] = tasks;
    assert!(poll(one.as_mut(), &first.1).is_pending());
    assert!(poll(two.as_mut(), &second.1).is_pending());
    assert!(poll(three.as_mut(), &third.1).is_pending());
    let woken = || [&first, &second, &third].map(|(wakes, _)| wakes.count());
    queue.push(1).unwrap();
    assert_eq!(woken(), [1, 0, 0]);
    queue.push(2).unwrap();
    assert_eq!(woken(), [1, 1, 0]);
    drop(one);
    assert_eq!(
        woken(),
        [1, 1, 1],
        "what the first was woken for is the third's"
    );
    assert_eq!(poll(three.as_mut(), &third.1).map(done), Poll::Ready(1));
    assert_eq!(poll(two.as_mut(), &second.1).map(done), Poll::Ready(2));
    drop((two, three));
    time.advance(VISIBILITY);
    assert_eq!(time.timers(), 0);
}

#[test]
fn who_is_too_late_for_a_message_keeps_its_turn() {
    let (queue, _time) = plain();
    let (first, second) = (Wakes::new(), Wakes::new());
    let (mut one, mut two) = (Box::pin(queue.pop_async()), Box::pin(queue.pop_async()));
    assert!(poll(one.as_mut(), &first.1).is_pending());
    assert!(poll(two.as_mut(), &second.1).is_pending());
    queue.push(1).unwrap();
    queue.try_pop().unwrap().ack().unwrap();
    assert!(poll(one.as_mut(), &first.1).is_pending());
    queue.push(2).unwrap();
    assert_eq!((first.0.count(), second.0.count()), (2, 0));
}

#[test]
fn a_dropped_future_loses_no_message() {
    let (queue, _time) = plain();
    let (wakes, waker) = Wakes::new();
    let mut popping = Box::pin(queue.pop_async());
    assert!(poll(popping.as_mut(), &waker).is_pending());
    queue.push(1).unwrap();
    assert_eq!(wakes.count(), 1);
    drop(popping);
    assert_eq!(queue.try_pop().unwrap().attempt(), 1);
}

#[test]
fn what_becomes_ready_by_time_wakes_who_waits() {
    let (queue, time) = plain();
    queue.push(1).unwrap();
    let _leaked = queue.try_pop().unwrap().into_receipt();
    let options = PushOptions::new().delay(SECOND);
    queue.push_with(2, options).unwrap();
    let (wakes, waker) = Wakes::new();
    let mut popping = Box::pin(queue.pop_async());
    assert!(poll(popping.as_mut(), &waker).is_pending());
    assert_eq!(time.timers(), 1);
    time.advance(SECOND);
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Ok(delayed)) = poll(popping.as_mut(), &waker) else {
        panic!("the delay is over")
    };
    assert_eq!((*delayed, time.timers()), (2, 0), "nobody waits any more");
    delayed.ack().unwrap();
    let mut popping = Box::pin(queue.pop_async());
    assert!(poll(popping.as_mut(), &waker).is_pending());
    time.advance(VISIBILITY);
    assert!(matches!(poll(popping.as_mut(), &waker), Poll::Ready(Ok(got)) if *got == 1));
}

#[test]
fn a_timer_does_not_lose_its_way_when_a_delivery_is_extended() {
    let (queue, time) = plain();
    queue.push(1).unwrap();
    let held = queue.try_pop().unwrap();
    let (wakes, waker) = Wakes::new();
    let mut popping = Box::pin(queue.pop_async());
    assert!(poll(popping.as_mut(), &waker).is_pending());
    held.extend(2 * VISIBILITY).unwrap();
    let receipt = held.into_receipt();
    time.advance(VISIBILITY);
    assert!(poll(popping.as_mut(), &waker).is_pending());
    let woken = wakes.count();
    time.advance(VISIBILITY);
    assert!(wakes.count() > woken);
    assert!(matches!(poll(popping.as_mut(), &waker), Poll::Ready(Ok(got)) if got.attempt() == 2));
    assert!(queue.ack(receipt).is_err());
}

#[test]
fn time_outs_end_on_the_clock_of_the_queue() {
    let (queue, time) = plain();
    assert_eq!(
        queue.pop_timeout(Duration::ZERO).unwrap_err(),
        PopError::Empty
    );
    let mut popping = pin!(queue.pop_timeout_async(SECOND));
    assert!(poll_once(popping.as_mut()).is_pending());
    time.advance(SECOND);
    assert!(matches!(
        poll_once(popping),
        Poll::Ready(Err(PopError::Empty))
    ));

    let real = Queue::<u32>::new(1).unwrap();
    let short = Duration::from_millis(1);
    assert_eq!(real.pop_timeout(short).unwrap_err(), PopError::Empty);
    assert_eq!(real.pop_many(5, short).unwrap_err(), PopError::Empty);
    assert_eq!(
        block_on(real.pop_timeout_async(short)).unwrap_err(),
        PopError::Empty
    );
}

#[test]
fn what_is_ready_just_as_the_time_is_up_is_had() {
    let (queue, time) = plain();
    let later = || PushOptions::new().delay(SECOND);
    queue.push_with(1, later()).unwrap();
    let mut popping = pin!(queue.pop_timeout_async(SECOND));
    assert!(poll_once(popping.as_mut()).is_pending());
    time.advance(SECOND);
    assert_eq!(poll_once(popping).map(done), Poll::Ready(1));
    queue.push_with(2, later()).unwrap();
    thread::scope(|threads| {
        let popping = threads.spawn(|| done(queue.pop_timeout(SECOND)));
        // One of the queue, one of the thread.
        while time.timers() < 2 {
            thread::yield_now();
        }
        time.advance(SECOND);
        assert_eq!(popping.join().unwrap(), 2);
    });
    queue.push(3).unwrap();
    let at_once = pin!(queue.pop_timeout_async(Duration::ZERO));
    assert_eq!(poll_once(at_once).map(done), Poll::Ready(3));
}

#[test]
fn pushes_wait_for_room_in_their_order_and_for_their_time() {
    let (queue, time) = on_mock(1, |builder| builder.overflow(Overflow::Block(SECOND)));
    queue.push(1).unwrap();
    let push = |value| Box::pin(queue.push_async(value));
    let (first, second) = (Wakes::new(), Wakes::new());
    let (mut one, mut two) = (push(2), push(3));
    assert!(poll(one.as_mut(), &first.1).is_pending());
    assert!(poll(two.as_mut(), &second.1).is_pending());
    queue.try_pop().unwrap().ack().unwrap();
    assert_eq!((first.0.count(), second.0.count()), (1, 0));
    let mut newcomer = push(4);
    assert!(
        poll_once(newcomer.as_mut()).is_pending(),
        "it is not its turn"
    );
    let polled = poll(two.as_mut(), &second.1);
    assert!(polled.is_pending(), "nobody has woken it");
    assert!(matches!(poll(one.as_mut(), &first.1), Poll::Ready(Ok(_))));
    time.advance(SECOND);
    let Poll::Ready(Err(refused)) = poll(two.as_mut(), &second.1) else {
        panic!("the time is up")
    };
    assert!(refused.is_full());
    assert_eq!(refused.into_inner(), Some(3));
    drop(newcomer);
    assert_eq!((queue.len(), time.timers()), (1, 0));
}

#[test]
fn many_are_pushed_as_each_by_itself() {
    let (queue, time) = on_mock(500, |builder| builder);
    assert_eq!(queue.push_many(Vec::new()).unwrap(), [0_u64; 0]);
    let ids = queue.push_many((0..450).collect()).unwrap();
    assert!(ids.is_sorted() && ids.len() == 450);
    let more = queue.push_many_async((450..600).collect());
    let error = block_on(more).unwrap_err();
    assert_eq!((error.pushed.len(), error.left.len()), (50, 99));
    assert!(error.error.is_full() && error.to_string().contains("after 50 messages"));
    assert_eq!(error.into_inner(), (500..600).collect::<Vec<_>>());
    let all = queue.pop_many(500, Duration::ZERO).unwrap();
    let popped = all.iter().map(|delivery| (**delivery, delivery.id()));
    assert!(popped.eq((0..500).zip(1..)));
    queue.close();
    let error = queue.push_many(vec![1, 2]).unwrap_err();
    assert!(error.pushed.is_empty() && !error.error.is_full());
    assert_eq!(error.into_inner(), [1, 2]);

    let (queue, _) = on_mock(2, |builder| builder.overflow(Overflow::DropOldest));
    assert_eq!(queue.push_many(vec![1, 2, 3]).unwrap(), [1, 2, 3]);
    assert_eq!([(); 2].map(|()| done(queue.try_pop())), [2, 3]);
    assert_eq!(time.timers(), 0);
}

#[test]
fn many_wait_for_room_in_turn() {
    let (queue, time) = on_mock(2, |builder| builder.overflow(Overflow::Block(SECOND)));
    let (wakes, waker) = Wakes::new();
    let mut pushing = Box::pin(queue.push_many_async((1..=6).collect()));
    for value in 1..=3 {
        assert!(poll(pushing.as_mut(), &waker).is_pending());
        let woken = wakes.count();
        assert_eq!(done(queue.try_pop()), value);
        assert_eq!(wakes.count(), woken + 1);
    }
    assert!(poll(pushing.as_mut(), &waker).is_pending());
    time.advance(SECOND);
    let Poll::Ready(Err(error)) = poll(pushing.as_mut(), &waker) else {
        panic!("the time is up")
    };
    assert_eq!(
        (error.pushed.as_slice(), error.error.is_full()),
        (&[1, 2, 3, 4, 5][..], true)
    );
    assert_eq!(error.into_inner(), [6]);
    let mut given_up = Box::pin(queue.push_many_async(vec![7, 8, 9]));
    done(queue.try_pop());
    assert!(poll(given_up.as_mut(), &waker).is_pending());
    drop(given_up);
    assert_eq!([(); 2].map(|()| done(queue.try_pop())), [5, 7]);
    assert_eq!((queue.len(), time.timers()), (0, 0));
}

#[test]
fn room_that_comes_by_time_wakes_a_push() {
    let (queue, time) = on_mock(1, |builder| {
        builder
            .overflow(Overflow::Block(Duration::MAX))
            .max_attempts(1)
    });
    queue.push(1).unwrap();
    let _leaked = queue.try_pop().unwrap().into_receipt();
    let (wakes, waker) = Wakes::new();
    let mut pushing = Box::pin(queue.push_async(2));
    assert!(poll(pushing.as_mut(), &waker).is_pending());
    time.advance(VISIBILITY);
    assert_eq!(wakes.count(), 1, "the first is a dead letter now");
    assert!(poll(pushing.as_mut(), &waker).is_ready());
    assert_eq!(queue.stats().dead, 1);
}

#[test]
fn what_is_cancelled_leaves_room_and_an_empty_queue() {
    let (queue, _time) = on_mock(1, |builder| builder.overflow(Overflow::Block(SECOND)));
    let (wakes, waker) = Wakes::new();
    let id = queue.push(1).unwrap();
    let mut pushing = Box::pin(queue.push_async(2));
    assert!(poll(pushing.as_mut(), &waker).is_pending());
    assert!(queue.cancel(id));
    assert_eq!(wakes.count(), 1);
    let second = block_on(pushing).unwrap();
    assert!(!queue.wait_until_empty(Duration::ZERO));
    let delivery = queue.try_pop().unwrap();
    assert!(!queue.cancel(second), "it is in flight");
    assert!(delivery.release().is_ok());
    assert!(queue.cancel(second));
    assert!(queue.wait_until_empty(Duration::ZERO));
}

/// Runs something on a thread and says when it has ended.
fn ends<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> mpsc::Receiver<R> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(run()));
    told
}

#[test]
fn everybody_who_waits_wakes_when_the_queue_is_closed() {
    let (queue, _time) = on_mock(1, |builder| {
        builder.overflow(Overflow::Block(Duration::MAX))
    });
    queue.push(1).unwrap();
    queue.pause();
    let handles = [(); 3].map(|()| queue.clone());
    let [popper, pusher, closer] = handles;
    let popped = ends(move || popper.pop().unwrap_err());
    let pushed = ends(move || pusher.push(2).unwrap_err());
    let task = queue.pop_async();
    let asked = ends(move || block_on(task).unwrap_err());
    closer.close();
    assert_eq!(popped.recv_timeout(PATIENCE), Ok(PopError::Closed));
    assert_eq!(asked.recv_timeout(PATIENCE), Ok(PopError::Closed));
    let refused = pushed.recv_timeout(PATIENCE).unwrap();
    assert_eq!((refused.is_full(), refused.into_inner()), (false, Some(2)));
    queue.resume();
    assert_eq!(*queue.pop().unwrap(), 1, "what is ready can still be had");
}

#[test]
fn who_waits_wakes_when_the_last_handle_is_dropped() {
    let (queue, time) = plain();
    queue.push(1).unwrap();
    let held = queue.try_pop().unwrap();
    let tasks = [(); 2].map(|()| queue.pop_timeout_async(SECOND));
    let ended = tasks.map(|task| ends(move || block_on(task).unwrap_err()));
    drop(queue.clone());
    drop(queue);
    for ended in ended {
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(PopError::Closed));
    }
    held.ack().unwrap();
    assert_eq!(time.timers(), 0);
}

#[test]
fn emptiness_can_be_waited_for() {
    let (queue, _time) = plain();
    assert!(queue.wait_until_empty(Duration::ZERO));
    queue.push(1).unwrap();
    assert!(!queue.wait_until_empty(Duration::ZERO));
    let other = queue.clone();
    let empty = ends(move || other.wait_until_empty(Duration::MAX));
    queue.try_pop().unwrap().ack().unwrap();
    assert_eq!(empty.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn who_waits_for_emptiness_is_woken_when_the_last_attempt_takes_too_long() {
    let (queue, time) = on_mock(10, |builder| builder.max_attempts(1));
    queue.push(1).unwrap();
    let _held = queue.try_pop().unwrap();
    let other = queue.clone();
    let empty = ends(move || other.wait_until_empty(Duration::MAX));
    while time.timers() == 0 {
        thread::yield_now();
    }
    time.advance(VISIBILITY);
    assert_eq!(empty.recv_timeout(PATIENCE), Ok(true));
}
