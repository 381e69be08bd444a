//! Making room: who has to go when a new entry does not fit.
//!
//! What a thread frees it keeps ([`Held`]) and never offers to the counter, where another thread
//! could take it. The order: what has expired, in the own set and then elsewhere; the own set's
//! choice while it holds its share of the cache; the choice of another set that holds more than
//! its share, taken by `try_lock`; the own set's choice in any case. Where all of that fails
//! because everything is locked by others, the thread lets go of its set and waits for one set
//! after the other, holding none.

use super::Engine;
use super::budget::{Budget, Gauge, Room};
use super::record::Recorded;
use crate::entry::OnFull;
use crate::event::{Outbox, RemovalCause};
use crate::labels::Given;
use crate::reentrancy;
use crate::sync::yield_now;
use crate::table::Locked;
use crate::time::Moment;

/// Room that a thread has reserved or freed and not used yet. Dropping it gives it back.
pub(super) struct Held<'b> {
    budget: &'b Budget,
    room: Room,
}

impl<'b> Held<'b> {
    #[inline]
    pub(super) fn nothing(budget: &'b Budget) -> Self {
        Self {
            budget,
            room: Room::NONE,
        }
    }

    #[inline]
    pub(super) fn add(&mut self, room: Room) {
        self.room = self.room.plus(room);
    }

    /// Hands room over to an entry.
    #[inline]
    pub(super) fn spend(&mut self, room: Room) {
        debug_assert!(self.room.covers(room));
        self.room = room.missing(self.room);
    }

    /// Passes everything on.
    pub(super) fn take(&mut self) -> Room {
        std::mem::replace(&mut self.room, Room::NONE)
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) {
        let room = self.take();
        if room != Room::NONE {
            self.budget.give(room);
        }
    }

    /// Entries that are in no set any more, or not yet, and count all the same.
    pub(super) fn entries(&self) -> u64 {
        self.room.entries
    }

    /// Whether there is enough.
    pub(super) fn covers(&self, need: Room) -> bool {
        self.room.covers(need)
    }

    /// Whether there is enough, after a look at what is free.
    #[inline]
    pub(super) fn reaches(&mut self, need: Room) -> bool {
        let missing = self.room.missing(need);
        if missing == Room::NONE {
            return true;
        }
        let taken = self.budget.try_take(missing);
        if taken {
            self.add(missing);
        }
        taken
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}

/// What one call holds and leaves to do, for as long as it runs. Declared before the locks are
/// taken, so that it ends after they are released.
pub(super) struct Work<'e, K, V> {
    pub(super) held: Held<'e>,
    pub(super) outbox: Outbox<'e, K, V>,
    pub(super) moment: Moment<'e>,
    /// What the value that is to be stored next is given.
    pub(super) given: Option<Box<Given>>,
    /// Where there is a log. Dropped last, since it may wait.
    pub(super) recording: Recorded<'e, K, V>,
}

/// What came of making room with a set locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Enough,
    /// The cache is full and does not evict.
    Refused,
    /// Everything that could go is locked by others.
    NothingInReach,
}

/// Other sets are asked for more than their share before any of them is asked for anything.
const CHOOSY: usize = 8;

/// Attempts of who cannot let go of its locks.
const PATIENCE: usize = 1000;

