//! What a message is to those who work on it.

use super::{TICK, VISIBILITY, at_once, done, on_mock, plain};
use crate::common::{HOUR, SECOND, panic_of};
use crate::loading::poll_once;
use haybox::MockClock;
use haybox::queue::{
    Delivery, Overflow, PopError, PushOptions, Pushed, Queue, ReceiptError, RequeueError,
};
use std::collections::BTreeSet;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

#[test]
fn messages_come_by_priority_and_in_the_order_in_which_they_are_due() {
    let (queue, time) = plain();
    let push = |value, delay, priority| {
        let options = PushOptions::new().delay(delay).priority(priority);
        queue.push_with(value, options).unwrap();
    };
    push(1, 2 * SECOND, 0);
    push(2, Duration::ZERO, -1);
    push(3, Duration::ZERO, 0);
    push(4, SECOND, 0);
    push(5, Duration::ZERO, 7);
    time.advance(3 * SECOND);
    push(6, Duration::ZERO, 0);
    let order = [(); 6].map(|()| done(queue.try_pop()));
    assert_eq!(order, [5, 3, 4, 1, 6, 2]);
}

#[test]
fn an_attempt_ends_on_the_exact_nanosecond_and_its_end_harms_nobody() {
    let (queue, time) = plain();
    let id = queue.push(1).unwrap();
    let slow = queue.try_pop().unwrap();
    assert!(!queue.is_empty());
    time.advance(VISIBILITY - TICK);
    assert_eq!(slow.remaining(), TICK);
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    time.advance(TICK);
    assert_eq!(slow.remaining(), Duration::ZERO);
    let quick = queue.try_pop().unwrap();
    assert_eq!((quick.id(), quick.attempt()), (id, 2));
    let stale = ReceiptError::Stale { id };
    assert_eq!(slow.extend(HOUR), Err(stale));
    assert_eq!(slow.ack(), Err(stale));
    assert_eq!(
        quick.remaining(),
        VISIBILITY,
        "it is not the other's to end"
    );
    quick.ack().unwrap();
    assert!(queue.is_empty());
}

#[test]
fn receipts_name_one_delivery_of_one_queue() {
    let (queue, time) = on_mock(100, at_once);
    let (other, _) = plain();
    for queue in [&queue, &other] {
        queue.push(1).unwrap();
    }
    let receipt = queue.try_pop().unwrap().into_receipt();
    let foreign = other.try_pop().unwrap().into_receipt();
    assert_eq!(queue.ack(foreign), Err(ReceiptError::Unknown));
    assert_eq!(queue.extend(foreign, HOUR), Err(ReceiptError::Unknown));
    assert_eq!(queue.fail(foreign, "wrong"), Err(ReceiptError::Unknown));
    queue.extend(receipt, 2 * VISIBILITY).unwrap();
    time.advance(VISIBILITY);
    queue.nack(receipt).unwrap();
    let stale = Err(ReceiptError::Stale { id: receipt.id() });
    assert_eq!(queue.ack(receipt), stale);
    assert_eq!(queue.nack_after(receipt, HOUR), stale);
    assert_eq!(queue.bury(receipt, "wrong"), stale);
    assert_eq!(queue.stats().ready, 1);
}

#[test]
fn a_worker_that_panics_gives_its_message_back() {
    let (queue, _time) = on_mock(100, at_once);
    queue.push(1).unwrap();
    queue.push(2).unwrap();
    let sentence = panic_of(|| {
        let _delivery = queue.try_pop().unwrap();
        panic!("the work fails");
    });
    assert_eq!(sentence, "the work fails");
    let again = queue.try_pop().unwrap();
    assert_eq!((*again, again.attempt()), (1, 2), "it keeps its place");
}

#[test]
fn a_poison_message_becomes_a_dead_letter_and_holds_nobody_up() {
    let (queue, _time) = on_mock(10, |builder| at_once(builder.max_attempts(3)));
    let poison = queue.push(0).unwrap();
    queue.push(1).unwrap();
    let mut attempts = 0;
    let done = loop {
        let delivery = queue.try_pop().unwrap();
        match *delivery {
            0 => delivery.fail(format!("attempt {attempts}")).unwrap(),
            value => {
                delivery.ack().unwrap();
                break value;
            }
        }
        attempts += 1;
    };
    assert_eq!((done, attempts), (1, 3));
    let dead = queue.dead_letters();
    assert_eq!((dead[0].id(), *dead[0], dead[0].attempts()), (poison, 0, 3));
    assert_eq!(dead[0].error(), Some("attempt 2"));
    assert!(queue.is_empty(), "it does not count towards the capacity");
    let copy = dead[0].clone();
    drop(dead);
    assert!(queue.purge(poison));
    assert_eq!((copy.id(), *copy, copy.attempts()), (poison, 0, 3));
    assert_eq!(copy.error(), Some("attempt 2"));
}

