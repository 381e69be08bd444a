//! Traces for hit ratios that are made here: each a kind of load that caches meet.
//!
//! The first four were there while haybox's policies were chosen. The others were written afterwards,
//! and nothing was tuned to them.

use crate::data::spread;
use crate::workload::{Zipf, scanned};
use fastrand::Rng;

/// The keys of requests, in their order.
pub struct Trace {
    pub name: String,
    pub keys: Vec<u64>,
}

/// How large a trace is to be.
#[derive(Clone, Copy)]
struct Size {
    keys: usize,
    requests: usize,
}

type Maker = fn(&mut Rng, Size) -> Vec<u64>;

const KINDS: [(&str, Maker); 12] = [
    ("zipf", zipf),
    ("zipf+scans", zipf_and_scans),
    ("loops", loops),
    ("shifting", shifting),
    ("pools", pools),
    ("recency", recency),
    ("popularity", popularity),
    ("bursts", bursts),
    ("sessions", sessions),
    ("files", files),
    ("newest", newest),
    ("phases", phases),
];

/// One of each kind: a size of 1 is the full one.
pub fn generated(size: f64) -> Vec<Trace> {
    let keys = ((200_000.0 * size) as usize).max(1_000);
    let size = Size {
        keys,
        requests: 10 * keys,
    };
    let trace = |(name, make): (&str, Maker)| {
        let numbers = make(&mut Rng::with_seed(7), size);
        Trace {
            name: name.to_string(),
            keys: numbers.into_iter().map(spread).collect(),
        }
    };
    KINDS.map(trace).into()
}

/// The names of those that are made here.
pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(name, _)| *name)
}

fn zipf(random: &mut Rng, size: Size) -> Vec<u64> {
    Zipf::new(size.keys).numbers(random, size.requests)
}

fn zipf_and_scans(random: &mut Rng, size: Size) -> Vec<u64> {
    scanned(zipf(random, size), size.keys / 10)
}

/// Loops of two lengths, one within another's reach, with some noise.
fn loops(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let keys = keys as u64;
    let number = |at: u64| match at % 10 {
        0 => random.u64(0..keys),
        1..5 => at % (keys / 50),
        _ => keys + at % (keys / 5),
    };
    (0..requests as u64).map(number).collect()
}

/// What is popular moves on by a twentieth of the keys twenty times.
fn shifting(random: &mut Rng, size: Size) -> Vec<u64> {
    let Size { keys, requests } = size;
    let moved = |(at, number): (usize, u64)| {
        let shift = (at * 20 / requests) * (keys / 20);
        spread(number) % keys as u64 + shift as u64
    };
    let numbers = zipf(random, size).into_iter().enumerate();
    numbers.map(moved).collect()
}

/// A page of an index and a page of its table, in turns (the example of O'Neil, O'Neil and Weikum,
/// "The LRU-K Page Replacement Algorithm", SIGMOD 1993).
fn pools(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let keys = keys as u64;
    let number = |at: u64| match at % 2 {
        0 => random.u64(0..keys / 100),
        _ => keys + random.u64(0..keys),
    };
    (0..requests as u64).map(number).collect()
}

/// What was asked for not long ago is asked for again: the number of other keys in between is spread
/// log-normally round a hundredth of the keys.
fn recency(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let middle = (keys as f64 / 100.0).ln();
    // The last to be asked for at the end. Far from there the order is of no account.
    let mut stack: Vec<u64> = Vec::new();
    let mut new = 0;
    let mut next = || {
        let distance = (middle + 1.5 * normal(random)).exp() as usize;
        let known = stack.len().checked_sub(distance + 1);
        let number = match known.filter(|_| random.f64() < 0.85) {
            Some(place) => stack.remove(place),
            None => {
                new += 1;
                new
            }
        };
        stack.push(number);
        if stack.len() > 2 * keys {
            stack.drain(..keys);
        }
        number
    };
    (0..requests / 4).map(|_| next()).collect()
}

