//! The options of the command line.

use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use crate::common::{Failure, text};

pub const HELP: &str = "\
Serves product pages from a SQLite database, first without and then with a cache.

usage: sql_cache_aside [options]

  --db FILE           the database (default: a file in the system's directory for temporary files)
  --reseed            write the database anew even if it is there with the same size
  --products N        products in it, with five reviews each on average (default 200000)
  --requests N        requests in each of the two runs (default 300000)
  --capacity N        entries in the cache (default: a tenth of the products)
  --ttl SECONDS       time to live of a cached page (default: none)
  --threads N         threads that send requests (default: one per core, at least 2)
  --updates PERCENT   share of the requests that change a product (default 5)
  --trace FILE        requests from a trace: one little-endian u64 key each, at most --requests
                      of them; the key asked for most becomes the product with most reviews
                      (default: Zipf with exponent 0.99)
  --rounds N          commits of the writer that races against readers (default 2000)
  --help              this text";

pub struct Options {
    pub db: PathBuf,
    pub reseed: bool,
    pub products: u32,
    pub requests: usize,
    pub capacity: usize,
    pub ttl: Option<Duration>,
    pub threads: usize,
    pub updates: f64,
    pub trace: Option<PathBuf>,
    pub rounds: u32,
}

impl Options {
    /// Returns `None` when the user asks for help.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut options = Options::default();
        let mut capacity = None;
        while let Some(option) = arguments.next() {
            let rest = &mut arguments;
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--db" => options.db = database(&text(&option, rest, "a file")?)?,
                "--reseed" => options.reseed = true,
                "--products" => options.products = whole(&option, rest, 10_000_000)?,
                "--requests" => options.requests = whole(&option, rest, 100_000_000)? as usize,
                "--capacity" => capacity = Some(whole(&option, rest, 10_000_000)? as usize),
                "--ttl" => options.ttl = Some(seconds(&option, rest)?),
                "--threads" => options.threads = whole(&option, rest, 1_000)? as usize,
                "--updates" => {
                    options.updates = value(&option, rest, "a percentage (0 to 100)", 0.0..=100.0)?;
                }
                "--trace" => options.trace = Some(text(&option, rest, "a file")?.into()),
                "--rounds" => options.rounds = whole(&option, rest, 100_000_000)?,
                _ => return Err(Failure::Input(format!("there is no option `{option}`"))),
            }
        }
        options.capacity = capacity.unwrap_or((options.products as usize / 10).max(1));
        Ok(Some(options))
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            db: std::env::temp_dir().join("haybox-sql-cache-aside.sqlite"),
            reseed: false,
            products: 200_000,
            requests: 300_000,
            capacity: 1,
            ttl: None,
            threads: thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            updates: 5.0,
            trace: None,
            rounds: 2_000,
        }
    }
}

/// Made absolute, because SQLite gives some relative names (`:memory:`) a meaning of their own.
fn database(name: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(name).map_err(|_| Failure::Input("--db needs a file".to_string()))
}

fn seconds(
    option: &str,
    arguments: &mut impl Iterator<Item = String>,
) -> Result<Duration, Failure> {
    let wanted = "seconds (0.001 to 1000000)";
    value(option, arguments, wanted, 0.001..=1e6).map(Duration::from_secs_f64)
}

fn whole(
    option: &str,
    arguments: &mut impl Iterator<Item = String>,
    most: u32,
) -> Result<u32, Failure> {
    let wanted = format!("a whole number from 1 to {most}");
    value(option, arguments, &wanted, 1..=most)
}

/// Reads the value of `option` from the command line; `wanted` says in words what `range` allows.
fn value<T: FromStr + PartialOrd>(
    option: &str,
    arguments: &mut impl Iterator<Item = String>,
    wanted: &str,
    range: impl RangeBounds<T>,
) -> Result<T, Failure> {
    let text = text(option, arguments, wanted)?;
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(Failure::Input(format!(
            "{option} needs {wanted}, not `{text}`"
        ))),
    }
}
