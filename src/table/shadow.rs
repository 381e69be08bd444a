//! Shadows: what a set would hold under each of the settings.
//!
//! Source: Qureshi, Jaleel, Patt, Steely, Emer, "Adaptive Insertion Policies for High Performance
//! Caching", ISCA 2007 (a few sets are dedicated to finding out which policy suits all), with the
//! candidates in tags of their own as in Qureshi, Patt, "Utility-Based Cache Partitioning",
//! MICRO 2006, so that the sampled sets follow the policy in force like all others.
//!
//! A sampled set has a [`Shadow`]: one [`Replica`] of its queues and ghosts for each setting, with
//! 13 bits of the hash and the count of reads for each key, and nothing else. Every new key of the
//! set goes to all replicas at once. A read only marks its entry, and every few insertions into the
//! set the marked entries go to the replicas: a hot key then counts once and not for each read,
//! which hardly matters, since it is in all of them. A replica holds as many keys as the set has
//! entries, but at most [`PLACES`].
//!
//! 13 bits mistake one key in 200 for another, and one in 95 for a ghost (one in 46 in a small
//! table), in all replicas alike, as their set does.

use super::entry::Entry;
use super::eviction::{MAX_FREQUENCY, Queue, Queues, Setting};
use super::ghosts::Ghosts;
use super::set::Ways;
use std::ops::{BitOr, ControlFlow};

/// The settings that are tried.
pub(super) const TRIED: [Setting; 5] = [
    Setting::BALANCED,
    Setting::FREQUENT,
    Setting::RECENT,
    Setting::CLOCK,
    Setting::STRICT,
];

/// The most keys of a replica.
const PLACES: usize = 40;

/// The marks of reads are collected at one eviction in this many.
const COLLECT_EVERY: u16 = 4;

/// So many accesses are judged at once, or a few more.
const JUDGED_AT_ONCE: i32 = 8;

/// A set is awake for the first evictions of a turn. The eighth in which it rests pays for most of
/// a setting more, and costs no more than 0.03 points of hit ratio.
const TURN: u16 = 512;
const AWAKE: u16 = 448;

/// Where one set in eight is sampled, or more of them: shadows cost a table of a few hundred entries
/// more than a larger one.
const OFTEN_AWAKE: u16 = 384;

/// Where all sets are sampled. Most of the time of a table with so few would go into shadows
/// otherwise.
const SELDOM_AWAKE: u16 = 51;

/// What the replicas made of some accesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) accesses: i32,
    /// By setting.
    pub(super) hits: [i32; TRIED.len()],
}

#[derive(Debug)]
pub(super) struct Shadow {
    replicas: [Replica; TRIED.len()],
    /// Of the accesses that were not judged yet.
    tally: Tally,
    /// In this turn.
    evictions: u16,
    is_resting: bool,
}

impl Shadow {
    /// Replicas of a set as it is.
    pub(super) fn of<K, V>(set: &Ways<K, V>) -> Box<Self> {
        let replica = Replica::of(set);
        Box::new(Self {
            replicas: std::array::from_fn(|_| replica.clone()),
            tally: Tally::default(),
            evictions: 0,
            is_resting: false,
        })
    }

    /// Counts an eviction of the set, where one set in so many is sampled. One that rests sees
    /// nothing.
    fn turn(&mut self, sampling_rate: usize) {
        let awake = match sampling_rate {
            1 => SELDOM_AWAKE,
            ..=8 => OFTEN_AWAKE,
            _ => AWAKE,
        };
        self.evictions = (self.evictions + 1) % TURN;
        self.is_resting = self.evictions >= awake;
    }

    /// Whether it is time to collect the marks of reads.
    fn collects(&self) -> bool {
        self.evictions.is_multiple_of(COLLECT_EVERY)
    }

    /// Tells all replicas of an access to a key of a set with so many entries.
    pub(super) fn access(&mut self, fingerprint: u16, entries: usize) {
        self.tally.accesses += 1;
        let key = key_of(fingerprint);
        let settings = TRIED.iter().zip(&mut self.tally.hits);
        for (replica, (setting, hits)) in self.replicas.iter_mut().zip(settings) {
            if replica.read(key) {
                *hits += 1;
            } else {
                replica.insert(key, *setting, entries);
            }
        }
    }

