//! A shop that keeps its carts is killed in the middle of its work, and nothing that a customer was
//! told is lost.
//!
//! ```text
//! cargo run --release --features persist --example durable_store
//! cargo run --release --features persist --example durable_store -- carts/ 10
//! ```
//!
//! The shop is this program once more, as a child process. Eight customers put articles into their
//! carts; when one is on the disk, the shop says so through a pipe. After some hundred of them the
//! parent kills it (`SIGKILL`, which no process can catch), opens the directory, and compares each
//! cart with what was acknowledged. Then the shop opens again. Run it on a directory of your own to
//! see the carts grow from run to run.

use haybox::persist::{Persistence, RecoveryReport, SyncPolicy};
use haybox::{Cache, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

const CUSTOMERS: u32 = 8;
const ROUNDS: u32 = 3;
const ARTICLES_A_ROUND: usize = 400;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    articles: Vec<u32>,
}

type Carts = Store<u32, Cart>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(role), Some(dir)) if role == "shop" => run_shop(Path::new(&dir)),
        (dir, rounds) => {
            let rounds = rounds.map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
            let temporary =
                std::env::temp_dir().join(format!("haybox-carts-{}", std::process::id()));
            let own = dir.map(PathBuf::from);
            kill_shops(own.as_deref().unwrap_or(&temporary), rounds)?;
            if own.is_none() {
                std::fs::remove_dir_all(&temporary)?;
            }
            Ok(())
        }
    }
}

/// Opens the carts. An article that was acknowledged is on the disk.
fn open(dir: &Path) -> Result<Carts> {
    let options = Persistence::new().sync(SyncPolicy::Always);
    Ok(Cache::builder().open_store_with(dir, options)?)
}

// ---- the shop ----

fn run_shop(dir: &Path) -> Result<()> {
    let carts = open(dir)?;
    thread::scope(|scope| {
        for customer in 0..CUSTOMERS {
            let carts = &carts;
            scope.spawn(move || {
                // Ends when the parent no longer listens.
                while put_article(carts, customer).is_ok() {}
            });
        }
    });
    Ok(())
}

/// Puts the next article into a cart, and says so once it is safe.
fn put_article(carts: &Carts, customer: u32) -> Result<()> {
    let added = carts.update_or_insert_with(&customer, Cart::default, |cart| {
        cart.articles.push(cart.articles.len() as u32);
        cart.articles.len()
    })?;
    let count = added.wait()?;
    writeln!(std::io::stdout().lock(), "{customer} {count}")?;
    Ok(())
}

// ---- the parent ----

fn kill_shops(dir: &Path, rounds: u32) -> Result<()> {
    for round in 1..=rounds {
        let acknowledged = run_and_kill(dir)?;
        let carts = open(dir)?;
        println!(
            "round {round}: killed after {} articles",
            acknowledged.articles
        );
        print_report(carts.journal().recovery());
        compare(&carts, &acknowledged.carts)?;
    }
    println!("nothing that was acknowledged is lost");
    Ok(())
}

/// What a shop has said before it died.
#[derive(Default)]
struct Acknowledged {
    articles: usize,
    /// For each customer, how many articles are in the cart.
    carts: BTreeMap<u32, usize>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        // The last line may be cut short.
        let Some((customer, count)) = line.split_once(' ') else {
            return;
        };
        if let (Ok(customer), Ok(count)) = (customer.parse(), count.parse()) {
            self.carts.insert(customer, count);
            self.articles += 1;
        }
    }
}

fn run_and_kill(dir: &Path) -> Result<Acknowledged> {
    let mut shop = Command::new(std::env::current_exe()?)
        .arg("shop")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let started = Instant::now();
    let pipe = shop.stdout.take().ok_or("the shop has a pipe")?;
    let mut lines = BufReader::new(pipe).lines();
    let mut acknowledged = Acknowledged::default();
    for line in lines.by_ref().take(ARTICLES_A_ROUND) {
        acknowledged.note(&line?);
    }
    shop.kill()?;
    let ran = started.elapsed();
    // What it said before it died is in the pipe still.
    for line in lines.map_while(|line| line.ok()) {
        acknowledged.note(&line);
    }
    shop.wait()?;
    println!("the shop ran for {ran:.0?}");
    Ok(acknowledged)
}

fn print_report(report: &RecoveryReport) {
    println!(
        "  recovered   {} carts in {:.1?}",
        report.entries, report.total_time
    );
    println!(
        "  read        {} records of a snapshot, {} of the log, {} bytes",
        report.from_snapshot, report.from_log, report.bytes
    );
    println!(
        "  writes      up to number {}, proven on the disk up to {}",
        report.last_seq, report.durable_seq
    );
    match &report.quarantine[..] {
        [] => println!("  cut short   nothing"),
        copies => println!(
            "  cut short   {} bytes that nobody was told of, copied to {copies:?}",
            report.dropped_bytes
        ),
    }
    println!("  clock       {}", report.clock);
}

/// Every cart has what was acknowledged, and at most the one article that was on its way.
fn compare(carts: &Carts, acknowledged: &BTreeMap<u32, usize>) -> Result<()> {
    let mut on_their_way = 0;
    for (customer, count) in acknowledged {
        let cart = carts.get(customer).ok_or("a cart is lost")?;
        let is_whole = cart
            .articles
            .iter()
            .copied()
            .eq(0..cart.articles.len() as u32);
        let more = cart.articles.len().checked_sub(*count);
        match more {
            Some(more) if is_whole && more <= 1 => on_their_way += more,
            _ => return Err(format!("customer {customer}: {count} acknowledged, {cart:?}").into()),
        }
    }
    println!(
        "  compared    {} carts: all there, and {on_their_way} articles more",
        acknowledged.len()
    );
    Ok(())
}
