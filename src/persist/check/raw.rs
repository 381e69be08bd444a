//! What a store holds, as bytes.

use crate::engine::Tally;
use crate::persist::contents::{Contents, Spot, Walked};
use crate::persist::effect::{Effect, Effects, Undecodable, Unencodable, WallLife};
use crate::sync::Mutex;
use crate::time::wall_ms;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

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

    fn clear(&self) {
        for set in &self.sets {
            set.lock().clear();
        }
    }

    fn recovered(&self, now_ms: u64) {
        let by_ms = now_ms.saturating_sub(wall_ms(SystemTime::now()));
        if by_ms == 0 {
            return;
        }
        for set in &self.sets {
            for put in set.lock().values_mut() {
                if let Some(Ok(Effect::Put { meta, .. })) = put.iter().next() {
                    *put = with_life(put, meta.life.sooner(by_ms));
                }
            }
        }
    }

    fn len(&self) -> u64 {
        self.entries()
    }

    fn write_set(&self, spot: &Spot, out: &mut Effects) -> Result<Walked, Unencodable> {
        let at = spot.position as usize;
        let Some(set) = self.sets.get(at) else {
            return Ok(Walked::to(None));
        };
        for put in set.lock().values() {
            put.iter().flatten().for_each(|effect| out.push(effect));
        }
        Ok(Walked::to((at + 1 < SETS).then_some(spot.position + 1)))
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

    fn clear(&self) {}

    fn recovered(&self, _: u64) {}

    fn write_set(&self, _: &Spot, _: &mut Effects) -> Result<Walked, Unencodable> {
        Ok(Walked::to(None))
    }

    fn write_labels(&self, _: &mut Effects) {}
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::persist::effect::Meta;

    #[test]
    fn what_was_read_is_written_with_its_last_life_and_the_last_epochs() {
        let put = |key, life| Effect::Put {
            key,
            value: b"value",
            meta: Meta {
                life,
                weight: Some(3),
                ..Meta::default()
            },
        };
        let before = WallLife::default();
        let life = WallLife {
            hard: Some(7),
            idle: Some(5),
        };
        let label = |label, epoch| Effect::Label { label, epoch };
        let effects = [
            put(b"moved", before),
            Effect::Deadline {
                key: b"moved",
                life,
            },
            put(b"gone", before),
            Effect::Delete { key: b"gone" },
            Effect::Deadline { key: b"gone", life },
            label(1, 5),
            label(1, 3),
        ];
        let raw = Raw::default();
        for effect in effects {
            raw.apply(0, effect, &mut Tally::default()).unwrap();
        }
        assert_eq!((raw.len(), raw.entries()), (1, 1));
        let mut out = Effects::new();
        raw.write_labels(&mut out);
        let mut next = Some(Spot::default());
        while let Some(spot) = next {
            next = raw.write_set(&spot, &mut out).unwrap().next;
        }
        let written: Result<Vec<_>, _> = out.iter().collect();
        assert_eq!(written.unwrap(), [label(1, 5), put(b"moved", life)]);
    }
}
