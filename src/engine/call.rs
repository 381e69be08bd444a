//! One loading call, from its miss to its end: on what terms, and what it has come to so far.

use crate::load::{Flight, Form, Freshness, Known, Landing, LoadError, Node, Source, give};
use crate::time::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// One loading call, from its miss to its end.
pub(crate) struct Call<'f, V> {
    as_what: AsWhat,
    /// How fresh the value has to be, where that is asked.
    pub(super) terms: Option<&'f Freshness>,
    /// A value that is there is loaded all the same.
    pub(super) insists: bool,
    /// Its load goes on when the caller has gone away.
    is_left_behind: bool,
    /// Somebody else was asked to run its load. That is done once.
    was_offered: bool,
    /// It waits for a load of its own, which somebody else runs.
    pub(super) waits_for_own: bool,
    /// When the caller began to load or to wait, once it has.
    began: Option<Deadline>,
    pub(super) patience: Patience<V>,
    /// What it waited for is not for it, nor would be what others load.
    pub(super) goes_alone: Option<Arc<Node>>,
    /// What is remembered is of no use to this caller.
    pub(super) ignores_known: bool,
    /// The epoch at which the call began: what was invalidated up to it, nothing that it gets may
    /// be older than.
    pub(super) since: Option<u64>,
    pub(super) old: Option<Old<V>>,
}

/// What a caller has of it with loads of others.
pub(super) struct Patience<V> {
    /// Since when, if it waits.
    pub(super) since: Option<Deadline>,
    /// The last flight that took too long.
    pub(super) given_up: Option<Arc<Flight<V>>>,
}

impl<V> Default for Patience<V> {
    fn default() -> Self {
        Self {
            since: None,
            given_up: None,
        }
    }
}

impl<V> Patience<V> {
    /// Waits no longer for a load.
    pub(super) fn give_up(&mut self, flight: Arc<Flight<V>>) {
        flight.node().call_off();
        flight.node().give_up_skipped();
        *self = Self {
            since: None,
            given_up: Some(flight),
        };
    }
}

/// How a call's own load is known to others.
#[derive(Clone)]
enum AsWhat {
    Thread,
    Task,
    /// Together with other loads.
    PartOf(Arc<Node>),
}

impl<'f, V> Call<'f, V> {
    pub(crate) fn new(is_task: bool, terms: Option<&'f Freshness>) -> Self {
        let as_what = if is_task {
            AsWhat::Task
        } else {
            AsWhat::Thread
        };
        Self {
            terms,
            ..Self::of(as_what)
        }
    }

    /// Another call on the same terms.
    pub(super) fn alike(&self) -> Self {
        Self {
            terms: self.terms,
            insists: self.insists,
            is_left_behind: self.is_left_behind,
            ..Self::of(self.as_what.clone())
        }
    }

    fn of(as_what: AsWhat) -> Self {
        Self {
            as_what,
            terms: None,
            insists: false,
            is_left_behind: false,
            was_offered: false,
            waits_for_own: false,
            began: None,
            patience: Patience::default(),
            goes_alone: None,
            ignores_known: false,
            since: None,
            old: None,
        }
    }

    /// The value is to be loaded even if there is one.
    pub(crate) fn insisting(self) -> Self {
        Self {
            insists: true,
            ..self
        }
    }

    /// What the call loads is loaded to its end though nobody waits for it, if somebody else can be
    /// had to run it.
    pub(crate) fn leaving_behind(self, is_left_behind: bool) -> Self {
        Self {
            is_left_behind,
            ..self
        }
    }

    /// A call, or the next round of it, that loads together with others.
    pub(super) fn join(&mut self, node: &Arc<Node>) {
        self.as_what = AsWhat::PartOf(Arc::clone(node));
    }

    /// Notes that it begins to load or to wait, and says when it did so first.
    pub(super) fn begin(&mut self, now: Deadline) -> Deadline {
        self.patience.since.get_or_insert(now);
        *self.began.get_or_insert(now)
    }

    pub(super) fn node(&self) -> Arc<Node> {
        match &self.as_what {
            AsWhat::Thread => Node::new(false),
            AsWhat::Task => Node::new(true),
            AsWhat::PartOf(node) => Arc::clone(node),
        }
    }

    /// A load that the call leads.
    pub(super) fn depart(&self) -> Arc<Flight<V>> {
        Flight::depart(self.node())
    }

