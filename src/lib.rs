// Of two definitions of a name in Markdown the first counts. So the charts of the README, files of
// the repository that the documentation has no copy of, are here a line that says where they are, …
#![doc = include_str!("charts.md")]
// … and its links to docs.rs are links to items, which fail the documentation when a name changes.
// Where a feature is off, those of the README count.
//! [beside]: guide::beside_other_caches
//! [costs]: guide::costs
//! [freshness]: Freshness
//! [from-caffeine]: guide::from_caffeine
//! [from-moka]: guide::from_moka
//! [from-redis]: guide::from_redis
//! [loading]: Cache#loading
//! [max_memory]: CacheBuilder::max_memory
//! [roles]: guide::roles
//! [spawner]: CacheBuilder::spawner
//! [traces]: guide::beside_other_caches#hit-ratios
#![cfg_attr(feature = "persist", doc = "[changing-types]: guide::changing_types")]
#![cfg_attr(feature = "persist", doc = "[check]: persist::check#the-program")]
#![cfg_attr(feature = "persist", doc = "[persist]: persist")]
#![cfg_attr(
    feature = "persist",
    doc = "[redis-persistence]: guide::redis_persistence"
)]
#![cfg_attr(feature = "session", doc = "[session]: session")]
// Its examples need the feature `persist`, and are tested with it.
#![cfg_attr(any(not(doctest), feature = "persist"), doc = include_str!("../README.md"))]
// What the whole crate does is safe Rust; nothing measured so far has asked for an exception.
#![forbid(unsafe_code)]
// Every public item says what it promises, and can be printed.
#![warn(missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod build_error;
mod builder;
mod busy;
mod cache;
mod contain;
pub mod counter;
mod engine;
mod entry;
mod equivalent;
mod event;
mod figures;
// As text it is of no use to a program: rustdoc and its tests see it, and no compiler.
#[cfg(doc)]
pub mod guide;
mod hash;
mod keyed;
mod labels;
pub mod limit;
mod load;
pub mod lock;
#[cfg(feature = "persist")]
pub mod persist;
pub mod presence;
// The interleaving checker runs no threads but its own, so that without files nothing asks.
#[cfg(any(not(shuttle), feature = "persist"))]
mod process;
pub mod pubsub;
pub mod queue;
mod random;
mod read_through;
mod reentrancy;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub mod session;
mod slack;
mod stats;
mod sync;
mod table;
mod thread;
mod time;
mod to_key;
mod turns;
mod unrun;
mod unwind;
mod wait;

pub use build_error::BuildError;
pub use builder::CacheBuilder;
pub use cache::{Cache, Fence, Iter, Keys, Values, WeakCache};
pub use engine::Transaction;
pub use entry::{
    EvictionPolicy, ExpireIf, Expiry, Insert, InsertOptions, OnFull, Op, Outcome, Refused, Ttl,
};
pub use equivalent::Equivalent;
pub use event::{Event, EventKind, Events, NoEvent, RemovalCause};
pub use figures::{Metric, MetricKind, MetricUnit};
pub use hash::{DefaultHashBuilder, DefaultHasher};
pub use load::{BoxedLoad, Freshness, LoadError, Loaded, LoaderError, Source};
#[cfg(feature = "persist")]
pub use persist::{Store, WeakStore};
pub use read_through::{ReadThrough, ReadThroughAsync, ReadThroughMany, ReadThroughManyAsync};
pub use stats::Stats;
pub use time::{Clock, MockClock};
pub use to_key::ToKey;
