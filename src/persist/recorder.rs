//! What a cache tells its log: changes of keys and values in, bytes out.

use super::codec::Codec;
use super::effect::{Effect, Effects, Labels, Meta};
use super::encoder::{Encoder, Unencoded};
use super::error::{CommitError, WriteError};
use super::handle::Journal;
use super::insist;
use super::journal::OpenJournal;
use super::made_by::MadeBy;
use super::outcome;
use super::wall::Wall;
use crate::engine::{self, Encoded, Form, Recorded, Recorder, Refusal};
use crate::reentrancy;
use serde::Serialize;
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

/// Where the bytes go.
pub(super) trait Sink: Send + Sync + 'static {
    fn reserve(&self, bytes: usize) -> Result<(), WriteError>;
    /// What is written is not refused, though others would be: what ends that is wanted.
    fn urge(&self);
    fn append(&self, effects: &Effects) -> u64;
    fn append_if_room(&self, effects: &Effects) -> bool;
    fn count_unencodable(&self);
    /// How far the wall clock was ahead of the clock of deadlines, in nanoseconds, when the oldest
    /// deadlines that count were written.
    fn written_by(&self) -> i64;
    fn wait(&self, seq: u64, until: Option<Instant>) -> Result<(), CommitError>;
}

impl Sink for OpenJournal {
    fn reserve(&self, bytes: usize) -> Result<(), WriteError> {
        self.reserve(bytes)
    }
    fn urge(&self) {
        let _ = self.look();
    }
    fn append(&self, effects: &Effects) -> u64 {
        self.append(effects)
    }
    fn append_if_room(&self, effects: &Effects) -> bool {
        self.append_if_room(effects)
    }
    fn count_unencodable(&self) {
        self.count_unencodable();
    }
    fn written_by(&self) -> i64 {
        self.written_by()
    }
    fn wait(&self, seq: u64, until: Option<Instant>) -> Result<(), CommitError> {
        self.wait(seq, until)
    }
}

/// The recorder of a cache whose keys and values a codec knows.
pub(super) struct Log<V, C, J> {
    pub(super) sink: Arc<J>,
    pub(super) encoder: Encoder<C>,
    pub(super) wall: Arc<Wall>,
    /// Whether what cannot be recorded is not done.
    pub(super) is_store: bool,
    /// For how long a write waits until it is durable, where each does.
    pub(super) waits: Option<Duration>,
    pub(super) copy: fn(&V) -> V,
    pub(super) handle: Option<Journal>,
}

