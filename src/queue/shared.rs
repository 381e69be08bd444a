//! What all handles of a queue, its deliveries and its waiters share.

use super::builder::Rules;
use super::kept;
use super::message::Payload;
use super::state::{After, State};
use crate::contain::contain;
use crate::random;
use crate::sync::{AtomicUsize, Mutex};
use crate::time::{Clock, Deadline, NEAR, after, wake_all, wake_at};
use crate::turns::Turns;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

pub(super) struct Shared<T> {
    pub(super) clock: Clock,
    pub(super) rules: Rules,
    /// Tells receipts of this queue from others.
    pub(super) tag: u64,
    #[cfg(feature = "persist")]
    pub(super) journal: Option<crate::persist::Journal>,
    state: Mutex<State<T>>,
    /// The public handles. Deliveries and waiters do not count.
    handles: AtomicUsize,
    /// What the timer wakes.
    expiry: Waker,
}

impl<T: Send + Sync + 'static> Shared<T> {
    pub(super) fn new(state: State<T>, clock: Clock) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            clock,
            rules: state.rules.clone(),
            tag: random::number(),
            #[cfg(feature = "persist")]
            journal: state.journal(),
            state: Mutex::new(state),
            handles: AtomicUsize::new(1),
            expiry: Waker::from(Arc::new(Expiry(Weak::clone(me)))),
        })
    }
}

impl<T> Shared<T> {
    /// One step of the queue: settles what has become due, changes it, and wakes who there is
    /// something for.
    #[inline]
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut State<T>, u64, &mut After<T>) -> R,
    ) -> R {
        kept::check(self.is_kept());
        let mut after = After::default();
        let mut state = self.state.lock();
        let now = self.now(&mut state);
        state.settle(now, &mut after);
        let result = change(&mut state, now, &mut after);
        state.rouse(&mut after);
        drop(state);
        self.finish(after);
        result
    }

    #[inline(always)]
    fn is_kept(&self) -> bool {
        #[cfg(feature = "persist")]
        return self.journal.is_some();
        #[cfg(not(feature = "persist"))]
        false
    }

    /// Whether this thread holds the lock already.
    fn is_keeping(&self) -> bool {
        kept::is_keeping(self.is_kept())
    }

    /// Whether a destructor had better leave the queue alone.
    pub(super) fn is_off_limits(&self) -> bool {
        kept::is_off_limits(self.is_kept())
    }

    /// The time: a reading that may lag by a tick of the kernel where nothing is about to happen,
    /// and the times that the queue counts from it are much longer than that.
    #[inline]
    fn now(&self, state: &mut State<T>) -> u64 {
        let coarse = self.clock.coarse();
        let is_near = state.next_event().saturating_sub(coarse) < NEAR;
        let reading = if is_near || self.rules.is_fine() {
            self.clock.now()
        } else {
            coarse
        };
        state.advance(reading)
    }

    /// Does what is left to do after a change, with no lock held. Does not panic: what the change
    /// has taken is not with its caller yet.
    #[inline]
    fn finish(&self, after: After<T>) {
        if !after.is_nothing() {
            self.finish_slowly(after);
        }
    }

    fn finish_slowly(&self, mut after: After<T>) {
        wake_all(std::mem::take(&mut after.wakers));
        if let Some(deadline) = after.watch {
            let timer = wake_at(&self.clock, deadline, self.expiry.clone());
            let unused = self.state.lock().keep_timer(timer, deadline);
            drop(unused);
        }
        for payload in std::mem::take(&mut after.garbage) {
            let _ = contain(|| drop(payload));
        }
    }

    /// When a delay that begins now ends, `None` for no delay.
    pub(super) fn due_in(&self, delay: Duration) -> Option<Deadline> {
        (!delay.is_zero()).then(|| after(self.clock.now(), delay))
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, SeqCst);
    }

    /// The last one closes the queue, wherever it is dropped. What has become due is for the next
    /// call to settle: here it might run code of the user's, or write, under the lock of a cache.
    pub(super) fn drop_handle(&self) {
        if self.handles.fetch_sub(1, SeqCst) == 1 && !self.is_keeping() {
            let mut after = After::default();
            self.state.lock().close(&mut after);
            self.finish(after);
        }
    }

    #[cfg(all(test, not(shuttle), feature = "persist"))]
    pub(super) fn is_locked(&self) -> bool {
        self.state.try_lock().is_none()
    }

    pub(super) fn close(&self) {
        self.change(|state, _, after| state.close(after));
    }

    /// Has everybody who waits for a message look again.
    pub(super) fn wake_poppers(&self) {
        self.change(|state, _, after| state.poppers.wake_all(&mut after.wakers));
    }
}

