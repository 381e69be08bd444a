//! Subscribers and publishers that are tasks, polled by hand or by a runtime.

use super::{numbers, options, until_waiting};
use crate::common::SECOND;
use haybox::pubsub::{Bus, NoMessage, Slow};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn waker() -> (Waker, Arc<Woken>) {
    let woken = Arc::new(Woken::default());
    (Waker::from(Arc::clone(&woken)), woken)
}

#[test]
fn a_task_is_woken_once_for_what_comes() {
    let (bus, topic, _time) = numbers();
    let mut subscription = topic.subscribe();
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    assert!(subscription.poll_recv(&mut context).is_pending());
    topic.publish(1);
    topic.publish(2);
    assert_eq!(woken.0.load(SeqCst), 1);
    assert_eq!(subscription.poll_recv(&mut context), Poll::Ready(Some(1)));
    assert_eq!(subscription.poll_recv(&mut context), Poll::Ready(Some(2)));
    assert!(subscription.poll_recv(&mut context).is_pending());
    drop(bus);
    assert_eq!(woken.0.load(SeqCst), 2);
    assert_eq!(subscription.poll_recv(&mut context), Poll::Ready(None));
    drop(subscription);
    assert_eq!(Arc::strong_count(&woken), 2, "no waker is left behind");
}

#[test]
fn a_task_that_waits_is_woken_when_its_subscription_is_closed() {
    let (_bus, topic, _time) = numbers();
    let mut subscription = topic.subscribe();
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    assert!(subscription.poll_recv(&mut context).is_pending());
    {
        let mut receive = pin!(subscription.recv_async());
        assert!(receive.as_mut().poll(&mut context).is_pending());
        subscription.close();
        assert_eq!(woken.0.load(SeqCst), 2);
        let received = receive.as_mut().poll(&mut context);
        assert_eq!(received, Poll::Ready(Err(NoMessage::Closed)));
    }
    assert_eq!(subscription.poll_recv(&mut context), Poll::Ready(None));
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let (_bus, topic, _time) = numbers();
    let subscription = topic.subscribe();
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    {
        let mut receive = pin!(subscription.recv_async());
        assert!(receive.as_mut().poll(&mut context).is_pending());
        topic.publish(1);
    }
    assert_eq!(woken.0.load(SeqCst), 1);
    assert_eq!(subscription.try_recv(), Ok(1));
    {
        let mut receive = pin!(subscription.recv_async());
        assert!(receive.as_mut().poll(&mut context).is_pending());
    }
    topic.publish(2);
    assert_eq!(woken.0.load(SeqCst), 1, "who has gone is not woken");
    assert_eq!(Arc::strong_count(&woken), 2);
}

#[test]
fn a_subscriber_may_publish_from_inside_its_waker() {
    struct Answers(Bus);
    impl Wake for Answers {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.topic("numbers").unwrap().publish(2u32), 1);
        }
    }
    let bus = Bus::new();
    let topic = bus.topic::<u32>("numbers").unwrap();
    let mut subscription = topic.subscribe();
    let waker = Waker::from(Arc::new(Answers(bus.clone())));
    assert!(
        subscription
            .poll_recv(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert_eq!(topic.publish(1), 1);
    assert_eq!(subscription.try_iter().collect::<Vec<_>>(), [1, 2]);
}

/// A task that waits, its waker, and the count of its wake-ups.
type Waits<F> = (Pin<Box<F>>, Waker, Arc<Woken>);

/// So many tasks that have been polled once and wait.
fn waiting<F: Future>(count: u32, task: impl Fn(u32) -> F) -> Vec<Waits<F>> {
    let start = |number| {
        let (waker, woken) = waker();
        let mut task = Box::pin(task(number));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        (task, waker, woken)
    };
    (0..count).map(start).collect()
}

#[test]
fn publishers_get_room_in_turn_and_one_is_woken_for_each_place() {
    let (_bus, topic, _time) = numbers();
    let slow = topic
        .subscribe_with(options(1, Slow::Block(Duration::MAX)))
        .unwrap();
    topic.publish(100);
    let mut tasks = waiting(5, |number| topic.publish_async(number));
    let counts: Vec<_> = tasks.iter().map(|task| Arc::clone(&task.2)).collect();
    let wakes = || counts.iter().map(|woken| woken.0.load(SeqCst));
    assert_eq!(slow.try_recv(), Ok(100));
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 0, 0, 0, 0]);
    // Neither who comes now nor who was not woken gets the place of the first.
    let mut late = waiting(1, |_| topic.publish_async(5));
    let (second, waker, _) = &mut tasks[1];
    let polled = second.as_mut().poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
    // Who goes hands its place on.
    drop(tasks.remove(0));
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 1, 0, 0, 0]);
    tasks.append(&mut late);
    for (number, (mut task, waker, _)) in (1..).zip(tasks) {
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Ready(1));
        assert_eq!(slow.try_recv(), Ok(number));
    }
    assert_eq!(wakes().sum::<usize>(), 5);
    assert_eq!((topic.publish(6), slow.lost()), (1, 1));
}