    /// What the replicas made of the accesses since the last time, once that are enough to be worth
    /// a judgement.
    fn take_tally(&mut self) -> Option<Tally> {
        (self.tally.accesses >= JUDGED_AT_ONCE).then(|| std::mem::take(&mut self.tally))
    }

    /// Tells all replicas that a key was removed.
    pub(super) fn remove(&mut self, fingerprint: u16) {
        for replica in &mut self.replicas {
            replica.remove(key_of(fingerprint));
        }
    }

    /// # Panics
    /// With the first invariant that does not hold, for a set of a depth.
    pub(super) fn validate(&self, depth: u8) {
        for replica in &self.replicas {
            replica.validate();
            assert!(
                replica.ghosts.has_size_of(depth),
                "as many ghosts as its set"
            );
        }
    }
}

/// A fingerprint with room for the count of reads below it. Never zero, which marks a free place.
fn key_of(fingerprint: u16) -> u16 {
    fingerprint << COUNT.count_ones()
}

fn fingerprint_of(key: u16) -> u16 {
    key >> COUNT.count_ones()
}

/// The bits of the count of reads.
const COUNT: u16 = MAX_FREQUENCY as u16;

/// As many keys as one instruction compares.
const VECTOR: usize = 8;

/// The numbers of the places, from 1.
const NUMBERS: [u16; PLACES] = {
    let mut numbers = [0; PLACES];
    let mut place = 0;
    while place < PLACES {
        numbers[place] = place as u16 + 1;
        place += 1;
    }
    numbers
};

/// No place.
const NONE: u8 = u8::MAX;

/// The queues and ghosts of a set under one setting.
#[derive(Clone, Debug)]
struct Replica {
    /// By place: a key and how often it was read.
    keys: [u16; PLACES],
    /// By place: the next younger one in the queue.
    next: [u8; PLACES],
    small: Row,
    main: Row,
    ghosts: Ghosts,
}

/// A queue linked through the places: `head` is the oldest.
#[derive(Clone, Copy, Debug)]
struct Row {
    head: u8,
    tail: u8,
    len: u8,
}

const EMPTY: Row = Row {
    head: NONE,
    tail: NONE,
    len: 0,
};

impl Replica {
    fn of<K, V>(set: &Ways<K, V>) -> Self {
        let mut replica = Self {
            keys: [0; PLACES],
            next: [NONE; PLACES],
            small: EMPTY,
            main: EMPTY,
            ghosts: set
                .ghosts
                .as_deref()
                .cloned()
                .unwrap_or_else(|| Ghosts::new(set.depth)),
        };
        for way in set.queue_order().take(PLACES) {
            let entry = set.entry(way);
            let key = key_of(set.fingerprint(way));
            if replica.find(key).is_none() {
                let place = replica.len();
                replica.keys[place] = key | u16::from(entry.frequency());
                replica.ghosts.set_count(place, set.count(way));
                replica.push(entry.queue(), place);
            }
        }
        replica
    }

    fn len(&self) -> usize {
        usize::from(self.small.len) + usize::from(self.main.len)
    }

    /// Counts a read of a key; whether it is there.
    #[inline(always)]
    fn read(&mut self, key: u16) -> bool {
        let Some(place) = self.find(key) else {
            return false;
        };
        let held = &mut self.keys[place];
        *held += u16::from(*held & COUNT != COUNT);
        true
    }

    /// Where a key is. Looks at all of them, which compiles to a few vector instructions: each
    /// place has a number above zero, and no key is in two.
    #[inline(always)]
    fn find(&self, key: u16) -> Option<usize> {
        let mut found = [0; VECTOR];
        let (keys, _) = self.keys.as_chunks::<VECTOR>();
        let (numbers, _) = NUMBERS.as_chunks::<VECTOR>();
        for (held, numbers) in keys.iter().zip(numbers) {
            for lane in 0..VECTOR {
                let is_it = held[lane] & !COUNT == key;
                found[lane] |= if is_it { numbers[lane] } else { 0 };
            }
        }
        let number = found.into_iter().fold(0, u16::bitor);
        usize::from(number).checked_sub(1)
    }

