//! Several keys changed as one: what a transaction sees and stages. `commit.rs` makes it so.

use super::Engine;
use super::budget::{Budget, Room};
use super::policy::PASSED;
use super::record::RECORD;
use super::room::{Held, Work};
use super::ttl::{deadline_of, moved};
use crate::entry::{Life, OnFull, Refused, Ttl};
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::labels::Labels;
use crate::reentrancy;
use crate::stats::Count;
use crate::table::Locked;
use crate::time::{Deadline, Moment, left};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// The view that the closure of [`Cache::transaction`](crate::Cache::transaction) has of its keys.
///
/// It sees its own changes. Nobody else sees them before the closure has returned `Ok`, and then
/// all at once.
pub struct Transaction<'t, K, V> {
    engine: &'t Engine<K, V>,
    keys: &'t [K],
    hashes: &'t [KeyHash],
    locks: &'t [Locked<'t, K, V>],
    /// Which of `locks` has which key.
    sets: &'t [usize],
    staged: &'t mut [Staged<V>],
    /// When the locks were taken. What lived then is there until they are released.
    now: u64,
    balance: Balance,
    /// Where the key that was named last is among `keys`, where the search for the next begins:
    /// closures mostly take their keys in turn. None where the search begins at the first.
    last: Option<Cell<usize>>,
    /// What was staged and staged anew; dropped with the locks released.
    overwritten: &'t mut Vec<Staged<V>>,
    /// Gets so much room set aside for the values staged, in a cache that rejects; whether it is
    /// there.
    reaches: &'t mut (dyn FnMut(Room) -> bool + 't),
}

/// What a transaction has done to a key so far.
pub(super) enum Staged<V> {
    Untouched,
    Put {
        value: V,
        life: Life,
        weight: u64,
        /// What was stored was removed before, so nothing of it stays.
        is_new: bool,
    },
    /// The value stays, and lives for so long.
    Kept(Life),
    Removed,
}

impl<V> Staged<V> {
    /// What it will take up, where it is a value.
    fn cost(&self, budget: &Budget) -> Option<Room> {
        match self {
            Self::Put { weight, .. } => Some(budget.cost(*weight)),
            Self::Untouched | Self::Kept(_) | Self::Removed => None,
        }
    }

    /// Whether what was stored under the key before the transaction stays.
    fn keeps_stored(&self) -> bool {
        matches!(self, Self::Untouched | Self::Kept(_))
    }

    /// Whether a value that is stored next is that of a new key.
    fn has_removed(&self) -> bool {
        matches!(self, Self::Removed | Self::Put { is_new: true, .. })
    }

    /// The life that the key has been given so far.
    fn life(&self) -> Life {
        match self {
            Self::Untouched => Life::Keep,
            Self::Put { life, .. } | Self::Kept(life) => *life,
            Self::Removed => Life::Default,
        }
    }
}

/// What all that was staged takes up, and what was stored under these keys.
#[derive(Clone, Copy, Default)]
struct Balance {
    needs: Sum,
    has: Sum,
}

/// A sum that does not saturate, so that what was added can be taken off again.
#[derive(Clone, Copy, Default)]
struct Sum {
    entries: u64,
    weight: u128,
    bytes: u128,
}

impl Sum {
    fn add(&mut self, room: Option<Room>) {
        let room = room.unwrap_or_default();
        self.entries += room.entries;
        self.weight += u128::from(room.weight);
        self.bytes += u128::from(room.bytes);
    }

    fn take_off(&mut self, room: Option<Room>) {
        let room = room.unwrap_or_default();
        self.entries -= room.entries;
        self.weight -= u128::from(room.weight);
        self.bytes -= u128::from(room.bytes);
    }

    /// `None` for more than any bound allows.
    fn room(self) -> Option<Room> {
        Some(Room {
            entries: self.entries,
            weight: self.weight.try_into().ok()?,
            bytes: self.bytes.try_into().ok()?,
        })
    }
}

