//! Shows what is in the files of a store or a cache, verifies, salvages and compacts them, without
//! the program that they belong to. `haybox-check --help` tells how.

#![forbid(unsafe_code)]

mod arguments;
mod json;
mod outcome;
mod progress;
mod text;
mod work;

use arguments::{Asked, Command};
use outcome::Exit;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(Asked::Help) => print(arguments::HELP, Exit::Sound),
        Ok(Asked::Version) => print(arguments::VERSION, Exit::Sound),
        Ok(Asked::Run(command)) => run(&command),
        Err(error) => {
            eprintln!("error: {error}\n\nhaybox-check --help tells what can be asked for.");
            Exit::Usage
        }
    };
    ExitCode::from(exit as u8)
}

fn run(command: &Command) -> Exit {
    let outcome = work::run(command);
    if command.json {
        return print(&json::of(command, &outcome), outcome.exit());
    }
    let exit = print(&text::of(&outcome), outcome.exit());
    if let Some(problem) = text::problem(command, &outcome) {
        eprintln!("{problem}");
    }
    exit
}

/// Prints, and says what to exit with. Who reads only the beginning closes the pipe: no reason to
/// panic, nor to call the store unsound.
fn print(text: &str, exit: Exit) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to the standard output: {error}");
            Exit::Failed
        }
        _ => exit,
    }
}
