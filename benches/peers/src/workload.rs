//! Who asks for what: sequences of key numbers, and what is done with them.

use crate::peers::Info;

/// What is done with each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    /// Read, and insert what is missing.
    CacheAside,
    Insert,
    /// Nine reads, then a write.
    Mixed,
    /// Writes with a short TTL, in turns with reads of what was written a thousand operations ago.
    Churn,
}

/// How the keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Uniform,
    Zipf,
    /// Zipf with runs of keys that are asked for once.
    ScannedZipf,
    /// Never the same key again, for the length of the ring.
    New,
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub id: &'static str,
    pub label: &'static str,
    pub kind: Kind,
    pub pattern: Pattern,
    pub keys: usize,
    /// Less than the keys where the cache is to evict.
    pub capacity: usize,
    /// `String` to `Arc<[u8]>` in place of `u64` to `u64`.
    pub is_text: bool,
}

const MILLION: usize = 1_000_000;

/// Room for a quarter more than the keys, so that caches which bound each shard by itself keep
/// them all.
const fn roomy(keys: usize) -> usize {
    keys + keys / 4
}

const fn reads(id: &'static str, label: &'static str, pattern: Pattern, keys: usize) -> Workload {
    Workload {
        id,
        label,
        kind: Kind::Read,
        pattern,
        keys,
        capacity: roomy(keys),
        is_text: false,
    }
}

const fn full(id: &'static str, label: &'static str, kind: Kind, pattern: Pattern) -> Workload {
    Workload {
        id,
        label,
        kind,
        pattern,
        keys: MILLION,
        capacity: MILLION / 10,
        is_text: false,
    }
}

const fn text(id: &'static str, label: &'static str, like: Workload) -> Workload {
    Workload {
        id,
        label,
        is_text: true,
        ..like
    }
}

const READ_UNIFORM_10K: Workload = reads(
    "read-uniform-10k",
    "read, uniform, 10 k keys",
    Pattern::Uniform,
    10_000,
);
const READ_ZIPF: Workload = reads(
    "read-zipf-1m",
    "read, Zipf 0.99, 1 M keys",
    Pattern::Zipf,
    MILLION,
);
const ASIDE_ZIPF: Workload = full(
    "aside-zipf",
    "cache-aside, Zipf, 1 M keys, room for 100 k",
    Kind::CacheAside,
    Pattern::Zipf,
);
const INSERT_EVICT: Workload = full(
    "insert-evict",
    "insert and evict, new keys, room for 100 k",
    Kind::Insert,
    Pattern::New,
);
const MIXED: Workload = Workload {
    kind: Kind::Mixed,
    ..reads(
        "mixed-zipf-1m",
        "90 % reads, 10 % writes, Zipf, 1 M keys",
        Pattern::Zipf,
        MILLION,
    )
};

pub const ALL: [Workload; 14] = [
    READ_UNIFORM_10K,
    reads(
        "read-uniform-1m",
        "read, uniform, 1 M keys",
        Pattern::Uniform,
        MILLION,
    ),
    READ_ZIPF,
    reads("read-hot", "read, one hot key", Pattern::Uniform, 1),
    ASIDE_ZIPF,
    full(
        "aside-scan",
        "cache-aside, Zipf and scans, room for 100 k",
        Kind::CacheAside,
        Pattern::ScannedZipf,
    ),
    INSERT_EVICT,
    MIXED,
    Workload {
        capacity: roomy(MILLION),
        ..full(
            "ttl-churn",
            "TTL churn: write, read, 100 ms to live",
            Kind::Churn,
            Pattern::New,
        )
    },
    text(
        "text-read-10k",
        "text: read, uniform, 10 k keys",
        READ_UNIFORM_10K,
    ),
    text("text-read-zipf-1m", "text: read, Zipf, 1 M keys", READ_ZIPF),
    text(
        "text-aside-zipf",
        "text: cache-aside, Zipf, room for 100 k",
        ASIDE_ZIPF,
    ),
    text(
        "text-insert-evict",
        "text: insert and evict, room for 100 k",
        INSERT_EVICT,
    ),
    text(
        "text-mixed-zipf-1m",
        "text: 90 % reads, 10 % writes, Zipf",
        MIXED,
    ),
];