impl<K, V> fmt::Debug for Transaction<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V> Transaction<'_, K, V> {
    /// The value of a key as it is, with what this transaction has done to it.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.value(self.index_of(key))
    }

    fn value(&self, index: usize) -> Option<&V> {
        match &self.staged[index] {
            Staged::Put { value, .. } => Some(value),
            Staged::Removed => None,
            Staged::Untouched | Staged::Kept(_) => self.stored(index),
        }
    }

    /// How long the value of a key will live if nobody accesses it, with what this transaction has
    /// done to it; `None` if there is none. That is the sooner of its TTL and its idle time,
    /// counted from the beginning of the transaction.
    ///
    /// A TTL that is random or that an [`Expiry`](crate::Expiry) decides on is drawn again when the
    /// transaction commits.
    ///
    /// ```
    /// use haybox::{Cache, Ttl};
    /// use std::time::Duration;
    ///
    /// // Redis's RENAME, which takes the TTL along, in a cache without an idle time.
    /// let carts = Cache::new(100);
    /// carts.insert_with_ttl("guest 7", vec!["milk"], Duration::from_secs(600));
    /// let renamed = carts.transaction(&["guest 7", "ada"], |tx| {
    ///     let Some(cart) = tx.get("guest 7").cloned() else { return Err("no cart") };
    ///     let ttl = tx.ttl("guest 7");
    ///     tx.remove("guest 7");
    ///     tx.insert("ada", cart).map_err(|_| "no room")?;
    ///     match ttl {
    ///         Some(Ttl::Left(left)) => Ok(tx.expire("ada", left)),
    ///         _ => Ok(tx.persist("ada")),
    ///     }
    /// });
    /// assert_eq!(renamed, Ok(true));
    /// assert!(matches!(carts.ttl("ada"), Some(Ttl::Left(left)) if left <= Duration::from_secs(600)));
    /// assert_eq!(carts.ttl("guest 7"), None);
    /// ```
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn ttl<Q>(&self, key: &Q) -> Option<Ttl>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        let value = self.value(index)?;
        let deadline = self.deadline(index, value, &self.engine.clock.moment());
        let left = left(deadline, self.now);
        Some(left.map_or(Ttl::Never, Ttl::Left))
    }

    fn deadline(&self, index: usize, value: &V, moment: &Moment<'_>) -> Deadline {
        let stored = self.place(index).filter(|_| self.stored(index).is_some());
        match (&self.staged[index], stored) {
            (Staged::Put { life, is_new, .. }, stored) => {
                let replaced = stored.filter(|_| !is_new);
                let replaced = replaced.map(|(set, way)| set.hard_deadline(way));
                let entry = (&self.keys[index], value);
                let policy = &self.engine.policy;
                policy.on_write(moment, entry, *life, replaced).effective
            }
            (Staged::Kept(life), Some((set, way))) => {
                moved(set, way, deadline_of(*life, moment)).effective
            }
            (_, Some((set, way))) => set.entry(way).deadline(),
            (_, None) => PASSED,
        }
    }

    /// Sets the TTL of a value, zero meaning that it ends with the commit; whether there was one. A
    /// load of the key that is under way is overtaken.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn expire<Q>(&mut self, key: &Q, ttl: Duration) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.keep(key, Life::For(ttl))
    }

    /// Takes the TTL off a value; whether there was one, be it with a TTL or without. An idle time
    /// still holds.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn persist<Q>(&mut self, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.keep(key, Life::Forever)
    }

    #[track_caller]
    fn keep<Q>(&mut self, key: &Q, given: Life) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        if self.value(index).is_none() {
            return false;
        }
        match &mut self.staged[index] {
            Staged::Put { life, .. } => *life = given,
            other => *other = Staged::Kept(given),
        }
        true
    }

    /// Stores a value under one of the keys, with the TTL that an insertion would give it.
    ///
    /// # Errors
    /// [`Refused`] gives the value back when it can never fit, or when the cache is full and
    /// rejects. The transaction goes on; return the error to undo all of it.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert<Q>(&mut self, key: &Q, value: V) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::Default)
    }

    /// As [`insert`](Self::insert), with a TTL of its own.
    ///
    /// # Errors
    /// As for `insert`.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert_with_ttl<Q>(&mut self, key: &Q, value: V, ttl: Duration) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::For(ttl))
    }

    /// As [`insert`](Self::insert), leaving the deadline as it is, or as this transaction has set
    /// it.
    ///
    /// # Errors
    /// As for `insert`.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn insert_keep_ttl<Q>(&mut self, key: &Q, value: V) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.put(key, value, Life::Keep)
    }

    /// Removes the value of a key; whether there was one. What is inserted under it afterwards is a
    /// new entry, without the tags of the old one; listeners are told of an update all the same,
    /// since they hear what the transaction has come to.
    ///
    /// # Panics
    /// If the key is none of the transaction's.
    #[track_caller]
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let index = self.index_of(key);
        let had = self.value(index).is_some();
        let balance = self.balance_with(index, None);
        self.stage(index, Staged::Removed, balance);
        had
    }

    #[track_caller]
    fn put<Q>(&mut self, key: &Q, value: V, life: Life) -> Result<(), Refused<V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // What is asked of the key and for its weight is the user's: should it panic, the value is
        // where it is dropped with the locks released.
        self.overwritten.push(Staged::Put {
            value,
            life: Life::Default,
            weight: 0,
            is_new: false,
        });
        let index = self.index_of(key);
        let weight = self.weigh(index);
        let life = match life {
            Life::Keep => self.staged[index].life(),
            life => life,
        };
        let balance = self.balance_with(index, Some(weight));
        let has_room = self.fits(balance) && self.has_way(index);
        let Some(Staged::Put { value, .. }) = self.overwritten.pop() else {
            unreachable!("it was put there just now");
        };
        if !has_room {
            self.engine.count(Count::Refusals);
            return Err(Refused(value));
        }
        let staged = Staged::Put {
            value,
            life,
            weight,
            is_new: self.staged[index].has_removed(),
        };
        self.stage(index, staged, balance);
        Ok(())
    }

    /// What the value that was put aside last weighs under a key.
    fn weigh(&self, index: usize) -> u64 {
        let labels = self.engine.weight_of_labels(&self.labels(index));
        let weight = match self.overwritten.last() {
            Some(Staged::Put { value, .. }) => self.engine.policy.weigh(&self.keys[index], value),
            _ => 0,
        };
        weight.saturating_add(labels)
    }

    /// Stages a change. A value that was staged before is kept until the locks are released.
    fn stage(&mut self, index: usize, staged: Staged<V>, balance: Balance) {
        let before = std::mem::replace(&mut self.staged[index], staged);
        self.overwritten.push(before);
        self.balance = balance;
    }

    /// The balance with a value of `weight`, or with none, in the place of what was staged for a
    /// key.
    fn balance_with(&self, index: usize, weight: Option<u64>) -> Balance {
        let budget = &self.engine.budget;
        let mut balance = self.balance;
        balance.needs.take_off(self.staged[index].cost(budget));
        balance.needs.add(weight.map(|weight| budget.cost(weight)));
        if self.staged[index].keeps_stored() {
            let stored = self.place(index).map(|(set, way)| set.weight(way));
            balance.has.add(stored.map(|weight| budget.cost(weight)));
        }
        balance
    }

    /// Whether everything staged fits. A cache that does not evict takes the room at once: at the
    /// commit it is too late to refuse.
    fn fits(&mut self, balance: Balance) -> bool {
        let (Some(needs), Some(has)) = (balance.needs.room(), balance.has.room()) else {
            return false;
        };
        let missing = has.missing(needs);
        if missing == Room::NONE {
            // A store may hold more than what it is bounded at by now.
            return true;
        }
        if !self.engine.budget.could_fit(needs) {
            return false;
        }
        self.engine.policy.on_full == OnFull::Evict || (self.reaches)(missing)
    }

    /// Whether the set of a key has a place for it, beside all others that are staged. A cache that
    /// evicts makes one.
    fn has_way(&self, index: usize) -> bool {
        let Some(set) = self.sets.get(index).map(|set| &self.locks[*set]) else {
            return true;
        };
        set.has_room_for(self.keys.len())
            || self.engine.policy.on_full == OnFull::Evict
            || self.place(index).is_some()
            || set.has_room_for(1 + self.new_beside(index))
    }

    /// How many keys are staged to be new in the set of another.
    fn new_beside(&self, index: usize) -> usize {
        let is_new = |other: &usize| {
            *other != index
                && self.sets[*other] == self.sets[index]
                && matches!(self.staged[*other], Staged::Put { .. })
                && self.place(*other).is_none()
        };
        (0..self.keys.len()).filter(is_new).count()
    }

    #[track_caller]
    fn index_of<Q>(&self, key: &Q) -> usize
    where
        Q: Equivalent<K> + ?Sized,
    {
        let (before, from_last) = self.keys.split_at(self.last.as_ref().map_or(0, Cell::get));
        let is_own = |own: &K| key.equivalent(own);
        let later = from_last.iter().position(is_own);
        let index = later
            .map(|index| before.len() + index)
            .or_else(|| before.iter().position(is_own))
            .expect("a transaction reads and writes only the keys it was given");
        if let Some(last) = &self.last {
            last.set(index);
        }
        index
    }

    fn stored(&self, index: usize) -> Option<&V> {
        let (set, way) = self.place(index)?;
        let entry = set.entry(way);
        (entry.deadline() > self.now).then_some(&entry.value)
    }

    /// The labels that an entry stored under a key will have.
    fn labels(&self, index: usize) -> Labels {
        let stays = self.stored(index).is_some() && !self.staged[index].has_removed();
        match self.place(index).filter(|_| stays) {
            Some((set, way)) => set.labels(way).clone(),
            None => self.engine.with_group(&self.keys[index], Labels::NONE),
        }
    }

    /// Where a key is stored, expired or not.
    fn place(&self, index: usize) -> Option<(&Locked<'_, K, V>, usize)> {
        let set = &self.locks[*self.sets.get(index)?];
        let way = set.find(self.hashes[index], &self.keys[index])?;
        Some((set, way))
    }
}

