//! Many threads at once.

use super::options;
use crate::common::{PATIENCE, is_full};
use crossbeam_channel::{bounded, select};
use haybox::pubsub::{Bus, NoMessage, Pattern, Slow};
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

#[test]
fn every_subscriber_hears_each_publisher_in_order() {
    let rounds: u32 = if is_full() { 20_000 } else { 2_000 };
    let bus = Bus::new();
    let pattern = Pattern::new("room.*").unwrap();
    let all = bus
        .subscribe_matching_with::<(u32, u32)>(&pattern, options(4, Slow::Block(Duration::MAX)))
        .unwrap();
    let exact = bus.topic::<(u32, u32)>("room.0").unwrap();
    let blocking = exact
        .subscribe_with(options(2, Slow::Block(Duration::MAX)))
        .unwrap();
    let dropping = exact.subscribe_with(options(2, Slow::DropOldest)).unwrap();
    thread::scope(|threads| {
        let publishers: Vec<_> = (0..3u32)
            .map(|publisher| {
                let bus = bus.clone();
                threads.spawn(move || {
                    let rooms = [0, 1].map(|room| bus.topic(&format!("room.{room}")).unwrap());
                    for round in 0..rounds {
                        let room = &rooms[(round % 2) as usize];
                        assert!(room.publish((publisher, round)) > 0);
                    }
                })
            })
            .collect();
        let all = threads.spawn(move || in_order(all.iter().map(|heard| heard.message)));
        let blocking = threads.spawn(move || in_order(blocking.iter()));
        let dropping = threads.spawn(move || (in_order(dropping.iter()), dropping.lost()));
        for publisher in publishers {
            publisher.join().unwrap();
        }
        drop((bus, exact));
        let (all, blocking) = (all.join().unwrap(), blocking.join().unwrap());
        assert_eq!((all, blocking), (3 * rounds, 3 * rounds / 2));
        let (heard, lost) = dropping.join().unwrap();
        assert_eq!(u64::from(heard) + lost, u64::from(3 * rounds / 2));
    });
}

/// Checks the order of each publisher's messages, and counts them.
fn in_order(messages: impl Iterator<Item = (u32, u32)>) -> u32 {
    let mut last = HashMap::new();
    let mut count = 0;
    for (publisher, round) in messages {
        let before = last.insert(publisher, round);
        assert!(before < Some(round), "{before:?} before {round}");
        count += 1;
    }
    count
}

#[test]
fn select_waits_for_several_topics_and_the_end() {
    let bus = Bus::new();
    let (numbers, words) = (
        bus.topic::<u32>("n").unwrap(),
        bus.topic::<&str>("w").unwrap(),
    );
    let (of_numbers, of_words) = (numbers.subscribe(), words.subscribe());
    let (stop, stopped) = bounded::<()>(0);
    let reader = thread::spawn(move || {
        let (mut sum, mut letters) = (0, 0);
        loop {
            select! {
                // One message for each ring: the bell rings again while there are more.
                recv(of_numbers.bell()) -> _ => match of_numbers.try_recv() {
                    Ok(number) => sum += number,
                    Err(NoMessage::Empty) => {}
                    Err(_) => return (sum, letters),
                },
                recv(of_words.bell()) -> _ => letters += of_words.try_iter().map(str::len).sum::<usize>(),
                recv(stopped) -> _ => drop(words.publish("end")),
                default(PATIENCE) => panic!("nothing comes any more"),
            }
            if letters >= 8 && sum >= 5_050 {
                bus.close();
            }
        }
    });
    (1..=100).for_each(|number| drop(numbers.publish(number)));
    stop.send(()).unwrap();
    let words = numbers;
    drop(words);
    drop(stop);
    assert_eq!(reader.join().unwrap().0, 5_050);
}

#[test]
fn the_bell_is_heard_for_what_was_there_before_it() {
    let bus = Bus::new();
    let topic = bus.topic::<u32>("n").unwrap();
    let subscription = topic.subscribe();
    topic.publish(1);
    assert!(!subscription.is_empty());
    assert!(topic.subscribe().bell().try_recv().is_err(), "of another");
    assert!(subscription.bell().try_recv().is_ok());
    assert_eq!(subscription.try_recv(), Ok(1));
    assert!(subscription.bell().try_recv().is_err());
    drop(bus);
    assert!(
        subscription.bell().recv().is_err(),
        "the end is heard for ever"
    );
    let ended = topic.subscribe();
    assert!(ended.bell().recv().is_err());
}
