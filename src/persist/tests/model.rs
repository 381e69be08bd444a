//! A map that is journaled, and what it was at every number.

use crate::engine::Tally;
use crate::persist::contents::{Contents, Spot, Walked};
use crate::persist::effect::{Effect, Effects, Meta, Undecodable, Unencodable};
use crate::persist::error::{OpenError, WriteError};
use crate::persist::header::CodecId;
use crate::persist::journal::OpenJournal;
use crate::persist::report::RecoveryReport;
use crate::persist::settings::{Settings, SyncPolicy};
use crate::persist::storage::Storage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) const CODEC: CodecId = CodecId(*b"test");

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/store")
}

/// Steps are taken by the calls that need them.
pub(super) fn by_hand() -> Settings {
    Settings {
        by_hand: true,
        threads: 1,
        sync: SyncPolicy::Always,
        ..Settings::new(CODEC)
    }
}

/// What is kept.
#[derive(Default)]
pub(super) struct Kept {
    map: Mutex<Map>,
    labels: Mutex<BTreeMap<u64, u64>>,
    pub(super) now_ms: Mutex<Option<u64>>,
    /// Called between two sets of a walk.
    pub(super) meanwhile: Mutex<Option<Meanwhile>>,
    /// Values that count as damaged.
    pub(super) undecodable: Mutex<Option<Vec<u8>>>,
    /// Values that do not become bytes in a walk.
    pub(super) unencodable: Mutex<Option<Vec<u8>>>,
    pub(super) migrated: Mutex<Vec<u32>>,
    /// What it was told to expect.
    pub(super) expected: Mutex<Option<u64>>,
}

pub(super) type Meanwhile = Box<dyn FnMut(u64) + Send>;

const SETS: u64 = 4;

fn set_of(key: &[u8]) -> u64 {
    u64::from(key.last().copied().unwrap_or(0)) % SETS
}

impl Kept {
    pub(super) fn map(&self) -> Map {
        self.map.lock().unwrap().clone()
    }

    pub(super) fn labels(&self) -> BTreeMap<u64, u64> {
        self.labels.lock().unwrap().clone()
    }
}

impl Contents for Kept {
    fn expect(&self, entries: u64) {
        *self.expected.lock().unwrap() = Some(entries);
    }

    fn sets(&self) -> usize {
        SETS as usize
    }

    fn hash_of(&self, key: &[u8]) -> usize {
        set_of(key) as usize
    }

    fn len(&self) -> u64 {
        self.map.lock().unwrap().len() as u64
    }

    fn apply(&self, _: u64, effect: Effect<'_>, _: &mut Tally) -> Result<(), Undecodable> {
        let undecodable = self.undecodable.lock().unwrap().clone();
        let mut map = self.map.lock().unwrap();
        match effect {
            Effect::Put { value, .. } if undecodable.as_deref() == Some(value) => {
                return Err(Undecodable::new("not a value"));
            }
            Effect::Put { key, value, .. } => {
                map.insert(key.to_vec(), value.to_vec());
            }
            Effect::Delete { key } => {
                map.remove(key);
            }
            Effect::Deadline { .. } => {}
            Effect::Label { label, epoch } => {
                self.labels.lock().unwrap().insert(label, epoch);
            }
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
        self.migrated.lock().unwrap().push(schema);
        self.apply(seq, effect, tally)
    }

    fn clear(&self) {
        self.map.lock().unwrap().clear();
    }

    fn recovered(&self, now_ms: u64) {
        *self.now_ms.lock().unwrap() = Some(now_ms);
    }

    fn write_set(&self, spot: &Spot, out: &mut Effects) -> Result<Walked, Unencodable> {
        let position = spot.position;
        let mut meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = &mut meanwhile {
            meanwhile(position);
        }
        *self.meanwhile.lock().unwrap() = meanwhile;
        let unencodable = self.unencodable.lock().unwrap().clone();
        for (key, value) in self.map.lock().unwrap().iter() {
            if set_of(key) == position && unencodable.as_ref() == Some(value) {
                let reason = "a bad value".to_owned();
                return Err(Unencodable { reason });
            }
            if set_of(key) == position {
                let meta = Meta::default();
                out.push(Effect::Put { key, value, meta });
            }
        }
        Ok(Walked::to((position + 1 < SETS).then_some(position + 1)))
    }

    fn write_labels(&self, out: &mut Effects) {
        for (label, epoch) in self.labels.lock().unwrap().iter() {
            out.push(Effect::Label {
                label: *label,
                epoch: *epoch,
            });
        }
    }
}

/// One change of the map.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// A journaled map.
pub(super) struct Store {
    pub(super) journal: Arc<OpenJournal>,
    pub(super) kept: Arc<Kept>,
    pub(super) report: RecoveryReport,
}

impl Store {
    pub(super) fn open(storage: &Arc<dyn Storage>, settings: Settings) -> Result<Self, OpenError> {
        Self::open_at(&dir(), storage, settings)
    }

