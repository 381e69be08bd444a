//! Tasks that work on the messages of a queue.

use super::crew::{Crew, WorkersReport};
use super::{Delivery, Queue, Settle};
use crate::contain::contained;
use crate::sync::Mutex;
use crate::time::wake_all;
use crate::wait::Waiters;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Tasks that work on the messages of a queue until they are told to stop: [`Workers`](super::Workers)
/// whose handler is awaited, on whichever executor.
///
/// [`work`](Self::work) makes the future of one worker; spawn as many as there are to be messages in
/// hand at once. What a handler returns ends a message as with `Workers`, and so does a panic, which
/// ends no task. A worker that is dropped or aborted gives back what it was at, as one attempt.
///
/// This is a handle. Dropping it stops nobody: [`stop`](Self::stop) does. When the queue is
/// closed the workers go on until nothing is ready, delayed or in flight, and end then.
///
/// ```
/// use haybox::queue::{Delivery, Queue, TaskWorkers};
/// use std::time::Duration;
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
/// # runtime.block_on(async {
/// let mails = Queue::<String>::builder(10_000).max_attempts(1).build()?;
/// let workers = TaskWorkers::new(&mails);
/// for _ in 0..4 {
///     tokio::spawn(workers.work(async |mail: &Delivery<String>| send(mail).await));
/// }
/// mails.push_async("welcome 7".to_owned()).await?;
/// mails.push_async("welcome 8".to_owned()).await?;
/// mails.close(); // What is in it is still worked on.
/// let report = workers.drain_async(Duration::from_secs(60)).await;
/// assert_eq!((report.done, report.failed), (1, 1));
/// assert_eq!(mails.dead_letters()[0].error(), Some("no such box"));
/// # async fn send(mail: &str) -> Result<(), &'static str> {
/// #     if mail == "welcome 8" { Err("no such box") } else { Ok(()) }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TaskWorkers<T: Send + Sync + 'static> {
    queue: Queue<T>,
    shift: Arc<Shift>,
}

/// What the tasks share.
#[derive(Default)]
struct Shift {
    crew: Crew,
    duty: Mutex<Duty>,
}

#[derive(Default)]
struct Duty {
    /// How many have begun and not ended.
    workers: usize,
    /// Those that wait until nobody is left.
    waiting: Waiters,
}

impl<T: Send + Sync + 'static> Clone for TaskWorkers<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            shift: Arc::clone(&self.shift),
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for TaskWorkers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskWorkers")
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> TaskWorkers<T> {
    /// So far nobody works. It holds a handle of the queue, so that is not closed by dropping all others.
    #[must_use]
    pub fn new(queue: &Queue<T>) -> Self {
        Self {
            queue: queue.clone(),
            shift: Arc::default(),
        }
    }

    /// One worker, to be spawned: it takes a message, awaits the handler, ends the message by what that
    /// returns, and takes the next, until it is stopped or the queue is closed and empty.
    ///
    /// It gives way to other tasks after 32 messages at the latest. The handler may take more time by
    /// [`Delivery::extend`]. The future is `Send` if those of the handler are, and borrows nothing but what
    /// the handler does.
    pub fn work<R, F>(&self, handler: F) -> impl Future<Output = ()> + use<T, R, F>
    where
        R: Into<Settle>,
        F: AsyncFn(&Delivery<T>) -> R,
    {
        let Self { queue, shift } = self.clone();
        async move {
            let _on_duty = shift.begin();
            for number in 1_u64.. {
                // A message's destructor may panic when it is settled.
                let step = contained(step(&shift.crew, &queue, &handler)).await;
                if let Ok(false) = step {
                    return;
                }
                // Where nothing has to be waited for, other tasks of the thread would not get to run.
                if number.is_multiple_of(TURN) || step.is_err() {
                    give_way().await;
                }
            }
        }
    }

    /// What they have done so far.
    #[must_use]
    pub fn report(&self) -> WorkersReport {
        self.shift.crew.report()
    }

    /// Has each worker end what it is at and take nothing more, and waits for nobody. What is in the queue
    /// stays there. Who begins later ends at once.
    pub fn stop(&self) {
        self.shift.crew.stop(&self.queue);
    }

    /// As [`stop`](Self::stop), and waits until all that have begun have ended, or were dropped: as long as
    /// their handlers take.
    ///
    /// They are told at the first poll; who drops the future after that does not wait for them. A handler
    /// that awaits this waits for itself, for ever: it calls `stop`.
    pub async fn stop_async(&self) -> WorkersReport {
        self.stop();
        self.shift.ended().await;
        self.report()
    }

    /// Lets them work until nothing is ready, delayed or in flight, but for `timeout` at most, which
    /// counts from the first poll, and stops them as [`stop_async`](Self::stop_async) does.
    /// [Close](Queue::close) the queue before, so that nothing more comes in.
    ///
    /// Handlers that are at work after that time are waited for. Who drops the future before has told
    /// nobody to stop, and calls [`stop`](Self::stop).
    pub async fn drain_async(&self, timeout: Duration) -> WorkersReport {
        self.queue.wait_until_empty_async(timeout).await;
        self.stop_async().await
    }
}

/// After so many messages a worker has others run.
const TURN: u64 = 32;

/// Has other tasks of the executor run first.
async fn give_way() {
    let mut has_given_way = false;
    poll_fn(|context| {
        if mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Works on one message; whether there may be more.
async fn step<T, R, F>(crew: &Crew, queue: &Queue<T>, handler: &F) -> bool
where
    T: Send + Sync + 'static,
    R: Into<Settle>,
    F: AsyncFn(&Delivery<T>) -> R,
{
    let Some(delivery) = queue.pop_unless_async(crew.is_stopped()).await else {
        return false;
    };
    let made = contained(async { handler(&delivery).await.into() }).await;
    crew.settle(delivery, made);
    true
}

impl Shift {
    fn begin(&self) -> OnDuty<'_> {
        self.duty.lock().workers += 1;
        OnDuty(self)
    }

    /// Waits until nobody is on duty.
    async fn ended(&self) {
        let mut ending = Ending {
            shift: self,
            place: None,
        };
        poll_fn(|context| ending.look(context.waker())).await;
    }
}

/// A worker that has begun, until it has ended or is dropped.
struct OnDuty<'s>(&'s Shift);

impl Drop for OnDuty<'_> {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        let mut duty = self.0.duty.lock();
        duty.workers -= 1;
        if duty.workers == 0 {
            duty.waiting.take(&mut woken);
        }
        drop(duty);
        wake_all(woken);
    }
}

/// Who waits for the end of all.
struct Ending<'s> {
    shift: &'s Shift,
    place: Option<usize>,
}

impl Ending<'_> {
    fn look(&mut self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut duty = self.shift.duty.lock();
        if duty.workers == 0 {
            return Poll::Ready(());
        }
        let before = duty.waiting.put(&mut self.place, waker);
        drop(duty);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.shift.duty.lock().waiting.leave(place);
            drop(waker);
        }
    }
}
