//! Publish and subscribe, inside the process: a [`Bus`] with typed [`Topic`]s.
//!
//! Redis's `PUBLISH`, `SUBSCRIBE` and `PSUBSCRIBE` without a server, and with what they lack: types
//! instead of bytes, and for each subscription a bound and a say in what happens when it is slow
//! ([`Slow`]), where Redis cuts off a client whose buffer is full. As there, a message is for those
//! who listen at that moment and nothing is stored.
//!
//! ```
//! use haybox::pubsub::{Bus, SubscribeOptions};
//!
//! let bus = Bus::new();
//! let kitchen = bus.topic::<String>("room.kitchen")?;
//! let orders = kitchen.subscribe_with(SubscribeOptions::new().capacity(100))?;
//! let all_rooms = bus.subscribe_matching::<String>(&"room.*".parse()?);
//! assert_eq!(kitchen.publish("soup!".to_owned()), 2);
//! assert_eq!(orders.recv()?, "soup!");
//! assert_eq!(&*all_rooms.recv()?.topic, "room.kitchen");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks take [`recv_async`](Subscription::recv_async) (or, with the feature `stream`, a
//! subscription as a stream) and [`publish_async`](Topic::publish_async).
//! [`recv`](Subscription::recv) blocks its thread, and so all tasks of it, and
//! [`publish`](Topic::publish) does where a subscription asks for that ([`Slow::Block`]).
//!
//! Whatever happens to an entry of a cache can be published, too: see
//! [`Cache::publish_events`](crate::Cache::publish_events).

mod bus;
mod mailbox;
mod pattern;
mod stats;
mod subscription;
mod topic;
mod weak;

pub use bus::{Bus, WrongType};
pub(crate) use mailbox::{Mailbox, Offer};
pub use pattern::{Pattern, PatternError};
pub use stats::BusStats;
pub(crate) use subscription::Home;
pub use subscription::{IntoIter, Iter, NoMessage, Slow, SubscribeOptions, Subscription};
pub(crate) use topic::{Left, TopicState};
pub use topic::{Matched, Topic};
pub use weak::WeakBus;
