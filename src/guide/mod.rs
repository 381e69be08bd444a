//! Guides: what many items have to say together, and the documentation of none says alone.
//!
//! | guide | tells |
//! | --- | --- |
//! | [`from_redis`] | what stands for the commands and types of Redis, and for what people build of them |
#![cfg_attr(
    feature = "persist",
    doc = "| [`redis_persistence`] | the same of Redis's files: AOF, snapshots, `redis-check-aof` |"
)]
//! | [`from_moka`], [`from_caffeine`] | what stands for the calls of these caches |
#![cfg_attr(
    feature = "persist",
    doc = "| [`changing_types`] | what becomes of files when the type of a value changes |"
)]
//! | [`roles`] | locks, limits, queues, publish and subscribe, presence and counters in one program, and their speed |
//! | [`costs`] | bytes for each entry and option, time in the background, the speed of files |
//! | [`beside_other_caches`] | how the comparison was measured, and how other runs came out |
//!
//! The modules of the roles ([`lock`](crate::lock), [`limit`](crate::limit),
//! [`pubsub`](crate::pubsub), [`queue`](crate::queue), [`presence`](crate::presence),
//! [`counter`](crate::counter)) are guides to them, and so are those of the features: [`persist`]
//! tells of files and failures, [`session`] of web sessions. For loading there is
//! [`Cache`](crate::Cache#loading).
//!
//! These modules hold text and no items, and a program that is compiled has none of them.
//!
// Of two definitions the first counts: the second is for documentation without the feature.
#![cfg_attr(feature = "persist", doc = "[`persist`]: crate::persist")]
#![cfg_attr(feature = "session", doc = "[`session`]: crate::session")]
//! [`persist`]: https://docs.rs/haybox/latest/haybox/persist/index.html
//! [`session`]: https://docs.rs/haybox/latest/haybox/session/index.html

pub mod beside_other_caches;
#[cfg(feature = "persist")]
pub mod changing_types;
pub mod costs;
pub mod from_caffeine;
pub mod from_moka;
pub mod from_redis;
#[cfg(feature = "persist")]
pub mod redis_persistence;
pub mod roles;
