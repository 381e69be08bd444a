//! Threads that work on the messages of a queue.

use super::crew::{Crew, WorkersReport};
use super::{Delivery, Queue, Settle};
use crate::contain::{contain, said};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A number of threads that work on the messages of a queue until they are told to stop.
///
/// Each takes a message, calls the handler, and acknowledges the message if the handler returns
/// `Ok`. If it returns an error or panics, the attempt has failed: the message is tried again after
/// the [backoff](super::QueueBuilder::backoff) of the queue, by default a second or more, and after
/// its last attempt becomes a [dead letter](Queue::dead_letters) with the error's text, or the
/// panic's. No panic ends a thread. A handler that returns a [`Settle`] has more to choose from:
/// what cannot succeed is buried, and what may not be done yet waits without an attempt. For a handler
/// that awaits something there are [`TaskWorkers`](super::TaskWorkers).
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

/// More than a process can do anything with. A number that is wrong by a factor would have the
/// system out of threads before it refuses one.
const MOST_THREADS: usize = 10_000;

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
                .spawn(move || work(&crew, &queue, &*handler))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// What they have done so far.
    #[must_use]
    pub fn report(&self) -> WorkersReport {
        self.crew.report()
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
        self.crew.stop(&self.queue);
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

fn work<T, R>(crew: &Crew, queue: &Queue<T>, handler: &impl Fn(&Delivery<T>) -> R)
where
    T: Send + Sync + 'static,
    R: Into<Settle>,
{
    loop {
        // A message's destructor may panic when it is settled.
        let step = contain(|| {
            let delivery = queue.pop_unless(crew.is_stopped())?;
            let made = said(|| handler(&delivery).into());
            crew.settle(delivery, made);
            Some(())
        });
        if let Some(None) = step {
            return;
        }
    }
}
