//! Cache-aside: product pages out of a SQLite database, without and then with haybox before it.
//!
//! `cargo run --release --example sql_cache_aside`
//!
//! Threads ask for product pages (three aggregate queries each) and now and then change a product
//! in a transaction. Both runs serve the same requests from the same rows. At the end every row
//! in the cache is compared with the database, because a cache that is fast and wrong is no use.

mod common;
#[path = "sql_cache_aside/histogram.rs"]
mod histogram;
#[path = "sql_cache_aside/options.rs"]
mod options;
#[path = "sql_cache_aside/seed.rs"]
mod seed;
#[path = "sql_cache_aside/shop.rs"]
mod shop;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use common::{Failure, Zipf, print_table, progress, read_trace, thousands};
use haybox::Cache;
use histogram::Histogram;
use indicatif::ProgressBar;
use options::{HELP, Options};
use shop::{Change, PRICES, Page, Shop, product_of_rank};

fn main() -> ExitCode {
    common::finish(run())
}

fn run() -> Result<ExitCode, Failure> {
    let Some(options) = Options::parse(common::arguments())? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let requests = requests(&options)?;
    let _only_run = seed::lock(&options.db)?;
    seed::prepare(&options.db, options.products, options.reseed)?;

    let mut cache = Cache::builder().max_entries(options.capacity);
    if let Some(ttl) = options.ttl {
        cache = cache.time_to_live(ttl);
    }
    let cache = cache.build()?;
    describe(&options, &requests);
    let without = measure(&options, &requests, None)?;
    let with = measure(&options, &requests, Some(&cache))?;
    report(&without, &with, &cache);
    check(&options, &cache)
}

fn describe(options: &Options, requests: &[Request]) {
    println!(
        "{} products in {}\n{} requests ({} % updates) by {} threads in each run; \
         the cache starts empty and holds {} pages\n",
        thousands(options.products.into()),
        options.db.display(),
        thousands(requests.len() as u64),
        options.updates,
        options.threads,
        thousands(options.capacity as u64),
    );
}

// ---- Cache-aside -------------------------------------------------------------------------------

type Pages = Cache<u32, Arc<Page>>;

/// One thread's way to the pages: its own connection, and the cache of all threads.
struct Client<'a> {
    shop: Shop,
    cache: Option<&'a Pages>,
}

impl Client<'_> {
    /// A page out of the cache, or out of the database and then into the cache.
    ///
    /// `get`, a query and `insert` would do the same with a race: the query reads the old row, the
    /// row changes and is invalidated, and only then the old page is inserted, to stay. A load
    /// under way is safe from that: it is not stored if its key is removed meanwhile.
    fn page(&mut self, product: u32) -> Result<Arc<Page>, Failure> {
        let mut load = || self.shop.page(product).map(Arc::new);
        match self.cache {
            Some(cache) => Ok(cache.try_get_or_insert_with(&product, load)?),
            None => Ok(load()?),
        }
    }

    /// Changes a row and then removes its page from the cache.
    ///
    /// A load that began its read before the commit may see the old row. Either it has stored its
    /// page before the removal, which takes it away, or the removal overtakes it and it is not
    /// stored. A load that begins its read after the commit sees the new row: SQLite takes the
    /// snapshot at the first read. So after the removal no old page is left and none can come.
    ///
    /// A removal before the commit would not help: a load after it may still see the old row. What
    /// readers may get, between commit and removal, is the page of a moment ago.
    fn change(&mut self, product: u32, change: Change) -> Result<(), Failure> {
        let outcome = self.shop.change(product, change);
        // After an error as well, because a commit that reports one may yet have taken place.
        if let Some(cache) = self.cache {
            cache.remove(&product);
        }
        Ok(outcome?)
    }
}