#[test]
fn several_places_at_once_wake_as_many_publishers() {
    let (_bus, topic, _time) = numbers();
    let slow = topic
        .subscribe_with(options(2, Slow::Block(Duration::MAX)))
        .unwrap();
    topic.publish(100);
    topic.publish(101);
    let tasks = waiting(3, |number| topic.publish_async(number));
    let wakes = || tasks.iter().map(|task| task.2.0.load(SeqCst));
    assert_eq!(slow.drain(&mut Vec::new(), 2), Ok(2));
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 1, 0]);
    slow.close();
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_message_wakes_the_reader_that_has_waited_longest() {
    let (_bus, topic, _time) = numbers();
    let subscription = topic.subscribe();
    let mut tasks = waiting(3, |_| subscription.recv_async());
    let counts: Vec<_> = tasks.iter().map(|task| Arc::clone(&task.2)).collect();
    let wakes = || counts.iter().map(|woken| woken.0.load(SeqCst));
    topic.publish(1);
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 0, 0]);
    // One that finds nothing keeps its turn.
    assert_eq!(subscription.try_recv(), Ok(1));
    let (first, waker, _) = &mut tasks[0];
    let polled = first.as_mut().poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
    topic.publish(2);
    assert_eq!(wakes().collect::<Vec<_>>(), [2, 0, 0]);
    // One that goes hands its message on.
    drop(tasks.remove(0));
    assert_eq!(wakes().collect::<Vec<_>>(), [2, 1, 0]);
    topic.publish(3);
    assert_eq!(wakes().collect::<Vec<_>>(), [2, 1, 1]);
    for (number, (mut task, waker, _)) in (2..).zip(tasks) {
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Ready(Ok(number)));
    }
}

