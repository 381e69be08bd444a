//! Which labels were invalidated, and when.
//!
//! Time is counted in epochs: each invalidation begins one, and is recorded as "this label, at this
//! epoch". An entry knows an epoch at which all its labels held; it holds until one of them has a
//! record of a later one. Most reads compare two numbers, since few invalidations come between two
//! reads of an entry, and an entry that was found to hold remembers at which epoch it was.
//!
//! To look a label up takes a lock that all readers share, so a filter comes first: one bit for
//! each label with a record, in the manner of Bloom ("Space/time trade-offs in hash coding with
//! allowable errors", CACM 1970) with one hash. Entries whose labels nobody invalidates are read
//! without a lock.
//!
//! Records are forgotten when no entry needs them any more: after a pass through all sets that
//! began later, in which every entry was either found to hold or removed. An entry, or a load on
//! its way, whose epoch is older than what is forgotten cannot be judged, and counts as fallen. So
//! to forget too much costs misses and never shows what was invalidated.

use crate::sync::{AtomicU64, AtomicUsize, Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Parts of the record that are locked by themselves. A power of two. The interleaving checker
/// gets one, since it could not replay a run in which the keys of a hash decide on locks.
const SHARDS: usize = if cfg!(shuttle) { 1 } else { 16 };

/// The invalidations of a cache. A few words until there is the first.
pub(crate) struct Register {
    /// The epoch of the last invalidation; 0 before the first.
    latest: AtomicU64,
    /// Records up to this epoch may be gone.
    forgotten: AtomicU64,
    /// Everything older than this was forgotten by force, and has fallen.
    forced: AtomicU64,
    /// The epoch at which the last whole pass began.
    purged: AtomicU64,
    /// What had fallen by this epoch is removed: by a whole pass, or a walk that forgets nothing.
    cleared: AtomicU64,
    book: OnceLock<Box<Book>>,
}

/// Words of the filter, a power of two. Of 10,000 records, one look-up in seven is made for nothing.
const FILTER: usize = if cfg!(shuttle) { 1 } else { 1024 };

struct Book {
    /// Held while an epoch begins, or all is forgotten by force: one by one, and what is recorded of
    /// it comes first.
    beginning: Mutex<()>,
    filter: [AtomicU64; FILTER],
    shards: [RwLock<Shard>; SHARDS],
    records: AtomicUsize,
    pass: Mutex<Pass>,
}

/// The epoch of the last invalidation of each label.
type Shard = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

/// A pass through all sets, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The next set.
    pub(crate) next: usize,
    /// Sets that it has come to; none when it has not begun.
    pub(crate) visited: usize,
    /// Those of them that others held, which it comes back to behind all the others.
    passed_over: VecDeque<usize>,
    /// How many of these, at the end, were held in this turn of the background.
    held: usize,
    /// The latest epoch as the pass began.
    began: u64,
    /// What can be forgotten after it: also what no load on its way needs.
    floor: u64,
}

impl Pass {
    pub(crate) fn begin(register: &Register) -> Self {
        let latest = register.latest();
        Self {
            next: 0,
            visited: 0,
            passed_over: VecDeque::new(),
            held: 0,
            began: latest,
            floor: latest,
        }
    }

    /// Others hold a set: it is left for the next turn.
    pub(crate) fn pass_over(&mut self, index: usize) {
        self.passed_over.push_back(index);
        self.held += 1;
    }

    /// A set that an earlier turn has passed over.
    pub(crate) fn take_passed_over(&mut self) -> Option<usize> {
        let is_left = self.passed_over.len() > self.held;
        is_left.then(|| self.passed_over.pop_front()).flatten()
    }

    /// Ends a turn that has come to all sets; whether it has visited them all.
    pub(crate) fn end_turn(&mut self) -> bool {
        self.held = 0;
        self.passed_over.is_empty()
    }

    /// A load began at this epoch and may bring an entry yet.
    pub(crate) fn spare(&mut self, epoch: u64) {
        self.floor = self.floor.min(epoch);
    }
}

impl Register {
    pub(crate) fn new() -> Self {
        Self {
            latest: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            forced: AtomicU64::new(0),
            purged: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            book: OnceLock::new(),
        }
    }

    /// The epoch of the last invalidation.
    #[inline]
    pub(crate) fn latest(&self) -> u64 {
        self.latest.load(Acquire)
    }

    /// Records that a label is invalid from now on.
    ///
    /// `log` is told the epoch before anybody sees it: what is written by who has seen that an entry
    /// has fallen is logged behind that. It may take no lock but leaves.
    pub(crate) fn invalidate(&self, label: u64, log: impl FnOnce(u64)) {
        let book = self.book();
        let _turn = book.beginning.lock();
        // One by one and the record first: who sees an epoch sees the records of all up to it.
        let epoch = self.latest.load(Relaxed) + 1;
        log(epoch);
        let mut shard = book.shard(label).write();
        let is_new = shard.insert(label, epoch).is_none();
        book.records.fetch_add(usize::from(is_new), AcqRel);
        drop(shard);
        let (word, bit) = place(label);
        book.filter[word].fetch_or(bit, Release);
        self.latest.store(epoch, Release);
    }

