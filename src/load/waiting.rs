//! Which load waits for which: finds waits that could never end before they begin.
//!
//! A thread knows the loads whose loaders it is running or polling right now, the innermost last.
//! When one of those loaders asks for a value that another load will bring, each of them waits for
//! that load from then on, and is noted in its node. So a circle of loads shows as a circle of
//! nodes, whether their loaders block, are polled, or call each other.
//!
//! A loader that is polled can stand still for another reason: the thread that polls it is blocked.
//! Which thread polled a load last, and which threads are blocked, is noted, too. Such a wait might
//! end if the executor moved the task elsewhere, so it is no error: the caller loads for itself.
//!
//! What cannot be seen: that a loader waits for a task that it has spawned, or for a lock of the
//! user's. A wait ends with its time-out in any case.

use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, thread_cell};
use crate::thread;
use dashmap::DashMap;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, LazyLock};

/// A load, as far as others may wait for it.
#[derive(Debug)]
pub(crate) struct Node {
    has_landed: AtomicBool,
    has_panicked: AtomicBool,
    /// The thread that runs the loader, or polled it last.
    thread: AtomicU64,
    /// A loader that is polled rests between two polls, and rests for good where its thread is
    /// blocked.
    is_polled: AtomicBool,
    /// Where somebody else than its caller is to run the loader: whether that has begun.
    behind: AtomicU8,
    /// What wakes those who wait for what is in the queue, should nobody run it.
    in_queue: Mutex<Option<InQueue>>,
    /// The loads that the loader has asked for.
    waits_for: Mutex<Vec<Arc<Node>>>,
    /// The loads that a caller could not wait for, of one that it makes for itself instead.
    instead_of: Mutex<Vec<Arc<Node>>>,
}

/// Gives up the loads that were to be run together.
struct InQueue(Box<dyn FnOnce() + Send>);

impl fmt::Debug for InQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InQueue")
    }
}

// What becomes of a loader that somebody else is to run.
const OFFERED: u8 = 0;
/// It waits for a thread, which may take as long as the loaders of others do.
const QUEUED: u8 = 1;
const BEGUN: u8 = 2;
const CALLED_OFF: u8 = 3;
/// It was called off while it waited, so that nobody runs it.
const SKIPPED: u8 = 4;

impl Node {
    pub(crate) fn new(is_polled: bool) -> Arc<Self> {
        Arc::new(Self {
            has_landed: AtomicBool::new(false),
            has_panicked: AtomicBool::new(false),
            thread: AtomicU64::new(thread::id()),
            is_polled: AtomicBool::new(is_polled),
            behind: AtomicU8::new(OFFERED),
            in_queue: Mutex::new(None),
            waits_for: Mutex::new(Vec::new()),
            instead_of: Mutex::new(Vec::new()),
        })
    }

    /// Has one that is as good as new stand for a load of this thread, or of the task that it is
    /// polling.
    pub(crate) fn begin(&self, is_polled: bool) {
        self.thread.store(thread::id(), Relaxed);
        self.is_polled.store(is_polled, Relaxed);
    }

    /// Whether the loader is a future.
    pub(crate) fn is_polled(&self) -> bool {
        self.is_polled.load(Relaxed)
    }

    /// Notes that this thread polls the loader. Most often it has polled it before, or has begun
    /// the load; what is noted already is known to whoever knows of the load.
    #[inline]
    fn note_thread(&self) {
        let thread = thread::id();
        if self.thread.load(Relaxed) != thread {
            self.thread.store(thread, SeqCst);
        }
    }

    /// Notes that the loader is to wait for a thread, and how its loads are given up if they are
    /// called off before.
    pub(crate) fn queue(&self, give_up: impl FnOnce() + Send + 'static) {
        *self.in_queue.lock() = Some(InQueue(Box::new(give_up)));
        self.turn(OFFERED, QUEUED);
    }

    /// Notes that the loader does not wait for a thread after all; whether its caller has to run it.
    pub(crate) fn take_back(&self) -> bool {
        self.turn(QUEUED, OFFERED)
    }

    /// Begins the loader behind its caller; whether nobody has called it off.
    pub(crate) fn begin_behind(&self) -> bool {
        self.turn(OFFERED, BEGUN) || self.turn(QUEUED, BEGUN)
    }

    /// Calls off what was to be run behind a caller, if it has not begun, since it was given up.
    pub(crate) fn call_off(&self) {
        let _ = self.turn(OFFERED, CALLED_OFF) || self.turn(QUEUED, SKIPPED);
    }