#[test]
fn who_has_polled_and_does_not_come_back_keeps_no_message_from_others() {
    let (_bus, topic, _time) = numbers();
    let mut subscription = topic.subscribe();
    let noop = &mut Context::from_waker(Waker::noop());
    assert!(subscription.poll_recv(noop).is_pending());
    let tasks = waiting(2, |_| subscription.recv_async());
    let wakes = || tasks.iter().map(|task| task.2.0.load(SeqCst));
    topic.publish(1);
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 0]);
    topic.publish(2);
    assert_eq!(wakes().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_task_that_publishes_waits_without_its_thread() {
    let (_bus, topic, time) = numbers();
    let slow = topic
        .subscribe_with(options(1, Slow::Block(SECOND)))
        .unwrap();
    topic.publish(1);
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    {
        let mut publish = pin!(topic.publish_async(2));
        assert!(publish.as_mut().poll(&mut context).is_pending());
        assert_eq!(slow.try_recv(), Ok(1));
        assert_eq!(woken.0.load(SeqCst), 1);
        assert_eq!(publish.as_mut().poll(&mut context), Poll::Ready(1));
    }
    {
        let mut publish = pin!(topic.publish_async(3));
        assert!(publish.as_mut().poll(&mut context).is_pending());
        time.advance(SECOND);
        assert_eq!(woken.0.load(SeqCst), 2);
        assert_eq!(publish.as_mut().poll(&mut context), Poll::Ready(0));
    }
    {
        let mut publish = pin!(topic.publish_async(4));
        assert!(publish.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!((slow.lost(), slow.try_recv(), time.timers()), (2, Ok(2), 0));
    assert_eq!(Arc::strong_count(&woken), 2);
}

#[test]
fn who_reads_many_messages_makes_room_for_who_waits() {
    let (_bus, topic, _time) = numbers();
    let slow = options(2, Slow::Block(SECOND));
    let slow = topic.subscribe_with(slow).unwrap();
    assert_eq!(topic.publish(1) + topic.publish(2), 2);
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    let mut publish = pin!(topic.publish_async(3));
    assert!(publish.as_mut().poll(&mut context).is_pending());
    let mut read = Vec::new();
    assert_eq!(slow.drain(&mut read, usize::MAX), Ok(2));
    assert_eq!(woken.0.load(SeqCst), 1);
    assert_eq!(publish.as_mut().poll(&mut context), Poll::Ready(1));
    assert_eq!(slow.drain(&mut read, usize::MAX), Ok(1));
    assert_eq!(read, [1, 2, 3]);
}

#[test]
fn readers_are_woken_before_the_publisher_waits_for_others() {
    let (_bus, topic, time) = numbers();
    let mut quick = topic.subscribe();
    let slow = [1, 3].map(|seconds| {
        let options = options(1, Slow::Block(SECOND * seconds));
        topic.subscribe_with(options).unwrap()
    });
    topic.publish(1);
    assert_eq!(quick.try_recv(), Ok(1));
    let (reader, heard) = waker();
    let mut reading = Context::from_waker(&reader);
    assert!(quick.poll_recv(&mut reading).is_pending());
    let (publisher, _) = waker();
    let mut publishing = Context::from_waker(&publisher);
    let mut publish = Box::pin(topic.publish_async(2));
    assert!(publish.as_mut().poll(&mut publishing).is_pending());
    assert_eq!(heard.0.load(SeqCst), 1);
    assert_eq!(quick.poll_recv(&mut reading), Poll::Ready(Some(2)));
    // One gives up before the other.
    time.advance(SECOND);
    assert!(publish.as_mut().poll(&mut publishing).is_pending());
    assert_eq!(slow.each_ref().map(|slow| slow.lost()), [1, 0]);
    // The end of a topic loses nothing that was in it.
    topic.close();
    drop(publish);
    assert_eq!(slow.each_ref().map(|slow| slow.lost()), [1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_runtime_hear_everything_in_order() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("numbers").unwrap();
    let options = options(8, Slow::Block(std::time::Duration::MAX));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let subscription = topic.subscribe_with(options).unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                while let Ok(number) = subscription.recv_async().await {
                    heard.push(number);
                }
                assert_eq!(subscription.recv_async().await, Err(NoMessage::Closed));
                heard
            })
        })
        .collect();
    for number in 0..500 {
        assert_eq!(topic.publish_async(number).await, 3);
    }
    drop(bus);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn a_thread_and_a_task_share_a_subscription() {
    let (_bus, topic, time) = numbers();
    let subscription = topic.subscribe();
    let (waker, woken) = waker();
    let mut context = Context::from_waker(&waker);
    let mut receive = pin!(subscription.recv_async());
    assert!(receive.as_mut().poll(&mut context).is_pending());
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| subscription.recv_timeout(SECOND));
        until_waiting(&time, 1);
        topic.publish(1);
        topic.publish(2);
        let thread = waiting.join().unwrap().unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
        let Poll::Ready(Ok(task)) = receive.as_mut().poll(&mut context) else {
            panic!("there are two messages for two readers");
        };
        assert_eq!(thread + task, 3);
    });
}

#[cfg(feature = "stream")]
#[test]
fn a_subscription_is_a_stream() {
    use futures_core::Stream;
    let (bus, topic, _time) = numbers();
    let mut subscription = pin!(topic.subscribe());
    let mut context = Context::from_waker(Waker::noop());
    topic.publish(1);
    assert_eq!(
        subscription.as_mut().poll_next(&mut context),
        Poll::Ready(Some(1))
    );
    assert!(subscription.as_mut().poll_next(&mut context).is_pending());
    drop(bus);
    assert_eq!(
        subscription.as_mut().poll_next(&mut context),
        Poll::Ready(None)
    );
}
