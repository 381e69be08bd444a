//! Bytes for each entry, what is left of them after expiry, and the load of a process at rest.
//!
//! Each is measured in a process of its own, so that no peer finds memory that another has left.

use crate::alloc;
use crate::child;
use crate::data::Value;
use crate::machine::{number_in, processor_time};
use crate::peers::{self, Class, HOUR, Info, Options, Peer, Usage};
use crate::progress::Progress;
use crate::results::{Expired, Full, MemoryRow};
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a child process is to weigh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weigh {
    peer: String,
    entries: usize,
    payload: bool,
    ttl_ms: Option<u64>,
    rest_ms: u64,
    /// Whether to weigh it once more after it has evicted as many as fit.
    evicts: bool,
}

/// What the child process prints.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Weight {
    entries: usize,
    allocated: i64,
    resident: i64,
    /// The time at rest, and the processor time in it.
    rest: Duration,
    cpu: Duration,
    evicted: Option<Full>,
    expired: Option<Expired>,
}

/// What is weighed of each peer: the share of the entries that there is room for, and whether the
/// values are on the heap. Tables that double are at their best at one size and at their worst at
/// another.
const WEIGHED: [(f64, bool); 3] = [(1.0, false), (0.6, false), (1.0, true)];

/// How long after the last deadline the memory of what has expired is looked at.
const GRACE: Duration = Duration::from_secs(3);

pub fn steps(peers: &[&'static Info]) -> u64 {
    let each = WEIGHED.len() as u64;
    let weighed = peers.iter().filter(|info| info.id != PIPELINED);
    weighed.map(|info| each + u64::from(info.has_ttl)).sum()
}

pub fn measure(
    peers: &[&'static Info],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<MemoryRow>, String> {
    let mut rows = Vec::new();
    for info in peers.iter().filter(|info| info.id != PIPELINED) {
        for (share, payload) in WEIGHED {
            progress.say(format!("memory of {}", info.label));
            let is_first = (share, payload) == WEIGHED[0];
            let mut weigh = Weigh {
                peer: info.id.to_string(),
                entries: (settings.entries_weighed as f64 * share) as usize,
                payload,
                ttl_ms: None,
                rest_ms: if is_first {
                    settings.rest.as_millis() as u64
                } else {
                    0
                },
                // What lingers would be at it for minutes.
                evicts: is_first && info.evicts && !info.lingers && info.class != Class::Server,
            };
            let weight = child::run(&weigh, &[])?;
            progress.step();
            let mut expired = None;
            if info.has_ttl && is_first {
                progress.say(format!("memory of {} after expiry", info.label));
                weigh.ttl_ms = Some(settings.ttl.as_millis() as u64);
                weigh.rest_ms = 0;
                weigh.evicts = false;
                let weight = child::run(&weigh, &[])?;
                expired = weight.expired;
                progress.step();
            }
            let share = 100.0 * weight.cpu.as_secs_f64() / weight.rest.as_secs_f64();
            rows.push(MemoryRow {
                peer: info.id.to_string(),
                room: weigh.entries,
                payload,
                full: Full::of(weight.entries, weight.allocated, weight.resident),
                evicted: weight.evicted,
                rest_percent: (!weight.rest.is_zero()).then_some(share),
                expired,
            });
        }
    }
    Ok(rows)
}

/// It is the same server as without a pipeline.
const PIPELINED: &str = "redis-pipelined";

impl child::Job for Weigh {
    const NAME: &'static str = "weigh";

    type Answer = Weight;

    fn work(self) -> Result<Weight, String> {
        alloc::start_counting();
        if self.payload {
            weight::<Arc<[u8]>>(&self)
        } else {
            weight::<u64>(&self)
        }
    }
}

fn weight<V: Value>(weigh: &Weigh) -> Result<Weight, String> {
    let options = Options {
        capacity: Some(weigh.entries),
        ttl: weigh.ttl_ms.map_or(HOUR, Duration::from_millis),
    };
    // What the machinery takes up is not the cache's.
    let empty = own_usage();
    let subject = peers::build::<u64, V>(peers::named(&weigh.peer)?, options)?;
    let base = subject.server_usage().unwrap_or(empty);
    let usage = || difference(usage(&*subject), base);
    let started = Instant::now();
    subject.fill(weigh.entries);
    let full = usage();
    let mut weight = Weight {
        entries: subject.len(),
        allocated: full.allocated,
        resident: full.resident,
        ..Weight::default()
    };
    if weigh.rest_ms > 0 {
        // What the insertions have left to be done is not part of being at rest.
        std::thread::sleep(Duration::from_secs(2));
        let (before, resting) = (usage().cpu, Instant::now());
        std::thread::sleep(Duration::from_millis(weigh.rest_ms));
        weight.rest = resting.elapsed();
        weight.cpu = usage().cpu.saturating_sub(before);
    }
    if weigh.evicts {
        let entries = weigh.entries as u64;
        (entries..2 * entries).for_each(|number| subject.insert(number, V::make(number)));
        subject.settle();
        let now = usage();
        weight.evicted = Some(Full::of(subject.len(), now.allocated, now.resident));
    }
    if weigh.ttl_ms.is_some() {
        // Every TTL began before the end of the filling.
        let end = started.elapsed() + options.ttl + GRACE;
        std::thread::sleep(end.saturating_sub(started.elapsed()));
        let (untouched, entries_untouched) = (usage(), subject.len());
        let started = Instant::now();
        std::hint::black_box(subject.get(&u64::MAX));
        let first_call = started.elapsed();
        let called = usage();
        subject.settle();
        let settled = usage();
        weight.expired = Some(Expired {
            allocated_before: full.allocated,
            resident_before: full.resident,
            allocated_untouched: untouched.allocated,
            resident_untouched: untouched.resident,
            entries_untouched,
            first_call,
            allocated_called: called.allocated,
            resident_called: called.resident,
            allocated_settled: settled.allocated,
            resident_settled: settled.resident,
        });
    }
    Ok(weight)
}

fn usage<V: Value>(subject: &dyn Peer<u64, V>) -> Usage {
    subject.server_usage().unwrap_or_else(own_usage)
}

fn own_usage() -> Usage {
    Usage {
        allocated: alloc::allocated(),
        resident: (number_in("/proc/self/status", "VmRSS:") << 10) as i64,
        cpu: processor_time(),
    }
}

fn difference(usage: Usage, base: Usage) -> Usage {
    Usage {
        allocated: usage.allocated - base.allocated,
        resident: usage.resident - base.resident,
        cpu: usage.cpu,
    }
}
