//! Rounds of equal length, in which several threads do the same thing at the same time.

use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// How many operations come first and are not counted: as many as are counted. The processor's
/// caches are full of what the others have done since the last turn, and who has tens of megabytes
/// to fetch again would show that and not what an operation takes.
pub fn warming(operations: usize) -> usize {
    operations
}

/// Lets all threads run at once, each after it has warmed up: the time from when the first began
/// until the last had ended, and what they returned.
pub fn at_once<R: Send>(
    threads: usize,
    warm_up: impl Fn(usize) + Sync,
    run: impl Fn(usize) -> R + Sync,
) -> (Duration, Vec<R>) {
    let barrier = Barrier::new(threads);
    let turn = |thread: usize| {
        warm_up(thread);
        barrier.wait();
        let started = Instant::now();
        let result = run(thread);
        (started, Instant::now(), result)
    };
    let times: Vec<(Instant, Instant, R)> = std::thread::scope(|scope| {
        let turn = &turn;
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || turn(thread)))
            .collect();
        let join = |thread: ScopedJoinHandle<_>| thread.join().expect("a peer does not panic");
        threads.into_iter().map(join).collect()
    });
    let started = times.iter().map(|time| time.0).min();
    let ended = times.iter().map(|time| time.1).max();
    let took = started
        .zip(ended)
        .map_or(Duration::ZERO, |(started, ended)| ended - started);
    (took, times.into_iter().map(|time| time.2).collect())
}

/// How many operations fill a round, given a turn that says how many nanoseconds so many took.
pub fn fill(round: Duration, mut turn: impl FnMut(usize) -> f64) -> usize {
    let mut operations = 512;
    let enough = round.min(Duration::from_millis(50)).as_nanos() as f64;
    loop {
        let total = turn(operations);
        if total >= enough {
            let share = round.as_nanos() as f64 / total;
            return ((operations as f64 * share) as usize).max(100);
        }
        operations *= 2;
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_round_is_filled() {
        let operations = fill(Duration::from_millis(100), |operations| {
            10.0 * operations as f64
        });
        assert!(operations.abs_diff(10_000_000) < 10);
    }
}
