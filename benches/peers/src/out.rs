//! The standard output, which may be a pipe that is closed early: by `head`, or a pager that is
//! left.

use std::io::{self, Write};

/// Prints. Who has read enough closes the pipe, which is no reason to fail.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to the standard output: {error}"))
        }
        _ => Ok(()),
    }
}
