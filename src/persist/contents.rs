//! What a journal keeps, as the journal sees it.

use super::effect::{Effect, Effects, Undecodable, Unencodable};
use crate::engine::Tally;

/// Where a walk through the sets is: before one, or in the midst of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) position: u64,
    /// The hashes of the entries of the set that are still to come, in order; of a set that was not
    /// begun all are.
    pub(crate) rest: Option<Vec<u64>>,
}

impl Spot {
    /// Before a set.
    pub(crate) fn at(position: u64) -> Self {
        let rest = None;
        Self { position, rest }
    }
}

/// What came of a set, or of a part of one, in a walk.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    /// Where to go on; `None` after the last set.
    pub(crate) next: Option<Spot>,
    /// Entries that do not encode.
    pub(crate) left_out: u64,
}

impl Walked {
    /// Nothing was left out, and the set is done.
    pub(crate) fn to(next: Option<u64>) -> Self {
        let next = next.map(Spot::at);
        Self { next, left_out: 0 }
    }
}

/// What the journal keeps: the entries of a cache, or a map in its tests.
pub(crate) trait Contents: Send + Sync {
    /// Recovery. A snapshot comes that had about so many entries: room can be made for them at once.
    fn expect(&self, entries: u64) {
        let _ = entries;
    }

    /// Recovery. In how many sets the entries lie; there may be more by the next time.
    fn sets(&self) -> usize {
        1
    }

    /// Recovery. A number whose low bits name the set of a key, whatever the number of sets.
    fn hash_of(&self, key: &[u8]) -> usize {
        let _ = key;
        0
    }

    /// Recovery. Effects come from several threads at once; those that concern one set come in order
    /// on one thread. `seq` is its number, and what it changes is counted in `tally`.
    ///
    /// A deadline or a deletion may concern a key that is not there: a snapshot is taken while
    /// writes go on, and replaying the log once more must do no harm.
    fn apply(&self, seq: u64, effect: Effect<'_>, tally: &mut Tally) -> Result<(), Undecodable>;

    /// As [`apply`](Self::apply), of a file that was written under another `schema_version`, which
    /// the settings accept.
    fn migrate(
        &self,
        schema: u32,
        seq: u64,
        effect: Effect<'_>,
        tally: &mut Tally,
    ) -> Result<(), Undecodable> {
        let _ = schema;
        self.apply(seq, effect, tally)
    }

    /// Recovery. All entries there are so far are gone; of invalidations nothing changes. Nothing else is
    /// applied meanwhile.
    fn clear(&self);

    /// All is recovered, and none of it is to be gone on with: as [`clear`](Self::clear), but who
    /// listens for removals is told.
    fn discard(&self) {
        self.clear();
    }

    /// Recovery. Takes over what a thread has counted and has not handed over yet.
    fn settle(&self, tally: Tally) {
        let _ = tally;
    }

    /// All is recovered: enforce bounds, drop what died. `now_ms` is the wall time that counts.
    fn recovered(&self, now_ms: u64);

    /// The wall clock may have been set: what is brought back or written from now on has times by it as it
    /// stands now.
    fn compare_clocks(&self) {}

    /// Snapshot: about how many entries there are; zero where nobody knows.
    fn len(&self) -> u64 {
        0
    }

    /// Snapshot: encodes the live entries of a set, under its lock, the oldest first, and says where
    /// to go on. Starts at the first position; a position stays valid while the table grows. Of much
    /// it encodes a part, so that neither others wait for all of it nor memory has to hold it. Runs
    /// code of the user's, which may panic.
    ///
    /// # Errors
    ///
    /// An entry does not encode, and may not be left out.
    fn write_set(&self, spot: &Spot, out: &mut Effects) -> Result<Walked, Unencodable>;

    /// Snapshot: the invalidations that still matter, before the first set.
    fn write_labels(&self, out: &mut Effects);
}
