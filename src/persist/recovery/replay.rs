//! Applying frames by the window, sorted by the set.
//!
//! Effects come in the order of time, which is no order of the keys: in a table that is larger than
//! the processor's caches each of them would wait for memory several times, and threads would meet
//! at the sets. So the effects of a window of frames are first sorted into parts, by the low bits of
//! their keys' hashes, and then applied part by part. All effects of a set are in one part and stay
//! in the order of the files, whatever the number of threads: they divide the frames of a window
//! among them to sort, and the parts to apply. What concerns all sets comes between two windows.

use super::Recovery;
use super::believed::Believed;
use crate::contain::{contain, said};
use crate::engine::Tally;
use crate::persist::contents::Contents;
use crate::persist::effect::{Decoder, Effect, Undecodable};
use crate::persist::error::{Damage, OpenError};
use crate::persist::frame::{Frame, Kind};
use crate::table::MAX_WAYS;
use std::iter;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The effects of a frame, to be applied.
pub(super) struct Job {
    pub(super) path: Arc<Path>,
    pub(super) schema: u32,
    pub(super) frame: Frame,
    /// How many of its effects.
    pub(super) limit: u32,
}

/// A window takes up at most this part of all bytes, so that the memory is little beside that of the
/// entries, ...
const SHARE_OF_ALL: u64 = 2;

/// ... never more bytes than this and a frame, and no large one, ...
const LARGEST_WINDOW: usize = 96 << 20;

/// ... and no more effects for each set than this, so that there are more sets to sort by as the
/// table grows.
const EFFECTS_PER_SET: usize = 32;

/// A frame with more bytes is one large value, or one large transaction. It is applied by itself, where it
/// lies: sorted it would be there a second time, and the memory for it kept to the end.
const LARGE_FRAME: usize = LARGEST_WINDOW / 3;

/// A window of fewer bytes is not worth to start threads for, twice, since it is sorted and applied. In
/// a small table all windows are small, and a long log has thousands of them.
const WORTH_THREADS: usize = 4 << 20;

/// A table of fewer sets, with their entries, is near the processor: one thread need not sort.
const WORTH_SORTING: usize = 1 << 13;

/// Of fewer entries one part says too little about another.
const WORTH_EXPECTING: u64 = 1 << 10;

/// Into at most so many parts effects are sorted. Each is that many times smaller than the table, and
/// so fits into the caches of a processor.
const MOST_PARTS: usize = 256;

/// How large the stack of a thread is that decodes: a value that is nested deeply was written, and
/// verified, on a thread of the program, perhaps its first, which mostly has 8 MiB, where others have
/// 2 MiB. What is not used of it takes up addresses alone.
const STACK: usize = 16 << 20;

/// Where frames are handed to, in their order.
pub(super) struct Feed<'f> {
    worker: Worker<'f>,
    threads: usize,
    /// The bytes of a window.
    enough: usize,
    window: Vec<Job>,
    bytes: usize,
    effects: usize,
    /// By the thread that sorts; the memory is kept from one window to the next.
    sorted: Vec<Sorted>,
}

impl Recovery<'_> {
    /// Applies what `read` feeds, of `bytes` in all, by the wall clock as it stood at `now_ms`, and says
    /// besides how many effects did not decode.
    pub(super) fn replay<R>(
        &self,
        bytes: u64,
        now_ms: u64,
        read: impl FnOnce(&mut Feed<'_>) -> Result<R, OpenError>,
    ) -> Result<(R, u64), OpenError> {
        let worker = Worker {
            contents: self.contents,
            schema: self.settings.schema,
            believed: Believed::by(self.settings, now_ms),
            is_salvage: self.is_salvage(),
            undecodable: AtomicU64::new(0),
        };
        let mut feed = Feed::new(worker, self.settings.worker_count(), bytes);
        let result = read(&mut feed)?;
        feed.apply()?;
        Ok((result, feed.worker.undecodable.into_inner()))
    }
}

impl<'f> Feed<'f> {
    fn new(worker: Worker<'f>, threads: usize, bytes: u64) -> Self {
        let share = usize::try_from(bytes / SHARE_OF_ALL).unwrap_or(usize::MAX);
        Self {
            worker,
            threads,
            enough: share.min(LARGEST_WINDOW),
            window: Vec::new(),
            bytes: 0,
            effects: 0,
            sorted: Vec::new(),
        }
    }

    /// Takes a frame into the window, and applies all that is in it once it is enough.
    pub(super) fn give(&mut self, job: Job) -> Result<(), OpenError> {
        if job.frame.header.kind == Kind::Clear {
            // It concerns all sets, so it is applied when no thread has any.
            self.apply()?;
            self.worker.contents.clear();
            return Ok(());
        }
        if job.frame.payload.len() > LARGE_FRAME {
            self.apply()?;
            return self.worker.apply_in_order(&[job]);
        }
        self.bytes += job.bytes();
        self.effects += job.limit as usize;
        self.window.push(job);
        let sets = self.worker.contents.sets();
        if self.bytes >= self.enough || self.effects >= sets.saturating_mul(EFFECTS_PER_SET) {
            self.apply()?;
        }
        Ok(())
    }

