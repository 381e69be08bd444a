//! Random crashes: what comes back is the state after some prefix of the writes, and at least what
//! was durable.

use super::cases;
use super::memory::{How, Memory, Operation};
use super::model::{History, Kept, Store, Write, append, by_hand, dir};
use crate::persist::error::CommitError;
use crate::persist::journal::OpenJournal;
use crate::persist::settings::{Settings, SyncPolicy};
use crate::persist::storage::Storage;
use std::sync::{Arc, Mutex, Weak};

struct World {
    memory: Memory,
    storage: Arc<dyn Storage>,
    settings: Settings,
    random: fastrand::Rng,
    history: Arc<Mutex<History>>,
    /// The highest number that was acknowledged as durable.
    durable: u64,
    /// A value that no snapshot takes.
    unencodable: Option<Vec<u8>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let memory = Memory::new(seed);
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let policies = [SyncPolicy::Always, SyncPolicy::default(), SyncPolicy::Os];
        let settings = Settings {
            sync: policies[random.usize(0..3)],
            generations: random.usize(1..3),
            threads: if random.u8(0..20) == 0 { 2 } else { 1 },
            buffer: if random.bool() { 64 } else { 256 << 10 },
            ..by_hand()
        };
        Self {
            storage: memory.storage(),
            memory,
            settings,
            random,
            history: Arc::new(Mutex::new(History::new())),
            durable: 0,
            unencodable: None,
        }
    }

    fn open(&mut self) -> Store {
        let kept = Kept::default();
        *kept.unencodable.lock().unwrap() = self.unencodable.clone();
        let settings = self.settings.clone();
        let store = Store::open_with(&dir(), &self.storage, settings, Arc::new(kept))
            .unwrap_or_else(|error| panic!("after a crash it opens: {error}"));
        let seq = store.report.last_seq;
        assert!(
            seq >= self.durable,
            "{} was durable: {}",
            self.durable,
            store.report
        );
        let mut history = self.history.lock().unwrap();
        assert_eq!(
            history.at(seq),
            Some(&store.map()),
            "at {seq}: {}",
            store.report
        );
        history.go_back_to(seq);
        drop(history);
        store
    }

    fn run(&mut self, store: &Store) {
        for _ in 0..self.random.usize(1..30) {
            self.step(store);
            self.durable = self.durable.max(store.journal.durable_seq());
        }
    }

    fn step(&mut self, store: &Store) {
        match self.random.u8(0..25) {
            0..10 => {
                let writes = writes(&mut self.random);
                let mut history = self.history.lock().unwrap();
                // Whether there is room or not, as a cache does.
                let _ = store.journal.reserve(10);
                let seq = append(&store.journal, &store.kept, &writes);
                history.add(seq, &writes);
            }
            10..15 => {
                let seq = store.journal.last_seq();
                let _ = store.journal.wait(seq, Some(std::time::Instant::now()));
            }
            15..18 => {
                if let Ok(seq) = store.journal.sync() {
                    assert!(seq >= self.durable);
                }
            }
            18 => self.compact(store),
            19 => self
                .memory
                .fail_next(self.random.u64(1..4), None, how(&mut self.random)),
            20 => self.memory.fail_next(1, Some(Operation::Sync), How::Broken),
            21 => self.memory.limit_space(self.random.usize(0..200)),
            22 => self.memory.heal(),
            23 => self.spoil(store),
            _ => self.backup(store),
        }
    }

    /// Has the disk stop at any of the next operations, and the work go on for a while.
    fn stop_somewhere(&mut self, store: &Store) {
        self.memory.fail_from(
            self.memory.operations() + self.random.u64(0..20),
            u64::MAX,
            How::Broken,
        );
        if self.random.bool() {
            self.compact(store);
        }
        self.durable = self.durable.max(store.journal.durable_seq());
        if let Ok(seq) = store.journal.sync() {
            self.durable = self.durable.max(seq);
        }
    }

    /// Compacts while somebody writes.
    fn compact(&mut self, store: &Store) {
        if self.random.bool() {
            let seed = self.random.u64(..);
            let history = Arc::clone(&self.history);
            let (journal, kept) = (Arc::downgrade(&store.journal), Arc::downgrade(&store.kept));
            *store.kept.meanwhile.lock().unwrap() = Some(writer(seed, journal, kept, history));
        }
        let _ = store.journal.compact();
        *store.kept.meanwhile.lock().unwrap() = None;
    }

    /// Has one of the values there, or none, be one that no snapshot takes.
    fn spoil(&mut self, store: &Store) {
        let map = store.map();
        let at = self.random.usize(0..map.len() + 3);
        self.unencodable = map.into_values().nth(at);
        (*store.kept.unencodable.lock().unwrap()).clone_from(&self.unencodable);
    }

    fn backup(&mut self, store: &Store) {
        let dir = std::path::PathBuf::from(format!("/backup-{}", self.random.u64(..)));
        if let Ok(report) = store.journal.backup(&dir) {
            let copy: Arc<dyn Storage> = Arc::new(self.memory.copy());
            let restored = Store::open_at(&dir, &copy, self.settings.clone()).unwrap();
            assert_eq!(restored.report.last_seq, report.last_seq);
            let history = self.history.lock().unwrap();
            assert_eq!(history.at(report.last_seq), Some(&restored.map()));
        }
    }
}

