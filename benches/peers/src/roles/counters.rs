//! A counter by key: haybox's stripes beside one atomic for each key in a DashMap.

use super::{Contender, Job, KEYS, Threads, contender, incr, some_key};
use dashmap::DashMap;
use haybox::counter::Counters;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub fn jobs() -> Vec<Job> {
    vec![
        Job {
            id: "counter-hot",
            label: "counter: one more, one key",
            threads: Threads::Chosen,
            contenders: || contenders(|_, _| 7),
            redis: |server| incr(server, "counter", |_, _| 7),
        },
        Job {
            id: "counter-many",
            label: "counter: one more, 131,072 keys",
            threads: Threads::Chosen,
            contenders: || contenders(some_key),
            redis: |server| incr(server, "counter", some_key),
        },
    ]
}

fn contenders(key: fn(usize, usize) -> u64) -> Vec<Contender> {
    let counters: Counters<u64> = Counters::new();
    let atomics: DashMap<u64, AtomicU64, ahash::RandomState> = DashMap::default();
    for key in 0..KEYS {
        counters.incr(&key);
        atomics.insert(key, AtomicU64::new(1));
    }
    vec![
        contender("haybox", move |thread, operations| {
            for at in 0..operations {
                counters.incr(&key(thread, at));
            }
        }),
        contender("atomic-map", move |thread, operations| {
            for at in 0..operations {
                let counter = atomics.get(&key(thread, at));
                let counter = counter.expect("nobody takes them out");
                black_box(counter.fetch_add(1, Relaxed));
            }
        }),
    ]
}
