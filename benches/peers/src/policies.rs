//! Two policies to judge the others by: exact LRU, and the clairvoyant optimum that no real cache
//! can reach.

use std::collections::{BTreeSet, HashMap};

/// A trace whose keys are replaced by numbers from 0 on, in the order of their first request.
pub struct Numbered {
    pub requests: Vec<u32>,
    pub distinct: usize,
}

impl Numbered {
    pub fn new(keys: &[u64]) -> Self {
        let mut numbers: HashMap<u64, u32, ahash::RandomState> = HashMap::default();
        let number = |key: &u64| {
            let next = numbers.len() as u32;
            *numbers.entry(*key).or_insert(next)
        };
        let requests = keys.iter().map(number).collect();
        Self {
            requests,
            distinct: numbers.len(),
        }
    }
}

/// The hits of a cache that evicts what was used least recently.
pub fn lru(trace: &Numbered, capacity: usize) -> usize {
    // Each resident key stands in the order of its last use. A tree costs a logarithm, which a
    // replay of some millions does not notice.
    let mut last_use: Vec<Option<usize>> = vec![None; trace.distinct];
    let mut order: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut hits = 0;
    for (now, &key) in trace.requests.iter().enumerate() {
        let seat = &mut last_use[key as usize];
        if let Some(before) = seat.replace(now) {
            hits += 1;
            order.remove(&(before, key));
        }
        order.insert((now, key));
        if order.len() > capacity
            && let Some((_, oldest)) = order.pop_first()
        {
            last_use[oldest as usize] = None;
        }
    }
    hits
}

/// The hits of Belady's policy: of those resident and the one just asked for, the one leaves whose
/// next request is farthest away. As that may be the new one, this bounds caches that refuse keys
/// as well as those that admit all.
pub fn optimum(trace: &Numbered, capacity: usize) -> usize {
    const NEVER: usize = usize::MAX;
    let next_uses = next_uses(trace);
    let mut resident: Vec<bool> = vec![false; trace.distinct];
    let mut order: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut hits = 0;
    for (now, (&key, next)) in trace.requests.iter().zip(next_uses).enumerate() {
        if resident[key as usize] {
            hits += 1;
            order.remove(&(now, key));
        }
        let next = next.unwrap_or(NEVER);
        order.insert((next, key));
        resident[key as usize] = true;
        if order.len() > capacity
            && let Some((_, farthest)) = order.pop_last()
        {
            resident[farthest as usize] = false;
        }
    }
    hits
}

/// For each request, when its key is asked for again.
fn next_uses(trace: &Numbered) -> Vec<Option<usize>> {
    let mut seen: Vec<Option<usize>> = vec![None; trace.distinct];
    let mut next: Vec<Option<usize>> = vec![None; trace.requests.len()];
    for (at, &key) in trace.requests.iter().enumerate().rev() {
        next[at] = seen[key as usize].replace(at);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference string of the textbooks on paging.
    const TEXTBOOK: [u64; 20] = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];

    /// The most hits that any choice can have from here on, by trying them all: after each miss,
    /// any resident key may leave for the new one, or the new one is refused.
    fn best(requests: &[u32], resident: u32, capacity: usize, may_refuse: bool) -> usize {
        let Some((key, rest)) = requests.split_first() else {
            return 0;
        };
        let bit = 1 << key;
        if resident & bit != 0 {
            return 1 + best(rest, resident, capacity, may_refuse);
        }
        if (resident.count_ones() as usize) < capacity {
            return best(rest, resident | bit, capacity, may_refuse);
        }
        let leaves = (0..32)
            .map(|place| 1 << place)
            .filter(|other| resident & other != 0);
        let choices = leaves.map(|other| (resident & !other) | bit);
        let choices = choices.chain(may_refuse.then_some(resident));
        let hits = choices.map(|resident| best(rest, resident, capacity, may_refuse));
        hits.max().unwrap_or(0)
    }

    #[test]
    fn the_textbook_example() {
        let trace = Numbered::new(&TEXTBOOK);
        assert_eq!(trace.distinct, 6);
        assert_eq!(20 - lru(&trace, 3), 12);
        // The textbooks have nine faults, as every page has to enter there; refusing one saves one.
        assert_eq!(20 - best(&trace.requests, 0, 3, false), 9);
        assert_eq!(20 - optimum(&trace, 3), 8);
    }

    #[test]
    fn no_choice_is_better_than_the_optimum() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..100 {
            let keys: Vec<u64> = (0..14).map(|_| random.u64(0..6)).collect();
            let trace = Numbered::new(&keys);
            for capacity in 1..4 {
                let most = best(&trace.requests, 0, capacity, true);
                assert_eq!(optimum(&trace, capacity), most, "{keys:?} with {capacity}");
            }
        }
    }

    #[test]
    fn the_optimum_refuses_what_does_not_pay() {
        // One place, and a key that comes between the requests of another.
        let trace = Numbered::new(&[1, 2, 1, 3, 1]);
        assert_eq!(optimum(&trace, 1), 2);
        assert_eq!(lru(&trace, 1), 0);
    }

    #[test]
    fn a_loop_longer_than_the_cache_never_hits_in_lru() {
        let keys: Vec<u64> = (0..10).flat_map(|_| 0..100).collect();
        let trace = Numbered::new(&keys);
        assert_eq!(lru(&trace, 99), 0);
        assert_eq!(lru(&trace, 100), 900);
        assert!(optimum(&trace, 50) >= 9 * 49);
    }

    #[test]
    fn lru_is_the_same_as_a_list_that_is_searched() {
        let mut random = fastrand::Rng::with_seed(3);
        let keys: Vec<u64> = (0..5000)
            .map(|_| random.u64(0..60).min(random.u64(0..60)))
            .collect();
        for capacity in [1, 2, 7, 30, 60] {
            let (mut list, mut hits) = (Vec::new(), 0);
            for key in &keys {
                let place = list.iter().position(|other| other == key);
                hits += usize::from(place.is_some());
                place.map(|place| list.remove(place));
                list.push(*key);
                if list.len() > capacity {
                    list.remove(0);
                }
            }
            assert_eq!(
                lru(&Numbered::new(&keys), capacity),
                hits,
                "capacity {capacity}"
            );
        }
    }
}
