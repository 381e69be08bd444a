//! A queue: a message is pushed, handed out and acknowledged. Channels, which forget what they have
//! handed out, are the floor.

use super::{Contender, Job, Threads, contender};
use crate::peers::redis::Server;
use haybox::queue::Queue;
use std::hint::black_box;

pub fn jobs() -> Vec<Job> {
    vec![
        Job {
            id: "queue-own",
            label: "queue: push, pop and acknowledge",
            threads: Threads::Chosen,
            contenders: in_turns,
            redis: |server| push_pop(server, "queue"),
        },
        Job {
            id: "queue-across",
            label: "queue: a message from one thread to another",
            threads: Threads::Exactly(2),
            contenders: across,
            redis: |server| push_pop(server, "queue"),
        },
    ]
}

const CAPACITY: usize = 1024;

const IT_IS_OPEN: &str = "nobody closes it";

fn queue() -> Queue<u64> {
    let queue = Queue::builder(CAPACITY).build();
    queue.expect("a queue of this capacity is possible")
}

/// Every thread pushes and pops; a message may go to another thread than the one that pushed it.
fn in_turns() -> Vec<Contender> {
    let queue = queue();
    let (into_flume, of_flume) = flume::bounded(CAPACITY);
    let (into_crossbeam, of_crossbeam) = crossbeam_channel::bounded(CAPACITY);
    vec![
        contender("haybox", move |_, operations| {
            for at in 0..operations as u64 {
                queue.push(at).expect(IT_IS_OPEN);
                let delivery = queue.pop().expect(IT_IS_OPEN);
                black_box(*delivery);
                delivery.ack().expect("its time is not up");
            }
        }),
        contender("flume", move |_, operations| {
            for at in 0..operations as u64 {
                into_flume.send(at).expect(IT_IS_OPEN);
                black_box(of_flume.recv().expect(IT_IS_OPEN));
            }
        }),
        contender("crossbeam-channel", move |_, operations| {
            for at in 0..operations as u64 {
                into_crossbeam.send(at).expect(IT_IS_OPEN);
                black_box(of_crossbeam.recv().expect(IT_IS_OPEN));
            }
        }),
    ]
}

/// One thread sends as many as the other takes; who is faster waits.
fn across() -> Vec<Contender> {
    let queue = queue();
    let (into_flume, of_flume) = flume::bounded(CAPACITY);
    let (into_crossbeam, of_crossbeam) = crossbeam_channel::bounded(CAPACITY);
    vec![
        contender("haybox", move |thread, operations| {
            let push = |at| {
                let mut pushed = queue.push(at);
                while pushed.is_err() {
                    std::thread::yield_now();
                    pushed = queue.push(at);
                }
            };
            hand_over(thread, operations, push, || {
                let delivery = queue.pop().expect(IT_IS_OPEN);
                let value = *delivery;
                delivery.ack().expect("its time is not up");
                value
            });
        }),
        contender("flume", move |thread, operations| {
            let push = |at| into_flume.send(at).expect(IT_IS_OPEN);
            hand_over(thread, operations, push, || {
                of_flume.recv().expect(IT_IS_OPEN)
            });
        }),
        contender("crossbeam-channel", move |thread, operations| {
            let push = |at| into_crossbeam.send(at).expect(IT_IS_OPEN);
            hand_over(thread, operations, push, || {
                of_crossbeam.recv().expect(IT_IS_OPEN)
            });
        }),
    ]
}

fn hand_over(thread: usize, operations: usize, push: impl Fn(u64), pop: impl Fn() -> u64) {
    for at in 0..operations as u64 {
        if thread == 0 {
            push(at);
        } else {
            black_box(pop());
        }
    }
}

/// Redis's list as a queue, whose messages are gone with the worker that took them.
fn push_pop(server: &Server, name: &'static str) -> Result<Contender, String> {
    let connection = server.client()?;
    Ok(contender("redis", move |_, operations| {
        for at in 0..operations {
            connection.ask::<i64>(redis::cmd("LPUSH").arg(name).arg(at));
            let popped: Option<(String, u64)> =
                connection.ask(redis::cmd("BRPOP").arg(name).arg(1));
            black_box(popped.expect("there is one"));
        }
    }))
}
