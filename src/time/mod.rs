//! Time: the clocks, deadlines on them, timers, and the one thread that clears what has passed.

mod clock;
mod deadline;
mod keeper;
mod mock;
mod park;
mod system;
mod timer;
#[cfg(any(feature = "persist", feature = "session"))]
mod wall;

pub use clock::Clock;
pub(crate) use clock::{Glance, Moment, NEAR};
pub(crate) use deadline::{DEADLINE_BITS, Deadline, MICROSECOND, NEVER, after, left, whole};
pub(crate) use keeper::{Aftermath, Sweep, Swept, register};
pub use mock::MockClock;
pub(crate) use park::{Alarm, Parker};
pub(crate) use timer::{Timer, wake_all, wake_at, wake_soon};
#[cfg(any(feature = "persist", feature = "session"))]
pub(crate) use wall::since_1970;
#[cfg(feature = "persist")]
pub(crate) use wall::wall_ms;
