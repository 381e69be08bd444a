//! What is compared: one file for each crate.

mod dashmap;
mod foyer;
mod hashbrown;
mod haybox;
mod mini_moka;
mod moka;
mod papaya;
mod quick_cache;
pub mod redis;
mod scc;
pub mod stretto;

use crate::data::{Key, Value};
use crate::latency::{Timed, Times};
use crate::roles;
use crate::workload::Kind;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The hasher of every peer that takes one. haybox's own default is the same.
pub type Hasher = ahash::RandomState;

pub const HOUR: Duration = Duration::from_secs(3600);

/// What a cache is built for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most entries; none is a cache that grows as it likes.
    pub capacity: Option<usize>,
    /// For peers that know TTLs.
    pub ttl: Duration,
}

impl Options {
    pub fn bounded(capacity: usize) -> Self {
        Self {
            capacity: Some(capacity),
            ttl: HOUR,
        }
    }
}

/// A cache, or a map for comparison.
///
/// The loops are provided here, over `get` and `insert`, so that each peer gets its own copy of
/// them with its calls inlined. Only whole loops are called through [`Subject`].
pub trait Peer<K: Key, V: Value>: Send + Sync {
    fn get(&self, key: &K) -> Option<V>;

    fn insert(&self, key: K, value: V);

    fn len(&self) -> usize;

    /// The entries that can be read at this moment, where `len` leaves some of them out.
    fn held(&self) -> usize {
        self.len()
    }

    /// Does now what the peer would otherwise do some time later.
    fn settle(&self) {}

    /// Inserts so many keys, from number 0 on, and loses none where there is room.
    fn fill(&self, entries: usize) {
        for number in 0..entries as u64 {
            self.insert(K::make(number), V::make(number));
        }
        self.settle();
    }

    /// Runs operations over the ring of keys from a place on, and counts the reads that hit.
    #[inline(never)]
    fn run(&self, kind: Kind, ring: &[K], from: usize, operations: usize) -> u64 {
        let mut hits = 0;
        let found = |value: Option<V>| u64::from(black_box(value).is_some());
        match kind {
            Kind::Read => each(ring, from, operations, |_, key| {
                hits += found(self.get(key));
            }),
            Kind::CacheAside => each(ring, from, operations, |at, key| {
                let value = self.get(key);
                if value.is_none() {
                    self.insert(key.clone(), V::make(at as u64));
                }
                hits += found(value);
            }),
            Kind::Insert => each(ring, from, operations, |at, key| {
                self.insert(key.clone(), V::make(at as u64));
            }),
            Kind::Mixed => each(ring, from, operations, |at, key| {
                if at % 10 == 9 {
                    self.insert(key.clone(), V::make(at as u64));
                } else {
                    hits += found(self.get(key));
                }
            }),
            Kind::Churn => each(ring, from, operations, |at, key| {
                if at % 2 == 0 {
                    self.insert(key.clone(), V::make(at as u64));
                } else {
                    hits += found(self.get(&ring[(at + ring.len() - CHURN_LAG) % ring.len()]));
                }
            }),
        }
        hits
    }

    /// Takes the time of each single operation until the count is reached or `stop` is set.
    #[inline(never)]
    fn time(&self, timed: Timed, stop: &AtomicBool, times: &mut Times) {
        let mut random = fastrand::Rng::with_seed(5);
        times.begin();
        let begun = Instant::now();
        for at in 0..timed.operations as u64 {
            if stop.load(Relaxed) {
                break;
            }
            let number = match timed.keys {
                0 => at,
                keys => random.u64(0..keys),
            };
            let key = K::make(number);
            let (started, ended) = if timed.is_read {
                let started = Instant::now();
                black_box(self.get(&key));
                (started, Instant::now())
            } else {
                let value = V::make(number);
                let started = Instant::now();
                self.insert(key, value);
                (started, Instant::now())
            };
            times.record((ended - started).as_nanos() as u64);
            if ended - begun > timed.patience {
                break;
            }
        }
    }

    /// What the peer uses outside this process.
    fn server_usage(&self) -> Option<Usage> {
        None
    }

    /// The number of entries that it can really hold, where that is not what was asked for.
    fn effective_capacity(&self) -> Option<usize> {
        None
    }
}

/// A read of the churn asks for the key that was inserted so many operations ago. Odd, so that an
/// odd place less this is an even one.
const CHURN_LAG: usize = 1001;

#[inline(always)]
fn each<K>(ring: &[K], from: usize, operations: usize, mut operation: impl FnMut(usize, &K)) {
    let mut at = from % ring.len();
    let mut left = operations;
    while left > 0 {
        let end = ring.len().min(at + left);
        for (offset, key) in ring[at..end].iter().enumerate() {
            operation(at + offset, key);
        }
        left -= end - at;
        at = 0;
    }
}

/// A [`Peer`] whose type is forgotten.
pub type Subject<K, V> = Box<dyn Peer<K, V>>;

/// Memory and processor time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    pub allocated: i64,
    pub resident: i64,
    pub cpu: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Haybox,
    /// A cache that haybox is measured against.
    Rival,
    /// scc's: neither TTL nor weights nor an exact bound.
    Plain,
    /// A map that never evicts: what any cache at least costs.
    Floor,
    /// Another process.
    Server,
}

/// What is known of a peer before it is built.
#[derive(Debug)]
pub struct Info {
    pub id: &'static str,
    pub label: &'static str,
    /// The name in `Cargo.lock`.
    pub package: &'static str,
    pub class: Class,
    pub has_ttl: bool,
    pub evicts: bool,
    /// Whether it can be built without a bound.
    pub grows: bool,
    pub max_threads: usize,
    /// Whether its own threads still have minutes of work to do after many evictions, even when it
    /// is dropped: measurements that evict get a process of their own, and it takes no turns.
    pub lingers: bool,
}

