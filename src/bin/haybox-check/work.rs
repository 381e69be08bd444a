//! Does what the command line asks for.

use super::arguments::{Action, Command};
use super::outcome::{Done, Outcome, Problem};
use super::progress::Bar;
use haybox::persist::check;
use std::fs;
use std::io;
use std::path::Path;

pub fn run(command: &Command) -> Outcome {
    let mut outcome = Outcome {
        inspection: None,
        result: Err(Problem::NoStore("nothing is there")),
    };
    outcome.result = a_store_at(&command.dir).and_then(|()| act(command, &mut outcome.inspection));
    outcome
}

fn act(command: &Command, inspection: &mut Option<check::Inspection>) -> Result<Done, Problem> {
    let (dir, bar) = (&command.dir, |what| Bar::new(what, command.quiet));
    match &command.action {
        Action::Show => {
            *inspection = Some(check::inspect(dir, bar("reading").teller())?);
            verify(dir, &bar("verifying"))
        }
        Action::Verify => verify(dir, &bar("verifying")),
        Action::Salvage { to } => {
            let report = check::salvage(dir, to, bar("reading").teller())?;
            let to = to.clone();
            Ok(Done::Salvaged { to, report })
        }
        Action::Compact => {
            let report = check::compact(dir, bar("reading").teller())?;
            Ok(Done::Compacted(report))
        }
    }
}

fn verify(dir: &Path, bar: &Bar) -> Result<Done, Problem> {
    Ok(Done::Verified(check::verify(dir, bar.teller())?))
}

/// Fails where nothing looks like a store: to a path that was mistyped, "the manifest is missing,
/// restore a backup" would be the wrong answer, and compacting must not create a store there.
fn a_store_at(dir: &Path) -> Result<(), Problem> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return Err(no_directory(error)),
    };
    for entry in entries {
        let name = entry.map_err(Problem::Unreadable)?.file_name();
        if name.to_str().is_some_and(is_of_a_store) {
            return Ok(());
        }
    }
    Err(Problem::NoStore(
        "it is a directory without files of a store",
    ))
}

fn no_directory(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::NoStore("nothing is there"),
        io::ErrorKind::NotADirectory => Problem::NoStore("it is not a directory"),
        _ => Problem::Unreadable(error),
    }
}

fn is_of_a_store(name: &str) -> bool {
    let is_numbered = |prefix, suffix| name.starts_with(prefix) && name.ends_with(suffix);
    name == "MANIFEST" || is_numbered("snap-", ".db") || is_numbered("log-", ".wal")
}
