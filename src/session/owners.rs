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

    pub(super) fn set(&self, owner: &Arc<str>, id: SessionId, belongs: bool) {
        if belongs {
            self.add(owner, id);
        } else {
            self.remove(owner, id);
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
