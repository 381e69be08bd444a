//! Bytes for each entry, what is left of them after expiry, and the load of a process at rest.
//!
//! Each is measured in a process of its own, so that no peer finds memory that another has left.

use crate::alloc;
use crate::child;
use crate::cli::Settings;
use crate::data::Value;
use crate::machine::{number_in, processor_time};
use crate::peers::{self, HOUR, Info, Options, Peer, Usage};
use crate::progress::Progress;
use crate::results::{Expired, MemoryRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a child process is to weigh.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    peer: String,
    entries: usize,
    payload: bool,
    ttl_ms: Option<u64>,
    rest_ms: u64,
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
    expired: Option<Expired>,
}

/// How long after the last deadline the memory of what has expired is looked at.
const GRACE: Duration = Duration::from_secs(3);

pub fn steps(peers: &[&'static Info]) -> u64 {
    peers.iter().map(|info| 2 + u64::from(info.has_ttl)).sum()
}

pub fn measure(
    peers: &[&'static Info],
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<MemoryRow>, String> {
    let mut rows = Vec::new();
    for info in peers.iter().filter(|info| info.id != "redis-pipelined") {
        for payload in [false, true] {
            progress.say(format!("memory of {}", info.label));
            let mut weigh = Job {
                peer: info.id.to_string(),
                entries: settings.entries_weighed,
                payload,
                ttl_ms: None,
                rest_ms: if payload {
                    0
                } else {
                    settings.rest.as_millis() as u64
                },
            };
            let weight: Weight = child::run(&child::Job::Weigh(weigh.clone()), &[])?;
            progress.step();
            let mut expired = None;
            if info.has_ttl && !payload {
                progress.say(format!("memory of {} after expiry", info.label));
                weigh.ttl_ms = Some(settings.ttl.as_millis() as u64);
                weigh.rest_ms = 0;
                let weight: Weight = child::run(&child::Job::Weigh(weigh), &[])?;
                expired = weight.expired;
                progress.step();
            }
            let per_entry = |bytes: i64| bytes as f64 / weight.entries.max(1) as f64;
            let share = 100.0 * weight.cpu.as_secs_f64() / weight.rest.as_secs_f64();
            rows.push(MemoryRow {
                peer: info.id.to_string(),
                payload,
                entries: weight.entries,
                allocated: per_entry(weight.allocated),
                resident: per_entry(weight.resident),
                rest_percent: (!weight.rest.is_zero()).then_some(share),
                expired,
            });
        }
    }
    Ok(rows)
}

/// What the child process does.
pub fn weigh(job: &Job) -> Result<Weight, String> {
    alloc::start_counting();
    if job.payload {
        weight::<Arc<[u8]>>(job)
    } else {
        weight::<u64>(job)
    }
}

fn weight<V: Value>(weigh: &Job) -> Result<Weight, String> {
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
    if weigh.ttl_ms.is_some() {
        // Every TTL began before the end of the filling.
        let end = started.elapsed() + options.ttl + GRACE;
        std::thread::sleep(end.saturating_sub(started.elapsed()));
        let (untouched, entries_untouched) = (usage(), subject.len());
        subject.settle();
        let settled = usage();
        weight.expired = Some(Expired {
            allocated_before: full.allocated,
            resident_before: full.resident,
            allocated_untouched: untouched.allocated,
            resident_untouched: untouched.resident,
            entries_untouched,
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
