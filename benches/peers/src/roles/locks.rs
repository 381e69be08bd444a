//! A lock by key: a lease of haybox's, which ends by itself, beside a mutex for each key in a
//! DashMap, which does not.

use super::{Contender, Job, KEYS, Threads, contender, some_key};
use crate::peers::redis::Server;
use dashmap::DashMap;
use haybox::lock::Locks;
use parking_lot::Mutex;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub fn jobs() -> Vec<Job> {
    vec![
        Job {
            id: "lock-own",
            label: "lock: take and give back, a key of the thread's own",
            threads: Threads::Chosen,
            contenders: || contenders(|thread, _| thread as u64),
            redis: |server| set_nx(server, |thread, _| thread as u64),
        },
        Job {
            id: "lock-contended",
            label: "lock: take and give back, one key for all",
            threads: Threads::Exactly(2),
            contenders: || contenders(|_, _| 7),
            redis: |server| set_nx(server, |_, _| 7),
        },
        Job {
            id: "lock-many",
            label: "lock: take and give back, 131,072 keys",
            threads: Threads::Chosen,
            contenders: || contenders(some_key),
            redis: |server| set_nx(server, some_key),
        },
    ]
}

fn contenders(key: fn(usize, usize) -> u64) -> Vec<Contender> {
    let locks = Locks::<u64>::new(Duration::from_secs(30)).expect("30 s are possible");
    let mutexes: DashMap<u64, Arc<Mutex<()>>, ahash::RandomState> = DashMap::default();
    for key in 0..KEYS {
        drop(locks.try_acquire(&key));
        mutexes.entry(key).or_default();
    }
    vec![
        contender("haybox", move |thread, operations| {
            for at in 0..operations {
                let lease = locks.acquire(&key(thread, at)).expect("nobody closes them");
                drop(black_box(lease));
            }
        }),
        contender("mutex-map", move |thread, operations| {
            for at in 0..operations {
                let mutex = mutexes
                    .get(&key(thread, at))
                    .map(|found| Arc::clone(&found));
                let mutex = mutex.expect("nobody takes them out");
                drop(black_box(mutex.lock()));
            }
        }),
    ]
}

/// The usual recipe without its script: whoever gives back compares first, which is one command
/// more than this.
fn set_nx(server: &Server, key: fn(usize, usize) -> u64) -> Result<Contender, String> {
    let connection = server.client()?;
    Ok(contender("redis", move |thread, operations| {
        for at in 0..operations {
            let name = format!("lock:{}", key(thread, at));
            let mut set = redis::cmd("SET");
            set.arg(&name).arg(at).arg("NX").arg("PX").arg(30_000);
            black_box(connection.ask::<Option<String>>(&set));
            connection.ask::<i64>(redis::cmd("DEL").arg(&name));
        }
    }))
}
