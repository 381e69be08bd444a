//! Which sessions belong to whom.

use super::SessionId;
use crate::cache::Cache;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The ids of the sessions of each owner. What is true is in the sessions themselves: this follows.
#[derive(Clone)]
pub(super) struct Owners(Cache<Arc<str>, Ids>);

#[derive(Clone, Default, PartialEq)]
struct Ids {
    all: HashSet<SessionId>,
    /// Those of them that have to go, and that whoever has chosen them is about to end. Until then
    /// they are found, so that a log-out everywhere ends them, but count no more. And those that a
    /// session is about to be given, which count when it has come.
    chosen: Vec<SessionId>,
}

impl Ids {
    fn counting(&self) -> usize {
        self.all.len() - self.chosen.len()
    }

    /// One that comes back from another owner counts anew.
    fn add(&mut self, id: SessionId) {
        self.all.insert(id);
        self.chosen.retain(|chosen| *chosen != id);
    }

    fn expect(&mut self, id: SessionId) {
        if self.all.insert(id) {
            self.chosen.push(id);
        }
    }

    fn remove(&mut self, id: &SessionId) {
        self.all.remove(id);
        self.chosen.retain(|chosen| chosen != id);
    }

    /// Chooses who has to go so that `max` are left, those first that rank lowest.
    fn choose<R: Ord>(
        &mut self,
        max: usize,
        newest: &SessionId,
        rank: impl Fn(&SessionId) -> R,
    ) -> Vec<SessionId> {
        let excess = self.counting().saturating_sub(max);
        let counts = |id: &&SessionId| *id != newest && !self.chosen.contains(id);
        let mut others: Vec<_> = self.all.iter().filter(counts).copied().collect();
        others.sort_by_key(rank);
        others.truncate(excess);
        self.chosen.extend(&others);
        others
    }
}

impl Owners {
    pub(super) fn new() -> Self {
        Self(Cache::unbounded())
    }

    pub(super) fn ids(&self, owner: &str) -> HashSet<SessionId> {
        let ids = self.0.read(owner, |ids| ids.all.clone());
        ids.unwrap_or_default()
    }

    /// How many sessions of an owner nobody has chosen to end.
    pub(super) fn count(&self, owner: &str) -> usize {
        self.0.read(owner, Ids::counting).unwrap_or_default()
    }

    /// The sessions that the caller has to end so that an owner has no more than `max`: those that
    /// rank lowest, and never the one that has just come. In one step, so that of several log-ins
    /// at once each chooses others, and together no more than have to go. What has no rank has come
    /// after the ranks were looked up, and goes after all that have one.
    pub(super) fn choose<R: Ord>(
        &self,
        max: usize,
        owner: &str,
        newest: &SessionId,
        ranks: &HashMap<SessionId, R>,
    ) -> Vec<SessionId> {
        let rank = |id: &SessionId| {
            let rank = ranks.get(id);
            (rank.is_none(), rank)
        };
        let chosen = |ids: &mut Ids| ids.choose(max, newest, rank);
        self.0.update(owner, chosen).unwrap_or_default()
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
        self.change(owner, |ids| ids.add(id));
    }

    /// A session of an owner is about to be given this id: it is found by it as soon as it has come,
    /// and does not count twice before.
    pub(super) fn expect(&self, owner: &Arc<str>, id: SessionId) {
        self.change(owner, |ids| ids.expect(id));
    }

    fn change(&self, owner: &Arc<str>, change: impl Fn(&mut Ids)) {
        self.0.update_or_insert_with(owner, Ids::default, change);
    }

    pub(super) fn remove(&self, owner: &Arc<str>, id: SessionId) {
        let removed = |ids: &mut Ids| {
            ids.remove(&id);
            ids.all.is_empty()
        };
        if self.0.update(owner, removed) == Some(true) {
            self.0.remove_if(owner, |ids| ids.all.is_empty());
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

    #[test]
    fn who_has_come_since_the_look_goes_last() {
        let (owners, owner) = (Owners::new(), Arc::from("ada"));
        let [old, since, newest] = [1_u128, 2, 3].map(SessionId::from);
        for id in [old, since, newest] {
            owners.add(&owner, id);
        }
        let ranks = HashMap::from([(old, 7), (newest, 9)]);
        assert_eq!(owners.choose(2, "ada", &newest, &ranks), [old]);
    }
}
