//! What a cache has done: counters that cost their users no contention.
//!
//! Each thread counts in a stripe of its own, with a plain load and store and no atomic
//! read-modify-write. Threads past the number of stripes share one and pay for it.

use crate::figures::figures;
use crate::sync::Mutex;
use crate::thread;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

figures! {
    /// What a cache has done since it was built or [`reset_stats`](crate::Cache::reset_stats) was
    /// called, and how full it is.
    ///
    /// A snapshot: counts of other threads that are in the middle of a call may or may not be in
    /// it.
    ///
    /// # To export them
    /// [`iter`](Self::iter) lists all of them, as it does for the statistics of the other roles, so
    /// that an exporter misses none that a later version counts. For Prometheus, which wants seconds,
    /// and all samples of a metric in one place:
    ///
    /// ```
    /// use haybox::{Cache, MetricKind, MetricUnit, Stats};
    /// use std::fmt::{self, Write};
    ///
    /// fn page(caches: &[(&str, Stats)]) -> Result<String, fmt::Error> {
    ///     let mut page = String::new();
    ///     let mut listed: Vec<_> = caches.iter().map(|(cache, stats)| (cache, stats.iter())).collect();
    ///     for metric in Stats::default().iter() {
    ///         let (scale, unit) = match metric.unit {
    ///             MetricUnit::Nanoseconds => (1e-9, "_seconds"),
    ///             _ => (1.0, ""),
    ///         };
    ///         let total = if metric.kind == MetricKind::Counter { "_total" } else { "" };
    ///         let name = format!("haybox_{}{unit}{total}", metric.name);
    ///         writeln!(page, "# TYPE {name} {}", metric.kind)?;
    ///         for (cache, metrics) in &mut listed {
    ///             let value = metrics.next().map_or(0, |metric| metric.value);
    ///             writeln!(page, "{name}{{cache=\"{cache}\"}} {}", value as f64 * scale)?;
    ///         }
    ///     }
    ///     Ok(page)
    /// }
    ///
    /// let users: Cache<u32, &str> = Cache::new(100);
    /// let pages: Cache<String, String> = Cache::new(100);
    /// users.insert(7, "ada");
    /// assert!(users.get(&7).is_some() && users.get(&8).is_none());
    ///
    /// let page = page(&[("users", users.stats()), ("pages", pages.stats())])?;
    /// assert!(page.starts_with("\
    /// ## TYPE haybox_hits_total counter
    /// haybox_hits_total{cache=\"users\"} 1
    /// haybox_hits_total{cache=\"pages\"} 0
    /// "));
    /// assert!(page.contains("# TYPE haybox_load_time_seconds_total counter\n"));
    /// assert!(page.contains("haybox_entries{cache=\"users\"} 1\n"));
    /// # Ok::<(), fmt::Error>(())
    /// ```
    pub struct Stats {
        /// Look-ups that found a live value: by `get`, `read`, `get_many` and all calls that load.
        /// A value that is due to be loaded anew behind the caller is one.
        pub hits: u64,
        /// Look-ups that found none, whatever they came to: a caller that waited for the load of
        /// another is one ([`waits`](Self::waits)), and one that was given a stale value
        /// ([`stale_served`](Self::stale_served)). Of 50 callers that ask at once for a key that
        /// is not there, 50 miss, 49 wait, and there is one load.
        pub misses: u64,
        /// Calls that would have loaded, but for what was remembered: that there is no value
        /// ([`negative_ttl`](crate::CacheBuilder::negative_ttl)), or an error
        /// ([`error_ttl`](crate::CacheBuilder::error_ttl)). They are misses, too.
        pub known_absences: u64,
        /// Values stored under a key that had no live value.
        pub inserts: u64,
        /// Values replaced or changed in place.
        pub updates: u64,
        /// Values that were not stored because they did not fit.
        pub refusals: u64,
        /// Entries removed to make room.
        pub evictions: u64,
        /// Entries removed because their time was up.
        pub expirations: u64,
        /// Entries removed by `remove` and its relatives, `retain` and `clear`, and those swept
        /// after their tag or group was invalidated.
        pub removals: u64,
        /// Loads that ended with a value.
        pub loads: u64,
        /// Loads that ended with an error, a panic, a time-out, or because their future was
        /// dropped.
        pub load_failures: u64,
        /// Loads that were not stored because their key was written or removed meanwhile, or its
        /// group or one of their tags invalidated, or because another load of the key, begun after
        /// the [`lock_timeout`](crate::CacheBuilder::lock_timeout), had an answer first.
        pub discarded_loads: u64,
        /// Waits for a load of another caller. A call has more than one where its first one ends
        /// without an answer.
        pub waits: u64,
        /// Stale values that were served because a load failed or took too long.
        pub stale_served: u64,
        /// Loads of keys that had a live value, begun because of its age or by a `refresh`.
        pub refreshes: u64,
        /// Loads that were not begun behind a caller because too many were waiting already.
        pub refused_refreshes: u64,
        /// Panics of the removal listener.
        pub listener_panics: u64,
        /// The time spent in loads, together, on the clock of the cache. Each is taken in ticks of
        /// 1 to 10 ms, whose errors cancel each other out over many.
        pub load_time: Duration,
        /// Entries now, those that have expired and are not swept yet among them.
        pub entries: u64 [gauge],
        /// How many absences and errors are remembered now. They count against the bounds, and not
        /// as entries.
        pub absences: u64 [gauge],
        /// The sum of the weights of the entries now; their number where nothing is weighed.
        pub weight: u64 [gauge],
        /// About how many bytes the cache takes up now; see
        /// [`Cache::memory`](crate::Cache::memory).
        pub memory: u64 [gauge],
    }
}

