//! Cache-aside: product pages out of a SQLite database, without and then with haybox before it.
//!
//! `cargo run --release --example sql_cache_aside`
//!
//! Threads ask for product pages (three aggregate queries each) and now and then change a product
//! in a transaction. Both runs serve the same requests from the same rows. At the end every row
//! in the cache is compared with the database, because a cache that is fast and wrong is no use.
//!
//! Then a thousand threads ask for one page that is not cached, and a writer commits while readers
//! fill a cache: once the usual way, once as this example does it.

mod common;
#[path = "sql_cache_aside/histogram.rs"]
mod histogram;
#[path = "sql_cache_aside/options.rs"]
mod options;
#[path = "sql_cache_aside/pool.rs"]
mod pool;
#[path = "sql_cache_aside/prices.rs"]
mod prices;
#[path = "common/race.rs"]
mod race;
#[path = "sql_cache_aside/seed.rs"]
mod seed;
#[path = "sql_cache_aside/shop.rs"]
mod shop;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use common::{Failure, Zipf, print_table, progress, read_trace, thousands};
use haybox::{Cache, ReadThrough};
use histogram::Histogram;
use indicatif::ProgressBar;
use options::{HELP, Options};
use pool::Pool;
use prices::Prices;
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
    let all_is_well = check(&options, &cache)? & stampede(&options)? & race(&options)?;
    Ok(ExitCode::from(u8::from(!all_is_well)))
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

/// What the requests ask: the pages of the products, out of the database or with a cache before it.
struct Products {
    pool: Arc<Pool>,
    cached: Option<ReadThrough<u32, Arc<Page>, rusqlite::Error>>,
}

impl Products {
    fn new(pool: Pool, cache: Option<&Pages>) -> Self {
        let pool = Arc::new(pool);
        let bind = |cache: &Pages| {
            let pool = Arc::clone(&pool);
            cache.read_through(move |product| load(&pool, *product))
        };
        Products {
            cached: cache.map(bind),
            pool,
        }
    }

    /// A page out of the cache, or out of the database and then into the cache.
    ///
    /// `get`, a query and `insert` would do the same with a race: the query reads the old row, the
    /// row changes and is invalidated, and only then the old page is inserted, to stay. A load
    /// under way is safe from that: it is not stored if its key is invalidated meanwhile.
    fn page(&self, product: u32) -> Result<Option<Arc<Page>>, Failure> {
        match &self.cached {
            Some(pages) => Ok(pages.get(&product)?),
            None => Ok(load(&self.pool, product)?),
        }
    }

    /// Changes a row and invalidates its page, before the commit and after it.
    ///
    /// A load that began its read before the commit may see the old row. Either it has stored its
    /// page before the second invalidation, which takes it away, or it is overtaken by that and not
    /// stored. A load that begins its read after the commit sees the new row: SQLite takes the
    /// snapshot at the first read. So nothing old is left afterwards and none can come, also when
    /// the commit reports an error and has yet taken place.
    fn change(&self, product: u32, change: Change) -> rusqlite::Result<()> {
        let commit = || self.pool.with(|shop| shop.change(product, change));
        match &self.cached {
            Some(pages) => pages.cache().invalidate_around([&product], commit),
            None => commit(),
        }
    }
}

/// The loader.
fn load(pool: &Pool, product: u32) -> rusqlite::Result<Option<Arc<Page>>> {
    let page = pool.with(|shop| shop.page(product))?;
    Ok(page.map(Arc::new))
}

// ---- What must be true at the end --------------------------------------------------------------

/// Compares every page in the cache with the database, now that nothing changes any more.
fn check(options: &Options, cache: &Pages) -> Result<bool, Failure> {
    let mut shop = Shop::open(&options.db)?;
    let bar = progress(cache.len() as u64, "comparing");
    let (mut pages, mut old) = (0, 0);
    for (product, page) in cache {
        pages += 1;
        old += u64::from(shop.page(product)?.as_ref() != Some(&*page));
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
    Ok(old == 0)
}

const CALLERS: usize = 1_000;

/// Has a thousand threads ask at once for the page with the most reviews, which is not cached.
fn stampede(options: &Options) -> Result<bool, Failure> {
    let cache = Cache::new(1);
    let products = Products::new(Pool::open(&options.db, 1)?, Some(&cache));
    let product = product_of_rank(1, options.products);
    let start = Barrier::new(CALLERS);
    thread::scope(|scope| {
        let call = || {
            start.wait();
            products.page(product).map(drop)
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let join = |caller: thread::ScopedJoinHandle<_>| caller.join().expect("no caller panics");
        callers.into_iter().try_for_each(join)
    })?;
    let (loads, queries) = (cache.stats().loads, products.pool.queries());
    println!(
        "{} threads asked at once for a page that was not cached: {loads} load, {queries} queries \
         (a page takes three)",
        thousands(CALLERS as u64),
    );
    Ok((loads, queries) == (1, 3))
}

/// A writer against readers. The usual way is only shown; ours must not serve what was replaced.
fn race(options: &Options) -> Result<bool, Failure> {
    let prices = Arc::new(Prices::open(&options.db, options.products)?);
    let rounds = options.rounds.into();
    println!("\nA writer commits prices while readers fill a cache of them:");
    let naive = race::naive(&prices, rounds, options.threads).map_err(Failure::Run)?;
    let fenced = race::fenced(&prices, rounds, options.threads).map_err(Failure::Run)?;
    race::print(&[("get, query, insert", &naive), ("read_through", &fenced)]);
    if naive.is_clean() {
        println!(
            "(Luck: no fill of the usual way was overtaken. It has more chances with --rounds 100000.)"
        );
    }
    Ok(fenced.is_clean())
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
    let products = Products::new(Pool::open(&options.db, options.threads)?, cache);
    let begin = Instant::now();
    let latency = serve_all(&products, requests, options.threads, &bar)?;
    let seconds = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(Run {
        seconds,
        requests: requests.len(),
        queries: products.pool.queries(),
        latency,
    })
}

/// Deals the requests out to the threads.
fn serve_all(
    products: &Products,
    requests: &[Request],
    threads: usize,
    bar: &ProgressBar,
) -> Result<Histogram, Failure> {
    thread::scope(|scope| {
        let serve = |first| {
            let own = requests.iter().skip(first).step_by(threads);
            scope.spawn(move || serve(products, own, bar))
        };
        let threads: Vec<_> = (0..threads).map(serve).collect();
        let mut total = Histogram::default();
        for thread in threads {
            total.add(&thread.join().expect("no request panics")?);
        }
        Ok(total)
    })
}

/// The bar is shared by the threads, so it moves only after this many requests.
const BAR_STEP: u64 = 500;

fn serve<'a>(
    products: &Products,
    requests: impl Iterator<Item = &'a Request>,
    bar: &ProgressBar,
) -> Result<Histogram, Failure> {
    let mut latency = Histogram::default();
    for (request, number) in requests.zip(1..) {
        match *request {
            Request::Page(product) => {
                let begin = Instant::now();
                products.page(product)?;
                latency.record(begin.elapsed());
            }
            Request::Change(product, change) => products.change(product, change)?,
        }
        if number % BAR_STEP == 0 {
            bar.inc(BAR_STEP);
        }
    }
    Ok(latency)
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
