//! Several threads want to be the one that writes a file, and one of them falls asleep.
//!
//! ```text
//! cargo run --release --example leader
//! cargo run --release --example leader -- ledger.txt
//! ```
//!
//! Each thread tries to become the leader, writes a few lines, and steps down. Now and then a leader
//! stalls for longer than its lease, as a process does that swaps, and goes on as if nothing had
//! happened. The file knows the greatest token that it has seen and refuses the sleeper. At the end
//! the file is checked: the tokens in it never go down. Run it again on the same file: the tokens
//! go on where they ended.

use haybox::lock::{Lease, LockError, Locks};
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_millis(60);
const STALL: Duration = Duration::from_millis(150);
const THREADS: u32 = 4;
const TERMS: u32 = 5;
const LINES: u32 = 3;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A file of lines that begin with the token of who wrote them.
struct Ledger(Mutex<(File, u64)>);

impl Ledger {
    fn open(path: &Path) -> Result<Self> {
        let newest = tokens(path)?.into_iter().max().unwrap_or(0);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Mutex::new((file, newest))))
    }

    fn newest(&self) -> u64 {
        self.0.lock().expect("no writer panics").1
    }

    /// Writes a line, unless somebody with a greater token has written before: the check and the
    /// write are one step, which is what makes it safe.
    fn write(&self, token: u64, line: &str) -> Result<()> {
        let mut guard = self.0.lock().expect("no writer panics");
        let (file, newest) = &mut *guard;
        if token < *newest {
            return Err(format!("refused: token {token} is older than {newest}").into());
        }
        *newest = token;
        writeln!(file, "{token} {line}")?;
        Ok(())
    }
}

/// The tokens of the lines of a ledger, in their order.
fn tokens(path: &Path) -> Result<Vec<u64>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    let token = |line: &str| Ok(line.split(' ').next().unwrap_or("").parse()?);
    text.lines().map(token).collect()
}

/// A thread that wants to lead a number of times.
struct Candidate<'a> {
    name: u32,
    locks: &'a Locks<String>,
    ledger: &'a Ledger,
    started: Instant,
}

impl Candidate<'_> {
    fn say(&self, what: impl std::fmt::Display) {
        let at = self.started.elapsed().as_millis();
        println!("{at:>5} ms  thread {}  {what}", self.name);
    }

    /// How many lines were refused.
    fn run(&self) -> Result<u32> {
        let mut refused = 0;
        for term in 0..TERMS {
            match self.locks.acquire_timeout("leader", 10 * STALL) {
                Ok(lease) => refused += self.lead(lease, (term + self.name) % 4 == 3),
                Err(LockError::TimedOut) => self.say("gave up waiting"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(refused)
    }

    fn lead(&self, lease: Lease<String>, falls_asleep: bool) -> u32 {
        let token = lease.token();
        self.say(format_args!("leads with token {token}"));
        let mut refused = 0;
        for line in 0..LINES {
            if falls_asleep && line == 1 {
                self.say(format_args!("token {token} falls asleep"));
                thread::sleep(STALL);
            }
            if let Err(error) = self
                .ledger
                .write(token, &format!("line {line} of thread {}", self.name))
            {
                self.say(error);
                refused += 1;
            }
            thread::sleep(LEASE / 20);
        }
        match lease.release() {
            Ok(()) => self.say(format_args!("steps down from token {token}")),
            Err(lost) => self.say(lost),
        }
        refused
    }
}

fn main() -> Result<()> {
    let asked = std::env::args_os().nth(1).map(PathBuf::from);
    let path = asked.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("haybox-leader-{}.txt", std::process::id()))
    });
    let ledger = Ledger::open(&path)?;
    let locks = Locks::<String>::builder(LEASE)
        .first_token(ledger.newest() + 1)
        .build()?;
    println!(
        "{THREADS} threads, a lease of {LEASE:?}, the file {}",
        path.display()
    );

    let started = Instant::now();
    let refused = thread::scope(|scope| {
        let candidates: Vec<_> = (1..=THREADS)
            .map(|name| {
                let (locks, ledger) = (&locks, &ledger);
                let candidate = Candidate {
                    name,
                    locks,
                    ledger,
                    started,
                };
                scope.spawn(move || candidate.run())
            })
            .collect();
        let ended = candidates.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.expect("no candidate panics"))
            .sum::<Result<u32>>()
    })?;

    let written = tokens(&path)?;
    let in_order = written.is_sorted();
    println!(
        "{} lines, {refused} refused; the tokens never go down: {in_order}",
        written.len()
    );
    if asked.is_none() {
        fs::remove_file(&path)?;
    }
    if in_order {
        Ok(())
    } else {
        Err("a line was written under an old token".into())
    }
}
