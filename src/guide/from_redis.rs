//! From Redis: what stands for its commands and types, and for what people build of them.
//!
//! A [`Cache`] takes the place of a database of Redis, with one type for its keys and one for its
//! values. A [`Store`], which is kept in a directory (feature `persist`), has the same calls but for
//! those that load, fences and `invalidate` (nothing is loaded that they would overtake), several
//! tags in one call, `frequency` and `reset_stats`.
//!
//! ```
//! use haybox::{Cache, Op};
//! use std::collections::HashMap;
//! use std::time::Duration;
//!
//! let numbers = Cache::<String, u64>::new(10_000);
//! // SET price:plum 45 EX 60
//! numbers.insert_with_ttl("price:plum".to_owned(), 45, Duration::from_secs(60));
//! // GET price:plum
//! assert_eq!(numbers.get("price:plum"), Some(45));
//! // INCR views
//! let incr = |key: &str| numbers.update_or_insert_with(key, || 0, |n| { *n += 1; *n });
//! assert_eq!((incr("views"), incr("views")), (1, 2));
//! // INCR calls:ada, and EXPIRE calls:ada 60 only when the key is new
//! let incr_for_a_minute = |key: &str| {
//!     let mut number = 0;
//!     numbers.compute(key, |old| {
//!         number = old.unwrap_or(&0) + 1;
//!         match old {
//!             Some(_) => Op::PutKeepTtl(number),
//!             None => Op::PutWithTtl(number, Duration::from_secs(60)),
//!         }
//!     });
//!     number
//! };
//! assert_eq!((incr_for_a_minute("calls:ada"), incr_for_a_minute("calls:ada")), (1, 2));
//!
//! let users = Cache::<u64, HashMap<&str, String>>::new(10_000);
//! // HSET 7 name ada
//! users.update_or_insert_with(&7, HashMap::new, |user| user.insert("name", "ada".to_owned()));
//! // HGET 7 name
//! let name = users.read(&7, |user| user.get("name").cloned()).flatten();
//! assert_eq!(name.as_deref(), Some("ada"));
//! ```
//!
//! # Keys and their values
//!
//! | Redis | haybox |
//! | --- | --- |
//! | `SET k v`, `GETSET` | [`insert`](Cache::insert), which answers with the old value, and clears a TTL, as `SET` does (or renews it, where the cache has a [`time_to_live`](CacheBuilder::time_to_live)) |
//! | `SET k v EX 30`, `SETEX`, `PSETEX` | [`insert_with_ttl`](Cache::insert_with_ttl) |
//! | `SETNX`; `SET k v NX`, `XX`, `KEEPTTL`, `EXAT`, `GET` | [`insert_with`](Cache::insert_with) and [`InsertOptions`], with [`if_absent`](InsertOptions::if_absent), [`if_present`](InsertOptions::if_present), [`keep_ttl`](InsertOptions::keep_ttl), [`expire_at`](InsertOptions::expire_at); the answer has the value that was replaced. With `NX`, a value that is there is not in the answer: [`Insert::Kept`] gives back that of the call. For `NX` with `GET`, [`get_or_insert_with`](Cache::get_or_insert_with) of a `Cache`; [`compute`](Cache::compute) of either, whose closure sees the stored value and answers [`Op::Keep`], or [`Op::Put`] where there is none |
//! | `GET`, `EXISTS`, `MGET`, `MSET` | [`get`](Cache::get), [`contains_key`](Cache::contains_key), [`get_many`](Cache::get_many), [`insert_many`](Cache::insert_many) |
//! | `GETEX`, `GETDEL` | [`get`](Transaction::get) and [`expire`](Transaction::expire) of a [`transaction`](Cache::transaction), or [`get`](Cache::get) and then [`expire`](Cache::expire); [`remove`](Cache::remove) |
//! | `DEL`, `UNLINK` | [`remove`](Cache::remove), [`remove_if`](Cache::remove_if), [`retain`](Cache::retain) |
//! | `INCR`, `INCRBYFLOAT`, `APPEND` and the like | [`update_or_insert_with`](Cache::update_or_insert_with), which keeps the TTL, as `INCR` does; [`update`](Cache::update) for what is there |
//! | `INCR`, and `EXPIRE` only when the key is new | the same in a cache with a [`time_to_live`](CacheBuilder::time_to_live); or [`compute`](Cache::compute), with [`Op::PutWithTtl`] for what is new and [`Op::PutKeepTtl`] for what is not |
//! | `TTL`, `EXPIRETIME` | [`ttl`](Cache::ttl), [`deadline`](Cache::deadline) |
//! | `EXPIRE` with `NX`, `XX`, `GT`, `LT`; `EXPIREAT`; `PERSIST` | [`expire`](Cache::expire), [`expire_with`](Cache::expire_with), [`expire_at`](Cache::expire_at), [`persist`](Cache::persist), which says whether the key was there and not whether it had a TTL |
//! | `TOUCH`, `OBJECT FREQ` | [`touch`](Cache::touch), [`frequency`](Cache::frequency) |
//! | `SCAN`, `KEYS`, `RANDOMKEY`; with `MATCH p` | [`scan`](Cache::scan), [`iter`](Cache::iter), [`keys`](Cache::keys), [`random`](Cache::random); the same, filtered by [`Pattern::matches`], which knows Redis's patterns |
//! | `DBSIZE`, `FLUSHDB` | [`len`](Cache::len), [`clear`](Cache::clear) |
//! | a set of the keys that share something, and `DEL` of each | tags: [`InsertOptions::tags`], [`invalidate_tag`](Cache::invalidate_tag); for parts of keys [`group_by`](CacheBuilder::group_by), [`invalidate_group`](Cache::invalidate_group) |
//! | `SCAN MATCH p*` and `DEL` | [`invalidate_prefix`](Cache::invalidate_prefix), [`retain`](Cache::retain) |
//! | `SET lock NX PX` around a query, against stampedes | [`read_through`](Cache::read_through), [`get_or_insert_with`](Cache::get_or_insert_with), [`get_or_load`](Cache::get_or_load) |
//! | `WATCH`, `MULTI`, `EXEC`, Lua, `MSETNX` | [`transaction`](Cache::transaction), with [`ttl`](Transaction::ttl), [`expire`](Transaction::expire) and [`persist`](Transaction::persist) among its calls; [`compute`](Cache::compute). For the keys of one cache: what changes together lies in one, under an `enum` |
//! | `RENAME`, `COPY` | [`transaction`](Cache::transaction): [`get`](Transaction::get), [`remove`](Transaction::remove), [`insert`](Transaction::insert); the TTL is taken along by [`ttl`](Transaction::ttl) and [`expire`](Transaction::expire) or [`persist`](Transaction::persist) (in a cache without [`time_to_idle`](CacheBuilder::time_to_idle)), tags are not |
//! | keyspace notifications, but for `expire` and `persist` | [`events`](Cache::events), [`removal_listener`](CacheBuilder::removal_listener), [`publish_events`](Cache::publish_events) |
//!
//! # Its types
//!
//! | Redis | haybox |
//! | --- | --- |
//! | lists, hashes, sets | the Rust type as the value, [`VecDeque`], [`HashMap`], [`HashSet`], changed by [`update_or_insert_with`](Cache::update_or_insert_with) and looked into by [`read`](Cache::read). One that is empty stays until it is removed |
//! | sorted sets | likewise a value of two: a [`HashMap`] from member to score, and a [`BTreeSet`] of `(score, member)`, which keeps members of one score. For a list of the highest that only grows by counts, [`Counters::top`] |
//! | `HEXPIRE` | a key for each field, `(k, f)`, with a TTL of its own; [`group_by`](CacheBuilder::group_by) for the whole |
//! | `PFADD`, `PFCOUNT`, bloom filters | none that estimate: [`insert_with`](Cache::insert_with) and [`if_absent`](InsertOptions::if_absent) say whether a key is new, [`len`](Cache::len) how many there are |
//! | `ZRANGEBYSCORE`, `ZRANK`, `GEO`, `SETBIT`, `XRANGE`, `BLPOP` on several keys | none: a [`BTreeMap`], a bit set, … as the value; a queue has one group of consumers, and no replay |
//!
//! # What people build of them
//!
//! | Redis | haybox |
//! | --- | --- |
//! | `PUBLISH`, `SUBSCRIBE`, `PSUBSCRIBE` | [`Topic::publish`], [`Topic::subscribe`], [`Bus::subscribe_matching`] |
//! | `LPUSH`, `BRPOP`, `LMOVE` to a list of work under way | [`Queue::push`], [`pop`](Queue::pop), [`ack`](Delivery::ack) |
//! | `XADD MAXLEN`, `XREADGROUP`, `XACK`, `XAUTOCLAIM`, `XPENDING` | [`Queue::push`] with [`Overflow`], [`pop`](Queue::pop) or [`pop_many`](Queue::pop_many), [`Delivery::ack`], [`nack`](Delivery::nack), the [visibility time-out](QueueBuilder::visibility_timeout), [`stats`](Queue::stats) |
//! | a sorted set of jobs by time, priority lists, a list of failed jobs | [`PushOptions::delay`], [`priority`](PushOptions::priority), and [`cancel`](Queue::cancel); [`dead_letters`](Queue::dead_letters), [`requeue`](Queue::requeue), [`purge`](Queue::purge) |
//! | `SET k token NX PX 30000`, and a script that compares before `DEL` | [`Locks::try_acquire`], dropped or [`release`](Lease::release)d; semaphores by [`permits`](LocksBuilder::permits) |
//! | redis-cell's `CL.THROTTLE`; `INCR` and `EXPIRE` | [`Limiter`] with [`Quota::per_second`] and [`burst`](Quota::burst); [`Quota::sliding_window`]; [`charge`](Limiter::charge) for a cost that is known afterwards |
//! | `SETEX online:7` and expiry events | [`Presence::heartbeat`], [`events`](Presence::events) |
//! | `INCRBY`, `GETDEL`, for what is only counted; `ZINCRBY`, `ZREVRANGE` | [`Counters::add`], [`take`](Counters::take); [`top`](Counters::top) |
//! | `connect-redis`, `tower-sessions-redis-store`: `SETEX sess:id`, `SADD user:7 id` | [`session::Sessions`] |
//!
//! # Its settings
//!
//! | Redis | haybox |
//! | --- | --- |
//! | `maxmemory`, `maxmemory-policy` | [`max_memory`](CacheBuilder::max_memory) with a [`weigher`](CacheBuilder::weigher), [`on_full`](CacheBuilder::on_full), [`eviction_policy`](CacheBuilder::eviction_policy) (adaptive, S3-FIFO, frequency first, LRU) |
//! | `INFO`, `MEMORY USAGE` | [`stats`](Cache::stats), whose [`iter`](Stats::iter) lists [metrics](Metric) for an exporter; [`memory`](Cache::memory), [`weight`](Cache::weight) |
#![cfg_attr(
    feature = "persist",
    doc = "| `appendonly`, `save`, `redis-check-aof` and the like | [persistence](super::redis_persistence) |"
)]
//!
// Of two definitions the first counts: the second is for documentation without the feature.
#![cfg_attr(feature = "persist", doc = "[`Store`]: crate::persist::Store")]
#![cfg_attr(
    feature = "session",
    doc = "[`session::Sessions`]: crate::session::Sessions"
)]
//! [`Store`]: https://docs.rs/haybox/latest/haybox/persist/struct.Store.html
//! [`session::Sessions`]: https://docs.rs/haybox/latest/haybox/session/struct.Sessions.html

use crate::counter::Counters;
use crate::limit::{Limiter, Quota};
use crate::lock::{Lease, Locks, LocksBuilder};
use crate::presence::Presence;
use crate::pubsub::{Bus, Pattern, Topic};
use crate::queue::{Delivery, Overflow, PushOptions, Queue, QueueBuilder};
use crate::{Cache, CacheBuilder, Insert, InsertOptions, Metric, Op, Stats, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