    fn apply(&mut self) -> Result<(), OpenError> {
        let sets = self.worker.contents.sets().max(1);
        // The largest power of two that every number of sets from now on has: so no set is in two.
        let parts = MOST_PARTS.min(1 << sets.ilog2());
        let threads = match self.bytes < WORTH_THREADS {
            true => 1,
            false => self.threads.min(parts),
        };
        let applied = match threads == 1 && sets < WORTH_SORTING {
            true => self.worker.apply_in_order(&self.window),
            false => self.apply_by_part(threads, parts),
        };
        self.window.clear();
        (self.bytes, self.effects) = (0, 0);
        applied
    }

    fn apply_by_part(&mut self, threads: usize, parts: usize) -> Result<(), OpenError> {
        let (worker, window) = (&self.worker, &self.window);
        let frames = window.len().div_ceil(threads).max(1);
        self.sorted.resize_with(threads, Sorted::default);
        let mut origin = 0;
        let sort = self.sorted.iter_mut().zip(window.chunks(frames));
        on_threads(sort.map(|(sorted, jobs)| {
            let first = origin;
            origin += jobs.len();
            move || worker.sort(jobs, first, parts, sorted)
        }))?;
        let (sorted, before) = (&self.sorted, worker.contents.len());
        worker.apply_parts(window, sorted, 1, &AtomicUsize::new(0))?;
        worker.expect(before, parts);
        let next = &AtomicUsize::new(1);
        let apply = || worker.apply_parts(window, sorted, parts, next);
        let applied = on_threads((0..threads).map(|_| apply));
        self.sorted.iter_mut().for_each(Sorted::clear);
        applied
    }
}

impl Job {
    /// What it takes up while it is in a window, sorted and with a note for each effect.
    fn bytes(&self) -> usize {
        let notes = self.limit as usize * size_of::<Note>();
        size_of::<Self>() + 2 * self.frame.payload.len() + notes
    }

    /// The number of an effect; in a snapshot, where there are none, its place in the frame.
    fn seq(&self, at: u32) -> u64 {
        let first = match self.frame.header.kind {
            Kind::Snapshot => 0,
            _ => self.frame.header.first,
        };
        first.saturating_add(u64::from(at))
    }

    fn set_full(&self, at: u32) -> OpenError {
        OpenError::HashesCollide {
            file: self.path.to_path_buf(),
            offset: self.frame.offset,
            seq: self.seq(at),
            limit: MAX_WAYS,
        }
    }

    fn undecodable(&self, at: u32, reason: String) -> OpenError {
        OpenError::Undecodable {
            file: self.path.to_path_buf(),
            offset: self.frame.offset,
            seq: self.seq(at),
            reason,
        }
    }
}

/// The effects of some frames by the part of the contents that they concern.
#[derive(Default)]
struct Sorted {
    parts: Vec<Part>,
}

/// Effects side by side: in their frames they would be far from each other.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    notes: Vec<Note>,
}

/// Where an effect is from.
#[derive(Clone, Copy)]
struct Note {
    /// The number of its frame in the window.
    job: u32,
    /// Its number in the frame.
    at: u32,
}

impl Sorted {
    /// Keeps the memory.
    fn clear(&mut self) {
        for part in &mut self.parts {
            part.bytes.clear();
            part.notes.clear();
        }
    }
}

/// What all threads share.
struct Worker<'c> {
    contents: &'c dyn Contents,
    schema: u32,
    believed: Believed,
    is_salvage: bool,
    undecodable: AtomicU64,
}

