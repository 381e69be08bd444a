//! Time: the clocks, deadlines on them, and the one thread that clears what has passed.

mod clock;
mod deadline;
mod keeper;

pub(crate) use clock::Moment;
pub use clock::{Clock, MockClock};
pub(crate) use deadline::{Deadline, NEVER, after, left};
pub(crate) use keeper::{Sweep, Swept, register};
