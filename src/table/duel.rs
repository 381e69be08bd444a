//! Which setting of the eviction policy is in force, and what changes it.
//!
//! The shadows of a sample of the sets (`shadow.rs`) say how often each setting would have hit. A
//! setting that would have hit so much more often than the one in force that it pays for the
//! exchange is put in force for all sets: a one-sided cumulative-sum test (Page, "Continuous
//! Inspection Schemes", Biometrika 1954) for each of the others, with a margin that keeps equals
//! from taking turns, and a threshold of a tenth of the entries that a switch would have to
//! exchange. Nothing moves at a switch; the next evictions bring the queues to the new shares.
//!
//! The sample: two sets up to 64 sets, one in 32 from there on, and 128 where that would be more, so
//! that shadows take less than 2.2 bytes for each entry (4.7 in a small table, whose sets remember
//! more) or 6 kilobytes, and never more than 173 kilobytes. Each watches seven eighths of the time,
//! or three quarters where one in eight or more are sampled. Of tables with one or two sets all are
//! sampled, a tenth of the time.

use super::eviction::Setting;
use super::shadow::{TRIED, Tally};
use crate::entry::EvictionPolicy;
use crate::sync::{AtomicU8, Mutex};
use std::sync::atomic::Ordering::Relaxed;

/// All settings: those that are tried, and one that is in force only where it is asked for.
const SETTINGS: [Setting; TRIED.len() + 1] = {
    let [balanced, frequent, recent, clock, strict] = TRIED;
    [balanced, frequent, recent, clock, strict, Setting::S3_FIFO]
};

/// One in so many sets is sampled, and at least and at most so many, while their number is a power of
/// two.
const SAMPLED_SHARE: usize = 32;
const SAMPLED_SETS: (usize, usize) = (2, 128);

/// No set is sampled: no index has these bits.
const NO_SAMPLE: usize = 1 << (usize::BITS - 1);

/// Hits are counted in these units, so that a margin is a whole number.
const HIT: i32 = 1024;

/// What an access costs the settings that are not in force.
const MARGIN: i32 = 1;

/// What every switch has to gain, in hits, besides its share of the sampled entries.
const LEAST_GAIN: i32 = 30;

/// The share of the sampled entries, one in so many.
const SHARE_TO_GAIN: i32 = 10;

/// The policy of a table.
#[derive(Debug)]
pub(super) struct Eviction {
    policy: EvictionPolicy,
    /// Which of the settings is in force.
    current: AtomicU8,
    trial: Option<Box<Mutex<Trial>>>,
}

/// What the settings have gained over the one in force.
#[derive(Debug, Default)]
struct Trial {
    merits: [i32; TRIED.len()],
    has_switched: bool,
}

impl Eviction {
    pub(super) fn new(policy: EvictionPolicy) -> Self {
        let start = match policy {
            EvictionPolicy::Lfu => Setting::FREQUENT,
            EvictionPolicy::S3Fifo => Setting::S3_FIFO,
            _ => Setting::BALANCED,
        };
        let start = SETTINGS.iter().position(|setting| *setting == start);
        let is_adaptive = policy == EvictionPolicy::Adaptive;
        Self {
            policy,
            current: AtomicU8::new(start.unwrap_or(0) as u8),
            trial: is_adaptive.then(Box::default),
        }
    }

    #[inline(always)]
    pub(super) fn is_lru(&self) -> bool {
        self.policy == EvictionPolicy::Lru
    }

    #[inline(always)]
    pub(super) fn setting(&self) -> Setting {
        // There is always one: this takes less than an index that the compiler does not trust.
        *SETTINGS.get(self.current()).unwrap_or(&SETTINGS[0])
    }

    #[inline(always)]
    fn current(&self) -> usize {
        usize::from(self.current.load(Relaxed))
    }

    /// For a table of `sets`, the bits that are set in the index of every set with which an
    /// eviction is not only a matter of the setting: those that are sampled, and all under LRU.
    pub(super) fn special_sets(&self, sets: usize) -> usize {
        let (least, most) = SAMPLED_SETS;
        let sets = sets.next_power_of_two();
        let sampled = (sets / SAMPLED_SHARE).clamp(least, most);
        match self.policy {
            EvictionPolicy::Adaptive => (sets / sampled).max(1) - 1,
            EvictionPolicy::Lru => 0,
            _ => NO_SAMPLE,
        }
    }

    /// Takes what a sampled set has seen into account, unless another thread is at it.
    /// `sampled` is the number of entries in all sets that are sampled.
    pub(super) fn judge(&self, tally: &Tally, sampled: usize) {
        let Some(mut trial) = self.trial.as_ref().and_then(|trial| trial.try_lock()) else {
            return;
        };
        let current = self.current();
        if let Some(better) = trial.judge(tally, current, sampled) {
            self.current.store(better as u8, Relaxed);
        }
    }

