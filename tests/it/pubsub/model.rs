//! Any calls, against a model of queues.

use crate::common::cases;
use haybox::MockClock;
use haybox::pubsub::{
    Bus, Matched, NoMessage, Pattern, Slow, SubscribeOptions, Subscription, Topic,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

const NAMES: [&str; 3] = ["a.x", "a.y", "b"];
const PATTERNS: [&str; 3] = ["a.*", "*", "?"];

#[derive(Clone, Debug)]
enum Op {
    Subscribe(usize, usize, Slow),
    Match(usize, usize, Slow),
    Publish(usize),
    Receive(usize),
    Drain(usize, usize),
    TakeLost(usize),
    Close(usize),
    Unsubscribe(usize),
    /// Drops the handle that the test keeps, and asks the bus for the topic again.
    LetGo(usize),
    CloseTopic(usize),
    CloseBus,
}

fn slow() -> impl Strategy<Value = Slow> {
    prop_oneof![
        Just(Slow::DropOldest),
        Just(Slow::DropNewest),
        Just(Slow::Block(Duration::ZERO)),
        Just(Slow::Disconnect),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3usize, 1..4usize, slow()).prop_map(|(name, room, slow)| Op::Subscribe(name, room, slow)),
        3 => (0..3usize, 1..4usize, slow()).prop_map(|(name, room, slow)| Op::Match(name, room, slow)),
        16 => (0..3usize).prop_map(Op::Publish),
        10 => any::<usize>().prop_map(Op::Receive),
        2 => (any::<usize>(), 0..4usize).prop_map(|(at, most)| Op::Drain(at, most)),
        2 => any::<usize>().prop_map(Op::TakeLost),
        1 => any::<usize>().prop_map(Op::Close),
        2 => any::<usize>().prop_map(Op::Unsubscribe),
        2 => (0..3usize).prop_map(Op::LetGo),
        1 => (0..3usize).prop_map(Op::CloseTopic),
        1 => Just(Op::CloseBus),
    ]
}

enum Reader {
    Exact(Subscription<u32>),
    Matching(Subscription<Matched<u32>>),
}

/// A message as the model knows it: the number of its topic, and what was published.
type Message = (usize, u32);

impl Reader {
    fn receive(&self, topic: Option<usize>) -> Result<Message, NoMessage> {
        match self {
            Self::Exact(subscription) => {
                let topic = topic.expect("an exact subscription has one topic");
                subscription.try_recv().map(|message| (topic, message))
            }
            Self::Matching(subscription) => subscription.try_recv().map(numbered),
        }
    }

    fn drain(&self, topic: Option<usize>, most: usize) -> Result<Vec<Message>, NoMessage> {
        match self {
            Self::Exact(subscription) => {
                let topic = topic.expect("an exact subscription has one topic");
                let mut into = Vec::new();
                assert_eq!(subscription.drain(&mut into, most)?, into.len());
                Ok(into.into_iter().map(|message| (topic, message)).collect())
            }
            Self::Matching(subscription) => {
                let mut into = Vec::new();
                assert_eq!(subscription.drain(&mut into, most)?, into.len());
                Ok(into.into_iter().map(numbered).collect())
            }
        }
    }

    fn close(&self) {
        match self {
            Self::Exact(subscription) => subscription.close(),
            Self::Matching(subscription) => subscription.close(),
        }
    }

    fn counts(&self) -> (usize, u64) {
        match self {
            Self::Exact(subscription) => (subscription.len(), subscription.lost()),
            Self::Matching(subscription) => (subscription.len(), subscription.lost()),
        }
    }

    fn take_lost(&self) -> u64 {
        match self {
            Self::Exact(subscription) => subscription.take_lost(),
            Self::Matching(subscription) => subscription.take_lost(),
        }
    }
}

fn numbered(matched: Matched<u32>) -> Message {
    let topic = NAMES.iter().position(|name| **name == *matched.topic);
    (topic.expect("a topic of the test"), matched.message)
}

struct Modelled {
    reader: Reader,
    /// Of an exact subscription.
    topic: Option<usize>,
    hears: [bool; 3],
    room: usize,
    slow: Slow,
    waiting: VecDeque<Message>,
    lost: u64,
    told: u64,
    end: Option<NoMessage>,
}

impl Modelled {
    fn offer(&mut self, message: Message) -> bool {
        if self.end.is_some() || !self.hears[message.0] {
            return false;
        }
        if self.waiting.len() < self.room {
            self.waiting.push_back(message);
            return true;
        }
        self.lost += 1;
        match self.slow {
            Slow::DropOldest => {
                self.waiting.pop_front();
                self.waiting.push_back(message);
                return true;
            }
            Slow::Disconnect => self.end = Some(NoMessage::TooSlow),
            _ => {}
        }
        false
    }

    fn receive(&mut self) -> Result<Message, NoMessage> {
        let none = self.end.unwrap_or(NoMessage::Empty);
        self.waiting.pop_front().ok_or(none)
    }
}

struct World {
    bus: Bus,
    topics: Vec<Topic<u32>>,
    closed: [bool; 3],
    bus_closed: bool,
    readers: Vec<Modelled>,
    next: u32,
}

