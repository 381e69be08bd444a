//! What a cache tells its log: changes of keys and values in, bytes out.

use super::codec::{Codec, CodecError};
use super::effect::{Effect, Effects, Labels, Meta};
use super::error::{CommitError, WriteError};
use super::frame::LARGEST;
use super::handle::Journal;
use super::insist;
use super::journal;
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
    fn append(&self, effects: &Effects) -> u64;
    fn append_if_room(&self, effects: &Effects) -> bool;
    fn count_unencodable(&self);
    fn wait(&self, seq: u64, until: Option<Instant>) -> Result<(), CommitError>;
    /// How many bytes one batch may have.
    fn largest(&self) -> usize {
        LARGEST
    }
}

impl Sink for journal::Journal {
    fn reserve(&self, bytes: usize) -> Result<(), WriteError> {
        self.reserve(bytes)
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
    fn wait(&self, seq: u64, until: Option<Instant>) -> Result<(), CommitError> {
        self.wait(seq, until)
    }
}

/// Whether a key and a value decode.
pub(super) type Decode<C> = fn(&C, key: &[u8], value: &[u8]) -> Result<(), CodecError>;

/// The recorder of a cache whose keys and values a codec knows.
pub(super) struct Log<V, C, J> {
    pub(super) sink: Arc<J>,
    pub(super) codec: C,
    pub(super) wall: Wall,
    /// Whether what cannot be recorded is not done.
    pub(super) is_store: bool,
    /// For how long a write waits until it is durable, where each does.
    pub(super) waits: Option<Duration>,
    pub(super) copy: fn(&V) -> V,
    pub(super) decode: Decode<C>,
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
        match self.sink.reserve(bytes) {
            Err(_) if insist::is_on(&self.sink) => Ok(()),
            admitted => admitted.map_err(refusal),
        }
    }

    fn encode(&self, key: &K, value: &V) -> Result<Encoded, Refusal> {
        let mut bytes = take(&ENTRY);
        let encoded = self.codec.encode(key, &mut bytes).map(|()| {
            let key = bytes.len();
            (key, self.codec.encode(value, &mut bytes))
        });
        let encode = |error: CodecError| WriteError::Encode(error.to_string());
        let (form, key, error) = match encoded {
            Ok((key, Ok(()))) => match self.check_entry(&bytes, key) {
                Ok(()) => (Form::Whole, key, None),
                Err(error) => (Form::KeyOnly, key, Some(error)),
            },
            Ok((key, Err(error))) => (Form::KeyOnly, key, Some(encode(error))),
            Err(error) => (Form::Nothing, 0, Some(encode(error))),
        };
        if let Some(error) = error {
            if self.is_store {
                return Err(refusal(error));
            }
            self.sink.count_unencodable();
        }
        Ok(Encoded { bytes, key, form })
    }

    fn check(&self, entries: &[Option<Encoded>]) -> Result<(), Refusal> {
        let bytes = entries
            .iter()
            .flatten()
            .map(|entry| entry.bytes.len())
            .sum();
        self.check_size(bytes).map_err(refusal)
    }

    fn done_with(&self, encoded: Encoded) {
        keep(&ENTRY, encoded.bytes);
    }

    fn copy(&self, value: &V) -> V {
        (self.copy)(value)
    }

    fn record(&self, changes: &[Recorded<'_, K>]) -> u64 {
        self.with_effects(changes, |effects| match effects.is_empty() {
            true => 0,
            false => self.sink.append(effects),
        })
    }

    fn record_if_room(&self, change: &Recorded<'_, K>) {
        self.with_effects(std::slice::from_ref(change), |effects| {
            effects.is_empty() || self.sink.append_if_room(effects)
        });
    }

    fn settle(&self, result: Result<u64, Refusal>, waits: bool) {
        if self.is_store {
            return outcome::note(result.map_err(write_error));
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
    /// What does not decode keeps the next opening from succeeding. That is a matter of types and
    /// codecs, so it is looked for where programs are tested, and costs others nothing.
    fn check_entry(&self, bytes: &[u8], key: usize) -> Result<(), WriteError> {
        if cfg!(debug_assertions) {
            let (key, value) = bytes.split_at(key);
            let undecodable = |error| format!("it would not decode at the next start: {error}");
            (self.decode)(&self.codec, key, value)
                .map_err(|error| WriteError::Encode(undecodable(error)))?;
        }
        self.check_size(bytes.len())
    }

    fn check_size(&self, bytes: usize) -> Result<(), WriteError> {
        let limit = self.sink.largest();
        if bytes <= limit {
            return Ok(());
        }
        Err(WriteError::TooLarge { bytes, limit })
    }

    /// Puts changes together to one batch.
    fn with_effects<K: Serialize, R>(
        &self,
        changes: &[Recorded<'_, K>],
        then: impl FnOnce(&Effects) -> R,
    ) -> R {
        let mut effects = take(&EFFECTS);
        effects.clear();
        for change in changes {
            self.push(change, &mut effects);
        }
        let result = then(&effects);
        if effects.bytes().len() <= KEPT {
            put_back(&EFFECTS, effects);
        }
        result
    }

    fn push<K: Serialize>(&self, change: &Recorded<'_, K>, effects: &mut Effects) {
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
                self.with_key(key, |key| effects.push(Effect::Delete { key }));
            }
            Recorded::Deadline(key, life) => {
                let life = self.wall.of_life(life);
                self.with_key(key, |key| effects.push(Effect::Deadline { key, life }));
            }
            Recorded::Label(label, epoch) => effects.push(Effect::Label { label, epoch }),
        }
    }

    fn push_put(&self, key: &[u8], value: &[u8], meta: engine::Meta<'_>, effects: &mut Effects) {
        let meta = to_wall(&self.wall, meta);
        effects.push(Effect::Put { key, value, meta });
    }

    fn with_key<K: Serialize>(&self, key: &K, then: impl FnOnce(&[u8])) {
        let mut bytes = take(&KEY);
        bytes.clear();
        match self.codec.encode(key, &mut bytes) {
            Ok(()) => then(&bytes),
            // Then it was not when its value came, and there is nothing to be deleted.
            Err(_) => self.sink.count_unencodable(),
        }
        keep(&KEY, bytes);
    }
}

/// What is recorded of an entry, as the files keep it.
pub(super) fn to_wall<'a>(wall: &Wall, meta: engine::Meta<'a>) -> Meta<'a> {
    let labels = meta.labels.as_slice();
    Meta {
        life: wall.of_life(meta.life),
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
