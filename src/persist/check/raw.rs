//! What a store holds, as bytes.

use crate::engine::Tally;
use crate::persist::contents::Contents;
use crate::persist::effect::{Effect, Effects, Undecodable, WallLife};
use crate::sync::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Entries by their keys, each as the effect that puts it.
pub(super) struct Raw {
    hasher: RandomState,
    sets: Vec<Mutex<HashMap<Box<[u8]>, Effects>>>,
    /// The epoch of each label that was invalidated.
    labels: Mutex<HashMap<u64, u64>>,
}

const SETS: usize = 64;

impl Default for Raw {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            sets: (0..SETS).map(|_| Mutex::default()).collect(),
            labels: Mutex::default(),
        }
    }
}

impl Raw {
    pub(super) fn entries(&self) -> u64 {
        self.sets.iter().map(|set| set.lock().len() as u64).sum()
    }

    fn set_of(&self, key: &[u8]) -> &Mutex<HashMap<Box<[u8]>, Effects>> {
        &self.sets[self.hasher.hash_one(key) as usize % SETS]
    }
}

impl Contents for Raw {
    fn apply(&self, _: u64, effect: Effect<'_>, _: &mut Tally) -> Result<(), Undecodable> {
        match effect {
            Effect::Put { key, .. } => {
                let mut put = Effects::new();
                put.push(effect);
                self.set_of(key).lock().insert(key.into(), put);
            }
            Effect::Deadline { key, life } => {
                if let Some(put) = self.set_of(key).lock().get_mut(key) {
                    *put = with_life(put, life);
                }
            }
            Effect::Delete { key } => {
                self.set_of(key).lock().remove(key);
            }
            Effect::Label { label, epoch } => {
                let mut labels = self.labels.lock();
                let known = labels.entry(label).or_default();
                *known = epoch.max(*known);
            }
        }
        Ok(())
    }

    fn recovered(&self, _: u64) {}

    fn len(&self) -> u64 {
        self.entries()
    }

    fn write_set(&self, position: u64, out: &mut Effects) -> Option<u64> {
        let at = position as usize;
        for put in self.sets.get(at)?.lock().values() {
            put.iter().flatten().for_each(|effect| out.push(effect));
        }
        (at + 1 < SETS).then_some(position + 1)
    }

    fn write_labels(&self, out: &mut Effects) {
        for (&label, &epoch) in self.labels.lock().iter() {
            out.push(Effect::Label { label, epoch });
        }
    }
}

fn with_life(put: &Effects, life: WallLife) -> Effects {
    let mut moved = Effects::new();
    for effect in put.iter().flatten() {
        moved.push(match effect {
            Effect::Put {
                key,
                value,
                mut meta,
            } => {
                meta.life = life;
                Effect::Put { key, value, meta }
            }
            other => other,
        });
    }
    moved
}

/// For who only wants to know whether the files can be read.
pub(super) struct Nothing;

impl Contents for Nothing {
    fn apply(&self, _: u64, _: Effect<'_>, _: &mut Tally) -> Result<(), Undecodable> {
        Ok(())
    }

    fn recovered(&self, _: u64) {}

    fn write_set(&self, _: u64, _: &mut Effects) -> Option<u64> {
        None
    }

    fn write_labels(&self, _: &mut Effects) {}
}
