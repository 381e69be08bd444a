//! Hit ratios: a request is a hit when `get` finds the key, and on a miss the key is inserted.

use crate::child;
use crate::peers::{self, Class, Info, Options};
use crate::policies::{self, Numbered};
use crate::progress::Progress;
use crate::results::{Held, HitRow};
use crate::traces::{self, Trace};
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Capacities in percent of the distinct keys.
pub const SHARES: [f64; 8] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];

/// What a trace is called in tables and charts.
fn name(path: &Path) -> Cow<'_, str> {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
}

/// Refuses traces of the same name, whose figures would be taken for those of one.
///
/// # Errors
/// A sentence that names both.
pub fn tell_apart(paths: &[PathBuf]) -> Result<(), String> {
    for (at, path) in paths.iter().enumerate() {
        let (name, shown) = (name(path), path.display());
        if traces::names().any(|generated| generated == name) {
            return Err(format!(
                "the trace {shown} has the name of one that is generated, {name}: rename it"
            ));
        }
        if let Some(other) = paths[..at].iter().find(|other| self::name(other) == name) {
            let other = other.display();
            return Err(format!(
                "the traces {other} and {shown} have the same name, {name}: rename one"
            ));
        }
    }
    Ok(())
}

/// Reads a file of little-endian 64-bit keys.
///
/// # Errors
/// A sentence that names the file.
pub fn read(path: &Path) -> Result<Trace, String> {
    let shown = path.display();
    let bytes =
        fs::read(path).map_err(|error| format!("cannot read the trace {shown}: {error}"))?;
    let (keys, rest) = bytes.as_chunks::<8>();
    if keys.is_empty() || !rest.is_empty() {
        return Err(format!(
            "{shown} is no trace: {} bytes are not a whole number of 64-bit keys, at least one",
            bytes.len()
        ));
    }
    Ok(Trace {
        name: name(path).into_owned(),
        keys: keys.iter().map(|key| u64::from_le_bytes(*key)).collect(),
    })
}