    /// Puts a new key in, for a set with so many entries.
    fn insert(&mut self, key: u16, setting: Setting, entries: usize) {
        let most = entries.clamp(1, PLACES);
        let mut free = None;
        while self.len() >= most {
            free = self.evict(setting);
        }
        let Some(place) = free.or_else(|| self.keys.iter().position(|held| *held == 0)) else {
            return;
        };
        let queue = self.ghosts.admit(fingerprint_of(key), place, setting);
        self.keys[place] = key;
        self.push(queue, place);
    }

    fn evict(&mut self, setting: Setting) -> Option<usize> {
        let place = self.choose(setting)?;
        let queue = if self.small.head == place as u8 {
            Queue::Small
        } else {
            Queue::Main
        };
        self.pop(queue);
        self.keys[place] = 0;
        Some(place)
    }

    fn remove(&mut self, key: u16) {
        let Some(place) = self.find(key) else { return };
        self.keys[place] = 0;
        for queue in [Queue::Small, Queue::Main] {
            // Round the queue once, which leaves the others in their order.
            for _ in 0..self.len_of(queue) {
                match self.pop(queue) {
                    Some(popped) if popped != place => self.push(queue, popped),
                    _ => {}
                }
            }
        }
    }

    // ---- the queues ----

    #[inline(always)]
    fn row(&mut self, queue: Queue) -> &mut Row {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    #[inline(always)]
    fn push(&mut self, queue: Queue, place: usize) {
        let link = place as u8;
        let row = self.row(queue);
        let tail = std::mem::replace(&mut row.tail, link);
        row.len += 1;
        if tail == NONE {
            row.head = link;
        } else {
            self.next[usize::from(tail)] = link;
        }
        self.next[place] = NONE;
    }

    /// Takes the oldest of a queue out of it.
    #[inline(always)]
    fn pop(&mut self, queue: Queue) -> Option<usize> {
        let place = self.oldest(queue)?;
        let next = self.next[place];
        let row = self.row(queue);
        row.len -= 1;
        row.head = next;
        if next == NONE {
            row.tail = NONE;
        }
        Some(place)
    }

    fn places(&self, queue: Queue) -> impl Iterator<Item = usize> {
        std::iter::successors(self.oldest(queue), |place| {
            let next = self.next[*place];
            (next != NONE).then_some(usize::from(next))
        })
    }

    fn validate(&self) {
        let queued = || self.places(Queue::Small).chain(self.places(Queue::Main));
        assert_eq!(queued().count(), self.len(), "as long as the queues say");
        let is_queued: [bool; PLACES] = std::array::from_fn(|place| queued().any(|at| at == place));
        for (place, key) in self.keys.iter().enumerate() {
            assert_eq!(*key != 0, is_queued[place], "every key is in one queue");
            let found = self.find(key & !COUNT);
            assert!(*key == 0 || found == Some(place), "no key is there twice");
        }
    }
}

impl Queues for Replica {
    #[inline(always)]
    fn len_of(&self, queue: Queue) -> usize {
        usize::from(match queue {
            Queue::Small => self.small.len,
            Queue::Main => self.main.len,
        })
    }

    #[inline(always)]
    fn oldest(&self, queue: Queue) -> Option<usize> {
        let head = match queue {
            Queue::Small => self.small.head,
            Queue::Main => self.main.head,
        };
        (head != NONE).then_some(usize::from(head))
    }

    #[inline(always)]
    fn reads(&self, place: usize) -> Option<u8> {
        Some((self.keys[place] & COUNT) as u8)
    }

    #[inline(always)]
    fn advance(&mut self, from: Queue, to: Queue, reads: u8) {
        if let Some(place) = self.pop(from) {
            self.keys[place] = self.keys[place] & !COUNT | u16::from(reads);
            self.push(to, place);
        }
    }

    #[inline(always)]
    fn count(&self, place: usize) -> u8 {
        self.ghosts.count(place)
    }

    #[inline(always)]
    fn count_again(&mut self, place: usize, setting: Setting) {
        self.ghosts.count_again(place, setting);
    }