    /// The epoch up to which labels that held at the epoch `since` are known to hold, `None` if one
    /// was invalidated after that, or may have been.
    pub(crate) fn hold(&self, labels: &[u64], since: u64) -> Option<u64> {
        let latest = self.latest();
        if since >= latest {
            return Some(latest);
        }
        for label in labels {
            let epoch = self.record(*label);
            if epoch > since {
                // Its epoch may not have been seen by all yet. Who looks after this call must not
                // find that the entry holds.
                self.latest.fetch_max(epoch, AcqRel);
                return None;
            }
        }
        // Looked at last, since it is raised before any record is taken out.
        (since >= self.forgotten.load(Acquire)).then_some(latest)
    }

    /// When a label was last invalidated, as far as is known; 0 if never.
    fn record(&self, label: u64) -> u64 {
        let Some(book) = self.book.get() else {
            return 0;
        };
        let (word, bit) = place(label);
        // Acquires what was forgotten before the bit was cleared.
        if book.filter[word].load(Acquire) & bit == 0 {
            return 0;
        }
        book.shard(label).read().get(&label).copied().unwrap_or(0)
    }

    fn book(&self) -> &Book {
        self.book.get_or_init(|| {
            Box::new(Book {
                beginning: Mutex::new(()),
                filter: std::array::from_fn(|_| AtomicU64::new(0)),
                shards: std::array::from_fn(|_| RwLock::new(Shard::default())),
                records: AtomicUsize::new(0),
                pass: Mutex::new(Pass::default()),
            })
        })
    }

    // ---- forgetting ----

    /// Invalidations since the last whole pass began.
    pub(crate) fn since_purge(&self) -> u64 {
        self.latest().saturating_sub(self.purged.load(Acquire))
    }

    /// The number of records.
    pub(crate) fn records(&self) -> usize {
        let book = self.book.get();
        book.map_or(0, |book| book.records.load(Acquire))
    }

    /// Whether there may be entries that have fallen.
    #[inline]
    pub(crate) fn has_felled(&self) -> bool {
        self.cleared.load(Acquire) < self.latest()
    }

    /// Notes that what had fallen by an epoch is removed. Records stay, and so does what a pass of
    /// the background is for.
    pub(crate) fn note_cleared(&self, epoch: u64) {
        self.cleared.fetch_max(epoch, AcqRel);
    }

    /// Whether there may be such entries, or records that can be forgotten.
    pub(crate) fn is_due(&self) -> bool {
        self.has_felled() || self.records() > 0
    }

    /// The pass of the background, for who is to go on with it.
    pub(crate) fn pass(&self) -> Option<&Mutex<Pass>> {
        self.book.get().map(|book| &book.pass)
    }

    /// Ends a pass that has visited every set.
    pub(crate) fn end(&self, pass: &Pass) {
        self.forget(pass.floor);
        self.purged.fetch_max(pass.began, AcqRel);
        self.note_cleared(pass.began);
    }

    /// Forgets everything. What has a label and was stored before this has fallen.
    ///
    /// `log` is told up to which epoch, as by [`invalidate`](Self::invalidate).
    pub(crate) fn forget_all(&self, log: impl FnOnce(u64)) {
        let book = self.book();
        let turn = book.beginning.lock();
        let latest = self.latest();
        log(latest);
        self.forced.fetch_max(latest, AcqRel);
        let before = self.forgotten.fetch_max(latest, AcqRel);
        drop(turn);
        if before < latest {
            book.drop_records(latest);
        }
    }

    // ---- keeping and restoring ----

    /// The epoch up to which all labels were forgotten by force, and every record: the label and its
    /// epoch. Whatever was logged before the call is among them.
    #[cfg(feature = "persist")]
    pub(crate) fn all(&self) -> (u64, Vec<(u64, u64)>) {
        let Some(book) = self.book.get() else {
            return (self.forced.load(Acquire), Vec::new());
        };
        // Who has logged one and not recorded it yet has the turn.
        let _turn = book.beginning.lock();
        let of_shard = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            shard
                .iter()
                .map(|(label, epoch)| (*label, *epoch))
                .collect::<Vec<_>>()
        };
        let records = book.shards.iter().flat_map(of_shard).collect();
        (self.forced.load(Acquire), records)
    }

    /// Goes on from an epoch that an entry has.
    #[cfg(feature = "persist")]
    pub(crate) fn restore_epoch(&self, epoch: u64) {
        self.latest.fetch_max(epoch, AcqRel);
    }

    /// Brings the record of an invalidation back, unless there is one of a later.
    #[cfg(feature = "persist")]
    pub(crate) fn restore(&self, label: u64, epoch: u64) {
        let book = self.book();
        let _turn = book.beginning.lock();
        let mut shard = book.shard(label).write();
        let before = shard.get(&label).copied();
        if before.is_none_or(|before| before < epoch) {
            shard.insert(label, epoch);
            book.records
                .fetch_add(usize::from(before.is_none()), AcqRel);
        }
        drop(shard);
        let (word, bit) = place(label);
        book.filter[word].fetch_or(bit, Release);
        self.latest.fetch_max(epoch, AcqRel);
    }

    /// Brings back that everything was forgotten.
    #[cfg(feature = "persist")]
    pub(crate) fn restore_forgotten(&self, epoch: u64) {
        self.latest.fetch_max(epoch, AcqRel);
        self.forced.fetch_max(epoch, AcqRel);
        self.forget(epoch);
    }

    fn forget(&self, up_to: u64) {
        if self.forgotten.fetch_max(up_to, AcqRel) >= up_to {
            return;
        }
        if let Some(book) = self.book.get() {
            book.drop_records(up_to);
        }
    }
}

