//! Asking for the deadlines of entries, and moving them by hand.

use super::Engine;
use super::policy::{self, Deadlines};
use super::record::RECORD;
use crate::entry::{ExpireIf, Life, Ttl};
use crate::equivalent::Equivalent;
use crate::event::RemovalCause;
use crate::hash::KeyHash;
use crate::reentrancy;
use crate::table::{Ends, Locked};
use crate::time::{Deadline, Moment, NEVER, left};
use std::time::SystemTime;

impl<K, V> Engine<K, V> {
    #[track_caller]
    pub(crate) fn ttl<Q>(&self, hash: KeyHash, key: &Q) -> Option<Ttl>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let deadline = self.look(hash, key, |entry| entry.deadline())?;
        Some(left(deadline, self.clock.now()).map_or(Ttl::Never, Ttl::Left))
    }

    #[track_caller]
    pub(crate) fn deadline<Q>(&self, hash: KeyHash, key: &Q) -> Option<Option<SystemTime>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let deadline = self.look(hash, key, |entry| entry.deadline())?;
        Some(self.clock.system_time_of(deadline))
    }

    /// Sets the deadline of a live entry when the condition holds; whether it did.
    #[track_caller]
    pub(crate) fn expire<Q>(&self, hash: KeyHash, key: &Q, life: Life, condition: ExpireIf) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut work = self.work();
        if !self.admit(RECORD, &mut work) {
            return false;
        }
        let Some(inside) = reentrancy::enter() else {
            return false;
        };
        let mut set = self.table.lock(&inside, hash);
        let Some(way) = set.find(hash, key) else {
            return false;
        };
        if !self.is_there(&set, way, set.entry(way)) {
            return false;
        }
        let wanted = deadline_of(life, &work.moment);
        if !allows(condition, set.hard_deadline(way), wanted) {
            return false;
        }
        let deadlines = moved(&set, way, wanted);
        // What is loaded now would set the deadline anew.
        work.outbox.discard_load(set.overtake(hash, key));
        let (is_live, key) = (self.is_live(deadlines.effective), &set.entry(way).key);
        let may = match is_live {
            true => self.record_moved(key, &deadlines, &mut work),
            false => self.record_delete(key, &mut work),
        };
        if !may {
            return false;
        }
        self.set_deadlines(&mut set, way, deadlines);
        if !is_live {
            self.let_out(&mut set, way, RemovalCause::Expired, &mut work);
        }
        drop(set);
        self.have_swept();
        true
    }

    /// Moves the deadline of an entry, and both ends of its life where they are kept.
    pub(super) fn set_deadlines(
        &self,
        set: &mut Locked<'_, K, V>,
        way: usize,
        deadlines: Deadlines,
    ) {
        if let Some(ends) = deadlines.ends {
            set.move_ends(way, ends);
        }
        set.move_deadline(way, deadlines.effective);
    }
}

/// The deadline that is given by hand.
pub(super) fn deadline_of(life: Life, moment: &Moment<'_>) -> Deadline {
    match life {
        Life::For(ttl) => policy::in_time(moment, ttl),
        Life::Until(time) => policy::until(moment, time),
        Life::Default | Life::Forever | Life::Keep => NEVER,
    }
}

/// The deadlines of an entry whose life is to end at `hard`. Idle time goes on from the last
/// access: a change of the TTL is none.
pub(super) fn moved<K, V>(set: &Locked<'_, K, V>, way: usize, hard: Deadline) -> Deadlines {
    match set.ends(way) {
        None => Deadlines {
            effective: hard,
            ends: None,
            age: None,
        },
        Some(ends) => Ends { hard, ..ends }.into(),
    }
}

fn allows(condition: ExpireIf, old: Deadline, wanted: Deadline) -> bool {
    match condition {
        ExpireIf::Always => true,
        ExpireIf::NoTtl => old == NEVER,
        ExpireIf::HasTtl => old != NEVER,
        ExpireIf::Later => wanted > old,
        ExpireIf::Sooner => wanted < old,
    }
}