    pub(super) fn open_at(
        dir: &Path,
        storage: &Arc<dyn Storage>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let kept = Arc::new(Kept::default());
        Self::open_with(dir, storage, settings, kept)
    }

    pub(super) fn open_with(
        dir: &Path,
        storage: &Arc<dyn Storage>,
        settings: Settings,
        kept: Arc<Kept>,
    ) -> Result<Self, OpenError> {
        let contents = Arc::clone(&kept) as Arc<dyn Contents>;
        let storage = Arc::clone(storage);
        let (journal, report) = OpenJournal::open(dir, settings, storage, contents)?;
        Ok(Self {
            journal,
            kept,
            report,
        })
    }

    /// Writes all or nothing, and returns the last number.
    pub(super) fn write(&self, writes: &[Write]) -> Result<u64, WriteError> {
        let effects = effects(writes);
        self.journal.reserve(effects.bytes().len())?;
        Ok(append(&self.journal, &self.kept, writes))
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> u64 {
        let write = Write::Put(key.to_vec(), value.to_vec());
        self.write(&[write]).unwrap()
    }

    pub(super) fn map(&self) -> Map {
        self.kept.map()
    }
}

pub(super) fn effects(writes: &[Write]) -> Effects {
    let mut effects = Effects::new();
    for write in writes {
        effects.push(match write {
            Write::Put(key, value) => Effect::Put {
                key,
                value,
                meta: Meta::default(),
            },
            Write::Delete(key) => Effect::Delete { key },
        });
    }
    effects
}

/// Appends and applies in one step.
pub(super) fn append(journal: &OpenJournal, kept: &Kept, writes: &[Write]) -> u64 {
    let mut map = kept.map.lock().unwrap();
    let seq = journal.append(&effects(writes));
    apply(&mut map, writes);
    seq
}

pub(super) fn apply(map: &mut Map, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put(key, value) => {
                map.insert(key.clone(), value.clone());
            }
            Write::Delete(key) => {
                map.remove(key);
            }
        }
    }
}

/// What the map was after each number that ends a batch.
#[derive(Clone, Default)]
pub(super) struct History(Vec<(u64, Map)>);

impl History {
    pub(super) fn new() -> Self {
        Self(vec![(0, Map::new())])
    }

    pub(super) fn add(&mut self, seq: u64, writes: &[Write]) {
        let mut map = self.0.last().expect("a beginning").1.clone();
        apply(&mut map, writes);
        self.0.push((seq, map));
    }

    pub(super) fn at(&self, seq: u64) -> Option<&Map> {
        let found = self.0.iter().find(|(at, _)| *at == seq);
        found.map(|(_, map)| map)
    }

    /// What comes later has not happened.
    pub(super) fn go_back_to(&mut self, seq: u64) {
        self.0.retain(|(at, _)| *at <= seq);
    }

    pub(super) fn last(&self) -> u64 {
        self.0.last().expect("a beginning").0
    }
}