/// Has somebody who waits look at what has become due.
struct Expiry<T>(Weak<Shared<T>>);

impl<T: Send + Sync + 'static> Wake for Expiry<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            let mut after = After::default();
            shared.state.lock().timer_went_off(&mut after);
            shared.finish(after);
            let_go(shared);
        }
    }
}

/// Lets go of a queue, on the thread that serves the timers of all. Where its last handle has gone
/// meanwhile, its messages are dropped, and its files closed, on a thread of their own.
fn let_go<T: Send + Sync + 'static>(shared: Arc<Shared<T>>) {
    if let Some(last) = Arc::into_inner(shared) {
        let closer = std::thread::Builder::new().name("haybox-closer".into());
        // Without a thread it is dropped here after all.
        let _ = closer.spawn(move || drop(last));
    }
}

/// One who waits, as a thread or as a task. Dropping it ends the wait, and lets the next one have
/// what it was woken for.
pub(super) struct Waiting<T> {
    shared: Arc<Shared<T>>,
    turns: fn(&mut State<T>) -> &mut Turns,
    place: Option<u64>,
}

impl<T> Waiting<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, turns: fn(&mut State<T>) -> &mut Turns) -> Self {
        Self {
            shared,
            turns,
            place: None,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<T>> {
        &self.shared
    }

    /// Its place, if it has waited before.
    pub(super) fn place(&self) -> Option<u64> {
        self.place
    }

    /// Ready with what the attempt finds; otherwise `waker` is woken when another look is worth it.
    pub(super) fn look<R>(
        &mut self,
        waker: &Waker,
        attempt: impl FnOnce(&mut State<T>, u64, &mut After<T>) -> Option<R>,
    ) -> Poll<R> {
        // Of the user's executor: cloned before the lock is taken, and dropped after it.
        let mut own = Some(waker.clone());
        let (found, before) = self.shared.change(|state, now, after| {
            let found = attempt(state, now, after);
            let turns = (self.turns)(state);
            let before = match &found {
                Some(_) => turns.leave(&mut self.place),
                None => own.take().and_then(|own| turns.wait(&mut self.place, own)),
            };
            (found, before)
        });
        // What was found is not with the caller yet.
        let _ = contain(|| drop([before, own]));
        found.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Waiting<T> {
    /// Wherever that is, also under the lock of a set. What has become due is for the next call to
    /// settle, as when the last handle goes.
    fn drop(&mut self) {
        let cannot_leave = self.shared.is_keeping() && std::thread::panicking();
        if self.place.is_none() || cannot_leave {
            return;
        }
        kept::check_not_keeping(self.shared.is_kept());
        let mut after = After::default();
        let mut state = self.shared.state.lock();
        let unused = (self.turns)(&mut state).leave(&mut self.place);
        state.rouse(&mut after);
        drop(state);
        self.shared.finish(after);
        drop(unused);
    }
}

/// Takes the value of a payload that came back from a push: nobody else has seen it.
pub(super) fn value_of<T>(payload: Arc<Payload<T>>) -> T {
    let Ok(payload) = Arc::try_unwrap(payload) else {
        unreachable!("a message that was refused was handed out to nobody");
    };
    payload.value
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::super::{Delivery, PopError, PushOptions, Queue};
    use super::*;
    use crate::time::MockClock;
    use std::pin::Pin;
    use std::sync::mpsc;
    use std::task::Context;
    use std::thread::ThreadId;

    fn state(queue: super::super::QueueBuilder<u32>) -> Arc<Shared<u32>> {
        let queue = queue.build().unwrap();
        Arc::clone(queue.shared())
    }

    #[test]
    fn time_does_not_run_backwards_under_the_lock() {
        let shared = state(Queue::builder(10));
        let latest = shared.change(|_, now, _| now) + 1_000_000_000;
        let advanced = shared.state.lock().advance(latest);
        assert_eq!(advanced, latest, "a precise reading");
        assert_eq!(shared.change(|_, now, _| now), latest, "a coarse one");
    }

    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_timer_that_comes_too_late_does_not_replace_the_one_that_is_wanted() {
        let (time, hour) = (MockClock::new(), Duration::from_secs(3_600));
        let queue = Queue::<u32>::builder(10)
            .clock(time.clock())
            .build()
            .unwrap();
        let shared = queue.shared();
        let due = after(shared.clock.now(), hour);
        let delayed = PushOptions::new().delay(hour);
        queue.push_with(7, delayed).unwrap();
        let mut waiting = Waiting::new(Arc::clone(shared), |state| &mut state.poppers);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let nothing = |_: &mut State<u32>, _, _: &mut After<u32>| None::<()>;
        assert!(waiting.look(&waker, nothing).is_pending());
        // Of another thread, which was told of this time before.
        let late = wake_at(&shared.clock, due + 1, Waker::noop().clone());
        let unwanted = shared.state.lock().keep_timer(late, due + 1);
        drop(unwanted);
        time.advance(hour);
        assert_eq!(wakes.0.load(SeqCst), 1);
    }

    /// Says, when it is dropped, by whom.
    struct Says(mpsc::Sender<ThreadId>);

    impl Drop for Says {
        fn drop(&mut self) {
            self.0.send(std::thread::current().id()).unwrap();
        }
    }

    type Popping = Pin<Box<dyn Future<Output = Result<Delivery<Says>, PopError>> + Send>>;

    /// Drops all that there is of a queue when it is woken.
    struct Ends(Mutex<Option<(Queue<Says>, Popping)>>);

    impl Wake for Ends {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().take());
        }
    }

    #[test]
    fn who_serves_the_timers_does_not_drop_the_messages_of_a_queue_whose_end_it_sees() {
        let (time, hour) = (MockClock::new(), Duration::from_secs(3_600));
        let queue = Queue::builder(10).clock(time.clock()).build().unwrap();
        let (tell, told) = mpsc::channel();
        let delayed = PushOptions::new().delay(hour);
        queue.push_with(Says(tell), delayed).unwrap();
        let ends = Arc::new(Ends(Mutex::new(None)));
        let mut popping: Popping = Box::pin(queue.pop_async());
        let waker = Waker::from(Arc::clone(&ends));
        let polled = popping.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        *ends.0.lock() = Some((queue, popping));
        time.advance(hour);
        let by = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_ne!(by, std::thread::current().id());
    }

    #[test]
    fn times_of_less_than_a_second_are_counted_from_a_precise_reading() {
        let (second, short) = (Duration::from_secs(1), Duration::from_millis(3));
        let retry = |time| Queue::builder(10).backoff(time, second);
        for is_long in [
            Queue::builder(10),
            Queue::builder(10).visibility_timeout(second),
            retry(second),
            Queue::builder(10).dedup_window(second),
        ] {
            assert!(!state(is_long).rules.is_fine());
        }
        for is_short in [
            Queue::builder(10).visibility_timeout(short),
            retry(short),
            Queue::builder(10).dedup_window(short),
        ] {
            let shared = state(is_short);
            assert!(shared.rules.is_fine());
            for _ in 0..100 {
                let before = shared.clock.now();
                assert!(shared.change(|_, now, _| now) >= before);
            }
        }
    }
}
