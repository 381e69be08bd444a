//! Threads that work on the messages of a queue.

use super::{Delivery, Queue, Settle};
use crate::contain::{contain, said};
use crate::figures::figures;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A number of threads that work on the messages of a queue until they are told to stop.
///
/// Each takes a message, calls the handler, and acknowledges the message if the handler returns
/// `Ok`. If it returns an error or panics, the attempt has failed: the message is tried again after
/// the [backoff](super::QueueBuilder::backoff) of the queue, by default a second or more, and after
/// its last attempt becomes a [dead letter](Queue::dead_letters) with the error's text, or the
/// panic's. No panic ends a thread. A handler that returns a [`Settle`] has more to choose from:
/// what cannot succeed is buried, and what may not be done yet waits without an attempt.
///
/// Dropping it stops the threads as [`stop`](Self::stop) does, and so waits for the handlers that
/// are running. When the queue is closed the threads go on until nothing is ready, delayed or in
/// flight, and end then.
///
/// ```
/// use haybox::queue::{Queue, Workers};
/// use std::time::Duration;
///
/// let at_once = Duration::ZERO; // By default the second attempt is a second later.
/// let queue = Queue::builder(1000).max_attempts(3).backoff(at_once, at_once).build()?;
/// let workers = Workers::start(&queue, 4, |job| match **job {
///     13 => Err("unlucky"),
///     14 => panic!("worse"),
///     _ => Ok(()),
/// })?;
/// for job in 0..20 {
///     queue.push(job)?;
/// }
/// queue.close();
/// let report = workers.drain(Duration::from_secs(60));
/// assert_eq!((report.done, report.failed, report.panicked), (18, 3, 3));
/// let dead: Vec<_> = queue.dead_letters().into_iter().map(|letter| *letter).collect();
/// assert_eq!(dead, [13, 14]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Workers<T: Send + Sync + 'static> {
    queue: Queue<T>,
    crew: Arc<Crew>,
    threads: Vec<JoinHandle<()>>,
}

figures! {
    /// What [`Workers`] have done.
    pub struct WorkersReport {
        /// Messages that were done and acknowledged.
        pub done: u64,
        /// Attempts that the handler ended with an error.
        pub failed: u64,
        /// Messages that the handler [buried](Settle::Bury).
        pub buried: u64,
        /// Messages that it [released](Settle::ReleaseAfter).
        pub released: u64,
        /// Attempts that ended with a panic.
        pub panicked: u64,
        /// Attempts that the handler ended, one way or the other, when the time of the delivery had
        /// passed: the message was or will be handed out again. If there are any, the visibility
        /// time-out is too short for this work.
        pub late: u64,
    }
}

/// More than a process can do anything with. A number that is wrong by a factor would have the
/// system out of threads before it refuses one.
const MOST_THREADS: usize = 10_000;

/// For how long a message that was released keeps out of the way at least.
const LEAST_DELAY: Duration = Duration::from_millis(1);

/// What the threads share.
#[derive(Default)]
struct Crew {
    is_stopped: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    buried: AtomicU64,
    released: AtomicU64,
    panicked: AtomicU64,
    late: AtomicU64,
}

impl<T: Send + Sync + 'static> fmt::Debug for Workers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("threads", &self.threads.len())
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Workers<T> {
    /// Starts so many threads, from 1 to 10,000. They hold a handle of the queue, so it is not
    /// closed by dropping all others.
    ///
    /// # Errors
    /// If a thread could not be started, those that were are stopped;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for none, or for more than 10,000.
    pub fn start<R: Into<Settle>>(
        queue: &Queue<T>,
        threads: usize,
        handler: impl Fn(&Delivery<T>) -> R + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let problem = match threads {
            0 => Some("a queue needs at least one worker"),
            1..=MOST_THREADS => None,
            _ => Some("a queue has at most 10,000 workers, each with a thread of its own"),
        };
        if let Some(problem) = problem {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let handler = Arc::new(handler);
        let mut workers = Self {
            queue: queue.clone(),
            crew: Arc::default(),
            threads: Vec::with_capacity(threads),
        };
        for number in 0..threads {
            let (queue, crew) = (queue.clone(), Arc::clone(&workers.crew));
            let handler = Arc::clone(&handler);
            let thread = thread::Builder::new()
                .name(format!("haybox-worker-{number}"))
                .spawn(move || crew.work(&queue, &*handler))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// What they have done so far.
    #[must_use]
    pub fn report(&self) -> WorkersReport {
        let crew = &self.crew;
        WorkersReport {
            done: crew.done.load(SeqCst),
            failed: crew.failed.load(SeqCst),
            buried: crew.buried.load(SeqCst),
            released: crew.released.load(SeqCst),
            panicked: crew.panicked.load(SeqCst),
            late: crew.late.load(SeqCst),
        }
    }

    /// Has each thread end what it is at and take nothing more, and waits for that. What is in the
    /// queue stays there.
    pub fn stop(mut self) -> WorkersReport {
        self.end();
        self.report()
    }

    /// Lets them work until nothing is ready, delayed or in flight, but for `timeout` at most, and
    /// stops them. [Close](Queue::close) the queue before, so that nothing more comes in.
    pub fn drain(self, timeout: Duration) -> WorkersReport {
        self.queue.wait_until_empty(timeout);
        self.stop()
    }

    fn end(&mut self) {
        self.crew.is_stopped.store(true, SeqCst);
        self.queue.wake_poppers();
        let own = thread::current().id();
        // A handler may own its workers. It does not wait for itself.
        let others = self
            .threads
            .drain(..)
            .filter(|thread| thread.thread().id() != own);
        for thread in others {
            // No panic gets as far as to end a worker.
            let _ = thread.join();
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Workers<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Crew {
    fn work<T, R>(&self, queue: &Queue<T>, handler: &impl Fn(&Delivery<T>) -> R)
    where
        T: Send + Sync + 'static,
        R: Into<Settle>,
    {
        loop {
            // A message's destructor may panic when it is settled.
            let step = contain(|| {
                let delivery = queue.pop_unless(&self.is_stopped)?;
                self.work_on(delivery, handler);
                Some(())
            });
            if let Some(None) = step {
                return;
            }
        }
    }

    fn work_on<T, R>(&self, delivery: Delivery<T>, handler: &impl Fn(&Delivery<T>) -> R)
    where
        R: Into<Settle>,
    {
        let (counter, settled) = match said(|| handler(&delivery).into()) {
            Ok(Settle::Ack) => (&self.done, delivery.ack()),
            Ok(Settle::Fail(error)) => (&self.failed, delivery.fail(error)),
            Ok(Settle::FailAfter(error, delay)) => {
                (&self.failed, delivery.fail_after(error, delay))
            }
            Ok(Settle::Bury(error)) => (&self.buried, delivery.bury(error)),
            Ok(Settle::ReleaseAfter(delay)) => {
                let delay = delay.max(LEAST_DELAY);
                (&self.released, delivery.release_after(delay))
            }
            Err(panic) => {
                let error = format!("panicked: {panic}");
                (&self.panicked, delivery.fail(error))
            }
        };
        let counter = if settled.is_ok() { counter } else { &self.late };
        counter.fetch_add(1, SeqCst);
    }
}