    /// Calls off a loader that waits for a thread; whether nobody runs it. Of several values that it
    /// is to bring together, each is asked about.
    pub(crate) fn call_off_queued(&self) -> bool {
        self.turn(QUEUED, SKIPPED) || self.behind.load(SeqCst) == SKIPPED
    }

    /// Has whoever waits for a load that was called off in the queue take another look: no thread
    /// may come to it for as long as the loaders of others hang. Takes locks of sets.
    pub(crate) fn give_up_skipped(&self) {
        if self.behind.load(SeqCst) != SKIPPED {
            return;
        }
        let in_queue = self.in_queue.lock().take();
        if let Some(InQueue(give_up)) = in_queue {
            give_up();
        }
    }

    /// The first to decide does so for all; whether that is who asks.
    fn turn(&self, from: u8, to: u8) -> bool {
        let turned = self.behind.compare_exchange(from, to, SeqCst, SeqCst);
        turned.is_ok()
    }

    /// Notes that this load is made because its caller could not wait for another one.
    pub(crate) fn goes_instead_of(&self, other: &Arc<Node>) {
        self.instead_of.lock().push(Arc::clone(other));
    }

    /// The loader has ended, so it waits for nothing any more, and stands for nothing: two loads
    /// that are made instead of each other would keep each other for ever.
    pub(crate) fn land(&self) {
        self.has_landed.store(true, SeqCst);
        let instead_of = mem::take(&mut *self.instead_of.lock());
        drop(instead_of);
    }

    fn has_landed(&self) -> bool {
        self.has_landed.load(SeqCst)
    }

    /// Whether the loader has ended with a panic, which is not to be had from the thread: a load
    /// that is dropped while something else unwinds has not panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(Relaxed)
    }

    /// Notes that the loader, or what is done with what it returned, has panicked.
    pub(crate) fn note_panic(&self) {
        self.has_panicked.store(true, Relaxed);
    }

    fn is(&self, other: &Arc<Node>) -> bool {
        std::ptr::eq(self, &**other)
    }

    /// Whether this load is `other`, or is made instead of it. Calls for several keys can each make
    /// a load instead of the other's.
    fn stands_for(self: &Arc<Self>, other: &Arc<Node>) -> bool {
        let instead_of = |node: &Node| node.instead_of.lock().clone();
        leads_to(self, instead_of, |node| node.is(other))
    }

    fn stop_waiting_for(&self, other: &Arc<Node>) {
        let mut waits_for = self.waits_for.lock();
        if let Some(at) = waits_for.iter().rposition(|node| node.is(other)) {
            waits_for.swap_remove(at);
        }
    }
}

// ---- what a thread is doing ----

// Never dropped, so that they are there to the end of the thread: what else it keeps may load as it
// is dropped. No loader is left by then, and nothing is leaked.
thread_cell!(INNERMOST: ManuallyDrop<Option<Arc<Node>>> = ManuallyDrop::new(None));
thread_cell!(AROUND_IT: ManuallyDrop<Vec<Arc<Node>>> = ManuallyDrop::new(Vec::new()));

/// Marks this thread as one that is in the loader of a load, until it [ends](Self::end). One that
/// is dropped instead is unwound by a panic of the loader.
pub(crate) struct Running {
    /// Another loader called this one.
    is_nested: bool,
}

impl Running {
    #[inline]
    pub(crate) fn enter(node: Arc<Node>) -> Self {
        if node.is_polled() {
            node.note_thread();
        }
        let around = replace_innermost(Some(node));
        let is_nested = around.is_some();
        if let Some(around) = around {
            with_around_it(|nodes| nodes.push(around));
        }
        Self { is_nested }
    }

    /// Ends it, and gives the node back.
    #[inline]
    pub(crate) fn end(self) -> Arc<Node> {
        let node = self.leave();
        mem::forget(self);
        node.expect("loaders end in the reverse order in which they began")
    }

    #[inline]
    fn leave(&self) -> Option<Arc<Node>> {
        let around = match self.is_nested {
            true => with_around_it(Vec::pop),
            false => None,
        };
        replace_innermost(around)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(node) = self.leave() {
            node.note_panic();
        }
    }
}

/// The loads whose loaders this thread is in, the innermost last.
fn running() -> Vec<Arc<Node>> {
    let mut nodes = with_around_it(|nodes| nodes.clone());
    let innermost = replace_innermost(None);
    nodes.extend(innermost.clone());
    replace_innermost(innermost);
    nodes
}

