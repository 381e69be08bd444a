//! What loads have found out of keys of a set that is no value.

use super::set::Ways;
use crate::equivalent::Equivalent;
use crate::hash::KeyHash;
use crate::load::Verdict;
use crate::time::{Deadline, NEVER};

impl<K, V> Ways<K, V> {
    /// What is remembered, for who looks at the labels of it.
    pub(crate) fn verdicts_mut(&mut self) -> &mut [Verdict<K>] {
        self.extra
            .as_mut()
            .map_or(&mut [], |extra| &mut extra.verdicts)
    }

    pub(crate) fn verdicts(&self) -> &[Verdict<K>] {
        self.extra.as_ref().map_or(&[], |extra| &extra.verdicts)
    }

    pub(crate) fn first_verdict_deadline(&self) -> Deadline {
        let deadlines = self.verdicts().iter().map(|verdict| verdict.deadline);
        deadlines.min().unwrap_or(NEVER)
    }

    pub(crate) fn verdict_of<Q>(&self, hash: KeyHash, key: &Q) -> Option<usize>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let of_key = |verdict: &Verdict<K>| verdict.hash == hash && key.equivalent(&verdict.key);
        self.verdicts().iter().position(of_key)
    }

    /// Bytes of a set for each of its verdicts: its place, the share of places that are free, and
    /// of what only sets with verdicts have.
    pub(crate) const BYTES_PER_VERDICT: u64 = (size_of::<Verdict<K>>() * 5 / 4 + 40) as u64;

    pub(super) fn add_verdict(&mut self, verdict: Verdict<K>) {
        let verdicts = &mut self.extra_mut().verdicts;
        if verdicts.len() == verdicts.capacity() {
            verdicts.reserve_exact(1 + verdicts.len() / 4);
        }
        verdicts.push(verdict);
    }

    pub(crate) fn take_verdict(&mut self, at: usize) -> Option<Verdict<K>> {
        let verdicts = &mut self.extra.as_mut()?.verdicts;
        let verdict = (at < verdicts.len()).then(|| verdicts.remove(at));
        if verdicts.capacity() > 4 + 2 * verdicts.len() {
            verdicts.shrink_to(1 + verdicts.len() * 5 / 4);
        }
        self.drop_unused_extra();
        verdict
    }
}

impl<K: Eq, V> Ways<K, V> {
    /// # Panics
    /// If a verdict is in the set of another key, or one key has two.
    pub(super) fn validate_verdicts(&self, index: usize, hash_of: &dyn Fn(&K) -> KeyHash) {
        for (at, verdict) in self.verdicts().iter().enumerate() {
            assert_eq!(verdict.hash, hash_of(&verdict.key), "the hash of the key");
            assert_eq!(self.route(verdict.hash, index), None, "the set of the key");
            let found = self.verdict_of(verdict.hash, &verdict.key);
            assert_eq!(found, Some(at), "a key has one verdict");
        }
    }
}