/// A place to begin the search for a key at, where each key is there once: of one that is there
/// twice the first place counts, which is found by beginning at the first. For a few keys that is
/// quicker.
fn last_named(hashes: &[KeyHash]) -> Option<Cell<usize>> {
    const FEW: usize = 16;
    let mut seen = HashSet::new();
    let are_distinct = hashes.len() > FEW && hashes.iter().all(|hash| seen.insert(hash.bits()));
    are_distinct.then(Cell::default)
}

impl<K, V> Engine<K, V>
where
    K: Hash + Eq + Clone,
{
    /// Clears what has expired or fallen and gives up verdicts, until there is room for as many
    /// entries; all of it where it is not known how much they take up.
    fn clear_for_transaction(&self, entries: u64) {
        let (need, mut work) = (self.budget.room(entries, 0), self.work());
        let knows_need = self.budget.counts_entries_only();
        let enough = |held: &mut Held<'_>| knows_need && held.reaches(need);
        if knows_need {
            self.clear_expired_unlocked(&mut work, enough);
        }
        if enough(&mut work.held) {
            return;
        }
        self.sweep_for_room();
        if !enough(&mut work.held) {
            self.forget_for(None, &mut work, enough);
        }
    }

    /// Runs `f` with the sets of all keys locked, and applies what it did if it returns `Ok`.
    #[track_caller]
    pub(crate) fn transaction<R, E>(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        if !reentrancy::check() {
            return self.rehearse(keys, hashes, f);
        }
        if self.policy.on_full == OnFull::Reject {
            // With the locks held it is too late to clear what has expired or fallen, or to forget
            // what their own sets remember. What is forgotten is room for everybody: to keep it
            // would refuse others for as long as `f` runs, which may not even need it.
            self.clear_for_transaction(keys.len() as u64);
        }
        // Declared before the locks, so dropped after them: all that may run code of the user's.
        let mut work = self.work();
        let is_admitted = self.admit(RECORD * keys.len(), &mut work);
        let mut staged: Vec<_> = keys.iter().map(|_| Staged::Untouched).collect();
        let mut overwritten = Vec::new();
        let mut changes = Vec::with_capacity(keys.len());
        let owned = keys.to_vec();
        let (mut arriving, result);
        let inside =
            reentrancy::enter().expect("no transaction starts while a closure of a cache unwinds");
        let (mut locks, sets) = self.table.lock_all(&inside, hashes);
        let now = self.clock.now();
        // What `f` makes is made from what is there now. It sees one moment: what expires or falls
        // while it runs is there for it, and what it makes of what has fallen falls with it.
        let epoch = self.register.latest();
        if epoch > 0 {
            self.remove_fallen(keys, hashes, &sets, &mut locks, &mut work);
        }
        result = {
            let mut reaches = |need| self.reaches_or_forgets(need, None, &mut work);
            f(&mut Transaction {
                engine: self,
                keys,
                hashes,
                locks: &locks,
                sets: &sets,
                staged: &mut staged,
                now,
                balance: Balance::default(),
                last: last_named(hashes),
                overwritten: &mut overwritten,
                reaches: &mut reaches,
            })?
        };
        // What is stored lives from now on, however long `f` took.
        work.moment.pass();
        self.clear_expired_in(&mut locks, now, &mut work);
        arriving = owned.into_iter().zip(staged).peekable();
        let (places, moment) = (hashes.iter().copied().zip(sets), (now, epoch));
        self.prepare(
            &mut arriving,
            places,
            moment,
            &mut locks,
            &mut changes,
            &mut work,
        );
        self.commit(is_admitted, &mut changes, &mut locks, &mut work);
        drop(locks);
        self.have_swept();
        Ok(result)
    }

    /// Removes what has fallen of the keys of a transaction.
    fn remove_fallen(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        sets: &[usize],
        locks: &mut [Locked<'_, K, V>],
        work: &mut Work<'_, K, V>,
    ) {
        for ((key, hash), set) in keys.iter().zip(hashes).zip(sets) {
            let locked = &mut locks[*set];
            if let Some(way) = locked.find(*hash, key)
                && self.has_fallen(locked, way, locked.entry(way))
            {
                self.take_out_fallen(locked, way, work);
            }
        }
    }

    /// Clears what has expired in the sets of a transaction, so that it makes room before anything
    /// that lives has to.
    fn clear_expired_in(
        &self,
        locks: &mut [Locked<'_, K, V>],
        now: u64,
        work: &mut Work<'_, K, V>,
    ) {
        for set in locks {
            if set.hint() <= now {
                self.clear_expired(set, now, work);
            }
        }
    }

    /// Runs `f` on nothing and forgets what it did: the thread unwinds out of a closure of a cache,
    /// where no lock can be taken, and a second panic would abort the process.
    fn rehearse<R, E>(
        &self,
        keys: &[K],
        hashes: &[KeyHash],
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut staged: Vec<_> = keys.iter().map(|_| Staged::Untouched).collect();
        let mut overwritten = Vec::new();
        let mut held = Held::nothing(&self.budget);
        f(&mut Transaction {
            engine: self,
            keys,
            hashes,
            locks: &[],
            sets: &[],
            staged: &mut staged,
            now: self.clock.now(),
            balance: Balance::default(),
            last: last_named(hashes),
            overwritten: &mut overwritten,
            reaches: &mut |need| held.reaches(need),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cache, MockClock, OnFull, Refused, Transaction, Ttl};
    use std::hash::{Hash, Hasher};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    const MANY: u64 = 5_000;

    fn insert_all(cache: &Cache<u64, u64>, keys: &[u64]) {
        let done: Result<(), Refused<u64>> = cache.transaction(keys, |tx| {
            keys.iter().try_for_each(|key| tx.insert(key, *key))
        });
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn a_batch_grows_the_table_as_single_insertions_do() {
        let (batch, singly) = (Cache::unbounded(), Cache::unbounded());
        insert_all(&batch, &Vec::from_iter(0..MANY));
        (0..MANY).for_each(|key| assert_eq!(singly.insert(key, key), None));
        assert_eq!(batch.engine().table.sets(), singly.engine().table.sets());
        batch.validate();
    }

    static COMPARED: AtomicUsize = AtomicUsize::new(0);

    #[derive(Clone)]
    struct Counted(u64);

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.fetch_add(1, Relaxed);
            self.0 == other.0
        }
    }

    impl Eq for Counted {}

    #[test]
    fn a_batch_in_the_order_of_its_keys_compares_each_a_few_times() {
        let cache = Cache::unbounded();
        let keys: Vec<_> = (0..MANY).map(Counted).collect();
        let change = || {
            let done: Result<(), Refused<u64>> = cache.transaction(&keys, |tx| {
                for key in &keys {
                    let value = tx.get(key).copied().unwrap_or_default();
                    tx.insert(key, value + 1)?;
                }
                Ok(())
            });
            assert_eq!(done, Ok(()));
        };
        change();
        change();
        assert_eq!(cache.get(&Counted(MANY - 1)), Some(2));
        let compared = COMPARED.load(Relaxed);
        assert!(compared < 40 * MANY as usize, "{compared}");
    }

    #[test]
    fn keys_are_found_in_any_order_and_of_one_given_twice_the_first_place_counts() {
        let cache = Cache::unbounded();
        for twice in [None, Some(3)] {
            let keys: Vec<u64> = (0..40).chain(twice).collect();
            let sums: Result<_, Refused<u64>> = cache.transaction(&keys, |tx| {
                tx.insert(&3, 5)?;
                for key in [39, 0, 17, 3, 3, 38] {
                    let value = tx.get(&key).copied().unwrap_or_default();
                    tx.insert(&key, value + 1)?;
                }
                assert!(tx.remove(&0) && !tx.remove(&0));
                Ok([3, 39, 0].map(|key| tx.get(&key).copied()))
            });
            assert_eq!(sums.unwrap()[0], Some(7));
            assert_eq!((cache.get(&3), cache.get(&0)), (Some(7), None));
            cache.validate();
        }
    }

    /// A value that is inserted with `insert_keep_ttl` keeps what the transaction sees.
    #[test]
    fn a_ttl_that_is_kept_is_the_one_that_was_set_last() {
        let time = MockClock::new();
        let [default, own, other] = [100, 60, 30].map(Duration::from_secs);
        let builder = Cache::builder().max_entries(10).time_to_live(default);
        let cache = builder.clock(time.clock()).build().unwrap();
        type Step = fn(&mut Transaction<'_, u64, u64>, Duration) -> bool;
        let steps: [(Step, Duration); 4] = [
            (|tx, _| tx.get(&1).is_some(), own),
            (|tx, other| tx.expire(&1, other), other),
            (|tx, other| tx.insert_with_ttl(&1, 2, other).is_ok(), other),
            (|tx, _| tx.remove(&1), default),
        ];
        for (step, expected) in steps {
            cache.insert_with_ttl(1, 1, own);
            let seen = cache.transaction(&[1], |tx| {
                assert!(step(tx, other));
                tx.insert_keep_ttl(&1, 3).map(|()| tx.ttl(&1))
            });
            assert_eq!(seen, Ok(Some(Ttl::Left(expected))));
            assert_eq!(cache.ttl(&1), Some(Ttl::Left(expected)));
        }
    }

    /// What ends while a closure runs is there for it, and for what it does.
    #[test]
    fn a_transaction_sees_one_moment() {
        let (time, long) = (MockClock::new(), Duration::from_secs(60));
        let builder = Cache::builder().max_entries(10).clock(time.clock());
        let cache = builder.build().unwrap();
        let [kept, given, gone, new] = [1, 2, 3, 4];
        for key in [kept, given, gone] {
            cache.insert_with_ttl(key, key, Duration::from_millis(5));
        }
        let done = cache.transaction(&[kept, given, gone, new], |tx| {
            time.advance(Duration::from_millis(10));
            assert_eq!(tx.ttl(&kept), Some(Ttl::Left(Duration::from_millis(5))));
            assert!(tx.expire(&given, long) && tx.remove(&gone));
            tx.insert_keep_ttl(&kept, 7)
        });
        assert_eq!(done, Ok(()));
        // With the deadline that was to be kept, which has passed, and not without any.
        assert_eq!((cache.get(&kept), cache.get(&gone)), (None, None));
        assert_eq!(cache.ttl(&given), Some(Ttl::Left(long)));
        cache.validate();
    }

    #[test]
    fn what_is_only_given_another_ttl_takes_up_no_room_anew() {
        let weigher = |_: &u64, value: &u64| *value;
        let builder = Cache::builder().max_weight(100).weigher(weigher);
        let cache = builder.on_full(OnFull::Reject).build().unwrap();
        cache.insert(1, 90);
        let done = cache.transaction(&[1], |tx| {
            assert!(tx.expire(&1, Duration::from_secs(60)));
            // In the place of the 90 that are there.
            tx.insert(&1, 100)
        });
        assert_eq!((done, cache.weight()), (Ok(()), 100));
        cache.validate();
    }

    #[test]
    fn what_is_staged_anew_counts_once_against_the_bound() {
        let weigher = |_: &u64, value: &u64| *value;
        let builder = Cache::builder().max_weight(100).weigher(weigher);
        let cache = builder.on_full(OnFull::Reject).build().unwrap();
        cache.insert(1, 40);
        let done: Result<(), Refused<u64>> = cache.transaction(&[1, 2], |tx| {
            for weight in [100, 60, 90, 10] {
                tx.insert(&1, weight)?;
            }
            assert_eq!(tx.insert(&2, 91), Err(Refused(91)));
            tx.insert(&2, 90)?;
            assert!(tx.remove(&1));
            tx.insert(&2, 100)
        });
        assert_eq!((done, cache.weight()), (Ok(()), 100));
        cache.validate();
    }

    /// What one store gives up is there for another, whichever comes first among the keys.
    #[test]
    fn stores_of_a_full_cache_that_take_from_one_another_are_all_kept() {
        for on_full in [OnFull::Reject, OnFull::Evict] {
            let weigher = |_: &u64, value: &u64| *value;
            let builder = Cache::builder().max_weight(100).weigher(weigher);
            let cache = builder.on_full(on_full).build().unwrap();
            cache.insert_many([(1, 20), (2, 80)]);
            for stores in [[(2, 30), (1, 70)], [(1, 20), (2, 80)]] {
                let done: Result<(), Refused<u64>> = cache.transaction(&[1, 2], |tx| {
                    let mut stores = stores.iter();
                    stores.try_for_each(|(key, value)| tx.insert(key, *value))
                });
                assert_eq!(done, Ok(()));
                for (key, value) in stores {
                    assert_eq!(cache.get(&key), Some(value), "{on_full:?}");
                }
                cache.validate();
            }
        }
    }
}