#[inline]
fn replace_innermost(node: Option<Arc<Node>>) -> Option<Arc<Node>> {
    let before = INNERMOST.with(|innermost| innermost.replace(ManuallyDrop::new(node)));
    ManuallyDrop::into_inner(before)
}

#[cold]
fn with_around_it<R>(f: impl FnOnce(&mut Vec<Arc<Node>>) -> R) -> R {
    AROUND_IT.with(|cell| {
        let mut nodes = ManuallyDrop::into_inner(cell.take());
        let result = f(&mut nodes);
        if nodes.is_empty() {
            // Nobody gives the memory back when the thread ends.
            nodes = Vec::new();
        }
        cell.set(ManuallyDrop::new(nodes));
        result
    })
}

// ---- waiting ----

/// The threads of the process that are blocked until a load ends, for all caches together: a
/// circle may go through several.
static BLOCKED: LazyLock<DashMap<u64, Arc<Node>>> = LazyLock::new(DashMap::new);

/// Whether a caller may wait for a load.
pub(crate) enum MayWait {
    /// As long as it keeps this.
    Yes(Waiting),
    /// No: it is asked by the very load that it would wait for.
    Reentrant,
    /// No: the thread that would have to go on with that load would be blocked.
    Alone,
}

/// A wait that is known to the nodes of those who wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    target: Arc<Node>,
    waiting: Vec<Arc<Node>>,
    blocked: Option<u64>,
}

impl Waiting {
    /// Notes that this thread, or the task that it is polling, waits for a load.
    ///
    /// Each caller notes its wait before it looks for circles, so of those that close a circle at
    /// the same moment at least one sees it whole.
    pub(crate) fn begin(target: &Arc<Node>, blocks: bool) -> MayWait {
        let waiting = running();
        for node in &waiting {
            node.waits_for.lock().push(Arc::clone(target));
        }
        let blocked = blocks.then(thread::id);
        if let Some(thread) = blocked {
            BLOCKED.insert(thread, Arc::clone(target));
        }
        let waiting = Self {
            target: Arc::clone(target),
            waiting,
            blocked,
        };
        if waiting.closes_circle() {
            return MayWait::Reentrant;
        }
        if waiting.rests_on_blocked_thread() {
            // The circle may have been closed since the first look.
            return if waiting.closes_circle() {
                MayWait::Reentrant
            } else {
                MayWait::Alone
            };
        }
        MayWait::Yes(waiting)
    }

    fn closes_circle(&self) -> bool {
        let is_own = |node: &Arc<Node>| self.waiting.iter().any(|own| own.stands_for(node));
        !self.waiting.is_empty() && reaches(&self.target, |_| None, is_own)
    }

    fn rests_on_blocked_thread(&self) -> bool {
        // A task outside of all loaders stops nobody, and that which it waits for may wait for
        // thousands of others.
        if self.waiting.is_empty() && self.blocked.is_none() {
            return false;
        }
        let of_thread = |thread| BLOCKED.get(&thread).map(|node| Arc::clone(&node));
        let is_stuck = |node: &Arc<Node>| {
            let own_thread = node.is_polled() && self.blocked == Some(node.thread.load(SeqCst));
            own_thread || self.waiting.iter().any(|own| own.is(node))
        };
        reaches(&self.target, of_thread, is_stuck)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for node in &self.waiting {
            node.stop_waiting_for(&self.target);
        }
        if let Some(thread) = self.blocked {
            BLOCKED.remove(&thread);
        }
    }
}

/// Whether a load that is not over and fulfils `found` is `start` or waited for by it, through
/// however many others. `of_thread` says what a thread is blocked by.
fn reaches(
    start: &Arc<Node>,
    of_thread: impl Fn(u64) -> Option<Arc<Node>>,
    found: impl Fn(&Arc<Node>) -> bool,
) -> bool {
    let waits_for = |node: &Node| {
        // A load that is over waits for nothing, though its thread may not have noticed yet.
        if node.has_landed() {
            return Vec::new();
        }
        let mut waits_for = node.waits_for.lock().clone();
        if node.is_polled() {
            waits_for.extend(of_thread(node.thread.load(SeqCst)));
        }
        waits_for
    };
    leads_to(start, waits_for, |node| !node.has_landed() && found(node))
}