#[test]
fn what_fails_everybody_for_minutes_buries_nothing_by_default() {
    let (queue, time) = plain();
    let fails = [
        |delivery: Delivery<u32>| delivery.nack().unwrap(),
        |delivery: Delivery<u32>| delivery.fail("no mail server").unwrap(),
        |delivery: Delivery<u32>| drop(delivery),
    ];
    (0..3).for_each(|value| _ = queue.push(value).unwrap());
    let try_all = || {
        while let Ok(delivery) = queue.try_pop() {
            fails[*delivery as usize](delivery);
        }
    };
    for second in 0..511 {
        try_all();
        assert_eq!(queue.stats().delayed, 3, "after {second} s");
        time.advance(SECOND);
    }
    assert_eq!((queue.stats().delivered, queue.stats().ready), (27, 3));
    try_all();
    let dead = queue.dead_letters();
    assert!(dead.len() == 3 && dead.iter().all(|letter| letter.attempts() == 10));
}

#[test]
fn the_wait_for_another_attempt_doubles_up_to_minutes_by_default() {
    let (queue, time) = on_mock(1, |builder| builder.max_attempts(u32::MAX));
    queue.push(1).unwrap();
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        queue.try_pop().unwrap().nack().unwrap();
        time.advance(seconds * SECOND - TICK);
        assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty, "{seconds} s");
        time.advance(TICK);
    }
    // Who says when it is to come again is taken at his word.
    queue.try_pop().unwrap().nack_after(Duration::ZERO).unwrap();
    assert_eq!(queue.stats().ready, 1);
    let leaked = queue.try_pop().unwrap().into_receipt();
    time.advance(VISIBILITY);
    assert_eq!(queue.stats().ready, 1, "what took too long has waited");
    assert!(queue.ack(leaked).is_err());
}

