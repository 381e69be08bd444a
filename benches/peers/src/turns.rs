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

/// Puts contenders in an order of the round's own, the same in each run, so that none always comes
/// after the same one and its leavings.
pub fn shuffle<T>(contenders: &mut [T], round: usize) {
    fastrand::Rng::with_seed(round as u64).shuffle(contenders);
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The lower and the upper quartile.
pub fn quartiles(values: &[f64]) -> (f64, f64) {
    (quantile(values, 0.25), quantile(values, 0.75))
}

/// Between two values in proportion; not a number where there are none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
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
    fn half_of_the_values_lie_between_the_quartiles() {
        assert_eq!(quartiles(&[5.0, 1.0, 4.0, 2.0, 3.0]), (2.0, 4.0));
        assert_eq!(quartiles(&[1.0, 3.0]), (1.5, 2.5));
        assert_eq!(quartiles(&[7.0]), (7.0, 7.0));
    }

    #[test]
    fn who_comes_after_whom_changes() {
        let mut after_first = std::collections::BTreeSet::new();
        for round in 0..10 {
            let mut order: Vec<usize> = (0..8).collect();
            shuffle(&mut order, round);
            let place = order.iter().position(|who| *who == 0);
            after_first.insert(order[(place.unwrap() + 1) % order.len()]);
            assert_eq!(order.iter().sum::<usize>(), 28);
        }
        assert!(after_first.len() >= 5, "{after_first:?}");
    }

    #[test]
    fn a_round_is_filled() {
        let operations = fill(Duration::from_millis(100), |operations| {
            10.0 * operations as f64
        });
        assert!(operations.abs_diff(10_000_000) < 10);
    }
}