/// Whether `start` fulfils `found`, or one of those that `next` leads to.
fn leads_to(
    start: &Arc<Node>,
    next: impl Fn(&Node) -> Vec<Arc<Node>>,
    found: impl Fn(&Arc<Node>) -> bool,
) -> bool {
    // Kept until the end, so that no other load comes to have the address of one.
    let (mut seen, mut ahead) = (BTreeMap::new(), vec![Arc::clone(start)]);
    while let Some(node) = ahead.pop() {
        let Entry::Vacant(place) = seen.entry(Arc::as_ptr(&node)) else {
            continue;
        };
        if found(&node) {
            return true;
        }
        ahead.extend(next(&node));
        place.insert(node);
    }
    false
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::thread;

    fn node(is_polled: bool) -> Arc<Node> {
        Node::new(is_polled)
    }

    /// Has a load wait for another one for as long as what it returns lives.
    fn wait(from: &Arc<Node>, target: &Arc<Node>, blocks: bool) -> MayWait {
        let _running = Running::enter(Arc::clone(from));
        Waiting::begin(target, blocks)
    }

    #[track_caller]
    fn allowed(may_wait: MayWait) -> Waiting {
        match may_wait {
            MayWait::Yes(waiting) => waiting,
            MayWait::Reentrant => panic!("no circle"),
            MayWait::Alone => panic!("no thread is blocked"),
        }
    }

    #[test]
    fn a_load_that_waits_for_itself_is_a_circle() {
        for is_polled in [false, true] {
            let own = node(is_polled);
            assert!(matches!(wait(&own, &own, false), MayWait::Reentrant));
            assert!(own.waits_for.lock().is_empty());
        }
    }

    #[test]
    fn a_circle_is_seen_by_who_closes_it_and_not_after_it_was_opened() {
        let (first, second, third) = (node(false), node(true), node(true));
        let _one = allowed(wait(&first, &second, false));
        let two = allowed(wait(&second, &third, false));
        assert!(matches!(wait(&third, &first, false), MayWait::Reentrant));
        drop(two);
        drop(allowed(wait(&third, &first, false)));
        let _two = allowed(wait(&second, &third, false));
        second.land();
        drop(allowed(wait(&third, &first, false)));
    }

    #[test]
    fn the_loads_around_a_loader_wait_with_it() {
        let (outer, inner, other) = (node(false), node(true), node(true));
        let _outer = Running::enter(Arc::clone(&outer));
        let _waiting = allowed(wait(&inner, &other, false));
        let circle = thread::scope(|scope| {
            let other = scope.spawn(|| matches!(wait(&other, &outer, false), MayWait::Reentrant));
            other.join().unwrap()
        });
        assert!(circle);
    }

    #[test]
    fn nobody_blocks_the_thread_that_polls_what_he_waits_for() {
        let (polled, behind, run) = (node(true), node(true), node(false));
        assert!(matches!(Waiting::begin(&polled, true), MayWait::Alone));
        drop(allowed(Waiting::begin(&polled, false)));
        drop(allowed(Waiting::begin(&run, true)));
        // The same through a load on another thread.
        let waiting = thread::scope(|scope| {
            let elsewhere = scope.spawn(|| allowed(wait(&behind, &polled, false)));
            elsewhere.join().unwrap()
        });
        assert!(matches!(Waiting::begin(&behind, true), MayWait::Alone));
        drop(waiting);
        assert!(BLOCKED.get(&crate::thread::id()).is_none());
    }

    #[test]
    fn a_load_whose_thread_is_blocked_by_the_caller_is_not_waited_for() {
        let (own, polled_there) = (node(false), node(true));
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                drop(Running::enter(Arc::clone(&polled_there)));
                allowed(Waiting::begin(&own, true))
            });
            let blocked = there.join().unwrap();
            assert!(matches!(wait(&own, &polled_there, true), MayWait::Alone));
            drop(blocked);
            drop(allowed(wait(&own, &polled_there, true)));
        });
    }

    #[test]
    fn who_loads_for_himself_is_still_found_to_ask_himself() {
        let polled = node(true);
        let alone = node(false);
        alone.goes_instead_of(&polled);
        assert!(matches!(wait(&alone, &polled, true), MayWait::Reentrant));
    }

    #[test]
    fn loads_that_are_made_instead_of_each_other_stand_for_both() {
        let (first, second, other) = (node(false), node(false), node(false));
        first.goes_instead_of(&second);
        second.goes_instead_of(&first);
        drop(allowed(wait(&first, &other, true)));
        for (own, asked) in [(&first, &second), (&second, &first), (&first, &first)] {
            assert!(matches!(wait(own, asked, true), MayWait::Reentrant));
        }
        first.land();
        assert!(matches!(wait(&second, &second, true), MayWait::Reentrant));
        second.land();
        assert_eq!(
            (Arc::strong_count(&first), Arc::strong_count(&second)),
            (1, 1)
        );
    }
}
