//! A message to many: a topic of haybox's beside tokio's broadcast channel, and beside a channel for
//! each subscriber.

use super::{Contender, Job, Threads, contender};
use crate::peers::redis::{Server, Subscriber};
use haybox::pubsub::{Bus, Subscription};
use parking_lot::Mutex;
use std::hint::black_box;

pub fn jobs() -> Vec<Job> {
    vec![
        fan_out(
            "publish-1",
            "publish: a message to 1 subscriber, and received",
            contenders::<1>,
            |server| publish(server, 1),
        ),
        fan_out(
            "publish-10",
            "publish: a message to 10 subscribers, and received",
            contenders::<10>,
            |server| publish(server, 10),
        ),
        fan_out(
            "publish-100",
            "publish: a message to 100 subscribers, and received",
            contenders::<100>,
            |server| publish(server, 100),
        ),
        Job {
            id: "publish-answer",
            label: "publish: a message to a thread that waits, which answers",
            threads: Threads::Exactly(2),
            contenders: answers,
            redis: |server| publish(server, 1),
        },
    ]
}

fn fan_out(
    id: &'static str,
    label: &'static str,
    contenders: fn() -> Vec<Contender>,
    redis: fn(&Server) -> Result<Contender, String>,
) -> Job {
    Job {
        id,
        label,
        threads: Threads::Exactly(1),
        contenders,
        redis,
    }
}

/// So many messages are published before the subscribers read them.
const BATCH: usize = 64;

const CAPACITY: usize = 256;

/// Publishes by `publish`, has every subscriber read by `receive`.
fn deliver<R>(
    operations: usize,
    receivers: &mut [R],
    publish: impl Fn(u64),
    receive: impl Fn(&mut R) -> u64,
) {
    for first in (0..operations).step_by(BATCH) {
        let batch = BATCH.min(operations - first);
        for at in first..first + batch {
            publish(at as u64);
        }
        for receiver in receivers.iter_mut() {
            for _ in 0..batch {
                black_box(receive(receiver));
            }
        }
    }
}

const ALL_COME: &str = "every message reaches everybody";

fn contenders<const N: usize>() -> Vec<Contender> {
    vec![of_haybox(N), of_broadcast(N), of_flume(N), of_crossbeam(N)]
}

fn of_haybox(subscribers: usize) -> Contender {
    let bus = Bus::new();
    let topic = bus.topic::<u64>("news").expect("it has no other type");
    let receivers: Vec<Subscription<u64>> = (0..subscribers).map(|_| topic.subscribe()).collect();
    let receivers = Mutex::new(receivers);
    contender("haybox", move |_, operations| {
        let _ = &bus;
        let publish = |message| assert_eq!(topic.publish(message), subscribers);
        deliver(operations, &mut receivers.lock(), publish, |receiver| {
            receiver.try_recv().expect(ALL_COME)
        });
    })
}

fn of_broadcast(subscribers: usize) -> Contender {
    let (sender, first) = tokio::sync::broadcast::channel(CAPACITY);
    let mut receivers = vec![first];
    receivers.resize_with(subscribers, || sender.subscribe());
    let receivers = Mutex::new(receivers);
    contender("broadcast", move |_, operations| {
        let publish = |message| assert_eq!(sender.send(message).ok(), Some(subscribers));
        deliver(operations, &mut receivers.lock(), publish, |receiver| {
            receiver.try_recv().expect(ALL_COME)
        });
    })
}

fn of_flume(subscribers: usize) -> Contender {
    let channels = (0..subscribers).map(|_| flume::bounded(CAPACITY));
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
    let receivers = Mutex::new(receivers);
    contender("flume", move |_, operations| {
        let publish = |message| {
            let sent = senders.iter().filter(|to| to.try_send(message).is_ok());
            assert_eq!(sent.count(), subscribers);
        };
        deliver(operations, &mut receivers.lock(), publish, |receiver| {
            receiver.try_recv().expect(ALL_COME)
        });
    })
}

fn of_crossbeam(subscribers: usize) -> Contender {
    let channels = (0..subscribers).map(|_| crossbeam_channel::bounded(CAPACITY));
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
    let receivers = Mutex::new(receivers);
    contender("crossbeam-channel", move |_, operations| {
        let publish = |message| {
            let sent = senders.iter().filter(|to| to.try_send(message).is_ok());
            assert_eq!(sent.count(), subscribers);
        };
        deliver(operations, &mut receivers.lock(), publish, |receiver| {
            receiver.try_recv().expect(ALL_COME)
        });
    })
}

// ---- a question and its answer ----

/// Two threads that wait for each other in turns; each operation of a thread is one message there
/// and one back.
fn answers() -> Vec<Contender> {
    let bus = Bus::new();
    let topic = |name: &str| bus.topic::<u64>(name).expect("it has no other type");
    let topics = [topic("ask"), topic("answer")];
    let subscriptions = topics.each_ref().map(|topic| topic.subscribe());
    let ours = contender("haybox", move |thread, operations| {
        let _ = &bus;
        let send = |message| assert_eq!(topics[thread].publish(message), 1);
        converse(thread, operations, send, || {
            subscriptions[1 - thread].recv().expect(ALL_COME)
        });
    });

    let channels = [(); 2].map(|()| tokio::sync::broadcast::channel(CAPACITY));
    let channels = channels.map(|(sender, receiver)| (sender, Mutex::new(receiver)));
    let broadcast = contender("broadcast", move |thread, operations| {
        let send = |message| assert_eq!(channels[thread].0.send(message).ok(), Some(1));
        let mut receiver = channels[1 - thread].1.lock();
        converse(thread, operations, send, || {
            receiver.blocking_recv().expect(ALL_COME)
        });
    });

    let channels = [(); 2].map(|()| flume::bounded(CAPACITY));
    let flume = contender("flume", move |thread, operations| {
        let send = |message| channels[thread].0.send(message).expect(ALL_COME);
        converse(thread, operations, send, || {
            channels[1 - thread].1.recv().expect(ALL_COME)
        });
    });

    let channels = [(); 2].map(|()| crossbeam_channel::bounded(CAPACITY));
    let crossbeam = contender("crossbeam-channel", move |thread, operations| {
        let send = |message| channels[thread].0.send(message).expect(ALL_COME);
        converse(thread, operations, send, || {
            channels[1 - thread].1.recv().expect(ALL_COME)
        });
    });
    vec![ours, broadcast, flume, crossbeam]
}

fn converse(
    thread: usize,
    operations: usize,
    send: impl Fn(u64),
    mut receive: impl FnMut() -> u64,
) {
    for at in 0..operations {
        if thread == 0 {
            send(at as u64);
            black_box(receive());
        } else {
            black_box(receive());
            send(at as u64);
        }
    }
}

// ---- Redis ----

fn publish(server: &Server, subscribers: usize) -> Result<Contender, String> {
    let connection = server.client()?;
    let channel = format!("news-{subscribers}");
    let receivers = (0..subscribers).map(|_| server.subscribe(&channel));
    let receivers = Mutex::new(receivers.collect::<Result<Vec<Subscriber>, String>>()?);
    Ok(contender("redis", move |_, operations| {
        let publish = |message: u64| {
            let mut command = redis::cmd("PUBLISH");
            let received: usize = connection.ask(command.arg(&channel).arg(message));
            assert_eq!(received, subscribers);
        };
        deliver(operations, &mut receivers.lock(), publish, |receiver| {
            receiver.receive()
        });
    }))
}