#[test]
fn as_many_dead_letters_as_messages_are_kept_by_default() {
    let (queue, _time) = on_mock(3, |builder| builder);
    for value in 0..4 {
        let discarded = queue.stats().discarded;
        assert_eq!((queue.stats().dead, discarded), (value as usize, 0));
        queue.push(value).unwrap();
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    assert_eq!((queue.stats().dead, queue.stats().discarded), (3, 1));
    assert_eq!(*queue.dead_letters()[0], 1, "the oldest has gone");
}

#[test]
fn a_message_may_wait_any_number_of_times_without_an_attempt() {
    let (queue, time) = on_mock(10, |builder| builder.max_attempts(1));
    queue.push(1).unwrap();
    queue.push(2).unwrap();
    for _ in 0..20 {
        let early = queue.try_pop().unwrap();
        assert_eq!((*early, early.attempt()), (1, 1));
        early.release_after(SECOND).unwrap();
        done(queue.try_pop());
        assert!(queue.try_pop().is_err(), "its time has not come");
        queue.push(2).unwrap();
        time.advance(SECOND);
        // It was pushed before, and is due later.
        done(queue.try_pop());
        queue.push(2).unwrap();
    }
    let receipt = queue.try_pop().unwrap().into_receipt();
    queue.release_after(receipt, SECOND).unwrap();
    assert!(queue.release_after(receipt, SECOND).is_err());
    assert_eq!((queue.stats().delayed, queue.stats().dead), (1, 0));
    time.advance(SECOND);
    let mut texts = [0, 1].map(|number| {
        let delivery = queue.try_pop().unwrap();
        let text = format!("wrong {number}");
        match number {
            0 => delivery.fail_after(&text, SECOND).unwrap(),
            _ => queue
                .fail_after(delivery.into_receipt(), &text, SECOND)
                .unwrap(),
        }
        text
    });
    let dead = queue.dead_letters();
    let errors: Vec<_> = dead.iter().filter_map(|letter| letter.error()).collect();
    // The other one was pushed before.
    texts.reverse();
    assert_eq!(errors, texts);
}

#[test]
fn a_message_that_is_released_is_as_it_was_before() {
    let (queue, time) = on_mock(10, |builder| {
        builder.max_attempts(2).backoff(SECOND, SECOND)
    });
    queue.push(1).unwrap();
    queue.push(2).unwrap();
    queue.try_pop().unwrap().fail("wrong").unwrap();
    time.advance(SECOND);
    done(queue.try_pop());
    for _ in 0..5 {
        let last = queue.try_pop().unwrap();
        assert_eq!((*last, last.attempt()), (1, 2));
        last.release().unwrap();
    }
    let receipt = queue.try_pop().unwrap().into_receipt();
    queue.release(receipt).unwrap();
    assert!(matches!(
        queue.release(receipt),
        Err(ReceiptError::Stale { .. })
    ));
    let stats = queue.stats();
    assert_eq!((stats.ready, stats.failed, stats.released), (1, 1, 6));
    queue.try_pop().unwrap().nack().unwrap();
    assert_eq!(
        queue.dead_letters()[0].error(),
        None,
        "the last word was another's"
    );
    assert_eq!(queue.dead_letters()[0].attempts(), 2);
}

#[test]
fn dead_letters_are_bounded_and_can_be_sent_again_or_dropped() {
    let (queue, _time) = on_mock(2, |builder| builder.dead_letters(3));
    for value in 0..5 {
        queue.push(value).unwrap();
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    assert_eq!(queue.stats().discarded, 2);
    assert_eq!(queue.requeue_all(), 2, "as many as there is room for");
    let last = queue.dead_letters()[0].id();
    assert_eq!(queue.requeue(last), Err(RequeueError::Full));
    assert_eq!(queue.requeue(1), Err(RequeueError::NotDead));
    let again = queue.try_pop().unwrap();
    assert_eq!((*again, again.attempt()), (2, 1));
    again.ack().unwrap();
    assert!(!queue.purge(1) && queue.purge(last));
    queue.try_pop().unwrap().bury("still").unwrap();
    queue.close();
    let last = queue.dead_letters()[0].id();
    assert_eq!(queue.requeue(last), Err(RequeueError::Closed));
    assert_eq!((queue.purge_all(), queue.purge_all()), (1, 0));
}

#[test]
fn a_key_counts_while_its_message_is_there_and_for_its_window() {
    let (queue, time) = on_mock(10, |builder| builder.dedup_window(SECOND));
    let push = || {
        queue
            .push_with(1, PushOptions::new().dedup_key("report"))
            .unwrap()
    };
    let first = push();
    assert_eq!(push(), Pushed::Duplicate(first.id()));
    time.advance(HOUR);
    assert!(push().is_duplicate(), "it is still in the queue");
    queue.try_pop().unwrap().ack().unwrap();
    let second = push();
    assert!(!second.is_duplicate());
    queue.try_pop().unwrap().ack().unwrap();
    time.advance(SECOND - TICK);
    assert_eq!(
        push(),
        Pushed::Duplicate(second.id()),
        "done, but within the window"
    );
    time.advance(TICK);
    assert!(!push().is_duplicate());
    assert_eq!((queue.stats().duplicates, queue.stats().keys), (3, 1));
}

#[test]
fn a_dead_letter_that_is_requeued_counts_for_its_key_when_the_newer_message_is_done() {
    let (queue, time) = on_mock(10, |builder| builder.dedup_window(SECOND));
    let push = |value| {
        let key = PushOptions::new().dedup_key("report");
        queue.push_with(value, key).unwrap()
    };
    let first = push(1).id();
    queue.try_pop().unwrap().bury("poison").unwrap();
    time.advance(SECOND);
    let second = push(2);
    assert!(!second.is_duplicate());
    queue.requeue(first).unwrap();
    assert_eq!(push(3), Pushed::Duplicate(second.id()));
    assert_eq!(done(queue.try_pop()), 2);
    time.advance(SECOND);
    assert_eq!(push(3), Pushed::Duplicate(first), "it is in the queue");
    assert_eq!(done(queue.try_pop()), 1);
    assert!(!push(3).is_duplicate());
}

#[test]
fn a_dead_letter_that_is_requeued_comes_behind_what_was_pushed_at_the_same_moment() {
    let (queue, _time) = plain();
    let ids = [1, 2].map(|value| queue.push(value).unwrap());
    for _ in ids {
        queue.try_pop().unwrap().bury("poison").unwrap();
    }
    queue.push(3).unwrap();
    queue.requeue(ids[1]).unwrap();
    queue.push(4).unwrap();
    assert_eq!(queue.requeue_all(), 1);
    assert_eq!([(); 4].map(|()| done(queue.try_pop())), [3, 2, 4, 1]);
}

#[test]
fn a_key_is_forgotten_by_any_call_after_its_window() {
    let (queue, time) = on_mock(1000, |builder| builder.dedup_window(SECOND));
    for number in 0..100 {
        let options = PushOptions::new().dedup_key(number.to_string());
        queue.push_with(number, options).unwrap();
        queue.try_pop().unwrap().ack().unwrap();
    }
    assert_eq!(queue.stats().keys, 100);
    time.advance(SECOND);
    assert_eq!(queue.stats().keys, 0);
}

#[test]
fn a_full_queue_refuses_or_gives_up_the_oldest() {
    let (queue, _time) = on_mock(2, |builder| builder);
    queue.push(1).unwrap();
    let held = queue.try_pop().unwrap();
    queue.push(2).unwrap();
    let refused = queue.push(3).unwrap_err();
    assert!(refused.is_full());
    assert_eq!(
        (refused.to_string().as_str(), refused.into_inner()),
        ("the queue is full", Some(3))
    );
    held.ack().unwrap();
    queue.push(3).unwrap();

    let (queue, _time) = on_mock(2, |builder| builder.overflow(Overflow::DropOldest));
    queue.push(1).unwrap();
    queue.push_with(2, PushOptions::new().priority(1)).unwrap();
    queue.push(3).unwrap();
    let both = [queue.try_pop().unwrap(), queue.try_pop().unwrap()];
    assert_eq!(both.each_ref().map(|delivery| **delivery), [2, 3]);
    assert!(
        queue.push(4).unwrap_err().is_full(),
        "what is in flight is not given up"
    );
    assert_eq!(queue.stats().discarded, 1);
}

#[test]
fn a_watchdog_holds_for_deliveries_and_not_for_receipts() {
    let (queue, time) = on_mock(10, |builder| builder.watchdog(6 * VISIBILITY));
    queue.push(1).unwrap();
    let delivery = queue.try_pop().unwrap();
    time.advance(6 * VISIBILITY - TICK);
    assert_eq!(delivery.remaining(), TICK);
    let receipt = delivery.into_receipt();
    time.advance(VISIBILITY - TICK);
    queue.extend(receipt, SECOND).unwrap();
    time.advance(SECOND);
    assert!(queue.ack(receipt).is_err());
    let hangs = queue.try_pop().unwrap();
    time.advance(6 * VISIBILITY);
    assert_eq!(queue.try_pop().unwrap().attempt(), 3);
    assert!(hangs.ack().is_err());
}

#[test]
fn a_receipt_is_not_held_for_as_long_as_a_watchdog_may() {
    let (queue, time) = on_mock(10, |builder| builder.watchdog(6 * VISIBILITY));
    queue.push(1).unwrap();
    let receipt = queue.try_pop().unwrap().into_receipt();
    time.advance(VISIBILITY);
    assert!(queue.ack(receipt).is_err());
    assert_eq!(queue.try_pop().unwrap().attempt(), 2);
}

/// By the real clock, whose coarse readings lag.
#[test]
fn a_message_is_ready_as_soon_as_its_delay_is_over() {
    let (queue, delay) = (Queue::new(10).unwrap(), Duration::from_millis(2));
    for number in 0..10 {
        let options = PushOptions::new().delay(delay);
        queue.push_with(number, options).unwrap();
        let pushed = Instant::now();
        while pushed.elapsed() < delay {}
        assert_eq!(done(queue.try_pop()), number);
    }
}

#[test]
fn a_paused_queue_hands_out_nothing() {
    let (queue, _time) = plain();
    queue.push(1).unwrap();
    let held = queue.try_pop().unwrap();
    queue.pause();
    queue.push(2).unwrap();
    assert!(queue.is_paused());
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    held.ack().unwrap();
    queue.resume();
    assert!(!queue.is_paused());
    assert_eq!(*queue.try_pop().unwrap(), 2);
}

#[test]
fn steps_of_the_wall_clock_change_nothing() {
    let (queue, time) = plain();
    let options = PushOptions::new().delay(SECOND);
    queue.push_with(1, options).unwrap();
    time.set_system_time(SystemTime::UNIX_EPOCH + 1_000_000_000 * SECOND);
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    time.set_system_time(SystemTime::UNIX_EPOCH);
    time.advance(SECOND);
    assert_eq!(queue.try_pop().unwrap().remaining(), VISIBILITY);
}

#[test]
fn what_comes_later_than_the_clock_can_count_never_comes() {
    let (queue, time) = plain();
    let options = PushOptions::new().delay(Duration::MAX);
    queue.push_with(1, options).unwrap();
    queue.push(2).unwrap();
    queue.try_pop().unwrap().nack_after(Duration::MAX).unwrap();
    time.advance(HOUR * 1_000_000);
    assert_eq!(queue.stats().delayed, 2);
}

#[test]
fn a_batch_is_what_is_ready() {
    let (queue, _time) = on_mock(100, at_once);
    assert_eq!(
        queue.pop_many(3, Duration::ZERO).unwrap_err(),
        PopError::Empty
    );
    (0..5).for_each(|value| _ = queue.push(value).unwrap());
    let batch = queue.pop_many(3, Duration::ZERO).unwrap();
    assert_eq!(
        batch.iter().map(|delivery| **delivery).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(queue.pop_many(usize::MAX, Duration::ZERO).unwrap().len(), 2);
    assert!(queue.pop_many(0, Duration::MAX).unwrap().is_empty());
    drop(batch);
    assert_eq!(queue.pop_many(9, Duration::ZERO).unwrap().len(), 5);
}

#[test]
fn messages_are_dropped_once_and_with_no_lock_held() {
    struct Calls(Queue<Self>);
    impl Drop for Calls {
        fn drop(&mut self) {
            let _ = self.0.stats();
        }
    }
    let builder = Queue::<Calls>::builder(1).overflow(Overflow::DropOldest);
    let queue = builder.dead_letters(0).max_attempts(1).build().unwrap();
    let push = || queue.push(Calls(queue.clone())).unwrap();
    push();
    push();
    queue.try_pop().unwrap().ack().unwrap();
    push();
    queue.ack(queue.try_pop().unwrap().into_receipt()).unwrap();
    push();
    queue.try_pop().unwrap().fail("wrong").unwrap();
    let options = PushOptions::new().dedup_key("one");
    for _ in 0..2 {
        let pushed = queue.push_with(Calls(queue.clone()), options.clone());
        assert!(pushed.is_ok());
    }
    assert_eq!(queue.stats().discarded, 2);
}

/// A message whose destructor panics, if it is the first.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 == 1 {
            std::panic::resume_unwind(Box::new("it goes off"));
        }
    }
}

