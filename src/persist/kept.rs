//! What the files hold, brought back into a cache, and taken from it for a snapshot.

use super::codec::Codec;
use super::contents::{Contents, Spot, Walked};
use super::effect::{self, Effect, Effects, Undecodable, Unencodable};
use super::encoder::Encoder;
use super::migrate::{Migrate, Old, What};
use super::part::{ENOUGH, Part};
use super::recorder::to_wall;
use super::wall::Wall;
use crate::engine::{Engine, Restored, SetFull, Tally};
use crate::hash::KeyHash;
use crate::labels::Labels;
use crate::sync::{AtomicBool, AtomicU64};
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
    pub(super) encoder: Encoder<C>,
    /// Whether what cannot be encoded must not be left out.
    pub(super) is_store: bool,
    /// The one that changes are recorded by, too.
    pub(super) wall: Arc<Wall>,
    pub(super) migrate: Option<Migrate<C>>,
    /// Whether what was removed may have been evicted.
    pub(super) evicts: bool,
    /// How many entries had died when all was recovered.
    pub(super) dropped: AtomicU64,
    /// Whether the files do not say of each entry which group it is of now.
    pub(super) has_regrouped: AtomicBool,
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
        self.encoder.codec.decode(bytes).map_err(undecodable)
    }

    fn value(&self, bytes: &[u8]) -> Result<V, Undecodable>
    where
        V: DeserializeOwned,
    {
        let undecodable = |error| Undecodable::new(format!("the value does not decode: {error}"));
        self.encoder.codec.decode(bytes).map_err(undecodable)
    }
}

