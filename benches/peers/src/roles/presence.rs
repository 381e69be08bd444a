//! A heartbeat: no crate does this, so that beside haybox stands what a map of times would cost,
//! which announces nobody.

use super::{Contender, Job, KEYS, Threads, contender, some_key};
use crate::peers::redis::Server;
use dashmap::DashMap;
use haybox::presence::Presence;
use std::hint::black_box;
use std::time::Instant;

pub fn jobs() -> Vec<Job> {
    vec![Job {
        id: "presence",
        label: "presence: a heartbeat, 131,072 members in 1,024 rooms",
        threads: Threads::Chosen,
        contenders,
        redis: set_ex,
    }]
}

fn room_of(member: u64) -> u64 {
    member % 1024
}

fn contenders() -> Vec<Contender> {
    let online: Presence<u64, u64> = Presence::new();
    let times: DashMap<(u64, u64), Instant, ahash::RandomState> = DashMap::default();
    for member in 0..KEYS {
        online.heartbeat(&room_of(member), &member);
        times.insert((room_of(member), member), Instant::now());
    }
    vec![
        contender("haybox", move |thread, operations| {
            for at in 0..operations {
                let member = some_key(thread, at);
                black_box(online.heartbeat(&room_of(member), &member));
            }
        }),
        contender("dashmap", move |thread, operations| {
            for at in 0..operations {
                let member = some_key(thread, at);
                black_box(times.insert((room_of(member), member), Instant::now()));
            }
        }),
    ]
}

fn set_ex(server: &Server) -> Result<Contender, String> {
    let connection = server.client()?;
    Ok(contender("redis", move |thread, operations| {
        for at in 0..operations {
            let member = some_key(thread, at);
            let mut command = redis::cmd("SET");
            let name = format!("online:{}:{member}", room_of(member));
            command.arg(name).arg("").arg("EX").arg(30);
            black_box(connection.ask::<String>(&command));
        }
    }))
}
