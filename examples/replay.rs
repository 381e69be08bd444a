//! The hit ratio of haybox on a trace, beside exact LRU and the clairvoyant optimum.
//!
//! `cargo run --release --example replay -- --capacities 1%,10% trace.u64`

mod common;

use std::collections::{BinaryHeap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::{Failure, Zipf, print_table, progress, read_trace, text, thousands};
use haybox::Cache;
use indicatif::ProgressBar;

const HELP: &str = "\
Replays traces and prints the hit ratio of haybox, exact LRU and the clairvoyant optimum.

usage: replay [options] [FILE...]

  --trace FILE        a trace: one little-endian u64 key per request; also without the option
  --capacities LIST   entries, or shares of the distinct keys (default 1%,5%,10%,20%)
  --help              this text

Without a trace it generates four: Zipf, uniform, Zipf with scans, and a loop.
A request is a hit when `get` finds the key; on a miss the key is inserted.";

fn main() -> ExitCode {
    common::finish(run())
}

fn run() -> Result<ExitCode, Failure> {
    let Some(options) = Options::parse(common::arguments())? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let traces = options.traces()?;
    let requests: usize = traces.iter().map(|trace| trace.keys.len()).sum();
    let bar = progress(
        (requests * 3 * options.capacities.len()) as u64,
        "replaying",
    );
    let mut rows = vec![headings()];
    for trace in &traces {
        for capacity in &options.capacities {
            rows.push(replay(trace, capacity.entries(trace.distinct()), &bar));
        }
    }
    bar.finish_and_clear();
    print_table(&rows);
    println!("\nHit ratios in percent; in the bar, # is haybox and - what the optimum adds.");
    Ok(ExitCode::SUCCESS)
}

fn headings() -> Vec<String> {
    let names = ["trace", "requests", "capacity", "haybox", "LRU", "optimum"];
    let mut row: Vec<String> = names.map(String::from).into();
    row.push(format!("{:<BAR_WIDTH$}", "0 to 100 %"));
    row
}

fn replay(trace: &Trace, capacity: usize, bar: &ProgressBar) -> Vec<String> {
    let percent = |hits: usize| {
        bar.inc(trace.keys.len() as u64);
        100.0 * hits as f64 / trace.keys.len() as f64
    };
    let haybox = percent(haybox_hits(&trace.keys, capacity));
    let lru = percent(lru_hits(trace, capacity));
    let optimum = percent(optimal_hits(trace, capacity));
    vec![
        trace.name.clone(),
        thousands(trace.keys.len() as u64),
        thousands(capacity as u64),
        format!("{haybox:.2}"),
        format!("{lru:.2}"),
        format!("{optimum:.2}"),
        picture(haybox, optimum),
    ]
}

const BAR_WIDTH: usize = 25;

fn picture(haybox: f64, optimum: f64) -> String {
    let cells = |percent: f64| (percent / 100.0 * BAR_WIDTH as f64).round() as usize;
    let more = cells(optimum).saturating_sub(cells(haybox));
    let bar = "#".repeat(cells(haybox)) + &"-".repeat(more);
    format!("{bar:<BAR_WIDTH$}")
}

fn haybox_hits(keys: &[u64], capacity: usize) -> usize {
    let cache: Cache<u64, u64> = Cache::new(capacity);
    let hit = |key: &&u64| {
        let found = cache.get(*key).is_some();
        if !found {
            cache.insert(**key, **key);
        }
        found
    };
    keys.iter().filter(hit).count()
}

fn lru_hits(trace: &Trace, capacity: usize) -> usize {
    let mut list = RecencyList::new(trace.distinct());
    let mut hits = 0;
    for &key in &trace.numbers {
        if list.unlink(key) {
            hits += 1;
        } else if list.len == capacity {
            list.unlink(list.oldest());
        }
        list.push_newest(key);
    }
    hits
}

/// A doubly linked list of key numbers in two arrays, so that each step of LRU takes constant
/// time. The last place of the arrays is the list's end: a ring through it needs no special case.
struct RecencyList {
    newer: Vec<u32>,
    older: Vec<u32>,
    end: u32,
    len: usize,
}

/// The neighbour of a key that is not in the list.
const ABSENT: u32 = u32::MAX;

impl RecencyList {
    fn new(keys: usize) -> Self {
        let end = keys as u32;
        let mut links = vec![ABSENT; keys + 1];
        links[keys] = end;
        RecencyList {
            newer: links.clone(),
            older: links,
            end,
            len: 0,
        }
    }

    fn oldest(&self) -> u32 {
        self.newer[self.end as usize]
    }

    fn push_newest(&mut self, key: u32) {
        let second = self.older[self.end as usize];
        self.link(second, key);
        self.link(key, self.end);
        self.len += 1;
    }

    /// Returns whether the key was in the list.
    fn unlink(&mut self, key: u32) -> bool {
        let (older, newer) = (self.older[key as usize], self.newer[key as usize]);
        if older == ABSENT {
            return false;
        }
        self.link(older, newer);
        self.older[key as usize] = ABSENT;
        self.len -= 1;
        true
    }

    fn link(&mut self, older: u32, newer: u32) {
        self.newer[older as usize] = newer;
        self.older[newer as usize] = older;
    }
}

/// The most hits any cache can have that stores every key it is asked for: it evicts the key whose
/// next use is farthest (L. A. Belady, "A study of replacement algorithms for a virtual-storage
/// computer", IBM Systems Journal 5(2), 1966). Takes O(n log n) time.
fn optimal_hits(trace: &Trace, capacity: usize) -> usize {
    let mut resident = vec![false; trace.distinct()];
    let (mut residents, mut hits) = (0, 0);
    // A hit leaves the key's earlier entry in the heap. It cannot surface while a resident key is
    // there, because its next use has passed and that of every resident lies ahead.
    let mut farthest = BinaryHeap::new();
    for (&key, next_use) in trace.numbers.iter().zip(next_uses(trace)) {
        if resident[key as usize] {
            hits += 1;
        } else if residents == capacity {
            let (_, victim) = farthest.pop().expect("every resident key has an entry");
            resident[victim as usize] = false;
        } else {
            residents += 1;
        }
        resident[key as usize] = true;
        farthest.push((next_use, key));
    }
    hits
}

/// For each request, the index of the next one for the same key, or the greatest number.
fn next_uses(trace: &Trace) -> Vec<usize> {
    let mut next = vec![usize::MAX; trace.distinct()];
    let mut uses = vec![0; trace.numbers.len()];
    for (index, &key) in trace.numbers.iter().enumerate().rev() {
        uses[index] = std::mem::replace(&mut next[key as usize], index);
    }
    uses
}

struct Trace {
    name: String,
    keys: Vec<u64>,
    /// The keys, numbered from 0 in the order of their first requests.
    numbers: Vec<u32>,
}

impl Trace {
    fn new(name: &str, keys: Vec<u64>) -> Self {
        let mut known = HashMap::new();
        let mut number = |key| {
            let next = known.len() as u32;
            *known.entry(key).or_insert(next)
        };
        let numbers = keys.iter().copied().map(&mut number).collect();
        Trace {
            name: name.to_string(),
            keys,
            numbers,
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.file_stem().unwrap_or(path.as_os_str());
        Ok(Trace::new(&name.to_string_lossy(), read_trace(path)?))
    }

    fn distinct(&self) -> usize {
        self.numbers
            .iter()
            .max()
            .map_or(0, |&last| last as usize + 1)
    }
}

const KEYS: u64 = 100_000;
const REQUESTS: u64 = 1_000_000;

/// Workloads for lack of a trace. The seed is fixed, so every run sees the same requests.
fn generated() -> Vec<Trace> {
    let zipf = Zipf::new(KEYS, 0.99);
    let mut random = fastrand::Rng::with_seed(99);
    let mut trace = |name, key: &mut dyn FnMut(u64, &mut fastrand::Rng) -> u64| {
        let keys = (0..REQUESTS).map(|request| key(request, &mut random));
        Trace::new(name, keys.collect())
    };
    // Each scan is 10,000 keys long that are requested only once, as by a report or a crawler.
    let scanned = |request| request % 50_000 >= 40_000;
    vec![
        trace("zipf 0.99", &mut |_, random| zipf.rank(random)),
        trace("uniform", &mut |_, random| random.u64(1..=KEYS)),
        trace(
            "zipf + scans",
            &mut |request, random| match scanned(request) {
                true => KEYS + request,
                false => zipf.rank(random),
            },
        ),
        trace("loop", &mut |request, _| request % (KEYS / 5)),
    ]
}

enum Capacity {
    Entries(usize),
    Percent(f64),
}

impl Capacity {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(share) => {
                let percent = share.parse().ok()?;
                (percent > 0.0 && percent <= 100.0).then_some(Capacity::Percent(percent))
            }
            None => {
                let entries = text.parse().ok()?;
                (entries > 0).then_some(Capacity::Entries(entries))
            }
        }
    }

    /// A share is rounded down, to 1 at least.
    fn entries(&self, distinct: usize) -> usize {
        match self {
            Capacity::Entries(entries) => *entries,
            Capacity::Percent(percent) => ((distinct as f64 * percent / 100.0) as usize).max(1),
        }
    }
}