impl Workload {
    /// Whether a peer can do it at all.
    pub fn suits(&self, peer: &Info) -> bool {
        match self.kind {
            Kind::Churn => peer.has_ttl,
            _ => peer.evicts || !self.evicts(),
        }
    }

    pub fn evicts(&self) -> bool {
        self.capacity < self.keys
    }

    /// The numbers of the keys, in the order in which they are asked for.
    pub fn numbers(&self, length: usize) -> Vec<u64> {
        let mut random = fastrand::Rng::with_seed(42);
        let keys = self.keys as u64;
        match self.pattern {
            Pattern::Uniform => (0..length).map(|_| random.u64(0..keys)).collect(),
            Pattern::Zipf => Zipf::new(self.keys).numbers(&mut random, length),
            Pattern::ScannedZipf => {
                scanned(Zipf::new(self.keys).numbers(&mut random, length), 20_000)
            }
            Pattern::New => (0..length as u64).map(|at| NEW + at).collect(),
        }
    }
}

/// Numbers from here on are no key of the Zipf or uniform workloads.
const NEW: u64 = 1 << 40;

/// The Zipf distribution with exponent 0.99, as YCSB has it: number 0 is the most frequent.
pub struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    pub fn new(keys: usize) -> Self {
        let mut sum = 0.0;
        let weight = |rank: usize| {
            sum += (rank as f64).powf(-0.99);
            sum
        };
        Self {
            cumulated: (1..=keys).map(weight).collect(),
        }
    }

    pub fn number(&self, random: &mut fastrand::Rng) -> u64 {
        let total = self.cumulated.last().copied().unwrap_or_default();
        let point = random.f64() * total;
        let number = self.cumulated.partition_point(|&sum| sum <= point);
        number.min(self.cumulated.len() - 1) as u64
    }

    pub fn numbers(&self, random: &mut fastrand::Rng, length: usize) -> Vec<u64> {
        (0..length).map(|_| self.number(random)).collect()
    }
}

/// Replaces every third stretch of so many requests by a scan over new keys.
pub fn scanned(mut numbers: Vec<u64>, stretch: usize) -> Vec<u64> {
    let mut next = NEW;
    for scan in numbers.chunks_mut(stretch).skip(2).step_by(3) {
        for number in scan {
            *number = next;
            next += 1;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn zipf_numbers_are_as_frequent_as_their_rank_says() {
        let zipf = Zipf::new(1000);
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = vec![0.0; 1000];
        for number in zipf.numbers(&mut random, 1_000_000) {
            counts[number as usize] += 1.0;
        }
        for rank in [2, 10, 100] {
            let expected = (rank as f64).powf(0.99);
            let measured = counts[0] / counts[rank - 1];
            assert!(
                (measured / expected - 1.0).abs() < 0.1,
                "rank {rank}: {measured}"
            );
        }
    }

    #[test]
    fn a_scan_asks_for_each_key_once() {
        let numbers = scanned(vec![1; 90], 10);
        let new: Vec<u64> = numbers
            .iter()
            .copied()
            .filter(|number| *number >= NEW)
            .collect();
        assert_eq!(new.len(), 30);
        assert_eq!(new.iter().collect::<HashSet<_>>().len(), 30);
        assert!(numbers[..20].iter().all(|number| *number == 1));
    }

    #[test]
    fn every_workload_has_its_own_name() {
        let ids: HashSet<_> = ALL.iter().map(|workload| workload.id).collect();
        assert_eq!(ids.len(), ALL.len());
    }

    #[test]
    fn new_keys_do_not_come_again() {
        let workload = ALL.iter().find(|workload| workload.id == "insert-evict");
        let numbers = workload
            .map(|workload| workload.numbers(10_000))
            .unwrap_or_default();
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), 10_000);
    }
}