/// About normal: the sum of twelve uniform numbers, less their mean.
fn normal(random: &mut Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

/// A Zipf distribution in which one key after another gives up its place to a new one.
fn popularity(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let ranks = keys / 4;
    let zipf = Zipf::new(ranks);
    let mut holders: Vec<u64> = (0..ranks as u64).collect();
    let mut new = ranks as u64;
    let next = |at: usize| {
        if at.is_multiple_of(16) {
            holders[random.usize(0..ranks)] = new;
            new += 1;
        }
        holders[zipf.number(random) as usize]
    };
    (0..requests).map(next).collect()
}

/// Objects that are asked for some times in a short while and never again, as a unit of work does
/// with what it has loaded, over a few that everybody asks for.
fn bursts(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    const AT_ONCE: usize = 40;
    let common = Zipf::new(keys / 20);
    let mut new = keys as u64;
    let mut at_work: Vec<Visitor> = Vec::new();
    let mut next = || {
        if random.f64() < 0.3 {
            return common.number(random);
        }
        if at_work.len() < AT_ONCE {
            new += 1;
            at_work.push((new, random.u32(1..8)));
        }
        visit(random, &mut at_work)
    };
    (0..requests).map(|_| next()).collect()
}

/// A key, and how often it will be asked for yet.
type Visitor = (u64, u32);

/// Asks for one of these keys.
fn visit(random: &mut Rng, visitors: &mut Vec<Visitor>) -> u64 {
    let place = random.usize(0..visitors.len());
    let (number, left) = &mut visitors[place];
    let number = *number;
    *left -= 1;
    if *left == 0 {
        visitors.swap_remove(place);
    }
    number
}

/// Visitors who come, ask for their session some times, mostly few, and leave.
fn sessions(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let present = keys / 20;
    let mut new = 0;
    let mut visitors: Vec<Visitor> = Vec::new();
    let mut next = || {
        if visitors.len() < present {
            new += 1;
            // Pareto's, with a mean of some ten visits.
            let length = random.f64().max(1e-4).powf(-0.9);
            visitors.push((new, 1 + length as u32));
        }
        visit(random, &mut visitors)
    };
    (0..requests).map(|_| next()).collect()
}

/// Runs of up to eight blocks of popular files, and now and then one long run through a cold one.
fn files(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let popular = Zipf::new(keys / 20);
    let mut numbers = Vec::with_capacity(requests);
    while numbers.len() < requests {
        let (first, blocks) = if random.f64() < 0.01 {
            let cold = random.u64(0..2 * keys as u64);
            (keys as u64 + cold, random.u64(50..1_000))
        } else {
            (8 * popular.number(random), random.u64(1..9))
        };
        numbers.extend(first..first + blocks);
    }
    numbers.truncate(requests);
    numbers
}

/// Rows of a table that grows: the newest are asked for most, and the popular ones.
fn newest(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let popular = Zipf::new(keys);
    let mut rows = keys as u64;
    let mut next = || match random.f64() {
        ..0.05 => {
            rows += 1;
            rows
        }
        ..0.4 => {
            let age = -random.f64().max(1e-9).ln() * keys as f64 / 100.0;
            rows - (age as u64).min(rows)
        }
        _ => popular.number(random),
    };
    (0..requests).map(|_| next()).collect()
}

/// By turns a Zipf distribution, a loop, and keys that are asked for soon again or never.
fn phases(random: &mut Rng, Size { keys, requests }: Size) -> Vec<u64> {
    let zipf = Zipf::new(keys / 4);
    let length = keys / 2;
    let mut new = 2 * keys as u64;
    let next = |at: usize| match at / length % 3 {
        0 => zipf.number(random),
        1 => (keys + at % (keys / 8)) as u64,
        _ => {
            new += u64::from(random.f64() < 0.4);
            let age = -random.f64().max(1e-9).ln() * keys as f64 / 150.0;
            new - age as u64
        }
    };
    (0..requests).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    #[test]
    fn every_trace_has_its_own_name_and_more_requests_than_keys() {
        let traces = generated(0.01);
        let names: BTreeSet<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
        assert_eq!(names.len(), traces.len());
        for trace in &traces {
            let keys: BTreeSet<u64> = trace.keys.iter().copied().collect();
            let each = trace.keys.len() as f64 / keys.len() as f64;
            assert!((1.5..200.0).contains(&each), "{}: {each}", trace.name);
        }
    }

    #[test]
    fn the_same_is_made_again() {
        for (one, other) in generated(0.01).iter().zip(generated(0.01)) {
            assert_eq!(one.keys, other.keys, "{}", one.name);
        }
    }

    #[test]
    fn half_of_the_requests_for_pools_are_for_a_hundredth_of_the_keys() {
        let size = Size {
            keys: 1_000,
            requests: 10_000,
        };
        let numbers = pools(&mut Rng::with_seed(1), size);
        assert_eq!(numbers.iter().filter(|number| **number < 10).count(), 5_000);
    }

    #[test]
    fn a_burst_ends() {
        let size = Size {
            keys: 1_000,
            requests: 10_000,
        };
        let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
        let numbers = bursts(&mut Rng::with_seed(1), size);
        for (place, number) in numbers.into_iter().enumerate() {
            places.entry(number).or_default().push(place);
        }
        let own = places.iter().filter(|(number, _)| **number > 1_000);
        for (number, places) in own {
            assert!(places.len() <= 7, "{number}: {places:?}");
        }
    }
}