struct Options {
    files: Vec<PathBuf>,
    capacities: Vec<Capacity>,
}

impl Options {
    /// Returns `None` when the user asks for help.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut files = Vec::new();
        let mut capacities = "1%,5%,10%,20%".to_string();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--trace" => files.push(text("--trace", &mut arguments, "a file")?.into()),
                "--capacities" => {
                    capacities = text("--capacities", &mut arguments, "a list such as 1%,500")?;
                }
                option if option.starts_with('-') => {
                    return Err(Failure::Input(format!("there is no option `{option}`")));
                }
                file => files.push(file.into()),
            }
        }
        Ok(Some(Options {
            files,
            capacities: capacity_list(&capacities)?,
        }))
    }

    fn traces(&self) -> Result<Vec<Trace>, Failure> {
        match self.files.as_slice() {
            [] => Ok(generated()),
            files => files.iter().map(|file| Trace::read(file)).collect(),
        }
    }
}

fn capacity_list(list: &str) -> Result<Vec<Capacity>, Failure> {
    let wrong = |item: &str| {
        Failure::Input(format!(
            "--capacities needs entries (1000) or shares of the distinct keys (5%), not `{item}`"
        ))
    };
    list.split(',')
        .map(|item| Capacity::parse(item.trim()).ok_or_else(|| wrong(item)))
        .collect()
}
