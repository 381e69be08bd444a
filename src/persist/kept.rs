//! What the files hold, brought back into a cache, and taken from it for a snapshot.

use super::codec::Codec;
use super::contents::Contents;
use super::effect::{self, Effect, Effects, Undecodable};
use super::migrate::{Migrate, Old, What};
use super::recorder::to_wall;
use super::wall::Wall;
use crate::engine::{Engine, Restored};
use crate::hash::KeyHash;
use crate::labels::Labels;
use crate::sync::AtomicU64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A cache as its files see it. The journal lets go of it when it is closed, which the last handle
/// of the cache does.
pub(super) struct Kept<K, V, S, C> {
    pub(super) engine: Arc<Engine<K, V>>,
    pub(super) hasher: S,
    pub(super) codec: C,
    pub(super) wall: Wall,
    pub(super) migrate: Option<Migrate<C>>,
    /// Whether what was removed may have been evicted.
    pub(super) evicts: bool,
    /// How many entries had died when all was recovered.
    pub(super) dropped: AtomicU64,
}

impl<K, V, S, C> Kept<K, V, S, C>
where
    K: Hash + Eq,
    S: BuildHasher,
    C: Codec,
{
    fn hash(&self, key: &K) -> KeyHash {
        KeyHash::of(&self.hasher, key)
    }

    fn key(&self, bytes: &[u8]) -> Result<K, Undecodable>
    where
        K: DeserializeOwned,
    {
        let undecodable = |error| Undecodable::new(format!("the key does not decode: {error}"));
        self.codec.decode(bytes).map_err(undecodable)
    }

    fn value(&self, bytes: &[u8]) -> Result<V, Undecodable>
    where
        V: DeserializeOwned,
    {
        let undecodable = |error| Undecodable::new(format!("the value does not decode: {error}"));
        self.codec.decode(bytes).map_err(undecodable)
    }

    fn encode(&self, key: &K, value: &V, bytes: &mut Vec<u8>) -> Option<usize>
    where
        K: Serialize,
        V: Serialize,
    {
        bytes.clear();
        let encoded = self.codec.encode(key, bytes).and_then(|()| {
            let key = bytes.len();
            self.codec.encode(value, bytes).map(|()| key)
        });
        // What does not was counted when it was stored.
        encoded.ok()
    }
}

impl<K, V, S, C> Contents for Kept<K, V, S, C>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync,
    V: Serialize + DeserializeOwned + Send + Sync,
    S: BuildHasher + Send + Sync,
    C: Codec,
{
    fn expect(&self, entries: u64) {
        self.engine.expect(entries, |key| self.hash(key));
    }

    fn apply(&self, _seq: u64, effect: Effect<'_>) -> Result<(), Undecodable> {
        match effect {
            Effect::Put { key, value, meta } => {
                let (key, value) = (self.key(key)?, self.value(value)?);
                self.engine
                    .restore(self.hash(&key), key, value, restored(&self.wall, meta));
                self.engine.grow(|key| self.hash(key));
            }
            Effect::Deadline { key, life } => {
                let key = self.key(key)?;
                let life = self.wall.to_life(life);
                self.engine.restore_life(self.hash(&key), &key, life);
            }
            Effect::Delete { key } => {
                let key = self.key(key)?;
                self.engine
                    .restore_removal(self.hash(&key), &key, self.evicts);
            }
            Effect::Label { label, epoch } => self.engine.restore_label(label, epoch),
        }
        Ok(())
    }

    fn migrate(&self, schema: u32, seq: u64, effect: Effect<'_>) -> Result<(), Undecodable> {
        let (Some(migrate), Effect::Put { key, value, meta }) = (&self.migrate, effect) else {
            return self.apply(seq, effect);
        };
        let codec = &self.codec;
        let old = Old {
            codec,
            schema,
            key,
            value,
        };
        let failed = |error| Undecodable::new(format!("the migration fails: {error}"));
        match migrate(&old).map_err(failed)?.0 {
            What::Same => self.apply(seq, effect),
            What::Gone => self.apply(seq, Effect::Delete { key }),
            What::Value(value) => {
                let value = &value[..];
                self.apply(seq, Effect::Put { key, value, meta })
            }
        }
    }

    fn recovered(&self, now_ms: u64) {
        let ahead_ms = now_ms.saturating_sub(self.wall.now_ms());
        let dropped = self
            .engine
            .end_restoring(ahead_ms.saturating_mul(1_000_000));
        self.dropped.store(dropped, Release);
    }

    fn len(&self) -> u64 {
        self.engine.len()
    }

    fn write_set(&self, position: u64, out: &mut Effects) -> Option<u64> {
        let mut bytes = Vec::new();
        self.engine.visit_set(position, |key, value, meta| {
            if let Some(end) = self.encode(key, value, &mut bytes) {
                let (key, value) = bytes.split_at(end);
                let meta = to_wall(&self.wall, meta);
                out.push(Effect::Put { key, value, meta });
            }
        })
    }

    fn write_labels(&self, out: &mut Effects) {
        self.engine
            .visit_labels(|label, epoch| out.push(Effect::Label { label, epoch }));
    }
}

impl<K, V, S, C> Kept<K, V, S, C> {
    /// How many entries had expired or fallen while they were in the files only.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Acquire)
    }
}

fn restored(wall: &Wall, meta: effect::Meta<'_>) -> Restored {
    let mut labels = Labels::NONE;
    if !meta.labels.is_empty() {
        labels.extend(meta.labels.iter());
    }
    Restored {
        life: wall.to_life(meta.life),
        weight: meta.weight,
        labels,
        epoch: meta.epoch,
        heat: meta.heat,
    }
}