    /// The policy and, where it adapts, what it does now.
    pub(super) fn describe(&self) -> (EvictionPolicy, Option<&'static str>) {
        const NAMES: [&str; TRIED.len()] = ["balanced", "frequent", "recent", "clock", "strict"];
        let name = self.trial.as_ref().map(|_| NAMES[self.current()]);
        (self.policy, name)
    }
}

impl Trial {
    /// The setting that takes over, if one does.
    fn judge(&mut self, tally: &Tally, current: usize, sampled: usize) -> Option<usize> {
        let share = i32::try_from(sampled).unwrap_or(i32::MAX / HIT) / SHARE_TO_GAIN;
        let cost = (LEAST_GAIN + share).min(i32::MAX / HIT / 2) * HIT;
        for (merit, hits) in self.merits.iter_mut().zip(tally.hits) {
            let gained = (hits - tally.hits[current]) * HIT - tally.accesses * MARGIN;
            // The lower bound lets a setting be found good again that was bad for long.
            *merit = (*merit + gained).max(-cost);
        }
        self.merits[current] = 0;
        // The first switch comes sooner: the start is as good as a guess.
        let needed = if self.has_switched {
            cost
        } else {
            cost / 10 * 3
        };
        let (better, merit) = (0..).zip(self.merits).max_by_key(|(_, merit)| *merit)?;
        if merit <= needed {
            return None;
        }
        *self = Self {
            merits: Default::default(),
            has_switched: true,
        };
        Some(better)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred accesses with so many hits of each setting.
    fn tally(hits: [i32; TRIED.len()]) -> Tally {
        Tally {
            accesses: 100,
            hits,
        }
    }

    fn judged(eviction: &Eviction, hits: [i32; TRIED.len()], times: usize) -> Option<&'static str> {
        (0..times).for_each(|_| eviction.judge(&tally(hits), 100));
        eviction.describe().1
    }

    #[test]
    fn the_first_switch_needs_three_tenths_of_what_others_need() {
        // With 100 entries in the sample a switch has to gain 30 and a tenth of them.
        let eviction = Eviction::new(EvictionPolicy::Adaptive);
        assert_eq!(judged(&eviction, [50, 51, 50, 0, 0], 13), Some("balanced"));
        assert_eq!(judged(&eviction, [50, 51, 50, 0, 0], 1), Some("frequent"));
        assert_eq!(judged(&eviction, [50, 50, 51, 0, 0], 44), Some("frequent"));
        assert_eq!(judged(&eviction, [50, 50, 51, 0, 0], 1), Some("recent"));
    }

    #[test]
    fn equals_do_not_take_turns() {
        let eviction = Eviction::new(EvictionPolicy::Adaptive);
        for _ in 0..10_000 {
            judged(&eviction, [50, 51, 50, 0, 0], 1);
            assert_eq!(judged(&eviction, [51, 50, 51, 0, 0], 1), Some("balanced"));
        }
        assert_eq!(
            judged(&eviction, [50; TRIED.len()], 10_000),
            Some("balanced")
        );
    }

    #[test]
    fn what_was_bad_for_long_is_soon_found_good_again() {
        let eviction = Eviction::new(EvictionPolicy::Adaptive);
        assert_eq!(judged(&eviction, [50, 0, 0, 0, 0], 1_000), Some("balanced"));
        // 40 hits back to nothing, and 12 to the first switch.
        assert_eq!(judged(&eviction, [50, 51, 0, 0, 0], 70), Some("frequent"));
    }

    #[test]
    fn the_sample_is_two_sets_one_in_32_of_many_and_128_of_more() {
        let adaptive = Eviction::new(EvictionPolicy::Adaptive);
        let sampled = |sets: usize| {
            let special = adaptive.special_sets(sets);
            (0..sets).filter(|index| index & special == special).count()
        };
        for sets in [2, 4, 8, 16, 32, 64] {
            assert_eq!(sampled(sets), 2, "{sets}");
        }
        assert_eq!((sampled(1), sampled(128), sampled(4_096)), (1, 4, 128));
        assert_eq!((sampled(8_192), sampled(1 << 20)), (128, 128));
        // While a table grows, the upper half is not all there.
        assert!((1..600).all(|sets| sampled(sets) >= 1));
        let s3 = Eviction::new(EvictionPolicy::S3Fifo).special_sets(1_024);
        assert!((0..1_024).all(|index| index & s3 != s3));
        assert_eq!(Eviction::new(EvictionPolicy::Lru).special_sets(1_024), 0);
    }

    #[test]
    fn thresholds_of_the_largest_tables_do_not_overflow() {
        let eviction = Eviction::new(EvictionPolicy::Adaptive);
        let tally = Tally {
            accesses: 41,
            hits: [0, 41, 41, 41, 41],
        };
        (0..100_000).for_each(|_| eviction.judge(&tally, usize::MAX));
        let last = eviction.describe().1;
        assert_ne!(last, Some("balanced"));
    }
}