#[test]
fn a_destructor_that_panics_as_its_message_is_given_up_strands_no_other() {
    let time = MockClock::new();
    let builder = Queue::builder(10).max_attempts(1).dead_letters(0);
    let queue = builder.clock(time.clock()).build().unwrap();
    let discard_first = || {
        (1..4).for_each(|number| _ = queue.push(Bomb(number)).unwrap());
        queue.try_pop().unwrap().into_receipt();
        time.advance(VISIBILITY);
    };
    discard_first();
    let second = queue.try_pop().unwrap();
    assert_eq!((second.0, queue.stats().discarded), (2, 1));
    second.ack().unwrap();
    queue.try_pop().unwrap().ack().unwrap();
    discard_first();
    let Poll::Ready(Ok(second)) = poll_once(pin!(queue.pop_async())) else {
        panic!("a message is ready");
    };
    assert_eq!((second.0, queue.stats().in_flight), (2, 1));

    let small = Queue::builder(1).overflow(Overflow::DropOldest);
    let small = small.build().unwrap();
    let ids = [1, 2].map(|number| small.push(Bomb(number)).unwrap());
    assert_eq!((ids, small.stats().discarded), ([1, 2], 1));
}

#[test]
fn every_message_is_done_once_however_many_work_on_them() {
    let builder = Queue::<u64>::builder(100).overflow(Overflow::Block(Duration::MAX));
    let queue = at_once(builder).build().unwrap();
    let (messages, workers) = (2_000, 4);
    let mut done = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    while let Ok(delivery) = queue.pop() {
                        if delivery.attempt() == 1 && *delivery % 7 == 0 {
                            continue; // Forgotten, and so given back.
                        }
                        done.push(*delivery);
                        delivery.ack().unwrap();
                    }
                    done
                })
            })
            .collect();
        scope.spawn(|| (0..messages).for_each(|message| _ = queue.push(message).unwrap()));
        scope.spawn(|| {
            (messages..2 * messages).for_each(|message| _ = queue.push(message).unwrap())
        });
        while queue.stats().acked < 2 * messages {
            queue.wait_until_empty(SECOND);
            thread::yield_now();
        }
        queue.close();
        for thread in threads {
            done.extend(thread.join().unwrap());
        }
    });
    assert_eq!(done.len() as u64, 2 * messages);
    assert_eq!(
        done.iter().collect::<BTreeSet<_>>().len() as u64,
        2 * messages
    );
}
