//! Latencies, counted.

use std::time::Duration;

/// Counts durations in buckets that grow with their values, in the manner of HdrHistogram: every
/// power of two of nanoseconds is cut into 32 equal buckets, which keeps the error under 3 %.
pub struct Histogram {
    buckets: Vec<u64>,
}

const BUCKETS_PER_DOUBLING: u64 = 32;
const DOUBLINGS: u64 = 64 - BUCKETS_PER_DOUBLING.ilog2() as u64;

impl Default for Histogram {
    fn default() -> Self {
        let buckets = BUCKETS_PER_DOUBLING * (DOUBLINGS + 1);
        Histogram {
            buckets: vec![0; buckets as usize],
        }
    }
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = duration.as_nanos() as u64;
        // So many of the last bits are dropped that a number below twice the buckets remains.
        let dropped = (nanoseconds / BUCKETS_PER_DOUBLING)
            .checked_ilog2()
            .unwrap_or(0);
        let bucket = u64::from(dropped) * BUCKETS_PER_DOUBLING + (nanoseconds >> dropped);
        self.buckets[bucket as usize] += 1;
    }

    pub fn add(&mut self, other: &Histogram) {
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
    }

    /// The least number of nanoseconds in the bucket where this share of the durations is reached.
    pub fn quantile(&self, share: f64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let mut left = (total as f64 * share).ceil() as u64;
        for (bucket, &count) in (0..).zip(&self.buckets) {
            if count >= left {
                let dropped = (bucket / BUCKETS_PER_DOUBLING).saturating_sub(1);
                return (bucket - dropped * BUCKETS_PER_DOUBLING) << dropped;
            }
            left -= count;
        }
        0
    }
}