fn writer(
    seed: u64,
    journal: Weak<OpenJournal>,
    kept: Weak<Kept>,
    history: Arc<Mutex<History>>,
) -> super::model::Meanwhile {
    let mut random = fastrand::Rng::with_seed(seed);
    Box::new(move |_| {
        let (Some(journal), Some(kept)) = (journal.upgrade(), kept.upgrade()) else {
            return;
        };
        let writes = writes(&mut random);
        let mut history = history.lock().unwrap();
        let seq = append(&journal, &kept, &writes);
        history.add(seq, &writes);
    })
}

fn how(random: &mut fastrand::Rng) -> How {
    [How::Full, How::Broken, How::Half][random.usize(0..3)]
}

/// A batch of changes to few keys.
fn writes(random: &mut fastrand::Rng) -> Vec<Write> {
    let count = random.usize(1..4);
    let one = |_| {
        let key = vec![b'k', random.u8(0..8)];
        if random.u8(0..4) == 0 {
            return Write::Delete(key);
        }
        let value = (0..random.usize(0..30)).map(|_| random.u8(..)).collect();
        Write::Put(key, value)
    };
    (0..count).map(one).collect()
}

/// The check of the checks: were nothing synced, it would be seen.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found_out = (0..200).filter(|seed| {
        let mut world = World::new(*seed);
        let run = std::panic::AssertUnwindSafe(|| {
            let store = world.open();
            world.memory.lie();
            world.run(&store);
            world.memory.crash();
            std::mem::forget(store);
            world.open();
        });
        std::panic::catch_unwind(run).is_err()
    });
    assert!(found_out.count() > 20);
}

#[test]
fn after_any_crash_a_prefix_of_the_writes_comes_back() {
    let crashes = cases(600, 12_000);
    let rounds = 4;
    for seed in 0..crashes.div_ceil(rounds) {
        let mut world = World::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..rounds {
                let store = world.open();
                world.run(&store);
                match world.random.u8(0..4) {
                    // Killed: what the system has is there.
                    0 => {
                        let killed = world.memory.copy();
                        drop(store);
                        world.memory = killed;
                        world.storage = Arc::new(world.memory.clone());
                    }
                    1 => {
                        world.memory.heal();
                        match store.journal.close() {
                            Ok(report) => {
                                let last = world.history.lock().unwrap().last();
                                assert_eq!(report.durable_seq, last);
                                world.durable = last;
                            }
                            Err(CommitError::Encode(_)) if world.unencodable.is_some() => {}
                            Err(error) => panic!("closed: {error}"),
                        }
                        world.memory.crash_dropping_all();
                    }
                    _ => {
                        world.stop_somewhere(&store);
                        world.memory.crash();
                        // What it does when it is dropped comes too late.
                        let late = world.memory.copy();
                        drop(store);
                        world.memory = late;
                        world.storage = Arc::new(world.memory.clone());
                    }
                }
            }
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
