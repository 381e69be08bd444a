//! Applying frames: on threads, so that decoding costs the time of the slowest and not of all.
//!
//! The frames of a snapshot have nothing to do with each other, so each goes to any thread. Those of
//! the log go to every thread, and each applies the effects whose keys are its share: walking over
//! the others costs a few nanoseconds, less than handing them around would.

use super::Recovery;
use crate::persist::contents::Contents;
use crate::persist::effect::{Decoder, Effect, Undecodable};
use crate::persist::error::{Damage, OpenError};
use crate::persist::frame::Frame;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

/// The effects of a frame, to be applied.
pub(super) struct Job {
    pub(super) path: Arc<Path>,
    pub(super) schema: u32,
    pub(super) frame: Frame,
    /// How many of its effects.
    pub(super) limit: u32,
}

/// Which thread applies what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    ByFrame,
    ByKey,
}

/// A part of the effects of a frame.
#[derive(Clone, Copy)]
struct Share {
    index: u32,
    of: u32,
}

impl Share {
    const ALL: Self = Self { index: 0, of: 1 };

    fn holds(self, effect: &Effect<'_>) -> bool {
        self.of == 1
            || match effect.key() {
                Some(key) => crc32c::crc32c(key) % self.of == self.index,
                None => self.index == 0,
            }
    }
}

/// Where frames are handed to, in their order.
pub(super) struct Feed<'f> {
    worker: &'f Worker<'f>,
    /// None where this thread applies by itself.
    threads: Vec<Sender<Arc<Job>>>,
}

impl Feed<'_> {
    /// Fails if any thread has failed, which ends the replay.
    pub(super) fn give(&mut self, job: Job) -> Result<(), Stopped> {
        if self.threads.is_empty() {
            self.worker.work(&job, Share::ALL);
        }
        let job = Arc::new(job);
        for thread in &self.threads {
            // Nobody receives any more once a thread has failed.
            let _ = thread.send(Arc::clone(&job));
        }
        match self.worker.failure.get() {
            Some(_) => Err(Stopped),
            None => Ok(()),
        }
    }
}

/// A thread has failed, and said why.
pub(super) struct Stopped;

/// Why a replay ends early.
pub(super) enum Ended {
    Stopped,
    Error(OpenError),
}

impl From<Stopped> for Ended {
    fn from(_: Stopped) -> Self {
        Ended::Stopped
    }
}

impl From<OpenError> for Ended {
    fn from(error: OpenError) -> Self {
        Ended::Error(error)
    }
}

impl Recovery<'_> {
    /// Applies what `read` feeds, and says besides how many effects did not decode.
    pub(super) fn replay<R>(
        &self,
        division: Division,
        read: impl FnOnce(&mut Feed<'_>) -> Result<R, Ended>,
    ) -> Result<(R, u64), OpenError> {
        let worker = Worker {
            contents: self.contents,
            schema: self.settings.schema,
            is_salvage: self.is_salvage(),
            failure: OnceLock::new(),
            undecodable: AtomicU64::new(0),
        };
        let result = match self.settings.worker_count() {
            1 => read(&mut Feed {
                worker: &worker,
                threads: Vec::new(),
            }),
            count => worker.on_threads(count, division, read),
        };
        match (worker.failure.into_inner(), result) {
            (Some(error), _) | (None, Err(Ended::Error(error))) => Err(error),
            (None, Ok(result)) => Ok((result, worker.undecodable.into_inner())),
            (None, Err(Ended::Stopped)) => unreachable!("a thread that stops says why"),
        }
    }
}

/// What all threads share.
struct Worker<'c> {
    contents: &'c dyn Contents,
    schema: u32,
    is_salvage: bool,
    failure: OnceLock<OpenError>,
    undecodable: AtomicU64,
}

/// How many frames may wait for a thread.
const BACKLOG: usize = 8;

impl Worker<'_> {
    fn on_threads<R>(
        &self,
        count: usize,
        division: Division,
        read: impl FnOnce(&mut Feed<'_>) -> Result<R, Ended>,
    ) -> Result<R, Ended> {
        thread::scope(|scope| {
            let mut feed = Feed {
                worker: self,
                threads: Vec::new(),
            };
            let (any, shared) = bounded(BACKLOG);
            for index in 0..count as u32 {
                let (jobs, share) = match division {
                    Division::ByFrame => (shared.clone(), Share::ALL),
                    Division::ByKey => {
                        let (own, jobs) = bounded(BACKLOG);
                        feed.threads.push(own);
                        let of = count as u32;
                        (jobs, Share { index, of })
                    }
                };
                let run = move || self.run(&jobs, share);
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, run) {
                    let path = Path::new("a thread");
                    let error = crate::persist::error::DiskError::new("start", path, error);
                    return Err(Ended::Error(error.into()));
                }
            }
            if division == Division::ByFrame {
                feed.threads.push(any);
            }
            drop(shared);
            read(&mut feed)
        })
    }

    fn run(&self, jobs: &Receiver<Arc<Job>>, share: Share) {
        for job in jobs {
            // What is left is taken and not applied, so that nobody waits for room.
            if self.failure.get().is_none() {
                self.work(&job, share);
            }
        }
    }

    fn work(&self, job: &Job, share: Share) {
        // Decoding is code of the user's.
        let result = catch_unwind(AssertUnwindSafe(|| self.apply(job, share)));
        let error = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => undecodable(job, job.frame.header.first, "it panics".to_owned()),
        };
        // Another thread may have failed first.
        let _ = self.failure.set(error);
    }

    fn apply(&self, job: &Job, share: Share) -> Result<(), OpenError> {
        let frame = &job.frame;
        let mut effects = Decoder::new(&frame.payload);
        for at in 0..job.limit {
            let Some(Ok(effect)) = effects.next() else {
                return self.corrupt(job, effects.offset());
            };
            if share.holds(&effect) {
                let seq = frame.header.first.saturating_add(u64::from(at));
                self.apply_one(job, seq, effect)?;
            }
        }
        let is_all = job.limit < frame.header.count || effects.next().is_none();
        if is_all {
            Ok(())
        } else {
            self.corrupt(job, effects.offset())
        }
    }

    #[inline]
    fn apply_one(&self, job: &Job, seq: u64, effect: Effect<'_>) -> Result<(), OpenError> {
        let applied = if job.schema == self.schema {
            self.contents.apply(seq, effect)
        } else {
            self.contents.migrate(job.schema, seq, effect)
        };
        match applied {
            Ok(()) => Ok(()),
            Err(Undecodable { .. }) if self.is_salvage => {
                self.undecodable.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(Undecodable { reason }) => Err(undecodable(job, seq, reason)),
        }
    }

    /// The checksum is right and the effects are not: a bug, or a forgery.
    fn corrupt(&self, job: &Job, at: usize) -> Result<(), OpenError> {
        if self.is_salvage {
            self.undecodable.fetch_add(1, Relaxed);
            return Ok(());
        }
        Err(OpenError::Damaged(Damage {
            file: job.path.to_path_buf(),
            offset: job.frame.offset,
            expected: format!("{} whole effects", job.frame.header.count),
            found: format!("something else about byte {at} of the payload"),
            next_seq: job.frame.header.first,
            durable_seq: job.frame.header.durable,
        }))
    }
}

fn undecodable(job: &Job, seq: u64, reason: String) -> OpenError {
    OpenError::Undecodable {
        file: job.path.to_path_buf(),
        offset: job.frame.offset,
        seq,
        reason,
    }
}