thread_local! {
    /// What a change is put together in. Taken out and put back, so that nobody meets it in use.
    /// When the thread ends they may be gone before what else it keeps, which may write as it is
    /// dropped.
    static EFFECTS: Cell<Effects> = const { Cell::new(Effects::EMPTY) };
    static ENTRY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static KEY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Buffers that have become larger than this are not kept.
const KEPT: usize = 64 << 10;

type Buffer<T> = &'static LocalKey<Cell<T>>;

fn take<T: Default>(buffer: Buffer<T>) -> T {
    buffer.try_with(Cell::take).unwrap_or_default()
}

fn put_back<T>(buffer: Buffer<T>, value: T) {
    // Where the buffer is gone, what was used instead goes, too.
    let _ = buffer.try_with(|cell| cell.set(value));
}

fn keep(buffer: Buffer<Vec<u8>>, mut bytes: Vec<u8>) {
    if bytes.capacity() <= KEPT {
        bytes.clear();
        put_back(buffer, bytes);
    }
}

impl<K, V, C, J> Recorder<K, V> for Log<V, C, J>
where
    K: Serialize,
    V: Serialize,
    C: Codec,
    J: Sink,
{
    fn is_strict(&self) -> bool {
        self.is_store
    }

    fn admit(&self, bytes: usize) -> Result<(), Refusal> {
        if insist::is_on(&self.sink) {
            self.sink.urge();
            return Ok(());
        }
        self.sink.reserve(bytes).map_err(refusal)
    }

    fn encode(&self, key: &K, value: &V) -> Result<Encoded, Refusal> {
        let mut bytes = take(&ENTRY);
        let (form, key) = match self.encoder.entry(key, value, &mut bytes) {
            Ok(key) => (Form::Whole, key),
            Err(Unencoded { error, .. }) if self.is_store => return Err(refusal(error)),
            Err(Unencoded { key, .. }) => {
                self.sink.count_unencodable();
                key.map_or((Form::Nothing, 0), |key| (Form::KeyOnly, key))
            }
        };
        Ok(Encoded { bytes, key, form })
    }

    fn check(&self, entries: &[Option<Encoded>]) -> Result<(), Refusal> {
        let bytes = entries
            .iter()
            .flatten()
            .map(|entry| entry.bytes.len())
            .sum();
        self.encoder.check_size(bytes).map_err(refusal)
    }

    fn done_with(&self, encoded: Encoded) {
        keep(&ENTRY, encoded.bytes);
    }

    fn copy(&self, value: &V) -> V {
        (self.copy)(value)
    }

    fn record(&self, changes: &[Recorded<'_, K>]) -> Result<u64, Refusal> {
        self.with_effects(changes, |effects| match effects.is_empty() {
            true => 0,
            false => self.sink.append(effects),
        })
        .map_err(refusal)
    }

    fn record_if_room(&self, change: &Recorded<'_, K>) {
        // A deadline that cannot be recorded is that of before after a restart.
        let _ = self.with_effects(std::slice::from_ref(change), |effects| {
            effects.is_empty() || self.sink.append_if_room(effects)
        });
    }

    fn ahead(&self) -> i64 {
        self.sink.written_by()
    }

    fn settle(&self, result: Result<u64, Refusal>, waits: bool) {
        if self.is_store {
            return outcome::note(&self.sink, result.map_err(write_error));
        }
        let may_wait = waits && !reentrancy::is_inside() && !std::thread::panicking();
        if let (Ok(seq), Some(longest), true) = (result, self.waits, may_wait) {
            // That it took too long, or failed, is in the health of the log: a cache goes on.
            let _ = self.sink.wait(seq, Instant::now().checked_add(longest));
        }
    }

    fn close(&self) -> bool {
        let Some(journal) = self.handle.clone() else {
            return true;
        };
        // Nobody is left to be told how it went, but another call may still be at it.
        let close = move || !matches!(journal.close(), Err(CommitError::Closing));
        if !reentrancy::is_inside() {
            return close();
        }
        // This thread holds the lock of a set, for which a snapshot that is being written may wait.
        let closer = std::thread::Builder::new().name("haybox-closer".into());
        // Without a thread the journal is left open, as by a process that is killed.
        let _ = closer.spawn(close);
        false
    }

    fn handle(&self) -> &(dyn Any + Send + Sync) {
        &self.handle
    }
}

impl<V, C: Codec, J: Sink> Log<V, C, J> {
    /// Puts changes together to one batch; in a store not, if one of them cannot be recorded.
    fn with_effects<K: Serialize, R>(
        &self,
        changes: &[Recorded<'_, K>],
        then: impl FnOnce(&Effects) -> R,
    ) -> Result<R, WriteError> {
        let mut effects = take(&EFFECTS);
        effects.clear();
        let put_together = changes
            .iter()
            .try_for_each(|change| self.push(change, &mut effects));
        let result = put_together.map(|()| then(&effects));
        if effects.bytes().len() <= KEPT {
            put_back(&EFFECTS, effects);
        }
        result
    }

    fn push<K: Serialize>(
        &self,
        change: &Recorded<'_, K>,
        effects: &mut Effects,
    ) -> Result<(), WriteError> {
        match *change {
            Recorded::Put(entry, meta) => {
                let (key, value) = entry.bytes.split_at(entry.key);
                match entry.form {
                    Form::Whole => self.push_put(key, value, meta, effects),
                    // An older value must not come back.
                    Form::KeyOnly => effects.push(Effect::Delete { key }),
                    Form::Nothing => {}
                }
            }
            Recorded::Delete(key) => {
                self.with_key(key, |key| effects.push(Effect::Delete { key }))?;
            }
            Recorded::Deadline(key, life) => {
                let life = self.wall.of_life(life, &mut effects.made_by);
                self.with_key(key, |key| effects.push(Effect::Deadline { key, life }))?;
            }
            Recorded::Label(label, epoch) => effects.push(Effect::Label { label, epoch }),
        }
        Ok(())
    }

    fn push_put(&self, key: &[u8], value: &[u8], meta: engine::Meta<'_>, effects: &mut Effects) {
        let meta = to_wall(&self.wall, meta, &mut effects.made_by);
        effects.push(Effect::Put { key, value, meta });
    }

    /// A key that encoded when its value came may not do so any more. Then what the log holds of it
    /// stays, and would come back: a store does not go on.
    fn with_key<K: Serialize>(&self, key: &K, then: impl FnOnce(&[u8])) -> Result<(), WriteError> {
        let mut bytes = take(&KEY);
        bytes.clear();
        let encoded = self.encoder.key(key, &mut bytes);
        match &encoded {
            Ok(()) => then(&bytes),
            Err(_) if self.is_store => {}
            Err(_) => self.sink.count_unencodable(),
        }
        keep(&KEY, bytes);
        encoded.or_else(|error| if self.is_store { Err(error) } else { Ok(()) })
    }
}

/// What is recorded of an entry, as the files keep it. Adds how its deadlines were made.
pub(super) fn to_wall<'a>(wall: &Wall, meta: engine::Meta<'a>, made_by: &mut MadeBy) -> Meta<'a> {
    let labels = meta.labels.as_slice();
    Meta {
        life: wall.of_life(meta.life, made_by),
        weight: (meta.weight != 1).then_some(meta.weight),
        labels: Labels::Numbers(labels),
        epoch: if labels.is_empty() { 0 } else { meta.epoch },
        heat: meta.heat,
    }
}

fn refusal(error: WriteError) -> Refusal {
    Refusal::Log(Box::new(error))
}

fn write_error(refusal: Refusal) -> WriteError {
    match refusal {
        Refusal::Full => WriteError::NoRoom,
        Refusal::Log(error) => match error.downcast() {
            Ok(error) => *error,
            Err(_) => WriteError::Closed,
        },
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;
