//! Where the sessions are kept, and for how long.

use crate::Error;
use haybox::Clock;
use haybox::session::Sessions;
use std::fs::DirBuilder;
use std::path::Path;
use std::time::Duration;

/// Who has done nothing for this time is logged out.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// And everybody is after this one.
pub const ABSOLUTE: Duration = Duration::from_secs(12 * 3600);
/// The key in a session's data that says who is logged in.
pub const USER: &str = "user";

/// Makes a folder that no other user of the machine can look into: whoever reads the sessions in it
/// can take them over.
pub fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

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

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_looks_into_the_folder() {
        let name = format!("web_sessions-storage-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        make(&folder).unwrap();
        make(&folder).unwrap();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        std::fs::remove_dir(&folder).unwrap();
        assert_eq!(mode & 0o777, 0o700);
    }
}
