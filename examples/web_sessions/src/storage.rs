//! Where the sessions are kept, and for how long.

use crate::Error;
use haybox::Clock;
use haybox::session::Sessions;
use std::path::Path;
use std::time::Duration;

/// Who has done nothing for this time is logged out.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// And everybody is after this one.
pub const ABSOLUTE: Duration = Duration::from_secs(12 * 3600);
/// The key in a session's data that says who is logged in.
pub const USER: &str = "user";

/// The sessions, and those of before a restart if there is a folder that keeps them.
pub fn sessions(clock: Clock, folder: Option<&Path>) -> Result<Sessions, Error> {
    let builder = Sessions::builder()
        .max_sessions(100_000)
        .max_memory(256 << 20)
        .max_per_owner(20)
        .max_size(4 << 10)
        .idle_timeout(IDLE)
        .absolute_timeout(ABSOLUTE)
        .owner_key(USER)
        .clock(clock);
    Ok(match folder {
        None => builder.build()?,
        Some(folder) => builder.build_with(|cache| cache.open(folder.join("sessions")))?,
    })
}