impl Worker<'_> {
    /// Applies frames as they are.
    fn apply_in_order(&self, jobs: &[Job]) -> Result<(), OpenError> {
        let mut tally = Tally::default();
        let applied = jobs.iter().try_for_each(|job| {
            self.walk(job, |at, effect, _| self.apply(job, at, effect, &mut tally))
        });
        self.contents.settle(tally);
        applied
    }

    fn sort(
        &self,
        jobs: &[Job],
        first: usize,
        parts: usize,
        sorted: &mut Sorted,
    ) -> Result<(), OpenError> {
        sorted.parts.resize_with(parts, Part::default);
        for (number, job) in (first as u32..).zip(jobs) {
            self.walk(job, |at, effect, bytes| {
                let part = &mut sorted.parts[self.hash_of(&effect) % parts];
                part.bytes.extend_from_slice(bytes);
                part.notes.push(Note { job: number, at });
                Ok(())
            })?;
        }
        Ok(())
    }

    fn hash_of(&self, effect: &Effect<'_>) -> usize {
        let Some(key) = effect.key() else {
            return 0;
        };
        // Decoding is code of the user's. What panics is told of when it is applied.
        contain(|| self.contents.hash_of(key)).unwrap_or(0)
    }

    /// Makes room for a little less than what the other parts bring if they are like the first, so that
    /// threads split few sets while they meet there.
    fn expect(&self, before: u64, parts: usize) {
        let entries = self.contents.len();
        let added = entries.saturating_sub(before);
        if added >= WORTH_EXPECTING {
            let more = (added - added / 16).saturating_mul(parts as u64 - 1);
            self.contents.expect(entries.saturating_add(more));
        }
    }

    /// Applies the parts that no other thread has taken.
    fn apply_parts(
        &self,
        window: &[Job],
        sorted: &[Sorted],
        parts: usize,
        next: &AtomicUsize,
    ) -> Result<(), OpenError> {
        let mut tally = Tally::default();
        let applied = iter::from_fn(|| Some(next.fetch_add(1, Relaxed)))
            .take_while(|part| *part < parts)
            .try_for_each(|part| self.apply_part(window, sorted, part, &mut tally));
        self.contents.settle(tally);
        applied
    }

    fn apply_part(
        &self,
        window: &[Job],
        sorted: &[Sorted],
        part: usize,
        tally: &mut Tally,
    ) -> Result<(), OpenError> {
        for part in sorted.iter().filter_map(|sorted| sorted.parts.get(part)) {
            let effects = Decoder::new(&part.bytes).flatten();
            for (effect, note) in effects.zip(&part.notes) {
                self.apply(&window[note.job as usize], note.at, effect, tally)?;
            }
        }
        Ok(())
    }

    /// Visits the effects of a frame, each with its number there and its bytes.
    fn walk<'j>(
        &self,
        job: &'j Job,
        mut visit: impl FnMut(u32, Effect<'j>, &'j [u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let payload = &job.frame.payload;
        let mut effects = Decoder::new(payload);
        for at in 0..job.limit {
            let start = effects.offset();
            let Some(Ok(effect)) = effects.next() else {
                return self.corrupt(job, effects.offset());
            };
            visit(at, effect, &payload[start..effects.offset()])?;
        }
        let is_all = job.limit < job.frame.header.count || effects.next().is_none();
        if is_all {
            Ok(())
        } else {
            self.corrupt(job, effects.offset())
        }
    }

    #[inline]
    fn apply(
        &self,
        job: &Job,
        at: u32,
        effect: Effect<'_>,
        tally: &mut Tally,
    ) -> Result<(), OpenError> {
        let effect = self.believed.mended(effect, job.frame.header.wall_ms);
        // Decoding is code of the user's.
        let applied = said(|| match job.schema == self.schema {
            true => self.contents.apply(job.seq(at), effect, tally),
            false => self
                .contents
                .migrate(job.schema, job.seq(at), effect, tally),
        });
        match applied {
            Ok(Ok(())) => Ok(()),
            // Another hasher is needed; of what the files have nothing is lost.
            Ok(Err(why)) if why.set_is_full => Err(job.set_full(at)),
            // Whether its decoder says so or panics: the old files are kept aside.
            _ if self.is_salvage => {
                self.undecodable.fetch_add(1, Relaxed);
                Ok(())
            }
            Ok(Err(Undecodable { reason, .. })) => Err(job.undecodable(at, reason)),
            Err(panic) => Err(job.undecodable(at, format!("it panics: {panic}"))),
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
            next_seq: job.seq(0),
            durable_seq: job.frame.header.durable,
        }))
    }
}

/// Takes each step on a thread of its own, the first on this one; the error of the first that fails.
fn on_threads<S>(steps: impl Iterator<Item = S>) -> Result<(), OpenError>
where
    S: FnOnce() -> Result<(), OpenError> + Send,
{
    on_threads_of(|| thread::Builder::new().stack_size(STACK), steps)
}

/// Where the system gives no thread for a step, it is taken on this one, later.
fn on_threads_of<S>(
    builder: impl Fn() -> thread::Builder,
    steps: impl Iterator<Item = S>,
) -> Result<(), OpenError>
where
    S: FnOnce() -> Result<(), OpenError> + Send,
{
    // A thread that is not started drops what it was to run, so the steps stay here.
    let steps: Vec<_> = steps.map(|step| Mutex::new(Some(step))).collect();
    let take = |step: &Mutex<Option<S>>| {
        let step = step.lock().unwrap_or_else(PoisonError::into_inner).take();
        step.map_or(Ok(()), |step| step())
    };
    thread::scope(|scope| {
        let Some((own, others)) = steps.split_first() else {
            return Ok(());
        };
        let start = |step| builder().spawn_scoped(scope, move || take(step));
        let threads: Vec<_> = others.iter().map(start).collect();
        let mut result = take(own);
        for (thread, step) in threads.into_iter().zip(others) {
            let taken = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => take(step),
            };
            result = result.and(taken);
        }
        result
    })
}

#[cfg(all(test, not(shuttle)))]
mod tests;