/// The word of the filter that a label has its bit in, and the bit. Other bits than those that
/// choose the shard, and than those that the maps go by.
fn place(label: u64) -> (usize, u64) {
    let place = (label >> 40) as usize;
    ((place / 64) & (FILTER - 1), 1 << (place % 64))
}

impl Book {
    /// Drops the records up to an epoch.
    fn drop_records(&self, up_to: u64) {
        for shard in &self.shards {
            let mut shard = shard.write();
            let before = shard.len();
            shard.retain(|_, epoch| *epoch > up_to);
            self.records.fetch_sub(before - shard.len(), AcqRel);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
        self.refilter();
    }

    /// Takes the bits of what is forgotten out of the filter.
    fn refilter(&self) {
        let _turn = self.beginning.lock();
        let mut filter = [0; FILTER];
        for shard in &self.shards {
            for label in shard.read().keys() {
                let (word, bit) = place(*label);
                filter[word] |= bit;
            }
        }
        // A bit that stays is never missing meanwhile.
        for (word, bits) in self.filter.iter().zip(filter) {
            word.store(bits, Release);
        }
    }

    fn shard(&self, label: u64) -> &RwLock<Shard> {
        // The maps go by the lowest and the highest bits.
        &self.shards[(label >> 32) as usize & (SHARDS - 1)]
    }
}

/// Labels are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a label is one number")
    }

    fn write_u64(&mut self, label: u64) {
        self.0 = label;
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn invalidate(register: &Register, label: u64) {
        register.invalidate(label, |_| {});
    }

    #[test]
    fn what_falls_is_logged_before_anybody_sees_it() {
        let register = Register::new();
        let mut logged = Vec::new();
        register.invalidate(1, |epoch| {
            assert_eq!(register.hold(&[1], 0), Some(0));
            logged.push(epoch);
        });
        assert_eq!(register.hold(&[1], 0), None);
        register.forget_all(|epoch| {
            assert_eq!(register.hold(&[2], 0), Some(1));
            logged.push(epoch);
        });
        assert_eq!(register.hold(&[2], 0), None);
        assert_eq!(logged, [1, 1]);
    }

    #[test]
    fn labels_hold_until_one_of_them_is_invalidated() {
        let register = Register::new();
        assert_eq!(register.hold(&[1, 2], 0), Some(0));
        invalidate(&register, 3);
        assert_eq!(register.hold(&[1, 2], 0), Some(1), "as of the first epoch");
        invalidate(&register, 2);
        assert_eq!(register.hold(&[1, 2], 0), None);
        assert_eq!(register.hold(&[1, 2], 1), None);
        assert_eq!(register.hold(&[1, 2], 2), Some(2), "stored since");
        invalidate(&register, 2);
        assert_eq!(register.hold(&[1, 2], 2), None, "a second time");
        assert_eq!(register.hold(&[], 0), Some(3));
    }

    #[test]
    fn what_is_older_than_the_records_has_fallen() {
        let register = Register::new();
        invalidate(&register, 1);
        invalidate(&register, 2);
        let mut pass = Pass::begin(&register);
        pass.spare(1);
        invalidate(&register, 3);
        register.end(&pass);
        assert_eq!(register.records(), 2, "those after the load that is spared");
        assert!(register.is_due(), "of a later epoch than the pass");
        assert_eq!(register.hold(&[9], 0), None, "cannot be judged");
        assert_eq!(register.hold(&[9], 1), Some(3));
        assert_eq!(register.hold(&[2], 1), None);
        register.end(&Pass::begin(&register));
        assert_eq!(register.records(), 0);
        assert!(!register.is_due());
        assert_eq!(register.hold(&[2], 3), Some(3));
    }

    #[test]
    fn everything_can_be_forgotten_at_once() {
        let register = Register::new();
        (0..1000).for_each(|label| invalidate(&register, label));
        register.forget_all(|_| {});
        assert_eq!(register.records(), 0);
        assert!(register.is_due(), "there are entries to be removed");
        assert_eq!(register.hold(&[5000], 999), None);
        assert_eq!(register.hold(&[5], 1000), Some(1000));
    }
}
