//! Where the messages of a queue are kept beyond the process: the one place where a queue knows of
//! disks. Without the feature `persist` it is empty.

#[cfg(not(feature = "persist"))]
mod disabled;
#[cfg(feature = "persist")]
mod enabled;
#[cfg(feature = "persist")]
mod migrate;
#[cfg(feature = "persist")]
mod record;

#[cfg(not(feature = "persist"))]
pub(super) use disabled::{
    FullWait, Kept, NotKept, NotSure, Pending, Room, check, check_not_keeping, is_keeping,
    is_off_limits, wait, wait_async,
};
#[cfg(feature = "persist")]
pub(super) use enabled::{
    FullWait, Kept, NotKept, NotSure, Pending, Room, check, check_not_keeping, is_keeping,
    is_off_limits, wait, wait_async,
};
#[cfg(feature = "persist")]
pub(super) use migrate::of_messages;
