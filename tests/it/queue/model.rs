//! Random calls under a mock clock, against a list of messages.

use super::TICK;
use crate::loading::{Wakes, poll};
use haybox::MockClock;
use haybox::queue::{
    Delivery, Overflow, PopError, PushError, PushOptions, Pushed, Queue, RequeueError,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

const ASKED: u32 = 10_000;
const QUICK: u32 = 500;

/// In nanoseconds: they meet often.
const VISIBILITY: u64 = 20;
const WINDOW: u64 = 15;
const BACKOFF: (u64, u64) = (3, 10);
const CAPACITY: usize = 6;
const ATTEMPTS: u32 = 3;
const DEAD: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Push(u64, i8, Option<u8>),
    TryPop,
    Ack(usize),
    Nack(usize),
    NackAfter(usize, u64),
    Fail(usize),
    Release(usize),
    ReleaseAfter(usize, u64),
    Bury(usize),
    Drop(usize),
    /// Goes on with the receipt: acknowledges it, or lets its time pass.
    ByReceipt(usize, bool),
    Extend(usize, u64),
    /// A task begins to wait.
    Wait,
    /// A task gives up, woken or not.
    GiveUp(usize),
    /// The tasks that were woken run.
    Run,
    Pause(bool),
    Requeue(usize),
    RequeueAll,
    Purge(usize),
    /// Any message, also one that does not wait.
    Cancel(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let which = || 0..8_usize;
    let time = || prop_oneof![Just(0), 0..4_u64, 0..25_u64];
    prop_oneof![
        8 => (time(), -1..2_i8, proptest::option::of(0..2_u8))
            .prop_map(|(delay, priority, key)| Op::Push(delay, priority, key)),
        4 => Just(Op::TryPop),
        3 => which().prop_map(Op::Ack),
        2 => which().prop_map(Op::Nack),
        1 => (which(), time()).prop_map(|(which, delay)| Op::NackAfter(which, delay)),
        2 => which().prop_map(Op::Fail),
        1 => which().prop_map(Op::Release),
        1 => (which(), time()).prop_map(|(which, delay)| Op::ReleaseAfter(which, delay)),
        1 => which().prop_map(Op::Bury),
        1 => which().prop_map(Op::Drop),
        2 => (which(), any::<bool>()).prop_map(|(which, acks)| Op::ByReceipt(which, acks)),
        1 => (which(), time()).prop_map(|(which, time)| Op::Extend(which, time)),
        3 => Just(Op::Wait),
        1 => which().prop_map(Op::GiveUp),
        3 => Just(Op::Run),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => which().prop_map(Op::Requeue),
        1 => Just(Op::RequeueAll),
        1 => which().prop_map(Op::Purge),
        1 => which().prop_map(Op::Cancel),
        5 => prop_oneof![0..4_u64, 0..25_u64, Just(1000)].prop_map(Op::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Ready or delayed.
    Line,
    /// Handed out as the n-th delivery.
    Flight {
        number: u32,
        until: u64,
    },
    Dead,
}

#[derive(Clone, Debug)]
struct Message {
    priority: i8,
    key: Option<u8>,
    due: u64,
    order: u64,
    attempts: u32,
    error: Option<&'static str>,
    place: Place,
}

type Popping = Pin<Box<dyn Future<Output = Result<Delivery<u64>, PopError>>>>;

struct World {
    drops_oldest: bool,
    now: u64,
    messages: BTreeMap<u64, Message>,
    /// What each key was pushed for last, and until when it counts in any case.
    keys: BTreeMap<u8, (u64, u64)>,
    /// Messages that came back while their keys counted for others in the queue.
    waiting_for_keys: BTreeMap<u8, BTreeSet<u64>>,
    next_id: u64,
    next_order: u64,
    deliveries: u32,
    discarded: u64,
    cancelled: u64,
    is_paused: bool,
    time: MockClock,
    queue: Queue<u64>,
    held: Vec<(u64, u32, Delivery<u64>)>,
    waiting: Vec<(Arc<Wakes>, usize, Popping)>,
}

const LATE: &str = "the attempt took longer than it may";

fn nanoseconds(time: u64) -> Duration {
    TICK * u32::try_from(time).unwrap()
}

impl World {
    fn new(drops_oldest: bool) -> Self {
        let time = MockClock::new();
        let builder = Queue::<u64>::builder(CAPACITY)
            .visibility_timeout(nanoseconds(VISIBILITY))
            .dedup_window(nanoseconds(WINDOW))
            .backoff(nanoseconds(BACKOFF.0), nanoseconds(BACKOFF.1))
            .max_attempts(ATTEMPTS)
            .dead_letters(DEAD);
        let builder = match drops_oldest {
            true => builder.overflow(Overflow::DropOldest),
            false => builder,
        };
        Self {
            drops_oldest,
            now: 0,
            messages: BTreeMap::new(),
            keys: BTreeMap::new(),
            waiting_for_keys: BTreeMap::new(),
            next_id: 1,
            next_order: 1,
            deliveries: 0,
            discarded: 0,
            cancelled: 0,
            is_paused: false,
            queue: builder.clock(time.clock()).build().unwrap(),
            time,
            held: Vec::new(),
            waiting: Vec::new(),
        }
    }

    // ---- what should be ----

    fn is_live(&self, id: u64) -> bool {
        let message = self.messages.get(&id);
        message.is_some_and(|message| message.place != Place::Dead)
    }

    fn live(&self) -> usize {
        self.messages.keys().filter(|id| self.is_live(**id)).count()
    }

    fn is_ready(&self, message: &Message) -> bool {
        message.place == Place::Line && message.due <= self.now
    }

    /// The ready messages, those whose turn it is first.
    fn line(&self) -> Vec<u64> {
        let ready = self
            .messages
            .iter()
            .filter(|(_, message)| self.is_ready(message));
        let mut ready: Vec<_> = ready
            .map(|(id, message)| (-message.priority, message.due, message.order, *id))
            .collect();
        ready.sort_unstable();
        ready.into_iter().map(|(.., id)| id).collect()
    }

    fn settle(&mut self) {
        for id in self.messages.keys().copied().collect::<Vec<_>>() {
            let message = self.messages.get_mut(&id).unwrap();
            if matches!(message.place, Place::Flight { until, .. } if until <= self.now) {
                message.error = Some(LATE);
                let due = message.due;
                self.try_again(id, due);
            }
        }
    }

    fn try_again(&mut self, id: u64, due: u64) {
        let message = self.messages.get_mut(&id).unwrap();
        if message.attempts == ATTEMPTS {
            return self.bury(id);
        }
        (message.due, message.place) = (due, Place::Line);
    }

    fn bury(&mut self, id: u64) {
        self.messages.get_mut(&id).unwrap().place = Place::Dead;
        let dead = self.dead();
        if dead.len() > DEAD {
            self.messages.remove(&dead[0]);
            self.discarded += 1;
        }
    }

    fn dead(&self) -> Vec<u64> {
        let dead = self
            .messages
            .iter()
            .filter(|(_, message)| message.place == Place::Dead);
        dead.map(|(id, _)| *id).collect()
    }

    /// Whether a delivery counts; if it does, it is over.
    fn land(&mut self, id: u64, number: u32) -> bool {
        let message = self.messages.get_mut(&id);
        let Some(message) = message.filter(
            |message| matches!(message.place, Place::Flight { number: own, .. } if own == number),
        ) else {
            return false;
        };
        message.place = Place::Line;
        true
    }

    fn fail(
        &mut self,
        id: u64,
        number: u32,
        delay: Option<u64>,
        error: Option<&'static str>,
    ) -> bool {
        let is_held = self.land(id, number);
        if is_held {
            let now = self.now;
            let message = self.messages.get_mut(&id).unwrap();
            message.error = error;
            let doubled = BACKOFF.0 << (message.attempts - 1);
            let delay = delay.unwrap_or(doubled.min(BACKOFF.1));
            let due = if delay == 0 { message.due } else { now + delay };
            self.try_again(id, due);
        }
        is_held
    }

    // ---- what is ----

    fn run(&mut self, op: Op) {
        match op {
            Op::Push(delay, priority, key) => self.push(delay, priority, key),
            Op::TryPop => {
                let popped = self.queue.try_pop();
                self.popped(popped);
            }
            Op::Wait => {
                let wakes = Wakes::new().0;
                let popping: Popping = Box::pin(self.queue.pop_async());
                self.waiting.push((wakes, usize::MAX, popping));
            }
            Op::GiveUp(which) if !self.waiting.is_empty() => {
                drop(self.waiting.remove(which % self.waiting.len()));
            }
            Op::Run => self.run_tasks(),
            Op::Pause(pause) => {
                self.is_paused = pause;
                if pause {
                    self.queue.pause()
                } else {
                    self.queue.resume()
                }
            }
            Op::Requeue(which) => self.requeue(which),
            Op::RequeueAll => {
                let room = CAPACITY.saturating_sub(self.live());
                let dead: Vec<_> = self.dead().into_iter().take(room).collect();
                dead.iter().for_each(|id| self.revive(*id));
                assert_eq!(self.queue.requeue_all(), dead.len());
            }
            Op::Purge(which) => {
                let dead = self.dead();
                let id = if dead.is_empty() {
                    1000
                } else {
                    dead[which % dead.len()]
                };
                assert_eq!(self.queue.purge(id), self.messages.remove(&id).is_some());
            }
            Op::Cancel(which) => {
                let all: Vec<_> = self.messages.keys().copied().collect();
                let id = *all.get(which).unwrap_or(&1000);
                let waits = |message: &Message| message.place == Place::Line;
                let is_there = self.messages.get(&id).is_some_and(waits);
                assert_eq!(self.queue.cancel(id), is_there);
                if is_there {
                    self.messages.remove(&id);
                    self.cancelled += 1;
                }
            }
            Op::Pass(time) => {
                self.now += time;
                self.time.advance(nanoseconds(time));
                self.settle();
            }
            op => self.with_delivery(op),
        }
        self.hand_keys_on();
        self.compare();
    }

    fn push(&mut self, delay: u64, priority: i8, key: Option<u8>) {
        let mut options = PushOptions::new()
            .delay(nanoseconds(delay))
            .priority(priority);
        if let Some(key) = key {
            options = options.dedup_key(key.to_string());
        }
        let pushed = self.queue.push_with(self.next_id, options);
        let owner = key.and_then(|key| self.keys.get(&key)).copied();
        if let Some((id, until)) = owner
            && (self.is_live(id) || until > self.now)
        {
            return assert_eq!(pushed.unwrap(), Pushed::Duplicate(id));
        }
        if self.live() >= CAPACITY && !self.make_room() {
            return assert!(matches!(pushed, Err(PushError::Full(value)) if value == self.next_id));
        }
        assert_eq!(pushed.unwrap(), Pushed::Queued(self.next_id));
        let message = Message {
            priority,
            key,
            due: self.now + delay,
            order: self.next_order(),
            attempts: 0,
            error: None,
            place: Place::Line,
        };
        self.messages.insert(self.next_id, message);
        if let Some(key) = key {
            self.keys.insert(key, (self.next_id, self.now + WINDOW));
        }
        self.next_id += 1;
    }

    fn make_room(&mut self) -> bool {
        let waiting = self.messages.iter();
        let waiting = waiting.filter(|(_, message)| message.place == Place::Line);
        let rank = |(id, message): (&u64, &Message)| {
            let is_ready = message.due <= self.now;
            let priority = if is_ready { message.priority } else { 0 };
            (!is_ready, priority, message.due, message.order, *id)
        };
        let given_up = waiting.map(rank).min().filter(|_| self.drops_oldest);
        if let Some((.., id)) = given_up {
            self.messages.remove(&id);
            self.discarded += 1;
        }
        given_up.is_some()
    }

    fn popped(&mut self, popped: Result<Delivery<u64>, PopError>) {
        let next = self.line().first().copied().filter(|_| !self.is_paused);
        let Some(id) = next else {
            return assert_eq!(popped.unwrap_err(), PopError::Empty);
        };
        let delivery = popped.unwrap();
        self.deliveries += 1;
        let until = self.now + VISIBILITY;
        let message = self.messages.get_mut(&id).unwrap();
        message.attempts += 1;
        message.place = Place::Flight {
            number: self.deliveries,
            until,
        };
        assert_eq!((delivery.id(), *delivery), (id, id));
        assert_eq!(delivery.attempt(), message.attempts);
        assert_eq!(delivery.priority(), message.priority);
        self.held.push((id, self.deliveries, delivery));
    }

    fn with_delivery(&mut self, op: Op) {
        let (Op::Ack(which)
        | Op::Nack(which)
        | Op::NackAfter(which, _)
        | Op::Fail(which)
        | Op::Release(which)
        | Op::ReleaseAfter(which, _)
        | Op::Bury(which)
        | Op::Drop(which)
        | Op::ByReceipt(which, _)
        | Op::Extend(which, _)) = op
        else {
            return;
        };
        if self.held.is_empty() {
            return;
        }
        let (id, number, delivery) = self.held.swap_remove(which % self.held.len());
        match op {
            Op::Ack(_) => {
                assert_eq!(
                    delivery.ack().is_ok(),
                    self.land(id, number) && self.gone(id)
                );
            }
            Op::Nack(_) => {
                assert_eq!(delivery.nack().is_ok(), self.fail(id, number, None, None));
            }
            Op::NackAfter(_, delay) => {
                let failed = delivery.nack_after(nanoseconds(delay));
                assert_eq!(failed.is_ok(), self.fail(id, number, Some(delay), None));
            }
            Op::Fail(_) => {
                let failed = delivery.fail("wrong");
                assert_eq!(failed.is_ok(), self.fail(id, number, None, Some("wrong")));
            }
            Op::Release(_) => {
                let is_held = self.land(id, number);
                assert_eq!(delivery.release().is_ok(), is_held);
                if is_held {
                    self.messages.get_mut(&id).unwrap().attempts -= 1;
                }
            }
            Op::ReleaseAfter(_, delay) => {
                let is_held = self.land(id, number);
                let released = delivery.release_after(nanoseconds(delay));
                assert_eq!(released.is_ok(), is_held);
                if is_held {
                    let message = self.messages.get_mut(&id).unwrap();
                    message.attempts -= 1;
                    message.due = match delay {
                        0 => message.due,
                        delay => self.now + delay,
                    };
                }
            }
            Op::Bury(_) => {
                let is_held = self.land(id, number);
                assert_eq!(delivery.bury("poison").is_ok(), is_held);
                if is_held {
                    self.messages.get_mut(&id).unwrap().error = Some("poison");
                    self.bury(id);
                }
            }
            Op::Drop(_) => {
                drop(delivery);
                self.fail(id, number, None, None);
            }
            Op::ByReceipt(_, acks) => {
                let receipt = delivery.into_receipt();
                if acks {
                    let acked = self.queue.ack(receipt);
                    assert_eq!(acked.is_ok(), self.land(id, number) && self.gone(id));
                    assert!(self.queue.ack(receipt).is_err());
                }
            }
            Op::Extend(_, time) => self.extend(id, number, delivery, time),
            _ => unreachable!(),
        }
    }

    fn gone(&mut self, id: u64) -> bool {
        self.messages.remove(&id).is_some()
    }

    fn extend(&mut self, id: u64, number: u32, delivery: Delivery<u64>, time: u64) {
        let extended = delivery.extend(nanoseconds(time));
        let place = self.messages.get_mut(&id).map(|message| &mut message.place);
        match place {
            Some(Place::Flight { number: own, until }) if *own == number => {
                *until = (*until).max(self.now + time);
                assert!(extended.is_ok());
            }
            _ => assert!(extended.is_err()),
        }
        self.held.push((id, number, delivery));
    }

    fn requeue(&mut self, which: usize) {
        let dead = self.dead();
        if dead.is_empty() {
            return assert_eq!(self.queue.requeue(1000), Err(RequeueError::NotDead));
        }
        let id = dead[which % dead.len()];
        let requeued = self.queue.requeue(id);
        if self.live() >= CAPACITY {
            return assert_eq!(requeued, Err(RequeueError::Full));
        }
        assert_eq!(requeued, Ok(()));
        self.revive(id);
    }

    fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn revive(&mut self, id: u64) {
        let order = self.next_order();
        let message = self.messages.get_mut(&id).unwrap();
        (message.place, message.order) = (Place::Line, order);
        (message.attempts, message.due, message.error) = (0, self.now, None);
        if let Some(key) = message.key {
            let (owner, until) = *self.keys.entry(key).or_insert((id, self.now));
            if owner != id && self.is_live(owner) {
                self.waiting_for_keys.entry(key).or_default().insert(id);
            } else {
                self.keys.insert(key, (id, until));
            }
        }
    }

    /// The key of who has left counts for who has waited for it.
    fn hand_keys_on(&mut self) {
        for key in 0..2 {
            let waiting = self.waiting_for_keys.remove(&key).unwrap_or_default();
            let mut waiting: BTreeSet<u64> =
                waiting.into_iter().filter(|id| self.is_live(*id)).collect();
            if let Some((owner, until)) = self.keys.get(&key).copied()
                && !self.is_live(owner)
                && let Some(next) = waiting.pop_first()
            {
                self.keys.insert(key, (next, until));
            }
            self.waiting_for_keys.insert(key, waiting);
        }
    }

    /// Runs every task that was woken, until none is: then there is nothing left that one of those
    /// that sleep could have.
    fn run_tasks(&mut self) {
        loop {
            let woken = self
                .waiting
                .iter()
                .position(|(wakes, seen, _)| wakes.count() != *seen);
            let Some(which) = woken else { break };
            let (wakes, seen, popping) = &mut self.waiting[which];
            *seen = wakes.count();
            let waker = Waker::from(Arc::clone(wakes));
            match poll(popping.as_mut(), &waker) {
                Poll::Ready(popped) => {
                    drop(self.waiting.remove(which));
                    self.popped(popped);
                }
                Poll::Pending => assert!(self.is_paused || self.line().is_empty()),
            }
        }
        let is_served = self.is_paused || self.line().is_empty() || self.waiting.is_empty();
        assert!(is_served, "a message is ready, and nobody was woken for it");
    }

    fn compare(&self) {
        self.queue.validate();
        let stats = self.queue.stats();
        let line = self.line();
        let of = |is: &dyn Fn(&Message) -> bool| {
            self.messages.values().filter(|message| is(message)).count()
        };
        assert_eq!(stats.ready, line.len());
        let in_line = of(&|message| message.place == Place::Line);
        assert_eq!(stats.delayed, in_line - line.len());
        let in_flight = of(&|message| matches!(message.place, Place::Flight { .. }));
        assert_eq!(stats.in_flight, in_flight);
        assert_eq!(
            (stats.discarded, stats.cancelled),
            (self.discarded, self.cancelled)
        );
        let oldest = line.iter().map(|id| self.now - self.messages[id].due).max();
        assert_eq!(stats.oldest_age, oldest.map(nanoseconds));
        let letters = self.queue.dead_letters();
        let dead: Vec<_> = letters.iter().map(|letter| letter.id()).collect();
        assert_eq!(dead, self.dead());
        for letter in letters {
            let message = &self.messages[&letter.id()];
            assert_eq!(
                (letter.attempts(), letter.error()),
                (message.attempts, message.error)
            );
        }
        for (id, number, delivery) in &self.held {
            let place = self.messages.get(id).map(|message| message.place);
            let left = match place {
                Some(Place::Flight { number: own, until }) if own == *number => until - self.now,
                _ => 0,
            };
            assert_eq!(delivery.remaining(), nanoseconds(left));
        }
    }

    /// Everything comes out in the end, and nothing is left behind.
    fn finish(mut self) {
        self.held.clear();
        self.waiting.clear();
        self.queue.resume();
        self.queue.close();
        self.time.advance(nanoseconds(1_000_000));
        while let Ok(delivery) = self.queue.try_pop() {
            delivery.ack().unwrap();
        }
        let stats = self.queue.stats();
        assert!(self.queue.is_empty());
        self.queue.purge_all();
        assert_eq!((stats.keys, self.time.timers()), (0, 0));
        let ended = stats.acked + stats.failed + stats.released + stats.expired;
        assert_eq!(stats.delivered, ended);
    }
}

#[test]
fn random_calls_agree_with_a_list_of_messages() {
    let cases = crate::common::cases(QUICK, ASKED);
    println!("queues: {cases} random cases (asked for: {ASKED})");
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let calls = (any::<bool>(), vec(op(), 1..60));
    let outcome = TestRunner::new(config).run(&calls, |(drops_oldest, ops)| {
        let mut world = World::new(drops_oldest);
        for op in ops {
            world.run(op);
        }
        world.finish();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
