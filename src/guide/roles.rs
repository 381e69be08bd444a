//! The other roles: what backends start a Redis for beside the cache, on the same clock.
//!
//! No thread or task hangs when what it waits for is closed.
//!
//! ```
//! use haybox::counter::Counters;
//! use haybox::limit::{Limiter, Quota};
//! use haybox::lock::Locks;
//! use haybox::presence::Presence;
//! use haybox::pubsub::Bus;
//! use haybox::queue::Queue;
//! use std::time::Duration;
//!
//! let locks = Locks::<String>::new(Duration::from_secs(30))?;
//! let lease = locks.acquire("report")?; // For 30 s at most, unless it renews.
//! assert!(lease.token() > 0, "what the lease protects compares it with the greatest it has seen");
//!
//! let logins = Limiter::<String>::new(Quota::per_minute(10).burst(5))?;
//! if let Some(time) = logins.check("203.0.113.7").retry_after() {
//!     println!("come back in {time:?}");
//! }
//!
//! let bus = Bus::new();
//! let kitchen = bus.topic::<String>("room.kitchen")?;
//! let orders = kitchen.subscribe();
//! kitchen.publish("soup!".to_owned());
//! assert_eq!(orders.recv()?, "soup!");
//!
//! let mails = Queue::new(10_000)?;
//! mails.push("welcome 7")?;
//! let mail = mails.pop()?; // Nobody else gets it, for 30 s.
//! mail.ack()?; // It is sent. Without this it would come again.
//!
//! let online: Presence<String, u64> = Presence::new();
//! online.heartbeat("kitchen", &7); // Gone, and announced as gone, when it stays away.
//!
//! let likes: Counters<String> = Counters::new();
//! likes.incr("bread");
//! assert_eq!(likes.top(10), [("bread".to_owned(), 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! That is for threads. Tasks take the calls that end in `_async`, as
//! [`acquire_async`](Locks::acquire_async), [`until_ready_async`](Limiter::until_ready_async),
//! [`recv_async`](crate::pubsub::Subscription::recv_async), [`pop_async`](Queue::pop_async) and
//! [`push_async`](Queue::push_async): their namesakes may block the thread, and so all tasks of it.
//!
//! What each promises, and where that ends, is in a table of the [front
//! page](crate#beside-the-cache), and in the modules.
//!
//! [`with_lock`](Locks::with_lock) and [`with_lock_async`](Locks::with_lock_async) hold a lease around
//! a closure or an async one, [`Workers`] run a pool of threads over a queue and [`TaskWorkers`] a pool of
//! tasks, and with the feature `tower`, [`limit::RateLimitLayer`] limits the requests of axum, hyper and
//! tonic.
//!
//! `stats()` of a [cache](crate::Cache::stats), a [bus](Bus::stats), a [queue](Queue::stats),
//! [locks](Locks::stats), a [limit](Limiter::stats), [presence](Presence::stats) and [sessions] says
//! what they have done, and its [`iter`](crate::Stats::iter) lists names and values, so that a page
//! for Prometheus is a loop.
//!
//! In tests, a [`MockClock`](crate::MockClock) moves only by [`advance`](crate::MockClock::advance),
//! and caches, locks, limits, queues, presence, counters and sessions move with it, including their
//! background sweeps.
//!
//! # What they cost
//!
//! What each costs beside the crate that does this one thing, and beside Redis 7 on the loopback
//! interface: nanoseconds over all threads, medians of rounds in turns, one thread (two threads in
//! parentheses); 131,072 keys where there are many.
//!
//! | job | haybox | specialised | Redis |
//! | --- | --- | --- | --- |
//! | [`limit`](crate::limit): allowed, one key | 39 (40) | 22 (57), governor | 14,500 |
//! | `limit`: allowed, many keys | 134 (51) | 41 (27), governor | 15,100 |
//! | `limit`: refused | 19 (21) | 18 (39), governor | 14,800 |
//! | [`lock`](crate::lock): take and give back, a key for each thread | 61 (78) | 31 (16), DashMap of mutexes | 29,700 |
//! | `lock`: many keys | 223 (152) | 40 (43), DashMap of mutexes | 31,900 |
//! | `lock`: two threads and one key | (62) | (68), DashMap of mutexes | |
//! | [`pubsub`](crate::pubsub): to 1 subscriber, and received | 22 | 25, flume; 39, tokio's broadcast | 19,000 |
//! | `pubsub`: to 10; 100 | 160; 1,342 | 143; 1,172, tokio's broadcast | 62,600; 486,700 |
//! | [`queue`](crate::queue): push, pop, acknowledge | 151 (216) | 19 (32), crossbeam-channel | 30,500 |
//! | `queue`: from one thread to another | (158) | (26), flume | |
//! | [`counter`](crate::counter): one key; many keys | 8.3 (4.5); 44 (25) | 17 (44); 19 (92), DashMap of atomics | 16,100; 15,200 |
//! | [`presence`](crate::presence): a heartbeat, many members | 187 (119) | 142 (94), a DashMap that tells nobody | 15,200 |
//!
//! Memory was slow in this run, and many keys are memory: in another one, when governor was still
//! hashed as it is by default, the calls on many keys took 45, 147 and 11 ns, and a heartbeat 106.
//!
//! A limit that is not used up reads the system's precise clock, which is half of its time here;
//! governor reads the processor's counter. A lease has a fencing token and ends by itself, a mutex
//! does neither; a message of a queue comes again if nobody acknowledges it, one of a channel does
//! not. Of these parts only queues and counters outlive the process, where they are opened on a
//! directory.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --only roles` measures all of
//! this again.
//!
// Of two definitions the first counts: the second is for documentation without the feature.
#![cfg_attr(
    feature = "tower",
    doc = "[`limit::RateLimitLayer`]: crate::limit::RateLimitLayer"
)]
#![cfg_attr(
    feature = "session",
    doc = "[sessions]: crate::session::Sessions::stats"
)]
//! [`limit::RateLimitLayer`]: https://docs.rs/haybox/latest/haybox/limit/struct.RateLimitLayer.html
//! [sessions]: https://docs.rs/haybox/latest/haybox/session/struct.Sessions.html#method.stats

use crate::limit::Limiter;
use crate::lock::Locks;
use crate::presence::Presence;
use crate::pubsub::Bus;
use crate::queue::{Queue, TaskWorkers, Workers};
