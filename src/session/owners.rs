//! Which sessions belong to whom.

use super::SessionId;
use crate::{Cache, Op, Outcome};
use std::collections::HashSet;
use std::sync::Arc;

/// The ids of the sessions of each owner. What is true is in the sessions themselves: this follows.
#[derive(Clone)]
pub(super) struct Owners(Cache<Arc<str>, HashSet<SessionId>>);

impl Owners {
    pub(super) fn new() -> Self {
        Self(Cache::unbounded())
    }

    pub(super) fn ids(&self, owner: &str) -> HashSet<SessionId> {
        self.0.get(owner).unwrap_or_default()
    }

    pub(super) fn count(&self, owner: &str) -> usize {
        self.0.read(owner, HashSet::len).unwrap_or_default()
    }

    /// Makes it say whether a session belongs to an owner, which `belongs` looks up. Whoever writes
    /// last finds out here whether what he wrote has been overtaken, so in the end it is true, in
    /// whatever order those come who have changed the session.
    pub(super) fn follow(&self, owner: &Arc<str>, id: SessionId, belongs: impl Fn() -> bool) {
        loop {
            let before = belongs();
            if before {
                self.add(owner, id);
            } else {
                self.remove(owner, id);
            }
            if belongs() == before {
                return;
            }
        }
    }

    pub(super) fn add(&self, owner: &Arc<str>, id: SessionId) {
        let first = |ids: Option<&HashSet<_>>| match ids {
            Some(_) => Op::Keep,
            None => Op::Put(HashSet::from([id])),
        };
        let added = |ids: &mut HashSet<_>| ids.insert(id);
        // Others may take the last id out between the two steps, and the owner with it.
        while self.0.update(owner, added).is_none()
            && self.0.compute(owner, first) != Outcome::Inserted
        {}
    }

    pub(super) fn remove(&self, owner: &Arc<str>, id: SessionId) {
        let removed = |ids: &mut HashSet<_>| {
            ids.remove(&id);
            ids.is_empty()
        };
        if self.0.update(owner, removed) == Some(true) {
            self.0.remove_if(owner, HashSet::is_empty);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// What a session's look-ups answer in turn, the last one for ever, while the index follows.
    fn after(answers: &[bool]) -> bool {
        let (owners, owner, id) = (Owners::new(), Arc::from("ada"), SessionId::from(7));
        let turn = Cell::new(0);
        owners.follow(&owner, id, || {
            let answer = answers[turn.get().min(answers.len() - 1)];
            turn.set(turn.get() + 1);
            answer
        });
        owners.ids("ada").contains(&id)
    }

    #[test]
    fn what_changes_while_it_is_written_is_written_again() {
        assert!(after(&[true]) && !after(&[false]));
        // A log-out, and a log-in, after the look and before the write.
        assert!(!after(&[true, false]));
        assert!(after(&[false, true]));
        assert!(after(&[true, false, true]));
        assert!(!after(&[true, false, true, false]));
    }
}