impl<K, V, S, C> Kept<K, V, S, C>
where
    Self: Contents,
    K: Hash + Eq + DeserializeOwned,
    S: BuildHasher,
    C: Codec,
{
    /// Applies an effect that brings no entry. Under a key that is none of today's there is none.
    fn apply_to_todays(
        &self,
        seq: u64,
        effect: Effect<'_>,
        tally: &mut Tally,
    ) -> Result<(), Undecodable> {
        match effect.key() {
            Some(key) if self.key(key).is_err() => Ok(()),
            _ => self.apply(seq, effect, tally),
        }
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

    fn sets(&self) -> usize {
        self.engine.sets()
    }

    fn hash_of(&self, key: &[u8]) -> usize {
        // What does not decode is told of when it is applied.
        self.key(key).map_or(0, |key| self.hash(&key).index())
    }

    fn apply(&self, _seq: u64, effect: Effect<'_>, tally: &mut Tally) -> Result<(), Undecodable> {
        match effect {
            Effect::Put { key, value, meta } => {
                let (key, value) = (self.key(key)?, self.value(value)?);
                let restored = restored(&self.wall, meta);
                self.engine
                    .restore(self.hash(&key), key, value, restored, tally)
                    .map_err(|SetFull| Undecodable::set_full())?;
                self.engine.grow(|key| self.hash(key));
            }
            Effect::Deadline { key, life } => {
                let key = self.key(key)?;
                let (life, ahead) = (self.wall.to_life(life), self.wall.ahead());
                let hash = self.hash(&key);
                self.engine.restore_life(hash, &key, life, ahead);
            }
            Effect::Delete { key } => {
                let key = self.key(key)?;
                self.engine
                    .restore_removal(self.hash(&key), &key, self.evicts, tally);
            }
            Effect::Label { label, epoch } => self.engine.restore_label(label, epoch),
        }
        Ok(())
    }

    fn migrate(
        &self,
        schema: u32,
        seq: u64,
        effect: Effect<'_>,
        tally: &mut Tally,
    ) -> Result<(), Undecodable> {
        let Some(migrate) = &self.migrate else {
            return self.apply(seq, effect, tally);
        };
        let Effect::Put { key, value, meta } = effect else {
            return self.apply_to_todays(seq, effect, tally);
        };
        let codec = &self.encoder.codec;
        let old = Old {
            codec,
            schema,
            key,
            value,
        };
        let failed = |error| Undecodable::new(format!("the migration fails: {error}"));
        match migrate(&old).map_err(failed)?.0 {
            What::Same => self.apply(seq, effect, tally),
            What::Gone => self.apply_to_todays(seq, Effect::Delete { key }, tally),
            What::Value(value) => {
                let value = &value[..];
                self.apply(seq, Effect::Put { key, value, meta }, tally)
            }
        }
    }

    fn clear(&self) {
        self.engine.drop_all();
    }

    fn discard(&self) {
        self.engine.retain(|_, _| false);
    }

    fn settle(&self, tally: Tally) {
        self.engine.settle(tally);
    }

    fn recovered(&self, now_ms: u64) {
        let ahead_ms = now_ms.saturating_sub(self.wall.now_ms());
        let ended = self
            .engine
            .end_restoring(ahead_ms.saturating_mul(1_000_000));
        self.dropped.store(ended.dropped, Release);
        self.has_regrouped.store(ended.has_regrouped, Release);
    }

    fn compare_clocks(&self) {
        self.wall.compare();
    }

    fn len(&self) -> u64 {
        self.engine.len()
    }

    fn write_set(&self, spot: &Spot, out: &mut Effects) -> Result<Walked, Unencodable> {
        let (mut bytes, mut left_out, mut refused) = (Vec::new(), 0, None);
        let enough = out.bytes().len().saturating_add(ENOUGH);
        let mut part = Part::new(spot.rest.as_deref());
        let next = self.engine.visit_set(spot.position, |key, value, meta| {
            if !part.takes(out.bytes().len() >= enough, || self.hash(key).bits()) {
                return;
            }
            bytes.clear();
            match self.encoder.entry(key, value, &mut bytes) {
                Ok(end) => {
                    let (key, value) = bytes.split_at(end);
                    let meta = to_wall(&self.wall, meta, &mut out.made_by);
                    out.push(Effect::Put { key, value, meta });
                }
                Err(unencoded) => {
                    left_out += 1;
                    refused = Some(unencoded.error).filter(|_| self.is_store);
                }
            }
        });
        let next = match part.rest() {
            None => next.map(Spot::at),
            rest => Some(Spot {
                position: spot.position,
                rest,
            }),
        };
        match refused {
            None => Ok(Walked { next, left_out }),
            Some(error) => Err(Unencodable {
                reason: error.to_string(),
            }),
        }
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

    pub(super) fn has_regrouped(&self) -> bool {
        self.has_regrouped.load(Acquire)
    }
}

fn restored(wall: &Wall, meta: effect::Meta<'_>) -> Restored {
    let mut labels = Labels::NONE;
    if !meta.labels.is_empty() {
        labels.extend(meta.labels.iter());
    }
    Restored {
        life: wall.to_life(meta.life),
        ahead: wall.ahead(),
        weight: meta.weight,
        labels,
        epoch: meta.epoch,
        heat: meta.heat,
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use crate::hash::KeyHash;
    use crate::persist::Persistence;
    use crate::{Cache, EvictionPolicy};
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::path::Path;

    /// Sets are the same ones after a restart.
    type Fixed = BuildHasherDefault<DefaultHasher>;

    const KEYS: u64 = 100_000;

    fn open(dir: &Path) -> Cache<u64, u64, Fixed> {
        Cache::builder()
            .hasher(Fixed::default())
            .eviction_policy(EvictionPolicy::Lru)
            .open_with(dir, Persistence::new().threads(4))
            .unwrap()
    }

    /// The values of each set, the oldest first.
    fn sets(cache: &Cache<u64, u64, Fixed>) -> Vec<Vec<u64>> {
        let (mut sets, mut next) = (Vec::new(), Some(0));
        while let Some(position) = next {
            let mut values = Vec::new();
            next = (cache.engine()).visit_set(position, |_, value, _| values.push(*value));
            sets.push(values);
        }
        sets
    }

    #[test]
    fn entries_come_back_in_the_order_of_their_use_to_a_table_that_is_no_larger() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        // Each key several times, so that there are many more effects than entries.
        for number in 0..5 * KEYS {
            cache.insert(number * 7 % KEYS, number);
        }
        let size = cache.engine().sets();
        drop(cache);
        for is_from_snapshot in [false, true] {
            let cache = open(dir.path());
            let report = cache.journal().unwrap().recovery().clone();
            assert_eq!(report.from_snapshot > 0, is_from_snapshot);
            assert_eq!((cache.len() as u64, cache.engine().sets()), (KEYS, size));
            for (set, values) in sets(&cache).iter().enumerate() {
                assert!(values.is_sorted(), "set {set}: {values:?}");
            }
            cache
                .engine()
                .validate(&|key| KeyHash::of(cache.hasher(), key));
            cache.journal().unwrap().compact().unwrap();
        }
    }
}
