//! Time: the clocks, deadlines on them, timers, and the one thread that clears what has passed.

mod clock;
mod deadline;
mod keeper;
mod park;
mod timer;

pub use clock::{Clock, MockClock};
pub(crate) use clock::{Glance, Moment, NEAR};
pub(crate) use deadline::{DEADLINE_BITS, Deadline, MICROSECOND, NEVER, after, left, whole};
pub(crate) use keeper::{Aftermath, Sweep, Swept, register};
pub(crate) use park::{Alarm, Parker, passing};
pub(crate) use timer::{Timer, wake_all, wake_at, wake_soon};