    /// A load for this call only, instead of one that it cannot wait for.
    pub(super) fn node_instead_of(&self, other: &Arc<Node>) -> Arc<Node> {
        let node = self.node();
        node.goes_instead_of(other);
        node
    }

    /// Whether a load of its own that somebody else ran has panicked.
    pub(super) fn has_panicked(&self, flight: &Flight<V>, landing: Option<&Landing<V>>) -> bool {
        self.waits_for_own
            && matches!(landing, Some(Landing::Abandoned))
            && flight.node().has_panicked()
    }

    /// Where what a flight brings has come from.
    pub(super) fn source_of_wait(&self) -> Source {
        match self.waits_for_own {
            true => Source::Loaded,
            false => Source::Joined,
        }
    }

    /// The old value, where it is better than nothing.
    pub(super) fn fallback(&self) -> Option<&Old<V>> {
        let old = self.old.as_ref();
        old.filter(|old| old.may_serve && !self.insists)
    }

    /// After what time the old value is better than to wait on.
    pub(super) fn soft_limit(&self) -> Option<Duration> {
        self.fallback()
            .and(self.terms)
            .and_then(Freshness::soft_limit)
    }

    pub(super) fn old_value(&self) -> Option<&V> {
        self.old.as_ref().map(|old| &old.value)
    }

    /// For how long nobody loads after a load of this call that fails.
    pub(super) fn pause(&self) -> Option<Duration> {
        let terms = self.terms.filter(|_| self.old.is_some());
        terms.map(Freshness::pause)
    }

    fn take_old(&mut self) -> Option<V> {
        self.old.take().map(|old| old.value)
    }

    /// Whether it need not wait for its load, since it has a live value to go on with.
    pub(super) fn is_served(&self) -> bool {
        self.fallback().is_some_and(|old| old.is_live)
    }

    /// A load that it cannot wait for, so that it has to load for itself.
    pub(super) fn take_lone_way(&mut self) -> Option<Arc<Node>> {
        self.goes_alone.take()
    }

    /// Whether somebody else is to run its load: it has something to go on with, or might go away.
    /// Who has no patience left to wait for that loads by itself.
    pub(super) fn may_leave(&self) -> bool {
        let has_value = self.is_served() || self.soft_limit().is_some();
        let is_left_behind = self.is_left_behind && self.patience.given_up.is_none();
        !self.was_offered && (has_value || is_left_behind)
    }

    /// Whether it would run its load on its own thread or task, or at once on another, and so need
    /// not wait for one that is still to be begun, behind the loads of whoever else asks the same few
    /// threads.
    pub(super) fn runs_loader(&self) -> bool {
        let is_task = match &self.as_what {
            AsWhat::Thread => false,
            AsWhat::Task => true,
            AsWhat::PartOf(node) => node.is_polled(),
        };
        is_task || !self.may_leave()
    }

    /// Notes that somebody is asked to run its load.
    pub(super) fn note_offer(&mut self) {
        self.was_offered = true;
    }

    /// Leaves its load to somebody else, and says what it goes on with. It waits where that is
    /// nothing.
    pub(super) fn leave(&mut self) -> Option<V> {
        if self.is_served() {
            return self.take_old();
        }
        self.waits_for_own = true;
        None
    }
}

impl<V: Clone> Call<'_, V> {
    /// What it means to a caller that there is no value.
    pub(super) fn told<F, E>(
        &mut self,
        known: Known,
        source: Source,
    ) -> Option<Result<F::Given, LoadError<E>>>
    where
        F: Form<V>,
        E: Send + Sync + 'static,
    {
        let told = match known {
            Known::Absent => F::give(None, source).map(Ok),
            // An error of another type means nothing to this caller, who has to ask for itself;
            // all callers with its type share the one load that comes of it.
            Known::Failed(error) => {
                let own = error.downcast::<E>().ok();
                own.map(|error| Err(LoadError::Failed(error)))
            }
        };
        self.ignores_known = told.is_none();
        told
    }
}

/// What is there of a key that is loaded all the same.
#[derive(Clone)]
pub(super) struct Old<V> {
    pub(super) value: V,
    /// Its TTL is not over.
    pub(super) is_live: bool,
    /// It is better than an error.
    pub(super) may_serve: bool,
}

impl<V> Old<V> {
    /// The value as an answer, where it is better than none.
    pub(super) fn given<F: Form<V>>(self) -> F::Given {
        let source = match self.is_live {
            true => Source::Hit,
            false => Source::Stale,
        };
        give::<F, V>(Some(self.value), source)
    }
}