impl<K, V> Engine<K, V> {
    #[inline]
    pub(super) fn work(&self) -> Work<'_, K, V> {
        Work {
            held: Held::nothing(&self.budget),
            outbox: self.outbox(),
            moment: self.clock.moment(),
            given: None,
            recording: self.recording(),
        }
    }

    /// Gets `need` into `held`, with the own set locked.
    #[inline]
    pub(super) fn make_room(
        &self,
        own: &mut Locked<'_, K, V>,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) -> Made {
        if work.held.reaches(need) {
            return Made::Enough;
        }
        self.make_room_in_full_cache(own, need, work)
    }

    fn make_room_in_full_cache(
        &self,
        own: &mut Locked<'_, K, V>,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) -> Made {
        if self.policy.on_full == OnFull::Reject {
            return self.make_room_from_verdicts(own, need, work);
        }
        if self.clears_enough(own, need, work) {
            return Made::Enough;
        }
        while self.evict_one(own, work) {
            if work.held.reaches(need) {
                return Made::Enough;
            }
        }
        Made::NothingInReach
    }

    /// Gets `need` into `held` from verdicts, what has expired and, in a cache that rejects, what
    /// has fallen; evicts nothing.
    pub(super) fn make_room_from_verdicts(
        &self,
        own: &mut Locked<'_, K, V>,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) -> Made {
        if self.clears_enough(own, need, work) {
            return Made::Enough;
        }
        if self.policy.on_full == OnFull::Reject {
            // Elsewhere an insertion is not kept out by what has fallen, and each of many questions
            // for what does not exist would look through all sets.
            self.purge_for(own, work, |held| held.reaches(need));
        }
        match self.reaches_or_forgets(need, Some(own), work) {
            true => Made::Enough,
            false => Made::Refused,
        }
    }

    /// Whether `need` is in `held` once what has expired is cleared, if anything has.
    fn clears_enough(
        &self,
        own: &mut Locked<'_, K, V>,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        if !work.moment.has_passed(self.table.earliest()) {
            return false;
        }
        self.clear_expired_for(own, work, |held| held.reaches(need));
        work.held.reaches(need)
    }

    /// As [`make_room`](Self::make_room), for who cannot let go of the set and come back.
    pub(super) fn make_room_patiently(
        &self,
        own: &mut Locked<'_, K, V>,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) -> Made {
        for _ in 0..PATIENCE {
            match self.make_room(own, need, work) {
                Made::NothingInReach => yield_now(),
                settled => return settled,
            }
        }
        Made::NothingInReach
    }

    /// As [`make_room`](Self::make_room), with several sets locked: where nothing else is in
    /// reach, the others of them have to give.
    pub(super) fn make_room_among(
        &self,
        locks: &mut [Locked<'_, K, V>],
        own: usize,
        need: Room,
        work: &mut Work<'_, K, V>,
    ) {
        if self.make_room(&mut locks[own], need, work) != Made::NothingInReach {
            return;
        }
        for set in locks {
            while !work.held.reaches(need) && self.evict_from(set, work) {}
        }
    }

    fn evict_one(&self, own: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) -> bool {
        let holds_share = self.holds_share(own, work.held.entries());
        if holds_share && self.evict_from(own, work) {
            return true;
        }
        self.evict_elsewhere(work) || (!holds_share && self.evict_from(own, work))
    }

    /// Whether a set has at least nine tenths of the entries that its part of the hashes would
    /// have if all parts had equally many. Evicting in the own set touches no other, so a set that
    /// is only a little under its share does that; one that is well under grows at the cost of
    /// others, and after a while none is. What the thread has `freed` is in no set any more.
    #[inline(always)]
    pub(super) fn holds_share(&self, set: &Locked<'_, K, V>, freed: u64) -> bool {
        let total = self.budget.entries.used().saturating_sub(freed);
        let entries = ((set.len() + set.verdicts().len()) as u64) << set.depth();
        entries >= total - total / 10
    }

    /// Has a set give something up: what has fallen, else what the policy chooses.
    pub(super) fn evict_from(&self, set: &mut Locked<'_, K, V>, work: &mut Work<'_, K, V>) -> bool {
        if self.evict_verdict(set, work) || self.purge(set, work) > 0 {
            return true;
        }
        let Some(way) = set.victim() else {
            return false;
        };
        self.take_out(set, way, RemovalCause::Capacity, work);
        true
    }

    /// Takes an entry out of its set for a reason; nobody gets it but who listens.
    pub(super) fn take_out(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        cause: RemovalCause,
        work: &mut Work<'_, K, V>,
    ) {
        match cause {
            RemovalCause::Explicit | RemovalCause::Replaced => {
                self.record_loss(&set.entry(way).key, work);
            }
            RemovalCause::Capacity | RemovalCause::Expired => {
                self.record_leaving(set, way, cause, work);
            }
        }
        self.let_out(set, way, cause, work);
    }

    /// Takes out an entry that is to be removed; whether it may be.
    pub(super) fn remove_at(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        work: &mut Work<'_, K, V>,
    ) -> bool {
        let may = self.record_delete(&set.entry(way).key, work);
        if may {
            self.let_out(set, way, RemovalCause::Explicit, work);
        }
        may
    }

    /// As [`take_out`](Self::take_out), of what is recorded already.
    pub(super) fn let_out(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        cause: RemovalCause,
        work: &mut Work<'_, K, V>,
    ) {
        let item = match cause {
            // Shadows evict for themselves.
            RemovalCause::Capacity => set.take(way),
            _ => set.remove(way),
        };
        work.held.add(self.budget.cost(item.beside.weight));
        work.outbox
            .removed(item.fingerprint, item.key, item.value, cause);
    }

    fn evict_elsewhere(&self, work: &mut Work<'_, K, V>) -> bool {
        let sets = self.table.sets();
        let choosy = CHOOSY.min(sets);
        let start = self.table.turn_hand();
        // Who was only asked for more than its share is asked again: in a small table that is all.
        (0..choosy + sets).any(|step| {
            let index = (start + step) % sets;
            let Some(mut set) = self.table.try_lock_index(index) else {
                return false;
            };
            let takes_any = step >= choosy;
            let has_given = (takes_any || self.holds_share(&set, work.held.entries()))
                && self.evict_from(&mut set, work);
            if has_given && takes_any {
                // Where hardly any set has something, each is passed over once a round and not at
                // every eviction.
                self.table.set_hand(index + 1);
            }
            has_given
        })
    }

    /// Gets `need` into `held` with no set locked, and waits for as long as that takes.
    ///
    /// One thread at a time: it keeps everything it frees, so each round brings it nearer, and
    /// others that wait for room here hold none.
    #[cold]
    pub(super) fn make_room_unlocked(&self, need: Room, work: &mut Work<'_, K, V>) {
        work.held.release();
        work.moment.pass();
        let _turn = self.making_room.lock();
        while self.budget.could_fit(need) && !work.held.reaches(need) {
            let mut next = self.table.turn_hand();
            while let Some(after) = self.take_from(next, work) {
                if work.held.reaches(need) {
                    return;
                }
                next = after;
            }
            yield_now();
        }
    }

    /// Has the set at or after `from` give up one entry; where to go on.
    fn take_from(&self, from: usize, work: &mut Work<'_, K, V>) -> Option<usize> {
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        self.evict_from(&mut set, work);
        Some(set.index() + 1)
    }

    /// Changes a bound, and evicts until it holds: first what has expired. What a store holds it
    /// keeps. Meanwhile nothing is taken from above the bound, so what is there only becomes less.
    #[track_caller]
    pub(crate) fn rebound(&self, gauge: &Gauge, max: u64) {
        if !reentrancy::check() {
            return;
        }
        gauge.set_max(max);
        if self.is_strict() {
            return;
        }
        if self.budget.is_over() {
            self.sweep_all();
        }
        while self.budget.is_over() {
            self.shed();
            yield_now();
        }
    }

    /// Has each set evict the same part of its entries, until the bounds hold: one walk does nearly
    /// all, and few are taken from a set for others.
    fn shed(&self) {
        let (part, mut next) = (self.budget.surplus(), 0);
        while let Some(after) = self.shed_from(next, part) {
            next = after;
        }
    }

    /// Has a set evict a part of its entries, while a bound does not hold; where to go on.
    fn shed_from(&self, from: usize, part: f64) -> Option<usize> {
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        let entries = set.len() + set.verdicts().len();
        // At least one, so that the last few over the bound go too.
        let mut surplus = ((entries as f64 * part).ceil() as usize).max(1);
        while surplus > 0 && self.budget.is_over() && self.evict_from(&mut set, &mut work) {
            surplus -= 1;
            work.held.release();
        }
        set.shrink();
        self.budget.is_over().then_some(set.index() + 1)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{Cache, Insert, InsertOptions, MockClock};
    use std::thread::scope;
    use std::time::Duration;

    /// The sets that hold something, with how much.
    fn sets_in_use(cache: &Cache<u64, u64>) -> Vec<(usize, usize)> {
        let inside = reentrancy::enter().unwrap();
        let (mut in_use, mut next) = (Vec::new(), 0);
        while let Some(set) = cache.engine().table.lock_next(&inside, next) {
            next = set.index() + 1;
            if set.len() > 0 {
                in_use.push((set.index(), set.len()));
            }
        }
        in_use
    }

    /// Else each of them would look again at all sets that the ones before it have found empty.
    #[test]
    fn evictions_from_a_sparse_table_go_on_where_the_last_one_ended() {
        let cache: Cache<u64, u64> = Cache::new(40 * 1024);
        cache.insert_many((0..40 * 1024).map(|key| (key, key)));
        cache.set_max_entries(10).unwrap();
        let (table, mut far) = (&cache.engine().table, 0);
        for key in 1_000_000..1_000_200 {
            let before = sets_in_use(&cache);
            let from = table.turn_hand() + 1;
            cache.insert(key, key);
            let after = sets_in_use(&cache);
            let has_given = |&&(index, had): &&(usize, usize)| {
                let has = after.iter().find(|set| set.0 == index);
                has.is_none_or(|set| set.1 < had)
            };
            // None where it was the own set, which has taken the new entry in.
            let Some((index, _)) = before.iter().find(has_given) else {
                continue;
            };
            let distance = (index + table.sets() - from % table.sets()) % table.sets();
            if distance >= CHOOSY {
                far += 1;
                assert_eq!(table.turn_hand(), (index + 1) % table.sets());
            }
        }
        assert!(far > 100, "most evictions have to search: {far}");
        cache.validate();
    }

    fn index_of(cache: &Cache<u64, u64>, key: u64) -> usize {
        let inside = reentrancy::enter().unwrap();
        let hash = cache.hash(&key);
        cache.engine().table.lock(&inside, hash).index()
    }

    #[test]
    fn a_cache_that_rejects_clears_what_it_needs_and_waits_for_no_set_while_others_have_it() {
        let (second, time) = (Duration::from_secs(1), MockClock::new());
        let builder = Cache::builder().max_weight(400).weigher(|_, _| 1);
        let builder = builder.clock(time.clock()).sweep_interval(1000 * second);
        let cache = builder.on_full(OnFull::Reject).build().unwrap();
        for key in 0..400 {
            cache.insert_with_ttl(key, key, second);
        }
        time.advance(second);
        let held = index_of(&cache, 0);
        let mut others = (400..).filter(|key| index_of(&cache, *key) != held);
        let others = [(); 2].map(|()| others.next().unwrap());
        let insert = |key| {
            let insert = || cache.insert_with(key, 0, InsertOptions::new());
            scope(|threads| threads.spawn(insert).join().unwrap())
        };
        let inside = reentrancy::enter().unwrap();
        let set = cache.engine().table.lock(&inside, cache.hash(&0));
        let had = set.len();
        assert_eq!(insert(others[0]), Insert::Inserted);
        let cleared = cache.stats().expirations;
        assert!((2..200).contains(&cleared), "a set or two: {cleared}");
        assert_eq!(insert(others[1]), Insert::Inserted);
        assert_eq!(cache.stats().expirations, cleared, "there was room");
        assert_eq!(set.len(), had);
        drop((set, inside));
        cache.validate();
    }

    #[test]
    fn one_walk_through_the_sets_brings_the_weight_below_a_lowered_bound() {
        let builder = Cache::builder().max_weight(10_000).weigher(|_, _| 1);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        cache.insert_many((0..10_000).map(|key| (key, key)));
        let (engine, before) = (cache.engine(), sets_in_use(&cache));
        assert!(before.len() > 100);
        engine.budget.weight.as_ref().unwrap().set_max(5_000);
        engine.shed();
        assert_eq!(cache.weight(), 5_000, "no more goes than has to");
        let after = sets_in_use(&cache);
        let has_given = |(had, has): &(&(usize, usize), &(usize, usize))| has.1 <= had.1 / 2 + 1;
        let given = before.iter().zip(&after).filter(has_given).count();
        assert!(given * 10 > before.len() * 9, "half of each: {given}");
        for max in [4_500, 10] {
            engine.budget.weight.as_ref().unwrap().set_max(max);
            engine.shed();
            assert_eq!(cache.weight(), max);
        }
        cache.validate();
    }
}