pub const CACHE: Info = Info {
    id: "",
    label: "",
    package: "",
    class: Class::Rival,
    has_ttl: false,
    evicts: true,
    grows: false,
    max_threads: usize::MAX,
    lingers: false,
};

pub const FLOOR: Info = Info {
    class: Class::Floor,
    evicts: false,
    grows: true,
    ..CACHE
};

const SERVER: Info = Info {
    label: "Redis",
    package: "redis",
    class: Class::Server,
    has_ttl: true,
    grows: true,
    max_threads: 1,
    ..CACHE
};

pub const ALL: [Info; 15] = [
    Info {
        id: "haybox",
        label: "haybox",
        package: "haybox",
        class: Class::Haybox,
        has_ttl: true,
        grows: true,
        ..CACHE
    },
    Info {
        id: "haybox-no-ttl",
        label: "haybox, no TTL",
        package: "haybox",
        class: Class::Haybox,
        grows: true,
        ..CACHE
    },
    Info {
        id: "moka",
        label: "moka",
        package: "moka",
        has_ttl: true,
        grows: true,
        ..CACHE
    },
    Info {
        id: "quick_cache",
        label: "quick_cache",
        package: "quick_cache",
        ..CACHE
    },
    Info {
        id: "foyer-s3fifo",
        label: "foyer S3-FIFO",
        package: "foyer-memory",
        ..CACHE
    },
    Info {
        id: "foyer-lfu",
        label: "foyer LFU",
        package: "foyer-memory",
        ..CACHE
    },
    Info {
        id: "mini-moka",
        label: "mini-moka",
        package: "mini-moka",
        has_ttl: true,
        grows: true,
        ..CACHE
    },
    Info {
        id: "stretto",
        label: "stretto",
        package: "stretto",
        has_ttl: true,
        lingers: true,
        ..CACHE
    },
    Info {
        id: "scc",
        label: "scc HashCache",
        package: "scc",
        class: Class::Plain,
        ..CACHE
    },
    Info {
        id: "hashbrown",
        label: "bare hashbrown",
        package: "hashbrown",
        max_threads: 1,
        ..FLOOR
    },
    Info {
        id: "hashbrown-lock",
        label: "RwLock<hashbrown>",
        package: "hashbrown",
        ..FLOOR
    },
    Info {
        id: "dashmap",
        label: "DashMap",
        package: "dashmap",
        ..FLOOR
    },
    Info {
        id: "papaya",
        label: "papaya",
        package: "papaya",
        ..FLOOR
    },
    Info {
        id: "redis",
        label: "Redis, one by one",
        ..SERVER
    },
    Info {
        id: "redis-pipelined",
        label: "Redis, pipelined by 100",
        ..SERVER
    },
];

/// moka with the housekeeping of its own done after each insertion, for the hit ratios alone: so
/// much of them is its policy's, and the rest is that of the entries that it holds above its bound.
pub static PROMPT_MOKA: Info = Info {
    id: "moka-prompt",
    label: "moka, bound kept",
    package: "moka",
    has_ttl: true,
    ..CACHE
};

pub fn info(id: &str) -> Option<&'static Info> {
    ALL.iter().find(|info| info.id == id)
}

/// As [`info`], with those among them that only one part measures.
pub fn known(id: &str) -> Option<&'static Info> {
    let mut others = roles::PEERS.iter().chain([&PROMPT_MOKA]);
    info(id).or_else(|| others.find(|info| info.id == id))
}

/// As [`info`], for a peer that a process is told of.
pub fn named(id: &str) -> Result<&'static Info, String> {
    info(id).ok_or_else(|| format!("there is no peer called {id}"))
}

/// The name to show for a peer, or for a policy that is no peer.
pub fn label(id: &str) -> &str {
    match id {
        "lru" => "exact LRU",
        "optimum" => "clairvoyant",
        "clock" => "nothing, for as long",
        _ => known(id).map_or(id, |info| info.label),
    }
}

/// Builds a peer.
///
/// # Errors
/// A sentence, where a server cannot be started.
pub fn build<K: Key, V: Value>(info: &Info, options: Options) -> Result<Subject<K, V>, String> {
    Ok(match info.id {
        "haybox" => Box::new(haybox::Haybox::new(options, true)),
        "haybox-no-ttl" => Box::new(haybox::Haybox::new(options, false)),
        "moka" => Box::new(moka::Moka::new(options)),
        "moka-prompt" => Box::new(moka::Prompt::new(options)),
        "quick_cache" => Box::new(quick_cache::QuickCache::new(options)),
        "foyer-s3fifo" => Box::new(foyer::Foyer::s3_fifo(options)),
        "foyer-lfu" => Box::new(foyer::Foyer::lfu(options)),
        "mini-moka" => Box::new(mini_moka::MiniMoka::new(options)),
        "stretto" => Box::new(stretto::Stretto::new(options)),
        "scc" => Box::new(scc::Scc::new(options)),
        "hashbrown" => Box::new(hashbrown::Bare::new()),
        "hashbrown-lock" => Box::new(hashbrown::Locked::new()),
        "dashmap" => Box::new(dashmap::Dash::new()),
        "papaya" => Box::new(papaya::Papaya::new()),
        "redis" => Box::new(redis::Redis::start::<V>(options)?),
        "redis-pipelined" => Box::new(redis::Pipelined::start::<V>(options)?),
        unknown => return Err(format!("there is no peer called {unknown}")),
    })
}

/// The bound of a peer that has to have one.
fn bound(options: Options) -> usize {
    options
        .capacity
        .expect("peers that need a bound are only built with one")
}
