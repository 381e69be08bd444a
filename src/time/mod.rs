//! Time: the clocks, deadlines on them, timers, and the one thread that clears what has passed.

mod clock;
mod deadline;
mod keeper;
mod timer;

pub(crate) use clock::Moment;
pub use clock::{Clock, MockClock};
pub(crate) use deadline::{Deadline, NEVER, after, left};
pub(crate) use keeper::{Sweep, Swept, register};
pub(crate) use timer::{Timer, wake_all, wake_at};