    #[inline(always)]
    fn remember(&mut self, place: usize, count: u8) {
        self.ghosts
            .remember(fingerprint_of(self.keys[place]), count);
    }

    fn pass_over_pinned(&self, _: Queue) -> ControlFlow<Option<usize>> {
        ControlFlow::Continue(())
    }
}

impl<K, V> Ways<K, V> {
    /// Prepares the shadow for an eviction: makes it where there is none, and tells it now and then
    /// of what was read. One set in so many is sampled.
    pub(super) fn observe_reads(&mut self, sampling_rate: usize) {
        let Some(mut shadow) = self.shadow.take() else {
            return self.cast_shadow();
        };
        shadow.turn(sampling_rate);
        if !shadow.is_resting && shadow.collects() {
            let mut from = 0;
            while let Some(way) = self.next_read(from) {
                shadow.access(self.fingerprint(way), self.len());
                from = way + 1;
            }
        }
        self.shadow = Some(shadow);
    }

    /// The next way from one on whose entry is marked as read. Takes the mark.
    fn next_read(&mut self, from: usize) -> Option<usize> {
        let mut slots = self.slots[from..].iter_mut();
        let found = slots.position(|slot| slot.as_mut().is_some_and(Entry::take_read_mark));
        found.map(|offset| from + offset)
    }

    fn cast_shadow(&mut self) {
        self.shadow = Some(Shadow::of(self));
        for entry in self.slots.iter_mut().flatten() {
            entry.take_read_mark();
        }
    }

    /// Tells the shadow that an entry was read which is about to be evicted.
    pub(super) fn observe_victim(&mut self, way: usize) {
        let Some(mut shadow) = self.shadow.take() else {
            return;
        };
        let mut is_read = || self.slots[way].as_mut().is_some_and(Entry::take_read_mark);
        if !shadow.is_resting && is_read() {
            shadow.access(self.fingerprint(way), self.len());
        }
        self.shadow = Some(shadow);
    }

