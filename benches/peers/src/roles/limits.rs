//! A rate limit by key: haybox's token bucket beside governor's, both GCRA.

use super::{Contender, Job, KEYS, Threads, contender, incr, some_key};
use crate::peers::Hasher;
use governor::RateLimiter;
use governor::middleware::StateInformationMiddleware;
use haybox::limit::{Limiter, Quota};
use std::hint::black_box;
use std::num::NonZeroU32;

pub fn jobs() -> Vec<Job> {
    vec![
        Job {
            id: "limit-hot",
            label: "limit: a call that is allowed, one key",
            threads: Threads::Chosen,
            contenders: || contenders(ALLOWS, |_, _| 7),
            redis: |server| incr(server, "limit", |_, _| 7),
        },
        Job {
            id: "limit-refused",
            label: "limit: a call that is refused, one key",
            threads: Threads::Chosen,
            contenders: || contenders(REFUSES, |_, _| 7),
            redis: |server| incr(server, "limit", |_, _| 7),
        },
        Job {
            id: "limit-many",
            label: "limit: a call that is allowed, 131,072 keys",
            threads: Threads::Chosen,
            contenders: || contenders(ALLOWS, some_key),
            redis: |server| incr(server, "limit", some_key),
        },
    ]
}

/// How often a key may call, and how often at once.
type Rate = (Per, u32, u32);

#[derive(Clone, Copy)]
enum Per {
    Second,
    Hour,
}

/// More than anything can ask for.
const ALLOWS: Rate = (Per::Second, 1 << 29, 1 << 29);
const REFUSES: Rate = (Per::Hour, 1, 1);

fn contenders(rate: Rate, key: fn(usize, usize) -> u64) -> Vec<Contender> {
    let ours = Limiter::<u64>::new(our_quota(rate)).expect("the quota is possible");
    let dashmap = || RateLimiter::dashmap_with_hasher(governors(rate), Hasher::new());
    let theirs = dashmap();
    let telling = dashmap().with_middleware::<StateInformationMiddleware>();
    for key in 0..KEYS {
        let _ = ours.check(&key);
        let _ = theirs.check_key(&key);
        let _ = telling.check_key(&key);
    }
    vec![
        contender("haybox", move |thread, operations| {
            for at in 0..operations {
                let _ = black_box(ours.check(&key(thread, at)));
            }
        }),
        contender("governor", move |thread, operations| {
            for at in 0..operations {
                let _ = black_box(theirs.check_key(&key(thread, at)));
            }
        }),
        contender("governor-state", move |thread, operations| {
            for at in 0..operations {
                let _ = black_box(telling.check_key(&key(thread, at)));
            }
        }),
    ]
}

fn our_quota((per, limit, burst): Rate) -> Quota {
    let quota = match per {
        Per::Second => Quota::per_second(limit),
        Per::Hour => Quota::per_hour(limit),
    };
    quota.burst(burst)
}

fn governors((per, limit, burst): Rate) -> governor::Quota {
    let number = |number| NonZeroU32::new(number).expect("no rate is 0");
    let quota = match per {
        Per::Second => governor::Quota::per_second(number(limit)),
        Per::Hour => governor::Quota::per_hour(number(limit)),
    };
    quota.allow_burst(number(burst))
}
