//! One load under way, and those who wait for it.

use crate::hash::KeyHash;
use crate::sync::{AtomicBool, Condvar, Mutex, ThreadId, current_thread, wait_until};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// A load that the set of its key knows of. A write or removal of the key takes it out, and what
/// is loaded is then not stored; who waits already gets it all the same.
pub(crate) struct UnderWay<K, V> {
    hash: KeyHash,
    pub(crate) key: K,
    pub(crate) flight: Arc<Flight<V>>,
}

impl<K, V> UnderWay<K, V> {
    pub(crate) fn new(hash: KeyHash, key: K, flight: Arc<Flight<V>>) -> Self {
        Self { hash, key, flight }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }
}

impl<K, V> fmt::Debug for UnderWay<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// How a load ended.
pub(crate) enum Landing<V> {
    Loaded(Arc<V>),
    /// The loader's error, of whatever type.
    Failed(Arc<dyn Any + Send + Sync>),
    /// The loader panicked: somebody else has to load.
    Abandoned,
}

impl<V> Clone for Landing<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(value) => Self::Loaded(Arc::clone(value)),
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

pub(crate) struct Flight<V> {
    leader: ThreadId,
    /// Set before anybody is woken; shared with the register of who waits for whom.
    has_landed: Arc<AtomicBool>,
    landing: Mutex<Option<Landing<V>>>,
    landed: Condvar,
}

impl<V> Flight<V> {
    /// A flight that the calling thread leads.
    pub(crate) fn depart() -> Arc<Self> {
        Arc::new(Self {
            leader: current_thread().id(),
            has_landed: Arc::new(AtomicBool::new(false)),
            landing: Mutex::new(None),
            landed: Condvar::new(),
        })
    }

    pub(crate) fn leader(&self) -> ThreadId {
        self.leader
    }

    pub(crate) fn has_landed(&self) -> bool {
        self.has_landed.load(SeqCst)
    }

    /// Whether the load has ended, for who outlives the flight.
    pub(crate) fn landed_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_landed)
    }

    pub(crate) fn land(&self, landing: Landing<V>) {
        *self.landing.lock() = Some(landing);
        self.has_landed.store(true, SeqCst);
        self.landed.notify_all();
    }

    /// Waits for the end of the load, `None` when it takes longer than `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Landing<V>> {
        let mut landing = self.landing.lock();
        // More than the clock can hold is as good as no end: a day at a time, for ever.
        let end = Instant::now().checked_add(timeout);
        while landing.is_none() {
            let until = end.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
            let timed_out;
            (landing, timed_out) = wait_until(&self.landed, landing, until);
            if timed_out && end.is_some() {
                break;
            }
        }
        landing.clone()
    }
}
