//! Queues.

mod model;

use std::time::Duration;

const TICK: Duration = Duration::from_nanos(1);
