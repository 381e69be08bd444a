//! A handle that keeps no bus open.

use super::Bus;
use super::bus::BusState;
use std::fmt;
use std::sync::{Arc, Weak};

/// A handle that does not keep a bus open, from [`Bus::downgrade`].
///
/// For who waits for messages and finds topics by their names meanwhile: with a [`Bus`] of its own
/// it would wait for ever, since its subscription ends when the last handle is dropped.
///
/// ```
/// use haybox::pubsub::{Bus, Pattern};
/// use std::thread;
///
/// let bus = Bus::new();
/// let orders = bus.subscribe_matching::<u32>(&Pattern::new("orders.*")?);
/// let archive = bus.topic::<u32>("archive.orders.food")?.subscribe();
/// let weak = bus.downgrade();
/// let archivist = thread::spawn(move || {
///     for order in orders {
///         let Some(bus) = weak.upgrade() else { break };
///         let archive = bus.topic(&format!("archive.{}", order.topic));
///         archive.expect("archives carry numbers").publish(order.message);
///     }
/// });
/// bus.topic::<u32>("orders.food")?.publish(7);
/// assert_eq!(archive.recv()?, 7);
/// drop(bus);
/// archivist.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WeakBus(Weak<BusState>);

impl Bus {
    /// A handle that does not keep the bus open. O(1).
    #[must_use]
    pub fn downgrade(&self) -> WeakBus {
        WeakBus(Arc::downgrade(&self.0))
    }
}

impl WeakBus {
    /// A handle of the bus; `None` once its last one was dropped. O(1).
    ///
    /// It counts as any other, so drop it before you wait for the next message: one that is still
    /// there when the last of yours is dropped keeps the bus open until it is dropped, too.
    #[must_use]
    pub fn upgrade(&self) -> Option<Bus> {
        self.0.upgrade().map(Bus)
    }
}

/// Shows whether the bus has a handle.
impl fmt::Debug for WeakBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBus")
            .field("has_handles", &(self.0.strong_count() > 0))
            .finish_non_exhaustive()
    }
}