/// Compares every page in the cache with the database, now that nothing changes any more.
fn check(options: &Options, cache: &Pages) -> Result<ExitCode, Failure> {
    let mut shop = Shop::open(&options.db)?;
    let bar = progress(cache.len() as u64, "comparing");
    let (mut pages, mut old) = (0, 0);
    for (product, page) in cache {
        pages += 1;
        old += u64::from(*page != shop.page(product)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let result = match old {
        0 => "all equal".to_string(),
        _ => format!("{} DIFFER", thousands(old)),
    };
    println!(
        "{} cached rows compared with the database: {result}",
        thousands(pages)
    );
    Ok(ExitCode::from(u8::from(old > 0)))
}

// ---- Requests ----------------------------------------------------------------------------------

#[derive(Clone, Copy)]
enum Request {
    Page(u32),
    Change(u32, Change),
}

/// All requests, drawn beforehand so that both runs get the same.
fn requests(options: &Options) -> Result<Vec<Request>, Failure> {
    let mut random = fastrand::Rng::with_seed(5);
    let ranks = match &options.trace {
        Some(trace) => ranks_of_trace(trace, options)?,
        None => zipf_ranks(options, &mut random),
    };
    let request = |rank| {
        let product = product_of_rank(rank, options.products);
        if random.f64() * 100.0 >= options.updates {
            Request::Page(product)
        } else if random.bool() {
            Request::Change(product, Change::Price(random.u32(PRICES)))
        } else {
            Request::Change(product, Change::Review(random.u32(1..=5)))
        }
    };
    Ok(ranks.into_iter().map(request).collect())
}

fn zipf_ranks(options: &Options, random: &mut fastrand::Rng) -> Vec<u64> {
    let zipf = Zipf::new(options.products.into(), 0.99);
    (0..options.requests).map(|_| zipf.rank(random)).collect()
}

/// Numbers the keys of a trace by how often they occur; what is more than the products wraps round.
fn ranks_of_trace(path: &Path, options: &Options) -> Result<Vec<u64>, Failure> {
    let mut keys = read_trace(path)?;
    keys.truncate(options.requests);
    let mut counts = HashMap::new();
    for &key in &keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    let mut by_count: Vec<(u64, u64)> = counts.into_iter().collect();
    by_count.sort_unstable_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
    let ranks = (1..=u64::from(options.products)).cycle();
    let rank_of: HashMap<u64, u64> = by_count.iter().map(|&(key, _)| key).zip(ranks).collect();
    Ok(keys.iter().map(|key| rank_of[key]).collect())
}

// ---- Measuring ---------------------------------------------------------------------------------

/// What one run measured.
#[derive(Default)]
struct Run {
    seconds: f64,
    requests: usize,
    queries: u64,
    latency: Histogram,
}

fn measure(options: &Options, requests: &[Request], cache: Option<&Pages>) -> Result<Run, Failure> {
    Shop::open(&options.db)?.forget_changes(options.products)?;
    let task = match cache {
        None => "without a cache",
        Some(_) => "with the cache",
    };
    let bar = progress(requests.len() as u64, task);
    let mut clients = Vec::new();
    for _ in 0..options.threads {
        clients.push(Client {
            shop: Shop::open(&options.db)?,
            cache,
        });
    }
    let begin = Instant::now();
    let runs = serve_all(clients, requests, &bar)?;
    let seconds = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let mut total = Run {
        seconds,
        requests: requests.len(),
        ..Run::default()
    };
    for run in runs {
        total.queries += run.queries;
        total.latency.add(&run.latency);
    }
    Ok(total)
}

/// Deals the requests out to one thread for each client.
fn serve_all(
    clients: Vec<Client>,
    requests: &[Request],
    bar: &ProgressBar,
) -> Result<Vec<Run>, Failure> {
    let step = clients.len();
    thread::scope(|scope| {
        let serve = |(first, client)| {
            let own = requests.iter().skip(first).step_by(step);
            scope.spawn(move || serve(client, own, bar))
        };
        let threads: Vec<_> = clients.into_iter().enumerate().map(serve).collect();
        let join = |thread: thread::ScopedJoinHandle<_>| thread.join().expect("no request panics");
        threads.into_iter().map(join).collect()
    })
}

/// The bar is shared by the threads, so it moves only after this many requests.
const BAR_STEP: u64 = 500;

fn serve<'a>(
    mut client: Client,
    requests: impl Iterator<Item = &'a Request>,
    bar: &ProgressBar,
) -> Result<Run, Failure> {
    let mut run = Run::default();
    for (request, number) in requests.zip(1..) {
        match *request {
            Request::Page(product) => {
                let begin = Instant::now();
                client.page(product)?;
                run.latency.record(begin.elapsed());
            }
            Request::Change(product, change) => client.change(product, change)?,
        }
        if number % BAR_STEP == 0 {
            bar.inc(BAR_STEP);
        }
    }
    run.queries = client.shop.queries;
    Ok(run)
}

fn report(without: &Run, with: &Run, cache: &Pages) {
    let headings = "|requests/s|p50|p99|p999|queries|hit ratio|memory";
    let hit_ratio = format!("{:.1} %", 100.0 * cache.stats().hit_ratio());
    let memory = format!("{:.1} MB", memory(cache) as f64 / 1e6);
    let rows = [
        headings.split('|').map(String::from).collect(),
        row("without a cache", without, "-".into(), "-".into()),
        row("with haybox", with, hit_ratio, memory),
    ];
    print_table(&rows);
    println!(
        "\nLatencies are those of page requests; queries are the SELECTs that reached SQLite.\n\
         With the cache: {:.1} times the requests per second, {:.1} % of the queries.",
        with.per_second() / without.per_second(),
        100.0 * with.queries as f64 / without.queries.max(1) as f64,
    );
}

fn row(name: &str, run: &Run, hit_ratio: String, memory: String) -> Vec<String> {
    let latency = |share| format!("{:.1} µs", run.latency.quantile(share) as f64 / 1e3);
    vec![
        name.to_string(),
        thousands(run.per_second() as u64),
        latency(0.5),
        latency(0.99),
        latency(0.999),
        thousands(run.queries),
        hit_ratio,
        memory,
    ]
}

/// Roughly the bytes of the cache and of what its pages point to.
fn memory(cache: &Pages) -> u64 {
    let pages: usize = cache.iter().map(|(_, page)| page.bytes()).sum();
    cache.memory() + pages as u64
}

impl Run {
    fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}
