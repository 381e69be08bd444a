//! Publish and subscribe, inside the process: a [`Bus`] with typed [`Topic`]s.
//!
//! Redis's `PUBLISH`, `SUBSCRIBE` and `PSUBSCRIBE` without a server, and with what they lack: types
//! instead of bytes, and for each subscription a bound and a say in what happens when it is slow
//! ([`Slow`]), where Redis cuts off a client whose buffer is full. As there, a message is for those
//! who listen at that moment and nothing is stored.
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
