//! The loads under way of a set's keys: a list that is looked through, since there are few.

use super::extra::Extra;
use super::set::Ways;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::{Flight, Left, Loads, UnderWay};
use crate::time::Deadline;
use std::mem;
use std::sync::Arc;

/// Memory that a set needs for loads under way, if it is there already.
#[derive(Debug)]
pub(crate) struct LoadRoom<K, V>(Option<Box<Extra<K, V>>>);

impl<K, V> Default for LoadRoom<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> Ways<K, V> {
    #[inline]
    pub(crate) fn loads(&self) -> &[UnderWay<K, V>] {
        self.extra.as_ref().map_or(&[], |extra| &extra.loads)
    }

    /// The load of a key.
    pub(crate) fn load_of<Q>(&self, hash: KeyHash, key: &Q) -> Option<&UnderWay<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let of_key = |load: &&UnderWay<K, V>| load.hash() == hash && key.equivalent(&load.key);
        self.loads().iter().find(of_key)
    }

    /// The epoch at which a load began, if it has not been overtaken.
    pub(crate) fn epoch_of(&self, flight: &Arc<Flight<V>>) -> Option<u64> {
        self.loads().iter().find_map(|load| load.epoch_of(flight))
    }

    /// Where a load is among those of the set, if it has not been overtaken.
    #[inline(always)]
    pub(crate) fn place_of_load(&self, flight: &Arc<Flight<V>>) -> Option<usize> {
        let mut loads = self.loads().iter();
        loads.position(|load| Arc::ptr_eq(&load.flight, flight))
    }

    /// Notes that somebody waits for a load, and says since when anybody has.
    pub(crate) fn await_load(
        &mut self,
        flight: &Arc<Flight<V>>,
        now: Deadline,
    ) -> Option<Deadline> {
        let at = self.place_of_load(flight)?;
        let load = self.extra.as_mut()?.loads.get_mut(at)?;
        Some(load.await_from(now))
    }

    /// The epoch at which the load of a key began.
    pub(crate) fn epoch_of_load<Q>(&self, hash: KeyHash, key: &Q) -> Option<u64>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.load_of(hash, key).map(UnderWay::epoch)
    }

    /// The epoch at which the oldest load that runs began.
    pub(crate) fn oldest_epoch(&self) -> Option<u64> {
        let epochs = self.loads().iter().filter_map(UnderWay::oldest_epoch);
        epochs.min()
    }

    #[inline(always)]
    pub(crate) fn begin_load(&mut self, load: UnderWay<K, V>, room: LoadRoom<K, V>) {
        let extra = self.extra.get_or_insert_with(|| room.0.unwrap_or_default());
        extra.loads.push(load);
    }

    /// Takes out the load that is waited for, if this is still it.
    pub(crate) fn end_load(&mut self, flight: &Arc<Flight<V>>) -> Option<UnderWay<K, V>> {
        let at = self.place_of_load(flight)?;
        self.end_load_at(at).map(|(load, _)| load)
    }

    /// Takes out all loads of the key of one that has brought an answer, if it is among them.
    pub(crate) fn end_loads_with(&mut self, flight: &Arc<Flight<V>>) -> Option<UnderWay<K, V>> {
        let at = self.place_of_any(flight)?;
        self.end_load_at(at).map(|(load, _)| load)
    }

    /// Ends a load whose answer does not count, if it has one. Where late ones run it stays known for
    /// them: the next caller begins one more, and whichever comes first is stored. What was taken
    /// out, and whether none has begun after it that runs.
    pub(crate) fn leave_load(&mut self, flight: &Arc<Flight<V>>) -> (Option<UnderWay<K, V>>, bool) {
        let Some(at) = self.place_of_any(flight) else {
            return (None, false);
        };
        let Some(extra) = &mut self.extra else {
            return (None, false);
        };
        match extra.loads[at].leave(flight) {
            Left::Last => (self.end_load_at(at).map(|(load, _)| load), true),
            Left::Newest => (None, true),
            Left::Older => (None, false),
        }
    }

    /// Where the loads of a key are among those of the set, given one of them.
    pub(crate) fn place_of_any(&self, flight: &Arc<Flight<V>>) -> Option<usize> {
        let mut loads = self.loads().iter();
        loads.position(|load| load.epoch_of(flight).is_some())
    }

    /// The same, by its place, with the room that it took up where no other is there.
    #[inline(always)]
    pub(crate) fn end_load_at(&mut self, at: usize) -> Option<(UnderWay<K, V>, LoadRoom<K, V>)> {
        let loads = &mut self.extra.as_mut()?.loads;
        // Most often it is the only one.
        let load = match at + 1 == loads.len() {
            true => loads.pop()?,
            false => loads.swap_remove(at),
        };
        Some((load, LoadRoom(self.take_unused_extra())))
    }

    /// Overtakes the load of a key: what it brings is not stored, and nobody joins it any more.
    #[inline]
    pub(crate) fn overtake<Q>(&mut self, hash: KeyHash, key: &Q) -> Option<UnderWay<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        if self.loads().is_empty() {
            return None;
        }
        let flight = Arc::clone(&self.load_of(hash, key)?.flight);
        self.end_load(&flight)
    }

    /// Overtakes the loads of the keys that match.
    pub(crate) fn overtake_if(&mut self, matches: impl Fn(&K) -> bool) -> Loads<K, V> {
        self.take_loads(&|load| matches(&load.key))
    }

    /// Overtakes every load of the set.
    pub(crate) fn overtake_all(&mut self) -> Loads<K, V> {
        self.take_loads(&|_| true)
    }

    /// Takes out the loads of which none runs.
    pub(crate) fn take_ended_loads(&mut self) -> Loads<K, V> {
        if self.loads().is_empty() {
            return Loads::new();
        }
        self.take_loads(&|load| load.oldest_epoch().is_none())
    }

    pub(super) fn take_loads(&mut self, taken: &dyn Fn(&UnderWay<K, V>) -> bool) -> Loads<K, V> {
        let Some(extra) = &mut self.extra else {
            return Loads::new();
        };
        // A closure of the user's may be asked, and panic: nothing is taken out by then.
        let is_taken: Vec<bool> = extra.loads.iter().map(taken).collect();
        let mut is_taken = is_taken.into_iter();
        let loads = mem::take(&mut extra.loads).into_iter();
        let (loads, others) = loads.partition(|_| is_taken.next() == Some(true));
        extra.loads = others;
        self.drop_unused_extra();
        loads
    }
}

impl<K: Eq, V> Ways<K, V> {
    /// # Panics
    /// If a load is in the set of another key, or one key has two.
    pub(super) fn validate_loads(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        for (at, load) in self.loads().iter().enumerate() {
            assert_eq!(load.hash(), hash_of(&load.key), "the hash of the key");
            assert_eq!(self.route(load.hash(), index), None, "the set of the key");
            let is_twin = |other: &UnderWay<K, V>| other.key == load.key;
            let is_first = !self.loads()[..at].iter().any(is_twin);
            assert!(is_first, "the loads of a key are known as one");
        }
    }
}