impl Stats {
    /// Hits as a share of all look-ups, from 0 to 1; 0 before the first. It says how often a value
    /// was at hand, and neither how much the source was spared nor how many were answered at once.
    ///
    /// # What the source was spared
    /// Where all look-ups are by calls that load, as in a proxy, `loads + load_failures` says how
    /// often the source was asked, and as a share of `hits + misses`, how often for each look-up:
    /// callers that shared a load, or were given what is stale or remembered, have made that
    /// smaller, and values that were loaded behind callers, greater. As shares of the look-ups,
    /// `waits` are the callers that waited for the load of another, `stale_served` those that got
    /// a stale value, some of which had waited for it, and `known_absences` those that were told
    /// what was remembered.
    ///
    /// ```
    /// use haybox::Cache;
    ///
    /// let users: Cache<u32, u32> = Cache::new(100);
    /// (0..8).for_each(|call| assert_eq!(users.get_or_insert_with(&(call % 2), || 7), 7));
    /// let stats = users.stats();
    /// let asked = (stats.loads + stats.load_failures) as f64 / (stats.hits + stats.misses) as f64;
    /// assert_eq!((stats.hit_ratio(), asked), (0.75, 0.25));
    /// ```
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 {
            0.0
        } else {
            self.hits as f64 / lookups as f64
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Hits,
    Misses,
    KnownAbsences,
    Inserts,
    Updates,
    Refusals,
    Evictions,
    Expirations,
    Removals,
    Loads,
    LoadFailures,
    DiscardedLoads,
    Waits,
    StaleServed,
    Refreshes,
    RefusedRefreshes,
    ListenerPanics,
    LoadNanoseconds,
}

const COUNTS: usize = Count::LoadNanoseconds as usize + 1;

#[repr(align(128))]
#[derive(Debug)]
struct Stripe([AtomicU64; COUNTS]);

impl Stripe {
    fn new() -> Box<Self> {
        Box::new(Self([const { AtomicU64::new(0) }; COUNTS]))
    }
}

/// Threads that have a stripe of their own.
const STRIPES: usize = 32;

#[derive(Debug)]
pub(crate) struct Counters {
    stripes: Box<[OnceLock<Box<Stripe>>; STRIPES]>,
    /// That of all other threads.
    shared: OnceLock<Box<Stripe>>,
    /// What the counts were at the last reset.
    baseline: Mutex<[u64; COUNTS]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            stripes: Box::new([const { OnceLock::new() }; STRIPES]),
            shared: OnceLock::new(),
            baseline: Mutex::new([0; COUNTS]),
        }
    }

    #[inline(always)]
    pub(crate) fn add(&self, count: Count, amount: u64) {
        self.add_each([count], amount);
    }

    /// The same for several counts, which finds out only once where the thread counts.
    #[inline(always)]
    pub(crate) fn add_each<const N: usize>(&self, counts: [Count; N], amount: u64) {
        // A thread that has no number yet has one past the last, too.
        let Some(stripe) = self
            .stripes
            .get(thread::slot_if_known())
            .and_then(OnceLock::get)
        else {
            return self.add_each_slowly(counts, amount);
        };
        for count in counts {
            // No other thread writes here, so nothing is lost between the load and the store.
            let counter = &stripe.0[count as usize];
            counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
        }
    }

    /// The same for a thread that counts here for the first time, or has no stripe of its own.
    #[cold]
    fn add_each_slowly<const N: usize>(&self, counts: [Count; N], amount: u64) {
        let stripe = match self.stripes.get(thread::slot()) {
            Some(own) => own.get_or_init(Stripe::new),
            None => self.shared.get_or_init(Stripe::new),
        };
        for count in counts {
            stripe.0[count as usize].fetch_add(amount, Relaxed);
        }
    }

    fn totals(&self) -> [u64; COUNTS] {
        let mut totals = [0u64; COUNTS];
        let stripes = self.stripes.iter().chain([&self.shared]);
        for stripe in stripes.filter_map(OnceLock::get) {
            for (total, count) in totals.iter_mut().zip(&stripe.0) {
                *total = total.wrapping_add(count.load(Relaxed));
            }
        }
        totals
    }

    pub(crate) fn reset(&self) {
        // Under the lock, so that no snapshot subtracts newer counts from older ones.
        let mut baseline = self.baseline.lock();
        *baseline = self.totals();
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let baseline = self.baseline.lock();
        let totals = self.totals();
        let of = |count: Count| totals[count as usize].wrapping_sub(baseline[count as usize]);
        Stats {
            hits: of(Count::Hits),
            misses: of(Count::Misses),
            known_absences: of(Count::KnownAbsences),
            inserts: of(Count::Inserts),
            updates: of(Count::Updates),
            refusals: of(Count::Refusals),
            evictions: of(Count::Evictions),
            expirations: of(Count::Expirations),
            removals: of(Count::Removals),
            loads: of(Count::Loads),
            load_failures: of(Count::LoadFailures),
            discarded_loads: of(Count::DiscardedLoads),
            waits: of(Count::Waits),
            stale_served: of(Count::StaleServed),
            refreshes: of(Count::Refreshes),
            refused_refreshes: of(Count::RefusedRefreshes),
            listener_panics: of(Count::ListenerPanics),
            load_time: Duration::from_nanos(of(Count::LoadNanoseconds)),
            ..Stats::default()
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_among_more_threads_than_stripes() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| (0..1000).for_each(|_| counters.add(Count::Hits, 1)));
            }
        });
        assert_eq!(counters.snapshot().hits, 2000 * STRIPES as u64);
    }

    #[test]
    fn a_thread_without_a_stripe_counts_in_the_shared_one() {
        let counters = Counters::new();
        let count = || {
            thread::give_up_slot();
            counters.add(Count::Hits, 1);
        };
        std::thread::scope(|scope| scope.spawn(count).join().unwrap());
        assert!(counters.stripes.iter().all(|own| own.get().is_none()));
        assert_eq!(counters.snapshot().hits, 1);
    }

    #[test]
    fn slots_of_ended_threads_are_used_again() {
        let counters = Counters::new();
        for _ in 0..500 {
            std::thread::scope(|scope| {
                scope
                    .spawn(|| counters.add(Count::Misses, 1))
                    .join()
                    .unwrap()
            });
        }
        assert_eq!(counters.snapshot().misses, 500);
        let in_use = counters
            .stripes
            .iter()
            .filter(|stripe| stripe.get().is_some())
            .count();
        assert!(
            in_use < STRIPES,
            "{in_use} stripes for one thread at a time"
        );
    }

    #[test]
    fn a_reset_starts_from_zero() {
        let counters = Counters::new();
        counters.add(Count::Loads, 3);
        counters.reset();
        counters.add(Count::Loads, 2);
        assert_eq!(counters.snapshot().loads, 2);
    }

    #[test]
    fn the_hit_ratio_of_nothing_is_zero() {
        assert_eq!(Stats::default().hit_ratio(), 0.0);
        let stats = Stats {
            hits: 3,
            misses: 1,
            ..Stats::default()
        };
        assert_eq!(stats.hit_ratio(), 0.75);
    }
}