    /// Tells the shadow, where there is one, of a new key; what is to be judged, now and then.
    pub(super) fn observe_insertion(&mut self, fingerprint: u16) -> Option<Tally> {
        let entries = self.len();
        let shadow = self.shadow.as_mut()?;
        if shadow.is_resting {
            return None;
        }
        shadow.access(fingerprint, entries);
        shadow.take_tally()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ghosts::SMALL_DEPTH;
    use super::*;

    #[test]
    fn replicas_remember_as_many_keys_as_their_set() {
        for depth in [0, SMALL_DEPTH, SMALL_DEPTH + 1] {
            let mut set = Ways::<u8, u8>::new(depth);
            for _ in 0..2 {
                // Without ghosts at first, then with one.
                Shadow::of(&set).validate(depth);
                set.leave_ghost(7);
            }
        }
    }

    fn empty() -> Replica {
        Replica::of(&Ways::<u8, u8>::new(0))
    }

    fn empty_of_large_table() -> Replica {
        Replica::of(&Ways::<u8, u8>::new(SMALL_DEPTH + 1))
    }

    fn access(replica: &mut Replica, key: u16, setting: Setting, entries: usize) -> bool {
        let key = key_of(key << 2);
        let hit = replica.read(key);
        if !hit {
            replica.insert(key, setting, entries);
        }
        replica.validate();
        hit
    }

    #[test]
    fn a_shadow_is_small() {
        assert_eq!(size_of::<Shadow>(), 1352);
    }

    #[test]
    fn a_replica_holds_as_many_keys_as_its_set() {
        let mut random = fastrand::Rng::with_seed(1);
        for setting in TRIED {
            let mut replica = empty();
            for _ in 0..4_000 {
                let entries = random.usize(0..60);
                let hit = access(&mut replica, random.u16(1..100), setting, entries);
                assert!(hit || replica.len() <= entries.clamp(1, PLACES));
                if random.u8(0..4) == 0 {
                    replica.remove(key_of(random.u16(1..100) << 2));
                    replica.validate();
                }
            }
        }
    }

    /// The hits of each setting in a set of 40.
    fn hits(keys: &[u16]) -> [usize; TRIED.len()] {
        hits_from(empty, keys)
    }

    fn hits_from(start: fn() -> Replica, keys: &[u16]) -> [usize; TRIED.len()] {
        TRIED.map(|setting| {
            let mut replica = start();
            let hits = keys
                .iter()
                .filter(|key| access(&mut replica, **key, setting, 40));
            hits.count()
        })
    }

    #[test]
    fn a_set_that_weighs_keeps_more_of_a_loop() {
        let around: Vec<u16> = (0..30).flat_map(|_| 1..=50).collect();
        let [balanced, frequent, ..] = hits(&around);
        assert!(
            frequent > 800 && frequent > balanced,
            "{frequent} {balanced}"
        );
        let around: Vec<u16> = (0..60).flat_map(|_| 1..=90).collect();
        let [balanced, frequent, recent, clock, strict] = hits(&around);
        let others = balanced.max(recent).max(clock).max(strict);
        assert!(frequent > others * 6 / 5, "{frequent} {others}");
    }

    #[test]
    fn recent_keeps_what_comes_once_more_and_then_never_again() {
        // Every key twice, 24 keys apart.
        let bursts: Vec<u16> = (1..=500)
            .flat_map(|key: u16| [Some(key), key.checked_sub(24)])
            .flatten()
            .filter(|key| *key != 0)
            .collect();
        let [balanced, frequent, recent, clock, strict] = hits(&bursts);
        assert!(recent > 400, "{recent}");
        let others = balanced.max(frequent).max(clock).max(strict);
        assert!(recent > others, "{recent} {others}");
    }

    #[test]
    fn a_set_rests_the_more_the_more_sets_are_sampled() {
        let mut set = Ways::<u8, u8>::new(0);
        set.cast_shadow();
        let shadow = set.shadow.as_mut().unwrap();
        let mut awake = |sampling_rate| {
            let turns = (0..10 * u32::from(TURN)).filter(|_| {
                shadow.turn(sampling_rate);
                !shadow.is_resting
            });
            turns.count()
        };
        let awake = [1, 2, 8, 16, 32].map(&mut awake);
        assert_eq!(awake, [510, 3_840, 3_840, 4_480, 4_480]);
    }

    #[test]
    fn accesses_are_judged_eight_at_once() {
        let mut set = Ways::<u8, u8>::new(0);
        assert_eq!(set.observe_insertion(1), None, "there is no shadow");
        set.cast_shadow();
        let judged: Vec<Tally> = (0..20)
            .filter_map(|key| set.observe_insertion(4 * (key % 2 + 1)))
            .collect();
        // A set without entries has replicas of one key: none is there when it comes back.
        let tally = Tally {
            accesses: 8,
            hits: [0; TRIED.len()],
        };
        assert_eq!(judged, [tally; 2]);
    }

    #[test]
    fn clock_keeps_what_is_popular_for_a_while() {
        // The lower a number, the more it is asked for, but whose it is changes now and then.
        let mut random = fastrand::Rng::with_seed(6);
        let stream: Vec<u16> = (0..30_000u32)
            .map(|at| {
                let number = 800_f64.powf(random.f64()) as u32 * 7;
                1 + ((number + at / 400 * 331) % 2_000) as u16
            })
            .collect();
        for start in [empty as fn() -> _, empty_of_large_table] {
            let [balanced, frequent, recent, clock, strict] = hits_from(start, &stream);
            let others = balanced.max(frequent).max(recent).max(strict);
            assert!(
                clock > others + 100,
                "{clock} {balanced} {frequent} {recent} {strict}"
            );
        }
    }

    #[test]
    fn strict_keeps_what_lasts_beside_what_is_asked_for_some_times_at_once() {
        // By turns one of 40 keys that last, and one of three that will never come again after
        // their three times each.
        let mut random = fastrand::Rng::with_seed(8);
        let stream: Vec<u16> = (0..20_000u16)
            .flat_map(|at| [random.u16(1..=40), 50 + (at / 9 * 3 + at % 3) % 1_950])
            .collect();
        let [others @ .., strict] = hits(&stream);
        assert!(
            others.iter().all(|hits| strict > hits + 500),
            "{strict} {others:?}"
        );
    }
}