/// The peers that have a policy, each once, and moka once more with its bound kept.
fn suited(peers: &[&'static Info]) -> Vec<&'static Info> {
    let suits =
        |info: &&Info| info.evicts && info.class != Class::Server && info.id != "haybox-no-ttl";
    let mut suited: Vec<_> = peers.iter().copied().filter(suits).collect();
    if suited.iter().any(|info| info.id == "moka") {
        suited.push(&peers::PROMPT_MOKA);
    }
    suited
}

pub fn steps(peers: &[&'static Info], traces: usize) -> u64 {
    (traces * SHARES.len() * (suited(peers).len() + 2)) as u64
}

pub fn measure(
    peers: &[&'static Info],
    traces: &[Trace],
    patience: Duration,
    notes: &mut Vec<String>,
    progress: &Progress,
) -> Result<Vec<HitRow>, String> {
    let mut rows = Vec::new();
    for trace in traces {
        progress.say(format!("hits of {}", trace.name));
        let numbered = Numbered::new(&trace.keys);
        let bytes: Vec<u8> = trace
            .keys
            .iter()
            .flat_map(|key| key.to_le_bytes())
            .collect();
        let mut last = 0;
        for share in SHARES {
            let capacity = (numbered.distinct as f64 * share / 100.0) as usize;
            // Where a trace is small, the least shares are too few entries to tell anything.
            if capacity < LEAST || capacity == last {
                continue;
            }
            last = capacity;
            let row = |peer: &str, outcome: Outcome| HitRow {
                trace: trace.name.clone(),
                requests: trace.keys.len(),
                distinct: numbered.distinct,
                share,
                capacity,
                peer: peer.to_string(),
                effective_capacity: outcome.effective_capacity,
                held: outcome.held,
                percent: 100.0 * outcome.hits as f64 / trace.keys.len() as f64,
            };
            let lru = policies::lru(&numbered, capacity);
            rows.push(row("lru", Outcome::of_policy(lru)));
            progress.step();
            let optimum = policies::optimum(&numbered, capacity);
            rows.push(row("optimum", Outcome::of_policy(optimum)));
            progress.step();
            for info in suited(peers) {
                let outcome = if info.lingers {
                    let alone = Replay {
                        peer: info.id.to_string(),
                        capacity,
                        patience,
                    };
                    child::run(&alone, &bytes)?
                } else {
                    replay(info, capacity, &trace.keys, patience)?
                };
                match outcome {
                    Some(outcome) => rows.push(row(info.id, outcome)),
                    None => notes.push(format!(
                        "{} took longer than {patience:?} for the trace {} with {capacity} entries \
                         and was stopped.",
                        info.label, trace.name
                    )),
                }
                progress.step();
            }
        }
        if last == 0 {
            notes.push(format!(
                "The trace {} has no hit ratios: of its {} distinct keys {} % are fewer than \
                 {LEAST}.",
                trace.name,
                numbered.distinct,
                SHARES[SHARES.len() - 1]
            ));
        }
    }
    Ok(rows)
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    hits: usize,
    /// The capacity where it is not what was asked for.
    effective_capacity: Option<usize>,
    held: Option<Held>,
}

impl Outcome {
    fn of_policy(hits: usize) -> Self {
        Self {
            hits,
            effective_capacity: None,
            held: None,
        }
    }
}

/// What a child process replays: a trace that comes through the standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    peer: String,
    capacity: usize,
    patience: Duration,
}

impl child::Job for Replay {
    const NAME: &'static str = "hits";

    type Answer = Option<Outcome>;

    fn work(self) -> Result<Option<Outcome>, String> {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        read.map_err(|error| format!("no trace: {error}"))?;
        let (keys, _) = bytes.as_chunks::<8>();
        let keys: Vec<u64> = keys.iter().map(|key| u64::from_le_bytes(*key)).collect();
        replay(
            peers::named(&self.peer)?,
            self.capacity,
            &keys,
            self.patience,
        )
    }
}

/// Replays a whole trace; gives none where it takes too long.
fn replay(
    info: &Info,
    capacity: usize,
    keys: &[u64],
    patience: Duration,
) -> Result<Option<Outcome>, String> {
    let cache = peers::build::<u64, u64>(info, Options::bounded(capacity))?;
    // What has been inserted has to be evicted before there is more of it than a hundredth.
    let step = if info.lingers {
        (capacity / 100).max(1)
    } else {
        between_counts(keys.len(), capacity)
    };
    let started = Instant::now();
    let mut hits = 0;
    let mut census = Census::default();
    let mut is_through = true;
    for from in (0..keys.len()).step_by(step) {
        if started.elapsed() > patience {
            is_through = false;
            break;
        }
        hits += cache.run(Kind::CacheAside, keys, from, step.min(keys.len() - from));
        census.count(cache.held(), capacity);
        if info.lingers {
            cache.settle();
        }
    }
    let outcome = Outcome {
        hits: hits as usize,
        effective_capacity: cache.effective_capacity(),
        held: census.held(),
    };
    if info.lingers {
        // Dropping it would wait for what its threads have left to do.
        std::mem::forget(cache);
    }
    Ok(is_through.then_some(outcome))
}

/// How many requests lie between two counts of the entries, where one may have to visit them all.
/// Few enough counts not to disturb the replay, and an odd number of requests, so that what a peer
/// does in batches is not always seen at the same place.
fn between_counts(requests: usize, capacity: usize) -> usize {
    const VISITS: usize = 2_000_000;
    (requests.saturating_mul(capacity) / VISITS).min(10_000) | 1
}

/// Counts of a cache's entries.
#[derive(Default)]
struct Census {
    sum: usize,
    counts: usize,
    most: usize,
}

impl Census {
    /// What was counted before the cache was full says nothing about its bound.
    fn count(&mut self, held: usize, capacity: usize) {
        if self.most < capacity && held >= capacity {
            *self = Self::default();
        }
        self.sum += held;
        self.counts += 1;
        self.most = self.most.max(held);
    }

    fn held(&self) -> Option<Held> {
        (self.counts > 0).then(|| Held {
            mean: self.sum as f64 / self.counts as f64,
            most: self.most,
        })
    }
}

/// The fewest entries that a capacity is replayed with.
const LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_trace_is_named() {
        let error = read(Path::new("/nowhere/trace.u64"))
            .map(|_| ())
            .unwrap_err();
        assert!(error.contains("/nowhere/trace.u64"), "{error}");
    }

    #[test]
    fn traces_of_the_same_name_are_refused() {
        let told = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            tell_apart(&paths)
        };
        assert_eq!(told(&["a/x.u64", "a/y.u64"]), Ok(()));
        let error = told(&["a/x.u64", "a/y.u64", "b/x.u64"]).unwrap_err();
        assert!(error.contains("a/x.u64 and b/x.u64"), "{error}");
        let error = told(&["a/x.u64", "a/x.bin"]).unwrap_err();
        assert!(error.contains("a/x.u64 and a/x.bin"), "{error}");
        for name in ["zipf", "zipf+scans", "loops", "shifting"] {
            let path = format!("a/{name}.u64");
            let error = told(&[&path]).unwrap_err();
            assert!(error.contains(&path), "{error}");
        }
    }

    /// The notes of a replay of so many keys, and how many rows it has.
    fn notes_of(keys: u64) -> (Vec<String>, usize) {
        let trace = Trace {
            name: "short".to_string(),
            keys: (0..2 * keys).map(|at| at % keys).collect(),
        };
        let mut notes = Vec::new();
        let hidden = Progress::hidden();
        let rows = measure(&[], &[trace], Duration::MAX, &mut notes, &hidden);
        (notes, rows.unwrap().len())
    }

    #[test]
    fn a_trace_that_is_too_small_for_any_row_is_noted() {
        let (notes, rows) = notes_of(15);
        assert_eq!(rows, 0);
        assert!(
            notes[0].contains("short") && notes[0].contains("15"),
            "{notes:?}"
        );
        let (notes, rows) = notes_of(16);
        assert!(rows > 0 && notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn entries_are_counted_from_when_a_cache_is_full() {
        let mut census = Census::default();
        assert_eq!(census.held(), None);
        [2, 4].into_iter().for_each(|held| census.count(held, 10));
        assert_eq!(census.held(), Some(Held { mean: 3.0, most: 4 }));
        [11, 10, 9]
            .into_iter()
            .for_each(|held| census.count(held, 10));
        let held = Held {
            mean: 10.0,
            most: 11,
        };
        assert_eq!(census.held(), Some(held));
    }

    /// What is held in a loop over twice as many keys as there is room for.
    fn held_by(info: &Info) -> Held {
        let keys: Vec<u64> = (0..4_000).map(|at| at % 32).collect();
        let outcome = replay(info, 16, &keys, Duration::MAX).unwrap().unwrap();
        outcome.held.unwrap()
    }

    #[test]
    fn who_holds_more_than_its_bound_is_found_out() {
        let moka = held_by(peers::named("moka").unwrap());
        assert!(moka.most > 16 && moka.mean > 17.0, "{moka:?}");
        let prompt = held_by(&peers::PROMPT_MOKA);
        assert_eq!(prompt.most, 16);
        let haybox = held_by(peers::named("haybox").unwrap());
        assert_eq!(haybox.most, 16);
    }

    #[test]
    fn half_a_key_is_refused() {
        let path = std::env::temp_dir().join(format!("half-{}.u64", std::process::id()));
        fs::write(&path, [0; 12]).unwrap();
        let error = read(&path).map(|_| ()).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert!(error.contains("12 bytes"), "{error}");
    }
}
