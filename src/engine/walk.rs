//! Going through all entries: iteration, scanning, filtering, clearing.

use super::Engine;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::random;
use crate::reentrancy;
use crate::table::Entry;

impl<K, V> Engine<K, V> {
    /// Collects from the live entries of the set at `position`; where to go on, if anywhere.
    #[track_caller]
    pub(crate) fn collect_set<T>(
        &self,
        position: u64,
        mut collect: impl FnMut(&K, &V) -> T,
    ) -> (Vec<T>, Option<u64>) {
        // Dropped with nothing locked, also where a `Clone` panics.
        let mut items = Vec::new();
        let Some(inside) = reentrancy::enter() else {
            return (items, None);
        };
        let after = self.table.at_position(&inside, position, |ways, next| {
            let live = ways
                .iter()
                .filter(|(way, entry)| self.is_there(ways, *way, entry));
            items.extend(live.map(|(_, entry)| collect(&entry.key, &entry.value)));
            next
        });
        drop(inside);
        let after = after.unwrap_or_else(|| self.table.skip_unused(position));
        (items, after)
    }

    /// At least `count` entries from `position` on, as long as there are any, each set cut where
    /// the count is reached; entries with equal hashes stay together.
    pub(crate) fn scan<T>(
        &self,
        position: u64,
        count: usize,
        hash_of: &dyn Fn(&K) -> KeyHash,
        mut collect: impl FnMut(&K, &V) -> T,
    ) -> (Vec<T>, Option<u64>) {
        let mut found = Vec::new();
        let mut next = Some(position);
        while let Some(position) = next
            && found.len() < count
        {
            let of_entry = |key: &K, value: &V| (hash_of(key).position(), collect(key, value));
            let (mut entries, after) = self.collect_set(position, of_entry);
            entries.retain(|(at, _)| *at >= position);
            entries.sort_by_key(|(at, _)| *at);
            let wanted = count - found.len();
            next = match cut(&entries, wanted) {
                None => after,
                Some(end) => {
                    let resume = entries[end].0;
                    entries.truncate(end);
                    Some(resume)
                }
            };
            found.extend(entries.into_iter().map(|(_, entry)| entry));
        }
        (found, next)
    }

    /// Removes every live entry for which `keep` says no, set by set, and whatever has expired or
    /// fallen.
    #[track_caller]
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        let (mut next, mut is_crowded) = (0, false);
        while reentrancy::check()
            && let Some(after) = self.retain_in_set(next, &mut is_crowded, &mut keep)
        {
            next = after;
        }
    }

    #[track_caller]
    fn retain_in_set(
        &self,
        from: usize,
        is_crowded: &mut bool,
        keep: &mut impl FnMut(&K, &V) -> bool,
    ) -> Option<usize> {
        let mut work = self.work();
        if !self.admit_set(is_crowded, &mut work) {
            return None;
        }
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        work.outbox.discard_loads(set.overtake_all());
        self.forget_all(&mut set, &mut work);
        for way in 0..set.width() {
            let cause = match set.get(way) {
                None => continue,
                // What is kept beyond its TTL is asked for, too: it may still be served.
                Some(_) if !self.is_live(set.gone(way)) => RemovalCause::Expired,
                Some(entry) if self.has_fallen(&set, way, entry) => RemovalCause::Explicit,
                Some(entry) if keep(&entry.key, &entry.value) => continue,
                Some(_) => {
                    self.remove_at(&mut set, way, &mut work);
                    continue;
                }
            };
            self.take_out(&mut set, way, cause, &mut work);
        }
        set.refresh_hint();
        set.shrink_if_sparse();
        Some(set.index() + 1)
    }

    /// Empties the table without telling anybody, when the cache is closed, or its log says that all
    /// was discarded.
    pub(crate) fn drop_all(&self) {
        let mut next = 0;
        while let Some(after) = self.drop_set(next) {
            next = after;
        }
    }

    fn drop_set(&self, from: usize) -> Option<usize> {
        let mut work = self.work();
        let inside = reentrancy::enter()?;
        let mut set = self.table.lock_next(&inside, from)?;
        work.outbox.discard_loads(set.overtake_all());
        self.forget_all(&mut set, &mut work);
        for way in 0..set.width() {
            if set.get(way).is_some() {
                let item = set.take(way);
                work.held.add(self.budget.cost(item.beside.weight));
                work.outbox.discard(item.key, item.value);
            }
        }
        set.refresh_hint();
        set.shrink();
        Some(set.index() + 1)
    }

    /// A live entry chosen at random: a random set, and a random entry in it. Entries of sets that
    /// hold fewer are a little likelier.
    pub(crate) fn random<T>(&self, mut f: impl FnMut(&Entry<K, V>) -> T) -> Option<T> {
        let at_random = (0..RANDOM_TRIES).find_map(|_| self.random_from(random::number(), &mut f));
        // A table with hardly anything in it is walked, from a random place round to it again.
        let start = random::number();
        at_random
            .or_else(|| self.first_from(start, &mut f))
            .or_else(|| self.first_from(0, &mut f))
    }

    /// An entry of the first set at or after `position` that has any.
    fn first_from<T>(&self, position: u64, f: &mut impl FnMut(&Entry<K, V>) -> T) -> Option<T> {
        let mut next = Some(position);
        while let Some(position) = next {
            if let Some(found) = self.random_from(position, f) {
                return Some(found);
            }
            next = self.collect_set(position, |_, _| ()).1;
        }
        None
    }

    fn random_from<T>(&self, position: u64, f: &mut impl FnMut(&Entry<K, V>) -> T) -> Option<T> {
        let inside = reentrancy::enter()?;
        let of_set = self.table.at_position(&inside, position, |ways, _| {
            let live = || {
                ways.iter()
                    .filter(|(way, entry)| self.is_there(ways, *way, entry))
            };
            let (_, entry) = live().nth(random::below(live().count().max(1)))?;
            Some(f(entry))
        });
        of_set.flatten()
    }
}

/// Sets that are tried at random before the rest of the table is walked.
const RANDOM_TRIES: usize = 16;

/// Where to cut sorted entries so that at least `wanted` are before the cut and equal positions
/// stay together; `None` when nothing is left after it.
fn cut<T>(entries: &[(u64, T)], wanted: usize) -> Option<usize> {
    let last = entries.get(wanted.checked_sub(1)?)?.0;
    let end = entries.partition_point(|(position, _)| *position <= last);
    (end < entries.len()).then_some(end)
}
