//! The roles beside the cache, each next to the crate that does that one thing: limits, locks,
//! publish and subscribe, queues, counters, presence; and the same job on a Redis server.
//!
//! As for the speed, all contenders of a job are alive at the same time and take turns.

mod counters;
mod limits;
mod locks;
mod presence;
mod queues;
mod topics;

use crate::peers::redis::Server;
use crate::peers::{CACHE, FLOOR, Info, known};
use crate::progress::Progress;
use crate::results::Cell;
use crate::settings::Settings;
use crate::turns::{self, median};
use std::hint::black_box;

/// What is compared here and nowhere else.
pub const PEERS: [Info; 7] = [
    Info {
        id: "governor",
        label: "governor",
        package: "governor",
        ..CACHE
    },
    Info {
        id: "governor-state",
        label: "governor, with state",
        package: "governor",
        ..CACHE
    },
    Info {
        id: "broadcast",
        label: "tokio broadcast",
        package: "tokio",
        ..CACHE
    },
    Info {
        id: "flume",
        label: "flume",
        package: "flume",
        ..CACHE
    },
    Info {
        id: "crossbeam-channel",
        label: "crossbeam-channel",
        package: "crossbeam-channel",
        ..FLOOR
    },
    Info {
        id: "mutex-map",
        label: "DashMap of mutexes",
        package: "parking_lot",
        ..CACHE
    },
    Info {
        id: "atomic-map",
        label: "DashMap of atomics",
        package: "dashmap",
        ..CACHE
    },
];

/// Something that each contender does as often as it is told.
pub struct Job {
    pub id: &'static str,
    pub label: &'static str,
    threads: Threads,
    contenders: fn() -> Vec<Contender>,
    /// The same on a server, where one runs.
    redis: fn(&Server) -> Result<Contender, String>,
}

enum Threads {
    /// Those of the command line.
    Chosen,
    Exactly(usize),
}

struct Contender {
    info: &'static Info,
    work: Work,
}

/// Given the number of a thread and of operations. What is called many times is inside it, so that
/// each contender has its own loop, with its calls inlined.
type Work = Box<dyn Fn(usize, usize) + Send + Sync>;

fn contender(id: &str, work: impl Fn(usize, usize) + Send + Sync + 'static) -> Contender {
    Contender {
        info: known(id).expect("the contenders of the jobs are known"),
        work: Box::new(work),
    }
}

/// The jobs of all roles, in the order of the report.
pub fn jobs() -> Vec<Job> {
    let roles = [
        limits::jobs(),
        locks::jobs(),
        topics::jobs(),
        queues::jobs(),
        counters::jobs(),
        presence::jobs(),
    ];
    roles.into_iter().flatten().collect()
}

/// Keys of the jobs that are about many of them.
const KEYS: u64 = 1 << 17;

/// A key that looks random, for an operation of a thread.
#[inline]
fn some_key(thread: usize, at: usize) -> u64 {
    let number = (thread << 40 | at) as u64;
    // Fibonacci hashing: the high bits of a product with an odd number.
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - KEYS.trailing_zeros())
}

/// `INCR` of a number under each key: what a counter costs on Redis, and what a limit costs there at
/// least, where the number has an expiry already.
fn incr(
    server: &Server,
    role: &'static str,
    key: fn(usize, usize) -> u64,
) -> Result<Contender, String> {
    let connection = server.client()?;
    Ok(contender("redis", move |thread, operations| {
        for at in 0..operations {
            let name = format!("{role}:{}", key(thread, at));
            black_box(connection.ask::<i64>(redis::cmd("INCR").arg(name)));
        }
    }))
}

// ---- measuring ----

/// How many steps the progress goes on by.
pub fn steps(threads: &[usize], settings: &Settings) -> u64 {
    let turns = |job: &Job| job.threads_of(threads).len();
    (jobs().iter().map(turns).sum::<usize>() * (settings.rounds + 1)) as u64
}

pub fn measure(
    threads: &[usize],
    settings: &Settings,
    notes: &mut Vec<String>,
    progress: &Progress,
) -> Result<Vec<Cell>, String> {
    let server = match crate::peers::redis::version() {
        Some(_) => Some(Server::start(None)?),
        None => {
            let note = "The roles have no row for Redis: there is no redis-server on this machine.";
            notes.push(note.to_string());
            None
        }
    };
    let mut cells = Vec::new();
    for job in jobs() {
        for threads in job.threads_of(threads) {
            progress.say(format!("{}: threads: {threads}", job.label));
            cells.extend(job.in_turns(threads, server.as_ref(), settings, progress)?);
        }
    }
    Ok(cells)
}

impl Job {
    fn threads_of(&self, chosen: &[usize]) -> Vec<usize> {
        match self.threads {
            Threads::Chosen => chosen.to_vec(),
            Threads::Exactly(threads) => vec![threads],
        }
    }

    fn in_turns(
        &self,
        threads: usize,
        server: Option<&Server>,
        settings: &Settings,
        progress: &Progress,
    ) -> Result<Vec<Cell>, String> {
        let mut contenders = (self.contenders)();
        if let Some(server) = server.filter(|_| threads == 1) {
            contenders.push((self.redis)(server)?);
        }
        let mut runners: Vec<Runner> = contenders.into_iter().map(Runner::new).collect();
        let mut order: Vec<usize> = (0..runners.len()).collect();
        for round in 0..=settings.rounds {
            turns::shuffle(&mut order, round);
            for who in &order {
                let runner = &mut runners[*who];
                if round == 0 {
                    runner.operations = turns::fill(settings.round, |operations| {
                        runner.turn(threads, operations)
                    });
                } else {
                    let total = runner.turn(threads, runner.operations);
                    let operations = (runner.operations * threads) as f64;
                    runner.rounds.push(total / operations);
                }
            }
            progress.step();
        }
        Ok(runners
            .into_iter()
            .map(|runner| runner.finish(self, threads))
            .collect())
    }
}

struct Runner {
    contender: Contender,
    /// Operations of each thread in a round.
    operations: usize,
    rounds: Vec<f64>,
}

impl Runner {
    fn new(contender: Contender) -> Self {
        Self {
            contender,
            operations: 0,
            rounds: Vec::new(),
        }
    }

    /// Nanoseconds for so many operations of each thread.
    fn turn(&self, threads: usize, operations: usize) -> f64 {
        let work = &self.contender.work;
        let (took, _) = turns::at_once(
            threads,
            |thread| work(thread, turns::warming(operations)),
            |thread| work(thread, operations),
        );
        took.as_nanos() as f64
    }

    fn finish(self, job: &Job, threads: usize) -> Cell {
        Cell {
            workload: job.id.to_string(),
            threads,
            peer: self.contender.info.id.to_string(),
            nanos: median(&self.rounds),
            rounds: self.rounds,
            hit_ratio: None,
            fullness: 0.0,
            processor: None,
        }
    }
}
