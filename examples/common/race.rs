//! A writer that commits while readers fill a cache: does anybody read what was replaced?
//!
//! The writer goes through the rows of a table, round after round, and the readers ask for the row
//! that is being written and for those written just before. The cache holds half of the rows, so
//! that a row is missing again when its turn comes, and is loaded while it is written.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use haybox::Cache;

type Failure = Box<dyn Error + Send + Sync>;

/// A table of numbers in a database.
pub trait Table: Send + Sync + 'static {
    type Error: Error + Send + Sync + 'static;

    /// The rows are numbered from 1 to this.
    fn rows(&self) -> u32;

    /// Writes 0 into all rows.
    fn reset(&self) -> Result<(), Self::Error>;

    fn read(&self, row: u32) -> Result<u64, Self::Error>;

    /// Writes and commits.
    fn write(&self, row: u32, value: u64) -> Result<(), Self::Error>;
}

/// What came of a race.
pub struct Outcome {
    commits: u64,
    reads: u64,
    /// Values stored after a query.
    fills: u64,
    /// Reads of a value that was replaced, and its entry invalidated, before the read began.
    pub stale_reads: u64,
    /// Rows in the cache that differ from the database when everybody has stopped.
    pub stale_rows: u64,
    /// Loaded values that were not stored, because their row was written meanwhile.
    discarded: u64,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        self.stale_reads == 0 && self.stale_rows == 0
    }
}

pub fn print(outcomes: &[(&str, &Outcome)]) {
    println!(
        "{:<18} {:>9} {:>10} {:>9} {:>9} {:>11} {:>21}",
        "", "commits", "reads", "fills", "discarded", "stale reads", "stale rows at the end"
    );
    for (name, outcome) in outcomes {
        println!(
            "{name:<18} {:>9} {:>10} {:>9} {:>9} {:>11} {:>21}",
            outcome.commits,
            outcome.reads,
            outcome.fills,
            outcome.discarded,
            outcome.stale_reads,
            outcome.stale_rows
        );
    }
}

/// The usual way: `get`, a query and `insert`; who writes removes the entry after the commit.
///
/// A reader whose query sees the old row and whose `insert` comes after that removal puts the old
/// value into the cache, to stay.
pub fn naive<T: Table>(table: &Arc<T>, rounds: u64, readers: usize) -> Result<Outcome, Failure> {
    let cache = small_cache(table.as_ref());
    let read = |row| {
        if let Some(value) = cache.get(&row) {
            return Ok(value);
        }
        let value = table.read(row)?;
        cache.insert(row, value);
        Ok(value)
    };
    let write = |row, value| {
        table.write(row, value)?;
        cache.remove(&row);
        Ok(())
    };
    race(table.as_ref(), &cache, (rounds, readers), read, write)
}

/// The same with a loader that is bound to the cache, and with the commit fenced.
pub fn fenced<T: Table>(table: &Arc<T>, rounds: u64, readers: usize) -> Result<Outcome, Failure> {
    let cache = small_cache(table.as_ref());
    let source = Arc::clone(table);
    let values = cache.read_through(move |row| source.read(*row));
    let read = |row| Ok(values.get(&row)?.expect("the loader brings a value"));
    let write = |row, value| {
        let commit = || table.write(row, value);
        Ok(cache.invalidate_around([&row], commit)?)
    };
    race(table.as_ref(), &cache, (rounds, readers), read, write)
}

fn small_cache(table: &impl Table) -> Cache<u32, u64> {
    Cache::new((table.rows() as usize / 2).max(1))
}

fn race<T: Table>(
    table: &T,
    cache: &Cache<u32, u64>,
    (rounds, readers): (u64, usize),
    read: impl Fn(u32) -> Result<u64, Failure> + Sync,
    write: impl Fn(u32, u64) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    table.reset()?;
    let track = Track::new(table.rows());
    let (reads, stale_reads) = thread::scope(|scope| {
        let readers: Vec<_> = (0..readers)
            .map(|_| scope.spawn(|| track.follow(&read)))
            .collect();
        let written = track.lead(rounds, write);
        let mut sums = (0, 0);
        for reader in readers {
            let (reads, stale) = reader.join().expect("no reader panics")?;
            sums = (sums.0 + reads, sums.1 + stale);
        }
        written.map(|()| sums)
    })?;
    let mut stale_rows = 0;
    for (row, value) in cache {
        stale_rows += u64::from(table.read(row)? != value);
    }
    let stats = cache.stats();
    Ok(Outcome {
        commits: rounds,
        reads,
        fills: stats.inserts + stats.updates,
        stale_reads,
        stale_rows,
        discarded: stats.discarded_loads,
    })
}

/// How far the writer has come.
struct Track {
    /// For each row the value that is committed and invalidated, so that no read that begins now
    /// may return an older one.
    committed: Vec<AtomicU64>,
    round: AtomicU64,
    is_over: AtomicBool,
}

impl Track {
    fn new(rows: u32) -> Self {
        Track {
            committed: (0..rows).map(|_| AtomicU64::new(0)).collect(),
            round: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// The index of the row that is written in a round.
    fn index(&self, round: u64) -> usize {
        (round % self.committed.len() as u64) as usize
    }

    /// The writer.
    fn lead(
        &self,
        rounds: u64,
        write: impl Fn(u32, u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let _over = OnDrop(|| self.is_over.store(true, SeqCst));
        for round in 1..=rounds {
            if self.is_over.load(SeqCst) {
                break;
            }
            let index = self.index(round);
            write(index as u32 + 1, round)?;
            self.committed[index].store(round, SeqCst);
            self.round.store(round, SeqCst);
            // Or it would be many rounds ahead before a reader has its turn.
            thread::yield_now();
        }
        Ok(())
    }

    /// A reader. Counts its reads and the stale ones among them.
    fn follow(&self, read: impl Fn(u32) -> Result<u64, Failure>) -> Result<(u64, u64), Failure> {
        // A reader that fails ends the race.
        let _over = OnDrop(|| self.is_over.store(true, SeqCst));
        let (mut reads, mut stale) = (0, 0);
        while !self.is_over.load(SeqCst) {
            let written_now = self.round.load(SeqCst) + 1;
            let index = self.index(written_now.saturating_sub(reads % 4));
            let at_least = self.committed[index].load(SeqCst);
            stale += u64::from(read(index as u32 + 1)? < at_least);
            reads += 1;
            // Rather than spend the time on hits, lets the others do their work.
            thread::yield_now();
        }
        Ok((reads, stale))
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
