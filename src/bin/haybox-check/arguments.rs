//! What the command line may ask for.

use lexopt::{Arg, Parser};
use std::path::PathBuf;

pub const VERSION: &str = concat!("haybox-check ", env!("CARGO_PKG_VERSION"), "\n");

pub const HELP: &str = "\
Shows what is in the files of a store, cache, queue or counters of haybox, and whether they are sound.

Usage: haybox-check [OPTIONS] DIR

  haybox-check DIR                 what is in each file, and whether DIR can be opened;
                                   changes nothing
  haybox-check DIR --verify        only whether DIR can be opened; changes nothing
  haybox-check DIR --salvage TO    saves all that can be read to a new store in TO, which is
                                   empty or not there, around damage and bad sectors; changes
                                   nothing in DIR
  haybox-check DIR --compact       writes a new snapshot and removes the files that it makes
                                   superfluous; what a crash cut short goes to DIR/quarantine

Options:
      --json       one object of JSON on the standard output, also for errors
  -q, --quiet      no progress bar (there is one only where stderr is a terminal)
  -h, --help       this text
  -V, --version    the version

A store that is open in another process is refused: check a backup of it, which it can make while
it runs. --salvage and --compact take about twice the memory of the keys and values.

Exit status:
  0  sound, or what was asked for is done
  1  the disk failed, or the result could not be written
  2  the command line makes no sense
  3  sound but for its end, which a crash cut short: opening it, or --compact, sets that aside
  4  damaged, or on a bad sector: opening it is refused; or, of --salvage, something was lost
  5  written by a newer version of haybox
  6  open in another process
  7  there is no store
";

#[derive(Debug)]
pub enum Asked {
    Help,
    Version,
    Run(Command),
}

#[derive(Debug)]
pub struct Command {
    pub dir: PathBuf,
    pub action: Action,
    pub json: bool,
    pub quiet: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Show,
    Verify,
    Salvage { to: PathBuf },
    Compact,
}

impl Action {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Verify => "verify",
            Self::Salvage { .. } => "salvage",
            Self::Compact => "compact",
        }
    }
}

pub fn parse(mut parser: Parser) -> Result<Asked, lexopt::Error> {
    let (mut dir, mut action, mut json, mut quiet) = (None, None, false, false);
    while let Some(argument) = parser.next()? {
        let chosen = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Asked::Version),
            Arg::Short('q') | Arg::Long("quiet") => {
                quiet = true;
                continue;
            }
            Arg::Long("json") => {
                json = true;
                continue;
            }
            Arg::Value(path) if dir.is_none() => {
                dir = Some(PathBuf::from(path));
                continue;
            }
            Arg::Long("verify") => Action::Verify,
            Arg::Long("compact") => Action::Compact,
            Arg::Long("salvage") => Action::Salvage {
                to: PathBuf::from(parser.value()?),
            },
            other => return Err(other.unexpected()),
        };
        if action.replace(chosen).is_some() {
            return Err("--verify, --salvage and --compact are one at a time".into());
        }
    }
    Ok(Asked::Run(Command {
        dir: dir.ok_or("the directory of the store is missing")?,
        action: action.unwrap_or(Action::Show),
        json,
        quiet,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        match parse(Parser::from_args(arguments)) {
            Ok(Asked::Run(command)) => Ok(command),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn options_come_before_and_behind_the_directory() {
        let command = parsed(&["--json", "dir", "--salvage", "to"]).unwrap();
        assert!(command.json && !command.quiet);
        assert_eq!(command.dir, PathBuf::from("dir"));
        let to = PathBuf::from("to");
        assert_eq!(command.action, Action::Salvage { to });
        assert_eq!(parsed(&["dir"]).unwrap().action, Action::Show);
        // A directory may be called as an option is.
        let odd = parsed(&["--", "--verify"]).unwrap();
        assert_eq!(
            (odd.dir, odd.action),
            (PathBuf::from("--verify"), Action::Show)
        );
    }

    /// What is a name elsewhere than on Unix is text.
    #[cfg(unix)]
    #[test]
    fn a_directory_may_have_any_name() {
        use std::ffi::{OsStr, OsString};
        use std::os::unix::ffi::OsStrExt;
        let odd = OsStr::from_bytes(b"\xff");
        let arguments: [OsString; 3] = [odd.into(), "--salvage".into(), odd.into()];
        let Ok(Asked::Run(command)) = parse(Parser::from_args(arguments)) else {
            panic!("it is refused");
        };
        let to = PathBuf::from(odd);
        assert_eq!(
            (command.dir, command.action),
            (to.clone(), Action::Salvage { to })
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (arguments, says) in [
            (&[][..], "directory of the store is missing"),
            (&["a", "b"], "unexpected argument \"b\""),
            (&["a", "--verify", "--compact"], "one at a time"),
            (&["a", "--salvage"], "missing argument"),
            (&["a", "--frobnicate"], "invalid option '--frobnicate'"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