impl World {
    fn new() -> Self {
        let bus = Bus::with_clock(MockClock::new().clock());
        let topic = |name: &&str| bus.topic(name).unwrap();
        Self {
            topics: NAMES.iter().map(topic).collect(),
            bus,
            closed: [false; 3],
            bus_closed: false,
            readers: Vec::new(),
            next: 0,
        }
    }

    fn subscribe(&mut self, topic: usize, room: usize, slow: Slow) {
        let options = SubscribeOptions::new().capacity(room).on_slow(slow);
        let reader = Reader::Exact(self.topics[topic].subscribe_with(options).unwrap());
        let mut hears = [false; 3];
        hears[topic] = true;
        let is_closed = self.bus_closed || self.closed[topic];
        self.add(reader, Some(topic), hears, (room, slow), is_closed);
    }

    fn subscribe_matching(&mut self, pattern: usize, room: usize, slow: Slow) {
        let options = SubscribeOptions::new().capacity(room).on_slow(slow);
        let pattern = Pattern::new(PATTERNS[pattern]).unwrap();
        let subscription = self.bus.subscribe_matching_with(&pattern, options);
        let reader = Reader::Matching(subscription.unwrap());
        let hears = NAMES.map(|name| pattern.matches(name));
        self.add(reader, None, hears, (room, slow), self.bus_closed);
    }

    fn add(
        &mut self,
        reader: Reader,
        topic: Option<usize>,
        hears: [bool; 3],
        (room, slow): (usize, Slow),
        is_closed: bool,
    ) {
        self.readers.push(Modelled {
            reader,
            topic,
            hears,
            room,
            slow,
            waiting: VecDeque::new(),
            lost: 0,
            told: 0,
            end: is_closed.then_some(NoMessage::Closed),
        });
    }

    fn close_topic(&mut self, topic: usize) {
        self.closed[topic] = true;
        for reader in &mut self.readers {
            if reader.topic == Some(topic) {
                reader.end.get_or_insert(NoMessage::Closed);
            }
        }
    }

    fn reader(&mut self, at: usize) -> Option<&mut Modelled> {
        let count = self.readers.len();
        (count > 0).then(|| &mut self.readers[at % count])
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Subscribe(topic, room, slow) => self.subscribe(topic, room, slow),
            Op::Match(pattern, room, slow) => self.subscribe_matching(pattern, room, slow),
            Op::Publish(topic) => {
                self.next += 1;
                let message = self.next;
                let is_closed = self.closed[topic];
                let offer = |reader: &mut Modelled| !is_closed && reader.offer((topic, message));
                let expected = self
                    .readers
                    .iter_mut()
                    .map(offer)
                    .filter(|took| *took)
                    .count();
                assert_eq!(self.topics[topic].publish(message), expected);
            }
            Op::Receive(at) => {
                if let Some(reader) = self.reader(at) {
                    let received = reader.reader.receive(reader.topic);
                    assert_eq!(received, reader.receive());
                }
            }
            Op::Drain(at, most) => {
                if let Some(reader) = self.reader(at) {
                    let drained = reader.reader.drain(reader.topic, most);
                    let most = most.min(reader.waiting.len());
                    let expected: Vec<_> = reader.waiting.drain(..most).collect();
                    let was_empty = expected.is_empty() && reader.waiting.is_empty();
                    match reader.end.filter(|_| was_empty) {
                        Some(end) => assert_eq!(drained, Err(end)),
                        None => assert_eq!(drained, Ok(expected)),
                    }
                }
            }
            Op::TakeLost(at) => {
                if let Some(reader) = self.reader(at) {
                    assert_eq!(reader.reader.take_lost(), reader.lost - reader.told);
                    reader.told = reader.lost;
                }
            }
            Op::Close(at) => {
                if let Some(reader) = self.reader(at) {
                    reader.reader.close();
                    reader.end.get_or_insert(NoMessage::Closed);
                }
            }
            Op::Unsubscribe(at) => {
                if !self.readers.is_empty() {
                    let at = at % self.readers.len();
                    self.readers.swap_remove(at);
                }
            }
            Op::LetGo(topic) => self.let_go(topic),
            Op::CloseTopic(topic) => {
                self.topics[topic].close();
                self.close_topic(topic);
            }
            Op::CloseBus => {
                self.bus.close();
                self.bus_closed = true;
                (0..3).for_each(|topic| self.close_topic(topic));
                for reader in &mut self.readers {
                    reader.end.get_or_insert(NoMessage::Closed);
                }
            }
        }
    }

    fn let_go(&mut self, topic: usize) {
        let elsewhere = self.bus.topic("elsewhere").unwrap();
        self.topics[topic] = elsewhere;
        self.topics[topic] = self.bus.topic(NAMES[topic]).unwrap();
        if self.closed[topic] && !self.bus_closed {
            // A new one, which subscriptions to the old one do not hear.
            self.closed[topic] = false;
            for reader in &mut self.readers {
                match &reader.reader {
                    Reader::Exact(_) => reader.hears[topic] &= reader.topic != Some(topic),
                    Reader::Matching(_) => {}
                }
            }
        }
    }

    fn check(&self) {
        for reader in &self.readers {
            assert_eq!(reader.reader.counts(), (reader.waiting.len(), reader.lost));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300, 20_000)))]

    #[test]
    fn any_calls_do_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
    }
}
